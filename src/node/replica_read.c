/* A read, coordinated by any node.
 *
 *     plan       for each shard as many of its owners as the consistency needs: this node first, then
 *                those that are asked anyway, so that few nodes cover all shards, then the healthiest
 *     hedge      who has not answered when 95 of 100 of its answers would have come has a twin: another
 *                owner is asked the same, and who answers first is believed
 *     lists      each owner tells what it holds of its ranges, in the order asked for, up to the limit
 *     confirm    where owners of a shard told different things, each candidate is looked up at those
 *                that did not name it, tombstones included
 *     extend     the last one wanted must come before the end of every list that goes on; a list that
 *                ends too early is continued
 *     repair     owners that lack what was joined are sent it
 *
 * An owner that says no, or nothing for too long, is passed over and the read is planned anew without
 * it; with too few owners left that are up it fails at once. Walks in alphabetical order ask a few
 * shards at a time, and go on while the page is not full.
 *
 * docs/design/coordinating.md has the reasons. */
#include "node/replica_read.h"

#include "base/check.h"
#include "base/math.h"

/* --- Life --- */

void replica_read_free(struct replica *replica, struct flow *flow)
{
    struct flow_read *read = &flow->read;
    asks_clear(&read->lists);
    asks_clear(&read->confirms);
    heap_free(replica->heap, read->lists.list);
    heap_free(replica->heap, read->confirms.list);
    read->lists = read->confirms = (struct asks){0};
    buf_deinit(&read->result);
    buf_deinit(&read->from);
    buf_deinit(&read->differing);
    heap_free(replica->heap, read->avoid);
    read->avoid = NULL;
    rangemap_unref(read->map);
    read->map = NULL;
}

/* --- Questions --- */

void read_start_waiting(const struct replica *replica, struct flow_read *read)
{
    read->pass_ms = replica->time.now_ms + read->patience_ms;
    read->hedge_ms = UINT64_MAX;
}

static void fail(struct replica *replica, struct flow *flow)
{
    replica_fail(replica, flow,
                 flow->consistency == CONSISTENCY_ONE ? REQUEST_NO_HEALTHY_OWNER
                                                      : REQUEST_QUORUM_NOT_MET,
                 STATUS_BUSY);
}

/* Asks for the piece anew, of owners that are not to be avoided. With too few of these, of all, if
 * `ask_all`; else at the next tick: who refused a moment ago would only refuse again. */
static void plan_around(struct replica *replica, struct flow *flow, bool ask_all)
{
    struct flow_read *read = &flow->read;
    asks_clear(&read->lists);
    asks_clear(&read->confirms);
    read->confirming = false;
    read_start_waiting(replica, read);
    if (!read_plan_lists(replica, flow)) {
        /* Those that were too slow may be all there are. */
        bool again = read->avoid_count > 0;
        asks_clear(&read->lists);
        if (again && !ask_all) return;
        read_avoid_nobody(read);
        bool planned = again && read_plan_lists(replica, flow);
        if (!planned) asks_clear(&read->lists);
        if (!planned && !read->self_waits) {
            fail(replica, flow);
            return;
        }
        if (!planned) return;
        read->patience_ms = (uint32_t)u64_min(read->patience_ms * 2, READ_PATIENCE_MAX_MS);
    }
    if (read->no_memory) {
        replica_fail(replica, flow, REQUEST_REFUSED, STATUS_NOMEM);
        return;
    }
    for (size_t i = 0; i < read->lists.count; i++) {
        struct request request = read->question;
        ask_put(replica, flow, &read->lists.list[i], &request, read_asks_dead(read, &request));
    }
    if (asks_done(&read->lists)) read_evaluate(replica, flow);
}

void replica_read_plan(struct replica *replica, struct flow *flow)
{
    plan_around(replica, flow, true);
}

void read_take_piece(struct flow_read *read)
{
    size_t left = read->end_shard - read->next_shard;
    size_t take = left;
    bool descending = read->question.from.descending;
    if (read->question.kind == REQUEST_SCAN) {
        size_t before = read->piece_end - read->piece_first;
        take = size_min(left, size_max(READ_SCAN_SHARDS, 2 * before));
    }
    if (descending) {
        read->piece_end = read->end_shard;
        read->piece_first = read->end_shard = read->end_shard - take;
    } else {
        read->piece_first = read->next_shard;
        read->piece_end = read->next_shard = read->next_shard + take;
    }
}

/* Shards before the place where a walk starts have nothing for it. */
static void skip_to_start(struct flow_read *read)
{
    const struct query_from *from = &read->question.from;
    if (read->question.kind != REQUEST_SCAN || from->key.size == 0) return;
    size_t shard = rangemap_find(read->map, from->key);
    if (from->descending)
        read->end_shard = size_max(read->next_shard, size_min(read->end_shard, shard + 1));
    else
        read->next_shard = size_min(read->end_shard, size_max(read->next_shard, shard));
}

