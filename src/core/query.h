/* Questions over the layers of a store: the best, in order, how many, the k-th, digests.
 *
 * A layer is a memory trie, or a packed trie with its overlay. Every key is current in at
 * most one layer, so counts and sums add up and nothing is merged or looked up twice.
 *
 * Every question is about the keys that start with a prefix (empty: all) *and* lie in one
 * of the ranges that the caller may answer for.
 *
 * Expired words that are not settled yet (settled_ms < expires_at <= now_ms) are in the
 * layers' counts and bests still: searches and scans pass over them, counts subtract them
 * by the expiry indexes. Answers are exact however many there are; they only cost more.
 *
 * STATUS_CORRUPT comes from any packed trie that turns out damaged: what was visited
 * before is right, and nothing wrong is ever given.
 *
 * Threads: any number of readers, each with a query and a scratch of its own, while the
 *          view that the layers come from is held. Reasons: docs/design/query.md. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/heap.h"
#include "base/slice.h"
#include "base/status.h"
#include "core/best.h"
#include "core/memtrie.h"
#include "core/overlay.h"
#include "core/packed.h"
#include "core/record.h"

struct layer {
    /* A memory trie, when `packed` is NULL. */
    const struct memtrie *memtrie;
    memtrie_root root;
    /* Its expiry index, a tree in the same memory (query_expiry_put()). With `no_expiry_index`
     * counts walk their range instead whenever expired words may be unsettled. */
    memtrie_root expiry;
    bool no_expiry_index;

    /* A packed trie. */
    const struct packed *packed;
    const struct overlay_space *overlays;
    overlay_root overlay;
};

/* Keys in [low, high); an empty `high`: to the end. */
struct key_range {
    struct slice low, high;
};

static inline bool key_range_has(const struct key_range *range, struct slice key)
{
    return slice_compare(range->low, key) <= 0 &&
           (range->high.size == 0 || slice_compare(key, range->high) < 0);
}

/* Memory that queries use again and again, so that most allocate nothing. Private. */
struct query_scratch;

enum status query_scratch_create(struct heap *heap, struct query_scratch **out);
void query_scratch_destroy(struct query_scratch *scratch);

struct query {
    const struct layer *layers; /* Newest first. */
    size_t layer_count;
    const struct key_range *ranges; /* Ascending and disjoint; NULL: the whole key space. */
    size_t range_count;
    uint64_t now_ms;
    uint64_t settled_ms; /* Expiries up to here are hidden in the layers already. */
    struct heap *heap;
    struct query_scratch *scratch; /* One query at a time. */
};

/* Takes an answer; both borrow until it returns. STATUS_END ends the query with STATUS_OK,
 * anything else but STATUS_OK ends it and is returned. */
typedef enum status query_visit(void *context, struct slice key, const struct record *record);

/* --- One key --- */

struct query_hit {
    struct record record; /* The current one; borrows from the layer. */
    bool live;            /* Present, not hidden, not expired at now_ms. */
    bool hidden;
    size_t layer;
    uint64_t ordinal; /* In a packed trie. */
};

/* The current record of `key`: filters first, and the search ends at the current hit.
 * Errors: STATUS_NOT_FOUND. */
enum status query_get(const struct query *query, struct slice key, struct query_hit *hit);

/* --- Best first: score descending, created ascending, key bytes ascending --- */

/* A position in the popularity order: that of an entry that was given. */
struct query_position {
    struct best best;
    struct slice key;
};

/* Visits the first `limit` live entries after `after` (NULL: from the start), in order.
 *
 * Cost: after `limit` and the number of layers, not after the words under the prefix, equal
 *       scores or dead words; min(depth, words) more to come to `after`. */
enum status query_best(const struct query *query, struct slice prefix, uint64_t limit,
                       const struct query_position *after, query_visit *visit, void *context);

/* Takes the place of an answer; otherwise as query_visit. */
typedef enum status query_visit_place(void *context, struct slice key, struct best best);

/* As query_best(), for who needs only the key of an entry and its place: no record is read.
 * `*more`: whether entries follow the last one; left alone when the visit ended the query. */
enum status query_best_places(const struct query *query, struct slice prefix, uint64_t limit,
                              const struct query_position *after, query_visit_place *visit,
                              void *context, bool *more);

