#include "node/admin.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/check.h"
#include "cluster/rangemap_delta.h"
#include "node/replica_private.h"
#include "proto/json_write.h"

/* --- Answers --- */

__attribute__((format(printf, 3, 4))) static enum admin_step refuse(struct node_question *question,
                                                                    enum problem_code code,
                                                                    const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(question->detail, sizeof question->detail, format, list);
    va_end(list);
    question->refused = true;
    question->refusal = code;
    return ADMIN_ENDED;
}

static enum admin_step finish(struct node_question *question, uint16_t http_status)
{
    question->outcome = REQUEST_DONE;
    question->http_status = http_status;
    if (buf_status(&question->entries) == STATUS_OK) return ADMIN_ENDED;
    buf_deinit(&question->entries);
    return refuse(question, PROBLEM_OVERLOADED, "there is no memory for the answer");
}

static enum admin_step tell_job(const struct replica *replica, const struct job *job,
                                struct replica_time time, struct node_question *question,
                                uint16_t http_status)
{
    if (job == NULL)
        return refuse(question, PROBLEM_OVERLOADED, "%u jobs are under way already", JOBS_MAX);
    job_write(replica, job, time, &question->entries);
    return finish(question, http_status);
}

/* Of a job that the map has: one that found no room when it came up is kept from now on. */
static enum admin_step tell_job_of(struct jobs *jobs, struct replica *replica,
                                   struct replica_time time, const struct job_id *id,
                                   struct node_question *question, uint16_t http_status)
{
    const struct job *job = jobs_find(jobs, replica, time, id);
    if (job == NULL) job = jobs_begin(jobs, replica, time, id);
    return tell_job(replica, job, time, question, http_status);
}

/* --- Changes of the map --- */

static size_t count_registrars(const struct replica *replica, size_t *up)
{
    const node_id *ids;
    size_t count = rangemap_registrars(replica->map, &ids);
    *up = 0;
    for (size_t i = 0; i < count; i++)
        *up += ids[i] == replica->self.id || !replica_is_down(replica, ids[i]);
    return count;
}

/* Whether this node may propose, and anybody could decide. */
static bool can_change(const struct replica *replica, struct node_question *question)
{
    size_t up, count = count_registrars(replica, &up);
    if (!replica_serves(replica)) {
        refuse(question, PROBLEM_NOT_READY,
               replica_is_kept_out(replica)
                   ? "the node is a member of its cluster no more: ask another one"
                   : "the node waits to hear from others whether anything has changed");
        return false;
    }
    if (up > count / 2) return true;
    refuse(question, PROBLEM_QUORUM_NOT_MET,
           "%zu of %zu registrars are up, and more than half have to be to change the map; if the "
           "others are lost for good, recover gives them up",
           up, count);
    return false;
}

/* The change that the question asks for, of the member as the map has it. */
static struct change change_of(const struct replica *replica, const struct node_question *question)
{
    struct change change = {.kind = CHANGE_MEMBER_LEAVING, .member.id = question->node};
    if (question->endpoint == NODE_ADMIN_REBALANCE) {
        change.kind = CHANGE_MEMBER_MOVE;
        (void)rangemap_member_find(replica->map, question->node, &change.member);
        change.member.capacity = question->params.weight;
        return change;
    }
    change.member.leaving = question->endpoint == NODE_ADMIN_DRAIN;
    if (question->endpoint != NODE_ADMIN_REMOVE) return change;
    change.kind = CHANGE_MEMBER_STATE;
    change.member.state = MEMBER_EXCLUDED;
    change.forced = question->params.force;
    return change;
}

static bool is_so(const struct replica *replica, const struct change *change)
{
    struct member member;
    if (!rangemap_member_find(replica->map, change->member.id, &member)) return true;
    if (change->kind == CHANGE_MEMBER_MOVE) return member.capacity == change->member.capacity;
    return change->kind == CHANGE_MEMBER_STATE ? member.state == change->member.state
                                               : member.leaving == change->member.leaving;
}

static bool is_wished(const struct replica *replica, const struct change *change)
{
    for (size_t i = 0; i < replica->moves.wish_count; i++) {
        const struct change *other = &replica->moves.wishes[i].change;
        if (other->kind == change->kind && other->member.id == change->member.id) return true;
    }
    return false;
}

