/* Coordinating reads: whom they are asked of, and what is done about those that are late. */
#include "node/replica_private.h"
#include "replica_bench.h"

static struct rangemap_settings settings_of(uint8_t factor, uint8_t write, uint8_t read)
{
    struct rangemap_settings settings = rangemap_settings_default;
    settings.replication_factor = factor;
    settings.write_quorum = write;
    settings.read_quorum = read;
    return settings;
}

static struct replica_stats stats_of(const struct bench *bench, node_id id)
{
    struct replica_stats stats;
    replica_stats(bench->nodes[id].replica, &stats);
    return stats;
}

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
    struct rangemap_settings settings = settings_of(3, 2, 2);
    struct bench *bench = bench_create(4, &settings, NULL);
    bench_put(bench, 1, "w", 5);
    warm_up(bench, 4);
    for (int level = 0; level < 2; level++) {
        uint64_t before = stats_of(bench, 4).hedge_count;
        bench->deaf[2][PROTOCOL_DATA] = true;
        for (int round = 0; round < 6; round++) {
            struct request get = get_of("w", level == 0 ? CONSISTENCY_ONE : CONSISTENCY_QUORUM);
            uint64_t number = bench_ask(bench, 4, &get);
            bench_pass(bench, 20);
            const struct bench_reply *reply = bench_reply(bench, number);
            EXPECT(reply != NULL && reply->scores[0] == 5);
        }
        EXPECT(stats_of(bench, 4).hedge_count > before);
        bench->deaf[2][PROTOCOL_DATA] = false;
        bench_pass(bench, 3000);
    }
    bench_destroy(bench);
}

TEST_CASE(lists_and_counts_of_many_shards_survive_a_late_owner)
{
    struct rangemap_settings settings = settings_of(3, 2, 2);
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
    struct rangemap_settings settings = settings_of(3, 2, 2);
    struct bench *bench = bench_create(4, &settings, NULL);
    bench_put(bench, 1, "w", 5);
    warm_up(bench, 4);
    struct replica *replica = bench->nodes[4].replica;
    uint64_t before = stats_of(bench, 4).hedge_count;
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
    uint64_t hedged = stats_of(bench, 4).hedge_count - before;
    EXPECT(hedged >= READS / 25 && hedged <= READS / 19 + 2 * READ_HEDGE_BURST);
    bench_destroy(bench);
}

/* --- Whom to ask --- */

TEST_CASE(the_healthiest_owner_is_asked_and_the_least_busy_one_forwarded_to)
{
    struct rangemap_settings settings = settings_of(3, 2, 2);
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
    struct rangemap_settings settings = settings_of(2, 2, 1);
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

TEST_MAIN(TEST(who_is_late_has_a_twin_and_the_first_answer_is_believed),
          TEST(lists_and_counts_of_many_shards_survive_a_late_owner),
          TEST(few_questions_are_asked_twice_in_the_long_run),
          TEST(the_healthiest_owner_is_asked_and_the_least_busy_one_forwarded_to),
          TEST(a_read_fails_at_once_when_no_owner_is_up))
