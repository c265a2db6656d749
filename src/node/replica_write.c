/* A write, coordinated by an owner of its key.
 *
 *     stamped here      into the batch under way; sent to all other owners that answer
 *     durable here      one acknowledgement, always needed
 *     APPLIED ok        one more
 *     APPLIED stale     a newer version stands there: stamp again above it, once; if it happens
 *                       again another write came at the same time, and the owner joins the two.
 *                       An increment of an older value moves to the owner that knows the newer
 *     enough            in every set of owners: the reply
 *     no, for now       the owner lacks our map, or is busy: it is asked again soon
 *     no                it has no room, its clock is off, it owns the key no more: owed a hint
 *     silent too long   the owner is owed a hint, which is not counted
 *     too few are left  with sloppy_quorum others stand in, one after the other, and count once their
 *                       hint is durable; else the reply says so at once, before anything is done where
 *                       that was known
 *
 * docs/design/coordinating.md has the reasons. */
#include "base/check.h"
#include "base/math.h"
#include "base/planted.h"
#include "cluster/token.h"
#include "core/write.h"
#include "node/replica_private.h"

/* --- Whom it concerns --- */

static struct target *target_of(struct flow_write *write, node_id id)
{
    for (size_t i = 0; i < write->target_count; i++)
        if (write->targets[i].id == id) return &write->targets[i];
    return NULL;
}

static uint8_t need_of(enum consistency consistency, const struct owners *owners)
{
    switch (consistency) {
    case CONSISTENCY_ONE:
        return 1;
    case CONSISTENCY_QUORUM:
        return owners->write_quorum;
    case CONSISTENCY_ALL:
        break;
    }
    return owners->count;
}

static void choose_targets(const struct replica *replica, struct flow *flow)
{
    struct flow_write *write = &flow->write;
    struct owners sets[2];
    struct shard shard =
        rangemap_shard(replica->map, rangemap_find(replica->map, flow->request.key));
    size_t set_count = shard_write_owners(&shard, sets);
    write->target_count = 0;
    write->need[1] = 0;
    for (size_t set = 0; set < set_count; set++) {
        write->need[set] = need_of(flow->consistency, &sets[set]);
        for (size_t i = 0; i < sets[set].count; i++) {
            struct target *target = target_of(write, sets[set].ids[i]);
            if (target == NULL) {
                target = &write->targets[write->target_count++];
                *target = (struct target){.id = sets[set].ids[i]};
            }
            target->sets |= (uint8_t)(1 << set);
        }
    }
}

/* How many of a set count; or, `may`, might count yet. */
static unsigned count_in(const struct flow_write *write, unsigned set, bool may)
{
    unsigned count = 0;
    for (size_t i = 0; i < write->target_count; i++) {
        const struct target *target = &write->targets[i];
        if ((target->sets & 1 << set) == 0) continue;
        bool waits = target->state == TARGET_WAITING || target->asked || target->stand_in != 0;
        bool counts = target->state == TARGET_ACKED || target->state == TARGET_STOOD_IN;
        count += counts || (may && waits);
    }
    return count;
}

static bool has_enough(const struct flow_write *write, bool may)
{
    return count_in(write, 0, may) >= write->need[0] && count_in(write, 1, may) >= write->need[1];
}

/* --- Stand-ins --- */

static bool is_used(const struct flow_write *write, node_id id)
{
    for (size_t i = 0; i < write->target_count; i++)
        if (write->targets[i].id == id || write->targets[i].stand_in == id) return true;
    return false;
}

/* The next member that is up and has no part in the write yet. Each gets one turn. */
static node_id free_member(const struct replica *replica, struct flow_write *write)
{
    size_t count = rangemap_member_count(replica->map);
    while (write->next_member < count) {
        struct member member = rangemap_member(replica->map, write->next_member++);
        if (member.state != MEMBER_ACTIVE || member.id == replica->self.id) continue;
        if (!is_used(write, member.id) && !replica_is_down(replica, member.id)) return member.id;
    }
    return 0;
}

/* --- Out --- */

/* What came of the stamps. */
static void put_records(const struct flow *flow, struct data_message *message)
{
    struct slice record = buf_slice(&flow->write.record);
    if (flow->request.kind == REQUEST_LOAD) {
        message->entries = record;
        message->entry_count = flow->request.set_count;
        return;
    }
    message->key = flow->request.key;
    enum status status = record_decode(record, &message->record);
    CHECK(status == STATUS_OK);
}

