#include "proto/cursor.h"

#include "guard.h"
#include "test.h"

static struct heap heap;
static struct buf text;
static struct buf scratch;

static void begin(void)
{
    heap_init(&heap, 0);
    buf_init(&text, &heap);
    buf_init(&scratch, &heap);
}

static void end(void)
{
    buf_deinit(&text);
    buf_deinit(&scratch);
    EXPECT(heap_used_bytes(&heap) == 0);
}

static const struct cursor popular = {
    .sort = CURSOR_POPULARITY,
    .score = 42,
    .created_time = 0x18bcfe5680000001,
    .created_node = 7,
    .key = {(const uint8_t *)"default\0trial", 13},
};

/* The example of docs/format/cursor.md. */
TEST_CASE(the_documented_example_holds)
{
    begin();
    uint64_t hash =
        cursor_query_hash(SLICE_LITERAL("default"), SLICE_LITERAL("tri"), SLICE_LITERAL(""));
    cursor_encode(&popular, hash, &text);
    buf_append_u8(&text, 0);
    assert_string_equal((const char *)text.data,
                        "AQAAAAAAAABFQAEAAIBW_rwYBwBkZWZhdWx0AHRyaWFsjLhagv3WsDA");
    end();
}

TEST_CASE(a_cursor_comes_back)
{
    begin();
    struct cursor cursor;
    cursor_encode(&popular, 5, &text);
    EXPECT(cursor_decode(buf_slice(&text), 5, &scratch, &cursor) == STATUS_OK);
    EXPECT(cursor.sort == CURSOR_POPULARITY);
    EXPECT(cursor.score == 42);
    EXPECT(cursor.created_time == popular.created_time);
    EXPECT(cursor.created_node == 7);
    EXPECT(slice_equal(cursor.key, popular.key));

    buf_clear(&text);
    cursor_encode(&(struct cursor){.sort = CURSOR_ALPHABETICAL_REVERSE, .key = popular.key}, 5,
                  &text);
    EXPECT(cursor_decode(buf_slice(&text), 5, &scratch, &cursor) == STATUS_OK);
    EXPECT(cursor.sort == CURSOR_ALPHABETICAL_REVERSE);
    EXPECT(slice_equal(cursor.key, popular.key));
    end();
}

TEST_CASE(an_altered_or_foreign_cursor_is_refused)
{
    begin();
    struct guard guard = guard_create(4096);
    struct cursor cursor = {.score = 3};
    cursor_encode(&popular, 5, &text);

    EXPECT(cursor_decode(buf_slice(&text), 6, &scratch, &cursor) == STATUS_INVALID);
    for (size_t size = 0; size < text.size; size++) {
        struct slice cut = guard_copy(&guard, slice_prefix(buf_slice(&text), size));
        EXPECT(cursor_decode(cut, 5, &scratch, &cursor) == STATUS_INVALID);
    }
    for (size_t bit = 0; bit < 8 * text.size; bit++) {
        text.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        struct slice altered = guard_copy(&guard, buf_slice(&text));
        EXPECT(cursor_decode(altered, 5, &scratch, &cursor) == STATUS_INVALID);
        text.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    EXPECT(cursor.score == 3);
    guard_destroy(&guard);
    end();
}

TEST_CASE(each_part_of_a_query_counts)
{
    struct slice a = SLICE_LITERAL("a");
    struct slice ab = SLICE_LITERAL("ab");
    struct slice b = SLICE_LITERAL("b");
    struct slice none = {0};
    uint64_t hashes[] = {cursor_query_hash(a, b, none),     cursor_query_hash(ab, none, none),
                         cursor_query_hash(a, none, b),     cursor_query_hash(none, a, b),
                         cursor_query_hash(none, ab, none), cursor_query_hash(none, none, ab)};
    for (size_t i = 0; i < sizeof hashes / sizeof hashes[0]; i++) {
        for (size_t j = 0; j < i; j++) EXPECT(hashes[i] != hashes[j]);
    }
}

TEST_CASE(no_allocation_that_fails_does_harm)
{
    for (int n = 0; n < 4; n++) {
        begin();
        struct cursor cursor;
        heap.failure_after = n;
        cursor_encode(&popular, 5, &text);
        if (buf_status(&text) == STATUS_OK) {
            enum status status = cursor_decode(buf_slice(&text), 5, &scratch, &cursor);
            EXPECT(status == STATUS_OK || status == STATUS_NOMEM);
        }
        end();
    }
}

TEST_MAIN(TEST(the_documented_example_holds), TEST(a_cursor_comes_back),
          TEST(an_altered_or_foreign_cursor_is_refused), TEST(each_part_of_a_query_counts),
          TEST(no_allocation_that_fails_does_harm))
