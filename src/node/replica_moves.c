/* Moving shards: what is proposed next, and how far a next owner is.
 *
 *     filling     a next owner compares with RF - W + 1 owners, beginning after every member writes to
 *                 both sets (it has acknowledged the version that began the stage): then it is synced
 *     SWITCH      proposed when max(R, RF - W + 1) next owners are synced; from then on reads ask
 *                 next owners, and those that are not synced answer that they are not complete
 *     FINISH      proposed when all of them are
 *     sweep       who owns a range no more forgets it once no map that says otherwise is in use
 *
 * Proposals come from the first member that is up, in its own view; two that think so do no harm, for
 * the register chooses one. What is proposed: arrows that are due, changes that people asked for,
 * members that are gone, and then what placement wants. */
#include <xxhash.h>

#include "base/check.h"
#include "base/math.h"
#include "base/planted.h"
#include "cluster/placement.h"
#include "cluster/rangemap_delta.h"
#include "cluster/topology_message.h"
#include "node/replica_private.h"

enum {
    MOVES_INTERVAL_MS = 1000,
    MOVES_AT_ONCE = 8,       /* Of one proposal. */
    MOVES_PER_NODE = 4,      /* Shards that one node is being given at a time. */
    MOVES_SWEEP_KEYS = 256,  /* Forgotten in one turn. */
    MOVES_HEARD_MAX = 16384, /* Reports kept. */
};

static uint64_t low_hash(struct slice low)
{
    return XXH3_64bits(low.data, low.size);
}

/* --- How far this node is --- */

static bool is_next_only(const struct shard *shard, node_id id)
{
    return shard->stage != SHARD_STABLE && owners_contain(&shard->next, id) &&
           !owners_contain(&shard->owners, id);
}

static struct filling *find_filling(const struct replica *replica, struct slice low)
{
    const struct replica_moves *moves = &replica->moves;
    uint64_t hash = low_hash(low);
    for (size_t i = 0; i < moves->filling_count; i++)
        if (moves->filling[i].low_hash == hash) return &moves->filling[i];
    return NULL;
}

/* Whether it was synced before, under whatever name: splits copy the stage, and switching keeps what
 * was filled. */
static bool was_synced(const struct replica *replica, const struct rangemap *before,
                       const struct shard *shard)
{
    struct slice key = shard->low.size == 0 ? REPLICA_KEY_FIRST : shard->low;
    struct shard old = rangemap_shard(before, rangemap_find(before, key));
    if (!is_next_only(&old, replica->self.id) || !owners_same_nodes(&old.next, &shard->next))
        return false;
    const struct filling *filling = find_filling(replica, old.low);
    return filling != NULL && filling->synced;
}

void replica_moves_map_changed(struct replica *replica, const struct rangemap *before)
{
    struct replica_moves *moves = &replica->moves;
    struct filling *list = NULL;
    size_t count = 0, capacity = 0;
    for (size_t i = 0; i < rangemap_shard_count(replica->map); i++) {
        struct shard shard = rangemap_shard(replica->map, i);
        if (!is_next_only(&shard, replica->self.id)) continue;
        if (count == capacity) {
            capacity = size_max(16, capacity * 2);
            struct filling *more = heap_realloc(replica->heap, list, capacity * sizeof *more);
            if (more == NULL) break; /* It is not synced, as far as it knows, until the next map. */
            list = more;
        }
        list[count++] = (struct filling){
            .low_hash = low_hash(shard.low),
            .began = shard.began,
            .synced = before != NULL && was_synced(replica, before, &shard),
        };
    }
    heap_free(replica->heap, moves->filling);
    moves->filling = list;
    moves->filling_count = count;
    moves->swept = false;
    buf_clear(&moves->sweep_from);
    replica->topology.moves_ms = 0;
}

void replica_moves_generation(struct replica *replica)
{
    replica->moves.heard_count = 0;
}

void replica_moves_lost(struct replica *replica)
{
    struct replica_moves *moves = &replica->moves;
    repair_abandon(&replica->repair);
    replica->repair.completed_count = 0;
    for (size_t i = 0; i < moves->filling_count; i++) {
        moves->filling[i].compared = 0;
        moves->filling[i].synced = false;
    }
}

bool replica_is_complete(const struct replica *replica, const struct shard *shard)
{
    if (!is_next_only(shard, replica->self.id)) return true;
    if (planted(BUG_READS_UNSYNCED)) return true;
    const struct filling *filling = find_filling(replica, shard->low);
    return filling != NULL && filling->synced;
}

