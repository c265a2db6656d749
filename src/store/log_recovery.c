#include "store/log_private.h"

#include <stdlib.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/math.h"
#include "base/planted.h"
#include "store/frame.h"
#include "store/names.h"

/* A segment's file as it was found. */
struct found {
    uint64_t number;
    struct env_file *file; /* Handed on to the log if the segment is used. */
    struct segment_header header;
    bool begun; /* The header is valid and of this number. */
    bool tells_next;
    bool used;    /* Part of the chain of segments that hold the log. */
    uint64_t end; /* Of what is valid in it; where a search for evidence begins. */
};

/* Recovery: the chain so far, and what is expected next. */
struct recovery {
    struct env *env;
    struct heap *heap;
    const struct log_options *options;
    log_visit *visit;
    void *context;
    struct log_report *report;
    struct log *log;
    struct found *found; /* Ascending by number. */
    size_t found_count;
    size_t found_capacity;
    uint64_t sequence; /* Of the batch that must come next. */
    uint64_t proven;   /* The greatest sequence that was known durable. */
};

/* Finding the segments */

static enum status collect(void *context, const char *text, bool is_file)
{
    struct recovery *recovery = context;
    uint64_t number;

    if (name_parse(text, &number) != NAME_LOG) return STATUS_OK;
    if (recovery->found_count == recovery->found_capacity) {
        size_t capacity = recovery->found_capacity * 2 + 16;
        struct found *found =
            heap_realloc(recovery->heap, recovery->found, capacity * sizeof *found);
        if (found == NULL) return STATUS_NOMEM;
        recovery->found = found;
        recovery->found_capacity = capacity;
    }
    recovery->found[recovery->found_count++] =
        (struct found){.number = number, .end = SEGMENT_HEADER_BYTES};
    return STATUS_OK;
}

static int compare_found(const void *a, const void *b)
{
    const struct found *left = a;
    const struct found *right = b;
    return (left->number > right->number) - (left->number < right->number);
}

static enum status open_found(struct recovery *recovery, struct found *found)
{
    uint8_t bytes[SEGMENT_HEADER_BYTES];
    struct name name = name_of(NAME_LOG, found->number);

    enum status status = env_open(recovery->env, name.text, ENV_WRITE, &found->file);
    if (status != STATUS_OK) return status;
    status = env_file_read(found->file, 0, bytes, sizeof bytes);
    if (status == STATUS_END) return STATUS_OK;
    if (status != STATUS_OK) return status;
    if (!segment_header_decode(bytes, &found->header)) return STATUS_OK;

    const uint8_t *ours = recovery->options->store_id;
    if (memcmp(found->header.store_id, ours, sizeof found->header.store_id) != 0) {
        recovery->report->segment = found->number;
        return STATUS_FOREIGN;
    }
    found->begun = found->header.number == found->number;
    return STATUS_OK;
}

