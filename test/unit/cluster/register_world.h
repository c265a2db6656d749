/* A few nodes with registers, boot counters, disks and a network, driven as node/replica drives
 * them: messages marked durable leave after the disk is done, a message to the node itself goes
 * the same way, maps travel to those who lack them.
 *
 * One seed decides everything. After each step it is checked that what a node learns for a map
 * is what every other one learned for it. */
#pragma once

#include "base/check.h"
#include "base/prng.h"
#include "cluster/boots.h"
#include "cluster/register.h"
#include "cluster/register_state.h"
#include "test.h"

enum {
    WORLD_NODE_COUNT_MAX = 8,
    WORLD_MAP_COUNT_MAX = 16,
    WORLD_DELTA_BYTES_MAX = 32,
    WORLD_STORY_BYTES = 1 << 16,
    PROTOCOL_MAP = 200, /* Of the test: a whole map. */
};

struct world_options {
    unsigned node_count;
    unsigned registrar_count; /* 0: another odd number of others with each map. */
    unsigned loss_percent, double_percent;
    uint32_t delay_ms, sync_ms; /* At most; 0: always 1. */
    bool quiet;                 /* No story. */
};

enum world_event_kind { EVENT_MESSAGE, EVENT_SYNC };

/* A packet on its way, or a sync with the messages that wait for it. */
struct world_event {
    enum world_event_kind kind;
    uint64_t at_ms, order;
    node_id from, to;                 /* EVENT_SYNC: the node, twice. */
    unsigned life;                    /* EVENT_SYNC: of the node; another one drops it. */
    uint64_t map_number;              /* EVENT_SYNC: `state` is of the instance after it. */
    struct buf bytes;                 /* EVENT_MESSAGE. */
    struct buf state, starts, record; /* EVENT_SYNC: empty: not written. */
    node_id record_id;
    struct outbox waiting;
};

/* What survives a crash. */
struct world_disk {
    struct register_map map;
    struct buf state, starts, records[WORLD_NODE_COUNT_MAX];
};

struct world_node {
    node_id id;
    bool up;
    unsigned life;
    struct prng prng;
    struct register_node node;
    struct boots boots;
    struct world_disk disk;
    uint64_t synced_ms; /* Syncs end in order. */
};

struct world {
    struct world_options options;
    struct heap heap;
    struct prng prng;
    struct trace trace;
    uint64_t now_ms, order;
    struct world_node nodes[WORLD_NODE_COUNT_MAX]; /* By id - 1. */
    bool cut[WORLD_NODE_COUNT_MAX][WORLD_NODE_COUNT_MAX];
    struct world_event *events;
    size_t event_count, event_capacity;
    struct register_map maps[WORLD_MAP_COUNT_MAX + 1]; /* By number: as first learned. */
    uint8_t deltas[WORLD_MAP_COUNT_MAX + 1][WORLD_DELTA_BYTES_MAX];
    size_t delta_sizes[WORLD_MAP_COUNT_MAX + 1];
    bool boots_rule_off;
    unsigned conflicts; /* Learned otherwise than before. */
    bool conflicts_allowed;
    char story[WORLD_STORY_BYTES];
    size_t story_size;
};

static inline struct world_node *world_node(struct world *world, node_id id)
{
    return &world->nodes[id - 1];
}

static inline void world_tell(void *context, const char *line)
{
    struct world *world = context;
    size_t left = sizeof world->story - world->story_size;
    int size = snprintf(world->story + world->story_size, left, "[%4llu] %s\n",
                        (unsigned long long)world->now_ms, line);
    if (size > 0 && (size_t)size < left) world->story_size += (size_t)size;
}

/* The story since it was asked for last is as expected. */
#define EXPECT_STORY(world, expected)                                                              \
    do {                                                                                           \
        if (strcmp((world)->story, expected) != 0) {                                               \
            fprintf(stderr, "expected:\n%stold:\n%s", expected, (world)->story);                   \
        }                                                                                          \
        EXPECT(strcmp((world)->story, expected) == 0);                                             \
        world_story_clear(world);                                                                  \
    } while (0)

static inline void world_story_clear(struct world *world)
{
    world->story_size = 0;
    world->story[0] = 0;
}

/* --- Maps --- */

static inline uint64_t world_incarnation(node_id id)
{
    return 1000 + id;
}

