#include "node/replica_private.h"

#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/math.h"
#include "base/planted.h"
#include "cluster/token.h"
#include "core/key.h"

enum {
    FLOW_INDEX_BITS = 16,
    FLOW_USE_BITS = 29, /* With index and attempt: below the bits of other labels. */
    ENVELOPE_BYTES = 8,
    HELD_DROP_BYTES = 4 << 10,
};

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

/* --- What goes out --- */

void replica_batch(struct replica *replica)
{
    if (replica->batch_open) return;
    store_batch_begin(replica->store, replica->time.wall_ms);
    replica->batch_open = true;
}

void replica_store_write(struct replica *replica, const struct store_write *write,
                         struct store_outcome *outcome)
{
    replica_batch(replica);
    store_write(replica->store, write, outcome);
}

static struct held *held_add(struct replica *replica)
{
    if (replica->held_first + replica->held_count == replica->held_capacity) {
        if (replica->held_first > replica->held_capacity / 2) {
            for (size_t i = 0; i < replica->held_count; i++)
                replica->held[i] = replica->held[replica->held_first + i];
            replica->held_first = 0;
        } else {
            size_t capacity = size_max(16, replica->held_capacity * 2);
            struct held *held = heap_realloc(replica->heap, replica->held, capacity * sizeof *held);
            if (held == NULL) return NULL;
            replica->held = held;
            replica->held_capacity = capacity;
        }
    }
    struct held *held = &replica->held[replica->held_first + replica->held_count++];
    *held = (struct held){0};
    return held;
}

static void hold_message(struct replica *replica, node_id to, struct slice bytes)
{
    /* Without memory it is lost, as the network may lose it. */
    size_t at = replica->held_bytes.size;
    buf_append_slice(&replica->held_bytes, bytes);
    if (replica->held_bytes.failed) {
        replica->held_bytes.failed = false;
        return;
    }
    struct held *held = held_add(replica);
    if (held != NULL) *held = (struct held){.to = to, .at = at, .size = bytes.size};
}

void replica_hold_flow(struct replica *replica, uint64_t label)
{
    struct held *held = held_add(replica);
    if (held != NULL) held->flow = label;
}

void replica_send(struct replica *replica, node_id to, bool durable, struct data_message *message)
{
    const struct rangemap_identity *identity = rangemap_identity(replica->map);
    message->generation = identity->generation;
    message->map_number = identity->number;
    CHECK(to != replica->self.id);
    if (!durable || planted(BUG_ACKNOWLEDGE_APPLY_EARLY)) {
        data_message_encode(message, outbox_begin(&replica->ready, to, PROTOCOL_DATA));
        outbox_end(&replica->ready, false);
        return;
    }
    buf_clear(&replica->message);
    buf_append_u8(&replica->message, PROTOCOL_DATA);
    data_message_encode(message, &replica->message);
    if (buf_status(&replica->message) == STATUS_OK)
        hold_message(replica, to, buf_slice(&replica->message));
}

void replica_send_with_batch(struct replica *replica, node_id to, struct data_message *message)
{
    const struct rangemap_identity *identity = rangemap_identity(replica->map);
    message->generation = identity->generation;
    message->map_number = identity->number;
    CHECK(to != replica->self.id);
    data_message_encode(message, outbox_begin(&replica->ready, to, PROTOCOL_DATA));
    outbox_end(&replica->ready, true);
}

void replica_take_outbox(struct replica *replica)
{
    struct outbox *outbox = &replica->outbox;
    for (size_t i = 0; i < outbox->count; i++) {
        const struct outbox_message *message = &outbox->messages[i];
        struct slice bytes = outbox_bytes(outbox, i);
        if (message->durable) {
            hold_message(replica, message->to, bytes);
            continue;
        }
        /* The protocol's byte is there already. */
        buf_append_slice(outbox_begin(&replica->ready, message->to, bytes.data[0]),
                         slice_from(bytes, 1));
        outbox_end(&replica->ready, false);
    }
    outbox_clear(outbox);
}