static int place_of(const struct owners *owners, node_id id)
{
    for (int i = 0; i < owners->count; i++)
        if (owners->ids[i] == id) return i;
    return -1;
}

static unsigned sync_need(const struct owners *owners)
{
    return (unsigned)(owners->count - owners->write_quorum + 1);
}

/* A comparison with `peer` that began when every member had acknowledged `epoch` is complete. */
static void compared_with(struct replica *replica, node_id peer, uint64_t epoch)
{
    for (size_t i = 0; i < rangemap_shard_count(replica->map); i++) {
        struct shard shard = rangemap_shard(replica->map, i);
        if (!is_next_only(&shard, replica->self.id) || shard.began > epoch) continue;
        struct filling *filling = find_filling(replica, shard.low);
        int place = place_of(&shard.owners, peer);
        if (filling == NULL || place < 0) continue;
        filling->compared |= (uint8_t)(1 << place);
        if (filling->synced ||
            (unsigned)__builtin_popcount(filling->compared) < sync_need(&shard.owners))
            continue;
        filling->synced = true;
        TRACE(replica->trace, "synced a shard of version %llu", (unsigned long long)shard.began);
    }
}

/* The next owner to compare with for a shard that is not synced. */
static void fill(struct replica *replica)
{
    for (size_t i = 0; i < rangemap_shard_count(replica->map); i++) {
        struct shard shard = rangemap_shard(replica->map, i);
        if (!is_next_only(&shard, replica->self.id)) continue;
        if (shard.began > replica->topology.retired) continue;
        const struct filling *filling = find_filling(replica, shard.low);
        if (filling == NULL || filling->synced) continue;
        for (int j = 0; j < shard.owners.count; j++) {
            bool done = (filling->compared & 1 << j) != 0;
            if (done || replica_is_down(replica, shard.owners.ids[j])) continue;
            if (repair_begin(&replica->repair, shard.owners.ids[j], replica->time.now_ms,
                             &replica->outbox))
                return;
        }
    }
}

/* --- Who proposes, and what it has heard --- */

static node_id proposer(const struct replica *replica)
{
    for (size_t i = 0; i < rangemap_member_count(replica->map); i++) {
        struct member member = rangemap_member(replica->map, i);
        bool up = member.id == replica->self.id || !replica_is_down(replica, member.id);
        if (member.state == MEMBER_ACTIVE && up) return member.id;
    }
    return replica->self.id;
}

static void hear(struct replica *replica, node_id from, struct slice low, uint64_t began)
{
    struct replica_moves *moves = &replica->moves;
    struct heard heard = {low_hash(low), began, from};
    for (size_t i = 0; i < moves->heard_count; i++) {
        struct heard *at = &moves->heard[i];
        if (at->low_hash == heard.low_hash && at->node == from) {
            at->began = u64_max(at->began, began);
            return;
        }
    }
    if (moves->heard_count == MOVES_HEARD_MAX) moves->heard_count = 0; /* It is told again. */
    if (moves->heard_count == moves->heard_capacity) {
        size_t capacity = size_max(64, moves->heard_capacity * 2);
        struct heard *more = heap_realloc(replica->heap, moves->heard, capacity * sizeof *more);
        if (more == NULL) return;
        moves->heard = more;
        moves->heard_capacity = capacity;
    }
    moves->heard[moves->heard_count++] = heard;
}

static bool has_heard(const struct replica *replica, const struct shard *shard, node_id node)
{
    const struct replica_moves *moves = &replica->moves;
    uint64_t hash = low_hash(shard->low);
    for (size_t i = 0; i < moves->heard_count; i++)
        if (moves->heard[i].low_hash == hash && moves->heard[i].node == node)
            return moves->heard[i].began == shard->began;
    return false;
}

void replica_moves_synced(struct replica *replica, node_id from,
                          const struct topology_message *message)
{
    struct slice rest = message->shards, low;
    uint64_t began;
    if (message->generation != rangemap_identity(replica->map)->generation) return;
    while (topology_shard_next(&rest, &low, &began)) hear(replica, from, low, began);
}

