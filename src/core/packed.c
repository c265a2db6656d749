#include "core/packed.h"

#include <xxhash.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/math.h"
#include "core/packed_parts.h"

/* Far above any real file, and far from where products of it overflow. */
static const uint64_t count_max = UINT64_C(1) << 40;

/* --- Opening --- */

static struct slice section(const struct packed *packed, enum packed_section index)
{
    struct packed_extent extent = packed->footer.sections[index];
    return slice_of(packed->file.data + extent.offset, (size_t)extent.size);
}

/* What follows from the counts must agree with them. */
static bool sizes_agree(const struct packed *packed)
{
    const struct packed_footer *footer = &packed->footer;
    const struct packed_extent *sections = footer->sections;
    uint64_t count = footer->info.count;
    uint64_t present = sections[PACKED_PRESENT].size;
    unsigned expiry = expiry_stride(&footer->expiry);
    return sections[PACKED_BESTS].size == bests_total(count) * packed->bests.stride &&
           sections[PACKED_SUMS].size == packed_sums_bytes(count) &&
           (present == 0 ? footer->info.present_count == count : present == present_bytes(count)) &&
           sections[PACKED_DIRECTORY].size == rows_directory_bytes(count) &&
           sections[PACKED_FILTER].size >= FILTER_LINE_BYTES &&
           sections[PACKED_FILTER].size % FILTER_LINE_BYTES == 0 &&
           sections[PACKED_NODES].size >= sizeof(uint16_t) &&
           sections[PACKED_NODES].size <= (UINT16_MAX + 1) * sizeof(uint16_t) &&
           footer->expiry.time_bytes <= 8 && footer->expiry.ordinal_bytes <= 8 &&
           (expiry == 0 ? sections[PACKED_EXPIRY].size == 0
                        : sections[PACKED_EXPIRY].size % expiry == 0);
}

static enum status open_footer(struct packed *packed)
{
    struct packed_footer *footer = &packed->footer;
    enum status status = packed_footer_read(packed->file, footer);
    if (status != STATUS_OK) return status;

    struct packed_info *info = &footer->info;
    if (info->count == 0 || info->count > count_max) return STATUS_CORRUPT;
    if (info->present_count > info->count) return STATUS_CORRUPT;
    if (info->tombstone_count > info->count - info->present_count) return STATUS_CORRUPT;
    status = bests_layout(&packed->bests, info->count, &footer->bests);
    if (status != STATUS_OK) return status;
    info->level_count = packed->bests.level_count;
    return sizes_agree(packed) ? STATUS_OK : STATUS_CORRUPT;
}

static enum status open_pages(struct packed *packed)
{
    struct slice checksums = section(packed, PACKED_CHECKSUMS);
    struct slice bytes = slice_prefix(packed->file, (size_t)(checksums.data - packed->file.data));
    size_t page_count = (bytes.size + PAGES_BYTES - 1) >> PAGES_SHIFT;
    if (checksums.size != page_count * sizeof(uint32_t)) return STATUS_CORRUPT;
    if (crc32c(0, checksums.data, checksums.size) != packed->footer.checksums_crc)
        return STATUS_CORRUPT;
    enum status status = pages_init(&packed->pages, packed->heap, bytes, checksums.data);
    if (status != STATUS_OK) return status;

    status = pages_touch(&packed->pages, 0, PACKED_HEADER_BYTES);
    if (status != STATUS_OK) return status;
    return load_u64le(bytes.data) == PACKED_MAGIC ? STATUS_OK : STATUS_CORRUPT;
}

static enum status open_columns(struct packed *packed)
{
    struct pages *pages = &packed->pages;
    uint64_t count = packed->footer.info.count;
    struct slice nodes = section(packed, PACKED_NODES);
    enum status status = pages_touch_slice(pages, nodes);
    if (status != STATUS_OK) return status;

