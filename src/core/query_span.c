#include "core/query_span.h"

#include "base/check.h"
#include "base/math.h"

void spans_init(struct spans *spans, struct heap *heap)
{
    *spans = (struct spans){.heap = heap};
    buf_init(&spans->bytes, heap);
}

void spans_deinit(struct spans *spans)
{
    heap_free(spans->heap, spans->items);
    buf_deinit(&spans->bytes);
}

bool query_grow(struct heap *heap, void **items, size_t *capacity, size_t count, size_t item_size)
{
    if (count < *capacity) return true;
    size_t larger = size_max(16, *capacity * 2);
    void *moved = heap_realloc(heap, *items, larger * item_size);
    if (moved == NULL) return false;
    *items = moved;
    *capacity = larger;
    return true;
}

int span_end_compare(struct slice a, struct slice b)
{
    if (a.size == 0 || b.size == 0) return (a.size == 0) - (b.size == 0);
    return slice_compare(a, b);
}

static enum status add_span(struct spans *spans, struct slice low, struct slice high)
{
    if (high.size != 0 && slice_compare(low, high) >= 0) return STATUS_OK;
    if (spans->count > 0) {
        struct span *last = &spans->items[spans->count - 1];
        /* Neighbouring ranges are one: a node with many shards descends once. */
        if (slice_equal(last->high, low)) {
            last->high = high;
            return STATUS_OK;
        }
    }
    void *items = spans->items;
    if (!query_grow(spans->heap, &items, &spans->capacity, spans->count, sizeof *spans->items))
        return STATUS_NOMEM;
    spans->items = items;
    spans->items[spans->count++] = (struct span){.low = low, .high = high};
    return STATUS_OK;
}

/* Index of the first range that does not end at or before `low`. */
static size_t first_range(const struct query *query, struct slice low)
{
    size_t first = 0, end = query->range_count;
    while (first < end) {
        size_t middle = (first + end) / 2;
        struct slice high = query->ranges[middle].high;
        if (high.size != 0 && slice_compare(high, low) <= 0)
            first = middle + 1;
        else
            end = middle;
    }
    return first;
}

bool query_owns(const struct query *query, struct slice key)
{
    if (query->ranges == NULL) return true;
    size_t i = first_range(query, key);
    return i < query->range_count && slice_compare(query->ranges[i].low, key) <= 0;
}

enum status spans_of_range(struct spans *spans, const struct query *query, struct key_range range)
{
    spans->count = 0;
    if (query->ranges == NULL) return add_span(spans, range.low, range.high);

