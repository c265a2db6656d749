/* A verification of a simulated disk, and what it told. */
#pragma once

#include <string.h>

#include "sim/disk.h"
#include "store/verify.h"
#include "test.h"

enum { LOOK_FINDINGS_MAX = 64, LOOK_FILES_MAX = 128 };

struct look {
    enum status status;
    struct verify_report report;
    struct look_finding {
        bool damage;
        char name[NAME_BYTES_MAX];
        uint64_t offset;
    } findings[LOOK_FINDINGS_MAX];
    size_t finding_count;
    struct look_file {
        char name[NAME_BYTES_MAX];
        enum name_kind kind;
        enum verify_role role;
        uint64_t size_bytes, used_bytes;
    } files[LOOK_FILES_MAX];
    size_t file_count;
    uint64_t progress;
    bool speaks; /* Findings go to standard error. */
};

static inline void look_take_finding(void *context, const struct verify_finding *finding)
{
    struct look *look = context;
    EXPECT(finding->text[0] != '\0');
    if (look->speaks)
        fprintf(stderr, "%s %s at %lld: %s\n", finding->damage ? "damage" : "note", finding->name,
                (long long)finding->offset, finding->text);
    if (look->finding_count == LOOK_FINDINGS_MAX) return;
    struct look_finding *taken = &look->findings[look->finding_count++];
    *taken = (struct look_finding){.damage = finding->damage, .offset = finding->offset};
    snprintf(taken->name, sizeof taken->name, "%s", finding->name);
}

static inline void look_take_file(void *context, const struct verify_file *file)
{
    struct look *look = context;
    EXPECT(look->file_count < LOOK_FILES_MAX);
    struct look_file *taken = &look->files[look->file_count++];
    *taken = (struct look_file){
        .kind = file->kind,
        .role = file->role,
        .size_bytes = file->size_bytes,
        .used_bytes = file->segment.used_bytes,
    };
    snprintf(taken->name, sizeof taken->name, "%s", file->name);
}

static inline bool look_take_progress(void *context, uint64_t done, uint64_t total)
{
    struct look *look = context;
    EXPECT(done >= look->progress && done <= total);
    look->progress = done;
    return true;
}

/* Changes nothing, keeps nothing, and its sums are those of what it told. */
static inline struct look look_at(struct sim_disk *disk, bool speaks)
{
    struct heap heap;
    struct look look = {.speaks = speaks};
    struct verify_visitor visitor = {look_take_file, look_take_finding, look_take_progress, &look};
    heap_init(&heap, 0);
    uint64_t changes = sim_disk_change_count(disk);
    look.status = verify_directory(sim_disk_env(disk), &heap, &visitor, &look.report);
    EXPECT(sim_disk_change_count(disk) == changes);
    EXPECT(heap_used_bytes(&heap) == 0);
    EXPECT(look.report.damage_count + look.report.note_count >= look.finding_count);
    EXPECT((look.status == STATUS_OK) == (look.report.text[0] == '\0'));
    return look;
}

/* The first finding about the file; NULL: nothing was told of it. */
static inline const struct look_finding *look_find(const struct look *look, const char *name)
{
    for (size_t i = 0; i < look->finding_count; i++)
        if (strcmp(look->findings[i].name, name) == 0) return &look->findings[i];
    return NULL;
}
