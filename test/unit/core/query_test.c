#include "core/query.h"

#include <string.h>

#include "base/prng.h"
#include "packed_file.h"
#include "test.h"

enum {
    HASH_SEED = 7,
    LAYER_MAX = 6,
    WORD_MAX = 20000,
    NOW_MS = 1000,
    SETTLED_MS = 500,
};

struct word {
    struct buf key;
    struct record record;
    bool hidden;
    bool live;
    size_t layer;
};

/* Words, each current in one layer of a random stack, and stale copies of many of them in
 * the packed tries, marked dead there. */
struct stack {
    struct heap heap;
    struct word *words; /* In key order. */
    size_t word_count;
    size_t layer_count;
    struct layer layers[LAYER_MAX];
    struct memtrie tries[LAYER_MAX];
    struct packed_file files[LAYER_MAX];
    struct overlay_space space;
    struct query query;
    struct key_range ranges[8];
    struct buf range_keys[16];
};

static void random_key(struct prng *prng, struct buf *key)
{
    static const uint8_t alphabet[] = {'a', 'b', 'c', 0x00, 0xff};
    buf_clear(key);
    size_t size = 1 + prng_below(prng, prng_one_in(prng, 4) ? 20 : 8);
    for (size_t i = 0; i < size; i++) {
        bool common = !prng_one_in(prng, 4);
        buf_append_u8(key, alphabet[prng_below(prng, common ? 2 : sizeof alphabet)]);
    }
}

static struct record random_record(struct prng *prng, bool all_equal)
{
    struct version version = {1000 + prng_below(prng, 1000), (uint16_t)prng_below(prng, 3)};
    if (prng_one_in(prng, 8)) return record_of_tombstone(version);

    struct record record = record_of_set(version, all_equal ? 1 : (double)prng_below(prng, 6) - 2);
    record.created = (struct version){10 + prng_below(prng, all_equal ? 1 : 20), 1};
    if (prng_one_in(prng, 4)) record.expires_at = 1 + prng_below(prng, 2000);
    return record;
}

static int compare_words(const void *a, const void *b)
{
    const struct word *x = a, *y = b;
    return slice_compare(buf_slice(&x->key), buf_slice(&y->key));
}

static void make_words(struct stack *stack, struct prng *prng, size_t count)
{
    bool all_equal = prng_one_in(prng, 4);
    bool expires = prng_one_in(prng, 2); /* Without unsettled words searches prune. */
    stack->words = calloc(count + 1, sizeof *stack->words);
    for (size_t i = 0; i < count; i++) {
        struct word *word = &stack->words[i];
        buf_init(&word->key, &stack->heap);
        random_key(prng, &word->key);
    }
    qsort(stack->words, count, sizeof *stack->words, compare_words);
    for (size_t i = 0; i < count; i++) {
        struct word *word = &stack->words[i];
        if (stack->word_count > 0 &&
            compare_words(&stack->words[stack->word_count - 1], word) == 0) {
            buf_deinit(&word->key);
            continue;
        }
        word->record = random_record(prng, all_equal);
        if (!expires) word->record.expires_at = 0;
        bool present = record_is_present(&word->record);
        bool expired = present && record_is_expired(&word->record, NOW_MS);
        word->hidden = expired && word->record.expires_at <= SETTLED_MS;
        word->live = present && !expired;
        word->layer = prng_below(prng, (uint32_t)stack->layer_count);
        stack->words[stack->word_count++] = *word;
    }
}

static void make_memory_layer(struct stack *stack, size_t index, struct prng *prng)
{
    struct layer *layer = &stack->layers[index];
    struct memtrie *trie = &stack->tries[index];
    EXPECT(memtrie_init(trie, &stack->heap, HASH_SEED) == STATUS_OK);
    *layer = (struct layer){.memtrie = trie, .no_expiry_index = prng_one_in(prng, 4)};
    for (size_t i = 0; i < stack->word_count; i++) {
        const struct word *word = &stack->words[i];
        struct slice key = buf_slice(&word->key);
        struct record record = random_record(prng, false);
        if (word->layer != index && !prng_one_in(prng, 5)) continue;
        if (word->layer == index) record = word->record;
        EXPECT(memtrie_put(trie, &layer->root, key, &record) == STATUS_OK);
        if (record.expires_at != 0 && !layer->no_expiry_index)
            EXPECT(query_expiry_put(trie, &layer->expiry, record.expires_at, key) == STATUS_OK);
        if (word->layer != index)
            EXPECT(memtrie_remove(trie, &layer->root, key) == STATUS_OK);
        else if (word->hidden)
            EXPECT(memtrie_hide(trie, &layer->root, key) == STATUS_OK);
    }
}

