/* The parts of a replica, for the files that make it up.
 *
 *   replica.c         life, messages, time
 *   replica_batch.c   the batch under way, and what waits for it
 *   replica_flow.c    requests under way
 *   replica_request.c who does a request, this node or another
 *   replica_clock.c   which time it is
 *   replica_local.c   what the node keeps for itself, in the store
 *   replica_serve.c   an owner's side: writes to apply, questions to answer
 *   replica_write.c   a coordinator's side of writes
 *   replica_load.c    many sets at once
 *   replica_operation.c  which increments were counted already
 *   replica_read.c    a coordinator's side of reads, in files of its own (replica_read.h)
 *   replica_merge.c   many owners' answers into one
 *   replica_count.c   counts: of shards whose owners agree, and word by word of others
 *   replica_hint.c    what peers are owed
 *   replica_repair.c  whom to compare with, and about what
 *   replica_peer.c    what connections tell of peers
 *   replica_share.c   what this node owns, and with whom
 *   replica_topology.c  the life of maps, and who is up
 *   replica_split.c   where shards are cut and joined
 *   replica_member.c  who is waited for, who serves, who is kept out
 *   replica_moves.c   how shards come to other owners
 *   replica_transfer.c  what they are to own, as packed tries
 *   replica_propose.c  what the next map is to be
 *   replica_purge.c   which deletions may be forgotten
 *
 * A *flow* is a request under way here. Messages carry its number, so that a late answer to one
 * that is gone finds nothing. */
#pragma once

#include "base/buf.h"
#include "base/prng.h"
#include "cluster/boots.h"
#include "cluster/data_message.h"
#include "cluster/health.h"
#include "cluster/outbox.h"
#include "cluster/purge.h"
#include "cluster/rangemap_delta.h"
#include "cluster/register.h"
#include "cluster/repair.h"
#include "cluster/topology_message.h"
#include "cluster/transfer.h"
#include "node/replica.h"

enum {
    FLOW_TARGETS_MAX = 2 * RANGEMAP_OWNERS_MAX,
    READ_PATIENCE_MS = 100,      /* Owners that take longer are passed over; twice as long each */
    READ_PATIENCE_MAX_MS = 1000, /* time that this leaves too few, up to this. */
    READ_HEDGE_COST = 20,        /* One more question for each 20: 5 % in the long run, */
    READ_HEDGE_BURST = 16,       /* and so many at once. */
    READ_LATE_MAX = 64,          /* Answers that are measured though a twin came first. */
    WRITE_RETRY_MS = 100, /* From one question to an owner that said no for now to the next. */
    READ_AVOIDED_MAX = 256,
    READ_SCAN_SHARDS = 4, /* Asked at once by a walk, and twice as many each time. */
    LOAD_PIECES_MAX = 16, /* Of one load under way at the same time. */
};

enum flow_kind { FLOW_NONE, FLOW_FORWARD, FLOW_WRITE, FLOW_READ, FLOW_LOAD };

enum target_state {
    TARGET_WAITING, /* Sent, or to be sent. */
    TARGET_ACKED,
    TARGET_OWED,     /* It is silent or said no: it is owed a hint. */
    TARGET_STOOD_IN, /* Another node keeps the hint, durably. */
};

/* An owner that a write goes to. */
struct target {
    node_id id;
    uint8_t sets; /* Bit 0: among the owners; bit 1: among the next owners. */
    enum target_state state;
    node_id stand_in;  /* Asked to keep a hint; 0: nobody. */
    bool asked;        /* It was sent the record, and may still answer. */
    bool again;        /* It said no for now: it is asked again soon. */
    bool joins;        /* What it has is newer: it is asked to join the two. */
    bool hinted;       /* The hint is kept here. */
    uint64_t sequence; /* TARGET_ACKED: of its log, where the record stands. */
};

struct flow_write {
    struct target targets[FLOW_TARGETS_MAX];
    uint8_t target_count;
    uint8_t need[2]; /* Acknowledgements, by set. */
    uint8_t stamp_count;
    bool own_durable, replied;
    struct buf record; /* Encoded, as it stands here; of a load: entries, one for each set. */
    struct version version;
    struct version set;   /* Of an increment with a name: the value it counts in. */
    struct version above; /* Seen at an owner: stamp above it. */
    double score;
    bool was_live;
    uint64_t hint_ms;   /* When silent owners are owed hints. */
    uint64_t retry_ms;  /* When those that said no for now are asked again. */
    bool after_own;     /* Others are sent it once it is durable here. */
    node_id move_to;    /* Where it goes once it is durable here that it went there. */
    size_t next_member; /* Members before this one were asked to stand in, or are not needed. */
};

/* A load that was cut into pieces. */
struct flow_load {
    size_t at, begun;               /* Bytes and number of the sets whose pieces have begun. */
    size_t open;                    /* Pieces under way. */
    bool sloppy;                    /* Hints were counted for one. */
    struct request_result *results; /* One for each set. */
    struct buf token;
};

