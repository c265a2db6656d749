/* Rounds of purge, told as stories: a few members, a network that does what the test says, and
 * sessions that the test declares complete. */
#include "cluster/purge.h"

#include "cluster/repair_message.h"
#include "rangemap_make.h"
#include "test.h"

enum { MEMBERS_MAX = 4, SHARDS_MAX = 16, WALL_MS = 1000000 };

struct world;

struct peer {
    struct world *world;
    node_id id;
    struct purge purge;
    bool down, frozen; /* Its disk does not get round to keep anything. */
    bool owes, unfilled;
    uint32_t owned[SHARDS_MAX]; /* By the map when it was last looked at. */
    node_id others[MEMBERS_MAX];
};

struct world {
    struct maker maker;
    struct peer peers[MEMBERS_MAX + 1]; /* By id. */
    node_id count;
    struct outbox outbox;
    struct buf story;
    uint64_t behind; /* Maps that somebody has not acknowledged. */
    uint64_t now_ms;
};

static bool env_owes(void *context, hlc_time upto)
{
    struct peer *peer = context;
    return peer->owes && upto > 0;
}

static bool env_is_filled(void *context, const struct shard *shard)
{
    struct peer *peer = context;
    return !peer->unfilled || owners_contain(&shard->owners, peer->id);
}

static struct world *world_create(node_id count, uint64_t gc_ms)
{
    struct world *world = calloc(1, sizeof *world);
    struct rangemap_settings settings = rangemap_settings_default;
    static const node_id all[] = {1, 2, 3, 0};
    settings.tombstone_gc_ms = gc_ms;
    maker_init(&world->maker, &settings);
    world->count = count;
    for (node_id id = 2; id <= count; id++) maker_add_member(&world->maker, id, 0);
    EXPECT(maker_commit(&world->maker) == STATUS_OK);
    maker_begin(&world->maker, "", all);
    EXPECT(maker_commit(&world->maker) == STATUS_OK);
    maker_at(&world->maker, CHANGE_SWITCH, "");
    EXPECT(maker_commit(&world->maker) == STATUS_OK);
    maker_at(&world->maker, CHANGE_FINISH, "");
    EXPECT(maker_commit(&world->maker) == STATUS_OK);
    outbox_init(&world->outbox, &world->maker.heap);
    buf_init(&world->story, &world->maker.heap);
    for (node_id id = 1; id <= count; id++) {
        struct peer *peer = &world->peers[id];
        struct purge_env env = {.context = peer,
                                .heap = &world->maker.heap,
                                .self = id,
                                .owes = env_owes,
                                .is_filled = env_is_filled};
        peer->world = world;
        peer->id = id;
        EXPECT(purge_init(&peer->purge, &env) == STATUS_OK);
        purge_founded(&peer->purge);
    }
    return world;
}

static void world_destroy(struct world *world)
{
    for (node_id id = 1; id <= world->count; id++) purge_deinit(&world->peers[id].purge);
    outbox_deinit(&world->outbox);
    buf_deinit(&world->story);
    maker_deinit(&world->maker);
    free(world);
}

static bool has_part(const struct shard *shard, node_id id)
{
    return owners_contain(&shard->owners, id) || owners_contain(&shard->next, id);
}

/* What the node takes writes to, and with whom. */
static void find_shares(struct world *world, node_id id, struct purge_look *look)
{
    struct peer *peer = &world->peers[id];
    bool shares[MEMBERS_MAX + 1] = {false};
    EXPECT(rangemap_shard_count(world->maker.map) <= SHARDS_MAX);
    for (size_t i = 0; i < rangemap_shard_count(world->maker.map); i++) {
        struct shard shard = rangemap_shard(world->maker.map, i);
        if (!has_part(&shard, id)) continue;
        peer->owned[look->owned_count++] = (uint32_t)i;
        for (node_id other = 1; other <= world->count; other++)
            shares[other] = shares[other] || (other != id && has_part(&shard, other));
    }
    for (node_id other = 1; other <= world->count; other++)
        if (shares[other]) peer->others[look->peer_count++] = other;
    look->owned = peer->owned;
    look->peers = peer->others;
}

