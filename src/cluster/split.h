/* Where shards are cut and which are joined.
 *
 *   * A shard over shard_split_bytes, or over its limit of load, is cut at the trie node that
 *     divides it best: of the cuts that leave 40 to 60 % on either side the shallowest, so that
 *     a chain of nodes with one child is skipped; of those at one node the most even.
 *   * Below that, k_factor cuts a shard down to the prefixes of so many bytes (of the folded
 *     word, in its namespace), as long as each part holds shard_min_bytes.
 *   * Neighbours of equal owners, none of which moves, merge when they are cold and together
 *     hold less than shard_min_bytes.
 *
 * What is cut holds at least twice of what merges, in bytes, and four times in load; and a shard
 * stays for a while as it is after either. So nothing oscillates.
 *
 * Only who has the keys can plan: a view says which shards are known, and a plan touches no
 * others. Reasons: docs/design/rangemap.md. */
#pragma once

#include "cluster/rangemap.h"
#include "cluster/rangemap_delta.h"
#include "core/query.h"

/* What is known of a shard, by its index in the map. */
struct split_view {
    bool known;
    uint64_t bytes;
    uint64_t load;     /* Requests a second, smoothed over some ten seconds. */
    uint64_t still_ms; /* Since it was cut or merged, or since this node first knew of it. */
};

struct split_limits {
    uint64_t load_max;       /* A shard is cut above this; cold is below a quarter of it. */
    uint64_t split_after_ms; /* How long a shard stays as it is before it is cut, */
    uint64_t merge_after_ms; /* or merged. */
};

/* 20,000 requests a second; a minute; ten minutes. */
extern const struct split_limits split_limits_default;

/* The keys by their rank: split_keys_of_query() is the usual one. */
struct split_keys {
    void *context;
    /* How many keys there are in [low, high); an empty `high`: to the end. */
    enum status (*count)(void *context, struct key_range range, uint64_t *count);
    /* The key with `rank` others before it in the range, into `key`, which is cleared first. */
    enum status (*select)(void *context, struct key_range range, uint64_t rank, struct buf *key);
};

/* Over the live words of a query, whose ranges are not used; it is borrowed. */
struct split_keys split_keys_of_query(struct query *query);

struct split_input {
    const struct rangemap *map;
    const struct split_view *views; /* One for each shard. */
    const struct split_limits *limits;
    struct split_keys keys;
    /* Keys of recent requests, ascending, with repetitions: each stands for the same load. */
    const struct slice *requests;
    size_t request_count;
    struct heap *heap;
};

/* Appends splits and merges to `delta`, which was begun for the map: at most RANGEMAP_SPLITS_MAX
 * of each. `*count` says how many; none: nothing is to be done.
 *
 * Errors: what `keys` returns, STATUS_NOMEM; `delta` may then end with some of the changes. */
enum status split_plan(const struct split_input *input, struct buf *delta, size_t *count);

/* The cut that divides the keys of the range best, into `cut`, which is cleared first, and how
 * many keys are before it. Errors: STATUS_NOT_FOUND with less than two keys; as split_plan(). */
enum status split_find_cut(const struct split_keys *keys, struct key_range range, struct heap *heap,
                           struct buf *cut, uint64_t *before);
