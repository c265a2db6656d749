/* The writer thread: batches, syncs, answers, and all that waits for its turn. */
#include <stdio.h>
#include <time.h>

#include "base/math.h"
#include "shell/clock.h"
#include "shell/engine_private.h"
#include "shell/log_line.h"

/* Hands the first part of what waits back, up to `last`. */
static void hand_back(struct engine *engine, struct engine_write *last)
{
    struct engine_write *list = engine->waiting_first;
    engine->waiting_first = last->next;
    if (engine->waiting_first == NULL) engine->waiting_last = NULL;
    last->next = NULL;
    engine->options.done(list);
}

static void complete_visible(struct engine *engine)
{
    uint64_t visible = store_visible_sequence(engine->store);
    struct engine_write *last = NULL;
    for (struct engine_write *at = engine->waiting_first; at != NULL && at->sequence <= visible;
         at = at->next)
        last = at;
    if (last != NULL) hand_back(engine, last);
}

static void fail_list(struct engine *engine, struct engine_write *list, enum status status)
{
    for (struct engine_write *at = list; at != NULL; at = at->next) at->status = status;
    if (list != NULL) engine->options.done(list);
}

/* After a failed sync the outcome of what waits is not known: it may be there after a
 * restart, or not. */
static void fail_waiting(struct engine *engine)
{
    struct engine_write *list = engine->waiting_first;
    engine->waiting_first = engine->waiting_last = NULL;
    fail_list(engine, list, STATUS_TIMEOUT);
}

static void wait_for_sequence(struct engine *engine, struct engine_write *list, uint64_t sequence)
{
    if (engine->waiting_last == NULL)
        engine->waiting_first = list;
    else
        engine->waiting_last->next = list;
    for (; list != NULL; list = list->next) {
        list->sequence = sequence;
        engine->waiting_last = list;
    }
}

/* A host answers reads as well, and tells by itself who has to wait. */
static bool can_take(const struct engine *engine)
{
    return engine_is_hosted(engine) || store_can_write(engine->store) != STATUS_BUSY;
}

/* Takes submissions for one batch off the queue. */
static struct engine_write *take_submissions(struct engine *engine)
{
    if (!can_take(engine)) return NULL;

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
        store_write_all(engine->store, at->writes, at->outcomes, at->count);
    }
    uint64_t sequence;
    enum status status = store_batch_commit(engine->store, &sequence);
    engine->batches++;
    if (status == STATUS_OK)
        wait_for_sequence(engine, list, sequence);
    else
        fail_list(engine, list, status);
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
    if (engine_is_hosted(engine)) engine->host.synced(engine->host.context);
}

static bool queue_is_empty(struct engine *engine)
{
    pthread_mutex_lock(&engine->mutex);
    bool empty = engine->queue_first == NULL;
    pthread_mutex_unlock(&engine->mutex);
    return empty;
}

/* Starts a sync if one is due. With nothing else to do the writer runs it itself: two
 * changes of thread less for a lone durable write. With a host messages come in meanwhile. */
static void drive_sync(struct engine *engine)
{
    enum status status;
    enum errand_state state = engine_take(engine, &engine->sync, &status);
    if (state == ERRAND_DONE) note_sync(engine, status);
    if (state == ERRAND_WANTED) return;

    uint64_t now_us = clock_monotonic_us();
    if (!sync_is_due(engine, now_us)) return;
    if (store_sync_begin(engine->store, &engine->log_sync) != STATUS_OK) return;
    engine->sync_begun_us = now_us;
    if (!engine_is_hosted(engine) && queue_is_empty(engine))
        note_sync(engine, log_sync_run(&engine->log_sync));
    else
        engine_want(engine, &engine->sync, &engine->to_syncer);
}

/* A grace period for each view would cost a lone write as much as all else about it; what
 * a few milliseconds of writes leave behind is little. */
