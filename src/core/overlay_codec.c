/* Bytes of an overlay. All numbers are little-endian; a varint is LEB128, shortest form.
 *
 *   overlay   "TrOv"  u8 version = 1  varint ordinal count  node (the root)  u32 CRC-32C
 *                     of all before it
 *   node      u16 mask of the children that are not pristine, the first child lowest;
 *             0 only as the root: nothing is dead or hidden, and nothing follows in it
 *             best of the whole node, pristine children included
 *             height 0: dead sum (u64 low, u64 high), then a block for each bit
 *             above:    a node for each bit
 *   block     u32 dead bits  u32 gone bits (not both 0)  best
 *   best      u64 score order; 0 is none and ends it  u64 created time  u16 created node
 *
 * The height of the root is the least h with 512 x 16^h >= ordinal count. Bests of pristine
 * children are not stored: until a node is first changed they are read from the packed
 * trie when they are asked for. */
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "core/overlay.h"
#include "core/overlay_node.h"

enum { OVERLAY_VERSION = 1, OVERLAY_CRC_BYTES = 4 };

static const char overlay_magic[4] = "TrOv";

static void encode_best(struct best best, struct buf *out)
{
    buf_append_u64le(out, best.score_order);
    if (best_is_none(best)) return;
    buf_append_u64le(out, best.created_time);
    buf_append_u16le(out, best.created_node);
}

static void encode_leaf(const struct overlay_leaf *leaf, struct buf *out)
{
    uint16_t mask = 0;
    for (unsigned i = 0; i < OVERLAY_FAN_OUT; i++)
        if (overlay_block_bits(leaf->dead, i) != 0 || overlay_block_bits(leaf->gone, i) != 0)
            mask |= (uint16_t)(1u << i);
    buf_append_u16le(out, mask);
    encode_best(leaf->head.best, out);
    buf_append_u64le(out, leaf->head.dead_sum.low);
    buf_append_u64le(out, leaf->head.dead_sum.high);
    for (unsigned i = 0; i < OVERLAY_FAN_OUT; i++) {
        if (!(mask >> i & 1)) continue;
        buf_append_u32le(out, overlay_block_bits(leaf->dead, i));
        buf_append_u32le(out, overlay_block_bits(leaf->gone, i));
        encode_best(leaf->bests[i], out);
    }
}

static void encode_node(const struct overlay_space *space, overlay_node node, unsigned height,
                        struct buf *out)
{
    if (height == 0) {
        encode_leaf(overlay_leaf_at(space, node), out);
        return;
    }
    const struct overlay_inner *inner = overlay_inner_at(space, node);
    uint16_t mask = 0;
    for (unsigned i = 0; i < OVERLAY_FAN_OUT; i++)
        if (inner->children[i] != 0) mask |= (uint16_t)(1u << i);
    buf_append_u16le(out, mask);
    encode_best(inner->head.best, out);
    for (unsigned i = 0; i < OVERLAY_FAN_OUT; i++)
        if (inner->children[i] != 0) encode_node(space, inner->children[i], height - 1, out);
}

void overlay_encode(const struct overlay_space *space, overlay_root root, uint64_t ordinal_count,
                    struct buf *out)
{
    size_t start = out->size;
    buf_append(out, overlay_magic, sizeof overlay_magic);
    buf_append_u8(out, OVERLAY_VERSION);
    buf_append_varint(out, ordinal_count);
    if (root == 0)
        buf_append_u16le(out, 0);
    else
        encode_node(space, root, overlay_height(ordinal_count), out);
    if (out->failed) return;
    buf_append_u32le(out, crc32c(0, out->data + start, out->size - start));
}

struct decoder {
    struct overlay_space *space;
    struct reader reader;
    uint64_t ordinal_count;
};

static struct best decode_best(struct reader *reader)
{
    struct best best = {.score_order = reader_u64le(reader)};
    if (best_is_none(best)) return best;
    best.created_time = reader_u64le(reader);
    best.created_node = reader_u16le(reader);
    return best;
}

static void free_node(struct overlay_space *space, overlay_node node, unsigned height)
{
    if (node == 0) return;
    if (height > 0)
        for (unsigned i = 0; i < OVERLAY_FAN_OUT; i++)
            free_node(space, overlay_inner_at(space, node)->children[i], height - 1);
    arena_free(&space->arena, node, overlay_node_bytes(height));
}

/* The children of a node from ordinal `base` on that have ordinals at all. */
static uint16_t existing_children(const struct decoder *decoder, uint64_t base, unsigned height)
{
    uint64_t left = decoder->ordinal_count - base;
    unsigned bits = overlay_width_bits(height) - 4;
    uint64_t children = (left + (UINT64_C(1) << bits) - 1) >> bits;
    return (uint16_t)overlay_bits_below((unsigned)u64_min(children, OVERLAY_FAN_OUT));
}

/* The best of a node is not worse than any best known under it, and with none unknown it is
 * their first. */
static bool best_is_sound(const struct overlay_head *head, const struct best bests[],
                          uint16_t existing)
{
    struct best known = overlay_fold(bests, OVERLAY_FAN_OUT); /* Unknown ones are none yet. */
    int order = best_compare(head->best, known);
    return order < 0 ? head->known != existing : order == 0;
}

