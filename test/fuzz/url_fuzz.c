/* Any bytes as a query: pairs lie inside of it, and what decodes comes back from its
 * escapes. */
#include "base/check.h"
#include "proto/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void round_trip(struct slice text, struct heap *heap)
{
    struct buf scratch, escaped;
    struct slice decoded, again;
    buf_init(&scratch, heap);
    buf_init(&escaped, heap);
    if (url_decode(text, &scratch, &decoded) == STATUS_OK) {
        CHECK(decoded.size <= text.size);
        url_encode(decoded, &escaped);
        CHECK(url_decode(buf_slice(&escaped), &scratch, &again) == STATUS_OK);
        CHECK(again.size <= escaped.size);
    }
    buf_deinit(&scratch);
    buf_deinit(&escaped);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct heap heap;
    struct slice query = slice_of(data, size);
    struct slice name, value;
    heap_init(&heap, 0);
    while (url_query_next(&query, &name, &value)) {
        round_trip(name, &heap);
        round_trip(value, &heap);
    }
    CHECK(heap_used_bytes(&heap) == 0);
    return 0;
}
