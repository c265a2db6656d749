/* Expired and not settled: found by the expiry index of a packed trie, and for a memory
 * trie by a tree of notes in the same arena:
 *
 *   key of a note   expires_at, eight bytes, the highest first; then the entry's key
 *   its record      only present, so that notes can be counted
 *
 * A note says where to look; whether it holds is read from the entry. */
#include "base/check.h"
#include "core/query_span.h"

enum { NOTE_TIME_BYTES = 8 };

static void append_time(struct buf *buf, uint64_t time)
{
    for (int shift = 56; shift >= 0; shift -= 8) buf_append_u8(buf, (uint8_t)(time >> shift));
}

static void store_time(uint8_t bytes[NOTE_TIME_BYTES], uint64_t time)
{
    for (unsigned i = 0; i < NOTE_TIME_BYTES; i++) bytes[i] = (uint8_t)(time >> (56 - 8 * i));
}

static uint64_t load_time(struct slice note)
{
    uint64_t time = 0;
    for (unsigned i = 0; i < NOTE_TIME_BYTES; i++) time = time << 8 | note.data[i];
    return time;
}

static enum status change_note(struct memtrie *trie, memtrie_root *expiry, uint64_t expires_at,
                               struct slice key, bool put)
{
    struct buf note;
    buf_init(&note, trie->arena.heap);
    append_time(&note, expires_at);
    buf_append_slice(&note, key);
    enum status status = buf_status(&note);
    if (status == STATUS_OK && put) {
        struct record record = record_of_set((struct version){1, 0}, 0);
        status = memtrie_put(trie, expiry, buf_slice(&note), &record);
    } else if (status == STATUS_OK) {
        status = memtrie_remove(trie, expiry, buf_slice(&note));
        if (status == STATUS_NOT_FOUND) status = STATUS_OK;
    }
    buf_deinit(&note);
    return status;
}

enum status query_expiry_put(struct memtrie *trie, memtrie_root *expiry, uint64_t expires_at,
                             struct slice key)
{
    CHECK(expires_at != 0);
    return change_note(trie, expiry, expires_at, key, true);
}

enum status query_expiry_remove(struct memtrie *trie, memtrie_root *expiry, uint64_t expires_at,
                                struct slice key)
{
    return change_note(trie, expiry, expires_at, key, false);
}

enum status query_expiry_first(const struct memtrie *trie, memtrie_root expiry,
                               uint64_t *expires_at, struct buf *key)
{
    struct memtrie_iterator notes;
    memtrie_iterator_init(&notes, trie, expiry, trie->arena.heap);
    enum status status = memtrie_iterator_seek(&notes, SLICE_LITERAL("\0"));
    if (status == STATUS_OK) {
        buf_clear(key);
        buf_append_slice(key, slice_from(notes.key, NOTE_TIME_BYTES));
        *expires_at = load_time(notes.key);
        status = buf_status(key);
    }
    memtrie_iterator_deinit(&notes);
    return status == STATUS_END ? STATUS_NOT_FOUND : status;
}

enum status query_layer_expires(const struct query *query, const struct layer *layer, bool *expires)
{
    *expires = false;
    if (query->now_ms <= query->settled_ms) return STATUS_OK;
    if (layer->packed == NULL) {
        if (layer->no_expiry_index) {
            *expires = layer->root != 0;
        } else if (layer->expiry != 0) {
            uint8_t low[NOTE_TIME_BYTES], high[NOTE_TIME_BYTES];
            store_time(low, query->settled_ms + 1);
            store_time(high, query->now_ms + 1);
            *expires = memtrie_rank(layer->memtrie, layer->expiry, slice_of(low, sizeof low)) !=
                       memtrie_rank(layer->memtrie, layer->expiry, slice_of(high, sizeof high));
        }
        return STATUS_OK;
    }
    uint64_t expires_first = packed_info(layer->packed)->expires_first;
    if (expires_first == 0 || expires_first > query->now_ms) return STATUS_OK;
    uint64_t first, end;
    enum status status =
        packed_expiry_range(layer->packed, query->settled_ms, query->now_ms, &first, &end);
    if (status == STATUS_OK) *expires = first != end;
    return status;
}

