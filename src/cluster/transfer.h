/* Transfer: a next owner gets a range from one of the owners as packed tries, instead of record by
 * record. What has arrived is joined like everything else; that the two are equal then is for
 * repair to say (cluster/repair.h).
 *
 * The *taker* drives. A range moves as one file after the other, each from where the one before
 * ended. A file moves in *pieces*, a few under way at a time; pieces of a *window* are
 * gathered in memory, written to a file here and made durable.
 *
 *     ASK     the range from here on            OFFER  ready, or in the making; or not worth it
 *     WANT    pieces, up to the credit          PIECE  each with a checksum
 *     (window written) then the next one
 *     DROP    the file is durable here; it is joined, then ASK for what follows it
 *
 * The *giver* answers, and keeps the file until it is dropped. Both note durably where they are
 * (env.keep), so that a start goes on there.
 *
 * Invariants
 *   1. A range is over as TRANSFER_MOVED only when every file of it was joined here.
 *   2. A crash of either side, or silence, repeats at most the window under way, or, before the file
 *      is there, its making.
 *   3. The giver may forget a file only once it is durable at the taker, or the taker gave up.
 *   4. At most TRANSFER_CREDIT pieces of a transfer are under way, TRANSFER_TAKEN_MAX transfers at
 *      one taker and TRANSFER_GIVEN_MAX at one giver: a request waits behind no more.
 *   5. Every file of a transfer is known to it: what it does not know after a start is to be removed.
 *
 * Takes `now_ms` (monotonic). docs/design/transfer.md. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/heap.h"
#include "base/slice.h"
#include "base/status.h"
#include "cluster/identity.h"
#include "cluster/outbox.h"
#include "cluster/trace.h"
#include "cluster/transfer_message.h"

enum {
    TRANSFER_TAKEN_MAX = 2,             /* That a node gets at a time. */
    TRANSFER_GIVEN_MAX = 2,             /* That it gives at a time. */
    TRANSFER_CREDIT = 4,                /* Pieces under way of one. */
    TRANSFER_WINDOW_PIECES = 16,        /* Made durable together. */
    TRANSFER_FILE_BYTES_AIM = 16 << 20, /* A file ends near this: as much is built in memory. */
    TRANSFER_FEW_RECORDS = 512,         /* So many more words at the giver are not worth a file. */
    TRANSFER_AGAIN_MS = 1000,
    TRANSFER_SILENT_MS = 15000, /* A giver that says nothing for so long is given up. */
    TRANSFER_KEEP_MS = 60000,   /* So long a file waits for a taker that says nothing. */
};

enum transfer_outcome {
    TRANSFER_MOVED,     /* All of the range that the giver had was joined here. */
    TRANSFER_NOT_WORTH, /* Repair alone is cheaper. */
    TRANSFER_FAILED,    /* Nothing more comes of it. */
};

enum transfer_side { TRANSFER_TAKES, TRANSFER_GIVES };

/* What a transfer needs of the node. Files are known by their id; what takes time is only begun, and
 * its end told by transfer_exported(), transfer_written(), transfer_ingested(). STATUS_BUSY: ask again. */
struct transfer_env {
    void *context;
    struct heap *heap;
    const struct trace *trace; /* May be NULL. */
    uint64_t first_id;         /* By chance: files of an earlier start may still be around. */

    /* Live words here. */
    enum status (*count)(void *context, const struct key_range *range, uint64_t *count);

    /* Whether this node owns all of the range and `peer` is about to; the other way round. */
    bool (*gives)(void *context, node_id peer, const struct key_range *range);
    bool (*takes)(void *context, node_id peer, const struct key_range *range);

    enum status (*export_range)(void *context, uint64_t id, const struct key_range *range,
                                uint64_t bytes_max);
    enum status (*write)(void *context, uint64_t id, uint64_t offset, struct slice bytes);
    enum status (*ingest)(void *context, uint64_t id, const struct key_range *range);

    /* Appends bytes of a file to `out`, at once. */
    enum status (*read)(void *context, uint64_t id, uint64_t offset, size_t size, struct buf *out);
    void (*remove)(void *context, uint64_t id);

    /* Keeps `state` durably for transfer_restore(), in place of what was there; empty: nothing. */
    void (*keep)(void *context, enum transfer_side side, size_t place, struct slice state);

