#include "node/jobs.h"

#include <stdio.h>

#include "base/check.h"
#include "base/math.h"
#include "cluster/placement.h"
#include "node/params.h"
#include "node/replica_private.h"
#include "proto/json_write.h"

/* --- Ids --- */

static const char *const kind_names[JOB_KINDS] = {
    [JOB_DRAIN] = "drain",         [JOB_REMOVE] = "remove", [JOB_JOIN] = "join",
    [JOB_REBALANCE] = "rebalance", [JOB_REPAIR] = "repair",
};

static bool read_number(struct slice text, uint64_t *out)
{
    uint64_t number = 0;
    if (text.size == 0 || text.size > 18 || text.data[0] == '0') return false;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') return false;
        number = number * 10 + (text.data[i] - '0');
    }
    *out = number;
    return true;
}

/* What stands behind the kind: a node, a number, or both. */
static bool read_rest(struct slice rest, struct job_id *id)
{
    node_id node;
    if (id->kind == JOB_REBALANCE) return read_number(rest, &id->number);
    const uint8_t *dash = memchr(rest.data, '-', rest.size);
    size_t size = dash == NULL ? rest.size : (size_t)(dash - rest.data);
    if ((dash != NULL) != (id->kind == JOB_REPAIR) || rest.size == 0 || rest.data[0] == '0')
        return false;
    if (!node_id_read(slice_prefix(rest, size), &node)) return false;
    id->node = node;
    return dash == NULL || read_number(slice_from(rest, size + 1), &id->number);
}

bool job_id_read(struct slice text, struct job_id *out)
{
    for (int kind = 0; kind < JOB_KINDS; kind++) {
        struct slice name = slice_from_text(kind_names[kind]);
        if (!slice_starts_with(text, name) || text.size < name.size + 2) continue;
        if (text.data[name.size] != '-') continue;
        struct job_id id = {.kind = (enum job_kind)kind};
        if (!read_rest(slice_from(text, name.size + 1), &id)) return false;
        *out = id;
        return true;
    }
    return false;
}

void job_id_write(const struct job_id *id, char out[JOB_ID_BYTES_MAX])
{
    const char *name = kind_names[id->kind];
    unsigned long long number = id->number;
    if (id->kind == JOB_REBALANCE)
        snprintf(out, JOB_ID_BYTES_MAX, "%s-%llu", name, number);
    else if (id->kind == JOB_REPAIR)
        snprintf(out, JOB_ID_BYTES_MAX, "%s-%u-%llu", name, id->node, number);
    else
        snprintf(out, JOB_ID_BYTES_MAX, "%s-%u", name, id->node);
}

static bool same_id(const struct job_id *a, const struct job_id *b)
{
    return a->kind == b->kind && a->node == b->node && a->number == b->number;
}

/* --- What the map says --- */

static uint64_t count_owned(const struct replica *replica, node_id id)
{
    uint64_t count = 0;
    for (size_t i = 0; i < rangemap_shard_count(replica->map); i++) {
        struct shard shard = rangemap_shard(replica->map, i);
        count += owners_contain(&shard.owners, id) || owners_contain(&shard.next, id);
    }
    return count;
}

static uint64_t count_coming(const struct replica *replica, node_id id)
{
    uint64_t count = 0;
    for (size_t i = 0; i < replica->shares.moving.count; i++) {
        struct shard shard = rangemap_shard(replica->map, replica->shares.moving.at[i]);
        count += owners_contain(&shard.next, id) && !owners_contain(&shard.owners, id);
    }
    return count;
}

/* Moves that placement would begin now, of all, or, `to`, to one node. Without memory: some. */
static uint64_t count_planned(const struct replica *replica, node_id to)
{
    struct placement_move *plan = heap_alloc(replica->heap, JOBS_PLAN_MAX * sizeof *plan);
    struct placement_bounds bounds = {.moves_max = JOBS_PLAN_MAX};
    size_t shards = rangemap_shard_count(replica->map), count = 0, found = 0;
    struct shard_weight *weights = heap_alloc(replica->heap, shards * sizeof *weights);
    enum status status = plan == NULL || weights == NULL ? STATUS_NOMEM : STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < shards; i++)
        weights[i] = (struct shard_weight){1, 0};
    if (status == STATUS_OK)
        status = placement_plan(replica->map, weights, &bounds, replica->heap, plan, &count);
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        struct shard shard = rangemap_shard(replica->map, plan[i].shard);
        bool comes = to == 0;
        for (size_t j = 0; j < plan[i].next_count; j++)
            comes = comes || (plan[i].next[j] == to && !owners_contain(&shard.owners, to));
        found += comes;
    }
    heap_free(replica->heap, weights);
    heap_free(replica->heap, plan);
    return status == STATUS_OK ? found : 1;
}

