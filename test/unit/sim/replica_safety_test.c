/* What a node of a cluster must not do though everything invites it to: each story stops one message
 * or one disk at the worst moment, and looks whether the rule of docs/design/moves.md or
 * coordinating.md that stands there holds. */
#include "cluster/data_message.h"
#include "cluster/outbox.h"
#include "node/replica_private.h"
#include "replica_bench.h"

/* The one shard begins to move to the owners of the bits in `next`. */
static void begin_move(struct bench *bench, unsigned next)
{
    struct change change = {.kind = CHANGE_BEGIN};
    for (unsigned id = 1; id <= BENCH_NODES_MAX; id++)
        if ((next & 1U << id) != 0) change.next[change.next_count++] = (node_id)id;
    bench_change(bench, &change);
}

static enum shard_stage stage_at(const struct bench *bench, node_id id)
{
    return rangemap_shard(replica_map(bench->nodes[id].replica), 0).stage;
}

static uint64_t map_at(const struct bench *bench, node_id id)
{
    return rangemap_identity(replica_map(bench->nodes[id].replica))->number;
}

static bool pass_until_stage(struct bench *bench, node_id id, enum shard_stage stage)
{
    for (int turn = 0; turn < 600 && stage_at(bench, id) != stage; turn++) bench_pass(bench, 100);
    return stage_at(bench, id) == stage;
}

static void ask_to_leave(struct bench *bench, node_id at, node_id id)
{
    struct change change = {.kind = CHANGE_MEMBER_LEAVING, .member = {.id = id, .leaving = true}};
    replica_change(bench->nodes[at].replica, &change);
}

static unsigned bits(node_id a, node_id b, node_id c)
{
    return 1U << a | 1U << b | (c == 0 ? 0 : 1U << c);
}

TEST_CASE(who_is_to_stay_after_all_does_not_leave)
{
    struct rangemap_settings settings = bench_settings(2, 2, 1);
    struct bench *bench = bench_create(4, &settings, NULL);
    struct change stay = {.kind = CHANGE_MEMBER_LEAVING, .member = {.id = 3}};
    for (node_id id = 2; id <= 4; id++) bench->cut[1][id] = bench->cut[id][1] = true;
    ask_to_leave(bench, 1, 3); /* Nobody else hears of it for a while. */
    bench_pass(bench, 500);
    EXPECT(replica_change(bench->nodes[1].replica, &stay));
    for (node_id id = 2; id <= 4; id++) bench->cut[1][id] = bench->cut[id][1] = false;
    bench_pass(bench, 20000);
    for (node_id id = 1; id <= 4; id++) {
        struct member member;
        EXPECT(rangemap_member_find(replica_map(bench->nodes[id].replica), 3, &member));
        EXPECT(!member.leaving);
    }
    bench_destroy(bench);
}

/* --- Moves --- */

TEST_CASE(a_next_owner_that_is_not_filled_answers_nothing_of_its_own)
{
    struct rangemap_settings settings = bench_settings(2, 1, 2);
    struct bench *bench = bench_prepare(3, &settings, NULL);
    begin_move(bench, bits(2, 3, 0));
    bench_change(bench, &(struct change){.kind = CHANGE_SWITCH});
    bench->mute[3][PROTOCOL_REPAIR] = bench->deaf[3][PROTOCOL_REPAIR] = true;
    bench_start_all(bench);

    bench->cut[1][3] = bench->cut[2][3] = true;
    EXPECT(bench_put(bench, 2, "w", 5)->reply.outcome == REQUEST_DONE);
    bench->cut[1][3] = bench->cut[2][3] = false;
    EXPECT(bench_peek(bench, 3, "w") == -1);
    const struct bench_reply *reply = bench_get(bench, 3, "w", CONSISTENCY_ONE);
    EXPECT(reply->reply.outcome == REQUEST_DONE && reply->scores[0] == 5);
    bench_destroy(bench);
}

