/* This node as a member of a cluster: a replica on the writer's thread, and what it needs around it.
 *
 *   messages   over shell/peers, on a loop of libuv that the writer turns in place of waiting
 *   time       from the clocks of shell/clock.h; a timer of the loop ends the wait
 *   storing    the writer syncs, flushes and reclaims as it does for a node alone
 *   clients    submissions come by the engine's queue, become requests, and go back by its `done`
 *
 * A directory that has an id in a cluster is a member of that one, whatever is told. One that has none
 * asks its seeds to let it join, again and again; where its own address is the first of them it
 * founds the cluster: at once if it is the only one, or has words already, else when no other seed
 * has answered for HOST_FOUND_MS. Without seeds, and without an id, the node is alone: there is no host.
 *
 * Threads: made and destroyed by one that is neither; between, the writer's. docs/design/host.md. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/status.h"
#include "cluster/rangemap.h"
#include "node/node.h"
#include "shell/engine.h"
#include "shell/peer_tls.h"

enum {
    HOST_ASK_MS = 500,    /* From one question of a directory that wants to join to the next. */
    HOST_FOUND_MS = 3000, /* So long the first seed waits for the others before it founds. */
    HOST_UNDER_WAY_MAX = 2048,    /* Requests at the replica; more wait. */
    HOST_LOAD_TIMEOUT_MS = 60000, /* For a thousand words of an import. */
    HOST_FACTS_MS = 100,          /* From one look at the figures to the next. */
    HOST_LEAVE_MS = 2000,         /* The end of the process waits so long for others to know. */
    HOST_CAPACITY = 100,          /* Weight of each node's share: all alike. */
};

enum host_state {
    HOST_ALONE,  /* There is no cluster. */
    HOST_JOINS,  /* It asks to be let in. */
    HOST_STARTS, /* Its start is not durable yet: it says and hears nothing. */
    HOST_TAKES_PART,
    HOST_AWAY,     /* It serves nothing before others have told it that nothing has changed. */
    HOST_KEPT_OUT, /* It is excluded, or no member any more. */
    HOST_STOPPED,  /* The log cannot be written, or the node stops. */
};

struct host_options {
    struct heap *heap;
    const char *peer_host; /* Where the others connect; IPv4 or IPv6. */
    uint16_t peer_port;    /* 0: any free one. */
    struct peer_tls *tls;  /* NULL: plain, and beyond loopback only if so told. */
    bool plain_beyond_loopback;
    const char *zone;
    const char *const *seeds; /* host:port, or [host]:port. */
    size_t seed_count;
    struct rangemap_settings settings; /* Of a cluster that is founded here. */
    uint32_t write_timeout_ms;
    bool trace; /* Logs what the protocols do, at debug. */
    void (*done)(struct engine_write *list);
};

struct host;
struct own_board;

/* Errors: STATUS_NOMEM. What the options point to is borrowed until host_destroy(). */
enum status host_create(const struct host_options *options, struct host **out);

/* As `open_host` of struct engine_options, with the host as its context. */
enum status host_attach(void *context, struct store *store, struct env *env,
                        struct engine_host *out, struct store_report *report);

/* The process is told to end: the other members hear of it now, and ask this node for nothing more, while it goes on
 * with what is under way. (any thread) */
void host_leave(struct host *host);

/* After engine_close(). NULL is accepted. */
void host_destroy(struct host *host);

/* (any thread) */
enum host_state host_state(const struct host *host);

/* As of a tenth of a second ago, at most. (any thread) */
void host_facts(struct host *host, struct node_cluster_facts *out);

/* What this node may answer without asking its replica; nothing for a node alone. (any thread) */
struct own_board *host_own_board(struct host *host);

/* As bound; 0 for a node alone. */
uint16_t host_peer_port(const struct host *host);
