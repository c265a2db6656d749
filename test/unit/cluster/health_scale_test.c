/* Health among a thousand nodes: who is found dead and how soon, when all know that all have a new
 * map, and what it costs. HEALTH_FIGURES=1 prints what docs/design/health.md shows, HEALTH_LONG=1
 * runs the cases that take a minute: 30 % loss, and a partition. */
#include "health_network.h"

#include "base/math.h"

enum {
    NODES = 1000,
    WINDOW_MS = 10000,
    BYTES_A_WINDOW_MAX = 10 * 10000, /* 10 kB/s. */
};

/* What each node sent, looked at in windows of ten seconds. */
struct meter {
    uint64_t sent[NODES];
    double mean_max, mean_last; /* Of the busiest and of the last window: bytes/s of a node. */
    uint64_t most;              /* Bytes/s of the busiest node in its busiest window. */
};

static void meter_run(struct meter *meter, struct network *network)
{
    uint64_t all = 0;
    network_run(network, WINDOW_MS);
    for (size_t i = 0; i < network->count; i++) {
        if (!network->nodes[i].up) continue;
        uint64_t sent = network_sent_bytes(network, i) - meter->sent[i];
        meter->sent[i] += sent;
        all += sent;
        meter->most = u64_max(meter->most, sent * 1000 / WINDOW_MS);
        EXPECT(sent <= BYTES_A_WINDOW_MAX);
    }
    meter->mean_last = (double)all / (double)network->count * 1000 / WINDOW_MS;
    if (meter->mean_last > meter->mean_max) meter->mean_max = meter->mean_last;
}

/* The least number that this node believes all to have acknowledged. */
static size_t knowing_count(const struct network *network, uint64_t number)
{
    size_t count = 0;
    for (size_t i = 0; i < network->count; i++) {
        count += health_acknowledged_min(network->nodes[i].health, network->members,
                                         network->count) == number;
    }
    return count;
}

/* A map spreads, is acknowledged, and that it is spreads. Returns when all knew. */
static uint64_t acknowledge(struct network *network, struct meter *meter, uint64_t limit_ms)
{
    uint64_t begun_ms = network->now_ms, all_ms = 0, first_ms = 0, had_ms = 0;
    uint64_t sent = 0;
    have_map(&network->nodes[0], 2);
    while (all_ms == 0 && network->now_ms - begun_ms < limit_ms) {
        network_run(network, 500);
        uint64_t took_ms = network->now_ms - begun_ms;
        size_t had = 0, knowing = knowing_count(network, 2);
        for (size_t i = 0; i < network->count; i++) had += network->nodes[i].map == 2;
        if (had_ms == 0 && had == network->count) had_ms = took_ms;
        if (first_ms == 0 && knowing > 0) first_ms = took_ms;
        if (knowing == network->count) all_ms = took_ms;
    }
    for (size_t i = 0; i < network->count; i++)
        sent += network_sent_bytes(network, i) - meter->sent[i];
    figure("%zu nodes: all have a new map after %" PRIu64 " ms, one knows that all have it after "
           "%" PRIu64 ", all know after %" PRIu64 "; %.0f bytes/s and node\n",
           network->count, had_ms, first_ms, all_ms,
           (double)sent / (double)network->count * 1000 / (double)(network->now_ms - begun_ms));
    for (size_t i = 0; i < network->count; i++) meter->sent[i] = network_sent_bytes(network, i);
    return all_ms == 0 ? UINT64_MAX : all_ms;
}

static void kill_one(struct network *network, uint64_t limit_ms)
{
    size_t victim = network->count / 2;
    uint64_t begun_ms = network->now_ms, suspect_ms = 0, first_ms = 0, down_ms = 0;
    network_kill(network, victim);
    while (down_ms == 0 && network->now_ms - begun_ms < limit_ms) {
        network_run(network, 500);
        uint64_t took_ms = network->now_ms - begun_ms;
        size_t alive = network_seen(network, victim, HEALTH_ALIVE);
        if (first_ms == 0 && alive < network->count - 1) first_ms = took_ms;
        if (suspect_ms == 0 && alive == 0) suspect_ms = took_ms;
        if (network_seen(network, victim, HEALTH_DOWN) == network->count - 1) down_ms = took_ms;
    }
    figure("%zu nodes: one killed: suspect for one after %" PRIu64 " ms, for all after %" PRIu64
           ", down for all after %" PRIu64 "\n",
           network->count, first_ms, suspect_ms, down_ms);
    EXPECT(down_ms != 0);
}

static void live_a_while(struct network *network, uint32_t loss_permille, uint64_t known_limit_ms,
                         uint64_t down_limit_ms)
{
    static struct meter meter;
    meter = (struct meter){0};
    network->loss_permille = loss_permille;
    network->copy_permille = 10;
    network->fetches = true;
    for (int i = 0; i < 3; i++) meter_run(&meter, network);
    double quiet = meter.mean_last;
    uint64_t known_ms = acknowledge(network, &meter, known_limit_ms);
    EXPECT(known_ms <= known_limit_ms);
    meter_run(&meter, network);
    figure("%zu nodes, %.0f %% loss: bytes/s and node: %.0f in the third ten seconds after all "
           "started, %.0f in the busiest; the busiest node %" PRIu64 "\n",
           network->count, loss_permille / 10.0, quiet, meter.mean_max, meter.most);
    EXPECT(network->died_count == 0);
    kill_one(network, down_limit_ms);
    EXPECT(network->died_count == network->count - 1);
}

TEST_CASE(a_thousand_nodes_at_five_percent_loss)
{
    struct network *network = network_create(NODES, test_seed);
    live_a_while(network, 50, 25000, 40000);
    network_destroy(network);
}

TEST_CASE(a_thousand_nodes_at_thirty_percent_loss)
{
    if (getenv("HEALTH_LONG") == NULL) skip();
    struct network *network = network_create(NODES, test_seed);
    live_a_while(network, 300, 60000, 120000);
    network_destroy(network);
}

TEST_CASE(a_partition_of_a_thousand_nodes_heals)
{
    if (getenv("HEALTH_LONG") == NULL) skip();
    static struct meter meter;
    struct network *network = network_create(NODES, test_seed);
    network->loss_permille = 50;
    for (int i = 0; i < 3; i++) meter_run(&meter, network);
    network_split(network, 333, true);
    for (int i = 0; i < 18; i++) meter_run(&meter, network);
    uint64_t died = network->died_count;
    network_split(network, 333, false);
    uint64_t heal_ms = run_until_seen(network, 120000);
    figure("%d nodes: a third cut off for 3 minutes: %" PRIu64 " of %u pairs down; heals after "
           "%" PRIu64 " ms; the busiest node %" PRIu64 " bytes/s\n",
           NODES, died, 2 * 333 * 667, heal_ms, meter.most);
    network_run(network, 20000);
    EXPECT(heal_ms < 60000);
    EXPECT(network->returned_count == network->died_count);
    network_destroy(network);
}

TEST_MAIN(TEST(a_thousand_nodes_at_five_percent_loss),
          TEST(a_thousand_nodes_at_thirty_percent_loss),
          TEST(a_partition_of_a_thousand_nodes_heals))
