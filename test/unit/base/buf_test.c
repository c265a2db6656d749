#include "base/buf.h"

#include "test.h"

TEST_CASE(a_failed_append_is_remembered_and_keeps_what_was_there)
{
    struct heap heap;
    struct buf buf;
    heap_init(&heap, 0);
    buf_init(&buf, &heap);

    buf_append_text(&buf, "kept");
    heap.failure_after = 0;
    char large[1000] = {0};
    buf_append(&buf, large, sizeof large);
    buf_append_text(&buf, "not appended");

    EXPECT(buf_status(&buf) == STATUS_NOMEM);
    EXPECT(slice_equal(buf_slice(&buf), SLICE_LITERAL("kept")));
    buf_clear(&buf);
    EXPECT(buf_status(&buf) == STATUS_OK);
    buf_deinit(&buf);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_CASE(what_was_ensured_can_be_appended_without_memory)
{
    struct heap heap;
    struct buf buf;
    heap_init(&heap, 0);
    buf_init(&buf, &heap);
    EXPECT(buf_ensure(&buf, 1000));
    atomic_store(&heap.failure_after, 0);
    for (int i = 0; i < 1000; i++) buf_append_u8(&buf, 'x');
    EXPECT(buf_status(&buf) == STATUS_OK && buf.size == 1000);

    /* What could not be ensured does the buffer no harm. */
    atomic_store(&heap.failure_after, 0);
    EXPECT(!buf_ensure(&buf, 1 << 20));
    EXPECT(buf_status(&buf) == STATUS_OK && buf.size == 1000);
    atomic_store(&heap.failure_after, -1);
    EXPECT(buf_ensure(&buf, 1 << 20));
    buf_deinit(&buf);
}

TEST_CASE(numbers_are_written_as_documented)
{
    struct heap heap;
    struct buf buf;
    heap_init(&heap, 0);
    buf_init(&buf, &heap);

    buf_append_u32le(&buf, 0x04030201);
    buf_append_decimal(&buf, 18446744073709551615u);
    buf_append_decimal(&buf, 0);
    buf_printf(&buf, "-%03d", 7);
    EXPECT(slice_equal(buf_slice(&buf), SLICE_LITERAL("\1\2\3\4"
                                                      "184467440737095516150-007")));
    buf_consume(&buf, 4);
    EXPECT(buf.data[0] == '1');
    buf_deinit(&buf);
}

TEST_CASE(a_heap_keeps_to_its_budget)
{
    struct heap heap;
    heap_init(&heap, 1000);

    void *some = heap_alloc(&heap, 800);
    EXPECT(some != NULL);
    EXPECT(heap_alloc(&heap, 800) == NULL);
    heap_free(&heap, some);
    some = heap_alloc(&heap, 800);
    EXPECT(some != NULL);
    heap_free(&heap, some);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_MAIN(TEST(a_failed_append_is_remembered_and_keeps_what_was_there),
          TEST(what_was_ensured_can_be_appended_without_memory),
          TEST(numbers_are_written_as_documented), TEST(a_heap_keeps_to_its_budget))
