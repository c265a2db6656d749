/* Boot counters told as stories, one for each paragraph of docs/design/register.md. */
#include "cluster/boots.h"

#include "register_world.h"

static const struct world_options three = {.node_count = 3, .registrar_count = 3};
static const struct world_options five_registrars = {.node_count = 5, .registrar_count = 5};

static bool may_vote(struct world *world, node_id id)
{
    return boots_may_vote(&world_node(world, id)->boots);
}

TEST_CASE(registrars_that_start_together_record_each_other)
{
    struct world *world = world_create(&three, test_seed);
    EXPECT(!may_vote(world, 1) && !may_vote(world, 2) && !may_vote(world, 3));
    world_run(world, 100);
    EXPECT_STORY(world, "[   0] boots: n1 asks to record start 1\n"
                        "[   0] boots: n2 asks to record start 1\n"
                        "[   0] boots: n3 asks to record start 1\n"
                        "[   1] boots: n2 records start 1 of n1\n"
                        "[   1] boots: n3 records start 1 of n1\n"
                        "[   1] boots: n1 records start 1 of n2\n"
                        "[   1] boots: n3 records start 1 of n2\n"
                        "[   1] boots: n1 records start 1 of n3\n"
                        "[   1] boots: n2 records start 1 of n3\n"
                        "[   3] boots: n1 has start 1 recorded by a majority of the others\n"
                        "[   3] register 2: n1 votes from now on\n"
                        "[   3] boots: n2 has start 1 recorded by a majority of the others\n"
                        "[   3] register 2: n2 votes from now on\n"
                        "[   3] boots: n3 has start 1 recorded by a majority of the others\n"
                        "[   3] register 2: n3 votes from now on\n");
    EXPECT(may_vote(world, 1) && may_vote(world, 2) && may_vote(world, 3));
    EXPECT(boots_next_ms(&world_node(world, 1)->boots) == UINT64_MAX);
    world_destroy(world);
}

TEST_CASE(a_registrar_without_others_votes_at_once)
{
    struct world_options alone = {.node_count = 2, .registrar_count = 1};
    struct world *world = world_create(&alone, test_seed);
    EXPECT(may_vote(world, 1));
    EXPECT(!may_vote(world, 2)); /* It is no registrar. */
    EXPECT(boots_next_ms(&world_node(world, 1)->boots) == UINT64_MAX);
    world_crash(world, 1);
    world_restart(world, 1);
    EXPECT(may_vote(world, 1));
    world_destroy(world);
}

TEST_CASE(a_restarted_registrar_votes_once_the_others_recorded_its_start)
{
    struct world *world = world_create_settled(&three, test_seed);
    world_crash(world, 2);
    world_restart(world, 2);
    EXPECT(!may_vote(world, 2));
    world_propose(world, 1, "split h");
    world_run(world, 20);
    EXPECT_STORY(world, "[ 100] register 2: n1 asks to promise 1.1\n"
                        "[ 100] register 2: n1 promises 1.1\n"
                        "[ 100] boots: n2 asks to record start 2\n"
                        "[ 101] register 2: n2 does not vote yet\n"
                        "[ 101] register 2: n3 promises 1.1\n"
                        "[ 101] boots: n1 records start 2 of n2\n"
                        "[ 101] boots: n3 records start 2 of n2\n"
                        "[ 103] register 2: n1 asks to accept 1.1, its own value\n"
                        "[ 103] boots: n2 has start 2 recorded by a majority of the others\n"
                        "[ 103] register 2: n2 votes from now on\n"
                        "[ 103] register 2: n1 accepts 1.1\n"
                        "[ 104] register 2: n2 accepts 1.1\n"
                        "[ 104] register 2: n3 accepts 1.1\n"
                        "[ 106] register 2: n1 has 1.1 accepted by a majority\n"
                        "[ 106] register 2: n1 learns the decision, which is what it proposed\n"
                        "[ 107] register 2: n2 learns the decision\n"
                        "[ 107] register 2: n3 learns the decision\n");
    EXPECT(may_vote(world, 2));
    world_destroy(world);
}

