/* Forgetting deletions in a cluster: one test for each paragraph of docs/design/purge.md. */
#include "base/prng.h"
#include "cluster/data_message.h"
#include "cluster/outbox.h"
#include "node/replica_private.h"
#include "replica_bench.h"

enum { ROUND_MS = 30000 /* Time for two rounds, and the sweep. */ };

static struct rangemap_settings settings_of(uint8_t factor, uint64_t gc_ms)
{
    struct rangemap_settings settings = rangemap_settings_default;
    settings.replication_factor = factor;
    settings.write_quorum = (uint8_t)(factor / 2 + 1);
    settings.read_quorum = (uint8_t)(factor / 2 + 1);
    settings.tombstone_gc_ms = gc_ms;
    return settings;
}

static void remove_word(struct bench *bench, node_id id, const char *key)
{
    EXPECT(
        bench_do(bench, id, &(struct request){.kind = REQUEST_REMOVE, .key = slice_from_text(key)})
            ->reply.outcome == REQUEST_DONE);
}

/* Anything: a value, a tombstone. */
static bool holds(const struct bench *bench, node_id id, const char *key)
{
    struct query query = store_world_query(&bench->nodes[id].world);
    struct query_hit hit;
    return query_get(&query, slice_from_text(key), &hit) == STATUS_OK;
}

static struct version version_at(uint64_t ms, uint16_t node)
{
    return (struct version){(1000000 + ms) << HLC_COUNTER_BITS, node};
}

/* A message that a test made, under the map that the receiver has. */
static void tell(struct bench *bench, node_id from, node_id to, struct data_message message)
{
    struct buf bytes = {.heap = &bench->heap};
    const struct rangemap_identity *map = rangemap_identity(replica_map(bench->nodes[to].replica));
    message.generation = map->generation;
    message.map_number = map->number;
    buf_append_u64le(&bytes, bench_time(bench, from).wall_ms);
    buf_append_u8(&bytes, PROTOCOL_DATA);
    data_message_encode(&message, &bytes);
    replica_message(bench->nodes[to].replica, bench_time(bench, to), from, buf_slice(&bytes));
    bench_settle(bench);
    buf_deinit(&bytes);
}

static struct data_message apply_of(enum data_apply apply, const char *key,
                                    const struct record *record)
{
    return (struct data_message){.kind = DATA_APPLY,
                                 .flow = 1,
                                 .apply = apply,
                                 .key = slice_from_text(key),
                                 .record = *record};
}

/* Between these two alone, so that others may ask each about the other. */
static void cut_between(struct bench *bench, node_id a, node_id b, bool cut)
{
    bench->cut[a][b] = bench->cut[b][a] = cut;
}

TEST_CASE(a_deletion_that_all_owners_know_is_forgotten)
{
    struct rangemap_settings settings = settings_of(3, 0);
    struct bench *bench = bench_create(3, &settings, NULL);
    EXPECT(bench_put(bench, 1, "kept", 1)->reply.outcome == REQUEST_DONE);
    EXPECT(bench_put(bench, 1, "gone", 1)->reply.outcome == REQUEST_DONE);
    remove_word(bench, 2, "gone");
    for (node_id id = 1; id <= 3; id++) EXPECT(holds(bench, id, "gone"));
    bench_pass(bench, ROUND_MS);
    for (node_id id = 1; id <= 3; id++) {
        EXPECT(!holds(bench, id, "gone"));
        EXPECT(bench_peek(bench, id, "kept") == 1);
    }
    bench_destroy(bench);
}