/* Who chooses the next map: the first ones, or as the hash says. */
static inline void world_name_registrars(const struct world *world, struct register_map *map)
{
    unsigned count = world->options.registrar_count;
    struct prng prng = {.state = map->hash.low};
    unsigned nodes = world->options.node_count;
    unsigned chosen = 0;
    if (count == 0) {
        unsigned odd = (nodes > REGISTRAR_COUNT_MAX ? REGISTRAR_COUNT_MAX : nodes) / 2;
        count = 3 + 2 * prng_below(&prng, odd < 2 ? 1 : odd);
        if (count > nodes) count = nodes - (nodes % 2 == 0);
        while ((unsigned)__builtin_popcount(chosen) < count)
            chosen |= 1u << prng_below(&prng, nodes);
    } else {
        chosen = (1u << count) - 1;
    }
    map->registrar_count = 0;
    for (unsigned i = 0; i < nodes; i++) {
        if (!(chosen >> i & 1)) continue;
        node_id id = (node_id)(i + 1);
        map->registrars[map->registrar_count++] = (struct registrar){id, world_incarnation(id)};
    }
}

/* The map that a delta makes. */
static inline struct register_map world_apply(const struct world *world,
                                              const struct register_map *map, struct slice delta)
{
    struct register_map next = {.generation = map->generation, .number = map->number + 1};
    uint64_t hash = map->hash.low * 31 + map->number;
    for (size_t i = 0; i < delta.size; i++) hash = (hash ^ delta.data[i]) * UINT64_C(0x100000001b3);
    next.hash = (struct hash128){hash, ~hash};
    world_name_registrars(world, &next);
    return next;
}

/* --- The network --- */

static inline struct world_event *world_event_add(struct world *world, enum world_event_kind kind,
                                                  uint64_t at_ms)
{
    if (world->event_count == world->event_capacity) {
        world->event_capacity = world->event_capacity == 0 ? 64 : world->event_capacity * 2;
        world->events = heap_realloc(&world->heap, world->events,
                                     world->event_capacity * sizeof *world->events);
        CHECK(world->events != NULL);
    }
    struct world_event *event = &world->events[world->event_count++];
    *event = (struct world_event){.kind = kind, .at_ms = at_ms, .order = world->order++};
    event->bytes.heap = event->state.heap = event->starts.heap = event->record.heap = &world->heap;
    outbox_init(&event->waiting, &world->heap);
    return event;
}

static inline void world_event_free(struct world_event *event)
{
    buf_deinit(&event->bytes);
    buf_deinit(&event->state);
    buf_deinit(&event->starts);
    buf_deinit(&event->record);
    outbox_deinit(&event->waiting);
}

static inline uint64_t world_delay(struct world *world, uint32_t max_ms)
{
    return max_ms == 0 ? 1 : 1 + prng_below(&world->prng, max_ms);
}

static inline void world_send(struct world *world, node_id from, node_id to, struct slice bytes)
{
    bool own = from == to;
    unsigned copies = 1;
    if (!own && world->options.double_percent > prng_below(&world->prng, 100)) copies++;
    for (unsigned i = 0; i < copies; i++) {
        bool lost = world->options.loss_percent > prng_below(&world->prng, 100);
        if (!own && (lost || world->cut[from - 1][to - 1])) continue;
        uint64_t delay_ms = own ? 0 : world_delay(world, world->options.delay_ms);
        struct world_event *event = world_event_add(world, EVENT_MESSAGE, world->now_ms + delay_ms);
        event->from = from;
        event->to = to;
        buf_append_slice(&event->bytes, bytes);
    }
}

static inline void world_send_map(struct world *world, node_id from, node_id to)
{
    const struct register_map *map = &world_node(world, from)->node.map;
    struct buf bytes = {.heap = &world->heap};
    buf_append_u8(&bytes, PROTOCOL_MAP);
    buf_append(&bytes, map, sizeof *map);
    world_send(world, from, to, buf_slice(&bytes));
    buf_deinit(&bytes);
}

/* --- What a step wants --- */

static inline void world_save_state(struct world_node *at, struct buf *out)
{
    buf_clear(out);
    register_encode_state(&at->node, out);
}

/* Messages leave, or wait for the disk with what it has to write. A message that is durable
 * waits for what was written before it too: syncs end in order. */
