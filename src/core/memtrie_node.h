/* Nodes of the memory trie: how they lie in the arena. Private to memtrie*.c.
 *
 *   inner    0 head  1 children - 1  2 prefix size u16  4 best's node u16  8 batch u32
 *            12 current count u32  16 best's score order u64  24 best's time u64
 *            32 [sum 16] [live count u32] [terminal u32]  child references u32 each
 *            child bounds u8 each  child bytes, ascending  prefix
 *   small    0 head  1 suffix size  2 version's node u16  4 score u32  8 version's time u64
 *            16 suffix
 *   wide     0 head  2 created's node u16  4 suffix size u32  8 created's time u64
 *            16 score f64  24 suffix
 *   encoded  as wide, but 24 reference of the encoded record u32  28 its size u32  32 suffix
 *   root     0 top node u32  4 tombstone count u32  8 batch u32
 *
 * The head is the kind in its lower, flags in its upper four bits. An inner node has
 * exactly the room its content needs: each batch copies the nodes that it touches, so
 * spare room would hardly ever be used. The sum is there from MEMTRIE_SUM_COUNT_MIN
 * current entries on, the live count where it differs from the current count, the
 * terminal (the leaf of the key that ends here) where there is one. A child's bound is
 * memtrie_bound_of() its best: a search opens only children whose bound says that they may
 * count.
 *
 * Leaves never change. Small and wide ones are plain records or tombstones, created at
 * their version; a small one's score is an integer below 2^32. */
#pragma once

#include <string.h>

#include "core/memtrie.h"

enum memtrie_kind {
    MEMTRIE_INNER = 1,
    MEMTRIE_SMALL,
    MEMTRIE_WIDE,
    MEMTRIE_ENCODED,
};

enum {
    /* Flags of inner nodes. */
    MEMTRIE_HAS_SUM = 0x10,
    MEMTRIE_HAS_LIVE = 0x20,
    MEMTRIE_HAS_TERMINAL = 0x40,

    /* Flags of leaves. */
    MEMTRIE_TOMBSTONE = 0x10,
    MEMTRIE_ABSENT = 0x20, /* Not record_is_present(). */
    MEMTRIE_HIDDEN = 0x40,

    MEMTRIE_KIND_MASK = 0x0f,
    MEMTRIE_SUM_COUNT_MIN = 256,
    MEMTRIE_CHILD_COUNT_MAX = 256,
    MEMTRIE_SMALL_SUFFIX_MAX = 255,
    MEMTRIE_TERMINAL = -1, /* The terminal's index among the parts of a node. */
};

struct memtrie_inner {
    uint8_t head;
    uint8_t child_count_less_one;
    uint16_t prefix_size;
    uint16_t best_node;
    uint16_t unused;
    uint32_t batch;
    uint32_t current_count;
    uint64_t best_score_order;
    hlc_time best_time;
};

struct memtrie_small {
    uint8_t head;
    uint8_t suffix_size;
    uint16_t node;
    uint32_t score;
    hlc_time time;
};

struct memtrie_wide {
    uint8_t head;
    uint8_t unused;
    uint16_t node;
    uint32_t suffix_size;
    hlc_time time;
    double score;
};

struct memtrie_encoded {
    struct memtrie_wide wide;
    arena_ref record;
    uint32_t record_size;
};

struct memtrie_top {
    arena_ref node;
    uint32_t tombstone_count;
    uint32_t batch;
};

_Static_assert(sizeof(struct memtrie_inner) == 32, "as in the table");
_Static_assert(sizeof(struct memtrie_small) == 16, "as in the table");
_Static_assert(sizeof(struct memtrie_encoded) == 32, "as in the table");

static inline enum memtrie_kind memtrie_kind(const void *node)
{
    return (enum memtrie_kind)(*(const uint8_t *)node & MEMTRIE_KIND_MASK);
}

static inline bool memtrie_has(const void *node, unsigned flag)
{
    return (*(const uint8_t *)node & flag) != 0;
}