static void make_packed_layer(struct stack *stack, size_t index, struct prng *prng)
{
    struct packed_file *file = &stack->files[index];
    struct layer *layer = &stack->layers[index];
    bool *added = calloc(stack->word_count, sizeof *added);
    bool any = false;

    packed_file_begin(file, &stack->heap, HASH_SEED);
    for (size_t i = 0; i < stack->word_count; i++) {
        const struct word *word = &stack->words[i];
        added[i] = word->layer == index || prng_one_in(prng, 3) ||
                   (!any && i + 1 == stack->word_count);
        if (!added[i]) continue;
        struct record stale = random_record(prng, false);
        packed_file_add(file, buf_slice(&word->key), word->layer == index ? &word->record : &stale);
        any = true;
    }
    packed_file_finish(file);
    *layer = (struct layer){.packed = file->packed, .overlays = &stack->space};

    uint64_t ordinal = 0;
    for (size_t i = 0; i < stack->word_count; i++) {
        if (!added[i]) continue;
        struct sum hash;
        EXPECT(packed_hash(file->packed, ordinal, &hash) == STATUS_OK);
        if (stack->words[i].layer != index)
            EXPECT(overlay_kill(&stack->space, file->packed, &layer->overlay, ordinal, hash) ==
                   STATUS_OK);
        else if (stack->words[i].hidden)
            EXPECT(overlay_hide(&stack->space, file->packed, &layer->overlay, ordinal) ==
                   STATUS_OK);
        ordinal++;
    }
    free(added);
}

/* The first layers are memory tries. */
static void make_layers(struct stack *stack, struct prng *prng, size_t memory_count)
{
    for (size_t i = 0; i < stack->layer_count; i++) {
        if (i < memory_count)
            make_memory_layer(stack, i, prng);
        else
            make_packed_layer(stack, i, prng);
    }
    stack->query = (struct query){.layers = stack->layers,
                                  .layer_count = stack->layer_count,
                                  .now_ms = NOW_MS,
                                  .settled_ms = SETTLED_MS,
                                  .heap = &stack->heap};
    for (size_t i = 0; i < 16; i++) buf_init(&stack->range_keys[i], &stack->heap);
    EXPECT(query_scratch_create(&stack->heap, &stack->query.scratch) == STATUS_OK);
}

/* No words and no layers yet. */
static void stack_begin(struct stack *stack)
{
    memset(stack, 0, sizeof *stack);
    heap_init(&stack->heap, 0);
    EXPECT(overlay_space_init(&stack->space, &stack->heap) == STATUS_OK);
}

static void stack_init(struct stack *stack, struct prng *prng, size_t word_count)
{
    stack_begin(stack);
    stack->layer_count = 1 + prng_below(prng, LAYER_MAX);
    make_words(stack, prng, word_count);
    make_layers(stack, prng, prng_below(prng, 3));
}

static void stack_deinit(struct stack *stack)
{
    query_scratch_destroy(stack->query.scratch);
    for (size_t i = 0; i < 16; i++) buf_deinit(&stack->range_keys[i]);
    for (size_t i = 0; i < stack->layer_count; i++) {
        if (stack->layers[i].packed == NULL)
            memtrie_deinit(&stack->tries[i]);
        else
            packed_file_deinit(&stack->files[i]);
    }
    overlay_space_deinit(&stack->space);
    for (size_t i = 0; i < stack->word_count; i++) buf_deinit(&stack->words[i].key);
    free(stack->words);
    EXPECT(heap_used_bytes(&stack->heap) == 0);
}

static int compare_bufs(const void *a, const void *b)
{
    return slice_compare(buf_slice(a), buf_slice(b));
}

/* Ascending and disjoint ranges, some of them neighbours, the last one sometimes open. */
static void random_ranges(struct stack *stack, struct prng *prng)
{
    stack->query.ranges = NULL;
    stack->query.range_count = 0;
    if (prng_one_in(prng, 3)) return;

    size_t count = prng_below(prng, 6);
    for (size_t i = 0; i < 2 * count; i++) random_key(prng, &stack->range_keys[i]);
    qsort(stack->range_keys, 2 * count, sizeof *stack->range_keys, compare_bufs);
    size_t made = 0;
    for (size_t i = 0; i < count; i++) {
        struct key_range range = {buf_slice(&stack->range_keys[2 * i]),
                                  buf_slice(&stack->range_keys[2 * i + 1])};
        if (prng_one_in(prng, 3) && i + 1 < count)
            range.high = buf_slice(&stack->range_keys[2 * i + 2]);
        if (i == 0 && prng_one_in(prng, 2)) range.low = (struct slice){0};
        if (i + 1 == count && prng_one_in(prng, 2)) range.high = (struct slice){0};
        if (range.high.size != 0 && slice_compare(range.low, range.high) >= 0) continue;
        stack->ranges[made++] = range;
    }
    stack->query.ranges = stack->ranges;
    stack->query.range_count = made;
}

