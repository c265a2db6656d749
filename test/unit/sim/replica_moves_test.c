/* Maps at work: what a node keeps of older ones, who is waited for, who is fenced, and how shards
 * come to other owners whatever happens meanwhile. */
#include "node/replica_private.h"
#include "replica_bench.h"

static const char *const eight_cuts[] = {"d", "g", "j", "m", "p", "s", "v", NULL};

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
    struct rangemap_settings settings = bench_settings(3, 2, 2);
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
    EXPECT(repair_begin(&replica->repair, 2, REPAIR_SETTLED, bench->now_ms, &replica->outbox));
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

/* What a map changes is nothing to these two. */
TEST_CASE(nodes_compare_what_both_share_by_different_maps)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(4, &settings, NULL);
    struct replica *replica = replica_of(bench, 1);
    struct change change = stranger(2000);
    bench->deaf[3][PROTOCOL_TOPOLOGY] = bench->deaf[3][PROTOCOL_REGISTER] = true;
    replica_change(replica, &change);
    for (int turn = 0; turn < 100 && number_at(bench, 1) == number_at(bench, 3); turn++)
        bench_pass(bench, 20);
    EXPECT(number_at(bench, 1) > number_at(bench, 3));
    bench->mute[2][PROTOCOL_REPAIR] = bench->deaf[2][PROTOCOL_REPAIR] = true;
    uint64_t complete = replica->repair.counts.complete_count;
    bench_pass(bench, 5000);
    EXPECT(number_at(bench, 1) > number_at(bench, 3));
    EXPECT(replica->repair.counts.complete_count > complete);
    bench_destroy(bench);
}

/* Which shard it gives up next, having compared what it has: -1, none. */
static int gives_up(struct bench *bench, node_id id)
{
    const struct replica *replica = replica_of(bench, id);
    for (size_t i = 0; i < rangemap_shard_count(replica->map); i++) {
        struct shard shard = rangemap_shard(replica->map, i);
        if (shard.stage != SHARD_SWITCHED || !owners_contain(&shard.owners, id)) continue;
        const struct filling *filling = replica_filling(replica, shard.low);
        if (filling != NULL && filling->synced) return (int)i;
    }
    return -1;
}

/* Somebody may go by a map that this node missed, and take it for an owner still. */
TEST_CASE(what_was_owned_stays_under_maps_that_a_node_missed)
{
    struct rangemap_settings settings = bench_settings(1, 1, 1);
    struct bench *bench = bench_create(3, &settings, eight_cuts);
    put_words(bench, 1, 26);
    bench_join(bench);
    node_id giver = 0;
    int given = -1;
    for (int turn = 0; turn < 2000 && given == -1; turn++) {
        bench_pass(bench, 20);
        giver = 1 + giver % 3;
        given = gives_up(bench, giver);
    }
    EXPECT(given != -1);
    const struct replica *replica = replica_of(bench, giver);
    uint64_t before = number_at(bench, giver);
    node_id other = 1 + giver % 3;
    bench->mapless[giver] = bench->deaf[giver][PROTOCOL_REGISTER] = true;
    struct shard shard;
    for (int turn = 0; turn < 2000; turn++) {
        bench_pass(bench, 20);
        shard = rangemap_shard(replica_map(replica_of(bench, other)), (size_t)given);
        if (!owners_contain(&shard.owners, giver)) break;
    }
    EXPECT(!owners_contain(&shard.owners, giver));
    struct change change = stranger(2000);
    replica_change(replica_of(bench, other), &change);
    for (int turn = 0; turn < 2000 && number_at(bench, other) < before + 2; turn++)
        bench_pass(bench, 20);
    EXPECT(number_at(bench, giver) == before && number_at(bench, other) >= before + 2);
    EXPECT(replica->topology.older_count == 0);
    bench->mapless[giver] = bench->deaf[giver][PROTOCOL_REGISTER] = false;
    for (int turn = 0; turn < 2000 && number_at(bench, giver) == before; turn++)
        bench_pass(bench, 20);
    EXPECT(replica->topology.older_count == 1);
    EXPECT(replica->topology.older[0].number == number_at(bench, giver) - 1);
    bench_destroy(bench);
}

