#include "core/hlc.h"

#include "base/check.h"
#include "base/math.h"

hlc_time hlc_tick(struct hlc *clock, uint64_t wall_ms)
{
    CHECK(wall_ms < UINT64_C(1) << 48); /* A wall time in nanoseconds fails here. */

    hlc_time before = clock->last;
    clock->last = u64_max(before + 1, wall_ms << HLC_COUNTER_BITS);

    CHECK(clock->last > before);
    return clock->last;
}

enum status hlc_receive(struct hlc *clock, hlc_time remote, uint64_t wall_ms, hlc_time *out)
{
    /* A peer with a broken clock must not drag the whole cluster into the future. */
    if (hlc_wall_ms(remote) > wall_ms + HLC_DRIFT_MAX_MS) return STATUS_CLOCK_SKEW;

    clock->last = u64_max(clock->last, remote);
    *out = hlc_tick(clock, wall_ms);
    return STATUS_OK;
}