/* What was recorded is durable before it is told, so that a second crash forgets nothing. */
TEST_CASE(a_record_is_durable_before_it_is_told)
{
    struct world *world = world_create_settled(&three, test_seed);
    world_crash(world, 2);
    world_restart(world, 2);
    world_run(world, 1);
    EXPECT(boots_record(&world_node(world, 1)->boots, 2)->counter == 2);
    world_crash(world, 1);
    world_crash(world, 3);
    world_run(world, 10);
    EXPECT(!may_vote(world, 2));
    world_restart(world, 1);
    EXPECT(boots_record(&world_node(world, 1)->boots, 2)->counter == 1);
    world_destroy(world);
}

TEST_CASE(a_disk_that_was_rolled_back_never_votes_again)
{
    struct world *world = world_create_settled(&three, test_seed);
    struct world_disk backup = {.state.heap = &world->heap, .starts.heap = &world->heap};
    for (int i = 0; i < WORLD_NODE_COUNT_MAX; i++) backup.records[i].heap = &world->heap;
    world_disk_copy(world, &backup, &world_node(world, 2)->disk);
    world_crash(world, 2);
    world_restart(world, 2);
    world_run(world, 100);
    EXPECT(may_vote(world, 2));

    world_crash(world, 2);
    world_disk_copy(world, &world_node(world, 2)->disk, &backup);
    world_restart(world, 2); /* Its second start again, but not the one that was recorded. */
    world_story_clear(world);
    world_run(world, 10);
    EXPECT_STORY(
        world,
        "[ 200] boots: n2 asks to record start 2\n"
        "[ 201] boots: n1 refuses start 2 of n2, it recorded 2\n"
        "[ 201] boots: n3 refuses start 2 of n2, it recorded 2\n"
        "[ 202] boots: n2 was refused by n1: this disk was rolled back, it never votes again\n");
    EXPECT(!may_vote(world, 2));

    /* The counter grows beyond the one recorded, and that is not enough. */
    for (int start = 0; start < 20; start++) {
        world_crash(world, 2);
        world_restart(world, 2);
        world_run(world, 10000);
        EXPECT(!may_vote(world, 2));
    }
    world_disk_clear(world, &backup);
    world_destroy(world);
}

/* Nobody answers while it starts again and again: each start is one that the recorded one does
 * not know of. */
TEST_CASE(a_rolled_back_disk_does_not_catch_up_by_starting_often)
{
    struct world *world = world_create_settled(&three, test_seed);
    struct world_disk backup = {.state.heap = &world->heap, .starts.heap = &world->heap};
    for (int i = 0; i < WORLD_NODE_COUNT_MAX; i++) backup.records[i].heap = &world->heap;
    world_disk_copy(world, &backup, &world_node(world, 2)->disk);
    world_crash(world, 2);
    world_restart(world, 2);
    world_run(world, 100);
    world_crash(world, 2);
    world_disk_copy(world, &world_node(world, 2)->disk, &backup);
    for (int start = 0; start < BOOTS_SALT_COUNT_MAX; start++) {
        world_restart(world, 2);
        world_crash(world, 2);
    }
    world_restart(world, 2);
    EXPECT(world_node(world, 2)->boots.starts.boot.counter == 2 + BOOTS_SALT_COUNT_MAX);
    world_run(world, 10000);
    EXPECT(!may_vote(world, 2));
    EXPECT(world_node(world, 2)->boots.starts.rolled_back);
    world_disk_clear(world, &backup);
    world_destroy(world);
}

