#include "store/log_private.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/math.h"
#include "base/planted.h"
#include "store/frame.h"
#include "store/names.h"

static const uint8_t segment_magic[8] = "trilog1\n";

void segment_header_encode(const struct segment_header *header, uint8_t out[SEGMENT_HEADER_BYTES])
{
    memset(out, 0, SEGMENT_HEADER_BYTES);
    memcpy(out, segment_magic, sizeof segment_magic);
    store_u64le(out + 16, header->number);
    store_u64le(out + 24, header->first);
    store_u64le(out + 32, header->durable);
    memcpy(out + 40, header->store_id, sizeof header->store_id);
    store_u32le(out + 8, crc32c(0, out + 12, SEGMENT_HEADER_BYTES - 12));
}

bool segment_header_decode(const uint8_t bytes[SEGMENT_HEADER_BYTES], struct segment_header *out)
{
    if (memcmp(bytes, segment_magic, sizeof segment_magic) != 0) return false;
    if (load_u32le(bytes + 8) != crc32c(0, bytes + 12, SEGMENT_HEADER_BYTES - 12)) return false;
    out->number = load_u64le(bytes + 16);
    out->first = load_u64le(bytes + 24);
    out->durable = load_u64le(bytes + 32);
    memcpy(out->store_id, bytes + 40, sizeof out->store_id);
    return out->first > 0 && out->first <= FRAME_SEQUENCE_MAX && out->durable < out->first;
}

static struct segment *active(struct log *log)
{
    return &log->segments[log->segment_count - 1];
}

static struct spare spare_take_first(struct spare_list *list)
{
    CHECK(list->count > 0);
    struct spare spare = list->items[0];
    list->count--;
    memmove(list->items, list->items + 1, list->count * sizeof *list->items);
    return spare;
}

static void spare_add(struct spare_list *list, struct spare spare)
{
    CHECK(list->count < LOG_PREPARED_MAX);
    list->items[list->count++] = spare;
}

static void spare_close_all(struct spare_list *list)
{
    while (list->count > 0) env_file_close(spare_take_first(list).file);
}

void log_close(struct log *log)
{
    if (log == NULL) return;
    CHECK(!log->syncing);
    CHECK(!log->preparing);
    for (size_t i = 0; i < log->segment_count; i++) env_file_close(log->segments[i].file);
    spare_close_all(&log->prepared);
    spare_close_all(&log->released);
    heap_free(log->heap, log->segments);
    heap_free(log->heap, log);
}

/* A failure that leaves unknown what the device holds is the last word of this log. */
static enum status log_fail(struct log *log, enum status status)
{
    if (status == STATUS_FULL || status == STATUS_NOMEM) return status;
    log->failure = STATUS_IO;
    return STATUS_IO;
}

/* Segments */

enum status log_reserve_segment(struct log *log)
{
    if (log->segment_count < log->segment_capacity) return STATUS_OK;
    size_t capacity = log->segment_capacity * 2 + 8;
    struct segment *segments = heap_realloc(log->heap, log->segments, capacity * sizeof *segments);
    if (segments == NULL) return STATUS_NOMEM;
    log->segments = segments;
    log->segment_capacity = capacity;
    return STATUS_OK;
}

static enum status write_segment_header(struct log *log, const struct spare *spare)
{
    uint8_t bytes[SEGMENT_HEADER_BYTES];
    struct segment_header header = {spare->number, log->last + 1, log->durable, {0}};
    memcpy(header.store_id, log->store_id, sizeof header.store_id);
    segment_header_encode(&header, bytes);
    return env_file_write(spare->file, 0, bytes, sizeof bytes);
}

/* Without zeros: slower to sync, but the writer does not wait for them. */
static enum status begin_on_the_spot(struct log *log, struct spare *spare)
{
    *spare = (struct spare){.number = log->number_max + 1};
    struct name name = name_of(NAME_LOG, spare->number);
    enum status status = env_open(log->env, name.text, ENV_CREATE, &spare->file);
    if (status != STATUS_OK) return status;

