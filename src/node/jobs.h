/* Jobs of administration: what takes its time in a cluster, and how far it is.
 *
 *     kind        is under way while                               ends
 *     drain       the map says that the member leaves              it is no member any more; cancelled: it stays
 *     remove      the map says that the member is excluded         it is no member any more
 *     join        a member that is new gets its share              nothing more is to come to it
 *     rebalance   ranges move, or placement wants them to          neither
 *     repair      this node compares what it has with its peers    each of them was compared with
 *
 * The map is the truth of all but the last: what it says goes on by itself over restarts of any node,
 * and each node can tell of it. What a node adds is only what it has seen: since when, how much
 * there was then, how it ended. A node that has started, or was asked for the first time, counts from there;
 * of a job that it did not see it knows from the map alone whether it is done. A repair is of the node that
 * was asked for it, and ends with its process. docs/design/host.md, "Administration".
 *
 * Threads: the replica's. Cost: of a look, nothing while the map stays and no repair is under way; else
 * O(shards) for each job under way. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "node/replica.h"

enum {
    JOBS_MAX = 64,       /* Kept; the oldest that has ended goes for a new one. */
    JOBS_PLAN_MAX = 256, /* Moves that a look counts before they are begun. */
    JOBS_PLAN_SHARDS_MAX =
        4096, /* With more, what placement wants is looked at when nothing moves. */
    JOB_ID_BYTES_MAX = 40,
};

enum job_kind { JOB_DRAIN, JOB_REMOVE, JOB_JOIN, JOB_REBALANCE, JOB_REPAIR, JOB_KINDS };

enum job_state { JOB_RUNNING, JOB_DONE, JOB_CANCELLED, JOB_FAILED };

/* `drain-3`, `remove-3`, `join-3` of node 3; `rebalance-17`, begun under map 17; `repair-3-1` of node 3's, its
 * first. */
struct job_id {
    enum job_kind kind;
    uint32_t node;   /* 0 of a rebalance. */
    uint64_t number; /* 0 of those that a node has one of. */
};

struct job {
    struct job_id id;
    enum job_state state;
    const char *reason; /* Why it is not under way any more, or what to know; NULL: nothing. */
    uint64_t began_ms, ended_ms; /* As this node saw it. */
    uint64_t total, left;        /* Ranges; of a repair peers. */

    /* Of a repair. */
    node_id peer;      /* Compared with now, or last; 0: none. */
    uint64_t session;  /* Its number; 0: it has to be begun. */
    uint64_t given_up; /* Sessions of this node that were, when it began. */
    bool skipped;      /* A peer that was down. */
};

struct jobs {
    struct job list[JOBS_MAX];
    size_t count;
    uint64_t generation, map; /* Looked at last. */
    uint32_t next_id;         /* Members from this one on are new. 0: none was looked at. */
    uint64_t repair_count;
};

/* False: the text is no id of a job. */
bool job_id_read(struct slice text, struct job_id *out);
void job_id_write(const struct job_id *id, char out[JOB_ID_BYTES_MAX]);

/* Sees what has become of the jobs, and which there are. After each turn of the replica. */
void jobs_look(struct jobs *jobs, struct replica *replica, struct replica_time time);

/* The job, or what the map tells of one that was not seen; NULL: there is none. Until the next call. */
struct job *jobs_find(struct jobs *jobs, struct replica *replica, struct replica_time time,
                      const struct job_id *id);

/* A new one, begun now. NULL: so many are under way. */
struct job *jobs_begin(struct jobs *jobs, struct replica *replica, struct replica_time time,
                       const struct job_id *id);

/* Ends one that is under way. */
void jobs_end(struct job *job, struct replica_time time, enum job_state state, const char *reason);

/* Appends a job as JSON. */
void job_write(const struct replica *replica, const struct job *job, struct replica_time time,
               struct buf *out);

/* Appends {"jobs":[…]}, those under way first, else the latest first. */
void jobs_write(const struct jobs *jobs, const struct replica *replica, struct replica_time time,
                struct buf *out);