static void send_apply(struct replica *replica, struct flow *flow, const struct target *target)
{
    bool increment = flow->request.kind == REQUEST_INCREMENT;
    struct data_message message = {
        .kind = DATA_APPLY,
        .flow = flow_label(flow, flow->write.stamp_count),
        .apply = target->joins ? DATA_APPLY_JOIN
                 : increment   ? DATA_APPLY_INCREMENT
                               : DATA_APPLY_SET,
    };
    put_records(flow, &message);
    replica_send_with_batch(replica, target->id, &message);
}

static void send_hold(struct replica *replica, struct flow *flow, const struct target *target)
{
    struct data_message message = {
        .kind = DATA_HOLD,
        .flow = flow_label(flow, flow->write.stamp_count),
        .owner = target->id,
    };
    put_records(flow, &message);
    replica_send_with_batch(replica, target->stand_in, &message);
}

/* Without room for hints the owner learns of it by repair. */
static void keep_hint(struct replica *replica, struct flow *flow, struct target *target)
{
    struct data_message message = {0};
    struct request_entry entry;
    if (target->hinted) return;
    put_records(flow, &message);
    struct slice rest = message.entries;
    if (message.entry_count == 0)
        target->hinted = replica_hint_keep(replica, target->id, message.key, &message.record);
    else
        target->hinted = true;
    while (data_entry_next(&rest, &entry))
        if (!replica_hint_keep(replica, target->id, entry.key, &entry.record))
            target->hinted = false;
    TRACE(replica->trace, "flow %llu: n%u silent, keep a hint", (unsigned long long)flow->number,
          target->id);
}

/* Names stand-ins for owners that are owed until each set can be met, and asks them once there is
 * something to keep. */
static void choose_stand_ins(struct replica *replica, struct flow *flow)
{
    struct flow_write *write = &flow->write;
    if (!rangemap_settings(replica->map)->sloppy_quorum) return;
    for (unsigned set = 0; set < 2; set++) {
        unsigned up = 0;
        for (size_t i = 0; i < write->target_count; i++) {
            const struct target *target = &write->targets[i];
            bool owed = target->state == TARGET_OWED && target->stand_in == 0;
            up += (target->sets & 1 << set) != 0 && !owed;
        }
        for (size_t i = 0; up < write->need[set] && i < write->target_count; i++) {
            struct target *target = &write->targets[i];
            if ((target->sets & 1 << set) == 0 || target->state != TARGET_OWED) continue;
            if (target->stand_in != 0) continue;
            target->stand_in = free_member(replica, write);
            if (target->stand_in == 0) return;
            up++;
            if (write->stamp_count > 0) send_hold(replica, flow, target);
        }
    }
}

static void send_all(struct replica *replica, struct flow *flow)
{
    struct flow_write *write = &flow->write;
    for (size_t i = 0; i < write->target_count; i++) {
        struct target *target = &write->targets[i];
        if (target->id == replica->self.id) continue;
        target->again = target->hinted = false;
        target->asked = target->state == TARGET_WAITING;
        if (target->stand_in != 0)
            send_hold(replica, flow, target);
        else if (target->state == TARGET_OWED)
            keep_hint(replica, flow, target);
        if (target->asked) send_apply(replica, flow, target);
    }
}

/* --- Stamping --- */

static enum store_write_kind kind_of(enum request_kind kind)
{
    if (kind == REQUEST_SET) return STORE_SET;
    return kind == REQUEST_REMOVE ? STORE_REMOVE : STORE_INCREMENT;
}

/* Sends what came out once it is told what waits for it. */
static void go_on(struct replica *replica, struct flow *flow)
{
    struct flow_write *write = &flow->write;
    struct target *self = target_of(write, replica->self.id);
    write->own_durable = false;
    if (self != NULL) self->sequence = store_next_sequence(replica->store);
    write->hint_ms = flow->deadline_ms;
    if (!write->after_own) {
        write->hint_ms = replica->time.now_ms + REPLICA_HINT_AFTER_MS;
        send_all(replica, flow);
    }
    replica_hold_flow(replica, flow_label(flow, write->stamp_count));
    if (planted(BUG_ACKNOWLEDGE_WRITE_EARLY))
        replica_write_durable(replica, flow_label(flow, write->stamp_count));
}

