/* From an ordinal to its key, and walks. */
#include "base/check.h"
#include "core/front.h"
#include "core/front_block.h"

/* What the first bytes of an item are made of. */
struct pieces {
    uint32_t items;     /* Of the block, as bits. */
    int32_t from_first; /* Bytes of the item that they stand behind that are left. */
};

/* Picks the items behind item `after` that the first `needed` bytes of item `index` come from:
 * it, the last one before it that shares less than it does, and so on. What is left is what
 * item `after` begins with. */
static struct pieces pieces_of(const struct front_block *block, unsigned after, unsigned index,
                               int32_t needed)
{
    struct pieces pieces = {0};
    uint32_t rest = front_items_after(block, after) & ~front_items_after(block, index);
    while (needed > 0) {
        uint32_t fewer = rest & front_items_below(block, (size_t)needed);
        if (fewer == 0) break;
        unsigned item = 31 - (unsigned)__builtin_clz(fewer);
        pieces.items |= UINT32_C(1) << item;
        rest &= (UINT32_C(1) << item) - 1;
        needed = block->shared[item];
    }
    pieces.from_first = needed;
    return pieces;
}

/* front_expand() without its exceptions, where there are none: there is room, and the key cannot
 * get too long. At least `wanted` bytes of what the codes stand for are written, if there are. */
static inline enum status expand(const struct front *front, struct slice codes, int32_t shared,
                                 size_t wanted, struct buf *key)
{
    const struct symbols *symbols = front->symbols;
    size_t room = (size_t)shared + codes.size * symbols->size_max + SYMBOL_SLACK;
    bool is_easy = shared >= 0 && (size_t)shared <= key->size && room <= key->capacity &&
                   room <= KEY_BYTES_MAX;
    if (__builtin_expect(!is_easy, 0)) return front_expand(front, codes, shared, key);
    key->size = (size_t)shared +
                symbols_expand(symbols, codes.data, codes.size, wanted, key->data + shared);
    return STATUS_OK;
}

