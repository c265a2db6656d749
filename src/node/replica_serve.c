/* An owner's side: writes that another node coordinates, and questions about what is held here. */
#include "base/check.h"
#include "base/planted.h"
#include "node/replica_private.h"

static enum data_verdict verdict_of(enum status status)
{
    switch (status) {
    case STATUS_OK:
        return DATA_OK;
    case STATUS_STALE:
        return DATA_STALE;
    case STATUS_CLOCK_SKEW:
        return DATA_CLOCK_SKEW;
    case STATUS_FULL:
    case STATUS_READ_ONLY:
        return DATA_FULL;
    case STATUS_CORRUPT:
        return DATA_DAMAGED;
    default:
        return DATA_BUSY;
    }
}

/* --- Writes --- */

static bool takes_all(const struct replica *replica, const struct data_message *message)
{
    struct slice rest = message->entries;
    struct request_entry entry;
    while (data_entry_next(&rest, &entry))
        if (!rangemap_takes(replica->map, replica->self.id, entry.key) &&
            !replica_took_before(replica, entry.key))
            return false;
    return true;
}

/* Into the batch under way; `*version`: what stands in the way, `*was_live`: the word was there. */
static enum data_verdict apply(struct replica *replica, enum data_apply how,
                               const struct request_entry *entry, struct version *version,
                               bool *was_live)
{
    struct store_outcome outcome = {.status = STATUS_OK};
    hlc_time promised = how == DATA_APPLY_HINT ? 0 : replica_promised(replica, entry->key);
    *was_live = false;
    if (entry->record.version.time <= promised) {
        *version = (struct version){.time = promised};
        return DATA_PROMISED;
    }
    struct store_write write = {
        .kind = STORE_APPLY,
        .key = entry->key,
        .record = &entry->record,
        .is_increment = how == DATA_APPLY_INCREMENT,
    };
    if (how == DATA_APPLY_HINT || how == DATA_APPLY_JOIN) write.kind = STORE_MERGE;
    replica_purge_bound(replica, &write);
    replica_store_write(replica, &write, &outcome);
    if (outcome.status == STATUS_STALE) *version = outcome.version;
    /* What comes twice finds itself. */
    *was_live = outcome.status == STATUS_OK && outcome.changed && outcome.was_live;
    return verdict_of(outcome.status);
}

/* Of many all that can be taken: the rest is told of. What takes none of the rest ends it. */
static void apply_all(struct replica *replica, const struct data_message *message,
                      struct data_message *answer)
{
    struct slice rest = message->entries;
    struct request_entry entry;
    struct buf *refusals = &replica->entries;
    buf_clear(refusals);
    for (uint32_t place = 0; data_entry_next(&rest, &entry); place++) {
        struct data_refusal refusal = {.place = place};
        bool was_live;
        enum data_verdict verdict =
            apply(replica, message->apply, &entry, &refusal.version, &was_live);
        refusal.promised = verdict == DATA_PROMISED;
        if (verdict == DATA_OK) continue;
        answer->verdict = verdict;
        if (verdict != DATA_STALE && verdict != DATA_PROMISED) return;
        data_refusal_append(refusals, &refusal);
        answer->refusal_count++;
    }
    if (answer->refusal_count == 0) return;
    answer->verdict = refusals->failed ? DATA_BUSY : DATA_PARTLY;
    answer->refusals = buf_slice(refusals);
}

void replica_serve_apply(struct replica *replica, node_id from, const struct data_message *message)
{
    struct data_message answer = {.kind = DATA_APPLIED, .flow = message->flow};
    struct request_entry entry = {message->key, message->record};
    if (!takes_all(replica, message))
        answer.verdict = DATA_NOT_OWNER;
    else if (message->entry_count == 1)
        answer.verdict = apply(replica, message->apply, &entry, &answer.version, &answer.was_live);
    else
        apply_all(replica, message, &answer);
    if (answer.verdict != DATA_NOT_OWNER && answer.verdict != DATA_PROMISED)
        answer.sequence = store_next_sequence(replica->store);
    /* A record that stood here already may wait for its sync still; so may the newer one, which
     * counts in its place. */
    bool durable = answer.verdict == DATA_OK || answer.verdict == DATA_STALE ||
                   answer.verdict == DATA_PARTLY;
    replica_send(replica, from, durable, &answer);
}

