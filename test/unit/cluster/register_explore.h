/* All that can happen to one instance of the register: three registrars, two proposers, a
 * network that loses, doubles, delays and reorders, crashes at any point, disks that are gone
 * or old when their node comes back.
 *
 * A *local state* is all of one node: register, boot counters, disk, what waits for the disk,
 * and every message it ever let out. Local states are numbered; what an event makes of one is
 * worked out once, by the code under test, and kept. A state of the whole is five such numbers:
 * the network is what all have sent, so a message may arrive never, once, or again and again,
 * in any order. All states that can be reached are visited, breadth first. */
#pragma once

#include "base/check.h"
#include "base/prng.h"
#include "cluster/boots.h"
#include "cluster/register.h"
#include "cluster/register_state.h"
#include "test.h"

enum {
    EXPLORE_REGISTRARS = 3,
    EXPLORE_NODES = 5, /* Ids 1 to 3 are registrars, 4 and 5 proposers. */
    EXPLORE_MESSAGES_MAX = 1024,
    EXPLORE_VOTES_MAX = 64,
    EXPLORE_SENT_WORDS = EXPLORE_MESSAGES_MAX / 64,
};

/* Events beside the arrival of a message, whose number is the message's. */
enum explore_event {
    EXPLORE_TICK = EXPLORE_MESSAGES_MAX, /* The wait of a proposer is over. */
    EXPLORE_SYNC,                        /* The disk has done all it had to. */
    EXPLORE_CRASH,                       /* ... and restart, with the disk. */
    EXPLORE_WIPE,                        /* ... without. */
    EXPLORE_ROLL_BACK,                   /* ... with the disk as it was in the start before. */
    EXPLORE_EVENTS,
};

struct explore_options {
    unsigned ballots[2];       /* Of each proposer, at most. */
    unsigned crashes;          /* Of registrars, together; */
    unsigned losses;           /* disks of registrars that are wiped or rolled back, together; */
    unsigned proposer_crashes; /* together, too. */
    unsigned learners;         /* Registrars that are told decisions: the first ones. */
    unsigned fragile;          /* Registrars that may crash: the first ones. All are alike. */
    bool boots_rule_off;
    bool tells; /* How it came to the first finding. */
};

/* What was found: any of these is a bug. */
struct explore_findings {
    uint64_t two_chosen;       /* States in which two values are chosen. */
    uint64_t learned_unchosen; /* States in which a node learned what is not chosen. */
    uint64_t promises_fallen;  /* Local states that promise less than was told. */
};

struct explore_disk {
    struct buf state, starts;
    struct buf records[EXPLORE_REGISTRARS];
};

struct explore_local {
    struct register_node node;
    struct boots boots;
    struct explore_disk disk;
    bool waiting;                         /* The disk lags behind. */
    uint64_t pending[EXPLORE_SENT_WORDS]; /* Messages that wait for it. */
    uint64_t sent[EXPLORE_SENT_WORDS];
    uint64_t votes, pending_votes; /* Accepted and told, by number of the vote. */
    struct ballot told;            /* The greatest promise that was let out. */
    unsigned lives, crashes, losses, attempts;
    bool forgot;    /* Came back without all of its disk. */
    uint32_t *next; /* By event: the local state it leads to, plus one; 0: not worked out. */
};

struct explore_message {
    node_id from, to;
    struct buf bytes;
};

/* An event at a node, in an earlier state. */
struct explore_step {
    uint32_t from;
    uint16_t node, event;
};

/* A value accepted under a ballot. */
struct explore_vote {
    struct ballot ballot;
    uint8_t value;
};

enum { EXPLORE_FINAL_MAX = 64 };

struct explore {
    struct explore_options options;
    struct heap heap;
    struct register_map map;
    struct explore_disk old_disks[EXPLORE_REGISTRARS]; /* For EXPLORE_ROLL_BACK. */

    struct explore_message messages[EXPLORE_MESSAGES_MAX];
    unsigned message_count;
    struct explore_vote votes[EXPLORE_VOTES_MAX];
    unsigned vote_count;
    struct ballot finals[EXPLORE_FINAL_MAX]; /* Ballots of proposers that have no other left. */
    unsigned final_count;

    struct explore_local **locals; /* Of all nodes; by number. */
    uint64_t *local_hashes;
    struct buf *local_keys;
    uint32_t local_count, local_capacity;
    uint32_t *local_table;
    uint32_t local_table_size;

    uint32_t (*states)[EXPLORE_NODES];
    struct explore_step *steps; /* How each state was first reached. */
    uint64_t state_count, state_capacity;
    uint32_t *state_table; /* Index plus one. */
    uint64_t state_table_size;

