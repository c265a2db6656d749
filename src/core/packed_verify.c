#include "core/packed_verify.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/math.h"
#include "core/packed_parts.h"

enum { TEXT_BYTES = 200, PROGRESS_ORDINALS = 4096 };

__attribute__((format(printf, 4, 5))) static void tell(packed_flaw *flaw, void *context,
                                                       uint64_t offset, const char *format, ...)
{
    char text[TEXT_BYTES];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    flaw(context, offset, text);
}

/* --- The frame --- */

/* Why packed_footer_read() refused: the first of its rules that does not hold. */
static void tell_footer(struct slice file, packed_flaw *flaw, void *context)
{
    uint64_t least = PACKED_HEADER_BYTES + PACKED_TAIL_BYTES;
    if (file.size < least) {
        tell(flaw, context, 0, "has %zu bytes, where the least packed trie has more than %" PRIu64,
             file.size, least);
        return;
    }
    uint64_t tail_at = file.size - PACKED_TAIL_BYTES;
    const uint8_t *tail = file.data + tail_at;
    uint32_t size = load_u32le(tail);
    if (load_u64le(tail + 16) != PACKED_MAGIC)
        tell(flaw, context, tail_at + 16,
             "the last 8 bytes are %016" PRIx64 ", not the mark of a packed trie: damaged or cut",
             load_u64le(tail + 16));
    else if (size > file.size - least)
        tell(flaw, context, tail_at, "the footer is said to have %" PRIu32 " bytes: too many",
             size);
    else if (crc32c(0, tail - size, (size_t)size + 12) != load_u32le(tail + 12))
        tell(flaw, context, tail_at,
             "footer (%" PRIu32 " bytes and tail): checksum %08" PRIx32 ", expected %08" PRIx32,
             size, crc32c(0, tail - size, (size_t)size + 12), load_u32le(tail + 12));
    else
        tell(flaw, context, tail_at - size, "the footer breaks a rule under a right checksum");
}

static enum status check_checksums(struct slice file, const struct packed_footer *footer,
                                   packed_flaw *flaw, void *context)
{
    const struct packed_extent *extent = &footer->sections[PACKED_CHECKSUMS];
    const uint8_t *checksums = file.data + extent->offset;
    uint64_t pages = (extent->offset + PAGES_BYTES - 1) >> PAGES_SHIFT;
    if (extent->size != pages * sizeof(uint32_t)) {
        tell(flaw, context, extent->offset,
             "%" PRIu64 " bytes of checksums for %" PRIu64 " pages, expected %" PRIu64,
             extent->size, pages, (uint64_t)(pages * sizeof(uint32_t)));
        return STATUS_CORRUPT;
    }
    uint32_t crc = crc32c(0, checksums, (size_t)extent->size);
    if (crc != footer->checksums_crc) {
        tell(flaw, context, extent->offset,
             "the checksums of the pages: checksum %08" PRIx32 ", expected %08" PRIx32
             "; no page can be judged",
             crc, footer->checksums_crc);
        return STATUS_CORRUPT;
    }
    XXH128_hash_t content = XXH3_128bits(checksums, (size_t)extent->size);
    if (sum_equal((struct sum){content.low64, content.high64}, footer->content)) return STATUS_OK;
    tell(flaw, context, extent->offset,
         "the file's content hashes to %016" PRIx64 "%016" PRIx64 ", expected %016" PRIx64
         "%016" PRIx64,
         content.high64, content.low64, footer->content.high, footer->content.low);
    return STATUS_CORRUPT;
}

static bool page_is_right(struct slice file, const struct packed_extent *checksums, uint64_t page)
{
    uint64_t offset = page << PAGES_SHIFT;
    size_t size = (size_t)u64_min(PAGES_BYTES, checksums->offset - offset);
    return crc32c(0, file.data + offset, size) ==
           load_u32le(file.data + checksums->offset + 4 * page);
}

