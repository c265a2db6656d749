#include "base/check.h"
#include "base/math.h"
#include "core/memtrie.h"
#include "core/memtrie_node.h"

/* The frames are the inner nodes above the current entry, the top one first. Without an
 * entry there is none; but a tree of one leaf has an entry and no frame either, and there
 * is then nothing before or after it. */
struct memtrie_frame {
    const struct memtrie_inner *inner;
    int index;       /* The part that holds the current entry. */
    size_t key_size; /* With the node's prefix. */
};

enum direction { FORWARD, BACKWARD };

/* A walk meets each node for the first time: so many of the next parts are on their way
 * from memory. A flush waited for them a twentieth of a bulk load. */
enum { AHEAD_COUNT = 4 };

void memtrie_iterator_init(struct memtrie_iterator *iterator, const struct memtrie *trie,
                           memtrie_root root, struct heap *heap)
{
    *iterator = (struct memtrie_iterator){.trie = trie, .root = root, .heap = heap};
    buf_init(&iterator->key_buf, heap);
}

void memtrie_iterator_deinit(struct memtrie_iterator *iterator)
{
    heap_free(iterator->heap, iterator->frames);
    buf_deinit(&iterator->key_buf);
    iterator->frames = NULL;
    iterator->frame_count = iterator->frame_capacity = 0;
}

static const void *node_at(const struct memtrie_iterator *iterator, memtrie_node node)
{
    return memtrie_node_at(iterator->trie, node);
}

static enum status push(struct memtrie_iterator *iterator, const struct memtrie_inner *inner,
                        int index)
{
    if (iterator->frame_count == iterator->frame_capacity) {
        size_t larger = size_max(16, 2 * iterator->frame_capacity);
        struct memtrie_frame *frames =
            heap_realloc(iterator->heap, iterator->frames, larger * sizeof *frames);
        if (frames == NULL) return STATUS_NOMEM;
        iterator->frames = frames;
        iterator->frame_capacity = larger;
    }
    buf_append_slice(&iterator->key_buf, memtrie_prefix(inner));
    iterator->frames[iterator->frame_count++] =
        (struct memtrie_frame){inner, index, iterator->key_buf.size};
    return buf_status(&iterator->key_buf);
}

static void load_ahead(const struct memtrie_iterator *iterator, const struct memtrie_inner *inner,
                       int index, int count)
{
    int end = (int)memtrie_child_count(inner);
    if (index + count < end) end = index + count;
    for (; index < end; index++) memtrie_prefetch(iterator->trie, memtrie_children(inner)[index]);
}

/* The first parts of the next node: it is here by now, and they are what a walk waits for
 * when it comes there. */
static void load_below(const struct memtrie_iterator *iterator, const struct memtrie_inner *inner,
                       int index)
{
    if (index >= (int)memtrie_child_count(inner)) return;
    const void *next = arena_at(&iterator->trie->arena, memtrie_children(inner)[index]);
    if (memtrie_kind(next) == MEMTRIE_INNER)
        load_ahead(iterator, next, memtrie_first_index(next), 2);
}

/* The part that the top frame names; the key then ends above that part. */
static memtrie_node enter(struct memtrie_iterator *iterator)
{
    const struct memtrie_frame *frame = &iterator->frames[iterator->frame_count - 1];
    iterator->key_buf.size = frame->key_size;
    if (frame->index != MEMTRIE_TERMINAL)
        buf_append_u8(&iterator->key_buf, memtrie_child_bytes(frame->inner)[frame->index]);
    return memtrie_part(frame->inner, frame->index);
}

