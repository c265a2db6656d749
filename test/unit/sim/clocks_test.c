#include "sim/clocks.h"

#include "base/prng.h"
#include "test.h"

#define SECOND UINT64_C(1000000)

TEST_CASE(a_clock_that_drifts_is_off_by_its_share_of_the_time)
{
    struct sim_clock clock;
    sim_clock_init(&clock, 5 * SECOND);
    EXPECT(sim_clock_wall_us(&clock, 5 * SECOND) == SIM_CLOCK_START_US + 5 * SECOND);
    sim_clock_set_drift(&clock, 5 * SECOND, 500);
    EXPECT(sim_clock_monotonic_us(&clock, 5 * SECOND) == 5 * SECOND);
    EXPECT(sim_clock_monotonic_us(&clock, 15 * SECOND) == 15 * SECOND + 5000);
    sim_clock_set_drift(&clock, 15 * SECOND, -500);
    EXPECT(sim_clock_monotonic_us(&clock, 35 * SECOND) == 35 * SECOND + 5000 - 10000);
}

TEST_CASE(the_wall_clock_jumps_and_stands_still_and_the_other_goes_on)
{
    struct sim_clock clock;
    sim_clock_init(&clock, 0);
    sim_clock_jump(&clock, -(int64_t)(3600 * SECOND));
    EXPECT(sim_clock_wall_us(&clock, SECOND) == SIM_CLOCK_START_US + SECOND - 3600 * SECOND);
    sim_clock_freeze(&clock, 2 * SECOND);
    EXPECT(sim_clock_wall_us(&clock, 9 * SECOND) == sim_clock_wall_us(&clock, 2 * SECOND));
    EXPECT(sim_clock_monotonic_us(&clock, 9 * SECOND) == 9 * SECOND);
    sim_clock_thaw(&clock);
    EXPECT(sim_clock_wall_us(&clock, 9 * SECOND) ==
           SIM_CLOCK_START_US + 9 * SECOND - 3600 * SECOND);
    sim_clock_correct(&clock, 9 * SECOND);
    EXPECT(sim_clock_wall_us(&clock, 10 * SECOND) == SIM_CLOCK_START_US + 10 * SECOND);
}

/* Property: a timer set by the monotonic clock goes off at the first moment that clock shows it. */
TEST_CASE(a_timer_goes_off_when_its_clock_shows_the_time)
{
    struct prng prng = {.state = test_seed};
    for (unsigned i = 0; i < 20000; i++) {
        struct sim_clock clock;
        uint64_t now_us = prng_u64(&prng) % (1000000 * SECOND);
        sim_clock_init(&clock, now_us);
        sim_clock_set_drift(&clock, now_us, (int64_t)prng_below(&prng, 1001) - 500);
        now_us += prng_u32(&prng);
        uint64_t due_us = sim_clock_monotonic_us(&clock, now_us) + prng_u32(&prng) - 1000;
        uint64_t true_us = sim_clock_true_us(&clock, now_us, due_us);
        EXPECT(true_us >= now_us);
        EXPECT(sim_clock_monotonic_us(&clock, true_us) >= due_us);
        EXPECT(true_us == now_us || sim_clock_monotonic_us(&clock, true_us - 1) < due_us);
    }
}

TEST_MAIN(TEST(a_clock_that_drifts_is_off_by_its_share_of_the_time),
          TEST(the_wall_clock_jumps_and_stands_still_and_the_other_goes_on),
          TEST(a_timer_goes_off_when_its_clock_shows_the_time))
