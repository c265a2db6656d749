#include "cluster/repair.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/math.h"
#include "cluster/repair_private.h"

/* --- Life --- */

static void session_init(struct repair_session *session, struct heap *heap)
{
    *session = (struct repair_session){.sent = {.heap = heap},
                                       .asked = {.heap = heap},
                                       .stack = {.heap = heap},
                                       .push = {.heap = heap},
                                       .wants = {.heap = heap},
                                       .want_ranges = {.heap = heap},
                                       .later = {.heap = heap}};
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
    buf_deinit(&session->later);
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

void repair_map_changed(struct repair *repair)
{
    for (size_t i = 0; i < REPAIR_SESSIONS_MAX; i++) {
        struct repair_session *session = &repair->sessions[i];
        if (session->peer == 0) continue;
        buf_clear(&repair->ranges);
        repair->env.shared(repair->env.context, session->peer, session->scope, &repair->ranges);
        bool same = buf_status(&repair->ranges) == STATUS_OK &&
                    hash128_equal(repair_shared_hash(repair), session->shared);
        if (!same) finish(repair, session, false);
    }
    /* Who asks now would take what has ended for sessions by this map. */
    repair->completed_count = 0;
}

/* --- Sending --- */

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
bool repair_push_ranges(struct repair_session *session, struct slice list)
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

/* --- Questions --- */

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
    if (session == NULL || repair_shared_sum(repair, peer, scope, &message.sum) != STATUS_OK)
        return false;
    if (repair->ranges.size == 0) return false; /* Nothing is shared. */
    message.shared = repair_shared_hash(repair);
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

/* --- Answers --- */

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
        if (repair_sum(repair, &range, &sum) != STATUS_OK) return false;
        repair_range_append(&repair->list, &range, repair_sum_cut(sum.low));
    }
    TRACE(repair->env.trace, "repair with n%u: differs", session->peer);
    return buf_status(&repair->ranges) == STATUS_OK && buf_status(&repair->list) == STATUS_OK &&
           repair_push_ranges(session, buf_slice(&repair->list));
}

static void go_on(struct repair *repair, struct repair_session *session, uint64_t now_ms,
                  struct outbox *outbox)
{
    if (session->want_count == 0 && session->later.size > 0 &&
        !repair_look_again(repair, session)) {
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
        good = repair_compared(repair, session, message);
    else if (message->kind == REPAIR_EXCHANGED)
        good = repair_exchanged(repair, session, message);
    if (good)
        go_on(repair, session, now_ms, outbox);
    else
        finish(repair, session, false);
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
        repair_answer(repair, from, &message, outbox);
    else
        answered(repair, from, &message, now_ms, outbox);
    return STATUS_OK;
}

/* --- Time --- */

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
