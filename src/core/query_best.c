#include "core/query_best.h"

#include <string.h>

#include "base/check.h"
#include "base/math.h"
#include "core/overlay_node.h"

void best_search_init(struct best_search *search, struct heap *heap)
{
    *search = (struct best_search){.heap = heap};
    buf_init(&search->paths, heap);
    buf_init(&search->key, heap);
    buf_init(&search->other_key, heap);
}

void best_search_deinit(struct best_search *search)
{
    for (size_t i = 0; i < search->source_capacity; i++)
        heap_free(search->heap, search->sources[i].items);
    heap_free(search->heap, search->sources);
    heap_free(search->heap, search->order);
    heap_free(search->heap, search->bounds);
    heap_free(search->heap, search->trails);
    heap_free(search->heap, search->chain);
    buf_deinit(&search->paths);
    buf_deinit(&search->key);
    buf_deinit(&search->other_key);
}

/* --- Heap of one source --- */

/* Of two items of one memory trie with equal bests: does `a` come first in key order? */
static bool memory_comes_first(struct best_search *search, const struct best_source *source,
                               const struct best_item *a, const struct best_item *b)
{
    if (a->above == b->above) return a->place < b->place;
    enum status status = best_search_spell(search, source, a, &search->key);
    if (status == STATUS_OK) status = best_search_spell(search, source, b, &search->other_key);
    if (status != STATUS_OK) {
        search->failure = status;
        return false;
    }
    int order = slice_compare(buf_slice(&search->key), buf_slice(&search->other_key));
    /* A node at the path of an entry may hold smaller keys, never the other way round. */
    return order != 0 ? order < 0 : !a->is_entry && b->is_entry;
}

static inline bool comes_first(struct best_search *search, const struct best_source *source,
                               const struct best_item *a, const struct best_item *b)
{
    int order = best_compare(a->best, b->best);
    if (order != 0) return order < 0;
    if (source->layer->packed != NULL) return a->place < b->place;
    return memory_comes_first(search, source, a, b);
}

static enum status heap_push(struct best_search *search, struct best_source *source,
                             const struct best_item *item)
{
    void *items = source->items;
    if (!query_grow(search->heap, &items, &source->capacity, source->count, sizeof *source->items))
        return STATUS_NOMEM;
    source->items = items;
    size_t at = source->count++;
    while (at > 0) {
        size_t parent = (at - 1) / 2;
        if (!comes_first(search, source, item, &source->items[parent])) break;
        source->items[at] = source->items[parent];
        at = parent;
    }
    source->items[at] = *item;
    return search->failure;
}

/* Puts the item where the top was. */
static void heap_replace(struct best_search *search, struct best_source *source,
                         const struct best_item *item)
{
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= source->count) break;
        if (child + 1 < source->count &&
            comes_first(search, source, &source->items[child + 1], &source->items[child]))
            child++;
        if (!comes_first(search, source, &source->items[child], item)) break;
        source->items[at] = source->items[child];
        at = child;
    }
    source->items[at] = *item;
}

static void heap_pop(struct best_search *search, struct best_source *source)
{
    const struct best_item last = source->items[--source->count];
    heap_replace(search, source, &last);
}

/* --- Pruning --- */

static void floor_insert(struct best_search *search, struct best best)
{
    size_t at = search->floor_count;
    if (at == search->floor_limit)
        at--;
    else
        search->floor_count++;
    while (at > 0 && best_compare(best, search->floor[at - 1]) < 0) {
        search->floor[at] = search->floor[at - 1];
        at--;
    }
    search->floor[at] = best;
    if (search->floor_count == search->floor_limit)
        search->last = search->floor[search->floor_limit - 1];
}

static bool is_before(const struct best_search *search, struct best best)
{
    return search->has_after && best_compare(best, search->after.best) < 0;
}

/* True when `floor_limit` answers that are known of are all better. */
static inline bool is_pruned(const struct best_search *search, struct best best)
{
    if (best.score_order != search->last.score_order)
        return best.score_order < search->last.score_order;
    return best_compare(best, search->last) > 0;
}

/* --- Parts of nodes --- */

/* log2 of the ordinals under a best of `level`. */
static unsigned shift_of(unsigned level)
{
    return 5 + 4 * level;
}

/* A node that gives way to its parts. While `on_top`, it still stands on top of the heap of
 * its source: nothing comes before it. */
