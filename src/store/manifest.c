#include "store/manifest_private.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/math.h"
#include "store/frame.h"
#include "store/names.h"

static const uint8_t manifest_magic[8] = "triman1\n";

void manifest_header_encode(const struct manifest_header *header,
                            uint8_t out[MANIFEST_HEADER_BYTES])
{
    memset(out, 0, MANIFEST_HEADER_BYTES);
    memcpy(out, manifest_magic, sizeof manifest_magic);
    store_u64le(out + 16, header->number);
    store_u64le(out + 24, header->sequence);
    memcpy(out + 40, header->store_id, sizeof header->store_id);
    store_u32le(out + 8, crc32c(0, out + 12, MANIFEST_HEADER_BYTES - 12));
}

bool manifest_header_decode(const uint8_t bytes[MANIFEST_HEADER_BYTES], struct manifest_header *out)
{
    if (memcmp(bytes, manifest_magic, sizeof manifest_magic) != 0) return false;
    if (load_u32le(bytes + 8) != crc32c(0, bytes + 12, MANIFEST_HEADER_BYTES - 12)) return false;
    out->number = load_u64le(bytes + 16);
    out->sequence = load_u64le(bytes + 24);
    memcpy(out->store_id, bytes + 40, sizeof out->store_id);
    return out->sequence > 0 && out->sequence <= FRAME_SEQUENCE_MAX;
}

/* Not before the file has doubled: else a large state would be written for every edit. */
void manifest_plan_rollover(struct manifest *manifest, uint64_t snapshot_bytes)
{
    manifest->rollover_at = u64_max(manifest->rollover_bytes, snapshot_bytes * 2);
}

/* Encoding */

static enum status encode_frame(const struct frame *frame, uint32_t seed, struct buf *out)
{
    static const uint8_t zeros[FRAME_ALIGN_BYTES];
    uint8_t header[FRAME_HEADER_BYTES];

    if (frame->payload.size > FRAME_PAYLOAD_BYTES_MAX) return STATUS_LIMIT;
    frame_encode_header(frame, seed, header);
    buf_append(out, header, sizeof header);
    buf_append_slice(out, frame->payload);
    buf_append(out, zeros, -frame->payload.size & (FRAME_ALIGN_BYTES - 1));
    return buf_status(out);
}

enum status manifest_encode_file(struct heap *heap, const struct manifest_state *state,
                                 uint64_t number, uint64_t sequence, struct buf *out)
{
    uint8_t bytes[MANIFEST_HEADER_BYTES];
    struct manifest_header header = {number, sequence, {0}};
    memcpy(header.store_id, state->store_id, sizeof header.store_id);
    manifest_header_encode(&header, bytes);
    buf_append(out, bytes, sizeof bytes);

    struct manifest_edit edit;
    manifest_edit_init(&edit, heap);
    state_snapshot(state, &edit);
    enum status status = buf_status(&edit.bytes);
    if (status == STATUS_OK) {
        struct frame frame = {.kind = FRAME_EDIT,
                              .sequence = sequence,
                              .durable = sequence - 1,
                              .payload = buf_slice(&edit.bytes)};
        status = encode_frame(&frame, frame_seed(state->store_id, number), out);
    }
    manifest_edit_deinit(&edit);
    return status;
}

/* Writing */

static enum status remove_if_there(struct env *env, const char *name)
{
    enum status status = env_remove(env, name);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

/* The rename comes after the sync: whatever has the final name is whole. */
enum status manifest_write_file(struct env *env, uint64_t number, struct slice content,
                                struct env_file **out)
{
    struct name temporary = name_of_new_manifest(number);
    struct name final = name_of(NAME_MANIFEST, number);
    struct env_file *file = NULL;

    enum status status = remove_if_there(env, temporary.text);
    if (status != STATUS_OK) return status;
    status = env_open(env, temporary.text, ENV_CREATE, &file);
    if (status != STATUS_OK) return status;
    status = env_file_write(file, 0, content.data, content.size);
    if (status == STATUS_OK) status = env_file_sync(file);
    if (status != STATUS_OK) goto fail;
    status = env_rename(env, temporary.text, final.text);
    if (status == STATUS_OK) status = env_sync_directory(env);
    if (status != STATUS_OK) {
        /* Renamed or not: STATUS_FULL would say that it is certain. */
        status = STATUS_IO;
        goto fail;
    }
    *out = file;
    return STATUS_OK;

fail:
    env_file_close(file);
    if (status == STATUS_FULL && env_remove(env, temporary.text) != STATUS_OK) return STATUS_IO;
    return status;
}

uint64_t manifest_write_mark(struct manifest *manifest, uint64_t sequence, uint64_t at)
{
    uint8_t bytes[FRAME_HEADER_BYTES];
    struct frame mark = {.kind = FRAME_MARK, .sequence = sequence, .durable = sequence};
    frame_encode_header(&mark, frame_seed(manifest->state->store_id, manifest->number), bytes);
    enum status status = env_file_write(manifest->file, at, bytes, sizeof bytes);
    return status == STATUS_OK ? at + sizeof bytes : at;
}

/* Takes back what a write that ran out of space left. */
static enum status undo_append(struct manifest *manifest)
{
    enum status status = env_file_truncate(manifest->file, manifest->end);
    if (status == STATUS_OK) status = env_file_sync(manifest->file);
    return status == STATUS_OK ? STATUS_FULL : STATUS_IO;
}

static enum status append_edit(struct manifest_commit *commit)
{
    struct manifest *manifest = commit->manifest;
    struct slice frame = buf_slice(&commit->frame);

