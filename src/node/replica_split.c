/* When shards are cut and joined: each shard is watched by the first of its owners that is up, which
 * holds its words and so knows how many there are. Bytes are words times the mean size of one here. */
#include "base/math.h"
#include "cluster/split.h"
#include "node/replica_private.h"

enum { SPLIT_LOOK_MS = 5000 };

static bool watches(const struct replica *replica, const struct shard *shard)
{
    for (size_t i = 0; i < shard->owners.count; i++) {
        node_id id = shard->owners.ids[i];
        if (id == replica->self.id) return true;
        if (!replica_is_down(replica, id)) return false;
    }
    return false;
}

/* A shard is the same as long as both its ends are. Both maps are in the order of keys. */
static void copy_ages(const struct replica *replica, const struct rangemap *before, uint64_t *since)
{
    const struct replica_splits *splits = &replica->splits;
    size_t old = 0;
    for (size_t i = 0; i < rangemap_shard_count(replica->map) && old < splits->count; i++) {
        struct shard shard = rangemap_shard(replica->map, i);
        struct shard other = rangemap_shard(before, old);
        while (old + 1 < splits->count && slice_compare(other.low, shard.low) < 0)
            other = rangemap_shard(before, ++old);
        if (slice_equal(other.low, shard.low) && slice_equal(other.high, shard.high))
            since[i] = splits->since_ms[old];
    }
}

/* Without memory the ages of all begin anew, later. */
void replica_splits_map_changed(struct replica *replica, const struct rangemap *before)
{
    struct replica_splits *splits = &replica->splits;
    size_t count = rangemap_shard_count(replica->map);
    uint64_t *since = heap_alloc(replica->heap, (count + 1) * sizeof *since);
    for (size_t i = 0; since != NULL && i < count; i++) since[i] = replica->time.now_ms;
    if (since != NULL && splits->since_ms != NULL) copy_ages(replica, before, since);
    heap_free(replica->heap, splits->since_ms);
    splits->since_ms = since;
    splits->count = since == NULL ? 0 : count;
}

static uint64_t mean_bytes(const struct replica *replica)
{
    struct store_stats stats;
    store_stats(replica->store, &stats);
    uint64_t bytes = stats.run_bytes + stats.memtrie_bytes;
    return stats.current_count == 0 ? 0 : u64_max(1, bytes / stats.current_count);
}

/* Of the others the planner knows nothing. */
static enum status look(struct replica *replica, struct query *query, struct split_view *views)
{
    uint64_t mean = mean_bytes(replica);
    for (size_t i = 0; i < replica->shares.owned.count; i++) {
        size_t index = replica->shares.owned.at[i];
        struct shard shard = rangemap_shard(replica->map, index);
        struct split_view *view = &views[index];
        if (!watches(replica, &shard)) continue;
        uint64_t count;
        enum status status = query_count_range(
            query, (struct key_range){shard_first_key(&shard), shard.high}, &count);
        if (status != STATUS_OK) return status;
        view->known = true;
        view->bytes = count * mean;
        view->still_ms = replica->time.now_ms - replica->splits.since_ms[index];
    }
    return STATUS_OK;
}

size_t replica_splits_add(struct replica *replica, struct buf *delta)
{
    struct replica_splits *splits = &replica->splits;
    size_t count = 0;
    if (replica->time.now_ms < splits->due_ms || splits->since_ms == NULL) return 0;
    splits->due_ms = replica->time.now_ms + SPLIT_LOOK_MS;
    struct split_view *views = heap_zalloc(replica->heap, (splits->count + 1) * sizeof *views);
    if (views == NULL) return 0;
    struct query query = replica_query(replica);
    enum status status = look(replica, &query, views);
    if (status == STATUS_OK) {
        struct split_input input = {
            .map = replica->map,
            .views = views,
            .limits = &split_limits_default,
            .keys = split_keys_of_query(&query),
            .heap = replica->heap,
        };
        status = split_plan(&input, delta, &count);
    }
    heap_free(replica->heap, views);
    return status == STATUS_OK ? count : 0;
}

void replica_splits_free(struct replica *replica)
{
    heap_free(replica->heap, replica->splits.since_ms);
}
