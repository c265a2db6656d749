#include "base/check.h"
#include "base/math.h"
#include "cluster/health_private.h"

enum {
    ATTEMPTS_MAX = 3,
    WATCHED_MAX = 4, /* Suspects that are probed each round beyond the one in turn. */
    SUSPICION_INTERVALS_MIN = 5,
    SUSPICION_STRETCH = 6, /* Of a suspicion that nobody else confirms. */
};

/* How long a probe may take, and the distance between two: longer where this node has reason to
 * doubt itself. */
static uint64_t interval_ms(const struct health *health)
{
    return HEALTH_INTERVAL_MS * (1U + health->slowness);
}

void health_slower(struct health *health, int steps)
{
    int slowness = health->slowness + steps;
    if (slowness < 0) slowness = 0;
    if (slowness > HEALTH_SLOWNESS_MAX) slowness = HEALTH_SLOWNESS_MAX;
    health->slowness = (uint8_t)slowness;
}

/* --- Suspicion --- */

/* From alone in its opinion to fully confirmed the time shrinks with the logarithm of those who
 * say so (Lifeguard, section IV-B). A suspect has to hear of it and its answer has to go round:
 * both take a number of intervals that grows with the logarithm of the members. */
static uint64_t suspicion_ms(const struct health *health, const struct health_peer *peer)
{
    static const uint16_t shrunk[HEALTH_CONFIRMATIONS_MAX + 1][HEALTH_CONFIRMATIONS_MAX + 1] = {
        {256, 256, 256, 256}, /* Nobody could confirm it. */
        {0, 256, 256, 256},
        {0, 162, 256, 256},
        {0, 128, 203, 256},
    }; /* log(c + 1) / log(k + 1), in 256ths. */
    size_t members = health->table.count;
    size_t others = members < 2 ? 0 : members - 2;
    size_t most = size_min(others, HEALTH_CONFIRMATIONS_MAX);
    size_t confirmed = size_min(peer->accuser_count - 1U, most);
    uint64_t least_ms = HEALTH_INTERVAL_MS *
                        u64_max(SUSPICION_INTERVALS_MIN, health_bits(members) + 2);
    uint64_t stretch_ms = (SUSPICION_STRETCH - 1) * least_ms;
    return least_ms + stretch_ms * (256U - shrunk[most][confirmed]) / 256;
}

void health_suspicions_expire(struct health *health)
{
    if (health->time_ms < health->next_expiry_ms) return;
    uint64_t next_ms = UINT64_MAX;
    for (size_t i = 0; i < health->table.count; i++) {
        struct health_peer *peer = &health->peers[i];
        if (peer->accuser_count == 0) continue;
        uint64_t due_ms = peer->suspected_ms + suspicion_ms(health, peer);
        if (health->time_ms >= due_ms)
            health_kill(health, peer);
        else
            next_ms = u64_min(next_ms, due_ms);
    }
    health->next_expiry_ms = next_ms;
}

/* --- Probes --- */

static struct health_probe *probe_of(struct health *health, node_id target)
{
    for (size_t i = 0; i < HEALTH_PROBES_MAX; i++) {
        if (health->probes[i].target == target) return &health->probes[i];
    }
    return NULL;
}

static void send_probe(struct health *health, node_id target, uint32_t nonce, size_t room,
                       struct outbox *outbox)
{
    struct buf *out = health_begin(health, outbox, target, HEALTH_PROBE);
    buf_append_u32le(out, nonce);
    health_append_facts(health, out, target, 0, health_room(health, room));
    health_end(health, outbox);
}

static void send_about(struct health *health, node_id to, enum health_kind kind, uint32_t nonce,
                       node_id target, struct outbox *outbox)
{
    struct buf *out = health_begin(health, outbox, to, kind);
    buf_append_u32le(out, nonce);
    buf_append_varint(out, target);
    health_append_facts(health, out, to, target, 0);
    health_end(health, outbox);
}

