#include "proto/url.h"

#include <string.h>

bool url_query_next(struct slice *query, struct slice *name, struct slice *value)
{
    while (query->size > 0) {
        const uint8_t *mark = memchr(query->data, '&', query->size);
        size_t size = mark == NULL ? query->size : (size_t)(mark - query->data);
        struct slice pair = slice_prefix(*query, size);
        *query = slice_from(*query, mark == NULL ? size : size + 1);
        if (size == 0) continue;

        const uint8_t *equals = memchr(pair.data, '=', pair.size);
        size_t name_size = equals == NULL ? pair.size : (size_t)(equals - pair.data);
        *name = slice_prefix(pair, name_size);
        *value = slice_from(pair, equals == NULL ? name_size : name_size + 1);
        return true;
    }
    return false;
}

bool url_query_find(struct slice query, const char *name, struct slice *value)
{
    struct slice found;
    struct slice candidate;
    while (url_query_next(&query, &found, &candidate)) {
        if (!slice_equal(found, slice_from_text(name))) continue;
        *value = candidate;
        return true;
    }
    return false;
}

static int hex_of(uint8_t byte)
{
    if (byte >= '0' && byte <= '9') return byte - '0';
    uint8_t lower = byte | 0x20;
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static bool needs_decoding(struct slice text, bool plus)
{
    if (text.size == 0) return false;
    return memchr(text.data, '%', text.size) != NULL ||
           (plus && memchr(text.data, '+', text.size) != NULL);
}

static enum status decode(struct slice text, bool plus, struct buf *scratch, struct slice *out)
{
    if (!needs_decoding(text, plus)) {
        *out = text;
        return STATUS_OK;
    }
    uint8_t *to = buf_reserve(scratch, text.size);
    if (to == NULL) return STATUS_NOMEM;

    size_t size = 0;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = text.data[i];
        if (plus && byte == '+') byte = ' ';
        if (byte == '%') {
            if (text.size - i < 3) return STATUS_INVALID;
            int high = hex_of(text.data[i + 1]);
            int low = hex_of(text.data[i + 2]);
            if (high < 0 || low < 0) return STATUS_INVALID;
            byte = (uint8_t)(high << 4 | low);
            i += 2;
        }
        to[size++] = byte;
    }
    buf_commit(scratch, size);
    *out = (struct slice){to, size};
    return STATUS_OK;
}

enum status url_decode(struct slice text, struct buf *scratch, struct slice *out)
{
    return decode(text, true, scratch, out);
}

enum status url_decode_path(struct slice text, struct buf *scratch, struct slice *out)
{
    return decode(text, false, scratch, out);
}

bool url_path_next(struct slice *path, struct slice *segment)
{
    if (path->size == 0 || path->data[0] != '/') return false;
    struct slice rest = slice_from(*path, 1);
    const uint8_t *mark = rest.size == 0 ? NULL : memchr(rest.data, '/', rest.size);
    size_t size = mark == NULL ? rest.size : (size_t)(mark - rest.data);
    *segment = slice_prefix(rest, size);
    *path = slice_from(rest, size);
    return true;
}

/* RFC 3986, section 2.3: what is never escaped. */
static bool is_unreserved(uint8_t byte)
{
    uint8_t lower = byte | 0x20;
    return (lower >= 'a' && lower <= 'z') || (byte >= '0' && byte <= '9') || byte == '-' ||
           byte == '.' || byte == '_' || byte == '~';
}

void url_encode(struct slice text, struct buf *out)
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = text.data[i];
        if (is_unreserved(byte)) {
            buf_append_u8(out, byte);
        } else {
            char escape[3] = {'%', digits[byte >> 4], digits[byte & 15]};
            buf_append(out, escape, sizeof escape);
        }
    }
}