static void drive_grace(struct engine *engine)
{
    enum status status;
    enum errand_state state = engine_take(engine, &engine->grace, &status);
    if (state == ERRAND_DONE) {
        store_reclaim(engine->store, engine->grace_view);
        engine->reclaimed_view = engine->grace_view;
    }
    uint64_t newest = store_view_number(engine->store);
    if (state == ERRAND_WANTED || newest - 1 <= engine->reclaimed_view) return;
    uint64_t now_us = clock_monotonic_us();
    if (now_us - engine->grace_us < ENGINE_GRACE_MS * 1000) return;
    engine->grace_us = now_us;
    engine->grace_view = newest - 1;
    engine_want(engine, &engine->grace, &engine->to_upkeep);
}

static void drive_prepare(struct engine *engine)
{
    enum status status;
    enum errand_state state = engine_take(engine, &engine->prepare, &status);
    if (state == ERRAND_DONE) store_prepare_complete(engine->store, &engine->log_prepare, status);
    if (state == ERRAND_WANTED || engine_is_stopping(engine)) return;
    if (store_prepare_begin(engine->store, &engine->log_prepare))
        engine_want(engine, &engine->prepare, &engine->to_upkeep);
}

/* Logs what an operator has to know, once: when it begins, and when it is over. */
static void log_changes(const struct engine_stats *was, const struct engine_stats *is)
{
    if (is->store.full && !was->store.full)
        log_line(LOG_LEVEL_WARN, "store.disk_full", log_number("free_bytes", is->store.free_bytes),
                 log_text("reason", "only deletions are taken until there is room"));
    if (!is->store.full && was->store.full)
        log_line(LOG_LEVEL_INFO, "store.disk_has_room",
                 log_number("free_bytes", is->store.free_bytes));
    if (is->store.read_only && !was->store.read_only)
        log_line(LOG_LEVEL_ERROR, "store.read_only",
                 log_text("reason", "a write to the log failed: no writes until a restart"));
    if (is->store.damaged && !was->store.damaged)
        log_line(LOG_LEVEL_ERROR, "store.damaged", log_text("file", is->damaged_file),
                 log_text("reason", "words in it are not served"));
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

    log_changes(&engine->stats, &stats);
    pthread_mutex_lock(&engine->mutex);
    stats.queue_count = engine->queue_count;
    engine->stats = stats;
    pthread_mutex_unlock(&engine->mutex);
}

static void wait_for_work(struct engine *engine)
{
    struct timespec until;
    uint32_t wait_ms = ENGINE_TICK_MS;
    if (engine->options.sync_interval_ms != 0 && engine->options.sync_interval_ms < wait_ms)
        wait_ms = engine->options.sync_interval_ms;
    if (engine_is_hosted(engine)) {
        pthread_mutex_unlock(&engine->mutex);
        engine->host.wait(engine->host.context, wait_ms);
        pthread_mutex_lock(&engine->mutex);
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &until);
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
    if (engine->queue_first != NULL && can_take(engine)) return true;
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
    if (engine_is_hosted(engine) && !engine->host_stopped) return false;
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

static void drive_host(struct engine *engine, struct engine_write *list)
{
    struct engine_host *host = &engine->host;
    if (list != NULL) host->submit(host->context, list);
    host->turn(host->context);
    if (engine->host_stopped || !engine_is_stopping(engine)) return;
    if (!host->may_stop(host->context)) return;
    engine->host_stopped = true;
    host->stop(host->context);
}

/* The mutex guards the queue and the errands, never work on the store: a loop thread that
 * submits a write also answers searches, and those wait for nothing. */
void *engine_run_writer(void *argument)
{
    struct engine *engine = argument;
    bool more = false;
    do {
        struct engine_write *list = take_submissions(engine);
        if (engine_is_hosted(engine))
            drive_host(engine, list);
        else if (list != NULL)
            write_batch(engine, list);
        drive_sync(engine);
        complete_visible(engine);
        drive_prepare(engine);
        more = engine_drive_job(engine);
        drive_tick(engine);
        drive_grace(engine);
    } while (wait_for_more(engine, more));
    return NULL;
}
