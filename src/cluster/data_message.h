/* Messages of the data protocol: requests on their way to an owner, writes to replicas, reads of
 * their copies. Bytes: docs/format/peer.md.
 *
 *     from          to            what
 *     any node      an owner      FORWARD: coordinate this request
 *     that owner    back          FORWARDED: its reply
 *     coordinator   an owner      APPLY: a record just stamped for a client, or owed as a hint
 *     that owner    back          APPLIED: it is durable here, or why not
 *     coordinator   an owner      ASK: what do you hold of this, in these key ranges
 *     that owner    back          TOLD: entries, or a count
 *     coordinator   a stand-in    HOLD: keep this for an owner that does not answer
 *     that stand-in back          HELD: it is durable here
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

enum data_apply { DATA_APPLY_SET = 0, DATA_APPLY_INCREMENT, DATA_APPLY_HINT, DATA_APPLY_END };

/* What an owner says of a write or of a question. */
enum data_verdict {
    DATA_OK = 0,
    DATA_STALE,      /* `version` stands in the way. */
    DATA_NOT_OWNER,  /* By the map I have, whose number is in the message. */
    DATA_INCOMPLETE, /* I own it, and do not have it all yet. */
    DATA_FULL,
    DATA_CLOCK_SKEW,
    DATA_BUSY,
    DATA_DAMAGED,
    DATA_PROMISED, /* Nothing up to `version` is taken: stamp above it. */
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
    struct slice entries;       /* FORWARDED, TOLD: see data_entry_next(). */
    uint64_t entry_count;

    enum data_apply apply;     /* APPLY */
    node_id owner;             /* HOLD: whom it is for. */
    struct slice key;          /* APPLY, HOLD */
    struct record record;      /* APPLY, HOLD */
    enum data_verdict verdict; /* APPLIED, TOLD, HELD */
    struct version version;    /* APPLIED with DATA_STALE, DATA_PROMISED. */
    bool was_live;             /* APPLIED: the word was there, and not by this very record. */
    uint64_t sequence;         /* APPLIED: of the log of who says so, where it stands.
                                  ASK: the log of who is asked must be there; 0: anywhere. */

    struct slice ranges; /* ASK: see data_range_next(). */
    uint64_t range_count;
    bool with_dead;    /* ASK: tombstones and expired records too. TOLD: the entries may be such. */
    struct sum digest; /* TOLD of a count: over all current records of the ranges. */
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
void data_range_append(struct buf *out, const struct key_range *range);
bool data_range_next(struct slice *rest, struct key_range *range);