/* One question to one owner, about ranges of its own. */
struct ask {
    node_id node;
    uint64_t label;             /* Of the message that is to be answered. */
    uint64_t sent_ms, hedge_ms; /* When it is late enough to ask another node as well; 0: never. */
    size_t twin; /* Of the same asks: where the same is asked of another, plus one. */
    bool of_all; /* All owners are asked. */
    bool answered;
    bool more;         /* It has entries after the last it told. */
    uint64_t sequence; /* Its log must be there. */
    struct buf ranges; /* Packed. */
    uint64_t range_count;
    struct buf entries; /* Packed, of all its pages. */
    uint64_t entry_count;
    struct buf end; /* Key of the last entry told; empty: none was. */
    struct best end_best;
    struct buf counts; /* Packed, one for each range. */
};

struct asks {
    struct ask *list;
    size_t count, capacity;
};

/* Not to be asked about these shards of the read's map. */
struct avoided {
    node_id node;
    size_t first, end;
    bool unfilled; /* Because it is not filled: as one of all owners it may be asked. */
};

/* Two steps: the owners' own lists; then, where those differ, each candidate at the owners that did
 * not name it. Lists that turn out too short are continued. */
struct flow_read {
    struct rangemap *map;          /* As when it began. */
    struct request question;       /* What owners are asked: the request, or a page of it. */
    size_t next_shard, end_shard;  /* Not asked yet. */
    size_t piece_first, piece_end; /* Asked now. */
    bool compare;                  /* More than one owner of a shard is asked. */
    bool confirming;
    bool self_waits; /* There would be enough owners if this node could answer already. */
    bool no_memory;  /* A part of a question found none. */
    struct asks lists, confirms;
    unsigned serial;       /* Of the next label. */
    struct avoided *avoid; /* Refused in this flow, or too slow; NULL: nobody did. */
    size_t avoid_count;
    uint64_t pass_ms;  /* When silent ones are passed over. */
    uint64_t hedge_ms; /* When the first of them is late enough for another to be asked as well. */
    uint32_t patience_ms;
    struct buf result; /* Packed entries of the pieces before this one. */
    uint64_t result_count;
    uint64_t total;        /* COUNT: of the shards that are done. */
    struct buf differing;  /* COUNT: shards whose owners differ, u32 each: they are walked. */
    size_t differing_next; /* From this place on they have yet to be. */
    struct buf from;       /* Key of question.from. */
};

/* A question whose answer is not waited for any more, but still measured. */
struct late {
    uint64_t label;
    node_id node;
    uint64_t sent_ms;
};

struct flow {
    enum flow_kind kind;
    uint64_t number; /* Index in the low bits, then how often the place was used. */
    bool from_client;
    uint64_t asker_flow; /* The client's number, or the flow of the node that forwarded. */
    node_id asker;
    uint64_t map_number;    /* Under which it began. */
    struct request request; /* Borrows from `bytes`. */
    struct buf bytes;
    enum consistency consistency;
    uint64_t deadline_ms;
    node_id forwarded_to;
    bool moved;          /* Added here already, to a value that another owner knows to be old. */
    uint8_t tried;       /* Owners that were forwarded to, by place. */
    enum status refusal; /* Why an owner that did nothing said no; STATUS_OK: none did so far. */
    uint32_t next_free;  /* Of a place that is free: the next free one, plus one. */
    uint64_t load_label; /* Of the load that this is a piece of; 0: it is none. */
    size_t load_first;   /* Which of its sets is the first of these. */
    struct flow_write write;
    struct flow_read read;
    struct flow_load load;
};

/* A reply that waits for its batch to be durable. */
struct held {
    uint64_t sequence; /* 0: of the batch under way. */
    uint64_t flow;     /* Label of a write here; 0: a message. */
    size_t at, size;   /* In `held_bytes`. */
    node_id to;
};

struct hint_flight {
    uint64_t label; /* 0: free. */
    struct buf name;
};

struct peer_hints {
    node_id peer;
    uint64_t count;         /* Kept for it. */
    int64_t count_in_batch; /* Of these, by the batch under way. */
    struct hint_flight flights[REPLICA_HINT_WINDOW];
    size_t flight_count;
    struct buf after;     /* Name of the last one sent. */
    uint64_t copied;      /* Hash of the map for whose stages it was given copies, ... */
    uint64_t copying;     /* ... and of the one for which it is being given them, ... */
    struct buf copied_to; /* ... as far as this. */
    uint64_t retry_ms;
};

enum { REPLICA_CLOCK_PEERS = 16 };

/* What time a peer thought it was. */
struct peer_clock {
    node_id id; /* 0: none. */
    uint64_t wall_ms;
    uint64_t heard_ms; /* In our `now_ms`. */
};

