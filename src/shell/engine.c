#include "shell/engine.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/math.h"
#include "shell/clock.h"
#include "shell/file_env.h"
#include "shell/grace.h"

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
    uint64_t reclaimed_view;
    uint64_t tick_us, sync_us, sync_begun_us;
    uint64_t batches, submissions, sync_us_sum, sync_us_max;
    uint64_t scrub_after, scrub_us;
    uint64_t job_retry_us; /* After a failure the next job waits. */

    _Atomic enum status write_status;
    pthread_t writer, syncer, builder, upkeep;
    int thread_count;
};

/* --- Errands --- */

static void want(struct errand *errand, pthread_cond_t *condition)
{
    CHECK(errand->state == ERRAND_IDLE);
    errand->state = ERRAND_WANTED;
    pthread_cond_signal(condition);
}

/* Waits for an errand; false at the end. The mutex is held before and after. */
static bool await(struct engine *engine, const struct errand *errand, pthread_cond_t *condition)
{
    while (errand->state != ERRAND_WANTED && !engine->ended)
        pthread_cond_wait(condition, &engine->mutex);
    return errand->state == ERRAND_WANTED;
}

static void finish(struct engine *engine, struct errand *errand, enum status status)
{
    errand->status = status;
    errand->state = ERRAND_DONE;
    pthread_cond_signal(&engine->to_writer);
}

/* True once, when the errand is done. */
static bool take_done(struct errand *errand, enum status *status)
{
    if (errand->state != ERRAND_DONE) return false;
    errand->state = ERRAND_IDLE;
    *status = errand->status;
    return true;
}

static void *run_syncer(void *argument)
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

static void *run_upkeep(void *argument)
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

static void *run_builder(void *argument)
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

/* --- The writer --- */

static void complete_visible(struct engine *engine)
{
    uint64_t visible = store_visible_sequence(engine->store);
    while (engine->waiting_first != NULL && engine->waiting_first->sequence <= visible) {
        struct engine_write *write = engine->waiting_first;
        engine->waiting_first = write->next;
        if (engine->waiting_first == NULL) engine->waiting_last = NULL;
        write->done(write);
    }
}

/* After a failed sync the outcome of what waits is not known: it may be there after a
 * restart, or not. */
static void fail_waiting(struct engine *engine)
{
    while (engine->waiting_first != NULL) {
        struct engine_write *write = engine->waiting_first;
        engine->waiting_first = write->next;
        write->status = STATUS_TIMEOUT;
        write->done(write);
    }
    engine->waiting_last = NULL;
}

static void wait_for_sequence(struct engine *engine, struct engine_write *list, uint64_t sequence)
{
    while (list != NULL) {
        struct engine_write *next = list->next;
        list->sequence = sequence;
        list->next = NULL;
        if (engine->waiting_last == NULL)
            engine->waiting_first = list;
        else
            engine->waiting_last->next = list;
        engine->waiting_last = list;
        list = next;
    }
}

static void fail_list(struct engine_write *list, enum status status)
{
    while (list != NULL) {
        struct engine_write *next = list->next;
        list->status = status;
        list->done(list);
        list = next;
    }
}

/* Takes submissions for one batch off the queue. The mutex is held. */
static struct engine_write *take_submissions(struct engine *engine)
{
    if (store_can_write(engine->store) == STATUS_BUSY) return NULL;

    struct engine_write *first = engine->queue_first;
    struct engine_write *last = NULL;
    size_t writes = 0;
    for (struct engine_write *at = first; at != NULL; at = at->next) {
        if (last != NULL && writes + at->count > ENGINE_BATCH_WRITES_MAX) break;
        writes += at->count;
        last = at;
        engine->queue_count--;
        engine->submissions++;
    }
    if (last == NULL) return NULL;
    engine->queue_first = last->next;
    if (engine->queue_first == NULL) engine->queue_last = NULL;
    last->next = NULL;
    return first;
}

static void write_batch(struct engine *engine, struct engine_write *list)
{
    store_batch_begin(engine->store, clock_wall_ms());
    for (struct engine_write *at = list; at != NULL; at = at->next) {
        at->status = STATUS_OK;
        for (size_t i = 0; i < at->count; i++)
            store_write(engine->store, &at->writes[i], &at->outcomes[i]);
    }
    uint64_t sequence;
    enum status status = store_batch_commit(engine->store, &sequence);
    engine->batches++;
    if (status == STATUS_OK)
        wait_for_sequence(engine, list, sequence);
    else
        fail_list(list, status);
}

