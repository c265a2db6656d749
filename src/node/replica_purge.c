/* Binds purge to the store: what is kept of it, with whom to compare for it, and the sweep.
 *
 * A range is swept some entries at a time, once what may go is kept in the log before it goes. */
#include "base/check.h"
#include "base/math.h"
#include "base/planted.h"
#include "cluster/purge.h"
#include "node/replica_private.h"

enum {
    PURGE_TURN_MS = 100, /* While there is something to do. */
    PURGE_IDLE_MS = 1000,
    SWEEP_LOOKS_MAX = 2048, /* Entries looked at in one turn, ... */
    SWEEP_DROPS_MAX = 256,  /* ... and of these forgotten. */
};

static bool env_owes(void *context, hlc_time upto)
{
    return replica_hint_owes(context, upto);
}

static bool env_is_filled(void *context, const struct shard *shard)
{
    return replica_is_filled(context, shard);
}

static struct purge_look look(const struct replica *replica)
{
    struct purge_look look = {
        .now_ms = replica->time.now_ms,
        .wall_ms = replica->time.wall_ms,
        .map = replica->map,
        .owned = replica->shares.owned.at,
        .owned_count = replica->shares.owned.count,
        .peers = replica->shares.peers,
        .peer_count = replica->shares.peer_count,
        .retired = replica->topology.retired,
        .drives = replica->clock.trusted && replica_proposer(replica) == replica->self.id,
        .all_up = true,
    };
    for (size_t i = 0; i < rangemap_member_count(replica->map); i++) {
        struct member member = rangemap_member(replica->map, i);
        if (member.state != MEMBER_EXCLUDED && replica_is_down(replica, member.id))
            look.all_up = false;
    }
    return look;
}

/* --- What is kept --- */

enum status replica_purge_start(struct replica *replica, bool founds)
{
    struct replica_purge *state = &replica->purge;
    struct purge_env env = {
        .context = replica,
        .heap = replica->heap,
        .trace = replica->trace,
        .self = replica->self.id,
        .owes = env_owes,
        .is_filled = env_is_filled,
    };
    buf_init(&state->low, replica->heap);
    buf_init(&state->high, replica->heap);
    buf_init(&state->from, replica->heap);
    enum status status = purge_init(&state->purge, &env);
    if (status != STATUS_OK) return status;
    state->started = true;
    /* A store alone goes by age. Here others may not know yet what is deleted. */
    bool by_age = planted(BUG_PURGE_BY_AGE);
    store_set_gc_age(replica->store,
                     by_age ? rangemap_settings(replica->map)->tombstone_gc_ms : UINT64_MAX);
    local_key(&replica->key, LOCAL_PURGE);
    status = local_get(replica, buf_slice(&replica->key), &replica->value);
    if (status == STATUS_OK)
        status = purge_ranges_decode(&state->purge.ranges, buf_slice(&replica->value));
    if (status == STATUS_OK) purge_promise_durable(&state->purge, purge_promised(&state->purge));
    if (status != STATUS_OK && status != STATUS_NOT_FOUND) return status;
    if (founds) purge_founded(&state->purge);
    /* What was set back once may have been so again: registrars record no more starts of it. */
    if (replica->starts.rolled_back) purge_rolled_back(&state->purge);
    return STATUS_OK;
}

void replica_purge_stop(struct replica *replica)
{
    struct replica_purge *state = &replica->purge;
    if (!state->started) return;
    purge_deinit(&state->purge);
    buf_deinit(&state->low);
    buf_deinit(&state->high);
    buf_deinit(&state->from);
}

/* Into the batch under way. What could not be kept is not told, and tried again. */
void replica_purge_save(struct replica *replica)
{
    struct replica_purge *state = &replica->purge;
    if (!state->purge.unsaved) return;
    struct buf bytes = {.heap = replica->heap};
    purge_ranges_encode(&state->purge.ranges, &bytes);
    local_key(&replica->key, LOCAL_PURGE);
    enum status status = buf_status(&bytes);
    if (status == STATUS_OK)
        status = local_put(replica, buf_slice(&replica->key), buf_slice(&bytes));
    buf_deinit(&bytes);
    if (status != STATUS_OK) {
        outbox_drop_durable(&replica->outbox);
        return;
    }
    state->purge.unsaved = false;
    state->saved_promise = purge_promised(&state->purge);
    replica_hold_flow(replica, HOLD_PURGE | ++state->save_number);
}

void replica_purge_durable(struct replica *replica, uint64_t number)
{
    struct replica_purge *state = &replica->purge;
    if (number == state->save_number) purge_promise_durable(&state->purge, state->saved_promise);
}

