/* Views: made at the tip, published when durable, freed when nobody can see them. */
#include <string.h>

#include "base/check.h"
#include "base/math.h"
#include "base/planted.h"
#include "store/internal.h"

struct generation *generation_create(struct store *store)
{
    struct generation *generation = heap_zalloc(store->heap, sizeof *generation);
    if (generation == NULL) return NULL;
    if (memtrie_init(&generation->trie, store->heap, store->options.hash_seed) != STATUS_OK) {
        heap_free(store->heap, generation);
        return NULL;
    }
    return generation;
}

void generation_destroy(struct store *store, struct generation *generation)
{
    if (generation == NULL) return;
    memtrie_deinit(&generation->trie);
    heap_free(store->heap, generation);
}

static struct layer memtrie_layer(const struct generation *generation)
{
    return (struct layer){
        .memtrie = &generation->trie,
        .root = generation->root,
        .expiry = generation->expiry,
    };
}

static struct layer run_layer(const struct store *store, const struct run *run)
{
    return (struct layer){
        .packed = run->packed,
        .overlays = store->overlays,
        .overlay = run->overlay,
    };
}

static void show_tip(struct store *store, struct view *view)
{
    view->number = ++store->view_last;
    view->sequence = log_last(store->log);
    view->settled_ms = store->settled_ms;
    view->layers[view->layer_count++] = memtrie_layer(store->active);
    if (store->frozen != NULL) view->layers[view->layer_count++] = memtrie_layer(store->frozen);
    for (size_t i = 0; i < store->run_count; i++)
        view->layers[view->layer_count++] = run_layer(store, store->runs[i]);
}

static enum status reserve_seals(struct store *store)
{
    enum status status = arena_reserve_seal(&store->active->trie.arena);
    if (status == STATUS_OK && store->frozen != NULL)
        status = arena_reserve_seal(&store->frozen->trie.arena);
    if (status == STATUS_OK) status = arena_reserve_seal(&store->overlays->arena);
    return status;
}

/* What the batch replaced can be seen by the view before the one just made. */
static void seal(struct store *store)
{
    uint64_t before = store->view_last - 1;
    CHECK(arena_seal(&store->active->trie.arena, before) == STATUS_OK);
    if (store->frozen != NULL) CHECK(arena_seal(&store->frozen->trie.arena, before) == STATUS_OK);
    CHECK(arena_seal(&store->overlays->arena, before) == STATUS_OK);
}

void store_drop_view(struct store *store, struct pending_view *pending)
{
    heap_free(store->heap, pending->view);
    heap_free(store->heap, pending);
}

enum status store_prepare_view(struct store *store, struct pending_view **out)
{
    size_t layer_count = 1 + (store->frozen != NULL) + store->run_count;
    struct pending_view *pending = heap_zalloc(store->heap, sizeof *pending);
    if (pending == NULL) return STATUS_NOMEM;
    pending->view =
        heap_zalloc(store->heap, sizeof *pending->view + layer_count * sizeof(struct layer));
    if (pending->view == NULL || reserve_seals(store) != STATUS_OK) {
        store_drop_view(store, pending);
        return STATUS_NOMEM;
    }
    *out = pending;
    return STATUS_OK;
}

enum status store_make_view(struct store *store)
{
    struct pending_view *pending;
    enum status status = store_prepare_view(store, &pending);
    if (status == STATUS_OK) store_add_view(store, pending);
    return status;
}

void store_add_view(struct store *store, struct pending_view *pending)
{
    show_tip(store, pending->view);
    seal(store);
    if (store->pending_last == NULL)
        store->pending_first = pending;
    else
        store->pending_last->next = pending;
    store->pending_last = pending;
    store_publish(store);
}

/* Whether everything in `view` may be shown and acknowledged. With an interval that is
 * once it is appended; but no version may be shown whose ceiling could still be lost. */
static bool is_publishable(const struct store *store, const struct view *view)
{
    uint64_t durable = log_durable(store->log);
    if (planted(BUG_ACKNOWLEDGE_BEFORE_SYNC)) return true;
    if (view->sequence <= durable) return true;
    if (store->options.publish_after_sync || store->boot_unnoted) return false;
    return store->ceiling_sequence <= durable;
}