/* Each message begins with what time it is here (8 bytes), then the protocol's byte. */
static void let_go(struct replica *replica, node_id to, struct slice bytes)
{
    struct buf *envelope = &replica->envelope;
    CHECK(replica->start_durable);
    if (to == replica->self.id) {
        /* The register votes for itself like for others. */
        buf_append_u32le(&replica->to_self, (uint32_t)bytes.size);
        buf_append_slice(&replica->to_self, bytes);
        return;
    }
    buf_clear(envelope);
    buf_append_u64le(envelope, replica->time.wall_ms);
    buf_append_slice(envelope, bytes);
    if (buf_status(envelope) == STATUS_OK)
        replica->sink.send(replica->sink.context, to, buf_slice(envelope));
}

static void release_message(struct replica *replica, const struct held *held)
{
    let_go(replica, held->to, slice_of(replica->held_bytes.data + held->at, held->size));
}

/* Gives back the bytes of what went: under load there is always something that waits. */
static void drop_released(struct replica *replica)
{
    struct buf *bytes = &replica->held_bytes;
    size_t end = replica->held_first + replica->held_count, first = replica->held_first;
    while (first < end && replica->held[first].flow != 0) first++;
    size_t gone = first < end ? replica->held[first].at : bytes->size;
    bool many = gone >= HELD_DROP_BYTES && gone >= bytes->size / 2;
    if (gone < bytes->size && !many) return;
    buf_consume(bytes, gone);
    for (; first < end; first++)
        if (replica->held[first].flow == 0) replica->held[first].at -= gone;
}

/* What waited for a batch that is durable now. A flow told of it may write more, which waits in
 * turn, behind. */
static void release(struct replica *replica)
{
    uint64_t visible = store_visible_sequence(replica->store);
    while (replica->held_count > 0) {
        struct held held = replica->held[replica->held_first];
        if (held.sequence == 0 || held.sequence > visible) break;
        replica->held_first++;
        replica->held_count--;
        if (held.flow == 0) {
            release_message(replica, &held);
            continue;
        }
        if ((held.flow & HOLD_MAP) != 0)
            replica_map_durable(replica, held.flow);
        else if ((held.flow & HOLD_PURGE) != 0)
            replica_purge_durable(replica, held.flow & ~HOLD_PURGE);
        else
            replica_write_durable(replica, held.flow);
    }
    drop_released(replica);
}

/* The batch is nothing: who waited for it gets no acknowledgement, and what it was to tell is not
 * told. */
static void fail_batch(struct replica *replica, enum status status)
{
    size_t end = replica->held_first + replica->held_count;
    size_t at = end;
    if (!replica->start_durable) replica->start_sequence = 0;
    while (at > replica->held_first && replica->held[at - 1].sequence == 0) at--;
    replica->held_count = at - replica->held_first;
    outbox_drop_durable(&replica->ready);
    /* The places stay as they are until the flows were told. */
    for (size_t i = at; i < end; i++) {
        uint64_t label = replica->held[i].flow;
        bool is_flow = (label & (HOLD_MAP | HOLD_PURGE)) == 0;
        struct flow *flow = is_flow ? replica_flow_find(replica, label) : NULL;
        if ((label & HOLD_MAP) != 0)
            replica_map_lost(replica);
        else if (flow != NULL)
            replica_write_failed(replica, flow, status);
    }
    replica_moves_lost(replica);
    replica_purge_lost(replica);
    transfer_lost(&replica->transfer);
}

static void dispatch(struct replica *replica, node_id from, struct slice bytes);

/* What this node sent to itself. */
static void take_own_messages(struct replica *replica)
{
    if (replica->to_self.size == 0) return;
    struct buf messages = replica->to_self;
    replica->to_self = (struct buf){.heap = replica->heap};
    struct reader reader = reader_of(buf_slice(&messages));
    while (reader_left(&reader) > 0) {
        struct slice bytes = reader_bytes(&reader, reader_u32le(&reader));
        if (reader.failed) break; /* It did not fit into memory. */
        dispatch(replica, replica->self.id, bytes);
    }
    buf_deinit(&messages);
}

/* A start that nobody's disk remembers is counted again by the next: to have told others of it, or to
 * have done anything under its number, would make two of one. */
static void look_at_start(struct replica *replica)
{
    if (replica->start_durable || replica->start_sequence == 0) return;
    if (store_durable_sequence(replica->store) < replica->start_sequence) return;
    replica->start_durable = true;
    TRACE(replica->trace, "start: boot %llu is safe", (unsigned long long)replica->self.boot);
}

