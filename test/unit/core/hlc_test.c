#include "core/hlc.h"

#include "base/prng.h"
#include "test.h"

/* Property: five nodes whose wall clocks jump at random within the drift bound
 * exchange messages at random; invariants 1 to 3 hold after every step. */
TEST_CASE(invariants_hold_under_random_traffic)
{
    struct prng prng = {.state = test_seed};
    struct hlc clocks[5] = {0};

    for (int step = 0; step < 100000; step++) {
        struct hlc *from = &clocks[prng_below(&prng, 5)];
        struct hlc *to = &clocks[prng_below(&prng, 5)];
        uint64_t wall_ms = 1000000 + (uint64_t)step / 8;
        uint64_t from_ms = wall_ms + prng_below(&prng, HLC_DRIFT_MAX_MS / 2);

        hlc_time sent = hlc_tick(from, from_ms);
        hlc_time before = to->last;
        hlc_time received;
        EXPECT(hlc_receive(to, sent, wall_ms, &received) == STATUS_OK);
        EXPECT(received > before && received > sent);
        EXPECT(hlc_wall_ms(received) >= wall_ms);
        EXPECT(hlc_wall_ms(received) <= wall_ms + HLC_DRIFT_MAX_MS);
    }
}

TEST_CASE(a_remote_far_ahead_is_refused_and_changes_nothing)
{
    struct hlc clock = {.last = 5};
    hlc_time out = 7;

    hlc_time remote = (UINT64_C(1000) + HLC_DRIFT_MAX_MS + 1) << HLC_COUNTER_BITS;
    EXPECT(hlc_receive(&clock, remote, 1000, &out) == STATUS_CLOCK_SKEW);
    EXPECT(clock.last == 5);
    EXPECT(out == 7);
}

TEST_CASE(a_full_counter_carries_into_the_milliseconds)
{
    struct hlc clock = {.last = (UINT64_C(1000) << HLC_COUNTER_BITS) + 0xffff};

    hlc_time next = hlc_tick(&clock, 1000);
    EXPECT(hlc_wall_ms(next) == 1001);
    EXPECT((next & 0xffff) == 0);
}

TEST_MAIN(TEST(invariants_hold_under_random_traffic),
          TEST(a_remote_far_ahead_is_refused_and_changes_nothing),
          TEST(a_full_counter_carries_into_the_milliseconds))