/* The same of a load: all of it, or what was refused. */
static enum status stamp_sets(struct replica *replica, struct flow *flow, struct slice refusals)
{
    size_t stamped;
    enum status status = replica_load_stamp(replica, flow, refusals, &stamped);
    if (stamped > 0) flow->write.stamp_count++;
    if (status == STATUS_OK) go_on(replica, flow);
    return status;
}

/* Writes it here, with a version of its own, and sends what came out. Of a load that was written
 * before only what `refusals` names, if they name anything. */
static enum status stamp(struct replica *replica, struct flow *flow, struct slice refusals)
{
    if (flow->request.kind == REQUEST_LOAD) return stamp_sets(replica, flow, refusals);
    struct flow_write *write = &flow->write;
    const struct request *request = &flow->request;
    struct store_outcome outcome;
    struct version promised = {.time = replica_promised(replica, request->key)};
    /* What was added once is not added again: it only gets a later version. */
    bool is_added = request->kind == REQUEST_INCREMENT && write->stamp_count > 0;
    struct store_write stored = {
        .kind = kind_of(request->kind),
        .key = request->key,
        .score = is_added ? 0 : request->score,
        .has_payload = request->has_payload,
        .payload = request->payload,
        .tags = request->tags,
        .expires_at = request->expires_at,
        .leave_tombstone = true,
        .above = version_max(write->above, promised),
    };
    replica_purge_bound(replica, &stored);
    replica_store_write(replica, &stored, &outcome);
    if (outcome.status != STATUS_OK) return outcome.status;
    CHECK(outcome.changed);
    write->stamp_count++; /* Whatever comes of it from here on: it is in the batch. */
    buf_clear(&write->record);
    buf_append_slice(&write->record, outcome.encoded);
    if (buf_status(&write->record) != STATUS_OK) return STATUS_NOMEM;
    write->version = outcome.version;
    write->score = outcome.score;
    if (write->stamp_count == 1) write->was_live = outcome.was_live;
    go_on(replica, flow);
    return STATUS_OK;
}

/* --- Increments with a name --- */

static enum status note_operation(struct replica *replica, struct flow *flow,
                                  enum operation_state state)
{
    const struct flow_write *write = &flow->write;
    struct operation_note told = {write->set, write->version, state, write->move_to,
                                  flow->request.operation.moves};
    return replica_operation_note(replica, &flow->request, &told);
}

/* Notes it and does it, in one batch. Others are sent it once that is durable: what a crash here
 * makes nobody know of must not live on there. */
static enum status stamp_operation(struct replica *replica, struct flow *flow)
{
    struct flow_write *write = &flow->write;
    struct record record;
    replica_batch(replica);
    enum status found = store_current(replica->store, flow->request.key, &record);
    if (found != STATUS_OK && found != STATUS_NOT_FOUND) return found;
    write->set = write_increment_set(found == STATUS_OK ? &record : NULL, replica->time.wall_ms);
    enum status status = note_operation(replica, flow, OPERATION_COUNTED);
    if (status != STATUS_OK) return status;
    write->after_own = true;
    status = stamp(replica, flow, (struct slice){0});
    if (write->stamp_count == 0) {
        enum status undone = note_operation(replica, flow, OPERATION_NOTHING);
        if (undone != STATUS_OK) write->stamp_count = 1; /* Nobody knows any more. */
        return status;
    }
    /* A value may have expired since the batch began. */
    enum status decoded = record_decode(buf_slice(&write->record), &record);
    if (status != STATUS_OK || decoded != STATUS_OK) return STATUS_NOMEM;
    if (version_equal(record.set, write->set)) return STATUS_OK;
    write->set = record.set;
    return note_operation(replica, flow, OPERATION_COUNTED);
}

/* It counts already: the record that stands goes to the owners once more. */
static enum status tell_again(struct replica *replica, struct flow *flow)
{
    struct flow_write *write = &flow->write;
    struct record record;
    enum status status = store_current(replica->store, flow->request.key, &record);
    if (status != STATUS_OK) return status;
    buf_clear(&write->record);
    record_encode(&record, &write->record);
    if (buf_status(&write->record) != STATUS_OK) return STATUS_NOMEM;
    write->stamp_count = 1;
    write->after_own = write->was_live = true;
    write->version = record.version;
    write->score = record_score(&record);
    write->set = record.set;
    go_on(replica, flow);
    return STATUS_OK;
}