static bool in_ranges(const struct query *query, struct slice key)
{
    if (query->ranges == NULL) return true;
    for (size_t i = 0; i < query->range_count; i++) {
        const struct key_range *range = &query->ranges[i];
        if (slice_compare(key, range->low) >= 0 &&
            (range->high.size == 0 || slice_compare(key, range->high) < 0))
            return true;
    }
    return false;
}

/* --- What the answers should be --- */

struct answer_list {
    const struct word *words[WORD_MAX];
    size_t count;
};

static void expect_under(const struct stack *stack, struct slice prefix, bool current,
                         struct answer_list *list)
{
    list->count = 0;
    for (size_t i = 0; i < stack->word_count; i++) {
        const struct word *word = &stack->words[i];
        struct slice key = buf_slice(&word->key);
        if ((current || word->live) && slice_starts_with(key, prefix) &&
            in_ranges(&stack->query, key))
            list->words[list->count++] = word;
    }
}

static int compare_popularity(const void *a, const void *b)
{
    const struct word *x = *(const struct word *const *)a, *y = *(const struct word *const *)b;
    int order = best_compare(record_best(&x->record), record_best(&y->record));
    return order != 0 ? order : compare_words(x, y);
}

static bool records_equal(struct stack *stack, const struct record *a, const struct record *b)
{
    struct buf x = {.heap = &stack->heap}, y = {.heap = &stack->heap};
    record_encode(a, &x);
    record_encode(b, &y);
    bool equal = slice_equal(buf_slice(&x), buf_slice(&y));
    buf_deinit(&x);
    buf_deinit(&y);
    return equal;
}

struct checker {
    struct stack *stack;
    const struct answer_list *expected;
    size_t first, seen;
    bool descending;
    size_t stop_after;
};

static enum status check_answer(void *context, struct slice key, const struct record *record)
{
    struct checker *checker = context;
    size_t index = checker->first + checker->seen++;
    EXPECT(index < checker->expected->count);
    if (checker->descending) index = checker->expected->count - 1 - index;
    const struct word *word = checker->expected->words[index];
    EXPECT(slice_equal(key, buf_slice(&word->key)));
    EXPECT(records_equal(checker->stack, record, &word->record));
    return checker->seen == checker->stop_after ? STATUS_END : STATUS_OK;
}

static size_t wanted(size_t count, size_t first, uint64_t limit)
{
    size_t left = count - first;
    return limit < left ? (size_t)limit : left;
}

/* --- The questions --- */

static enum status check_place(void *context, struct slice key, struct best best)
{
    struct checker *checker = context;
    const struct word *word = checker->expected->words[checker->first + checker->seen];
    EXPECT(slice_equal(key, buf_slice(&word->key)));
    EXPECT(best_compare(best, record_best(&word->record)) == 0);
    checker->seen++;
    return STATUS_OK;
}

static enum status end_at_once(void *context, struct slice key, struct best best)
{
    return STATUS_END;
}

/* Places alone: from the start and from a position, with what is said of the rest. */
static void check_places(struct stack *stack, struct slice prefix,
                         const struct answer_list *expected, uint64_t limit, size_t first)
{
    struct query_position after = {0};
    if (first > 0)
        after = (struct query_position){record_best(&expected->words[first - 1]->record),
                                        buf_slice(&expected->words[first - 1]->key)};
    struct checker checker = {stack, expected, .first = first};
    bool more = false;
    EXPECT(query_best_places(&stack->query, prefix, limit, first > 0 ? &after : NULL, check_place,
                             &checker, &more) == STATUS_OK);
    EXPECT(checker.seen == wanted(expected->count, first, limit));
    EXPECT(more == (first + checker.seen < expected->count));
}

