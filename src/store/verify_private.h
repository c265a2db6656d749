/* What verify.c, verify_manifest.c and verify_runs.c share. */
#pragma once

#include "store/manifest_state.h"
#include "store/verify.h"

/* A file of the directory. */
struct verify_entry {
    char name[NAME_BYTES_MAX];
    enum name_kind kind;
    uint64_t number;
    uint64_t size_bytes;
    bool told; /* The visitor knows it. */
};

struct verify {
    struct env *env;
    struct heap *heap;
    const struct verify_visitor *visitor;
    struct verify_report *report;
    struct verify_entry *entries; /* By name. */
    size_t entry_count, entry_capacity;
    uint64_t done_bytes;
    bool stopped;

    uint8_t store_id[16];
    bool has_store_id;
    uint64_t manifest;            /* Number of the current one; 0: none. */
    struct manifest_state *state; /* NULL unless the manifest could be read to its end. */
};

__attribute__((format(printf, 5, 6))) void verify_tell(struct verify *verify, bool damage,
                                                       const char *name, uint64_t offset,
                                                       const char *format, ...);

/* NULL if there is no such file. */
struct verify_entry *verify_find(struct verify *verify, enum name_kind kind, uint64_t number);

void verify_describe(struct verify *verify, struct verify_entry *entry,
                     const struct verify_file *file);

/* `bytes` of the file at hand are done. False: stop. */
bool verify_progress(struct verify *verify, uint64_t bytes);

/* Maps a file; a failure is told as damage. STATUS_NOMEM, or STATUS_CORRUPT once told. */
enum status verify_map(struct verify *verify, const char *name, struct env_map **out);

/* --- verify_manifest.c --- */

/* Sets `state`, or tells why not. */
enum status verify_manifest(struct verify *verify);

/* --- verify_runs.c --- */

/* Packed tries with their overlays: those of the state, or all there are. */
enum status verify_runs(struct verify *verify);
