/* Seeded pseudo-random numbers: PCG-XSH-RR 64/32.
 *
 * For tests, the simulator and jitter; not for secrets. A zeroed struct with `state`
 * set to a seed is ready.
 *
 * Source: O'Neill, "PCG: A Family of Simple Fast Space-Efficient Statistically Good
 * Algorithms for Random Number Generation", HMC-CS-2014-0905. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct prng {
    uint64_t state;
};

uint32_t prng_u32(struct prng *prng);
uint64_t prng_u64(struct prng *prng);

/* Uniform in [0, bound), bound > 0. */
uint32_t prng_below(struct prng *prng, uint32_t bound);

/* True once in `odds` calls in the mean. */
bool prng_one_in(struct prng *prng, uint32_t odds);
