/* The paragraphs of docs/design/health.md as stories: who decides what, and when. Delays are the
 * same for all messages, and the seed is fixed: another one would choose other helpers. */
#include "health_network.h"

enum { SEED = 1, DELAY_MS = 10 };

static struct network *begin_story(size_t count)
{
    struct network *network = network_create(count, SEED);
    network->delay_min_ms = DELAY_MS;
    network->delay_max_ms = DELAY_MS;
    network_run(network, 10000);
    network->listens = true;
    return network;
}

#define EXPECT_STORY(network, text)                                                                \
    do {                                                                                           \
        struct slice told = buf_slice(&(network)->story);                                          \
        if (!slice_equal(told, slice_from_text(text)))                                             \
            fprintf(stderr, "expected:\n%s\ntold:\n%.*s\n", text, (int)told.size, told.data);      \
        EXPECT(slice_equal(told, slice_from_text(text)));                                          \
    } while (0)

/* "Probes", "Suspicion". */
TEST_CASE(a_dead_node_is_asked_through_others_then_suspect_then_down)
{
    struct network *network = begin_story(4);
    network_kill(network, 2);
    network_run(network, 10000);
    EXPECT_STORY(network, "[ 11502] n1 n3 does not answer, ask n2\n"
                          "[ 11502] n1 n3 does not answer, ask n4\n"
                          "[ 11902] n1 n3 does not answer, ask n4\n"
                          "[ 11902] n1 n3 does not answer, ask n2\n"
                          "[ 12249] n2 n3 does not answer, ask n4\n"
                          "[ 12249] n2 n3 does not answer, ask n1\n"
                          "[ 12302] n1 n3 is suspect, says n1\n"
                          "[ 12312] n2 n3 is suspect, says n1\n"
                          "[ 12512] n4 n3 is suspect, says n1\n"
                          "[ 13049] n2 n3 is suspect, says n2\n"
                          "[ 13059] n1 n3 is suspect, says n2\n"
                          "[ 13459] n4 n3 is suspect, says n2\n"
                          "[ 13867] n4 n3 is suspect, says n4\n"
                          "[ 13877] n2 n3 is suspect, says n4\n"
                          "[ 13877] n1 n3 is suspect, says n4\n"
                          "[ 17302] n1 n3 is down\n"
                          "[ 17449] n2 n3 is down\n"
                          "[ 17667] n4 n3 is down\n");
    network_destroy(network);
}

/* "Probes": one way of one link is cut. */
TEST_CASE(a_node_that_others_reach_lives)
{
    struct network *network = begin_story(3);
    network_cut(network, 0, 1, true);
    network_run(network, 4500);
    EXPECT_STORY(network, "[ 11385] n2 n1 does not answer, ask n3\n"
                          "[ 11425] n2 n1 answers n3\n"
                          "[ 11460] n1 n2 does not answer, ask n3\n"
                          "[ 11500] n1 n2 answers n3\n"
                          "[ 13385] n2 n1 does not answer, ask n3\n"
                          "[ 13425] n2 n1 answers n3\n"
                          "[ 13460] n1 n2 does not answer, ask n3\n"
                          "[ 13500] n1 n2 answers n3\n"
                          "[ 14385] n2 n1 does not answer, ask n3\n"
                          "[ 14425] n2 n1 answers n3\n");
    EXPECT(network_state(network, 0, 1) == HEALTH_SUSPECT); /* For requests from there. */
    EXPECT(network_state(network, 2, 1) == HEALTH_ALIVE);
    network_destroy(network);
}

/* "Refutation". */
TEST_CASE(a_paused_node_says_that_it_is_alive)
{
    struct network *network = begin_story(3);
    network->nodes[1].paused = true;
    network_run(network, 4000);
    network->nodes[1].paused = false;
    network_run(network, 2000);
    EXPECT_STORY(network, "[ 11460] n1 n2 does not answer, ask n3\n"
                          "[ 11784] n3 n2 does not answer, ask n1\n"
                          "[ 11860] n1 n2 does not answer, ask n3\n"
                          "[ 12184] n3 n2 does not answer, ask n1\n"
                          "[ 12260] n1 n2 is suspect, says n1\n"
                          "[ 12270] n3 n2 is suspect, says n1\n"
                          "[ 12584] n3 n2 is suspect, says n3\n"
                          "[ 12594] n1 n2 is suspect, says n3\n"
                          "[ 15004] n2 slept 4019 ms\n"
                          "[ 15004] n2 n1 thinks me dead: rebuttal 1\n"
                          "[ 15014] n1 n2 is alive: rebuttal 1\n"
                          "[ 15024] n3 n2 is alive: rebuttal 1\n"
                          "[ 15024] n3 n2 answers n1\n");
    network_destroy(network);
}

