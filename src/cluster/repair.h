/* Repair: two owners of the same keys become equal, by comparing digests and descending where they
 * differ.
 *
 * One of the two drives a *session*: it asks, the other answers and keeps nothing. First one digest
 * over everything they share; where that differs, ranges with their digests, of which the peer says
 * "equal", cuts into up to sixteen pieces with a digest each, or lists the few records it has by a tag of
 * two bytes each, and their digest. Pieces that differ here are asked about in turn. Records here whose tags were not listed
 * are sent; those listed whose tags are not here are asked for, and come unless what was sent is newer.
 * Both sides join what they get, so that order and repetition do not matter.
 *
 *     ROOT        sent: one digest                    ROOTED equal -> done
 *     COMPARE     sent: ranges from the stack         COMPARED -> records to send, tags that are wanted,
 *                                                     pieces onto the stack
 *     EXCHANGE    sent: records, tags                 EXCHANGED: the peer has those durably; joined here
 *     then COMPARE again, until the stack is empty -> done
 *
 * One message of a session is under way at a time; it is sent again after REPAIR_AGAIN_MS, and the
 * session is given up after REPAIR_TRIES_MAX.
 *
 * Invariants
 *   1. A session that ends complete has seen every key that both shared at its start equal at both,
 *      or joined at both and durable at the peer; what was joined here is in a batch.
 *   2. It sends O(differences x log(keys)) digests, and each differing record at most once each way; one that
 *      is newer at the side that drives goes one way.
 *   3. What it keeps is bounded by REPAIR_STACK_BYTES_MAX and two messages.
 *
 * Takes `now_ms` (monotonic). Source: Meyer, "Range-Based Set Reconciliation", SRDS 2023; the cuts
 * here follow the number of words, so that their depth is logarithmic. docs/design/repair.md. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/slice.h"
#include "cluster/identity.h"
#include "cluster/outbox.h"
#include "cluster/rangemap.h"
#include "cluster/repair_message.h"
#include "cluster/trace.h"
#include "core/query.h"
#include "core/record.h"

enum {
    REPAIR_SESSIONS_MAX = 4, /* That this node drives at a time. */
    REPAIR_AGAIN_MS = 1000,
    REPAIR_TRIES_MAX = 5,
    REPAIR_UNREADY_MS = 500, /* Before a peer that was not ready is asked again. */
    REPAIR_STACK_BYTES_MAX = 4 << 20,
};

/* What repair needs of the node. */
struct repair_env {
    void *context;
    struct heap *heap;
    const struct trace *trace; /* May be NULL. */
    uint64_t hash_seed;        /* Of record hashes. */
    uint64_t first_number; /* Of sessions; by chance, for answers to an earlier start may come. */

    /* Over what is visible here; its `ranges` are set by the caller. */
    struct query (*query)(void *context);

    /* Joins a record into the batch under way. */
    enum status (*merge)(void *context, struct slice key, const struct record *record);

    /* Whether this node holds and should hold `key`, and `peer` too. */
    bool (*owns_with)(void *context, node_id peer, struct slice key);

    /* Appends what is shared with `peer` (repair_range_append(), sum 0), ascending, disjoint. */
    void (*shared)(void *context, node_id peer, enum repair_scope scope, struct buf *ranges);

    /* Whether REPAIR_ALL with `peer` makes sense: no part of it is on its way by other means. */
    bool (*ready)(void *context, node_id peer);

    /* Of the map that says so: what another one's owners share is another thing. */
    uint64_t (*generation_id)(void *context);

    /* Hash of what was purged of shared ranges: where it differs sums do, and nothing is compared. */
    uint64_t (*purged)(void *context, struct slice ranges);

    /* It does at `peer`: it is to be told. */
    void (*tell_purged)(void *context, node_id peer);

    /* What this node knows of what it shares with `peer`. */
    enum repair_knowledge (*knowledge)(void *context, node_id peer, enum repair_scope scope);

    /* Whether what is lacking here of the ranges (repair_range_next()) is known to be deleted. */
    bool (*is_complete)(void *context, struct slice ranges);

