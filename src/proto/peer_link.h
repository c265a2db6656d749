/* One connection between two nodes: bytes to messages and messages to bytes.
 *
 * Both sides begin with a HELLO that says who they are; each looks at the other's, and either goes on
 * or says in a REFUSE why not, in words for a log. Then messages travel in two *lanes*. A message is cut
 * into frames of at most PEER_FRAME_BYTES_MAX, and an urgent frame goes before any bulk frame, so that
 * a request never waits behind a range that moves for longer than one frame. Bulk is sent under
 * *credit*: only as many bytes as the receiver said it has room for. The urgent lane needs none, for
 * what it carries is bounded where it is made; over PEER_QUEUE_BYTES_MAX it takes no more.
 *
 *     state    begins with             ends with
 *     HELLO    peer_link_init()        the peer's HELLO, fitting: READY; not fitting: BROKEN
 *     READY    PEER_READY              REFUSE, bytes that break a rule: BROKEN
 *     BROKEN   PEER_BROKEN             whoever drives it writes what is left and closes
 *
 * Invariants
 *   1. Messages of one lane arrive whole, once, in order, or not at all: once the link is broken.
 *   2. No message is given out before the peer's HELLO was found to fit.
 *   3. Bulk bytes on their way and not worked off are at most the window of the receiver.
 *   4. What it keeps is bounded: two messages that arrive, two queues, one frame of each kind.
 *
 * The driver brings bytes, from TCP or TLS, and takes bytes; it decides nothing else but which of two
 * connections to the same peer stays. docs/design/peers.md has the reasons, docs/format/peer_link.md
 * the bytes. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/heap.h"
#include "base/slice.h"
#include "base/status.h"

enum {
    PEER_VERSION_MIN = 1, /* Of this protocol: the oldest that is spoken here, and the newest. */
    PEER_VERSION_MAX = 1,
    PEER_FRAME_BYTES_MAX = 16 << 10,   /* Of a frame's body. */
    PEER_MESSAGE_BYTES_MAX = 8 << 20,  /* Urgent; a map has 4 MiB at most. */
    PEER_BULK_BYTES_MAX = 256 << 10,   /* Of a bulk message: a window must hold one whole. */
    PEER_QUEUE_BYTES_MAX = 16 << 20,   /* Of messages that wait in one lane. */
    PEER_WINDOW_BYTES = 1 << 20,       /* Of bulk on its way to one node. */
    PEER_WINDOW_BYTES_MAX = 256 << 20, /* That a peer may offer. */
    PEER_REASON_BYTES_MAX = 200,
};

/* Who speaks, and to whom. */
struct peer_hello {
    uint16_t version_min, version_max;
    uint64_t cluster;     /* Drawn at its birth; 0: of no cluster yet, it wants to join. */
    uint64_t generation;  /* Of its map; 0: it has none. */
    uint16_t id;          /* 0: none yet. */
    uint64_t incarnation; /* Of its data directory. */
    uint64_t boot;        /* Counts its starts. */
    uint16_t to;          /* Whom it means to reach; 0: anybody. */
    uint32_t window;      /* Bulk bytes it has room for: PEER_BULK_BYTES_MAX at least. */
    uint64_t process; /* Drawn at its start, by which a copy of its directory shows; 0: not said. */
};

/* Why a peer is refused. */
enum peer_refusal {
    PEER_REFUSED_NOT = 0,
    PEER_REFUSED_VERSION,    /* No version of the protocol that both speak. */
    PEER_REFUSED_CLUSTER,    /* It belongs to another cluster. */
    PEER_REFUSED_GENERATION, /* A forced recovery has left its map behind. */
    PEER_REFUSED_TO,         /* It looks for another node than this one. */
    PEER_REFUSED_TWIN,       /* Its id is ours: a copy of our data directory runs elsewhere. */
    PEER_REFUSED_MEMBER,     /* It is no member, or excluded; the driver says so. */
    PEER_REFUSED_DOUBLE,     /* There is a connection to it already; the driver says so. */
    PEER_REFUSED_END,
};

enum peer_lane { PEER_URGENT, PEER_BULK, PEER_LANES };

enum peer_state { PEER_STATE_HELLO, PEER_STATE_READY, PEER_STATE_BROKEN };

enum peer_event {
    PEER_NOTHING, /* More bytes are needed. */
    PEER_READY,   /* The peer's HELLO fits: `link->peer`. */
    PEER_MESSAGE,
    PEER_BROKEN, /* `link->refusal` and `link->reason` say why; nothing else follows. */
};

struct peer_queue {
    struct buf bytes; /* Messages, each behind its size in four bytes. */
    size_t at;        /* Those before it went. */
    size_t part;      /* So much of the first one went. */
};

struct peer_link {
    struct heap *heap;
    enum peer_state state;
    struct peer_hello ours, peer;
    uint16_t version; /* That both speak, from PEER_READY on. */

    struct buf in; /* Arrived; the bytes before `in_at` are done with. */
    size_t in_at;
    struct buf parts[PEER_LANES]; /* Of a message whose last frame has not arrived. */
    bool given[PEER_LANES];       /* `parts` was given out: it goes at the next call. */
    uint64_t bulk_received, bulk_consumed, bulk_granted;

    struct buf control; /* Frames that go before all others. */
    struct peer_queue queues[PEER_LANES];
    uint64_t bulk_sent, bulk_credit;

    enum peer_refusal refusal; /* By the peer or by us; PEER_REFUSED_NOT: a rule was broken. */
    bool refused_by_peer;
    char reason[PEER_REASON_BYTES_MAX + 1];
    uint64_t dropped_count; /* Messages that found no room. */
};

/* `ours`: its versions are set here. Owns: nothing of it is borrowed. */
void peer_link_init(struct peer_link *link, struct heap *heap, const struct peer_hello *ours);
void peer_link_deinit(struct peer_link *link);

/* Takes what arrived; then peer_link_next() until PEER_NOTHING.
 *
 * Errors: STATUS_NOMEM; the link is then broken. */
enum status peer_link_receive(struct peer_link *link, struct slice bytes);

/* The next thing that happened. `*message` and `*lane` are set by PEER_MESSAGE, and last until the
 * next call with this link. */
enum peer_event peer_link_next(struct peer_link *link, struct slice *message, enum peer_lane *lane);

/* So many bytes of bulk messages are worked off: there is room for as many again. */
void peer_link_consumed(struct peer_link *link, size_t bytes);

/* Queues a message: 1 byte to the most that its lane takes. Before PEER_READY it waits.
 *
 * Errors: STATUS_BUSY when the lane's queue is full, STATUS_NOMEM, STATUS_CANCELLED when the link is
 * broken: the message is dropped and counted. */
enum status peer_link_send(struct peer_link *link, enum peer_lane lane, struct slice message);

/* Appends bytes to write now, whole frames, at least `size` of them if there are so many, and so less
 * than a frame more. Called when the socket takes some: what is urgent then overtakes what waits.
 *
 * Errors: STATUS_NOMEM, nothing is then lost. */
enum status peer_link_write(struct peer_link *link, size_t size, struct buf *out);

/* Whether peer_link_write() would append anything. */
bool peer_link_wants_to_write(const struct peer_link *link);

/* Breaks the link from this side; the peer is told, in words for its log. */
void peer_link_refuse(struct peer_link *link, enum peer_refusal refusal, const char *reason);