/* To the owner that knows a newer value, once it is durable here that it went there. */
static void move_once_durable(struct replica *replica, struct flow *flow, node_id to)
{
    flow->write.move_to = to;
    flow->write.hint_ms = flow->deadline_ms;
    replica_hold_flow(replica, flow_label(flow, flow->write.stamp_count));
}

/* Where the write is durable. */
static struct slice make_token(struct replica *replica, const struct flow_write *write)
{
    struct token_group group = {0};
    struct token token = {0};
    for (size_t i = 0; i < write->target_count; i++) {
        const struct target *target = &write->targets[i];
        struct member member;
        if (target->state != TARGET_ACKED || target->sequence == 0) continue;
        if (!rangemap_member_find(replica->map, target->id, &member)) continue;
        (void)token_group_put(
            &group, (struct token_place){target->id, member.incarnation, target->sequence});
    }
    buf_clear(&replica->token);
    if (group.count == 0) return (struct slice){0};
    token_add(&token, &group);
    token_encode(&token, &replica->token);
    return buf_status(&replica->token) == STATUS_OK ? buf_slice(&replica->token)
                                                    : (struct slice){0};
}

/* Of each set of a load the version that it got. Without memory none is told. */
static struct request_result *results_of(struct replica *replica, const struct flow *flow)
{
    size_t count = flow->request.set_count, at = 0;
    struct slice rest = buf_slice(&flow->write.record);
    struct request_result *results = heap_zalloc(replica->heap, count * sizeof *results);
    struct request_entry entry;
    if (results == NULL) return NULL;
    while (at < count && data_entry_next(&rest, &entry))
        results[at++].version = entry.record.version;
    return results;
}

static void reply(struct replica *replica, struct flow *flow, enum request_outcome outcome,
                  enum status status)
{
    struct flow_write *write = &flow->write;
    struct request_reply reply = {
        .outcome = outcome,
        .status = status,
        .version = write->version,
        .score = write->score,
        .was_live = write->was_live,
    };
    for (size_t i = 0; i < write->target_count; i++) {
        reply.ack_count += write->targets[i].state == TARGET_ACKED;
        reply.sloppy = reply.sloppy || write->targets[i].state == TARGET_STOOD_IN;
    }
    if (outcome == REQUEST_DONE) reply.token = make_token(replica, write);
    struct request_result *results = NULL;
    if (outcome == REQUEST_DONE && flow->request.kind == REQUEST_LOAD) {
        results = results_of(replica, flow);
        reply.results = results;
        reply.result_count = results == NULL ? 0 : flow->request.set_count;
    }
    write->replied = true;
    if (outcome == REQUEST_DONE && has_operation(&flow->request)) {
        /* Without the note a retry is told again, or done again in a value that was set since. */
        enum status noted = note_operation(
            replica, flow, reply.sloppy ? OPERATION_STOOD_IN : OPERATION_ACKNOWLEDGED);
        (void)noted;
    }
    replica_reply(replica, flow, &reply);
    heap_free(replica->heap, results);
}

/* The store takes it not, or its batch is nothing. Another owner may do better, if nothing was done. */
static void abandon(struct replica *replica, struct flow *flow, bool nothing_done,
                    enum status status)
{
    bool mine = status == STATUS_FULL || status == STATUS_READ_ONLY || status == STATUS_IO;
    if (has_operation(&flow->request)) mine = false; /* Another one would not know of it. */
    if (flow->write.replied) {
        replica_flow_end(replica, flow);
    } else if (nothing_done && mine && flow->from_client) {
        flow->refusal = status;
        replica_forward(replica, flow);
    } else if (nothing_done && mine) {
        replica_fail(replica, flow, REQUEST_NO_HEALTHY_OWNER, status);
    } else {
        reply(replica, flow, nothing_done ? REQUEST_REFUSED : REQUEST_TIMED_OUT, status);
        replica_flow_end(replica, flow);
    }
}

