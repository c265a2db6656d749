#include "base/bytes.h"
#include "base/check.h"
#include "base/math.h"
#include "core/packed_parts.h"

/* Entries that an iterator passes one by one before it seeks. */
enum { STEP_MAX = 8 };

/* Sum of all below ordinal `index` * PACKED_SUM_ORDINALS, or of everything. */
static enum status sum_at(const struct packed *packed, uint64_t ordinal, struct sum *sum)
{
    struct pages *pages = packed->rows.pages;
    if (ordinal == 0) {
        *sum = (struct sum){0};
        return STATUS_OK;
    }
    if (ordinal == packed->footer.info.count) {
        *sum = packed->footer.info.sum;
        return STATUS_OK;
    }
    const uint8_t *at = packed->sums.data + (ordinal / PACKED_SUM_ORDINALS - 1) * PACKED_SUM_BYTES;
    enum status status = pages_touch(pages, (size_t)(at - pages->data), PACKED_SUM_BYTES);
    if (status == STATUS_OK) *sum = (struct sum){load_u64le(at), load_u64le(at + 8)};
    return status;
}

enum status packed_iterator_hash(struct packed_iterator *iterator, uint64_t ordinal,
                                 struct sum *sum)
{
    enum status status = STATUS_OK;
    bool stands = iterator->key.data != NULL;
    if (!stands || ordinal < iterator->ordinal || ordinal - iterator->ordinal > STEP_MAX)
        status = packed_iterator_seek(iterator, ordinal);
    while (status == STATUS_OK && iterator->ordinal < ordinal)
        status = packed_iterator_next(iterator);

    struct record record;
    if (status == STATUS_OK) status = packed_iterator_record(iterator, ordinal, &record);
    /* The ordinal exists: an end before it is a lie of the file. */
    if (status != STATUS_OK) return status == STATUS_END ? STATUS_CORRUPT : status;
    *sum = record_hash(iterator->key, &record, iterator->packed->footer.info.hash_seed);
    return STATUS_OK;
}

/* Adds the hashes of [low, high) to `sum`. */
static enum status sum_walk(struct packed_iterator *iterator, uint64_t low, uint64_t high,
                            struct sum *sum)
{
    struct sum total = {0};
    for (uint64_t ordinal = low; ordinal < high; ordinal++) {
        struct sum hash;
        enum status status = packed_iterator_hash(iterator, ordinal, &hash);
        if (status != STATUS_OK) return status;
        total = sum_add(total, hash);
    }
    *sum = sum_add(*sum, total);
    return STATUS_OK;
}

/* Sum of all below `ordinal`, from the nearer of the prefix sums around it. */
static enum status sum_below(struct packed_iterator *iterator, uint64_t ordinal, struct sum *sum)
{
    const struct packed *packed = iterator->packed;
    uint64_t before = ordinal - ordinal % PACKED_SUM_ORDINALS;
    uint64_t after = u64_min(before + PACKED_SUM_ORDINALS, packed->footer.info.count);
    struct sum total = {0}, walked = {0};
    if (ordinal - before <= after - ordinal) {
        enum status status = sum_at(packed, before, &total);
        if (status == STATUS_OK) status = sum_walk(iterator, before, ordinal, &walked);
        if (status == STATUS_OK) *sum = sum_add(total, walked);
        return status;
    }
    enum status status = sum_at(packed, after, &total);
    if (status == STATUS_OK) status = sum_walk(iterator, ordinal, after, &walked);
    if (status == STATUS_OK) *sum = sum_subtract(total, walked);
    return status;
}

enum status packed_sum(const struct packed *packed, uint64_t low, uint64_t high, struct sum *sum)
{
    CHECK(low <= high);
    CHECK(high <= packed->footer.info.count);

    struct packed_iterator iterator;
    enum status status = packed_iterator_init(&iterator, packed, packed->heap);
    if (status != STATUS_OK) return status;

    struct sum below_low = {0}, below_high = {0};
    if (high - low < PACKED_SUM_ORDINALS / 2) {
        status = sum_walk(&iterator, low, high, &below_high);
    } else {
        status = sum_below(&iterator, low, &below_low);
        if (status == STATUS_OK) status = sum_below(&iterator, high, &below_high);
    }
    if (status == STATUS_OK) *sum = sum_subtract(below_high, below_low);
    packed_iterator_deinit(&iterator);
    return status;
}

enum status packed_hash(const struct packed *packed, uint64_t ordinal, struct sum *sum)
{
    struct buf key;
    buf_init(&key, packed->heap);
    struct record record;
    enum status status = packed_key(packed, ordinal, &key);
    if (status == STATUS_OK) status = packed_record(packed, ordinal, &record);
    if (status == STATUS_OK)
        *sum = record_hash(buf_slice(&key), &record, packed->footer.info.hash_seed);
    buf_deinit(&key);
    return status;
}
