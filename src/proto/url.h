/* Parts of targets: queries taken apart, percent escapes undone and made.
 *
 * Any byte may be escaped, 00 too; what comes out need not be UTF-8.
 *
 * Source: RFC 3986, section 2.1; forms write a blank as '+'. */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"

/* Takes the next `name=value` off a raw query, still escaped; false at its end. Without '='
 * the value is empty. Empty pairs (`a&&b`) are passed over. */
bool url_query_next(struct slice *query, struct slice *name, struct slice *value);

/* The raw value of the first pair of that name, which must stand unescaped; false: none. */
bool url_query_find(struct slice query, const char *name, struct slice *value);

/* Undoes the escapes of a name or value of a query; '+' is a blank. `out` is `text` itself
 * when there is nothing to undo, else it lies at the end of `scratch`, appended there.
 *
 * Results get shorter, never longer: buf_reserve(scratch, query.size) beforehand keeps all
 * results of one query where they are.
 *
 * Errors: STATUS_INVALID for '%' without two hexadecimal digits; STATUS_NOMEM. */
enum status url_decode(struct slice text, struct buf *scratch, struct slice *out);

/* As url_decode() for a segment of a path, where '+' is a plus. */
enum status url_decode_path(struct slice text, struct buf *scratch, struct slice *out);

/* Takes the next segment off a raw path that starts with '/'; false at its end. */
bool url_path_next(struct slice *path, struct slice *segment);

/* Appends `text` so that it may stand in a query or a path; a blank as %20. */
void url_encode(struct slice text, struct buf *out);