/* A shard has gone to another node, and not everybody has said that they know. */
TEST_CASE(a_start_knows_what_it_owned_under_older_maps)
{
    enum { WORDS = 26 };
    struct rangemap_settings settings = bench_settings(1, 1, 1);
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

/* --- Hints and what is left behind --- */

static enum shard_stage stage_at(const struct bench *bench, node_id id)
{
    return rangemap_shard(replica_map(replica_of(bench, id)), 0).stage;
}

static bool pass_until_stage(struct bench *bench, node_id id, enum shard_stage stage)
{
    for (int turn = 0; turn < 3000 && stage_at(bench, id) != stage; turn++) bench_pass(bench, 20);
    return stage_at(bench, id) == stage;
}

/* The one shard is to be moved to these. */
static void begin_move(struct bench *bench, node_id a, node_id b, node_id c)
{
    struct change change = {.kind = CHANGE_BEGIN, .next = {a, b, c}};
    change.next_count = c == 0 ? (b == 0 ? 1 : 2) : 3;
    bench_change(bench, &change);
}

/* Keeps a record at one node as a hint for another, as a stand-in does, or as its own word. */
static void keep_alone(struct bench *bench, node_id id, node_id owner, const char *key,
                       double score)
{
    struct record record =
        record_of_set((struct version){(1000000 + bench->now_ms) << 16, 7}, score);
    if (owner != 0) {
        EXPECT(replica_hint_keep(replica_of(bench, id), owner, slice_from_text(key), &record));
    } else {
        struct store_write write = {
            .kind = STORE_MERGE, .key = slice_from_text(key), .record = &record};
        struct store_outcome outcome;
        replica_store_write(replica_of(bench, id), &write, &outcome);
        EXPECT(outcome.status == STATUS_OK);
    }
    bench_settle(bench);
}

/* A word was acknowledged by node 1 and by node 5, which stood in for node 2; then node 1 lost it.
 * Only the hint is left, and node 2 takes none. */
TEST_CASE(a_next_owner_gets_what_others_are_owed_before_it_counts_as_filled)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    settings.sloppy_quorum = true;
    struct bench *bench = bench_prepare(6, &settings, NULL);
    begin_move(bench, 2, 3, 6);
    bench->deaf[2][PROTOCOL_DATA] = true;
    bench_start_all(bench);
    keep_alone(bench, 5, 2, "w", 7);
    bench->cut[5][6] = true;
    bench_pass(bench, 20000);
    EXPECT(stage_at(bench, 1) == SHARD_SWITCHED); /* For 2 and 3, which stay, are enough. */
    bench->cut[5][6] = false;
    EXPECT(pass_until_stage(bench, 1, SHARD_STABLE));
    EXPECT(bench_peek(bench, 6, "w") == 7);
    bench->deaf[2][PROTOCOL_DATA] = false;
    bench_pass(bench, 20000);
    EXPECT(bench_peek(bench, 2, "w") == 7 && bench_peek(bench, 1, "w") == -1);
    bench_destroy(bench);
}

/* With factor 1 the one that stays answers alone: what was written to the two others only it must
 * have by then. */
TEST_CASE(who_stays_as_the_only_owner_has_what_the_others_acknowledged)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_prepare(3, &settings, NULL);
    struct change change = {.kind = CHANGE_SETTINGS, .settings = bench_settings(1, 0, 0)};
    bench_change(bench, &change);
    begin_move(bench, 3, 0, 0);
    bench->mute[3][PROTOCOL_REPAIR] = bench->deaf[3][PROTOCOL_REPAIR] = true;
    bench_start_all(bench);
    keep_alone(bench, 1, 0, "w", 7);
    keep_alone(bench, 2, 0, "w", 7);
    bench_pass(bench, 20000);
    EXPECT(stage_at(bench, 1) == SHARD_FILLING);
    bench->mute[3][PROTOCOL_REPAIR] = bench->deaf[3][PROTOCOL_REPAIR] = false;
    EXPECT(pass_until_stage(bench, 1, SHARD_SWITCHED));
    EXPECT(bench_get(bench, 2, "w", CONSISTENCY_QUORUM)->scores[0] == 7);
    EXPECT(pass_until_stage(bench, 1, SHARD_STABLE));
    bench_pass(bench, 20000);
    EXPECT(bench_peek(bench, 3, "w") == 7 && bench_peek(bench, 1, "w") == -1);
    bench_destroy(bench);
}

/* What node 1 and node 3 acknowledged would lie at node 1 alone once node 3 is gone. */
TEST_CASE(who_stays_while_others_only_go_takes_the_copies_that_they_had)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_prepare(3, &settings, NULL);
    struct change change = {.kind = CHANGE_SETTINGS, .settings = bench_settings(2, 2, 2)};
    bench_change(bench, &change);
    begin_move(bench, 1, 2, 0);
    bench->mute[2][PROTOCOL_REPAIR] = bench->deaf[2][PROTOCOL_REPAIR] = true;
    bench_start_all(bench);
    keep_alone(bench, 1, 0, "w", 7);
    keep_alone(bench, 3, 0, "w", 7);
    bench_pass(bench, 20000);
    EXPECT(stage_at(bench, 1) == SHARD_FILLING);
    bench->mute[2][PROTOCOL_REPAIR] = bench->deaf[2][PROTOCOL_REPAIR] = false;
    EXPECT(pass_until_stage(bench, 1, SHARD_SWITCHED));
    EXPECT(bench_peek(bench, 1, "w") == 7 && bench_peek(bench, 2, "w") == 7);
    EXPECT(pass_until_stage(bench, 1, SHARD_STABLE));
    bench_destroy(bench);
}