/* Its batch was nothing. */
static void start_again(struct replica *replica)
{
    if (replica->start_durable || replica->start_sequence != 0) return;
    if (local_save_identity(replica) == STATUS_OK)
        replica->start_sequence = store_next_sequence(replica->store);
}

void replica_commit(struct replica *replica, struct replica_time time)
{
    replica->time = replica_clock_look(replica, time);
    look_at_start(replica);
    replica_loads_go_on(replica);
    /* What waits without having written anything waits for all that was written before. */
    size_t end = replica->held_first + replica->held_count;
    if (replica->held_count > 0 && replica->held[end - 1].sequence == 0) replica_batch(replica);
    if (local_is_used_up(replica)) replica_number_anew(replica);
    if (replica->batch_open) {
        uint64_t sequence;
        replica->batch_open = false;
        enum status status = store_batch_commit(replica->store, &sequence);
        replica_hint_batch_done(replica, status == STATUS_OK);
        if (status != STATUS_OK) {
            fail_batch(replica, status);
        } else {
            for (size_t i = replica->held_count; i > 0; i--) {
                struct held *held = &replica->held[replica->held_first + i - 1];
                if (held->sequence != 0) break;
                held->sequence = sequence;
            }
        }
    }
    for (size_t i = 0; i < replica->ready.count; i++)
        let_go(replica, replica->ready.messages[i].to, outbox_bytes(&replica->ready, i));
    outbox_clear(&replica->ready);
    /* With an interval between syncs a batch may be visible at once. */
    release(replica);
    take_own_messages(replica);
    bool more = replica->batch_open || replica->ready.count > 0 || replica->load_rests;
    if (more) replica_commit(replica, time);
}

void replica_synced(struct replica *replica, struct replica_time time)
{
    replica->time = replica_clock_look(replica, time);
    look_at_start(replica);
    release(replica);
    replica_commit(replica, time);
}

/* --- Flows --- */

struct flow *replica_flow_find(struct replica *replica, uint64_t label)
{
    uint64_t number = label >> FLOW_ATTEMPT_BITS;
    size_t index = number & ((1 << FLOW_INDEX_BITS) - 1);
    if (number == 0 || index >= replica->flow_capacity) return NULL;
    struct flow *flow = &replica->flows[index];
    return flow->kind != FLOW_NONE && flow->number == number ? flow : NULL;
}

/* Numbers of one start have little chance to be those of another, whose answers may still come. */
static uint64_t first_number(struct replica *replica)
{
    uint64_t uses = prng_u32(&replica->prng) >> (32 - FLOW_USE_BITS);
    return uses << FLOW_INDEX_BITS;
}

/* Of the next use of the same place; begins anew after half a billion. Never 0. */
static uint64_t next_number(uint64_t number)
{
    uint64_t index = number & ((1 << FLOW_INDEX_BITS) - 1);
    uint64_t uses = ((number >> FLOW_INDEX_BITS) + 1) & ((1 << FLOW_USE_BITS) - 1);
    return (uses == 0 ? 1 : uses) << FLOW_INDEX_BITS | index;
}

/* More places; the first of them is taken next. */
static bool grow_flows(struct replica *replica)
{
    size_t before = replica->flow_capacity, capacity = size_max(16, before * 2);
    if (before == REPLICA_FLOWS_MAX) return false;
    struct flow *flows = heap_realloc(replica->heap, replica->flows, capacity * sizeof *flows);
    if (flows == NULL) return false;
    for (size_t i = capacity; i > before; i--) {
        flows[i - 1] = (struct flow){.number = first_number(replica) + i - 1,
                                     .bytes = {.heap = replica->heap},
                                     .next_free = replica->free_flow};
        replica->free_flow = (uint32_t)i;
    }
    replica->flows = flows;
    replica->flow_capacity = capacity;
    return true;
}

static struct flow *flow_take(struct replica *replica)
{
    if (replica->free_flow == 0 && !grow_flows(replica)) return NULL;
    struct flow *flow = &replica->flows[replica->free_flow - 1];
    replica->free_flow = flow->next_free;
    struct buf bytes = flow->bytes, record = flow->write.record;
    buf_clear(&bytes);
    buf_clear(&record);
    record.heap = replica->heap;
    *flow =
        (struct flow){.number = next_number(flow->number), .bytes = bytes, .write.record = record};
    replica->flow_count++;
    return flow;
}

