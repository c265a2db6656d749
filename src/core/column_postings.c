#include "core/column_postings.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/math.h"

enum { SLOT_COUNT_FIRST = 64 };

/* --- Reading --- */

/* Bytes [start, end) of entry `index`, touched. */
static enum status entry_find(const struct postings *postings, uint32_t index, uint32_t tag_count,
                              struct slice *out)
{
    struct slice bytes = postings->bytes;
    struct slice offsets = slice_of(bytes.data + 4 + 4 * (size_t)index, 8);
    enum status status = pages_touch_slice(postings->pages, offsets);
    if (status != STATUS_OK) return status;

    uint32_t start = load_u32le(offsets.data), end = load_u32le(offsets.data + 4);
    if (start < 4 + 4 * ((size_t)tag_count + 1) || end > bytes.size || start >= end)
        return STATUS_CORRUPT;
    *out = slice_of(bytes.data + start, end - start);
    return STATUS_OK;
}

static enum status entry_tag(const struct postings *postings, struct slice entry, struct slice *tag)
{
    enum status status = pages_touch_slice(postings->pages, slice_prefix(entry, 1));
    if (status != STATUS_OK) return status;
    if (entry.data[0] > TAG_BYTES_MAX || entry.data[0] >= entry.size) return STATUS_CORRUPT;
    *tag = slice_of(entry.data + 1, entry.data[0]);
    return pages_touch_slice(postings->pages, *tag);
}

static enum status entry_open(const struct postings *postings, struct slice entry,
                              struct packed_postings *out)
{
    enum status status = pages_touch_slice(postings->pages, entry);
    if (status != STATUS_OK) return status;

    struct reader reader = reader_of(slice_from(entry, 1 + (size_t)entry.data[0]));
    uint64_t count = reader_varint(&reader);
    if (reader.failed || count == 0 || count > reader_left(&reader)) return STATUS_CORRUPT;
    *out = (struct packed_postings){
        .bytes = slice_of(reader.at, reader_left(&reader)),
        .count = count,
        .left = count,
        .ordinal_count = postings->ordinal_count,
    };
    return STATUS_OK;
}

enum status postings_tag_count(const struct postings *postings, uint32_t *count)
{
    *count = 0;
    if (postings->bytes.size == 0) return STATUS_OK;
    if (postings->bytes.size < 4) return STATUS_CORRUPT;
    enum status status = pages_touch_slice(postings->pages, slice_prefix(postings->bytes, 4));
    if (status != STATUS_OK) return status;
    uint32_t found = load_u32le(postings->bytes.data);
    if (found > (postings->bytes.size - 4) / 4) return STATUS_CORRUPT;
    if (4 + 4 * ((size_t)found + 1) > postings->bytes.size) return STATUS_CORRUPT;
    *count = found;
    return STATUS_OK;
}

/* `index` < the count. */
enum status postings_tag_at(const struct postings *postings, uint32_t index, struct slice *tag)
{
    uint32_t tag_count;
    struct slice entry = {NULL, 0};
    enum status status = postings_tag_count(postings, &tag_count);
    if (status == STATUS_OK) status = entry_find(postings, index, tag_count, &entry);
    if (status == STATUS_OK) status = entry_tag(postings, entry, tag);
    return status;
}

enum status postings_find(const struct postings *postings, struct slice tag,
                          struct packed_postings *out)
{
    uint32_t tag_count;
    enum status status = postings_tag_count(postings, &tag_count);
    if (status != STATUS_OK) return status;

    uint32_t low = 0, high = tag_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        struct slice entry = {NULL, 0}, found = {NULL, 0};
        status = entry_find(postings, middle, tag_count, &entry);
        if (status == STATUS_OK) status = entry_tag(postings, entry, &found);
        if (status != STATUS_OK) return status;
        int order = slice_compare(found, tag);
        if (order == 0) return entry_open(postings, entry, out);
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return STATUS_NOT_FOUND;
}

enum status packed_postings_next(struct packed_postings *postings, uint64_t *ordinal)
{
    if (postings->left == 0) return STATUS_END;

    struct reader reader = reader_of(postings->bytes);
    uint64_t delta = reader_varint(&reader);
    bool first = postings->left == postings->count;
    if (reader.failed || (!first && delta == 0)) return STATUS_CORRUPT;
    uint64_t room = postings->ordinal_count - (first ? 0 : postings->last);
    if (delta >= room) return STATUS_CORRUPT;

    postings->bytes = slice_of(reader.at, reader_left(&reader));
    postings->last = first ? delta : postings->last + delta;
    postings->left--;
    *ordinal = postings->last;
    return STATUS_OK;
}

