/* Ranges of keys with times, against a model that has the times of each key by itself. */
#include "cluster/purge_ranges.h"

#include "base/prng.h"
#include "strict.h"
#include "test.h"

/* Keys of the model are single bytes; bounds are these, and what lies between and beyond them. */
enum { KEYS = 64, FIRST_KEY = 1 };

static struct heap heap = {.failure_after = -1};

struct model {
    struct purge_times times[KEYS];
};

static struct slice key_of(uint8_t bytes[2], unsigned number)
{
    bytes[0] = (uint8_t)(FIRST_KEY + number);
    bytes[1] = 0x80;
    return slice_of(bytes, 2);
}

/* Holds keys first to end - 1; `end` of all: without an end. */
static struct key_range range_of(uint8_t bytes[4], unsigned first, unsigned end)
{
    struct key_range range = {.low = slice_of(bytes, 0)};
    if (first > 0) {
        bytes[0] = (uint8_t)(FIRST_KEY + first);
        range.low = slice_of(bytes, 1);
    }
    if (end < KEYS) {
        bytes[2] = (uint8_t)(FIRST_KEY + end);
        range.high = slice_of(bytes + 2, 1);
    }
    return range;
}

static void expect_like(const struct purge_ranges *ranges, const struct model *model)
{
    EXPECT(ranges->count > 0 && ranges->pieces[0].low_size == 0);
    for (size_t i = 1; i < ranges->count; i++) {
        const struct purge_piece *a = &ranges->pieces[i - 1], *b = &ranges->pieces[i];
        EXPECT(slice_compare(slice_of(a->low, a->low_size), slice_of(b->low, b->low_size)) < 0);
        EXPECT(memcmp(&a->times, &b->times, sizeof a->times) != 0);
    }
    for (unsigned i = 0; i < KEYS; i++) {
        uint8_t bytes[2];
        struct purge_times times = purge_ranges_at(ranges, key_of(bytes, i));
        EXPECT(memcmp(&times, &model->times[i], sizeof times) == 0);
    }
}

/* A walk shows each key once, with its times, and the least of them. */
static void expect_walk(const struct purge_ranges *ranges, const struct model *model,
                        unsigned first, unsigned end)
{
    uint8_t bytes[4], key_bytes[2];
    struct key_range range = range_of(bytes, first, end), part;
    struct purge_walk walk = purge_walk_of(range);
    struct purge_times times, least = purge_ranges_least(ranges, range);
    struct slice next = range.low;
    unsigned at = first;
    while (purge_walk_next(ranges, &walk, &part, &times)) {
        EXPECT(slice_equal(part.low, next));
        next = part.high;
        for (; at < end; at++) {
            struct slice key = key_of(key_bytes, at);
            if (part.high.size != 0 && slice_compare(key, part.high) >= 0) break;
            EXPECT(memcmp(&times, &model->times[at], sizeof times) == 0);
        }
    }
    EXPECT(at == end && slice_equal(next, range.high));
    for (size_t field = 0; field < PURGE_FIELD_COUNT; field++) {
        hlc_time expected = UINT64_MAX;
        for (unsigned i = first; i < end; i++)
            if (model->times[i].at[field] < expected) expected = model->times[i].at[field];
        EXPECT(least.at[field] == expected);
    }
}

static bool decode(struct slice bytes, struct buf *again)
{
    struct purge_ranges ranges;
    if (purge_ranges_init(&ranges, &heap) != STATUS_OK) return false;
    bool good = purge_ranges_decode(&ranges, bytes) == STATUS_OK;
    if (good) purge_ranges_encode(&ranges, again);
    purge_ranges_deinit(&ranges);
    return good;
}