struct replica_clock {
    uint64_t anchor_wall_ms, anchor_now_ms;
    uint64_t wall_ms, now_ms; /* As given at the last look. */
    uint64_t slewed_ms;
    bool trusted; /* This node may stamp. */
    struct peer_clock peers[REPLICA_CLOCK_PEERS];
};

/* What one peer forwarded to here: a message that comes twice is done once. One whose number has left
 * the window may have been done or not, and is dropped: its asker finds out by time. */
enum { SEEN_WINDOW = 1 << 16 };

struct seen {
    node_id from;
    uint64_t boot; /* Its start; what an earlier one sent is late. */
    uint64_t newest;
    uint64_t bits[SEEN_WINDOW / 64]; /* By number, of the last SEEN_WINDOW. */
};

/* Places of shards in the map, ascending. */
struct index_list {
    uint32_t *at;
    size_t count, capacity;
};

/* What this node has to do with, under one map. */
struct shares {
    struct index_list owned;  /* It takes writes to these, */
    struct index_list moving; /* and these are in another stage than stable, whoever owns them. */
    node_id *peers;           /* Who shares one of `owned`, ascending. */
    size_t peer_count;
};

/* What a node has to do before the stage of a shard may end. */
enum filling_part {
    FILLING_NONE,
    FILLING_COMES, /* It becomes an owner, */
    FILLING_STAYS, /* is one and will be, but readers then may meet it alone, */
    FILLING_GOES,  /* or will be one no more. */
};

/* How far this node has come with it. */
struct filling {
    uint64_t low_hash; /* Of the shard's low key. */
    uint64_t began;
    uint8_t compared; /* With these owners, or next owners when it goes, by place. */
    bool moved;       /* Transferred, as far as that is of use: what is left is for repair. */
    uint8_t failures; /* Of transfers. */
    uint64_t joined;  /* The log's sequence when enough was compared; 0: it was not yet. */
    bool synced;
};

/* That a node is synced with a shard. */
struct heard {
    uint64_t low_hash, began, heard_ms;
    node_id node;
};

/* That a member owes this node no hint older than a map. */
struct clearance {
    node_id node;
    uint64_t number;
};

/* A change of the map that people asked for, until it is so. */
struct wish {
    struct change change;
    uint64_t until_ms; /* Unless it is asked for again. */
    node_id replaces;  /* Of a member to add: who goes by the same change; 0: nobody. */
    char zone[RANGEMAP_ZONE_BYTES_MAX + 1], address[RANGEMAP_ADDRESS_BYTES_MAX + 1];
};

struct replica_moves {
    struct filling *filling;
    size_t filling_count;
    struct heard *heard;
    size_t heard_count, heard_capacity;
    struct clearance *clear; /* By node. */
    size_t clear_count, clear_capacity;
    struct wish wishes[2 * REPLICA_WISHES_MAX];
    size_t wish_count;
    bool swept; /* Nothing of others is left here. */
    size_t
        reported; /* Moving shards that the last report came to, of those it had no room for all of. */
    bool slot_is_anew; /* Increments go to another slot since this sweep has forgotten something. */
    struct buf sweep_from;
    uint64_t sweep_ms; /* When to go on with it. */
};

struct replica_splits {
    uint64_t *since_ms; /* Each shard has the ends it has; NULL: not known. */
    size_t count;
    uint64_t due_ms;
};

struct replica_purge {
    bool started;
    struct purge purge;
    hlc_time saved_promise; /* In what was kept last, ... */
    uint64_t save_number;   /* ... which was the so-manieth time. */
    bool sweeping;
    struct buf low, high; /* The range that is swept, ... */
    struct buf from;      /* ... what is left of it, ... */
    hlc_time upto;        /* ... and up to when. */
    uint64_t due_ms;
};

enum { REPLICA_OFFERS_MAX = 32 };

/* What this node owned under maps up to this one, and does not own now. */
struct older_map {
    uint64_t number;
    struct buf ranges; /* shares_ranges() */
};

/* A client whose increments were counted here by name. */
struct operation_client {
    uint64_t client;
    uint64_t used;  /* Local time of its last one: who has the least is forgotten first. */
    uint64_t floor; /* Of lower numbers nobody knows: the client was forgotten in between. */
};

struct replica_operations {
    struct operation_client *clients;
    size_t count, capacity;
    bool forgot; /* A client, at some time. */
};

/* How a member has been lately, as seen from here. */
struct silence {
    node_id id;
    uint64_t since_ms;  /* It does not answer, or does not keep up; 0: it does both. */
    uint64_t suspended; /* Number of the first map here that says that it is; 0: it is not. */
};

