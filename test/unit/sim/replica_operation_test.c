/* Increments with names: a retry counts once, whatever crashed, moved or was set in between. */
#include "node/replica_private.h"
#include "replica_bench.h"

static struct request increment(const struct bench *bench, uint64_t client, uint64_t number,
                                enum operation_attempt attempt)
{
    return (struct request){
        .kind = REQUEST_INCREMENT,
        .key = SLICE_LITERAL("w"),
        .score = 1,
        .timeout_ms = 1000,
        .operation = {.client = client,
                      .number = number,
                      .attempt = attempt,
                      .map_number = rangemap_identity(bench->map)->number},
    };
}

static struct request_reply add(struct bench *bench, node_id at, uint64_t client, uint64_t number,
                                enum operation_attempt attempt)
{
    struct request request = increment(bench, client, number, attempt);
    return bench_do(bench, at, &request)->reply;
}

static double score_of(struct bench *bench, node_id at)
{
    bench_pass(bench, 1500); /* Hints and repair. */
    return bench_get(bench, at, "w", CONSISTENCY_ALL)->scores[0];
}

/* Who does it. */
static node_id owner_of(const struct bench *bench, uint64_t client, uint64_t number)
{
    struct shard shard = rangemap_shard(replica_map(bench->nodes[4].replica), 0);
    return replica_operation_owner(shard_read_owners(&shard),
                                   &(struct request_operation){client, number, 0, 0});
}

/* The first number whose owner is this node. */
static uint64_t number_for(const struct bench *bench, uint64_t client, node_id owner)
{
    uint64_t number = 1;
    while (owner_of(bench, client, number) != owner) number++;
    return number;
}

TEST_CASE(a_retry_counts_once_through_whatever_node_it_comes)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(4, &settings, NULL);
    for (uint64_t number = 1; number <= 30; number++) {
        EXPECT(add(bench, 1 + number % 4, 7, number, OPERATION_FIRST).outcome == REQUEST_DONE);
        for (node_id at = 1; at <= 4; at++) {
            struct request_reply reply = add(bench, at, 7, number, OPERATION_RETRY);
            EXPECT(reply.outcome == REQUEST_DONE && reply.score == number);
            EXPECT(reply.map_number == rangemap_identity(bench->map)->number);
        }
    }
    EXPECT(score_of(bench, 4) == 30);
    /* Another client's numbers are others. */
    EXPECT(add(bench, 2, 8, 1, OPERATION_RETRY).score == 31);
    bench_destroy(bench);
}

TEST_CASE(a_retry_counts_once_whenever_its_owner_crashed)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    for (int story = 0; story < 32; story++) {
        struct bench *bench = bench_create(4, &settings, NULL);
        uint64_t number = number_for(bench, 7, 1);
        /* What of its log survives is chance. */
        for (int i = 0; i < story / 8; i++) bench_put(bench, 1, "v", i);
        struct request request = increment(bench, 7, number, OPERATION_FIRST);
        /* Before or after its sync; the others hear of it or not. */
        bench->nodes[1].frozen = (story & 1) != 0;
        bench->deaf[2][PROTOCOL_DATA] = bench->deaf[3][PROTOCOL_DATA] = (story & 2) != 0;
        uint64_t ask = bench_ask(bench, 4, &request);
        bench_kill(bench, 1, (story & 4) != 0 ? SIM_DISK_POWER_LOSS : SIM_DISK_KILLED);
        bench->nodes[1].frozen = false;
        bench->deaf[2][PROTOCOL_DATA] = bench->deaf[3][PROTOCOL_DATA] = false;
        bench_pass(bench, 1200);
        EXPECT(bench_reply(bench, ask) != NULL);
        /* While it is gone nobody else does it. */
        EXPECT(add(bench, 4, 7, number, OPERATION_RETRY).outcome == REQUEST_TIMED_OUT);
        bench_restart(bench, 1);
        bench_pass(bench, 2000);
        for (node_id at = 1; at <= 4; at++)
            EXPECT(add(bench, at, 7, number, OPERATION_RETRY).outcome == REQUEST_DONE);
        EXPECT(score_of(bench, 4) == 1);
        bench_destroy(bench);
    }
}

