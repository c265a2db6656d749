/* Moving shards: how far this node is with those that come to it, and go from it.
 *
 *     filling     who comes compares with RF - W + 1 owners, beginning after every member writes to
 *                 both sets (it has acknowledged the version that began the stage), and hears from
 *                 every member that it is owed no hint: then it is synced. Who stays does the same,
 *                 itself counted, where readers of the next owners would not meet every write
 *     switched    reads ask next owners, and those that are not synced answer that they are not
 *                 complete. Who goes compares with one of those, so that nothing is left here alone
 *     sweep       who owns a range no more forgets it once no map that says otherwise is in use
 *
 * What is proposed, and by whom: replica_propose.c. docs/design/moves.md has the reasons. */
#include <xxhash.h>

#include "base/check.h"
#include "base/math.h"
#include "base/planted.h"
#include "cluster/topology_message.h"
#include "node/replica_private.h"

enum {
    MOVES_INTERVAL_MS = 1000,
    MOVES_AGAIN_MS = 100,   /* When what was joined is not durable yet. */
    MOVES_SWEEP_KEYS = 256, /* Forgotten in one turn, ... */
    MOVES_SWEEP_MS = 50,    /* ... of which there are so many while there is something to forget. */
};

uint64_t replica_low_hash(struct slice low)
{
    return XXH3_64bits(low.data, low.size);
}

/* --- Who has what to do --- */

static unsigned sync_need(const struct owners *owners)
{
    return (unsigned)(owners->count - owners->write_quorum + 1);
}

/* Enough next owners to read from, and any of them that were owners already would meet every write
 * that the owners acknowledged: these have nothing to catch up. And of each write there are as many copies as one of
 * the next owners leaves: whoever comes brings one, and whoever goes takes one away. */
static bool stays_complete(const struct shard *shard)
{
    const struct owners *owners = &shard->owners, *next = &shard->next;
    return next->read_quorum >= sync_need(owners) &&
           owners->write_quorum + next->count >= next->write_quorum + owners->count;
}

bool replica_is_next_only(const struct shard *shard, node_id id)
{
    return shard->stage != SHARD_STABLE && owners_contain(&shard->next, id) &&
           !owners_contain(&shard->owners, id);
}

enum filling_part replica_filling_part(const struct shard *shard, node_id id)
{
    if (shard->stage == SHARD_STABLE) return FILLING_NONE;
    if (replica_is_next_only(shard, id)) return FILLING_COMES;
    if (!owners_contain(&shard->owners, id)) return FILLING_NONE;
    if (owners_contain(&shard->next, id))
        return stays_complete(shard) ? FILLING_NONE : FILLING_STAYS;
    return shard->stage == SHARD_SWITCHED ? FILLING_GOES : FILLING_NONE;
}

/* With whom it compares. */
static const struct owners *others_of(const struct shard *shard, enum filling_part part)
{
    return part == FILLING_GOES ? &shard->next : &shard->owners;
}

/* How many of them, if so many are left. */
static unsigned compare_need(const struct replica *replica, const struct shard *shard,
                             enum filling_part part)
{
    if (part == FILLING_GOES) return 1;
    unsigned left = 0, need = sync_need(&shard->owners);
    for (size_t i = 0; i < shard->owners.count; i++) {
        struct member member;
        CHECK(rangemap_member_find(replica->map, shard->owners.ids[i], &member));
        left += member.state != MEMBER_EXCLUDED;
    }
    if (left < need) need = left; /* By force: what the others had is lost. */
    return part == FILLING_STAYS ? need - 1 : need;
}

/* --- How far this node is --- */

struct filling *replica_filling(const struct replica *replica, struct slice low)
{
    const struct replica_moves *moves = &replica->moves;
    uint64_t hash = replica_low_hash(low);
    for (size_t i = 0; i < moves->filling_count; i++)
        if (moves->filling[i].low_hash == hash) return &moves->filling[i];
    return NULL;
}

/* How far it was before, under whatever name: splits copy the stage, and switching keeps what was
 * filled. NULL: it was not. */
static const struct filling *filled_before(const struct replica *replica,
                                           const struct rangemap *before, const struct shard *shard)
{
    if (before == NULL) return NULL;
    node_id self = replica->self.id;
    struct shard old = rangemap_shard(before, rangemap_find(before, shard_first_key(shard)));
    bool same = owners_same_nodes(&old.next, &shard->next) &&
                owners_same_nodes(&old.owners, &shard->owners) &&
                replica_filling_part(&old, self) == replica_filling_part(shard, self);
    return same ? replica_filling(replica, old.low) : NULL;
}

