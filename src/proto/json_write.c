#include "proto/json_write.h"

#include "proto/base64.h"
#include "proto/number.h"
#include "proto/scan.h"
#include "proto/utf8.h"

static void comma(struct json_writer *writer)
{
    if (writer->comma) buf_append_u8(writer->out, ',');
    writer->comma = true;
}

static void begin(struct json_writer *writer, uint8_t bracket)
{
    comma(writer);
    buf_append_u8(writer->out, bracket);
    writer->comma = false;
}

static void end(struct json_writer *writer, uint8_t bracket)
{
    buf_append_u8(writer->out, bracket);
    writer->comma = true;
}

void json_write_object_begin(struct json_writer *writer)
{
    begin(writer, '{');
}

void json_write_object_end(struct json_writer *writer)
{
    end(writer, '}');
}

void json_write_array_begin(struct json_writer *writer)
{
    begin(writer, '[');
}

void json_write_array_end(struct json_writer *writer)
{
    end(writer, ']');
}

void json_write_name(struct json_writer *writer, const char *name)
{
    size_t size = strlen(name);
    uint8_t *to = buf_reserve(writer->out, size + 4);
    if (to == NULL) return;
    uint8_t *start = to;
    if (writer->comma) *to++ = ',';
    *to++ = '"';
    memcpy(to, name, size);
    to += size;
    *to++ = '"';
    *to++ = ':';
    buf_commit(writer->out, (size_t)(to - start));
    writer->comma = false;
}

static void append_escape(struct buf *out, uint8_t byte)
{
    static const char digits[] = "0123456789abcdef";
    static const char letters[] = "btn?fr"; /* 08 to 0d. */
    char escape[6] = {'\\', 'u', '0', '0', digits[byte >> 4], digits[byte & 15]};
    size_t size = 6;
    if (byte == '"' || byte == '\\') {
        escape[1] = (char)byte;
        size = 2;
    } else if (byte >= 0x08 && byte <= 0x0d && byte != 0x0b) {
        escape[1] = letters[byte - 0x08];
        size = 2;
    }
    buf_append(out, escape, size);
}

/* Valid UTF-8 with something to escape or above ASCII in it. */
static void append_escaped(struct buf *out, struct slice text)
{
    buf_append_u8(out, '"');
    size_t start = 0;
    for (size_t at = 0; at < text.size; at++) {
        uint8_t byte = text.data[at];
        if (byte >= 0x20 && byte != '"' && byte != '\\') continue;
        buf_append(out, text.data + start, at - start);
        append_escape(out, byte);
        start = at + 1;
    }
    if (start < text.size) buf_append(out, text.data + start, text.size - start);
    buf_append_u8(out, '"');
}

void json_write_string(struct json_writer *writer, struct slice text)
{
    if (scan_json_plain(text.data, text.size) == text.size) {
        uint8_t *to = buf_reserve(writer->out, text.size + 3);
        if (to == NULL) return;
        size_t size = 0;
        if (writer->comma) to[size++] = ',';
        to[size++] = '"';
        if (text.size > 0) memcpy(to + size, text.data, text.size);
        size += text.size;
        to[size++] = '"';
        buf_commit(writer->out, size);
        writer->comma = true;
        return;
    }
    comma(writer);
    if (utf8_is_valid(text)) {
        append_escaped(writer->out, text);
        return;
    }
    buf_append_text(writer->out, "{\"base64\":\"");
    base64_encode(BASE64_PADDED, text, writer->out);
    buf_append_text(writer->out, "\"}");
}

void json_write_text(struct json_writer *writer, const char *text)
{
    json_write_string(writer, slice_from_text(text));
}

void json_write_double(struct json_writer *writer, double value)
{
    comma(writer);
    number_append(value, writer->out);
}

void json_write_u64(struct json_writer *writer, uint64_t value)
{
    comma(writer);
    buf_append_decimal(writer->out, value);
}

void json_write_i64(struct json_writer *writer, int64_t value)
{
    comma(writer);
    if (value < 0) buf_append_u8(writer->out, '-');
    buf_append_decimal(writer->out, value < 0 ? -(uint64_t)value : (uint64_t)value);
}

void json_write_bool(struct json_writer *writer, bool value)
{
    comma(writer);
    buf_append_text(writer->out, value ? "true" : "false");
}

void json_write_null(struct json_writer *writer)
{
    comma(writer);
    buf_append_text(writer->out, "null");
}

void json_write_raw(struct json_writer *writer, struct slice json)
{
    comma(writer);
    buf_append_slice(writer->out, json);
}

void json_write_named_string(struct json_writer *writer, const char *name, struct slice text)
{
    json_write_name(writer, name);
    json_write_string(writer, text);
}

void json_write_named_text(struct json_writer *writer, const char *name, const char *text)
{
    json_write_named_string(writer, name, slice_from_text(text));
}

void json_write_named_u64(struct json_writer *writer, const char *name, uint64_t value)
{
    json_write_name(writer, name);
    json_write_u64(writer, value);
}
