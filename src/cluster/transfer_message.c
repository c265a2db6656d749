#include "cluster/transfer_message.h"

#include <xxhash.h>

#include "base/bytes.h"
#include "core/key.h"

uint64_t transfer_checksum(uint64_t id, uint64_t offset, struct slice bytes)
{
    return XXH3_64bits_withSeed(bytes.data, bytes.size, id + offset);
}

static void put_slice(struct buf *out, struct slice slice)
{
    buf_append_varint(out, slice.size);
    buf_append_slice(out, slice);
}

void transfer_message_encode(const struct transfer_message *message, struct buf *out)
{
    buf_append_u8(out, (uint8_t)message->kind);
    buf_append_u64le(out, message->id);
    switch (message->kind) {
    case TRANSFER_ASK:
        put_slice(out, message->range.low);
        put_slice(out, message->range.high);
        buf_append_varint(out, message->count);
        break;
    case TRANSFER_OFFER:
        buf_append_u8(out, (uint8_t)message->verdict);
        if (message->verdict != TRANSFER_READY) break;
        buf_append_varint(out, message->size_bytes);
        put_slice(out, message->end);
        break;
    case TRANSFER_WANT:
        buf_append_varint(out, message->offset);
        break;
    case TRANSFER_PIECE:
        buf_append_varint(out, message->offset);
        buf_append_u64le(out, message->checksum);
        put_slice(out, message->bytes);
        break;
    case TRANSFER_DROP:
    case TRANSFER_GONE:
    case TRANSFER_KIND_END:
        break;
    }
}

/* A key of clients, or none: what a node holds for itself never travels. */
static struct slice get_bound(struct reader *reader)
{
    uint64_t size = reader_varint(reader);
    if (size > KEY_BYTES_MAX) reader->failed = true;
    struct slice bound = reader_bytes(reader, reader->failed ? 0 : (size_t)size);
    if (bound.size > 0 && bound.data[0] == 0) reader->failed = true;
    return bound;
}

static void get_piece(struct reader *reader, struct transfer_message *message)
{
    message->checksum = reader_u64le(reader);
    uint64_t size = reader_varint(reader);
    if (size == 0 || size > TRANSFER_PIECE_BYTES) reader->failed = true;
    message->bytes = reader_bytes(reader, reader->failed ? 0 : (size_t)size);
}

static void get_range(struct reader *reader, struct key_range *range)
{
    range->low = get_bound(reader);
    range->high = get_bound(reader);
    bool empty = range->high.size > 0 && slice_compare(range->low, range->high) >= 0;
    if (range->low.size == 0 || empty) reader->failed = true;
}

/* A file of nothing ends where the range does. */
static void get_file(struct reader *reader, struct transfer_message *message)
{
    if (message->verdict != TRANSFER_READY) return;
    message->size_bytes = reader_varint(reader);
    message->end = get_bound(reader);
    if (message->size_bytes > TRANSFER_FILE_BYTES_MAX) reader->failed = true;
    if (message->size_bytes == 0 && message->end.size > 0) reader->failed = true;
}

static uint64_t get_offset(struct reader *reader)
{
    uint64_t offset = reader_varint(reader);
    if (offset % TRANSFER_PIECE_BYTES != 0 || offset >= TRANSFER_FILE_BYTES_MAX)
        reader->failed = true;
    return offset;
}

enum status transfer_message_decode(struct slice bytes, struct transfer_message *message)
{
    struct reader reader = reader_of(bytes);
    struct transfer_message decoded = {0};
    unsigned kind = reader_u8(&reader), verdict = 0;
    if (kind == 0 || kind >= TRANSFER_KIND_END) return STATUS_INVALID;
    decoded.kind = (enum transfer_kind)kind;
    decoded.id = reader_u64le(&reader);
    if (decoded.id == 0) return STATUS_INVALID;
    switch (decoded.kind) {
    case TRANSFER_ASK:
        get_range(&reader, &decoded.range);
        decoded.count = reader_varint(&reader);
        break;
    case TRANSFER_OFFER:
        verdict = reader_u8(&reader);
        if (verdict >= TRANSFER_VERDICT_END) return STATUS_INVALID;
        decoded.verdict = (enum transfer_verdict)verdict;
        get_file(&reader, &decoded);
        break;
    case TRANSFER_WANT:
        decoded.offset = get_offset(&reader);
        break;
    case TRANSFER_PIECE:
        decoded.offset = get_offset(&reader);
        get_piece(&reader, &decoded);
        break;
    case TRANSFER_DROP:
    case TRANSFER_GONE:
    case TRANSFER_KIND_END:
        break;
    }
    if (reader.failed || reader_left(&reader) != 0) return STATUS_INVALID;
    *message = decoded;
    return STATUS_OK;
}
