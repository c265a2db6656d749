/* The register: which content the next map has, once and for all.
 *
 * The content of map number + 1 is the outcome of one instance of single-decree Paxos among the
 * registrars that map `number` names. Any member proposes; there is no leader. Each node has one
 * of these, whether registrar or not: it votes, proposes, and learns.
 *
 * Invariants (docs/design/register.md says why they hold, and which test checks each)
 *   1. In one instance of one generation at most one value is chosen.
 *   2. What register_decision() gives was chosen.
 *   3. A registrar's promise never falls, over restarts too.
 *   4. A value applies to the map whose hash it names: no registrar accepts another.
 *   5. Messages of another generation change nothing.
 *   6. A registrar votes only while register_set_voting() allows it (cluster/boots.h).
 *
 * The driver takes what the step wants stored (`store`) and makes it durable before it lets out
 * messages marked so; a message to the node itself goes the same way as one to others. When a
 * step says `decided`, it applies the delta to its map, makes the new map durable, and tells it
 * by register_set_map().
 *
 * Sources: Lamport, "Paxos Made Simple", 2001; Rystsov, "CASPaxos", arXiv 1802.07000. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/heap.h"
#include "base/prng.h"
#include "base/slice.h"
#include "base/status.h"
#include "cluster/outbox.h"
#include "cluster/register_acceptor.h"
#include "cluster/register_map.h"
#include "cluster/register_proposer.h"
#include "cluster/trace.h"

/* What became of a proposal. */
enum proposal_outcome {
    PROPOSAL_NONE,      /* None since the start. */
    PROPOSAL_OPEN,      /* Being tried. */
    PROPOSAL_CHOSEN,    /* The next map is as proposed. */
    PROPOSAL_LOST,      /* Another value was chosen: register_decision() says which. */
    PROPOSAL_OVERTAKEN, /* The next map came another way; whether this made it, it shows. */
    PROPOSAL_WITHDRAWN, /* By the proposer; it may be chosen all the same. */
};

/* What the driver has to know of a step. */
struct register_news {
    bool store;    /* register_encode_state() has changed: make it durable. */
    bool decided;  /* register_decision() has something, for the first time. */
    bool forked;   /* Somebody recovered this generation's predecessor as well: tell people. */
    node_id newer; /* This peer has a newer map or generation: fetch it. 0: nobody. */
    node_id older; /* This peer has an older one: send it ours. */
};

struct register_node {
    node_id self;
    struct heap *heap;
    const struct trace *trace; /* May be NULL. */
    struct register_map map;
    bool votes;
    struct acceptor acceptor; /* Of the instance map.number + 1, ... */
    struct proposer proposer; /* ... like this, ... */
    struct buf decided;       /* ... and this: what was chosen, encoded; empty: not known. */
    struct buf made_map;      /* The decision that made `map`, encoded; empty: not known. */
    enum proposal_outcome outcome;
    uint64_t invalid_count; /* Messages that broke a rule. */
    uint64_t foreign_count; /* Messages of another generation. */
};

/* A node that starts: with the map it has and what it kept on disk, or nothing (empty). It does
 * not vote yet. `prng` gives what makes its ballots unlike those of its former lives.
 *
 * Owns: values, taken from `heap`, until register_deinit(). The map is copied.
 * Errors: STATUS_CORRUPT for a state that is damaged, or of a later map than this; STATUS_NEWER;
 * STATUS_NOMEM. */
enum status register_init(struct register_node *node, node_id self, struct heap *heap,
                          const struct register_map *map, struct slice state, struct prng *prng,
                          const struct trace *trace);
void register_deinit(struct register_node *node);

/* The state to keep: see cluster/register_state.h. */
void register_encode_state(const struct register_node *node, struct buf *out);

/* May it vote? Takes effect where it is a registrar. */
void register_set_voting(struct register_node *node, bool votes);

/* The node has a newer map now: of the same generation and a greater number, or of a later
 * generation. The state to keep changes: it goes into the same batch as the map.
 *
 * Errors: STATUS_STALE for any other map, which changes nothing. */
enum status register_set_map(struct register_node *node, const struct register_map *map);

/* Proposes that the next map be made by `delta`; `outcome` says later what became of it.
 *
 * Errors, which change nothing: STATUS_BUSY while another proposal is open, STATUS_STALE when
 * the decision is known already, STATUS_LIMIT for a delta that is empty or too large,
 * STATUS_NOMEM. */
enum status register_propose(struct register_node *node, struct slice delta, uint64_t now_ms,
                             struct prng *prng, struct outbox *outbox);

/* Stops trying. The value may be chosen all the same: others may have accepted it. */
void register_withdraw(struct register_node *node);

/* Takes a message of the peer `from`, the byte of the protocol first.
 *
 * Errors: STATUS_INVALID for one that breaks a rule: it is counted and changes nothing. */
enum status register_receive(struct register_node *node, node_id from, struct slice bytes,
                             uint64_t now_ms, struct prng *prng, struct outbox *outbox,
                             struct register_news *news);

/* Resends and retries what is due; register_next_ms() says when the next call is. */
void register_tick(struct register_node *node, uint64_t now_ms, struct prng *prng,
                   struct outbox *outbox);

/* UINT64_MAX: there is nothing to wait for. */
uint64_t register_next_ms(const struct register_node *node);

/* What was chosen to make the next map; false while it is not known. Borrowed until the next
 * register_set_map(). */
bool register_decision(const struct register_node *node, struct register_value *out);
