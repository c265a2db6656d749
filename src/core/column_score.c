#include "core/column_score.h"

#include <math.h>
#include <string.h>

#include "core/column_bits.h"

static double double_at(const uint8_t *at)
{
    double value;
    memcpy(&value, at, sizeof value);
    return value;
}

static double integer_value(uint64_t bits)
{
    return (double)(int64_t)bits;
}

bool score_to_integer(double score, int64_t *integer)
{
    static const double limit = 9007199254740992.0; /* 2^53 */
    if (!(score >= -limit && score <= limit)) return false;
    *integer = (int64_t)score;
    return (double)*integer == score && !(score == 0 && signbit(score));
}

/* --- Writing --- */

static enum score_mode append_raw(const double *scores, size_t count, struct buf *out)
{
    bool equal = true;
    for (size_t i = 1; i < count; i++) equal &= memcmp(&scores[i], scores, sizeof *scores) == 0;
    buf_append(out, scores, (equal ? 1 : count) * sizeof *scores);
    return equal ? SCORE_RAW_EQUAL : SCORE_RAW;
}

static void append_bits(const uint64_t *values, size_t count, size_t stored, unsigned width,
                        struct buf *out)
{
    uint8_t bytes[SCORE_BLOCK * 8 + 8] = {0};
    for (size_t i = 0; i < count; i++) bits_put(bytes, i, width, values[i]);
    buf_append(out, bytes, bits_bytes(stored, width));
}

/* The width of low bits that makes the whole shortest: what does not fit it costs an index
 * and its high bits. */
static unsigned choose_width(const uint64_t *deltas, size_t count, unsigned width_max)
{
    size_t by_width[65] = {0};
    for (size_t i = 0; i < count; i++) by_width[bits_width(deltas[i])]++;

    unsigned best = width_max;
    size_t best_bytes = bits_bytes(SCORE_BLOCK, width_max);
    size_t exceptions = 0;
    for (unsigned width = width_max; width-- > 0;) {
        exceptions += by_width[width + 1];
        size_t bytes = bits_bytes(SCORE_BLOCK, width) + 2 + exceptions +
                       bits_bytes(exceptions, width_max - width);
        if (bytes >= best_bytes) continue;
        best_bytes = bytes;
        best = width;
    }
    return best;
}

static void append_exceptions(const uint64_t *deltas, size_t count, unsigned width,
                              unsigned high_width, struct buf *out)
{
    uint64_t high[SCORE_BLOCK];
    uint8_t positions[SCORE_BLOCK];
    size_t exceptions = 0;
    for (size_t i = 0; i < count; i++) {
        if (deltas[i] >> width == 0) continue;
        positions[exceptions] = (uint8_t)i;
        high[exceptions++] = deltas[i] >> width;
    }
    buf_append_u8(out, (uint8_t)exceptions);
    buf_append_u8(out, (uint8_t)high_width);
    buf_append(out, positions, exceptions);
    append_bits(high, exceptions, exceptions, high_width, out);
}

enum score_mode score_block_append(const double *scores, size_t count, struct buf *out)
{
    int64_t integers[SCORE_BLOCK], least = INT64_MAX, greatest = INT64_MIN;
    for (size_t i = 0; i < count; i++) {
        if (!score_to_integer(scores[i], &integers[i])) return append_raw(scores, count, out);
        if (integers[i] < least) least = integers[i];
        if (integers[i] > greatest) greatest = integers[i];
    }

    buf_append_varint(out, bits_zigzag((uint64_t)least));
    if (least == greatest) return SCORE_INTEGER;

    uint64_t deltas[SCORE_BLOCK] = {0}, low[SCORE_BLOCK] = {0};
    for (size_t i = 0; i < count; i++) deltas[i] = (uint64_t)integers[i] - (uint64_t)least;
    unsigned width_max = bits_width((uint64_t)greatest - (uint64_t)least);
    unsigned width = choose_width(deltas, count, width_max);
    for (size_t i = 0; i < count; i++) low[i] = deltas[i] & bits_mask(width);

    buf_append_u8(out, (uint8_t)width);
    append_bits(low, count, SCORE_BLOCK, width, out);
    if (width == width_max) return SCORE_PACKED;
    append_exceptions(deltas, count, width, width_max - width, out);
    return SCORE_PATCHED;
}

/* --- Reading --- */

static bool read_exceptions(struct reader *reader, size_t count, struct score_block *block)
{
    block->exception_count = reader_u8(reader);
    block->high_width = reader_u8(reader);
    if (reader->failed || block->exception_count == 0 || block->exception_count > count)
        return false;
    if (block->high_width == 0 || block->width + block->high_width > BITS_WIDTH_MAX) return false;

    block->positions = reader_bytes(reader, block->exception_count).data;
    block->high = reader_bytes(reader, bits_bytes(block->exception_count, block->high_width)).data;
    if (reader->failed) return false;
    for (size_t i = 0; i < block->exception_count; i++) {
        if (block->positions[i] >= count) return false;
        if (i > 0 && block->positions[i] <= block->positions[i - 1]) return false;
    }
    return true;
}