    uint32_t visiting;
    uint64_t transitions;
    struct explore_findings findings;
};

/* --- Local states --- */

static inline void explore_copy_buf(struct buf *to, const struct buf *from)
{
    *to = (struct buf){.heap = from->heap};
    buf_append_slice(to, buf_slice(from));
}

static inline void explore_copy_disk(struct explore_disk *to, const struct explore_disk *from)
{
    explore_copy_buf(&to->state, &from->state);
    explore_copy_buf(&to->starts, &from->starts);
    for (int i = 0; i < EXPLORE_REGISTRARS; i++) {
        explore_copy_buf(&to->records[i], &from->records[i]);
    }
}

static inline void explore_free_disk(struct explore_disk *disk)
{
    buf_deinit(&disk->state);
    buf_deinit(&disk->starts);
    for (int i = 0; i < EXPLORE_REGISTRARS; i++) buf_deinit(&disk->records[i]);
}

static inline struct explore_local *explore_local_copy(struct heap *heap,
                                                       const struct explore_local *from)
{
    struct explore_local *to = heap_alloc(heap, sizeof *to);
    CHECK(to != NULL);
    *to = *from;
    to->next = NULL;
    explore_copy_buf(&to->node.acceptor.value, &from->node.acceptor.value);
    explore_copy_buf(&to->node.proposer.wanted, &from->node.proposer.wanted);
    explore_copy_buf(&to->node.proposer.adopted, &from->node.proposer.adopted);
    explore_copy_buf(&to->node.decided, &from->node.decided);
    explore_copy_buf(&to->node.made_map, &from->node.made_map);
    if (from->boots.records != NULL) {
        size_t size = from->boots.record_capacity * sizeof *from->boots.records;
        to->boots.records = heap_alloc(heap, size);
        CHECK(to->boots.records != NULL);
        memcpy(to->boots.records, from->boots.records,
               from->boots.record_count * sizeof *from->boots.records);
    }
    explore_copy_disk(&to->disk, &from->disk);
    return to;
}

static inline void explore_local_free(struct heap *heap, struct explore_local *local)
{
    register_deinit(&local->node);
    boots_deinit(&local->boots);
    explore_free_disk(&local->disk);
    heap_free(heap, local->next);
    heap_free(heap, local);
}

static inline void explore_key_buf(struct buf *key, const struct buf *part)
{
    buf_append_varint(key, part->size);
    buf_append_slice(key, buf_slice(part));
}

static inline void explore_key_ballot(struct buf *key, struct ballot ballot)
{
    buf_append_u64le(key, ballot.round);
    buf_append_u16le(key, ballot.node);
    buf_append_u64le(key, ballot.salt);
}

static inline void explore_key_set(struct buf *key, const uint64_t set[EXPLORE_SENT_WORDS])
{
    for (unsigned i = 0; i < EXPLORE_SENT_WORDS; i++) {
        if (set[i] == 0) continue;
        buf_append_u8(key, (uint8_t)(i + 1));
        buf_append_u64le(key, set[i]);
    }
    buf_append_u8(key, 0);
}

/* All that tells a local state from another. */
static inline void explore_local_key(const struct explore_local *local, struct buf *key)
{
    const struct register_node *node = &local->node;
    const struct proposer *proposer = &node->proposer;
    const struct boots *boots = &local->boots;
    buf_append_u16le(key, node->self);
    buf_append_u8(key, node->votes);
    buf_append_u8(key, (uint8_t)node->outcome);
    explore_key_ballot(key, node->acceptor.promised);
    explore_key_ballot(key, node->acceptor.accepted);
    explore_key_buf(key, &node->acceptor.value);
    explore_key_buf(key, &node->decided);
    buf_append_u8(key, (uint8_t)proposer->phase);
    explore_key_ballot(key, proposer->ballot);
    explore_key_ballot(key, proposer->adopted_ballot);
    explore_key_buf(key, &proposer->adopted);
    buf_append_u64le(key, proposer->round_seen);
    buf_append_u8(key, (uint8_t)proposer->yes);
    buf_append_u8(key, (uint8_t)proposer->no);
    starts_encode(&boots->starts, key);
    for (int i = 0; i < EXPLORE_REGISTRARS; i++) {
        const struct boot *record = boots_record(boots, (node_id)(i + 1));
        buf_append_u8(key, boots->confirmed[i]);
        if (record != NULL) boot_encode(*record, key);
    }
    explore_key_buf(key, &local->disk.state);
    explore_key_buf(key, &local->disk.starts);
    for (int i = 0; i < EXPLORE_REGISTRARS; i++) explore_key_buf(key, &local->disk.records[i]);
    buf_append_u8(key, local->waiting);
    explore_key_set(key, local->pending);
    explore_key_set(key, local->sent);
    buf_append_u64le(key, local->votes);
    buf_append_u64le(key, local->pending_votes);
    buf_append_u8(key, (uint8_t)local->lives);
    buf_append_u8(key, (uint8_t)local->crashes);
    buf_append_u8(key, (uint8_t)local->losses);
    buf_append_u8(key, (uint8_t)local->attempts);
    buf_append_u8(key, local->forgot);
    explore_key_ballot(key, local->told);
}