/* Another owner may not have heard yet that the removal may be forgotten, and holds it. */
TEST_CASE(what_is_added_to_a_forgotten_word_counts_from_what_is_forgotten)
{
    struct rangemap_settings settings = settings_of(3, 0);
    struct bench *bench = bench_create(3, &settings, NULL);
    EXPECT(bench_put(bench, 1, "w", 1)->reply.outcome == REQUEST_DONE);
    remove_word(bench, 2, "w");
    hlc_time removed = version_at(bench->now_ms, 0).time;
    bench_pass(bench, ROUND_MS);
    EXPECT(!holds(bench, 1, "w"));
    struct request add = {.kind = REQUEST_INCREMENT, .key = SLICE_LITERAL("w"), .score = 2};
    for (double sum = 2; sum <= 4; sum += 2) EXPECT(bench_do(bench, 1, &add)->reply.score == sum);
    struct query query = store_world_query(&bench->nodes[3].world);
    struct query_hit hit;
    EXPECT(query_get(&query, SLICE_LITERAL("w"), &hit) == STATUS_OK);
    EXPECT(hit.record.slots.size == RECORD_SLOT_BYTES);
    struct record_slot slot = record_slot_at(hit.record.slots, 0);
    EXPECT(slot.sequence > removed && slot.sequence < hit.record.version.time && slot.sum == 4);
    bench_destroy(bench);
}

TEST_CASE(a_deletion_younger_than_the_least_age_stays)
{
    struct rangemap_settings settings = settings_of(3, 90000);
    struct bench *bench = bench_create(3, &settings, NULL);
    remove_word(bench, 2, "w");
    bench_pass(bench, 60000);
    for (node_id id = 1; id <= 3; id++) EXPECT(holds(bench, id, "w"));
    bench_pass(bench, 60000);
    for (node_id id = 1; id <= 3; id++) EXPECT(!holds(bench, id, "w"));
    bench_destroy(bench);
}

TEST_CASE(what_has_expired_is_forgotten_like_what_was_removed)
{
    struct rangemap_settings settings = settings_of(3, 0);
    struct bench *bench = bench_create(3, &settings, NULL);
    struct request put = {.kind = REQUEST_SET,
                          .key = SLICE_LITERAL("w"),
                          .expires_at = bench_time(bench, 1).wall_ms + 25000};
    EXPECT(bench_do(bench, 1, &put)->reply.outcome == REQUEST_DONE);
    bench_pass(bench, 24000);
    for (node_id id = 1; id <= 3; id++) EXPECT(bench_peek(bench, id, "w") == 0);
    bench_pass(bench, ROUND_MS);
    for (node_id id = 1; id <= 3; id++) EXPECT(!holds(bench, id, "w"));
    bench_destroy(bench);
}

/* The worked story of the page: an owner sleeps through a removal. */
TEST_CASE(nothing_is_forgotten_while_a_member_is_silent)
{
    struct rangemap_settings settings = settings_of(3, 0);
    struct bench *bench = bench_create(4, &settings, NULL);
    for (node_id silent = 3; silent <= 4; silent++) { /* An owner, and one that owns nothing. */
        char key[] = "w0";
        key[1] = (char)('0' + silent);
        EXPECT(bench_put(bench, 1, key, 5)->reply.outcome == REQUEST_DONE);
        bench_pass(bench, 1000);
        bench_kill(bench, silent, SIM_DISK_KILLED);
        remove_word(bench, 1, key);
        /* The other two differ beside it, so that they list what they have. */
        struct record other = record_of_set(version_at(bench->now_ms, 1), 1);
        tell(bench, 2, 1, apply_of(DATA_APPLY_HINT, key[1] == '3' ? "w2" : "w5", &other));
        bench_pass(bench, 2 * ROUND_MS);
        for (node_id id = 1; id <= 2; id++) EXPECT(holds(bench, id, key));
        /* Not even when it fell silent in the middle: what it held is what would come back. */
        bench_restart(bench, silent);
        bench_pass(bench, 10000);
        for (node_id id = 1; id <= 3; id++) EXPECT(bench_peek(bench, id, key) == -1);
        bench_pass(bench, 2 * ROUND_MS);
        for (node_id id = 1; id <= 3; id++) EXPECT(!holds(bench, id, key));
    }
    bench_destroy(bench);
}