static struct purge_look look(struct world *world, node_id id)
{
    struct purge_look look = {.now_ms = world->now_ms,
                              .wall_ms = WALL_MS + world->now_ms,
                              .map = world->maker.map,
                              .retired = rangemap_identity(world->maker.map)->number -
                                         world->behind,
                              .drives = id == 1,
                              .all_up = true};
    for (node_id other = 1; other <= world->count; other++)
        if (world->peers[other].down) look.all_up = false;
    find_shares(world, id, &look);
    return look;
}

static void keep(struct peer *peer)
{
    if (!peer->purge.unsaved || peer->frozen) return;
    peer->purge.unsaved = false;
    purge_promise_durable(&peer->purge, purge_promised(&peer->purge));
}

static uint64_t seconds(hlc_time time)
{
    return (hlc_wall_ms(time) - WALL_MS + 1000000) / 1000;
}

static void tell_story(struct world *world, node_id from, node_id to, struct slice bytes)
{
    static const char *const names[] = {[PURGE_PROMISE] = "promise",
                                        [PURGE_PROMISE_GIVEN] = "given",
                                        [PURGE_COMPARE] = "compare",
                                        [PURGE_COMPARED] = "compared",
                                        [PURGE_DONE] = "done"};
    struct purge_message message;
    EXPECT(purge_message_decode(slice_from(bytes, 1), &message) == STATUS_OK);
    struct slice rest = message.ranges;
    struct key_range range;
    hlc_time upto;
    buf_printf(&world->story, "n%u to n%u: %s", from, to, names[message.kind]);
    if (message.kind <= PURGE_COMPARE)
        buf_printf(&world->story, " %llu", (unsigned long long)seconds(message.upto));
    while (purge_range_next(&rest, &range, &upto))
        buf_printf(&world->story, " [%.*s,%.*s) %llu", (int)range.low.size,
                   (const char *)range.low.data, (int)range.high.size,
                   (const char *)range.high.data, (unsigned long long)seconds(upto));
    buf_append_text(&world->story, "\n");
}

/* Takes what `id` sent, and what follows from it. */
static void deliver(struct world *world, node_id id)
{
    struct outbox sent = world->outbox;
    keep(&world->peers[id]);
    outbox_init(&world->outbox, &world->maker.heap);
    for (size_t i = 0; i < sent.count; i++) {
        node_id to = sent.messages[i].to;
        struct slice bytes = outbox_bytes(&sent, i);
        if (sent.messages[i].durable && world->peers[id].purge.unsaved) continue;
        tell_story(world, id, to, bytes);
        if (world->peers[to].down || world->peers[id].down) continue;
        struct purge_look now = look(world, to);
        EXPECT(purge_receive(&world->peers[to].purge, id, slice_from(bytes, 1), &now,
                             &world->outbox) == STATUS_OK);
        deliver(world, to);
    }
    outbox_deinit(&sent);
}

static void pass(struct world *world, uint64_t ms)
{
    for (uint64_t end = world->now_ms + ms; world->now_ms < end;) {
        world->now_ms += 250;
        for (node_id id = 1; id <= world->count; id++) {
            struct purge_look now = look(world, id);
            if (world->peers[id].down) continue;
            if (world->now_ms >= purge_due_ms(&world->peers[id].purge, &now))
                purge_tick(&world->peers[id].purge, &now, &world->outbox);
            deliver(world, id);
        }
    }
}

/* A session of all that both take writes for. */
static void compared(struct purge *purge, const struct purge_look *now, node_id peer,
                     uint64_t number, bool peer_is_complete)
{
    struct repair_completed session = {.peer = peer,
                                       .scope = REPAIR_ALL,
                                       .mark = number,
                                       .peer_knows = peer_is_complete ? REPAIR_KNOWS_ALL
                                                                      : REPAIR_KNOWS_LITTLE};
    purge_compared(purge, now, &session);
}

/* The sessions of `id` with all that it wants to compare with. */
static void meet(struct world *world, node_id id, bool peers_are_complete)
{
    struct purge_look now = look(world, id);
    struct purge *purge = &world->peers[id].purge;
    for (node_id peer = purge_next_peer(purge, &now, 0); peer != 0;
         peer = purge_next_peer(purge, &now, peer))
        compared(purge, &now, peer, purge->number, peers_are_complete);
    keep(&world->peers[id]);
}

