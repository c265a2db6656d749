/* Folding: which words a query matches. A query matches the words whose folded form
 * starts with the folded query.
 *
 *   none  the bytes themselves
 *   case  each code point by Unicode full case folding, of which only the first code
 *         point counts (ß folds as s); nothing is normalised
 *   full  NFKC, full case folding, diacritics removed
 *
 * Bytes that are not UTF-8 (overlong forms, surrogates, cut sequences) stand for
 * themselves, one by one.
 *
 * `none` and `case` fold code point by code point: the fold of a prefix that ends between
 * code points is a prefix of the fold. Every fold is idempotent. An empty result is
 * possible with `full` only (a word of combining marks). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"

enum fold {
    FOLD_NONE,
    FOLD_CASE,
    FOLD_FULL,
    FOLD_COUNT,
};

/* "none", "case" or "full". Static storage. */
const char *fold_name(enum fold fold);

/* Errors: STATUS_INVALID for another name. */
enum status fold_from_name(struct slice name, enum fold *out);

/* Appends the folded form of `text` to `out`.
 *
 * Errors: STATUS_LIMIT when it is longer than FOLDED_BYTES_MAX; STATUS_NOMEM. What was in
 * `out` stays; what was appended is taken back.
 * Cost:   eight bytes a step while they are ASCII (`case`). */
enum status fold_append(enum fold fold, struct slice text, struct buf *out);

/* Where, in `word`, the part ends that folds to the first `folded_size` bytes of its
 * folded form: the length of a match, for highlighting. Never within a code point; with
 * `full` never within a grapheme cluster.
 *
 * Errors: STATUS_NOMEM from `scratch` (used by `full` alone). */
enum status fold_match_end(enum fold fold, struct slice word, size_t folded_size,
                           struct buf *scratch, size_t *out);
