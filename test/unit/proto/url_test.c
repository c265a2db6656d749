#include "proto/url.h"

#include "base/prng.h"
#include "guard.h"
#include "test.h"

static struct heap heap;
static struct buf out;

static bool is(struct slice slice, const char *text)
{
    return slice_equal(slice, slice_from_text(text));
}

TEST_CASE(a_query_is_taken_apart)
{
    struct slice query = SLICE_LITERAL("&q=a=b&&flag&=x&last=");
    struct slice name;
    struct slice value;
    EXPECT(url_query_next(&query, &name, &value) && is(name, "q") && is(value, "a=b"));
    EXPECT(url_query_next(&query, &name, &value) && is(name, "flag") && is(value, ""));
    EXPECT(url_query_next(&query, &name, &value) && is(name, "") && is(value, "x"));
    EXPECT(url_query_next(&query, &name, &value) && is(name, "last") && is(value, ""));
    EXPECT(!url_query_next(&query, &name, &value));
    EXPECT(url_query_find(SLICE_LITERAL("a=1&b=2&b=3"), "b", &value) && is(value, "2"));
    EXPECT(!url_query_find(SLICE_LITERAL("a=1&bb=2"), "b", &value));
}

TEST_CASE(a_path_is_taken_apart)
{
    struct slice path = SLICE_LITERAL("/nodes/7//");
    struct slice segment;
    EXPECT(url_path_next(&path, &segment) && is(segment, "nodes"));
    EXPECT(url_path_next(&path, &segment) && is(segment, "7"));
    EXPECT(url_path_next(&path, &segment) && is(segment, ""));
    EXPECT(url_path_next(&path, &segment) && is(segment, ""));
    EXPECT(!url_path_next(&path, &segment));
}

TEST_CASE(escapes_are_undone_strictly)
{
    static const char *const bad[] = {"%", "%a", "a%", "%g0", "%0g", "%%41", "%u0041", "% 1"};
    struct slice text;
    heap_init(&heap, 0);
    buf_init(&out, &heap);

    struct slice plain = SLICE_LITERAL("plain");
    EXPECT(url_decode(plain, &out, &text) == STATUS_OK && text.data == plain.data);
    EXPECT(url_decode(SLICE_LITERAL("a+b%2Bc%2f%e9"), &out, &text) == STATUS_OK);
    EXPECT(is(text, "a b+c/\xe9"));
    EXPECT(url_decode_path(SLICE_LITERAL("a+b%20"), &out, &text) == STATUS_OK);
    EXPECT(is(text, "a+b "));
    EXPECT(url_decode(SLICE_LITERAL("%00"), &out, &text) == STATUS_OK);
    EXPECT(text.size == 1 && text.data[0] == 0);

    struct guard guard = guard_create(100);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct slice input = guard_copy(&guard, slice_from_text(bad[i]));
        EXPECT(url_decode(input, &out, &text) == STATUS_INVALID);
    }
    guard_destroy(&guard);
    buf_deinit(&out);
}

TEST_CASE(any_bytes_come_back_from_their_escapes)
{
    struct prng prng = {.state = test_seed};
    struct buf scratch;
    heap_init(&heap, 0);
    buf_init(&out, &heap);
    buf_init(&scratch, &heap);
    for (int round = 0; round < 2000; round++) {
        uint8_t bytes[40];
        struct slice text;
        size_t size = prng_below(&prng, sizeof bytes);
        for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)prng_u32(&prng);
        buf_clear(&out);
        buf_clear(&scratch);
        url_encode(slice_of(bytes, size), &out);
        EXPECT(url_decode(buf_slice(&out), &scratch, &text) == STATUS_OK);
        EXPECT(slice_equal(text, slice_of(bytes, size)));
        EXPECT(url_decode_path(buf_slice(&out), &scratch, &text) == STATUS_OK);
        EXPECT(slice_equal(text, slice_of(bytes, size)));
    }
    buf_deinit(&out);
    buf_deinit(&scratch);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_MAIN(TEST(a_query_is_taken_apart), TEST(a_path_is_taken_apart),
          TEST(escapes_are_undone_strictly), TEST(any_bytes_come_back_from_their_escapes))