/* A node to be read in full. Where its children and prefix lie depends on its first bytes;
 * the next line starts to load before those have arrived. */
static inline const void *memtrie_node_at(const struct memtrie *trie, memtrie_node node)
{
    const uint8_t *at = arena_at(&trie->arena, node);
    __builtin_prefetch(at + 56);
    return at;
}

static inline const struct memtrie_top *memtrie_top(const struct memtrie *trie, memtrie_root root)
{
    return arena_at(&trie->arena, root);
}

/* --- Inner nodes --- */

static inline size_t memtrie_child_count(const struct memtrie_inner *inner)
{
    return (size_t)inner->child_count_less_one + 1;
}

/* Bytes between the fixed part and the child references. */
static inline size_t memtrie_optional_bytes(unsigned head)
{
    return ((head & MEMTRIE_HAS_SUM) != 0 ? sizeof(struct sum) : 0) +
           ((head & MEMTRIE_HAS_LIVE) != 0 ? sizeof(uint32_t) : 0) +
           ((head & MEMTRIE_HAS_TERMINAL) != 0 ? sizeof(arena_ref) : 0);
}

static inline size_t memtrie_inner_bytes(unsigned head, size_t child_count, size_t prefix_size)
{
    return sizeof(struct memtrie_inner) + memtrie_optional_bytes(head) +
           child_count * (sizeof(arena_ref) + 2) + prefix_size;
}

static inline const arena_ref *memtrie_children(const struct memtrie_inner *inner)
{
    return (const void *)((const uint8_t *)(inner + 1) + memtrie_optional_bytes(inner->head));
}

static inline const uint8_t *memtrie_child_bounds(const struct memtrie_inner *inner)
{
    return (const uint8_t *)(memtrie_children(inner) + memtrie_child_count(inner));
}

static inline const uint8_t *memtrie_child_bytes(const struct memtrie_inner *inner)
{
    return memtrie_child_bounds(inner) + memtrie_child_count(inner);
}

static inline struct slice memtrie_prefix(const struct memtrie_inner *inner)
{
    return slice_of(memtrie_child_bytes(inner) + memtrie_child_count(inner), inner->prefix_size);
}

/* The head of an inner node. */
static inline unsigned memtrie_head_of(uint32_t current_count, uint32_t live_count, bool terminal)
{
    return MEMTRIE_INNER | (current_count >= MEMTRIE_SUM_COUNT_MIN ? MEMTRIE_HAS_SUM : 0u) |
           (live_count != current_count ? MEMTRIE_HAS_LIVE : 0u) |
           (terminal ? MEMTRIE_HAS_TERMINAL : 0u);
}

/* 0: no key ends here. */
static inline arena_ref memtrie_terminal(const struct memtrie_inner *inner)
{
    return memtrie_has(inner, MEMTRIE_HAS_TERMINAL) ? memtrie_children(inner)[-1] : 0;
}

/* The part at `index`, which may be MEMTRIE_TERMINAL. */
static inline arena_ref memtrie_part(const struct memtrie_inner *inner, int index)
{
    return index == MEMTRIE_TERMINAL ? memtrie_terminal(inner) : memtrie_children(inner)[index];
}

static inline void memtrie_set_part(struct memtrie_inner *inner, int index, arena_ref part)
{
    uint8_t *children = (uint8_t *)(inner + 1) + memtrie_optional_bytes(inner->head);
    memcpy(children + (ptrdiff_t)index * (ptrdiff_t)sizeof part, &part, sizeof part);
}

enum {
    /* A quarter of an octave a step, from 2^-15 on: scores below share bound 1, and those from
     * 2^48.75 on bound 255. */
    MEMTRIE_BOUND_SHIFT = 50,
    MEMTRIE_BOUND_BASE = 0x2000 + ((1023 - 16) << 2) + 2,
    MEMTRIE_BOUND_MAX = 255,
};

/* What is kept of a child's best beside its reference: a better score never has a lower bound.
 * 0: there is none. */