static bool can_help(const struct health *health, uint32_t place, node_id target)
{
    const struct health_peer *peer = &health->peers[place];
    node_id id = peer->member.id;
    return id != health->self.id && id != target && peer->state == HEALTH_ALIVE && !peer->closed;
}

/* Asks up to HEALTH_HELPERS others, first the one that reached it last time: where a link is cut
 * for good, chance would find a helper on the right side only now and then. */
static void ask_helpers(struct health *health, struct health_probe *probe, struct prng *prng,
                        struct outbox *outbox)
{
    const struct health_peer *peer = health_peer(health, probe->target);
    uint32_t chosen[HEALTH_HELPERS];
    size_t count = 0, members = health->table.count;
    if (peer == NULL) return;
    uint32_t via = peer->via == 0 ? HEALTH_NONE : health_place(health, peer->via);
    if (via != HEALTH_NONE && can_help(health, via, probe->target)) chosen[count++] = via;
    size_t start = prng_below(prng, (uint32_t)members);
    for (size_t i = 0; i < members && count < HEALTH_HELPERS; i++) {
        uint32_t place = health->order[(start + i) % members];
        if (place != via && can_help(health, place, probe->target)) chosen[count++] = place;
    }
    for (size_t i = 0; i < count; i++) {
        node_id helper = health->peers[chosen[i]].member.id;
        if (peer->state == HEALTH_ALIVE)
            TRACE(health->trace, "n%u does not answer, ask n%u", probe->target, helper);
        send_about(health, helper, HEALTH_RELAY, probe->nonce, probe->target, outbox);
    }
    probe->helpers = (uint8_t)(probe->helpers + count);
}

/* A direct probe, and from the second attempt on helpers as well. */
static void attempt(struct health *health, struct health_probe *probe, struct prng *prng,
                    struct outbox *outbox)
{
    send_probe(health, probe->target, probe->nonce,
               probe->attempts == 0 ? HEALTH_PIGGYBACK_BYTES : 0, outbox);
    if (probe->attempts++ > 0) ask_helpers(health, probe, prng, outbox);
    /* The first answer may be late; after the second attempt there is half the time left. */
    uint64_t whole_ms = interval_ms(health);
    probe->next_ms = probe->begun_ms + (probe->attempts == 1 ? whole_ms / 5 : whole_ms / 2);
}

void health_probe_now(struct health *health, node_id target, uint64_t now_ms, bool quiet,
                      struct prng *prng, struct outbox *outbox)
{
    if (probe_of(health, target) != NULL) return;
    struct health_probe *probe = probe_of(health, 0);
    if (probe == NULL) return;
    *probe = (struct health_probe){.target = target,
                                   .nonce = health->nonce++,
                                   .begun_ms = health->time_ms,
                                   .begun_now_ms = now_ms,
                                   .end_ms = health->time_ms + interval_ms(health),
                                   .quiet = quiet};
    attempt(health, probe, prng, outbox);
}

/* The time of a probe is over. */
static void conclude(struct health *health, struct health_probe *probe)
{
    struct health_probe ended = *probe;
    *probe = (struct health_probe){0};
    struct health_peer *peer = health_peer(health, ended.target);
    if (peer == NULL || ended.quiet) return;
    if (peer->timeouts < UINT8_MAX) peer->timeouts++;
    health_show(health, peer);
    if (ended.relayed) return; /* It lives; only the way from here is bad. */

    /* Helpers that cannot reach it say so. When they are silent, the fault may be here. */
    if (ended.silents < ended.helpers || ended.helpers == 0) health_slower(health, 1);
    if (peer->state == HEALTH_DOWN) return;
    peer->accused_here = true;
    health_suspect(health, peer, health->self.id);
}

/* --- Rounds --- */