struct opened {
    struct best_item item;
    bool on_top;
};

/* Starts loading what the expansion of an item will read. What is pushed is among the best
 * known, so it will be expanded as a rule; by then the lines of several have come at once. */
static void prefetch_below(const struct best_source *source, const struct best_item *item,
                           struct best last)
{
    const struct layer *layer = source->layer;
    if (item->is_entry) return;
    if (layer->packed == NULL) {
        memtrie_prefetch_parts(layer->memtrie, item->node, last);
        return;
    }
    unsigned level = item->level - 1;
    overlay_prefetch(layer->overlays, layer->packed, item->node, level,
                     item->place >> shift_of(level));
}

/* Takes a part into the search unless it cannot matter.
 *
 * The first part with the best of the node is its heir: it takes the node's place in the
 * heap, and what the node promised to the floor. */
static enum status push(struct best_search *search, struct best_source *source,
                        struct opened *opened, struct best_item *part)
{
    if (is_pruned(search, part->best)) return STATUS_OK;
    if (part->is_entry && is_before(search, part->best)) return STATUS_OK;
    bool is_heir = opened->on_top && best_compare(part->best, opened->item.best) == 0;
    if (search->floor_limit != 0) {
        /* What lies at or before the start of the page promises no answer. */
        if (search->has_after && best_compare(part->best, search->after.best) <= 0)
            part->is_exact = false;
        if (part->is_exact && !(is_heir && opened->item.is_exact) &&
            (search->floor_count < search->floor_limit ||
             best_compare(part->best, search->last) < 0))
            floor_insert(search, part->best);
    }
    prefetch_below(source, part, search->last);
    if (!is_heir) return heap_push(search, source, part);
    opened->on_top = false;
    heap_replace(search, source, part);
    return search->failure;
}

/* --- Packed tries --- */

/* Parts of a packed node, as bits, that meet [bounds->low, bounds->high). */
static uint32_t parts_within(const struct best_bounds *bounds, uint64_t place, unsigned bits,
                             unsigned count)
{
    uint64_t first = 0, end = count;
    if (bounds->low > place) first = u64_min((bounds->low - place) >> bits, count);
    if (bounds->high - place < (uint64_t)count << bits)
        end = (bounds->high - place + (UINT64_C(1) << bits) - 1) >> bits;
    return (uint32_t)((UINT64_C(1) << end) - (UINT64_C(1) << first));
}

/* Pruning rests on bests that hold: columns that contradict each other end it. What was not
 * found is worse than what the node promised; of a block that is cut the best may lie outside. */
static bool keeps_promise(struct best promised, const struct best *bests, uint32_t found,
                          bool is_whole)
{
    struct best best = {0};
    if (best_is_none(promised)) return true;
    for (; found != 0; found &= found - 1) best = best_first(best, bests[__builtin_ctz(found)]);
    int order = best_compare(promised, best);
    return is_whole ? order == 0 : order <= 0;
}

static enum status push_packed(struct best_search *search, struct best_source *source,
                               struct opened *opened, uint32_t found, unsigned bits,
                               const struct best *bests, const overlay_node *children)
{
    const struct best_item *item = &opened->item;
    const struct best_bounds bounds = search->bounds[item->above];
    enum status status = STATUS_OK;
    for (; found != 0 && status == STATUS_OK; found &= found - 1) {
        unsigned i = (unsigned)__builtin_ctz(found);
        uint64_t first = item->place + ((uint64_t)i << bits);
        uint64_t end = first + (UINT64_C(1) << bits);
        struct best_item part = {
            .best = bests[i],
            .place = first,
            .node = children != NULL ? children[i] : item->node,
            .above = item->above,
            .level = (uint8_t)(item->level - 1),
            .is_entry = item->level == 1,
            .is_exact = first >= bounds.low && end <= bounds.high,
        };
        status = push(search, source, opened, &part);
    }
    return status;
}