static inline uint8_t memtrie_bound_of(uint64_t score_order)
{
    int64_t step = (int64_t)(score_order >> MEMTRIE_BOUND_SHIFT) - MEMTRIE_BOUND_BASE;
    if (step < 1) return score_order != 0;
    return (uint8_t)(step < MEMTRIE_BOUND_MAX ? step : MEMTRIE_BOUND_MAX);
}

/* Notes the best of the part at `index`; a terminal has no bound. */
static inline void memtrie_set_bound(struct memtrie_inner *inner, int index, struct best best)
{
    if (index == MEMTRIE_TERMINAL) return;
    uint8_t *bounds = (uint8_t *)(inner + 1) + memtrie_optional_bytes(inner->head) +
                      memtrie_child_count(inner) * sizeof(arena_ref);
    bounds[index] = memtrie_bound_of(best.score_order);
}

/* Index of the first part. */
static inline int memtrie_first_index(const struct memtrie_inner *inner)
{
    return memtrie_has(inner, MEMTRIE_HAS_TERMINAL) ? MEMTRIE_TERMINAL : 0;
}

static inline struct best memtrie_inner_best(const struct memtrie_inner *inner)
{
    return (struct best){inner->best_score_order, inner->best_time, inner->best_node};
}

static inline uint32_t memtrie_inner_live(const struct memtrie_inner *inner)
{
    if (!memtrie_has(inner, MEMTRIE_HAS_LIVE)) return inner->current_count;
    return memtrie_children(inner)[memtrie_has(inner, MEMTRIE_HAS_TERMINAL) ? -2 : -1];
}

/* The children with a bound in [low, high): writes their indices, ascending, and says how many.
 * `high` may be 256. */
size_t memtrie_children_within(const struct memtrie_inner *inner, unsigned low, unsigned high,
                               uint8_t indices[MEMTRIE_CHILD_COUNT_MAX]);

/* Index of the first child whose byte is not less than `byte`; may be the child count. */
size_t memtrie_child_index(const struct memtrie_inner *inner, uint8_t byte);

/* The child for `byte`, its index in `*index`; 0: none, then where it would stand. */
static inline arena_ref memtrie_child(const struct memtrie_inner *inner, uint8_t byte, int *index)
{
    size_t at = memtrie_child_index(inner, byte);
    *index = (int)at;
    if (at == memtrie_child_count(inner) || memtrie_child_bytes(inner)[at] != byte) return 0;
    return memtrie_children(inner)[at];
}

/* --- Leaves --- */

/* What a leaf says, in a form to change and write again. */
struct memtrie_leaf {
    enum memtrie_kind kind;
    unsigned flags;
    struct version created; /* The version, where the record is plain. */
    double score;
    arena_ref record; /* Encoded ones only. */
    uint32_t record_size;
    struct slice suffix;
};

struct memtrie_leaf memtrie_leaf_read(const void *leaf);

/* What the leaf is with a suffix of that size: small and wide ones change places. */
enum memtrie_kind memtrie_leaf_kind(const struct memtrie_leaf *leaf, size_t suffix_size);

static inline size_t memtrie_leaf_bytes(enum memtrie_kind kind, size_t suffix_size)
{
    if (kind == MEMTRIE_SMALL) return sizeof(struct memtrie_small) + suffix_size;
    return (kind == MEMTRIE_WIDE ? sizeof(struct memtrie_wide) : sizeof(struct memtrie_encoded)) +
           suffix_size;
}

/* Writes a leaf whose suffix is the three pieces one after the other; `kind` is the one
 * that memtrie_leaf_kind() gives. */
void memtrie_leaf_write(const struct memtrie_leaf *leaf, enum memtrie_kind kind,
                        const struct slice suffix[3], void *out);

static inline struct slice memtrie_suffix(const void *leaf)
{
    enum memtrie_kind kind = memtrie_kind(leaf);
    if (kind == MEMTRIE_SMALL) {
        const struct memtrie_small *small = leaf;
        return slice_of(small + 1, small->suffix_size);
    }
    const struct memtrie_wide *wide = leaf;
    return slice_of((const uint8_t *)leaf + memtrie_leaf_bytes(kind, 0), wide->suffix_size);
}