static bool sync_is_due(const struct engine *engine, uint64_t now_us)
{
    if (engine->options.sync_interval_ms == 0) return true;
    if (store_sync_is_urgent(engine->store)) return true;
    return now_us - engine->sync_us >= (uint64_t)engine->options.sync_interval_ms * 1000;
}

static void note_sync(struct engine *engine, enum status status)
{
    uint64_t now_us = clock_monotonic_us();
    uint64_t took_us = now_us - engine->sync_begun_us;
    engine->sync_us_sum += took_us;
    engine->sync_us_max = u64_max(engine->sync_us_max, took_us);
    engine->sync_us = now_us;
    store_sync_complete(engine->store, &engine->log_sync, status);
    if (status != STATUS_OK) fail_waiting(engine);
}

/* Starts a sync if one is due. With nothing else to do the writer runs it itself: two
 * changes of thread less for a lone durable write. The mutex is held. */
static void drive_sync(struct engine *engine)
{
    enum status status;
    if (take_done(&engine->sync, &status)) note_sync(engine, status);
    if (engine->sync.state != ERRAND_IDLE) return;

    uint64_t now_us = clock_monotonic_us();
    if (!sync_is_due(engine, now_us)) return;
    if (store_sync_begin(engine->store, &engine->log_sync) != STATUS_OK) return;
    engine->sync_begun_us = now_us;
    if (engine->queue_first != NULL) {
        want(&engine->sync, &engine->to_syncer);
        return;
    }
    pthread_mutex_unlock(&engine->mutex);
    status = log_sync_run(&engine->log_sync);
    pthread_mutex_lock(&engine->mutex);
    note_sync(engine, status);
}

static void drive_grace(struct engine *engine)
{
    enum status status;
    if (take_done(&engine->grace, &status)) {
        store_reclaim(engine->store, engine->grace_view);
        engine->reclaimed_view = engine->grace_view;
    }
    uint64_t newest = store_view_number(engine->store);
    if (engine->grace.state != ERRAND_IDLE || newest - 1 <= engine->reclaimed_view) return;
    engine->grace_view = newest - 1;
    want(&engine->grace, &engine->to_upkeep);
}

static void drive_prepare(struct engine *engine)
{
    enum status status;
    if (take_done(&engine->prepare, &status))
        store_prepare_complete(engine->store, &engine->log_prepare, status);
    if (engine->prepare.state != ERRAND_IDLE || engine->stopping) return;
    if (store_prepare_begin(engine->store, &engine->log_prepare))
        want(&engine->prepare, &engine->to_upkeep);
}

static bool scrub_is_due(const struct engine *engine, uint64_t now_us)
{
    if (engine->options.scrub_interval_s == 0) return false;
    return now_us - engine->scrub_us >= (uint64_t)engine->options.scrub_interval_s * 1000000;
}

static enum status next_job(struct engine *engine, uint64_t now_us)
{
    struct store_job **job = &engine->store_job;
    if (engine->stopping) return store_flush_begin(engine->store, job);
    enum status status = store_job_begin(engine->store, job);
    if (status != STATUS_END || !scrub_is_due(engine, now_us)) return status;

    engine->scrub_us = now_us;
    status = store_scrub_begin(engine->store, engine->scrub_after, job);
    if (status == STATUS_END) engine->scrub_after = 0;
    return status;
}

static void end_job(struct engine *engine, enum status status)
{
    enum { RETRY_US = 2000000 };
    if (store_job_kind(engine->store_job) == STORE_JOB_SCRUB)
        engine->scrub_after = store_job_file(engine->store_job);
    status = store_job_finish(engine->store, engine->store_job, status);
    engine->store_job = NULL;
    if (status != STATUS_OK) engine->job_retry_us = clock_monotonic_us() + RETRY_US;
}

