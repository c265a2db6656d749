#include "base/check.h"
#include "core/front.h"
#include "core/front_format.h"

enum {
    PAD_MAX = 2, /* Padding costs no more than an escape and is read faster. */
    HEADER_NONE = FRONT_HEADER_ESCAPE,
    HEADER_INDEX_COUNT = 256 * 256,
};

/* One level while it is built. */
struct level {
    uint64_t item_count;
    uint32_t shared;    /* Of the item before. */
    struct buf before;  /* That item. */
    struct buf head;    /* The open block: its first item in codes, */
    struct buf headers; /* its headers */
    struct buf entries; /* and its entries. */
    struct buf group;   /* Blocks whose offsets are not written yet. */
    uint32_t ends[FRONT_GROUP];
    unsigned group_count;
    struct buf data;
    struct buf offsets;
};

struct front_builder {
    struct heap *heap;
    const struct dictionary *dictionary;
    struct parser *parser;
    uint8_t *header_index; /* By delta as a byte, then size: header or HEADER_NONE. */
    unsigned level_count;
    struct level levels[FRONT_LEVEL_MAX];
    struct buf first; /* The first key. */
    struct buf header;
    struct buf dictionary_bytes;
    struct buf index;
    bool finished;
};

static enum status header_index_create(struct front_builder *builder)
{
    const struct dictionary *dictionary = builder->dictionary;
    builder->header_index = heap_alloc(builder->heap, HEADER_INDEX_COUNT);
    if (builder->header_index == NULL) return STATUS_NOMEM;
    memset(builder->header_index, HEADER_NONE, HEADER_INDEX_COUNT);
    for (unsigned i = 0; i < dictionary->header_count; i++) {
        struct header header = dictionary->headers[i];
        builder->header_index[(uint8_t)header.delta * 256 + header.size] = (uint8_t)i;
    }
    return STATUS_OK;
}

enum status front_builder_create(struct heap *heap, const struct dictionary *dictionary,
                                 struct front_builder **out)
{
    struct front_builder *builder = heap_zalloc(heap, sizeof *builder);
    if (builder == NULL) return STATUS_NOMEM;
    builder->heap = heap;
    builder->dictionary = dictionary;
    buf_init(&builder->first, heap);
    buf_init(&builder->header, heap);
    buf_init(&builder->dictionary_bytes, heap);
    buf_init(&builder->index, heap);
    for (unsigned i = 0; i < FRONT_LEVEL_MAX; i++) {
        struct level *level = &builder->levels[i];
        struct buf *bufs[] = {&level->before, &level->head, &level->headers, &level->entries,
                              &level->group,  &level->data, &level->offsets};
        for (size_t j = 0; j < sizeof bufs / sizeof bufs[0]; j++) buf_init(bufs[j], heap);
    }
    dictionary_encode(dictionary, &builder->dictionary_bytes);

    enum status status = buf_status(&builder->dictionary_bytes);
    if (status == STATUS_OK) status = header_index_create(builder);
    if (status == STATUS_OK) status = parser_create(heap, dictionary->symbols, &builder->parser);
    if (status != STATUS_OK) {
        front_builder_destroy(builder);
        return status;
    }
    *out = builder;
    return STATUS_OK;
}

void front_builder_destroy(struct front_builder *builder)
{
    if (builder == NULL) return;
    for (unsigned i = 0; i < FRONT_LEVEL_MAX; i++) {
        struct level *level = &builder->levels[i];
        buf_deinit(&level->before);
        buf_deinit(&level->head);
        buf_deinit(&level->headers);
        buf_deinit(&level->entries);
        buf_deinit(&level->group);
        buf_deinit(&level->data);
        buf_deinit(&level->offsets);
    }
    buf_deinit(&builder->first);
    buf_deinit(&builder->header);
    buf_deinit(&builder->dictionary_bytes);
    buf_deinit(&builder->index);
    parser_destroy(builder->parser);
    heap_free(builder->heap, builder->header_index);
    heap_free(builder->heap, builder);
}