/* A record has room for some slots only: many keys that go take no more than one. */
TEST_CASE(what_is_swept_in_many_turns_takes_one_slot)
{
    enum { WORDS = 700 };
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_prepare(5, &settings, NULL);
    begin_move(bench, 2, 3, 5);
    bench_start_all(bench);
    for (uint32_t i = 0; i < WORDS; i++) {
        char key[16];
        snprintf(key, sizeof key, "w%03u", i);
        EXPECT(bench_put(bench, 2, key, i)->reply.outcome == REQUEST_DONE);
    }
    EXPECT(pass_until_stage(bench, 2, SHARD_STABLE));
    bench_pass(bench, 20000);
    EXPECT(bench_peek(bench, 1, "w000") == -1 && bench_peek(bench, 1, "w699") == -1);
    EXPECT(replica_of(bench, 1)->slot_count == 1);
    bench_destroy(bench);
}

/* Hints for who owns the keys no more take all the room there is. They go to the owners all the same. */
TEST_CASE(hints_that_fill_the_room_go_to_the_owners_of_their_keys)
{
    enum { ROOM = 8 };
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(4, &settings, NULL);
    struct replica *replica = replica_of(bench, 1);
    struct record record = record_of_set((struct version){UINT64_C(1000000) << 16, 7}, 1);
    replica->hints_max = ROOM;
    for (uint32_t i = 0; i < ROOM; i++)
        EXPECT(replica_hint_keep(replica, 4, slice_of(&"abcdefgh"[i], 1), &record));
    EXPECT(!replica_hint_keep(replica, 2, SLICE_LITERAL("i"), &record));
    bench_pass(bench, 3000);
    EXPECT(bench_peek(bench, 2, "a") == 1 && bench_peek(bench, 3, "h") == 1);
    EXPECT(replica_hint_total(replica) == 0);
    bench_destroy(bench);
}

/* Readers ask the next owners when two of them are filled, here node 2, which has all it needs, and node 6.
 * The third is not, be it one that comes or, where one owner answers alone, one that stays. */
static void read_at_all(node_id third, uint8_t read_quorum)
{
    struct rangemap_settings settings = bench_settings(3, 2, read_quorum);
    struct bench *bench = bench_prepare(6, &settings, NULL);
    begin_move(bench, 2, third, 6);
    bench->mute[third][PROTOCOL_REPAIR] = bench->deaf[third][PROTOCOL_REPAIR] = true;
    bench_start_all(bench);
    EXPECT(bench_put(bench, 4, "w", 5)->reply.outcome == REQUEST_DONE);
    EXPECT(pass_until_stage(bench, 4, SHARD_SWITCHED));
    bench_pass(bench, 5000);
    EXPECT(stage_at(bench, 4) == SHARD_SWITCHED);
    struct shard shard = rangemap_shard(replica_map(replica_of(bench, third)), 0);
    EXPECT(replica_may_tell(replica_of(bench, third), &shard, false) == DATA_UNFILLED);
    for (node_id id = 1; id <= 6; id++) {
        uint64_t before = bench->now_ms;
        const struct bench_reply *reply = bench_get(bench, id, "w", CONSISTENCY_ALL);
        EXPECT(reply->reply.outcome == REQUEST_DONE && reply->scores[0] == 5);
        EXPECT(bench->now_ms - before < READ_PATIENCE_MS);
    }
    /* One that goes is silent for a while: over that it is not forgotten that the one that comes is not filled. */
    bench->deaf[1][PROTOCOL_DATA] = true;
    uint64_t before = bench->sent[4][5][PROTOCOL_DATA];
    uint64_t asked = bench_ask(bench, 4,
                               &(struct request){.kind = REQUEST_GET,
                                                 .key = SLICE_LITERAL("w"),
                                                 .has_consistency = true,
                                                 .consistency = CONSISTENCY_ALL});
    bench_pass(bench, 5 * READ_PATIENCE_MS);
    if (third == 5) EXPECT(bench->sent[4][5][PROTOCOL_DATA] == before + 1);
    bench->deaf[1][PROTOCOL_DATA] = false;
    bench_pass(bench, 2000);
    EXPECT(bench_reply(bench, asked)->reply.outcome == REQUEST_DONE);
    bench_destroy(bench);
}

TEST_CASE(a_read_at_all_asks_those_that_go_while_one_that_comes_is_not_filled)
{
    read_at_all(5, 2);
}

TEST_CASE(a_read_at_all_asks_who_stays_although_it_is_not_filled)
{
    read_at_all(3, 1);
}

/* What one owner alone holds was acknowledged to somebody who asked for no more: it does not go with
 * the owner. */
TEST_CASE(who_goes_leaves_nothing_behind)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_prepare(5, &settings, NULL);
    begin_move(bench, 2, 3, 5);
    bench->mute[1][PROTOCOL_REPAIR] = bench->deaf[1][PROTOCOL_REPAIR] = true;
    bench_start_all(bench);
    keep_alone(bench, 1, 0, "w", 7);
    EXPECT(pass_until_stage(bench, 2, SHARD_SWITCHED));
    bench_pass(bench, 20000);
    EXPECT(stage_at(bench, 2) == SHARD_SWITCHED);
    bench->mute[1][PROTOCOL_REPAIR] = bench->deaf[1][PROTOCOL_REPAIR] = false;
    EXPECT(pass_until_stage(bench, 2, SHARD_STABLE));
    bench_pass(bench, 20000);
    EXPECT(bench_peek(bench, 1, "w") == -1);
    for (node_id id = 2; id <= 5; id += id == 3 ? 2 : 1) EXPECT(bench_peek(bench, id, "w") == 7);
    bench_destroy(bench);
}