/* Of each piece only the bytes that the next one keeps are needed; of the last one all. */
static enum status pieces_expand(const struct front *front, const struct front_block *block,
                                 uint32_t items, int32_t needed, struct buf *key)
{
    while (items != 0) {
        unsigned item = (unsigned)__builtin_ctz(items);
        items &= items - 1;
        int32_t end = items == 0 ? needed : block->shared[__builtin_ctz(items)];
        struct slice codes;
        if (!front_block_codes(block, item, &codes)) return STATUS_CORRUPT;
        int32_t shared = block->shared[item];
        enum status status = expand(front, codes, shared, (size_t)(end - shared), key);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

/* Brings `key` to the first `needed` bytes, or more, of item `index` of a block of level 1. */
static enum status head_expand(const struct front *front, const struct front_block *block,
                               unsigned index, int32_t needed, struct buf *key)
{
    struct pieces pieces = pieces_of(block, 0, index, needed);
    enum status status = STATUS_OK;
    buf_clear(key);
    if (pieces.from_first > 0)
        status = expand(front, block->head, 0, (size_t)pieces.from_first, key);
    if (status != STATUS_OK) return status;
    return pieces_expand(front, block, pieces.items, needed, key);
}

enum status front_key(const struct front *front, uint64_t ordinal, struct buf *key)
{
    CHECK(ordinal < front->count);

    uint64_t block = ordinal / FRONT_BLOCK;
    unsigned index = ordinal % FRONT_BLOCK, head_index = block % FRONT_BLOCK;
    struct front_block storage, leaf;
    const struct front_block *head;
    struct pieces pieces = {.from_first = KEY_BYTES_MAX};

    enum status status = front_block_get(front, 1, block / FRONT_BLOCK, &storage, &head);
    if (status == STATUS_OK && index != 0) {
        status = front_block_open(front, 0, block, head->shared[head_index], index, &leaf);
        if (status == STATUS_OK) pieces = pieces_of(&leaf, 0, index, KEY_BYTES_MAX);
    }
    if (status == STATUS_OK) status = head_expand(front, head, head_index, pieces.from_first, key);
    if (status == STATUS_OK) status = pieces_expand(front, &leaf, pieces.items, KEY_BYTES_MAX, key);
    return status;
}

/* --- Several keys --- */

/* Ascending ordinals while their keys are read: what is open, and where the last key lies. */
struct batch {
    const struct front *front;
    const uint64_t *ordinals;
    size_t count, at;
    uint64_t head_block, leaf_block; /* UINT64_MAX: none. */
    unsigned index;                  /* Of the last key in the leaf. */
    const struct front_block *head;
    struct front_block storage, leaf; /* The head lies in `storage` if it is not kept open. */
};

/* The last of the ordinals from the one at work on that lies in the same leaf. */
static uint64_t last_in_leaf(const struct batch *batch)
{
    uint64_t last = batch->ordinals[batch->at];
    for (size_t i = batch->at + 1; i < batch->count; i++) {
        if (batch->ordinals[i] / FRONT_BLOCK != last / FRONT_BLOCK) break;
        last = batch->ordinals[i];
    }
    return last;
}

/* Opens the leaf of the ordinal at work as far as the batch needs it, and the block above it. */
static enum status batch_open(struct batch *batch, uint64_t block)
{
    uint64_t head_block = block / FRONT_BLOCK;
    enum status status = STATUS_OK;
    if (batch->head_block != head_block) {
        status = front_block_get(batch->front, 1, head_block, &batch->storage, &batch->head);
        if (status != STATUS_OK) return status;
        batch->head_block = head_block;
    }
    unsigned last = last_in_leaf(batch) % FRONT_BLOCK;
    if (last != 0)
        status = front_block_open(batch->front, 0, block, batch->head->shared[block % FRONT_BLOCK],
                                  last, &batch->leaf);
    batch->leaf_block = block;
    return status;
}

/* Brings `key` from the last key of the batch to the next one. */
static enum status batch_key(struct batch *batch, struct buf *key)
{
    const struct front *front = batch->front;
    uint64_t ordinal = batch->ordinals[batch->at], block = ordinal / FRONT_BLOCK;
    unsigned index = ordinal % FRONT_BLOCK;
    struct pieces pieces = {.from_first = KEY_BYTES_MAX};
    enum status status = STATUS_OK;
    if (block != batch->leaf_block) {
        status = batch_open(batch, block);
        if (status != STATUS_OK) return status;
        CHECK(batch->head != NULL);
        if (index != 0) pieces = pieces_of(&batch->leaf, 0, index, KEY_BYTES_MAX);
        status = head_expand(front, batch->head, block % FRONT_BLOCK, pieces.from_first, key);
    } else {
        pieces = pieces_of(&batch->leaf, batch->index, index, KEY_BYTES_MAX);
    }
    batch->index = index;
    if (status != STATUS_OK) return status;
    return pieces_expand(front, &batch->leaf, pieces.items, KEY_BYTES_MAX, key);
}

enum status front_keys(const struct front *front, const uint64_t *ordinals, size_t count,
                       struct buf *key, struct buf *keys, size_t *ends)
{
    struct batch batch;
    batch.front = front;
    batch.ordinals = ordinals;
    batch.count = count;
    batch.head = NULL;
    batch.index = 0;
    batch.head_block = batch.leaf_block = UINT64_MAX;
    for (batch.at = 0; batch.at < count; batch.at++) {
        size_t i = batch.at;
        CHECK(ordinals[i] < front->count);
        CHECK(i == 0 || ordinals[i - 1] < ordinals[i]);
        enum status status = batch_key(&batch, key);
        if (status != STATUS_OK) return status;
        buf_append_slice(keys, buf_slice(key));
        ends[i] = keys->size;
    }
    return buf_status(keys);
}

/* --- Walks --- */

struct front_iterator {
    struct heap *heap;
    const struct front *front;
    bool stands;
    bool is_expanded; /* The keys of the block are in `block`; else only `key`. */
    uint64_t ordinal;
    struct front_block head; /* In level 1: has the first key of the leaf block... */
    unsigned head_index;     /* ... here. */
    struct buf head_key;
    struct front_block leaf;
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

/* Brings `key` to the first key of leaf block `block`, which is in `head_key`, and opens it. */
static enum status leaf_open(struct front_iterator *iterator, uint64_t block)
{
    buf_clear(&iterator->key);
    buf_append_slice(&iterator->key, buf_slice(&iterator->head_key));
    if (iterator->key.failed) return STATUS_NOMEM;
    return front_block_open(iterator->front, 0, block, iterator->head.shared[iterator->head_index],
                            FRONT_BLOCK, &iterator->leaf);
}

static enum status block_open(struct front_iterator *iterator, uint64_t block)
{
    const struct front *front = iterator->front;
    iterator->head_index = block % FRONT_BLOCK;
    enum status status =
        front_block_open(front, 1, block / FRONT_BLOCK, 0, FRONT_BLOCK, &iterator->head);
    if (status == STATUS_OK)
        status = head_expand(front, &iterator->head, iterator->head_index, KEY_BYTES_MAX,
                             &iterator->head_key);
    if (status == STATUS_OK) status = leaf_open(iterator, block);
    return status;
}

/* Brings `key` from the item before `index` to it. */
static inline enum status step(const struct front *front, const struct front_block *block,
                               unsigned index, struct buf *key)
{
    struct slice codes;
    if (!front_block_codes(block, index, &codes)) return STATUS_CORRUPT;
    return expand(front, codes, block->shared[index], SIZE_MAX, key);
}

/* To leaf block `block` from the one before it. */
static enum status block_next(struct front_iterator *iterator, uint64_t block)
{
    if (iterator->head_index + 1 == iterator->head.count) return block_open(iterator, block);
    enum status status =
        step(iterator->front, &iterator->head, ++iterator->head_index, &iterator->head_key);
    return status == STATUS_OK ? leaf_open(iterator, block) : status;
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
        struct pieces pieces = pieces_of(&iterator->leaf, 0, index, KEY_BYTES_MAX);
        status = pieces_expand(iterator->front, &iterator->leaf, pieces.items, KEY_BYTES_MAX,
                               &iterator->key);
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
    enum status status = ordinal % FRONT_BLOCK == 0 ? block_next(iterator, ordinal / FRONT_BLOCK)
                                                    : step(iterator->front, &iterator->leaf,
                                                           ordinal % FRONT_BLOCK, &iterator->key);
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
        status = step(iterator->front, &iterator->leaf, i + 1, &iterator->key);
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
