/* Messages of repair: two owners find out where they differ, and exchange what the other lacks.
 *
 *     initiator to peer       back                  what
 *     ROOT scope, sum         ROOTED                is all that we share equal
 *     COMPARE ranges, sums    COMPARED              each equal, cut in pieces with their sums, or,
 *                                                   if small, a list of its keys and hashes
 *     PUSH records            PUSHED                joined here, durably
 *     FETCH keys              FETCHED records       those of them that I hold
 *
 * The peer keeps nothing between two messages. `session` is the initiator's number and comes back
 * as it was. Sums of pieces and hashes of keys are cut to 64 bits: what collides is found by the
 * next ROOT, which is not cut. Bytes: docs/format/peer.md. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"
#include "cluster/rangemap.h"
#include "core/query.h"
#include "core/record.h"

enum repair_kind {
    REPAIR_ROOT = 1,
    REPAIR_ROOTED,
    REPAIR_COMPARE,
    REPAIR_COMPARED,
    REPAIR_PUSH,
    REPAIR_PUSHED,
    REPAIR_FETCH,
    REPAIR_FETCHED,
    REPAIR_KIND_END,
};

enum {
    REPAIR_PIECES_MAX = 16,       /* That a range is cut into. */
    REPAIR_LEAF_MAX = 16,         /* A range of so few keys is listed. */
    REPAIR_RANGES_MAX = 64,       /* In one COMPARE. */
    REPAIR_KEYS_MAX = 1024,       /* In one FETCH. */
    REPAIR_BYTES_AIM = 256 << 10, /* Of records in one message; one more may pass it. */
};

/* What the peer found of a range. */
enum repair_finding {
    REPAIR_EQUAL,
    REPAIR_CUT,
    REPAIR_LISTED,
    REPAIR_LISTED_ALL, /* Listed; and it knows all that was purged of, so what it lacks is deleted. */
    REPAIR_FINDING_END,
};

/* What who is asked knows of what is shared: all that was ever acknowledged, but for what both have yet
 * to see equal? */
enum repair_knowledge {
    REPAIR_KNOWS_LITTLE,
    REPAIR_KNOWS_OWNED, /* Of what it owns; to the rest it is only a next owner. */
    REPAIR_KNOWS_ALL,
    REPAIR_KNOWLEDGE_END,
};

/* What is compared of all that both take writes for. */
enum repair_scope {
    REPAIR_SETTLED, /* What both own, and not what either is being given. */
    REPAIR_ALL,
    REPAIR_SCOPE_END,
};

/* What a ROOT or another question could not be answered for. */
enum repair_verdict {
    REPAIR_OK,
    REPAIR_DIFFERS,     /* ROOTED: not equal. */
    REPAIR_OTHER_MAP,   /* We do not mean the same ranges. */
    REPAIR_REFUSED,     /* Full, damaged, or not an owner. */
    REPAIR_OTHER_PURGE, /* One of us has forgotten deletions that the other has not. */
    REPAIR_UNREADY,     /* ROOTED: a part is on its way here by other means. */
    REPAIR_VERDICT_END,
};

/* Slices are borrowed; lists are packed as the appenders below make them. */
struct repair_message {
    enum repair_kind kind;
    uint64_t session;
    uint32_t step;               /* Of the session; comes back as it was. */
    struct hash128 shared;       /* ROOT: of the ranges that the two share. */
    uint64_t purged;             /* ROOT, COMPARE: hash of what is purged of that. */
    enum repair_scope scope;     /* ROOT, COMPARE */
    struct sum sum;              /* ROOT */
    enum repair_verdict verdict; /* ROOTED, COMPARED, PUSHED, FETCHED. */
    enum repair_knowledge knows; /* ROOTED */
    struct slice list;
    uint64_t count;
};

void repair_message_encode(const struct repair_message *message, struct buf *out);

/* Errors: STATUS_INVALID unless the bytes are what repair_message_encode() writes, with a list
 * that can be walked to its end. */
enum status repair_message_decode(struct slice bytes, struct repair_message *message);

/* COMPARE */
void repair_range_append(struct buf *list, const struct key_range *range, uint64_t sum);
bool repair_range_next(struct slice *rest, struct key_range *range, uint64_t *sum);

/* COMPARED: for each range a finding, then its parts: cuts, each with the sum of what begins
 * there (the first begins at the range's low), or keys with the hashes of their records. */
void repair_finding_append(struct buf *list, enum repair_finding finding, size_t count);
bool repair_finding_next(struct slice *rest, enum repair_finding *finding, size_t *count);
void repair_part_append(struct buf *list, struct slice key, uint64_t sum);
bool repair_part_next(struct slice *rest, struct slice *key, uint64_t *sum);

/* PUSH, FETCHED */
void repair_record_append(struct buf *list, struct slice key, const struct record *record);
bool repair_record_next(struct slice *rest, struct slice *key, struct record *record);

/* FETCH */
void repair_key_append(struct buf *list, struct slice key);
bool repair_key_next(struct slice *rest, struct slice *key);
