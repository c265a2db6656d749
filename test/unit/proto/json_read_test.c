#include "proto/json_read.h"

#include <time.h>

#include "base/prng.h"
#include "guard.h"
#include "json_oracle.h"
#include "test.h"

static struct heap heap;
static struct buf scratch;
static struct problem problem;

static enum status read_text(const char *text, struct word_input *out)
{
    problem = (struct problem){0};
    return json_read_word(slice_from_text(text), JSON_PUT_FIELDS, &scratch, out, &problem);
}

static bool is(struct slice slice, const char *text)
{
    return slice_equal(slice, slice_from_text(text));
}

static void begin(void)
{
    heap_init(&heap, 0);
    buf_init(&scratch, &heap);
}

static void end(void)
{
    buf_deinit(&scratch);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_CASE(a_whole_object_is_read)
{
    begin();
    struct word_input input;
    EXPECT(
        read_text(" { \"word\" : \"tr\\u0069\\ud83d\\ude00\\u0000\" ,\"score\":-1.5e1,\"payload\":"
                  "{\"base64\":\"/w==\"},\"tags\":[\"b\",{ \"base64\" : \"YQ\\u003d=\" },\"b\"],"
                  "\"ttl_ms\":1e3}\r\n",
                  &input) == STATUS_OK);
    EXPECT(slice_equal(input.word, SLICE_LITERAL("tri\xf0\x9f\x98\x80\0")));
    EXPECT(input.score == -15);
    EXPECT(is(input.payload, "\xff"));
    EXPECT(is(input.tags, "\1a\1b"));
    EXPECT(input.ttl_ms == 1000);
    EXPECT(input.expires_at == 0);
    EXPECT(input.fields == (JSON_PUT_FIELDS & ~(unsigned)JSON_EXPIRES_AT));

    EXPECT(read_text("{\"word\":\"plain\"}", &input) == STATUS_OK);
    EXPECT(is(input.word, "plain"));
    EXPECT(input.score == 1);
    EXPECT(input.fields == JSON_WORD);
    EXPECT(json_read_word(SLICE_LITERAL("{\"by\":-2,\"word\":\"a\"}"), JSON_INCREMENT_FIELDS,
                          &scratch, &input, &problem) == STATUS_OK);
    EXPECT(input.by == -2);
    end();
}

static const struct {
    const char *text;
    enum problem_code code;
    const char *field;
} refusals[] = {
    {"", PROBLEM_INVALID_JSON, ""},
    {"[]", PROBLEM_INVALID_JSON, ""},
    {"{}", PROBLEM_MISSING_FIELD, "word"},
    {"{\"word\":\"a\"", PROBLEM_INVALID_JSON, ""},
    {"{\"word\":\"a\"}x", PROBLEM_INVALID_JSON, ""},
    {"{\"word\":\"a\",}", PROBLEM_INVALID_JSON, ""},
    {"{\"word\":\"a\" \"score\":1}", PROBLEM_INVALID_JSON, ""},
    {"{'word':'a'}", PROBLEM_INVALID_JSON, ""},
    {"{\"word\":1}", PROBLEM_INVALID_JSON, "word"},
    {"{\"word\":null}", PROBLEM_INVALID_JSON, "word"},
    {"{\"word\":\"\"}", PROBLEM_INVALID_WORD, "word"},
    {"{\"word\":\"a\n\"}", PROBLEM_INVALID_JSON, "word"},
    {"{\"word\":\"\xff\"}", PROBLEM_INVALID_JSON, "word"},
    {"{\"word\":\"\\x\"}", PROBLEM_INVALID_JSON, "word"},
    {"{\"word\":\"\\ud800\"}", PROBLEM_INVALID_JSON, "word"},
    {"{\"word\":\"\\ud800\\u0041\"}", PROBLEM_INVALID_JSON, "word"},
    {"{\"word\":\"\\udc00\"}", PROBLEM_INVALID_JSON, "word"},
    {"{\"word\":\"\\u00g0\"}", PROBLEM_INVALID_JSON, "word"},
    {"{\"word\":{\"base64\":\"a\"}}", PROBLEM_INVALID_JSON, "word"},
    {"{\"word\":{\"hex\":\"aa\"}}", PROBLEM_INVALID_JSON, "word"},
    {"{\"word\":\"a\",\"word\":\"a\"}", PROBLEM_DUPLICATE_FIELD, "word"},
    {"{\"word\":\"a\",\"Score\":1}", PROBLEM_UNKNOWN_FIELD, "Score"},
    {"{\"word\":\"a\",\"by\":1}", PROBLEM_UNKNOWN_FIELD, "by"},
    {"{\"word\":\"a\",\"score\":\"1\"}", PROBLEM_INVALID_SCORE, "score"},
    {"{\"word\":\"a\",\"score\":NaN}", PROBLEM_INVALID_SCORE, "score"},
    {"{\"word\":\"a\",\"score\":1e999}", PROBLEM_INVALID_SCORE, "score"},
    {"{\"word\":\"a\",\"score\":+1}", PROBLEM_INVALID_SCORE, "score"},
    {"{\"word\":\"a\",\"score\":.5}", PROBLEM_INVALID_SCORE, "score"},
    {"{\"word\":\"a\",\"score\":5.}", PROBLEM_INVALID_SCORE, "score"},
    {"{\"word\":\"a\",\"score\":01}", PROBLEM_INVALID_SCORE, "score"},
    {"{\"word\":\"a\",\"payload\":[]}", PROBLEM_INVALID_JSON, "payload"},
    {"{\"word\":\"a\",\"tags\":\"b\"}", PROBLEM_INVALID_TAGS, "tags"},
    {"{\"word\":\"a\",\"tags\":[\"\"]}", PROBLEM_INVALID_TAGS, "tags"},
    {"{\"word\":\"a\",\"tags\":[\"b\",]}", PROBLEM_INVALID_JSON, "tags"},
    {"{\"word\":\"a\",\"ttl_ms\":0}", PROBLEM_INVALID_EXPIRY, "ttl_ms"},
    {"{\"word\":\"a\",\"ttl_ms\":1.5}", PROBLEM_INVALID_EXPIRY, "ttl_ms"},
    {"{\"word\":\"a\",\"expires_at\":1e17}", PROBLEM_INVALID_EXPIRY, "expires_at"},
    {"{\"word\":\"a\",\"expires_at\":1,\"ttl_ms\":1}", PROBLEM_INVALID_EXPIRY, "ttl_ms"},
};

TEST_CASE(what_is_wrong_is_said_and_where)
{
    begin();
    struct guard guard = guard_create(4096);
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        struct word_input input = {.score = 7};
        struct slice text = guard_copy(&guard, slice_from_text(refusals[i].text));
        problem = (struct problem){0};
        enum status status = json_read_word(text, JSON_PUT_FIELDS, &scratch, &input, &problem);
        EXPECT(status == STATUS_INVALID);
        if (problem.code != refusals[i].code) fprintf(stderr, "case %zu\n", i);
        EXPECT(problem.code == refusals[i].code);
        EXPECT(is(problem.field, refusals[i].field));
        EXPECT(problem.detail != NULL);
        EXPECT(input.score == 7);
    }
    guard_destroy(&guard);
    end();
}

