/* Deltas: what makes the next version of a rangemap of the present one.
 *
 * A delta names its base by hash and lists changes, which are applied in order. It *is* its
 * bytes: built by rangemap_delta_begin() and rangemap_delta_add(), read by
 * rangemap_delta_open() and rangemap_delta_next(). Equal deltas have equal bytes.
 *
 * A delta is applied whole or not at all: a change that breaks a rule refuses all of it.
 * Bytes: docs/format/rangemap.md. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/slice.h"
#include "base/status.h"
#include "cluster/rangemap.h"

enum {
    RANGEMAP_DELTA_BYTES_MAX = 32 << 10, /* A register keeps it as one value. */
    RANGEMAP_SPLITS_MAX = 64,            /* In one delta. */
};

enum change_kind {
    CHANGE_MEMBER_ADD = 1, /* `member`: its id is the map's next id; active, not leaving. */
    CHANGE_MEMBER_MOVE,    /* id, capacity, zone, address. */
    CHANGE_MEMBER_STATE,   /* id, state; `forced` excludes whatever is then at risk. */
    CHANGE_MEMBER_LEAVING, /* id, leaving. */
    CHANGE_MEMBER_REMOVE,  /* id of a member that leaves or is excluded and owns nothing. */
    CHANGE_SETTINGS,       /* `settings`, all of them. */
    CHANGE_SPLIT,          /* `low` becomes a cut. */
    CHANGE_MERGE,          /* `low`, a cut between two shards of equal owners, is one no more. */
    CHANGE_BEGIN,          /* The stable shard at `low` gets the next owners: it is filling. */
    CHANGE_SWITCH,         /* The filling shard at `low` is switched. */
    CHANGE_FINISH,         /* Next owners of the switched shard at `low` become its owners. */
    CHANGE_ABORT, /* One stage back: a switched shard is filling, a filling one is stable. */
    CHANGE_MEMBER_FORGOT, /* id; for good. */
};

static inline bool change_is_of_member(enum change_kind kind)
{
    return kind <= CHANGE_MEMBER_REMOVE || kind == CHANGE_MEMBER_FORGOT;
}

struct change {
    enum change_kind kind;
    bool forced;          /* Of MEMBER_STATE, SWITCH, FINISH, ABORT. */
    struct member member; /* Of MEMBER_*: the fields named above. */
    struct rangemap_settings settings;
    struct slice low;
    uint8_t next_count;                /* Of BEGIN; their quorums follow from the settings. */
    node_id next[RANGEMAP_OWNERS_MAX]; /* Ascending. */
};

/* Clears `out` and begins a delta to `base`. */
void rangemap_delta_begin(const struct rangemap *base, struct buf *out);
void rangemap_delta_add(struct buf *out, const struct change *change);

/* The hash of the base, and a reader at the first change. Errors: STATUS_INVALID. */
enum status rangemap_delta_open(struct slice delta, struct hash128 *base, struct reader *reader);

/* The next change; its slices borrow from the bytes. Checks its form, not whether it fits a map.
 *
 * Errors: STATUS_END after the last, STATUS_INVALID. */
enum status rangemap_delta_next(struct reader *reader, struct change *change);

/* The next version of `map`. `why`, which may be NULL, gets a sentence of static storage about
 * the rule that refuses it.
 *
 * Rules of each change are in docs/design/rangemap.md; all of them are checked here, so that a
 * proposer with an error, or an old one, changes nothing.
 *
 * Errors: STATUS_STALE if it is a delta to another map, STATUS_INVALID for bytes that are no delta
 *         and for changes that break a rule, STATUS_LIMIT if the map would pass a bound,
 *         STATUS_NOMEM.
 * Owns:   the caller has one reference to `*out`.
 * Cost:   O(size of the map + splits x shards). */
enum status rangemap_apply(const struct rangemap *map, struct slice delta, const char **why,
                           struct rangemap **out);

/* As rangemap_apply(), and begins a new generation: the next map when a majority of the
 * registrars is lost for ever. Exclusions in `delta` should be forced. */
enum status rangemap_recover(const struct rangemap *map, uint64_t generation_id, struct slice delta,
                             const char **why, struct rangemap **out);
