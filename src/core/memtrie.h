/* Memory trie: an adaptive radix tree over keys, persistent in the functional sense.
 *
 * A root names one immutable state of the tree. A change makes a new root and copies
 * only the nodes on its path, each at most once a batch: nodes made in the current batch
 * (memtrie_begin_batch()) are changed in place, for no reader has seen them. What a
 * change replaced is retired in the arena and stays readable until it is reclaimed.
 *
 * Every node knows of its subtree: the number of live entries, the first in popularity
 * order, and, where there are many current entries, the sum of their hashes. *Current*
 * is every entry (tombstones and expired ones too); *live* is what record_is_present()
 * and is not hidden. An entry is hidden once its expiry was settled (memtrie_hide()).
 *
 * Order is byte order of keys; any byte may occur in them. One arena may hold several trees.
 *
 * Threads: roots that were published may be read by any thread; changes and reclaiming
 * are the writer's alone. Readers take no lock and allocate only in their iterators. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"
#include "core/arena.h"
#include "core/best.h"
#include "core/key.h"
#include "core/record.h"

/* Room for a key and what an index over keys puts before it. */
enum { MEMTRIE_KEY_BYTES_MAX = KEY_BYTES_MAX + 16 };

typedef arena_ref memtrie_root; /* 0: the empty tree. */
typedef arena_ref memtrie_node; /* A subtree or an entry of some root. */

struct memtrie {
    struct arena arena;
    uint32_t batch;
    uint64_t hash_seed;
    struct buf record_buf;

    /* Private: the way to the last key that the writer looked for, where the next search
     * begins: it holds in the tree of `finger_root` (0: in none). */
    struct memtrie_step *steps;
    size_t step_capacity;
    memtrie_root finger_root;
    uint64_t level_count; /* Levels that the writer's searches went down. */
    size_t finger_depth;
    struct buf finger_key;
};

enum status memtrie_init(struct memtrie *trie, struct heap *heap, uint64_t hash_seed);

/* Frees every root's memory at once. */
void memtrie_deinit(struct memtrie *trie);

/* From here on nodes of earlier batches are copied, not changed. To be called before the
 * first change after a root was published; at most 2^32 - 1 times. */
void memtrie_begin_batch(struct memtrie *trie);

/* Puts `record`, canonical as record_decode() wants it, at `key` whatever was there: the
 * caller has joined.
 *
 * Owns:   copies key and record.
 * Errors: STATUS_NOMEM; `*root` is unchanged and still valid.
 * Cost:   O(length of key); where the best of a subtree got worse, its children's bests. */
enum status memtrie_put(struct memtrie *trie, memtrie_root *root, struct slice key,
                        const struct record *record);

/* Takes the entry away (it is current in another layer from now on).
 * Errors: STATUS_NOT_FOUND, STATUS_NOMEM. */
enum status memtrie_remove(struct memtrie *trie, memtrie_root *root, struct slice key);

/* Marks the entry hidden: current still, live no longer.
 * Errors: STATUS_NOT_FOUND, STATUS_NOMEM. */
enum status memtrie_hide(struct memtrie *trie, memtrie_root *root, struct slice key);

/* The record at `key`; it borrows from the arena while the root's view is held.
 * `hidden` may be NULL. Errors: STATUS_NOT_FOUND. */
enum status memtrie_get(const struct memtrie *trie, memtrie_root root, struct slice key,
                        struct record *record, bool *hidden);

/* memtrie_get() for the writer: remembers the way, so that a change of the same key, or of
 * one near it, that follows does not go it again. */
enum status memtrie_seek(struct memtrie *trie, memtrie_root root, struct slice key,
                         struct record *record, bool *hidden);

/* Goes the ways to several keys side by side, so that searches for them soon after find
 * them in the cache: alone, a search waits for memory at each level. */
enum { MEMTRIE_WARM_COUNT_MAX = 16 };
void memtrie_warm(const struct memtrie *trie, memtrie_root root, const struct slice *keys,
                  size_t count);

/* Totals of a whole root. */
struct memtrie_totals {
    uint64_t current_count; /* All entries. */
    uint64_t live_count;
    uint64_t tombstone_count;
    struct best best;
    struct sum sum;
};
struct memtrie_totals memtrie_totals(const struct memtrie *trie, memtrie_root root);

/* Live entries with key < `key`. Cost: O(length of key x fan-out). */
uint64_t memtrie_rank(const struct memtrie *trie, memtrie_root root, struct slice key);