static uint64_t count_moves(const struct replica *replica, node_id to)
{
    uint64_t moving = to == 0 ? replica->shares.moving.count : count_coming(replica, to);
    bool looks = replica->shares.moving.count == 0 ||
                 rangemap_shard_count(replica->map) <= JOBS_PLAN_SHARDS_MAX;
    return looks ? moving + count_planned(replica, to) : u64_max(moving, 1);
}

static void set_left(struct job *job, uint64_t left)
{
    job->left = left;
    job->total = u64_max(job->total, left);
}

static void look_at_departure(struct job *job, const struct replica *replica,
                              struct replica_time time)
{
    struct member member;
    node_id id = (node_id)job->id.node;
    bool drain = job->id.kind == JOB_DRAIN;
    if (!rangemap_member_find(replica->map, id, &member)) {
        job->left = 0;
        jobs_end(job, time, JOB_DONE, NULL);
        return;
    }
    set_left(job, count_owned(replica, id));
    if (drain && member.state == MEMBER_EXCLUDED)
        jobs_end(job, time, JOB_FAILED, "the node was removed before it had handed over all");
    else if (drain && !member.leaving)
        jobs_end(job, time, JOB_CANCELLED, "the node stays");
}

static void look_at_join(struct job *job, const struct replica *replica, struct replica_time time)
{
    struct member member;
    node_id id = (node_id)job->id.node;
    if (!rangemap_member_find(replica->map, id, &member) || member.leaving ||
        member.state == MEMBER_EXCLUDED) {
        jobs_end(job, time, JOB_FAILED, "the node leaves, or was removed");
        return;
    }
    job->left = count_moves(replica, id);
    job->total = u64_max(job->total, job->left + count_owned(replica, id));
    /* While others move, what is to come here may not be wanted yet. */
    if (job->left == 0 && replica->shares.moving.count == 0) jobs_end(job, time, JOB_DONE, NULL);
}

static void look_at_moves(struct job *job, const struct replica *replica, struct replica_time time)
{
    set_left(job, count_moves(replica, 0));
    if (job->left == 0) jobs_end(job, time, JOB_DONE, NULL);
}

static void look_at(struct job *job, const struct replica *replica, struct replica_time time)
{
    switch (job->id.kind) {
    case JOB_DRAIN:
    case JOB_REMOVE:
        look_at_departure(job, replica, time);
        break;
    case JOB_JOIN:
        look_at_join(job, replica, time);
        break;
    case JOB_REBALANCE:
        look_at_moves(job, replica, time);
        break;
    case JOB_REPAIR:
    case JOB_KINDS:
        break;
    }
}

/* --- The list --- */

void jobs_end(struct job *job, struct replica_time time, enum job_state state, const char *reason)
{
    job->state = state;
    job->reason = reason;
    job->ended_ms = time.now_ms;
}

static struct job *find(struct jobs *jobs, const struct job_id *id)
{
    for (size_t i = 0; i < jobs->count; i++)
        if (same_id(&jobs->list[i].id, id)) return &jobs->list[i];
    return NULL;
}

/* In the place of the one that has ended first, if there has to be one. */
static struct job *make_room(struct jobs *jobs)
{
    struct job *oldest = NULL;
    if (jobs->count < JOBS_MAX) return &jobs->list[jobs->count++];
    for (size_t i = 0; i < jobs->count; i++) {
        struct job *job = &jobs->list[i];
        if (job->state == JOB_RUNNING) continue;
        if (oldest == NULL || job->ended_ms < oldest->ended_ms) oldest = job;
    }
    return oldest;
}

struct job *jobs_begin(struct jobs *jobs, struct replica *replica, struct replica_time time,
                       const struct job_id *id)
{
    struct job *job = find(jobs, id);
    if (job == NULL) job = make_room(jobs);
    if (job == NULL) return NULL;
    *job = (struct job){.id = *id, .state = JOB_RUNNING, .began_ms = time.now_ms};
    if (id->kind == JOB_REPAIR) set_left(job, replica->shares.peer_count);
    look_at(job, replica, time);
    return job;
}

