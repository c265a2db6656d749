/* Measures the packed trie: engine_packed FILE.tsv [random], with a word, a tab and a score
 * a line, words ascending.
 *
 * The records are plain; their versions ascend in the order of the words, as one import
 * makes them, or in random order, as single writes do. 50 versions a millisecond. Times
 * are of the processor. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/math.h"
#include "base/prng.h"
#include "core/dictionary.h"
#include "core/packed.h"
#include "core/packed_format.h"

enum {
    VERSIONS_PER_MS = 50,
    SAMPLE_COUNT = 300000,
    TRAIN_RUN = 128,
    TRAIN_BYTES = 4 << 20,
};

struct data {
    struct buf words; /* One after the other. */
    size_t *ends;     /* Where each ends. */
    double *scores;
    uint32_t *order; /* Position of each word's version. */
    size_t count;
};

static struct heap heap;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static struct slice word_at(const struct data *data, size_t index)
{
    size_t start = index == 0 ? 0 : data->ends[index - 1];
    return slice_of(data->words.data + start, data->ends[index] - start);
}

static void add_line(struct data *data, const char *line, size_t size)
{
    const char *tab = memchr(line, '\t', size);
    if ((data->count & (data->count - 1)) == 0) {
        size_t capacity = data->count * 2 + 1;
        data->ends = realloc(data->ends, capacity * sizeof *data->ends);
        data->scores = realloc(data->scores, capacity * sizeof *data->scores);
        CHECK(data->ends != NULL);
        CHECK(data->scores != NULL);
    }
    buf_append(&data->words, line, tab == NULL ? size : (size_t)(tab - line));
    data->scores[data->count] = tab == NULL ? 1 : strtod(tab + 1, NULL);
    data->ends[data->count++] = data->words.size;
}

struct line {
    const char *text;
    size_t size;
};

static int compare_lines(const void *left, const void *right)
{
    const struct line *a = left, *b = right;
    size_t word_a = strcspn(a->text, "\t\n"), word_b = strcspn(b->text, "\t\n");
    return slice_compare(slice_of(a->text, word_a), slice_of(b->text, word_b));
}

/* Reads the lines and sorts them: a file sorted by a locale is not ascending in bytes. */
static void load(struct data *data, const char *path)
{
    struct buf text;
    buf_init(&text, &heap);
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    for (size_t size = 1; size > 0; buf_commit(&text, size))
        size = fread(buf_reserve(&text, 1 << 20), 1, 1 << 20, file);
    fclose(file);
    buf_append_u8(&text, 0);

    size_t count = 0;
    for (size_t i = 0; i < text.size; i++) count += text.data[i] == '\n';
    struct line *lines = malloc(count * sizeof *lines);
    CHECK(lines != NULL);
    const char *at = (const char *)text.data;
    for (size_t i = 0; i < count; i++) {
        lines[i] = (struct line){at, strcspn(at, "\n")};
        at += lines[i].size + 1;
    }
    qsort(lines, count, sizeof *lines, compare_lines);
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || compare_lines(&lines[i - 1], &lines[i]) != 0)
            add_line(data, lines[i].text, lines[i].size);
    }
    free(lines);
    buf_deinit(&text);
}

static void order_versions(struct data *data, bool random)
{
    struct prng prng = {.state = 1};
    data->order = malloc(data->count * sizeof *data->order);
    CHECK(data->order != NULL);
    for (size_t i = 0; i < data->count; i++) data->order[i] = (uint32_t)i;
    for (size_t i = data->count; random && i > 1; i--) {
        size_t other = prng_below(&prng, (uint32_t)i);
        uint32_t swapped = data->order[i - 1];
        data->order[i - 1] = data->order[other];
        data->order[other] = swapped;
    }
}

static struct dictionary *train(const struct data *data)
{
    struct dictionary_trainer *trainer = NULL;
    struct dictionary *dictionary = NULL;
    CHECK(dictionary_trainer_create(&heap, TRAIN_BYTES, &trainer) == STATUS_OK);
    size_t runs = size_max(1, size_min(data->count / TRAIN_RUN, 3000));
    enum status status = STATUS_OK;
    for (size_t run = 0; run < runs && status == STATUS_OK; run++) {
        size_t start = run * (data->count / runs);
        size_t end = size_min(data->count, start + TRAIN_RUN);
        for (size_t i = start; i < end && status == STATUS_OK; i++)
            status = dictionary_trainer_add(trainer, word_at(data, i), i == start);
    }
    CHECK(status == STATUS_OK || status == STATUS_LIMIT);
    CHECK(dictionary_train(trainer, &dictionary) == STATUS_OK);
    dictionary_trainer_destroy(trainer);
    return dictionary;
}

static enum status append(void *context, const void *bytes, size_t size)
{
    buf_append(context, bytes, size);
    return buf_status(context);
}

