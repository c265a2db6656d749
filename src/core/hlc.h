/* Hybrid logical clock: timestamps that follow causality and stay near wall time.
 *
 * A timestamp is one word: 48 bits of milliseconds since the Unix epoch, then a
 * 16-bit counter. Words compare with `<`. A counter that overflows carries into
 * the milliseconds, so a burst borrows from the future and never repeats.
 * Two nodes can return equal timestamps; break such ties by node id.
 *
 * Invariants
 *   1. A clock never returns a timestamp twice, nor a smaller one later.
 *   2. A timestamp from hlc_receive() is greater than the remote one it took in.
 *   3. A timestamp is never behind our wall time, and no remote clock moves it
 *      more than HLC_DRIFT_MAX_MS ahead (plus the carry of a full counter).
 *
 * The caller brings the time: nothing here reads a clock, allocates or locks.
 *
 * Source: Kulkarni et al., "Logical Physical Clocks", OPODIS 2014. */
#pragma once

#include <stdint.h>

#include "base/status.h"

enum { HLC_COUNTER_BITS = 16, HLC_DRIFT_MAX_MS = 5000 };

typedef uint64_t hlc_time;

struct hlc {
    hlc_time last; /* Greatest timestamp returned or received; 0 at the start. */
};

/* Stamps a local event, or a message to send. `wall_ms` may go backwards. */
hlc_time hlc_tick(struct hlc *clock, uint64_t wall_ms);

/* Stamps the receipt of a direct write that carries `remote`.
 *
 * Errors: STATUS_CLOCK_SKEW if `remote` is more than HLC_DRIFT_MAX_MS ahead of
 * `wall_ms`. `clock` and `*out` are then unchanged; the caller drops the message. */
enum status hlc_receive(struct hlc *clock, hlc_time remote, uint64_t wall_ms, hlc_time *out);

static inline uint64_t hlc_wall_ms(hlc_time time)
{
    return time >> HLC_COUNTER_BITS;
}
