/* Nodes that talk health over a network of one seed: delay, loss, copies, reordering, cuts by
 * direction, pauses, clocks that jump or stand still. Virtual time; the same seed, the same run. */
#pragma once

#include <inttypes.h>
#include <string.h>

#include "base/check.h"
#include "cluster/health.h"
#include "test.h"

enum { CLUSTER = 77, GENERATION = 5, FETCH_MS = 50, CLOCK_MS = 1000000000 };

struct node {
    struct health *health;
    struct identity identity;
    struct network *network;
    struct prng prng;
    struct trace trace;
    bool up, paused, frozen;
    int64_t clock_ms;       /* What its clock is ahead. */
    uint64_t frozen_ms;     /* What a clock that stands still shows. */
    uint64_t map, fetch_ms; /* Known and acknowledged; when a newer one arrives, 0: none will. */
    uint64_t fetched;
    uint32_t epoch; /* Counts processes: ticks of an earlier one are void. */
};

struct happening {
    uint64_t at_ms, turn; /* Turn: the order among equal times. */
    uint32_t node;        /* Index of who gets it. */
    uint32_t from;        /* Index of who sent it. */
    uint32_t epoch;
    uint32_t size; /* 0: a tick. */
    uint8_t *bytes;
};

struct network {
    struct heap heap;
    struct prng prng;
    size_t count;
    struct node *nodes;
    struct health_member *members;
    struct happening *queue; /* A binary heap. */
    size_t queue_count, queue_capacity;
    uint64_t now_ms, turn;
    uint8_t *cut; /* From, to. */

    uint32_t delay_min_ms, delay_max_ms;
    uint32_t loss_permille, copy_permille;
    bool fetches; /* Who hears of a newer map has and acknowledges it FETCH_MS later. */

    /* What happened. */
    uint16_t *died, *returned; /* Observer, subject. */
    uint64_t *died_ms;         /* When last; observer, subject. */
    uint64_t died_count, returned_count, restarted_count, twin_count, generation_count;
    uint64_t message_count;

    struct buf story; /* Lines, when `listens`. */
    bool listens;
};

static inline void network_line(void *context, const char *line)
{
    struct node *node = context;
    struct network *network = node->network;
    if (!network->listens) return;
    buf_printf(&network->story, "[%6" PRIu64 "] n%u %s\n", network->now_ms, node->identity.id,
               line);
}

/* --- The queue --- */

static inline bool before(const struct happening *a, const struct happening *b)
{
    return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->turn < b->turn;
}

static inline void push(struct network *network, struct happening happening)
{
    if (network->queue_count == network->queue_capacity) {
        network->queue_capacity = network->queue_capacity * 2 + 64;
        network->queue = heap_realloc(&network->heap, network->queue,
                                      network->queue_capacity * sizeof *network->queue);
        CHECK(network->queue != NULL);
    }
    happening.turn = network->turn++;
    struct happening *queue = network->queue;
    size_t at = network->queue_count++;
    for (; at > 0 && before(&happening, &queue[(at - 1) / 2]); at = (at - 1) / 2)
        queue[at] = queue[(at - 1) / 2];
    queue[at] = happening;
}

static inline struct happening pop(struct network *network)
{
    struct happening *queue = network->queue;
    struct happening top = queue[0], last = queue[--network->queue_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= network->queue_count) break;
        if (child + 1 < network->queue_count && before(&queue[child + 1], &queue[child])) child++;
        if (!before(&queue[child], &last)) break;
        queue[at] = queue[child];
        at = child;
    }
    if (network->queue_count > 0) queue[at] = last;
    return top;
}

/* --- Nodes --- */

static inline uint64_t node_clock(const struct node *node)
{
    if (node->frozen) return node->frozen_ms;
    return (uint64_t)(CLOCK_MS + (int64_t)node->network->now_ms + node->clock_ms);
}

static inline void network_tick_at(struct network *network, size_t index, uint64_t at_ms)
{
    push(network, (struct happening){.at_ms = at_ms,
                                     .node = (uint32_t)index,
                                     .epoch = network->nodes[index].epoch});
}

/* Starts a process on the node's directory: its next boot. */
static inline void network_start(struct network *network, size_t index)
{
    struct node *node = &network->nodes[index];
    CHECK(!node->up);
    node->up = true;
    node->paused = false;
    node->epoch++;
    node->identity.boot++;
    node->trace = (struct trace){network_line, node};
    struct health_options options = {.self = node->identity,
                                     .cluster = CLUSTER,
                                     .zone = (uint32_t)(index % 3),
                                     .address_tag = (uint32_t)index,
                                     .heap = &network->heap,
                                     .trace = &node->trace};
    CHECK(health_create(&options, &node->prng, &node->health) == STATUS_OK);
    CHECK(health_set_members(node->health, network->members, network->count, &node->prng) ==
          STATUS_OK);
    health_set_map(node->health, GENERATION, node->map, node->map);
    memset(&network->died[index * network->count], 0, network->count * sizeof *network->died);
    memset(&network->returned[index * network->count], 0,
           network->count * sizeof *network->returned);
    network_tick_at(network, index, network->now_ms + prng_below(&network->prng, HEALTH_TICK_MS));
}

