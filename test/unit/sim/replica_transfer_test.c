/* Ranges that move as packed tries, between replicas with their stores. */
#include "base/prng.h"
#include "node/replica_private.h"
#include "replica_bench.h"

enum {
    WORDS = 800,
    PAYLOAD_BYTES = 1800, /* So that the shard takes two windows. */
    TAKER = 4,
};

static struct bench *begin(unsigned words)
{
    struct rangemap_settings settings = rangemap_settings_default;
    settings.replication_factor = 3;
    settings.write_quorum = 2;
    settings.read_quorum = 2;
    struct bench *bench = bench_create(4, &settings, NULL);
    struct prng prng = {.state = test_seed};
    uint8_t payload[PAYLOAD_BYTES];
    for (unsigned i = 0; i < words; i++) {
        char key[16];
        snprintf(key, sizeof key, "w%05u", i);
        for (size_t j = 0; j < sizeof payload; j++) payload[j] = (uint8_t)prng_u32(&prng);
        struct version version = {(UINT64_C(900000) << HLC_COUNTER_BITS) + i, 7};
        bool dead = prng_one_in(&prng, 10);
        struct record record = dead ? record_of_tombstone(version) : record_of_set(version, i);
        record.has_payload = !dead;
        if (!dead) record.payload = slice_of(payload, sizeof payload);
        struct store_write write = {
            .kind = STORE_MERGE, .key = slice_from_text(key), .record = &record};
        for (node_id id = 1; id <= 3; id++) {
            struct store_world *world = &bench->nodes[id].world;
            struct store_outcome outcome;
            uint64_t sequence;
            EXPECT(store_world_write(world, &write, 1, &outcome, &sequence) == STATUS_OK);
            if (i % 50 == 0) EXPECT(store_world_sync(world) == STATUS_OK);
            if (i % 200 == 0) bench_work(&bench->nodes[id]);
        }
    }
    bench_pass(bench, 3000);
    buf_clear(&bench->trace);
    return bench;
}

/* The shard goes from node 3 to node 4. */
static void leave(struct bench *bench)
{
    struct change leaves = {.kind = CHANGE_MEMBER_LEAVING, .member = {.id = 3, .leaving = true}};
    replica_change(bench->nodes[1].replica, &leaves);
}

static struct sum sum_of(const struct bench *bench, node_id id)
{
    struct query query = store_world_query(&bench->nodes[id].world);
    struct key_range range = {SLICE_LITERAL("\1"), {0}};
    struct sum sum;
    EXPECT(query_sum_range(&query, range, &sum) == STATUS_OK);
    return sum;
}

static const struct transfer *transfer_at(const struct bench *bench, node_id id)
{
    return &bench->nodes[id].replica->transfer;
}

static uint64_t given_bytes(const struct bench *bench)
{
    uint64_t bytes = 0;
    for (node_id id = 1; id <= 3; id++)
        if (bench->nodes[id].replica != NULL) bytes += transfer_at(bench, id)->counts.given_bytes;
    return bytes;
}

static bool is_moved(const struct bench *bench)
{
    struct shard shard = rangemap_shard(replica_map(bench->nodes[1].replica), 0);
    return shard.stage == SHARD_STABLE && owners_contain(&shard.owners, TAKER);
}

static bool says(const struct bench *bench, const char *text)
{
    struct buf *trace = (struct buf *)(uintptr_t)&bench->trace;
    buf_append_u8(trace, 0);
    trace->size--;
    return strstr((const char *)trace->data, text) != NULL;
}

static void count_file(void *context, uint64_t number, uint64_t size_bytes)
{
    (void)number;
    (void)size_bytes;
    ++*(unsigned *)context;
}

static void expect_no_files(const struct bench *bench)
{
    for (node_id id = 1; id <= bench->node_count; id++) {
        unsigned count = 0;
        if (bench->nodes[id].replica == NULL) continue;
        EXPECT(store_transfer_list(bench->nodes[id].world.store, count_file, &count) == STATUS_OK);
        EXPECT(count == 0);
    }
}

/* Until the shard has its new owners and they are equal. */
static void finish(struct bench *bench)
{
    bench->halt_at = 0;
    for (int turn = 0; turn < 120 && !is_moved(bench); turn++) bench_pass(bench, 1000);
    EXPECT(is_moved(bench));
    bench_pass(bench, 5000);
    EXPECT(sum_equal(sum_of(bench, 1), sum_of(bench, TAKER)));
    EXPECT(sum_equal(sum_of(bench, 2), sum_of(bench, TAKER)));
    expect_no_files(bench);
}

static uint64_t sent_by_repair(const struct bench *bench)
{
    uint64_t bytes = 0;
    for (node_id id = 1; id <= bench->node_count; id++) {
        struct replica_stats stats;
        if (bench->nodes[id].replica == NULL) continue;
        replica_stats(bench->nodes[id].replica, &stats);
        bytes += stats.repair_sent_bytes;
    }
    return bytes;
}

TEST_CASE(a_next_owner_takes_its_range_as_a_packed_trie)
{
    struct bench *bench = begin(WORDS);
    uint64_t repair_before = sent_by_repair(bench);
    leave(bench);
    finish(bench);
    uint64_t repaired = sent_by_repair(bench) - repair_before;
    const struct transfer_counts *counts = &transfer_at(bench, TAKER)->counts;
    printf("%u words, %d bytes of payload each: %llu bytes in pieces, %llu of repair\n", WORDS,
           PAYLOAD_BYTES, (unsigned long long)given_bytes(bench), (unsigned long long)repaired);
    EXPECT(counts->moved_count == 1 && counts->taken_files == 1 && counts->again_count == 0);
    EXPECT(counts->taken_bytes == given_bytes(bench));
    EXPECT(counts->taken_bytes > (uint64_t)TRANSFER_WINDOW_PIECES * TRANSFER_PIECE_BYTES);
    EXPECT(counts->taken_bytes < (uint64_t)WORDS * (PAYLOAD_BYTES + 50));
    EXPECT(repaired < counts->taken_bytes / 20);
    EXPECT(says(bench, "transfer from n2: all is here"));
    bench_destroy(bench);
}

