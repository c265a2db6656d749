#include "node/figures.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "proto/json_write.h"
#include "proto/metrics_text.h"

/* --- Ready --- */

uint16_t figures_ready(const struct node_facts *facts, struct buf *body)
{
    const struct store_stats *store = &facts->store;
    bool ready = !facts->draining && !store->read_only && !store->damaged &&
                 facts->not_ready == NULL;

    buf_clear(body);
    struct json_writer writer = json_writer_of(body);
    json_write_object_begin(&writer);
    json_write_name(&writer, "status");
    json_write_text(&writer, ready ? "ready" : "not ready");
    json_write_name(&writer, "reasons");
    json_write_array_begin(&writer);
    if (facts->draining) json_write_text(&writer, "the server is stopping");
    if (facts->not_ready != NULL) json_write_text(&writer, facts->not_ready);
    if (store->read_only)
        json_write_text(&writer, "a write to the log failed: read-only until a restart");
    if (store->damaged)
        json_write_text(&writer, "a data file is damaged: words in it are not served");
    if (store->full) json_write_text(&writer, "the disk is nearly full: only deletions are taken");
    json_write_array_end(&writer);
    if (facts->damaged_file != NULL) {
        json_write_name(&writer, "damaged_file");
        json_write_text(&writer, facts->damaged_file);
    }
    json_write_object_end(&writer);
    return ready ? 200 : 503;
}

/* --- Figures, in one table for both forms --- */

enum figure_type { FIGURE_GAUGE, FIGURE_COUNTER };

struct figure {
    const char *name; /* The metric's, without the prefix and without `_total`. */
    const char *help;
    enum figure_type type;
    size_t offset; /* Of a uint64_t in struct node_facts. */
};

#define STORE_FIGURE(name, field, type, help)                                                      \
    {                                                                                              \
        name, help, type, offsetof(struct node_facts, store.field)                                 \
    }
#define NODE_FIGURE(name, field, type, help)                                                       \
    {                                                                                              \
        name, help, type, offsetof(struct node_facts, field)                                       \
    }

static const struct figure figures[] = {
    STORE_FIGURE("words", live_count, FIGURE_GAUGE, "Live words."),
    STORE_FIGURE("records", current_count, FIGURE_GAUGE, "Current records, deletions included."),
    STORE_FIGURE("tombstones", tombstone_count, FIGURE_GAUGE, "Records of deletions."),
    STORE_FIGURE("dead_records", dead_count, FIGURE_GAUGE,
                 "Records in files that newer ones replaced."),
    STORE_FIGURE("memtrie_records", memtrie_count, FIGURE_GAUGE, "Records in memory tries."),
    STORE_FIGURE("memtrie_bytes", memtrie_bytes, FIGURE_GAUGE, "Memory of memory tries."),
    STORE_FIGURE("overlay_bytes", overlay_bytes, FIGURE_GAUGE, "Memory of overlays."),
    STORE_FIGURE("job_noted_bytes", noted_bytes, FIGURE_GAUGE,
                 "Memory of the keys that the job under way has to take in."),
    STORE_FIGURE("files", run_count, FIGURE_GAUGE, "Packed tries on disk."),
    STORE_FIGURE("file_bytes", run_bytes, FIGURE_GAUGE, "Size of all packed tries."),
    STORE_FIGURE("log_replay_bytes", log_bytes, FIGURE_GAUGE, "Log to replay after a crash now."),
    STORE_FIGURE("disk_free_bytes", free_bytes, FIGURE_GAUGE, "Free space where the data lies."),
    STORE_FIGURE("view_number", view_number, FIGURE_GAUGE, "Number of the newest view."),
    STORE_FIGURE("sequence_durable", sequence_durable, FIGURE_GAUGE, "Newest durable log batch."),
    STORE_FIGURE("log_written_bytes", log_written_bytes, FIGURE_COUNTER, "Bytes put into the log."),
    STORE_FIGURE("file_written_bytes", run_written_bytes, FIGURE_COUNTER,
                 "Bytes written by flushes and compactions."),
    STORE_FIGURE("user_bytes", user_bytes, FIGURE_COUNTER,
                 "Bytes of keys, scores, versions stored."),
    STORE_FIGURE("writes", writes, FIGURE_COUNTER, "Writes resolved."),
    STORE_FIGURE("batches", batches, FIGURE_COUNTER, "Batches put into the log."),
    STORE_FIGURE("syncs", syncs, FIGURE_COUNTER, "Syncs of the log."),
    STORE_FIGURE("flushes", flushes, FIGURE_COUNTER, "Memory tries written to files."),
    STORE_FIGURE("compactions", compactions, FIGURE_COUNTER, "Merges of files."),
    STORE_FIGURE("scrubbed_pages", scrubbed_pages, FIGURE_COUNTER,
                 "Pages checked by the scrubber."),
    NODE_FIGURE("uptime_seconds", uptime_s, FIGURE_GAUGE, "Since the server started."),
    NODE_FIGURE("memory_bytes", memory_bytes, FIGURE_GAUGE, "Memory taken from the heap."),
    NODE_FIGURE("memory_limit_bytes", memory_limit_bytes, FIGURE_GAUGE,
                "Memory over which nothing new is begun."),
    NODE_FIGURE("write_queue", queue_count, FIGURE_GAUGE, "Submissions waiting for the writer."),
    NODE_FIGURE("connections", connection_count, FIGURE_GAUGE, "Open client connections."),
};