static bool story_is(struct world *world, const char *expected)
{
    buf_append_u8(&world->story, 0);
    const char *story = (const char *)world->story.data;
    bool same = strcmp(story, expected) == 0;
    if (!same) fprintf(stderr, "--- the story was\n%s--- and should be\n%s", story, expected);
    buf_clear(&world->story);
    return same;
}

#define EXPECT_STORY(world, expected) EXPECT(story_is((world), (expected)))

static struct purge_times times_of(const struct world *world, node_id id, const char *key)
{
    return purge_ranges_at(&world->peers[id].purge.ranges, slice_from_text(key));
}

static uint64_t purged_at(const struct world *world, node_id id, const char *key)
{
    hlc_time purged = times_of(world, id, key).at[PURGE_PURGED];
    return purged == PURGE_BEGINNING ? 0 : seconds(purged);
}

TEST_CASE(a_round_goes_from_promises_to_comparisons_to_what_may_go)
{
    struct world *world = world_create(3, 0);
    pass(world, 4750);
    EXPECT_STORY(world, "");
    pass(world, 1000); /* Promises are kept first, and told when they are asked for again. */
    EXPECT_STORY(world, "n1 to n1: promise 995\n"
                        "n1 to n2: promise 995\n"
                        "n1 to n3: promise 995\n"
                        "n1 to n1: promise 995\n"
                        "n1 to n1: given 995\n"
                        "n1 to n2: promise 995\n"
                        "n2 to n1: given 995\n"
                        "n1 to n3: promise 995\n"
                        "n3 to n1: given 995\n"
                        "n1 to n1: compare 995\n"
                        "n1 to n2: compare 995\n"
                        "n1 to n3: compare 995\n");
    for (node_id id = 1; id <= 3; id++) meet(world, id, true);
    pass(world, 500);
    EXPECT_STORY(world, "n1 to n1: compare 995\n"
                        "n1 to n1: compared [,) 995\n"
                        "n1 to n2: compare 995\n"
                        "n2 to n1: compared [,) 995\n"
                        "n1 to n3: compare 995\n"
                        "n3 to n1: compared [,) 995\n"
                        "n1 to n1: done [,) 995\n"
                        "n1 to n2: done [,) 995\n"
                        "n1 to n3: done [,) 995\n");
    for (node_id id = 1; id <= 3; id++) {
        EXPECT(purged_at(world, id, "w") == 995);
        EXPECT(seconds(purge_known_at(&world->peers[id].purge, SLICE_LITERAL("w"))) == 995);
    }
    world_destroy(world);
}

TEST_CASE(a_round_waits_for_every_member_and_every_hint)
{
    struct world *world = world_create(4, 0); /* The fourth owns nothing. */
    world->peers[4].down = true;
    pass(world, 20000);
    EXPECT_STORY(world, "");
    world->peers[4].down = false;
    world->peers[4].owes = true;
    world->peers[4].frozen = true;
    pass(world, 10000);
    EXPECT(world->peers[1].purge.driver.phase == PURGE_PROMISING);
    world->peers[4].frozen = false;
    pass(world, 10000);
    EXPECT(world->peers[1].purge.driver.phase == PURGE_PROMISING);
    world->peers[4].owes = false;
    world->peers[4].frozen = true; /* What is durable is so still. */
    pass(world, 5000);
    EXPECT(world->peers[1].purge.driver.phase == PURGE_COMPARING);
    for (node_id id = 1; id <= 2; id++) meet(world, id, true);
    pass(world, 1000);
    for (node_id id = 1; id <= 3; id++) EXPECT(purged_at(world, id, "w") == 0);
    /* Until the round ends: then it comes to nothing. */
    pass(world, PURGE_ROUND_MS);
    for (node_id id = 1; id <= 3; id++) EXPECT(purged_at(world, id, "w") == 0);
    world_destroy(world);
}

