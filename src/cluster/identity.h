/* Who a node is.
 *
 *   id           given by the register when it joins, never given again, the tie-break of versions
 *   incarnation  random, made with the data directory: another disk is another incarnation
 *   boot         counts the starts of one incarnation, so that a disk that was rolled back shows */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef uint16_t node_id; /* 1 to NODE_ID_MAX; 0: nobody. */

enum { NODE_ID_MAX = UINT16_MAX };

struct identity {
    node_id id;
    uint64_t incarnation;
    uint64_t boot; /* From 1. */
};

static inline bool identity_equal(struct identity a, struct identity b)
{
    return a.id == b.id && a.incarnation == b.incarnation && a.boot == b.boot;
}