static void check_best(struct stack *stack, struct slice prefix, struct prng *prng)
{
    static struct answer_list expected;
    expect_under(stack, prefix, false, &expected);
    qsort(expected.words, expected.count, sizeof *expected.words, compare_popularity);

    static const uint64_t limits[] = {1, 2, 3, 10, 63, 64, 65, 1000};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        struct checker checker = {stack, &expected};
        EXPECT(query_best(&stack->query, prefix, limits[i], NULL, check_answer, &checker) ==
               STATUS_OK);
        EXPECT(checker.seen == wanted(expected.count, 0, limits[i]));
        check_places(stack, prefix, &expected, limits[i], 0);
        if (expected.count > 0)
            check_places(stack, prefix, &expected, limits[i],
                         prng_below(prng, (uint32_t)expected.count));
    }
    bool more = expected.count > 0;
    EXPECT(query_best_places(&stack->query, prefix, 1, NULL, end_at_once, NULL, &more) ==
           STATUS_OK);
    EXPECT(more == (expected.count > 0)); /* Left alone. */

    /* Page by page gives the whole, from a position and by a walk. */
    uint64_t page = 1 + prng_below(prng, 30) + expected.count / 20;
    for (size_t first = 0; first < expected.count; first += page) {
        const struct word *last = first == 0 ? NULL : expected.words[first - 1];
        struct query_position after = {0};
        if (last != NULL)
            after = (struct query_position){record_best(&last->record), buf_slice(&last->key)};
        struct checker checker = {stack, &expected, .first = first};
        EXPECT(query_best(&stack->query, prefix, page, last == NULL ? NULL : &after, check_answer,
                          &checker) == STATUS_OK);
        EXPECT(checker.seen == wanted(expected.count, first, page));
    }

    size_t start = expected.count == 0 ? 0 : prng_below(prng, (uint32_t)expected.count);
    struct query_position after = {0};
    if (start > 0)
        after = (struct query_position){record_best(&expected.words[start - 1]->record),
                                        buf_slice(&expected.words[start - 1]->key)};
    struct query_walk *walk;
    EXPECT(query_walk_open(&stack->query, prefix, start > 0 ? &after : NULL, &walk) == STATUS_OK);
    struct checker checker = {stack, &expected, .first = start};
    struct slice key;
    struct record record;
    while (query_walk_next(walk, &key, &record) == STATUS_OK)
        EXPECT(check_answer(&checker, key, &record) == STATUS_OK);
    EXPECT(checker.seen == expected.count - start);
    query_walk_close(walk);
}

static void check_scan(struct stack *stack, struct slice prefix, struct prng *prng)
{
    static struct answer_list expected;
    expect_under(stack, prefix, false, &expected);

    for (int descending = 0; descending < 2; descending++) {
        struct checker all = {stack, &expected, .descending = descending};
        EXPECT(query_scan(&stack->query, prefix, &(struct query_from){.descending = descending},
                          UINT64_MAX, check_answer, &all) == STATUS_OK);
        EXPECT(all.seen == expected.count);

        struct buf from = {.heap = &stack->heap};
        if (expected.count > 0 && prng_one_in(prng, 2))
            buf_append_slice(
                &from, buf_slice(&expected.words[prng_below(prng, (uint32_t)expected.count)]->key));
        else
            random_key(prng, &from);
        bool inclusive = prng_one_in(prng, 2);
        size_t first = 0;
        for (; first < expected.count; first++) {
            size_t index = descending ? expected.count - 1 - first : first;
            int order = slice_compare(buf_slice(&expected.words[index]->key), buf_slice(&from));
            if (descending) order = -order;
            if (inclusive ? order >= 0 : order > 0) break;
        }
        uint64_t limit = prng_below(prng, 20);
        struct checker page = {stack, &expected, .first = first, .descending = descending};
        EXPECT(query_scan(&stack->query, prefix,
                          &(struct query_from){buf_slice(&from), inclusive, descending}, limit,
                          check_answer, &page) == STATUS_OK);
        EXPECT(page.seen == wanted(expected.count, first, limit));
        buf_deinit(&from);
    }
}

