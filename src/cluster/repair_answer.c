#include "cluster/repair_private.h"

/* Of ranges that have few records. */
enum { ANSWER_BYTES_MAX = REPAIR_BYTES_AIM + (4 << 20) };

static void send_message(struct repair *repair, node_id to, bool durable,
                         const struct repair_message *message, struct outbox *outbox)
{
    struct buf *out = outbox_begin(outbox, to, PROTOCOL_REPAIR);
    size_t before = out->size;
    repair_message_encode(message, out);
    repair->counts.sent_bytes += out->size - before;
    outbox_end(outbox, durable);
}

static enum repair_verdict answer_root(struct repair *repair, node_id from,
                                       const struct repair_message *message)
{
    struct sum sum;
    uint64_t purged = repair_shared_purged(repair, from, message->scope);
    if (buf_status(&repair->ranges) != STATUS_OK) return REPAIR_REFUSED;
    if (!hash128_equal(message->shared, repair_shared_hash(repair))) return REPAIR_OTHER_MAP;
    if (message->scope == REPAIR_ALL && !repair->env.ready(repair->env.context, from))
        return REPAIR_UNREADY;
    if (purged != message->purged) {
        repair->env.tell_purged(repair->env.context, from);
        return REPAIR_OTHER_PURGE;
    }
    if (repair_shared_sum(repair, from, message->scope, &sum) != STATUS_OK) return REPAIR_REFUSED;
    return sum_equal(sum, message->sum) ? REPAIR_OK : REPAIR_DIFFERS;
}

/* Lists the range's records if they are few; false: they are not, and nothing is appended. */
static enum status list_tags(struct repair *repair, uint64_t session, const struct key_range *range,
                             struct buf *list, bool *listed)
{
    struct repair_walk walk;
    struct buf parts = {.heap = repair->env.heap};
    size_t count = 0;
    uint64_t sum = 0;
    enum status status = repair_walk_begin(repair, range, &walk);
    while (status == STATUS_OK && count <= REPAIR_LEAF_MAX) {
        uint64_t hash = repair_hash(repair, walk.key, &walk.record);
        buf_append_u16le(&parts, repair_tag(session, walk.key, hash));
        sum += hash;
        count++;
        status = repair_walk_next(&walk);
    }
    *listed = status == STATUS_END && count <= REPAIR_LEAF_MAX;
    status = repair_walk_end(&walk, status);
    if (*listed) {
        struct repair_part_list found = {
            repair_knows_all(repair, range) ? REPAIR_LISTED_ALL : REPAIR_LISTED, count, sum};
        repair_finding_append(list, &found);
        buf_append_slice(list, buf_slice(&parts));
        if (parts.failed) list->failed = true;
    }
    buf_deinit(&parts);
    return status == STATUS_OK ? buf_status(list) : status;
}

static enum status cut_range(const struct repair *repair, const struct key_range *range,
                             struct buf *list)
{
    struct buf cuts[REPAIR_PIECES_MAX];
    size_t count;
    for (size_t i = 0; i < REPAIR_PIECES_MAX; i++) buf_init(&cuts[i], repair->env.heap);
    enum status status = repair_choose_cuts(repair, range, cuts, &count);
    /* The first word may be the low itself. */
    size_t first = 0;
    while (first < count && slice_compare(buf_slice(&cuts[first]), range->low) <= 0) first++;
    struct repair_part_list found = {.finding = REPAIR_CUT, .count = count - first + 1};
    if (status == STATUS_OK) repair_finding_append(list, &found);
    struct slice low = range->low;
    for (size_t i = first; status == STATUS_OK && i <= count; i++) {
        struct key_range piece = {low, i == count ? range->high : buf_slice(&cuts[i])};
        struct sum sum;
        status = repair_sum(repair, &piece, &sum);
        repair_part_append(list, low, sum.low);
        low = piece.high;
    }
    for (size_t i = 0; i < REPAIR_PIECES_MAX; i++) {
        if (cuts[i].failed) status = STATUS_NOMEM;
        buf_deinit(&cuts[i]);
    }
    return status == STATUS_OK ? buf_status(list) : status;
}

static enum status compare_range(struct repair *repair, uint64_t session,
                                 const struct key_range *range, uint64_t theirs, struct buf *list)
{
    struct sum sum;
    bool listed;
    enum status status = repair_sum(repair, range, &sum);
    if (status != STATUS_OK) return status;
    if (repair_sum_cut(sum.low) == theirs) {
        repair_finding_append(list, &(struct repair_part_list){.finding = REPAIR_EQUAL});
        return buf_status(list);
    }
    status = list_tags(repair, session, range, list, &listed);
    if (status != STATUS_OK || listed) return status;
    return cut_range(repair, range, list);
}

/* What is shared, walked along with ranges that ascend. */
struct shared_walk {
    struct slice rest;
    struct key_range range;
    bool open;
};

/* The range must be ours to answer for: no hole in what is shared lies in it. */
static bool is_shared(struct shared_walk *walk, const struct key_range *range)
{
    uint64_t ignored;
    while (walk->open && walk->range.high.size > 0 &&
           slice_compare(walk->range.high, range->low) <= 0)
        walk->open = repair_range_next(&walk->rest, &walk->range, &ignored);
    if (!walk->open || slice_compare(range->low, walk->range.low) < 0) return false;
    if (walk->range.high.size == 0) return true;
    return range->high.size > 0 && slice_compare(range->high, walk->range.high) <= 0;
}

