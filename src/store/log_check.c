#include "store/log_check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/math.h"
#include "store/batch.h"
#include "store/frame.h"
#include "store/log_private.h"

/* A segment's file as it was found, and what became of it. */
struct seen {
    struct log_check_segment segment;
    struct segment_header header;
    bool readable;
    bool begun;  /* The header is valid and of this number. */
    bool odd;    /* The header is none, and not zeros either. */
    uint64_t at; /* How far it was read; where a search for evidence begins. */
};

struct check {
    struct env *env;
    struct heap *heap;
    const struct log_check_options *options;
    const struct log_check_visitor *visitor;
    struct log_check_totals *totals;
    struct seen *seen; /* Ascending by number. */
    size_t count, capacity;
    uint64_t sequence; /* Of the batch that must come next. */
    uint64_t proven;   /* The greatest sequence that was known durable. */
    size_t last;       /* The last segment of the chain; `count`: there is none. */
};

__attribute__((format(printf, 5, 6))) static void tell(struct check *check, bool damage,
                                                       const struct seen *seen, uint64_t offset,
                                                       const char *format, ...)
{
    char text[200];
    struct name name = name_of(NAME_LOG, seen->segment.number);
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    check->visitor->found(check->visitor->context, damage, name.text, offset, text);
}

/* --- Finding the segments --- */

static enum status collect(void *context, const char *text, bool is_file)
{
    struct check *check = context;
    uint64_t number;

    if (!is_file || name_parse(text, &number) != NAME_LOG) return STATUS_OK;
    if (check->count == check->capacity) {
        size_t capacity = check->capacity * 2 + 16;
        struct seen *seen = heap_realloc(check->heap, check->seen, capacity * sizeof *seen);
        if (seen == NULL) return STATUS_NOMEM;
        check->seen = seen;
        check->capacity = capacity;
    }
    check->seen[check->count++] =
        (struct seen){.segment.number = number, .segment.role = LOG_CHECK_WAITING};
    return STATUS_OK;
}

static int compare_seen(const void *a, const void *b)
{
    const struct seen *left = a, *right = b;
    return (left->segment.number > right->segment.number) -
           (left->segment.number < right->segment.number);
}

static void read_header(struct check *check, struct seen *seen, struct slice bytes)
{
    static const uint8_t zeros[SEGMENT_HEADER_BYTES];
    seen->readable = true;
    seen->segment.size_bytes = bytes.size;
    seen->at = u64_min(SEGMENT_HEADER_BYTES, bytes.size);
    if (bytes.size < SEGMENT_HEADER_BYTES) {
        seen->odd = true;
    } else if (!segment_header_decode(bytes.data, &seen->header)) {
        seen->odd = memcmp(bytes.data, zeros, sizeof zeros) != 0;
    } else if (memcmp(seen->header.store_id, check->options->store_id, 16) != 0) {
        tell(check, true, seen, 40, "belongs to another store");
    } else {
        seen->begun = seen->header.number == seen->segment.number;
    }
}

/* Maps a segment and calls `read`. What the device could not give is damage, not an error. */
static enum status with_bytes(struct check *check, struct seen *seen,
                              enum status (*read)(struct check *, struct seen *, struct slice,
                                                  void *),
                              void *context)
{
    struct env_file *file;
    struct env_map *map = NULL;
    enum status status =
        env_open(check->env, name_of(NAME_LOG, seen->segment.number).text, ENV_READ, &file);
    if (status == STATUS_OK) {
        status = env_file_map(file, &map);
        env_file_close(file);
    }
    if (status != STATUS_OK) {
        tell(check, true, seen, 0, "cannot be read: %s", status_name(status));
        return status == STATUS_NOMEM ? status : STATUS_OK;
    }
    status = read(check, seen, map->bytes, context);
    if (env_map_damaged(map))
        tell(check, true, seen, 0, "cannot be read in part: the device failed");
    env_unmap(map);
    return status;
}

static enum status read_first(struct check *check, struct seen *seen, struct slice bytes,
                              void *context)
{
    (void)context;
    read_header(check, seen, bytes);
    return STATUS_OK;
}

static enum status find_segments(struct check *check)
{
    enum status status = env_list(check->env, collect, check);
    if (check->count > 0) qsort(check->seen, check->count, sizeof *check->seen, compare_seen);
    for (size_t i = 0; i < check->count && status == STATUS_OK; i++)
        status = with_bytes(check, &check->seen[i], read_first, NULL);
    return status;
}

/* --- Reading --- */