static inline uint64_t explore_hash(struct slice bytes)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < bytes.size; i++) hash = (hash ^ bytes.data[i]) * UINT64_C(0x100000001b3);
    return hash ^ hash >> 29;
}

static inline void explore_local_table_grow(struct explore *explore)
{
    heap_free(&explore->heap, explore->local_table);
    explore->local_table_size = explore->local_table_size == 0 ? 1024
                                                               : explore->local_table_size * 4;
    explore->local_table =
        heap_zalloc(&explore->heap, explore->local_table_size * sizeof *explore->local_table);
    CHECK(explore->local_table != NULL);
    for (uint32_t i = 0; i < explore->local_count; i++) {
        uint64_t at = explore->local_hashes[i] & (explore->local_table_size - 1);
        while (explore->local_table[at] != 0) at = (at + 1) & (explore->local_table_size - 1);
        explore->local_table[at] = i + 1;
    }
}

static inline void *explore_grow(struct explore *explore, void *array, size_t size)
{
    array = heap_realloc(&explore->heap, array, size);
    CHECK(array != NULL);
    return array;
}

/* The number of a local state, which is taken over. */
static inline uint32_t explore_local_number(struct explore *explore, struct explore_local *local)
{
    /* Waits are over when the explorer says so. */
    local->node.proposer.waits = 0;
    local->node.proposer.deadline_ms = 0;
    local->boots.waits = 0;
    local->boots.deadline_ms = 0;
    struct buf key = {.heap = &explore->heap};
    explore_local_key(local, &key);
    uint64_t hash = explore_hash(buf_slice(&key));
    if (explore->local_count * 2 >= explore->local_table_size) explore_local_table_grow(explore);
    uint64_t at = hash & (explore->local_table_size - 1);
    for (; explore->local_table[at] != 0; at = (at + 1) & (explore->local_table_size - 1)) {
        uint32_t number = explore->local_table[at] - 1;
        if (!slice_equal(buf_slice(&explore->local_keys[number]), buf_slice(&key))) continue;
        buf_deinit(&key);
        explore_local_free(&explore->heap, local);
        return number;
    }
    if (explore->local_count == explore->local_capacity) {
        explore->local_capacity = explore->local_capacity == 0 ? 256 : explore->local_capacity * 2;
        uint32_t capacity = explore->local_capacity;
        explore->locals =
            explore_grow(explore, explore->locals, capacity * sizeof *explore->locals);
        explore->local_hashes =
            explore_grow(explore, explore->local_hashes, capacity * sizeof *explore->local_hashes);
        explore->local_keys =
            explore_grow(explore, explore->local_keys, capacity * sizeof *explore->local_keys);
    }
    if (!local->forgot && ballot_compare(local->node.acceptor.promised, local->told) < 0) {
        explore->findings.promises_fallen++;
    }
    uint32_t number = explore->local_count++;
    explore->local_table[at] = number + 1;
    explore->local_hashes[number] = hash;
    explore->local_keys[number] = key;
    explore->locals[number] = local;
    local->next = heap_zalloc(&explore->heap, EXPLORE_EVENTS * sizeof *local->next);
    CHECK(local->next != NULL);
    return number;
}

/* --- Steps --- */

static inline unsigned explore_message_number(struct explore *explore, node_id from, node_id to,
                                              struct slice bytes)
{
    for (unsigned i = 0; i < explore->message_count; i++) {
        const struct explore_message *message = &explore->messages[i];
        if (message->from == from && message->to == to &&
            slice_equal(buf_slice(&message->bytes), bytes)) {
            return i;
        }
    }
    CHECK(explore->message_count < EXPLORE_MESSAGES_MAX);
    struct explore_message *message = &explore->messages[explore->message_count];
    *message = (struct explore_message){from, to, {.heap = &explore->heap}};
    buf_append_slice(&message->bytes, bytes);
    return explore->message_count++;
}

