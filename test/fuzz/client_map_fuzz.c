/* Any bytes as what a node answers of ranges and nodes: refused, or a map that can be asked. */
#include "base/check.h"
#include "client/map.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice json = slice_of(data, size);
    struct heap heap;
    struct map *map;
    uint64_t id;
    char zone[8];
    heap_init(&heap, 0);
    if (map_read(&heap, json, &map) == STATUS_OK) {
        map_owns(map, 1, slice_of(NULL, 0), slice_of(NULL, 0));
        map_owns(map, 1, json, slice_of(NULL, 0));
        map_owns(map, 2, SLICE_LITERAL("a"), SLICE_LITERAL("p"));
        map_destroy(map);
    }
    if (map_read_self(json, &id, zone, sizeof zone) == STATUS_OK) CHECK(id > 0);
    CHECK(heap_used_bytes(&heap) == 0);
    return 0;
}
