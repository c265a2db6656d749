/* What a node may answer without asking its replica: that which its replica would answer alone, at every
 * moment of the life of a cluster, and nothing else. */
#include "cluster/token.h"
#include "node/own_ranges.h"
#include "node/replica_private.h"
#include "replica_bench.h"

static const char *const cuts[] = {"d", "g", "j", "m", "p", "s", "v", NULL};

/* What was put up last at each node. */
struct watch {
    uint64_t mark;
    struct own_ranges *ranges;
};

struct watches {
    struct bench *bench;
    struct watch of[BENCH_NODES_MAX + 1];
    unsigned looks, changes, local, asked;
};

static uint64_t told_others(const struct bench *bench, node_id id)
{
    uint64_t sum = 0;
    for (size_t to = 1; to <= BENCH_NODES_MAX; to++) sum += bench->sent[id][to][PROTOCOL_DATA];
    return sum;
}

/* Asks the replica; true if it answered at once, and asked nobody. */
static bool answers_alone(struct bench *bench, node_id id, const struct request *request)
{
    struct replica *replica = bench->nodes[id].replica;
    uint64_t number = bench->next_id++, before = replica->ready.count;
    uint64_t flows = replica->flow_count, told = told_others(bench, id);
    bench->replies[number % BENCH_REPLIES_MAX].there = false;
    replica_request(replica, bench_time(bench, id), number, request);
    const struct bench_reply *reply = bench_reply(bench, number);
    bool done = reply != NULL &&
                (reply->reply.outcome == REQUEST_DONE || reply->reply.outcome == REQUEST_ABSENT);
    bool alone = done && replica->ready.count == before && told_others(bench, id) == told;
    EXPECT(!alone || replica->flow_count == flows);
    return alone;
}

static bool admits(const struct watch *watch, const struct request *request, uint64_t sequence)
{
    struct own_read read = {
        .key = request->key,
        .is_prefix = request->kind != REQUEST_GET,
        .has_consistency = request->has_consistency,
        .consistency = request->consistency,
        .token = request->token,
    };
    return watch->ranges != NULL && own_ranges_admit(watch->ranges, &read, sequence);
}

static void look_at(struct watches *watches, node_id id, unsigned turn)
{
    static const enum request_kind kinds[] = {REQUEST_GET, REQUEST_BEST, REQUEST_SCAN,
                                              REQUEST_COUNT};
    struct bench *bench = watches->bench;
    const struct replica *replica = bench->nodes[id].replica;
    struct watch *watch = &watches->of[id];
    struct own_ranges *now;
    uint64_t mark = own_ranges_mark(replica);
    EXPECT(own_ranges_of(replica, &now) == STATUS_OK);
    watches->looks++;
    /* Whoever looks at the mark alone misses nothing. */
    if (mark == watch->mark) EXPECT(own_ranges_equal(now, watch->ranges));
    watches->changes += !own_ranges_equal(now, watch->ranges);
    own_ranges_unref(watch->ranges);
    *watch = (struct watch){mark, now};
    char key[] = {(char)('a' + turn % 26), (char)(turn % 3 == 0 ? '0' : 0), 0};
    struct request request = {
        .kind = kinds[turn / 2 % 4],
        .key = slice_from_text(key),
        .limit = 10,
        .has_consistency = turn % 5 != 0,
        .consistency = turn % 7 == 0 ? CONSISTENCY_QUORUM : CONSISTENCY_ONE,
        .timeout_ms = 60, /* All replies find room. */
    };
    bool local = admits(watch, &request, store_visible_sequence(replica->store));
    bool alone = answers_alone(bench, id, &request);
    EXPECT(local == alone);
    watches->local += local;
    watches->asked += !local;
}

static void look(struct watches *watches, unsigned turns)
{
    for (unsigned turn = 0; turn < turns; turn++) {
        for (node_id id = 1; id <= watches->bench->node_count; id++)
            if (watches->bench->nodes[id].replica != NULL) look_at(watches, id, turn);
        bench_pass(watches->bench, 20);
    }
}

static void forget(struct watches *watches, node_id id)
{
    own_ranges_unref(watches->of[id].ranges);
    watches->of[id] = (struct watch){0};
}

static void watches_end(struct watches *watches)
{
    EXPECT(watches->local > 100 && watches->asked > 100);
    EXPECT(watches->changes > 0 && watches->changes < watches->looks);
    for (node_id id = 1; id <= watches->bench->node_count; id++) forget(watches, id);
    bench_destroy(watches->bench);
}

/* Shards are cut and move as nodes join, leave, crash and are suspended. */
TEST_CASE(it_is_what_the_replica_would_answer_alone)
{
    struct rangemap_settings settings = bench_settings(2, 1, 2);
    struct watches watches = {.bench = bench_create(3, &settings, cuts)};
    struct bench *bench = watches.bench;
    for (int i = 0; i < 52; i++) {
        char key[] = {(char)('a' + i % 26), (char)('0' + i / 26), 0};
        bench_put(bench, 1 + (node_id)(i % 3), key, i);
    }
    look(&watches, 60);
    bench_join(bench);
    look(&watches, 400);
    forget(&watches, 2);
    bench_kill(bench, 2, SIM_DISK_KILLED);
    look(&watches, 100);
    bench_restart(bench, 2);
    look(&watches, 200);
    struct change leave = {.kind = CHANGE_MEMBER_LEAVING, .member = {.id = 1, .leaving = true}};
    replica_change(bench->nodes[3].replica, &leave);
    look(&watches, 600);
    watches_end(&watches);
}

