/* The server: an engine, and loops that answer HTTP from it. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/status.h"
#include "node/cross_site.h"
#include "node/node.h"
#include "proto/http_request.h"
#include "shell/engine.h"
#include "shell/host.h"

enum {
    SERVER_LOOP_COUNT_MAX = 64,
    SERVER_DRAIN_MS = 5000, /* What is under way may come to its end. */
    SERVER_CUT_MS = 2000,   /* And then be answered, as far as it came. */
    SERVER_IMPORT_BYTES = 2 << 20,
};

/* What may change while it runs. */
struct server_limits {
    struct http_limits http;
    uint64_t body_bytes_max;
    uint64_t connection_count_max;
    uint64_t idle_timeout_ms, request_timeout_ms;
};

struct server_options {
    const char *host;
    uint16_t port; /* 0: any free one. */
    unsigned loop_count;
    struct server_limits limits; /* To begin with. */
    struct cross_site_rules cross_site;
    const char *version;
    bool answer_cache;

    /* Over so much memory of the whole heap nothing new is begun; 0: no limit. */
    uint64_t memory_limit_bytes;

    struct host *cluster; /* NULL: the node is alone, and answers from its own view. */
};

struct loop;

struct server {
    struct heap *heap;
    struct server_options options;
    struct engine *engine;
    struct loop *loops;
    unsigned loop_count;
    uint16_t port; /* As bound. */
    uint64_t started_us;
    atomic_bool draining;
    _Atomic uint64_t connection_count;
    _Atomic uint64_t import_count;
};

/* Whether the memory limit is reached: what is under way goes on, one import a loop at a
 * time, and what would be new is refused. (any thread) */
static inline bool server_is_over(const struct server *server)
{
    uint64_t limit_bytes = server->options.memory_limit_bytes;
    return limit_bytes != 0 && heap_used_bytes(server->heap) >= limit_bytes;
}

/* Beyond this not even those are heard who only want to know how the node is. (any thread) */
static inline bool server_is_far_over(const struct server *server)
{
    uint64_t limit_bytes = server->options.memory_limit_bytes;
    return limit_bytes != 0 && heap_used_bytes(server->heap) >= limit_bytes + limit_bytes / 8;
}

/* How many imports may be under way at once: each takes about SERVER_IMPORT_BYTES, all of
 * them a quarter of the memory. */
static inline uint64_t server_import_count_max(const struct server *server)
{
    uint64_t limit_bytes = server->options.memory_limit_bytes;
    return limit_bytes == 0 ? UINT64_MAX : 4 + limit_bytes / 4 / SERVER_IMPORT_BYTES;
}

/* Listens and answers until server_stop().
 * Errors: STATUS_EXISTS (the address is in use), STATUS_DENIED, STATUS_INVALID (not an
 * address), STATUS_IO, STATUS_NOMEM. */
enum status server_start(struct heap *heap, struct engine *engine,
                         const struct server_options *options, struct server **out);

/* New limits for everything from now on. (the thread that started it) */
void server_set_limits(struct server *server, const struct server_limits *limits);

/* Refuses new connections, finishes what is under way within SERVER_DRAIN_MS, answers or
 * breaks what is left within SERVER_CUT_MS, frees. */
void server_stop(struct server *server);

/* The figures of all loops and the engine; `counters` has room for every loop. */
struct server_facts {
    struct node_facts node;
    struct engine_stats engine;
    const struct node_counters *counters[SERVER_LOOP_COUNT_MAX];
};
void server_facts(struct server *server, struct server_facts *facts);