    for (size_t i = first_range(query, range.low); i < query->range_count; i++) {
        struct key_range own = query->ranges[i];
        if (range.high.size != 0 && slice_compare(own.low, range.high) >= 0) break;
        struct slice low = slice_compare(own.low, range.low) > 0 ? own.low : range.low;
        struct slice high = span_end_compare(own.high, range.high) < 0 ? own.high : range.high;
        enum status status = add_span(spans, low, high);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

enum status spans_of_prefix(struct spans *spans, const struct query *query, struct slice prefix)
{
    /* The keys after all that start with the prefix: its last byte below 255 raised. */
    size_t size = prefix.size;
    while (size > 0 && prefix.data[size - 1] == 0xff) size--;
    buf_clear(&spans->bytes);
    buf_append(&spans->bytes, prefix.data, size);
    if (spans->bytes.failed) return STATUS_NOMEM;
    if (size > 0) spans->bytes.data[size - 1]++;

    struct slice high = buf_slice(&spans->bytes);
    enum status status = spans_of_range(spans, query, (struct key_range){prefix, high});
    if (status != STATUS_OK) return status;
    if (spans->count == 1)
        spans->items[0].is_prefix = slice_equal(spans->items[0].low, prefix) &&
                                    span_end_compare(spans->items[0].high, high) == 0;
    return STATUS_OK;
}

enum status spans_own(struct spans *spans)
{
    struct buf bytes;
    buf_init(&bytes, spans->heap);
    for (size_t i = 0; i < spans->count; i++) {
        buf_append_slice(&bytes, spans->items[i].low);
        buf_append_slice(&bytes, spans->items[i].high);
    }
    if (bytes.failed) {
        buf_deinit(&bytes);
        return STATUS_NOMEM;
    }
    const uint8_t *at = bytes.data;
    for (size_t i = 0; i < spans->count; i++) {
        struct span *span = &spans->items[i];
        /* Without any bounds there are no bytes, and no address to add to. */
        span->low.data = at;
        if (span->low.size > 0) at += span->low.size;
        span->high.data = at;
        if (span->high.size > 0) at += span->high.size;
    }
    buf_deinit(&spans->bytes);
    spans->bytes = bytes;
    return STATUS_OK;
}

/* Whether all keys of the trie lie before the span or behind it, and at which ordinal the span
 * then stands. Files of the bottom level are apart from nearly all spans: of those nothing but
 * the footer is read. */
static bool lies_apart(const struct span *span, const struct packed *packed, uint64_t *ordinal)
{
    const struct packed_info *info = packed_info(packed);
    *ordinal = 0;
    if (span->high.size != 0 && slice_compare(span->high, info->key_first) <= 0) return true;
    *ordinal = info->count;
    return slice_compare(info->key_last, span->low) < 0;
}

enum status span_ordinals(const struct span *span, const struct packed *packed, uint64_t *low,
                          uint64_t *high)
{
    uint64_t first = 0, end = packed_info(packed)->count, apart;
    enum status status = STATUS_OK;
    if (lies_apart(span, packed, &apart)) {
        *low = *high = apart;
        return STATUS_OK;
    }
    if (span->is_prefix && span->low.size != 0) {
        status = packed_prefix(packed, span->low, &first, &end);
    } else {
        if (span->low.size != 0) status = packed_rank(packed, span->low, &first, NULL);
        if (status == STATUS_OK && span->high.size != 0)
            status = packed_rank(packed, span->high, &end, NULL);
    }
    if (status != STATUS_OK) return status;
    if (first > end || end > packed_info(packed)->count) return STATUS_CORRUPT;
    *low = first;
    *high = end;
    return STATUS_OK;
}

enum status span_ordinals_all(const struct span *span, const struct layer *layers, size_t count,
                              uint64_t lows[SPAN_LAYERS_AT_ONCE],
                              uint64_t highs[SPAN_LAYERS_AT_ONCE])
{
    const struct packed *packed[SPAN_LAYERS_AT_ONCE];
    size_t places[SPAN_LAYERS_AT_ONCE], packed_count = 0;
    uint64_t found_lows[SPAN_LAYERS_AT_ONCE], found_highs[SPAN_LAYERS_AT_ONCE], apart;
    enum status status = STATUS_OK;
    CHECK(count <= SPAN_LAYERS_AT_ONCE);
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        if (layers[i].packed == NULL) continue;
        if (!span->is_prefix) {
            status = span_ordinals(span, layers[i].packed, &lows[i], &highs[i]);
        } else if (lies_apart(span, layers[i].packed, &apart)) {
            lows[i] = highs[i] = apart;
        } else {
            places[packed_count] = i;
            packed[packed_count++] = layers[i].packed;
        }
    }
    if (status != STATUS_OK || packed_count == 0) return status;

    status = packed_prefix_all(packed, packed_count, span->low, found_lows, found_highs);
    for (size_t i = 0; i < packed_count && status == STATUS_OK; i++) {
        if (found_highs[i] > packed_info(packed[i])->count) return STATUS_CORRUPT;
        lows[places[i]] = found_lows[i];
        highs[places[i]] = found_highs[i];
    }
    return status;
}

/* Live entries among ordinals [low, high) of a packed layer. */
static enum status packed_layer_count(const struct layer *layer, uint64_t low, uint64_t high,
                                      uint64_t *count)
{
    if (low == high) {
        *count = 0;
        return STATUS_OK;
    }
    return overlay_live_count(layer->overlays, layer->packed, layer->overlay, low, high, count);
}

enum status query_layer_count(const struct layer *layer, const struct span *span, uint64_t *count)
{
    if (layer->packed == NULL) {
        const struct memtrie *trie = layer->memtrie;
        if (span->is_prefix) {
            *count = memtrie_count_prefix(trie, layer->root, span->low);
            return STATUS_OK;
        }
        uint64_t low = span->low.size == 0 ? 0 : memtrie_rank(trie, layer->root, span->low);
        uint64_t high = span->high.size == 0 ? memtrie_totals(trie, layer->root).live_count
                                             : memtrie_rank(trie, layer->root, span->high);
        *count = high - low;
        return STATUS_OK;
    }
    uint64_t low, high;
    enum status status = span_ordinals(span, layer->packed, &low, &high);
    return status == STATUS_OK ? packed_layer_count(layer, low, high, count) : status;
}

enum status query_layers_count(const struct layer *layers, size_t count, const struct span *span,
                               uint64_t counts[SPAN_LAYERS_AT_ONCE])
{
    uint64_t lows[SPAN_LAYERS_AT_ONCE], highs[SPAN_LAYERS_AT_ONCE];
    enum status status = span_ordinals_all(span, layers, count, lows, highs);
    for (size_t i = 0; i < count && status == STATUS_OK; i++)
        status = layers[i].packed == NULL
                     ? query_layer_count(&layers[i], span, &counts[i])
                     : packed_layer_count(&layers[i], lows[i], highs[i], &counts[i]);
    return status;
}