static inline void world_take(struct world *world, struct world_node *at, struct outbox *outbox,
                              bool store_state, const struct boots_news *boots_news)
{
    bool waits = store_state || boots_news->store_starts || boots_news->store_record != 0;
    for (size_t i = 0; i < outbox->count; i++) waits |= outbox->messages[i].durable;
    if (waits) {
        uint64_t end_ms = world->now_ms + world_delay(world, world->options.sync_ms);
        at->synced_ms = end_ms > at->synced_ms ? end_ms : at->synced_ms;
        struct world_event *event = world_event_add(world, EVENT_SYNC, at->synced_ms);
        event->from = event->to = at->id;
        event->life = at->life;
        event->map_number = at->node.map.number;
        if (store_state) world_save_state(at, &event->state);
        if (boots_news->store_starts) starts_encode(&at->boots.starts, &event->starts);
        event->record_id = boots_news->store_record;
        if (event->record_id != 0) {
            boot_encode(*boots_record(&at->boots, event->record_id), &event->record);
        }
        for (size_t i = 0; i < outbox->count; i++) {
            if (!outbox->messages[i].durable) continue;
            struct slice bytes = outbox_bytes(outbox, i);
            struct buf *out =
                outbox_begin(&event->waiting, outbox->messages[i].to, (enum protocol)bytes.data[0]);
            buf_append_slice(out, slice_from(bytes, 1));
            outbox_end(&event->waiting, true);
        }
    }
    for (size_t i = 0; i < outbox->count; i++) {
        if (outbox->messages[i].durable) continue;
        world_send(world, at->id, outbox->messages[i].to, outbox_bytes(outbox, i));
    }
    outbox_clear(outbox);
}

static inline void world_set_voting(struct world *world, struct world_node *at)
{
    register_set_voting(&at->node, world->boots_rule_off || boots_may_vote(&at->boots));
}

/* The map and the state of the register go to the disk in one batch, at once. */
static inline void world_set_map(struct world *world, struct world_node *at,
                                 const struct register_map *map)
{
    if (register_set_map(&at->node, map) != STATUS_OK) return;
    boots_set_map(&at->boots, map, world->now_ms);
    at->disk.map = *map;
    world_save_state(at, &at->disk.state);
    world_set_voting(world, at);
}

/* A node has learned what the next map is: so has everybody, the same. */
static inline void world_decided(struct world *world, struct world_node *at)
{
    struct register_value value;
    EXPECT(register_decision(&at->node, &value));
    EXPECT(hash128_equal(value.predecessor, at->node.map.hash));
    struct register_map next = world_apply(world, &at->node.map, value.delta);
    EXPECT(next.number <= WORLD_MAP_COUNT_MAX && value.delta.size <= WORLD_DELTA_BYTES_MAX);
    size_t *known_size = &world->delta_sizes[next.number];
    uint8_t *known = world->deltas[next.number];
    if (*known_size == 0) {
        world->maps[next.number] = next;
        *known_size = value.delta.size;
        memcpy(known, value.delta.data, value.delta.size);
    } else if (!slice_equal(slice_of(known, *known_size), value.delta)) {
        world->conflicts++;
        EXPECT(world->conflicts_allowed);
    }
    world_set_map(world, at, &next);
}

/* --- Steps --- */

static inline void world_tick(struct world *world, struct world_node *at)
{
    struct outbox outbox;
    struct boots_news none = {0};
    outbox_init(&outbox, &world->heap);
    if (register_next_ms(&at->node) <= world->now_ms) {
        register_tick(&at->node, world->now_ms, &at->prng, &outbox);
    }
    if (boots_next_ms(&at->boots) <= world->now_ms) {
        boots_tick(&at->boots, world->now_ms, &at->prng, &outbox);
    }
    world_take(world, at, &outbox, false, &none);
    outbox_deinit(&outbox);
}

static inline void world_receive(struct world *world, struct world_node *at, node_id from,
                                 struct slice bytes)
{
    struct outbox outbox;
    struct register_news news = {0};
    struct boots_news boots_news = {0};
    outbox_init(&outbox, &world->heap);
    if (bytes.data[0] == PROTOCOL_REGISTER) {
        struct ballot before = at->node.acceptor.promised;
        enum status status =
            register_receive(&at->node, from, bytes, world->now_ms, &at->prng, &outbox, &news);
        EXPECT(status == STATUS_OK || world->conflicts_allowed);
        EXPECT(ballot_compare(at->node.acceptor.promised, before) >= 0);
    } else if (bytes.data[0] == PROTOCOL_BOOTS) {
        EXPECT(boots_receive(&at->boots, from, bytes, &outbox, &boots_news) == STATUS_OK);
        world_set_voting(world, at);
    } else {
        struct register_map map;
        CHECK(bytes.size == 1 + sizeof map);
        memcpy(&map, bytes.data + 1, sizeof map);
        world_set_map(world, at, &map);
    }
    world_take(world, at, &outbox, news.store, &boots_news);
    if (news.newer != 0 && world_node(world, news.newer)->up) {
        world_send_map(world, news.newer, at->id); /* As if asked for and sent. */
    }
    if (news.older != 0) world_send_map(world, at->id, news.older);
    if (news.decided) world_decided(world, at);
    outbox_deinit(&outbox);
}

