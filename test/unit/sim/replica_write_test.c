/* Coordinating writes when owners, stand-ins, disks and messages do not do as they should. */
#include "node/replica_private.h"
#include "replica_bench.h"

static const struct request put_w = {
    .kind = REQUEST_SET, .key = SLICE_INITIALIZER("w"), .score = 1, .timeout_ms = 3000};

/* The label of the one write that a node coordinates. */
static uint64_t label_at(const struct bench *bench, node_id id)
{
    const struct replica *replica = bench->nodes[id].replica;
    for (size_t i = 0; i < replica->flow_capacity; i++) {
        const struct flow *flow = &replica->flows[i];
        if (flow->kind == FLOW_WRITE) return flow_label(flow, flow->write.stamp_count);
    }
    EXPECT(false);
    return 0;
}

/* An owner's answer, under a map that is by so much newer than the coordinator's. */
static void answer(struct bench *bench, node_id from, node_id to, enum data_verdict verdict,
                   int newer)
{
    struct data_message applied = {.kind = DATA_APPLIED,
                                   .flow = label_at(bench, to),
                                   .map_number = (uint64_t)newer,
                                   .verdict = verdict};
    bench_tell(bench, from, to, &applied);
}

static unsigned count_sent(const struct bench *bench, node_id from, node_id to, enum data_kind kind)
{
    unsigned count = 0;
    for (size_t i = 0; i < bench->queue_end; i++) {
        const struct bench_message *message = &bench->queue[i];
        const uint8_t *bytes = bench->bytes.data + message->at;
        count += message->from == from && message->to == to && bytes[8] == PROTOCOL_DATA &&
                 bytes[9] == kind;
    }
    return count;
}

/* --- Batches that fail --- */

TEST_CASE(a_batch_that_fails_takes_along_only_what_tells_of_it)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(4, &settings, NULL);
    struct bench_node *node = &bench->nodes[1];
    struct data_message ask = {.kind = DATA_ASK, .flow = 9, .request = {.kind = REQUEST_COUNT}};
    bench_settle(bench);
    bench_hear(bench, 4, 1, &ask);
    uint64_t number = bench->next_id++;
    replica_request(node->replica, bench_time(bench, 1), number, &put_w);
    sim_disk_fail_after(node->world.disk, 0, STATUS_FULL);
    replica_commit(node->replica, bench_time(bench, 1));
    EXPECT(count_sent(bench, 1, 4, DATA_TOLD) == 1);
    EXPECT(count_sent(bench, 1, 2, DATA_APPLY) + count_sent(bench, 1, 3, DATA_APPLY) == 0);
    bench_settle(bench);
    EXPECT(bench_reply(bench, number)->reply.outcome == REQUEST_DONE); /* By another owner. */
    bench_destroy(bench);
}

TEST_CASE(an_owner_whose_disk_takes_nothing_leaves_the_write_to_another)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(4, &settings, NULL);
    for (int round = 0; round < 12; round++) {
        struct request put = put_w;
        put.score = round;
        sim_disk_fail_after(bench->nodes[1].world.disk, 0, STATUS_FULL);
        EXPECT(bench_do(bench, round % 2 == 0 ? 1 : 4, &put)->reply.outcome == REQUEST_DONE);
        sim_disk_fail_never(bench->nodes[1].world.disk);
        EXPECT(bench_get(bench, 4, "w", CONSISTENCY_QUORUM)->scores[0] == round);
    }
    bench_destroy(bench);

    /* With nobody else to ask it says why. */
    settings = bench_settings(1, 1, 1);
    bench = bench_create(1, &settings, NULL);
    sim_disk_fail_after(bench->nodes[1].world.disk, 0, STATUS_FULL);
    const struct request_reply *reply = &bench_do(bench, 1, &put_w)->reply;
    EXPECT(reply->outcome == REQUEST_REFUSED && reply->status == STATUS_FULL);
    bench_destroy(bench);
}

/* --- Owners that say no --- */