/* The next member in turn that is not down; all others come before it is its turn again. */
static node_id next_target(struct health *health, struct prng *prng)
{
    size_t members = health->table.count;
    for (size_t tries = 0; tries < members; tries++) {
        if (health->order_at == members) {
            for (size_t i = members; i > 1; i--) {
                size_t other = prng_below(prng, (uint32_t)i);
                uint32_t place = health->order[i - 1];
                health->order[i - 1] = health->order[other];
                health->order[other] = place;
            }
            health->order_at = 0;
        }
        const struct health_peer *peer = &health->peers[health->order[health->order_at++]];
        if (peer->member.id != health->self.id && peer->state != HEALTH_DOWN)
            return peer->member.id;
    }
    bool alone = members == 0 || (members == 1 && health->table.views[0].id == health->self.id);
    if (!alone || health->seed_count == 0) return 0;
    node_id seed = health->seeds[prng_below(prng, (uint32_t)health->seed_count)];
    return seed == health->self.id ? 0 : seed;
}

/* Down for the cluster, or only for this node's connections. */
static node_id next_down(struct health *health)
{
    size_t members = health->table.count;
    for (size_t tries = 0; tries < members; tries++) {
        const struct health_peer *peer = &health->peers[health->down_at++ % members];
        if (peer->member.id != health->self.id && peer->state == HEALTH_DOWN)
            return peer->member.id;
    }
    return 0;
}

/* Those this node accuses are probed each round: that is their chance to say no. So are those that
 * live and that it could not reach itself, quietly, to see when it can. */
static void probe_watched(struct health *health, uint64_t now_ms, struct prng *prng,
                          struct outbox *outbox)
{
    size_t members = health->table.count, watched = 0;
    for (size_t tries = 0; tries < members && watched < WATCHED_MAX; tries++) {
        const struct health_peer *peer = &health->peers[health->watch_at++ % members];
        bool accused = peer->accused_here && peer->state == HEALTH_SUSPECT;
        bool unreached = peer->state == HEALTH_ALIVE && (peer->timeouts > 0 || peer->closed);
        if (!accused && !unreached) continue;
        health_probe_now(health, peer->member.id, now_ms, !accused, prng, outbox);
        watched++;
    }
}

static void begin_round(struct health *health, uint64_t now_ms, struct prng *prng,
                        struct outbox *outbox)
{
    node_id target = next_target(health, prng);
    bool seed = target != 0 && health_peer(health, target) == NULL;
    if (target != 0) health_probe_now(health, target, now_ms, seed, prng, outbox);
    node_id down = next_down(health);
    if (down != 0) health_probe_now(health, down, now_ms, true, prng, outbox);
    probe_watched(health, now_ms, prng, outbox);
}

/* Live traffic failed: no waiting for the turn. */
static void probe_failed(struct health *health, uint64_t now_ms, struct prng *prng,
                         struct outbox *outbox)
{
    for (size_t i = 0; i < health->table.count; i++) {
        struct health_peer *peer = &health->peers[i];
        if (!peer->probe_soon) continue;
        peer->probe_soon = false;
        health_probe_now(health, peer->member.id, now_ms, false, prng, outbox);
    }
    health->probe_soon = false;
}

static void relays_tick(struct health *health, struct outbox *outbox)
{
    for (size_t i = 0; i < HEALTH_RELAYS_MAX; i++) {
        struct health_relay *relay = &health->relays[i];
        if (relay->target == 0) continue;
        if (!relay->said_silent && health->time_ms >= relay->silent_ms) {
            relay->said_silent = true;
            send_about(health, relay->origin, HEALTH_SILENT, relay->origin_nonce, relay->target,
                       outbox);
        }
        if (health->time_ms >= relay->end_ms) relay->target = 0;
    }
}

void health_probe_tick(struct health *health, uint64_t now_ms, struct prng *prng,
                       struct outbox *outbox)
{
    for (size_t i = 0; i < HEALTH_PROBES_MAX; i++) {
        struct health_probe *probe = &health->probes[i];
        if (probe->target == 0) continue;
        if (health->time_ms >= probe->end_ms)
            conclude(health, probe);
        else if (health->time_ms >= probe->next_ms && probe->attempts < ATTEMPTS_MAX &&
                 !probe->quiet && !probe->relayed)
            attempt(health, probe, prng, outbox);
    }
    relays_tick(health, outbox);
    if (health->probe_soon) probe_failed(health, now_ms, prng, outbox);
    if (health->time_ms < health->next_probe_ms) return;
    health->next_probe_ms = health->time_ms + interval_ms(health);
    begin_round(health, now_ms, prng, outbox);
}

