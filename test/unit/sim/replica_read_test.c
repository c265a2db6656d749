/* Coordinating reads: whom they are asked of, and what is done about those that are late. */
#include "cluster/token.h"
#include "node/replica_private.h"
#include "replica_bench.h"

static struct request get_of(const char *key, enum consistency consistency)
{
    return (struct request){.kind = REQUEST_GET,
                            .key = slice_from_text(key),
                            .has_consistency = true,
                            .consistency = consistency};
}

/* Enough answers to know how long they take. */
static void warm_up(struct bench *bench, node_id at)
{
    for (int i = 0; i < 200; i++) bench_get(bench, at, "w", CONSISTENCY_ALL);
}

/* --- Hedging --- */

TEST_CASE(who_is_late_has_a_twin_and_the_first_answer_is_believed)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(4, &settings, NULL);
    bench_put(bench, 1, "w", 5);
    warm_up(bench, 4);
    for (int level = 0; level < 2; level++) {
        uint64_t before = bench_stats(bench, 4).hedge_count;
        bench->deaf[2][PROTOCOL_DATA] = true;
        for (int round = 0; round < 6; round++) {
            struct request get = get_of("w", level == 0 ? CONSISTENCY_ONE : CONSISTENCY_QUORUM);
            uint64_t number = bench_ask(bench, 4, &get);
            bench_pass(bench, 20);
            const struct bench_reply *reply = bench_reply(bench, number);
            EXPECT(reply != NULL && reply->scores[0] == 5);
        }
        EXPECT(bench_stats(bench, 4).hedge_count > before);
        bench->deaf[2][PROTOCOL_DATA] = false;
        bench_pass(bench, 3000);
    }
    bench_destroy(bench);
}

TEST_CASE(lists_and_counts_of_many_shards_survive_a_late_owner)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench =
        bench_create(5, &settings, (const char *const[]){"d", "h", "m", "t", NULL});
    for (int i = 0; i < 26; i++) bench_put(bench, 1, (char[]){(char)('a' + i), 0}, 100 - i);
    warm_up(bench, 5);
    for (node_id slow = 1; slow <= 4; slow++) {
        bench->deaf[slow][PROTOCOL_DATA] = true;
        for (int kind = 0; kind < 3; kind++) {
            struct request request = {.kind = kind == 0   ? REQUEST_BEST
                                              : kind == 1 ? REQUEST_SCAN
                                                          : REQUEST_COUNT,
                                      .limit = kind == 2 ? 0 : 30,
                                      .has_consistency = true,
                                      .consistency = CONSISTENCY_QUORUM};
            const struct bench_reply *reply = bench_do(bench, 5, &request);
            EXPECT(reply->reply.outcome == REQUEST_DONE);
            EXPECT(kind == 2 ? reply->reply.count == 26 : reply->reply.entry_count == 26);
            for (size_t i = 0; kind < 2 && i < 26; i++)
                EXPECT(reply->words[i][0] == (char)('a' + i));
        }
        bench->deaf[slow][PROTOCOL_DATA] = false;
        bench_pass(bench, 2000);
    }
    bench_destroy(bench);
}

/* Who always takes a little too long is asked twice for a twentieth of all, but for the first few. */
TEST_CASE(few_questions_are_asked_twice_in_the_long_run)
{
    enum { READS = 2000 };
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(4, &settings, NULL);
    bench_put(bench, 1, "w", 5);
    warm_up(bench, 4);
    struct replica *replica = bench->nodes[4].replica;
    uint64_t before = bench_stats(bench, 4).hedge_count;
    for (int i = 0; i < READS; i++) {
        struct request get = get_of("w", CONSISTENCY_ONE);
        uint64_t number = bench->next_id++;
        bench->replies[number % BENCH_REPLIES_MAX].there = false;
        /* All others of each owner's answers are fast. */
        for (node_id id = 1; id <= 3; id++)
            for (int j = 0; j < 40; j++) health_heard(replica->health, id, 500, 0);
        replica_request(replica, bench_time(bench, 4), number, &get);
        replica_commit(replica, bench_time(bench, 4));
        /* Its answer is on its way while time goes on. */
        bench->now_ms += 90;
        replica_tick(replica, bench_time(bench, 4));
        bench_settle(bench);
        EXPECT(bench_reply(bench, number) != NULL);
    }
    uint64_t hedged = bench_stats(bench, 4).hedge_count - before;
    EXPECT(hedged >= READS / 25 && hedged <= READS / 19 + 2 * READ_HEDGE_BURST);
    bench_destroy(bench);
}

