#include "cluster/purge_ranges.h"

#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/math.h"
#include "core/key.h"

enum { FORM = 1 };

static struct slice low_of(const struct purge_piece *piece)
{
    return (struct slice){piece->low, piece->low_size};
}

static bool times_equal(const struct purge_times *a, const struct purge_times *b)
{
    return memcmp(a->at, b->at, sizeof a->at) == 0;
}

static enum status reserve(struct purge_ranges *ranges, size_t count)
{
    if (count > PURGE_PIECES_MAX) return STATUS_LIMIT;
    if (count <= ranges->capacity) return STATUS_OK;
    size_t capacity = size_max(count, ranges->capacity * 2);
    struct purge_piece *pieces =
        heap_realloc(ranges->heap, ranges->pieces, capacity * sizeof *pieces);
    if (pieces == NULL) return STATUS_NOMEM;
    ranges->pieces = pieces;
    ranges->capacity = capacity;
    return STATUS_OK;
}

static enum status copy_low(struct purge_ranges *ranges, struct slice low, uint8_t **out)
{
    *out = NULL;
    if (low.size == 0) return STATUS_OK;
    *out = heap_alloc(ranges->heap, low.size);
    if (*out == NULL) return STATUS_NOMEM;
    memcpy(*out, low.data, low.size);
    return STATUS_OK;
}

enum status purge_ranges_init(struct purge_ranges *ranges, struct heap *heap)
{
    *ranges = (struct purge_ranges){.heap = heap};
    enum status status = reserve(ranges, 1);
    if (status != STATUS_OK) return status;
    struct purge_piece piece = {.low = NULL};
    for (size_t i = 0; i < PURGE_FIELD_COUNT; i++) piece.times.at[i] = PURGE_BEGINNING;
    piece.times.at[PURGE_COMPLETE] = 0;
    ranges->pieces[ranges->count++] = piece;
    return STATUS_OK;
}

void purge_ranges_deinit(struct purge_ranges *ranges)
{
    for (size_t i = 0; i < ranges->count; i++) heap_free(ranges->heap, ranges->pieces[i].low);
    heap_free(ranges->heap, ranges->pieces);
    *ranges = (struct purge_ranges){.heap = ranges->heap};
}

/* The piece that holds `key`. */
static size_t find(const struct purge_ranges *ranges, struct slice key)
{
    size_t first = 0, end = ranges->count;
    while (end - first > 1) {
        size_t middle = first + (end - first) / 2;
        if (slice_compare(low_of(&ranges->pieces[middle]), key) <= 0)
            first = middle;
        else
            end = middle;
    }
    return first;
}

struct purge_times purge_ranges_at(const struct purge_ranges *ranges, struct slice key)
{
    return ranges->pieces[find(ranges, key)].times;
}

static bool is_empty(const struct key_range *range)
{
    return range->high.size != 0 && slice_compare(range->low, range->high) >= 0;
}

bool purge_walk_next(const struct purge_ranges *ranges, struct purge_walk *walk,
                     struct key_range *part, struct purge_times *times)
{
    if (walk->ended || is_empty(&walk->rest)) return false;
    size_t at = find(ranges, walk->rest.low);
    *times = ranges->pieces[at].times;
    *part = walk->rest;
    walk->ended = at + 1 == ranges->count;
    if (walk->ended) return true;
    struct slice next = low_of(&ranges->pieces[at + 1]);
    walk->ended = part->high.size != 0 && slice_compare(part->high, next) <= 0;
    if (!walk->ended) part->high = walk->rest.low = next;
    return true;
}

struct purge_times purge_ranges_least(const struct purge_ranges *ranges, struct key_range range)
{
    struct purge_times least, times;
    struct purge_walk walk = purge_walk_of(range);
    struct key_range part;
    for (size_t i = 0; i < PURGE_FIELD_COUNT; i++) least.at[i] = UINT64_MAX;
    while (purge_walk_next(ranges, &walk, &part, &times))
        for (size_t i = 0; i < PURGE_FIELD_COUNT; i++)
            least.at[i] = u64_min(least.at[i], times.at[i]);
    return least;
}

/* Makes a piece begin at `low`, whose memory it takes; room was reserved. */
static void cut(struct purge_ranges *ranges, uint8_t *low, size_t low_size)
{
    size_t at = find(ranges, (struct slice){low, low_size});
    struct purge_piece piece = ranges->pieces[at];
    piece.low = low;
    piece.low_size = low_size;
    memmove(&ranges->pieces[at + 2], &ranges->pieces[at + 1],
            (ranges->count - at - 1) * sizeof *ranges->pieces);
    ranges->pieces[at + 1] = piece;
    ranges->count++;
}

static bool is_cut(const struct purge_ranges *ranges, struct slice low)
{
    return slice_equal(low_of(&ranges->pieces[find(ranges, low)]), low);
}

