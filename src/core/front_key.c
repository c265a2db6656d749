/* From an ordinal to its key, and walks. */
#include "base/check.h"
#include "core/front.h"
#include "core/front_format.h"

/* The items of a block up to one of them. */
struct route {
    int32_t shared[FRONT_BLOCK];
    uint32_t offsets[FRONT_BLOCK];
    uint32_t sizes[FRONT_BLOCK];
    uint8_t picks[FRONT_BLOCK]; /* Items that the wanted one is made of, the last first. */
    unsigned pick_count;
};

static bool route_walk(const struct front *front, struct front_walk *walk, unsigned index,
                       struct route *route)
{
    while (walk->index < index) {
        if (!front_walk_next(front, walk)) return false;
        route->shared[walk->index] = walk->shared;
        route->offsets[walk->index] = walk->offset;
        route->sizes[walk->index] = walk->size;
    }
    return true;
}

/* Picks what the first `needed` bytes of item `index` are made of; returns how many of them
 * come from the first item of the block. */
static int32_t route_pick(struct route *route, unsigned index, int32_t needed)
{
    route->pick_count = 0;
    for (unsigned i = index; i > 0 && needed > 0; i--) {
        if (route->shared[i] >= needed) continue;
        route->picks[route->pick_count++] = (uint8_t)i;
        needed = route->shared[i];
    }
    return needed;
}

