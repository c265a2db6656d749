/* Building a job's outputs: pull entries in key order, write packed files. */
#include <string.h>

#include "base/check.h"
#include "base/math.h"
#include "base/planted.h"
#include "core/packed_verify.h"
#include "store/job_internal.h"

static struct query job_query(const struct store_job *job)
{
    return (struct query){
        .layers = job->layers,
        .layer_count = job->layer_count,
        .ranges = job->range.low.size + job->range.high.size == 0 ? NULL : &job->range,
        .range_count = 1,
        .heap = job->heap,
    };
}

/* --- Training --- */

static uint64_t current_count(const struct store_job *job)
{
    uint64_t count = 0;
    for (size_t i = 0; i < job->layer_count; i++) {
        const struct layer *layer = &job->layers[i];
        count += layer->packed != NULL ? packed_info(layer->packed)->count
                                       : memtrie_totals(layer->memtrie, layer->root).current_count;
    }
    return count;
}

/* A key near position `rank` of `count` in the largest layer, to start a sample run at. */
static enum status sample_key(const struct store_job *job, uint64_t index, uint64_t of,
                              struct buf *key)
{
    const struct layer *largest = NULL;
    uint64_t largest_count = 0;
    for (size_t i = 0; i < job->layer_count; i++) {
        const struct layer *layer = &job->layers[i];
        uint64_t count = layer->packed != NULL
                             ? packed_info(layer->packed)->count
                             : memtrie_totals(layer->memtrie, layer->root).live_count;
        if (count <= largest_count) continue;
        largest = layer;
        largest_count = count;
    }
    if (largest == NULL) return STATUS_NOT_FOUND;

    uint64_t rank = largest_count * index / of;
    if (largest->packed != NULL) return packed_key(largest->packed, rank, key);
    return memtrie_select(largest->memtrie, largest->root, rank, key);
}

static enum status sample_run(struct query_iterator *iterator, struct slice from,
                              struct dictionary_trainer *trainer)
{
    enum status status = query_iterator_seek(iterator, from);
    for (int i = 0; status == STATUS_OK && i < JOB_SAMPLE_RUN; i++) {
        status = dictionary_trainer_add(trainer, query_iterator_key(iterator), i == 0);
        if (status == STATUS_OK) status = query_iterator_next(iterator);
    }
    return status == STATUS_END ? STATUS_OK : status;
}

static enum status sample(struct store_job *job, struct dictionary_trainer *trainer)
{
    struct query query = job_query(job);
    struct query_iterator *iterator = NULL;
    struct buf key;
    buf_init(&key, job->heap);

    uint64_t runs = u64_max(1, u64_min(current_count(job) / JOB_SAMPLE_RUN, 4096));
    enum status status = query_iterator_open(&query, (struct slice){0}, QUERY_CURRENT, &iterator);
    for (uint64_t i = 0; status == STATUS_OK && i < runs; i++) {
        status = sample_key(job, i, runs, &key);
        if (status == STATUS_OK) status = sample_run(iterator, buf_slice(&key), trainer);
    }
    query_iterator_close(iterator);
    buf_deinit(&key);

    /* A full sample is a good one; nothing live to choose from is no reason to fail. */
    return status == STATUS_LIMIT || status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

enum status job_train(struct store_job *job)
{
    if (job->dictionary != NULL) return STATUS_OK;

    struct dictionary_trainer *trainer;
    size_t bytes = job->kind == STORE_JOB_FLUSH ? JOB_TRAIN_BYTES_FLUSH : JOB_TRAIN_BYTES_MAX;
    enum status status = dictionary_trainer_create(job->heap, bytes, &trainer);
    if (status != STATUS_OK) return status;
    status = sample(job, trainer);
    if (status == STATUS_OK) status = dictionary_train(trainer, &job->dictionary);
    dictionary_trainer_destroy(trainer);
    return status;
}

/* --- Writing --- */

struct file_sink {
    struct env_file *file;
    uint64_t size;
};

static enum status sink_write(void *context, const void *data, size_t size)
{
    struct file_sink *sink = context;
    enum status status = env_file_write(sink->file, sink->size, data, size);
    if (status == STATUS_OK) sink->size += size;
    return status;
}

/* Writes the builder's file under `name` and makes its bytes durable. */
static enum status write_file(struct store_job *job, const char *name)
{
    struct file_sink target = {0};
    enum status status = env_open(job->env, name, ENV_CREATE, &target.file);
    if (status != STATUS_OK) return status;
    job->made_file = job->kind == STORE_JOB_EXPORT;

