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
    struct store_outcome outcome;
    replica_merge(context, key, record, &outcome);
    return outcome.status;
}

static bool env_owns_with(void *context, node_id peer, struct slice key)
{
    const struct replica *replica = context;
    struct shard shard = rangemap_shard(replica->map, rangemap_find(replica->map, key));
    return takes(&shard, replica->self.id) && takes(&shard, peer);
}

static void env_shared(void *context, node_id peer, enum repair_scope scope, struct buf *ranges)
{
    struct replica *replica = context;
    struct buf shared = {.heap = replica->heap};
    struct key_range range;
    if (scope == REPAIR_ALL)
        shares_ranges(&replica->shares, replica->map, peer, &shared);
    else
        shares_settled(&replica->shares, replica->map, replica->self.id, peer, &shared);
    struct slice rest = buf_slice(&shared);
    while (data_range_next(&rest, &range)) repair_range_append(ranges, &range, 0);
    if (shared.failed) ranges->failed = true;
    buf_deinit(&shared);
}

static bool env_ready(void *context, node_id peer)
{
    return !replica_transfer_waits(context, peer);
}

static uint64_t env_generation_id(void *context)
{
    const struct replica *replica = context;
    return rangemap_identity(replica->map)->generation_id;
}

static uint64_t env_purged(void *context, struct slice ranges)
{
    const struct replica *replica = context;
    return purge_hash(&replica->purge.purge, ranges);
}

static void env_tell_purged(void *context, node_id peer)
{
    struct replica *replica = context;
    struct buf ranges = {.heap = replica->heap};
    env_shared(context, peer, REPAIR_ALL, &ranges);
    if (buf_status(&ranges) == STATUS_OK) replica_purge_tell(replica, peer, buf_slice(&ranges));
    buf_deinit(&ranges);
}

static bool env_is_complete(void *context, struct slice ranges)
{
    const struct replica *replica = context;
    struct key_range range;
    uint64_t ignored;
    bool complete = !replica->topology.unknown;
    while (complete && repair_range_next(&ranges, &range, &ignored))
        complete = purge_is_complete(&replica->purge.purge, &range);
    return complete;
}

static bool knows_all(struct replica *replica, node_id peer, enum repair_scope scope)
{
    struct buf ranges = {.heap = replica->heap};
    env_shared(replica, peer, scope, &ranges);
    bool complete = buf_status(&ranges) == STATUS_OK &&
                    env_is_complete(replica, buf_slice(&ranges));
    buf_deinit(&ranges);
    return complete;
}

static bool knows_owned(const struct replica *replica, node_id peer)
{
    for (size_t i = 0; i < replica->shares.owned.count; i++) {
        struct shard shard = rangemap_shard(replica->map, replica->shares.owned.at[i]);
        struct key_range range = {shard.low, shard.high};
        if (!owners_contain(&shard.owners, replica->self.id) || !takes(&shard, peer)) continue;
        if (!purge_is_complete(&replica->purge.purge, &range)) return false;
    }
    return true;
}

static enum repair_knowledge env_knowledge(void *context, node_id peer, enum repair_scope scope)
{
    struct replica *replica = context;
    if (replica->topology.unknown) return REPAIR_KNOWS_LITTLE;
    if (knows_all(replica, peer, scope)) return REPAIR_KNOWS_ALL;
    return knows_owned(replica, peer) ? REPAIR_KNOWS_OWNED : REPAIR_KNOWS_LITTLE;
}

static bool env_forget(void *context, struct slice key, const struct record *record)
{
    return replica_purge_forget(context, key, record);
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
        .ready = env_ready,
        .generation_id = env_generation_id,
        .purged = env_purged,
        .tell_purged = env_tell_purged,
        .knowledge = env_knowledge,
        .is_complete = env_is_complete,
        .forget = env_forget,
    };
    repair_init(&replica->repair, &env);
    /* The first one soon: it also brings what time it is. */
    replica->repair_ms = replica->time.now_ms +
                         prng_below(&replica->prng, replica->repair_every_ms / 10);
}

/* The next one after the last that is up and not excluded. */
static node_id next_peer(struct replica *replica)
{
    const struct shares *shares = &replica->shares;
    size_t first = 0;
    while (first < shares->peer_count && shares->peers[first] <= replica->repair_peer) first++;
    for (size_t i = 0; i < shares->peer_count; i++) {
        struct member member;
        node_id id = shares->peers[(first + i) % shares->peer_count];
        if (!rangemap_member_find(replica->map, id, &member)) continue;
        if (member.state == MEMBER_EXCLUDED || replica_is_down(replica, id)) continue;
        replica->repair_peer = id;
        return id;
    }
    return 0;
}

/* What is on its way here is compared once it was moved, and not before. */
void replica_repair_begin(struct replica *replica, node_id peer)
{
    uint64_t now_ms = replica->time.now_ms;
    enum repair_scope scope = repair_is_ready(&replica->repair, peer, now_ms) ? REPAIR_ALL
                                                                              : REPAIR_SETTLED;
    repair_begin(&replica->repair, peer, scope, now_ms, &replica->outbox);
}

void replica_repair_tick(struct replica *replica)
{
    uint64_t now_ms = replica->time.now_ms;
    repair_tick(&replica->repair, now_ms, &replica->outbox);
    if (now_ms >= replica->repair_ms) {
        /* Not all at once: pairs would drive each other. */
        replica->repair_ms = now_ms + replica->repair_every_ms / 2 +
                             prng_below(&replica->prng, replica->repair_every_ms);
        node_id peer = next_peer(replica);
        if (peer != 0) replica_repair_begin(replica, peer);
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
