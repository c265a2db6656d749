#include "store/verify.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "store/identity.h"
#include "store/verify_private.h"

__attribute__((format(printf, 3, 4))) static enum status refuse(struct verify *verify,
                                                                enum status status,
                                                                const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(verify->report->text, sizeof verify->report->text, format, list);
    va_end(list);
    return status;
}

void verify_tell(struct verify *verify, bool damage, const char *name, uint64_t offset,
                 const char *format, ...)
{
    char text[256];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    *(damage ? &verify->report->damage_count : &verify->report->note_count) += 1;
    if (verify->visitor->found == NULL) return;
    verify->visitor->found(verify->visitor->context,
                           &(struct verify_finding){damage, name, offset, text});
}

/* --- The directory --- */

/* The unknown ones are told of later: whether they stop us depends on the identity. */
static enum status collect(void *context, const char *name, bool is_file)
{
    struct verify *verify = context;
    struct verify_entry entry = {0};
    if (!is_file && strcmp(name, "lost+found") == 0) return STATUS_OK;
    snprintf(entry.name, sizeof entry.name, "%s", name);
    entry.kind = name_parse(name, &entry.number);
    if (!is_file) entry.kind = NAME_UNKNOWN;

    if (verify->entry_count == verify->entry_capacity) {
        size_t capacity = verify->entry_capacity * 2 + 64;
        struct verify_entry *entries =
            heap_realloc(verify->heap, verify->entries, capacity * sizeof *entries);
        if (entries == NULL) return STATUS_NOMEM;
        verify->entries = entries;
        verify->entry_capacity = capacity;
    }
    verify->entries[verify->entry_count++] = entry;
    return STATUS_OK;
}

static int compare_entries(const void *a, const void *b)
{
    const struct verify_entry *left = a, *right = b;
    return strcmp(left->name, right->name);
}

static void measure(struct verify *verify, struct verify_entry *entry)
{
    struct env_file *file;
    if (entry->kind == NAME_UNKNOWN || entry->kind == NAME_LOCK) return;
    enum status status = env_open(verify->env, entry->name, ENV_READ, &file);
    if (status == STATUS_OK) {
        status = env_file_size(file, &entry->size_bytes);
        env_file_close(file);
    }
    if (status != STATUS_OK) /* Whoever reads it says more. */
        entry->size_bytes = 0;
    verify->report->total_bytes += entry->size_bytes;
}

static enum status survey(struct verify *verify)
{
    enum status status = env_list(verify->env, collect, verify);
    if (status != STATUS_OK)
        return refuse(verify, status, "The directory cannot be listed: %s.", status_name(status));
    if (verify->entry_count > 0)
        qsort(verify->entries, verify->entry_count, sizeof *verify->entries, compare_entries);
    verify->report->file_count = verify->entry_count;
    for (size_t i = 0; i < verify->entry_count; i++) {
        struct verify_entry *entry = &verify->entries[i];
        measure(verify, entry);
        if (entry->kind == NAME_MANIFEST)
            verify->manifest = u64_max(verify->manifest, entry->number);
    }
    return STATUS_OK;
}

struct verify_entry *verify_find(struct verify *verify, enum name_kind kind, uint64_t number)
{
    for (size_t i = 0; i < verify->entry_count; i++) {
        struct verify_entry *entry = &verify->entries[i];
        if (entry->kind == kind && entry->number == number) return entry;
    }
    return NULL;
}

/* One of `kind`; NULL if there is none. */
static struct verify_entry *find_any(struct verify *verify, enum name_kind kind)
{
    for (size_t i = 0; i < verify->entry_count; i++)
        if (verify->entries[i].kind == kind) return &verify->entries[i];
    return NULL;
}

void verify_describe(struct verify *verify, struct verify_entry *entry,
                     const struct verify_file *file)
{
    struct verify_file whole = *file;
    whole.name = entry->name;
    whole.kind = entry->kind;
    whole.size_bytes = entry->size_bytes;
    entry->told = true;
    if (verify->visitor->file != NULL) verify->visitor->file(verify->visitor->context, &whole);
}