/* What changes nothing that matters: a refusal of a proposer's last ballot, which could only
 * make it stop; a decision told to a registrar that is to learn nothing. */
static inline bool explore_is_idle_talk(const struct explore *explore, node_id to,
                                        struct slice bytes)
{
    struct register_message message;
    if (bytes.data[0] != PROTOCOL_REGISTER) return false;
    CHECK(register_message_decode(bytes, &message) == STATUS_OK);
    if (message.kind == REGISTER_DECIDED) {
        return to <= EXPLORE_REGISTRARS && to > explore->options.learners;
    }
    if (message.kind != REGISTER_REFUSED) return false;
    for (unsigned i = 0; i < explore->final_count; i++) {
        if (ballot_equal(explore->finals[i], message.ballot)) return true;
    }
    return false;
}

/* What is let out is known to all from now on. */
static inline void explore_let_out(const struct explore *explore, struct explore_local *local,
                                   unsigned number)
{
    struct register_message message;
    local->sent[number / 64] |= UINT64_C(1) << number % 64;
    struct slice bytes = buf_slice(&explore->messages[number].bytes);
    if (bytes.data[0] != PROTOCOL_REGISTER) return;
    CHECK(register_message_decode(bytes, &message) == STATUS_OK);
    bool promises = message.kind == REGISTER_PROMISE || message.kind == REGISTER_ACCEPTED;
    if (promises && ballot_compare(message.ballot, local->told) > 0) local->told = message.ballot;
}

static inline unsigned explore_vote_number(struct explore *explore, struct explore_vote vote)
{
    for (unsigned i = 0; i < explore->vote_count; i++) {
        if (ballot_equal(explore->votes[i].ballot, vote.ballot) &&
            explore->votes[i].value == vote.value) {
            return i;
        }
    }
    CHECK(explore->vote_count < EXPLORE_VOTES_MAX);
    explore->votes[explore->vote_count] = vote;
    return explore->vote_count++;
}

/* What the registrar says that it accepted, when it says so. */
static inline uint64_t explore_vote_told(struct explore *explore, const struct explore_local *local,
                                         struct slice bytes)
{
    struct register_message message;
    const struct acceptor *acceptor = &local->node.acceptor;
    if (bytes.data[0] != PROTOCOL_REGISTER) return 0;
    CHECK(register_message_decode(bytes, &message) == STATUS_OK);
    if (message.kind != REGISTER_ACCEPTED) return 0;
    struct explore_vote vote = {message.ballot, acceptor_value(acceptor).delta.data[0]};
    return UINT64_C(1) << explore_vote_number(explore, vote);
}

static inline void explore_take(struct explore *explore, struct explore_local *local,
                                const struct outbox *outbox, bool store)
{
    for (size_t i = 0; i < outbox->count; i++) {
        const struct outbox_message *message = &outbox->messages[i];
        if (explore_is_idle_talk(explore, message->to, outbox_bytes(outbox, i))) continue;
        unsigned number =
            explore_message_number(explore, local->node.self, message->to, outbox_bytes(outbox, i));
        store |= message->durable;
        uint64_t vote = explore_vote_told(explore, local, outbox_bytes(outbox, i));
        if (message->durable) {
            local->pending_votes |= vote;
            local->pending[number / 64] |= UINT64_C(1) << number % 64;
        } else {
            local->votes |= vote;
            explore_let_out(explore, local, number);
        }
    }
    if (store) local->waiting = true;
}

static inline unsigned explore_ballots(const struct explore *explore,
                                       const struct explore_local *local)
{
    return explore->options.ballots[local->node.self - EXPLORE_REGISTRARS - 1];
}

/* The ballot that was just begun is the last one of this proposer's life. */
static inline void explore_note_final(struct explore *explore, const struct explore_local *local)
{
    if (local->attempts < explore_ballots(explore, local)) return;
    for (unsigned i = 0; i < explore->final_count; i++) {
        if (ballot_equal(explore->finals[i], local->node.proposer.ballot)) return;
    }
    CHECK(explore->final_count < EXPLORE_FINAL_MAX);
    explore->finals[explore->final_count++] = local->node.proposer.ballot;
}

static inline void explore_write_disk(struct explore_local *local)
{
    buf_clear(&local->disk.state);
    register_encode_state(&local->node, &local->disk.state);
    buf_clear(&local->disk.starts);
    starts_encode(&local->boots.starts, &local->disk.starts);
    for (int i = 0; i < EXPLORE_REGISTRARS; i++) {
        const struct boot *record = boots_record(&local->boots, (node_id)(i + 1));
        buf_clear(&local->disk.records[i]);
        if (record != NULL) boot_encode(*record, &local->disk.records[i]);
    }
}

