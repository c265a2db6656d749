/* Disks that are set back to a copy from before: what such a node finds out, from whom, and that nobody takes it
 * for one that has what it acknowledged. */
#include "cluster/outbox.h"
#include "node/replica_private.h"
#include "replica_bench.h"

static struct replica *replica_of(const struct bench *bench, node_id id)
{
    return bench->nodes[id].replica;
}

/* Of a process that has ended, with several starts after it that the copy does not know. */
static struct sim_disk_image *take_image(struct bench *bench, node_id id)
{
    bench_kill(bench, id, SIM_DISK_KILLED);
    struct sim_disk_image *image = sim_disk_image_take(bench->nodes[id].world.disk);
    for (int start = 0; start < 4; start++) { /* More than it will count by itself. */
        if (start > 0) bench_kill(bench, id, SIM_DISK_KILLED);
        bench_restart(bench, id);
        bench_pass(bench, 3000);
    }
    return image;
}

static void set_back(struct bench *bench, node_id id, struct sim_disk_image *image)
{
    bench_kill(bench, id, SIM_DISK_KILLED);
    sim_disk_restore(bench->nodes[id].world.disk, image);
    sim_disk_image_destroy(image);
    bench_restart(bench, id);
}

/* How far it can tell of the first shard. */
static enum data_verdict may_tell(const struct bench *bench, node_id id)
{
    struct replica *replica = replica_of(bench, id);
    struct shard shard = rangemap_shard(replica_map(replica), 0);
    return replica_serves(replica) ? replica_may_tell(replica, &shard, false) : DATA_INCOMPLETE;
}

/* What the others say of this is lost. */
static void hush(struct bench *bench, uint8_t protocol, bool mute)
{
    bench->mute[1][protocol] = bench->deaf[1][protocol] = mute;
    bench->mute[3][protocol] = bench->deaf[3][protocol] = mute;
}

/* Nothing was ever purged here. */
TEST_CASE(a_disk_that_was_set_back_answers_once_others_have_told_what_it_lacks)
{
    struct rangemap_settings settings = bench_settings(3, 3, 1);
    struct bench *bench = bench_create(3, &settings, NULL);
    struct sim_disk_image *image = take_image(bench, 2);
    EXPECT(bench_put(bench, 1, "w", 5)->reply.outcome == REQUEST_DONE);
    EXPECT(may_tell(bench, 2) == DATA_OK);

    hush(bench, PROTOCOL_BOOTS, true);
    hush(bench, PROTOCOL_REPAIR, true);
    set_back(bench, 2, image);
    bench_pass(bench, 1000);
    EXPECT(bench_peek(bench, 2, "w") == -1);
    /* It does not know yet. */
    EXPECT(!replica_of(bench, 2)->topology.away && !replica_of(bench, 2)->starts.rolled_back);
    EXPECT(may_tell(bench, 2) == DATA_INCOMPLETE);
    EXPECT(bench_get(bench, 2, "w", CONSISTENCY_ONE)->scores[0] == 5);

    hush(bench, PROTOCOL_BOOTS, false);
    bench_pass(bench, 5000);
    EXPECT(replica_of(bench, 2)->starts.rolled_back && may_tell(bench, 2) == DATA_INCOMPLETE);
    EXPECT(bench_get(bench, 2, "w", CONSISTENCY_ONE)->scores[0] == 5);
    /* The others knew of its fifth start, and take no news from one before. */
    const struct health_card *card = health_card_of(replica_of(bench, 1)->health, 2);
    EXPECT(card->boot > 5 && card->boot == replica_of(bench, 2)->self.boot);

    hush(bench, PROTOCOL_REPAIR, false);
    bench_pass(bench, 5000);
    EXPECT(may_tell(bench, 2) == DATA_OK && bench_peek(bench, 2, "w") == 5);

    /* Nobody records its starts any more: each begins with nothing that it could be sure of. */
    hush(bench, PROTOCOL_REPAIR, true);
    bench_kill(bench, 2, SIM_DISK_KILLED);
    bench_restart(bench, 2);
    bench_pass(bench, 1000);
    EXPECT(may_tell(bench, 2) == DATA_INCOMPLETE);
    bench_destroy(bench);
}

