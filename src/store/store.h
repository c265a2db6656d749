/* Store: an LSM of tries with at most one current record a key over all its layers.
 *
 * A write looks up the current record (memory tries, then filters of packed tries; the
 * search ends at the hit), makes the resulting record, puts it into the memory trie and
 * marks the former one dead where it lies. So counts and bests add up over layers, and
 * readers never meet a dead record.
 *
 * Nothing here reads a clock or waits. What takes time is a begin/complete pair that the
 * shell drives, or the simulator interleaves:
 *
 *   batch    store_batch_begin, store_write..., store_batch_commit   (writer thread)
 *   sync     store_sync_begin -> log_sync_run -> store_sync_complete
 *   prepare  store_prepare_begin -> log_prepare_run -> store_prepare_complete
 *   job      store_job_begin -> store_job_step... -> store_job_resolve... ->
 *            store_job_commit -> store_job_take_in... -> store_job_finish:
 *            flush, compaction, ingest, export, pieces of a range that arrives
 *   grace    store_reclaim, once no reader can see older views
 *
 * Functions marked (any thread) touch only what they are given; all others belong to the
 * one writer thread. A batch becomes visible when it is durable (`sync` always), or when
 * it is appended (an interval): in both cases in order, and acknowledged after it.
 *
 * Invariants
 *   1. Every key has at most one current record over all layers of a view.
 *   2. A view shows exactly the batches up to its sequence.
 *   3. Files named by the manifest, plus the log after the manifest's replay sequence,
 *      are the state: a crash anywhere loses nothing that was durable.
 *   4. Before a manifest edit commits, the log is durable past every kill that the
 *      edit's overlays contain.
 *   5. After a failed sync nothing is written until the store is opened again.
 *
 * Design: docs/design/store.md. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/heap.h"
#include "base/slice.h"
#include "base/status.h"
#include "core/hlc.h"
#include "core/record.h"
#include "store/env.h"
#include "store/log.h"
#include "store/view.h"

struct store;

struct store_options {
    uint64_t hash_seed;         /* Keys the record hashes; the same on all replicas. */
    uint16_t node_id;           /* Goes into versions. */
    uint64_t slot_owner;        /* Whose slot increments add to; 0: that of `node_id`. */
    uint64_t clock_skew_max_ms; /* STORE_APPLY refuses what is stamped further ahead. */
    bool publish_after_sync;    /* `sync` always; else a batch shows once it is appended. */
    uint64_t memtrie_bytes_max; /* A larger memory trie is flushed. */
    uint64_t memory_bytes_max;  /* Of the heap: near to it memory is given back; 0: no bound. */
    uint64_t log_bytes_max;     /* So is one whose log is longer: replay stays bounded. */
    uint64_t log_segment_bytes;
    uint64_t file_bytes;      /* Packed files of the bottom level are cut at this size, of
                                         tiers at twice it, or at 1/512 of what is merged: as
                                         much is built in memory. */
    unsigned tier_runs_max;   /* Runs of one tier before they are merged. */
    uint64_t low_water_bytes; /* Puts stop when less is free on the device. */
    uint64_t reserve_bytes;   /* Kept for deletes, flush and manifest when it is full. */
    uint64_t gc_age_ms;       /* Tombstones younger than this stay. */
    bool keep_transfers; /* Opening leaves NAME_TRANSFER files to the caller, who knows them. */
    uint64_t manifest_rollover_bytes; /* 0: the manifest's default. */
};

/* The documented defaults. */
struct store_options store_options_default(void);

/* What opening found, for the operator. */
struct store_report {
    bool created;
    bool clean_stop; /* The last stop was noted as clean: nothing that anybody saw was lost. */
    uint64_t replayed_batches, replayed_records, replayed_bytes;
    uint64_t torn_bytes;     /* Cut from the log's end: never acknowledged as durable. */
    uint64_t leftover_files; /* Removed: a crash had left them unnamed. */
    char detail[256];        /* On failure: which file, what is wrong, what to do. */
};

/* Opens the directory behind `env`, or creates a store in an empty one. Recovers: loads
 * the files that the manifest names, replays the log after them, removes leftovers.
 * `identity` seeds a new store's identity.
 *
 * Owns:   `env` and `heap` are borrowed until store_close().
 * Errors: STATUS_LOCKED, STATUS_FOREIGN, STATUS_NEWER, STATUS_CORRUPT, STATUS_IO,
 *         STATUS_FULL, STATUS_DENIED, STATUS_NOMEM; `report->detail` names the thing. */
enum status store_open(struct env *env, struct heap *heap, const struct store_options *options,
                       const uint8_t identity[16], uint64_t now_ms, struct store **out,
                       struct store_report *report);

