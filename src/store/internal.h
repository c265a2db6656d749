/* What the files of the store share. Nobody else includes this.
 *
 * The writer works on the *tip*: the newest state, which may hold batches that are not
 * durable yet. Each commit freezes the tip into a pending view; a view is published when
 * its log sequence is durable, or at once, as the options say. */
#pragma once

#include <stdatomic.h>

#include "core/memtrie.h"
#include "core/overlay.h"
#include "core/packed.h"
#include "core/query.h"
#include "store/log.h"
#include "store/manifest.h"
#include "store/names.h"
#include "store/reserve.h"
#include "store/run.h"
#include "store/store.h"

enum {
    STORE_RUN_COUNT_MAX = 4096,
    STORE_LAYER_COUNT_MAX = STORE_RUN_COUNT_MAX + 2,
    STORE_BOTTOM_LEVEL = 3,           /* Levels below it are tiers. */
    STORE_TIER_FILE_SHARE = 2,        /* Their files are cut at so many times `file_bytes`. */
    STORE_SETTLE_STEP = 4096,         /* Words hidden in one tick at most. */
    STORE_RESOLVE_STEP = 1024,        /* Touched keys taken in by one call. */
    STORE_CHECKPOINT_KILLS = 1 << 20, /* Overlays are stored after so many kills. */
    STORE_BATCH_KEEP_BYTES = 8 << 20, /* A larger batch's memory is given back. */
    STORE_CEILING_STEP_MS = 2000,     /* How far ahead the clock's ceiling is persisted. */
    STORE_CEILING_MARGIN_MS = 1000,   /* It is raised when the clock comes this near. */
};

/* One memory trie with its place in the log. */
struct generation {
    struct memtrie trie;
    memtrie_root root;       /* Of the tip. */
    memtrie_root expiry;     /* Index of its words that expire, likewise. */
    uint64_t sequence_last;  /* Once frozen: the last batch that wrote to it. */
    bool pinned;             /* A job reads a root of it: nothing is reclaimed meanwhile. */
    uint64_t retired_in;     /* Once replaced: the last view that can see it; 0: in use. */
    struct generation *next; /* In the list of retired ones. */
};

/* The memory of the overlays, in which the tip's roots and those of views lie. */
struct overlay_holder {
    struct overlay_space space;
    uint64_t retired_in; /* Once replaced: the last view that can see it; 0: in use. */
    struct overlay_holder *next;
};

struct transfer_task;

/* A view that waits for its batches to become durable. */
struct pending_view {
    struct view *view;
    struct pending_view *next;
};

/* The tip before a batch, to go back to when the log does not take it. */
struct batch_start {
    memtrie_root active, active_expiry, frozen, frozen_expiry;
    uint64_t active_retired, frozen_retired, overlays_retired; /* As arena_unretire() wants. */
    uint64_t kills_unstored;
    size_t touched_size;
};

struct store {
    struct env *env;
    struct heap *heap;
    struct store_options options;
    bool locked;

    struct log *log;
    struct manifest *manifest;
    struct hlc clock;
    uint64_t stamp_ms; /* The time of the batch under way; unlike `now_ms` it may go back. */
    hlc_time ceiling;  /* Logged; durable once `ceiling_sequence` is. */
    uint64_t ceiling_sequence;
    uint64_t now_ms; /* As last told. */

    /* The tip. */
    struct generation *active;
    struct generation *frozen; /* NULL, or waiting for or under a flush. */
    struct overlay_holder *overlay_holder;
    struct overlay_space *overlays; /* Its space. */
    struct run **runs;              /* Newest number first; any order would be right. */
    size_t run_count, run_capacity;
    uint64_t settled_ms;
    uint64_t kills_unstored; /* Since overlays were last stored. */

    /* The batch under way. */
    struct buf batch;
    uint64_t batch_count;
    uint64_t batch_number;
    struct batch_start batch_start;
    struct buf owed; /* What an ingest changed and the log had no room for: goes first. */
    struct buf scratch, scratch_key, encoded;
    uint64_t ticked_sequence;   /* The last batch at the last tick. */
    uint64_t flushed_sequence;  /* The log after it is replayed at the next start. */
    _Atomic uint64_t next_file; /* Number of the next run or overlay. */

    /* Views. */
    _Atomic(struct view *) view;
    struct pending_view *pending_first, *pending_last;
    uint64_t view_last; /* Number of the newest view made, published or not. */
    struct view *retired_views;
    struct run *retired_runs;
    struct generation *retired_generations;
    struct overlay_holder *retired_overlays;

    enum status failed;    /* Why nothing is written any more; STATUS_OK while it is. */
    bool full;             /* Below the low-water mark, or something met STATUS_FULL. */
    bool no_room;          /* The log did not even take a removal: nothing goes until a tick. */
    uint64_t reserve_held; /* Bytes, as far as we know. */
    bool
        boot_unnoted; /* The manifest had no room for it: goes with the next edit. Syncs come first. */
    struct store_job *job;
    struct transfer_task *transfers; /* Asked for, the oldest first. */
    struct buf transfer_end;         /* Of the one that was told last. */
    bool transfer_waits;             /* The last job was one: it is a compaction's turn. */
    struct name damaged_file;        /* The first one found; empty: none. */
    struct store_stats totals;       /* Counters that only grow. */
};

/* Where a key's current record lies. */
enum place_kind { PLACE_NOWHERE, PLACE_ACTIVE, PLACE_FROZEN, PLACE_RUN };

