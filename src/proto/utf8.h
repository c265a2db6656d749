/* Whether bytes are UTF-8: no overlong form, no surrogate, nothing above U+10FFFF, nothing
 * cut.
 *
 * Cost: sixteen bytes a step while they are ASCII. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

bool utf8_is_valid(struct slice text);

/* Bytes of the code point that `size` > 0 bytes start with, 1 to 4; 0 when they do not start
 * with a valid one. */
unsigned utf8_size(const uint8_t *data, size_t size);

/* Writes a code point that is no surrogate and at most 10FFFF; returns its size, 1 to 4. */
unsigned utf8_put(uint32_t code_point, uint8_t out[4]);