/* All that is asked for, by the map that counts now. */
static void begin(struct replica *replica, struct flow *flow)
{
    struct flow_read *read = &flow->read;
    read->map = rangemap_ref(replica->map);
    read->question = flow->request;
    flow->map_number = rangemap_identity(read->map)->number;
    if (flow->request.kind == REQUEST_GET) {
        read->next_shard = rangemap_find(read->map, flow->request.key);
        read->end_shard = read->next_shard + 1;
    } else {
        rangemap_find_prefix(read->map, flow->request.key, &read->next_shard, &read->end_shard);
    }
    skip_to_start(read);
    read_take_piece(read);
    replica_read_plan(replica, flow);
}

void replica_read_begin(struct replica *replica, struct flow *flow)
{
    struct flow_read *read = &flow->read;
    read->patience_ms = READ_PATIENCE_MS;
    read->result.heap = read->from.heap = read->differing.heap = replica->heap;
    begin(replica, flow);
}

/* Some of those asked did not answer, or refused. With a newer map others may have to be asked, about
 * other shards: what was found so far is found again. */
static void ask_others(struct replica *replica, struct flow *flow, bool ask_all)
{
    struct flow_read *read = &flow->read;
    if (read->map == replica->map) {
        plan_around(replica, flow, ask_all);
        return;
    }
    rangemap_unref(read->map);
    buf_clear(&read->result);
    read->result_count = read->total = 0;
    buf_clear(&read->differing);
    read->differing_next = 0;
    read->piece_first = read->piece_end = 0;
    read->avoid_count = 0;
    begin(replica, flow);
}

/* --- Answers --- */

static struct ask *find_ask(struct flow_read *read, node_id from, uint64_t label)
{
    struct asks *asks = read_asks(read);
    for (size_t i = 0; i < asks->count; i++)
        if (asks->list[i].label == label && asks->list[i].node == from) return &asks->list[i];
    return NULL;
}

static void measure(struct replica *replica, node_id node, uint64_t sent_ms)
{
    uint64_t took_ms = replica->time.now_ms - sent_ms;
    health_heard(replica->health, node, (uint32_t)u64_min(took_ms * 1000 + 500, UINT32_MAX),
                 health_of(replica->health, node).depth);
}

/* Whose twin came first: had it not answered as late as it does, its p95 would be too good. */
static void measure_late(struct replica *replica, node_id from, uint64_t label)
{
    for (size_t i = 0; i < READ_LATE_MAX; i++) {
        struct late *late = &replica->late[i];
        if (late->label != label || late->node != from) continue;
        measure(replica, from, late->sent_ms);
        *late = (struct late){0};
    }
}

void replica_read_told(struct replica *replica, node_id from, const struct data_message *message)
{
    struct flow *flow = replica_flow_find(replica, message->flow);
    bool reads = flow != NULL && flow->kind == FLOW_READ;
    struct ask *ask = reads ? find_ask(&flow->read, from, message->flow) : NULL;
    if (ask == NULL || ask->answered) {
        measure_late(replica, from, message->flow);
        return;
    }
    struct flow_read *read = &flow->read;
    struct asks *asks = read_asks(read);
    bool counts = read->question.kind == REQUEST_COUNT;
    if (message->verdict == DATA_OK && message->count_count != (counts ? ask->range_count : 0)) {
        replica->stats.invalid_count++; /* As if it were silent. */
        return;
    }
    measure(replica, from, ask->sent_ms);
    if (message->verdict != DATA_OK) {
        replica->stats.refused_count++;
        read_avoid_refused(read, ask, message);
        TRACE(replica->trace, "flow %llu: n%u refuses, verdict %d",
              (unsigned long long)flow->number, from, (int)message->verdict);
        if (ask->twin != 0)
            asks_drop_twin(asks, (size_t)(ask - asks->list));
        else
            ask_others(replica, flow, false);
        return;
    }
    ask_absorb(ask, message);
    if (ask->twin != 0) {
        const struct ask *other = &asks->list[ask->twin - 1];
        replica->late[replica->late_count++ % READ_LATE_MAX] =
            (struct late){other->label, other->node, other->sent_ms};
        asks_drop_twin(asks, ask->twin - 1);
    }
    if (asks_done(asks)) read_evaluate(replica, flow);
}

/* --- Hedges --- */

