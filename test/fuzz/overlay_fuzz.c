/* Any bytes as an overlay, under a right header and checksum: they are refused and nothing
 * is kept, or they are taken and written again as they were. The input: u32 number of
 * ordinals, then the root. */
#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "core/overlay.h"

enum { ORDINAL_COUNT_MAX = 1 << 20 };

static void decode(struct overlay_space *space, struct slice bytes, uint64_t ordinal_count,
                   struct heap *heap)
{
    overlay_root root = 0;
    if (overlay_decode(space, bytes, ordinal_count, &root) == STATUS_OK) {
        struct buf again;
        buf_init(&again, heap);
        overlay_encode(space, root, ordinal_count, &again);
        CHECK(slice_equal(buf_slice(&again), bytes));
        buf_deinit(&again);
        overlay_retire(space, &root, ordinal_count);
    }
    CHECK(root == 0);
    CHECK(space->arena.used_bytes == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 4) return 0;
    uint64_t ordinal_count = load_u32le(data) % ORDINAL_COUNT_MAX;
    struct heap heap;
    struct overlay_space space;
    struct buf bytes;
    heap_init(&heap, 0);
    buf_init(&bytes, &heap);
    CHECK(overlay_space_init(&space, &heap) == STATUS_OK);

    decode(&space, slice_of(data + 4, size - 4), ordinal_count, &heap);
    buf_append_text(&bytes, "TrOv");
    buf_append_u8(&bytes, 1);
    buf_append_varint(&bytes, ordinal_count);
    buf_append(&bytes, data + 4, size - 4);
    buf_append_u32le(&bytes, crc32c(0, bytes.data, bytes.size));
    decode(&space, buf_slice(&bytes), ordinal_count, &heap);

    buf_deinit(&bytes);
    overlay_space_deinit(&space);
    CHECK(heap_used_bytes(&heap) == 0);
    return 0;
}