    packed->rows = (struct rows){
        .pages = pages,
        .directory = section(packed, PACKED_DIRECTORY),
        .bytes = section(packed, PACKED_ROWS),
        .bodies = section(packed, PACKED_BODIES),
        .nodes = {nodes.data, nodes.size / sizeof(uint16_t)},
        .count = count,
        .epoch_ms = packed->footer.epoch_ms,
    };
    packed->present = (struct present){pages, section(packed, PACKED_PRESENT), count};
    packed->bests.pages = pages;
    packed->bests.bytes = section(packed, PACKED_BESTS);
    packed->bests.node = load_u16le(nodes.data);
    packed->filter = (struct filter){pages, section(packed, PACKED_FILTER)};
    packed->postings = (struct postings){pages, section(packed, PACKED_POSTINGS), count};
    packed->expiry =
        (struct expiry){pages, section(packed, PACKED_EXPIRY), packed->footer.expiry, count};
    packed->sums = section(packed, PACKED_SUMS);
    return STATUS_OK;
}

static enum status open_front(struct packed *packed)
{
    struct slice sections[FRONT_SECTION_COUNT];
    for (unsigned i = 0; i < FRONT_SECTION_COUNT; i++)
        sections[i] = section(packed, (enum packed_section)(PACKED_FRONT + i));
    enum status status = front_open(packed->heap, &packed->pages, sections, &packed->front);
    if (status != STATUS_OK) return status;
    return front_count(packed->front) == packed->footer.info.count ? STATUS_OK : STATUS_CORRUPT;
}

enum status packed_open(struct heap *heap, struct slice file, struct packed **out)
{
    struct packed *packed = heap_zalloc(heap, sizeof *packed);
    if (packed == NULL) return STATUS_NOMEM;
    packed->heap = heap;
    packed->file = file;

    enum status status = open_footer(packed);
    if (status == STATUS_OK) status = open_pages(packed);
    if (status == STATUS_OK) status = open_columns(packed);
    if (status == STATUS_OK) status = open_front(packed);
    if (status != STATUS_OK) {
        packed_close(packed);
        return status;
    }
    *out = packed;
    return STATUS_OK;
}

void packed_close(struct packed *packed)
{
    if (packed == NULL) return;
    front_close(packed->front);
    pages_deinit(&packed->pages, packed->heap);
    heap_free(packed->heap, packed);
}

const struct packed_info *packed_info(const struct packed *packed)
{
    return &packed->footer.info;
}

/* --- Keys and ordinals --- */

enum status packed_rank(const struct packed *packed, struct slice key, uint64_t *ordinal,
                        bool *exact)
{
    return front_rank(packed->front, key, ordinal, exact);
}

enum status packed_prefix(const struct packed *packed, struct slice prefix, uint64_t *low,
                          uint64_t *high)
{
    return front_prefix(packed->front, prefix, low, high);
}

enum status packed_prefix_all(const struct packed *const packed[], size_t count,
                              struct slice prefix, uint64_t lows[], uint64_t highs[])
{
    _Static_assert((int)PACKED_AT_ONCE <= (int)FRONT_AT_ONCE, "one for each");
    const struct front *fronts[PACKED_AT_ONCE];
    CHECK(count <= PACKED_AT_ONCE);
    for (size_t i = 0; i < count; i++) fronts[i] = packed[i]->front;
    return front_prefix_all(fronts, count, prefix, lows, highs);
}

uint64_t packed_key_hash(struct slice key)
{
    return XXH3_64bits(key.data, key.size);
}

void packed_prefetch(const struct packed *packed, uint64_t hash)
{
    filter_prefetch(&packed->filter, hash);
}

enum status packed_find(const struct packed *packed, struct slice key, uint64_t *ordinal)
{
    return packed_find_hashed(packed, key, packed_key_hash(key), ordinal);
}

