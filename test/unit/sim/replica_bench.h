/* A few replicas over stores on simulated disks, and a network that does what the test says: each
 * message is delivered at once and in order, unless a direction is cut. */
#pragma once

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "cluster/data_message.h"
#include "cluster/outbox.h"
#include "cluster/rangemap_delta.h"
#include "cluster/topology_message.h"
#include "node/replica.h"
#include "sim/store_world.h"
#include "test.h"

enum {
    BENCH_NODES_MAX = 7,
    BENCH_REPLIES_MAX = 64,
    BENCH_ENTRIES_MAX = 64,
    BENCH_PROTOCOLS = 16,
};

struct bench_reply {
    bool there;
    struct request_reply reply;
    struct request_result results[BENCH_ENTRIES_MAX];
    char words[BENCH_ENTRIES_MAX][32]; /* Keys of the entries. */
    double scores[BENCH_ENTRIES_MAX];
    uint8_t token[256];
    size_t token_size;
};

struct bench_message {
    node_id from, to;
    size_t at, size;
};

struct bench_node {
    struct bench *bench;
    node_id id;
    struct store_world world;
    struct replica *replica; /* NULL: it is down. */
    unsigned start_count;
    bool frozen; /* Its disk does not get round to a sync. */
    struct trace trace;
};

struct bench {
    struct heap heap;
    struct rangemap *map;
    struct bench_node nodes[BENCH_NODES_MAX + 1]; /* By id. */
    node_id node_count;
    struct buf bytes, trace;
    struct bench_message queue[4096];
    size_t queue_first, queue_end;
    bool cut[BENCH_NODES_MAX + 1][BENCH_NODES_MAX + 1];
    bool mute[BENCH_NODES_MAX + 1][BENCH_PROTOCOLS]; /* What a node sends of a protocol is lost. */
    bool deaf[BENCH_NODES_MAX + 1][BENCH_PROTOCOLS]; /* What it would get. */
    uint64_t sent[BENCH_NODES_MAX + 1][BENCH_NODES_MAX + 1][BENCH_PROTOCOLS]; /* From, to. */
    bool mapless[BENCH_NODES_MAX + 1];                      /* Maps that it would get. */
    bool stalled[BENCH_NODES_MAX + 1][BENCH_NODES_MAX + 1]; /* Goes to `late`. */
    struct bench_message late[64];
    size_t late_count;
    struct buf late_bytes;
    struct bench_reply replies[BENCH_REPLIES_MAX];
    uint64_t now_ms, next_id, delivered;
    uint64_t halt_at; /* Nothing happens any more once so many were delivered; 0: never. */
    int64_t skew_ms[BENCH_NODES_MAX + 1]; /* Of the wall clocks. */
};

static inline struct rangemap_settings bench_settings(uint8_t factor, uint8_t write, uint8_t read)
{
    struct rangemap_settings settings = rangemap_settings_default;
    settings.replication_factor = factor;
    settings.write_quorum = write;
    settings.read_quorum = read;
    return settings;
}

static inline struct replica_time bench_time(const struct bench *bench, node_id id)
{
    return (struct replica_time){
        bench->now_ms, (uint64_t)((int64_t)(1000000 + bench->now_ms) + bench->skew_ms[id])};
}

static inline void bench_send(void *context, node_id to, struct slice bytes)
{
    struct bench_node *node = context;
    struct bench *bench = node->bench;
    uint8_t protocol = bytes.data[8]; /* Behind the time. */
    EXPECT(protocol < BENCH_PROTOCOLS);
    bench->sent[node->id][to][protocol]++;
    if (bench->cut[node->id][to] || bench->mute[node->id][protocol] || bench->deaf[to][protocol])
        return;
    if (bench->mapless[to] && protocol == PROTOCOL_TOPOLOGY && bytes.data[9] == TOPOLOGY_MAP)
        return;
    if (bench->stalled[node->id][to]) {
        EXPECT(bench->late_count < sizeof bench->late / sizeof *bench->late);
        bench->late[bench->late_count++] =
            (struct bench_message){node->id, to, bench->late_bytes.size, bytes.size};
        buf_append_slice(&bench->late_bytes, bytes);
        return;
    }
    EXPECT(bench->queue_end < sizeof bench->queue / sizeof *bench->queue);
    bench->queue[bench->queue_end++] =
        (struct bench_message){node->id, to, bench->bytes.size, bytes.size};
    buf_append_slice(&bench->bytes, bytes);
}

