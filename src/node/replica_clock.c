/* Which time it is, when clocks may be wrong.
 *
 * A version stamped far in the future hides whatever comes after it, so a node must not stamp while
 * its clock is wrong, and must find out before it stamps. Two things help: the monotonic clock shows
 * when the wall clock jumps, and each message says what time its sender thinks it is.
 *
 *     steady      time goes on from an anchor by the monotonic clock, and follows the wall clock as
 *                 long as that strays by little
 *     a jump      is ignored until peers say that the new time is right and the old one wrong; a
 *                 small one is gone to meet, slowly, as long as peers agree: when the clocks of all
 *                 are set right at once, nobody is left to say so
 *     after a start, or a long freeze, the time is trusted once as many peers agree as disagree
 *
 * A node that does not trust its time stamps nothing: requests go to another owner. Nor does one whose
 * versions have run ahead of it by half of what peers put up with: each start stamps above the ceiling
 * of the one before, and a node that ends again and again would run away. A node without peers has
 * nobody to ask and believes its clock. */
#include <stdlib.h>

#include "base/math.h"
#include "node/replica_private.h"

enum {
    CLOCK_STRAY_MS = 500,   /* What drift and adjustment may add between two looks. */
    CLOCK_FRESH_MS = 10000, /* What a peer said counts for so long. */
    CLOCK_SLEW = 8,         /* An eighth faster or slower than time goes. */
};

static int64_t difference(uint64_t a, uint64_t b)
{
    return (int64_t)(a - b);
}

static bool within(int64_t difference_ms, uint64_t bound_ms)
{
    return difference_ms <= (int64_t)bound_ms && difference_ms >= -(int64_t)bound_ms;
}

static uint64_t steady_ms(const struct replica_clock *clock, uint64_t now_ms)
{
    return clock->anchor_wall_ms + (now_ms - clock->anchor_now_ms);
}

static uint64_t bound_ms(const struct replica *replica)
{
    return rangemap_settings(replica->map)->max_clock_skew_ms;
}

static bool is_fresh(const struct replica_clock *clock, const struct peer_clock *peer)
{
    return peer->id != 0 && clock->now_ms - peer->heard_ms <= CLOCK_FRESH_MS;
}

/* What the peer's clock shows by now. */
static uint64_t theirs_ms(const struct replica_clock *clock, const struct peer_clock *peer)
{
    return peer->wall_ms + (clock->now_ms - peer->heard_ms);
}

/* Peers heard lately that agree with `wall_ms`, less those that do not. */
static int balance(const struct replica *replica, uint64_t wall_ms, int *agreeing)
{
    const struct replica_clock *clock = &replica->clock;
    int sum = 0;
    *agreeing = 0;
    for (size_t i = 0; i < REPLICA_CLOCK_PEERS; i++) {
        const struct peer_clock *peer = &clock->peers[i];
        if (!is_fresh(clock, peer)) continue;
        bool agrees = within(difference(theirs_ms(clock, peer), wall_ms), bound_ms(replica) / 2);
        *agreeing += agrees;
        sum += agrees ? 1 : -1;
    }
    return sum;
}

