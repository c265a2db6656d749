/* Small arithmetic that C leaves out. */
#pragma once

#include <stddef.h>
#include <stdint.h>

static inline uint64_t u64_max(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static inline uint64_t u64_min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline size_t size_max(size_t a, size_t b)
{
    return a > b ? a : b;
}

static inline size_t size_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Rounds up to a multiple of `unit`, a power of two. */
static inline uint64_t u64_align(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) & ~(unit - 1);
}
