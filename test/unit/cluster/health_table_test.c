/* The health cache: what it answers, whom it picks, when it hedges. */
#include "cluster/health_table.h"

#include "test.h"

static struct heap heap;
static struct prng prng;

static struct health_table table_of(const struct health_view *views, size_t count)
{
    struct health_table table;
    heap_init(&heap, 0);
    prng.state = test_seed;
    EXPECT(health_table_init(&table, &heap, count) == STATUS_OK);
    for (size_t i = 0; i < count; i++) {
        EXPECT(health_table_add(&table, views[i].id) == STATUS_OK);
        table.views[i] = views[i];
    }
    return table;
}

TEST_CASE(members_are_found_by_id_and_strangers_are_down)
{
    static const struct health_view views[] = {
        {.id = 1, .depth = 10}, {.id = 255, .depth = 11}, {.id = 256}, {.id = 65535, .depth = 13}};
    struct health_table table = table_of(views, 4);
    EXPECT(health_table_of(&table, 1).depth == 10);
    EXPECT(health_table_of(&table, 255).depth == 11);
    EXPECT(health_table_of(&table, 256).id == 256);
    EXPECT(health_table_of(&table, 65535).depth == 13);
    EXPECT(health_table_of(&table, 2).state == HEALTH_DOWN);
    EXPECT(health_table_of(&table, 2).id == 0);
    EXPECT(health_table_of(&table, 30000).state == HEALTH_DOWN);

    struct health_table *copy = health_table_copy(&table, &heap);
    table.views[0].depth = 99;
    EXPECT(health_table_of(copy, 1).depth == 10);
    EXPECT(health_table_of(copy, 65535).depth == 13);
    health_table_destroy(copy);
    health_table_deinit(&table);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_CASE(a_copy_without_memory_is_none_and_leaks_nothing)
{
    static const struct health_view views[] = {{.id = 1}, {.id = 300}, {.id = 700}};
    struct health_table table = table_of(views, 3);
    uint64_t used = heap_used_bytes(&heap);
    for (int64_t after = 0; after < 5; after++) {
        heap.failure_after = after;
        EXPECT(health_table_copy(&table, &heap) == NULL);
        EXPECT(heap_used_bytes(&heap) == used);
    }
    health_table_deinit(&table);
}

/* Each pair differs in one thing, and the earlier one is better by it. */
TEST_CASE(alive_goes_before_idle_before_near_before_short_before_quick)
{
    static const struct health_view pairs[][2] = {
        {{.state = HEALTH_ALIVE, .depth = 900, .zone = 2}, {.state = HEALTH_SUSPECT, .zone = 1}},
        {{.state = HEALTH_SUSPECT, .depth = 9000, .zone = 2}, {.state = HEALTH_DOWN, .zone = 1}},
        {{.depth = 1000, .zone = 2}, {.depth = 1024, .zone = 1}},
        {{.depth = 500, .zone = 1}, {.depth = 0, .zone = 2}},
        {{.depth = 4, .zone = 1, .latency_us = 9000}, {.depth = 8, .zone = 1, .latency_us = 10}},
        {{.depth = 4, .zone = 1, .latency_us = 900}, {.depth = 7, .zone = 1, .latency_us = 2000}},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        struct health_view views[2] = {pairs[i][0], pairs[i][1]};
        views[0].id = 1;
        views[1].id = 2;
        struct health_table table = table_of(views, 2);
        for (int round = 0; round < 20; round++) {
            node_id ids[] = {2, 1};
            EXPECT(health_pick(&table, 1, ids, 2, &prng) == 1);
            EXPECT(ids[0] == 2); /* As it was given. */
            size_t usable = health_rank(&table, 1, ids, 2, &prng);
            EXPECT(usable == (views[1].state == HEALTH_DOWN ? 1U : 2U));
            EXPECT(ids[0] == 1 && ids[1] == 2);
        }
        health_table_deinit(&table);
    }
}

TEST_CASE(nobody_is_picked_where_all_are_down)
{
    static const struct health_view views[] = {{.id = 1, .state = HEALTH_DOWN},
                                               {.id = 2, .state = HEALTH_DOWN}};
    struct health_table table = table_of(views, 2);
    EXPECT(health_pick(&table, 0, (node_id[]){1, 2, 3}, 3, &prng) == 0);
    EXPECT(health_pick(&table, 0, NULL, 0, &prng) == 0);
    health_table_deinit(&table);
}

/* Of three alike each gets its share; what differs by less than an octave is alike. */
TEST_CASE(equals_share_the_requests)
{
    static const struct health_view views[] = {{.id = 1, .depth = 4, .latency_us = 300},
                                               {.id = 2, .depth = 5, .latency_us = 400},
                                               {.id = 3, .depth = 7, .latency_us = 500}};
    struct health_table table = table_of(views, 3);
    unsigned picked[4] = {0};
    for (int round = 0; round < 3000; round++)
        picked[health_pick(&table, 0, (node_id[]){1, 2, 3}, 3, &prng)]++;
    for (int id = 1; id <= 3; id++) EXPECT(picked[id] > 850 && picked[id] < 1150);
    health_table_deinit(&table);
}

TEST_CASE(a_hedge_waits_for_the_p95)
{
    static const struct health_view views[] = {{.id = 1}};
    struct health_table table = table_of(views, 1);
    struct health_latency latency = {0};
    EXPECT(health_hedge_after_ms(&table, 1) == HEALTH_HEDGE_DEFAULT_MS);
    EXPECT(health_hedge_after_ms(&table, 2) == HEALTH_HEDGE_DEFAULT_MS);

    /* Nine in ten take 2 ms, the others 40. */
    for (int i = 0; i < 1000; i++)
        health_latency_add(&latency, &table.views[0], i % 10 == 0 ? 40000 : 2000, 0);
    EXPECT(health_hedge_after_ms(&table, 1) >= 40 && health_hedge_after_ms(&table, 1) <= 60);
    EXPECT(table.views[0].latency_us > 2000 && table.views[0].latency_us < 12000);

    /* It gets quicker, and what was is forgotten. */
    for (int i = 0; i < 4000; i++) health_latency_add(&latency, &table.views[0], 500, 1);
    EXPECT(health_hedge_after_ms(&table, 1) == 1);
    EXPECT(table.views[0].latency_us >= 500 && table.views[0].latency_us < 520);

    /* Minutes later fewer answers outweigh the old ones. */
    for (int i = 0; i < 100; i++)
        health_latency_add(&latency, &table.views[0], 300000, 60000 + 10000 * (uint64_t)i);
    EXPECT(health_hedge_after_ms(&table, 1) >= 300);
    for (int i = 0; i < 4000; i++) health_latency_add(&latency, &table.views[0], UINT32_MAX, 1);
    EXPECT(health_hedge_after_ms(&table, 1) == HEALTH_HEDGE_MAX_MS);
    health_table_deinit(&table);
}

TEST_MAIN(TEST(members_are_found_by_id_and_strangers_are_down),
          TEST(a_copy_without_memory_is_none_and_leaks_nothing),
          TEST(alive_goes_before_idle_before_near_before_short_before_quick),
          TEST(nobody_is_picked_where_all_are_down), TEST(equals_share_the_requests),
          TEST(a_hedge_waits_for_the_p95))
