/* Health among 2 to 100 nodes over a network that loses, copies, delays and cuts: who is thought
 * dead, how soon, and that what was cut grows together again. With HEALTH_FIGURES=1 it prints what
 * docs/design/health.md shows. */
#include "health_network.h"

#include "base/math.h"

static const size_t sizes[] = {2, 3, 5, 16, 100};
enum { SIZES = sizeof sizes / sizeof *sizes };

static struct network *network_lossy(size_t count, uint32_t loss_permille)
{
    struct network *network = network_create(count, test_seed + count * 1000);
    network->loss_permille = loss_permille;
    network->copy_permille = 20;
    return network;
}

/* Until all others have the subject in that state, or worse. */
static uint64_t run_until_state(struct network *network, size_t subject, unsigned state,
                                uint64_t limit_ms)
{
    uint64_t begun_ms = network->now_ms;
    for (;;) {
        size_t seen = network_seen(network, subject, state);
        if (state == HEALTH_SUSPECT) seen += network_seen(network, subject, HEALTH_DOWN);
        size_t up = 0;
        for (size_t i = 0; i < network->count; i++) up += i != subject && network->nodes[i].up;
        if (seen == up || network->now_ms - begun_ms >= limit_ms) return network->now_ms - begun_ms;
        network_run(network, HEALTH_TICK_MS);
    }
}

static uint64_t suspected_count(const struct network *network)
{
    uint64_t count = 0;
    for (size_t i = 0; i < network->count; i++) {
        if (network->nodes[i].up) count += health_counts(network->nodes[i].health)->suspected_count;
    }
    return count;
}

TEST_CASE(loss_kills_nobody)
{
    static const uint32_t losses[] = {0, 50, 300};
    for (size_t i = 0; i < SIZES; i++) {
        for (size_t j = 0; j < sizeof losses / sizeof *losses; j++) {
            struct network *network = network_lossy(sizes[i], losses[j]);
            uint64_t seconds = sizes[i] == 100 ? 120 : 600;
            network_run(network, seconds * 1000);
            uint64_t bytes = 0;
            for (size_t k = 0; k < network->count; k++) bytes += network_sent_bytes(network, k);
            figure("%zu nodes, %.0f %% loss, %" PRIu64 " s: %" PRIu64 " deaths, %" PRIu64
                   " suspicions, %.0f bytes/s and node\n",
                   sizes[i], losses[j] / 10.0, seconds, network->died_count,
                   suspected_count(network), (double)bytes / (double)(sizes[i] * seconds));
            EXPECT(network->died_count == 0);
            if (losses[j] == 0) EXPECT(suspected_count(network) == 0);
            /* A suspicion in a thousand seconds of a node. */
            if (losses[j] == 50) EXPECT(suspected_count(network) <= 2 + sizes[i] * seconds / 1000);
            network_destroy(network);
        }
    }
}

/* A node is killed, everybody finds out; it starts again, everybody finds out. */
TEST_CASE(a_death_and_a_return_are_seen_by_all_once)
{
    for (size_t i = 0; i < SIZES; i++) {
        size_t count = sizes[i], victim = count / 2;
        struct network *network = network_lossy(count, 50);
        network_run(network, 60000);
        network_kill(network, victim);
        uint64_t begun_ms = network->now_ms;
        while (network_seen(network, victim, HEALTH_ALIVE) == count - 1)
            network_run(network, HEALTH_TICK_MS);
        uint64_t first_ms = network->now_ms - begun_ms;
        run_until_state(network, victim, HEALTH_SUSPECT, 60000);
        uint64_t suspect_ms = network->now_ms - begun_ms;
        run_until_state(network, victim, HEALTH_DOWN, 60000);
        uint64_t down_ms = network->now_ms - begun_ms;
        network_run(network, 10000);
        EXPECT(network->died_count == count - 1);

        network_start(network, victim);
        uint64_t back_ms = run_until_seen(network, 60000);
        network_run(network, 30000);
        figure("%zu nodes: one killed: suspect for one after %" PRIu64 " ms, for all after %" PRIu64
               ", down for all after %" PRIu64 "; started again: back for all after %" PRIu64 "\n",
               count, first_ms, suspect_ms, down_ms, back_ms);
        EXPECT(first_ms <= 6000);
        EXPECT(suspect_ms <= 12000);
        EXPECT(down_ms <= 20000);
        EXPECT(back_ms <= 8000);
        EXPECT(network->died_count == count - 1);
        EXPECT(network->returned_count == count - 1);
        EXPECT(network->restarted_count == 0);
        network_destroy(network);
    }
}