TEST_CASE(a_retry_while_the_first_attempt_waits_counts_once)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(4, &settings, NULL);
    uint64_t number = number_for(bench, 7, 1);
    struct request first = increment(bench, 7, number, OPERATION_FIRST);
    struct request retry = increment(bench, 7, number, OPERATION_RETRY);
    bench->nodes[1].frozen = true;
    uint64_t asks[] = {bench_ask(bench, 4, &first), bench_ask(bench, 3, &retry),
                       bench_ask(bench, 1, &first)};
    bench_pass(bench, 100);
    bench->nodes[1].frozen = false;
    bench_settle(bench);
    for (size_t i = 0; i < 3; i++) {
        EXPECT(bench_reply(bench, asks[i])->reply.outcome == REQUEST_DONE);
        EXPECT(bench_reply(bench, asks[i])->reply.score == 1);
    }
    EXPECT(score_of(bench, 4) == 1);
    bench_destroy(bench);
}

/* A set takes along what it replaces: what nobody was told of counts in the new value. */
TEST_CASE(an_increment_counts_once_in_each_value)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(4, &settings, NULL);
    uint64_t number = number_for(bench, 7, 1);
    EXPECT(add(bench, 4, 7, number, OPERATION_FIRST).score == 1);
    bench_put(bench, 2, "w", 100);
    EXPECT(add(bench, 4, 7, number, OPERATION_RETRY).outcome == REQUEST_DONE);
    EXPECT(score_of(bench, 4) == 100); /* It was acknowledged before. */

    number += 1;
    while (owner_of(bench, 7, number) != 1) number++;
    bench->deaf[2][PROTOCOL_DATA] = bench->deaf[3][PROTOCOL_DATA] = true;
    EXPECT(add(bench, 4, 7, number, OPERATION_FIRST).outcome == REQUEST_TIMED_OUT);
    bench->deaf[2][PROTOCOL_DATA] = bench->deaf[3][PROTOCOL_DATA] = false;
    bench_put(bench, 2, "w", 200);
    EXPECT(add(bench, 4, 7, number, OPERATION_RETRY).score == 201);
    EXPECT(add(bench, 4, 7, number, OPERATION_RETRY).score == 201);
    EXPECT(score_of(bench, 4) == 201);
    bench_destroy(bench);
}

/* The owner has not heard of the set: another one that has does it, and only that one ever. */
TEST_CASE(an_increment_that_moved_counts_where_it_went)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    for (int story = 0; story < 3; story++) {
        struct bench *bench = bench_create(4, &settings, NULL);
        uint64_t number = number_for(bench, 7, 1);
        bench_put(bench, 1, "w", 50);
        bench_settle(bench);
        for (node_id id = 1; id <= 3; id++) bench->mute[id][PROTOCOL_REPAIR] = true;
        bench->cut[2][1] = bench->cut[3][1] = true;
        bench_put(bench, 2, "w", 100);
        bench->cut[2][1] = bench->cut[3][1] = false;
        EXPECT(bench_peek(bench, 1, "w") == 50);
        EXPECT(add(bench, 4, 7, number, OPERATION_FIRST).score == 101);
        if (story == 1) {
            bench_kill(bench, 1, SIM_DISK_POWER_LOSS);
            bench_restart(bench, 1);
            bench_pass(bench, 1000);
        }
        if (story == 2) {
            /* The other one that knows the set answers first. */
            bench->cut[2][1] = true;
        }
        bench_settle(bench);
        EXPECT(add(bench, 4, 7, number, OPERATION_RETRY).outcome ==
               (story == 2 ? bench_reply(bench, bench->next_id - 1)->reply.outcome : REQUEST_DONE));
        bench->cut[2][1] = false;
        EXPECT(add(bench, 4, 7, number, OPERATION_RETRY).outcome == REQUEST_DONE);
        for (node_id id = 1; id <= 3; id++) bench->mute[id][PROTOCOL_REPAIR] = false;
        EXPECT(score_of(bench, 4) == 101);
        bench_destroy(bench);
    }
}