/* As it was acknowledged before; only the score is that of now. */
static void reply_over(struct replica *replica, struct flow *flow,
                       const struct operation_note *noted)
{
    struct query query = replica_query(replica);
    struct query_hit hit;
    struct request_reply reply = {.outcome = REQUEST_DONE,
                                  .version = noted->version,
                                  .ack_count = 1,
                                  .sloppy = noted->state == OPERATION_STOOD_IN,
                                  .was_live = true};
    if (query_get(&query, flow->request.key, &hit) == STATUS_OK && hit.live)
        reply.score = record_score(&hit.record);
    replica_reply(replica, flow, &reply);
    replica_flow_end(replica, flow);
}

/* The way that an attempt before it went. */
static void go_the_same_way(struct replica *replica, struct flow *flow,
                            const struct operation_note *noted)
{
    struct request_operation *operation = &flow->request.operation;
    if (operation->attempt == OPERATION_FIRST) operation->attempt = OPERATION_RETRY;
    operation->moves = noted->moves;
    move_once_durable(replica, flow, noted->moved_to);
}

static bool is_noted_as(const struct flow *flow, const struct operation_note *noted,
                        enum operation_state state)
{
    bool same = noted->state == state ||
                (operation_is_acknowledged(noted->state) && operation_is_acknowledged(state));
    return same && version_equal(noted->set, flow->write.set) &&
           noted->moves == flow->request.operation.moves;
}

/* Whether another attempt of the same increment went on since this one began: that one's outcome is the outcome, or
 * it would count here and there. */
static bool was_overtaken(struct replica *replica, struct flow *flow, bool has_quorum)
{
    struct operation_note noted;
    if (!has_operation(&flow->request)) return false;
    enum status status = replica_operation_noted(replica, &flow->request, &noted);
    if (status == STATUS_OK && is_noted_as(flow, &noted, OPERATION_COUNTED)) return false;
    if (status == STATUS_OK && is_noted_as(flow, &noted, OPERATION_ACKNOWLEDGED) && has_quorum)
        return false;
    if (status == STATUS_OK && noted.state == OPERATION_MOVED)
        go_the_same_way(replica, flow, &noted);
    else if (status == STATUS_OK && operation_is_acknowledged(noted.state))
        reply_over(replica, flow, &noted);
    else
        replica_fail(replica, flow, REQUEST_TIMED_OUT, STATUS_NOT_FOUND);
    return true;
}

/* What became of it as far as is known here, or nothing did: false, it is to be done. */
static bool answer_operation(struct replica *replica, struct flow *flow)
{
    struct operation_note noted = {0};
    uint8_t *moves = &flow->request.operation.moves;
    switch (replica_operation_look(replica, &flow->request, &noted)) {
    case OPERATION_RUN:
        if (noted.moves > *moves) *moves = noted.moves;
        return false;
    case OPERATION_AGAIN:
        *moves = noted.moves;
        if (!has_enough(&flow->write, true) || tell_again(replica, flow) != STATUS_OK)
            replica_fail(replica, flow, REQUEST_TIMED_OUT, STATUS_BUSY);
        return true;
    case OPERATION_ELSEWHERE:
        go_the_same_way(replica, flow, &noted);
        return true;
    case OPERATION_OVER:
        reply_over(replica, flow, &noted);
        return true;
    case OPERATION_UNKNOWN:
        replica_fail(replica, flow, REQUEST_TIMED_OUT, STATUS_NOT_FOUND);
        return true;
    case OPERATION_MISUSED:
        break;
    }
    replica_fail(replica, flow, REQUEST_REFUSED, STATUS_INVALID);
    return true;
}

void replica_write_begin(struct replica *replica, struct flow *flow)
{
    struct flow_write *write = &flow->write;
    choose_targets(replica, flow);
    for (size_t i = 0; i < write->target_count; i++)
        if (replica_is_down(replica, write->targets[i].id)) write->targets[i].state = TARGET_OWED;
    choose_stand_ins(replica, flow);
    bool named = has_operation(&flow->request);
    if (named && answer_operation(replica, flow)) return;
    if (!has_enough(write, true)) {
        replica_fail(replica, flow, REQUEST_QUORUM_NOT_MET, STATUS_BUSY);
        return;
    }
    enum status status = named ? stamp_operation(replica, flow)
                               : stamp(replica, flow, (struct slice){0});
    if (status != STATUS_OK) abandon(replica, flow, write->stamp_count == 0, status);
}

