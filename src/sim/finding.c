#include "sim/finding.h"

#include <stdarg.h>
#include <stdio.h>

static const char *const names[SIM_CHECK_COUNT_OF_ALL] = {
    [SIM_CHECK_NONE] = "none",           [SIM_CHECK_LOST] = "lost",
    [SIM_CHECK_CAME_BACK] = "came-back", [SIM_CHECK_STALE] = "stale",
    [SIM_CHECK_HIDDEN] = "hidden",       [SIM_CHECK_INVENTED] = "invented",
    [SIM_CHECK_COUNTER] = "counter",     [SIM_CHECK_ORDER] = "order",
    [SIM_CHECK_SCAN] = "scan",           [SIM_CHECK_COUNT] = "count",
    [SIM_CHECK_DIGEST] = "digest",       [SIM_CHECK_BOUND] = "bound",
    [SIM_CHECK_ANSWER] = "answer",       [SIM_CHECK_MAP] = "map",
    [SIM_CHECK_FORKED] = "forked",       [SIM_CHECK_DIVERGED] = "diverged",
    [SIM_CHECK_UNSERVED] = "unserved",   [SIM_CHECK_START] = "start",
};

const char *sim_check_name(enum sim_check check)
{
    return names[check];
}

void sim_find(struct sim_finding *finding, enum sim_check check, uint64_t at_us, const char *format,
              ...)
{
    if (finding->check != SIM_CHECK_NONE) return;
    finding->check = check;
    finding->at_us = at_us;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(finding->text, sizeof finding->text, format, arguments);
    va_end(arguments);
}