enum { FIGURE_COUNT = sizeof figures / sizeof *figures };

#define CLUSTER_FIGURE(name, field, type, help)                                                    \
    {                                                                                              \
        name, help, type, offsetof(struct node_facts, cluster.field)                               \
    }

static const struct figure cluster_figures[] = {
    CLUSTER_FIGURE("cluster_node", node, FIGURE_GAUGE, "Id of this node."),
    CLUSTER_FIGURE("cluster_map", map_number, FIGURE_GAUGE, "Number of the map it goes by."),
    CLUSTER_FIGURE("cluster_members", members, FIGURE_GAUGE, "Members by that map."),
    CLUSTER_FIGURE("cluster_ranges", ranges, FIGURE_GAUGE, "Ranges by that map."),
    CLUSTER_FIGURE("cluster_requests", requests, FIGURE_GAUGE, "Requests under way here."),
    CLUSTER_FIGURE("cluster_hints", hints, FIGURE_GAUGE, "Records owed to other nodes."),
    CLUSTER_FIGURE("cluster_held", held, FIGURE_GAUGE,
                   "Messages and replies that wait for a sync."),
    CLUSTER_FIGURE("cluster_invalid_messages", invalid, FIGURE_COUNTER,
                   "Messages of peers that broke a rule."),
    CLUSTER_FIGURE("cluster_repair_sessions", repair_sessions, FIGURE_COUNTER,
                   "Comparisons with other owners."),
    CLUSTER_FIGURE("cluster_repaired_records", repaired, FIGURE_COUNTER,
                   "Records sent to owners that a read found behind."),
    CLUSTER_FIGURE("cluster_hedged_reads", hedged, FIGURE_COUNTER,
                   "Questions asked of a second node because the first was late."),
    CLUSTER_FIGURE("cluster_restamped_writes", restamped, FIGURE_COUNTER,
                   "Writes that met something newer and were stamped again."),
    CLUSTER_FIGURE("clock_skew_ms", clock_skew_ms, FIGURE_GAUGE,
                   "How far the wall clock is from those of most peers."),
    CLUSTER_FIGURE("clock_stamps", stamps, FIGURE_GAUGE,
                   "1 while this node stamps versions; 0: its clock is wrong, others do."),
    CLUSTER_FIGURE("peers_connected", peers_connected, FIGURE_GAUGE, "Connections to other nodes."),
    CLUSTER_FIGURE("peers_sent_bytes", peers_sent_bytes, FIGURE_COUNTER, "Bytes sent to them."),
    CLUSTER_FIGURE("peers_received_bytes", peers_received_bytes, FIGURE_COUNTER,
                   "Bytes read from them."),
    CLUSTER_FIGURE("peers_lost_messages", peers_lost, FIGURE_COUNTER,
                   "Messages that found no connection or no room."),
};

enum { CLUSTER_FIGURE_COUNT = sizeof cluster_figures / sizeof *cluster_figures };

static uint64_t figure_value(const struct node_facts *facts, const struct figure *figure)
{
    uint64_t value;
    memcpy(&value, (const char *)facts + figure->offset, sizeof value);
    return value;
}

/* --- Sums over the threads --- */

