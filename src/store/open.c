/* Opening: what the manifest names, then the log after it. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/math.h"
#include "base/planted.h"
#include "store/batch.h"
#include "store/internal.h"

struct store_options store_options_default(void)
{
    return (struct store_options){
        .hash_seed = UINT64_C(0x7472696665637461),
        .node_id = 1,
        .clock_skew_max_ms = HLC_DRIFT_MAX_MS,
        .publish_after_sync = true,
        .memtrie_bytes_max = UINT64_C(192) << 20,
        .log_bytes_max = UINT64_C(256) << 20,
        .log_segment_bytes = UINT64_C(16) << 20,
        .file_bytes = UINT64_C(64) << 20,
        .tier_runs_max = 4,
        .low_water_bytes = UINT64_C(128) << 20,
        .reserve_bytes = UINT64_C(32) << 20,
        .gc_age_ms = UINT64_C(10) * 24 * 3600 * 1000,
    };
}

__attribute__((format(printf, 2, 3))) static void explain(struct store_report *report,
                                                          const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(report->detail, sizeof report->detail, format, list);
    va_end(list);
}

static enum status load_overlay(struct store *store, struct run *run, uint64_t number)
{
    struct env_file *file;
    struct env_map *map;

    enum status status = env_open(store->env, name_of(NAME_OVERLAY, number).text, ENV_READ, &file);
    if (status != STATUS_OK) return status;
    status = env_file_map(file, &map);
    env_file_close(file);
    if (status != STATUS_OK) return status;

    status =
        overlay_decode(store->overlays, map->bytes, packed_info(run->packed)->count, &run->overlay);
    if (status == STATUS_OK && env_map_damaged(map)) status = STATUS_CORRUPT;
    env_unmap(map);
    if (status == STATUS_OK) run->overlay_number = number;
    return status;
}

enum status store_reserve_runs(struct store *store, size_t count)
{
    size_t needed = store->run_count + count;
    if (needed > STORE_RUN_COUNT_MAX) return STATUS_LIMIT;
    if (needed <= store->run_capacity) return STATUS_OK;
    size_t capacity = size_max(size_max(16, needed), store->run_capacity * 2);
    struct run **runs = heap_realloc(store->heap, store->runs, capacity * sizeof *runs);
    if (runs == NULL) return STATUS_NOMEM;
    store->runs = runs;
    store->run_capacity = capacity;
    return STATUS_OK;
}

enum status store_add_run(struct store *store, struct run *run)
{
    enum status status = store_reserve_runs(store, 1);
    if (status != STATUS_OK) return status;
    memmove(store->runs + 1, store->runs, store->run_count * sizeof *store->runs);
    store->runs[0] = run;
    store->run_count++;
    return STATUS_OK;
}

static enum status load_run(struct store *store, const struct manifest_run *entry,
                            struct store_report *report)
{
    struct run *run;
    enum name_kind kind = NAME_RUN;
    uint64_t number = entry->number;

    enum status status = run_open(store->env, store->heap, number, (unsigned)entry->level, &run);
    if (status == STATUS_OK) {
        if (entry->group != 0) run->group = entry->group;
        status = store_add_run(store, run);
        if (status != STATUS_OK) run_close(run);
    }
    if (status == STATUS_OK && entry->overlay != 0) {
        kind = NAME_OVERLAY;
        number = entry->overlay;
        status = load_overlay(store, run, number);
    }
    if (status == STATUS_OK && packed_info(run->packed)->hash_seed != store->options.hash_seed) {
        explain(report, "%s was made with another hash seed than %llx: start with the one it has",
                name_of(kind, number).text, (unsigned long long)store->options.hash_seed);
        return STATUS_FOREIGN;
    }
    if (status == STATUS_OK) return STATUS_OK;

    explain(report,
            "%s, named by the manifest, cannot be opened (%s); restore it from a backup "
            "or another node, or check the directory with: trifecta verify DIR",
            name_of(kind, number).text, status_name(status));
    return status;
}

static enum status load_runs(struct store *store, struct store_report *report)
{
    const struct manifest_state *state = manifest_state(store->manifest);
    overlay_begin_batch(store->overlays);
    for (size_t i = 0; i < state->run_count; i++) {
        enum status status = load_run(store, &state->runs[i], report);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

struct replay {
    struct store *store;
    struct store_report *report;
};

static enum status replay_batch(void *context, uint64_t sequence, struct slice payload)
{
    struct replay *replay = context;
    struct store *store = replay->store;
    struct reader reader = reader_of(payload);
    struct batch_entry entry;
    enum status status;

    replay->report->replayed_batches++;
    replay->report->replayed_bytes += payload.size;
    while ((status = batch_next(&reader, &entry)) == STATUS_OK) {
        if (entry.kind == BATCH_CEILING) {
            store->ceiling = u64_max(store->ceiling, entry.ceiling);
            continue;
        }
        struct store_outcome outcome = {.status = STATUS_OK};
        if (entry.kind == BATCH_FORGET) {
            status = store_forget(store, entry.key, entry.version, false, &outcome);
            if (status != STATUS_OK) return status;
            continue;
        }
        status = store_merge(store, entry.key, &entry.record, false, &outcome);
        if (status != STATUS_OK) return status;
        store->clock.last = u64_max(store->clock.last, entry.record.version.time);
        replay->report->replayed_records++;
    }
    return status == STATUS_END ? STATUS_OK : status;
}

static void explain_log(struct store_report *report, const struct log_report *log,
                        enum status status)
{
    unsigned long long sequence = (unsigned long long)log->sequence;
    if (status != STATUS_CORRUPT && log->segment == 0)
        explain(report, "the log cannot be read (%s)", status_name(status));
    else if (log->segment == 0)
        explain(report,
                "the log cannot be replayed (%s): no segment begins with batch %llu, nor before "
                "it; check the directory with: trifecta verify DIR",
                status_name(status), sequence);
    else
        explain(report,
                "the log cannot be replayed (%s): %s at offset %llu, batch %llu; check the "
                "directory with: trifecta verify DIR",
                status_name(status), name_of(NAME_LOG, log->segment).text,
                (unsigned long long)log->offset, sequence);
}

static enum status open_log(struct store *store, struct store_report *report)
{
    const struct manifest_state *state = manifest_state(store->manifest);
    struct log_report log_report = {0};
    struct log_options options = {
        .replay_sequence = u64_max(1, state->numbers[MANIFEST_REPLAY_SEQUENCE]),
        .durable_sequence = state->numbers[MANIFEST_LOG_DURABLE],
        .expect_segments = state->numbers[MANIFEST_LOG_BEGUN] != 0,
        .segment_bytes = store->options.log_segment_bytes,
    };
    memcpy(options.store_id, state->store_id, sizeof options.store_id);
    store->flushed_sequence = options.replay_sequence - 1;

    struct replay replay = {store, report};
    memtrie_begin_batch(&store->active->trie);
    overlay_begin_batch(store->overlays);
    enum status status = log_open(store->env, store->heap, &options, replay_batch, &replay,
                                  &log_report, &store->log);
    report->torn_bytes = log_report.cut_bytes;
    if (status != STATUS_OK && report->detail[0] == '\0') explain_log(report, &log_report, status);
    return status;
}

void store_edit_boot(const struct store *store, struct manifest_edit *edit)
{
    const struct manifest_state *state = manifest_state(store->manifest);
    manifest_edit_set_number(edit, MANIFEST_LOG_BEGUN, 1);
    manifest_edit_set_number(edit, MANIFEST_CLEAN_STOP, 0);
    manifest_edit_set_number(edit, MANIFEST_BOOT_COUNT, state->numbers[MANIFEST_BOOT_COUNT] + 1);
}

/* From the first opened log on, a directory without one is damaged. The first note must be
 * there; a later one can wait for the edit of a job when there is no room even for it. Until then
 * the manifest may call the stop clean, so that nothing may be shown that could be lost. */
