/* Any bytes as a key, and as a word under each fold: what decodes is whole, and every word
 * comes back from its key. */
#include "base/check.h"
#include "core/key.h"

static void decode(struct slice input, struct heap *heap)
{
    struct buf word;
    struct slice name;
    buf_init(&word, heap);
    if (key_decode(input, &name, &word) == STATUS_OK) {
        CHECK(key_namespace_is_valid(name));
        CHECK(key_word_is_valid(buf_slice(&word)));
        CHECK(key_decode_folded(input, &word) == STATUS_OK);
    }
    buf_deinit(&word);
}

static void round_trip(struct slice input, enum fold fold, struct heap *heap)
{
    struct buf key, word;
    struct slice name;
    buf_init(&key, heap);
    buf_init(&word, heap);
    if (key_encode(SLICE_LITERAL("n"), input, fold, &key) == STATUS_OK) {
        CHECK(key_decode(buf_slice(&key), &name, &word) == STATUS_OK);
        CHECK(slice_equal(buf_slice(&word), input));
        CHECK(slice_equal(name, SLICE_LITERAL("n")));
    }
    buf_deinit(&key);
    buf_deinit(&word);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice input = slice_of(data, size);
    struct heap heap;
    heap_init(&heap, 0);
    decode(input, &heap);
    for (enum fold fold = 0; fold < FOLD_COUNT; fold++) round_trip(input, fold, &heap);
    CHECK(heap_used_bytes(&heap) == 0);
    return 0;
}