/* To the first (or, backward, the last) entry of `node`. */
static enum status descend(struct memtrie_iterator *iterator, memtrie_node node,
                           enum direction direction)
{
    for (;;) {
        const void *at = node_at(iterator, node);
        if (memtrie_kind(at) != MEMTRIE_INNER) {
            buf_append_slice(&iterator->key_buf, memtrie_suffix(at));
            if (buf_status(&iterator->key_buf) != STATUS_OK) return STATUS_NOMEM;
            iterator->key = buf_slice(&iterator->key_buf);
            iterator->hidden = memtrie_has(at, MEMTRIE_HIDDEN);
            memtrie_leaf_record(iterator->trie, at, &iterator->record);
            return STATUS_OK;
        }
        int index = direction == FORWARD ? memtrie_first_index(at)
                                         : (int)memtrie_child_count(at) - 1;
        if (direction == FORWARD) load_ahead(iterator, at, index + 1, AHEAD_COUNT);
        enum status status = push(iterator, at, index);
        if (status != STATUS_OK) return status;
        node = enter(iterator);
    }
}

/* To the entry beside the parts that the frames name. */
static enum status step(struct memtrie_iterator *iterator, enum direction direction)
{
    while (iterator->frame_count > 0) {
        struct memtrie_frame *frame = &iterator->frames[iterator->frame_count - 1];
        if (direction == FORWARD && frame->index + 1 < (int)memtrie_child_count(frame->inner)) {
            frame->index++;
            load_ahead(iterator, frame->inner, frame->index + AHEAD_COUNT, 1);
            load_below(iterator, frame->inner, frame->index + 1);
            return descend(iterator, enter(iterator), direction);
        }
        if (direction == BACKWARD && frame->index > memtrie_first_index(frame->inner)) {
            frame->index--;
            return descend(iterator, enter(iterator), direction);
        }
        iterator->frame_count--;
    }
    return STATUS_END;
}

/* To the entry beside the boundary before `key`: the next one after it or, backward, the
 * last one before it. */
static enum status seek(struct memtrie_iterator *iterator, struct slice key,
                        enum direction direction)
{
    memtrie_node node = iterator->root == 0 ? 0 : memtrie_top(iterator->trie, iterator->root)->node;
    if (node == 0) return STATUS_END;
    for (;;) {
        const void *at = node_at(iterator, node);
        enum memtrie_side side = memtrie_side(at, key);
        if (side == MEMTRIE_ABOVE && direction == FORWARD) break;
        if (side == MEMTRIE_BELOW && direction == BACKWARD) break;
        if (side != MEMTRIE_ACROSS) return step(iterator, direction);

        int index;
        key = slice_from(key, memtrie_prefix(at).size);
        node = memtrie_child(at, key.data[0], &index);
        key = slice_from(key, 1);
        if (node == 0 && direction == FORWARD) index--;
        enum status status = push(iterator, at, index);
        if (status != STATUS_OK) return status;
        if (node == 0) return step(iterator, direction);
        node = enter(iterator);
    }
    return descend(iterator, node, direction);
}

static enum status settle(struct memtrie_iterator *iterator, enum status status)
{
    if (status != STATUS_OK) iterator->frame_count = 0;
    return status;
}

static void rewind_iterator(struct memtrie_iterator *iterator)
{
    iterator->frame_count = 0;
    buf_clear(&iterator->key_buf);
}

enum status memtrie_iterator_seek(struct memtrie_iterator *iterator, struct slice key)
{
    rewind_iterator(iterator);
    return settle(iterator, seek(iterator, key, FORWARD));
}

enum status memtrie_iterator_seek_before(struct memtrie_iterator *iterator, struct slice key)
{
    rewind_iterator(iterator);
    if (key.size != 0) return settle(iterator, seek(iterator, key, BACKWARD));
    if (iterator->root == 0) return STATUS_END;
    memtrie_node top = memtrie_top(iterator->trie, iterator->root)->node;
    return settle(iterator, descend(iterator, top, BACKWARD));
}

enum status memtrie_iterator_next(struct memtrie_iterator *iterator)
{
    return settle(iterator, step(iterator, FORWARD));
}

enum status memtrie_iterator_previous(struct memtrie_iterator *iterator)
{
    return settle(iterator, step(iterator, BACKWARD));
}