/* --- Whom to ask --- */

/* It is not waited for, and counts again as soon as it is heard. */
TEST_CASE(who_closed_its_connection_is_down_until_it_is_heard)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    bench_put(bench, 1, "w", 5);
    bench_pass(bench, 1000);
    struct replica *replica = bench->nodes[1].replica;
    struct request all = get_of("w", CONSISTENCY_ALL), quorum = get_of("w", CONSISTENCY_QUORUM);
    EXPECT(bench_do(bench, 1, &all)->reply.outcome == REQUEST_DONE);
    uint64_t now_ms = bench->now_ms;
    replica_peer_gone(replica, 2);
    EXPECT(bench_do(bench, 1, &all)->reply.outcome == REQUEST_QUORUM_NOT_MET);
    EXPECT(bench_do(bench, 1, &quorum)->reply.outcome == REQUEST_DONE);
    replica_peer_gone(replica, 3);
    EXPECT(bench_do(bench, 1, &quorum)->reply.outcome == REQUEST_QUORUM_NOT_MET);
    EXPECT(bench->now_ms == now_ms);
    bench_pass(bench, 3000);
    EXPECT(bench_do(bench, 1, &all)->reply.outcome == REQUEST_DONE);
    bench_destroy(bench);
}

TEST_CASE(the_healthiest_owner_is_asked_and_the_least_busy_one_forwarded_to)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(4, &settings, NULL);
    bench_put(bench, 1, "w", 5);
    bench_pass(bench, 1000);
    struct health *health = bench->nodes[4].replica->health;
    health_heard(health, 1, 1000, 800);
    health_heard(health, 2, 1000, 0);
    health_heard(health, 3, 1000, 90);
    for (int kind = 0; kind < 2; kind++) {
        struct request request = get_of("w", CONSISTENCY_ONE);
        if (kind == 1) request = (struct request){.kind = REQUEST_SET, .key = request.key};
        for (int i = 0; i < 10; i++) {
            replica_request(bench->nodes[4].replica, bench_time(bench, 4), bench->next_id,
                            &request);
            bench->replies[bench->next_id++ % BENCH_REPLIES_MAX].there = false;
            replica_commit(bench->nodes[4].replica, bench_time(bench, 4));
            for (size_t j = 0; j < bench->queue_end; j++) {
                const struct bench_message *message = &bench->queue[j];
                bool data = bench->bytes.data[message->at + 8] == PROTOCOL_DATA;
                if (message->from == 4 && data) EXPECT(message->to == 2);
            }
            bench_settle(bench);
        }
    }
    bench_destroy(bench);
}

TEST_CASE(a_read_fails_at_once_when_no_owner_is_up)
{
    static const enum request_kind kinds[] = {REQUEST_GET, REQUEST_BEST, REQUEST_SCAN,
                                              REQUEST_COUNT};
    struct rangemap_settings settings = bench_settings(2, 2, 1);
    struct bench *bench = bench_create(4, &settings, (const char *const[]){"m", NULL});
    bench_put(bench, 1, "w", 5);
    for (node_id id = 2; id <= 3; id++) bench_kill(bench, id, SIM_DISK_KILLED);
    bench_pass(bench, 40000); /* Until it is known. */
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        bool lists = kinds[i] == REQUEST_BEST || kinds[i] == REQUEST_SCAN;
        struct request request = {.kind = kinds[i],
                                  .key = SLICE_LITERAL("w"), /* Of the second shard. */
                                  .limit = lists ? 5 : 0,
                                  .has_consistency = true};
        for (request.consistency = CONSISTENCY_ONE; request.consistency <= CONSISTENCY_ALL;
             request.consistency++) {
            uint64_t number = bench_ask(bench, 4, &request);
            EXPECT(bench_reply(bench, number) != NULL);
            EXPECT(bench_reply(bench, number)->reply.outcome ==
                   (request.consistency == CONSISTENCY_ONE ? REQUEST_NO_HEALTHY_OWNER
                                                           : REQUEST_QUORUM_NOT_MET));
        }
    }
    bench_destroy(bench);
}