TEST_CASE(a_member_that_leaves_stays_until_its_hints_are_delivered)
{
    struct rangemap_settings settings = bench_settings(2, 2, 1);
    struct bench *bench = bench_create(4, &settings, NULL);
    struct change leave = {.kind = CHANGE_MEMBER_LEAVING, .member = {.id = 4, .leaving = true}};
    struct member member;
    bench->cut[4][2] = true;
    keep_alone(bench, 4, 2, "w", 7);
    replica_change(replica_of(bench, 1), &leave);
    bench_pass(bench, 20000);
    EXPECT(rangemap_member_find(replica_map(replica_of(bench, 1)), 4, &member) && member.leaving);
    bench->cut[4][2] = false;
    bench_pass(bench, 20000);
    EXPECT(bench_peek(bench, 2, "w") == 7);
    EXPECT(!rangemap_member_find(replica_map(replica_of(bench, 1)), 4, &member));
    bench_destroy(bench);
}

/* --- Who asks for too much --- */

TEST_CASE(directories_that_never_come_keep_no_others_out)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(3, &settings, NULL);
    struct replica *replica = replica_of(bench, 1);
    for (node_id id = 2; id <= 3; id++) bench->cut[id][1] = true; /* Nothing is decided. */
    for (uint64_t i = 0; i < 100; i++) {
        struct change change = stranger(2000 + i);
        replica_moves_join(replica, &change.member, 0);
    }
    EXPECT(replica->moves.wish_count == REPLICA_WISHES_MAX);
    struct change leave = {.kind = CHANGE_MEMBER_LEAVING, .member = {.id = 3, .leaving = true}};
    replica_change(replica, &leave);
    EXPECT(replica->moves.wish_count == REPLICA_WISHES_MAX + 1);
    bench_pass(bench, 15000);
    EXPECT(replica->moves.wish_count == 1);
    bench_destroy(bench);
}

/* A report that is not told again is not believed for ever: the node may have lost what it had. */
static bool has_heard_of(const struct bench *bench, node_id id, node_id node)
{
    const struct replica_moves *moves = &replica_of(bench, id)->moves;
    for (size_t i = 0; i < moves->heard_count; i++)
        if (moves->heard[i].node == node) return true;
    return false;
}

TEST_CASE(a_report_counts_while_it_is_told)
{
    struct rangemap_settings settings = bench_settings(2, 2, 1);
    struct bench *bench = bench_prepare(5, &settings, NULL);
    begin_move(bench, 3, 4, 0);
    bench->mute[4][PROTOCOL_REPAIR] = bench->deaf[4][PROTOCOL_REPAIR] = true;
    bench_start_all(bench);
    bench_pass(bench, 5000);
    EXPECT(has_heard_of(bench, 1, 3) && !has_heard_of(bench, 1, 4));
    bench->mute[3][PROTOCOL_TOPOLOGY] = true;
    bench_pass(bench, 12000);
    EXPECT(!has_heard_of(bench, 1, 3));
    bench_destroy(bench);
}

/* --- Suspended --- */

static enum member_state state_at(const struct bench *bench, node_id id, node_id member)
{
    struct member found = {.state = MEMBER_EXCLUDED};
    rangemap_member_find(replica_map(replica_of(bench, id)), member, &found);
    return found.state;
}

static void cut_off(struct bench *bench, node_id id, bool cut)
{
    for (node_id other = 1; other <= bench->node_count; other++)
        bench->cut[id][other] = bench->cut[other][id] = cut;
}

TEST_CASE(a_member_that_is_silent_is_suspended_and_nothing_waits_for_it)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_prepare(5, &settings, NULL);
    begin_move(bench, 2, 3, 5);
    cut_off(bench, 4, true);
    bench_start_all(bench);
    bench_pass(bench, 20000);
    EXPECT(stage_at(bench, 1) == SHARD_FILLING && state_at(bench, 1, 4) == MEMBER_ACTIVE);
    EXPECT(pass_until_stage(bench, 1, SHARD_STABLE));
    EXPECT(state_at(bench, 1, 4) == MEMBER_SUSPENDED);
    cut_off(bench, 4, false);
    bench_pass(bench, 10000);
    EXPECT(state_at(bench, 1, 4) == MEMBER_ACTIVE && number_at(bench, 4) == number_at(bench, 1));
    bench_destroy(bench);
}

