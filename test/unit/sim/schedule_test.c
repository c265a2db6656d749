#include "sim/schedule.h"

#include "base/prng.h"
#include "test.h"

TEST_CASE(events_come_in_order_of_time_then_as_they_were_added)
{
    struct prng prng = {.state = test_seed};
    struct schedule schedule;
    schedule_init(&schedule);
    struct sim_event event;
    uint64_t last_us = 0, last_sequence = 0, taken = 0;

    for (uint32_t i = 0; i < 20000; i++) {
        unsigned adds = prng_below(&prng, 4);
        for (unsigned k = 0; k < adds; k++)
            schedule_add(&schedule,
                         &(struct sim_event){.at_us = schedule.now_us + prng_below(&prng, 50)});
        if (!schedule_next(&schedule, schedule.now_us + 20, &event)) continue;
        EXPECT(event.at_us >= last_us);
        EXPECT(event.at_us > last_us || taken == 0 || event.sequence > last_sequence);
        EXPECT(schedule.now_us == event.at_us);
        last_us = event.at_us;
        last_sequence = event.sequence;
        taken++;
    }
    while (schedule_next(&schedule, UINT64_MAX - 1, &event)) taken++;
    EXPECT(taken == schedule.added_count);
    schedule_deinit(&schedule);
}

TEST_CASE(time_goes_on_without_events_to_where_it_was_asked)
{
    struct schedule schedule;
    struct sim_event event;
    schedule_init(&schedule);
    schedule_add(&schedule, &(struct sim_event){.at_us = 10});
    EXPECT(!schedule_next(&schedule, 9, &event));
    EXPECT(schedule.now_us == 9);
    EXPECT(schedule_next(&schedule, 10, &event));
    EXPECT(!schedule_next(&schedule, 20, &event));
    EXPECT(schedule.now_us == 20);
    schedule_deinit(&schedule);
}

static uint64_t hash_of(uint64_t argument, uint32_t node, uint64_t at_us, bool swapped)
{
    struct schedule schedule;
    struct sim_event event;
    schedule_init(&schedule);
    for (unsigned i = 0; i < 2; i++)
        schedule_add(&schedule, &(struct sim_event){.at_us = at_us,
                                                    .node = node + (i ^ swapped),
                                                    .argument = argument});
    while (schedule_next(&schedule, 100, &event)) {
    }
    uint64_t hash = schedule.hash;
    schedule_deinit(&schedule);
    return hash;
}

TEST_CASE(the_hash_tells_what_happened_to_whom_when_and_in_which_order)
{
    EXPECT(hash_of(1, 1, 5, false) == hash_of(1, 1, 5, false));
    EXPECT(hash_of(1, 1, 5, false) != hash_of(2, 1, 5, false));
    EXPECT(hash_of(1, 1, 5, false) != hash_of(1, 2, 5, false));
    EXPECT(hash_of(1, 1, 5, false) != hash_of(1, 1, 6, false));
    EXPECT(hash_of(1, 1, 5, false) != hash_of(1, 1, 5, true));
}

TEST_MAIN(TEST(events_come_in_order_of_time_then_as_they_were_added),
          TEST(time_goes_on_without_events_to_where_it_was_asked),
          TEST(the_hash_tells_what_happened_to_whom_when_and_in_which_order))
