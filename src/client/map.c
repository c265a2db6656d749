#include "client/map.h"

#include "base/buf.h"
#include "client/json.h"

#include <stdio.h>
#include <string.h>

enum { OWNERS_MAX = 16 };

struct range {
    struct slice low;
    struct slice high; /* Empty: no end. */
    uint64_t owners[OWNERS_MAX];
    size_t owner_count;
};

struct map {
    struct heap *heap;
    struct buf keys; /* What `low` and `high` point into. */
    size_t count;
    struct range ranges[];
};

void map_destroy(struct map *map)
{
    if (map == NULL) return;
    buf_deinit(&map->keys);
    heap_free(map->heap, map);
}

/* While a range goes over, reads are for the nodes that it goes to from `switched` on. */
static const json_t *readers_of(const json_t *json)
{
    const char *stage = json_string_value(json_object_get(json, "stage"));
    bool switched = stage != NULL && strcmp(stage, "switched") == 0;
    return json_object_get(json, switched ? "next" : "owners");
}

static bool read_key(struct map *map, const json_t *json, size_t *size)
{
    size_t before = map->keys.size;
    if (!json_get_bytes(json, &map->keys)) return false;
    *size = map->keys.size - before;
    return true;
}

/* Keys have sizes first: the buffer still moves. */
static bool read_range(struct map *map, const json_t *json, struct range *range)
{
    const json_t *readers = readers_of(json);
    if (!read_key(map, json_object_get(json, "low"), &range->low.size)) return false;
    if (!read_key(map, json_object_get(json, "high"), &range->high.size)) return false;
    if (!json_is_array(readers)) return false;
    size_t count = json_array_size(readers);
    for (size_t i = 0; i < count && i < OWNERS_MAX; i++) {
        json_int_t id = json_integer_value(json_array_get(readers, i));
        if (id <= 0) return false;
        range->owners[range->owner_count++] = (uint64_t)id;
    }
    return true;
}

/* Ascending, without overlaps: what the search relies on. */
static bool place_keys(struct map *map)
{
    const uint8_t *at = map->keys.data;
    for (size_t i = 0; i < map->count; i++) {
        struct range *range = &map->ranges[i];
        range->low.data = at;
        range->high.data = at + range->low.size;
        at = range->high.data + range->high.size;
        if (range->high.size > 0 && slice_compare(range->low, range->high) >= 0) return false;
        if (i == 0) continue;
        const struct range *before = range - 1;
        if (before->high.size == 0 || slice_compare(before->high, range->low) > 0) return false;
    }
    return true;
}

static enum status read_ranges(struct heap *heap, const json_t *ranges, struct map **out)
{
    if (!json_is_array(ranges)) return STATUS_INVALID;
    size_t count = json_array_size(ranges);
    struct map *map = heap_zalloc(heap, sizeof *map + count * sizeof *map->ranges);
    if (map == NULL) return STATUS_NOMEM;
    map->heap = heap;
    map->count = count;
    buf_init(&map->keys, heap);

    bool valid = buf_ensure(&map->keys, 1); /* No range need have a key, and C has no NULL + 0. */
    for (size_t i = 0; i < count && valid; i++) {
        valid = read_range(map, json_array_get(ranges, i), &map->ranges[i]);
    }
    enum status status = valid ? buf_status(&map->keys) : STATUS_INVALID;
    if (status == STATUS_OK && !place_keys(map)) status = STATUS_INVALID;
    if (status == STATUS_OK) {
        *out = map;
    } else {
        map_destroy(map);
    }
    return status;
}

enum status map_read(struct heap *heap, struct slice json, struct map **out)
{
    json_t *root = json_parse(json);
    if (root == NULL) return STATUS_INVALID;
    enum status status = read_ranges(heap, json_object_get(root, "ranges"), out);
    json_decref(root);
    return status;
}

/* The last range that starts at or before `key`; `count` when there is none. */
static size_t find(const struct map *map, struct slice key)
{
    size_t first = 0, end = map->count;
    while (first < end) {
        size_t middle = first + (end - first) / 2;
        if (slice_compare(map->ranges[middle].low, key) <= 0) {
            first = middle + 1;
        } else {
            end = middle;
        }
    }
    return first == 0 ? map->count : first - 1;
}

static bool range_has(const struct range *range, uint64_t node)
{
    for (size_t i = 0; i < range->owner_count; i++) {
        if (range->owners[i] == node) return true;
    }
    return false;
}

bool map_owns(const struct map *map, uint64_t node, struct slice low, struct slice high)
{
    if (map == NULL) return false;
    for (size_t i = find(map, low); i < map->count; i++) {
        const struct range *range = &map->ranges[i];
        /* Nobody is known to have what lies between two ranges. */
        if (slice_compare(range->low, low) > 0 || !range_has(range, node)) return false;
        if (range->high.size == 0) return true;
        if (high.size > 0 && slice_compare(high, range->high) <= 0) return true;
        low = range->high;
    }
    return false;
}

enum status map_read_self(struct slice json, uint64_t *id, char *zone, size_t zone_size)
{
    json_t *root = json_parse(json);
    const json_t *nodes = json_object_get(root, "nodes");
    enum status status = STATUS_INVALID;
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        const json_t *node = json_array_get(nodes, i);
        const char *name = json_string_value(json_object_get(node, "zone"));
        json_int_t number = json_integer_value(json_object_get(node, "id"));
        if (!json_is_true(json_object_get(node, "self")) || number <= 0) continue;
        *id = (uint64_t)number;
        snprintf(zone, zone_size, "%s", name == NULL ? "" : name);
        status = STATUS_OK;
    }
    json_decref(root);
    return status;
}