static inline void bench_take_reply(void *context, uint64_t id, const struct request_reply *reply)
{
    struct bench_node *node = context;
    struct bench_reply *kept = &node->bench->replies[id % BENCH_REPLIES_MAX];
    EXPECT(!kept->there);
    *kept = (struct bench_reply){.there = true, .reply = *reply};
    EXPECT(reply->entry_count <= BENCH_ENTRIES_MAX);
    EXPECT(reply->token.size <= sizeof kept->token);
    EXPECT(reply->result_count <= BENCH_ENTRIES_MAX);
    for (size_t i = 0; i < reply->result_count; i++) kept->results[i] = reply->results[i];
    kept->token_size = reply->token.size;
    if (reply->token.size > 0) memcpy(kept->token, reply->token.data, reply->token.size);
    for (size_t i = 0; i < reply->entry_count; i++) {
        struct slice key = reply->entries[i].key;
        EXPECT(key.size < sizeof kept->words[i]);
        memcpy(kept->words[i], key.data, key.size);
        kept->scores[i] = record_score(&reply->entries[i].record);
    }
}

static inline void bench_trace(void *context, const char *line)
{
    struct bench_node *node = context;
    buf_printf(&node->bench->trace, "[%4llu] n%u %s\n", (unsigned long long)node->bench->now_ms,
               node->id, line);
}

/* Jobs to their end, if there is anything to do. A job may sync on its way. */
static inline bool bench_work(struct bench_node *node)
{
    enum status status = store_world_job_step(&node->world);
    if (status != STATUS_OK && status != STATUS_PARTIAL) return false;
    while (status == STATUS_OK || status == STATUS_PARTIAL)
        status = store_world_job_step(&node->world);
    store_world_reclaim(&node->world);
    return true;
}

static inline bool bench_halted(const struct bench *bench)
{
    return bench->halt_at != 0 && bench->delivered >= bench->halt_at;
}

/* Everything that can happen now happens: syncs, jobs, messages. */
static inline void bench_settle(struct bench *bench)
{
    bool again = true;
    while (again) {
        again = false;
        for (node_id id = 1; id <= bench->node_count; id++) {
            struct bench_node *node = &bench->nodes[id];
            if (node->replica == NULL) continue;
            replica_commit(node->replica, bench_time(bench, id));
            if (node->frozen) continue;
            if (bench_work(node)) {
                replica_synced(node->replica, bench_time(bench, id));
                again = true;
            }
            struct log_sync sync;
            if (store_sync_begin(node->world.store, &sync) != STATUS_OK) continue;
            store_sync_complete(node->world.store, &sync, log_sync_run(&sync));
            replica_synced(node->replica, bench_time(bench, id));
            again = true;
        }
        while (bench->queue_first < bench->queue_end) {
            if (bench_halted(bench)) return;
            struct bench_message message = bench->queue[bench->queue_first++];
            struct bench_node *node = &bench->nodes[message.to];
            again = true;
            bench->delivered++;
            if (node->replica == NULL) continue;
            /* A copy at its end: what reads past it is found out. */
            uint8_t *copy = malloc(message.size);
            memcpy(copy, bench->bytes.data + message.at, message.size);
            replica_message(node->replica, bench_time(bench, message.to), message.from,
                            slice_of(copy, message.size));
            free(copy);
        }
        bench->queue_first = bench->queue_end = 0;
        buf_clear(&bench->bytes);
    }
}

