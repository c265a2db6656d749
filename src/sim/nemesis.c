#include "sim/nemesis.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/math.h"
#include "sim/clocks.h"
#include "sim/network.h"

/* How often a kind is drawn among those allowed. */
static const uint8_t weights[FAULT_KIND_COUNT] = {
    [FAULT_PARTITION] = 8, [FAULT_CUT] = 8,       [FAULT_STALL] = 6,       [FAULT_LOSSY] = 6,
    [FAULT_KILL] = 8,      [FAULT_POWER] = 8,     [FAULT_POWER_LATER] = 8, [FAULT_POWER_ALL] = 2,
    [FAULT_PAUSE] = 8,     [FAULT_JUMP] = 6,      [FAULT_FREEZE] = 3,      [FAULT_DRIFT] = 3,
    [FAULT_SLOW_DISK] = 5, [FAULT_FULL_DISK] = 3, [FAULT_BAD_SYNC] = 3,    [FAULT_BAD_DISK] = 3,
    [FAULT_JOIN] = 3,      [FAULT_LEAVE] = 2,     [FAULT_RETREAT] = 1,     [FAULT_REPLACE] = 2,
    [FAULT_IMAGE] = 8,     [FAULT_RESTORE] = 12,  [FAULT_WIPE] = 3,        [FAULT_ROT] = 2,
};

static enum fault_kind draw_kind(struct prng *prng, uint32_t kinds)
{
    uint32_t sum = 0;
    for (unsigned kind = 0; kind < FAULT_KIND_COUNT; kind++)
        if (kinds & FAULT_BIT(kind)) sum += weights[kind];
    uint32_t drawn = prng_below(prng, sum);
    for (unsigned kind = 0; kind < FAULT_KIND_COUNT; kind++) {
        if ((kinds & FAULT_BIT(kind)) == 0) continue;
        if (drawn < weights[kind]) return (enum fault_kind)kind;
        drawn -= weights[kind];
    }
    CHECK(false);
    return FAULT_KIND_COUNT;
}

/* Mostly small, now and then up to `limit`, of either sign. */
static int64_t draw_signed(struct prng *prng, uint32_t limit)
{
    int64_t size = 1 + prng_below(prng, prng_one_in(prng, 3) ? limit : limit / 100 + 1);
    return prng_one_in(prng, 2) ? size : -size;
}

static int64_t draw_amount(struct prng *prng, enum fault_kind kind,
                           const struct nemesis_options *options)
{
    switch (kind) {
    case FAULT_PARTITION:
        return prng_below(prng, NETWORK_PARTITION_COUNT);
    case FAULT_LOSSY:
        return 50000 + prng_below(prng, 900000);
    case FAULT_POWER_LATER:
        return prng_below(prng, 40);
    case FAULT_JUMP:
        return draw_signed(prng, options->jump_ms);
    case FAULT_DRIFT:
        return (int64_t)prng_below(prng, 2 * SIM_CLOCK_DRIFT_PPM_MAX + 1) - SIM_CLOCK_DRIFT_PPM_MAX;
    case FAULT_SLOW_DISK:
        return 10 + prng_below(prng, 1000);
    case FAULT_FULL_DISK:
        return prng_below(prng, 20000);
    case FAULT_BAD_SYNC:
        return prng_below(prng, 20);
    case FAULT_BAD_DISK:
        return prng_below(prng, 200);
    case FAULT_ROT:
        return prng_below(prng, 1000000);
    case FAULT_LEAVE:
    case FAULT_RETREAT:
    case FAULT_REPLACE:
        return prng_one_in(prng, 4);
    default:
        return 0;
    }
}

static struct fault draw_fault(struct prng *prng, uint32_t node_count, uint64_t at_us,
                               const struct nemesis_options *options)
{
    struct fault fault = {.at_us = at_us};
    fault.kind = draw_kind(prng, options->kinds);
    fault.node = prng_below(prng, node_count);
    fault.other = prng_below(prng, node_count);
    fault.amount = draw_amount(prng, fault.kind, options);
    /* Short ones are as many as long ones. */
    uint32_t longest_ms = prng_one_in(prng, 2) ? options->longest_ms : options->longest_ms / 16;
    fault.until_us = at_us + 1000 * (1 + (uint64_t)prng_below(prng, longest_ms + 1));
    return fault;
}

