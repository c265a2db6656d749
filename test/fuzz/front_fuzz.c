/* A small front whose bytes are patched as the input says, under right checksums: every
 * question gets some answer or STATUS_CORRUPT. The input is a list of patches, each an
 * offset (u16) and what is added to the byte there. */
#include <stdio.h>

#include "core/front_image.h"
#include "core/key.h"

enum { KEY_COUNT = 2100, KEY_SIZE_MAX = 40 };

static struct front_image image;
static uint8_t *original;

static struct slice key_make(unsigned index, char text[KEY_SIZE_MAX])
{
    int size = snprintf(text, KEY_SIZE_MAX, "default%c%c%05u/%.*s", 0, 'a' + (int)(index / 100),
                        index * 7, (int)(index % 9), "usr/share");
    return (struct slice){(const uint8_t *)text, (size_t)size};
}

static void image_build(void)
{
    struct heap heap;
    struct dictionary_trainer *trainer;
    struct dictionary *dictionary;
    struct front_builder *builder;
    struct slice sections[FRONT_SECTION_COUNT];
    char text[KEY_SIZE_MAX];

    heap_init(&heap, 0);
    CHECK(dictionary_trainer_create(&heap, 8192, &trainer) == STATUS_OK);
    for (unsigned i = 0; i < 500; i++) {
        if (dictionary_trainer_add(trainer, key_make(i, text), i == 0) != STATUS_OK) break;
    }
    CHECK(dictionary_train(trainer, &dictionary) == STATUS_OK);
    CHECK(front_builder_create(&heap, dictionary, &builder) == STATUS_OK);
    for (unsigned i = 0; i < KEY_COUNT; i++)
        CHECK(front_builder_add(builder, key_make(i, text)) == STATUS_OK);
    CHECK(front_builder_finish(builder, sections) == STATUS_OK);
    front_image_init(&image, sections);
    original = malloc(image.size);
    CHECK(original != NULL);
    memcpy(original, image.bytes, image.size);
    front_builder_destroy(builder);
    dictionary_destroy(dictionary);
    dictionary_trainer_destroy(trainer);
}

static void ask_batch(const struct front *front, struct buf *key)
{
    enum { BATCH_MAX = 40 };
    uint64_t ordinals[BATCH_MAX];
    size_t ends[BATCH_MAX], count = 0;
    struct buf keys;
    buf_init(&keys, key->heap);
    for (uint64_t at = 1; at < front_count(front) && count < BATCH_MAX; at += 5)
        ordinals[count++] = at;
    if (front_keys(front, ordinals, count, key, &keys, ends) == STATUS_OK)
        CHECK(ends[count - 1] <= count * KEY_BYTES_MAX);
    buf_deinit(&keys);
}

static void ask(struct heap *heap, const struct front *front)
{
    struct buf key;
    struct front_iterator *iterator;
    char text[KEY_SIZE_MAX];
    uint64_t low, high;
    bool exact;

    buf_init(&key, heap);
    CHECK(front_iterator_create(heap, front, &iterator) == STATUS_OK);
    uint64_t stride = front_count(front) / 16 + 1;
    for (uint64_t at = 0; at < front_count(front) && at <= front_count(front) - stride;
         at += stride) {
        struct slice query = key_make((unsigned)(at % KEY_COUNT), text);
        if (front_rank(front, query, &low, &exact) == STATUS_OK) CHECK(low <= front_count(front));
        if (front_prefix(front, slice_prefix(query, query.size / 2), &low, &high) == STATUS_OK)
            CHECK(low <= high && high <= front_count(front));
        front_prefetch(front, at);
        if (front_key(front, at, &key) == STATUS_OK) CHECK(key.size <= KEY_BYTES_MAX);
        if (front_iterator_seek(iterator, at) != STATUS_OK) continue;
        for (int i = 0; i < 40; i++)
            if (front_iterator_next(iterator) != STATUS_OK) break;
        if (front_iterator_seek(iterator, at) != STATUS_OK) continue;
        for (int i = 0; i < 40; i++)
            if (front_iterator_previous(iterator) != STATUS_OK) break;
    }
    front_iterator_destroy(iterator);
    ask_batch(front, &key);
    buf_deinit(&key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (original == NULL) image_build();
    memcpy(image.bytes, original, image.size);
    for (size_t at = 0; at + 3 <= size; at += 3)
        image.bytes[load_u16le(data + at) % image.size] += data[at + 2];
    front_image_seal(&image);

    struct heap heap;
    struct pages pages;
    struct front *front;
    heap_init(&heap, 0);
    CHECK(pages_init(&pages, &heap, front_image_slice(&image), image.checksums) == STATUS_OK);
    if (front_open(&heap, &pages, image.sections, &front) == STATUS_OK) {
        ask(&heap, front);
        front_close(front);
    }
    pages_deinit(&pages, &heap);
    CHECK(heap_used_bytes(&heap) == 0);
    return 0;
}