/* It owned the shard when it was cut off, and nobody could tell it that it does not any more. */
TEST_CASE(a_node_that_may_have_been_left_behind_serves_nothing)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_prepare(6, &settings, NULL);
    struct request get = {.kind = REQUEST_GET, .key = SLICE_LITERAL("w"), .has_consistency = true};
    struct request put = {
        .kind = REQUEST_SET, .key = SLICE_LITERAL("w"), .score = 2, .has_consistency = true};
    begin_move(bench, 4, 5, 6);
    bench_start_all(bench);
    EXPECT(bench_put(bench, 1, "w", 1)->reply.outcome == REQUEST_DONE);
    bench_kill(bench, 1, SIM_DISK_KILLED);
    EXPECT(pass_until_stage(bench, 2, SHARD_STABLE));
    EXPECT(state_at(bench, 2, 1) == MEMBER_SUSPENDED);
    EXPECT(bench_put(bench, 4, "w", 3)->reply.outcome == REQUEST_DONE);

    cut_off(bench, 1, true);
    bench_restart(bench, 1);
    EXPECT(bench_do(bench, 1, &get)->reply.outcome != REQUEST_DONE);
    EXPECT(bench_do(bench, 1, &put)->reply.outcome != REQUEST_DONE);
    bench_pass(bench, 20000);
    EXPECT(bench_do(bench, 1, &get)->reply.outcome != REQUEST_DONE);
    cut_off(bench, 1, false);
    bench_pass(bench, 10000);
    EXPECT(bench_do(bench, 1, &get)->scores[0] == 3);
    EXPECT(state_at(bench, 1, 1) == MEMBER_ACTIVE);
    bench_destroy(bench);
}

/* One of two owners is silent, and readers ask one: it might be that one. To exclude it is to say that
 * it answers nobody. */
TEST_CASE(a_stage_waits_for_a_silent_owner_that_could_answer_alone)
{
    struct rangemap_settings settings = bench_settings(2, 2, 1);
    struct bench *bench = bench_prepare(5, &settings, NULL);
    begin_move(bench, 3, 4, 0);
    cut_off(bench, 2, true);
    bench_start_all(bench);
    bench_pass(bench, 60000);
    EXPECT(state_at(bench, 1, 2) == MEMBER_SUSPENDED);
    EXPECT(stage_at(bench, 1) == SHARD_FILLING);
    struct change exclude = {.kind = CHANGE_MEMBER_STATE,
                             .member = {.id = 2, .state = MEMBER_EXCLUDED}};
    replica_change(replica_of(bench, 1), &exclude);
    EXPECT(pass_until_stage(bench, 1, SHARD_STABLE));
    bench_pass(bench, 10000);
    struct member gone;
    EXPECT(!rangemap_member_find(replica_map(replica_of(bench, 1)), 2, &gone));
    bench_destroy(bench);
}

/* The shard was to come to a node that dies: it comes to another one. */
TEST_CASE(a_move_to_a_node_that_falls_silent_is_taken_back)
{
    struct rangemap_settings settings = bench_settings(2, 2, 2);
    struct bench *bench = bench_prepare(4, &settings, NULL);
    struct change leave = {.kind = CHANGE_MEMBER_LEAVING, .member = {.id = 2, .leaving = true}};
    bench_change(bench, &leave);
    begin_move(bench, 1, 4, 0);
    bench_start_all(bench);
    EXPECT(bench_put(bench, 1, "w", 1)->reply.outcome == REQUEST_DONE);
    bench_kill(bench, 4, SIM_DISK_KILLED);
    bench_pass(bench, 80000);
    struct shard shard = rangemap_shard(replica_map(replica_of(bench, 1)), 0);
    EXPECT(shard.stage == SHARD_STABLE && owners_contain(&shard.owners, 1));
    EXPECT(owners_contain(&shard.owners, 3) && bench_peek(bench, 3, "w") == 1);
    bench_destroy(bench);
}

/* --- Excluded --- */

static uint64_t sent_by(const struct bench *bench, node_id id)
{
    uint64_t count = 0;
    for (node_id to = 1; to <= bench->node_count; to++)
        for (size_t i = 0; i < BENCH_PROTOCOLS; i++) count += bench->sent[id][to][i];
    return count;
}

static uint64_t sent_to(const struct bench *bench, node_id id)
{
    uint64_t count = 0;
    for (node_id from = 1; from <= bench->node_count; from++)
        for (size_t i = 0; i < BENCH_PROTOCOLS; i++)
            if (i != PROTOCOL_TOPOLOGY) count += bench->sent[from][id][i];
    return count;
}

/* It heard alone of the map by which it has left, and died. Where others need it to be allowed to vote after
 * their own starts nobody else could ever find out. */
