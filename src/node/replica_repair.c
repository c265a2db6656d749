/* Binds repair to the store: what two nodes share, and whom to compare with next. */
#include "base/math.h"
#include "cluster/repair_message.h"
#include "node/replica_private.h"

static bool takes(const struct shard *shard, node_id id)
{
    struct owners sets[2];
    size_t count = shard_write_owners(shard, sets);
    for (size_t i = 0; i < count; i++)
        if (owners_contain(&sets[i], id)) return true;
    return false;
}

static struct query env_query(void *context)
{
    return replica_query(context);
}

static enum status env_merge(void *context, struct slice key, const struct record *record)
{
    struct replica *replica = context;
    struct store_outcome outcome;
    replica_store_write(replica,
                        &(struct store_write){.kind = STORE_MERGE, .key = key, .record = record},
                        &outcome);
    return outcome.status;
}

static bool env_owns_with(void *context, node_id peer, struct slice key)
{
    const struct replica *replica = context;
    struct shard shard = rangemap_shard(replica->map, rangemap_find(replica->map, key));
    return takes(&shard, replica->self.id) && takes(&shard, peer);
}

static void append_shared(struct buf *ranges, struct key_range *range)
{
    if (slice_compare(range->low, REPLICA_KEY_FIRST) < 0) range->low = REPLICA_KEY_FIRST;
    repair_range_append(ranges, range, 0);
}

/* Neighbours that are shared become one range. */
static void env_shared(void *context, node_id peer, struct buf *ranges)
{
    const struct replica *replica = context;
    size_t count = rangemap_shard_count(replica->map);
    struct key_range range = {0};
    bool open = false;
    for (size_t i = 0; i < count; i++) {
        struct shard shard = rangemap_shard(replica->map, i);
        bool shared = takes(&shard, replica->self.id) && takes(&shard, peer);
        if (open && !shared) append_shared(ranges, &range);
        if (shared && !open) range.low = shard.low;
        if (shared) range.high = shard.high;
        open = shared;
    }
    if (open) append_shared(ranges, &range);
}

static struct hash128 env_map(void *context)
{
    const struct replica *replica = context;
    return rangemap_identity(replica->map)->hash;
}

void replica_repair_init(struct replica *replica)
{
    struct repair_env env = {
        .context = replica,
        .heap = replica->heap,
        .trace = replica->trace,
        .hash_seed = store_hash_seed(replica->store),
        .first_number = prng_u32(&replica->prng),
        .query = env_query,
        .merge = env_merge,
        .owns_with = env_owns_with,
        .shared = env_shared,
        .map = env_map,
    };
    repair_init(&replica->repair, &env);
    /* The first one soon: it also brings what time it is. */
    replica->repair_ms = replica->time.now_ms + prng_below(&replica->prng, REPLICA_REPAIR_MS / 10);
}

static bool shares_any(const struct replica *replica, node_id peer)
{
    size_t count = rangemap_shard_count(replica->map);
    for (size_t i = 0; i < count; i++) {
        struct shard shard = rangemap_shard(replica->map, i);
        if (takes(&shard, replica->self.id) && takes(&shard, peer)) return true;
    }
    return false;
}

/* The next member after the last one that shares something and is up. */
static node_id next_peer(struct replica *replica)
{
    size_t count = rangemap_member_count(replica->map);
    for (size_t i = 0; i < count; i++) {
        replica->repair_member = (replica->repair_member + 1) % count;
        struct member member = rangemap_member(replica->map, replica->repair_member);
        if (member.id == replica->self.id || member.state == MEMBER_EXCLUDED) continue;
        if (!replica_is_down(replica, member.id) && shares_any(replica, member.id))
            return member.id;
    }
    return 0;
}

void replica_repair_tick(struct replica *replica)
{
    uint64_t now_ms = replica->time.now_ms;
    repair_tick(&replica->repair, now_ms, &replica->outbox);
    if (now_ms >= replica->repair_ms) {
        /* Not all at once: pairs would drive each other. */
        replica->repair_ms = now_ms + REPLICA_REPAIR_MS / 2 +
                             prng_below(&replica->prng, REPLICA_REPAIR_MS);
        node_id peer = next_peer(replica);
        if (peer != 0) repair_begin(&replica->repair, peer, now_ms, &replica->outbox);
    }
    replica_take_outbox(replica);
}

void replica_repair_message(struct replica *replica, node_id from, struct slice bytes)
{
    if (repair_receive(&replica->repair, from, bytes, replica->time.now_ms, &replica->outbox) !=
        STATUS_OK)
        replica->stats.invalid_count++;
    replica_take_outbox(replica);
}

uint64_t replica_repair_due_ms(const struct replica *replica)
{
    return u64_min(replica->repair_ms, repair_due_ms(&replica->repair));
}
