/* When memory runs short the store gives it back by itself: memory tries, and overlays. */
#include "sim/store_world.h"
#include "store/internal.h"
#include "test.h"

enum { KEY_BYTES = 32, BATCH = 1000, MIB = 1 << 20 };

static struct slice key_of(unsigned number, char text[KEY_BYTES])
{
    int size = snprintf(text, KEY_BYTES, "ns%c%07u", 0, number);
    return slice_of(text, (size_t)size);
}

static void write_word(struct store_world *world, enum store_write_kind kind, unsigned number)
{
    char text[KEY_BYTES];
    struct store_outcome outcome;
    struct store_write write = {.kind = kind, .key = key_of(number, text), .score = number};
    store_write(world->store, &write, &outcome);
    EXPECT(outcome.status == STATUS_OK);
}

/* Words [first, first + count) in durable batches. */
static void set_words(struct store_world *world, unsigned first, unsigned count)
{
    uint64_t sequence;
    for (unsigned done = 0; done < count; done += BATCH) {
        store_batch_begin(world->store, world->now_ms);
        for (unsigned i = done; i < done + BATCH && i < count; i++)
            write_word(world, STORE_SET, first + i);
        EXPECT(store_batch_commit(world->store, &sequence) == STATUS_OK);
        EXPECT(store_world_sync(world) == STATUS_OK);
        store_world_reclaim(world);
    }
}

static struct store_options roomy_options(void)
{
    struct store_options options = store_world_options();
    options.memtrie_bytes_max = 256 * MIB;
    options.log_bytes_max = 256 * MIB;
    options.log_segment_bytes = 4 * MIB;
    options.file_bytes = 4 * MIB;
    return options;
}

static uint64_t count_words(const struct store_world *world)
{
    uint64_t count;
    struct query query = store_world_query(world);
    EXPECT(query_count(&query, (struct slice){0}, &count) == STATUS_OK);
    return count;
}

TEST_CASE(a_memory_trie_is_flushed_before_the_memory_is_used_up)
{
    struct store_world world;
    struct store_options options = roomy_options();
    options.memtrie_bytes_max = 12 * MIB;
    EXPECT(store_world_init(&world, test_seed, &options) == STATUS_OK);
    uint64_t empty_bytes = heap_used_bytes(&world.heap);
    set_words(&world, 0, 150000);
    uint64_t full_bytes = heap_used_bytes(&world.heap);
    EXPECT(full_bytes > empty_bytes + 3 * MIB && full_bytes < empty_bytes + 12 * MIB);
    EXPECT(store_world_job_step(&world) == STATUS_END);

    /* Not yet, as long as a quarter is left. */
    world.store->options.memory_bytes_max = full_bytes / 3 * 4 + MIB;
    EXPECT(store_world_job_step(&world) == STATUS_END);
    world.store->options.memory_bytes_max = full_bytes;
    EXPECT(store_world_job_step(&world) == STATUS_PARTIAL);
    EXPECT(store_job_kind(world.job) == STORE_JOB_FLUSH);
    enum status status = STATUS_PARTIAL;
    while (status == STATUS_PARTIAL) status = store_world_job_step(&world);
    EXPECT(status == STATUS_OK);
    store_world_reclaim(&world);
    EXPECT(heap_used_bytes(&world.heap) < empty_bytes + 2 * MIB);

    /* A small one is not: that would free nothing and cost a file. */
    set_words(&world, 150000, 1000);
    world.store->options.memory_bytes_max = MIB;
    EXPECT(store_world_job_step(&world) == STATUS_END);
    EXPECT(count_words(&world) == 151000);
    store_world_deinit(&world);
}

/* Removes each `step`-th word below `count`, each in a batch of its own, so that every leaf of an
 * overlay that one lies in is copied many times. */
static void remove_one_by_one(struct store_world *world, unsigned count, unsigned step)
{
    uint64_t sequence;
    for (unsigned i = 0; i < count; i += step) {
        store_batch_begin(world->store, world->now_ms);
        write_word(world, STORE_REMOVE, i);
        EXPECT(store_batch_commit(world->store, &sequence) == STATUS_OK);
        if (i / step % 10 == 0) EXPECT(store_world_sync(world) == STATUS_OK);
    }
    EXPECT(store_world_sync(world) == STATUS_OK);
}