/* Tells the proposer what is synced here, again and again: it may be another one by now. */
static void report(struct replica *replica)
{
    node_id to = proposer(replica);
    struct topology_message message = {
        .kind = TOPOLOGY_SYNCED,
        .generation = rangemap_identity(replica->map)->generation,
        .number = rangemap_identity(replica->map)->number,
    };
    buf_clear(&replica->ranges);
    for (size_t i = 0; i < rangemap_shard_count(replica->map); i++) {
        struct shard shard = rangemap_shard(replica->map, i);
        if (!is_next_only(&shard, replica->self.id)) continue;
        const struct filling *filling = find_filling(replica, shard.low);
        if (filling == NULL || !filling->synced) continue;
        if (message.shard_count == TOPOLOGY_SYNCED_MAX) break;
        topology_shard_append(&replica->ranges, shard.low, shard.began);
        message.shard_count++;
    }
    if (message.shard_count == 0 || replica->ranges.failed) return;
    message.shards = buf_slice(&replica->ranges);
    topology_message_encode(&message, outbox_begin(&replica->outbox, to, PROTOCOL_TOPOLOGY));
    /* What was joined here to become so must stay, whoever is told, this node as well. */
    outbox_end(&replica->outbox, true);
}

/* --- What is due --- */

static unsigned count_synced(const struct replica *replica, const struct shard *shard)
{
    unsigned count = 0;
    for (size_t i = 0; i < shard->next.count; i++) {
        node_id id = shard->next.ids[i];
        count += owners_contain(&shard->owners, id) || has_heard(replica, shard, id);
    }
    return count;
}

static bool is_due(const struct replica *replica, const struct shard *shard, enum change_kind *kind)
{
    if (shard->stage == SHARD_STABLE) return false;
    /* Nobody goes by the stage before any more. */
    if (replica->topology.retired < shard->began && !planted(BUG_ARROW_EARLY)) return false;
    unsigned synced = count_synced(replica, shard);
    unsigned need = shard->next.count;
    *kind = CHANGE_FINISH;
    if (shard->stage == SHARD_FILLING) {
        unsigned quorum = shard->next.read_quorum;
        need = quorum > sync_need(&shard->next) ? quorum : sync_need(&shard->next);
        *kind = CHANGE_SWITCH;
        if (planted(BUG_SWITCH_TOO_FEW)) need = 1;
    }
    return synced >= need;
}

static size_t add_arrows(const struct replica *replica, struct buf *delta, size_t *in_flight)
{
    size_t count = 0;
    *in_flight = 0;
    for (size_t i = 0; i < rangemap_shard_count(replica->map); i++) {
        struct shard shard = rangemap_shard(replica->map, i);
        struct change change = {.low = shard.low};
        *in_flight += shard.stage != SHARD_STABLE;
        if (count == 4 * MOVES_AT_ONCE || !is_due(replica, &shard, &change.kind)) continue;
        rangemap_delta_add(delta, &change);
        count++;
    }
    return count;
}

/* Whether what was asked for is so already. */
static bool is_granted(const struct replica *replica, const struct change *change)
{
    struct member member;
    if (change->kind == CHANGE_MEMBER_ADD) {
        for (size_t i = 0; i < rangemap_member_count(replica->map); i++)
            if (rangemap_member(replica->map, i).incarnation == change->member.incarnation)
                return true;
        return false;
    }
    if (!rangemap_member_find(replica->map, change->member.id, &member)) return true;
    if (change->kind == CHANGE_MEMBER_LEAVING) return member.leaving == change->member.leaving;
    return member.state == change->member.state;
}

static bool applies(const struct replica *replica, const struct buf *delta)
{
    struct rangemap *next;
    const char *why = NULL;
    if (buf_status(delta) != STATUS_OK) return false;
    enum status status = rangemap_apply(replica->map, buf_slice(delta), &why, &next);
    if (status == STATUS_OK) rangemap_unref(next);
    if (why != NULL) TRACE(replica->trace, "cannot propose: %s", why);
    return status == STATUS_OK;
}

/* The first that the map takes: others may become possible, and keep nobody waiting. */
static size_t add_wishes(struct replica *replica, struct buf *delta)
{
    struct replica_moves *moves = &replica->moves;
    size_t kept = 0;
    for (size_t i = 0; i < moves->wish_count; i++)
        if (!is_granted(replica, &moves->wishes[i].change))
            moves->wishes[kept++] = moves->wishes[i];
    moves->wish_count = kept;
    for (size_t i = 0; i < kept; i++) {
        struct change change = moves->wishes[i].change;
        if (change.kind == CHANGE_MEMBER_ADD) {
            if (rangemap_next_id(replica->map) > NODE_ID_MAX) continue;
            change.member.id = (node_id)rangemap_next_id(replica->map);
        }
        change.member.zone = slice_from_text(moves->wishes[i].zone);
        change.member.address = slice_from_text(moves->wishes[i].address);
        rangemap_delta_add(delta, &change);
        if (applies(replica, delta)) return 1;
        rangemap_delta_begin(replica->map, delta);
    }
    return 0;
}