TEST_CASE(who_is_cut_off_after_a_start_or_excluded_answers_nothing)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct watches watches = {.bench = bench_create(4, &settings, cuts)};
    struct bench *bench = watches.bench;
    look(&watches, 50);
    forget(&watches, 2);
    bench_kill(bench, 2, SIM_DISK_KILLED);
    for (node_id id = 1; id <= 4; id++) bench->cut[id][2] = bench->cut[2][id] = true;
    bench_restart(bench, 2);
    look(&watches, 50);
    EXPECT(watches.of[2].ranges == NULL); /* It may have been left behind. */
    for (node_id id = 1; id <= 4; id++) bench->cut[id][2] = bench->cut[2][id] = false;
    look(&watches, 100);
    EXPECT(watches.of[2].ranges != NULL);
    struct change exclude = {.kind = CHANGE_MEMBER_STATE,
                             .member = {.id = 2, .state = MEMBER_EXCLUDED}};
    replica_change(bench->nodes[1].replica, &exclude);
    look(&watches, 200);
    EXPECT(watches.of[2].ranges == NULL);
    watches_end(&watches);
}

/* Each of these changes alone in the end, though seldom. */
TEST_CASE(the_mark_minds_what_is_filled_and_what_is_complete)
{
    struct rangemap_settings settings = bench_settings(2, 1, 2);
    struct bench *bench = bench_create(3, &settings, cuts);
    bench_join(bench);
    struct replica *replica = bench->nodes[4].replica;
    for (int turn = 0; turn < 1000 && replica->moves.filling_count == 0; turn++)
        bench_pass(bench, 20);
    EXPECT(replica->moves.filling_count > 0);
    struct filling *filling = &replica->moves.filling[replica->moves.filling_count - 1];
    uint64_t mark = own_ranges_mark(replica);
    filling->synced = !filling->synced;
    EXPECT(own_ranges_mark(replica) != mark);
    filling->synced = !filling->synced;
    EXPECT(own_ranges_mark(replica) == mark);
    struct purge_ranges *purged = &replica->purge.purge.ranges;
    hlc_time *complete = &purged->pieces[purged->count - 1].times.at[PURGE_COMPLETE];
    *complete += 1;
    EXPECT(own_ranges_mark(replica) != mark);
    *complete -= 1;
    EXPECT(own_ranges_mark(replica) == mark);
    bench_destroy(bench);
}

/* A token is good here once the log of this node is where it says. */
TEST_CASE(a_token_waits_for_the_log_of_this_node)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    const struct bench_reply *put = bench_put(bench, 1, "w", 5);
    struct token token, elsewhere = {.count = 1};
    EXPECT(token_decode(slice_of(put->token, put->token_size), &token) == STATUS_OK);
    struct request get = {.kind = REQUEST_GET,
                          .key = SLICE_LITERAL("w"),
                          .has_consistency = true,
                          .token = slice_of(put->token, put->token_size)};
    struct watch watch = {0};
    EXPECT(own_ranges_of(bench->nodes[1].replica, &watch.ranges) == STATUS_OK);
    uint64_t needed = token_sequence(&token, 1);
    EXPECT(needed > 0);
    EXPECT(admits(&watch, &get, needed));
    EXPECT(!admits(&watch, &get, needed - 1));
    struct buf bytes = {.heap = &bench->heap};
    token_group_put(&elsewhere.groups[0], (struct token_place){2, 1002, 1});
    token_encode(&elsewhere, &bytes);
    get.token = buf_slice(&bytes);
    EXPECT(!admits(&watch, &get, UINT64_MAX));
    buf_clear(&bytes);
    token_encode(&(struct token){.lost = true}, &bytes);
    get.token = buf_slice(&bytes);
    EXPECT(!admits(&watch, &get, UINT64_MAX));
    get.token = SLICE_LITERAL("altered");
    EXPECT(!admits(&watch, &get, UINT64_MAX));
    buf_deinit(&bytes);
    own_ranges_unref(watch.ranges);
    bench_destroy(bench);
}

/* The time by which words expire is the replica's own, whatever the wall clock shows of a sudden. */
TEST_CASE(the_time_follows_no_jump_of_the_clock)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    int64_t before = own_clock_offset_ms(bench->nodes[1].replica);
    bench->skew_ms[1] = 3600000;
    bench_pass(bench, 20);
    int64_t after = own_clock_offset_ms(bench->nodes[1].replica);
    EXPECT(after - before < 1000 && before - after < 1000);
    bench_destroy(bench);
}

TEST_MAIN(TEST(it_is_what_the_replica_would_answer_alone),
          TEST(who_is_cut_off_after_a_start_or_excluded_answers_nothing),
          TEST(the_mark_minds_what_is_filled_and_what_is_complete),
          TEST(a_token_waits_for_the_log_of_this_node), TEST(the_time_follows_no_jump_of_the_clock))