static void read_entries(struct check *check, struct seen *seen, const struct frame *frame)
{
    struct reader reader = reader_of(frame->payload);
    struct batch_entry entry;
    uint64_t records = 0;
    enum status status;
    while ((status = batch_next(&reader, &entry)) == STATUS_OK)
        records += entry.kind == BATCH_RECORD;
    if (status != STATUS_END)
        tell(check, true, seen, seen->at,
             "record %" PRIu64 " of batch %" PRIu64 " makes no sense under a right checksum",
             records, frame->sequence);

    struct log_check_totals *totals = check->totals;
    seen->segment.batch_count++;
    seen->segment.record_count += records;
    totals->batch_count++;
    totals->record_count += records;
    if (frame->sequence < check->options->replay_sequence) return;
    totals->replay_batches++;
    totals->replay_records += records;
    totals->replay_bytes += frame->payload.size;
}

static bool is_next(const struct check *check, const struct frame *frame)
{
    if (frame->kind == FRAME_BATCH) return frame->sequence == check->sequence;
    if (frame->kind == FRAME_NEXT)
        return frame->payload.size == 0 && frame->sequence >= check->sequence;
    return frame->kind == FRAME_MARK && frame->payload.size == 0 &&
           frame->sequence == check->sequence - 1;
}

static enum status read_frames(struct check *check, struct seen *seen, struct slice bytes,
                               void *context)
{
    uint32_t seed = frame_seed(check->options->store_id, seen->segment.number);
    uint64_t start = seen->at;
    struct frame frame;
    (void)context;

    while (frame_decode(bytes, seen->at, seed, &frame) == STATUS_OK && is_next(check, &frame)) {
        check->proven = u64_max(check->proven, frame.durable);
        if (frame.kind == FRAME_BATCH) {
            read_entries(check, seen, &frame);
            seen->segment.last = check->sequence++;
        }
        seen->at += frame.size_bytes;
    }
    seen->segment.used_bytes = seen->at;
    bool (*progress)(void *, uint64_t) = check->visitor->progress;
    bool goes_on = progress == NULL || progress(check->visitor->context, seen->at - start);
    return goes_on ? STATUS_OK : STATUS_CANCELLED;
}

static void use(struct check *check, size_t i)
{
    struct seen *seen = &check->seen[i];
    check->last = i;
    if (seen->segment.role == LOG_CHECK_IN_USE) return;
    seen->segment.role = LOG_CHECK_IN_USE;
    seen->segment.first = check->sequence;
    seen->segment.last = check->sequence - 1;
    check->proven = u64_max(check->proven, seen->header.durable);
    check->totals->segment_count++;
}

/* The one that goes on where the chain has come to. */
static size_t next_segment(const struct check *check, size_t after)
{
    for (size_t i = after + 1; i < check->count; i++)
        if (check->seen[i].begun && check->seen[i].header.first == check->sequence) return i;
    return check->count;
}

