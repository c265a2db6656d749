#include "node/replica_private.h"

#include "base/bytes.h"
#include "base/math.h"
#include "base/planted.h"

enum { ENVELOPE_BYTES = 8, FORWARD_SERIAL_BITS = 20 /* More than are sent in a millisecond. */ };

/* --- Life --- */

/* Slots of increments belong to a start, not to a node: what a start that ended badly had added
 * and not synced may live on elsewhere under its next number. */
static uint64_t slot_owner(const struct replica *replica)
{
    /* The salt tells starts of one number apart: of a directory that was brought back to an earlier state. */
    bool reused = planted(BUG_SLOT_REUSED);
    uint64_t boot = reused ? 1 : replica->self.boot;
    uint64_t mixed = replica->self.incarnation ^ (boot * UINT64_C(0x9e3779b97f4a7c15)) ^
                     (reused ? 0 : replica->starts.boot.salt) ^
                     (replica->slot_count * UINT64_C(0xc2b2ae3d27d4eb4f));
    return mixed == 0 ? 1 : mixed;
}

void replica_next_slot(struct replica *replica)
{
    if (!planted(BUG_SLOT_AFTER_SWEEP)) replica->slot_count++;
    store_set_writer(replica->store, replica->self.id, slot_owner(replica));
}

/* What the directory holds, or, in a new one, what the caller gave. */
static enum status load(struct replica *replica)
{
    enum status status = local_load_identity(replica);
    bool fresh = status == STATUS_NOT_FOUND;
    if (status != STATUS_OK && !fresh) return status;
    if (fresh && replica->map == NULL) return STATUS_NOT_FOUND;
    if (fresh) {
        replica->starts =
            (struct starts){.id = replica->self.id, .boot.incarnation = replica->self.incarnation};
    }
    starts_next(&replica->starts, prng_u64(&replica->prng));
    replica->self = (struct identity){replica->starts.id, replica->starts.boot.incarnation,
                                      replica->starts.boot.counter};
    status = fresh ? local_save_map(replica) : local_load_map(replica);
    if (status != STATUS_OK) return status;
    /* Each start draws its own labels, whatever it is given as a seed. */
    replica->prng.state += replica->self.boot * UINT64_C(0x9e3779b97f4a7c15);
    replica->repair.number = prng_u32(&replica->prng);
    if (replica->map == NULL) return STATUS_CORRUPT;
    store_set_writer(replica->store, replica->self.id, slot_owner(replica));
    status = local_save_identity(replica);
    replica->start_sequence = store_next_sequence(replica->store);
    if (status == STATUS_OK) status = replica_hint_load(replica);
    if (status == STATUS_OK) status = replica_operation_load(replica);
    if (replica->starts.rolled_back) replica_operation_set_back(replica);
    if (status == STATUS_OK) status = replica_purge_start(replica, fresh && replica->founds);
    if (status == STATUS_OK) status = replica_topology_start(replica);
    if (status == STATUS_OK) status = replica_transfer_load(replica);
    if (status == STATUS_OK) replica_map_hold(replica);
    return status;
}

enum status replica_create(const struct replica_options *options, struct replica_time time,
                           struct replica **out)
{
    struct replica *replica = heap_zalloc(options->heap, sizeof *replica);
    if (replica == NULL) return STATUS_NOMEM;
    replica->heap = options->heap;
    replica->store = options->store;
    replica->sink = options->sink;
    replica->trace = options->trace;
    replica->prng.state = options->seed;
    replica->hedge_tokens = READ_HEDGE_COST * READ_HEDGE_BURST;
    replica->self = options->self;
    replica->founds = options->founds;
    replica->map_stays = options->map_stays;
    replica->hints_max = options->hints_max == 0 ? REPLICA_HINTS_MAX : options->hints_max;
    replica->repair_every_ms = options->repair_ms == 0 ? REPLICA_REPAIR_MS : options->repair_ms;
    if (options->map != NULL) replica->map = rangemap_ref(options->map);
    outbox_init(&replica->ready, replica->heap);
    outbox_init(&replica->outbox, replica->heap);
    buf_init(&replica->held_bytes, replica->heap);
    buf_init(&replica->envelope, replica->heap);
    buf_init(&replica->to_self, replica->heap);
    buf_init(&replica->moves.sweep_from, replica->heap);
    buf_init(&replica->message, replica->heap);
    buf_init(&replica->key, replica->heap);
    buf_init(&replica->value, replica->heap);
    buf_init(&replica->entries, replica->heap);
    buf_init(&replica->counts, replica->heap);
    buf_init(&replica->ranges, replica->heap);
    buf_init(&replica->token, replica->heap);

    replica->time = replica_clock_look(replica, time);
    /* Of two starts with one number, as a disk that was set back has, those of the later are later as well. */
    replica->forward_serial = time.wall_ms << FORWARD_SERIAL_BITS;
    replica_repair_init(replica);
    replica_transfer_init(replica);
    enum status status = query_scratch_create(replica->heap, &replica->scratch);
    if (status == STATUS_OK) status = load(replica);
    if (status != STATUS_OK) {
        replica_destroy(replica);
        return status;
    }
    replica_commit(replica, time);
    TRACE(replica->trace, "start: boot %llu, map %llu", (unsigned long long)replica->self.boot,
          (unsigned long long)rangemap_identity(replica->map)->number);
    *out = replica;
    return STATUS_OK;
}

