/* Any bytes as a message of a transfer: what is read is written as the same bytes. */
#include "base/check.h"
#include "cluster/transfer_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct transfer_message message;
    if (transfer_message_decode(slice_of(data, size), &message) != STATUS_OK) return 0;

    struct heap heap;
    struct buf again;
    heap_init(&heap, 0);
    buf_init(&again, &heap);
    transfer_message_encode(&message, &again);
    CHECK(slice_equal(buf_slice(&again), slice_of(data, size)));
    buf_deinit(&again);
    return 0;
}