/* Tells of runs of bad pages, each run once. */
static enum status check_pages(struct slice file, const struct packed_footer *footer,
                               packed_flaw *flaw, void *context)
{
    const struct packed_extent *checksums = &footer->sections[PACKED_CHECKSUMS];
    uint64_t count = (checksums->offset + PAGES_BYTES - 1) >> PAGES_SHIFT;
    enum status status = STATUS_OK;
    for (uint64_t page = 0; page < count; page++) {
        if (page_is_right(file, checksums, page)) continue;
        uint64_t first = page;
        while (page + 1 < count && !page_is_right(file, checksums, page + 1)) page++;
        status = STATUS_CORRUPT;
        uint64_t offset = first << PAGES_SHIFT;
        size_t size = (size_t)u64_min(PAGES_BYTES, checksums->offset - offset);
        if (first == page)
            tell(flaw, context, offset,
                 "page %" PRIu64 ": checksum %08" PRIx32 ", expected %08" PRIx32, first,
                 crc32c(0, file.data + offset, size),
                 load_u32le(file.data + checksums->offset + 4 * first));
        else
            tell(flaw, context, offset, "pages %" PRIu64 " to %" PRIu64 ": wrong checksums", first,
                 page);
    }
    return status;
}

static int compare_extents(const void *a, const void *b)
{
    const struct packed_extent *left = a, *right = b;
    return (left->offset > right->offset) - (left->offset < right->offset);
}

/* Sections do not overlap, and nothing but zeros lies between them. */
static enum status check_gaps(struct slice file, const struct packed_footer *footer,
                              packed_flaw *flaw, void *context)
{
    struct packed_extent extents[PACKED_SECTION_COUNT + 1];
    memcpy(extents, footer->sections, sizeof footer->sections);
    extents[PACKED_SECTION_COUNT] = (struct packed_extent){0, PACKED_HEADER_BYTES};
    qsort(extents, PACKED_SECTION_COUNT + 1, sizeof *extents, compare_extents);

    uint64_t end = 0;
    for (size_t i = 0; i < PACKED_SECTION_COUNT + 1; i++) {
        if (extents[i].size == 0) continue;
        if (extents[i].offset < end) {
            tell(flaw, context, extents[i].offset,
                 "a section begins here, before the end of another at %" PRIu64, end);
            return STATUS_CORRUPT;
        }
        for (; end < extents[i].offset; end++) {
            if (file.data[end] == 0) continue;
            tell(flaw, context, end, "a byte between two sections is %02x, expected zero",
                 file.data[end]);
            return STATUS_CORRUPT;
        }
        end = extents[i].offset + extents[i].size;
    }
    return STATUS_OK;
}

static enum status check_header(struct slice file, packed_flaw *flaw, void *context)
{
    const uint8_t *tail = file.data + file.size - PACKED_TAIL_BYTES;
    if (load_u64le(file.data) == PACKED_MAGIC && memcmp(file.data + 8, tail + 4, 8) == 0)
        return STATUS_OK;
    tell(flaw, context, 0, "the header is not that of a packed trie, or not that of this footer");
    return STATUS_CORRUPT;
}

enum status packed_verify_frame(struct slice file, packed_flaw *flaw, void *context)
{
    struct packed_footer footer;
    enum status status = packed_footer_read(file, &footer);
    if (status == STATUS_CORRUPT) tell_footer(file, flaw, context);
    if (status != STATUS_OK) return status;
    status = check_checksums(file, &footer, flaw, context);
    if (status == STATUS_OK) status = check_pages(file, &footer, flaw, context);
    if (status == STATUS_OK) status = check_header(file, flaw, context);
    if (status == STATUS_OK && footer.section_count == PACKED_SECTION_COUNT)
        status = check_gaps(file, &footer, flaw, context);
    return status;
}

/* --- The content --- */

