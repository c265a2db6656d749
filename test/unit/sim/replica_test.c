/* A node of a cluster: coordinating writes and reads over a map that does not change. */
#include "base/prng.h"
#include "cluster/data_message.h"
#include "cluster/outbox.h"
#include "guard.h"
#include "node/replica_private.h"
#include "replica_bench.h"

TEST_CASE(a_write_is_acknowledged_by_a_quorum_and_reaches_all_owners)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    const struct bench_reply *reply = bench_put(bench, 1, "w", 5);
    EXPECT(reply->reply.outcome == REQUEST_DONE);
    EXPECT(reply->reply.ack_count >= 2 && !reply->reply.was_live && !reply->reply.sloppy);
    for (node_id id = 1; id <= 3; id++) EXPECT(bench_peek(bench, id, "w") == 5);

    EXPECT(bench_put(bench, 2, "w", 6)->reply.was_live);
    EXPECT(bench_get(bench, 3, "w", CONSISTENCY_QUORUM)->scores[0] == 6);
    bench_destroy(bench);
}

TEST_CASE(nothing_is_acknowledged_before_enough_disks_have_it)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    struct request put = {.kind = REQUEST_SET, .key = SLICE_LITERAL("w"), .score = 1};

    bench->nodes[1].frozen = true; /* The coordinator itself always counts. */
    uint64_t number = bench_ask(bench, 1, &put);
    EXPECT(bench_reply(bench, number) == NULL);
    bench->nodes[1].frozen = false;
    bench_settle(bench);
    EXPECT(bench_reply(bench, number)->reply.outcome == REQUEST_DONE);

    bench->nodes[2].frozen = bench->nodes[3].frozen = true;
    number = bench_ask(bench, 1, &put);
    EXPECT(bench_reply(bench, number) == NULL);
    bench->nodes[3].frozen = false;
    bench_settle(bench);
    EXPECT(bench_reply(bench, number)->reply.outcome == REQUEST_DONE);
    bench_destroy(bench);
}

TEST_CASE(a_node_that_does_not_own_the_key_forwards_to_one_that_does)
{
    struct rangemap_settings settings = bench_settings(2, 2, 1);
    struct bench *bench = bench_create(4, &settings, (const char *const[]){"g", "m", "t", NULL});
    /* In order: owned by 1 and 2, 2 and 3, 3 and 4, 4 and 1. */
    EXPECT(bench_put(bench, 4, "a", 1)->reply.outcome == REQUEST_DONE);
    EXPECT(bench_put(bench, 2, "z", 2)->reply.outcome == REQUEST_DONE);
    EXPECT(bench_peek(bench, 1, "a") == 1 && bench_peek(bench, 2, "a") == 1);
    EXPECT(bench_peek(bench, 3, "a") == -1 && bench_peek(bench, 4, "a") == -1);
    EXPECT(bench_peek(bench, 4, "z") == 2 && bench_peek(bench, 2, "z") == -1);
    EXPECT(bench_get(bench, 3, "z", CONSISTENCY_ONE)->scores[0] == 2);
    EXPECT(bench_get(bench, 3, "y", CONSISTENCY_ONE)->reply.outcome == REQUEST_ABSENT);
    bench_destroy(bench);
}

TEST_CASE(a_write_by_a_slow_clock_is_stamped_again_above_what_it_replaces)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    bench->skew_ms[2] = -450;
    EXPECT(bench_put(bench, 1, "w", 1)->reply.outcome == REQUEST_DONE);
    bench_pass(bench, 200);
    /* Node 2 does not hear of this one. */
    bench->cut[1][2] = true;
    EXPECT(bench_put(bench, 1, "w", 2)->reply.outcome == REQUEST_DONE);
    bench->cut[1][2] = false;
    EXPECT(bench_put(bench, 2, "w", 3)->reply.outcome == REQUEST_DONE);
    for (node_id id = 1; id <= 3; id++)
        EXPECT(bench_get(bench, id, "w", CONSISTENCY_QUORUM)->scores[0] == 3);
    struct replica_stats stats;
    replica_stats(bench->nodes[2].replica, &stats);
    EXPECT(stats.restamp_count == 1);
    bench_destroy(bench);
}

/* Whoever's clock is wrong leaves the stamping to others, and begins again when it is right. */
TEST_CASE(a_clock_that_jumps_hides_nothing)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    EXPECT(bench_put(bench, 1, "w", 1)->reply.outcome == REQUEST_DONE);
    for (int64_t jump = 3600000; jump >= -3600000; jump -= 7200000) {
        /* From one moment to the next, and a write at once. */
        bench->skew_ms[2] = jump;
        EXPECT(bench_put(bench, 2, "w", 2)->reply.outcome == REQUEST_DONE);
        bench_pass(bench, 5000);
        EXPECT(bench_put(bench, 2, "w", 3)->reply.outcome == REQUEST_DONE);
        EXPECT(bench_put(bench, 1, "w", 4)->reply.outcome == REQUEST_DONE);
        EXPECT(bench_get(bench, 3, "w", CONSISTENCY_QUORUM)->scores[0] == 4);
        /* A start with a wrong clock. */
        bench_kill(bench, 2, SIM_DISK_KILLED);
        bench->nodes[2].world.now_ms = bench_time(bench, 2).wall_ms;
        bench_restart(bench, 2);
        EXPECT(bench_put(bench, 2, "w", 5)->reply.outcome == REQUEST_DONE);
        bench_pass(bench, 5000);
        EXPECT(bench_put(bench, 2, "w", 6)->reply.outcome == REQUEST_DONE);
        EXPECT(bench_put(bench, 3, "w", 7)->reply.outcome == REQUEST_DONE);
        bench->skew_ms[2] = 0;
        bench_pass(bench, 5000);
        EXPECT(bench_get(bench, 1, "w", CONSISTENCY_ALL)->scores[0] == 7);
        for (node_id id = 1; id <= 3; id++) EXPECT(bench_peek(bench, id, "w") == 7);
        EXPECT(bench_put(bench, 2, "w", 8)->reply.outcome == REQUEST_DONE);
    }
    bench_destroy(bench);
}

