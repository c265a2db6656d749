#include "store/manifest_private.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/check.h"
#include "base/math.h"
#include "store/frame.h"
#include "store/identity.h"
#include "store/names.h"

/* What the directory holds, by name. */
struct survey {
    bool has_identity;
    uint64_t manifest;            /* The greatest number; 0: none. */
    char data[NAME_BYTES_MAX];    /* One run, overlay or log segment; empty: none. */
    char unknown[NAME_BYTES_MAX]; /* One name that is not ours; empty: none. */
};

struct opening {
    struct env *env;
    struct heap *heap;
    const struct manifest_options *options;
    struct manifest_report *report;
    struct manifest *manifest;
    uint8_t store_id[16];
    uint64_t proven;    /* The greatest edit that was known durable. */
    uint64_t edits_end; /* In the file; what follows is a mark. */
};

__attribute__((format(printf, 3, 4))) static enum status explain(struct opening *opening,
                                                                 enum status status,
                                                                 const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(opening->report->text, sizeof opening->report->text, format, list);
    va_end(list);
    return status;
}

/* An error of the device, unless somebody has said more already. */
static enum status explain_other(struct opening *opening, enum status status)
{
    if (status == STATUS_OK || opening->report->text[0] != 0) return status;
    return explain(opening, status, "The data directory cannot be used: %s.", status_name(status));
}

/* The directory */

static void note(char to[NAME_BYTES_MAX], const char *name)
{
    snprintf(to, NAME_BYTES_MAX, "%s", name);
}

static enum status survey_entry(void *context, const char *name, bool is_file)
{
    struct survey *survey = context;
    uint64_t number;
    enum name_kind kind = name_parse(name, &number);

    if (!is_file && strcmp(name, "lost+found") == 0) return STATUS_OK;
    if (!is_file || kind == NAME_UNKNOWN) note(survey->unknown, name);
    if (kind == NAME_IDENTITY) survey->has_identity = true;
    if (kind == NAME_MANIFEST) survey->manifest = u64_max(survey->manifest, number);
    if (kind == NAME_RUN || kind == NAME_OVERLAY || kind == NAME_LOG) note(survey->data, name);
    return STATUS_OK;
}

static enum status read_identity(struct opening *opening)
{
    struct env_file *file;
    uint8_t text[IDENTITY_BYTES + 1];
    uint64_t size;

    enum status status = env_open(opening->env, NAME_IDENTITY_TEXT, ENV_READ, &file);
    if (status != STATUS_OK) return status;
    status = env_file_size(file, &size);
    size = status == STATUS_OK ? u64_min(size, sizeof text) : 0;
    if (status == STATUS_OK) status = env_file_read(file, 0, text, (size_t)size);
    env_file_close(file);
    if (status != STATUS_OK) return status;

    status = identity_decode(slice_of(text, (size_t)size), opening->store_id);
    if (status == STATUS_FOREIGN)
        return explain(opening, status,
                       "%s is not a trifecta identity file: this is not a data "
                       "directory of ours.",
                       NAME_IDENTITY_TEXT);
    if (status == STATUS_NEWER)
        return explain(opening, status, "%s names a newer format than %d: start a newer trifecta.",
                       NAME_IDENTITY_TEXT, MANIFEST_FORMAT);
    if (status == STATUS_CORRUPT)
        return explain(opening, status, "%s is damaged: restore it from a backup.",
                       NAME_IDENTITY_TEXT);
    return status;
}

/* Reads the identity first: in a newer format unknown names are to be expected. */
static enum status check_directory(struct opening *opening, struct survey *survey)
{
    enum status status = env_list(opening->env, survey_entry, survey);
    if (status != STATUS_OK) return status;
    if (survey->has_identity) {
        status = read_identity(opening);
        if (status != STATUS_OK) return status;
    }
    if (survey->unknown[0] != 0)
        return explain(opening, STATUS_FOREIGN,
                       "%s is not a file of trifecta%s: move it away, or choose another directory.",
                       survey->unknown,
                       survey->has_identity ? ""
                                            : ", and there is no " NAME_IDENTITY_TEXT " beside it");
    if (!survey->has_identity && (survey->manifest != 0 || survey->data[0] != 0))
        return explain(opening, STATUS_CORRUPT,
                       "%s is missing, but there are other files of a store: restore it from a "
                       "backup.",
                       NAME_IDENTITY_TEXT);
    if (survey->manifest == 0 && survey->data[0] != 0)
        return explain(opening, STATUS_CORRUPT,
                       "There is no manifest, but there is %s: restore the directory from a "
                       "backup.",
                       survey->data);
    return STATUS_OK;
}

/* Creating */

static enum status write_identity(struct opening *opening)
{
    char text[IDENTITY_BYTES + 1];
    struct env *env = opening->env;
    struct env_file *file;

