/* One event loop: a thread with its listener, its connections and its cache of answers. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <uv.h>

#include "base/heap.h"
#include "node/node.h"
#include "shell/answer_cache.h"
#include "shell/own_board.h"
#include "shell/server.h"

enum { LOOP_READ_BYTES = 256 << 10, LOOP_CACHE_BYTES_MAX = 32 << 20 };

struct connection;
struct submission;

struct loop {
    struct server *server;
    struct heap *heap;
    uv_loop_t uv;
    uv_tcp_t listener;
    uv_async_t wake;
    uv_timer_t sweep;
    uv_prepare_t prepare; /* Ends each turn. */
    uv_idle_t idle;       /* Begins the next at once, when a connection has yielded. */
    pthread_t thread;
    bool started;
    bool draining;
    uint64_t drain_us; /* When that began. */

    struct server_limits limits;
    struct node_reader reader;
    struct answer_cache cache;
    struct own_copy own; /* Of a member: what it may answer by itself. */
    uint64_t request_us; /* When the request being answered was read. */
    uint64_t wall_ms;    /* Of this turn. */
    char *read_bytes;    /* LOOP_READ_BYTES, shared by all connections. */
    struct connection *connections;
    size_t starved_count;        /* Connections whose import waits for memory. */
    struct connection *favoured; /* The one that need not; NULL: none. */
    _Atomic uint64_t connection_count;
    struct engine_write *submitted_first, *submitted_last; /* In this turn. */

    pthread_mutex_t mutex; /* Guards what other threads leave here. */
    struct engine_write *returned_first, *returned_last;
    bool stop_wanted, limits_wanted;
    struct server_limits new_limits;
};

/* Prepares it; the thread does not run yet.
 *
 * Owns:   takes the bound socket `listen_fd`, also on failure.
 * Errors: STATUS_IO, STATUS_NOMEM; nothing is left to stop. */
enum status loop_open(struct loop *loop, struct server *server, int listen_fd);

/* Listens and starts the thread, which may look at all of the server: so all its loops are
 * open before the first one starts. Errors: STATUS_IO, STATUS_NOMEM; to be stopped all the same. */
enum status loop_start(struct loop *loop);

/* Has it stop listening, and let its connections finish. */
void loop_begin_stop(struct loop *loop);

/* The same, and waits for that; ends the thread, frees. */
void loop_stop(struct loop *loop);

/* Submits to the engine at the end of this turn, together with all others of the turn: what
 * arrived together is then one batch, one record of the log and one sync. What finds no
 * room comes back with STATUS_BUSY. */
void loop_submit(struct loop *loop, struct submission *submission);

/* What callbacks begin with: takes the time of this turn, for the loop and the date of its
 * answers. Gives the monotonic time. */
uint64_t loop_look_at_clocks(struct loop *loop);

/* Calls connection_take_turn() of all that have yielded, after one look at all others. */
void loop_go_on(struct loop *loop);

/* Hands submissions back to the loops of their connections (any thread). */
void loop_return_all(struct engine_write *list);

/* Gives it new limits (any thread). */
void loop_set_limits(struct loop *loop, const struct server_limits *limits);