/* Each start stamps above the ceiling of the one before; what is too far ahead peers would refuse. */
TEST_CASE(a_node_that_ends_again_and_again_leaves_stamping_to_others_until_time_has_come_after)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    for (int start = 0; start < 8; start++) {
        EXPECT(bench_put(bench, 2, "w", start)->reply.outcome == REQUEST_DONE);
        bench_kill(bench, 2, SIM_DISK_KILLED);
        bench_restart(bench, 2);
        bench_pass(bench, 100);
    }
    const struct bench_reply *reply = bench_put(bench, 2, "w", 8);
    EXPECT(reply->reply.outcome == REQUEST_DONE);
    EXPECT(reply->reply.version.node != 2);
    bench_pass(bench, 20000);
    reply = bench_put(bench, 2, "w", 9);
    EXPECT(reply->reply.outcome == REQUEST_DONE);
    EXPECT(reply->reply.version.node == 2);
    bench_destroy(bench);
}

/* Then nobody is left to leave it to. */
static void start_all_again(uint8_t factor)
{
    struct rangemap_settings settings = bench_settings(factor, factor / 2 + 1, factor / 2 + 1);
    struct bench *bench = bench_create(4, &settings, NULL);
    EXPECT(bench_put(bench, 1, "w", 0)->reply.outcome == REQUEST_DONE);
    for (int start = 0; start < 2; start++) {
        for (node_id id = 1; id <= 4; id++) bench_kill(bench, id, SIM_DISK_KILLED);
        for (node_id id = 1; id <= 4; id++) bench_restart(bench, id);
        bench_pass(bench, 500);
    }
    for (node_id id = 1; id <= 4; id++) {
        bool owns = rangemap_takes(bench->map, id, SLICE_LITERAL("w"));
        while (!replica_serves(bench->nodes[id].replica)) bench_pass(bench, 20);
        if (owns) EXPECT(!replica_may_stamp(bench->nodes[id].replica, false));
        if (owns) EXPECT(bench_put(bench, id, "w", id)->reply.outcome == REQUEST_DONE);
    }
    EXPECT(bench_put(bench, 4, "w", 4)->reply.outcome == REQUEST_DONE);
    bench_destroy(bench);
}

TEST_CASE(nodes_that_all_start_again_stamp_themselves)
{
    start_all_again(3);
    start_all_again(1);
}

/* Each sees a jump, and that its peers agree with the time before: nobody would ever follow. */
TEST_CASE(when_all_clocks_are_set_right_at_once_time_goes_to_meet_them)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    for (int64_t right = 3000; right >= 0; right -= 3000) {
        for (node_id id = 1; id <= 3; id++) bench->skew_ms[id] = right;
        bench_pass(bench, 40000);
        for (node_id id = 1; id <= 3; id++) {
            const struct bench_reply *reply = bench_put(bench, id, "w", 1);
            EXPECT(reply->reply.outcome == REQUEST_DONE);
            int64_t wall = (int64_t)bench_time(bench, id).wall_ms;
            int64_t behind = wall - (int64_t)hlc_wall_ms(reply->reply.version.time);
            EXPECT(behind <= 600 && behind >= -600);
        }
    }
    bench_destroy(bench);
}

/* The bytes of docs/format/peer.md, but for the time. */
TEST_CASE(a_message_says_what_time_it_is_and_then_what_it_is)
{
    static const uint8_t expected[] = {3, 1, 1, 6}; /* Topology, fetch, generation 1, map 6. */
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    struct buf bytes = {.heap = &bench->heap};
    struct data_message newer = {.kind = DATA_HELD, .generation = 1, .map_number = 90};
    bench_settle(bench);
    struct replica_time time = bench_time(bench, 1);
    buf_append_u64le(&bytes, time.wall_ms);
    buf_append_u8(&bytes, PROTOCOL_DATA);
    data_message_encode(&newer, &bytes);

    size_t before = bench->queue_end;
    struct guard guard = guard_create(bytes.size);
    struct replica_stats stats;
    for (size_t size = 0; size <= 8; size++) { /* Without a protocol. */
        struct slice part = guard_copy(&guard, slice_prefix(buf_slice(&bytes), size));
        replica_message(bench->nodes[1].replica, time, 2, part);
        replica_stats(bench->nodes[1].replica, &stats);
        EXPECT(stats.invalid_count == size + 1);
    }
    guard_destroy(&guard);
    replica_commit(bench->nodes[1].replica, time);
    EXPECT(bench->queue_end == before);
    replica_message(bench->nodes[1].replica, time, 2, buf_slice(&bytes));
    replica_commit(bench->nodes[1].replica, time);
    EXPECT(bench->queue_end == before + 1);
    struct slice sent =
        slice_of(bench->bytes.data + bench->queue[before].at, bench->queue[before].size);
    EXPECT(bench->queue[before].to == 2 && sent.size == 8 + sizeof expected);
    EXPECT(load_u64le(sent.data) == time.wall_ms);
    EXPECT(slice_equal(slice_from(sent, 8), slice_of(expected, sizeof expected)));
    buf_deinit(&bytes);
    bench_destroy(bench);
}

TEST_CASE(an_owner_that_missed_a_write_gets_it_as_a_hint)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    struct replica_stats stats;
    bench_kill(bench, 3, SIM_DISK_KILLED);
    EXPECT(bench_put(bench, 1, "w", 4)->reply.outcome == REQUEST_DONE);
    bench_pass(bench, 2000);
    replica_stats(bench->nodes[1].replica, &stats);
    EXPECT(stats.hint_count == 1 && stats.flow_count == 0);

    /* The hint outlives its keeper's power. */
    bench_kill(bench, 1, SIM_DISK_POWER_LOSS);
    bench_restart(bench, 1);
    bench_restart(bench, 3);
    EXPECT(bench_peek(bench, 3, "w") == -1);
    bench_pass(bench, 3000);
    EXPECT(bench_peek(bench, 3, "w") == 4);
    replica_stats(bench->nodes[1].replica, &stats);
    EXPECT(stats.hint_count == 0);
    bench_destroy(bench);
}

/* What is kept twice counts once. */
TEST_CASE(hints_are_counted_as_they_stand)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(4, &settings, NULL);
    struct replica_stats stats;
    struct record record =
        record_of_set((struct version){(1000000 + bench->now_ms) << HLC_COUNTER_BITS, 2}, 5);
    struct data_message hold = {.kind = DATA_HOLD, .owner = 3, .record = record};
    bench_kill(bench, 3, SIM_DISK_KILLED);
    for (int i = 0; i < 40; i++) {
        char key[8];
        snprintf(key, sizeof key, "w%d", i % 20);
        hold.key = slice_from_text(key);
        hold.generation = hold.map_number = 0;
        bench_tell(bench, 2, 4, &hold);
    }
    replica_stats(bench->nodes[4].replica, &stats);
    EXPECT(stats.hint_count == 20);
    bench_restart(bench, 3);
    bench_pass(bench, 5000);
    replica_stats(bench->nodes[4].replica, &stats);
    EXPECT(stats.hint_count == 0);
    for (int i = 0; i < 20; i++) {
        char key[8];
        snprintf(key, sizeof key, "w%d", i);
        EXPECT(bench_peek(bench, 3, key) == 5);
    }
    bench_destroy(bench);
}