/* A batch is nothing: what sessions joined may have been in it. */
void replica_purge_lost(struct replica *replica)
{
    struct replica_purge *state = &replica->purge;
    struct purge_ranges kept;
    state->sweeping = false;
    local_key(&replica->key, LOCAL_PURGE);
    enum status status = purge_ranges_init(&kept, replica->heap);
    if (status == STATUS_OK) status = local_get(replica, buf_slice(&replica->key), &replica->value);
    if (status == STATUS_OK) status = purge_ranges_decode(&kept, buf_slice(&replica->value));
    if (status == STATUS_OK)
        purge_lost(&state->purge, &kept);
    else
        purge_rolled_back(&state->purge); /* Nobody knows what is kept. */
    purge_ranges_deinit(&kept);
}

void replica_purge_map_changed(struct replica *replica, const struct rangemap *before)
{
    purge_map_changed(&replica->purge.purge, before, replica->map);
    replica_purge_save(replica);
}

/* --- What follows from it --- */

bool replica_purge_is_complete(const struct replica *replica, const struct shard *shard)
{
    struct key_range range = {shard->low, shard->high};
    if (purge_is_complete(&replica->purge.purge, &range)) return true;
    /* Who owns it alone serves what there is. */
    struct owners sets[2];
    size_t count = shard_write_owners(shard, sets);
    for (size_t set = 0; set < count; set++)
        for (size_t i = 0; i < sets[set].count; i++)
            if (sets[set].ids[i] != replica->self.id) return false;
    return true;
}

void replica_purge_bound(const struct replica *replica, struct store_write *write)
{
    const struct purge *purge = &replica->purge.purge;
    if (planted(BUG_OLD_RECORD_TAKEN)) return;
    write->purged_upto = purge_purged_at(purge, write->key);
    write->knows_all = purge_known_at(purge, write->key) != 0;
}

void replica_merge(struct replica *replica, struct slice key, const struct record *record,
                   struct store_outcome *outcome)
{
    struct store_write write = {.kind = STORE_MERGE, .key = key, .record = record};
    replica_purge_bound(replica, &write);
    replica_store_write(replica, &write, outcome);
}

hlc_time replica_promised(const struct replica *replica, struct slice key)
{
    if (planted(BUG_PROMISE_NOT_KEPT)) return 0;
    return purge_promised_at(&replica->purge.purge, key);
}

hlc_time replica_purged(const struct replica *replica, struct slice key)
{
    return purge_purged_at(&replica->purge.purge, key);
}

static bool forget(struct replica *replica, struct slice key, const struct record *record)
{
    struct store_outcome outcome;
    replica_store_write(
        replica, &(struct store_write){.kind = STORE_FORGET, .key = key, .above = record->version},
        &outcome);
    replica->stats.forgotten_count += outcome.changed;
    return outcome.status == STATUS_OK;
}

bool replica_purge_forget(struct replica *replica, struct slice key, const struct record *record)
{
    const struct purge *purge = &replica->purge.purge;
    if (planted(BUG_PURGE_BY_KEY)) return record->tombstone && forget(replica, key, record);
    if (record->version.time > purge_purged_at(purge, key)) return false;
    bool knows_as_much = purge_known_at(purge, key) != 0;
    if (knows_as_much && !planted(BUG_ABSENCE_WITHOUT_EVIDENCE)) return false;
    TRACE(replica->trace, "purge: an owner that is complete lacks an old record, forget it");
    return forget(replica, key, record);
}

void replica_purge_compared(struct replica *replica, const struct repair_completed *completed)
{
    struct purge_look now = look(replica);
    purge_compared(&replica->purge.purge, &now, completed);
}

void replica_purge_filled(struct replica *replica, const struct shard *shard)
{
    purge_filled(&replica->purge.purge, shard);
}

void replica_purge_rolled_back(struct replica *replica)
{
    purge_rolled_back(&replica->purge.purge);
    replica_purge_save(replica);
}

void replica_purge_tell(struct replica *replica, node_id peer, struct slice ranges)
{
    purge_tell(&replica->purge.purge, peer, replica->map, ranges, &replica->outbox);
}

void replica_purge_message(struct replica *replica, node_id from, struct slice bytes)
{
    struct purge_look now = look(replica);
    if (purge_receive(&replica->purge.purge, from, bytes, &now, &replica->outbox) != STATUS_OK)
        replica->stats.invalid_count++;
    replica_purge_save(replica);
    replica->purge.due_ms = u64_min(replica->purge.due_ms, now.now_ms + PURGE_TURN_MS);
    replica_take_outbox(replica);
}

/* --- The sweep --- */