TEST_CASE(who_has_left_tells_it_to_those_that_still_count_on_it)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(4, &settings, NULL);
    struct change leave = {.kind = CHANGE_MEMBER_LEAVING, .member = {.id = 4, .leaving = true}};
    struct change remove = {.kind = CHANGE_MEMBER_REMOVE, .member = {.id = 4}};
    bench_change(bench, &leave);
    bench_change(bench, &remove);
    struct buf map = {.heap = &bench->heap}, bytes = {.heap = &bench->heap};
    rangemap_encode(bench->map, &map);
    buf_append_u64le(&bytes, bench_time(bench, 1).wall_ms);
    buf_append_u8(&bytes, PROTOCOL_TOPOLOGY);
    topology_message_encode(
        &(struct topology_message){.kind = TOPOLOGY_MAP, .map = buf_slice(&map)}, &bytes);
    for (node_id id = 1; id <= 3; id++) bench->deaf[id][PROTOCOL_DATA] = true;
    struct request get = {.kind = REQUEST_GET, .key = SLICE_LITERAL("w")};
    uint64_t asked = bench_ask(bench, 4, &get);
    replica_message(replica_of(bench, 4), bench_time(bench, 4), 1, buf_slice(&bytes));
    bench_pass(bench, 20);
    EXPECT(bench_reply(bench, asked)->reply.outcome == REQUEST_NO_HEALTHY_OWNER);
    uint64_t left = rangemap_identity(bench->map)->number;
    EXPECT(number_at(bench, 4) == left && number_at(bench, 1) < left);
    EXPECT(store_world_sync(&bench->nodes[4].world) == STATUS_OK);
    bench_kill(bench, 4, SIM_DISK_KILLED);
    bench_restart(bench, 4);
    EXPECT(number_at(bench, 4) == left);
    bench_pass(bench, 5000);
    for (node_id id = 1; id <= 3; id++) EXPECT(number_at(bench, id) >= left);
    EXPECT(bench_do(bench, 4, &get)->reply.outcome == REQUEST_NO_HEALTHY_OWNER);
    buf_deinit(&map);
    buf_deinit(&bytes);
    bench_destroy(bench);
}

TEST_CASE(an_excluded_node_does_nothing_once_it_knows)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(4, &settings, NULL);
    struct change exclude = {.kind = CHANGE_MEMBER_STATE,
                             .member = {.id = 3, .state = MEMBER_EXCLUDED}};
    EXPECT(bench_put(bench, 1, "w", 1)->reply.outcome == REQUEST_DONE);
    replica_change(replica_of(bench, 1), &exclude);
    bench_pass(bench, 10000);
    EXPECT(replica_change(replica_of(bench, 1), &exclude));
    struct request get = {.kind = REQUEST_GET, .key = SLICE_LITERAL("w")};
    struct request put = {.kind = REQUEST_SET, .key = SLICE_LITERAL("w"), .score = 2};
    EXPECT(bench_do(bench, 3, &get)->reply.outcome == REQUEST_NO_HEALTHY_OWNER);
    EXPECT(bench_do(bench, 3, &put)->reply.outcome == REQUEST_NO_HEALTHY_OWNER);
    uint64_t sent = sent_by(bench, 3);
    bench_pass(bench, 30000);
    EXPECT(sent_by(bench, 3) == sent);
    /* What it owned has another owner, and it is a member no more. */
    struct shard shard = rangemap_shard(replica_map(replica_of(bench, 1)), 0);
    EXPECT(owners_contain(&shard.owners, 4) && bench_peek(bench, 4, "w") == 1);
    struct member gone;
    EXPECT(!rangemap_member_find(replica_map(replica_of(bench, 1)), 3, &gone));
    bench_destroy(bench);
}

TEST_CASE(an_excluded_node_that_does_not_know_is_told_so_and_gets_no_answer)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(4, &settings, NULL);
    struct change exclude = {.kind = CHANGE_MEMBER_STATE,
                             .member = {.id = 3, .state = MEMBER_EXCLUDED}};
    struct request put = {.kind = REQUEST_SET, .key = SLICE_LITERAL("w"), .score = 2};
    bench->mapless[3] = bench->deaf[3][PROTOCOL_REGISTER] = true;
    replica_change(replica_of(bench, 1), &exclude);
    bench_pass(bench, 5000);
    EXPECT(state_at(bench, 1, 3) == MEMBER_EXCLUDED && state_at(bench, 3, 3) == MEMBER_ACTIVE);
    uint64_t sent = sent_to(bench, 3);
    bench_pass(bench, 5000);
    EXPECT(bench_do(bench, 3, &put)->reply.outcome != REQUEST_DONE);
    EXPECT(sent_to(bench, 3) == sent);
    EXPECT(!replica_is_kept_out(replica_of(bench, 3)));
    bench->mapless[3] = false;
    bench_pass(bench, 5000);
    EXPECT(replica_is_kept_out(replica_of(bench, 3)));
    bench_destroy(bench);
}

