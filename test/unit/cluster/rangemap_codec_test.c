#include "guard.h"
#include "rangemap_make.h"
#include "test.h"

/* A map with all that a map may have: states, stages, quorums, long lows. */
static void make_rich(struct maker *maker)
{
    struct rangemap_settings settings = rangemap_settings_default;
    settings.write_quorum = 2;
    settings.sloppy_quorum = true;
    maker_init(maker, &settings);
    for (node_id id = 2; id <= 9; id++) maker_add_member(maker, id, id % 3);
    const char *cuts[] = {"default", "default\x01z", "delta", "deltas", "n"};
    for (size_t i = 0; i < 5; i++) maker_at(maker, CHANGE_SPLIT, cuts[i]);
    EXPECT(maker_commit(maker) == STATUS_OK);
    maker_begin(maker, "", (node_id[]){1, 2, 3, 0});
    maker_begin(maker, "delta", (node_id[]){2, 3, 4, 0});
    maker_begin(maker, "deltas", (node_id[]){5, 6, 7, 0});
    EXPECT(maker_commit(maker) == STATUS_OK);
    maker_at(maker, CHANGE_SWITCH, "");
    maker_at(maker, CHANGE_SWITCH, "deltas");
    EXPECT(maker_commit(maker) == STATUS_OK);
    maker_at(maker, CHANGE_FINISH, "");
    maker_leaving(maker, 8, true);
    maker_state(maker, 9, MEMBER_SUSPENDED, false);
    maker_state(maker, 7, MEMBER_EXCLUDED, false);
    EXPECT(maker_commit(maker) == STATUS_OK);
}

/* A delta with every kind of change; it need not fit the map. */
static void make_delta(struct maker *maker)
{
    maker_add_member(maker, 10, 1);
    struct change change = {.kind = CHANGE_MEMBER_MOVE, .member = maker_member(maker, 3, 2)};
    rangemap_delta_add(&maker->delta, &change);
    maker_state(maker, 4, MEMBER_EXCLUDED, true);
    maker_leaving(maker, 8, false);
    maker_remove(maker, 7);
    maker_settings(maker, &rangemap_settings_default);
    maker_begin(maker, "n", (node_id[]){2, 3, 300, 0});
    for (int kind = CHANGE_SWITCH; kind <= CHANGE_ABORT; kind++) {
        change = (struct change){.kind = (enum change_kind)kind, .forced = true};
        change.low = SLICE_LITERAL("delta");
        rangemap_delta_add(&maker->delta, &change);
    }
    maker_at(maker, CHANGE_SPLIT, "defg");
    maker_at(maker, CHANGE_MERGE, "n");
}

/* Refused, or the canonical bytes of a map. */
static bool map_is_read(struct heap *heap, struct slice bytes)
{
    struct rangemap *map = NULL;
    enum status status = rangemap_decode(heap, bytes, &map);
    if (status != STATUS_OK) {
        EXPECT(status == STATUS_INVALID && map == NULL);
        return false;
    }
    struct buf again;
    buf_init(&again, heap);
    rangemap_encode(map, &again);
    EXPECT(slice_equal(buf_slice(&again), bytes));
    buf_deinit(&again);
    rangemap_unref(map);
    return true;
}

static bool delta_is_read(const struct rangemap *map, struct heap *heap, struct slice bytes)
{
    struct hash128 base;
    struct reader reader;
    if (rangemap_delta_open(bytes, &base, &reader) != STATUS_OK) return false;
    struct buf again;
    buf_init(&again, heap);
    rangemap_delta_begin(map, &again);
    again.size -= sizeof base;
    buf_append(&again, &base, sizeof base);
    struct change change;
    enum status status;
    while ((status = rangemap_delta_next(&reader, &change)) == STATUS_OK) {
        rangemap_delta_add(&again, &change);
    }
    if (status == STATUS_END) EXPECT(slice_equal(buf_slice(&again), bytes));
    buf_deinit(&again);
    return status == STATUS_END;
}