    /* A range that was to be taken is over. */
    void (*over)(void *context, node_id peer, const struct key_range *range,
                 enum transfer_outcome outcome);
};

enum taking_state {
    TAKING_FREE,
    TAKING_ASKS,    /* For the next file. */
    TAKING_FETCHES, /* Pieces of a window. */
    TAKING_WRITES,  /* The window. */
    TAKING_INGESTS, /* The file. */
};

struct taking {
    enum taking_state state;
    bool handed; /* What it waits for has been begun. */
    bool joined; /* INGESTS, after a start: that had been done. */
    node_id peer;
    uint64_t id;
    struct buf low, from, high; /* The whole range; where the file under way begins. */
    struct buf end;             /* Where it ends; empty: at `high`. */
    uint64_t size_bytes;        /* Of the file; 0: not known. */
    uint64_t written_bytes;     /* Durable here. */
    struct buf window;          /* Bytes from there on. */
    uint32_t asked, got;        /* Its pieces, by bit. */
    uint64_t due_ms, heard_ms;
};

struct giving {
    enum { GIVING_FREE, GIVING_MAKES, GIVING_READY } state;
    node_id peer;
    uint64_t id;
    struct buf low, end;
    uint64_t size_bytes;
    uint64_t heard_ms;
};

struct transfer_counts {
    uint64_t taken_files, given_files; /* To their end. */
    uint64_t taken_bytes, given_bytes; /* In pieces. */
    uint64_t again_count;              /* Pieces asked for more than once. */
    uint64_t moved_count, few_count, failed_count, invalid_count;
};

struct transfer {
    struct transfer_env env;
    uint64_t id;
    bool unkept; /* States could not be kept. */
    struct taking takings[TRANSFER_TAKEN_MAX];
    struct giving givings[TRANSFER_GIVEN_MAX];
    struct buf state, piece; /* Scratch. */
    struct transfer_counts counts;
};

void transfer_init(struct transfer *transfer, const struct transfer_env *env);
void transfer_deinit(struct transfer *transfer);

/* Goes on from what env.keep() was given. `file_bytes`: how long the file of that id is, by
 * transfer_state_id(); 0: there is none.
 *
 * Errors: STATUS_CORRUPT: it is forgotten; STATUS_NOMEM. */
enum status transfer_restore(struct transfer *transfer, enum transfer_side side, size_t place,
                             struct slice state, uint64_t file_bytes, uint64_t now_ms);
uint64_t transfer_state_id(struct slice state);

/* Whether a file of this id belongs to anything under way. */
bool transfer_knows(const struct transfer *transfer, uint64_t id);

/* Begins to take `range` from `peer`. False: too many are under way. */
bool transfer_begin(struct transfer *transfer, node_id peer, const struct key_range *range,
                    uint64_t now_ms, struct outbox *outbox);

/* Whether something that contains `key` is being taken. */
bool transfer_takes(const struct transfer *transfer, struct slice key);

/* A message from `from`. Errors: STATUS_INVALID: it breaks a rule, nothing changed. */
enum status transfer_receive(struct transfer *transfer, node_id from, struct slice bytes,
                             uint64_t now_ms, struct outbox *outbox);

/* What env.export_range(), env.write() or env.ingest() began has ended. */
void transfer_exported(struct transfer *transfer, uint64_t id, enum status status,
                       uint64_t size_bytes, struct slice end, uint64_t now_ms,
                       struct outbox *outbox);
void transfer_written(struct transfer *transfer, uint64_t id, enum status status, uint64_t now_ms,
                      struct outbox *outbox);
void transfer_ingested(struct transfer *transfer, uint64_t id, enum status status, uint64_t now_ms,
                       struct outbox *outbox);

/* The batch that was to keep states is nothing: they are kept again. */
void transfer_lost(struct transfer *transfer);

/* Asks again, gives up what is silent or no longer wanted. */
void transfer_tick(struct transfer *transfer, uint64_t now_ms, struct outbox *outbox);

/* Whether anything that was begun has yet to be told of as ended. */
bool transfer_is_waiting(const struct transfer *transfer);

/* When transfer_tick() is due; UINT64_MAX: never. */
uint64_t transfer_due_ms(const struct transfer *transfer);
