#include "proto/cursor.h"

#include <math.h>
#include <xxhash.h>

#include "base/bytes.h"
#include "core/key.h"
#include "proto/base64.h"

enum {
    FORMAT = 1,
    HEAD_BYTES = 2,
    PLACE_BYTES = 18, /* Score, created time and node. */
    TAG_BYTES = 8,
    BYTES_MAX = HEAD_BYTES + PLACE_BYTES + KEY_BYTES_MAX + TAG_BYTES,
};

uint64_t cursor_query_hash(struct slice name, struct slice folded, struct slice parameters)
{
    /* Chained, so that no byte can move from one part into the next unnoticed. */
    uint64_t hash = XXH3_64bits_withSeed(name.data, name.size, name.size);
    hash = XXH3_64bits_withSeed(folded.data, folded.size, hash ^ folded.size);
    return XXH3_64bits_withSeed(parameters.data, parameters.size, hash ^ parameters.size);
}

void cursor_encode(const struct cursor *cursor, uint64_t query_hash, struct buf *out)
{
    struct buf bytes;
    buf_init(&bytes, out->heap);
    buf_append_u8(&bytes, FORMAT);
    buf_append_u8(&bytes, (uint8_t)cursor->sort);
    if (cursor->sort == CURSOR_POPULARITY) {
        uint64_t score;
        memcpy(&score, &cursor->score, sizeof score);
        buf_append_u64le(&bytes, score);
        buf_append_u64le(&bytes, cursor->created_time);
        buf_append_u16le(&bytes, cursor->created_node);
    }
    buf_append_slice(&bytes, cursor->key);
    buf_append_u64le(&bytes, XXH3_64bits_withSeed(bytes.data, bytes.size, query_hash));

    if (buf_status(&bytes) == STATUS_OK)
        base64_encode(BASE64_URL, buf_slice(&bytes), out);
    else
        out->failed = true;
    buf_deinit(&bytes);
}

/* Bytes whose tag is right, without it. */
static enum status read_body(struct slice body, struct cursor *out)
{
    struct reader reader = reader_of(body);
    struct cursor cursor = {0};

    if (reader_u8(&reader) != FORMAT) return STATUS_INVALID;
    uint8_t sort = reader_u8(&reader);
    if (sort >= CURSOR_SORT_COUNT) return STATUS_INVALID;
    cursor.sort = (enum cursor_sort)sort;
    if (cursor.sort == CURSOR_POPULARITY) {
        uint64_t score = reader_u64le(&reader);
        memcpy(&cursor.score, &score, sizeof score);
        cursor.created_time = reader_u64le(&reader);
        cursor.created_node = reader_u16le(&reader);
    }
    cursor.key = reader_bytes(&reader, reader_left(&reader));
    if (reader.failed || cursor.key.size == 0 || cursor.key.size > KEY_BYTES_MAX) {
        return STATUS_INVALID;
    }
    if (!isfinite(cursor.score)) return STATUS_INVALID;
    *out = cursor;
    return STATUS_OK;
}

enum status cursor_decode(struct slice text, uint64_t query_hash, struct buf *scratch,
                          struct cursor *out)
{
    buf_clear(scratch);
    if (text.size > BYTES_MAX / 3 * 4 + 4) return STATUS_INVALID;
    enum status status = base64_decode(BASE64_URL, text, scratch);
    if (status != STATUS_OK) return status;
    if (scratch->size < HEAD_BYTES + TAG_BYTES) return STATUS_INVALID;

    struct slice body = slice_prefix(buf_slice(scratch), scratch->size - TAG_BYTES);
    uint64_t tag = load_u64le(body.data + body.size);
    if (tag != XXH3_64bits_withSeed(body.data, body.size, query_hash)) return STATUS_INVALID;
    return read_body(body, out);
}
