/* Makes a failing run smaller: fewer faults, clients and nodes, as long as the same check fails.
 *
 * Faults are left out by halves, then by smaller and smaller parts (Zeller's ddmin). What is
 * left is not always what it takes, as every change of a run changes chance everywhere; but it is
 * less to read. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "sim/world.h"

struct minimised {
    struct sim_options options; /* `dropped_faults` is owned: minimised_deinit(). */
    struct sim_finding finding;
    uint32_t fault_count; /* Left. */
    uint32_t run_count;
    bool *dropped;
};

/* `options` is of a run that failed. At most `run_count_max` runs more. */
void minimise(const struct sim_options *options, uint32_t run_count_max, struct minimised *out);
void minimised_deinit(struct minimised *minimised);