static bool owns_anything(const struct rangemap *map, node_id id)
{
    for (size_t i = 0; i < rangemap_shard_count(map); i++) {
        struct shard shard = rangemap_shard(map, i);
        if (owners_contain(&shard.owners, id) || owners_contain(&shard.next, id)) return true;
    }
    return false;
}

static size_t add_removals(const struct replica *replica, struct buf *delta)
{
    for (size_t i = 0; i < rangemap_member_count(replica->map); i++) {
        struct member member = rangemap_member(replica->map, i);
        bool goes = member.leaving || member.state == MEMBER_EXCLUDED;
        if (!goes || owns_anything(replica->map, member.id)) continue;
        rangemap_delta_add(delta,
                           &(struct change){.kind = CHANGE_MEMBER_REMOVE, .member.id = member.id});
        return 1;
    }
    return 0;
}

static size_t add_moves(const struct replica *replica, struct buf *delta)
{
    struct placement_move plan[MOVES_AT_ONCE];
    struct placement_bounds bounds = {.moves_max = MOVES_AT_ONCE, .node_moves_max = MOVES_PER_NODE};
    size_t shards = rangemap_shard_count(replica->map), count = 0;
    struct shard_weight *weights = heap_alloc(replica->heap, shards * sizeof *weights);
    if (weights == NULL) return 0;
    for (size_t i = 0; i < shards; i++) weights[i] = (struct shard_weight){1, 0};
    enum status status =
        placement_plan(replica->map, weights, &bounds, replica->heap, plan, &count);
    heap_free(replica->heap, weights);
    if (status != STATUS_OK) return 0;
    for (size_t i = 0; i < count; i++) {
        struct change change = {.kind = CHANGE_BEGIN,
                                .low = rangemap_shard(replica->map, plan[i].shard).low,
                                .next_count = plan[i].next_count};
        for (size_t j = 0; j < plan[i].next_count; j++) change.next[j] = plan[i].next[j];
        rangemap_delta_add(delta, &change);
    }
    return count;
}

/* One kind of change at a time: each may be refused for another reason. */
static void propose(struct replica *replica, bool first)
{
    struct buf delta = {.heap = replica->heap};
    size_t in_flight;
    rangemap_delta_begin(replica->map, &delta);
    size_t count = first ? add_arrows(replica, &delta, &in_flight) : 0;
    if (count == 0) count = add_wishes(replica, &delta);
    if (count == 0 && first) count = add_removals(replica, &delta);
    if (count == 0) count = replica_splits_add(replica, &delta);
    if (count == 0 && first && in_flight < 2 * MOVES_AT_ONCE) count = add_moves(replica, &delta);
    if (count > 0 && applies(replica, &delta)) {
        enum status status = register_propose(&replica->topology.reg, buf_slice(&delta),
                                              replica->time.now_ms, &replica->prng,
                                              &replica->outbox);
        (void)status; /* Busy, or decided meanwhile: there is a next time. */
    }
    buf_deinit(&delta);
}

/* --- Asked for --- */

bool replica_change(struct replica *replica, const struct change *change)
{
    struct replica_moves *moves = &replica->moves;
    if (is_granted(replica, change)) return true;
    for (size_t i = 0; i < moves->wish_count; i++) {
        const struct change *other = &moves->wishes[i].change;
        if (other->kind == change->kind && other->member.id == change->member.id &&
            other->member.incarnation == change->member.incarnation)
            return false;
    }
    if (moves->wish_count == REPLICA_WISHES_MAX) return false;
    if (change->member.zone.size > RANGEMAP_ZONE_BYTES_MAX ||
        change->member.address.size > RANGEMAP_ADDRESS_BYTES_MAX)
        return false;
    struct wish *wish = &moves->wishes[moves->wish_count++];
    *wish = (struct wish){.change = *change};
    if (change->member.zone.size > 0)
        memcpy(wish->zone, change->member.zone.data, change->member.zone.size);
    if (change->member.address.size > 0)
        memcpy(wish->address, change->member.address.data, change->member.address.size);
    replica->topology.moves_ms = 0;
    return false;
}

void replica_moves_join(struct replica *replica, const struct member *member)
{
    replica_change(replica, &(struct change){.kind = CHANGE_MEMBER_ADD, .member = *member});
}

void replica_join_ask(const struct member *member, struct buf *out)
{
    topology_message_encode(&(struct topology_message){.kind = TOPOLOGY_JOIN, .member = *member},
                            out);
}

