/* When shards are cut and joined: each shard is watched by the first of its owners that is up, which
 * holds its words and so knows how many there are. Bytes are words times the mean size of one here. */
#include <xxhash.h>

#include "base/math.h"
#include "cluster/split.h"
#include "node/replica_private.h"

enum { SPLIT_LOOK_MS = 5000 };

/* A shard is the same as long as both its ends are. */
static uint64_t shard_tag(const struct shard *shard)
{
    uint64_t low = XXH3_64bits(shard->low.data, shard->low.size);
    return XXH3_64bits_withSeed(shard->high.data, shard->high.size, low);
}

static bool watches(const struct replica *replica, const struct shard *shard)
{
    for (size_t i = 0; i < shard->owners.count; i++) {
        node_id id = shard->owners.ids[i];
        if (id == replica->self.id) return true;
        if (!replica_is_down(replica, id)) return false;
    }
    return false;
}

/* Since when each shard is as it is, kept in the order of the map. What was there before keeps its
 * time; both lists are in the order of keys, so one pass finds it. */
static bool note_ages(struct replica *replica)
{
    struct replica_splits *splits = &replica->splits;
    uint64_t number = rangemap_identity(replica->map)->number;
    size_t count = rangemap_shard_count(replica->map);
    if (splits->map_number == number && splits->ages != NULL) return true;
    struct shard_age *ages = heap_alloc(replica->heap, (count + 1) * sizeof *ages);
    if (ages == NULL) return false;
    for (size_t i = 0, at = 0; i < count; i++) {
        struct shard shard = rangemap_shard(replica->map, i);
        ages[i] = (struct shard_age){shard_tag(&shard), replica->time.now_ms};
        for (size_t j = at; j < splits->count; j++) {
            if (splits->ages[j].tag != ages[i].tag) continue;
            ages[i].since_ms = splits->ages[j].since_ms;
            at = j + 1;
            break;
        }
    }
    heap_free(replica->heap, splits->ages);
    splits->ages = ages;
    splits->count = count;
    splits->map_number = number;
    return true;
}

static uint64_t mean_bytes(const struct replica *replica)
{
    struct store_stats stats;
    store_stats(replica->store, &stats);
    uint64_t bytes = stats.run_bytes + stats.memtrie_bytes;
    return stats.current_count == 0 ? 0 : u64_max(1, bytes / stats.current_count);
}

static enum status look(struct replica *replica, struct query *query, struct split_view *views)
{
    uint64_t mean = mean_bytes(replica);
    for (size_t i = 0; i < replica->splits.count; i++) {
        struct shard shard = rangemap_shard(replica->map, i);
        views[i] = (struct split_view){.still_ms = replica->time.now_ms -
                                                   replica->splits.ages[i].since_ms};
        if (!watches(replica, &shard)) continue;
        uint64_t count;
        struct key_range range = {shard.low, shard.high};
        if (slice_compare(range.low, REPLICA_KEY_FIRST) < 0) range.low = REPLICA_KEY_FIRST;
        enum status status = query_count_range(query, range, &count);
        if (status != STATUS_OK) return status;
        views[i].known = true;
        views[i].bytes = count * mean;
    }
    return STATUS_OK;
}

size_t replica_splits_add(struct replica *replica, struct buf *delta)
{
    struct replica_splits *splits = &replica->splits;
    size_t count = 0;
    if (replica->time.now_ms < splits->due_ms || !note_ages(replica)) return 0;
    splits->due_ms = replica->time.now_ms + SPLIT_LOOK_MS;
    struct split_view *views = heap_alloc(replica->heap, (splits->count + 1) * sizeof *views);
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
    heap_free(replica->heap, replica->splits.ages);
}