static inline void network_kill(struct network *network, size_t index)
{
    struct node *node = &network->nodes[index];
    health_destroy(node->health);
    node->health = NULL;
    node->up = false;
}

static inline struct network *network_create(size_t count, uint64_t seed)
{
    static struct network made;
    struct network *network = &made;
    *network = (struct network){.count = count,
                                .prng = {.state = seed},
                                .now_ms = 1000,
                                .delay_min_ms = 1,
                                .delay_max_ms = 10};
    heap_init(&network->heap, 0);
    buf_init(&network->story, &network->heap);
    network->nodes = heap_zalloc(&network->heap, count * sizeof *network->nodes);
    network->members = heap_zalloc(&network->heap, count * sizeof *network->members);
    network->cut = heap_zalloc(&network->heap, count * count);
    network->died = heap_zalloc(&network->heap, count * count * sizeof *network->died);
    network->returned = heap_zalloc(&network->heap, count * count * sizeof *network->returned);
    network->died_ms = heap_zalloc(&network->heap, count * count * sizeof *network->died_ms);
    for (size_t i = 0; i < count; i++) {
        struct node *node = &network->nodes[i];
        node->network = network;
        node->identity = (struct identity){(node_id)(i + 1), prng_u64(&network->prng), 0};
        node->prng.state = prng_u64(&network->prng);
        node->map = 1;
        network->members[i] = (struct health_member){.id = node->identity.id,
                                                     .incarnation = node->identity.incarnation,
                                                     .zone = (uint32_t)(i % 3)};
    }
    for (size_t i = 0; i < count; i++) network_start(network, i);
    return network;
}

static inline void network_destroy(struct network *network)
{
    for (size_t i = 0; i < network->count; i++) health_destroy(network->nodes[i].health);
    for (size_t i = 0; i < network->queue_count; i++)
        heap_free(&network->heap, network->queue[i].bytes);
    heap_free(&network->heap, network->queue);
    heap_free(&network->heap, network->nodes);
    heap_free(&network->heap, network->members);
    heap_free(&network->heap, network->cut);
    heap_free(&network->heap, network->died);
    heap_free(&network->heap, network->returned);
    heap_free(&network->heap, network->died_ms);
    buf_deinit(&network->story);
    EXPECT(heap_used_bytes(&network->heap) == 0);
}

/* --- Wires --- */

static inline void network_cut(struct network *network, size_t from, size_t to, bool cut)
{
    network->cut[from * network->count + to] = cut;
}

/* Those before `size` and the others hear nothing of each other, or again everything. */
static inline void network_split(struct network *network, size_t size, bool cut)
{
    for (size_t i = 0; i < network->count; i++) {
        for (size_t j = 0; j < network->count; j++) {
            if ((i < size) != (j < size)) network_cut(network, i, j, cut);
        }
    }
}

static inline bool permille(struct network *network, uint32_t permille_)
{
    return permille_ != 0 && prng_below(&network->prng, 1000) < permille_;
}

static inline void deliver_later(struct network *network, size_t from, size_t to,
                                 struct slice bytes)
{
    if (permille(network, network->loss_permille)) return;
    uint32_t spread = network->delay_max_ms - network->delay_min_ms + 1;
    uint8_t *copy = heap_alloc(&network->heap, bytes.size);
    CHECK(copy != NULL);
    memcpy(copy, bytes.data, bytes.size);
    uint64_t delay_ms = network->delay_min_ms + prng_below(&network->prng, spread);
    push(network, (struct happening){.at_ms = network->now_ms + delay_ms,
                                     .node = (uint32_t)to,
                                     .from = (uint32_t)from,
                                     .size = (uint32_t)bytes.size,
                                     .bytes = copy});
}

static inline void send_all(struct network *network, size_t from, const struct outbox *outbox)
{
    for (size_t i = 0; i < outbox->count; i++) {
        size_t to = outbox->messages[i].to - 1U;
        CHECK(to < network->count);
        EXPECT(to != from);
        network->message_count++;
        if (network->cut[from * network->count + to] != 0) continue;
        deliver_later(network, from, to, outbox_bytes(outbox, i));
        if (permille(network, network->copy_permille))
            deliver_later(network, from, to, outbox_bytes(outbox, i));
    }
}

/* --- Time --- */

