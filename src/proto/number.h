/* Doubles as decimal text and back, exactly, whatever the locale.
 *
 * The text is the shortest that reads back as the same double; integers up to 2^53 have
 * neither point nor exponent. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"

enum { NUMBER_BYTES_MAX = 32 };

/* Writes a finite `value`; returns its size. */
size_t number_put(double value, uint8_t out[NUMBER_BYTES_MAX]);

void number_append(double value, struct buf *out);

/* Reads all of `text`: [+-] digits [. digits] [e [+-] digits], where digits may be missing
 * on one side of the point. The nearest double, ties to even.
 *
 * Errors: STATUS_INVALID for anything else, also nan, inf, hexadecimal and blanks, and for
 * what is beyond the largest double. */
enum status number_parse(struct slice text, double *out);