    identity_encode(opening->store_id, text);
    enum status status = env_remove(env, NAME_IDENTITY_NEW_TEXT);
    if (status != STATUS_OK && status != STATUS_NOT_FOUND) return status;
    status = env_open(env, NAME_IDENTITY_NEW_TEXT, ENV_CREATE, &file);
    if (status != STATUS_OK) return status;
    status = env_file_write(file, 0, text, IDENTITY_BYTES);
    if (status == STATUS_OK) status = env_file_sync(file);
    env_file_close(file);
    if (status != STATUS_OK) return status;
    status = env_rename(env, NAME_IDENTITY_NEW_TEXT, NAME_IDENTITY_TEXT);
    if (status != STATUS_OK) return status;
    return env_sync_directory(env);
}

/* The identity comes first: from then on an interrupted creation is known as one. */
static enum status create(struct opening *opening, const struct survey *survey)
{
    struct manifest *manifest = opening->manifest;
    struct buf content;
    enum status status;

    if (!opening->options->create)
        return explain(opening, STATUS_NOT_FOUND, "There is no store in the directory.");
    if (!survey->has_identity) {
        memcpy(opening->store_id, opening->options->store_id, sizeof opening->store_id);
        status = write_identity(opening);
        if (status != STATUS_OK) return status;
    }
    status = state_create(opening->heap, opening->store_id, &manifest->state);
    if (status != STATUS_OK) return status;

    manifest->number = 1;
    manifest->sequence = 1;
    buf_init(&content, opening->heap);
    status = manifest_encode_file(opening->heap, manifest->state, 1, 1, &content);
    if (status == STATUS_OK)
        status = manifest_write_file(opening->env, 1, buf_slice(&content), &manifest->file);
    manifest->end = content.size;
    manifest_plan_rollover(manifest, content.size);
    buf_deinit(&content);
    opening->report->created = status == STATUS_OK;
    return status;
}

/* Reading */

static enum status apply(struct opening *opening, const struct frame *frame)
{
    struct manifest *manifest = opening->manifest;
    struct manifest_state *next;

    enum status status = state_apply(opening->heap, manifest->state, frame->payload, &next);
    if (status == STATUS_NEWER)
        return explain(opening, status,
                       "The manifest says something that only a newer trifecta understands: start "
                       "that.");
    if (status == STATUS_CORRUPT || status == STATUS_INVALID)
        return explain(opening, STATUS_CORRUPT,
                       "Edit %llu of the manifest makes no sense: restore the directory from a "
                       "backup.",
                       (unsigned long long)frame->sequence);
    if (status != STATUS_OK) return status;
    state_destroy(opening->heap, manifest->state);
    manifest->state = next;
    manifest->sequence = frame->sequence;
    return STATUS_OK;
}

static bool is_next(const struct manifest *manifest, const struct frame *frame)
{
    if (frame->kind == FRAME_EDIT) return frame->sequence == manifest->sequence + 1;
    return frame->kind == FRAME_MARK && frame->payload.size == 0 &&
           frame->sequence == manifest->sequence;
}

static enum status damaged(struct opening *opening)
{
    return explain(opening, STATUS_CORRUPT,
                   "%s is damaged at byte %llu: restore the directory from a backup.",
                   name_of(NAME_MANIFEST, opening->manifest->number).text,
                   (unsigned long long)opening->manifest->end);
}

/* Applies edit by edit, and judges the end as the log does: a missing edit that a later
 * header knows to have been durable is damage, another is a commit that never was. */
static enum status read_edits(struct opening *opening, struct slice bytes)
{
    struct manifest *manifest = opening->manifest;
    uint32_t seed = frame_seed(opening->store_id, manifest->number);
    uint64_t snapshot = manifest->sequence + 1;
    struct frame frame;

    while (frame_decode(bytes, manifest->end, seed, &frame) == STATUS_OK) {
        if (!is_next(manifest, &frame)) break;
        if (frame.kind == FRAME_EDIT) {
            enum status status = apply(opening, &frame);
            if (status != STATUS_OK) return status;
        }
        opening->proven = u64_max(opening->proven, frame.durable);
        manifest->end += frame.size_bytes;
        if (frame.kind == FRAME_EDIT) opening->edits_end = manifest->end;
        if (manifest->sequence == snapshot) manifest_plan_rollover(manifest, manifest->end);
    }
    struct frame_tail tail = {0};
    frame_search(bytes, manifest->end, seed, manifest->sequence + 1, &tail);
    if (manifest->sequence < snapshot || tail.durable > manifest->sequence) return damaged(opening);
    opening->report->cut_bytes = tail.frame_bytes;
    return STATUS_OK;
}

static enum status read_bytes(struct opening *opening, struct slice bytes)
{
    struct manifest *manifest = opening->manifest;
    struct manifest_header header;

    if (bytes.size < MANIFEST_HEADER_BYTES || !manifest_header_decode(bytes.data, &header))
        return damaged(opening);
    if (memcmp(header.store_id, opening->store_id, sizeof header.store_id) != 0 ||
        header.number != manifest->number)
        return explain(opening, STATUS_FOREIGN, "%s belongs to another store.",
                       name_of(NAME_MANIFEST, manifest->number).text);
    manifest->sequence = header.sequence - 1;
    manifest->end = MANIFEST_HEADER_BYTES;
    return read_edits(opening, bytes);
}

