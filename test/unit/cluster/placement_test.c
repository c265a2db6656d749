#include "cluster/placement.h"

#include "base/prng.h"
#include "rangemap_make.h"
#include "test.h"

enum { MEGABYTE = 1 << 20 };

/* A map, how heavy its shards are, and what was moved. */
struct place {
    struct maker maker;
    struct shard_weight *weights;
    uint64_t moved_bytes;
    size_t moves, plans;
    struct placement_bounds bounds;
    struct placement_move *batch;
};

static void place_init(struct place *place, const struct rangemap_settings *settings)
{
    *place = (struct place){.bounds = {.moves_max = 1000}};
    maker_init(&place->maker, settings);
    place->weights = calloc(RANGEMAP_SHARDS_MAX, sizeof *place->weights);
    place->batch = calloc(1000, sizeof *place->batch);
    place->weights[0] = (struct shard_weight){.bytes = 100 * MEGABYTE};
}

static void place_deinit(struct place *place)
{
    free(place->weights);
    free(place->batch);
    maker_deinit(&place->maker);
}

/* Cuts the key space into shards of about the same size, all with the owners of the first. */
static void cut(struct place *place, unsigned shards, struct prng *prng)
{
    for (unsigned i = 1; i < shards; i++) {
        char low[16];
        snprintf(low, sizeof low, "k%05u", i);
        maker_at(&place->maker, CHANGE_SPLIT, low);
        if (i % RANGEMAP_SPLITS_MAX == 0 || i + 1 == shards) {
            EXPECT(maker_commit(&place->maker) == STATUS_OK);
        }
    }
    for (unsigned i = 0; i < shards; i++) {
        place->weights[i].bytes = 40 * MEGABYTE + prng_below(prng, 80 * MEGABYTE);
    }
}

static void add_members(struct place *place, unsigned first, unsigned last, unsigned zones)
{
    for (unsigned id = first; id <= last; id++) {
        maker_add_member(&place->maker, (node_id)id, id % zones);
    }
    EXPECT(maker_commit(&place->maker) == STATUS_OK);
}

/* One arrow for the shards of the batch. */
static void arrow(struct place *place, enum change_kind kind, size_t count)
{
    struct rangemap *base = rangemap_ref(place->maker.map);
    for (size_t i = 0; i < count; i++) {
        struct shard shard = rangemap_shard(base, place->batch[i].shard);
        struct change change = {.kind = kind, .low = shard.low, .forced = true};
        if (kind == CHANGE_BEGIN) {
            change.next_count = place->batch[i].next_count;
            memcpy(change.next, place->batch[i].next, sizeof change.next);
        }
        rangemap_delta_add(&place->maker.delta, &change);
    }
    enum status status = maker_commit(&place->maker);
    if (status != STATUS_OK) fprintf(stderr, "change %d: %s\n", (int)kind, place->maker.why);
    EXPECT(status == STATUS_OK);
    rangemap_unref(base);
}

static size_t plan(struct place *place)
{
    size_t count;
    EXPECT(placement_plan(place->maker.map, place->weights, &place->bounds, &place->maker.heap,
                          place->batch, &count) == STATUS_OK);
    place->plans++;
    place->moves += count;
    for (size_t i = 0; i < count; i++) {
        const struct placement_move *move = &place->batch[i];
        place->moved_bytes += move->added_count * place->weights[move->shard].bytes;
    }
    return count;
}

/* Plans and moves until nothing is left to do. */
static void settle(struct place *place)
{
    place->moves = place->plans = place->moved_bytes = 0;
    size_t count;
    while ((count = plan(place)) > 0) {
        EXPECT(place->plans < 1000);
        arrow(place, CHANGE_BEGIN, count);
        arrow(place, CHANGE_SWITCH, count);
        arrow(place, CHANGE_FINISH, count);
    }
}

/* Moves in flight come to their end, forced past whoever was excluded meanwhile. */
static void finish_all(struct place *place)
{
    for (int stage = SHARD_FILLING; stage <= SHARD_SWITCHED; stage++) {
        struct rangemap *base = rangemap_ref(place->maker.map);
        bool any = false;
        for (size_t i = 0; i < rangemap_shard_count(base); i++) {
            struct shard shard = rangemap_shard(base, i);
            if ((int)shard.stage != stage) continue;
            struct change change = {.forced = true, .low = shard.low};
            change.kind = stage == SHARD_FILLING ? CHANGE_SWITCH : CHANGE_FINISH;
            rangemap_delta_add(&place->maker.delta, &change);
            any = true;
        }
        if (any) EXPECT(maker_commit(&place->maker) == STATUS_OK);
        rangemap_unref(base);
    }
}

