/* Bytes of a record, all numbers little-endian:
 *
 *   u8       flags     which of the fields below are there
 *   version  version   time u64, node u16
 *   --- a tombstone ends here ---
 *   version  since     SINCE: not none
 *   version  created   CREATED: differs from version; zero for none
 *   version  set       SET: differs from version
 *   f64      score     finite, never -0.0
 *   u64      expires   EXPIRES: not 0
 *   varint   size, then the payload        PAYLOAD (size may be 0)
 *   varint   size, then the tags           TAGS: (u8 length, bytes)..., ascending
 *   varint   count, then count slots       SLOTS: (u64 owner, u64 sequence, f64 sum)...,
 *                                          owners ascending
 */
#include "core/record.h"

#include <math.h>
#include <string.h>
/* Each record is hashed at least twice: inline, a hash of a few dozen bytes costs half. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/bytes.h"

enum {
    FLAG_TOMBSTONE = 0x01,
    FLAG_SINCE = 0x02,
    FLAG_CREATED = 0x04,
    FLAG_SET = 0x08,
    FLAG_EXPIRES = 0x10,
    FLAG_PAYLOAD = 0x20,
    FLAG_TAGS = 0x40,
    FLAG_SLOTS = 0x80,
};

static uint8_t flags_of(const struct record *record)
{
    if (record->tombstone) return FLAG_TOMBSTONE;
    unsigned flags = 0;
    if (!version_is_none(record->since)) flags |= FLAG_SINCE;
    if (!version_equal(record->created, record->version)) flags |= FLAG_CREATED;
    if (!version_equal(record->set, record->version)) flags |= FLAG_SET;
    if (record->expires_at != 0) flags |= FLAG_EXPIRES;
    if (record->has_payload) flags |= FLAG_PAYLOAD;
    if (record->tags.size > 0) flags |= FLAG_TAGS;
    if (record->slots.size > 0) flags |= FLAG_SLOTS;
    return (uint8_t)flags;
}

static uint8_t *put_version(uint8_t *at, struct version version)
{
    store_u64le(at, version.time);
    store_u16le(at + 8, version.node);
    return at + RECORD_VERSION_BYTES;
}

static uint8_t *put_f64(uint8_t *at, double value)
{
    memcpy(at, &value, sizeof value);
    return at + sizeof value;
}

static void append_sized(struct buf *out, size_t size, struct slice bytes)
{
    buf_append_varint(out, size);
    buf_append_slice(out, bytes);
}

void record_encode(const struct record *record, struct buf *out)
{
    uint8_t head[1 + 4 * RECORD_VERSION_BYTES + 16];
    uint8_t flags = flags_of(record);
    head[0] = flags;
    uint8_t *at = put_version(head + 1, record->version);
    if (flags & FLAG_SINCE) at = put_version(at, record->since);
    if (flags & FLAG_CREATED) at = put_version(at, record->created);
    if (flags & FLAG_SET) at = put_version(at, record->set);
    if (!record->tombstone) at = put_f64(at, record->score);
    if (flags & FLAG_EXPIRES) {
        store_u64le(at, record->expires_at);
        at += 8;
    }
    buf_append(out, head, (size_t)(at - head));
    if (flags & FLAG_PAYLOAD) append_sized(out, record->payload.size, record->payload);
    if (flags & FLAG_TAGS) append_sized(out, record->tags.size, record->tags);
    if (flags & FLAG_SLOTS) {
        append_sized(out, record->slots.size / RECORD_SLOT_BYTES, record->slots);
    }
}

static struct version read_version(struct reader *reader)
{
    struct version version = {.time = reader_u64le(reader)};
    version.node = reader_u16le(reader);
    return version;
}

static double read_f64(struct reader *reader)
{
    uint64_t bits = reader_u64le(reader);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Bytes after a varint that counts them in units. */
static struct slice read_sized(struct reader *reader, size_t unit, size_t count_max)
{
    uint64_t count = reader_varint(reader);
    if (count > count_max) reader->failed = true;
    return reader_bytes(reader, reader->failed ? 0 : (size_t)count * unit);
}

/* Finite, and not the zero that equals another zero of different bytes. */
static bool number_is_canonical(double value)
{
    return isfinite(value) && !(value == 0 && signbit(value));
}

static bool tags_are_canonical(struct slice tags)
{
    struct slice previous = {NULL, 0};
    size_t count = 0;
    while (tags.size > 0) {
        size_t size = tags.data[0];
        if (size == 0 || size > TAG_BYTES_MAX || size >= tags.size) return false;
        struct slice tag = slice_of(tags.data + 1, size);
        if (count++ > 0 && slice_compare(previous, tag) >= 0) return false;
        previous = tag;
        tags = slice_from(tags, 1 + size);
    }
    return count <= TAG_COUNT_MAX;
}

