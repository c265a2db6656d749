/* Log lines: what programs read back is what was logged. */
#include "shell/log_line.h"

#include <jansson.h>
#include <string.h>

#include "base/prng.h"
#include "proto/utf8.h"
#include "test.h"

static char line[LOG_LINE_BYTES_MAX + 1];
static struct log_bytes bytes;

static const char *formatted(bool json, const struct log_pair *pairs)
{
    log_format(&bytes, json, UINT64_C(1764072000123), LOG_LEVEL_WARN, "store.opened", pairs);
    memcpy(line, bytes.bytes, bytes.size);
    line[bytes.size] = '\0';
    EXPECT(strlen(line) == bytes.size);
    EXPECT(strchr(line, '\n') == line + bytes.size - 1); /* One event, one line. */
    return line;
}

TEST_CASE(a_line_has_time_level_event_and_pairs)
{
    const struct log_pair pairs[] = {log_text("data", "/var/lib"), log_number("words", 7), {0}};
    EXPECT(strcmp(formatted(false, pairs),
                  "time=2025-11-25T12:00:00.123Z level=warn event=store.opened data=/var/lib "
                  "words=7\n") == 0);
    EXPECT(strcmp(formatted(true, pairs),
                  "{\"time\":\"2025-11-25T12:00:00.123Z\",\"level\":\"warn\","
                  "\"event\":\"store.opened\",\"data\":\"/var/lib\",\"words\":7}\n") == 0);
}

TEST_CASE(what_is_not_plain_stands_in_quotes_and_is_escaped)
{
    static const struct {
        const char *text, *logfmt;
    } cases[] = {
        {"", "\"\""},
        {"two words", "\"two words\""},
        {"a=b", "\"a=b\""},
        {"say \"no\"", "\"say \\\"no\\\"\""},
        {"back\\slash", "\"back\\\\slash\""},
        {"two\nlines\t", "\"two\\nlines\\u0009\""},
        {"\x1b[31m", "\"\\u001b[31m\""},
        {"Stra\xc3\x9f"
         "e",
         "\"Stra\xc3\x9f"
         "e\""},
        {"\xff", "\"\xef\xbf\xbd\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct log_pair pairs[] = {log_text("data", cases[i].text), {0}};
        const char *value = strstr(formatted(false, pairs), "data=");
        EXPECT(value != NULL);
        EXPECT(strncmp(value + 5, cases[i].logfmt, strlen(cases[i].logfmt)) == 0);
        EXPECT(strcmp(value + 5 + strlen(cases[i].logfmt), "\n") == 0);
    }
}

/* Property: whatever the texts hold, the line is JSON, and texts that are UTF-8 come back. */
TEST_CASE(json_holds_any_text)
{
    struct prng prng = {.state = test_seed};
    for (int round = 0; round < 20000; round++) {
        char text[40];
        size_t size = prng_below(&prng, sizeof text);
        for (size_t i = 0; i < size; i++)
            text[i] = (char)(prng_below(&prng, 2) ? 1 + prng_below(&prng, 255)
                                                  : (uint64_t) "\"\\\n= "[prng_below(&prng, 5)]);
        text[size] = '\0';
        const struct log_pair pairs[] = {log_text("reason", text), {0}};
        json_t *root = json_loads(formatted(true, pairs), 0, NULL);
        EXPECT(root != NULL);
        const char *back = json_string_value(json_object_get(root, "reason"));
        EXPECT(back != NULL);
        if (utf8_is_valid(slice_from_text(text))) EXPECT(strcmp(back, text) == 0);
        json_decref(root);
    }
}

TEST_CASE(a_line_that_would_be_too_long_stays_a_line)
{
    static char text[5000];
    memset(text, '\x01', sizeof text - 1);
    const struct log_pair pairs[] = {
        log_text("a", text), log_text("b", text), log_text("c", text), log_text("d", text), {0}};
    json_t *root = json_loads(formatted(true, pairs), 0, NULL);
    EXPECT(root != NULL);
    EXPECT(json_string_length(json_object_get(root, "a")) == LOG_TEXT_BYTES_MAX);
    EXPECT(json_object_get(root, "d") == NULL);
    json_decref(root);
}

TEST_MAIN(TEST(a_line_has_time_level_event_and_pairs),
          TEST(what_is_not_plain_stands_in_quotes_and_is_escaped), TEST(json_holds_any_text),
          TEST(a_line_that_would_be_too_long_stays_a_line))
