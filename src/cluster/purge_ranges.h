/* What was promised, completed and purged of each range of keys: a map from keys to four times.
 *
 * The key space is cut into pieces; a piece is the keys from its low to the next one's. A change of
 * a range cuts the pieces at its ends, changes those between, and joins neighbours that are alike, so
 * that shards may be split, merged and moved without anything to do here.
 *
 *     promised   no direct write up to here is applied any more
 *     complete   every record up to here that any owner had is here, or is known to be deleted
 *     purged     what was dead up to here at all owners may be gone: of the dead nobody tells
 *     swept      it is gone from here
 *
 * Invariants
 *   1. Pieces ascend, the first begins with the empty key; no two neighbours are alike.
 *   2. There are at most PURGE_PIECES_MAX.
 *   3. A change that fails changes nothing.
 *
 * Times are hybrid ones, as in versions; PURGE_BEGINNING is one before all of them, up to which
 * everything is purged from the first day on. So who knows nothing (complete 0) and who knows all
 * there was to know are two, also while nothing was ever purged. Bytes of the encoded form:
 *
 *     1        1, the form
 *     varint   pieces, from 1
 *     ...      for each: low (varint size, bytes), promised, complete, purged, swept (u64 each) */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/heap.h"
#include "base/slice.h"
#include "base/status.h"
#include "core/hlc.h"
#include "core/query.h"

enum { PURGE_PIECES_MAX = 65536 }; /* As many as shards: each may have other owners. */

#define PURGE_BEGINNING ((hlc_time)1)

enum purge_field { PURGE_PROMISED, PURGE_COMPLETE, PURGE_PURGED, PURGE_SWEPT, PURGE_FIELD_COUNT };

struct purge_times {
    hlc_time at[PURGE_FIELD_COUNT];
};

struct purge_piece {
    uint8_t *low; /* NULL when empty. */
    size_t low_size;
    struct purge_times times;
};

struct purge_ranges {
    struct heap *heap;
    struct purge_piece *pieces;
    size_t count, capacity;
};

/* One piece, all times PURGE_BEGINNING, complete 0. Errors: STATUS_NOMEM. */
enum status purge_ranges_init(struct purge_ranges *ranges, struct heap *heap);
void purge_ranges_deinit(struct purge_ranges *ranges);

/* Cost: O(log pieces). */
struct purge_times purge_ranges_at(const struct purge_ranges *ranges, struct slice key);

/* Each time's minimum over a range that is not empty. */
struct purge_times purge_ranges_least(const struct purge_ranges *ranges, struct key_range range);

/* A walk over a range, piece by piece; it ends with the next change. */
struct purge_walk {
    struct key_range rest;
    bool ended;
};

static inline struct purge_walk purge_walk_of(struct key_range range)
{
    return (struct purge_walk){.rest = range};
}

/* The next part of the range that lies in one piece; false: there is none. */
bool purge_walk_next(const struct purge_ranges *ranges, struct purge_walk *walk,
                     struct key_range *part, struct purge_times *times);

/* Raises or lowers one time in a range to `time`, where it is less or more than that. `*changed` is set
 * to true if that was anywhere, and else left alone.
 * Errors: STATUS_NOMEM; STATUS_LIMIT: there would be too many pieces. */
enum status purge_ranges_raise(struct purge_ranges *ranges, struct key_range range,
                               enum purge_field field, hlc_time time, bool *changed);
enum status purge_ranges_lower(struct purge_ranges *ranges, struct key_range range,
                               enum purge_field field, hlc_time time, bool *changed);

void purge_ranges_encode(const struct purge_ranges *ranges, struct buf *out);

/* Into `ranges` that are initialised. Errors: STATUS_CORRUPT, STATUS_NEWER, STATUS_NOMEM; nothing is
 * changed then. */
enum status purge_ranges_decode(struct purge_ranges *ranges, struct slice bytes);