static void build(const struct data *data, const struct dictionary *dictionary, struct buf *file)
{
    struct packed_builder *builder = NULL;
    double start = now();
    CHECK(packed_builder_create(&heap, dictionary, 1, &builder) == STATUS_OK);
    for (size_t i = 0; i < data->count; i++) {
        uint64_t ms = UINT64_C(1700000000000) + data->order[i] / VERSIONS_PER_MS;
        hlc_time time = ms << HLC_COUNTER_BITS | data->order[i] % VERSIONS_PER_MS;
        struct record record = record_of_set((struct version){time, 1}, data->scores[i]);
        CHECK(packed_builder_add(builder, word_at(data, i), &record) == STATUS_OK);
    }
    struct packed_sink sink = {append, file};
    CHECK(packed_builder_finish(builder, &sink) == STATUS_OK);
    packed_builder_destroy(builder);
    printf("build          %8.2f M keys/s\n", (double)data->count / (now() - start) / 1e6);
}

static void print_sections(const struct packed *packed, struct slice file)
{
    static const char *names[PACKED_SECTION_COUNT] = {
        "keys: header", "keys: dictionary",
        "keys: index",  "keys: offsets",
        "keys: blocks", "nodes",
        "bests",        "filter",
        "sums",         "present",
        "directory",    "expiry",
        "postings",     "rows",
        "bodies",       "checksums",
    };
    struct packed_footer footer;
    double count = (double)packed_info(packed)->count;
    CHECK(packed_footer_read(file, &footer) == STATUS_OK);
    for (size_t i = 0; i < PACKED_SECTION_COUNT; i++) {
        if (footer.sections[i].size == 0) continue;
        printf("%-16s %7.3f B/key\n", names[i], (double)footer.sections[i].size / count);
    }
    printf("%-16s %7.3f B/key\n", "all", (double)file.size / count);
}

static void report(const char *what, double start, size_t count)
{
    printf("%-16s %7.0f ns\n", what, (now() - start) * 1e9 / (double)count);
}

static void measure(const struct data *data, const struct packed *packed)
{
    struct prng prng = {.state = 7};
    uint32_t count = (uint32_t)data->count, blocks = (uint32_t)packed_best_count(packed, 0);
    uint64_t ordinal = 0;
    struct record record;
    struct best bests[PACKED_BLOCK];

    double start = now();
    for (int i = 0; i < SAMPLE_COUNT; i++)
        CHECK(packed_find(packed, word_at(data, prng_below(&prng, count)), &ordinal) == STATUS_OK);
    report("find", start, SAMPLE_COUNT);

    uint64_t passed = 0;
    start = now();
    for (int i = 0; i < SAMPLE_COUNT; i++) {
        struct slice word = word_at(data, prng_below(&prng, count));
        uint64_t hash = packed_key_hash(slice_prefix(word, word.size - 1)) + 1;
        passed += packed_find_hashed(packed, word, hash, &ordinal) == STATUS_OK;
    }
    report("find, absent", start, SAMPLE_COUNT);
    printf("%-16s %7.2f %%\n", "filter passes", 100.0 * (double)passed / SAMPLE_COUNT);

    start = now();
    for (int i = 0; i < SAMPLE_COUNT; i++)
        CHECK(packed_record(packed, prng_below(&prng, count), &record) == STATUS_OK);
    report("record", start, SAMPLE_COUNT);

    start = now();
    for (int i = 0; i < SAMPLE_COUNT; i++)
        CHECK(packed_block_bests(packed, prng_below(&prng, blocks), bests) == STATUS_OK);
    report("block bests", start, SAMPLE_COUNT);

    start = now();
    uint32_t near = u64_min(blocks, 64);
    for (int i = 0; i < SAMPLE_COUNT; i++)
        CHECK(packed_block_bests(packed, (uint32_t)i % near, bests) == STATUS_OK);
    report("  in the cache", start, SAMPLE_COUNT);

    start = now();
    for (int i = 0; i < SAMPLE_COUNT; i++) {
        uint64_t first = prng_below(&prng, blocks) / PACKED_FAN_OUT * PACKED_FAN_OUT;
        CHECK(packed_bests(packed, 0, first, PACKED_FAN_OUT, bests) == STATUS_OK);
    }
    report("sixteen bests", start, SAMPLE_COUNT);

    struct sum sum;
    start = now();
    for (int i = 0; i < SAMPLE_COUNT / 100; i++)
        CHECK(packed_sum(packed, prng_below(&prng, count / 2), count - i, &sum) == STATUS_OK);
    report("sum", start, SAMPLE_COUNT / 100);
}

int main(int argument_count, char **arguments)
{
    if (argument_count < 2) {
        fprintf(stderr, "usage: engine_packed FILE.tsv [random]\n");
        return 2;
    }
    heap_init(&heap, 0);
    struct data data = {0};
    struct buf file;
    struct packed *packed = NULL;
    buf_init(&data.words, &heap);
    buf_init(&file, &heap);
    load(&data, arguments[1]);
    order_versions(&data, argument_count > 2 && strcmp(arguments[2], "random") == 0);

    double start = now();
    struct dictionary *dictionary = train(&data);
    printf("keys %zu, trained in %.2f s\n", data.count, now() - start);
    build(&data, dictionary, &file);
    CHECK(packed_open(&heap, buf_slice(&file), &packed) == STATUS_OK);
    print_sections(packed, buf_slice(&file));
    measure(&data, packed);

    packed_close(packed);
    dictionary_destroy(dictionary);
    buf_deinit(&file);
    buf_deinit(&data.words);
    free(data.ends);
    free(data.scores);
    free(data.order);
    return 0;
}
