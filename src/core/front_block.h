/* One block of keys with its headers read, so that questions about what its items share are
 * answered for all of them at once. For core/front*.c alone.
 *
 * Walking from header to header and stopping at the right one looks cheaper than reading all
 * 31, and is not: where a walk stops or an item has to be compared is as good as random, and a
 * branch that goes astray costs as much as ten headers. Reading them is one addition each,
 * and "which items share less than n bytes" is then a few instructions on sixteen bytes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/status.h"
#include "core/front_format.h"

struct front_block {
    const uint8_t *headers; /* headers[i - 1] is that of item i. */
    const uint8_t *codes;   /* Where entries start. */
    uint32_t limit;         /* Bytes of all entries. */
    unsigned count;         /* Items. */
    struct slice head;      /* Inner levels: the first item in codes. */

    /* What an item shares with the one before, held within 16 bits. May be wrong in any
     * way: nothing trusts it. */
    _Alignas(16) int16_t shared[FRONT_BLOCK];

    /* By item: what it shares << 32 | where its codes end, from `codes`; may lie past
     * `limit`. Both are running sums, so one addition a header brings both on. */
    int64_t sums[FRONT_BLOCK];

    /* First byte of each item's codes, in blocks that are kept open. */
    bool has_first;
    _Alignas(16) uint8_t first[FRONT_BLOCK];
};

/* Opens block `index` of `level` and reads its headers up to that of item `last` (or all);
 * nothing may be asked about items behind it. `shared` is what the block's first item shares,
 * from which its deltas start. Errors: STATUS_CORRUPT. */
enum status front_block_open(const struct front *front, unsigned level, uint64_t index,
                             int32_t shared, unsigned last, struct front_block *block);

/* The blocks of inner levels are kept open: one key in 32 is theirs, and every search and every
 * key by its ordinal comes through them. One that is damaged is not kept, and found damaged by whom it concerns.
 * Errors: STATUS_NOMEM. */
enum status front_tops_open(struct front *front);
void front_tops_close(struct front *front);

/* As front_block_open(), of an inner level and all of it: the one that is kept open, or `storage`,
 * opened. */
enum status front_block_get(const struct front *front, unsigned level, uint64_t index,
                            struct front_block *storage, const struct front_block **out);

/* Reads the two numbers in front of the codes of item `index`, whose header is 255. */
bool front_block_escape(const struct front_block *block, uint32_t at, int32_t *shared,
                        struct slice *codes);

/* Starts loading the block. */
void front_block_prefetch(const struct front *front, unsigned level, uint64_t index);

/* The codes of item `index` > 0. False when they do not lie inside the block. */
static inline bool front_block_codes(const struct front_block *block, unsigned index,
                                     struct slice *codes)
{
    uint32_t start = (uint32_t)block->sums[index - 1], end = (uint32_t)block->sums[index];
    if (__builtin_expect(block->headers[index - 1] == FRONT_HEADER_ESCAPE, 0)) {
        int32_t shared;
        return front_block_escape(block, start, &shared, codes);
    }
    if (start > end || end > block->limit) return false;
    *codes = (struct slice){block->codes + start, end - start};
    return true;
}

/* --- Items as bits: bit i for item i --- */

/* The items behind `index`. */
static inline uint32_t front_items_after(const struct front_block *block, unsigned index)
{
    uint64_t all = (UINT64_C(1) << block->count) - 1;
    return (uint32_t)(all & ~((UINT64_C(2) << index) - 1));
}

/* The items that share less than `limit` <= KEY_BYTES_MAX + 1 bytes. */
uint32_t front_items_below(const struct front_block *block, size_t limit);

/* The items whose first byte is not less than `byte`, in a block that knows them. */
uint32_t front_items_from(const struct front_block *block, uint8_t byte);

/* The first byte of the codes of item `index` > 0. False when there is none. */
static inline bool front_block_first(const struct front *front, const struct front_block *block,
                                     unsigned index, uint8_t *byte)
{
    struct slice codes;
    if (!front_block_codes(block, index, &codes) || codes.size == 0) return false;
    const uint8_t *at = codes.data;
    *byte = symbols_first(front->symbols, symbols_code(front->symbols, &at, at + codes.size));
    return true;
}

/* Number of the first of `items`; `none` when there are none. */
static inline unsigned front_items_first(uint32_t items, unsigned none)
{
    return items == 0 ? none : (unsigned)__builtin_ctz(items);
}
