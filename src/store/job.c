/* The life of a job: begun by the writer, built anywhere, taken in by the writer. */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/math.h"
#include "store/job_internal.h"

/* --- Making and ending --- */

static struct store_job *job_create(struct store *store, enum store_job_kind kind)
{
    struct store_job *job = heap_zalloc(store->heap, sizeof *job);
    if (job == NULL) return NULL;
    job->kind = kind;
    job->store = store;
    job->heap = store->heap;
    job->env = store->env;
    buf_init(&job->low, job->heap);
    buf_init(&job->high, job->heap);
    buf_init(&job->touched, job->heap);
    manifest_edit_init(&job->edit, job->heap);
    if (overlay_space_init(&job->overlays, job->heap) != STATUS_OK) {
        heap_free(store->heap, job);
        return NULL;
    }
    return job;
}

static void close_overlap(struct store_job *job)
{
    if (job->overlap_started) packed_iterator_deinit(&job->overlap);
    job->overlap_started = false;
}

void job_destroy(struct store_job *job)
{
    if (job == NULL) return;
    query_iterator_close(job->iterator);
    close_overlap(job);
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

/* A copy of the overlay that stays while the store's own goes on changing. */
static enum status copy_overlay(struct store_job *job, const struct run *run, overlay_root *root)
{
    *root = 0;
    if (run->overlay == 0) return STATUS_OK;

    struct buf bytes;
    buf_init(&bytes, job->heap);
    uint64_t count = packed_info(run->packed)->count;
    overlay_encode(&job->store->overlays, run->overlay, count, &bytes);
    enum status status = buf_status(&bytes);
    if (status == STATUS_OK)
        status = overlay_decode(&job->overlays, buf_slice(&bytes), count, root);
    buf_deinit(&bytes);
    return status;
}

/* Takes `frozen` (or NULL) and `runs` as inputs, as they are now. */
static enum status take_inputs(struct store_job *job, struct generation *frozen,
                               struct run *const *runs, size_t run_count)
{
    job->inputs = heap_alloc(job->heap, run_count * sizeof *job->inputs);
    job->layers = heap_zalloc(job->heap, (run_count + 1) * sizeof *job->layers);
    if (job->inputs == NULL || job->layers == NULL) return STATUS_NOMEM;

    if (frozen != NULL)
        job->layers[job->layer_count++] =
            (struct layer){.memtrie = &frozen->trie, .root = frozen->root};
    overlay_begin_batch(&job->overlays);
    for (size_t i = 0; i < run_count; i++) {
        struct layer layer = {.packed = runs[i]->packed, .overlays = &job->overlays};
        enum status status = copy_overlay(job, runs[i], &layer.overlay);
        if (status != STATUS_OK) return status;
        job->layers[job->layer_count++] = layer;
        job->inputs[job->input_count++] = runs[i];
    }
    job->frozen = frozen;
    return STATUS_OK;
}

/* The job starts to race the writer: from here on changes to its inputs are noted. */
static void enter(struct store_job *job)
{
    if (job->frozen != NULL) job->frozen->pinned = true;
    for (size_t i = 0; i < job->input_count; i++) job->inputs[i]->in_job = true;
    job->store->job = job;
}

static void leave(struct store_job *job)
{
    if (job->frozen != NULL) job->frozen->pinned = false;
    for (size_t i = 0; i < job->input_count; i++) job->inputs[i]->in_job = false;
    job->store->job = NULL;
}

/* Begins a job, or frees it if its inputs could not be taken. */
static enum status begin(struct store_job *job, enum status status, struct store_job **out)
{
    if (status != STATUS_OK) {
        job_destroy(job);
        return status;
    }
    enter(job);
    *out = job;
    return STATUS_OK;
}

/* --- What to do --- */

/* The active memory trie waits for its flush; writes go to a new one. */
static enum status rotate(struct store *store)
{
    CHECK(store->frozen == NULL);
    struct generation *next = generation_create(store);
    if (next == NULL) return STATUS_NOMEM;
    store->active->sequence_last = log_last(store->log);
    store->frozen = store->active;
    store->active = next;
    return STATUS_OK;
}

static enum status reuse_dictionary(struct store_job *job)
{
    struct store *store = job->store;
    for (size_t i = 0; i < store->run_count; i++) {
        /* A dictionary trained on a handful of words would serve none of the next files. */
        if (packed_info(store->runs[i]->packed)->count < JOB_STEP_ENTRIES) continue;
        return packed_dictionary(store->runs[i]->packed, job->heap, &job->dictionary);
    }
    return STATUS_OK;
}

static enum status flush_begin(struct store *store, struct store_job **out)
{
    struct store_job *job = job_create(store, STORE_JOB_FLUSH);
    if (job == NULL) return STATUS_NOMEM;
    enum status status = store->frozen == NULL ? rotate(store) : STATUS_OK;
    if (status == STATUS_OK) status = take_inputs(job, store->frozen, NULL, 0);
    if (status == STATUS_OK) status = reuse_dictionary(job);
    return begin(job, status, out);
}

static bool flush_is_due(const struct store *store)
{
    if (store->frozen != NULL) return true;
    if (store->active->root == 0) return false;
    return arena_footprint_bytes(&store->active->trie.arena) > store->options.memtrie_bytes_max ||
           log_bytes_since(store->log, store->flushed_sequence) > store->options.log_bytes_max;
}

static enum status compact_begin(struct store *store, struct store_job **out)
{
    enum status status;
    struct plan *plan = heap_alloc(store->heap, sizeof *plan);
    if (plan == NULL) return STATUS_NOMEM;
    if (!plan_compaction(store, plan)) {
        heap_free(store->heap, plan);
        return STATUS_END;
    }
    struct store_job *job = job_create(store, STORE_JOB_COMPACT);
    if (job == NULL) {
        status = STATUS_NOMEM;
    } else {
        job->level = plan->level;
        job->file_bytes = plan->level == STORE_BOTTOM_LEVEL ? store->options.file_bytes : 0;
        job->purge_ms = store->now_ms - u64_min(store->now_ms, store->options.gc_age_ms);
        status = begin(job, take_inputs(job, NULL, plan->runs, plan->run_count), out);
    }
    heap_free(store->heap, plan);
    return status;
}

static enum status checkpoint_begin(struct store *store, struct store_job **out)
{
    struct store_job *job = job_create(store, STORE_JOB_CHECKPOINT);
    return job == NULL ? STATUS_NOMEM : begin(job, STATUS_OK, out);
}

static bool overlays_changed(const struct store *store)
{
    for (size_t i = 0; i < store->run_count; i++)
        if (store->runs[i]->change_count != store->runs[i]->stored_count) return true;
    return false;
}

enum status store_job_begin(struct store *store, struct store_job **out)
{
    if (store->failed != STATUS_OK) return STATUS_READ_ONLY;
    if (store->job != NULL) return STATUS_BUSY;
    if (flush_is_due(store)) return flush_begin(store, out);
    if (store->kills_unstored >= STORE_CHECKPOINT_KILLS) return checkpoint_begin(store, out);
    return compact_begin(store, out);
}

enum status store_flush_begin(struct store *store, struct store_job **out)
{
    if (store->failed != STATUS_OK) return STATUS_READ_ONLY;
    if (store->job != NULL) return STATUS_BUSY;
    if (store->frozen != NULL || store->active->root != 0) return flush_begin(store, out);
    if (overlays_changed(store)) return checkpoint_begin(store, out);
    return STATUS_END;
}

enum status store_scrub_begin(struct store *store, uint64_t after, struct store_job **out)
{
    if (store->job != NULL) return STATUS_BUSY;
    struct run *next = NULL;
    for (size_t i = 0; i < store->run_count; i++) {
        struct run *run = store->runs[i];
        if (run->number > after && (next == NULL || run->number < next->number)) next = run;
    }
    if (next == NULL) return STATUS_END;
    struct store_job *job = job_create(store, STORE_JOB_SCRUB);
    if (job == NULL) return STATUS_NOMEM;
    return begin(job, take_inputs(job, NULL, &next, 1), out);
}

static enum status set_range(struct store_job *job, struct slice low, struct slice high)
{
    buf_append_slice(&job->low, low);
    buf_append_slice(&job->high, high);
    job->range = (struct key_range){buf_slice(&job->low), buf_slice(&job->high)};
    if (buf_status(&job->low) != STATUS_OK) return STATUS_NOMEM;
    return buf_status(&job->high);
}

/* A snapshot: what memory holds is frozen, and goes into the file together with the runs
 * as their overlays are now. The memory trie is flushed afterwards as any other. */
enum status store_export_begin(struct store *store, const struct key_range *range,
                               const char *file_name, struct store_job **out)
{
    if (store->failed != STATUS_OK) return STATUS_READ_ONLY;
    if (store->job != NULL || store->frozen != NULL) return STATUS_BUSY;
    struct store_job *job = job_create(store, STORE_JOB_EXPORT);
    if (job == NULL) return STATUS_NOMEM;

    snprintf(job->file_name, sizeof job->file_name, "%s", file_name);
    enum status status = set_range(job, range->low, range->high);
    if (status == STATUS_OK) status = rotate(store);
    if (status == STATUS_OK)
        status = take_inputs(job, store->frozen, store->runs, store->run_count);
    return begin(job, status, out);
}

static enum status read_range(struct store_job *job)
{
    struct env_file *file;
    struct env_map *map;
    struct packed *packed;

    enum status status = env_open(job->env, job->file_name, ENV_READ, &file);
    if (status != STATUS_OK) return status;
    status = env_file_map(file, &map);
    env_file_close(file);
    if (status != STATUS_OK) return status;
    status = packed_open(job->heap, map->bytes, &packed);
    if (status == STATUS_OK) {
        /* The least key above the last one is the last one with a zero byte behind it. */
        const struct packed_info *info = packed_info(packed);
        status = set_range(job, info->key_first, info->key_last);
        buf_append_u8(&job->high, 0);
        if (status == STATUS_OK) status = buf_status(&job->high);
        job->range.high = buf_slice(&job->high);
        packed_close(packed);
    }
    env_unmap(map);
    return status;
}

enum status store_ingest_begin(struct store *store, const char *file_name, struct store_job **out)
{
    if (store->failed != STATUS_OK) return STATUS_READ_ONLY;
    if (store->job != NULL) return STATUS_BUSY;
    struct store_job *job = job_create(store, STORE_JOB_INGEST);
    if (job == NULL) return STATUS_NOMEM;
    snprintf(job->file_name, sizeof job->file_name, "%s", file_name);
    return begin(job, read_range(job), out);
}

/* --- Building --- */

static enum status build_step(struct store_job *job)
{
    switch (job->kind) {
    case STORE_JOB_CHECKPOINT:
        return STATUS_OK;
    case STORE_JOB_INGEST:
        return job_ingest_step(job);
    case STORE_JOB_SCRUB:
        return job_scrub_step(job);
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

/* --- Taking in --- */

void store_job_touch(struct store *store, struct slice key, const struct place *place)
{
    struct store_job *job = store->job;
    if (job == NULL) return;

    bool noted = false;
    if (job->kind == STORE_JOB_INGEST)
        noted = slice_compare(key, job->range.low) >= 0 && slice_compare(key, job->range.high) < 0;
    else if (place->kind == PLACE_FROZEN)
        noted = job->frozen != NULL;
    else if (place->kind == PLACE_RUN)
        noted = place->run->in_job;
    if (!noted) return;

    buf_append_varint(&job->touched, key.size);
    buf_append_slice(&job->touched, key);
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
    if (status == STATUS_OK)
        status = overlay_kill(&job->store->overlays, run->packed, &run->overlay, ordinal, hash);
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
    if (overlay_state(&job->store->overlays, run->packed, run->overlay, ordinal) == OVERLAY_DEAD)
        return STATUS_OK;
    if (job->kind == STORE_JOB_INGEST) return merge_ingested(job, run, ordinal, key);
    return kill_output(job, run, ordinal);
}

/* Up to `limit` of the noted keys. STATUS_PARTIAL when more are left. */
static enum status drain_touched(struct store_job *job, size_t limit)
{
    while (job->touched_done < job->touched.size) {
        if (limit-- == 0) return STATUS_PARTIAL;
        struct reader reader = reader_of(slice_from(buf_slice(&job->touched), job->touched_done));
        struct slice key = reader_bytes(&reader, reader_varint(&reader));
        CHECK(!reader.failed);

        /* Merging notes keys itself and may move the list. */
        size_t done = job->touched.size - reader_left(&reader);
        buf_clear(&job->store->scratch_key);
        buf_append_slice(&job->store->scratch_key, key);
        if (buf_status(&job->store->scratch_key) != STATUS_OK) return STATUS_NOMEM;
        enum status status = take_in(job, buf_slice(&job->store->scratch_key));
        if (status != STATUS_OK) return status;
        job->touched_done = done;
    }
    return buf_status(&job->touched);
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
    if (status == STATUS_OK) status = drain_touched(job, STORE_RESOLVE_STEP);
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
    overlay_encode(&job->store->overlays, run->overlay, packed_info(run->packed)->count,
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
    for (size_t i = 0; status == STATUS_OK && i < store->run_count; i++)
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
    if (job->kind != STORE_JOB_FLUSH && job->kind != STORE_JOB_CHECKPOINT) return;
    manifest_edit_set_number(&job->edit, MANIFEST_SETTLED_MS, store->settled_ms);
    if (job->kind == STORE_JOB_FLUSH)
        manifest_edit_set_number(&job->edit, MANIFEST_REPLAY_SEQUENCE,
                                 job->frozen->sequence_last + 1);
}

static bool has_edit(const struct store_job *job)
{
    return job->kind != STORE_JOB_EXPORT && job->kind != STORE_JOB_SCRUB;
}

static enum status prepare_edit(struct store_job *job)
{
    job->needed_sequence = log_last(job->store->log);
    if (!has_edit(job)) return STATUS_OK;
    overlay_begin_batch(&job->store->overlays);
    enum status status = collect_overlays(job);
    if (status != STATUS_OK) return status;
    edit_runs(job);
    edit_numbers(job);
    return STATUS_OK;
}

enum status store_job_resolve(struct store *store, struct store_job *job)
{
    CHECK(job->stage == JOB_BUILT || job->stage == JOB_WAITING);
    if (store->failed != STATUS_OK && job->kind != STORE_JOB_SCRUB) return STATUS_READ_ONLY;

    if (job->stage == JOB_BUILT) {
        enum status status = drain(job);
        if (status == STATUS_OK) status = prepare_edit(job);
        if (status != STATUS_OK) return status;
        job->stage = JOB_WAITING;
    }
    if (has_edit(job)) {
        if (log_durable(store->log) < job->needed_sequence) return STATUS_BUSY;
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

/* --- Publishing --- */

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

/* The manifest has it: now the tip and the next view do. */
static enum status publish(struct store_job *job)
{
    struct store *store = job->store;
    if (store->failed != STATUS_OK) return STATUS_READ_ONLY;

    store_batch_begin(store, store->now_ms);
    enum status status = job->output_count > 0 ? drain_touched(job, SIZE_MAX) : STATUS_OK;
    adopt_overlays(job);
    if (status == STATUS_OK) status = adopt_outputs(job);
    if (status != STATUS_OK) return status;

    if (job->kind == STORE_JOB_COMPACT) remove_inputs(job);
    if (job->kind == STORE_JOB_FLUSH) {
        store->flushed_sequence = job->frozen->sequence_last;
        store->frozen = NULL;
        store_retire_generation(store, job->frozen);
        log_release(store->log, store->flushed_sequence);
        store->kills_unstored = 0;
    }
    if (job->kind == STORE_JOB_CHECKPOINT) store->kills_unstored = 0;

    uint64_t sequence;
    if (store->batch_count > 0) return store_batch_commit(store, &sequence);
    return store_make_view(store);
}

static void undo(struct store_job *job)
{
    close_overlap(job);
    for (size_t i = 0; i < job->output_count; i++) {
        run_remove_files(job->env, job->outputs[i]->number, 0);
        run_close(job->outputs[i]);
    }
    for (size_t i = 0; i < job->stored_count; i++) {
        enum status ignored =
            env_remove(job->env, name_of(NAME_OVERLAY, job->stored[i].number).text);
        (void)ignored;
    }
    job->output_count = 0;
}

/* A commit whose outcome is not known leaves every file where it is: the next start knows. */
static void abandon(struct store_job *job)
{
    close_overlap(job);
    for (size_t i = 0; i < job->output_count; i++) run_close(job->outputs[i]);
    job->output_count = 0;
    store_poison(job->store, STATUS_IO);
}

static void count_job(struct store_job *job)
{
    struct store *store = job->store;
    store->totals.run_written_bytes += job->written_bytes;
    store->totals.flushes += job->kind == STORE_JOB_FLUSH;
    store->totals.compactions += job->kind == STORE_JOB_COMPACT;
    store->totals.scrubbed_pages += job->page;
}

enum status store_job_finish(struct store *store, struct store_job *job, enum status status)
{
    CHECK(store->job == job);
    bool committed = job->stage == JOB_COMMITTED;
    if (job->commit_begun) {
        manifest_commit_complete(&job->commit, committed ? status : STATUS_CANCELLED);
        job->commit_begun = false;
    }
    leave(job);
    count_job(job);

    bool unknown = committed && status != STATUS_OK && status != STATUS_FULL &&
                   status != STATUS_NOMEM;
    if (status == STATUS_OK && has_edit(job)) {
        status = publish(job);
        /* What the manifest says and the tip does not can only be mended by a restart. */
        if (status != STATUS_OK) abandon(job);
    } else if (unknown) {
        abandon(job);
    } else if (status != STATUS_OK) {
        undo(job);
    }
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
    };
    return names[kind];
}