/* --- What the map is like, counted anew --- */

struct measure {
    uint64_t load[RANGEMAP_MEMBERS_MAX + 1]; /* By id. */
    bool pairs[RANGEMAP_MEMBERS_MAX + 1][RANGEMAP_MEMBERS_MAX + 1];
    uint64_t bytes, largest;
    size_t peers_max, peers_min, peers_sum;
    double fullest, emptiest; /* 1: the share of a node where all have the same. */
    size_t starved;           /* Nodes that have less than three quarters of it. */
    size_t zones_min;         /* Fewest zones of any shard. */
};

static size_t count_zones(const struct rangemap *map, const struct owners *owners)
{
    size_t zones = 0;
    for (size_t i = 0; i < owners->count; i++) {
        struct member member, other;
        EXPECT(rangemap_member_find(map, owners->ids[i], &member));
        bool seen = false;
        for (size_t j = 0; j < i; j++) {
            EXPECT(rangemap_member_find(map, owners->ids[j], &other));
            seen = seen || slice_equal(member.zone, other.zone);
        }
        zones += !seen;
    }
    return zones;
}

static const struct measure *measure(const struct place *place)
{
    static struct measure measure;
    measure = (struct measure){.zones_min = SIZE_MAX, .peers_min = SIZE_MAX, .emptiest = 1e9};
    const struct rangemap *map = place->maker.map;
    for (size_t i = 0; i < rangemap_shard_count(map); i++) {
        struct shard shard = rangemap_shard(map, i);
        uint64_t bytes = place->weights[i].bytes;
        measure.bytes += bytes;
        if (bytes > measure.largest) measure.largest = bytes;
        EXPECT(shard.stage == SHARD_STABLE);
        EXPECT(shard.owners.count == rangemap_effective_factor(map));
        size_t zones = count_zones(map, &shard.owners);
        if (zones < measure.zones_min) measure.zones_min = zones;
        for (size_t a = 0; a < shard.owners.count; a++) {
            measure.load[shard.owners.ids[a]] += bytes;
            for (size_t b = 0; b < shard.owners.count; b++) {
                if (a != b) measure.pairs[shard.owners.ids[a]][shard.owners.ids[b]] = true;
            }
        }
    }
    size_t staying = 0;
    for (size_t i = 0; i < rangemap_member_count(map); i++) {
        struct member member = rangemap_member(map, i);
        bool stays = member.state != MEMBER_EXCLUDED && !member.leaving;
        if (!stays) EXPECT(measure.load[member.id] == 0);
        staying += stays;
    }
    double share = (double)measure.bytes * rangemap_effective_factor(map) / (double)staying;
    for (size_t i = 0; i < rangemap_member_count(map); i++) {
        struct member member = rangemap_member(map, i);
        if (member.state == MEMBER_EXCLUDED || member.leaving) continue;
        double part = (double)measure.load[member.id] / share;
        if (part > measure.fullest) measure.fullest = part;
        if (part < measure.emptiest) measure.emptiest = part;
        measure.starved += part < 0.75;
        size_t peers = 0;
        for (size_t j = 0; j <= RANGEMAP_MEMBERS_MAX; j++) peers += measure.pairs[member.id][j];
        if (peers > measure.peers_max) measure.peers_max = peers;
        if (peers < measure.peers_min) measure.peers_min = peers;
        measure.peers_sum += peers;
    }
    return &measure;
}

static void report(const struct place *place, const char *what)
{
    const struct measure *now = measure(place);
    size_t members = rangemap_member_count(place->maker.map);
    printf("%s: %zu members, %zu shards: %zu moves, %zu plans, moved %.3f of the data; fullest "
           "%.2f, emptiest %.2f, peers %zu to %zu (mean %.1f)\n",
           what, members, rangemap_shard_count(place->maker.map), place->moves, place->plans,
           (double)place->moved_bytes /
               ((double)now->bytes * rangemap_effective_factor(place->maker.map)),
           now->fullest, now->emptiest, now->peers_min, now->peers_max,
           (double)now->peers_sum / (double)members);
}

