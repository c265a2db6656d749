#include "base/check.h"
#include "base/math.h"
#include "base/planted.h"
#include "node/replica_read.h"

/* --- Confirming --- */

static bool has_reported(const struct merge *merge, const struct candidate *candidate, node_id node)
{
    for (size_t i = 0; i < candidate->count; i++)
        if (merge->reports[candidate->first + i].node == node) return true;
    return false;
}

static void confirm_at(struct replica *replica, struct flow_read *read, const struct ask *list,
                       struct slice key)
{
    struct ask *ask = asks_for(replica, &read->confirms, list->node, list->of_all);
    if (ask != NULL) ask_add_word(replica, ask, key);
    ask_check(read, ask);
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
                confirm_at(replica, read, ask, candidate->key);
        }
    }
    if (read->confirms.count == 0 || read->no_memory) return false;
    read->confirming = true;
    read_start_waiting(replica, read);
    for (size_t i = 0; i < read->confirms.count; i++) {
        struct ask *ask = &read->confirms.list[i];
        struct slice rest = buf_slice(&ask->ranges);
        struct key_range first;
        CHECK(data_range_next(&rest, &first));
        struct request request = {.kind = REQUEST_GET, .key = first.low};
        ask_put(replica, flow, ask, &request, true);
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
        replica_merge(replica, candidate->key, &candidate->record, &outcome);
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

/* What was kept, and then the first `count` candidates. */
static void reply_entries(struct replica *replica, struct flow *flow, const struct merge *merge,
                          size_t count, bool more)
{
    struct flow_read *read = &flow->read;
    struct request_reply reply = {.outcome = REQUEST_DONE, .more = more};
    size_t all = read->result_count + count;
    if (flow->request.kind == REQUEST_GET && all == 0) reply.outcome = REQUEST_ABSENT;
    struct request_entry *entries = heap_alloc(replica->heap, (all + 1) * sizeof *entries);
    if (entries == NULL || buf_status(&read->result) != STATUS_OK) {
        heap_free(replica->heap, entries);
        replica_fail(replica, flow, REQUEST_REFUSED, STATUS_NOMEM);
        return;
    }
    struct slice rest = buf_slice(&read->result);
    while (reply.entry_count < read->result_count &&
           data_entry_next(&rest, &entries[reply.entry_count]))
        reply.entry_count++;
    for (size_t i = 0; i < count; i++)
        entries[reply.entry_count++] =
            (struct request_entry){merge->candidates[i].key, merge->candidates[i].record};
    reply.entries = entries;
    replica_reply(replica, flow, &reply);
    replica_flow_end(replica, flow);
    heap_free(replica->heap, entries);
}

static void keep_results(struct flow_read *read, const struct merge *merge, size_t count)
{
    for (size_t i = 0; i < count; i++)
        data_entry_append(&read->result, merge->candidates[i].key, merge->candidates[i].encoded);
    read->result_count += count;
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
    read_start_waiting(replica, read);
    for (size_t i = 0; i < read->lists.count; i++) {
        struct ask *ask = &read->lists.list[i];
        if (!ask->more) continue;
        struct request request = ask_next_page(read, ask);
        ask_put(replica, flow, ask, &request, false);
    }
    if (asks_done(&read->lists)) read_evaluate(replica, flow);
}

/* On with the next shards of a walk, after what was found. */
static void next_piece(struct replica *replica, struct flow *flow)
{
    struct flow_read *read = &flow->read;
    read->question.limit = flow->request.limit - read->result_count;
    read_take_piece(read);
    replica_read_plan(replica, flow);
}

/* --- All that was asked is answered --- */

static void evaluate_merged(struct replica *replica, struct flow *flow, struct merge *merge)
{
    struct flow_read *read = &flow->read;
    bool get = read->question.kind == REQUEST_GET;
    if (read->compare && !read->confirming && !get && confirm(replica, flow, merge)) {
        if (asks_done(&read->confirms)) read_evaluate(replica, flow);
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
    if (flow->request.kind == REQUEST_COUNT) { /* Word by word. */
        replica_count_page(replica, flow, merge, count, more);
        return;
    }
    bool shards_left = read->next_shard < read->end_shard;
    if (count < wanted && shards_left && !get) {
        keep_results(read, merge, count);
        next_piece(replica, flow);
    } else {
        reply_entries(replica, flow, merge, count, more || shards_left);
    }
}

void read_evaluate(struct replica *replica, struct flow *flow)
{
    struct merge merge;
    if (asks_failed(&flow->read.lists) || asks_failed(&flow->read.confirms)) {
        replica_fail(replica, flow, REQUEST_REFUSED, STATUS_NOMEM);
        return;
    }
    if (flow->read.question.kind == REQUEST_COUNT) {
        replica_count_evaluate(replica, flow);
        return;
    }
    enum status status = merge_build(&merge, replica->heap, &flow->read);
    if (status == STATUS_OK)
        evaluate_merged(replica, flow, &merge);
    else
        replica_fail(replica, flow, REQUEST_REFUSED, status);
    merge_free(&merge, replica->heap);
}