/* --- Answers --- */

static void take_relay(struct health *health, const struct health_message *message,
                       struct outbox *outbox)
{
    if (health_peer(health, message->target) == NULL) return;
    struct health_relay *relay = &health->relays[0];
    for (size_t i = 1; i < HEALTH_RELAYS_MAX && relay->target != 0; i++) {
        struct health_relay *other = &health->relays[i];
        if (other->target == 0 || other->end_ms < relay->end_ms) relay = other;
    }
    *relay = (struct health_relay){.target = message->target,
                                   .origin = message->sender.id,
                                   .nonce = health->nonce++,
                                   .origin_nonce = message->nonce,
                                   .silent_ms = health->time_ms + HEALTH_INTERVAL_MS / 4,
                                   .end_ms = health->time_ms + HEALTH_INTERVAL_MS};
    send_probe(health, relay->target, relay->nonce, 0, outbox);
}

/* It answered: it lives, and the way there and back is open. */
static void take_answer(struct health *health, const struct health_message *message,
                        uint64_t now_ms, struct outbox *outbox)
{
    node_id from = message->sender.id;
    struct health_peer *peer = health_peer(health, from);
    struct health_probe *probe = probe_of(health, from);
    if (probe != NULL && probe->nonce == message->nonce) {
        if (probe->attempts == 1 && peer->latency == NULL) {
            struct health_view *view = &health->table.views[peer - health->peers];
            uint64_t took_ms = now_ms > probe->begun_now_ms ? now_ms - probe->begun_now_ms : 0;
            health_view_measure(view, (uint32_t)u64_min(took_ms, HEALTH_INTERVAL_MS) * 1000);
        }
        *probe = (struct health_probe){0};
        peer->via = 0;
        peer->timeouts = 0;
        peer->closed = false;
        health_show(health, peer);
        health_slower(health, -1);
        return;
    }
    for (size_t i = 0; i < HEALTH_RELAYS_MAX; i++) {
        struct health_relay *relay = &health->relays[i];
        if (relay->target != from || relay->nonce != message->nonce) continue;
        send_about(health, relay->origin, HEALTH_RELAYED, relay->origin_nonce, from, outbox);
        relay->target = 0;
        return;
    }
}

/* A helper's word on the target of our probe. */
static void take_help(struct health *health, const struct health_message *message)
{
    struct health_probe *probe = probe_of(health, message->target);
    struct health_peer *peer = health_peer(health, message->target);
    if (probe == NULL || peer == NULL || probe->nonce != message->nonce) return;
    if (message->kind == HEALTH_SILENT) {
        if (probe->silents < probe->helpers) probe->silents++;
        return;
    }
    if (probe->helpers == 0 || probe->relayed) return;
    TRACE(health->trace, "n%u answers n%u", message->target, message->sender.id);
    probe->relayed = true;
    peer->via = message->sender.id;
    health_slower(health, -1);
}

void health_probe_receive(struct health *health, const struct health_message *message,
                          uint64_t now_ms, bool known, struct prng *prng, struct outbox *outbox)
{
    (void)prng;
    node_id from = message->sender.id;
    if (message->kind == HEALTH_PROBE) {
        /* A stranger gets an answer too: it learns that there is a newer map. */
        struct buf *out = health_begin(health, outbox, from, HEALTH_ANSWER);
        buf_append_u32le(out, message->nonce);
        size_t room = known ? health_room(health, HEALTH_PIGGYBACK_BYTES) : 0;
        health_append_facts(health, out, from, 0, room);
        health_end(health, outbox);
    }
    if (!known) return;
    if (message->kind == HEALTH_RELAY) take_relay(health, message, outbox);
    if (message->kind == HEALTH_ANSWER) take_answer(health, message, now_ms, outbox);
    if (message->kind == HEALTH_RELAYED || message->kind == HEALTH_SILENT)
        take_help(health, message);
}
