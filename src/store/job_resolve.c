/* Taking in what was written while a job was built, and committing the result. */
#include "base/bytes.h"
#include "base/check.h"
#include "base/planted.h"
#include "store/job_internal.h"

/* --- Taking in --- */

static void note_key(struct store_job *job, struct slice key)
{
    buf_append_varint(&job->touched, key.size);
    buf_append_slice(&job->touched, key);
}

static void note_ingest(struct store_job *job, struct slice key)
{
    bool inside = slice_compare(key, job->range.low) >= 0 &&
                  slice_compare(key, job->range.high) < 0;
    if (!inside) return;
    /* Once the commit has begun there is no way back. */
    if (!job->commit_begun && job->touched.size > JOB_TOUCHED_BYTES_MAX) job->overrun = true;
    if (!job->overrun) note_key(job, key);
}

enum status store_job_expect(struct store *store, struct slice key)
{
    struct store_job *job = store->job;
    if (job == NULL || !job_has_edit(job)) return STATUS_OK;
    return buf_ensure(&job->touched, JOB_NOTE_BYTES_MAX + key.size) ? STATUS_OK : STATUS_NOMEM;
}

void store_job_touch(struct store *store, struct slice key, const struct place *place)
{
    struct store_job *job = store->job;
    if (job == NULL || !job_has_edit(job)) return; /* It has nothing to take in. */

    if (job->kind == STORE_JOB_INGEST) {
        note_ingest(job, key);
    } else if (place->kind == PLACE_FROZEN && job->frozen != NULL) {
        note_key(job, key);
    } else if (place->kind == PLACE_RUN && place->run->in_job) {
        /* A few bytes instead of the key: a long merge may have millions of them. */
        buf_append_u8(&job->touched, 0);
        buf_append_varint(&job->touched, place->run->job_index);
        buf_append_varint(&job->touched, place->ordinal);
    }
}

size_t store_job_touched(const struct store *store)
{
    return store->job == NULL ? 0 : store->job->touched.size;
}

void store_job_take_back(struct store *store, size_t touched_size,
                         void (*take_back)(struct store *store, struct run *run))
{
    struct store_job *job = store->job;
    if (job == NULL) return;
    if (!planted(BUG_STALE_TOUCHED_KEYS)) job->touched.size = touched_size;
    if (!job->is_taking_in) return; /* The builder may be adding to them at this moment. */
    for (size_t i = 0; i < job->output_count; i++) take_back(store, job->outputs[i]);
}

static struct run *output_for(const struct store_job *job, struct slice key)
{
    for (size_t i = 0; i < job->output_count; i++)
        if (slice_compare(key, packed_info(job->outputs[i]->packed)->key_last) <= 0)
            return job->outputs[i];
    return NULL;
}

static enum status kill_output(struct store_job *job, struct run *run, uint64_t ordinal)
{
    struct sum hash;
    enum status status = packed_hash(run->packed, ordinal, &hash);
    store_save_run(job->store, run);
    if (status == STATUS_OK)
        status = overlay_kill(job->store->overlays, run->packed, &run->overlay, ordinal, hash);
    if (status == STATUS_OK) run->change_count++;
    return status;
}

/* The key also stands outside: the ingested record is joined there, through the log, and
 * dead in the file. */
static enum status merge_ingested(struct store_job *job, struct run *run, uint64_t ordinal,
                                  struct slice key)
{
    struct store *store = job->store;
    struct record record;
    struct store_outcome outcome = {.status = STATUS_OK};
    enum status status = packed_record(run->packed, ordinal, &record);
    if (status == STATUS_OK) status = store_merge(store, key, &record, true, &outcome);
    if (planted(BUG_INGESTED_TWICE)) return status;
    if (status == STATUS_OK) status = kill_output(job, run, ordinal);
    return status;
}

static enum status take_in(struct store_job *job, struct slice key)
{
    uint64_t ordinal;
    struct run *run = output_for(job, key);
    if (run == NULL) return STATUS_OK;

    enum status status = packed_find(run->packed, key, &ordinal);
    if (status == STATUS_NOT_FOUND) return STATUS_OK; /* Swept, or never ours. */
    if (status != STATUS_OK) return status;
    if (overlay_state(job->store->overlays, run->packed, run->overlay, ordinal) == OVERLAY_DEAD)
        return STATUS_OK;
    if (job->kind == STORE_JOB_INGEST) return merge_ingested(job, run, ordinal, key);
    return kill_output(job, run, ordinal);
}