/* Whoever asks by a map in which two shards are one: keys count, not shards. */
TEST_CASE(a_node_answers_only_if_it_owns_all_that_is_asked_for)
{
    static const struct {
        const char *low, *high;
        enum data_verdict verdict;
        const char *refused_low, *refused_high;
    } asks[] = {
        {"", "m", DATA_OK, "", ""},         {"b", "c", DATA_OK, "", ""},
        {"", "", DATA_NOT_OWNER, "m", ""},  {"b", "x", DATA_NOT_OWNER, "m", "x"},
        {"m", "", DATA_NOT_OWNER, "m", ""}, {"z", "", DATA_NOT_OWNER, "z", ""},
    };
    struct rangemap_settings settings = bench_settings(2, 2, 1);
    struct bench *bench = bench_create(4, &settings, (const char *const[]){"m", NULL});
    for (size_t i = 0; i < sizeof asks / sizeof *asks; i++) {
        struct buf ranges = {.heap = &bench->heap};
        struct key_range range = {slice_from_text(asks[i].low), slice_from_text(asks[i].high)};
        data_range_append(&ranges, &range);
        struct data_message ask = {.kind = DATA_ASK,
                                   .flow = 77,
                                   .request = {.kind = REQUEST_COUNT},
                                   .ranges = buf_slice(&ranges),
                                   .range_count = 1};
        bench_settle(bench);
        bench_hear(bench, 4, 1, &ask); /* Owner of the first shard alone. */
        replica_commit(bench->nodes[1].replica, bench_time(bench, 1));
        unsigned told = 0;
        for (size_t j = 0; j < bench->queue_end; j++) {
            const struct bench_message *sent = &bench->queue[j];
            struct data_message message;
            struct slice bytes = slice_of(bench->bytes.data + sent->at, sent->size);
            if (bytes.data[8] != PROTOCOL_DATA) continue;
            EXPECT(data_message_decode(slice_from(bytes, 9), &message) == STATUS_OK);
            if (message.kind != DATA_TOLD || message.flow != 77) continue;
            EXPECT(message.verdict == asks[i].verdict);
            EXPECT(message.range_count == (message.verdict == DATA_OK ? 0 : 1));
            struct slice rest = message.ranges;
            struct key_range refused;
            while (data_range_next(&rest, &refused)) {
                EXPECT(slice_equal(refused.low, slice_from_text(asks[i].refused_low)));
                EXPECT(slice_equal(refused.high, slice_from_text(asks[i].refused_high)));
            }
            told++;
        }
        EXPECT(told == 1);
        buf_deinit(&ranges);
    }
    bench_destroy(bench);
}

/* The one read under way at a node; NULL: none. */
static const struct flow *read_at(const struct bench *bench, node_id id)
{
    const struct replica *replica = bench->nodes[id].replica;
    for (size_t i = 0; i < replica->flow_capacity; i++)
        if (replica->flows[i].kind == FLOW_READ) return &replica->flows[i];
    return NULL;
}

/* How the node is asked now: the ask, or NULL. */
static const struct ask *ask_of(const struct flow *flow, node_id id)
{
    for (size_t i = 0; flow != NULL && i < flow->read.lists.count; i++)
        if (flow->read.lists.list[i].node == id) return &flow->read.lists.list[i];
    return NULL;
}

static uint64_t asked_by(const struct bench *bench, node_id id)
{
    uint64_t count = 0;
    for (node_id to = 1; to <= bench->node_count; to++) count += bench->sent[id][to][PROTOCOL_DATA];
    return count;
}

