#include "sim/schedule.h"

#include <stdlib.h>
#include <xxhash.h>

#include "base/check.h"

void schedule_init(struct schedule *schedule)
{
    *schedule = (struct schedule){0};
}

void schedule_deinit(struct schedule *schedule)
{
    for (size_t i = 0; i < schedule->count; i++) free(schedule->events[i].data);
    free(schedule->events);
    *schedule = (struct schedule){0};
}

static bool comes_before(const struct sim_event *a, const struct sim_event *b)
{
    if (a->at_us != b->at_us) return a->at_us < b->at_us;
    return a->sequence < b->sequence;
}

void schedule_add(struct schedule *schedule, const struct sim_event *event)
{
    CHECK(event->at_us >= schedule->now_us);
    if (schedule->count == schedule->capacity) {
        schedule->capacity = schedule->capacity * 2 + 64;
        schedule->events = realloc(schedule->events, schedule->capacity * sizeof *schedule->events);
        CHECK(schedule->events != NULL);
    }
    struct sim_event added = *event;
    added.sequence = schedule->added_count++;

    size_t at = schedule->count++;
    while (at > 0 && comes_before(&added, &schedule->events[(at - 1) / 2])) {
        schedule->events[at] = schedule->events[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    schedule->events[at] = added;
}

static void take_first(struct schedule *schedule)
{
    struct sim_event *events = schedule->events;
    size_t count = --schedule->count;
    if (count == 0) return;
    struct sim_event last = events[count];
    size_t at = 0;
    for (size_t child = 1; child < count; child = 2 * at + 1) {
        if (child + 1 < count && comes_before(&events[child + 1], &events[child])) child++;
        if (!comes_before(&events[child], &last)) break;
        events[at] = events[child];
        at = child;
    }
    events[at] = last;
}

bool schedule_next(struct schedule *schedule, uint64_t until_us, struct sim_event *out)
{
    if (schedule->count == 0 || schedule->events[0].at_us > until_us) {
        if (schedule->now_us < until_us) schedule->now_us = until_us;
        return false;
    }
    *out = schedule->events[0];
    take_first(schedule);
    schedule->now_us = out->at_us;
    schedule->taken_count++;
    const uint64_t what[] = {out->at_us, (uint64_t)out->kind << 32 | out->node, out->argument};
    schedule_mix(schedule, what, sizeof what);
    return true;
}

void schedule_mix(struct schedule *schedule, const void *data, size_t size)
{
    schedule->hash = XXH3_64bits_withSeed(data, size, schedule->hash);
}
