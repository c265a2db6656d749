/* The register told as stories, one for each paragraph of docs/design/register.md. */
#include "cluster/register.h"

#include "register_world.h"

static const struct world_options three = {.node_count = 3, .registrar_count = 3};

/* Of the registrars n1 to n3, and two nodes that are none. */
static const struct world_options five = {.node_count = 5, .registrar_count = 3};

static enum proposal_outcome outcome(struct world *world, node_id id)
{
    return world_node(world, id)->node.outcome;
}

static bool may_vote(struct world *world, node_id id)
{
    return boots_may_vote(&world_node(world, id)->boots);
}

static bool made_by(const struct world *world, uint64_t number, const char *delta)
{
    return slice_equal(world_delta(world, number), slice_from_text(delta));
}

/* --- One instance --- */

TEST_CASE(a_value_is_chosen_in_two_rounds_of_messages)
{
    struct world *world = world_create_settled(&three, test_seed);
    world_propose(world, 1, "split h");
    world_run(world, 100);
    EXPECT_STORY(world, "[ 100] register 2: n1 asks to promise 1.1\n"
                        "[ 100] register 2: n1 promises 1.1\n"
                        "[ 101] register 2: n2 promises 1.1\n"
                        "[ 101] register 2: n3 promises 1.1\n"
                        "[ 103] register 2: n1 asks to accept 1.1, its own value\n"
                        "[ 103] register 2: n1 accepts 1.1\n"
                        "[ 104] register 2: n2 accepts 1.1\n"
                        "[ 104] register 2: n3 accepts 1.1\n"
                        "[ 106] register 2: n1 has 1.1 accepted by a majority\n"
                        "[ 106] register 2: n1 learns the decision, which is what it proposed\n"
                        "[ 107] register 2: n2 learns the decision\n"
                        "[ 107] register 2: n3 learns the decision\n");
    EXPECT(made_by(world, 2, "split h"));
    EXPECT(outcome(world, 1) == PROPOSAL_CHOSEN);
    world_destroy(world);
}

TEST_CASE(any_member_proposes_and_a_registrar_may_be_away)
{
    struct world *world = world_create_settled(&five, test_seed);
    world_crash(world, 2);
    world_propose(world, 5, "split h");
    world_run(world, 100);
    EXPECT_STORY(world, "[ 100] register 2: n5 asks to promise 1.5\n"
                        "[ 101] register 2: n1 promises 1.5\n"
                        "[ 101] register 2: n3 promises 1.5\n"
                        "[ 103] register 2: n5 asks to accept 1.5, its own value\n"
                        "[ 104] register 2: n1 accepts 1.5\n"
                        "[ 104] register 2: n3 accepts 1.5\n"
                        "[ 106] register 2: n5 has 1.5 accepted by a majority\n"
                        "[ 106] register 2: n5 learns the decision, which is what it proposed\n"
                        "[ 107] register 2: n1 learns the decision\n"
                        "[ 107] register 2: n3 learns the decision\n");
    EXPECT(made_by(world, 2, "split h"));
    world_destroy(world);
}

TEST_CASE(of_two_proposals_one_is_chosen_and_both_learn_which)
{
    struct world *world = world_create_settled(&three, test_seed);
    world_propose(world, 1, "split h");
    world_propose(world, 2, "join n4");
    world_run(world, 1000);
    EXPECT_STORY(world, "[ 100] register 2: n1 asks to promise 1.1\n"
                        "[ 100] register 2: n2 asks to promise 1.2\n"
                        "[ 100] register 2: n1 promises 1.1\n"
                        "[ 100] register 2: n2 promises 1.2\n"
                        "[ 101] register 2: n2 refuses 1.1, it promised 1.2\n"
                        "[ 101] register 2: n3 promises 1.1\n"
                        "[ 101] register 2: n1 promises 1.2\n"
                        "[ 101] register 2: n3 promises 1.2\n"
                        "[ 103] register 2: n1 asks to accept 1.1, its own value\n"
                        "[ 103] register 2: n2 asks to accept 1.2, its own value\n"
                        "[ 103] register 2: n1 refuses 1.1, it promised 1.2\n"
                        "[ 103] register 2: n2 accepts 1.2\n"
                        "[ 104] register 2: n2 refuses 1.1, it promised 1.2\n"
                        "[ 104] register 2: n3 refuses 1.1, it promised 1.2\n"
                        "[ 104] register 2: n1 accepts 1.2\n"
                        "[ 104] register 2: n3 accepts 1.2\n"
                        "[ 105] register 2: n1 gives 1.1 up, waits 4 ms\n"
                        "[ 106] register 2: n2 has 1.2 accepted by a majority\n"
                        "[ 106] register 2: n2 learns the decision, which is what it proposed\n"
                        "[ 107] register 2: n1 learns the decision, its own proposal lost\n"
                        "[ 107] register 2: n3 learns the decision\n");
    EXPECT(made_by(world, 2, "join n4"));
    EXPECT(outcome(world, 1) == PROPOSAL_LOST);
    EXPECT(outcome(world, 2) == PROPOSAL_CHOSEN);
    world_destroy(world);
}

