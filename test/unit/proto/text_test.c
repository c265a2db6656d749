/* UTF-8, base64 and numbers: the small codecs. */
#include <math.h>

#include "base/prng.h"
#include "guard.h"
#include "proto/base64.h"
#include "proto/number.h"
#include "proto/utf8.h"
#include "test.h"

static struct heap heap;
static struct buf out;

TEST_CASE(every_code_point_is_valid_and_every_other_triple_is_not)
{
    uint8_t bytes[4];
    uint32_t valid = 0;
    for (uint32_t code = 0; code <= 0x10ffff; code++) {
        if (code >= 0xd800 && code < 0xe000) continue;
        unsigned size = utf8_put(code, bytes);
        EXPECT(utf8_size(bytes, 4) == size);
        EXPECT(utf8_is_valid(slice_of(bytes, size)));
        EXPECT(!utf8_is_valid(slice_of(bytes, size - 1)) || size == 1);
        valid += size == 3;
    }
    uint32_t found = 0;
    for (uint32_t bits = 0; bits < 1 << 24; bits++) {
        bytes[0] = (uint8_t)(bits >> 16);
        bytes[1] = (uint8_t)(bits >> 8);
        bytes[2] = (uint8_t)bits;
        found += utf8_size(bytes, 3) == 3;
    }
    EXPECT(found == valid);
}

TEST_CASE(what_is_not_utf8_is_found_wherever_it_stands)
{
    static const char *const bad[] = {
        "\x80",         "\xc0\x80",         "\xc1\xbf",         "\xe0\x9f\xbf",
        "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
        "\xff",         "\xe2\x82"};
    struct guard guard = guard_create(4096);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        for (size_t at = 0; at < 40; at++) {
            uint8_t text[50];
            memset(text, 'a', sizeof text);
            memcpy(text + at, bad[i], strlen(bad[i]));
            EXPECT(!utf8_is_valid(guard_copy(&guard, slice_of(text, sizeof text))));
            EXPECT(!utf8_is_valid(guard_copy(&guard, slice_of(text, at + strlen(bad[i])))));
            EXPECT(utf8_is_valid(guard_copy(&guard, slice_of(text, at))));
        }
    }
    guard_destroy(&guard);
}

TEST_CASE(base64_comes_back_and_nothing_else_is_taken)
{
    struct prng prng = {.state = test_seed};
    struct buf text;
    heap_init(&heap, 0);
    buf_init(&out, &heap);
    buf_init(&text, &heap);
    base64_encode(BASE64_PADDED, SLICE_LITERAL("any\xff?"), &text);
    EXPECT(slice_equal(buf_slice(&text), SLICE_LITERAL("YW55/z8=")));

    for (int round = 0; round < 3000; round++) {
        uint8_t bytes[30];
        enum base64 variant = round % 2 ? BASE64_URL : BASE64_PADDED;
        size_t size = prng_below(&prng, sizeof bytes);
        for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)prng_u32(&prng);
        buf_clear(&text);
        base64_encode(variant, slice_of(bytes, size), &text);
        buf_clear(&out);
        EXPECT(base64_decode(variant, buf_slice(&text), &out) == STATUS_OK);
        EXPECT(slice_equal(buf_slice(&out), slice_of(bytes, size)));
        if (text.size == 0) continue;

        /* Another text either means other bytes or is refused. */
        text.data[prng_below(&prng, (uint32_t)text.size)] ^= (uint8_t)(1 << prng_below(&prng, 8));
        buf_clear(&out);
        if (base64_decode(variant, buf_slice(&text), &out) == STATUS_OK) {
            EXPECT(!slice_equal(buf_slice(&out), slice_of(bytes, size)));
        }
    }
    static const char *const bad[] = {"A",    "AA",    "AAA",      "AA=",  "A===", "====",
                                      "AB==", "AA==A", "AA==AAAA", "AA A", "AA-_", "AAAA\n"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        buf_clear(&out);
        EXPECT(base64_decode(BASE64_PADDED, slice_from_text(bad[i]), &out) == STATUS_INVALID);
        EXPECT(out.size == 0);
    }
    buf_deinit(&text);
    buf_deinit(&out);
}

static const char *put(double value)
{
    static uint8_t text[NUMBER_BYTES_MAX + 1];
    text[number_put(value, text)] = 0;
    return (const char *)text;
}

