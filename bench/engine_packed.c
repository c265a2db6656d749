/* Measures the packed trie: engine_packed FILE.tsv [random], with a word, a tab and a score
 * a line, words ascending.
 *
 * The records are plain; their versions ascend in the order of the words, as one import
 * makes them, or in random order, as single writes do. 50 versions a millisecond. Times
 * are of the processor. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_data.h"

#include "base/check.h"
#include "base/math.h"
#include "base/prng.h"
#include "core/dictionary.h"
#include "core/packed.h"
#include "core/packed_format.h"

enum {
    VERSIONS_PER_MS = 50,
    SAMPLE_COUNT = 300000,
    TRAIN_BYTES = 4 << 20,
};

struct data {
    struct heap heap;
    struct engine_words words;
    uint32_t *order; /* Position of each word's version. */
};

static struct slice word_at(const struct data *data, size_t index)
{
    return data->words.items[index].key;
}

static void order_versions(struct data *data, bool random)
{
    data->order = engine_shuffled(data->words.count);
    for (size_t i = 0; !random && i < data->words.count; i++) data->order[i] = (uint32_t)i;
}

static void build(struct data *data, const struct dictionary *dictionary, struct engine_file *file)
{
    struct packed_builder *builder = NULL;
    double start = engine_now_s();
    CHECK(packed_builder_create(&data->heap, dictionary, 1, &builder) == STATUS_OK);
    for (size_t i = 0; i < data->words.count; i++) {
        uint64_t ms = UINT64_C(1700000000000) + data->order[i] / VERSIONS_PER_MS;
        hlc_time time = ms << HLC_COUNTER_BITS | data->order[i] % VERSIONS_PER_MS;
        struct record record = record_of_set((struct version){time, 1}, data->words.items[i].score);
        CHECK(packed_builder_add(builder, word_at(data, i), &record) == STATUS_OK);
    }
    engine_file_open(file, &data->heap, builder);
    printf("build          %8.2f M keys/s\n",
           (double)data->words.count / (engine_now_s() - start) / 1e6);
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
    printf("%-16s %7.0f ns\n", what, (engine_now_s() - start) * 1e9 / (double)count);
}

static void measure(const struct data *data, const struct packed *packed)
{
    struct prng prng = {.state = 7};
    uint32_t count = (uint32_t)data->words.count, blocks = (uint32_t)packed_best_count(packed, 0);
    uint64_t ordinal = 0;
    struct record record;
    struct best bests[PACKED_BLOCK];

    double start = engine_now_s();
    for (int i = 0; i < SAMPLE_COUNT; i++)
        CHECK(packed_find(packed, word_at(data, prng_below(&prng, count)), &ordinal) == STATUS_OK);
    report("find", start, SAMPLE_COUNT);

    uint64_t passed = 0;
    start = engine_now_s();
    for (int i = 0; i < SAMPLE_COUNT; i++) {
        struct slice word = word_at(data, prng_below(&prng, count));
        uint64_t hash = packed_key_hash(slice_prefix(word, word.size - 1)) + 1;
        passed += packed_find_hashed(packed, word, hash, &ordinal) == STATUS_OK;
    }
    report("find, absent", start, SAMPLE_COUNT);
    printf("%-16s %7.2f %%\n", "filter passes", 100.0 * (double)passed / SAMPLE_COUNT);

    start = engine_now_s();
    for (int i = 0; i < SAMPLE_COUNT; i++)
        CHECK(packed_record(packed, prng_below(&prng, count), &record) == STATUS_OK);
    report("record", start, SAMPLE_COUNT);

    start = engine_now_s();
    for (int i = 0; i < SAMPLE_COUNT; i++)
        CHECK(packed_block_bests(packed, prng_below(&prng, blocks), bests) == STATUS_OK);
    report("block bests", start, SAMPLE_COUNT);

    start = engine_now_s();
    uint32_t near = u64_min(blocks, 64);
    for (int i = 0; i < SAMPLE_COUNT; i++)
        CHECK(packed_block_bests(packed, (uint32_t)i % near, bests) == STATUS_OK);
    report("  in the cache", start, SAMPLE_COUNT);

    start = engine_now_s();
    for (int i = 0; i < SAMPLE_COUNT; i++) {
        uint64_t first = prng_below(&prng, blocks) / PACKED_FAN_OUT * PACKED_FAN_OUT;
        CHECK(packed_bests(packed, 0, first, PACKED_FAN_OUT, bests) == STATUS_OK);
    }
    report("sixteen bests", start, SAMPLE_COUNT);

    struct sum sum;
    start = engine_now_s();
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
    static struct data data;
    struct engine_file file;
    heap_init(&data.heap, 0);
    engine_words_read(&data.words, &data.heap, arguments[1], ENGINE_KEY_PLAIN);
    order_versions(&data, argument_count > 2 && strcmp(arguments[2], "random") == 0);

    double start = engine_now_s();
    struct dictionary *dictionary = engine_train(&data.words, &data.heap, TRAIN_BYTES);
    printf("keys %zu, trained in %.2f s\n", data.words.count, engine_now_s() - start);
    build(&data, dictionary, &file);
    print_sections(file.packed, slice_of(file.bytes, file.size));
    measure(&data, file.packed);

    engine_file_close(&file);
    dictionary_destroy(dictionary);
    engine_words_deinit(&data.words);
    free(data.order);
    return 0;
}