/* Frees everything; flush and sync first for a clean stop (store_is_clean()). */
void store_close(struct store *store);

/* --- Reading (any thread under a grace period) --- */

const struct view *store_view(const struct store *store);

/* A query over a view, of everything; the caller sets `ranges` if it answers for less. */
struct query store_query(const struct view *view, uint64_t now_ms, struct heap *heap,
                         struct query_scratch *scratch);

/* --- Writing --- */

enum store_write_kind {
    STORE_SET,
    STORE_REMOVE,
    STORE_INCREMENT,
    STORE_MERGE,  /* A record from repair, a hint or a backup: joined, not stamped. */
    STORE_APPLY,  /* A record that another node just stamped for a client: joined, but refused
                     with STATUS_STALE if the join would hide what the client asked for. */
    STORE_FORGET, /* Takes the record of `above` away without a trace, if it is the current one:
                     a tombstone that every replica knows, or a key of this node alone. */
};

struct store_write {
    enum store_write_kind kind;
    struct slice key;
    double score; /* STORE_SET: the score; STORE_INCREMENT: by how much. */
    bool has_payload;
    struct slice payload;
    struct slice tags; /* As in struct record. */
    uint64_t expires_at;
    const struct record *record; /* STORE_MERGE, STORE_APPLY. */
    bool is_increment;           /* STORE_APPLY: the record is what an increment made. */
    bool is_upkeep; /* Not of clients, small and bounded: goes while the disk is nearly full, like a
                                    removal. */
    bool leave_tombstone; /* STORE_REMOVE: even where nothing is known of the word, or it is
                             deleted already: another replica may know more. */
    /* STORE_MERGE: what was dead up to `purged_upto` may be gone from replicas. A record that was is
     * not put where nothing stands; and where `knows_all` is set, what stands, or does not, has all
     * that there was up to then: nothing so old is joined to what is newer, or put. 0: none.
     * STORE_MERGE, STORE_APPLY: and so it is with values that were set so long ago. Where all is known, one
     * that is newer than the value that stands was deleted: STORE_MERGE passes over it, STORE_APPLY says
     * STATUS_STALE. Where not, one that stands may have been, and gives way to what has not got it.
     * STORE_INCREMENT: a slot that begins now outlives what was removed up to then. */
    hlc_time purged_upto;
    bool knows_all;
    /* STORE_SET, STORE_REMOVE, STORE_INCREMENT: the new version lies above this one, which a
     * replica is known to hold; none: 0. STORE_FORGET: the version that is to go, none: any. */
    struct version above;
};

struct store_outcome {
    /* Of this write alone; the batch goes on. STATUS_STALE: `version` is what stands in the way,
     * nothing was written. STATUS_CLOCK_SKEW: stamped too far ahead of our clock. */
    enum status status;
    bool was_live;          /* A live word stood there before. */
    bool changed;           /* False: nothing was written (removing what is not there). */
    struct version version; /* Of the record that now stands. */
    double score;           /* As shown. */
    struct slice encoded;   /* If `changed`: the record that now stands (core/record.h), until the
                               next write. */
};

/* OK; STATUS_READ_ONLY after a failed sync; STATUS_FULL below the low-water mark (removals
 * still go, until the log has no room even for those); STATUS_BUSY while memory waits for a
 * flush: ask again after a job. */
enum status store_can_write(const struct store *store);

/* Who stamps from now on, and whose slot increments add to: known only once the store is open. */
void store_set_writer(struct store *store, uint16_t node_id, uint64_t slot_owner);

/* Tombstones younger than this stay, from the next job on; UINT64_MAX: all do, until they are taken
 * away by STORE_FORGET. */
void store_set_gc_age(struct store *store, uint64_t gc_age_ms);

void store_batch_begin(struct store *store, uint64_t now_ms);

/* Resolves one write into the batch. Errors come in `outcome->status`. */
void store_write(struct store *store, const struct store_write *write,
                 struct store_outcome *outcome);

/* store_write() of all in their order; sees to it that none waits for memory alone. */
void store_write_all(struct store *store, const struct store_write *writes,
                     struct store_outcome *outcomes, size_t count);

/* The record of a key as it stands with all that was written so far, visible or not; borrowed until
 * the next write. Errors: STATUS_NOT_FOUND; those of reading. */
enum status store_current(struct store *store, struct slice key, struct record *out);

/* Appends the batch's resulting records to the log. `*sequence` is what
 * store_visible_sequence() must reach before it may be acknowledged; an empty batch
 * gives the last one.
 *
 * Errors: STATUS_FULL, STATUS_NOMEM, STATUS_LIMIT: this batch is dropped as if it had not been,
 * the store goes on. STATUS_IO, STATUS_READ_ONLY: this batch and every later one is dropped, none
 * was or will be visible before the store is opened again. */