TEST_CASE(what_an_owner_was_owed_goes_to_those_that_own_it_now)
{
    enum { HINTS = 50 };
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(5, &settings, NULL);
    struct replica_stats stats;
    struct record record =
        record_of_set((struct version){(1000000 + bench->now_ms) << HLC_COUNTER_BITS, 2}, 5);
    for (int i = 0; i < 2 * HINTS; i++) {
        char key[8];
        snprintf(key, sizeof key, "w%d", i / 2);
        /* One that is a member, one that is none. Owners are 1, 2 and 3. */
        struct data_message hold = {.kind = DATA_HOLD,
                                    .owner = i % 2 == 0 ? 4 : 9,
                                    .key = slice_from_text(key),
                                    .record = record};
        bench_tell(bench, 2, 5, &hold);
    }
    replica_stats(bench->nodes[5].replica, &stats);
    EXPECT(stats.hint_count == 2 * HINTS);
    bench_pass(bench, 5000);
    replica_stats(bench->nodes[5].replica, &stats);
    EXPECT(stats.hint_count == 0);
    for (node_id id = 1; id <= 3; id++) EXPECT(bench_peek(bench, id, "w0") == 5);

    /* By a map that is not known here anybody may be an owner. */
    struct data_message newer = {.kind = DATA_HOLD,
                                 .owner = 9,
                                 .map_number = 1,
                                 .key = SLICE_LITERAL("x"),
                                 .record = record};
    bench_tell(bench, 2, 5, &newer);
    replica_stats(bench->nodes[5].replica, &stats);
    EXPECT(stats.hint_count == 0);
    bench_destroy(bench);
}

/* Only an answer to this start's message is one: a late one would be believed of another hint. */
TEST_CASE(an_answer_to_a_hint_of_an_earlier_start_counts_for_none)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    struct replica_stats stats;
    bench_kill(bench, 3, SIM_DISK_KILLED);
    EXPECT(bench_put(bench, 1, "w", 4)->reply.outcome == REQUEST_DONE);
    bench_pass(bench, 2000);
    bench->cut[1][3] = true;
    bench_restart(bench, 3);
    bench_pass(bench, 2000);
    for (uint64_t number = 1; number < 100; number++) {
        struct data_message applied = {.kind = DATA_APPLIED, .flow = UINT64_C(1) << 63 | number};
        bench_tell(bench, 3, 1, &applied);
    }
    replica_stats(bench->nodes[1].replica, &stats);
    EXPECT(stats.hint_count == 1);
    bench_destroy(bench);
}

/* One batch is written while the one before it syncs, on and on: there is always something that waits. */
TEST_CASE(what_went_out_leaves_no_bytes_behind)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    struct bench_node *node = &bench->nodes[1];
    uint64_t most = 0;
    bench->cut[1][2] = true;
    for (uint64_t i = 1; i <= 4000; i++) {
        struct log_sync sync;
        struct record record = record_of_set(
            (struct version){((1000000 + bench->now_ms) << HLC_COUNTER_BITS) + i, 2}, 5);
        struct data_message apply = {
            .kind = DATA_APPLY, .flow = i, .key = SLICE_LITERAL("w"), .record = record};
        bool syncs = store_sync_begin(node->world.store, &sync) == STATUS_OK;
        bench_hear(bench, 2, 1, &apply);
        replica_commit(node->replica, bench_time(bench, 1));
        if (!syncs) continue;
        store_sync_complete(node->world.store, &sync, log_sync_run(&sync));
        replica_synced(node->replica, bench_time(bench, 1));
        struct replica_stats stats;
        replica_stats(node->replica, &stats);
        EXPECT(i < 10 || stats.held_count > 0);
        if (stats.held_bytes > most) most = stats.held_bytes;
    }
    EXPECT(most < 12 << 10);
    bench_settle(bench);
    bench_destroy(bench);
}

/* Half a billion requests later the numbers of flows begin anew, and are not taken for other labels. */
TEST_CASE(requests_go_on_when_their_numbers_are_used_up)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    EXPECT(bench_put(bench, 1, "w", 1)->reply.outcome == REQUEST_DONE);
    struct replica *replica = bench->nodes[1].replica;
    for (size_t i = 0; i < replica->flow_capacity; i++)
        replica->flows[i].number = ((UINT64_C(1) << 30) - 2) << 16 | i;
    for (int turn = 0; turn < 5; turn++)
        EXPECT(bench_put(bench, 1, "w", turn)->reply.outcome == REQUEST_DONE);
    bench_destroy(bench);
}

TEST_CASE(a_stand_in_keeps_the_hint_of_a_write_that_is_stamped_again)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    settings.sloppy_quorum = true;
    struct bench *bench = bench_create(4, &settings, NULL);
    struct request put = {.kind = REQUEST_SET,
                          .key = SLICE_LITERAL("w"),
                          .score = 1,
                          .has_consistency = true,
                          .consistency = CONSISTENCY_ALL};
    bench_kill(bench, 3, SIM_DISK_KILLED);
    bench_pass(bench, 10000); /* Until all know that it is down. */
    bench->nodes[2].frozen = true;
    uint64_t number = bench_ask(bench, 1, &put);
    EXPECT(bench_reply(bench, number) == NULL);

    /* The stand-in has it, and the other owner something newer. */
    struct replica *replica = bench->nodes[1].replica;
    const struct flow *flow = replica->flows;
    while (flow->kind != FLOW_WRITE) flow++;
    struct data_message stale = {
        .kind = DATA_APPLIED,
        .flow = flow_label(flow, 1),
        .verdict = DATA_STALE,
        .version = {(1000000 + bench->now_ms + 100) << HLC_COUNTER_BITS, 2},
    };
    bench->nodes[2].frozen = false;
    bench_hear(bench, 2, 1, &stale);
    bench_settle(bench);
    const struct bench_reply *reply = bench_reply(bench, number);
    EXPECT(reply != NULL && reply->reply.outcome == REQUEST_DONE && reply->reply.sloppy);
    bench_destroy(bench);
}