static enum repair_verdict answer_compare(struct repair *repair, node_id from,
                                          const struct repair_message *message)
{
    struct slice rest = message->list;
    struct key_range range;
    uint64_t sum, ignored;
    struct shared_walk walk = {0};
    if (repair_shared_purged(repair, from, message->scope) != message->purged)
        return REPAIR_OTHER_PURGE;
    if (buf_status(&repair->ranges) != STATUS_OK) return REPAIR_REFUSED;
    walk.rest = buf_slice(&repair->ranges);
    walk.open = repair_range_next(&walk.rest, &walk.range, &ignored);
    while (repair_range_next(&rest, &range, &sum)) {
        if (!is_shared(&walk, &range)) return REPAIR_OTHER_MAP;
        if (compare_range(repair, message->session, &range, sum, &repair->list) != STATUS_OK)
            return REPAIR_REFUSED;
    }
    return REPAIR_OK;
}

/* What they sent has all that is here. */
static bool is_newer(const struct repair *repair, struct slice key, const struct record *sent,
                     const struct record *here)
{
    struct buf bytes = {.heap = repair->env.heap};
    struct record joined;
    enum status status = record_join(here, sent, &bytes, &joined);
    bool newer = status == STATUS_OK &&
                 repair_hash(repair, key, &joined) == repair_hash(repair, key, sent);
    buf_deinit(&bytes);
    return newer;
}

static bool is_wanted(struct slice tags, uint16_t tag)
{
    uint16_t wanted;
    while (repair_tag_next(&tags, &wanted))
        if (wanted == tag) return true;
    return false;
}

/* Looks among the first records of the range, which may have grown since it was listed, or at all of it. `*found`: all
 * that was wanted is there. What they have as new is not told. */
static enum status look_for(struct repair *repair, node_id from, uint64_t session,
                            const struct repair_want *want, struct slice *sent, uint64_t *count,
                            bool *found)
{
    struct repair_walk walk;
    struct record newer;
    bool whole = want->tags.size == 0;
    size_t left = whole ? SIZE_MAX : want->tags.size / sizeof(uint16_t);
    size_t looks = whole ? SIZE_MAX : 2 * REPAIR_LEAF_MAX;
    uint64_t sum = 0;
    enum status status = repair_walk_begin(repair, &want->range, &walk);
    for (; status == STATUS_OK && left > 0 && looks > 0; looks--) {
        if (repair->list.size > ANSWER_BYTES_MAX) {
            status = STATUS_LIMIT;
            break;
        }
        uint64_t hash = repair_hash(repair, walk.key, &walk.record);
        bool is_it = whole || is_wanted(want->tags, repair_tag(session, walk.key, hash));
        if (is_it && repair->env.owns_with(repair->env.context, from, walk.key)) {
            left--;
            sum += hash;
            /* Of a whole range it is told as well what is not there. */
            bool has = !whole && repair_record_find(sent, walk.key, &newer) &&
                       is_newer(repair, walk.key, &newer, &walk.record);
            if (!has) repair_record_append(&repair->list, walk.key, &walk.record);
            *count += !has;
        }
        status = repair_walk_next(&walk);
    }
    *found = whole || (left == 0 && repair_sum_cut(sum) == want->sum);
    return repair_walk_end(&walk, status);
}

/* Looks first, at what was listed, and joins then. */
static enum repair_verdict answer_exchange(struct repair *repair, node_id from,
                                           const struct repair_message *message,
                                           struct repair_message *out)
{
    struct slice rest = message->wants, sent = message->list, key;
    struct record record;
    struct repair_want want;
    enum repair_verdict verdict = REPAIR_OK;
    buf_clear(&repair->found);
    while (repair->list.size < REPAIR_BYTES_AIM && repair_want_next(&rest, &want)) {
        bool found;
        if (look_for(repair, from, message->session, &want, &sent, &out->count, &found) !=
            STATUS_OK)
            return REPAIR_REFUSED;
        if (out->want_count % 8 == 0) buf_append_u8(&repair->found, 0);
        if (buf_status(&repair->found) != STATUS_OK) return REPAIR_REFUSED;
        if (found) repair->found.data[out->want_count / 8] |= (uint8_t)(1 << out->want_count % 8);
        out->want_count++;
    }
    if (buf_status(&repair->list) != STATUS_OK) return REPAIR_REFUSED;
    rest = message->list;
    while (repair_record_next(&rest, &key, &record)) {
        if (!repair->env.owns_with(repair->env.context, from, key))
            verdict = REPAIR_OTHER_MAP;
        else if (repair->env.merge(repair->env.context, key, &record) != STATUS_OK)
            verdict = REPAIR_REFUSED;
    }
    out->found = buf_slice(&repair->found);
    return verdict;
}

void repair_answer(struct repair *repair, node_id from, const struct repair_message *message,
                   struct outbox *outbox)
{
    struct repair_message out = {.session = message->session, .step = message->step};
    buf_clear(&repair->list);
    switch (message->kind) {
    case REPAIR_ROOT:
        out.kind = REPAIR_ROOTED;
        out.verdict = answer_root(repair, from, message);
        out.knows = repair->env.knowledge(repair->env.context, from, message->scope);
        break;
    case REPAIR_COMPARE:
        out.kind = REPAIR_COMPARED;
        out.verdict = answer_compare(repair, from, message);
        out.count = message->count;
        break;
    default:
        out.kind = REPAIR_EXCHANGED;
        out.verdict = answer_exchange(repair, from, message, &out);
        break;
    }
    if (out.verdict != REPAIR_OK && message->kind != REPAIR_ROOT) {
        out.count = out.want_count = 0;
        out.found = (struct slice){0};
        buf_clear(&repair->list);
    }
    if (message->kind != REPAIR_ROOT) out.list = buf_slice(&repair->list);
    /* What was sent counts at the other side: it must stay. */
    bool durable = message->kind == REPAIR_EXCHANGE && message->count > 0;
    send_message(repair, from, durable, &out, outbox);
}
