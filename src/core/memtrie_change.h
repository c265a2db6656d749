/* One change of the memory trie in the making. Private to memtrie*.c.
 *
 * A change descends to where its key belongs, builds what shall stand there (always new
 * blocks), allocates the copies of the nodes above, and only then, when nothing can fail
 * any more, writes them from below up. What it replaced is retired, or freed at once when
 * the current batch made it. Leaves and records carry no batch and are always retired.
 *
 * The way down is kept (the finger): the next search begins at its last node that leads to
 * the new key too. A write looks up what it replaces and then puts, so that its second
 * search is free, and lines of an import that lie close together share most of their way. */
#pragma once

#include "core/memtrie_node.h"

struct memtrie_step {
    struct memtrie_inner *inner;  /* A node on the path; in the finger's last step the place. */
    struct memtrie_inner *target; /* Its new state; the node itself when it is changed in place. */
    arena_ref ref, target_ref;
    uint32_t at; /* Bytes of the key above it. */
    int index;   /* The part that the path takes. */
};

struct memtrie_block {
    arena_ref ref;
    size_t size;
};

enum { MEMTRIE_BLOCK_COUNT_MAX = 5, MEMTRIE_GONE_INNER_COUNT_MAX = 2 };

struct memtrie_change {
    struct memtrie *trie;
    memtrie_root *root;
    struct slice key;
    struct memtrie_step *steps;
    size_t depth;    /* Inner nodes above the place. */
    arena_ref place; /* What stands there; 0: nothing, the tree is empty. */
    size_t at;       /* Bytes of the key above the place. */
    size_t shared;   /* Bytes of the place's own that the key shares. */
    int index;       /* Where the part that the place lacks would stand. */

    int current_delta, live_delta, tombstone_delta;
    struct sum sum_delta; /* Zero as long as no node above has a sum. */

    struct memtrie_block made[MEMTRIE_BLOCK_COUNT_MAX]; /* Given back when the change fails. */
    size_t made_count;
    struct memtrie_block gone[MEMTRIE_BLOCK_COUNT_MAX]; /* Retired when it succeeds. */
    size_t gone_count;
    arena_ref gone_inner[MEMTRIE_GONE_INNER_COUNT_MAX]; /* Freed or retired when it succeeds. */
    size_t gone_inner_count;
};

void memtrie_change_init(struct memtrie_change *change, struct memtrie *trie, memtrie_root *root,
                         struct slice key);

static inline void *memtrie_change_node(const struct memtrie_change *change, arena_ref ref)
{
    return arena_at(&change->trie->arena, ref);
}

/* --- Blocks --- */

/* A new block; 0 when there is no memory. */
arena_ref memtrie_change_make(struct memtrie_change *change, size_t size);
void memtrie_change_unmake(struct memtrie_change *change);

/* Notes what goes when the change succeeds. */
void memtrie_change_part_with(struct memtrie_change *change, arena_ref ref, size_t size);
void memtrie_change_part_with_inner(struct memtrie_change *change, arena_ref ref);
void memtrie_change_part_with_node(struct memtrie_change *change, arena_ref ref);
void memtrie_change_discard_gone(struct memtrie_change *change);
void memtrie_discard_inner(struct memtrie *trie, arena_ref ref);

/* --- The way down: memtrie_finger.c --- */

/* Goes down as far as whole nodes match the key. The place is then a leaf, or an inner
 * node that differs from the key, or one that matches and lacks the part to go on with.
 * Errors: STATUS_NOMEM. */
enum status memtrie_change_find(struct memtrie_change *change);

/* True when the place is the leaf of exactly this key. */
bool memtrie_change_is_found(const struct memtrie_change *change);

/* Keeps the way to `place`, for the tree that `root` names from now on. */
void memtrie_finger_keep(struct memtrie_change *change, arena_ref place, memtrie_root root);

/* --- Nodes after the change --- */

/* The head of an inner node above the place, or of the place, after the change. */
static inline unsigned memtrie_change_head(const struct memtrie_change *change,
                                           const struct memtrie_inner *inner)
{
    uint32_t current = inner->current_count + (uint32_t)change->current_delta;
    uint32_t live = current; /* Where both counts change alike, they differ as before or not. */
    if (change->live_delta != change->current_delta || memtrie_has(inner, MEMTRIE_HAS_LIVE))
        live = memtrie_inner_live(inner) + (uint32_t)change->live_delta;
    return memtrie_head_of(current, live, memtrie_has(inner, MEMTRIE_HAS_TERMINAL));
}

/* Counts, best and sum after the change; the node has the layout for them already. */
static inline void memtrie_change_count(struct memtrie_inner *inner,
                                        const struct memtrie_change *change, struct best best)
{
    uint8_t *at = (uint8_t *)(inner + 1);
    inner->batch = change->trie->batch;
    inner->current_count += (uint32_t)change->current_delta;
    inner->best_score_order = best.score_order;
    inner->best_time = best.created_time;
    inner->best_node = best.created_node;
    if (memtrie_has(inner, MEMTRIE_HAS_SUM)) {
        struct sum sum;
        memcpy(&sum, at, sizeof sum);
        sum = sum_add(sum, change->sum_delta);
        at = memtrie_put_bytes(at, &sum, sizeof sum);
    }
    if (memtrie_has(inner, MEMTRIE_HAS_LIVE)) {
        uint32_t live;
        memcpy(&live, at, sizeof live);
        live += (uint32_t)change->live_delta;
        memcpy(at, &live, sizeof live);
    }
}

/* The first `size` bytes of the change's key. */
void memtrie_change_path(struct memtrie_path *path, const struct memtrie_change *change,
                         size_t size);

/* The sum of an inner node after the change, when it has `current_count` entries then. */
struct sum memtrie_change_sum(struct memtrie_change *change, arena_ref ref, size_t at,
                              uint32_t current_count);

/* Whether some node on the path has a sum once the counts have changed. */
bool memtrie_change_needs_sums(const struct memtrie_change *change);

/* --- The place: memtrie_place.c --- */

struct best memtrie_place_best(const struct memtrie_change *change);

/* The hash of the record that the leaf at the place has. */
struct sum memtrie_place_hash(const struct memtrie_change *change);

/* The encoded record of the leaf at the place goes, if it has one. */
void memtrie_place_part_with_record(struct memtrie_change *change);

/* A leaf for `record`; writes the encoded record if it needs one. Errors: STATUS_NOMEM. */
enum status memtrie_place_leaf(struct memtrie_change *change, const struct record *record,
                               struct memtrie_leaf *leaf);

/* The node to stand at the place, or 0 when there is no memory. */
arena_ref memtrie_place_put(struct memtrie_change *change, const struct memtrie_leaf *leaf,
                            bool found);

/* The leaf at the place is replaced by one with the same key; 0 when there is no memory. */
arena_ref memtrie_place_replace(struct memtrie_change *change, const struct memtrie_leaf *leaf);

/* What is left of the parent of the leaf at the place, which becomes the place.
 * Errors: STATUS_NOMEM. */
enum status memtrie_place_shrink(struct memtrie_change *change, arena_ref *node);

/* --- The nodes above: memtrie_above.c --- */

/* Writes the nodes above the place, which `node` (0: nothing) stands at now and whose best was
 * `before`; `*top` is the highest of them, or `node`. Once it succeeds nothing may fail.
 * Errors: STATUS_NOMEM; nothing has happened then. */
enum status memtrie_above_write(struct memtrie_change *change, arena_ref node, struct best before,
                                arena_ref *top);
