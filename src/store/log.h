/* The log: batches of resulting records, in order, durable before they are acknowledged.
 *
 * Batches lie in segments, files written in advance and recycled under new numbers. The
 * store appends with one write, syncs on another thread while the next batch is on its
 * way, and after a crash reads back every batch that was synced and a prefix of those
 * that were not: docs/design/log.md argues why, docs/format/log.md shows the bytes.
 *
 * Invariants
 *   1. Sequences rise by one a batch. log_durable() only rises, and a batch at or under
 *      it is read back by every later log_open() until log_release() gives it up.
 *   2. What log_open() accepted is durable when it returns; what it cut never returns.
 *   3. A number names at most one incarnation of a segment: bytes of an older one fail
 *      their checksum, which is seeded with it.
 *   4. After a failed sync nothing is appended any more: STATUS_IO until a restart.
 *
 * Threads: all calls by the writer thread, but log_sync_run() and log_prepare_run(),
 * which touch only their argument and run on any. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/slice.h"
#include "base/status.h"
#include "store/env.h"

enum {
    LOG_SEGMENT_BYTES = 16 * 1024 * 1024,
    LOG_BATCH_BYTES_MAX = 1024 * 1024 * 1024,
    LOG_SYNC_FILES_MAX = 16,
};

struct log;

struct log_options {
    uint8_t store_id[16];      /* The manifest's: a segment of another store is foreign. */
    uint64_t replay_sequence;  /* The first batch to be visited; all before must be durable. */
    uint64_t durable_sequence; /* Known durable from elsewhere, the manifest; 0: nothing. */
    bool expect_segments;      /* There was a log before: finding none is damage. */
    uint64_t segment_bytes;    /* 0: LOG_SEGMENT_BYTES. */
    uint32_t prepared_count;   /* Segments held ready by the background; 0: 2. */
};

/* What log_open() found; filled on failure too. */
struct log_report {
    uint64_t visited_count; /* Batches given to `visit`. */
    uint64_t
        cut_count; /* Batches, never known durable, whose headers were found in the cut tail. */
    uint64_t cut_bytes; /* Theirs; a batch that lost its header is not counted. */
    uint64_t segment;   /* Where reading ended: at the cut, or at the damage. */
    uint64_t offset;
    uint64_t sequence; /* Of the batch that should have been there. */
};

/* A batch read back. Anything but STATUS_OK ends log_open() with that status. */
typedef enum status log_visit(void *context, uint64_t sequence, struct slice payload);

/* Reads the log back and makes it ready for appending.
 *
 * Errors: STATUS_CORRUPT if a batch known to have been durable is not there as written
 * (`report` says where; nothing is changed), STATUS_FOREIGN for a segment of another
 * store; else what `env` and `visit` returned. The open may be tried again after any.
 * Cost: one read of all from the segment that holds `replay_sequence`. */
enum status log_open(struct env *env, struct heap *heap, const struct log_options *options,
                     log_visit *visit, void *context, struct log_report *report, struct log **out);

/* Drops what was not synced, or leaves it to chance. No sync or prepare may be in flight.
 * NULL is accepted. */
void log_close(struct log *log);

/* Writes a batch after all others; `*sequence` is its number. Does not sync.
 *
 * Errors: STATUS_LIMIT for a payload over LOG_BATCH_BYTES_MAX; STATUS_FULL: not appended,
 * the next call may succeed; any other: the log has failed for good. A batch that was
 * refused has no number, and is not there after a restart unless the restart
 * finds it as the last, written whole by a call that failed for good.
 * Cost: one write up to 64 KiB, three above; a file is created if no segment is ready. */
enum status log_append(struct log *log, struct slice payload, uint64_t *sequence);

/* Writes down what is durable by now, so that damage to the newest batches can be told
 * from a torn write. Does not sync. Errors: as log_append(). */
enum status log_append_mark(struct log *log);

/* Whether everything is durable and nothing in the log says so yet. */
bool log_wants_mark(const struct log *log);

/* The number of the newest batch, of the newest known durable, and of the next. */
uint64_t log_last(const struct log *log);
uint64_t log_durable(const struct log *log);

/* STATUS_OK, or why nothing can be appended until a restart. */
enum status log_status(const struct log *log);

/* One sync on its way. Copyable; borrows from the log until log_sync_complete(). */
struct log_sync {
    struct env *env;
    struct env_file *files[LOG_SYNC_FILES_MAX];
    size_t file_count;
    bool directory;
    uint64_t sequence; /* What is durable when it succeeds. */
};

/* Lists what must be synced for all that was appended so far (for the oldest part of it,
 * if that spans more than LOG_SYNC_FILES_MAX segments: sync again).
 *
 * Errors: STATUS_END if nothing waits, STATUS_BUSY if a sync is in flight, and
 * log_status(). */
enum status log_sync_begin(struct log *log, struct log_sync *sync);

/* The work, on any thread. */
enum status log_sync_run(const struct log_sync *sync);

/* Takes the result in. A failure is final: log_status() is STATUS_IO from now on. */
void log_sync_complete(struct log *log, const struct log_sync *sync, enum status status);

/* A segment being written in advance, or removed, in the background. */
struct log_prepare {
    struct env *env;
    struct env_file *file; /* Of the segment that is recycled; NULL: a new one. */
    uint64_t from;         /* Its number until now. */
    uint64_t number;       /* Its number from now on; 0: remove it. */
    uint64_t segment_bytes;
};

/* While `keep` is true no new file is made in advance, and none is held that is not in use:
 * space is short. */
void log_keep_space(struct log *log, bool keep);

/* Plans one step that keeps segments ready; false if there is nothing to do. Ask again
 * after log_append(), log_release() and log_prepare_complete(); one at a time. */
bool log_prepare_begin(struct log *log, struct log_prepare *prepare);

/* The work, on any thread. Cost: up to a segment of zeros written, two syncs. */
enum status log_prepare_run(struct log_prepare *prepare);

/* Takes the result in. A failure costs only the preparation: appending goes on in
 * segments made on the spot, and the next log_prepare_begin() tries again. */
void log_prepare_complete(struct log *log, struct log_prepare *prepare, enum status status);

/* Gives up all batches up to `sequence`, at most log_durable(). Only after a manifest
 * edit with a replay sequence above it is durable. */
void log_release(struct log *log, uint64_t sequence);

/* What a replay from `sequence` + 1 on would read, at most. */
uint64_t log_bytes_since(const struct log *log, uint64_t sequence);
