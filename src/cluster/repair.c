#include "cluster/repair.h"

#include <xxhash.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/math.h"
#include "base/planted.h"
#include "cluster/repair_message.h"

enum {
    ANSWER_BYTES_MAX = REPAIR_BYTES_AIM + (4 << 20), /* Of ranges that have few records. */
    LEAF_AIM = REPAIR_LEAF_MAX - 2,
    LEAF_HERE_MAX =
        4 * REPAIR_LEAF_MAX, /* Against what the peer lists; of more it is asked about pieces. */
};

/* --- Life --- */

static void session_init(struct repair_session *session, struct heap *heap)
{
    *session = (struct repair_session){.sent = {.heap = heap},
                                       .asked = {.heap = heap},
                                       .stack = {.heap = heap},
                                       .push = {.heap = heap},
                                       .wants = {.heap = heap},
                                       .want_ranges = {.heap = heap},
                                       .lost = {.heap = heap}};
}

/* Memory of an idle session is given back: it may have been megabytes. */
static void session_free(struct repair_session *session)
{
    struct heap *heap = session->sent.heap;
    buf_deinit(&session->sent);
    buf_deinit(&session->asked);
    buf_deinit(&session->stack);
    buf_deinit(&session->push);
    buf_deinit(&session->wants);
    buf_deinit(&session->want_ranges);
    buf_deinit(&session->lost);
    session_init(session, heap);
}

void repair_init(struct repair *repair, const struct repair_env *env)
{
    *repair = (struct repair){.env = *env,
                              .number = env->first_number,
                              .list = {.heap = env->heap},
                              .found = {.heap = env->heap},
                              .incoming = {.heap = env->heap},
                              .ranges = {.heap = env->heap}};
    for (size_t i = 0; i < REPAIR_SESSIONS_MAX; i++) session_init(&repair->sessions[i], env->heap);
}

void repair_deinit(struct repair *repair)
{
    for (size_t i = 0; i < REPAIR_SESSIONS_MAX; i++) session_free(&repair->sessions[i]);
    buf_deinit(&repair->list);
    buf_deinit(&repair->found);
    buf_deinit(&repair->incoming);
    buf_deinit(&repair->ranges);
}

static void finish(struct repair *repair, struct repair_session *session, bool complete)
{
    size_t room = sizeof repair->completed / sizeof *repair->completed;
    if (complete && repair->completed_count < room)
        repair->completed[repair->completed_count++] = (struct repair_completed){
            session->peer, session->scope, session->epoch, session->mark, session->peer_knows};
    if (complete)
        repair->counts.complete_count++;
    else
        repair->counts.given_up_count++;
    TRACE(repair->env.trace, "repair with n%u: %s", session->peer,
          complete ? "complete" : "given up");
    session_free(session);
}

bool repair_next_complete(struct repair *repair, struct repair_completed *completed)
{
    if (repair->completed_count == 0) return false;
    *completed = repair->completed[--repair->completed_count];
    return true;
}

void repair_abandon(struct repair *repair)
{
    for (size_t i = 0; i < REPAIR_SESSIONS_MAX; i++)
        if (repair->sessions[i].peer != 0) finish(repair, &repair->sessions[i], false);
}

/* --- Digests --- */

static struct query range_query(const struct repair *repair, const struct key_range *range)
{
    struct query query = repair->env.query(repair->env.context);
    query.ranges = range;
    query.range_count = 1;
    return query;
}

static uint64_t hash_of(const struct repair *repair, struct slice key, const struct record *record)
{
    return record_hash(key, record, repair->env.hash_seed).low;
}

/* The bug that a test must find: tombstones count for nothing. */
static enum status living_sum(const struct repair *repair, const struct query *query,
                              struct sum *sum)
{
    struct query_iterator *iterator;
    enum status status = query_iterator_open(query, (struct slice){0}, QUERY_LIVE, &iterator);
    if (status != STATUS_OK) return status;
    *sum = (struct sum){0};
    while ((status = query_iterator_next(iterator)) == STATUS_OK) {
        struct record record;
        status = query_iterator_record(iterator, &record);
        if (status != STATUS_OK) break;
        *sum = sum_add(*sum,
                       record_hash(query_iterator_key(iterator), &record, repair->env.hash_seed));
    }
    query_iterator_close(iterator);
    return status == STATUS_END ? STATUS_OK : status;
}

static enum status range_sum(const struct repair *repair, const struct key_range *range,
                             struct sum *sum)
{
    struct query query = range_query(repair, range);
    if (planted(BUG_DIGEST_OF_THE_LIVING)) return living_sum(repair, &query, sum);
    return query_sum(&query, (struct slice){0}, sum);
}

static enum status shared_sum(struct repair *repair, node_id peer, enum repair_scope scope,
                              struct sum *sum)
{
    struct key_range range;
    uint64_t ignored;
    *sum = (struct sum){0};
    buf_clear(&repair->ranges);
    repair->env.shared(repair->env.context, peer, scope, &repair->ranges);
    enum status status = buf_status(&repair->ranges);
    struct slice rest = buf_slice(&repair->ranges);
    while (status == STATUS_OK && repair_range_next(&rest, &range, &ignored)) {
        struct sum part;
        status = range_sum(repair, &range, &part);
        if (status == STATUS_OK) *sum = sum_add(*sum, part);
    }
    return status;
}

static uint64_t shared_purged(struct repair *repair, node_id peer, enum repair_scope scope)
{
    buf_clear(&repair->ranges);
    repair->env.shared(repair->env.context, peer, scope, &repair->ranges);
    return repair->env.purged(repair->env.context, buf_slice(&repair->ranges));
}

