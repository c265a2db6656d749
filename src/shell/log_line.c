#include "shell/log_line.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "shell/clock.h"

enum { LINE_BYTES_MAX = 2048, TIME_BYTES = 32 };

static enum log_level least = LOG_LEVEL_INFO;
static bool as_json;

void log_line_configure(enum log_level level, bool json)
{
    least = level;
    as_json = json;
}

static void write_time(char text[TIME_BYTES])
{
    uint64_t now_ms = clock_wall_ms();
    time_t seconds = (time_t)(now_ms / 1000);
    struct tm parts;
    char whole[24];
    gmtime_r(&seconds, &parts);
    strftime(whole, sizeof whole, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(text, TIME_BYTES, "%s.%03uZ", whole, (unsigned)(now_ms % 1000));
}

/* Turns `key=value key="two words"` into `,"key":"value","key":"two words"`. */
static size_t pairs_to_json(const char *pairs, char *out, size_t room)
{
    size_t size = 0;
    bool in_value = false;
    bool quoted = false;
    for (const char *at = pairs; *at != '\0' && size + 8 < room; at++) {
        if (!in_value && *at == ' ') continue;
        if (!in_value) {
            size += (size_t)snprintf(out + size, room - size, ",\"");
            while (*at != '=' && *at != '\0' && size + 8 < room) out[size++] = *at++;
            size += (size_t)snprintf(out + size, room - size, "\":\"");
            in_value = true;
            quoted = at[0] == '=' && at[1] == '"';
            if (quoted) at++;
            if (*at == '\0') at--;
        } else if (quoted ? *at == '"' : *at == ' ') {
            out[size++] = '"';
            in_value = false;
        } else if (*at == '\\') {
            size += (size_t)snprintf(out + size, room - size, "\\\\");
        } else {
            out[size++] = *at;
        }
    }
    if (in_value) out[size++] = '"';
    return size;
}

void log_line(enum log_level level, const char *event, const char *pairs, ...)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    char text[LINE_BYTES_MAX];
    char line[LINE_BYTES_MAX * 2 + 128];
    char time_text[TIME_BYTES];
    va_list list;
    if (level > least) return;

    va_start(list, pairs);
    vsnprintf(text, sizeof text, pairs, list);
    va_end(list);
    write_time(time_text);
    size_t size;
    if (as_json) {
        size = (size_t)snprintf(line, sizeof line,
                                "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"%s\"", time_text,
                                names[level], event);
        size += pairs_to_json(text, line + size, sizeof line - size - 4);
        size += (size_t)snprintf(line + size, sizeof line - size, "}\n");
    } else {
        size = (size_t)snprintf(line, sizeof line, "time=%s level=%s event=%s%s%s\n", time_text,
                                names[level], event, text[0] == '\0' ? "" : " ", text);
    }
    ssize_t ignored = write(STDERR_FILENO, line, size);
    (void)ignored;
}