/* n5 is gone before anybody but n1 has taken its value: nobody knows whether it was chosen. */
TEST_CASE(a_value_that_may_have_been_chosen_is_carried_on)
{
    struct world *world = world_create_settled(&five, test_seed);
    world_propose(world, 5, "split h");
    world_run(world, 2);
    world_cut(world, 5, 2, true);
    world_cut(world, 5, 3, true);
    world_run(world, 2);
    world_crash(world, 5);
    world_run(world, 100);
    EXPECT_STORY(world, "[ 100] register 2: n5 asks to promise 1.5\n"
                        "[ 101] register 2: n1 promises 1.5\n"
                        "[ 101] register 2: n2 promises 1.5\n"
                        "[ 101] register 2: n3 promises 1.5\n"
                        "[ 103] register 2: n5 asks to accept 1.5, its own value\n"
                        "[ 104] register 2: n1 accepts 1.5\n");
    world_propose(world, 4, "join n6");
    world_run(world, 1000);
    EXPECT_STORY(world, "[ 204] register 2: n4 asks to promise 1.4\n"
                        "[ 205] register 2: n1 refuses 1.4, it promised 1.5\n"
                        "[ 205] register 2: n2 refuses 1.4, it promised 1.5\n"
                        "[ 205] register 2: n3 refuses 1.4, it promised 1.5\n"
                        "[ 206] register 2: n4 gives 1.4 up, waits 11 ms\n"
                        "[ 217] register 2: n4 asks to promise 2.4\n"
                        "[ 218] register 2: n1 promises 2.4, has accepted 1.5\n"
                        "[ 218] register 2: n2 promises 2.4\n"
                        "[ 218] register 2: n3 promises 2.4\n"
                        "[ 220] register 2: n4 asks to accept 2.4, a value found accepted\n"
                        "[ 221] register 2: n1 accepts 2.4\n"
                        "[ 221] register 2: n2 accepts 2.4\n"
                        "[ 221] register 2: n3 accepts 2.4\n"
                        "[ 223] register 2: n4 has 2.4 accepted by a majority\n"
                        "[ 223] register 2: n4 learns the decision, its own proposal lost\n"
                        "[ 224] register 2: n1 learns the decision\n"
                        "[ 224] register 2: n2 learns the decision\n"
                        "[ 224] register 2: n3 learns the decision\n");
    EXPECT(made_by(world, 2, "split h"));
    EXPECT(outcome(world, 4) == PROPOSAL_LOST);
    world_destroy(world);
}

TEST_CASE(silent_registrars_are_asked_again_until_a_majority_is_there)
{
    struct world *world = world_create_settled(&three, test_seed);
    world_cut(world, 1, 2, true);
    world_cut(world, 1, 3, true);
    world_propose(world, 1, "split h");
    world_run(world, 1000);
    EXPECT_STORY(world, "[ 100] register 2: n1 asks to promise 1.1\n"
                        "[ 100] register 2: n1 promises 1.1\n"
                        "[ 350] register 2: n1 asks to promise 1.1\n"
                        "[ 653] register 2: n1 asks to promise 1.1\n");
    EXPECT(outcome(world, 1) == PROPOSAL_OPEN);
    world_cut(world, 1, 2, false);
    world_run(world, 2000);
    EXPECT_STORY(world, "[1398] register 2: n1 asks to promise 1.1\n"
                        "[1399] register 2: n2 promises 1.1\n"
                        "[1401] register 2: n1 asks to accept 1.1, its own value\n"
                        "[1401] register 2: n1 accepts 1.1\n"
                        "[1402] register 2: n2 accepts 1.1\n"
                        "[1404] register 2: n1 has 1.1 accepted by a majority\n"
                        "[1404] register 2: n1 learns the decision, which is what it proposed\n"
                        "[1405] register 2: n2 learns the decision\n");
    EXPECT(outcome(world, 1) == PROPOSAL_CHOSEN);
    world_destroy(world);
}

