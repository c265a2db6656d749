/* A write, coordinated by an owner of its key.
 *
 *     stamped here      into the batch under way; sent to all other owners that answer
 *     durable here      one acknowledgement, always needed
 *     APPLIED ok        one more
 *     APPLIED stale     a newer version stands there: stamp again above it, once; if it happens
 *                       again another write came at the same time, and ours counts as superseded.
 *                       An increment of an older value moves to the owner that knows the newer
 *     enough            in every set of owners: the reply
 *     silent too long   the owner is owed a hint, which is not counted
 *     too few are up    with sloppy_quorum others stand in, and count once their hint is durable;
 *                       else the write is refused before anything is done
 *
 * docs/design/coordinating.md has the reasons. */
#include "base/check.h"
#include "base/math.h"
#include "base/planted.h"
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

static unsigned count_in(const struct flow_write *write, unsigned set, bool acked_only)
{
    unsigned count = 0;
    for (size_t i = 0; i < write->target_count; i++) {
        const struct target *target = &write->targets[i];
        if ((target->sets & 1 << set) == 0) continue;
        bool counts = target->state == TARGET_ACKED || target->state == TARGET_STOOD_IN;
        count += acked_only ? counts : target->state == TARGET_WAITING || counts;
    }
    return count;
}

/* --- Stand-ins --- */

static bool is_used(const struct flow_write *write, node_id id)
{
    for (size_t i = 0; i < write->target_count; i++)
        if (write->targets[i].id == id || write->targets[i].stand_in == id) return true;
    return false;
}

/* The next member that is up and has no part in the write yet. */
static node_id free_member(const struct replica *replica, const struct flow_write *write)
{
    size_t count = rangemap_member_count(replica->map);
    for (size_t i = 0; i < count; i++) {
        struct member member = rangemap_member(replica->map, i);
        if (member.state != MEMBER_ACTIVE || member.id == replica->self.id) continue;
        if (!is_used(write, member.id) && !replica_is_down(replica, member.id)) return member.id;
    }
    return 0;
}

/* Names stand-ins for owners that are down until each set can be met; false: it cannot. */
static bool choose_stand_ins(const struct replica *replica, struct flow_write *write)
{
    for (unsigned set = 0; set < 2; set++) {
        unsigned up = count_in(write, set, false);
        for (size_t i = 0; up < write->need[set] && i < write->target_count; i++) {
            struct target *target = &write->targets[i];
            if ((target->sets & 1 << set) == 0 || target->state != TARGET_OWED) continue;
            if (target->stand_in == 0) target->stand_in = free_member(replica, write);
            up += target->stand_in != 0;
        }
        if (up < write->need[set]) return false;
    }
    return true;
}

/* --- Out --- */

static void send_apply(struct replica *replica, struct flow *flow, node_id to)
{
    struct flow_write *write = &flow->write;
    struct data_message message = {
        .kind = DATA_APPLY,
        .flow = flow_label(flow, write->stamp_count),
        .apply = flow->request.kind == REQUEST_INCREMENT ? DATA_APPLY_INCREMENT : DATA_APPLY_SET,
        .key = flow->request.key,
    };
    enum status status = record_decode(buf_slice(&write->record), &message.record);
    CHECK(status == STATUS_OK);
    replica_send(replica, to, false, &message);
}

static void send_hold(struct replica *replica, struct flow *flow, const struct target *target)
{
    struct data_message message = {
        .kind = DATA_HOLD,
        .flow = flow_label(flow, flow->write.stamp_count),
        .owner = target->id,
        .key = flow->request.key,
    };
    enum status status = record_decode(buf_slice(&flow->write.record), &message.record);
    CHECK(status == STATUS_OK);
    replica_send(replica, target->stand_in, false, &message);
}

static void owe(struct replica *replica, struct flow *flow, struct target *target)
{
    struct record record;
    target->state = TARGET_OWED;
    if (target->stand_in != 0) return; /* It keeps the hint. */
    enum status status = record_decode(buf_slice(&flow->write.record), &record);
    CHECK(status == STATUS_OK);
    /* Without room for hints the owner learns of it by repair. */
    (void)replica_hint_keep(replica, target->id, flow->request.key, &record);
    TRACE(replica->trace, "flow %llu: n%u silent, keep a hint", (unsigned long long)flow->number,
          target->id);
}