void replica_flow_end(struct replica *replica, struct flow *flow)
{
    CHECK(flow->kind != FLOW_NONE);
    replica_read_free(replica, flow);
    replica_load_free(replica, flow);
    flow->kind = FLOW_NONE;
    flow->next_free = replica->free_flow;
    replica->free_flow = (uint32_t)(flow - replica->flows) + 1;
    replica->flow_count--;
}

static struct slice keep(struct buf *bytes, const uint8_t *base, struct slice slice)
{
    struct slice kept = {base + bytes->size, slice.size};
    buf_append_slice(bytes, slice);
    return kept;
}

/* Copies what the request borrows. */
static enum status copy_request(struct flow *flow, const struct request *request)
{
    struct buf *bytes = &flow->bytes;
    size_t size = request->key.size + request->payload.size + request->tags.size +
                  request->after.key.size + request->from.key.size + request->token.size +
                  request->sets.size;
    const uint8_t *base = buf_reserve(bytes, size + 1);
    if (base == NULL) return STATUS_NOMEM;
    flow->request = *request;
    flow->request.key = keep(bytes, base, request->key);
    flow->request.payload = keep(bytes, base, request->payload);
    flow->request.tags = keep(bytes, base, request->tags);
    flow->request.after.key = keep(bytes, base, request->after.key);
    flow->request.from.key = keep(bytes, base, request->from.key);
    flow->request.token = keep(bytes, base, request->token);
    flow->request.sets = keep(bytes, base, request->sets);
    struct slice rest = flow->request.sets;
    struct request first;
    if (data_set_next(&rest, &first)) flow->request.key = first.key;
    return STATUS_OK;
}

static void reply_to_peer(struct replica *replica, const struct flow *flow,
                          const struct request_reply *reply)
{
    struct data_message message = {
        .kind = DATA_FORWARDED, .flow = flow->asker_flow, .reply = *reply};
    struct buf encoded;
    buf_init(&encoded, replica->heap);
    buf_clear(&replica->entries);
    for (size_t i = 0; i < reply->entry_count; i++) {
        buf_clear(&encoded);
        record_encode(&reply->entries[i].record, &encoded);
        data_entry_append(&replica->entries, reply->entries[i].key, buf_slice(&encoded));
        if (encoded.failed) replica->entries.failed = true;
    }
    buf_deinit(&encoded);
    if (buf_status(&replica->entries) != STATUS_OK) return; /* The asker times out. */
    message.entries = buf_slice(&replica->entries);
    message.entry_count = reply->entry_count;
    buf_clear(&replica->value);
    for (size_t i = 0; i < reply->result_count; i++)
        data_version_append(&replica->value, reply->results[i].version);
    if (buf_status(&replica->value) != STATUS_OK) return;
    message.versions = buf_slice(&replica->value);
    message.version_count = reply->result_count;
    replica_send(replica, flow->asker, false, &message);
}

/* What the client knew to be written before, and what was written now. */
static void add_to_token(struct replica *replica, const struct flow *flow, struct slice *token)
{
    struct token all, added;
    if (flow->request.token.size == 0 || token->size == 0) return;
    if (token_decode(flow->request.token, &all) != STATUS_OK) return;
    if (token_decode(*token, &added) != STATUS_OK) return;
    for (size_t i = 0; i < added.count; i++) token_add(&all, &added.groups[i]);
    struct buf *bytes = &replica->value;
    buf_clear(bytes);
    token_encode(&all, bytes);
    if (buf_status(bytes) == STATUS_OK) *token = buf_slice(bytes);
}

void replica_reply(struct replica *replica, struct flow *flow, const struct request_reply *reply)
{
    if (flow->load_label != 0) {
        replica_load_told(replica, flow, reply);
        return;
    }
    if (!flow->from_client) {
        reply_to_peer(replica, flow, reply);
        return;
    }
    struct request_reply told = *reply;
    add_to_token(replica, flow, &told.token);
    told.map_number = rangemap_identity(replica->map)->number;
    replica->sink.reply(replica->sink.context, flow->asker_flow, &told);
}

void replica_fail(struct replica *replica, struct flow *flow, enum request_outcome outcome,
                  enum status status)
{
    replica_reply(replica, flow, &(struct request_reply){.outcome = outcome, .status = status});
    replica_flow_end(replica, flow);
}

/* --- Requests --- */

