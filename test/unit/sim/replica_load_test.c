/* Sets of many words at once: cut where shards end, and acknowledged piece by piece. */
#include "node/replica_private.h"
#include "replica_bench.h"

static const char *const no_cuts[] = {NULL};
static const char *const letters[] = {"b", "c", "d", "e", "f", "g", "h", "i", "j",
                                      "k", "l", "m", "n", "o", "p", "q", "r", "s",
                                      "t", "u", "v", "w", "x", "y", "z", NULL};

/* Words of two letters, from "aa" on. */
static void name_of(unsigned index, char name[3])
{
    name[0] = (char)('a' + index / 2 % 26);
    name[1] = (char)('a' + index % 2);
    name[2] = 0;
}

/* `count` words from the first on, each with its place and more for a score. */
static const struct bench_reply *load(struct bench *bench, node_id id, unsigned count, double more)
{
    struct buf sets = {.heap = &bench->heap};
    for (unsigned i = 0; i < count; i++) {
        char name[3];
        name_of(i, name);
        data_set_append(&sets, &(struct request){.kind = REQUEST_SET,
                                                 .key = slice_from_text(name),
                                                 .score = more + i});
    }
    struct request request = {
        .kind = REQUEST_LOAD, .sets = buf_slice(&sets), .set_count = count, .timeout_ms = 3000};
    const struct bench_reply *reply = bench_do(bench, id, &request);
    EXPECT(reply->reply.result_count == count);
    buf_deinit(&sets);
    return reply;
}

static void expect_scores(struct bench *bench, node_id id, unsigned count, double more)
{
    for (unsigned i = 0; i < count; i++) {
        char name[3];
        name_of(i, name);
        const struct bench_reply *reply = bench_get(bench, id, name, CONSISTENCY_QUORUM);
        EXPECT(reply->reply.outcome == REQUEST_DONE && reply->scores[0] == more + i);
    }
}

/* More shards than pieces may be under way. */
TEST_CASE(a_load_goes_to_the_owners_of_each_shard)
{
    enum { COUNT = 52 };
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(5, &settings, letters);
    EXPECT(rangemap_shard_count(bench->map) == 26);
    for (node_id id = 1; id <= 5; id++) {
        const struct bench_reply *reply = load(bench, id, COUNT, 100 * id);
        EXPECT(reply->reply.outcome == REQUEST_DONE && reply->reply.count == COUNT);
        for (unsigned i = 0; i < COUNT; i++) {
            EXPECT(reply->results[i].outcome == REQUEST_DONE);
            EXPECT(!version_is_none(reply->results[i].version));
        }
        /* Within a shard in their order. */
        EXPECT(version_compare(reply->results[0].version, reply->results[1].version) < 0);
        EXPECT(reply->token_size > 0);
        expect_scores(bench, 1 + id % 5, COUNT, 100 * id);
        bench_pass(bench, 200);
        EXPECT(bench_stats(bench, id).flow_count == 0);
    }
    bench_destroy(bench);
}

/* One message to each owner, not one for each word. */
TEST_CASE(a_piece_is_one_message_to_each_owner)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, no_cuts);
    uint64_t before = bench->sent[1][2][PROTOCOL_DATA];
    EXPECT(load(bench, 1, 50, 0)->reply.outcome == REQUEST_DONE);
    EXPECT(bench->sent[1][2][PROTOCOL_DATA] == before + 1);
    EXPECT(bench_peek(bench, 2, "aa") == 0 && bench_peek(bench, 3, "ya") == 48);
    bench_destroy(bench);
}

TEST_CASE(an_owner_that_is_down_is_owed_each_word)
{
    enum { COUNT = 20 };
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, no_cuts);
    for (node_id id = 1; id <= 2; id++) bench->mute[id][PROTOCOL_REPAIR] = true;
    bench->mute[3][PROTOCOL_REPAIR] = bench->deaf[3][PROTOCOL_DATA] = true;
    EXPECT(load(bench, 1, COUNT, 7)->reply.outcome == REQUEST_DONE);
    bench_pass(bench, 800);
    EXPECT(bench_stats(bench, 1).hint_count == COUNT);
    EXPECT(bench_peek(bench, 3, "aa") == -1);
    bench->deaf[3][PROTOCOL_DATA] = false;
    bench_pass(bench, 4000);
    EXPECT(bench_stats(bench, 1).hint_count == 0);
    EXPECT(bench_peek(bench, 3, "aa") == 7 && bench_peek(bench, 3, "jb") == 7 + COUNT - 1);
    bench_destroy(bench);
}

/* Some words stand at an owner with versions from a clock that is ahead, and the coordinator has not
 * seen them. */
