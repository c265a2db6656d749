#include "cluster/rangemap.h"

#include "cluster/rangemap_delta.h"
#include "rangemap_make.h"
#include "test.h"

static void three_members(struct maker *maker)
{
    maker_init(maker, &rangemap_settings_default);
    maker_add_member(maker, 2, 1);
    maker_add_member(maker, 3, 2);
    EXPECT(maker_commit(maker) == STATUS_OK);
}

/* Moves all shards, named by their lows, at once. */
static void move(struct maker *maker, const char *low, const node_id *next)
{
    maker_begin(maker, low, next);
    EXPECT(maker_commit(maker) == STATUS_OK);
    maker_at(maker, CHANGE_SWITCH, low);
    EXPECT(maker_commit(maker) == STATUS_OK);
    maker_at(maker, CHANGE_FINISH, low);
    EXPECT(maker_commit(maker) == STATUS_OK);
}

TEST_CASE(a_first_map_has_one_member_and_one_shard)
{
    struct maker maker;
    maker_init(&maker, &rangemap_settings_default);
    EXPECT(maker_shows(&maker, "[, ) stable@1: 1 w1 r1\n"));
    EXPECT(rangemap_identity(maker.map)->number == 1);
    EXPECT(rangemap_identity(maker.map)->generation == 1);
    EXPECT(rangemap_is_registrar(maker.map, 1));
    EXPECT(rangemap_next_id(maker.map) == 2);
    EXPECT(rangemap_answers(maker.map, 1, SLICE_LITERAL("k")));
    EXPECT(!rangemap_answers(maker.map, 2, SLICE_LITERAL("k")));
    maker_deinit(&maker);
}

/* The stages of cluster.md, and who is asked in each. */
TEST_CASE(a_move_takes_one_arrow_a_version)
{
    struct maker maker;
    three_members(&maker);
    struct slice key = SLICE_LITERAL("k");
    maker_begin(&maker, "", (node_id[]){1, 2, 3, 0});
    maker_at(&maker, CHANGE_SWITCH, "");
    EXPECT(maker_commit(&maker) == STATUS_INVALID);
    EXPECT(strcmp(maker.why, "one arrow a version") == 0);

    maker_begin(&maker, "", (node_id[]){1, 2, 3, 0});
    EXPECT(maker_commit(&maker) == STATUS_OK);
    EXPECT(maker_shows(&maker, "[, ) filling@3: 1 w1 r1 > 1 2 3 w2 r2\n"));
    EXPECT(rangemap_answers(maker.map, 1, key) && !rangemap_answers(maker.map, 2, key));
    EXPECT(rangemap_takes(maker.map, 2, key));

    /* A split copies all of it, also when the stage began. */
    maker_at(&maker, CHANGE_SPLIT, "m");
    EXPECT(maker_commit(&maker) == STATUS_OK);
    EXPECT(maker_shows(&maker, "[, m) filling@3: 1 w1 r1 > 1 2 3 w2 r2\n"
                               "[m, ) filling@3: 1 w1 r1 > 1 2 3 w2 r2\n"));

    maker_at(&maker, CHANGE_SWITCH, "m");
    EXPECT(maker_commit(&maker) == STATUS_OK);
    EXPECT(rangemap_answers(maker.map, 3, SLICE_LITERAL("z")));
    EXPECT(!rangemap_answers(maker.map, 3, key));
    maker_at(&maker, CHANGE_FINISH, "m");
    maker_at(&maker, CHANGE_ABORT, "");
    EXPECT(maker_commit(&maker) == STATUS_OK);
    EXPECT(maker_shows(&maker, "[, m) stable@6: 1 w1 r1\n"
                               "[m, ) stable@6: 1 2 3 w2 r2\n"));
    maker_deinit(&maker);
}

TEST_CASE(a_map_decodes_to_the_same_map)
{
    struct maker maker;
    three_members(&maker);
    maker_at(&maker, CHANGE_SPLIT, "default");
    maker_at(&maker, CHANGE_SPLIT, "delta");
    maker_begin(&maker, "default", (node_id[]){1, 2, 3, 0});
    EXPECT(maker_commit(&maker) == STATUS_OK);

    struct buf bytes, again;
    buf_init(&bytes, &maker.heap);
    buf_init(&again, &maker.heap);
    rangemap_encode(maker.map, &bytes);
    struct rangemap *read = NULL;
    EXPECT(rangemap_decode(&maker.heap, buf_slice(&bytes), &read) == STATUS_OK);
    rangemap_encode(read, &again);
    EXPECT(slice_equal(buf_slice(&bytes), buf_slice(&again)));
    EXPECT(hash128_equal(rangemap_identity(read)->hash, rangemap_identity(maker.map)->hash));
    rangemap_unref(read);
    buf_deinit(&bytes);
    buf_deinit(&again);
    maker_deinit(&maker);
}

