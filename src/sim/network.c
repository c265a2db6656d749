#include "sim/network.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/math.h"

enum { MILLION = 1000000 };

struct link {
    uint64_t arrived_us; /* Latest arrival so far: what is sent later comes later, mostly. */
    uint64_t stalled_until_us;
    uint32_t delay_us;
    uint32_t loss_ppm; /* Beside that of the options. */
    bool cut;
};

struct network {
    struct network_options options;
    struct prng prng;
    uint32_t node_count;
    struct network_stats stats;
    struct link links[];
};

struct network *network_create(uint64_t seed, uint32_t node_count,
                               const struct network_options *options)
{
    size_t count = (size_t)node_count * node_count;
    struct network *network = calloc(1, sizeof *network + count * sizeof network->links[0]);
    CHECK(network != NULL);
    network->options = *options;
    network->prng.state = seed;
    network->node_count = node_count;
    for (size_t i = 0; i < count; i++)
        network->links[i].delay_us = options->delay_us +
                                     prng_below(&network->prng, options->delay_spread_us + 1);
    return network;
}

void network_destroy(struct network *network)
{
    free(network);
}

static struct link *link_of(struct network *network, uint32_t from, uint32_t to)
{
    CHECK(from < network->node_count);
    CHECK(to < network->node_count);
    return &network->links[(size_t)from * network->node_count + to];
}

static bool happens(struct network *network, uint32_t ppm)
{
    return ppm > 0 && prng_below(&network->prng, MILLION) < ppm;
}

/* About exponential, of the given mean, and without floating point: the same on every machine. */
static uint64_t draw_exponential(struct prng *prng, uint32_t mean)
{
    uint32_t bits = prng_u32(prng);
    uint64_t halvings = bits == 0 ? 32 : (uint64_t)__builtin_clz(bits);
    uint64_t thousandths = halvings * 1000 + prng_below(prng, 1000);
    return mean * thousandths / 1500; /* The mean of the halvings is 1, of the rest 1/2. */
}

static uint64_t draw_delay(struct network *network, const struct link *link)
{
    const struct network_options *options = &network->options;
    uint64_t delay_us = link->delay_us + draw_exponential(&network->prng, options->jitter_us);
    if (happens(network, options->slow_ppm))
        delay_us += prng_below(&network->prng, options->slow_us + 1);
    return delay_us;
}

static uint64_t draw_arrival(struct network *network, struct link *link, uint64_t now_us)
{
    uint64_t leaves_us = u64_max(now_us, link->stalled_until_us);
    uint64_t arrival_us = leaves_us + draw_delay(network, link);
    if (happens(network, network->options.reorder_ppm)) return arrival_us;
    arrival_us = u64_max(arrival_us, link->arrived_us);
    link->arrived_us = arrival_us;
    return arrival_us;
}

unsigned network_send(struct network *network, uint64_t now_us, uint32_t from, uint32_t to,
                      uint64_t arrivals_us[NETWORK_COPIES_MAX])
{
    struct link *link = link_of(network, from, to);
    network->stats.sent_count++;
    if (link->cut || happens(network, network->options.loss_ppm) ||
        happens(network, link->loss_ppm)) {
        network->stats.lost_count++;
        return 0;
    }
    arrivals_us[0] = draw_arrival(network, link, now_us);
    if (!happens(network, network->options.duplicate_ppm)) return 1;
    network->stats.doubled_count++;
    arrivals_us[1] = draw_arrival(network, link, now_us);
    return 2;
}

bool network_carries(const struct network *network, uint32_t from, uint32_t to)
{
    return !network->links[(size_t)from * network->node_count + to].cut;
}

void network_cut(struct network *network, uint32_t from, uint32_t to)
{
    if (from != to) link_of(network, from, to)->cut = true;
}

void network_cut_both_ways(struct network *network, uint32_t a, uint32_t b)
{
    network_cut(network, a, b);
    network_cut(network, b, a);
}

void network_stall(struct network *network, uint32_t from, uint32_t to, uint64_t until_us)
{
    link_of(network, from, to)->stalled_until_us = until_us;
}

void network_degrade(struct network *network, uint32_t from, uint32_t to, uint32_t loss_ppm)
{
    link_of(network, from, to)->loss_ppm = loss_ppm;
}

static bool is_separated(enum network_partition how, uint32_t a, uint32_t b, uint32_t count)
{
    uint32_t apart = a < b ? b - a : a - b;
    switch (how) {
    case NETWORK_HALVES:
        return (a < count / 2) != (b < count / 2);
    case NETWORK_RING:
        return apart != 1 && apart != count - 1;
    case NETWORK_BRIDGE:
        return a != count - 1 && b != count - 1 && (a < count / 2) != (b < count / 2);
    default:
        return a == 0 || b == 0;
    }
}

void network_partition(struct network *network, enum network_partition how, struct prng *prng)
{
    uint32_t count = network->node_count;
    uint32_t *order = calloc(count, sizeof *order);
    CHECK(order != NULL);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = prng_below(prng, i + 1);
        order[i] = order[at];
        order[at] = i;
    }
    for (uint32_t a = 0; a < count; a++)
        for (uint32_t b = 0; b < a; b++)
            if (is_separated(how, a, b, count)) network_cut_both_ways(network, order[a], order[b]);
    free(order);
}

void network_heal(struct network *network)
{
    size_t count = (size_t)network->node_count * network->node_count;
    for (size_t i = 0; i < count; i++) {
        struct link *link = &network->links[i];
        link->cut = false;
        link->loss_ppm = 0;
        link->stalled_until_us = 0;
    }
}

void network_calm(struct network *network)
{
    network->options.loss_ppm = 0;
    network->options.slow_ppm = 0;
}

struct network_stats network_stats(const struct network *network)
{
    return network->stats;
}
