/* How a write makes a record from the current one.
 *
 * The result is what the store keeps and what replicas get: joining it with the record it
 * came from gives the result again.
 *
 *   1. `since` is kept; over a tombstone it is the tombstone's version; over an expired
 *      record it is the version of the set that expired, for that value is gone as if
 *      deleted then.
 *   2. `created` survives as long as the word is live; else it is the new version.
 *   3. A set replaces value and slots. An increment keeps the value and adds to one slot;
 *      where the word is not live it starts from nothing, with `set` = `since`. Removals
 *      that are forgotten take no slot along that begins after them.
 *
 * Pure: the time and the version are arguments.
 *
 * Errors of all three: STATUS_STALE unless `version` is newer than the current record's:
 * the caller stamps again. `out` and `outcome` are unchanged on every error. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"
#include "core/record.h"

struct write_value {
    double score;
    bool has_payload;
    struct slice payload;
    struct slice tags;   /* As record_tags_build() makes them. */
    uint64_t expires_at; /* Unix ms; 0: never. */
};

struct write_outcome {
    bool was_live; /* Before the write, at `now_ms`. A put of a word that was not makes it new. */
    double score;  /* As shown after the write; 0 after a removal. */
};

/* Sets the value. `current` is NULL when nothing is known of the word. `out` borrows from
 * `value`. A score of -0.0 is stored as 0.0.
 *
 * Errors: STATUS_INVALID for a score that is not finite or a payload that is too long. */
enum status write_set(const struct record *current, uint64_t now_ms, struct version version,
                      const struct write_value *value, struct record *out,
                      struct write_outcome *outcome);

/* Deletes the word: a tombstone, even when nothing is known of it (a replica may). */
enum status write_remove(const struct record *current, uint64_t now_ms, struct version version,
                         struct record *out, struct write_outcome *outcome);

/* Adds `by` to the slot of `owner`, the incarnation of this node. `out` borrows from what
 * `current` borrows from and from `scratch`, which is cleared first. What was removed up to `forgotten`
 * (0: nothing) may have left no trace here, and a tombstone elsewhere: a slot that begins now outlives that.
 *
 * Errors: STATUS_INVALID if `by`, the slot's sum or the score shown were not finite;
 * STATUS_LIMIT when there is no room for one more slot; STATUS_NOMEM. */
enum status write_increment(const struct record *current, uint64_t now_ms, struct version version,
                            double by, uint64_t owner, hlc_time forgotten, struct buf *scratch,
                            struct record *out, struct write_outcome *outcome);

/* The `set` of the record that an increment makes: which value it counts in. */
struct version write_increment_set(const struct record *current, uint64_t now_ms);