/* Of 26 shards; then of two of them one owner knows less than the others. */
TEST_CASE(a_count_asks_each_owner_once_and_walks_where_they_differ)
{
    static const char *const cuts[] = {"b", "c", "d", "e", "f", "g", "h", "i", "j",
                                       "k", "l", "m", "n", "o", "p", "q", "r", "s",
                                       "t", "u", "v", "w", "x", "y", "z", NULL};
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(5, &settings, cuts);
    struct request count = {.kind = REQUEST_COUNT};
    count.has_consistency = true;
    count.consistency = CONSISTENCY_QUORUM;
    for (int i = 0; i < 26; i++) bench_put(bench, 1, (char[]){(char)('a' + i), 0}, i);
    bench_settle(bench);
    uint64_t before = asked_by(bench, 1);
    EXPECT(bench_do(bench, 1, &count)->reply.count == 26);
    EXPECT(asked_by(bench, 1) - before <= 4);

    for (node_id id = 1; id <= 5; id++) bench->mute[id][PROTOCOL_REPAIR] = true;
    bench->deaf[2][PROTOCOL_DATA] = true;
    EXPECT(bench_put(bench, 1, "bb", 1)->reply.outcome == REQUEST_DONE);
    EXPECT(bench_put(bench, 1, "gg", 1)->reply.outcome == REQUEST_DONE);
    EXPECT(bench_put(bench, 1, "bc", 1)->reply.outcome == REQUEST_DONE);
    bench->deaf[2][PROTOCOL_DATA] = false;
    EXPECT(bench_peek(bench, 2, "bb") == -1 && bench_peek(bench, 2, "gg") == -1);
    for (node_id id = 1; id <= 5; id++) EXPECT(bench_do(bench, id, &count)->reply.count == 29);
    count.consistency = CONSISTENCY_ALL;
    EXPECT(bench_do(bench, 5, &count)->reply.count == 29);
    bench_destroy(bench);
}

/* Whoever tells other than it was asked is as good as silent. */
TEST_CASE(an_answer_with_too_few_counts_is_none)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(4, &settings, NULL);
    for (node_id id = 1; id <= 3; id++) bench->deaf[id][PROTOCOL_DATA] = true;
    bench_ask(bench, 4, &(struct request){.kind = REQUEST_COUNT});
    const struct flow *flow = read_at(bench, 4);
    EXPECT(flow != NULL && flow->read.lists.count > 0);
    const struct ask *ask = &flow->read.lists.list[0];
    struct data_message told = {.kind = DATA_TOLD, .flow = ask->label};
    uint64_t invalid = bench_stats(bench, 4).invalid_count;
    bench_hear(bench, ask->node, 4, &told);
    EXPECT(bench_stats(bench, 4).invalid_count == invalid + 1 && read_at(bench, 4) != NULL);
    EXPECT(!read_at(bench, 4)->read.lists.list[0].answered);
    bench_destroy(bench);
}

/* One owner has not heard that the word is better than the last one of the page before: it was there, or will be
 * on no page that begins here. */
TEST_CASE(a_page_has_nothing_that_comes_before_it_by_what_is_newer)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    EXPECT(bench_put(bench, 1, "w", 5)->reply.outcome == REQUEST_DONE);
    bench_settle(bench);
    bench->deaf[2][PROTOCOL_DATA] = true;
    EXPECT(bench_put(bench, 1, "w", 9)->reply.outcome == REQUEST_DONE);
    bench->deaf[2][PROTOCOL_DATA] = false;
    bench->deaf[3][PROTOCOL_DATA] = true;
    EXPECT(bench_peek(bench, 1, "w") == 9 && bench_peek(bench, 2, "w") == 5);
    struct request best = {.kind = REQUEST_BEST,
                           .limit = 10,
                           .has_consistency = true,
                           .consistency = CONSISTENCY_QUORUM,
                           .has_after = true,
                           .after = {{.score_order = score_order_of(7)}, SLICE_LITERAL("u")}};
    const struct bench_reply *reply = bench_do(bench, 1, &best);
    EXPECT(reply->reply.outcome == REQUEST_DONE && reply->reply.entry_count == 0);
    best.after.best.score_order = score_order_of(10);
    reply = bench_do(bench, 1, &best);
    EXPECT(reply->reply.entry_count == 1 && reply->scores[0] == 9);
    bench_destroy(bench);
}

