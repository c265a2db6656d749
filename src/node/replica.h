/* One node of a cluster: requests of clients, messages of peers and the passing of time in,
 * messages and replies out.
 *
 * It binds the protocols of `cluster` to the store. All it must not forget lies in the store
 * (docs/design/cluster.md, "What a node keeps"), so whoever drives it only drives the store:
 *
 *   replica_create()    over an open store; reads what the node knew
 *   replica_request()   a client's request; its reply comes by the sink, now or later, once
 *   replica_message()   bytes from a peer, any bytes
 *   replica_tick()      timers; call it at replica_wake_ms() or earlier
 *   replica_commit()    after any number of those: what they wrote becomes one batch
 *   replica_synced()    after every store_sync_complete()
 *
 * and in between lets the store sync, prepare log segments, run jobs and reclaim, as the server's
 * threads do (docs/design/server.md). Messages and replies that tell of durable state wait
 * inside until a sync has made it so. The sink is called from within these functions and must
 * not call back.
 *
 * Two times: `now_ms` is monotonic since any moment and drives timers; `wall_ms` is Unix time, may
 * jump, and goes into versions and expiry.
 *
 * Threads: one at a time, the store's writer. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/slice.h"
#include "base/status.h"
#include "cluster/identity.h"
#include "cluster/rangemap.h"
#include "cluster/rangemap_delta.h"
#include "cluster/request.h"
#include "cluster/trace.h"
#include "store/store.h"

enum {
    REPLICA_FLOWS_MAX = 4096,    /* Requests under way at one node. */
    REPLICA_RESTAMPS_MAX = 1,    /* A second newer version was written at the same time as ours. */
    REPLICA_HINTS_MAX = 1 << 16, /* Owed to all peers together. */
    REPLICA_HINT_WINDOW = 16,    /* On their way to one peer. */
    REPLICA_HINT_AFTER_MS = 500, /* An owner that was silent so long is owed a hint. */
    REPLICA_MAPS_MAX = 16,       /* Older ones that somebody may still go by. */
    REPLICA_WISHES_MAX = 8,      /* Changes of the map asked for at one node, and as many joins. */
    REPLICA_FETCH_MS = 100,      /* From one question for a newer map to the next. */
    REPLICA_REPAIR_MS = 1000,    /* From one comparison with a peer to the next. */
    REPLICA_TIMEOUT_MS = 5000,   /* Of requests that name none. */
    REPLICA_ASK_BYTES_MAX = 1 << 20, /* Of the entries in one answer between nodes. */
};

/* Increments with names. */
enum {
    REPLICA_OPERATIONS_MAX = 1024, /* Of one client that are known. */
    REPLICA_CLIENTS_MAX = 512,     /* Of which any are. */
};

struct replica;

struct replica_time {
    uint64_t now_ms, wall_ms;
};

/* Where effects go. Slices are borrowed for the call. */
struct replica_sink {
    void (*send)(void *context, node_id to, struct slice bytes);
    void (*reply)(void *context, uint64_t request_id, const struct request_reply *reply);
    void *context;
};

struct replica_options {
    struct heap *heap;
    /* Open, with `keep_transfers`, or what was on its way at a crash begins anew; borrowed as long as
     * the replica lives. */
    struct store *store;
    struct replica_sink sink;
    const struct trace *trace; /* May be NULL. */
    uint64_t seed;
    /* Of a directory that has none yet; else what is kept there counts. */
    struct identity self;
    struct rangemap *map; /* NULL: there is none yet, this directory has to join first. */
    bool founds;    /* The cluster begins: in a directory that has nothing, nothing is lacking. */
    bool map_stays; /* This node proposes no maps: for looking at what lies beneath. */
    uint32_t repair_ms; /* From one comparison with a peer to the next; 0: REPLICA_REPAIR_MS. */
    uint32_t hints_max; /* Kept here for all peers together; 0: REPLICA_HINTS_MAX. */
};

/* Reads what the node knew, and counts this start. The caller lets the store sync what this wrote, and
 * only then is anything said, heard or done: requests that come before are refused as STATUS_BUSY.
 *
 * Errors: STATUS_NOMEM; STATUS_NOT_FOUND if nothing is kept and there is no map; STATUS_CORRUPT if what
 *         is kept makes no sense; those of the store. */
enum status replica_create(const struct replica_options *options, struct replica_time time,
                           struct replica **out);