    /* A record that an owner which is complete lacks: forgets it, in the batch under way, if that
     * owner knows better than this node; else false. */
    bool (*forget)(void *context, struct slice key, const struct record *record);
};

struct repair_counts {
    uint64_t session_count, complete_count, given_up_count, invalid_count;
    uint64_t sent_bytes, pushed_count, fetched_count, compared_count;
};

struct repair_session {
    node_id peer; /* 0: free. */
    uint64_t number;
    enum repair_scope scope;
    uint32_t step;
    uint8_t expected; /* Kind of the answer that is waited for. */
    uint8_t tries;
    uint64_t due_ms;
    uint64_t epoch;        /* repair->epoch when it began, ... */
    uint64_t mark;         /* ... and repair->mark. */
    struct hash128 shared; /* What was shared then, ... */
    uint64_t purged;       /* ... and hash of what was purged of that. */
    enum repair_knowledge peer_knows;
    struct buf sent;  /* The message under way, without the protocol's byte. */
    struct buf asked; /* Its ranges. */
    struct buf stack; /* Ranges to ask about: each packed, then its size in four bytes. */
    struct buf push, wants, want_ranges; /* Each want is of one of the ranges. */
    uint64_t push_count, want_count;
    struct buf later; /* Ranges to look at again once what is wanted has come. */
};

struct repair_pause {
    node_id peer;
    uint64_t until_ms;
};

/* Peers with whom to begin no session for a while; of more than this some are forgotten. */
struct repair_pauses {
    struct repair_pause list[REPAIR_SESSIONS_MAX];
    size_t next;
};

/* A session that ended complete. */
struct repair_completed {
    node_id peer;
    enum repair_scope scope;
    uint64_t epoch, mark;
    enum repair_knowledge peer_knows; /* Of what is shared, as it said. */
};

struct repair {
    struct repair_env env;
    struct repair_pauses drivers; /* Drive one with us: the other way round would find the same. */
    struct repair_pauses unready; /* Said that a part of REPAIR_ALL is on its way to them. */
    struct repair_session sessions[REPAIR_SESSIONS_MAX];
    uint64_t number;
    uint64_t epoch, mark; /* Set by the node; come back with what was complete. */
    struct repair_completed completed[2 * REPAIR_SESSIONS_MAX];
    size_t completed_count;
    struct buf list, found, ranges, incoming; /* Scratch. */
    struct repair_counts counts;
};

void repair_init(struct repair *repair, const struct repair_env *env);
void repair_deinit(struct repair *repair);

/* Begins a session, unless there is one with that peer, driven by whichever of us, or no room, or one of
 * us is not ready for it. True if it began. */
bool repair_begin(struct repair *repair, node_id peer, enum repair_scope scope, uint64_t now_ms,
                  struct outbox *outbox);

/* Whether neither of us is known not to be ready for REPAIR_ALL with the peer. */
bool repair_is_ready(const struct repair *repair, node_id peer, uint64_t now_ms);

/* A message from `from`. An answer that does not fit the question ends the session, and nothing
 * of it is joined. Errors: STATUS_INVALID: it breaks a rule, nothing changed. */
enum status repair_receive(struct repair *repair, node_id from, struct slice bytes, uint64_t now_ms,
                           struct outbox *outbox);

/* Sends again what was not answered. */
void repair_tick(struct repair *repair, uint64_t now_ms, struct outbox *outbox);

/* Sessions that ended complete since the last call, one at a time; false: no more. What was joined
 * here is in a batch up to now. */
bool repair_next_complete(struct repair *repair, struct repair_completed *completed);

/* There is another map: gives up the sessions with peers with whom other ranges are shared now. The
 * rest goes on, or a long one would never end where maps change often. */
void repair_map_changed(struct repair *repair);

/* Gives up all sessions. */
void repair_abandon(struct repair *repair);

/* When repair_tick() is due; UINT64_MAX: never. */
uint64_t repair_due_ms(const struct repair *repair);
