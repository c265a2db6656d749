/* What a cluster costs at some size, in virtual time: the figures of docs/benchmarks.md, "At scale".
 *
 *   scale converge [--seed N] [--words N] [--differing N] [--payload N]
 *   scale grow     [--seed N] [--words N] [--shards N] [--payload N]
 *   scale thousand [--seed N] [--nodes N] [--joining N] [--shards N]
 *
 * Each ends with lines `name: measured, at most bound: ok` and `N passed, N failed`. */
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/check.h"
#include "base/math.h"
#include "fleet.h"
#include "node/replica_private.h"
#include "sim/store_world.h"

enum { MAP_EVERYWHERE_MS = 25000 }; /* So soon each node goes by a new map, and all know that. */

struct arguments {
    uint64_t seed;
    uint32_t words, differing, payload, nodes, joining, shards;
};

static unsigned passed, failed;

__attribute__((format(printf, 4, 5))) static void expect(bool good, const char *name,
                                                         const char *bound, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("%s: ", name);
    vprintf(format, arguments);
    printf(", %s: %s\n", bound, good ? "ok" : "MISSED");
    fflush(stdout);
    va_end(arguments);
    passed += good;
    failed += !good;
}

static struct store_options store_options(void)
{
    struct store_options options = store_world_options();
    options.publish_after_sync = true;
    options.gc_age_ms = UINT64_MAX / 2;
    options.memtrie_bytes_max = 4 << 20;
    options.log_segment_bytes = 256 << 10;
    options.log_bytes_max = 4 << 20;
    options.file_bytes = 4 << 20;
    return options;
}

/* --- Words --- */

enum { KEY_BYTES = 16 };

static struct slice key_of(uint32_t number, char text[KEY_BYTES])
{
    int size = snprintf(text, KEY_BYTES, "w%07u", number);
    return slice_of(text, (size_t)size);
}

/* Low keys that cut words [0, words) into so many shards. */
static const char **make_cuts(uint32_t words, uint32_t shards)
{
    const char **cuts = calloc(shards, sizeof *cuts);
    char *texts = calloc(shards, KEY_BYTES);
    CHECK(cuts != NULL && texts != NULL);
    for (uint32_t i = 1; i < shards; i++) {
        char *text = texts + (size_t)i * KEY_BYTES;
        key_of((uint32_t)((uint64_t)words * i / shards), text);
        cuts[i - 1] = text;
    }
    if (shards == 1) free(texts);
    return cuts;
}

static void free_cuts(const char **cuts, uint32_t shards)
{
    if (shards > 1) free((void *)((uintptr_t)cuts[0] - KEY_BYTES));
    free(cuts);
}

struct word {
    char key[KEY_BYTES];
    uint8_t payload[4096];
    struct record record;
};

/* As one node stamped it at `ms`, whoever holds it. */
static struct slice make_word(struct word *word, struct prng *prng, uint32_t number, uint64_t ms,
                              uint32_t payload)
{
    word->record = record_of_set((struct version){ms << HLC_COUNTER_BITS, 9}, number % 1000);
    CHECK(payload <= sizeof word->payload);
    for (uint32_t i = 0; i < payload; i++) word->payload[i] = (uint8_t)prng_u32(prng);
    word->record.has_payload = payload > 0;
    word->record.payload = slice_of(word->payload, payload);
    return key_of(number, word->key);
}

static uint64_t word_bytes(struct fleet *fleet, const struct word *word)
{
    struct buf encoded = {.heap = &fleet->heap};
    record_encode(&word->record, &encoded);
    uint64_t bytes = encoded.size + strlen(word->key);
    buf_deinit(&encoded);
    return bytes;
}

static struct shard shard_of(const struct rangemap *map, struct slice key)
{
    return rangemap_shard(map, rangemap_find(map, key));
}

/* At all of its owners; now and then the machines sync and work. */
static void put_all(struct fleet *fleet, uint32_t words, uint32_t payload)
{
    uint64_t ms = SIM_CLOCK_START_US / 1000 - 10000;
    struct word word;
    for (uint32_t i = 0; i < words; i++) {
        struct slice key = make_word(&word, &fleet->prng, i, ms, payload);
        struct shard shard = shard_of(fleet->map, key);
        for (size_t j = 0; j < shard.owners.count; j++)
            fleet_put(fleet, fleet->by_id[shard.owners.ids[j]] - 1, key, &word.record);
        if (i % 2000 == 1999) fleet_run(fleet, 200);
    }
    fleet_run(fleet, 3000);
}