TEST_CASE(one_registrar_decides_alone)
{
    struct world_options two = {.node_count = 2, .registrar_count = 1};
    struct world *world = world_create_settled(&two, test_seed);
    world_propose(world, 2, "join n3");
    world_run(world, 100);
    EXPECT_STORY(world, "[ 100] register 2: n2 asks to promise 1.2\n"
                        "[ 101] register 2: n1 promises 1.2\n"
                        "[ 103] register 2: n2 asks to accept 1.2, its own value\n"
                        "[ 104] register 2: n1 accepts 1.2\n"
                        "[ 106] register 2: n2 has 1.2 accepted by a majority\n"
                        "[ 106] register 2: n2 learns the decision, which is what it proposed\n"
                        "[ 107] register 2: n1 learns the decision\n");
    world_crash(world, 1);
    world_propose(world, 2, "exclude n1");
    world_run(world, 20000);
    EXPECT(outcome(world, 2) == PROPOSAL_OPEN); /* Nobody else can say. */
    EXPECT(world_delta(world, 3).size == 0);
    world_destroy(world);
}

/* --- Promises and disks --- */

TEST_CASE(a_promise_leaves_once_it_is_durable)
{
    struct world_options slow = {.node_count = 5, .registrar_count = 3};
    struct world *world = world_create_settled(&slow, test_seed);
    world_propose(world, 5, "split h");
    world_run(world, 1);
    struct world_node *first = world_node(world, 1);
    struct register_state kept;
    EXPECT(ballot_compare(first->node.acceptor.promised, (struct ballot){1, 5, 0}) > 0);
    EXPECT(register_state_decode(buf_slice(&first->disk.state), &kept) == STATUS_CORRUPT);

    /* The power goes before the disk is done: the promise was never given. */
    world_crash(world, 1);
    world_restart(world, 1);
    EXPECT(ballot_is_none(first->node.acceptor.promised));
    world_crash(world, 2);
    world_crash(world, 3);
    world_run(world, 100);
    EXPECT(world_node(world, 5)->node.proposer.yes == 0);
    world_destroy(world);
}

TEST_CASE(a_restarted_registrar_keeps_its_promise)
{
    struct world *world = world_create_settled(&five, test_seed);
    world_cut(world, 5, 2, true);
    world_cut(world, 5, 3, true);
    world_propose(world, 5, "split h");
    world_run(world, 10);
    world_crash(world, 1);
    world_restart(world, 1);
    world_run(world, 100);
    world_crash(world, 5);
    world_story_clear(world);
    /* A lower ballot, which comes late. */
    world_propose(world, 4, "join n6");
    world_run(world, 3);
    EXPECT_STORY(world, "[ 210] register 2: n4 asks to promise 1.4\n"
                        "[ 211] register 2: n1 refuses 1.4, it promised 1.5\n"
                        "[ 211] register 2: n2 promises 1.4\n"
                        "[ 211] register 2: n3 promises 1.4\n"
                        "[ 213] register 2: n4 asks to accept 1.4, its own value\n");
    world_destroy(world);
}

/* --- Who is elsewhere --- */

TEST_CASE(who_asks_about_the_instance_before_is_told_its_decision)
{
    struct world *world = world_create_settled(&three, test_seed);
    world_cut(world, 3, 1, true);
    world_cut(world, 3, 2, true);
    world_propose(world, 1, "split h");
    world_run(world, 100);
    world_cut(world, 3, 1, false);
    world_cut(world, 3, 2, false);
    world_story_clear(world);
    world_propose(world, 3, "split k");
    world_run(world, 100);
    EXPECT_STORY(world, "[ 200] register 2: n3 asks to promise 1.3\n"
                        "[ 200] register 2: n3 promises 1.3\n"
                        "[ 202] register 2: n3 learns the decision, its own proposal lost\n");
    EXPECT(outcome(world, 3) == PROPOSAL_LOST);
    EXPECT(world_node(world, 3)->node.map.number == 2);
    world_destroy(world);
}

