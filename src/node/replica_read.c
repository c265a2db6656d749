/* A read, coordinated by any node.
 *
 *     plan       for each shard as many of its owners as the consistency needs: this node first, then
 *                those that are asked anyway, so that few nodes cover all shards
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
#include "base/check.h"
#include "base/math.h"
#include "base/planted.h"
#include "core/key.h"
#include "node/replica_private.h"

static void plan_around(struct replica *replica, struct flow *flow, bool ask_all);
static void evaluate(struct replica *replica, struct flow *flow);

/* --- Asks --- */

static void ask_free(struct ask *ask)
{
    buf_deinit(&ask->ranges);
    buf_deinit(&ask->entries);
    buf_deinit(&ask->end);
}

static void asks_clear(struct asks *asks)
{
    for (size_t i = 0; i < asks->count; i++) ask_free(&asks->list[i]);
    asks->count = 0;
}

static struct ask *asks_add(struct replica *replica, struct asks *asks, node_id node)
{
    if (asks->count == asks->capacity) {
        size_t capacity = size_max(8, asks->capacity * 2);
        struct ask *list = heap_realloc(replica->heap, asks->list, capacity * sizeof *list);
        if (list == NULL) return NULL;
        asks->list = list;
        asks->capacity = capacity;
    }
    struct ask *ask = &asks->list[asks->count++];
    *ask = (struct ask){
        .node = node,
        .ranges = {.heap = replica->heap},
        .entries = {.heap = replica->heap},
        .end = {.heap = replica->heap},
    };
    return ask;
}

/* The newest ask of the node that has room, or one more. */
static struct ask *ask_for(struct replica *replica, struct asks *asks, node_id node, bool own)
{
    for (size_t i = asks->count; i > 0 && !own; i--) {
        struct ask *ask = &asks->list[i - 1];
        if (ask->node == node && ask->range_count < DATA_RANGES_MAX) return ask;
    }
    return asks_add(replica, asks, node);
}

/* A part of an answer that found no memory: nothing may be made of the rest. */
static bool asks_failed(const struct asks *asks)
{
    for (size_t i = 0; i < asks->count; i++)
        if (asks->list[i].entries.failed || asks->list[i].end.failed) return true;
    return false;
}

static bool asks_done(const struct asks *asks)
{
    for (size_t i = 0; i < asks->count; i++)
        if (!asks->list[i].answered) return false;
    return true;
}

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
    rangemap_unref(read->map);
    read->map = NULL;
}

/* --- Plan --- */

static bool is_avoided(const struct flow_read *read, node_id node)
{
    for (size_t i = 0; i < read->avoid_count; i++)
        if (read->avoid[i] == node) return true;
    return false;
}

static void avoid(struct flow_read *read, node_id node)
{
    if (is_avoided(read, node)) return;
    /* With so many out of the way the first may have another chance. */
    if (read->avoid_count == sizeof read->avoid / sizeof *read->avoid) read->avoid_count = 0;
    read->avoid[read->avoid_count++] = node;
}

static unsigned need_of(const struct flow *flow, const struct owners *owners)
{
    switch (flow->consistency) {
    case CONSISTENCY_ONE:
        return 1;
    case CONSISTENCY_QUORUM:
        return owners->read_quorum;
    case CONSISTENCY_ALL:
        break;
    }
    return owners->count;
}

static bool is_asked(const struct flow_read *read, node_id node)
{
    for (size_t i = 0; i < read->lists.count; i++)
        if (read->lists.list[i].node == node) return true;
    return false;
}

