/* Repair alone: stores that are one memory trie each, and a network that loses, doubles, delays
 * and reorders. A model knows what each store began with, and so what it may hold later: what it
 * had, or that joined with what others had. */
#include "cluster/repair.h"

#include <string.h>

#include "cluster/repair_message.h"
#include "core/memtrie.h"
#include "message_make.h"
#include "test.h"

enum {
    NODES_MAX = 3,
    WORDS_MAX = 5000,
    KEY_SIZE_MAX = 16384,
    QUEUE_MAX = 256,
    NOW_MS = 50000, /* Of the stores: half of the words that expire have. */
    HASH_SEED = 7,
};

struct word {
    struct slice key;
    bool there[NODES_MAX + 1]; /* By node, as it began. */
    struct record record[NODES_MAX + 1];
    struct sum joined;        /* Hash of what all together make of it. */
    bool shared, is_anywhere; /* In a range that both own; at any node. */
};

struct store {
    struct world *world;
    node_id id;
    struct memtrie trie;
    memtrie_root root;
    struct layer layer;
    struct query_scratch *scratch;
    struct buf joined, kept;
    struct repair repair;
    uint64_t merge_count, tell_count;
    hlc_time purged;
    bool complete, unready;
};

struct packet {
    node_id from, to;
    uint8_t *bytes;
    size_t size;
};

struct world {
    struct heap heap;
    struct prng prng;
    struct store stores[NODES_MAX + 1]; /* By id. */
    node_id store_count;
    struct key_range shared[4];
    size_t shared_count;
    struct word words[WORDS_MAX];
    size_t word_count;
    uint8_t *key_bytes;
    struct outbox outbox;
    struct packet queue[QUEUE_MAX];
    size_t queue_count;
    uint64_t now_ms, stack_peak_bytes;
    uint64_t generation_id;
};

/* --- A store --- */

static bool in_shared(const struct world *world, struct slice key)
{
    for (size_t i = 0; i < world->shared_count; i++) {
        const struct key_range *range = &world->shared[i];
        bool below = range->high.size == 0 || slice_compare(key, range->high) < 0;
        if (slice_compare(range->low, key) <= 0 && below) return true;
    }
    return false;
}

static struct query env_query(void *context)
{
    struct store *store = context;
    store->layer =
        (struct layer){.memtrie = &store->trie, .root = store->root, .no_expiry_index = true};
    return (struct query){.layers = &store->layer,
                          .layer_count = 1,
                          .now_ms = NOW_MS,
                          .heap = &store->world->heap,
                          .scratch = store->scratch};
}

static enum status env_merge(void *context, struct slice key, const struct record *record)
{
    struct store *store = context;
    struct record here, joined = *record;
    enum status status = memtrie_get(&store->trie, store->root, key, &here, NULL);
    store->merge_count++;
    /* What is not there was deleted. */
    if (status != STATUS_OK && store->complete && record->version.time <= store->purged)
        return STATUS_OK;
    if (status == STATUS_OK)
        EXPECT(record_join(&here, record, &store->joined, &joined) == STATUS_OK);
    /* The trie may move what the result borrows from. */
    buf_clear(&store->kept);
    record_encode(&joined, &store->kept);
    EXPECT(record_decode(buf_slice(&store->kept), &joined) == STATUS_OK);
    return memtrie_put(&store->trie, &store->root, key, &joined);
}

static bool env_owns_with(void *context, node_id peer, struct slice key)
{
    struct store *store = context;
    return peer != store->id && in_shared(store->world, key);
}

static bool env_ready(void *context, node_id peer)
{
    struct store *store = context;
    return !store->unready;
}

static void env_shared(void *context, node_id peer, enum repair_scope scope, struct buf *ranges)
{
    (void)scope;
    struct store *store = context;
    for (size_t i = 0; i < store->world->shared_count; i++)
        repair_range_append(ranges, &store->world->shared[i], 0);
}

static uint64_t env_generation_id(void *context)
{
    struct store *store = context;
    return store->world->generation_id;
}

static uint64_t env_purged(void *context, struct slice ranges)
{
    struct store *store = context;
    (void)ranges;
    return store->purged;
}

static void env_tell_purged(void *context, node_id peer)
{
    struct store *store = context;
    EXPECT(peer != store->id);
    store->tell_count++;
}

static enum repair_knowledge env_knowledge(void *context, node_id peer, enum repair_scope scope)
{
    (void)peer;
    (void)scope;
    const struct store *store = context;
    return store->complete ? REPAIR_KNOWS_ALL : REPAIR_KNOWS_LITTLE;
}

static bool env_is_complete(void *context, struct slice ranges)
{
    struct store *store = context;
    (void)ranges;
    return store->complete;
}

/* Versions up to `purged` are deleted where an owner that is complete lacks them. */
static bool env_forget(void *context, struct slice key, const struct record *record)
{
    struct store *store = context;
    if (store->complete || record->version.time > store->purged) return false;
    return memtrie_remove(&store->trie, &store->root, key) == STATUS_OK;
}

static void store_start(struct store *store)
{
    struct repair_env env = {.context = store,
                             .heap = &store->world->heap,
                             .hash_seed = HASH_SEED,
                             .first_number = prng_u32(&store->world->prng),
                             .query = env_query,
                             .merge = env_merge,
                             .owns_with = env_owns_with,
                             .shared = env_shared,
                             .ready = env_ready,
                             .generation_id = env_generation_id,
                             .purged = env_purged,
                             .tell_purged = env_tell_purged,
                             .knowledge = env_knowledge,
                             .is_complete = env_is_complete,
                             .forget = env_forget};
    repair_init(&store->repair, &env);
}

static struct sum store_sum(struct store *store)
{
    struct query query = env_query(store);
    struct sum sum;
    EXPECT(query_sum(&query, (struct slice){0}, &sum) == STATUS_OK);
    return sum;
}

/* --- The world --- */

static struct world *world_create(node_id store_count)
{
    struct world *world = calloc(1, sizeof *world);
    heap_init(&world->heap, 0);
    world->prng.state = test_seed;
    world->store_count = store_count;
    world->shared[0] = (struct key_range){SLICE_LITERAL("\1"), {0}};
    world->shared_count = 1;
    world->generation_id = 5;
    outbox_init(&world->outbox, &world->heap);
    for (node_id id = 1; id <= store_count; id++) {
        struct store *store = &world->stores[id];
        *store = (struct store){.world = world, .id = id};
        EXPECT(memtrie_init(&store->trie, &world->heap, HASH_SEED) == STATUS_OK);
        EXPECT(query_scratch_create(&world->heap, &store->scratch) == STATUS_OK);
        buf_init(&store->joined, &world->heap);
        buf_init(&store->kept, &world->heap);
        store_start(store);
    }
    return world;
}

static void world_destroy(struct world *world)
{
    for (size_t i = 0; i < world->queue_count; i++) free(world->queue[i].bytes);
    for (node_id id = 1; id <= world->store_count; id++) {
        struct store *store = &world->stores[id];
        repair_deinit(&store->repair);
        memtrie_deinit(&store->trie);
        query_scratch_destroy(store->scratch);
        buf_deinit(&store->joined);
        buf_deinit(&store->kept);
    }
    outbox_deinit(&world->outbox);
    EXPECT(heap_used_bytes(&world->heap) == 0);
    free(world->key_bytes);
    free(world);
}