TEST_CASE(numbers_are_short)
{
    assert_string_equal(put(0), "0");
    assert_string_equal(put(-0.0), "-0");
    assert_string_equal(put(1), "1");
    assert_string_equal(put(-12.5), "-12.5");
    assert_string_equal(put(0.1), "0.1");
    assert_string_equal(put(0.000001), "0.000001");
    assert_string_equal(put(3.05), "3.05");
    assert_string_equal(put(0.1 + 0.2), "0.30000000000000004");
    assert_string_equal(put(9007199254740992.0), "9007199254740992");
    assert_string_equal(put(1e22), "1e+22");
    assert_string_equal(put(5e-324), "4.94065645841247e-324");
    assert_string_equal(put(-1.7976931348623157e308), "-1.7976931348623157e+308");
}

TEST_CASE(every_double_comes_back)
{
    struct prng prng = {.state = test_seed};
    for (int round = 0; round < 200000; round++) {
        double value;
        double again;
        uint8_t text[NUMBER_BYTES_MAX];
        uint64_t bits = prng_u64(&prng);
        memcpy(&value, &bits, sizeof value);
        if (round % 3 == 1) value = (double)(int64_t)bits / 1000;
        if (round % 3 == 2) value = (double)(int32_t)bits / (1 + prng_below(&prng, 1000));
        if (!isfinite(value)) continue;
        size_t size = number_put(value, text);
        EXPECT(number_parse(slice_of(text, size), &again) == STATUS_OK);
        EXPECT(memcmp(&again, &value, sizeof value) == 0);
    }
}

/* Texts of all lengths: the same double as strtod() reads. */
TEST_CASE(numbers_are_read_as_the_c_library_reads_them)
{
    struct prng prng = {.state = test_seed};
    for (int round = 0; round < 50000; round++) {
        char text[1200];
        size_t size = 0;
        unsigned whole = prng_below(&prng, round % 100 == 0 ? 900 : 25);
        unsigned fraction = prng_below(&prng, round % 100 == 1 ? 200 : 25);
        if (prng_one_in(&prng, 3)) text[size++] = '-';
        for (unsigned i = 0; i < whole; i++) text[size++] = (char)('0' + prng_below(&prng, 10));
        if (fraction > 0) text[size++] = '.';
        for (unsigned i = 0; i < fraction; i++) text[size++] = (char)('0' + prng_below(&prng, 10));
        if (whole + fraction == 0) continue;
        if (prng_one_in(&prng, 2)) {
            int exponent = (int)prng_below(&prng, 700) - 350;
            size += (size_t)sprintf(text + size, "e%d", exponent);
        }
        text[size] = 0;
        double expected = strtod(text, NULL);
        double value = 0;
        enum status status = number_parse(slice_of(text, size), &value);
        EXPECT(status == (isfinite(expected) ? STATUS_OK : STATUS_INVALID));
        if (status == STATUS_OK) EXPECT(memcmp(&value, &expected, sizeof value) == 0);
    }
}

TEST_CASE(what_is_no_number_is_refused)
{
    static const char *const bad[] = {
        "",   "-",   "+",     ".",   "e1",   "1e",    "1e+", "nan",  "inf",   "0x1", "1 ",
        " 1", "1,5", "1.2.3", "--1", "1e5.", "1e999", "1f",  "-inf", "1e1e1", "1_0", "\xc2\xb9"};
    struct guard guard = guard_create(4096);
    double value = 7;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        EXPECT(number_parse(guard_copy(&guard, slice_from_text(bad[i])), &value) == STATUS_INVALID);
        EXPECT(value == 7);
    }
    EXPECT(number_parse(SLICE_LITERAL("+.5"), &value) == STATUS_OK && value == 0.5);
    EXPECT(number_parse(SLICE_LITERAL("5."), &value) == STATUS_OK && value == 5);
    EXPECT(number_parse(SLICE_LITERAL("1e-99999999999999999999"), &value) == STATUS_OK);
    EXPECT(value == 0);
    EXPECT(number_parse(SLICE_LITERAL("0e99999999999999999999"), &value) == STATUS_OK);
    guard_destroy(&guard);
}

TEST_MAIN(TEST(every_code_point_is_valid_and_every_other_triple_is_not),
          TEST(what_is_not_utf8_is_found_wherever_it_stands),
          TEST(base64_comes_back_and_nothing_else_is_taken), TEST(numbers_are_short),
          TEST(every_double_comes_back), TEST(numbers_are_read_as_the_c_library_reads_them),
          TEST(what_is_no_number_is_refused))