/* --- Progress --- */

/* Nobody is waited for: each owner has it, or a hint is kept. */
static bool all_settled(const struct flow_write *write)
{
    for (size_t i = 0; i < write->target_count; i++) {
        const struct target *target = &write->targets[i];
        if (target->state == TARGET_WAITING) return false;
        if (target->state == TARGET_OWED && target->stand_in != 0 && !target->hinted) return false;
    }
    return true;
}

/* Replies once every set has enough, or can have no more; ends once nobody is waited for. */
static void progress(struct replica *replica, struct flow *flow)
{
    struct flow_write *write = &flow->write;
    if (!write->replied && write->own_durable && has_enough(write, false)) {
        if (was_overtaken(replica, flow, true)) return;
        reply(replica, flow, REQUEST_DONE, STATUS_OK);
    }
    if (!write->replied && !has_enough(write, true))
        reply(replica, flow, REQUEST_TIMED_OUT, STATUS_BUSY);
    if (write->replied && all_settled(write)) replica_flow_end(replica, flow);
}

/* The value that this node added to is an older one: the owner that knows the newer adds to that,
 * and what was added here goes with the old value when they are joined. */
static void move_increment(struct replica *replica, struct flow *flow, node_id to)
{
    uint64_t now_ms = replica->time.now_ms;
    uint64_t left_ms = u64_max(flow->deadline_ms, now_ms) - now_ms;
    flow->moved = true;
    /* The way itself takes nothing off its time. */
    flow->deadline_ms = now_ms + left_ms / 2;
    if (left_ms < 2 || flow->request.operation.moves++ == UINT8_MAX)
        replica_fail(replica, flow, REQUEST_TIMED_OUT, STATUS_TIMEOUT);
    else
        replica_forward_to(replica, flow, to, 0x8000);
}

void replica_write_durable(struct replica *replica, uint64_t label)
{
    struct flow *flow = replica_flow_find(replica, label);
    if (flow == NULL || flow->kind != FLOW_WRITE) return;
    struct flow_write *write = &flow->write;
    if (label != flow_label(flow, write->stamp_count)) return;
    if (write->move_to != 0) {
        move_increment(replica, flow, write->move_to);
        return;
    }
    struct target *self = target_of(write, replica->self.id);
    bool first = !write->own_durable;
    write->own_durable = true;
    if (self != NULL) self->state = TARGET_ACKED;
    if (write->after_own && first) {
        write->hint_ms = replica->time.now_ms + REPLICA_HINT_AFTER_MS;
        send_all(replica, flow);
    }
    progress(replica, flow);
}

void replica_write_failed(struct replica *replica, struct flow *flow, enum status status)
{
    if (flow->kind != FLOW_WRITE) return;
    /* An earlier stamp may stand at others; and of a batch that the disk failed under nobody knows
     * before the next start whether it is there. */
    bool unknown = flow->write.stamp_count > 1 || status == STATUS_IO || status == STATUS_READ_ONLY;
    abandon(replica, flow, !unknown, status);
}

static void stamp_again(struct replica *replica, struct flow *flow, struct slice refusals)
{
    struct flow_write *write = &flow->write;
    replica->stats.restamp_count++;
    for (size_t i = 0; i < write->target_count; i++) {
        struct target *target = &write->targets[i];
        target->joins = false;
        if (target->state == TARGET_STOOD_IN)
            target->state = TARGET_OWED; /* Until its stand-in has the new one as well. */
        else if (target->state != TARGET_OWED || target->asked)
            target->state = TARGET_WAITING;
    }
    enum status status = stamp(replica, flow, refusals);
    if (status != STATUS_OK) abandon(replica, flow, false, status);
}

/* Whoever wrote what it has did so while we did: had we come first, that would stand as well. But of our
 * record it lacks what the newer one says nothing of, as an increment says nothing of a removal. */
static void join_there(struct replica *replica, struct flow *flow, struct target *target)
{
    replica->stats.superseded_count++;
    if (target->joins || planted(BUG_SUPERSEDED_UNJOINED)) {
        target->state = TARGET_ACKED;
        return;
    }
    target->joins = true;
    send_apply(replica, flow, target);
}

