/* Space kept back for the day the disk is full.
 *
 * A file of zeros. When puts are refused at the low-water mark, releasing it gives the
 * room that deletes, a flush, a compaction and the manifest need to free more than that.
 *
 * Threads: any, one call at a time. */
#pragma once

#include <stdint.h>

#include "base/status.h"
#include "store/env.h"

/* What is held now; 0 if there is no file. */
enum status reserve_held_bytes(struct env *env, uint64_t *out);

/* Fills the reserve up to `size_bytes`, durably, or trims it down to that.
 *
 * Errors: STATUS_FULL if there is no room; the reserve is then empty, and nothing is held. */
enum status reserve_restore(struct env *env, uint64_t size_bytes);

/* Gives all of it back to the file system. */
enum status reserve_release(struct env *env);
