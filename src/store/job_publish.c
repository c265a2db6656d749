/* After the commit: the tip and the next view say what the manifest says, or nothing stays. */
#include <string.h>

#include "store/job_internal.h"
#include "base/planted.h"

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
        overlay_retire(&store->overlays, &run->overlay, packed_info(run->packed)->count);
        store_retire_run(store, run);
    }
}

static enum status adopt_outputs(struct store_job *job)
{
    struct store *store = job->store;
    while (job->output_count > 0) {
        struct run *run = job->outputs[job->output_count - 1];
        enum status status = store_settle_run(store, run, job->settled_ms, store->settled_ms);
        if (status == STATUS_OK) status = store_add_run(store, run);
        if (status != STATUS_OK) return status;
        job->output_count--;
    }
    return STATUS_OK;
}

/* Logs what an ingest merged since its commit began. It cannot be taken back any more: what
 * the log has no room for is owed to it, and a restart would merge it once more. */
static enum status log_merged(struct store *store)
{
    uint64_t sequence;
    if (store->batch_count == 0) return STATUS_OK;
    size_t owed = store->owed.size;
    enum status status = store_append_batch(store, &sequence);
    if (status != STATUS_FULL && status != STATUS_NOMEM) return status;
    buf_append_slice(&store->owed, slice_from(buf_slice(&store->batch), owed));
    return buf_status(&store->owed);
}

enum status job_publish(struct store_job *job)
{
    struct store *store = job->store;
    if (store->failed != STATUS_OK) return STATUS_READ_ONLY;

    store_batch_begin(store, store->now_ms);
    enum status status = STATUS_OK;
    if (job->output_count > 0 && !planted(BUG_NO_SECOND_TAKING_IN))
        status = job_drain_touched(job, SIZE_MAX);
    adopt_overlays(job);
    size_t output_count = job->output_count;
    if (status == STATUS_OK) status = adopt_outputs(job);
    if (status != STATUS_OK) return status;
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

    status = log_merged(store);
    if (status != STATUS_OK) return status;
    /* Without memory for it now, the next view shows the same. */
    (void)store_make_view(store);
    return STATUS_OK;
}

void job_undo(struct store_job *job)
{
    job_close_overlap(job);
    for (size_t i = 0; i < job->output_count; i++) {
        struct run *run = job->outputs[i];
        overlay_retire(&job->store->overlays, &run->overlay, packed_info(run->packed)->count);
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