TEST_CASE(too_many_owners_are_excluded_by_force_only)
{
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(6, &settings, eight_cuts);
    struct change exclude = {.kind = CHANGE_MEMBER_STATE,
                             .member = {.id = 5, .state = MEMBER_EXCLUDED}};
    const struct replica *replica = replica_of(bench, 1);
    put_words(bench, 1, 26);
    for (node_id id = 4; id <= 6; id++) bench_kill(bench, id, SIM_DISK_KILLED);
    EXPECT(replica_next_at_risk(replica, 5, 0) == rangemap_shard_count(replica_map(replica)));
    replica_change(replica_of(bench, 1), &exclude);
    bench_pass(bench, 3000);
    /* The registrars 4 and 5 of five are gone: two more and there is no majority. */
    EXPECT(state_at(bench, 1, 5) == MEMBER_EXCLUDED);
    exclude.member.id = 4;
    size_t count = 0, index = 0;
    for (; index < rangemap_shard_count(replica_map(replica)); index++) {
        index = replica_next_at_risk(replica, 4, index);
        if (index == rangemap_shard_count(replica_map(replica))) break;
        struct shard shard = rangemap_shard(replica_map(replica), index);
        EXPECT(owners_contain(&shard.owners, 4) && owners_contain(&shard.owners, 5));
        count++;
    }
    EXPECT(count > 0);
    replica_change(replica_of(bench, 1), &exclude);
    bench_pass(bench, 3000);
    EXPECT(state_at(bench, 1, 4) == MEMBER_ACTIVE);
    exclude.forced = true;
    replica_change(replica_of(bench, 1), &exclude);
    bench_pass(bench, 3000);
    EXPECT(state_at(bench, 1, 4) == MEMBER_EXCLUDED);
    bench_destroy(bench);
}

/* --- Replaced, and lost --- */

static void expect_replaced(struct bench *bench, node_id gone, uint32_t words)
{
    const struct rangemap *map = replica_map(replica_of(bench, 1));
    struct member member;
    EXPECT(!rangemap_member_find(map, gone, &member));
    for (size_t i = 0; i < rangemap_shard_count(map); i++) {
        struct shard shard = rangemap_shard(map, i);
        EXPECT(shard.stage == SHARD_STABLE && shard.owners.count == 2);
    }
    for (uint32_t i = 0; i < words; i++) {
        char key[16];
        word_of(i, key);
        EXPECT(bench_get(bench, 1, key, CONSISTENCY_QUORUM)->scores[0] == i);
    }
}

TEST_CASE(a_dead_member_is_replaced_by_one_that_joins_for_it)
{
    struct rangemap_settings settings = bench_settings(2, 2, 1);
    struct bench *bench = bench_create(3, &settings, eight_cuts);
    put_words(bench, 1, 26);
    bench_kill(bench, 3, SIM_DISK_KILLED);
    bench_pass(bench, 40000);
    EXPECT(state_at(bench, 1, 3) == MEMBER_SUSPENDED);
    uint64_t before = number_at(bench, 1);
    bench_join_for(bench, 1, 3);
    EXPECT(number_at(bench, 1) == before + 1); /* By one change. */
    EXPECT(state_at(bench, 1, 3) == MEMBER_EXCLUDED && state_at(bench, 1, 4) == MEMBER_ACTIVE);
    bench_pass(bench, 60000);
    expect_replaced(bench, 3, 26);
    bench_destroy(bench);
}

TEST_CASE(a_living_member_hands_over_to_the_one_that_replaces_it)
{
    struct rangemap_settings settings = bench_settings(2, 2, 1);
    struct bench *bench = bench_create(3, &settings, eight_cuts);
    put_words(bench, 1, 26);
    bench_join_for(bench, 1, 3);
    EXPECT(state_at(bench, 1, 3) == MEMBER_ACTIVE);
    bench_pass(bench, 60000);
    expect_replaced(bench, 3, 26);
    bench_destroy(bench);
}

static uint64_t generation_at(const struct bench *bench, node_id id)
{
    return rangemap_identity(replica_map(replica_of(bench, id)))->generation;
}

static enum status recover_at(struct bench *bench, node_id id, const node_id *lost, size_t count)
{
    const char *why = NULL;
    enum status status =
        replica_recover(replica_of(bench, id), bench_time(bench, id), lost, count, &why);
    EXPECT((status == STATUS_OK) == (why == NULL));
    bench_settle(bench);
    return status;
}

/* Three of five registrars are gone: no map can be agreed on any more. */
TEST_CASE(survivors_go_on_without_a_majority_when_told_to)
{
    static const node_id lost[] = {3, 4, 5}, self[] = {1}, nobody[] = {9};
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(5, &settings, eight_cuts);
    put_words(bench, 1, 26);
    for (node_id id = 3; id <= 5; id++) bench_kill(bench, id, SIM_DISK_KILLED);
    bench_pass(bench, 60000);
    uint64_t before = number_at(bench, 1);
    EXPECT(state_at(bench, 1, 3) == MEMBER_ACTIVE);

    EXPECT(recover_at(bench, 1, self, 1) == STATUS_INVALID);
    EXPECT(recover_at(bench, 1, nobody, 1) == STATUS_INVALID);
    EXPECT(generation_at(bench, 1) == 1 && number_at(bench, 1) == before);
    EXPECT(recover_at(bench, 1, lost, 3) == STATUS_OK);
    EXPECT(generation_at(bench, 1) == 2 && number_at(bench, 1) == before + 1);
    bench_pass(bench, 60000);
    EXPECT(generation_at(bench, 2) == 2);
    const struct rangemap *map = replica_map(replica_of(bench, 2));
    EXPECT(rangemap_member_count(map) == 2);
    for (size_t i = 0; i < rangemap_shard_count(map); i++) {
        struct shard shard = rangemap_shard(map, i);
        EXPECT(shard.stage == SHARD_STABLE && shard.owners.count == 2);
    }
    for (uint32_t i = 0; i < 26; i++) {
        char key[16];
        word_of(i, key);
        EXPECT(bench_put(bench, 2, key, 100 + i)->reply.outcome == REQUEST_DONE);
        EXPECT(bench_get(bench, 1, key, CONSISTENCY_QUORUM)->scores[0] == 100 + i);
    }
    /* One that was given up is kept out when it is back. */
    bench_restart(bench, 3);
    bench_pass(bench, 5000);
    EXPECT(replica_is_kept_out(replica_of(bench, 3)) && generation_at(bench, 3) == 2);
    bench_destroy(bench);
}