TEST_CASE(who_asks_about_an_older_instance_fetches_the_map)
{
    struct world *world = world_create_settled(&three, test_seed);
    world_cut(world, 3, 1, true);
    world_cut(world, 3, 2, true);
    world_propose(world, 1, "split h");
    world_run(world, 100);
    world_propose(world, 2, "split i");
    world_run(world, 100);
    world_cut(world, 3, 1, false);
    world_cut(world, 3, 2, false);
    world_story_clear(world);
    world_propose(world, 3, "split k");
    world_run(world, 100);
    EXPECT_STORY(world, "[ 300] register 2: n3 asks to promise 1.3\n"
                        "[ 300] register 2: n3 promises 1.3\n");
    EXPECT(world_node(world, 3)->node.map.number == 3);
    EXPECT(outcome(world, 3) == PROPOSAL_OVERTAKEN);
    world_destroy(world);
}

TEST_CASE(a_registrar_behind_says_so_and_fetches_the_map)
{
    struct world *world = world_create_settled(&three, test_seed);
    world_cut(world, 3, 1, true);
    world_cut(world, 3, 2, true);
    world_propose(world, 1, "split h");
    world_run(world, 100);
    world_cut(world, 3, 1, false);
    world_cut(world, 3, 2, false);
    world_crash(world, 2);
    world_story_clear(world);
    world_propose(world, 1, "split i"); /* n3 is needed, and has map 1. */
    world_run(world, 1000);
    EXPECT_STORY(world, "[ 200] register 3: n1 asks to promise 1.1\n"
                        "[ 200] register 3: n1 promises 1.1\n"
                        "[ 450] register 3: n1 asks to promise 1.1\n"
                        "[ 451] register 3: n3 promises 1.1\n"
                        "[ 453] register 3: n1 asks to accept 1.1, its own value\n"
                        "[ 453] register 3: n1 accepts 1.1\n"
                        "[ 454] register 3: n3 accepts 1.1\n"
                        "[ 456] register 3: n1 has 1.1 accepted by a majority\n"
                        "[ 456] register 3: n1 learns the decision, which is what it proposed\n"
                        "[ 457] register 3: n3 learns the decision\n");
    EXPECT(made_by(world, 3, "split i"));
    world_destroy(world);
}

/* --- Single messages --- */

struct bench {
    struct heap heap;
    struct outbox outbox;
    struct prng prng;
    struct register_news news;
    struct register_map map;
    struct register_node node;
};

/* Node 1 of the registrars 1 to 3 of map 7, which votes. */
static struct bench *bench_create(void)
{
    struct bench *bench = calloc(1, sizeof *bench);
    CHECK(bench != NULL);
    heap_init(&bench->heap, 0);
    outbox_init(&bench->outbox, &bench->heap);
    bench->map = (struct register_map){.generation = {3, 33},
                                       .number = 7,
                                       .hash = {70, 71},
                                       .registrar_count = 3,
                                       .registrars = {{1, 11}, {2, 12}, {3, 13}}};
    EXPECT(register_init(&bench->node, 1, &bench->heap, &bench->map, SLICE_LITERAL(""),
                         &bench->prng, NULL) == STATUS_OK);
    register_set_voting(&bench->node, true);
    return bench;
}

static void bench_destroy(struct bench *bench)
{
    register_deinit(&bench->node);
    outbox_deinit(&bench->outbox);
    EXPECT(heap_used_bytes(&bench->heap) == 0);
    free(bench);
}

/* Of instance 8, by node 2. */
static struct register_message said(enum register_kind kind)
{
    struct register_message message = {
        .kind = kind, .generation = {3, 33}, .instance = 8, .ballot = {1, 2, 5}};
    if (kind == REGISTER_ACCEPT || kind == REGISTER_DECIDED) {
        message.value = (struct register_value){{70, 71}, SLICE_LITERAL("split h")};
    }
    return message;
}

/* What the node answers to one message of `from`: its kind, 0 for none. */
static enum register_kind answer(struct bench *bench, node_id from,
                                 const struct register_message *message, enum status expected,
                                 struct register_message *out)
{
    struct buf bytes = {.heap = &bench->heap};
    static uint8_t copy[256];
    buf_append_u8(&bytes, PROTOCOL_REGISTER);
    register_message_encode(message, &bytes);
    outbox_clear(&bench->outbox);
    EXPECT(register_receive(&bench->node, from, buf_slice(&bytes), 0, &bench->prng, &bench->outbox,
                            &bench->news) == expected);
    buf_deinit(&bytes);
    EXPECT(bench->outbox.count <= 1);
    if (bench->outbox.count == 0) return 0;
    EXPECT(bench->outbox.messages[0].to == from);
    struct slice reply = outbox_bytes(&bench->outbox, 0);
    memcpy(copy, reply.data, reply.size);
    EXPECT(register_message_decode(slice_of(copy, reply.size), out) == STATUS_OK);
    return out->kind;
}