static void refused_as_stale(struct replica *replica, struct flow *flow, struct target *target,
                             struct version version)
{
    struct flow_write *write = &flow->write;
    if (flow->request.kind == REQUEST_INCREMENT) {
        if (write->replied) {
            target->state = TARGET_ACKED; /* What it has set anew came after. */
        } else if (!has_operation(&flow->request)) {
            move_increment(replica, flow, target->id);
        } else if (!was_overtaken(replica, flow, false)) {
            write->move_to = target->id;
            flow->request.operation.attempt = OPERATION_FIRST; /* For that owner. */
            if (note_operation(replica, flow, OPERATION_MOVED) == STATUS_OK)
                move_once_durable(replica, flow, target->id);
            else
                abandon(replica, flow, false, STATUS_NOMEM);
        }
        return;
    }
    write->above = version_max(write->above, version);
    if (write->replied || write->stamp_count > REPLICA_RESTAMPS_MAX) {
        join_there(replica, flow, target);
        return;
    }
    TRACE(replica->trace, "flow %llu: n%u has newer, stamp again", (unsigned long long)flow->number,
          target->id);
    stamp_again(replica, flow, (struct slice){0});
}

/* Whether an owner that says so may say yes soon: it lacks our map, or has much to do. */
static bool is_passing(const struct replica *replica, const struct data_message *message)
{
    if (message->verdict == DATA_BUSY || message->verdict == DATA_INCOMPLETE) return true;
    return message->verdict == DATA_NOT_OWNER &&
           message->map_number < rangemap_identity(replica->map)->number;
}

static void refused(struct replica *replica, struct flow *flow, struct target *target,
                    const struct data_message *message)
{
    struct flow_write *write = &flow->write;
    replica->stats.refused_count++;
    target->again = is_passing(replica, message);
    if (target->again) {
        write->retry_ms = replica->time.now_ms + WRITE_RETRY_MS;
        return;
    }
    target->asked = false;
    target->state = TARGET_OWED;
    if (!write->replied) choose_stand_ins(replica, flow);
    if (target->stand_in == 0) keep_hint(replica, flow, target);
}

/* It takes nothing so old any more, and has not got it. */
static void refused_by_promise(struct replica *replica, struct flow *flow, struct target *target,
                               const struct data_message *message)
{
    struct flow_write *write = &flow->write;
    write->above = version_max(write->above, message->version);
    if (write->replied || write->stamp_count > REPLICA_RESTAMPS_MAX) {
        refused(replica, flow, target, message);
        return;
    }
    TRACE(replica->trace, "flow %llu: n%u has promised, stamp again",
          (unsigned long long)flow->number, target->id);
    stamp_again(replica, flow, (struct slice){0});
}

static bool are_of_load(const struct flow *flow, struct slice refusals)
{
    struct data_refusal refusal;
    bool good = true;
    while (good && data_refusal_next(&refusals, &refusal))
        good = refusal.place < flow->request.set_count;
    return good;
}

/* It has taken the rest of a load. */
static void refused_partly(struct replica *replica, struct flow *flow, struct target *target,
                           const struct data_message *message)
{
    struct flow_write *write = &flow->write;
    struct slice rest = message->refusals;
    struct data_refusal refusal;
    bool promised = false;
    if (!are_of_load(flow, message->refusals)) {
        replica->stats.invalid_count++;
        refused(replica, flow, target, message);
        return;
    }
    if (!write->replied && write->stamp_count <= REPLICA_RESTAMPS_MAX) {
        TRACE(replica->trace, "flow %llu: n%u takes all but %llu sets, stamp those again",
              (unsigned long long)flow->number, target->id,
              (unsigned long long)message->refusal_count);
        stamp_again(replica, flow, message->refusals);
        return;
    }
    while (data_refusal_next(&rest, &refusal)) promised = promised || refusal.promised;
    if (promised) {
        refused(replica, flow, target, message);
        return;
    }
    join_there(replica, flow, target);
}

