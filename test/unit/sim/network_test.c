#include "sim/network.h"

#include "test.h"

enum { TRIES = 20000 };

static const struct network_options plain = {.delay_us = 500, .delay_spread_us = 500};

TEST_CASE(a_good_network_delivers_each_message_once_in_order)
{
    struct network_options options = plain;
    options.jitter_us = 2000;
    struct network *network = network_create(test_seed, 3, &options);
    uint64_t arrivals[NETWORK_COPIES_MAX], last = 0;
    for (uint64_t now = 0; now < TRIES; now++) {
        EXPECT(network_send(network, now, 0, 1, arrivals) == 1);
        EXPECT(arrivals[0] >= now + 500);
        EXPECT(arrivals[0] >= last);
        last = arrivals[0];
    }
    network_destroy(network);
}

/* Within a tenth of what was asked for. */
static bool is_near(uint64_t count, uint64_t wanted)
{
    return count * 10 > wanted * 9 && count * 10 < wanted * 11;
}

TEST_CASE(a_bad_network_loses_doubles_and_reorders_as_told)
{
    struct network_options options = plain;
    options.jitter_us = 100;
    options.loss_ppm = 200000;
    options.duplicate_ppm = 300000;
    options.reorder_ppm = 500000;
    struct network *network = network_create(test_seed, 2, &options);
    uint64_t arrivals[NETWORK_COPIES_MAX], last = 0, overtaken = 0, sum = 0, count = 0;
    for (uint64_t now = 0; now < TRIES; now++) {
        unsigned copies = network_send(network, now, 1, 0, arrivals);
        for (unsigned i = 0; i < copies; i++) {
            overtaken += arrivals[i] < last;
            if (arrivals[i] > last) last = arrivals[i];
            sum += arrivals[i] - now;
            count++;
        }
    }
    struct network_stats stats = network_stats(network);
    EXPECT(is_near(stats.lost_count, TRIES / 5));
    EXPECT(is_near(stats.doubled_count, TRIES * 4 / 5 * 3 / 10));
    EXPECT(overtaken > TRIES / 10);
    EXPECT(sum / count > 500 && sum / count < 2000);
    network_destroy(network);
}

TEST_CASE(the_mean_of_the_jitter_is_what_was_asked_for)
{
    struct network_options options = {.jitter_us = 10000, .reorder_ppm = 1000000};
    struct network *network = network_create(test_seed, 2, &options);
    uint64_t arrivals[NETWORK_COPIES_MAX], sum = 0;
    for (unsigned i = 0; i < TRIES; i++) {
        EXPECT(network_send(network, 0, 0, 1, arrivals) == 1);
        sum += arrivals[0];
    }
    EXPECT(is_near(sum / TRIES, 10000));
    network_destroy(network);
}

TEST_CASE(a_cut_takes_one_way_and_a_stall_delays)
{
    struct network *network = network_create(test_seed, 3, &plain);
    uint64_t arrivals[NETWORK_COPIES_MAX];
    network_cut(network, 0, 1);
    EXPECT(network_send(network, 0, 0, 1, arrivals) == 0);
    EXPECT(network_send(network, 0, 1, 0, arrivals) == 1);
    EXPECT(!network_carries(network, 0, 1) && network_carries(network, 1, 0));

    network_stall(network, 1, 2, 5000);
    EXPECT(network_send(network, 10, 1, 2, arrivals) == 1);
    EXPECT(arrivals[0] > 5000);
    network_degrade(network, 2, 0, 1000000);
    EXPECT(network_send(network, 10, 2, 0, arrivals) == 0);

    network_heal(network);
    for (uint32_t from = 0; from < 3; from++)
        for (uint32_t to = 0; to < 3; to++) {
            EXPECT(network_send(network, 20000, from, to, arrivals) == 1);
            EXPECT(arrivals[0] <= 21000);
        }
    network_destroy(network);
}

TEST_CASE(partitions_have_the_shape_of_their_names)
{
    enum { N = 7 };
    struct prng prng = {.state = test_seed};
    for (unsigned how = 0; how < NETWORK_PARTITION_COUNT; how++) {
        struct network *network = network_create(test_seed, N, &plain);
        network_partition(network, (enum network_partition)how, &prng);
        unsigned with[N] = {0}; /* Nodes of so many neighbours. */
        for (uint32_t a = 0; a < N; a++) {
            unsigned neighbours = 0;
            for (uint32_t b = 0; b < N; b++) {
                EXPECT(network_carries(network, a, b) == network_carries(network, b, a));
                neighbours += a != b && network_carries(network, a, b);
            }
            with[neighbours]++;
        }
        if (how == NETWORK_HALVES) EXPECT(with[2] == 3 && with[3] == 4);
        if (how == NETWORK_RING) EXPECT(with[2] == N);
        if (how == NETWORK_BRIDGE) EXPECT(with[3] == 6 && with[N - 1] == 1);
        if (how == NETWORK_ALONE) EXPECT(with[0] == 1 && with[N - 2] == N - 1);
        network_destroy(network);
    }
}

TEST_MAIN(TEST(a_good_network_delivers_each_message_once_in_order),
          TEST(a_bad_network_loses_doubles_and_reorders_as_told),
          TEST(the_mean_of_the_jitter_is_what_was_asked_for),
          TEST(a_cut_takes_one_way_and_a_stall_delays),
          TEST(partitions_have_the_shape_of_their_names))