struct walk {
    const struct packed *packed;
    const struct packed_verify *verify;
    struct heap *heap;
    unsigned flaw_count;
    struct buf before; /* The key before. */
    uint8_t *filter;   /* As it should be. */

    /* Of the entries so far. */
    uint64_t present_count, tombstone_count, key_bytes, tag_count, expiring_count;
    uint64_t expires_first;
    struct version oldest, newest;
    struct sum sum;
    struct best block[PACKED_BLOCK];
    bool sum_is_wrong; /* A part of it is: told already. */
};

static uint64_t place(const struct packed *packed, enum packed_section index, uint64_t within)
{
    return packed->footer.sections[index].offset + within;
}

static uint64_t footer_place(const struct packed *packed)
{
    return place(packed, PACKED_CHECKSUMS, packed->footer.sections[PACKED_CHECKSUMS].size);
}

__attribute__((format(printf, 3, 4))) static void flaw(struct walk *walk, uint64_t offset,
                                                       const char *format, ...)
{
    char text[TEXT_BYTES];
    va_list list;
    if (walk->flaw_count++ >= PACKED_FLAWS_MAX) return;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    walk->verify->flaw(walk->verify->context, offset, text);
}

static void check_presence(struct walk *walk, uint64_t ordinal, const struct record *record)
{
    const struct packed *packed = walk->packed;
    uint64_t below = 0;
    if (ordinal % PRESENT_GROUP == 0) {
        uint64_t at = ordinal / PRESENT_GROUP * PRESENT_GROUP_BYTES;
        enum status status = packed_present_below(packed, ordinal + 1, &below);
        uint64_t expected = walk->present_count + record_is_present(record);
        if (status != STATUS_OK || below != expected)
            flaw(walk, place(packed, PACKED_PRESENT, at),
                 "%" PRIu64 " present up to ordinal %" PRIu64 ", expected %" PRIu64, below, ordinal,
                 expected);
    }
    walk->present_count += record_is_present(record);
    walk->tombstone_count += record->tombstone;
}

static void check_order(struct walk *walk, uint64_t ordinal, struct slice key)
{
    const struct packed *packed = walk->packed;
    uint64_t rank = 0;
    bool exact = false;
    if (ordinal > 0 && slice_compare(buf_slice(&walk->before), key) >= 0)
        flaw(walk, place(packed, PACKED_FRONT + FRONT_KEYS, 0),
             "the key at ordinal %" PRIu64 " is not above the one before", ordinal);
    if (ordinal == 0 && !slice_equal(packed->footer.info.key_first, key))
        flaw(walk, footer_place(packed), "the footer's first key is not that of the file");
    /* The tree above the blocks leads to their ends. */
    bool is_end = ordinal % FRONT_BLOCK == 0 || ordinal % FRONT_BLOCK == FRONT_BLOCK - 1 ||
                  ordinal + 1 == packed->footer.info.count;
    if (is_end &&
        (packed_rank(packed, key, &rank, &exact) != STATUS_OK || !exact || rank != ordinal))
        flaw(walk, place(packed, PACKED_FRONT + FRONT_INDEX, 0),
             "a search for the key at ordinal %" PRIu64 " ends at %" PRIu64, ordinal, rank);
    buf_clear(&walk->before);
    buf_append_slice(&walk->before, key);
}

static void check_sum(struct walk *walk, uint64_t ordinal, struct slice key,
                      const struct record *record)
{
    const struct packed *packed = walk->packed;
    struct sum hash = record_hash(key, record, packed->footer.info.hash_seed);
    walk->sum = sum_add(walk->sum, hash);
    if ((ordinal + 1) % PACKED_SUM_ORDINALS != 0) return;

    uint64_t at = ((ordinal + 1) / PACKED_SUM_ORDINALS - 1) * PACKED_SUM_BYTES;
    const uint8_t *stored = packed->sums.data + at;
    struct sum expected = {load_u64le(stored), load_u64le(stored + 8)};
    if (sum_equal(walk->sum, expected)) return;
    flaw(walk, place(packed, PACKED_SUMS, at),
         "records %" PRIu64 " to %" PRIu64 " hash to another sum than the one here",
         ordinal + 1 - PACKED_SUM_ORDINALS, ordinal);
    walk->sum_is_wrong = true;
    walk->sum = expected;
}