bool replica_is_down(const struct replica *replica, node_id id)
{
    if (id == replica->self.id) return !replica_serves(replica);
    return health_of(replica->health, id).state == HEALTH_DOWN;
}

/* The healthiest owner that may take the request and was not tried yet; 0: none. */
static node_id choose_owner(struct replica *replica, struct flow *flow)
{
    struct shard shard =
        rangemap_shard(replica->map, rangemap_find(replica->map, flow->request.key));
    const struct owners *owners = shard_read_owners(&shard);
    node_id ids[RANGEMAP_OWNERS_MAX];
    uint32_t count = 0;
    for (uint8_t i = 0; i < owners->count; i++) {
        bool other = owners->ids[i] != replica->self.id && (flow->tried & 1 << i) == 0;
        if (other) ids[count++] = owners->ids[i];
    }
    node_id owner =
        health_pick(health_cache(replica->health), replica->zone, ids, count, &replica->prng);
    for (uint8_t i = 0; i < owners->count; i++)
        if (owners->ids[i] == owner) flow->tried |= (uint8_t)(1 << i);
    return owner;
}

void replica_forward_to(struct replica *replica, struct flow *flow, node_id owner, unsigned attempt)
{
    uint64_t now_ms = replica->time.now_ms;
    flow->kind = FLOW_FORWARD;
    flow->forwarded_to = owner;
    struct data_message message = {
        .kind = DATA_FORWARD,
        .flow = flow_label(flow, attempt),
        .boot = replica->self.boot,
        .serial = ++replica->forward_count,
        .request = flow->request,
    };
    message.request.has_consistency = true;
    message.request.consistency = flow->consistency;
    message.request.timeout_ms =
        (uint32_t)(flow->deadline_ms > now_ms ? flow->deadline_ms - now_ms : 1);
    replica_send(replica, owner, false, &message);
}

void replica_forward(struct replica *replica, struct flow *flow)
{
    node_id owner = replica->time.now_ms < flow->deadline_ms ? choose_owner(replica, flow) : 0;
    if (owner != 0)
        replica_forward_to(replica, flow, owner, flow->tried);
    else if (flow->refusal != STATUS_OK)
        replica_fail(replica, flow, REQUEST_REFUSED, flow->refusal);
    else
        replica_fail(replica, flow, REQUEST_NO_HEALTHY_OWNER, STATUS_BUSY);
}

static bool has_valid_token(const struct request *request)
{
    struct token token;
    return request->token.size == 0 || token_decode(request->token, &token) == STATUS_OK;
}

static bool has_valid_sets(const struct request *request)
{
    return request->kind != REQUEST_LOAD ||
           data_sets_check(request->sets, request->set_count) == STATUS_OK;
}

static enum consistency consistency_of(const struct replica *replica, const struct request *request)
{
    const struct rangemap_settings *settings = rangemap_settings(replica->map);
    if (request->has_consistency) return request->consistency;
    return request_is_write(request->kind) ? settings->write_consistency
                                           : settings->read_consistency;
}

/* Who was to do an increment with a name does not: nobody else may. */
static void fail_operation(struct replica *replica, struct flow *flow)
{
    /* An attempt before this one may have been done. */
    bool first = flow->request.operation.attempt == OPERATION_FIRST;
    replica_fail(replica, flow, first ? REQUEST_NO_HEALTHY_OWNER : REQUEST_TIMED_OUT, STATUS_BUSY);
}

/* To the one owner that may do an increment with a name; true if that is this node. */
static bool route_operation(struct replica *replica, struct flow *flow)
{
    struct request_operation *operation = &flow->request.operation;
    struct shard shard =
        rangemap_shard(replica->map, rangemap_find(replica->map, flow->request.key));
    node_id owner = replica_operation_owner(shard_read_owners(&shard), operation);
    operation->moves = 0;
    /* By other owners another one may have done it before. */
    if (operation->attempt == OPERATION_RETRY && shard.began > operation->map_number)
        operation->attempt = OPERATION_RECALL;
    bool known = operation->map_number <= rangemap_identity(replica->map)->number;
    if (owner == replica->self.id && known) return true;
    if (!known || replica_is_down(replica, owner))
        fail_operation(replica, flow);
    else
        replica_forward_to(replica, flow, owner, 1);
    return false;
}

