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
};

/* Opens block `block` of `level` and reads its headers; `shared` is what its first item
 * shares, from which its deltas start. Errors: STATUS_CORRUPT. */
enum status front_block_open(const struct front *front, unsigned level, uint64_t block,
                             int32_t shared, struct front_block *out);

/* Reads the two numbers in front of the codes of item `index`, whose header is 255. */
bool front_block_escape(const struct front_block *block, uint32_t at, int32_t *shared,
                        struct slice *codes);

/* Starts loading the block. */
void front_block_prefetch(const struct front *front, unsigned level, uint64_t block);

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

/* Number of the first of `items`; `none` when there are none. */
static inline unsigned front_items_first(uint32_t items, unsigned none)
{
    return items == 0 ? none : (unsigned)__builtin_ctz(items);
}
