/* The name that somebody probably meant: for messages about unknown names. */
#pragma once

#include <stddef.h>

#include "base/slice.h"

enum { NEAREST_BYTES_MAX = 64 };

/* Number of insertions, removals, changes and swaps of neighbours that make `b` of `a`;
 * SIZE_MAX when one is longer than NEAREST_BYTES_MAX. */
size_t nearest_distance(struct slice a, struct slice b);

/* The name with the least distance to `name`, the first of equals; NULL when none is near
 * enough to be meant (a third of its length, at least one). A name that `name` is the start
 * of counts as near. */
const char *nearest_name(struct slice name, const char *const *names, size_t count);