/* The next noted key into `scratch_key`, which merging does not move as it may the list. */
static enum status next_touched(struct store_job *job, size_t *done)
{
    struct buf *key = &job->store->scratch_key;
    struct reader reader = reader_of(slice_from(buf_slice(&job->touched), job->touched_done));
    uint64_t size = reader_varint(&reader);
    enum status status = STATUS_OK;
    buf_clear(key);
    if (size > 0) {
        buf_append_slice(key, reader_bytes(&reader, size));
    } else {
        uint64_t index = reader_varint(&reader);
        uint64_t ordinal = reader_varint(&reader);
        CHECK(index < job->input_count);
        status = packed_key(job->inputs[index]->packed, ordinal, key);
    }
    CHECK(!reader.failed);
    *done = job->touched.size - reader_left(&reader);
    return status == STATUS_OK ? buf_status(key) : status;
}

enum status job_drain_touched(struct store_job *job, size_t limit)
{
    CHECK(buf_status(&job->touched) == STATUS_OK); /* See store_job_expect(). */
    if (job->overrun) return STATUS_LIMIT;
    while (job->touched_done < job->touched.size) {
        if (limit-- == 0) return STATUS_PARTIAL;
        size_t done;
        enum status status = next_touched(job, &done);
        if (status == STATUS_OK) status = take_in(job, buf_slice(&job->store->scratch_key));
        if (status != STATUS_OK) return status;
        job->touched_done = done;
    }
    return STATUS_OK;
}

/* An ingest's own keys, compared with what the store holds. */
static enum status drain_overlap(struct store_job *job, size_t limit)
{
    struct run *run = job->outputs[0];
    enum status status = STATUS_OK;
    if (!job->overlap_started) {
        status = packed_iterator_init(&job->overlap, run->packed, job->heap);
        if (status != STATUS_OK) return status;
        job->overlap_started = true;
        status = packed_iterator_seek(&job->overlap, 0);
    }
    while (status == STATUS_OK && job->overlap.ordinal < packed_info(run->packed)->count) {
        if (limit-- == 0) return STATUS_PARTIAL;
        struct place place;
        struct record record;
        status = store_find(job->store, job->overlap.key, &place, &record);
        if (status == STATUS_OK && place.kind != PLACE_NOWHERE)
            status = merge_ingested(job, run, job->overlap.ordinal, job->overlap.key);
        if (status == STATUS_OK) status = packed_iterator_next(&job->overlap);
    }
    return status == STATUS_END ? STATUS_OK : status;
}

static enum status drain(struct store_job *job)
{
    struct store *store = job->store;
    if (job->output_count == 0) return STATUS_OK;

    uint64_t sequence;
    store_batch_begin(store, store->now_ms);
    enum status status = STATUS_OK;
    if (job->kind == STORE_JOB_INGEST) status = drain_overlap(job, STORE_RESOLVE_STEP);
    if (status == STATUS_OK) status = job_drain_touched(job, STORE_RESOLVE_STEP);
    enum status committed = store_batch_commit(store, &sequence);
    return committed == STATUS_OK ? status : committed;
}

/* --- Preparing the edit --- */

static enum status store_overlay_of(struct store_job *job, struct run *run)
{
    if (run->change_count == run->stored_count) return STATUS_OK;
    struct job_overlay *stored =
        heap_realloc(job->heap, job->stored, (job->stored_count + 1) * sizeof *stored);
    if (stored == NULL) return STATUS_NOMEM;
    job->stored = stored;

    struct job_overlay *overlay = &stored[job->stored_count++];
    overlay->run = run;
    overlay->number = atomic_fetch_add(&job->store->next_file, 1);
    overlay->change_count = run->change_count;
    buf_init(&overlay->bytes, job->heap);
    overlay_encode(job->store->overlays, run->overlay, packed_info(run->packed)->count,
                   &overlay->bytes);
    return buf_status(&overlay->bytes);
}

/* A flush moves the start of the replay, so every kill before it must be in a file. What
 * a compaction's or an ingest's outputs took in may lie before it as well. */
static enum status collect_overlays(struct store_job *job)
{
    struct store *store = job->store;
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < job->output_count; i++) {
        /* The manifest says up to when words are hidden: so must the outputs' overlays. */
        status = store_settle_run(store, job->outputs[i], 0, store->settled_ms);
        if (status == STATUS_OK) status = store_overlay_of(job, job->outputs[i]);
    }
    job->settled_ms = store->settled_ms;
    if (job->kind != STORE_JOB_FLUSH && job->kind != STORE_JOB_CHECKPOINT) return status;
    for (size_t i = planted(BUG_FLUSH_FORGETS_AN_OVERLAY);
         status == STATUS_OK && i < store->run_count; i++)
        status = store_overlay_of(job, store->runs[i]);
    return status;
}

