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

TEST_MAIN(TEST(a_first_map_has_one_member_and_one_shard), TEST(a_move_takes_one_arrow_a_version),
          TEST(a_map_decodes_to_the_same_map),
          TEST(at_most_one_less_than_a_quorum_is_excluded_without_force))