TEST_CASE(what_is_young_is_not_purged)
{
    struct world *world = world_create(3, 400000);
    pass(world, 30000);
    for (node_id id = 1; id <= 3; id++) meet(world, id, true);
    pass(world, 1000);
    for (node_id id = 1; id <= 3; id++) {
        hlc_time complete = times_of(world, id, "w").at[PURGE_COMPLETE];
        EXPECT(seconds(complete) == 1015 && purged_at(world, id, "w") == 630);
    }
    world_destroy(world);
}

TEST_CASE(sessions_that_began_before_the_promises_count_for_nothing)
{
    struct world *world = world_create(3, 0);
    uint64_t number = world->peers[2].purge.number;
    pass(world, 6000);
    EXPECT(world->peers[1].purge.driver.phase == PURGE_COMPARING);
    struct purge_look now = look(world, 2);
    for (node_id peer = 1; peer <= 3; peer += 2)
        compared(&world->peers[2].purge, &now, peer, number, true);
    EXPECT(times_of(world, 2, "w").at[PURGE_COMPLETE] == PURGE_BEGINNING);
    meet(world, 2, true);
    EXPECT(times_of(world, 2, "w").at[PURGE_COMPLETE] > PURGE_BEGINNING);
    world_destroy(world);
}

static void round_of(struct world *world)
{
    uint64_t before = world->peers[1].purge.done_count;
    for (int turn = 0; world->peers[1].purge.done_count == before; turn++) {
        EXPECT(turn < 1000);
        pass(world, 250);
        for (node_id id = 1; id <= world->count; id++) meet(world, id, true);
    }
}

/* Parts of its range were purged further than others: it knows each so far, and none further. */
TEST_CASE(who_is_filled_knows_all_that_was_purged_and_no_more)
{
    for (int by_sessions = 0; by_sessions < 2; by_sessions++) {
        struct world *world = world_create(3, 0);
        struct purge *purge = &world->peers[2].purge;
        struct key_range all = {0}, half = {.low = SLICE_LITERAL("m")};
        bool changed = false;
        purge_rolled_back(purge);
        EXPECT(purge_ranges_raise(&purge->ranges, half, PURGE_PURGED, 5, &changed) == STATUS_OK);
        EXPECT(!purge_is_complete(purge, &all));
        if (by_sessions != 0) {
            meet(world, 2, true);
        } else {
            struct shard shard = rangemap_shard(world->maker.map, 0);
            purge_filled(purge, &shard);
        }
        EXPECT(purge_is_complete(purge, &all));
        EXPECT(times_of(world, 2, "a").at[PURGE_COMPLETE] == PURGE_BEGINNING);
        EXPECT(times_of(world, 2, "z").at[PURGE_COMPLETE] == 5);
        world_destroy(world);
    }
}