/* Pushes the entries of a block that lie within the bounds; others are not read. */
static enum status expand_block(struct best_search *search, struct best_source *source,
                                struct opened *opened)
{
    const struct layer *layer = source->layer;
    const struct best_item *item = &opened->item;
    uint32_t among = parts_within(&search->bounds[item->above], item->place, 0, PACKED_BLOCK);
    struct best bests[PACKED_BLOCK];
    uint32_t found;
    enum status status = overlay_expand_block(layer->overlays, layer->packed, item->node,
                                              item->place >> shift_of(0), among, search->last,
                                              bests, &found);
    if (status != STATUS_OK) return status;
    if (!keeps_promise(item->best, bests, found, among == UINT32_MAX)) return STATUS_CORRUPT;
    return push_packed(search, source, opened, found, 0, bests, NULL);
}

/* Pushes the parts of a packed node: entries of a block, or the sixteen below. */
static enum status expand_packed(struct best_search *search, struct best_source *source,
                                 struct opened *opened)
{
    const struct layer *layer = source->layer;
    const struct best_item *item = &opened->item;
    if (item->level == 1) return expand_block(search, source, opened);

    unsigned level = item->level - 1, bits = shift_of(level - 1);
    struct best bests[OVERLAY_FAN_OUT];
    overlay_node children[OVERLAY_FAN_OUT];
    uint32_t found;
    enum status status = overlay_expand(layer->overlays, layer->packed, item->node, level,
                                        item->place >> shift_of(level), search->last, bests,
                                        children, &found);
    if (status != STATUS_OK) return status;
    if (!keeps_promise(item->best, bests, found, true)) return STATUS_CORRUPT;
    found &= parts_within(&search->bounds[item->above], item->place, bits, PACKED_FAN_OUT);
    return push_packed(search, source, opened, found, bits, bests, level == 1 ? NULL : children);
}

enum { SEED_BLOCK_MAX = 3 };

/* Begins at the least node over all ordinals [low, high) of a span, or, where they lie in a few
 * blocks, at each of these: most prefixes are of few words, and the nodes above tell nothing that
 * the blocks do not. */
static enum status seed_packed(struct best_search *search, struct best_source *source, uint64_t low,
                               uint64_t high)
{
    const struct layer *layer = source->layer;
    if (low == high) return STATUS_OK;

    void *bounds = search->bounds;
    if (!query_grow(search->heap, &bounds, &search->bounds_capacity, search->bounds_count,
                    sizeof *search->bounds))
        return STATUS_NOMEM;
    search->bounds = bounds;
    search->bounds[search->bounds_count] = (struct best_bounds){low, high};
    uint32_t above = (uint32_t)search->bounds_count++;

    uint64_t first = low >> shift_of(0), last = (high - 1) >> shift_of(0);
    unsigned level = 0;
    if (last - first >= SEED_BLOCK_MAX)
        while (low >> shift_of(level) != (high - 1) >> shift_of(level)) level++;
    enum status status = STATUS_OK;
    for (uint64_t index = low >> shift_of(level);
         index <= (high - 1) >> shift_of(level) && status == STATUS_OK; index++) {
        struct opened opened = {
            .item.place = index << shift_of(level),
            .item.above = above,
            .item.level = (uint8_t)(level + 1),
        };
        opened.item.node =
            level == 0 ? overlay_find(layer->overlays, layer->packed, layer->overlay, 1,
                                      index / OVERLAY_FAN_OUT)
                       : overlay_find(layer->overlays, layer->packed, layer->overlay, level, index);
        status = expand_packed(search, source, &opened);
    }
    return status;
}

/* --- Memory tries --- */

static enum status add_trail(struct best_search *search, struct best_trail trail)
{
    void *trails = search->trails;
    if (!query_grow(search->heap, &trails, &search->trail_capacity, search->trail_count,
                    sizeof *search->trails))
        return STATUS_NOMEM;
    search->trails = trails;
    search->trails[search->trail_count++] = trail;
    return STATUS_OK;
}

struct seed {
    struct best_search *search;
    struct best_source *source;
};

static enum status seed_part(void *context, struct slice path, const struct memtrie_part *part)
{
    const struct seed *seed = context;
    struct best_search *search = seed->search;
    struct best_trail trail = {.path_start = search->paths.size, .path_size = path.size};
    buf_append_slice(&search->paths, path);
    enum status status = buf_status(&search->paths);
    if (status == STATUS_OK) status = add_trail(search, trail);
    if (status != STATUS_OK) return status;

    struct best_item item = {
        .best = part->best,
        .node = part->node,
        .above = (uint32_t)(search->trail_count - 1),
        .is_entry = part->is_entry,
        .is_exact = true,
    };
    return push(search, seed->source, &(struct opened){0}, &item);
}

