/* Measures the memory trie: engine_memtrie FILE.tsv, with a word, a tab and a score a line.
 *
 * Words go in in random order, one by one, in batches of 1000 each with its own view; the
 * views of all but the last batch are reclaimed. Prefixes are cut from random words. Times
 * are of the processor. */
#include <stdio.h>
#include <stdlib.h>

#include "engine_data.h"

#include "base/check.h"
#include "base/prng.h"
#include "core/memtrie.h"

enum { BATCH = 1000, SAMPLE_COUNT = 300000, PREFIX_SAMPLE_COUNT = 2000, RESULT_COUNT = 10 };

struct data {
    struct heap heap;
    struct engine_words words;
    uint32_t *order; /* Random. */
};

static struct slice key_of(const struct data *data, size_t index)
{
    return data->words.items[index].key;
}

/* As the store does with the writes of a batch. */
static void warm(const struct data *data, const struct memtrie *trie, memtrie_root root,
                 size_t from)
{
    struct slice keys[MEMTRIE_WARM_COUNT_MAX];
    size_t count = 0;
    for (size_t i = from; i < data->words.count && count < MEMTRIE_WARM_COUNT_MAX; i++)
        keys[count++] = key_of(data, data->order[i]);
    memtrie_warm(trie, root, keys, count);
}

static void measure_inserts(const struct data *data, struct memtrie *trie, memtrie_root *root)
{
    uint64_t view = 1;
    double start = engine_now_s();
    for (size_t i = 0; i < data->words.count; i++) {
        if (i % MEMTRIE_WARM_COUNT_MAX == 0) warm(data, trie, *root, i);
        size_t index = data->order[i];
        struct version version = {(UINT64_C(1700000000000) << 16) + i, 1};
        struct record record = record_of_set(version, data->words.items[index].score);
        CHECK(memtrie_put(trie, root, key_of(data, index), &record) == STATUS_OK);
        if (i % BATCH != BATCH - 1) continue;
        memtrie_begin_batch(trie);
        CHECK(arena_seal(&trie->arena, view) == STATUS_OK);
        arena_reclaim(&trie->arena, view++);
    }
    double seconds = engine_now_s() - start;
    double count = (double)data->words.count;
    printf("inserts            %9.3f M/s\n", count / seconds / 1e6);
    printf("used               %9.2f bytes/word\n", (double)trie->arena.used_bytes / count);
    printf("footprint          %9.2f bytes/word\n",
           (double)arena_footprint_bytes(&trie->arena) / count);
}

static void measure_lookups(const struct data *data, const struct memtrie *trie, memtrie_root root)
{
    size_t count = data->words.count < SAMPLE_COUNT ? data->words.count : SAMPLE_COUNT;
    struct prng prng = {.state = 2};
    double total = 0;
    double start = engine_now_s();
    for (size_t i = 0; i < count; i++) {
        struct record record;
        size_t index = prng_below(&prng, (uint32_t)data->words.count);
        CHECK(memtrie_get(trie, root, key_of(data, index), &record, NULL) == STATUS_OK);
        total += record.score;
    }
    printf("lookup             %9.1f ns\n", (engine_now_s() - start) / (double)count * 1e9);
    CHECK(total >= 0);
}

static void measure_scan(struct data *data, const struct memtrie *trie, memtrie_root root)
{
    struct memtrie_iterator iterator;
    memtrie_iterator_init(&iterator, trie, root, &data->heap);
    size_t count = 0;
    double start = engine_now_s();
    enum status status = memtrie_iterator_seek(&iterator, (struct slice){0});
    for (; status == STATUS_OK; status = memtrie_iterator_next(&iterator)) count++;
    printf("scan               %9.1f ns/key\n", (engine_now_s() - start) / (double)count * 1e9);
    memtrie_iterator_deinit(&iterator);
}

/* --- Top 10: best first --- */

struct open_part {
    struct memtrie_part part;
    size_t parent; /* Index in `expanded`, from 1; 0: the path is `top->path`. */
};

struct expanded {
    memtrie_node node;
    uint16_t place;
    size_t parent;
};

enum { EXPANDED_MAX = 4096 };

struct top {
    const struct memtrie *trie;
    struct open_part slots[RESULT_COUNT];
    uint8_t order[RESULT_COUNT]; /* Slots, the worst part first; then the free slots. */
    size_t open_count, open_limit;
    struct expanded expanded[EXPANDED_MAX];
    size_t expanded_count;
    struct buf path, key;
};

static struct open_part *top_open(struct top *top, size_t at)
{
    return &top->slots[top->order[at]];
}

/* Only as many parts as results are missing can matter: each holds one equal to its best. */
static void top_push(struct top *top, const struct memtrie_part *part, size_t parent)
{
    bool full = top->open_count == top->open_limit;
    if (full && best_compare(part->best, top_open(top, 0)->part.best) >= 0) return;
    size_t at = full ? 0 : top->open_count++;
    uint8_t slot = top->order[at];
    for (; at > 0 && best_compare(part->best, top_open(top, at - 1)->part.best) > 0; at--)
        top->order[at] = top->order[at - 1];
    for (;
         at + 1 < top->open_count && best_compare(part->best, top_open(top, at + 1)->part.best) < 0;
         at++)
        top->order[at] = top->order[at + 1];
    top->order[at] = slot;
    top->slots[slot] = (struct open_part){*part, parent};
}

