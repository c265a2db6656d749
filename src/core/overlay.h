/* Overlay: which entries of one packed trie are no longer current, or no longer live.
 *
 * A packed trie never changes; its overlay does. An entry is *dead* once another layer
 * holds the current record of its key, and *hidden* once its expiry was settled: current
 * still, live no longer. With its overlay a packed trie answers for what is current and
 * live alone: counts, sums, bests, the k-th live word, the next entry that matters.
 *
 * The overlay is a functional tree over ordinals: a leaf for 512, sixteen children a
 * node. It has the geometry of the packed trie's bests: a leaf stands for one best of
 * level 1 (16 blocks of 32), a node of height h for one of level h + 1. A child that is
 * missing is pristine: there the packed trie's own columns hold. Each node knows, for
 * every child, the best and the number of entries that died or hid; a change copies the
 * nodes on its path, each at most once a batch, as core/memtrie.h does.
 *
 * Every function with a `packed` argument may return STATUS_CORRUPT from reading it;
 * outputs and roots are then unchanged. Ordinals must lie below packed_info()->count
 * (CHECK). Bytes: docs/format/overlay.md. Reasons: docs/design/overlay.md.
 *
 * Threads: roots that were published may be read by any thread; changes, encoding of an
 *          unpublished root and reclaiming are the writer's alone.
 * Cost:    d stands for the depth, the least with 512 x 16^(d-1) >= ordinals: 4 for two
 *          million. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/heap.h"
#include "base/slice.h"
#include "base/status.h"
#include "core/arena.h"
#include "core/best.h"
#include "core/packed.h"
#include "core/record.h"

enum {
    OVERLAY_LEAF = PACKED_BLOCK * PACKED_FAN_OUT, /* Ordinals under a leaf. */
    OVERLAY_FAN_OUT = PACKED_FAN_OUT,
};

typedef arena_ref overlay_root; /* 0: pristine, nothing is dead or hidden. */
typedef arena_ref overlay_node; /* A subtree of some root; 0: pristine. */

/* The memory of all overlays of a store. */
struct overlay_space {
    struct arena arena;
    uint32_t batch;
};

enum status overlay_space_init(struct overlay_space *space, struct heap *heap);

/* Frees every overlay at once. */
void overlay_space_deinit(struct overlay_space *space);

/* From here on nodes of earlier batches are copied, not changed. */
void overlay_begin_batch(struct overlay_space *space);

/* --- Changes --- */

/* Makes the entry dead. `hash` is its record's hash (packed_hash(), or record_hash() of
 * what the caller has just read). An entry that is dead already stays as it is.
 *
 * Errors: STATUS_NOMEM, STATUS_CORRUPT, STATUS_LIMIT for a trie of 2^32 ordinals or more;
 *         `*root` and all that can be seen from it are then unchanged.
 * Cost:   O(d), one block of 32 bests read. */
enum status overlay_kill(struct overlay_space *space, const struct packed *packed,
                         overlay_root *root, uint64_t ordinal, struct sum hash);

/* Hides the entry. One that is dead, hidden or not present stays as it is.
 * Errors, cost: as overlay_kill(). */
enum status overlay_hide(struct overlay_space *space, const struct packed *packed,
                         overlay_root *root, uint64_t ordinal);

/* Retires a whole tree whose packed trie leaves the store; `*root` becomes pristine.
 * The roots that share nodes with it must stay unchanged from now on. */
void overlay_retire(struct overlay_space *space, overlay_root *root, uint64_t ordinal_count);

/* Copies a whole tree into another space, as of its batch. The copy shares nothing with it.
 *
 * Errors: STATUS_NOMEM: what was copied so far goes with the space. Cost: O(nodes). */
enum status overlay_copy(const struct overlay_space *from, overlay_root root,
                         uint64_t ordinal_count, struct overlay_space *space, overlay_root *out);

/* Bytes of its nodes. Cost: O(nodes / 16), leaves are not looked at. */
uint64_t overlay_bytes(const struct overlay_space *space, overlay_root root,
                       uint64_t ordinal_count);

/* Frees the nodes that the current batch made under `root`: nobody saw them. What they
 * replaced was retired and stands again only after arena_unretire(). */
void overlay_drop(struct overlay_space *space, overlay_root root, uint64_t ordinal_count);

/* --- Questions --- */

enum overlay_state {
    OVERLAY_CURRENT, /* Live, unless the record is a tombstone or reads as deleted. */
    OVERLAY_HIDDEN,
    OVERLAY_DEAD,
};

enum overlay_state overlay_state(const struct overlay_space *space, const struct packed *packed,
                                 overlay_root root, uint64_t ordinal);

struct overlay_totals {
    uint64_t current_count; /* Not dead. */
    uint64_t live_count;    /* Current, present and not hidden. */
    uint64_t dead_count;
    uint64_t hidden_count;
    struct best best; /* Of the live ones. */
    struct sum sum;   /* Of the current ones. */
};

