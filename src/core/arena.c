#include "core/arena.h"

#include <stdbool.h>
#include <string.h>

#include "base/check.h"
#include "base/math.h"

static size_t units_of(size_t size)
{
    CHECK(size <= ARENA_BLOCK_BYTES_MAX);
    return size_max(1, (size + ARENA_UNIT_BYTES - 1) / ARENA_UNIT_BYTES);
}

enum status arena_init(struct arena *arena, struct heap *heap)
{
    *arena = (struct arena){
        .heap = heap,
        .top = 1,
        .failure_after = -1,
        .chunks = heap_zalloc(heap, ARENA_CHUNK_COUNT_MAX * sizeof *arena->chunks),
        .free_lists = heap_zalloc(heap, ARENA_CLASS_COUNT * sizeof *arena->free_lists),
    };
    if (arena->chunks == NULL || arena->free_lists == NULL) {
        arena_deinit(arena);
        return STATUS_NOMEM;
    }
    return STATUS_OK;
}

void arena_deinit(struct arena *arena)
{
    for (uint32_t i = 0; i < arena->chunk_count; i++) heap_free(arena->heap, arena->chunks[i]);
    heap_free(arena->heap, arena->chunks);
    heap_free(arena->heap, arena->free_lists);
    heap_free(arena->heap, arena->retired);
    heap_free(arena->heap, arena->seals);
    *arena = (struct arena){.heap = arena->heap};
}

static void push_free(struct arena *arena, arena_ref ref, size_t units)
{
    memcpy(arena_at(arena, ref), &arena->free_lists[units], sizeof ref);
    arena->free_lists[units] = ref;
}

/* Starts a chunk when the current one has no room for `units`; its rest goes to the
 * free lists, so that a large block never wastes it. */
static bool make_room(struct arena *arena, size_t units)
{
    uint64_t end = (uint64_t)arena->chunk_count << ARENA_CHUNK_UNIT_BITS;
    if (arena->top + units <= end) return true;
    /* The last chunk is never taken: `top` must not wrap. */
    if (arena->chunk_count == ARENA_CHUNK_COUNT_MAX - 1) return false;

    uint8_t *chunk = heap_alloc(arena->heap, ARENA_CHUNK_BYTES);
    if (chunk == NULL) return false;
    arena->chunks[arena->chunk_count] = chunk;

    if (arena->chunk_count > 0) {
        while (arena->top < end) {
            size_t rest = size_min(end - arena->top, ARENA_CLASS_COUNT - 1);
            push_free(arena, arena->top, rest);
            arena->top += (uint32_t)rest;
        }
        arena->top = (uint32_t)end;
    }
    arena->chunk_count++;
    return true;
}

/* True when this is the call that a test asked to fail. */
static bool refused(struct arena *arena)
{
    return arena->failure_after >= 0 && arena->failure_after-- == 0;
}

arena_ref arena_alloc(struct arena *arena, size_t size)
{
    size_t units = units_of(size);
    if (refused(arena)) return 0;
    arena_ref ref = arena->free_lists[units];
    if (ref != 0) {
        arena_ref next;
        memcpy(&next, arena_at(arena, ref), sizeof next);
        arena->free_lists[units] = next;
        __builtin_prefetch(arena_at(arena, next), 1); /* The next of its size is read there. */
    } else {
        if (!make_room(arena, units)) return 0;
        ref = arena->top;
        arena->top += (uint32_t)units;
    }
    arena->used_bytes += units * ARENA_UNIT_BYTES;
    return ref;
}

void arena_free(struct arena *arena, arena_ref ref, size_t size)
{
    CHECK(ref != 0);
    size_t units = units_of(size);
    arena->used_bytes -= units * ARENA_UNIT_BYTES;
    push_free(arena, ref, units);
}