static void finish_word(struct world *world, struct word *word)
{
    struct buf scratch = {.heap = &world->heap};
    struct record joined = {0};
    word->shared = in_shared(world, word->key);
    for (node_id id = 1; id <= world->store_count; id++) {
        if (!word->there[id]) continue;
        EXPECT(env_merge(&world->stores[id], word->key, &word->record[id]) == STATUS_OK);
        if (word->is_anywhere) {
            struct record both;
            struct buf next = {.heap = &world->heap};
            EXPECT(record_join(&joined, &word->record[id], &next, &both) == STATUS_OK);
            joined = both;
            buf_deinit(&scratch);
            scratch = next;
        } else {
            joined = word->record[id];
        }
        word->is_anywhere = true;
    }
    if (word->is_anywhere) word->joined = record_hash(word->key, &joined, HASH_SEED);
    buf_deinit(&scratch);
}

/* Words of `size` bytes; one in `differ` is not the same at all nodes, and most of those are not
 * even there at each. One in `alive` is no tombstone, if that is not 0. */
static void world_fill(struct world *world, size_t count, size_t size, uint32_t differ,
                       uint32_t alive)
{
    EXPECT(count <= WORDS_MAX && size <= KEY_SIZE_MAX && size >= 8);
    struct prng *prng = &world->prng;
    world->word_count = count;
    world->key_bytes = malloc(count * size);
    for (size_t i = 0; i < count; i++) {
        struct word *word = &world->words[i];
        uint8_t *key = world->key_bytes + i * size;
        memset(key, 'x', size);
        key[0] = (uint8_t)('a' + prng_below(prng, 26));
        key[1] = 0;
        key[size - 3] = (uint8_t)(i >> 8);
        key[size - 2] = (uint8_t)i;
        key[size - 1] = (uint8_t)prng_u32(prng);
        word->key = slice_of(key, size);
        bool differs = prng_one_in(prng, differ);
        for (node_id id = 1; id <= world->store_count; id++) {
            unsigned shape = prng_below(prng, MADE_RECORD_SHAPES);
            if (alive != 0) shape = !prng_one_in(prng, alive);
            word->there[id] = !differs || prng_one_in(prng, 2);
            word->record[id] = id > 1 && !differs ? word->record[1] : made_record(prng, shape);
        }
        finish_word(world, word);
    }
}

/* --- The network --- */

static void world_take_outbox(struct world *world, node_id from)
{
    for (size_t i = 0; i < world->outbox.count; i++) {
        struct slice bytes = outbox_bytes(&world->outbox, i);
        struct repair_message message;
        struct buf lists = {.heap = &world->heap};
        EXPECT(bytes.data[0] == PROTOCOL_REPAIR);
        EXPECT(repair_message_decode(slice_from(bytes, 1), &lists, &message) == STATUS_OK);
        EXPECT(message.kind == REPAIR_EXCHANGED || !world->outbox.messages[i].durable);
        EXPECT(message.list.size < REPAIR_BYTES_AIM + REPAIR_STACK_BYTES_MAX);
        buf_deinit(&lists);
        if (world->queue_count == QUEUE_MAX) continue; /* Lost. */
        struct packet *packet = &world->queue[world->queue_count++];
        *packet = (struct packet){from, world->outbox.messages[i].to, malloc(bytes.size - 1),
                                  bytes.size - 1};
        memcpy(packet->bytes, bytes.data + 1, packet->size);
    }
    outbox_clear(&world->outbox);
}

static void check_bounds(struct world *world, struct store *store)
{
    for (size_t i = 0; i < REPAIR_SESSIONS_MAX; i++) {
        const struct repair_session *session = &store->repair.sessions[i];
        EXPECT(session->stack.size <= REPAIR_STACK_BYTES_MAX);
        if (session->stack.size > world->stack_peak_bytes)
            world->stack_peak_bytes = session->stack.size;
    }
}

static void deliver(struct world *world, const struct packet *packet)
{
    struct store *store = &world->stores[packet->to];
    EXPECT(repair_receive(&store->repair, packet->from, slice_of(packet->bytes, packet->size),
                          world->now_ms, &world->outbox) == STATUS_OK);
    EXPECT(world->outbox.count <= 1); /* An answer, or the next question. */
    check_bounds(world, store);
    world_take_outbox(world, packet->to);
}

/* One message arrives, or is lost, or arrives and stays on its way; or time goes by. `faults`: one
 * in so many; 0: none, and all in order. */
static void world_step(struct world *world, uint32_t faults)
{
    if (world->queue_count == 0 || (faults != 0 && prng_one_in(&world->prng, faults))) {
        world->now_ms += 1 + (faults == 0 ? REPAIR_AGAIN_MS : prng_below(&world->prng, 800));
        for (node_id id = 1; id <= world->store_count; id++) {
            repair_tick(&world->stores[id].repair, world->now_ms, &world->outbox);
            EXPECT(world->outbox.count <= REPAIR_SESSIONS_MAX);
            world_take_outbox(world, id);
        }
        return;
    }
    size_t at = faults == 0 ? 0 : prng_below(&world->prng, (uint32_t)world->queue_count);
    struct packet packet = world->queue[at];
    bool lost = faults != 0 && prng_one_in(&world->prng, faults);
    bool stays = faults != 0 && prng_one_in(&world->prng, 2 * faults);
    if (!stays)
        memmove(&world->queue[at], &world->queue[at + 1],
                (--world->queue_count - at) * sizeof packet);
    if (!lost) deliver(world, &packet);
    if (!stays) free(packet.bytes);
}

/* --- What must hold --- */

/* Each word is at each node as it began, or joined; not shared ones are as they began. */
static void check_no_half_state(struct world *world)
{
    for (size_t i = 0; i < world->word_count; i++) {
        const struct word *word = &world->words[i];
        for (node_id id = 1; id <= world->store_count; id++) {
            struct store *store = &world->stores[id];
            struct record record;
            bool there = memtrie_get(&store->trie, store->root, word->key, &record, NULL) ==
                         STATUS_OK;
            if (!there) {
                EXPECT(!word->there[id]);
                continue;
            }
            struct sum hash = record_hash(word->key, &record, HASH_SEED);
            bool as_it_began =
                word->there[id] &&
                sum_equal(hash, record_hash(word->key, &word->record[id], HASH_SEED));
            /* Of three, two may have met. */
            bool known = world->store_count > 2 || sum_equal(hash, word->joined);
            EXPECT(as_it_began || (word->shared && known));
        }
    }
}

static bool all_joined(struct world *world)
{
    for (size_t i = 0; i < world->word_count; i++) {
        const struct word *word = &world->words[i];
        for (node_id id = 1; id <= world->store_count; id++) {
            struct store *store = &world->stores[id];
            struct record record;
            if (!word->shared || !word->is_anywhere) continue;
            if (memtrie_get(&store->trie, store->root, word->key, &record, NULL) != STATUS_OK)
                return false;
            if (!sum_equal(record_hash(word->key, &record, HASH_SEED), word->joined)) return false;
        }
    }
    return true;
}

