/* Looks through a packed trie for everything that is not as the builder wrote it.
 *
 * Two passes: the frame (footer, checksums, every page), which needs no trust in anything,
 * and the content, which compares every part of an opened trie with every other: the order
 * of keys, columns with bests, sums, presence, filter, postings and expiry index. Reading
 * functions stop at the first bad page; these go on and tell all they find, though no more
 * than PACKED_FLAWS_MAX of the content of one file. */
#pragma once

#include <stdint.h>

#include "base/heap.h"
#include "base/slice.h"
#include "base/status.h"
#include "core/packed.h"

enum { PACKED_FLAWS_MAX = 20 };

/* Where a flaw has no place in the file. */
#define PACKED_NOWHERE UINT64_MAX

/* Takes what is wrong at byte `offset` of the file: what was found, what was expected. */
typedef void packed_flaw(void *context, uint64_t offset, const char *text);

/* Checks the footer, the checksum of each page, and that all is zero between sections.
 *
 * Errors: STATUS_CORRUPT: `flaw` was told of each; STATUS_NEWER.
 * Cost:   one read of the file in order. */
enum status packed_verify_frame(struct slice file, packed_flaw *flaw, void *context);

struct packed_verify {
    packed_flaw *flaw;
    /* Called now and then with the ordinal reached; false stops. May be NULL. */
    bool (*progress)(void *context, uint64_t ordinal);
    void *context;
};

/* Compares all parts of a trie whose frame is right.
 *
 * Errors: STATUS_CORRUPT: `flaw` was told; STATUS_CANCELLED, STATUS_NOMEM.
 * Cost:   one walk over all keys and records, one look at each posting and expiry; memory
 *         for a second filter. */
enum status packed_verify_content(const struct packed *packed, struct heap *heap,
                                  const struct packed_verify *verify);
