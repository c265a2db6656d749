/* What a query's memory consists of; for the files of core/query.h only. */
#pragma once

#include "core/query_best.h"
#include "core/query_span.h"

/* The live ranks [first, end) of a layer that may still hold the answer, and where the
 * pivot falls. */
struct query_window {
    uint64_t first, end, cut;
};

struct query_scratch {
    struct heap *heap;
    struct spans spans;
    struct buf keys; /* Of the answers that are being given. */
    struct best_search search;
    struct query_window *windows; /* Of query_select(), one a layer. */
    size_t window_count;
};