/* A start of which nobody heard is no gap: the disk remembers it. */
TEST_CASE(starts_that_nobody_heard_of_do_no_harm)
{
    struct world *world = world_create_settled(&three, test_seed);
    world_crash(world, 2);
    for (int start = 0; start < 40; start++) {
        world_restart(world, 2);
        world_crash(world, 2);
    }
    world_restart(world, 2);
    EXPECT(world_node(world, 2)->boots.starts.boot.counter == 42);
    world_run(world, 10000);
    EXPECT(may_vote(world, 2));
    world_destroy(world);
}

TEST_CASE(a_wiped_disk_is_no_registrar)
{
    struct world *world = world_create_settled(&three, test_seed);
    world_crash(world, 2);
    world_restart_wiped(world, 2, 4711); /* Whatever its id: the incarnation is new. */
    world_story_clear(world);
    world_run(world, 1000);
    EXPECT_STORY(
        world,
        "[ 100] boots: n2 asks to record start 1\n"
        "[ 101] boots: n1 refuses start 1 of n2, it recorded 1\n"
        "[ 101] boots: n3 refuses start 1 of n2, it recorded 1\n"
        "[ 102] boots: n2 was refused by n1: this disk was rolled back, it never votes again\n");
    EXPECT(!may_vote(world, 2));

    /* Even with the incarnation written down somewhere, its first start was long ago. */
    world_crash(world, 2);
    world_restart_wiped(world, 2, world_incarnation(2));
    world_run(world, 1000);
    EXPECT_STORY(
        world,
        "[1100] boots: n2 asks to record start 1\n"
        "[1101] boots: n1 refuses start 1 of n2, it recorded 1\n"
        "[1101] boots: n3 refuses start 1 of n2, it recorded 1\n"
        "[1102] boots: n2 was refused by n1: this disk was rolled back, it never votes again\n");
    EXPECT(!may_vote(world, 2));
    world_destroy(world);
}

TEST_CASE(an_ask_that_was_answered_is_answered_alike_again)
{
    struct world_options doubled = {.node_count = 3, .registrar_count = 3, .double_percent = 100};
    struct world *world = world_create(&doubled, test_seed);
    world_run(world, 5000);
    EXPECT(may_vote(world, 1) && may_vote(world, 2) && may_vote(world, 3));
    EXPECT(!world_node(world, 1)->boots.starts.rolled_back);
    world_destroy(world);
}

/* An ask of a former start that arrives late is refused, and nobody minds. */
TEST_CASE(a_late_ask_of_a_former_start_is_no_roll_back)
{
    struct world_options slow = {.node_count = 3, .registrar_count = 3, .delay_ms = 3000};
    struct world *world = world_create(&slow, test_seed);
    for (int start = 0; start < 5; start++) {
        world_run(world, 700);
        world_crash(world, 2);
        world_restart(world, 2);
    }
    world_run(world, 60000);
    EXPECT(may_vote(world, 2));
    world_destroy(world);
}

static const struct world_options four_of_which_three = {.node_count = 4, .registrar_count = 3};

/* Of three registrars two majorities may share but the one whose disk was set back as well. */
TEST_CASE(a_member_is_not_recorded_by_a_registrar_that_forgot)
{
    struct world *world = world_create_settled(&four_of_which_three, test_seed);
    struct world_disk first = {.state.heap = &world->heap, .starts.heap = &world->heap};
    struct world_disk fourth = first;
    for (int i = 0; i < WORLD_NODE_COUNT_MAX; i++)
        first.records[i].heap = fourth.records[i].heap = &world->heap;
    world_disk_copy(world, &first, &world_node(world, 1)->disk);
    world_disk_copy(world, &fourth, &world_node(world, 4)->disk);
    /* Its next start is recorded by node 1 and node 2, and one more of node 1 by node 2. */
    world_crash(world, 3);
    world_crash(world, 4);
    world_crash(world, 1);
    world_restart(world, 1);
    world_restart(world, 4);
    world_run(world, 5000);
    EXPECT(boots_is_recorded(&world_node(world, 4)->boots));
    world_restart(world, 3);
    world_crash(world, 4);
    world_crash(world, 1);
    world_disk_copy(world, &world_node(world, 1)->disk, &first);
    world_restart(world, 1);
    world_run(world, 5000);
    EXPECT(world_node(world, 1)->boots.starts.rolled_back);
    world_crash(world, 2);
    world_disk_copy(world, &world_node(world, 4)->disk, &fourth);
    world_restart(world, 4);
    world_run(world, 5000);
    EXPECT(!boots_is_recorded(&world_node(world, 4)->boots));
    world_restart(world, 2);
    world_run(world, 5000);
    EXPECT(world_node(world, 4)->boots.starts.rolled_back);
    world_disk_clear(world, &first);
    world_disk_clear(world, &fourth);
    world_destroy(world);
}

