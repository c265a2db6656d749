#include "cluster/purge_message.h"

#include "base/prng.h"
#include "cluster/outbox.h"
#include "core/key.h"
#include "strict.h"
#include "test.h"

static struct heap heap = {.failure_after = -1};

static struct buf empty_buf(void)
{
    return (struct buf){.heap = &heap};
}

/* `list` is what the message borrows. */
static struct purge_message message_of(enum purge_kind kind, struct buf *list)
{
    struct purge_message message = {.kind = kind, .generation = 1, .map_number = 900};
    buf_clear(list);
    if (kind != PURGE_COMPARED && kind != PURGE_DONE) {
        message.upto = UINT64_C(0x1817161514131211);
        return message;
    }
    struct key_range first = {.high = SLICE_LITERAL("w\0m")};
    struct key_range last = {.low = SLICE_LITERAL("w\0p")};
    purge_range_append(list, &first, UINT64_C(0x0807060504030201));
    purge_range_append(list, &last, UINT64_C(0x2827262524232221));
    message.ranges = buf_slice(list);
    message.range_count = 2;
    return message;
}

static bool decode(struct slice bytes, struct buf *again)
{
    struct purge_message message;
    buf_clear(again);
    if (purge_message_decode(bytes, &message) != STATUS_OK) return false;
    purge_message_encode(&message, again);
    return true;
}

TEST_CASE(each_kind_comes_back_as_it_was_and_has_one_form)
{
    for (int kind = PURGE_PROMISE; kind < PURGE_KIND_END; kind++) {
        struct buf bytes = empty_buf(), list = empty_buf();
        struct purge_message message = message_of((enum purge_kind)kind, &list), again;
        purge_message_encode(&message, &bytes);
        EXPECT(purge_message_decode(buf_slice(&bytes), &again) == STATUS_OK);
        EXPECT(again.kind == message.kind && again.generation == message.generation);
        EXPECT(again.map_number == message.map_number && again.upto == message.upto);
        EXPECT(again.range_count == message.range_count);
        EXPECT(slice_equal(again.ranges, message.ranges));
        expect_strict(decode, buf_slice(&bytes));
        buf_deinit(&bytes);
        buf_deinit(&list);
    }
    EXPECT(heap_used_bytes(&heap) == 0);
}

/* The bytes of docs/format/peer.md. */
TEST_CASE(a_done_has_these_bytes)
{
    static const uint8_t expected[] = {
        7, 5,       /* purge, done */
        1, 0x84, 7, /* generation, number */
        2,          /* ranges */
        0, 3,    'w', 0,   'm', 1,    2,    3,    4,    5,    6,    7,    8, /* up to "m" of "w" */
        3, 'w',  0,   'p', 0,   0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, /* from "p" on */
    };
    struct buf bytes = empty_buf(), list = empty_buf();
    struct purge_message message = message_of(PURGE_DONE, &list);
    buf_append_u8(&bytes, PROTOCOL_PURGE);
    purge_message_encode(&message, &bytes);
    EXPECT(slice_equal(buf_slice(&bytes), slice_of(expected, sizeof expected)));
    buf_deinit(&bytes);
    buf_deinit(&list);
}

static bool takes_ranges(const struct key_range *ranges, size_t count)
{
    struct buf list = empty_buf(), bytes = empty_buf();
    struct purge_message message = {.kind = PURGE_DONE, .range_count = count}, again;
    for (size_t i = 0; i < count; i++) purge_range_append(&list, &ranges[i], 1);
    message.ranges = buf_slice(&list);
    purge_message_encode(&message, &bytes);
    enum status status = purge_message_decode(buf_slice(&bytes), &again);
    buf_deinit(&bytes);
    buf_deinit(&list);
    return status == STATUS_OK;
}

TEST_CASE(ranges_ascend_and_are_disjoint)
{
    static const struct slice none = {0}, a = SLICE_INITIALIZER("a"), b = SLICE_INITIALIZER("b"),
                              c = SLICE_INITIALIZER("c"), own = SLICE_INITIALIZER("\0a");
    EXPECT(takes_ranges(NULL, 0));
    EXPECT(takes_ranges((struct key_range[]){{none, a}, {a, b}, {c, none}}, 3));
    EXPECT(takes_ranges((struct key_range[]){{none, none}}, 1));
    EXPECT(!takes_ranges((struct key_range[]){{a, a}}, 1));
    EXPECT(!takes_ranges((struct key_range[]){{b, a}}, 1));
    EXPECT(!takes_ranges((struct key_range[]){{a, c}, {b, none}}, 2));
    EXPECT(!takes_ranges((struct key_range[]){{a, none}, {b, c}}, 2));
    EXPECT(!takes_ranges((struct key_range[]){{own, a}}, 1)); /* No shard begins there. */

    static uint8_t bytes[KEY_BYTES_MAX + 1] = {'w'};
    EXPECT(takes_ranges((struct key_range[]){{slice_of(bytes, KEY_BYTES_MAX), none}}, 1));
    EXPECT(!takes_ranges((struct key_range[]){{slice_of(bytes, KEY_BYTES_MAX + 1), none}}, 1));

    struct key_range many[PURGE_RANGES_MAX + 1];
    uint8_t keys[PURGE_RANGES_MAX + 1][2];
    for (size_t i = 0; i <= PURGE_RANGES_MAX; i++) {
        keys[i][0] = (uint8_t)(1 + i / 256);
        keys[i][1] = (uint8_t)i;
        many[i] = (struct key_range){slice_of(keys[i], 2), none};
        if (i > 0) many[i - 1].high = many[i].low;
    }
    EXPECT(takes_ranges(many, PURGE_RANGES_MAX + 1) == false);
    many[PURGE_RANGES_MAX - 1].high = none;
    EXPECT(takes_ranges(many, PURGE_RANGES_MAX));
}

TEST_MAIN(TEST(each_kind_comes_back_as_it_was_and_has_one_form), TEST(a_done_has_these_bytes),
          TEST(ranges_ascend_and_are_disjoint))
