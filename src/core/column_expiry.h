/* The present entries of a packed trie that expire, by (expires_at, ordinal).
 *
 * Entries of one width: expires_at less the file's first one in `time_bytes`, then the
 * ordinal in `ordinal_bytes`. */
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "core/pages.h"

struct expiry_shape {
    uint8_t time_bytes, ordinal_bytes;
    uint64_t first; /* Least expires_at; 0: nothing expires. */
};

struct expiry {
    struct pages *pages;
    struct slice bytes;
    struct expiry_shape shape;
    uint64_t ordinal_count; /* Of the file. */
};

/* Bytes of an entry. */
static inline unsigned expiry_stride(const struct expiry_shape *shape)
{
    return (unsigned)shape->time_bytes + shape->ordinal_bytes;
}

uint64_t expiry_count(const struct expiry *expiry);

/* `position` < count. */
enum status expiry_at(const struct expiry *expiry, uint64_t position, uint64_t *expires_at,
                      uint64_t *ordinal);

/* Number of entries with expires_at <= `upto`. */
enum status expiry_rank(const struct expiry *expiry, uint64_t upto, uint64_t *rank);

/* Takes an entry; `entries` gathers them. Failures show there. */
void expiry_builder_add(struct buf *entries, uint64_t expires_at, uint64_t ordinal);

/* Appends the section to `out`; sorts `entries`. */
void expiry_builder_finish(struct buf *entries, struct expiry_shape *shape, struct buf *out);