/* What is no wish of the replica's is proposed here, again and again; false: it is one. Whoever proposes something else
 * meanwhile does no harm: the register chooses one. */
static bool propose_weight(struct replica *replica, const struct change *change)
{
    struct buf delta = {.heap = replica->heap};
    if (change->kind != CHANGE_MEMBER_MOVE) return false;
    rangemap_delta_begin(replica->map, &delta);
    rangemap_delta_add(&delta, change);
    enum status status = buf_status(&delta);
    if (status == STATUS_OK)
        status = register_propose(&replica->topology.reg, buf_slice(&delta), replica->time.now_ms,
                                  &replica->prng, &replica->outbox);
    (void)status; /* Busy: there is a next time. */
    replica_take_outbox(replica);
    buf_deinit(&delta);
    return true;
}

/* As it is now is what is wished for: the wish goes. */
static void withdraw(struct replica *replica, const struct change *change)
{
    struct member member;
    if (!is_wished(replica, change)) return;
    struct change back = *change;
    if (!rangemap_member_find(replica->map, change->member.id, &member)) return;
    back.member.state = member.state;
    back.member.leaving = member.leaving;
    (void)replica_change(replica, &back);
}

static size_t count_at_risk(const struct replica *replica, node_id id)
{
    size_t count = 0, shards = rangemap_shard_count(replica->map);
    for (size_t i = replica_next_at_risk(replica, id, 0); i < shards;
         i = replica_next_at_risk(replica, id, i + 1))
        count++;
    return count;
}

/* The rule of the map that the change would break; NULL: none. */
static const char *broken_rule(const struct replica *replica, const struct change *change)
{
    struct buf delta = {.heap = replica->heap};
    struct rangemap *next;
    const char *why = NULL;
    rangemap_delta_begin(replica->map, &delta);
    rangemap_delta_add(&delta, change);
    enum status status = buf_status(&delta);
    if (status == STATUS_OK) status = rangemap_apply(replica->map, buf_slice(&delta), &why, &next);
    if (status == STATUS_OK) rangemap_unref(next);
    buf_deinit(&delta);
    if (status == STATUS_OK) return NULL;
    return why == NULL ? "there is no memory to find out" : why;
}

/* Whether the map of now allows it; refuses otherwise. */
static bool is_allowed(const struct replica *replica, const struct change *change,
                       struct node_question *question)
{
    node_id id = change->member.id;
    bool removes = change->kind == CHANGE_MEMBER_STATE;
    size_t at_risk = removes && !change->forced ? count_at_risk(replica, id) : 0;
    if (at_risk > 0) {
        refuse(question, PROBLEM_CONFLICT,
               "%zu of %zu ranges would have too few owners left to be sure of what was "
               "acknowledged; force=true removes node %u all the same",
               at_risk, rangemap_shard_count(replica->map), id);
        return false;
    }
    const char *rule = broken_rule(replica, change);
    if (rule != NULL)
        refuse(question, PROBLEM_CONFLICT, "node %u cannot %s: %s", id,
               change->kind == CHANGE_MEMBER_MOVE ? "have another weight" : "go", rule);
    return rule == NULL;
}

static enum admin_step watch_moves(struct jobs *jobs, struct replica *replica,
                                   struct replica_time time, struct node_question *question)
{
    struct job_id id = {.kind = JOB_REBALANCE, .number = rangemap_identity(replica->map)->number};
    replica->topology.moves_ms = 0; /* What is due is looked for at once. */
    return tell_job(replica, jobs_begin(jobs, replica, time, &id), time, question, 202);
}

static enum admin_step tell_changed(struct jobs *jobs, struct replica *replica,
                                    struct replica_time time, struct node_question *question)
{
    struct job_id id = {.kind = JOB_DRAIN, .node = question->node};
    if (question->endpoint == NODE_ADMIN_REMOVE) id.kind = JOB_REMOVE;
    jobs_look(jobs, replica, time);
    if (question->endpoint == NODE_ADMIN_REBALANCE)
        return watch_moves(jobs, replica, time, question);
    return tell_job_of(jobs, replica, time, &id, question, 202);
}

