/* What every strict decoder has to stand: each bit flip and each truncation of valid bytes,
 * read where memory ends. */
#pragma once

#include "base/buf.h"
#include "guard.h"
#include "test.h"

/* Takes the bytes, and then appends them again to `again` as it understood them; false when it
 * refuses them. */
typedef bool strict_decode(struct slice bytes, struct buf *again);

static inline void strict_try(strict_decode *decode, struct guard *guard, struct slice bytes,
                              struct buf *again)
{
    buf_clear(again);
    if (decode(guard_copy(guard, bytes), again)) EXPECT(slice_equal(buf_slice(again), bytes));
}

/* `bytes` is valid. What is taken after a flip is another value, told by its very bytes. */
static inline void expect_strict(strict_decode *decode, struct slice bytes)
{
    struct heap heap;
    heap_init(&heap, 0);
    struct buf again = {.heap = &heap};
    struct buf flipped = {.heap = &heap};
    struct guard guard = guard_create(bytes.size + 1);

    EXPECT(decode(guard_copy(&guard, bytes), &again));
    EXPECT(slice_equal(buf_slice(&again), bytes));
    for (size_t size = 0; size < bytes.size; size++) {
        EXPECT(!decode(guard_copy(&guard, slice_prefix(bytes, size)), &again));
    }
    buf_append_slice(&flipped, bytes);
    buf_append_u8(&flipped, 0);
    EXPECT(!decode(guard_copy(&guard, buf_slice(&flipped)), &again));
    flipped.size = bytes.size;
    for (size_t bit = 0; bit < bytes.size * 8; bit++) {
        flipped.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        strict_try(decode, &guard, buf_slice(&flipped), &again);
        flipped.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    guard_destroy(&guard);
    buf_deinit(&again);
    buf_deinit(&flipped);
    EXPECT(heap_used_bytes(&heap) == 0);
}