static inline void explore_sync(struct explore *explore, struct explore_local *local)
{
    explore_write_disk(local);
    for (unsigned i = 0; i < explore->message_count; i++) {
        if (local->pending[i / 64] >> i % 64 & 1) explore_let_out(explore, local, i);
    }
    memset(local->pending, 0, sizeof local->pending);
    local->waiting = false;
    local->votes |= local->pending_votes;
    local->pending_votes = 0;
}

static inline void explore_set_voting(const struct explore *explore, struct explore_local *local)
{
    register_set_voting(&local->node,
                        explore->options.boots_rule_off || boots_may_vote(&local->boots));
}

/* A node starts: with what lies on its disk, which may be nothing. */
static inline void explore_start(struct explore *explore, struct explore_local *local)
{
    node_id id = local->node.self;
    struct prng prng = {.state = id * 1000u + ++local->lives};
    struct starts starts = {.id = id, .boot.incarnation = 100u * id + local->lives};
    struct explore_disk *disk = &local->disk;
    if (disk->starts.size > 0) CHECK(starts_decode(buf_slice(&disk->starts), &starts) == STATUS_OK);
    starts_next(&starts, prng_u64(&prng));
    buf_clear(&disk->starts);
    starts_encode(&starts, &disk->starts);
    CHECK(register_init(&local->node, id, &explore->heap, &explore->map, buf_slice(&disk->state),
                        &prng, NULL) == STATUS_OK);
    boots_init(&local->boots, &starts, &explore->heap, &explore->map, NULL);
    for (int i = 0; i < EXPLORE_REGISTRARS; i++) {
        if (disk->records[i].size == 0) continue;
        CHECK(boots_restore(&local->boots, (node_id)(i + 1), buf_slice(&disk->records[i])) ==
              STATUS_OK);
    }
    explore_set_voting(explore, local);

    struct outbox outbox;
    outbox_init(&outbox, &explore->heap);
    if (id <= EXPLORE_REGISTRARS) {
        boots_tick(&local->boots, 1, &prng, &outbox);
    } else {
        uint8_t delta = (uint8_t)('0' + 10 * id + local->lives); /* Each life another. */
        local->attempts = 1;
        CHECK(register_propose(&local->node, slice_of(&delta, 1), 0, &prng, &outbox) == STATUS_OK);
        explore_note_final(explore, local);
    }
    explore_take(explore, local, &outbox, false);
    outbox_deinit(&outbox);
}

static inline void explore_restart(struct explore *explore, struct explore_local *local,
                                   unsigned event)
{
    register_deinit(&local->node);
    boots_deinit(&local->boots);
    memset(local->pending, 0, sizeof local->pending);
    local->pending_votes = 0;
    local->waiting = false;
    if (event == EXPLORE_CRASH) {
        local->crashes++;
    } else {
        local->losses++;
        local->forgot = true;
        explore_free_disk(&local->disk);
        if (event == EXPLORE_ROLL_BACK) {
            explore_copy_disk(&local->disk, &explore->old_disks[local->node.self - 1]);
        }
    }
    explore_start(explore, local);
}

static inline void explore_arrive(struct explore *explore, struct explore_local *local,
                                  unsigned number)
{
    struct prng prng = {.state = 1};
    struct outbox outbox;
    struct register_news news = {0};
    struct boots_news boots_news = {0};
    const struct explore_message *message = &explore->messages[number];
    struct slice bytes = buf_slice(&message->bytes);
    outbox_init(&outbox, &explore->heap);
    if (bytes.data[0] == PROTOCOL_REGISTER) {
        /* Two values under one ballot are refused as such: only a planted bug makes them. */
        (void)!register_receive(&local->node, message->from, bytes, 0, &prng, &outbox, &news);
    } else {
        CHECK(boots_receive(&local->boots, message->from, bytes, &outbox, &boots_news) ==
              STATUS_OK);
        explore_set_voting(explore, local);
    }
    bool store = news.store || boots_news.store_starts || boots_news.store_record != 0;
    explore_take(explore, local, &outbox, store);
    outbox_deinit(&outbox);
}

static inline void explore_tick(struct explore *explore, struct explore_local *local)
{
    struct prng prng = {.state = 1};
    struct outbox outbox;
    outbox_init(&outbox, &explore->heap);
    if (local->node.proposer.phase == PROPOSER_WAITING) local->attempts++;
    register_tick(&local->node, 1, &prng, &outbox);
    if (local->node.proposer.phase == PROPOSER_PREPARING) explore_note_final(explore, local);
    explore_take(explore, local, &outbox, false);
    outbox_deinit(&outbox);
}