/* What it counted in is replaced; what its reply said of the owners holds still. */
TEST_CASE(a_retry_is_told_that_others_stood_in)
{
    for (int sloppy = 0; sloppy < 2; sloppy++) {
        struct rangemap_settings settings = bench_settings(3, 2, 2);
        settings.sloppy_quorum = true;
        struct bench *bench = bench_create(6, &settings, NULL);
        if (sloppy == 1) bench_kill(bench, 3, SIM_DISK_KILLED);
        bench_pass(bench, 10000); /* Until all know that it is down. */
        struct request request = increment(bench, 7, number_for(bench, 7, 1), OPERATION_FIRST);
        request.has_consistency = true;
        request.consistency = CONSISTENCY_ALL;
        const struct bench_reply *reply = bench_do(bench, 1, &request);
        EXPECT(reply->reply.outcome == REQUEST_DONE && reply->reply.sloppy == (sloppy == 1));
        bench_put(bench, 2, "w", 100);
        bench_settle(bench);
        request.operation.attempt = OPERATION_RETRY;
        reply = bench_do(bench, 1, &request);
        EXPECT(reply->reply.outcome == REQUEST_DONE && reply->reply.score == 100);
        EXPECT(reply->reply.sloppy == (sloppy == 1));
        bench_destroy(bench);
    }
}

/* Who started often in a short time stamps far ahead, and leaves that to others. */
static void start_often(struct bench *bench, node_id id)
{
    for (int start = 0; start < 8; start++) {
        bench_kill(bench, id, SIM_DISK_KILLED);
        bench_restart(bench, id);
        bench_pass(bench, 100);
    }
    EXPECT(!replica_may_stamp(bench->nodes[id].replica, true));
}

/* Those who know the newer value do nothing. But node 1 has added to what it knew. */
TEST_CASE(an_increment_that_moved_in_vain_may_have_been_done)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    for (unsigned story = 0; story < 4; story++) {
        bool named = (story & 1) != 0;
        node_id at = (story & 2) != 0 ? 1 : 4; /* Who was asked. */
        struct bench *bench = bench_create(4, &settings, NULL);
        struct request request = increment(bench, 7, number_for(bench, 7, 1), OPERATION_FIRST);
        if (!named) request.operation = (struct request_operation){0};
        bench_put(bench, 1, "w", 50);
        bench_settle(bench);
        for (node_id id = 1; id <= 3; id++) bench->mute[id][PROTOCOL_REPAIR] = true;
        bench->cut[2][1] = bench->cut[3][1] = true;
        bench_put(bench, 2, "w", 100);
        start_often(bench, 2);
        start_often(bench, 3);
        bench->cut[2][1] = bench->cut[3][1] = false;
        EXPECT(bench_peek(bench, 1, "w") == 50);
        EXPECT(bench_do(bench, at, &request)->reply.outcome == REQUEST_TIMED_OUT);
        EXPECT(bench_peek(bench, 1, "w") == 51);
        bench_destroy(bench);
    }
}

/* It once moved from node 1 to node 2, which knew a newer value then. Now node 1 knows the newest: the retry goes to
 * node 2, which finds that out and sends it back, to where the note says that it went to node 2. */
TEST_CASE(an_increment_that_comes_back_counts_in_the_newest_value)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(4, &settings, NULL);
    uint64_t number = number_for(bench, 7, 1);
    struct request request = increment(bench, 7, number, OPERATION_RETRY);
    struct operation_note moved = {.state = OPERATION_MOVED, .moved_to = 2};
    bench_put(bench, 1, "w", 50);
    bench_settle(bench);
    for (node_id id = 1; id <= 3; id++) bench->mute[id][PROTOCOL_REPAIR] = true;
    EXPECT(replica_operation_note(bench->nodes[1].replica, &request, &moved) == STATUS_OK);
    bench->cut[1][2] = bench->cut[3][2] = true;
    bench_put(bench, 1, "w", 200);
    bench->cut[1][2] = false; /* What node 3 says does not come first. */
    EXPECT(bench_peek(bench, 1, "w") == 200 && bench_peek(bench, 2, "w") == 50);
    EXPECT(add(bench, 4, 7, number, OPERATION_RETRY).score == 201);
    EXPECT(add(bench, 4, 7, number, OPERATION_RETRY).score == 201);
    bench_pass(bench, 5000);
    for (node_id id = 1; id <= 3; id++) EXPECT(bench_stats(bench, id).flow_count == 0);
    EXPECT(score_of(bench, 4) == 201);
    bench_destroy(bench);
}

