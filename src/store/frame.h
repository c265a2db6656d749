/* Frames: checked records in a file that only grows, shared by log and manifest.
 *
 * A frame is a header of 32 bytes, a payload and zeros up to a multiple of 8. Numbers
 * are little-endian.
 *
 *     offset size
 *          0    4  CRC32C of bytes 4 to 31
 *          4    4  CRC32C of payload and zeros
 *          8    4  size of the payload
 *         12    1  kind
 *         13    3  zero
 *         16    8  sequence
 *         24    8  durable: the greatest sequence known durable when this was written
 *
 * Both checksums begin with the file's seed, made from the store's random id and the
 * file's number: bytes of another store, of an older incarnation of a recycled file, or
 * made up by a client, pass only by chance. The header has its own so that its word on
 * what is durable counts even where its payload is torn. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/status.h"

enum {
    FRAME_HEADER_BYTES = 32,
    FRAME_ALIGN_BYTES = 8,
    FRAME_PAYLOAD_BYTES_MAX = 1024 * 1024 * 1024,
};

#define FRAME_SEQUENCE_MAX (UINT64_C(1) << 62)

enum frame_kind {
    FRAME_BATCH = 1, /* A batch of the log. */
    FRAME_MARK = 2,  /* No payload; `sequence` is that of the frame before. */
    FRAME_EDIT = 3,  /* An edit of the manifest. */
    FRAME_NEXT = 4,  /* No payload: the log goes on in the next segment, at least to `sequence`. */
};

struct frame {
    enum frame_kind kind;
    uint64_t sequence;
    uint64_t durable;
    struct slice payload;
    uint64_t size_bytes; /* With header and padding. */
};

uint32_t frame_seed(const uint8_t store_id[16], uint64_t number);

/* What a frame with this payload takes. */
static inline uint64_t frame_size_bytes(uint64_t payload_bytes)
{
    return (FRAME_HEADER_BYTES + payload_bytes + FRAME_ALIGN_BYTES - 1) &
           ~(uint64_t)(FRAME_ALIGN_BYTES - 1);
}

/* Makes the header that goes before `frame->payload`; the caller adds payload and zeros. */
void frame_encode_header(const struct frame *frame, uint32_t seed, uint8_t out[FRAME_HEADER_BYTES]);

/* The frame at `offset` of a file's bytes.
 *
 * Errors: STATUS_CORRUPT if there is none, or not as it was written.
 * Owns: the payload borrows from `bytes`. */
enum status frame_decode(struct slice bytes, uint64_t offset, uint32_t seed, struct frame *out);

/* What lies behind the end of what could be read. */
struct frame_tail {
    uint64_t durable;     /* Greatest that a valid header there speaks of. */
    uint64_t frame_count; /* With a valid header and a sequence of at least `sequence`, ... */
    uint64_t frame_bytes; /* ... and what they take; batches and edits alone. */
};

/* Adds up the headers in `bytes` from `offset` on, a multiple of 8, wherever they lie.
 * Cost: one look at each 8 bytes. */
void frame_search(struct slice bytes, uint64_t offset, uint32_t seed, uint64_t sequence,
                  struct frame_tail *tail);