/* The removal meets an increment that is newer, both times: of the value that it removes. */
TEST_CASE(a_removal_that_meets_newer_increments_is_joined_with_them)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    struct request add = {.kind = REQUEST_INCREMENT,
                          .key = SLICE_LITERAL("w"),
                          .score = 7,
                          .has_consistency = true,
                          .consistency = CONSISTENCY_ONE};
    EXPECT(bench_put(bench, 1, "w", 100)->reply.outcome == REQUEST_DONE);
    bench_settle(bench);
    bench->skew_ms[2] = 400;
    bench->mute[2][PROTOCOL_DATA] = true;
    EXPECT(bench_do(bench, 2, &add)->reply.outcome == REQUEST_DONE &&
           bench_peek(bench, 2, "w") == 107);

    bench->deaf[2][PROTOCOL_DATA] = bench->deaf[3][PROTOCOL_DATA] = true;
    struct request remove = {.kind = REQUEST_REMOVE, .key = SLICE_LITERAL("w")};
    uint64_t number = bench_ask(bench, 1, &remove);
    struct replica *replica = bench->nodes[1].replica;
    const struct flow *flow = replica->flows;
    while (flow->kind != FLOW_WRITE) flow++;
    for (unsigned stamp = 1; stamp <= 2; stamp++) {
        struct data_message stale = {
            .kind = DATA_APPLIED,
            .flow = flow_label(flow, stamp),
            .verdict = DATA_STALE,
            .version = {(1000000 + bench->now_ms + 100 * stamp) << HLC_COUNTER_BITS, 2},
        };
        EXPECT(bench_reply(bench, number) == NULL);
        bench->deaf[2][PROTOCOL_DATA] = bench->mute[2][PROTOCOL_DATA] = stamp == 1;
        bench_hear(bench, 2, 1, &stale);
    }
    bench_settle(bench);
    EXPECT(bench_reply(bench, number)->reply.outcome == REQUEST_DONE);
    EXPECT(bench_peek(bench, 2, "w") == -1);
    bench_destroy(bench);
}

/* Given the same seed, as after a crash of the whole machine. */
TEST_CASE(each_start_numbers_its_sessions_anew)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    uint64_t first[2];
    for (int start = 0; start < 2; start++) {
        bench_kill(bench, 1, SIM_DISK_KILLED);
        bench_restart(bench, 1);
        const struct repair *repair = &bench->nodes[1].replica->repair;
        first[start] = repair->number - repair->counts.session_count;
    }
    EXPECT(first[0] != first[1]);
    bench_destroy(bench);
}

TEST_CASE(increments_of_all_nodes_add_up)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    struct request add = {.kind = REQUEST_INCREMENT, .key = SLICE_LITERAL("w"), .score = 1};
    for (int round = 0; round < 4; round++) {
        for (node_id id = 1; id <= 3; id++) {
            bench->cut[id][id % 3 + 1] = round % 2 == 1;
            EXPECT(bench_do(bench, id, &add)->reply.outcome == REQUEST_DONE);
            bench->cut[id][id % 3 + 1] = false;
        }
    }
    bench_pass(bench, 3000);
    for (node_id id = 1; id <= 3; id++) EXPECT(bench_peek(bench, id, "w") == 12);

    /* A set that one node has not heard of: its increment is done where the set is known. */
    bench->cut[1][2] = true;
    EXPECT(bench_put(bench, 1, "w", 100)->reply.outcome == REQUEST_DONE);
    bench->cut[1][2] = false;
    EXPECT(bench_do(bench, 2, &add)->reply.outcome == REQUEST_DONE);
    EXPECT(bench_get(bench, 3, "w", CONSISTENCY_ALL)->scores[0] == 101);
    bench_destroy(bench);
}

/* --- Reads --- */

static void put_everywhere(struct bench *bench, uint32_t words)
{
    struct prng prng = {.state = test_seed};
    for (uint32_t i = 0; i < words; i++) {
        char key[16];
        snprintf(key, sizeof key, "%c%02u", 'a' + (int)(i % 26), i);
        EXPECT(bench_put(bench, 1 + (node_id)(i % bench->node_count), key, prng_below(&prng, 20))
                   ->reply.outcome == REQUEST_DONE);
    }
    bench_pass(bench, 1000);
}

/* The whole order, from pages of one size, at one node. */
static size_t walk(struct bench *bench, node_id id, enum request_kind kind, bool descending,
                   uint64_t limit, enum consistency consistency, char words[][32])
{
    struct request request = {.kind = kind,
                              .limit = limit,
                              .has_consistency = true,
                              .consistency = consistency,
                              .from.descending = descending};
    char last[32];
    size_t count = 0;
    for (;;) {
        const struct bench_reply *reply = bench_do(bench, id, &request);
        EXPECT(reply->reply.outcome == REQUEST_DONE);
        for (size_t i = 0; i < reply->reply.entry_count; i++)
            memcpy(words[count++], reply->words[i], sizeof last);
        if (!reply->reply.more || reply->reply.entry_count == 0) return count;
        memcpy(last, words[count - 1], sizeof last);
        struct query query = {0};
        struct query_hit hit = {0};
        for (node_id owner = 1; owner <= bench->node_count; owner++) {
            query = store_world_query(&bench->nodes[owner].world);
            if (query_get(&query, slice_from_text(last), &hit) == STATUS_OK) break;
        }
        request.has_after = kind == REQUEST_BEST;
        request.after = (struct query_position){record_best(&hit.record), slice_from_text(last)};
        if (kind == REQUEST_BEST) continue;
        request.after = (struct query_position){0};
        request.from.key = slice_from_text(last);
    }
}

TEST_CASE(every_node_gives_the_same_order_page_by_page)
{
    enum { WORDS = 120 };
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench =
        bench_create(5, &settings, (const char *const[]){"c", "k", "kz", "t", NULL});
    put_everywhere(bench, WORDS);
    static char first[WORDS + 1][32], other[WORDS + 1][32];

    for (int order = 0; order < 3; order++) {
        enum request_kind kind = order == 0 ? REQUEST_BEST : REQUEST_SCAN;
        EXPECT(walk(bench, 1, kind, order == 2, 50, CONSISTENCY_ONE, first) == WORDS);
        for (node_id id = 1; id <= 5; id++) {
            for (uint64_t limit = 1; limit < 30; limit += 9) {
                enum consistency consistency = limit % 2 == 0 ? CONSISTENCY_QUORUM
                                                              : CONSISTENCY_ONE;
                EXPECT(walk(bench, id, kind, order == 2, limit, consistency, other) == WORDS);
                EXPECT(memcmp(first, other, WORDS * sizeof *first) == 0);
            }
        }
    }
    struct request count = {.kind = REQUEST_COUNT, .has_consistency = true};
    for (node_id id = 1; id <= 5; id++) {
        count.consistency = (enum consistency)(id % 3);
        EXPECT(bench_do(bench, id, &count)->reply.count == WORDS);
    }
    bench_destroy(bench);
}