/* Of the list that env.shared() made. */
static struct hash128 hash_of_shared(const struct repair *repair)
{
    uint64_t generation_id = repair->env.generation_id(repair->env.context);
    XXH128_hash_t hash =
        XXH3_128bits_withSeed(repair->ranges.data, repair->ranges.size, generation_id);
    return (struct hash128){.low = hash.low64, .high = hash.high64};
}

void repair_map_changed(struct repair *repair)
{
    for (size_t i = 0; i < REPAIR_SESSIONS_MAX; i++) {
        struct repair_session *session = &repair->sessions[i];
        if (session->peer == 0) continue;
        buf_clear(&repair->ranges);
        repair->env.shared(repair->env.context, session->peer, session->scope, &repair->ranges);
        bool same = buf_status(&repair->ranges) == STATUS_OK &&
                    hash128_equal(hash_of_shared(repair), session->shared);
        if (!same) finish(repair, session, false);
    }
    /* Who asks now would take what has ended for sessions by this map. */
    repair->completed_count = 0;
}

/* --- Sending --- */

static void send_message(struct repair *repair, node_id to, bool durable,
                         const struct repair_message *message, struct outbox *outbox)
{
    struct buf *out = outbox_begin(outbox, to, PROTOCOL_REPAIR);
    size_t before = out->size;
    repair_message_encode(message, out);
    repair->counts.sent_bytes += out->size - before;
    outbox_end(outbox, durable);
}

static void send_again(struct repair *repair, struct repair_session *session, uint64_t now_ms,
                       struct outbox *outbox)
{
    session->due_ms = now_ms + REPAIR_AGAIN_MS;
    session->tries++;
    repair->counts.sent_bytes += session->sent.size;
    buf_append_slice(outbox_begin(outbox, session->peer, PROTOCOL_REPAIR),
                     buf_slice(&session->sent));
    outbox_end(outbox, false);
}

static void ask(struct repair *repair, struct repair_session *session,
                struct repair_message *message, enum repair_kind expected, uint64_t now_ms,
                struct outbox *outbox)
{
    message->session = session->number;
    message->step = ++session->step;
    session->expected = (uint8_t)expected;
    session->tries = 0;
    buf_clear(&session->sent);
    repair_message_encode(message, &session->sent);
    if (buf_status(&session->sent) != STATUS_OK) {
        finish(repair, session, false);
        return;
    }
    send_again(repair, session, now_ms, outbox);
}

/* --- The stack --- */

static bool stack_push(struct repair_session *session, const struct key_range *range, uint64_t sum)
{
    size_t before = session->stack.size;
    repair_range_append(&session->stack, range, sum);
    buf_append_u32le(&session->stack, (uint32_t)(session->stack.size - before));
    return buf_status(&session->stack) == STATUS_OK &&
           session->stack.size <= REPAIR_STACK_BYTES_MAX;
}

/* Moves the topmost range to `list`. The topmost come first in order of keys. */
static void stack_pop(struct repair_session *session, struct buf *list)
{
    struct buf *stack = &session->stack;
    size_t size = load_u32le(stack->data + stack->size - sizeof(uint32_t));
    stack->size -= size + sizeof(uint32_t);
    buf_append(list, stack->data + stack->size, size);
}

/* Pushes ranges in reverse, so that they come off in order. `list` is packed. */
static bool stack_push_all(struct repair_session *session, struct slice list)
{
    struct key_range ranges[REPAIR_RANGES_MAX];
    uint64_t sums[REPAIR_RANGES_MAX];
    while (list.size > 0) {
        size_t count = 0;
        struct slice rest = list;
        while (count < REPAIR_RANGES_MAX && repair_range_next(&rest, &ranges[count], &sums[count]))
            count++;
        if (count == 0) return false;
        for (size_t i = count; i > 0; i--)
            if (!stack_push(session, &ranges[i - 1], sums[i - 1])) return false;
        list = rest;
    }
    return true;
}

/* --- The next message --- */

/* Of what was asked about so far. Pieces have about as long names as what they are cut from, and
 * half of the stack is left to those that have longer ones. */
static bool pieces_fit(const struct repair_session *session)
{
    size_t pieces_bytes = session->asked.size * REPAIR_PIECES_MAX;
    return session->stack.size + pieces_bytes <= REPAIR_STACK_BYTES_MAX / 2;
}

static void ask_compare(struct repair *repair, struct repair_session *session, uint64_t now_ms,
                        struct outbox *outbox)
{
    struct repair_message message = {
        .kind = REPAIR_COMPARE, .scope = session->scope, .purged = session->purged};
    struct slice end = {0};
    buf_clear(&session->asked);
    while (session->stack.size > 0 && message.count < REPAIR_RANGES_MAX &&
           (message.count == 0 || pieces_fit(session))) {
        size_t before = session->asked.size;
        struct key_range range;
        uint64_t sum;
        stack_pop(session, &session->asked);
        if (buf_status(&session->asked) != STATUS_OK) break;
        struct slice rest = slice_from(buf_slice(&session->asked), before);
        CHECK(repair_range_next(&rest, &range, &sum));
        /* Ranges of one message ascend: what lies before the last one waits for the next. */
        if (message.count > 0 && (end.size == 0 || slice_compare(end, range.low) > 0)) {
            CHECK(stack_push(session, &range, sum)); /* Where it was. */
            session->asked.size = before;
            break;
        }
        message.count++;
        /* The list may move when it grows. */
        buf_clear(&repair->ranges);
        buf_append_slice(&repair->ranges, range.high);
        end = buf_slice(&repair->ranges);
    }
    if (buf_status(&session->asked) != STATUS_OK || message.count == 0) {
        finish(repair, session, false);
        return;
    }
    message.list = buf_slice(&session->asked);
    repair->counts.compared_count += message.count;
    ask(repair, session, &message, REPAIR_COMPARED, now_ms, outbox);
}

