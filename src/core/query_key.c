/* Keys and records of what a best-first search found. */
#include "base/check.h"
#include "base/math.h"
#include "core/query_best.h"

/* The bytes above the item's node or entry, into `key`. */
static enum status spell_path(struct best_search *search, const struct best_source *source,
                              const struct best_item *item, struct buf *key)
{
    const struct memtrie *trie = source->layer->memtrie;
    size_t size = 0;
    uint32_t trail = item->above;
    for (;; trail = search->trails[trail].above) {
        void *chain = search->chain;
        if (!query_grow(search->heap, &chain, &search->chain_capacity, size, sizeof *search->chain))
            return STATUS_NOMEM;
        search->chain = chain;
        search->chain[size++] = trail;
        if (search->trails[trail].node == 0) break;
    }
    buf_clear(key);
    const struct best_trail *start = &search->trails[trail];
    if (start->path_size > 0)
        buf_append(key, search->paths.data + start->path_start, start->path_size);
    for (size_t i = size - 1; i-- > 0;) {
        uint16_t place = i == 0 ? (uint16_t)item->place
                                : search->trails[search->chain[i - 1]].place;
        memtrie_append_edge(trie, search->trails[search->chain[i]].node, place, key);
    }
    return buf_status(key);
}

enum status best_search_key(struct best_search *search, const struct best_answer *answer,
                            struct buf *key)
{
    const struct layer *layer = answer->source->layer;
    if (layer->packed != NULL) return packed_key(layer->packed, answer->item.place, key);
    enum status status = spell_path(search, answer->source, &answer->item, key);
    if (status != STATUS_OK) return status;
    memtrie_append_suffix(layer->memtrie, answer->item.node, key);
    return buf_status(key);
}

enum status best_search_record(const struct best_answer *answer, struct record *record)
{
    const struct layer *layer = answer->source->layer;
    if (layer->packed != NULL) return packed_record(layer->packed, answer->item.place, record);
    memtrie_entry_record(layer->memtrie, answer->item.node, record);
    return STATUS_OK;
}

enum status best_search_spell(struct best_search *search, const struct best_source *source,
                              const struct best_item *item, struct buf *key)
{
    if (!item->is_entry) return spell_path(search, source, item, key);
    return best_search_key(search, &(struct best_answer){source, *item}, key);
}

/* --- Several --- */

/* Which answers come from one source, by ordinal: `order` is sorted by source and place. */
static void sort_by_place(const struct best_answer *answers, size_t count, uint8_t *order)
{
    for (size_t i = 0; i < count; i++) {
        const struct best_answer *answer = &answers[i];
        size_t at = i;
        for (; at > 0; at--) {
            const struct best_answer *before = &answers[order[at - 1]];
            if (before->source < answer->source) break;
            if (before->source == answer->source && before->item.place <= answer->item.place) break;
            order[at] = order[at - 1];
        }
        order[at] = (uint8_t)i;
    }
}

enum status best_search_keys(struct best_search *search, const struct best_answer *answers,
                             size_t count, struct buf *keys, size_t starts[BEST_KEYS_MAX],
                             size_t ends[BEST_KEYS_MAX])
{
    uint8_t order[BEST_KEYS_MAX];
    uint64_t ordinals[BEST_KEYS_MAX];
    size_t found[BEST_KEYS_MAX];
    CHECK(count <= BEST_KEYS_MAX);
    sort_by_place(answers, count, order);

    buf_clear(keys);
    enum status status = STATUS_OK;
    for (size_t i = 0; i < count && status == STATUS_OK;) {
        const struct best_source *source = answers[order[i]].source;
        size_t start = keys->size, end = i;
        if (source->layer->packed == NULL) {
            status = best_search_key(search, &answers[order[end++]], &search->key);
            buf_append_slice(keys, buf_slice(&search->key));
            found[i] = keys->size;
        } else {
            for (; end < count && answers[order[end]].source == source; end++)
                ordinals[end] = answers[order[end]].item.place;
            status = packed_keys(source->layer->packed, ordinals + i, end - i, &search->key, keys,
                                 found + i);
        }
        for (; i < end; i++) {
            starts[order[i]] = start;
            start = ends[order[i]] = found[i];
        }
    }
    return status == STATUS_OK ? buf_status(keys) : status;
}

void best_search_prefetch(const struct best_answer *answers, size_t count)
{
    const struct best_answer *last = &answers[count - 1];
    const struct packed *packed = last->source->layer->packed;
    if (packed == NULL) return;
    for (const struct best_answer *answer = answers; answer < last; answer++)
        if (answer->source == last->source &&
            answer->item.place / PACKED_BLOCK == last->item.place / PACKED_BLOCK)
            return;
    packed_prefetch_key(packed, last->item.place);
}