/* The local state that an event makes of another. */
static inline uint32_t explore_next(struct explore *explore, uint32_t number, unsigned event)
{
    uint32_t known = explore->locals[number]->next[event];
    if (known != 0) return known - 1;
    struct explore_local *local = explore_local_copy(&explore->heap, explore->locals[number]);
    if (event < EXPLORE_MESSAGES_MAX) explore_arrive(explore, local, event);
    if (event == EXPLORE_TICK) explore_tick(explore, local);
    if (event == EXPLORE_SYNC) explore_sync(explore, local);
    if (event >= EXPLORE_CRASH) explore_restart(explore, local, event);
    uint32_t next = explore_local_number(explore, local);
    explore->locals[number]->next[event] = next + 1;
    return next;
}

/* --- States of the whole --- */

static inline void explore_judge(struct explore *explore, const uint32_t state[EXPLORE_NODES])
{
    uint64_t votes[EXPLORE_REGISTRARS];
    for (int i = 0; i < EXPLORE_REGISTRARS; i++) votes[i] = explore->locals[state[i]]->votes;
    uint64_t chosen = (votes[0] & votes[1]) | (votes[0] & votes[2]) | (votes[1] & votes[2]);
    uint8_t value = 0;
    bool two = false;
    for (uint64_t left = chosen; left != 0; left &= left - 1) {
        uint8_t one = explore->votes[__builtin_ctzll(left)].value;
        two |= value != 0 && value != one;
        value = one;
    }
    explore->findings.two_chosen += two;
    for (int i = 0; i < EXPLORE_NODES; i++) {
        struct register_value learned;
        if (!register_decision(&explore->locals[state[i]]->node, &learned)) continue;
        if (two || learned.delta.data[0] != value) explore->findings.learned_unchosen++;
    }
}

static inline uint64_t explore_state_hash(const uint32_t state[EXPLORE_NODES])
{
    uint64_t hash = 0;
    for (int i = 0; i < EXPLORE_NODES; i++) {
        hash = (hash ^ state[i]) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 32;
    }
    return hash;
}

static inline void explore_state_table_grow(struct explore *explore)
{
    uint64_t size = explore->state_table_size == 0 ? 1 << 16 : explore->state_table_size * 2;
    heap_free(&explore->heap, explore->state_table);
    explore->state_table = heap_zalloc(&explore->heap, size * sizeof *explore->state_table);
    CHECK(explore->state_table != NULL);
    explore->state_table_size = size;
    for (uint64_t i = 0; i < explore->state_count; i++) {
        uint64_t at = explore_state_hash(explore->states[i]) & (size - 1);
        while (explore->state_table[at] != 0) at = (at + 1) & (size - 1);
        explore->state_table[at] = (uint32_t)(i + 1);
    }
}

/* Visits it later, unless it was seen. */
static inline void explore_add(struct explore *explore, const uint32_t state[EXPLORE_NODES],
                               struct explore_step step)
{
    if (explore->state_count * 2 >= explore->state_table_size) explore_state_table_grow(explore);
    uint64_t mask = explore->state_table_size - 1;
    uint64_t at = explore_state_hash(state) & mask;
    size_t size = EXPLORE_NODES * sizeof *state;
    for (; explore->state_table[at] != 0; at = (at + 1) & mask) {
        if (memcmp(explore->states[explore->state_table[at] - 1], state, size) == 0) return;
    }
    if (explore->state_count == explore->state_capacity) {
        explore->state_capacity = explore->state_capacity == 0 ? 1 << 15
                                                               : explore->state_capacity * 2;
        explore->states = explore_grow(explore, explore->states, explore->state_capacity * size);
        explore->steps =
            explore_grow(explore, explore->steps, explore->state_capacity * sizeof *explore->steps);
    }
    CHECK(explore->state_count < UINT32_MAX);
    explore->steps[explore->state_count] = step;
    memcpy(explore->states[explore->state_count++], state, size);
    explore->state_table[at] = (uint32_t)explore->state_count;
    explore_judge(explore, state);
}

static inline bool explore_found(const struct explore *explore)
{
    const struct explore_findings *findings = &explore->findings;
    return findings->two_chosen + findings->learned_unchosen + findings->promises_fallen > 0;
}