static enum admin_step ask_for(struct jobs *jobs, struct replica *replica, struct replica_time time,
                               struct node_question *question)
{
    struct change change = change_of(replica, question);
    if (is_so(replica, &change)) return tell_changed(jobs, replica, time, question);
    if (!can_change(replica, question) || !is_allowed(replica, &change, question))
        return ADMIN_ENDED;
    if (propose_weight(replica, &change)) return ADMIN_WAITS;
    if (replica_change(replica, &change) || is_wished(replica, &change)) return ADMIN_WAITS;
    return refuse(question, PROBLEM_OVERLOADED,
                  "%u changes of the map are under way at this node already", REPLICA_WISHES_MAX);
}

/* --- Commands --- */

/* Whom the command is about. */
static bool find_node(const struct replica *replica, struct node_question *question,
                      struct member *member)
{
    question->node = question->params.node;
    if (question->node == 0 && question->endpoint == NODE_ADMIN_DRAIN)
        question->node = replica->self.id;
    if (question->node == 0) {
        refuse(question, PROBLEM_MISSING_FIELD, "node is missing: the id of the node that goes");
        return false;
    }
    if (rangemap_member_find(replica->map, question->node, member)) return true;
    refuse(question, PROBLEM_NOT_FOUND, "there is no node %u", question->node);
    return false;
}

static enum admin_step drain(struct jobs *jobs, struct replica *replica, struct replica_time time,
                             struct node_question *question)
{
    struct member member;
    if (!find_node(replica, question, &member)) return ADMIN_ENDED;
    if (member.state == MEMBER_EXCLUDED)
        return refuse(question, PROBLEM_CONFLICT, "node %u is being removed already", member.id);
    bool down = member.id != replica->self.id && replica_is_down(replica, member.id);
    if (down || member.state == MEMBER_SUSPENDED)
        return refuse(question, PROBLEM_CONFLICT,
                      "node %u is down and cannot hand over what it has: start it, or remove it",
                      member.id);
    return ask_for(jobs, replica, time, question);
}

static enum admin_step remove_node(struct jobs *jobs, struct replica *replica,
                                   struct replica_time time, struct node_question *question)
{
    struct member member;
    if (!find_node(replica, question, &member)) return ADMIN_ENDED;
    if (member.state == MEMBER_EXCLUDED) return ask_for(jobs, replica, time, question);
    if (member.id == replica->self.id)
        return refuse(question, PROBLEM_CONFLICT,
                      "a node cannot remove itself: drain it, or ask another one");
    if (!replica_is_down(replica, member.id) && !question->params.force)
        return refuse(question, PROBLEM_CONFLICT,
                      "node %u is up: drain it, and it hands over what it has; force=true removes "
                      "it all the same, for good",
                      member.id);
    return ask_for(jobs, replica, time, question);
}

/* Of two members one goes, and the other is there to take what it had. */
static enum admin_step replace(struct jobs *jobs, struct replica *replica, struct replica_time time,
                               struct node_question *question)
{
    struct member member, with;
    if (!find_node(replica, question, &member)) return ADMIN_ENDED;
    if (question->params.with == 0)
        return refuse(
            question, PROBLEM_MISSING_FIELD,
            "with is missing: the id of the node that takes its place, once it has joined");
    if (question->params.with == member.id)
        return refuse(question, PROBLEM_CONFLICT, "a node cannot take its own place");
    if (!rangemap_member_find(replica->map, question->params.with, &with))
        return refuse(question, PROBLEM_NOT_FOUND, "there is no node %u", question->params.with);
    bool there = with.id == replica->self.id || !replica_is_down(replica, with.id);
    if (!there || with.state != MEMBER_ACTIVE || with.leaving)
        return refuse(
            question, PROBLEM_CONFLICT,
            "node %u is down, leaves, or was removed: it cannot take the place of node %u", with.id,
            member.id);
    bool down = member.id != replica->self.id && replica_is_down(replica, member.id);
    bool hands_over = !down && member.state == MEMBER_ACTIVE;
    question->endpoint = hands_over ? NODE_ADMIN_DRAIN : NODE_ADMIN_REMOVE;
    return hands_over ? drain(jobs, replica, time, question)
                      : remove_node(jobs, replica, time, question);
}

static enum admin_step rebalance(struct jobs *jobs, struct replica *replica,
                                 struct replica_time time, struct node_question *question)
{
    struct member member;
    if ((question->params.node == 0) != (question->params.weight == 0))
        return refuse(question, PROBLEM_MISSING_FIELD,
                      "node and weight are given together, or neither");
    if (!can_change(replica, question)) return ADMIN_ENDED;
    if (question->params.weight == 0) return watch_moves(jobs, replica, time, question);
    if (!find_node(replica, question, &member)) return ADMIN_ENDED;
    return ask_for(jobs, replica, time, question);
}