/* All that it was to be given came, and what it shows is what it has durably. */
TEST_CASE(a_next_owner_answers_once_what_it_was_given_is_durable)
{
    struct rangemap_settings settings = bench_settings(2, 1, 2);
    struct bench *bench = bench_prepare(3, &settings, NULL);
    begin_move(bench, bits(2, 3, 0));
    bench_change(bench, &(struct change){.kind = CHANGE_SWITCH});
    bench->mute[3][PROTOCOL_REPAIR] = bench->deaf[3][PROTOCOL_REPAIR] = true;
    bench_start_all(bench);
    bench_pass(bench, 5000); /* What is moved as a file has come. */
    struct record record = record_of_set((struct version){1000000ULL << HLC_COUNTER_BITS, 2}, 5);
    struct store_write write = {.kind = STORE_MERGE, .key = SLICE_LITERAL("w"), .record = &record};
    struct store_outcome outcome;
    uint64_t sequence;
    for (node_id id = 1; id <= 2; id++)
        EXPECT(store_world_write(&bench->nodes[id].world, &write, 1, &outcome, &sequence) ==
               STATUS_OK);

    bench->nodes[3].frozen = true;
    bench->mute[3][PROTOCOL_REPAIR] = bench->deaf[3][PROTOCOL_REPAIR] = false;
    for (int turn = 0; turn < 10; turn++) {
        const struct bench_reply *reply = bench_get(bench, 3, "w", CONSISTENCY_ONE);
        EXPECT(reply->reply.outcome == REQUEST_DONE && reply->scores[0] == 5);
        bench_pass(bench, 300);
    }
    EXPECT(bench_peek(bench, 3, "w") == -1);
    bench->nodes[3].frozen = false;
    bench_pass(bench, 1000);
    EXPECT(bench_peek(bench, 3, "w") == 5);
    bench_destroy(bench);
}

/* It is asked again when time has passed, not at once and for ever. */
TEST_CASE(a_read_that_only_meets_refusals_asks_a_few_times)
{
    struct rangemap_settings settings = bench_settings(1, 1, 1);
    struct bench *bench = bench_prepare(3, &settings, NULL);
    begin_move(bench, 1U << 2);
    bench_change(bench, &(struct change){.kind = CHANGE_SWITCH});
    bench->mute[2][PROTOCOL_REPAIR] = bench->deaf[2][PROTOCOL_REPAIR] = true;
    bench_start_all(bench);

    uint64_t before = bench->delivered;
    const struct bench_reply *reply = bench_get(bench, 3, "w", CONSISTENCY_ONE);
    EXPECT(reply->reply.outcome != REQUEST_DONE && reply->reply.outcome != REQUEST_ABSENT);
    EXPECT(bench->delivered - before < 2000);
    bench_destroy(bench);
}

TEST_CASE(a_node_that_starts_in_the_middle_of_a_move_is_filled)
{
    struct rangemap_settings settings = bench_settings(2, 2, 1);
    struct bench *bench = bench_prepare(4, &settings, NULL);
    begin_move(bench, bits(3, 4, 0));
    bench_start_all(bench);
    EXPECT(pass_until_stage(bench, 1, SHARD_STABLE));
    struct shard shard = rangemap_shard(replica_map(bench->nodes[1].replica), 0);
    EXPECT(owners_contain(&shard.owners, 3) && owners_contain(&shard.owners, 4));
    bench_destroy(bench);
}

TEST_CASE(reads_switch_when_enough_next_owners_are_synced_and_owners_go_when_all_are)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_prepare(5, &settings, NULL);
    begin_move(bench, bits(3, 4, 5));
    for (node_id id = 4; id <= 5; id++)
        bench->mute[id][PROTOCOL_REPAIR] = bench->deaf[id][PROTOCOL_REPAIR] = true;
    bench_start_all(bench);
    EXPECT(bench_put(bench, 1, "w", 5)->reply.outcome == REQUEST_DONE);

    bench_pass(bench, 20000); /* Node 3 alone has everything. */
    EXPECT(stage_at(bench, 1) == SHARD_FILLING);
    bench->mute[4][PROTOCOL_REPAIR] = bench->deaf[4][PROTOCOL_REPAIR] = false;
    EXPECT(pass_until_stage(bench, 1, SHARD_SWITCHED));
    bench_pass(bench, 20000);
    EXPECT(stage_at(bench, 1) == SHARD_SWITCHED);
    bench->mute[5][PROTOCOL_REPAIR] = bench->deaf[5][PROTOCOL_REPAIR] = false;
    EXPECT(pass_until_stage(bench, 1, SHARD_STABLE));
    bench_destroy(bench);
}

