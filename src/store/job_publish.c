/* After the commit: the tip and the next view say what the manifest says, or nothing stays. */
#include <string.h>

#include "base/check.h"
#include "base/planted.h"
#include "store/job_internal.h"

static void adopt_overlays(struct store_job *job)
{
    for (size_t i = 0; i < job->stored_count; i++) {
        struct run *run = job->stored[i].run;
        if (run->overlay_number != 0) {
            enum status ignored =
                env_remove(job->env, name_of(NAME_OVERLAY, run->overlay_number).text);
            (void)ignored; /* Unnamed: the next start removes it. */
        }
        run->overlay_number = job->stored[i].number;
        run->stored_count = job->stored[i].change_count;
    }
}

static void remove_inputs(struct store_job *job)
{
    struct store *store = job->store;
    for (size_t i = 0; i < job->input_count; i++) {
        struct run *run = job->inputs[i];
        size_t at = 0;
        while (store->runs[at] != run) at++;
        memmove(store->runs + at, store->runs + at + 1,
                (--store->run_count - at) * sizeof *store->runs);
        overlay_retire(store->overlays, &run->overlay, packed_info(run->packed)->count);
        store_retire_run(store, run);
    }
}

static void adopt_outputs(struct store_job *job)
{
    for (; job->output_count > 0; job->output_count--) {
        /* Room for it was made before the commit. */
        struct run *run = job->outputs[job->output_count - 1];
        CHECK(store_add_run(job->store, run) == STATUS_OK);
    }
}

/* Logs what an ingest merged since its commit began. That cannot be left out any more: what the
 * log has no room for is owed to it, and a restart would merge it once more. */
static enum status log_merged(struct store *store)
{
    uint64_t sequence;
    if (store->batch_count == 0) return STATUS_OK;
    size_t owed = store->owed.size;
    enum status status = store_append_batch(store, &sequence);
    if (status != STATUS_FULL) return status;
    struct slice merged = slice_from(buf_slice(&store->batch), owed);
    if (!buf_ensure(&store->owed, merged.size)) return STATUS_NOMEM;
    buf_append_slice(&store->owed, merged);
    return STATUS_OK;
}

/* The outputs hide what has expired since their overlays were stored. */
static enum status settle_outputs(struct store_job *job)
{
    struct store *store = job->store;
    enum status status = STATUS_OK;
    if (job->settled_ms == store->settled_ms) return STATUS_OK;
    overlay_begin_batch(store->overlays);
    for (size_t i = 0; status == STATUS_OK && i < job->output_count; i++)
        status = store_settle_run(store, job->outputs[i], job->settled_ms, store->settled_ms);
    if (status == STATUS_OK) job->settled_ms = store->settled_ms;
    return status;
}

enum status store_job_take_in(struct store *store, struct store_job *job)
{
    CHECK(store->job == job);
    if (!job_has_edit(job)) return STATUS_OK;
    CHECK(job->stage >= JOB_COMMITTED);
    job->stage = JOB_TAKING_IN;
    if (job->output_count == 0) return STATUS_OK;
    if (store->failed != STATUS_OK) return STATUS_READ_ONLY;
    enum status status = settle_outputs(job);
    if (status != STATUS_OK) return status;

    size_t touched_done = job->touched_done;
    store_batch_begin(store, store->now_ms);
    if (!planted(BUG_NO_SECOND_TAKING_IN)) status = job_drain_touched(job, STORE_RESOLVE_STEP);
    enum status logged = log_merged(store);
    if (logged == STATUS_NOMEM) {
        store_take_back(store);
        job->touched_done = touched_done;
        return logged;
    }
    if (logged != STATUS_OK) return logged;
    /* Without memory for it now, the next view shows the same. */
    if (store->batch_count > 0) (void)store_make_view(store);
    return status;
}

void job_publish(struct store_job *job)
{
    struct store *store = job->store;
    size_t output_count = job->output_count;
    adopt_overlays(job);
    adopt_outputs(job);
    snapshot_complete(job, STATUS_OK, output_count);

    if (job->kind == STORE_JOB_COMPACT) remove_inputs(job);
    if (job->kind == STORE_JOB_FLUSH) {
        store->frozen = NULL;
        store_retire_generation(store, job->frozen);
    }
    if (job->kind == STORE_JOB_FLUSH || job->kind == STORE_JOB_CHECKPOINT) {
        store->flushed_sequence = job->flushed_sequence;
        log_release(store->log, store->flushed_sequence);
        store->kills_unstored = 0;
    }
    store->boot_unnoted = false;
    /* Without memory for it now, the next view shows the same. */
    (void)store_make_view(store);
}

void job_undo(struct store_job *job)
{
    job_close_overlap(job);
    for (size_t i = 0; i < job->output_count; i++) {
        struct run *run = job->outputs[i];
        overlay_retire(job->store->overlays, &run->overlay, packed_info(run->packed)->count);
        run_remove_files(job->env, run->number, 0);
        run_close(run);
    }
    for (size_t i = 0; i < job->stored_count; i++) {
        enum status ignored =
            env_remove(job->env, name_of(NAME_OVERLAY, job->stored[i].number).text);
        (void)ignored;
    }
    job->output_count = 0;
    if (job->made_file) {
        enum status ignored = env_remove(job->env, job->file_name);
        (void)ignored;
    }
}

void job_abandon(struct store_job *job, enum status status)
{
    job_close_overlap(job);
    for (size_t i = 0; i < job->output_count; i++) run_close(job->outputs[i]);
    job->output_count = 0;
    store_poison(job->store, status);
}
