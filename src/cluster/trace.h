/* What a protocol did, one line a decision, for people: tests compare it with the story they
 * tell, the simulator prints it for a seed that failed, the shell at log level debug.
 *
 * Lines never hold users' values. Costs one test of a pointer when nobody listens. */
#pragma once

#include <stddef.h>

struct trace {
    /* NULL: nobody listens. The line has no newline and is gone after the call. */
    void (*line)(void *context, const char *line);
    void *context;
};

enum { TRACE_LINE_BYTES_MAX = 256 }; /* Longer ones are cut. */

/* `trace` may be NULL. */
__attribute__((format(printf, 2, 3))) void trace_write(const struct trace *trace,
                                                       const char *format, ...);

#define TRACE(trace, ...)                                                                          \
    do {                                                                                           \
        if ((trace) != NULL && (trace)->line != NULL) trace_write((trace), __VA_ARGS__);           \
    } while (0)