static void ensure(struct jobs *jobs, struct replica *replica, struct replica_time time,
                   enum job_kind kind, node_id node)
{
    struct job_id id = {.kind = kind, .node = node};
    struct job *job = find(jobs, &id);
    if (job == NULL || job->state != JOB_RUNNING) (void)jobs_begin(jobs, replica, time, &id);
}

struct job *jobs_find(struct jobs *jobs, struct replica *replica, struct replica_time time,
                      const struct job_id *id)
{
    struct member member;
    struct job *job = find(jobs, id);
    if (job != NULL) return job;
    bool was = id->node < rangemap_next_id(replica->map);
    bool is = was && rangemap_member_find(replica->map, (node_id)id->node, &member);
    bool tells = (id->kind == JOB_DRAIN || id->kind == JOB_REMOVE) && was && !is;
    if (id->kind == JOB_JOIN) tells = is;
    if (id->kind == JOB_REBALANCE) tells = id->number <= rangemap_identity(replica->map)->number;
    return tells ? jobs_begin(jobs, replica, time, id) : NULL;
}

/* --- Repair --- */

static const struct repair_session *session_with(const struct replica *replica, node_id peer)
{
    for (size_t i = 0; i < REPAIR_SESSIONS_MAX; i++)
        if (replica->repair.sessions[i].peer == peer) return &replica->repair.sessions[i];
    return NULL;
}

/* The next one after the last. */
static node_id next_peer(const struct job *job, const struct replica *replica)
{
    for (size_t i = 0; i < replica->shares.peer_count; i++)
        if (replica->shares.peers[i] > job->peer) return replica->shares.peers[i];
    return 0;
}

static void count_left(struct job *job, const struct replica *replica)
{
    uint64_t left = 0;
    for (size_t i = 0; i < replica->shares.peer_count; i++)
        left += replica->shares.peers[i] > job->peer;
    set_left(job, left);
}

/* The comparison that is under way was this job's; or, where the peer drives one, the next is. */
static void begin_session(struct job *job, struct replica *replica, node_id peer)
{
    replica_repair_begin(replica, peer);
    replica_take_outbox(replica);
    const struct repair_session *session = session_with(replica, peer);
    if (session == NULL) return; /* The peer compares with us, or there is no room: again later. */
    job->session = session->number;
    job->given_up = replica->repair.counts.given_up_count;
}

static void go_on_repairing(struct job *job, struct replica *replica, struct replica_time time)
{
    node_id peer = next_peer(job, replica);
    if (peer == 0) {
        count_left(job, replica);
        jobs_end(job, time, job->skipped ? JOB_FAILED : JOB_DONE,
                 job->skipped ? "a node was down; it is compared with when it is back" : NULL);
        return;
    }
    if (replica_is_down(replica, peer)) {
        job->skipped = true;
        job->peer = peer;
        job->session = 0;
    } else if (job->session == 0) {
        begin_session(job, replica, peer);
    } else {
        const struct repair_session *session = session_with(replica, peer);
        if (session != NULL && session->number == job->session) return;
        /* It is over; where any was given up meanwhile it may have been this one. */
        if (job->given_up == replica->repair.counts.given_up_count) job->peer = peer;
        job->session = 0;
    }
    count_left(job, replica);
}

/* --- Looking --- */

static void see_members(struct jobs *jobs, struct replica *replica, struct replica_time time)
{
    const struct rangemap *map = replica->map;
    for (size_t i = 0; i < rangemap_member_count(map); i++) {
        struct member member = rangemap_member(map, i);
        if (member.state == MEMBER_EXCLUDED)
            ensure(jobs, replica, time, JOB_REMOVE, member.id);
        else if (member.leaving)
            ensure(jobs, replica, time, JOB_DRAIN, member.id);
        else if (jobs->next_id != 0 && member.id >= jobs->next_id)
            ensure(jobs, replica, time, JOB_JOIN, member.id);
    }
    jobs->next_id = rangemap_next_id(map);
}

