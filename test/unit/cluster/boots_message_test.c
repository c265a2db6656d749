#include "cluster/boots_message.h"

#include "cluster/outbox.h"
#include "strict.h"
#include "test.h"

static struct heap heap;

static struct buf empty_buf(void)
{
    heap_init(&heap, 0);
    return (struct buf){.heap = &heap};
}

/* Of a node that has started so often. */
static struct boots_message message_of(enum boots_kind kind, uint64_t counter)
{
    struct boots_message message = {
        .kind = kind,
        .generation = {1, UINT64_C(0x0807060504030201)},
        .boot = {UINT64_C(0x1817161514131211), counter, UINT64_C(0x2827262524232221)},
    };
    if (kind == BOOTS_ASK) {
        message.salt_count = boots_salt_count(counter);
        for (unsigned i = 0; i < message.salt_count; i++) message.salts[i] = 100 + i;
    }
    return message;
}

static void encode(const struct boots_message *message, struct buf *out)
{
    buf_append_u8(out, PROTOCOL_BOOTS);
    boots_message_encode(message, out);
}

static bool decode_message(struct slice bytes, struct buf *again)
{
    struct boots_message message;
    buf_clear(again);
    if (boots_message_decode(bytes, &message) != STATUS_OK) return false;
    encode(&message, again);
    return true;
}

static bool decode_boot(struct slice bytes, struct buf *again)
{
    struct boot boot;
    buf_clear(again);
    if (boot_decode(bytes, &boot) != STATUS_OK) return false;
    boot_encode(boot, again);
    return true;
}

static bool decode_starts(struct slice bytes, struct buf *again)
{
    struct starts starts;
    buf_clear(again);
    if (starts_decode(bytes, &starts) != STATUS_OK) return false;
    starts_encode(&starts, again);
    return true;
}

TEST_CASE(each_kind_comes_back_as_it_was)
{
    static const uint64_t counters[] = {1, 2, 16, 17, 300};
    for (int kind = BOOTS_ASK; kind <= BOOTS_REFUSED; kind++) {
        for (size_t i = 0; i < sizeof counters / sizeof *counters; i++) {
            struct boots_message message = message_of((enum boots_kind)kind, counters[i]);
            struct boots_message again;
            struct buf bytes = empty_buf();
            encode(&message, &bytes);
            EXPECT(boots_message_decode(buf_slice(&bytes), &again) == STATUS_OK);
            EXPECT(again.kind == message.kind);
            EXPECT(generation_equal(again.generation, message.generation));
            EXPECT(boot_equal(again.boot, message.boot));
            EXPECT(again.salt_count == message.salt_count);
            EXPECT(memcmp(again.salts, message.salts, sizeof again.salts) == 0);
            expect_strict(decode_message, buf_slice(&bytes));
            buf_deinit(&bytes);
        }
    }
}

/* The bytes of docs/format/peer.md. */
TEST_CASE(an_ask_has_these_bytes)
{
    static const uint8_t expected[] = {
        6,    1,                                              /* boots, ask */
        1,    1,    2,    3,    4,    5,    6,    7,    8,    /* generation */
        0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,       /* incarnation */
        2,    0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, /* counter, salt */
        100,  0,    0,    0,    0,    0,    0,    0,          /* salt of the start before */
    };
    struct boots_message message = message_of(BOOTS_ASK, 2);
    struct buf bytes = empty_buf();
    encode(&message, &bytes);
    EXPECT(slice_equal(buf_slice(&bytes), slice_of(expected, sizeof expected)));
    buf_deinit(&bytes);
}

TEST_CASE(a_record_comes_back_or_is_corrupt)
{
    struct boot boot = {7, 300, 9};
    struct boot again;
    struct buf bytes = empty_buf();
    boot_encode(boot, &bytes);
    EXPECT(boot_decode(buf_slice(&bytes), &again) == STATUS_OK);
    EXPECT(boot_equal(again, boot));
    expect_strict(decode_boot, buf_slice(&bytes));
    bytes.data[0] = 2;
    EXPECT(boot_decode(buf_slice(&bytes), &again) == STATUS_NEWER);
    buf_clear(&bytes);
    boot_encode((struct boot){7, 0, 9}, &bytes);
    EXPECT(boot_decode(buf_slice(&bytes), &again) == STATUS_CORRUPT);
    buf_deinit(&bytes);
}

/* The disk remembers the salts of its last starts, the newest first, and no more of them. */
TEST_CASE(starts_are_counted_and_remembered)
{
    struct starts starts = {.id = 4, .boot = {.incarnation = 7}};
    for (uint64_t start = 1; start <= 40; start++) {
        starts_next(&starts, start * 10);
        EXPECT(starts.boot.counter == start && starts.boot.salt == start * 10);
        for (unsigned i = 0; i < boots_salt_count(start); i++) {
            EXPECT(starts.salts[i] == (start - 1 - i) * 10);
        }
        struct starts again;
        struct buf bytes = empty_buf();
        starts_encode(&starts, &bytes);
        EXPECT(starts_decode(buf_slice(&bytes), &again) == STATUS_OK);
        EXPECT(again.id == 4 && boot_equal(again.boot, starts.boot) && !again.rolled_back);
        EXPECT(memcmp(again.salts, starts.salts, sizeof again.salts) == 0);
        if (start < 4 || start == 40) expect_strict(decode_starts, buf_slice(&bytes));
        buf_deinit(&bytes);
    }
    struct starts again;
    struct buf bytes = empty_buf();
    starts.rolled_back = true;
    starts_encode(&starts, &bytes);
    EXPECT(starts_decode(buf_slice(&bytes), &again) == STATUS_OK);
    EXPECT(again.rolled_back);
    bytes.data[0] = 2;
    EXPECT(starts_decode(buf_slice(&bytes), &again) == STATUS_NEWER);
    buf_clear(&bytes);
    starts.id = 0;
    starts_encode(&starts, &bytes);
    EXPECT(starts_decode(buf_slice(&bytes), &again) == STATUS_CORRUPT);
    buf_deinit(&bytes);
}

TEST_MAIN(TEST(each_kind_comes_back_as_it_was), TEST(an_ask_has_these_bytes),
          TEST(a_record_comes_back_or_is_corrupt), TEST(starts_are_counted_and_remembered))
