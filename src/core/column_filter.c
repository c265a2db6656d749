#include "core/column_filter.h"

#include <string.h>

#include "base/bytes.h"

enum { POSITION_BITS = 9 };

static inline uint64_t positions_of(uint64_t hash)
{
    return hash * UINT64_C(0x9e3779b97f4a7c15);
}

static inline unsigned position_take(uint64_t *positions)
{
    unsigned position = (unsigned)(*positions >> (64 - POSITION_BITS));
    *positions <<= POSITION_BITS;
    return position;
}

enum status filter_has(const struct filter *filter, uint64_t hash, bool *maybe)
{
    uint64_t line_count = filter->bytes.size / FILTER_LINE_BYTES;
    const uint8_t *line = filter->bytes.data + filter_line(hash, line_count);
    enum status status =
        pages_touch(filter->pages, (size_t)(line - filter->pages->data), FILTER_LINE_BYTES);
    if (status != STATUS_OK) return status;

    uint64_t positions = positions_of(hash);
    unsigned all = 1;
    for (unsigned i = 0; i < FILTER_PROBES; i++) {
        unsigned position = position_take(&positions);
        all &= line[position / 8] >> position % 8;
    }
    *maybe = all & 1;
    return STATUS_OK;
}

void filter_add(uint8_t *lines, uint64_t size, uint64_t hash)
{
    uint8_t *line = lines + filter_line(hash, size / FILTER_LINE_BYTES);
    uint64_t positions = positions_of(hash);
    for (unsigned probe = 0; probe < FILTER_PROBES; probe++) {
        unsigned position = position_take(&positions);
        line[position / 8] |= (uint8_t)(1 << position % 8);
    }
}

void filter_build(const uint8_t *hashes, uint64_t count, struct buf *out)
{
    uint64_t bytes = filter_bytes(count);
    uint8_t *data = buf_reserve(out, bytes);
    if (data == NULL) return;
    memset(data, 0, bytes);
    enum { AHEAD_COUNT = 16 }; /* Each line is a miss: load it in time. */
    for (uint64_t i = 0; i < count; i++) {
        if (i + AHEAD_COUNT < count) {
            uint64_t ahead = load_u64le(hashes + 8 * (i + AHEAD_COUNT));
            __builtin_prefetch(data + filter_line(ahead, bytes / FILTER_LINE_BYTES), 1);
        }
        filter_add(data, bytes, load_u64le(hashes + 8 * i));
    }
    buf_commit(out, bytes);
}
