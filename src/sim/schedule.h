/* What will happen, in the order of virtual time.
 *
 * Events at the same microsecond happen in the order in which they were added. Everything the
 * simulation does is an event, or follows from one; `hash` covers all of them, so two runs with
 * equal hashes did the same.
 *
 * Owns: `data` of the events that wait, from malloc(); whoever takes an event out frees it.
 * Memory: running out stops the process. Cost: O(log events). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_event {
    uint64_t at_us;
    uint64_t sequence; /* Given by schedule_add(). */
    uint32_t kind;
    uint32_t node;
    uint64_t argument;
    void *data; /* Not hashed: schedule_mix() what is in it. */
};

struct schedule {
    struct sim_event *events; /* A binary heap. */
    size_t count, capacity;
    uint64_t now_us; /* Of the event taken out last. */
    uint64_t added_count, taken_count;
    uint64_t hash;
};

void schedule_init(struct schedule *schedule);
void schedule_deinit(struct schedule *schedule);

/* Not before now. */
void schedule_add(struct schedule *schedule, const struct sim_event *event);

/* Takes the next event out and moves the time to it; false if there is none up to `until_us`: then
 * the time is `until_us`. */
bool schedule_next(struct schedule *schedule, uint64_t until_us, struct sim_event *out);

/* Takes bytes into the hash. */
void schedule_mix(struct schedule *schedule, const void *data, size_t size);
