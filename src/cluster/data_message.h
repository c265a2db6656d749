/* Messages of the data protocol: requests on their way to an owner, writes to replicas, reads of
 * their copies. Bytes: docs/format/peer.md.
 *
 *     from          to            what
 *     any node      an owner      FORWARD: coordinate this request
 *     that owner    back          FORWARDED: its reply
 *     coordinator   an owner      APPLY: records just stamped for a client, or one owed as a hint
 *     that owner    back          APPLIED: they are durable here, or why not
 *     coordinator   an owner      ASK: what do you hold of this, in these key ranges
 *     that owner    back          TOLD: entries, or a count
 *     coordinator   a stand-in    HOLD: keep these for an owner that does not answer
 *     that stand-in back          HELD: they are durable here
 *
 * `flow` is the asker's number for the exchange and comes back as it was. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"
#include "cluster/identity.h"
#include "cluster/request.h"
#include "core/query.h"
#include "core/record.h"
#include "core/version.h"

enum data_kind {
    DATA_FORWARD = 1,
    DATA_FORWARDED,
    DATA_APPLY,
    DATA_APPLIED,
    DATA_ASK,
    DATA_TOLD,
    DATA_HOLD,
    DATA_HELD,
    DATA_KIND_END,
};

enum {
    DATA_RANGES_MAX = 256,                /* Of one ASK. */
    DATA_ENTRIES_MAX = REQUEST_LIMIT_MAX, /* Of one answer. */
};

enum data_apply {
    DATA_APPLY_SET = 0,
    DATA_APPLY_INCREMENT,
    DATA_APPLY_HINT, /* Joined with what stands there. */
    DATA_APPLY_JOIN, /* So is this, of a write under way: where nothing so old is promised it is refused. */
    DATA_APPLY_END,
};

/* What an owner says of a write or of a question. */
enum data_verdict {
    DATA_OK = 0,
    DATA_STALE,      /* `version` stands in the way. */
    DATA_NOT_OWNER,  /* By the map I have, whose number is in the message. */
    DATA_INCOMPLETE, /* What I have of it may be deleted, or I do not serve yet. */
    DATA_FULL,
    DATA_CLOCK_SKEW,
    DATA_BUSY,
    DATA_DAMAGED,
    DATA_PROMISED, /* Nothing up to `version` is taken: stamp above it. */
    DATA_PARTLY,   /* Of several records, all but those in `refusals`. */
    DATA_UNFILLED, /* I am to own it, and do not have it all yet. */
    DATA_VERDICT_END,
};

/* Slices are borrowed. What a kind does not use is zero and not sent. */
struct data_message {
    enum data_kind kind;
    uint64_t flow;
    uint64_t generation, map_number; /* The sender's map. */

    uint64_t boot, serial;  /* FORWARD: start of the sender, and its how manieth FORWARD this is. */
    struct request request; /* FORWARD; ASK: kind, key, limit, after, from. */
    struct request_reply reply; /* FORWARDED; TOLD: entries, more, count. Entries are packed: */
    struct slice versions;      /* FORWARDED of a LOAD: see data_version_next(). */
    uint64_t version_count;
    struct slice entries; /* FORWARDED, TOLD: see data_entry_next(). APPLY, HOLD: as sent, one
                             at least; to be sent, none: `key` and `record`. */
    uint64_t entry_count;

    enum data_apply apply;     /* APPLY */
    node_id owner;             /* HOLD: whom it is for. */
    struct slice key;          /* APPLY, HOLD: of the first entry, */
    struct record record;      /* and what it is. */
    enum data_verdict verdict; /* APPLIED, TOLD, HELD */
    struct version version;    /* APPLIED with DATA_STALE, DATA_PROMISED. */
    struct slice refusals;     /* APPLIED with DATA_PARTLY: see data_refusal_next(). */
    uint64_t refusal_count;
    bool was_live;     /* APPLIED: the word was there, and not by this very record. */
    uint64_t sequence; /* APPLIED: of the log of who says so, where it stands.
                                  ASK: the log of who is asked must be there; 0: anywhere. */

    struct slice ranges; /* ASK: see data_range_next(). TOLD with DATA_NOT_OWNER, DATA_INCOMPLETE,
                            DATA_UNFILLED: of these ranges that holds, if there are any. */
    uint64_t range_count;
    bool of_all;    /* ASK: all owners are asked, so that one which is not filled may answer. */
    bool with_dead; /* ASK: tombstones and expired records too. TOLD: the entries may be such. */
    struct slice counts; /* TOLD of a COUNT, one for each range: see data_count_next(). */
    uint64_t count_count;
};

/* Appends without the protocol's byte. `entries` and `ranges` must be as the appenders below
 * make them. */
void data_message_encode(const struct data_message *message, struct buf *out);

/* Errors: STATUS_INVALID unless the bytes are what data_message_encode() writes. `message`
 * borrows from `bytes`. */
enum status data_message_decode(struct slice bytes, struct data_message *message);

/* Entries and ranges in their packed form; the walk cannot fail after a decode. */
void data_entry_append(struct buf *out, struct slice key, struct slice encoded_record);
bool data_entry_next(struct slice *rest, struct request_entry *entry);

/* The same, with the record as it is encoded. */
bool data_encoded_next(struct slice *rest, struct request_entry *entry, struct slice *encoded);
void data_range_append(struct buf *out, const struct key_range *range);
bool data_range_next(struct slice *rest, struct key_range *range);
void data_version_append(struct buf *out, struct version version);
bool data_version_next(struct slice *rest, struct version *version);

/* A record that was not taken: STALE or PROMISED, by `version`. By ascending place. */
struct data_refusal {
    uint32_t place; /* Among the entries. */
    bool promised;
    struct version version;
};
void data_refusal_append(struct buf *out, const struct data_refusal *refusal);
bool data_refusal_next(struct slice *rest, struct data_refusal *refusal);

/* What a range holds: its live words and, if asked for (`with_dead`), the sum of all its current records. */
struct data_count {
    uint64_t live;
    struct sum sum;
};
void data_count_append(struct buf *out, const struct data_count *count);
bool data_count_next(struct slice *rest, struct data_count *count);

/* One set of a LOAD, as a request of its own: key, score, payload, tags, expiry count. */
void data_set_append(struct buf *out, const struct request *set);
bool data_set_next(struct slice *rest, struct request *set);

/* Whether a LOAD may hold them: STATUS_INVALID unless there are `count` by ascending keys, 1 to
 * REQUEST_SETS_MAX, in REQUEST_SETS_BYTES_MAX at most, and each is well-formed. */
enum status data_sets_check(struct slice sets, uint64_t count);
