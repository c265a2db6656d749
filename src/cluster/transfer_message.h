/* Messages by which a range moves as packed tries: src/cluster/transfer.h says in what order.
 *
 *     taker to giver              back
 *     ASK range, records here     OFFER   the file is made, will be, or is not worth it
 *     WANT a piece                PIECE   the bytes and their checksum, or GONE
 *     DROP                                the file is not needed any more
 *
 * `id` is drawn by the taker, for one file. Bytes: docs/format/peer.md. */
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"
#include "core/query.h"

enum transfer_kind {
    TRANSFER_ASK = 1,
    TRANSFER_OFFER,
    TRANSFER_WANT,
    TRANSFER_PIECE,
    TRANSFER_DROP,
    TRANSFER_GONE,
    TRANSFER_KIND_END,
};

enum {
    TRANSFER_PIECE_BYTES = 64 << 10,     /* Of a file in one message; the last may be shorter. */
    TRANSFER_FILE_BYTES_MAX = 128 << 20, /* Nobody takes a larger one. */
};

enum transfer_verdict {
    TRANSFER_READY,     /* The file is there. */
    TRANSFER_WORKING,   /* It is being made. */
    TRANSFER_FEW,       /* Not worth a file: let repair do it. */
    TRANSFER_BUSY,      /* Too many are under way here; ask again. */
    TRANSFER_OTHER_MAP, /* By our map that range is not ours to give to you. */
    TRANSFER_REFUSED,   /* Full, damaged, or out of memory. */
    TRANSFER_VERDICT_END,
};

/* Slices are borrowed. */
struct transfer_message {
    enum transfer_kind kind;
    uint64_t id;                   /* Not 0. */
    struct key_range range;        /* ASK */
    uint64_t count;                /* ASK: live words that the taker has of it. */
    enum transfer_verdict verdict; /* OFFER */
    uint64_t size_bytes;           /* OFFER, if READY: of the file; 0: the range has no record. */
    struct slice end;              /* The same: where the file ends; empty: at the range's end. */
    uint64_t offset;               /* WANT, PIECE: a multiple of TRANSFER_PIECE_BYTES. */
    uint64_t checksum;             /* PIECE: transfer_checksum(). */
    struct slice bytes;            /* PIECE: at least one. */
};

/* Of bytes that lie at `offset` of file `id`: in another place they have another one. */
uint64_t transfer_checksum(uint64_t id, uint64_t offset, struct slice bytes);

void transfer_message_encode(const struct transfer_message *message, struct buf *out);

/* Errors: STATUS_INVALID unless the bytes are what transfer_message_encode() writes. Whether the
 * checksum is right is for the caller to see. */
enum status transfer_message_decode(struct slice bytes, struct transfer_message *message);