/* Two of three registrars are gone, which can neither refuse its start nor record it. */
TEST_CASE(a_start_that_nobody_is_there_to_record_answers)
{
    struct rangemap_settings settings = bench_settings(4, 2, 1);
    struct bench *bench = bench_create(4, &settings, NULL);
    EXPECT(bench_put(bench, 1, "w", 5)->reply.outcome == REQUEST_DONE);
    for (node_id id = 1; id <= 3; id++) {
        EXPECT(rangemap_is_registrar(bench->map, id));
        bench_kill(bench, id, SIM_DISK_KILLED);
    }
    bench_restart(bench, 3);
    bench_pass(bench, 1000);
    EXPECT(!replica_of(bench, 3)->topology.away && may_tell(bench, 3) == DATA_INCOMPLETE);
    bench_pass(bench, 20000);
    EXPECT(may_tell(bench, 3) == DATA_OK);
    bench_destroy(bench);
}

static unsigned sessions_of(const struct bench *bench, node_id id)
{
    return (unsigned)replica_of(bench, id)->repair.counts.complete_count;
}

/* Nodes 1 and 2 acknowledged a word, and node 2 was set back: nodes 2 and 3 are as many as it takes, and have
 * not got it. */
TEST_CASE(a_next_owner_is_not_filled_by_who_was_set_back)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_prepare(5, &settings, NULL);
    struct change change = {.kind = CHANGE_BEGIN, .next = {3, 4, 5}, .next_count = 3};
    bench_change(bench, &change);
    bench->mute[1][PROTOCOL_REPAIR] = bench->deaf[1][PROTOCOL_REPAIR] = true;
    bench_start_all(bench);
    replica_purge_rolled_back(replica_of(bench, 2));
    struct shard shard = rangemap_shard(replica_map(replica_of(bench, 4)), 0);
    EXPECT(owners_contain(&shard.owners, 1) && owners_contain(&shard.owners, 2) &&
           owners_contain(&shard.owners, 3) && shard.stage == SHARD_FILLING);
    unsigned before = sessions_of(bench, 4);
    bench_pass(bench, 20000);
    EXPECT(sessions_of(bench, 4) >= before + 4);
    for (node_id id = 4; id <= 5; id++) {
        shard = rangemap_shard(replica_map(replica_of(bench, id)), 0);
        EXPECT(shard.stage == SHARD_FILLING && !replica_is_filled(replica_of(bench, id), &shard));
    }
    bench->mute[1][PROTOCOL_REPAIR] = bench->deaf[1][PROTOCOL_REPAIR] = false;
    bench_pass(bench, 20000);
    shard = rangemap_shard(replica_map(replica_of(bench, 4)), 0);
    EXPECT(shard.stage == SHARD_STABLE && owners_contain(&shard.owners, 4));
    EXPECT(may_tell(bench, 4) == DATA_OK);
    bench_destroy(bench);
}

/* Two owners of three are excluded by force, and the third was set back: nobody has more than it has. */
TEST_CASE(who_is_left_alone_by_force_answers_with_what_it_has)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_prepare(6, &settings, NULL);
    bench_start_all(bench);
    bench_pass(bench, 2000);
    EXPECT(bench_put(bench, 1, "w", 5)->reply.outcome == REQUEST_DONE);
    bench_kill(bench, 1, SIM_DISK_KILLED);
    bench_kill(bench, 2, SIM_DISK_KILLED);
    replica_purge_rolled_back(replica_of(bench, 3));
    for (node_id id = 1; id <= 2; id++) {
        struct change change = {.kind = CHANGE_MEMBER_STATE,
                                .forced = true,
                                .member = {.id = id, .state = MEMBER_EXCLUDED}};
        replica_change(replica_of(bench, 3), &change);
    }
    bench_pass(bench, 60000);
    struct shard shard = rangemap_shard(replica_map(replica_of(bench, 3)), 0);
    EXPECT(shard.stage == SHARD_STABLE && !owners_contain(&shard.owners, 1) &&
           !owners_contain(&shard.owners, 2));
    EXPECT(bench_get(bench, 3, "w", CONSISTENCY_QUORUM)->scores[0] == 5);
    bench_destroy(bench);
}