bool replica_join_answer(struct replica *replica, struct replica_time time, struct slice ask,
                         struct buf *answer)
{
    struct topology_message message;
    replica->time = replica_clock_look(replica, time);
    if (topology_message_decode(ask, &message) != STATUS_OK || message.kind != TOPOLOGY_JOIN) {
        replica->stats.invalid_count++;
        return false;
    }
    struct change change = {.kind = CHANGE_MEMBER_ADD, .member = message.member};
    if (!replica_change(replica, &change)) return false;
    rangemap_encode(replica->map, answer);
    return buf_status(answer) == STATUS_OK;
}

enum status replica_join_take(struct heap *heap, struct slice answer, uint64_t incarnation,
                              struct rangemap **map, node_id *id)
{
    struct rangemap *decoded;
    enum status status = rangemap_decode(heap, answer, &decoded);
    if (status != STATUS_OK) return status;
    for (size_t i = 0; i < rangemap_member_count(decoded); i++) {
        struct member member = rangemap_member(decoded, i);
        if (member.incarnation != incarnation || member.state == MEMBER_EXCLUDED) continue;
        *map = decoded;
        *id = member.id;
        return STATUS_OK;
    }
    rangemap_unref(decoded);
    return STATUS_NOT_FOUND;
}

/* --- Sweeping --- */

struct sweep {
    struct replica *replica;
    size_t count;
};

static enum status sweep_key(struct replica *replica, struct slice key)
{
    struct store_outcome outcome;
    replica_store_write(replica, &(struct store_write){.kind = STORE_FORGET, .key = key}, &outcome);
    return outcome.status;
}

/* Forgets some keys of the first shard that this node does not own and that is not empty. */
static void sweep(struct replica *replica)
{
    struct replica_moves *moves = &replica->moves;
    struct query query = replica_query(replica);
    struct query_iterator *iterator;
    size_t count = 0, looked = 0;
    if (query_iterator_open(&query, (struct slice){0}, QUERY_CURRENT, &iterator) != STATUS_OK)
        return;
    struct slice from = moves->sweep_from.size == 0 ? REPLICA_KEY_FIRST
                                                    : buf_slice(&moves->sweep_from);
    enum status status = query_iterator_seek(iterator, from);
    while (status == STATUS_OK && count < MOVES_SWEEP_KEYS && looked < 16 * MOVES_SWEEP_KEYS) {
        struct slice key = query_iterator_key(iterator);
        struct shard shard = rangemap_shard(replica->map, rangemap_find(replica->map, key));
        looked++;
        if (rangemap_takes(replica->map, replica->self.id, key)) {
            /* On behind a shard that is ours. */
            status = shard.high.size == 0 ? STATUS_END : query_iterator_seek(iterator, shard.high);
            continue;
        }
        count++;
        if (sweep_key(replica, key) != STATUS_OK) break;
        status = query_iterator_next(iterator);
    }
    if (status == STATUS_OK) {
        struct slice key = query_iterator_key(iterator);
        buf_clear(&moves->sweep_from);
        buf_append_slice(&moves->sweep_from, key);
    } else {
        moves->swept = status == STATUS_END;
        buf_clear(&moves->sweep_from);
    }
    query_iterator_close(iterator);
    if (count > 0) TRACE(replica->trace, "forgot %zu keys of others", count);
}

/* --- Time --- */

void replica_moves_tick(struct replica *replica)
{
    struct replica_moves *moves = &replica->moves;
    struct replica_topology *topology = &replica->topology;
    uint64_t now_ms = replica->time.now_ms, epoch;
    node_id peer;
    while (repair_next_complete(&replica->repair, &peer, &epoch))
        compared_with(replica, peer, epoch);
    replica->repair.epoch = topology->retired;
    if (now_ms < topology->moves_ms) return;
    topology->moves_ms = now_ms + MOVES_INTERVAL_MS / 2 +
                         prng_below(&replica->prng, MOVES_INTERVAL_MS);
    replica_map_fetch_missed(replica);
    fill(replica);
    report(replica);
    bool first = proposer(replica) == replica->self.id;
    if (!replica->map_stays) propose(replica, first);
    /* Only when nobody goes by a map in which some of it was still ours. */
    bool settled = topology->older_count == 0 || planted(BUG_DROP_EARLY);
    if (settled && !moves->swept) sweep(replica);
}

void replica_moves_free(struct replica *replica)
{
    heap_free(replica->heap, replica->moves.filling);
    heap_free(replica->heap, replica->moves.heard);
    buf_deinit(&replica->moves.sweep_from);
}