static enum status note_boot(struct store *store)
{
    struct manifest_edit edit;
    manifest_edit_init(&edit, store->heap);
    store_edit_boot(store, &edit);
    enum status status = manifest_commit(store->manifest, &edit);
    manifest_edit_deinit(&edit);
    bool begun = manifest_state(store->manifest)->numbers[MANIFEST_LOG_BEGUN] != 0;
    if (status != STATUS_FULL || !begun || store->reserve_held > 0) return status;
    store->boot_unnoted = true;
    store->full = true;
    return STATUS_OK;
}

enum status store_note_clean_stop(struct store *store)
{
    if (store->failed != STATUS_OK) return STATUS_READ_ONLY;
    if (store->job != NULL || !store_is_clean(store)) return STATUS_BUSY;
    struct manifest_edit edit;
    manifest_edit_init(&edit, store->heap);
    manifest_edit_set_number(&edit, MANIFEST_CLEAN_STOP, 1);
    manifest_edit_set_number(&edit, MANIFEST_LOG_DURABLE, log_last(store->log));
    enum status status = manifest_commit(store->manifest, &edit);
    manifest_edit_deinit(&edit);
    store_poison(store, STATUS_CANCELLED);
    return status;
}

static void count_leftover(void *context, const char *name)
{
    struct store_report *report = context;
    (void)name;
    report->leftover_files++;
}

static enum status recover(struct store *store, const uint8_t identity[16],
                           struct store_report *report)
{
    struct manifest_options options = {
        .create = true,
        .rollover_bytes = store->options.manifest_rollover_bytes,
    };
    struct manifest_report manifest_report = {0};
    memcpy(options.store_id, identity, sizeof options.store_id);

    enum status status =
        manifest_open(store->env, store->heap, &options, &manifest_report, &store->manifest);
    if (status != STATUS_OK) {
        explain(report, "%s", manifest_report.text);
        return status;
    }
    report->created = manifest_report.created;
    const struct manifest_state *state = manifest_state(store->manifest);
    atomic_init(&store->next_file, u64_max(1, state->numbers[MANIFEST_NEXT_FILE]));
    store->ceiling = state->numbers[MANIFEST_HLC_CEILING];
    store->settled_ms = state->numbers[MANIFEST_SETTLED_MS];

