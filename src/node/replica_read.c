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
#include "base/check.h"
#include "base/math.h"
#include "base/planted.h"
#include "cluster/token.h"
#include "core/key.h"
#include "node/replica_private.h"

enum { TOKENS_MAX = READ_HEDGE_COST * READ_HEDGE_BURST };

static void plan_around(struct replica *replica, struct flow *flow, bool ask_all);
static void evaluate(struct replica *replica, struct flow *flow);

/* --- Asks --- */

static void ask_free(struct ask *ask)
{
    buf_deinit(&ask->ranges);
    buf_deinit(&ask->entries);
    buf_deinit(&ask->end);
    buf_deinit(&ask->counts);
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
        .counts = {.heap = replica->heap},
    };
    return ask;
}

/* The newest ask of the node that has room, or one more. */
static struct ask *ask_for(struct replica *replica, struct asks *asks, node_id node, bool of_all)
{
    for (size_t i = asks->count; i > 0; i--) {
        struct ask *ask = &asks->list[i - 1];
        bool has_room = ask->range_count < DATA_RANGES_MAX;
        if (ask->node == node && ask->of_all == of_all && has_room) return ask;
    }
    struct ask *ask = asks_add(replica, asks, node);
    if (ask != NULL) ask->of_all = of_all;
    return ask;
}

/* A part of an answer that found no memory: nothing may be made of the rest. */
static bool asks_failed(const struct asks *asks)
{
    for (size_t i = 0; i < asks->count; i++) {
        const struct ask *ask = &asks->list[i];
        if (ask->entries.failed || ask->end.failed || ask->counts.failed) return true;
    }
    return false;
}

static bool asks_done(const struct asks *asks)
{
    for (size_t i = 0; i < asks->count; i++)
        if (!asks->list[i].answered) return false;
    return true;
}

/* Takes out one of two twins; the other has the first one's place. */
static void twin_drop(struct asks *asks, size_t dropped)
{
    size_t other = asks->list[dropped].twin - 1, first = size_min(dropped, other);
    size_t last = size_max(dropped, other);
    asks->list[other].twin = 0;
    ask_free(&asks->list[dropped]);
    asks->list[first] = asks->list[other];
    asks->count--;
    for (size_t i = last; i < asks->count; i++) asks->list[i] = asks->list[i + 1];
    for (size_t i = 0; i < asks->count; i++)
        if (asks->list[i].twin > last + 1) asks->list[i].twin--;
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
    buf_deinit(&read->differing);
    rangemap_unref(read->map);
    read->map = NULL;
}

/* --- Plan --- */

static const struct avoided *find_avoided(const struct flow_read *read, node_id node, size_t shard,
                                          bool unfilled)
{
    for (size_t i = 0; i < read->avoid_count; i++) {
        const struct avoided *avoided = &read->avoid[i];
        bool about = avoided->node == node && shard >= avoided->first && shard < avoided->end;
        if (about && avoided->unfilled == unfilled) return avoided;
    }
    return NULL;
}

static bool is_avoided(const struct flow_read *read, node_id node, size_t shard, bool of_all)
{
    if (find_avoided(read, node, shard, false) != NULL) return true;
    return !of_all && find_avoided(read, node, shard, true) != NULL;
}

/* All have another chance. Who is not filled keeps others from being asked in its place, and so it stays. */
static void avoid_nobody(struct flow_read *read)
{
    size_t kept = 0;
    for (size_t i = 0; i < read->avoid_count; i++)
        if (read->avoid[i].unfilled) read->avoid[kept++] = read->avoid[i];
    read->avoid_count = kept;
}

static void avoid(struct flow_read *read, const struct avoided *what)
{
    size_t room = sizeof read->avoid / sizeof *read->avoid;
    if (read->avoid_count == room) avoid_nobody(read);
    if (read->avoid_count == room) read->avoid_count = 0;
    read->avoid[read->avoid_count++] = *what;
}

static void avoid_everywhere(struct flow_read *read, node_id node)
{
    avoid(read, &(struct avoided){.node = node, .end = SIZE_MAX});
}

