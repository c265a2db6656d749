/* Alphabetical walks: each layer has a cursor at its own next entry, the walk stands at the
 * least of them (the greatest when it goes back). Every key is current in one layer only,
 * so cursors never meet. The walk goes through its spans one by one. */
#include "base/check.h"
#include "core/query_span.h"

/* Entries in a row that a cursor in a memory trie passes one by one before it jumps. */
enum { WALK_MAX = 8, STEP_MAX = 8 };

struct cursor {
    const struct layer *layer;
    bool stands; /* On an entry of the span; `key` is its key. */
    struct slice key;
    bool expires;

    struct packed_iterator packed;
    uint64_t low, high; /* Ordinals of the span. */
    uint64_t block;     /* Whose wanted entries `wanted` has; UINT64_MAX: of none. */
    uint32_t wanted;

    struct memtrie_iterator memory;
};

struct query_iterator {
    struct query query;
    enum query_entries entries;
    struct spans spans;
    size_t span; /* Index of the one it walks; meaningful while it stands or moves. */
    struct cursor *cursors;
    size_t cursor_count;
    struct cursor *current; /* NULL: before the first or after the last. */
    bool at_end;            /* Which of the two. */
    bool backward;          /* The way the cursors look. */
    struct buf key;
};

static const struct span *span_of(const struct query_iterator *iterator)
{
    return &iterator->spans.items[iterator->span];
}

/* --- Cursors in packed tries --- */

static enum status load_block(const struct query_iterator *iterator, struct cursor *cursor,
                              uint64_t block)
{
    const struct layer *layer = cursor->layer;
    uint32_t wanted = 0;
    enum status status = STATUS_OK;
    if (iterator->entries == QUERY_CURRENT)
        wanted = overlay_block_current(layer->overlays, layer->packed, layer->overlay, block);
    else
        status = overlay_block_live(layer->overlays, layer->packed, layer->overlay, block, &wanted);
    if (status != STATUS_OK) return status;
    cursor->block = block;
    cursor->wanted = wanted;
    return STATUS_OK;
}

/* The next wanted ordinal >= `from`, or < `from` when it goes back, found in the tree of
 * the overlay, whatever lies between. */
static enum status jump(const struct query_iterator *iterator, const struct cursor *cursor,
                        uint64_t from, uint64_t *out)
{
    const struct layer *layer = cursor->layer;
    if (iterator->entries == QUERY_CURRENT)
        return iterator->backward ? overlay_previous_current(layer->overlays, layer->packed,
                                                             layer->overlay, from, out)
                                  : overlay_next_current(layer->overlays, layer->packed,
                                                         layer->overlay, from, out);
    return iterator->backward
               ? overlay_previous_live(layer->overlays, layer->packed, layer->overlay, from, out)
               : overlay_next_live(layer->overlays, layer->packed, layer->overlay, from, out);
}

/* The next wanted ordinal of the span from `from` on (below it when it goes back).
 * Errors: STATUS_END. */
static enum status find_wanted(const struct query_iterator *iterator, struct cursor *cursor,
                               uint64_t from, uint64_t *out)
{
    bool backward = iterator->backward;
    if (backward ? from <= cursor->low : from >= cursor->high) return STATUS_END;

    uint64_t near = backward ? from - 1 : from;
    if (near / PACKED_BLOCK != cursor->block) {
        enum status status = load_block(iterator, cursor, near / PACKED_BLOCK);
        if (status != STATUS_OK) return status;
    }
    unsigned slot = near % PACKED_BLOCK;
    uint32_t wanted = backward ? cursor->wanted << (31 - slot) : cursor->wanted >> slot;
    if (wanted != 0) {
        *out = backward ? near - (unsigned)__builtin_clz(wanted)
                        : near + (unsigned)__builtin_ctz(wanted);
    } else {
        uint64_t edge = near / PACKED_BLOCK * PACKED_BLOCK + (backward ? 0 : PACKED_BLOCK);
        if (backward ? edge <= cursor->low : edge >= cursor->high) return STATUS_END;
        enum status status = jump(iterator, cursor, edge, out);
        if (status != STATUS_OK) return status;
    }
    return backward ? (*out < cursor->low ? STATUS_END : STATUS_OK)
                    : (*out >= cursor->high ? STATUS_END : STATUS_OK);
}