static void edit_runs(struct store_job *job)
{
    for (size_t i = 0; i < job->output_count; i++) {
        const struct run *run = job->outputs[i];
        const struct packed_info *info = packed_info(run->packed);
        manifest_edit_add_run(&job->edit, &(struct manifest_run){
                                              .number = run->number,
                                              .level = run->level,
                                              .group = run->group,
                                              .size_bytes = info->file_bytes,
                                          });
    }
    if (job->kind == STORE_JOB_COMPACT)
        for (size_t i = 0; i < job->input_count; i++)
            manifest_edit_remove_run(&job->edit, job->inputs[i]->number);
    for (size_t i = 0; i < job->stored_count; i++)
        manifest_edit_set_overlay(&job->edit, job->stored[i].run->number, job->stored[i].number);
}

static void edit_numbers(struct store_job *job)
{
    struct store *store = job->store;
    manifest_edit_set_number(&job->edit, MANIFEST_NEXT_FILE, atomic_load(&store->next_file));
    manifest_edit_set_number(&job->edit, MANIFEST_HLC_CEILING, store->ceiling);
    manifest_edit_set_number(&job->edit, MANIFEST_LOG_DURABLE, job->needed_sequence);
    if (store->boot_unnoted) store_edit_boot(store, &job->edit);
    if (job->kind != STORE_JOB_FLUSH && job->kind != STORE_JOB_CHECKPOINT) return;
    manifest_edit_set_number(&job->edit, MANIFEST_SETTLED_MS, store->settled_ms);
    manifest_edit_set_number(&job->edit, MANIFEST_REPLAY_SEQUENCE,
                             job->flushed_sequence + 1 + planted(BUG_REPLAY_TOO_LATE));
}

bool job_has_edit(const struct store_job *job)
{
    return job->kind != STORE_JOB_EXPORT && job->kind != STORE_JOB_SCRUB &&
           job->kind != STORE_JOB_RECEIVE;
}

/* What is owed to the log must be in it before the kills that go with it are in a file. */
static enum status pay(struct store *store)
{
    uint64_t sequence;
    if (store->owed.size == 0) return STATUS_OK;
    store_batch_begin(store, store->now_ms);
    return store_batch_commit(store, &sequence);
}

static enum status prepare_edit(struct store_job *job)
{
    enum status status = job_has_edit(job) ? pay(job->store) : STATUS_OK;
    if (status != STATUS_OK) return status;
    job->needed_sequence = log_last(job->store->log);
    if (!job_has_edit(job)) return STATUS_OK;
    status = store_reserve_runs(job->store, job->output_count);
    if (status != STATUS_OK) return status;
    overlay_begin_batch(job->store->overlays);
    status = collect_overlays(job);
    if (status != STATUS_OK) return status;
    edit_runs(job);
    edit_numbers(job);
    return STATUS_OK;
}

enum status store_job_resolve(struct store *store, struct store_job *job)
{
    CHECK(job->stage == JOB_BUILT || job->stage == JOB_WAITING);
    if (store->failed != STATUS_OK && job->kind != STORE_JOB_SCRUB) return STATUS_READ_ONLY;

    job->is_taking_in = true;
    if (job->stage == JOB_BUILT) {
        enum status status = drain(job);
        if (status == STATUS_OK) status = prepare_edit(job);
        if (status != STATUS_OK) return status;
        job->stage = JOB_WAITING;
    }
    if (job_has_edit(job)) {
        bool waits = !planted(BUG_COMMIT_BEFORE_KILLS) || job->kind != STORE_JOB_COMPACT;
        if (waits && log_durable(store->log) < job->needed_sequence) return STATUS_BUSY;
        enum status status = manifest_commit_begin(store->manifest, &job->edit, &job->commit);
        if (status != STATUS_OK) return status;
        job->commit_begun = true;
    }
    job->stage = JOB_READY;
    return STATUS_OK;
}

static enum status write_overlay(struct store_job *job, const struct job_overlay *overlay)
{
    struct env_file *file;
    enum status status =
        env_open(job->env, name_of(NAME_OVERLAY, overlay->number).text, ENV_CREATE, &file);
    if (status != STATUS_OK) return status;
    status = env_file_write(file, 0, overlay->bytes.data, overlay->bytes.size);
    if (status == STATUS_OK) status = env_file_sync(file);
    env_file_close(file);
    job->written_bytes += overlay->bytes.size;
    return status;
}

enum status store_job_commit(struct store_job *job)
{
    CHECK(job->stage == JOB_READY);
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < job->stored_count; i++)
        status = write_overlay(job, &job->stored[i]);
    if (status == STATUS_OK && job->stored_count > 0) status = env_sync_directory(job->env);
    if (status == STATUS_OK && job->commit_begun) {
        job->stage = JOB_COMMITTED;
        status = manifest_commit_run(&job->commit);
    }
    return status;
}