/* A walk in popularity order whose pages follow one another at no extra cost.
 *
 * Owns: the walk keeps `query` by value, its prefix and ranges by copy; layers must stay
 *       as they are. The scratch is not used. */
struct query_walk;

enum status query_walk_open(const struct query *query, struct slice prefix,
                            const struct query_position *after, struct query_walk **out);
void query_walk_close(struct query_walk *walk);

/* The next entry; both borrow until the next call. Errors: STATUS_END. */
enum status query_walk_next(struct query_walk *walk, struct slice *key, struct record *record);

/* --- In alphabetical order --- */

/* Where a scan starts: after `key` or, if `inclusive`, at it; before it when descending.
 * An empty key: at the start (the end). */
struct query_from {
    struct slice key;
    bool inclusive;
    bool descending;
};

/* Visits the first `limit` live entries from `from`. Cost: O(layers x depth + limit). */
enum status query_scan(const struct query *query, struct slice prefix,
                       const struct query_from *from, uint64_t limit, query_visit *visit,
                       void *context);

/* A cursor over the entries in key order, both ways. */
struct query_iterator;

enum query_entries {
    QUERY_LIVE,
    QUERY_CURRENT, /* Tombstones, hidden and expired ones too. */
};

/* Stands before the first entry. Owns: as query_walk; one may live as long as its layers. */
enum status query_iterator_open(const struct query *query, struct slice prefix,
                                enum query_entries entries, struct query_iterator **out);
void query_iterator_close(struct query_iterator *iterator);

/* Each moves to an entry, or returns STATUS_END and stands after the last (before the
 * first). After another error only a seek or the close may follow. */

/* To the first entry with key >= `key`; an empty `key`: to the very first. */
enum status query_iterator_seek(struct query_iterator *iterator, struct slice key);

/* To the last entry with key < `key`; an empty `key`: to the very last. */
enum status query_iterator_seek_before(struct query_iterator *iterator, struct slice key);
enum status query_iterator_next(struct query_iterator *iterator);
enum status query_iterator_previous(struct query_iterator *iterator);

/* Of the entry it stands on; they borrow until it moves. */
struct slice query_iterator_key(const struct query_iterator *iterator);
enum status query_iterator_record(const struct query_iterator *iterator, struct record *record);
size_t query_iterator_layer(const struct query_iterator *iterator);

/* --- Numbers --- */

/* Live entries. Cost: one descent a layer, and the unsettled. */
enum status query_count(const struct query *query, struct slice prefix, uint64_t *count);

/* Live entries in [low, high); an empty `high`: to the end. */
enum status query_count_range(const struct query *query, struct key_range range, uint64_t *count);

/* Key of the live entry with `rank` live ones before it under `prefix`, into `key` (cleared
 * first). Errors: STATUS_NOT_FOUND. Cost: O(layers^2 x log(words)) descents at worst. */
enum status query_select(const struct query *query, struct slice prefix, uint64_t rank,
                         struct buf *key);

/* Sum of the hashes of current entries. */
enum status query_sum(const struct query *query, struct slice prefix, struct sum *sum);
enum status query_sum_range(const struct query *query, struct key_range range, struct sum *sum);

/* Whether no word has expired by `now_ms` that the layers still hold: then every query
 * answers as it would have at `settled_ms`. */
bool query_is_settled(const struct query *query);

/* --- The expiry index of a memory trie --- */

/* Notes that the record now put at `key` expires at `expires_at`. Notes that no longer hold
 * (the record was replaced, removed or hidden) are harmless. Errors: STATUS_NOMEM. */
enum status query_expiry_put(struct memtrie *trie, memtrie_root *expiry, uint64_t expires_at,
                             struct slice key);

/* Takes a note away, if it is there. Errors: STATUS_NOMEM. */
enum status query_expiry_remove(struct memtrie *trie, memtrie_root *expiry, uint64_t expires_at,
                                struct slice key);

/* The note of the earliest time: its key goes into `key`, which is cleared first.
 * Errors: STATUS_NOT_FOUND when there is none, STATUS_NOMEM. */
enum status query_expiry_first(const struct memtrie *trie, memtrie_root expiry,
                               uint64_t *expires_at, struct buf *key);
