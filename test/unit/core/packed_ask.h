/* Asks an open packed trie everything, and makes its file believable again after a change.
 * For tests of damage, and for fuzzing. */
#pragma once

#include <xxhash.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/math.h"
#include "core/packed.h"
#include "core/packed_format.h"

/* At most this many ordinals, blocks and positions are asked for, from both ends. */
enum { ASK_MAX = 600 };

/* What was answered so far, as one number. */
struct ask {
    const struct packed *packed;
    struct heap *heap;
    uint64_t digest;
};

static inline void ask_take(struct ask *ask, const void *data, size_t size)
{
    ask->digest = XXH3_64bits_withSeed(data, size, ask->digest);
}

static inline void ask_number(struct ask *ask, uint64_t value)
{
    ask_take(ask, &value, sizeof value);
}

/* The i-th of at most ASK_MAX out of `count`, the last ones among them. */
static inline uint64_t ask_index(uint64_t i, uint64_t count)
{
    return count <= ASK_MAX || i < ASK_MAX / 2 ? i : count - ASK_MAX + i;
}

static inline enum status ask_key(struct ask *ask, uint64_t ordinal, struct buf *key)
{
    uint64_t found = 0, high = 0;
    bool exact = false;
    enum status status = packed_key(ask->packed, ordinal, key);
    if (status != STATUS_OK) return status;
    ask_take(ask, key->data, key->size);
    status = packed_find(ask->packed, buf_slice(key), &found);
    if (status != STATUS_OK && status != STATUS_NOT_FOUND) return status;
    ask_number(ask, found);
    status = packed_rank(ask->packed, buf_slice(key), &found, &exact);
    if (status != STATUS_OK) return status;
    ask_number(ask, found + exact);
    status = packed_prefix(ask->packed, slice_prefix(buf_slice(key), key->size / 2), &found, &high);
    if (status == STATUS_OK) ask_number(ask, found * 31 + high);
    return status;
}

