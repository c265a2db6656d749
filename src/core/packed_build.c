#include <xxhash.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/math.h"
#include "core/packed_parts.h"

struct packed_builder {
    struct heap *heap;
    struct front_builder *front;
    struct rows_builder rows;
    struct present_builder present;
    struct bests_builder bests;
    struct postings_builder postings;
    struct buf expiries; /* core/column_expiry.h */
    struct buf hashes;   /* packed_key_hash() of each key. */
    struct buf sums;
    struct buf key_first, key_last;
    struct packed_footer footer;
};

enum status packed_builder_create(struct heap *heap, const struct dictionary *dictionary,
                                  uint64_t hash_seed, struct packed_builder **out)
{
    struct packed_builder *builder = heap_zalloc(heap, sizeof *builder);
    if (builder == NULL) return STATUS_NOMEM;
    builder->heap = heap;
    builder->footer.info.hash_seed = hash_seed;
    buf_init(&builder->present.bytes, heap);
    buf_init(&builder->bests.entries, heap);
    buf_init(&builder->expiries, heap);
    buf_init(&builder->hashes, heap);
    buf_init(&builder->sums, heap);
    buf_init(&builder->key_first, heap);
    buf_init(&builder->key_last, heap);
    postings_builder_init(&builder->postings, heap);

    enum status status = rows_builder_init(&builder->rows, heap);
    if (status == STATUS_OK) status = front_builder_create(heap, dictionary, &builder->front);
    if (status != STATUS_OK) {
        packed_builder_destroy(builder);
        return status;
    }
    *out = builder;
    return STATUS_OK;
}

void packed_builder_destroy(struct packed_builder *builder)
{
    if (builder == NULL) return;
    front_builder_destroy(builder->front);
    rows_builder_deinit(&builder->rows);
    postings_builder_deinit(&builder->postings);
    buf_deinit(&builder->key_last);
    buf_deinit(&builder->key_first);
    buf_deinit(&builder->sums);
    buf_deinit(&builder->hashes);
    buf_deinit(&builder->expiries);
    buf_deinit(&builder->bests.entries);
    buf_deinit(&builder->present.bytes);
    heap_free(builder->heap, builder);
}

uint64_t packed_builder_count(const struct packed_builder *builder)
{
    return builder->footer.info.count;
}

uint64_t packed_builder_size_bytes(const struct packed_builder *builder)
{
    /* A best of some ten bytes for 32 keys; the rest is as it will be written. */
    uint64_t count = builder->footer.info.count;
    uint64_t size = front_builder_size_bytes(builder->front) + builder->rows.bytes.size +
                    builder->rows.directory.size + builder->rows.bodies.size +
                    builder->present.bytes.size + builder->sums.size +
                    builder->postings.size_bytes + builder->expiries.size / 2 +
                    filter_bytes(count) + bests_total(count) * 10;
    return size + size / PAGES_BYTES * sizeof(uint32_t) + 1024;
}

/* --- Adding --- */

