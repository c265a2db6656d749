/* One node of health, and messages made by hand: what each may change, and what it must not. */
#include "cluster/health.h"

#include <string.h>

#include "base/check.h"
#include "test.h"

enum { CLUSTER = 77, GENERATION = 5, MEMBERS = 5 };

/* The node is n1, at boot 3; the disks of all have the incarnation 100 + id. */
struct fixture {
    struct heap heap;
    struct prng prng;
    struct outbox outbox;
    struct health *health;
    struct health_member members[MEMBERS];
    uint64_t now_ms;
};

static void begin(struct fixture *fixture)
{
    *fixture = (struct fixture){.prng = {.state = test_seed}, .now_ms = 1000};
    heap_init(&fixture->heap, 0);
    outbox_init(&fixture->outbox, &fixture->heap);
    for (int i = 0; i < MEMBERS; i++) {
        node_id id = (node_id)(i + 1);
        fixture->members[i] = (struct health_member){id, 100U + id, id % 3};
    }
    struct health_options options = {
        .self = {1, 101, 3}, .cluster = CLUSTER, .zone = 1, .heap = &fixture->heap};
    EXPECT(health_create(&options, &fixture->prng, &fixture->health) == STATUS_OK);
    EXPECT(health_set_members(fixture->health, fixture->members, MEMBERS, &fixture->prng) ==
           STATUS_OK);
    health_set_map(fixture->health, GENERATION, 10, 10);
}

static void end(struct fixture *fixture)
{
    health_destroy(fixture->health);
    outbox_deinit(&fixture->outbox);
    EXPECT(heap_used_bytes(&fixture->heap) == 0);
}

static struct health_card card_of(node_id id, uint64_t boot, uint32_t sequence)
{
    return (struct health_card){
        .id = id, .incarnation = 100U + id, .boot = boot, .sequence = sequence, .zone = id % 3};
}

/* What a message holds beyond its head; the cards are told in full unless `brief`. */
struct hand {
    struct health_card sender;
    uint64_t cluster, generation; /* 0: those of the fixture. */
    uint32_t depth;
    const struct health_opinion *opinions;
    const struct health_card *cards;
    size_t opinion_count, card_count;
    bool brief;
};

/* Gives a probe to the node; true when it answered. */
static bool give(struct fixture *fixture, struct hand hand)
{
    struct buf bytes;
    node_id previous = 0;
    buf_init(&bytes, &fixture->heap);
    buf_append_u8(&bytes, PROTOCOL_HEALTH);
    health_append_head(&bytes, HEALTH_PROBE, hand.cluster == 0 ? CLUSTER : hand.cluster,
                       hand.generation == 0 ? GENERATION : hand.generation, &hand.sender,
                       hand.depth);
    buf_append_u32le(&bytes, 1);
    buf_append_varint(&bytes, hand.opinion_count);
    for (size_t i = 0; i < hand.opinion_count; i++)
        health_append_opinion(&bytes, &previous, &hand.opinions[i]);
    previous = 0;
    buf_append_varint(&bytes, hand.card_count);
    for (size_t i = 0; i < hand.card_count; i++)
        health_append_card(&bytes, &previous, &hand.cards[i], !hand.brief);
    outbox_clear(&fixture->outbox);
    EXPECT(health_receive(fixture->health, hand.sender.id, buf_slice(&bytes), fixture->now_ms,
                          &fixture->prng, &fixture->outbox) == STATUS_OK);
    buf_deinit(&bytes);
    return fixture->outbox.count > 0;
}

static bool give_card(struct fixture *fixture, struct health_card sender)
{
    return give(fixture, (struct hand){.sender = sender});
}

static bool give_opinion(struct fixture *fixture, node_id from, struct health_opinion opinion)
{
    struct hand hand = {.sender = card_of(from, 1, 1), .opinions = &opinion, .opinion_count = 1};
    return give(fixture, hand);
}

static unsigned event_count(struct fixture *fixture, enum health_event_kind kind)
{
    struct health_event event;
    unsigned count = 0;
    while (health_next_event(fixture->health, &event)) count += event.kind == kind;
    return count;
}