enum status packed_find_hashed(const struct packed *packed, struct slice key, uint64_t hash,
                               uint64_t *ordinal)
{
    bool maybe = false, exact = false;
    enum status status = filter_has(&packed->filter, hash, &maybe);
    if (status != STATUS_OK) return status;
    if (!maybe) return STATUS_NOT_FOUND;

    uint64_t found = 0;
    status = front_rank(packed->front, key, &found, &exact);
    if (status != STATUS_OK) return status;
    if (!exact) return STATUS_NOT_FOUND;
    if (found >= packed->footer.info.count) return STATUS_CORRUPT;
    *ordinal = found;
    return STATUS_OK;
}

enum status packed_key(const struct packed *packed, uint64_t ordinal, struct buf *key)
{
    return front_key(packed->front, ordinal, key);
}

enum status packed_keys(const struct packed *packed, const uint64_t *ordinals, size_t count,
                        struct buf *key, struct buf *keys, size_t *ends)
{
    return front_keys(packed->front, ordinals, count, key, keys, ends);
}

static enum status is_absent(const struct packed *packed, uint64_t ordinal, bool *absent)
{
    CHECK(ordinal < packed->footer.info.count);

    uint32_t mask = 0;
    enum status status = present_absent_mask(&packed->present, ordinal / PACKED_BLOCK, &mask);
    *absent = mask >> ordinal % PACKED_BLOCK & 1;
    return status;
}

enum status packed_record(const struct packed *packed, uint64_t ordinal, struct record *record)
{
    bool absent;
    enum status status = is_absent(packed, ordinal, &absent);
    return status == STATUS_OK ? rows_record(&packed->rows, ordinal, absent, record) : status;
}

enum status packed_dictionary(const struct packed *packed, struct heap *heap,
                              struct dictionary **out)
{
    return dictionary_copy(front_dictionary(packed->front), heap, out);
}

/* --- Presence and bests --- */

enum status packed_present_below(const struct packed *packed, uint64_t ordinal, uint64_t *count)
{
    CHECK(ordinal <= packed->footer.info.count);
    return present_below(&packed->present, ordinal, count);
}

enum status packed_present_select(const struct packed *packed, uint64_t rank, uint64_t *ordinal)
{
    return present_select(&packed->present, rank, ordinal);
}

uint64_t packed_best_count(const struct packed *packed, unsigned level)
{
    CHECK(level < packed->bests.level_count);
    return packed->bests.level_size[level];
}

enum status packed_bests(const struct packed *packed, unsigned level, uint64_t first, size_t count,
                         struct best bests[PACKED_FAN_OUT])
{
    return bests_get(&packed->bests, level, first, count, bests);
}

enum status packed_bests_upto(const struct packed *packed, unsigned level, uint64_t first,
                              struct best last, struct best bests[PACKED_FAN_OUT], uint32_t *found)
{
    return bests_upto(&packed->bests, level, first, last, bests, found);
}

enum status packed_block_bests(const struct packed *packed, uint64_t block,
                               struct best bests[PACKED_BLOCK])
{
    CHECK(block < packed->bests.level_size[0]);

    uint32_t absent = 0;
    enum status status = present_absent_mask(&packed->present, block, &absent);
    if (status != STATUS_OK) return status;
    return rows_bests(&packed->rows, block, absent, bests);
}

enum status packed_block_bests_upto(const struct packed *packed, uint64_t block, uint32_t among,
                                    struct best last, struct best bests[PACKED_BLOCK],
                                    uint32_t *found)
{
    CHECK(block < packed->bests.level_size[0]);

    uint32_t absent = 0;
    enum status status = present_absent_mask(&packed->present, block, &absent);
    if (status != STATUS_OK) return status;
    return rows_bests_upto(&packed->rows, block, among & ~absent, last, bests, found);
}

void packed_prefetch_below(const struct packed *packed, unsigned level, uint64_t index)
{
    CHECK(level < packed->bests.level_count);
    if (level == 0) {
        rows_prefetch(&packed->rows, index);
        return;
    }
    bests_prefetch(&packed->bests, level - 1, index * PACKED_FAN_OUT);
    if (level > 1) return;
    rows_prefetch_directory(&packed->rows, index * PACKED_FAN_OUT);
    front_prefetch_offsets(packed->front, index * PACKED_FAN_OUT * PACKED_BLOCK);
}

