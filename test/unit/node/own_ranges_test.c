/* What may be answered from the own view, as ranges of a map, against a model that asks each shard. */
#include <string.h>

#include "base/prng.h"
#include "cluster/rangemap_delta.h"
#include "node/own_ranges.h"
#include "test.h"

enum { SHARDS_MAX = 12, DRAWN_BYTES_MAX = 4 };

/* Short keys of few letters, so that lows, highs and prefixes meet often; 01 and ff as in real ones. */
static size_t draw_key(struct prng *prng, uint8_t key[DRAWN_BYTES_MAX])
{
    static const uint8_t letters[] = {1, 'a', 'b', 0xff};
    size_t size = 1 + prng_below(prng, DRAWN_BYTES_MAX);
    for (size_t i = 0; i < size; i++) key[i] = letters[prng_below(prng, sizeof letters)];
    return size;
}

static struct rangemap *make_map(struct heap *heap, struct prng *prng, enum consistency reads)
{
    struct rangemap_settings settings = rangemap_settings_default;
    struct member member = {.incarnation = 7,
                            .capacity = 1,
                            .zone = SLICE_LITERAL("z"),
                            .address = SLICE_LITERAL("n:1")};
    struct rangemap *map, *next;
    const char *why;
    settings.read_consistency = reads;
    EXPECT(rangemap_create(heap, 1, &settings, &member, &map) == STATUS_OK);
    for (size_t i = prng_below(prng, SHARDS_MAX); i > 0; i--) {
        uint8_t key[DRAWN_BYTES_MAX];
        struct change split = {.kind = CHANGE_SPLIT, .low = slice_of(key, draw_key(prng, key))};
        struct buf delta = {.heap = heap};
        rangemap_delta_begin(map, &delta);
        rangemap_delta_add(&delta, &split);
        if (rangemap_apply(map, buf_slice(&delta), &why, &next) == STATUS_OK) {
            rangemap_unref(map);
            map = next;
        }
        buf_deinit(&delta);
    }
    return map;
}

struct model {
    const struct rangemap *map;
    uint32_t may; /* A bit for each shard. */
};

static bool may_answer(const void *context, const struct shard *shard)
{
    const struct model *model = context;
    size_t index = shard->low.size == 0 ? 0 : rangemap_find(model->map, shard->low);
    return (model->may >> index & 1) != 0;
}

static bool model_admits(const struct model *model, struct slice key, bool is_prefix)
{
    size_t first = rangemap_find(model->map, key), end = first + 1;
    if (is_prefix) rangemap_find_prefix(model->map, key, &first, &end);
    for (; first < end; first++)
        if ((model->may >> first & 1) == 0) return false;
    return true;
}

TEST_CASE(it_admits_what_each_shard_of_a_read_may_answer)
{
    struct prng prng = {.state = test_seed};
    struct heap heap;
    unsigned admitted = 0, refused = 0;
    heap_init(&heap, 0);
    for (int round = 0; round < 300; round++) {
        uint32_t some = prng_u32(&prng), others = prng_u32(&prng);
        struct model model = {.may = some | others};
        struct rangemap *map = make_map(&heap, &prng, CONSISTENCY_ONE);
        struct own_ranges *ranges;
        model.map = map;
        EXPECT(own_ranges_create(&heap, map, 1, may_answer, &model, &ranges) == STATUS_OK);
        rangemap_unref(map); /* It keeps what it borrows from. */
        for (size_t i = 1; i < ranges->count; i++)
            EXPECT(slice_compare(ranges->ranges[i - 1].high, ranges->ranges[i].low) < 0);
        for (int i = 0; i < 200; i++) {
            uint8_t key[DRAWN_BYTES_MAX];
            struct own_read read = {.key = slice_of(key, draw_key(&prng, key)),
                                    .is_prefix = prng_below(&prng, 2) == 0};
            bool is = own_ranges_admit(ranges, &read, 0);
            EXPECT(is == model_admits(&model, read.key, read.is_prefix));
            admitted += is;
            refused += !is;
        }
        own_ranges_unref(ranges);
    }
    EXPECT(admitted > 1000 && refused > 1000);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_CASE(only_reads_at_one_are_admitted_and_never_all_keys)
{
    struct prng prng = {.state = test_seed};
    struct heap heap;
    heap_init(&heap, 0);
    for (int reads = CONSISTENCY_ONE; reads <= CONSISTENCY_ALL; reads++) {
        struct rangemap *map = make_map(&heap, &prng, (enum consistency)reads);
        struct model model = {.map = map, .may = UINT32_MAX};
        struct own_ranges *ranges;
        EXPECT(own_ranges_create(&heap, map, 1, may_answer, &model, &ranges) == STATUS_OK);
        struct own_read read = {.key = SLICE_LITERAL("a"), .is_prefix = true};
        EXPECT(own_ranges_admit(ranges, &read, 0) == (reads == CONSISTENCY_ONE));
        read.has_consistency = true;
        EXPECT(own_ranges_admit(ranges, &read, 0));
        read.consistency = CONSISTENCY_QUORUM;
        EXPECT(!own_ranges_admit(ranges, &read, 0));
        read = (struct own_read){.is_prefix = true, .has_consistency = true};
        EXPECT(
            !own_ranges_admit(ranges, &read, 0)); /* What a node keeps for itself lies there too. */
        own_ranges_unref(ranges);
        rangemap_unref(map);
    }
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_CASE(equal_is_what_says_the_same)
{
    struct prng prng = {.state = test_seed};
    struct heap heap;
    struct own_ranges *all, *same, *none, *fewer;
    heap_init(&heap, 0);
    struct rangemap *map = make_map(&heap, &prng, CONSISTENCY_ONE);
    while (rangemap_shard_count(map) < 2) {
        rangemap_unref(map);
        map = make_map(&heap, &prng, CONSISTENCY_ONE);
    }
    struct model model = {.map = map, .may = UINT32_MAX};
    EXPECT(own_ranges_create(&heap, map, 1, may_answer, &model, &all) == STATUS_OK);
    EXPECT(own_ranges_create(&heap, map, 1, may_answer, &model, &same) == STATUS_OK);
    model.may = 1;
    EXPECT(own_ranges_create(&heap, map, 1, may_answer, &model, &fewer) == STATUS_OK);
    model.may = 0;
    EXPECT(own_ranges_create(&heap, map, 1, may_answer, &model, &none) == STATUS_OK);
    EXPECT(all->count == 1 && fewer->count == 1 && none->count == 0);
    EXPECT(own_ranges_equal(all, same) && own_ranges_equal(NULL, NULL));
    EXPECT(!own_ranges_equal(all, fewer) && !own_ranges_equal(fewer, none));
    EXPECT(!own_ranges_equal(all, NULL) && !own_ranges_equal(NULL, none));
    own_ranges_unref(own_ranges_ref(all));
    EXPECT(own_ranges_equal(all, same));
    own_ranges_unref(all);
    own_ranges_unref(same);
    own_ranges_unref(fewer);
    own_ranges_unref(none);
    own_ranges_unref(NULL);
    rangemap_unref(map);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_MAIN(TEST(it_admits_what_each_shard_of_a_read_may_answer),
          TEST(only_reads_at_one_are_admitted_and_never_all_keys),
          TEST(equal_is_what_says_the_same))