static void run(struct fixture *fixture, uint64_t duration_ms)
{
    for (uint64_t end_ms = fixture->now_ms + duration_ms; fixture->now_ms < end_ms;) {
        outbox_clear(&fixture->outbox);
        fixture->now_ms += HEALTH_TICK_MS;
        health_tick(fixture->health, fixture->now_ms, &fixture->prng, &fixture->outbox);
    }
}

/* Invariant 1: all orders of the same cards end with the same one. */
TEST_CASE(the_newest_card_stands_whatever_the_order)
{
    struct fixture fixture;
    begin(&fixture);
    for (int round = 0; round < 200; round++) {
        struct health_card newest = {0};
        for (int i = 0; i < 8; i++) {
            uint64_t boot = 10 * (uint64_t)round + 1 + prng_below(&fixture.prng, 3);
            struct health_card card = card_of(2, boot, prng_below(&fixture.prng, 5));
            card.depth_code = (uint8_t)(card.sequence + boot % 10);
            bool newer = card.boot > newest.boot ||
                         (card.boot == newest.boot && card.sequence > newest.sequence);
            if (newer) newest = card;
            struct hand hand = {.sender = card_of(3, 1, 1), .cards = &card, .card_count = 1};
            give(&fixture, hand);
            EXPECT(memcmp(health_card_of(fixture.health, 2), &newest, sizeof newest) == 0);
            event_count(&fixture, HEALTH_DIED);
        }
    }
    end(&fixture);
}

/* A restarted process begins to count its cards anew. */
TEST_CASE(a_card_of_an_older_boot_does_not_replace_a_newer_one)
{
    struct fixture fixture;
    begin(&fixture);
    give_card(&fixture, card_of(2, 2, 3));
    give_card(&fixture, card_of(2, 1, 900));
    EXPECT(health_card_of(fixture.health, 2)->boot == 2);
    give_card(&fixture, card_of(2, 3, 1));
    EXPECT(health_card_of(fixture.health, 2)->boot == 3);
    EXPECT(event_count(&fixture, HEALTH_RESTARTED) == 1);
    end(&fixture);
}

/* Invariant 5. */
TEST_CASE(what_does_not_belong_here_is_counted_and_changes_nothing)
{
    struct fixture fixture;
    begin(&fixture);
    const struct health_counts *counts = health_counts(fixture.health);

    EXPECT(!give(&fixture, (struct hand){.sender = card_of(2, 1, 1), .cluster = 78}));
    EXPECT(counts->foreign_count == 1);
    EXPECT(!give(&fixture, (struct hand){.sender = card_of(2, 1, 1), .generation = 6}));
    EXPECT(!give(&fixture, (struct hand){.sender = card_of(3, 1, 1), .generation = 6}));
    EXPECT(counts->foreign_count == 3);
    EXPECT(event_count(&fixture, HEALTH_OTHER_GENERATION) == 1);

    /* A stranger is answered, so that it learns of our map; its disk is not the member's. */
    EXPECT(give_card(&fixture, card_of(99, 1, 1)));
    struct health_card other_disk = card_of(2, 1, 1);
    other_disk.incarnation++;
    other_disk.known = 50;
    EXPECT(give_card(&fixture, other_disk));
    EXPECT(counts->stranger_count == 2);
    struct health_card strange = card_of(98, 1, 1);
    give(&fixture, (struct hand){.sender = card_of(3, 1, 1), .cards = &strange, .card_count = 1});
    EXPECT(counts->stranger_count == 3);

    EXPECT(health_card_of(fixture.health, 2) == NULL);
    EXPECT(health_card_of(fixture.health, 99) == NULL);
    EXPECT(health_of(fixture.health, 99).state == HEALTH_DOWN);
    EXPECT(event_count(&fixture, HEALTH_MAP_AHEAD) == 0);

    struct slice garbage = SLICE_LITERAL("\x01\x01garbage");
    EXPECT(health_receive(fixture.health, 2, garbage, 1000, &fixture.prng, &fixture.outbox) ==
           STATUS_INVALID);
    EXPECT(counts->invalid_count == 1);
    end(&fixture);
}

