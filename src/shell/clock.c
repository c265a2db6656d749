#include "shell/clock.h"

#include <time.h>

static struct timespec read_clock(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time;
}

uint64_t clock_wall_ms(void)
{
    struct timespec time = read_clock(CLOCK_REALTIME);
    return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

uint64_t clock_monotonic_us(void)
{
    struct timespec time = read_clock(CLOCK_MONOTONIC);
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}