static struct request increment_of(uint64_t client, uint64_t number, enum operation_attempt attempt)
{
    return (struct request){
        .kind = REQUEST_INCREMENT,
        .key = SLICE_LITERAL("w"),
        .score = 1,
        .timeout_ms = 1000,
        .operation = {.client = client, .number = number, .attempt = attempt, .map_number = 1}};
}

static enum operation_answer look_up(struct bench *bench, node_id id, uint64_t client,
                                     uint64_t number, enum operation_attempt attempt)
{
    struct request request = increment_of(client, number, attempt);
    struct operation_note note;
    return replica_operation_look(replica_of(bench, id), &request, &note);
}

/* Of two clients one had increments before the copy was taken. */
TEST_CASE(notes_that_went_with_a_disk_are_not_taken_for_increments_that_never_were)
{
    struct rangemap_settings settings = bench_settings(1, 1, 1);
    struct bench *bench = bench_create(3, &settings, NULL);
    struct request first = increment_of(70, 1, OPERATION_FIRST);
    EXPECT(bench_do(bench, 1, &first)->reply.outcome == REQUEST_DONE);
    EXPECT(look_up(bench, 1, 70, 1, OPERATION_RETRY) == OPERATION_AGAIN);
    struct sim_disk_image *image = take_image(bench, 1);
    for (uint64_t client = 70; client <= 71; client++) {
        struct request lost = increment_of(client, 2, OPERATION_FIRST);
        EXPECT(bench_do(bench, 1, &lost)->reply.outcome == REQUEST_DONE);
    }
    set_back(bench, 1, image);
    bench_pass(bench, 10000);
    EXPECT(replica_of(bench, 1)->starts.rolled_back);
    for (int restarted = 0; restarted < 2; restarted++) {
        EXPECT(look_up(bench, 1, 70, 1, OPERATION_RETRY) == OPERATION_AGAIN);
        for (uint64_t client = 70; client <= 71; client++) {
            EXPECT(look_up(bench, 1, client, 2, OPERATION_RETRY) == OPERATION_UNKNOWN);
            EXPECT(look_up(bench, 1, client, 3 + restarted, OPERATION_FIRST) == OPERATION_RUN);
            struct request next = increment_of(client, 3 + restarted, OPERATION_FIRST);
            EXPECT(bench_do(bench, 1, &next)->reply.outcome == REQUEST_DONE);
            EXPECT(look_up(bench, 1, client, 3, OPERATION_RETRY) == OPERATION_AGAIN);
            EXPECT(look_up(bench, 1, client, 5, OPERATION_RETRY) == OPERATION_RUN);
        }
        bench_kill(bench, 1, SIM_DISK_KILLED);
        bench_restart(bench, 1);
        bench_pass(bench, 10000);
    }
    bench_destroy(bench);
}

/* Else the only registrar that stays would be one that never votes. */
TEST_CASE(who_was_set_back_gives_way_as_a_registrar)
{
    struct rangemap_settings settings = bench_settings(2, 2, 1);
    struct bench *bench = bench_create(3, &settings, NULL);
    struct sim_disk_image *image = take_image(bench, 1);
    EXPECT(rangemap_is_registrar(replica_map(replica_of(bench, 2)), 1));
    set_back(bench, 1, image);
    bench_pass(bench, 10000);
    struct member self;
    const struct rangemap *map = replica_map(replica_of(bench, 2));
    EXPECT(rangemap_member_find(map, 1, &self) && self.forgot && !rangemap_is_registrar(map, 1));
    struct change leave = {.kind = CHANGE_MEMBER_LEAVING, .member = {.id = 2, .leaving = true}};
    replica_change(replica_of(bench, 3), &leave);
    bench_pass(bench, 30000);
    for (node_id id = 1; id <= 3; id += 2) {
        map = replica_map(replica_of(bench, id));
        EXPECT(!rangemap_member_find(map, 2, &self) && rangemap_is_registrar(map, 3));
    }
    bench_destroy(bench);
}

