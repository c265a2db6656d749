#include "core/column_bests.h"

#include "base/check.h"
#include "base/math.h"
#include "core/column_bits.h"
#include "core/column_score.h"

enum {
    SCORE_ORDER_BYTES = 8,
    NODE_BYTES = 2,
    ENTRY_BYTES_MAX = 8 + 8 + NODE_BYTES,
    PREFETCH_LINE = 64,
};

static uint64_t divide_up(uint64_t value, uint64_t unit)
{
    return value / unit + (value % unit != 0);
}

uint64_t bests_total(uint64_t count)
{
    uint64_t level = divide_up(count, BESTS_ORDINALS), total = level;
    while (level > BESTS_FAN_OUT) {
        level = divide_up(level, BESTS_FAN_OUT);
        total += level;
    }
    return total;
}

enum status bests_layout(struct bests *bests, uint64_t count, const struct bests_shape *shape)
{
    bool valid = shape->score_bytes >= 1 && shape->score_bytes <= SCORE_ORDER_BYTES &&
                 shape->time_bytes <= 8 && shape->counter_bits <= HLC_COUNTER_BITS &&
                 (shape->node_bytes == 0 || shape->node_bytes == NODE_BYTES);
    if (!valid) return STATUS_CORRUPT;

    bests->shape = *shape;
    bests->stride = (unsigned)shape->score_bytes + shape->time_bytes + shape->node_bytes;
    bests->level_count = 0;
    uint64_t start = 0, size = divide_up(count, BESTS_ORDINALS);
    for (;;) {
        CHECK(bests->level_count < BESTS_LEVEL_COUNT_MAX); /* 15 levels hold 2^64 ordinals. */
        bests->level_start[bests->level_count] = start;
        bests->level_size[bests->level_count++] = size;
        if (size <= BESTS_FAN_OUT) return STATUS_OK;
        start += size;
        size = divide_up(size, BESTS_FAN_OUT);
    }
}

/* --- Reading --- */

static struct best entry_read(const struct bests *bests, const uint8_t *at)
{
    const struct bests_shape *shape = &bests->shape;
    uint64_t score = bits_load_bytes(at, shape->score_bytes);
    if (score == 0) return (struct best){0};

    at += shape->score_bytes;
    uint64_t time = bits_load_bytes(at, shape->time_bytes);
    at += shape->time_bytes;
    struct best best = {.score_order = score, .created_node = bests->node};
    if (shape->score_bytes < SCORE_ORDER_BYTES)
        best.score_order = score_order_of((double)(int64_t)(score - 1 + shape->score_min));
    uint64_t ms = shape->time_min_ms + (time >> shape->counter_bits);
    best.created_time = ms << HLC_COUNTER_BITS | (time & bits_mask(shape->counter_bits));
    if (shape->node_bytes > 0) best.created_node = load_u16le(at);
    return best;
}

/* Entries [first, first + count) as far as they exist; `*there` of them do. */
static enum status entries_find(const struct bests *bests, unsigned level, uint64_t first,
                                size_t count, const uint8_t **at, size_t *there)
{
    CHECK(level < bests->level_count);
    CHECK(count <= BESTS_FAN_OUT);

    uint64_t size = bests->level_size[level];
    *there = first < size ? (size_t)u64_min(count, size - first) : 0;
    if (*there == 0) return STATUS_OK;
    *at = bests->bytes.data + (bests->level_start[level] + first) * bests->stride;
    return pages_touch(bests->pages, (size_t)(*at - bests->pages->data), *there * bests->stride);
}

enum status bests_get(const struct bests *bests, unsigned level, uint64_t first, size_t count,
                      struct best out[BESTS_FAN_OUT])
{
    const uint8_t *at = NULL;
    size_t there;
    enum status status = entries_find(bests, level, first, count, &at, &there);
    if (status != STATUS_OK) return status;
    for (size_t i = 0; i < there; i++) out[i] = entry_read(bests, at + i * bests->stride);
    for (size_t i = there; i < count; i++) out[i] = (struct best){0};
    return STATUS_OK;
}

/* The least score, as entries have it, that is not below `score_order`; at least 1. */
static uint64_t least_score(const struct bests_shape *shape, uint64_t score_order)
{
    if (score_order == 0) return 1;
    if (shape->score_bytes == SCORE_ORDER_BYTES) return score_order;
    uint64_t above = score_distance(score_order, (int64_t)shape->score_min);
    return above == UINT64_MAX ? above : above + 1;
}

enum status bests_upto(const struct bests *bests, unsigned level, uint64_t first, struct best last,
                       struct best out[BESTS_FAN_OUT], uint32_t *found)
{
    const uint8_t *at = NULL;
    size_t there;
    enum status status = entries_find(bests, level, first, BESTS_FAN_OUT, &at, &there);
    if (status != STATUS_OK) return status;

    /* Most entries end here: only what has the score is read in full. */
    uint64_t least = least_score(&bests->shape, last.score_order);
    uint64_t mask = UINT64_MAX >> (64 - 8 * bests->shape.score_bytes);
    uint32_t candidates = 0, kept = 0;
    size_t stride = bests->stride;
    for (size_t i = 0; i < there; i++)
        candidates |= (uint32_t)((load_u64le(at + i * stride) & mask) >= least) << i;
    for (; candidates != 0; candidates &= candidates - 1) {
        unsigned i = (unsigned)__builtin_ctz(candidates);
        struct best best = entry_read(bests, at + i * stride);
        if (best_compare(best, last) > 0) continue;
        out[i] = best;
        kept |= UINT32_C(1) << i;
    }
    *found = kept;
    return STATUS_OK;
}