struct replica_topology {
    bool started;
    bool away;          /* Since the start nobody showed that there is no newer map. */
    bool unknown;       /* Nor is this start on record: the disk may have been set back. */
    uint64_t twin_boot; /* The latest start of this node that others speak of, if not this one. */
    bool unsaved;       /* The map that counts here could not be kept yet. */
    struct register_node reg;
    struct boots boots;
    uint64_t durable;      /* Number of the newest map that is safe on disk. */
    uint64_t acknowledged; /* As the header of this file's sources says. */
    uint64_t retired;      /* Every member that counts has acknowledged this one. */
    struct older_map older[REPLICA_MAPS_MAX]; /* In use by somebody still; the newest last. */
    size_t older_count;
    struct silence *silences; /* One for each member, in their order. */
    size_t silence_count;
    uint64_t adopted_ms; /* When the map came. */
    uint64_t health_ms, moves_ms, fetch_ms;
    node_id offered[REPLICA_OFFERS_MAX]; /* Sent our map lately, without a question. */
    uint64_t offer_ms[REPLICA_OFFERS_MAX];
};

struct replica {
    struct heap *heap;
    struct store *store;
    struct replica_sink sink;
    const struct trace *trace;
    struct prng prng;
    struct identity self;
    struct starts starts;    /* What is kept of `self`. */
    uint64_t slot_count;     /* Slots that increments of this start went to, but one. */
    uint64_t start_sequence; /* Of the batch that keeps it; 0: it has to be written again. */
    bool start_durable;      /* Nothing is heard or said before. */
    struct rangemap *map;
    struct shares shares; /* Of `map`. */
    bool founds;
    bool map_stays;
    uint32_t repair_every_ms;
    uint32_t hints_max;
    struct health *health;
    struct replica_topology topology;
    struct replica_moves moves;
    struct replica_splits splits;
    struct replica_operations operations;
    struct replica_time time; /* As replica_clock_look() gave it. */
    struct replica_clock clock;
    struct seen **seen; /* Of each peer that forwarded. */
    size_t seen_count;
    uint64_t forward_serial; /* Of the last FORWARD. */
    struct query_scratch *scratch;

    struct flow *flows;
    size_t flow_count; /* Under way. */
    size_t flow_capacity;
    uint32_t free_flow; /* A place that is free, plus one; 0: none. */

    struct outbox ready; /* Go with the next commit; `durable`: unless its batch fails. */
    struct held *held;   /* A queue, in order of sequences. */
    size_t held_first, held_count, held_capacity;
    struct buf held_bytes;

    bool batch_open;
    bool load_rests;      /* Of some load the next pieces can begin. */
    uint64_t local_count; /* Writes of local state since the start. */
    struct peer_hints *hints;
    size_t hint_peer_count;
    uint64_t hint_label;
    uint32_t hedge_tokens; /* READ_HEDGE_COST for each question that may be asked twice. */
    struct late late[READ_LATE_MAX]; /* A ring. */
    size_t late_count;               /* Since the start. */
    uint32_t zone;                   /* Of this node, as health knows it. */

    struct repair repair;
    struct replica_purge purge;
    uint64_t repair_ms;  /* When the next peer is compared with. */
    node_id repair_peer; /* The last one. */

    struct transfer transfer;
    uint64_t transfer_look_ms; /* When the store is asked what it has done. */

    struct outbox outbox; /* Of a protocol's step, until replica_take_outbox(). */
    struct buf to_self;   /* Messages, each after its size in four bytes. */
    struct buf envelope, message, key, value, entries, counts, ranges, token; /* Scratch. */
    struct replica_stats stats;
};

/* Messages carry the flow's number and which try of it they belong to. Hints on their way have
 * numbers with the highest bit set. */
enum { FLOW_ATTEMPT_BITS = 16 };

static inline uint64_t flow_label(const struct flow *flow, unsigned attempt)
{
    return flow->number << FLOW_ATTEMPT_BITS | (attempt & 0xffff);
}

#define HINT_LABEL (UINT64_C(1) << 63)

/* What waits for a map to be durable: the low bits of its generation, then its number. */
#define HOLD_MAP (UINT64_C(1) << 62)
enum { HOLD_MAP_NUMBER_BITS = 48 };

/* What waits for what purge keeps; without HOLD_MAP. */
#define HOLD_PURGE (UINT64_C(1) << 61)

/* Keys of clients lie above those that a node has for itself. */
#define REPLICA_KEY_FIRST SLICE_LITERAL("\1")

/* --- replica.c --- */

/* Increments go to a new slot from now on: how often the former one was added to may be forgotten. */
void replica_next_slot(struct replica *replica);

/* What is visible here. */
struct query replica_query(const struct replica *replica);

/* A message without its envelope. */
void replica_dispatch(struct replica *replica, node_id from, struct slice bytes);

/* --- replica_batch.c --- */

/* Opens the batch if it is not; every write of a step goes into it. */
void replica_batch(struct replica *replica);
void replica_store_write(struct replica *replica, const struct store_write *write,
                         struct store_outcome *outcome);

/* Sends with the next commit, or, `durable`, once that batch is. The map's identity is filled in. */
void replica_send(struct replica *replica, node_id to, bool durable, struct data_message *message);

/* Sends with the next commit what is true only if the batch under way is. */
void replica_send_with_batch(struct replica *replica, node_id to, struct data_message *message);