enum status store_batch_commit(struct store *store, uint64_t *sequence);

/* What the batch under way will have for its sequence, if it is not empty. */
uint64_t store_next_sequence(const struct store *store);

/* How far the versions that come next are ahead of `wall_ms`, at least: after a start that did not wait
 * out the ceiling of the one before, or for what a peer with a fast clock stamped. */
uint64_t store_ahead_ms(const struct store *store, uint64_t wall_ms);

/* Batches up to here are visible and may be acknowledged. */
uint64_t store_visible_sequence(const struct store *store);

/* Batches up to here are on the disk, however often it is synced. */
uint64_t store_durable_sequence(const struct store *store);

/* --- Sync --- */

/* STATUS_END when nothing waits for a sync, STATUS_BUSY while one is in flight. The slow
 * part is log_sync_run(sync), by any thread. */
enum status store_sync_begin(struct store *store, struct log_sync *sync);

/* Publishes what became durable. On a failed sync drops every batch that is not, and the
 * store is read-only from then on. */
void store_sync_complete(struct store *store, const struct log_sync *sync, enum status status);

/* With an interval: true when a batch waits for a sync all the same (a clock ceiling). */
bool store_sync_is_urgent(const struct store *store);

/* Log segments written in advance: false when none is needed. The slow part is
 * log_prepare_run(prepare), by any thread. */
bool store_prepare_begin(struct store *store, struct log_prepare *prepare);
void store_prepare_complete(struct store *store, struct log_prepare *prepare, enum status status);

/* --- Time and reclaiming --- */

/* Hides words whose expiry has come, looks at the device's free space, and decides what
 * store_job_begin() will find. Call about every 100 ms. */
void store_tick(struct store *store, uint64_t now_ms);

/* Number of the newest view; views before it can be reclaimed after a grace period. */
uint64_t store_view_number(const struct store *store);

/* No reader holds a view with a number up to `view` any more. */
void store_reclaim(struct store *store, uint64_t view);

/* --- Jobs --- */

struct store_job;

enum store_job_kind {
    STORE_JOB_FLUSH,      /* Oldest memory trie to a packed trie. */
    STORE_JOB_COMPACT,    /* Several packed tries to fewer. */
    STORE_JOB_INGEST,     /* A packed trie from elsewhere, merged by the join. */
    STORE_JOB_EXPORT,     /* A key range as one packed trie, tombstones included. */
    STORE_JOB_CHECKPOINT, /* Overlays alone: many kills since they were stored. */
    STORE_JOB_SCRUB,      /* Reads and checks every page of one file. */
    STORE_JOB_RECEIVE,    /* Bytes of a packed trie on its way here, made durable. */
};

/* The most urgent job, or STATUS_END. At most one job is under way at a time. */
enum status store_job_begin(struct store *store, struct store_job **out);

/* Asks for work that does not come by itself; STATUS_BUSY while a job is under way. */
enum status store_flush_begin(struct store *store, struct store_job **out);

/* Copies the packed trie `file_name` in; the source stays. Words that stand here too are joined
 * and logged: it shows once that is durable, like a batch.
 *
 * Errors: STATUS_INVALID if its record hashes have another seed; those of reading it; by a
 * later step STATUS_CORRUPT if any part of it contradicts another, STATUS_LIMIT if more than
 * 64 MiB of keys were written in its range meanwhile. */
enum status store_ingest_begin(struct store *store, const char *file_name, struct store_job **out);

/* `file_name` is a name_of(NAME_TRANSFER): the file is there, whole and durable, once the job is
 * done, and until it is removed or, without `keep_transfers`, the store is opened the next time.
 * A range without a record makes no file; neither does a job that fails.
 *
 * Errors: STATUS_INVALID for another name; STATUS_BUSY while memory waits for a flush;
 * STATUS_EXISTS, by a later step, if there is such a file. */
enum status store_export_begin(struct store *store, const struct key_range *range,
                               const char *file_name, struct store_job **out);

/* Of the file with the least number above `after`; STATUS_END past the last. */
enum status store_scrub_begin(struct store *store, uint64_t after, struct store_job **out);

/* A bounded piece of the building (any thread, one at a time). STATUS_PARTIAL: call again;
 * `*bytes` is what it read and wrote, for pacing. */
enum status store_job_step(struct store_job *job, uint64_t *bytes);

/* Once built: takes in what was written meanwhile, in bounded pieces. STATUS_PARTIAL: more
 * to take in; STATUS_BUSY: the log must become durable first (sync, then call again). */
enum status store_job_resolve(struct store *store, struct store_job *job);

/* Makes the manifest edit durable (any thread). */
enum status store_job_commit(struct store_job *job);