bool verify_progress(struct verify *verify, uint64_t bytes)
{
    const struct verify_visitor *visitor = verify->visitor;
    verify->done_bytes += bytes;
    if (visitor->progress != NULL &&
        !visitor->progress(visitor->context, verify->done_bytes, verify->report->total_bytes))
        verify->stopped = true;
    return !verify->stopped;
}

enum status verify_map(struct verify *verify, const char *name, struct env_map **out)
{
    struct env_file *file;
    enum status status = env_open(verify->env, name, ENV_READ, &file);
    if (status == STATUS_OK) {
        status = env_file_map(file, out);
        env_file_close(file);
    }
    if (status == STATUS_OK || status == STATUS_NOMEM) return status;
    verify_tell(verify, true, name, VERIFY_NOWHERE, "cannot be read: %s",
                status == STATUS_NOT_FOUND ? "there is no such file" : status_name(status));
    return STATUS_CORRUPT;
}

/* --- Whose directory it is --- */

static enum status check_identity(struct verify *verify, struct verify_entry *entry)
{
    struct env_map *map;
    enum status status = verify_map(verify, entry->name, &map);
    if (status == STATUS_CORRUPT) return STATUS_OK;
    if (status != STATUS_OK) return status;
    status = identity_decode(map->bytes, verify->store_id);
    env_unmap(map);

    if (status == STATUS_FOREIGN)
        return refuse(verify, status,
                      "%s is not a trifecta identity file: either damaged, or this "
                      "is no data directory of ours.",
                      entry->name);
    if (status == STATUS_NEWER)
        return refuse(verify, status, "%s names a newer format than %d: use a newer trifecta.",
                      entry->name, MANIFEST_FORMAT);
    if (status == STATUS_CORRUPT)
        verify_tell(verify, true, entry->name, 0,
                    "is not as it was written: three lines, the last a checksum of the others");
    else
        verify->has_store_id = true;
    verify_describe(verify, entry, &(struct verify_file){.role = VERIFY_LIVE});
    return STATUS_OK;
}

static enum status check_strangers(struct verify *verify, bool has_identity)
{
    for (size_t i = 0; i < verify->entry_count; i++) {
        struct verify_entry *entry = &verify->entries[i];
        if (entry->kind != NAME_UNKNOWN) continue;
        if (!has_identity)
            return refuse(verify, STATUS_FOREIGN,
                          "%s is not a file of trifecta, and there is no %s beside it: this is no "
                          "data directory of ours.",
                          entry->name, NAME_IDENTITY_TEXT);
        verify_tell(verify, true, entry->name, VERIFY_NOWHERE,
                    "is not a file of trifecta: move it away, no node starts beside it");
        entry->told = true;
    }
    return STATUS_OK;
}

static enum status check_owner(struct verify *verify)
{
    struct verify_entry *identity = find_any(verify, NAME_IDENTITY);
    bool has_data = verify->manifest != 0 || find_any(verify, NAME_RUN) != NULL ||
                    find_any(verify, NAME_OVERLAY) != NULL || find_any(verify, NAME_LOG) != NULL;
    enum status status = STATUS_OK;
    if (identity != NULL) status = check_identity(verify, identity);
    if (status == STATUS_OK) status = check_strangers(verify, identity != NULL);
    if (status != STATUS_OK) return status;
    if (identity == NULL && !has_data)
        return refuse(verify, STATUS_NOT_FOUND, "There is no store in it.");
    if (identity == NULL)
        verify_tell(verify, true, NAME_IDENTITY_TEXT, VERIFY_NOWHERE,
                    "is missing, but there are other files of a store");
    if (verify->manifest == 0 && has_data)
        verify_tell(verify, true, "", VERIFY_NOWHERE,
                    "there is no manifest, but there are other files of a store; each is checked "
                    "for itself");
    return STATUS_OK;
}

/* --- The log --- */

static void log_found(void *context, bool damage, const char *name, uint64_t offset,
                      const char *text)
{
    verify_tell(context, damage, name, offset, "%s", text);
}