/* The connection vouches for who speaks. */
TEST_CASE(nobody_speaks_for_another_node)
{
    struct fixture fixture;
    struct buf bytes;
    begin(&fixture);
    buf_init(&bytes, &fixture.heap);
    struct health_card sender = card_of(2, 1, 1);
    buf_append_u8(&bytes, PROTOCOL_HEALTH);
    health_append_head(&bytes, HEALTH_PROBE, CLUSTER, GENERATION, &sender, 0);
    buf_append_u32le(&bytes, 1);
    buf_append_u16le(&bytes, 0);
    EXPECT(health_receive(fixture.health, 3, buf_slice(&bytes), 1000, &fixture.prng,
                          &fixture.outbox) == STATUS_INVALID);
    EXPECT(health_card_of(fixture.health, 2) == NULL);
    buf_deinit(&bytes);
    end(&fixture);
}

TEST_CASE(a_second_process_on_a_copy_of_the_directory_is_reported_once)
{
    struct fixture fixture;
    begin(&fixture);
    struct health_card twin = card_of(1, 4, 1);
    struct hand hand = {.sender = card_of(2, 1, 1), .cards = &twin, .card_count = 1};
    give(&fixture, hand);
    give(&fixture, hand);
    EXPECT(event_count(&fixture, HEALTH_TWIN) == 1);

    /* Directly, by what others say of it, and at the same boot with cards that we never made. */
    give_card(&fixture, card_of(1, 5, 1));
    EXPECT(event_count(&fixture, HEALTH_TWIN) == 1);
    give_opinion(&fixture, 2, (struct health_opinion){.subject = 1, .boot = 6, .accuser = 3});
    EXPECT(event_count(&fixture, HEALTH_TWIN) == 1);
    end(&fixture);

    begin(&fixture);
    twin = card_of(1, 3, 1000);
    give(&fixture, hand);
    EXPECT(event_count(&fixture, HEALTH_TWIN) == 1);

    /* Another disk of that id is none: the register never gives an id twice, so it is a stranger
     * to whoever asks the map. Our own older cards come round all the time. */
    twin = card_of(1, 2, 1000);
    give(&fixture, hand);
    EXPECT(event_count(&fixture, HEALTH_TWIN) == 0);
    end(&fixture);
}

/* Invariant 4. */
TEST_CASE(an_opinion_about_this_node_begins_its_next_life)
{
    struct fixture fixture;
    begin(&fixture);
    struct health_opinion opinion = {.subject = 1, .boot = 3, .accuser = 4};
    give_opinion(&fixture, 2, opinion);
    EXPECT(health_card_of(fixture.health, 1)->rebuttal == 1);
    uint32_t sequence = health_card_of(fixture.health, 1)->sequence;

    /* Old news, and of an earlier boot. */
    give_opinion(&fixture, 2, opinion);
    opinion.boot = 2;
    give_opinion(&fixture, 2, opinion);
    EXPECT(health_card_of(fixture.health, 1)->rebuttal == 1);
    EXPECT(health_card_of(fixture.health, 1)->sequence == sequence);

    opinion = (struct health_opinion){1, 1, 1, 1, true};
    opinion.boot = 3;
    opinion.rebuttal = 7;
    give_opinion(&fixture, 2, opinion);
    EXPECT(health_card_of(fixture.health, 1)->rebuttal == 8);
    opinion.rebuttal = HEALTH_COUNTER_MAX;
    give_opinion(&fixture, 2, opinion);
    EXPECT(health_card_of(fixture.health, 1)->rebuttal == 8);
    EXPECT(health_counts(fixture.health)->rebuttal_count == 2);
    EXPECT(health_of(fixture.health, 1).state == HEALTH_ALIVE);
    end(&fixture);
}

