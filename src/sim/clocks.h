/* The clocks of one machine, which err.
 *
 * A monotonic clock that only drifts, and a wall clock over it that can also be off, jump and
 * stand still. True time is the schedule's. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct sim_clock {
    uint64_t since_us; /* True time of the last change of drift. */
    uint64_t monotonic_base_us;
    int64_t drift_ppm;
    int64_t wall_offset_us; /* From the monotonic clock to Unix time. */
    bool frozen;
    uint64_t frozen_wall_us;
};

enum { SIM_CLOCK_DRIFT_PPM_MAX = 500 };

/* Unix time at the start of every simulation. */
#define SIM_CLOCK_START_US (UINT64_C(1800000000) * 1000000)

/* Right at `now_us`. */
void sim_clock_init(struct sim_clock *clock, uint64_t now_us);

uint64_t sim_clock_monotonic_us(const struct sim_clock *clock, uint64_t now_us);
uint64_t sim_clock_wall_us(const struct sim_clock *clock, uint64_t now_us);

/* From now on; neither clock jumps. */
void sim_clock_set_drift(struct sim_clock *clock, uint64_t now_us, int64_t ppm);

/* The wall clock alone. */
void sim_clock_jump(struct sim_clock *clock, int64_t by_us);
void sim_clock_freeze(struct sim_clock *clock, uint64_t now_us);
void sim_clock_thaw(struct sim_clock *clock);

/* Sets the wall clock right, as a time server does. */
void sim_clock_correct(struct sim_clock *clock, uint64_t now_us);

/* The first true time, not before `now_us`, at which the monotonic clock shows at least that. */
uint64_t sim_clock_true_us(const struct sim_clock *clock, uint64_t now_us, uint64_t monotonic_us);