static const char *const endpoint_names[NODE_ENDPOINT_COUNT] = {
    [NODE_SEARCH_PLAIN] = "search_plain",
    [NODE_SEARCH] = "search",
    [NODE_COUNT] = "count",
    [NODE_WORD_GET] = "get",
    [NODE_WORD_SET] = "set",
    [NODE_WORD_REMOVE] = "delete",
    [NODE_WORD_INCREMENT] = "increment",
    [NODE_IMPORT] = "import",
    [NODE_EXPORT] = "export",
    [NODE_NODES] = "nodes",
    [NODE_NODE_RANGES] = "node_ranges",
    [NODE_SEARCH_NODES] = "search_nodes",
    [NODE_ADMIN_DRAIN] = "admin_drain",
    [NODE_ADMIN_REMOVE] = "admin_remove",
    [NODE_ADMIN_REPLACE] = "admin_replace",
    [NODE_ADMIN_REBALANCE] = "admin_rebalance",
    [NODE_ADMIN_REPAIR] = "admin_repair",
    [NODE_ADMIN_RECOVER] = "admin_recover",
    [NODE_ADMIN_JOBS] = "admin_jobs",
    [NODE_ADMIN_JOB] = "admin_job",
    [NODE_ADMIN_CANCEL] = "admin_cancel",
    [NODE_LIVE] = "live",
    [NODE_READY] = "ready",
    [NODE_METRICS] = "metrics",
    [NODE_STATS] = "stats",
    [NODE_OPENAPI] = "openapi",
    [NODE_UNKNOWN] = "unknown",
};

/* The sum of one counter, given by its offset, over all threads. */
static uint64_t sum_of(const struct node_facts *facts, size_t offset)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < facts->counter_count; i++) {
        const char *counters = (const char *)facts->counters[i];
        sum += atomic_load_explicit((const _Atomic uint64_t *)(const void *)(counters + offset),
                                    memory_order_relaxed);
    }
    return sum;
}

#define COUNTER(field) offsetof(struct node_counters, field)

static size_t element(size_t offset, size_t index)
{
    return offset + index * sizeof(uint64_t);
}

static const struct {
    const char *name, *help;
    size_t offset;
} thread_counters[] = {
    {"cache_hits", "Searches answered from the answer cache.", COUNTER(cache_hits)},
    {"cache_misses", "Searches that the answer cache did not hold.", COUNTER(cache_misses)},
    {"walk_hits", "Pages by popularity after a cursor that were read ahead.", COUNTER(walk_hits)},
    {"walk_misses", "Pages by popularity after a cursor that were not.", COUNTER(walk_misses)},
    {"reads_local", "Reads of a member of a cluster that its own view answered.",
     COUNTER(reads_local)},
    {"reads_coordinated", "Reads that owners were asked, this node itself or others.",
     COUNTER(reads_coordinated)},
    {"connections_opened", "Client connections accepted.", COUNTER(connections_opened)},
    {"received_bytes", "Bytes read from clients.", COUNTER(bytes_in)},
    {"sent_bytes", "Bytes sent to clients.", COUNTER(bytes_out)},
};

enum { THREAD_COUNTER_COUNT = sizeof thread_counters / sizeof *thread_counters };

void figures_stats(const struct node_facts *facts, struct buf *body)
{
    buf_clear(body);
    struct json_writer writer = json_writer_of(body);
    json_write_object_begin(&writer);
    json_write_name(&writer, "version");
    json_write_text(&writer, facts->version);
    for (int i = 0; i < FIGURE_COUNT; i++) {
        json_write_name(&writer, figures[i].name);
        json_write_u64(&writer, figure_value(facts, &figures[i]));
    }
    for (int i = 0; facts->in_cluster && i < CLUSTER_FIGURE_COUNT; i++) {
        json_write_name(&writer, cluster_figures[i].name);
        json_write_u64(&writer, figure_value(facts, &cluster_figures[i]));
    }
    for (int i = 0; i < THREAD_COUNTER_COUNT; i++) {
        json_write_name(&writer, thread_counters[i].name);
        json_write_u64(&writer, sum_of(facts, thread_counters[i].offset));
    }
    json_write_name(&writer, "requests");
    json_write_object_begin(&writer);
    for (size_t i = 0; i < NODE_ENDPOINT_COUNT; i++) {
        json_write_name(&writer, endpoint_names[i]);
        json_write_u64(&writer, sum_of(facts, element(COUNTER(requests), i)));
    }
    json_write_object_end(&writer);
    json_write_name(&writer, "job");
    if (facts->job_name == NULL)
        json_write_null(&writer);
    else
        json_write_text(&writer, facts->job_name);
    json_write_name(&writer, "read_only");
    json_write_bool(&writer, facts->store.read_only);
    json_write_name(&writer, "disk_full");
    json_write_bool(&writer, facts->store.full);
    json_write_name(&writer, "damaged_file");
    if (facts->damaged_file == NULL)
        json_write_null(&writer);
    else
        json_write_text(&writer, facts->damaged_file);
    json_write_object_end(&writer);
}

/* --- Metrics --- */

#define METRIC_PREFIX "trifecta_"

