/* What is done when memory runs short: flush early, write runs with large overlays again, and
 * move what is left of the overlays together.
 *
 * The last is for arenas, which give nothing back while they live: the overlays are copied to a
 * new one, and the old one goes with the last view that shows it. */
#include "base/math.h"
#include "store/internal.h"

enum {
    PRESSURE_FLUSH_SHARE = 4, /* A memory trie of a quarter of its usual size is flushed. */
    PRESSURE_MOVE_SHARE = 2,  /* Overlays are moved when less than half their arena is in use, */
    PRESSURE_MOVE_BYTES = 2 * ARENA_CHUNK_BYTES, /* and there is this much to be had. */
};

struct overlay_holder *overlay_holder_create(struct heap *heap)
{
    struct overlay_holder *holder = heap_zalloc(heap, sizeof *holder);
    if (holder == NULL) return NULL;
    if (overlay_space_init(&holder->space, heap) == STATUS_OK) return holder;
    heap_free(heap, holder);
    return NULL;
}

void overlay_holder_destroy(struct heap *heap, struct overlay_holder *holder)
{
    if (holder == NULL) return;
    overlay_space_deinit(&holder->space);
    heap_free(heap, holder);
}

bool store_is_pressed(const struct store *store)
{
    uint64_t bytes_max = store->options.memory_bytes_max;
    return bytes_max != 0 && heap_used_bytes(store->heap) > bytes_max - bytes_max / 4;
}

bool store_wants_early_flush(const struct store *store)
{
    uint64_t bytes = arena_footprint_bytes(&store->active->trie.arena);
    return bytes > store->options.memtrie_bytes_max / PRESSURE_FLUSH_SHARE &&
           store_is_pressed(store);
}

static bool is_sparse(const struct store *store)
{
    uint64_t footprint_bytes = arena_footprint_bytes(&store->overlays->arena);
    uint64_t used_bytes = store->overlays->arena.used_bytes;
    return footprint_bytes / PRESSURE_MOVE_SHARE > used_bytes &&
           footprint_bytes - used_bytes > PRESSURE_MOVE_BYTES;
}

static enum status copy_all(const struct store *store, struct overlay_space *space,
                            overlay_root *roots)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < store->run_count; i++)
        status = run_copy_overlay(store->runs[i], store->overlays, space, &roots[i]);
    return status;
}

static void retire_overlays(struct store *store)
{
    struct overlay_holder *holder = store->overlay_holder;
    holder->retired_in = store->view_last;
    holder->next = store->retired_overlays;
    store->retired_overlays = holder;
}

void store_move_overlays(struct store *store)
{
    struct pending_view *pending;
    if (store->failed != STATUS_OK || store->job != NULL) return;
    if (!store_is_pressed(store) || !is_sparse(store)) return;

    struct overlay_holder *holder = overlay_holder_create(store->heap);
    overlay_root *roots = heap_alloc(store->heap, store->run_count * sizeof *roots);
    bool copied = holder != NULL && roots != NULL &&
                  copy_all(store, &holder->space, roots) == STATUS_OK &&
                  store_prepare_view(store, &pending) == STATUS_OK;
    if (!copied) {
        /* Without memory for it now, the next tick tries again. */
        overlay_holder_destroy(store->heap, holder);
        heap_free(store->heap, roots);
        return;
    }
    retire_overlays(store);
    for (size_t i = 0; i < store->run_count; i++) store->runs[i]->overlay = roots[i];
    store->overlay_holder = holder;
    store->overlays = &holder->space;
    store_add_view(store, pending);
    heap_free(store->heap, roots);
}
