/* The version of a write: hybrid logical time, then the node that stamped it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/hlc.h"

/* Some 4,400 years from now. A greater one is nobody's write: stamping above it would end at the
 * largest number there is. */
#define VERSION_TIME_MAX (UINT64_MAX / 2)

struct version {
    hlc_time time; /* 0 with node 0: no version. */
    uint16_t node;
};

/* <0, 0 or >0 as `a` is older than, the same as, or newer than `b`. */
static inline int version_compare(struct version a, struct version b)
{
    if (a.time != b.time) return a.time < b.time ? -1 : 1;
    return (a.node > b.node) - (a.node < b.node);
}

static inline bool version_equal(struct version a, struct version b)
{
    return a.time == b.time && a.node == b.node;
}

static inline bool version_is_none(struct version version)
{
    return version.time == 0 && version.node == 0;
}

static inline struct version version_max(struct version a, struct version b)
{
    return version_compare(a, b) >= 0 ? a : b;
}
