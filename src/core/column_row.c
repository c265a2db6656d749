#include "core/column_row.h"

#include "base/check.h"
#include "base/math.h"
#include "core/column_bits.h"
#include "core/column_extra.h"

enum {
    HEAD_MODE = 0x07,
    HEAD_EXTRAS = 0x08,
    HEAD_BODIES = 0x10,

    PREFETCH_LINE = 64,
    PREFETCH_BYTES = 6 * PREFETCH_LINE,
};

/* --- Reading --- */

/* Where the bytes of a row lie; not yet touched, but inside. */
static inline enum status row_locate(const struct rows *rows, uint64_t index, struct slice *out)
{
    uint64_t row_count = (rows->count + ROW_ORDINALS - 1) / ROW_ORDINALS;
    uint64_t group = index / ROW_GROUP, within = index % ROW_GROUP;
    bool is_last = index + 1 == row_count;
    bool next_group = within + 1 == ROW_GROUP && !is_last;

    const uint8_t *at = rows->directory.data + group * ROW_GROUP_BYTES;
    enum status status = pages_touch(rows->pages, (size_t)(at - rows->pages->data),
                                     (next_group ? 2 : 1) * ROW_GROUP_BYTES);
    if (status != STATUS_OK) return status;

    uint64_t base = load_u64le(at), size = rows->bytes.size, end = size;
    if (next_group) {
        end = load_u64le(at + ROW_GROUP_BYTES);
    } else if (!is_last) {
        end = base + load_u16le(at + 8 + 2 * (within + 1));
    }
    uint64_t start = base + load_u16le(at + 8 + 2 * within);
    if (base > size || start > size || end > size || start > end) return STATUS_CORRUPT;
    *out = slice_of(rows->bytes.data + start, (size_t)(end - start));
    return STATUS_OK;
}

static enum status row_find(const struct rows *rows, uint64_t index, struct slice *out)
{
    enum status status = row_locate(rows, index, out);
    return status == STATUS_OK ? pages_touch_slice(rows->pages, *out) : status;
}

void rows_prefetch_directory(const struct rows *rows, uint64_t index)
{
    const uint8_t *at = rows->directory.data + index / ROW_GROUP * ROW_GROUP_BYTES;
    __builtin_prefetch(at);
    __builtin_prefetch(at + ROW_GROUP_BYTES - 1);
}

void rows_prefetch(const struct rows *rows, uint64_t index)
{
    struct slice bytes;
    if (row_locate(rows, index, &bytes) != STATUS_OK) return;
    for (size_t line = 0; line < bytes.size && line < PREFETCH_BYTES; line += PREFETCH_LINE)
        __builtin_prefetch(bytes.data + line);
}

static enum status row_read(const struct rows *rows, uint64_t index, struct row *row)
{
    struct slice bytes = {NULL, 0};
    enum status status = row_find(rows, index, &bytes);
    if (status != STATUS_OK) return status;

    struct reader reader = reader_of(bytes);
    unsigned head = reader_u8(&reader);
    if (head > (HEAD_MODE | HEAD_EXTRAS | HEAD_BODIES)) return STATUS_CORRUPT;
    row->count = (size_t)u64_min(ROW_ORDINALS, rows->count - index * ROW_ORDINALS);
    row->extra_mask = 0;
    row->next = 0;
    row->body = 0;
    if (!score_block_read(&reader, head & HEAD_MODE, row->count, &row->scores))
        return STATUS_CORRUPT;
    if (!version_block_read(&reader, row->count, rows->epoch_ms, &row->versions))
        return STATUS_CORRUPT;
    if (head & HEAD_EXTRAS) row->extra_mask = reader_u32le(&reader);
    if (head & HEAD_BODIES) row->body = reader_varint(&reader);
    row->extras = reader;
    return reader.failed || row->body > rows->bodies.size ? STATUS_CORRUPT : STATUS_OK;
}