static bool slots_are_canonical(struct slice slots, hlc_time time)
{
    uint64_t previous = 0;
    for (size_t i = 0; i < slots.size / RECORD_SLOT_BYTES; i++) {
        struct record_slot slot = record_slot_at(slots, i);
        if (i > 0 && slot.owner <= previous) return false;
        /* Or it would outlive a set that is newer than the record. */
        if (slot.sequence >= RECORD_SEQUENCE_TIME_MIN && slot.sequence > time) return false;
        if (slot.sequence == 0 || !number_is_canonical(slot.sum)) return false;
        previous = slot.owner;
    }
    return true;
}

/* Where a tombstone or an expiry ended the value, slots alone may have come since. */
static bool value_is_canonical(const struct record *record)
{
    if (!version_equal(record->set, record->since)) return true;
    return record->score == 0 && record->expires_at == 0 && !record->has_payload &&
           record->tags.size == 0;
}

static bool sizes_are_canonical(const struct record *record)
{
    return record->payload.size <= (record->has_payload ? PAYLOAD_BYTES_MAX : 0) &&
           record->slots.size % RECORD_SLOT_BYTES == 0 &&
           record->slots.size <= RECORD_SLOT_COUNT_MAX * RECORD_SLOT_BYTES;
}

bool record_is_canonical(const struct record *record)
{
    if (version_is_none(record->version) || record->version.time > VERSION_TIME_MAX) return false;
    if (record->tombstone) return true;
    if (!sizes_are_canonical(record)) return false;
    return version_compare(record->since, record->version) < 0 &&
           version_compare(record->since, record->set) <= 0 &&
           version_compare(record->set, record->version) <= 0 &&
           version_compare(record->created, record->version) <= 0 &&
           number_is_canonical(record->score) && value_is_canonical(record) &&
           tags_are_canonical(record->tags) &&
           slots_are_canonical(record->slots, record->version.time);
}

enum status record_decode(struct slice bytes, struct record *out)
{
    struct reader reader = reader_of(bytes);
    struct record record = {0};
    uint8_t flags = reader_u8(&reader);
    record.tombstone = (flags & FLAG_TOMBSTONE) != 0;
    record.version = read_version(&reader);
    if (!record.tombstone) {
        if (flags & FLAG_SINCE) record.since = read_version(&reader);
        record.created = flags & FLAG_CREATED ? read_version(&reader) : record.version;
        record.set = flags & FLAG_SET ? read_version(&reader) : record.version;
        record.score = read_f64(&reader);
        if (flags & FLAG_EXPIRES) record.expires_at = reader_u64le(&reader);
        record.has_payload = (flags & FLAG_PAYLOAD) != 0;
        if (flags & FLAG_PAYLOAD) record.payload = read_sized(&reader, 1, PAYLOAD_BYTES_MAX);
        if (flags & FLAG_TAGS) record.tags = read_sized(&reader, 1, RECORD_TAGS_BYTES_MAX);
        if (flags & FLAG_SLOTS) {
            record.slots = read_sized(&reader, RECORD_SLOT_BYTES, RECORD_SLOT_COUNT_MAX);
        }
    }
    if (reader.failed || reader_left(&reader) != 0) return STATUS_CORRUPT;
    if (flags != flags_of(&record) || !record_is_canonical(&record)) return STATUS_CORRUPT;
    *out = record;
    return STATUS_OK;
}

/* --- Hash --- */

static uint8_t *put_hash(uint8_t *at, struct slice bytes, uint64_t seed)
{
    XXH128_hash_t hash = XXH3_128bits_withSeed(bytes.data, bytes.size, seed);
    store_u64le(at, hash.low64);
    store_u64le(at + 8, hash.high64);
    return at + 16;
}

struct sum record_hash(struct slice key, const struct record *record, uint64_t seed)
{
    enum { HASH_BYTES = 16, HEAD_BYTES_MAX = 1 + 3 * RECORD_VERSION_BYTES + 16 };
    uint8_t bytes[4 * HASH_BYTES + HEAD_BYTES_MAX];
    uint8_t flags = flags_of(record) & (uint8_t)~FLAG_SINCE;

    uint8_t *at = put_hash(bytes, key, seed);
    *at++ = flags;
    at = put_version(at, record->version);
    if (!record->tombstone) {
        if (flags & FLAG_CREATED) at = put_version(at, record->created);
        if (flags & FLAG_SET) at = put_version(at, record->set);
        at = put_f64(at, record->score);
        if (flags & FLAG_EXPIRES) {
            store_u64le(at, record->expires_at);
            at += 8;
        }
        if (flags & FLAG_PAYLOAD) at = put_hash(at, record->payload, seed);
        if (flags & FLAG_TAGS) at = put_hash(at, record->tags, seed);
        if (flags & FLAG_SLOTS) at = put_hash(at, record->slots, seed);
    }
    XXH128_hash_t hash = XXH3_128bits_withSeed(bytes, (size_t)(at - bytes), seed);
    return (struct sum){hash.low64, hash.high64};
}