TEST_CASE(a_quick_restart_is_reported_as_one)
{
    struct network *network = network_lossy(5, 50);
    network_run(network, 10000);
    network_kill(network, 2);
    network_run(network, 300);
    network_start(network, 2);
    network_run(network, 10000);
    EXPECT(network->died_count == 0 && network->returned_count == 0);
    EXPECT(network->restarted_count == 4);
    EXPECT(network_unseen_pairs(network) == 0);
    network_destroy(network);
}

/* Two sides think each other dead; when the cut heals each sees all of the other return, once. */
TEST_CASE(a_partition_heals)
{
    for (size_t i = 1; i < SIZES; i++) {
        size_t count = sizes[i], side = count / 3 + 1;
        struct network *network = network_lossy(count, 50);
        network_run(network, 30000);
        network_split(network, side, true);
        network_run(network, 120000);
        uint64_t pairs = 2 * side * (count - side);
        EXPECT(network->died_count == pairs);
        EXPECT(network_unseen_pairs(network) == pairs);
        network_split(network, side, false);
        uint64_t heal_ms = run_until_seen(network, 60000);
        figure("%zu nodes: a partition of two minutes heals after %" PRIu64 " ms\n", count,
               heal_ms);
        EXPECT(heal_ms <= 15000);
        EXPECT(network->died_count == pairs && network->returned_count == pairs);
        network_destroy(network);
    }
}

TEST_CASE(an_acknowledged_map_is_known_to_all)
{
    static const uint64_t limits_ms[SIZES] = {5000, 5000, 5000, 10000, 15000};
    for (size_t i = 0; i < SIZES; i++) {
        struct network *network = network_lossy(sizes[i], 50);
        network->fetches = true;
        network_run(network, 30000);
        have_map(&network->nodes[0], 2);
        uint64_t took_ms = run_until_acknowledged(network, 2, 60000);
        figure("%zu nodes: all know that all have a new map after %" PRIu64 " ms\n", sizes[i],
               took_ms);
        EXPECT(took_ms <= limits_ms[i]);
        network_destroy(network);
    }
}

/* One link is cut in one direction, or in both: others still reach both ends. */
TEST_CASE(a_cut_link_makes_nobody_suspect_for_all)
{
    for (int both = 0; both < 2; both++) {
        struct network *network = network_lossy(16, 0);
        network_run(network, 20000);
        network_cut(network, 3, 7, true);
        if (both) network_cut(network, 7, 3, true);
        network_run(network, 300000);
        uint64_t suspected = suspected_count(network);
        network_run(network, 300000);
        figure("a link cut in %d directions: %" PRIu64 " suspicions, later %" PRIu64 "\n", both + 1,
               suspected, suspected_count(network) - suspected);
        EXPECT(network->died_count == 0);
        EXPECT(suspected_count(network) <= 4);
        /* Who cannot reach it itself does not ask it first. */
        EXPECT(network_state(network, 3, 7) == HEALTH_SUSPECT);
        EXPECT(network_state(network, 7, 3) == HEALTH_SUSPECT);
        EXPECT(network_unseen_pairs(network) == 2);
        network_cut(network, 3, 7, false);
        network_cut(network, 7, 3, false);
        EXPECT(run_until_seen(network, 60000) <= 5000);
        network_destroy(network);
    }
}

/* All links of a node but one are cut: once the helper at the other end is found, it stays. */
TEST_CASE(a_node_behind_one_other_is_reached_through_it)
{
    enum { BEHIND = 1, FRONT = 2, COUNT = 16 };
    struct network *network = network_lossy(COUNT, 0);
    network_run(network, 20000);
    for (size_t i = 0; i < COUNT; i++) {
        if (i == BEHIND || i == FRONT) continue;
        network_cut(network, i, BEHIND, true);
        network_cut(network, BEHIND, i, true);
    }
    network_run(network, 300000);
    uint64_t suspected = suspected_count(network), died = network->died_count;
    network_run(network, 300000);
    figure("a node behind one other: %" PRIu64 " suspicions, later %" PRIu64 "; %" PRIu64
           " deaths, later %" PRIu64 "\n",
           suspected, suspected_count(network) - suspected, died, network->died_count - died);
    EXPECT(network->died_count == died);
    EXPECT(suspected_count(network) == suspected);
    network_destroy(network);
}