TEST_CASE(ranges_are_as_if_each_key_had_its_own_times)
{
    struct prng prng = {.state = test_seed};
    struct buf bytes = {.heap = &heap};
    for (int turn = 0; turn < 20; turn++) {
        struct model model = {0};
        for (unsigned i = 0; i < KEYS; i++)
            for (size_t field = 0; field < PURGE_FIELD_COUNT; field++)
                model.times[i].at[field] = field == PURGE_COMPLETE ? 0 : PURGE_BEGINNING;
        struct purge_ranges ranges;
        EXPECT(purge_ranges_init(&ranges, &heap) == STATUS_OK);
        for (int step = 0; step < 200; step++) {
            uint8_t bounds[4];
            unsigned first = prng_below(&prng, KEYS);
            unsigned end = first + 1 + prng_below(&prng, KEYS - first);
            enum purge_field field = (enum purge_field)prng_below(&prng, PURGE_FIELD_COUNT);
            hlc_time time = prng_below(&prng, 5);
            struct key_range range = range_of(bounds, first, end);
            bool lowers = prng_one_in(&prng, 4), changed = false, due = false;
            for (unsigned i = first; i < end; i++) {
                hlc_time *at = &model.times[i].at[field];
                if (lowers ? *at <= time : *at >= time) continue;
                *at = time;
                due = true;
            }
            EXPECT((lowers ? purge_ranges_lower : purge_ranges_raise)(&ranges, range, field, time,
                                                                      &changed) == STATUS_OK);
            EXPECT(changed == due);
            expect_like(&ranges, &model);
            first = prng_below(&prng, KEYS);
            expect_walk(&ranges, &model, first, first + 1 + prng_below(&prng, KEYS - first));
        }
        buf_clear(&bytes);
        purge_ranges_encode(&ranges, &bytes);
        struct purge_ranges again;
        EXPECT(purge_ranges_init(&again, &heap) == STATUS_OK);
        EXPECT(purge_ranges_decode(&again, buf_slice(&bytes)) == STATUS_OK);
        expect_like(&again, &model);
        purge_ranges_deinit(&again);
        purge_ranges_deinit(&ranges);
    }
    buf_deinit(&bytes);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_CASE(a_range_without_keys_is_none)
{
    struct purge_ranges ranges;
    struct key_range part;
    struct purge_times times;
    bool changed = false;
    EXPECT(purge_ranges_init(&ranges, &heap) == STATUS_OK);
    struct purge_walk walk =
        purge_walk_of((struct key_range){SLICE_LITERAL("b"), SLICE_LITERAL("b")});
    EXPECT(!purge_walk_next(&ranges, &walk, &part, &times));
    EXPECT(purge_ranges_raise(&ranges, walk.rest, PURGE_PURGED, 5, &changed) == STATUS_OK);
    EXPECT(!changed && ranges.count == 1);
    purge_ranges_deinit(&ranges);
}

TEST_CASE(a_change_without_memory_changes_nothing)
{
    for (int at = 0;; at++) {
        struct purge_ranges ranges;
        struct buf before = {.heap = &heap}, after = {.heap = &heap};
        bool changed = false;
        EXPECT(purge_ranges_init(&ranges, &heap) == STATUS_OK);
        purge_ranges_encode(&ranges, &before);
        heap.failure_after = at;
        enum status status =
            purge_ranges_raise(&ranges, (struct key_range){SLICE_LITERAL("b"), SLICE_LITERAL("c")},
                               PURGE_PURGED, 5, &changed);
        bool failed = status != STATUS_OK;
        heap.failure_after = -1;
        EXPECT(failed == !changed && (status == STATUS_OK || status == STATUS_NOMEM));
        purge_ranges_encode(&ranges, &after);
        EXPECT(slice_equal(buf_slice(&before), buf_slice(&after)) == failed);
        buf_deinit(&before);
        buf_deinit(&after);
        purge_ranges_deinit(&ranges);
        if (!failed) break;
        EXPECT(at < 10);
    }
    EXPECT(heap_used_bytes(&heap) == 0);
}

/* The bytes of docs/format/peer.md. */
TEST_CASE(what_is_kept_has_these_bytes)
{
    static const uint8_t expected[] = {
        1,                        /* the form */
        2,                        /* pieces */
        0,                        /* from the start: */
        3, 0,   0, 0, 0, 0, 0, 0, /* promised */
        2, 0,   0, 0, 0, 0, 0, 0, /* complete */
        2, 0,   0, 0, 0, 0, 0, 0, /* purged */
        2, 0,   0, 0, 0, 0, 0, 0, /* swept */
        1, 'm',                   /* from "m": */
        3, 0,   0, 0, 0, 0, 0, 0, /* promised */
        0, 0,   0, 0, 0, 0, 0, 0, /* a new owner */
        2, 0,   0, 0, 0, 0, 0, 0, /* purged */
        1, 0,   0, 0, 0, 0, 0, 0, /* not swept */
    };
    struct purge_ranges ranges;
    struct buf bytes = {.heap = &heap};
    bool changed;
    struct key_range all = {0}, before = {.high = SLICE_LITERAL("m")};
    EXPECT(purge_ranges_init(&ranges, &heap) == STATUS_OK);
    EXPECT(purge_ranges_raise(&ranges, all, PURGE_PROMISED, 3, &changed) == STATUS_OK);
    EXPECT(purge_ranges_raise(&ranges, all, PURGE_PURGED, 2, &changed) == STATUS_OK);
    EXPECT(purge_ranges_raise(&ranges, before, PURGE_COMPLETE, 2, &changed) == STATUS_OK);
    EXPECT(purge_ranges_raise(&ranges, before, PURGE_SWEPT, 2, &changed) == STATUS_OK);
    purge_ranges_encode(&ranges, &bytes);
    EXPECT(slice_equal(buf_slice(&bytes), slice_of(expected, sizeof expected)));
    expect_strict(decode, buf_slice(&bytes));
    bytes.data[0] = 2;
    EXPECT(purge_ranges_decode(&ranges, buf_slice(&bytes)) == STATUS_NEWER);
    purge_ranges_deinit(&ranges);
    buf_deinit(&bytes);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_MAIN(TEST(ranges_are_as_if_each_key_had_its_own_times), TEST(a_range_without_keys_is_none),
          TEST(a_change_without_memory_changes_nothing), TEST(what_is_kept_has_these_bytes))
