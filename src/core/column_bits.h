/* Numbers of equal width side by side, the lowest bits first: what the columns of a packed
 * trie are packed with.
 *
 * Reading loads eight bytes at once and so up to seven past the last number. They need
 * only be mapped: every column lies in front of the footer. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

enum { BITS_WIDTH_MAX = 57 }; /* With up to 7 bits in front of it still inside 64. */

/* Bytes that `count` numbers take. */
static inline size_t bits_bytes(size_t count, unsigned width)
{
    return (count * width + 7) / 8;
}

static inline uint64_t bits_mask(unsigned width)
{
    return (UINT64_C(1) << width) - 1;
}

static inline uint64_t bits_get(const uint8_t *data, size_t index, unsigned width)
{
    size_t bit = index * width;
    return load_u64le(data + bit / 8) >> bit % 8 & bits_mask(width);
}

/* Into zeroed bytes, eight more than bits_bytes(). */
static inline void bits_put(uint8_t *data, size_t index, unsigned width, uint64_t value)
{
    size_t bit = index * width;
    store_u64le(data + bit / 8, load_u64le(data + bit / 8) | value << bit % 8);
}

/* Bits needed to write `value`; 0 for 0. */
static inline unsigned bits_width(uint64_t value)
{
    return value == 0 ? 0 : 64 - (unsigned)__builtin_clzll(value);
}

/* Bytes needed to write `value`; 0 for 0. */
static inline unsigned bits_width_bytes(uint64_t value)
{
    return (bits_width(value) + 7) / 8;
}

/* A number of 0 to 8 whole bytes; loads eight. */
static inline uint64_t bits_load_bytes(const uint8_t *at, unsigned bytes)
{
    return bytes == 0 ? 0 : load_u64le(at) & UINT64_MAX >> (64 - 8 * bytes);
}

/* Signed numbers near zero as small unsigned ones, and back; any difference modulo 2^64. */
static inline uint64_t bits_zigzag(uint64_t value)
{
    return value << 1 ^ -(value >> 63);
}

static inline uint64_t bits_unzigzag(uint64_t value)
{
    return value >> 1 ^ -(value & 1);
}