/* --- Building --- */

struct postings_tag {
    uint8_t size;
    uint8_t data[TAG_BYTES_MAX];
    uint64_t count, last;
    struct buf deltas;
};

void postings_builder_init(struct postings_builder *builder, struct heap *heap)
{
    *builder = (struct postings_builder){.heap = heap};
}

void postings_builder_deinit(struct postings_builder *builder)
{
    for (size_t i = 0; i < builder->tag_count; i++) buf_deinit(&builder->tags[i].deltas);
    heap_free(builder->heap, builder->tags);
    heap_free(builder->heap, builder->slots);
}

static struct slice tag_bytes(const struct postings_tag *tag)
{
    return slice_of(tag->data, tag->size);
}

/* The slot that has `tag` or where it belongs. */
static uint32_t *slot_of(uint32_t *slots, size_t slot_count, const struct postings_tag *tags,
                         struct slice tag)
{
    size_t at = (size_t)XXH3_64bits(tag.data, tag.size) & (slot_count - 1);
    while (slots[at] != 0 && !slice_equal(tag_bytes(&tags[slots[at] - 1]), tag))
        at = (at + 1) & (slot_count - 1);
    return &slots[at];
}

/* Room for one more tag, the table at most half full. */
static enum status make_room(struct postings_builder *builder)
{
    if (builder->tag_count < builder->tag_capacity) return STATUS_OK;

    size_t slot_count = builder->slot_count == 0 ? SLOT_COUNT_FIRST : builder->slot_count * 2;
    size_t capacity = slot_count / 2;
    struct postings_tag *tags = heap_realloc(builder->heap, builder->tags, capacity * sizeof *tags);
    if (tags == NULL) return STATUS_NOMEM;
    builder->tags = tags;
    uint32_t *slots = heap_zalloc(builder->heap, slot_count * sizeof *slots);
    if (slots == NULL) return STATUS_NOMEM;
    for (size_t i = 0; i < builder->tag_count; i++)
        *slot_of(slots, slot_count, tags, tag_bytes(&tags[i])) = (uint32_t)i + 1;

    heap_free(builder->heap, builder->slots);
    builder->slots = slots;
    builder->slot_count = slot_count;
    builder->tag_capacity = capacity;
    return STATUS_OK;
}

enum status postings_builder_add(struct postings_builder *builder, struct slice tag,
                                 uint64_t ordinal)
{
    CHECK(tag.size <= TAG_BYTES_MAX);
    enum status status = make_room(builder);
    if (status != STATUS_OK) return status;

    uint32_t *slot = slot_of(builder->slots, builder->slot_count, builder->tags, tag);
    if (*slot == 0) {
        struct postings_tag *added = &builder->tags[builder->tag_count++];
        *added = (struct postings_tag){.size = (uint8_t)tag.size};
        memcpy(added->data, tag.data, tag.size);
        buf_init(&added->deltas, builder->heap);
        *slot = (uint32_t)builder->tag_count;
        builder->size_bytes += tag.size + 8;
    }
    struct postings_tag *found = &builder->tags[*slot - 1];
    size_t before = found->deltas.size;
    buf_append_varint(&found->deltas, ordinal - found->last);
    builder->size_bytes += found->deltas.size - before;
    found->last = ordinal;
    found->count++;
    return buf_status(&found->deltas);
}

static int tag_compare(const void *left, const void *right)
{
    return slice_compare(tag_bytes(left), tag_bytes(right));
}

enum status postings_builder_finish(struct postings_builder *builder, struct buf *out)
{
    if (builder->tag_count == 0) return STATUS_OK;
    if (builder->size_bytes + builder->tag_count * 24 > UINT32_MAX) return STATUS_LIMIT;
    qsort(builder->tags, builder->tag_count, sizeof *builder->tags, tag_compare);

    size_t start = out->size;
    buf_append_u32le(out, (uint32_t)builder->tag_count);
    for (size_t i = 0; i <= builder->tag_count; i++) buf_append_u32le(out, 0);
    for (size_t i = 0; i <= builder->tag_count; i++) {
        if (out->failed) return STATUS_NOMEM;
        uint32_t offset = (uint32_t)(out->size - start);
        memcpy(out->data + start + 4 + 4 * i, &offset, sizeof offset);
        if (i == builder->tag_count) break;
        const struct postings_tag *tag = &builder->tags[i];
        buf_append_u8(out, tag->size);
        buf_append_slice(out, tag_bytes(tag));
        buf_append_varint(out, tag->count);
        buf_append_slice(out, buf_slice(&tag->deltas));
    }
    return buf_status(out);
}
