/* Any bytes as a map: refused, or a map that writes the same bytes, keeps the invariants and
 * finds every shard by its low. */
#include "base/check.h"
#include "cluster/rangemap.h"

static void check_owners(const struct rangemap *map, const struct owners *owners)
{
    CHECK(owners->count > 0 && owners->count <= RANGEMAP_OWNERS_MAX);
    CHECK(owners->write_quorum > 0 && owners->write_quorum <= owners->count);
    CHECK(owners->read_quorum > 0 && owners->read_quorum <= owners->count);
    struct member member;
    for (size_t i = 0; i < owners->count; i++) {
        CHECK(i == 0 || owners->ids[i - 1] < owners->ids[i]);
        CHECK(rangemap_member_find(map, owners->ids[i], &member));
    }
}

static void check_shard(const struct rangemap *map, size_t index)
{
    struct shard shard = rangemap_shard(map, index);
    CHECK((shard.low.size == 0) == (index == 0));
    CHECK((shard.high.size == 0) == (index + 1 == rangemap_shard_count(map)));
    CHECK(shard.high.size == 0 || slice_compare(shard.low, shard.high) < 0);
    CHECK(rangemap_find(map, shard.low) == index);
    check_owners(map, &shard.owners);
    if (shard.stage == SHARD_STABLE) {
        CHECK(shard.next.count == 0);
    } else {
        check_owners(map, &shard.next);
        CHECK(!owners_equal(&shard.owners, &shard.next));
    }
    size_t first, end;
    rangemap_find_range(map, shard.low, shard.high, &first, &end);
    CHECK(first == index && end == index + 1);
    rangemap_find_prefix(map, shard.low, &first, &end);
    CHECK(first == index && end > index);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct heap heap;
    struct rangemap *map = NULL;
    heap_init(&heap, 0);
    if (rangemap_decode(&heap, slice_of(data, size), &map) == STATUS_OK) {
        struct buf again;
        buf_init(&again, &heap);
        rangemap_encode(map, &again);
        CHECK(slice_equal(buf_slice(&again), slice_of(data, size)));
        CHECK(rangemap_memory_bytes(map) <= RANGEMAP_BYTES_MAX);
        buf_deinit(&again);
        for (size_t i = 0; i < rangemap_shard_count(map); i++) check_shard(map, i);
        rangemap_unref(map);
    }
    CHECK(heap_used_bytes(&heap) == 0);
    return 0;
}
