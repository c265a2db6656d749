#include "cluster/outbox.h"

#include "test.h"

TEST_CASE(messages_come_out_in_order_with_their_protocol)
{
    struct heap heap;
    heap_init(&heap, 0);
    struct outbox outbox;
    outbox_init(&outbox, &heap);

    buf_append_text(outbox_begin(&outbox, 3, PROTOCOL_HEALTH), "ping");
    outbox_end(&outbox, false);
    buf_append_text(outbox_begin(&outbox, 9, PROTOCOL_REGISTER), "promise");
    outbox_end(&outbox, true);

    EXPECT(outbox.count == 2);
    EXPECT(outbox.messages[0].to == 3 && !outbox.messages[0].durable);
    EXPECT(slice_equal(outbox_bytes(&outbox, 0), SLICE_LITERAL("\x01ping")));
    EXPECT(outbox.messages[1].to == 9 && outbox.messages[1].durable);
    EXPECT(slice_equal(outbox_bytes(&outbox, 1), SLICE_LITERAL("\x02promise")));

    outbox_clear(&outbox);
    EXPECT(outbox.count == 0);
    outbox_deinit(&outbox);
    EXPECT(heap_used_bytes(&heap) == 0);
}

/* Each allocation fails once: the message it was for is lost, and no other. */
TEST_CASE(a_message_without_memory_is_dropped_whole)
{
    enum { MESSAGES = 40 };
    for (int64_t after = 0; after < 6; after++) {
        struct heap heap;
        heap_init(&heap, 0);
        struct outbox outbox;
        outbox_init(&outbox, &heap);
        heap.failure_after = after;
        for (int i = 0; i < MESSAGES; i++) {
            buf_append_varint(outbox_begin(&outbox, 1, PROTOCOL_DATA), (uint64_t)i);
            outbox_end(&outbox, false);
        }
        EXPECT(outbox.count + outbox.dropped_count == MESSAGES);
        EXPECT(outbox.dropped_count <= 1);
        int expected = 0;
        for (size_t i = 0; i < outbox.count; i++) {
            struct slice bytes = outbox_bytes(&outbox, i);
            EXPECT(bytes.size == 2 && bytes.data[0] == PROTOCOL_DATA);
            EXPECT(bytes.data[1] == expected || bytes.data[1] == expected + 1);
            expected = bytes.data[1] + 1;
        }
        outbox_deinit(&outbox);
        EXPECT(heap_used_bytes(&heap) == 0);
    }
}

TEST_MAIN(TEST(messages_come_out_in_order_with_their_protocol),
          TEST(a_message_without_memory_is_dropped_whole))