/* Nobody is a fifth too full, and at most one node in fifty a quarter too empty: so far a node may
 * stay below its share whose peers are used up. At most one peer above the most, as many zones as
 * there are. */
static void expect_good(const struct place *place, size_t zones)
{
    const struct measure *now = measure(place);
    EXPECT(now->fullest <= 1.2);
    EXPECT(now->starved <= rangemap_member_count(place->maker.map) / 50);
    EXPECT(now->peers_max <= PLACEMENT_PEERS_MAX + 1);
    EXPECT(now->zones_min == zones);
}

/* Of all copies. */
static double part_moved(const struct place *place)
{
    const struct measure *now = measure(place);
    return (double)place->moved_bytes /
           ((double)now->bytes * rangemap_effective_factor(place->maker.map));
}

TEST_CASE(five_nodes_become_six)
{
    struct prng prng = {.state = test_seed};
    struct place place;
    place_init(&place, &rangemap_settings_default);
    cut(&place, 256, &prng);
    add_members(&place, 2, 5, 1);
    settle(&place);
    report(&place, "1 to 5");
    add_members(&place, 6, 6, 1);
    settle(&place);
    report(&place, "5 to 6");
    const struct measure *now = measure(&place);
    EXPECT((double)place.moved_bytes <= 1.1 / 6 * 3 * (double)now->bytes);
    EXPECT(now->fullest < 1.12 && now->emptiest > 0.88);

    maker_leaving(&place.maker, 2, true);
    EXPECT(maker_commit(&place.maker) == STATUS_OK);
    settle(&place);
    report(&place, "6 to 5");
    now = measure(&place);
    EXPECT((double)place.moved_bytes <= 1.1 / 6 * 3 * (double)now->bytes);
    place_deinit(&place);
}

/* The new one may be given a few at a time: nobody else is given any meanwhile. */
TEST_CASE(who_has_its_share_gets_nothing_while_another_waits)
{
    for (unsigned shards = 32; shards <= 128; shards += 32) {
        struct prng prng = {.state = test_seed};
        struct place place;
        place_init(&place, &rangemap_settings_default);
        cut(&place, shards, &prng);
        for (size_t i = 0; i < shards; i++) place.weights[i].bytes = 1;
        add_members(&place, 2, 5, 1);
        settle(&place);
        place.bounds = (struct placement_bounds){.moves_max = 8, .node_moves_max = 4};
        add_members(&place, 6, 6, 1);
        settle(&place);
        EXPECT(part_moved(&place) <= 1.1 / 6);
        EXPECT(place.moved_bytes == measure(&place)->load[6]);
        place_deinit(&place);
    }
}

/* A larger cluster through its life; NODES and SHARDS make it as large as a map may be. */
TEST_CASE(a_large_cluster_stays_balanced_with_few_peers)
{
    struct prng prng = {.state = test_seed};
    struct place place;
    unsigned nodes = getenv("NODES") != NULL ? (unsigned)atoi(getenv("NODES")) : 90;
    unsigned shards = getenv("SHARDS") != NULL ? (unsigned)atoi(getenv("SHARDS")) : 5760;
    place_init(&place, &rangemap_settings_default);
    cut(&place, shards, &prng);
    add_members(&place, 2, nodes, 3);
    settle(&place);
    report(&place, "spread");
    expect_good(&place, 3);

    add_members(&place, nodes + 1, nodes + 1, 3);
    settle(&place);
    report(&place, "one joins");
    expect_good(&place, 3);
    EXPECT(part_moved(&place) < 1.5 / nodes);

    add_members(&place, nodes + 2, nodes + nodes / 10, 3);
    settle(&place);
    report(&place, "a tenth joins");
    expect_good(&place, 3);
    EXPECT(part_moved(&place) < 1.2 / 11);

    for (unsigned i = 0; i < nodes / 20; i++) {
        maker_leaving(&place.maker, (node_id)(3 + 17 * i), true);
    }
    EXPECT(maker_commit(&place.maker) == STATUS_OK);
    settle(&place);
    report(&place, "a twentieth leaves");
    expect_good(&place, 3);
    EXPECT(part_moved(&place) < 1.5 / 20);
    EXPECT(rangemap_memory_bytes(place.maker.map) <= RANGEMAP_BYTES_MAX);
    printf("map: %zu bytes in memory\n", rangemap_memory_bytes(place.maker.map));
    place_deinit(&place);
}

