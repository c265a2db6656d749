/* Memory for functional trees: 32-bit references, and blocks that come back only when
 * no reader can see them any more.
 *
 * The one writer allocates, and retires what a new version of its tree replaced. A
 * retired block stays readable. arena_seal() says which view is the last that may
 * see all that was retired since the last seal; arena_reclaim() says which views are
 * gone, and their blocks are used again.
 *
 * A reference counts units of 8 bytes from the arena's start; 0 is none. An arena
 * holds up to 32 GiB, taken from its heap in chunks, given back by arena_deinit().
 *
 * Threads: arena_at() by any reader that got its reference through a published view;
 * all else by the writer alone.
 * Cost:    arena_alloc() O(1); a retired block costs 8 bytes until it is reclaimed. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/status.h"

typedef uint32_t arena_ref;

enum {
    ARENA_UNIT_BYTES = 8,
    ARENA_CHUNK_UNIT_BITS = 17, /* A chunk is 1 MiB. */
    ARENA_CHUNK_BYTES = ARENA_UNIT_BYTES << ARENA_CHUNK_UNIT_BITS,
    ARENA_CHUNK_COUNT_MAX = 1 << (32 - ARENA_CHUNK_UNIT_BITS),
    ARENA_BLOCK_BYTES_MAX = 128 << 10, /* An encoded record at its largest fits. */
    ARENA_CLASS_COUNT = ARENA_BLOCK_BYTES_MAX / ARENA_UNIT_BYTES + 1,
};

struct arena_retired {
    arena_ref ref;
    uint32_t size_bytes;
};

struct arena_seal {
    uint64_t view;
    size_t end; /* Index, in the list of retired blocks, after the last one it covers. */
};

struct arena {
    uint8_t **chunks; /* ARENA_CHUNK_COUNT_MAX of them; never moves. */
    struct heap *heap;
    uint32_t chunk_count;
    uint32_t top;          /* First unit never given out. */
    arena_ref *free_lists; /* By size in units; a free block's first bytes name the next. */

    struct arena_retired *retired; /* A queue: [retired_first, retired_end). */
    size_t retired_first, retired_end, retired_capacity;
    struct arena_seal *seals; /* A queue of the same shape. */
    size_t seal_first, seal_end, seal_capacity;

    uint64_t retired_total; /* Blocks ever retired. */
    uint64_t used_bytes;    /* Given out and not retired. */
    uint64_t retired_bytes;

    /* Tests: this many more of arena_alloc() and arena_reserve_retired() succeed, then one
     * fails; <0: never. */
    int64_t failure_after;
};

/* Errors: STATUS_NOMEM. */
enum status arena_init(struct arena *arena, struct heap *heap);

/* Frees every block at once, retired or not. */
void arena_deinit(struct arena *arena);

/* A block of `size` bytes, at most ARENA_BLOCK_BYTES_MAX, aligned to 8, not zeroed.
 * 0 when there is no memory. */
arena_ref arena_alloc(struct arena *arena, size_t size);

/* `size` as at arena_alloc(). The block stays readable until it is reclaimed.
 *
 * Errors: STATUS_NOMEM: the block is then lost until arena_deinit(), nothing worse. */
enum status arena_retire(struct arena *arena, arena_ref ref, size_t size);

/* Makes the next `count` calls of arena_retire() succeed, so that a change can be all or
 * nothing. Errors: STATUS_NOMEM. */
enum status arena_reserve_retired(struct arena *arena, size_t count);

/* Gives a block back that no view ever saw: it may be used again at once. */
void arena_free(struct arena *arena, arena_ref ref, size_t size);

/* All that was retired since the last seal may be seen by views up to `view`, not later. */
enum status arena_seal(struct arena *arena, uint64_t view);

/* Makes the next arena_seal() succeed. Errors: STATUS_NOMEM. */
enum status arena_reserve_seal(struct arena *arena);

/* Takes back every arena_retire() after `retired_total` was as given: what replaced those
 * blocks is dropped. None of them may be sealed. */
void arena_unretire(struct arena *arena, uint64_t retired_total);

/* No reader can see the views up to `view` any more. */
void arena_reclaim(struct arena *arena, uint64_t view);

static inline void *arena_at(const struct arena *arena, arena_ref ref)
{
    uint8_t *chunk = arena->chunks[ref >> ARENA_CHUNK_UNIT_BITS];
    return chunk + (size_t)(ref & ((1u << ARENA_CHUNK_UNIT_BITS) - 1)) * ARENA_UNIT_BYTES;
}

/* Bytes taken from the heap. */
uint64_t arena_footprint_bytes(const struct arena *arena);