/* Moves the walk over keys from where it stands, or anew. */
static enum status move_packed(struct cursor *cursor, uint64_t ordinal, bool anew)
{
    struct packed_iterator *packed = &cursor->packed;
    enum status status = STATUS_OK;
    if (!anew && ordinal > packed->ordinal && ordinal - packed->ordinal <= STEP_MAX) {
        while (status == STATUS_OK && packed->ordinal < ordinal)
            status = packed_iterator_next(packed);
    } else if (!anew && ordinal < packed->ordinal && packed->ordinal - ordinal <= STEP_MAX) {
        while (status == STATUS_OK && packed->ordinal > ordinal)
            status = packed_iterator_previous(packed);
    } else {
        status = packed_iterator_seek(packed, ordinal);
    }
    /* The ordinal exists: an end before it is a lie of the file. */
    return status == STATUS_END ? STATUS_CORRUPT : status;
}

/* To the next wanted entry from ordinal `from` on (below it when it goes back). */
static enum status settle_packed(const struct query_iterator *iterator, struct cursor *cursor,
                                 uint64_t from, bool anew)
{
    for (;;) {
        uint64_t ordinal;
        enum status status = find_wanted(iterator, cursor, from, &ordinal);
        if (status != STATUS_OK) return status;
        if (cursor->expires) {
            struct record record;
            status = packed_iterator_record(&cursor->packed, ordinal, &record);
            if (status != STATUS_OK) return status;
            if (query_is_unsettled(&iterator->query, &record)) {
                from = iterator->backward ? ordinal : ordinal + 1;
                continue;
            }
        }
        status = move_packed(cursor, ordinal, anew);
        if (status == STATUS_OK) cursor->key = cursor->packed.key;
        return status;
    }
}

/* --- Cursors in memory tries --- */

static bool memory_is_wanted(const struct query_iterator *iterator, const struct cursor *cursor)
{
    if (iterator->entries == QUERY_CURRENT) return true;
    const struct memtrie_iterator *memory = &cursor->memory;
    if (memory->hidden || !record_is_present(&memory->record)) return false;
    return !cursor->expires || !query_is_unsettled(&iterator->query, &memory->record);
}

/* Passes what is not live by the counts of the tree. */
static enum status jump_memory(struct query_iterator *iterator, struct cursor *cursor)
{
    const struct layer *layer = cursor->layer;
    uint64_t rank = memtrie_rank(layer->memtrie, layer->root, cursor->memory.key);
    if (iterator->backward && rank-- == 0) return STATUS_END;
    enum status status = memtrie_select(layer->memtrie, layer->root, rank, &iterator->key);
    if (status == STATUS_NOT_FOUND) return STATUS_END;
    if (status != STATUS_OK) return status;
    return memtrie_iterator_seek(&cursor->memory, buf_slice(&iterator->key));
}

static enum status step_memory(const struct query_iterator *iterator, struct cursor *cursor)
{
    return iterator->backward ? memtrie_iterator_previous(&cursor->memory)
                              : memtrie_iterator_next(&cursor->memory);
}

/* Whether nothing under the span's prefix is live: far cheaper to know than a jump. */
static bool is_all_dead(const struct query_iterator *iterator, const struct cursor *cursor)
{
    const struct span *span = span_of(iterator);
    const struct layer *layer = cursor->layer;
    return iterator->entries == QUERY_LIVE && span->is_prefix &&
           memtrie_count_prefix(layer->memtrie, layer->root, span->low) == 0;
}

