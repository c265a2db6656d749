#include "core/query.h"

#include "base/check.h"
#include "base/math.h"
#include "core/query_scratch.h"

enum status query_scratch_create(struct heap *heap, struct query_scratch **out)
{
    struct query_scratch *scratch = heap_zalloc(heap, sizeof *scratch);
    if (scratch == NULL) return STATUS_NOMEM;
    scratch->heap = heap;
    spans_init(&scratch->spans, heap);
    best_search_init(&scratch->search, heap);
    buf_init(&scratch->keys, heap);
    *out = scratch;
    return STATUS_OK;
}

void query_scratch_destroy(struct query_scratch *scratch)
{
    if (scratch == NULL) return;
    spans_deinit(&scratch->spans);
    best_search_deinit(&scratch->search);
    buf_deinit(&scratch->keys);
    heap_free(scratch->heap, scratch->windows);
    heap_free(scratch->heap, scratch);
}

/* --- One key --- */

static enum status find_in_packed(const struct layer *layer, struct slice key, uint64_t hash,
                                  struct query_hit *hit)
{
    uint64_t ordinal;
    enum status status = packed_find_hashed(layer->packed, key, hash, &ordinal);
    if (status != STATUS_OK) return status;
    enum overlay_state state =
        overlay_state(layer->overlays, layer->packed, layer->overlay, ordinal);
    if (state == OVERLAY_DEAD) return STATUS_NOT_FOUND;
    hit->ordinal = ordinal;
    hit->hidden = state == OVERLAY_HIDDEN;
    return packed_record(layer->packed, ordinal, &hit->record);
}

enum status query_get(const struct query *query, struct slice key, struct query_hit *hit)
{
    if (!query_owns(query, key)) return STATUS_NOT_FOUND;

    uint64_t hash = packed_key_hash(key);
    for (size_t i = 0; i < query->layer_count; i++)
        if (query->layers[i].packed != NULL) packed_prefetch(query->layers[i].packed, hash);

    for (size_t i = 0; i < query->layer_count; i++) {
        const struct layer *layer = &query->layers[i];
        struct query_hit found = {.layer = i};
        enum status status = layer->packed != NULL ? find_in_packed(layer, key, hash, &found)
                                                   : memtrie_get(layer->memtrie, layer->root, key,
                                                                 &found.record, &found.hidden);
        if (status == STATUS_NOT_FOUND) continue;
        if (status != STATUS_OK) return status;
        found.live = !found.hidden && record_is_present(&found.record) &&
                     !record_is_expired(&found.record, query->now_ms);
        *hit = found;
        return STATUS_OK;
    }
    return STATUS_NOT_FOUND;
}

/* --- Best first --- */

/* One of the two visits, with what it is given. */
struct visitor {
    query_visit *visit;
    query_visit_place *visit_place;
    void *context;
};

static enum status give(struct query_scratch *scratch, const struct best_answer *answers,
                        size_t count, const struct visitor *visitor)
{
    size_t starts[BEST_KEYS_MAX], ends[BEST_KEYS_MAX];
    struct record record;
    enum status status =
        best_search_keys(&scratch->search, answers, count, &scratch->keys, starts, ends);
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        const struct best_answer *answer = &answers[i];
        struct slice key = slice_of(scratch->keys.data + starts[i], ends[i] - starts[i]);
        if (visitor->visit == NULL) {
            status = visitor->visit_place(visitor->context, key, answer->item.best);
        } else {
            status = best_search_record(answer, &record);
            if (status == STATUS_OK) status = visitor->visit(visitor->context, key, &record);
        }
    }
    return status;
}

/* STATUS_OK: there may be more than was given. STATUS_END: there is not; `*ended`: says so the
 * visit. */