/* A session of 1 with 2, to its end. True: complete. */
static bool run_session(struct world *world, uint32_t faults)
{
    struct repair *repair = &world->stores[1].repair;
    struct repair_counts before = repair->counts;
    struct repair_completed completed;
    repair->epoch++;
    repair->mark += 2;
    EXPECT(repair_begin(repair, 2, REPAIR_ALL, world->now_ms, &world->outbox));
    EXPECT(!repair_begin(repair, 2, REPAIR_ALL, world->now_ms, &world->outbox));
    world_take_outbox(world, 1);
    for (int step = 0; repair_due_ms(repair) != UINT64_MAX; step++) {
        EXPECT(step < 100000);
        world_step(world, faults);
    }
    bool complete = repair->counts.complete_count > before.complete_count;
    EXPECT(repair->counts.complete_count + repair->counts.given_up_count ==
           before.complete_count + before.given_up_count + 1);
    EXPECT(repair_next_complete(repair, &completed) == complete);
    if (complete) {
        EXPECT(completed.peer == 2 && completed.epoch == repair->epoch);
        EXPECT(completed.mark == repair->mark);
        EXPECT((completed.peer_knows == REPAIR_KNOWS_ALL) == world->stores[2].complete);
    }
    EXPECT(!repair_next_complete(repair, &completed));
    for (node_id id = 1; id <= 2; id++) EXPECT(world->stores[id].repair.counts.invalid_count == 0);
    return complete;
}

/* --- Two stores --- */

TEST_CASE(a_session_makes_two_stores_equal)
{
    static const struct {
        size_t count;
        uint32_t differ, alive;
    } fills[] = {{0, 1, 0},       {1, 1, 0},     {32, 1, 0},      {33, 1, 0},
                 {200, 1, 0},     {2500, 1, 0},  {2500, 10, 0},   {2500, 50, 0},
                 {2500, 1000, 0}, {1000, 1, 80}, {1000, 20, 5000}};
    for (size_t i = 0; i < sizeof fills / sizeof *fills; i++) {
        struct world *world = world_create(2);
        world_fill(world, fills[i].count, 12, fills[i].differ, fills[i].alive);
        EXPECT(run_session(world, 0));
        EXPECT(all_joined(world));
        struct repair_counts first = world->stores[1].repair.counts;
        EXPECT(first.pushed_count <= fills[i].count && first.fetched_count <= fills[i].count);
        EXPECT(run_session(world, 0));
        struct repair_counts counts = world->stores[1].repair.counts;
        EXPECT(counts.compared_count == first.compared_count); /* One digest says it all. */
        EXPECT(counts.pushed_count == first.pushed_count);
        world_destroy(world);
    }
}

/* One of the two has next to nothing. */
TEST_CASE(all_of_a_store_goes_to_an_empty_one)
{
    enum { COUNT = 3000 };
    for (node_id full = 1; full <= 2; full++) {
        struct world *world = world_create(2);
        for (unsigned i = 0; i < COUNT; i++) {
            char key[16];
            snprintf(key, sizeof key, "w%05u", i * 7);
            struct record record = record_of_set((struct version){10 + i, 1}, i);
            EXPECT(env_merge(&world->stores[full], slice_from_text(key), &record) == STATUS_OK);
            bool both = i % 1000 == 0;
            if (both)
                EXPECT(env_merge(&world->stores[3 - full], slice_from_text(key), &record) ==
                       STATUS_OK);
        }
        EXPECT(run_session(world, 0));
        EXPECT(sum_equal(store_sum(&world->stores[1]), store_sum(&world->stores[2])));
        const struct repair_counts *counts = &world->stores[1].repair.counts;
        EXPECT(counts->pushed_count == (full == 1 ? COUNT - 3 : 0));
        EXPECT(counts->fetched_count == (full == 2 ? COUNT - 3 : 0));
        world_destroy(world);
    }
}

TEST_CASE(complete_is_equal_whatever_the_network_does)
{
    uint64_t given_up = 0;
    for (int round = 0; round < 60; round++) {
        struct world *world = world_create(2);
        world->prng.state = test_seed + (uint64_t)round;
        if (round % 2 == 1) { /* Two ranges are shared; what lies between differs and stays. */
            world->shared[0] = (struct key_range){SLICE_LITERAL("c"), SLICE_LITERAL("j")};
            world->shared[1] = (struct key_range){SLICE_LITERAL("n"), {0}};
            world->shared_count = 2;
        }
        world_fill(world, 1 + prng_below(&world->prng, 700), 12, 1 + prng_below(&world->prng, 20),
                   0);
        uint32_t faults = 2 + prng_below(&world->prng, 8);
        int tries = 0;
        while (!run_session(world, faults)) {
            check_no_half_state(world);
            EXPECT(tries++ < 1000);
            given_up++;
        }
        EXPECT(all_joined(world));
        check_no_half_state(world);
        world_destroy(world);
    }
    EXPECT(given_up > 0);
}

/* Pieces are named by whole keys: long ones fill the stack soon. */
TEST_CASE(words_of_any_length_fit_the_stack)
{
    struct world *world = world_create(2);
    world_fill(world, WORDS_MAX, KEY_SIZE_MAX, 1, 0);
    EXPECT(run_session(world, 0));
    EXPECT(all_joined(world));
    EXPECT(world->stack_peak_bytes > REPAIR_STACK_BYTES_MAX / 8);
    world_destroy(world);
}

/* --- Three --- */

TEST_CASE(three_stores_become_equal_while_they_are_written_to)
{
    for (int round = 0; round < 10; round++) {
        struct world *world = world_create(3);
        world->prng.state = test_seed + 1000 + (uint64_t)round;
        world_fill(world, 300, 12, 2, 0);
        for (int step = 0; !all_joined(world); step++) {
            EXPECT(step < 200000);
            node_id id = (node_id)(1 + prng_below(&world->prng, 3));
            node_id peer = (node_id)(1 + (id + prng_below(&world->prng, 2)) % 3);
            if (prng_one_in(&world->prng, 4)) {
                repair_begin(&world->stores[id].repair, peer, REPAIR_ALL, world->now_ms,
                             &world->outbox);
                world_take_outbox(world, id);
            }
            /* A client writes at one what another has. */
            struct word *word = &world->words[prng_below(&world->prng, 300)];
            if (step < 500 && prng_one_in(&world->prng, 8) && word->there[peer]) {
                EXPECT(env_merge(&world->stores[id], word->key, &word->record[peer]) == STATUS_OK);
            }
            world_step(world, 8);
            struct repair_completed completed;
            while (repair_next_complete(&world->stores[id].repair, &completed)) continue;
        }
        struct sum sum = store_sum(&world->stores[1]);
        EXPECT(sum_equal(sum, store_sum(&world->stores[2])));
        EXPECT(sum_equal(sum, store_sum(&world->stores[3])));
        world_destroy(world);
    }
}

/* --- Given up --- */