void replica_moves_map_changed(struct replica *replica, const struct rangemap *before)
{
    struct replica_moves *moves = &replica->moves;
    struct filling *list = NULL;
    size_t count = 0, capacity = 0;
    for (size_t i = 0; i < replica->shares.moving.count; i++) {
        struct shard shard = rangemap_shard(replica->map, replica->shares.moving.at[i]);
        if (replica_filling_part(&shard, replica->self.id) == FILLING_NONE) continue;
        if (count == capacity) {
            capacity = size_max(16, capacity * 2);
            struct filling *more = heap_realloc(replica->heap, list, capacity * sizeof *more);
            if (more == NULL) break; /* It is not synced, as far as it knows, until the next map. */
            list = more;
        }
        const struct filling *old = filled_before(replica, before, &shard);
        list[count++] = (struct filling){
            .low_hash = replica_low_hash(shard.low),
            .began = shard.began,
            .compared = old != NULL && old->began == shard.began ? old->compared : 0,
            .moved = old != NULL && old->moved,
            .failures = old == NULL ? 0 : old->failures,
            .synced = old != NULL && old->synced,
        };
    }
    heap_free(replica->heap, moves->filling);
    moves->filling = list;
    moves->filling_count = count;
    moves->swept = moves->slot_is_anew = false;
    buf_clear(&moves->sweep_from);
    replica->topology.moves_ms = 0;
}

void replica_moves_generation(struct replica *replica)
{
    replica->moves.heard_count = 0;
    replica->moves.clear_count = 0;
}

void replica_moves_lost(struct replica *replica)
{
    struct replica_moves *moves = &replica->moves;
    repair_abandon(&replica->repair);
    replica->repair.completed_count = 0;
    for (size_t i = 0; i < moves->filling_count; i++) {
        moves->filling[i].compared = 0;
        moves->filling[i].joined = 0;
        moves->filling[i].synced = false;
    }
}

bool replica_is_filled(const struct replica *replica, const struct shard *shard)
{
    enum filling_part part = replica_filling_part(shard, replica->self.id);
    if (part == FILLING_NONE || part == FILLING_GOES) return true;
    if (part == FILLING_STAYS && shard->stage == SHARD_FILLING) return true;
    if (planted(BUG_READS_UNSYNCED)) return true;
    const struct filling *filling = replica_filling(replica, shard->low);
    return filling != NULL && filling->synced;
}

bool replica_is_complete(const struct replica *replica, const struct shard *shard)
{
    return replica_is_filled(replica, shard) && replica_purge_is_complete(replica, shard);
}

static int place_of(const struct owners *owners, node_id id)
{
    for (int i = 0; i < owners->count; i++)
        if (owners->ids[i] == id) return i;
    return -1;
}

/* Owners count that know all that was acknowledged: what a disk that was set back lacks may be at one other
 * alone. Who goes leaves what it has with any. */
static bool counts(const struct repair_completed *session, enum filling_part part)
{
    return part == FILLING_GOES || session->peer_knows >= REPAIR_KNOWS_OWNED ||
           planted(BUG_FILLED_BY_WHO_KNOWS_LITTLE);
}

/* A session is complete; it began when every member had acknowledged its epoch. */
static void compared(struct replica *replica, const struct repair_completed *session)
{
    for (size_t i = 0; i < replica->shares.moving.count; i++) {
        struct shard shard = rangemap_shard(replica->map, replica->shares.moving.at[i]);
        enum filling_part part = replica_filling_part(&shard, replica->self.id);
        if (part == FILLING_NONE || shard.began > session->epoch) continue;
        if (!counts(session, part)) continue;
        struct filling *filling = replica_filling(replica, shard.low);
        int place = place_of(others_of(&shard, part), session->peer);
        if (filling == NULL || place < 0) continue;
        filling->compared |= (uint8_t)(1 << place);
    }
}

/* --- Hints that this node is owed --- */