static void write_table(const struct node_facts *facts, const struct figure *table, int count,
                        struct metrics_text *metrics)
{
    for (int i = 0; i < count; i++) {
        char name[64];
        snprintf(name, sizeof name, METRIC_PREFIX "%s", table[i].name);
        metrics_family(metrics, table[i].type == FIGURE_GAUGE ? METRIC_GAUGE : METRIC_COUNTER, name,
                       table[i].help);
        metrics_u64(metrics, NULL, 0, figure_value(facts, &table[i]));
    }
}

static void write_figures(const struct node_facts *facts, struct metrics_text *metrics)
{
    write_table(facts, figures, FIGURE_COUNT, metrics);
    if (facts->in_cluster) write_table(facts, cluster_figures, CLUSTER_FIGURE_COUNT, metrics);
    for (int i = 0; i < THREAD_COUNTER_COUNT; i++) {
        char name[64];
        snprintf(name, sizeof name, METRIC_PREFIX "%s", thread_counters[i].name);
        metrics_family(metrics, METRIC_COUNTER, name, thread_counters[i].help);
        metrics_u64(metrics, NULL, 0, sum_of(facts, thread_counters[i].offset));
    }
}

static void write_answers(const struct node_facts *facts, struct metrics_text *metrics)
{
    metrics_family(metrics, METRIC_COUNTER, METRIC_PREFIX "answers", "Answers by class of status.");
    for (size_t i = 2; i < 6; i++) {
        char text[4] = {(char)('0' + i), 'x', 'x'};
        struct metric_label label = {"class", slice_of(text, 3)};
        metrics_u64(metrics, &label, 1, sum_of(facts, element(COUNTER(answers), i)));
    }
}

static void write_latencies(const struct node_facts *facts, struct metrics_text *metrics)
{
    double bounds[NODE_LATENCY_BUCKET_COUNT];
    uint64_t counts[NODE_LATENCY_BUCKET_COUNT + 1];
    for (int i = 0; i < NODE_LATENCY_BUCKET_COUNT; i++)
        bounds[i] = (double)node_latency_bound_us(i) / 1e6;

    metrics_family(metrics, METRIC_HISTOGRAM, METRIC_PREFIX "request_duration_seconds",
                   "From the request's arrival to its answer.");
    for (size_t endpoint = 0; endpoint < NODE_ENDPOINT_COUNT; endpoint++) {
        size_t row = endpoint * (NODE_LATENCY_BUCKET_COUNT + 1);
        for (size_t i = 0; i <= NODE_LATENCY_BUCKET_COUNT; i++)
            counts[i] = sum_of(facts, element(COUNTER(latency), row + i));
        struct metric_label label = {"route", slice_from_text(endpoint_names[endpoint])};
        uint64_t sum_us = sum_of(facts, element(COUNTER(latency_us_sum), endpoint));
        metrics_histogram(metrics, &label, 1, bounds, NODE_LATENCY_BUCKET_COUNT, counts,
                          (double)sum_us / 1e6);
    }
}

static void write_info(const struct node_facts *facts, struct metrics_text *metrics)
{
    struct metric_label label = {"version", slice_from_text(facts->version)};
    metrics_family(metrics, METRIC_GAUGE, METRIC_PREFIX "build_info", "Always 1.");
    metrics_u64(metrics, &label, 1, 1);
    metrics_family(metrics, METRIC_COUNTER, METRIC_PREFIX "sync_seconds",
                   "Time spent making the log durable.");
    metrics_double(metrics, NULL, 0, (double)facts->sync_us_sum / 1e6);
    metrics_family(metrics, METRIC_GAUGE, METRIC_PREFIX "read_only",
                   "1: a write to the log failed, nothing is taken until a restart.");
    metrics_u64(metrics, NULL, 0, facts->store.read_only);
    metrics_family(metrics, METRIC_GAUGE, METRIC_PREFIX "damaged", "1: a data file is damaged.");
    metrics_u64(metrics, NULL, 0, facts->store.damaged);
}

static bool wants_open_metrics(const struct http_request *request)
{
    struct slice accept;
    if (!http_request_header(request, "accept", &accept)) return false;
    struct slice wanted = SLICE_LITERAL("application/openmetrics-text");
    return memmem(accept.data, accept.size, wanted.data, wanted.size) != NULL;
}

const char *figures_metrics(const struct node_facts *facts, const struct http_request *request,
                            struct buf *body)
{
    buf_clear(body);
    struct metrics_text metrics = {.out = body, .open_metrics = wants_open_metrics(request)};
    write_info(facts, &metrics);
    write_figures(facts, &metrics);
    write_answers(facts, &metrics);
    write_latencies(facts, &metrics);
    metrics_finish(&metrics);
    return metrics_content_type(metrics.open_metrics);
}