TEST_CASE(a_silent_peer_is_asked_five_times_and_then_left)
{
    struct world *world = world_create(2);
    struct repair *repair = &world->stores[1].repair;
    world_fill(world, 100, 12, 1, 0);
    struct sum before = store_sum(&world->stores[1]);
    EXPECT(repair_begin(repair, 2, REPAIR_ALL, 0, &world->outbox));
    EXPECT(world->outbox.count == 1);
    for (int tries = 1; tries < REPAIR_TRIES_MAX; tries++) {
        EXPECT(repair_due_ms(repair) == (uint64_t)tries * REPAIR_AGAIN_MS);
        repair_tick(repair, repair_due_ms(repair) - 1, &world->outbox);
        EXPECT(world->outbox.count == (size_t)tries);
        repair_tick(repair, repair_due_ms(repair), &world->outbox);
        EXPECT(world->outbox.count == (size_t)tries + 1);
        EXPECT(slice_equal(outbox_bytes(&world->outbox, 0),
                           outbox_bytes(&world->outbox, (size_t)tries)));
    }
    repair_tick(repair, repair_due_ms(repair), &world->outbox);
    EXPECT(world->outbox.count == REPAIR_TRIES_MAX);
    EXPECT(repair_due_ms(repair) == UINT64_MAX && repair->counts.given_up_count == 1);
    EXPECT(sum_equal(before, store_sum(&world->stores[1])));
    outbox_clear(&world->outbox);

    /* Another begins from what is there; all are abandoned when what is shared changes. */
    EXPECT(repair_begin(repair, 2, REPAIR_ALL, 9000, &world->outbox));
    repair_abandon(repair);
    EXPECT(repair_due_ms(repair) == UINT64_MAX && repair->counts.given_up_count == 2);
    world_take_outbox(world, 1);
    world_step(world, 0); /* The peer's answer finds nobody. */
    world_step(world, 0);
    EXPECT(world->queue_count == 0 && repair->counts.complete_count == 0);
    EXPECT(sum_equal(before, store_sum(&world->stores[1])));
    world_destroy(world);
}

TEST_CASE(sessions_are_few_and_not_with_a_peer_that_drives_one)
{
    struct world *world = world_create(2);
    struct repair *repair = &world->stores[1].repair;
    world_fill(world, 100, 12, 1, 0);
    for (node_id peer = 2; peer < (node_id)(2 + REPAIR_SESSIONS_MAX); peer++)
        EXPECT(repair_begin(repair, peer, REPAIR_ALL, 0, &world->outbox));
    EXPECT(!repair_begin(repair, 99, REPAIR_ALL, 0, &world->outbox));
    repair_abandon(repair);
    outbox_clear(&world->outbox);

    EXPECT(repair_begin(repair, 2, REPAIR_ALL, 0, &world->outbox));
    world_take_outbox(world, 1);
    for (int i = 0; i < 3; i++) world_step(world, 0); /* ROOT, ROOTED, COMPARE. */
    struct repair *peer = &world->stores[2].repair;
    EXPECT(!repair_begin(peer, 1, REPAIR_ALL, world->now_ms, &world->outbox));
    EXPECT(repair_begin(peer, 1, REPAIR_ALL, world->now_ms + 2 * REPAIR_AGAIN_MS, &world->outbox));
    world_destroy(world);
}

TEST_CASE(an_answer_to_the_start_before_ends_no_session)
{
    struct world *world = world_create(2);
    struct store *store = &world->stores[1];
    EXPECT(repair_begin(&store->repair, 2, REPAIR_ALL, 0,
                        &world->outbox)); /* Nothing is stored: equal. */
    world_take_outbox(world, 1);
    deliver(world, &world->queue[0]); /* The answer is on its way. */
    EXPECT(world->queue_count == 2);

    repair_deinit(&store->repair);
    store_start(store);
    world_fill(world, 100, 12, 1, 0);
    EXPECT(repair_begin(&store->repair, 2, REPAIR_ALL, 0, &world->outbox));
    outbox_clear(&world->outbox);
    deliver(world, &world->queue[1]);
    EXPECT(store->repair.counts.complete_count == 0);
    EXPECT(repair_due_ms(&store->repair) != UINT64_MAX);
    world_destroy(world);
}

/* --- Answers and questions by whoever --- */

/* A world of one node that shares ["c", "m") with node 2, which the test speaks for. */
struct stage {
    struct world *world;
    struct repair *repair;
    struct repair_message asked; /* What the node said last; it borrows from `heard`. */
    bool asked_durable;
    struct sum before;
    struct buf list, wants, heard; /* Of what is said; of what was heard. */
};

static struct word *stage_word(struct world *world, const char *key)
{
    struct word *word = &world->words[world->word_count++];
    word->key = slice_from_text(key);
    word->record[1] = made_record(&world->prng, 0);
    word->there[1] = true;
    finish_word(world, word);
    return word;
}

static void stage_hear(struct stage *stage)
{
    struct outbox *outbox = &stage->world->outbox;
    stage->asked = (struct repair_message){0};
    EXPECT(outbox->count <= 1);
    if (outbox->count == 0) return;
    struct slice bytes = slice_from(outbox_bytes(outbox, 0), 1);
    EXPECT(repair_message_decode(bytes, &stage->heard, &stage->asked) == STATUS_OK);
    stage->asked_durable = outbox->messages[0].durable;
}

/* Says it as node 2, and hears what the node says next. */
static enum status stage_say(struct stage *stage, struct repair_message message)
{
    struct buf bytes = {.heap = &stage->world->heap};
    message.list = buf_slice(&stage->list);
    if (message.kind == REPAIR_EXCHANGE) message.wants = buf_slice(&stage->wants);
    if (message.kind == REPAIR_EXCHANGED) message.found = buf_slice(&stage->wants);
    repair_message_encode(&message, &bytes);
    outbox_clear(&stage->world->outbox);
    enum status status =
        repair_receive(stage->repair, 2, buf_slice(&bytes), 1, &stage->world->outbox);
    stage_hear(stage);
    buf_deinit(&bytes);
    return status;
}

static struct repair_message answer_to(const struct stage *stage, enum repair_kind kind,
                                       size_t count)
{
    return (struct repair_message){
        .kind = kind, .session = stage->asked.session, .step = stage->asked.step, .count = count};
}

/* Up to the first COMPARE. */
static struct stage stage_begin(void)
{
    struct stage stage = {.world = world_create(1)};
    struct world *world = stage.world;
    world->shared[0] = (struct key_range){SLICE_LITERAL("c"), SLICE_LITERAL("m")};
    stage_word(world, "a");
    stage_word(world, "d");
    stage_word(world, "g");
    stage_word(world, "p");
    stage.repair = &world->stores[1].repair;
    stage.before = store_sum(&world->stores[1]);
    buf_init(&stage.list, &world->heap);
    buf_init(&stage.wants, &world->heap);
    buf_init(&stage.heard, &world->heap);
    EXPECT(repair_begin(stage.repair, 2, REPAIR_ALL, 0, &world->outbox));
    stage_hear(&stage);
    EXPECT(stage.asked.kind == REPAIR_ROOT);
    struct repair_message rooted = answer_to(&stage, REPAIR_ROOTED, 0);
    rooted.verdict = REPAIR_DIFFERS;
    EXPECT(stage_say(&stage, rooted) == STATUS_OK);
    EXPECT(stage.asked.kind == REPAIR_COMPARE && stage.asked.count == 1);
    return stage;
}

/* Nothing was joined, and nothing more was said. */
static void stage_expect_refused(struct stage *stage)
{
    EXPECT(stage->asked.kind == 0 && stage->repair->counts.given_up_count == 1);
    EXPECT(repair_due_ms(stage->repair) == UINT64_MAX);
    EXPECT(sum_equal(stage->before, store_sum(&stage->world->stores[1])));
}