TEST_CASE(at_most_one_less_than_a_quorum_is_excluded_without_force)
{
    struct maker maker;
    three_members(&maker);
    move(&maker, "", (node_id[]){1, 2, 3, 0});
    maker_state(&maker, 2, MEMBER_EXCLUDED, false);
    EXPECT(maker_commit(&maker) == STATUS_OK);
    EXPECT(rangemap_next_at_risk(maker.map, 3, 0) == 0);
    maker_state(&maker, 3, MEMBER_EXCLUDED, false);
    EXPECT(maker_commit(&maker) == STATUS_INVALID);
    maker_state(&maker, 3, MEMBER_EXCLUDED, true);
    EXPECT(maker_commit(&maker) == STATUS_OK);
    EXPECT(!rangemap_answers(maker.map, 3, SLICE_LITERAL("k")));
    maker_deinit(&maker);
}

static bool registrars_are(const struct rangemap *map, const node_id *expected, size_t count)
{
    const node_id *ids;
    if (rangemap_registrars(map, &ids) != count) return false;
    return memcmp(ids, expected, count * sizeof *ids) == 0;
}

TEST_CASE(registrars_are_odd_spread_over_zones_and_stay)
{
    struct maker maker;
    maker_init(&maker, &rangemap_settings_default);
    maker_add_member(&maker, 2, 0);
    EXPECT(maker_commit(&maker) == STATUS_OK);
    EXPECT(registrars_are(maker.map, (node_id[]){1}, 1));
    for (node_id id = 3; id <= 9; id++) maker_add_member(&maker, id, (id - 1u) / 3);
    EXPECT(maker_commit(&maker) == STATUS_OK); /* 1 2 3 | 4 5 6 | 7 8 9 */
    EXPECT(registrars_are(maker.map, (node_id[]){1, 2, 3, 4, 5, 7, 8}, 7));

    /* One that is silent gives way; who replaced it stays when it is back. */
    maker_state(&maker, 4, MEMBER_SUSPENDED, false);
    EXPECT(maker_commit(&maker) == STATUS_OK);
    EXPECT(registrars_are(maker.map, (node_id[]){1, 2, 3, 5, 6, 7, 8}, 7));
    maker_state(&maker, 4, MEMBER_ACTIVE, false);
    EXPECT(maker_commit(&maker) == STATUS_OK);
    EXPECT(registrars_are(maker.map, (node_id[]){1, 2, 3, 5, 6, 7, 8}, 7));

    /* An excluded one is none, and with eight left there are seven, with six five. */
    for (node_id id = 5; id <= 7; id++) maker_state(&maker, id, MEMBER_EXCLUDED, false);
    EXPECT(maker_commit(&maker) == STATUS_OK);
    EXPECT(registrars_are(maker.map, (node_id[]){1, 2, 4, 8, 9}, 5));
    maker_deinit(&maker);
}

static void maker_forgot(struct maker *maker, node_id id)
{
    struct change change = {.kind = CHANGE_MEMBER_FORGOT, .member.id = id};
    rangemap_delta_add(&maker->delta, &change);
}

TEST_CASE(who_forgot_what_it_voted_for_is_a_registrar_only_where_there_are_no_others)
{
    struct maker maker;
    three_members(&maker);
    EXPECT(registrars_are(maker.map, (node_id[]){1, 2, 3}, 3));
    maker_forgot(&maker, 1);
    EXPECT(maker_commit(&maker) == STATUS_OK);
    EXPECT(registrars_are(maker.map, (node_id[]){2}, 1)); /* Of two that vote. */
    maker_forgot(&maker, 1);
    EXPECT(maker_commit(&maker) == STATUS_INVALID);
    maker_state(&maker, 2, MEMBER_SUSPENDED, false);
    EXPECT(maker_commit(&maker) == STATUS_OK);
    EXPECT(registrars_are(maker.map, (node_id[]){3}, 1));
    maker_forgot(&maker, 2);
    maker_forgot(&maker, 3);
    EXPECT(maker_commit(&maker) == STATUS_OK);
    EXPECT(registrars_are(maker.map, (node_id[]){1, 2, 3}, 3));
    maker_deinit(&maker);
}

TEST_CASE(ids_are_never_given_again)
{
    struct maker maker;
    three_members(&maker);
    maker_leaving(&maker, 3, true);
    maker_remove(&maker, 3);
    EXPECT(maker_commit(&maker) == STATUS_OK);
    maker_add_member(&maker, 3, 2);
    EXPECT(maker_commit(&maker) == STATUS_INVALID);
    maker_add_member(&maker, 4, 2);
    EXPECT(maker_commit(&maker) == STATUS_OK);
    maker_leaving(&maker, 1, true);
    maker_remove(&maker, 1);
    EXPECT(maker_commit(&maker) == STATUS_INVALID); /* It owns all there is. */
    EXPECT(strcmp(maker.why, "the member owns a shard") == 0);
    maker_deinit(&maker);
}