/* Searches take the bests of a block from its row at once, not record by record. */
static bool block_is_right(const struct walk *walk, uint64_t block)
{
    struct best bests[PACKED_BLOCK];
    if (packed_block_bests(walk->packed, block, bests) != STATUS_OK) return false;
    for (size_t i = 0; i < PACKED_BLOCK; i++)
        if (best_compare(bests[i], walk->block[i]) != 0) return false;
    return true;
}

static void check_best(struct walk *walk, uint64_t ordinal, const struct record *record)
{
    const struct packed *packed = walk->packed;
    uint64_t block = ordinal / PACKED_BLOCK;
    if (ordinal % PACKED_BLOCK == 0) memset(walk->block, 0, sizeof walk->block);
    walk->block[ordinal % PACKED_BLOCK] = record_best(record);
    if ((ordinal + 1) % PACKED_BLOCK != 0 && ordinal + 1 < packed->footer.info.count) return;

    struct best best = {0}, stored[PACKED_FAN_OUT];
    for (size_t i = 0; i < PACKED_BLOCK; i++) best = best_first(best, walk->block[i]);
    enum status status = packed_bests(packed, 0, block, 1, stored);
    if (status != STATUS_OK || best_compare(stored[0], best) != 0)
        flaw(walk, place(packed, PACKED_BESTS, block * packed->bests.stride),
             "the best of ordinals %" PRIu64 " to %" PRIu64 " is not that of their records",
             block * PACKED_BLOCK, ordinal);
    if (!block_is_right(walk, block))
        flaw(walk, place(packed, PACKED_ROWS, 0),
             "the row of ordinals %" PRIu64 " to %" PRIu64 " breaks a rule", block * PACKED_BLOCK,
             ordinal);
}

static void add_totals(struct walk *walk, uint64_t ordinal, struct slice key,
                       const struct record *record)
{
    struct version version = record->version;
    if (ordinal == 0 || version_compare(version, walk->oldest) < 0) walk->oldest = version;
    if (ordinal == 0 || version_compare(version, walk->newest) > 0) walk->newest = version;
    walk->key_bytes += key.size;
    filter_add(walk->filter, walk->packed->filter.bytes.size, packed_key_hash(key));
    if (!record_is_present(record)) return;

    struct slice rest = record->tags, tag;
    while (record_tag_next(&rest, &tag)) walk->tag_count++;
    if (record->expires_at == 0) return;
    walk->expiring_count++;
    if (walk->expires_first == 0 || record->expires_at < walk->expires_first)
        walk->expires_first = record->expires_at;
}

static enum status walk_entries(struct walk *walk, struct packed_iterator *iterator)
{
    const struct packed *packed = walk->packed;
    const struct packed_verify *verify = walk->verify;
    uint64_t count = packed->footer.info.count;
    for (uint64_t ordinal = 0; ordinal < count; ordinal++) {
        struct record record;
        enum status status = ordinal == 0 ? packed_iterator_seek(iterator, 0)
                                          : packed_iterator_next(iterator);
        if (status == STATUS_NOMEM) return status;
        if (status != STATUS_OK) {
            flaw(walk, place(packed, PACKED_FRONT + FRONT_KEYS, 0),
                 "the key at ordinal %" PRIu64 " cannot be read", ordinal);
            return STATUS_CORRUPT;
        }
        if (packed_record(packed, ordinal, &record) != STATUS_OK) {
            flaw(walk, place(packed, PACKED_ROWS, 0),
                 "the record at ordinal %" PRIu64 " breaks a rule, or is not as present as the "
                 "file says",
                 ordinal);
            return STATUS_CORRUPT;
        }
        check_order(walk, ordinal, iterator->key);
        check_presence(walk, ordinal, &record);
        check_sum(walk, ordinal, iterator->key, &record);
        check_best(walk, ordinal, &record);
        add_totals(walk, ordinal, iterator->key, &record);
        if (ordinal % PROGRESS_ORDINALS == 0 && verify->progress != NULL &&
            !verify->progress(verify->context, ordinal))
            return STATUS_CANCELLED;
    }
    return buf_status(&walk->before);
}

