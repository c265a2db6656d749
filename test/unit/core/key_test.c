#include "core/key.h"

#include "base/prng.h"
#include "test.h"

static struct heap heap;

static struct buf empty_buf(void)
{
    struct buf buf;
    heap_init(&heap, 0);
    buf_init(&buf, &heap);
    return buf;
}

static void expect_key(const char *name, struct slice word, enum fold fold, struct slice want)
{
    struct buf key = empty_buf();
    EXPECT(key_encode(slice_from_text(name), word, fold, &key) == STATUS_OK);
    EXPECT(slice_equal(buf_slice(&key), want));
    buf_deinit(&key);
}

/* The examples of docs/format/key.md. */
TEST_CASE(keys_are_as_documented)
{
    expect_key("default", SLICE_LITERAL("abc"), FOLD_CASE, SLICE_LITERAL("default\0abc"));
    expect_key("default", SLICE_LITERAL("Abc"), FOLD_CASE, SLICE_LITERAL("default\0abc\0Abc"));
    expect_key("n", SLICE_LITERAL("a\0B\1"), FOLD_CASE, SLICE_LITERAL("n\0a\1\1b\1\2\0a\1\1B\1\2"));
    expect_key("n", SLICE_LITERAL("Abc"), FOLD_NONE, SLICE_LITERAL("n\0Abc"));
    expect_key("n", SLICE_LITERAL("\u0301"), FOLD_FULL, SLICE_LITERAL("n\0\0\xcc\x81"));
}

/* Few letters, so that random words collide in their folds, prefixes and escapes. */
static struct slice random_word(struct prng *prng, uint8_t *bytes, size_t size_max)
{
    static const uint8_t alphabet[] = {0, 1, 2, 'a', 'A', 'b', 0xff, 0xc3, 0x89, 0xa9};
    size_t size = 1 + prng_below(prng, (uint32_t)size_max);
    for (size_t i = 0; i < size; i++) bytes[i] = alphabet[prng_below(prng, sizeof alphabet)];
    return slice_of(bytes, size);
}

/* The alphabetical order as the contract words it. */
static int alphabetical(struct slice a, struct slice b)
{
    struct buf fold_a = empty_buf();
    struct buf fold_b = empty_buf();
    EXPECT(fold_append(FOLD_CASE, a, &fold_a) == STATUS_OK);
    EXPECT(fold_append(FOLD_CASE, b, &fold_b) == STATUS_OK);
    int order = slice_compare(buf_slice(&fold_a), buf_slice(&fold_b));
    bool a_plain = slice_equal(a, buf_slice(&fold_a));
    bool b_plain = slice_equal(b, buf_slice(&fold_b));
    if (order == 0 && a_plain != b_plain) order = a_plain ? -1 : 1;
    if (order == 0) order = slice_compare(a, b);
    buf_deinit(&fold_a);
    buf_deinit(&fold_b);
    return order;
}

static int sign(int value)
{
    return (value > 0) - (value < 0);
}

TEST_CASE(byte_order_of_keys_is_the_alphabetical_order)
{
    struct prng prng = {.state = test_seed};
    struct buf key_a = empty_buf();
    struct buf key_b = empty_buf();
    for (int round = 0; round < 50000; round++) {
        uint8_t bytes[2][8];
        struct slice a = random_word(&prng, bytes[0], 5);
        struct slice b = random_word(&prng, bytes[1], 5);
        EXPECT(key_encode(SLICE_LITERAL("n"), a, FOLD_CASE, &key_a) == STATUS_OK);
        EXPECT(key_encode(SLICE_LITERAL("n"), b, FOLD_CASE, &key_b) == STATUS_OK);
        EXPECT(sign(slice_compare(buf_slice(&key_a), buf_slice(&key_b))) ==
               sign(alphabetical(a, b)));
    }
    buf_deinit(&key_a);
    buf_deinit(&key_b);
}

TEST_CASE(a_key_starts_with_the_prefix_exactly_when_the_query_matches)
{
    struct prng prng = {.state = test_seed};
    struct buf key = empty_buf();
    struct buf prefix = empty_buf();
    struct buf folded = empty_buf();
    for (int round = 0; round < 50000; round++) {
        uint8_t bytes[2][8];
        struct slice word = random_word(&prng, bytes[0], 5);
        struct slice query = random_word(&prng, bytes[1], 3);
        if (prng_one_in(&prng, 10)) query.size = 0;
        EXPECT(key_encode(SLICE_LITERAL("n"), word, FOLD_CASE, &key) == STATUS_OK);
        EXPECT(key_prefix(SLICE_LITERAL("n"), query, FOLD_CASE, &prefix) == STATUS_OK);
        bool found = slice_starts_with(buf_slice(&key), buf_slice(&prefix));

        buf_clear(&folded);
        EXPECT(fold_append(FOLD_CASE, word, &folded) == STATUS_OK);
        size_t folded_size = folded.size;
        EXPECT(fold_append(FOLD_CASE, query, &folded) == STATUS_OK);
        struct slice both = buf_slice(&folded);
        EXPECT(found ==
               slice_starts_with(slice_prefix(both, folded_size), slice_from(both, folded_size)));

        EXPECT(key_prefix_end(buf_slice(&prefix), &folded) == STATUS_OK);
        EXPECT(found == (slice_compare(buf_slice(&key), buf_slice(&prefix)) >= 0 &&
                         slice_compare(buf_slice(&key), buf_slice(&folded)) < 0));
    }
    buf_deinit(&key);
    buf_deinit(&prefix);
    buf_deinit(&folded);
}

