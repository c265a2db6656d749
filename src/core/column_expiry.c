#include "core/column_expiry.h"

#include <stdlib.h>

#include "base/bytes.h"
#include "base/check.h"
#include "core/column_bits.h"

struct entry {
    uint64_t expires_at, ordinal;
};

uint64_t expiry_count(const struct expiry *expiry)
{
    return expiry->bytes.size == 0 ? 0 : expiry->bytes.size / expiry_stride(&expiry->shape);
}

enum status expiry_at(const struct expiry *expiry, uint64_t position, uint64_t *expires_at,
                      uint64_t *ordinal)
{
    CHECK(position < expiry_count(expiry));

    const struct expiry_shape *shape = &expiry->shape;
    unsigned stride = expiry_stride(shape);
    const uint8_t *at = expiry->bytes.data + position * stride;
    enum status status = pages_touch(expiry->pages, (size_t)(at - expiry->pages->data), stride);
    if (status != STATUS_OK) return status;

    uint64_t time = shape->first + bits_load_bytes(at, shape->time_bytes);
    uint64_t found = bits_load_bytes(at + shape->time_bytes, shape->ordinal_bytes);
    if (found >= expiry->ordinal_count || time < shape->first) return STATUS_CORRUPT;
    *expires_at = time;
    *ordinal = found;
    return STATUS_OK;
}

enum status expiry_rank(const struct expiry *expiry, uint64_t upto, uint64_t *rank)
{
    uint64_t low = 0, high = expiry_count(expiry);
    while (low < high) {
        uint64_t middle = low + (high - low) / 2, time = 0, ordinal = 0;
        enum status status = expiry_at(expiry, middle, &time, &ordinal);
        if (status != STATUS_OK) return status;
        if (time <= upto) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *rank = low;
    return STATUS_OK;
}

/* --- Building --- */

void expiry_builder_add(struct buf *entries, uint64_t expires_at, uint64_t ordinal)
{
    struct entry entry = {expires_at, ordinal};
    buf_append(entries, &entry, sizeof entry);
}

static int entry_compare(const void *left, const void *right)
{
    const struct entry *a = left, *b = right;
    if (a->expires_at != b->expires_at) return a->expires_at < b->expires_at ? -1 : 1;
    return (a->ordinal > b->ordinal) - (a->ordinal < b->ordinal);
}

static struct entry entry_at(const struct buf *entries, size_t index)
{
    struct entry entry;
    memcpy(&entry, entries->data + index * sizeof entry, sizeof entry);
    return entry;
}

void expiry_builder_finish(struct buf *entries, struct expiry_shape *shape, struct buf *out)
{
    *shape = (struct expiry_shape){0};
    size_t count = entries->size / sizeof(struct entry);
    if (entries->failed) out->failed = true;
    if (count == 0 || out->failed) return;

    uint64_t last_ordinal = 0;
    for (size_t i = 0; i < count; i++) last_ordinal |= entry_at(entries, i).ordinal;
    qsort(entries->data, count, sizeof(struct entry), entry_compare);
    shape->first = entry_at(entries, 0).expires_at;
    shape->time_bytes =
        (uint8_t)bits_width_bytes(entry_at(entries, count - 1).expires_at - shape->first);
    shape->ordinal_bytes = (uint8_t)bits_width_bytes(last_ordinal | 1);

    for (size_t i = 0; i < count; i++) {
        struct entry entry = entry_at(entries, i);
        uint8_t bytes[16] = {0};
        store_u64le(bytes, entry.expires_at - shape->first);
        store_u64le(bytes + shape->time_bytes, entry.ordinal);
        buf_append(out, bytes, expiry_stride(shape));
    }
}
