/* Keys: the one ordered space of all that is stored.
 *
 *   namespace  00  folded  [00 original]
 *
 * `original` is there only where it differs from the folded form. In both, byte 00 is
 * written as 01 01 and 01 as 01 02, so that byte order of keys is the alphabetical order:
 * by folded form, then the word that equals its folded form, then by bytes. All words
 * under a prefix, and all of a namespace, are one range of keys each.
 *
 * Bytes: docs/format/key.md. */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"
#include "core/fold.h"
#include "core/limits.h"

enum {
    KEY_BYTES_MAX = NAMESPACE_BYTES_MAX + 1 + 2 * FOLDED_BYTES_MAX + 1 + 2 * WORD_BYTES_MAX,
};

/* [A-Za-z0-9_.:-]{1,64} */
bool key_namespace_is_valid(struct slice name);

/* 1 to WORD_BYTES_MAX bytes. */
bool key_word_is_valid(struct slice word);

/* Writes the key of `word` into `key`, which is cleared first.
 *
 * Errors: STATUS_INVALID for a namespace or word that is not valid; STATUS_LIMIT when the
 * folded form exceeds FOLDED_BYTES_MAX; STATUS_NOMEM. `key` is then empty. */
enum status key_encode(struct slice name, struct slice word, enum fold fold, struct buf *key);

/* Writes what the keys of all words have in common that `query` matches. The query may be
 * empty and end within a code point.
 *
 * Errors: as key_encode(); STATUS_LIMIT too for a query longer than WORD_BYTES_MAX. */
enum status key_prefix(struct slice name, struct slice query, enum fold fold, struct buf *key);

/* What all keys of a namespace start with, and no others: key_prefix() of nothing.
 *
 * Errors: STATUS_INVALID, STATUS_NOMEM. */
enum status key_namespace_prefix(struct slice name, struct buf *key);

/* Writes the least key that is greater than every key with `prefix` into `end`, which is
 * cleared first; empty when there is none (the range has no end).
 *
 * Errors: STATUS_NOMEM. */
enum status key_prefix_end(struct slice prefix, struct buf *end);

/* The namespace (borrowed from `key`) and the word, into `word`, which is cleared first.
 *
 * Errors: STATUS_CORRUPT unless some namespace, fold and word have this key; STATUS_NOMEM.
 * Whether the fold is the right one is not checked. */
enum status key_decode(struct slice key, struct slice *name, struct buf *word);

/* The folded form, unescaped, into `folded`, which is cleared first. Errors: as key_decode(). */
enum status key_decode_folded(struct slice key, struct buf *folded);