/* Makes room for `count` more elements at the end of a queue kept in `*items`. */
static bool queue_room(struct heap *heap, void **items, size_t *first, size_t *end,
                       size_t *capacity, size_t count, size_t item_size)
{
    if (count <= *capacity - *end) return true;
    if (*first > *capacity / 2 && count <= *first) {
        memmove(*items, (uint8_t *)*items + *first * item_size, (*end - *first) * item_size);
        *end -= *first;
        *first = 0;
        return true;
    }
    size_t larger = size_max(size_max(64, *capacity * 2), *end + count);
    void *moved = heap_realloc(heap, *items, larger * item_size);
    if (moved == NULL) return false;
    *items = moved;
    *capacity = larger;
    return true;
}

static enum status retired_room(struct arena *arena, size_t count)
{
    size_t first = arena->retired_first;
    void *items = arena->retired;
    if (!queue_room(arena->heap, &items, &arena->retired_first, &arena->retired_end,
                    &arena->retired_capacity, count, sizeof *arena->retired))
        return STATUS_NOMEM;
    arena->retired = items;

    size_t moved = first - arena->retired_first;
    if (moved == 0) return STATUS_OK;
    for (size_t i = arena->seal_first; i < arena->seal_end; i++) arena->seals[i].end -= moved;
    return STATUS_OK;
}

enum status arena_reserve_retired(struct arena *arena, size_t count)
{
    return refused(arena) ? STATUS_NOMEM : retired_room(arena, count);
}

enum status arena_retire(struct arena *arena, arena_ref ref, size_t size)
{
    CHECK(ref != 0);
    size_t bytes = units_of(size) * ARENA_UNIT_BYTES;
    arena->used_bytes -= bytes;

    enum status status = retired_room(arena, 1);
    if (status != STATUS_OK) return status;
    arena->retired[arena->retired_end++] = (struct arena_retired){ref, (uint32_t)bytes};
    arena->retired_bytes += bytes;
    arena->retired_total++;
    return STATUS_OK;
}

void arena_unretire(struct arena *arena, uint64_t retired_total)
{
    for (; arena->retired_total > retired_total; arena->retired_total--) {
        CHECK(arena->retired_end > arena->retired_first);
        struct arena_retired block = arena->retired[--arena->retired_end];
        arena->retired_bytes -= block.size_bytes;
        arena->used_bytes += block.size_bytes;
    }
    CHECK(arena->seal_first == arena->seal_end ||
          arena->seals[arena->seal_end - 1].end <= arena->retired_end);
}

static bool seal_room(struct arena *arena)
{
    void *items = arena->seals;
    if (!queue_room(arena->heap, &items, &arena->seal_first, &arena->seal_end,
                    &arena->seal_capacity, 1, sizeof *arena->seals))
        return false;
    arena->seals = items;
    return true;
}

enum status arena_reserve_seal(struct arena *arena)
{
    return seal_room(arena) ? STATUS_OK : STATUS_NOMEM;
}

enum status arena_seal(struct arena *arena, uint64_t view)
{
    size_t sealed = arena->seal_first == arena->seal_end ? arena->retired_first
                                                         : arena->seals[arena->seal_end - 1].end;
    if (sealed == arena->retired_end) return STATUS_OK;
    if (!seal_room(arena)) return STATUS_NOMEM;
    arena->seals[arena->seal_end++] = (struct arena_seal){view, arena->retired_end};
    return STATUS_OK;
}

void arena_reclaim(struct arena *arena, uint64_t view)
{
    while (arena->seal_first < arena->seal_end && arena->seals[arena->seal_first].view <= view) {
        size_t end = arena->seals[arena->seal_first++].end;
        while (arena->retired_first < end) {
            struct arena_retired block = arena->retired[arena->retired_first++];
            arena->retired_bytes -= block.size_bytes;
            push_free(arena, block.ref, block.size_bytes / ARENA_UNIT_BYTES);
        }
    }
}

uint64_t arena_footprint_bytes(const struct arena *arena)
{
    return (uint64_t)arena->chunk_count * ARENA_CHUNK_BYTES +
           ARENA_CHUNK_COUNT_MAX * sizeof *arena->chunks +
           ARENA_CLASS_COUNT * sizeof *arena->free_lists +
           arena->retired_capacity * sizeof *arena->retired +
           arena->seal_capacity * sizeof *arena->seals;
}
