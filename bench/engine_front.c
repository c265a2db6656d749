/* Measures the key index of a packed trie on a file of keys, one a line or TSV with the key
 * first. Prints one line a figure: set, what, value. */
#include <stdio.h>
#include <stdlib.h>

#include "engine_data.h"

#include "base/buf.h"
#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/math.h"
#include "base/prng.h"
#include "core/front.h"
#include "core/pages.h"

enum { QUERY_COUNT = 200000, ROUNDS = 5, SAMPLE_BYTES = 3 << 20 };

static const char *set_name;

static void report(const char *what, double value)
{
    printf("%s\t%s\t%.4g\n", set_name, what, value);
}

/* The sections in one allocation with checksums, as a file would hold them. */
struct image {
    uint8_t *bytes;
    uint8_t *checksums;
    size_t size;
    struct slice sections[FRONT_SECTION_COUNT];
};

static struct image image_make(const struct slice sections[FRONT_SECTION_COUNT])
{
    struct image image = {.size = 0};
    for (int i = 0; i < FRONT_SECTION_COUNT; i++) image.size += sections[i].size;
    image.bytes = malloc(image.size);
    image.checksums = malloc((image.size / PAGES_BYTES + 1) * 4);
    CHECK(image.bytes != NULL && image.checksums != NULL);
    uint8_t *to = image.bytes;
    for (int i = 0; i < FRONT_SECTION_COUNT; i++) {
        if (sections[i].size != 0) memcpy(to, sections[i].data, sections[i].size);
        image.sections[i] = (struct slice){to, sections[i].size};
        to += sections[i].size;
    }
    for (size_t at = 0; at < image.size; at += PAGES_BYTES)
        store_u32le(image.checksums + at / PAGES_BYTES * 4,
                    crc32c(0, image.bytes + at, size_min(PAGES_BYTES, image.size - at)));
    return image;
}

static void report_sizes(const struct engine_words *words, const struct slice *sections)
{
    static const char *const names[] = {"header B/key", "dictionary B/key", "index B/key",
                                        "offsets B/key", "keys B/key"};
    size_t total = 0;
    for (int i = 0; i < FRONT_SECTION_COUNT; i++) {
        report(names[i], (double)sections[i].size / (double)words->count);
        total += sections[i].size;
    }
    report("all B/key", (double)total / (double)words->count);
}

static double median(double *values)
{
    for (int i = 1; i < ROUNDS; i++) {
        for (int j = i; j > 0 && values[j] < values[j - 1]; j--) {
            double value = values[j];
            values[j] = values[j - 1];
            values[j - 1] = value;
        }
    }
    return values[ROUNDS / 2];
}

static void measure(struct heap *heap, const struct engine_words *words, const struct front *front)
{
    static uint32_t queries[QUERY_COUNT];
    double ranks[ROUNDS], selects[ROUNDS], prefixes[ROUNDS], scans[ROUNDS], backs[ROUNDS];
    struct prng prng = {.state = 42};
    struct buf key;
    struct front_iterator *iterator;
    uint64_t low, high, wrong = 0;
    bool exact;

    buf_init(&key, heap);
    CHECK(front_iterator_create(heap, front, &iterator) == STATUS_OK);
    for (size_t i = 0; i < QUERY_COUNT; i++) queries[i] = prng_below(&prng, (uint32_t)words->count);
    for (int round = 0; round < ROUNDS; round++) {
        double start = engine_now_s();
        for (size_t i = 0; i < QUERY_COUNT; i++) {
            enum status status = front_rank(front, words->items[queries[i]].key, &low, &exact);
            wrong += status != STATUS_OK || !exact || low != queries[i];
        }
        ranks[round] = (engine_now_s() - start) / QUERY_COUNT * 1e9;

        start = engine_now_s();
        for (size_t i = 0; i < QUERY_COUNT; i++) {
            enum status status = front_key(front, queries[i], &key);
            wrong += status != STATUS_OK || key.size != words->items[queries[i]].key.size;
        }
        selects[round] = (engine_now_s() - start) / QUERY_COUNT * 1e9;

        start = engine_now_s();
        for (size_t i = 0; i < QUERY_COUNT; i++) {
            struct slice prefix = words->items[queries[i]].key;
            prefix.size = size_min(prefix.size, 4);
            wrong += front_prefix(front, prefix, &low, &high) != STATUS_OK || low >= high;
        }
        prefixes[round] = (engine_now_s() - start) / QUERY_COUNT * 1e9;

        start = engine_now_s();
        enum status status = front_iterator_seek(iterator, 0);
        size_t bytes = 0;
        while (status == STATUS_OK) {
            bytes += front_iterator_key(iterator).size;
            status = front_iterator_next(iterator);
        }
        wrong += bytes != words->key_bytes;
        scans[round] = (engine_now_s() - start) / (double)words->count * 1e9;

        start = engine_now_s();
        status = front_iterator_seek(iterator, words->count - 1);
        for (bytes = 0; status == STATUS_OK; status = front_iterator_previous(iterator))
            bytes += front_iterator_key(iterator).size;
        wrong += bytes != words->key_bytes;
        backs[round] = (engine_now_s() - start) / (double)words->count * 1e9;
    }
    CHECK(wrong == 0);
    report("lookup ns", median(ranks));
    report("select ns", median(selects));
    report("prefix of 4 ns", median(prefixes));
    report("scan ns/key", median(scans));
    report("scan back ns/key", median(backs));
    front_iterator_destroy(iterator);
    buf_deinit(&key);
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: engine_front KEYS [SAMPLE_BYTES]\n");
        return 2;
    }
    set_name = argv[1];
    struct heap heap;
    heap_init(&heap, 0);
    struct engine_words words;
    engine_words_read(&words, &heap, argv[1], ENGINE_KEY_PLAIN);
    size_t sample_bytes = argc > 2 ? strtoull(argv[2], NULL, 10) : SAMPLE_BYTES;

    double start = engine_now_s();
    struct dictionary *dictionary = engine_train(&words, &heap, sample_bytes);
    report("train s", engine_now_s() - start);

    struct front_builder *builder;
    struct slice sections[FRONT_SECTION_COUNT];
    CHECK(front_builder_create(&heap, dictionary, &builder) == STATUS_OK);
    start = engine_now_s();
    for (size_t i = 0; i < words.count; i++)
        CHECK(front_builder_add(builder, words.items[i].key) == STATUS_OK);
    CHECK(front_builder_finish(builder, sections) == STATUS_OK);
    report("encode M keys/s", (double)words.count / (engine_now_s() - start) / 1e6);
    report_sizes(&words, sections);

    struct image image = image_make(sections);
    struct pages pages;
    struct front *front;
    CHECK(pages_init(&pages, &heap, slice_of(image.bytes, image.size), image.checksums) ==
          STATUS_OK);
    CHECK(front_open(&heap, &pages, image.sections, &front) == STATUS_OK);
    measure(&heap, &words, front);

    front_close(front);
    pages_deinit(&pages, &heap);
    front_builder_destroy(builder);
    dictionary_destroy(dictionary);
    engine_words_deinit(&words);
    return 0;
}