static enum admin_step repair(struct jobs *jobs, struct replica *replica, struct replica_time time,
                              struct node_question *question)
{
    struct job_id id = {.kind = JOB_REPAIR, .node = replica->self.id};
    if (!replica_serves(replica)) {
        (void)can_change(replica, question);
        return ADMIN_ENDED;
    }
    for (size_t i = 0; i < jobs->count; i++) {
        const struct job *job = &jobs->list[i];
        if (job->id.kind == JOB_REPAIR && job->state == JOB_RUNNING)
            return tell_job(replica, job, time, question, 202);
    }
    id.number = ++jobs->repair_count;
    return tell_job(replica, jobs_begin(jobs, replica, time, &id), time, question, 202);
}

/* --- Recovery --- */

static bool is_lost(const struct node_question *question, node_id id)
{
    for (size_t i = 0; i < question->params.lost_count; i++)
        if (question->params.lost[i] == id) return true;
    return false;
}

/* Whether it is time for it: each of them is a member and down, and without them nothing goes on. */
static bool may_recover(const struct replica *replica, struct node_question *question)
{
    const node_id *ids;
    size_t count = rangemap_registrars(replica->map, &ids), lost = 0;
    for (size_t i = 0; i < question->params.lost_count; i++) {
        struct member member;
        node_id id = question->params.lost[i];
        if (!rangemap_member_find(replica->map, id, &member)) {
            refuse(question, PROBLEM_NOT_FOUND, "there is no node %u", id);
            return false;
        }
        bool down = member.state == MEMBER_EXCLUDED ||
                    (id != replica->self.id && replica_is_down(replica, id));
        if (!down) {
            refuse(question, PROBLEM_CONFLICT, "node %u is up: it is not lost", id);
            return false;
        }
    }
    for (size_t i = 0; i < count; i++) lost += is_lost(question, ids[i]);
    if (lost >= count - count / 2) return true;
    refuse(question, PROBLEM_CONFLICT,
           "%zu of %zu registrars would be lost, and the others suffice to go on: remove the nodes "
           "instead",
           lost, count);
    return false;
}

/* Ranges that none of those that stay owns. */
static size_t count_orphans(const struct replica *replica, const struct node_question *question)
{
    size_t count = 0;
    for (size_t i = 0; i < rangemap_shard_count(replica->map); i++) {
        struct shard shard = rangemap_shard(replica->map, i);
        const struct owners *owners = shard_read_owners(&shard);
        bool orphan = true;
        for (size_t j = 0; j < owners->count; j++)
            orphan = orphan && is_lost(question, owners->ids[j]);
        count += orphan;
    }
    return count;
}

static enum admin_step recover(struct jobs *jobs, struct replica *replica, struct replica_time time,
                               struct node_question *question)
{
    const char *why = NULL;
    if (question->params.lost_count == 0)
        return refuse(question, PROBLEM_MISSING_FIELD,
                      "lost is missing: the ids of the nodes that are lost for good");
    if (!may_recover(replica, question)) return ADMIN_ENDED;
    size_t orphans = count_orphans(replica, question);
    if (!question->params.force)
        return refuse(
            question, PROBLEM_CONFLICT,
            "recovery gives up %zu nodes and what they alone had acknowledged, and %zu of "
            "%zu ranges lose all owners and begin empty; force=true does it",
            question->params.lost_count, orphans, rangemap_shard_count(replica->map));
    enum status status =
        replica_recover(replica, time, question->params.lost, question->params.lost_count, &why);
    if (status != STATUS_OK)
        return refuse(question, PROBLEM_CONFLICT, "%s", why == NULL ? status_name(status) : why);
    jobs_look(jobs, replica, time);
    struct json_writer writer = json_writer_of(&question->entries);
    const struct rangemap_identity *identity = rangemap_identity(replica->map);
    json_write_object_begin(&writer);
    json_write_name(&writer, "generation");
    json_write_u64(&writer, identity->generation);
    json_write_name(&writer, "map");
    json_write_u64(&writer, identity->number);
    json_write_name(&writer, "ranges_lost");
    json_write_u64(&writer, orphans);
    json_write_object_end(&writer);
    return finish(question, 200);
}