static void send_all(struct replica *replica, struct flow *flow)
{
    struct flow_write *write = &flow->write;
    for (size_t i = 0; i < write->target_count; i++) {
        struct target *target = &write->targets[i];
        if (target->id == replica->self.id) continue;
        if (target->stand_in != 0) send_hold(replica, flow, target);
        target->asked = target->state == TARGET_WAITING;
        if (target->asked)
            send_apply(replica, flow, target->id);
        else if (target->state == TARGET_OWED)
            owe(replica, flow, target);
    }
}

/* --- Stamping --- */

static enum store_write_kind kind_of(enum request_kind kind)
{
    if (kind == REQUEST_SET) return STORE_SET;
    return kind == REQUEST_REMOVE ? STORE_REMOVE : STORE_INCREMENT;
}

/* Writes it here, with a version of its own, and sends what came out. */
static enum status stamp(struct replica *replica, struct flow *flow)
{
    struct flow_write *write = &flow->write;
    const struct request *request = &flow->request;
    struct store_outcome outcome;
    replica_store_write(replica,
                        &(struct store_write){
                            .kind = kind_of(request->kind),
                            .key = request->key,
                            .score = request->score,
                            .has_payload = request->has_payload,
                            .payload = request->payload,
                            .tags = request->tags,
                            .expires_at = request->expires_at,
                            .leave_tombstone = true,
                            .above = write->above,
                        },
                        &outcome);
    if (outcome.status != STATUS_OK) return outcome.status;
    CHECK(outcome.changed);
    write->stamp_count++; /* Whatever comes of it from here on: it is in the batch. */
    buf_clear(&write->record);
    buf_append_slice(&write->record, outcome.encoded);
    if (buf_status(&write->record) != STATUS_OK) return STATUS_NOMEM;
    write->version = outcome.version;
    write->score = outcome.score;
    if (write->stamp_count == 1) write->was_live = outcome.was_live;
    write->own_durable = false;
    write->hint_ms = replica->time.now_ms + REPLICA_HINT_AFTER_MS;
    send_all(replica, flow);
    replica_hold_flow(replica, flow_label(flow, write->stamp_count));
    if (planted(BUG_ACKNOWLEDGE_WRITE_EARLY))
        replica_write_durable(replica, flow_label(flow, write->stamp_count));
    return STATUS_OK;
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
    write->replied = true;
    replica_reply(replica, flow, &reply);
}

static void abandon(struct replica *replica, struct flow *flow, bool nothing_done,
                    enum status status)
{
    if (!flow->write.replied)
        reply(replica, flow, nothing_done ? REQUEST_REFUSED : REQUEST_TIMED_OUT, status);
    replica_flow_end(replica, flow);
}

void replica_write_begin(struct replica *replica, struct flow *flow)
{
    struct flow_write *write = &flow->write;
    choose_targets(replica, flow);
    for (size_t i = 0; i < write->target_count; i++)
        if (replica_is_down(replica, write->targets[i].id)) write->targets[i].state = TARGET_OWED;

    bool enough = true;
    for (unsigned set = 0; set < 2; set++)
        enough = enough && count_in(write, set, false) >= write->need[set];
    if (!enough && rangemap_settings(replica->map)->sloppy_quorum)
        enough = choose_stand_ins(replica, write);
    if (!enough) {
        replica_fail(replica, flow, REQUEST_QUORUM_NOT_MET, STATUS_BUSY);
        return;
    }
    enum status status = stamp(replica, flow);
    if (status != STATUS_OK) abandon(replica, flow, write->stamp_count == 0, status);
}

/* --- Progress --- */

static bool all_settled(const struct flow_write *write)
{
    for (size_t i = 0; i < write->target_count; i++)
        if (write->targets[i].state == TARGET_WAITING) return false;
    return true;
}

/* Replies once every set has enough, and ends once nobody is waited for. */
static void progress(struct replica *replica, struct flow *flow)
{
    struct flow_write *write = &flow->write;
    bool met = write->own_durable && count_in(write, 0, true) >= write->need[0] &&
               count_in(write, 1, true) >= write->need[1];
    if (met && !write->replied) reply(replica, flow, REQUEST_DONE, STATUS_OK);
    if (!all_settled(write)) return;
    if (!write->replied) {
        /* Silent ones may still answer; owners that refused will not do better by waiting. */
        for (size_t i = 0; i < write->target_count; i++) {
            const struct target *target = &write->targets[i];
            if (target->state == TARGET_OWED && (target->asked || target->stand_in != 0)) return;
        }
        reply(replica, flow, REQUEST_TIMED_OUT, STATUS_BUSY);
    }
    replica_flow_end(replica, flow);
}