/* A cursor moved at random stands where an index into the list would. */
static void check_iterator(struct stack *stack, struct slice prefix, struct prng *prng)
{
    static struct answer_list expected;
    bool current = prng_one_in(prng, 2);
    expect_under(stack, prefix, current, &expected);

    struct query_iterator *iterator;
    EXPECT(query_iterator_open(&stack->query, prefix, current ? QUERY_CURRENT : QUERY_LIVE,
                               &iterator) == STATUS_OK);
    struct buf key = {.heap = &stack->heap};
    long at = -1, count = (long)expected.count;
    for (int step = 0; step < 60; step++) {
        enum status status;
        switch (prng_below(prng, 8)) {
        case 0:
            random_key(prng, &key);
            for (at = 0; at < count; at++)
                if (slice_compare(buf_slice(&expected.words[at]->key), buf_slice(&key)) >= 0) break;
            status = query_iterator_seek(iterator, buf_slice(&key));
            break;
        case 1:
            random_key(prng, &key);
            for (at = count - 1; at >= 0; at--)
                if (slice_compare(buf_slice(&expected.words[at]->key), buf_slice(&key)) < 0) break;
            status = query_iterator_seek_before(iterator, buf_slice(&key));
            break;
        case 2:
        case 3:
        case 4:
            if (at < count) at++;
            status = query_iterator_next(iterator);
            break;
        default:
            if (at >= 0) at--;
            status = query_iterator_previous(iterator);
            break;
        }
        if (at < 0 || at >= count) {
            EXPECT(status == STATUS_END);
            continue;
        }
        struct record record;
        EXPECT(status == STATUS_OK);
        EXPECT(slice_equal(query_iterator_key(iterator), buf_slice(&expected.words[at]->key)));
        EXPECT(query_iterator_layer(iterator) == expected.words[at]->layer);
        EXPECT(query_iterator_record(iterator, &record) == STATUS_OK);
        EXPECT(records_equal(stack, &record, &expected.words[at]->record));
    }
    buf_deinit(&key);
    query_iterator_close(iterator);
}

static void check_numbers(struct stack *stack, struct slice prefix, struct prng *prng)
{
    static struct answer_list live, current;
    expect_under(stack, prefix, false, &live);
    expect_under(stack, prefix, true, &current);

    uint64_t count;
    EXPECT(query_count(&stack->query, prefix, &count) == STATUS_OK);
    EXPECT(count == live.count);

    struct sum sum = {0}, found;
    for (size_t i = 0; i < current.count; i++)
        sum = sum_add(sum, record_hash(buf_slice(&current.words[i]->key), &current.words[i]->record,
                                       HASH_SEED));
    EXPECT(query_sum(&stack->query, prefix, &found) == STATUS_OK);
    EXPECT(sum_equal(sum, found));

    struct buf key = {.heap = &stack->heap};
    uint64_t rank = prng_below(prng, (uint32_t)live.count + 2);
    enum status status = query_select(&stack->query, prefix, rank, &key);
    EXPECT(status == (rank < live.count ? STATUS_OK : STATUS_NOT_FOUND));
    if (status == STATUS_OK)
        EXPECT(slice_equal(buf_slice(&key), buf_slice(&live.words[rank]->key)));
    buf_deinit(&key);
}

static void check_range(struct stack *stack, struct prng *prng)
{
    struct buf low = {.heap = &stack->heap}, high = {.heap = &stack->heap};
    random_key(prng, &low);
    if (!prng_one_in(prng, 4)) random_key(prng, &high);
    struct key_range range = {buf_slice(&low), buf_slice(&high)};

    uint64_t live = 0, count;
    struct sum sum = {0}, found;
    for (size_t i = 0; i < stack->word_count; i++) {
        struct slice key = buf_slice(&stack->words[i].key);
        if (slice_compare(key, range.low) < 0 || !in_ranges(&stack->query, key)) continue;
        if (range.high.size != 0 && slice_compare(key, range.high) >= 0) continue;
        live += stack->words[i].live;
        sum = sum_add(sum, record_hash(key, &stack->words[i].record, HASH_SEED));
    }
    EXPECT(query_count_range(&stack->query, range, &count) == STATUS_OK);
    EXPECT(count == live);
    EXPECT(query_sum_range(&stack->query, range, &found) == STATUS_OK);
    EXPECT(sum_equal(sum, found));
    buf_deinit(&low);
    buf_deinit(&high);
}

static void check_get(struct stack *stack, struct prng *prng)
{
    struct buf key = {.heap = &stack->heap};
    random_key(prng, &key);
    if (stack->word_count > 0 && prng_one_in(prng, 2)) {
        buf_clear(&key);
        const struct word *word = &stack->words[prng_below(prng, (uint32_t)stack->word_count)];
        buf_append_slice(&key, buf_slice(&word->key));
    }
    const struct word *expected = NULL;
    for (size_t i = 0; i < stack->word_count; i++)
        if (slice_equal(buf_slice(&stack->words[i].key), buf_slice(&key)) &&
            in_ranges(&stack->query, buf_slice(&key)))
            expected = &stack->words[i];
    struct query_hit hit;
    enum status status = query_get(&stack->query, buf_slice(&key), &hit);
    EXPECT(status == (expected == NULL ? STATUS_NOT_FOUND : STATUS_OK));
    if (expected != NULL) {
        EXPECT(hit.layer == expected->layer);
        EXPECT(hit.live == expected->live);
        EXPECT(hit.hidden == expected->hidden);
        EXPECT(records_equal(stack, &hit.record, &expected->record));
    }
    buf_deinit(&key);
}