/* From `status` of the move to where it stands now, on to a wanted entry of the span. */
static enum status settle_memory(struct query_iterator *iterator, struct cursor *cursor,
                                 enum status status)
{
    const struct span *span = span_of(iterator);
    for (unsigned passed = 1; status == STATUS_OK; passed++) {
        struct slice key = cursor->memory.key;
        if (iterator->backward ? slice_compare(key, span->low) < 0 : span_is_past(span, key))
            return STATUS_END;
        if (memory_is_wanted(iterator, cursor)) {
            cursor->key = key;
            return STATUS_OK;
        }
        if (passed == 2 && is_all_dead(iterator, cursor)) return STATUS_END;
        bool is_live = !cursor->memory.hidden && record_is_present(&cursor->memory.record);
        /* An expired entry counts as live in the tree: a jump would lead to itself. */
        status = passed % WALK_MAX == 0 && !is_live ? jump_memory(iterator, cursor)
                                                    : step_memory(iterator, cursor);
    }
    return status;
}

/* --- All cursors --- */

static enum status note_end(struct cursor *cursor, enum status status)
{
    cursor->stands = status == STATUS_OK;
    return status == STATUS_END ? STATUS_OK : status;
}

static enum status advance(struct query_iterator *iterator, struct cursor *cursor)
{
    if (cursor->layer->packed == NULL)
        return note_end(cursor, settle_memory(iterator, cursor, step_memory(iterator, cursor)));
    uint64_t from = cursor->packed.ordinal + !iterator->backward;
    return note_end(cursor, settle_packed(iterator, cursor, from, false));
}

/* To the first wanted entry of the span at or after `key`; when it goes back, to the last
 * one before it, an empty `key` being the end of the span. */
static enum status seek_cursor(struct query_iterator *iterator, struct cursor *cursor,
                               struct slice key)
{
    const struct span *span = span_of(iterator);
    if (cursor->layer->packed != NULL) {
        enum status status =
            span_ordinals(span, cursor->layer->packed, &cursor->low, &cursor->high);
        uint64_t from = iterator->backward ? cursor->high : cursor->low;
        if (status == STATUS_OK && key.size != 0 && cursor->low < cursor->high)
            status = packed_rank(cursor->layer->packed, key, &from, NULL);
        if (status != STATUS_OK) return status;
        if (from < cursor->low) from = cursor->low;
        if (from > cursor->high) from = cursor->high;
        return note_end(cursor, settle_packed(iterator, cursor, from, true));
    }
    enum status status;
    if (iterator->backward) {
        struct slice end = key.size != 0 && span_end_compare(key, span->high) < 0 ? key
                                                                                  : span->high;
        status = memtrie_iterator_seek_before(&cursor->memory, end);
    } else {
        struct slice start = slice_compare(key, span->low) > 0 ? key : span->low;
        status = memtrie_iterator_seek(&cursor->memory, start);
    }
    return note_end(cursor, settle_memory(iterator, cursor, status));
}

static void choose(struct query_iterator *iterator)
{
    struct cursor *chosen = NULL;
    for (size_t i = 0; i < iterator->cursor_count; i++) {
        struct cursor *cursor = &iterator->cursors[i];
        if (!cursor->stands) continue;
        if (chosen != NULL) {
            int order = slice_compare(cursor->key, chosen->key);
            if (iterator->backward ? order <= 0 : order >= 0) continue;
        }
        chosen = cursor;
    }
    iterator->current = chosen;
}

static enum status seek_in_span(struct query_iterator *iterator, struct slice key)
{
    for (size_t i = 0; i < iterator->cursor_count; i++) {
        enum status status = seek_cursor(iterator, &iterator->cursors[i], key);
        if (status != STATUS_OK) return status;
    }
    choose(iterator);
    return STATUS_OK;
}

static enum status stand_outside(struct query_iterator *iterator)
{
    iterator->current = NULL;
    iterator->at_end = !iterator->backward;
    return STATUS_END;
}

