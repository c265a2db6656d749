#include "base/prng.h"

#include "base/check.h"

uint32_t prng_u32(struct prng *prng)
{
    uint64_t before = prng->state;
    prng->state = before * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    uint32_t mixed = (uint32_t)(((before >> 18) ^ before) >> 27);
    uint32_t turn = (uint32_t)(before >> 59);
    return mixed >> turn | mixed << (-turn & 31);
}

uint64_t prng_u64(struct prng *prng)
{
    uint64_t high = prng_u32(prng);
    return high << 32 | prng_u32(prng);
}

uint32_t prng_below(struct prng *prng, uint32_t bound)
{
    CHECK(bound > 0);

    /* Values under the threshold would make the small remainders likelier. */
    uint32_t threshold = -bound % bound;
    for (;;) {
        uint32_t value = prng_u32(prng);
        if (value >= threshold) return value % bound;
    }
}

bool prng_one_in(struct prng *prng, uint32_t odds)
{
    return prng_below(prng, odds) == 0;
}
