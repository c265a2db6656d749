/* Any bytes as a token: what is read is written as the same bytes, and can be added to. */
#include "base/check.h"
#include "cluster/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct token token;
    if (token_decode(slice_of(data, size), &token) != STATUS_OK) return 0;
    CHECK(size <= TOKEN_BYTES_MAX);

    struct heap heap;
    struct buf again;
    heap_init(&heap, 0);
    buf_init(&again, &heap);
    token_encode(&token, &again);
    CHECK(slice_equal(buf_slice(&again), slice_of(data, size)));

    struct token sum = {0}, decoded;
    for (size_t i = 0; i < token.count; i++) token_add(&sum, &token.groups[i]);
    for (size_t i = 0; i < token.count; i++) token_add(&token, &token.groups[i]);
    buf_clear(&again);
    token_encode(&sum, &again);
    CHECK(token_decode(buf_slice(&again), &decoded) == STATUS_OK);
    buf_deinit(&again);
    return 0;
}