/* Goes on through the spans behind the current one until there is an entry. */
static enum status settle_in_spans(struct query_iterator *iterator)
{
    while (iterator->current == NULL) {
        if (iterator->backward ? iterator->span == 0 : iterator->span + 1 >= iterator->spans.count)
            return stand_outside(iterator);
        iterator->span = iterator->backward ? iterator->span - 1 : iterator->span + 1;
        enum status status = seek_in_span(iterator, (struct slice){0});
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

enum status query_iterator_seek(struct query_iterator *iterator, struct slice key)
{
    iterator->backward = false;
    if (iterator->spans.count == 0) return stand_outside(iterator);
    size_t span = 0;
    while (span + 1 < iterator->spans.count && span_is_past(&iterator->spans.items[span], key))
        span++;
    iterator->span = span;
    enum status status = seek_in_span(iterator, key);
    return status == STATUS_OK ? settle_in_spans(iterator) : status;
}

enum status query_iterator_seek_before(struct query_iterator *iterator, struct slice key)
{
    iterator->backward = true;
    if (iterator->spans.count == 0) return stand_outside(iterator);
    size_t span = iterator->spans.count - 1;
    while (key.size != 0 && span > 0 && slice_compare(iterator->spans.items[span].low, key) >= 0)
        span--;
    iterator->span = span;
    enum status status = seek_in_span(iterator, key);
    return status == STATUS_OK ? settle_in_spans(iterator) : status;
}

/* Turns the other cursors round: they look the other way from the current key. */
static enum status turn(struct query_iterator *iterator)
{
    struct buf key;
    buf_init(&key, iterator->query.heap);
    buf_append_slice(&key, iterator->current->key);
    enum status status = buf_status(&key);
    iterator->backward = !iterator->backward;
    for (size_t i = 0; i < iterator->cursor_count && status == STATUS_OK; i++)
        if (&iterator->cursors[i] != iterator->current)
            status = seek_cursor(iterator, &iterator->cursors[i], buf_slice(&key));
    buf_deinit(&key);
    return status;
}

static enum status move(struct query_iterator *iterator, bool backward)
{
    if (iterator->current == NULL) {
        if (iterator->at_end != backward) {
            iterator->backward = backward;
            return stand_outside(iterator);
        }
        return backward ? query_iterator_seek_before(iterator, (struct slice){0})
                        : query_iterator_seek(iterator, (struct slice){0});
    }
    enum status status = iterator->backward != backward ? turn(iterator) : STATUS_OK;
    if (status == STATUS_OK) status = advance(iterator, iterator->current);
    if (status != STATUS_OK) return status;
    choose(iterator);
    return settle_in_spans(iterator);
}

enum status query_iterator_next(struct query_iterator *iterator)
{
    return move(iterator, false);
}

enum status query_iterator_previous(struct query_iterator *iterator)
{
    return move(iterator, true);
}

struct slice query_iterator_key(const struct query_iterator *iterator)
{
    CHECK(iterator->current != NULL);
    return iterator->current->key;
}

enum status query_iterator_record(const struct query_iterator *iterator, struct record *record)
{
    struct cursor *cursor = iterator->current;
    CHECK(cursor != NULL);
    if (cursor->layer->packed != NULL)
        return packed_iterator_record(&cursor->packed, cursor->packed.ordinal, record);
    *record = cursor->memory.record;
    return STATUS_OK;
}

size_t query_iterator_layer(const struct query_iterator *iterator)
{
    CHECK(iterator->current != NULL);
    return (size_t)(iterator->current->layer - iterator->query.layers);
}

static enum status open_cursor(struct query_iterator *iterator, const struct layer *layer)
{
    struct cursor *cursor = &iterator->cursors[iterator->cursor_count];
    *cursor = (struct cursor){.layer = layer, .block = UINT64_MAX};
    enum status status = STATUS_OK;
    if (iterator->entries == QUERY_LIVE)
        status = query_layer_expires(&iterator->query, layer, &cursor->expires);
    if (status != STATUS_OK) return status;
    if (layer->packed == NULL)
        memtrie_iterator_init(&cursor->memory, layer->memtrie, layer->root, iterator->query.heap);
    else
        status = packed_iterator_init(&cursor->packed, layer->packed, iterator->query.heap);
    if (status == STATUS_OK) iterator->cursor_count++;
    return status;
}

enum status query_iterator_open(const struct query *query, struct slice prefix,
                                enum query_entries entries, struct query_iterator **out)
{
    struct query_iterator *iterator = heap_zalloc(query->heap, sizeof *iterator);
    if (iterator == NULL) return STATUS_NOMEM;
    iterator->query = *query;
    iterator->entries = entries;
    spans_init(&iterator->spans, query->heap);
    buf_init(&iterator->key, query->heap);

    enum status status = spans_of_prefix(&iterator->spans, query, prefix);
    if (status == STATUS_OK) status = spans_own(&iterator->spans);
    if (status == STATUS_OK) {
        iterator->cursors =
            heap_alloc(query->heap, (query->layer_count + 1) * sizeof *iterator->cursors);
        if (iterator->cursors == NULL) status = STATUS_NOMEM;
    }
    for (size_t i = 0; i < query->layer_count && status == STATUS_OK; i++)
        status = open_cursor(iterator, &query->layers[i]);
    if (status != STATUS_OK) {
        query_iterator_close(iterator);
        return status;
    }
    *out = iterator;
    return STATUS_OK;
}

void query_iterator_close(struct query_iterator *iterator)
{
    if (iterator == NULL) return;
    for (size_t i = 0; i < iterator->cursor_count; i++) {
        if (iterator->cursors[i].layer->packed == NULL)
            memtrie_iterator_deinit(&iterator->cursors[i].memory);
        else
            packed_iterator_deinit(&iterator->cursors[i].packed);
    }
    heap_free(iterator->query.heap, iterator->cursors);
    spans_deinit(&iterator->spans);
    buf_deinit(&iterator->key);
    heap_free(iterator->query.heap, iterator);
}

/* --- Pages --- */

static enum status start_scan(struct query_iterator *iterator, const struct query_from *from)
{
    if (!from->descending) {
        enum status status = query_iterator_seek(iterator, from->key);
        if (status == STATUS_OK && from->key.size != 0 && !from->inclusive &&
            slice_equal(query_iterator_key(iterator), from->key))
            status = query_iterator_next(iterator);
        return status;
    }
    if (from->key.size == 0 || !from->inclusive)
        return query_iterator_seek_before(iterator, from->key);

    /* Before the least key that is greater: the key and one zero byte. */
    struct buf after;
    buf_init(&after, iterator->query.heap);
    buf_append_slice(&after, from->key);
    buf_append_u8(&after, 0);
    enum status status = buf_status(&after);
    if (status == STATUS_OK) status = query_iterator_seek_before(iterator, buf_slice(&after));
    buf_deinit(&after);
    return status;
}

enum status query_scan(const struct query *query, struct slice prefix,
                       const struct query_from *from, uint64_t limit, query_visit *visit,
                       void *context)
{
    struct query_iterator *iterator;
    enum status status = query_iterator_open(query, prefix, QUERY_LIVE, &iterator);
    if (status != STATUS_OK) return status;

    if (limit > 0) status = start_scan(iterator, from);
    while (limit > 0 && status == STATUS_OK) {
        struct record record;
        status = query_iterator_record(iterator, &record);
        if (status == STATUS_OK) status = visit(context, query_iterator_key(iterator), &record);
        if (status == STATUS_OK && --limit > 0) status = move(iterator, from->descending);
    }
    query_iterator_close(iterator);
    return status == STATUS_END ? STATUS_OK : status;
}