static void stage_end(struct stage *stage)
{
    buf_deinit(&stage->list);
    buf_deinit(&stage->wants);
    buf_deinit(&stage->heard);
    world_destroy(stage->world);
}

static void list_equal(struct buf *list)
{
    repair_finding_append(list, &(struct repair_part_list){.finding = REPAIR_EQUAL});
}

static void list_findings(struct buf *list, int what)
{
    static const char *const cuts[][2] = {{"b", "e"}, {"d", "e"}, {"c", "m"}, {"c", "x"}};
    if (what < 4) { /* Cuts that do not begin with the range, or go beyond it. */
        repair_finding_append(list, &(struct repair_part_list){REPAIR_CUT, 2, 0});
        for (int i = 0; i < 2; i++) /* Nothing lies in the last one. */
            repair_part_append(list, slice_from_text(cuts[what][i]), i == 0);
    } else if (what == 4) { /* One finding too many. */
        list_equal(list);
        list_equal(list);
    } /* Or none at all. */
}

TEST_CASE(findings_that_do_not_fit_the_question_change_nothing)
{
    for (int what = 0; what <= 5; what++) {
        struct stage stage = stage_begin();
        list_findings(&stage.list, what);
        size_t count = what < 4 ? 1 : what == 4 ? 2 : 0;
        EXPECT(stage_say(&stage, answer_to(&stage, REPAIR_COMPARED, count)) == STATUS_OK);
        stage_expect_refused(&stage);
        stage_end(&stage);
    }
}

TEST_CASE(answers_to_other_questions_are_not_heard)
{
    for (int what = 0; what < 5; what++) {
        struct stage stage = stage_begin();
        struct repair_message question = stage.asked;
        struct repair_message answer = answer_to(&stage, REPAIR_COMPARED, 0);
        list_equal(&stage.list);
        answer.count = 1;
        enum status expected = STATUS_OK;
        if (what == 0) answer.step++;
        if (what == 1) answer.step--;
        if (what == 2) answer.session++;
        if (what == 3) buf_clear(&stage.list);
        if (what == 3) answer = answer_to(&stage, REPAIR_ROOTED, 0);
        if (what == 4) {
            buf_clear(&stage.list);
            repair_finding_append(&stage.list, &(struct repair_part_list){REPAIR_CUT, 2, 0});
            repair_part_append(&stage.list, SLICE_LITERAL("g"), 1);
            repair_part_append(&stage.list, SLICE_LITERAL("d"), 1);
            expected = STATUS_INVALID;
        }
        EXPECT(stage_say(&stage, answer) == expected);
        EXPECT(stage.asked.kind == 0 && stage.repair->counts.complete_count == 0);
        EXPECT(stage.repair->counts.invalid_count == (expected != STATUS_OK));
        EXPECT(repair_due_ms(stage.repair) != UINT64_MAX); /* It waits for the right one still. */

        buf_clear(&stage.list);
        list_equal(&stage.list);
        answer = (struct repair_message){.kind = REPAIR_COMPARED,
                                         .session = question.session,
                                         .step = question.step,
                                         .count = 1};
        EXPECT(stage_say(&stage, answer) == STATUS_OK);
        EXPECT(stage.repair->counts.complete_count == 1);
        stage_end(&stage);
    }
}

static uint64_t stage_hash(struct slice key, const struct record *record)
{
    return record_hash(key, record, HASH_SEED).low;
}

static void stage_list_tag(struct stage *stage, struct slice key, const struct record *record)
{
    buf_append_u16le(&stage->list, repair_tag(stage->asked.session, key, stage_hash(key, record)));
}

/* Node 2 has "d" and "g" like node 1, and "e" and "f" besides: up to the question for these. */
static struct stage stage_want(struct record records[2])
{
    static const struct slice keys[] = {SLICE_INITIALIZER("e"), SLICE_INITIALIZER("f")};
    struct stage stage = stage_begin();
    const struct word *words = stage.world->words;
    struct repair_part_list parts = {REPAIR_LISTED, 4, 0};
    for (size_t i = 0; i < 2; i++) {
        records[i] = made_record(&stage.world->prng, 0);
        parts.sum += stage_hash(keys[i], &records[i]);
        parts.sum += stage_hash(words[1 + i].key, &words[1 + i].record[1]);
    }
    repair_finding_append(&stage.list, &parts);
    stage_list_tag(&stage, words[1].key, &words[1].record[1]);
    stage_list_tag(&stage, keys[0], &records[0]);
    stage_list_tag(&stage, keys[1], &records[1]);
    stage_list_tag(&stage, words[2].key, &words[2].record[1]);
    EXPECT(stage_say(&stage, answer_to(&stage, REPAIR_COMPARED, 1)) == STATUS_OK);
    EXPECT(stage.asked.kind == REPAIR_EXCHANGE && stage.asked.count == 0);
    EXPECT(stage.asked.want_count == 1);
    struct slice rest = stage.asked.wants;
    struct repair_want want;
    EXPECT(repair_want_next(&rest, &want) && want.tags.size == 2 * sizeof(uint16_t));
    EXPECT(want.sum ==
           repair_sum_cut(stage_hash(keys[0], &records[0]) + stage_hash(keys[1], &records[1])));
    EXPECT(sum_equal(stage.before, store_sum(&stage.world->stores[1])));
    buf_clear(&stage.list);
    return stage;
}

/* As an answer to the one want: was it all there? */
static struct repair_message exchanged(struct stage *stage, size_t count, bool found)
{
    struct repair_message message = answer_to(stage, REPAIR_EXCHANGED, count);
    message.want_count = 1;
    buf_clear(&stage->wants);
    buf_append_u8(&stage->wants, found);
    return message;
}

TEST_CASE(records_that_were_not_asked_for_are_not_joined)
{
    static const char *const lists[][2] = {{"d", NULL}, {"e", "g"}, {"d", "e"}, {"e", "ee"},
                                           {"a", NULL}, {"f", "p"}, {"m", NULL}};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        struct record wanted[2];
        struct stage stage = stage_want(wanted);
        struct record record = made_record(&stage.world->prng, 0);
        size_t count = lists[i][1] == NULL ? 1 : 2;
        for (size_t j = 0; j < count; j++) {
            bool is_e = strcmp(lists[i][j], "e") == 0;
            repair_record_append(&stage.list, slice_from_text(lists[i][j]),
                                 is_e ? &wanted[0] : &record);
        }
        EXPECT(stage_say(&stage, exchanged(&stage, count, true)) == STATUS_OK);
        stage_expect_refused(&stage);
        EXPECT(stage.world->stores[1].merge_count == stage.world->word_count);
        stage_end(&stage);
    }
}

/* More was put there since it was listed, as a load does: it does not go in one message. */
TEST_CASE(what_is_lost_of_a_range_that_has_grown_is_compared_anew)
{
    struct record wanted[2];
    struct stage stage = stage_want(wanted);
    struct record record = made_record(&stage.world->prng, 0);
    for (int i = 0; i < 1000; i++) {
        char key[16];
        snprintf(key, sizeof key, "c%06d", i);
        EXPECT(env_merge(&stage.world->stores[1], slice_from_text(key), &record) == STATUS_OK);
    }
    EXPECT(stage_say(&stage, exchanged(&stage, 0, false)) == STATUS_OK);
    EXPECT(stage.asked.kind == REPAIR_COMPARE);
    struct slice rest = stage.asked.list;
    struct key_range range;
    uint64_t sum;
    EXPECT(repair_range_next(&rest, &range, &sum) && rest.size == 0);
    EXPECT(slice_equal(range.low, SLICE_LITERAL("c")) &&
           slice_equal(range.high, SLICE_LITERAL("m")));
    stage_end(&stage);
}