/* A disk that nobody waits to see fail is quick: to be late is to have sent late. */
static inline void explore_try(struct explore *explore, uint32_t state[EXPLORE_NODES], int node,
                               unsigned event, bool quick)
{
    if (explore_found(explore)) return;
    uint32_t before = state[node];
    uint32_t after = explore_next(explore, before, event);
    if (quick && explore->locals[after]->waiting) {
        after = explore_next(explore, after, EXPLORE_SYNC);
    }
    if (after == before) return;
    explore->transitions++;
    state[node] = after;
    struct explore_step step = {explore->visiting, (uint16_t)node, (uint16_t)event};
    explore_add(explore, state, step);
    state[node] = before;
}

/* All that may happen next. */
static inline void explore_visit(struct explore *explore, uint64_t index)
{
    const struct explore_options *options = &explore->options;
    uint32_t state[EXPLORE_NODES];
    uint64_t sent[EXPLORE_SENT_WORDS] = {0};
    unsigned crashes = 0, losses = 0, proposer_crashes = 0;
    memcpy(state, explore->states[index], sizeof state);
    for (int i = 0; i < EXPLORE_NODES; i++) {
        const struct explore_local *local = explore->locals[state[i]];
        for (unsigned j = 0; j < EXPLORE_SENT_WORDS; j++) sent[j] |= local->sent[j];
        if (i < EXPLORE_REGISTRARS) {
            crashes += local->crashes;
        } else {
            proposer_crashes += local->crashes;
        }
        losses += local->losses;
    }
    bool crash = crashes < options->crashes;
    bool lose = losses < options->losses;
    bool quick[EXPLORE_NODES];
    for (int i = 0; i < EXPLORE_NODES; i++) {
        quick[i] = i >= (int)options->fragile || !(crash || lose);
        if (!quick[i] || !explore->locals[state[i]]->waiting) continue;
        explore_try(explore, state, i, EXPLORE_SYNC, false);
        return;
    }
    for (unsigned j = 0; j < EXPLORE_SENT_WORDS; j++) {
        for (uint64_t left = sent[j]; left != 0; left &= left - 1) {
            unsigned number = j * 64 + (unsigned)__builtin_ctzll(left);
            int to = explore->messages[number].to - 1;
            explore_try(explore, state, to, number, quick[to]);
        }
    }
    for (int i = 0; i < EXPLORE_NODES; i++) {
        const struct explore_local *local = explore->locals[state[i]];
        const struct proposer *proposer = &local->node.proposer;
        bool proposes = i >= EXPLORE_REGISTRARS;
        bool refused = proposer->phase == PROPOSER_WAITING || proposer->no != 0;
        if (proposes && refused && local->attempts < explore_ballots(explore, local)) {
            explore_try(explore, state, i, EXPLORE_TICK, true);
        }
        if (local->waiting) explore_try(explore, state, i, EXPLORE_SYNC, false);
        bool fragile = i < (int)options->fragile;
        if (proposes ? proposer_crashes < options->proposer_crashes : fragile && crash) {
            explore_try(explore, state, i, EXPLORE_CRASH, false);
        }
        if (fragile && lose) {
            explore_try(explore, state, i, EXPLORE_WIPE, false);
            explore_try(explore, state, i, EXPLORE_ROLL_BACK, false);
        }
    }
}

/* Registrars in their second start, recorded by each other, nothing promised. */
static inline void explore_begin(struct explore *explore)
{
    uint32_t state[EXPLORE_NODES];
    explore->map = (struct register_map){
        .generation = {1, 77}, .number = 7, .hash = {1, 2}, .registrar_count = EXPLORE_REGISTRARS};
    for (int i = 0; i < EXPLORE_REGISTRARS; i++) {
        /* The incarnation of the first life, in explore_start(). */
        explore->map.registrars[i] = (struct registrar){(node_id)(i + 1), 100u * (i + 1u) + 1};
    }
    struct explore_local *locals[EXPLORE_NODES];
    for (int i = 0; i < EXPLORE_NODES; i++) {
        struct explore_local *local = heap_zalloc(&explore->heap, sizeof *local);
        CHECK(local != NULL);
        locals[i] = local;
        local->node.self = (node_id)(i + 1);
        local->disk.state.heap = local->disk.starts.heap = &explore->heap;
        for (int j = 0; j < EXPLORE_REGISTRARS; j++) local->disk.records[j].heap = &explore->heap;
        explore_start(explore, local);
        if (i >= EXPLORE_REGISTRARS) continue;
        explore_copy_disk(&explore->old_disks[i], &local->disk);
        register_deinit(&local->node);
        boots_deinit(&local->boots);
        explore_start(explore, local);
    }
    for (int i = 0; i < EXPLORE_REGISTRARS; i++) {
        for (int j = 0; j < EXPLORE_REGISTRARS; j++) {
            if (i == j) continue;
            struct buf record = {.heap = &explore->heap};
            boot_encode(locals[j]->boots.starts.boot, &record);
            CHECK(boots_restore(&locals[i]->boots, (node_id)(j + 1), buf_slice(&record)) ==
                  STATUS_OK);
            buf_deinit(&record);
            locals[i]->boots.confirmed[j] = true;
        }
        memset(locals[i]->sent, 0, sizeof locals[i]->sent); /* Old asks say nothing new. */
        explore_set_voting(explore, locals[i]);
        explore_write_disk(locals[i]);
    }
    for (int i = 0; i < EXPLORE_NODES; i++) state[i] = explore_local_number(explore, locals[i]);
    explore_add(explore, state, (struct explore_step){0});
}