static bool sweep_begin(struct replica_purge *state)
{
    struct key_range range;
    if (!purge_next_sweep(&state->purge, (struct slice){0}, &range, &state->upto)) return false;
    buf_clear(&state->low);
    buf_clear(&state->high);
    buf_clear(&state->from);
    buf_append_slice(&state->low, range.low);
    buf_append_slice(&state->high, range.high);
    buf_append_slice(&state->from, slice_compare(range.low, REPLICA_KEY_FIRST) < 0
                                       ? REPLICA_KEY_FIRST
                                       : range.low);
    state->sweeping = buf_status(&state->low) == STATUS_OK &&
                      buf_status(&state->high) == STATUS_OK &&
                      buf_status(&state->from) == STATUS_OK;
    return state->sweeping;
}

/* Where nothing is dead there is nothing to look for. */
static bool has_dead(const struct replica *replica)
{
    struct store_stats stats;
    store_stats(replica->store, &stats);
    return stats.live_count != stats.current_count;
}

/* Forgets some of what is dead; STATUS_END: the range is done. */
static enum status sweep_some(struct replica *replica)
{
    struct replica_purge *state = &replica->purge;
    struct query query = replica_query(replica);
    struct key_range range = {buf_slice(&state->from), buf_slice(&state->high)};
    struct query_iterator *iterator;
    size_t looks = 0, drops = 0;
    query.ranges = &range;
    query.range_count = 1;
    if (!has_dead(replica)) return STATUS_END;
    enum status status = query_iterator_open(&query, (struct slice){0}, QUERY_CURRENT, &iterator);
    if (status != STATUS_OK) return status;
    status = query_iterator_seek(iterator, range.low);
    while (status == STATUS_OK && looks < SWEEP_LOOKS_MAX && drops < SWEEP_DROPS_MAX) {
        struct record record;
        struct slice key = query_iterator_key(iterator);
        status = query_iterator_record(iterator, &record);
        if (status != STATUS_OK) break;
        if (record_is_dead_by(&record, state->upto)) {
            if (!forget(replica, key, &record)) {
                status = STATUS_BUSY;
                break;
            }
            drops++;
        }
        looks++;
        status = query_iterator_next(iterator);
    }
    if (status == STATUS_OK) {
        struct buf next = {.heap = replica->heap};
        buf_append_slice(&next, query_iterator_key(iterator));
        buf_clear(&state->from);
        buf_append_slice(&state->from, buf_slice(&next));
        if (next.failed || state->from.failed) state->sweeping = false; /* Once more. */
        buf_deinit(&next);
    }
    query_iterator_close(iterator);
    return status;
}

static void sweep(struct replica *replica)
{
    struct replica_purge *state = &replica->purge;
    /* The log must know that what was dead may be gone before any of it is. */
    if (state->purge.unsaved) return;
    if (!state->sweeping && !sweep_begin(state)) return;
    enum status status = sweep_some(replica);
    if (status == STATUS_OK) return;
    state->sweeping = false;
    if (status != STATUS_END) return; /* From the start, when there is room, or memory. */
    struct key_range range = {buf_slice(&state->low), buf_slice(&state->high)};
    purge_swept(&state->purge, &range, state->upto);
    TRACE(replica->trace, "purge: swept up to %llu", (unsigned long long)hlc_wall_ms(state->upto));
}

/* --- Time --- */

/* Begins what sessions there is room for; whether more are wanted. */
static bool compare(struct replica *replica, const struct purge_look *now)
{
    struct purge *purge = &replica->purge.purge;
    bool wanted = false;
    replica->repair.mark = purge->number;
    for (node_id peer = purge_next_peer(purge, now, 0); peer != 0;
         peer = purge_next_peer(purge, now, peer)) {
        wanted = true;
        bool ready = repair_is_ready(&replica->repair, peer, now->now_ms);
        if (replica_is_down(replica, peer) || !(ready || purge_wants_settled(purge, peer)))
            continue;
        /* What is on its way need not keep anybody from being complete in what it has had all along. */
        repair_begin(&replica->repair, peer, ready ? REPAIR_ALL : REPAIR_SETTLED, now->now_ms,
                     &replica->outbox);
    }
    return wanted;
}

void replica_purge_tick(struct replica *replica)
{
    struct replica_purge *state = &replica->purge;
    struct purge_look now = look(replica);
    replica->repair.mark = state->purge.number;
    if (now.now_ms >= purge_due_ms(&state->purge, &now))
        purge_tick(&state->purge, &now, &replica->outbox);
    if (now.now_ms >= state->due_ms) {
        bool busy = compare(replica, &now);
        sweep(replica);
        busy = busy || state->sweeping || state->purge.unsaved;
        state->due_ms = now.now_ms + (busy ? PURGE_TURN_MS : PURGE_IDLE_MS);
    }
    replica_purge_save(replica);
    replica_take_outbox(replica);
}

uint64_t replica_purge_due_ms(const struct replica *replica)
{
    struct purge_look now = look(replica);
    return u64_min(replica->purge.due_ms, purge_due_ms(&replica->purge.purge, &now));
}
