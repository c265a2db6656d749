/* The engine's own part of the table that bench/run prints: engine_rows FILE.tsv, with a word,
 * a tab and a score a line. bench/engine_peers.cc measures the peers on the same words in the
 * same way. Keys are the words as they are; times are of the processor; names=values. */
#include <stdio.h>
#include <stdlib.h>

#include "engine_data.h"

#include "base/check.h"
#include "base/math.h"
#include "base/prng.h"
#include "core/column_score.h"
#include "core/dictionary.h"
#include "core/memtrie.h"
#include "core/packed_format.h"
#include "core/query.h"

enum {
    LOOKUP_COUNT = 200000,
    BATCH = 1000,
    SAMPLE_BYTES = 3 << 20,
    VERSIONS_PER_MS = 500,
    DELETED_COUNT = 1000000,
    ASK_COUNT = 20000,
};

struct data {
    struct heap heap;
    struct engine_words words;
    uint32_t *order; /* Random. */
};

static void report(const char *name, double value)
{
    printf("%s=%.6g\n", name, value);
    fflush(stdout);
}

static void data_read(struct data *data, const char *path)
{
    heap_init(&data->heap, 0);
    engine_words_read(&data->words, &data->heap, path, ENGINE_KEY_PLAIN);
    data->order = engine_shuffled(data->words.count);
}

static void data_free(struct data *data)
{
    engine_words_deinit(&data->words);
    free(data->order);
}

/* Versions as an import of the file gives them. */
static struct record record_of(const struct engine_word *word)
{
    uint64_t ms = UINT64_C(1700000000000) + word->line / VERSIONS_PER_MS;
    struct version version = {(ms << 16) + word->line % VERSIONS_PER_MS, 1};
    return record_of_set(version, word->score);
}

/* --- Packed trie --- */

static void file_make(struct data *data, struct engine_file *file)
{
    struct dictionary *dictionary = engine_train(&data->words, &data->heap, SAMPLE_BYTES);
    struct packed_builder *builder;
    CHECK(packed_builder_create(&data->heap, dictionary, 1, &builder) == STATUS_OK);
    for (size_t i = 0; i < data->words.count; i++) {
        struct record record = record_of(&data->words.items[i]);
        CHECK(packed_builder_add(builder, data->words.items[i].key, &record) == STATUS_OK);
    }
    engine_file_open(file, &data->heap, builder);
    dictionary_destroy(dictionary);
}

/* What the scores alone take in the rows. */
static double score_bytes(struct data *data)
{
    double scores[SCORE_BLOCK];
    double total = 0;
    struct buf block;
    buf_init(&block, &data->heap);
    for (size_t i = 0; i < data->words.count; i += SCORE_BLOCK) {
        size_t count = size_min(SCORE_BLOCK, data->words.count - i);
        for (size_t j = 0; j < count; j++) scores[j] = data->words.items[i + j].score;
        buf_clear(&block);
        score_block_append(scores, count, &block);
        total += (double)block.size + 1;
    }
    buf_deinit(&block);
    return total;
}

static void report_sizes(struct data *data, const struct engine_file *file)
{
    struct packed_footer footer;
    struct slice bytes = slice_of(file->bytes, file->size);
    CHECK(packed_footer_read(bytes, &footer) == STATUS_OK);
    double keys = 0, count = (double)data->words.count;
    for (unsigned i = 0; i < FRONT_SECTION_COUNT; i++)
        keys += (double)footer.sections[PACKED_FRONT + i].size;
    double bests = (double)footer.sections[PACKED_BESTS].size;
    report("key_bytes", (double)data->words.key_bytes / count);
    report("index_bytes", keys / count);
    report("scored_bytes", (keys + bests + score_bytes(data)) / count);
    report("all_bytes", (double)file->size / count);
}

/* The words to look up, one after the other in memory, so that what is timed is the trie and
 * not the way to the next question. */
