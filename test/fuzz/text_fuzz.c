/* Any bytes as base64, as a number and as a string to write: what is read is written back,
 * and what is written is text. */
#include "base/check.h"
#include "proto/base64.h"
#include "proto/json_write.h"
#include "proto/number.h"
#include "proto/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_base64(enum base64 variant, struct slice text, struct heap *heap)
{
    struct buf bytes, again;
    buf_init(&bytes, heap);
    buf_init(&again, heap);
    if (base64_decode(variant, text, &bytes) == STATUS_OK) {
        base64_encode(variant, buf_slice(&bytes), &again);
        CHECK(slice_equal(buf_slice(&again), text));
    }
    buf_deinit(&bytes);
    buf_deinit(&again);
}

static void try_number(struct slice text)
{
    double value, again;
    uint8_t written[NUMBER_BYTES_MAX];
    if (number_parse(text, &value) != STATUS_OK) return;
    size_t size = number_put(value, written);
    CHECK(number_parse(slice_of(written, size), &again) == STATUS_OK);
    CHECK(memcmp(&value, &again, sizeof value) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct heap heap;
    struct buf out;
    struct slice text = slice_of(data, size);
    heap_init(&heap, 0);
    try_base64(BASE64_PADDED, text, &heap);
    try_base64(BASE64_URL, text, &heap);
    try_number(text);

    buf_init(&out, &heap);
    struct json_writer writer = json_writer_of(&out);
    json_write_string(&writer, text);
    CHECK(utf8_is_valid(buf_slice(&out)));
    buf_deinit(&out);
    CHECK(heap_used_bytes(&heap) == 0);
    return 0;
}