/* Owners of the shard in the order in which to ask them; how many are up. */
static unsigned rank(struct replica *replica, const struct flow_read *read,
                     const struct owners *owners, node_id ids[RANGEMAP_OWNERS_MAX])
{
    unsigned count = 0;
    for (size_t i = 0; i < owners->count; i++)
        if (!replica_is_down(replica, owners->ids[i]) && !is_avoided(read, owners->ids[i]))
            ids[count++] = owners->ids[i];
    /* Chance spreads the load over those that are as good; the two that follow go in front. */
    for (unsigned i = count; i > 1; i--) {
        unsigned j = prng_below(&replica->prng, i);
        node_id swap = ids[i - 1];
        ids[i - 1] = ids[j];
        ids[j] = swap;
    }
    unsigned front = 0;
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned i = front; i < count; i++) {
            bool first = pass == 0 ? ids[i] == replica->self.id : is_asked(read, ids[i]);
            if (!first) continue;
            node_id swap = ids[front];
            ids[front++] = ids[i];
            ids[i] = swap;
        }
    }
    return count;
}

static void add_range(struct ask *ask, const struct key_range *range)
{
    data_range_append(&ask->ranges, range);
    ask->range_count++;
}

static void check_ask(struct flow_read *read, const struct ask *ask)
{
    if (ask == NULL || ask->ranges.failed) read->no_memory = true;
}

/* The range of one key alone. */
static void add_word(struct replica *replica, struct ask *ask, struct slice key)
{
    struct buf end = {.heap = replica->heap};
    buf_append_slice(&end, key);
    buf_append_u8(&end, 0);
    if (end.failed) ask->ranges.failed = true;
    add_range(ask, &(struct key_range){key, buf_slice(&end)});
    buf_deinit(&end);
}

static void ask_about(struct replica *replica, struct flow_read *read, node_id node, size_t index,
                      const struct shard *shard)
{
    /* Counts are compared shard by shard. */
    bool own = read->compare && read->question.kind == REQUEST_COUNT;
    struct ask *ask = ask_for(replica, &read->lists, node, own);
    check_ask(read, ask);
    if (read->no_memory) return;
    if (ask->range_count == 0) ask->shard = index;
    if (read->question.kind == REQUEST_GET)
        add_word(replica, ask, read->question.key);
    else
        add_range(ask, &(struct key_range){shard->low, shard->high});
    check_ask(read, ask);
}

/* False: too few owners of some shard are up. */
static bool plan_lists(struct replica *replica, struct flow *flow)
{
    struct flow_read *read = &flow->read;
    read->compare = false;
    for (size_t i = read->piece_first; i < read->piece_end && !read->compare; i++) {
        struct shard shard = rangemap_shard(read->map, i);
        read->compare = need_of(flow, shard_read_owners(&shard)) > 1;
    }
    for (size_t i = read->piece_first; i < read->piece_end; i++) {
        struct shard shard = rangemap_shard(read->map, i);
        const struct owners *owners = shard_read_owners(&shard);
        node_id ids[RANGEMAP_OWNERS_MAX];
        unsigned need = need_of(flow, owners);
        if (rank(replica, read, owners, ids) < need) return false;
        for (unsigned j = 0; j < need; j++) ask_about(replica, read, ids[j], i, &shard);
    }
    return true;
}

static void absorb(struct flow_read *read, struct ask *ask, const struct data_message *told)
{
    struct slice rest = told->entries;
    struct request_entry entry;
    ask->answered = true;
    ask->more = told->reply.more;
    ask->count = told->reply.count;
    ask->digest = told->digest;
    ask->entry_count += told->entry_count;
    buf_append_slice(&ask->entries, told->entries);
    while (data_entry_next(&rest, &entry)) {
        ask->end_best = record_best(&entry.record);
        if (rest.size > 0) continue;
        buf_clear(&ask->end);
        buf_append_slice(&ask->end, entry.key);
    }
    (void)read;
}

/* The question, continued after what the ask has told. */
static struct request next_page(const struct flow_read *read, const struct ask *ask)
{
    struct request request = read->question;
    if (ask->end.size == 0) return request;
    if (request.kind == REQUEST_BEST) {
        request.has_after = true;
        request.after = (struct query_position){ask->end_best, buf_slice(&ask->end)};
    } else if (request.kind == REQUEST_SCAN) {
        request.from.key = buf_slice(&ask->end);
        request.from.inclusive = false;
    }
    return request;
}

