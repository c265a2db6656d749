/* Blocked Bloom filter: one line of 64 bytes says that a key is surely absent.
 *
 * Line: the high half of hash * line count. In it seven bits, nine bits of number each,
 * from the top of hash * an odd constant. About ten bits a key let 1 in 100 absent keys
 * through.
 *
 * Source: Putze, Sanders, Singler, "Cache-, Hash- and Space-Efficient Bloom Filters",
 * WEA 2007. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "core/pages.h"

enum {
    FILTER_LINE_BYTES = 64,
    FILTER_BITS_PER_KEY = 10,
    FILTER_PROBES = 7,
};

struct filter {
    struct pages *pages;
    struct slice bytes; /* At least one line. */
};

static inline uint64_t filter_bytes(uint64_t count)
{
    uint64_t line_bits = FILTER_LINE_BYTES * 8;
    return (count * FILTER_BITS_PER_KEY + line_bits - 1) / line_bits * FILTER_LINE_BYTES;
}

/* Where the line of `hash` starts. */
static inline uint64_t filter_line(uint64_t hash, uint64_t line_count)
{
    __extension__ typedef unsigned __int128 u128;
    return (uint64_t)((u128)hash * line_count >> 64) * FILTER_LINE_BYTES;
}

/* False: the key is not there. */
enum status filter_has(const struct filter *filter, uint64_t hash, bool *maybe);

static inline void filter_prefetch(const struct filter *filter, uint64_t hash)
{
    uint64_t line_count = filter->bytes.size / FILTER_LINE_BYTES;
    __builtin_prefetch(filter->bytes.data + filter_line(hash, line_count));
}

/* Sets the bits of `hash` in `size` bytes of lines. */
void filter_add(uint8_t *lines, uint64_t size, uint64_t hash);

/* Appends a filter over `count` hashes. */
void filter_build(const uint8_t *hashes, uint64_t count, struct buf *out);
