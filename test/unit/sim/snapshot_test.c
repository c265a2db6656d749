/* Snapshots against copies of a model, taken at the same moments, under everything that goes
 * on in a store meanwhile. */
#include <stdlib.h>
#include <string.h>

#include "base/prng.h"
#include "sim/store_world.h"
#include "store/snapshot.h"
#include "test.h"

enum { KEY_COUNT = 300, KEY_BYTES = 32, HELD_MAX = 4, STEP_COUNT = 1500 };

struct word {
    bool live;
    double score;
    uint64_t expires_at;
};

/* A snapshot with what it should hold. */
struct held {
    struct store_snapshot *snapshot;
    struct word words[KEY_COUNT];
};

struct tester {
    struct store_world world;
    struct prng prng;
    struct word words[KEY_COUNT];
    struct held held[HELD_MAX];
    unsigned begun, compared;
};

static struct slice key_of(uint32_t number, char text[KEY_BYTES])
{
    int size = snprintf(text, KEY_BYTES, "ns%c%05o", 0, number);
    return slice_of(text, (size_t)size);
}

static bool is_live(const struct word *word, uint64_t now_ms)
{
    return word->live && (word->expires_at == 0 || word->expires_at > now_ms);
}

static void write_some(struct tester *tester)
{
    struct store_world *world = &tester->world;
    char text[KEY_BYTES];
    uint64_t sequence;
    for (uint32_t count = 1 + prng_below(&tester->prng, 30); count > 0; count--) {
        uint32_t number = prng_below(&tester->prng, KEY_COUNT);
        struct word word = {true, prng_below(&tester->prng, 9), 0};
        struct store_write write = {.kind = STORE_SET, .key = key_of(number, text)};
        if (prng_one_in(&tester->prng, 4)) {
            write.kind = STORE_REMOVE;
            word = (struct word){0};
        } else if (prng_one_in(&tester->prng, 4)) {
            word.expires_at = world->now_ms + 1 + prng_below(&tester->prng, 400);
        }
        write.score = word.score;
        write.expires_at = word.expires_at;
        EXPECT(store_world_write(world, &write, 1, NULL, &sequence) == STATUS_OK);
        tester->words[number] = word;
    }
}

static void write_all(struct tester *tester)
{
    char text[KEY_BYTES];
    uint64_t sequence;
    for (uint32_t i = 0; i < KEY_COUNT; i++) {
        struct store_write write = {.kind = STORE_SET, .key = key_of(i, text), .score = i};
        EXPECT(store_world_write(&tester->world, &write, 1, NULL, &sequence) == STATUS_OK);
        tester->words[i] = (struct word){true, i, 0};
    }
}

struct walk {
    const struct held *held;
    uint64_t now_ms, count;
    uint32_t next;
};

/* In order, so that every word that is left out was not live. */
static enum status check_word(void *context, struct slice key, const struct record *record)
{
    struct walk *walk = context;
    char text[KEY_BYTES];
    for (; walk->next < KEY_COUNT; walk->next++) {
        if (slice_equal(key_of(walk->next, text), key)) break;
        EXPECT(!is_live(&walk->held->words[walk->next], walk->now_ms));
    }
    EXPECT(walk->next < KEY_COUNT);
    EXPECT(is_live(&walk->held->words[walk->next], walk->now_ms));
    EXPECT(record_score(record) == walk->held->words[walk->next].score);
    walk->next++;
    walk->count++;
    return STATUS_OK;
}

static enum status count_word(void *context, struct slice key, const struct record *record)
{
    (void)key;
    (void)record;
    ++*(uint64_t *)context;
    return STATUS_OK;
}

static void compare(struct tester *tester, const struct held *held)
{
    struct store_world *world = &tester->world;
    struct walk walk = {.held = held, .now_ms = world->now_ms};
    struct query_from start = {0};
    uint64_t expected = 0, counted, found = 0;
    for (int i = 0; i < KEY_COUNT; i++) expected += is_live(&held->words[i], world->now_ms);

    struct query query =
        store_snapshot_query(held->snapshot, world->now_ms, &world->heap, world->scratch);
    EXPECT(query_scan(&query, (struct slice){0}, &start, UINT64_MAX, check_word, &walk) ==
           STATUS_OK);
    EXPECT(walk.count == expected);
    EXPECT(query_count(&query, (struct slice){0}, &counted) == STATUS_OK);
    EXPECT(counted == expected);
    EXPECT(query_best(&query, (struct slice){0}, UINT64_MAX, NULL, count_word, &found) ==
           STATUS_OK);
    EXPECT(found == expected);
    tester->compared++;
}

static void compare_all(struct tester *tester)
{
    for (int i = 0; i < HELD_MAX; i++)
        if (tester->held[i].snapshot != NULL &&
            store_snapshot_status(tester->held[i].snapshot) == STATUS_OK)
            compare(tester, &tester->held[i]);
}