/* Moves what a protocol's step appended to `outbox` to where it goes out from. */
void replica_take_outbox(struct replica *replica);

/* The flow is told when the batch under way is durable: replica_write_durable(). */
void replica_hold_flow(struct replica *replica, uint64_t label);

/* Tries again to write that this node started. */
void replica_start_again(struct replica *replica);

/* --- replica_flow.c --- */

/* The flow that a label belongs to, or NULL when it is gone. */
struct flow *replica_flow_find(struct replica *replica, uint64_t label);

/* A place for a request, which is copied; NULL: there is none. May move all flows. */
struct flow *replica_flow_start(struct replica *replica, const struct request *request);

/* Replies to whoever asked. */
void replica_reply(struct replica *replica, struct flow *flow, const struct request_reply *reply);
void replica_flow_end(struct replica *replica, struct flow *flow);
void replica_fail(struct replica *replica, struct flow *flow, enum request_outcome outcome,
                  enum status status);

/* --- replica_request.c --- */

/* Checks it, and does it here or forwards it. */
void replica_flow_begin(struct replica *replica, struct flow *flow);

/* On to another owner that may coordinate it, if there is one; nothing was done here. */
void replica_forward(struct replica *replica, struct flow *flow);
void replica_forward_to(struct replica *replica, struct flow *flow, node_id owner,
                        unsigned attempt);

bool replica_is_down(const struct replica *replica, node_id id);

/* Another node's request, and what became of one of ours there. */
void replica_serve_forward(struct replica *replica, node_id from,
                           const struct data_message *message);
void replica_forwarded(struct replica *replica, node_id from, const struct data_message *message);

/* --- replica_clock.c --- */

/* The time to go by. Sets clock.trusted. */
struct replica_time replica_clock_look(struct replica *replica, struct replica_time time);

/* What time `from` thought it was when it sent what has come now. */
/* Median of how far the wall clock is from those of peers heard lately, the lower of two; 0: none was. */
uint64_t replica_clock_skew_ms(const struct replica *replica);

/* Whether what is stamped here now is near the time of everybody else: it is refused where it is not. Who may leave it to others
 * does so sooner (`others_tried` is not set). */
bool replica_may_stamp(const struct replica *replica, bool others_tried);

void replica_clock_heard(struct replica *replica, node_id from, uint64_t wall_ms);

/* --- replica_local.c --- */

enum local_kind {
    LOCAL_STARTS = 's',
    LOCAL_MAP = 'm',
    LOCAL_OLDER = 'o',
    LOCAL_HINT = 'h',
    LOCAL_REGISTER = 'r',
    LOCAL_BOOTS = 'b',
    LOCAL_OPERATION = 'i',
    LOCAL_PURGE = 'p',
    LOCAL_TRANSFER = 't',
};

/* Begins a key of this node alone in `key`, which is cleared first. */
void local_key(struct buf *key, enum local_kind kind);

/* Puts a value of any size, in pieces, into the batch under way. Errors: those of the store. */
enum status local_put(struct replica *replica, struct slice key, struct slice value);

/* The same, for what others may send: not on a disk that is nearly full. `*is_new`: there was none before. */
enum status local_put_new(struct replica *replica, struct slice key, struct slice value,
                          bool *is_new);

/* The value, as last visible, into `value`, which is cleared first.
 * Errors: STATUS_NOT_FOUND, STATUS_CORRUPT if pieces are missing. */
enum status local_get(const struct replica *replica, struct slice key, struct buf *value);

/* A value of one piece, as the batch under way has it. Borrowed until the next write. */
enum status local_get_newest(struct replica *replica, struct slice key, struct slice *value);

/* When the last value was put: counts starts, and puts within one. */
uint64_t local_time(const struct replica *replica);

/* The value that a record begins, of a first piece: all of it if it is short. */
struct slice local_value_begin(const struct record *record);

/* A start has numbers for so many writes; before they end another one begins. */
#define LOCAL_WRITES_MAX (UINT64_C(3) << 30)
bool local_is_used_up(const struct replica *replica);

/* True if it was there. */
bool local_forget(struct replica *replica, struct slice key);

enum status local_load_identity(struct replica *replica);
enum status local_save_identity(struct replica *replica);
enum status local_load_map(struct replica *replica);
enum status local_save_map(struct replica *replica);

/* --- replica_serve.c --- */

void replica_serve_apply(struct replica *replica, node_id from, const struct data_message *message);
void replica_serve_ask(struct replica *replica, node_id from, const struct data_message *message);
void replica_serve_hold(struct replica *replica, node_id from, const struct data_message *message);

/* What this node holds of the question, into message's entries (replica->entries); or what it may not
 * answer of it, into its ranges (replica->ranges). */
enum data_verdict replica_tell(struct replica *replica, const struct data_message *asked,
                               struct data_message *told);

/* Whether it may be asked about the shard here; `of_all`: as one of all its owners. */
enum data_verdict replica_may_tell(const struct replica *replica, const struct shard *shard,
                                   bool of_all);