/* A result was found: one part fewer can matter. */
static void top_drop_worst(struct top *top)
{
    uint8_t slot = top->order[0];
    memmove(top->order, top->order + 1, --top->open_count);
    top->order[top->open_count] = slot;
}

static enum status top_visit(void *context, struct slice path, const struct memtrie_part *part)
{
    struct top *top = context;
    buf_clear(&top->path);
    buf_append_slice(&top->path, path);
    top_push(top, part, 0);
    return STATUS_OK;
}

static void top_key(struct top *top, const struct open_part *found)
{
    size_t chain[256], depth = 0;
    for (size_t at = found->parent; at != 0 && depth < 256; at = top->expanded[at - 1].parent)
        chain[depth++] = at;
    buf_clear(&top->key);
    buf_append_slice(&top->key, buf_slice(&top->path));
    while (depth-- > 0) {
        uint16_t place = depth == 0 ? found->part.place : top->expanded[chain[depth - 1] - 1].place;
        memtrie_append_edge(top->trie, top->expanded[chain[depth] - 1].node, place, &top->key);
    }
    struct record record;
    memtrie_append_suffix(top->trie, found->part.node, &top->key);
    memtrie_entry_record(top->trie, found->part.node, &record);
}

static size_t top_search(struct top *top, memtrie_root root, struct slice low, struct slice high,
                         struct heap *heap)
{
    static struct memtrie_part parts[MEMTRIE_PART_COUNT_MAX];
    size_t found = 0;
    top->open_count = top->expanded_count = 0;
    top->open_limit = RESULT_COUNT;
    for (uint8_t i = 0; i < RESULT_COUNT; i++) top->order[i] = i;
    CHECK(memtrie_cover(top->trie, root, low, high, heap, top_visit, top) == STATUS_OK);
    while (top->open_count > 0 && found < RESULT_COUNT) {
        struct open_part best = *top_open(top, --top->open_count);
        if (best.part.is_entry) {
            top_key(top, &best);
            found++;
            if (top->open_count == --top->open_limit + 1) top_drop_worst(top);
            continue;
        }
        CHECK(top->expanded_count < EXPANDED_MAX);
        top->expanded[top->expanded_count++] =
            (struct expanded){best.part.node, best.part.place, best.parent};
        struct memtrie_expansion all = memtrie_expand(top->trie, best.part.node);
        size_t count = memtrie_expand_next(&all, (struct best){0}, MEMTRIE_PART_COUNT_MAX, parts);
        for (size_t i = 0; i < count; i++) top_push(top, &parts[i], top->expanded_count);
    }
    return found;
}

static void measure_top(struct data *data, const struct memtrie *trie, memtrie_root root)
{
    static struct top top;
    top.trie = trie;
    buf_init(&top.path, &data->heap);
    buf_init(&top.key, &data->heap);
    struct buf end;
    buf_init(&end, &data->heap);
    size_t namespace_size = sizeof "default";
    static const size_t sizes[] = {0, 1, 2, 3, 4, 6, 8, 12, 20};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        struct prng prng = {.state = s};
        size_t expanded = 0;
        double start = engine_now_s();
        for (int i = 0; i < PREFIX_SAMPLE_COUNT; i++) {
            struct slice prefix = key_of(data, prng_below(&prng, (uint32_t)data->words.count));
            if (prefix.size > namespace_size + sizes[s]) prefix.size = namespace_size + sizes[s];
            CHECK(key_prefix_end(prefix, &end) == STATUS_OK);
            CHECK(top_search(&top, root, prefix, buf_slice(&end), &data->heap) > 0);
            expanded += top.expanded_count;
        }
        printf("top 10, prefix %2zu  %9.2f us (%.1f nodes)\n", sizes[s],
               (engine_now_s() - start) / PREFIX_SAMPLE_COUNT * 1e6,
               (double)expanded / PREFIX_SAMPLE_COUNT);
    }
    buf_deinit(&top.path);
    buf_deinit(&top.key);
    buf_deinit(&end);
}

int main(int count, char **arguments)
{
    if (count != 2) {
        fprintf(stderr, "usage: engine_memtrie FILE.tsv\n");
        return 2;
    }
    struct data data;
    struct memtrie trie;
    memtrie_root root = 0;
    heap_init(&data.heap, 0);
    engine_words_read(&data.words, &data.heap, arguments[1], ENGINE_KEY_ENCODED);
    data.order = engine_shuffled(data.words.count);
    CHECK(memtrie_init(&trie, &data.heap, 1) == STATUS_OK);
    printf("words              %9zu\n", data.words.count);
    measure_inserts(&data, &trie, &root);
    measure_lookups(&data, &trie, root);
    measure_scan(&data, &trie, root);
    measure_top(&data, &trie, root);
    memtrie_deinit(&trie);
    engine_words_deinit(&data.words);
    free(data.order);
    return 0;
}
