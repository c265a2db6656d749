/* The life of a job: begun by the writer, built anywhere, taken in by the writer. */
#include "base/check.h"
#include "store/job_internal.h"

void job_close_overlap(struct store_job *job)
{
    if (job->overlap_started) packed_iterator_deinit(&job->overlap);
    job->overlap_started = false;
}

void job_destroy(struct store_job *job)
{
    if (job == NULL) return;
    query_iterator_close(job->iterator);
    job_close_overlap(job);
    for (size_t i = 0; i < job->stored_count; i++) buf_deinit(&job->stored[i].bytes);
    heap_free(job->heap, job->stored);
    heap_free(job->heap, job->inputs);
    heap_free(job->heap, job->outputs);
    heap_free(job->heap, job->layers);
    packed_builder_destroy(job->builder);
    dictionary_destroy(job->dictionary);
    overlay_space_deinit(&job->overlays);
    buf_deinit(&job->low);
    buf_deinit(&job->high);
    buf_deinit(&job->touched);
    manifest_edit_deinit(&job->edit);
    heap_free(job->heap, job);
}

static void leave(struct store_job *job)
{
    if (job->frozen != NULL) job->frozen->pinned = false;
    for (size_t i = 0; i < job->input_count; i++) job->inputs[i]->in_job = false;
    job->store->job = NULL;
}

static enum status build_step(struct store_job *job)
{
    switch (job->kind) {
    case STORE_JOB_CHECKPOINT:
        return STATUS_OK;
    case STORE_JOB_INGEST:
        return job_ingest_step(job);
    case STORE_JOB_SCRUB:
        return job_scrub_step(job);
    case STORE_JOB_RECEIVE:
        return job_receive_step(job);
    case STORE_JOB_FLUSH:
    case STORE_JOB_COMPACT:
    case STORE_JOB_EXPORT:
        break;
    }
    if (job->stage == JOB_TRAIN) {
        enum status status = job_train(job);
        if (status != STATUS_OK) return status;
        job->stage = JOB_BUILD;
        return STATUS_PARTIAL;
    }
    return job_build(job);
}

enum status store_job_step(struct store_job *job, uint64_t *bytes)
{
    CHECK(job->stage <= JOB_BUILD);
    uint64_t before = job->written_bytes;
    enum status status = build_step(job);
    *bytes = job->written_bytes - before;
    if (status == STATUS_OK) job->stage = JOB_BUILT;
    return status;
}

/* What was written was, whatever came of it. */
static void count_job(struct store_job *job, bool done)
{
    struct store *store = job->store;
    store->totals.run_written_bytes += job->written_bytes;
    store->totals.flushes += done && job->kind == STORE_JOB_FLUSH;
    store->totals.compactions += done && job->kind == STORE_JOB_COMPACT;
    store->totals.scrubbed_pages += job->page;
}

/* What a merge could not read is not merged again. Usually the checksum of a page has told
 * which file that is; if none did, any of them may be. */
static void note_damage(struct store_job *job)
{
    bool known = false;
    if (job->kind != STORE_JOB_COMPACT) return;
    for (size_t i = 0; i < job->input_count; i++) known |= run_is_damaged(job->inputs[i]);
    for (size_t i = 0; !known && i < job->input_count; i++) job->inputs[i]->unreadable = true;
}

/* The next attempt has the reserve to work with. */
static void note_full(struct store *store)
{
    store->full = true;
    (void)store_use_reserve(store);
}

/* What became of the edit, as the manifest wants to know it. */
static enum status commit_status(const struct store_job *job, enum status status)
{
    if (job->stage == JOB_TAKING_IN) return STATUS_OK;
    return job->stage == JOB_COMMITTED ? status : STATUS_CANCELLED;
}

/* Whether the manifest has the edit, or may have it. */
static bool may_stand(const struct store_job *job, enum status status)
{
    if (job->stage == JOB_TAKING_IN) return true;
    return job->stage == JOB_COMMITTED && status != STATUS_FULL && status != STATUS_NOMEM;
}

enum status store_job_finish(struct store *store, struct store_job *job, enum status status)
{
    CHECK(store->job == job);
    if (status == STATUS_OK) {
        do {
            status = store_job_take_in(store, job);
        } while (status == STATUS_PARTIAL);
    }
    if (job->commit_begun) manifest_commit_complete(&job->commit, commit_status(job, status));
    job->commit_begun = false;
    leave(job);
    count_job(job, status == STATUS_OK);
    if (status == STATUS_CORRUPT) note_damage(job);
    if (status == STATUS_FULL) note_full(store);

    if (status == STATUS_OK && job_has_edit(job))
        job_publish(job);
    else if (status != STATUS_OK && may_stand(job, status))
        job_abandon(job, status); /* What the tip does not say only a restart can mend. */
    else if (status != STATUS_OK)
        job_undo(job);
    snapshot_complete(job, status, 0);
    if (job->task != NULL) store_transfer_complete(store, job->task, status);
    job_destroy(job);
    return status;
}

enum store_job_kind store_job_kind(const struct store_job *job)
{
    return job->kind;
}

uint64_t store_job_file(const struct store_job *job)
{
    return job->input_count == 0 ? 0 : job->inputs[0]->number;
}

const char *store_job_name(enum store_job_kind kind)
{
    static const char *const names[] = {
        [STORE_JOB_FLUSH] = "flush",           [STORE_JOB_COMPACT] = "compaction",
        [STORE_JOB_INGEST] = "ingest",         [STORE_JOB_EXPORT] = "export",
        [STORE_JOB_CHECKPOINT] = "checkpoint", [STORE_JOB_SCRUB] = "scrub",
        [STORE_JOB_RECEIVE] = "receive",
    };
    return names[kind];
}