    log->number_max++;
    status = write_segment_header(log, spare);
    if (status == STATUS_OK) {
        log->names_changed++;
        return STATUS_OK;
    }
    env_file_close(spare->file);
    enum status removed = env_remove(log->env, name.text);
    return removed == STATUS_OK ? status : removed;
}

/* A prepared segment stays one until its header is written: only then it is in use. */
static enum status begin_prepared(struct log *log, struct spare *spare)
{
    enum status status = write_segment_header(log, &log->prepared.items[0]);
    if (status != STATUS_OK) return status;
    *spare = spare_take_first(&log->prepared);
    return STATUS_OK;
}

enum status log_begin_segment(struct log *log)
{
    struct spare spare;
    enum status status = log_reserve_segment(log);
    if (status != STATUS_OK) return status;

    status = log->prepared.count > 0 ? begin_prepared(log, &spare) : begin_on_the_spot(log, &spare);
    if (status != STATUS_OK) return log_fail(log, status);
    log->segments[log->segment_count++] = (struct segment){
        .number = spare.number,
        .file = spare.file,
        .first = log->last + 1,
        .last = log->last,
        .end = SEGMENT_HEADER_BYTES,
    };
    return STATUS_OK;
}

/* Appending */

static enum status write_small(struct log *log, struct segment *segment, struct slice payload,
                               const uint8_t header[FRAME_HEADER_BYTES])
{
    size_t size = (size_t)frame_size_bytes(payload.size);
    memset(log->scratch + size - FRAME_ALIGN_BYTES, 0, FRAME_ALIGN_BYTES);
    memcpy(log->scratch, header, FRAME_HEADER_BYTES);
    if (payload.size > 0) memcpy(log->scratch + FRAME_HEADER_BYTES, payload.data, payload.size);
    return env_file_write(segment->file, segment->end, log->scratch, size);
}

static enum status write_large(struct segment *segment, struct slice payload,
                               const uint8_t header[FRAME_HEADER_BYTES])
{
    static const uint8_t zeros[FRAME_ALIGN_BYTES];
    uint64_t at = segment->end;
    enum status status = env_file_write(segment->file, at, header, FRAME_HEADER_BYTES);
    if (status != STATUS_OK) return status;
    at += FRAME_HEADER_BYTES;
    status = env_file_write(segment->file, at, payload.data, payload.size);
    if (status != STATUS_OK) return status;
    size_t padding = -payload.size & (FRAME_ALIGN_BYTES - 1);
    return env_file_write(segment->file, at + payload.size, zeros, padding);
}

/* A refused batch must not stand there whole if the power goes before the next one. */
static enum status wipe_refused(struct log *log, struct segment *segment)
{
    static const uint8_t zeros[FRAME_HEADER_BYTES];
    if (planted(BUG_REFUSED_BATCH_NOT_WIPED)) return STATUS_OK;
    enum status status = env_file_write(segment->file, segment->end, zeros, sizeof zeros);
    if (status == STATUS_OK || status == STATUS_FULL) return STATUS_OK;
    return log->failure = STATUS_IO;
}

static enum status append_frame(struct log *log, struct segment *segment, enum frame_kind kind,
                                uint64_t sequence, struct slice payload)
{
    uint8_t header[FRAME_HEADER_BYTES];
    struct frame frame = {kind, sequence, log->durable, payload, frame_size_bytes(payload.size)};
    frame_encode_header(&frame, frame_seed(log->store_id, segment->number), header);

    bool small = frame.size_bytes <= sizeof log->scratch;
    enum status status = small ? write_small(log, segment, payload, header)
                               : write_large(segment, payload, header);
    if (status == STATUS_FULL) {
        status = wipe_refused(log, segment);
        return status == STATUS_OK ? STATUS_FULL : status;
    }
    if (status != STATUS_OK) return log->failure = STATUS_IO;
    segment->end += frame.size_bytes;
    log->told = frame.durable;
    return STATUS_OK;
}

/* A batch larger than a segment has one for itself, which grows. Others leave room for the frame
 * that tells of the next segment. */
