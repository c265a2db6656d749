/* A hash of 128 bits, as XXH3 makes them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct hash128 {
    uint64_t low, high;
};

static inline bool hash128_equal(struct hash128 a, struct hash128 b)
{
    return a.low == b.low && a.high == b.high;
}
