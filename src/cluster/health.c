#include "cluster/health.h"

#include <string.h>

#include "base/check.h"
#include "base/math.h"
#include "base/planted.h"
#include "cluster/health_private.h"

enum {
    STEP_MS_MAX = 2 * HEALTH_TICK_MS, /* Longer between two steps: the rest did not happen. */
    TOKENS_MAX = 2 * HEALTH_BYTES_PER_S,
    EVENTS_A_MEMBER = 4,
    EVENTS_MIN = 16,
    TIMEOUTS_BAD = 2,           /* In a row; then the peer is as good as suspect from here. */
    LOAD_CARD_MS = 5000,        /* From one card about load to the next, at least; */
    LOAD_CARD_MS_A_MEMBER = 30, /* so that all together tell some 33 a second. */
    LOAD_STEP = 2,              /* In codes: doubled or halved. */
};

/* --- A node --- */

enum status health_create(const struct health_options *options, struct prng *prng,
                          struct health **out)
{
    CHECK(options->self.id != 0);
    CHECK(options->self.boot != 0);
    struct health *health = heap_zalloc(options->heap, sizeof *health);
    if (health == NULL) return STATUS_NOMEM;
    health->heap = options->heap;
    health->trace = options->trace;
    health->cluster = options->cluster;
    health->self = (struct health_card){.id = options->self.id,
                                        .incarnation = options->self.incarnation,
                                        .boot = options->self.boot,
                                        .sequence = 1,
                                        .zone = options->zone,
                                        .address_tag = options->address_tag};
    health->nonce = prng_u32(prng);
    /* Nodes that start together do not probe together. */
    health->next_probe_ms = prng_below(prng, HEALTH_INTERVAL_MS);
    health->next_sync_ms = prng_below(prng, HEALTH_SYNC_MS);
    health->tokens = TOKENS_MAX;
    health_queues_init(health);
    enum status status = health_set_members(health, NULL, 0, prng);
    if (status != STATUS_OK) {
        health_destroy(health);
        return status;
    }
    *out = health;
    return STATUS_OK;
}

void health_destroy(struct health *health)
{
    if (health == NULL) return;
    struct heap *heap = health->heap;
    for (size_t i = 0; i < health->table.count; i++) heap_free(heap, health->peers[i].latency);
    heap_free(heap, health->peers);
    heap_free(heap, health->order);
    heap_free(heap, health->events);
    health_table_deinit(&health->table);
    heap_free(heap, health);
}

/* --- Members --- */

/* What set_members() puts in place of what there was. */
struct membership {
    struct health_table table;
    struct health_peer *peers;
    uint32_t *order;
    struct health_event *events;
    size_t event_capacity;
};

static void membership_free(struct heap *heap, struct membership *made)
{
    health_table_deinit(&made->table);
    heap_free(heap, made->peers);
    heap_free(heap, made->order);
    heap_free(heap, made->events);
}

static enum status membership_make(struct health *health, const struct health_member *members,
                                   size_t count, struct membership *made)
{
    struct heap *heap = health->heap;
    *made = (struct membership){.event_capacity = EVENTS_A_MEMBER * count + EVENTS_MIN};
    enum status status = health_table_init(&made->table, heap, count);
    for (size_t i = 0; i < count && status == STATUS_OK; i++)
        status = health_table_add(&made->table, members[i].id);
    if (status != STATUS_OK) return status;
    made->peers = heap_zalloc(heap, (count + 1) * sizeof *made->peers);
    made->order = heap_alloc(heap, (count + 1) * sizeof *made->order);
    made->events = heap_alloc(heap, made->event_capacity * sizeof *made->events);
    bool all = made->peers != NULL && made->order != NULL && made->events != NULL;
    return all ? STATUS_OK : STATUS_NOMEM;
}

static void shuffle(uint32_t *order, size_t count, struct prng *prng)
{
    for (size_t i = 0; i < count; i++) {
        size_t other = prng_below(prng, (uint32_t)i + 1);
        order[i] = order[other];
        order[other] = (uint32_t)i;
    }
}