/* NULL is accepted. Requests under way get no reply. */
void replica_destroy(struct replica *replica);

/* A client's request; `id` comes back with its reply. The request is borrowed for the call. */
void replica_request(struct replica *replica, struct replica_time time, uint64_t id,
                     const struct request *request);

/* `from` is vouched for by the connection. */
void replica_message(struct replica *replica, struct replica_time time, node_id from,
                     struct slice bytes);

/* Nobody is there: a node closed its connection, or refuses one. Requests of this node count it as down
 * until it is heard again. */
void replica_peer_gone(struct replica *replica, node_id id);

void replica_tick(struct replica *replica, struct replica_time time);

/* After any number of the calls above: commits what they wrote, and sends what needs no sync. */
void replica_commit(struct replica *replica, struct replica_time time);

/* After store_sync_complete(). */
void replica_synced(struct replica *replica, struct replica_time time);

/* Asks for a change of the map: a member to add (id 0), one that is to leave, or a state. True if it is
 * so already; else it is proposed until it is. Errors: false as well when too much is asked for. */
bool replica_change(struct replica *replica, const struct change *change);

/* The first shard from `index` on that could not be written any more if the member were excluded, or of
 * which what was acknowledged might be lost; the number of shards: none. Such an exclusion needs
 * force (change.forced). */
size_t replica_next_at_risk(const struct replica *replica, node_id id, size_t index);

/* Begins a generation without these members, when a majority of the registrars is lost for ever: they
 * are excluded, whatever is then at risk, and what they hold is lost with them. `why`, which may be
 * NULL, gets a sentence of static storage.
 *
 * Errors: STATUS_STALE when a member that is up has a newer map, which comes first; STATUS_INVALID for
 * ids that are no members, or this node; those of the map. */
enum status replica_recover(struct replica *replica, struct replica_time time, const node_id *lost,
                            size_t lost_count, const char **why);

/* A directory without an id joins: it asks any member, again and again, until the answer has a map
 * with its incarnation; with that map and id its replica is created. */
/* `replaces`: a member that goes by the same change, 0: none. It leaves; if it is suspended it is
 * excluded, where that needs no force. */
void replica_join_ask(const struct member *member, node_id replaces, struct buf *out);
bool replica_join_answer(struct replica *replica, struct replica_time time, struct slice ask,
                         struct buf *answer);

/* Errors: STATUS_INVALID, STATUS_NOT_FOUND if it is no member of that map, STATUS_NOMEM. */
enum status replica_join_take(struct heap *heap, struct slice answer, uint64_t incarnation,
                              struct rangemap **map, node_id *id);

/* What this node is to a key, by the map it goes by. */
enum replica_role {
    REPLICA_STRANGER, /* No owner: what it may still hold of the key is asked for by nobody. */
    REPLICA_FILLS,    /* Takes writes; what was there before has yet to come. */
    REPLICA_ANSWERS,  /* Takes writes and answers reads. */
};
/* Whether a disk from before this start would be found out at its next one. */
bool replica_is_recorded(const struct replica *replica);

enum replica_role replica_role(const struct replica *replica, struct slice key);

/* A version that was dead and lies up to here may be gone from this node: it was known everywhere. */
hlc_time replica_purged(const struct replica *replica, struct slice key);

/* The least number of a map under which this node still coordinates something. */
uint64_t replica_map_in_use(const struct replica *replica);

/* When replica_tick() is due, in `now_ms`. */
uint64_t replica_wake_ms(const struct replica *replica);

const struct rangemap *replica_map(const struct replica *replica);
struct identity replica_identity(const struct replica *replica);

struct replica_stats {
    uint64_t flow_count;    /* Requests under way. */
    uint64_t held_count;    /* Messages and replies that wait for a sync. */
    uint64_t held_bytes;    /* Of those, and of some that went. */
    uint64_t hint_count;    /* Owed to peers. */
    uint64_t invalid_count; /* Messages that broke a rule. */
    uint64_t repair_session_count, repair_sent_bytes;
    uint64_t purge_round_count; /* That this node drove to their end. */
    uint64_t forgotten_count;   /* Deletions that are no more. */
    uint64_t restamp_count, superseded_count, refused_count, hedge_count, repaired_count;
    uint64_t clock_skew_ms; /* How far the wall clock is from those of most peers. */
    bool stamps;            /* Versions: no clock forbids it. */
};
void replica_stats(const struct replica *replica, struct replica_stats *stats);
