/* What one thread puts up and others look at: whoever has looked sees nothing older than what that
 * allows. */
#include <pthread.h>

#include "shell/own_board.h"
#include "test.h"

enum { READERS = 3, TURNS = 20000 };

static bool always(const void *context, const struct shard *shard)
{
    (void)context;
    (void)shard;
    return true;
}

static struct rangemap *make_map(struct heap *heap)
{
    struct member member = {.incarnation = 7,
                            .capacity = 1,
                            .zone = SLICE_LITERAL("z"),
                            .address = SLICE_LITERAL("n:1")};
    struct rangemap *map;
    EXPECT(rangemap_create(heap, 1, &rangemap_settings_default, &member, &map) == STATUS_OK);
    return map;
}

static struct own_ranges *make(struct heap *heap, struct rangemap *map)
{
    struct own_ranges *ranges;
    EXPECT(own_ranges_create(heap, map, 1, always, NULL, &ranges) == STATUS_OK);
    return ranges;
}

TEST_CASE(a_copy_stands_until_something_else_is_put_up)
{
    struct heap heap;
    struct own_board board;
    struct own_copy copy = {0};
    heap_init(&heap, 0);
    own_board_init(&board);
    struct rangemap *map = make_map(&heap);
    EXPECT(own_copy_renew(&copy, &board) && copy.ranges == NULL);
    EXPECT(!own_copy_renew(&copy, &board) && own_copy_stands(&copy, &board));
    own_board_put(&board, make(&heap, map));
    EXPECT(!own_copy_stands(&copy, &board));
    EXPECT(own_copy_renew(&copy, &board) && copy.ranges != NULL);
    own_board_put(&board, NULL);
    EXPECT(!own_copy_stands(&copy, &board) && copy.ranges->count == 1); /* Its own reference. */
    EXPECT(own_copy_renew(&copy, &board) && copy.ranges == NULL);
    own_board_set_clock(&board, -250);
    EXPECT(own_board_wall_ms(&board, 1000) == 750);
    own_board_put(&board, make(&heap, map));
    EXPECT(own_copy_renew(&copy, &board));
    own_copy_drop(&copy);
    own_board_deinit(&board);
    rangemap_unref(map);
    EXPECT(heap_used_bytes(&heap) == 0);
}

/* The store's views, as a number: odd ones lack what is not put up while they are the newest. */
struct world {
    struct own_board board;
    _Atomic uint64_t view;
    atomic_bool ended;
    _Atomic uint64_t looks, stood;
};

static void *read_views(void *argument)
{
    struct world *world = argument;
    struct own_copy copy = {0};
    while (!atomic_load(&world->ended)) {
        own_copy_renew(&copy, &world->board);
        atomic_fetch_add(&world->looks, 1);
        if (copy.ranges == NULL) continue;
        uint64_t view = atomic_load_explicit(&world->view, memory_order_acquire);
        if (!own_copy_stands(&copy, &world->board)) continue;
        EXPECT(view % 2 == 0);
        EXPECT(copy.ranges->count == 1);
        atomic_fetch_add(&world->stood, 1);
    }
    own_copy_drop(&copy);
    return NULL;
}

TEST_CASE(no_view_is_read_by_what_stood_before_or_after_it)
{
    struct heap heap;
    static struct world world;
    pthread_t threads[READERS];
    heap_init(&heap, 0);
    own_board_init(&world.board);
    struct rangemap *map = make_map(&heap);
    own_board_put(&world.board, make(&heap, map));
    for (int i = 0; i < READERS; i++)
        EXPECT(pthread_create(&threads[i], NULL, read_views, &world) == 0);
    /* Until some looked in vain, whatever the threads are given of the processors. */
    for (int turn = 0; turn < TURNS || atomic_load(&world.stood) < TURNS ||
                       atomic_load(&world.looks) <= atomic_load(&world.stood) + READERS;
         turn++) {
        own_board_put(&world.board, NULL);
        atomic_fetch_add_explicit(&world.view, 1, memory_order_release);
        atomic_fetch_add_explicit(&world.view, 1, memory_order_release);
        own_board_put(&world.board, make(&heap, map));
    }
    atomic_store(&world.ended, true);
    for (int i = 0; i < READERS; i++) EXPECT(pthread_join(threads[i], NULL) == 0);
    EXPECT(atomic_load(&world.looks) > atomic_load(&world.stood));
    own_board_deinit(&world.board);
    rangemap_unref(map);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_MAIN(TEST(a_copy_stands_until_something_else_is_put_up),
          TEST(no_view_is_read_by_what_stood_before_or_after_it))