TEST_CASE(nothing_is_forgotten_that_an_older_hint_may_bring_back)
{
    struct rangemap_settings settings = settings_of(3, 0);
    struct bench *bench = bench_create(4, &settings, NULL);
    struct record old = record_of_set(version_at(bench->now_ms, 1), 5);
    /* Node 4 owns nothing. It keeps what node 3 missed, and does not get through to it. */
    cut_between(bench, 3, 4, true);
    tell(bench, 1, 4,
         (struct data_message){
             .kind = DATA_HOLD, .owner = 3, .key = SLICE_LITERAL("w"), .record = old});
    bench_pass(bench, 100);
    remove_word(bench, 1, "w");
    bench_pass(bench, 3 * ROUND_MS);
    for (node_id id = 1; id <= 3; id++) EXPECT(holds(bench, id, "w"));
    cut_between(bench, 3, 4, false);
    bench_pass(bench, 3 * ROUND_MS);
    struct replica_stats stats;
    replica_stats(bench->nodes[4].replica, &stats);
    EXPECT(stats.hint_count == 0);
    for (node_id id = 1; id <= 3; id++) EXPECT(!holds(bench, id, "w"));
    /* Nor does it take one any more. */
    tell(bench, 1, 4,
         (struct data_message){
             .kind = DATA_HOLD, .owner = 3, .key = SLICE_LITERAL("w"), .record = old});
    replica_stats(bench->nodes[4].replica, &stats);
    EXPECT(stats.hint_count == 0);
    bench_destroy(bench);
}

TEST_CASE(a_direct_write_that_is_older_than_the_promise_is_not_applied)
{
    struct rangemap_settings settings = settings_of(3, 0);
    struct bench *bench = bench_create(3, &settings, NULL);
    struct record old = record_of_set(version_at(bench->now_ms, 2), 5);
    bench_pass(bench, ROUND_MS);
    for (int apply = DATA_APPLY_SET; apply < DATA_APPLY_HINT; apply++) {
        tell(bench, 2, 1, apply_of((enum data_apply)apply, "w", &old));
        for (node_id id = 1; id <= 3; id++) EXPECT(!holds(bench, id, "w"));
    }
    bench_destroy(bench);
}

/* What one owner has promised already, and another not yet. */
TEST_CASE(a_write_that_meets_a_promise_is_stamped_again_above_it)
{
    struct rangemap_settings settings = settings_of(3, 3600000);
    settings.write_quorum = 3;
    struct bench *bench = bench_create(3, &settings, NULL);
    struct request more = {.kind = REQUEST_INCREMENT, .key = SLICE_LITERAL("n"), .score = 5};
    struct replica_stats stats;
    for (int turn = 1; turn <= 2; turn++) {
        struct purge_ranges *ranges = &bench->nodes[3].replica->purge.purge.ranges;
        bool changed = false;
        hlc_time ahead = version_at(bench->now_ms + 2000, 0).time;
        EXPECT(purge_ranges_raise(ranges, (struct key_range){0}, PURGE_PROMISED, ahead, &changed) ==
               STATUS_OK);
        if (turn == 1)
            EXPECT(bench_put(bench, 1, "w", 7)->reply.outcome == REQUEST_DONE);
        else
            EXPECT(bench_do(bench, 1, &more)->reply.outcome == REQUEST_DONE);
        replica_stats(bench->nodes[1].replica, &stats);
        EXPECT(stats.restamp_count == (uint64_t)turn);
        bench_pass(bench, 5000);
    }
    for (node_id id = 1; id <= 3; id++) {
        EXPECT(bench_peek(bench, id, "w") == 7);
        EXPECT(bench_peek(bench, id, "n") == 5); /* Once. */
    }
    bench_destroy(bench);
}

