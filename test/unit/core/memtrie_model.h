/* The dumb model of a memory trie, a sorted array, and everything asked of both. */
#pragma once

#include <stdlib.h>
#include <string.h>

#include "base/prng.h"
#include "core/memtrie_node.h"
#include "test.h"

/* Never changed once made, so that old states of the model are arrays of pointers. */
struct model_entry {
    struct model_entry *pool_next;
    struct slice key;
    struct record record;
    bool hidden;
    struct sum hash;
    uint8_t bytes[];
};

struct model {
    struct model_entry **items;
    size_t count, capacity;
};

static struct model_entry *model_pool;
static const uint64_t model_seed = 77;

static inline bool model_is_live(const struct model_entry *entry)
{
    return record_is_present(&entry->record) && !entry->hidden;
}

static inline struct best model_best(const struct model_entry *entry)
{
    return model_is_live(entry) ? record_best(&entry->record) : (struct best){0};
}

static inline struct model_entry *model_entry_make(struct slice key, const struct record *record,
                                                   bool hidden)
{
    size_t size = key.size + record->payload.size + record->tags.size + record->slots.size;
    struct model_entry *entry = malloc(sizeof *entry + size);
    uint8_t *at = entry->bytes;
    struct slice parts[] = {key, record->payload, record->tags, record->slots};
    for (int i = 0; i < 4; i++) {
        if (parts[i].size != 0) memcpy(at, parts[i].data, parts[i].size);
        parts[i].data = at;
        at += parts[i].size;
    }
    entry->key = parts[0];
    entry->record = *record;
    entry->record.payload = parts[1];
    entry->record.tags = parts[2];
    entry->record.slots = parts[3];
    entry->hidden = hidden;
    entry->hash = record_hash(entry->key, &entry->record, model_seed);
    entry->pool_next = model_pool;
    model_pool = entry;
    return entry;
}

static inline void model_pool_free(void)
{
    while (model_pool != NULL) {
        struct model_entry *next = model_pool->pool_next;
        free(model_pool);
        model_pool = next;
    }
}

