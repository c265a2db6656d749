/* Run: one packed trie on disk, mapped, with the overlay that says what is no longer
 * current in it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/status.h"
#include "core/overlay.h"
#include "core/packed.h"
#include "store/env.h"

struct run {
    struct env *env;
    struct heap *heap;
    uint64_t number;
    unsigned level;
    uint64_t group; /* The first of the runs that came from one merge: they count as one. */
    struct env_map *map;
    struct packed *packed;

    overlay_root overlay;  /* Of the tip. */
    uint64_t change_count; /* Of the overlay since it was opened. */
    uint64_t saved_in;     /* The last batch that changed it; the next two are from before. */
    overlay_root saved_overlay;
    uint64_t saved_change_count;
    uint64_t stored_count;   /* As many of them are in the manifest's overlay file. */
    uint64_t overlay_number; /* File that holds it; 0: none, the run is pristine. */
    unsigned pin_count;      /* Snapshots that read it: it stays when it is replaced. */
    bool in_job;             /* An input of the job under way, ... */
    uint32_t job_index;      /* ... and which. */
    bool unreadable;         /* A merge could not read it: it stays as it is. */
    uint64_t retired_in;     /* Once replaced: the last view that can see it; 0: in use. */
    struct run *next;        /* In the list of retired ones. */
};

/* Maps and opens run file `number`. Errors: those of the file, STATUS_CORRUPT, STATUS_NOMEM. */
enum status run_open(struct env *env, struct heap *heap, uint64_t number, unsigned level,
                     struct run **out);

/* Unmaps. NULL is accepted; the file stays. */
void run_close(struct run *run);

/* Takes the files of a run that nobody sees any more away. Failing to is harmless: what
 * the manifest does not name is removed at the next start. */
void run_remove_files(struct env *env, uint64_t number, uint64_t overlay_number);

/* A copy of its overlay, in another space, that stays while `overlays` goes on changing; 0 when
 * it is pristine. Errors: STATUS_NOMEM. Cost: O(nodes of the overlay). */
enum status run_copy_overlay(const struct run *run, const struct overlay_space *overlays,
                             struct overlay_space *space, overlay_root *out);

/* True once a page of it was found damaged: what can still be read is read, but it is merged
 * with nothing. */
bool run_is_damaged(const struct run *run);