    enum status status = env_file_write(manifest->file, manifest->end, frame.data, frame.size);
    if (status == STATUS_FULL) return undo_append(manifest);
    if (status != STATUS_OK) return STATUS_IO;
    if (env_file_sync(manifest->file) != STATUS_OK) return STATUS_IO;
    commit->end = manifest_write_mark(manifest, manifest->sequence + 1, manifest->end + frame.size);
    return STATUS_OK;
}

static enum status roll_over(struct manifest_commit *commit)
{
    struct manifest *manifest = commit->manifest;
    enum status status = manifest_write_file(manifest->env, manifest->number + 1,
                                             buf_slice(&commit->snapshot), &commit->file);
    if (status != STATUS_OK) return status;
    commit->end = commit->snapshot.size;
    /* If it stays, the next start finds it superseded. */
    struct name old = name_of(NAME_MANIFEST, manifest->number);
    enum status removed = env_remove(manifest->env, old.text);
    (void)removed;
    return STATUS_OK;
}

/* Committing */

static enum status encode_commit(struct manifest *manifest, const struct manifest_edit *edit,
                                 struct manifest_commit *commit)
{
    struct frame frame = {.kind = FRAME_EDIT,
                          .sequence = manifest->sequence + 1,
                          .durable = manifest->sequence,
                          .payload = buf_slice(&edit->bytes)};
    uint32_t seed = frame_seed(manifest->state->store_id, manifest->number);
    enum status status = encode_frame(&frame, seed, &commit->frame);
    if (status != STATUS_OK || manifest->end < manifest->rollover_at) return status;
    return manifest_encode_file(manifest->heap, commit->next, manifest->number + 1,
                                manifest->sequence + 1, &commit->snapshot);
}

enum status manifest_commit_begin(struct manifest *manifest, const struct manifest_edit *edit,
                                  struct manifest_commit *commit)
{
    if (manifest->failed) return STATUS_IO;
    if (manifest->committing) return STATUS_BUSY;
    enum status status = buf_status(&edit->bytes);
    if (status != STATUS_OK) return status;

    struct manifest_commit plan = {.manifest = manifest};
    buf_init(&plan.frame, manifest->heap);
    buf_init(&plan.snapshot, manifest->heap);
    status = state_apply(manifest->heap, manifest->state, buf_slice(&edit->bytes), &plan.next);
    if (status != STATUS_OK) return status;
    status = encode_commit(manifest, edit, &plan);
    if (status != STATUS_OK) {
        state_destroy(manifest->heap, plan.next);
        buf_deinit(&plan.frame);
        buf_deinit(&plan.snapshot);
        return status;
    }
    manifest->committing = true;
    *commit = plan;
    return STATUS_OK;
}

enum status manifest_commit_run(struct manifest_commit *commit)
{
    if (commit->snapshot.size > 0) {
        enum status status = roll_over(commit);
        /* With too little room for a new file, the old one may still take the edit. */
        if (status != STATUS_FULL) return status;
    }
    return append_edit(commit);
}

static void commit_take(struct manifest_commit *commit)
{
    struct manifest *manifest = commit->manifest;
    state_destroy(manifest->heap, manifest->state);
    manifest->state = commit->next;
    manifest->sequence++;
    manifest->end = commit->end;
    if (commit->file == NULL) return;
    env_file_close(manifest->file);
    manifest->file = commit->file;
    manifest->number++;
    manifest_plan_rollover(manifest, commit->end);
}

void manifest_commit_complete(struct manifest_commit *commit, enum status status)
{
    struct manifest *manifest = commit->manifest;
    CHECK(manifest->committing);
    manifest->committing = false;
    if (status == STATUS_OK) {
        commit_take(commit);
    } else {
        bool certain = status == STATUS_FULL || status == STATUS_NOMEM ||
                       status == STATUS_CANCELLED;
        if (!certain) manifest->failed = true;
        env_file_close(commit->file);
        state_destroy(manifest->heap, commit->next);
    }
    buf_deinit(&commit->frame);
    buf_deinit(&commit->snapshot);
}

enum status manifest_commit(struct manifest *manifest, const struct manifest_edit *edit)
{
    struct manifest_commit commit;
    enum status status = manifest_commit_begin(manifest, edit, &commit);
    if (status != STATUS_OK) return status;
    status = manifest_commit_run(&commit);
    manifest_commit_complete(&commit, status);
    return status;
}

/* Asking */

const struct manifest_state *manifest_state(const struct manifest *manifest)
{
    return manifest->state;
}

const struct manifest_run *manifest_find_run(const struct manifest *manifest, uint64_t number)
{
    const struct manifest_state *state = manifest->state;
    for (size_t i = 0; i < state->run_count; i++)
        if (state->runs[i].number == number) return &state->runs[i];
    return NULL;
}

bool manifest_find_value(const struct manifest *manifest, struct slice key, struct slice *out)
{
    const struct manifest_state *state = manifest->state;
    for (size_t i = 0; i < state->value_count; i++) {
        if (!slice_equal(state->values[i].key, key)) continue;
        *out = state->values[i].value;
        return true;
    }
    return false;
}

void manifest_close(struct manifest *manifest)
{
    if (manifest == NULL) return;
    CHECK(!manifest->committing);
    env_file_close(manifest->file);
    state_destroy(manifest->heap, manifest->state);
    heap_free(manifest->heap, manifest);
}