/* With three registrars a majority of the two others is both; with five it is three of four. */
TEST_CASE(how_many_others_have_to_be_there)
{
    struct world *world = world_create_settled(&three, test_seed);
    world_crash(world, 3);
    world_crash(world, 2);
    world_restart(world, 2);
    world_run(world, 20000);
    EXPECT(!may_vote(world, 2));
    world_restart(world, 3);
    world_run(world, 20000);
    EXPECT(may_vote(world, 2) && may_vote(world, 3));
    world_destroy(world);

    world = world_create_settled(&five_registrars, test_seed);
    world_crash(world, 5);
    world_crash(world, 2);
    world_restart(world, 2);
    world_run(world, 20000);
    EXPECT(may_vote(world, 2));
    world_crash(world, 4);
    world_crash(world, 2);
    world_restart(world, 2);
    world_run(world, 20000);
    EXPECT(!may_vote(world, 2));
    world_destroy(world);
}

/* After a power cut of all, everybody waits to be recorded, and records the others meanwhile. */
TEST_CASE(all_restart_at_once)
{
    struct world *world = world_create_settled(&five_registrars, test_seed);
    for (node_id id = 1; id <= 5; id++) world_crash(world, id);
    for (node_id id = 1; id <= 5; id++) world_restart(world, id);
    world_run(world, 100);
    for (node_id id = 1; id <= 5; id++) EXPECT(may_vote(world, id));
    world_destroy(world);
}

/* --- Single steps --- */

static struct register_map map_of(unsigned count, node_id first)
{
    struct register_map map = {
        .generation = {1, 9}, .number = 5, .registrar_count = (uint8_t)count};
    for (unsigned i = 0; i < count; i++) {
        node_id id = (node_id)(first + i);
        map.registrars[i] = (struct registrar){id, 1000u + id};
    }
    return map;
}

static enum status receive(struct boots *boots, node_id from, const struct boots_message *message,
                           struct outbox *outbox, struct boots_news *news)
{
    struct buf bytes = {.heap = boots->heap};
    buf_append_u8(&bytes, PROTOCOL_BOOTS);
    boots_message_encode(message, &bytes);
    outbox_clear(outbox);
    enum status status = boots_receive(boots, from, buf_slice(&bytes), outbox, news);
    buf_deinit(&bytes);
    return status;
}