/* Invariants 2 and 3: each step of a life, and what is too late for it. */
TEST_CASE(a_life_goes_one_way_and_the_next_one_begins_alive)
{
    struct fixture fixture;
    begin(&fixture);
    struct health_opinion suspect = {.subject = 2, .boot = 1, .rebuttal = 4, .accuser = 3};
    struct health_opinion down = suspect;
    down.down = true;
    struct health_card card = card_of(2, 1, 10);
    card.rebuttal = 4;
    give_card(&fixture, card);

    give_opinion(&fixture, 3, suspect);
    EXPECT(health_of(fixture.health, 2).state == HEALTH_SUSPECT);
    card.sequence++; /* It has another queue, and has heard of nothing. */
    give_card(&fixture, card);
    EXPECT(health_of(fixture.health, 2).state == HEALTH_SUSPECT);
    give_opinion(&fixture, 3, down); /* No death by hearsay: it has five seconds to refute it. */
    run(&fixture, 4800);
    EXPECT(health_of(fixture.health, 2).state == HEALTH_SUSPECT);
    run(&fixture, 400);
    EXPECT(health_of(fixture.health, 2).state == HEALTH_DOWN);
    give_opinion(&fixture, 3, suspect);
    give_opinion(&fixture, 4, down);
    EXPECT(event_count(&fixture, HEALTH_DIED) == 1);

    card.sequence++;
    card.rebuttal = 5;
    give_card(&fixture, card);
    EXPECT(health_of(fixture.health, 2).state == HEALTH_ALIVE);
    give_card(&fixture, card);
    give_opinion(&fixture, 3, down); /* Of the life before. */
    EXPECT(health_of(fixture.health, 2).state == HEALTH_ALIVE);
    EXPECT(event_count(&fixture, HEALTH_RETURNED) == 1);

    /* A later life that is suspected is one that it came back to. */
    down.rebuttal = 5;
    give_opinion(&fixture, 3, down);
    run(&fixture, 5200);
    EXPECT(event_count(&fixture, HEALTH_DIED) == 1);
    suspect.rebuttal = 6;
    give_opinion(&fixture, 3, suspect);
    EXPECT(event_count(&fixture, HEALTH_RETURNED) == 1);
    EXPECT(health_of(fixture.health, 2).state == HEALTH_SUSPECT);
    end(&fixture);
}

TEST_CASE(opinions_of_suspects_are_not_taken)
{
    struct fixture fixture;
    begin(&fixture);
    give_card(&fixture, card_of(2, 1, 1));
    give_card(&fixture, card_of(3, 1, 1));
    give_opinion(&fixture, 2, (struct health_opinion){.subject = 3, .boot = 1, .accuser = 2});
    EXPECT(health_of(fixture.health, 3).state == HEALTH_SUSPECT);
    struct health_opinion opinion = {.subject = 4, .accuser = 3};
    give_opinion(&fixture, 3, opinion);
    EXPECT(health_of(fixture.health, 4).state == HEALTH_ALIVE);
    give_opinion(&fixture, 2, opinion);
    EXPECT(health_of(fixture.health, 4).state == HEALTH_SUSPECT);

    /* But for those about this node, which cost a card. */
    give_opinion(&fixture, 3, (struct health_opinion){.subject = 1, .boot = 3, .accuser = 3});
    EXPECT(health_card_of(fixture.health, 1)->rebuttal == 1);
    end(&fixture);
}

TEST_CASE(a_short_card_needs_the_full_one_of_its_boot)
{
    struct fixture fixture;
    begin(&fixture);
    struct health_card card = card_of(2, 1, 5);
    struct hand hand = {.sender = card_of(3, 1, 1), .cards = &card, .card_count = 1, .brief = true};
    give(&fixture, hand);
    EXPECT(health_card_of(fixture.health, 2) == NULL);
    EXPECT(health_counts(fixture.health)->baseless_count == 1);
    give_card(&fixture, card_of(2, 1, 4));
    give(&fixture, hand);
    EXPECT(health_card_of(fixture.health, 2)->sequence == 5);
    EXPECT(health_card_of(fixture.health, 2)->incarnation == 102);
    card.boot = 2;
    give(&fixture, hand);
    EXPECT(health_card_of(fixture.health, 2)->boot == 1);
    EXPECT(health_counts(fixture.health)->baseless_count == 2);
    end(&fixture);
}

static void give_numbers(struct fixture *fixture, node_id id, uint64_t boot, uint64_t number)
{
    struct health_card card = card_of(id, boot, 1);
    card.known = number;
    card.acknowledged = number;
    give_card(fixture, card);
}