void replica_serve_hold(struct replica *replica, node_id from, const struct data_message *message)
{
    struct data_message answer = {.kind = DATA_HELD, .flow = message->flow};
    /* Under a map that is not known here it might be taken for one of an owner that is none any more. */
    bool ahead = message->map_number > rangemap_identity(replica->map)->number;
    /* Who leaves and has handed over all it owned takes on nothing new. */
    bool gone = replica_is_leaving(replica) && replica->shares.owned.count == 0;
    bool kept = message->owner != replica->self.id && !ahead && !gone;
    struct slice rest = message->entries;
    struct request_entry entry;
    while (kept && data_entry_next(&rest, &entry))
        kept = replica_hint_keep(replica, message->owner, entry.key, &entry.record);
    if (!kept) answer.verdict = DATA_FULL;
    replica_send(replica, from, kept && !planted(BUG_HINT_COUNTED_EARLY), &answer);
}

/* --- Questions --- */

struct telling {
    struct replica *replica;
    struct data_message *told;
    struct buf encoded;
    uint64_t limit;
    bool by_place; /* Of the last entry, in popularity order. */
};

static enum status tell_entry(void *context, struct slice key, const struct record *record)
{
    struct telling *telling = context;
    struct data_message *told = telling->told;
    struct buf *entries = &telling->replica->entries;
    if (told->entry_count == telling->limit || entries->size >= REPLICA_ASK_BYTES_MAX) {
        told->reply.more = true;
        return STATUS_END;
    }
    buf_clear(&telling->encoded);
    record_encode(record, &telling->encoded);
    data_entry_append(entries, key, buf_slice(&telling->encoded));
    told->entry_count++;
    if (telling->encoded.failed || entries->failed) return STATUS_NOMEM;
    return STATUS_OK;
}

static enum status tell_word(struct telling *telling, const struct query *query, struct slice key,
                             bool with_dead)
{
    struct query_hit hit = {0};
    enum status status = query_get(query, key, &hit);
    if (status == STATUS_NOT_FOUND) return STATUS_OK;
    if (status != STATUS_OK) return status;
    return hit.live || with_dead ? tell_entry(telling, key, &hit.record) : STATUS_OK;
}

/* The words that the ranges begin with. */
static enum status tell_words(struct telling *telling, const struct query *query, bool with_dead)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < query->range_count; i++)
        status = tell_word(telling, query, query->ranges[i].low, with_dead);
    return status;
}

/* Range by range: a reader compares them with others' one by one. */
static enum status tell_counts(const struct telling *telling, const struct query *query,
                               struct slice prefix, bool with_sums)
{
    struct data_message *told = telling->told;
    struct buf *counts = &telling->replica->counts;
    struct query part = *query;
    enum status status = STATUS_OK;
    buf_clear(counts);
    part.range_count = 1;
    for (size_t i = 0; status == STATUS_OK && i < query->range_count; i++) {
        struct data_count count = {0};
        part.ranges = &query->ranges[i];
        status = query_count(&part, prefix, &count.live);
        if (status == STATUS_OK && with_sums) status = query_sum(&part, prefix, &count.sum);
        data_count_append(counts, &count);
    }
    told->counts = buf_slice(counts);
    told->count_count = query->range_count;
    return status == STATUS_OK ? buf_status(counts) : status;
}

/* After the last word that was told; BUG_CURSOR_BY_SCORE: after its score. */
static const struct query_position *after_of(const struct request *request,
                                             struct query_position *changed)
{
    if (!request->has_after) return NULL;
    if (!planted(BUG_CURSOR_BY_SCORE)) return &request->after;
    *changed = request->after;
    changed->best.created_time = UINT64_MAX;
    return changed;
}

static enum status tell(struct telling *telling, const struct query *query,
                        const struct request *request, bool with_dead)
{
    struct query_position changed;
    switch (request->kind) {
    case REQUEST_GET:
        return tell_words(telling, query, with_dead);
    case REQUEST_BEST:
        telling->limit = request->limit;
        return query_best(query, request->key, request->limit + 1, after_of(request, &changed),
                          tell_entry, telling);
    case REQUEST_SCAN:
        telling->limit = request->limit;
        return query_scan(query, request->key, &request->from, request->limit + 1, tell_entry,
                          telling);
    case REQUEST_COUNT:
        return tell_counts(telling, query, request->key, with_dead);
    default:
        return STATUS_INVALID;
    }
}

/* What lies below the keys of clients is nobody else's. */
static void clip(struct key_range *range)
{
    if (slice_compare(range->low, REPLICA_KEY_FIRST) < 0) range->low = REPLICA_KEY_FIRST;
}

/* As long as it takes writes it holds what a reader who goes by an older map wants. Who owned it already
 * has its part of what all owners have together, filled or not. */