/* An object whose `field` is `open`, `count` times 'a', `close`. */
static enum status read_long(const char *field, size_t count, const char *open, const char *close)
{
    struct word_input input;
    struct buf text;
    buf_init(&text, &heap);
    buf_printf(&text, "{%s\"%s\":%s", strcmp(field, "word") ? "\"word\":\"w\"," : "", field, open);
    for (size_t i = 0; i < count; i++) buf_append_u8(&text, 'a');
    buf_printf(&text, "%s}", close);
    enum status status =
        json_read_word(buf_slice(&text), JSON_PUT_FIELDS, &scratch, &input, &problem);
    buf_deinit(&text);
    return status;
}

TEST_CASE(bounds_hold_to_the_byte)
{
    begin();
    EXPECT(read_long("word", WORD_BYTES_MAX, "\"", "\"") == STATUS_OK);
    EXPECT(read_long("word", WORD_BYTES_MAX + 1, "\"", "\"") == STATUS_LIMIT);
    EXPECT(problem.code == PROBLEM_INVALID_WORD);
    EXPECT(read_long("payload", PAYLOAD_BYTES_MAX, "\"", "\"") == STATUS_OK);
    EXPECT(read_long("payload", PAYLOAD_BYTES_MAX + 1, "\"", "\"") == STATUS_LIMIT);
    EXPECT(problem.code == PROBLEM_PAYLOAD_TOO_LARGE);
    EXPECT(read_long("tags", TAG_BYTES_MAX, "[\"", "\"]") == STATUS_OK);
    EXPECT(read_long("tags", TAG_BYTES_MAX + 1, "[\"", "\"]") == STATUS_LIMIT);
    EXPECT(read_long("payload", JSON_BYTES_MAX, "\"", "\"") == STATUS_LIMIT);

    struct word_input input;
    char text[1000] = "{\"word\":\"a\",\"tags\":[\"x\"";
    for (int i = 1; i < TAG_COUNT_MAX; i++) strcat(text, ",\"x\"");
    size_t size = strlen(text);
    strcpy(text + size, "]}");
    EXPECT(read_text(text, &input) == STATUS_OK);
    EXPECT(is(input.tags, "\1x"));
    strcpy(text + size, ",\"x\"]}");
    EXPECT(read_text(text, &input) == STATUS_LIMIT);
    end();
}