void packed_prefetch_key(const struct packed *packed, uint64_t ordinal)
{
    front_prefetch(packed->front, ordinal);
}

/* --- Expiry and tags --- */

enum status packed_expiry_range(const struct packed *packed, uint64_t after_ms, uint64_t upto_ms,
                                uint64_t *first, uint64_t *end)
{
    uint64_t low = 0, high = 0;
    enum status status = expiry_rank(&packed->expiry, after_ms, &low);
    if (status == STATUS_OK) status = expiry_rank(&packed->expiry, upto_ms, &high);
    if (status != STATUS_OK) return status;
    *first = low;
    *end = u64_max(low, high);
    return STATUS_OK;
}

enum status packed_expiry_at(const struct packed *packed, uint64_t position, uint64_t *expires_at,
                             uint64_t *ordinal)
{
    return expiry_at(&packed->expiry, position, expires_at, ordinal);
}

enum status packed_tag(const struct packed *packed, struct slice tag,
                       struct packed_postings *postings)
{
    return postings_find(&packed->postings, tag, postings);
}

/* --- Walks --- */

enum status packed_iterator_init(struct packed_iterator *iterator, const struct packed *packed,
                                 struct heap *heap)
{
    struct front_iterator *front = NULL;
    enum status status = front_iterator_create(heap, packed->front, &front);
    if (status != STATUS_OK) return status;
    *iterator = (struct packed_iterator){.packed = packed, .front = front, .heap = heap};
    return STATUS_OK;
}

void packed_iterator_deinit(struct packed_iterator *iterator)
{
    front_iterator_destroy(iterator->front);
    heap_free(iterator->heap, iterator->records);
    iterator->front = NULL;
    iterator->records = NULL;
}

static enum status iterator_show(struct packed_iterator *iterator, enum status status)
{
    if (status != STATUS_OK) return status;
    iterator->ordinal = front_iterator_ordinal(iterator->front);
    iterator->key = front_iterator_key(iterator->front);
    return STATUS_OK;
}

enum status packed_iterator_seek(struct packed_iterator *iterator, uint64_t ordinal)
{
    return iterator_show(iterator, front_iterator_seek(iterator->front, ordinal));
}

enum status packed_iterator_next(struct packed_iterator *iterator)
{
    return iterator_show(iterator, front_iterator_next(iterator->front));
}

enum status packed_iterator_previous(struct packed_iterator *iterator)
{
    return iterator_show(iterator, front_iterator_previous(iterator->front));
}

enum status packed_iterator_record(struct packed_iterator *iterator, uint64_t ordinal,
                                   struct record *record)
{
    const struct packed *packed = iterator->packed;
    bool absent;
    enum status status = is_absent(packed, ordinal, &absent);
    if (status != STATUS_OK) return status;
    if (iterator->records == NULL)
        iterator->records = heap_zalloc(iterator->heap, sizeof *iterator->records);
    if (iterator->records == NULL) return STATUS_NOMEM;
    return rows_walk_record(&packed->rows, iterator->records, ordinal, absent, record);
}

/* --- Pages --- */

uint64_t packed_page_count(const struct packed *packed)
{
    return pages_count(&packed->pages);
}

/* A packed trie is constant to its readers but for the bits of its pages, which are atomic. */
static struct pages *pages_of(const struct packed *packed)
{
    return packed->rows.pages;
}

enum status packed_verify_page(const struct packed *packed, uint64_t page)
{
    return pages_verify(pages_of(packed), (size_t)page);
}

bool packed_is_damaged(const struct packed *packed)
{
    return atomic_load(&pages_of(packed)->damaged);
}

void packed_mark_damaged(struct packed *packed)
{
    atomic_store(&packed->pages.damaged, true);
}