enum data_verdict replica_may_tell(const struct replica *replica, const struct shard *shard,
                                   bool of_all)
{
    struct owners sets[2];
    size_t count = shard_write_owners(shard, sets);
    bool owns = false;
    for (size_t i = 0; i < count; i++) owns = owns || owners_contain(&sets[i], replica->self.id);
    if (!owns) return DATA_NOT_OWNER;
    bool has_part = of_all && owners_contain(&shard->owners, replica->self.id);
    if (!has_part && !replica_is_filled(replica, shard)) return DATA_UNFILLED;
    return replica_purge_is_complete(replica, shard) ? DATA_OK : DATA_INCOMPLETE;
}

/* That a part is not filled says less than the others. */
static enum data_verdict worse_of(enum data_verdict a, enum data_verdict b)
{
    bool second = a == DATA_OK || (a == DATA_UNFILLED && b != DATA_OK);
    return second ? b : a;
}

/* What it may not answer is added to `told`, or the reader would look for all of it elsewhere. */
static enum data_verdict may_answer(struct replica *replica, const struct key_range *range,
                                    bool of_all, struct data_message *told)
{
    enum data_verdict refused = DATA_OK;
    size_t first, end;
    rangemap_find_range(replica->map, range->low, range->high, &first, &end);
    if (planted(BUG_ACCEPTED_BY_SHARD)) end = first + 1;
    for (; first < end; first++) {
        struct shard shard = rangemap_shard(replica->map, first);
        enum data_verdict verdict = replica_may_tell(replica, &shard, of_all);
        if (verdict == DATA_OK) continue;
        refused = worse_of(refused, verdict);
        if (told->range_count == DATA_RANGES_MAX) return refused;
        struct key_range part = {.low = shard.low, .high = shard.high};
        if (slice_compare(part.low, range->low) < 0) part.low = range->low;
        bool longer = part.high.size == 0 ||
                      (range->high.size > 0 && slice_compare(range->high, part.high) < 0);
        if (longer) part.high = range->high;
        data_range_append(&replica->ranges, &part);
        told->range_count++;
    }
    return refused;
}

enum replica_role replica_role(const struct replica *replica, struct slice key)
{
    if (!rangemap_takes(replica->map, replica->self.id, key)) return REPLICA_STRANGER;
    struct shard shard = rangemap_shard(replica->map, rangemap_find(replica->map, key));
    bool answers = replica_serves(replica) && replica_is_complete(replica, &shard);
    return answers ? REPLICA_ANSWERS : REPLICA_FILLS;
}

enum data_verdict replica_tell(struct replica *replica, const struct data_message *asked,
                               struct data_message *told)
{
    struct slice ranges = asked->ranges;
    struct key_range list[DATA_RANGES_MAX] = {0};
    struct query query = replica_query(replica);
    query.ranges = list;
    enum data_verdict refused = DATA_OK;
    CHECK(asked->range_count <= DATA_RANGES_MAX);
    if (!replica_serves(replica)) return DATA_INCOMPLETE;
    buf_clear(&replica->ranges);
    while (query.range_count < asked->range_count) {
        struct key_range *range = &list[query.range_count++];
        CHECK(data_range_next(&ranges, range));
        clip(range);
        refused = worse_of(refused, may_answer(replica, range, asked->of_all, told));
    }
    if (refused != DATA_OK) {
        told->ranges = buf_slice(&replica->ranges);
        if (replica->ranges.failed) told->range_count = told->ranges.size = 0;
        return refused;
    }
    told->kind = DATA_TOLD;
    told->with_dead = asked->with_dead;
    buf_clear(&replica->entries);
    struct telling telling = {.replica = replica, .told = told, .limit = DATA_ENTRIES_MAX};
    buf_init(&telling.encoded, replica->heap);
    enum status status = tell(&telling, &query, &asked->request, asked->with_dead);
    buf_deinit(&telling.encoded);
    if (status != STATUS_OK) return verdict_of(status);
    told->entries = buf_slice(&replica->entries);
    return DATA_OK;
}

void replica_serve_ask(struct replica *replica, node_id from, const struct data_message *message)
{
    struct data_message told = {0};
    enum data_verdict verdict = DATA_BUSY;
    if (message->sequence <= store_visible_sequence(replica->store))
        verdict = replica_tell(replica, message, &told);
    if (verdict != DATA_OK)
        told = (struct data_message){
            .verdict = verdict, .ranges = told.ranges, .range_count = told.range_count};
    told.kind = DATA_TOLD;
    told.flow = message->flow;
    replica_send(replica, from, false, &told);
}
