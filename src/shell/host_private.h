/* What the files of the host share: see host.h. */
#pragma once

#include <pthread.h>
#include <uv.h>

#include "cluster/request.h"
#include "node/jobs.h"
#include "node/replica.h"
#include "shell/host.h"
#include "shell/own_board.h"
#include "shell/peers.h"

struct host_work;
struct host_operation;

/* Submissions on their way: see host_work.c. */
struct host_works {
    struct host_work *waiting_first, **waiting_end; /* Not all of it is begun. */
    struct host_work *loads_first, **loads_end;     /* All loads, in their order. */
    struct host_operation *operations;              /* At the replica. */
    size_t under_way;
    size_t command_count; /* Commands among the operations, which wait for the map. */
    struct engine_write *done_first, *done_last; /* To be handed back. */
};

enum { HOST_GONE_MAX = 64 }; /* More at once are found out by probes. */

/* A node that said that it goes, in the start with this number. */
struct host_going {
    node_id id;
    uint64_t boot;
};

struct host {
    struct host_options options;
    struct heap *heap;
    struct store *store;
    uv_loop_t loop;
    bool loop_open, peers_closed;
    uv_async_t wake;
    uv_timer_t timer;
    struct peers *peers;
    struct replica *replica; /* NULL: it has yet to join, or has stopped. */
    struct trace trace;
    _Atomic enum host_state state;
    uint16_t port;
    bool turned; /* The loop has turned since the last step. */
    uint64_t incarnation, process;
    char address[RANGEMAP_ADDRESS_BYTES_MAX + 1]; /* As others are told. */
    uint64_t map_generation, map_number;          /* Of the map that was looked at last. */

    /* Joining. */
    size_t seed; /* Asked now. */
    bool founds; /* It is the first of the seeds. */
    uint64_t ask_ms, found_ms;
    struct buf answer; /* To the last question; empty: none. */

    node_id gone[HOST_GONE_MAX]; /* Their connections ended, and the replica was not told. */
    size_t gone_count;

    /* Leaving: see host_leave.c. */
    struct host_going going[HOST_GONE_MAX]; /* Others. */
    size_t going_count;
    atomic_bool leave_wanted;
    bool leave_said;
    node_id
        unaware[RANGEMAP_MEMBERS_MAX]; /* Were told that this node goes, and have not answered. */
    size_t unaware_count;
    uint64_t stop_ms; /* Then it goes, whatever they say; 0: it is not to stop yet. */

    /* Were not reached, and are not dialled again just yet. Others may have told meanwhile that they are back. */
    node_id unreached[HOST_GONE_MAX];
    size_t unreached_count;

    struct host_works works;
    struct jobs jobs;

    struct own_board board; /* What other threads may answer by themselves, ... */
    uint64_t board_mark;    /* ... as of this own_ranges_mark(); 0: look again. */

    uint64_t facts_ms;     /* When they were looked at last. */
    bool clock_is_off;     /* As it was said last. */
    pthread_mutex_t mutex; /* Guards `facts`. */
    struct node_cluster_facts facts;
};

struct replica_time host_time(void);

/* --- host_leave.c --- */

/* Says that this node goes, once, when it is wanted. */
void host_leave_turn(struct host *host);

/* True: the message was about leaving, and is done with. */
bool host_leave_message(struct host *host, const struct peer_hello *from, struct slice message);

/* After each message of a node. Who said that it goes is down, though it is heard. */
void host_leave_heard(struct host *host, const struct peer_hello *from);

/* A connection ended. */
void host_leave_lost(struct host *host, node_id id);

/* As of struct engine_host. */
bool host_may_stop(void *context);

/* --- host_work.c --- */

void host_works_init(struct host *host);
void host_works_submit(struct host *host, struct engine_write *list);

/* Begins what there is room for. */
void host_works_go_on(struct host *host);

/* Looks at jobs and commands. After each turn of the replica. */
void host_works_look(struct host *host);

/* The replica's reply. */
void host_works_reply(void *context, uint64_t id, const struct request_reply *reply);

/* The replica is gone: nobody knows what became of what is under way. */
void host_works_cancel(struct host *host);

/* Hands back what has ended. */
void host_works_return(struct host *host);
