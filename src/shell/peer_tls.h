/* TLS between nodes: what this node shows, whom it trusts, and the bytes of one connection.
 *
 * Both sides show a certificate. It counts if, at the time of the handshake,
 *
 *   1. it was issued by an authority in the file of trusted ones, and by no other;
 *   2. it and what issued it are valid at that time;
 *   3. its extended key usage names serverAuth and clientAuth, both (shell/certificate.h).
 *
 * Names and addresses in it are not looked at: it makes its owner a node of the cluster, and which one is
 * said by the HELLO that follows (proto/peer_link.h). TLS 1.3 alone; nothing is resumed, so that each
 * connection is checked in full. A node's own certificate has to pass the same checks to be loaded.
 *
 * A connection is bytes in, bytes out; the driver owns the socket:
 *
 *     state      begins with               ends with
 *     HANDSHAKE  peer_tls_link_create()    PEER_TLS_READY, or PEER_TLS_FAILED
 *     OPEN       PEER_TLS_READY            PEER_TLS_CLOSED, PEER_TLS_FAILED
 *     ENDED                                the driver sends what is left of `out`, and closes
 *
 * Invariants
 *   1. No byte is given out before the peer's certificate was found to count.
 *   2. What it keeps is bounded: a record that arrives, and `out`, as far as the driver lets it grow.
 *   3. No key protects more records than its cipher can bear: a new one is agreed on before.
 *
 * docs/design/peers.md. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/heap.h"
#include "base/slice.h"
#include "base/status.h"
#include "shell/certificate.h"

enum {
    PEER_TLS_REASON_BYTES = 1024, /* With the final zero. */
    PEER_TLS_FILE_BYTES_MAX = 1 << 20,
    PEER_TLS_ROOM_BYTES = 16 << 10, /* A record holds no more. */
    PEER_TLS_CHAIN_DEPTH_MAX = 4,   /* Authorities between a certificate and one that is trusted. */
    PEER_TLS_KEY_RECORDS = 1 << 22, /* RFC 8446, 5.5, allows AES-GCM 2^24.5 of full length. */
    PEER_TLS_WARN_DAYS = 30,        /* So long before its end a certificate is warned of, ... */
    PEER_TLS_WARN_PART = 3,         /* ... and not before the last third of its time. */
};

/* Names of files in PEM. */
struct peer_tls_options {
    const char *certificate_file; /* The node's, and those between it and the authority, if any. */
    const char *key_file;
    const char *authority_file; /* Authorities that certificates of nodes must come from. */
    uint64_t key_records;       /* Sealed with one key; 0: PEER_TLS_KEY_RECORDS. */
};

struct peer_tls;

/* Reads and checks the files, whose names are borrowed until peer_tls_close().
 *
 * Errors: STATUS_INVALID, STATUS_IO, STATUS_NOMEM; `reason` then names the file and what was expected. */
enum status peer_tls_open(struct heap *heap, const struct peer_tls_options *options,
                          struct peer_tls **out, char reason[PEER_TLS_REASON_BYTES]);

/* After all its links. NULL is accepted. */
void peer_tls_close(struct peer_tls *tls);

/* Reads the files anew, for links that are created from now on. (any thread)
 *
 * Errors: as peer_tls_open(); what was loaded before then stays. */
enum status peer_tls_reload(struct peer_tls *tls, char reason[PEER_TLS_REASON_BYTES]);

/* What this node shows. (any thread) */
void peer_tls_facts(struct peer_tls *tls, struct certificate_facts *out);

/* Whether the time has come to warn of its end: see PEER_TLS_WARN_DAYS. */
bool peer_tls_ends_soon(const struct certificate_facts *facts, int64_t now_s);

/* --- One connection --- */

enum peer_tls_event {
    PEER_TLS_NOTHING, /* More bytes are needed. */
    PEER_TLS_READY,   /* The peer's certificate counts. */
    PEER_TLS_BYTES,
    PEER_TLS_CLOSED, /* The peer says that it is the end. */
    PEER_TLS_FAILED, /* peer_tls_reason() says why; nothing else follows. */
};

struct peer_tls_link;

/* Errors: STATUS_NOMEM. */
enum status peer_tls_link_create(struct peer_tls *tls, bool dialled, struct peer_tls_link **out);

/* NULL is accepted. */
void peer_tls_link_destroy(struct peer_tls_link *link);

/* Takes what arrived, borrowed until peer_tls_next() has returned PEER_TLS_NOTHING or an end. The one who dials
 * calls it with nothing first, to begin. */
void peer_tls_receive(struct peer_tls_link *link, struct slice bytes);

/* The next thing that happened. Bytes are written into `room` and are all that there is of `*bytes`. May
 * append to `out`. */
enum peer_tls_event peer_tls_next(struct peer_tls_link *link, uint8_t room[PEER_TLS_ROOM_BYTES],
                                  struct slice *bytes);

/* Seals bytes and appends them to `out`; only when open.
 *
 * Errors: STATUS_NOMEM; the link is then of no use. */
enum status peer_tls_write(struct peer_tls_link *link, struct slice bytes);

/* What is to be sent; the driver takes it out. */
struct buf *peer_tls_out(struct peer_tls_link *link);

/* After PEER_TLS_FAILED: words for a log. `*by_peer`: it was the peer that refused. */
const char *peer_tls_reason(const struct peer_tls_link *link, bool *by_peer);

/* The subject of the peer's certificate; "" before PEER_TLS_READY. */
const char *peer_tls_peer(const struct peer_tls_link *link);

/* Whether these first bytes of a stream are TLS's. Frames of proto/peer_link.h never begin so. */
bool peer_tls_speaks(struct slice bytes);