/* What registrars that stay have recorded counts under the next map; new ones are asked. */
TEST_CASE(a_map_with_other_registrars)
{
    struct heap heap;
    heap_init(&heap, 0);
    struct outbox outbox;
    outbox_init(&outbox, &heap);
    struct boots boots;
    struct boots_news news;
    struct prng prng = {.state = test_seed};
    struct starts starts = {.id = 3, .boot.incarnation = 1003};
    starts_next(&starts, 5);
    struct register_map map = map_of(3, 1);
    boots_init(&boots, &starts, &heap, &map, NULL);
    struct boots_message recorded = {BOOTS_RECORDED, map.generation, starts.boot, 0, {0}};
    EXPECT(receive(&boots, 1, &recorded, &outbox, &news) == STATUS_OK);
    EXPECT(!boots_may_vote(&boots));
    EXPECT(receive(&boots, 1, &recorded, &outbox, &news) == STATUS_OK); /* Counts once. */
    EXPECT(!boots_may_vote(&boots));
    EXPECT(receive(&boots, 9, &recorded, &outbox, &news) == STATUS_OK); /* No registrar. */
    EXPECT(!boots_may_vote(&boots));
    EXPECT(receive(&boots, 3, &recorded, &outbox, &news) == STATUS_INVALID); /* Itself. */
    EXPECT(receive(&boots, 2, &recorded, &outbox, &news) == STATUS_OK);
    EXPECT(boots_may_vote(&boots));

    map = map_of(5, 1); /* 1 and 2 stay, two of four others. */
    map.number++;
    boots_set_map(&boots, &map, 1000);
    EXPECT(!boots_may_vote(&boots) && boots_next_ms(&boots) == 1000);
    outbox_clear(&outbox);
    boots_tick(&boots, 1000, &prng, &outbox);
    EXPECT(outbox.count == 2);
    EXPECT(outbox.messages[0].to == 4 && outbox.messages[1].to == 5);
    EXPECT(receive(&boots, 5, &recorded, &outbox, &news) == STATUS_OK);
    EXPECT(boots_may_vote(&boots));

    map.registrars[0].incarnation++; /* Another disk has recorded nothing. */
    map.number++;
    boots_set_map(&boots, &map, 1000);
    EXPECT(!boots_may_vote(&boots));
    map = map_of(5, 3); /* 5 stays, of the four others. */
    boots_set_map(&boots, &map, 1000);
    EXPECT(!boots_may_vote(&boots));
    map = map_of(3, 4);
    boots_set_map(&boots, &map, 1000);
    EXPECT(!boots_may_vote(&boots) &&
           boots_next_ms(&boots) == 1000); /* It has to be known all the same. */
    boots_deinit(&boots);
    outbox_deinit(&outbox);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_CASE(whom_a_registrar_answers)
{
    struct heap heap;
    heap_init(&heap, 0);
    struct outbox outbox;
    outbox_init(&outbox, &heap);
    struct boots boots;
    struct boots_news news;
    struct starts starts = {.id = 1, .boot.incarnation = 1001};
    starts_next(&starts, 5);
    struct register_map map = map_of(3, 1);
    boots_init(&boots, &starts, &heap, &map, NULL);
    struct boots_message ask = {BOOTS_ASK, map.generation, {1002, 1, 8}, 0, {0}};

    EXPECT(receive(&boots, 2, &ask, &outbox, &news) == STATUS_OK);
    EXPECT(outbox.count == 1 && outbox.messages[0].durable && news.store_record == 2);
    EXPECT(boots_record(&boots, 2)->salt == 8);
    EXPECT(receive(&boots, 4, &ask, &outbox, &news) == STATUS_OK); /* No registrar. */
    EXPECT(outbox.count == 1 && news.store_record == 4 && boots_record(&boots, 4)->salt == 8);
    ask.boot.incarnation = 7; /* Another disk than the map names. */
    EXPECT(receive(&boots, 2, &ask, &outbox, &news) == STATUS_OK);
    EXPECT(outbox.count == 1 && outbox_bytes(&outbox, 0).data[1] == BOOTS_REFUSED);
    EXPECT(boots_record(&boots, 2)->salt == 8 && news.store_record == 0);
    ask.boot.incarnation = 1001;
    EXPECT(receive(&boots, 1, &ask, &outbox, &news) == STATUS_INVALID); /* Itself. */
    ask.generation.number = 2;
    EXPECT(receive(&boots, 2, &ask, &outbox, &news) == STATUS_OK);
    EXPECT(outbox.count == 0 && news.newer == 2 && boots.foreign_count == 1);
    EXPECT(boots_receive(&boots, 2, SLICE_LITERAL("\6"), &outbox, &news) == STATUS_INVALID);
    EXPECT(boots.invalid_count == 2);

    boots_forget(&boots, 2);
    EXPECT(boots_record(&boots, 2) == NULL);

    /* A disk that was rolled back has forgotten whom it recorded. Of an odd number one may. */
    struct boots_message refused = {BOOTS_REFUSED, map.generation, starts.boot, 0, {0}};
    EXPECT(receive(&boots, 3, &refused, &outbox, &news) == STATUS_OK);
    EXPECT(news.store_starts && boots.starts.rolled_back);
    ask = (struct boots_message){BOOTS_ASK, map.generation, {1002, 1, 8}, 0, {0}};
    map = map_of(4, 1);
    boots_set_map(&boots, &map, 0);
    EXPECT(receive(&boots, 2, &ask, &outbox, &news) == STATUS_OK);
    EXPECT(outbox.count == 0 && boots_record(&boots, 2) == NULL);
    map = map_of(3, 1);
    boots_set_map(&boots, &map, 0);
    EXPECT(receive(&boots, 2, &ask, &outbox, &news) == STATUS_OK);
    EXPECT(outbox.count == 1 && boots_record(&boots, 2)->salt == 8);
    boots_deinit(&boots);
    outbox_deinit(&outbox);
    EXPECT(heap_used_bytes(&heap) == 0);
}

/* The table has a bound, and without memory it is as if the ask had been lost. */
TEST_CASE(records_have_a_bound)
{
    struct heap heap;
    heap_init(&heap, 0);
    struct boots boots;
    struct starts starts = {.id = 1, .boot.incarnation = 1001};
    starts_next(&starts, 5);
    struct register_map map = map_of(3, 1);
    boots_init(&boots, &starts, &heap, &map, NULL);
    struct buf bytes = {.heap = &heap};
    boot_encode((struct boot){1, 1, 1}, &bytes);
    heap.failure_after = 0;
    EXPECT(boots_restore(&boots, 2, buf_slice(&bytes)) == STATUS_NOMEM);
    for (node_id id = 1; id <= (node_id)BOOTS_RECORD_COUNT_MAX; id++) {
        EXPECT(boots_restore(&boots, id, buf_slice(&bytes)) == STATUS_OK);
    }
    EXPECT(boots_restore(&boots, BOOTS_RECORD_COUNT_MAX + 1, buf_slice(&bytes)) == STATUS_LIMIT);
    EXPECT(boots_restore(&boots, 7, buf_slice(&bytes)) == STATUS_OK);
    EXPECT(boots_restore(&boots, 0, buf_slice(&bytes)) == STATUS_CORRUPT);
    EXPECT(boots_restore(&boots, 7, SLICE_LITERAL("\1")) == STATUS_CORRUPT);
    buf_deinit(&bytes);
    boots_deinit(&boots);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_MAIN(TEST(registrars_that_start_together_record_each_other),
          TEST(a_member_is_not_recorded_by_a_registrar_that_forgot),
          TEST(a_registrar_without_others_votes_at_once),
          TEST(a_restarted_registrar_votes_once_the_others_recorded_its_start),
          TEST(a_record_is_durable_before_it_is_told),
          TEST(a_disk_that_was_rolled_back_never_votes_again),
          TEST(a_rolled_back_disk_does_not_catch_up_by_starting_often),
          TEST(starts_that_nobody_heard_of_do_no_harm), TEST(a_wiped_disk_is_no_registrar),
          TEST(an_ask_that_was_answered_is_answered_alike_again),
          TEST(a_late_ask_of_a_former_start_is_no_roll_back),
          TEST(how_many_others_have_to_be_there), TEST(all_restart_at_once),
          TEST(a_map_with_other_registrars), TEST(whom_a_registrar_answers),
          TEST(records_have_a_bound))