/* Owners that differ: the answer is that of what was acknowledged, and they are mended. */
TEST_CASE(a_quorum_sees_what_was_acknowledged_though_one_owner_does_not)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    struct request best = {.kind = REQUEST_BEST,
                           .limit = 2,
                           .has_consistency = true,
                           .consistency = CONSISTENCY_QUORUM};
    struct request remove = {.kind = REQUEST_REMOVE, .key = SLICE_LITERAL("top")};
    bench_put(bench, 1, "top", 100);
    bench_put(bench, 1, "second", 50);
    bench_put(bench, 1, "third", 40);
    bench_put(bench, 1, "fourth", 30);

    /* Node 3 misses that the best is gone, that the third is the best, and a new word. */
    bench->cut[1][3] = bench->cut[2][3] = true;
    EXPECT(bench_do(bench, 1, &remove)->reply.was_live);
    bench_put(bench, 2, "third", 200);
    bench_put(bench, 1, "new", 150);
    bench->cut[1][3] = bench->cut[2][3] = false;
    for (int round = 0; round < 20; round++) {
        const struct bench_reply *reply = bench_do(bench, 3, &best);
        EXPECT(reply->reply.entry_count == 2 && reply->reply.more);
        EXPECT(strcmp(reply->words[0], "third") == 0 && strcmp(reply->words[1], "new") == 0);
    }
    EXPECT(bench_peek(bench, 3, "top") == -1 && bench_peek(bench, 3, "third") == 200);

    struct request count = {
        .kind = REQUEST_COUNT, .has_consistency = true, .consistency = CONSISTENCY_QUORUM};
    bench->cut[1][3] = bench->cut[2][3] = true;
    bench_put(bench, 1, "fifth", 1);
    remove.key = SLICE_LITERAL("second");
    bench_do(bench, 1, &remove);
    remove.key = SLICE_LITERAL("fourth");
    bench_do(bench, 1, &remove);
    bench->cut[1][3] = bench->cut[2][3] = false;
    EXPECT(bench_do(bench, 3, &count)->reply.count == 3);
    bench_destroy(bench);
}

/* Each allocation of the node that asks fails once: it says so, or gives the right answer. */
TEST_CASE(a_read_without_memory_gives_no_wrong_answer)
{
    static const enum request_kind kinds[] = {REQUEST_GET, REQUEST_BEST, REQUEST_SCAN};
    struct rangemap_settings settings = bench_settings(2, 2, 2);
    struct bench *bench = bench_create(4, &settings, (const char *const[]){"g", "m", "t", NULL});
    put_everywhere(bench, 30);
    struct heap *heap = &bench->nodes[4].world.heap;
    for (size_t kind = 0; kind < 3; kind++) {
        size_t right = kinds[kind] == REQUEST_GET ? 1 : 30;
        struct request request = {.kind = kinds[kind],
                                  .limit = 40,
                                  .timeout_ms = 2000,
                                  .has_consistency = true,
                                  .consistency = CONSISTENCY_QUORUM};
        if (kinds[kind] == REQUEST_GET) request.key = SLICE_LITERAL("h07");
        for (int64_t after = 0; after < 120; after++) {
            heap->failure_after = after;
            uint64_t number = bench_ask(bench, 4, &request);
            heap->failure_after = -1;
            for (int turn = 0; turn < 120 && bench_reply(bench, number) == NULL; turn++)
                bench_pass(bench, 20);
            const struct bench_reply *reply = bench_reply(bench, number);
            EXPECT(reply != NULL && reply->reply.outcome != REQUEST_ABSENT);
            if (reply->reply.outcome == REQUEST_DONE) EXPECT(reply->reply.entry_count == right);
        }
    }
    bench_destroy(bench);
}

/* Each allocation of the coordinator fails once: of what it says was not done nothing is there. */
TEST_CASE(a_write_without_memory_is_not_said_to_be_nothing_when_it_is_there)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    struct heap *heap = &bench->nodes[1].world.heap;
    static uint8_t payload[3000]; /* More than a flow has room for. */
    for (int64_t after = 0; after < 40; after++) {
        char key[8];
        snprintf(key, sizeof key, "w%d", (int)after);
        struct request put = {.kind = REQUEST_SET,
                              .key = slice_from_text(key),
                              .score = 1,
                              .has_payload = true,
                              .payload = slice_of(payload, sizeof payload),
                              .timeout_ms = 1000};
        put.payload.size = 100 + (size_t)after * 70;
        uint64_t number = bench->next_id++;
        bench->replies[number % BENCH_REPLIES_MAX].there = false;
        heap->failure_after = after;
        replica_request(bench->nodes[1].replica, bench_time(bench, 1), number, &put);
        heap->failure_after = -1;
        bench_settle(bench);
        bench_pass(bench, 3000);
        const struct bench_reply *reply = bench_reply(bench, number);
        EXPECT(reply != NULL);
        if (reply->reply.outcome == REQUEST_REFUSED) EXPECT(bench_peek(bench, 1, key) == -1);
        if (reply->reply.outcome == REQUEST_DONE) EXPECT(bench_peek(bench, 1, key) == 1);
    }
    bench_destroy(bench);
}

TEST_CASE(an_owner_that_is_silent_is_passed_over)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(4, &settings, NULL);
    bench_put(bench, 1, "w", 1);
    bench_kill(bench, 2, SIM_DISK_KILLED);
    for (int round = 0; round < 10; round++) {
        struct request get = {.kind = REQUEST_GET,
                              .key = SLICE_LITERAL("w"),
                              .has_consistency = true,
                              .consistency = CONSISTENCY_QUORUM};
        uint64_t number = bench_ask(bench, 4, &get);
        bench_pass(bench, 400);
        const struct bench_reply *reply = bench_reply(bench, number);
        EXPECT(reply != NULL && reply->reply.outcome == REQUEST_DONE && reply->scores[0] == 1);
    }
    bench_destroy(bench);
}