static void flow_free(struct replica *replica, struct flow *flow)
{
    replica_read_free(replica, flow);
    replica_load_free(replica, flow);
    buf_deinit(&flow->bytes);
    buf_deinit(&flow->write.record);
}

void replica_destroy(struct replica *replica)
{
    if (replica == NULL) return;
    for (size_t i = 0; i < replica->flow_capacity; i++) flow_free(replica, &replica->flows[i]);
    heap_free(replica->heap, replica->flows);
    heap_free(replica->heap, replica->held);
    for (size_t i = 0; i < replica->seen_count; i++) heap_free(replica->heap, replica->seen[i]);
    heap_free(replica->heap, replica->seen);
    heap_free(replica->heap, replica->operations.clients);
    replica_hint_free(replica);
    repair_deinit(&replica->repair);
    transfer_deinit(&replica->transfer);
    replica_topology_stop(replica);
    replica_purge_stop(replica);
    shares_free(replica->heap, &replica->shares);
    outbox_deinit(&replica->ready);
    outbox_deinit(&replica->outbox);
    buf_deinit(&replica->held_bytes);
    buf_deinit(&replica->envelope);
    buf_deinit(&replica->to_self);
    buf_deinit(&replica->message);
    buf_deinit(&replica->key);
    buf_deinit(&replica->value);
    buf_deinit(&replica->entries);
    buf_deinit(&replica->counts);
    buf_deinit(&replica->ranges);
    buf_deinit(&replica->token);
    query_scratch_destroy(replica->scratch);
    rangemap_unref(replica->map);
    heap_free(replica->heap, replica);
}

const struct rangemap *replica_map(const struct replica *replica)
{
    return replica->map;
}

struct identity replica_identity(const struct replica *replica)
{
    return replica->self;
}

struct query replica_query(const struct replica *replica)
{
    return store_query(store_view(replica->store), replica->time.wall_ms, replica->heap,
                       replica->scratch);
}

/* --- Messages --- */

/* Learns of newer maps. False: the sender goes by a map that everybody else has left behind, so that
 * it does not know who owns what now; it is sent ours. */
static bool same_maps(struct replica *replica, node_id from, const struct data_message *message)
{
    const struct rangemap_identity *ours = rangemap_identity(replica->map);
    bool same = message->generation == ours->generation;
    if (same) replica_members_met(replica, from, message->map_number);
    if (message->generation > ours->generation || (same && message->map_number > ours->number))
        replica_map_fetch(replica, from);
    bool stale = message->generation < ours->generation ||
                 (same && message->map_number < replica->topology.retired);
    if (!stale || planted(BUG_STALE_MAP_TAKEN)) return message->generation <= ours->generation;
    replica_map_offer(replica, from);
    return false;
}

static void data_message(struct replica *replica, node_id from, struct slice bytes)
{
    struct data_message message;
    if (data_message_decode(bytes, &message) != STATUS_OK) {
        replica->stats.invalid_count++;
        return;
    }
    if (!same_maps(replica, from, &message)) return;
    switch (message.kind) {
    case DATA_FORWARD:
        replica_serve_forward(replica, from, &message);
        break;
    case DATA_FORWARDED:
        replica_forwarded(replica, from, &message);
        break;
    case DATA_APPLY:
        replica_serve_apply(replica, from, &message);
        break;
    case DATA_APPLIED:
        if ((message.flow & HINT_LABEL) != 0)
            replica_hint_applied(replica, from, &message);
        else
            replica_write_applied(replica, from, &message);
        break;
    case DATA_ASK:
        replica_serve_ask(replica, from, &message);
        break;
    case DATA_TOLD:
        replica_read_told(replica, from, &message);
        break;
    case DATA_HOLD:
        replica_serve_hold(replica, from, &message);
        break;
    case DATA_HELD:
        replica_write_held(replica, from, &message);
        break;
    case DATA_KIND_END:
        break;
    }
}

void replica_dispatch(struct replica *replica, node_id from, struct slice bytes)
{
    switch (bytes.data[0]) {
    case PROTOCOL_DATA:
        data_message(replica, from, slice_from(bytes, 1));
        break;
    case PROTOCOL_REPAIR:
        replica_repair_message(replica, from, slice_from(bytes, 1));
        break;
    case PROTOCOL_PURGE:
        replica_purge_message(replica, from, slice_from(bytes, 1));
        break;
    case PROTOCOL_TRANSFER:
        replica_transfer_message(replica, from, slice_from(bytes, 1));
        break;
    case PROTOCOL_HEALTH:
    case PROTOCOL_REGISTER:
    case PROTOCOL_BOOTS:
    case PROTOCOL_TOPOLOGY:
        replica_topology_message(replica, from, bytes);
        break;
    default:
        replica->stats.invalid_count++;
        break;
    }
}

