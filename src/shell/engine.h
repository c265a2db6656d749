/* The engine: a store with the threads that drive it.
 *
 *   writer    takes what was submitted, makes batches, completes syncs and jobs
 *   syncer    makes the log durable while the next batch is made
 *   builder   flushes, compacts and scrubs, at a bounded rate
 *   upkeep    waits for grace periods, writes log segments in advance
 *
 * Reader threads take views of the store by themselves: see shell/grace.h. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/status.h"
#include "store/store.h"

enum {
    ENGINE_QUEUE_COUNT_MAX = 16384, /* Submissions that wait; more get STATUS_BUSY. */
    ENGINE_BATCH_WRITES_MAX = 16384,
    ENGINE_TICK_MS = 100,
    ENGINE_GRACE_MS = 5, /* Between the grace periods of views that were replaced. */
};

struct engine;

struct engine_write;
struct node_terms;
struct node_question;

/* What takes submissions in place of the store, when this node is a member of a cluster: shell/host.h.
 * All but `wake` runs on the writer thread. */
struct engine_host {
    void *context;

    /* A list to be answered by `done` of the options, each when it is. */
    void (*submit)(void *context, struct engine_write *list);

    /* What has come in meanwhile; then what all of that wrote becomes one batch. */
    void (*turn)(void *context);

    /* After each sync of the log. */
    void (*synced)(void *context);

    /* Until something comes in, or somebody wakes it, or so long. */
    void (*wait)(void *context, uint32_t wait_ms);
    void (*wake)(void *context); /* (any thread) */

    /* Asked after each turn at the end; false: others wait for something still. */
    bool (*may_stop)(void *context);

    /* From here on nothing is written any more but what the store itself does. */
    void (*stop)(void *context);
};

struct engine_options {
    struct store_options store;
    /* Takes submissions back, a list of those that ended together. On the writer thread: it
     * must only hand them on. */
    void (*done)(struct engine_write *list);
    uint32_t sync_interval_ms;  /* 0: always, before anything is acknowledged. */
    uint64_t build_bytes_per_s; /* Bound on what the builder writes; 0: none. */
    uint32_t scrub_interval_s;  /* Between two passes over a file; 0: never. */
    const char *directory;

    /* Looks at the open store before any thread runs, and may fill `*host`; NULL: there is none. */
    enum status (*open_host)(void *context, struct store *store, struct env *env,
                             struct engine_host *host, struct store_report *report);
    void *open_context;
};

/* One submission: writes that take effect together with others of their batch.
 *
 * Owns: the submitter keeps it, and all it points to, until it is given to `done`. */
struct engine_write {
    struct store_write *writes;
    struct store_outcome *outcomes;
    struct node_terms *terms; /* One for each write; for a host. */
    size_t count;
    struct node_question *question; /* A read, in place of writes; for a host. NULL: none. */
    const void *owner;              /* Whose it is: its loads are written one after the other. */
    bool is_load;                   /* Sets alone, whose order does not show. */

    enum status status; /* Of the batch: when not OK nothing of it took effect,
                                 or with STATUS_TIMEOUT the outcome is unknown. */
    uint64_t sequence;
    struct engine_write *next; /* In a list; the engine's while it has it. */
};

/* Opens the store in a directory and starts the threads.
 * Errors: those of store_open(), with `report->detail`. */
enum status engine_open(struct heap *heap, const struct engine_options *options,
                        struct engine **out, struct store_report *report);

/* Finishes what was submitted, flushes, and ends the threads. No reader may hold a view. */
void engine_close(struct engine *engine);

/* Submits a list, in its order. What finds no room, the end of the list, stays the caller's
 * and is returned; NULL: all is submitted. (any thread) */
struct engine_write *engine_submit(struct engine *engine, struct engine_write *list);

/* The current view. (any thread that is online) */
const struct view *engine_view(const struct engine *engine);

struct engine_stats {
    struct store_stats store;
    uint64_t queue_count; /* Submissions waiting now. */
    uint64_t batches, submissions;
    uint64_t sync_us_sum, sync_us_max;
    uint64_t job_under_way; /* 1 while one is. */
    uint64_t memory_bytes;
    char job_name[16];
    char damaged_file[64];
};

/* As of the last tick. (any thread) */
void engine_stats(struct engine *engine, struct engine_stats *out);

/* Why the engine cannot take writes now; STATUS_OK when it can. (any thread) */
enum status engine_write_status(const struct engine *engine);