/* --- Repair --- */

/* Writes at one node that no other hears of, and drops the hints they leave. */
static void put_alone(struct bench *bench, node_id id, const char *key, double score)
{
    /* As one node stamped it, whoever holds it. */
    struct record record =
        record_of_set((struct version){(1000000 + bench->now_ms) << HLC_COUNTER_BITS, 7}, score);
    struct store_write write = {
        .kind = STORE_MERGE, .key = slice_from_text(key), .record = &record};
    struct store_outcome outcome;
    uint64_t sequence;
    EXPECT(store_world_write(&bench->nodes[id].world, &write, 1, &outcome, &sequence) == STATUS_OK);
    EXPECT(store_world_sync(&bench->nodes[id].world) == STATUS_OK);
}

static struct sum sum_of(const struct bench *bench, node_id id)
{
    struct query query = store_world_query(&bench->nodes[id].world);
    struct key_range range = {SLICE_LITERAL("\1"), {0}};
    struct sum sum;
    EXPECT(query_sum_range(&query, range, &sum) == STATUS_OK);
    return sum;
}

static bool all_equal(const struct bench *bench)
{
    for (node_id id = 2; id <= bench->node_count; id++)
        if (!sum_equal(sum_of(bench, 1), sum_of(bench, id))) return false;
    return true;
}

static uint64_t sent_by_repair(const struct bench *bench)
{
    uint64_t bytes = 0;
    for (node_id id = 1; id <= bench->node_count; id++) {
        struct replica_stats stats;
        replica_stats(bench->nodes[id].replica, &stats);
        bytes += stats.repair_sent_bytes;
    }
    return bytes;
}

TEST_CASE(owners_that_differ_become_equal)
{
    enum { WORDS = 3000 };
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, (const char *const[]){"f", NULL});
    struct prng prng = {.state = test_seed};
    uint64_t differing_bytes = 0;
    for (int round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < WORDS; i++) {
            char key[24];
            node_id one = 1 + (node_id)prng_below(&prng, 3);
            bool common = i % 100 != 0; /* Most words stand everywhere, whatever the round. */
            snprintf(key, sizeof key, "%c%u-%d", 'a' + (int)prng_below(&prng, 26), i,
                     common ? 0 : round);
            for (node_id id = 1; id <= 3; id++)
                if (common || id == one) put_alone(bench, id, key, i);
            differing_bytes += common ? 0 : 2 * strlen(key) + 60;
        }
        bench->now_ms += 10;
        EXPECT(!all_equal(bench));
        for (int turn = 0; turn < 100 && !all_equal(bench); turn++) bench_pass(bench, 100);
        EXPECT(all_equal(bench));
    }
    /* 90 of 9,000 words differ: about a kilobyte for each, and not the words that do not. */
    EXPECT(sent_by_repair(bench) < 40 * differing_bytes);
    bench_destroy(bench);
}

/* A node that has nothing, one that has all; then one where all is deleted. */
TEST_CASE(an_empty_owner_is_filled_and_deletions_travel_as_well)
{
    enum { WORDS = 2000 };
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    for (uint32_t i = 0; i < WORDS; i++) {
        char key[24];
        snprintf(key, sizeof key, "w%u", i);
        put_alone(bench, 1, key, i);
    }
    for (int turn = 0; turn < 100 && !all_equal(bench); turn++) bench_pass(bench, 100);
    EXPECT(all_equal(bench));
    EXPECT(bench_peek(bench, 3, "w77") == 77);

    for (uint32_t i = 0; i < WORDS; i++) {
        char key[24];
        snprintf(key, sizeof key, "w%u", i);
        struct record tombstone =
            record_of_tombstone((struct version){(2000000 + bench->now_ms) << HLC_COUNTER_BITS, 2});
        struct store_write write = {
            .kind = STORE_MERGE, .key = slice_from_text(key), .record = &tombstone};
        struct store_outcome outcome;
        uint64_t sequence;
        EXPECT(store_world_write(&bench->nodes[2].world, &write, 1, &outcome, &sequence) ==
               STATUS_OK);
    }
    EXPECT(store_world_sync(&bench->nodes[2].world) == STATUS_OK);
    for (int turn = 0; turn < 200 && !all_equal(bench); turn++) bench_pass(bench, 100);
    EXPECT(all_equal(bench));
    EXPECT(bench_peek(bench, 3, "w77") == -1 && bench_peek(bench, 1, "w77") == -1);
    bench_destroy(bench);
}

/* Equal owners exchange one digest and no more. */
TEST_CASE(equal_owners_say_so_in_a_few_bytes)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    put_everywhere(bench, 100);
    bench_pass(bench, 3000);
    uint64_t before = sent_by_repair(bench);
    bench_pass(bench, 10000);
    /* Three nodes, ten seconds, one exchange a second each. */
    EXPECT(sent_by_repair(bench) - before > 0);
    EXPECT(sent_by_repair(bench) - before < 3 * 20 * 64);
    bench_destroy(bench);
}

/* --- Moves --- */

static const char *const eight_cuts[] = {"d", "g", "j", "m", "p", "s", "v", NULL};

static bool settled(const struct bench *bench)
{
    uint64_t number = 0;
    for (node_id id = 1; id <= bench->node_count; id++) {
        if (bench->nodes[id].replica == NULL) continue;
        const struct rangemap *map = replica_map(bench->nodes[id].replica);
        if (number == 0) number = rangemap_identity(map)->number;
        if (rangemap_identity(map)->number != number) return false;
        for (size_t i = 0; i < rangemap_shard_count(map); i++)
            if (rangemap_shard(map, i).stage != SHARD_STABLE) return false;
    }
    return true;
}

/* Until nothing has moved for a while. */
static void settle_moves(struct bench *bench)
{
    for (int turn = 0, quiet = 0; turn < 200 && quiet < 10; turn++) {
        bench_pass(bench, 1000);
        quiet = settled(bench) ? quiet + 1 : 0;
    }
    EXPECT(settled(bench));
}

static size_t shards_of(const struct rangemap *map, node_id id)
{
    size_t count = 0;
    for (size_t i = 0; i < rangemap_shard_count(map); i++) {
        struct shard shard = rangemap_shard(map, i);
        count += owners_contain(&shard.owners, id);
    }
    return count;
}

