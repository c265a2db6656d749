/* What a reader sees: one immutable state of the store.
 *
 * A view lists the layers that together hold every key once: the memory tries, newest
 * first, then the packed tries with their overlays. The writer publishes a new view by
 * one atomic store; an old one is freed once no reader can hold it. A reader takes the
 * current view, answers, and lets go within 100 ms: longer walks resume by key.
 *
 * Threads: store_view() from any thread that the shell's grace periods know of. */
#pragma once

#include <stdint.h>

#include "core/query.h"

struct view {
    uint64_t number;           /* Rises by one with each view published. */
    uint64_t sequence;         /* Of the last log batch that it contains. */
    uint64_t settled_ms;       /* Words that expired up to here are hidden. */
    struct view *next_retired; /* The writer's. */
    size_t layer_count;
    struct layer layers[];
};