/* One turn of the job under way; true when there is more to do at once. */
static bool drive_job(struct engine *engine)
{
    enum status status;
    uint64_t now_us = clock_monotonic_us();

    if (engine->store_job == NULL) {
        if (now_us < engine->job_retry_us && !engine->stopping) return false;
        if (next_job(engine, now_us) != STATUS_OK) return false;
        engine->job_commit = false;
        want(&engine->job, &engine->to_builder);
        return false;
    }
    if (engine->job.state == ERRAND_WANTED) return false;
    if (engine->job.state == ERRAND_DONE &&
        (engine->job_commit || engine->job.status != STATUS_OK)) {
        take_done(&engine->job, &status);
        end_job(engine, status);
        return true;
    }
    status = store_job_resolve(engine->store, engine->store_job);
    if (status == STATUS_PARTIAL) return true;
    if (status == STATUS_BUSY) return false;
    engine->job.state = ERRAND_IDLE;
    if (status != STATUS_OK) {
        end_job(engine, status);
        return true;
    }
    engine->job_commit = true;
    want(&engine->job, &engine->to_builder);
    return false;
}

static void drive_tick(struct engine *engine)
{
    uint64_t now_us = clock_monotonic_us();
    if (now_us - engine->tick_us < ENGINE_TICK_MS * 1000) return;
    engine->tick_us = now_us;
    store_tick(engine->store, clock_wall_ms());
    atomic_store(&engine->write_status, store_can_write(engine->store));

    struct engine_stats *stats = &engine->stats;
    store_stats(engine->store, &stats->store);
    stats->batches = engine->batches;
    stats->submissions = engine->submissions;
    stats->queue_count = engine->queue_count;
    stats->sync_us_sum = engine->sync_us_sum;
    stats->sync_us_max = engine->sync_us_max;
    stats->memory_bytes = heap_used_bytes(engine->heap);
    stats->job_under_way = engine->store_job != NULL;
    const char *job = engine->store_job == NULL ? ""
                                                : store_job_name(store_job_kind(engine->store_job));
    snprintf(stats->job_name, sizeof stats->job_name, "%s", job);
    const char *damaged = store_damaged_file(engine->store);
    snprintf(stats->damaged_file, sizeof stats->damaged_file, "%s", damaged == NULL ? "" : damaged);
}

static void wait_for_work(struct engine *engine)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint32_t wait_ms = ENGINE_TICK_MS;
    if (engine->options.sync_interval_ms != 0 && engine->options.sync_interval_ms < wait_ms)
        wait_ms = engine->options.sync_interval_ms;
    until.tv_nsec += (long)wait_ms * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(&engine->to_writer, &engine->mutex, &until);
}

static bool anything_done(const struct engine *engine)
{
    if (engine->queue_first != NULL && store_can_write(engine->store) != STATUS_BUSY) return true;
    return engine->sync.state == ERRAND_DONE || engine->grace.state == ERRAND_DONE ||
           engine->prepare.state == ERRAND_DONE;
}

/* Everything submitted is answered, in files, and no other thread is at work. */
static bool may_end(const struct engine *engine)
{
    if (!engine->stopping || engine->queue_first != NULL || engine->waiting_first != NULL)
        return false;
    if (engine->sync.state != ERRAND_IDLE || engine->grace.state != ERRAND_IDLE ||
        engine->prepare.state != ERRAND_IDLE || engine->store_job != NULL)
        return false;
    if (store_can_write(engine->store) == STATUS_READ_ONLY) return true;
    return store_is_clean(engine->store) || engine->job_retry_us != 0;
}

static void *run_writer(void *argument)
{
    struct engine *engine = argument;
    pthread_mutex_lock(&engine->mutex);
    while (!may_end(engine)) {
        struct engine_write *list = take_submissions(engine);
        if (list != NULL) {
            pthread_mutex_unlock(&engine->mutex);
            write_batch(engine, list);
            pthread_mutex_lock(&engine->mutex);
        }
        drive_sync(engine);
        complete_visible(engine);
        drive_prepare(engine);
        bool more = drive_job(engine);
        drive_tick(engine);
        drive_grace(engine);
        if (!more && !anything_done(engine) && !may_end(engine)) wait_for_work(engine);
    }
    engine->ended = true;
    pthread_cond_broadcast(&engine->to_syncer);
    pthread_cond_broadcast(&engine->to_builder);
    pthread_cond_broadcast(&engine->to_upkeep);
    pthread_mutex_unlock(&engine->mutex);
    return NULL;
}

/* --- From outside --- */

