/* Cursors: where a walk over pages of results goes on, as text that clients hand back.
 *
 *     offset  size  what
 *     0       1     format, 1
 *     1       1     sort, enum cursor_sort
 *     2       8     score of the last result, IEEE 754       popularity
 *     10      8     when it was created, hybrid time         only
 *     18      2     the node that created it
 *     2 | 20  …     its key, 1 to KEY_BYTES_MAX bytes
 *     end-8   8     tag: XXH3-64 of all before it, with the query's hash as seed
 *
 * Numbers are little-endian; all of it goes as URL-safe base64 without padding. The tag
 * finds accidents and mix-ups, it keeps no secret: a forged cursor shows nothing that a
 * query would not. docs/format/cursor.md works out an example. */
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"

enum cursor_sort {
    CURSOR_POPULARITY,
    CURSOR_ALPHABETICAL,
    CURSOR_ALPHABETICAL_REVERSE,
    CURSOR_SORT_COUNT,
};

struct cursor {
    enum cursor_sort sort;
    double score; /* This and the next two with CURSOR_POPULARITY alone, else 0. */
    uint64_t created_time;
    uint16_t created_node;
    struct slice key;
};

/* Of all that makes two queries the same walk but for the position: the namespace, the
 * folded query, and `parameters`, whatever else the caller counts in (tags, fuzziness). */
uint64_t cursor_query_hash(struct slice name, struct slice folded, struct slice parameters);

/* Appends the text. */
void cursor_encode(const struct cursor *cursor, uint64_t query_hash, struct buf *out);

/* Reads a cursor of the query of that hash.
 *
 * Owns:   `out->key` lies in `scratch`, which is cleared first.
 * Errors: STATUS_INVALID when it is altered or of another query; STATUS_NOMEM. */
enum status cursor_decode(struct slice text, uint64_t query_hash, struct buf *scratch,
                          struct cursor *out);
