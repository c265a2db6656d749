/* Looks through a data directory without changing anything, and tells all that is not as it was
 * written: every edit of the manifest, every page and every part of each packed trie, each
 * overlay against its packed trie, every batch of the log, and what they say of each other.
 *
 * A damaged file does not keep the others from being checked, so one run names all damage. Only
 * a manifest that cannot be read to its end leaves open what belongs together: every file is
 * then checked for itself.
 *
 * Reads only; the lock is held for reading, so that a node neither runs beside it nor starts.
 *
 * Cost:   each file is read once in order, and the keys of packed tries that overlap are walked
 *         a second time. Memory: all overlays, as a node has them; for the packed trie at hand
 *         its filter; a line a file. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/slice.h"
#include "base/status.h"
#include "core/version.h"
#include "store/env.h"
#include "store/log_check.h"
#include "store/manifest.h"
#include "store/names.h"

#define VERIFY_NOWHERE LOG_CHECK_NOWHERE

enum verify_role {
    VERIFY_LIVE,
    VERIFY_LEFTOVER, /* What a crash left; the next start removes it. */
    VERIFY_WAITING,  /* A log segment that holds nothing yet. */
    VERIFY_GIVEN_UP, /* A log segment that is not needed any more. */
    VERIFY_UNKNOWN,  /* The manifest that would tell is damaged. */
};

/* What one file is and holds. All but the first four are of some kinds only. */
struct verify_file {
    const char *name;
    enum name_kind kind;
    enum verify_role role;
    uint64_t size_bytes;

    /* Packed tries; false where not even the footer could be read. */
    bool described;
    uint64_t level, overlay;
    uint64_t entry_count;     /* All of these: */
    uint64_t word_count;      /* current and live, */
    uint64_t tombstone_count; /* deletions, dead or not, */
    uint64_t dead_count;      /* replaced by a newer record elsewhere, */
    uint64_t hidden_count;    /* expired and taken out of the counts. */
    struct version oldest, newest;
    struct slice key_first, key_last; /* Borrowed for the call. */

    struct log_check_segment segment; /* Log segments. */
};

/* `damage` false: nothing is lost, but worth knowing. */
struct verify_finding {
    bool damage;
    const char *name; /* Of the file; empty: of the directory. */
    uint64_t offset;  /* VERIFY_NOWHERE: none. */
    const char *text; /* What was found, and what was expected. */
};

/* Any of them may be NULL. What they are given is theirs for the call. */
struct verify_visitor {
    void (*file)(void *context, const struct verify_file *file);
    void (*found)(void *context, const struct verify_finding *finding);
    bool (*progress)(void *context, uint64_t done_bytes, uint64_t total_bytes); /* False stops. */
    void *context;
};

struct verify_report {
    char text[256]; /* Why nothing could be checked: a sentence. */
    uint64_t damage_count, note_count;
    uint8_t store_id[16];
    bool has_numbers; /* The manifest could be read. */
    uint64_t numbers[MANIFEST_NUMBER_COUNT];
    uint64_t edit_count; /* Of the manifest. */
    uint64_t torn_edit_bytes;
    uint64_t run_count, overlay_count, leftover_count;
    uint64_t entry_count, word_count, tombstone_count, dead_count, hidden_count;
    uint64_t file_count, total_bytes;
    struct log_check_totals log;
};

/* Errors, all with `report->text`: STATUS_LOCKED: a node runs on it; STATUS_NOT_FOUND: it holds no
 * store; STATUS_FOREIGN; STATUS_NEWER; STATUS_CANCELLED; STATUS_NOMEM; those of listing. */
enum status verify_directory(struct env *env, struct heap *heap,
                             const struct verify_visitor *visitor, struct verify_report *report);