static inline bool memtrie_leaf_is_live(const void *leaf)
{
    return !memtrie_has(leaf, MEMTRIE_ABSENT | MEMTRIE_HIDDEN);
}

/* The record; borrows from the arena. */
void memtrie_leaf_record(const struct memtrie *trie, const void *leaf, struct record *record);

/* --- Either --- */

static inline struct best memtrie_best(const void *node)
{
    if (memtrie_kind(node) == MEMTRIE_INNER) return memtrie_inner_best(node);
    if (!memtrie_leaf_is_live(node)) return (struct best){0};
    if (memtrie_kind(node) == MEMTRIE_SMALL) {
        const struct memtrie_small *small = node;
        return (struct best){score_order_of(small->score), small->time, small->node};
    }
    const struct memtrie_wide *wide = node;
    return (struct best){score_order_of(wide->score), wide->time, wide->node};
}

/* The first of the bests of all parts of an inner node. Reads only children of the greatest
 * bound: all others come after them. */
struct best memtrie_parts_best(const struct memtrie *trie, arena_ref terminal,
                               const arena_ref *children, const uint8_t *bounds,
                               size_t child_count);

static inline uint32_t memtrie_live(const void *node)
{
    if (memtrie_kind(node) == MEMTRIE_INNER) return memtrie_inner_live(node);
    return memtrie_leaf_is_live(node);
}

static inline uint32_t memtrie_current(const void *node)
{
    if (memtrie_kind(node) != MEMTRIE_INNER) return 1;
    return ((const struct memtrie_inner *)node)->current_count;
}

/* Appends to what is being written of a node. */
static inline uint8_t *memtrie_put_bytes(uint8_t *at, const void *bytes, size_t size)
{
    if (size != 0) memcpy(at, bytes, size);
    return at + size;
}

/* Bytes that the node's block holds. */
static inline size_t memtrie_bytes(const void *node)
{
    if (memtrie_kind(node) != MEMTRIE_INNER)
        return memtrie_leaf_bytes(memtrie_kind(node), memtrie_suffix(node).size);
    const struct memtrie_inner *inner = node;
    return memtrie_inner_bytes(inner->head, memtrie_child_count(inner), inner->prefix_size);
}

/* The node's own bytes: prefix or suffix. */
static inline struct slice memtrie_own(const void *node)
{
    return memtrie_kind(node) == MEMTRIE_INNER ? memtrie_prefix(node) : memtrie_suffix(node);
}

/* Where the keys of a subtree lie against one key. */
enum memtrie_side {
    MEMTRIE_BELOW,  /* All are less. */
    MEMTRIE_ACROSS, /* An inner node: its path is a proper prefix of the key. */
    MEMTRIE_ABOVE,  /* None is less. */
};

/* `rest` is what the key holds after the path above the node, which is a prefix of it. */
enum memtrie_side memtrie_side(const void *node, struct slice rest);

/* A path of bytes that needs no allocation. */
struct memtrie_path {
    size_t size;
    uint8_t bytes[MEMTRIE_KEY_BYTES_MAX];
};

/* The sum of a subtree. `path` is the path above it; its bytes after `size` are scratch. */
struct sum memtrie_node_sum(const struct memtrie *trie, memtrie_node node,
                            struct memtrie_path *path);

/* The same by a walk, even if the node has it; for up to MEMTRIE_SUM_COUNT_MIN entries. */
struct sum memtrie_walk_sum(const struct memtrie *trie, memtrie_node node,
                            struct memtrie_path *path);

/* Starts loading the part of a node that holds its best. */
static inline void memtrie_prefetch(const struct memtrie *trie, memtrie_node node)
{
    const uint8_t *at = arena_at(&trie->arena, node);
    __builtin_prefetch(at);
    __builtin_prefetch(at + sizeof(struct memtrie_inner) - 1);
}
