/* Maps at work: what a node keeps of older ones, who is waited for, who is fenced, and how shards
 * come to other owners whatever happens meanwhile. */
#include "node/replica_private.h"
#include "replica_bench.h"

static const char *const eight_cuts[] = {"d", "g", "j", "m", "p", "s", "v", NULL};

static struct rangemap_settings settings_of(uint8_t factor, uint8_t write, uint8_t read)
{
    struct rangemap_settings settings = rangemap_settings_default;
    settings.replication_factor = factor;
    settings.write_quorum = write;
    settings.read_quorum = read;
    return settings;
}

/* A word for each letter, and so on: "a00", "b01", ... */
static void word_of(uint32_t i, char key[16])
{
    snprintf(key, 16, "%c%02u", 'a' + (int)(i % 26), i);
}

static void put_words(struct bench *bench, node_id id, uint32_t words)
{
    for (uint32_t i = 0; i < words; i++) {
        char key[16];
        word_of(i, key);
        EXPECT(bench_put(bench, id, key, i)->reply.outcome == REQUEST_DONE);
    }
}

static struct replica *replica_of(const struct bench *bench, node_id id)
{
    return bench->nodes[id].replica;
}

static uint64_t number_at(const struct bench *bench, node_id id)
{
    return rangemap_identity(replica_map(replica_of(bench, id)))->number;
}

/* A member that nobody runs: the map changes, and nothing else. */
static struct change stranger(uint64_t incarnation)
{
    return (struct change){.kind = CHANGE_MEMBER_ADD,
                           .member = {.incarnation = incarnation,
                                      .capacity = 100,
                                      .zone = SLICE_LITERAL("z"),
                                      .address = SLICE_LITERAL("n9")}};
}

/* --- What survives --- */

/* Its peer cannot sync for now, so that the comparison lasts; the map changes meanwhile. */
TEST_CASE(a_comparison_goes_on_over_maps_that_change_nothing_that_is_shared)
{
    struct rangemap_settings settings = settings_of(3, 2, 2);
    struct bench *bench = bench_create(4, &settings, NULL);
    struct record record = record_of_set((struct version){UINT64_C(1) << 36, 7}, 1);
    struct store_write write = {.kind = STORE_MERGE, .key = SLICE_LITERAL("w"), .record = &record};
    struct store_outcome outcome;
    uint64_t sequence, before = number_at(bench, 1);
    EXPECT(store_world_write(&bench->nodes[1].world, &write, 1, &outcome, &sequence) == STATUS_OK);
    EXPECT(store_world_sync(&bench->nodes[1].world) == STATUS_OK);
    bench->nodes[2].frozen = true;
    struct replica *replica = replica_of(bench, 1);
    uint64_t given_up = replica->repair.counts.given_up_count;
    uint64_t complete = replica->repair.counts.complete_count;
    EXPECT(repair_begin(&replica->repair, 2, bench->now_ms, &replica->outbox));
    replica_take_outbox(replica);
    bench_settle(bench);
    EXPECT(replica->repair.sessions[0].peer == 2 || replica->repair.sessions[1].peer == 2 ||
           replica->repair.sessions[2].peer == 2 || replica->repair.sessions[3].peer == 2);
    struct change change = stranger(2000);
    replica_change(replica, &change);
    for (int turn = 0; turn < 100 && number_at(bench, 1) == before; turn++) bench_pass(bench, 20);
    EXPECT(number_at(bench, 1) > before);
    EXPECT(replica->repair.counts.given_up_count == given_up);
    bench->nodes[2].frozen = false;
    bench_pass(bench, 1000);
    EXPECT(replica->repair.counts.given_up_count == given_up);
    EXPECT(replica->repair.counts.complete_count > complete);
    EXPECT(bench_peek(bench, 2, "w") == 1);
    bench_destroy(bench);
}

/* A shard has gone to another node, and not everybody has said that they know. */
TEST_CASE(a_start_knows_what_it_owned_under_older_maps)
{
    enum { WORDS = 26 };
    struct rangemap_settings settings = settings_of(1, 1, 1);
    struct bench *bench = bench_create(3, &settings, eight_cuts);
    put_words(bench, 1, WORDS);
    bench_join(bench);
    node_id giver = 0;
    for (int turn = 0; turn < 2000 && giver == 0; turn++) {
        bench_pass(bench, 20);
        for (node_id id = 1; id <= 3; id++)
            if (replica_of(bench, id)->topology.older_count > 0) giver = id;
    }
    EXPECT(giver != 0);
    char gone[16] = "";
    for (uint32_t i = 0; i < WORDS; i++) {
        char key[16];
        word_of(i, key);
        if (replica_took_before(replica_of(bench, giver), slice_from_text(key)) &&
            !rangemap_takes(replica_map(replica_of(bench, giver)), giver, slice_from_text(key)))
            memcpy(gone, key, sizeof gone);
    }
    EXPECT(gone[0] != 0 && bench_peek(bench, giver, gone) != -1);
    for (node_id id = 1; id <= 4; id++) bench->cut[giver][id] = bench->cut[id][giver] = true;
    bench_kill(bench, giver, SIM_DISK_KILLED);
    bench_restart(bench, giver);
    bench_pass(bench, 5000);
    EXPECT(replica_took_before(replica_of(bench, giver), slice_from_text(gone)));
    EXPECT(bench_peek(bench, giver, gone) != -1);

    for (node_id id = 1; id <= 4; id++) bench->cut[giver][id] = bench->cut[id][giver] = false;
    for (int turn = 0; turn < 60 && bench_peek(bench, giver, gone) != -1; turn++)
        bench_pass(bench, 1000);
    EXPECT(bench_peek(bench, giver, gone) == -1);
    bench_destroy(bench);
}

TEST_MAIN(TEST(a_comparison_goes_on_over_maps_that_change_nothing_that_is_shared),
          TEST(a_start_knows_what_it_owned_under_older_maps))
