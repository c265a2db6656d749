/* The real files of one data directory (store/env.h on Linux).
 *
 * All names are resolved from a handle on the directory, so that it may be renamed and the
 * process may change its own. Syncs are fdatasync(), of the directory fsync(). Maps are
 * guarded against device errors (shell/bus_guard.h).
 *
 * Threads: any. */
#pragma once

#include <stdbool.h>

#include "base/heap.h"
#include "base/status.h"
#include "store/env.h"

/* Opens the directory `path`; with `create`, makes it first (with mode 0700, and durably)
 * if it is not there.
 *
 * Errors: STATUS_NOT_FOUND, STATUS_DENIED, STATUS_INVALID if it is no directory, ...
 * Owns: close with file_env_close(). */
enum status file_env_open(struct heap *heap, const char *path, bool create, struct env **out);

/* Handles and maps must be closed; the lock is given up. NULL is accepted. */
void file_env_close(struct env *base);