static bool pauses_have(const struct repair_pauses *pauses, node_id peer, uint64_t now_ms)
{
    for (size_t i = 0; i < REPAIR_SESSIONS_MAX; i++)
        if (pauses->list[i].peer == peer && now_ms < pauses->list[i].until_ms) return true;
    return false;
}

static void pauses_note(struct repair_pauses *pauses, node_id peer, uint64_t until_ms)
{
    size_t at = 0;
    while (at < REPAIR_SESSIONS_MAX && pauses->list[at].peer != peer) at++;
    if (at == REPAIR_SESSIONS_MAX) at = pauses->next++ % REPAIR_SESSIONS_MAX;
    pauses->list[at] = (struct repair_pause){peer, until_ms};
}

bool repair_is_ready(const struct repair *repair, node_id peer, uint64_t now_ms)
{
    return repair->env.ready(repair->env.context, peer) &&
           !pauses_have(&repair->unready, peer, now_ms);
}

bool repair_begin(struct repair *repair, node_id peer, enum repair_scope scope, uint64_t now_ms,
                  struct outbox *outbox)
{
    struct repair_session *session = NULL;
    for (size_t i = 0; i < REPAIR_SESSIONS_MAX; i++) {
        if (repair->sessions[i].peer == peer) return false;
        if (repair->sessions[i].peer == 0) session = &repair->sessions[i];
    }
    if (pauses_have(&repair->drivers, peer, now_ms)) return false;
    if (scope == REPAIR_ALL && !repair_is_ready(repair, peer, now_ms)) return false;
    struct repair_message message = {.kind = REPAIR_ROOT, .scope = scope};
    if (session == NULL || shared_sum(repair, peer, scope, &message.sum) != STATUS_OK) return false;
    if (repair->ranges.size == 0) return false; /* Nothing is shared. */
    message.shared = hash_of_shared(repair);
    message.purged = repair->env.purged(repair->env.context, buf_slice(&repair->ranges));
    session->peer = peer;
    session->number = ++repair->number;
    session->scope = scope;
    session->epoch = repair->epoch;
    session->shared = message.shared;
    session->mark = repair->mark;
    session->purged = message.purged;
    session->peer_knows = REPAIR_KNOWS_LITTLE;
    repair->counts.session_count++;
    ask(repair, session, &message, REPAIR_ROOTED, now_ms, outbox);
    return true;
}

/* --- The driver's side --- */

static bool rooted(struct repair *repair, struct repair_session *session,
                   const struct repair_message *message, uint64_t now_ms)
{
    session->peer_knows = message->knows;
    if (message->verdict == REPAIR_OTHER_PURGE)
        repair->env.tell_purged(repair->env.context, session->peer);
    if (message->verdict == REPAIR_OK) return true;
    if (message->verdict == REPAIR_UNREADY)
        pauses_note(&repair->unready, session->peer, now_ms + REPAIR_UNREADY_MS);
    if (message->verdict != REPAIR_DIFFERS) return false;
    struct key_range range;
    uint64_t ignored;
    buf_clear(&repair->ranges);
    buf_clear(&repair->list);
    repair->env.shared(repair->env.context, session->peer, session->scope, &repair->ranges);
    struct slice rest = buf_slice(&repair->ranges);
    while (repair_range_next(&rest, &range, &ignored)) {
        struct sum sum;
        if (range_sum(repair, &range, &sum) != STATUS_OK) return false;
        repair_range_append(&repair->list, &range, sum.low);
    }
    TRACE(repair->env.trace, "repair with n%u: differs", session->peer);
    return buf_status(&repair->ranges) == STATUS_OK && buf_status(&repair->list) == STATUS_OK &&
           stack_push_all(session, buf_slice(&repair->list));
}

static bool is_inside(const struct key_range *range, struct slice key)
{
    return slice_compare(range->low, key) <= 0 &&
           (range->high.size == 0 || slice_compare(key, range->high) < 0);
}

/* The pieces of a range that the peer cut: those that differ here go onto `list`. */
static bool look_at_cuts(struct repair *repair, const struct key_range *range, struct slice *rest,
                         size_t count, struct buf *list)
{
    struct slice low, next_low;
    uint64_t theirs, next_theirs = 0;
    if (!repair_part_next(rest, &low, &theirs)) return false;
    if (!slice_equal(low, range->low)) return false;
    for (size_t i = 0; i < count; i++) {
        bool last = i + 1 == count;
        struct key_range piece = {low, range->high};
        if (!last) {
            if (!repair_part_next(rest, &next_low, &next_theirs)) return false;
            if (!is_inside(range, next_low) || slice_compare(low, next_low) >= 0) return false;
            piece.high = next_low;
        }
        struct sum ours;
        if (range_sum(repair, &piece, &ours) != STATUS_OK) return false;
        if (ours.low != theirs) repair_range_append(list, &piece, ours.low);
        low = next_low;
        theirs = next_theirs;
    }
    return buf_status(list) == STATUS_OK;
}

/* Keys at which to cut, after the range's low: by the number of live words, or, where almost all
 * are dead, after every few entries. */
