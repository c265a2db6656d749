/* Errands: what the other threads do for the writer. */
#include <time.h>

#include "base/check.h"
#include "shell/engine_private.h"
#include "shell/grace.h"

void engine_want(struct engine *engine, struct errand *errand, pthread_cond_t *condition)
{
    pthread_mutex_lock(&engine->mutex);
    CHECK(errand->state == ERRAND_IDLE);
    errand->state = ERRAND_WANTED;
    pthread_mutex_unlock(&engine->mutex);
    pthread_cond_signal(condition); /* Not before: who wakes up needs the mutex. */
}

/* Waits for an errand; false at the end. The mutex is held before and after. */
static bool await(struct engine *engine, const struct errand *errand, pthread_cond_t *condition)
{
    while (errand->state != ERRAND_WANTED && !engine->ended)
        pthread_cond_wait(condition, &engine->mutex);
    return errand->state == ERRAND_WANTED;
}

/* The mutex is held before and after, not while the writer wakes up. */
static void finish(struct engine *engine, struct errand *errand, enum status status)
{
    errand->status = status;
    errand->state = ERRAND_DONE;
    pthread_mutex_unlock(&engine->mutex);
    engine_wake_writer(engine);
    pthread_mutex_lock(&engine->mutex);
}

enum errand_state engine_take(struct engine *engine, struct errand *errand, enum status *status)
{
    pthread_mutex_lock(&engine->mutex);
    enum errand_state state = errand->state;
    if (state == ERRAND_DONE) {
        errand->state = ERRAND_IDLE;
        *status = errand->status;
    }
    pthread_mutex_unlock(&engine->mutex);
    return state;
}

bool engine_is_stopping(struct engine *engine)
{
    pthread_mutex_lock(&engine->mutex);
    bool stopping = engine->stopping;
    pthread_mutex_unlock(&engine->mutex);
    return stopping;
}

void engine_wake_writer(struct engine *engine)
{
    if (engine_is_hosted(engine))
        engine->host.wake(engine->host.context);
    else
        pthread_cond_signal(&engine->to_writer);
}

void *engine_run_syncer(void *argument)
{
    struct engine *engine = argument;
    pthread_mutex_lock(&engine->mutex);
    while (await(engine, &engine->sync, &engine->to_syncer)) {
        pthread_mutex_unlock(&engine->mutex);
        enum status status = log_sync_run(&engine->log_sync);
        pthread_mutex_lock(&engine->mutex);
        finish(engine, &engine->sync, status);
    }
    pthread_mutex_unlock(&engine->mutex);
    return NULL;
}

void *engine_run_upkeep(void *argument)
{
    struct engine *engine = argument;
    pthread_mutex_lock(&engine->mutex);
    for (;;) {
        while (engine->grace.state != ERRAND_WANTED && engine->prepare.state != ERRAND_WANTED &&
               !engine->ended)
            pthread_cond_wait(&engine->to_upkeep, &engine->mutex);
        if (engine->grace.state == ERRAND_WANTED) {
            pthread_mutex_unlock(&engine->mutex);
            grace_wait();
            pthread_mutex_lock(&engine->mutex);
            finish(engine, &engine->grace, STATUS_OK);
        } else if (engine->prepare.state == ERRAND_WANTED) {
            pthread_mutex_unlock(&engine->mutex);
            enum status status = log_prepare_run(&engine->log_prepare);
            pthread_mutex_lock(&engine->mutex);
            finish(engine, &engine->prepare, status);
        } else {
            break;
        }
    }
    pthread_mutex_unlock(&engine->mutex);
    return NULL;
}

static void pause_for(uint64_t bytes, uint64_t bytes_per_s)
{
    if (bytes_per_s == 0 || bytes == 0) return;
    uint64_t us = bytes * 1000000 / bytes_per_s;
    struct timespec time = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
    nanosleep(&time, NULL);
}

/* A flush frees memory that writers wait for: it is not held back. */
static enum status build(struct engine *engine)
{
    enum status status;
    struct store_job *job = engine->store_job;
    uint64_t rate = store_job_kind(job) == STORE_JOB_FLUSH ? 0 : engine->options.build_bytes_per_s;
    do {
        uint64_t bytes = 0;
        status = store_job_step(job, &bytes);
        pause_for(bytes, rate);
    } while (status == STATUS_PARTIAL);
    return status;
}

void *engine_run_builder(void *argument)
{
    struct engine *engine = argument;
    pthread_mutex_lock(&engine->mutex);
    while (await(engine, &engine->job, &engine->to_builder)) {
        bool commit = engine->job_commit;
        pthread_mutex_unlock(&engine->mutex);
        enum status status = commit ? store_job_commit(engine->store_job) : build(engine);
        pthread_mutex_lock(&engine->mutex);
        finish(engine, &engine->job, status);
    }
    pthread_mutex_unlock(&engine->mutex);
    return NULL;
}