TEST_CASE(what_is_encoded_decodes_to_the_same)
{
    struct prng prng = {.state = test_seed};
    struct buf key = empty_buf();
    struct buf word_out = empty_buf();
    struct buf folded = empty_buf();
    for (int round = 0; round < 50000; round++) {
        uint8_t bytes[12];
        enum fold fold = (enum fold)prng_below(&prng, FOLD_COUNT);
        struct slice word = random_word(&prng, bytes, 10);
        struct slice name;
        EXPECT(key_encode(SLICE_LITERAL("a:b"), word, fold, &key) == STATUS_OK);
        EXPECT(key_decode(buf_slice(&key), &name, &word_out) == STATUS_OK);
        EXPECT(slice_equal(name, SLICE_LITERAL("a:b")));
        EXPECT(slice_equal(buf_slice(&word_out), word));

        EXPECT(key_decode_folded(buf_slice(&key), &folded) == STATUS_OK);
        buf_clear(&word_out);
        EXPECT(fold_append(fold, word, &word_out) == STATUS_OK);
        EXPECT(slice_equal(buf_slice(&word_out), buf_slice(&folded)));
    }
    buf_deinit(&key);
    buf_deinit(&word_out);
    buf_deinit(&folded);
}

TEST_CASE(bytes_that_are_no_key_are_refused)
{
    struct slice cases[] = {
        SLICE_LITERAL(""),           SLICE_LITERAL("n"), /* No separator. */
        SLICE_LITERAL("n\0"),                            /* No word. */
        SLICE_LITERAL("\0a"),                            /* No namespace. */
        SLICE_LITERAL("n/m\0a"),                         /* No such namespace. */
        SLICE_LITERAL("n\0a\0a"),                        /* Written twice. */
        SLICE_LITERAL("n\0a\0"),                         /* Empty original. */
        SLICE_LITERAL("n\0a\0b\0c"),                     /* A separator too many. */
        SLICE_LITERAL("n\0a\1"),                         /* Half an escape. */
        SLICE_LITERAL("n\0a\1\3"),                       /* No such escape. */
        SLICE_LITERAL("n\0a\0A\1"),                      /* Half an escape in the original. */
    };
    struct buf out = empty_buf();
    struct slice name = SLICE_LITERAL("untouched");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        EXPECT(key_decode(cases[i], &name, &out) == STATUS_CORRUPT);
        EXPECT(key_decode_folded(cases[i], &out) == STATUS_CORRUPT);
        EXPECT(out.size == 0);
        EXPECT(slice_equal(name, SLICE_LITERAL("untouched")));
    }
    buf_deinit(&out);
}

TEST_CASE(the_limits_hold_and_the_longest_key_fits)
{
    static uint8_t bytes[WORD_BYTES_MAX + 1];
    struct buf key = empty_buf();
    struct buf word = empty_buf();
    struct slice name =
        SLICE_LITERAL("0123456789012345678901234567890123456789012345678901234567890123");
    EXPECT(name.size == NAMESPACE_BYTES_MAX);
    bytes[0] = 'A';
    EXPECT(key_encode(name, slice_of(bytes, WORD_BYTES_MAX), FOLD_CASE, &key) == STATUS_OK);
    EXPECT(key.size <= KEY_BYTES_MAX);
    EXPECT(key_decode(buf_slice(&key), &name, &word) == STATUS_OK);
    EXPECT(slice_equal(buf_slice(&word), slice_of(bytes, WORD_BYTES_MAX)));

    EXPECT(key_encode(name, slice_of(bytes, sizeof bytes), FOLD_CASE, &key) == STATUS_INVALID);
    EXPECT(key_encode(name, slice_of(bytes, 0), FOLD_CASE, &key) == STATUS_INVALID);
    EXPECT(key_prefix(name, slice_of(bytes, sizeof bytes), FOLD_CASE, &key) == STATUS_LIMIT);
    EXPECT(key_namespace_prefix(SLICE_LITERAL("a b"), &key) == STATUS_INVALID);
    EXPECT(key_namespace_prefix(SLICE_LITERAL(""), &key) == STATUS_INVALID);
    EXPECT(key.size == 0);
    buf_deinit(&key);
    buf_deinit(&word);
}

TEST_CASE(no_memory_is_reported_and_nothing_leaks)
{
    for (int64_t after = 0; after < 12; after++) {
        struct buf key = empty_buf();
        static uint8_t bytes[1000];
        bytes[0] = 'A';
        heap.failure_after = after;
        enum status status =
            key_encode(SLICE_LITERAL("n"), slice_of(bytes, sizeof bytes), FOLD_FULL, &key);
        EXPECT(status == STATUS_OK || status == STATUS_NOMEM);
        EXPECT(after != 0 || status == STATUS_NOMEM);
        EXPECT(status == STATUS_OK || key.size == 0);
        heap.failure_after = -1;
        buf_deinit(&key);
        EXPECT(heap_used_bytes(&heap) == 0);
    }
}

TEST_MAIN(TEST(keys_are_as_documented), TEST(byte_order_of_keys_is_the_alphabetical_order),
          TEST(a_key_starts_with_the_prefix_exactly_when_the_query_matches),
          TEST(what_is_encoded_decodes_to_the_same), TEST(bytes_that_are_no_key_are_refused),
          TEST(the_limits_hold_and_the_longest_key_fits),
          TEST(no_memory_is_reported_and_nothing_leaks))
