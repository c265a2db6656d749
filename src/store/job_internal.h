/* A job: files built beside the store, then taken in. See store.h for its life.
 *
 * While it is built the writer notes every key that stops being current in one of the
 * inputs (an ingest: every key written in its range). What is noted is killed in the
 * outputs' overlays before they are shown, so that each key stays current once. */
#pragma once

#include "core/dictionary.h"
#include "store/internal.h"

enum {
    JOB_STEP_ENTRIES = 4096, /* Built in one step. */
    JOB_SAMPLE_RUN = 128,    /* Neighbouring keys of a dictionary's sample. */
    JOB_TRAIN_BYTES_MAX = 2 << 20,
    JOB_TRAIN_BYTES_FLUSH = 512 << 10, /* A flush trains only where no dictionary is yet. */
    JOB_NOTE_BYTES_MAX = 21,           /* Of a note, beside its key. */
    JOB_OUTPUT_COUNT_MAX = 1024,
    JOB_OUTPUT_COUNT_AIM = JOB_OUTPUT_COUNT_MAX / 2, /* A merge's, by the size of its inputs. */
};

/* An ingest that is raced by more keys than this gives up. What a flush or a compaction notes
 * is bounded by its inputs. */
enum { JOB_TOUCHED_BYTES_MAX = 64 << 20 };

enum job_stage {
    JOB_TRAIN,
    JOB_BUILD,
    JOB_BUILT,
    JOB_WAITING,   /* For the log to become durable. */
    JOB_READY,     /* To commit. */
    JOB_COMMITTED, /* Or on the way to that. */
    JOB_TAKING_IN, /* Committed: what was written meanwhile goes in, and it is published. */
};

/* What was asked of the store about a file on its way. */
struct transfer_task {
    enum store_transfer_kind kind;
    uint64_t number;
    enum { TASK_WAITS, TASK_UNDER_WAY, TASK_DONE } state;
    enum status status;
    bool dropped; /* Nobody wants to know: the file goes when its job ends. */
    struct buf low, high;
    uint64_t bytes_max;  /* EXPORT */
    uint64_t offset;     /* RECEIVE */
    struct buf bytes;    /* RECEIVE */
    uint64_t size_bytes; /* EXPORT: of what was made. */
    struct buf end;      /* EXPORT */
    struct transfer_task *next;
};

/* An overlay to be stored by the commit. */
struct job_overlay {
    struct run *run;
    uint64_t number;
    uint64_t change_count;
    struct buf bytes;
};

struct store_job {
    enum store_job_kind kind;
    struct store *store; /* The building reads of it only what never changes. */
    struct heap *heap;
    struct env *env;
    enum job_stage stage;

    /* Inputs: their state when the job began. */
    struct generation *frozen;
    struct run **inputs;
    size_t input_count;
    struct overlay_space overlays; /* Private copies: the store's own are reclaimed meanwhile. */
    struct layer *layers;
    size_t layer_count;
    struct buf low, high; /* Range: of an export, and of an ingest's keys. */
    struct key_range range;
    uint64_t purge_ms; /* Tombstones and expired words up to here are dropped; 0: none. */

    /* Building. */
    struct dictionary *dictionary;
    struct query_iterator *iterator;
    bool iterator_started;
    struct packed_builder *builder;
    uint64_t file_bytes; /* Where outputs are cut: as much is built in memory; 0: one output. */
    unsigned level;
    struct run **outputs;
    size_t output_count;
    uint64_t written_bytes;
    char file_name[NAME_BYTES_MAX]; /* Of an export, or an ingest's source. */
    bool made_file;                 /* The export's file is there, and ours. */
    uint64_t page;                  /* Next to be scrubbed. */
    struct packed_iterator overlap; /* An ingest's keys, compared with what is there. */
    bool overlap_started;

    /* Taking in. */
    struct buf touched; /* The writer's: varint size, key; or 0, varint input, varint ordinal. */
    size_t touched_done;
    bool overrun;      /* An ingest met more writes than it may note. */
    bool is_taking_in; /* The outputs are built: the builder adds none any more. */
    uint64_t needed_sequence;
    uint64_t flushed_sequence; /* Of a flush or checkpoint: the replay starts after it. */
    uint64_t settled_ms;       /* Up to when the outputs' overlays hide what expired. */
    struct job_overlay *stored;
    size_t stored_count;
    struct manifest_edit edit;
    struct manifest_commit commit;
    bool commit_begun;

    struct store_snapshot *snapshot; /* Of a flush: the one that waits for it, or NULL. */
    struct transfer_task *task;      /* That it is done for, or NULL. */
};

/* --- job_build.c --- */

enum status job_train(struct store_job *job);
enum status job_build(struct store_job *job);
enum status job_ingest_step(struct store_job *job);
enum status job_scrub_step(struct store_job *job);
enum status job_receive_step(struct store_job *job);

/* --- job_begin.c --- */

/* Begins the job of a task. Errors: those of store_export_begin(), store_ingest_begin(). */
enum status job_begin_task(struct store *store, struct transfer_task *task, struct store_job **out);

/* --- job_resolve.c --- */

/* Takes in up to `limit` of the noted keys. STATUS_PARTIAL when more are left. */
enum status job_drain_touched(struct store_job *job, size_t limit);

/* Whether the job changes the manifest. */
bool job_has_edit(const struct store_job *job);

/* --- job_publish.c --- */

/* The manifest has it, and all is taken in: now the tip and the next view have it. Nothing of
 * this can fail. */
void job_publish(struct store_job *job);

/* Takes back what a job made that was certainly not committed. */
void job_undo(struct store_job *job);

/* A commit whose outcome is not known leaves every file where it is: the next start knows. */
void job_abandon(struct store_job *job, enum status status);

/* --- snapshot.c --- */

/* Ends the wait of the job's snapshot, if one waits: the first `output_count` outputs, as they
 * were built, are what it lacks; or the flush has failed. */
void snapshot_complete(struct store_job *job, enum status status, size_t output_count);

/* --- job.c --- */

void job_destroy(struct store_job *job);
void job_close_overlap(struct store_job *job);