/* --- Converging --- */

static void cut_all(struct fleet *fleet)
{
    for (uint32_t a = 0; a < fleet->machine_count; a++)
        for (uint32_t b = 0; b < a; b++) network_cut_both_ways(fleet->network, a, b);
}

static void print_sent(const struct fleet *fleet, const char *what, const uint64_t before[])
{
    static const char *const names[] = {"",       "health", "register", "topology", "data",
                                        "repair", "boots",  "purge",    "transfer"};
    printf("%s:", what);
    for (unsigned i = 1; i < sizeof names / sizeof *names; i++)
        printf(" %s %llu", names[i],
               (unsigned long long)(fleet_sent(fleet, i) - (before == NULL ? 0 : before[i])));
    printf(" bytes\n");
}

static void converge(const struct arguments *arguments)
{
    enum { NODES = 5, FACTOR = 3 };
    const char **cuts = make_cuts(arguments->words, arguments->shards);
    struct fleet *fleet = fleet_create(&(struct fleet_options){.seed = arguments->seed,
                                                               .node_count = NODES,
                                                               .zone_count = 3,
                                                               .cuts = cuts,
                                                               .cut_count = arguments->shards - 1,
                                                               .factor = FACTOR,
                                                               .store = store_options()});
    put_all(fleet, arguments->words, arguments->payload);
    CHECK(fleet_is_equal(fleet));

    cut_all(fleet);
    fleet_run(fleet, 15000);
    uint64_t differing = 0, ms = SIM_CLOCK_START_US / 1000 + fleet_now_ms(fleet);
    for (uint32_t i = 0; i < arguments->differing; i++) {
        struct word word;
        uint32_t number = prng_below(&fleet->prng, arguments->words);
        struct slice key =
            make_word(&word, &fleet->prng, number, ms + i / 1000, arguments->payload);
        struct shard shard = shard_of(fleet->map, key);
        node_id owner = shard.owners.ids[prng_below(&fleet->prng, shard.owners.count)];
        fleet_put(fleet, fleet->by_id[owner] - 1, key, &word.record);
        differing += word_bytes(fleet, &word) * (FACTOR - 1);
    }
    fleet_run(fleet, 2000);
    CHECK(!fleet_is_equal(fleet));

    uint64_t before[FLEET_PROTOCOLS], begin = fleet_sent(fleet, 0);
    for (unsigned i = 0; i < FLEET_PROTOCOLS; i++) before[i] = fleet_sent(fleet, i);
    uint64_t healed_ms = fleet_now_ms(fleet);
    network_heal(fleet->network);
    while (!fleet_is_equal(fleet) && fleet_now_ms(fleet) < healed_ms + 120000) fleet_run(fleet, 20);
    uint64_t took_ms = fleet_now_ms(fleet) - healed_ms, sent = fleet_sent(fleet, 0) - begin;
    uint64_t bound = differing * 3 / 2 + 1000000;
    printf("%u of %u words differ, %llu bytes for those that lack them\n", arguments->differing,
           arguments->words, (unsigned long long)differing);
    print_sent(fleet, "sent", before);
    expect(took_ms <= 5000, "equal after", "at most 5000 ms", "%llu ms",
           (unsigned long long)took_ms);
    char text[64];
    snprintf(text, sizeof text, "at most %llu bytes", (unsigned long long)bound);
    expect(sent <= bound, "sent", text, "%llu bytes", (unsigned long long)sent);
    fleet_destroy(fleet);
    free_cuts(cuts, arguments->shards);
}

/* --- Growing --- */

/* Copies that each version begins to move, by how many words its shards hold. */
struct watch_moves {
    uint64_t number, copies;
};

