/* Inside of health: one struct, and what its files share.
 *
 *   health.c         members, time, events, the steps
 *   health_gossip.c  cards and opinions: taking them in, choosing which to tell
 *   health_probe.c   probes, relays, suspicion
 *   health_sync.c    pairs compare what they know */
#pragma once

#include "cluster/health.h"

#define HEALTH_NONE UINT32_MAX /* No place, no fact. */

enum {
    HEALTH_SYNC_MS = 2000, /* From one comparison to the next. */
    HEALTH_CONFIRMATIONS_MAX = 3,
    HEALTH_SLOWNESS_MAX = 8,
    HEALTH_PROBES_MAX = 32, /* At once; over it the newest waits for a turn. */
    HEALTH_RELAYS_MAX = 64, /* At once; over it the oldest goes. */
    HEALTH_HELPERS = 3,
    HEALTH_SENDS_MAX = 64,
    HEALTH_PIGGYBACK_BYTES = 1100,
    HEALTH_TOLD_MAX = 256, /* Facts in one message. */
};

/* Two facts a member: its card, and an opinion. Those not yet told often enough are queued by
 * how often they were. */
enum health_fact { FACT_CARD, FACT_OPINION, FACT_COUNT };

/* Who lives and who does not goes before all else. */
enum health_queue { QUEUE_LIVES, QUEUE_CARDS, QUEUE_COUNT };

struct health_peer {
    struct health_member member;
    struct health_card card; /* Boot 0: none yet. */

    /* The newest life that was heard of, and what became of it. */
    uint64_t boot;
    uint32_t rebuttal;
    uint8_t state;         /* enum health_state, as the cluster sees it. */
    uint8_t accuser_count; /* Of a suspicion. */
    node_id accusers[HEALTH_CONFIRMATIONS_MAX + 1];
    node_id accuser; /* The last one: whom the opinion names when told. */
    uint64_t suspected_ms;

    /* As seen from here. */
    node_id via; /* A helper that reached it when this node did not. */
    uint8_t timeouts;
    bool closed;
    bool accused_here;
    bool probe_soon;

    uint8_t mark;   /* health_sync.c, within a step. */
    bool full_news; /* Its card is told in full: others may not know this boot. */
    bool queued[FACT_COUNT];
    uint8_t queue[FACT_COUNT], sends[FACT_COUNT];
    uint32_t next[FACT_COUNT], previous[FACT_COUNT];

    struct health_latency *latency; /* NULL until live traffic was measured. */
};

struct health_probe {
    node_id target; /* 0: free. */
    uint32_t nonce;
    uint64_t begun_ms, begun_now_ms, next_ms, end_ms;
    uint8_t attempts;
    uint8_t helpers, silents; /* Asked; those that said they had no answer either. */
    bool relayed;             /* A helper reached it. */
    bool quiet;               /* Of one that is down: no helpers, no conclusions. */
};

struct health_relay {
    node_id target, origin; /* Target 0: free. */
    uint32_t nonce, origin_nonce;
    uint64_t silent_ms, end_ms;
    bool said_silent;
};

struct health {
    struct heap *heap;
    const struct trace *trace;
    uint64_t cluster, generation;
    struct health_card self;
    uint32_t depth;

    struct health_peer *peers; /* In the order of ids; parallel to table.views. */
    struct health_table table;
    uint32_t *order; /* Places in the order in which they are probed. */
    size_t order_at;
    size_t down_at; /* Where the search for the next one that is down begins. */
    size_t watch_at;
    node_id seeds[HEALTH_SEEDS_MAX];
    size_t seed_count;

    /* Own time: that which passed in steps of at most STEP_MS_MAX. */
    uint64_t time_ms, last_now_ms;
    bool began;
    uint64_t next_probe_ms, next_sync_ms, next_load_ms, next_expiry_ms;
    node_id sync_peer; /* Whom to compare with at once; 0: nobody. */
    uint8_t slowness;  /* How far this node doubts itself (Lifeguard's local health). */
    int64_t tokens;    /* Bytes that may be sent beyond the bare probes. */
    uint64_t tokens_ms;

