#include "base/bytes.h"

#include "base/buf.h"
#include "test.h"

TEST_CASE(varints_come_back_and_longer_forms_are_refused)
{
    struct heap heap;
    struct buf buf;
    heap_init(&heap, 0);
    buf_init(&buf, &heap);

    const uint64_t values[] = {0, 1, 127, 128, 300, UINT32_MAX, UINT64_MAX - 1, UINT64_MAX};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        buf_clear(&buf);
        buf_append_varint(&buf, values[i]);
        struct reader reader = reader_of(buf_slice(&buf));
        EXPECT(reader_varint(&reader) == values[i]);
        EXPECT(!reader.failed && reader_left(&reader) == 0);

        for (size_t cut = 0; cut < buf.size; cut++) {
            struct reader cut_reader = reader_of(slice_prefix(buf_slice(&buf), cut));
            (void)reader_varint(&cut_reader);
            EXPECT(cut_reader.failed);
        }
    }

    struct reader padded = reader_of(slice_of("\x80\x00", 2));
    (void)reader_varint(&padded);
    EXPECT(padded.failed);
    struct reader too_large = reader_of(slice_of("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10));
    (void)reader_varint(&too_large);
    EXPECT(too_large.failed);
    buf_deinit(&buf);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_CASE(a_read_past_the_end_gives_zero_and_fails)
{
    struct reader reader = reader_of(slice_of("\x01\x02\x03", 3));

    EXPECT(reader_u16le(&reader) == 0x0201);
    EXPECT(reader_u32le(&reader) == 0);
    EXPECT(reader.failed);
    EXPECT(reader_u8(&reader) == 0);
}

TEST_MAIN(TEST(varints_come_back_and_longer_forms_are_refused),
          TEST(a_read_past_the_end_gives_zero_and_fails))