/* "Coming back". */
TEST_CASE(two_sides_of_a_partition_find_each_other)
{
    struct network *network = begin_story(3);
    network_split(network, 1, true);
    network_run(network, 40000);
    buf_clear(&network->story);
    network_split(network, 1, false);
    network_run(network, 5000);
    EXPECT_STORY(network, "[ 51195] n1 n2 thinks me dead: rebuttal 1\n"
                          "[ 51205] n2 n1 is back: boot 1, rebuttal 1\n"
                          "[ 51205] n2 n1 thinks me dead: rebuttal 1\n"
                          "[ 51205] n2 n3 is suspect, says n1\n"
                          "[ 51215] n1 n2 is back: boot 1, rebuttal 1\n"
                          "[ 51604] n3 n1 is back: boot 1, rebuttal 1\n"
                          "[ 51604] n3 n2 thinks me dead: rebuttal 1\n"
                          "[ 51614] n2 n3 is alive: rebuttal 1\n"
                          "[ 51794] n1 n3 is back: boot 1, rebuttal 1\n");
    network_destroy(network);
}

/* "Coming back": a process that starts again begins another life by its boot. */
TEST_CASE(a_restart_is_another_life)
{
    struct network *network = begin_story(3);
    network_kill(network, 2);
    network_start(network, 2);
    network_run(network, 3000);
    EXPECT_STORY(network, "[ 11356] n1 n3 restarted: boot 2\n"
                          "[ 12156] n2 n3 restarted: boot 2\n");
    network_destroy(network);
}

/* "Suspicion": one that hears nobody doubts itself, and harms nobody. */
TEST_CASE(a_deaf_node_goes_down_alone)
{
    struct network *network = begin_story(3);
    network_cut(network, 0, 2, true);
    network_cut(network, 1, 2, true);
    network_run(network, 12000);
    EXPECT_STORY(network, "[ 11784] n3 n2 does not answer, ask n1\n"
                          "[ 12184] n3 n2 does not answer, ask n1\n"
                          "[ 12385] n2 n3 does not answer, ask n1\n"
                          "[ 12460] n1 n3 does not answer, ask n2\n"
                          "[ 12584] n3 n2 is suspect, says n3\n"
                          "[ 12594] n1 n2 is suspect, says n3\n"
                          "[ 12594] n2 n3 thinks me dead: rebuttal 1\n"
                          "[ 12785] n2 n3 does not answer, ask n1\n"
                          "[ 12795] n1 n2 is alive: rebuttal 1\n"
                          "[ 12860] n1 n3 does not answer, ask n2\n"
                          "[ 13185] n2 n3 is suspect, says n2\n"
                          "[ 13195] n1 n3 is suspect, says n2\n"
                          "[ 13260] n1 n3 is suspect, says n1\n"
                          "[ 13270] n2 n3 is suspect, says n1\n"
                          "[ 14584] n3 n1 is suspect, says n3\n"
                          "[ 14594] n1 n3 thinks me dead: rebuttal 1\n"
                          "[ 18185] n2 n3 is down\n"
                          "[ 18260] n1 n3 is down\n");
    network_destroy(network);
}

/* "Cards": that there is a newer map goes round with them. */
TEST_CASE(a_newer_map_is_heard_of)
{
    struct network *network = begin_story(4);
    network->fetches = true;
    have_map(&network->nodes[3], 9);
    network_run(network, 4000);
    EXPECT_STORY(network, "[ 11069] n2 n4 has map 9\n"
                          "[ 11589] n3 n4 has map 9\n"
                          "[ 12322] n1 n2 has map 9\n");
    network_destroy(network);
}

/* "Time". */
TEST_CASE(a_node_knows_that_it_slept)
{
    struct network *network = begin_story(3);
    network->nodes[1].clock_ms += 3600000;
    network_run(network, 5000);
    network->nodes[1].clock_ms -= 7200000;
    network_run(network, 5000);
    EXPECT_STORY(network, "[ 11185] n2 slept 3600200 ms\n");
    network_destroy(network);
}

TEST_MAIN(TEST(a_dead_node_is_asked_through_others_then_suspect_then_down),
          TEST(a_node_that_others_reach_lives), TEST(a_paused_node_says_that_it_is_alive),
          TEST(two_sides_of_a_partition_find_each_other), TEST(a_restart_is_another_life),
          TEST(a_deaf_node_goes_down_alone), TEST(a_newer_map_is_heard_of),
          TEST(a_node_knows_that_it_slept))