TEST_CASE(what_was_purged_is_taken_from_nobody)
{
    struct rangemap_settings settings = settings_of(3, 0);
    struct bench *bench = bench_create(3, &settings, NULL);
    struct record old = record_of_set(version_at(bench->now_ms, 1), 5);
    tell(bench, 2, 1, apply_of(DATA_APPLY_SET, "w", &old));
    bench_pass(bench, 1000);
    remove_word(bench, 1, "w");
    bench_pass(bench, 2 * ROUND_MS);
    EXPECT(!holds(bench, 1, "w"));
    tell(bench, 2, 1, apply_of(DATA_APPLY_HINT, "w", &old));
    EXPECT(!holds(bench, 1, "w"));
    struct record tombstone = record_of_tombstone(old.version);
    tell(bench, 2, 1, apply_of(DATA_APPLY_HINT, "w", &tombstone));
    EXPECT(!holds(bench, 1, "w"));
    /* What was written since stands for itself: the old slots and times are no part of it. */
    EXPECT(bench_put(bench, 1, "w", 9)->reply.outcome == REQUEST_DONE);
    tell(bench, 2, 1, apply_of(DATA_APPLY_HINT, "w", &old));
    bench_pass(bench, 2000);
    for (node_id id = 1; id <= 3; id++) EXPECT(bench_peek(bench, id, "w") == 9);
    bench_destroy(bench);
}

TEST_CASE(a_disk_that_was_set_back_brings_nothing_back)
{
    struct rangemap_settings settings = settings_of(3, 0);
    struct bench *bench = bench_create(3, &settings, NULL);
    EXPECT(bench_put(bench, 1, "gone", 1)->reply.outcome == REQUEST_DONE);
    EXPECT(bench_put(bench, 1, "kept", 2)->reply.outcome == REQUEST_DONE);
    bench_pass(bench, 2000);
    bench_kill(bench, 3, SIM_DISK_KILLED);
    struct sim_disk_image *image = sim_disk_image_take(bench->nodes[3].world.disk);
    bench_restart(bench, 3);
    bench_pass(bench, 2000);
    remove_word(bench, 1, "gone");
    bench_pass(bench, 2 * ROUND_MS);
    for (node_id id = 1; id <= 3; id++) EXPECT(!holds(bench, id, "gone"));

    bench_kill(bench, 3, SIM_DISK_KILLED);
    EXPECT(bench_put(bench, 1, "new", 3)->reply.outcome == REQUEST_DONE);
    sim_disk_restore(bench->nodes[3].world.disk, image);
    sim_disk_image_destroy(image);
    bench_restart(bench, 3);
    EXPECT(bench_peek(bench, 3, "gone") == 1);
    bench_pass(bench, 10000);
    for (node_id id = 1; id <= 3; id++) {
        EXPECT(!holds(bench, id, "gone"));
        EXPECT(bench_peek(bench, id, "kept") == 2 && bench_peek(bench, id, "new") == 3);
    }
    bench_destroy(bench);
}

static void add(struct bench *bench, node_id id, const char *key, double by)
{
    struct request more = {.kind = REQUEST_INCREMENT, .key = slice_from_text(key), .score = by};
    EXPECT(bench_do(bench, id, &more)->reply.outcome == REQUEST_DONE);
}