/* A member that stays keeps what is known of it, unless the map names another disk now. */
static void fill_place(struct health *health, struct membership *made, size_t place,
                       const struct health_member *member)
{
    struct health_peer *peer = &made->peers[place];
    struct health_view *view = &made->table.views[place];
    uint32_t before = health_place(health, member->id);
    if (before != HEALTH_NONE && health->peers[before].member.incarnation == member->incarnation) {
        *peer = health->peers[before];
        *view = health->table.views[before];
        health->peers[before].latency = NULL;
    } else {
        view->zone = member->zone;
    }
    peer->member = *member;
    if (member->id == health->self.id) peer->card = health->self;
}

/* The queues name places: they are filled again, in the order they had by sends. */
static void queue_again(struct health *health)
{
    health_queues_init(health);
    for (size_t i = 0; i < health->table.count; i++) {
        struct health_peer *peer = &health->peers[i];
        for (unsigned kind = 0; kind < FACT_COUNT; kind++) {
            if (!peer->queued[kind]) continue;
            peer->queued[kind] = false;
            health_tell(health, peer, (enum health_fact)kind, peer->queue[kind], peer->sends[kind]);
        }
    }
}

static void move_events(struct health *health, struct membership *made)
{
    size_t count = 0;
    struct health_event event;
    while (count < made->event_capacity && health_next_event(health, &event))
        made->events[count++] = event;
    health->event_at = 0;
    health->event_count = count;
}

enum status health_set_members(struct health *health, const struct health_member *members,
                               size_t count, struct prng *prng)
{
    for (size_t i = 0; i < count; i++) {
        CHECK(members[i].id != 0);
        CHECK(i == 0 || members[i - 1].id < members[i].id);
    }
    struct membership made;
    enum status status = membership_make(health, members, count, &made);
    if (status != STATUS_OK) {
        membership_free(health->heap, &made);
        return status;
    }
    for (size_t i = 0; i < count; i++) fill_place(health, &made, i, &members[i]);
    shuffle(made.order, count, prng);
    move_events(health, &made);

    for (size_t i = 0; i < health->table.count; i++)
        heap_free(health->heap, health->peers[i].latency);
    struct membership old = {health->table, health->peers, health->order, health->events, 0};
    membership_free(health->heap, &old);
    health->table = made.table;
    health->peers = made.peers;
    health->order = made.order;
    health->events = made.events;
    health->event_capacity = made.event_capacity;
    health->order_at = 0;
    health->down_at = 0;
    health->watch_at = 0;
    health->next_expiry_ms = 0;
    queue_again(health);
    return STATUS_OK;
}

void health_set_seeds(struct health *health, const node_id *seeds, size_t count)
{
    CHECK(count <= HEALTH_SEEDS_MAX);
    if (count > 0) memcpy(health->seeds, seeds, count * sizeof *seeds);
    health->seed_count = count;
}

/* --- What this node says of itself --- */

static void mirror_self(struct health *health)
{
    uint32_t place = health_place(health, health->self.id);
    if (place != HEALTH_NONE) health->peers[place].card = health->self;
}

void health_publish(struct health *health)
{
    health->self.sequence++;
    mirror_self(health);
}

void health_begin_life(struct health *health, uint64_t boot)
{
    CHECK(boot > health->self.boot);
    health->self.boot = boot;
    health_publish(health);
}

/* Numbers of another generation mean nothing in this one. */
static void forget_numbers(struct health *health)
{
    for (size_t i = 0; i < health->table.count; i++) {
        health->peers[i].card.known = 0;
        health->peers[i].card.acknowledged = 0;
    }
    health->known_max = 0;
    health->other_generation = 0;
}

void health_set_map(struct health *health, uint64_t generation, uint64_t known,
                    uint64_t acknowledged)
{
    CHECK(acknowledged <= known);
    struct health_card *self = &health->self;
    if (generation == health->generation && known == self->known &&
        acknowledged == self->acknowledged)
        return;
    if (generation != health->generation) forget_numbers(health);
    health->generation = generation;
    self->known = known;
    self->acknowledged = acknowledged;
    health->known_max = u64_max(health->known_max, known);
    health_publish(health);
}