/* While it is deaf to maps a node is well, and goes by the map that it has. */
static void set_deaf_to_maps(struct bench *bench, node_id id, bool deaf)
{
    bench->mapless[id] = bench->deaf[id][PROTOCOL_REGISTER] = deaf;
}

static void let_learn_one_map(struct bench *bench, node_id id, node_id from)
{
    set_deaf_to_maps(bench, id, false);
    for (int turn = 0; turn < 1000 && map_at(bench, id) < map_at(bench, from); turn++)
        bench_pass(bench, 20);
    EXPECT(map_at(bench, id) == map_at(bench, from));
    set_deaf_to_maps(bench, id, true);
}

TEST_CASE(no_stage_begins_and_nothing_is_dropped_while_somebody_goes_by_the_one_before)
{
    struct rangemap_settings settings = bench_settings(2, 2, 1);
    struct bench *bench = bench_prepare(5, &settings, NULL);
    begin_move(bench, bits(1, 3, 0));
    set_deaf_to_maps(bench, 5, true);
    bench_start_all(bench);

    /* Node 5 knew that the shard is being filled, and asks the owners before the switch. */
    EXPECT(pass_until_stage(bench, 1, SHARD_SWITCHED));
    EXPECT(bench_put(bench, 5, "w", 5)->reply.outcome == REQUEST_DONE);
    bench_pass(bench, 15000);
    EXPECT(stage_at(bench, 1) == SHARD_SWITCHED);

    /* It knows of the switch, and writes to both sets. */
    let_learn_one_map(bench, 5, 1);
    EXPECT(pass_until_stage(bench, 1, SHARD_STABLE));
    bench_pass(bench, 15000);
    EXPECT(bench_peek(bench, 2, "w") == 5);

    set_deaf_to_maps(bench, 5, false);
    bench_pass(bench, 10000);
    EXPECT(bench_peek(bench, 2, "w") == -1);
    EXPECT(bench_get(bench, 5, "w", CONSISTENCY_QUORUM)->scores[0] == 5);
    bench_destroy(bench);
}

/* A node of the next set that is an owner already has everything: one is enough to switch by, but
 * not before all write to both sets. */
TEST_CASE(reads_do_not_switch_while_somebody_writes_to_the_owners_alone)
{
    struct rangemap_settings settings = bench_settings(2, 2, 1);
    struct bench *bench = bench_create(5, &settings, NULL);
    set_deaf_to_maps(bench, 5, true);
    ask_to_leave(bench, 1, 2);
    EXPECT(pass_until_stage(bench, 1, SHARD_FILLING));
    bench_pass(bench, 10000);
    EXPECT(stage_at(bench, 1) == SHARD_FILLING);
    set_deaf_to_maps(bench, 5, false);
    EXPECT(pass_until_stage(bench, 1, SHARD_STABLE));
    bench_destroy(bench);
}

/* --- Maps --- */

TEST_CASE(a_map_is_acknowledged_when_no_request_runs_under_an_older_one)
{
    struct rangemap_settings settings = bench_settings(2, 2, 1);
    struct bench *bench = bench_create(3, &settings, NULL);
    const struct replica_topology *topology = &bench->nodes[1].replica->topology;
    struct request put = {.kind = REQUEST_SET, .key = SLICE_LITERAL("w"), .score = 1};
    bench->nodes[2].frozen = true;
    uint64_t number = bench_ask(bench, 1, &put);
    uint64_t began = map_at(bench, 1);
    ask_to_leave(bench, 1, 3);
    for (int turn = 0; turn < 100 && map_at(bench, 1) == began; turn++) bench_pass(bench, 20);
    EXPECT(map_at(bench, 1) > began);
    bench_pass(bench, 1500);
    EXPECT(bench_reply(bench, number) == NULL);
    EXPECT(topology->acknowledged == began);

    bench->nodes[2].frozen = false;
    bench_pass(bench, 1500);
    EXPECT(bench_reply(bench, number) != NULL);
    EXPECT(bench_reply(bench, number)->reply.outcome == REQUEST_DONE);
    EXPECT(topology->acknowledged > began);
    bench_destroy(bench);
}