/* The word that was made anew is older than what is purged by then, as the copy is. */
TEST_CASE(a_value_from_an_old_disk_gives_way_to_one_that_is_older_than_the_purge_too)
{
    struct rangemap_settings settings = settings_of(3, 0);
    struct bench *bench = bench_create(3, &settings, NULL);
    EXPECT(bench_put(bench, 2, "count", 7)->reply.outcome == REQUEST_DONE);
    bench_pass(bench, 2000);
    EXPECT(bench_peek(bench, 3, "count") == 7);
    bench_kill(bench, 3, SIM_DISK_KILLED);
    struct sim_disk_image *image = sim_disk_image_take(bench->nodes[3].world.disk);
    bench_restart(bench, 3);
    bench_pass(bench, 2000);
    remove_word(bench, 1, "count");
    bench_pass(bench, 2 * ROUND_MS);
    for (node_id id = 1; id <= 3; id++) EXPECT(!holds(bench, id, "count"));
    add(bench, 1, "count", 1);
    bench_pass(bench, 2 * ROUND_MS);
    for (node_id id = 1; id <= 3; id++) EXPECT(bench_peek(bench, id, "count") == 1);

    bench_kill(bench, 3, SIM_DISK_KILLED);
    sim_disk_restore(bench->nodes[3].world.disk, image);
    sim_disk_image_destroy(image);
    bench_restart(bench, 3);
    EXPECT(bench_peek(bench, 3, "count") == 7);
    bench_pass(bench, 4 * ROUND_MS);
    for (node_id id = 1; id <= 3; id++) EXPECT(bench_peek(bench, id, "count") == 1);
    bench_destroy(bench);
}

/* Node 1 is to own the second half as well, which does not get there. Nodes 1 and 3 compare no more than the first half
 * meanwhile, of which node 3 is as complete by that as it was. */
TEST_CASE(what_is_on_its_way_keeps_nobody_from_being_complete_in_the_rest)
{
    static const char *const cuts[] = {"m", NULL};
    struct rangemap_settings settings = settings_of(3, 0);
    struct bench *bench = bench_create(4, &settings, cuts);
    struct change leave = {.kind = CHANGE_MEMBER_LEAVING, .member = {.id = 4, .leaving = true}};
    struct replica *replica = bench->nodes[3].replica;
    EXPECT(bench_put(bench, 1, "a", 1)->reply.outcome == REQUEST_DONE);
    EXPECT(bench_put(bench, 2, "z", 2)->reply.outcome == REQUEST_DONE);
    remove_word(bench, 1, "a");
    bench_pass(bench, 2 * ROUND_MS);
    struct shard half = rangemap_shard(replica_map(replica), 0);
    EXPECT(purge_purged_at(&replica->purge.purge, SLICE_LITERAL("a")) != 0);
    for (node_id id = 1; id <= 4; id++) bench->mute[id][PROTOCOL_TRANSFER] = true;
    replica_change(bench->nodes[1].replica, &leave);
    bench_pass(bench, 5000);
    EXPECT(replica_transfer_waits(bench->nodes[1].replica, 3));
    replica_purge_rolled_back(replica);
    EXPECT(!replica_is_complete(replica, &half));
    /* A read at all waits for that, and for no other node. */
    struct request get = {.kind = REQUEST_GET,
                          .key = SLICE_LITERAL("b"),
                          .has_consistency = true,
                          .consistency = CONSISTENCY_ALL};
    uint64_t asked = bench_ask(bench, 3, &get);
    EXPECT(bench_reply(bench, asked) == NULL);
    bench_pass(bench, 400); /* Less than to the second of the sessions that come by themselves. */
    EXPECT(bench_reply(bench, asked) != NULL);
    EXPECT(bench_reply(bench, asked)->reply.outcome == REQUEST_ABSENT);
    EXPECT(replica_transfer_waits(bench->nodes[1].replica, 3));
    half = rangemap_shard(replica_map(replica), 0);
    EXPECT(replica_is_complete(replica, &half));
    bench_destroy(bench);
}