/* Index of the first entry with key >= `key`. */
static inline size_t model_find(const struct model *model, struct slice key)
{
    size_t low = 0, high = model->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (slice_compare(model->items[middle]->key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static inline bool model_has(const struct model *model, size_t index, struct slice key)
{
    return index < model->count && slice_equal(model->items[index]->key, key);
}

static inline void model_put(struct model *model, struct model_entry *entry)
{
    size_t index = model_find(model, entry->key);
    if (model_has(model, index, entry->key)) {
        model->items[index] = entry;
        return;
    }
    if (model->count == model->capacity) {
        model->capacity = model->capacity * 2 + 16;
        model->items = realloc(model->items, model->capacity * sizeof *model->items);
    }
    memmove(model->items + index + 1, model->items + index,
            (model->count - index) * sizeof *model->items);
    model->items[index] = entry;
    model->count++;
}

static inline void model_remove(struct model *model, size_t index)
{
    model->count--;
    memmove(model->items + index, model->items + index + 1,
            (model->count - index) * sizeof *model->items);
}

static inline struct model model_copy(const struct model *model)
{
    struct model copy = {.count = model->count, .capacity = model->count};
    copy.items = malloc((model->count + 1) * sizeof *copy.items);
    if (model->count != 0) memcpy(copy.items, model->items, model->count * sizeof *copy.items);
    return copy;
}

/* --- Random keys and records --- */

enum key_shape {
    KEYS_BINARY_ALPHABET, /* "a" and "b", short: everything is a prefix of something. */
    KEYS_ALL_BYTES,
    KEYS_SHARED_PREFIX,
    KEYS_WIDE, /* Two bytes: nodes of all fan-outs. */
    KEYS_LONG,
    KEYS_MIXED,
    KEYS_SHAPE_COUNT,
};

static inline struct slice random_key(struct prng *prng, enum key_shape shape,
                                      uint8_t key[MEMTRIE_KEY_BYTES_MAX])
{
    if (shape == KEYS_MIXED) shape = (enum key_shape)prng_below(prng, KEYS_MIXED);
    size_t size = 0;
    if (shape == KEYS_SHARED_PREFIX) {
        size = 3 * prng_below(prng, 4) + 200 * prng_below(prng, 3);
        memset(key, 'p', size);
    }
    if (shape == KEYS_LONG) {
        size = prng_one_in(prng, 4) ? MEMTRIE_KEY_BYTES_MAX - prng_below(prng, 3)
                                    : prng_below(prng, MEMTRIE_KEY_BYTES_MAX);
        memset(key, 'l', size);
        for (int i = 0; i < 2; i++)
            key[prng_below(prng, 1 + (uint32_t)size)] ^= (uint8_t)prng_below(prng, 2);
        size_t from = size == 0 ? 1 : 0;
        key[0] = 'l';
        return slice_of(key, size + from);
    }
    size_t more = 1 + prng_below(prng, shape == KEYS_BINARY_ALPHABET ? 10 : 4);
    if (shape == KEYS_WIDE) more = 2;
    for (size_t i = 0; i < more; i++) {
        uint8_t byte = (uint8_t)prng_u32(prng);
        if (shape == KEYS_BINARY_ALPHABET || shape == KEYS_SHARED_PREFIX)
            byte = (uint8_t)('a' + prng_below(prng, 2));
        if (shape == KEYS_WIDE && i == 0) byte = (uint8_t)(byte % 20);
        if (shape == KEYS_ALL_BYTES && prng_one_in(prng, 3)) byte = byte % 2 ? 0xff : 0x00;
        key[size++] = byte;
    }
    return slice_of(key, size);
}

struct random_record {
    struct record record;
    uint8_t payload[PAYLOAD_BYTES_MAX];
    uint8_t tags[16];
    uint8_t slots[2 * RECORD_SLOT_BYTES];
};

static inline double random_score(struct prng *prng)
{
    switch (prng_below(prng, 6)) {
    case 0:
        return 1;
    case 1:
        return prng_below(prng, 4);
    case 2:
        return prng_u32(prng);
    case 3:
        return prng_u32(prng) * 65536.0;
    case 4:
        return -0.5 * prng_below(prng, 5) - 1;
    default:
        return 0.25 + prng_below(prng, 3);
    }
}

static inline void random_slots(struct prng *prng, struct random_record *out)
{
    for (uint64_t i = 0; i < 2; i++) {
        uint64_t owner = i + 1, sequence = 1 + prng_below(prng, 9);
        double sum = prng_below(prng, 5);
        memcpy(out->slots + i * RECORD_SLOT_BYTES, &owner, 8);
        memcpy(out->slots + i * RECORD_SLOT_BYTES + 8, &sequence, 8);
        memcpy(out->slots + i * RECORD_SLOT_BYTES + 16, &sum, 8);
    }
    out->record.slots = slice_of(out->slots, sizeof out->slots);
}

/* Few versions and scores, so that bests are often equal. */
static inline const struct record *random_record(struct prng *prng, struct random_record *out)
{
    struct version version = {100 + prng_below(prng, 50), (uint16_t)(1 + prng_below(prng, 3))};
    struct record *record = &out->record;
    if (prng_one_in(prng, 8)) {
        *record = record_of_tombstone(version);
        return record;
    }
    *record = record_of_set(version, random_score(prng));
    if (!prng_one_in(prng, 3)) return record;

    record->created = (struct version){50 + prng_below(prng, 3), 1};
    if (prng_one_in(prng, 2)) {
        record->has_payload = true;
        uint32_t size = prng_below(prng, prng_one_in(prng, 30) ? PAYLOAD_BYTES_MAX + 1 : 20);
        memset(out->payload, 'P', size);
        record->payload = slice_of(out->payload, size);
    }
    if (prng_one_in(prng, 3)) {
        memcpy(out->tags, "\1a\2bc", 5);
        record->tags = slice_of(out->tags, 5);
    }
    if (prng_one_in(prng, 3)) random_slots(prng, out);
    if (prng_one_in(prng, 3)) record->expires_at = 1 + prng_below(prng, 1000);
    if (prng_one_in(prng, 5)) {
        *record = record_of_set(version, 0); /* Reads as deleted. */
        record->since = record->set = (struct version){40, 1};
        record->created = (struct version){0};
    }
    return record;
}

/* --- Everything asked of a root --- */

static inline void check_record(const struct record *a, const struct record *b)
{
    EXPECT(a->tombstone == b->tombstone && a->has_payload == b->has_payload);
    EXPECT(version_compare(a->version, b->version) == 0);
    EXPECT(version_compare(a->since, b->since) == 0);
    EXPECT(version_compare(a->created, b->created) == 0);
    EXPECT(version_compare(a->set, b->set) == 0);
    EXPECT(memcmp(&a->score, &b->score, sizeof a->score) == 0 && a->expires_at == b->expires_at);
    EXPECT(slice_equal(a->payload, b->payload));
    EXPECT(slice_equal(a->tags, b->tags) && slice_equal(a->slots, b->slots));
}

static inline void check_current(const struct memtrie_iterator *iterator,
                                 const struct model_entry *entry)
{
    EXPECT(slice_equal(iterator->key, entry->key));
    EXPECT(iterator->hidden == entry->hidden);
    check_record(&iterator->record, &entry->record);
}

static inline void check_walks(const struct memtrie *trie, memtrie_root root,
                               const struct model *model, struct heap *heap)
{
    struct memtrie_iterator iterator;
    memtrie_iterator_init(&iterator, trie, root, heap);
    enum status status = memtrie_iterator_seek(&iterator, (struct slice){0});
    for (size_t i = 0; i < model->count; i++) {
        EXPECT(status == STATUS_OK);
        check_current(&iterator, model->items[i]);
        status = memtrie_iterator_next(&iterator);
    }
    EXPECT(status == STATUS_END && memtrie_iterator_next(&iterator) == STATUS_END);

    status = memtrie_iterator_seek_before(&iterator, (struct slice){0});
    for (size_t i = model->count; i-- > 0;) {
        EXPECT(status == STATUS_OK);
        check_current(&iterator, model->items[i]);
        status = memtrie_iterator_previous(&iterator);
    }
    EXPECT(status == STATUS_END);
    memtrie_iterator_deinit(&iterator);
}

static inline void check_totals(const struct memtrie *trie, memtrie_root root,
                                const struct model *model)
{
    struct memtrie_totals totals = memtrie_totals(trie, root);
    struct memtrie_totals expected = {.current_count = model->count};
    for (size_t i = 0; i < model->count; i++) {
        const struct model_entry *entry = model->items[i];
        expected.live_count += model_is_live(entry);
        expected.tombstone_count += entry->record.tombstone;
        expected.best = best_first(expected.best, model_best(entry));
        expected.sum = sum_add(expected.sum, entry->hash);
    }
    EXPECT(totals.current_count == expected.current_count);
    EXPECT(totals.live_count == expected.live_count);
    EXPECT(totals.tombstone_count == expected.tombstone_count);
    EXPECT(best_compare(totals.best, expected.best) == 0);
    EXPECT(sum_equal(totals.sum, expected.sum));
    EXPECT(sum_equal(memtrie_sum(trie, root, (struct slice){0}, (struct slice){0}), expected.sum));
}

/* All that is asked with one key. */
static inline void check_key(const struct memtrie *trie, memtrie_root root,
                             const struct model *model, struct heap *heap, struct slice key)
{
    size_t index = model_find(model, key);
    struct record record;
    bool hidden;
    enum status status = memtrie_get(trie, root, key, &record, &hidden);
    if (model_has(model, index, key)) {
        EXPECT(status == STATUS_OK && hidden == model->items[index]->hidden);
        check_record(&record, &model->items[index]->record);
    } else {
        EXPECT(status == STATUS_NOT_FOUND);
    }

    uint64_t rank = 0, under = 0;
    for (size_t i = 0; i < model->count; i++) {
        if (!model_is_live(model->items[i])) continue;
        rank += i < index;
        under += slice_starts_with(model->items[i]->key, key);
    }
    EXPECT(memtrie_rank(trie, root, key) == rank);
    EXPECT(memtrie_count_prefix(trie, root, key) == under);

    struct memtrie_iterator iterator;
    memtrie_iterator_init(&iterator, trie, root, heap);
    status = memtrie_iterator_seek(&iterator, key);
    EXPECT(status == (index < model->count ? STATUS_OK : STATUS_END));
    if (status == STATUS_OK) {
        check_current(&iterator, model->items[index]);
        status = memtrie_iterator_previous(&iterator);
        EXPECT(status == (index > 0 ? STATUS_OK : STATUS_END));
        if (status == STATUS_OK) check_current(&iterator, model->items[index - 1]);
    }
    if (key.size > 0) {
        status = memtrie_iterator_seek_before(&iterator, key);
        EXPECT(status == (index > 0 ? STATUS_OK : STATUS_END));
        if (status == STATUS_OK) {
            check_current(&iterator, model->items[index - 1]);
            status = memtrie_iterator_next(&iterator);
            EXPECT(status == (index < model->count ? STATUS_OK : STATUS_END));
            if (status == STATUS_OK) check_current(&iterator, model->items[index]);
        }
    }
    memtrie_iterator_deinit(&iterator);
}

static inline void check_select(const struct memtrie *trie, memtrie_root root,
                                const struct model *model, struct heap *heap, uint64_t rank)
{
    struct buf key;
    buf_init(&key, heap);
    enum status status = memtrie_select(trie, root, rank, &key);
    for (size_t i = 0; i < model->count; i++) {
        if (!model_is_live(model->items[i]) || rank-- > 0) continue;
        EXPECT(status == STATUS_OK && slice_equal(buf_slice(&key), model->items[i]->key));
        buf_deinit(&key);
        return;
    }
    EXPECT(status == STATUS_NOT_FOUND);
    buf_deinit(&key);
}

struct check_cover {
    const struct memtrie *trie;
    const struct model *model;
    struct heap *heap;
    size_t next, end; /* Entries of the model not yet seen. */
    size_t part_count;
};

static inline void cover_skip_dead(struct check_cover *check)
{
    while (check->next < check->end && !model_is_live(check->model->items[check->next]))
        check->next++;
}

/* All parts of a node at once, in key order, each with the bound that its best has. Asked for
 * some at a time, with and without an end, it gives the same. */
static inline size_t check_expansion(const struct memtrie *trie, memtrie_node node,
                                     struct memtrie_part parts[MEMTRIE_PART_COUNT_MAX])
{
    struct memtrie_expansion all = memtrie_expand(trie, node);
    size_t count = memtrie_expand_next(&all, (struct best){0}, MEMTRIE_PART_COUNT_MAX, parts);
    const struct memtrie_inner *inner = arena_at(&trie->arena, node);
    for (size_t i = 0; i < memtrie_child_count(inner); i++) {
        const void *child = arena_at(&trie->arena, memtrie_children(inner)[i]);
        EXPECT(memtrie_child_bounds(inner)[i] == memtrie_bound_of(memtrie_best(child).score_order));
    }

    static struct memtrie_part some[MEMTRIE_PART_COUNT_MAX];
    for (size_t wanted = 1; wanted < 12; wanted += 5) {
        struct memtrie_expansion expansion = memtrie_expand(trie, node);
        bool given[MEMTRIE_PART_COUNT_MAX] = {false};
        size_t total = 0, found;
        struct best last = {.score_order = UINT64_MAX}; /* Of those that were given. */
        while ((found = memtrie_expand_next(&expansion, (struct best){0}, wanted, some)) > 0) {
            struct best least = last;
            for (size_t i = 0; i < found; i++) {
                EXPECT(i == 0 || some[i - 1].place < some[i].place);
                EXPECT(!given[some[i].place] && some[i].best.score_order < last.score_order);
                given[some[i].place] = true;
                if (some[i].place != 0 && best_compare(some[i].best, least) > 0)
                    least = some[i].best;
            }
            total += found;
            last = least;
            EXPECT(found >= wanted || total == count);
        }
        EXPECT(total == count);
    }
    for (size_t at = 0; at < count; at += 1 + count / 3) {
        struct memtrie_expansion expansion = memtrie_expand(trie, node);
        size_t found = memtrie_expand_next(&expansion, parts[at].best, 1, some), expected = 0;
        for (size_t i = 0; i < count; i++) {
            if (best_compare(parts[i].best, parts[at].best) > 0) continue;
            EXPECT(expected < found && some[expected].place == parts[i].place);
            expected++;
        }
        EXPECT(found == expected);
        EXPECT(memtrie_expand_next(&expansion, parts[at].best, 1, some) == 0);
    }
    return count;
}

/* Expands a part wholly, in order, and holds each entry against the model; each part's
 * best must be that of the entries below it. */
static inline void check_part(struct check_cover *check, struct slice path,
                              const struct memtrie_part *part)
{
    enum { OPEN_MAX = 1 << 15 };
    struct item {
        struct memtrie_part part;
        struct buf path;
        size_t first;
    };
    /* Not from the heap: under the sanitizer each would be fresh memory. */
    static struct item open[OPEN_MAX];
    static struct memtrie_part parts[MEMTRIE_PART_COUNT_MAX];
    size_t open_count = 1;
    open[0] = (struct item){.part = *part};
    buf_init(&open[0].path, check->heap);
    buf_append_slice(&open[0].path, path);
    while (open_count > 0) {
        struct item item = open[--open_count];
        cover_skip_dead(check);
        EXPECT(check->next < check->end);
        if (item.part.is_entry) {
            struct record record;
            const struct model_entry *entry = check->model->items[check->next++];
            memtrie_append_suffix(check->trie, item.part.node, &item.path);
            memtrie_entry_record(check->trie, item.part.node, &record);
            EXPECT(slice_equal(buf_slice(&item.path), entry->key));
            EXPECT(best_compare(item.part.best, model_best(entry)) == 0);
            check_record(&record, &entry->record);
            buf_deinit(&item.path);
            continue;
        }
        size_t count = check_expansion(check->trie, item.part.node, parts);
        EXPECT(count > 0 && open_count + count <= OPEN_MAX);
        struct best best = {0};
        for (size_t i = count; i-- > 0;) {
            best = best_first(best, parts[i].best);
            struct item *below = &open[open_count++];
            *below = (struct item){.part = parts[i]};
            buf_init(&below->path, check->heap);
            buf_append_slice(&below->path, buf_slice(&item.path));
            memtrie_append_edge(check->trie, item.part.node, parts[i].place, &below->path);
        }
        EXPECT(best_compare(best, item.part.best) == 0);
        buf_deinit(&item.path);
    }
}

static inline enum status check_visit(void *context, struct slice path,
                                      const struct memtrie_part *part)
{
    struct check_cover *check = context;
    check->part_count++;
    check_part(check, path, part);
    return STATUS_OK;
}

static inline size_t check_range(const struct memtrie *trie, memtrie_root root,
                                 const struct model *model, struct heap *heap, struct slice low,
                                 struct slice high)
{
    struct check_cover check = {.trie = trie, .model = model, .heap = heap};
    check.next = model_find(model, low);
    check.end = high.size == 0 ? model->count : model_find(model, high);
    struct sum sum = {0};
    for (size_t i = check.next; i < check.end; i++) sum = sum_add(sum, model->items[i]->hash);
    EXPECT(sum_equal(memtrie_sum(trie, root, low, high), sum));
    EXPECT(memtrie_cover(trie, root, low, high, heap, check_visit, &check) == STATUS_OK);
    cover_skip_dead(&check);
    EXPECT(check.next >= check.end);
    return check.part_count;
}

static inline void check_all(const struct memtrie *trie, memtrie_root root,
                             const struct model *model, struct heap *heap)
{
    check_totals(trie, root, model);
    check_walks(trie, root, model, heap);
    check_range(trie, root, model, heap, (struct slice){0}, (struct slice){0});
}
