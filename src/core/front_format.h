/* The bytes of FRONT_* sections, and an open set of them. Private to core/front*.
 *
 * FRONT_HEADER
 *   u64 count               keys
 *   u64 size[level_count-1] bytes of the blocks of each inner level, the lowest first
 *
 * Level 0 holds the keys. Level L > 0 holds every 32^L-th key, so that item i of level L is
 * the first key of block i of level L-1. The top level has one block, and is not level 0.
 * A block is 32 neighbouring items of its level; the last may have fewer.
 *
 * Block of level 0 (its first key stands in level 1)
 *   u8 headers[n-1]         one for each item but the first
 *   entries                 n-1 of them
 * Block of an inner level (its first key stands here whole)
 *   u16 size                of the first key in codes
 *   u8 headers[n-1]
 *   u8 codes[size]          the first key
 *   entries                 n-1 of them
 *
 * An item is the `shared` first bytes of the item before and then what its codes stand
 * for. A header below 255 is an index in the dictionary's table: `shared` is that of the
 * item before plus a delta, and the entry is so many bytes of codes. After header 255 the
 * entry starts with `shared` and the size of the codes, a varint each. In level 0 the first
 * delta is added to the `shared` that the block's first key has in level 1, in inner levels
 * to 0; and `shared` of a first item is 0.
 *
 * Offsets of a level's blocks, for each 16 of them
 *   u32 low                 where the first starts: low + (first16[0] >> 4 << 32)
 *   u16 slots[16]           slots[0] & 15 is a shift; block i > 0 starts slots[i] << shift
 *                           bytes behind the first
 * A block ends where the next starts; bytes left over are padding.
 *
 * FRONT_OFFSETS has the offsets of level 0 and FRONT_KEYS its blocks. FRONT_INDEX has, from
 * the top level down to level 1, the offsets and then the blocks of each. */
#pragma once

#include "base/bytes.h"
#include "base/heap.h"
#include "base/slice.h"
#include "core/dictionary.h"
#include "core/front.h"
#include "core/key.h"
#include "core/pages.h"
#include "core/symbols.h"

enum {
    FRONT_LEVEL_MAX = 13, /* 32^13 passes 2^64. */
    FRONT_BLOCK_BITS = 5,
    FRONT_GROUP = 16, /* Blocks under one base offset. */
    FRONT_GROUP_BYTES = 36,
    FRONT_HEADER_ESCAPE = 255,
};

/* What a header byte says. */
struct header {
    int8_t delta;
    uint8_t size;
};

struct dictionary {
    struct heap *heap;
    struct symbols *symbols;
    struct header headers[FRONT_HEADER_ESCAPE];
    unsigned header_count;
};

struct front_level {
    const uint8_t *data;
    uint64_t size;
    const uint8_t *offsets;
    uint64_t item_count;
    uint64_t block_count;
};

struct front_block; /* core/front_block.h */

struct front {
    struct heap *heap;
    struct pages *pages;
    struct dictionary *dictionary;
    const struct symbols *symbols;
    uint64_t count;
    unsigned level_count;
    struct front_level levels[FRONT_LEVEL_MAX];
    struct front_block *tops[FRONT_LEVEL_MAX]; /* Blocks that are kept open, by level; or NULL. */
    int64_t steps[256];                        /* By header byte: (delta << 32) + size. */
};

static inline uint64_t front_blocks_of(uint64_t item_count)
{
    return item_count / FRONT_BLOCK + (item_count % FRONT_BLOCK != 0);
}

static inline uint64_t front_groups_of(uint64_t block_count)
{
    return block_count / FRONT_GROUP + (block_count % FRONT_GROUP != 0);
}

/* Cuts `key` to `shared` bytes and appends what `codes` stand for.
 *
 * Errors: STATUS_CORRUPT when `key` is shorter than `shared` or would pass KEY_BYTES_MAX. */
enum status front_expand(const struct front *front, struct slice codes, int32_t shared,
                         struct buf *key);