static bool fits(const struct log *log, const struct segment *segment, uint64_t frame_bytes)
{
    return segment->end == SEGMENT_HEADER_BYTES ||
           segment->end + frame_bytes + FRAME_HEADER_BYTES <= log->segment_bytes;
}

enum status log_append(struct log *log, struct slice payload, uint64_t *sequence)
{
    enum status status;

    if (log->failure != STATUS_OK) return log->failure;
    if (payload.size > LOG_BATCH_BYTES_MAX) return STATUS_LIMIT;
    if (!fits(log, active(log), frame_size_bytes(payload.size))) {
        status = log_begin_segment(log);
        if (status != STATUS_OK) return status;
    }
    status = append_frame(log, active(log), FRAME_BATCH, log->last + 1, payload);
    if (status != STATUS_OK) return status;

    log->last++;
    active(log)->last = log->last;
    *sequence = log->last;
    CHECK(log->durable < log->last);
    return STATUS_OK;
}

enum status log_append_mark(struct log *log)
{
    if (log->failure != STATUS_OK) return log->failure;
    return append_frame(log, active(log), FRAME_MARK, log->last, (struct slice){0});
}

bool log_wants_mark(const struct log *log)
{
    return log->failure == STATUS_OK && log->durable == log->last && log->told < log->durable;
}

uint64_t log_last(const struct log *log)
{
    return log->last;
}

uint64_t log_durable(const struct log *log)
{
    return log->durable;
}

enum status log_status(const struct log *log)
{
    return log->failure;
}

/* Syncing */

enum status log_sync_begin(struct log *log, struct log_sync *sync)
{
    if (log->failure != STATUS_OK) return log->failure;
    if (log->syncing) return STATUS_BUSY;

    struct log_sync plan = {.env = log->env, .sequence = log->durable};
    for (size_t i = 0; i < log->segment_count && plan.file_count < LOG_SYNC_FILES_MAX; i++) {
        struct segment *segment = &log->segments[i];
        if (segment->end == segment->synced_end) continue;
        segment->syncing_end = segment->end;
        plan.files[plan.file_count++] = segment->file;
        plan.sequence = u64_max(plan.sequence, segment->last);
    }
    plan.directory = log->names_changed != log->names_synced;
    if (plan.file_count == 0 && !plan.directory) return STATUS_END;

    log->names_syncing = log->names_changed;
    log->syncing = true;
    *sync = plan;
    return STATUS_OK;
}

enum status log_sync_run(const struct log_sync *sync)
{
    for (size_t i = 0; i < sync->file_count; i++) {
        enum status status = env_file_sync(sync->files[i]);
        if (status != STATUS_OK) return status;
    }
    return sync->directory ? env_sync_directory(sync->env) : STATUS_OK;
}

/* Once the newest segment holds what is durable, the one before says so: or nobody would miss it.
 * Without room for that now, the next sync does it. */
static void tell_next(struct log *log)
{
    if (log->segment_count < 2 || log->durable < active(log)->first) return;
    struct segment *segment = &log->segments[log->segment_count - 2];
    if (segment->tells_next) return;
    enum status status = append_frame(log, segment, FRAME_NEXT, log->durable, (struct slice){0});
    segment->tells_next = status == STATUS_OK;
}

void log_sync_complete(struct log *log, const struct log_sync *sync, enum status status)
{
    CHECK(log->syncing);
    log->syncing = false;
    for (size_t i = 0; i < log->segment_count; i++) {
        struct segment *segment = &log->segments[i];
        if (status == STATUS_OK && segment->syncing_end != 0)
            segment->synced_end = segment->syncing_end;
        segment->syncing_end = 0;
    }
    if (status != STATUS_OK) {
        log->failure = STATUS_IO;
        return;
    }
    log->names_synced = log->names_syncing;
    CHECK(sync->sequence >= log->durable);
    CHECK(sync->sequence <= log->last);
    log->durable = sync->sequence;
    tell_next(log);
}

/* Releasing and preparing */

/* A segment may go when what follows it is sure to be found without it: the next one's
 * header must be durable. */