/* Owners of the first shard are 1, 2 and 3, of the second 2, 3 and 4; what is asked for lies in both. */
TEST_CASE(who_refuses_for_one_shard_is_asked_for_another)
{
    static const char *const cuts[] = {"ac", "b", "c", "d", NULL};
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(5, &settings, cuts);
    for (node_id id = 1; id <= 4; id++) bench->deaf[id][PROTOCOL_DATA] = true;
    struct request best = {.kind = REQUEST_BEST, .key = SLICE_LITERAL("a"), .limit = 3};
    best.has_consistency = true;
    best.consistency = CONSISTENCY_QUORUM;
    bench_ask(bench, 5, &best);
    const struct flow *flow = read_at(bench, 5);
    EXPECT(flow != NULL);
    node_id refuses = ask_of(flow, 2) != NULL ? 2 : 3; /* Two of three are asked. */
    struct buf ranges = {.heap = &bench->heap};
    struct key_range second = {SLICE_LITERAL("ac"), SLICE_LITERAL("b")};
    data_range_append(&ranges, &second);
    struct data_message told = {.kind = DATA_TOLD,
                                .flow = ask_of(flow, refuses)->label,
                                .verdict = DATA_INCOMPLETE,
                                .ranges = buf_slice(&ranges),
                                .range_count = 1};
    bench_hear(bench, refuses, 5, &told);
    flow = read_at(bench, 5);
    EXPECT(flow->read.avoid_count == 1 && flow->read.avoid[0].node == refuses);
    EXPECT(flow->read.avoid[0].first == 1 && flow->read.avoid[0].end == 2);
    unsigned asked = 0;
    for (node_id id = 1; id <= 4; id++) {
        const struct ask *ask = ask_of(flow, id);
        struct slice rest = ask == NULL ? (struct slice){0} : buf_slice(&ask->ranges);
        struct key_range range;
        while (data_range_next(&rest, &range)) {
            bool is_second = slice_equal(range.low, second.low);
            EXPECT(!(is_second && id == refuses));
            asked += is_second;
        }
    }
    EXPECT(asked == 2);
    buf_deinit(&ranges);
    bench_destroy(bench);
}

/* Owners that are deaf to questions hand over what they have: who asks goes on to those that have it,
 * and keeps nobody from going over to the next map meanwhile. */
TEST_CASE(a_read_goes_on_by_a_newer_map)
{
    struct rangemap_settings settings = bench_settings(2, 2, 1);
    struct bench *bench = bench_create(5, &settings, NULL);
    EXPECT(bench_put(bench, 1, "w", 3)->reply.outcome == REQUEST_DONE);
    bench->deaf[1][PROTOCOL_DATA] = bench->deaf[2][PROTOCOL_DATA] = true;
    struct request get = get_of("w", CONSISTENCY_ONE);
    get.timeout_ms = 60000;
    uint64_t asked = bench_ask(bench, 5, &get);
    for (node_id id = 1; id <= 2; id++) {
        struct change leave = {.kind = CHANGE_MEMBER_LEAVING,
                               .member = {.id = id, .leaving = true}};
        replica_change(bench->nodes[3].replica, &leave);
    }
    for (int turn = 0; turn < 400 && bench_reply(bench, asked) == NULL; turn++)
        bench_pass(bench, 100);
    EXPECT(bench_reply(bench, asked)->reply.outcome == REQUEST_DONE);
    EXPECT(bench_reply(bench, asked)->scores[0] == 3);
    bench_destroy(bench);
}

/* --- Tokens --- */

/* Writes through one node with what the client knew before; the token it knows then. */
static void put_with_token(struct bench *bench, node_id at, const char *key, double score,
                           struct buf *token)
{
    struct request put = {.kind = REQUEST_SET,
                          .key = slice_from_text(key),
                          .score = score,
                          .token = buf_slice(token)};
    const struct bench_reply *reply = bench_do(bench, at, &put);
    EXPECT(reply->reply.outcome == REQUEST_DONE && reply->token_size > 0);
    buf_clear(token);
    buf_append(token, reply->token, reply->token_size);
}

