/* Health, statistics and metrics, as bodies. */
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "node/node.h"
#include "proto/http_request.h"

/* Writes reasons as JSON into `body` (cleared first); returns 200, or 503 when the node
 * cannot serve all that it should. */
uint16_t figures_ready(const struct node_facts *facts, struct buf *body);

/* The same figures as the metrics, as JSON. */
void figures_stats(const struct node_facts *facts, struct buf *body);

/* Prometheus text, or OpenMetrics when `Accept` asks for it; returns the content type. */
const char *figures_metrics(const struct node_facts *facts, const struct http_request *request,
                            struct buf *body);
