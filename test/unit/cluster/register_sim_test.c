/* Random worlds: 3 to 7 nodes, a few maps, each of which names other registrars, many proposers,
 * messages lost, doubled and late, cuts, crashes, and in half of the worlds a lost disk. In each
 * world every map has one content for all; where no disk was lost everybody gets on once the
 * world is healed. REGISTER_SIM_SEEDS says how many (2,000); TEST_SEED where they begin. */
#include "register_world.h"

enum { SIM_FAULTS_MS = 15000, SIM_HEALED_MS = 120000, SIM_MAPS = 12 };

struct sim {
    struct world *world;
    struct prng prng;
    unsigned proposals;
    node_id loses; /* Who loses its disk; 0: nobody. */
    bool has_backup;
    struct world_disk backup; /* Of a time when it was down. */
    unsigned crashes, losses;
};

static struct world_node *any_node(struct sim *sim)
{
    return &sim->world->nodes[prng_below(&sim->prng, sim->world->options.node_count)];
}

static uint64_t newest_map(const struct world *world)
{
    uint64_t number = 0;
    for (unsigned i = 0; i < world->options.node_count; i++) {
        const struct world_node *at = &world->nodes[i];
        if (at->up && at->node.map.number > number) number = at->node.map.number;
    }
    return number;
}

static void propose_something(struct sim *sim, struct world_node *at)
{
    char delta[WORLD_DELTA_BYTES_MAX];
    if (!at->up || newest_map(sim->world) >= SIM_MAPS) return;
    snprintf(delta, sizeof delta, "%u of n%u", sim->proposals, (unsigned)at->id);
    if (world_try_propose(sim->world, at->id, delta) == STATUS_OK) sim->proposals++;
}

/* Comes back with its disk, an older one, or none. */
static void come_back(struct sim *sim, struct world_node *at)
{
    struct world *world = sim->world;
    if (at->id != sim->loses) {
        world_restart(world, at->id);
        return;
    }
    if (sim->losses == 0 && prng_one_in(&sim->prng, 3)) {
        sim->losses++;
        if (sim->has_backup && !prng_one_in(&sim->prng, 3)) {
            world_disk_copy(world, &at->disk, &sim->backup);
            world_restart(world, at->id);
        } else {
            bool known = prng_one_in(&sim->prng, 2);
            world_restart_wiped(world, at->id, known ? world_incarnation(at->id) : 4711);
        }
        return;
    }
    if (sim->losses == 0 && !sim->has_backup) {
        world_disk_copy(world, &sim->backup, &at->disk);
        sim->has_backup = true;
    }
    world_start(world, at, at->boots.starts.boot.incarnation);
}

static void cut_somebody_off(struct sim *sim)
{
    struct world_node *a = any_node(sim);
    struct world_node *b = any_node(sim);
    if (a == b) return;
    bool cut = prng_one_in(&sim->prng, 2);
    sim->world->cut[a->id - 1][b->id - 1] = cut;
    if (!prng_one_in(&sim->prng, 3)) sim->world->cut[b->id - 1][a->id - 1] = cut;
}

static void gossip(struct sim *sim)
{
    struct world_node *from = any_node(sim);
    struct world_node *to = any_node(sim);
    if (from != to && from->up) world_send_map(sim->world, from->id, to->id);
}

static void one_fault(struct sim *sim)
{
    struct world_node *at = any_node(sim);
    uint32_t kind = prng_below(&sim->prng, 8);
    if (!at->up) {
        come_back(sim, at);
    } else if (kind == 0) {
        world_crash(sim->world, at->id);
        sim->crashes++;
    } else if (kind < 4) {
        cut_somebody_off(sim);
    } else {
        propose_something(sim, at);
    }
    gossip(sim);
}

static void heal(struct sim *sim)
{
    struct world *world = sim->world;
    memset(world->cut, 0, sizeof world->cut);
    world->options.loss_percent = 0;
    for (unsigned i = 0; i < world->options.node_count; i++) {
        if (!world->nodes[i].up) come_back(sim, &world->nodes[i]);
    }
}

static bool is_quiet(const struct world *world)
{
    for (unsigned i = 0; i < world->options.node_count; i++) {
        const struct world_node *at = &world->nodes[i];
        if (at->node.outcome == PROPOSAL_OPEN) return false;
        if (at->node.map.number != newest_map(world)) return false;
    }
    return true;
}