static double score_with_slots(double score, struct slice slots)
{
    struct record record = {.score = score, .slots = slots};
    return record_score(&record);
}

/* The parts of a record whose bodies start at `at`. */
static enum status bodies_find(const struct rows *rows, const struct extra *extra, uint64_t at,
                               struct slice *out)
{
    size_t size = extra_body_bytes(extra);
    if (at > rows->bodies.size || size > rows->bodies.size - at) return STATUS_CORRUPT;
    *out = slice_of(rows->bodies.data + at, size);
    return STATUS_OK;
}

static enum status extra_apply(const struct rows *rows, const struct extra *extra, uint64_t body,
                               struct record *record)
{
    struct slice bytes = {NULL, 0};
    enum status status = bodies_find(rows, extra, body, &bytes);
    if (status == STATUS_OK) status = pages_touch_slice(rows->pages, bytes);
    if (status != STATUS_OK) return status;

    record->since = extra->since;
    record->created = extra->created;
    record->set = extra->set;
    record->expires_at = extra->expires_at;
    record->has_payload = extra->has_payload;
    record->payload = slice_prefix(bytes, extra->payload_bytes);
    bytes = slice_from(bytes, extra->payload_bytes);
    record->tags = slice_prefix(bytes, extra->tags_bytes);
    record->slots = slice_from(bytes, extra->tags_bytes);
    return STATUS_OK;
}

/* Of entry `index`, at or after row->next. */
static enum status row_extra(const struct rows *rows, struct row *row, size_t index,
                             struct record *record)
{
    uint32_t between = row->extra_mask & (uint32_t)bits_mask((unsigned)index) &
                       ~(uint32_t)bits_mask((unsigned)row->next);
    size_t body = 0;
    for (int i = __builtin_popcount(between); i > 0; i--) {
        if (!extra_skip(&row->extras, &body)) return STATUS_CORRUPT;
    }
    struct extra extra;
    if (!extra_read(&row->extras, record->version, rows->nodes, &extra)) return STATUS_CORRUPT;
    enum status status = extra_apply(rows, &extra, row->body + body, record);
    row->next = index + 1;
    row->body += body + extra_body_bytes(&extra);
    return status;
}

/* Of entry `index`, at or after row->next. */
static enum status row_record(const struct rows *rows, struct row *row, size_t index, bool absent,
                              struct record *record)
{
    struct version version;
    if (!version_block_get(&row->versions, rows->nodes, index, &version)) return STATUS_CORRUPT;
    bool extra = row->extra_mask >> index & 1;
    if (absent && !extra) {
        *record = record_of_tombstone(version);
        return STATUS_OK;
    }

    struct record found = record_of_set(version, score_block_get(&row->scores, index));
    enum status status = extra ? row_extra(rows, row, index, &found) : STATUS_OK;
    if (status != STATUS_OK) return status;
    if (!record_is_canonical(&found) || record_is_present(&found) == absent) return STATUS_CORRUPT;
    *record = found;
    return STATUS_OK;
}

enum status rows_record(const struct rows *rows, uint64_t ordinal, bool absent,
                        struct record *record)
{
    struct row row;
    enum status status = row_read(rows, ordinal / ROW_ORDINALS, &row);
    if (status != STATUS_OK) return status;
    return row_record(rows, &row, ordinal % ROW_ORDINALS, absent, record);
}

enum status rows_walk_record(const struct rows *rows, struct rows_walk *walk, uint64_t ordinal,
                             bool absent, struct record *record)
{
    enum status status = STATUS_OK;
    uint64_t index = ordinal / ROW_ORDINALS;
    if (!walk->has_row || walk->index != index || ordinal % ROW_ORDINALS < walk->row.next) {
        status = row_read(rows, index, &walk->row);
        walk->index = index;
    }
    if (status == STATUS_OK)
        status = row_record(rows, &walk->row, ordinal % ROW_ORDINALS, absent, record);
    walk->has_row = status == STATUS_OK;
    return status;
}