/* A node that hears nobody, or that nobody hears: it is down after a while and stays so. What it
 * says about the others harms none of them for long, and once. */
TEST_CASE(a_deaf_node_and_a_mute_one_go_down_once)
{
    for (size_t size = 1; size < SIZES; size++) {
        for (int deaf = 0; deaf < 2; deaf++) {
            size_t count = sizes[size], odd = 1;
            struct network *network = network_lossy(count, 0);
            network_run(network, 30000);
            for (size_t i = 0; i < count; i++) {
                if (i != odd) network_cut(network, deaf ? i : odd, deaf ? odd : i, true);
            }
            network_run(network, count * 20000);
            EXPECT(network_seen(network, odd, HEALTH_DOWN) == count - 1);
            uint64_t died = network->died_count, suspected = suspected_count(network);
            network_run(network, 300000);
            figure("%zu nodes, one %s: %" PRIu64 " deaths, %" PRIu64 " in the next 5 minutes, "
                   "%" PRIu64 " suspicions, %" PRIu64 "\n",
                   count, deaf ? "deaf" : "mute", died, network->died_count - died, suspected,
                   suspected_count(network) - suspected);
            EXPECT(network->died_count == died && network->returned_count == 0);
            EXPECT(suspected_count(network) == suspected);
            for (size_t i = 0; i < count; i++) {
                for (size_t j = 0; j < count; j++) {
                    if (i != odd && j != odd && i != j) EXPECT(network->died[i * count + j] == 0);
                }
            }
            for (size_t i = 0; i < count; i++) {
                network_cut(network, i, odd, false);
                network_cut(network, odd, i, false);
            }
            EXPECT(run_until_seen(network, 60000) <= 15000);
            EXPECT(network->returned_count == network->died_count);
            network_destroy(network);
        }
    }
}

/* A process stands still, then goes on: a short pause is refuted, a long one is a death that ends.
 * It does not take the others for dead: it knows that it slept. */
TEST_CASE(a_pause_harms_the_paused_one_at_most)
{
    static const uint64_t pauses_ms[] = {500, 3000, 60000};
    for (size_t size = 1; size < SIZES; size++) {
        for (size_t i = 0; i < sizeof pauses_ms / sizeof *pauses_ms; i++) {
            size_t count = sizes[size];
            struct network *network = network_lossy(count, 0);
            network_run(network, 20000);
            network->nodes[1].paused = true;
            network_run(network, pauses_ms[i]);
            network->nodes[1].paused = false;
            network_run(network, 20000);
            bool dies = pauses_ms[i] > 30000;
            EXPECT(network->died_count == (dies ? count - 1 : 0));
            EXPECT(network->returned_count == network->died_count);
            for (size_t j = 0; j < count; j++) EXPECT(network->died[count + j] == 0);
            EXPECT(network_unseen_pairs(network) == 0);
            network_destroy(network);
        }
    }
}

/* Suspected and refuted again and again, and never killed by a timer of a suspicion that is over. */
TEST_CASE(a_refuted_suspicion_does_not_kill)
{
    struct network *network = network_lossy(5, 0);
    for (int i = 0; i < 10; i++) {
        network_run(network, 20000);
        network->nodes[1].paused = true;
        network_run(network, 3500);
        network->nodes[1].paused = false;
    }
    network_run(network, 60000);
    EXPECT(suspected_count(network) >= 10);
    EXPECT(network->died_count == 0);
    network_destroy(network);
}

/* Invariant 7. Jumps come while probes and their answers are on their way. */
TEST_CASE(clocks_that_jump_or_stand_still_make_nobody_suspect)
{
    for (size_t size = 0; size < SIZES; size++) {
        struct network *network = network_lossy(sizes[size], 0);
        struct node *odd = &network->nodes[1];
        network->delay_min_ms = 120;
        network->delay_max_ms = 150;
        network_run(network, 20000);
        for (int i = 0; i < 40; i++) {
            odd->clock_ms += i % 2 == 0 ? 3600000 : -1800000;
            network_run(network, 2000 + 137 * (uint64_t)i % 1000);
        }
        odd->frozen_ms = node_clock(odd);
        odd->frozen = true;
        network_run(network, 60000);
        odd->frozen = false;
        network_run(network, 20000);
        EXPECT(network->died_count == 0);
        EXPECT(suspected_count(network) == 0);
        EXPECT(network_unseen_pairs(network) == 0);
        network_destroy(network);
    }
}