/* Time goes on, in steps that no timer is missed by. */
static inline void bench_pass(struct bench *bench, uint64_t ms)
{
    for (uint64_t end = bench->now_ms + ms; bench->now_ms < end && !bench_halted(bench);) {
        bench->now_ms += 20;
        for (node_id id = 1; id <= bench->node_count; id++) {
            struct bench_node *node = &bench->nodes[id];
            if (node->replica == NULL) continue;
            node->world.now_ms = bench_time(bench, id).wall_ms;
            store_tick(node->world.store, node->world.now_ms);
            replica_tick(node->replica, bench_time(bench, id));
        }
        bench_settle(bench);
    }
}

static inline void bench_start(struct bench *bench, node_id id)
{
    struct bench_node *node = &bench->nodes[id];
    node->trace = (struct trace){.line = bench_trace, .context = node};
    struct replica_options options = {
        .heap = &node->world.heap,
        .store = node->world.store,
        .sink = {.send = bench_send, .reply = bench_take_reply, .context = node},
        .trace = &node->trace,
        .seed = test_seed + id,
        .self = {.id = id, .incarnation = 1000 + id},
        .map = bench->map,
        .founds = node->start_count++ == 0,
    };
    EXPECT(replica_create(&options, bench_time(bench, id), &node->replica) == STATUS_OK);
}

/* Kills the process; its disk keeps what `how` says. */
static inline void bench_kill(struct bench *bench, node_id id, enum sim_disk_restart how)
{
    struct bench_node *node = &bench->nodes[id];
    replica_destroy(node->replica);
    node->replica = NULL;
    store_world_close(&node->world);
    sim_disk_restart(node->world.disk, how);
}

static inline void bench_restart(struct bench *bench, node_id id)
{
    EXPECT(store_world_open(&bench->nodes[id].world) == STATUS_OK);
    bench_start(bench, id);
    bench_settle(bench);
}

static inline void bench_apply(struct bench *bench, struct buf *delta)
{
    struct rangemap *next;
    const char *why = "";
    enum status status = rangemap_apply(bench->map, buf_slice(delta), &why, &next);
    if (status != STATUS_OK) fprintf(stderr, "map: %s\n", why);
    EXPECT(status == STATUS_OK);
    rangemap_unref(bench->map);
    bench->map = next;
}

static inline void bench_change(struct bench *bench, const struct change *change)
{
    struct buf delta = {.heap = &bench->heap};
    rangemap_delta_begin(bench->map, &delta);
    rangemap_delta_add(&delta, change);
    bench_apply(bench, &delta);
    buf_deinit(&delta);
}

/* A map of `node_count` members; each shard, cut at the given keys, with `factor` owners in turn. */
static inline void bench_make_map(struct bench *bench, const struct rangemap_settings *settings,
                                  const char *const *cuts)
{
    struct member member = {.incarnation = 1001,
                            .capacity = 100,
                            .zone = SLICE_LITERAL("z"),
                            .address = SLICE_LITERAL("n1")};
    EXPECT(rangemap_create(&bench->heap, 7, settings, &member, &bench->map) == STATUS_OK);
    for (node_id id = 2; id <= bench->node_count; id++) {
        struct change add = {.kind = CHANGE_MEMBER_ADD, .member = member};
        add.member.id = id;
        add.member.incarnation = 1000 + id;
        bench_change(bench, &add);
    }
    for (; cuts != NULL && *cuts != NULL; cuts++)
        bench_change(bench, &(struct change){.kind = CHANGE_SPLIT, .low = slice_from_text(*cuts)});

    size_t count = rangemap_shard_count(bench->map);
    uint8_t factor = rangemap_effective_factor(bench->map);
    for (size_t i = 0; i < count; i++) {
        char low[64] = {0};
        struct slice at = rangemap_shard(bench->map, i).low;
        if (at.size > 0) memcpy(low, at.data, at.size);
        struct change change = {.kind = CHANGE_BEGIN, .low = slice_of(low, at.size)};
        bool owns[BENCH_NODES_MAX + 1] = {0};
        for (size_t j = 0; j < factor; j++) owns[1 + (i + j) % bench->node_count] = true;
        for (node_id id = 1; id <= bench->node_count; id++)
            if (owns[id]) change.next[change.next_count++] = id;
        struct owners now = rangemap_shard(bench->map, i).owners;
        bool is_so = now.count == change.next_count;
        for (size_t j = 0; j < change.next_count; j++)
            is_so = is_so && owners_contain(&now, change.next[j]);
        if (is_so) continue;
        bench_change(bench, &change);
        change = (struct change){.kind = CHANGE_SWITCH, .low = change.low};
        bench_change(bench, &change);
        change.kind = CHANGE_FINISH;
        bench_change(bench, &change);
    }
}

