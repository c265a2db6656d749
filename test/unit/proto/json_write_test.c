#include "proto/json_write.h"

#include <jansson.h>

#include "base/prng.h"
#include "proto/problem.h"
#include "test.h"

static struct heap heap;
static struct buf out;

static void begin(void)
{
    heap_init(&heap, 0);
    buf_init(&out, &heap);
}

static void expect_and_end(const char *json)
{
    buf_append_u8(&out, 0);
    assert_string_equal((const char *)out.data, json);
    buf_deinit(&out);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_CASE(commas_come_by_themselves)
{
    begin();
    struct json_writer writer = json_writer_of(&out);
    json_write_object_begin(&writer);
    json_write_name(&writer, "a");
    json_write_array_begin(&writer);
    json_write_array_end(&writer);
    json_write_name(&writer, "b");
    json_write_array_begin(&writer);
    json_write_u64(&writer, UINT64_MAX);
    json_write_i64(&writer, INT64_MIN);
    json_write_object_begin(&writer);
    json_write_object_end(&writer);
    json_write_text(&writer, "x");
    json_write_text(&writer, "\n");
    json_write_double(&writer, 0.5);
    json_write_bool(&writer, true);
    json_write_null(&writer);
    json_write_raw(&writer, SLICE_LITERAL("[]"));
    json_write_array_end(&writer);
    json_write_object_end(&writer);
    expect_and_end(
        "{\"a\":[],\"b\":[18446744073709551615,-9223372036854775808,{},\"x\",\"\\n\",0.5,"
        "true,null,[]]}");
}

TEST_CASE(strings_are_escaped_or_travel_as_base64)
{
    begin();
    struct json_writer writer = json_writer_of(&out);
    json_write_array_begin(&writer);
    json_write_string(&writer, (struct slice){NULL, 0});
    json_write_text(&writer, "\"\\/\b\t\n\v\f\r\x7f caf\xc3\xa9");
    json_write_string(&writer, SLICE_LITERAL("a\0b"));
    json_write_string(&writer, SLICE_LITERAL("\xff\xfe"));
    json_write_array_end(&writer);
    expect_and_end("[\"\",\"\\\"\\\\/\\b\\t\\n\\u000b\\f\\r\x7f caf\xc3\xa9\",\"a\\u0000b\","
                   "{\"base64\":\"//4=\"}]");
}

/* Another reader gets back what was written. */
TEST_CASE(any_valid_text_is_read_back_by_another_library)
{
    struct prng prng = {.state = test_seed};
    begin();
    for (int round = 0; round < 3000; round++) {
        char text[80];
        size_t size = prng_below(&prng, 70);
        for (size_t i = 0; i < size; i++) text[i] = (char)prng_below(&prng, 128);
        for (size_t i = 0; i + 1 < size && prng_one_in(&prng, 2); i += 5) {
            memcpy(text + i, "\xc3\xa9", 2);
        }
        buf_clear(&out);
        struct json_writer writer = json_writer_of(&out);
        json_write_string(&writer, slice_of(text, size));
        json_t *value =
            json_loadb((const char *)out.data, out.size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        EXPECT(value != NULL);
        EXPECT(json_string_length(value) == size);
        EXPECT(memcmp(json_string_value(value), text, size) == 0);
        json_decref(value);
    }
    buf_deinit(&out);
}

TEST_CASE(a_problem_says_what_is_wrong)
{
    begin();
    problem_append(&out, &(struct problem){.code = PROBLEM_INVALID_SCORE,
                                           .detail = "a finite number was expected",
                                           .field = SLICE_LITERAL("score"),
                                           .request_id = SLICE_LITERAL("r\"1")});
    expect_and_end("{\"type\":\"urn:trifecta:error:invalid_score\",\"title\":\"The score is not a "
                   "finite number\",\"status\":400,\"detail\":\"a finite number was expected\","
                   "\"code\":\"invalid_score\",\"field\":\"score\",\"request_id\":\"r\\\"1\"}");
}

TEST_CASE(every_code_has_a_name_and_a_status)
{
    for (int code = 0; code < PROBLEM_CODE_COUNT; code++) {
        EXPECT(problem_code_name((enum problem_code)code) != NULL);
        EXPECT(problem_title((enum problem_code)code) != NULL);
        EXPECT(problem_status((enum problem_code)code) >= 400);
        for (int other = 0; other < code; other++) {
            EXPECT(strcmp(problem_code_name((enum problem_code)code),
                          problem_code_name((enum problem_code)other)) != 0);
        }
    }
    EXPECT(problem_code_of_status(400) == PROBLEM_BAD_REQUEST);
    EXPECT(problem_code_of_status(414) == PROBLEM_URI_TOO_LONG);
    EXPECT(problem_code_of_status(431) == PROBLEM_HEADERS_TOO_LARGE);
}

TEST_MAIN(TEST(commas_come_by_themselves), TEST(strings_are_escaped_or_travel_as_base64),
          TEST(any_valid_text_is_read_back_by_another_library), TEST(a_problem_says_what_is_wrong),
          TEST(every_code_has_a_name_and_a_status))
