/* Any text as a cursor, and any bytes as a cursor whose tag is right: what is taken is
 * written again as it was. */
#include <xxhash.h>

#include "base/check.h"
#include "proto/base64.h"
#include "proto/cursor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_text(struct slice text, struct heap *heap)
{
    struct buf scratch, again;
    struct cursor cursor;
    buf_init(&scratch, heap);
    buf_init(&again, heap);
    if (cursor_decode(text, 9, &scratch, &cursor) == STATUS_OK) {
        cursor_encode(&cursor, 9, &again);
        CHECK(slice_equal(buf_slice(&again), text));
    }
    buf_deinit(&scratch);
    buf_deinit(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct heap heap;
    struct buf bytes, text;
    heap_init(&heap, 0);
    buf_init(&bytes, &heap);
    buf_init(&text, &heap);
    try_text(slice_of(data, size), &heap);

    buf_append(&bytes, data, size);
    buf_append_u64le(&bytes, XXH3_64bits_withSeed(data, size, 9));
    base64_encode(BASE64_URL, buf_slice(&bytes), &text);
    try_text(buf_slice(&text), &heap);
    buf_deinit(&bytes);
    buf_deinit(&text);
    CHECK(heap_used_bytes(&heap) == 0);
    return 0;
}
