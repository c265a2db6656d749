/* The batch under way, and what waits until it is durable. */
#include "base/bytes.h"
#include "base/check.h"
#include "base/math.h"
#include "base/planted.h"
#include "node/replica_private.h"

enum { HELD_DROP_BYTES = 4 << 10 };

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

/* --- What goes out --- */

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

/* --- The end of a batch --- */

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
        replica_dispatch(replica, replica->self.id, bytes);
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
void replica_start_again(struct replica *replica)
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