/* Of two disks that were set back one missed the newer value, which is no reason to give that up. */
TEST_CASE(an_old_disk_with_an_older_value_takes_no_newer_one_away)
{
    struct rangemap_settings settings = settings_of(3, 0);
    struct bench *bench = bench_create(3, &settings, NULL);
    struct sim_disk_image *images[4];
    EXPECT(bench_put(bench, 1, "count", 5)->reply.outcome == REQUEST_DONE);
    bench_pass(bench, 2000);
    cut_between(bench, 1, 2, true);
    cut_between(bench, 2, 3, true);
    EXPECT(bench_put(bench, 1, "count", 10)->reply.outcome == REQUEST_DONE);
    bench_pass(bench, 20);
    struct request add = {.kind = REQUEST_INCREMENT,
                          .key = SLICE_LITERAL("count"),
                          .score = 1,
                          .has_consistency = true,
                          .consistency = CONSISTENCY_ONE,
                          .timeout_ms = 500};
    EXPECT(bench_do(bench, 2, &add)->reply.outcome == REQUEST_DONE);
    EXPECT(bench_peek(bench, 2, "count") == 6 && bench_peek(bench, 3, "count") == 10);
    for (node_id id = 2; id <= 3; id++) {
        bench_kill(bench, id, SIM_DISK_KILLED);
        images[id] = sim_disk_image_take(bench->nodes[id].world.disk);
    }
    cut_between(bench, 1, 2, false);
    cut_between(bench, 2, 3, false);
    for (node_id id = 2; id <= 3; id++) bench_restart(bench, id);
    bench_pass(bench, 3 * ROUND_MS);
    for (node_id id = 1; id <= 3; id++) EXPECT(bench_peek(bench, id, "count") == 10);
    for (node_id id = 2; id <= 3; id++) {
        bench_kill(bench, id, SIM_DISK_KILLED);
        sim_disk_restore(bench->nodes[id].world.disk, images[id]);
        sim_disk_image_destroy(images[id]);
    }
    for (node_id id = 2; id <= 3; id++) bench_restart(bench, id);
    bench_pass(bench, 4 * ROUND_MS);
    for (node_id id = 1; id <= 3; id++) EXPECT(bench_peek(bench, id, "count") == 10);
    bench_destroy(bench);
}

TEST_CASE(an_empty_disk_is_no_evidence)
{
    struct rangemap_settings settings = settings_of(3, 0);
    struct bench *bench = bench_create(3, &settings, NULL);
    EXPECT(bench_put(bench, 1, "gone", 1)->reply.outcome == REQUEST_DONE);
    EXPECT(bench_put(bench, 1, "kept", 2)->reply.outcome == REQUEST_DONE);
    remove_word(bench, 1, "gone");
    bench_pass(bench, 2 * ROUND_MS);

    bench_kill(bench, 3, SIM_DISK_KILLED);
    sim_disk_restore(bench->nodes[3].world.disk, NULL);
    bench_restart(bench, 3);
    bench_pass(bench, 300);
    for (int turn = 0; turn < 40; turn++) {
        bench_pass(bench, 250);
        for (node_id id = 1; id <= 2; id++) EXPECT(bench_peek(bench, id, "kept") == 2);
        /* Once it knows that something was purged it answers only when it has all there is. */
        struct shard shard = rangemap_shard(bench->map, 0);
        struct replica *replica = bench->nodes[3].replica;
        bool knows = purge_purged_at(&replica->purge.purge, SLICE_LITERAL("kept")) != 0;
        if (knows && replica_is_complete(replica, &shard))
            EXPECT(bench_peek(bench, 3, "kept") == 2);
    }
    for (node_id id = 1; id <= 3; id++) {
        EXPECT(!holds(bench, id, "gone"));
        EXPECT(bench_peek(bench, id, "kept") == 2);
    }
    bench_destroy(bench);
}