/* From where the chain is, as far as it goes. */
static enum status read_chain(struct check *check)
{
    for (size_t i = check->last; i < check->count; i = next_segment(check, i)) {
        use(check, i);
        enum status status = with_bytes(check, &check->seen[i], read_frames, NULL);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

/* The newest that does not begin after the replay; the oldest where no replay is known. */
static size_t first_segment(const struct check *check)
{
    uint64_t replay = check->options->replay_sequence;
    size_t best = check->count;
    for (size_t i = 0; i < check->count; i++) {
        const struct seen *seen = &check->seen[i];
        if (!seen->begun) continue;
        if (replay == 0 && best < check->count) return best;
        if (replay == 0 || seen->header.first <= replay) best = i;
    }
    return best;
}

/* --- The end, and what lies behind it --- */

static enum status search(struct check *check, struct seen *seen, struct slice bytes, void *context)
{
    struct frame_tail *tail = context;
    uint32_t seed = frame_seed(check->options->store_id, seen->segment.number);
    if (seen->begun && seen->segment.role != LOG_CHECK_IN_USE)
        tail->durable = u64_max(tail->durable, seen->header.durable);
    frame_search(bytes, seen->at, seed, check->sequence, tail);
    return STATUS_OK;
}

static enum status search_all(struct check *check, struct frame_tail *tail)
{
    size_t from = check->last == check->count ? 0 : check->last;
    *tail = (struct frame_tail){.durable = check->proven};
    for (size_t i = from; i < check->count; i++) {
        enum status status = with_bytes(check, &check->seen[i], search, tail);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

/* Where a whole batch above the one that is missing begins. */
struct landing {
    uint64_t offset, sequence; /* 0: none. */
};

static enum status find_landing(struct check *check, struct seen *seen, struct slice bytes,
                                void *context)
{
    struct landing *landing = context;
    uint32_t seed = frame_seed(check->options->store_id, seen->segment.number);
    struct frame frame;
    uint64_t at = seen->at;
    for (; at < bytes.size; at += FRAME_ALIGN_BYTES) {
        if (frame_decode(bytes, at, seed, &frame) != STATUS_OK) continue;
        if (frame.kind != FRAME_BATCH || frame.sequence <= check->sequence) continue;
        *landing = (struct landing){at, frame.sequence};
        return STATUS_OK;
    }
    return STATUS_OK;
}

/* The next whole batch behind the damage; `check->last` is its segment, or `count`. */
static enum status skip_damage(struct check *check)
{
    for (size_t i = check->last == check->count ? 0 : check->last; i < check->count; i++) {
        struct landing landing = {0};
        struct seen *seen = &check->seen[i];
        enum status status = with_bytes(check, seen, find_landing, &landing);
        if (status != STATUS_OK) return status;
        if (landing.sequence == 0) continue;
        check->sequence = landing.sequence;
        use(check, i);
        seen->at = landing.offset;
        return STATUS_OK;
    }
    check->last = check->count;
    return STATUS_OK;
}

/* Damage lies where the chain ends; or in the header of a segment that might have gone on. */
static void tell_damage(struct check *check, uint64_t durable)
{
    size_t end = check->last;
    for (size_t i = end == check->count ? 0 : end + 1; i < check->count; i++) {
        const struct seen *seen = &check->seen[i];
        if (!seen->odd) continue;
        tell(check, true, seen, 0,
             "the header is damaged: batch %" PRIu64 " was durable (up to %" PRIu64
             " were) and is found nowhere",
             check->sequence, durable);
        return;
    }
    if (end < check->count) {
        tell(check, true, &check->seen[end], check->seen[end].at,
             "batch %" PRIu64 " was durable (up to %" PRIu64 " were) and is not here as written",
             check->sequence, durable);
        return;
    }
    struct seen none = {.segment.number = check->count > 0 ? check->seen[0].segment.number : 1};
    tell(check, true, &none, LOG_CHECK_NOWHERE,
         "batch %" PRIu64 " should be in the log, and no segment has it", check->sequence);
}

static enum status measure_trail(struct check *check, struct seen *seen, struct slice bytes,
                                 void *context)
{
    uint64_t end = bytes.size;
    (void)context;
    while (end > seen->at && bytes.data[end - 1] == 0) end--;
    check->totals->trailing_bytes = end > seen->at ? end - seen->at : 0;
    return STATUS_OK;
}

static enum status describe_end(struct check *check, const struct frame_tail *tail)
{
    check->totals->torn_batches = tail->frame_count;
    check->totals->torn_bytes = tail->frame_bytes;
    check->totals->last_sequence = check->sequence - 1;
    if (check->last == check->count) return STATUS_OK;

    struct seen *seen = &check->seen[check->last];
    if (tail->frame_count > 0)
        tell(check, false, seen, seen->at,
             "torn tail: %" PRIu64 " batches of %" PRIu64
             " bytes that were never known durable; a start cuts them off",
             tail->frame_count, tail->frame_bytes);
    return with_bytes(check, seen, measure_trail, NULL);
}

static enum status read_all(struct check *check)
{
    const struct log_check_options *options = check->options;
    struct frame_tail tail;
    check->last = first_segment(check);
    check->sequence = u64_max(options->replay_sequence, 1);
    if (check->last < check->count) check->sequence = check->seen[check->last].header.first;

    bool lost = check->last == check->count && options->expect_segments;
    for (;;) {
        enum status status = read_chain(check);
        if (status == STATUS_OK) status = search_all(check, &tail);
        if (status != STATUS_OK) return status;
        if (!lost && tail.durable < check->sequence) break;
        tell_damage(check, tail.durable);
        lost = false;
        uint64_t missing = check->sequence;
        status = skip_damage(check);
        if (status != STATUS_OK) return status;
        if (check->last == check->count) break;
        CHECK(check->sequence > missing);
    }
    return describe_end(check, &tail);
}

static void describe_segments(struct check *check)
{
    size_t first = 0;
    while (first < check->count && check->seen[first].segment.role != LOG_CHECK_IN_USE) first++;
    for (size_t i = 0; i < check->count; i++) {
        struct seen *seen = &check->seen[i];
        if (i < first && first < check->count) seen->segment.role = LOG_CHECK_GIVEN_UP;
        if (seen->odd && seen->segment.role != LOG_CHECK_IN_USE)
            tell(check, false, seen, 0, "the header is none: damaged, or a write was cut off");
        if (check->visitor->segment != NULL)
            check->visitor->segment(check->visitor->context, &seen->segment);
    }
}

enum status log_check(struct env *env, struct heap *heap, const struct log_check_options *options,
                      const struct log_check_visitor *visitor, struct log_check_totals *totals)
{
    *totals = (struct log_check_totals){0};
    struct check check = {
        .env = env,
        .heap = heap,
        .options = options,
        .visitor = visitor,
        .totals = totals,
        .proven = u64_max(u64_max(options->replay_sequence, 1) - 1, options->durable_sequence),
    };
    enum status status = find_segments(&check);
    if (status == STATUS_OK) status = read_all(&check);
    if (status == STATUS_OK) describe_segments(&check);
    heap_free(heap, check.seen);
    return status;
}
