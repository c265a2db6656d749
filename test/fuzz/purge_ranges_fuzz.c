/* Any bytes as what a node keeps of purge: what is read is written as the same bytes. */
#include "base/check.h"
#include "cluster/purge_ranges.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct heap heap;
    struct purge_ranges ranges;
    heap_init(&heap, 0);
    if (purge_ranges_init(&ranges, &heap) != STATUS_OK) return 0;
    if (purge_ranges_decode(&ranges, slice_of(data, size)) == STATUS_OK) {
        struct buf again;
        buf_init(&again, &heap);
        purge_ranges_encode(&ranges, &again);
        CHECK(slice_equal(buf_slice(&again), slice_of(data, size)));
        buf_deinit(&again);
    }
    purge_ranges_deinit(&ranges);
    return 0;
}
