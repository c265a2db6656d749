/* Pages of a mapped file that are checked when they are first touched.
 *
 * Nothing may be read from `data` before pages_touch() of the same bytes returned
 * STATUS_OK. A page is checked once; after that a touch is one load.
 *
 * A page whose checksum is wrong marks the whole file `damaged` and is refused, now and
 * later: its bit is never set.
 *
 * Threads: any number of readers. Two that race on one page both compute its checksum
 *          and both find the same. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/slice.h"
#include "base/status.h"

enum { PAGES_BYTES = 4096, PAGES_SHIFT = 12 };

struct pages {
    const uint8_t *data;
    size_t size;               /* Bytes under checksums; the last page may be short. */
    const uint8_t *checksums;  /* CRC-32C of each page, u32 little-endian. */
    _Atomic uint64_t *checked; /* One bit for each page. */
    atomic_bool damaged;
};

/* `checksums` has a u32 for each page of `bytes` and was checked by the caller; both are
 * borrowed until pages_deinit(). Errors: STATUS_NOMEM. */
enum status pages_init(struct pages *pages, struct heap *heap, struct slice bytes,
                       const uint8_t *checksums);
void pages_deinit(struct pages *pages, struct heap *heap);

static inline size_t pages_count(const struct pages *pages)
{
    return (pages->size + PAGES_BYTES - 1) >> PAGES_SHIFT;
}

/* Checks one page, also one that was checked before. Errors: STATUS_CORRUPT. */
enum status pages_verify(struct pages *pages, size_t page);

/* Private: the pages [first, last] one by one. */
enum status pages_touch_slowly(struct pages *pages, size_t first, size_t last);

static inline bool pages_is_checked(const struct pages *pages, size_t page)
{
    /* Acquire pairs with the release in pages_verify(); it costs nothing on x86. */
    uint64_t word = atomic_load_explicit(&pages->checked[page / 64], memory_order_acquire);
    return word >> page % 64 & 1;
}

/* Says whether the `size` bytes at `offset` may be read.
 *
 * Errors: STATUS_CORRUPT when they are not all inside, or lie on a damaged page. */
static inline enum status pages_touch(struct pages *pages, size_t offset, size_t size)
{
    if (__builtin_expect(offset > pages->size || size > pages->size - offset, 0))
        return STATUS_CORRUPT;
    if (size == 0) return STATUS_OK;

    size_t first = offset >> PAGES_SHIFT, last = (offset + size - 1) >> PAGES_SHIFT;
    if (__builtin_expect(last - first <= 1, 1)) {
        bool checked = pages_is_checked(pages, first) && pages_is_checked(pages, last);
        if (__builtin_expect(checked, 1)) return STATUS_OK;
    }
    return pages_touch_slowly(pages, first, last);
}

/* The same for `bytes`, a slice of `data`. */
static inline enum status pages_touch_slice(struct pages *pages, struct slice bytes)
{
    return pages_touch(pages, (size_t)(bytes.data - pages->data), bytes.size);
}