enum status engine_submit(struct engine *engine, struct engine_write *write)
{
    enum status status = STATUS_OK;
    write->next = NULL;
    pthread_mutex_lock(&engine->mutex);
    if (engine->stopping || engine->queue_count >= ENGINE_QUEUE_COUNT_MAX) {
        status = STATUS_BUSY;
    } else {
        if (engine->queue_last == NULL)
            engine->queue_first = write;
        else
            engine->queue_last->next = write;
        engine->queue_last = write;
        engine->queue_count++;
        pthread_cond_signal(&engine->to_writer);
    }
    pthread_mutex_unlock(&engine->mutex);
    return status;
}

const struct view *engine_view(const struct engine *engine)
{
    return store_view(engine->store);
}

void engine_stats(struct engine *engine, struct engine_stats *out)
{
    pthread_mutex_lock(&engine->mutex);
    *out = engine->stats;
    pthread_mutex_unlock(&engine->mutex);
}

enum status engine_write_status(const struct engine *engine)
{
    return atomic_load(&engine->write_status);
}

static bool start_thread(struct engine *engine, pthread_t *thread, void *(*run)(void *))
{
    if (pthread_create(thread, NULL, run, engine) != 0) return false;
    engine->thread_count++;
    return true;
}

static enum status start_threads(struct engine *engine)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&engine->mutex, NULL);
    pthread_cond_init(&engine->to_writer, &monotonic);
    pthread_cond_init(&engine->to_syncer, NULL);
    pthread_cond_init(&engine->to_builder, NULL);
    pthread_cond_init(&engine->to_upkeep, NULL);
    pthread_condattr_destroy(&monotonic);

    bool started = start_thread(engine, &engine->writer, run_writer) &&
                   start_thread(engine, &engine->syncer, run_syncer) &&
                   start_thread(engine, &engine->builder, run_builder) &&
                   start_thread(engine, &engine->upkeep, run_upkeep);
    return started ? STATUS_OK : STATUS_NOMEM;
}

static void join_threads(struct engine *engine)
{
    pthread_t *const threads[] = {&engine->writer, &engine->syncer, &engine->builder,
                                  &engine->upkeep};
    pthread_mutex_lock(&engine->mutex);
    engine->stopping = true;
    engine->job_retry_us = 0;
    if (engine->thread_count < 4) engine->ended = true;
    pthread_cond_broadcast(&engine->to_writer);
    pthread_cond_broadcast(&engine->to_syncer);
    pthread_cond_broadcast(&engine->to_builder);
    pthread_mutex_unlock(&engine->mutex);
    for (int i = 0; i < engine->thread_count; i++) pthread_join(*threads[i], NULL);
    pthread_cond_destroy(&engine->to_writer);
    pthread_cond_destroy(&engine->to_syncer);
    pthread_cond_destroy(&engine->to_builder);
    pthread_cond_destroy(&engine->to_upkeep);
    pthread_mutex_destroy(&engine->mutex);
}

enum status engine_open(struct heap *heap, const struct engine_options *options,
                        struct engine **out, struct store_report *report)
{
    *report = (struct store_report){0};
    uint8_t identity[16];
    struct engine *engine = heap_zalloc(heap, sizeof *engine);
    if (engine == NULL) return STATUS_NOMEM;
    engine->heap = heap;
    engine->options = *options;
    engine->scrub_us = clock_monotonic_us();

    enum status status = file_env_open(heap, options->directory, true, &engine->env);
    if (status != STATUS_OK) {
        snprintf(report->detail, sizeof report->detail, "%s cannot be opened or created: %s",
                 options->directory, status_name(status));
        heap_free(heap, engine);
        return status;
    }
    if (getrandom(identity, sizeof identity, 0) != (ssize_t)sizeof identity) status = STATUS_IO;
    if (status == STATUS_OK)
        status = store_open(engine->env, heap, &options->store, identity, clock_wall_ms(),
                            &engine->store, report);
    if (status == STATUS_OK) status = start_threads(engine);
    if (status != STATUS_OK) {
        if (engine->store != NULL) join_threads(engine);
        store_close(engine->store);
        file_env_close(engine->env);
        heap_free(heap, engine);
        return status;
    }
    *out = engine;
    return STATUS_OK;
}

void engine_close(struct engine *engine)
{
    if (engine == NULL) return;
    join_threads(engine);
    store_close(engine->store);
    file_env_close(engine->env);
    heap_free(engine->heap, engine);
}