void replica_write_applied(struct replica *replica, node_id from,
                           const struct data_message *message)
{
    struct flow *flow = replica_flow_find(replica, message->flow);
    if (flow == NULL || flow->kind != FLOW_WRITE) return;
    struct flow_write *write = &flow->write;
    struct target *target = target_of(write, from);
    if (target == NULL || message->flow != flow_label(flow, write->stamp_count)) return;
    if (target->state == TARGET_ACKED || !target->asked || write->move_to != 0) return;

    target->sequence = message->sequence;
    if (message->verdict == DATA_OK) {
        target->state = TARGET_ACKED;
        /* Who took the first stamp finds that. */
        if (write->stamp_count == 1 || flow->request.kind == REQUEST_REMOVE)
            write->was_live = write->was_live || message->was_live;
    } else if (message->verdict == DATA_STALE || message->verdict == DATA_PROMISED ||
               message->verdict == DATA_PARTLY) {
        if (message->verdict == DATA_STALE)
            refused_as_stale(replica, flow, target, message->version);
        else if (message->verdict == DATA_PROMISED)
            refused_by_promise(replica, flow, target, message);
        else
            refused_partly(replica, flow, target, message);
        flow = replica_flow_find(replica, message->flow);
        if (flow == NULL || flow->kind != FLOW_WRITE || flow->write.move_to != 0) return;
    } else {
        refused(replica, flow, target, message);
    }
    progress(replica, flow);
}

void replica_write_held(struct replica *replica, node_id from, const struct data_message *message)
{
    struct flow *flow = replica_flow_find(replica, message->flow);
    if (flow == NULL || flow->kind != FLOW_WRITE) return;
    struct flow_write *write = &flow->write;
    if (message->flow != flow_label(flow, write->stamp_count)) return;
    for (size_t i = 0; i < write->target_count; i++) {
        struct target *target = &write->targets[i];
        if (target->stand_in != from || target->state != TARGET_OWED) continue;
        if (message->verdict == DATA_OK) {
            target->state = TARGET_STOOD_IN;
            continue;
        }
        target->stand_in = 0;
        if (!write->replied) choose_stand_ins(replica, flow);
        if (target->stand_in == 0) keep_hint(replica, flow, target);
    }
    progress(replica, flow);
}

uint64_t replica_write_due_ms(const struct flow *flow)
{
    const struct flow_write *write = &flow->write;
    uint64_t due = u64_min(write->hint_ms, flow->deadline_ms);
    return write->retry_ms == 0 ? due : u64_min(due, write->retry_ms);
}

/* Those that said no for now. What they are sent joins with what they may have taken meanwhile. */
static void ask_again(struct replica *replica, struct flow *flow)
{
    struct flow_write *write = &flow->write;
    write->retry_ms = 0;
    for (size_t i = 0; i < write->target_count; i++) {
        struct target *target = &write->targets[i];
        if (!target->again || target->state == TARGET_ACKED) continue;
        target->again = false;
        send_apply(replica, flow, target);
    }
}

/* Owners that are silent are owed hints, whoever else was asked to keep one: an acknowledgement that
 * comes late is as good. Stand-ins that are silent are passed over. */
static void give_up_waiting(struct replica *replica, struct flow *flow)
{
    struct flow_write *write = &flow->write;
    for (size_t i = 0; i < write->target_count; i++) {
        struct target *target = &write->targets[i];
        if (target->id == replica->self.id) continue;
        if (target->state == TARGET_WAITING) target->state = TARGET_OWED;
        if (target->state != TARGET_OWED) continue;
        keep_hint(replica, flow, target);
        node_id next = target->stand_in == 0 || write->replied ? 0 : free_member(replica, write);
        if (next == 0) continue;
        target->stand_in = next;
        send_hold(replica, flow, target);
    }
    if (!write->replied) choose_stand_ins(replica, flow);
}

void replica_write_tick(struct replica *replica, struct flow *flow)
{
    struct flow_write *write = &flow->write;
    uint64_t now_ms = replica->time.now_ms;
    bool late = now_ms >= flow->deadline_ms;
    if (write->retry_ms != 0 && now_ms >= write->retry_ms) ask_again(replica, flow);
    if (now_ms < write->hint_ms && !late) return;
    write->hint_ms = now_ms + REPLICA_HINT_AFTER_MS;
    if (write->move_to == 0) give_up_waiting(replica, flow);
    if (late && !write->replied) reply(replica, flow, REQUEST_TIMED_OUT, STATUS_TIMEOUT);
    if (late)
        replica_flow_end(replica, flow);
    else
        progress(replica, flow);
}
