#include "cluster/register_message.h"

#include "cluster/outbox.h"

/* --- Parts --- */

void register_value_encode(struct register_value value, struct buf *out)
{
    buf_append_u64le(out, value.predecessor.low);
    buf_append_u64le(out, value.predecessor.high);
    buf_append_varint(out, value.delta.size);
    buf_append_slice(out, value.delta);
}

struct register_value register_value_read(struct reader *reader)
{
    struct register_value value = {0};
    value.predecessor.low = reader_u64le(reader);
    value.predecessor.high = reader_u64le(reader);
    uint64_t size = reader_varint(reader);
    if (size == 0 || size > REGISTER_DELTA_BYTES_MAX) reader->failed = true;
    value.delta = reader_bytes(reader, reader->failed ? 0 : (size_t)size);
    return value;
}

void ballot_encode(struct ballot ballot, struct buf *out)
{
    buf_append_varint(out, ballot.round);
    if (ballot_is_none(ballot)) return;
    buf_append_u16le(out, ballot.node);
    buf_append_u64le(out, ballot.salt);
}

struct ballot ballot_read(struct reader *reader)
{
    struct ballot ballot = {.round = reader_varint(reader)};
    if (ballot.round > REGISTER_ROUND_MAX) reader->failed = true;
    if (ballot_is_none(ballot)) return ballot;
    ballot.node = reader_u16le(reader);
    ballot.salt = reader_u64le(reader);
    if (ballot.node == 0) reader->failed = true;
    return ballot;
}

/* --- Messages --- */

static bool has_ballot(enum register_kind kind)
{
    return kind <= REGISTER_REFUSED;
}

static bool has_other(enum register_kind kind)
{
    return kind == REGISTER_PROMISE || kind == REGISTER_REFUSED;
}

static bool has_value(const struct register_message *message)
{
    if (message->kind == REGISTER_PROMISE) return !ballot_is_none(message->other);
    return message->kind == REGISTER_ACCEPT || message->kind == REGISTER_DECIDED;
}

void register_message_encode(const struct register_message *message, struct buf *out)
{
    buf_append_u8(out, (uint8_t)message->kind);
    buf_append_varint(out, message->generation.number);
    buf_append_u64le(out, message->generation.id);
    buf_append_varint(out, message->instance);
    if (has_ballot(message->kind)) ballot_encode(message->ballot, out);
    if (has_other(message->kind)) ballot_encode(message->other, out);
    if (has_value(message)) register_value_encode(message->value, out);
}

/* What the layout alone does not say. */
static bool keeps_rules(const struct register_message *message)
{
    if (message->generation.number == 0 || message->instance < 2) return false;
    if (!has_ballot(message->kind)) return true;
    if (ballot_is_none(message->ballot)) return false;
    int order = ballot_compare(message->other, message->ballot);
    /* What was accepted is less than what is promised; a refusal names something greater. */
    if (message->kind == REGISTER_PROMISE) return order < 0;
    return message->kind != REGISTER_REFUSED || order > 0;
}

enum status register_message_decode(struct slice bytes, struct register_message *out)
{
    struct reader reader = reader_of(bytes);
    struct register_message message = {0};
    if (reader_u8(&reader) != PROTOCOL_REGISTER) return STATUS_INVALID;
    uint8_t kind = reader_u8(&reader);
    if (kind < REGISTER_PREPARE || kind > REGISTER_PLACE) return STATUS_INVALID;
    message.kind = (enum register_kind)kind;
    message.generation.number = reader_varint(&reader);
    message.generation.id = reader_u64le(&reader);
    message.instance = reader_varint(&reader);
    if (has_ballot(message.kind)) message.ballot = ballot_read(&reader);
    if (has_other(message.kind)) message.other = ballot_read(&reader);
    if (has_value(&message)) message.value = register_value_read(&reader);
    if (reader.failed || reader_left(&reader) != 0) return STATUS_INVALID;
    if (!keeps_rules(&message)) return STATUS_INVALID;
    *out = message;
    return STATUS_OK;
}