static inline void world_synced(struct world *world, struct world_event *event)
{
    struct world_node *at = world_node(world, event->from);
    if (!at->up || at->life != event->life) return;
    struct world_disk *disk = &at->disk;
    if (event->state.size > 0 && event->map_number == disk->map.number) {
        buf_clear(&disk->state);
        buf_append_slice(&disk->state, buf_slice(&event->state));
    }
    if (event->starts.size > 0) {
        buf_clear(&disk->starts);
        buf_append_slice(&disk->starts, buf_slice(&event->starts));
    }
    if (event->record_id != 0) {
        struct buf *record = &disk->records[event->record_id - 1];
        buf_clear(record);
        buf_append_slice(record, buf_slice(&event->record));
    }
    for (size_t i = 0; i < event->waiting.count; i++) {
        world_send(world, at->id, event->waiting.messages[i].to, outbox_bytes(&event->waiting, i));
    }
}

/* When something happens next; UINT64_MAX: never. `*index`: which event, or the count: a tick. */
static inline uint64_t world_next(const struct world *world, size_t *index)
{
    uint64_t at_ms = UINT64_MAX;
    *index = world->event_count;
    for (size_t i = 0; i < world->event_count; i++) {
        const struct world_event *event = &world->events[i];
        bool earlier = event->at_ms < at_ms ||
                       (event->at_ms == at_ms && *index < world->event_count &&
                        event->order < world->events[*index].order);
        if (!earlier) continue;
        at_ms = event->at_ms;
        *index = i;
    }
    for (unsigned i = 0; i < world->options.node_count; i++) {
        const struct world_node *at = &world->nodes[i];
        if (!at->up) continue;
        uint64_t tick_ms = register_next_ms(&at->node);
        if (boots_next_ms(&at->boots) < tick_ms) tick_ms = boots_next_ms(&at->boots);
        if (tick_ms < world->now_ms) tick_ms = world->now_ms;
        if (tick_ms < at_ms) {
            at_ms = tick_ms;
            *index = world->event_count;
        }
    }
    return at_ms;
}

/* One step; false when nothing is left to happen until `until_ms`, which it then is. */
static inline bool world_step(struct world *world, uint64_t until_ms)
{
    size_t index;
    uint64_t at_ms = world_next(world, &index);
    if (at_ms > until_ms) {
        if (until_ms != UINT64_MAX) world->now_ms = until_ms;
        return false;
    }
    world->now_ms = at_ms;
    if (index == world->event_count) {
        for (unsigned i = 0; i < world->options.node_count; i++) {
            if (world->nodes[i].up) world_tick(world, &world->nodes[i]);
        }
        return true;
    }
    struct world_event event = world->events[index];
    world->events[index] = world->events[--world->event_count];
    struct world_node *at = world_node(world, event.to);
    if (event.kind == EVENT_SYNC) {
        world_synced(world, &event);
    } else if (at->up) {
        world_receive(world, at, event.from, buf_slice(&event.bytes));
    }
    world_event_free(&event);
    return true;
}

static inline void world_run(struct world *world, uint64_t for_ms)
{
    uint64_t until_ms = world->now_ms + for_ms;
    while (world_step(world, until_ms)) continue;
}

/* --- Life --- */

static inline void world_disk_clear(struct world *world, struct world_disk *disk)
{
    buf_deinit(&disk->state);
    buf_deinit(&disk->starts);
    for (int i = 0; i < WORLD_NODE_COUNT_MAX; i++) buf_deinit(&disk->records[i]);
    *disk = (struct world_disk){.state.heap = &world->heap, .starts.heap = &world->heap};
    for (int i = 0; i < WORLD_NODE_COUNT_MAX; i++) disk->records[i].heap = &world->heap;
}

/* From its disk; one without is the incarnation given. */
static inline void world_start(struct world *world, struct world_node *at, uint64_t incarnation)
{
    struct world_disk *disk = &at->disk;
    struct starts starts = {.id = at->id, .boot.incarnation = incarnation};
    if (disk->starts.size > 0)
        EXPECT(starts_decode(buf_slice(&disk->starts), &starts) == STATUS_OK);
    at->prng.state = prng_u64(&world->prng);
    starts_next(&starts, prng_u64(&at->prng));
    buf_clear(&disk->starts);
    starts_encode(&starts, &disk->starts);
    if (disk->map.number == 0) disk->map = world->maps[1];
    EXPECT(register_init(&at->node, at->id, &world->heap, &disk->map, buf_slice(&disk->state),
                         &at->prng, &world->trace) == STATUS_OK);
    boots_init(&at->boots, &starts, &world->heap, &disk->map, &world->trace);
    for (int i = 0; i < WORLD_NODE_COUNT_MAX; i++) {
        if (disk->records[i].size == 0) continue;
        EXPECT(boots_restore(&at->boots, (node_id)(i + 1), buf_slice(&disk->records[i])) ==
               STATUS_OK);
    }
    at->up = true;
    at->life++;
    at->synced_ms = 0;
    world_set_voting(world, at);
}