/* Pieces go their own ways. */
TEST_CASE(shards_are_split_and_moved_and_what_was_purged_stays_with_the_keys)
{
    struct world *world = world_create(4, 0);
    round_of(world);
    uint64_t first = purged_at(world, 1, "a");
    EXPECT(first != 0 && purged_at(world, 1, "z") == first);

    struct rangemap *before = rangemap_ref(world->maker.map);
    maker_at(&world->maker, CHANGE_SPLIT, "m");
    EXPECT(maker_commit(&world->maker) == STATUS_OK);
    maker_begin(&world->maker, "m", (const node_id[]){1, 2, 4, 0});
    EXPECT(maker_commit(&world->maker) == STATUS_OK);
    for (node_id id = 1; id <= 4; id++)
        purge_map_changed(&world->peers[id].purge, before, world->maker.map);
    rangemap_unref(before);

    /* The new owner of the second half is not filled: the first half alone goes on. */
    world->peers[4].unfilled = true;
    pass(world, PURGE_ROUND_MS / 2);
    EXPECT(world->peers[1].purge.driver.phase == PURGE_COMPARING);
    for (int turn = 0; turn < 150; turn++) {
        pass(world, 500);
        for (node_id id = 1; id <= 4; id++) meet(world, id, true);
    }
    uint64_t second = purged_at(world, 1, "a");
    EXPECT(second > first && purged_at(world, 3, "a") == second);
    EXPECT(purged_at(world, 1, "z") == first && purged_at(world, 4, "z") == 0);

    /* It learns what was purged there, and is not complete until it is filled. */
    struct buf ranges = {.heap = &world->maker.heap};
    struct key_range half = {.low = SLICE_LITERAL("m")};
    repair_range_append(&ranges, &half, 0);
    EXPECT(purge_hash(&world->peers[4].purge, buf_slice(&ranges)) ==
           purge_hash(&world->peers[1].purge, buf_slice(&ranges))); /* Nobody swept. */
    purge_swept(&world->peers[1].purge, &half, times_of(world, 1, "z").at[PURGE_PURGED]);
    EXPECT(purge_hash(&world->peers[4].purge, buf_slice(&ranges)) !=
           purge_hash(&world->peers[1].purge, buf_slice(&ranges)));
    keep(&world->peers[1]);
    purge_tell(&world->peers[1].purge, 4, world->maker.map, buf_slice(&ranges), &world->outbox);
    deliver(world, 1);
    EXPECT(purged_at(world, 4, "z") == first && purged_at(world, 4, "a") == 0);
    EXPECT(!purge_is_complete(&world->peers[4].purge, &half));
    EXPECT(purge_known_at(&world->peers[4].purge, SLICE_LITERAL("z")) == 0);
    struct key_range range;
    hlc_time upto;
    EXPECT(purge_next_sweep(&world->peers[4].purge, (struct slice){0}, &range, &upto));
    EXPECT(slice_equal(range.low, half.low) && seconds(upto) == first);
    purge_swept(&world->peers[4].purge, &half, upto);
    EXPECT(purge_hash(&world->peers[4].purge, buf_slice(&ranges)) ==
           purge_hash(&world->peers[1].purge, buf_slice(&ranges)));

    world->peers[4].unfilled = false;
    struct shard shard = rangemap_shard(world->maker.map, 1);
    purge_filled(&world->peers[4].purge, &shard);
    EXPECT(purge_is_complete(&world->peers[4].purge, &half));
    keep(&world->peers[4]);
    round_of(world);
    EXPECT(purged_at(world, 4, "z") > first);
    EXPECT(purged_at(world, 4, "z") == purged_at(world, 1, "z"));
    buf_deinit(&ranges);
    world_destroy(world);
}

/* Who took writes under an older map that somebody still goes by has a part in it. */
TEST_CASE(a_former_owner_blocks_what_it_owned_until_its_map_is_retired)
{
    struct world *world = world_create(4, 0);
    static const node_id next[] = {1, 2, 4, 0};
    maker_begin(&world->maker, "", next);
    EXPECT(maker_commit(&world->maker) == STATUS_OK);
    maker_at(&world->maker, CHANGE_SWITCH, "");
    EXPECT(maker_commit(&world->maker) == STATUS_OK);
    maker_at(&world->maker, CHANGE_FINISH, "");
    EXPECT(maker_commit(&world->maker) == STATUS_OK);
    world->behind = 1;
    for (int turn = 0; turn < 200; turn++) {
        pass(world, 500);
        for (node_id id = 1; id <= 4; id++) meet(world, id, true);
    }
    for (node_id id = 1; id <= 4; id++) EXPECT(purged_at(world, id, "w") == 0);
    world->behind = 0;
    round_of(world);
    EXPECT(purged_at(world, 4, "w") != 0);
    world_destroy(world);
}

TEST_CASE(a_disk_that_was_set_back_is_complete_again_after_enough_others_that_are)
{
    struct world *world = world_create(3, 0);
    struct key_range all = {0};
    round_of(world);
    struct purge *purge = &world->peers[3].purge;
    uint64_t number = purge->number;
    purge_rolled_back(purge);
    EXPECT(!purge_is_complete(purge, &all) && purge->unsaved);
    struct purge_look now = look(world, 3);
    compared(purge, &now, 1, number, true); /* Begun before. */
    compared(purge, &now, 2, number, true);
    EXPECT(!purge_is_complete(purge, &all));
    /* RF - W + 1 = 2 others, and who is not complete is none. */
    compared(purge, &now, 1, purge->number, true);
    EXPECT(!purge_is_complete(purge, &all));
    EXPECT(purge_next_peer(purge, &now, 0) == 2);
    compared(purge, &now, 2, purge->number, true);
    EXPECT(purge_is_complete(purge, &all) && purge_next_peer(purge, &now, 0) == 0);

    /* What is kept counts when a batch is lost. */
    struct purge_ranges kept;
    EXPECT(purge_ranges_init(&kept, &world->maker.heap) == STATUS_OK);
    purge_lost(purge, &kept);
    EXPECT(!purge_is_complete(purge, &all) && purge->unsaved);
    EXPECT(purged_at(world, 3, "w") != 0); /* Of what is purged nobody knows less. */
    purge_ranges_deinit(&kept);
    world_destroy(world);
}