/* More was looked for than there is, or nothing was, for ever. */
TEST_CASE(wants_are_looked_for_some_at_a_time_and_each_once)
{
    for (uint64_t count = 0; count <= 2; count += 2) {
        struct record wanted[2];
        struct stage stage = stage_want(wanted);
        struct repair_message message = exchanged(&stage, 0, true);
        message.want_count = count;
        if (count == 0) buf_clear(&stage.wants);
        EXPECT(stage_say(&stage, message) == STATUS_OK);
        stage_expect_refused(&stage);
        stage_end(&stage);
    }
}

/* "f" has changed since it was listed, or two records had one tag: then all of the range goes both ways. */
TEST_CASE(what_is_not_all_there_any_more_is_exchanged_whole)
{
    struct record wanted[2];
    struct stage stage = stage_want(wanted);
    repair_record_append(&stage.list, SLICE_LITERAL("e"), &wanted[0]);
    EXPECT(stage_say(&stage, exchanged(&stage, 1, false)) == STATUS_OK);
    EXPECT(stage.asked.kind == REPAIR_EXCHANGE && stage.asked.count == 3 &&
           stage.asked.want_count == 1);
    struct slice rest = stage.asked.wants;
    struct repair_want want;
    EXPECT(repair_want_next(&rest, &want) && want.tags.size == 0);
    EXPECT(slice_equal(want.range.low, SLICE_LITERAL("c")) &&
           slice_equal(want.range.high, SLICE_LITERAL("m")));
    struct record newer = made_record(&stage.world->prng, 0);
    buf_clear(&stage.list);
    repair_record_append(&stage.list, SLICE_LITERAL("f"), &newer);
    EXPECT(stage_say(&stage, exchanged(&stage, 1, true)) == STATUS_OK);
    EXPECT(stage.asked.kind == 0 && stage.repair->counts.complete_count == 1);
    EXPECT(stage.repair->counts.fetched_count == 2);
    stage_end(&stage);
}

/* Its two tags are those of "d" and "g", and its records are not. */
TEST_CASE(records_with_the_tags_of_others_are_found_out)
{
    struct stage stage = stage_begin();
    const struct word *words = stage.world->words;
    repair_finding_append(&stage.list, &(struct repair_part_list){REPAIR_LISTED, 2, 5});
    stage_list_tag(&stage, words[1].key, &words[1].record[1]);
    stage_list_tag(&stage, words[2].key, &words[2].record[1]);
    EXPECT(stage_say(&stage, answer_to(&stage, REPAIR_COMPARED, 1)) == STATUS_OK);
    EXPECT(stage.asked.kind == REPAIR_EXCHANGE && stage.asked.count == 2 &&
           stage.asked.want_count == 1);
    struct slice rest = stage.asked.wants;
    struct repair_want want;
    EXPECT(repair_want_next(&rest, &want) && want.tags.size == 0);
    stage_end(&stage);
}

/* Node 2 sends "h", and wants it: what is here comes if it is newer. Where the sum is another one that is said. */
TEST_CASE(what_was_sent_and_is_as_new_is_not_sent_back)
{
    for (unsigned shape = 0; shape < 4; shape++) {
        bool newer_here = (shape & 1) != 0, right = (shape & 2) != 0;
        struct stage stage = stage_begin();
        struct record older = record_of_set((struct version){10, 1}, 1);
        struct record set = record_of_set((struct version){20, 1}, 2), newer;
        struct buf joined = {.heap = &stage.world->heap};
        EXPECT(record_join(&older, &set, &joined, &newer) == STATUS_OK); /* As old as that. */
        const struct record *here = newer_here ? &newer : &older;
        struct slice key = SLICE_LITERAL("h");
        EXPECT(env_merge(&stage.world->stores[1], key, here) == STATUS_OK);
        repair_record_append(&stage.list, key, newer_here ? &older : &newer);
        struct buf tags = {.heap = &stage.world->heap};
        uint64_t hash = stage_hash(key, here);
        buf_append_u16le(&tags, repair_tag(9, key, hash));
        struct repair_want want = {{.low = SLICE_LITERAL("c")}, buf_slice(&tags), hash + !right};
        repair_want_append(&stage.wants, &want);
        struct repair_message question = {
            .kind = REPAIR_EXCHANGE, .session = 9, .count = 1, .want_count = 1};
        EXPECT(stage_say(&stage, question) == STATUS_OK);
        EXPECT(stage.asked.kind == REPAIR_EXCHANGED && stage.asked.verdict == REPAIR_OK);
        EXPECT(stage.asked_durable && stage.asked.want_count == 1);
        EXPECT(stage.asked.count == newer_here && stage.asked.found.data[0] == right);
        struct record record;
        struct store *store = &stage.world->stores[1];
        EXPECT(memtrie_get(&store->trie, store->root, key, &record, NULL) == STATUS_OK);
        EXPECT(record_equal(&record, &newer));
        buf_deinit(&joined);
        buf_deinit(&tags);
        stage_end(&stage);
    }
}

TEST_CASE(a_session_that_was_refused_anything_is_not_complete)
{
    for (enum repair_verdict verdict = REPAIR_OK; verdict < REPAIR_VERDICT_END; verdict++) {
        struct stage stage = stage_begin();
        repair_finding_append(&stage.list, &(struct repair_part_list){REPAIR_LISTED, 0, 0});
        EXPECT(stage_say(&stage, answer_to(&stage, REPAIR_COMPARED, 1)) == STATUS_OK);
        EXPECT(stage.asked.kind == REPAIR_EXCHANGE && stage.asked.count == 2);
        buf_clear(&stage.list);
        struct repair_message pushed = answer_to(&stage, REPAIR_EXCHANGED, 0);
        pushed.verdict = verdict;
        EXPECT(stage_say(&stage, pushed) == STATUS_OK);
        EXPECT(stage.repair->counts.complete_count == (verdict == REPAIR_OK));
        if (verdict != REPAIR_OK) stage_expect_refused(&stage);
        stage_end(&stage);

        stage = stage_begin();
        list_equal(&stage.list);
        struct repair_message compared = answer_to(&stage, REPAIR_COMPARED, 1);
        compared.verdict = verdict;
        EXPECT(stage_say(&stage, compared) == STATUS_OK);
        EXPECT(stage.repair->counts.complete_count == (verdict == REPAIR_OK));
        if (verdict != REPAIR_OK) stage_expect_refused(&stage);
        stage_end(&stage);

        struct record wanted[2];
        stage = stage_want(wanted);
        struct repair_message fetched = exchanged(&stage, 0, true);
        fetched.verdict = verdict;
        EXPECT(stage_say(&stage, fetched) == STATUS_OK);
        EXPECT(stage.repair->counts.complete_count == (verdict == REPAIR_OK));
        if (verdict != REPAIR_OK) stage_expect_refused(&stage);
        stage_end(&stage);
    }
}