TEST_CASE(shares_follow_capacity)
{
    struct prng prng = {.state = test_seed};
    struct place place;
    place_init(&place, &rangemap_settings_default);
    cut(&place, 512, &prng);
    add_members(&place, 2, 8, 1);
    for (node_id id = 1; id <= 8; id++) {
        struct change change = {.kind = CHANGE_MEMBER_MOVE,
                                .member = maker_member(&place.maker, id, 0)};
        change.member.capacity = id <= 4 ? 100 : 200;
        rangemap_delta_add(&place.maker.delta, &change);
    }
    EXPECT(maker_commit(&place.maker) == STATUS_OK);
    settle(&place);
    const struct measure *now = measure(&place);
    double unit = (double)now->bytes * 3 / 12;
    for (node_id id = 1; id <= 8; id++) {
        double part = (double)now->load[id] / unit / (id <= 4 ? 1 : 2);
        EXPECT(part > 0.88 && part < 1.12);
    }
    place_deinit(&place);
}

TEST_CASE(a_batch_keeps_its_bounds)
{
    struct prng prng = {.state = test_seed};
    struct place place;
    place_init(&place, &rangemap_settings_default);
    cut(&place, 256, &prng);
    add_members(&place, 2, 9, 3);
    place.bounds = (struct placement_bounds){.moves_max = 7};
    EXPECT(plan(&place) == 7);
    place.bounds = (struct placement_bounds){.moves_max = 1000, .bytes_max = 1};
    EXPECT(plan(&place) == 1);
    place.bounds = (struct placement_bounds){.moves_max = 1000, .node_moves_max = 2};
    size_t count = plan(&place);
    size_t given[10] = {0};
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < place.batch[i].next_count; j++) given[place.batch[i].next[j]]++;
    }
    for (size_t id = 2; id <= 9; id++) EXPECT(given[id] <= 2);
    EXPECT(count > 2);

    /* Shards in flight count as if they had arrived: nothing is planned twice. */
    place.bounds = (struct placement_bounds){.moves_max = 1000};
    while ((count = plan(&place)) > 0) arrow(&place, CHANGE_BEGIN, count);
    for (size_t i = 0; i < rangemap_shard_count(place.maker.map); i++) {
        EXPECT(rangemap_shard(place.maker.map, i).stage == SHARD_FILLING);
    }
    place_deinit(&place);
}

/* Three owners are wanted, of three members one is silent: there is nothing to do until it is
 * back, and balance does not move shards that lack an owner. */
TEST_CASE(a_shard_that_cannot_have_its_owners_waits)
{
    struct prng prng = {.state = test_seed};
    struct rangemap_settings settings = rangemap_settings_default;
    struct place place;
    settings.replication_factor = 1;
    place_init(&place, &settings);
    cut(&place, 32, &prng);
    add_members(&place, 2, 3, 1);
    maker_state(&place.maker, 3, MEMBER_SUSPENDED, false);
    maker_settings(&place.maker, &rangemap_settings_default);
    EXPECT(maker_commit(&place.maker) == STATUS_OK);
    EXPECT(plan(&place) == 0);
    maker_state(&place.maker, 3, MEMBER_ACTIVE, false);
    EXPECT(maker_commit(&place.maker) == STATUS_OK);
    EXPECT(plan(&place) == 32);
    place_deinit(&place);
}

TEST_CASE(a_quorum_is_changed_without_a_copy)
{
    struct prng prng = {.state = test_seed};
    struct place place;
    place_init(&place, &rangemap_settings_default);
    cut(&place, 32, &prng);
    add_members(&place, 2, 5, 3);
    settle(&place);
    struct rangemap_settings settings = rangemap_settings_default;
    settings.write_quorum = 3;
    settings.read_quorum = 1;
    maker_settings(&place.maker, &settings);
    EXPECT(maker_commit(&place.maker) == STATUS_OK);
    settle(&place);
    EXPECT(place.moves == 32 && place.moved_bytes == 0);
    struct shard shard = rangemap_shard(place.maker.map, 7);
    EXPECT(shard.owners.write_quorum == 3 && shard.owners.read_quorum == 1);
    place_deinit(&place);
}

/* --- Random histories --- */

