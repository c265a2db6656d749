/* The bytes of a map: docs/format/rangemap.md.
 *
 *   u8       format, 1
 *   varint   generation, number; u64 random id of the generation
 *   2 x u64  hash of the predecessor
 *   settings
 *   varint   next id
 *   varint   count of members, and each: id, state, leaving and forgot, what it says of itself
 *   u8       count of registrars, and their ids
 *   varint   count of shards, and each: low (front-coded), stage, began, owners, next owners
 *
 * A decoder takes only what the encoder writes. */
#include "cluster/rangemap_codec.h"

#include "base/check.h"
#include "cluster/rangemap_private.h"
#include "core/key.h"

enum { FORMAT = 1, MEMBER_LEAVING_BIT = 4, MEMBER_FORGOT_BIT = 8 };

uint64_t reader_bounded(struct reader *reader, uint64_t max)
{
    uint64_t value = reader_varint(reader);
    if (value <= max) return value;
    reader->failed = true;
    return 0;
}

void append_hash(struct buf *out, struct hash128 hash)
{
    buf_append_u64le(out, hash.low);
    buf_append_u64le(out, hash.high);
}

struct hash128 reader_hash(struct reader *reader)
{
    uint64_t low = reader_u64le(reader);
    return (struct hash128){.low = low, .high = reader_u64le(reader)};
}

void append_sized(struct buf *out, struct slice bytes)
{
    buf_append_varint(out, bytes.size);
    buf_append_slice(out, bytes);
}

struct slice reader_sized(struct reader *reader, size_t size_max)
{
    size_t size = (size_t)reader_bounded(reader, size_max);
    return reader_bytes(reader, size);
}

void settings_encode(const struct rangemap_settings *settings, struct buf *out)
{
    buf_append_u8(out, settings->replication_factor);
    buf_append_u8(out, settings->write_quorum);
    buf_append_u8(out, settings->read_quorum);
    buf_append_u8(out, (uint8_t)settings->write_consistency);
    buf_append_u8(out, (uint8_t)settings->read_consistency);
    buf_append_u8(out, settings->sloppy_quorum);
    buf_append_u8(out, settings->k_factor);
    buf_append_varint(out, settings->shard_min_bytes);
    buf_append_varint(out, settings->shard_split_bytes);
    buf_append_varint(out, settings->tombstone_gc_ms);
    buf_append_varint(out, settings->gossip_interval_ms);
    buf_append_varint(out, settings->max_clock_skew_ms);
}

static uint8_t small(struct reader *reader, uint8_t max)
{
    uint8_t value = reader_u8(reader);
    if (value <= max) return value;
    reader->failed = true;
    return 0;
}

void settings_decode(struct reader *reader, struct rangemap_settings *out)
{
    out->replication_factor = reader_u8(reader);
    out->write_quorum = reader_u8(reader);
    out->read_quorum = reader_u8(reader);
    out->write_consistency = (enum consistency)small(reader, CONSISTENCY_ALL);
    out->read_consistency = (enum consistency)small(reader, CONSISTENCY_ALL);
    out->sloppy_quorum = small(reader, 1) != 0;
    out->k_factor = reader_u8(reader);
    out->shard_min_bytes = reader_varint(reader);
    out->shard_split_bytes = reader_varint(reader);
    out->tombstone_gc_ms = reader_varint(reader);
    out->gossip_interval_ms = (uint32_t)reader_bounded(reader, UINT32_MAX);
    out->max_clock_skew_ms = (uint32_t)reader_bounded(reader, UINT32_MAX);
    if (!settings_are_valid(out)) reader->failed = true;
}

void member_encode(const struct member *member, struct buf *out)
{
    buf_append_u64le(out, member->incarnation);
    buf_append_varint(out, member->capacity);
    append_sized(out, member->zone);
    append_sized(out, member->address);
}

void member_decode(struct reader *reader, struct member *member)
{
    member->incarnation = reader_u64le(reader);
    member->capacity = (uint32_t)reader_bounded(reader, RANGEMAP_CAPACITY_MAX);
    member->zone = reader_sized(reader, RANGEMAP_ZONE_BYTES_MAX);
    member->address = reader_sized(reader, RANGEMAP_ADDRESS_BYTES_MAX);
    if (!member_is_valid(member)) reader->failed = true;
}

/* --- Encoding --- */

static void append_owners(struct buf *out, const struct owners *owners)
{
    buf_append_u8(out, owners->count);
    buf_append_u8(out, (uint8_t)(owners->write_quorum << 4 | owners->read_quorum));
    for (size_t i = 0; i < owners->count; i++) buf_append_u16le(out, owners->ids[i]);
}