static int compare_ms(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

uint64_t replica_clock_skew_ms(const struct replica *replica)
{
    const struct replica_clock *clock = &replica->clock;
    uint64_t skews[REPLICA_CLOCK_PEERS];
    size_t count = 0;
    for (size_t i = 0; i < REPLICA_CLOCK_PEERS; i++) {
        const struct peer_clock *peer = &clock->peers[i];
        if (!is_fresh(clock, peer)) continue;
        int64_t ahead = difference(theirs_ms(clock, peer), clock->wall_ms);
        skews[count++] = (uint64_t)(ahead < 0 ? -ahead : ahead);
    }
    if (count == 0) return 0;
    qsort(skews, count, sizeof *skews, compare_ms);
    return skews[(count - 1) / 2];
}

static bool has_peers(const struct replica *replica)
{
    size_t count = 0;
    if (replica->map == NULL) return true; /* Not read yet. */
    for (size_t i = 0; i < rangemap_member_count(replica->map); i++)
        count += rangemap_member(replica->map, i).state != MEMBER_EXCLUDED;
    return count > 1;
}

static void anchor(struct replica_clock *clock, struct replica_time time)
{
    clock->anchor_wall_ms = time.wall_ms;
    clock->anchor_now_ms = time.now_ms;
}

static bool confirmed(const struct replica *replica, uint64_t wall_ms)
{
    int agreeing;
    return balance(replica, wall_ms, &agreeing) >= 0 && agreeing > 0;
}

/* Towards a wall clock that differs by no more than clocks may; how far. */
static int64_t slew(struct replica *replica, struct replica_time time, uint64_t steady)
{
    struct replica_clock *clock = &replica->clock;
    int64_t behind = difference(time.wall_ms, steady);
    int64_t step = (int64_t)u64_min(time.now_ms - clock->slewed_ms, CLOCK_STRAY_MS) / CLOCK_SLEW;
    if (step == 0 || !within(behind, bound_ms(replica))) return 0;
    clock->slewed_ms = time.now_ms;
    int64_t by = behind > 0 ? step : -step;
    return confirmed(replica, steady + (uint64_t)by) ? by : 0;
}

struct replica_time replica_clock_look(struct replica *replica, struct replica_time time)
{
    struct replica_clock *clock = &replica->clock;
    bool first = clock->anchor_wall_ms == 0;
    bool gap = time.now_ms - clock->now_ms > CLOCK_FRESH_MS; /* Frozen: nobody was heard. */
    clock->now_ms = time.now_ms;
    clock->wall_ms = time.wall_ms;
    if (!has_peers(replica)) {
        anchor(clock, time);
        clock->trusted = true;
        return time;
    }
    if (first) anchor(clock, time);
    uint64_t steady = steady_ms(clock, time.now_ms);
    if (within(difference(time.wall_ms, steady), CLOCK_STRAY_MS)) {
        anchor(clock, time);
        steady = time.wall_ms;
    } else if (confirmed(replica, time.wall_ms) && !confirmed(replica, steady)) {
        TRACE(replica->trace, "clock: peers agree with the new time");
        anchor(clock, time);
        steady = time.wall_ms;
    } else {
        int64_t by = slew(replica, time, steady);
        clock->anchor_wall_ms += (uint64_t)by;
        steady += (uint64_t)by;
    }
    int agreeing;
    int sum = balance(replica, steady, &agreeing);
    if (first || gap) clock->trusted = false;
    if (sum < 0) clock->trusted = false;
    if (sum >= 0 && agreeing > 0) clock->trusted = true;
    return (struct replica_time){time.now_ms, steady};
}

bool replica_may_stamp(const struct replica *replica, bool others_tried)
{
    uint64_t ahead_ms = store_ahead_ms(replica->store, replica->time.wall_ms);
    uint64_t near_ms = others_tried ? bound_ms(replica) / 4 * 3 : bound_ms(replica) / 2;
    return replica->clock.trusted && (ahead_ms <= near_ms || !has_peers(replica));
}

void replica_clock_heard(struct replica *replica, node_id from, uint64_t wall_ms)
{
    struct replica_clock *clock = &replica->clock;
    struct peer_clock *place = &clock->peers[0];
    for (size_t i = 0; i < REPLICA_CLOCK_PEERS; i++) {
        struct peer_clock *peer = &clock->peers[i];
        if (peer->id == from) {
            place = peer;
            break;
        }
        if (peer->heard_ms < place->heard_ms || peer->id == 0) place = peer;
    }
    /* Delay makes a clock look slow: of what came lately the latest time is the nearest. */
    bool fresh = place->id == from && clock->now_ms - place->heard_ms < CLOCK_FRESH_MS / 2;
    uint64_t expected = place->wall_ms + (clock->now_ms - place->heard_ms);
    int64_t behind = difference(expected, wall_ms);
    if (fresh && behind > 0 && behind < (int64_t)bound_ms(replica) / 4) return;
    *place = (struct peer_clock){from, wall_ms, clock->now_ms};
}
