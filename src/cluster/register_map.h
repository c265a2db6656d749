/* What the register has to know of a map: which it is, and who chooses the next one. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster/hash128.h"
#include "cluster/identity.h"

enum { REGISTRAR_COUNT_MAX = 7 };

/* Begun anew by each forced recovery. What belongs to one generation counts in no other. */
struct generation {
    uint64_t number; /* From 1; one more for each recovery. */
    uint64_t id;     /* Random: two recoveries of one map are two generations. */
};

static inline bool generation_equal(struct generation a, struct generation b)
{
    return a.number == b.number && a.id == b.id;
}

struct registrar {
    node_id id;
    uint64_t incarnation; /* Another disk under this id is not this registrar. */
};

struct register_map {
    struct generation generation;
    uint64_t number; /* From 1. The registrars below choose the content of number + 1. */
    struct hash128 hash;
    uint8_t registrar_count;                          /* 1 to REGISTRAR_COUNT_MAX. */
    struct registrar registrars[REGISTRAR_COUNT_MAX]; /* Ids ascending. */
};

/* Place of a registrar among those of the map; -1: it is none. */
static inline int register_map_find(const struct register_map *map, node_id id)
{
    for (int i = 0; i < map->registrar_count; i++) {
        if (map->registrars[i].id == id) return i;
    }
    return -1;
}

/* Any two sets of so many members of `count` have one in common. */
static inline unsigned majority_of(unsigned count)
{
    return count / 2 + 1;
}

/* Ids ascending, counts within their bounds: a map that breaks this is a bug of ours. */
static inline bool register_map_valid(const struct register_map *map)
{
    if (map->generation.number == 0 || map->number == 0) return false;
    if (map->registrar_count == 0 || map->registrar_count > REGISTRAR_COUNT_MAX) return false;
    for (int i = 0; i < map->registrar_count; i++) {
        node_id before = i == 0 ? 0 : map->registrars[i - 1].id;
        if (map->registrars[i].id <= before) return false;
    }
    return true;
}