static struct view *take_pending(struct store *store)
{
    struct pending_view *pending = store->pending_first;
    struct view *view = pending->view;
    store->pending_first = pending->next;
    if (store->pending_first == NULL) store->pending_last = NULL;
    heap_free(store->heap, pending);
    return view;
}

void store_publish(struct store *store)
{
    struct view *newest = NULL;
    while (store->pending_first != NULL && is_publishable(store, store->pending_first->view)) {
        heap_free(store->heap, newest); /* Nobody ever saw it. */
        newest = take_pending(store);
    }
    if (newest == NULL) return;

    struct view *former = atomic_load_explicit(&store->view, memory_order_relaxed);
    atomic_store_explicit(&store->view, newest, memory_order_release);
    if (former != NULL) {
        former->next_retired = store->retired_views;
        store->retired_views = former;
    }
}

void store_drop_pending(struct store *store)
{
    while (store->pending_first != NULL) heap_free(store->heap, take_pending(store));
}

void store_retire_run(struct store *store, struct run *run)
{
    run->retired_in = store->view_last;
    run->next = store->retired_runs;
    store->retired_runs = run;
}

void store_retire_generation(struct store *store, struct generation *generation)
{
    generation->retired_in = store->view_last;
    generation->next = store->retired_generations;
    store->retired_generations = generation;
}

static void reclaim_views(struct store *store, uint64_t number)
{
    struct view **link = &store->retired_views;
    while (*link != NULL) {
        struct view *view = *link;
        if (view->number > number) {
            link = &view->next_retired;
            continue;
        }
        *link = view->next_retired;
        heap_free(store->heap, view);
    }
}

static void reclaim_runs(struct store *store, uint64_t number)
{
    struct run **link = &store->retired_runs;
    while (*link != NULL) {
        struct run *run = *link;
        if (run->retired_in > number || run->pin_count > 0) {
            link = &run->next;
            continue;
        }
        *link = run->next;
        run_remove_files(store->env, run->number, run->overlay_number);
        run_close(run);
    }
}

static void reclaim_generations(struct store *store, uint64_t number)
{
    struct generation **link = &store->retired_generations;
    while (*link != NULL) {
        struct generation *generation = *link;
        if (generation->retired_in > number) {
            link = &generation->next;
            continue;
        }
        *link = generation->next;
        generation_destroy(store, generation);
    }
}

static void reclaim_overlays(struct store *store, uint64_t number)
{
    struct overlay_holder **link = &store->retired_overlays;
    while (*link != NULL) {
        struct overlay_holder *holder = *link;
        if (holder->retired_in > number) {
            link = &holder->next;
            continue;
        }
        *link = holder->next;
        overlay_holder_destroy(store->heap, holder);
    }
}

void store_free_retired(struct store *store)
{
    reclaim_overlays(store, UINT64_MAX);
    reclaim_views(store, UINT64_MAX);
    reclaim_generations(store, UINT64_MAX);
    reclaim_runs(store, UINT64_MAX);
    CHECK(store->retired_runs == NULL); /* Else a snapshot has not ended. */
}

void store_reclaim(struct store *store, uint64_t view)
{
    CHECK(view < store_view_number(store));
    arena_reclaim(&store->active->trie.arena, view);
    if (store->frozen != NULL && !store->frozen->pinned)
        arena_reclaim(&store->frozen->trie.arena, view);
    arena_reclaim(&store->overlays->arena, view);
    reclaim_views(store, view);
    reclaim_runs(store, view);
    reclaim_generations(store, view);
    reclaim_overlays(store, view);
}

const struct view *store_view(const struct store *store)
{
    return atomic_load_explicit(&store->view, memory_order_acquire);
}

uint64_t store_view_number(const struct store *store)
{
    return store_view(store)->number;
}

uint64_t store_visible_sequence(const struct store *store)
{
    return store_view(store)->sequence;
}

struct query store_query(const struct view *view, uint64_t now_ms, struct heap *heap,
                         struct query_scratch *scratch)
{
    return (struct query){
        .layers = view->layers,
        .layer_count = view->layer_count,
        .now_ms = u64_max(now_ms, view->settled_ms),
        .settled_ms = view->settled_ms,
        .heap = heap,
        .scratch = scratch,
    };
}