/* Corrects the bests of entries that have an extra: another creation, slots in the score. */
static enum status row_extra_bests(const struct rows *rows, struct row *row,
                                   struct best bests[ROW_ORDINALS])
{
    uint64_t body = row->body;
    for (uint32_t mask = row->extra_mask; mask != 0; mask &= mask - 1) {
        unsigned i = (unsigned)__builtin_ctz(mask);
        struct extra extra;
        struct slice bytes = {NULL, 0};
        if (i >= row->count) return STATUS_CORRUPT;
        struct version version = {bests[i].created_time, bests[i].created_node};
        if (!extra_read(&row->extras, version, rows->nodes, &extra)) return STATUS_CORRUPT;
        enum status status = bodies_find(rows, &extra, body, &bytes);
        if (status != STATUS_OK) return status;
        body += bytes.size;

        if (extra.slots_bytes > 0) {
            bytes = slice_from(bytes, bytes.size - extra.slots_bytes);
            status = pages_touch_slice(rows->pages, bytes);
            if (status != STATUS_OK) return status;
            double score = score_block_get(&row->scores, i);
            bests[i].score_order = score_order_of(score_with_slots(score, bytes));
        }
        if (!version_is_none(extra.created)) {
            bests[i].created_time = extra.created.time;
            bests[i].created_node = extra.created.node;
        }
    }
    return STATUS_OK;
}

/* The bests of all records of the row, absent ones too. */
static enum status row_bests(const struct rows *rows, struct row *row,
                             struct best bests[ROW_ORDINALS])
{
    score_block_orders(&row->scores, row->count, bests);
    if (!version_block_creations(&row->versions, rows->nodes, row->count, bests))
        return STATUS_CORRUPT;
    return row->extra_mask != 0 ? row_extra_bests(rows, row, bests) : STATUS_OK;
}

enum status rows_bests(const struct rows *rows, uint64_t row_index, uint32_t absent_mask,
                       struct best bests[ROW_ORDINALS])
{
    struct row row;
    enum status status = row_read(rows, row_index, &row);
    if (status != STATUS_OK) return status;

    status = row_bests(rows, &row, bests);
    for (size_t i = row.count; i < ROW_ORDINALS; i++) bests[i] = (struct best){0};
    for (uint32_t mask = absent_mask; mask != 0; mask &= mask - 1)
        bests[__builtin_ctz(mask)] = (struct best){0};
    return status;
}

enum status rows_bests_upto(const struct rows *rows, uint64_t row_index, uint32_t among,
                            struct best last, struct best bests[ROW_ORDINALS], uint32_t *found)
{
    struct row row;
    enum status status = row_read(rows, row_index, &row);
    if (status != STATUS_OK) return status;
    uint32_t candidates = among & (uint32_t)bits_mask((unsigned)row.count), kept = 0;

    /* With extras among them, scores and creations may be others than the columns say. */
    bool is_plain = (row.extra_mask & candidates) == 0;
    if (is_plain)
        candidates &= score_block_at_least(&row.scores, row.count, last.score_order);
    else
        status = row_bests(rows, &row, bests);

    for (; candidates != 0 && status == STATUS_OK; candidates &= candidates - 1) {
        unsigned i = (unsigned)__builtin_ctz(candidates);
        if (is_plain) {
            struct version version;
            if (!version_block_get(&row.versions, rows->nodes, i, &version)) return STATUS_CORRUPT;
            bests[i] = (struct best){score_order_of(score_block_get(&row.scores, i)), version.time,
                                     version.node};
        }
        if (best_compare(bests[i], last) <= 0) kept |= UINT32_C(1) << i;
    }
    if (status == STATUS_OK) *found = kept;
    return status;
}

/* --- Building --- */