static void expect_equal(struct walk *walk, const char *what, uint64_t found, uint64_t expected)
{
    if (found == expected) return;
    flaw(walk, footer_place(walk->packed), "the footer says %" PRIu64 " %s, expected %" PRIu64,
         found, what, expected);
}

static void check_totals(struct walk *walk, struct slice last)
{
    const struct packed *packed = walk->packed;
    const struct packed_info *info = &packed->footer.info;
    uint64_t footer_at = footer_place(packed);

    expect_equal(walk, "present entries", info->present_count, walk->present_count);
    expect_equal(walk, "tombstones", info->tombstone_count, walk->tombstone_count);
    expect_equal(walk, "bytes of keys", info->key_bytes, walk->key_bytes);
    expect_equal(walk, "as the first expiry", info->expires_first, walk->expires_first);
    if (!version_equal(info->oldest, walk->oldest) || !version_equal(info->newest, walk->newest))
        flaw(walk, footer_at, "the footer's oldest or newest version is not that of the records");
    if (!slice_equal(info->key_last, last))
        flaw(walk, footer_at, "the footer's last key is not that of the file");
    if (!walk->sum_is_wrong && !sum_equal(info->sum, walk->sum))
        flaw(walk, footer_at, "the footer's sum of record hashes is not that of the records");
}

static void check_filter(struct walk *walk)
{
    struct slice bytes = walk->packed->filter.bytes;
    for (size_t at = 0; at < bytes.size; at += FILTER_LINE_BYTES) {
        if (memcmp(bytes.data + at, walk->filter + at, FILTER_LINE_BYTES) == 0) continue;
        flaw(walk, place(walk->packed, PACKED_FILTER, at),
             "line %zu of the filter is not that of the keys", at / FILTER_LINE_BYTES);
    }
}

/* Each level above the first is the first of sixteen below. */
static void check_levels(struct walk *walk)
{
    const struct packed *packed = walk->packed;
    for (unsigned level = 1; level < packed->bests.level_count; level++) {
        for (uint64_t i = 0; i < packed->bests.level_size[level]; i++) {
            struct best below[PACKED_FAN_OUT], stored[PACKED_FAN_OUT];
            enum status status =
                packed_bests(packed, level - 1, i * PACKED_FAN_OUT, PACKED_FAN_OUT, below);
            if (status == STATUS_OK) status = packed_bests(packed, level, i, 1, stored);
            struct best best = {0};
            for (size_t j = 0; j < PACKED_FAN_OUT && status == STATUS_OK; j++)
                best = best_first(best, below[j]);
            if (status == STATUS_OK && best_compare(best, stored[0]) == 0) continue;
            uint64_t at = (packed->bests.level_start[level] + i) * packed->bests.stride;
            flaw(walk, place(packed, PACKED_BESTS, at),
                 "best %" PRIu64 " of level %u is not the first of those below", i, level);
        }
    }
}

