/* Postings of a packed trie: for each tag the present ordinals that carry it.
 *
 *   u32  tag count
 *   u32  for each tag, and one more: where its entry starts, from the section's start
 *   entries, ascending by tag:
 *     u8 size, tag; varint count; varint first ordinal; varint difference to each next
 *
 * No bytes when no record has a tag. */
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "core/packed.h"
#include "core/pages.h"

struct postings {
    struct pages *pages;
    struct slice bytes;
    uint64_t ordinal_count; /* Of the file. */
};

/* What packed_tag() does. */
enum status postings_find(const struct postings *postings, struct slice tag,
                          struct packed_postings *out);

/* The tags one by one, for those who want to see them all. Errors: STATUS_CORRUPT. */
enum status postings_tag_count(const struct postings *postings, uint32_t *count);
enum status postings_tag_at(const struct postings *postings, uint32_t index, struct slice *tag);

struct postings_builder {
    struct heap *heap;
    struct postings_tag *tags;
    uint32_t *slots; /* Hash table: index of a tag and 1; 0: empty. */
    size_t tag_count, tag_capacity, slot_count;
    uint64_t size_bytes;
};

void postings_builder_init(struct postings_builder *builder, struct heap *heap);
void postings_builder_deinit(struct postings_builder *builder);

/* Ordinals come in ascending order. Errors: STATUS_NOMEM. */
enum status postings_builder_add(struct postings_builder *builder, struct slice tag,
                                 uint64_t ordinal);

/* Appends the section to `out`. Errors: STATUS_NOMEM; STATUS_LIMIT above 4 GiB. */
enum status postings_builder_finish(struct postings_builder *builder, struct buf *out);