static void watch_moves(struct fleet *fleet, struct machine *machine)
{
    struct watch_moves *watch = fleet->context;
    const struct rangemap *map = replica_map(machine->replica);
    uint64_t number = rangemap_identity(map)->number;
    if (number <= watch->number) return;
    watch->number = number;
    for (size_t i = 0; i < rangemap_shard_count(map); i++) {
        struct shard shard = rangemap_shard(map, i);
        if (shard.stage != SHARD_FILLING || shard.began != number) continue;
        const struct machine *owner = &fleet->machines[fleet->by_id[shard.owners.ids[0]] - 1];
        struct key_range range = {shard_first_key(&shard), shard.high};
        struct query query = sim_process_query(&owner->process);
        uint64_t count;
        CHECK(query_count_range(&query, range, &count) == STATUS_OK);
        for (size_t j = 0; j < shard.next.count; j++)
            if (!owners_contain(&shard.owners, shard.next.ids[j])) watch->copies += count;
    }
}

static bool is_moving(const struct rangemap *map)
{
    for (size_t i = 0; i < rangemap_shard_count(map); i++)
        if (rangemap_shard(map, i).stage != SHARD_STABLE) return true;
    return false;
}

static void grow(const struct arguments *arguments)
{
    enum { NODES = 5, FACTOR = 3, QUIET_MS = 30000 };
    const char **cuts = make_cuts(arguments->words, arguments->shards);
    struct fleet *fleet = fleet_create(&(struct fleet_options){.seed = arguments->seed,
                                                               .node_count = NODES,
                                                               .spare_count = 1,
                                                               .zone_count = 1,
                                                               .cuts = cuts,
                                                               .cut_count = arguments->shards - 1,
                                                               .factor = FACTOR,
                                                               .store = store_options()});
    struct watch_moves watch = {.number = rangemap_identity(fleet->map)->number};
    fleet->context = &watch;
    fleet->on_step = watch_moves;
    put_all(fleet, arguments->words, arguments->payload);
    CHECK(fleet_is_equal(fleet));
    struct word word;
    make_word(&word, &fleet->prng, 0, 1, arguments->payload);
    uint64_t copies = (uint64_t)arguments->words * FACTOR;
    uint64_t data = copies * word_bytes(fleet, &word);

    uint64_t before[FLEET_PROTOCOLS];
    for (unsigned i = 0; i < FLEET_PROTOCOLS; i++) before[i] = fleet_sent(fleet, i);
    uint64_t begun_ms = fleet_now_ms(fleet), quiet_ms = begun_ms;
    watch.copies = 0;
    while (!fleet_join(fleet, NODES, 0)) fleet_run(fleet, 200);
    for (uint64_t number = 0; fleet_now_ms(fleet) < quiet_ms + QUIET_MS;) {
        fleet_run(fleet, 500);
        const struct rangemap *map = fleet_map(fleet);
        bool quiet = rangemap_identity(map)->number == number && !is_moving(map);
        if (!quiet) quiet_ms = fleet_now_ms(fleet);
        number = rangemap_identity(map)->number;
        CHECK(fleet_now_ms(fleet) < begun_ms + 3600000);
    }
    const struct rangemap *map = fleet_map(fleet);
    unsigned owned = 0;
    for (size_t i = 0; i < rangemap_shard_count(map); i++) {
        struct shard shard = rangemap_shard(map, i);
        owned += owners_contain(&shard.owners, fleet->machines[NODES].id);
    }
    uint64_t moved = fleet_sent(fleet, PROTOCOL_TRANSFER) - before[PROTOCOL_TRANSFER];
    uint64_t repaired = fleet_sent(fleet, PROTOCOL_REPAIR) - before[PROTOCOL_REPAIR];
    printf("%u words in %u shards: %llu copies, %llu bytes; moved within %llu s, in %llu maps\n",
           arguments->words, arguments->shards, (unsigned long long)copies,
           (unsigned long long)data, (unsigned long long)(quiet_ms - begun_ms) / 1000,
           (unsigned long long)(rangemap_identity(map)->number -
                                rangemap_identity(fleet->map)->number));
    print_sent(fleet, "sent", before);
    printf("the sixth node owns %u of %zu shards\n", owned, rangemap_shard_count(map) * FACTOR);
    expect(fleet_is_equal(fleet), "owners", "all", "equal");
    double share = (double)watch.copies / (double)copies;
    expect(share <= 1.1 / 6 && owned > 0, "copies moved", "at most 0.1833 of all", "%.4f of all",
           share);
    double bytes = (double)(moved + repaired) / (double)data;
    expect(bytes <= 1.1 / 6, "bytes of transfers and repair", "at most 0.1833 of all",
           "%.4f of all", bytes);
    fleet_destroy(fleet);
    free_cuts(cuts, arguments->shards);
}

