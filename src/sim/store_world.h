/* A store on a simulated disk, driven step by step by one thread.
 *
 * What the shell does with threads is done here in an order that the test, or a seed,
 * chooses: batches, syncs, jobs piece by piece, grace periods. Every step that meets a
 * crash of the disk gives up, as a process would; store_world_restart() then opens the
 * store again from what the disk kept. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/prng.h"
#include "sim/disk.h"
#include "store/store.h"

struct store_world {
    struct sim_disk *disk;
    struct heap heap;
    struct store_options options;
    struct store *store; /* NULL while it could not be opened. */
    struct store_report report;
    struct query_scratch *scratch;
    struct store_job *job;
    enum {
        STORE_WORLD_BUILDING,
        STORE_WORLD_RESOLVING,
        STORE_WORLD_COMMITTING,
        STORE_WORLD_TAKING_IN,
    } stage;
    uint64_t now_ms;
};

/* Options with everything small, so that a few hundred writes make files of every level. */
struct store_options store_world_options(void);

/* Creates the disk and opens the store. */
enum status store_world_init(struct store_world *world, uint64_t seed,
                             const struct store_options *options);
void store_world_deinit(struct store_world *world);

/* One batch; outcomes may be NULL. `*sequence` as store_batch_commit() gives it. */
enum status store_world_write(struct store_world *world, const struct store_write *writes,
                              size_t count, struct store_outcome *outcomes, uint64_t *sequence);

/* A whole sync, if one is due. */
enum status store_world_sync(struct store_world *world);

/* One step of the job under way, beginning one if there is any to do. STATUS_END: nothing
 * to do; STATUS_PARTIAL: under way; STATUS_OK: one was finished; STATUS_NOMEM with a job still
 * under way: it is committed, and goes on once there is memory. */
enum status store_world_job_step(struct store_world *world);

/* Flushes and compacts until there is nothing left to do. */
enum status store_world_settle_down(struct store_world *world);

/* No reader holds a view: everything older than the newest may go. */
void store_world_reclaim(struct store_world *world);

/* Closes the store (whatever was under way is lost) and opens it again. */
enum status store_world_restart(struct store_world *world, enum sim_disk_restart how);

/* Its two ends, for whoever has something to do with the disk between them. A closed world
 * may be closed again. */
void store_world_close(struct store_world *world);
enum status store_world_open(struct store_world *world);

/* A query over the newest view. */
struct query store_world_query(const struct store_world *world);
