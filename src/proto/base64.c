#include "proto/base64.h"

static const char alphabets[2][65] = {
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
};

void base64_encode(enum base64 variant, struct slice bytes, struct buf *out)
{
    const char *alphabet = alphabets[variant];
    if (bytes.size > (SIZE_MAX - 4) / 4 * 3) {
        out->failed = true;
        return;
    }
    uint8_t *start = buf_reserve(out, bytes.size / 3 * 4 + 4);
    if (start == NULL) return;

    uint8_t *to = start;
    for (size_t i = 0; i < bytes.size; i += 3) {
        size_t left = bytes.size - i;
        uint32_t group = (uint32_t)bytes.data[i] << 16;
        if (left > 1) group |= (uint32_t)bytes.data[i + 1] << 8;
        if (left > 2) group |= bytes.data[i + 2];
        *to++ = (uint8_t)alphabet[group >> 18];
        *to++ = (uint8_t)alphabet[group >> 12 & 63];
        if (left > 1)
            *to++ = (uint8_t)alphabet[group >> 6 & 63];
        else if (variant == BASE64_PADDED)
            *to++ = '=';
        if (left > 2)
            *to++ = (uint8_t)alphabet[group & 63];
        else if (variant == BASE64_PADDED)
            *to++ = '=';
    }
    buf_commit(out, (size_t)(to - start));
}

static int value_of(enum base64 variant, uint8_t byte)
{
    if (byte >= 'A' && byte <= 'Z') return byte - 'A';
    if (byte >= 'a' && byte <= 'z') return byte - 'a' + 26;
    if (byte >= '0' && byte <= '9') return byte - '0' + 52;
    if (byte == (uint8_t)alphabets[variant][62]) return 62;
    if (byte == (uint8_t)alphabets[variant][63]) return 63;
    return -1;
}

/* The text without its padding; false unless that is as it must be. */
static bool strip_padding(enum base64 variant, struct slice *text)
{
    if (variant == BASE64_PADDED) {
        if (text->size % 4 != 0) return false;
        for (int i = 0; i < 2 && text->size > 0 && text->data[text->size - 1] == '='; i++) {
            text->size--;
        }
    }
    return text->size % 4 != 1;
}

enum status base64_decode(enum base64 variant, struct slice text, struct buf *out)
{
    if (!strip_padding(variant, &text)) return STATUS_INVALID;
    if (text.size == 0) return STATUS_OK;
    uint8_t *start = buf_reserve(out, text.size / 4 * 3 + 3);
    if (start == NULL) return STATUS_NOMEM;

    uint8_t *to = start;
    uint32_t group = 0;
    unsigned bits = 0;
    for (size_t i = 0; i < text.size; i++) {
        int value = value_of(variant, text.data[i]);
        if (value < 0) return STATUS_INVALID;
        group = group << 6 | (unsigned)value;
        bits += 6;
        if (bits < 8) continue;
        bits -= 8;
        *to++ = (uint8_t)(group >> bits);
        group &= (1u << bits) - 1;
    }
    if (group != 0) return STATUS_INVALID; /* Bits that no encoder leaves behind. */
    buf_commit(out, (size_t)(to - start));
    return STATUS_OK;
}
