/* The frame of a packed trie's file, and its footer.
 *
 *   header     u64 magic; u32 required features; u32 optional features
 *   sections   each aligned to 64 bytes, zeros between; in any order
 *   checksums  u32 CRC-32C for each 4 KiB page of all that is in front of it
 *   footer     below
 *   tail       u32 size of the footer; u32 required features; u32 optional features;
 *              u32 CRC-32C of footer and tail up to here; u64 magic
 *
 * A reader refuses required features that it does not know and ignores optional ones. The
 * tail's place and meaning never change. All numbers are little-endian.
 *
 * The footer:
 *   u64 ordinals, tombstones, present entries, bytes of all keys
 *   version oldest, newest                    u64 time, u16 node each
 *   u64 low, high                             sum of all record hashes
 *   u64 hash seed, u64 epoch ms               core/column_row.h
 *   u8 score, time, node bytes, counter bits  core/column_bests.h
 *   u64 score min, u64 time min ms
 *   u8 time, ordinal bytes, u64 first         core/column_expiry.h
 *   u32 section count; for each: u64 offset, u64 size
 *   u64 low, high                             XXH3-128 of the checksums: names the file's content
 *   u32                                       CRC-32C of the checksums
 *   varint size, first key; varint size, last key */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"
#include "core/column_bests.h"
#include "core/column_expiry.h"
#include "core/front.h"
#include "core/packed.h"

#define PACKED_MAGIC UINT64_C(0x31656972746b6170) /* "paktrie1" */

enum packed_section {
    PACKED_FRONT, /* The first of FRONT_SECTION_COUNT. */
    PACKED_NODES = PACKED_FRONT + FRONT_SECTION_COUNT,
    PACKED_BESTS,
    PACKED_FILTER,
    PACKED_SUMS,
    PACKED_PRESENT,
    PACKED_DIRECTORY,
    PACKED_EXPIRY,
    PACKED_POSTINGS,
    PACKED_ROWS,
    PACKED_BODIES,
    PACKED_CHECKSUMS,
    PACKED_SECTION_COUNT,
};

enum {
    PACKED_REQUIRED_KNOWN = 0, /* Required features that this program knows. */
    PACKED_HEADER_BYTES = 16,
    PACKED_TAIL_BYTES = 24,
    PACKED_ALIGNMENT = 64,
    PACKED_SUM_ORDINALS = 128, /* Ordinals between two prefix sums. */
    PACKED_SUM_BYTES = 16,
};

struct packed_extent {
    uint64_t offset, size;
};

struct packed_footer {
    struct packed_info info; /* Without file_bytes and level_count. */
    uint64_t epoch_ms;
    struct bests_shape bests;
    struct expiry_shape expiry;
    uint32_t section_count; /* As read: a later program may have more. */
    struct packed_extent sections[PACKED_SECTION_COUNT];
    struct sum content;
    uint32_t checksums_crc;
};

/* Appends footer and tail. */
void packed_footer_append(const struct packed_footer *footer, struct buf *out);

/* Reads them from the end of `file`; the keys borrow from it. Every section lies inside the
 * file and in front of the footer, all but the checksums in front of these.
 *
 * Errors: STATUS_CORRUPT, STATUS_NEWER. */
enum status packed_footer_read(struct slice file, struct packed_footer *footer);

static inline uint64_t packed_sums_bytes(uint64_t count)
{
    return count / PACKED_SUM_ORDINALS * PACKED_SUM_BYTES;
}
