/* Counting the words under a prefix, a part of a read.
 *
 * Each owner tells what it holds of each shard: live words, and a sum of all its records. Where those of a
 * shard's owners are equal so is what they hold, and one of their counts is the answer. Where not,
 * the words of that shard are walked, as for any page that is joined of what several owners told.
 *
 * docs/design/coordinating.md has the reasons. */
#include "base/bytes.h"
#include "node/replica_private.h"

static void reply_count(struct replica *replica, struct flow *flow)
{
    replica_reply(replica, flow,
                  &(struct request_reply){.outcome = REQUEST_DONE, .count = flow->read.total});
    replica_flow_end(replica, flow);
}

/* What the owners of a shard told of it. */
struct tally {
    struct data_count count; /* The first one's. */
    bool told, differs;
};

static void tally_ask(const struct flow_read *read, const struct ask *ask, struct tally *tallies)
{
    struct slice ranges = buf_slice(&ask->ranges), counts = buf_slice(&ask->counts);
    struct key_range range;
    struct data_count count;
    while (data_range_next(&ranges, &range) && data_count_next(&counts, &count)) {
        size_t shard = rangemap_find(read->map, range.low);
        struct tally *tally = &tallies[shard - read->piece_first];
        if (!tally->told) tally->count = count;
        tally->differs = tally->differs || !sum_equal(tally->count.sum, count.sum);
        tally->told = true;
    }
}

/* The next shard whose owners differ is walked, a page at a time; after the last one all is counted. */
static void count_next_by_pages(struct replica *replica, struct flow *flow)
{
    struct flow_read *read = &flow->read;
    if (read->differing_next == read->differing.size) {
        reply_count(replica, flow);
        return;
    }
    read->piece_first = load_u32le(read->differing.data + read->differing_next);
    read->piece_end = read->piece_first + 1;
    read->differing_next += sizeof(uint32_t);
    read->question.kind = REQUEST_SCAN;
    read->question.limit = REQUEST_LIMIT_MAX;
    read->question.from = (struct query_from){0};
    replica_read_plan(replica, flow);
}

/* Adds up the shards whose owners agree. */
void replica_count_evaluate(struct replica *replica, struct flow *flow)
{
    struct flow_read *read = &flow->read;
    size_t count = read->piece_end - read->piece_first;
    struct tally *tallies = heap_zalloc(replica->heap, (count + 1) * sizeof *tallies);
    for (size_t i = 0; tallies != NULL && i < read->lists.count; i++)
        tally_ask(read, &read->lists.list[i], tallies);
    for (size_t i = 0; tallies != NULL && i < count; i++) {
        if (tallies[i].differs)
            buf_append_u32le(&read->differing, (uint32_t)(read->piece_first + i));
        else
            read->total += tallies[i].count.live;
    }
    bool failed = tallies == NULL || read->differing.failed;
    heap_free(replica->heap, tallies);
    if (failed)
        replica_fail(replica, flow, REQUEST_REFUSED, STATUS_NOMEM);
    else
        count_next_by_pages(replica, flow);
}

/* A page of the shard whose owners differ is counted; on with the next one, or the next shard. */
void replica_count_page(struct replica *replica, struct flow *flow, const struct merge *merge,
                        size_t count, bool more)
{
    struct flow_read *read = &flow->read;
    read->total += count;
    if (!more || count == 0) {
        count_next_by_pages(replica, flow);
        return;
    }
    buf_clear(&read->from);
    buf_append_slice(&read->from, merge->candidates[count - 1].key);
    read->question.from.key = buf_slice(&read->from);
    replica_read_plan(replica, flow);
}