/* The map and the disks; the test may change the map before bench_start_all(). */
static inline struct bench *bench_prepare(node_id node_count,
                                          const struct rangemap_settings *settings,
                                          const char *const *cuts)
{
    struct bench *bench = calloc(1, sizeof *bench);
    heap_init(&bench->heap, 0);
    buf_init(&bench->bytes, &bench->heap);
    buf_init(&bench->trace, &bench->heap);
    buf_init(&bench->late_bytes, &bench->heap);
    bench->node_count = node_count;
    bench_make_map(bench, settings, cuts);
    for (node_id id = 1; id <= node_count; id++) {
        struct store_options options = store_world_options();
        options.publish_after_sync = true;
        options.keep_transfers = true;
        options.gc_age_ms = UINT64_MAX;
        bench->nodes[id].bench = bench;
        bench->nodes[id].id = id;
        EXPECT(store_world_init(&bench->nodes[id].world, test_seed + id, &options) == STATUS_OK);
    }
    return bench;
}

static inline void bench_start_all(struct bench *bench)
{
    for (node_id id = 1; id <= bench->node_count; id++) bench_start(bench, id);
    /* Until everybody knows what time it is. */
    bench_pass(bench, 2000);
}

static inline struct bench *bench_create(node_id node_count,
                                         const struct rangemap_settings *settings,
                                         const char *const *cuts)
{
    struct bench *bench = bench_prepare(node_count, settings, cuts);
    bench_start_all(bench);
    return bench;
}

static inline void bench_destroy(struct bench *bench)
{
    for (node_id id = 1; id <= bench->node_count; id++) {
        replica_destroy(bench->nodes[id].replica);
        store_world_deinit(&bench->nodes[id].world);
    }
    rangemap_unref(bench->map);
    buf_deinit(&bench->bytes);
    buf_deinit(&bench->trace);
    buf_deinit(&bench->late_bytes);
    EXPECT(heap_used_bytes(&bench->heap) == 0);
    free(bench);
}

/* One more node asks its way in, in place of another or not. */
static inline void bench_join_for(struct bench *bench, node_id contact, node_id replaces)
{
    node_id place = (node_id)(bench->node_count + 1);
    struct bench_node *node = &bench->nodes[place];
    struct store_options options = store_world_options();
    struct member member = {.incarnation = 1000 + place,
                            .capacity = 100,
                            .zone = SLICE_LITERAL("z"),
                            .address = SLICE_LITERAL("new")};
    struct buf ask = {.heap = &bench->heap}, answer = {.heap = &bench->heap};
    EXPECT(place <= BENCH_NODES_MAX);
    options.publish_after_sync = true;
    options.keep_transfers = true;
    options.gc_age_ms = UINT64_MAX;
    node->bench = bench;
    node->id = place;
    node->trace = (struct trace){.line = bench_trace, .context = node};
    EXPECT(store_world_init(&node->world, test_seed + place, &options) == STATUS_OK);
    replica_join_ask(&member, replaces, &ask);
    struct replica *at = bench->nodes[contact].replica;
    for (int turn = 0; turn < 100; turn++) {
        if (replica_join_answer(at, bench_time(bench, contact), buf_slice(&ask), &answer)) break;
        bench_pass(bench, 200);
    }
    struct rangemap *map;
    node_id id;
    EXPECT(replica_join_take(&node->world.heap, buf_slice(&answer), member.incarnation, &map,
                             &id) == STATUS_OK);
    EXPECT(id == place);
    struct replica_options join = {
        .heap = &node->world.heap,
        .store = node->world.store,
        .sink = {.send = bench_send, .reply = bench_take_reply, .context = node},
        .trace = &node->trace,
        .seed = test_seed + place,
        .self = {.id = id, .incarnation = member.incarnation},
        .map = map,
    };
    EXPECT(replica_create(&join, bench_time(bench, place), &node->replica) == STATUS_OK);
    rangemap_unref(map);
    buf_deinit(&ask);
    buf_deinit(&answer);
    bench->node_count = place;
    bench_settle(bench);
}