static size_t clear_place(const struct replica_moves *moves, node_id id)
{
    size_t low = 0, high = moves->clear_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (moves->clear[middle].node < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static uint64_t clear_of(const struct replica_moves *moves, node_id id)
{
    size_t place = clear_place(moves, id);
    bool found = place < moves->clear_count && moves->clear[place].node == id;
    return found ? moves->clear[place].number : 0;
}

static void note_clear(struct replica *replica, node_id id, uint64_t number)
{
    struct replica_moves *moves = &replica->moves;
    size_t place = clear_place(moves, id);
    if (place < moves->clear_count && moves->clear[place].node == id) {
        moves->clear[place].number = u64_max(moves->clear[place].number, number);
        return;
    }
    if (moves->clear_count == moves->clear_capacity) {
        size_t capacity = size_max(16, moves->clear_capacity * 2);
        struct clearance *more = heap_realloc(replica->heap, moves->clear, capacity * sizeof *more);
        if (more == NULL) return; /* It is asked again. */
        moves->clear = more;
        moves->clear_capacity = capacity;
    }
    for (size_t i = moves->clear_count++; i > place; i--) moves->clear[i] = moves->clear[i - 1];
    moves->clear[place] = (struct clearance){id, number};
}

/* The least number of a map from which on each member that is waited for owes this node nothing
 * older. */
static uint64_t least_clear(const struct replica *replica)
{
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < rangemap_member_count(replica->map); i++) {
        struct member member = rangemap_member(replica->map, i);
        if (member.id == replica->self.id || member.state != MEMBER_ACTIVE) continue;
        least = u64_min(least, clear_of(&replica->moves, member.id));
    }
    return least;
}

static void ask_clear(struct replica *replica, uint64_t began)
{
    const struct rangemap_identity *identity = rangemap_identity(replica->map);
    struct topology_message message = {
        .kind = TOPOLOGY_CLEAR_ASK, .generation = identity->generation, .number = began};
    for (size_t i = 0; i < rangemap_member_count(replica->map); i++) {
        struct member member = rangemap_member(replica->map, i);
        if (member.id == replica->self.id || member.state != MEMBER_ACTIVE) continue;
        if (clear_of(&replica->moves, member.id) < began)
            replica_topology_send(replica, member.id, &message);
    }
}

void replica_moves_clear_asked(struct replica *replica, node_id from,
                               const struct topology_message *message)
{
    const struct rangemap_identity *identity = rangemap_identity(replica->map);
    if (message->generation != identity->generation || message->number > identity->number) return;
    if (!replica_hint_clear(replica, from)) return; /* On their way: it asks again. */
    replica_topology_send(replica, from,
                          &(struct topology_message){.kind = TOPOLOGY_CLEAR,
                                                     .generation = identity->generation,
                                                     .number = identity->number});
}

void replica_moves_clear(struct replica *replica, node_id from,
                         const struct topology_message *message)
{
    const struct rangemap_identity *ours = rangemap_identity(replica->map);
    struct member member;
    /* By a map that is not known here yet: it is asked again. */
    if (message->generation != ours->generation || message->number > ours->number) return;
    if (!rangemap_member_find(replica->map, from, &member)) return;
    note_clear(replica, from, message->number);
}

/* --- Filling --- */

/* What has been compared enough is synced once no hints are owed for it. */
static void conclude(struct replica *replica)
{
    uint64_t clear = least_clear(replica), wanted = 0;
    for (size_t i = 0; i < replica->shares.moving.count; i++) {
        struct shard shard = rangemap_shard(replica->map, replica->shares.moving.at[i]);
        enum filling_part part = replica_filling_part(&shard, replica->self.id);
        struct filling *filling = part == FILLING_NONE ? NULL : replica_filling(replica, shard.low);
        if (filling == NULL || filling->synced || shard.began > replica->topology.retired) continue;
        unsigned compared = (unsigned)__builtin_popcount(filling->compared);
        if (compared < compare_need(replica, &shard, part)) continue;
        if (part != FILLING_GOES && clear < shard.began && !planted(BUG_HINTS_NOT_ASKED_FOR)) {
            wanted = u64_max(wanted, shard.began);
            continue;
        }
        /* Reads see what is durable. */
        if (filling->joined == 0)
            filling->joined = store_next_sequence(replica->store) - !replica->batch_open;
        if (store_visible_sequence(replica->store) < filling->joined &&
            !planted(BUG_FILLED_BEFORE_DURABLE)) {
            replica->topology.moves_ms = replica->time.now_ms + MOVES_AGAIN_MS;
            continue;
        }
        filling->synced = true;
        if (part == FILLING_COMES) replica_purge_filled(replica, &shard);
        TRACE(replica->trace, "synced a shard of version %llu", (unsigned long long)shard.began);
    }
    if (wanted > 0) ask_clear(replica, wanted);
}

/* What is to be moved, and the next one to compare with for a shard that is not synced. */
static void fill(struct replica *replica)
{
    replica_transfer_begin(replica);
    for (size_t i = 0; i < replica->shares.moving.count; i++) {
        struct shard shard = rangemap_shard(replica->map, replica->shares.moving.at[i]);
        enum filling_part part = replica_filling_part(&shard, replica->self.id);
        if (part == FILLING_NONE || shard.began > replica->topology.retired) continue;
        const struct filling *filling = replica_filling(replica, shard.low);
        if (filling == NULL || filling->synced) continue;
        if (part == FILLING_COMES && !filling->moved) continue;
        const struct owners *others = others_of(&shard, part);
        for (int j = 0; j < others->count; j++) {
            bool done = (filling->compared & 1 << j) != 0 || others->ids[j] == replica->self.id;
            if (done || replica_is_down(replica, others->ids[j])) continue;
            if (repair_begin(&replica->repair, others->ids[j], REPAIR_ALL, replica->time.now_ms,
                             &replica->outbox))
                return;
        }
    }
}

/* Tells the proposer what is synced here, again and again: it may be another one by now. What one message has no
 * room for comes the next time. */
static void report(struct replica *replica)
{
    struct replica_moves *moves = &replica->moves;
    size_t count = replica->shares.moving.count, i = moves->reported < count ? moves->reported : 0;
    node_id to = replica_proposer(replica);
    struct topology_message message = {
        .kind = TOPOLOGY_SYNCED,
        .generation = rangemap_identity(replica->map)->generation,
        .number = rangemap_identity(replica->map)->number,
    };
    buf_clear(&replica->ranges);
    for (; i < count && message.shard_count < TOPOLOGY_SYNCED_MAX; i++) {
        struct shard shard = rangemap_shard(replica->map, replica->shares.moving.at[i]);
        if (replica_filling_part(&shard, replica->self.id) == FILLING_NONE) continue;
        const struct filling *filling = replica_filling(replica, shard.low);
        if (filling == NULL || !filling->synced) continue;
        topology_shard_append(&replica->ranges, shard.low, shard.began);
        message.shard_count++;
    }
    moves->reported = i;
    if (message.shard_count == 0 || replica->ranges.failed) return;
    message.shards = buf_slice(&replica->ranges);
    topology_message_encode(&message, outbox_begin(&replica->outbox, to, PROTOCOL_TOPOLOGY));
    /* What was joined here to become so must stay, whoever is told, this node as well. */
    outbox_end(&replica->outbox, true);
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
    if (count == 0) return;
    /* Some may come back here, and others know what was added to them. Once is enough for all that go by this
     * map, and a record has room for so many slots only. */
    if (!moves->slot_is_anew) replica_next_slot(replica);
    moves->slot_is_anew = true;
    TRACE(replica->trace, "forgot %zu keys of others", count);
}

/* --- Time --- */

void replica_moves_tick(struct replica *replica)
{
    struct replica_moves *moves = &replica->moves;
    struct replica_topology *topology = &replica->topology;
    uint64_t now_ms = replica->time.now_ms;
    struct repair_completed completed;
    while (repair_next_complete(&replica->repair, &completed)) {
        if (completed.scope == REPAIR_ALL) compared(replica, &completed);
        replica_purge_compared(replica, &completed);
    }
    replica->repair.epoch = topology->retired;
    /* Only when nobody goes by a map in which some of it was still ours. */
    bool settled = topology->older_count == 0 || planted(BUG_DROP_EARLY);
    if (settled && !moves->swept && now_ms >= moves->sweep_ms) {
        sweep(replica);
        moves->sweep_ms = now_ms +
                          (moves->sweep_from.size > 0 ? MOVES_SWEEP_MS : MOVES_INTERVAL_MS);
    }
    if (now_ms < topology->moves_ms) return;
    topology->moves_ms = now_ms + MOVES_INTERVAL_MS / 2 +
                         prng_below(&replica->prng, MOVES_INTERVAL_MS);
    replica_map_fetch_missed(replica);
    replica_members_watch(replica);
    fill(replica);
    conclude(replica);
    report(replica);
    if (!replica->map_stays) replica_propose(replica);
}

uint64_t replica_moves_due_ms(const struct replica *replica)
{
    const struct replica_moves *moves = &replica->moves;
    uint64_t due = replica->topology.moves_ms;
    bool sweeps = replica->topology.older_count == 0 && moves->sweep_from.size > 0;
    return sweeps ? u64_min(due, moves->sweep_ms) : due;
}

void replica_moves_free(struct replica *replica)
{
    heap_free(replica->heap, replica->moves.filling);
    heap_free(replica->heap, replica->moves.heard);
    heap_free(replica->heap, replica->moves.clear);
    buf_deinit(&replica->moves.sweep_from);
}
