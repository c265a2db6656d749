/* What log.c, which writes, and log_recovery.c, which reads back, share.
 *
 * A segment begins with a header of 64 bytes; frames (store/frame.h) follow up to its
 * end, then bytes of no meaning: zeros, or what an older incarnation left.
 *
 *     offset size
 *          0    8  "trilog1\n"
 *          8    4  CRC32C of bytes 12 to 63
 *         12    4  zero
 *         16    8  number: of the file's name, else the segment is not begun
 *         24    8  sequence of the first batch
 *         32    8  durable: the greatest sequence known durable when it was begun
 *         40   16  id of the store
 *         56    8  zero */
#pragma once

#include "store/log.h"

enum { SEGMENT_HEADER_BYTES = 64, LOG_PREPARED_MAX = 16 };

/* A segment in use. */
struct segment {
    uint64_t number;
    struct env_file *file;
    uint64_t first; /* Sequence of its first batch, written or not yet. */
    uint64_t last;  /* first - 1 if there is none. */
    uint64_t end;   /* Where its next frame goes. */
    uint64_t synced_end;
    uint64_t syncing_end; /* Of the sync in flight that covers it; 0: none. */
    bool tells_next;      /* A frame in it says that the next one holds batches. */
};

/* A segment that waits: written in advance, or given up. */
struct spare {
    uint64_t number;
    struct env_file *file;
};

struct spare_list {
    struct spare items[LOG_PREPARED_MAX];
    size_t count;
};

struct log {
    struct env *env;
    struct heap *heap;
    uint8_t store_id[16];
    uint64_t segment_bytes;
    size_t prepared_count_wanted;
    struct segment *segments; /* Ascending; the last takes the appends. Never empty. */
    size_t segment_count;
    size_t segment_capacity;
    struct spare_list prepared; /* Ascending, all above the segments. */
    struct spare_list released;
    uint64_t number_max; /* Of all files there are. */
    uint64_t last;
    uint64_t durable;
    uint64_t told; /* The greatest `durable` that a header written since the start names. */
    uint64_t release_sequence; /* Given up by the store up to here. */
    enum status failure;
    uint64_t names_changed; /* Counts segments made on the spot, ... */
    uint64_t names_syncing; /* ... and how many of them the directory knows durably. */
    uint64_t names_synced;
    bool keeping_space;
    bool syncing;
    bool preparing;
    uint8_t scratch[64 * 1024];
};

struct segment_header {
    uint64_t number;
    uint64_t first;
    uint64_t durable;
    uint8_t store_id[16];
};

void segment_header_encode(const struct segment_header *header, uint8_t out[SEGMENT_HEADER_BYTES]);

/* False if these are not the bytes of a header. */
bool segment_header_decode(const uint8_t bytes[SEGMENT_HEADER_BYTES], struct segment_header *out);

/* Makes room for one more in `segments`. */
enum status log_reserve_segment(struct log *log);

/* Begins a new segment whose first batch is the next one: a prepared one, or made on the spot. */
enum status log_begin_segment(struct log *log);
