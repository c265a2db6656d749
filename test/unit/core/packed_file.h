/* A packed trie made in memory, for tests of what lies on packed tries. */
#pragma once

#include <stdlib.h>
#include <string.h>

#include "core/dictionary.h"
#include "core/packed.h"
#include "test.h"

struct packed_file {
    struct heap *heap;
    struct packed_builder *builder;
    struct dictionary *dictionary;
    uint8_t *bytes; /* Aligned as a mapping is. */
    size_t size;
    struct buf buf;
    struct packed *packed;
};

static inline enum status packed_file_write(void *context, const void *data, size_t size)
{
    struct buf *buf = context;
    buf_append(buf, data, size);
    return buf_status(buf);
}

static inline void packed_file_begin(struct packed_file *file, struct heap *heap, uint64_t seed)
{
    struct dictionary_trainer *trainer;
    *file = (struct packed_file){.heap = heap, .buf = {.heap = heap}};
    EXPECT(dictionary_trainer_create(heap, 1024, &trainer) == STATUS_OK);
    EXPECT(dictionary_train(trainer, &file->dictionary) == STATUS_OK);
    dictionary_trainer_destroy(trainer);
    EXPECT(packed_builder_create(heap, file->dictionary, seed, &file->builder) == STATUS_OK);
}

static inline void packed_file_add(struct packed_file *file, struct slice key,
                                   const struct record *record)
{
    EXPECT(packed_builder_add(file->builder, key, record) == STATUS_OK);
}

static inline void packed_file_finish(struct packed_file *file)
{
    struct packed_sink sink = {packed_file_write, &file->buf};
    EXPECT(packed_builder_finish(file->builder, &sink) == STATUS_OK);
    packed_builder_destroy(file->builder);
    dictionary_destroy(file->dictionary);

    file->size = file->buf.size;
    file->bytes = aligned_alloc(PACKED_PAGE_BYTES, (file->size + PACKED_PAGE_BYTES - 1) &
                                                       ~(size_t)(PACKED_PAGE_BYTES - 1));
    memcpy(file->bytes, file->buf.data, file->size);
    buf_deinit(&file->buf);
    EXPECT(packed_open(file->heap, slice_of(file->bytes, file->size), &file->packed) == STATUS_OK);
}

static inline void packed_file_deinit(struct packed_file *file)
{
    packed_close(file->packed);
    free(file->bytes);
}
