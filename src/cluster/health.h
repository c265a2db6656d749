/* Health: who answers, how busy, in which zone, and which rangemap each node has acknowledged.
 *
 * Each node probes one other a second and publishes a card about itself. Cards, and opinions
 * about nodes that do not answer, ride on probes and their answers, and pairs of nodes compare
 * what they know. It steers where requests go, and tells when a peer is back; who owns what is
 * none of its business.
 *
 * Invariants
 *   1. Of two cards of a node the newer one stands, by (boot, sequence), however they arrive.
 *   2. A life of a node is (boot, rebuttal). It goes alive, suspect, down and never back; only a
 *      later life, which the node itself begins, is alive again.
 *   3. A member goes down by one HEALTH_DIED and comes back by one HEALTH_RETURNED, in turns.
 *   4. A node is never suspect or down to itself: such an opinion makes it begin another life.
 *   5. Cards of strangers, of other disks of a member, of other clusters and generations change
 *      nothing; they are counted.
 *   6. What is sent stays under HEALTH_BYTES_PER_S, but for probes and their answers without
 *      anything to tell; what is kept is O(members).
 *   7. Time that jumps, or stands still, makes nobody suspect.
 *
 * Takes `now_ms` (monotonic); health_tick() is due at least each HEALTH_TICK_MS.
 * docs/design/health.md says why, and which function makes which transition.
 *
 * Sources: Das, Gupta, Motivala, "SWIM", DSN 2002; Dadgar, Phillips, Currey, "Lifeguard",
 * arXiv 1707.00788, 2017. */
#pragma once

#include "base/heap.h"
#include "base/prng.h"
#include "base/slice.h"
#include "base/status.h"
#include "cluster/health_message.h"
#include "cluster/health_table.h"
#include "cluster/outbox.h"
#include "cluster/trace.h"

enum {
    HEALTH_TICK_MS = 200,
    HEALTH_INTERVAL_MS = 1000, /* From one probe to the next. */
    HEALTH_BYTES_PER_S = 8000,
    HEALTH_SEEDS_MAX = 16,
};

/* From the rangemap. */
struct health_member {
    node_id id;
    uint64_t incarnation;
    uint32_t zone;
};

struct health_options {
    struct identity self;
    uint64_t cluster;
    uint32_t zone, address_tag;
    struct heap *heap;
    const struct trace *trace; /* May be NULL. */
};

enum health_failure {
    HEALTH_CLOSED,  /* The connection was reset or refused: nobody is there. */
    HEALTH_TIMEOUT, /* No answer in time. */
};

enum health_event_kind {
    HEALTH_DIED,
    HEALTH_RETURNED,         /* After it died. Repair starts from this. */
    HEALTH_RESTARTED,        /* Another boot, and nobody had noticed a death. */
    HEALTH_MAP_AHEAD,        /* The peer has a newer map than anybody before: `number`. */
    HEALTH_TWIN,             /* A second process says that it is this node: `number` its boot. */
    HEALTH_OTHER_GENERATION, /* The peer lives in another one: `number`. Once for each. */
};

struct health_event {
    enum health_event_kind kind;
    node_id peer;
    uint64_t number;
};

struct health_counts {
    uint64_t sent_count, sent_bytes;
    uint64_t invalid_count;   /* Messages that break a rule of the format. */
    uint64_t foreign_count;   /* Messages of another cluster or generation. */
    uint64_t stranger_count;  /* Cards of ids that are no members, or of their other disks. */
    uint64_t baseless_count;  /* Short cards of a boot whose full card has not come yet. */
    uint64_t suspected_count; /* Times a member became suspect. */
    uint64_t rebuttal_count;  /* Of this node. */
    uint64_t events_dropped;  /* For want of somebody to take them. */
};

struct health; /* cluster/health_private.h; health_create() makes one. */

/* A node alone: it has no members and no map.
 * Errors: STATUS_NOMEM. */
enum status health_create(const struct health_options *options, struct prng *prng,
                          struct health **out);
void health_destroy(struct health *health);

/* The members from now on, ascending by id, this node among them or not. What is known of those
 * that stay is kept; a newcomer is taken for alive.
 *
 * Errors: STATUS_NOMEM, and the members are as before. */
enum status health_set_members(struct health *health, const struct health_member *members,
                               size_t count, struct prng *prng);

/* Whom to ask while there are no members: `count` at most HEALTH_SEEDS_MAX. */
void health_set_seeds(struct health *health, const node_id *seeds, size_t count);

/* The map this node has, and the one it has acknowledged. A generation is any number but 0 that
 * stands for (number, random id) of it; 0: no map yet. */
void health_set_map(struct health *health, uint64_t generation, uint64_t known,
                    uint64_t acknowledged);

/* This node counts as a later start of itself, `boot`, from now on. */
void health_begin_life(struct health *health, uint64_t boot);

/* How long the queue is here, and how long answers take here. Direct messages tell the depth as
 * it is; cards follow when it has doubled or halved, and not often. */
void health_set_load(struct health *health, uint32_t depth, uint32_t p95_us);

/* What live traffic shows: an answer of a peer, and how long its queue was; or none. */
void health_heard(struct health *health, node_id id, uint32_t latency_us, uint32_t depth);
void health_failed(struct health *health, node_id id, enum health_failure failure);

/* Time went on: sends what is due. */
void health_tick(struct health *health, uint64_t now_ms, struct prng *prng, struct outbox *outbox);

/* A message came from `from`, whom the connection vouches for.
 * Errors: STATUS_INVALID: it breaks a rule; nothing changed. */
enum status health_receive(struct health *health, node_id from, struct slice bytes, uint64_t now_ms,
                           struct prng *prng, struct outbox *outbox);

/* Takes out the oldest event; false when there is none. To be emptied after each step. */
bool health_next_event(struct health *health, struct health_event *event);

/* For requests of this thread. */
const struct health_table *health_cache(const struct health *health);
struct health_view health_of(const struct health *health, node_id peer);

/* The newest card of a peer, or NULL. */
const struct health_card *health_card_of(const struct health *health, node_id id);

/* The least map number that these members acknowledged, by cards of the disk the list names and
 * of the newest boot that was ever heard of; 0 when one of them lacks such a card.
 * Cost: O(count). */
uint64_t health_acknowledged_min(const struct health *health, const struct health_member *members,
                                 size_t count);

const struct health_counts *health_counts(const struct health *health);
