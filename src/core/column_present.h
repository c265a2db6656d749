/* Which entries of a packed trie are absent (tombstones, records that read as deleted),
 * as bits with rank. A file without any has no bytes here.
 *
 * One group for 512 ordinals: u64 absent before it, then eight u64 of bits. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "core/pages.h"

enum {
    PRESENT_GROUP = 512,
    PRESENT_GROUP_BYTES = 8 + PRESENT_GROUP / 8,
};

struct present {
    struct pages *pages;
    struct slice bytes; /* Empty: all are present. */
    uint64_t count;     /* Ordinals. */
};

/* Size in bytes when there is anything absent among `count` ordinals. */
static inline uint64_t present_bytes(uint64_t count)
{
    return (count + PRESENT_GROUP - 1) / PRESENT_GROUP * PRESENT_GROUP_BYTES;
}

/* Bit i: ordinal block * 32 + i is absent. */
enum status present_absent_mask(const struct present *present, uint64_t block, uint32_t *mask);

/* Present ordinals below `ordinal` <= count. */
enum status present_below(const struct present *present, uint64_t ordinal, uint64_t *count);

/* The present ordinal with `rank` present ones before it. Errors: STATUS_NOT_FOUND. */
enum status present_select(const struct present *present, uint64_t rank, uint64_t *ordinal);

struct present_builder {
    struct buf bytes; /* Groups up to the last absent ordinal. */
    uint64_t absent_count;
};

/* Absent ordinals come in ascending order. Failures show in builder->bytes. */
void present_builder_add_absent(struct present_builder *builder, uint64_t ordinal);

/* Completes the groups for `count` ordinals. */
void present_builder_finish(struct present_builder *builder, uint64_t count);
