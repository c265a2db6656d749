#include "proto/lines.h"

#include "base/prng.h"
#include "guard.h"
#include "test.h"

static struct heap heap;

/* Reads `text` in pieces of `step` bytes and writes down what came out. */
static void story(enum lines_format format, struct slice text, size_t step, struct buf *out)
{
    struct guard guard = guard_create(text.size + 1);
    struct lines lines;
    struct line line;
    enum status status = STATUS_PARTIAL;
    size_t at = 0;

    lines_init(&lines, format, &heap);
    buf_clear(out);
    while (status != STATUS_END) {
        size_t size = text.size - at < step ? text.size - at : step;
        struct slice input = guard_copy(&guard, (struct slice){text.data + at, size});
        at += size;
        while ((status = lines_next(&lines, &input, at == text.size, &line)) != STATUS_PARTIAL) {
            if (status == STATUS_END) break;
            buf_printf(out, "%llu ", (unsigned long long)line.number);
            if (status == STATUS_OK) {
                buf_append_slice(out, line.input.word);
                buf_printf(out, " %g\n", line.input.score);
            } else {
                EXPECT(status == STATUS_INVALID);
                EXPECT(line.problem.detail != NULL);
                buf_printf(out, "! %s\n", problem_code_name(line.problem.code));
            }
        }
    }
    EXPECT(at == text.size);
    lines_deinit(&lines);
    guard_destroy(&guard);
}