static void end(struct tester *tester, struct held *held)
{
    store_snapshot_end(tester->world.store, held->snapshot);
    held->snapshot = NULL;
}

/* Takes a snapshot in an empty place, or ends the one that is there. */
static void take_or_end(struct tester *tester)
{
    struct store_world *world = &tester->world;
    struct held *held = &tester->held[prng_below(&tester->prng, HELD_MAX)];
    struct store_job *job;
    if (held->snapshot != NULL) {
        if (prng_one_in(&tester->prng, 5)) end(tester, held);
        return;
    }
    enum status status = store_snapshot_begin(world->store, &held->snapshot, &job);
    if (status == STATUS_BUSY) return;
    EXPECT(status == STATUS_OK);
    if (job != NULL) {
        world->job = job;
        world->stage = STORE_WORLD_BUILDING;
    }
    memcpy(held->words, tester->words, sizeof held->words);
    tester->begun++;
}

static void act(struct tester *tester)
{
    struct store_world *world = &tester->world;
    enum status status;
    world->now_ms += prng_below(&tester->prng, 10);
    switch (prng_below(&tester->prng, 8)) {
    case 0:
        store_tick(world->store, world->now_ms);
        break;
    case 1:
        take_or_end(tester);
        break;
    case 2:
        store_world_reclaim(world);
        break;
    case 3:
    case 4:
    case 5:
        status = store_world_job_step(world);
        EXPECT(status == STATUS_OK || status == STATUS_PARTIAL || status == STATUS_END);
        break;
    default:
        write_some(tester);
    }
    EXPECT(store_world_sync(world) == STATUS_OK);
}

static struct tester *tester_create(uint64_t seed)
{
    struct tester *tester = calloc(1, sizeof *tester);
    struct store_options options = store_world_options();
    tester->prng.state = seed;
    EXPECT(store_world_init(&tester->world, seed, &options) == STATUS_OK);
    return tester;
}

static void tester_destroy(struct tester *tester)
{
    for (int i = 0; i < HELD_MAX; i++) end(tester, &tester->held[i]);
    store_world_deinit(&tester->world);
    free(tester);
}

TEST_CASE(a_snapshot_stays_what_it_was_under_writes_expiry_and_jobs)
{
    for (uint64_t round = 0; round < 4; round++) {
        struct tester *tester = tester_create(test_seed + round);
        for (int step = 0; step < STEP_COUNT; step++) {
            act(tester);
            if (step % 5 == 0) compare_all(tester);
        }
        EXPECT(tester->begun >= 8);
        EXPECT(tester->compared > 100);
        tester_destroy(tester);
    }
}

TEST_CASE(files_that_were_merged_away_go_when_the_last_snapshot_of_them_ends)
{
    struct tester *tester = tester_create(test_seed);
    struct store_world *world = &tester->world;
    struct store_job *job;
    write_all(tester);
    EXPECT(store_world_settle_down(world) == STATUS_OK);
    EXPECT(store_snapshot_begin(world->store, &tester->held[0].snapshot, &job) == STATUS_OK);
    EXPECT(job == NULL);
    memcpy(tester->held[0].words, tester->words, sizeof tester->words);

    struct store_stats stats;
    do {
        write_all(tester);
        EXPECT(store_world_settle_down(world) == STATUS_OK);
        store_stats(world->store, &stats);
    } while (stats.compactions == 0);
    store_world_reclaim(world);
    uint64_t held_bytes = sim_disk_used_bytes(world->disk);
    compare_all(tester);
    end(tester, &tester->held[0]);
    store_world_reclaim(world);
    EXPECT(sim_disk_used_bytes(world->disk) < held_bytes);
    tester_destroy(tester);
}

TEST_CASE(a_snapshot_whose_flush_fails_says_so)
{
    struct tester *tester = tester_create(test_seed);
    struct store_world *world = &tester->world;
    struct store_job *job;
    write_all(tester);
    EXPECT(store_snapshot_begin(world->store, &tester->held[0].snapshot, &job) == STATUS_OK);
    EXPECT(job != NULL);
    EXPECT(store_snapshot_status(tester->held[0].snapshot) == STATUS_PARTIAL);
    EXPECT(store_job_finish(world->store, job, STATUS_NOMEM) == STATUS_NOMEM);
    EXPECT(store_snapshot_status(tester->held[0].snapshot) == STATUS_NOMEM);
    tester_destroy(tester);
}

TEST_MAIN(TEST(a_snapshot_stays_what_it_was_under_writes_expiry_and_jobs),
          TEST(files_that_were_merged_away_go_when_the_last_snapshot_of_them_ends),
          TEST(a_snapshot_whose_flush_fails_says_so))
