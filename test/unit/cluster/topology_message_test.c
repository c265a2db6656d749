#include "cluster/topology_message.h"

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
static struct topology_message message_of(enum topology_kind kind, struct buf *list)
{
    struct topology_message message = {.kind = kind};
    if (kind != TOPOLOGY_MAP && kind != TOPOLOGY_JOIN) {
        message.generation = 1;
        message.number = 900;
    }
    if (kind == TOPOLOGY_MAP) message.map = SLICE_LITERAL("whatever a map is");
    if (kind == TOPOLOGY_JOIN) {
        message.member = (struct member){.incarnation = UINT64_C(0x1817161514131211),
                                         .capacity = 100,
                                         .zone = SLICE_LITERAL("eu"),
                                         .address = SLICE_LITERAL("node-1:7000")};
        message.replaces = 300;
    }
    if (kind == TOPOLOGY_SYNCED) {
        buf_clear(list);
        topology_shard_append(list, (struct slice){0}, 899);
        topology_shard_append(list, SLICE_LITERAL("w\0m"), 7);
        message.shards = buf_slice(list);
        message.shard_count = 2;
    }
    return message;
}

static bool decode(struct slice bytes, struct buf *again)
{
    struct topology_message message;
    buf_clear(again);
    if (topology_message_decode(bytes, &message) != STATUS_OK) return false;
    topology_message_encode(&message, again);
    return true;
}

static bool taken(const struct topology_message *message)
{
    struct buf bytes = empty_buf();
    struct topology_message again = {.number = 77};
    topology_message_encode(message, &bytes);
    enum status status = topology_message_decode(buf_slice(&bytes), &again);
    EXPECT(status == STATUS_OK || status == STATUS_INVALID);
    if (status != STATUS_OK) EXPECT(again.kind == 0 && again.number == 77);
    buf_deinit(&bytes);
    return status == STATUS_OK;
}

TEST_CASE(each_kind_comes_back_as_it_was)
{
    for (int kind = TOPOLOGY_FETCH; kind < TOPOLOGY_KIND_END; kind++) {
        struct buf bytes = empty_buf(), list = empty_buf();
        struct topology_message message = message_of((enum topology_kind)kind, &list), again;
        topology_message_encode(&message, &bytes);
        EXPECT(topology_message_decode(buf_slice(&bytes), &again) == STATUS_OK);
        EXPECT(again.kind == message.kind && again.generation == message.generation);
        EXPECT(again.number == message.number && slice_equal(again.map, message.map));
        EXPECT(again.member.incarnation == message.member.incarnation);
        EXPECT(again.member.capacity == message.member.capacity);
        EXPECT(slice_equal(again.member.zone, message.member.zone));
        EXPECT(slice_equal(again.member.address, message.member.address));
        EXPECT(again.replaces == message.replaces);
        EXPECT(again.shard_count == message.shard_count);
        EXPECT(slice_equal(again.shards, message.shards));
        buf_deinit(&bytes);
        buf_deinit(&list);
    }
}

TEST_CASE(each_bit_flip_and_truncation_is_refused_or_another_message)
{
    for (int kind = TOPOLOGY_FETCH; kind < TOPOLOGY_KIND_END; kind++) {
        struct buf bytes = empty_buf(), list = empty_buf();
        struct topology_message message = message_of((enum topology_kind)kind, &list);
        topology_message_encode(&message, &bytes);
        /* A map is what follows the kind, however much: it has a decoder of its own. */
        if (kind != TOPOLOGY_MAP) expect_strict(decode, buf_slice(&bytes));
        buf_deinit(&bytes);
        buf_deinit(&list);
    }
}

TEST_CASE(a_map_is_the_rest_of_its_message)
{
    static uint8_t bytes[1 + RANGEMAP_BYTES_MAX + 1] = {TOPOLOGY_MAP};
    struct guard guard = guard_create(sizeof bytes);
    struct topology_message message;
    for (size_t size = 0; size < 3; size++) {
        struct slice copy = guard_copy(&guard, slice_of(bytes, 1 + size));
        EXPECT(topology_message_decode(copy, &message) == STATUS_OK);
        EXPECT(message.map.size == size);
    }
    struct slice copy = guard_copy(&guard, slice_of(bytes, 1 + RANGEMAP_BYTES_MAX));
    EXPECT(topology_message_decode(copy, &message) == STATUS_OK);
    EXPECT(message.map.size == RANGEMAP_BYTES_MAX);
    copy = guard_copy(&guard, slice_of(bytes, sizeof bytes));
    EXPECT(topology_message_decode(copy, &message) == STATUS_INVALID);
    guard_destroy(&guard);
}