/* Whether this node may coordinate the write. An increment tells what the value is then, which a node
 * that is not filled does not know; one with a name has no choice. */
static bool may_coordinate(const struct replica *replica, const struct request *request)
{
    return replica->clock.trusted && replica_serves(replica) &&
           rangemap_takes(replica->map, replica->self.id, request->key) &&
           (request->kind != REQUEST_LOAD || replica_load_is_whole(replica, request)) &&
           (request->kind != REQUEST_INCREMENT || has_operation(request) ||
            replica_role(replica, request->key) == REPLICA_ANSWERS);
}

void replica_flow_begin(struct replica *replica, struct flow *flow)
{
    bool is_piece = flow->load_label != 0 || !flow->from_client;
    if (!has_valid_token(&flow->request) || !has_valid_sets(&flow->request)) {
        replica_fail(replica, flow, REQUEST_REFUSED, STATUS_INVALID);
        return;
    }
    if (replica_is_kept_out(replica) && !planted(BUG_EXCLUDED_SERVES)) {
        replica_fail(replica, flow, REQUEST_NO_HEALTHY_OWNER, STATUS_FOREIGN);
        return;
    }
    if (has_operation(&flow->request) && flow->from_client && !route_operation(replica, flow))
        return;
    if (!request_is_write(flow->request.kind)) {
        flow->kind = FLOW_READ;
        replica_read_begin(replica, flow);
    } else if (flow->request.kind == REQUEST_LOAD && !is_piece) {
        replica_load_begin(replica, flow);
    } else if (may_coordinate(replica, &flow->request)) {
        flow->kind = FLOW_WRITE;
        replica_write_begin(replica, flow);
    } else if (has_operation(&flow->request) && flow->from_client) {
        fail_operation(replica, flow);
    } else if (flow->from_client) {
        replica_forward(replica, flow);
    } else {
        /* We own it no more, or do not trust our clock: another owner may. */
        replica_fail(replica, flow, REQUEST_NO_HEALTHY_OWNER, STATUS_STALE);
    }
}

struct flow *replica_flow_start(struct replica *replica, const struct request *request)
{
    struct flow *flow = flow_take(replica);
    if (flow == NULL) return NULL;
    flow->kind = FLOW_FORWARD; /* Taken. */
    if (copy_request(flow, request) != STATUS_OK) {
        replica_flow_end(replica, flow);
        return NULL;
    }
    uint64_t timeout_ms = request->timeout_ms != 0 ? request->timeout_ms : REPLICA_TIMEOUT_MS;
    flow->map_number = rangemap_identity(replica->map)->number;
    flow->consistency = consistency_of(replica, request);
    flow->deadline_ms = replica->time.now_ms + timeout_ms;
    return flow;
}

void replica_request(struct replica *replica, struct replica_time time, uint64_t id,
                     const struct request *request)
{
    replica->time = replica_clock_look(replica, time);
    struct flow *flow = replica->start_durable ? replica_flow_start(replica, request) : NULL;
    if (flow == NULL) {
        struct request_reply reply = {.outcome = REQUEST_REFUSED, .status = STATUS_BUSY};
        replica->sink.reply(replica->sink.context, id, &reply);
        return;
    }
    flow->from_client = true;
    flow->asker_flow = id;
    replica_flow_begin(replica, flow);
}

/* What `from` forwarded; NULL without memory. Members that are none any more are forgotten. */
static struct seen *seen_of(struct replica *replica, node_id from)
{
    size_t kept = 0;
    for (size_t i = 0; i < replica->seen_count; i++)
        if (replica->seen[i]->from == from) return replica->seen[i];
    for (size_t i = 0; i < replica->seen_count; i++) {
        struct member member;
        if (rangemap_member_find(replica->map, replica->seen[i]->from, &member))
            replica->seen[kept++] = replica->seen[i];
        else
            heap_free(replica->heap, replica->seen[i]);
    }
    replica->seen_count = kept;
    struct seen **list =
        heap_realloc(replica->heap, replica->seen, (kept + 1) * sizeof *replica->seen);
    if (list == NULL) return NULL;
    replica->seen = list;
    list[kept] = heap_zalloc(replica->heap, sizeof **list);
    if (list[kept] == NULL) return NULL;
    list[kept]->from = from;
    replica->seen_count++;
    return list[kept];
}

