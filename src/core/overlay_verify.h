/* Compares an overlay that was read back with the packed trie that it belongs to.
 *
 * overlay_decode() reads no column of the trie; this does: what is gone was present, what is
 * hidden expires, bests and sums are those of the records that the bits leave. */
#pragma once

#include "core/overlay.h"
#include "core/packed_verify.h"

/* Errors: STATUS_CORRUPT: `verify->flaw` was told, with PACKED_NOWHERE, of up to
 * PACKED_FLAWS_MAX flaws; STATUS_NOMEM.
 * Cost:   a look at each record that is dead or hidden, and the bests around it. */
enum status overlay_verify(const struct overlay_space *space, const struct packed *packed,
                           overlay_root root, struct heap *heap,
                           const struct packed_verify *verify);
