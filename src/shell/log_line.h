/* The server's log: one event a line on stderr, as logfmt or JSON.
 *
 *   time=2026-11-23T10:00:00.000Z level=info event=server.started port=8000
 *
 * Event names are fixed; values are numbers, our own words, file names: never what users
 * stored or asked for.
 *
 * Threads: any; a line goes out in one write. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Before the first line. */
void log_line_configure(enum log_level level, bool json);

/* `pairs` is a format for "key=value key=value"; values with blanks stand in quotes, and
 * hold no quotes themselves. */
__attribute__((format(printf, 3, 4))) void log_line(enum log_level level, const char *event,
                                                    const char *pairs, ...);
