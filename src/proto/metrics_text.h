/* Metrics as text, for Prometheus 0.0.4 and for OpenMetrics 1.0.
 *
 *     metrics_family(&metrics, METRIC_COUNTER, "trifecta_requests", "Requests answered.");
 *     metrics_u64(&metrics, labels, 2, count);
 *
 * A counter is named without "_total", which is added. Help is one line of UTF-8.
 *
 * Source: OpenMetrics 1.0; Prometheus, "Exposition formats". */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric_label {
    const char *name;
    struct slice value; /* Any bytes: what is not UTF-8 goes out as U+FFFD. */
};

struct metrics_text {
    struct buf *out;
    bool open_metrics;
    enum metric_type type; /* Of the family that was begun last. */
    const char *name;
};

/* "text/plain; version=0.0.4; charset=utf-8", or that of OpenMetrics. Static storage. */
const char *metrics_content_type(bool open_metrics);

/* Begins a family; `name` is kept until the next. */
void metrics_family(struct metrics_text *metrics, enum metric_type type, const char *name,
                    const char *help);

/* One sample of the family. */
void metrics_u64(struct metrics_text *metrics, const struct metric_label *labels, size_t count,
                 uint64_t value);
void metrics_double(struct metrics_text *metrics, const struct metric_label *labels, size_t count,
                    double value);

/* One histogram of the family: `counts` holds, for each of the rising `bounds` and then for
 * what is above them all, how many values fell there. */
void metrics_histogram(struct metrics_text *metrics, const struct metric_label *labels,
                       size_t count, const double *bounds, size_t bound_count,
                       const uint64_t *counts, double sum);

/* After the last sample. */
void metrics_finish(struct metrics_text *metrics);
