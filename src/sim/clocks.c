#include "sim/clocks.h"

#include "base/check.h"
#include "base/math.h"

enum { MILLION = 1000000 };

void sim_clock_init(struct sim_clock *clock, uint64_t now_us)
{
    *clock = (struct sim_clock){.since_us = now_us, .monotonic_base_us = now_us};
    sim_clock_correct(clock, now_us);
}

uint64_t sim_clock_monotonic_us(const struct sim_clock *clock, uint64_t now_us)
{
    CHECK(now_us >= clock->since_us);
    int64_t passed = (int64_t)(now_us - clock->since_us);
    return clock->monotonic_base_us + (uint64_t)(passed + passed * clock->drift_ppm / MILLION);
}

uint64_t sim_clock_wall_us(const struct sim_clock *clock, uint64_t now_us)
{
    if (clock->frozen) return clock->frozen_wall_us;
    return sim_clock_monotonic_us(clock, now_us) + (uint64_t)clock->wall_offset_us;
}

void sim_clock_set_drift(struct sim_clock *clock, uint64_t now_us, int64_t ppm)
{
    CHECK(ppm >= -SIM_CLOCK_DRIFT_PPM_MAX && ppm <= SIM_CLOCK_DRIFT_PPM_MAX);
    clock->monotonic_base_us = sim_clock_monotonic_us(clock, now_us);
    clock->since_us = now_us;
    clock->drift_ppm = ppm;
}

void sim_clock_jump(struct sim_clock *clock, int64_t by_us)
{
    clock->wall_offset_us += by_us;
    clock->frozen_wall_us += (uint64_t)by_us;
}

void sim_clock_freeze(struct sim_clock *clock, uint64_t now_us)
{
    clock->frozen_wall_us = sim_clock_wall_us(clock, now_us);
    clock->frozen = true;
}

void sim_clock_thaw(struct sim_clock *clock)
{
    clock->frozen = false;
}

void sim_clock_correct(struct sim_clock *clock, uint64_t now_us)
{
    clock->frozen = false;
    clock->wall_offset_us =
        (int64_t)(SIM_CLOCK_START_US + now_us - sim_clock_monotonic_us(clock, now_us));
}

uint64_t sim_clock_true_us(const struct sim_clock *clock, uint64_t now_us, uint64_t monotonic_us)
{
    uint64_t shows_us = sim_clock_monotonic_us(clock, now_us);
    if (monotonic_us <= shows_us) return now_us;
    /* An estimate from below, then the last steps one by one. */
    uint64_t ahead_us = monotonic_us - shows_us;
    uint64_t true_us = now_us + ahead_us * MILLION / (uint64_t)(MILLION + clock->drift_ppm);
    true_us -= u64_min(true_us - now_us, 2);
    while (sim_clock_monotonic_us(clock, true_us) < monotonic_us) true_us++;
    return true_us;
}