void health_set_load(struct health *health, uint32_t depth, uint32_t p95_us)
{
    health->depth = depth;
    uint32_t place = health_place(health, health->self.id);
    if (place != HEALTH_NONE) health->table.views[place].depth = depth;
    if (health->time_ms < health->next_load_ms) return;

    struct health_card *self = &health->self;
    uint8_t depth_code = health_code(depth), p95_code = health_code(p95_us);
    int moved = depth_code - self->depth_code, slowed = p95_code - self->p95_code;
    if (moved < LOAD_STEP && moved > -LOAD_STEP && slowed < LOAD_STEP && slowed > -LOAD_STEP)
        return;
    self->depth_code = depth_code;
    self->p95_code = p95_code;
    uint64_t pause_ms = u64_max(LOAD_CARD_MS, LOAD_CARD_MS_A_MEMBER * health->table.count);
    health->next_load_ms = health->time_ms + pause_ms;
    health_publish(health);
}

/* --- What this node sees --- */

void health_show(struct health *health, const struct health_peer *peer)
{
    unsigned state = peer->state;
    if (peer->timeouts >= TIMEOUTS_BAD && state == HEALTH_ALIVE) state = HEALTH_SUSPECT;
    if (peer->closed) state = HEALTH_DOWN;
    health->table.views[peer - health->peers].state = (uint8_t)state;
}

void health_heard(struct health *health, node_id id, uint32_t latency_us, uint32_t depth)
{
    struct health_peer *peer = health_peer(health, id);
    if (peer == NULL) return;
    struct health_view *view = &health->table.views[peer - health->peers];
    view->depth = depth;
    peer->closed = false;
    peer->timeouts = 0;
    peer->probe_soon = false;
    health_show(health, peer);

    /* Without memory the mean has to do. */
    if (peer->latency == NULL) peer->latency = heap_zalloc(health->heap, sizeof *peer->latency);
    if (peer->latency == NULL)
        health_view_measure(view, latency_us);
    else
        health_latency_add(peer->latency, view, latency_us, health->time_ms);
}

void health_failed(struct health *health, node_id id, enum health_failure failure)
{
    struct health_peer *peer = health_peer(health, id);
    if (peer == NULL) return;
    if (failure == HEALTH_CLOSED) peer->closed = true;
    if (peer->timeouts < UINT8_MAX) peer->timeouts++;
    peer->probe_soon = peer->state == HEALTH_ALIVE;
    health->probe_soon = true;
    health_show(health, peer);
}

/* --- Events --- */

void health_emit(struct health *health, enum health_event_kind kind, node_id peer, uint64_t number)
{
    if (health->event_count == health->event_capacity) {
        health->counts.events_dropped++;
        return;
    }
    size_t at = (health->event_at + health->event_count++) % health->event_capacity;
    health->events[at] = (struct health_event){kind, peer, number};
}

bool health_next_event(struct health *health, struct health_event *event)
{
    if (health->event_count == 0) return false;
    *event = health->events[health->event_at];
    health->event_at = (health->event_at + 1) % health->event_capacity;
    health->event_count--;
    return true;
}

/* --- Messages --- */

unsigned health_bits(size_t n)
{
    return n == 0 ? 0 : 64 - (unsigned)__builtin_clzll(n);
}

struct buf *health_begin(struct health *health, struct outbox *outbox, node_id to,
                         enum health_kind kind)
{
    struct buf *out = outbox_begin(outbox, to, PROTOCOL_HEALTH);
    health_append_head(out, kind, health->cluster, health->generation, &health->self,
                       health->depth);
    return out;
}

void health_end(struct health *health, struct outbox *outbox)
{
    size_t count = outbox->count;
    outbox_end(outbox, false);
    if (outbox->count == count) return;
    size_t size = outbox->messages[count].size;
    CHECK(size <= HEALTH_MESSAGE_BYTES_MAX);
    health->counts.sent_count++;
    health->counts.sent_bytes += size;
    health->tokens -= (int64_t)size;
    if (health->tokens < -HEALTH_BYTES_PER_S) health->tokens = -HEALTH_BYTES_PER_S;
}

/* Lets own time follow. A pause of this process, or a clock that was set, is no reason to find
 * others late: what passed unseen is left out. */