TEST_CASE(a_request_under_a_map_that_all_left_behind_is_not_taken)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    uint64_t time = (1000000 + bench->now_ms) << HLC_COUNTER_BITS;
    struct data_message apply = {.kind = DATA_APPLY,
                                 .apply = DATA_APPLY_SET,
                                 .key = SLICE_LITERAL("w"),
                                 .record = record_of_set((struct version){time, 2}, 5)};
    struct data_message stale = apply;
    EXPECT(bench->nodes[1].replica->topology.retired == map_at(bench, 1));
    stale.map_number = 0 - UINT64_C(1);
    bench_tell(bench, 2, 1, &stale);
    EXPECT(bench_peek(bench, 1, "w") == -1);
    bench_tell(bench, 2, 1, &apply);
    EXPECT(bench_peek(bench, 1, "w") == 5);
    bench_destroy(bench);
}

TEST_CASE(a_registrar_that_nobody_confirmed_does_not_vote)
{
    struct rangemap_settings settings = bench_settings(2, 2, 1);
    struct bench *bench = bench_create(3, &settings, NULL);
    bench_kill(bench, 2, SIM_DISK_KILLED);
    bench->deaf[2][PROTOCOL_BOOTS] = true;
    bench_restart(bench, 2);
    bench_kill(bench, 3, SIM_DISK_KILLED);

    uint64_t before = map_at(bench, 1);
    ask_to_leave(bench, 1, 3);
    bench_pass(bench, 20000);
    EXPECT(map_at(bench, 1) == before);

    bench_restart(bench, 3);
    bench->deaf[2][PROTOCOL_BOOTS] = false;
    bench_pass(bench, 20000);
    EXPECT(map_at(bench, 1) > before);
    bench_destroy(bench);
}

/* --- Hints --- */

TEST_CASE(a_hint_counts_when_its_keeper_has_it_durably)
{
    struct rangemap_settings settings = bench_settings(3, 3, 1);
    settings.sloppy_quorum = true;
    struct bench *bench = bench_create(4, &settings, NULL);
    struct request put = {.kind = REQUEST_SET, .key = SLICE_LITERAL("w"), .score = 1};
    bench_kill(bench, 3, SIM_DISK_KILLED);
    bench_pass(bench, 10000); /* Until all know that it is down. */
    bench->nodes[4].frozen = true;
    uint64_t number = bench_ask(bench, 1, &put);
    bench_pass(bench, 2000);
    EXPECT(bench_reply(bench, number) == NULL);
    bench->nodes[4].frozen = false;
    bench_settle(bench);
    const struct bench_reply *reply = bench_reply(bench, number);
    EXPECT(reply != NULL && reply->reply.outcome == REQUEST_DONE && reply->reply.sloppy);
    bench_destroy(bench);
}

/* --- Increments --- */

static void add(struct bench *bench, double score)
{
    struct request request = {.kind = REQUEST_INCREMENT, .key = SLICE_LITERAL("w"), .score = score};
    EXPECT(bench_do(bench, 1, &request)->reply.outcome == REQUEST_DONE);
}

/* Node 2 knows of increments that node 1 lost with its power. False: it lost none. */
static bool counts_on_after_loss(struct bench *bench)
{
    enum { ADDED = 20 };
    struct request lost = {.kind = REQUEST_INCREMENT, .key = SLICE_LITERAL("w"), .score = 2};
    add(bench, 1);
    bench->nodes[1].frozen = true;
    for (int i = 0; i < ADDED; i++) bench_ask(bench, 1, &lost);
    EXPECT(bench_peek(bench, 2, "w") == 1 + 2 * ADDED);
    bench_kill(bench, 1, SIM_DISK_POWER_LOSS);
    bench->nodes[1].frozen = false;
    bench->mute[2][PROTOCOL_DATA] = bench->mute[2][PROTOCOL_REPAIR] = true;
    bench->deaf[2][PROTOCOL_REPAIR] = true;
    bench_restart(bench, 1);
    bench_pass(bench, 5000); /* Until it trusts its clock. */
    if (bench_peek(bench, 1, "w") == 1 + 2 * ADDED) return false;
    add(bench, 10);
    add(bench, 20);
    bench->mute[2][PROTOCOL_DATA] = bench->mute[2][PROTOCOL_REPAIR] = false;
    bench->deaf[2][PROTOCOL_REPAIR] = false;
    bench_pass(bench, 10000);
    EXPECT(bench_peek(bench, 1, "w") == 31 + 2 * ADDED);
    EXPECT(bench_peek(bench, 2, "w") == 31 + 2 * ADDED);
    return true;
}