static enum status seed_memory(struct best_search *search, struct best_source *source,
                               const struct span *span)
{
    struct seed seed = {search, source};
    return memtrie_cover(source->layer->memtrie, source->layer->root, span->low, span->high,
                         search->heap, seed_part, &seed);
}

static enum status expand_memory(struct best_search *search, struct best_source *source,
                                 struct opened *opened)
{
    const struct best_item *item = &opened->item;
    enum status status = add_trail(search, (struct best_trail){.node = item->node,
                                                               .above = item->above,
                                                               .place = (uint16_t)item->place});

    /* As long as the floor is not full, it has room for so many: the best parts go first, so that
     * the others are as a rule not even read. */
    struct memtrie_expansion expansion = memtrie_expand(source->layer->memtrie, item->node);
    struct memtrie_part parts[MEMTRIE_PART_COUNT_MAX];
    while (status == STATUS_OK) {
        size_t wanted = MEMTRIE_PART_COUNT_MAX;
        if (search->floor_limit > search->floor_count)
            wanted = search->floor_limit - search->floor_count;
        size_t count = memtrie_expand_next(&expansion, search->last, wanted, parts);
        if (count == 0) break;
        for (size_t i = 0; i < count && status == STATUS_OK; i++) {
            struct best_item part = {
                .best = parts[i].best,
                .place = parts[i].place,
                .node = parts[i].node,
                .above = (uint32_t)(search->trail_count - 1),
                .is_entry = parts[i].is_entry,
                .is_exact = true,
            };
            status = push(search, source, opened, &part);
        }
    }
    return status;
}

/* --- All sources --- */

static enum status seed_sources(struct best_search *search, size_t first, size_t count,
                                const struct span *span)
{
    uint64_t lows[SPAN_LAYERS_AT_ONCE], highs[SPAN_LAYERS_AT_ONCE];
    enum status status = span_ordinals_all(span, search->query->layers + first, count, lows, highs);
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        struct best_source *source = &search->sources[first + i];
        status = source->layer->packed != NULL ? seed_packed(search, source, lows[i], highs[i])
                                               : seed_memory(search, source, span);
    }
    return status;
}

static enum status prepare_sources(struct best_search *search)
{
    size_t count = search->query->layer_count;
    if (search->source_capacity < count) {
        void *sources =
            heap_realloc(search->heap, search->sources, count * sizeof *search->sources);
        if (sources == NULL) return STATUS_NOMEM;
        search->sources = sources;
        void *order = heap_realloc(search->heap, search->order, count * sizeof *search->order);
        if (order == NULL) return STATUS_NOMEM;
        search->order = order;
        for (size_t i = search->source_capacity; i < count; i++)
            search->sources[i] = (struct best_source){0};
        search->source_capacity = count;
    }
    search->source_count = count;
    search->floor_count = 0;
    search->last = (struct best){0};
    search->bounds_count = 0;
    search->trail_count = 0;
    buf_clear(&search->paths);
    search->failure = STATUS_OK;

    for (size_t i = 0; i < count; i++) {
        struct best_source *source = &search->sources[i];
        source->layer = &search->query->layers[i];
        source->count = 0;
        enum status status = query_layer_expires(search->query, source->layer, &source->expires);
        if (status != STATUS_OK) return status;
        /* An expired entry may be the best of a node and no answer. */
        if (source->expires) search->floor_limit = 0;
    }
    return STATUS_OK;
}

static bool source_comes_first(const struct best_source *a, const struct best_source *b)
{
    if (a->count == 0 || b->count == 0) return a->count > b->count;
    return best_compare(a->items[0].best, b->items[0].best) < 0;
}

/* Puts the source at `at` in the order where its top belongs, further back. */
static void settle(struct best_search *search, size_t at)
{
    uint32_t *order = search->order;
    uint32_t moved = order[at];
    for (; at + 1 < search->source_count &&
           source_comes_first(&search->sources[order[at + 1]], &search->sources[moved]);
         at++)
        order[at] = order[at + 1];
    order[at] = moved;
}

