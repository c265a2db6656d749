/* The node: turns requests into answers, over views of the store.
 *
 * Pure: it gets bytes, a view and the time, and appends bytes. The shell (or the simulator)
 * reads requests, submits the writes that come out of them, and sends what was appended.
 *
 *   node_route()     which endpoint a request is for, or the refusal
 *   node_read()      answers searches, counts, entries, health and figures at once
 *   node/batch.h     writes: collected, submitted by the shell, answered when durable
 *   node/import.h    a body of lines, streamed into batches
 *   node/export.h    an answer of lines, streamed
 *
 * Threads: one struct node_reader for each thread; struct node is read-only. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/heap.h"
#include "base/prng.h"
#include "cluster/request.h"
#include "core/fold.h"
#include "core/query.h"
#include "node/walks.h"
#include "proto/http_request.h"
#include "proto/http_response.h"
#include "proto/problem.h"
#include "store/store.h"

enum node_endpoint {
    NODE_SEARCH_PLAIN,
    NODE_SEARCH,
    NODE_COUNT,
    NODE_WORD_GET,
    NODE_WORD_SET,
    NODE_WORD_REMOVE,
    NODE_WORD_INCREMENT,
    NODE_IMPORT,
    NODE_EXPORT,
    NODE_NODES,
    NODE_NODE_RANGES,
    NODE_SEARCH_NODES,
    NODE_ADMIN_DRAIN,
    NODE_ADMIN_REMOVE,
    NODE_ADMIN_REPLACE,
    NODE_ADMIN_REBALANCE,
    NODE_ADMIN_REPAIR,
    NODE_ADMIN_RECOVER,
    NODE_ADMIN_JOBS,
    NODE_ADMIN_JOB,
    NODE_ADMIN_CANCEL,
    NODE_LIVE,
    NODE_READY,
    NODE_METRICS,
    NODE_STATS,
    NODE_OPENAPI,
    NODE_UNKNOWN, /* No such route, or not with this method. */
    NODE_ENDPOINT_COUNT,
};

enum { NODE_LATENCY_BUCKET_COUNT = 14 };

struct own_ranges; /* node/own_ranges.h */

/* Counted by one thread, read by any. */
struct node_counters {
    _Atomic uint64_t requests[NODE_ENDPOINT_COUNT];
    _Atomic uint64_t answers[6]; /* By the first digit of the status. */
    _Atomic uint64_t latency[NODE_ENDPOINT_COUNT][NODE_LATENCY_BUCKET_COUNT + 1];
    _Atomic uint64_t latency_us_sum[NODE_ENDPOINT_COUNT];
    _Atomic uint64_t cache_hits, cache_misses;
    _Atomic uint64_t walk_hits, walk_misses;
    _Atomic uint64_t reads_local, reads_coordinated; /* Of a member: see node_read_own(). */
    _Atomic uint64_t connections_opened, connections_closed;
    _Atomic uint64_t bytes_in, bytes_out;
};

/* Of a member of a cluster. */
struct node_cluster_facts {
    uint64_t node, map_number, members, ranges;
    uint64_t requests, hints, held; /* Now: under way, owed to peers, waiting for a sync. */
    uint64_t invalid, repair_sessions, repaired, hedged, restamped; /* Since the start. */
    uint64_t peers_connected, peers_sent_bytes, peers_received_bytes, peers_lost;
    uint64_t clock_skew_ms, stamps; /* See struct replica_stats. */
};

/* What the shell knows and the node shows. */
struct node_facts {
    struct store_stats store;
    const char *version;
    const char *damaged_file; /* NULL: none. */
    const char *job_name;     /* NULL: no job is under way. */
    bool in_cluster;
    struct node_cluster_facts cluster; /* If it is. */
    const char *not_ready; /* Why a member of a cluster serves nothing; NULL: it does. */
    bool draining;
    uint64_t uptime_s, memory_bytes, memory_limit_bytes, queue_count, connection_count;
    uint64_t sync_us_sum, sync_us_max;
    const struct node_counters *const *counters; /* Of all threads. */
    size_t counter_count;
};

struct node_reader {
    struct heap *heap;
    struct query_scratch *scratch;
    struct walks walks;
    uint64_t date_s; /* The second that `date` says. */
    struct buf decoded, prefix, key, word, body, headers, cursor, error;
    uint64_t (*elapsed_us)(void *context); /* Since the request was read; for `took_us`. */
    void *context;
    bool in_cluster;                /* X-Trifecta-Token is read; a node alone has none. */
    char date[HTTP_DATE_BYTES + 1]; /* The `Date` of answers; empty: they have none. */
    struct prng prng;               /* For ids of requests that bring none. */
    struct node_counters counters;
};

enum status node_reader_init(struct node_reader *reader, struct heap *heap, uint64_t seed);
void node_reader_deinit(struct node_reader *reader);