static enum status add_tags(struct packed_builder *builder, const struct record *record,
                            uint64_t ordinal)
{
    struct slice rest = record->tags, tag;
    while (record_tag_next(&rest, &tag)) {
        enum status status = postings_builder_add(&builder->postings, tag, ordinal);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

static enum status add_presence(struct packed_builder *builder, const struct record *record,
                                uint64_t ordinal)
{
    struct packed_info *info = &builder->footer.info;
    bests_builder_add(&builder->bests, record_best(record));
    if (!record_is_present(record)) {
        info->tombstone_count += record->tombstone;
        present_builder_add_absent(&builder->present, ordinal);
        return STATUS_OK;
    }
    info->present_count++;
    if (record->expires_at != 0)
        expiry_builder_add(&builder->expiries, record->expires_at, ordinal);
    return record->tags.size == 0 ? STATUS_OK : add_tags(builder, record, ordinal);
}

static void add_totals(struct packed_builder *builder, struct slice key,
                       const struct record *record)
{
    struct packed_info *info = &builder->footer.info;
    struct version version = record->version;
    bool first = info->count == 0;
    if (first || version_compare(version, info->oldest) < 0) info->oldest = version;
    if (first || version_compare(version, info->newest) > 0) info->newest = version;
    if (first) buf_append_slice(&builder->key_first, key);
    buf_clear(&builder->key_last);
    buf_append_slice(&builder->key_last, key);
    buf_append_u64le(&builder->hashes, packed_key_hash(key));

    info->key_bytes += key.size;
    info->sum = sum_add(info->sum, record_hash(key, record, builder->footer.info.hash_seed));
    info->count++;
    if (info->count % PACKED_SUM_ORDINALS == 0) {
        buf_append_u64le(&builder->sums, info->sum.low);
        buf_append_u64le(&builder->sums, info->sum.high);
    }
}

static enum status bufs_status(const struct packed_builder *builder)
{
    bool failed = builder->present.bytes.failed || builder->bests.entries.failed ||
                  builder->expiries.failed || builder->hashes.failed || builder->sums.failed ||
                  builder->key_first.failed || builder->key_last.failed;
    return failed ? STATUS_NOMEM : STATUS_OK;
}

enum status packed_builder_add(struct packed_builder *builder, struct slice key,
                               const struct record *record)
{
    CHECK(record_is_canonical(record));

    uint64_t ordinal = builder->footer.info.count;
    enum status status = front_builder_add(builder->front, key);
    if (status == STATUS_OK) status = rows_builder_add(&builder->rows, record);
    if (status == STATUS_OK) status = add_presence(builder, record, ordinal);
    if (status != STATUS_OK) return status;
    add_totals(builder, key, record);
    return bufs_status(builder);
}

/* --- Writing the file --- */

/* Counts and checksums what goes to the sink. */
struct output {
    const struct packed_sink *sink;
    uint64_t size;
    uint32_t crc; /* Of the page that is being filled. */
    struct buf checksums;
};

static enum status output_write(struct output *output, struct slice bytes)
{
    if (bytes.size == 0) return STATUS_OK;
    enum status status = output->sink->write(output->sink->context, bytes.data, bytes.size);
    if (status != STATUS_OK) return status;

    while (bytes.size > 0) {
        size_t room = PAGES_BYTES - (size_t)(output->size % PAGES_BYTES);
        size_t size = size_min(room, bytes.size);
        output->crc = crc32c(output->crc, bytes.data, size);
        output->size += size;
        bytes = slice_from(bytes, size);
        if (size < room) break;
        buf_append_u32le(&output->checksums, output->crc);
        output->crc = 0;
    }
    return buf_status(&output->checksums);
}

static enum status output_section(struct output *output, struct slice bytes,
                                  struct packed_extent *extent)
{
    static const uint8_t zeros[PACKED_ALIGNMENT];
    size_t gap = (size_t)(u64_align(output->size, PACKED_ALIGNMENT) - output->size);
    enum status status = output_write(output, slice_of(zeros, gap));
    if (status != STATUS_OK) return status;
    *extent = (struct packed_extent){output->size, bytes.size};
    return output_write(output, bytes);
}

static enum status output_header(struct output *output)
{
    uint8_t header[PACKED_HEADER_BYTES] = {0};
    store_u64le(header, PACKED_MAGIC);
    return output_write(output, slice_of(header, sizeof header));
}

/* Sections that are made whole at the end, one at a time. */
static enum status write_late(struct packed_builder *builder, struct output *output,
                              enum packed_section index, struct buf *scratch)
{
    struct packed_footer *footer = &builder->footer;
    bool only_node = builder->rows.nodes.nodes.size == sizeof(uint16_t);
    enum status status = STATUS_OK;
    buf_clear(scratch);
    if (index == PACKED_BESTS)
        bests_builder_finish(&builder->bests, only_node, &footer->bests, scratch);
    if (index == PACKED_FILTER) filter_build(builder->hashes.data, footer->info.count, scratch);
    if (index == PACKED_EXPIRY) expiry_builder_finish(&builder->expiries, &footer->expiry, scratch);
    if (index == PACKED_POSTINGS) status = postings_builder_finish(&builder->postings, scratch);
    if (status == STATUS_OK) status = buf_status(scratch);
    if (status != STATUS_OK) return status;
    return output_section(output, buf_slice(scratch), &footer->sections[index]);
}

static enum status write_sections(struct packed_builder *builder, struct output *output,
                                  struct buf *scratch)
{
    struct slice ready[PACKED_SECTION_COUNT] = {0};
    ready[PACKED_NODES] = buf_slice(&builder->rows.nodes.nodes);
    ready[PACKED_SUMS] = buf_slice(&builder->sums);
    ready[PACKED_PRESENT] = buf_slice(&builder->present.bytes);
    ready[PACKED_DIRECTORY] = buf_slice(&builder->rows.directory);
    ready[PACKED_ROWS] = buf_slice(&builder->rows.bytes);
    ready[PACKED_BODIES] = buf_slice(&builder->rows.bodies);
    enum status status = front_builder_finish(builder->front, &ready[PACKED_FRONT]);

    for (unsigned i = 0; i < PACKED_CHECKSUMS && status == STATUS_OK; i++) {
        bool late = i == PACKED_BESTS || i == PACKED_FILTER || i == PACKED_EXPIRY ||
                    i == PACKED_POSTINGS;
        status = late ? write_late(builder, output, (enum packed_section)i, scratch)
                      : output_section(output, ready[i], &builder->footer.sections[i]);
    }
    return status;
}

static enum status write_end(struct packed_builder *builder, struct output *output,
                             struct buf *scratch)
{
    struct packed_footer *footer = &builder->footer;
    struct buf *checksums = &output->checksums;
    if (output->size % PAGES_BYTES != 0) buf_append_u32le(checksums, output->crc);
    enum status status = buf_status(checksums);
    if (status != STATUS_OK) return status;

    XXH128_hash_t content = XXH3_128bits(checksums->data, checksums->size);
    footer->content = (struct sum){content.low64, content.high64};
    footer->checksums_crc = crc32c(0, checksums->data, checksums->size);
    footer->sections[PACKED_CHECKSUMS] = (struct packed_extent){output->size, checksums->size};
    footer->epoch_ms = builder->rows.epoch_ms;
    footer->info.key_first = buf_slice(&builder->key_first);
    footer->info.key_last = buf_slice(&builder->key_last);

    buf_clear(scratch);
    packed_footer_append(footer, scratch);
    status = buf_status(scratch);
    if (status != STATUS_OK) return status;
    const struct packed_sink *sink = output->sink;
    status = sink->write(sink->context, checksums->data, checksums->size);
    if (status != STATUS_OK) return status;
    return sink->write(sink->context, scratch->data, scratch->size);
}

enum status packed_builder_finish(struct packed_builder *builder, const struct packed_sink *sink)
{
    CHECK(builder->footer.info.count > 0);

    struct output output = {.sink = sink};
    struct buf scratch;
    buf_init(&output.checksums, builder->heap);
    buf_init(&scratch, builder->heap);
    present_builder_finish(&builder->present, builder->footer.info.count);
    enum status status = rows_builder_finish(&builder->rows);
    if (status == STATUS_OK) status = bufs_status(builder);
    if (status == STATUS_OK) status = output_header(&output);
    if (status == STATUS_OK) status = write_sections(builder, &output, &scratch);
    if (status == STATUS_OK) status = write_end(builder, &output, &scratch);
    buf_deinit(&scratch);
    buf_deinit(&output.checksums);
    return status;
}