static void ask_everything(struct stack *stack, struct prng *prng)
{
    struct buf prefix = {.heap = &stack->heap};
    random_key(prng, &prefix);
    if (prng_one_in(prng, 3)) buf_clear(&prefix);
    if (prefix.size > 2 && prng_one_in(prng, 2)) prefix.size = 1;
    random_ranges(stack, prng);
    check_best(stack, buf_slice(&prefix), prng);
    check_scan(stack, buf_slice(&prefix), prng);
    check_iterator(stack, buf_slice(&prefix), prng);
    check_numbers(stack, buf_slice(&prefix), prng);
    check_range(stack, prng);
    check_get(stack, prng);
    buf_deinit(&prefix);
}

/* Model: every question over random stacks of layers, prefixes and ranges. */
TEST_CASE(answers_are_those_of_a_sorted_list)
{
    struct prng prng = {.state = test_seed};
    for (int round = 0; round < 60; round++) {
        static struct stack stack;
        stack_init(&stack, &prng, 1 + prng_below(&prng, prng_one_in(&prng, 3) ? 30 : 700));
        for (int i = 0; i < 12; i++) ask_everything(&stack, &prng);
        stack_deinit(&stack);
    }
}

/* The same where trees are three levels deep and keys long. */
TEST_CASE(deep_trees_answer_alike)
{
    struct prng prng = {.state = test_seed};
    for (int round = 0; round < 2; round++) {
        static struct stack stack;
        stack_init(&stack, &prng, WORD_MAX);
        for (int i = 0; i < 8; i++) ask_everything(&stack, &prng);
        stack_deinit(&stack);
    }
}

/* Words a.., b.. and c.., so that those around b.. have the better scores. */
static void make_neighbours(struct stack *stack, struct prng *prng)
{
    const size_t counts[] = {1 + prng_below(prng, 100), 1 + prng_below(prng, 800),
                             1 + prng_below(prng, 100)};
    stack->words = calloc(counts[0] + counts[1] + counts[2], sizeof *stack->words);
    for (unsigned group = 0; group < 3; group++) {
        for (size_t i = 0; i < counts[group]; i++) {
            struct word *word = &stack->words[stack->word_count];
            struct version version = {1000 + stack->word_count++, 1};
            double score = group == 1 ? prng_below(prng, 50) : 100 + prng_below(prng, 50);
            word->record = record_of_set(version, score);
            word->live = true;
            buf_init(&word->key, &stack->heap);
            buf_append_u8(&word->key, (uint8_t)('a' + group));
            buf_append_u8(&word->key, (uint8_t)('0' + i / 100));
            buf_append_u8(&word->key, (uint8_t)('0' + i / 10 % 10));
            buf_append_u8(&word->key, (uint8_t)('0' + i % 10));
        }
    }
}

/* The best word of a block or node that a prefix cuts may lie beside the prefix: then it is no
 * answer, and promises none. */
TEST_CASE(better_words_beside_a_prefix_do_not_count)
{
    struct prng prng = {.state = test_seed};
    for (int round = 0; round < 60; round++) {
        static struct stack stack;
        stack_begin(&stack);
        stack.layer_count = 1;
        make_neighbours(&stack, &prng);
        make_layers(&stack, &prng, round % 3 == 0);
        check_best(&stack, SLICE_LITERAL("b"), &prng);
        check_best(&stack, SLICE_LITERAL("b1"), &prng);
        stack_deinit(&stack);
    }
}

/* No layers: nothing is there. */
TEST_CASE(nothing_is_found_in_no_layers)
{
    static struct stack stack;
    memset(&stack, 0, sizeof stack);
    heap_init(&stack.heap, 0);
    for (size_t i = 0; i < 16; i++) buf_init(&stack.range_keys[i], &stack.heap);
    stack.query = (struct query){.heap = &stack.heap};
    EXPECT(query_scratch_create(&stack.heap, &stack.query.scratch) == STATUS_OK);
    struct prng prng = {.state = test_seed};
    ask_everything(&stack, &prng);
    query_scratch_destroy(stack.query.scratch);
    for (size_t i = 0; i < 16; i++) buf_deinit(&stack.range_keys[i]);
    EXPECT(heap_used_bytes(&stack.heap) == 0);
}