/* The routes one after the other, with {id} where something is to stand; false: there are no more. */
bool node_route_at(size_t index, struct slice *path, enum http_method *method);

/* The endpoint for path and method. */
enum node_endpoint node_route(const struct http_request *request);

/* Whether it is about how the cluster is run: docs/reference/http.md, "Administration". */
static inline bool node_is_admin(enum node_endpoint endpoint)
{
    return endpoint >= NODE_ADMIN_DRAIN && endpoint <= NODE_ADMIN_CANCEL;
}

/* What stands in the path of a request where its route has {id}; empty where it has none. */
struct slice node_path_id(const struct http_request *request);

/* Says what time it is, for `Date`. Cost: nothing within one second. */
void node_reader_set_time(struct node_reader *reader, uint64_t now_ms);

/* Answers a request whose endpoint is not a write, an import or an export; a refusal for
 * NODE_UNKNOWN. `facts` is needed by NODE_READY, NODE_METRICS and NODE_STATS alone; it may be
 * NULL for others. Appends to `out` and counts. */
void node_read(struct node_reader *reader, enum node_endpoint endpoint,
               const struct http_request *request, const struct view *view, uint64_t now_ms,
               const struct node_facts *facts, struct buf *out);

/* The same for a member of a cluster, of what it may answer by itself: `own` is what stood when `view` did.
 * False: nothing was appended, and the replica is to be asked (node/question.h): because the own view is not
 * enough, or because a file of it is damaged, which another node's is not. */
bool node_read_own(struct node_reader *reader, enum node_endpoint endpoint,
                   const struct http_request *request, const struct view *view, uint64_t now_ms,
                   const struct own_ranges *own, struct buf *out);

/* Whether node_read_own() is about the endpoint at all. */
bool node_may_read_own(enum node_endpoint endpoint);

/* --- For the files of this layer and the shell's own refusals --- */

enum { NODE_REQUEST_ID_BYTES_MAX = 64, NODE_TRACEPARENT_BYTES = 55 };

/* How to answer a request: what outlives it.
 *
 * X-Request-Id and traceparent (W3C Trace Context) come back as they came. A refusal always has
 * an id: that of the client, else the trace id of traceparent, else one made up. */
struct node_reply {
    uint8_t minor;
    bool keep_alive;
    bool head_only;
    bool has_traceparent;
    uint8_t request_id_size; /* 0: none. */
    char request_id[NODE_REQUEST_ID_BYTES_MAX];
    char traceparent[NODE_TRACEPARENT_BYTES];
};

struct node_reply node_reply_of(const struct http_request *request);

/* Whether an answer shows anything of the request's headers. */
bool node_echoes(const struct http_request *request);

/* The `Date` of an answer; NULL: it has none. */
static inline const char *node_date(const struct node_reader *reader)
{
    return reader->date[0] == '\0' ? NULL : reader->date;
}

/* Appends the headers that answer those of the request. */
void node_echo(const struct node_reply *reply, struct buf *headers);

/* Reads X-Trifecta-Token into `out`, appended; nothing where there is none, or no cluster.
 * Errors: STATUS_INVALID if it is none that a node gave; STATUS_NOMEM. */
enum status node_read_token(const struct node_reader *reader, const struct http_request *request,
                            struct buf *out);

/* What to say then. */
extern const char node_bad_token[];

/* Appends an answer with a body; a refusal is one with a problem as its body. */
void node_answer(struct node_reader *reader, const struct node_reply *reply, uint16_t status,
                 const char *content_type, struct slice body, struct buf *out);
/* The same, with a token to give back; empty: none. */
void node_answer_write(struct node_reader *reader, const struct node_reply *reply, uint16_t status,
                       struct slice body, struct slice token, struct buf *out);
void node_refuse(struct node_reader *reader, const struct node_reply *reply, enum problem_code code,
                 const char *detail, const char *field, struct buf *out);

/* A refusal that tells more: `members` as in struct problem. */
void node_refuse_with(struct node_reader *reader, const struct node_reply *reply,
                      enum problem_code code, const char *detail, struct slice members,
                      struct buf *out);

/* 404, or 405 when the path knows other methods. */
void node_refuse_route(struct node_reader *reader, const struct http_request *request,
                       struct buf *out);

/* Upper bound of a latency bucket; what is above the last goes into one more. */
uint64_t node_latency_bound_us(int bucket);

/* Counts an answered request. */
void node_count(struct node_reader *reader, enum node_endpoint endpoint, uint64_t took_us);

/* The problem that a failed status of the store is to a client. */
enum problem_code node_problem_of(enum status status);

/* The same for what a cluster did not do; `status` is that of REQUEST_REFUSED. */
enum problem_code node_problem_of_outcome(enum request_outcome outcome, enum status status);

/* The fold of a namespace. */
enum fold node_fold(struct slice name);