/* Everything at once, for a while; then it all ends well. Invariants 2 and 3 are checked at each
 * event (take_events). */
TEST_CASE(after_chaos_all_see_all)
{
    for (uint64_t round = 0; round < 12; round++) {
        size_t count = 3 + round;
        struct network *network = network_create(count, test_seed * 100 + round);
        struct prng prng = {.state = test_seed + round};
        network->loss_permille = prng_below(&prng, 300);
        network->copy_permille = prng_below(&prng, 300);
        network->delay_max_ms = 1 + prng_below(&prng, 400);
        network->fetches = true;
        uint64_t map = 1;
        for (int step = 0; step < 60; step++) {
            size_t a = prng_below(&prng, (uint32_t)count), b = prng_below(&prng, (uint32_t)count);
            struct node *node = &network->nodes[a];
            switch (prng_below(&prng, 6)) {
            case 0:
                if (node->up)
                    network_kill(network, a);
                else
                    network_start(network, a);
                break;
            case 1:
                if (a != b) network_cut(network, a, b, prng_one_in(&prng, 2));
                break;
            case 2:
                if (node->up) node->paused = !node->paused;
                break;
            case 3:
                node->clock_ms = (int64_t)prng_below(&prng, 100000);
                break;
            case 4:
                network_split(network, b, prng_one_in(&prng, 2));
                break;
            case 5:
                if (node->up) have_map(node, ++map);
                if (node->up) health_set_load(node->health, prng_below(&prng, 5000), 100);
                break;
            }
            network_run(network, prng_below(&prng, 6000));
        }
        for (size_t i = 0; i < count; i++) {
            network->nodes[i].paused = false;
            if (!network->nodes[i].up) network_start(network, i);
            for (size_t j = 0; j < count; j++) network_cut(network, i, j, false);
        }
        network->loss_permille = 20;
        uint64_t heal_ms = run_until_seen(network, 120000);
        network_run(network, 10000);
        EXPECT(heal_ms <= 30000);
        for (size_t i = 0; i < count; i++) {
            EXPECT(network->nodes[i].map == map);
            EXPECT(health_acknowledged_min(network->nodes[i].health, network->members, count) ==
                   map);
        }
        EXPECT(network->twin_count == 0);
        network_destroy(network);
    }
}

static uint64_t story_hash(uint64_t seed, uint64_t *messages)
{
    struct network *network = network_create(7, seed);
    network->loss_permille = 200;
    network->copy_permille = 100;
    network->listens = true;
    network_run(network, 30000);
    network_kill(network, 3);
    network_run(network, 30000);
    network_start(network, 3);
    network_run(network, 30000);
    uint64_t hash = 0;
    for (size_t i = 0; i < network->story.size; i++) hash = hash * 31 + network->story.data[i];
    *messages = network->message_count;
    network_destroy(network);
    return hash;
}

TEST_CASE(the_same_seed_gives_the_same_run)
{
    uint64_t first, second, other;
    EXPECT(story_hash(test_seed, &first) == story_hash(test_seed, &second));
    EXPECT(first == second);
    EXPECT(story_hash(test_seed, &first) != story_hash(test_seed + 1, &other));
}

TEST_MAIN(TEST(loss_kills_nobody), TEST(a_death_and_a_return_are_seen_by_all_once),
          TEST(a_quick_restart_is_reported_as_one), TEST(a_partition_heals),
          TEST(an_acknowledged_map_is_known_to_all), TEST(a_cut_link_makes_nobody_suspect_for_all),
          TEST(a_node_behind_one_other_is_reached_through_it),
          TEST(a_deaf_node_and_a_mute_one_go_down_once), TEST(a_pause_harms_the_paused_one_at_most),
          TEST(a_refuted_suspicion_does_not_kill),
          TEST(clocks_that_jump_or_stand_still_make_nobody_suspect), TEST(after_chaos_all_see_all),
          TEST(the_same_seed_gives_the_same_run))
