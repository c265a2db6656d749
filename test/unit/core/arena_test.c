#include "core/arena.h"

#include <string.h>

#include "base/prng.h"
#include "test.h"

enum { BLOCK_COUNT = 2000 };

struct model_block {
    arena_ref ref;
    uint32_t size_bytes;
    uint8_t fill;
    uint64_t retired_in; /* The view that was current; 0: in use. */
};

static void check_content(struct arena *arena, const struct model_block *block)
{
    const uint8_t *bytes = arena_at(arena, block->ref);
    for (uint32_t i = 0; i < block->size_bytes; i++) EXPECT(bytes[i] == block->fill);
}

/* Model: blocks keep what was written to them until the view in which they were
 * retired is reclaimed, whatever else is allocated, freed and retired meanwhile. */
TEST_CASE(retired_blocks_stay_readable_until_reclaimed)
{
    struct prng prng = {.state = test_seed};
    struct heap heap;
    struct arena arena;
    heap_init(&heap, 0);
    EXPECT(arena_init(&arena, &heap) == STATUS_OK);

    static struct model_block blocks[BLOCK_COUNT];
    memset(blocks, 0, sizeof blocks);
    uint64_t view = 1, reclaimed = 0;
    for (int step = 0; step < 200000; step++) {
        struct model_block *block = &blocks[prng_below(&prng, BLOCK_COUNT)];
        if (block->ref == 0) {
            uint32_t limit = prng_one_in(&prng, 100) ? ARENA_BLOCK_BYTES_MAX : 300;
            block->size_bytes = 1 + prng_below(&prng, limit);
            block->fill = (uint8_t)prng_u32(&prng);
            block->ref = arena_alloc(&arena, block->size_bytes);
            EXPECT(block->ref != 0);
            memset(arena_at(&arena, block->ref), block->fill, block->size_bytes);
        } else if (block->retired_in == 0) {
            check_content(&arena, block);
            if (prng_one_in(&prng, 4)) {
                arena_free(&arena, block->ref, block->size_bytes);
                block->ref = 0;
            } else {
                EXPECT(arena_retire(&arena, block->ref, block->size_bytes) == STATUS_OK);
                block->retired_in = view;
            }
        } else if (block->retired_in <= reclaimed) {
            *block = (struct model_block){0};
        } else {
            check_content(&arena, block);
        }
        if (prng_one_in(&prng, 50)) EXPECT(arena_seal(&arena, view++) == STATUS_OK);
        if (prng_one_in(&prng, 300)) {
            reclaimed = view - 1 - prng_below(&prng, (uint32_t)(view - reclaimed));
            for (int i = 0; i < BLOCK_COUNT; i++)
                if (blocks[i].retired_in != 0) check_content(&arena, &blocks[i]);
            arena_reclaim(&arena, reclaimed);
            for (int i = 0; i < BLOCK_COUNT; i++)
                if (blocks[i].retired_in != 0 && blocks[i].retired_in <= reclaimed)
                    blocks[i] = (struct model_block){0};
        }
    }

    arena_deinit(&arena);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_CASE(reclaimed_blocks_are_used_again)
{
    struct heap heap;
    struct arena arena;
    heap_init(&heap, 0);
    EXPECT(arena_init(&arena, &heap) == STATUS_OK);

    for (uint64_t view = 1; view < 100000; view++) {
        arena_ref ref = arena_alloc(&arena, 1000);
        EXPECT(ref != 0);
        EXPECT(arena_retire(&arena, ref, 1000) == STATUS_OK);
        EXPECT(arena_seal(&arena, view) == STATUS_OK);
        arena_reclaim(&arena, view);
    }
    EXPECT(arena.chunk_count == 1);
    EXPECT(arena.used_bytes == 0 && arena.retired_bytes == 0);
    arena_deinit(&arena);
}

TEST_CASE(no_memory_is_reported_and_leaks_nothing)
{
    for (int64_t failure = 0; failure < 8; failure++) {
        struct heap heap;
        struct arena arena;
        heap_init(&heap, 0);
        heap.failure_after = failure;
        if (arena_init(&arena, &heap) == STATUS_OK) {
            arena_ref ref = arena_alloc(&arena, 10);
            if (ref != 0) {
                (void)arena_retire(&arena, ref, 10);
                (void)arena_seal(&arena, 1);
                arena_reclaim(&arena, 1);
            }
        }
        arena_deinit(&arena);
        EXPECT(heap_used_bytes(&heap) == 0);
    }
}

TEST_MAIN(TEST(retired_blocks_stay_readable_until_reclaimed), TEST(reclaimed_blocks_are_used_again),
          TEST(no_memory_is_reported_and_leaks_nothing))