static inline void take_events(struct network *network, size_t index)
{
    struct node *node = &network->nodes[index];
    struct health_event event;
    while (health_next_event(node->health, &event)) {
        size_t at = index * network->count + event.peer - 1U;
        switch (event.kind) {
        case HEALTH_DIED:
            /* Invariant 3: in turns. */
            EXPECT(network->died[at] == network->returned[at]);
            network->died[at]++;
            network->died_ms[at] = network->now_ms;
            network->died_count++;
            break;
        case HEALTH_RETURNED:
            network->returned[at]++;
            EXPECT(network->died[at] == network->returned[at]);
            network->returned_count++;
            break;
        case HEALTH_RESTARTED:
            network->restarted_count++;
            break;
        case HEALTH_MAP_AHEAD:
            node->fetched = event.number;
            if (node->fetch_ms == 0) node->fetch_ms = network->now_ms + FETCH_MS;
            break;
        case HEALTH_TWIN:
            network->twin_count++;
            break;
        case HEALTH_OTHER_GENERATION:
            network->generation_count++;
            break;
        }
    }
    EXPECT(health_counts(node->health)->events_dropped == 0);
}

static inline void have_map(struct node *node, uint64_t number)
{
    node->map = number;
    node->fetch_ms = 0;
    health_set_map(node->health, GENERATION, number, number);
}

static inline void happen(struct network *network, struct happening *happening,
                          struct outbox *outbox)
{
    struct node *node = &network->nodes[happening->node];
    size_t index = happening->node;
    bool tick = happening->bytes == NULL;
    if (tick && happening->epoch != node->epoch) return;
    if (!node->up) return;
    if (node->paused) {
        /* What comes meanwhile waits in the socket. */
        happening->at_ms = network->now_ms + HEALTH_TICK_MS / 2;
        push(network, *happening);
        happening->bytes = NULL;
        return;
    }
    outbox_clear(outbox);
    if (tick) {
        if (network->fetches && node->fetch_ms != 0 && network->now_ms >= node->fetch_ms)
            have_map(node, node->fetched);
        health_tick(node->health, node_clock(node), &node->prng, outbox);
        network_tick_at(network, index, network->now_ms + HEALTH_TICK_MS);
    } else {
        node_id from = (node_id)(happening->from + 1);
        struct slice bytes = slice_of(happening->bytes, happening->size);
        EXPECT(health_receive(node->health, from, bytes, node_clock(node), &node->prng, outbox) ==
               STATUS_OK);
    }
    take_events(network, index);
    send_all(network, index, outbox);
}

static inline void network_run(struct network *network, uint64_t duration_ms)
{
    uint64_t end_ms = network->now_ms + duration_ms;
    struct outbox outbox;
    outbox_init(&outbox, &network->heap);
    while (network->queue_count > 0 && network->queue[0].at_ms <= end_ms) {
        struct happening happening = pop(network);
        network->now_ms = happening.at_ms;
        happen(network, &happening, &outbox);
        heap_free(&network->heap, happening.bytes);
    }
    network->now_ms = end_ms;
    outbox_deinit(&outbox);
}

/* --- Questions --- */

static inline unsigned network_state(const struct network *network, size_t observer, size_t subject)
{
    return health_of(network->nodes[observer].health, (node_id)(subject + 1)).state;
}

/* How many of those that run see the subject so. */
static inline size_t network_seen(const struct network *network, size_t subject, unsigned state)
{
    size_t seen = 0;
    for (size_t i = 0; i < network->count; i++) {
        if (network->nodes[i].up && i != subject)
            seen += network_state(network, i, subject) == state;
    }
    return seen;
}

/* Pairs of running nodes that do not see each other alive. */
static inline size_t network_unseen_pairs(const struct network *network)
{
    size_t pairs = 0;
    for (size_t i = 0; i < network->count; i++) {
        for (size_t j = 0; j < network->count; j++) {
            if (i == j || !network->nodes[i].up || !network->nodes[j].up) continue;
            pairs += network_state(network, i, j) != HEALTH_ALIVE;
        }
    }
    return pairs;
}

static inline uint64_t network_sent_bytes(const struct network *network, size_t index)
{
    return health_counts(network->nodes[index].health)->sent_bytes;
}

/* --- Measuring --- */

/* For the page, when HEALTH_FIGURES is set. */
__attribute__((format(printf, 1, 2))) static inline void figure(const char *format, ...)
{
    if (getenv("HEALTH_FIGURES") == NULL) return;
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    fflush(stdout);
}

/* Until no pair is unseen; returns how long that took, or the limit. */
static inline uint64_t run_until_seen(struct network *network, uint64_t limit_ms)
{
    uint64_t begun_ms = network->now_ms;
    while (network->now_ms - begun_ms < limit_ms && network_unseen_pairs(network) > 0)
        network_run(network, HEALTH_TICK_MS);
    return network->now_ms - begun_ms;
}

static inline uint64_t run_until_acknowledged(struct network *network, uint64_t number,
                                              uint64_t limit_ms)
{
    uint64_t begun_ms = network->now_ms;
    for (size_t all = 0; all < network->count && network->now_ms - begun_ms < limit_ms;) {
        network_run(network, HEALTH_TICK_MS);
        all = 0;
        for (size_t i = 0; i < network->count; i++) {
            all += health_acknowledged_min(network->nodes[i].health, network->members,
                                           network->count) == number;
        }
    }
    return network->now_ms - begun_ms;
}
