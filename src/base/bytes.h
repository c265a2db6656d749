/* Little-endian numbers in bytes, and a cursor that reads them safely.
 *
 * A reader never passes its end: a read that would marks it `failed` and gives zero,
 * so a decoder reads all its fields and tests once. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/slice.h"

static inline uint16_t load_u16le(const uint8_t *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint32_t load_u32le(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint64_t load_u64le(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline void store_u16le(uint8_t *at, uint16_t value)
{
    memcpy(at, &value, sizeof value);
}

static inline void store_u32le(uint8_t *at, uint32_t value)
{
    memcpy(at, &value, sizeof value);
}

static inline void store_u64le(uint8_t *at, uint64_t value)
{
    memcpy(at, &value, sizeof value);
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the loads above copy as they are");

struct reader {
    const uint8_t *at;
    const uint8_t *end;
    bool failed;
};

static inline struct reader reader_of(struct slice slice)
{
    /* C has no NULL + 0. */
    const uint8_t *end = slice.size == 0 ? slice.data : slice.data + slice.size;
    return (struct reader){slice.data, end, false};
}

static inline size_t reader_left(const struct reader *reader)
{
    return (size_t)(reader->end - reader->at);
}

/* The next `size` bytes, or an empty slice and `failed`. */
static inline struct slice reader_bytes(struct reader *reader, size_t size)
{
    if (reader->failed || reader_left(reader) < size) {
        reader->failed = true;
        return (struct slice){reader->end, 0};
    }
    struct slice slice = {reader->at, size};
    reader->at += size;
    return slice;
}

static inline uint8_t reader_u8(struct reader *reader)
{
    struct slice bytes = reader_bytes(reader, 1);
    return bytes.size == 0 ? 0 : bytes.data[0];
}

static inline uint16_t reader_u16le(struct reader *reader)
{
    struct slice bytes = reader_bytes(reader, 2);
    return bytes.size == 0 ? 0 : load_u16le(bytes.data);
}

static inline uint32_t reader_u32le(struct reader *reader)
{
    struct slice bytes = reader_bytes(reader, 4);
    return bytes.size == 0 ? 0 : load_u32le(bytes.data);
}

static inline uint64_t reader_u48le(struct reader *reader)
{
    uint64_t low = reader_u32le(reader), high = reader_u16le(reader);
    return high << 32 | low;
}

static inline uint64_t reader_u64le(struct reader *reader)
{
    struct slice bytes = reader_bytes(reader, 8);
    return bytes.size == 0 ? 0 : load_u64le(bytes.data);
}

/* As buf_append_varint() writes it. A form longer than needed is refused, so that
 * equal values have equal bytes. */
static inline uint64_t reader_varint(struct reader *reader)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = reader_u8(reader);
        if (reader->failed) return 0;
        if (shift == 63 && byte > 1) break;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            if (byte == 0 && shift != 0) break;
            return value;
        }
    }
    reader->failed = true;
    return 0;
}
