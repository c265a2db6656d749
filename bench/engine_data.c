#include "engine_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/math.h"
#include "base/prng.h"
#include "core/key.h"

enum { SAMPLE_RUN = 128 };

double engine_now_s(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* --- Words --- */

void engine_words_init(struct engine_words *words, struct heap *heap)
{
    *words = (struct engine_words){0};
    buf_init(&words->keys, heap);
}

void engine_words_add(struct engine_words *words, struct slice key, double score)
{
    if ((words->count & (words->count - 1)) == 0) {
        words->items = realloc(words->items, (words->count * 2 + 1) * sizeof *words->items);
        CHECK(words->items != NULL);
    }
    /* Where the key lies is known once all are there. */
    words->items[words->count] =
        (struct engine_word){.key.size = key.size, .score = score, .line = words->count};
    words->count++;
    buf_append_slice(&words->keys, key);
}

static int compare_words(const void *a, const void *b)
{
    const struct engine_word *x = a, *y = b;
    int order = slice_compare(x->key, y->key);
    return order != 0 ? order : (x->line > y->line) - (x->line < y->line);
}

void engine_words_sort(struct engine_words *words)
{
    CHECK(buf_status(&words->keys) == STATUS_OK);
    const uint8_t *at = words->keys.data;
    for (size_t i = 0; i < words->count; i++) {
        words->items[i].key.data = at;
        at += words->items[i].key.size;
    }
    if (words->count > 0) qsort(words->items, words->count, sizeof *words->items, compare_words);
    size_t kept = 0;
    for (size_t i = 0; i < words->count; i++)
        if (kept == 0 || !slice_equal(words->items[kept - 1].key, words->items[i].key))
            words->items[kept++] = words->items[i];
    words->count = kept;
    words->key_bytes = 0;
    for (size_t i = 0; i < kept; i++) words->key_bytes += words->items[i].key.size;
}

static void add_line(struct engine_words *words, const char *line, enum engine_key kind,
                     struct buf *key)
{
    size_t size = strcspn(line, "\t\n");
    double score = line[size] == '\t' ? strtod(line + size + 1, NULL) : 1;
    struct slice word = slice_of(line, size);
    if (kind == ENGINE_KEY_PLAIN)
        engine_words_add(words, word, score);
    else if (key_encode(SLICE_LITERAL("default"), word, FOLD_CASE, key) == STATUS_OK)
        engine_words_add(words, buf_slice(key), score);
}

void engine_words_read(struct engine_words *words, struct heap *heap, const char *path,
                       enum engine_key kind)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    struct buf key;
    char *line = NULL;
    size_t capacity = 0;
    buf_init(&key, heap);
    engine_words_init(words, heap);
    while (getline(&line, &capacity, file) > 0) add_line(words, line, kind, &key);
    free(line);
    fclose(file);
    buf_deinit(&key);
    engine_words_sort(words);
}

void engine_words_deinit(struct engine_words *words)
{
    buf_deinit(&words->keys);
    free(words->items);
}

uint32_t *engine_shuffled(size_t count)
{
    struct prng prng = {.state = 1};
    uint32_t *order = malloc((count + 1) * sizeof *order);
    CHECK(order != NULL);
    for (size_t i = 0; i < count; i++) {
        size_t j = prng_below(&prng, (uint32_t)i + 1);
        order[i] = order[j];
        order[j] = (uint32_t)i;
    }
    return order;
}

/* --- Files --- */

struct dictionary *engine_train(const struct engine_words *words, struct heap *heap,
                                size_t sample_bytes)
{
    size_t suffixes = 0;
    for (size_t i = 1; i < words->count; i++)
        suffixes += words->items[i].key.size -
                    slice_common_prefix(words->items[i - 1].key, words->items[i].key);
    size_t stride = SAMPLE_RUN * (suffixes / sample_bytes + 1);

    struct dictionary_trainer *trainer;
    struct dictionary *dictionary;
    CHECK(dictionary_trainer_create(heap, sample_bytes, &trainer) == STATUS_OK);
    for (size_t i = 0; i < words->count; i++) {
        if (i % stride >= SAMPLE_RUN) continue;
        enum status status = dictionary_trainer_add(trainer, words->items[i].key, i % stride == 0);
        if (status == STATUS_LIMIT) break;
        CHECK(status == STATUS_OK);
    }
    CHECK(dictionary_train(trainer, &dictionary) == STATUS_OK);
    dictionary_trainer_destroy(trainer);
    return dictionary;
}

static enum status append(void *context, const void *data, size_t size)
{
    buf_append(context, data, size);
    return buf_status(context);
}

void engine_file_open(struct engine_file *file, struct heap *heap, struct packed_builder *builder)
{
    struct buf bytes;
    buf_init(&bytes, heap);
    struct packed_sink sink = {append, &bytes};
    CHECK(packed_builder_finish(builder, &sink) == STATUS_OK);
    packed_builder_destroy(builder);

    file->size = bytes.size;
    file->bytes = aligned_alloc(PACKED_PAGE_BYTES, u64_align(bytes.size, PACKED_PAGE_BYTES));
    CHECK(file->bytes != NULL);
    memcpy(file->bytes, bytes.data, bytes.size);
    buf_deinit(&bytes);
    CHECK(packed_open(heap, slice_of(file->bytes, file->size), &file->packed) == STATUS_OK);
}

void engine_file_close(struct engine_file *file)
{
    packed_close(file->packed);
    free(file->bytes);
}
