#include "core/front_block.h"

#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/check.h"

enum { LINE_BYTES = 64, PREFETCH_BYTES = 6 * LINE_BYTES };

/* --- Where a block lies --- */

static enum status touch(const struct front *front, const uint8_t *at, uint64_t size)
{
    return pages_touch(front->pages, (size_t)(at - front->pages->data), size);
}

static uint64_t group_start(const uint8_t *group)
{
    return load_u32le(group) | (uint64_t)(load_u16le(group + 4) >> 4) << 32;
}

/* Where in the level the bytes of `block` lie; not yet touched, but inside. */
static inline enum status block_find(const struct front *front, const struct front_level *level,
                                     uint64_t block, struct slice *bytes)
{
    const uint8_t *group = level->offsets + block / FRONT_GROUP * FRONT_GROUP_BYTES;
    size_t slot = block % FRONT_GROUP;
    bool is_last = block + 1 == level->block_count;
    bool needs_next = slot == FRONT_GROUP - 1 && !is_last;
    enum status status = touch(front, group, FRONT_GROUP_BYTES + (needs_next ? 6 : 0));
    if (status != STATUS_OK) return status;

    unsigned shift = load_u16le(group + 4) & 15;
    uint64_t base = group_start(group);
    const uint8_t *slots = group + 4;
    uint64_t start = base, end = level->size;
    if (slot != 0) start += (uint64_t)load_u16le(slots + 2 * slot) << shift;
    if (needs_next)
        end = group_start(group + FRONT_GROUP_BYTES);
    else if (!is_last)
        end = base + ((uint64_t)load_u16le(slots + 2 * slot + 2) << shift);
    if (start > end || end > level->size || end - start > UINT32_MAX) return STATUS_CORRUPT;

    *bytes = (struct slice){level->data + start, end - start};
    return STATUS_OK;
}

/* Starts loading a block, all of it as a rule. */
static inline void prefetch(struct slice bytes)
{
    for (size_t line = 0; line < bytes.size && line < PREFETCH_BYTES; line += LINE_BYTES)
        __builtin_prefetch(bytes.data + line);
}

void front_block_prefetch(const struct front *front, unsigned level, uint64_t index)
{
    struct slice bytes;
    if (front->tops[level] != NULL) {
        const struct front_block *top = &front->tops[level][index];
        prefetch(slice_of(top, sizeof *top));
    } else if (block_find(front, &front->levels[level], index, &bytes) == STATUS_OK) {
        prefetch(bytes);
    }
}

/* Starts loading where the blocks under the items of a block start: two groups. */
static inline void offsets_prefetch(const struct front *front, unsigned level, uint64_t block)
{
    if (level == 0) return;
    const uint8_t *offsets = front->levels[level - 1].offsets +
                             block * (FRONT_BLOCK / FRONT_GROUP) * FRONT_GROUP_BYTES;
    __builtin_prefetch(offsets);
    __builtin_prefetch(offsets + LINE_BYTES);
}

/* --- Headers --- */

bool front_block_escape(const struct front_block *block, uint32_t at, int32_t *shared,
                        struct slice *codes)
{
    if (at > block->limit) return false;
    struct reader reader = {block->codes + at, block->codes + block->limit, false};
    uint64_t own_shared = reader_varint(&reader);
    uint64_t size = reader_varint(&reader);
    if (reader.failed || own_shared > KEY_BYTES_MAX || size > reader_left(&reader)) return false;
    *shared = (int32_t)own_shared;
    *codes = (struct slice){reader.at, (size_t)size};
    return true;
}

/* Adds up the headers of `count` items. */
static inline bool headers_read(const struct front *front, struct front_block *block,
                                unsigned count, int32_t first_shared)
{
    const uint8_t *headers = block->headers;
    const int64_t *steps = front->steps;
    int64_t sum = (int64_t)first_shared * (INT64_C(1) << 32);
    block->sums[0] = sum;
    for (unsigned i = 1; i < count; i++) {
        unsigned header = headers[i - 1];
        sum += steps[header];
        if (__builtin_expect(header == FRONT_HEADER_ESCAPE, 0)) {
            int32_t shared;
            struct slice codes;
            if (!front_block_escape(block, (uint32_t)sum, &shared, &codes)) return false;
            sum = (int64_t)shared * (INT64_C(1) << 32) + (codes.data - block->codes) +
                  (int64_t)codes.size;
        }
        block->sums[i] = sum;
    }
    memset(block->sums + count, 0, (FRONT_BLOCK - count) * sizeof *block->sums);
    return true;
}

#ifdef __SSE2__
/* What four items share: the upper halves of four sums. */
static __m128i shared_of_four(const int64_t *sums)
{
    __m128 low = _mm_loadu_ps((const float *)(const void *)sums);
    __m128 high = _mm_loadu_ps((const float *)(const void *)(sums + 2));
    return _mm_castps_si128(_mm_shuffle_ps(low, high, _MM_SHUFFLE(3, 1, 3, 1)));
}

static void shared_gather(struct front_block *block)
{
    for (unsigned i = 0; i < FRONT_BLOCK; i += 8) {
        __m128i eight =
            _mm_packs_epi32(shared_of_four(block->sums + i), shared_of_four(block->sums + i + 4));
        _mm_store_si128((__m128i *)(void *)(block->shared + i), eight);
    }
}