/* Maps that change often must keep nobody incomplete: sessions count on with whom no more is shared now. */
TEST_CASE(sessions_with_complete_owners_count_over_maps_that_share_no_more_with_them)
{
    struct world *world = world_create(4, 0);
    struct key_range all = {0};
    round_of(world);
    struct purge *purge = &world->peers[3].purge;
    purge_rolled_back(purge);
    struct purge_look now = look(world, 3);
    compared(purge, &now, 1, purge->number, true);
    uint64_t number = purge->number;
    compared(purge, &now, 4, number, true); /* It shares nothing yet. */

    /* The second half begins to go from 1 to 4. Nothing more is shared with 1 and 2. */
    struct rangemap *before = rangemap_ref(world->maker.map);
    maker_at(&world->maker, CHANGE_SPLIT, "m");
    EXPECT(maker_commit(&world->maker) == STATUS_OK);
    maker_begin(&world->maker, "m", (const node_id[]){2, 3, 4, 0});
    EXPECT(maker_commit(&world->maker) == STATUS_OK);
    purge_map_changed(purge, before, world->maker.map);
    rangemap_unref(before);
    now = look(world, 3);
    compared(purge, &now, 2, number, true); /* As before: it went on over the change. */
    EXPECT(purge_is_complete(purge, &all));

    /* The first half comes to 4 as well, which shares it from then on: sessions before were not about it. */
    purge_rolled_back(purge);
    compared(purge, &now, 4, purge->number, true);
    number = purge->number;
    before = rangemap_ref(world->maker.map);
    maker_begin(&world->maker, "", (const node_id[]){2, 3, 4, 0});
    EXPECT(maker_commit(&world->maker) == STATUS_OK);
    maker_at(&world->maker, CHANGE_SWITCH, "");
    EXPECT(maker_commit(&world->maker) == STATUS_OK);
    purge_map_changed(purge, before, world->maker.map);
    rangemap_unref(before);
    now = look(world, 3);
    compared(purge, &now, 2, number, true);
    EXPECT(!purge_is_complete(purge, &(struct key_range){.high = SLICE_LITERAL("m")}));
    compared(purge, &now, 4, purge->number, true);
    EXPECT(purge_is_complete(purge, &(struct key_range){.high = SLICE_LITERAL("m")}));
    world_destroy(world);
}

