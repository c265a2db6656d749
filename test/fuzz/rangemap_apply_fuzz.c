/* Any bytes as a map and changes to it (u16: size of the map): a delta is refused, or makes a map
 * that decodes to itself and in which a split changed the owners of no key. */
#include "base/bytes.h"
#include "base/check.h"
#include "cluster/rangemap_delta.h"

static bool moves_nothing(struct slice delta)
{
    struct hash128 base;
    struct reader reader;
    struct change change;
    CHECK(rangemap_delta_open(delta, &base, &reader) == STATUS_OK);
    while (rangemap_delta_next(&reader, &change) == STATUS_OK) {
        if (change.kind != CHANGE_SPLIT && change.kind != CHANGE_MERGE) return false;
    }
    return true;
}

static void check_same_owners(const struct rangemap *a, const struct rangemap *b)
{
    for (size_t i = 0; i < rangemap_shard_count(a); i++) {
        struct shard before = rangemap_shard(a, i);
        struct shard after = rangemap_shard(b, rangemap_find(b, before.low));
        CHECK(owners_equal(&before.owners, &after.owners));
        CHECK(owners_equal(&before.next, &after.next) && before.stage == after.stage);
    }
}

static void apply(const struct rangemap *map, struct slice changes, struct heap *heap)
{
    struct buf bytes;
    buf_init(&bytes, heap);
    rangemap_delta_begin(map, &bytes);
    buf_append_slice(&bytes, changes);
    struct rangemap *next = NULL;
    struct rangemap *read = NULL;
    const char *why = NULL;
    enum status status = rangemap_apply(map, buf_slice(&bytes), &why, &next);
    CHECK(status == STATUS_OK || status == STATUS_INVALID || status == STATUS_LIMIT);
    CHECK(status == STATUS_OK || why != NULL);
    if (status == STATUS_OK) {
        if (moves_nothing(buf_slice(&bytes))) {
            check_same_owners(map, next);
            check_same_owners(next, map);
        }
        buf_clear(&bytes);
        rangemap_encode(next, &bytes);
        CHECK(rangemap_decode(heap, buf_slice(&bytes), &read) == STATUS_OK);
        CHECK(hash128_equal(rangemap_identity(next)->hash, rangemap_identity(read)->hash));
        rangemap_unref(read);
        rangemap_unref(next);
    }
    buf_deinit(&bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    struct slice input = slice_of(data + 2, size - 2);
    size_t cut = load_u16le(data) < input.size ? load_u16le(data) : input.size;
    struct heap heap;
    struct rangemap *map = NULL;
    heap_init(&heap, 0);
    if (rangemap_decode(&heap, slice_prefix(input, cut), &map) == STATUS_OK) {
        apply(map, slice_from(input, cut), &heap);
        rangemap_unref(map);
    }
    CHECK(heap_used_bytes(&heap) == 0);
    return 0;
}
