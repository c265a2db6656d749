#include <xxhash.h>

#include "base/math.h"
#include "base/planted.h"
#include "cluster/repair_private.h"

enum { LEAF_AIM = REPAIR_LEAF_MAX - 2 };

struct query repair_query(const struct repair *repair, const struct key_range *range)
{
    struct query query = repair->env.query(repair->env.context);
    query.ranges = range;
    query.range_count = 1;
    return query;
}

uint64_t repair_hash(const struct repair *repair, struct slice key, const struct record *record)
{
    return record_hash(key, record, repair->env.hash_seed).low;
}

/* --- Records --- */

static enum status walk_show(struct repair_walk *walk, enum status status)
{
    if (status != STATUS_OK) return status;
    walk->key = query_iterator_key(walk->iterator);
    return query_iterator_record(walk->iterator, &walk->record);
}

enum status repair_walk_begin(const struct repair *repair, const struct key_range *range,
                              struct repair_walk *walk)
{
    struct query query = repair_query(repair, range);
    *walk = (struct repair_walk){0};
    enum status status =
        query_iterator_open(&query, (struct slice){0}, QUERY_CURRENT, &walk->iterator);
    if (status != STATUS_OK) {
        walk->iterator = NULL;
        return status;
    }
    return walk_show(walk, query_iterator_seek(walk->iterator, range->low));
}

enum status repair_walk_next(struct repair_walk *walk)
{
    return walk_show(walk, query_iterator_next(walk->iterator));
}

enum status repair_walk_end(struct repair_walk *walk, enum status status)
{
    if (walk->iterator != NULL) query_iterator_close(walk->iterator);
    return status == STATUS_END ? STATUS_OK : status;
}

/* --- Digests --- */

/* The bug that a test must find: tombstones count for nothing. */
static enum status living_sum(const struct repair *repair, const struct query *query,
                              struct sum *sum)
{
    struct query_iterator *iterator;
    enum status status = query_iterator_open(query, (struct slice){0}, QUERY_LIVE, &iterator);
    if (status != STATUS_OK) return status;
    *sum = (struct sum){0};
    while ((status = query_iterator_next(iterator)) == STATUS_OK) {
        struct record record;
        status = query_iterator_record(iterator, &record);
        if (status != STATUS_OK) break;
        *sum = sum_add(*sum,
                       record_hash(query_iterator_key(iterator), &record, repair->env.hash_seed));
    }
    query_iterator_close(iterator);
    return status == STATUS_END ? STATUS_OK : status;
}

enum status repair_sum(const struct repair *repair, const struct key_range *range, struct sum *sum)
{
    struct query query = repair_query(repair, range);
    if (planted(BUG_DIGEST_OF_THE_LIVING)) return living_sum(repair, &query, sum);
    return query_sum(&query, (struct slice){0}, sum);
}

enum status repair_shared_sum(struct repair *repair, node_id peer, enum repair_scope scope,
                              struct sum *sum)
{
    struct key_range range;
    uint64_t ignored;
    *sum = (struct sum){0};
    buf_clear(&repair->ranges);
    repair->env.shared(repair->env.context, peer, scope, &repair->ranges);
    enum status status = buf_status(&repair->ranges);
    struct slice rest = buf_slice(&repair->ranges);
    while (status == STATUS_OK && repair_range_next(&rest, &range, &ignored)) {
        struct sum part;
        status = repair_sum(repair, &range, &part);
        if (status == STATUS_OK) *sum = sum_add(*sum, part);
    }
    return status;
}

uint64_t repair_shared_purged(struct repair *repair, node_id peer, enum repair_scope scope)
{
    buf_clear(&repair->ranges);
    repair->env.shared(repair->env.context, peer, scope, &repair->ranges);
    return repair->env.purged(repair->env.context, buf_slice(&repair->ranges));
}

struct hash128 repair_shared_hash(const struct repair *repair)
{
    uint64_t generation_id = repair->env.generation_id(repair->env.context);
    XXH128_hash_t hash =
        XXH3_128bits_withSeed(repair->ranges.data, repair->ranges.size, generation_id);
    return (struct hash128){.low = hash.low64, .high = hash.high64};
}

/* --- Cuts --- */

enum status repair_choose_cuts(const struct repair *repair, const struct key_range *range,
                               struct buf cuts[REPAIR_PIECES_MAX], size_t *count)
{
    struct query query = repair_query(repair, range);
    uint64_t live;
    enum status status = query_count(&query, (struct slice){0}, &live);
    *count = 0;
    if (status != STATUS_OK) return status;
    if (live >= 2 * REPAIR_PIECES_MAX) {
        /* Pieces that will be listed are nearly as long as they may be, for each costs more than what is in it. */
        uint64_t pieces = u64_min(REPAIR_PIECES_MAX, (live + LEAF_AIM - 1) / LEAF_AIM);
        for (uint64_t i = 1; status == STATUS_OK && i < pieces; i++)
            status = query_select(&query, (struct slice){0}, i * live / pieces, &cuts[(*count)++]);
        return status;
    }
    struct repair_walk walk;
    status = repair_walk_begin(repair, range, &walk);
    for (size_t i = 0; status == STATUS_OK && *count < REPAIR_PIECES_MAX - 1; i++) {
        if (i > 0 && i % REPAIR_LEAF_MAX == 0) {
            struct buf *cut = &cuts[(*count)++];
            buf_clear(cut);
            buf_append_slice(cut, walk.key);
        }
        status = repair_walk_next(&walk);
    }
    return repair_walk_end(&walk, status);
}

bool repair_knows_all(const struct repair *repair, const struct key_range *range)
{
    struct buf one = {.heap = repair->env.heap};
    repair_range_append(&one, range, 0);
    bool all = !one.failed && repair->env.is_complete(repair->env.context, buf_slice(&one));
    buf_deinit(&one);
    return all;
}
