#include "core/packed_format.h"

#include "base/bytes.h"
#include "base/crc32c.h"

/* --- Writing --- */

static void append_version(struct version version, struct buf *out)
{
    buf_append_u64le(out, version.time);
    buf_append_u16le(out, version.node);
}

static void append_sum(struct sum sum, struct buf *out)
{
    buf_append_u64le(out, sum.low);
    buf_append_u64le(out, sum.high);
}

static void append_key(struct slice key, struct buf *out)
{
    buf_append_varint(out, key.size);
    buf_append_slice(out, key);
}

static void append_shapes(const struct packed_footer *footer, struct buf *out)
{
    const struct bests_shape *bests = &footer->bests;
    buf_append_u8(out, bests->score_bytes);
    buf_append_u8(out, bests->time_bytes);
    buf_append_u8(out, bests->node_bytes);
    buf_append_u8(out, bests->counter_bits);
    buf_append_u64le(out, bests->score_min);
    buf_append_u64le(out, bests->time_min_ms);
    buf_append_u8(out, footer->expiry.time_bytes);
    buf_append_u8(out, footer->expiry.ordinal_bytes);
    buf_append_u64le(out, footer->expiry.first);
}

void packed_footer_append(const struct packed_footer *footer, struct buf *out)
{
    const struct packed_info *info = &footer->info;
    size_t start = out->size;
    buf_append_u64le(out, info->count);
    buf_append_u64le(out, info->tombstone_count);
    buf_append_u64le(out, info->present_count);
    buf_append_u64le(out, info->key_bytes);
    append_version(info->oldest, out);
    append_version(info->newest, out);
    append_sum(info->sum, out);
    buf_append_u64le(out, footer->info.hash_seed);
    buf_append_u64le(out, footer->epoch_ms);
    append_shapes(footer, out);
    buf_append_u32le(out, PACKED_SECTION_COUNT);
    for (size_t i = 0; i < PACKED_SECTION_COUNT; i++) {
        buf_append_u64le(out, footer->sections[i].offset);
        buf_append_u64le(out, footer->sections[i].size);
    }
    append_sum(footer->content, out);
    buf_append_u32le(out, footer->checksums_crc);
    append_key(info->key_first, out);
    append_key(info->key_last, out);

    buf_append_u32le(out, (uint32_t)(out->size - start));
    buf_append_u32le(out, 0);
    buf_append_u32le(out, 0);
    if (out->failed) return;
    buf_append_u32le(out, crc32c(0, out->data + start, out->size - start));
    buf_append_u64le(out, PACKED_MAGIC);
}

/* --- Reading --- */

static struct version read_version(struct reader *reader)
{
    struct version version = {.time = reader_u64le(reader)};
    version.node = reader_u16le(reader);
    return version;
}

static struct sum read_sum(struct reader *reader)
{
    struct sum sum = {.low = reader_u64le(reader)};
    sum.high = reader_u64le(reader);
    return sum;
}

static struct slice read_key(struct reader *reader)
{
    uint64_t size = reader_varint(reader);
    if (size > reader_left(reader)) reader->failed = true;
    return reader_bytes(reader, reader->failed ? 0 : (size_t)size);
}

static void read_shapes(struct reader *reader, struct packed_footer *footer)
{
    struct bests_shape *bests = &footer->bests;
    bests->score_bytes = reader_u8(reader);
    bests->time_bytes = reader_u8(reader);
    bests->node_bytes = reader_u8(reader);
    bests->counter_bits = reader_u8(reader);
    bests->score_min = reader_u64le(reader);
    bests->time_min_ms = reader_u64le(reader);
    footer->expiry.time_bytes = reader_u8(reader);
    footer->expiry.ordinal_bytes = reader_u8(reader);
    footer->expiry.first = reader_u64le(reader);
}

/* A table with more sections comes from a later program, whose optional ones are ignored. */
static void read_sections(struct reader *reader, struct packed_footer *footer)
{
    uint32_t count = reader_u32le(reader);
    footer->section_count = count;
    if (count < PACKED_SECTION_COUNT) reader->failed = true;
    for (uint32_t i = 0; i < count && !reader->failed; i++) {
        struct packed_extent extent = {.offset = reader_u64le(reader)};
        extent.size = reader_u64le(reader);
        if (i < PACKED_SECTION_COUNT) footer->sections[i] = extent;
    }
}

static void read_fields(struct reader *reader, struct packed_footer *footer)
{
    struct packed_info *info = &footer->info;
    info->count = reader_u64le(reader);
    info->tombstone_count = reader_u64le(reader);
    info->present_count = reader_u64le(reader);
    info->key_bytes = reader_u64le(reader);
    info->oldest = read_version(reader);
    info->newest = read_version(reader);
    info->sum = read_sum(reader);
    footer->info.hash_seed = reader_u64le(reader);
    footer->epoch_ms = reader_u64le(reader);
    read_shapes(reader, footer);
    read_sections(reader, footer);
    footer->content = read_sum(reader);
    footer->checksums_crc = reader_u32le(reader);
    info->key_first = read_key(reader);
    info->key_last = read_key(reader);
    info->expires_first = footer->expiry.first;
}

static bool sections_are_inside(const struct packed_footer *footer, uint64_t footer_at)
{
    const struct packed_extent *checksums = &footer->sections[PACKED_CHECKSUMS];
    for (size_t i = 0; i < PACKED_SECTION_COUNT; i++) {
        const struct packed_extent *extent = &footer->sections[i];
        uint64_t limit = i == PACKED_CHECKSUMS ? footer_at : checksums->offset;
        if (extent->offset > limit || extent->size > limit - extent->offset) return false;
    }
    return checksums->offset >= PACKED_HEADER_BYTES;
}

/* The footer's bytes, after everything that guards them. */
static enum status footer_find(struct slice file, struct slice *out)
{
    if (file.size < PACKED_HEADER_BYTES + PACKED_TAIL_BYTES) return STATUS_CORRUPT;
    const uint8_t *tail = file.data + file.size - PACKED_TAIL_BYTES;
    if (load_u64le(tail + 16) != PACKED_MAGIC) return STATUS_CORRUPT;
    uint32_t size = load_u32le(tail);
    if (size > file.size - PACKED_HEADER_BYTES - PACKED_TAIL_BYTES) return STATUS_CORRUPT;
    if (crc32c(0, tail - size, (size_t)size + 12) != load_u32le(tail + 12)) return STATUS_CORRUPT;
    if (load_u32le(tail + 4) & ~(uint32_t)PACKED_REQUIRED_KNOWN) return STATUS_NEWER;
    *out = slice_of(tail - size, size);
    return STATUS_OK;
}

enum status packed_footer_read(struct slice file, struct packed_footer *footer)
{
    struct slice bytes = {NULL, 0};
    enum status status = footer_find(file, &bytes);
    if (status != STATUS_OK) return status;

    struct packed_footer read = {0};
    struct reader reader = reader_of(bytes);
    read_fields(&reader, &read);
    if (reader.failed) return STATUS_CORRUPT;
    if (!sections_are_inside(&read, (uint64_t)(bytes.data - file.data))) return STATUS_CORRUPT;
    read.info.file_bytes = file.size;
    *footer = read;
    return STATUS_OK;
}
