/* The bytes of a delta: docs/format/rangemap.md. u8 format, the hash of the base, then changes to
 * the end: u8 kind, with bit 7 set when forced, and the fields of the kind. */
#include "cluster/rangemap_delta.h"

#include "base/check.h"
#include "cluster/rangemap_codec.h"
#include "core/key.h"

enum { FORMAT = 1, FORCED_BIT = 0x80 };

static bool may_be_forced(enum change_kind kind)
{
    return kind == CHANGE_MEMBER_STATE || kind == CHANGE_SWITCH || kind == CHANGE_FINISH ||
           kind == CHANGE_ABORT;
}

void rangemap_delta_begin(const struct rangemap *base, struct buf *out)
{
    buf_clear(out);
    buf_append_u8(out, FORMAT);
    append_hash(out, rangemap_identity(base)->hash);
}

void rangemap_delta_add(struct buf *out, const struct change *change)
{
    const struct member *member = &change->member;
    bool forced = change->forced && may_be_forced(change->kind);
    buf_append_u8(out, (uint8_t)(change->kind | (forced ? FORCED_BIT : 0)));
    switch (change->kind) {
    case CHANGE_MEMBER_ADD:
        buf_append_u16le(out, member->id);
        member_encode(member, out);
        break;
    case CHANGE_MEMBER_MOVE:
        buf_append_u16le(out, member->id);
        buf_append_varint(out, member->capacity);
        append_sized(out, member->zone);
        append_sized(out, member->address);
        break;
    case CHANGE_MEMBER_STATE:
        buf_append_u16le(out, member->id);
        buf_append_u8(out, (uint8_t)member->state);
        break;
    case CHANGE_MEMBER_LEAVING:
        buf_append_u16le(out, member->id);
        buf_append_u8(out, member->leaving);
        break;
    case CHANGE_MEMBER_FORGOT:
    case CHANGE_MEMBER_REMOVE:
        buf_append_u16le(out, member->id);
        break;
    case CHANGE_SETTINGS:
        settings_encode(&change->settings, out);
        break;
    case CHANGE_BEGIN:
        append_sized(out, change->low);
        buf_append_u8(out, change->next_count);
        for (size_t i = 0; i < change->next_count; i++) buf_append_u16le(out, change->next[i]);
        break;
    case CHANGE_SPLIT:
    case CHANGE_MERGE:
    case CHANGE_SWITCH:
    case CHANGE_FINISH:
    case CHANGE_ABORT:
        append_sized(out, change->low);
        break;
    }
}

enum status rangemap_delta_open(struct slice delta, struct hash128 *base, struct reader *reader)
{
    if (delta.size > RANGEMAP_DELTA_BYTES_MAX) return STATUS_INVALID;
    struct reader opened = reader_of(delta);
    if (reader_u8(&opened) != FORMAT) return STATUS_INVALID;
    struct hash128 hash = reader_hash(&opened);
    /* A delta that changes nothing makes no version. */
    if (opened.failed || reader_left(&opened) == 0) return STATUS_INVALID;
    *base = hash;
    *reader = opened;
    return STATUS_OK;
}

static void read_next(struct reader *reader, struct change *change)
{
    change->next_count = reader_u8(reader);
    if (change->next_count == 0 || change->next_count > RANGEMAP_OWNERS_MAX) {
        reader->failed = true;
        return;
    }
    node_id before = 0;
    for (size_t i = 0; i < change->next_count; i++) {
        change->next[i] = reader_u16le(reader);
        if (change->next[i] <= before) reader->failed = true;
        before = change->next[i];
    }
}

static void read_member(struct reader *reader, struct change *change)
{
    struct member *member = &change->member;
    member->id = reader_u16le(reader);
    if (member->id == 0) reader->failed = true;
    switch (change->kind) {
    case CHANGE_MEMBER_ADD:
        member_decode(reader, member);
        break;
    case CHANGE_MEMBER_MOVE:
        member->capacity = (uint32_t)reader_bounded(reader, RANGEMAP_CAPACITY_MAX);
        member->zone = reader_sized(reader, RANGEMAP_ZONE_BYTES_MAX);
        member->address = reader_sized(reader, RANGEMAP_ADDRESS_BYTES_MAX);
        if (!member_is_valid(member)) reader->failed = true;
        break;
    case CHANGE_MEMBER_STATE: {
        uint8_t state = reader_u8(reader);
        if (state > MEMBER_EXCLUDED) reader->failed = true;
        member->state = (enum member_state)state;
        break;
    }
    case CHANGE_MEMBER_LEAVING: {
        uint8_t leaving = reader_u8(reader);
        if (leaving > 1) reader->failed = true;
        member->leaving = leaving == 1;
        break;
    }
    default:
        break;
    }
}

static void read_fields(struct reader *reader, struct change *change)
{
    if (change_is_of_member(change->kind)) {
        read_member(reader, change);
    } else if (change->kind == CHANGE_SETTINGS) {
        settings_decode(reader, &change->settings);
    } else {
        change->low = reader_sized(reader, KEY_BYTES_MAX);
        if (change->kind == CHANGE_BEGIN) read_next(reader, change);
    }
}

enum status rangemap_delta_next(struct reader *reader, struct change *change)
{
    if (!reader->failed && reader_left(reader) == 0) return STATUS_END;
    struct change read = {.kind = 0};
    uint8_t kind = reader_u8(reader);
    read.forced = (kind & FORCED_BIT) != 0;
    kind = (uint8_t)(kind & ~FORCED_BIT);
    if (kind == 0 || kind > CHANGE_MEMBER_FORGOT) reader->failed = true;
    if (reader->failed) return STATUS_INVALID;
    read.kind = (enum change_kind)kind;
    if (read.forced && !may_be_forced(read.kind)) reader->failed = true;
    read_fields(reader, &read);
    if (reader->failed) return STATUS_INVALID;
    *change = read;
    return STATUS_OK;
}