void bests_prefetch(const struct bests *bests, unsigned level, uint64_t first)
{
    const uint8_t *at = bests->bytes.data + (bests->level_start[level] + first) * bests->stride;
    for (size_t line = 0; line < BESTS_FAN_OUT * bests->stride; line += PREFETCH_LINE)
        __builtin_prefetch(at + line);
}

/* --- Building --- */

void bests_builder_add(struct bests_builder *builder, struct best best)
{
    bool first = builder->count % BESTS_ORDINALS == 0;
    builder->open = first ? best : best_first(builder->open, best);
    builder->count++;
    if (builder->count % BESTS_ORDINALS == 0)
        buf_append(&builder->entries, &builder->open, sizeof builder->open);
}

static struct best entry_at(const struct bests_builder *builder, uint64_t index)
{
    struct best best;
    memcpy(&best, builder->entries.data + index * sizeof best, sizeof best);
    return best;
}

static void build_levels(struct bests_builder *builder)
{
    struct buf *entries = &builder->entries;
    if (builder->count % BESTS_ORDINALS != 0)
        buf_append(entries, &builder->open, sizeof builder->open);

    uint64_t start = 0, end = divide_up(builder->count, BESTS_ORDINALS);
    while (end - start > BESTS_FAN_OUT && !entries->failed) {
        for (uint64_t i = start; i < end && !entries->failed; i += BESTS_FAN_OUT) {
            struct best best = entry_at(builder, i);
            for (uint64_t j = i + 1; j < u64_min(end, i + BESTS_FAN_OUT); j++)
                best = best_first(best, entry_at(builder, j));
            buf_append(entries, &best, sizeof best);
        }
        start = end;
        end = entries->size / sizeof(struct best);
    }
}

/* Scores as integers, as long as all are. */
struct integers {
    bool all;
    int64_t least, greatest;
};

static void integers_take(struct integers *integers, double score)
{
    int64_t value = 0;
    if (!score_to_integer(score, &value)) {
        integers->all = false;
        return;
    }
    if (value < integers->least) integers->least = value;
    if (value > integers->greatest) integers->greatest = value;
}

/* The narrowest entries that hold all of level 0, and so of every level. */
static struct bests_shape shape_of(const struct bests_builder *builder, bool only_node)
{
    struct integers scores = {.all = true, .least = INT64_MAX, .greatest = INT64_MIN};
    uint64_t ms_least = UINT64_MAX, ms_greatest = 0, counters = 0;
    for (uint64_t i = 0; i < divide_up(builder->count, BESTS_ORDINALS); i++) {
        struct best best = entry_at(builder, i);
        if (best_is_none(best)) continue;
        integers_take(&scores, score_of_order(best.score_order));
        ms_least = u64_min(ms_least, hlc_wall_ms(best.created_time));
        ms_greatest = u64_max(ms_greatest, hlc_wall_ms(best.created_time));
        counters |= best.created_time & bits_mask(HLC_COUNTER_BITS);
    }

    struct bests_shape shape = {.score_bytes = 1, .node_bytes = only_node ? 0 : NODE_BYTES};
    if (ms_least > ms_greatest) return shape; /* Nothing is present. */
    shape.counter_bits = (uint8_t)bits_width(counters);
    shape.time_min_ms = ms_least;
    shape.time_bytes =
        (uint8_t)divide_up(bits_width(ms_greatest - ms_least) + shape.counter_bits, 8);
    shape.score_bytes = SCORE_ORDER_BYTES;
    if (!scores.all) return shape;
    shape.score_min = (uint64_t)scores.least;
    shape.score_bytes =
        (uint8_t)bits_width_bytes((uint64_t)scores.greatest - (uint64_t)scores.least + 1);
    return shape;
}

static void entry_append(const struct bests_shape *shape, struct best best, struct buf *out)
{
    uint8_t bytes[ENTRY_BYTES_MAX + 8] = {0};
    if (!best_is_none(best)) {
        uint64_t score = best.score_order;
        if (shape->score_bytes < SCORE_ORDER_BYTES)
            score = (uint64_t)(int64_t)score_of_order(score) - shape->score_min + 1;
        uint64_t time = hlc_wall_ms(best.created_time) - shape->time_min_ms;
        time = time << shape->counter_bits | (best.created_time & bits_mask(HLC_COUNTER_BITS));
        uint8_t *at = bytes;
        store_u64le(at, score);
        at += shape->score_bytes;
        store_u64le(at, time);
        at += shape->time_bytes;
        store_u16le(at, best.created_node);
    }
    buf_append(out, bytes, (size_t)shape->score_bytes + shape->time_bytes + shape->node_bytes);
}

void bests_builder_finish(struct bests_builder *builder, bool only_node, struct bests_shape *shape,
                          struct buf *out)
{
    build_levels(builder);
    if (builder->entries.failed) {
        out->failed = true;
        return;
    }
    *shape = shape_of(builder, only_node);
    for (uint64_t i = 0; i < builder->entries.size / sizeof(struct best); i++)
        entry_append(shape, entry_at(builder, i), out);
}