/* Forgets the numbers that the window leaves behind as it moves on to `number`. */
static void move_window(struct seen *seen, uint64_t number)
{
    if (number - seen->newest >= SEEN_WINDOW) {
        memset(seen->bits, 0, sizeof seen->bits);
        seen->newest = number;
    }
    while (seen->newest < number) {
        uint64_t place = ++seen->newest % SEEN_WINDOW;
        seen->bits[place / 64] &= ~(UINT64_C(1) << place % 64);
    }
}

/* Whether the request came for the first time, as far as anybody can tell; and that it came. */
static bool comes_first(struct replica *replica, node_id from, uint64_t boot, uint64_t number)
{
    struct seen *seen = seen_of(replica, from);
    if (seen == NULL || boot < seen->boot) return false;
    if (boot > seen->boot) *seen = (struct seen){.from = from, .boot = boot};
    if (number > seen->newest) move_window(seen, number);
    if (seen->newest - number >= SEEN_WINDOW) return false;
    uint64_t place = number % SEEN_WINDOW, bit = UINT64_C(1) << place % 64;
    if ((seen->bits[place / 64] & bit) != 0) return false;
    seen->bits[place / 64] |= bit;
    return true;
}

static void serve_forward(struct replica *replica, node_id from, const struct data_message *message)
{
    if (!comes_first(replica, from, message->boot, message->serial)) return;
    struct flow *flow = replica_flow_start(replica, &message->request);
    if (flow == NULL) {
        struct data_message busy = {.kind = DATA_FORWARDED, .flow = message->flow};
        busy.reply = (struct request_reply){.outcome = REQUEST_REFUSED, .status = STATUS_BUSY};
        replica_send(replica, from, false, &busy);
        return;
    }
    flow->asker = from;
    flow->asker_flow = message->flow;
    replica_flow_begin(replica, flow);
}

static void forwarded(struct replica *replica, node_id from, const struct data_message *message)
{
    struct flow *flow = replica_flow_find(replica, message->flow);
    if (flow == NULL || flow->kind != FLOW_FORWARD || flow->forwarded_to != from) return;
    struct request_reply reply = message->reply;
    if (reply.outcome == REQUEST_NO_HEALTHY_OWNER && flow->from_client) {
        /* Nothing was done there. */
        if (has_operation(&flow->request)) {
            fail_operation(replica, flow);
            return;
        }
        if (reply.status != STATUS_STALE && reply.status != STATUS_BUSY)
            flow->refusal = reply.status;
        replica_forward(replica, flow);
        return;
    }
    struct request_entry *entries =
        heap_alloc(replica->heap, (message->entry_count + 1) * sizeof *entries);
    if (entries == NULL) return; /* It times out. */
    struct request_result *results =
        heap_alloc(replica->heap, (message->version_count + 1) * sizeof *results);
    if (results == NULL) {
        heap_free(replica->heap, entries);
        return;
    }
    struct slice rest = message->entries;
    while (data_entry_next(&rest, &entries[reply.entry_count])) reply.entry_count++;
    rest = message->versions;
    struct version version;
    while (data_version_next(&rest, &version))
        results[reply.result_count++] = (struct request_result){.version = version};
    reply.entries = entries;
    reply.results = results;
    replica_reply(replica, flow, &reply);
    replica_flow_end(replica, flow);
    heap_free(replica->heap, entries);
    heap_free(replica->heap, results);
}

/* --- Messages and time --- */

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
        serve_forward(replica, from, &message);
        break;
    case DATA_FORWARDED:
        forwarded(replica, from, &message);
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

static void dispatch(struct replica *replica, node_id from, struct slice bytes)
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
    dispatch(replica, from, slice_from(bytes, ENVELOPE_BYTES));
}

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
        start_again(replica);
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

void replica_stats(const struct replica *replica, struct replica_stats *stats)
{
    *stats = replica->stats;
    stats->flow_count = replica->flow_count;
    stats->held_count = replica->held_count;
    stats->held_bytes = replica->held_bytes.size;
    stats->repair_session_count = replica->repair.counts.session_count;
    stats->repair_sent_bytes = replica->repair.counts.sent_bytes;
    stats->purge_round_count = replica->purge.purge.done_count;
    stats->hint_count = 0;
    for (size_t i = 0; i < replica->hint_peer_count; i++)
        stats->hint_count += replica->hints[i].count;
}