    struct packed_sink sink = {sink_write, &target};
    status = packed_builder_finish(job->builder, &sink);
    if (status == STATUS_OK) status = env_file_sync(target.file);
    env_file_close(target.file);
    job->written_bytes += target.size;
    if (job->task != NULL) job->task->size_bytes = target.size;
    return status;
}

static enum status add_output(struct store_job *job, struct run *run)
{
    if (job->output_count == JOB_OUTPUT_COUNT_MAX) return STATUS_LIMIT;
    struct run **outputs =
        heap_realloc(job->heap, job->outputs, (job->output_count + 1) * sizeof *outputs);
    if (outputs == NULL) return STATUS_NOMEM;
    job->outputs = outputs;
    outputs[job->output_count++] = run;
    return STATUS_OK;
}

/* Opens a finished run file and adds it to the outputs; on failure the file goes away. */
static enum status open_output(struct store_job *job, uint64_t number)
{
    struct run *run = NULL;
    enum status status = run_open(job->env, job->heap, number, job->level, &run);
    if (status == STATUS_OK && job->output_count > 0) run->group = job->outputs[0]->group;
    if (status == STATUS_OK) status = add_output(job, run);
    if (status == STATUS_OK) return STATUS_OK;
    run_close(run);
    run_remove_files(job->env, number, 0);
    return status;
}

static enum status finish_output(struct store_job *job)
{
    enum status status;
    if (job->kind == STORE_JOB_EXPORT) {
        status = write_file(job, job->file_name);
    } else {
        uint64_t number = atomic_fetch_add(&job->store->next_file, 1);
        status = write_file(job, name_of(NAME_RUN, number).text);
        if (status == STATUS_OK)
            status = open_output(job, number);
        else
            run_remove_files(job->env, number, 0);
    }
    packed_builder_destroy(job->builder);
    job->builder = NULL;
    return status;
}

static bool is_swept(const struct store_job *job, const struct record *record)
{
    bool exported = job->kind == STORE_JOB_EXPORT;
    if (exported && planted(BUG_TRANSFER_OF_THE_LIVING)) return !record_is_present(record);
    if (job->purge_ms == 0) return false;
    if (!record_is_present(record)) return hlc_wall_ms(record->version.time) <= job->purge_ms;
    return record_is_expired(record, job->purge_ms);
}

static bool is_full(const struct store_job *job)
{
    return job->builder != NULL && job->file_bytes != 0 &&
           packed_builder_size_bytes(job->builder) >= job->file_bytes;
}

/* An export makes one file, and tells where that ends. */
static enum status end_export(struct store_job *job)
{
    buf_append_slice(&job->task->end, query_iterator_key(job->iterator));
    enum status status = buf_status(&job->task->end);
    return status == STATUS_OK ? STATUS_END : status;
}

static enum status add_entry(struct store_job *job)
{
    struct record record;
    enum status status = query_iterator_record(job->iterator, &record);
    if (status != STATUS_OK || is_swept(job, &record)) return status;

    if (job->builder == NULL)
        status = packed_builder_create(job->heap, job->dictionary, job->store->options.hash_seed,
                                       &job->builder);
    if (status == STATUS_OK)
        status = packed_builder_add(job->builder, query_iterator_key(job->iterator), &record);
    if (status != STATUS_OK) return status;

    return is_full(job) && job->kind != STORE_JOB_EXPORT ? finish_output(job) : STATUS_OK;
}

static enum status start(struct store_job *job)
{
    struct query query = job_query(job);
    enum status status =
        query_iterator_open(&query, (struct slice){0}, QUERY_CURRENT, &job->iterator);
    if (status != STATUS_OK) return status;
    job->iterator_started = true;
    return query_iterator_seek(job->iterator, (struct slice){0});
}

enum status job_build(struct store_job *job)
{
    enum status status = job->iterator_started ? STATUS_OK : start(job);
    for (int i = 0; status == STATUS_OK && i < JOB_STEP_ENTRIES; i++) {
        if (is_full(job)) {
            status = end_export(job); /* Of others each output is cut as it fills. */
            break;
        }
        status = add_entry(job);
        if (status == STATUS_OK) status = query_iterator_next(job->iterator);
    }
    if (status == STATUS_OK) return STATUS_PARTIAL;
    if (status != STATUS_END) return status;

