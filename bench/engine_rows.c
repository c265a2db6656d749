/* The engine's own part of the table that bench/run prints: engine_rows FILE.tsv, with a word,
 * a tab and a score a line. bench/engine_peers.cc measures the peers on the same words in the
 * same way. Keys are the words as they are; times are of the processor; names=values. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

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
    SAMPLE_RUN = 128,
    SAMPLE_BYTES = 3 << 20,
    VERSIONS_PER_MS = 500,
    DELETED_COUNT = 1000000,
    ASK_COUNT = 20000,
};

struct word {
    struct slice key;
    double score;
    uint64_t line;
};

struct data {
    struct heap heap;
    struct word *words; /* In key order. */
    size_t count;
    size_t key_bytes;
    uint32_t *order; /* Random. */
};

static double now_s(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void report(const char *name, double value)
{
    printf("%s=%.6g\n", name, value);
    fflush(stdout);
}

static int compare_words(const void *a, const void *b)
{
    const struct word *x = a, *y = b;
    return slice_compare(x->key, y->key);
}

static void word_add(struct data *data, const char *text, size_t size, double score)
{
    if ((data->count & (data->count - 1)) == 0) {
        data->words = realloc(data->words, (data->count * 2 + 1) * sizeof *data->words);
        CHECK(data->words != NULL);
    }
    uint8_t *bytes = malloc(size + 1);
    CHECK(bytes != NULL);
    memcpy(bytes, text, size);
    data->words[data->count] = (struct word){{bytes, size}, score, data->count};
    data->count++;
    data->key_bytes += size;
}

static void data_sort(struct data *data)
{
    qsort(data->words, data->count, sizeof *data->words, compare_words);
    struct prng prng = {.state = 1};
    data->order = malloc((data->count + 1) * sizeof *data->order);
    CHECK(data->order != NULL);
    for (size_t i = 0; i < data->count; i++) {
        size_t j = prng_below(&prng, (uint32_t)i + 1);
        data->order[i] = data->order[j];
        data->order[j] = (uint32_t)i;
    }
}

static void data_read(struct data *data, const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    *data = (struct data){0};
    heap_init(&data->heap, 0);
    char *line = NULL;
    size_t capacity = 0;
    while (getline(&line, &capacity, file) > 0) {
        size_t size = strcspn(line, "\t\n");
        word_add(data, line, size, line[size] == '\t' ? strtod(line + size + 1, NULL) : 1);
    }
    free(line);
    fclose(file);
    data_sort(data);
}

static void data_free(struct data *data)
{
    for (size_t i = 0; i < data->count; i++) free((void *)(uintptr_t)data->words[i].key.data);
    free(data->words);
    free(data->order);
}

/* Versions as an import of the file gives them. */
static struct record record_of(const struct word *word)
{
    uint64_t ms = UINT64_C(1700000000000) + word->line / VERSIONS_PER_MS;
    struct version version = {(ms << 16) + word->line % VERSIONS_PER_MS, 1};
    return record_of_set(version, word->score);
}

/* --- Packed trie --- */

struct file {
    struct buf bytes;
    uint8_t *mapped;
    struct packed *packed;
};

static struct dictionary *train(struct data *data)
{
    size_t suffixes = 0;
    for (size_t i = 1; i < data->count; i++)
        suffixes += data->words[i].key.size -
                    slice_common_prefix(data->words[i - 1].key, data->words[i].key);
    size_t stride = SAMPLE_RUN * (suffixes / SAMPLE_BYTES + 1);
    struct dictionary_trainer *trainer;
    struct dictionary *dictionary;
    CHECK(dictionary_trainer_create(&data->heap, SAMPLE_BYTES, &trainer) == STATUS_OK);
    for (size_t i = 0; i < data->count; i++) {
        if (i % stride >= SAMPLE_RUN) continue;
        if (dictionary_trainer_add(trainer, data->words[i].key, i % stride == 0) != STATUS_OK)
            break;
    }
    CHECK(dictionary_train(trainer, &dictionary) == STATUS_OK);
    dictionary_trainer_destroy(trainer);
    return dictionary;
}

static enum status write_file(void *context, const void *data, size_t size)
{
    buf_append(context, data, size);
    return buf_status(context);
}

static void file_make(struct data *data, struct file *file)
{
    struct dictionary *dictionary = train(data);
    struct packed_builder *builder;
    CHECK(packed_builder_create(&data->heap, dictionary, 1, &builder) == STATUS_OK);
    for (size_t i = 0; i < data->count; i++) {
        struct record record = record_of(&data->words[i]);
        CHECK(packed_builder_add(builder, data->words[i].key, &record) == STATUS_OK);
    }
    buf_init(&file->bytes, &data->heap);
    struct packed_sink sink = {write_file, &file->bytes};
    CHECK(packed_builder_finish(builder, &sink) == STATUS_OK);
    packed_builder_destroy(builder);
    dictionary_destroy(dictionary);
    file->mapped = aligned_alloc(PACKED_PAGE_BYTES, u64_align(file->bytes.size, PACKED_PAGE_BYTES));
    CHECK(file->mapped != NULL);
    memcpy(file->mapped, file->bytes.data, file->bytes.size);
    struct slice bytes = slice_of(file->mapped, file->bytes.size);
    CHECK(packed_open(&data->heap, bytes, &file->packed) == STATUS_OK);
}

static void file_free(struct file *file)
{
    packed_close(file->packed);
    buf_deinit(&file->bytes);
    free(file->mapped);
}

/* What the scores alone take in the rows. */
static double score_bytes(struct data *data)
{
    double scores[SCORE_BLOCK];
    double total = 0;
    struct buf block;
    buf_init(&block, &data->heap);
    for (size_t i = 0; i < data->count; i += SCORE_BLOCK) {
        size_t count = size_min(SCORE_BLOCK, data->count - i);
        for (size_t j = 0; j < count; j++) scores[j] = data->words[i + j].score;
        buf_clear(&block);
        score_block_append(scores, count, &block);
        total += (double)block.size + 1;
    }
    buf_deinit(&block);
    return total;
}

static void report_sizes(struct data *data, const struct file *file)
{
    struct packed_footer footer;
    struct slice bytes = slice_of(file->mapped, file->bytes.size);
    CHECK(packed_footer_read(bytes, &footer) == STATUS_OK);
    double keys = 0, count = (double)data->count;
    for (unsigned i = 0; i < FRONT_SECTION_COUNT; i++)
        keys += (double)footer.sections[PACKED_FRONT + i].size;
    double bests = (double)footer.sections[PACKED_BESTS].size;
    report("key_bytes", (double)data->key_bytes / count);
    report("index_bytes", keys / count);
    report("scored_bytes", (keys + bests + score_bytes(data)) / count);
    report("all_bytes", (double)file->bytes.size / count);
}

/* The words to look up, one after the other in memory, so that what is timed is the trie and
 * not the way to the next question. */
static struct slice *asked_of(struct data *data, size_t count, struct buf *bytes)
{
    struct slice *asked = malloc((count + 1) * sizeof *asked);
    CHECK(asked != NULL);
    for (size_t i = 0; i < count; i++) buf_append_slice(bytes, data->words[data->order[i]].key);
    CHECK(buf_status(bytes) == STATUS_OK);
    const uint8_t *at = bytes->data;
    for (size_t i = 0; i < count; i++) {
        asked[i] = slice_of(at, data->words[data->order[i]].key.size);
        at += asked[i].size;
    }
    return asked;
}

static void measure_packed(struct data *data, const struct packed *packed)
{
    size_t count = data->count < LOOKUP_COUNT ? data->count : LOOKUP_COUNT, wrong = 0, bytes = 0;
    struct buf asked_bytes;
    buf_init(&asked_bytes, &data->heap);
    struct slice *asked = asked_of(data, count, &asked_bytes);
    double start = now_s();
    for (size_t i = 0; i < count; i++) {
        uint64_t ordinal = 0;
        enum status status = packed_find(packed, asked[i], &ordinal);
        wrong += status != STATUS_OK || ordinal != data->order[i];
    }
    report("lookup_ns", (now_s() - start) / (double)count * 1e9);
    free(asked);
    buf_deinit(&asked_bytes);

    struct packed_iterator iterator;
    CHECK(packed_iterator_init(&iterator, packed, &data->heap) == STATUS_OK);
    start = now_s();
    enum status status = packed_iterator_seek(&iterator, 0);
    for (; status == STATUS_OK; status = packed_iterator_next(&iterator))
        bytes += iterator.key.size;
    report("scan_ns", (now_s() - start) / (double)data->count * 1e9);
    packed_iterator_deinit(&iterator);
    CHECK(wrong == 0);
    CHECK(bytes == data->key_bytes);
}

/* --- Memory trie --- */

/* As the store does with the writes of a batch. */
static void warm(const struct data *data, const struct memtrie *trie, memtrie_root root,
                 size_t from)
{
    struct slice keys[MEMTRIE_WARM_COUNT_MAX];
    size_t count = 0;
    for (size_t i = from; i < data->count && count < MEMTRIE_WARM_COUNT_MAX; i++)
        keys[count++] = data->words[data->order[i]].key;
    memtrie_warm(trie, root, keys, count);
}

static void measure_memtrie(struct data *data)
{
    struct memtrie trie;
    memtrie_root root = 0;
    uint64_t view = 1;
    double count = (double)data->count;
    CHECK(memtrie_init(&trie, &data->heap, 1) == STATUS_OK);
    double start = now_s();
    for (size_t i = 0; i < data->count; i++) {
        if (i % MEMTRIE_WARM_COUNT_MAX == 0) warm(data, &trie, root, i);
        const struct word *word = &data->words[data->order[i]];
        struct record record = record_of(word);
        CHECK(memtrie_put(&trie, &root, word->key, &record) == STATUS_OK);
        if (i % BATCH != BATCH - 1) continue;
        memtrie_begin_batch(&trie);
        CHECK(arena_seal(&trie.arena, view) == STATUS_OK);
        arena_reclaim(&trie.arena, view++);
    }
    report("insert_per_s", count / (now_s() - start));
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
    double times[4] = {now_s()};
    for (int i = 0; i < ASK_COUNT; i++)
        CHECK(query_best(query, prefix, 10, NULL, take, &total) == STATUS_OK);
    times[1] = now_s();
    for (int i = 0; i < ASK_COUNT; i++) CHECK(query_count(query, prefix, &count) == STATUS_OK);
    times[2] = now_s();
    for (int i = 0; i < ASK_COUNT; i++)
        CHECK(query_scan(query, prefix, &(struct query_from){0}, 10, take, &total) == STATUS_OK);
    times[3] = now_s();
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

static struct data gone_data(bool gone)
{
    struct data data = {0};
    char text[64];
    heap_init(&data.heap, 0);
    for (size_t i = 0; i < DELETED_COUNT; i++) {
        int size = sprintf(text, "%s/%07zu", gone ? "gone" : "away", i);
        word_add(&data, text, (size_t)size, (double)(i % 997));
    }
    word_add(&data, "gone/x", 6, 5);
    word_add(&data, "gone/y", 6, 6);
    data_sort(&data);
    return data;
}

static void delete_all(struct data *data, const struct packed *packed, struct layer *memory,
                       struct memtrie *trie, struct layer *file, struct overlay_space *space)
{
    for (size_t i = 0; i + 2 < data->count; i++) {
        struct version version = {(UINT64_C(1800000000000) << 16) + i, 1};
        struct record tombstone = record_of_tombstone(version);
        CHECK(memtrie_put(trie, &memory->root, data->words[i].key, &tombstone) == STATUS_OK);
        CHECK(overlay_kill(space, packed, &file->overlay, i, (struct sum){1, 1}) == STATUS_OK);
    }
}

/* The deleted ones are dead in a packed trie; their tombstones lie in a memory trie. The
 * comparison has as many words, under another prefix. */
static void measure_deleted(void)
{
    for (int gone = 0; gone < 2; gone++) {
        struct data data = gone_data(gone != 0);
        struct file file;
        struct memtrie trie;
        struct overlay_space space;
        file_make(&data, &file);
        CHECK(memtrie_init(&trie, &data.heap, 1) == STATUS_OK);
        CHECK(overlay_space_init(&space, &data.heap) == STATUS_OK);
        struct layer layers[2] = {{.memtrie = &trie}, {.packed = file.packed, .overlays = &space}};
        if (gone) delete_all(&data, file.packed, &layers[0], &trie, &layers[1], &space);
        layer_ask(&data, layers, 2, gone ? "deleted" : "never");
        overlay_space_deinit(&space);
        memtrie_deinit(&trie);
        file_free(&file);
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
    struct file file;
    data_read(&data, arguments[1]);
    file_make(&data, &file);
    report_sizes(&data, &file);
    measure_packed(&data, file.packed);
    file_free(&file);
    measure_memtrie(&data);
    data_free(&data);
    return 0;
}