static enum status ignore(void *context, struct slice key, const struct record *record)
{
    (void)context;
    (void)key;
    (void)record;
    return STATUS_OK;
}

static enum status ask(const struct query *query, int question, struct buf *key)
{
    struct slice prefix = SLICE_LITERAL("a");
    uint64_t count;
    struct sum sum;
    struct query_walk *walk;
    enum status status;
    switch (question) {
    case 0:
        return query_best(query, prefix, 20, NULL, ignore, NULL);
    case 1:
        return query_scan(query, prefix, &(struct query_from){0}, 50, ignore, NULL);
    case 2:
        return query_scan(query, prefix, &(struct query_from){.descending = true}, 50, ignore,
                          NULL);
    case 3:
        return query_count(query, prefix, &count);
    case 4:
        return query_select(query, prefix, 3, key);
    case 5:
        return query_sum(query, prefix, &sum);
    default:
        status = query_walk_open(query, prefix, NULL, &walk);
        if (status == STATUS_OK) query_walk_close(walk);
        return status;
    }
}

/* Each allocation fails once: the question fails or is answered, and nothing leaks. */
TEST_CASE(no_memory_is_reported_and_leaks_nothing)
{
    struct prng prng = {.state = test_seed};
    for (int round = 0; round < 6; round++) {
        static struct stack stack;
        stack_init(&stack, &prng, 300);
        struct buf key = {.heap = &stack.heap};
        (void)buf_reserve(&key, 64);
        for (int question = 0; question < 7; question++) {
            for (int64_t failure = 0;; failure++) {
                struct query query = stack.query;
                EXPECT(query_scratch_create(&stack.heap, &query.scratch) == STATUS_OK);
                uint64_t before = heap_used_bytes(&stack.heap);
                stack.heap.failure_after = failure;
                enum status status = ask(&query, question, &key);
                bool failed = stack.heap.failure_after < 0;
                stack.heap.failure_after = -1;
                EXPECT(!failed || status == STATUS_NOMEM || status == STATUS_OK);
                query_scratch_destroy(query.scratch);
                EXPECT(heap_used_bytes(&stack.heap) <= before);
                if (!failed) break;
            }
        }
        buf_deinit(&key);
        stack_deinit(&stack);
    }
}

static void check_damaged(struct stack *stack, struct slice prefix)
{
    static struct answer_list live, current, best;
    expect_under(stack, prefix, false, &live);
    expect_under(stack, prefix, true, &current);
    best = live;
    qsort(best.words, best.count, sizeof *best.words, compare_popularity);

    struct checker top = {stack, &best}, all = {stack, &live};
    enum status status = query_best(&stack->query, prefix, 40, NULL, check_answer, &top);
    EXPECT(status == STATUS_OK || status == STATUS_CORRUPT);
    if (status == STATUS_OK) EXPECT(top.seen == wanted(best.count, 0, 40));
    bool more = false;
    struct checker places = {stack, &best};
    status = query_best_places(&stack->query, prefix, 40, NULL, check_place, &places, &more);
    EXPECT(status == STATUS_OK || status == STATUS_CORRUPT);
    if (status == STATUS_OK) EXPECT(places.seen == wanted(best.count, 0, 40));
    if (status == STATUS_OK) EXPECT(more == (best.count > 40));
    status =
        query_scan(&stack->query, prefix, &(struct query_from){0}, UINT64_MAX, check_answer, &all);
    EXPECT(status == STATUS_OK || status == STATUS_CORRUPT);
    if (status == STATUS_OK) EXPECT(all.seen == live.count);

    uint64_t count;
    status = query_count(&stack->query, prefix, &count);
    EXPECT(status == STATUS_OK || status == STATUS_CORRUPT);
    if (status == STATUS_OK) EXPECT(count == live.count);

    struct sum sum = {0}, found;
    for (size_t i = 0; i < current.count; i++)
        sum = sum_add(sum, record_hash(buf_slice(&current.words[i]->key), &current.words[i]->record,
                                       HASH_SEED));
    status = query_sum(&stack->query, prefix, &found);
    EXPECT(status == STATUS_OK || status == STATUS_CORRUPT);
    if (status == STATUS_OK) EXPECT(sum_equal(sum, found));

    struct buf key = {.heap = &stack->heap};
    status = query_select(&stack->query, prefix, live.count / 2, &key);
    EXPECT(status == STATUS_CORRUPT || status == (live.count > 0 ? STATUS_OK : STATUS_NOT_FOUND));
    if (status == STATUS_OK)
        EXPECT(slice_equal(buf_slice(&key), buf_slice(&live.words[live.count / 2]->key)));
    buf_deinit(&key);
}

