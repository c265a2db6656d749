/* Purge: when a deletion may be forgotten.
 *
 * A tombstone goes when every owner knows it, and nothing older can come any more from anywhere. One
 * member, the driver, asks for that in rounds:
 *
 *     idle        PROMISE a time P to all members: no direct write up to P is applied from then on, no
 *                 hint up to P is held or taken
 *     promising   all have: COMPARE. Each owner compares with every other owner of what it owns, in
 *                 sessions that begin after that, and tells which ranges it has compared
 *     comparing   all owners of a range have: nothing up to P differs there, and nothing up to P can
 *                 come. DONE tells the owners that what was dead up to then may be gone
 *
 * What is durable is in purge_ranges.h: what a member promised, up to where it is complete, what was
 * purged. The driver keeps nothing: another one begins another round.
 *
 * Invariants
 *   1. promised >= purged >= swept. A time is only lowered where what it says is not so any more.
 *   2. A time is told only once it is durable.
 *   3. A range is purged up to U only when each two owners of it, in every map that anybody may go by,
 *      have compared it after all members had promised a time >= U durably.
 *   4. An owner counts as one that knows all up to U only if complete >= U: what another lacks is
 *      evidence of a deletion from such a one alone.
 *   5. Who becomes an owner begins with complete 0.
 *
 * Takes `now_ms` (monotonic) for timers and `wall_ms` for what versions are compared with. Reasons and
 * the worked story: docs/design/purge.md. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/slice.h"
#include "cluster/hash128.h"
#include "cluster/identity.h"
#include "cluster/outbox.h"
#include "cluster/purge_message.h"
#include "cluster/purge_ranges.h"
#include "cluster/rangemap.h"
#include "cluster/repair.h"
#include "cluster/trace.h"

enum {
    PURGE_LAG_MS = 10000,   /* P lies so far back: few writes are still under way then. */
    PURGE_ASK_MS = 500,     /* To who has not answered. */
    PURGE_ROUND_MS = 60000, /* What is not compared by then waits for the next round. */
    PURGE_AGAIN_MS = 2000,  /* After a round that came to nothing. */
    PURGE_INTERVAL_MAX_MS =
        300000, /* From one round to the next; a sixteenth of the least age, ... */
    PURGE_INTERVAL_MIN_MS = 5000, /* ... but no more often than this. */
};

/* What purge needs of the node. */
struct purge_env {
    void *context;
    struct heap *heap;
    const struct trace *trace; /* May be NULL. */
    node_id self;

    /* Whether a hint with a version up to `upto` is kept here, in what is durable. */
    bool (*owes)(void *context, hlc_time upto);

    /* Whether this node, next owner of the shard, has been filled; true of all other owners. */
    bool (*is_filled)(void *context, const struct shard *shard);
};

/* What the node knows now. */
struct purge_look {
    uint64_t now_ms, wall_ms;
    const struct rangemap *map;
    const uint32_t *owned; /* Places of shards to which this node takes writes, ascending, ... */
    size_t owned_count;
    const node_id *peers; /* ... and who else does to any of them. */
    size_t peer_count;
    uint64_t retired; /* Number of the oldest map that anybody may go by. */
    bool drives;      /* It is this node's turn, in its view. */
    bool all_up;      /* So is every member that is not excluded. */
};

enum purge_phase { PURGE_IDLE, PURGE_PROMISING, PURGE_COMPARING };

enum { PURGE_NODES_WORDS = (NODE_ID_MAX + 1) / 64 };

/* A set of nodes. */
struct purge_nodes {
    uint64_t words[PURGE_NODES_WORDS];
};

/* The driver's. */
struct purge_round {
    enum purge_phase phase;
    hlc_time upto;
    uint64_t generation, map_number;
    struct purge_nodes promised;
    uint16_t *compared; /* By shard: a bit for each of its owners, by place, then next owners. */
    size_t shard_count;
    uint64_t ask_ms, end_ms, next_ms;
};

/* Owners met in sessions that began at number `since` or later, and ended complete. */
struct purge_met {
    struct purge_nodes nodes;
    uint64_t since;
};