static uint64_t sent_by(const struct bench *bench, node_id id)
{
    uint64_t sum = 0;
    for (node_id to = 1; to <= bench->node_count; to++)
        for (size_t protocol = 0; protocol < BENCH_PROTOCOLS; protocol++)
            sum += bench->sent[id][to][protocol];
    return sum;
}

/* Simulator, seed 31 with a map that moves: a registrar told of its start, lost its power before that
 * was on its disk, began a second one under the same number, and never voted again. */
TEST_CASE(a_start_is_told_to_nobody_before_it_is_durable)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    uint64_t boot = replica_identity(bench->nodes[2].replica).boot;
    for (int round = 0; round < 2; round++) {
        bench_kill(bench, 2, SIM_DISK_POWER_LOSS);
        EXPECT(store_world_open(&bench->nodes[2].world) == STATUS_OK);
        uint64_t before = sent_by(bench, 2);
        bench->nodes[2].frozen = true;
        bench_start(bench, 2);
        EXPECT(replica_identity(bench->nodes[2].replica).boot > boot);
        uint64_t asked = bench_ask(
            bench, 2,
            &(struct request){.kind = REQUEST_INCREMENT, .key = SLICE_LITERAL("w"), .score = 1});
        const struct bench_reply *reply = bench_reply(bench, asked);
        EXPECT(reply != NULL && reply->reply.outcome == REQUEST_REFUSED);
        EXPECT(reply->reply.status == STATUS_BUSY);
        bench_pass(bench, 3000);
        EXPECT(sent_by(bench, 2) == before);
    }
    bench->nodes[2].frozen = false;
    bench_pass(bench, 3000);
    EXPECT(bench_put(bench, 2, "w", 3)->reply.outcome == REQUEST_DONE);
    EXPECT(bench->nodes[2].replica->topology.boots.starts.rolled_back == false);
    bench_destroy(bench);
}

TEST_CASE(a_start_that_the_disk_refused_is_written_again)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    bench_kill(bench, 2, SIM_DISK_POWER_LOSS);
    EXPECT(store_world_open(&bench->nodes[2].world) == STATUS_OK);
    /* The first operation of a start keeps the clock's ceiling. */
    sim_disk_fail_after(bench->nodes[2].world.disk, 1, STATUS_FULL);
    bench_start(bench, 2);
    sim_disk_fail_never(bench->nodes[2].world.disk);
    EXPECT(replica_wake_ms(bench->nodes[2].replica) <= bench->now_ms + 1000);
    bench_pass(bench, 3000);
    EXPECT(bench_put(bench, 2, "w", 3)->reply.outcome == REQUEST_DONE);
    bench_destroy(bench);
}

TEST_CASE(a_start_counts_in_a_slot_of_its_own)
{
    struct rangemap_settings settings = bench_settings(2, 1, 2);
    bool lost = false;
    for (int turn = 0; turn < 20 && !lost; turn++) {
        struct bench *bench = bench_create(2, &settings, NULL);
        lost = counts_on_after_loss(bench);
        bench_destroy(bench);
        test_seed += 100; /* Another disk. */
    }
    EXPECT(lost);
}

TEST_MAIN(TEST(a_next_owner_that_is_not_filled_answers_nothing_of_its_own),
          TEST(a_next_owner_answers_once_what_it_was_given_is_durable),
          TEST(a_read_that_only_meets_refusals_asks_a_few_times),
          TEST(a_node_that_starts_in_the_middle_of_a_move_is_filled),
          TEST(reads_switch_when_enough_next_owners_are_synced_and_owners_go_when_all_are),
          TEST(no_stage_begins_and_nothing_is_dropped_while_somebody_goes_by_the_one_before),
          TEST(reads_do_not_switch_while_somebody_writes_to_the_owners_alone),
          TEST(a_map_is_acknowledged_when_no_request_runs_under_an_older_one),
          TEST(a_request_under_a_map_that_all_left_behind_is_not_taken),
          TEST(a_registrar_that_nobody_confirmed_does_not_vote),
          TEST(a_hint_counts_when_its_keeper_has_it_durably),
          TEST(a_start_counts_in_a_slot_of_its_own), TEST(who_is_to_stay_after_all_does_not_leave),
          TEST(a_start_is_told_to_nobody_before_it_is_durable),
          TEST(a_start_that_the_disk_refused_is_written_again))
