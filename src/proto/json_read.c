#include "proto/json_read.h"

#include <stdbool.h>
#include <string.h>

#include "core/record.h"
#include "proto/base64.h"
#include "proto/number.h"
#include "proto/scan.h"
#include "proto/utf8.h"

enum {
    FIELD_NAME_BYTES_SHOWN = 64, /* A longer unknown name is not sent back. */
    SCRATCH_EXTRA_BYTES = 64,
};

struct json {
    const uint8_t *at;
    const uint8_t *end;
    struct buf *scratch;
    struct problem *problem;
    struct slice field; /* Whose value is being read. */
};

static enum status refuse(struct problem *problem, enum status status, enum problem_code code,
                          struct slice field, const char *detail)
{
    problem->code = code;
    problem->field = field;
    problem->detail = detail;
    return status;
}

static enum status malformed(struct json *json, const char *expected)
{
    return refuse(json->problem, STATUS_INVALID, PROBLEM_INVALID_JSON, json->field, expected);
}

static enum status wrong(struct json *json, enum problem_code code, const char *expected)
{
    return refuse(json->problem, STATUS_INVALID, code, json->field, expected);
}

static void skip_blanks(struct json *json)
{
    while (json->at < json->end &&
           (*json->at == ' ' || *json->at == '\t' || *json->at == '\n' || *json->at == '\r')) {
        json->at++;
    }
}

/* Blanks, then `byte`, which is taken. */
static bool take(struct json *json, uint8_t byte)
{
    skip_blanks(json);
    if (json->at == json->end || *json->at != byte) return false;
    json->at++;
    return true;
}

/* --- Strings ------------------------------------------------------------------------ */

static int hex_of(uint8_t byte)
{
    if (byte >= '0' && byte <= '9') return byte - '0';
    uint8_t lower = byte | 0x20;
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* The four digits of an escape. */
static bool take_unit(struct json *json, uint32_t *unit)
{
    if (json->end - json->at < 4) return false;
    *unit = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex_of(*json->at++);
        if (digit < 0) return false;
        *unit = *unit << 4 | (unsigned)digit;
    }
    return true;
}

