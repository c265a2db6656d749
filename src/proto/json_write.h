/* Writes JSON into a buffer.
 *
 * The caller opens, names and closes in the right order; commas come by themselves. Bytes
 * that are not UTF-8 are written as {"base64":"…"} where a string stands.
 *
 * Source: RFC 8259. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "base/slice.h"

struct json_writer {
    struct buf *out; /* Whose buf_status() tells whether all was written. */
    bool comma;      /* The next value or name needs one before it. */
};

static inline struct json_writer json_writer_of(struct buf *out)
{
    return (struct json_writer){.out = out};
}

void json_write_object_begin(struct json_writer *writer);
void json_write_object_end(struct json_writer *writer);
void json_write_array_begin(struct json_writer *writer);
void json_write_array_end(struct json_writer *writer);

/* `name` holds nothing that would have to be escaped. */
void json_write_name(struct json_writer *writer, const char *name);

/* Cost: one copy when it is ASCII without quotes, backslashes and control characters. */
void json_write_string(struct json_writer *writer, struct slice text);
void json_write_text(struct json_writer *writer, const char *text);

/* `value` is finite; see number.h. */
void json_write_double(struct json_writer *writer, double value);
void json_write_u64(struct json_writer *writer, uint64_t value);
void json_write_i64(struct json_writer *writer, int64_t value);
void json_write_bool(struct json_writer *writer, bool value);
void json_write_null(struct json_writer *writer);

/* A value that is JSON already. */
void json_write_raw(struct json_writer *writer, struct slice json);

/* A name and its value. */
void json_write_named_string(struct json_writer *writer, const char *name, struct slice text);
void json_write_named_text(struct json_writer *writer, const char *name, const char *text);
void json_write_named_u64(struct json_writer *writer, const char *name, uint64_t value);