bool query_is_settled(const struct query *query)
{
    for (size_t i = 0; i < query->layer_count; i++) {
        bool expires = true;
        if (query_layer_expires(query, &query->layers[i], &expires) != STATUS_OK) return false;
        if (expires) return false;
    }
    return true;
}

typedef enum status visit_key(void *context, struct slice key);

static enum status each_in_packed(const struct query *query, const struct layer *layer,
                                  const struct span *span, visit_key *visit, void *context)
{
    const struct packed *packed = layer->packed;
    uint64_t first, end, low, high;
    enum status status =
        packed_expiry_range(packed, query->settled_ms, query->now_ms, &first, &end);
    if (status == STATUS_OK) status = span_ordinals(span, packed, &low, &high);
    if (status != STATUS_OK) return status;

    struct buf key;
    buf_init(&key, query->heap);
    for (uint64_t i = first; i < end && status == STATUS_OK; i++) {
        uint64_t expires_at, ordinal, live;
        status = packed_expiry_at(packed, i, &expires_at, &ordinal);
        if (status != STATUS_OK || ordinal < low || ordinal >= high) continue;
        status = overlay_live_count(layer->overlays, packed, layer->overlay, ordinal, ordinal + 1,
                                    &live);
        if (status != STATUS_OK || live == 0) continue;
        status = packed_key(packed, ordinal, &key);
        if (status == STATUS_OK) status = visit(context, buf_slice(&key));
    }
    buf_deinit(&key);
    return status;
}

static bool is_in(const struct span *span, struct slice key)
{
    return slice_compare(key, span->low) >= 0 && !span_is_past(span, key);
}

static enum status each_by_notes(const struct query *query, const struct layer *layer,
                                 const struct span *span, visit_key *visit, void *context)
{
    uint8_t low[NOTE_TIME_BYTES];
    store_time(low, query->settled_ms + 1);
    struct memtrie_iterator notes;
    memtrie_iterator_init(&notes, layer->memtrie, layer->expiry, query->heap);
    enum status status = memtrie_iterator_seek(&notes, slice_of(low, sizeof low));
    while (status == STATUS_OK && load_time(notes.key) <= query->now_ms) {
        struct slice key = slice_from(notes.key, NOTE_TIME_BYTES);
        struct record record;
        bool hidden;
        if (is_in(span, key) &&
            memtrie_get(layer->memtrie, layer->root, key, &record, &hidden) == STATUS_OK &&
            !hidden && record_is_present(&record) && record.expires_at == load_time(notes.key))
            status = visit(context, key);
        if (status == STATUS_OK) status = memtrie_iterator_next(&notes);
    }
    memtrie_iterator_deinit(&notes);
    return status == STATUS_END ? STATUS_OK : status;
}

static enum status each_by_walk(const struct query *query, const struct layer *layer,
                                const struct span *span, visit_key *visit, void *context)
{
    struct memtrie_iterator walk;
    memtrie_iterator_init(&walk, layer->memtrie, layer->root, query->heap);
    enum status status = memtrie_iterator_seek(&walk, span->low);
    while (status == STATUS_OK && !span_is_past(span, walk.key)) {
        if (!walk.hidden && record_is_present(&walk.record) &&
            query_is_unsettled(query, &walk.record))
            status = visit(context, walk.key);
        if (status == STATUS_OK) status = memtrie_iterator_next(&walk);
    }
    memtrie_iterator_deinit(&walk);
    return status == STATUS_END ? STATUS_OK : status;
}

enum status query_each_unsettled(const struct query *query, const struct layer *layer,
                                 const struct span *span, visit_key *visit, void *context)
{
    bool expires;
    enum status status = query_layer_expires(query, layer, &expires);
    if (status != STATUS_OK || !expires) return status;
    if (layer->packed != NULL) return each_in_packed(query, layer, span, visit, context);
    if (layer->no_expiry_index) return each_by_walk(query, layer, span, visit, context);
    return each_by_notes(query, layer, span, visit, context);
}
