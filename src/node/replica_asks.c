#include "base/check.h"
#include "base/math.h"
#include "cluster/token.h"
#include "node/replica_read.h"

enum { TOKENS_MAX = READ_HEDGE_COST * READ_HEDGE_BURST };

void ask_free(struct ask *ask)
{
    buf_deinit(&ask->ranges);
    buf_deinit(&ask->entries);
    buf_deinit(&ask->end);
    buf_deinit(&ask->counts);
}

void asks_clear(struct asks *asks)
{
    for (size_t i = 0; i < asks->count; i++) ask_free(&asks->list[i]);
    asks->count = 0;
}

struct ask *asks_add(struct replica *replica, struct asks *asks, node_id node)
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

struct ask *asks_for(struct replica *replica, struct asks *asks, node_id node, bool of_all)
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

bool asks_failed(const struct asks *asks)
{
    for (size_t i = 0; i < asks->count; i++) {
        const struct ask *ask = &asks->list[i];
        if (ask->entries.failed || ask->end.failed || ask->counts.failed) return true;
    }
    return false;
}

bool asks_done(const struct asks *asks)
{
    for (size_t i = 0; i < asks->count; i++)
        if (!asks->list[i].answered) return false;
    return true;
}

void asks_drop_twin(struct asks *asks, size_t dropped)
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

/* --- What one is about --- */

void ask_add_range(struct ask *ask, const struct key_range *range)
{
    data_range_append(&ask->ranges, range);
    ask->range_count++;
}

void ask_check(struct flow_read *read, const struct ask *ask)
{
    if (ask == NULL || ask->ranges.failed) read->no_memory = true;
}

void ask_add_word(struct replica *replica, struct ask *ask, struct slice key)
{
    struct buf end = {.heap = replica->heap};
    buf_append_slice(&end, key);
    buf_append_u8(&end, 0);
    if (end.failed) ask->ranges.failed = true;
    ask_add_range(ask, &(struct key_range){key, buf_slice(&end)});
    buf_deinit(&end);
}

bool ask_covers(const struct ask *ask, struct slice key)
{
    struct slice rest = buf_slice(&ask->ranges);
    struct key_range range;
    while (data_range_next(&rest, &range)) {
        bool below = range.high.size == 0 || slice_compare(key, range.high) < 0;
        if (below && slice_compare(key, range.low) >= 0) return true;
    }
    return false;
}

/* --- Question and answer --- */

static uint64_t needed_sequence(const struct flow *flow, node_id node)
{
    struct token token;
    if (flow->consistency != CONSISTENCY_ONE || flow->request.token.size == 0) return 0;
    enum status status = token_decode(flow->request.token, &token);
    CHECK(status == STATUS_OK);
    return token_sequence(&token, node);
}

void ask_absorb(struct ask *ask, const struct data_message *told)
{
    struct slice rest = told->entries;
    struct request_entry entry;
    ask->answered = true;
    ask->more = told->reply.more;
    buf_clear(&ask->counts);
    buf_append_slice(&ask->counts, told->counts);
    ask->entry_count += told->entry_count;
    buf_append_slice(&ask->entries, told->entries);
    /* Where a list ends matters if it goes on. */
    while (ask->more && data_entry_next(&rest, &entry)) {
        if (rest.size > 0) continue;
        ask->end_best = record_best(&entry.record);
        buf_clear(&ask->end);
        buf_append_slice(&ask->end, entry.key);
    }
}

struct request ask_next_page(const struct flow_read *read, const struct ask *ask)
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

void ask_put(struct replica *replica, struct flow *flow, struct ask *ask,
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
        if (told.verdict == DATA_OK) ask_absorb(ask, &told);
        /* What this node cannot answer is found out at the next tick. */
        if (told.verdict != DATA_OK) read_avoid_refused(read, ask, &told);
        return;
    }
    replica_send(replica, ask->node, false, &message);
    replica->hedge_tokens = (uint32_t)u64_min(replica->hedge_tokens + 1, TOKENS_MAX);
    /* A list that is continued is the node's own, and nobody stands in for one of all owners. */
    if (ask->entry_count > 0 || ask->twin != 0 || ask->sequence != 0 || ask->of_all) return;
    ask->hedge_ms = ask->sent_ms + health_hedge_after_ms(health_cache(replica->health), ask->node);
    read->hedge_ms = u64_min(read->hedge_ms, ask->hedge_ms);
}

bool read_asks_dead(const struct flow_read *read, const struct request *request)
{
    return request->kind == REQUEST_GET || (request->kind == REQUEST_COUNT && read->compare);
}
