/* Jobs of the store as the writer drives them: begin, have them built, resolve, commit. */
#include "shell/clock.h"
#include "shell/engine_private.h"
#include "shell/log_line.h"

static bool scrub_is_due(const struct engine *engine, uint64_t now_us)
{
    if (engine->options.scrub_interval_s == 0) return false;
    return now_us - engine->scrub_us >= (uint64_t)engine->options.scrub_interval_s * 1000000;
}

static enum status next_job(struct engine *engine, uint64_t now_us)
{
    struct store_job **job = &engine->store_job;
    if (engine_is_stopping(engine)) return store_flush_begin(engine->store, job);
    enum status status = store_job_begin(engine->store, job);
    if (status != STATUS_END || !scrub_is_due(engine, now_us)) return status;

    engine->scrub_us = now_us;
    status = store_scrub_begin(engine->store, engine->scrub_after, job);
    if (status == STATUS_END) engine->scrub_after = 0;
    return status;
}

/* Once for each new reason: a job that fails is tried again every two seconds. */
static void note_failure(struct engine *engine, enum store_job_kind kind, enum status status)
{
    bool known = engine->job_failure == status && engine->job_failed_kind == kind;
    engine->job_failure = status;
    engine->job_failed_kind = kind;
    if (known || status == STATUS_OK) return;
    log_line(LOG_LEVEL_WARN, "store.job_failed", log_text("job", store_job_name(kind)),
             log_text("status", status_name(status)));
}

static void end_job(struct engine *engine, enum status status)
{
    enum { RETRY_US = 2000000 };
    enum store_job_kind kind = store_job_kind(engine->store_job);
    if (kind == STORE_JOB_SCRUB) engine->scrub_after = store_job_file(engine->store_job);
    status = store_job_finish(engine->store, engine->store_job, status);
    engine->store_job = NULL;
    engine->job_committed = false;
    engine->job_look_us = 0; /* The next one may be waiting. */
    note_failure(engine, kind, status);
    if (status == STATUS_OK) return;
    engine->job_retry_us = clock_monotonic_us() + RETRY_US;
    engine->stop_failed = engine_is_stopping(engine);
}

/* Looking for what there is to do costs more than a small batch does: unless somebody waits for
 * it, not at each turn. */
static void begin_job(struct engine *engine)
{
    enum { LOOK_US = 10000 };
    uint64_t now_us = clock_monotonic_us();
    if (!engine_is_stopping(engine)) {
        if (now_us < engine->job_retry_us) return;
        bool awaited = store_can_write(engine->store) == STATUS_BUSY;
        if (now_us - engine->job_look_us < LOOK_US && !awaited) return;
    }
    engine->job_look_us = now_us;
    if (next_job(engine, now_us) != STATUS_OK) return;
    engine->job_commit = false;
    engine_want(engine, &engine->job, &engine->to_builder);
}

/* Without memory it is tried again at the next turn; the last one cannot wait for that. */
static bool take_in(struct engine *engine)
{
    enum status status = store_job_take_in(engine->store, engine->store_job);
    if (status == STATUS_NOMEM && !engine_is_stopping(engine)) return false;
    if (status != STATUS_PARTIAL) end_job(engine, status);
    return true;
}

bool engine_drive_job(struct engine *engine)
{
    enum status status = STATUS_OK;
    if (engine->store_job == NULL) {
        begin_job(engine);
        return false;
    }
    if (engine->job_committed) return take_in(engine);
    enum errand_state state = engine_take(engine, &engine->job, &status);
    if (state == ERRAND_WANTED) return false;
    if (state == ERRAND_DONE && status != STATUS_OK) {
        end_job(engine, status);
        return true;
    }
    if (state == ERRAND_DONE && engine->job_commit) {
        engine->job_committed = true;
        return take_in(engine);
    }
    status = store_job_resolve(engine->store, engine->store_job);
    if (status == STATUS_PARTIAL) return true;
    if (status == STATUS_BUSY) return false;
    if (status != STATUS_OK) {
        end_job(engine, status);
        return true;
    }
    engine->job_commit = true;
    engine_want(engine, &engine->job, &engine->to_builder);
    return false;
}