/* Answers from the own view, or sends. */
static void put_question(struct replica *replica, struct flow *flow, struct ask *ask,
                         const struct request *request, bool with_dead)
{
    struct flow_read *read = &flow->read;
    ask->answered = false;
    ask->label = flow_label(flow, read->serial++);
    if (ask->node == replica->self.id) {
        struct data_message told = {0};
        told.verdict = replica_tell(replica, request, with_dead, buf_slice(&ask->ranges),
                                    ask->range_count, &told);
        if (told.verdict == DATA_OK) absorb(read, ask, &told);
        /* What this node cannot answer is found out at the next tick. */
        if (told.verdict != DATA_OK) avoid(read, ask->node);
        return;
    }
    struct data_message message = {
        .kind = DATA_ASK,
        .flow = ask->label,
        .request = *request,
        .with_dead = with_dead,
        .ranges = buf_slice(&ask->ranges),
        .range_count = ask->range_count,
    };
    replica_send(replica, ask->node, false, &message);
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
    read->hedge_ms = replica->time.now_ms + read->patience_ms;
    if (!plan_lists(replica, flow)) {
        /* Those that were too slow may be all there are. */
        bool again = read->avoid_count > 0;
        asks_clear(&read->lists);
        if (again && !ask_all) return;
        read->avoid_count = 0;
        if (!again || !plan_lists(replica, flow)) {
            fail(replica, flow);
            return;
        }
        read->patience_ms = (uint32_t)u64_min(read->patience_ms * 2, READ_PATIENCE_MS);
    }
    if (read->no_memory) {
        replica_fail(replica, flow, REQUEST_REFUSED, STATUS_NOMEM);
        return;
    }
    for (size_t i = 0; i < read->lists.count; i++) {
        struct request request = read->question;
        put_question(replica, flow, &read->lists.list[i], &request,
                     read->question.kind == REQUEST_GET);
    }
    if (asks_done(&read->lists)) evaluate(replica, flow);
}

/* The next shards of a walk, or all. */
static void take_piece(struct flow_read *read)
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

void replica_read_begin(struct replica *replica, struct flow *flow)
{
    struct flow_read *read = &flow->read;
    read->map = rangemap_ref(replica->map);
    read->question = flow->request;
    read->patience_ms = READ_HEDGE_MS;
    read->result.heap = read->from.heap = replica->heap;
    if (flow->request.kind == REQUEST_GET) {
        read->next_shard = rangemap_find(read->map, flow->request.key);
        read->end_shard = read->next_shard + 1;
    } else {
        rangemap_find_prefix(read->map, flow->request.key, &read->next_shard, &read->end_shard);
    }
    skip_to_start(read);
    take_piece(read);
    plan_around(replica, flow, true);
}

/* --- Answers --- */

static struct ask *find_ask(struct flow_read *read, node_id from, uint64_t label)
{
    struct asks *asks = read->confirming ? &read->confirms : &read->lists;
    for (size_t i = 0; i < asks->count; i++)
        if (asks->list[i].label == label && asks->list[i].node == from) return &asks->list[i];
    return NULL;
}

void replica_read_told(struct replica *replica, node_id from, const struct data_message *message)
{
    struct flow *flow = replica_flow_find(replica, message->flow);
    if (flow == NULL || flow->kind != FLOW_READ) return;
    struct flow_read *read = &flow->read;
    struct ask *ask = find_ask(read, from, message->flow);
    if (ask == NULL || ask->answered) return;
    if (message->verdict != DATA_OK) {
        replica->stats.refused_count++;
        avoid(read, from);
        plan_around(replica, flow, false);
        return;
    }
    absorb(read, ask, message);
    if (asks_done(read->confirming ? &read->confirms : &read->lists)) evaluate(replica, flow);
}

