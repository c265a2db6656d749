#include "node/own_ranges.h"

#include "cluster/token.h"

/* Writes the ranges, or, with NULL, only counts them. */
static size_t collect(const struct rangemap *map,
                      bool (*may_answer)(const void *context, const struct shard *shard),
                      const void *context, struct key_range *out)
{
    size_t count = 0;
    bool joins = false;
    for (size_t i = 0; i < rangemap_shard_count(map); i++) {
        struct shard shard = rangemap_shard(map, i);
        bool may = may_answer(context, &shard);
        if (may && !joins && out != NULL) out[count].low = shard.low;
        if (may && !joins) count++;
        if (may && out != NULL) out[count - 1].high = shard.high;
        joins = may;
    }
    return count;
}

enum status own_ranges_create(struct heap *heap, struct rangemap *map, node_id self,
                              bool (*may_answer)(const void *context, const struct shard *shard),
                              const void *context, struct own_ranges **out)
{
    size_t count = collect(map, may_answer, context, NULL);
    struct own_ranges *ranges = heap_zalloc(heap, sizeof *ranges + count * sizeof *ranges->ranges);
    if (ranges == NULL) return STATUS_NOMEM;
    atomic_init(&ranges->references, 1);
    ranges->heap = heap;
    ranges->map = rangemap_ref(map);
    ranges->self = self;
    ranges->reads_at_one = rangemap_settings(map)->read_consistency == CONSISTENCY_ONE;
    ranges->count = collect(map, may_answer, context, ranges->ranges);
    *out = ranges;
    return STATUS_OK;
}

struct own_ranges *own_ranges_ref(struct own_ranges *ranges)
{
    atomic_fetch_add_explicit(&ranges->references, 1, memory_order_relaxed);
    return ranges;
}

void own_ranges_unref(struct own_ranges *ranges)
{
    if (ranges == NULL) return;
    if (atomic_fetch_sub_explicit(&ranges->references, 1, memory_order_acq_rel) > 1) return;
    rangemap_unref(ranges->map);
    heap_free(ranges->heap, ranges);
}

bool own_ranges_equal(const struct own_ranges *a, const struct own_ranges *b)
{
    if (a == NULL || b == NULL) return a == b;
    if (a->self != b->self || a->reads_at_one != b->reads_at_one || a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (!slice_equal(a->ranges[i].low, b->ranges[i].low) ||
            !slice_equal(a->ranges[i].high, b->ranges[i].high))
            return false;
    return true;
}

/* The last range that begins at `key` or before; NULL: there is none. */
static const struct key_range *find(const struct own_ranges *ranges, struct slice key)
{
    size_t first = 0, end = ranges->count;
    while (first < end) {
        size_t middle = first + (end - first) / 2;
        if (slice_compare(ranges->ranges[middle].low, key) <= 0)
            first = middle + 1;
        else
            end = middle;
    }
    return first == 0 ? NULL : &ranges->ranges[first - 1];
}

/* Without a prefix the keys that a node holds for itself would be asked for too. */
static bool holds(const struct own_ranges *ranges, const struct own_read *read)
{
    const struct key_range *range = read->key.size == 0 ? NULL : find(ranges, read->key);
    if (range == NULL) return false;
    if (range->high.size == 0) return true;
    bool begins_before_its_end = slice_compare(read->key, range->high) < 0;
    return begins_before_its_end && !(read->is_prefix && slice_starts_with(range->high, read->key));
}

static bool has_all_of(const struct own_ranges *ranges, struct slice bytes, uint64_t sequence)
{
    struct token token;
    if (token_decode(bytes, &token) != STATUS_OK || token.lost) return false;
    for (size_t i = 0; i < token.count; i++) {
        const struct token_group *group = &token.groups[i];
        bool here = false;
        for (size_t j = 0; j < group->count; j++)
            here = here || group->places[j].node == ranges->self;
        if (!here) return false;
    }
    return token_sequence(&token, ranges->self) <= sequence;
}

bool own_ranges_admit(const struct own_ranges *ranges, const struct own_read *read,
                      uint64_t sequence)
{
    bool at_one = read->has_consistency ? read->consistency == CONSISTENCY_ONE
                                        : ranges->reads_at_one;
    if (!at_one || !holds(ranges, read)) return false;
    return read->token.size == 0 || has_all_of(ranges, read->token, sequence);
}