static enum status route_expand(const struct front *front, const struct front_walk *walk,
                                const struct route *route, struct buf *key)
{
    for (unsigned i = route->pick_count; i-- > 0;) {
        unsigned item = route->picks[i];
        uint32_t offset = route->offsets[item], size = route->sizes[item];
        if (offset > walk->limit || size > walk->limit - offset) return STATUS_CORRUPT;
        struct slice codes = {walk->codes + offset, size};
        enum status status = front_expand(front, codes, route->shared[item], key);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

/* Opens the block of level 1 that holds the first key of leaf `block` and walks there. */
static enum status head_walk(const struct front *front, uint64_t block, struct front_walk *walk,
                             struct route *route)
{
    enum status status = front_walk_open(front, 1, block / FRONT_BLOCK, 0, walk);
    if (status != STATUS_OK) return status;
    return route_walk(front, walk, block % FRONT_BLOCK, route) ? STATUS_OK : STATUS_CORRUPT;
}

/* Brings `key` to the first `needed` bytes, or more, of the item at `walk` in level 1. */
static enum status head_expand(const struct front *front, const struct front_walk *walk,
                               struct route *route, int32_t needed, struct buf *key)
{
    enum status status = STATUS_OK;
    buf_clear(key);
    if (route_pick(route, walk->index, needed) > 0)
        status = front_expand(front, walk->head, 0, key);
    if (status != STATUS_OK) return status;
    return route_expand(front, walk, route, key);
}

enum status front_key(const struct front *front, uint64_t ordinal, struct buf *key)
{
    CHECK(ordinal < front->count);

    uint64_t block = ordinal / FRONT_BLOCK;
    unsigned index = ordinal % FRONT_BLOCK;
    struct front_walk head, leaf;
    struct route head_route, leaf_route;
    int32_t needed = INT32_MAX;
    leaf_route.pick_count = 0;

    enum status status = head_walk(front, block, &head, &head_route);
    if (status == STATUS_OK && index != 0) {
        status = front_walk_open(front, 0, block, head.shared, &leaf);
        if (status != STATUS_OK) return status;
        if (!route_walk(front, &leaf, index, &leaf_route)) return STATUS_CORRUPT;
        needed = route_pick(&leaf_route, index, needed);
    }
    if (status == STATUS_OK) status = head_expand(front, &head, &head_route, needed, key);
    if (status == STATUS_OK && index != 0) status = route_expand(front, &leaf, &leaf_route, key);
    return status;
}

/* --- Walks --- */

struct front_iterator {
    struct heap *heap;
    const struct front *front;
    bool stands;
    bool is_expanded; /* The keys of the block are in `block`; else only `key`. */
    uint64_t ordinal;
    struct front_walk head; /* In level 1, at the first key of the leaf block. */
    struct buf head_key;
    struct front_walk leaf;
    struct buf key;
    struct buf block;         /* Keys one after the other. */
    size_t ends[FRONT_BLOCK]; /* Where each ends. */
};

enum status front_iterator_create(struct heap *heap, const struct front *front,
                                  struct front_iterator **out)
{
    struct front_iterator *iterator = heap_zalloc(heap, sizeof *iterator);
    if (iterator == NULL) return STATUS_NOMEM;
    iterator->heap = heap;
    iterator->front = front;
    buf_init(&iterator->head_key, heap);
    buf_init(&iterator->key, heap);
    buf_init(&iterator->block, heap);
    *out = iterator;
    return STATUS_OK;
}

void front_iterator_destroy(struct front_iterator *iterator)
{
    if (iterator == NULL) return;
    buf_deinit(&iterator->head_key);
    buf_deinit(&iterator->key);
    buf_deinit(&iterator->block);
    heap_free(iterator->heap, iterator);
}

struct slice front_iterator_key(const struct front_iterator *iterator)
{
    CHECK(iterator->stands);
    if (!iterator->is_expanded) return buf_slice(&iterator->key);

    unsigned index = iterator->ordinal % FRONT_BLOCK;
    size_t start = index == 0 ? 0 : iterator->ends[index - 1];
    return (struct slice){iterator->block.data + start, iterator->ends[index] - start};
}

uint64_t front_iterator_ordinal(const struct front_iterator *iterator)
{
    CHECK(iterator->stands);
    return iterator->ordinal;
}

/* Brings `key` to the first key of the leaf block that `head` stands at, and opens it. */
static enum status leaf_open(struct front_iterator *iterator, uint64_t block)
{
    buf_clear(&iterator->key);
    buf_append_slice(&iterator->key, buf_slice(&iterator->head_key));
    if (iterator->key.failed) return STATUS_NOMEM;
    return front_walk_open(iterator->front, 0, block, iterator->head.shared, &iterator->leaf);
}

static enum status block_open(struct front_iterator *iterator, uint64_t block)
{
    struct route route;
    enum status status = head_walk(iterator->front, block, &iterator->head, &route);
    if (status == STATUS_OK)
        status =
            head_expand(iterator->front, &iterator->head, &route, INT32_MAX, &iterator->head_key);
    if (status == STATUS_OK) status = leaf_open(iterator, block);
    return status;
}

/* Steps `walk` and brings `key` along. */
static inline enum status step(const struct front *front, struct front_walk *walk, struct buf *key)
{
    if (!front_walk_next(front, walk) || !front_walk_is_inside(walk)) return STATUS_CORRUPT;

    const struct symbols *symbols = front->symbols;
    size_t shared = (size_t)walk->shared;
    size_t room = shared + walk->size * (size_t)symbols->size_max + SYMBOL_SLACK;
    struct slice codes = front_walk_codes(walk);
    bool is_easy = walk->shared >= 0 && shared <= key->size && room <= key->capacity &&
                   room <= KEY_BYTES_MAX;
    if (__builtin_expect(!is_easy, 0)) return front_expand(front, codes, walk->shared, key);
    key->size = shared + symbols_expand(symbols, codes.data, codes.size, key->data + shared);
    return STATUS_OK;
}

/* To the leaf block after the one at which `head` stands. */
static enum status block_next(struct front_iterator *iterator, uint64_t block)
{
    const struct front *front = iterator->front;
    enum status status;
    if (iterator->head.index + 1 < iterator->head.count) {
        status = step(front, &iterator->head, &iterator->head_key);
    } else {
        status = front_walk_open(front, 1, block / FRONT_BLOCK, 0, &iterator->head);
        buf_clear(&iterator->head_key);
        if (status == STATUS_OK)
            status = front_expand(front, iterator->head.head, 0, &iterator->head_key);
    }
    return status != STATUS_OK ? status : leaf_open(iterator, block);
}

static enum status stand(struct front_iterator *iterator, enum status status, uint64_t ordinal)
{
    iterator->stands = status == STATUS_OK;
    iterator->ordinal = ordinal;
    return status;
}

enum status front_iterator_seek(struct front_iterator *iterator, uint64_t ordinal)
{
    iterator->is_expanded = false;
    if (ordinal >= iterator->front->count) return stand(iterator, STATUS_END, 0);

    unsigned index = ordinal % FRONT_BLOCK;
    enum status status = block_open(iterator, ordinal / FRONT_BLOCK);
    if (status == STATUS_OK && index != 0) {
        struct route route;
        if (!route_walk(iterator->front, &iterator->leaf, index, &route))
            return stand(iterator, STATUS_CORRUPT, 0);
        route_pick(&route, index, INT32_MAX);
        status = route_expand(iterator->front, &iterator->leaf, &route, &iterator->key);
    }
    return stand(iterator, status, ordinal);
}

enum status front_iterator_next(struct front_iterator *iterator)
{
    CHECK(iterator->stands);
    uint64_t ordinal = iterator->ordinal + 1;
    if (ordinal == iterator->front->count) return stand(iterator, STATUS_END, 0);
    if (iterator->is_expanded) {
        if (ordinal % FRONT_BLOCK == 0) return front_iterator_seek(iterator, ordinal);
        iterator->ordinal = ordinal;
        return STATUS_OK;
    }
    enum status status = ordinal % FRONT_BLOCK == 0
                             ? block_next(iterator, ordinal / FRONT_BLOCK)
                             : step(iterator->front, &iterator->leaf, &iterator->key);
    return stand(iterator, status, ordinal);
}

/* Expands all keys of leaf `block`. */
static enum status block_expand(struct front_iterator *iterator, uint64_t block)
{
    enum status status = block_open(iterator, block);
    buf_clear(&iterator->block);
    for (unsigned i = 0; status == STATUS_OK; i++) {
        buf_append_slice(&iterator->block, buf_slice(&iterator->key));
        iterator->ends[i] = iterator->block.size;
        if (i + 1 == iterator->leaf.count) return buf_status(&iterator->block);
        status = step(iterator->front, &iterator->leaf, &iterator->key);
    }
    return status;
}

enum status front_iterator_previous(struct front_iterator *iterator)
{
    CHECK(iterator->stands);
    if (iterator->ordinal == 0) return stand(iterator, STATUS_END, 0);

    uint64_t ordinal = iterator->ordinal - 1;
    enum status status = STATUS_OK;
    if (!iterator->is_expanded || iterator->ordinal % FRONT_BLOCK == 0) {
        iterator->is_expanded = true;
        status = block_expand(iterator, ordinal / FRONT_BLOCK);
    }
    return stand(iterator, status, ordinal);
}
