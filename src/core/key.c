#include "core/key.h"

#include <stdint.h>

#include "base/bytes.h"

enum {
    KEY_SEPARATOR = 0x00,
    KEY_ESCAPE = 0x01, /* Followed by the escaped byte + 1: 01 01 is 00, 01 02 is 01. */
};

/* Bit i: whether byte i may stand in a name. */
static const uint64_t namespace_bytes[4] = {
    UINT64_C(0x07ff600000000000), /* - . 0 to 9 : */
    UINT64_C(0x07fffffe87fffffe), /* A to Z, _, a to z */
};

static bool is_namespace_byte(uint8_t byte)
{
    return namespace_bytes[byte / 64] >> byte % 64 & 1;
}

bool key_namespace_is_valid(struct slice name)
{
    if (name.size == 0 || name.size > NAMESPACE_BYTES_MAX) return false;
    for (size_t i = 0; i < name.size; i++) {
        if (!is_namespace_byte(name.data[i])) return false;
    }
    return true;
}

bool key_word_is_valid(struct slice word)
{
    return word.size > 0 && word.size <= WORD_BYTES_MAX;
}

/* Bytes before the first one that is written with an escape, or is one. Nearly all texts have
 * none: they are taken eight bytes at a time. */
static size_t plain_size(struct slice text)
{
    const uint64_t ones = UINT64_MAX / 255;
    size_t at = 0;
    for (; at + 8 <= text.size; at += 8) {
        uint64_t bytes = load_u64le(text.data + at);
        /* The lowest bit set is exact: it is of the first byte below 2. */
        uint64_t low = (bytes - ones * (KEY_ESCAPE + 1)) & ~bytes & ones << 7;
        if (low != 0) return at + (size_t)__builtin_ctzll(low) / 8;
    }
    while (at < text.size && text.data[at] > KEY_ESCAPE) at++;
    return at;
}

static size_t count_escapes(struct slice text)
{
    size_t count = 0;
    for (size_t i = plain_size(text); i < text.size; i++) count += text.data[i] <= KEY_ESCAPE;
    return count;
}

/* Escapes what `key` holds from `start` on, in place from the back. */
static void escape_tail(struct buf *key, size_t start)
{
    size_t count = count_escapes(slice_from(buf_slice(key), start));
    if (count == 0 || buf_reserve(key, count) == NULL) return;

    size_t from = key->size;
    buf_commit(key, count);
    for (size_t to = key->size; to > from;) {
        uint8_t byte = key->data[--from];
        if (byte > KEY_ESCAPE) {
            key->data[--to] = byte;
            continue;
        }
        key->data[--to] = byte + 1;
        key->data[--to] = KEY_ESCAPE;
    }
}

/* Appends the escaped folded form; says before the escaping whether it equals `text`. */
static enum status append_folded(struct slice text, enum fold fold, struct buf *key, bool *equal)
{
    size_t start = key->size;
    enum status status = fold_append(fold, text, key);
    if (status != STATUS_OK) return status;
    *equal = slice_equal(slice_from(buf_slice(key), start), text);
    escape_tail(key, start);
    return buf_status(key);
}

static enum status finish(struct buf *key, enum status status)
{
    if (status != STATUS_OK) buf_clear(key);
    return status;
}

enum status key_encode(struct slice name, struct slice word, enum fold fold, struct buf *key)
{
    bool equal;
    if (!key_word_is_valid(word)) return finish(key, STATUS_INVALID);
    enum status status = key_namespace_prefix(name, key);
    if (status == STATUS_OK) status = append_folded(word, fold, key, &equal);
    if (status != STATUS_OK || equal) return finish(key, status);

    buf_append_u8(key, KEY_SEPARATOR);
    size_t start = key->size;
    buf_append_slice(key, word);
    if (!key->failed) escape_tail(key, start);
    return finish(key, buf_status(key));
}

enum status key_prefix(struct slice name, struct slice query, enum fold fold, struct buf *key)
{
    bool equal;
    if (query.size > WORD_BYTES_MAX) return finish(key, STATUS_LIMIT);
    enum status status = key_namespace_prefix(name, key);
    if (status == STATUS_OK) status = append_folded(query, fold, key, &equal);
    return finish(key, status);
}

