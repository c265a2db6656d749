/* Best-first search over layers; for the files of core/query.h only.
 *
 * Each layer is a *source* with a heap of its own, ordered by (best, place in key order).
 * Inside a layer places compare without keys, so a million entries that share score and
 * creation cost what any others do. Between layers only the tops meet: one with a better
 * best goes first; among equal ones nodes are expanded until entries stand there, whose
 * keys are compared. */
#pragma once

#include "core/query_span.h"

/* A part of a layer whose entries are not better than `best`. The parts of one heap are
 * disjoint. */
struct best_item {
    struct best best;
    uint64_t place; /* Packed: its first ordinal. Memory: its number among its siblings. */
    uint32_t node;  /* Overlay node or leaf over it; memory trie node. */
    uint32_t above; /* Packed: index of its bounds. Memory: index of its trail. */
    uint8_t level;  /* Packed: 0 an entry, 1 a block, l + 1 a best of level l. */
    bool is_entry;
    bool is_exact; /* `best` is that of an entry that the question is about. */
};

struct best_source {
    const struct layer *layer;
    struct best_item *items; /* A binary heap. */
    size_t count, capacity;
    bool expires; /* It may have entries that are expired and not settled. */
};

/* Ordinals of one span in one packed trie. */
struct best_bounds {
    uint64_t low, high;
};

/* How the search came to a node of a memory trie, so that keys can be spelt. */
struct best_trail {
    memtrie_node node; /* 0: a start; its path lies in `paths`. */
    uint32_t above;
    uint16_t place; /* Among the parts of the node above. */
    size_t path_start, path_size;
};

enum { BEST_FLOOR_MAX = 64 };

struct best_search {
    struct heap *heap;
    const struct query *query;
    struct best_source *sources;
    size_t source_count, source_capacity;
    uint32_t *order; /* Sources by their tops, the best first. */
    struct best_bounds *bounds;
    size_t bounds_count, bounds_capacity;
    struct best_trail *trails;
    size_t trail_count, trail_capacity;
    struct buf paths;
    uint32_t *chain;
    size_t chain_capacity;
    struct buf key, other_key;
    bool has_after;
    struct query_position after;

    /* The best bounds known of distinct entries, the best first: what is worse than the
     * last of a full list cannot be among the first `floor_limit`. */
    struct best floor[BEST_FLOOR_MAX];
    size_t floor_count, floor_limit; /* Limit 0: nothing is pruned. */
    struct best last;                /* Of a full floor; else none, after which nothing comes. */
    enum status failure;             /* Of a comparison, which cannot return it. */
};

void best_search_init(struct best_search *search, struct heap *heap);
void best_search_deinit(struct best_search *search);

/* Starts over `spans`, which must outlive the search, as `query` and `after` must. No more
 * than `limit` answers will be asked for. */
enum status best_search_start(struct best_search *search, const struct query *query,
                              const struct spans *spans, const struct query_position *after,
                              uint64_t limit);

struct best_answer {
    const struct best_source *source;
    struct best_item item;
};

/* The next answer; its key and record are not read yet. Errors: STATUS_END. */
enum status best_search_next(struct best_search *search, struct best_answer *answer);

/* Its key, into `key` (cleared first). */
enum status best_search_key(struct best_search *search, const struct best_answer *answer,
                            struct buf *key);

/* Its record, which borrows from the layer. */
enum status best_search_record(const struct best_answer *answer, struct record *record);

enum { BEST_KEYS_MAX = 32 };

/* The keys of up to BEST_KEYS_MAX answers, into `keys` (cleared first): that of the i-th lies in
 * [starts[i], ends[i]). Neighbours in a packed trie are read together. */
enum status best_search_keys(struct best_search *search, const struct best_answer *answers,
                             size_t count, struct buf *keys, size_t starts[BEST_KEYS_MAX],
                             size_t ends[BEST_KEYS_MAX]);

/* Starts loading what best_search_keys() of `answers` will read for the last of them (count > 0)
 * and for none before it. */
void best_search_prefetch(const struct best_answer *answers, size_t count);

/* Where the entries of a node or entry begin in key order, at the earliest, into `key`. */
enum status best_search_spell(struct best_search *search, const struct best_source *source,
                              const struct best_item *item, struct buf *key);
