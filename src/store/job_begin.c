/* Beginning a job: what there is to do, and the state that it reads. */
#include <stdio.h>

#include "base/check.h"
#include "base/math.h"
#include "base/planted.h"
#include "store/job_internal.h"

/* --- Making --- */

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
        enum status status =
            run_copy_overlay(runs[i], job->store->overlays, &job->overlays, &layer.overlay);
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
    for (size_t i = 0; i < job->input_count; i++) {
        job->inputs[i]->in_job = true;
        job->inputs[i]->job_index = (uint32_t)i;
    }
    job->store->job = job;
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

/* Where outputs are cut: not so early that there would be more than a job may make. */
static uint64_t cut_bytes(const struct store *store, unsigned level, uint64_t input_bytes)
{
    uint64_t bytes = store->options.file_bytes;
    if (level != STORE_BOTTOM_LEVEL) bytes *= STORE_TIER_FILE_SHARE;
    return u64_max(bytes, input_bytes / JOB_OUTPUT_COUNT_AIM);
}

static enum status flush_begin(struct store *store, struct store_job **out)
{
    struct store_job *job = job_create(store, STORE_JOB_FLUSH);
    if (job == NULL) return STATUS_NOMEM;
    enum status status = store->frozen == NULL ? rotate(store) : STATUS_OK;
    if (status == STATUS_OK) {
        uint64_t bytes = arena_footprint_bytes(&store->frozen->trie.arena);
        job->flushed_sequence = store->frozen->sequence_last;
        job->file_bytes = cut_bytes(store, job->level, bytes);
    }
    if (status == STATUS_OK) status = take_inputs(job, store->frozen, NULL, 0);
    if (status == STATUS_OK) status = reuse_dictionary(job);
    return begin(job, status, out);
}

static bool memory_is_empty(const struct store *store)
{
    return store->frozen == NULL && store->active->root == 0;
}

/* On a full disk a flush gives back the room of the log much earlier. */
static bool log_is_long(const struct store *store)
{
    enum { SHARE_WHEN_FULL = 8 };
    uint64_t bytes_max = store->options.log_bytes_max;
    if (store->full) bytes_max /= SHARE_WHEN_FULL;
    return log_bytes_since(store->log, store->flushed_sequence) > bytes_max;
}

static bool flush_is_due(const struct store *store)
{
    if (store->frozen != NULL) return true;
    if (store->active->root == 0) return false;
    return arena_footprint_bytes(&store->active->trie.arena) > store->options.memtrie_bytes_max ||
           log_is_long(store) || store_wants_early_flush(store);
}

static uint64_t input_bytes(const struct plan *plan)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < plan->run_count; i++)
        bytes += packed_info(plan->runs[i]->packed)->file_bytes;
    return bytes;
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
        job->file_bytes = cut_bytes(store, plan->level, input_bytes(plan));
        job->purge_ms = store->now_ms - u64_min(store->now_ms, store->options.gc_age_ms);
        status = begin(job, take_inputs(job, NULL, plan->runs, plan->run_count), out);
    }
    heap_free(store->heap, plan);
    return status;
}

static enum status checkpoint_begin(struct store *store, struct store_job **out)
{
    struct store_job *job = job_create(store, STORE_JOB_CHECKPOINT);
    if (job == NULL) return STATUS_NOMEM;
    /* With nothing in memory, all that the log says is in files already. */
    job->flushed_sequence = memory_is_empty(store) ? log_last(store->log) : store->flushed_sequence;
    return begin(job, STATUS_OK, out);
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
    if (store->kills_unstored >= STORE_CHECKPOINT_KILLS || log_is_long(store))
        return checkpoint_begin(store, out);
    enum status status = store_transfer_begin(store, out);
    if (status != STATUS_END) return status;
    store->transfer_waits = false;
    status = compact_begin(store, out);
    return status == STATUS_END ? store_transfer_begin(store, out) : status;
}

enum status store_flush_begin(struct store *store, struct store_job **out)
{
    if (store->failed != STATUS_OK) return STATUS_READ_ONLY;
    if (store->job != NULL) return STATUS_BUSY;
    if (store->frozen != NULL || store->active->root != 0) return flush_begin(store, out);
    if (overlays_changed(store) || store->flushed_sequence != log_last(store->log))
        return checkpoint_begin(store, out);
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
    uint64_t number;
    if (name_parse(file_name, &number) != NAME_TRANSFER) return STATUS_INVALID;
    if (store->job != NULL || store->frozen != NULL) return STATUS_BUSY;
    struct store_job *job = job_create(store, STORE_JOB_EXPORT);
    if (job == NULL) return STATUS_NOMEM;

    snprintf(job->file_name, sizeof job->file_name, "%s", file_name);
    enum status status = set_range(job, range->low, range->high);
    if (status == STATUS_OK) status = rotate(store);
    if (status == STATUS_OK)
        status = take_inputs(job, store->frozen, store->runs, store->run_count);
    if (status == STATUS_OK) status = reuse_dictionary(job);
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
        status = info->hash_seed == job->store->options.hash_seed ? STATUS_OK : STATUS_INVALID;
        if (status == STATUS_OK) status = set_range(job, info->key_first, info->key_last);
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

static enum status receive_begin(struct store *store, const struct transfer_task *task,
                                 struct store_job **out)
{
    if (store->full) return STATUS_FULL;
    struct store_job *job = job_create(store, STORE_JOB_RECEIVE);
    if (job == NULL) return STATUS_NOMEM;
    snprintf(job->file_name, sizeof job->file_name, "%s",
             name_of(NAME_TRANSFER, task->number).text);
    return begin(job, STATUS_OK, out);
}

/* Whether all keys of the file to be ingested lie in the range that was asked for. */
static bool lies_within(const struct store_job *job, const struct transfer_task *task)
{
    struct slice high = buf_slice(&task->high);
    if (planted(BUG_TRANSFER_OF_ANY_KEY)) return true;
    if (slice_compare(job->range.low, buf_slice(&task->low)) < 0) return false;
    return high.size == 0 || slice_compare(job->range.high, high) <= 0;
}

enum status job_begin_task(struct store *store, struct transfer_task *task, struct store_job **out)
{
    struct name name = name_of(NAME_TRANSFER, task->number);
    struct key_range range = {buf_slice(&task->low), buf_slice(&task->high)};
    struct store_job *job;
    enum status status;
    switch (task->kind) {
    case STORE_TRANSFER_EXPORT:
        status = store->full ? STATUS_FULL : store_export_begin(store, &range, name.text, &job);
        break;
    case STORE_TRANSFER_INGEST:
        status = store_ingest_begin(store, name.text, &job);
        break;
    default:
        status = receive_begin(store, task, &job);
        break;
    }
    if (status != STATUS_OK) return status;
    if (task->kind == STORE_TRANSFER_INGEST && !lies_within(job, task)) {
        status = store_job_finish(store, job, STATUS_INVALID);
        return status;
    }
    if (task->kind == STORE_TRANSFER_EXPORT) job->file_bytes = task->bytes_max;
    job->task = task;
    *out = job;
    return STATUS_OK;
}