TEST_CASE(every_damaged_map_is_refused_or_canonical)
{
    struct maker maker;
    make_rich(&maker);
    struct buf bytes;
    buf_init(&bytes, &maker.heap);
    rangemap_encode(maker.map, &bytes);
    struct guard guard = guard_create(bytes.size + 1);
    EXPECT(map_is_read(&maker.heap, guard_copy(&guard, buf_slice(&bytes))));

    for (size_t size = 0; size < bytes.size; size++) {
        struct slice cut = guard_copy(&guard, slice_prefix(buf_slice(&bytes), size));
        EXPECT(!map_is_read(&maker.heap, cut));
    }
    size_t taken = 0;
    for (size_t bit = 0; bit < bytes.size * 8; bit++) {
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        taken += map_is_read(&maker.heap, guard_copy(&guard, buf_slice(&bytes)));
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    EXPECT(taken > 0); /* Hashes, texts and numbers have other values that are as good. */
    buf_append_u8(&bytes, 0);
    EXPECT(!map_is_read(&maker.heap, guard_copy(&guard, buf_slice(&bytes))));

    guard_destroy(&guard);
    buf_deinit(&bytes);
    maker_deinit(&maker);
}

TEST_CASE(every_damaged_delta_is_refused_or_canonical)
{
    struct maker maker;
    make_rich(&maker);
    make_delta(&maker);
    struct buf *bytes = &maker.delta;
    struct guard guard = guard_create(bytes->size);
    EXPECT(delta_is_read(maker.map, &maker.heap, guard_copy(&guard, buf_slice(bytes))));
    size_t whole = 0;
    for (size_t size = 0; size < bytes->size; size++) {
        struct slice cut = guard_copy(&guard, slice_prefix(buf_slice(bytes), size));
        whole += delta_is_read(maker.map, &maker.heap, cut);
    }
    EXPECT(whole == 11); /* Those that end between two of the twelve changes. */
    for (size_t bit = 0; bit < bytes->size * 8; bit++) {
        bytes->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        struct slice flipped = guard_copy(&guard, buf_slice(bytes));
        delta_is_read(maker.map, &maker.heap, flipped);
        /* It is for another map, or no change, or one that does not fit, or fits. */
        struct rangemap *next = NULL;
        if (rangemap_apply(maker.map, flipped, NULL, &next) == STATUS_OK) rangemap_unref(next);
        bytes->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    guard_destroy(&guard);
    maker_deinit(&maker);
}

/* Each allocation fails once: nothing is made, nothing leaks. */
TEST_CASE(without_memory_there_is_no_map)
{
    struct maker maker;
    make_rich(&maker);
    struct buf bytes;
    buf_init(&bytes, &maker.heap);
    rangemap_encode(maker.map, &bytes);
    maker_add_member(&maker, 10, 1);
    maker_at(&maker, CHANGE_SPLIT, "defg");
    maker_at(&maker, CHANGE_SWITCH, "delta");
    uint64_t used = heap_used_bytes(&maker.heap);
    struct rangemap *map = NULL;
    int failures = 0;
    for (int64_t after = 0; map == NULL; after++) {
        maker.heap.failure_after = after;
        enum status status = rangemap_apply(maker.map, buf_slice(&maker.delta), NULL, &map);
        maker.heap.failure_after = -1;
        if (status == STATUS_OK) break;
        EXPECT(status == STATUS_NOMEM && heap_used_bytes(&maker.heap) == used);
        failures++;
    }
    rangemap_unref(map);
    map = NULL;
    for (int64_t after = 0; map == NULL; after++) {
        maker.heap.failure_after = after;
        enum status status = rangemap_decode(&maker.heap, buf_slice(&bytes), &map);
        maker.heap.failure_after = -1;
        if (status == STATUS_OK) break;
        EXPECT(status == STATUS_NOMEM && heap_used_bytes(&maker.heap) == used);
        failures++;
    }
    rangemap_unref(map);
    printf("%d allocations failed\n", failures);
    EXPECT(failures > 10);
    buf_deinit(&bytes);
    maker_deinit(&maker);
}

static void expect_hash(const struct rangemap *map, uint64_t low, uint64_t high)
{
    EXPECT(hash128_equal(rangemap_identity(map)->hash, (struct hash128){low, high}));
}

/* The examples of docs/format/rangemap.md. */
TEST_CASE(bytes_are_as_documented)
{
    struct heap heap;
    struct rangemap *map;
    struct rangemap *next;
    struct buf bytes;
    heap_init(&heap, 0);
    buf_init(&bytes, &heap);
    struct member member = {
        .incarnation = 0x0102030405060708,
        .capacity = 100,
        .zone = SLICE_LITERAL("a"),
        .address = SLICE_LITERAL("10.0.0.1:7400"),
    };
    EXPECT(rangemap_create(&heap, 0x1122334455667788, &rangemap_settings_default, &member, &map) ==
           STATUS_OK);
    rangemap_encode(map, &bytes);
    EXPECT(slice_equal(buf_slice(&bytes),
                       SLICE_LITERAL("\x01\x01\x01\x88\x77\x66\x55\x44\x33\x22\x11"
                                     "\x00\x00\x00\x00\x00\x00\x00\x00"
                                     "\x00\x00\x00\x00\x00\x00\x00\x00"
                                     "\x03\x00\x00\x01\x00\x00\x01\x80\x80\x40\x80\x80\x80\x40"
                                     "\x80\xb0\xfe\x9b\x03\xe8\x07\x88\x27"
                                     "\x02\x01"
                                     "\x01\x00\x00\x08\x07\x06\x05\x04\x03\x02\x01\x64\x01"
                                     "a\x0d"
                                     "10.0.0.1:7400"
                                     "\x01\x01\x00\x01"
                                     "\x00\x00\x00\x01\x01\x11\x01\x00")));
    expect_hash(map, 0xc73d97c8edfe20b0, 0xef912aa03b272f46);

    rangemap_delta_begin(map, &bytes);
    struct change change = {.kind = CHANGE_MEMBER_ADD, .member = member};
    change.member.id = 2;
    change.member.incarnation = 9;
    change.member.zone = SLICE_LITERAL("b");
    change.member.address = SLICE_LITERAL("10.0.0.2:7400");
    rangemap_delta_add(&bytes, &change);
    change = (struct change){.kind = CHANGE_SPLIT, .low = SLICE_LITERAL("default\0t")};
    rangemap_delta_add(&bytes, &change);
    change = (struct change){
        .kind = CHANGE_BEGIN, .low = SLICE_LITERAL("default\0t"), .next_count = 2, .next = {1, 2}};
    rangemap_delta_add(&bytes, &change);
    EXPECT(slice_equal(buf_slice(&bytes),
                       SLICE_LITERAL("\x01\xb0\x20\xfe\xed\xc8\x97\x3d\xc7"
                                     "\x46\x2f\x27\x3b\xa0\x2a\x91\xef"
                                     "\x01\x02\x00\x09\x00\x00\x00\x00\x00\x00\x00\x64\x01"
                                     "b\x0d"
                                     "10.0.0.2:7400"
                                     "\x07\x09"
                                     "default\0t"
                                     "\x09\x09"
                                     "default\0t\x02\x01\x00\x02\x00")));
    EXPECT(rangemap_apply(map, buf_slice(&bytes), NULL, &next) == STATUS_OK);
    buf_clear(&bytes);
    rangemap_encode(next, &bytes);
    EXPECT(slice_equal(slice_from(buf_slice(&bytes), bytes.size - 32),
                       SLICE_LITERAL("\x02\x00\x00\x00\x01\x01\x11\x01\x00"
                                     "\x00\x09"
                                     "default\0t\x01\x02\x01\x11\x01\x00"
                                     "\x02\x22\x01\x00\x02\x00")));
    expect_hash(next, 0xb0ecf70b1c2398ff, 0x6ab912563acfa5b5);
    rangemap_unref(map);
    rangemap_unref(next);
    buf_deinit(&bytes);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_MAIN(TEST(bytes_are_as_documented), TEST(every_damaged_map_is_refused_or_canonical),
          TEST(every_damaged_delta_is_refused_or_canonical), TEST(without_memory_there_is_no_map))
