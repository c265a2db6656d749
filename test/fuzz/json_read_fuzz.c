/* Any bytes as the body of a write: judged as jansson does. */
#include "proto/json_oracle.h"

#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct heap heap;
    heap_init(&heap, 0);
    CHECK(oracle_agrees(slice_of(data, size), &heap));
    CHECK(heap_used_bytes(&heap) == 0);
    return 0;
}