/* --- replica_write.c --- */

void replica_write_begin(struct replica *replica, struct flow *flow);
void replica_write_durable(struct replica *replica, uint64_t label);
void replica_write_failed(struct replica *replica, struct flow *flow, enum status status);
void replica_write_applied(struct replica *replica, node_id from,
                           const struct data_message *message);
void replica_write_held(struct replica *replica, node_id from, const struct data_message *message);
void replica_write_tick(struct replica *replica, struct flow *flow);
uint64_t replica_write_due_ms(const struct flow *flow);

/* --- replica_load.c --- */

/* Cuts it into pieces and begins them. May move all flows. */
void replica_load_begin(struct replica *replica, struct flow *flow);

/* What became of a piece. */
void replica_load_told(struct replica *replica, const struct flow *piece,
                       const struct request_reply *reply);

/* Begins pieces that can begin since others ended. */
void replica_loads_go_on(struct replica *replica);
void replica_load_free(struct replica *replica, struct flow *flow);

/* Whether all sets go to the same owners. */
bool replica_load_is_whole(const struct replica *replica, const struct request *request);

/* Writes the sets here, or, when there are `refusals` (data_refusal_next()), those anew, above what
 * stood in their way. `*stamped`: how many are in the batch. Errors: those of the store. */
enum status replica_load_stamp(struct replica *replica, struct flow *flow, struct slice refusals,
                               size_t *stamped);

/* --- replica_operation.c --- */

/* What is known here of an increment with a name. */
enum operation_answer {
    OPERATION_RUN,       /* It does not count in the value that stands: do it. */
    OPERATION_AGAIN,     /* It counts in the record that stands: tell the owners once more. */
    OPERATION_OVER,      /* It was acknowledged, and what it counted in is gone. */
    OPERATION_ELSEWHERE, /* Another owner was to do it. */
    OPERATION_UNKNOWN,   /* It may have been done or not: too long ago, or by somebody else. */
    OPERATION_MISUSED,   /* The name is that of an increment of another word. */
};

/* What became of one. */
enum operation_state {
    OPERATION_COUNTED = 1,
    OPERATION_ACKNOWLEDGED, /* By as many owners as were asked for. */
    OPERATION_MOVED,        /* To an owner that knew a newer value. */
    OPERATION_NOTHING,      /* Nothing was done. */
    OPERATION_STOOD_IN,     /* Acknowledged with hints, that others hold for owners, among those. */
    OPERATION_STATE_END,
};

static inline bool operation_is_acknowledged(enum operation_state state)
{
    return state == OPERATION_ACKNOWLEDGED || state == OPERATION_STOOD_IN;
}

static inline bool has_operation(const struct request *request)
{
    return request->kind == REQUEST_INCREMENT && request->operation.client != 0;
}

/* Who does an increment with a name: always the same owner, as long as they are the same. */
node_id replica_operation_owner(const struct owners *owners,
                                const struct request_operation *operation);

struct operation_note {
    struct version set;     /* The value it counts in. */
    struct version version; /* Acknowledged: that of its reply. */
    enum operation_state state;
    node_id moved_to;
    uint8_t moves; /* Of the attempt that was noted. */
};

/* `*out` is what was noted of it, but with OPERATION_RUN, _UNKNOWN and _MISUSED. */
enum operation_answer replica_operation_look(struct replica *replica, const struct request *request,
                                             struct operation_note *out);

/* The note alone. Errors: STATUS_NOT_FOUND if there is none, a later number has its place, or a disk that was set
 * back may have lost a later one. */
enum status replica_operation_noted(struct replica *replica, const struct request *request,
                                    struct operation_note *out);

/* Notes in the batch under way what becomes of it. Errors: those of the store. */
enum status replica_operation_note(struct replica *replica, const struct request *request,
                                   const struct operation_note *told);
/* The disk was set back: notes that it had since are gone, and what is not noted may have been done. */
void replica_operation_set_back(struct replica *replica);

enum status replica_operation_load(struct replica *replica);

/* --- replica_read.c --- */

void replica_read_begin(struct replica *replica, struct flow *flow);
void replica_read_told(struct replica *replica, node_id from, const struct data_message *message);
void replica_read_tick(struct replica *replica, struct flow *flow);
uint64_t replica_read_due_ms(const struct flow *flow);
void replica_read_free(struct replica *replica, struct flow *flow);

/* Asks about the piece, of owners that are not to be avoided; with too few of these, of all. */
void replica_read_plan(struct replica *replica, struct flow *flow);

/* --- replica_merge.c --- */

/* What the owners told of one word, joined. */
struct candidate {
    struct slice key;
    struct record record;
    struct slice encoded; /* The record. */
    size_t first, count;  /* The reports about it. */
};

struct report {
    struct slice key;
    struct slice encoded; /* Of the record, as told. */
    struct record record;
    node_id node;
};

