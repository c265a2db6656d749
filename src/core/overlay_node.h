/* How the tree of core/overlay.h lies in its arena; for the overlay's own files only.
 *
 * Invariants
 *   1. A node exists only if something under it is dead or hidden.
 *   2. `gone` holds what was present and is dead or hidden; `dead` may hold tombstones
 *      too. So an entry is hidden when it is gone and not dead.
 *   3. Counts, sum and best of the head are those of everything below.
 *   4. Where `known` has the bit of a child, bests[child] is its best; elsewhere the
 *      child is pristine and the packed trie's own best holds. Only decoding leaves
 *      unknown ones; the first change of a node fills them in. */
#pragma once

#include "base/check.h"
#include "base/math.h"
#include "core/overlay.h"

enum { OVERLAY_KNOWN_ALL = 0xffff, OVERLAY_WORDS = OVERLAY_LEAF / 64, OVERLAY_HEIGHT_MAX = 8 };

struct overlay_head {
    uint32_t batch;
    uint16_t known;
    uint32_t dead_count;
    uint32_t gone_count;
    uint32_t hidden_count;
    struct sum dead_sum;
    struct best best;
};

struct overlay_leaf {
    struct overlay_head head;
    uint64_t dead[OVERLAY_WORDS];
    uint64_t gone[OVERLAY_WORDS];
    struct best bests[OVERLAY_FAN_OUT]; /* One a block. */
};

struct overlay_inner {
    struct overlay_head head;
    overlay_node children[OVERLAY_FAN_OUT];
    uint32_t dead[OVERLAY_FAN_OUT];
    uint32_t gone[OVERLAY_FAN_OUT];
    struct best bests[OVERLAY_FAN_OUT];
};

/* Height of the root; leaves have 0. */
static inline unsigned overlay_height(uint64_t ordinal_count)
{
    unsigned height = 0;
    while (ordinal_count > (uint64_t)OVERLAY_LEAF << 4 * height) height++;
    return height;
}

/* log2 of the ordinals under a node of `height`. */
static inline unsigned overlay_width_bits(unsigned height)
{
    return 9 + 4 * height;
}

static inline unsigned overlay_child_of(uint64_t ordinal, unsigned height)
{
    return (unsigned)(ordinal >> (overlay_width_bits(height) - 4)) & (OVERLAY_FAN_OUT - 1);
}

static inline size_t overlay_node_bytes(unsigned height)
{
    return height == 0 ? sizeof(struct overlay_leaf) : sizeof(struct overlay_inner);
}

static inline struct overlay_head *overlay_head_at(const struct overlay_space *space,
                                                   overlay_node node)
{
    return arena_at(&space->arena, node);
}

static inline struct overlay_leaf *overlay_leaf_at(const struct overlay_space *space,
                                                   overlay_node node)
{
    return arena_at(&space->arena, node);
}

static inline struct overlay_inner *overlay_inner_at(const struct overlay_space *space,
                                                     overlay_node node)
{
    return arena_at(&space->arena, node);
}

static inline struct best *overlay_bests_of(struct overlay_head *head, unsigned height)
{
    return height == 0 ? ((struct overlay_leaf *)head)->bests
                       : ((struct overlay_inner *)head)->bests;
}

/* Dead (gone) bits of one block of 32. */
static inline uint32_t overlay_block_bits(const uint64_t words[OVERLAY_WORDS], unsigned block)
{
    return (uint32_t)(words[block / 2] >> (block % 2 * 32));
}

/* The bits of a word of 64 below bit `count`, 0 to 64. */
static inline uint64_t overlay_bits_below(unsigned count)
{
    return count >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << count) - 1;
}

static inline struct best overlay_fold(const struct best bests[], size_t count)
{
    struct best best = bests[0];
    for (size_t i = 1; i < count; i++) best = best_first(best, bests[i]);
    return best;
}