TEST_CASE(a_vote_is_durable_and_a_refusal_need_not_be)
{
    struct bench *bench = bench_create();
    struct register_message reply;
    struct register_message prepare = said(REGISTER_PREPARE);
    struct register_message accept = said(REGISTER_ACCEPT);
    for (int again = 0; again < 2; again++) {
        EXPECT(answer(bench, 2, &prepare, STATUS_OK, &reply) == REGISTER_PROMISE);
        EXPECT(bench->outbox.messages[0].durable && bench->news.store);
    }
    for (int again = 0; again < 2; again++) {
        EXPECT(answer(bench, 2, &accept, STATUS_OK, &reply) == REGISTER_ACCEPTED);
        EXPECT(bench->outbox.messages[0].durable && bench->news.store);
    }
    /* Late: who asks has long had its majority. */
    EXPECT(answer(bench, 2, &prepare, STATUS_OK, &reply) == 0);

    struct register_message higher = prepare;
    higher.ballot = (struct ballot){1, 3, 0};
    EXPECT(answer(bench, 3, &higher, STATUS_OK, &reply) == REGISTER_PROMISE);
    EXPECT(ballot_equal(reply.other, accept.ballot));
    EXPECT(register_value_equal(reply.value, accept.value));
    EXPECT(answer(bench, 2, &accept, STATUS_OK, &reply) == REGISTER_REFUSED);
    EXPECT(ballot_equal(reply.other, higher.ballot));
    EXPECT(!bench->outbox.messages[0].durable && !bench->news.store);
    bench_destroy(bench);
}

TEST_CASE(a_value_applies_to_its_predecessor_alone)
{
    struct bench *bench = bench_create();
    struct register_message reply;
    struct register_message accept = said(REGISTER_ACCEPT);
    struct register_message decided = said(REGISTER_DECIDED);
    accept.value.predecessor.low++;
    decided.value.predecessor.low++;
    EXPECT(answer(bench, 2, &accept, STATUS_INVALID, &reply) == 0);
    EXPECT(answer(bench, 2, &decided, STATUS_INVALID, &reply) == 0);
    EXPECT(bench->node.invalid_count == 2);
    EXPECT(ballot_is_none(bench->node.acceptor.accepted));
    bench_destroy(bench);
}

TEST_CASE(what_breaks_a_rule_changes_nothing)
{
    struct bench *bench = bench_create();
    struct register_message reply;
    struct register_message message = said(REGISTER_PREPARE);
    EXPECT(answer(bench, 3, &message, STATUS_INVALID, &reply) == 0); /* In another's name. */
    message.ballot.round = REGISTER_ROUND_STEP_MAX + 1; /* One such, and there would be few left. */
    EXPECT(answer(bench, 2, &message, STATUS_INVALID, &reply) == 0);
    message = said(REGISTER_ACCEPTED);
    EXPECT(answer(bench, 2, &message, STATUS_INVALID, &reply) == 0); /* To another's ballot. */
    message = said(REGISTER_ACCEPT);
    EXPECT(answer(bench, 2, &message, STATUS_OK, &reply) == REGISTER_ACCEPTED);
    message.value.delta = SLICE_LITERAL("split k"); /* A second value under one ballot. */
    EXPECT(answer(bench, 2, &message, STATUS_INVALID, &reply) == 0);
    EXPECT(bench->node.invalid_count == 4);

    message = said(REGISTER_DECIDED);
    EXPECT(answer(bench, 2, &message, STATUS_OK, &reply) == 0);
    message.value.delta = SLICE_LITERAL("split k"); /* A second decision. */
    EXPECT(answer(bench, 2, &message, STATUS_INVALID, &reply) == 0);
    EXPECT(bench->node.invalid_count == 5);

    EXPECT(register_receive(&bench->node, 2, SLICE_LITERAL("\x02"), 0, &bench->prng, &bench->outbox,
                            &bench->news) == STATUS_INVALID);
    EXPECT(bench->node.invalid_count == 6);
    bench_destroy(bench);
}

TEST_CASE(a_registrar_that_may_not_vote_is_silent)
{
    struct bench *bench = bench_create();
    struct register_message reply;
    struct register_message prepare = said(REGISTER_PREPARE);
    register_set_voting(&bench->node, false);
    EXPECT(answer(bench, 2, &prepare, STATUS_OK, &reply) == 0);
    EXPECT(ballot_is_none(bench->node.acceptor.promised));
    /* What it knows to be chosen it tells all the same. */
    struct register_message decided = said(REGISTER_DECIDED);
    EXPECT(answer(bench, 3, &decided, STATUS_OK, &reply) == 0 && bench->news.decided);
    EXPECT(answer(bench, 2, &prepare, STATUS_OK, &reply) == REGISTER_DECIDED);
    bench_destroy(bench);
}