static struct slice *asked_of(struct data *data, size_t count, struct buf *bytes)
{
    struct slice *asked = malloc((count + 1) * sizeof *asked);
    CHECK(asked != NULL);
    for (size_t i = 0; i < count; i++)
        buf_append_slice(bytes, data->words.items[data->order[i]].key);
    CHECK(buf_status(bytes) == STATUS_OK);
    const uint8_t *at = bytes->data;
    for (size_t i = 0; i < count; i++) {
        asked[i] = slice_of(at, data->words.items[data->order[i]].key.size);
        at += asked[i].size;
    }
    return asked;
}

static void measure_packed(struct data *data, const struct packed *packed)
{
    size_t count = data->words.count < LOOKUP_COUNT ? data->words.count : LOOKUP_COUNT, wrong = 0,
           bytes = 0;
    struct buf asked_bytes;
    buf_init(&asked_bytes, &data->heap);
    struct slice *asked = asked_of(data, count, &asked_bytes);
    double start = engine_now_s();
    for (size_t i = 0; i < count; i++) {
        uint64_t ordinal = 0;
        enum status status = packed_find(packed, asked[i], &ordinal);
        wrong += status != STATUS_OK || ordinal != data->order[i];
    }
    report("lookup_ns", (engine_now_s() - start) / (double)count * 1e9);
    free(asked);
    buf_deinit(&asked_bytes);

    struct packed_iterator iterator;
    CHECK(packed_iterator_init(&iterator, packed, &data->heap) == STATUS_OK);
    start = engine_now_s();
    enum status status = packed_iterator_seek(&iterator, 0);
    for (; status == STATUS_OK; status = packed_iterator_next(&iterator))
        bytes += iterator.key.size;
    report("scan_ns", (engine_now_s() - start) / (double)data->words.count * 1e9);
    packed_iterator_deinit(&iterator);
    CHECK(wrong == 0);
    CHECK(bytes == data->words.key_bytes);
}

/* --- Memory trie --- */

/* As the store does with the writes of a batch. */
static void warm(const struct data *data, const struct memtrie *trie, memtrie_root root,
                 size_t from)
{
    struct slice keys[MEMTRIE_WARM_COUNT_MAX];
    size_t count = 0;
    for (size_t i = from; i < data->words.count && count < MEMTRIE_WARM_COUNT_MAX; i++)
        keys[count++] = data->words.items[data->order[i]].key;
    memtrie_warm(trie, root, keys, count);
}

static void measure_memtrie(struct data *data)
{
    struct memtrie trie;
    memtrie_root root = 0;
    uint64_t view = 1;
    double count = (double)data->words.count;
    CHECK(memtrie_init(&trie, &data->heap, 1) == STATUS_OK);
    double start = engine_now_s();
    for (size_t i = 0; i < data->words.count; i++) {
        if (i % MEMTRIE_WARM_COUNT_MAX == 0) warm(data, &trie, root, i);
        const struct engine_word *word = &data->words.items[data->order[i]];
        struct record record = record_of(word);
        CHECK(memtrie_put(&trie, &root, word->key, &record) == STATUS_OK);
        if (i % BATCH != BATCH - 1) continue;
        memtrie_begin_batch(&trie);
        CHECK(arena_seal(&trie.arena, view) == STATUS_OK);
        arena_reclaim(&trie.arena, view++);
    }
    report("insert_per_s", count / (engine_now_s() - start));
    report("memory_bytes", (double)trie.arena.used_bytes / count);
    memtrie_deinit(&trie);
}

/* --- A million deleted under a prefix, two alive --- */

static enum status take(void *context, struct slice key, const struct record *record)
{
    *(size_t *)context += key.size;
    return STATUS_OK;
}