/* A set that the others have not heard of. */
static void set_alone(struct bench *bench, node_id at, double score)
{
    struct request request = {.kind = REQUEST_SET,
                              .key = SLICE_LITERAL("w"),
                              .score = score,
                              .has_consistency = true,
                              .consistency = CONSISTENCY_ONE,
                              .timeout_ms = 1000};
    for (node_id id = 1; id <= 4; id++) bench->cut[at][id] = true;
    EXPECT(bench_do(bench, at, &request)->reply.outcome == REQUEST_DONE);
    for (node_id id = 1; id <= 4; id++) bench->cut[at][id] = false;
}

/* Node 1 knows 50, and does it; node 2 and node 3 know newer values. */
static struct bench *bench_of_three_values(void)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(4, &settings, NULL);
    bench_put(bench, 1, "w", 50);
    bench_settle(bench);
    for (node_id id = 1; id <= 3; id++) bench->mute[id][PROTOCOL_REPAIR] = true;
    set_alone(bench, 2, 100);
    set_alone(bench, 3, 200);
    return bench;
}

/* Of what is stalled the only message arrives, and what it leads to. */
static void release_to(struct bench *bench, node_id to)
{
    EXPECT(bench->late_count == 1 && bench->late[0].to == to);
    struct bench_message message = bench->late[0];
    bench->late_count = 0;
    replica_message(bench->nodes[to].replica, bench_time(bench, to), message.from,
                    slice_of(bench->late_bytes.data + message.at, message.size));
    bench_settle(bench);
}

/* The first attempt hears from node 3, late, that it knows a newer value, and the second from node 2. */
TEST_CASE(two_attempts_at_once_move_to_one_owner)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(4, &settings, NULL);
    uint64_t number = number_for(bench, 7, 1);
    struct request first = increment(bench, 7, number, OPERATION_FIRST);
    struct request retry = increment(bench, 7, number, OPERATION_RETRY);
    for (node_id id = 1; id <= 3; id++) bench->mute[id][PROTOCOL_REPAIR] = true;
    bench->cut[2][1] = bench->cut[3][1] = true;
    bench_put(bench, 2, "w", 200);
    bench->cut[2][1] = bench->cut[3][1] = false;
    bench->cut[1][2] = bench->stalled[3][1] = true;
    uint64_t asks[2] = {bench_ask(bench, 1, &first)};
    bench->cut[1][2] = bench->stalled[3][1] = false;
    bench->cut[1][3] = true;
    asks[1] = bench_ask(bench, 1, &retry);
    bench->cut[1][3] = false;
    EXPECT(bench_reply(bench, asks[0]) == NULL);
    EXPECT(bench_reply(bench, asks[1])->reply.score == 201);
    release_to(bench, 1);
    EXPECT(bench_reply(bench, asks[0])->reply.score == 201);
    for (node_id id = 1; id <= 3; id++) bench->mute[id][PROTOCOL_REPAIR] = false;
    EXPECT(score_of(bench, 4) == 201);
    bench_destroy(bench);
}

/* Another attempt moved on while this one waited: it is not acknowledged in the older value. */
TEST_CASE(an_attempt_that_was_overtaken_goes_the_same_way)
{
    struct bench *bench = bench_of_three_values();
    uint64_t number = number_for(bench, 7, 1);
    struct request first = increment(bench, 7, number, OPERATION_FIRST);
    first.has_consistency = true;
    first.consistency = CONSISTENCY_ONE;
    struct request retry = increment(bench, 7, number, OPERATION_RETRY);
    bench->nodes[1].frozen = true;
    uint64_t ask = bench_ask(bench, 1, &first);
    struct operation_note moved = {.state = OPERATION_MOVED, .moved_to = 3, .moves = 0};
    EXPECT(replica_operation_note(bench->nodes[1].replica, &retry, &moved) == STATUS_OK);
    bench->nodes[1].frozen = false;
    bench_settle(bench);
    EXPECT(bench_reply(bench, ask)->reply.score == 201);
    EXPECT(add(bench, 4, 7, number, OPERATION_RETRY).score == 201);
    bench_destroy(bench);
}