    struct health_probe probes[HEALTH_PROBES_MAX];
    struct health_relay relays[HEALTH_RELAYS_MAX];
    uint32_t nonce;
    bool probe_soon; /* Some peer is to be probed without waiting for its turn. */

    /* Of the queues of facts, by sends. */
    uint32_t heads[QUEUE_COUNT][HEALTH_SENDS_MAX], tails[QUEUE_COUNT][HEALTH_SENDS_MAX];

    uint64_t known_max;        /* Newest map that was reported. */
    uint64_t twin_boot;        /* Reported. */
    uint64_t other_generation; /* Reported. */
    struct health_event *events;
    size_t event_at, event_count, event_capacity;
    struct health_counts counts;
};

/* --- health.c --- */

/* Place of a member, or HEALTH_NONE. */
static inline uint32_t health_place(const struct health *health, node_id id)
{
    size_t place = health_table_place(&health->table, id);
    return place == health->table.count ? HEALTH_NONE : (uint32_t)place;
}

/* The peer of that id, or NULL: no member, or this node. */
static inline struct health_peer *health_peer(struct health *health, node_id id)
{
    uint32_t place = health_place(health, id);
    return place == HEALTH_NONE || id == health->self.id ? NULL : &health->peers[place];
}

void health_emit(struct health *health, enum health_event_kind kind, node_id peer, uint64_t number);
/* Brings the cache's state of a peer up to date. */
void health_show(struct health *health, const struct health_peer *peer);
/* Bits that hold n: 0 for 0, 10 for 1,000. */
unsigned health_bits(size_t n);
/* Another card of this node. */
void health_publish(struct health *health);

/* Begins a message to `to`; what follows the head is the caller's. */
struct buf *health_begin(struct health *health, struct outbox *outbox, node_id to,
                         enum health_kind kind);
void health_end(struct health *health, struct outbox *outbox);

/* --- health_gossip.c --- */

void health_queues_init(struct health *health);
/* Queues a fact that was told `sends` times. */
void health_tell(struct health *health, struct health_peer *peer, enum health_fact kind,
                 enum health_queue queue, unsigned sends);
void health_hush(struct health *health, struct health_peer *peer, enum health_fact kind);

/* Appends opinions and cards: what is to be said of the receiver and of `about` (0: nobody), then as
 * far as `room` bytes go who lives and who does not, then other cards, those told least often
 * first. */
void health_append_facts(struct health *health, struct buf *out, node_id to, node_id about,
                         size_t room);

struct health_opinion health_opinion_of(const struct health_peer *peer);

/* Takes in opinions and cards of a checked message; true when one of them made this node say that
 * it is alive. */
bool health_take_facts(struct health *health, const struct health_message *message);
/* Takes in the card of the sender; true when it is the newest process of a member. */
bool health_take_sender(struct health *health, const struct health_message *message);

/* Makes the member suspect, or adds an accuser. */
void health_suspect(struct health *health, struct health_peer *peer, node_id accuser);
/* Its time to refute the suspicion is over. */
void health_kill(struct health *health, struct health_peer *peer);

/* --- health_probe.c --- */

void health_probe_tick(struct health *health, uint64_t now_ms, struct prng *prng,
                       struct outbox *outbox);
void health_probe_receive(struct health *health, const struct health_message *message,
                          uint64_t now_ms, bool known, struct prng *prng, struct outbox *outbox);
/* Probes one at once, unless that is under way. */
void health_probe_now(struct health *health, node_id target, uint64_t now_ms, bool quiet,
                      struct prng *prng, struct outbox *outbox);
void health_suspicions_expire(struct health *health);
void health_slower(struct health *health, int steps);

/* --- health_sync.c --- */

void health_sync_tick(struct health *health, struct prng *prng, struct outbox *outbox);
void health_sync_receive(struct health *health, const struct health_message *message,
                         struct prng *prng, struct outbox *outbox);

/* The bytes an extra may have now. */
static inline size_t health_room(const struct health *health, size_t most)
{
    if (health->tokens <= 0) return 0;
    return (uint64_t)health->tokens < most ? (size_t)health->tokens : most;
}
