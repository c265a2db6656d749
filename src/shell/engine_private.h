/* What the files of the engine share: see engine.h. */
#pragma once

#include <pthread.h>

#include "shell/engine.h"

/* What another thread does for the writer, one piece of each kind at a time: the writer
 * sets it to WANTED, the thread to DONE, and the writer back to IDLE. */
enum errand_state { ERRAND_IDLE, ERRAND_WANTED, ERRAND_DONE };

struct errand {
    enum errand_state state;
    enum status status;
};

struct engine {
    struct heap *heap;
    struct engine_options options;
    struct env *env;
    struct store *store;
    struct engine_host host; /* `submit` is NULL: there is none. */

    pthread_mutex_t mutex; /* Guards all down to `stats`. */
    pthread_cond_t to_writer, to_syncer, to_builder, to_upkeep;
    bool stopping;
    bool ended; /* The writer is done: the other threads end. */
    struct engine_write *queue_first, *queue_last;
    size_t queue_count;
    struct errand sync, grace, prepare, job;
    uint64_t grace_view;
    bool job_commit; /* What the builder is asked for: the commit, or the building. */
    struct engine_stats stats;

    /* The writer's. */
    struct engine_write *waiting_first, *waiting_last; /* For their sequence to be visible. */
    struct log_sync log_sync;
    struct log_prepare log_prepare;
    struct store_job *store_job;
    bool job_committed; /* It is taken in and published, nothing is asked of the builder. */
    uint64_t reclaimed_view, grace_us;
    uint64_t tick_us, sync_us, sync_begun_us;
    uint64_t batches, submissions, sync_us_sum, sync_us_max;
    uint64_t scrub_after, scrub_us;
    uint64_t job_retry_us;               /* After a failure the next job waits. */
    uint64_t job_look_us;                /* When one was last looked for. */
    enum status job_failure;             /* Of the last job, ... */
    enum store_job_kind job_failed_kind; /* ... and which it was. */
    bool stop_failed;  /* The flush at the end did not work: the log has it all. */
    bool host_stopped; /* It is told once. */

    _Atomic enum status write_status;
    pthread_t writer, syncer, builder, upkeep;
    int thread_count;
};

/* --- engine_errand.c --- */

/* The writer asks for an errand that is idle. */
void engine_want(struct engine *engine, struct errand *errand, pthread_cond_t *condition);

/* Where an errand stands; one that is done is idle again afterwards, and gives its status. */
enum errand_state engine_take(struct engine *engine, struct errand *errand, enum status *status);

bool engine_is_stopping(struct engine *engine);

/* Ends the writer's wait. (any thread) */
void engine_wake_writer(struct engine *engine);

static inline bool engine_is_hosted(const struct engine *engine)
{
    return engine->host.submit != NULL;
}

/* The threads; each ends when the writer has ended. */
void *engine_run_syncer(void *argument);
void *engine_run_upkeep(void *argument);
void *engine_run_builder(void *argument);

/* --- engine_job.c, engine_writer.c --- */

/* One turn of the job under way; true when there is more to do at once. */
bool engine_drive_job(struct engine *engine);

void *engine_run_writer(void *argument);