TEST_CASE(a_range_with_the_sum_that_was_sent_is_equal)
{
    struct stage stage = stage_begin();
    const struct word *word = &stage.world->words[1];
    struct key_range ranges[] = {{SLICE_LITERAL("c"), SLICE_LITERAL("g")},
                                 {SLICE_LITERAL("g"), SLICE_LITERAL("m")}};
    uint64_t sum = record_hash(word->key, &word->record[1], HASH_SEED).low;
    for (size_t i = 0; i < 2; i++) repair_range_append(&stage.list, &ranges[i], sum);
    EXPECT(stage_say(&stage, (struct repair_message){.kind = REPAIR_COMPARE, .count = 2}) ==
           STATUS_OK);
    struct slice rest = stage.asked.list;
    struct repair_part_list parts;
    uint64_t hash = stage_hash(word[1].key, &word[1].record[1]);
    uint16_t tag;
    EXPECT(repair_finding_next(&rest, &parts) && parts.finding == REPAIR_EQUAL);
    EXPECT(repair_finding_next(&rest, &parts) && parts.finding == REPAIR_LISTED);
    EXPECT(parts.count == 1 && parts.sum == repair_sum_cut(hash));
    EXPECT(repair_tag_next(&rest, &tag) && rest.size == 0);
    EXPECT(tag == repair_tag(0, word[1].key, hash));
    stage_end(&stage);
}

/* A part of all is on its way here. The rest is compared. */
TEST_CASE(who_is_not_ready_for_all_says_so_and_is_asked_again_later)
{
    struct stage stage = stage_begin();
    struct store *store = &stage.world->stores[1];
    struct outbox *outbox = &stage.world->outbox;
    repair_abandon(stage.repair);
    outbox_clear(outbox);
    EXPECT(repair_begin(stage.repair, 2, REPAIR_ALL, 1, outbox));
    stage_hear(&stage);
    struct repair_message asked = stage.asked, rooted = answer_to(&stage, REPAIR_ROOTED, 0);
    rooted.verdict = REPAIR_UNREADY;
    EXPECT(stage_say(&stage, rooted) == STATUS_OK && stage.repair->counts.given_up_count == 2);
    EXPECT(!repair_is_ready(stage.repair, 2, REPAIR_UNREADY_MS));
    EXPECT(!repair_begin(stage.repair, 2, REPAIR_ALL, REPAIR_UNREADY_MS, outbox));
    EXPECT(repair_begin(stage.repair, 2, REPAIR_SETTLED, REPAIR_UNREADY_MS, outbox));
    repair_abandon(stage.repair);
    EXPECT(repair_begin(stage.repair, 2, REPAIR_ALL, REPAIR_UNREADY_MS + 1, outbox));
    repair_abandon(stage.repair);

    store->unready = true;
    EXPECT(!repair_begin(stage.repair, 2, REPAIR_ALL, 2 * REPAIR_UNREADY_MS, outbox));
    EXPECT(stage_say(&stage, asked) == STATUS_OK);
    EXPECT(stage.asked.kind == REPAIR_ROOTED && stage.asked.verdict == REPAIR_UNREADY);
    asked.scope = REPAIR_SETTLED;
    EXPECT(stage_say(&stage, asked) == STATUS_OK && stage.asked.verdict == REPAIR_OK);
    stage_end(&stage);
}

TEST_CASE(questions_about_what_is_not_shared_are_refused)
{
    static const struct {
        const char *low, *high;
        bool fits;
    } ranges[] = {{"c", "m", true}, {"d", "g", true},  {"b", "d", false}, {"d", "n", false},
                  {"d", "", false}, {"m", "p", false}, {"a", "b", false}};
    struct stage stage = stage_begin();
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        struct key_range range = {slice_from_text(ranges[i].low), slice_from_text(ranges[i].high)};
        buf_clear(&stage.list);
        repair_range_append(&stage.list, &range, 1);
        EXPECT(stage_say(&stage,
                         (struct repair_message){
                             .kind = REPAIR_COMPARE, .session = 9, .step = 3, .count = 1}) ==
               STATUS_OK);
        EXPECT(stage.asked.kind == REPAIR_COMPARED);
        EXPECT(stage.asked.session == 9 && stage.asked.step == 3);
        EXPECT(stage.asked.verdict == (ranges[i].fits ? REPAIR_OK : REPAIR_OTHER_MAP));
        EXPECT(stage.asked.count == ranges[i].fits);
    }
    static const char *const keys[] = {"a", "b", "m", "p"};
    struct record record = made_record(&stage.world->prng, 0);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        buf_clear(&stage.list);
        buf_clear(&stage.wants);
        repair_want_append(&stage.wants,
                           &(struct repair_want){.range.low = slice_from_text(keys[i])});
        EXPECT(stage_say(&stage, (struct repair_message){.kind = REPAIR_EXCHANGE,
                                                         .want_count = 1}) == STATUS_OK);
        /* Of what is there others may have been meant: "d" and "g" are shared. */
        EXPECT(stage.asked.verdict == REPAIR_OK && stage.asked.count == (i < 2 ? 2 : 0));
        buf_clear(&stage.wants);
        repair_record_append(&stage.list, slice_from_text(keys[i]), &record);
        EXPECT(stage_say(&stage, (struct repair_message){.kind = REPAIR_EXCHANGE, .count = 1}) ==
               STATUS_OK);
        EXPECT(stage.asked.kind == REPAIR_EXCHANGED && stage.asked.verdict == REPAIR_OTHER_MAP);
    }
    buf_clear(&stage.list);
    EXPECT(stage_say(&stage, (struct repair_message){.kind = REPAIR_ROOT, .shared = {5, 7}}) ==
           STATUS_OK);
    EXPECT(stage.asked.verdict == REPAIR_OTHER_MAP);
    EXPECT(sum_equal(stage.before, store_sum(&stage.world->stores[1])));
    stage_end(&stage);
}

static bool store_has(struct store *store, struct slice key)
{
    struct record record;
    return memtrie_get(&store->trie, store->root, key, &record, NULL) == STATUS_OK;
}

/* Absence is evidence if the peer knows all that was purged, this node does not, and the record is old. */
TEST_CASE(what_a_peer_lacks_is_deleted_only_if_it_would_know)
{
    enum { PURGED = 10 };
    for (unsigned shape = 0; shape < 8; shape++) {
        struct world *world = world_create(2);
        struct record record = record_of_set((struct version){PURGED + shape % 2, 1}, 1);
        bool is_old = shape % 2 == 0;
        for (node_id id = 1; id <= 2; id++) world->stores[id].purged = PURGED;
        EXPECT(env_merge(&world->stores[1], SLICE_LITERAL("w"), &record) == STATUS_OK);
        world->stores[1].complete = (shape & 2) != 0;
        world->stores[2].complete = (shape & 4) != 0;
        bool forgotten = is_old && !world->stores[1].complete && world->stores[2].complete;
        EXPECT(run_session(world, 0));
        bool taken = !is_old || !world->stores[2].complete;
        EXPECT(store_has(&world->stores[1], SLICE_LITERAL("w")) == !forgotten);
        EXPECT(store_has(&world->stores[2], SLICE_LITERAL("w")) == taken);
        world_destroy(world);
    }
}

