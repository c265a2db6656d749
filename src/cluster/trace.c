#include "cluster/trace.h"

#include <stdarg.h>
#include <stdio.h>

void trace_write(const struct trace *trace, const char *format, ...)
{
    char line[TRACE_LINE_BYTES_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    trace->line(trace->context, line);
}
