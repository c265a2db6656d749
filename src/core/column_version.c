#include "core/column_version.h"

#include "core/column_bits.h"

enum {
    SHAPE_RAW = 63,
    COUNTER_BITS_SHIFT = 6,
    NODE_BITS_SHIFT = 11,
    PART_BITS_MAX = 16,
    RAW_BYTES = 10,
};

/* --- Nodes --- */

enum status node_table_builder_init(struct node_table_builder *builder, struct heap *heap)
{
    builder->indices = heap_zalloc(heap, (UINT16_MAX + 1) * sizeof *builder->indices);
    if (builder->indices == NULL) return STATUS_NOMEM;
    buf_init(&builder->nodes, heap);
    return STATUS_OK;
}

void node_table_builder_deinit(struct node_table_builder *builder)
{
    if (builder->indices == NULL) return;
    heap_free(builder->nodes.heap, builder->indices);
    buf_deinit(&builder->nodes);
}

uint32_t node_table_index(struct node_table_builder *builder, uint16_t node)
{
    if (builder->indices[node] == 0) {
        buf_append_u16le(&builder->nodes, node);
        builder->indices[node] = (uint32_t)(builder->nodes.size / sizeof node);
    }
    return builder->indices[node] - 1;
}

static inline bool node_at(struct node_table nodes, uint64_t index, uint16_t *node)
{
    if (index >= nodes.count) return false;
    *node = load_u16le(nodes.data + 2 * index);
    return true;
}

/* --- Writing --- */

static void append_raw(const struct version *versions, size_t count, struct buf *out)
{
    buf_append_u16le(out, SHAPE_RAW);
    for (size_t i = 0; i < count; i++) {
        buf_append_u64le(out, versions[i].time);
        buf_append_u16le(out, versions[i].node);
    }
}

void version_block_append(const struct version *versions, size_t count, uint64_t epoch_ms,
                          struct node_table_builder *nodes, struct buf *out)
{
    uint32_t indices[VERSION_BLOCK];
    uint64_t least = UINT64_MAX, greatest = 0, counters = 0, index_bits = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t ms = hlc_wall_ms(versions[i].time);
        least = ms < least ? ms : least;
        greatest = ms > greatest ? ms : greatest;
        counters |= versions[i].time & bits_mask(HLC_COUNTER_BITS);
        indices[i] = node_table_index(nodes, versions[i].node);
        index_bits |= indices[i];
    }

    unsigned counter_bits = bits_width(counters), node_bits = bits_width(index_bits);
    unsigned width = bits_width(greatest - least) + counter_bits + node_bits;
    if (width > BITS_WIDTH_MAX) {
        append_raw(versions, count, out);
        return;
    }

    uint8_t bytes[VERSION_BLOCK * 8 + 8] = {0};
    for (size_t i = 0; i < count; i++) {
        uint64_t value = hlc_wall_ms(versions[i].time) - least;
        value = value << counter_bits | (versions[i].time & bits_mask(HLC_COUNTER_BITS));
        bits_put(bytes, i, width, value << node_bits | indices[i]);
    }
    buf_append_u16le(
        out, (uint16_t)(width | counter_bits << COUNTER_BITS_SHIFT | node_bits << NODE_BITS_SHIFT));
    buf_append_varint(out, bits_zigzag(least - epoch_ms));
    buf_append(out, bytes, bits_bytes(VERSION_BLOCK, width));
}

/* --- Reading --- */

bool version_block_read(struct reader *reader, size_t count, uint64_t epoch_ms,
                        struct version_block *out)
{
    unsigned shape = reader_u16le(reader);
    struct version_block block = {
        .width = shape & (unsigned)bits_mask(COUNTER_BITS_SHIFT),
        .counter_bits = shape >> COUNTER_BITS_SHIFT & 31,
        .node_bits = shape >> NODE_BITS_SHIFT,
    };
    if (block.width == SHAPE_RAW) {
        if (shape != SHAPE_RAW) return false;
        block.raw = true;
        block.packed = reader_bytes(reader, count * RAW_BYTES).data;
    } else {
        if (block.counter_bits > PART_BITS_MAX || block.node_bits > PART_BITS_MAX) return false;
        if (block.width > BITS_WIDTH_MAX) return false;
        if (block.width < block.counter_bits + block.node_bits) return false;
        block.base_ms = epoch_ms + bits_unzigzag(reader_varint(reader));
        block.packed = reader_bytes(reader, bits_bytes(VERSION_BLOCK, block.width)).data;
    }
    if (reader->failed) return false;
    *out = block;
    return true;
}

bool version_block_get(const struct version_block *block, struct node_table nodes, size_t index,
                       struct version *version)
{
    if (block->raw) {
        const uint8_t *at = block->packed + index * RAW_BYTES;
        *version = (struct version){load_u64le(at), load_u16le(at + 8)};
        return true;
    }
    uint64_t value = bits_get(block->packed, index, block->width);
    if (!node_at(nodes, value & bits_mask(block->node_bits), &version->node)) return false;
    value >>= block->node_bits;
    uint64_t ms = block->base_ms + (value >> block->counter_bits);
    version->time = ms << HLC_COUNTER_BITS | (value & bits_mask(block->counter_bits));
    return true;
}

bool version_block_creations(const struct version_block *block, struct node_table nodes,
                             size_t count, struct best *bests)
{
    if (block->raw || block->node_bits > 0) {
        for (size_t i = 0; i < count; i++) {
            struct version version = {0};
            if (!version_block_get(block, nodes, i, &version)) return false;
            bests[i].created_time = version.time;
            bests[i].created_node = version.node;
        }
        return true;
    }

    /* One node, the common case. */
    uint16_t node;
    if (!node_at(nodes, 0, &node)) return false;
    const uint8_t *packed = block->packed;
    unsigned width = block->width, counter_bits = block->counter_bits;
    uint64_t base_ms = block->base_ms, mask = bits_mask(width);
    uint64_t counter_mask = bits_mask(counter_bits);
    for (size_t i = 0, bit = 0; i < count; i++, bit += width) {
        uint64_t value = load_u64le(packed + bit / 8) >> bit % 8 & mask;
        uint64_t ms = base_ms + (value >> counter_bits);
        bests[i].created_time = ms << HLC_COUNTER_BITS | (value & counter_mask);
        bests[i].created_node = node;
    }
    return true;
}