TEST_CASE(instances_before_and_after_get_the_place)
{
    struct bench *bench = bench_create();
    struct register_message reply;
    struct register_message prepare = said(REGISTER_PREPARE);
    prepare.instance = 7; /* This node came by its map otherwise. */
    EXPECT(answer(bench, 2, &prepare, STATUS_OK, &reply) == REGISTER_PLACE);
    EXPECT(reply.instance == 8 && bench->news.older == 2 && bench->news.newer == 0);
    prepare.instance = 9;
    EXPECT(answer(bench, 2, &prepare, STATUS_OK, &reply) == REGISTER_PLACE);
    EXPECT(reply.instance == 8 && bench->news.newer == 2 && bench->news.older == 0);
    struct register_message place = said(REGISTER_PLACE);
    place.instance = 9;
    EXPECT(answer(bench, 2, &place, STATUS_OK, &reply) == 0 && bench->news.newer == 2);
    place.instance = 7;
    EXPECT(answer(bench, 2, &place, STATUS_OK, &reply) == 0 && bench->news.older == 2);
    struct register_message decided = said(REGISTER_DECIDED);
    decided.instance = 10;
    EXPECT(answer(bench, 2, &decided, STATUS_OK, &reply) == 0 && bench->news.newer == 2);
    EXPECT(!bench->news.decided);
    bench_destroy(bench);
}

/* --- Generations --- */

TEST_CASE(messages_of_another_generation_change_nothing)
{
    static const enum register_kind kinds[] = {REGISTER_PREPARE, REGISTER_ACCEPT, REGISTER_DECIDED,
                                               REGISTER_PLACE};
    struct bench *bench = bench_create();
    struct register_message reply;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct register_message message = said(kinds[i]);
        enum register_kind expected = kinds[i] == REGISTER_PLACE ? 0 : REGISTER_PLACE;
        message.generation = (struct generation){2, 22}; /* Fenced: told where we are. */
        EXPECT(answer(bench, 2, &message, STATUS_OK, &reply) == expected);
        EXPECT(bench->news.older == 2 && bench->news.newer == 0 && !bench->news.forked);
        if (expected != 0) EXPECT(generation_equal(reply.generation, bench->map.generation));
        message.generation = (struct generation){4, 44}; /* We are fenced. */
        EXPECT(answer(bench, 2, &message, STATUS_OK, &reply) == 0);
        EXPECT(bench->news.newer == 2);
        message.generation = (struct generation){3, 34}; /* Recovered twice. */
        EXPECT(answer(bench, 2, &message, STATUS_OK, &reply) == 0);
        EXPECT(bench->news.forked && bench->news.newer == 0 && bench->news.older == 0);
    }
    EXPECT(bench->node.foreign_count == 3 * sizeof kinds / sizeof *kinds);
    struct register_value value;
    EXPECT(!register_decision(&bench->node, &value));
    EXPECT(ballot_is_none(bench->node.acceptor.promised));
    bench_destroy(bench);
}

TEST_CASE(a_later_generation_begins_anew)
{
    struct bench *bench = bench_create();
    struct register_message reply;
    struct register_message accept = said(REGISTER_ACCEPT);
    EXPECT(answer(bench, 2, &accept, STATUS_OK, &reply) == REGISTER_ACCEPTED);

    struct register_map map = bench->map;
    map.generation.id++;
    map.number = 20;
    EXPECT(register_set_map(&bench->node, &map) == STATUS_STALE); /* Of the same number. */
    map.generation = (struct generation){4, 44};
    map.number = 7; /* The recovered node had an older map, perhaps. */
    map.registrar_count = 1;
    EXPECT(register_set_map(&bench->node, &map) == STATUS_OK);
    EXPECT(ballot_is_none(bench->node.acceptor.promised));
    EXPECT(ballot_is_none(bench->node.acceptor.accepted));
    EXPECT(register_set_map(&bench->node, &bench->map) == STATUS_STALE); /* Never back. */

    accept.generation = map.generation;
    EXPECT(answer(bench, 2, &accept, STATUS_OK, &reply) == REGISTER_ACCEPTED);
    bench_destroy(bench);
}