static enum status choose_cuts(struct repair *repair, const struct key_range *range,
                               struct buf cuts[REPAIR_PIECES_MAX], size_t *count)
{
    struct query query = range_query(repair, range);
    uint64_t live;
    enum status status = query_count(&query, (struct slice){0}, &live);
    *count = 0;
    if (status != STATUS_OK) return status;
    if (live >= 2 * REPAIR_PIECES_MAX) {
        /* Pieces that will be listed are nearly as long as they may be, for each costs more than what is in it. */
        uint64_t pieces = u64_min(REPAIR_PIECES_MAX, (live + LEAF_AIM - 1) / LEAF_AIM);
        for (uint64_t i = 1; status == STATUS_OK && i < pieces; i++)
            status = query_select(&query, (struct slice){0}, i * live / pieces, &cuts[(*count)++]);
        return status;
    }
    struct query_iterator *iterator;
    status = query_iterator_open(&query, (struct slice){0}, QUERY_CURRENT, &iterator);
    if (status != STATUS_OK) return status;
    status = query_iterator_seek(iterator, range->low);
    for (size_t i = 0; status == STATUS_OK && *count < REPAIR_PIECES_MAX - 1; i++) {
        if (i > 0 && i % REPAIR_LEAF_MAX == 0) {
            struct buf *cut = &cuts[(*count)++];
            buf_clear(cut);
            buf_append_slice(cut, query_iterator_key(iterator));
        }
        status = query_iterator_next(iterator);
    }
    query_iterator_close(iterator);
    return status == STATUS_END ? STATUS_OK : status;
}

static void give(struct repair_session *session, struct slice key, const struct record *record)
{
    repair_record_append(&session->push, key, record);
    session->push_count++;
}

static bool is_full(const struct repair_session *session)
{
    return session->push.size >= REPAIR_BYTES_AIM || session->wants.size >= REPAIR_BYTES_AIM ||
           session->want_count >= REPAIR_WANTS_MAX;
}

/* What the peer listed of a range. */
struct listed {
    uint64_t tags[REPAIR_LEAF_MAX];
    bool here[REPAIR_LEAF_MAX]; /* So is it here. */
    size_t count, here_count;
    uint64_t rest;   /* Sum of those that are not here. */
    bool peer_knows; /* What it lacks is deleted. */
};

static bool read_tags(struct slice *rest, const struct repair_part_list *parts,
                      struct listed *listed)
{
    *listed = (struct listed){.count = parts->count, .rest = parts->sum};
    listed->peer_knows = parts->finding == REPAIR_LISTED_ALL;
    for (size_t i = 0; i < parts->count; i++)
        if (!repair_tag_next(rest, &listed->tags[i])) return false;
    return true;
}

/* Each of them stands for one record. */
static bool find_tag(struct listed *listed, uint64_t tag)
{
    for (size_t i = 0; i < listed->count; i++) {
        if (listed->tags[i] != tag || listed->here[i]) continue;
        listed->here[i] = true;
        listed->here_count++;
        return true;
    }
    return false;
}

/* Whether the peer may have the key, with another record. */
static bool may_have(const struct listed *listed, uint64_t tag)
{
    unsigned bits = REPAIR_TAG_BITS - REPAIR_TAG_KEY_BITS;
    for (size_t i = 0; i < listed->count; i++)
        if (!listed->here[i] && listed->tags[i] >> bits == tag >> bits) return true;
    return false;
}

/* Records of a range that are here, as many as a leaf may have. */
struct leaf {
    uint64_t tags[LEAF_HERE_MAX];
    bool equal[LEAF_HERE_MAX]; /* So is it there. */
    size_t count;              /* LEAF_HERE_MAX + 1: there are more. */
};

/* Finds out which of them the peer listed. */
static enum status read_leaf(const struct repair *repair, uint64_t session,
                             const struct key_range *range, struct listed *listed,
                             struct leaf *leaf)
{
    struct query query = range_query(repair, range);
    struct query_iterator *iterator;
    enum status status = query_iterator_open(&query, (struct slice){0}, QUERY_CURRENT, &iterator);
    leaf->count = 0;
    if (status != STATUS_OK) return status;
    status = query_iterator_seek(iterator, range->low);
    while (status == STATUS_OK && leaf->count <= LEAF_HERE_MAX) {
        struct record record;
        struct slice key = query_iterator_key(iterator);
        status = query_iterator_record(iterator, &record);
        if (status != STATUS_OK) break;
        if (leaf->count < LEAF_HERE_MAX) {
            uint64_t hash = hash_of(repair, key, &record);
            leaf->tags[leaf->count] = repair_tag(session, key, hash);
            leaf->equal[leaf->count] = find_tag(listed, leaf->tags[leaf->count]);
            if (leaf->equal[leaf->count]) listed->rest -= hash;
        }
        leaf->count++;
        status = query_iterator_next(iterator);
    }
    query_iterator_close(iterator);
    return status == STATUS_END ? STATUS_OK : status;
}