/* Writes the bytes once more: a sync that failed in a former life may have left them
 * readable and yet on no device. */
static enum status rewrite(struct opening *opening)
{
    struct manifest *manifest = opening->manifest;
    size_t size = (size_t)manifest->end;
    uint8_t *copy = heap_alloc(opening->heap, size);
    if (copy == NULL) return STATUS_NOMEM;
    enum status status = env_file_read(manifest->file, 0, copy, size);
    if (status == STATUS_OK) status = env_file_write(manifest->file, 0, copy, size);
    heap_free(opening->heap, copy);
    return status;
}

/* Makes durable what was accepted, and cuts off for good what was not. The mark behind the last edit is
 * written anew: nothing has made it durable yet, and nothing would. */
static enum status make_durable(struct opening *opening)
{
    struct manifest *manifest = opening->manifest;
    enum status status = STATUS_OK;

    manifest->end = opening->edits_end;
    if (opening->proven < manifest->sequence) status = rewrite(opening);
    if (status == STATUS_OK) status = env_file_truncate(manifest->file, manifest->end);
    if (status == STATUS_OK) status = env_file_sync(manifest->file);
    if (status != STATUS_OK) return status;
    manifest->end = manifest_write_mark(manifest, manifest->sequence, manifest->end);
    return env_sync_directory(opening->env);
}

static enum status read_manifest(struct opening *opening, uint64_t number)
{
    struct manifest *manifest = opening->manifest;
    struct env_map *map;
    enum status status;

    manifest->number = number;
    status = state_create(opening->heap, opening->store_id, &manifest->state);
    if (status != STATUS_OK) return status;
    status =
        env_open(opening->env, name_of(NAME_MANIFEST, number).text, ENV_WRITE, &manifest->file);
    if (status != STATUS_OK) return status;
    status = env_file_map(manifest->file, &map);
    if (status != STATUS_OK) return status;
    status = read_bytes(opening, map->bytes);
    if (env_map_damaged(map)) status = STATUS_IO;
    env_unmap(map);
    if (status != STATUS_OK) return status;
    return make_durable(opening);
}

static enum status open_directory(struct opening *opening)
{
    struct survey survey = {0};
    enum status status = check_directory(opening, &survey);
    if (status != STATUS_OK) return status;
    if (survey.manifest == 0) return create(opening, &survey);
    return read_manifest(opening, survey.manifest);
}

enum status manifest_open(struct env *env, struct heap *heap,
                          const struct manifest_options *options, struct manifest_report *report,
                          struct manifest **out)
{
    *report = (struct manifest_report){0};
    struct manifest *manifest = heap_zalloc(heap, sizeof *manifest);
    if (manifest == NULL) return STATUS_NOMEM;
    manifest->env = env;
    manifest->heap = heap;
    manifest->rollover_bytes = options->rollover_bytes != 0 ? options->rollover_bytes
                                                            : MANIFEST_ROLLOVER_BYTES;

    struct opening opening = {
        .env = env, .heap = heap, .options = options, .report = report, .manifest = manifest};
    enum status status = explain_other(&opening, open_directory(&opening));
    if (status != STATUS_OK) {
        manifest_close(manifest);
        return status;
    }
    *out = manifest;
    return STATUS_OK;
}

/* Leftovers */

struct cleaning {
    struct manifest *manifest;
    bool keep_transfers;
    void (*visit)(void *context, const char *name);
    void *context;
};

static bool is_live(const struct manifest *manifest, enum name_kind kind, uint64_t number)
{
    const struct manifest_state *state = manifest->state;
    if (kind == NAME_TEMPORARY || kind == NAME_TRANSFER) return false;
    if (kind == NAME_MANIFEST) return number == manifest->number;
    if (kind == NAME_RUN) return manifest_find_run(manifest, number) != NULL;
    if (kind != NAME_OVERLAY) return true;
    for (size_t i = 0; i < state->run_count; i++)
        if (state->runs[i].overlay == number) return true;
    return false;
}

static enum status clean_entry(void *context, const char *name, bool is_file)
{
    struct cleaning *cleaning = context;
    uint64_t number;
    enum name_kind kind = name_parse(name, &number);

    if (!is_file || kind == NAME_UNKNOWN) return STATUS_OK;
    if (is_live(cleaning->manifest, kind, number)) return STATUS_OK;
    if (kind == NAME_TRANSFER && cleaning->keep_transfers) return STATUS_OK;
    enum status status = env_remove(cleaning->manifest->env, name);
    if (status == STATUS_OK && cleaning->visit != NULL) cleaning->visit(cleaning->context, name);
    return status;
}

enum status manifest_remove_leftovers(struct manifest *manifest, bool keep_transfers,
                                      void (*visit)(void *context, const char *name), void *context)
{
    struct cleaning cleaning = {manifest, keep_transfers, visit, context};
    enum status status = env_list(manifest->env, clean_entry, &cleaning);
    if (status != STATUS_OK) return status;
    return env_sync_directory(manifest->env);
}
