/* Any bytes as a message of the data protocol: what is read is written as the same bytes, and its
 * lists can be walked. */
#include "base/check.h"
#include "cluster/data_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk_lists(const struct data_message *message)
{
    struct slice rest = message->entries;
    struct request_entry entry;
    uint64_t count = 0;
    while (data_entry_next(&rest, &entry)) {
        CHECK(entry.key.size > 0 && record_is_canonical(&entry.record));
        count++;
    }
    CHECK(count == message->entry_count && rest.size == 0);

    struct key_range range;
    rest = message->ranges;
    for (count = 0; data_range_next(&rest, &range); count++) continue;
    CHECK(count == message->range_count && rest.size == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct data_message message;
    if (data_message_decode(slice_of(data, size), &message) != STATUS_OK) return 0;
    walk_lists(&message);

    struct heap heap;
    struct buf again;
    heap_init(&heap, 0);
    buf_init(&again, &heap);
    data_message_encode(&message, &again);
    CHECK(slice_equal(buf_slice(&again), slice_of(data, size)));
    buf_deinit(&again);
    return 0;
}