/* n1 and n2 are lost for good, so it seems: n3 goes on alone, under a new generation. When n1
 * comes back it is a stranger until it has the newer map. */
TEST_CASE(a_recovered_node_goes_on_alone_and_fences_the_others)
{
    struct world *world = world_create_settled(&three, test_seed);
    world_crash(world, 1);
    world_crash(world, 2);
    world_propose(world, 3, "exclude n1");
    world_run(world, 5000);
    EXPECT(outcome(world, 3) == PROPOSAL_OPEN);

    struct register_map map = world_node(world, 3)->node.map;
    map.generation = (struct generation){2, 4711};
    map.number++;
    map.hash.low++;
    map.registrar_count = 1;
    map.registrars[0] = (struct registrar){3, world_incarnation(3)};
    world_set_map(world, world_node(world, 3), &map);
    EXPECT(outcome(world, 3) == PROPOSAL_OVERTAKEN);
    EXPECT(may_vote(world, 3)); /* There are no others to ask. */

    world_restart(world, 1);
    world_story_clear(world);
    world_propose(world, 1, "split h");
    world_run(world, 100);
    EXPECT_STORY(world, "[5100] register 2: n1 asks to promise 1.1\n"
                        "[5100] register 2: n1 does not vote yet\n"
                        "[5100] boots: n1 asks to record start 2\n"
                        "[5102] boots: n1 asks to record start 2\n"
                        "[5103] boots: n3 records start 2 of n1\n"
                        "[5105] boots: n1 has start 2 recorded by a majority of the others\n");
    EXPECT(outcome(world, 1) == PROPOSAL_OVERTAKEN);
    EXPECT(world_node(world, 1)->node.map.generation.number == 2);
    EXPECT(world_node(world, 3)->node.foreign_count > 0);

    world_propose(world, 1, "split h");
    world_run(world, 100);
    EXPECT_STORY(world, "[5200] register 3: n1 asks to promise 1.1\n"
                        "[5201] register 3: n3 promises 1.1\n"
                        "[5203] register 3: n1 asks to accept 1.1, its own value\n"
                        "[5204] register 3: n3 accepts 1.1\n"
                        "[5206] register 3: n1 has 1.1 accepted by a majority\n"
                        "[5206] register 3: n1 learns the decision, which is what it proposed\n"
                        "[5206] boots: n1 asks to record start 2\n"
                        "[5207] register 3: n3 learns the decision\n"
                        "[5207] register 4: n3 does not vote any more\n"
                        "[5207] boots: n3 asks to record start 1\n");
    EXPECT(made_by(world, 3, "split h"));
    world_destroy(world);
}

/* --- The life of a node --- */