void replica_write_durable(struct replica *replica, uint64_t label)
{
    struct flow *flow = replica_flow_find(replica, label);
    if (flow == NULL || flow->kind != FLOW_WRITE) return;
    struct flow_write *write = &flow->write;
    if (label != flow_label(flow, write->stamp_count)) return;
    struct target *self = target_of(write, replica->self.id);
    write->own_durable = true;
    if (self != NULL) self->state = TARGET_ACKED;
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

/* The value that this node added to is an older one: the owner that knows the newer adds to that,
 * and what was added here goes with the old value when they are joined. */
static void move_increment(struct replica *replica, struct flow *flow, node_id to)
{
    struct data_message message = {
        .kind = DATA_FORWARD, .flow = flow_label(flow, 0x8000), .request = flow->request};
    uint64_t now_ms = replica->time.now_ms;
    message.request.has_consistency = true;
    message.request.consistency = flow->consistency;
    message.request.timeout_ms =
        (uint32_t)(flow->deadline_ms > now_ms ? flow->deadline_ms - now_ms : 1);
    flow->kind = FLOW_FORWARD;
    flow->forwarded_to = to;
    replica_send(replica, to, false, &message);
}

static void stamp_again(struct replica *replica, struct flow *flow)
{
    struct flow_write *write = &flow->write;
    replica->stats.restamp_count++;
    for (size_t i = 0; i < write->target_count; i++) {
        struct target *target = &write->targets[i];
        if (target->state == TARGET_STOOD_IN)
            target->state = TARGET_OWED; /* Until its stand-in has the new one as well. */
        else if (target->state != TARGET_OWED)
            target->state = TARGET_WAITING;
    }
    enum status status = stamp(replica, flow);
    if (status != STATUS_OK) abandon(replica, flow, false, status);
}

static void refused_as_stale(struct replica *replica, struct flow *flow, struct target *target,
                             struct version version)
{
    struct flow_write *write = &flow->write;
    if (flow->request.kind == REQUEST_INCREMENT) {
        if (write->replied)
            target->state = TARGET_REFUSED;
        else
            move_increment(replica, flow, target->id);
        return;
    }
    write->above = version_max(write->above, version);
    if (write->replied || write->stamp_count > REPLICA_RESTAMPS_MAX) {
        /* Whoever wrote that did so while we did: had we come first, it would stand as well. */
        replica->stats.superseded_count++;
        target->state = TARGET_ACKED;
        return;
    }
    TRACE(replica->trace, "flow %llu: n%u has newer, stamp again", (unsigned long long)flow->number,
          target->id);
    stamp_again(replica, flow);
}

void replica_write_applied(struct replica *replica, node_id from,
                           const struct data_message *message)
{
    struct flow *flow = replica_flow_find(replica, message->flow);
    if (flow == NULL || flow->kind != FLOW_WRITE) return;
    struct flow_write *write = &flow->write;
    struct target *target = target_of(write, from);
    if (target == NULL || message->flow != flow_label(flow, write->stamp_count)) return;
    if (target->state == TARGET_ACKED) return;

    if (message->verdict == DATA_OK) {
        target->state = TARGET_ACKED;
    } else if (message->verdict == DATA_STALE) {
        refused_as_stale(replica, flow, target, message->version);
        flow = replica_flow_find(replica, message->flow);
        if (flow == NULL || flow->kind != FLOW_WRITE) return;
    } else {
        replica->stats.refused_count++;
        target->state = TARGET_REFUSED;
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
        if (message->verdict == DATA_OK)
            target->state = TARGET_STOOD_IN;
        else
            target->stand_in = 0;
    }
    progress(replica, flow);
}

uint64_t replica_write_due_ms(const struct flow *flow)
{
    return u64_min(flow->write.hint_ms, flow->deadline_ms);
}

void replica_write_tick(struct replica *replica, struct flow *flow)
{
    struct flow_write *write = &flow->write;
    uint64_t now_ms = replica->time.now_ms;
    bool late = now_ms >= flow->deadline_ms;
    if (now_ms < write->hint_ms && !late) return;
    write->hint_ms = flow->deadline_ms;
    for (size_t i = 0; i < write->target_count; i++) {
        struct target *target = &write->targets[i];
        bool silent = target->state == TARGET_WAITING || target->state == TARGET_REFUSED;
        if (silent && target->id != replica->self.id) {
            /* It may still answer: an acknowledgement that comes late is as good. */
            owe(replica, flow, target);
        }
    }
    if (late && !write->replied) reply(replica, flow, REQUEST_TIMED_OUT, STATUS_TIMEOUT);
    if (late)
        replica_flow_end(replica, flow);
    else
        progress(replica, flow);
}
