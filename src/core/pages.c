#include "core/pages.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/math.h"

enum status pages_init(struct pages *pages, struct heap *heap, struct slice bytes,
                       const uint8_t *checksums)
{
    size_t page_count = (bytes.size + PAGES_BYTES - 1) >> PAGES_SHIFT;
    _Atomic uint64_t *checked = heap_zalloc(heap, (page_count + 63) / 64 * sizeof *checked);
    if (checked == NULL) return STATUS_NOMEM;

    pages->data = bytes.data;
    pages->size = bytes.size;
    pages->checksums = checksums;
    pages->checked = checked;
    atomic_init(&pages->damaged, false);
    return STATUS_OK;
}

void pages_deinit(struct pages *pages, struct heap *heap)
{
    heap_free(heap, pages->checked);
    pages->checked = NULL;
}

enum status pages_verify(struct pages *pages, size_t page)
{
    CHECK(page < pages_count(pages));

    size_t offset = page << PAGES_SHIFT;
    uint32_t crc = crc32c(0, pages->data + offset, size_min(PAGES_BYTES, pages->size - offset));
    if (crc != load_u32le(pages->checksums + 4 * page)) {
        atomic_store(&pages->damaged, true);
        return STATUS_CORRUPT;
    }

    atomic_fetch_or_explicit(&pages->checked[page / 64], UINT64_C(1) << page % 64,
                             memory_order_release);
    return STATUS_OK;
}

enum status pages_touch_slowly(struct pages *pages, size_t first, size_t last)
{
    for (size_t page = first; page <= last; page++) {
        if (pages_is_checked(pages, page)) continue;
        enum status status = pages_verify(pages, page);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}