TEST_CASE(overlays_alone_never_keep_the_memory_used_up)
{
    enum { WORDS = 1500000, REMOVED = WORDS / 300 };
    struct store_world world;
    struct store_options options = roomy_options();
    EXPECT(store_world_init(&world, test_seed, &options) == STATUS_OK);
    set_words(&world, 0, WORDS);
    EXPECT(store_world_settle_down(&world) == STATUS_OK);
    store_world_reclaim(&world);
    uint64_t pristine_bytes = heap_used_bytes(&world.heap);
    remove_one_by_one(&world, WORDS, 300);
    EXPECT(store_world_settle_down(&world) == STATUS_OK);
    store_world_reclaim(&world);
    uint64_t worn_bytes = heap_used_bytes(&world.heap);
    EXPECT(worn_bytes > pristine_bytes + 4 * MIB);
    EXPECT(count_words(&world) == WORDS - REMOVED);
    EXPECT(store_world_job_step(&world) == STATUS_END);

    /* Now this is more than there may be. */
    world.store->options.memory_bytes_max = pristine_bytes + 3 * MIB;
    EXPECT(heap_used_bytes(&world.heap) > world.store->options.memory_bytes_max);
    unsigned jobs = 0;
    enum status status;
    while ((status = store_world_job_step(&world)) != STATUS_END) {
        EXPECT(status == STATUS_OK || status == STATUS_PARTIAL);
        jobs += status == STATUS_OK;
        EXPECT(jobs < 100);
    }
    EXPECT(jobs > 0);
    store_world_reclaim(&world);
    store_tick(world.store, world.now_ms);
    store_world_reclaim(&world);
    EXPECT(!store_is_pressed(world.store));
    EXPECT(count_words(&world) == WORDS - REMOVED);
    EXPECT(store_world_restart(&world, SIM_DISK_POWER_LOSS) == STATUS_OK);
    EXPECT(count_words(&world) == WORDS - REMOVED);
    store_world_deinit(&world);
}

TEST_CASE(overlays_move_under_a_view_that_is_still_read)
{
    enum { WORDS = 20000, REMOVED = 6000 };
    struct store_world world;
    struct store_options options = roomy_options();
    uint64_t count;
    EXPECT(store_world_init(&world, test_seed, &options) == STATUS_OK);
    set_words(&world, 0, WORDS);
    EXPECT(store_world_settle_down(&world) == STATUS_OK);
    remove_one_by_one(&world, REMOVED, 1);
    store_world_reclaim(&world);
    struct query old = store_world_query(&world);
    const struct overlay_space *former = world.store->overlays;
    uint64_t former_bytes = arena_footprint_bytes(&former->arena);

    world.store->options.memory_bytes_max = 1;
    store_tick(world.store, world.now_ms);
    EXPECT(world.store->overlays != former);
    EXPECT(arena_footprint_bytes(&world.store->overlays->arena) + 2 * MIB < former_bytes);
    EXPECT(count_words(&world) == WORDS - REMOVED);
    remove_one_by_one(&world, REMOVED + 10, 1);
    EXPECT(count_words(&world) == WORDS - REMOVED - 10);
    EXPECT(query_count(&old, (struct slice){0}, &count) == STATUS_OK);
    EXPECT(count == WORDS - REMOVED);

    /* It goes with the last view that shows it. */
    uint64_t held_bytes = heap_used_bytes(&world.heap);
    store_world_reclaim(&world);
    EXPECT(heap_used_bytes(&world.heap) + former_bytes <= held_bytes);
    EXPECT(count_words(&world) == WORDS - REMOVED - 10);
    store_world_deinit(&world);
}

TEST_MAIN(TEST(a_memory_trie_is_flushed_before_the_memory_is_used_up),
          TEST(overlays_alone_never_keep_the_memory_used_up),
          TEST(overlays_move_under_a_view_that_is_still_read))
