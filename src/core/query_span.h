/* Which keys a question is about: the prefix or range it names, cut by the ranges that the
 * caller may answer for. For the files of core/query.h only. */
#pragma once

#include "core/query.h"

/* Keys in [low, high), an empty `high`: to the end. `is_prefix`: exactly those that start
 * with `low`, so that one descent finds both ends. */
struct span {
    struct slice low, high;
    bool is_prefix;
};

/* Owns: `items` and `bytes`. The spans borrow from the query and from `bytes`. */
struct spans {
    struct heap *heap;
    struct span *items;
    size_t count, capacity;
    struct buf bytes;
};

void spans_init(struct spans *spans, struct heap *heap);
void spans_deinit(struct spans *spans);

/* Errors: STATUS_NOMEM. */
enum status spans_of_prefix(struct spans *spans, const struct query *query, struct slice prefix);
enum status spans_of_range(struct spans *spans, const struct query *query, struct key_range range);

/* Copies what the spans borrow, so that they outlive the query's arguments. */
enum status spans_own(struct spans *spans);

/* <0, 0 or >0 as one upper end is below, at or above the other; empty is above all. */
int span_end_compare(struct slice a, struct slice b);

/* Whether the caller may answer for `key`. */
bool query_owns(const struct query *query, struct slice key);

/* True when `key` is not below the upper end. */
static inline bool span_is_past(const struct span *span, struct slice key)
{
    return span->high.size != 0 && slice_compare(key, span->high) >= 0;
}

/* Ordinals [*low, *high) of the span's keys in a packed trie. */
enum status span_ordinals(const struct span *span, const struct packed *packed, uint64_t *low,
                          uint64_t *high);

enum { SPAN_LAYERS_AT_ONCE = PACKED_AT_ONCE };

/* Ordinals of the span's keys in the packed tries among `count` <= SPAN_LAYERS_AT_ONCE layers, for
 * less than one by one; others' are not written. */
enum status span_ordinals_all(const struct span *span, const struct layer *layers, size_t count,
                              uint64_t lows[SPAN_LAYERS_AT_ONCE],
                              uint64_t highs[SPAN_LAYERS_AT_ONCE]);

/* --- Expired and not settled --- */

static inline bool query_is_unsettled(const struct query *query, const struct record *record)
{
    return record->expires_at > query->settled_ms && record->expires_at <= query->now_ms;
}

/* Whether the layer may have such entries. No allocation. */
enum status query_layer_expires(const struct query *query, const struct layer *layer,
                                bool *expires);

/* Visits every unsettled entry of the layer that is live but for its expiry and lies in the
 * span, in any order. */
enum status query_each_unsettled(const struct query *query, const struct layer *layer,
                                 const struct span *span,
                                 enum status (*visit)(void *context, struct slice key),
                                 void *context);

/* Live entries of the span in the layer, unsettled ones counted. */
enum status query_layer_count(const struct layer *layer, const struct span *span, uint64_t *count);

/* The same for `count` <= SPAN_LAYERS_AT_ONCE layers. */
enum status query_layers_count(const struct layer *layers, size_t count, const struct span *span,
                               uint64_t counts[SPAN_LAYERS_AT_ONCE]);

/* Grows `*items` to hold one more. */
bool query_grow(struct heap *heap, void **items, size_t *capacity, size_t count, size_t item_size);