TEST_CASE(the_least_acknowledged_number_trusts_the_newest_boot_of_the_right_disk)
{
    struct fixture fixture;
    begin(&fixture);
    const struct health_member *members = fixture.members;
    EXPECT(health_acknowledged_min(fixture.health, members, 1) == 10); /* This node's own. */
    EXPECT(health_acknowledged_min(fixture.health, members, MEMBERS) == 0);
    EXPECT(health_acknowledged_min(fixture.health, members, 0) == 0);
    for (unsigned id = 2; id <= MEMBERS; id++) give_numbers(&fixture, (node_id)id, 1, 10U + id);
    EXPECT(health_acknowledged_min(fixture.health, members, MEMBERS) == 10);
    health_set_map(fixture.health, GENERATION, 20, 20);
    EXPECT(health_acknowledged_min(fixture.health, members, MEMBERS) == 12);
    EXPECT(health_acknowledged_min(fixture.health, members + 2, 3) == 13);

    /* Another boot was heard of: what the one before acknowledged is not enough. */
    give_opinion(&fixture, 2, (struct health_opinion){.subject = 4, .boot = 2, .accuser = 2});
    EXPECT(health_acknowledged_min(fixture.health, members, MEMBERS) == 0);
    give_numbers(&fixture, 4, 2, 19);
    EXPECT(health_acknowledged_min(fixture.health, members, MEMBERS) == 12);

    struct health_member other_disk = members[3];
    other_disk.incarnation++;
    EXPECT(health_acknowledged_min(fixture.health, &other_disk, 1) == 0);

    /* Numbers of another generation mean nothing. */
    health_set_map(fixture.health, GENERATION + 1, 20, 20);
    EXPECT(health_acknowledged_min(fixture.health, members, MEMBERS) == 0);
    end(&fixture);
}

TEST_CASE(a_newer_map_is_reported_once)
{
    struct fixture fixture;
    begin(&fixture);
    give_numbers(&fixture, 2, 1, 10);
    EXPECT(event_count(&fixture, HEALTH_MAP_AHEAD) == 0);
    give_numbers(&fixture, 3, 1, 11);
    give_numbers(&fixture, 4, 1, 11);
    EXPECT(event_count(&fixture, HEALTH_MAP_AHEAD) == 1);
    end(&fixture);
}

TEST_CASE(live_traffic_shows_at_once)
{
    struct fixture fixture;
    begin(&fixture);
    struct health *health = fixture.health;
    health_failed(health, 2, HEALTH_CLOSED);
    EXPECT(health_of(health, 2).state == HEALTH_DOWN);
    EXPECT(event_count(&fixture, HEALTH_DIED) == 0); /* Nobody else has to think so. */
    health_heard(health, 2, 700, 12);
    EXPECT(health_of(health, 2).state == HEALTH_ALIVE);
    EXPECT(health_of(health, 2).depth == 12 && health_of(health, 2).latency_us == 700);

    health_failed(health, 3, HEALTH_TIMEOUT);
    EXPECT(health_of(health, 3).state == HEALTH_ALIVE);
    health_failed(health, 3, HEALTH_TIMEOUT);
    EXPECT(health_of(health, 3).state == HEALTH_SUSPECT);
    health_heard(health, 3, 900, 0);
    EXPECT(health_of(health, 3).state == HEALTH_ALIVE);

    /* Another process took its place: the old connection says nothing about it. */
    give_card(&fixture, card_of(4, 1, 1));
    health_failed(health, 4, HEALTH_CLOSED);
    give_card(&fixture, card_of(4, 2, 1));
    EXPECT(health_of(health, 4).state == HEALTH_ALIVE);

    health_heard(health, 99, 1, 1);
    health_failed(health, 99, HEALTH_CLOSED);
    health_failed(health, 1, HEALTH_CLOSED);
    EXPECT(health_of(health, 1).state == HEALTH_ALIVE);
    end(&fixture);
}

TEST_CASE(who_fails_live_traffic_is_probed_out_of_turn)
{
    struct fixture fixture;
    begin(&fixture);
    run(&fixture, HEALTH_TICK_MS);
    for (unsigned id = 2; id <= MEMBERS; id++)
        health_failed(fixture.health, (node_id)id, HEALTH_TIMEOUT);
    run(&fixture, HEALTH_TICK_MS);
    EXPECT(health_counts(fixture.health)->sent_count >= MEMBERS - 1);
    end(&fixture);
}