/* --- A thousand --- */

enum { VERSIONS_MAX = 1 << 16 };

struct version_seen {
    uint64_t decided_ms, known_ms, acknowledged_ms; /* 0: not yet. */
    uint32_t needed, known, acknowledged;           /* Machines. */
};

struct watch_maps {
    uint32_t running;
    struct version_seen versions[VERSIONS_MAX];
    uint64_t newest, *known, *acknowledged; /* By machine. */
};

static void watch_maps(struct fleet *fleet, struct machine *machine)
{
    struct watch_maps *watch = fleet->context;
    size_t index = (size_t)(machine - fleet->machines);
    uint64_t now_ms = fleet_now_ms(fleet);
    uint64_t known = rangemap_identity(replica_map(machine->replica))->number;
    uint64_t acknowledged = machine->replica->topology.acknowledged;
    CHECK(known < VERSIONS_MAX);
    for (; watch->newest < known; watch->newest++)
        watch->versions[watch->newest + 1] =
            (struct version_seen){.decided_ms = now_ms, .needed = watch->running};
    for (uint64_t v = watch->known[index]; v < known; v++) {
        struct version_seen *seen = &watch->versions[v + 1];
        if (++seen->known == seen->needed) seen->known_ms = now_ms;
    }
    for (uint64_t v = watch->acknowledged[index]; v < acknowledged; v++) {
        struct version_seen *seen = &watch->versions[v + 1];
        if (++seen->acknowledged == seen->needed) seen->acknowledged_ms = now_ms;
    }
    watch->known[index] = u64_max(watch->known[index], known);
    watch->acknowledged[index] = u64_max(watch->acknowledged[index], acknowledged);
}

/* Of versions decided since `since_ms`: the longest way to everybody. */
static void report_maps(const struct watch_maps *watch, const char *what, uint64_t since_ms,
                        uint64_t until_ms)
{
    uint64_t known = 0, acknowledged = 0, count = 0, open = 0;
    for (uint64_t v = 1; v <= watch->newest; v++) {
        const struct version_seen *seen = &watch->versions[v];
        if (seen->decided_ms < since_ms || seen->decided_ms > until_ms) continue;
        count++;
        if (seen->known_ms == 0 || seen->acknowledged_ms == 0) {
            open++;
            continue;
        }
        known = u64_max(known, seen->known_ms - seen->decided_ms);
        acknowledged = u64_max(acknowledged, seen->acknowledged_ms - seen->decided_ms);
    }
    expect(known <= MAP_EVERYWHERE_MS && acknowledged <= MAP_EVERYWHERE_MS && open == 0, what,
           "at most 25000 ms",
           "%llu maps, known everywhere after %llu ms, acknowledged after %llu ms (%llu not)",
           (unsigned long long)count, (unsigned long long)known, (unsigned long long)acknowledged,
           (unsigned long long)open);
}

static void report_gossip(const struct fleet *fleet, const char *what, uint64_t before,
                          uint32_t running, uint64_t ms)
{
    double rate = (double)(fleet_sent(fleet, PROTOCOL_HEALTH) - before) / running * 1000 /
                  (double)ms / 1000;
    expect(rate <= 10, what, "at most 10 kB/s", "%.2f kB/s a node", rate);
}

static double wall_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void say(const struct fleet *fleet, const char *what)
{
    static double begun;
    struct rusage usage;
    if (begun == 0) begun = wall_seconds();
    getrusage(RUSAGE_SELF, &usage);
    printf("[%7.1f s, after %6.0f s, %5ld MiB] map %llu: %s\n", (double)fleet_now_ms(fleet) / 1000,
           wall_seconds() - begun, usage.ru_maxrss / 1024,
           (unsigned long long)rangemap_identity(fleet_map(fleet))->number, what);
    fflush(stdout);
}