/* Until nobody wants anything any more, and all have one map. */
static void settle(struct sim *sim)
{
    struct world *world = sim->world;
    uint64_t end_ms = world->now_ms + SIM_HEALED_MS;
    while (!is_quiet(world)) {
        EXPECT(world->now_ms < end_ms);
        gossip(sim);
        world_run(world, 100);
    }
}

static struct world_options some_options(struct prng *prng)
{
    return (struct world_options){
        .node_count = 3 + prng_below(prng, 5),
        .registrar_count = prng_one_in(prng, 4) ? 3 : 0,
        .loss_percent = prng_below(prng, 30),
        .double_percent = prng_below(prng, 30),
        .delay_ms = 1 + prng_below(prng, prng_one_in(prng, 2) ? 20 : 400),
        .sync_ms = 1 + prng_below(prng, 50),
        .quiet = getenv("REGISTER_SIM_STORY") == NULL,
    };
}

struct totals {
    uint64_t maps, proposals, crashes, losses, conflicts, steps_ms;
};

static void run_one(uint64_t seed, bool lossy, bool rule_off, struct totals *totals)
{
    struct sim sim = {.prng = {.state = seed}};
    struct world_options options = some_options(&sim.prng);
    sim.world = world_create(&options, seed);
    sim.world->boots_rule_off = rule_off;
    sim.world->conflicts_allowed = rule_off;
    if (lossy) sim.loses = any_node(&sim)->id;
    world_disk_clear(sim.world, &sim.backup);

    while (sim.world->now_ms < SIM_FAULTS_MS) {
        one_fault(&sim);
        world_run(sim.world, prng_below(&sim.prng, 300));
    }
    heal(&sim);
    if (sim.losses == 0 && !rule_off) {
        settle(&sim);
        /* All at once: one of them is chosen, and all others learn it. */
        uint64_t before = newest_map(sim.world);
        for (unsigned i = 0; i < options.node_count; i++) {
            propose_something(&sim, &sim.world->nodes[i]);
        }
        settle(&sim);
        EXPECT(newest_map(sim.world) > before || before >= SIM_MAPS);
    } else {
        world_run(sim.world, 10000);
    }
    totals->maps += newest_map(sim.world) - 1;
    totals->proposals += sim.proposals;
    totals->crashes += sim.crashes;
    totals->losses += sim.losses;
    totals->conflicts += sim.world->conflicts;
    totals->steps_ms += sim.world->now_ms;
    if (!options.quiet) fputs(sim.world->story, stderr);
    world_disk_clear(sim.world, &sim.backup);
    world_destroy(sim.world);
}

static unsigned seed_count(void)
{
    const char *text = getenv("REGISTER_SIM_SEEDS");
    return text == NULL ? 2000 : (unsigned)strtoul(text, NULL, 10);
}

static struct totals run_all(unsigned count, bool lossy, bool rule_off)
{
    struct totals totals = {0};
    uint64_t first = test_seed;
    for (unsigned i = 0; i < count; i++) {
        test_seed = first + i; /* What a failure prints. */
        run_one(test_seed, lossy, rule_off, &totals);
    }
    test_seed = first;
    printf("%u worlds, %llu s: %llu maps of %llu proposals, %llu crashes, %llu lost disks\n", count,
           (unsigned long long)totals.steps_ms / 1000, (unsigned long long)totals.maps,
           (unsigned long long)totals.proposals, (unsigned long long)totals.crashes,
           (unsigned long long)totals.losses);
    return totals;
}

TEST_CASE(every_map_has_one_content_and_all_get_on_after_healing)
{
    struct totals totals = run_all(seed_count(), false, false);
    EXPECT(totals.maps > seed_count());
    EXPECT(totals.crashes > seed_count());
}

TEST_CASE(every_map_has_one_content_whatever_disk_is_lost)
{
    struct totals totals = run_all(seed_count(), true, false);
    EXPECT(totals.losses > seed_count() / 4);
}

/* The same worlds with the rule off that starts have to be recorded. */
TEST_CASE(lost_disks_that_vote_do_harm)
{
    struct totals totals = run_all(seed_count(), true, true);
    printf("%llu times a node learned another content\n", (unsigned long long)totals.conflicts);
    EXPECT(totals.conflicts > 0);
}

TEST_MAIN(TEST(every_map_has_one_content_and_all_get_on_after_healing),
          TEST(every_map_has_one_content_whatever_disk_is_lost), TEST(lost_disks_that_vote_do_harm))
