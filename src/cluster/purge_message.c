#include "cluster/purge_message.h"

#include "base/bytes.h"
#include "core/key.h"

static bool has_upto(enum purge_kind kind)
{
    return kind == PURGE_PROMISE || kind == PURGE_PROMISE_GIVEN || kind == PURGE_COMPARE;
}

static bool has_ranges(enum purge_kind kind)
{
    return kind == PURGE_COMPARED || kind == PURGE_DONE;
}

static void put_slice(struct buf *out, struct slice slice)
{
    buf_append_varint(out, slice.size);
    buf_append_slice(out, slice);
}

/* A bound between keys of clients: a node's own are in no shard. */
static struct slice get_cut(struct reader *reader)
{
    uint64_t size = reader_varint(reader);
    if (size > KEY_BYTES_MAX) reader->failed = true;
    struct slice cut = reader_bytes(reader, reader->failed ? 0 : (size_t)size);
    if (cut.size > 0 && cut.data[0] == 0) reader->failed = true;
    return cut;
}

void purge_message_encode(const struct purge_message *message, struct buf *out)
{
    buf_append_u8(out, (uint8_t)message->kind);
    buf_append_varint(out, message->generation);
    buf_append_varint(out, message->map_number);
    if (has_upto(message->kind)) buf_append_u64le(out, message->upto);
    if (!has_ranges(message->kind)) return;
    buf_append_varint(out, message->range_count);
    buf_append_slice(out, message->ranges);
}

void purge_range_append(struct buf *list, const struct key_range *range, hlc_time upto)
{
    put_slice(list, range->low);
    put_slice(list, range->high);
    buf_append_u64le(list, upto);
}

bool purge_range_next(struct slice *rest, struct key_range *range, hlc_time *upto)
{
    struct reader reader = reader_of(*rest);
    if (reader_left(&reader) == 0) return false;
    range->low = get_cut(&reader);
    range->high = get_cut(&reader);
    *upto = reader_u64le(&reader);
    if (range->high.size != 0 && slice_compare(range->low, range->high) >= 0) reader.failed = true;
    if (reader.failed) return false;
    *rest = slice_of(reader.at, reader_left(&reader));
    return true;
}

static void get_ranges(struct reader *reader, struct purge_message *message)
{
    message->range_count = reader_varint(reader);
    if (reader->failed) return;
    message->ranges = reader_bytes(reader, reader_left(reader));
    struct slice rest = message->ranges, end = {0};
    struct key_range range;
    uint64_t count = 0;
    hlc_time upto;
    for (; purge_range_next(&rest, &range, &upto); count++, end = range.high)
        if (count > 0 && (end.size == 0 || slice_compare(range.low, end) < 0))
            reader->failed = true;
    if (rest.size != 0 || count != message->range_count || count > PURGE_RANGES_MAX)
        reader->failed = true;
}

enum status purge_message_decode(struct slice bytes, struct purge_message *message)
{
    struct reader reader = reader_of(bytes);
    unsigned kind = reader_u8(&reader);
    if (kind == 0 || kind >= PURGE_KIND_END) return STATUS_INVALID;
    struct purge_message decoded = {.kind = (enum purge_kind)kind};
    decoded.generation = reader_varint(&reader);
    decoded.map_number = reader_varint(&reader);
    if (has_upto(decoded.kind)) decoded.upto = reader_u64le(&reader);
    if (has_ranges(decoded.kind)) get_ranges(&reader, &decoded);
    if (reader.failed || reader_left(&reader) != 0) return STATUS_INVALID;
    *message = decoded;
    return STATUS_OK;
}