TEST_CASE(who_joins_knows_nothing_of_what_it_will_own)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct key_range all = {0};
    struct bench *bench = bench_create(3, &settings, NULL);
    bench_join(bench);
    EXPECT(purge_is_complete(&replica_of(bench, 1)->purge.purge, &all));
    EXPECT(!purge_is_complete(&replica_of(bench, 4)->purge.purge, &all));
    bench_destroy(bench);
}

/* The first start of a node, told to node 1. */
static void ask_to_record(struct bench *bench, node_id id)
{
    struct buf bytes = {.heap = &bench->heap};
    struct boots_message ask = {.kind = BOOTS_ASK,
                                .generation = replica_of(bench, 1)->topology.boots.map.generation,
                                .boot = {1000 + id, 1, 8}};
    buf_append_u64le(&bytes, bench_time(bench, 1).wall_ms);
    buf_append_u8(&bytes, PROTOCOL_BOOTS);
    boots_message_encode(&ask, &bytes);
    replica_message(replica_of(bench, 1), bench_time(bench, 1), id, buf_slice(&bytes));
    bench_settle(bench);
    buf_deinit(&bytes);
}

TEST_CASE(starts_of_members_are_recorded_while_they_are_members)
{
    struct rangemap_settings settings = bench_settings(1, 1, 1);
    struct bench *bench = bench_create(5, &settings, NULL);
    struct boots *boots = &replica_of(bench, 1)->topology.boots;
    ask_to_record(bench, 7);
    EXPECT(boots_record(boots, 7) == NULL);
    bench_pass(bench, 5000);
    EXPECT(boots_record(boots, 5) != NULL && boots->record_count == 4);
    struct change leave = {.kind = CHANGE_MEMBER_LEAVING, .member = {.id = 5, .leaving = true}};
    replica_change(replica_of(bench, 1), &leave);
    bench_pass(bench, 20000);
    struct member gone;
    EXPECT(!rangemap_member_find(replica_map(replica_of(bench, 1)), 5, &gone));
    EXPECT(boots_record(boots, 5) == NULL && boots->record_count == 3);
    bench_kill(bench, 1, SIM_DISK_KILLED);
    bench_restart(bench, 1);
    boots = &replica_of(bench, 1)->topology.boots;
    EXPECT(boots_record(boots, 5) == NULL && boots_record(boots, 4) != NULL);
    bench_destroy(bench);
}

/* It starts with a number that it had before. What it hands on to owners is no repetition of what it did then. */
TEST_CASE(what_a_node_hands_on_after_its_disk_was_set_back_is_done)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(4, &settings, NULL);
    bench_kill(bench, 4, SIM_DISK_KILLED);
    struct sim_disk_image *image = sim_disk_image_take(bench->nodes[4].world.disk);
    bench_restart(bench, 4);
    bench_pass(bench, 3000);
    for (int i = 0; i < 20; i++) EXPECT(bench_put(bench, 4, "w", i)->reply.outcome == REQUEST_DONE);
    set_back(bench, 4, image);
    bench_pass(bench, 3000);
    for (int i = 0; i < 20; i++) EXPECT(bench_put(bench, 4, "w", i)->reply.outcome == REQUEST_DONE);
    bench_destroy(bench);
}

TEST_MAIN(TEST(what_a_node_hands_on_after_its_disk_was_set_back_is_done),
          TEST(a_disk_that_was_set_back_answers_once_others_have_told_what_it_lacks),
          TEST(a_start_that_nobody_is_there_to_record_answers),
          TEST(a_next_owner_is_not_filled_by_who_was_set_back),
          TEST(who_is_left_alone_by_force_answers_with_what_it_has),
          TEST(notes_that_went_with_a_disk_are_not_taken_for_increments_that_never_were),
          TEST(who_was_set_back_gives_way_as_a_registrar),
          TEST(who_joins_knows_nothing_of_what_it_will_own),
          TEST(starts_of_members_are_recorded_while_they_are_members))