TEST_CASE(an_owner_that_refused_is_owed_a_hint)
{
    static const enum data_verdict verdicts[] = {DATA_FULL, DATA_CLOCK_SKEW, DATA_BUSY,
                                                 DATA_NOT_OWNER};
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    for (size_t i = 0; i < sizeof verdicts / sizeof *verdicts; i++) {
        struct bench *bench = bench_create(3, &settings, NULL);
        bench->nodes[2].frozen = true;
        bench->deaf[3][PROTOCOL_DATA] = bench->mute[3][PROTOCOL_REPAIR] = true;
        bench->mute[1][PROTOCOL_REPAIR] = bench->mute[2][PROTOCOL_REPAIR] = true;
        uint64_t number = bench_ask(bench, 1, &put_w);
        answer(bench, 3, 1, verdicts[i], 0);
        bench->nodes[2].frozen = false;
        bench_settle(bench);
        EXPECT(bench_reply(bench, number)->reply.outcome == REQUEST_DONE);
        bench_pass(bench, 800);
        EXPECT(bench_stats(bench, 1).hint_count == 1);
        EXPECT(bench_stats(bench, 1).flow_count == 0);
        bench->deaf[3][PROTOCOL_DATA] = false;
        bench_pass(bench, 2000);
        EXPECT(bench_peek(bench, 3, "w") == 1);
        bench_destroy(bench);
    }
}

TEST_CASE(a_write_waits_for_owners_that_lack_the_map)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    bench->deaf[2][PROTOCOL_DATA] = bench->deaf[3][PROTOCOL_DATA] = true;
    uint64_t number = bench_ask(bench, 1, &put_w);
    answer(bench, 2, 1, DATA_NOT_OWNER, -1);
    answer(bench, 3, 1, DATA_NOT_OWNER, -1);
    EXPECT(bench_reply(bench, number) == NULL);
    bench_pass(bench, 1000);
    EXPECT(bench_reply(bench, number) == NULL);
    answer(bench, 2, 1, DATA_BUSY, 0);
    bench->deaf[2][PROTOCOL_DATA] = false;
    bench_pass(bench, 200);
    EXPECT(bench_reply(bench, number)->reply.outcome == REQUEST_DONE);
    bench_destroy(bench);
}

TEST_CASE(a_write_that_can_have_no_quorum_any_more_says_so_at_once)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    bench->deaf[2][PROTOCOL_DATA] = bench->deaf[3][PROTOCOL_DATA] = true;
    uint64_t number = bench_ask(bench, 1, &put_w);
    answer(bench, 2, 1, DATA_FULL, 0);
    EXPECT(bench_reply(bench, number) == NULL);
    answer(bench, 3, 1, DATA_NOT_OWNER, 0);
    EXPECT(bench_reply(bench, number)->reply.outcome == REQUEST_TIMED_OUT);
    EXPECT(bench_stats(bench, 1).hint_count == 2);
    bench_destroy(bench);
}

/* --- Stand-ins --- */

static struct bench *sloppy_bench(void)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    settings.sloppy_quorum = true;
    struct bench *bench = bench_create(6, &settings, NULL);
    bench_kill(bench, 3, SIM_DISK_KILLED);
    bench_pass(bench, 10000); /* Until all know that it is down. */
    return bench;
}

TEST_CASE(a_stand_in_that_is_silent_or_refuses_is_passed_over)
{
    for (int refuses = 0; refuses < 2; refuses++) {
        struct bench *bench = sloppy_bench();
        struct request put = put_w;
        put.has_consistency = true;
        put.consistency = CONSISTENCY_ALL;
        bench->deaf[4][PROTOCOL_DATA] = true;
        uint64_t number = bench_ask(bench, 1, &put);
        EXPECT(bench_reply(bench, number) == NULL);
        if (refuses == 1) {
            struct data_message held = {
                .kind = DATA_HELD, .flow = label_at(bench, 1), .verdict = DATA_FULL};
            bench_tell(bench, 4, 1, &held);
        } else {
            bench_pass(bench, 600);
        }
        EXPECT(bench_reply(bench, number)->reply.outcome == REQUEST_DONE);
        EXPECT(bench_reply(bench, number)->reply.sloppy);
        bench_destroy(bench);
    }
}

TEST_CASE(an_owner_whose_stand_in_is_silent_is_owed_a_hint_here)
{
    struct bench *bench = sloppy_bench();
    struct request put = put_w;
    put.has_consistency = true;
    put.consistency = CONSISTENCY_ALL;
    for (node_id id = 4; id <= 6; id++) bench->deaf[id][PROTOCOL_DATA] = true;
    uint64_t number = bench_ask(bench, 1, &put);
    bench_pass(bench, 3500);
    EXPECT(bench_reply(bench, number)->reply.outcome == REQUEST_TIMED_OUT);
    EXPECT(bench_stats(bench, 1).hint_count == 1);
    bench_destroy(bench);
}

