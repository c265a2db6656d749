/* The server's log: one event a line on stderr, as logfmt or JSON.
 *
 *   time=2026-11-23T10:00:00.000Z level=info event=server.started port=8000
 *   {"time":"2026-11-23T10:00:00.000Z","level":"info","event":"server.started","port":8000}
 *
 * Event names are fixed; values are numbers, our own words, file names: never what users
 * stored or asked for. Texts may hold any bytes all the same: in logfmt a value that is not
 * plain stands in quotes, and there, as in JSON, quotes, backslashes and control characters
 * are escaped; bytes that are not UTF-8 become U+FFFD. A text over LOG_TEXT_BYTES_MAX is cut.
 *
 * Threads: any; a line goes out in one write. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

enum { LOG_TEXT_BYTES_MAX = 1024, LOG_LINE_BYTES_MAX = 16 << 10 };

/* A key and its value: a text, or where that is NULL a number. */
struct log_pair {
    const char *key; /* Of [a-z_]; NULL ends a list. */
    const char *text;
    uint64_t number;
};

static inline struct log_pair log_text(const char *key, const char *text)
{
    return (struct log_pair){.key = key, .text = text};
}

static inline struct log_pair log_number(const char *key, uint64_t number)
{
    return (struct log_pair){.key = key, .number = number};
}

/* Which levels are logged, and how. (any thread; it takes effect with the next line) */
void log_configure(enum log_level level, bool json);

/* Writes the line of an event; `pairs` ends with a key that is NULL. */
void log_write(enum log_level level, const char *event, const struct log_pair *pairs);

/* With at least one pair:
 *
 *   log_line(LOG_LEVEL_INFO, "server.stopped", log_number("memory_bytes", 0)); */
#define log_line(level, event, ...)                                                                \
    log_write(level, event, (const struct log_pair[]){__VA_ARGS__, {0}})

struct log_bytes {
    size_t size;
    char bytes[LOG_LINE_BYTES_MAX];
};

/* The line as bytes, with its newline. Pairs for which there is no room are left out. */
void log_format(struct log_bytes *out, bool json, uint64_t now_ms, enum log_level level,
                const char *event, const struct log_pair *pairs);