static void log_segment(void *context, const struct log_check_segment *segment)
{
    static const enum verify_role roles[] = {
        [LOG_CHECK_IN_USE] = VERIFY_LIVE,
        [LOG_CHECK_WAITING] = VERIFY_WAITING,
        [LOG_CHECK_GIVEN_UP] = VERIFY_GIVEN_UP,
    };
    struct verify *verify = context;
    struct verify_entry *entry = verify_find(verify, NAME_LOG, segment->number);
    if (entry != NULL)
        verify_describe(verify, entry,
                        &(struct verify_file){.role = roles[segment->role], .segment = *segment});
}

static bool log_progress(void *context, uint64_t bytes)
{
    return verify_progress(context, bytes);
}

static enum status verify_log(struct verify *verify)
{
    struct log_check_options options = {0};
    struct log_check_visitor visitor = {log_found, log_segment, log_progress, verify};
    if (!verify->has_store_id) return STATUS_OK; /* No checksum can be told without it. */
    memcpy(options.store_id, verify->store_id, sizeof options.store_id);
    if (verify->state != NULL) {
        const uint64_t *numbers = verify->state->numbers;
        options.replay_sequence = u64_max(1, numbers[MANIFEST_REPLAY_SEQUENCE]);
        options.durable_sequence = numbers[MANIFEST_LOG_DURABLE];
        options.expect_segments = numbers[MANIFEST_LOG_BEGUN] != 0;
    }
    return log_check(verify->env, verify->heap, &options, &visitor, &verify->report->log);
}

/* --- The rest --- */

static void describe_rest(struct verify *verify)
{
    for (size_t i = 0; i < verify->entry_count; i++) {
        struct verify_entry *entry = &verify->entries[i];
        if (entry->told) continue;
        bool stays = entry->kind == NAME_LOCK || entry->kind == NAME_RESERVE;
        bool decided = verify->state != NULL || entry->kind == NAME_TEMPORARY ||
                       (entry->kind == NAME_MANIFEST && entry->number < verify->manifest);
        enum verify_role role = stays ? VERIFY_LIVE : decided ? VERIFY_LEFTOVER : VERIFY_UNKNOWN;
        if (role == VERIFY_LEFTOVER) {
            verify->report->leftover_count++;
            verify_tell(verify, false, entry->name, VERIFY_NOWHERE,
                        "no file of the store: a crash left it behind, and the next start removes "
                        "it");
        }
        verify_describe(verify, entry, &(struct verify_file){.role = role});
    }
}

static enum status check_all(struct verify *verify)
{
    enum status status = survey(verify);
    if (status == STATUS_OK) status = check_owner(verify);
    if (status == STATUS_OK && verify->manifest != 0) status = verify_manifest(verify);
    if (status == STATUS_OK && verify->state != NULL) {
        verify->report->has_numbers = true;
        memcpy(verify->report->numbers, verify->state->numbers, sizeof verify->report->numbers);
    }
    if (status == STATUS_OK) status = verify_runs(verify);
    if (status == STATUS_OK) status = verify_log(verify);
    if (status != STATUS_OK) return status;
    memcpy(verify->report->store_id, verify->store_id, sizeof verify->store_id);
    describe_rest(verify);
    return STATUS_OK;
}

enum status verify_directory(struct env *env, struct heap *heap,
                             const struct verify_visitor *visitor, struct verify_report *report)
{
    *report = (struct verify_report){0};
    struct verify verify = {.env = env, .heap = heap, .visitor = visitor, .report = report};

    enum status status = env_lock_reading(env);
    bool locked = status == STATUS_OK;
    if (status == STATUS_LOCKED)
        return refuse(&verify, status, "A node runs on it: stop that first.");
    /* Never locked: no node has run on it, unless somebody removed the lock. */
    if (status != STATUS_OK && status != STATUS_NOT_FOUND)
        return refuse(&verify, status, "It cannot be locked for reading: %s.", status_name(status));

    status = check_all(&verify);
    state_destroy(heap, verify.state);
    heap_free(heap, verify.entries);
    if (locked) env_unlock(env);
    if (status != STATUS_OK && report->text[0] == '\0')
        return refuse(&verify, status, "The check was not finished: %s.", status_name(status));
    return status;
}