static enum status find_segments(struct recovery *recovery)
{
    enum status status = env_list(recovery->env, collect, recovery);
    if (status != STATUS_OK) return status;
    if (recovery->found_count > 0)
        qsort(recovery->found, recovery->found_count, sizeof *recovery->found, compare_found);
    for (size_t i = 0; i < recovery->found_count; i++) {
        status = open_found(recovery, &recovery->found[i]);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

/* Reading */

static enum status take_frame(struct recovery *recovery, const struct frame *frame)
{
    recovery->proven = u64_max(recovery->proven, frame->durable);
    if (frame->kind != FRAME_BATCH) return STATUS_OK;

    if (recovery->sequence >= recovery->options->replay_sequence) {
        enum status status = recovery->visit(recovery->context, recovery->sequence, frame->payload);
        if (status != STATUS_OK) return status;
        recovery->report->visited_count++;
    }
    recovery->sequence++;
    return STATUS_OK;
}

static bool is_next(const struct recovery *recovery, const struct frame *frame)
{
    if (frame->kind == FRAME_BATCH) return frame->sequence == recovery->sequence;
    if (frame->kind == FRAME_NEXT)
        return frame->payload.size == 0 && frame->sequence >= recovery->sequence;
    return frame->kind == FRAME_MARK && frame->payload.size == 0 &&
           frame->sequence == recovery->sequence - 1;
}

static enum status read_frames(struct recovery *recovery, struct found *found, struct slice bytes)
{
    uint32_t seed = frame_seed(recovery->options->store_id, found->number);
    struct frame frame;

    while (frame_decode(bytes, found->end, seed, &frame) == STATUS_OK) {
        if (!is_next(recovery, &frame)) break;
        enum status status = take_frame(recovery, &frame);
        if (status != STATUS_OK) return status;
        found->tells_next |= frame.kind == FRAME_NEXT;
        found->end += frame.size_bytes;
    }
    return STATUS_OK;
}

/* Maps a segment, calls `read`, and trusts it only if the device gave all bytes. */
static enum status with_bytes(struct recovery *recovery, struct found *found, void *context,
                              enum status (*read)(struct recovery *, struct found *, struct slice,
                                                  void *))
{
    struct env_map *map;
    enum status status = env_file_map(found->file, &map);
    if (status != STATUS_OK) return status;
    status = read(recovery, found, map->bytes, context);
    if (env_map_damaged(map)) status = STATUS_IO;
    env_unmap(map);
    return status;
}

/* Reads one segment of the chain and adds it to the log. */
static enum status read_segment(struct recovery *recovery, struct found *found, struct slice bytes,
                                void *context)
{
    struct log *log = recovery->log;
    enum status status = log_reserve_segment(log);
    if (status != STATUS_OK) return status;

    recovery->proven = u64_max(recovery->proven, found->header.durable);
    status = read_frames(recovery, found, bytes);
    if (status != STATUS_OK) return status;
    recovery->report->segment = found->number;
    recovery->report->offset = found->end;

    log->segments[log->segment_count++] = (struct segment){
        .number = found->number,
        .file = found->file,
        .first = found->header.first,
        .last = recovery->sequence - 1,
        .end = found->end,
        .synced_end = found->end,
        .tells_next = found->tells_next,
    };
    found->used = true;
    return STATUS_OK;
}

/* The segment in which to begin: the newest that does not begin after the replay. */
static size_t first_segment(const struct recovery *recovery)
{
    size_t best = recovery->found_count;
    for (size_t i = 0; i < recovery->found_count; i++) {
        const struct found *found = &recovery->found[i];
        if (found->begun && found->header.first <= recovery->options->replay_sequence) best = i;
    }
    return best;
}

/* The one that goes on where the chain has come to. Others may lie between: prepared and
 * never begun, or begun by a batch that was then refused. */
static size_t next_segment(const struct recovery *recovery, size_t after)
{
    for (size_t i = after + 1; i < recovery->found_count; i++) {
        const struct found *found = &recovery->found[i];
        if (found->begun && found->header.first == recovery->sequence) return i;
        if (planted(BUG_CHAIN_ENDS_AT_PREPARED)) break;
    }
    return recovery->found_count;
}

static enum status read_chain(struct recovery *recovery)
{
    size_t i = first_segment(recovery);
    recovery->sequence = recovery->options->replay_sequence;
    if (i < recovery->found_count) recovery->sequence = recovery->found[i].header.first;

    for (; i < recovery->found_count; i = next_segment(recovery, i)) {
        enum status status = with_bytes(recovery, &recovery->found[i], NULL, read_segment);
        if (status != STATUS_OK) return status;
    }
    recovery->report->sequence = recovery->sequence;
    return STATUS_OK;
}

/* Damage or a torn tail? */

static enum status search_segment(struct recovery *recovery, struct found *found,
                                  struct slice bytes, void *context)
{
    struct frame_tail *tail = context;
    uint32_t seed = frame_seed(recovery->options->store_id, found->number);

    if (found->begun && !found->used) tail->durable = u64_max(tail->durable, found->header.durable);
    frame_search(bytes, found->end, seed, recovery->sequence, tail);
    return STATUS_OK;
}

/* Looks for a word that the batch which is not there had been durable: in all bytes from
 * the end of the chain on. */
static enum status judge_end(struct recovery *recovery)
{
    struct frame_tail tail = {.durable = recovery->proven};
    struct log *log = recovery->log;
    uint64_t last = log->segment_count == 0 ? 0 : log->segments[log->segment_count - 1].number;

    for (size_t i = 0; i < recovery->found_count; i++) {
        struct found *found = &recovery->found[i];
        if (found->number < last) continue;
        enum status status = with_bytes(recovery, found, &tail, search_segment);
        if (status != STATUS_OK) return status;
    }
    recovery->report->cut_count = tail.frame_count;
    recovery->report->cut_bytes = tail.frame_bytes;
    if (tail.durable >= recovery->sequence) return STATUS_CORRUPT;
    if (log->segment_count == 0 && recovery->options->expect_segments) return STATUS_CORRUPT;
    return STATUS_OK;
}

/* Making it so */

/* Writes a segment's bytes once more, as they are. A sync that failed in a former life
 * may have left them readable and yet on no device; only a new write makes them dirty. */
static enum status rewrite(struct log *log, const struct segment *segment)
{
    for (uint64_t at = 0; at < segment->end;) {
        size_t size = (size_t)u64_min(segment->end - at, sizeof log->scratch);
        enum status status = env_file_read(segment->file, at, log->scratch, size);
        if (status != STATUS_OK) return status;
        status = env_file_write(segment->file, at, log->scratch, size);
        if (status != STATUS_OK) return status;
        at += size;
    }
    return STATUS_OK;
}

static enum status make_segment_durable(struct recovery *recovery, const struct segment *segment,
                                        bool is_last)
{
    enum status status;
    if (segment->last <= recovery->proven && !is_last) return STATUS_OK;

    status = rewrite(recovery->log, segment);
    if (status != STATUS_OK) return status;
    /* What lay behind the end could come to life again behind the next batch. */
    if (is_last) status = env_file_truncate(segment->file, segment->end);
    if (status != STATUS_OK) return status;
    return env_file_sync(segment->file);
}

static enum status remove_unused(struct recovery *recovery)
{
    for (size_t i = 0; i < recovery->found_count; i++) {
        const struct found *found = &recovery->found[i];
        if (found->used) continue;
        enum status status = env_remove(recovery->env, name_of(NAME_LOG, found->number).text);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

/* The first segment of a new log is durable at once: a log without any is damage later. */
static enum status begin_first(struct log *log)
{
    struct log_sync sync;
    enum status status = log_begin_segment(log);
    if (status != STATUS_OK) return status;
    status = log_sync_begin(log, &sync);
    if (status != STATUS_OK) return status;
    status = log_sync_run(&sync);
    log_sync_complete(log, &sync, status);
    return status;
}

static enum status make_durable(struct recovery *recovery)
{
    struct log *log = recovery->log;
    enum status status;

    for (size_t i = 0; i < log->segment_count; i++) {
        status = make_segment_durable(recovery, &log->segments[i], i + 1 == log->segment_count);
        if (status != STATUS_OK) return status;
    }
    status = remove_unused(recovery);
    if (status != STATUS_OK) return status;
    status = env_sync_directory(recovery->env);
    if (status != STATUS_OK) return status;

    log->last = recovery->sequence - 1;
    log->durable = log->last;
    return log->segment_count == 0 ? begin_first(log) : STATUS_OK;
}

static enum status recover(struct recovery *recovery)
{
    enum status status = find_segments(recovery);
    if (status != STATUS_OK) return status;
    if (recovery->found_count > 0)
        recovery->log->number_max = recovery->found[recovery->found_count - 1].number;
    status = read_chain(recovery);
    if (status != STATUS_OK) return status;
    status = judge_end(recovery);
    if (status != STATUS_OK) return status;
    return make_durable(recovery);
}

static struct log *log_create(struct env *env, struct heap *heap, const struct log_options *options)
{
    struct log *log = heap_zalloc(heap, sizeof *log);
    if (log == NULL) return NULL;
    log->env = env;
    log->heap = heap;
    log->segment_bytes = options->segment_bytes != 0 ? options->segment_bytes : LOG_SEGMENT_BYTES;
    log->prepared_count_wanted = options->prepared_count != 0 ? options->prepared_count : 2;
    CHECK(log->prepared_count_wanted < LOG_PREPARED_MAX - 1);
    memcpy(log->store_id, options->store_id, sizeof log->store_id);
    return log;
}

static void recovery_deinit(struct recovery *recovery)
{
    for (size_t i = 0; i < recovery->found_count; i++)
        if (!recovery->found[i].used) env_file_close(recovery->found[i].file);
    heap_free(recovery->heap, recovery->found);
}

enum status log_open(struct env *env, struct heap *heap, const struct log_options *options,
                     log_visit *visit, void *context, struct log_report *report, struct log **out)
{
    CHECK(options->replay_sequence > 0);
    *report = (struct log_report){0};
    struct log *log = log_create(env, heap, options);
    if (log == NULL) return STATUS_NOMEM;

    struct recovery recovery = {
        .env = env,
        .heap = heap,
        .options = options,
        .visit = visit,
        .context = context,
        .report = report,
        .log = log,
        .proven = u64_max(options->replay_sequence - 1, options->durable_sequence),
    };
    enum status status = recover(&recovery);
    recovery_deinit(&recovery);
    if (status != STATUS_OK) {
        log_close(log);
        return status;
    }
    *out = log;
    return STATUS_OK;
}