static inline void bench_join(struct bench *bench)
{
    bench_join_for(bench, 1 + (bench->node_count + 1) % bench->node_count, 0);
}

/* --- Requests --- */

static inline uint64_t bench_ask(struct bench *bench, node_id id, const struct request *request)
{
    uint64_t number = bench->next_id++;
    bench->replies[number % BENCH_REPLIES_MAX].there = false;
    replica_request(bench->nodes[id].replica, bench_time(bench, id), number, request);
    bench_settle(bench);
    return number;
}

/* NULL: no reply yet. */
static inline const struct bench_reply *bench_reply(const struct bench *bench, uint64_t number)
{
    const struct bench_reply *reply = &bench->replies[number % BENCH_REPLIES_MAX];
    return reply->there ? reply : NULL;
}

static inline const struct bench_reply *bench_do(struct bench *bench, node_id id,
                                                 const struct request *request)
{
    uint64_t number = bench_ask(bench, id, request);
    for (int turn = 0; turn < 300 && bench_reply(bench, number) == NULL; turn++)
        bench_pass(bench, 20);
    EXPECT(bench_reply(bench, number) != NULL);
    return bench_reply(bench, number);
}

static inline const struct bench_reply *bench_put(struct bench *bench, node_id id, const char *key,
                                                  double score)
{
    return bench_do(
        bench, id,
        &(struct request){.kind = REQUEST_SET, .key = slice_from_text(key), .score = score});
}

static inline const struct bench_reply *bench_get(struct bench *bench, node_id id, const char *key,
                                                  enum consistency consistency)
{
    return bench_do(bench, id,
                    &(struct request){.kind = REQUEST_GET,
                                      .key = slice_from_text(key),
                                      .has_consistency = true,
                                      .consistency = consistency});
}

static inline struct replica_stats bench_stats(const struct bench *bench, node_id id)
{
    struct replica_stats stats;
    replica_stats(bench->nodes[id].replica, &stats);
    return stats;
}

/* What a node's own store shows of a key: its score, or -1. */
static inline double bench_peek(const struct bench *bench, node_id id, const char *key)
{
    struct query query = store_world_query(&bench->nodes[id].world);
    struct query_hit hit;
    enum status status = query_get(&query, slice_from_text(key), &hit);
    return status == STATUS_OK && hit.live ? record_score(&hit.record) : -1;
}

/* --- Messages --- */

/* A message that a test made, under the map that the receiver has, or as much newer as it says. */
static inline void bench_hear(struct bench *bench, node_id from, node_id to,
                              struct data_message *message)
{
    struct buf bytes = {.heap = &bench->heap};
    const struct rangemap_identity *map = rangemap_identity(replica_map(bench->nodes[to].replica));
    message->generation += map->generation;
    message->map_number += map->number;
    buf_append_u64le(&bytes, bench_time(bench, from).wall_ms);
    buf_append_u8(&bytes, PROTOCOL_DATA);
    data_message_encode(message, &bytes);
    replica_message(bench->nodes[to].replica, bench_time(bench, to), from, buf_slice(&bytes));
    buf_deinit(&bytes);
}

static inline void bench_tell(struct bench *bench, node_id from, node_id to,
                              struct data_message *message)
{
    bench_hear(bench, from, to, message);
    bench_settle(bench);
}
