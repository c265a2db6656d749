#include <inttypes.h>

#include "store/frame.h"
#include "store/manifest_private.h"
#include "store/verify_private.h"

struct reading {
    struct verify *verify;
    const char *name;
    struct slice bytes;
    struct manifest_state *state;
    uint64_t first, sequence; /* Of the snapshot, of the newest edit. */
    uint64_t end;
};

static enum status apply(struct reading *reading, const struct frame *frame)
{
    struct manifest_state *next;
    struct heap *heap = reading->verify->heap;
    enum status status = state_apply(heap, reading->state, frame->payload, &next);
    if (status == STATUS_NOMEM) return status;
    if (status != STATUS_OK) {
        verify_tell(reading->verify, true, reading->name, reading->end,
                    "edit %" PRIu64 " makes no sense under a right checksum (%s)", frame->sequence,
                    status_name(status));
        return STATUS_CORRUPT;
    }
    state_destroy(heap, reading->state);
    reading->state = next;
    reading->sequence = frame->sequence;
    return STATUS_OK;
}

static bool is_next(const struct reading *reading, const struct frame *frame)
{
    if (frame->kind == FRAME_EDIT) return frame->sequence == reading->sequence + 1;
    return frame->kind == FRAME_MARK && frame->payload.size == 0 &&
           frame->sequence == reading->sequence;
}

/* Judges the end as manifest_open() does. */
static enum status judge_end(struct reading *reading, uint32_t seed)
{
    struct verify *verify = reading->verify;
    struct frame_tail tail = {0};
    uint64_t left = reading->bytes.size - reading->end;
    frame_search(reading->bytes, reading->end, seed, reading->sequence + 1, &tail);
    if (reading->sequence < reading->first || tail.durable > reading->sequence) {
        verify_tell(verify, true, reading->name, reading->end,
                    "edit %" PRIu64 " was durable and is not here as written; %" PRIu64
                    " bytes follow. Every other file is checked for itself",
                    reading->sequence + 1, left);
        return STATUS_CORRUPT;
    }
    verify->report->torn_edit_bytes = left;
    if (left > 0)
        verify_tell(verify, false, reading->name, reading->end,
                    "torn tail: %" PRIu64
                    " bytes that are no edit known to be durable; a start cuts them off",
                    left);
    return STATUS_OK;
}

static enum status read_edits(struct reading *reading)
{
    uint32_t seed = frame_seed(reading->verify->store_id, reading->verify->manifest);
    struct frame frame;
    while (frame_decode(reading->bytes, reading->end, seed, &frame) == STATUS_OK) {
        if (!is_next(reading, &frame)) break;
        if (frame.kind == FRAME_EDIT) {
            enum status status = apply(reading, &frame);
            if (status != STATUS_OK) return status;
            reading->verify->report->edit_count++;
        }
        reading->end += frame.size_bytes;
    }
    return judge_end(reading, seed);
}

static enum status read_header(struct reading *reading)
{
    struct verify *verify = reading->verify;
    struct manifest_header header;
    if (reading->bytes.size < MANIFEST_HEADER_BYTES ||
        !manifest_header_decode(reading->bytes.data, &header)) {
        verify_tell(verify, true, reading->name, 0,
                    "the first %d bytes are not the header of a manifest. Every other file is "
                    "checked for itself",
                    MANIFEST_HEADER_BYTES);
        return STATUS_CORRUPT;
    }
    if (!verify->has_store_id) memcpy(verify->store_id, header.store_id, 16);
    verify->has_store_id = true;
    if (memcmp(header.store_id, verify->store_id, 16) != 0 || header.number != verify->manifest) {
        verify_tell(verify, true, reading->name, 16,
                    "belongs to another store, or has another "
                    "number than its name");
        return STATUS_CORRUPT;
    }
    reading->first = header.sequence;
    reading->sequence = header.sequence - 1;
    reading->end = MANIFEST_HEADER_BYTES;
    return STATUS_OK;
}

/* Numbers are given in ascending order, and each overlay is one packed trie's. */
static void check_runs(struct reading *reading)
{
    const struct manifest_state *state = reading->state;
    uint64_t next = state->numbers[MANIFEST_NEXT_FILE];
    for (size_t i = 0; i < state->run_count; i++) {
        const struct manifest_run *run = &state->runs[i];
        if (run->number >= next || run->overlay >= next)
            verify_tell(reading->verify, true, reading->name, VERIFY_NOWHERE,
                        "names packed trie %" PRIu64 " with overlay %" PRIu64
                        ", but the next file is to be %" PRIu64,
                        run->number, run->overlay, next);
        for (size_t j = 0; j < i && run->overlay != 0; j++)
            if (state->runs[j].overlay == run->overlay)
                verify_tell(reading->verify, true, reading->name, VERIFY_NOWHERE,
                            "names overlay %" PRIu64 " twice", run->overlay);
    }
}

static enum status read_all(struct reading *reading)
{
    struct verify *verify = reading->verify;
    enum status status = read_header(reading);
    if (status == STATUS_OK) status = state_create(verify->heap, verify->store_id, &reading->state);
    if (status == STATUS_OK) status = read_edits(reading);
    if (status == STATUS_OK) check_runs(reading);
    return status;
}

enum status verify_manifest(struct verify *verify)
{
    struct verify_entry *entry = verify_find(verify, NAME_MANIFEST, verify->manifest);
    struct env_map *map;
    enum status status = verify_map(verify, entry->name, &map);
    if (status == STATUS_OK) {
        struct reading reading = {.verify = verify, .name = entry->name, .bytes = map->bytes};
        status = read_all(&reading);
        if (env_map_damaged(map)) {
            verify_tell(verify, true, entry->name, VERIFY_NOWHERE,
                        "cannot be read in part: the device failed");
            status = STATUS_CORRUPT;
        }
        env_unmap(map);
        if (status == STATUS_OK)
            verify->state = reading.state;
        else
            state_destroy(verify->heap, reading.state);
    }
    verify_describe(verify, entry, &(struct verify_file){.role = VERIFY_LIVE});
    if (!verify_progress(verify, entry->size_bytes)) return STATUS_CANCELLED;
    return status == STATUS_CORRUPT ? STATUS_OK : status;
}