void replica_read_tick(struct replica *replica, struct flow *flow)
{
    struct flow_read *read = &flow->read;
    if (replica->time.now_ms >= flow->deadline_ms) {
        replica_fail(replica, flow, REQUEST_TIMED_OUT, STATUS_TIMEOUT);
        return;
    }
    if (replica->time.now_ms < read->hedge_ms) return;
    const struct asks *asks = read->confirming ? &read->confirms : &read->lists;
    for (size_t i = 0; i < asks->count; i++)
        if (!asks->list[i].answered) avoid(read, asks->list[i].node);
    replica->stats.hedge_count++;
    plan_around(replica, flow, true);
}

/* --- Confirming --- */

static bool ask_covers(const struct ask *ask, struct slice key)
{
    struct slice rest = buf_slice(&ask->ranges);
    struct key_range range;
    while (data_range_next(&rest, &range)) {
        bool below = range.high.size == 0 || slice_compare(key, range.high) < 0;
        if (below && slice_compare(key, range.low) >= 0) return true;
    }
    return false;
}

static bool has_reported(const struct merge *merge, const struct candidate *candidate, node_id node)
{
    for (size_t i = 0; i < candidate->count; i++)
        if (merge->reports[candidate->first + i].node == node) return true;
    return false;
}

static void confirm_at(struct replica *replica, struct flow_read *read, node_id node,
                       struct slice key)
{
    struct ask *ask = ask_for(replica, &read->confirms, node, false);
    if (ask != NULL) add_word(replica, ask, key);
    check_ask(read, ask);
}

/* Who was asked about a candidate's range and did not name it is asked about it by name. Keys come
 * in order, so the ranges of each ask do. True if there is anybody to ask. */
static bool confirm(struct replica *replica, struct flow *flow, const struct merge *merge)
{
    struct flow_read *read = &flow->read;
    if (planted(BUG_UNCONFIRMED_LISTS)) return false;
    for (size_t i = 0; i < merge->candidate_count; i++) {
        const struct candidate *candidate = &merge->candidates[i];
        for (size_t j = 0; j < read->lists.count; j++) {
            const struct ask *ask = &read->lists.list[j];
            if (!ask_covers(ask, candidate->key)) continue;
            if (!has_reported(merge, candidate, ask->node))
                confirm_at(replica, read, ask->node, candidate->key);
        }
    }
    if (read->confirms.count == 0 || read->no_memory) return false;
    read->confirming = true;
    read->hedge_ms = replica->time.now_ms + read->patience_ms;
    for (size_t i = 0; i < read->confirms.count; i++) {
        struct ask *ask = &read->confirms.list[i];
        struct slice rest = buf_slice(&ask->ranges);
        struct key_range first;
        CHECK(data_range_next(&rest, &first));
        struct request request = {.kind = REQUEST_GET, .key = first.low};
        put_question(replica, flow, ask, &request, true);
    }
    return true;
}

/* --- Repair --- */

static void repair_at(struct replica *replica, node_id node, const struct candidate *candidate)
{
    replica->stats.repaired_count++;
    if (node == replica->self.id) {
        struct store_outcome outcome;
        if (!rangemap_takes(replica->map, node, candidate->key)) return;
        replica_store_write(replica,
                            &(struct store_write){.kind = STORE_MERGE,
                                                  .key = candidate->key,
                                                  .record = &candidate->record},
                            &outcome);
        return;
    }
    /* Nobody waits for the answer: it finds no hint of this number. */
    struct data_message message = {
        .kind = DATA_APPLY,
        .flow = HINT_LABEL,
        .apply = DATA_APPLY_HINT,
        .key = candidate->key,
        .record = candidate->record,
    };
    replica_send(replica, node, false, &message);
}

/* Sends the joined record to those asked that told something else, or nothing. */
static void repair(struct replica *replica, const struct flow_read *read, const struct merge *merge,
                   const struct candidate *candidate)
{
    for (size_t i = 0; i < candidate->count; i++) {
        const struct report *report = &merge->reports[candidate->first + i];
        if (!record_equal(&report->record, &candidate->record))
            repair_at(replica, report->node, candidate);
    }
    for (size_t i = 0; i < read->lists.count; i++) {
        const struct ask *ask = &read->lists.list[i];
        if (!has_reported(merge, candidate, ask->node) && ask_covers(ask, candidate->key))
            repair_at(replica, ask->node, candidate);
    }
}