static inline enum status ask_record(struct ask *ask, uint64_t ordinal, struct buf *bytes)
{
    struct record record;
    struct sum sum;
    uint64_t count = 0;
    enum status status = packed_record(ask->packed, ordinal, &record);
    if (status != STATUS_OK) return status;
    buf_clear(bytes);
    record_encode(&record, bytes);
    ask_take(ask, bytes->data, bytes->size);
    status = packed_hash(ask->packed, ordinal, &sum);
    if (status == STATUS_OK) status = packed_present_below(ask->packed, ordinal, &count);
    if (status != STATUS_OK) return status;
    ask_number(ask, sum.low ^ sum.high ^ count);
    status = packed_present_select(ask->packed, ordinal, &count);
    ask_number(ask, status == STATUS_OK ? count : 0);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

/* The same bests again, down to the first of them. */
static inline void ask_found(struct ask *ask, const struct best *bests, uint32_t found)
{
    ask_number(ask, found);
    for (; found != 0; found &= found - 1)
        ask_number(ask, bests[__builtin_ctz(found)].created_time);
}

static inline enum status ask_bests(struct ask *ask)
{
    struct best bests[PACKED_BLOCK], upto[PACKED_BLOCK];
    uint32_t found;
    for (unsigned level = 0; level < packed_info(ask->packed)->level_count; level++) {
        uint64_t count = packed_best_count(ask->packed, level);
        for (uint64_t i = 0; i < u64_min(count, ASK_MAX); i++) {
            enum status status =
                packed_bests(ask->packed, level, ask_index(i, count), PACKED_FAN_OUT, bests);
            if (status != STATUS_OK) return status;
            ask_number(ask, bests[0].score_order ^ bests[7].created_time ^ bests[1].created_node);
            status =
                packed_bests_upto(ask->packed, level, ask_index(i, count), bests[0], upto, &found);
            if (status != STATUS_OK) return status;
            ask_found(ask, upto, found);
        }
    }
    uint64_t count = packed_best_count(ask->packed, 0);
    for (uint64_t i = 0; i < u64_min(count, ASK_MAX); i++) {
        enum status status = packed_block_bests(ask->packed, ask_index(i, count), bests);
        if (status != STATUS_OK) return status;
        for (int j = 0; j < PACKED_BLOCK; j++)
            ask_number(ask, bests[j].score_order * 31 + bests[j].created_time);
        status = packed_block_bests_upto(ask->packed, ask_index(i, count), UINT32_MAX, bests[0],
                                         upto, &found);
        if (status != STATUS_OK) return status;
        ask_found(ask, upto, found);
    }
    return STATUS_OK;
}

static inline enum status ask_tag(struct ask *ask, const char *name)
{
    struct packed_postings postings = {0};
    uint64_t ordinal = 0;
    enum status status = packed_tag(ask->packed, slice_from_text(name), &postings);
    while (status == STATUS_OK) {
        ask_number(ask, ordinal);
        status = packed_postings_next(&postings, &ordinal);
    }
    return status == STATUS_NOT_FOUND || status == STATUS_END ? STATUS_OK : status;
}

static inline enum status ask_expiry(struct ask *ask)
{
    uint64_t first = 0, end = 0, time = 0, ordinal = 0;
    enum status status = packed_expiry_range(ask->packed, 100, 50000, &first, &end);
    if (status != STATUS_OK) return status;
    ask_number(ask, end - first);
    status = packed_expiry_range(ask->packed, 0, UINT64_MAX, &first, &end);
    if (status != STATUS_OK) return status;
    for (uint64_t i = 0; i < u64_min(end - first, ASK_MAX) && status == STATUS_OK; i++) {
        status = packed_expiry_at(ask->packed, first + i, &time, &ordinal);
        ask_number(ask, time * 31 + ordinal);
    }
    return status;
}

static inline enum status ask_walk(struct ask *ask)
{
    struct packed_iterator iterator;
    enum status status = packed_iterator_init(&iterator, ask->packed, ask->heap);
    if (status != STATUS_OK) return status;
    status = packed_iterator_seek(&iterator, 0);
    for (int i = 0; i < ASK_MAX && status == STATUS_OK; i++) {
        ask_take(ask, iterator.key.data, iterator.key.size);
        status = packed_iterator_next(&iterator);
    }
    if (status == STATUS_OK || status == STATUS_END)
        status = packed_iterator_seek(&iterator, packed_info(ask->packed)->count - 1);
    for (int i = 0; i < ASK_MAX && status == STATUS_OK; i++) {
        ask_take(ask, iterator.key.data, iterator.key.size);
        status = packed_iterator_previous(&iterator);
    }
    packed_iterator_deinit(&iterator);
    return status == STATUS_END ? STATUS_OK : status;
}

static inline enum status ask_entries(struct ask *ask)
{
    struct buf bytes;
    buf_init(&bytes, ask->heap);
    uint64_t count = packed_info(ask->packed)->count;
    enum status status = STATUS_OK;
    for (uint64_t i = 0; i < u64_min(count, ASK_MAX) && status == STATUS_OK; i++) {
        uint64_t ordinal = ask_index(i, count);
        status = ask_key(ask, ordinal, &bytes);
        if (status == STATUS_OK) status = ask_record(ask, ordinal, &bytes);
    }
    buf_deinit(&bytes);
    return status;
}

/* Asks everything of `packed`; the first failure ends it. `digest` stands for all answers. */
static inline enum status ask_all(const struct packed *packed, struct heap *heap, uint64_t *digest)
{
    struct ask ask = {.packed = packed, .heap = heap};
    const struct packed_info *info = packed_info(packed);
    ask_take(&ask, info->key_first.data, info->key_first.size);
    ask_take(&ask, info->key_last.data, info->key_last.size);
    ask_number(&ask, info->present_count * 31 + info->tombstone_count);

    struct sum sum = {0};
    enum status status = ask_entries(&ask);
    if (status == STATUS_OK) status = ask_bests(&ask);
    if (status == STATUS_OK) status = ask_tag(&ask, "alpha");
    if (status == STATUS_OK) status = ask_tag(&ask, "x");
    if (status == STATUS_OK) status = ask_expiry(&ask);
    if (status == STATUS_OK) status = ask_walk(&ask);
    if (status == STATUS_OK) status = packed_sum(packed, info->count / 3, info->count, &sum);
    ask_number(&ask, sum.low);
    if (status == STATUS_OK) *digest = ask.digest;
    return status;
}

/* Opens, asks everything, closes. */
static inline enum status ask_file(struct slice file, struct heap *heap, uint64_t *digest)
{
    struct packed *packed = NULL;
    enum status status = packed_open(heap, file, &packed);
    if (status != STATUS_OK) return status;
    status = ask_all(packed, heap, digest);
    packed_close(packed);
    return status;
}

/* Bytes of the footer in front of the keys, which come last in it. */
enum { ASK_FOOTER_FIXED = 32 + 20 + 16 + 16 + 20 + 10 + 4 + 16 * PACKED_SECTION_COUNT + 16 + 4 };

/* Computes all checksums anew over a file that was changed in front of its tail. `checksums`
 * says where they were before the change. */
static inline void ask_reseal(uint8_t *file, size_t size, struct packed_extent checksums)
{
    for (uint64_t at = 0; at < checksums.offset; at += PAGES_BYTES) {
        size_t page = (size_t)u64_min(PAGES_BYTES, checksums.offset - at);
        store_u32le(file + checksums.offset + at / PAGES_BYTES * 4, crc32c(0, file + at, page));
    }
    uint8_t *tail = file + size - PACKED_TAIL_BYTES, *footer = tail - load_u32le(tail);
    XXH128_hash_t content = XXH3_128bits(file + checksums.offset, checksums.size);
    store_u64le(footer + ASK_FOOTER_FIXED - 20, content.low64);
    store_u64le(footer + ASK_FOOTER_FIXED - 12, content.high64);
    uint32_t crc = crc32c(0, file + checksums.offset, checksums.size);
    store_u32le(footer + ASK_FOOTER_FIXED - 4, crc);
    store_u32le(tail + 12, crc32c(0, footer, (size_t)(tail - footer) + 12));
}
