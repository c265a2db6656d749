#include "store/snapshot.h"

#include "base/check.h"
#include "base/math.h"
#include "store/job_internal.h"

struct store_snapshot {
    struct heap *heap;
    enum status status;
    uint64_t sequence, settled_ms;
    struct overlay_space overlays; /* Its own copies, which nobody changes. */
    struct run **runs;             /* Pinned. */
    struct layer *layers;          /* One a run. */
    size_t count;
};

/* Room for `count` more runs. */
static enum status grow(struct store_snapshot *snapshot, size_t count)
{
    size_t needed = snapshot->count + count;
    void *runs = heap_realloc(snapshot->heap, snapshot->runs, needed * sizeof *snapshot->runs);
    if (runs != NULL) snapshot->runs = runs;
    void *layers =
        heap_realloc(snapshot->heap, snapshot->layers, needed * sizeof *snapshot->layers);
    if (layers != NULL) snapshot->layers = layers;
    return runs == NULL || layers == NULL ? STATUS_NOMEM : STATUS_OK;
}

static void add(struct store_snapshot *snapshot, struct run *run, overlay_root overlay)
{
    run->pin_count++;
    snapshot->runs[snapshot->count] = run;
    snapshot->layers[snapshot->count++] = (struct layer){
        .packed = run->packed,
        .overlays = &snapshot->overlays,
        .overlay = overlay,
    };
}

static enum status copy_runs(struct store_snapshot *snapshot, struct store *store)
{
    enum status status = grow(snapshot, store->run_count + 1); /* The flush's, too. */
    for (size_t i = 0; status == STATUS_OK && i < store->run_count; i++) {
        struct run *run = store->runs[i];
        overlay_root overlay = 0;
        status = run_copy_overlay(run, store->overlays, &snapshot->overlays, &overlay);
        if (status == STATUS_OK) add(snapshot, run, overlay);
    }
    return status;
}

static struct store_snapshot *snapshot_create(struct store *store)
{
    struct store_snapshot *snapshot = heap_zalloc(store->heap, sizeof *snapshot);
    if (snapshot == NULL) return NULL;
    snapshot->heap = store->heap;
    snapshot->sequence = log_last(store->log);
    snapshot->settled_ms = store->settled_ms;
    snapshot->status = STATUS_PARTIAL;
    if (overlay_space_init(&snapshot->overlays, store->heap) == STATUS_OK) {
        overlay_begin_batch(&snapshot->overlays);
        return snapshot;
    }
    heap_free(store->heap, snapshot);
    return NULL;
}

enum status store_snapshot_begin(struct store *store, struct store_snapshot **out,
                                 struct store_job **job)
{
    bool flushes = store->active->root != 0 || store->frozen != NULL;
    if (store->failed != STATUS_OK) return STATUS_READ_ONLY;
    if (flushes && (store->job != NULL || store->frozen != NULL)) return STATUS_BUSY;

    struct store_snapshot *snapshot = snapshot_create(store);
    if (snapshot == NULL) return STATUS_NOMEM;
    enum status status = copy_runs(snapshot, store);
    *job = NULL;
    if (status == STATUS_OK && flushes) status = store_flush_begin(store, job);
    if (status != STATUS_OK) {
        store_snapshot_end(store, snapshot);
        return status;
    }
    if (flushes)
        (*job)->snapshot = snapshot;
    else
        snapshot->status = STATUS_OK;
    *out = snapshot;
    return STATUS_OK;
}

/* What the flush wrote is what memory held when the snapshot was taken; only what had expired
 * by then has to be hidden again. */
static enum status add_output(struct store_snapshot *snapshot, struct run *run)
{
    uint64_t first = 0, end = 0;
    overlay_root overlay = 0;
    enum status status = grow(snapshot, 1);
    if (status == STATUS_OK)
        status = packed_expiry_range(run->packed, 0, snapshot->settled_ms, &first, &end);
    for (uint64_t i = first; status == STATUS_OK && i < end; i++) {
        uint64_t expires_at, ordinal;
        status = packed_expiry_at(run->packed, i, &expires_at, &ordinal);
        if (status == STATUS_OK)
            status = overlay_hide(&snapshot->overlays, run->packed, &overlay, ordinal);
    }
    if (status == STATUS_OK) add(snapshot, run, overlay);
    return status;
}

void snapshot_complete(struct store_job *job, enum status status, size_t output_count)
{
    struct store_snapshot *snapshot = job->snapshot;
    if (snapshot == NULL || snapshot->status != STATUS_PARTIAL) return;
    for (size_t i = 0; status == STATUS_OK && i < output_count; i++)
        status = add_output(snapshot, job->outputs[i]);
    snapshot->status = status;
}

enum status store_snapshot_status(const struct store_snapshot *snapshot)
{
    return snapshot->status;
}

uint64_t store_snapshot_sequence(const struct store_snapshot *snapshot)
{
    return snapshot->sequence;
}

struct query store_snapshot_query(const struct store_snapshot *snapshot, uint64_t now_ms,
                                  struct heap *heap, struct query_scratch *scratch)
{
    CHECK(snapshot->status == STATUS_OK);
    return (struct query){
        .layers = snapshot->layers,
        .layer_count = snapshot->count,
        .now_ms = u64_max(now_ms, snapshot->settled_ms),
        .settled_ms = snapshot->settled_ms,
        .heap = heap,
        .scratch = scratch,
    };
}

void store_snapshot_end(struct store *store, struct store_snapshot *snapshot)
{
    if (snapshot == NULL) return;
    if (store->job != NULL && store->job->snapshot == snapshot) store->job->snapshot = NULL;
    for (size_t i = 0; i < snapshot->count; i++) snapshot->runs[i]->pin_count--;
    overlay_space_deinit(&snapshot->overlays);
    heap_free(snapshot->heap, snapshot->runs);
    heap_free(snapshot->heap, snapshot->layers);
    heap_free(snapshot->heap, snapshot);
}