struct place {
    enum place_kind kind;
    struct run *run;
    uint64_t ordinal;
    bool hidden;
};

/* --- write.c --- */

/* The current record of `key` at the tip. Errors: STATUS_CORRUPT, STATUS_NOMEM. */
enum status store_find(struct store *store, struct slice key, struct place *place,
                       struct record *record);

/* Makes `record` the current one of `key`: puts it into the active memory trie and kills
 * the former one at `place`.
 *
 * Errors: STATUS_NOMEM, STATUS_CORRUPT: nothing is changed, or the store is poisoned. */
enum status store_install(struct store *store, struct slice key, const struct record *record,
                          const struct place *place, const struct record *former);

/* Joins `record` into the store and, if that changes anything and it is to be `logged`,
 * appends the result to the batch. */
enum status store_merge(struct store *store, struct slice key, const struct record *record,
                        bool logged, struct store_outcome *outcome);

/* Takes the record of `version` away, if it is the current one of `key`, and appends that to
 * the batch if it is to be `logged`. Errors: as store_install(). */
enum status store_forget(struct store *store, struct slice key, struct version version, bool logged,
                         struct store_outcome *outcome);

/* The overlay of `run` is about to be changed by the batch under way. */
void store_save_run(struct store *store, struct run *run);

/* Appends the batch, with the help of the reserve if need be. Errors: STATUS_FULL,
 * STATUS_NOMEM, STATUS_LIMIT: not appended, the log goes on; any other is final. */
enum status store_append_batch(struct store *store, uint64_t *sequence);

/* The tip is again what it was before the batch under way. */
void store_take_back(struct store *store);

/* From here on every write fails with `status`; views that are pending are dropped. */
void store_poison(struct store *store, enum status status);

/* --- open.c --- */

/* Makes the next `count` calls of store_add_run() succeed. Errors: STATUS_NOMEM, STATUS_LIMIT. */
enum status store_reserve_runs(struct store *store, size_t count);

/* Errors: as store_reserve_runs(); the run is then still the caller's. */
enum status store_add_run(struct store *store, struct run *run);

/* Notes in `edit` that the store was opened once more. */
void store_edit_boot(const struct store *store, struct manifest_edit *edit);

/* --- views.c --- */

struct generation *generation_create(struct store *store);
void generation_destroy(struct store *store, struct generation *generation);

/* Freezes the tip into a pending view and publishes what may be.
 * Errors: STATUS_NOMEM: the next view shows it. */
enum status store_make_view(struct store *store);

/* The same in two steps: nothing can fail after the first. */
enum status store_prepare_view(struct store *store, struct pending_view **out);
void store_add_view(struct store *store, struct pending_view *pending);
void store_drop_view(struct store *store, struct pending_view *pending);
void store_publish(struct store *store);
void store_drop_pending(struct store *store);

/* Frees all that waits for a grace period, and removes its files; no reader may be left. */
void store_free_retired(struct store *store);
void store_retire_run(struct store *store, struct run *run);
void store_retire_generation(struct store *store, struct generation *generation);

/* --- upkeep.c --- */

/* Hides what of `run` expires after `after_ms` and up to `upto_ms`. */
enum status store_settle_run(struct store *store, struct run *run, uint64_t after_ms,
                             uint64_t upto_ms);

/* Gives the reserve back to the file system; false if there is none. */
bool store_use_reserve(struct store *store);

/* Fills the reserve if there is room for it. Errors: of the device; STATUS_FULL if there is not. */
enum status store_fill_reserve(struct store *store);

/* --- pressure.c --- */

struct overlay_holder *overlay_holder_create(struct heap *heap);
void overlay_holder_destroy(struct heap *heap, struct overlay_holder *holder);

/* Whether more than three quarters of the memory are in use. */
bool store_is_pressed(const struct store *store);

/* Whether the active memory trie is to be flushed before it has its size. */
bool store_wants_early_flush(const struct store *store);

/* Gives back what the overlays' arena holds and does not need, if memory is short. Not within a
 * batch. Cost: O(overlays). */
void store_move_overlays(struct store *store);

/* --- plan.c --- */

struct plan {
    struct run *runs[STORE_RUN_COUNT_MAX];
    size_t run_count;
    unsigned level; /* Of the output. */
};

/* Which runs to merge next. False: none. */
bool plan_compaction(const struct store *store, struct plan *plan);

/* --- transfer.c --- */

/* Begins the oldest that waits. Errors: STATUS_END if there is none, or it is not its turn. */
enum status store_transfer_begin(struct store *store, struct store_job **out);

/* The job of `task` has ended. */
void store_transfer_complete(struct store *store, struct transfer_task *task, enum status status);
void store_free_transfers(struct store *store);

/* --- job_resolve.c --- */

/* Makes room for one more store_job_touch() of `key`, which then cannot fail. Errors: STATUS_NOMEM. */
enum status store_job_expect(struct store *store, struct slice key);

/* Tells the job under way that `key`, current in one of its inputs, is so no more, or that a key
 * in its range was written. */
void store_job_touch(struct store *store, struct slice key, const struct place *place);

/* Bytes noted so far; 0 without a job. */
size_t store_job_touched(const struct store *store);

/* Forgets what was noted beyond `touched_size`, and calls `take_back` for each output once all
 * are built: what a batch killed in them before that is nothing. */
void store_job_take_back(struct store *store, size_t touched_size,
                         void (*take_back)(struct store *store, struct run *run));
