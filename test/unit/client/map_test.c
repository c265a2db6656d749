#include "client/map.h"

#include "test.h"

static struct heap heap = {.failure_after = -1};

static enum status read(const char *json, struct map **out)
{
    return map_read(&heap, slice_from_text(json), out);
}

static bool owns(const struct map *map, uint64_t node, const char *low, const char *high)
{
    return map_owns(map, node, slice_from_text(low), slice_from_text(high));
}

/* From the start to g, to p, which goes over, to the end. */
static const char three_ranges[] =
    "{\"map\":4,\"ranges\":["
    "{\"low\":\"\",\"high\":\"g\",\"stage\":\"stable\",\"owners\":[1,2]},"
    "{\"low\":\"g\",\"high\":\"p\",\"stage\":\"filling\",\"owners\":[2,3],\"next\":[1]},"
    "{\"low\":\"p\",\"high\":\"\",\"stage\":\"switched\",\"owners\":[1,2],\"next\":[2,4]}]}";

TEST_CASE(a_word_belongs_to_the_owners_of_its_range)
{
    struct map *map;
    EXPECT(read(three_ranges, &map) == STATUS_OK);
    EXPECT(owns(map, 1, "apple", "apple!"));
    EXPECT(!owns(map, 3, "apple", "apple!"));
    EXPECT(owns(map, 3, "g", "g!"));
    EXPECT(!owns(map, 1, "g", "g!")); /* It is still being filled. */
    EXPECT(owns(map, 3, "oz", "p"));
    EXPECT(owns(map, 4, "p", "q")); /* It has taken over. */
    EXPECT(!owns(map, 1, "p", "q"));
    map_destroy(map);
}

TEST_CASE(a_prefix_over_ranges_belongs_to_who_owns_them_all)
{
    struct map *map;
    EXPECT(read(three_ranges, &map) == STATUS_OK);
    EXPECT(owns(map, 2, "", ""));
    EXPECT(!owns(map, 1, "", ""));
    EXPECT(owns(map, 2, "a", "h"));
    EXPECT(!owns(map, 3, "h", "q"));
    EXPECT(owns(map, 4, "x", ""));
    map_destroy(map);
}

TEST_CASE(keys_with_zeros_and_any_bytes_are_read)
{
    struct map *map;
    EXPECT(read("{\"ranges\":[{\"low\":\"ns\\u0000a\",\"high\":{\"base64\":\"bnMA/w==\"},"
                "\"stage\":\"stable\",\"owners\":[7]}]}",
                &map) == STATUS_OK);
    EXPECT(map_owns(map, 7, SLICE_LITERAL("ns\0a"), SLICE_LITERAL("ns\0\xff")));
    EXPECT(!map_owns(map, 7, SLICE_LITERAL("ns\0"), SLICE_LITERAL("ns\0\xff")));
    EXPECT(!map_owns(map, 7, SLICE_LITERAL("ns\0a"), SLICE_LITERAL("ns\0\xff\xff")));
    map_destroy(map);
}

TEST_CASE(nobody_owns_what_no_range_has)
{
    struct map *map;
    EXPECT(read("{\"ranges\":["
                "{\"low\":\"b\",\"high\":\"d\",\"stage\":\"stable\",\"owners\":[1]},"
                "{\"low\":\"f\",\"high\":\"h\",\"stage\":\"stable\",\"owners\":[1]}]}",
                &map) == STATUS_OK);
    EXPECT(!owns(map, 1, "a", "c"));
    EXPECT(!owns(map, 1, "c", "g"));
    EXPECT(!owns(map, 1, "e", "e!"));
    EXPECT(!owns(map, 1, "g", ""));
    EXPECT(owns(map, 1, "g", "h"));
    map_destroy(map);
    EXPECT(read("{\"ranges\":[]}", &map) == STATUS_OK);
    EXPECT(!owns(map, 1, "a", "b"));
    map_destroy(map);
    EXPECT(!owns(NULL, 1, "a", "b"));
}

TEST_CASE(what_is_no_map_is_refused)
{
    /* clang-format off */
    static const char *const wrong[] = {
        "",
        "{}",
        "[]",
        "{\"ranges\":{}}",
        "{\"ranges\":[1]}",
        "{\"ranges\":[{\"low\":\"\",\"high\":\"\"}]}",
        "{\"ranges\":[{\"low\":\"\",\"high\":\"\",\"owners\":[-1]}]}",
        "{\"ranges\":[{\"low\":\"\",\"high\":\"\",\"owners\":[\"1\"]}]}",
        "{\"ranges\":[{\"low\":1,\"high\":\"\",\"owners\":[1]}]}",
        "{\"ranges\":[{\"low\":{\"base64\":\"?\"},\"high\":\"\",\"owners\":[1]}]}",
        "{\"ranges\":[{\"low\":\"b\",\"high\":\"a\",\"owners\":[1]}]}",
        "{\"ranges\":[{\"low\":\"\",\"high\":\"\",\"owners\":[1]},{\"low\":\"a\",\"high\":\"b\",\"owners\":[1]}]}",
        "{\"ranges\":[{\"low\":\"\",\"high\":\"c\",\"owners\":[1]},{\"low\":\"b\",\"high\":\"d\",\"owners\":[1]}]}",
    };
    /* clang-format on */
    struct map *map = NULL;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        EXPECT(read(wrong[i], &map) == STATUS_INVALID);
        EXPECT(map == NULL);
    }
    /* Every truncation. */
    for (size_t size = 0; size < sizeof three_ranges - 1; size++) {
        EXPECT(map_read(&heap, slice_of(three_ranges, size), &map) == STATUS_INVALID);
    }
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_CASE(a_node_says_which_it_is)
{
    static const char json[] = "{\"nodes\":[{\"id\":1,\"zone\":\"east\",\"self\":false},"
                               "{\"id\":2,\"zone\":\"west\",\"self\":true}]}";
    uint64_t id = 0;
    char zone[4];
    EXPECT(map_read_self(slice_from_text(json), &id, zone, sizeof zone) == STATUS_OK);
    EXPECT(id == 2);
    assert_string_equal(zone, "wes");
    EXPECT(map_read_self(SLICE_LITERAL("{\"nodes\":[]}"), &id, zone, sizeof zone) ==
           STATUS_INVALID);
    EXPECT(map_read_self(SLICE_LITERAL("{"), &id, zone, sizeof zone) == STATUS_INVALID);
}

TEST_MAIN(TEST(a_word_belongs_to_the_owners_of_its_range),
          TEST(a_prefix_over_ranges_belongs_to_who_owns_them_all),
          TEST(keys_with_zeros_and_any_bytes_are_read), TEST(nobody_owns_what_no_range_has),
          TEST(what_is_no_map_is_refused), TEST(a_node_says_which_it_is))