/* Microseconds of one search, count and scan each. */
static void ask_all(const struct query *query, const char *name)
{
    struct slice prefix = SLICE_LITERAL("gone/");
    size_t total = 0;
    uint64_t count = 0;
    double times[4] = {engine_now_s()};
    for (int i = 0; i < ASK_COUNT; i++)
        CHECK(query_best(query, prefix, 10, NULL, take, &total) == STATUS_OK);
    times[1] = engine_now_s();
    for (int i = 0; i < ASK_COUNT; i++) CHECK(query_count(query, prefix, &count) == STATUS_OK);
    times[2] = engine_now_s();
    for (int i = 0; i < ASK_COUNT; i++)
        CHECK(query_scan(query, prefix, &(struct query_from){0}, 10, take, &total) == STATUS_OK);
    times[3] = engine_now_s();
    CHECK(count == 2);
    static const char *const questions[] = {"search", "count", "scan"};
    char figure[64];
    for (int i = 0; i < 3; i++) {
        snprintf(figure, sizeof figure, "%s_%s_us", name, questions[i]);
        report(figure, (times[i + 1] - times[i]) / ASK_COUNT * 1e6);
    }
}

static void layer_ask(struct data *data, struct layer *layers, size_t layer_count, const char *name)
{
    struct query query = {.layers = layers, .layer_count = layer_count, .heap = &data->heap};
    CHECK(query_scratch_create(&data->heap, &query.scratch) == STATUS_OK);
    ask_all(&query, name);
    query_scratch_destroy(query.scratch);
}

static void gone_data(struct data *data, bool gone)
{
    char text[64];
    heap_init(&data->heap, 0);
    engine_words_init(&data->words, &data->heap);
    for (size_t i = 0; i < DELETED_COUNT; i++) {
        int size = sprintf(text, "%s/%07zu", gone ? "gone" : "away", i);
        engine_words_add(&data->words, slice_of(text, (size_t)size), (double)(i % 997));
    }
    engine_words_add(&data->words, SLICE_LITERAL("gone/x"), 5);
    engine_words_add(&data->words, SLICE_LITERAL("gone/y"), 6);
    engine_words_sort(&data->words);
    data->order = NULL;
}

static void delete_all(struct data *data, const struct packed *packed, struct layer *memory,
                       struct memtrie *trie, struct layer *file, struct overlay_space *space)
{
    for (size_t i = 0; i + 2 < data->words.count; i++) {
        struct version version = {(UINT64_C(1800000000000) << 16) + i, 1};
        struct record tombstone = record_of_tombstone(version);
        CHECK(memtrie_put(trie, &memory->root, data->words.items[i].key, &tombstone) == STATUS_OK);
        CHECK(overlay_kill(space, packed, &file->overlay, i, (struct sum){1, 1}) == STATUS_OK);
    }
}

/* The deleted ones are dead in a packed trie; their tombstones lie in a memory trie. The
 * comparison has as many words, under another prefix. */
static void measure_deleted(void)
{
    for (int gone = 0; gone < 2; gone++) {
        struct data data;
        struct engine_file file;
        struct memtrie trie;
        struct overlay_space space;
        gone_data(&data, gone != 0);
        file_make(&data, &file);
        CHECK(memtrie_init(&trie, &data.heap, 1) == STATUS_OK);
        CHECK(overlay_space_init(&space, &data.heap) == STATUS_OK);
        struct layer layers[2] = {{.memtrie = &trie}, {.packed = file.packed, .overlays = &space}};
        if (gone) delete_all(&data, file.packed, &layers[0], &trie, &layers[1], &space);
        layer_ask(&data, layers, 2, gone ? "deleted" : "never");
        overlay_space_deinit(&space);
        memtrie_deinit(&trie);
        engine_file_close(&file);
        data_free(&data);
    }
}

int main(int count, char **arguments)
{
    if (count != 2) {
        fprintf(stderr, "usage: engine_rows FILE.tsv | engine_rows deleted\n");
        return 2;
    }
    if (strcmp(arguments[1], "deleted") == 0) {
        measure_deleted();
        return 0;
    }
    static struct data data;
    struct engine_file file;
    data_read(&data, arguments[1]);
    file_make(&data, &file);
    report_sizes(&data, &file);
    measure_packed(&data, file.packed);
    engine_file_close(&file);
    measure_memtrie(&data);
    data_free(&data);
    return 0;
}