struct merge {
    struct report *reports;
    size_t report_count;
    struct candidate *candidates; /* By key. */
    size_t candidate_count;
    struct buf
        joined; /* Records that nobody told as they are; the others borrow from what was told. */
};

/* Joins all that was told. Errors: STATUS_NOMEM; STATUS_LIMIT from the join. */
enum status merge_build(struct merge *merge, struct heap *heap, const struct flow_read *read);
void merge_free(struct merge *merge, struct heap *heap);

/* Keeps the live candidates, in the order of the request. */
void merge_order(struct merge *merge, const struct request *request, uint64_t now_ms);

/* <0 when `a` comes first in the order of the request. */
int merge_compare(const struct request *request, struct best a, struct slice a_key, struct best b,
                  struct slice b_key);

/* --- replica_count.c --- */

/* All owners have told their counts. */
void replica_count_evaluate(struct replica *replica, struct flow *flow);

/* A page of a shard whose owners differ: its first `count` candidates are there, and there may be more. */
void replica_count_page(struct replica *replica, struct flow *flow, const struct merge *merge,
                        size_t count, bool more);

/* --- replica_topology.c --- */

enum status replica_topology_start(struct replica *replica);
void replica_topology_stop(struct replica *replica);
void replica_topology_message(struct replica *replica, node_id from, struct slice bytes);
void replica_topology_tick(struct replica *replica);
uint64_t replica_topology_due_ms(const struct replica *replica);
void replica_map_hold(struct replica *replica); /* Until the batch under way is durable. */
void replica_map_durable(struct replica *replica, uint64_t label);
void replica_map_lost(struct replica *replica); /* The batch that was to keep it is nothing. */
void replica_map_fetch(struct replica *replica, node_id from);
void replica_map_fetch_missed(struct replica *replica);
void replica_map_send(struct replica *replica, node_id to);
void replica_topology_send(struct replica *replica, node_id to,
                           const struct topology_message *message);
void replica_map_offer(struct replica *replica, node_id to);

/* Whether an older map that somebody may still go by has this node among the key's owners. */
bool replica_took_before(const struct replica *replica, struct slice key);

/* --- replica_moves.c --- */

void replica_moves_map_changed(struct replica *replica, const struct rangemap *before);
void replica_moves_generation(struct replica *replica); /* What was heard in another is nothing. */
void replica_moves_lost(struct replica *replica); /* What was joined for them may not be there. */
void replica_moves_clear_asked(struct replica *replica, node_id from,
                               const struct topology_message *message);
void replica_moves_clear(struct replica *replica, node_id from,
                         const struct topology_message *message);
void replica_moves_tick(struct replica *replica);
uint64_t replica_moves_due_ms(const struct replica *replica);
void replica_moves_free(struct replica *replica);

uint64_t replica_low_hash(struct slice low);

/* Whether `id` is to become an owner of the shard. */
bool replica_is_next_only(const struct shard *shard, node_id id);
enum filling_part replica_filling_part(const struct shard *shard, node_id id);

/* How far this node is with the shard that begins at `low`; NULL: it has no part. */
struct filling *replica_filling(const struct replica *replica, struct slice low);

/* May this node answer for a shard whose owner it is or becomes? */
bool replica_is_complete(const struct replica *replica, const struct shard *shard);

/* Was it filled, where it becomes one? */
bool replica_is_filled(const struct replica *replica, const struct shard *shard);
/* --- replica_member.c --- */

void replica_members_start(struct replica *replica);
void replica_members_map_changed(struct replica *replica);
void replica_members_watch(struct replica *replica);

/* Appends the changes of state that are due; how many. */
size_t replica_members_add(const struct replica *replica, struct buf *delta);

/* The member sent something, and has this map. */
void replica_members_met(struct replica *replica, node_id from, uint64_t number);

/* Counts as another start, in the batch under way: the numbers of local writes are used up. */
void replica_number_anew(struct replica *replica);

/* Looks whether its start is on record by now. */
void replica_members_known(struct replica *replica);

/* Whether this node answers for its data, and coordinates writes. */
bool replica_serves(const struct replica *replica);

/* Whether it is excluded, or no member any more. */
bool replica_is_kept_out(const struct replica *replica);
bool replica_keeps_out(const struct replica *replica, node_id from);

/* --- replica_propose.c --- */

/* Whether the next owner has all of the shard, as far as is known here. */
bool replica_is_known_synced(const struct replica *replica, const struct shard *shard, node_id id);

/* The first member that is up: it proposes what nobody else has to. */
node_id replica_proposer(const struct replica *replica);
void replica_propose(struct replica *replica);
void replica_moves_join(struct replica *replica, const struct member *member, node_id replaces);
void replica_moves_synced(struct replica *replica, node_id from,
                          const struct topology_message *message);
bool replica_is_leaving(const struct replica *replica);

/* --- replica_share.c --- */

