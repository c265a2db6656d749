/* Measures queries over layers: engine_query FILE.tsv [STACK [LENGTH | PREFIXES]], with a word, a
 * tab and a score a line. With a stack (memory, packed, eight) only that one, with real scores;
 * with a length only prefixes so long, with a file of prefixes only the first of those: few
 * enough instructions for a profile.
 *
 * Three stacks of the same words: one memory trie; one packed trie; eight packed tries in
 * which 30 % of the words were overwritten by a newer one. Each with the scores of the file
 * and with equal ones. Prefixes are cut from random words; a figure is the mean of a length,
 * in microseconds of the processor, the least of three rounds. */
#include <stdio.h>
#include <stdlib.h>

#include "engine_data.h"

#include "base/check.h"
#include "base/math.h"
#include "base/prng.h"
#include "core/dictionary.h"
#include "core/key.h"
#include "core/query.h"

enum {
    LAYER_MAX = 8,
    PREFIX_MAX = 20,
    SAMPLE_COUNT = 2000,
    ROUND_COUNT = 3,
    RESULT_COUNT = 10,
    NAMESPACE_SIZE = 8, /* "default" and its zero. */
    HASH_SEED = 1,
    DICTIONARY_SAMPLE_BYTES = 512 << 10,
};

/* Where a word is current, and where an older copy is; equal: none is. */
struct place {
    unsigned layer, stale_layer;
};

struct data {
    struct heap heap;
    struct engine_words words;
    struct place *places; /* Of each word. */
};

static struct record record_of(const struct engine_word *word, bool equal)
{
    struct version version = {(UINT64_C(1700000000000) << 16) + word->line, 1};
    return record_of_set(version, equal ? 1 : word->score);
}

/* --- Stacks --- */

struct stack {
    struct layer layers[LAYER_MAX];
    size_t layer_count;
    struct memtrie trie;
    struct overlay_space space;
    struct engine_file files[LAYER_MAX];
};

static bool is_in(const struct place *place, unsigned layer)
{
    return place->layer == layer || place->stale_layer == layer;
}

static void pack_layer(struct data *data, struct stack *stack, unsigned index,
                       const struct dictionary *dictionary, bool equal)
{
    struct packed_builder *builder;
    CHECK(packed_builder_create(&data->heap, dictionary, HASH_SEED, &builder) == STATUS_OK);
    for (size_t i = 0; i < data->words.count; i++) {
        const struct engine_word *word = &data->words.items[i];
        struct record record = record_of(word, equal);
        if (!is_in(&data->places[i], index)) continue;
        CHECK(packed_builder_add(builder, word->key, &record) == STATUS_OK);
    }
    engine_file_open(&stack->files[index], &data->heap, builder);
}

static void kill_stale(struct data *data, struct stack *stack, unsigned index)
{
    struct layer *layer = &stack->layers[index];
    uint64_t ordinal = 0;
    for (size_t i = 0; i < data->words.count; i++) {
        const struct place *place = &data->places[i];
        if (!is_in(place, index)) continue;
        if (place->layer != index)
            CHECK(overlay_kill(&stack->space, layer->packed, &layer->overlay, ordinal,
                               (struct sum){1, 1}) == STATUS_OK);
        ordinal++;
    }
}

static void pack(struct data *data, struct stack *stack, unsigned layer_count, bool equal)
{
    struct prng prng = {.state = 3};
    struct dictionary *dictionary =
        engine_train(&data->words, &data->heap, DICTIONARY_SAMPLE_BYTES);
    CHECK(overlay_space_init(&stack->space, &data->heap) == STATUS_OK);
    for (size_t i = 0; i < data->words.count; i++) {
        struct place *place = &data->places[i];
        place->layer = place->stale_layer = prng_below(&prng, layer_count);
        if (layer_count > 1 && prng_below(&prng, 10) < 3)
            place->stale_layer = (place->layer + 1) % layer_count;
    }
    stack->layer_count = layer_count;
    for (unsigned i = 0; i < layer_count; i++) {
        pack_layer(data, stack, i, dictionary, equal);
        stack->layers[i] =
            (struct layer){.packed = stack->files[i].packed, .overlays = &stack->space};
        kill_stale(data, stack, i);
    }
    dictionary_destroy(dictionary);
}

static void unpack(struct data *data, struct stack *stack)
{
    for (size_t i = 0; i < stack->layer_count; i++) engine_file_close(&stack->files[i]);
    overlay_space_deinit(&stack->space);
}

static void insert(struct data *data, struct stack *stack, bool equal)
{
    struct layer *layer = &stack->layers[0];
    CHECK(memtrie_init(&stack->trie, &data->heap, HASH_SEED) == STATUS_OK);
    *layer = (struct layer){.memtrie = &stack->trie};
    stack->layer_count = 1;
    uint32_t *order = engine_shuffled(data->words.count);
    for (size_t i = 0; i < data->words.count; i++) {
        struct record record = record_of(&data->words.items[order[i]], equal);
        CHECK(memtrie_put(&stack->trie, &layer->root, data->words.items[order[i]].key, &record) ==
              STATUS_OK);
    }
    free(order);
}

/* --- Figures --- */

static enum status take(void *context, struct slice key, const struct record *record)
{
    *(double *)context += record->score + (double)key.size;
    return STATUS_OK;
}

static enum status take_place(void *context, struct slice key, struct best best)
{
    *(double *)context += (double)best.created_node + (double)key.size;
    return STATUS_OK;
}

