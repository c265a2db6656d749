#include "cluster/topology_message.h"

#include "base/bytes.h"
#include "core/key.h"

static void put_slice(struct buf *out, struct slice slice)
{
    buf_append_varint(out, slice.size);
    buf_append_slice(out, slice);
}

static struct slice get_slice(struct reader *reader, size_t size_max)
{
    uint64_t size = reader_varint(reader);
    if (size > size_max) reader->failed = true;
    return reader_bytes(reader, reader->failed ? 0 : (size_t)size);
}

void topology_message_encode(const struct topology_message *message, struct buf *out)
{
    buf_append_u8(out, (uint8_t)message->kind);
    switch (message->kind) {
    case TOPOLOGY_FETCH:
    case TOPOLOGY_CLEAR_ASK:
    case TOPOLOGY_CLEAR:
        buf_append_varint(out, message->generation);
        buf_append_varint(out, message->number);
        break;
    case TOPOLOGY_MAP:
        buf_append_slice(out, message->map);
        break;
    case TOPOLOGY_JOIN:
        buf_append_u64le(out, message->member.incarnation);
        buf_append_varint(out, message->member.capacity);
        put_slice(out, message->member.zone);
        put_slice(out, message->member.address);
        buf_append_varint(out, message->replaces);
        break;
    case TOPOLOGY_SYNCED:
        buf_append_varint(out, message->generation);
        buf_append_varint(out, message->number);
        buf_append_varint(out, message->shard_count);
        buf_append_slice(out, message->shards);
        break;
    case TOPOLOGY_KIND_END:
        break;
    }
}

void topology_shard_append(struct buf *list, struct slice low, uint64_t began)
{
    put_slice(list, low);
    buf_append_varint(list, began);
}

bool topology_shard_next(struct slice *rest, struct slice *low, uint64_t *began)
{
    struct reader reader = reader_of(*rest);
    if (reader_left(&reader) == 0) return false;
    *low = get_slice(&reader, KEY_BYTES_MAX);
    /* No map has a shard that begins where a node's own keys are. */
    if (low->size > 0 && low->data[0] == 0) reader.failed = true;
    *began = reader_varint(&reader);
    if (reader.failed) return false;
    *rest = slice_of(reader.at, reader_left(&reader));
    return true;
}

/* In the order of their keys, each once. */
static void get_shards(struct reader *reader, struct topology_message *message)
{
    message->generation = reader_varint(reader);
    message->number = reader_varint(reader);
    message->shard_count = reader_varint(reader);
    if (message->shard_count > TOPOLOGY_SYNCED_MAX) reader->failed = true;
    if (reader->failed) return;
    message->shards = reader_bytes(reader, reader_left(reader));
    struct slice rest = message->shards, low, last = {0};
    uint64_t began, count = 0;
    for (; topology_shard_next(&rest, &low, &began); last = low) {
        if (count++ > 0 && slice_compare(last, low) >= 0) reader->failed = true;
    }
    if (rest.size != 0 || count != message->shard_count) reader->failed = true;
}

enum status topology_message_decode(struct slice bytes, struct topology_message *message)
{
    struct reader reader = reader_of(bytes);
    unsigned kind = reader_u8(&reader);
    if (kind == 0 || kind >= TOPOLOGY_KIND_END) return STATUS_INVALID;
    struct topology_message decoded = {.kind = (enum topology_kind)kind};
    uint64_t capacity, replaces;
    switch (decoded.kind) {
    case TOPOLOGY_FETCH:
    case TOPOLOGY_CLEAR_ASK:
    case TOPOLOGY_CLEAR:
        decoded.generation = reader_varint(&reader);
        decoded.number = reader_varint(&reader);
        break;
    case TOPOLOGY_MAP:
        if (reader_left(&reader) > RANGEMAP_BYTES_MAX) return STATUS_INVALID;
        decoded.map = reader_bytes(&reader, reader_left(&reader));
        break;
    case TOPOLOGY_JOIN:
        decoded.member.incarnation = reader_u64le(&reader);
        capacity = reader_varint(&reader);
        if (capacity == 0 || capacity > RANGEMAP_CAPACITY_MAX) reader.failed = true;
        decoded.member.capacity = (uint32_t)capacity;
        decoded.member.zone = get_slice(&reader, RANGEMAP_ZONE_BYTES_MAX);
        decoded.member.address = get_slice(&reader, RANGEMAP_ADDRESS_BYTES_MAX);
        replaces = reader_varint(&reader);
        if (replaces > NODE_ID_MAX) reader.failed = true;
        decoded.replaces = (node_id)replaces;
        break;
    case TOPOLOGY_SYNCED:
        get_shards(&reader, &decoded);
        break;
    case TOPOLOGY_KIND_END:
        break;
    }
    if (reader.failed || reader_left(&reader) != 0) return STATUS_INVALID;
    *message = decoded;
    return STATUS_OK;
}