/* The bytes of docs/format/peer.md. */
TEST_CASE(a_synced_has_these_bytes)
{
    static const uint8_t expected[] = {
        3, 4,               /* topology, synced */
        1, 0x84, 7,         /* generation, number */
        2,                  /* shards */
        0, 0x83, 7,         /* the first, since map 899 */
        3, 'w',  0, 'm', 7, /* the other, since map 7 */
    };
    struct buf bytes = empty_buf(), list = empty_buf();
    struct topology_message message = message_of(TOPOLOGY_SYNCED, &list);
    buf_append_u8(&bytes, PROTOCOL_TOPOLOGY);
    topology_message_encode(&message, &bytes);
    EXPECT(slice_equal(buf_slice(&bytes), slice_of(expected, sizeof expected)));
    buf_deinit(&bytes);
    buf_deinit(&list);
}

static bool takes_shards(const struct slice *lows, size_t count)
{
    struct buf list = empty_buf(), bytes = empty_buf();
    struct topology_message message = {.kind = TOPOLOGY_SYNCED, .shard_count = count}, again;
    for (size_t i = 0; i < count; i++) topology_shard_append(&list, lows[i], 1);
    message.shards = buf_slice(&list);
    topology_message_encode(&message, &bytes);
    enum status status = topology_message_decode(buf_slice(&bytes), &again);
    buf_deinit(&bytes);
    buf_deinit(&list);
    return status == STATUS_OK;
}

TEST_CASE(shards_ascend_each_once)
{
    static const struct slice none = {0}, a = SLICE_INITIALIZER("a"), b = SLICE_INITIALIZER("b"),
                              own = SLICE_INITIALIZER("\0a");
    EXPECT(takes_shards(NULL, 0));
    EXPECT(takes_shards((struct slice[]){none, a, b}, 3));
    EXPECT(!takes_shards((struct slice[]){b, a}, 2));
    EXPECT(!takes_shards((struct slice[]){a, a}, 2));
    EXPECT(!takes_shards((struct slice[]){none, none}, 2));
    EXPECT(!takes_shards((struct slice[]){own}, 1)); /* No shard begins there. */

    static uint8_t bytes[KEY_BYTES_MAX + 1] = {'w'};
    EXPECT(takes_shards((struct slice[]){slice_of(bytes, KEY_BYTES_MAX)}, 1));
    EXPECT(!takes_shards((struct slice[]){slice_of(bytes, KEY_BYTES_MAX + 1)}, 1));

    struct slice lows[TOPOLOGY_SYNCED_MAX + 1];
    uint8_t keys[TOPOLOGY_SYNCED_MAX + 1][2];
    for (size_t i = 0; i <= TOPOLOGY_SYNCED_MAX; i++) {
        keys[i][0] = (uint8_t)(1 + i / 256);
        keys[i][1] = (uint8_t)i;
        lows[i] = slice_of(keys[i], 2);
    }
    EXPECT(takes_shards(lows, TOPOLOGY_SYNCED_MAX));
    EXPECT(!takes_shards(lows, TOPOLOGY_SYNCED_MAX + 1));
}

TEST_CASE(a_joiner_keeps_to_the_limits_of_members)
{
    static uint8_t text[RANGEMAP_ADDRESS_BYTES_MAX + 1] = "a";
    struct buf list = empty_buf();
    struct topology_message join = message_of(TOPOLOGY_JOIN, &list);
    join.member.capacity = RANGEMAP_CAPACITY_MAX;
    join.member.zone = slice_of(text, RANGEMAP_ZONE_BYTES_MAX);
    join.member.address = slice_of(text, RANGEMAP_ADDRESS_BYTES_MAX);
    EXPECT(taken(&join));
    join.member.capacity++;
    EXPECT(!taken(&join));
    join.member.capacity = 0;
    EXPECT(!taken(&join));
    join.member.capacity = 1;
    join.member.zone.size++;
    EXPECT(!taken(&join));
    join.member.zone.size--;
    join.member.address.size++;
    EXPECT(!taken(&join));
    buf_deinit(&list);
}

TEST_MAIN(TEST(each_kind_comes_back_as_it_was),
          TEST(each_bit_flip_and_truncation_is_refused_or_another_message),
          TEST(a_map_is_the_rest_of_its_message), TEST(a_synced_has_these_bytes),
          TEST(shards_ascend_each_once), TEST(a_joiner_keeps_to_the_limits_of_members))