void jobs_look(struct jobs *jobs, struct replica *replica, struct replica_time time)
{
    const struct rangemap_identity *identity = rangemap_identity(replica->map);
    bool changed = jobs->map != identity->number || jobs->generation != identity->generation;
    jobs->map = identity->number;
    jobs->generation = identity->generation;
    if (changed) see_members(jobs, replica, time);
    for (size_t i = 0; i < jobs->count; i++) {
        struct job *job = &jobs->list[i];
        if (job->state != JOB_RUNNING) continue;
        if (job->id.kind == JOB_REPAIR)
            go_on_repairing(job, replica, time);
        else if (changed)
            look_at(job, replica, time);
    }
}

/* --- Telling --- */

/* At the pace so far. */
static void write_eta(struct json_writer *writer, const struct job *job, uint64_t elapsed_ms)
{
    uint64_t done = job->total - job->left;
    if (job->state != JOB_RUNNING || done == 0) return;
    json_write_named_u64(writer, "eta_ms", elapsed_ms * job->left / done);
}

/* What fewer nodes mean for those that stay. */
static void write_warning(struct json_writer *writer, const struct replica *replica)
{
    char text[120];
    unsigned factor = rangemap_settings(replica->map)->replication_factor;
    unsigned effective = rangemap_effective_factor(replica->map);
    if (effective >= factor) return;
    snprintf(text, sizeof text,
             "there are nodes for %u of the %u copies that replication_factor asks for", effective,
             factor);
    json_write_named_text(writer, "warning", text);
}

static void write_job(const struct replica *replica, const struct job *job,
                      struct replica_time time, struct json_writer *writer)
{
    static const char *const states[] = {[JOB_RUNNING] = "running",
                                         [JOB_DONE] = "done",
                                         [JOB_CANCELLED] = "cancelled",
                                         [JOB_FAILED] = "failed"};
    char id[JOB_ID_BYTES_MAX];
    uint64_t end_ms = job->state == JOB_RUNNING ? time.now_ms : job->ended_ms;
    uint64_t elapsed_ms = end_ms - u64_min(end_ms, job->began_ms);
    double progress = job->total == 0 ? 0 : (double)(job->total - job->left) / (double)job->total;
    job_id_write(&job->id, id);
    json_write_object_begin(writer);
    json_write_named_text(writer, "id", id);
    json_write_named_text(writer, "kind", kind_names[job->id.kind]);
    if (job->id.node != 0) json_write_named_u64(writer, "node", job->id.node);
    json_write_named_text(writer, "state", states[job->state]);
    json_write_named_u64(writer, "done", job->total - job->left);
    json_write_named_u64(writer, "total", job->total);
    json_write_named_text(writer, "unit", job->id.kind == JOB_REPAIR ? "nodes" : "ranges");
    json_write_name(writer, "progress");
    json_write_double(writer, job->state == JOB_DONE ? 1 : progress);
    json_write_named_u64(writer, "elapsed_ms", elapsed_ms);
    write_eta(writer, job, elapsed_ms);
    if (job->reason != NULL) json_write_named_text(writer, "reason", job->reason);
    if (job->id.kind == JOB_DRAIN || job->id.kind == JOB_REMOVE) write_warning(writer, replica);
    json_write_object_end(writer);
}

void job_write(const struct replica *replica, const struct job *job, struct replica_time time,
               struct buf *out)
{
    struct json_writer writer = json_writer_of(out);
    write_job(replica, job, time, &writer);
}

static bool comes_before(const struct job *a, const struct job *b)
{
    if ((a->state == JOB_RUNNING) != (b->state == JOB_RUNNING)) return a->state == JOB_RUNNING;
    return a->began_ms > b->began_ms;
}

void jobs_write(const struct jobs *jobs, const struct replica *replica, struct replica_time time,
                struct buf *out)
{
    const struct job *order[JOBS_MAX];
    struct json_writer writer = json_writer_of(out);
    for (size_t i = 0; i < jobs->count; i++) {
        size_t at = i;
        for (; at > 0 && comes_before(&jobs->list[i], order[at - 1]); at--)
            order[at] = order[at - 1];
        order[at] = &jobs->list[i];
    }
    json_write_object_begin(&writer);
    json_write_name(&writer, "jobs");
    json_write_array_begin(&writer);
    for (size_t i = 0; i < jobs->count; i++) write_job(replica, order[i], time, &writer);
    json_write_array_end(&writer);
    json_write_object_end(&writer);
}
