#include "cmd/histogram.h"

#include "base/prng.h"
#include "test.h"

static struct histogram histogram;

TEST_CASE(a_bucket_starts_just_below_its_values)
{
    struct prng prng = {.state = test_seed};
    for (int round = 0; round < 100000; round++) {
        uint64_t value = prng_u64(&prng) >> prng_below(&prng, 64);
        unsigned bucket = histogram_bucket(value);
        EXPECT(bucket < HISTOGRAM_BUCKET_COUNT);
        EXPECT(histogram_floor(bucket) <= value);
        EXPECT(value - histogram_floor(bucket) <= value / 64);
        EXPECT(histogram_bucket(histogram_floor(bucket)) == bucket);
    }
    EXPECT(histogram_bucket(UINT64_MAX) == HISTOGRAM_BUCKET_COUNT - 1);
}

TEST_CASE(quantiles_are_within_a_bucket)
{
    EXPECT(histogram_quantile(&histogram, 0.5) == 0);
    for (uint64_t value = 1; value <= 1000; value++) histogram_add(&histogram, value);
    EXPECT(histogram.count == 1000 && histogram.most == 1000);
    EXPECT(histogram_quantile(&histogram, 0) == 1);
    uint64_t half = histogram_quantile(&histogram, 0.5);
    EXPECT(half >= 492 && half <= 501);
    uint64_t late = histogram_quantile(&histogram, 0.999);
    EXPECT(late >= 984 && late <= 1000);
}

TEST_MAIN(TEST(a_bucket_starts_just_below_its_values), TEST(quantiles_are_within_a_bucket))