    status = manifest_remove_leftovers(store->manifest, store->options.keep_transfers,
                                       count_leftover, report);
    if (status == STATUS_OK) status = load_runs(store, report);
    if (status == STATUS_OK) status = open_log(store, report);
    /* With a batch behind it, the note is of an earlier stop: see note_boot(). */
    report->clean_stop = state->numbers[MANIFEST_CLEAN_STOP] != 0 && report->replayed_batches == 0;
    if (status == STATUS_OK) status = note_boot(store);
    if (status != STATUS_OK) return status;

    /* Nothing that was given out before is given out again, whatever the clock says now. */
    if (!planted(BUG_STAMPS_REUSED)) store->clock.last = u64_max(store->clock.last, store->ceiling);
    return store_make_view(store);
}

static enum status create_parts(struct store *store)
{
    store->overlay_holder = overlay_holder_create(store->heap);
    if (store->overlay_holder == NULL) return STATUS_NOMEM;
    store->overlays = &store->overlay_holder->space;
    store->active = generation_create(store);
    return store->active == NULL ? STATUS_NOMEM : STATUS_OK;
}

static void free_parts(struct store *store)
{
    store_drop_pending(store);
    struct view *view = atomic_load_explicit(&store->view, memory_order_relaxed);
    heap_free(store->heap, view);
    store_free_retired(store);
    for (size_t i = 0; i < store->run_count; i++) run_close(store->runs[i]);
    heap_free(store->heap, store->runs);
    generation_destroy(store, store->active);
    generation_destroy(store, store->frozen);
    overlay_holder_destroy(store->heap, store->overlay_holder);
    log_close(store->log);
    manifest_close(store->manifest);
    store_free_transfers(store);
    buf_deinit(&store->batch);
    buf_deinit(&store->owed);
    buf_deinit(&store->scratch);
    buf_deinit(&store->scratch_key);
    buf_deinit(&store->encoded);
}

static enum status try_to_open(struct store *store, const uint8_t identity[16], uint64_t now_ms,
                               struct store_report *report)
{
    *store = (struct store){
        .env = store->env,
        .heap = store->heap,
        .options = store->options,
        .locked = store->locked,
        .now_ms = now_ms,
        .totals = {.free_bytes = UINT64_MAX},
    };
    buf_init(&store->batch, store->heap);
    buf_init(&store->owed, store->heap);
    buf_init(&store->scratch, store->heap);
    buf_init(&store->scratch_key, store->heap);
    buf_init(&store->encoded, store->heap);
    buf_init(&store->transfer_end, store->heap);

    enum status status = reserve_held_bytes(store->env, &store->reserve_held);
    if (status == STATUS_OK) status = create_parts(store);
    if (status == STATUS_OK) status = recover(store, identity, report);
    return status;
}

/* A disk too full to open on has the reserve to give. */
static enum status open_with_reserve(struct store *store, const uint8_t identity[16],
                                     uint64_t now_ms, struct store_report *report)
{
    enum status status = try_to_open(store, identity, now_ms, report);
    if (status != STATUS_FULL || !store_use_reserve(store)) return status;
    free_parts(store);
    *report = (struct store_report){0};
    status = try_to_open(store, identity, now_ms, report);
    store->full = true;
    return status;
}

/* The reserve is a comfort: a device too full for it still serves what it has. */
static enum status hold_reserve(struct store *store)
{
    uint64_t free_bytes;
    if (store->full) return STATUS_OK;
    if (env_free_bytes(store->env, &free_bytes) == STATUS_OK &&
        free_bytes < store->options.low_water_bytes + store->options.reserve_bytes)
        return STATUS_OK;
    enum status status = store_fill_reserve(store);
    return status == STATUS_FULL ? STATUS_OK : status;
}

enum status store_open(struct env *env, struct heap *heap, const struct store_options *options,
                       const uint8_t identity[16], uint64_t now_ms, struct store **out,
                       struct store_report *report)
{
    *report = (struct store_report){0};

    struct store *store = heap_zalloc(heap, sizeof *store);
    if (store == NULL) {
        explain(report, "opening failed: %s", status_name(STATUS_NOMEM));
        return STATUS_NOMEM;
    }
    store->env = env;
    store->heap = heap;
    store->options = *options;

    enum status status = env_lock(env);
    if (status != STATUS_OK) {
        explain(report, "the data directory cannot be locked (%s)%s", status_name(status),
                status == STATUS_LOCKED
                    ? ": another trifectad is running on it, or trifecta verify reads it"
                    : "");
        goto fail;
    }
    store->locked = true;
    status = open_with_reserve(store, identity, now_ms, report);
    if (status == STATUS_OK) status = hold_reserve(store);
    if (status != STATUS_OK) goto fail;

    store_tick(store, now_ms);
    *out = store;
    return STATUS_OK;

fail:
    if (report->detail[0] == '\0') explain(report, "opening failed: %s", status_name(status));
    store_close(store);
    return status;
}

void store_close(struct store *store)
{
    if (store == NULL) return;
    CHECK(store->job == NULL);

    free_parts(store);
    if (store->locked) env_unlock(store->env);
    heap_free(store->heap, store);
}
