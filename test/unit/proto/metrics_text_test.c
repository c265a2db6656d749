#include "proto/metrics_text.h"

#include <math.h>

#include "test.h"

static void write_all(struct metrics_text *metrics)
{
    const struct metric_label labels[] = {{"route", SLICE_LITERAL("a\"b\\c\nd\xff")},
                                          {"code", SLICE_LITERAL("200")}};
    metrics_family(metrics, METRIC_COUNTER, "requests", "Requests \\ \"answered\"\n");
    metrics_u64(metrics, labels, 2, 7);
    metrics_family(metrics, METRIC_GAUGE, "load", "Load.");
    metrics_double(metrics, NULL, 0, 0.5);
    metrics_double(metrics, &labels[1], 1, -INFINITY);
    metrics_family(metrics, METRIC_HISTOGRAM, "seconds", "Time.");
    metrics_histogram(metrics, &labels[1], 1, (const double[]){0.001, 1}, 2,
                      (const uint64_t[]){5, 0, 2}, 12.25);
    metrics_finish(metrics);
}

static void expect_text(bool open_metrics, const char *expected)
{
    struct heap heap;
    struct buf out;
    heap_init(&heap, 0);
    buf_init(&out, &heap);
    write_all(&(struct metrics_text){.out = &out, .open_metrics = open_metrics});
    buf_append_u8(&out, 0);
    assert_string_equal((const char *)out.data, expected);
    buf_deinit(&out);
    EXPECT(heap_used_bytes(&heap) == 0);
}

#define SAMPLES                                                                                    \
    "requests_total{route=\"a\\\"b\\\\c\\nd\xef\xbf\xbd\",code=\"200\"} 7\n"                       \
    "# HELP load Load.\n# TYPE load gauge\nload 0.5\nload{code=\"200\"} -Inf\n"                    \
    "# HELP seconds Time.\n# TYPE seconds histogram\n"                                             \
    "seconds_bucket{code=\"200\",le=\"0.001\"} 5\nseconds_bucket{code=\"200\",le=\"1\"} 5\n"       \
    "seconds_bucket{code=\"200\",le=\"+Inf\"} 7\nseconds_sum{code=\"200\"} 12.25\n"                \
    "seconds_count{code=\"200\"} 7\n"

TEST_CASE(prometheus_text_is_exact)
{
    expect_text(false, "# HELP requests_total Requests \\\\ \"answered\"\\n\n"
                       "# TYPE requests_total counter\n" SAMPLES);
}

TEST_CASE(openmetrics_text_is_exact)
{
    expect_text(true, "# HELP requests Requests \\\\ \\\"answered\\\"\\n\n"
                      "# TYPE requests counter\n" SAMPLES "# EOF\n");
}

TEST_MAIN(TEST(prometheus_text_is_exact), TEST(openmetrics_text_is_exact))