static enum status give_all(struct query_scratch *scratch, uint64_t limit,
                            const struct visitor *visitor, bool *ended)
{
    enum status status = STATUS_OK;
    while (limit > 0 && status == STATUS_OK) {
        /* Found some at a time before their keys are read: the search stays in its columns, and
         * keys that lie in one block are read together. */
        struct best_answer answers[BEST_KEYS_MAX];
        size_t count = 0, wanted = size_min(limit, BEST_KEYS_MAX);
        while (count < wanted && status == STATUS_OK) {
            status = best_search_next(&scratch->search, &answers[count]);
            if (status == STATUS_OK) best_search_prefetch(answers, ++count);
        }
        enum status given = give(scratch, answers, count, visitor);
        *ended = given == STATUS_END;
        if (given != STATUS_OK) return given;
        limit -= count;
    }
    return status;
}

static enum status start(const struct query *query, struct slice prefix, uint64_t limit,
                         const struct query_position *after)
{
    struct query_scratch *scratch = query->scratch;
    enum status status = spans_of_prefix(&scratch->spans, query, prefix);
    return status == STATUS_OK
               ? best_search_start(&scratch->search, query, &scratch->spans, after, limit)
               : status;
}

enum status query_best(const struct query *query, struct slice prefix, uint64_t limit,
                       const struct query_position *after, query_visit *visit, void *context)
{
    bool ended;
    struct visitor visitor = {.visit = visit, .context = context};
    if (limit == 0) return STATUS_OK;
    enum status status = start(query, prefix, limit, after);
    if (status == STATUS_OK) status = give_all(query->scratch, limit, &visitor, &ended);
    return status == STATUS_END ? STATUS_OK : status;
}

enum status query_best_places(const struct query *query, struct slice prefix, uint64_t limit,
                              const struct query_position *after, query_visit_place *visit,
                              void *context, bool *more)
{
    bool ended = false;
    struct best_answer next;
    struct visitor visitor = {.visit_place = visit, .context = context};
    enum status status = start(query, prefix, limit == UINT64_MAX ? limit : limit + 1, after);
    if (status == STATUS_OK) status = give_all(query->scratch, limit, &visitor, &ended);
    if (status == STATUS_OK) status = best_search_next(&query->scratch->search, &next);
    if (status != STATUS_OK && status != STATUS_END) return status;
    if (!ended) *more = status == STATUS_OK;
    return STATUS_OK;
}

struct query_walk {
    struct query query;
    struct spans spans;
    struct best_search search;
    struct buf key;
    struct buf after_key;
    struct query_position after;
};

enum status query_walk_open(const struct query *query, struct slice prefix,
                            const struct query_position *after, struct query_walk **out)
{
    struct query_walk *walk = heap_zalloc(query->heap, sizeof *walk);
    if (walk == NULL) return STATUS_NOMEM;
    walk->query = *query;
    spans_init(&walk->spans, query->heap);
    best_search_init(&walk->search, query->heap);
    buf_init(&walk->key, query->heap);
    buf_init(&walk->after_key, query->heap);

    enum status status = spans_of_prefix(&walk->spans, query, prefix);
    if (status == STATUS_OK) status = spans_own(&walk->spans);
    if (status == STATUS_OK && after != NULL) {
        buf_append_slice(&walk->after_key, after->key);
        walk->after = (struct query_position){after->best, buf_slice(&walk->after_key)};
        status = buf_status(&walk->after_key);
    }
    if (status == STATUS_OK)
        status = best_search_start(&walk->search, &walk->query, &walk->spans,
                                   after == NULL ? NULL : &walk->after, UINT64_MAX);
    if (status != STATUS_OK) {
        query_walk_close(walk);
        return status;
    }
    *out = walk;
    return STATUS_OK;
}

void query_walk_close(struct query_walk *walk)
{
    if (walk == NULL) return;
    spans_deinit(&walk->spans);
    best_search_deinit(&walk->search);
    buf_deinit(&walk->key);
    buf_deinit(&walk->after_key);
    heap_free(walk->query.heap, walk);
}

enum status query_walk_next(struct query_walk *walk, struct slice *key, struct record *record)
{
    struct best_answer answer;
    enum status status = best_search_next(&walk->search, &answer);
    if (status == STATUS_OK) status = best_search_key(&walk->search, &answer, &walk->key);
    if (status == STATUS_OK) status = best_search_record(&answer, record);
    if (status == STATUS_OK) *key = buf_slice(&walk->key);
    return status;
}