bool score_block_read(struct reader *reader, unsigned mode, size_t count, struct score_block *out)
{
    struct score_block block = {.mode = (enum score_mode)mode};
    switch (mode) {
    case SCORE_INTEGER:
        block.base = bits_unzigzag(reader_varint(reader));
        break;
    case SCORE_PACKED:
    case SCORE_PATCHED:
        block.base = bits_unzigzag(reader_varint(reader));
        block.width = reader_u8(reader);
        if (reader->failed || block.width > BITS_WIDTH_MAX) return false;
        block.packed = reader_bytes(reader, bits_bytes(SCORE_BLOCK, block.width)).data;
        if (mode == SCORE_PATCHED && !read_exceptions(reader, count, &block)) return false;
        break;
    case SCORE_RAW:
        block.packed = reader_bytes(reader, count * sizeof(double)).data;
        break;
    case SCORE_RAW_EQUAL:
        block.packed = reader_bytes(reader, sizeof(double)).data;
        break;
    default:
        return false;
    }
    if (reader->failed) return false;
    *out = block;
    return true;
}

double score_block_get(const struct score_block *block, size_t index)
{
    if (block->mode == SCORE_INTEGER) return integer_value(block->base);
    if (block->mode == SCORE_RAW) return double_at(block->packed + index * sizeof(double));
    if (block->mode == SCORE_RAW_EQUAL) return double_at(block->packed);

    uint64_t delta = bits_get(block->packed, index, block->width);
    for (size_t i = 0; i < block->exception_count; i++) {
        if (block->positions[i] != index) continue;
        delta |= bits_get(block->high, i, block->high_width) << block->width;
        break;
    }
    return integer_value(block->base + delta);
}

void score_block_orders(const struct score_block *block, size_t count, struct best *bests)
{
    if (block->mode == SCORE_INTEGER || block->mode == SCORE_RAW_EQUAL) {
        uint64_t order = score_order_of(score_block_get(block, 0));
        for (size_t i = 0; i < count; i++) bests[i].score_order = order;
        return;
    }
    if (block->mode == SCORE_RAW) {
        for (size_t i = 0; i < count; i++)
            bests[i].score_order = score_order_of(score_block_get(block, i));
        return;
    }

    const uint8_t *packed = block->packed;
    unsigned width = block->width;
    uint64_t base = block->base, mask = bits_mask(width);
    for (size_t i = 0, bit = 0; i < count; i++, bit += width) {
        uint64_t delta = load_u64le(packed + bit / 8) >> bit % 8 & mask;
        bests[i].score_order = score_order_of(integer_value(base + delta));
    }
    for (size_t i = 0; i < block->exception_count; i++) {
        size_t at = block->positions[i];
        bests[at].score_order = score_order_of(score_block_get(block, at));
    }
}

uint64_t score_distance(uint64_t score_order, int64_t base)
{
    static const double limit = 9223372036854775808.0; /* 2^63 */
    double score = ceil(score_of_order(score_order));
    if (score_order <= score_order_of(-limit)) return 0;
    if (score_order >= score_order_of(limit)) return UINT64_MAX;
    int64_t least = (int64_t)score;
    return least <= base ? 0 : (uint64_t)least - (uint64_t)base;
}

/* Which of the 32 numbers of `width` bits are not below `least`; `at_once` of them come with
 * one load. */
static inline uint32_t numbers_at_least(const uint8_t *packed, unsigned width, uint64_t least,
                                        const unsigned at_once)
{
    uint64_t mask = bits_mask(width);
    uint32_t found = 0;
    for (unsigned i = 0; i < SCORE_BLOCK; i += at_once) {
        size_t bit = (size_t)i * width;
        uint64_t numbers = load_u64le(packed + bit / 8) >> bit % 8;
        for (unsigned j = 0; j < at_once; j++, numbers >>= width)
            found |= (uint32_t)((numbers & mask) >= least) << (i + j);
    }
    return found;
}

/* As score_block_at_least(), of packed integers. */
static uint32_t packed_at_least(const struct score_block *block, size_t count, uint64_t least)
{
    const uint8_t *packed = block->packed;
    unsigned width = block->width;
    uint32_t found = width <= BITS_WIDTH_MAX / 4   ? numbers_at_least(packed, width, least, 4)
                     : width <= BITS_WIDTH_MAX / 2 ? numbers_at_least(packed, width, least, 2)
                                                   : numbers_at_least(packed, width, least, 1);
    for (size_t i = 0; i < block->exception_count; i++) {
        unsigned at = block->positions[i];
        uint64_t delta = bits_get(block->high, i, block->high_width) << width |
                         bits_get(packed, at, width);
        found &= ~(UINT32_C(1) << at);
        found |= (uint32_t)(delta >= least) << at;
    }
    return found & (uint32_t)bits_mask((unsigned)count);
}

uint32_t score_block_at_least(const struct score_block *block, size_t count, uint64_t score_order)
{
    uint32_t all = (uint32_t)bits_mask((unsigned)count), found = 0;
    switch (block->mode) {
    case SCORE_PACKED:
    case SCORE_PATCHED:
        return packed_at_least(block, count, score_distance(score_order, (int64_t)block->base));
    case SCORE_RAW:
        for (size_t i = 0; i < count; i++)
            found |= (uint32_t)(score_order_of(score_block_get(block, i)) >= score_order) << i;
        return found;
    default:
        return score_order_of(score_block_get(block, 0)) >= score_order ? all : 0;
    }
}