/* What only this node has, or has otherwise: the peer gets it, unless it lacks it and knows that it is deleted. */
static enum status give_leaf(struct repair *repair, struct repair_session *session,
                             const struct key_range *range, const struct listed *listed,
                             const struct leaf *leaf)
{
    struct query query = range_query(repair, range);
    struct query_iterator *iterator;
    enum status status = query_iterator_open(&query, (struct slice){0}, QUERY_CURRENT, &iterator);
    if (status != STATUS_OK) return status;
    status = query_iterator_seek(iterator, range->low);
    for (size_t i = 0; status == STATUS_OK && i < leaf->count; i++) {
        struct record record;
        struct slice key = query_iterator_key(iterator);
        status = query_iterator_record(iterator, &record);
        if (status != STATUS_OK) break;
        bool lacks = listed->peer_knows && !may_have(listed, leaf->tags[i]);
        bool forgets = leaf->equal[i] ? planted(BUG_PURGE_BY_KEY)
                                      : planted(BUG_ABSENCE_WITHOUT_EVIDENCE) || lacks;
        bool forgot = forgets && repair->env.forget(repair->env.context, key, &record);
        if (!leaf->equal[i] && !forgot) give(session, key, &record);
        status = query_iterator_next(iterator);
    }
    query_iterator_close(iterator);
    if (status == STATUS_END) status = STATUS_OK;
    return status == STATUS_OK ? buf_status(&session->push) : status;
}

/* The range goes with whether what the peer lacks of it is deleted. */
static enum status ask_for(struct repair_session *session, const struct key_range *range,
                           const struct repair_want *what, bool peer_knows)
{
    repair_want_append(&session->wants, what);
    repair_range_append(&session->want_ranges, range, peer_knows);
    session->want_count++;
    enum status status = buf_status(&session->wants);
    return status == STATUS_OK ? buf_status(&session->want_ranges) : status;
}

/* Records that are listed and not here. */
static enum status want_rest(struct repair *repair, struct repair_session *session,
                             const struct key_range *range, const struct listed *listed)
{
    struct buf tags = {.heap = repair->env.heap};
    for (size_t i = 0; i < listed->count; i++)
        if (!listed->here[i]) repair_tag_append(&tags, listed->tags[i]);
    struct repair_want rest = {{.low = range->low}, buf_slice(&tags), listed->rest};
    enum status status = buf_status(&tags);
    if (status == STATUS_OK) status = ask_for(session, range, &rest, listed->peer_knows);
    buf_deinit(&tags);
    return status;
}

/* All of a range, both ways. */
static enum status exchange_whole(struct repair *repair, struct repair_session *session,
                                  const struct key_range *range, bool peer_knows)
{
    struct query query = range_query(repair, range);
    struct query_iterator *iterator;
    enum status status = query_iterator_open(&query, (struct slice){0}, QUERY_CURRENT, &iterator);
    if (status != STATUS_OK) return status;
    status = query_iterator_seek(iterator, range->low);
    while (status == STATUS_OK) {
        struct record record;
        status = query_iterator_record(iterator, &record);
        if (status != STATUS_OK) break;
        give(session, query_iterator_key(iterator), &record);
        status = query_iterator_next(iterator);
    }
    query_iterator_close(iterator);
    if (status == STATUS_END)
        status = ask_for(session, range, &(struct repair_want){.range = *range}, peer_knows);
    return status == STATUS_OK ? buf_status(&session->push) : status;
}

static enum status put_back(struct repair *repair, const struct key_range *range, struct buf *list)
{
    struct sum sum;
    enum status status = range_sum(repair, range, &sum);
    if (status == STATUS_OK) repair_range_append(list, range, sum.low);
    return status;
}

/* Holds it more than a whole exchange may take? */
static enum status has_grown(struct repair *repair, const struct key_range *range, bool *grown)
{
    struct query query = range_query(repair, range);
    struct query_iterator *iterator;
    size_t count = 0;
    enum status status = query_iterator_open(&query, (struct slice){0}, QUERY_CURRENT, &iterator);
    if (status != STATUS_OK) return status;
    status = query_iterator_seek(iterator, range->low);
    while (status == STATUS_OK && ++count <= LEAF_HERE_MAX) status = query_iterator_next(iterator);
    query_iterator_close(iterator);
    *grown = count > LEAF_HERE_MAX;
    return status == STATUS_END ? STATUS_OK : status;
}

/* What was lost, some of it. It held little when it was listed; what has grown since is compared anew. */
static bool want_lost(struct repair *repair, struct repair_session *session)
{
    struct slice rest = buf_slice(&session->lost);
    struct key_range range;
    uint64_t peer_knows;
    buf_clear(&repair->list);
    buf_clear(&session->wants);
    buf_clear(&session->want_ranges);
    while (!is_full(session) && repair_range_next(&rest, &range, &peer_knows)) {
        bool grown;
        enum status status = has_grown(repair, &range, &grown);
        if (status == STATUS_OK && grown)
            status = put_back(repair, &range, &repair->list);
        else if (status == STATUS_OK)
            status = exchange_whole(repair, session, &range, peer_knows != 0);
        if (status != STATUS_OK) return false;
    }
    bool good = stack_push_all(session, buf_slice(&repair->list));
    buf_consume(&session->lost, session->lost.size - rest.size);
    return good;
}

static bool knows_all(struct repair *repair, const struct key_range *range)
{
    struct buf one = {.heap = repair->env.heap};
    repair_range_append(&one, range, 0);
    bool all = !one.failed && repair->env.is_complete(repair->env.context, buf_slice(&one));
    buf_deinit(&one);
    return all;
}

/* Whether something here may be deleted there, which the tags do not tell: few bits of them are the key's. */
static bool is_in_doubt(struct repair *repair, const struct key_range *range,
                        const struct listed *listed, const struct leaf *leaf)
{
    bool doubtful = false;
    if (!listed->peer_knows) return false;
    for (size_t i = 0; i < leaf->count; i++)
        doubtful = doubtful || (!leaf->equal[i] && may_have(listed, leaf->tags[i]));
    return doubtful && !knows_all(repair, range);
}