/* From node 1 to node 2, late; a retry meanwhile came to node 2, and from there to node 3. */
TEST_CASE(a_move_that_took_long_is_not_one_that_comes_back)
{
    struct bench *bench = bench_of_three_values();
    uint64_t number = number_for(bench, 7, 1);
    struct request first = increment(bench, 7, number, OPERATION_FIRST);
    bench->cut[1][3] = bench->stalled[2][1] = true;
    bench_ask(bench, 1, &first);
    bench->cut[1][3] = bench->stalled[2][1] = false;
    bench->stalled[1][2] = true;
    release_to(bench, 1);
    bench->stalled[1][2] = false;
    bench->cut[2][1] = true;
    struct request retry = increment(bench, 7, number, OPERATION_RETRY);
    bench_ask(bench, 1, &retry);
    bench->cut[2][1] = false;
    EXPECT(bench_peek(bench, 2, "w") == 201 && bench_peek(bench, 3, "w") == 201);
    release_to(bench, 2);
    for (node_id id = 1; id <= 3; id++) bench->mute[id][PROTOCOL_REPAIR] = false;
    EXPECT(score_of(bench, 4) == 201);
    bench_destroy(bench);
}

/* As after a crash that took what was not durable of the last visit: each was told to go to the other one. */
TEST_CASE(notes_never_lead_in_a_circle)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    for (uint8_t moves = 0; moves < 3; moves++) {
        struct bench *bench = bench_create(4, &settings, NULL);
        uint64_t number = number_for(bench, 7, 1);
        struct request request = increment(bench, 7, number, OPERATION_RETRY);
        bench_put(bench, 1, "w", 50);
        for (node_id id = 1; id <= 2; id++) {
            struct operation_note moved = {
                .state = OPERATION_MOVED, .moved_to = 3 - id, .moves = id == 1 ? 1 : moves};
            EXPECT(replica_operation_note(bench->nodes[id].replica, &request, &moved) == STATUS_OK);
        }
        EXPECT(add(bench, 4, 7, number, OPERATION_RETRY).score == 51);
        EXPECT(add(bench, 4, 7, number, OPERATION_RETRY).score == 51);
        for (node_id id = 1; id <= 4; id++) EXPECT(bench_stats(bench, id).flow_count == 0);
        EXPECT(score_of(bench, 4) == 51);
        bench_destroy(bench);
    }
}

TEST_CASE(what_is_not_known_for_sure_is_said_to_be_unknown)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(4, &settings, NULL);
    /* Under other owners another one may have done it. */
    struct request retry = increment(bench, 7, 1, OPERATION_RETRY);
    retry.operation.map_number = 0;
    EXPECT(bench_do(bench, 4, &retry)->reply.outcome == REQUEST_TIMED_OUT);
    retry.operation.map_number = rangemap_identity(bench->map)->number;
    EXPECT(bench_do(bench, 4, &retry)->reply.outcome == REQUEST_DONE);
    retry.operation.map_number = 0;
    EXPECT(bench_do(bench, 4, &retry)->reply.outcome == REQUEST_DONE); /* It is known. */
    retry.operation.map_number = 1000; /* Of a map that this node has not. */
    EXPECT(bench_do(bench, 4, &retry)->reply.outcome == REQUEST_TIMED_OUT);

    /* A name is of one word. */
    retry = increment(bench, 7, 1, OPERATION_FIRST);
    retry.key = SLICE_LITERAL("v");
    struct request_reply reply = bench_do(bench, 4, &retry)->reply;
    EXPECT(reply.outcome == REQUEST_REFUSED && reply.status == STATUS_INVALID);

    /* Its place was taken by a later one. */
    uint64_t later = 1 + REPLICA_OPERATIONS_MAX;
    while (owner_of(bench, 7, later) != owner_of(bench, 7, 1)) later += REPLICA_OPERATIONS_MAX;
    EXPECT(add(bench, 4, 7, later, OPERATION_FIRST).outcome == REQUEST_DONE);
    EXPECT(add(bench, 4, 7, 1, OPERATION_RETRY).outcome == REQUEST_TIMED_OUT);
    EXPECT(score_of(bench, 4) == 2);
    bench_destroy(bench);
}

