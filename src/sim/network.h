/* What becomes of messages between nodes.
 *
 * Each ordered pair of nodes has a delay of its own; on it come jitter, now and then a long delay,
 * loss, doubles, and messages that overtake others. A pair can be cut, one way or both, stalled (what
 * is sent arrives once the stall ends) or bad (it loses more). The network decides when
 * a message arrives; who asks it keeps the message till then, and asks network_carries() once
 * more at the time: a cut takes what is on its way, too. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/prng.h"

struct network_options {
    uint32_t delay_us, delay_spread_us; /* A pair's own delay lies between. */
    uint32_t jitter_us;                 /* The mean of what comes on it, exponential. */
    uint32_t slow_ppm, slow_us;         /* So many messages take as much longer. */
    uint32_t loss_ppm, duplicate_ppm, reorder_ppm;
};

struct network;

enum { NETWORK_COPIES_MAX = 2 };

/* Nodes are counted from 0. */
struct network *network_create(uint64_t seed, uint32_t node_count,
                               const struct network_options *options);
void network_destroy(struct network *network);

/* When the copies of a message arrive that is sent now: their number, 0 if it is lost. */
unsigned network_send(struct network *network, uint64_t now_us, uint32_t from, uint32_t to,
                      uint64_t arrivals_us[NETWORK_COPIES_MAX]);

/* False while the way from the one to the other is cut. */
bool network_carries(const struct network *network, uint32_t from, uint32_t to);

void network_cut(struct network *network, uint32_t from, uint32_t to);
void network_cut_both_ways(struct network *network, uint32_t a, uint32_t b);

/* What is sent before `until_us` arrives after it. */
void network_stall(struct network *network, uint32_t from, uint32_t to, uint64_t until_us);

/* So much is lost from now on. */
void network_degrade(struct network *network, uint32_t from, uint32_t to, uint32_t loss_ppm);

enum network_partition {
    NETWORK_HALVES, /* Two sides that see nothing of each other. */
    NETWORK_RING,   /* Each sees its two neighbours alone. */
    NETWORK_BRIDGE, /* Two halves, and one node that sees both. */
    NETWORK_ALONE,  /* One node sees nobody. */
    NETWORK_PARTITION_COUNT,
};

/* In a random order of the nodes, drawn from `prng`. Comes on top of other cuts. */
void network_partition(struct network *network, enum network_partition how, struct prng *prng);

/* Everything arrives again, but for what options lose. */
void network_heal(struct network *network);

/* From now on nothing is lost or takes long by the options either. */
void network_calm(struct network *network);

struct network_stats {
    uint64_t sent_count, lost_count, doubled_count;
};
struct network_stats network_stats(const struct network *network);