/* Of many more records here than the peer has: it is asked about pieces of them. */
static enum status cut_here(struct repair *repair, const struct key_range *range, struct buf *list)
{
    struct buf cuts[REPAIR_PIECES_MAX];
    size_t count;
    for (size_t i = 0; i < REPAIR_PIECES_MAX; i++) buf_init(&cuts[i], repair->env.heap);
    enum status status = choose_cuts(repair, range, cuts, &count);
    struct slice low = range->low;
    for (size_t i = 0; status == STATUS_OK && i <= count; i++) {
        struct key_range piece = {low, i == count ? range->high : buf_slice(&cuts[i])};
        struct sum sum;
        if (i < count && slice_compare(piece.high, low) <= 0) continue; /* The low itself. */
        status = range_sum(repair, &piece, &sum);
        repair_range_append(list, &piece, sum.low);
        low = piece.high;
    }
    for (size_t i = 0; i < REPAIR_PIECES_MAX; i++) {
        if (cuts[i].failed) status = STATUS_NOMEM;
        buf_deinit(&cuts[i]);
    }
    return status;
}

/* The tags that the peer listed against those of the records here. What does not fit a message is put back. */
static bool look_at_tags(struct repair *repair, struct repair_session *session,
                         const struct key_range *range, struct slice *rest,
                         const struct repair_part_list *parts, struct buf *list)
{
    struct listed listed;
    struct leaf leaf;
    if (!read_tags(rest, parts, &listed)) return false;
    if (is_full(session)) return put_back(repair, range, list) == STATUS_OK;
    if (read_leaf(repair, session->number, range, &listed, &leaf) != STATUS_OK) return false;
    if (leaf.count > LEAF_HERE_MAX) return cut_here(repair, range, list) == STATUS_OK;
    bool all_here = listed.here_count == listed.count;
    bool collide = all_here && listed.rest != 0; /* Two records have one tag. */
    if (collide || is_in_doubt(repair, range, &listed, &leaf))
        return exchange_whole(repair, session, range, listed.peer_knows) == STATUS_OK;
    enum status status = give_leaf(repair, session, range, &listed, &leaf);
    if (status == STATUS_OK && !all_here) status = want_rest(repair, session, range, &listed);
    return status == STATUS_OK;
}

static bool compared(struct repair *repair, struct repair_session *session,
                     const struct repair_message *message)
{
    if (message->verdict != REPAIR_OK) return false;
    if (shared_purged(repair, session->peer, session->scope) != session->purged) return false;
    struct slice asked = buf_slice(&session->asked), rest = message->list;
    struct key_range range;
    uint64_t sum;
    struct repair_part_list parts;
    bool good = true;
    buf_clear(&repair->list);
    buf_clear(&session->push);
    buf_clear(&session->wants);
    buf_clear(&session->want_ranges);
    while (good && repair_range_next(&asked, &range, &sum)) {
        if (!repair_finding_next(&rest, &parts)) return false;
        if (parts.finding == REPAIR_CUT)
            good = look_at_cuts(repair, &range, &rest, parts.count, &repair->list);
        else if (parts.finding != REPAIR_EQUAL)
            good = look_at_tags(repair, session, &range, &rest, &parts, &repair->list);
    }
    return good && rest.size == 0 && stack_push_all(session, buf_slice(&repair->list));
}

/* Has a tag that was asked for, or lies in a range of which all was. */
static bool was_wanted(const struct repair_session *session, struct slice key, uint64_t tag)
{
    struct slice wants = buf_slice(&session->wants);
    struct repair_want want;
    while (repair_want_next(&wants, &want) && slice_compare(want.range.low, key) <= 0) {
        uint64_t wanted;
        if (want.tags.size == 0 && is_inside(&want.range, key)) return true;
        while (repair_tag_next(&want.tags, &wanted))
            if (wanted == tag) return true;
    }
    return false;
}

static bool were_wanted(const struct repair *repair, const struct repair_session *session,
                        struct slice records)
{
    struct slice key;
    struct record record;
    while (repair_record_next(&records, &key, &record)) {
        uint64_t tag = repair_tag(session->number, key, hash_of(repair, key, &record));
        if (!was_wanted(session, key, tag)) return false;
    }
    return true;
}

/* The record that a list has of the key, if it has. Both ascend, and `rest` goes on to where the key would be. */
static bool find_listed(struct slice *rest, struct slice key, struct record *record)
{
    struct slice next, before = *rest;
    while (repair_record_next(rest, &next, record)) {
        int order = slice_compare(next, key);
        if (order == 0) return true;
        if (order > 0) {
            *rest = before;
            return false;
        }
        before = *rest;
    }
    return false;
}

/* All of the range that the peer has came, and what it lacks is deleted. */
static enum status forget_absent(struct repair *repair, const struct key_range *range,
                                 struct slice records)
{
    struct query query = range_query(repair, range);
    struct query_iterator *iterator;
    enum status status = query_iterator_open(&query, (struct slice){0}, QUERY_CURRENT, &iterator);
    if (status != STATUS_OK) return status;
    status = query_iterator_seek(iterator, range->low);
    while (status == STATUS_OK) {
        struct record record, theirs;
        struct slice key = query_iterator_key(iterator);
        status = query_iterator_record(iterator, &record);
        if (status != STATUS_OK) break;
        if (!find_listed(&records, key, &theirs))
            (void)repair->env.forget(repair->env.context, key, &record);
        status = query_iterator_next(iterator);
    }
    query_iterator_close(iterator);
    return status == STATUS_END ? STATUS_OK : status;
}

/* Goes over to the wants that were not looked for. What is not all there has changed since it was listed, or two
 * records had one tag: all of the range is exchanged. It was joined with something newer at the peer, maybe, and what
 * stood there must come all the same. */