TEST_CASE(words_that_are_newer_elsewhere_are_stamped_again_and_others_not)
{
    enum { COUNT = 12 };
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, no_cuts);
    for (node_id id = 1; id <= 3; id++) bench->mute[id][PROTOCOL_REPAIR] = true;
    bench->skew_ms[2] = 1500;
    bench_pass(bench, 100);
    bench->cut[2][1] = bench->cut[1][2] = true;
    uint64_t b = bench_ask(
        bench, 2, &(struct request){.kind = REQUEST_SET, .key = SLICE_LITERAL("ab"), .score = 500});
    uint64_t c = bench_ask(
        bench, 2, &(struct request){.kind = REQUEST_SET, .key = SLICE_LITERAL("ca"), .score = 501});
    EXPECT(bench_reply(bench, b)->reply.outcome == REQUEST_DONE);
    EXPECT(bench_reply(bench, c)->reply.outcome == REQUEST_DONE);
    struct version older = bench_reply(bench, b)->reply.version;
    EXPECT(bench_peek(bench, 1, "ab") == -1 && bench_peek(bench, 3, "ab") == 500);
    bench->cut[2][1] = bench->cut[1][2] = false;

    uint64_t restamped = bench_stats(bench, 1).restamp_count;
    const struct bench_reply *reply = load(bench, 1, COUNT, 40);
    EXPECT(reply->reply.outcome == REQUEST_DONE);
    EXPECT(bench_stats(bench, 1).restamp_count == restamped + 1);
    EXPECT(version_compare(reply->results[1].version, older) > 0);
    EXPECT(version_compare(reply->results[4].version, older) > 0);
    EXPECT(version_compare(reply->results[0].version, older) < 0);
    EXPECT(version_compare(reply->results[11].version, older) < 0);
    for (node_id id = 1; id <= 3; id++) expect_scores(bench, id, COUNT, 40);
    bench_destroy(bench);
}

/* Two shards, and one of them has lost two of its three owners. */
TEST_CASE(a_shard_that_fails_is_told_of_and_the_others_are_done)
{
    enum { COUNT = 52 };
    static const char *const cuts[] = {"m", NULL};
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(5, &settings, cuts);
    /* Owners of the first are 1, 2, 3, of the second 2, 3, 4. */
    bench_kill(bench, 3, SIM_DISK_KILLED);
    bench_kill(bench, 4, SIM_DISK_KILLED);
    bench_pass(bench, 20000);
    const struct bench_reply *reply = load(bench, 5, COUNT, 3);
    EXPECT(reply->reply.outcome == REQUEST_QUORUM_NOT_MET);
    EXPECT(reply->reply.count == 24);
    for (unsigned i = 0; i < COUNT; i++)
        EXPECT(reply->results[i].outcome == (i < 24 ? REQUEST_DONE : REQUEST_QUORUM_NOT_MET));
    EXPECT(bench_stats(bench, 5).flow_count == 0);
    bench_destroy(bench);
}

/* The first pieces end in time, and what comes next begins when it is too late. */
TEST_CASE(a_piece_that_begins_too_late_ends_with_its_load)
{
    struct rangemap_settings settings = bench_settings(2, 2, 2);
    struct bench *bench = bench_create(2, &settings, letters);
    struct replica *replica = bench->nodes[1].replica;
    struct buf sets = {.heap = &bench->heap};
    for (unsigned i = 0; i < 52; i++) {
        char name[3];
        name_of(i, name);
        data_set_append(&sets,
                        &(struct request){.kind = REQUEST_SET, .key = slice_from_text(name)});
    }
    struct request request = {
        .kind = REQUEST_LOAD, .sets = buf_slice(&sets), .set_count = 52, .timeout_ms = 1000};
    bench->deaf[2][PROTOCOL_DATA] = true;
    uint64_t asked = bench_ask(bench, 1, &request);
    EXPECT(bench_reply(bench, asked) == NULL);
    for (size_t i = 0; i < replica->flow_capacity; i++) {
        const struct flow *flow = &replica->flows[i];
        if (flow->kind != FLOW_WRITE) continue;
        struct data_message applied = {.kind = DATA_APPLIED,
                                       .flow = flow_label(flow, flow->write.stamp_count)};
        bench_hear(bench, 2, 1, &applied);
    }
    bench->now_ms += 2000;
    replica_commit(replica, bench_time(bench, 1));
    for (size_t i = 0; i < replica->flow_capacity; i++)
        EXPECT(replica->flows[i].kind == FLOW_NONE ||
               replica->flows[i].deadline_ms <= bench->now_ms + 1);
    bench_pass(bench, 20);
    EXPECT(bench_reply(bench, asked) != NULL && replica->flow_count == 0);
    buf_deinit(&sets);
    bench_destroy(bench);
}

TEST_CASE(what_is_no_load_is_refused_and_nothing_done)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, no_cuts);
    struct buf sets = {.heap = &bench->heap};
    data_set_append(&sets, &(struct request){.kind = REQUEST_SET, .key = SLICE_LITERAL("b")});
    data_set_append(&sets, &(struct request){.kind = REQUEST_SET, .key = SLICE_LITERAL("a")});
    struct request request = {.kind = REQUEST_LOAD, .sets = buf_slice(&sets), .set_count = 2};
    const struct bench_reply *reply = bench_do(bench, 1, &request);
    EXPECT(reply->reply.outcome == REQUEST_REFUSED && reply->reply.status == STATUS_INVALID);
    EXPECT(bench_peek(bench, 1, "a") == -1 && bench_peek(bench, 1, "b") == -1);
    buf_deinit(&sets);
    bench_destroy(bench);
}

TEST_MAIN(TEST(a_load_goes_to_the_owners_of_each_shard), TEST(a_piece_is_one_message_to_each_owner),
          TEST(an_owner_that_is_down_is_owed_each_word),
          TEST(words_that_are_newer_elsewhere_are_stamped_again_and_others_not),
          TEST(a_shard_that_fails_is_told_of_and_the_others_are_done),
          TEST(a_piece_that_begins_too_late_ends_with_its_load),
          TEST(what_is_no_load_is_refused_and_nothing_done))