/* The least shift with which the start of every block of the group fits into 16 bits. */
static unsigned group_shift(const struct level *level)
{
    for (unsigned shift = 0;; shift++) {
        uint64_t start = 0;
        for (unsigned i = 0; i + 1 < level->group_count; i++) {
            uint32_t size = level->ends[i] - (i == 0 ? 0 : level->ends[i - 1]);
            start += (size + (UINT32_C(1) << shift) - 1) >> shift;
        }
        if (start <= UINT16_MAX) return shift;
    }
}

/* Writes the blocks of the group and where they start. */
static void group_finish(struct level *level)
{
    if (level->group_count == 0) return;
    if (level->group.failed) level->data.failed = true; /* Clearing the group forgets it. */

    static const uint8_t zeros[1 << 15];
    unsigned shift = group_shift(level);
    size_t base = level->data.size;
    uint32_t low = (uint32_t)base;
    uint64_t high = (uint64_t)base >> 32;
    CHECK(high < 1 << 12);
    buf_append_u32le(&level->offsets, low);
    buf_append_u16le(&level->offsets, (uint16_t)(high << 4 | shift));

    uint32_t start = 0;
    for (unsigned i = 0; i < FRONT_GROUP; i++) {
        size_t offset = level->data.size - base;
        size_t padding = -offset & ((UINT32_C(1) << shift) - 1);
        if (i < level->group_count) {
            buf_append(&level->data, zeros, padding);
            offset += padding;
            struct slice blocks = buf_slice(&level->group); /* No bytes: all is in the parent. */
            blocks = slice_prefix(blocks, level->ends[i]);
            if (blocks.size > start) buf_append_slice(&level->data, slice_from(blocks, start));
            start = level->ends[i];
        } else {
            offset = 0;
        }
        if (i != 0) buf_append_u16le(&level->offsets, (uint16_t)(offset >> shift));
    }
    buf_clear(&level->group);
    level->group_count = 0;
}

static void block_finish(struct level *level, bool is_leaf)
{
    if (!is_leaf) {
        buf_append_u16le(&level->group, (uint16_t)level->head.size);
    }
    buf_append_slice(&level->group, buf_slice(&level->headers));
    if (!is_leaf) buf_append_slice(&level->group, buf_slice(&level->head));
    buf_append_slice(&level->group, buf_slice(&level->entries));
    buf_clear(&level->head);
    buf_clear(&level->headers);
    buf_clear(&level->entries);
    level->ends[level->group_count++] = (uint32_t)level->group.size;
    if (level->group_count == FRONT_GROUP) group_finish(level);
}

static void entry_append(struct front_builder *builder, struct level *level, uint32_t shared,
                         struct slice codes)
{
    int32_t delta = (int32_t)shared - (int32_t)level->shared;
    if (delta >= INT8_MIN && delta <= INT8_MAX) {
        const uint8_t *index = builder->header_index + (uint8_t)delta * 256;
        for (unsigned pad = 0; pad <= PAD_MAX && codes.size + pad < 256; pad++) {
            if (index[codes.size + pad] == HEADER_NONE) continue;
            buf_append_u8(&level->headers, index[codes.size + pad]);
            buf_append_slice(&level->entries, codes);
            buf_append(&level->entries, "\0\0", pad);
            return;
        }
    }
    buf_append_u8(&level->headers, FRONT_HEADER_ESCAPE);
    buf_append_varint(&level->entries, shared);
    buf_append_varint(&level->entries, codes.size);
    buf_append_slice(&level->entries, codes);
}

static bool level_failed(const struct level *level)
{
    return level->before.failed || level->head.failed || level->headers.failed ||
           level->entries.failed || level->group.failed || level->data.failed ||
           level->offsets.failed;
}

static enum status level_add(struct front_builder *builder, unsigned index, struct slice key,
                             uint32_t *shared);

/* Starts a block with `key`, which level index + 1 gets too: in the lowest level at once, in
 * others once there is a second block. */
static enum status block_start(struct front_builder *builder, unsigned index, struct slice key)
{
    struct level *level = &builder->levels[index];
    enum status status = STATUS_OK;
    uint32_t parent_shared = 0;