/* Takes out of `ids` who does not own all that the ask is about, or is asked about it already. */
static void keep_fit(const struct flow_read *read, const struct ask *ask, node_id *ids,
                     unsigned *count)
{
    struct slice rest = buf_slice(&ask->ranges);
    struct key_range range;
    while (data_range_next(&rest, &range)) {
        size_t first, end;
        rangemap_find_range(read->map, range.low, range.high, &first, &end);
        for (; first < end; first++) {
            struct shard shard = rangemap_shard(read->map, first);
            const struct owners *owners = shard_read_owners(&shard);
            unsigned kept = 0;
            for (unsigned i = 0; i < *count; i++)
                if (owners_contain(owners, ids[i]) && !read_is_avoided(read, ids[i], first, false))
                    ids[kept++] = ids[i];
            *count = kept;
        }
        for (size_t i = 0; i < read->lists.count; i++) {
            const struct ask *asked = &read->lists.list[i];
            if (!ask_covers(asked, range.low)) continue;
            unsigned kept = 0;
            for (unsigned j = 0; j < *count; j++)
                if (ids[j] != asked->node) ids[kept++] = ids[j];
            *count = kept;
        }
    }
}

/* The healthiest node that could answer in place of the one asked; 0: none. */
static node_id choose_twin(struct replica *replica, const struct flow_read *read,
                           const struct ask *ask)
{
    struct slice rest = buf_slice(&ask->ranges);
    struct key_range range;
    node_id ids[RANGEMAP_OWNERS_MAX];
    CHECK(data_range_next(&rest, &range));
    size_t first = rangemap_find(read->map, range.low);
    struct shard shard = rangemap_shard(read->map, first);
    unsigned count = read_rank(replica, read, first, shard_read_owners(&shard), false, ids);
    keep_fit(read, ask, ids, &count);
    for (unsigned i = 0; i < count; i++)
        if (ids[i] != replica->self.id) return ids[i];
    return 0;
}

/* Asks another node the same. */
static void hedge(struct replica *replica, struct flow *flow, size_t index)
{
    struct flow_read *read = &flow->read;
    struct asks *asks = read_asks(read);
    node_id node = choose_twin(replica, read, &asks->list[index]);
    asks->list[index].hedge_ms = 0;
    if (node == 0 || replica->hedge_tokens < READ_HEDGE_COST) return;
    struct ask *twin = asks_add(replica, asks, node);
    if (twin == NULL) return;
    struct ask *ask = &asks->list[index];
    buf_append_slice(&twin->ranges, buf_slice(&ask->ranges));
    if (twin->ranges.failed) {
        ask_free(twin);
        asks->count--;
        return;
    }
    twin->range_count = ask->range_count;
    twin->twin = index + 1;
    ask->twin = asks->count;
    replica->hedge_tokens -= READ_HEDGE_COST;
    replica->stats.hedge_count++;
    TRACE(replica->trace, "flow %llu: n%u is late, ask n%u too", (unsigned long long)flow->number,
          ask->node, node);
    struct request request = read->question;
    struct slice rest = buf_slice(&twin->ranges);
    struct key_range first;
    CHECK(data_range_next(&rest, &first));
    if (read->confirming) request = (struct request){.kind = REQUEST_GET, .key = first.low};
    ask_put(replica, flow, twin, &request, read_asks_dead(read, &request));
}

static void hedge_late(struct replica *replica, struct flow *flow)
{
    struct flow_read *read = &flow->read;
    const struct asks *asks = read_asks(read);
    read->hedge_ms = UINT64_MAX;
    for (size_t i = 0, count = asks->count; i < count; i++) {
        const struct ask *ask = &asks->list[i];
        if (ask->answered || ask->hedge_ms == 0) continue;
        if (replica->time.now_ms >= ask->hedge_ms)
            hedge(replica, flow, i);
        else
            read->hedge_ms = u64_min(read->hedge_ms, ask->hedge_ms);
    }
}

/* --- Time --- */

uint64_t replica_read_due_ms(const struct flow *flow)
{
    return u64_min(flow->read.pass_ms, flow->read.hedge_ms);
}

void replica_read_tick(struct replica *replica, struct flow *flow)
{
    struct flow_read *read = &flow->read;
    if (replica->time.now_ms >= flow->deadline_ms) {
        replica_fail(replica, flow, REQUEST_TIMED_OUT, STATUS_TIMEOUT);
        return;
    }
    if (replica_is_kept_out(replica)) { /* Nobody answers it now. */
        replica_fail(replica, flow, REQUEST_NO_HEALTHY_OWNER, STATUS_FOREIGN);
        return;
    }
    if (replica->time.now_ms >= read->hedge_ms) hedge_late(replica, flow);
    if (replica->time.now_ms < read->pass_ms) return;
    const struct asks *asks = read_asks(read);
    for (size_t i = 0; i < asks->count; i++) {
        const struct ask *ask = &asks->list[i];
        if (ask->answered) continue;
        read_avoid_everywhere(read, ask->node);
        if (ask->node != replica->self.id)
            health_failed(replica->health, ask->node, HEALTH_TIMEOUT);
    }
    ask_others(replica, flow, true);
}