static bool settle_wants(struct repair *repair, struct repair_session *session,
                         const struct repair_message *message)
{
    struct slice wants = buf_slice(&session->wants), ranges = buf_slice(&session->want_ranges);
    struct repair_want want;
    struct key_range range;
    uint64_t peer_knows;
    for (uint64_t i = 0; i < message->want_count; i++) {
        if (!repair_want_next(&wants, &want)) return false;
        if (!repair_range_next(&ranges, &range, &peer_knows)) return false;
        bool found = (message->found.data[i / 8] >> i % 8 & 1) != 0;
        if (!found) repair_range_append(&session->lost, &range, peer_knows);
        bool tells = found && want.tags.size == 0 && peer_knows != 0;
        if (tells && forget_absent(repair, &range, message->list) != STATUS_OK) return false;
    }
    session->want_count -= message->want_count;
    buf_consume(&session->wants, session->wants.size - wants.size);
    buf_consume(&session->want_ranges, session->want_ranges.size - ranges.size);
    return buf_status(&session->lost) == STATUS_OK;
}

/* Joins what came; what was sent is newer than the rest. */
static bool exchanged(struct repair *repair, struct repair_session *session,
                      const struct repair_message *message)
{
    if (message->verdict != REPAIR_OK) return false;
    if (message->want_count > session->want_count) return false;
    if (message->want_count == 0 && session->want_count > 0) return false; /* For ever. */
    if (!were_wanted(repair, session, message->list)) return false;
    struct slice rest = message->list, key;
    struct record record;
    while (repair_record_next(&rest, &key, &record)) {
        if (!repair->env.owns_with(repair->env.context, session->peer, key)) continue;
        if (repair->env.merge(repair->env.context, key, &record) != STATUS_OK) return false;
        repair->counts.fetched_count++;
    }
    return settle_wants(repair, session, message);
}

static void go_on(struct repair *repair, struct repair_session *session, uint64_t now_ms,
                  struct outbox *outbox)
{
    if (session->want_count == 0 && session->lost.size > 0 && !want_lost(repair, session)) {
        finish(repair, session, false);
        return;
    }
    if (session->push_count > 0 || session->want_count > 0) {
        struct repair_message message = {.kind = REPAIR_EXCHANGE,
                                         .list = buf_slice(&session->push),
                                         .count = session->push_count,
                                         .wants = buf_slice(&session->wants),
                                         .want_count = session->want_count};
        repair->counts.pushed_count += session->push_count;
        session->push_count = 0;
        ask(repair, session, &message, REPAIR_EXCHANGED, now_ms, outbox);
        if (session->peer != 0) buf_clear(&session->push);
    } else if (session->stack.size > 0) {
        ask_compare(repair, session, now_ms, outbox);
    } else {
        finish(repair, session, true);
    }
}

static void answered(struct repair *repair, node_id from, const struct repair_message *message,
                     uint64_t now_ms, struct outbox *outbox)
{
    struct repair_session *session = NULL;
    for (size_t i = 0; i < REPAIR_SESSIONS_MAX; i++)
        if (repair->sessions[i].peer == from) session = &repair->sessions[i];
    bool ours = session != NULL && session->number == message->session &&
                session->step == message->step && session->expected == message->kind;
    if (!ours) return; /* Late, or twice. */

    bool good = false;
    if (message->kind == REPAIR_ROOTED)
        good = rooted(repair, session, message, now_ms);
    else if (message->kind == REPAIR_COMPARED)
        good = compared(repair, session, message);
    else if (message->kind == REPAIR_EXCHANGED)
        good = exchanged(repair, session, message);
    if (good)
        go_on(repair, session, now_ms, outbox);
    else
        finish(repair, session, false);
}

void repair_tick(struct repair *repair, uint64_t now_ms, struct outbox *outbox)
{
    for (size_t i = 0; i < REPAIR_SESSIONS_MAX; i++) {
        struct repair_session *session = &repair->sessions[i];
        if (session->peer == 0 || now_ms < session->due_ms) continue;
        if (session->tries >= REPAIR_TRIES_MAX)
            finish(repair, session, false);
        else
            send_again(repair, session, now_ms, outbox);
    }
}

uint64_t repair_due_ms(const struct repair *repair)
{
    uint64_t due = UINT64_MAX;
    for (size_t i = 0; i < REPAIR_SESSIONS_MAX; i++)
        if (repair->sessions[i].peer != 0) due = u64_min(due, repair->sessions[i].due_ms);
    return due;
}

/* --- The peer's side --- */

static enum repair_verdict answer_root(struct repair *repair, node_id from,
                                       const struct repair_message *message)
{
    struct sum sum;
    uint64_t purged = shared_purged(repair, from, message->scope);
    if (buf_status(&repair->ranges) != STATUS_OK) return REPAIR_REFUSED;
    if (!hash128_equal(message->shared, hash_of_shared(repair))) return REPAIR_OTHER_MAP;
    if (message->scope == REPAIR_ALL && !repair->env.ready(repair->env.context, from))
        return REPAIR_UNREADY;
    if (purged != message->purged) {
        repair->env.tell_purged(repair->env.context, from);
        return REPAIR_OTHER_PURGE;
    }
    if (shared_sum(repair, from, message->scope, &sum) != STATUS_OK) return REPAIR_REFUSED;
    return sum_equal(sum, message->sum) ? REPAIR_OK : REPAIR_DIFFERS;
}