    if (level->item_count != 0) block_finish(level, index == 0);
    if (index != 0 && level->item_count == FRONT_BLOCK)
        status = level_add(builder, index + 1, buf_slice(&builder->first), &parent_shared);
    if (status == STATUS_OK && (index == 0 || level->item_count != 0))
        status = level_add(builder, index + 1, key, &parent_shared);
    if (status != STATUS_OK) return status;

    level->shared = index == 0 ? parent_shared : 0;
    if (index != 0) buf_append_slice(&level->head, parser_encode(builder->parser, key));
    return STATUS_OK;
}

/* Adds an item; `*shared` becomes what its deltas are counted from below. */
static enum status level_add(struct front_builder *builder, unsigned index, struct slice key,
                             uint32_t *shared)
{
    CHECK(index < FRONT_LEVEL_MAX);
    struct level *level = &builder->levels[index];
    if (index + 1 > builder->level_count) builder->level_count = index + 1;

    if (level->item_count % FRONT_BLOCK == 0) {
        enum status status = block_start(builder, index, key);
        if (status != STATUS_OK) return status;
    } else {
        size_t common = slice_common_prefix(buf_slice(&level->before), key);
        struct slice codes = parser_encode(builder->parser, slice_from(key, common));
        entry_append(builder, level, (uint32_t)common, codes);
        level->shared = (uint32_t)common;
    }
    buf_clear(&level->before);
    buf_append_slice(&level->before, key);
    level->item_count++;
    *shared = level->shared;
    return level_failed(level) ? STATUS_NOMEM : STATUS_OK;
}

enum status front_builder_add(struct front_builder *builder, struct slice key)
{
    CHECK(!builder->finished);
    CHECK(key.size <= KEY_BYTES_MAX);
    const struct level *leaf = &builder->levels[0];
    if (leaf->item_count == 0) {
        buf_append_slice(&builder->first, key);
        if (builder->first.failed) return STATUS_NOMEM;
    } else {
        CHECK(slice_compare(buf_slice(&leaf->before), key) < 0);
    }
    uint32_t shared;
    return level_add(builder, 0, key, &shared);
}

uint64_t front_builder_count(const struct front_builder *builder)
{
    return builder->levels[0].item_count;
}

uint64_t front_builder_size_bytes(const struct front_builder *builder)
{
    uint64_t size = builder->dictionary_bytes.size + sizeof(uint64_t) * builder->level_count;
    for (unsigned i = 0; i < builder->level_count; i++) {
        const struct level *level = &builder->levels[i];
        size += level->data.size + level->offsets.size + level->group.size;
        size += level->head.size + level->headers.size + level->entries.size;
    }
    return size;
}

enum status front_builder_finish(struct front_builder *builder,
                                 struct slice sections[FRONT_SECTION_COUNT])
{
    CHECK(!builder->finished);
    CHECK(builder->levels[0].item_count != 0);
    builder->finished = true;

    buf_append_u64le(&builder->header, builder->levels[0].item_count);
    for (unsigned i = 0; i < builder->level_count; i++) {
        struct level *level = &builder->levels[i];
        block_finish(level, i == 0);
        group_finish(level);
        if (level_failed(level)) return STATUS_NOMEM;
        if (i != 0) buf_append_u64le(&builder->header, level->data.size);
    }
    for (unsigned i = builder->level_count; i-- > 1;) {
        buf_append_slice(&builder->index, buf_slice(&builder->levels[i].offsets));
        buf_append_slice(&builder->index, buf_slice(&builder->levels[i].data));
    }
    if (builder->header.failed || builder->index.failed) return STATUS_NOMEM;

    sections[FRONT_HEADER] = buf_slice(&builder->header);
    sections[FRONT_DICTIONARY] = buf_slice(&builder->dictionary_bytes);
    sections[FRONT_INDEX] = buf_slice(&builder->index);
    sections[FRONT_OFFSETS] = buf_slice(&builder->levels[0].offsets);
    sections[FRONT_KEYS] = buf_slice(&builder->levels[0].data);
    return STATUS_OK;
}
