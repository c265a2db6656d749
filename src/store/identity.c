#include "store/identity.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "store/manifest.h"

static const char first_line[] = "trifecta data directory\n";
static const char format_word[] = "format ";

void identity_encode(const uint8_t store_id[16], char out[IDENTITY_BYTES + 1])
{
    char hex[33];
    for (int i = 0; i < 16; i++) snprintf(hex + i * 2, 3, "%02x", store_id[i]);
    int body = snprintf(out, IDENTITY_BYTES + 1, "%s%s%d\nstore %s\n", first_line, format_word,
                        MANIFEST_FORMAT, hex);
    int size = body + snprintf(out + body, (size_t)(IDENTITY_BYTES + 1 - body), "crc32c %08x\n",
                               crc32c(0, out, (size_t)body));
    CHECK(size == IDENTITY_BYTES);
}

/* The number of the format, or 0 if there is none that makes sense. */
static unsigned parse_format(struct slice text)
{
    unsigned format = 0;
    size_t at = 0;
    for (; at < text.size && text.data[at] >= '0' && text.data[at] <= '9'; at++) {
        if (format > 100000) return 0;
        format = format * 10 + (unsigned)(text.data[at] - '0');
    }
    return at < text.size && text.data[at] == '\n' ? format : 0;
}

static int hex_value(uint8_t digit)
{
    if (digit >= '0' && digit <= '9') return digit - '0';
    if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
    return 0; /* The comparison with what it should be finds it. */
}

enum status identity_decode(struct slice text, uint8_t store_id[16])
{
    size_t line = sizeof first_line - 1;
    size_t word = sizeof format_word - 1;
    if (!slice_starts_with(text, slice_from_text(first_line))) return STATUS_FOREIGN;
    struct slice rest = slice_from(text, line);
    if (!slice_starts_with(rest, slice_from_text(format_word))) return STATUS_CORRUPT;
    if (parse_format(slice_from(rest, word)) > MANIFEST_FORMAT) return STATUS_NEWER;
    if (text.size != IDENTITY_BYTES) return STATUS_CORRUPT;

    /* Encoding what was read again must give the same text: no other check is needed. */
    uint8_t id[16];
    const uint8_t *hex = text.data + line + sizeof "format 1\nstore " - 1;
    for (int i = 0; i < 16; i++)
        id[i] = (uint8_t)(hex_value(hex[i * 2]) << 4 | hex_value(hex[i * 2 + 1]));
    char expected[IDENTITY_BYTES + 1];
    identity_encode(id, expected);
    if (memcmp(text.data, expected, IDENTITY_BYTES) != 0) return STATUS_CORRUPT;
    memcpy(store_id, id, sizeof id);
    return STATUS_OK;
}
