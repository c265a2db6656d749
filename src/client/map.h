/* Which node owns which range of keys, as a node published it.
 *
 * A map may be wrong without harm: every node takes every request, only not by the shortest way.
 *
 * Threads: none changes a map once it is read. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/slice.h"
#include "base/status.h"

struct map;

/* Reads the answer of `GET /nodes/all/ranges`.
 *
 * Errors: STATUS_INVALID for anything but that, STATUS_NOMEM. */
enum status map_read(struct heap *heap, struct slice json, struct map **out);
void map_destroy(struct map *map);

/* Whether `node` has all keys from `low` on to before `high` (empty: no end). False without a
 * map. Cost: O(log ranges), and one step for each range that has such keys. */
bool map_owns(const struct map *map, uint64_t node, struct slice low, struct slice high);

/* Reads of the answer of `GET /nodes` which node gave it: its id, and its zone, cut to fit.
 *
 * Errors: STATUS_INVALID. */
enum status map_read_self(struct slice json, uint64_t *id, char *zone, size_t zone_size);