static void expect_story(enum lines_format format, const char *text, const char *expected)
{
    struct buf out;
    heap_init(&heap, 0);
    buf_init(&out, &heap);
    for (size_t step = 1; step <= strlen(text); step++) {
        story(format, slice_from_text(text), step, &out);
        buf_append_u8(&out, 0);
        assert_string_equal((const char *)out.data, expected);
    }
    buf_deinit(&out);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_CASE(tsv_is_read_line_by_line)
{
    expect_story(LINES_TSV,
                 "one\t1\n\r\n\ntwo\r\nthree\t-2.5e3\r\nfour\t\nfive\t5x\n\t6\nsix\t6\t7\n"
                 "\"seven\"\t+7\nnan\tnan\nlast",
                 "1 one 1\n4 two 1\n5 three -2500\n6 four 1\n7 ! invalid_score\n8 ! invalid_word\n"
                 "9 ! invalid_score\n10 \"seven\" 7\n11 ! invalid_score\n12 last 1\n");
}

TEST_CASE(csv_is_read_with_newlines_in_quotes)
{
    expect_story(LINES_CSV,
                 "one,1\r\n\n\"two, \"\"2\"\"\",2\n\"three\nlines\r\nhere\",3\nfour\n\"\",5\n"
                 "six,6,6\nse\"ven,7\n\"eight\"x,8\n\"nine\",\"9\"\r\nten, 10\n,11\n\"last\"\r",
                 "1 one 1\n3 two, \"2\" 2\n4 three\nlines\r\nhere 3\n7 four 1\n8 ! invalid_word\n"
                 "9 ! invalid_line\n10 ! invalid_line\n11 ! invalid_line\n12 nine 9\n"
                 "13 ! invalid_score\n14 ! invalid_word\n15 last 1\n");
    expect_story(LINES_CSV, "a\n\"open\nb\n", "1 a 1\n2 ! invalid_line\n");
    /* What follows a quoted field's carriage return opens no quote that swallows other lines. */
    expect_story(LINES_CSV, "\"a\"\r\"\nb\n\"c\"\r,\"\nd\n",
                 "1 ! invalid_line\n2 b 1\n3 ! invalid_line\n4 d 1\n");
}

TEST_CASE(ndjson_is_read_line_by_line)
{
    expect_story(LINES_NDJSON,
                 "{\"word\":\"a\",\"score\":2}\n\n{\"word\":\"\\u0062\"}\r\n{\"word\":\n"
                 "{\"score\":1}\n{\"word\":\"c\",\"x\":1}\n{\"word\":\"last\"}",
                 "1 a 2\n3 b 1\n4 ! invalid_json\n5 ! missing_field\n6 ! unknown_field\n"
                 "7 last 1\n");
}

TEST_CASE(a_line_that_is_too_long_is_passed_over)
{
    static char text[LINES_TEXT_BYTES_MAX + 100];
    struct buf out;
    heap_init(&heap, 0);
    buf_init(&out, &heap);

    for (int format = LINES_CSV; format <= LINES_TSV; format++) {
        for (int over = 0; over < 2; over++) {
            size_t size = (size_t)LINES_TEXT_BYTES_MAX + (size_t)over;
            memset(text, 'a', size);
            strcpy(text + size, "\nnext\n");
            for (size_t step = 1000; step < 40000; step += 777) {
                story((enum lines_format)format, slice_from_text(text), step, &out);
                buf_append_u8(&out, 0);
                assert_string_equal((const char *)out.data, over ? "1 ! line_too_long\n2 next 1\n"
                                                                 : "1 ! invalid_word\n2 next 1\n");
            }
        }
    }
    /* An open quote takes along as much as a line may have, not the rest of the file. */
    memset(text, 'a', sizeof text - 1);
    for (size_t i = 0; i < sizeof text - 1; i += 10) text[i] = '\n';
    memcpy(text, "x\n\"", 3);
    text[sizeof text - 1] = 0;
    for (size_t step = 1000; step < 40000; step += 777) {
        story(LINES_CSV, slice_from_text(text), step, &out);
        EXPECT(slice_starts_with(buf_slice(&out), SLICE_LITERAL("1 x 1\n2 ! line_too_long\n1")));
    }
    buf_deinit(&out);
}

TEST_CASE(what_is_exported_comes_back)
{
    struct prng prng = {.state = test_seed};
    struct buf text;
    heap_init(&heap, 0);
    buf_init(&text, &heap);

    for (int round = 0; round < 5000; round++) {
        uint8_t word[20];
        size_t size = 1 + prng_below(&prng, sizeof word - 1);
        for (size_t i = 0; i < size; i++) {
            word[i] = (uint8_t)(round % 2 ? prng_u32(&prng) : prng_below(&prng, 128));
        }
        struct word_input input = word_input_of(slice_of(word, size));
        input.score = (double)(int32_t)prng_u32(&prng) / 7;
        input.expires_at = prng_below(&prng, 3);
        if (prng_one_in(&prng, 2)) {
            input.fields |= JSON_PAYLOAD | JSON_TAGS;
            input.payload = input.word;
            input.tags = SLICE_LITERAL("\1a\2\xff\xff");
        }
        struct lines lines;
        struct line line;

        buf_clear(&text);
        lines_write_ndjson(&text, &input);
        lines_init(&lines, LINES_NDJSON, &heap);
        struct slice rest = buf_slice(&text);
        EXPECT(lines_next(&lines, &rest, true, &line) == STATUS_OK);
        EXPECT(slice_equal(line.input.word, input.word));
        EXPECT(slice_equal(line.input.payload, input.payload));
        EXPECT(slice_equal(line.input.tags, input.tags));
        EXPECT(line.input.expires_at == input.expires_at);
        EXPECT(line.input.score == input.score);
        EXPECT(lines_next(&lines, &rest, true, &line) == STATUS_END);
        lines_deinit(&lines);

        buf_clear(&text);
        enum status status = lines_write_tsv(&text, input.word, input.score);
        bool fits = memchr(word, '\t', size) == NULL && memchr(word, '\n', size) == NULL;
        EXPECT(status == (fits ? STATUS_OK : STATUS_INVALID));
        if (!fits) continue;
        lines_init(&lines, LINES_TSV, &heap);
        rest = buf_slice(&text);
        EXPECT(lines_next(&lines, &rest, true, &line) == STATUS_OK);
        EXPECT(slice_equal(line.input.word, input.word));
        EXPECT(line.input.score == input.score);
        lines_deinit(&lines);
    }
    buf_deinit(&text);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_CASE(no_allocation_that_fails_does_harm)
{
    for (int n = 0; n < 8; n++) {
        struct lines lines;
        struct line line;
        heap_init(&heap, 0);
        heap.failure_after = n;
        lines_init(&lines, LINES_CSV, &heap);
        struct slice first = SLICE_LITERAL("\"a\"\"b");
        struct slice second = SLICE_LITERAL("\"\n");
        enum status status = lines_next(&lines, &first, false, &line);
        if (status == STATUS_PARTIAL) status = lines_next(&lines, &second, true, &line);
        EXPECT(status == STATUS_OK || status == STATUS_NOMEM);
        lines_deinit(&lines);
        EXPECT(heap_used_bytes(&heap) == 0);
    }
}

TEST_MAIN(TEST(tsv_is_read_line_by_line), TEST(csv_is_read_with_newlines_in_quotes),
          TEST(ndjson_is_read_line_by_line), TEST(a_line_that_is_too_long_is_passed_over),
          TEST(what_is_exported_comes_back), TEST(no_allocation_that_fails_does_harm))
