#include "core/column_present.h"

#include <string.h>

#include "base/bytes.h"

enum { WORD_BITS = 64 };

static enum status group_at(const struct present *present, uint64_t group, const uint8_t **out)
{
    const uint8_t *at = present->bytes.data + group * PRESENT_GROUP_BYTES;
    enum status status =
        pages_touch(present->pages, (size_t)(at - present->pages->data), PRESENT_GROUP_BYTES);
    if (status == STATUS_OK) *out = at;
    return status;
}

static inline uint64_t word_at(const uint8_t *group, unsigned word)
{
    return load_u64le(group + 8 + 8 * (size_t)word);
}

enum status present_absent_mask(const struct present *present, uint64_t block, uint32_t *mask)
{
    if (present->bytes.size == 0) {
        *mask = 0;
        return STATUS_OK;
    }
    const uint8_t *group = NULL;
    enum status status = group_at(present, block / (PRESENT_GROUP / 32), &group);
    if (status == STATUS_OK) *mask = load_u32le(group + 8 + block % (PRESENT_GROUP / 32) * 4);
    return status;
}

enum status present_below(const struct present *present, uint64_t ordinal, uint64_t *count)
{
    if (present->bytes.size == 0 || ordinal == 0) {
        *count = ordinal;
        return STATUS_OK;
    }

    /* The group of the ordinal before: `ordinal` itself may lie past the last group. */
    uint64_t last = ordinal - 1;
    const uint8_t *group = NULL;
    enum status status = group_at(present, last / PRESENT_GROUP, &group);
    if (status != STATUS_OK) return status;

    uint64_t absent = load_u64le(group);
    unsigned within = (unsigned)(last % PRESENT_GROUP);
    for (unsigned word = 0; word < within / WORD_BITS; word++)
        absent += (unsigned)__builtin_popcountll(word_at(group, word));
    uint64_t bits = word_at(group, within / WORD_BITS) << (WORD_BITS - 1 - within % WORD_BITS);
    absent += (unsigned)__builtin_popcountll(bits);
    if (absent > ordinal) return STATUS_CORRUPT;
    *count = ordinal - absent;
    return STATUS_OK;
}

/* The last group with at most `rank` present ones before it. */
static enum status group_find(const struct present *present, uint64_t rank, uint64_t *out)
{
    uint64_t low = 0, high = present->bytes.size / PRESENT_GROUP_BYTES;
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2, count = 0;
        enum status status = present_below(present, middle * PRESENT_GROUP, &count);
        if (status != STATUS_OK) return status;
        if (count <= rank) {
            low = middle;
        } else {
            high = middle;
        }
    }
    *out = low;
    return STATUS_OK;
}

/* Index of the set bit of `bits` with `rank` set ones below it. */
static unsigned bit_select(uint64_t bits, uint64_t rank)
{
    while (rank-- > 0) bits &= bits - 1;
    return (unsigned)__builtin_ctzll(bits);
}

enum status present_select(const struct present *present, uint64_t rank, uint64_t *ordinal)
{
    if (rank >= present->count) return STATUS_NOT_FOUND;
    if (present->bytes.size == 0) {
        *ordinal = rank;
        return STATUS_OK;
    }

    uint64_t index = 0, before = 0;
    enum status status = group_find(present, rank, &index);
    if (status == STATUS_OK) status = present_below(present, index * PRESENT_GROUP, &before);
    const uint8_t *group = NULL;
    if (status == STATUS_OK) status = group_at(present, index, &group);
    if (status != STATUS_OK) return status;
    if (before > rank) return STATUS_CORRUPT;

    rank -= before;
    for (unsigned word = 0; word < PRESENT_GROUP / WORD_BITS; word++) {
        uint64_t bits = ~word_at(group, word);
        unsigned count = (unsigned)__builtin_popcountll(bits);
        if (rank < count) {
            uint64_t found = index * PRESENT_GROUP + word * WORD_BITS + bit_select(bits, rank);
            if (found >= present->count) return STATUS_NOT_FOUND;
            *ordinal = found;
            return STATUS_OK;
        }
        rank -= count;
    }
    return STATUS_NOT_FOUND;
}

/* --- Building --- */

static void append_groups(struct present_builder *builder, uint64_t bytes)
{
    while (builder->bytes.size < bytes && !builder->bytes.failed) {
        uint8_t group[PRESENT_GROUP_BYTES] = {0};
        store_u64le(group, builder->absent_count);
        buf_append(&builder->bytes, group, sizeof group);
    }
}

void present_builder_add_absent(struct present_builder *builder, uint64_t ordinal)
{
    uint64_t group = ordinal / PRESENT_GROUP;
    append_groups(builder, (group + 1) * PRESENT_GROUP_BYTES);
    if (builder->bytes.failed) return;
    uint8_t *bits = builder->bytes.data + group * PRESENT_GROUP_BYTES + 8;
    bits[ordinal % PRESENT_GROUP / 8] |= (uint8_t)(1 << ordinal % 8);
    builder->absent_count++;
}

void present_builder_finish(struct present_builder *builder, uint64_t count)
{
    if (builder->absent_count > 0) append_groups(builder, present_bytes(count));
}