static void append_shard(struct buf *out, const struct shard *shard, struct slice low_before)
{
    size_t shared = slice_common_prefix(low_before, shard->low);
    buf_append_varint(out, shared);
    append_sized(out, slice_from(shard->low, shared));
    buf_append_u8(out, (uint8_t)shard->stage);
    buf_append_varint(out, shard->began);
    append_owners(out, &shard->owners);
    if (shard->stage != SHARD_STABLE) append_owners(out, &shard->next);
}

void rangemap_encode(const struct rangemap *map, struct buf *out)
{
    buf_append_u8(out, FORMAT);
    buf_append_varint(out, map->identity.generation);
    buf_append_varint(out, map->identity.number);
    buf_append_u64le(out, map->identity.generation_id);
    append_hash(out, map->identity.predecessor);
    settings_encode(&map->settings, out);
    buf_append_varint(out, map->next_id);

    buf_append_varint(out, map->member_count);
    for (size_t i = 0; i < map->member_count; i++) {
        struct member member = rangemap_member(map, i);
        buf_append_u16le(out, member.id);
        buf_append_u8(out, (uint8_t)(member.state | (member.leaving ? MEMBER_LEAVING_BIT : 0) |
                                     (member.forgot ? MEMBER_FORGOT_BIT : 0)));
        member_encode(&member, out);
    }
    buf_append_u8(out, (uint8_t)map->registrar_count);
    for (size_t i = 0; i < map->registrar_count; i++) buf_append_u16le(out, map->registrars[i]);

    buf_append_varint(out, map->shard_count);
    struct slice low_before = {NULL, 0};
    for (size_t i = 0; i < map->shard_count; i++) {
        struct shard shard = rangemap_shard(map, i);
        append_shard(out, &shard, low_before);
        low_before = shard.low;
    }
}

/* --- Decoding --- */

struct decoding {
    struct reader reader;
    struct draft draft;
    struct buf low; /* Of the shard before; then of this one. */
    node_id ids[2][RANGEMAP_OWNERS_MAX];
};

static enum status read_members(struct decoding *decoding, size_t count)
{
    struct rangemap *map = decoding->draft.map;
    struct reader *reader = &decoding->reader;
    node_id before = 0;
    for (size_t i = 0; i < count && !reader->failed; i++) {
        struct member member = {.id = reader_u16le(reader)};
        uint8_t state = reader_u8(reader);
        member.leaving = (state & MEMBER_LEAVING_BIT) != 0;
        member.forgot = (state & MEMBER_FORGOT_BIT) != 0;
        state = (uint8_t)(state & ~(MEMBER_LEAVING_BIT | MEMBER_FORGOT_BIT));
        member.state = (enum member_state)state;
        member_decode(reader, &member);
        if (state > MEMBER_EXCLUDED || member.id <= before || member.id >= map->next_id) break;
        if (reader->failed) break;
        enum status status = draft_add_member(&decoding->draft, &member);
        if (status != STATUS_OK) return status;
        before = member.id;
    }
    return map->member_count == count ? STATUS_OK : STATUS_INVALID;
}

static enum status read_registrars(struct decoding *decoding)
{
    struct rangemap *map = decoding->draft.map;
    struct reader *reader = &decoding->reader;
    size_t count = reader_u8(reader);
    if (count == 0 || count != registrar_count_of(map)) return STATUS_INVALID;
    node_id before = 0;
    for (size_t i = 0; i < count; i++) {
        node_id id = reader_u16le(reader);
        const struct member_row *row = member_row_find(map, id);
        if (id <= before || row == NULL || row->state == MEMBER_EXCLUDED) return STATUS_INVALID;
        map->registrars[map->registrar_count++] = id;
        before = id;
    }
    return reader->failed ? STATUS_INVALID : STATUS_OK;
}

static bool read_owners(struct decoding *decoding, node_id *ids, struct owners *owners)
{
    struct reader *reader = &decoding->reader;
    owners->ids = ids;
    owners->count = reader_u8(reader);
    uint8_t quorums = reader_u8(reader);
    owners->write_quorum = quorums >> 4;
    owners->read_quorum = quorums & 15;
    if (owners->count == 0 || owners->count > RANGEMAP_OWNERS_MAX) return false;
    if (owners->write_quorum == 0 || owners->write_quorum > owners->count) return false;
    if (owners->read_quorum == 0 || owners->read_quorum > owners->count) return false;
    node_id before = 0;
    for (size_t i = 0; i < owners->count; i++) {
        ids[i] = reader_u16le(reader);
        if (ids[i] <= before || member_row_find(decoding->draft.map, ids[i]) == NULL) return false;
        before = ids[i];
    }
    return true;
}