/* Live entries whose key starts with `prefix`. Cost: O(length of prefix). */
uint64_t memtrie_count_prefix(const struct memtrie *trie, memtrie_root root, struct slice prefix);

/* Key of the live entry with exactly `rank` live ones before it, into `key` (cleared first).
 * Errors: STATUS_NOT_FOUND past the last, STATUS_NOMEM. */
enum status memtrie_select(const struct memtrie *trie, memtrie_root root, uint64_t rank,
                           struct buf *key);

/* Sum of the hashes of current entries in [low, high); an empty `high`: to the end.
 * Cost: O(length of key x fan-out), plus a walk of the two small subtrees at the ends. */
struct sum memtrie_sum(const struct memtrie *trie, memtrie_root root, struct slice low,
                       struct slice high);

/* --- Best first ---
 * The search keeps a heap of nodes by their bound; these are all it needs. */

struct memtrie_part {
    memtrie_node node;
    struct best best;
    uint16_t place; /* Among the parts of the node above, ascending with keys. */
    bool is_entry;
};

/* Largest number of parts that a node has: 256 children and an entry that ends in it. */
enum { MEMTRIE_PART_COUNT_MAX = 257 };

/* Covers the keys in [low, high) (an empty `high`: to the end) by disjoint subtrees in
 * key order; `visit` gets each that has something live, with the bytes on the path above
 * it (valid during the call). A prefix is covered by one subtree.
 * Errors: those of `visit`, which end the cover; STATUS_NOMEM. */
enum status memtrie_cover(const struct memtrie *trie, memtrie_root root, struct slice low,
                          struct slice high, struct heap *heap,
                          enum status (*visit)(void *context, struct slice path,
                                               const struct memtrie_part *part),
                          void *context);

/* The parts of a subtree, those that may be the best first, some at a time. */
struct memtrie_expansion {
    const struct memtrie *trie;
    memtrie_node node;
    unsigned bound; /* Private: parts with this bound and above were given. */
};

struct memtrie_expansion memtrie_expand(const struct memtrie *trie, memtrie_node node);

/* More parts that have something live and do not come after `last` (none: all of them), in key
 * order among themselves: at least `wanted` of the best that are left, or all where there are
 * not so many or where `last` is given. Those not given yet have a lower score than each of
 * these but an entry that ends in the node itself, which is always among the first. 0: there
 * are no more.
 *
 * Cost: a byte for each part, and the first line of those that it reads: few but what it gives. */
size_t memtrie_expand_next(struct memtrie_expansion *expansion, struct best last, size_t wanted,
                           struct memtrie_part parts[MEMTRIE_PART_COUNT_MAX]);

/* Starts loading what expanding a part of another node will read, with a `last` like this. */
void memtrie_prefetch_parts(const struct memtrie *trie, memtrie_node node, struct best last);

/* Appends the bytes between the path above `node` and the path above its part at `place`. */
void memtrie_append_edge(const struct memtrie *trie, memtrie_node node, uint16_t place,
                         struct buf *key);

/* For an entry: appends the rest of its key. */
void memtrie_append_suffix(const struct memtrie *trie, memtrie_node entry, struct buf *key);

/* Its record. */
void memtrie_entry_record(const struct memtrie *trie, memtrie_node entry, struct record *record);

/* --- Walks, over all current entries, both ways --- */

struct memtrie_iterator {
    const struct memtrie *trie;
    memtrie_root root;
    struct heap *heap;
    struct memtrie_frame *frames; /* Private. */
    size_t frame_count, frame_capacity;
    struct buf key_buf;

    struct slice key; /* Of the current entry; valid until the next call. */
    struct record record;
    bool hidden;
};

void memtrie_iterator_init(struct memtrie_iterator *iterator, const struct memtrie *trie,
                           memtrie_root root, struct heap *heap);
void memtrie_iterator_deinit(struct memtrie_iterator *iterator);

/* To the first entry with key >= `key`. Errors: STATUS_END, STATUS_NOMEM. */
enum status memtrie_iterator_seek(struct memtrie_iterator *iterator, struct slice key);

/* To the last entry with key < `key`; an empty `key`: the very last. */
enum status memtrie_iterator_seek_before(struct memtrie_iterator *iterator, struct slice key);

enum status memtrie_iterator_next(struct memtrie_iterator *iterator);
enum status memtrie_iterator_previous(struct memtrie_iterator *iterator);