TEST_CASE(clients_that_came_long_ago_are_forgotten_first_and_then_nothing_is_sure_of_them)
{
    struct rangemap_settings settings = bench_settings(1, 1, 1);
    struct bench *bench = bench_create(1, &settings, NULL);
    for (uint64_t client = 1; client <= REPLICA_CLIENTS_MAX; client++)
        EXPECT(add(bench, 1, client, 5, OPERATION_FIRST).outcome == REQUEST_DONE);
    EXPECT(add(bench, 1, 1, 6, OPERATION_FIRST).outcome == REQUEST_DONE);
    EXPECT(add(bench, 1, 9999, 1, OPERATION_RETRY).outcome == REQUEST_DONE); /* For 2. */
    for (int start = 0; start < 2; start++) {
        EXPECT(add(bench, 1, 2, 5, OPERATION_RETRY).outcome == REQUEST_TIMED_OUT);
        EXPECT(add(bench, 1, 8888, 1, OPERATION_RETRY).outcome == REQUEST_TIMED_OUT);
        EXPECT(add(bench, 1, 1, 5, OPERATION_RETRY).outcome == REQUEST_DONE);
        EXPECT(add(bench, 1, 3, 5, OPERATION_RETRY).outcome == REQUEST_DONE);
        EXPECT(add(bench, 1, 3, 4, OPERATION_RETRY).outcome == REQUEST_DONE); /* Never done. */
        EXPECT(bench_peek(bench, 1, "w") == REPLICA_CLIENTS_MAX + 3 + start * 2);
        /* It comes again: what it did before has lower numbers. */
        EXPECT(add(bench, 1, 2, 9, OPERATION_FIRST).outcome == REQUEST_DONE);
        EXPECT(add(bench, 1, 2, 5, OPERATION_RETRY).outcome == REQUEST_TIMED_OUT);
        EXPECT(add(bench, 1, 2, 10, OPERATION_RETRY).outcome == REQUEST_DONE);
        EXPECT(bench->nodes[1].replica->operations.count == REPLICA_CLIENTS_MAX);
        if (start == 1) break;
        bench_kill(bench, 1, SIM_DISK_POWER_LOSS);
        bench_restart(bench, 1);
    }
    bench_destroy(bench);
}

/* Each allocation of the owner fails once. */
TEST_CASE(a_retry_counts_once_when_memory_runs_out)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(4, &settings, NULL);
    struct heap *heap = &bench->nodes[1].world.heap;
    uint64_t number = 0;
    double told = 0;
    for (int64_t after = 0; after < 60; after++) {
        do number++;
        while (owner_of(bench, 7, number) != 1);
        struct request first = increment(bench, 7, number, OPERATION_FIRST);
        uint64_t ask = bench->next_id++;
        bench->replies[ask % BENCH_REPLIES_MAX].there = false;
        heap->failure_after = after;
        replica_request(bench->nodes[1].replica, bench_time(bench, 1), ask, &first);
        heap->failure_after = -1;
        bench_settle(bench);
        bench_pass(bench, 1200);
        EXPECT(add(bench, 4, 7, number, OPERATION_RETRY).outcome == REQUEST_DONE);
        told++;
    }
    EXPECT(score_of(bench, 4) == told);
    bench_destroy(bench);
}

TEST_MAIN(TEST(a_retry_counts_once_through_whatever_node_it_comes),
          TEST(a_retry_counts_once_whenever_its_owner_crashed),
          TEST(a_retry_while_the_first_attempt_waits_counts_once),
          TEST(an_increment_counts_once_in_each_value),
          TEST(an_increment_that_moved_counts_where_it_went),
          TEST(a_retry_is_told_that_others_stood_in),
          TEST(an_increment_that_moved_in_vain_may_have_been_done),
          TEST(an_increment_that_comes_back_counts_in_the_newest_value),
          TEST(two_attempts_at_once_move_to_one_owner),
          TEST(an_attempt_that_was_overtaken_goes_the_same_way),
          TEST(a_move_that_took_long_is_not_one_that_comes_back),
          TEST(notes_never_lead_in_a_circle),
          TEST(what_is_not_known_for_sure_is_said_to_be_unknown),
          TEST(clients_that_came_long_ago_are_forgotten_first_and_then_nothing_is_sure_of_them),
          TEST(a_retry_counts_once_when_memory_runs_out))