/* The low, front-coded against the one before: greater, and coded as shortly as it can be. */
static enum status read_low(struct decoding *decoding, bool first)
{
    struct reader *reader = &decoding->reader;
    struct buf *low = &decoding->low;
    size_t shared = (size_t)reader_bounded(reader, low->size);
    struct slice rest = reader_sized(reader, KEY_BYTES_MAX);
    if (reader->failed || shared + rest.size > KEY_BYTES_MAX) return STATUS_INVALID;
    if (first) return rest.size == 0 ? STATUS_OK : STATUS_INVALID;
    if (rest.size == 0 || (shared == 0 && rest.data[0] == 0)) return STATUS_INVALID;
    if (shared < low->size && rest.data[0] <= low->data[shared]) return STATUS_INVALID;
    low->size = shared;
    buf_append_slice(low, rest);
    return buf_status(low);
}

static enum status read_shard(struct decoding *decoding, size_t index)
{
    struct reader *reader = &decoding->reader;
    struct rangemap *map = decoding->draft.map;
    enum status status = read_low(decoding, index == 0);
    if (status != STATUS_OK) return status;

    struct shard shard = {.low = buf_slice(&decoding->low)};
    shard.stage = (enum shard_stage)small(reader, SHARD_SWITCHED);
    shard.began = reader_varint(reader);
    if (shard.began == 0 || shard.began > map->identity.number) return STATUS_INVALID;
    if (!read_owners(decoding, decoding->ids[0], &shard.owners)) return STATUS_INVALID;
    if (shard.stage != SHARD_STABLE) {
        if (!read_owners(decoding, decoding->ids[1], &shard.next)) return STATUS_INVALID;
        if (owners_equal(&shard.owners, &shard.next)) return STATUS_INVALID;
    }
    if (reader->failed) return STATUS_INVALID;
    return draft_insert_shard(&decoding->draft, index, &shard);
}

/* The least that a member and a shard take: a count beyond what can follow allocates nothing. */
enum { MEMBER_BYTES_MIN = 2 + 1 + 8 + 1 + 2 + 2, SHARD_BYTES_MIN = 1 + 1 + 1 + 1 + 2 + 2 };

static enum status read_parts(struct decoding *decoding, const struct rangemap *head,
                              struct heap *heap)
{
    struct reader *reader = &decoding->reader;
    size_t member_count = (size_t)reader_bounded(reader, RANGEMAP_MEMBERS_MAX);
    if (reader->failed || member_count * MEMBER_BYTES_MIN > reader_left(reader)) {
        return STATUS_INVALID;
    }
    /* Shards come later in the bytes: room for as many as can be there. */
    size_t shard_room = reader_left(reader) / SHARD_BYTES_MIN;
    enum status status = draft_open(&decoding->draft, heap, NULL, member_count, shard_room);
    if (status != STATUS_OK) return status;
    struct rangemap *map = decoding->draft.map;
    map->identity = head->identity;
    map->settings = head->settings;
    map->next_id = head->next_id;

    status = read_members(decoding, member_count);
    if (status == STATUS_OK) status = read_registrars(decoding);
    if (status != STATUS_OK) return status;
    size_t shard_count = (size_t)reader_bounded(reader, RANGEMAP_SHARDS_MAX);
    if (shard_count == 0) return STATUS_INVALID;
    for (size_t i = 0; i < shard_count && status == STATUS_OK; i++) {
        status = read_shard(decoding, i);
    }
    if (status != STATUS_OK) return status;
    return reader->failed || reader_left(reader) > 0 ? STATUS_INVALID : STATUS_OK;
}

enum status rangemap_decode(struct heap *heap, struct slice bytes, struct rangemap **out)
{
    if (bytes.size > RANGEMAP_BYTES_MAX) return STATUS_INVALID;
    struct decoding decoding = {.reader = reader_of(bytes)};
    struct reader *reader = &decoding.reader;
    struct rangemap head = {.next_id = 0};
    if (reader_u8(reader) != FORMAT) return STATUS_INVALID;
    head.identity.generation = reader_varint(reader);
    head.identity.number = reader_varint(reader);
    head.identity.generation_id = reader_u64le(reader);
    head.identity.predecessor = reader_hash(reader);
    settings_decode(reader, &head.settings);
    head.next_id = (uint32_t)reader_bounded(reader, NODE_ID_MAX + 1);
    if (reader->failed || head.identity.generation == 0) return STATUS_INVALID;
    if (head.identity.number == 0) return STATUS_INVALID;
    /* The first map has no predecessor, and no other map has none. */
    bool none = hash128_equal(head.identity.predecessor, (struct hash128){0, 0});
    if (none != (head.identity.number == 1)) return STATUS_INVALID;

    buf_init(&decoding.low, heap);
    enum status status = read_parts(&decoding, &head, heap);
    if (status == STATUS_OK) status = draft_seal(&decoding.draft, out);
    draft_close(&decoding.draft);
    buf_deinit(&decoding.low);
    return status == STATUS_LIMIT ? STATUS_INVALID : status;
}