/* What is on its way to or from one of the two keeps neither from being complete in what both have owned all along. */
TEST_CASE(sessions_about_what_both_own_count_for_that_alone)
{
    struct world *world = world_create(4, 0);
    struct key_range first = {.high = SLICE_LITERAL("m")}, second = {.low = SLICE_LITERAL("m")};
    round_of(world);
    maker_at(&world->maker, CHANGE_SPLIT, "m");
    EXPECT(maker_commit(&world->maker) == STATUS_OK);
    struct rangemap *before = rangemap_ref(world->maker.map);
    maker_begin(&world->maker, "m", (const node_id[]){2, 3, 4, 0});
    EXPECT(maker_commit(&world->maker) == STATUS_OK);
    for (node_id id = 1; id <= 4; id++)
        purge_map_changed(&world->peers[id].purge, before, world->maker.map);
    rangemap_unref(before);

    struct purge *purge = &world->peers[3].purge;
    purge_rolled_back(purge);
    struct purge_look now = look(world, 3);
    struct repair_completed session = {
        .peer = 1, .scope = REPAIR_SETTLED, .mark = purge->number, .peer_knows = REPAIR_KNOWS_ALL};
    EXPECT(purge_wants_settled(purge, 1));
    purge_compared(purge, &now, &session);
    EXPECT(!purge_wants_settled(purge, 1) && !purge_is_complete(purge, &first));
    session.peer = 2;
    purge_compared(purge, &now, &session);
    EXPECT(purge_is_complete(purge, &first) && purge_is_complete(purge, &second));

    /* By the next map node 4 owns the second half as well: it was not met about that. */
    purge_rolled_back(purge);
    session.mark = purge->number;
    purge_compared(purge, &now, &session);
    session.peer = 4;
    purge_compared(purge, &now, &session);
    EXPECT(!purge_is_complete(purge, &second));
    before = rangemap_ref(world->maker.map);
    maker_at(&world->maker, CHANGE_SWITCH, "m");
    EXPECT(maker_commit(&world->maker) == STATUS_OK);
    maker_at(&world->maker, CHANGE_FINISH, "m");
    EXPECT(maker_commit(&world->maker) == STATUS_OK);
    purge_map_changed(purge, before, world->maker.map);
    rangemap_unref(before);
    now = look(world, 3);
    session.peer = 2;
    session.mark = purge->number;
    purge_compared(purge, &now, &session);
    EXPECT(!purge_is_complete(purge, &second));
    session.peer = 4;
    purge_compared(purge, &now, &session);
    EXPECT(purge_is_complete(purge, &second) && !purge_is_complete(purge, &first));
    world_destroy(world);
}

/* Nobody may stop all writes by promising what lies ahead. */
TEST_CASE(a_promise_of_the_future_is_not_given)
{
    struct world *world = world_create(3, 0);
    const struct rangemap_identity *map = rangemap_identity(world->maker.map);
    for (int kind = PURGE_PROMISE; kind <= PURGE_DONE; kind += PURGE_DONE - PURGE_PROMISE) {
        struct purge_message message = {.kind = (enum purge_kind)kind,
                                        .generation = map->generation,
                                        .map_number = map->number,
                                        .range_count = kind == PURGE_DONE};
        struct buf bytes = {.heap = &world->maker.heap}, list = {.heap = &world->maker.heap};
        struct key_range all = {0};
        struct purge_look now = look(world, 2);
        hlc_time ahead = (hlc_time)(WALL_MS + 1) << HLC_COUNTER_BITS;
        if (kind == PURGE_PROMISE) message.upto = ahead;
        if (kind == PURGE_DONE) purge_range_append(&list, &all, ahead);
        message.ranges = buf_slice(&list);
        purge_message_encode(&message, &bytes);
        EXPECT(purge_receive(&world->peers[2].purge, 1, buf_slice(&bytes), &now, &world->outbox) ==
               STATUS_OK);
        EXPECT(purge_promised(&world->peers[2].purge) == PURGE_BEGINNING &&
               purged_at(world, 2, "w") == 0);
        buf_append_u8(&bytes, 0);
        EXPECT(purge_receive(&world->peers[2].purge, 1, buf_slice(&bytes), &now, &world->outbox) ==
               STATUS_INVALID);
        EXPECT(world->outbox.count == 0);
        buf_deinit(&bytes);
        buf_deinit(&list);
    }
    world_destroy(world);
}

TEST_MAIN(TEST(a_round_goes_from_promises_to_comparisons_to_what_may_go),
          TEST(a_round_waits_for_every_member_and_every_hint), TEST(what_is_young_is_not_purged),
          TEST(sessions_that_began_before_the_promises_count_for_nothing),
          TEST(who_is_filled_knows_all_that_was_purged_and_no_more),
          TEST(shards_are_split_and_moved_and_what_was_purged_stays_with_the_keys),
          TEST(a_former_owner_blocks_what_it_owned_until_its_map_is_retired),
          TEST(a_disk_that_was_set_back_is_complete_again_after_enough_others_that_are),
          TEST(sessions_with_complete_owners_count_over_maps_that_share_no_more_with_them),
          TEST(sessions_about_what_both_own_count_for_that_alone),
          TEST(a_promise_of_the_future_is_not_given))