struct purge {
    struct purge_env env;
    struct purge_ranges ranges;
    hlc_time promised_durable;
    hlc_time comparing;     /* COMPARE: up to when; 0: nothing is compared for a round. */
    struct purge_met round; /* For it. */
    struct purge_met
        filling; /* Since something here was last known to be incomplete, by this map. */
    struct purge_met sources; /* Of these who were complete themselves, by whatever map: what each
                                 shares with this node has not grown since. */
    struct purge_met settled; /* The same of what both own, whatever else is on its way. */
    uint64_t number;          /* Goes into sessions at their start: what they were begun after. */
    bool unsaved;             /* `ranges` differ from what was kept last. */
    struct purge_round driver;
    struct buf list; /* Scratch. */
    uint64_t round_count, done_count, invalid_count;
};

/* Errors: STATUS_NOMEM. */
enum status purge_init(struct purge *purge, const struct purge_env *env);
void purge_deinit(struct purge *purge);

/* This node founds the cluster: nothing was ever written, so that it lacks nothing. Any other one knows
 * nothing of the keys that it will own. */
void purge_founded(struct purge *purge);

/* A message from `from`. Sets `unsaved` where what it says has to be kept; its durable messages go out
 * after that. Errors: STATUS_INVALID: it breaks a rule, nothing changed. */
enum status purge_receive(struct purge *purge, node_id from, struct slice bytes,
                          const struct purge_look *look, struct outbox *outbox);

/* The driver's timers. */
void purge_tick(struct purge *purge, const struct purge_look *look, struct outbox *outbox);
uint64_t purge_due_ms(const struct purge *purge, const struct purge_look *look);

/* What the promises were when they were kept is durable now. */
void purge_promise_durable(struct purge *purge, hlc_time promised);

/* The least promise of all keys: what is written for all of them. */
hlc_time purge_promised(const struct purge *purge);

/* The next peer to compare with, after `after` (0: the first), for a round or to become complete; 0:
 * there is none. */
node_id purge_next_peer(const struct purge *purge, const struct purge_look *look, node_id after);

/* A session ended complete. Its `mark` is what `number` was when it began. */
void purge_compared(struct purge *purge, const struct purge_look *look,
                    const struct repair_completed *session);

/* Whether a session over what this node and the peer own could tell anything new. */
bool purge_wants_settled(const struct purge *purge, node_id peer);

/* What the sessions joined may not be there: it is as `kept`, what is durable, says. */
void purge_lost(struct purge *purge, const struct purge_ranges *kept);

/* Other owners count from now on. `before` may be NULL. */
void purge_map_changed(struct purge *purge, const struct rangemap *before,
                       const struct rangemap *map);

/* This node, next owner, has been filled. */
void purge_filled(struct purge *purge, const struct shard *shard);

/* The disk is an old one: nothing that it holds is complete. */
void purge_rolled_back(struct purge *purge);

/* The sweep of a range is over: nothing that was dead up to `upto` is left in it. */
void purge_swept(struct purge *purge, const struct key_range *range, hlc_time upto);

/* --- What may be done --- */

/* Direct writes up to here are refused. */
hlc_time purge_promised_at(const struct purge *purge, struct slice key);

/* Up to here all that ever was is known here: what is older is joined with nothing that is newer, and
 * brought back nowhere. 0: where this node is not complete. */
hlc_time purge_known_at(const struct purge *purge, struct slice key);

/* What was dead up to here may be gone. */
hlc_time purge_purged_at(const struct purge *purge, struct slice key);

/* Whether this node knows all that it must in the range. */
bool purge_is_complete(const struct purge *purge, const struct key_range *range);

/* The next range that is to be swept, from `low` on, and up to when; false: there is none. It borrows
 * from the ranges, until they change. */
bool purge_next_sweep(const struct purge *purge, struct slice low, struct key_range *range,
                      hlc_time *upto);

/* A hash of what is swept of some ranges (repair_range_next()): equal at two nodes only if they have
 * swept the same. */
uint64_t purge_hash(const struct purge *purge, struct slice ranges);

/* Tells a peer what is purged of the ranges. */
void purge_tell(struct purge *purge, node_id to, const struct rangemap *map, struct slice ranges,
                struct outbox *outbox);
