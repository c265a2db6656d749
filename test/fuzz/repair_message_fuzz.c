/* Any bytes as a message of repair: what is read is written as the same bytes. */
#include "base/check.h"
#include "cluster/repair_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct repair_message message;
    struct heap heap;
    struct buf again, lists;
    heap_init(&heap, 0);
    buf_init(&again, &heap);
    buf_init(&lists, &heap);
    if (repair_message_decode(slice_of(data, size), &lists, &message) == STATUS_OK) {
        repair_message_encode(&message, &again);
        CHECK(slice_equal(buf_slice(&again), slice_of(data, size)));
    }
    buf_deinit(&again);
    buf_deinit(&lists);
    return 0;
}