/* One bit of one file is wrong: answers are right, or say that something is. */
TEST_CASE(damaged_files_never_give_wrong_answers)
{
    struct prng prng = {.state = test_seed};
    for (int round = 0; round < 4; round++) {
        static struct stack stack;
        stack_init(&stack, &prng, 600);
        for (int flip = 0; flip < 60; flip++) {
            size_t index = prng_below(&prng, (uint32_t)stack.layer_count);
            struct packed_file *file = &stack.files[index];
            if (stack.layers[index].packed == NULL) continue;

            size_t at = prng_below(&prng, (uint32_t)file->size);
            uint8_t bit = (uint8_t)(1u << prng_below(&prng, 8));
            struct packed *damaged;
            file->bytes[at] ^= bit;
            enum status status =
                packed_open(&stack.heap, slice_of(file->bytes, file->size), &damaged);
            EXPECT(status == STATUS_OK || status == STATUS_CORRUPT || status == STATUS_NEWER);
            if (status == STATUS_OK) {
                stack.layers[index].packed = damaged;
                check_damaged(&stack, (struct slice){0});
                check_damaged(&stack, SLICE_LITERAL("ab"));
                packed_close(damaged);
                stack.layers[index].packed = file->packed;
            }
            file->bytes[at] ^= bit;
        }
        stack_deinit(&stack);
    }
}

static enum status visit_none(void *context, struct slice key, const struct record *record)
{
    (void)context, (void)key, (void)record;
    EXPECT(!"there is no such word");
    return STATUS_OK;
}

static void expect_nothing(const struct query *query, struct slice prefix)
{
    bool backward = true;
    uint64_t count = 1;
    EXPECT(query_count(query, prefix, &count) == STATUS_OK);
    EXPECT(count == 0);
    EXPECT(query_best(query, prefix, 10, NULL, visit_none, NULL) == STATUS_OK);
    do {
        backward = !backward;
        struct query_from from = {.key = prefix, .descending = backward};
        EXPECT(query_scan(query, prefix, &from, 10, visit_none, NULL) == STATUS_OK);
    } while (!backward);
}

/* Of a file whose keys are others not one page is read: these would all be found damaged. */
TEST_CASE(a_file_of_other_keys_is_not_read)
{
    struct packed_file file;
    struct heap heap;
    char key[16];
    heap_init(&heap, 0);
    packed_file_begin(&file, &heap, HASH_SEED);
    for (int i = 0; i < 40000; i++) {
        struct record record = record_of_set((struct version){1000, 1}, i);
        snprintf(key, sizeof key, "m%05d%08x", i, (unsigned)i * 2654435761u);
        packed_file_add(&file, slice_from_text(key), &record);
    }
    packed_file_finish(&file);
    uint64_t end = packed_page_count(file.packed) * PACKED_PAGE_BYTES - PACKED_PAGE_BYTES;
    for (uint64_t at = 0; at < end; at += PACKED_PAGE_BYTES) file.bytes[at + 99] ^= 1;

    struct layer layer = {.packed = file.packed};
    struct query query = {.layers = &layer, .layer_count = 1, .heap = &heap};
    EXPECT(query_scratch_create(&heap, &query.scratch) == STATUS_OK);
    uint64_t count;
    EXPECT(query_count(&query, SLICE_LITERAL("m2345"), &count) == STATUS_CORRUPT);
    expect_nothing(&query, SLICE_LITERAL("a"));
    expect_nothing(&query, SLICE_LITERAL("ma"));
    expect_nothing(&query, SLICE_LITERAL("z"));
    query_scratch_destroy(query.scratch);
    packed_file_deinit(&file);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_MAIN(TEST(answers_are_those_of_a_sorted_list), TEST(deep_trees_answer_alike),
          TEST(better_words_beside_a_prefix_do_not_count), TEST(nothing_is_found_in_no_layers),
          TEST(no_memory_is_reported_and_leaks_nothing),
          TEST(damaged_files_never_give_wrong_answers), TEST(a_file_of_other_keys_is_not_read))