static enum status decode_block(struct decoder *decoder, struct overlay_leaf *leaf, uint64_t base,
                                unsigned block)
{
    uint64_t dead = reader_u32le(&decoder->reader);
    uint64_t gone = reader_u32le(&decoder->reader);
    struct best best = decode_best(&decoder->reader);
    if (decoder->reader.failed || (dead | gone) == 0) return STATUS_CORRUPT;

    uint64_t left = decoder->ordinal_count - (base + block * PACKED_BLOCK);
    uint64_t existing = overlay_bits_below((unsigned)u64_min(left, PACKED_BLOCK));
    if (((dead | gone) & ~existing) != 0) return STATUS_CORRUPT;
    if ((dead | gone) == existing && !best_is_none(best)) return STATUS_CORRUPT;

    leaf->dead[block / 2] |= dead << block % 2 * 32;
    leaf->gone[block / 2] |= gone << block % 2 * 32;
    leaf->bests[block] = best;
    leaf->head.dead_count += (uint32_t)__builtin_popcountll(dead);
    leaf->head.gone_count += (uint32_t)__builtin_popcountll(gone);
    leaf->head.hidden_count += (uint32_t)__builtin_popcountll(gone & ~dead);
    return STATUS_OK;
}

static enum status decode_leaf(struct decoder *decoder, uint64_t base, struct overlay_leaf *leaf)
{
    leaf->head.dead_sum.low = reader_u64le(&decoder->reader);
    leaf->head.dead_sum.high = reader_u64le(&decoder->reader);
    for (unsigned i = 0; i < OVERLAY_FAN_OUT; i++) {
        if (!(leaf->head.known >> i & 1)) continue;
        enum status status = decode_block(decoder, leaf, base, i);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

static enum status decode_node(struct decoder *decoder, uint64_t base, unsigned height,
                               overlay_node *out);

static enum status decode_inner(struct decoder *decoder, uint64_t base, unsigned height,
                                struct overlay_inner *inner)
{
    for (unsigned i = 0; i < OVERLAY_FAN_OUT; i++) {
        if (!(inner->head.known >> i & 1)) continue;
        uint64_t first = base + ((uint64_t)i << (overlay_width_bits(height) - 4));
        enum status status = decode_node(decoder, first, height - 1, &inner->children[i]);
        if (status != STATUS_OK) return status;

        const struct overlay_head *child = overlay_head_at(decoder->space, inner->children[i]);
        inner->dead[i] = child->dead_count;
        inner->gone[i] = child->gone_count;
        inner->bests[i] = child->best;
        inner->head.dead_count += child->dead_count;
        inner->head.gone_count += child->gone_count;
        inner->head.hidden_count += child->hidden_count;
        inner->head.dead_sum = sum_add(inner->head.dead_sum, child->dead_sum);
    }
    return STATUS_OK;
}

/* Owns: `*out` is set as soon as there is something to free, also on errors. */
static enum status decode_node(struct decoder *decoder, uint64_t base, unsigned height,
                               overlay_node *out)
{
    struct overlay_space *space = decoder->space;
    uint16_t mask = reader_u16le(&decoder->reader);
    struct best best = decode_best(&decoder->reader);
    uint16_t existing = existing_children(decoder, base, height);
    if (decoder->reader.failed || mask == 0 || (mask & ~existing) != 0) return STATUS_CORRUPT;

    overlay_node node = arena_alloc(&space->arena, overlay_node_bytes(height));
    if (node == 0) return STATUS_NOMEM;
    struct overlay_head *head =
        memset(arena_at(&space->arena, node), 0, overlay_node_bytes(height));
    head->batch = space->batch;
    head->known = mask;
    head->best = best;
    *out = node;

    enum status status = height == 0
                             ? decode_leaf(decoder, base, overlay_leaf_at(space, node))
                             : decode_inner(decoder, base, height, overlay_inner_at(space, node));
    if (status != STATUS_OK) return status;
    return best_is_sound(head, overlay_bests_of(head, height), existing) ? STATUS_OK
                                                                         : STATUS_CORRUPT;
}

static enum status decode_root(struct decoder *decoder, overlay_root *root)
{
    if (reader_left(&decoder->reader) == 2 && load_u16le(decoder->reader.at) == 0) {
        *root = 0;
        return STATUS_OK;
    }
    overlay_node node = 0;
    unsigned height = overlay_height(decoder->ordinal_count);
    enum status status = decode_node(decoder, 0, height, &node);
    if (status == STATUS_OK && reader_left(&decoder->reader) != 0) status = STATUS_CORRUPT;
    if (status != STATUS_OK) {
        free_node(decoder->space, node, height);
        return status;
    }
    *root = node;
    return STATUS_OK;
}

enum status overlay_decode(struct overlay_space *space, struct slice bytes, uint64_t ordinal_count,
                           overlay_root *root)
{
    if (bytes.size < sizeof overlay_magic + 1 + OVERLAY_CRC_BYTES) return STATUS_CORRUPT;
    struct slice body = slice_prefix(bytes, bytes.size - OVERLAY_CRC_BYTES);
    if (load_u32le(body.data + body.size) != crc32c(0, body.data, body.size)) return STATUS_CORRUPT;

    struct decoder decoder = {space, reader_of(body), ordinal_count};
    struct slice magic = reader_bytes(&decoder.reader, sizeof overlay_magic);
    if (memcmp(magic.data, overlay_magic, sizeof overlay_magic) != 0) return STATUS_CORRUPT;
    uint8_t version = reader_u8(&decoder.reader);
    if (version > OVERLAY_VERSION) return STATUS_NEWER;
    if (version != OVERLAY_VERSION) return STATUS_CORRUPT;

    uint64_t stored = reader_varint(&decoder.reader);
    if (decoder.reader.failed || stored != ordinal_count) return STATUS_CORRUPT;
    if (ordinal_count == 0 || ordinal_count > UINT32_MAX) return STATUS_CORRUPT;
    return decode_root(&decoder, root);
}
