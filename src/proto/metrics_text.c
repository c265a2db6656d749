#include "proto/metrics_text.h"

#include <math.h>

#include "proto/number.h"
#include "proto/utf8.h"

static const char *const type_names[] = {"counter", "gauge", "histogram"};

const char *metrics_content_type(bool open_metrics)
{
    return open_metrics ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                        : "text/plain; version=0.0.4; charset=utf-8";
}

/* Newlines and backslashes are escaped everywhere, quotes in labels and by OpenMetrics. */
static void append_escaped(struct buf *out, struct slice text, bool quotes)
{
    size_t at = 0;
    while (at < text.size) {
        unsigned size = utf8_size(text.data + at, text.size - at);
        uint8_t byte = text.data[at];
        if (size == 0)
            buf_append_text(out, "\xef\xbf\xbd");
        else if (byte == '\n')
            buf_append_text(out, "\\n");
        else if (byte == '\\')
            buf_append_text(out, "\\\\");
        else if (byte == '"' && quotes)
            buf_append_text(out, "\\\"");
        else
            buf_append(out, text.data + at, size);
        at += size == 0 ? 1 : size;
    }
}

static void append_name(struct metrics_text *metrics, const char *suffix)
{
    buf_append_text(metrics->out, metrics->name);
    buf_append_text(metrics->out, suffix);
}

void metrics_family(struct metrics_text *metrics, enum metric_type type, const char *name,
                    const char *help)
{
    struct buf *out = metrics->out;
    metrics->type = type;
    metrics->name = name;
    bool total = type == METRIC_COUNTER && !metrics->open_metrics;

    buf_append_text(out, "# HELP ");
    append_name(metrics, total ? "_total " : " ");
    append_escaped(out, slice_from_text(help), metrics->open_metrics);
    buf_append_text(out, "\n# TYPE ");
    append_name(metrics, total ? "_total " : " ");
    buf_append_text(out, type_names[type]);
    buf_append_u8(out, '\n');
}

static void append_double(struct buf *out, double value)
{
    if (isnan(value))
        buf_append_text(out, "NaN");
    else if (isinf(value))
        buf_append_text(out, value > 0 ? "+Inf" : "-Inf");
    else
        number_append(value, out);
}

/* Name, labels, and the bound of a bucket where there is one; then a blank. */
static void append_head(struct metrics_text *metrics, const char *suffix,
                        const struct metric_label *labels, size_t count, const double *bound)
{
    struct buf *out = metrics->out;
    append_name(metrics, suffix);
    if (count > 0 || bound != NULL) buf_append_u8(out, '{');
    for (size_t i = 0; i < count; i++) {
        if (i > 0) buf_append_u8(out, ',');
        buf_append_text(out, labels[i].name);
        buf_append_text(out, "=\"");
        append_escaped(out, labels[i].value, true);
        buf_append_u8(out, '"');
    }
    if (bound != NULL) {
        buf_append_text(out, count > 0 ? ",le=\"" : "le=\"");
        append_double(out, *bound);
        buf_append_u8(out, '"');
    }
    if (count > 0 || bound != NULL) buf_append_u8(out, '}');
    buf_append_u8(out, ' ');
}

static const char *sample_suffix(const struct metrics_text *metrics)
{
    return metrics->type == METRIC_COUNTER ? "_total" : "";
}

void metrics_u64(struct metrics_text *metrics, const struct metric_label *labels, size_t count,
                 uint64_t value)
{
    append_head(metrics, sample_suffix(metrics), labels, count, NULL);
    buf_append_decimal(metrics->out, value);
    buf_append_u8(metrics->out, '\n');
}

void metrics_double(struct metrics_text *metrics, const struct metric_label *labels, size_t count,
                    double value)
{
    append_head(metrics, sample_suffix(metrics), labels, count, NULL);
    append_double(metrics->out, value);
    buf_append_u8(metrics->out, '\n');
}

void metrics_histogram(struct metrics_text *metrics, const struct metric_label *labels,
                       size_t count, const double *bounds, size_t bound_count,
                       const uint64_t *counts, double sum)
{
    const double infinite = INFINITY;
    uint64_t total = 0;
    for (size_t i = 0; i <= bound_count; i++) {
        total += counts[i];
        append_head(metrics, "_bucket", labels, count, i < bound_count ? &bounds[i] : &infinite);
        buf_append_decimal(metrics->out, total);
        buf_append_u8(metrics->out, '\n');
    }
    append_head(metrics, "_sum", labels, count, NULL);
    append_double(metrics->out, sum);
    buf_append_u8(metrics->out, '\n');
    append_head(metrics, "_count", labels, count, NULL);
    buf_append_decimal(metrics->out, total);
    buf_append_u8(metrics->out, '\n');
}

void metrics_finish(struct metrics_text *metrics)
{
    if (metrics->open_metrics) buf_append_text(metrics->out, "# EOF\n");
}