static uint32_t count_behind(const struct fleet *fleet)
{
    const struct rangemap *newest = fleet_map(fleet);
    uint32_t behind = 0;
    for (uint32_t i = 0; i < fleet->machine_count; i++) {
        if (fleet->machines[i].replica == NULL) continue;
        const struct rangemap *map = replica_map(fleet->machines[i].replica);
        behind += !hash128_equal(rangemap_identity(map)->hash, rangemap_identity(newest)->hash);
    }
    return behind;
}

/* All that run come to go by one map, though new ones may be made still, and nobody was sent a message that broke a rule. */
static void expect_one_map(struct fleet *fleet, const char *when)
{
    uint64_t since = fleet_now_ms(fleet), invalid = 0;
    uint32_t behind;
    while ((behind = count_behind(fleet)) > 0 && fleet_now_ms(fleet) < since + MAP_EVERYWHERE_MS)
        fleet_run(fleet, 50);
    for (uint32_t i = 0; i < fleet->machine_count; i++) {
        struct replica_stats stats;
        if (fleet->machines[i].replica == NULL) continue;
        replica_stats(fleet->machines[i].replica, &stats);
        invalid += stats.invalid_count;
    }
    expect(behind == 0 && invalid == 0, when, "none",
           "%u go by another map after %llu ms, %llu messages broke a rule", behind,
           (unsigned long long)(fleet_now_ms(fleet) - since), (unsigned long long)invalid);
}

static uint32_t join_all(struct fleet *fleet, struct watch_maps *watch, uint32_t first)
{
    uint32_t joined = 0;
    uint64_t end_ms = fleet_now_ms(fleet) + 1200000;
    while (first + joined < fleet->machine_count && fleet_now_ms(fleet) < end_ms) {
        for (uint32_t i = first; i < fleet->machine_count; i++) {
            if (fleet->machines[i].id != 0) continue;
            if (!fleet_join(fleet, i, prng_below(&fleet->prng, first))) continue;
            joined++;
            watch->running++;
            watch->known[i] = rangemap_identity(fleet->machines[i].map)->number;
            watch->acknowledged[i] = watch->known[i];
        }
        fleet_run(fleet, 500);
    }
    return joined;
}

static void thousand(const struct arguments *arguments)
{
    const char **cuts = make_cuts(arguments->words, arguments->shards);
    struct fleet_options options = {.seed = arguments->seed,
                                    .node_count = arguments->nodes,
                                    .spare_count = arguments->joining,
                                    .zone_count = 3,
                                    .cuts = cuts,
                                    .cut_count = arguments->shards - 1,
                                    .factor = 3,
                                    .store = store_options()};
    options.store.log_segment_bytes = 64 << 10;
    options.store.log_bytes_max = 1 << 20;
    struct fleet *fleet = fleet_create(&options);
    struct watch_maps *watch = calloc(1, sizeof *watch);
    uint64_t *numbers = calloc(2 * (size_t)fleet->machine_count, sizeof *numbers);
    CHECK(watch != NULL && numbers != NULL);
    watch->newest = rangemap_identity(fleet->map)->number;
    watch->running = arguments->nodes;
    watch->known = numbers;
    watch->acknowledged = numbers + fleet->machine_count;
    for (uint32_t i = 0; i < fleet->machine_count; i++)
        watch->known[i] = watch->acknowledged[i] = watch->newest;
    fleet->context = watch;
    fleet->on_step = watch_maps;
    say(fleet, "all run");
    put_all(fleet, arguments->words, 0);
    fleet_run(fleet, 10000);
    say(fleet, "words are there");

    uint64_t before = fleet_sent(fleet, PROTOCOL_HEALTH), since = fleet_now_ms(fleet);
    fleet_run(fleet, 30000);
    report_gossip(fleet, "gossip, quiet", before, watch->running, 30000);

    before = fleet_sent(fleet, PROTOCOL_HEALTH);
    since = fleet_now_ms(fleet);
    uint32_t joined = join_all(fleet, watch, arguments->nodes);
    uint64_t until = fleet_now_ms(fleet);
    say(fleet, "they have joined");
    report_gossip(fleet, "gossip, joins", before, watch->running, until - since);
    expect(joined == arguments->joining, "joined", "all", "%u in %llu s", joined,
           (unsigned long long)(until - since) / 1000);
    fleet_run(fleet, 40000);
    report_maps(watch, "maps of joins", since, until);

    for (uint32_t i = 0; i < fleet->machine_count; i++) {
        if (fleet->machines[i].zone != 0 || fleet->machines[i].replica == NULL) continue;
        fleet_stop(fleet, i, true);
        watch->running--;
    }
    since = fleet_now_ms(fleet);
    before = fleet_sent(fleet, PROTOCOL_HEALTH);
    fleet_run(fleet, 60000);
    say(fleet, "a zone was lost for a minute");
    report_gossip(fleet, "gossip, a zone lost", before, watch->running, 60000);
    for (uint32_t i = 0; i < fleet->machine_count; i++) {
        if (fleet->machines[i].id == 0 || fleet->machines[i].replica != NULL) continue;
        fleet_start(fleet, i);
        watch->running++;
    }
    fleet_run(fleet, 60000);
    say(fleet, "it is back");
    expect_one_map(fleet, "after the zone");

    since = fleet_now_ms(fleet);
    before = fleet_sent(fleet, PROTOCOL_HEALTH);
    for (uint32_t i = 0; i < fleet->machine_count; i++) {
        if (fleet->machines[i].id == 0) continue;
        fleet_stop(fleet, i, i % 2 == 0);
        fleet_start(fleet, i);
        fleet_run(fleet, 100);
    }
    report_gossip(fleet, "gossip, restarts", before, watch->running, fleet_now_ms(fleet) - since);
    fleet_run(fleet, 60000);
    say(fleet, "all have started anew");
    expect_one_map(fleet, "after the restarts");
    expect(fleet_is_equal(fleet), "owners", "all", "equal");
    fleet_destroy(fleet);
    free(watch);
    free(numbers);
    free_cuts(cuts, arguments->shards);
}