/* After a good commit: takes in what was written since it began, in bounded pieces.
 * STATUS_PARTIAL: more to take in. STATUS_NOMEM: nothing is lost, call again later. Once it is
 * STATUS_OK, finish before the next batch. */
enum status store_job_take_in(struct store *store, struct store_job *job);

/* Publishes the outcome, or undoes what an error left; frees the job in either case. `status` is
 * that of the last step. What is not taken in yet is now, and all at once; a failure of that
 * makes the store read-only. */
enum status store_job_finish(struct store *store, struct store_job *job, enum status status);

enum store_job_kind store_job_kind(const struct store_job *job);

/* Number of the file that a scrub reads: the next scrub goes on after it. */
uint64_t store_job_file(const struct store_job *job);
const char *store_job_name(enum store_job_kind kind);

/* --- Ranges on their way --- */

/* For who moves ranges between nodes and drives no jobs: what is asked for here is done by jobs that
 * store_job_begin() finds, in order, taking turns with compactions. Files have a number that the
 * caller draws. Unless `keep_transfers` is set, those of an earlier start are gone. */

enum { STORE_TRANSFERS_MAX = 8 }; /* Asked for, and not told of yet. */

enum store_transfer_kind {
    STORE_TRANSFER_EXPORT,  /* A key range, or its beginning, into a file. */
    STORE_TRANSFER_RECEIVE, /* Bytes to the end of a file. */
    STORE_TRANSFER_INGEST,  /* A file into the store. */
};

/* What became of one. */
struct store_transfer {
    enum store_transfer_kind kind;
    uint64_t number;
    enum status status;
    uint64_t size_bytes; /* EXPORT: of the file; 0: the range has no record, there is no file. */
    struct slice end;    /* EXPORT: the first key that is not in it; empty: all are. */
};

/* As store_export_begin(), but the file ends near `bytes_max`: as much is built in memory.
 * Errors, here and of the next two: STATUS_BUSY when too many were asked for; STATUS_NOMEM. */
enum status store_transfer_export(struct store *store, uint64_t number,
                                  const struct key_range *range, uint64_t bytes_max);

/* Writes `bytes` at `offset`, at 0 into a new file, and makes them durable. The outcome is
 * STATUS_FULL below the low-water mark. */
enum status store_transfer_receive(struct store *store, uint64_t number, uint64_t offset,
                                   struct slice bytes);

/* As store_ingest_begin(). The outcome is STATUS_INVALID if the file has a key outside `range`. */
enum status store_transfer_ingest(struct store *store, uint64_t number,
                                  const struct key_range *range);

/* One that is done, and was not told; false: none. `out->end` lasts until the next call. */
bool store_transfer_next(struct store *store, struct store_transfer *out);

/* Appends bytes of a file to `out`. Errors: STATUS_NOT_FOUND; STATUS_END if it is shorter. */
enum status store_transfer_read(struct store *store, uint64_t number, uint64_t offset, size_t size,
                                struct buf *out);

/* Removes the file; what was asked for about it is not told any more. One that a crash brings back
 * is for the next start to remove. */
void store_transfer_remove(struct store *store, uint64_t number);

/* Calls `visit` for each file that is there, with its size; it may remove it. Errors: those of
 * reading the directory. */
enum status store_transfer_list(struct store *store,
                                void (*visit)(void *context, uint64_t number, uint64_t size_bytes),
                                void *context);

/* --- Facts --- */

/* Everything is in packed files and durable: the next start replays nothing. */
bool store_is_clean(const struct store *store);

/* Of a clean store that is about to be closed: notes that durably, for the next start. It takes
 * no writes any more. Errors: those of the device; STATUS_BUSY if it is not clean. */
enum status store_note_clean_stop(struct store *store);

struct store_stats {
    uint64_t live_count, current_count, tombstone_count;
    uint64_t memtrie_count, memtrie_bytes, run_count, run_bytes, dead_count;
    uint64_t overlay_bytes, noted_bytes; /* Memory of overlays; of keys that a job takes in. */
    uint64_t log_bytes;                  /* To replay after a crash now. */
    uint64_t log_written_bytes, run_written_bytes, manifest_written_bytes, user_bytes;
    uint64_t batches, writes, syncs, flushes, compactions, scrubbed_pages;
    uint64_t sequence_appended, sequence_durable, sequence_visible;
    uint64_t view_number, settled_ms;
    uint64_t free_bytes;
    bool read_only, full, damaged;
};
void store_stats(const struct store *store, struct store_stats *stats);

/* What record hashes are keyed by: equal on all replicas. */
uint64_t store_hash_seed(const struct store *store);

/* Name of the first damaged file, or NULL. */
const char *store_damaged_file(const struct store *store);
