/* Requests under way: their places, numbers, copies and replies. */
#include "base/check.h"
#include "base/math.h"
#include "cluster/token.h"
#include "node/replica_private.h"

enum {
    FLOW_INDEX_BITS = 16,
    FLOW_USE_BITS = 29, /* With index and attempt: below the bits of other labels. */
};

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

static enum consistency consistency_of(const struct replica *replica, const struct request *request)
{
    const struct rangemap_settings *settings = rangemap_settings(replica->map);
    if (request->has_consistency) return request->consistency;
    return request_is_write(request->kind) ? settings->write_consistency
                                           : settings->read_consistency;
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

/* --- Replies --- */

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
