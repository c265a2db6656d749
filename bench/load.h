/* Parts of the load generator: what it sends, what comes back, what it measures. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct options {
    bool is_http;
    int port;
    const char *path, *body, *file, *processes;
    size_t first_line;
    unsigned connection_count, depth;
    double seconds;
    uint64_t request_count;
};

bool options_parse(int count, char **arguments, struct options *options);

/* Grows without limit; running out of memory ends the program. */
struct bytes {
    char *data;
    size_t size, capacity;
};

void bytes_reserve(struct bytes *bytes, size_t more);
void bytes_append(struct bytes *bytes, const void *data, size_t size);

struct line {
    const char *text, *score;
    size_t text_size, score_size;
};

struct lines {
    struct line *lines;
    size_t count;
};

/* A NULL path gives one empty line. */
void lines_read(const char *path, struct lines *lines);

/* --- load_message.c --- */

enum { TEMPLATE_PART_MAX = 64 };

/* Literal pieces and places for the line's text or score, in arguments. */
struct template
{
    struct template_part {
        enum { PART_LITERAL, PART_TEXT, PART_SCORE, PART_ARGUMENT_END } kind;
        const char *data;
        size_t size;
    } parts[TEMPLATE_PART_MAX];
    size_t count, argument_count;
};

/* `split`: blanks separate arguments. */
void template_parse(const char *text, bool split, struct template *template);

void resp_request_append(const struct template *template, const struct line *line,
                         struct bytes *out);

/* A GET, or a POST when `body` is not NULL. */
void http_request_append(const struct template *path, const struct template *body,
                         const struct line *line, struct bytes *out);

/* Bytes of the whole reply at `data`, 0 while it is incomplete. */
size_t resp_reply_size(const char *data, size_t size, bool *is_error);
size_t http_reply_size(const char *data, size_t size, bool *is_error);

/* --- load_measure.c --- */

enum { LATENCY_STEP_BITS = 6, LATENCY_BUCKET_COUNT = 64 << LATENCY_STEP_BITS };

/* Counts by nanoseconds, within 1/64. */
struct latencies {
    uint64_t counts[LATENCY_BUCKET_COUNT];
};

void latencies_add(struct latencies *latencies, uint64_t ns);
double latencies_quantile_us(const struct latencies *latencies, double quantile);

uint64_t now_ns(void);
double own_cpu_s(void);

/* Processor time of all threads of the processes "PID,PID"; NULL: none. */
double processes_cpu_s(const char *processes);