uint32_t front_items_below(const struct front_block *block, size_t limit)
{
    const __m128i *shared = (const __m128i *)(const void *)block->shared;
    __m128i limits = _mm_set1_epi16((short)limit);
    __m128i low = _mm_packs_epi16(_mm_cmpgt_epi16(limits, _mm_load_si128(shared)),
                                  _mm_cmpgt_epi16(limits, _mm_load_si128(shared + 1)));
    __m128i high = _mm_packs_epi16(_mm_cmpgt_epi16(limits, _mm_load_si128(shared + 2)),
                                   _mm_cmpgt_epi16(limits, _mm_load_si128(shared + 3)));
    return (uint32_t)_mm_movemask_epi8(low) | (uint32_t)_mm_movemask_epi8(high) << 16;
}

uint32_t front_items_from(const struct front_block *block, uint8_t byte)
{
    const __m128i *first = (const __m128i *)(const void *)block->first;
    __m128i limit = _mm_set1_epi8((char)byte);
    __m128i low = _mm_load_si128(first), high = _mm_load_si128(first + 1);
    low = _mm_cmpeq_epi8(_mm_max_epu8(low, limit), low);
    high = _mm_cmpeq_epi8(_mm_max_epu8(high, limit), high);
    return (uint32_t)_mm_movemask_epi8(low) | (uint32_t)_mm_movemask_epi8(high) << 16;
}
#else
static void shared_gather(struct front_block *block)
{
    for (unsigned i = 0; i < FRONT_BLOCK; i++) {
        int64_t shared = block->sums[i] >> 32;
        if (shared > INT16_MAX) shared = INT16_MAX;
        if (shared < INT16_MIN) shared = INT16_MIN;
        block->shared[i] = (int16_t)shared;
    }
}

uint32_t front_items_below(const struct front_block *block, size_t limit)
{
    uint32_t items = 0;
    for (unsigned i = 0; i < FRONT_BLOCK; i++)
        items |= (uint32_t)(block->shared[i] < (int32_t)limit) << i;
    return items;
}

uint32_t front_items_from(const struct front_block *block, uint8_t byte)
{
    uint32_t items = 0;
    for (unsigned i = 0; i < FRONT_BLOCK; i++) items |= (uint32_t)(block->first[i] >= byte) << i;
    return items;
}
#endif

enum status front_block_open(const struct front *front, unsigned level, uint64_t index,
                             int32_t shared, unsigned last, struct front_block *block)
{
    const struct front_level *shape = &front->levels[level];
    struct slice bytes;
    enum status status = block_find(front, shape, index, &bytes);
    if (status == STATUS_OK) {
        prefetch(bytes);
        offsets_prefetch(front, level, index);
    }
    if (status == STATUS_OK) status = touch(front, bytes.data, bytes.size);
    if (status != STATUS_OK) return status;

    uint64_t left = shape->item_count - index * FRONT_BLOCK;
    unsigned count = left < FRONT_BLOCK ? (unsigned)left : FRONT_BLOCK;
    size_t head_start = level == 0 ? 0 : 2;
    size_t head_size = 0;
    if (bytes.size < head_start + count - 1) return STATUS_CORRUPT;
    if (level != 0) head_size = load_u16le(bytes.data);
    size_t entries = head_start + count - 1 + head_size;
    if (bytes.size < entries) return STATUS_CORRUPT;

    block->headers = bytes.data + head_start;
    block->codes = bytes.data + entries;
    block->limit = (uint32_t)(bytes.size - entries);
    block->count = count;
    block->head = (struct slice){bytes.data + entries - head_size, head_size};
    unsigned read = last < count ? last + 1 : count;
    if (!headers_read(front, block, read, shared)) return STATUS_CORRUPT;
    shared_gather(block);
    block->has_first = false;
    return STATUS_OK;
}

/* --- Blocks that are kept open --- */

static bool first_bytes_read(const struct front *front, struct front_block *block)
{
    memset(block->first, 0, sizeof block->first);
    for (unsigned i = 1; i < block->count; i++)
        if (!front_block_first(front, block, i, &block->first[i])) return false;
    return true;
}

enum status front_tops_open(struct front *front)
{
    for (unsigned level = 1; level < front->level_count; level++) {
        const struct front_level *shape = &front->levels[level];
        uint64_t count = shape->block_count;
        /* Each block has the size of its head, and each item but the first a header. */
        if (shape->size < count || shape->size - count < shape->item_count) return STATUS_CORRUPT;
        struct front_block *tops = heap_zalloc(front->heap, count * sizeof *tops);
        if (tops == NULL) return STATUS_NOMEM;
        front->tops[level] = tops;
        for (uint64_t i = 0; i < count; i++) {
            enum status status = front_block_open(front, level, i, 0, FRONT_BLOCK, &tops[i]);
            tops[i].has_first = status == STATUS_OK && first_bytes_read(front, &tops[i]);
        }
    }
    return STATUS_OK;
}

void front_tops_close(struct front *front)
{
    for (unsigned level = 0; level < FRONT_LEVEL_MAX; level++)
        heap_free(front->heap, front->tops[level]);
}

enum status front_block_get(const struct front *front, unsigned level, uint64_t index,
                            struct front_block *storage, const struct front_block **out)
{
    if (front->tops[level] != NULL && front->tops[level][index].has_first) {
        *out = &front->tops[level][index];
        return STATUS_OK;
    }
    *out = storage;
    return front_block_open(front, level, index, 0, FRONT_BLOCK, storage);
}