enum status key_namespace_prefix(struct slice name, struct buf *key)
{
    buf_clear(key);
    if (!key_namespace_is_valid(name)) return STATUS_INVALID;
    buf_append_slice(key, name);
    buf_append_u8(key, KEY_SEPARATOR);
    return finish(key, buf_status(key));
}

enum status key_prefix_end(struct slice prefix, struct buf *end)
{
    buf_clear(end);
    while (prefix.size > 0 && prefix.data[prefix.size - 1] == 0xff) prefix.size--;
    buf_append_slice(end, prefix);
    if (!end->failed && end->size > 0) end->data[end->size - 1]++;
    return finish(end, buf_status(end));
}

/* The parts of a key as they are in it. */
struct parts {
    struct slice name, folded, original;
    bool has_original;
};

static struct slice cut(struct slice *rest, bool *found)
{
    const uint8_t *at = rest->size == 0 ? NULL : memchr(rest->data, KEY_SEPARATOR, rest->size);
    struct slice part = at == NULL ? *rest : slice_prefix(*rest, (size_t)(at - rest->data));
    *found = at != NULL;
    *rest = slice_from(*rest, part.size + *found);
    return part;
}

static enum status split(struct slice key, struct parts *parts)
{
    bool found;
    parts->name = cut(&key, &found);
    if (!found || !key_namespace_is_valid(parts->name)) return STATUS_CORRUPT;
    parts->folded = cut(&key, &parts->has_original);
    parts->original = parts->has_original ? key : parts->folded;

    /* A word that equals its folded form is written once. */
    if (parts->has_original && slice_equal(parts->folded, parts->original)) return STATUS_CORRUPT;
    return parts->original.size == 0 ? STATUS_CORRUPT : STATUS_OK;
}

/* Appends the bytes that `escaped` stands for, at most `size_max`. */
static enum status append_unescaped(struct slice escaped, size_t size_max, struct buf *out)
{
    if (escaped.size > 2 * size_max) return STATUS_CORRUPT;
    if (escaped.size == 0) return STATUS_OK;
    if (buf_reserve(out, escaped.size) == NULL) return STATUS_NOMEM;
    size_t plain = plain_size(escaped);
    memcpy(out->data + out->size, escaped.data, plain);
    out->size += plain;
    for (size_t i = plain; i < escaped.size; i++) {
        uint8_t byte = escaped.data[i];
        if (byte == KEY_SEPARATOR) return STATUS_CORRUPT;
        if (byte == KEY_ESCAPE) {
            if (++i == escaped.size) return STATUS_CORRUPT;
            byte = escaped.data[i] - 1;
            if (byte > KEY_ESCAPE) return STATUS_CORRUPT; /* 00 wraps to 255. */
        }
        out->data[out->size++] = byte;
    }
    return out->size <= size_max ? STATUS_OK : STATUS_CORRUPT;
}

enum status key_decode(struct slice key, struct slice *name, struct buf *word)
{
    struct parts parts;
    buf_clear(word);
    enum status status = split(key, &parts);
    /* The folded form is only checked; then its bytes give way to the word's. */
    if (status == STATUS_OK && parts.has_original)
        status = append_unescaped(parts.folded, FOLDED_BYTES_MAX, word);
    if (status == STATUS_OK) {
        buf_clear(word);
        status = append_unescaped(parts.original, WORD_BYTES_MAX, word);
    }
    if (status != STATUS_OK) return finish(word, status);
    *name = parts.name;
    return STATUS_OK;
}

enum status key_decode_folded(struct slice key, struct buf *folded)
{
    struct parts parts;
    buf_clear(folded);
    enum status status = split(key, &parts);
    if (status == STATUS_OK) status = append_unescaped(parts.original, WORD_BYTES_MAX, folded);
    if (status == STATUS_OK) {
        buf_clear(folded);
        status = append_unescaped(parts.folded, FOLDED_BYTES_MAX, folded);
    }
    return finish(folded, status);
}
