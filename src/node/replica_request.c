/* Who does a request: this node, or an owner to whom it is forwarded. */
#include <string.h>

#include "base/planted.h"
#include "cluster/token.h"
#include "node/replica_private.h"

/* --- Forwarding --- */

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
        .serial = ++replica->forward_serial,
        .request = flow->request,
    };
    message.request.has_consistency = true;
    message.request.consistency = flow->consistency;
    message.request.timeout_ms =
        (uint32_t)(flow->deadline_ms > now_ms ? flow->deadline_ms - now_ms : 1);
    replica_send(replica, owner, false, &message);
}

/* Whether this node may coordinate the write. An increment tells what the value is then, which a node
 * that is not filled does not know; one with a name has no choice. */
static bool may_coordinate(const struct replica *replica, const struct request *request,
                           bool others_tried)
{
    return replica_may_stamp(replica, others_tried) && replica_serves(replica) &&
           rangemap_takes(replica->map, replica->self.id, request->key) &&
           (request->kind != REQUEST_LOAD || replica_load_is_whole(replica, request)) &&
           (request->kind != REQUEST_INCREMENT || has_operation(request) ||
            replica_role(replica, request->key) == REPLICA_ANSWERS);
}

void replica_forward(struct replica *replica, struct flow *flow)
{
    node_id owner = replica->time.now_ms < flow->deadline_ms ? choose_owner(replica, flow) : 0;
    bool last = owner == 0 && flow->from_client && flow->refusal == STATUS_OK;
    if (owner != 0) {
        replica_forward_to(replica, flow, owner, flow->tried);
    } else if (last && request_is_write(flow->request.kind) && !has_operation(&flow->request) &&
               may_coordinate(replica, &flow->request, true)) {
        /* All have started anew a moment ago, and each would leave it to others. */
        flow->kind = FLOW_WRITE;
        replica_write_begin(replica, flow);
    } else if (flow->refusal != STATUS_OK)
        replica_fail(replica, flow, REQUEST_REFUSED, flow->refusal);
    else
        replica_fail(replica, flow, REQUEST_NO_HEALTHY_OWNER, STATUS_BUSY);
}

/* --- Requests --- */

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
    } else if (may_coordinate(replica, &flow->request,
                              !flow->from_client || has_operation(&flow->request))) {
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

/* --- Of other nodes --- */

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

void replica_serve_forward(struct replica *replica, node_id from,
                           const struct data_message *message)
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

void replica_forwarded(struct replica *replica, node_id from, const struct data_message *message)
{
    struct flow *flow = replica_flow_find(replica, message->flow);
    if (flow == NULL || flow->kind != FLOW_FORWARD || flow->forwarded_to != from) return;
    struct request_reply reply = message->reply;
    if (flow->moved && reply.outcome != REQUEST_DONE) {
        /* Nothing was done there, maybe, but here: until the newer value comes it can be read. */
        replica_fail(replica, flow, REQUEST_TIMED_OUT, reply.status);
        return;
    }
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