/* Lists the range's records if they are few; false: they are not, and nothing is appended. */
static enum status list_tags(struct repair *repair, uint64_t session, const struct key_range *range,
                             struct buf *list, bool *listed)
{
    struct query query = range_query(repair, range);
    struct query_iterator *iterator;
    struct buf parts = {.heap = repair->env.heap};
    size_t count = 0;
    uint64_t sum = 0;
    enum status status = query_iterator_open(&query, (struct slice){0}, QUERY_CURRENT, &iterator);
    if (status != STATUS_OK) return status;
    status = query_iterator_seek(iterator, range->low);
    while (status == STATUS_OK && count <= REPAIR_LEAF_MAX) {
        struct record record;
        status = query_iterator_record(iterator, &record);
        if (status != STATUS_OK) break;
        struct slice key = query_iterator_key(iterator);
        uint64_t hash = hash_of(repair, key, &record);
        repair_tag_append(&parts, repair_tag(session, key, hash));
        sum += hash;
        count++;
        status = query_iterator_next(iterator);
    }
    query_iterator_close(iterator);
    *listed = status == STATUS_END && count <= REPAIR_LEAF_MAX;
    if (*listed) {
        struct repair_part_list found = {
            knows_all(repair, range) ? REPAIR_LISTED_ALL : REPAIR_LISTED, count, sum};
        repair_finding_append(list, &found);
        buf_append_slice(list, buf_slice(&parts));
        if (parts.failed) list->failed = true;
    }
    buf_deinit(&parts);
    return status == STATUS_END || status == STATUS_OK ? buf_status(list) : status;
}

static enum status cut_range(struct repair *repair, const struct key_range *range, struct buf *list)
{
    struct buf cuts[REPAIR_PIECES_MAX];
    size_t count;
    for (size_t i = 0; i < REPAIR_PIECES_MAX; i++) buf_init(&cuts[i], repair->env.heap);
    enum status status = choose_cuts(repair, range, cuts, &count);
    /* The first word may be the low itself. */
    size_t first = 0;
    while (first < count && slice_compare(buf_slice(&cuts[first]), range->low) <= 0) first++;
    struct repair_part_list found = {.finding = REPAIR_CUT, .count = count - first + 1};
    if (status == STATUS_OK) repair_finding_append(list, &found);
    struct slice low = range->low;
    for (size_t i = first; status == STATUS_OK && i <= count; i++) {
        struct key_range piece = {low, i == count ? range->high : buf_slice(&cuts[i])};
        struct sum sum;
        status = range_sum(repair, &piece, &sum);
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
    enum status status = range_sum(repair, range, &sum);
    if (status != STATUS_OK) return status;
    if (sum.low == theirs) {
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
    if (shared_purged(repair, from, message->scope) != message->purged) return REPAIR_OTHER_PURGE;
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
    bool newer = status == STATUS_OK && hash_of(repair, key, &joined) == hash_of(repair, key, sent);
    buf_deinit(&bytes);
    return newer;
}

static bool is_wanted(struct slice tags, uint64_t tag)
{
    uint64_t wanted;
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
    struct query query = range_query(repair, &want->range);
    struct query_iterator *iterator;
    bool whole = want->tags.size == 0;
    size_t left = whole ? SIZE_MAX : want->tags.size / (REPAIR_TAG_BITS / 8);
    size_t looks = whole ? SIZE_MAX : 2 * REPAIR_LEAF_MAX;
    uint64_t sum = 0;
    enum status status = query_iterator_open(&query, (struct slice){0}, QUERY_CURRENT, &iterator);
    if (status != STATUS_OK) return status;
    status = query_iterator_seek(iterator, want->range.low);
    for (; status == STATUS_OK && left > 0 && looks > 0; looks--) {
        struct record record, newer;
        struct slice key = query_iterator_key(iterator);
        status = query_iterator_record(iterator, &record);
        if (status == STATUS_OK && repair->list.size > ANSWER_BYTES_MAX) status = STATUS_LIMIT;
        if (status != STATUS_OK) break;
        uint64_t hash = hash_of(repair, key, &record), tag = repair_tag(session, key, hash);
        bool is_it = whole || is_wanted(want->tags, tag);
        if (is_it && repair->env.owns_with(repair->env.context, from, key)) {
            left--;
            sum += hash;
            /* Of a whole range it is told as well what is not there. */
            bool has = !whole && find_listed(sent, key, &newer) &&
                       is_newer(repair, key, &newer, &record);
            if (!has) repair_record_append(&repair->list, key, &record);
            *count += !has;
        }
        status = query_iterator_next(iterator);
    }
    query_iterator_close(iterator);
    *found = whole || (left == 0 && sum == want->sum);
    return status == STATUS_END ? STATUS_OK : status;
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

static void answer(struct repair *repair, node_id from, const struct repair_message *message,
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

enum status repair_receive(struct repair *repair, node_id from, struct slice bytes, uint64_t now_ms,
                           struct outbox *outbox)
{
    struct repair_message message;
    enum status status = repair_message_decode(bytes, &repair->incoming, &message);
    if (status != STATUS_OK) {
        repair->counts.invalid_count++;
        return status;
    }
    bool is_question = message.kind == REPAIR_ROOT || message.kind == REPAIR_COMPARE ||
                       message.kind == REPAIR_EXCHANGE;
    if (is_question && message.kind != REPAIR_ROOT)
        pauses_note(&repair->drivers, from, now_ms + 2 * REPAIR_AGAIN_MS);
    if (is_question)
        answer(repair, from, &message, outbox);
    else
        answered(repair, from, &message, now_ms, outbox);
    return STATUS_OK;
}
