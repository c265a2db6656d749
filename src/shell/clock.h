/* The clocks of the real world. */
#pragma once

#include <stdint.h>

/* Milliseconds since the Unix epoch; may jump. */
uint64_t clock_wall_ms(void);

/* Microseconds since some start; never goes back. */
uint64_t clock_monotonic_us(void);