void nemesis_plan_draw(struct nemesis_plan *plan, struct prng *prng, uint32_t node_count,
                       uint64_t from_us, uint64_t to_us, const struct nemesis_options *options)
{
    *plan = (struct nemesis_plan){0};
    if (options->kinds == 0) return;
    uint64_t at_us = from_us;
    for (size_t capacity = 0;;) {
        at_us += 1000 * (uint64_t)prng_below(prng, 2 * options->gap_ms + 1);
        if (at_us >= to_us) return;
        if (plan->count == capacity) {
            capacity = capacity * 2 + 64;
            plan->faults = realloc(plan->faults, capacity * sizeof *plan->faults);
            CHECK(plan->faults != NULL);
        }
        struct fault *fault = &plan->faults[plan->count++];
        *fault = draw_fault(prng, node_count, at_us, options);
        fault->until_us = u64_min(fault->until_us, to_us);
    }
}

void nemesis_plan_destroy(struct nemesis_plan *plan)
{
    free(plan->faults);
    *plan = (struct nemesis_plan){0};
}

static const char *const partition_names[NETWORK_PARTITION_COUNT] = {
    [NETWORK_HALVES] = "in halves",
    [NETWORK_RING] = "to a ring",
    [NETWORK_BRIDGE] = "in halves with a bridge",
    [NETWORK_ALONE] = "from one node",
};

void fault_describe(const struct fault *fault, char *text, size_t size)
{
    unsigned other = fault->other + 1;
    long long amount = fault->amount;
    switch (fault->kind) {
    case FAULT_PARTITION:
        snprintf(text, size, "the net is cut %s", partition_names[amount]);
        break;
    case FAULT_CUT:
        snprintf(text, size, "cut off n%u, one way", other);
        break;
    case FAULT_STALL:
        snprintf(text, size, "what it sends to n%u waits", other);
        break;
    case FAULT_LOSSY:
        snprintf(text, size, "loses %lld ppm of messages", amount);
        break;
    case FAULT_KILL:
        snprintf(text, size, "is killed");
        break;
    case FAULT_POWER:
        snprintf(text, size, "loses its power");
        break;
    case FAULT_POWER_LATER:
        snprintf(text, size, "loses its power at the write after %lld", amount);
        break;
    case FAULT_POWER_ALL:
        snprintf(text, size, "and all others lose their power");
        break;
    case FAULT_PAUSE:
        snprintf(text, size, "stands still");
        break;
    case FAULT_JUMP:
        snprintf(text, size, "its clock jumps by %lld ms", amount);
        break;
    case FAULT_FREEZE:
        snprintf(text, size, "its clock stands still");
        break;
    case FAULT_DRIFT:
        snprintf(text, size, "its clocks drift by %lld ppm", amount);
        break;
    case FAULT_SLOW_DISK:
        snprintf(text, size, "its syncs take %lld times as long", amount);
        break;
    case FAULT_FULL_DISK:
        snprintf(text, size, "its disk has %lld bytes left", amount);
        break;
    case FAULT_BAD_SYNC:
        snprintf(text, size, "its sync after %lld fails", amount);
        break;
    case FAULT_BAD_DISK:
        snprintf(text, size, "its disk's operation after %lld fails", amount);
        break;
    case FAULT_JOIN:
        snprintf(text, size, "one more machine joins");
        break;
    case FAULT_LEAVE:
        snprintf(text, size, "is to leave");
        break;
    case FAULT_RETREAT:
        snprintf(text, size, "is to leave, and then to stay after all");
        break;
    case FAULT_REPLACE:
        snprintf(text, size, "is to be replaced");
        break;
    case FAULT_IMAGE:
        snprintf(text, size, "its disk is copied");
        break;
    case FAULT_RESTORE:
        snprintf(text, size, "its disk is set back to the copy");
        break;
    case FAULT_WIPE:
        snprintf(text, size, "its disk is wiped");
        break;
    case FAULT_ROT:
        snprintf(text, size, "a bit of its disk turns");
        break;
    case FAULT_KIND_COUNT:
        break;
    }
}