    if (job->builder != NULL) {
        status = finish_output(job);
        if (status != STATUS_OK) return status;
    }
    if (planted(BUG_NO_DIRECTORY_SYNC)) return STATUS_OK;
    return env_sync_directory(job->env);
}

/* --- Ingest --- */

/* Copies the source under a run's name, checks every page, and opens it. */
static enum status copy_source(struct store_job *job)
{
    struct env_file *source = NULL;
    struct env_map *map = NULL;
    struct file_sink target = {0};
    uint64_t number = atomic_fetch_add(&job->store->next_file, 1);

    enum status status = env_open(job->env, job->file_name, ENV_READ, &source);
    if (status == STATUS_OK) status = env_file_map(source, &map);
    env_file_close(source);
    if (status == STATUS_OK)
        status = env_open(job->env, name_of(NAME_RUN, number).text, ENV_CREATE, &target.file);
    if (status == STATUS_OK) {
        status = sink_write(&target, map->bytes.data, map->bytes.size);
        if (status == STATUS_OK) status = env_file_sync(target.file);
        env_file_close(target.file);
        if (status == STATUS_OK) status = open_output(job, number);
        if (status != STATUS_OK) run_remove_files(job->env, number, 0);
    }
    env_unmap(map);
    job->written_bytes += target.size;
    return status == STATUS_OK ? env_sync_directory(job->env) : status;
}

static enum status verify_pages(const struct packed *packed)
{
    for (uint64_t page = 0; page < packed_page_count(packed); page++) {
        enum status status = packed_verify_page(packed, page);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

static void ignore_flaw(void *context, uint64_t offset, const char *text)
{
    (void)context;
    (void)offset;
    (void)text;
}

/* Once its range is set the writer notes every key written there: see store_job_touch(). The file
 * may come from another node: right checksums do not make it right. */
enum status job_ingest_step(struct store_job *job)
{
    struct packed_verify verify = {.flaw = ignore_flaw};
    enum status status = copy_source(job);
    if (status == STATUS_OK) status = verify_pages(job->outputs[0]->packed);
    if (status != STATUS_OK) return status;
    return packed_verify_content(job->outputs[0]->packed, job->heap, &verify);
}

/* --- Receive --- */

/* A new file takes the place of one that an earlier attempt left. */
static enum status open_received(const struct store_job *job, struct env_file **out)
{
    if (job->task->offset > 0) return env_open(job->env, job->file_name, ENV_WRITE, out);
    enum status status = env_remove(job->env, job->file_name);
    if (status != STATUS_OK && status != STATUS_NOT_FOUND) return status;
    return env_open(job->env, job->file_name, ENV_CREATE, out);
}

enum status job_receive_step(struct store_job *job)
{
    const struct transfer_task *task = job->task;
    struct env_file *file;
    enum status status = open_received(job, &file);
    if (status != STATUS_OK) return status;
    status = env_file_write(file, task->offset, task->bytes.data, task->bytes.size);
    if (status == STATUS_OK) status = env_file_sync(file);
    env_file_close(file);
    if (status == STATUS_OK) job->written_bytes += task->bytes.size;
    if (status == STATUS_OK && task->offset == 0) status = env_sync_directory(job->env);
    return status;
}

/* --- Scrub --- */

enum status job_scrub_step(struct store_job *job)
{
    enum { PAGES = 256 };
    const struct packed *packed = job->inputs[0]->packed;

    for (int i = 0; i < PAGES; i++) {
        if (job->page == packed_page_count(packed)) return STATUS_OK;
        enum status status = packed_verify_page(packed, job->page);
        if (status != STATUS_OK) return status;
        job->page++;
        job->written_bytes += PACKED_PAGE_BYTES;
    }
    return STATUS_PARTIAL;
}