static void check_expiries(struct walk *walk)
{
    const struct packed *packed = walk->packed;
    uint64_t count = expiry_count(&packed->expiry);
    uint64_t time_before = 0, ordinal_before = 0;
    if (count != walk->expiring_count)
        flaw(walk, place(packed, PACKED_EXPIRY, 0),
             "%" PRIu64 " entries expire by the index, expected %" PRIu64, count,
             walk->expiring_count);
    for (uint64_t i = 0; i < count; i++) {
        struct record record = {0};
        uint64_t time = 0, ordinal = 0;
        enum status status = packed_expiry_at(packed, i, &time, &ordinal);
        if (status == STATUS_OK) status = packed_record(packed, ordinal, &record);
        bool ascends = i == 0 || time > time_before ||
                       (time == time_before && ordinal > ordinal_before);
        if (status != STATUS_OK || !ascends || !record_is_present(&record) ||
            record.expires_at != time) {
            flaw(walk, place(packed, PACKED_EXPIRY, i * expiry_stride(&packed->expiry.shape)),
                 "entry %" PRIu64 " of the expiry index is out of order, or not its record's", i);
            return;
        }
        time_before = time;
        ordinal_before = ordinal;
    }
}

/* One tag: its ordinals ascend (packed_postings_next() refuses others) and carry it. */
static bool posting_is_right(const struct packed *packed, struct slice tag, uint64_t *count)
{
    struct packed_postings postings;
    uint64_t ordinal = 0;
    enum status status = packed_tag(packed, tag, &postings);
    if (status != STATUS_OK) return false;
    while ((status = packed_postings_next(&postings, &ordinal)) == STATUS_OK) {
        struct record record;
        if (packed_record(packed, ordinal, &record) != STATUS_OK) return false;
        if (!record_is_present(&record) || !record_has_tag(&record, tag)) return false;
        ++*count;
    }
    return status == STATUS_END && postings.bytes.size == 0;
}

/* Tags ascend, so that none comes twice; each pair of the index is a pair of the records, and
 * there are as many: so they are the same. */
static void check_postings(struct walk *walk)
{
    const struct packed *packed = walk->packed;
    const struct postings *postings = &packed->postings;
    uint64_t count = 0;
    uint32_t tag_count = 0;
    struct slice before = {NULL, 0};
    enum status status = postings_tag_count(postings, &tag_count);
    for (uint32_t i = 0; status == STATUS_OK && i < tag_count; i++) {
        struct slice tag;
        status = postings_tag_at(postings, i, &tag);
        if (status != STATUS_OK || (i > 0 && slice_compare(before, tag) >= 0) ||
            !posting_is_right(packed, tag, &count)) {
            flaw(walk, place(packed, PACKED_POSTINGS, 4 + 4 * (uint64_t)i),
                 "the postings of tag %" PRIu32 " are not those of the records", i);
            return;
        }
        before = tag;
    }
    if (status != STATUS_OK || count != walk->tag_count)
        flaw(walk, place(packed, PACKED_POSTINGS, 0),
             "%" PRIu64 " postings, expected %" PRIu64 " by the records", count, walk->tag_count);
}

static enum status check_content(struct walk *walk)
{
    const struct packed *packed = walk->packed;
    struct packed_iterator iterator;
    enum status status = packed_iterator_init(&iterator, packed, walk->heap);
    if (status != STATUS_OK) return status;
    status = walk_entries(walk, &iterator);
    if (status == STATUS_OK) check_totals(walk, iterator.key);
    packed_iterator_deinit(&iterator);
    if (status != STATUS_OK) return status;
    check_filter(walk);
    check_levels(walk);
    check_expiries(walk);
    check_postings(walk);
    return STATUS_OK;
}

enum status packed_verify_content(const struct packed *packed, struct heap *heap,
                                  const struct packed_verify *verify)
{
    struct walk walk = {.packed = packed, .verify = verify, .heap = heap};
    buf_init(&walk.before, heap);
    walk.filter = heap_zalloc(heap, packed->filter.bytes.size);
    enum status status = walk.filter == NULL ? STATUS_NOMEM : check_content(&walk);
    heap_free(heap, walk.filter);
    buf_deinit(&walk.before);
    if (status == STATUS_OK && walk.flaw_count > 0) status = STATUS_CORRUPT;
    return status;
}