static void advance(struct health *health, uint64_t now_ms)
{
    uint64_t passed = health->began && now_ms > health->last_now_ms ? now_ms - health->last_now_ms
                                                                    : 0;
    health->began = true;
    health->last_now_ms = now_ms;
    if (passed > HEALTH_INTERVAL_MS) {
        TRACE(health->trace, "slept %llu ms", (unsigned long long)passed);
        health_slower(health, 1);
    }
    passed = u64_min(passed, STEP_MS_MAX);
    health->time_ms += passed;
    health->tokens += (int64_t)(passed * HEALTH_BYTES_PER_S / 1000);
    if (health->tokens > TOKENS_MAX) health->tokens = TOKENS_MAX;
}

void health_tick(struct health *health, uint64_t now_ms, struct prng *prng, struct outbox *outbox)
{
    advance(health, now_ms);
    health_suspicions_expire(health);
    health_probe_tick(health, now_ms, prng, outbox);
    health_sync_tick(health, prng, outbox);
}

/* Another cluster's or generation's, or our own come back: not for us. */
static bool foreign(struct health *health, node_id from, const struct health_message *message)
{
    if (message->cluster != health->cluster) {
        health->counts.foreign_count++;
        return true;
    }
    /* A node without a map belongs to no generation yet: it may ask, and be told. */
    if (message->generation == 0 || health->generation == 0) return false;
    if (message->generation == health->generation) return false;
    health->counts.foreign_count++;
    if (message->generation != health->other_generation) {
        health->other_generation = message->generation;
        TRACE(health->trace, "n%u is of another generation", from);
        health_emit(health, HEALTH_OTHER_GENERATION, from, message->generation);
    }
    return true;
}

enum status health_receive(struct health *health, node_id from, struct slice bytes, uint64_t now_ms,
                           struct prng *prng, struct outbox *outbox)
{
    struct health_message message;
    enum status status = health_decode(bytes, &message);
    if (status == STATUS_OK && message.sender.id != from) status = STATUS_INVALID;
    if (status != STATUS_OK) {
        health->counts.invalid_count++;
        return status;
    }
    advance(health, now_ms);
    if (foreign(health, from, &message)) return STATUS_OK;
    bool known = health_take_sender(health, &message);
    if (from == health->self.id) return STATUS_OK;
    bool rebutted = known && health_take_facts(health, &message);
    health_probe_receive(health, &message, now_ms, known, prng, outbox);
    if (known) health_sync_receive(health, &message, prng, outbox);
    /* Whoever thought this node dead should hear of its new life, and say that it did. An answer
     * says it anyway. */
    if (rebutted && message.kind != HEALTH_PROBE)
        health_probe_now(health, from, now_ms, true, prng, outbox);
    return STATUS_OK;
}

/* --- Questions --- */

const struct health_table *health_cache(const struct health *health)
{
    return &health->table;
}

struct health_view health_of(const struct health *health, node_id peer)
{
    return health_table_of(&health->table, peer);
}

const struct health_card *health_card_of(const struct health *health, node_id id)
{
    uint32_t place = health_place(health, id);
    if (place == HEALTH_NONE || health->peers[place].card.boot == 0) return NULL;
    return &health->peers[place].card;
}

uint64_t health_acknowledged_min(const struct health *health, const struct health_member *members,
                                 size_t count)
{
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < count; i++) {
        uint64_t number = 0;
        uint32_t place = health_place(health, members[i].id);
        if (members[i].id == health->self.id) {
            if (members[i].incarnation == health->self.incarnation)
                number = health->self.acknowledged;
        } else if (place != HEALTH_NONE) {
            const struct health_peer *peer = &health->peers[place];
            const struct health_card *card = &peer->card;
            bool newest = card->boot == peer->boot || planted(BUG_ACKNOWLEDGED_BY_ANY_BOOT);
            if (card->incarnation == members[i].incarnation && newest) number = card->acknowledged;
        }
        least = u64_min(least, number);
    }
    return count == 0 ? 0 : least;
}

const struct health_counts *health_counts(const struct health *health)
{
    return &health->counts;
}
