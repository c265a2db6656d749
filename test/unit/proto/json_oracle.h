/* What json_read_word() must say, by way of jansson. */
#pragma once

#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/buf.h"
#include "core/limits.h"
#include "core/record.h"
#include "proto/base64.h"
#include "proto/json_read.h"

/* A string, or {"base64"}, into `out`. */
static inline bool oracle_bytes(const json_t *value, struct buf *out)
{
    buf_clear(out);
    if (json_is_string(value)) {
        buf_append(out, json_string_value(value), json_string_length(value));
        return true;
    }
    const json_t *text = json_object_get(value, "base64");
    if (json_object_size(value) != 1 || !json_is_string(text)) return false;
    struct slice slice = slice_of(json_string_value(text), json_string_length(text));
    return base64_decode(BASE64_PADDED, slice, out) == STATUS_OK;
}

static inline bool oracle_time(const json_t *value)
{
    double number = json_number_value(value);
    return json_is_number(value) && number >= 1 && number <= 9007199254740992.0 &&
           number == floor(number);
}

static inline bool oracle_field(const char *name, const json_t *value, struct buf *bytes)
{
    if (strcmp(name, "word") == 0) {
        return oracle_bytes(value, bytes) && bytes->size > 0 && bytes->size <= WORD_BYTES_MAX;
    }
    if (strcmp(name, "payload") == 0) {
        return oracle_bytes(value, bytes) && bytes->size <= PAYLOAD_BYTES_MAX;
    }
    if (strcmp(name, "score") == 0) return json_is_number(value);
    if (strcmp(name, "expires_at") == 0) return oracle_time(value);
    if (strcmp(name, "ttl_ms") == 0) return oracle_time(value);
    if (strcmp(name, "tags") != 0 || !json_is_array(value)) return false;
    if (json_array_size(value) > TAG_COUNT_MAX) return false;
    for (size_t i = 0; i < json_array_size(value); i++) {
        if (!oracle_bytes(json_array_get(value, i), bytes)) return false;
        if (bytes->size == 0 || bytes->size > TAG_BYTES_MAX) return false;
    }
    return true;
}

static inline bool oracle_takes(const json_t *root, struct buf *bytes)
{
    const char *name;
    json_t *value;
    size_t size;
    if (!json_is_object(root) || json_object_get(root, "word") == NULL) return false;
    if (json_object_get(root, "ttl_ms") && json_object_get(root, "expires_at")) return false;
    json_object_keylen_foreach((json_t *)(uintptr_t)root, name, size, value)
    {
        if (strlen(name) != size || !oracle_field(name, value, bytes)) return false;
    }
    return true;
}

/* True when both say the same of `text`: taken or not, and the same word and score. */
static inline bool oracle_agrees(struct slice text, struct heap *heap)
{
    struct buf scratch, bytes;
    struct word_input input;
    struct problem problem = {0};
    json_error_t error;
    buf_init(&scratch, heap);
    buf_init(&bytes, heap);
    json_t *root = json_loadb((const char *)text.data, text.size,
                              JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL,
                              &error);
    enum status status = json_read_word(text, JSON_PUT_FIELDS, &scratch, &input, &problem);
    /* Jansson reads past a byte 00 between tokens; RFC 8259 has no such blank. */
    bool is_text = text.size == 0 || memchr(text.data, 0, text.size) == NULL;
    bool agrees = (status == STATUS_OK) == (is_text && root != NULL && oracle_takes(root, &bytes));
    if (agrees && status == STATUS_OK) {
        oracle_bytes(json_object_get(root, "word"), &bytes);
        const json_t *score = json_object_get(root, "score");
        agrees = slice_equal(buf_slice(&bytes), input.word) &&
                 (score == NULL ? input.score == 1 : input.score == json_number_value(score));
    }
    json_decref(root);
    buf_deinit(&scratch);
    buf_deinit(&bytes);
    return agrees;
}