/* Who refused may be well able to answer for other shards. */
static void avoid_refused(struct flow_read *read, const struct ask *ask,
                          const struct data_message *told)
{
    struct slice rest = told->ranges;
    struct key_range range;
    bool unfilled = told->verdict == DATA_UNFILLED && !ask->of_all;
    if (told->range_count == 0) avoid_everywhere(read, ask->node);
    while (data_range_next(&rest, &range)) {
        struct avoided part = {.node = ask->node, .unfilled = unfilled};
        rangemap_find_range(read->map, range.low, range.high, &part.first, &part.end);
        struct avoided *last = read->avoid_count == 0 ? NULL : &read->avoid[read->avoid_count - 1];
        bool joins = last != NULL && last->node == part.node && last->unfilled == unfilled &&
                     last->end == part.first;
        if (joins)
            last->end = part.end;
        else
            avoid(read, &part);
    }
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

static void move_to_front(node_id *ids, unsigned from, unsigned to)
{
    node_id id = ids[from];
    for (; from > to; from--) ids[from] = ids[from - 1];
    ids[to] = id;
}

/* This node owns the shard, and cannot answer for it yet. */
static bool is_not_ready(const struct replica *replica, const struct flow_read *read, size_t shard,
                         const struct owners *owners, bool of_all)
{
    struct shard own = rangemap_shard(read->map, shard);
    return owners_contain(owners, replica->self.id) && read->map == replica->map &&
           replica_may_tell(replica, &own, of_all) != DATA_OK;
}

/* Owners of the shard in the order in which to ask them; how many are up. */
static unsigned rank(struct replica *replica, const struct flow_read *read, size_t shard,
                     const struct owners *owners, bool of_all, node_id ids[RANGEMAP_OWNERS_MAX])
{
    unsigned count = 0, front = 0;
    for (size_t i = 0; i < owners->count; i++) {
        node_id id = owners->ids[i];
        if (id != replica->self.id && !is_avoided(read, id, shard, of_all)) ids[count++] = id;
    }
    const struct health_table *cache = health_cache(replica->health);
    count = (unsigned)health_rank(cache, replica->zone, ids, count, &replica->prng);
    /* Whoever is asked anyway comes before those that are as much alive. */
    for (unsigned i = 0; i < count; i++) {
        bool alive = health_of(replica->health, ids[i]).state == HEALTH_ALIVE;
        if (!alive || !is_asked(read, ids[i])) continue;
        move_to_front(ids, i, front++);
    }
    node_id self = replica->self.id;
    if (!owners_contain(owners, self) || is_avoided(read, self, shard, of_all)) return count;
    if (is_not_ready(replica, read, shard, owners, of_all)) return count;
    ids[count] = replica->self.id;
    move_to_front(ids, count, 0);
    return count + 1;
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

/* Whom to ask about a shard, in order, and how many of them have to answer. */
struct choice {
    node_id ids[RANGEMAP_OWNERS_MAX];
    unsigned need;
    bool of_all;
};

static bool is_unfilled(const struct replica *replica, const struct flow_read *read, node_id id,
                        size_t index)
{
    struct shard shard = rangemap_shard(read->map, index);
    if (id == replica->self.id && read->map == replica->map)
        return replica_may_tell(replica, &shard, false) == DATA_UNFILLED;
    return find_avoided(read, id, index, true) != NULL;
}

/* Whom the read is about. When readers have been switched some of the next owners may not be filled yet, which
 * at `all` would keep a read waiting for as long as that takes. But as long as one is not no map can be in
 * use by which the others alone take writes: each that was acknowledged before the read is with those that
 * own it still. */
static const struct owners *owners_for(const struct replica *replica, const struct flow *flow,
                                       size_t index, const struct shard *shard, bool *of_all)
{
    const struct owners *next = shard_read_owners(shard);
    *of_all = false;
    if (flow->consistency != CONSISTENCY_ALL || next == &shard->owners) return next;
    for (size_t i = 0; i < next->count; i++)
        *of_all = *of_all || is_unfilled(replica, &flow->read, next->ids[i], index);
    return *of_all ? &shard->owners : next;
}

/* False: too few are up. At `one` a node that has all that the client's token tells of; else as many as
 * see it together. */
static bool choose_owners(struct replica *replica, struct flow *flow, size_t index,
                          const struct shard *shard, struct choice *choice)
{
    struct token token = {0};
    const struct owners *owners = owners_for(replica, flow, index, shard, &choice->of_all);
    unsigned count = rank(replica, &flow->read, index, owners, choice->of_all, choice->ids);
    choice->need = need_of(flow, owners);
    if (flow->consistency == CONSISTENCY_ONE && flow->request.token.size > 0) {
        enum status status = token_decode(flow->request.token, &token);
        CHECK(status == STATUS_OK);
        if (token_fit(&token, owners, choice->ids, count) == 0) choice->need = owners->read_quorum;
    }
    if (count >= choice->need) return true;
    /* All others are there: they are enough once this node can answer. */
    flow->read.self_waits = count + 1 == owners->count &&
                            is_not_ready(replica, &flow->read, index, owners, choice->of_all);
    return false;
}

static uint64_t needed_sequence(const struct flow *flow, node_id node)
{
    struct token token;
    if (flow->consistency != CONSISTENCY_ONE || flow->request.token.size == 0) return 0;
    enum status status = token_decode(flow->request.token, &token);
    CHECK(status == STATUS_OK);
    return token_sequence(&token, node);
}

static void ask_about(struct replica *replica, struct flow_read *read, node_id node, bool of_all,
                      const struct shard *shard)
{
    struct ask *ask = ask_for(replica, &read->lists, node, of_all);
    check_ask(read, ask);
    if (read->no_memory) return;
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
    struct choice choice;
    read->compare = false;
    for (size_t i = read->piece_first; i < read->piece_end && !read->compare; i++) {
        struct shard shard = rangemap_shard(read->map, i);
        if (!choose_owners(replica, flow, i, &shard, &choice)) return false;
        read->compare = choice.need > 1;
    }
    for (size_t i = read->piece_first; i < read->piece_end; i++) {
        struct shard shard = rangemap_shard(read->map, i);
        if (!choose_owners(replica, flow, i, &shard, &choice)) return false;
        for (unsigned j = 0; j < choice.need; j++)
            ask_about(replica, read, choice.ids[j], choice.of_all, &shard);
    }
    return true;
}

static void absorb(struct flow_read *read, struct ask *ask, const struct data_message *told)
{
    struct slice rest = told->entries;
    struct request_entry entry;
    ask->answered = true;
    ask->more = told->reply.more;
    buf_clear(&ask->counts);
    buf_append_slice(&ask->counts, told->counts);
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
    ask->sent_ms = replica->time.now_ms;
    ask->hedge_ms = 0;
    ask->sequence = needed_sequence(flow, ask->node);
    struct data_message message = {
        .kind = DATA_ASK,
        .flow = ask->label,
        .request = *request,
        .of_all = ask->of_all,
        .with_dead = with_dead,
        .sequence = ask->sequence,
        .ranges = buf_slice(&ask->ranges),
        .range_count = ask->range_count,
    };
    if (ask->node == replica->self.id) {
        struct data_message told = {.verdict = DATA_BUSY};
        if (ask->sequence <= store_visible_sequence(replica->store))
            told.verdict = replica_tell(replica, &message, &told);
        if (told.verdict == DATA_OK) absorb(read, ask, &told);
        /* What this node cannot answer is found out at the next tick. */
        if (told.verdict != DATA_OK) avoid_refused(read, ask, &told);
        return;
    }
    replica_send(replica, ask->node, false, &message);
    replica->hedge_tokens = (uint32_t)u64_min(replica->hedge_tokens + 1, TOKENS_MAX);
    /* A list that is continued is the node's own, and nobody stands in for one of all owners. */
    if (ask->entry_count > 0 || ask->twin != 0 || ask->sequence != 0 || ask->of_all) return;
    ask->hedge_ms = ask->sent_ms + health_hedge_after_ms(health_cache(replica->health), ask->node);
    read->hedge_ms = u64_min(read->hedge_ms, ask->hedge_ms);
}

/* What is dead counts where what owners hold is joined or, in sums, compared. */
static bool asks_dead(const struct flow_read *read, const struct request *request)
{
    return request->kind == REQUEST_GET || (request->kind == REQUEST_COUNT && read->compare);
}

static void start_waiting(const struct replica *replica, struct flow_read *read)
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
    start_waiting(replica, read);
    if (!plan_lists(replica, flow)) {
        /* Those that were too slow may be all there are. */
        bool again = read->avoid_count > 0;
        asks_clear(&read->lists);
        if (again && !ask_all) return;
        avoid_nobody(read);
        bool planned = again && plan_lists(replica, flow);
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
        put_question(replica, flow, &read->lists.list[i], &request, asks_dead(read, &request));
    }
    if (asks_done(&read->lists)) evaluate(replica, flow);
}

void replica_read_plan(struct replica *replica, struct flow *flow)
{
    plan_around(replica, flow, true);
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
    take_piece(read);
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

static struct ask *find_ask(struct flow_read *read, node_id from, uint64_t label)
{
    struct asks *asks = read->confirming ? &read->confirms : &read->lists;
    for (size_t i = 0; i < asks->count; i++)
        if (asks->list[i].label == label && asks->list[i].node == from) return &asks->list[i];
    return NULL;
}

static struct asks *asks_now(struct flow_read *read)
{
    return read->confirming ? &read->confirms : &read->lists;
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
    struct asks *asks = asks_now(read);
    bool counts = read->question.kind == REQUEST_COUNT;
    if (message->verdict == DATA_OK && message->count_count != (counts ? ask->range_count : 0)) {
        replica->stats.invalid_count++; /* As if it were silent. */
        return;
    }
    measure(replica, from, ask->sent_ms);
    if (message->verdict != DATA_OK) {
        replica->stats.refused_count++;
        avoid_refused(read, ask, message);
        TRACE(replica->trace, "flow %llu: n%u refuses, verdict %d",
              (unsigned long long)flow->number, from, (int)message->verdict);
        if (ask->twin != 0)
            twin_drop(asks, (size_t)(ask - asks->list));
        else
            ask_others(replica, flow, false);
        return;
    }
    absorb(read, ask, message);
    if (ask->twin != 0) {
        const struct ask *other = &asks->list[ask->twin - 1];
        replica->late[replica->late_count++ % READ_LATE_MAX] =
            (struct late){other->label, other->node, other->sent_ms};
        twin_drop(asks, ask->twin - 1);
    }
    if (asks_done(asks)) evaluate(replica, flow);
}

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
                if (owners_contain(owners, ids[i]) && !is_avoided(read, ids[i], first, false))
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
    unsigned count = rank(replica, read, first, shard_read_owners(&shard), false, ids);
    keep_fit(read, ask, ids, &count);
    for (unsigned i = 0; i < count; i++)
        if (ids[i] != replica->self.id) return ids[i];
    return 0;
}

/* Asks another node the same. */
static void hedge(struct replica *replica, struct flow *flow, size_t index)
{
    struct flow_read *read = &flow->read;
    struct asks *asks = asks_now(read);
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
    put_question(replica, flow, twin, &request, asks_dead(read, &request));
}

static void hedge_late(struct replica *replica, struct flow *flow)
{
    struct flow_read *read = &flow->read;
    const struct asks *asks = asks_now(read);
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
    const struct asks *asks = asks_now(read);
    for (size_t i = 0; i < asks->count; i++) {
        const struct ask *ask = &asks->list[i];
        if (ask->answered) continue;
        avoid_everywhere(read, ask->node);
        if (ask->node != replica->self.id)
            health_failed(replica->health, ask->node, HEALTH_TIMEOUT);
    }
    ask_others(replica, flow, true);
}

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
    struct ask *ask = ask_for(replica, &read->confirms, list->node, list->of_all);
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
                confirm_at(replica, read, ask, candidate->key);
        }
    }
    if (read->confirms.count == 0 || read->no_memory) return false;
    read->confirming = true;
    start_waiting(replica, read);
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
    start_waiting(replica, read);
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
    replica_read_plan(replica, flow);
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
    if (flow->request.kind == REQUEST_COUNT) { /* Word by word. */
        replica_count_page(replica, flow, merge, count, more);
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
