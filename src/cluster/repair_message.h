/* Messages of repair: two owners find out where they differ, and exchange what the other lacks.
 *
 *     initiator to peer       back                  what
 *     ROOT scope, sum         ROOTED                is all that we share equal
 *     COMPARE ranges, sums    COMPARED              each equal, cut in pieces with their sums, or,
 *                                                   if small, a list of tags, one for each record
 *     EXCHANGE records, tags  EXCHANGED records     what came is joined here, durably; records with
 *                                                   those tags, but for what came is as new
 *
 * The peer keeps nothing between two messages. `session` is the initiator's number and comes back
 * as it was. Sums are cut to 48 bits, but for that of ROOT. Tags are short, and other ones in each session: a list and what
 * is wanted of it come with sums, so that a collision is found out. Bytes: docs/format/peer.md. */
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
    REPAIR_EXCHANGE,
    REPAIR_EXCHANGED,
    REPAIR_KIND_END,
};

enum {
    REPAIR_PIECES_MAX = 16,  /* That a range is cut into. */
    REPAIR_LEAF_MAX = 32,    /* A range of so few keys is listed. */
    REPAIR_RANGES_MAX = 64,  /* In one COMPARE. */
    REPAIR_WANTS_MAX = 1024, /* In one EXCHANGE. */
    REPAIR_SUM_BITS = 48,    /* Of a sum that travels; but for that of ROOT. */
    REPAIR_TAG_BITS = 16,
    REPAIR_TAG_KEY_BITS = 4,      /* The upper ones, of the key alone. */
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
    enum repair_verdict verdict; /* ROOTED, COMPARED, EXCHANGED */
    enum repair_knowledge knows; /* ROOTED */
    struct slice list;
    uint64_t count;
    struct slice wants;  /* EXCHANGE: of records that the initiator lacks. */
    uint64_t want_count; /* Of these, or, EXCHANGED, so many were looked for, ... */
    struct slice found;  /* ... and a bit for each, from the lowest: whether all of it was there. */
};

void repair_message_encode(const struct repair_message *message, struct buf *out);

/* Lists go into `lists`, which is cleared first and borrowed by the message.
 *
 * Errors: STATUS_INVALID unless the bytes are what repair_message_encode() writes, with lists that can be
 * walked to their ends; also where memory is too short for them. */
enum status repair_message_decode(struct slice bytes, struct buf *lists,
                                  struct repair_message *message);

/* What is left of a sum, or of a difference of sums, where it is cut. */
static inline uint64_t repair_sum_cut(uint64_t sum)
{
    return sum & (UINT64_MAX >> (64 - REPAIR_SUM_BITS));
}

/* COMPARE; bits of `sum` beyond a cut one do not travel. */
void repair_range_append(struct buf *list, const struct key_range *range, uint64_t sum);
bool repair_range_next(struct slice *rest, struct key_range *range, uint64_t *sum);

/* COMPARED: for each range a finding, then its parts: cuts, each with the sum of what begins
 * there (the first begins at the range's low), or tags of its records in the order of their keys, with the sum of
 * all of them. */
struct repair_part_list {
    enum repair_finding finding;
    size_t count;
    uint64_t sum; /* Where tags are listed. */
};
void repair_finding_append(struct buf *list, const struct repair_part_list *parts);
bool repair_finding_next(struct slice *rest, struct repair_part_list *parts);
void repair_part_append(struct buf *list, struct slice key, uint64_t sum);
bool repair_part_next(struct slice *rest, struct slice *key, uint64_t *sum);

/* What stands for a record in the lists of one session; of equal keys the key's bits are equal. */
uint16_t repair_tag(uint64_t session, struct slice key, uint64_t record_hash);
bool repair_tag_next(struct slice *rest, uint16_t *tag);

/* EXCHANGE, EXCHANGED */
void repair_record_append(struct buf *list, struct slice key, const struct record *record);
bool repair_record_next(struct slice *rest, struct slice *key, struct record *record);

/* The record that a list has of `key`, if it has. Both ascend, and `*rest` goes on to where the key
 * would be. */
bool repair_record_find(struct slice *rest, struct slice key, struct record *record);
bool repair_encoded_next(struct slice *rest, struct slice *key, struct slice *encoded);

/* EXCHANGE: records with these tags, among the first from `range.low` on, and the sum of their hashes; without tags all
 * of the range, which has an end then alone. `tags` in u16le. */
struct repair_want {
    struct key_range range;
    struct slice tags;
    uint64_t sum;
};
void repair_want_append(struct buf *list, const struct repair_want *want);
bool repair_want_next(struct slice *rest, struct repair_want *want);