enum question { BEST, WORDS, COUNT, SCAN };

static void ask(const struct query *query, enum question question, struct slice prefix,
                double *total)
{
    uint64_t count = 0;
    enum status status;
    bool more;
    if (question == WORDS)
        status = query_best_places(query, prefix, RESULT_COUNT, NULL, take_place, total, &more);
    else if (question == BEST)
        status = query_best(query, prefix, RESULT_COUNT, NULL, take, total);
    else if (question == COUNT)
        status = query_count(query, prefix, &count);
    else
        status = query_scan(query, prefix, &(struct query_from){0}, RESULT_COUNT, take, total);
    CHECK(status == STATUS_OK);
    *total += (double)count;
}

struct sample {
    struct slice prefixes[SAMPLE_COUNT];
    size_t count;
};

static void sample_words(struct sample *sample, const struct data *data, size_t size)
{
    struct prng prng = {.state = size + 10};
    sample->count = 0;
    for (int tries = 0; tries < 100 * SAMPLE_COUNT && sample->count < SAMPLE_COUNT; tries++) {
        struct slice key = data->words.items[prng_below(&prng, (uint32_t)data->words.count)].key;
        if (key.size >= NAMESPACE_SIZE + size)
            sample->prefixes[sample->count++] = slice_prefix(key, NAMESPACE_SIZE + size);
    }
}

/* The prefixes stay where they are read until the program ends. */
static void sample_file(struct sample *sample, struct heap *heap, const char *path)
{
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL);
    char *line = NULL;
    size_t capacity = 0;
    sample->count = 0;
    for (ssize_t size; sample->count < SAMPLE_COUNT && (size = getline(&line, &capacity, file)) > 0;
         sample->count++) {
        struct buf prefix;
        buf_init(&prefix, heap);
        struct slice text = slice_of(line, (size_t)size - (line[size - 1] == '\n'));
        CHECK(key_prefix(SLICE_LITERAL("default"), text, FOLD_CASE, &prefix) == STATUS_OK);
        sample->prefixes[sample->count] = buf_slice(&prefix);
    }
    free(line);
    fclose(file);
}

static double measure(const struct sample *sample, const struct query *query,
                      enum question question)
{
    if (sample->count == 0) return 0;
    double least = 1e9, total = 0;
    for (int round = 0; round < ROUND_COUNT; round++) {
        double start = engine_now_s();
        for (size_t i = 0; i < sample->count; i++)
            ask(query, question, sample->prefixes[i], &total);
        double mean = (engine_now_s() - start) / (double)sample->count * 1e6;
        if (mean < least) least = mean;
    }
    CHECK(total >= 0 || total < 0);
    return least;
}

static void report(struct data *data, struct stack *stack, const char *name, const char *only)
{
    static struct sample sample;
    bool is_file = only != NULL && (*only < '0' || *only > '9');
    size_t first = only == NULL || is_file ? 0 : (size_t)atoi(only);
    size_t last = only == NULL ? PREFIX_MAX : first;
    if (is_file) sample_file(&sample, &data->heap, only);
    struct query query = {.layers = stack->layers, .layer_count = stack->layer_count};
    query.heap = &data->heap;
    CHECK(query_scratch_create(&data->heap, &query.scratch) == STATUS_OK);
    static const char *const questions[] = {"best 10", "words 10", "count", "first 10"};
    for (int question = BEST; question <= SCAN; question++) {
        double worst = 0;
        printf("%-14s %-8s", name, questions[question]);
        for (size_t size = first; size <= last; size++) {
            if (!is_file) sample_words(&sample, data, size);
            double mean = measure(&sample, &query, (enum question)question);
            if (mean > worst) worst = mean;
            printf(" %5.2f", mean);
            fflush(stdout);
        }
        printf("  worst %.2f\n", worst);
    }
    query_scratch_destroy(query.scratch);
}

int main(int count, char **arguments)
{
    if (count < 2 || count > 4) {
        fprintf(stderr, "usage: %s FILE.tsv [memory|packed|eight [LENGTH|PREFIXES]]\n",
                arguments[0]);
        return 2;
    }
    static struct data data;
    static struct stack stack;
    const char *only = count > 2 ? arguments[2] : NULL, *length = count > 3 ? arguments[3] : NULL;
    heap_init(&data.heap, 0);
    engine_words_read(&data.words, &data.heap, arguments[1], ENGINE_KEY_ENCODED);
    data.places = calloc(data.words.count + 1, sizeof *data.places);
    CHECK(data.places != NULL);
    printf("%zu words; microseconds by length of prefix, 0 to %d\n", data.words.count, PREFIX_MAX);
    for (int equal = 0; equal < (only == NULL ? 2 : 1); equal++) {
        if (only == NULL || strcmp(only, "memory") == 0) {
            insert(&data, &stack, equal);
            report(&data, &stack, equal ? "memory, equal" : "memory", length);
            memtrie_deinit(&stack.trie);
        }
        if (only == NULL || strcmp(only, "packed") == 0) {
            pack(&data, &stack, 1, equal);
            report(&data, &stack, equal ? "packed, equal" : "packed", length);
            unpack(&data, &stack);
        }
        if (only == NULL || strcmp(only, "eight") == 0) {
            pack(&data, &stack, LAYER_MAX, equal);
            report(&data, &stack, equal ? "eight, equal" : "eight", length);
            unpack(&data, &stack);
        }
    }
    engine_words_deinit(&data.words);
    free(data.places);
    return 0;
}