TEST_CASE(a_range_of_few_words_is_left_to_repair)
{
    struct bench *bench = begin(300);
    leave(bench);
    finish(bench);
    const struct transfer_counts *counts = &transfer_at(bench, TAKER)->counts;
    EXPECT(counts->few_count == 1 && counts->taken_bytes == 0);
    bench_destroy(bench);
}

/* What came does not count before it was compared: an owner other than the giver knows a word that the
 * giver does not. */
TEST_CASE(what_was_moved_is_compared_before_it_counts)
{
    struct bench *bench = begin(WORDS);
    leave(bench);
    while (!says(bench, "transfer from n2: all is here")) bench_pass(bench, 20);
    struct record record =
        record_of_set((struct version){(1000000 + bench->now_ms) << HLC_COUNTER_BITS, 7}, 77);
    for (node_id id = 1; id <= 3; id += 2) {
        struct store_write write = {
            .kind = STORE_MERGE, .key = SLICE_LITERAL("x"), .record = &record};
        struct store_outcome outcome;
        uint64_t sequence;
        struct store_world *world = &bench->nodes[id].world;
        EXPECT(store_world_write(world, &write, 1, &outcome, &sequence) == STATUS_OK);
        EXPECT(store_world_sync(world) == STATUS_OK);
    }
    struct shard shard = rangemap_shard(replica_map(bench->nodes[TAKER].replica), 0);
    while (!replica_is_complete(bench->nodes[TAKER].replica, &shard)) {
        bench_pass(bench, 20);
        shard = rangemap_shard(replica_map(bench->nodes[TAKER].replica), 0);
    }
    EXPECT(bench_peek(bench, TAKER, "x") == 77);
    finish(bench);
    bench_destroy(bench);
}

TEST_CASE(a_giver_that_falls_silent_is_replaced)
{
    struct bench *bench = begin(WORDS);
    leave(bench);
    while (transfer_at(bench, TAKER)->takings[0].state == TAKING_FREE) bench_pass(bench, 20);
    node_id giver = transfer_at(bench, TAKER)->takings[0].peer;
    bench->halt_at = bench->delivered + 20;
    bench_pass(bench, 3000);
    bench->halt_at = 0;
    bench->cut[giver][TAKER] = true;
    for (int turn = 0; turn < 60 && !says(bench, "all is here"); turn++) bench_pass(bench, 1000);
    EXPECT(says(bench, "all is here"));
    EXPECT(transfer_at(bench, TAKER)->counts.failed_count == 1);
    bench->cut[giver][TAKER] = false;
    finish(bench);
    /* The first giver kept its file for a while. */
    bench_destroy(bench);
}

/* The victim crashes when so many messages were delivered since the transfer began. False: it was over
 * by then. */
static bool crash_at(bool taker, uint64_t messages, enum sim_disk_restart how, uint64_t *size)
{
    struct bench *bench = begin(WORDS);
    leave(bench);
    while (transfer_at(bench, TAKER)->takings[0].state == TAKING_FREE) {
        bench->halt_at = bench->delivered + 1; /* One by one, so as not to miss it. */
        if (bench->queue_first < bench->queue_end)
            bench_settle(bench);
        else
            bench_pass(bench, 20);
    }
    bench->halt_at = bench->delivered + messages;
    bench_pass(bench, 60000);
    bool over = transfer_at(bench, TAKER)->counts.moved_count > 0;
    if (!over) {
        uint64_t given = given_bytes(bench), lost = 0;
        node_id victim = taker ? TAKER : transfer_at(bench, TAKER)->takings[0].peer;
        if (!taker) lost = transfer_at(bench, victim)->counts.given_bytes;
        bench->halt_at = 0;
        bench_kill(bench, victim, how);
        bench_restart(bench, victim);
        for (int turn = 0; turn < 60 && !says(bench, "all is here"); turn++)
            bench_pass(bench, 1000);
        EXPECT(says(bench, "all is here"));
        uint64_t window = (uint64_t)TRANSFER_WINDOW_PIECES * TRANSFER_PIECE_BYTES;
        EXPECT(given_bytes(bench) + lost <= *size + window);
        EXPECT(given_bytes(bench) + lost >= given);
    } else {
        *size = given_bytes(bench);
    }
    finish(bench);
    bench_destroy(bench);
    return !over;
}

TEST_CASE(a_crash_of_either_side_goes_on_where_it_was)
{
    for (int taker = 0; taker < 2; taker++) {
        uint64_t points = 0, size = 0;
        (void)crash_at(taker, 2000, SIM_DISK_KILLED, &size); /* To know how much it is. */
        EXPECT(size > 0);
        for (uint64_t messages = 1; messages < 2000; messages += 7, points++)
            if (!crash_at(taker, messages, points % 2 ? SIM_DISK_KILLED : SIM_DISK_POWER_LOSS,
                          &size))
                break;
        printf("%llu crashes of the %s\n", (unsigned long long)points, taker ? "taker" : "giver");
        EXPECT(points > 5);
    }
}

TEST_MAIN(TEST(a_next_owner_takes_its_range_as_a_packed_trie),
          TEST(a_range_of_few_words_is_left_to_repair),
          TEST(what_was_moved_is_compared_before_it_counts),
          TEST(a_giver_that_falls_silent_is_replaced),
          TEST(a_crash_of_either_side_goes_on_where_it_was))