static const char *const samples[] = {
    /* clang takes two adjacent literals in a list for a forgotten comma. */
    ("{\"word\":\"tri\\u0061l\",\"score\":12.5,\"payload\":\"p\","
     "\"tags\":[\"a\",\"b\"],\"ttl_ms\":5}"),
    "{\"expires_at\":1700000000000,\"word\":{\"base64\":\"/w==\"},\"score\":-1e-3}",
    "{ \"word\" : \"caf\xc3\xa9 \\\"\\\\\\/\\b\\f\\n\\r\\t\\ud83d\\ude00\" }",
};

TEST_CASE(every_damage_is_judged_as_another_library_does)
{
    begin();
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        char text[200];
        size_t size = strlen(samples[i]);
        for (size_t cut = 0; cut <= size; cut++) {
            EXPECT(oracle_agrees(slice_of(samples[i], cut), &heap));
        }
        for (size_t bit = 0; bit < 8 * size; bit++) {
            memcpy(text, samples[i], size);
            text[bit / 8] = (char)(text[bit / 8] ^ 1 << bit % 8);
            bool agrees = oracle_agrees(slice_of(text, size), &heap);
            if (!agrees) fprintf(stderr, "%.*s\n", (int)size, text);
            EXPECT(agrees);
        }
    }
    end();
}

/* Splices of the samples: much of it is valid JSON. */
TEST_CASE(random_objects_are_judged_as_another_library_does)
{
    static const char *const parts[] = {
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"word\"",
        "\"score\"",
        "\"tags\"",
        "\"payload\"",
        "\"a\"",
        "1",
        "-0.5e3",
        "0",
        "{\"base64\":\"YQ==\"}",
        "\"\\u0041\"",
        " ",
        "{\"word\":\"w\",",
        "\"score\":2",
        "\"tags\":[\"x\"]",
        "null",
        "\"ttl_ms\":7",
        "\"expires_at\":8",
        "[\"a\",",
    };
    struct prng prng = {.state = test_seed};
    begin();
    for (int round = 0; round < 100000; round++) {
        char text[400] = "";
        if (prng_one_in(&prng, 2)) strcpy(text, "{\"word\":\"w\"");
        unsigned count = prng_below(&prng, 8);
        for (unsigned i = 0; i < count; i++) {
            strcat(text, parts[prng_below(&prng, sizeof parts / sizeof parts[0])]);
        }
        if (prng_one_in(&prng, 2)) strcat(text, "}");
        bool agrees = oracle_agrees(slice_from_text(text), &heap);
        if (!agrees) fprintf(stderr, "%s\n", text);
        EXPECT(agrees);
    }
    end();
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Prints what a line of an import costs here and there. */
TEST_CASE(a_line_costs_less_than_with_a_library)
{
    enum { ROUNDS = 20000, TRIES = 5 };
    static const char line[] = "{\"word\":\"triathlon training plan\",\"score\":48213}";
    struct word_input input;
    double ours = 1;
    double theirs = 1;
    begin();
    for (int try = 0; try < TRIES; try++) {
        double start = seconds();
        for (int i = 0; i < ROUNDS; i++) EXPECT(read_text(line, &input) == STATUS_OK);
        double middle = seconds();
        for (int i = 0; i < ROUNDS; i++) {
            json_t *root = json_loadb(line, sizeof line - 1, JSON_ALLOW_NUL, NULL);
            EXPECT(json_object_size(root) == 2);
            json_decref(root);
        }
        double stop = seconds();
        if (middle - start < ours) ours = middle - start;
        if (stop - middle < theirs) theirs = stop - middle;
    }
    printf("json_read_word: %.0f ns a line, jansson %.0f ns\n", ours / ROUNDS * 1e9,
           theirs / ROUNDS * 1e9);
    end();
}

TEST_CASE(no_memory_is_reported)
{
    struct word_input input;
    begin();
    heap.failure_after = 0;
    EXPECT(read_text("{\"word\":\"a\"}", &input) == STATUS_NOMEM);
    end();
}

TEST_MAIN(TEST(a_whole_object_is_read), TEST(what_is_wrong_is_said_and_where),
          TEST(bounds_hold_to_the_byte), TEST(every_damage_is_judged_as_another_library_does),
          TEST(random_objects_are_judged_as_another_library_does),
          TEST(a_line_costs_less_than_with_a_library), TEST(no_memory_is_reported))
