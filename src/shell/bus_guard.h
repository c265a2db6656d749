/* Keeps a device error under a mapped file from killing the process.
 *
 * Where the kernel cannot read a page of a mapped file (the device failed, somebody cut
 * the file) it sends SIGBUS. For addresses in a registered range the handler puts pages of
 * zeros in place of the missing one and raises the range's flag; the reader goes on, its
 * checksum or the flag tells. Any other SIGBUS is passed to the handler there was before.
 *
 * Threads: all calls by any thread. The handler takes no lock, allocates nothing, and
 * keeps errno. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

enum { BUS_GUARD_RANGES_MAX = 4096 };

/* Installs the handler, unless it is in place. */
enum status bus_guard_install(void);

/* Guards [start, start + size) until bus_guard_remove(). `*damaged` is set when a page of
 * it was lost.
 *
 * Errors: STATUS_LIMIT when BUS_GUARD_RANGES_MAX ranges are guarded. */
enum status bus_guard_add(const void *start, size_t size, _Atomic bool *damaged);

/* Before the range is unmapped. Nobody may still read it. */
void bus_guard_remove(const void *start);
