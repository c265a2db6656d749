/* A place in the popularity order: score descending, then created ascending.
 *
 * The third criterion, the bytes of the word, is not part of it: inside one layer the
 * alphabetical position decides, across layers the keys are compared. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "core/version.h"

struct best {
    uint64_t score_order; /* score_order_of(score); 0: nothing live, after every real entry. */
    hlc_time created_time;
    uint16_t created_node;
};

/* Maps a finite double to an unsigned number in the same order, never 0. */
static inline uint64_t score_order_of(double score)
{
    uint64_t bits;
    memcpy(&bits, &score, sizeof bits);
    return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
}

static inline double score_of_order(uint64_t order)
{
    uint64_t bits = order >> 63 ? order & ~(UINT64_C(1) << 63) : ~order;
    double score;
    memcpy(&score, &bits, sizeof score);
    return score;
}

static inline bool best_is_none(struct best best)
{
    return best.score_order == 0;
}

/* <0 when `a` comes before `b` in popularity order (is more popular), 0 when equal. */
static inline int best_compare(struct best a, struct best b)
{
    if (a.score_order != b.score_order) return a.score_order > b.score_order ? -1 : 1;
    if (a.created_time != b.created_time) return a.created_time < b.created_time ? -1 : 1;
    return (a.created_node > b.created_node) - (a.created_node < b.created_node);
}

/* The one that comes first. */
static inline struct best best_first(struct best a, struct best b)
{
    return best_compare(a, b) <= 0 ? a : b;
}