TEST_CASE(what_was_kept_counts_with_its_map)
{
    struct bench *bench = bench_create();
    struct register_message reply;
    struct register_message accept = said(REGISTER_ACCEPT);
    EXPECT(answer(bench, 2, &accept, STATUS_OK, &reply) == REGISTER_ACCEPTED);
    struct buf state = {.heap = &bench->heap};
    register_encode_state(&bench->node, &state);

    static const struct {
        struct generation generation;
        uint64_t number, hash_low;
        enum status status;
        bool kept;
    } cases[] = {
        {{3, 33}, 7, 70, STATUS_OK, true},       {{3, 33}, 8, 80, STATUS_OK, false},
        {{4, 44}, 7, 70, STATUS_OK, false},      {{3, 33}, 6, 60, STATUS_CORRUPT, false},
        {{3, 33}, 7, 72, STATUS_CORRUPT, false}, {{2, 22}, 7, 70, STATUS_CORRUPT, false},
        {{3, 34}, 7, 70, STATUS_CORRUPT, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct register_map map = bench->map;
        struct register_node again;
        map.generation = cases[i].generation;
        map.number = cases[i].number;
        map.hash.low = cases[i].hash_low;
        EXPECT(register_init(&again, 1, &bench->heap, &map, buf_slice(&state), &bench->prng,
                             NULL) == cases[i].status);
        if (cases[i].status != STATUS_OK) continue;
        EXPECT(ballot_is_none(again.acceptor.accepted) == !cases[i].kept);
        EXPECT(!again.votes);
        register_deinit(&again);
    }
    buf_deinit(&state);
    bench_destroy(bench);
}

TEST_CASE(one_proposal_is_open_at_a_time)
{
    struct world *world = world_create_settled(&three, test_seed);
    static char large[REGISTER_DELTA_BYTES_MAX + 2];
    memset(large, 'x', sizeof large - 1);
    EXPECT(world_try_propose(world, 1, "") == STATUS_LIMIT);
    EXPECT(world_try_propose(world, 1, large) == STATUS_LIMIT);
    EXPECT(outcome(world, 1) == PROPOSAL_NONE);
    world_cut(world, 1, 2, true);
    world_cut(world, 1, 3, true);
    world_propose(world, 1, "split h");
    EXPECT(world_try_propose(world, 1, "split i") == STATUS_BUSY);
    register_withdraw(&world_node(world, 1)->node);
    EXPECT(outcome(world, 1) == PROPOSAL_WITHDRAWN);
    EXPECT(register_next_ms(&world_node(world, 1)->node) == UINT64_MAX);
    world_propose(world, 1, "split i");
    EXPECT(outcome(world, 1) == PROPOSAL_OPEN);
    world_destroy(world);
}

/* Each allocation fails once: it is as if a message had been lost, and nothing leaks. */
TEST_CASE(without_memory_a_message_is_lost)
{
    unsigned failed = 0;
    for (int64_t after = 0; after < 400; after++) {
        struct bench *bench = bench_create();
        struct register_message decided = said(REGISTER_DECIDED);
        struct register_message accept = said(REGISTER_ACCEPT);
        struct register_message promise = said(REGISTER_PROMISE);
        struct register_value value;
        struct buf bytes[3];
        const struct register_message *messages[3] = {&accept, &promise, &decided};
        promise.ballot = (struct ballot){1, 1, bench->node.proposer.ballot.salt};
        promise.other = (struct ballot){1, 0x00, 0};
        promise.other = (struct ballot){0};
        for (int i = 0; i < 3; i++) {
            bytes[i] = (struct buf){.heap = &bench->heap};
            buf_append_u8(&bytes[i], PROTOCOL_REGISTER);
            register_message_encode(messages[i], &bytes[i]);
        }
        bench->heap.failure_after = after;
        enum status proposed = register_propose(&bench->node, SLICE_LITERAL("split k"), 0,
                                                &bench->prng, &bench->outbox);
        EXPECT(proposed == STATUS_OK || proposed == STATUS_NOMEM);
        for (int i = 0; i < 3; i++) {
            EXPECT(register_receive(&bench->node, i == 1 ? 3 : 2, buf_slice(&bytes[i]), 0,
                                    &bench->prng, &bench->outbox, &bench->news) == STATUS_OK);
        }
        bool done = bench->heap.failure_after > 0;
        failed += !done;
        bench->heap.failure_after = -1;
        bool had = register_decision(&bench->node, &value);
        EXPECT(had || !done);
        if (!had) {
            EXPECT(register_receive(&bench->node, 2, buf_slice(&bytes[2]), 0, &bench->prng,
                                    &bench->outbox, &bench->news) == STATUS_OK);
            EXPECT(register_decision(&bench->node, &value));
        }
        for (int i = 0; i < 3; i++) buf_deinit(&bytes[i]);
        bench_destroy(bench);
        if (done) break;
    }
    EXPECT(failed > 3);
}

TEST_MAIN(TEST(a_value_is_chosen_in_two_rounds_of_messages),
          TEST(any_member_proposes_and_a_registrar_may_be_away),
          TEST(of_two_proposals_one_is_chosen_and_both_learn_which),
          TEST(a_value_that_may_have_been_chosen_is_carried_on),
          TEST(silent_registrars_are_asked_again_until_a_majority_is_there),
          TEST(one_registrar_decides_alone), TEST(a_promise_leaves_once_it_is_durable),
          TEST(a_restarted_registrar_keeps_its_promise),
          TEST(who_asks_about_the_instance_before_is_told_its_decision),
          TEST(who_asks_about_an_older_instance_fetches_the_map),
          TEST(a_registrar_behind_says_so_and_fetches_the_map),
          TEST(a_vote_is_durable_and_a_refusal_need_not_be),
          TEST(a_value_applies_to_its_predecessor_alone), TEST(what_breaks_a_rule_changes_nothing),
          TEST(a_registrar_that_may_not_vote_is_silent),
          TEST(instances_before_and_after_get_the_place),
          TEST(messages_of_another_generation_change_nothing), TEST(a_later_generation_begins_anew),
          TEST(a_recovered_node_goes_on_alone_and_fences_the_others),
          TEST(what_was_kept_counts_with_its_map), TEST(one_proposal_is_open_at_a_time),
          TEST(without_memory_a_message_is_lost))
