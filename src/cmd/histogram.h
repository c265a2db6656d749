/* Latencies by magnitude: 64 steps between two powers of two, so within 1.6 %. */
#pragma once

#include <stdint.h>

enum { HISTOGRAM_STEP_BITS = 6, HISTOGRAM_BUCKET_COUNT = (64 - HISTOGRAM_STEP_BITS + 1) << 6 };

struct histogram {
    uint64_t buckets[HISTOGRAM_BUCKET_COUNT];
    uint64_t count;
    uint64_t most;
};

static inline unsigned histogram_bucket(uint64_t value)
{
    if (value < 1u << HISTOGRAM_STEP_BITS) return (unsigned)value;
    unsigned shift = 63 - HISTOGRAM_STEP_BITS - (unsigned)__builtin_clzll(value);
    return ((shift + 1) << HISTOGRAM_STEP_BITS) + (unsigned)(value >> shift) -
           (1u << HISTOGRAM_STEP_BITS);
}

/* The least value that falls into `bucket`. */
static inline uint64_t histogram_floor(unsigned bucket)
{
    unsigned row = bucket >> HISTOGRAM_STEP_BITS;
    uint64_t step = bucket & ((1u << HISTOGRAM_STEP_BITS) - 1);
    return row == 0 ? step : (step + (1u << HISTOGRAM_STEP_BITS)) << (row - 1);
}

static inline void histogram_add(struct histogram *histogram, uint64_t value)
{
    histogram->buckets[histogram_bucket(value)]++;
    histogram->count++;
    if (value > histogram->most) histogram->most = value;
}

/* The value that `share` of all (0 to 1) do not exceed, rounded down to its bucket. */
static inline uint64_t histogram_quantile(const struct histogram *histogram, double share)
{
    uint64_t left = (uint64_t)(share * (double)histogram->count);
    for (unsigned bucket = 0; bucket < HISTOGRAM_BUCKET_COUNT; bucket++) {
        if (histogram->buckets[bucket] > left) return histogram_floor(bucket);
        left -= histogram->buckets[bucket];
    }
    return histogram->most;
}