/* The least that the fullest zone of a shard must have, and each shard's keep to it. */
static void expect_spread(const struct rangemap *map)
{
    size_t nodes[8] = {0};
    for (size_t i = 0; i < rangemap_member_count(map); i++) {
        struct member member = rangemap_member(map, i);
        if (member.state == MEMBER_ACTIVE && !member.leaving) nodes[member.zone.data[1] - '0']++;
        if (member.state == MEMBER_SUSPENDED) return; /* It may be the one that is missing. */
    }
    size_t limit = 1;
    for (size_t room = 0;; limit++) {
        room = 0;
        for (size_t z = 0; z < 8; z++) room += nodes[z] < limit ? nodes[z] : limit;
        if (room >= rangemap_effective_factor(map)) break;
    }
    for (size_t i = 0; i < rangemap_shard_count(map); i++) {
        struct shard shard = rangemap_shard(map, i);
        size_t in_zone[8] = {0};
        for (size_t o = 0; o < shard.owners.count; o++) {
            struct member member;
            EXPECT(rangemap_member_find(map, shard.owners.ids[o], &member));
            EXPECT(++in_zone[member.zone.data[1] - '0'] <= limit);
        }
    }
}

static void random_event(struct place *place, struct prng *prng)
{
    struct maker *maker = &place->maker;
    size_t count = rangemap_member_count(maker->map);
    struct member member = rangemap_member(maker->map, prng_below(prng, (uint32_t)count));
    struct change change;
    struct rangemap_settings settings = *rangemap_settings(maker->map);
    switch (prng_below(prng, 8)) {
    case 0:
    case 1:
        if (count < 14) {
            maker_add_member(maker, (node_id)rangemap_next_id(maker->map), prng_below(prng, 4));
        }
        break;
    case 2:
        if (count > 4) maker_leaving(maker, member.id, !member.leaving);
        break;
    case 3:
        if (count > 4) maker_state(maker, member.id, MEMBER_EXCLUDED, false);
        break;
    case 4:
        maker_state(maker, member.id,
                    member.state == MEMBER_ACTIVE ? MEMBER_SUSPENDED : MEMBER_ACTIVE, false);
        break;
    case 5:
        change = (struct change){.kind = CHANGE_MEMBER_MOVE};
        change.member = maker_member(maker, member.id, prng_below(prng, 4));
        change.member.capacity = 50 + prng_below(prng, 100);
        rangemap_delta_add(&maker->delta, &change);
        break;
    case 6:
        settings.replication_factor = (uint8_t)(1 + prng_below(prng, 5));
        maker_settings(maker, &settings);
        break;
    default:
        maker_remove(maker, member.id);
        break;
    }
    if (maker->delta.size > 17) (void)!maker_commit(maker);
}

/* Arrows are refused where too many owners are silent: nobody is from here on. */
static void wake_all(struct place *place)
{
    bool any = false;
    for (size_t i = 0; i < rangemap_member_count(place->maker.map); i++) {
        struct member member = rangemap_member(place->maker.map, i);
        if (member.state != MEMBER_SUSPENDED) continue;
        maker_state(&place->maker, member.id, MEMBER_ACTIVE, false);
        any = true;
    }
    if (any) EXPECT(maker_commit(&place->maker) == STATUS_OK);
}

TEST_CASE(random_histories_end_with_every_shard_where_it_should_be)
{
    struct prng prng = {.state = test_seed};
    for (int round = 0; round < 20; round++) {
        struct place place;
        place_init(&place, &rangemap_settings_default);
        cut(&place, 1 + prng_below(&prng, 120), &prng);
        add_members(&place, 2, 4, 3);
        settle(&place);
        for (int step = 0; step < 30; step++) {
            for (uint32_t i = prng_below(&prng, 3); i < 3; i++) random_event(&place, &prng);
            size_t count = plan(&place);
            if (count > 0 && prng_one_in(&prng, 2)) arrow(&place, CHANGE_BEGIN, count);
            wake_all(&place);
            finish_all(&place);
            settle(&place);
            EXPECT(place.plans < 20);
            measure(&place);
            expect_spread(place.maker.map);
        }
        place_deinit(&place);
    }
}

TEST_MAIN(TEST(five_nodes_become_six), TEST(who_has_its_share_gets_nothing_while_another_waits),
          TEST(a_large_cluster_stays_balanced_with_few_peers), TEST(shares_follow_capacity),
          TEST(a_batch_keeps_its_bounds), TEST(a_shard_that_cannot_have_its_owners_waits),
          TEST(a_quorum_is_changed_without_a_copy),
          TEST(random_histories_end_with_every_shard_where_it_should_be))