/* Many, and crashes all the time: nothing that was swept is forgotten to have been. */
TEST_CASE(a_sweep_goes_on_after_a_crash)
{
    enum { WORDS = 60 };
    struct rangemap_settings settings = settings_of(3, 0);
    struct prng prng = {.state = test_seed};
    struct bench *bench = bench_create(3, &settings, NULL);
    char key[8];
    for (int i = 0; i < WORDS; i++) {
        snprintf(key, sizeof key, "w%02d", i);
        EXPECT(bench_put(bench, 1, key, 1)->reply.outcome == REQUEST_DONE);
        if (i % 3 != 0) remove_word(bench, 2, key);
    }
    bench_pass(bench, 10000);
    for (int turn = 0; turn < 12; turn++) {
        node_id id = (node_id)(1 + prng_below(&prng, 3));
        bench_pass(bench, 20 + prng_below(&prng, 8000));
        bench_kill(bench, id, SIM_DISK_POWER_LOSS);
        bench_pass(bench, 20 + prng_below(&prng, 500));
        bench_restart(bench, id);
    }
    bench_pass(bench, 3 * ROUND_MS);
    for (int i = 0; i < WORDS; i++) {
        snprintf(key, sizeof key, "w%02d", i);
        for (node_id id = 1; id <= 3; id++) {
            EXPECT(holds(bench, id, key) == (i % 3 == 0));
            if (i % 3 == 0) EXPECT(bench_peek(bench, id, key) == 1);
        }
    }
    bench_destroy(bench);
}

TEST_CASE(a_node_that_joins_learns_what_was_purged)
{
    struct rangemap_settings settings = settings_of(3, 0);
    struct bench *bench = bench_create(3, &settings, (const char *const[]){"g", "m", "t", NULL});
    static const char *const keys[] = {"a", "h", "n", "z"};
    for (size_t i = 0; i < 4; i++) {
        EXPECT(bench_put(bench, 1, keys[i], 1)->reply.outcome == REQUEST_DONE);
        if (i % 2 == 0) remove_word(bench, 1, keys[i]);
    }
    bench_pass(bench, 2 * ROUND_MS);
    for (node_id id = 1; id <= 3; id++) EXPECT(!holds(bench, id, "a"));
    bench_join(bench);
    bench_pass(bench, 3 * ROUND_MS);
    const struct rangemap *map = replica_map(bench->nodes[1].replica);
    size_t given = 0;
    for (size_t i = 0; i < 4; i++) {
        struct shard shard = rangemap_shard(map, rangemap_find(map, slice_from_text(keys[i])));
        EXPECT(shard.stage == SHARD_STABLE);
        for (node_id id = 1; id <= 4; id++) {
            bool owns = owners_contain(&shard.owners, id);
            EXPECT(holds(bench, id, keys[i]) == (owns && i % 2 == 1));
            if (!owns) continue;
            EXPECT(replica_is_complete(bench->nodes[id].replica, &shard));
            given += id == 4;
        }
        /* And goes on with that. */
        if (i % 2 == 1) remove_word(bench, 4, keys[i]);
    }
    EXPECT(given > 0);
    bench_pass(bench, 3 * ROUND_MS);
    for (node_id id = 1; id <= 4; id++)
        for (size_t i = 0; i < 4; i++) EXPECT(!holds(bench, id, keys[i]));
    bench_destroy(bench);
}

TEST_MAIN(TEST(a_deletion_that_all_owners_know_is_forgotten),
          TEST(what_is_added_to_a_forgotten_word_counts_from_what_is_forgotten),
          TEST(a_deletion_younger_than_the_least_age_stays),
          TEST(what_has_expired_is_forgotten_like_what_was_removed),
          TEST(nothing_is_forgotten_while_a_member_is_silent),
          TEST(nothing_is_forgotten_that_an_older_hint_may_bring_back),
          TEST(a_direct_write_that_is_older_than_the_promise_is_not_applied),
          TEST(a_write_that_meets_a_promise_is_stamped_again_above_it),
          TEST(what_was_purged_is_taken_from_nobody),
          TEST(a_disk_that_was_set_back_brings_nothing_back),
          TEST(a_value_from_an_old_disk_gives_way_to_one_that_is_older_than_the_purge_too),
          TEST(an_old_disk_with_an_older_value_takes_no_newer_one_away),
          TEST(an_empty_disk_is_no_evidence),
          TEST(what_is_on_its_way_keeps_nobody_from_being_complete_in_the_rest),
          TEST(a_sweep_goes_on_after_a_crash), TEST(a_node_that_joins_learns_what_was_purged))
