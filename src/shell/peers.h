/* Connections to the other nodes of the cluster: one a pair, made when there is something to say.
 *
 * peers_send() finds the connection to a node, or dials one, and queues; all that a turn of the loop
 * queued leaves at its end, in one write a node. Messages may be lost, with a connection or for want
 * of one, and never come twice or changed: the protocols above live with that. When two nodes dial each
 * other at once, the connection stays that the lower id dialled. A node that does not answer is dialled
 * again after a pause that doubles from PEERS_PAUSE_MS to PEERS_PAUSE_MS_MAX; what is sent to it
 * meanwhile is lost.
 *
 * Who comes in has PEERS_GREETING_MS to say who it is, and PEERS_STRANGERS_MAX may be about to.
 *
 * A node of no cluster yet has the id 0 and asks its way in: what it sends to 0 goes to the address that
 * `address` gives for 0, whoever is there; what it is told comes by peers_answer() of the other side,
 * within PEERS_VISIT_MS.
 *
 * With `tls` set, all of that goes over TLS: who shows no certificate that counts is refused before a byte of
 * it is looked at as a frame, and so is who speaks without TLS. Without, connections leave or reach this
 * machine's loopback alone unless `plain_beyond_loopback` is set.
 *
 * Threads: the one of the loop. The callbacks are called from within it; they may send, and must not
 * close. docs/design/peers.md. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/heap.h"
#include "base/slice.h"
#include "base/status.h"
#include "proto/peer_link.h"
#include "shell/peer_tls.h"

enum {
    PEERS_STRANGERS_MAX = 64,
    PEERS_GREETING_MS = 5000,
    PEERS_VISIT_MS = 2000, /* Of a node without an id. */
    PEERS_ALIVE_MS = 5000, /* So long after it was heard a connection stands against a twin's. */
    PEERS_PAUSE_MS = 100,
    PEERS_PAUSE_MS_MAX = 5000,
    PEERS_WRITE_BYTES =
        64 << 10, /* Handed to the socket at a time: what is urgent waits for these. */
    PEERS_ADDRESS_BYTES_MAX = 262,     /* host:port, or [host]:port. */
    PEERS_LEAVE_MS = 500,              /* So long a peer has to read why it is refused. */
    PEERS_SEALED_BYTES_MAX = 64 << 10, /* That TLS itself may want to send, and nobody takes. */
    PEERS_NOTE_MS =
        1000, /* From one line on a refused stranger to the next; those between are counted. */
};

struct peers_events {
    void *context;

    /* Writes the address of a node, at most PEERS_ADDRESS_BYTES_MAX and a 0. False: it has none. */
    bool (*address)(void *context, uint16_t id, char *out);

    /* Whether a node that says that it is `hello` may speak; if not, `*why` gets words for its log. The
     * link has found version, cluster, generation and ids to fit. */
    bool (*admit)(void *context, const struct peer_hello *hello, const char **why);

    /* A message, borrowed for the call. The sender of a bulk message is given room for as many bytes
     * again by peers_consumed(). */
    void (*message)(void *context, const struct peer_hello *from, enum peer_lane lane,
                    struct slice message);

    /* Nobody is there: a node closed or reset its connection, or its address refuses one. From within
     * peers_send() too. May be NULL. */
    void (*gone)(void *context, uint16_t id);
};

struct peers_options {
    struct heap *heap;
    uv_loop_t *loop;
    const char *host;     /* An address of this machine, IPv4 or IPv6. */
    uint16_t port;        /* 0: any free one. */
    uint32_t greeting_ms; /* 0: PEERS_GREETING_MS. */
    struct peer_tls *tls; /* NULL: plain connections. */
    bool plain_beyond_loopback;
    struct peer_hello hello;
    struct peers_events events;
};

struct peers;

/* Listens.
 *
 * Errors: STATUS_EXISTS (the address is in use), STATUS_DENIED, STATUS_INVALID (not an address of this
 * machine), STATUS_IO, STATUS_NOMEM. What was begun is freed by the loop's next turns. */
enum status peers_open(const struct peers_options *options, struct peers **out);

/* Closes everything; `done` is called from the loop when it is, and frees nothing of the caller's.
 * NULL is accepted for both. */
void peers_close(struct peers *peers, void (*done)(void *context), void *context);

uint16_t peers_port(const struct peers *peers);

/* Errors: STATUS_BUSY (too much waits, or it is too early to dial again), STATUS_NOT_FOUND (no
 * address), STATUS_NOMEM: the message is lost and counted. */
enum status peers_send(struct peers *peers, uint16_t to, enum peer_lane lane, struct slice message);

/* Back over the connection that the message came by; from within its callback alone. It is the one way
 * to reach a node without an id. Errors: as peers_send(). */
enum status peers_answer(struct peers *peers, enum peer_lane lane, struct slice message);

/* Closes the connection to a node, if there is one; what waits there is lost. Not from a callback. */
void peers_hang_up(struct peers *peers, uint16_t id);

/* Who this node is from now on. Closes every connection, for each was made as somebody else. Not from
 * a callback. */
void peers_introduce(struct peers *peers, const struct peer_hello *hello);

/* Whether a message to the node would be lost now: there is no connection, and it is too early to dial again. */
bool peers_is_pausing(const struct peers *peers, uint16_t id);

/* Whether anything waits to be written to a node that is connected, or is on its way to its socket. */
bool peers_have_to_write(const struct peers *peers);

/* So many bytes of bulk of that node are worked off. */
void peers_consumed(struct peers *peers, uint16_t from, size_t bytes);

struct peers_stats {
    uint64_t connected_count; /* Greeted, now. */
    uint64_t dialled_count, accepted_count, refused_count, broken_count;
    uint64_t sent_bytes, received_bytes;
    uint64_t lost_count; /* Messages that found no connection or no room. */
};
void peers_stats(const struct peers *peers, struct peers_stats *out);