/* --- The end --- */

static void reply_entries(struct replica *replica, struct flow *flow, bool more)
{
    struct flow_read *read = &flow->read;
    struct request_reply reply = {.outcome = REQUEST_DONE, .more = more};
    if (flow->request.kind == REQUEST_GET && read->result_count == 0)
        reply.outcome = REQUEST_ABSENT;
    struct request_entry *entries =
        heap_alloc(replica->heap, (read->result_count + 1) * sizeof *entries);
    if (entries == NULL || buf_status(&read->result) != STATUS_OK) {
        heap_free(replica->heap, entries);
        replica_fail(replica, flow, REQUEST_REFUSED, STATUS_NOMEM);
        return;
    }
    struct slice rest = buf_slice(&read->result);
    while (reply.entry_count < read->result_count &&
           data_entry_next(&rest, &entries[reply.entry_count]))
        reply.entry_count++;
    reply.entries = entries;
    replica_reply(replica, flow, &reply);
    replica_flow_end(replica, flow);
    heap_free(replica->heap, entries);
}

static void reply_count(struct replica *replica, struct flow *flow)
{
    replica_reply(replica, flow,
                  &(struct request_reply){.outcome = REQUEST_DONE, .count = flow->read.total});
    replica_flow_end(replica, flow);
}

static void keep_results(struct replica *replica, struct flow_read *read, const struct merge *merge,
                         size_t count)
{
    struct buf encoded = {.heap = replica->heap};
    for (size_t i = 0; i < count; i++) {
        buf_clear(&encoded);
        record_encode(&merge->candidates[i].record, &encoded);
        data_entry_append(&read->result, merge->candidates[i].key, buf_slice(&encoded));
        if (encoded.failed) read->result.failed = true;
    }
    read->result_count += count;
    buf_deinit(&encoded);
}

/* How many of the candidates, in their order, come before the end of every list that goes on. */
static size_t count_certain(const struct flow_read *read, const struct merge *merge)
{
    size_t certain = merge->candidate_count;
    for (size_t i = 0; i < read->lists.count; i++) {
        const struct ask *ask = &read->lists.list[i];
        if (!ask->more) continue;
        while (certain > 0) {
            const struct candidate *last = &merge->candidates[certain - 1];
            if (merge_compare(&read->question, record_best(&last->record), last->key, ask->end_best,
                              buf_slice(&ask->end)) <= 0)
                break;
            certain--;
        }
    }
    return certain;
}

static bool any_more(const struct flow_read *read)
{
    for (size_t i = 0; i < read->lists.count; i++)
        if (read->lists.list[i].more) return true;
    return false;
}

/* Lists that go on, continued. */
static void extend(struct replica *replica, struct flow *flow)
{
    struct flow_read *read = &flow->read;
    asks_clear(&read->confirms);
    read->confirming = false;
    read->hedge_ms = replica->time.now_ms + read->patience_ms;
    for (size_t i = 0; i < read->lists.count; i++) {
        struct ask *ask = &read->lists.list[i];
        if (!ask->more) continue;
        struct request request = next_page(read, ask);
        put_question(replica, flow, ask, &request, false);
    }
    if (asks_done(&read->lists)) evaluate(replica, flow);
}

/* On with the next shards of a walk, after what was found. */
static void next_piece(struct replica *replica, struct flow *flow)
{
    struct flow_read *read = &flow->read;
    read->question.limit = flow->request.limit - read->result_count;
    take_piece(read);
    plan_around(replica, flow, true);
}

/* --- Counting --- */