enum status overlay_totals(const struct overlay_space *space, const struct packed *packed,
                           overlay_root root, struct overlay_totals *totals);

/* Live entries among ordinals [low, high). Cost: O(d). */
enum status overlay_live_count(const struct overlay_space *space, const struct packed *packed,
                               overlay_root root, uint64_t low, uint64_t high, uint64_t *count);

/* Ordinal of the live entry with `rank` live ones before it. Cost: O(d).
 * Errors: STATUS_NOT_FOUND past the last. */
enum status overlay_live_select(const struct overlay_space *space, const struct packed *packed,
                                overlay_root root, uint64_t rank, uint64_t *ordinal);

/* Sum of the hashes of current entries among [low, high).
 * Cost: O(d) and the hashes of the dead in the two leaves at the ends. */
enum status overlay_sum(const struct overlay_space *space, const struct packed *packed,
                        overlay_root root, uint64_t low, uint64_t high, struct sum *sum);

/* The least current (live) ordinal >= `ordinal`, which may be the count.
 * Errors: STATUS_END when there is none. Cost: O(d), however many dead are skipped. */
enum status overlay_next_current(const struct overlay_space *space, const struct packed *packed,
                                 overlay_root root, uint64_t ordinal, uint64_t *out);
enum status overlay_next_live(const struct overlay_space *space, const struct packed *packed,
                              overlay_root root, uint64_t ordinal, uint64_t *out);

/* The greatest current (live) ordinal < `ordinal`. Otherwise as above. */
enum status overlay_previous_current(const struct overlay_space *space, const struct packed *packed,
                                     overlay_root root, uint64_t ordinal, uint64_t *out);
enum status overlay_previous_live(const struct overlay_space *space, const struct packed *packed,
                                  overlay_root root, uint64_t ordinal, uint64_t *out);

/* The current (live) ones among the entries of block `block`: bit i for ordinal
 * block * PACKED_BLOCK + i. */
uint32_t overlay_block_current(const struct overlay_space *space, const struct packed *packed,
                               overlay_root root, uint64_t block);
enum status overlay_block_live(const struct overlay_space *space, const struct packed *packed,
                               overlay_root root, uint64_t block, uint32_t *live);

/* --- Best first --- */

/* Bests [first, first + count) of `level` with the dead and hidden removed; count <= 16;
 * none past the end. */
enum status overlay_bests(const struct overlay_space *space, const struct packed *packed,
                          overlay_root root, unsigned level, uint64_t first, size_t count,
                          struct best bests[OVERLAY_FAN_OUT]);

/* The live entries of block `block` one by one: ordinal block * PACKED_BLOCK + i; none for
 * the others. */
enum status overlay_block_bests(const struct overlay_space *space, const struct packed *packed,
                                overlay_root root, uint64_t block, struct best bests[PACKED_BLOCK]);

/* The node that stands for best `index` of `level` >= 1, found from `root`; 0: pristine. */
overlay_node overlay_find(const struct overlay_space *space, const struct packed *packed,
                          overlay_root root, unsigned level, uint64_t index);

/* One step of a descent: `node` stands for best `index` of `level` >= 1. Gives those of the
 * sixteen bests of the level below that do not come after `last` (none: all): bests[i] for each
 * bit i of `*found`; the others are not written. `children` are the nodes that stand for them
 * (all 0 when that is level 0: a block belongs to its leaf, which overlay_expand_block()
 * takes). */
enum status overlay_expand(const struct overlay_space *space, const struct packed *packed,
                           overlay_node node, unsigned level, uint64_t index, struct best last,
                           struct best bests[OVERLAY_FAN_OUT],
                           overlay_node children[OVERLAY_FAN_OUT], uint32_t *found);

/* The same for the live entries of `block` that are `among` (a bit each), from the leaf over it. */
enum status overlay_expand_block(const struct overlay_space *space, const struct packed *packed,
                                 overlay_node leaf, uint64_t block, uint32_t among,
                                 struct best last, struct best bests[PACKED_BLOCK],
                                 uint32_t *found);

/* Starts loading what the next step below best `index` of `level` will read. For level 0,
 * `node` is the leaf over the block. */
void overlay_prefetch(const struct overlay_space *space, const struct packed *packed,
                      overlay_node node, unsigned level, uint64_t index);

/* --- Bytes --- */

/* Appends the overlay of a packed trie with `ordinal_count` entries, checksummed. Reads no
 * column of it, and neither does decoding. Errors: those of buf_status(). */
void overlay_encode(const struct overlay_space *space, overlay_root root, uint64_t ordinal_count,
                    struct buf *out);

/* Makes in the current batch the overlay that `bytes` were written from.
 *
 * Errors: STATUS_CORRUPT unless they are what overlay_encode() wrote for a trie of
 *         `ordinal_count` entries; STATUS_NEWER; STATUS_NOMEM. Nothing is then kept. */
enum status overlay_decode(struct overlay_space *space, struct slice bytes, uint64_t ordinal_count,
                           overlay_root *root);