/* Node 2 knows all, and has "d" and, by their bits, "g" or another key. */
static void stage_list_doubtful(struct stage *stage)
{
    const struct word *words = stage->world->words;
    uint16_t tag = repair_tag(stage->asked.session, words[2].key,
                              stage_hash(words[2].key, &words[2].record[1]));
    buf_clear(&stage->list);
    repair_finding_append(&stage->list, &(struct repair_part_list){REPAIR_LISTED_ALL, 2, 5});
    stage_list_tag(stage, words[1].key, &words[1].record[1]);
    buf_append_u16le(&stage->list, tag ^ 1);
    EXPECT(stage_say(stage, answer_to(stage, REPAIR_COMPARED, 1)) == STATUS_OK);
    EXPECT(stage->asked.kind == REPAIR_EXCHANGE && stage->asked.want_count == 1);
}

/* First what differs is exchanged; what is in doubt then still goes whole, and what does not come back is deleted. */
TEST_CASE(what_stays_in_doubt_is_exchanged_whole)
{
    for (int story = 0; story < 2; story++) {
        struct stage stage = stage_begin();
        struct store *store = &stage.world->stores[1];
        const struct word *words = stage.world->words;
        struct repair_want want;
        store->purged = UINT64_MAX;
        for (size_t i = 0; i < REPAIR_SESSIONS_MAX; i++)
            stage.repair->sessions[i].purged = store->purged; /* As it was when it began. */
        stage_list_doubtful(&stage);
        struct slice rest = stage.asked.wants;
        EXPECT(stage.asked.count == 1 && repair_want_next(&rest, &want) && want.tags.size > 0);
        buf_clear(&stage.list);
        EXPECT(stage_say(&stage, exchanged(&stage, 0, true)) == STATUS_OK);
        EXPECT(stage.asked.kind == REPAIR_COMPARE && stage.asked.count == 1);
        if (story == 0) {
            list_equal(&stage.list);
            EXPECT(stage_say(&stage, answer_to(&stage, REPAIR_COMPARED, 1)) == STATUS_OK);
        } else {
            stage_list_doubtful(&stage);
            rest = stage.asked.wants;
            EXPECT(stage.asked.count == 2 && repair_want_next(&rest, &want) && want.tags.size == 0);
            buf_clear(&stage.list);
            repair_record_append(&stage.list, words[1].key, &words[1].record[1]);
            EXPECT(stage_say(&stage, exchanged(&stage, 1, true)) == STATUS_OK);
        }
        EXPECT(stage.repair->counts.complete_count == 1);
        EXPECT(store_has(store, words[1].key) && store_has(store, words[2].key) == (story == 0));
        stage_end(&stage);
    }
}

TEST_CASE(nothing_is_compared_where_not_the_same_is_purged)
{
    struct world *world = world_create(2);
    struct record record = record_of_set((struct version){5, 1}, 1);
    world->stores[1].purged = 10;
    EXPECT(env_merge(&world->stores[1], SLICE_LITERAL("w"), &record) == STATUS_OK);
    EXPECT(!run_session(world, 0));
    EXPECT(world->stores[1].tell_count == 1 && world->stores[2].tell_count == 1);
    EXPECT(!store_has(&world->stores[2], SLICE_LITERAL("w")));
    world_destroy(world);

    /* It changes at one of the two while they compare. */
    for (node_id id = 1; id <= 2; id++) {
        world = world_create(2);
        EXPECT(env_merge(&world->stores[1], SLICE_LITERAL("w"), &record) == STATUS_OK);
        EXPECT(
            repair_begin(&world->stores[1].repair, 2, REPAIR_ALL, world->now_ms, &world->outbox));
        world_take_outbox(world, 1);
        world_step(world, 0);              /* ROOT */
        world_step(world, 0);              /* ROOTED */
        if (id == 1) world_step(world, 0); /* COMPARE */
        world->stores[id].purged = 10;
        for (int step = 0; repair_due_ms(&world->stores[1].repair) != UINT64_MAX; step++) {
            EXPECT(step < 100);
            world_step(world, 0);
        }
        EXPECT(world->stores[1].repair.counts.given_up_count == 1);
        EXPECT(!store_has(&world->stores[2], SLICE_LITERAL("w")));
        world_destroy(world);
    }
}

/* Some bits of tags tell keys apart. Where they do not, who has all there is tells what it has, and what it lacks is
 * deleted all the same. */
TEST_CASE(what_a_peer_lacks_is_deleted_whatever_the_tags_of_others_are)
{
    enum { PURGED = 10, OTHERS = 12 };
    for (int round = 0; round < 40; round++) {
        struct world *world = world_create(2);
        world->prng.state = test_seed + (uint64_t)round;
        for (node_id id = 1; id <= 2; id++) world->stores[id].purged = PURGED;
        world->stores[2].complete = true;
        struct record old = record_of_set((struct version){PURGED, 1}, 1);
        EXPECT(env_merge(&world->stores[1], SLICE_LITERAL("old"), &old) == STATUS_OK);
        for (unsigned i = 0; i < OTHERS; i++) {
            char key[8];
            snprintf(key, sizeof key, "w%u.%u", i, round);
            struct record record = record_of_set((struct version){PURGED + 1 + i, 1}, 1);
            EXPECT(env_merge(&world->stores[2], slice_from_text(key), &record) == STATUS_OK);
        }
        EXPECT(run_session(world, 0));
        EXPECT(!store_has(&world->stores[1], SLICE_LITERAL("old")));
        EXPECT(store_has(&world->stores[1], SLICE_LITERAL("w0.0")) == (round == 0));
        world_destroy(world);
    }
}

TEST_MAIN(TEST(a_session_makes_two_stores_equal), TEST(all_of_a_store_goes_to_an_empty_one),
          TEST(complete_is_equal_whatever_the_network_does),
          TEST(words_of_any_length_fit_the_stack),
          TEST(three_stores_become_equal_while_they_are_written_to),
          TEST(a_silent_peer_is_asked_five_times_and_then_left),
          TEST(sessions_are_few_and_not_with_a_peer_that_drives_one),
          TEST(an_answer_to_the_start_before_ends_no_session),
          TEST(findings_that_do_not_fit_the_question_change_nothing),
          TEST(answers_to_other_questions_are_not_heard),
          TEST(records_that_were_not_asked_for_are_not_joined),
          TEST(what_is_lost_of_a_range_that_has_grown_is_compared_anew),
          TEST(wants_are_looked_for_some_at_a_time_and_each_once),
          TEST(what_is_not_all_there_any_more_is_exchanged_whole),
          TEST(records_with_the_tags_of_others_are_found_out),
          TEST(what_was_sent_and_is_as_new_is_not_sent_back),
          TEST(a_session_that_was_refused_anything_is_not_complete),
          TEST(a_range_with_the_sum_that_was_sent_is_equal),
          TEST(who_is_not_ready_for_all_says_so_and_is_asked_again_later),
          TEST(questions_about_what_is_not_shared_are_refused),
          TEST(what_a_peer_lacks_is_deleted_only_if_it_would_know),
          TEST(what_a_peer_lacks_is_deleted_whatever_the_tags_of_others_are),
          TEST(what_stays_in_doubt_is_exchanged_whole),
          TEST(nothing_is_compared_where_not_the_same_is_purged))