/* The shard's owners differ: its words are walked, a page at a time. */
static void count_by_pages(struct replica *replica, struct flow *flow, size_t shard)
{
    struct flow_read *read = &flow->read;
    read->counting_pages = true;
    read->piece_first = shard;
    read->piece_end = shard + 1;
    read->question.kind = REQUEST_SCAN;
    read->question.limit = REQUEST_LIMIT_MAX;
    read->question.from = (struct query_from){0};
    plan_around(replica, flow, true);
}

/* Adds up the shards whose owners agree, up to the first whose owners do not. */
static void evaluate_count(struct replica *replica, struct flow *flow)
{
    struct flow_read *read = &flow->read;
    for (size_t i = 0; i < read->lists.count; i++) {
        const struct ask *ask = &read->lists.list[i];
        if (!read->compare) {
            read->total += ask->count;
            continue;
        }
        bool first = i == 0 || read->lists.list[i - 1].shard != ask->shard;
        if (!first) continue;
        for (size_t j = i; j < read->lists.count && read->lists.list[j].shard == ask->shard; j++) {
            if (sum_equal(read->lists.list[j].digest, ask->digest)) continue;
            read->next_shard = ask->shard + 1;
            count_by_pages(replica, flow, ask->shard);
            return;
        }
        read->total += ask->count;
    }
    reply_count(replica, flow);
}

/* A page of the shard whose owners differ is counted; on with the next one, or the next shards. */
static void counted_page(struct replica *replica, struct flow *flow, const struct merge *merge,
                         size_t count, bool more)
{
    struct flow_read *read = &flow->read;
    read->total += count;
    if (more && count > 0) {
        buf_clear(&read->from);
        buf_append_slice(&read->from, merge->candidates[count - 1].key);
        read->question.from.key = buf_slice(&read->from);
        plan_around(replica, flow, true);
        return;
    }
    read->counting_pages = false;
    read->question = flow->request;
    if (read->next_shard >= read->end_shard) {
        reply_count(replica, flow);
        return;
    }
    take_piece(read);
    plan_around(replica, flow, true);
}

/* --- All that was asked is answered --- */

static void evaluate_merged(struct replica *replica, struct flow *flow, struct merge *merge)
{
    struct flow_read *read = &flow->read;
    bool get = read->question.kind == REQUEST_GET;
    if (read->compare && !read->confirming && !get && confirm(replica, flow, merge)) {
        if (asks_done(&read->confirms)) evaluate(replica, flow);
        return;
    }
    if (read->no_memory) {
        replica_fail(replica, flow, REQUEST_REFUSED, STATUS_NOMEM);
        return;
    }
    if (read->compare)
        for (size_t i = 0; i < merge->candidate_count; i++)
            repair(replica, read, merge, &merge->candidates[i]);
    merge_order(merge, &read->question, replica->time.wall_ms);

    size_t wanted = get ? 1 : read->question.limit;
    size_t certain = count_certain(read, merge);
    if (certain < wanted && any_more(read)) {
        extend(replica, flow);
        return;
    }
    size_t count = size_min(wanted, certain);
    bool more = any_more(read) || merge->candidate_count > count;
    if (read->counting_pages) {
        counted_page(replica, flow, merge, count, more);
        return;
    }
    keep_results(replica, read, merge, count);
    bool shards_left = read->next_shard < read->end_shard;
    if (count < wanted && shards_left && !get)
        next_piece(replica, flow);
    else
        reply_entries(replica, flow, more || shards_left);
}

static void evaluate(struct replica *replica, struct flow *flow)
{
    struct merge merge;
    if (asks_failed(&flow->read.lists) || asks_failed(&flow->read.confirms)) {
        replica_fail(replica, flow, REQUEST_REFUSED, STATUS_NOMEM);
        return;
    }
    if (flow->read.question.kind == REQUEST_COUNT) {
        evaluate_count(replica, flow);
        return;
    }
    enum status status = merge_build(&merge, replica->heap, &flow->read);
    if (status == STATUS_OK)
        evaluate_merged(replica, flow, &merge);
    else
        replica_fail(replica, flow, REQUEST_REFUSED, status);
    merge_free(&merge, replica->heap);
}
