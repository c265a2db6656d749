/* The manifest: which files are live, and the few numbers that a restart needs.
 *
 * An append-only file of edits. An edit is there after a crash as a whole or not at all;
 * the files it names must be durable, with their names, before it is committed. When the
 * file has grown, a snapshot begins the next one, which takes its place by a rename.
 * docs/format/manifest.md shows the bytes.
 *
 * Also knows the directory: the identity file tells ours from others and this format
 * from newer ones, and whatever has no name of ours (store/names.h) stops the start.
 * `lost+found` is let be: a data directory may be a mount point.
 *
 * Threads: all calls by the writer thread, but manifest_commit_run(), by any. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/heap.h"
#include "base/slice.h"
#include "base/status.h"
#include "store/env.h"

enum {
    MANIFEST_FORMAT = 1,
    MANIFEST_ROLLOVER_BYTES = 1024 * 1024,
    MANIFEST_KEY_BYTES_MAX = 64 * 1024,
};

/* Numbers of the store, all 0 at creation. The order is the format: append only. */
enum manifest_number {
    MANIFEST_REPLAY_SEQUENCE, /* Replay starts with this batch of the log. */
    MANIFEST_LOG_DURABLE,     /* log_durable() when this was committed. */
    MANIFEST_LOG_BEGUN,       /* 1 once the log was opened: from then on it must exist. */
    MANIFEST_NEXT_FILE,       /* Runs and overlays take their numbers from here. */
    MANIFEST_HLC_CEILING,     /* No version above this was given out. */
    MANIFEST_SETTLED_MS,      /* Words expired up to here are taken out of the counts. */
    MANIFEST_BOOT_COUNT,
    MANIFEST_CLEAN_STOP, /* 1 from a clean stop to the next start: all is in files. */
    MANIFEST_NUMBER_COUNT,
};

/* A live packed trie. */
struct manifest_run {
    uint64_t number;  /* Of its file, above 0. */
    uint64_t overlay; /* Of its overlay's file; 0: none. */
    uint64_t level;
    uint64_t group; /* Runs of one merge share the number of the first; 0: alone. */
    uint64_t size_bytes;
    struct slice first; /* Its least and greatest key; empty if not noted. */
    struct slice last;
};

/* Any small fact under a key: purge marks, hints for dictionaries. */
struct manifest_value {
    struct slice key;
    struct slice value;
};

/* What holds after the newest edit. */
struct manifest_state {
    uint8_t store_id[16];
    uint64_t numbers[MANIFEST_NUMBER_COUNT];
    struct manifest_run *runs; /* In the order in which they were added. */
    size_t run_count;
    struct manifest_value *values; /* By key, ascending. */
    size_t value_count;
};

struct manifest;

struct manifest_options {
    bool create;             /* An empty directory becomes a store. */
    uint8_t store_id[16];    /* Random: the identity of a store that is created now. */
    uint64_t rollover_bytes; /* 0: MANIFEST_ROLLOVER_BYTES. */
};

/* Why an open failed, or what it did, for a human: complete sentences, no newline. */
struct manifest_report {
    char text[256];
    bool created;
    uint64_t cut_bytes; /* Of a torn last edit. */
};

/* Opens the directory's store, or creates one. The caller holds env_lock().
 *
 * Errors, all with `report->text`: STATUS_NOT_FOUND if the directory is empty and
 * `create` is false; STATUS_FOREIGN if it holds what is not ours; STATUS_NEWER;
 * STATUS_CORRUPT; and those of `env`. Nothing is changed by these but by env's. */
enum status manifest_open(struct env *env, struct heap *heap,
                          const struct manifest_options *options, struct manifest_report *report,
                          struct manifest **out);

/* NULL is accepted. No commit may be in flight. */
void manifest_close(struct manifest *manifest);

/* Owns: borrowed until the next manifest_commit_complete() that succeeds. */
const struct manifest_state *manifest_state(const struct manifest *manifest);

/* NULL if no live run has this number. */
const struct manifest_run *manifest_find_run(const struct manifest *manifest, uint64_t number);

/* The value under `key`; false if there is none. */
bool manifest_find_value(const struct manifest *manifest, struct slice key, struct slice *out);

/* Removes what a crash left behind: runs and overlays that are not live, manifests that
 * are not current, temporary files and, unless `keep_transfers`, transfers. `visit` is told each name, for the log; may be NULL.
 * Log segments are log_open()'s. Not while a job writes files that no edit names yet. */
enum status manifest_remove_leftovers(struct manifest *manifest, bool keep_transfers,
                                      void (*visit)(void *context, const char *name),
                                      void *context);

/* Changes that take effect together. Appends remember a failure: manifest_commit() tells. */
struct manifest_edit {
    struct buf bytes;
};

void manifest_edit_init(struct manifest_edit *edit, struct heap *heap);
void manifest_edit_deinit(struct manifest_edit *edit);
void manifest_edit_set_number(struct manifest_edit *edit, enum manifest_number which,
                              uint64_t value);
void manifest_edit_add_run(struct manifest_edit *edit, const struct manifest_run *run);
void manifest_edit_remove_run(struct manifest_edit *edit, uint64_t number);
void manifest_edit_set_overlay(struct manifest_edit *edit, uint64_t number, uint64_t overlay);
void manifest_edit_set_value(struct manifest_edit *edit, struct slice key, struct slice value);
void manifest_edit_remove_value(struct manifest_edit *edit, struct slice key);

/* A commit on its way; the fields are the manifest's own. */
struct manifest_commit {
    struct manifest *manifest;
    struct manifest_state *next;
    struct buf frame;      /* The edit. */
    struct buf snapshot;   /* A whole new file, when it is time for one; else empty. */
    struct env_file *file; /* The new file, once it has taken the old one's place. */
    uint64_t end;          /* Of the file that is current then. */
};

/* Checks the edit and encodes it; no I/O. One commit at a time.
 *
 * Errors: STATUS_INVALID if the edit does not fit the state (a run twice, or one that is
 * not there), STATUS_NOMEM, STATUS_BUSY, STATUS_IO after a commit of unknown outcome. */
enum status manifest_commit_begin(struct manifest *manifest, const struct manifest_edit *edit,
                                  struct manifest_commit *commit);

/* The work, on any thread: writes and syncs.
 *
 * Errors: STATUS_FULL, STATUS_NOMEM: not committed, for certain. All others: not known until
 * a restart. The caller must then keep all files that the edit adds *and* those it
 * removes, and every later commit is refused. */
enum status manifest_commit_run(struct manifest_commit *commit);

/* Takes the result in and frees what the commit holds; on STATUS_OK the state is the new one.
 * STATUS_CANCELLED: manifest_commit_run() was not called. */
void manifest_commit_complete(struct manifest_commit *commit, enum status status);

/* All three in one. */
enum status manifest_commit(struct manifest *manifest, const struct manifest_edit *edit);