void replica_message(struct replica *replica, struct replica_time time, node_id from,
                     struct slice bytes)
{
    replica->time = replica_clock_look(replica, time);
    if (bytes.size <= ENVELOPE_BYTES || from == 0 || from == replica->self.id) {
        replica->stats.invalid_count++;
        return;
    }
    if (!replica->start_durable) return;
    /* Who is kept out learns why, and no more. */
    if (replica_keeps_out(replica, from)) {
        replica_map_offer(replica, from);
        return;
    }
    replica_clock_heard(replica, from, load_u64le(bytes.data));
    bool serves = !replica_is_kept_out(replica) || planted(BUG_EXCLUDED_SERVES);
    if (!serves && bytes.data[ENVELOPE_BYTES] != PROTOCOL_TOPOLOGY) {
        /* Who still talks to this node may not know why not to: it may be the only one that does. */
        replica_map_offer(replica, from);
        return;
    }
    replica_dispatch(replica, from, slice_from(bytes, ENVELOPE_BYTES));
}

/* --- Time --- */

/* What must never be. */
static void hedge_increment(struct replica *replica, struct flow *flow)
{
    enum { LATE_MS = 50, HEDGED = 0x80 };
    uint32_t timeout_ms = flow->request.timeout_ms == 0 ? REPLICA_TIMEOUT_MS
                                                        : flow->request.timeout_ms;
    bool late = replica->time.now_ms + timeout_ms >= flow->deadline_ms + LATE_MS;
    bool hedged = (flow->tried & HEDGED) != 0;
    if (flow->request.kind != REQUEST_INCREMENT || !late || hedged) return;
    flow->tried |= HEDGED;
    replica_forward(replica, flow);
}

static void flow_tick(struct replica *replica, struct flow *flow)
{
    switch (flow->kind) {
    case FLOW_NONE:
        break;
    case FLOW_FORWARD:
        if (replica->time.now_ms >= flow->deadline_ms)
            replica_fail(replica, flow, REQUEST_TIMED_OUT, STATUS_TIMEOUT);
        else if (planted(BUG_INCREMENT_HEDGED))
            hedge_increment(replica, flow);
        break;
    case FLOW_WRITE:
        replica_write_tick(replica, flow);
        break;
    case FLOW_READ:
        replica_read_tick(replica, flow);
        break;
    case FLOW_LOAD:
        break; /* Its pieces end no later. */
    }
}

void replica_tick(struct replica *replica, struct replica_time time)
{
    replica->time = replica_clock_look(replica, time);
    if (!replica->start_durable) {
        replica_start_again(replica);
        return;
    }
    for (size_t i = 0; i < replica->flow_capacity && replica->flow_count > 0; i++)
        flow_tick(replica, &replica->flows[i]);
    if (replica_is_kept_out(replica) && !planted(BUG_EXCLUDED_SERVES)) return;
    replica_hint_tick(replica);
    replica_repair_tick(replica);
    replica_transfer_tick(replica);
    replica_topology_tick(replica);
    replica_purge_tick(replica);
}

uint64_t replica_wake_ms(const struct replica *replica)
{
    enum { START_AGAIN_MS = 100 };
    if (!replica->start_durable)
        return replica->start_sequence == 0 ? replica->time.now_ms + START_AGAIN_MS : UINT64_MAX;
    uint64_t due = u64_min(replica_repair_due_ms(replica), replica_topology_due_ms(replica));
    due = u64_min(due, replica_purge_due_ms(replica));
    due = u64_min(due, replica_transfer_due_ms(replica));
    bool kept_out = replica_is_kept_out(replica);
    if (kept_out) due = UINT64_MAX;
    for (size_t i = 0; i < replica->flow_capacity && replica->flow_count > 0; i++) {
        const struct flow *flow = &replica->flows[i];
        if (flow->kind == FLOW_NONE) continue;
        due = u64_min(due, flow->deadline_ms);
        if (flow->kind == FLOW_WRITE) due = u64_min(due, replica_write_due_ms(flow));
        if (flow->kind == FLOW_READ)
            due = u64_min(due, kept_out ? replica->time.now_ms : replica_read_due_ms(flow));
    }
    for (size_t i = 0; i < replica->hint_peer_count; i++)
        if (replica->hints[i].count > 0) due = u64_min(due, replica->hints[i].retry_ms);
    return due;
}

/* --- Figures --- */

void replica_stats(const struct replica *replica, struct replica_stats *stats)
{
    *stats = replica->stats;
    stats->flow_count = replica->flow_count;
    stats->held_count = replica->held_count;
    stats->held_bytes = replica->held_bytes.size;
    stats->repair_session_count = replica->repair.counts.session_count;
    stats->repair_sent_bytes = replica->repair.counts.sent_bytes;
    stats->clock_skew_ms = replica_clock_skew_ms(replica);
    stats->stamps = replica_may_stamp(replica, false);
    stats->purge_round_count = replica->purge.purge.done_count;
    stats->hint_count = 0;
    for (size_t i = 0; i < replica->hint_peer_count; i++)
        stats->hint_count += replica->hints[i].count;
}