/* Errors: STATUS_NOMEM, and `*out` is unchanged. Cost: O(shards + members). */
enum status shares_build(struct heap *heap, const struct rangemap *map, node_id self,
                         struct shares *out);
void shares_free(struct heap *heap, struct shares *shares);

/* Appends what is shared with `peer`, 0: all that is owned, as ranges (data_range_append()):
 * ascending, and neighbours are one. */
void shares_ranges(const struct shares *shares, const struct rangemap *map, node_id peer,
                   struct buf *out);

/* The same of what both own, without what either is being given: that is compared once it was
 * transferred, and not before, or it would be repaired record by record. */
void shares_settled(const struct shares *shares, const struct rangemap *map, node_id self,
                    node_id peer, struct buf *out);

/* Of such ranges. */
bool ranges_contain(struct slice ranges, struct slice key);
bool ranges_cover(struct slice all, struct slice some);
void ranges_unite(struct slice a, struct slice b, struct buf *out);

/* --- replica_transfer.c --- */

void replica_transfer_init(struct replica *replica);
enum status replica_transfer_load(struct replica *replica);

/* Takes what is to be filled here and was not moved. */
void replica_transfer_begin(struct replica *replica);

/* Whether anything that `peer` owns is yet to be moved here: a comparison of all that is shared with it
 * would repair that record by record. */
bool replica_transfer_waits(const struct replica *replica, node_id peer);
void replica_transfer_tick(struct replica *replica);
void replica_transfer_message(struct replica *replica, node_id from, struct slice bytes);
uint64_t replica_transfer_due_ms(const struct replica *replica);

/* --- replica_split.c --- */

/* Appends splits and merges of the shards that this node watches; how many. */
size_t replica_splits_add(struct replica *replica, struct buf *delta);
void replica_splits_map_changed(struct replica *replica, const struct rangemap *before);
void replica_splits_free(struct replica *replica);

/* --- replica_repair.c --- */

void replica_repair_init(struct replica *replica);
void replica_repair_begin(struct replica *replica, node_id peer);
void replica_repair_tick(struct replica *replica);
void replica_repair_message(struct replica *replica, node_id from, struct slice bytes);
uint64_t replica_repair_due_ms(const struct replica *replica);

/* --- replica_purge.c --- */

/* `founds`: nothing was ever written. */
enum status replica_purge_start(struct replica *replica, bool founds);
void replica_purge_stop(struct replica *replica);
void replica_purge_save(struct replica *replica);
void replica_purge_durable(struct replica *replica, uint64_t number);
void replica_purge_lost(struct replica *replica); /* A batch is nothing. */
void replica_purge_map_changed(struct replica *replica, const struct rangemap *before);
void replica_purge_compared(struct replica *replica, const struct repair_completed *completed);
void replica_purge_filled(struct replica *replica, const struct shard *shard);
void replica_purge_rolled_back(struct replica *replica);
void replica_purge_message(struct replica *replica, node_id from, struct slice bytes);
void replica_purge_tick(struct replica *replica);
uint64_t replica_purge_due_ms(const struct replica *replica);

/* Tells a peer what is purged of the ranges; goes with the outbox. */
void replica_purge_tell(struct replica *replica, node_id peer, struct slice ranges);

/* Does it know all that it must of the shard, or is there nobody who could tell it more? */
bool replica_purge_is_complete(const struct replica *replica, const struct shard *shard);

/* A complete owner lacks this record of ours. True: it is deleted, and forgotten here too. */
bool replica_purge_forget(struct replica *replica, struct slice key, const struct record *record);

/* What was purged where the write goes to, and what is known there. */
void replica_purge_bound(const struct replica *replica, struct store_write *write);

/* Joins what came from a peer, unless it is older than what is purged. */
void replica_merge(struct replica *replica, struct slice key, const struct record *record,
                   struct store_outcome *outcome);

/* No direct write to the key up to here is applied. */
hlc_time replica_promised(const struct replica *replica, struct slice key);

/* --- replica_hint.c --- */

/* Keeps the record for the peer, in the batch under way. False: there is no room. */
void replica_hint_returned(struct replica *replica, node_id peer); /* It is up: send at once. */
bool replica_hint_keep(struct replica *replica, node_id peer, struct slice key,
                       const struct record *record);
void replica_hint_applied(struct replica *replica, node_id from,
                          const struct data_message *message);
/* Whether nothing is owed to the peer, nor what lies in a shard that it is to own: such hints for others
 * are copied for it first. */
bool replica_hint_clear(struct replica *replica, node_id peer);
uint64_t replica_hint_total(const struct replica *replica);
void replica_hint_tick(struct replica *replica);
void replica_hint_batch_done(struct replica *replica, bool kept); /* The batch under way is over. */
enum status replica_hint_load(struct replica *replica);

/* Whether a hint with a version up to `upto` is kept, in what is visible. */
bool replica_hint_owes(const struct replica *replica, hlc_time upto);
void replica_hint_free(struct replica *replica);
