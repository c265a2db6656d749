#include <stdlib.h>

#include "base/buf.h"
#include "base/check.h"
#include "core/dictionary.h"
#include "core/front_format.h"
#include "core/symbols.h"

enum {
    SHARED_UNKNOWN = UINT16_MAX,
    DELTA_COUNT = 256,
    SIZE_COUNT = 256,
    HEADER_USES_MIN = 2,
};

struct dictionary_trainer {
    struct heap *heap;
    size_t sample_bytes_max;
    struct buf text;     /* Suffixes, one after the other. */
    struct buf ends;     /* u32 each: where in `text` a suffix ends. */
    struct buf steps;    /* u16 twice each: `shared`, and what its delta is counted from. */
    struct buf before;   /* The key before. */
    unsigned position;   /* Of the next key in its run. */
    unsigned shared;     /* Of the key before. */
    unsigned shared_min; /* Since the last first key of a block. */
};

enum status dictionary_trainer_create(struct heap *heap, size_t sample_bytes_max,
                                      struct dictionary_trainer **out)
{
    struct dictionary_trainer *trainer = heap_zalloc(heap, sizeof *trainer);
    if (trainer == NULL) return STATUS_NOMEM;
    trainer->heap = heap;
    trainer->sample_bytes_max = sample_bytes_max;
    buf_init(&trainer->text, heap);
    buf_init(&trainer->ends, heap);
    buf_init(&trainer->steps, heap);
    buf_init(&trainer->before, heap);
    *out = trainer;
    return STATUS_OK;
}

void dictionary_trainer_destroy(struct dictionary_trainer *trainer)
{
    if (trainer == NULL) return;
    buf_deinit(&trainer->text);
    buf_deinit(&trainer->ends);
    buf_deinit(&trainer->steps);
    buf_deinit(&trainer->before);
    heap_free(trainer->heap, trainer);
}

/* What the delta of the next key is counted from. A run is treated as if a block started
 * every 32 keys: the first key of a block has no delta, the second counts from what the
 * first shares with the first of the block before. */
static unsigned delta_base(struct dictionary_trainer *trainer, unsigned shared)
{
    unsigned in_block = trainer->position % FRONT_BLOCK;
    if (trainer->shared_min > shared) trainer->shared_min = shared;
    if (in_block == 0 || trainer->position == 1) return SHARED_UNKNOWN;
    if (in_block != 1) return trainer->shared;

    unsigned base = trainer->shared_min;
    trainer->shared_min = SHARED_UNKNOWN;
    return base;
}

enum status dictionary_trainer_add(struct dictionary_trainer *trainer, struct slice key, bool first)
{
    CHECK(key.size <= KEY_BYTES_MAX);

    size_t shared = first ? 0 : slice_common_prefix(buf_slice(&trainer->before), key);
    size_t rest = key.size - shared;
    if (!first) {
        if (trainer->text.size + rest > trainer->sample_bytes_max) return STATUS_LIMIT;
        buf_append(&trainer->text, key.data + shared, rest);
        buf_append_u32le(&trainer->ends, (uint32_t)trainer->text.size);
        buf_append_u16le(&trainer->steps, (uint16_t)shared);
        buf_append_u16le(&trainer->steps, (uint16_t)delta_base(trainer, (unsigned)shared));
        trainer->position++;
    } else {
        trainer->position = 1;
        trainer->shared_min = SHARED_UNKNOWN;
    }
    trainer->shared = (unsigned)shared;
    buf_clear(&trainer->before);
    buf_append_slice(&trainer->before, key);

    bool failed = trainer->text.failed || trainer->ends.failed || trainer->steps.failed ||
                  trainer->before.failed;
    return failed ? STATUS_NOMEM : STATUS_OK;
}

struct header_use {
    uint32_t uses;
    struct header header;
};

static int compare_header_uses(const void *a, const void *b)
{
    const struct header_use *left = a;
    const struct header_use *right = b;
    if (left->uses != right->uses) return left->uses > right->uses ? -1 : 1;
    if (left->header.delta != right->header.delta)
        return left->header.delta < right->header.delta ? -1 : 1;
    return (left->header.size > right->header.size) - (left->header.size < right->header.size);
}

/* Counts every (delta, size) of the sample. */
static void headers_count(const struct dictionary_trainer *trainer, struct parser *parser,
                          struct header_use *uses)
{
    for (size_t i = 0; i < DELTA_COUNT * SIZE_COUNT; i++) {
        struct header header = {(int8_t)(i / SIZE_COUNT), (uint8_t)(i % SIZE_COUNT)};
        uses[i] = (struct header_use){0, header};
    }
    uint32_t start = 0;
    for (size_t i = 0; i < trainer->ends.size / 4; i++) {
        uint32_t end = load_u32le(trainer->ends.data + 4 * i);
        int shared = load_u16le(trainer->steps.data + 4 * i);
        int base = load_u16le(trainer->steps.data + 4 * i + 2);
        struct slice text = {trainer->text.data + start, end - start};
        start = end;
        int delta = shared - base;
        if (base == SHARED_UNKNOWN || delta < INT8_MIN || delta > INT8_MAX) continue;
        size_t size = parser_encode(parser, text).size;
        if (size < SIZE_COUNT) uses[(uint8_t)delta * SIZE_COUNT + size].uses++;
    }
}

static enum status headers_train(const struct dictionary_trainer *trainer,
                                 struct dictionary *dictionary)
{
    struct parser *parser;
    enum status status = parser_create(trainer->heap, dictionary->symbols, &parser);
    if (status != STATUS_OK) return status;

    struct header_use *uses = heap_alloc(trainer->heap, DELTA_COUNT * SIZE_COUNT * sizeof *uses);
    if (uses == NULL) {
        parser_destroy(parser);
        return STATUS_NOMEM;
    }
    headers_count(trainer, parser, uses);

    /* Most were never used: sorting all 65,536 would cost a small file more than all else. */
    size_t used_count = 0;
    for (size_t i = 0; i < DELTA_COUNT * SIZE_COUNT; i++)
        if (uses[i].uses >= HEADER_USES_MIN) uses[used_count++] = uses[i];
    qsort(uses, used_count, sizeof *uses, compare_header_uses);
    unsigned count = 0;
    for (; count < FRONT_HEADER_ESCAPE && count < used_count; count++)
        dictionary->headers[count] = uses[count].header;
    dictionary->header_count = count;

    heap_free(trainer->heap, uses);
    parser_destroy(parser);
    return STATUS_OK;
}

enum status dictionary_train(struct dictionary_trainer *trainer, struct dictionary **out)
{
    struct dictionary *dictionary = heap_zalloc(trainer->heap, sizeof *dictionary);
    if (dictionary == NULL) return STATUS_NOMEM;
    dictionary->heap = trainer->heap;

    /* The buffer's memory is malloc's, aligned for any type. */
    const uint32_t *ends = (const uint32_t *)(const void *)trainer->ends.data;
    enum status status = symbols_train(trainer->heap, trainer->text.data, ends,
                                       trainer->ends.size / sizeof *ends, &dictionary->symbols);
    if (status == STATUS_OK) status = headers_train(trainer, dictionary);
    if (status != STATUS_OK) {
        dictionary_destroy(dictionary);
        return status;
    }
    *out = dictionary;
    return STATUS_OK;
}
