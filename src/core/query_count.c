#include <stdlib.h>

#include "base/check.h"
#include "base/math.h"
#include "core/query_scratch.h"

static enum status count_one(void *context, struct slice key)
{
    (void)key;
    ++*(uint64_t *)context;
    return STATUS_OK;
}

/* Live entries of a span over all layers. */
static enum status count_span(const struct query *query, const struct span *span, uint64_t *count)
{
    uint64_t total = 0, unsettled = 0, counts[SPAN_LAYERS_AT_ONCE];
    for (size_t i = 0; i < query->layer_count; i++) {
        size_t at = i % SPAN_LAYERS_AT_ONCE;
        const struct layer *layer = &query->layers[i];
        enum status status = STATUS_OK;
        if (at == 0)
            status = query_layers_count(
                layer, size_min(query->layer_count - i, SPAN_LAYERS_AT_ONCE), span, counts);
        if (status == STATUS_OK && counts[at] != 0)
            status = query_each_unsettled(query, layer, span, count_one, &unsettled);
        if (status != STATUS_OK) return status;
        total += counts[at];
    }
    if (unsettled > total) return STATUS_CORRUPT;
    *count = total - unsettled;
    return STATUS_OK;
}

static enum status count_spans(const struct query *query, const struct spans *spans,
                               uint64_t *count)
{
    uint64_t total = 0;
    for (size_t i = 0; i < spans->count; i++) {
        uint64_t own;
        enum status status = count_span(query, &spans->items[i], &own);
        if (status != STATUS_OK) return status;
        total += own;
    }
    *count = total;
    return STATUS_OK;
}

enum status query_count(const struct query *query, struct slice prefix, uint64_t *count)
{
    struct spans *spans = &query->scratch->spans;
    enum status status = spans_of_prefix(spans, query, prefix);
    return status == STATUS_OK ? count_spans(query, spans, count) : status;
}

enum status query_count_range(const struct query *query, struct key_range range, uint64_t *count)
{
    struct spans *spans = &query->scratch->spans;
    enum status status = spans_of_range(spans, query, range);
    return status == STATUS_OK ? count_spans(query, spans, count) : status;
}

static enum status sum_spans(const struct query *query, const struct spans *spans, struct sum *sum)
{
    struct sum total = {0};
    for (size_t i = 0; i < spans->count * query->layer_count; i++) {
        const struct span *span = &spans->items[i / query->layer_count];
        const struct layer *layer = &query->layers[i % query->layer_count];
        struct sum own;
        if (layer->packed == NULL) {
            own = memtrie_sum(layer->memtrie, layer->root, span->low, span->high);
        } else {
            uint64_t low, high;
            enum status status = span_ordinals(span, layer->packed, &low, &high);
            if (status == STATUS_OK)
                status =
                    overlay_sum(layer->overlays, layer->packed, layer->overlay, low, high, &own);
            if (status != STATUS_OK) return status;
        }
        total = sum_add(total, own);
    }
    *sum = total;
    return STATUS_OK;
}

enum status query_sum(const struct query *query, struct slice prefix, struct sum *sum)
{
    struct spans *spans = &query->scratch->spans;
    enum status status = spans_of_prefix(spans, query, prefix);
    return status == STATUS_OK ? sum_spans(query, spans, sum) : status;
}

enum status query_sum_range(const struct query *query, struct key_range range, struct sum *sum)
{
    struct spans *spans = &query->scratch->spans;
    enum status status = spans_of_range(spans, query, range);
    return status == STATUS_OK ? sum_spans(query, spans, sum) : status;
}

/* --- The k-th --- */

static enum status live_rank(const struct layer *layer, struct slice key, uint64_t *rank)
{
    if (layer->packed == NULL) {
        *rank = memtrie_rank(layer->memtrie, layer->root, key);
        return STATUS_OK;
    }
    uint64_t ordinal;
    enum status status = packed_rank(layer->packed, key, &ordinal, NULL);
    if (status != STATUS_OK) return status;
    return overlay_live_count(layer->overlays, layer->packed, layer->overlay, 0, ordinal, rank);
}

static enum status live_key(const struct layer *layer, uint64_t rank, struct buf *key)
{
    if (layer->packed == NULL) return memtrie_select(layer->memtrie, layer->root, rank, key);
    uint64_t ordinal;
    enum status status =
        overlay_live_select(layer->overlays, layer->packed, layer->overlay, rank, &ordinal);
    return status == STATUS_OK ? packed_key(layer->packed, ordinal, key) : status;
}

/* Narrows all windows around the entry with `rank` entries before it in them: the middle of
 * the widest is taken as pivot, and either it and all before it go, or all after it. */