/* Each word is at all of its owners and nowhere else. */
static void expect_placed(const struct bench *bench, const struct rangemap *map, uint32_t words)
{
    for (uint32_t i = 0; i < words; i++) {
        char key[16];
        snprintf(key, sizeof key, "%c%02u", 'a' + (int)(i % 26), i);
        struct shard shard = rangemap_shard(map, rangemap_find(map, slice_from_text(key)));
        for (node_id id = 1; id <= bench->node_count; id++) {
            if (bench->nodes[id].replica == NULL) continue;
            bool there = bench_peek(bench, id, key) != -1;
            EXPECT(there == owners_contain(&shard.owners, id));
        }
    }
}

/* Until the node's disk takes no more. */
static void fill_disk(struct bench *bench, node_id id)
{
    struct store_world *world = &bench->nodes[id].world;
    static uint8_t payload[4096];
    enum status status = STATUS_OK;
    sim_disk_set_capacity(world->disk, sim_disk_used_bytes(world->disk));
    for (uint64_t i = 0; status == STATUS_OK && i < 10000; i++) {
        struct record record = record_of_set((struct version){i + 1, 7}, 1);
        struct store_write write = {
            .kind = STORE_MERGE, .key = SLICE_LITERAL("z"), .record = &record};
        struct store_outcome outcome;
        uint64_t sequence;
        record.has_payload = true;
        record.payload = slice_of(payload, sizeof payload);
        status = store_world_write(world, &write, 1, &outcome, &sequence);
        if (status == STATUS_OK) status = outcome.status;
        if (status == STATUS_OK) status = store_world_sync(world);
    }
    EXPECT(status == STATUS_FULL);
}

static uint64_t number_at(const struct bench *bench, node_id id)
{
    return rangemap_identity(replica_map(bench->nodes[id].replica))->number;
}

/* What the disk has no room for is not promised, nor acknowledged. */
TEST_CASE(a_full_node_promises_and_acknowledges_nothing)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    struct change add = {.kind = CHANGE_MEMBER_ADD,
                         .member = {.incarnation = 2000,
                                    .capacity = 100,
                                    .zone = SLICE_LITERAL("z"),
                                    .address = SLICE_LITERAL("n9")}};
    uint64_t before = number_at(bench, 1);
    fill_disk(bench, 3);
    replica_change(bench->nodes[1].replica, &add);
    bench_pass(bench, 10000);
    EXPECT(number_at(bench, 1) == before + 1 && number_at(bench, 3) == before + 1);
    EXPECT(bench->nodes[1].replica->topology.acknowledged == before + 1);
    EXPECT(bench->nodes[3].replica->topology.acknowledged == before);

    /* Two of three cannot keep what they would promise. */
    fill_disk(bench, 2);
    add.member.incarnation = 3000;
    replica_change(bench->nodes[1].replica, &add);
    bench_pass(bench, 10000);
    EXPECT(number_at(bench, 1) == before + 1);

    for (node_id id = 2; id <= 3; id++)
        sim_disk_set_capacity(bench->nodes[id].world.disk, UINT64_MAX);
    bench_pass(bench, 20000);
    for (node_id id = 1; id <= 3; id++) {
        EXPECT(number_at(bench, id) >= before + 2);
        EXPECT(bench->nodes[id].replica->topology.acknowledged == number_at(bench, 1));
    }
    bench_destroy(bench);
}

static bool sends_map(const struct bench *bench, const struct bench_message *message)
{
    const uint8_t *bytes = bench->bytes.data + message->at;
    return message->size > 9 && bytes[8] == PROTOCOL_TOPOLOGY && bytes[9] == TOPOLOGY_MAP;
}

TEST_CASE(who_goes_by_an_old_map_is_sent_the_new_one_once_and_not_for_each_message)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    unsigned sent = 0;
    for (int i = 0; i < 50; i++) {
        struct data_message old = {.kind = DATA_HELD, .generation = UINT64_MAX};
        bench_hear(bench, 2, 1, &old);
    }
    replica_commit(bench->nodes[1].replica, bench_time(bench, 1));
    for (size_t i = 0; i < bench->queue_end; i++) sent += sends_map(bench, &bench->queue[i]);
    EXPECT(sent == 1);
    bench_settle(bench);
    bench_destroy(bench);
}

TEST_CASE(a_map_that_was_lost_on_its_way_is_fetched_again)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(4, &settings, NULL);
    const node_id *registrars;
    size_t count = rangemap_registrars(replica_map(bench->nodes[1].replica), &registrars);
    node_id last = 4;
    for (size_t i = 0; i < count; i++) last = registrars[i] == last ? (node_id)(last - 1) : last;
    struct change add = {.kind = CHANGE_MEMBER_ADD,
                         .member = {.incarnation = 2000,
                                    .capacity = 100,
                                    .zone = SLICE_LITERAL("z"),
                                    .address = SLICE_LITERAL("n9")}};
    /* It hears of the map, and its question is lost. */
    for (node_id id = 1; id <= 4; id++) bench->cut[last][id] = true;
    replica_change(bench->nodes[last == 1 ? 2 : 1].replica, &add);
    bench_pass(bench, 3000);
    EXPECT(number_at(bench, 1) > number_at(bench, last));
    for (node_id id = 1; id <= 4; id++) bench->cut[last][id] = false;
    bench_pass(bench, 5000);
    EXPECT(number_at(bench, 1) == number_at(bench, last));
    bench_destroy(bench);
}

TEST_CASE(a_change_that_cannot_be_made_keeps_no_other_waiting)
{
    struct rangemap_settings settings = bench_settings(1, 1, 1);
    struct bench *bench = bench_create(3, &settings, eight_cuts);
    struct change exclude = {.kind = CHANGE_MEMBER_STATE,
                             .member = {.id = 2, .state = MEMBER_EXCLUDED}};
    struct change add = {.kind = CHANGE_MEMBER_ADD,
                         .member = {.incarnation = 2000,
                                    .capacity = 100,
                                    .zone = SLICE_LITERAL("z"),
                                    .address = SLICE_LITERAL("n9")}};
    replica_change(bench->nodes[1].replica, &exclude);
    replica_change(bench->nodes[1].replica, &add);
    bench_pass(bench, 5000);
    EXPECT(!replica_change(bench->nodes[1].replica, &exclude));
    EXPECT(replica_change(bench->nodes[1].replica, &add));
    bench_destroy(bench);
}

