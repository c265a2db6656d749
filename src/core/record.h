/* What is stored for one word, and how two such records become one.
 *
 * A record is live (a value) or a tombstone (a deletion). Replicas exchange records in
 * any order, any number of times; record_join() makes them agree. The join is
 * commutative, associative and idempotent:
 *
 *   1. The greater version wins; on equal versions a tombstone. A tombstone that wins is
 *      the whole result.
 *   2. An older tombstone T joins a live record as {since T, created none, set T, no slots}.
 *   3. The larger `since` gives `created`; equal ones the smaller `created`, where none is
 *      the largest and is shown as the version.
 *   4. The larger `set` gives score, payload, tags, expiry and slots; equal ones merge
 *      slots, each by its larger sequence. Slots that outlive the larger `set` are merged
 *      as well (record_slot_outlives()). A `set` that is also `since` (a tombstone or an
 *      expiry put an end to the value set then) beats an equal one that is not. (Otherwise
 *      equal sets carry equal values; should they not, the larger value wins, so that
 *      replicas still agree.)
 *   5. A live record with `set` = `since` and no slots reads as deleted.
 *
 * Expiry is a predicate on (record, now): it replicates nothing.
 *
 * Why these rules: docs/design/records.md. Bytes: docs/format/record.md. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"
#include "core/best.h"
#include "core/limits.h"
#include "core/version.h"

enum {
    RECORD_SLOT_BYTES = 24, /* owner u64, sequence u64, sum f64; little-endian. */
    RECORD_SLOT_COUNT_MAX = 1024,
    RECORD_VERSION_BYTES = 10,
    RECORD_TAGS_BYTES_MAX = TAG_COUNT_MAX * (1 + TAG_BYTES_MAX),
    /* Flags, four versions, score, expiry, then three lengths of up to three bytes each. */
    RECORD_BYTES_MAX = 1 + 4 * RECORD_VERSION_BYTES + 8 + 8 + 9 + PAYLOAD_BYTES_MAX +
                       RECORD_TAGS_BYTES_MAX + RECORD_SLOT_COUNT_MAX * RECORD_SLOT_BYTES,
};

/* Where a slot may begin after removals that are forgotten, its sequence counts on from the time up to which they are: it is
 * more than this then, as all times are of clocks that were ever set. Else it counts from 1. */
#define RECORD_SEQUENCE_TIME_MIN (UINT64_C(1) << 35)

/* A flat view; the slices borrow from whoever made it. */
struct record {
    bool tombstone; /* Then only `version` counts and all else is zero. */
    bool has_payload;
    struct version version;
    struct version since;   /* Newest tombstone replaced; none: 0. */
    struct version created; /* None: 0, shown as `version`. */
    struct version set;     /* Last set of the value, or `since` if only increments made it. */
    double score;           /* As last set; the score shown is record_score(). */
    uint64_t expires_at;    /* Unix ms; 0: never. */
    struct slice payload;
    struct slice tags;  /* Sorted, unique; each as one byte of length, then its bytes. */
    struct slice slots; /* Sorted by owner; RECORD_SLOT_BYTES each. */
};

/* A 128-bit sum of record hashes, two independent 64-bit lanes added modulo 2^64. */
struct sum {
    uint64_t low, high;
};

static inline struct sum sum_add(struct sum a, struct sum b)
{
    return (struct sum){a.low + b.low, a.high + b.high};
}

static inline struct sum sum_subtract(struct sum a, struct sum b)
{
    return (struct sum){a.low - b.low, a.high - b.high};
}

static inline bool sum_equal(struct sum a, struct sum b)
{
    return a.low == b.low && a.high == b.high;
}

/* The record that a set at `version` makes without anything before it. */
static inline struct record record_of_set(struct version version, double score)
{
    return (struct record){.version = version, .created = version, .set = version, .score = score};
}

struct record record_of_tombstone(struct version version);

/* `score` plus the slots' sums, added in the order of owners. Always finite: sums that
 * are too large together stay at the largest double. */
double record_score(const struct record *record);

/* Creation as shown: `created`, or `version` when that is none. */
struct version record_created(const struct record *record);

/* Not a tombstone and not reading as deleted (rule 5); says nothing of expiry. */
bool record_is_present(const struct record *record);

static inline bool record_is_expired(const struct record *record, uint64_t now_ms)
{
    return record->expires_at != 0 && record->expires_at <= now_ms;
}

/* Dead by `upto`, and not written since: a tombstone, or a value that had expired. */
bool record_is_dead_by(const struct record *record, hlc_time upto);

/* Its place in the popularity order; none when it is not present. */
struct best record_best(const struct record *record);

/* Joins two records of one word into `out`, which may be one of them. It borrows from what
 * they borrow from and from `scratch` (for merged slots; cleared first, so that neither
 * record may borrow from it).
 *
 * Errors: STATUS_NOMEM from `scratch`; STATUS_LIMIT if merged slots exceed their maximum. */
enum status record_join(const struct record *a, const struct record *b, struct buf *scratch,
                        struct record *out);

/* Same bytes when encoded. */
bool record_equal(const struct record *a, const struct record *b);

/* Appends the canonical bytes: equal records have equal bytes, and only those. */
void record_encode(const struct record *record, struct buf *out);

/* Reads one record that fills `bytes`; `out` borrows from them.
 *
 * Errors: STATUS_CORRUPT unless `bytes` is exactly what record_encode() writes for a record
 * that keeps to the limits, to version <= VERSION_TIME_MAX and to since < version, since <= set <= version and
 * created <= version, and sequences that are times <= version, which the join relies on, and has no value where set = since. */
enum status record_decode(struct slice bytes, struct record *out);

/* Keeps to all that record_decode() demands, so that every other function may take it. */
bool record_is_canonical(const struct record *record);

/* Hash for digests: XXH3-128, keyed by `seed`, over the key and the canonical record
 * with `since` left out and the payload by its own hash. */
struct sum record_hash(struct slice key, const struct record *record, uint64_t seed);

/* True for {version, score} alone: created = set = version, nothing else present. Such
 * records take the short path in every layer. */
bool record_is_plain(const struct record *record);

/* One slot of record->slots. */
struct record_slot {
    uint64_t owner; /* Incarnation of the node that adds to it. */
    uint64_t
        sequence; /* Number of its additions, from 1 or from a time (RECORD_SEQUENCE_TIME_MIN). */
    double sum;
};

/* Whether it is no part of what a tombstone or a set with that version ended: it began after all that up to then was. */
static inline bool record_slot_outlives(const struct record_slot *slot, struct version set)
{
    return slot->sequence >= RECORD_SEQUENCE_TIME_MIN && slot->sequence > set.time;
}
struct record_slot record_slot_at(struct slice slots, size_t index);
void record_slot_append(struct buf *out, const struct record_slot *slot);

/* Appends `count` tags in canonical form: sorted, each once.
 *
 * Errors: STATUS_INVALID for an empty tag, or one longer than TAG_BYTES_MAX; STATUS_LIMIT
 * for more than TAG_COUNT_MAX; STATUS_NOMEM. `out` is then unchanged but for STATUS_NOMEM. */
enum status record_tags_build(const struct slice *tags, size_t count, struct buf *out);

/* True if one of the tags is `tag`. */
bool record_has_tag(const struct record *record, struct slice tag);

/* Walks the tags: `*rest` starts as record->tags; false at the end. */
bool record_tag_next(struct slice *rest, struct slice *tag);