enum status best_search_start(struct best_search *search, const struct query *query,
                              const struct spans *spans, const struct query_position *after,
                              uint64_t limit)
{
    search->query = query;
    search->has_after = after != NULL;
    if (after != NULL) search->after = *after;
    search->floor_limit = limit <= BEST_FLOOR_MAX ? limit : 0;
    enum status status = prepare_sources(search);
    if (status != STATUS_OK) return status;

    for (size_t i = 0; i < spans->count; i++) {
        for (size_t first = 0; first < search->source_count; first += SPAN_LAYERS_AT_ONCE) {
            status = seed_sources(search, first,
                                  size_min(search->source_count - first, SPAN_LAYERS_AT_ONCE),
                                  &spans->items[i]);
            if (status != STATUS_OK) return status;
        }
    }
    for (size_t i = search->source_count; i-- > 0;) {
        search->order[i] = (uint32_t)i;
        settle(search, i);
    }
    return STATUS_OK;
}

/* Expands the node on top of the source at `at` in the order. */
static enum status expand_top(struct best_search *search, size_t at)
{
    struct best_source *source = &search->sources[search->order[at]];
    struct opened opened = {source->items[0], true};
    enum status status = source->layer->packed != NULL ? expand_packed(search, source, &opened)
                                                       : expand_memory(search, source, &opened);
    if (opened.on_top) heap_pop(search, source);
    settle(search, at);
    return status == STATUS_OK ? search->failure : status;
}

/* Among sources whose tops are entries of equal bests: where in the order is the one with
 * the least key? Expands what is not an entry yet. `*chosen` is set only when none was. */
static enum status break_tie(struct best_search *search, size_t *chosen, bool *expanded)
{
    struct best best = search->sources[search->order[0]].items[0].best;
    size_t tied = 1;
    *expanded = false;
    for (; tied < search->source_count; tied++) {
        struct best_source *source = &search->sources[search->order[tied]];
        if (source->count == 0 || best_compare(source->items[0].best, best) != 0) break;
        if (!source->items[0].is_entry) {
            *expanded = true;
            return expand_top(search, tied);
        }
    }
    *chosen = 0;
    if (tied == 1) return STATUS_OK;

    struct best_source *source = &search->sources[search->order[0]];
    enum status status = best_search_spell(search, source, &source->items[0], &search->key);
    for (size_t i = 1; i < tied && status == STATUS_OK; i++) {
        source = &search->sources[search->order[i]];
        status = best_search_spell(search, source, &source->items[0], &search->other_key);
        if (status != STATUS_OK) break;
        if (slice_compare(buf_slice(&search->other_key), buf_slice(&search->key)) >= 0) continue;
        *chosen = i;
        struct buf lesser = search->other_key;
        search->other_key = search->key;
        search->key = lesser;
    }
    return status;
}

/* Whether an entry is an answer: behind the start of the page, and not expired. */
static enum status accept(struct best_search *search, const struct best_answer *answer,
                          bool *accepted)
{
    *accepted = true;
    bool at_start = search->has_after && best_compare(answer->item.best, search->after.best) == 0;
    if (!at_start && !answer->source->expires) return STATUS_OK;

    struct record record;
    enum status status = best_search_key(search, answer, &search->key);
    if (status == STATUS_OK) status = best_search_record(answer, &record);
    if (status != STATUS_OK) return status;
    if (at_start && slice_compare(buf_slice(&search->key), search->after.key) <= 0)
        *accepted = false;
    if (answer->source->expires && query_is_unsettled(search->query, &record)) *accepted = false;
    return STATUS_OK;
}

enum status best_search_next(struct best_search *search, struct best_answer *answer)
{
    if (search->source_count == 0) return STATUS_END;
    for (;;) {
        struct best_source *source = &search->sources[search->order[0]];
        if (source->count == 0) return STATUS_END;
        size_t chosen = 0;
        bool expanded = true;
        enum status status = source->items[0].is_entry ? break_tie(search, &chosen, &expanded)
                                                       : expand_top(search, 0);
        if (status != STATUS_OK) return status;
        if (expanded) continue;

        source = &search->sources[search->order[chosen]];
        struct best_answer found = {source, source->items[0]};
        heap_pop(search, source);
        settle(search, chosen);
        if (search->failure != STATUS_OK) return search->failure;

        bool accepted;
        status = accept(search, &found, &accepted);
        if (status != STATUS_OK) return status;
        if (accepted) {
            *answer = found;
            return STATUS_OK;
        }
    }
}