static enum status select_in_windows(const struct query *query, struct query_window *windows,
                                     uint64_t rank, struct buf *key)
{
    for (;;) {
        size_t widest = 0;
        for (size_t i = 1; i < query->layer_count; i++)
            if (windows[i].end - windows[i].first > windows[widest].end - windows[widest].first)
                widest = i;
        if (windows[widest].first == windows[widest].end) return STATUS_NOT_FOUND;

        uint64_t middle = windows[widest].first + (windows[widest].end - windows[widest].first) / 2;
        enum status status = live_key(&query->layers[widest], middle, key);
        if (status != STATUS_OK) return status == STATUS_NOT_FOUND ? STATUS_CORRUPT : status;

        uint64_t before = 0;
        for (size_t i = 0; i < query->layer_count; i++) {
            uint64_t cut = middle;
            if (i != widest) status = live_rank(&query->layers[i], buf_slice(key), &cut);
            if (status != STATUS_OK) return status;
            windows[i].cut = u64_min(u64_max(cut, windows[i].first), windows[i].end);
            before += windows[i].cut - windows[i].first;
        }
        if (before == rank) return STATUS_OK;
        for (size_t i = 0; i < query->layer_count; i++) {
            if (before > rank)
                windows[i].end = windows[i].cut;
            else
                windows[i].first = windows[i].cut + (i == widest);
        }
        if (before < rank) rank -= before + 1;
    }
}

/* As if nothing were unsettled. */
static enum status select_raw(const struct query *query, const struct span *span, uint64_t rank,
                              struct buf *key)
{
    struct query_window *windows = query->scratch->windows;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < query->layer_count && status == STATUS_OK; i++) {
        uint64_t count;
        status = query_layer_count(&query->layers[i], span, &count);
        windows[i].first = 0;
        if (status == STATUS_OK && span->low.size != 0)
            status = live_rank(&query->layers[i], span->low, &windows[i].first);
        windows[i].end = windows[i].first + count;
    }
    return status == STATUS_OK ? select_in_windows(query, windows, rank, key) : status;
}

struct unsettled {
    const struct query *query;
    const struct span *span;
    uint64_t *ranks; /* Among all live entries of the span, unsettled ones counted. */
    size_t count, capacity;
};

static enum status note_rank(void *context, struct slice key)
{
    struct unsettled *unsettled = context;
    struct span below = {.low = unsettled->span->low, .high = key};
    void *ranks = unsettled->ranks;
    if (!query_grow(unsettled->query->heap, &ranks, &unsettled->capacity, unsettled->count,
                    sizeof *unsettled->ranks))
        return STATUS_NOMEM;
    unsettled->ranks = ranks;

    uint64_t rank = 0;
    for (size_t i = 0; i < unsettled->query->layer_count; i++) {
        uint64_t own = 0;
        enum status status = STATUS_OK;
        if (slice_compare(below.low, below.high) < 0)
            status = query_layer_count(&unsettled->query->layers[i], &below, &own);
        if (status != STATUS_OK) return status;
        rank += own;
    }
    unsettled->ranks[unsettled->count++] = rank;
    return STATUS_OK;
}

static int compare_ranks(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static enum status select_in_span(const struct query *query, const struct span *span, uint64_t rank,
                                  struct buf *key)
{
    struct unsettled unsettled = {.query = query, .span = span};
    enum status status = STATUS_OK;
    for (size_t i = 0; i < query->layer_count && status == STATUS_OK; i++)
        status = query_each_unsettled(query, &query->layers[i], span, note_rank, &unsettled);
    if (status == STATUS_OK) {
        /* Each unsettled entry at or before the answer moves it one further. */
        if (unsettled.count > 0)
            qsort(unsettled.ranks, unsettled.count, sizeof *unsettled.ranks, compare_ranks);
        for (size_t i = 0; i < unsettled.count && unsettled.ranks[i] <= rank; i++) rank++;
        status = select_raw(query, span, rank, key);
    }
    heap_free(query->heap, unsettled.ranks);
    return status;
}

enum status query_select(const struct query *query, struct slice prefix, uint64_t rank,
                         struct buf *key)
{
    struct query_scratch *scratch = query->scratch;
    buf_clear(key);
    if (query->layer_count == 0) return STATUS_NOT_FOUND;
    enum status status = spans_of_prefix(&scratch->spans, query, prefix);
    if (status != STATUS_OK) return status;

    if (scratch->window_count < query->layer_count) {
        void *windows = heap_realloc(scratch->heap, scratch->windows,
                                     query->layer_count * sizeof *scratch->windows);
        if (windows == NULL) return STATUS_NOMEM;
        scratch->windows = windows;
        scratch->window_count = query->layer_count;
    }
    for (size_t i = 0; i < scratch->spans.count; i++) {
        uint64_t count;
        status = count_span(query, &scratch->spans.items[i], &count);
        if (status != STATUS_OK) return status;
        if (rank < count) return select_in_span(query, &scratch->spans.items[i], rank, key);
        rank -= count;
    }
    return STATUS_NOT_FOUND;
}