/* Node 2 knows a map that node 1 missed, with a number as high as the next generation begins with; what
 * it acknowledged of that says nothing of this. */
TEST_CASE(a_generation_begins_with_nothing_acknowledged)
{
    static const node_id lost[] = {3, 4, 5};
    struct rangemap_settings settings = bench_settings(3, 2, 2);
    struct bench *bench = bench_create(5, &settings, NULL);
    struct replica *second = replica_of(bench, 2);
    bench->mapless[1] = bench->deaf[1][PROTOCOL_REGISTER] = true;
    for (int i = 0; i < 20; i++) {
        struct change change = {.kind = CHANGE_MEMBER_LEAVING,
                                .member = {.id = 3, .leaving = i % 2 == 0}};
        replica_change(second, &change);
        bench_pass(bench, 2000);
    }
    uint64_t ahead = second->topology.acknowledged;
    EXPECT(ahead >= number_at(bench, 1) + 10);
    for (node_id id = 3; id <= 5; id++) bench_kill(bench, id, SIM_DISK_KILLED);
    EXPECT(recover_at(bench, 1, lost, 3) == STATUS_STALE);
    cut_off(bench, 1, true);
    /* How long it takes until nobody seems to be up is a matter of chance: who hears from nobody
     * doubts itself first. */
    enum status status = STATUS_STALE;
    for (int turn = 0; turn < 300 && status == STATUS_STALE; turn++) {
        bench_pass(bench, 1000);
        status = recover_at(bench, 1, lost, 3);
    }
    EXPECT(status == STATUS_OK);
    EXPECT(number_at(bench, 1) < ahead);
    bench->nodes[2].frozen = true; /* It cannot keep what it hears. */
    cut_off(bench, 1, false);
    for (int turn = 0; turn < 2000 && generation_at(bench, 2) == 1; turn++) bench_pass(bench, 20);
    EXPECT(generation_at(bench, 2) == 2);
    EXPECT(number_at(bench, 2) < ahead);
    bench_pass(bench, 3000);
    EXPECT(second->topology.acknowledged == 0);
    bench->nodes[2].frozen = false;
    bench_pass(bench, 3000);
    EXPECT(second->topology.acknowledged > 0);
    bench_pass(bench, 20000);
    EXPECT(bench_put(bench, 2, "w", 1)->reply.outcome == REQUEST_DONE);
    bench_destroy(bench);
}

TEST_MAIN(TEST(a_comparison_goes_on_over_maps_that_change_nothing_that_is_shared),
          TEST(nodes_compare_what_both_share_by_different_maps),
          TEST(what_was_owned_stays_under_maps_that_a_node_missed),
          TEST(a_start_knows_what_it_owned_under_older_maps),
          TEST(a_next_owner_gets_what_others_are_owed_before_it_counts_as_filled),
          TEST(who_stays_as_the_only_owner_has_what_the_others_acknowledged),
          TEST(who_stays_while_others_only_go_takes_the_copies_that_they_had),
          TEST(what_is_swept_in_many_turns_takes_one_slot),
          TEST(hints_that_fill_the_room_go_to_the_owners_of_their_keys),
          TEST(a_read_at_all_asks_those_that_go_while_one_that_comes_is_not_filled),
          TEST(a_read_at_all_asks_who_stays_although_it_is_not_filled),
          TEST(who_goes_leaves_nothing_behind),
          TEST(a_member_that_leaves_stays_until_its_hints_are_delivered),
          TEST(directories_that_never_come_keep_no_others_out),
          TEST(a_report_counts_while_it_is_told),
          TEST(a_member_that_is_silent_is_suspended_and_nothing_waits_for_it),
          TEST(a_node_that_may_have_been_left_behind_serves_nothing),
          TEST(a_stage_waits_for_a_silent_owner_that_could_answer_alone),
          TEST(a_move_to_a_node_that_falls_silent_is_taken_back),
          TEST(who_has_left_tells_it_to_those_that_still_count_on_it),
          TEST(an_excluded_node_does_nothing_once_it_knows),
          TEST(an_excluded_node_that_does_not_know_is_told_so_and_gets_no_answer),
          TEST(too_many_owners_are_excluded_by_force_only),
          TEST(a_dead_member_is_replaced_by_one_that_joins_for_it),
          TEST(a_living_member_hands_over_to_the_one_that_replaces_it),
          TEST(survivors_go_on_without_a_majority_when_told_to),
          TEST(a_generation_begins_with_nothing_acknowledged))