static void join_alike(struct purge_ranges *ranges)
{
    size_t kept = 1;
    for (size_t i = 1; i < ranges->count; i++) {
        if (times_equal(&ranges->pieces[i].times, &ranges->pieces[kept - 1].times))
            heap_free(ranges->heap, ranges->pieces[i].low);
        else
            ranges->pieces[kept++] = ranges->pieces[i];
    }
    ranges->count = kept;
}

static bool is_due(hlc_time is, hlc_time time, bool raise)
{
    return raise ? is < time : is > time;
}

static bool is_due_anywhere(const struct purge_ranges *ranges, struct key_range range,
                            enum purge_field field, hlc_time time, bool raise)
{
    struct purge_walk walk = purge_walk_of(range);
    struct key_range part;
    struct purge_times times;
    while (purge_walk_next(ranges, &walk, &part, &times))
        if (is_due(times.at[field], time, raise)) return true;
    return false;
}

static enum status change(struct purge_ranges *ranges, struct key_range range,
                          enum purge_field field, hlc_time time, bool raise, bool *changed)
{
    if (!is_due_anywhere(ranges, range, field, time, raise)) return STATUS_OK;
    bool cut_low = !is_cut(ranges, range.low);
    bool cut_high = range.high.size != 0 && !is_cut(ranges, range.high);
    uint8_t *low = NULL, *high = NULL;
    enum status status = reserve(ranges, ranges->count + cut_low + cut_high);
    if (status == STATUS_OK && cut_low) status = copy_low(ranges, range.low, &low);
    if (status == STATUS_OK && cut_high) status = copy_low(ranges, range.high, &high);
    if (status != STATUS_OK) {
        heap_free(ranges->heap, low);
        return status;
    }
    if (cut_low) cut(ranges, low, range.low.size);
    if (cut_high) cut(ranges, high, range.high.size);
    size_t end = range.high.size == 0 ? ranges->count : find(ranges, range.high);
    for (size_t i = find(ranges, range.low); i < end; i++) {
        hlc_time *at = &ranges->pieces[i].times.at[field];
        if (is_due(*at, time, raise)) *at = time;
    }
    join_alike(ranges);
    *changed = true;
    return STATUS_OK;
}

enum status purge_ranges_raise(struct purge_ranges *ranges, struct key_range range,
                               enum purge_field field, hlc_time time, bool *changed)
{
    return change(ranges, range, field, time, true, changed);
}

enum status purge_ranges_lower(struct purge_ranges *ranges, struct key_range range,
                               enum purge_field field, hlc_time time, bool *changed)
{
    return change(ranges, range, field, time, false, changed);
}

/* --- Bytes --- */

void purge_ranges_encode(const struct purge_ranges *ranges, struct buf *out)
{
    buf_append_u8(out, FORM);
    buf_append_varint(out, ranges->count);
    for (size_t i = 0; i < ranges->count; i++) {
        const struct purge_piece *piece = &ranges->pieces[i];
        buf_append_varint(out, piece->low_size);
        buf_append_slice(out, low_of(piece));
        for (size_t j = 0; j < PURGE_FIELD_COUNT; j++) buf_append_u64le(out, piece->times.at[j]);
    }
}

static enum status read_piece(struct purge_ranges *ranges, struct reader *reader)
{
    uint64_t size = reader_varint(reader);
    if (size > KEY_BYTES_MAX) return STATUS_CORRUPT;
    struct slice low = reader_bytes(reader, (size_t)size);
    struct purge_piece piece = {.low_size = low.size};
    for (size_t i = 0; i < PURGE_FIELD_COUNT; i++) piece.times.at[i] = reader_u64le(reader);
    if (reader->failed || (ranges->count == 0) != (low.size == 0)) return STATUS_CORRUPT;
    if (ranges->count > 0) {
        const struct purge_piece *last = &ranges->pieces[ranges->count - 1];
        if (slice_compare(low_of(last), low) >= 0) return STATUS_CORRUPT;
        if (times_equal(&last->times, &piece.times)) return STATUS_CORRUPT;
    }
    enum status status = reserve(ranges, ranges->count + 1);
    if (status == STATUS_OK) status = copy_low(ranges, low, &piece.low);
    if (status == STATUS_OK) ranges->pieces[ranges->count++] = piece;
    return status;
}

enum status purge_ranges_decode(struct purge_ranges *ranges, struct slice bytes)
{
    struct reader reader = reader_of(bytes);
    struct purge_ranges decoded = {.heap = ranges->heap};
    unsigned form = reader_u8(&reader);
    if (!reader.failed && form > FORM) return STATUS_NEWER;
    uint64_t count = reader_varint(&reader);
    enum status status = STATUS_OK;
    if (reader.failed || form != FORM || count == 0 || count > PURGE_PIECES_MAX)
        status = STATUS_CORRUPT;
    for (uint64_t i = 0; status == STATUS_OK && i < count; i++)
        status = read_piece(&decoded, &reader);
    if (status == STATUS_OK && reader_left(&reader) != 0) status = STATUS_CORRUPT;
    if (status != STATUS_OK) {
        purge_ranges_deinit(&decoded);
        return status;
    }
    purge_ranges_deinit(ranges);
    *ranges = decoded;
    return STATUS_OK;
}