static inline void world_crash(struct world *world, node_id id)
{
    struct world_node *at = world_node(world, id);
    EXPECT(at->up);
    register_deinit(&at->node);
    boots_deinit(&at->boots);
    at->up = false;
    at->life++;
}

static inline void world_restart(struct world *world, node_id id)
{
    world_start(world, world_node(world, id), world_incarnation(id));
}

/* Without its disk: what makes a new incarnation, `incarnation` says. */
static inline void world_restart_wiped(struct world *world, node_id id, uint64_t incarnation)
{
    struct register_map map = world_node(world, id)->disk.map;
    world_disk_clear(world, &world_node(world, id)->disk);
    world_node(world, id)->disk.map = map;
    world_start(world, world_node(world, id), incarnation);
}

static inline void world_copy(struct buf *to, const struct buf *from)
{
    buf_clear(to);
    buf_append_slice(to, buf_slice(from));
}

/* A copy of a disk, to come back to. */
static inline void world_disk_copy(struct world *world, struct world_disk *to,
                                   const struct world_disk *from)
{
    world_disk_clear(world, to);
    to->map = from->map;
    world_copy(&to->state, &from->state);
    world_copy(&to->starts, &from->starts);
    for (int i = 0; i < WORLD_NODE_COUNT_MAX; i++) world_copy(&to->records[i], &from->records[i]);
}

static inline void world_cut(struct world *world, node_id a, node_id b, bool cut)
{
    world->cut[a - 1][b - 1] = cut;
    world->cut[b - 1][a - 1] = cut;
}

static inline enum status world_try_propose(struct world *world, node_id id, const char *delta)
{
    struct world_node *at = world_node(world, id);
    struct outbox outbox;
    struct boots_news none = {0};
    outbox_init(&outbox, &world->heap);
    enum status status =
        register_propose(&at->node, slice_from_text(delta), world->now_ms, &at->prng, &outbox);
    world_take(world, at, &outbox, false, &none);
    outbox_deinit(&outbox);
    return status;
}

static inline void world_propose(struct world *world, node_id id, const char *delta)
{
    EXPECT(world_try_propose(world, id, delta) == STATUS_OK);
}

/* What the map of this number was made by; empty: nobody knows yet. */
static inline struct slice world_delta(const struct world *world, uint64_t number)
{
    return slice_of(world->deltas[number], world->delta_sizes[number]);
}

static inline struct world *world_create(const struct world_options *options, uint64_t seed)
{
    struct world *world = calloc(1, sizeof *world);
    CHECK(world != NULL);
    CHECK(options->node_count <= WORLD_NODE_COUNT_MAX);
    world->options = *options;
    world->prng.state = seed;
    world->trace = (struct trace){options->quiet ? NULL : world_tell, world};
    heap_init(&world->heap, 0);
    struct register_map *first = &world->maps[1];
    *first = (struct register_map){.generation = {1, 77}, .number = 1, .hash = {seed, ~seed}};
    world_name_registrars(world, first);
    for (unsigned i = 0; i < options->node_count; i++) {
        struct world_node *at = &world->nodes[i];
        at->id = (node_id)(i + 1);
        world_disk_clear(world, &at->disk);
        world_start(world, at, world_incarnation(at->id));
    }
    return world;
}

static inline void world_destroy(struct world *world)
{
    for (unsigned i = 0; i < world->options.node_count; i++) {
        if (world->nodes[i].up) world_crash(world, world->nodes[i].id);
        world_disk_clear(world, &world->nodes[i].disk);
    }
    for (size_t i = 0; i < world->event_count; i++) world_event_free(&world->events[i]);
    heap_free(&world->heap, world->events);
    EXPECT(heap_used_bytes(&world->heap) == 0);
    free(world);
}

/* Created, and all starts recorded, so that the registrars vote. */
static inline struct world *world_create_settled(const struct world_options *options, uint64_t seed)
{
    struct world *world = world_create(options, seed);
    world_run(world, 100);
    world_story_clear(world);
    return world;
}