TEST_CASE(a_delta_is_for_one_map)
{
    struct maker maker;
    three_members(&maker);
    struct buf delta;
    buf_init(&delta, &maker.heap);
    maker_at(&maker, CHANGE_SPLIT, "m");
    buf_append_slice(&delta, buf_slice(&maker.delta));
    struct rangemap *first;
    struct rangemap *second;
    EXPECT(rangemap_apply(maker.map, buf_slice(&delta), NULL, &first) == STATUS_OK);
    EXPECT(rangemap_apply(maker.map, buf_slice(&delta), NULL, &second) == STATUS_OK);
    EXPECT(hash128_equal(rangemap_identity(first)->hash, rangemap_identity(second)->hash));
    rangemap_unref(second);
    EXPECT(rangemap_apply(first, buf_slice(&delta), NULL, &second) == STATUS_STALE);
    rangemap_unref(first);
    buf_deinit(&delta);
    maker_deinit(&maker);
}

TEST_CASE(a_recovery_begins_a_generation)
{
    struct maker maker;
    three_members(&maker);
    move(&maker, "", (node_id[]){1, 2, 3, 0});
    struct rangemap_identity before = *rangemap_identity(maker.map);
    maker_state(&maker, 1, MEMBER_EXCLUDED, true);
    maker_state(&maker, 2, MEMBER_EXCLUDED, true);
    struct rangemap *next;
    EXPECT(rangemap_recover(maker.map, 99, buf_slice(&maker.delta), NULL, &next) == STATUS_OK);
    const struct rangemap_identity *after = rangemap_identity(next);
    EXPECT(after->generation == before.generation + 1 && after->generation_id == 99);
    EXPECT(after->number == before.number + 1);
    EXPECT(hash128_equal(after->predecessor, before.hash));
    EXPECT(registrars_are(next, (node_id[]){3}, 1));
    rangemap_unref(next);
    maker_deinit(&maker);
}

/* Five owners that are run with the quorums of three would not meet. */
TEST_CASE(quorums_change_by_the_stages_of_a_move)
{
    struct maker maker;
    three_members(&maker);
    move(&maker, "", (node_id[]){1, 2, 3, 0});
    EXPECT(maker_shows(&maker, "[, ) stable@5: 1 2 3 w2 r2\n"));
    struct rangemap_settings settings = rangemap_settings_default;
    settings.write_quorum = 3;
    settings.read_quorum = 1;
    maker_settings(&maker, &settings);
    EXPECT(maker_commit(&maker) == STATUS_OK);
    EXPECT(maker_shows(&maker, "[, ) stable@5: 1 2 3 w2 r2\n"));
    maker_begin(&maker, "", (node_id[]){1, 2, 3, 0});
    EXPECT(maker_commit(&maker) == STATUS_OK);
    EXPECT(maker_shows(&maker, "[, ) filling@7: 1 2 3 w2 r2 > 1 2 3 w3 r1\n"));
    maker_deinit(&maker);
}

TEST_CASE(a_stage_does_not_pass_too_many_silent_owners)
{
    struct maker maker;
    three_members(&maker);
    maker_add_member(&maker, 4, 0);
    move(&maker, "", (node_id[]){1, 2, 3, 0});
    maker_begin(&maker, "", (node_id[]){1, 2, 4, 0});
    maker_state(&maker, 1, MEMBER_SUSPENDED, false);
    EXPECT(maker_commit(&maker) == STATUS_OK);
    maker_state(&maker, 3, MEMBER_SUSPENDED, false);
    maker_at(&maker, CHANGE_SWITCH, "");
    EXPECT(maker_commit(&maker) == STATUS_INVALID);
    EXPECT(strcmp(maker.why, "too many owners are suspended or excluded") == 0);
    maker_at(&maker, CHANGE_SWITCH, "");
    EXPECT(maker_commit(&maker) == STATUS_OK);
    maker_deinit(&maker);
}

TEST_MAIN(TEST(registrars_are_odd_spread_over_zones_and_stay),
          TEST(who_forgot_what_it_voted_for_is_a_registrar_only_where_there_are_no_others),
          TEST(ids_are_never_given_again), TEST(a_delta_is_for_one_map),
          TEST(a_recovery_begins_a_generation), TEST(quorums_change_by_the_stages_of_a_move),
          TEST(a_stage_does_not_pass_too_many_silent_owners),
          TEST(a_first_map_has_one_member_and_one_shard), TEST(a_move_takes_one_arrow_a_version),
          TEST(a_map_decodes_to_the_same_map),
          TEST(at_most_one_less_than_a_quorum_is_excluded_without_force))