/* Nobody knew that it is down when the write began. */
TEST_CASE(others_stand_in_for_an_owner_that_turns_out_to_be_silent)
{
    struct rangemap_settings settings = bench_settings(3, 3, 2);
    settings.sloppy_quorum = true;
    struct bench *bench = bench_create(5, &settings, NULL);
    bench->deaf[3][PROTOCOL_DATA] = true;
    uint64_t number = bench_ask(bench, 1, &put_w);
    EXPECT(bench_reply(bench, number) == NULL);
    bench_pass(bench, 600);
    EXPECT(bench_reply(bench, number)->reply.outcome == REQUEST_DONE);
    EXPECT(bench_reply(bench, number)->reply.sloppy);
    bench_destroy(bench);
}

/* --- Requests that come twice --- */

static void forward(struct bench *bench, uint64_t boot, uint64_t serial)
{
    struct data_message message = {
        .kind = DATA_FORWARD,
        .flow = boot << 32 | serial,
        .boot = boot,
        .serial = serial,
        .request = {
            .kind = REQUEST_INCREMENT, .key = SLICE_LITERAL("w"), .score = 1, .timeout_ms = 1000}};
    bench_hear(bench, 4, 1, &message);
}

TEST_CASE(a_forwarded_request_that_comes_twice_is_done_once_however_late)
{
    enum { REQUESTS = 20000, STEP = 100 };
    struct rangemap_settings settings = bench_settings(1, 1, 1);
    struct bench *bench = bench_create(4, &settings, NULL);
    for (uint64_t serial = 1; serial <= REQUESTS; serial++) {
        forward(bench, 5, serial);
        if (serial % STEP == 0) bench_settle(bench);
    }
    EXPECT(bench_peek(bench, 1, "w") == REQUESTS);
    forward(bench, 5, 1);
    forward(bench, 5, REQUESTS - 9000);
    forward(bench, 5, REQUESTS);
    bench_settle(bench);
    EXPECT(bench_peek(bench, 1, "w") == REQUESTS);

    /* Out of order each counts; far behind nobody knows, so it does not. */
    forward(bench, 5, 3 * SEEN_WINDOW);
    forward(bench, 5, 3 * SEEN_WINDOW - 7);
    forward(bench, 5, 2 * SEEN_WINDOW + 1);
    forward(bench, 5, 2 * SEEN_WINDOW);
    bench_settle(bench);
    EXPECT(bench_peek(bench, 1, "w") == REQUESTS + 3);
    /* Another start numbers anew, and what the one before it sent is late. */
    forward(bench, 6, 1);
    forward(bench, 5, 3 * SEEN_WINDOW + 1);
    bench_settle(bench);
    EXPECT(bench_peek(bench, 1, "w") == REQUESTS + 4);
    bench_destroy(bench);
}

TEST_CASE(an_increment_is_never_asked_of_two_owners)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(4, &settings, NULL);
    struct request add = {.kind = REQUEST_INCREMENT, .key = SLICE_LITERAL("w"), .score = 1};
    for (int round = 0; round < 5; round++) {
        for (node_id id = 1; id <= 3; id++) bench->nodes[id].frozen = true;
        uint64_t number = bench_ask(bench, 4, &add);
        bench_pass(bench, 400);
        for (node_id id = 1; id <= 3; id++) bench->nodes[id].frozen = false;
        bench_settle(bench);
        EXPECT(bench_reply(bench, number)->reply.outcome == REQUEST_DONE);
    }
    bench_pass(bench, 2000);
    EXPECT(bench_get(bench, 4, "w", CONSISTENCY_ALL)->scores[0] == 5);
    bench_destroy(bench);
}

TEST_MAIN(TEST(a_batch_that_fails_takes_along_only_what_tells_of_it),
          TEST(an_owner_whose_disk_takes_nothing_leaves_the_write_to_another),
          TEST(an_owner_that_refused_is_owed_a_hint),
          TEST(a_write_waits_for_owners_that_lack_the_map),
          TEST(a_write_that_can_have_no_quorum_any_more_says_so_at_once),
          TEST(a_stand_in_that_is_silent_or_refuses_is_passed_over),
          TEST(an_owner_whose_stand_in_is_silent_is_owed_a_hint_here),
          TEST(others_stand_in_for_an_owner_that_turns_out_to_be_silent),
          TEST(an_increment_is_never_asked_of_two_owners),
          TEST(a_forwarded_request_that_comes_twice_is_done_once_however_late))
