#include "shell/log_line.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proto/utf8.h"
#include "shell/clock.h"

/* A byte becomes at most \u0000; a pair has a key, marks and its value. */
enum { PAIR_BYTES_MAX = 6 * LOG_TEXT_BYTES_MAX + 128, TIME_BYTES = 32 };

static _Atomic enum log_level least = LOG_LEVEL_INFO;
static atomic_bool as_json;

struct line {
    struct log_bytes *out;
    bool json;
};

void log_configure(enum log_level level, bool json)
{
    atomic_store(&least, level);
    atomic_store(&as_json, json);
}

static void add(struct line *line, const char *text)
{
    size_t size = strlen(text);
    memcpy(line->out->bytes + line->out->size, text, size);
    line->out->size += size;
}

/* One code point, or one byte that is part of none; returns how many bytes it took. */
static size_t add_escaped(struct line *line, const char *text, size_t size)
{
    char escape[8];
    unsigned char byte = (unsigned char)text[0];
    unsigned taken = utf8_size((const uint8_t *)text, size);
    if (taken == 0) {
        add(line, "\xef\xbf\xbd");
        return 1;
    }
    if (byte == '"' || byte == '\\') {
        snprintf(escape, sizeof escape, "\\%c", byte);
        add(line, escape);
    } else if (byte == '\n') {
        add(line, "\\n");
    } else if (byte < ' ' || byte == 0x7f) {
        snprintf(escape, sizeof escape, "\\u%04x", byte);
        add(line, escape);
    } else {
        memcpy(line->out->bytes + line->out->size, text, taken);
        line->out->size += taken;
    }
    return taken;
}

/* Whether logfmt takes it without quotes. */
static bool is_plain(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte <= ' ' || byte >= 0x7f || byte == '"' || byte == '\\' || byte == '=') return false;
    }
    return size > 0;
}

static void add_text(struct line *line, const char *text)
{
    size_t size = strnlen(text, LOG_TEXT_BYTES_MAX);
    bool quoted = line->json || !is_plain(text, size);
    if (quoted) add(line, "\"");
    for (size_t at = 0; at < size;) at += add_escaped(line, text + at, size - at);
    if (quoted) add(line, "\"");
}

static void add_pair(struct line *line, const struct log_pair *pair)
{
    char number[24];
    if (LOG_LINE_BYTES_MAX - line->out->size < PAIR_BYTES_MAX) return;
    if (line->out->size > (line->json ? 1 : 0)) add(line, line->json ? "," : " ");
    if (line->json) add(line, "\"");
    add(line, pair->key);
    add(line, line->json ? "\":" : "=");
    if (pair->text != NULL) {
        add_text(line, pair->text);
        return;
    }
    snprintf(number, sizeof number, "%llu", (unsigned long long)pair->number);
    add(line, number);
}

static void format_time(char text[TIME_BYTES], uint64_t now_ms)
{
    time_t seconds = (time_t)(now_ms / 1000);
    struct tm parts;
    char whole[24];
    gmtime_r(&seconds, &parts);
    strftime(whole, sizeof whole, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(text, TIME_BYTES, "%s.%03uZ", whole, (unsigned)(now_ms % 1000));
}

void log_format(struct log_bytes *out, bool json, uint64_t now_ms, enum log_level level,
                const char *event, const struct log_pair *pairs)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    struct line line = {.out = out, .json = json};
    char time_text[TIME_BYTES];
    format_time(time_text, now_ms);
    const struct log_pair first[] = {log_text("time", time_text), log_text("level", names[level]),
                                     log_text("event", event)};

    out->size = 0;
    if (json) add(&line, "{");
    for (size_t i = 0; i < sizeof first / sizeof *first; i++) add_pair(&line, &first[i]);
    for (; pairs->key != NULL; pairs++) add_pair(&line, pairs);
    add(&line, json ? "}\n" : "\n");
}

void log_write(enum log_level level, const char *event, const struct log_pair *pairs)
{
    struct log_bytes line;
    if (level > atomic_load(&least)) return;
    log_format(&line, atomic_load(&as_json), clock_wall_ms(), level, event, pairs);
    ssize_t ignored = write(STDERR_FILENO, line.bytes, line.size);
    (void)ignored;
}