enum status rows_builder_init(struct rows_builder *builder, struct heap *heap)
{
    *builder = (struct rows_builder){0};
    buf_init(&builder->directory, heap);
    buf_init(&builder->bytes, heap);
    buf_init(&builder->bodies, heap);
    buf_init(&builder->extras, heap);
    return node_table_builder_init(&builder->nodes, heap);
}

void rows_builder_deinit(struct rows_builder *builder)
{
    node_table_builder_deinit(&builder->nodes);
    buf_deinit(&builder->extras);
    buf_deinit(&builder->bodies);
    buf_deinit(&builder->bytes);
    buf_deinit(&builder->directory);
}

static enum status builder_status(const struct rows_builder *builder)
{
    bool failed = builder->directory.failed || builder->bytes.failed || builder->bodies.failed ||
                  builder->extras.failed || builder->nodes.nodes.failed;
    return failed ? STATUS_NOMEM : STATUS_OK;
}

/* Tombstones take a neighbour's score, so that they cost no width. */
static void fill_scores(struct rows_builder *builder)
{
    uint32_t live = ~builder->tombstone_mask & (uint32_t)bits_mask((unsigned)builder->count);
    double last = live == 0 ? 0 : builder->scores[__builtin_ctz(live)];
    for (size_t i = 0; i < builder->count; i++) {
        if (builder->tombstone_mask >> i & 1) builder->scores[i] = last;
        last = builder->scores[i];
    }
}

static void register_row(struct rows_builder *builder)
{
    size_t within = builder->row_count++ % ROW_GROUP;
    if (within == 0) {
        uint8_t group[ROW_GROUP_BYTES] = {0};
        store_u64le(group, builder->bytes.size);
        buf_append(&builder->directory, group, sizeof group);
    }
    if (builder->directory.failed) return;
    uint8_t *group = builder->directory.data + builder->directory.size - ROW_GROUP_BYTES;
    uint64_t offset = builder->bytes.size - load_u64le(group);
    CHECK(offset <= UINT16_MAX); /* 15 rows of at most 2.9 KB. */
    store_u16le(group + 8 + 2 * within, (uint16_t)offset);
}

static void flush_row(struct rows_builder *builder)
{
    bool has_bodies = builder->bodies.size > builder->body;
    fill_scores(builder);
    register_row(builder);

    struct buf *out = &builder->bytes;
    size_t head_at = out->size;
    buf_append_u8(out, 0);
    unsigned head = score_block_append(builder->scores, builder->count, out);
    version_block_append(builder->versions, builder->count, builder->epoch_ms, &builder->nodes,
                         out);
    if (builder->extra_mask != 0) {
        head |= HEAD_EXTRAS;
        buf_append_u32le(out, builder->extra_mask);
        if (has_bodies) {
            head |= HEAD_BODIES;
            buf_append_varint(out, builder->body);
        }
        buf_append_slice(out, buf_slice(&builder->extras));
    }
    if (!out->failed) out->data[head_at] = (uint8_t)head;
}

enum status rows_builder_add(struct rows_builder *builder, const struct record *record)
{
    if (builder->count == 0) {
        if (builder->row_count == 0) builder->epoch_ms = hlc_wall_ms(record->version.time);
        builder->extra_mask = builder->tombstone_mask = 0;
        builder->body = builder->bodies.size;
        buf_clear(&builder->extras);
    }

    size_t index = builder->count++;
    builder->versions[index] = record->version;
    builder->scores[index] = record->score;
    if (record->tombstone) {
        builder->tombstone_mask |= UINT32_C(1) << index;
    } else if (!record_is_plain(record)) {
        builder->extra_mask |= UINT32_C(1) << index;
        extra_append(record, &builder->nodes, &builder->extras, &builder->bodies);
    }
    enum status status = builder_status(builder);
    if (status != STATUS_OK || builder->count < ROW_ORDINALS) return status;
    return rows_builder_finish(builder);
}

enum status rows_builder_finish(struct rows_builder *builder)
{
    if (builder->count > 0) flush_row(builder);
    builder->count = 0;
    return builder_status(builder);
}