/* --- What was found --- */

static inline void explore_tell_message(const struct explore_message *message)
{
    static const char *const register_kinds[] = {"",         "prepare", "promise", "accept",
                                                 "accepted", "refused", "decided", "place"};
    static const char *const boots_kinds[] = {"", "ask", "recorded", "refused"};
    struct slice bytes = buf_slice(&message->bytes);
    struct register_message said;
    if (register_message_decode(bytes, &said) != STATUS_OK) {
        fprintf(stderr, "boots %s of n%u", boots_kinds[bytes.data[1]], (unsigned)message->from);
        return;
    }
    fprintf(stderr, "%s %llu.%u of n%u", register_kinds[said.kind],
            (unsigned long long)said.ballot.round, (unsigned)said.ballot.node,
            (unsigned)message->from);
    if (said.value.delta.size > 0) fprintf(stderr, ", value %u", said.value.delta.data[0]);
}

/* The way to the state that was added last, which is the one with the finding: searching
 * breadth first, there is none shorter. */
static inline void explore_tell(const struct explore *explore)
{
    static const char *const events[] = {"ends its wait", "syncs", "crashes, and restarts",
                                         "restarts without its disk", "restarts rolled back"};
    enum { STEPS_MAX = 200 };
    uint32_t way[STEPS_MAX];
    unsigned count = 0;
    uint32_t at = (uint32_t)explore->state_count - 1;
    for (; at != 0 && count < STEPS_MAX; at = explore->steps[at].from) way[count++] = at;
    while (count-- > 0) {
        const struct explore_step *step = &explore->steps[way[count]];
        fprintf(stderr, "  n%u ", step->node + 1u);
        if (step->event >= EXPLORE_MESSAGES_MAX) {
            fprintf(stderr, "%s", events[step->event - EXPLORE_MESSAGES_MAX]);
        } else {
            fprintf(stderr, "gets ");
            explore_tell_message(&explore->messages[step->event]);
        }
        fprintf(stderr, "\n");
    }
}

/* Visits all states, or those up to the first finding. */
static inline struct explore_findings explore_all(const struct explore_options *options,
                                                  const char *name)
{
    struct explore *explore = calloc(1, sizeof *explore);
    CHECK(explore != NULL);
    explore->options = *options;
    heap_init(&explore->heap, 0);
    for (int i = 0; i < EXPLORE_REGISTRARS; i++) {
        explore->old_disks[i].state.heap = &explore->heap;
    }
    explore_begin(explore);
    for (uint64_t i = 0; i < explore->state_count && !explore_found(explore); i++) {
        explore->visiting = (uint32_t)i;
        explore_visit(explore, i);
    }
    if (explore_found(explore) && options->tells) explore_tell(explore);
    printf("%s: %llu states, %llu transitions, %u states of single nodes, %u messages\n", name,
           (unsigned long long)explore->state_count, (unsigned long long)explore->transitions,
           explore->local_count, explore->message_count);
    EXPECT(explore->state_count > 1);
    struct explore_findings findings = explore->findings;

    for (uint32_t i = 0; i < explore->local_count; i++) {
        explore_local_free(&explore->heap, explore->locals[i]);
        buf_deinit(&explore->local_keys[i]);
    }
    for (unsigned i = 0; i < explore->message_count; i++) buf_deinit(&explore->messages[i].bytes);
    for (int i = 0; i < EXPLORE_REGISTRARS; i++) explore_free_disk(&explore->old_disks[i]);
    heap_free(&explore->heap, explore->locals);
    heap_free(&explore->heap, explore->local_hashes);
    heap_free(&explore->heap, explore->local_keys);
    heap_free(&explore->heap, explore->local_table);
    heap_free(&explore->heap, explore->states);
    heap_free(&explore->heap, explore->steps);
    heap_free(&explore->heap, explore->state_table);
    EXPECT(heap_used_bytes(&explore->heap) == 0);
    free(explore);
    return findings;
}