/* What follows "\u": a code point, as two units when it is above ffff. */
static bool take_code_point(struct json *json)
{
    uint32_t code;
    uint32_t low;
    uint8_t bytes[4];
    if (!take_unit(json, &code)) return false;
    if (code >= 0xdc00 && code < 0xe000) return false;
    if (code >= 0xd800 && code < 0xdc00) {
        if (json->end - json->at < 6 || json->at[0] != '\\' || json->at[1] != 'u') return false;
        json->at += 2;
        if (!take_unit(json, &low) || low < 0xdc00 || low >= 0xe000) return false;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    buf_append(json->scratch, bytes, utf8_put(code, bytes));
    return true;
}

/* What follows a backslash. */
static bool take_escape(struct json *json)
{
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";
    if (json->at == json->end) return false;
    uint8_t byte = *json->at++;
    if (byte == 'u') return take_code_point(json);
    const char *found = byte == 0 ? NULL : strchr(from, byte);
    if (found == NULL) return false;
    buf_append_u8(json->scratch, (uint8_t)to[found - from]);
    return true;
}

/* Past the bytes that stand for themselves. */
static void skip_plain(struct json *json)
{
    for (;;) {
        json->at += scan_json_plain(json->at, (size_t)(json->end - json->at));
        if (json->at == json->end || *json->at < 0x80) return;
        unsigned size = utf8_size(json->at, (size_t)(json->end - json->at));
        if (size == 0) return;
        json->at += size;
    }
}

static enum status read_string(struct json *json, struct slice *out)
{
    if (!take(json, '"')) return malformed(json, "a string was expected");
    const uint8_t *start = json->at;
    skip_plain(json);
    if (json->at < json->end && *json->at == '"') {
        *out = (struct slice){start, (size_t)(json->at++ - start)};
        return STATUS_OK;
    }

    size_t begin = json->scratch->size;
    while (json->at < json->end && *json->at != '"') {
        buf_append(json->scratch, start, (size_t)(json->at - start));
        if (*json->at >= 0x80) {
            return malformed(json, "text must be UTF-8; other bytes go as {\"base64\":\"...\"}");
        }
        if (*json->at++ != '\\') return malformed(json, "a control character must be escaped");
        if (!take_escape(json)) return malformed(json, "an escape is not valid");
        start = json->at;
        skip_plain(json);
    }
    if (json->at == json->end) return malformed(json, "a string is not closed");
    buf_append(json->scratch, start, (size_t)(json->at - start));
    json->at++;
    *out = slice_from(buf_slice(json->scratch), begin);
    return STATUS_OK;
}

/* A string, or {"base64": string}. */
static enum status read_bytes(struct json *json, struct slice *out)
{
    skip_blanks(json);
    if (json->at == json->end || *json->at != '{') return read_string(json, out);

    struct slice name;
    struct slice text;
    json->at++;
    enum status status = read_string(json, &name);
    if (status != STATUS_OK) return status;
    if (!slice_equal(name, SLICE_LITERAL("base64")) || !take(json, ':')) {
        return malformed(json, "a string or {\"base64\":\"...\"} was expected");
    }
    status = read_string(json, &text);
    if (status != STATUS_OK) return status;
    if (!take(json, '}')) return malformed(json, "a string or {\"base64\":\"...\"} was expected");

    size_t begin = json->scratch->size;
    status = base64_decode(BASE64_PADDED, text, json->scratch);
    if (status == STATUS_INVALID) return malformed(json, "base64 with padding was expected");
    if (status == STATUS_OK) *out = slice_from(buf_slice(json->scratch), begin);
    return status;
}

/* --- Numbers ------------------------------------------------------------------------ */

static size_t digits_at(const struct json *json, const uint8_t *at)
{
    const uint8_t *start = at;
    while (at < json->end && *at >= '0' && *at <= '9') at++;
    return (size_t)(at - start);
}

/* The end of the number at `at`, or NULL: JSON is stricter than number_parse(). */
static const uint8_t *number_end(const struct json *json, const uint8_t *at)
{
    if (at < json->end && *at == '-') at++;
    size_t whole = digits_at(json, at);
    if (whole == 0 || (whole > 1 && *at == '0')) return NULL;
    at += whole;
    if (at < json->end && *at == '.') {
        size_t fraction = digits_at(json, at + 1);
        if (fraction == 0) return NULL;
        at += 1 + fraction;
    }
    if (at < json->end && (*at == 'e' || *at == 'E')) {
        at++;
        if (at < json->end && (*at == '+' || *at == '-')) at++;
        size_t exponent = digits_at(json, at);
        if (exponent == 0) return NULL;
        at += exponent;
    }
    return at;
}

static enum status read_score(struct json *json, double *out)
{
    skip_blanks(json);
    const uint8_t *end = number_end(json, json->at);
    if (end == NULL) return wrong(json, PROBLEM_INVALID_SCORE, "a number was expected");
    struct slice text = {json->at, (size_t)(end - json->at)};
    if (number_parse(text, out) != STATUS_OK) {
        return wrong(json, PROBLEM_INVALID_SCORE, "a finite double was expected");
    }
    json->at = end;
    return STATUS_OK;
}

static enum status read_time(struct json *json, uint64_t *out)
{
    static const char expected[] = "milliseconds were expected, a whole number above 0";
    double value;
    skip_blanks(json);
    const uint8_t *end = number_end(json, json->at);
    if (end == NULL) return wrong(json, PROBLEM_INVALID_EXPIRY, expected);
    struct slice text = {json->at, (size_t)(end - json->at)};
    if (number_parse(text, &value) != STATUS_OK ||
        !(value >= 1 && value <= (double)JSON_TIME_MS_MAX) || value != (double)(uint64_t)value) {
        return wrong(json, PROBLEM_INVALID_EXPIRY, expected);
    }
    json->at = end;
    *out = (uint64_t)value;
    return STATUS_OK;
}

/* --- Fields ------------------------------------------------------------------------- */

static enum status read_payload(struct json *json, struct slice *out)
{
    enum status status = read_bytes(json, out);
    if (status != STATUS_OK || out->size <= PAYLOAD_BYTES_MAX) return status;
    return refuse(json->problem, STATUS_LIMIT, PROBLEM_PAYLOAD_TOO_LARGE, json->field,
                  "a payload is at most 65536 bytes");
}

static enum status read_tags(struct json *json, struct slice *out)
{
    struct slice tags[TAG_COUNT_MAX];
    size_t count = 0;
    if (!take(json, '[')) return wrong(json, PROBLEM_INVALID_TAGS, "an array was expected");
    if (!take(json, ']')) {
        do {
            if (count == TAG_COUNT_MAX) {
                return refuse(json->problem, STATUS_LIMIT, PROBLEM_INVALID_TAGS, json->field,
                              "there are at most 32 tags");
            }
            enum status status = read_bytes(json, &tags[count]);
            if (status != STATUS_OK) return status;
            size_t size = tags[count++].size;
            if (size == 0 || size > TAG_BYTES_MAX) {
                return refuse(json->problem, size == 0 ? STATUS_INVALID : STATUS_LIMIT,
                              PROBLEM_INVALID_TAGS, json->field, "a tag is 1 to 64 bytes");
            }
        } while (take(json, ','));
        if (!take(json, ']')) return malformed(json, "',' or ']' was expected");
    }
    size_t begin = json->scratch->size;
    enum status status = record_tags_build(tags, count, json->scratch);
    if (status == STATUS_OK) *out = slice_from(buf_slice(json->scratch), begin);
    return status;
}

static const struct known {
    const char *name;
    enum json_field field;
} known_fields[] = {
    {"word", JSON_WORD},
    {"score", JSON_SCORE},
    {"payload", JSON_PAYLOAD},
    {"tags", JSON_TAGS},
    {"by", JSON_BY},
    {"ttl_ms", JSON_TTL_MS},
    {"expires_at", JSON_EXPIRES_AT},
};

static const struct known *find_field(struct slice name)
{
    for (size_t i = 0; i < sizeof known_fields / sizeof known_fields[0]; i++) {
        if (slice_equal(name, slice_from_text(known_fields[i].name))) return &known_fields[i];
    }
    return NULL;
}

static enum status read_value(struct json *json, enum json_field field, struct word_input *out)
{
    enum status status;
    switch (field) {
    case JSON_WORD:
        status = read_bytes(json, &out->word);
        return status == STATUS_OK ? word_input_check(out->word, json->problem) : status;
    case JSON_SCORE:
        return read_score(json, &out->score);
    case JSON_BY:
        return read_score(json, &out->by);
    case JSON_PAYLOAD:
        return read_payload(json, &out->payload);
    case JSON_TAGS:
        return read_tags(json, &out->tags);
    case JSON_TTL_MS:
        return read_time(json, &out->ttl_ms);
    default:
        return read_time(json, &out->expires_at);
    }
}

static enum status read_field(struct json *json, unsigned allowed, struct word_input *out)
{
    struct slice name;
    json->field = (struct slice){0};
    enum status status = read_string(json, &name);
    if (status != STATUS_OK) return status;

    const struct known *known = find_field(name);
    json->field = name.size > FIELD_NAME_BYTES_SHOWN ? (struct slice){0} : name;
    if (known == NULL || !(known->field & allowed)) {
        return wrong(json, PROBLEM_UNKNOWN_FIELD, "there is no such field here");
    }
    if (out->fields & known->field) {
        return wrong(json, PROBLEM_DUPLICATE_FIELD, "a field may come once");
    }
    if (!take(json, ':')) return malformed(json, "':' was expected");
    out->fields |= known->field;
    return read_value(json, known->field, out);
}

static enum status read_object(struct json *json, unsigned allowed, struct word_input *out)
{
    if (!take(json, '{')) return malformed(json, "an object was expected");
    if (!take(json, '}')) {
        do {
            enum status status = read_field(json, allowed, out);
            if (status != STATUS_OK) return status;
        } while (take(json, ','));
        json->field = (struct slice){0};
        if (!take(json, '}')) return malformed(json, "',' or '}' was expected");
    }
    skip_blanks(json);
    if (json->at != json->end) return malformed(json, "nothing may follow the object");
    return STATUS_OK;
}

struct word_input word_input_of(struct slice word)
{
    return (struct word_input){.fields = JSON_WORD, .word = word, .score = 1, .by = 1};
}

enum status word_input_check(struct slice word, struct problem *problem)
{
    if (word.size > 0 && word.size <= WORD_BYTES_MAX) return STATUS_OK;
    return refuse(problem, word.size == 0 ? STATUS_INVALID : STATUS_LIMIT, PROBLEM_INVALID_WORD,
                  SLICE_LITERAL("word"), "a word is 1 to 4096 bytes");
}

enum status json_read_word(struct slice text, unsigned fields, struct buf *scratch,
                           struct word_input *out, struct problem *problem)
{
    struct json json = {text.data, text.data + text.size, scratch, problem, {0}};
    struct word_input input = word_input_of((struct slice){0});
    input.fields = 0;

    buf_clear(scratch);
    if (text.size > JSON_BYTES_MAX) {
        return refuse(problem, STATUS_LIMIT, PROBLEM_PAYLOAD_TOO_LARGE, (struct slice){0},
                      "an object is at most 524288 bytes");
    }
    /* Once for strings, once for base64, once for tags: it never moves while slices of it
     * are handed out. */
    if (buf_reserve(scratch, 3 * text.size + SCRATCH_EXTRA_BYTES) == NULL) return STATUS_NOMEM;

    enum status status = read_object(&json, fields, &input);
    if (status != STATUS_OK) return status;
    if (!(input.fields & JSON_WORD)) {
        return refuse(problem, STATUS_INVALID, PROBLEM_MISSING_FIELD, SLICE_LITERAL("word"),
                      "the word is missing");
    }
    if (input.fields & JSON_TTL_MS && input.fields & JSON_EXPIRES_AT) {
        return refuse(problem, STATUS_INVALID, PROBLEM_INVALID_EXPIRY, SLICE_LITERAL("ttl_ms"),
                      "ttl_ms and expires_at exclude each other");
    }
    *out = input;
    return STATUS_OK;
}