TEST_CASE(a_node_that_joins_is_given_its_share_and_one_that_leaves_hands_over)
{
    enum { WORDS = 100 };
    struct rangemap_settings settings = bench_settings(2, 2, 1);
    struct bench *bench = bench_create(3, &settings, eight_cuts);
    put_everywhere(bench, WORDS);
    bench_join(bench);
    EXPECT(bench->node_count == 4);
    settle_moves(bench);
    const struct rangemap *map = replica_map(bench->nodes[4].replica);
    EXPECT(shards_of(map, 4) >= 3 && shards_of(map, 4) <= 5);
    expect_placed(bench, map, WORDS);
    struct request count = {.kind = REQUEST_COUNT};
    for (node_id id = 1; id <= 4; id++) EXPECT(bench_do(bench, id, &count)->reply.count == WORDS);

    struct change leave = {.kind = CHANGE_MEMBER_LEAVING, .member = {.id = 1, .leaving = true}};
    replica_change(bench->nodes[3].replica, &leave);
    settle_moves(bench);
    map = replica_map(bench->nodes[4].replica);
    struct member gone;
    EXPECT(!rangemap_member_find(map, 1, &gone));
    for (node_id id = 2; id <= 4; id++) EXPECT(bench_do(bench, id, &count)->reply.count == WORDS);
    bench_destroy(bench);
}

/* Requests go on while shards move, whoever is asked, and none fails. */
TEST_CASE(clients_notice_nothing_of_moves)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, eight_cuts);
    struct prng prng = {.state = test_seed};
    double expected[26] = {0};
    put_everywhere(bench, 26);
    bench_join(bench);
    bench_join(bench);
    for (int step = 0; step < 600; step++) {
        uint32_t word = prng_below(&prng, 26);
        node_id id = 1 + (node_id)prng_below(&prng, (uint32_t)bench->node_count);
        char key[16];
        snprintf(key, sizeof key, "%c%02u", 'a' + (int)word, word);
        if (prng_one_in(&prng, 2)) {
            expected[word] = step;
            const struct bench_reply *reply = bench_put(bench, id, key, step);
            if (reply->reply.outcome != REQUEST_DONE) fprintf(stderr, "step %d: put\n", step);
            EXPECT(reply->reply.outcome == REQUEST_DONE);
        } else if (expected[word] != 0) {
            const struct bench_reply *reply = bench_get(bench, id, key, CONSISTENCY_QUORUM);
            EXPECT(reply->reply.outcome == REQUEST_DONE);
            EXPECT(reply->scores[0] == expected[word]);
        }
        bench_pass(bench, 100);
    }
    EXPECT(shards_of(replica_map(bench->nodes[5].replica), 5) > 0);
    bench_destroy(bench);
}

/* One shard, all words under one prefix: it is cut where they part, and spreads by itself. */
TEST_CASE(a_shard_that_grows_is_cut_and_spread)
{
    enum { WORDS = 1500 };
    struct rangemap_settings settings = bench_settings(1, 1, 1);
    settings.k_factor = 0;
    settings.shard_min_bytes = 4 << 10;
    settings.shard_split_bytes = 32 << 10;
    struct bench *bench = bench_create(3, &settings, NULL);
    for (uint32_t i = 0; i < WORDS; i++) {
        char key[32];
        snprintf(key, sizeof key, "https://www.%04u", i * 7919 % 10000);
        EXPECT(bench_put(bench, 1 + (node_id)(i % 3), key, i)->reply.outcome == REQUEST_DONE);
    }
    bench_pass(bench, 120000); /* A shard stays a minute as it is. */
    settle_moves(bench);
    const struct rangemap *map = replica_map(bench->nodes[2].replica);
    EXPECT(rangemap_shard_count(map) >= 3);
    EXPECT(slice_starts_with(rangemap_shard(map, 1).low, SLICE_LITERAL("https://www.")));
    for (node_id id = 1; id <= 3; id++) EXPECT(shards_of(map, id) > 0);
    struct request count = {.kind = REQUEST_COUNT};
    for (node_id id = 1; id <= 3; id++) EXPECT(bench_do(bench, id, &count)->reply.count == WORDS);
    bench_destroy(bench);
}

TEST_MAIN(
    TEST(a_write_is_acknowledged_by_a_quorum_and_reaches_all_owners),
    TEST(nothing_is_acknowledged_before_enough_disks_have_it),
    TEST(a_node_that_does_not_own_the_key_forwards_to_one_that_does),
    TEST(a_write_by_a_slow_clock_is_stamped_again_above_what_it_replaces),
    TEST(a_clock_that_jumps_hides_nothing),
    TEST(a_node_that_ends_again_and_again_leaves_stamping_to_others_until_time_has_come_after),
    TEST(nodes_that_all_start_again_stamp_themselves),
    TEST(when_all_clocks_are_set_right_at_once_time_goes_to_meet_them),
    TEST(a_message_says_what_time_it_is_and_then_what_it_is),
    TEST(an_owner_that_missed_a_write_gets_it_as_a_hint), TEST(hints_are_counted_as_they_stand),
    TEST(what_an_owner_was_owed_goes_to_those_that_own_it_now),
    TEST(an_answer_to_a_hint_of_an_earlier_start_counts_for_none),
    TEST(what_went_out_leaves_no_bytes_behind), TEST(requests_go_on_when_their_numbers_are_used_up),
    TEST(a_stand_in_keeps_the_hint_of_a_write_that_is_stamped_again),
    TEST(a_removal_that_meets_newer_increments_is_joined_with_them),
    TEST(each_start_numbers_its_sessions_anew), TEST(increments_of_all_nodes_add_up),
    TEST(every_node_gives_the_same_order_page_by_page),
    TEST(a_quorum_sees_what_was_acknowledged_though_one_owner_does_not),
    TEST(a_read_without_memory_gives_no_wrong_answer),
    TEST(a_write_without_memory_is_not_said_to_be_nothing_when_it_is_there),
    TEST(an_owner_that_is_silent_is_passed_over), TEST(owners_that_differ_become_equal),
    TEST(an_empty_owner_is_filled_and_deletions_travel_as_well),
    TEST(equal_owners_say_so_in_a_few_bytes),
    TEST(who_goes_by_an_old_map_is_sent_the_new_one_once_and_not_for_each_message),
    TEST(a_map_that_was_lost_on_its_way_is_fetched_again),
    TEST(a_change_that_cannot_be_made_keeps_no_other_waiting),
    TEST(a_full_node_promises_and_acknowledges_nothing),
    TEST(a_node_that_joins_is_given_its_share_and_one_that_leaves_hands_over),
    TEST(clients_notice_nothing_of_moves), TEST(a_shard_that_grows_is_cut_and_spread))
