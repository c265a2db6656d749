/* The server: an engine, and loops that answer HTTP from it. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/status.h"
#include "node/node.h"
#include "proto/http_request.h"
#include "shell/engine.h"

enum { SERVER_LOOP_COUNT_MAX = 64, SERVER_DRAIN_MS = 5000 };

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
    const char *version;
    bool answer_cache;
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
};

/* Listens and answers until server_stop().
 * Errors: STATUS_EXISTS (the address is in use), STATUS_DENIED, STATUS_INVALID (not an
 * address), STATUS_IO, STATUS_NOMEM. */
enum status server_start(struct heap *heap, struct engine *engine,
                         const struct server_options *options, struct server **out);

/* New limits for everything from now on. (the thread that started it) */
void server_set_limits(struct server *server, const struct server_limits *limits);

/* Refuses new connections, finishes what is under way within SERVER_DRAIN_MS, frees. */
void server_stop(struct server *server);

/* The figures of all loops and the engine; `counters` has room for every loop. */
struct server_facts {
    struct node_facts node;
    struct engine_stats engine;
    const struct node_counters *counters[SERVER_LOOP_COUNT_MAX];
};
void server_facts(struct server *server, struct server_facts *facts);