/* --- Jobs --- */

static enum admin_step no_such_job(const struct replica *replica, struct node_question *question)
{
    const struct job_id *id = &question->job;
    if (id->kind == JOB_REPAIR && id->node != replica->self.id)
        return refuse(question, PROBLEM_NOT_FOUND,
                      "a repair is known at the node that was asked for it: node %u", id->node);
    return refuse(question, PROBLEM_NOT_FOUND, "there is no such job");
}

static enum admin_step cancel(struct jobs *jobs, struct replica *replica, struct replica_time time,
                              struct node_question *question)
{
    struct job *job = jobs_find(jobs, replica, time, &question->job);
    if (job == NULL) return no_such_job(replica, question);
    if (job->state != JOB_RUNNING)
        return refuse(question, PROBLEM_CONFLICT, "the job has ended: there is nothing to cancel");
    switch (job->id.kind) {
    case JOB_DRAIN:
        question->node = (node_id)job->id.node;
        return ask_for(jobs, replica, time, question);
    case JOB_REPAIR:
    case JOB_REBALANCE:
        jobs_end(job, time, JOB_CANCELLED,
                 job->id.kind == JOB_REPAIR
                     ? "what goes on by itself is not stopped by this"
                     : "nobody watches any more; placement goes on as the map asks for it");
        return tell_job(replica, job, time, question, 200);
    case JOB_REMOVE:
        return refuse(question, PROBLEM_CONFLICT,
                      "a node is removed for good; with an empty directory it may join anew");
    default:
        return refuse(question, PROBLEM_CONFLICT,
                      "a node that has joined is a member: drain it to take it out again");
    }
}

/* --- Steps --- */

enum admin_step admin_begin(struct jobs *jobs, struct replica *replica, struct replica_time time,
                            struct node_question *question)
{
    buf_clear(&question->entries);
    jobs_look(jobs, replica, time);
    switch (question->endpoint) {
    case NODE_ADMIN_DRAIN:
        return drain(jobs, replica, time, question);
    case NODE_ADMIN_REMOVE:
        return remove_node(jobs, replica, time, question);
    case NODE_ADMIN_REPLACE:
        return replace(jobs, replica, time, question);
    case NODE_ADMIN_REBALANCE:
        return rebalance(jobs, replica, time, question);
    case NODE_ADMIN_REPAIR:
        return repair(jobs, replica, time, question);
    case NODE_ADMIN_RECOVER:
        return recover(jobs, replica, time, question);
    case NODE_ADMIN_CANCEL:
        return cancel(jobs, replica, time, question);
    case NODE_ADMIN_JOB: {
        const struct job *job = jobs_find(jobs, replica, time, &question->job);
        if (job == NULL) return no_such_job(replica, question);
        return tell_job(replica, job, time, question, 200);
    }
    default:
        CHECK(question->endpoint == NODE_ADMIN_JOBS);
        jobs_write(jobs, replica, time, &question->entries);
        return finish(question, 200);
    }
}

enum admin_step admin_go_on(struct jobs *jobs, struct replica *replica, struct replica_time time,
                            struct node_question *question)
{
    struct change change = change_of(replica, question);
    if (is_so(replica, &change)) {
        if (question->endpoint != NODE_ADMIN_CANCEL)
            return tell_changed(jobs, replica, time, question);
        jobs_look(jobs, replica, time);
        return tell_job_of(jobs, replica, time, &question->job, question, 200);
    }
    if (can_change(replica, question) && is_allowed(replica, &change, question)) {
        /* Whoever asked for the same shared the wish, and withdrew it at its own deadline. */
        if (!propose_weight(replica, &change) && !is_wished(replica, &change))
            (void)replica_change(replica, &change);
        return ADMIN_WAITS;
    }
    withdraw(replica, &change);
    return ADMIN_ENDED;
}

void admin_give_up(struct replica *replica, struct node_question *question)
{
    struct change change = change_of(replica, question);
    withdraw(replica, &change);
    refuse(
        question, PROBLEM_TIMEOUT,
        "the registrars did not decide in time; whether the map will change is unknown, the jobs "
        "show it");
}

void admin_refuse_without(struct node_question *question)
{
    refuse(question, PROBLEM_NOT_READY,
           "the node takes no part in its cluster yet, or no more: /ready says why");
}
