/* What manifest.c, which commits, and manifest_open.c, which reads, share.
 *
 * A manifest file begins with a header of 64 bytes, then frames (store/frame.h) of kind
 * FRAME_EDIT, the first a snapshot, and FRAME_MARK after each edit that was synced.
 *
 *     offset size
 *          0    8  "triman1\n"
 *          8    4  CRC32C of bytes 12 to 63
 *         12    4  zero
 *         16    8  number: of the file's name
 *         24    8  sequence of the snapshot, the first edit
 *         32    8  zero
 *         40   16  id of the store
 *         56    8  zero */
#pragma once

#include "store/manifest.h"
#include "store/manifest_state.h"

enum { MANIFEST_HEADER_BYTES = 64 };

struct manifest {
    struct env *env;
    struct heap *heap;
    uint64_t rollover_bytes; /* As the options say. */
    uint64_t rollover_at;    /* A commit at or after this end begins a new file. */
    uint64_t number;         /* Of the current file. */
    struct env_file *file;
    uint64_t end;      /* Where the next edit goes. */
    uint64_t sequence; /* Of the newest edit. */
    struct manifest_state *state;
    bool committing;
    bool failed; /* What the device holds is not known. */
};

struct manifest_header {
    uint64_t number;
    uint64_t sequence;
    uint8_t store_id[16];
};

void manifest_header_encode(const struct manifest_header *header,
                            uint8_t out[MANIFEST_HEADER_BYTES]);

/* False if these are not the bytes of a header. */
bool manifest_header_decode(const uint8_t bytes[MANIFEST_HEADER_BYTES],
                            struct manifest_header *out);

/* Appends a whole file to `out`: header and snapshot. */
enum status manifest_encode_file(struct heap *heap, const struct manifest_state *state,
                                 uint64_t number, uint64_t sequence, struct buf *out);

/* Makes `content` the manifest with this number, durably, and opens it.
 *
 * Errors: STATUS_FULL: there is no such manifest; after others there may be. */
enum status manifest_write_file(struct env *env, uint64_t number, struct slice content,
                                struct env_file **out);

/* Says that the edit before is durable; returns where the next one begins. Not synced, nor needed: it
 * only sharpens the judgement of a later start. */
uint64_t manifest_write_mark(struct manifest *manifest, uint64_t sequence, uint64_t at);

/* Decides when the next new file is due; this one began with so many bytes. */
void manifest_plan_rollover(struct manifest *manifest, uint64_t snapshot_bytes);