/* --- Arguments --- */

static void usage(void)
{
    fprintf(stderr, "usage: scale converge|grow|thousand [--seed N] [--words N] [--differing N] "
                    "[--payload N] [--nodes N] [--joining N] [--shards N]\n");
    exit(2);
}

static const struct option long_options[] = {
    {"seed", required_argument, NULL, 's'},      {"words", required_argument, NULL, 'w'},
    {"differing", required_argument, NULL, 'd'}, {"payload", required_argument, NULL, 'p'},
    {"nodes", required_argument, NULL, 'n'},     {"joining", required_argument, NULL, 'j'},
    {"shards", required_argument, NULL, 'c'},    {0},
};

int main(int argc, char **argv)
{
    if (argc < 2) usage();
    const char *verb = argv[1];
    bool converges = strcmp(verb, "converge") == 0, grows = strcmp(verb, "grow") == 0;
    struct arguments arguments = {.seed = 1, .words = 50000, .differing = 10000, .shards = 20};
    if (grows) arguments = (struct arguments){.seed = 1, .words = 60000, .shards = 64};
    if (grows) arguments.payload = 100;
    if (strcmp(verb, "thousand") == 0)
        arguments = (struct arguments){
            .seed = 1, .words = 16000, .nodes = 1000, .joining = 100, .shards = 4000};
    for (int option; (option = getopt_long(argc - 1, argv + 1, "", long_options, NULL)) != -1;) {
        uint32_t value = optarg == NULL ? 0 : (uint32_t)strtoul(optarg, NULL, 10);
        if (option == 's') arguments.seed = value;
        if (option == 'w') arguments.words = value;
        if (option == 'd') arguments.differing = value;
        if (option == 'p') arguments.payload = value;
        if (option == 'n') arguments.nodes = value;
        if (option == 'j') arguments.joining = value;
        if (option == 'c') arguments.shards = value;
        if (option == '?') usage();
    }
    if (arguments.shards == 0 || arguments.shards > arguments.words) usage();
    if (converges)
        converge(&arguments);
    else if (grows)
        grow(&arguments);
    else if (strcmp(verb, "thousand") == 0 && arguments.nodes >= 9)
        thousand(&arguments);
    else
        usage();
    printf("%u passed, %u failed\n", passed, failed);
    return failed == 0 ? 0 : 1;
}