TEST_CASE(direct_messages_tell_the_depth_as_it_is_and_cards_when_it_doubled)
{
    struct fixture fixture;
    begin(&fixture);
    give(&fixture, (struct hand){.sender = card_of(2, 1, 1), .depth = 1234});
    EXPECT(health_of(fixture.health, 2).depth == 1234);

    run(&fixture, 10000);
    uint32_t sequence = health_card_of(fixture.health, 1)->sequence;
    health_set_load(fixture.health, 100, 2000);
    EXPECT(health_card_of(fixture.health, 1)->sequence == sequence + 1);
    health_set_load(fixture.health, 1000, 2000); /* Too soon. */
    EXPECT(health_card_of(fixture.health, 1)->sequence == sequence + 1);
    run(&fixture, 6000);
    health_set_load(fixture.health, 110, 2100); /* Too little. */
    EXPECT(health_card_of(fixture.health, 1)->sequence == sequence + 1);
    health_set_load(fixture.health, 30, 2100);
    EXPECT(health_card_of(fixture.health, 1)->sequence == sequence + 2);

    give_card(&fixture, card_of(2, 1, 2));
    struct health_message message;
    EXPECT(health_decode(outbox_bytes(&fixture.outbox, 0), &message) == STATUS_OK);
    EXPECT(message.depth == 30);
    end(&fixture);
}

TEST_CASE(members_come_and_go_and_those_that_stay_are_known)
{
    struct fixture fixture;
    begin(&fixture);
    give_card(&fixture, card_of(2, 1, 1));
    give_card(&fixture, card_of(3, 1, 1));
    health_heard(fixture.health, 3, 500, 1);
    give_opinion(&fixture, 2, (struct health_opinion){3, 0, 3, 2, true});
    struct health_opinion down = {.subject = 3, .boot = 1, .accuser = 2, .down = true};
    give_opinion(&fixture, 2, down);
    run(&fixture, 5200);
    give_numbers(&fixture, 4, 1, 12);

    struct health_member now[] = {{1, 101, 1}, {3, 103, 0}, {4, 999, 0}, {9, 109, 2}};
    EXPECT(health_set_members(fixture.health, now, 4, &fixture.prng) == STATUS_OK);
    EXPECT(event_count(&fixture, HEALTH_DIED) == 1); /* What was not taken out is still there. */
    EXPECT(health_of(fixture.health, 3).state == HEALTH_DOWN);
    EXPECT(health_of(fixture.health, 3).latency_us == 500);
    EXPECT(health_of(fixture.health, 2).state == HEALTH_DOWN);
    EXPECT(health_card_of(fixture.health, 2) == NULL);
    EXPECT(health_card_of(fixture.health, 4) == NULL); /* The map names another disk. */
    EXPECT(health_of(fixture.health, 9).state == HEALTH_ALIVE);
    EXPECT(health_of(fixture.health, 9).zone == 2);
    give_card(&fixture, card_of(9, 1, 1));
    run(&fixture, 5000);

    EXPECT(health_set_members(fixture.health, NULL, 0, &fixture.prng) == STATUS_OK);
    run(&fixture, 5000);
    EXPECT(fixture.outbox.count == 0);
    end(&fixture);
}

TEST_CASE(without_memory_the_members_are_as_before)
{
    struct fixture fixture;
    begin(&fixture);
    give_card(&fixture, card_of(2, 1, 1));
    struct health_member now[] = {{1, 101, 1}, {300, 400, 0}};
    for (int64_t after = 0;; after++) {
        fixture.heap.failure_after = after;
        enum status status = health_set_members(fixture.health, now, 2, &fixture.prng);
        fixture.heap.failure_after = -1;
        if (status == STATUS_OK) {
            EXPECT(after >= 6);
            break;
        }
        EXPECT(status == STATUS_NOMEM);
        EXPECT(health_card_of(fixture.health, 2) != NULL);
        EXPECT(health_of(fixture.health, 300).state == HEALTH_DOWN);
    }
    EXPECT(health_card_of(fixture.health, 2) == NULL);

    /* Messages that find no memory are lost as the network might lose them. */
    for (int64_t after = 0; after < 8; after++) {
        outbox_deinit(&fixture.outbox);
        outbox_init(&fixture.outbox, &fixture.heap);
        fixture.heap.failure_after = after;
        fixture.now_ms += HEALTH_INTERVAL_MS;
        health_tick(fixture.health, fixture.now_ms, &fixture.prng, &fixture.outbox);
        health_heard(fixture.health, 300, 1, 1);
        fixture.heap.failure_after = -1;
    }
    end(&fixture);

    struct health_options options = {.self = {1, 101, 3}, .heap = &fixture.heap};
    for (int64_t after = 0; after < 4; after++) {
        fixture.heap.failure_after = after;
        EXPECT(health_create(&options, &fixture.prng, &fixture.health) == STATUS_NOMEM);
        EXPECT(heap_used_bytes(&fixture.heap) == 0);
    }
}