TEST_CASE(a_client_reads_at_one_what_it_has_written)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(4, &settings, NULL);
    struct buf token = {.heap = &bench->heap};
    unsigned unseen = 0;
    for (node_id id = 1; id <= 4; id++)
        bench->mute[id][PROTOCOL_REPAIR] = bench->deaf[id][PROTOCOL_REPAIR] = true;
    for (int round = 1; round <= 40; round++) {
        /* One owner does not hear of it, each time another. */
        node_id missed = (node_id)(1 + round % 3);
        node_id at = missed == 1 ? 2 : 1;
        for (node_id id = 1; id <= 3; id++) bench->cut[id][missed] = true;
        put_with_token(bench, at, "w", round, &token);
        for (node_id id = 1; id <= 3; id++) bench->cut[id][missed] = false;
        for (node_id reader = 1; reader <= 4; reader++) {
            struct request get = get_of("w", CONSISTENCY_ONE);
            const struct bench_reply *reply = bench_do(bench, reader, &get);
            unseen += reply->reply.entry_count == 0 || reply->scores[0] != round;
            get.token = buf_slice(&token);
            reply = bench_do(bench, reader, &get);
            EXPECT(reply->reply.outcome == REQUEST_DONE && reply->scores[0] == round);
        }
    }
    EXPECT(unseen > 0); /* Without the token one does not. */
    buf_deinit(&token);
    bench_destroy(bench);
}

TEST_CASE(a_node_that_has_not_come_so_far_is_passed_over)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(4, &settings, NULL);
    struct buf bytes = {.heap = &bench->heap};
    struct token token = {0};
    struct token_group group = {0};
    bench_put(bench, 1, "w", 5);
    /* Node 1 is to have come further than it has; then node 2 has it all. */
    EXPECT(token_group_put(&group, (struct token_place){1, 1001, 1000000}));
    EXPECT(token_group_put(&group, (struct token_place){2, 1002, 1}));
    token_add(&token, &group);
    token_encode(&token, &bytes);
    for (node_id reader = 1; reader <= 4; reader++) {
        struct request get = get_of("w", CONSISTENCY_ONE);
        get.token = buf_slice(&bytes);
        EXPECT(bench_do(bench, reader, &get)->scores[0] == 5);
    }
    /* Bytes that are none. */
    struct request get = get_of("w", CONSISTENCY_ONE);
    get.token = SLICE_LITERAL("token");
    struct request_reply reply = bench_do(bench, 4, &get)->reply;
    EXPECT(reply.outcome == REQUEST_REFUSED && reply.status == STATUS_INVALID);
    buf_deinit(&bytes);
    bench_destroy(bench);
}

/* Of the word before, as the owners that acknowledged knew. */
TEST_CASE(a_removal_tells_what_any_acknowledging_owner_knew)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    for (node_id id = 1; id <= 3; id++) bench->mute[id][PROTOCOL_REPAIR] = true;
    bench->cut[2][1] = true;
    EXPECT(!bench_put(bench, 2, "w", 5)->reply.was_live);
    bench->cut[2][1] = false;
    EXPECT(bench_peek(bench, 1, "w") == -1);
    struct request remove = {.kind = REQUEST_REMOVE, .key = SLICE_LITERAL("w")};
    EXPECT(bench_do(bench, 1, &remove)->reply.was_live);
    bench_destroy(bench);
}

TEST_MAIN(TEST(who_is_late_has_a_twin_and_the_first_answer_is_believed),
          TEST(lists_and_counts_of_many_shards_survive_a_late_owner),
          TEST(few_questions_are_asked_twice_in_the_long_run),
          TEST(who_closed_its_connection_is_down_until_it_is_heard),
          TEST(the_healthiest_owner_is_asked_and_the_least_busy_one_forwarded_to),
          TEST(a_read_fails_at_once_when_no_owner_is_up),
          TEST(a_node_answers_only_if_it_owns_all_that_is_asked_for),
          TEST(a_count_asks_each_owner_once_and_walks_where_they_differ),
          TEST(an_answer_with_too_few_counts_is_none),
          TEST(a_page_has_nothing_that_comes_before_it_by_what_is_newer),
          TEST(who_refuses_for_one_shard_is_asked_for_another), TEST(a_read_goes_on_by_a_newer_map),
          TEST(a_client_reads_at_one_what_it_has_written),
          TEST(a_node_that_has_not_come_so_far_is_passed_over),
          TEST(a_removal_tells_what_any_acknowledging_owner_knew))
