/* The parameters of a request, read from its query. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"
#include "cluster/rangemap.h"
#include "proto/cursor.h"
#include "proto/problem.h"

enum node_format { NODE_FORMAT_NDJSON, NODE_FORMAT_TSV };

enum node_param {
    NODE_PARAM_NS = 1 << 0,
    NODE_PARAM_Q = 1 << 1,
    NODE_PARAM_LIMIT = 1 << 2,
    NODE_PARAM_CURSOR = 1 << 3,
    NODE_PARAM_SORT = 1 << 4,
    NODE_PARAM_WORD = 1 << 5,
    NODE_PARAM_FORMAT = 1 << 6,
    NODE_PARAM_CONSISTENCY = 1 << 7,
    NODE_PARAM_NODE = 1 << 8,
    NODE_PARAM_FORCE = 1 << 9,
    NODE_PARAM_LOST = 1 << 10,
    NODE_PARAM_WITH = 1 << 11,
    NODE_PARAM_WEIGHT = 1 << 12,
};

enum { NODE_LOST_MAX = 64 }; /* Nodes that one recovery gives up. */

struct node_params {
    unsigned given;                   /* Of enum node_param. */
    struct slice ns, q, cursor, word; /* Unescaped; `ns` is "default" when not given. */
    uint32_t limit;
    enum cursor_sort sort;
    enum node_format format;
    enum consistency consistency; /* If it is given. */
    node_id node, with;           /* 0: not given. */
    uint32_t weight;              /* Alike. */
    bool force;
    node_id lost[NODE_LOST_MAX]; /* Ascending, each once. */
    size_t lost_count;
};

struct node_param_error {
    enum problem_code code;
    const char *field;
    const char *detail;
};

/* The id of a node, 1 to NODE_ID_MAX, in decimal digits; false: it is none. */
bool node_id_read(struct slice text, node_id *out);

/* Reads `query`; only parameters in `allowed` may stand there, each once.
 *
 * Owns:   slices lie in `query` or `decoded`, which is cleared first.
 * Errors: STATUS_INVALID with `error`; STATUS_NOMEM. */
enum status node_params_read(struct slice query, unsigned allowed, struct buf *decoded,
                             struct node_params *params, struct node_param_error *error);