/* Invariant 6: however often it is asked, and however much there is to tell. */
TEST_CASE(news_keeps_to_its_bytes)
{
    enum { MANY = 1000, SECONDS = 10, PROBES_A_TICK = 100, BURST_SECONDS = 2 };
    struct fixture fixture;
    begin(&fixture);
    static struct health_member many[MANY];
    for (unsigned i = 0; i < MANY; i++)
        many[i] = (struct health_member){(node_id)(i + 1), 101U + i, 0};
    EXPECT(health_set_members(fixture.health, many, MANY, &fixture.prng) == STATUS_OK);
    const struct health_counts *counts = health_counts(fixture.health);
    give_card(&fixture, card_of(2, 1, 1)); /* So far there is nothing to tell. */
    uint64_t bare = counts->sent_bytes, id = 2;
    for (int tick = 0; tick < SECONDS * 1000 / HEALTH_TICK_MS; tick++) {
        for (int i = 0; i < PROBES_A_TICK; i++, id = id == MANY ? 2 : id + 1)
            give_card(&fixture, card_of((node_id)id, 1, 1 + (uint32_t)tick));
        run(&fixture, HEALTH_TICK_MS);
    }
    uint64_t news = counts->sent_bytes - counts->sent_count * bare;
    EXPECT(news <= (SECONDS + BURST_SECONDS) * HEALTH_BYTES_PER_S);
    EXPECT(news >= HEALTH_BYTES_PER_S);
    end(&fixture);
}

/* Before it has a map a node asks its seeds, and learns from them that there is one. */
TEST_CASE(a_node_without_members_asks_its_seeds)
{
    struct fixture fixture;
    begin(&fixture);
    health_destroy(fixture.health);
    struct health_options options = {
        .self = {1, 101, 1}, .cluster = CLUSTER, .heap = &fixture.heap};
    EXPECT(health_create(&options, &fixture.prng, &fixture.health) == STATUS_OK);
    run(&fixture, 3000);
    EXPECT(health_counts(fixture.health)->sent_count == 0);
    health_set_seeds(fixture.health, (node_id[]){4, 5}, 2);
    run(&fixture, 3000);
    EXPECT(health_counts(fixture.health)->sent_count == 3);

    give_numbers(&fixture, 3, 1, 33);
    EXPECT(event_count(&fixture, HEALTH_MAP_AHEAD) == 0); /* Nobody it knows. */
    give_numbers(&fixture, 4, 1, 33);
    EXPECT(event_count(&fixture, HEALTH_MAP_AHEAD) == 1);
    end(&fixture);
}

TEST_MAIN(TEST(the_newest_card_stands_whatever_the_order),
          TEST(a_card_of_an_older_boot_does_not_replace_a_newer_one),
          TEST(what_does_not_belong_here_is_counted_and_changes_nothing),
          TEST(nobody_speaks_for_another_node),
          TEST(a_second_process_on_a_copy_of_the_directory_is_reported_once),
          TEST(an_opinion_about_this_node_begins_its_next_life),
          TEST(a_life_goes_one_way_and_the_next_one_begins_alive),
          TEST(opinions_of_suspects_are_not_taken),
          TEST(a_short_card_needs_the_full_one_of_its_boot),
          TEST(the_least_acknowledged_number_trusts_the_newest_boot_of_the_right_disk),
          TEST(a_newer_map_is_reported_once), TEST(live_traffic_shows_at_once),
          TEST(who_fails_live_traffic_is_probed_out_of_turn),
          TEST(direct_messages_tell_the_depth_as_it_is_and_cards_when_it_doubled),
          TEST(members_come_and_go_and_those_that_stay_are_known),
          TEST(without_memory_the_members_are_as_before), TEST(news_keeps_to_its_bytes),
          TEST(a_node_without_members_asks_its_seeds))