static bool can_release(const struct log *log)
{
    if (log->segment_count < 2 || log->released.count == LOG_PREPARED_MAX - 1) return false;
    const struct segment *segment = &log->segments[0];
    return segment->last <= log->release_sequence && segment->syncing_end == 0 &&
           log->segments[1].synced_end >= SEGMENT_HEADER_BYTES;
}

static void release_segments(struct log *log)
{
    while (can_release(log)) {
        spare_add(&log->released, (struct spare){log->segments[0].number, log->segments[0].file});
        log->segment_count--;
        memmove(log->segments, log->segments + 1, log->segment_count * sizeof *log->segments);
    }
}

void log_release(struct log *log, uint64_t sequence)
{
    CHECK(sequence <= log->durable);
    log->release_sequence = u64_max(log->release_sequence, sequence);
    release_segments(log);
}

void log_keep_space(struct log *log, bool keep)
{
    log->keeping_space = keep;
}

bool log_prepare_begin(struct log *log, struct log_prepare *prepare)
{
    if (log->preparing || log->failure != STATUS_OK) return false;
    release_segments(log); /* Some may have had to wait for a sync. */

    bool wanted = log->prepared.count < log->prepared_count_wanted && !log->keeping_space;
    bool surplus = log->released.count > (log->keeping_space ? 0 : log->prepared_count_wanted);
    if (!wanted && !surplus) return false;

    struct log_prepare plan = {.env = log->env, .segment_bytes = log->segment_bytes};
    if (log->released.count > 0) {
        struct spare spare = spare_take_first(&log->released);
        plan.file = spare.file;
        plan.from = spare.number;
    }
    if (wanted) plan.number = ++log->number_max;
    log->preparing = true;
    *prepare = plan;
    return true;
}

static enum status resize(struct env_file *file, uint64_t wanted)
{
    uint64_t size;
    enum status status = env_file_size(file, &size);
    if (status != STATUS_OK) return status;
    if (size > wanted) return env_file_truncate(file, wanted);
    return env_file_write_zeros(file, size, wanted - size);
}

/* The name is durable before the first byte under the new number is written: else a
 * crash could leave such bytes under the old name, and the number would be given again. */
static enum status make_ready(struct log_prepare *prepare)
{
    enum status status = resize(prepare->file, prepare->segment_bytes);
    if (status != STATUS_OK) return status;
    status = env_file_sync(prepare->file);
    if (status != STATUS_OK) return status;
    return env_sync_directory(prepare->env);
}

enum status log_prepare_run(struct log_prepare *prepare)
{
    enum status status;
    struct name from = name_of(NAME_LOG, prepare->from != 0 ? prepare->from : prepare->number);
    if (prepare->number == 0) return env_remove(prepare->env, from.text);

    struct name to = name_of(NAME_LOG, prepare->number);
    if (prepare->from != 0)
        status = env_rename(prepare->env, from.text, to.text);
    else
        status = env_open(prepare->env, to.text, ENV_CREATE, &prepare->file);
    if (status != STATUS_OK) return status;

    status = make_ready(prepare);
    if (status == STATUS_OK) return STATUS_OK;
    /* The space may be what is missing. What stays is removed at the next start. */
    return env_remove(prepare->env, to.text) == STATUS_OK ? status : STATUS_IO;
}

void log_prepare_complete(struct log *log, struct log_prepare *prepare, enum status status)
{
    CHECK(log->preparing);
    log->preparing = false;
    if (status != STATUS_OK || prepare->number == 0) {
        env_file_close(prepare->file);
        return;
    }
    /* While it was made ready, the writer may have begun one with a higher number. */
    bool late = prepare->number < active(log)->number;
    struct spare spare = {prepare->number, prepare->file};
    spare_add(late ? &log->released : &log->prepared, spare);
}

uint64_t log_bytes_since(const struct log *log, uint64_t sequence)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < log->segment_count; i++)
        if (log->segments[i].last > sequence) bytes += log->segments[i].end;
    return bytes;
}
