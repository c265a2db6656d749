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
    bool stop_failed;      /* The flush at the end did not work: the log has it all. */

    _Atomic enum status write_status;
    pthread_t writer, syncer, builder, upkeep;
    int thread_count;
};

/* --- Errands --- */

static void want(struct engine *engine, struct errand *errand, pthread_cond_t *condition)
{
    pthread_mutex_lock(&engine->mutex);
    CHECK(errand->state == ERRAND_IDLE);
    errand->state = ERRAND_WANTED;
    pthread_cond_signal(condition);
    pthread_mutex_unlock(&engine->mutex);
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

/* Where an errand stands; one that is done is idle again afterwards, and gives its status. */
static enum errand_state take(struct engine *engine, struct errand *errand, enum status *status)
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

static bool is_stopping(struct engine *engine)
{
    pthread_mutex_lock(&engine->mutex);
    bool stopping = engine->stopping;
    pthread_mutex_unlock(&engine->mutex);
    return stopping;
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

/* Takes submissions for one batch off the queue. */
static struct engine_write *take_submissions(struct engine *engine)
{
    if (store_can_write(engine->store) == STATUS_BUSY) return NULL;

    pthread_mutex_lock(&engine->mutex);
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
    if (last != NULL) {
        engine->queue_first = last->next;
        if (engine->queue_first == NULL) engine->queue_last = NULL;
        last->next = NULL;
    }
    pthread_mutex_unlock(&engine->mutex);
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

static bool queue_is_empty(struct engine *engine)
{
    pthread_mutex_lock(&engine->mutex);
    bool empty = engine->queue_first == NULL;
    pthread_mutex_unlock(&engine->mutex);
    return empty;
}

/* Starts a sync if one is due. With nothing else to do the writer runs it itself: two
 * changes of thread less for a lone durable write. */
static void drive_sync(struct engine *engine)
{
    enum status status;
    enum errand_state state = take(engine, &engine->sync, &status);
    if (state == ERRAND_DONE) note_sync(engine, status);
    if (state == ERRAND_WANTED) return;

    uint64_t now_us = clock_monotonic_us();
    if (!sync_is_due(engine, now_us)) return;
    if (store_sync_begin(engine->store, &engine->log_sync) != STATUS_OK) return;
    engine->sync_begun_us = now_us;
    if (queue_is_empty(engine))
        note_sync(engine, log_sync_run(&engine->log_sync));
    else
        want(engine, &engine->sync, &engine->to_syncer);
}

static void drive_grace(struct engine *engine)
{
    enum status status;
    enum errand_state state = take(engine, &engine->grace, &status);
    if (state == ERRAND_DONE) {
        store_reclaim(engine->store, engine->grace_view);
        engine->reclaimed_view = engine->grace_view;
    }
    uint64_t newest = store_view_number(engine->store);
    if (state == ERRAND_WANTED || newest - 1 <= engine->reclaimed_view) return;
    engine->grace_view = newest - 1;
    want(engine, &engine->grace, &engine->to_upkeep);
}

static void drive_prepare(struct engine *engine)
{
    enum status status;
    enum errand_state state = take(engine, &engine->prepare, &status);
    if (state == ERRAND_DONE) store_prepare_complete(engine->store, &engine->log_prepare, status);
    if (state == ERRAND_WANTED || is_stopping(engine)) return;
    if (store_prepare_begin(engine->store, &engine->log_prepare))
        want(engine, &engine->prepare, &engine->to_upkeep);
}

static bool scrub_is_due(const struct engine *engine, uint64_t now_us)
{
    if (engine->options.scrub_interval_s == 0) return false;
    return now_us - engine->scrub_us >= (uint64_t)engine->options.scrub_interval_s * 1000000;
}

static enum status next_job(struct engine *engine, uint64_t now_us)
{
    struct store_job **job = &engine->store_job;
    if (is_stopping(engine)) return store_flush_begin(engine->store, job);
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
    if (status == STATUS_OK) return;
    engine->job_retry_us = clock_monotonic_us() + RETRY_US;
    engine->stop_failed = is_stopping(engine);
}

static void begin_job(struct engine *engine)
{
    uint64_t now_us = clock_monotonic_us();
    if (now_us < engine->job_retry_us && !is_stopping(engine)) return;
    if (next_job(engine, now_us) != STATUS_OK) return;
    engine->job_commit = false;
    want(engine, &engine->job, &engine->to_builder);
}

/* One turn of the job under way; true when there is more to do at once. */
static bool drive_job(struct engine *engine)
{
    enum status status = STATUS_OK;
    if (engine->store_job == NULL) {
        begin_job(engine);
        return false;
    }
    enum errand_state state = take(engine, &engine->job, &status);
    if (state == ERRAND_WANTED) return false;
    if (state == ERRAND_DONE && (engine->job_commit || status != STATUS_OK)) {
        end_job(engine, status);
        return true;
    }
    status = store_job_resolve(engine->store, engine->store_job);
    if (status == STATUS_PARTIAL) return true;
    if (status == STATUS_BUSY) return false;
    if (status != STATUS_OK) {
        end_job(engine, status);
        return true;
    }
    engine->job_commit = true;
    want(engine, &engine->job, &engine->to_builder);
    return false;
}

static void drive_tick(struct engine *engine)
{
    uint64_t now_us = clock_monotonic_us();
    if (now_us - engine->tick_us < ENGINE_TICK_MS * 1000) return;
    engine->tick_us = now_us;
    store_tick(engine->store, clock_wall_ms());
    atomic_store(&engine->write_status, store_can_write(engine->store));

    struct engine_stats stats = {
        .batches = engine->batches,
        .submissions = engine->submissions,
        .sync_us_sum = engine->sync_us_sum,
        .sync_us_max = engine->sync_us_max,
        .memory_bytes = heap_used_bytes(engine->heap),
        .job_under_way = engine->store_job != NULL,
    };
    store_stats(engine->store, &stats.store);
    if (engine->store_job != NULL)
        snprintf(stats.job_name, sizeof stats.job_name, "%s",
                 store_job_name(store_job_kind(engine->store_job)));
    const char *damaged = store_damaged_file(engine->store);
    if (damaged != NULL) snprintf(stats.damaged_file, sizeof stats.damaged_file, "%s", damaged);

    pthread_mutex_lock(&engine->mutex);
    stats.queue_count = engine->queue_count;
    engine->stats = stats;
    pthread_mutex_unlock(&engine->mutex);
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

/* The mutex is held by the callers of the next two. */
static bool anything_done(const struct engine *engine)
{
    if (engine->queue_first != NULL && store_can_write(engine->store) != STATUS_BUSY) return true;
    return engine->sync.state == ERRAND_DONE || engine->grace.state == ERRAND_DONE ||
           engine->prepare.state == ERRAND_DONE || engine->job.state == ERRAND_DONE;
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
    return store_is_clean(engine->store) || engine->stop_failed;
}

/* Waits for an errand or a submission, if there is none already; false at the end. */
static bool wait_for_more(struct engine *engine, bool more)
{
    pthread_mutex_lock(&engine->mutex);
    if (!more && !anything_done(engine) && !may_end(engine)) wait_for_work(engine);
    bool end = may_end(engine);
    if (end) {
        engine->ended = true;
        pthread_cond_broadcast(&engine->to_syncer);
        pthread_cond_broadcast(&engine->to_builder);
        pthread_cond_broadcast(&engine->to_upkeep);
    }
    pthread_mutex_unlock(&engine->mutex);
    return !end;
}

/* The mutex guards the queue and the errands, never work on the store: a loop thread that
 * submits a write also answers searches, and those wait for nothing. */
static void *run_writer(void *argument)
{
    struct engine *engine = argument;
    bool more = false;
    do {
        struct engine_write *list = take_submissions(engine);
        if (list != NULL) write_batch(engine, list);
        drive_sync(engine);
        complete_visible(engine);
        drive_prepare(engine);
        more = drive_job(engine);
        drive_tick(engine);
        drive_grace(engine);
    } while (wait_for_more(engine, more));
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
