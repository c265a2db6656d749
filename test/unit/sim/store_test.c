/* The store against a dumb model: random writes, syncs, jobs, restarts and crashes. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/prng.h"
#include "core/write.h"
#include "sim/store_world.h"
#include "store/internal.h"
#include "store/log_private.h"
#include "test.h"

enum { KEY_COUNT = 400 };

/* What should stand for each key: by number, so the model is an array. */
struct model_word {
    bool live;
    double score;
    uint64_t expires_at;
};

struct tester {
    struct store_world world;
    struct prng prng;
    struct model_word words[KEY_COUNT];
};

static struct slice key_of(uint32_t number, char text[32])
{
    /* Prefixes of many lengths: 3 digits in base 8 after a shared head. */
    int size = snprintf(text, 32, "ns%c%o", 0, number * 7919u % 100000);
    return slice_of(text, (size_t)size);
}

static bool is_live(const struct tester *tester, uint32_t number)
{
    const struct model_word *word = &tester->words[number];
    return word->live && (word->expires_at == 0 || word->expires_at > tester->world.now_ms);
}

static void write_some(struct tester *tester, size_t count)
{
    enum { BATCH_MAX = 64 };
    struct store_write writes[BATCH_MAX] = {0};
    struct store_outcome outcomes[BATCH_MAX];
    uint32_t numbers[BATCH_MAX];
    char keys[BATCH_MAX][32];
    uint64_t sequence;

    for (size_t i = 0; i < count; i++) {
        numbers[i] = prng_below(&tester->prng, KEY_COUNT);
        uint32_t dice = prng_below(&tester->prng, 10);
        writes[i] = (struct store_write){
            .kind = dice < 6   ? STORE_SET
                    : dice < 8 ? STORE_REMOVE
                               : STORE_INCREMENT,
            .key = key_of(numbers[i], keys[i]),
            .score = prng_below(&tester->prng, 20),
        };
        if (writes[i].kind == STORE_SET && prng_one_in(&tester->prng, 5))
            writes[i].expires_at = tester->world.now_ms + 1 + prng_below(&tester->prng, 500);
    }
    EXPECT(store_world_write(&tester->world, writes, count, outcomes, &sequence) == STATUS_OK);
    for (size_t i = 0; i < count; i++) {
        struct model_word *word = &tester->words[numbers[i]];
        bool live = is_live(tester, numbers[i]);
        EXPECT(outcomes[i].status == STATUS_OK);
        EXPECT(outcomes[i].was_live == live);
        if (writes[i].kind == STORE_REMOVE) {
            *word = (struct model_word){0};
        } else if (writes[i].kind == STORE_SET) {
            *word = (struct model_word){true, writes[i].score, writes[i].expires_at};
        } else {
            if (!live) *word = (struct model_word){.live = true};
            word->score += writes[i].score;
        }
        if (writes[i].kind != STORE_REMOVE) EXPECT(outcomes[i].score == word->score);
    }
}

/* Words and tombstones go without a trace, whatever layer they lie in, and no others. */
static void forget_some(struct tester *tester)
{
    struct store_world *world = &tester->world;
    uint32_t first = prng_below(&tester->prng, KEY_COUNT - 8);
    for (uint32_t number = first; number < first + 8; number++) {
        char text[32];
        struct place place;
        struct record record;
        struct store_outcome outcome;
        uint64_t sequence;
        struct store_write write = {.kind = STORE_FORGET, .key = key_of(number, text)};
        EXPECT(store_find(world->store, write.key, &place, &record) == STATUS_OK);
        if (place.kind == PLACE_NOWHERE) continue;

        bool right = prng_one_in(&tester->prng, 2);
        write.above = record.version;
        if (!right) write.above.time--;
        EXPECT(store_world_write(world, &write, 1, &outcome, &sequence) == STATUS_OK);
        EXPECT(outcome.status == STATUS_OK && outcome.changed == right);
        EXPECT(store_find(world->store, write.key, &place, &record) == STATUS_OK);
        EXPECT((place.kind == PLACE_NOWHERE) == right);
        if (right) tester->words[number] = (struct model_word){0};
    }
}

struct walk {
    const struct tester *tester;
    uint64_t count;
    double last_score;
    struct version last_created;
    char last_key[32];
    size_t last_size;
    bool by_score;
};

static enum status check_word(void *context, struct slice key, const struct record *record)
{
    struct walk *walk = context;
    char text[32];
    uint32_t number = 0;
    while (number < KEY_COUNT && !slice_equal(key_of(number, text), key)) number++;
    EXPECT(number < KEY_COUNT);
    EXPECT(is_live(walk->tester, number));
    EXPECT(record_score(record) == walk->tester->words[number].score);
    if (walk->count > 0 && walk->by_score) {
        double score = record_score(record);
        EXPECT(score <= walk->last_score);
        if (score == walk->last_score)
            EXPECT(version_compare(walk->last_created, record_created(record)) < 0);
    } else if (walk->count > 0) {
        EXPECT(slice_compare(slice_of(walk->last_key, walk->last_size), key) < 0);
    }
    walk->last_score = record_score(record);
    walk->last_created = record_created(record);
    walk->last_size = key.size;
    memcpy(walk->last_key, key.data, key.size);
    walk->count++;
    return STATUS_OK;
}

static void check_all(struct tester *tester)
{
    uint64_t expected = 0, count;
    for (uint32_t i = 0; i < KEY_COUNT; i++) expected += is_live(tester, i);

    struct query query = store_world_query(&tester->world);
    EXPECT(query_count(&query, (struct slice){0}, &count) == STATUS_OK);
    EXPECT(count == expected);
    struct walk walk = {.tester = tester};
    struct query_from from = {0};
    EXPECT(query_scan(&query, (struct slice){0}, &from, UINT64_MAX, check_word, &walk) ==
           STATUS_OK);
    EXPECT(walk.count == expected);
    walk = (struct walk){.tester = tester, .by_score = true};
    EXPECT(query_best(&query, (struct slice){0}, UINT64_MAX, NULL, check_word, &walk) == STATUS_OK);
    EXPECT(walk.count == expected);
}

static void act(struct tester *tester)
{
    struct store_world *world = &tester->world;
    enum status status = STATUS_OK;
    world->now_ms += prng_below(&tester->prng, 20);
    switch (prng_below(&tester->prng, 8)) {
    case 0:
        store_tick(world->store, world->now_ms);
        break;
    case 1:
    case 2:
    case 3:
        status = store_world_job_step(world);
        EXPECT(status == STATUS_OK || status == STATUS_PARTIAL || status == STATUS_END);
        break;
    case 4:
        store_world_reclaim(world);
        forget_some(tester);
        break;
    default:
        write_some(tester, 1 + prng_below(&tester->prng, 60));
        break;
    }
    EXPECT(store_world_sync(world) == STATUS_OK);
}

TEST_CASE(a_store_agrees_with_a_model_through_jobs_and_restarts)
{
    for (uint64_t round = 0; round < 10; round++) {
        struct tester *tester = calloc(1, sizeof *tester);
        struct store_options options = store_world_options();
        tester->prng.state = test_seed + round;
        EXPECT(store_world_init(&tester->world, test_seed + round, &options) == STATUS_OK);
        for (int step = 0; step < 400; step++) {
            act(tester);
            if (step % 10 == 0) check_all(tester);
            if (step % 50 == 49) {
                EXPECT(store_world_restart(&tester->world, step % 100 == 99
                                                               ? SIM_DISK_POWER_LOSS
                                                               : SIM_DISK_KILLED) == STATUS_OK);
                check_all(tester);
            }
            if (step % 170 == 169) {
                EXPECT(store_world_settle_down(&tester->world) == STATUS_OK);
                EXPECT(store_is_clean(tester->world.store));
                check_all(tester);
            }
        }
        store_world_deinit(&tester->world);
        free(tester);
    }
}

static void write_one(struct store_world *world, unsigned number)
{
    char text[32];
    uint64_t sequence;
    int size = snprintf(text, sizeof text, "word %u", number);
    struct store_write write = {.kind = STORE_SET, .key = slice_of(text, (size_t)size)};
    EXPECT(store_world_write(world, &write, 1, NULL, &sequence) == STATUS_OK);
    EXPECT(store_world_sync(world) == STATUS_OK);
}

TEST_CASE(a_start_knows_whether_the_stop_was_clean)
{
    struct store_world world;
    struct store_options options = store_world_options();
    EXPECT(store_world_init(&world, test_seed, &options) == STATUS_OK);
    EXPECT(!world.report.clean_stop);
    write_one(&world, 1);
    EXPECT(store_note_clean_stop(world.store) == STATUS_BUSY);
    EXPECT(store_world_settle_down(&world) == STATUS_OK);
    EXPECT(store_world_restart(&world, SIM_DISK_KILLED) == STATUS_OK);
    EXPECT(!world.report.clean_stop); /* Nothing was lost, but nobody knew. */

    write_one(&world, 2);
    EXPECT(store_world_settle_down(&world) == STATUS_OK);
    EXPECT(store_note_clean_stop(world.store) == STATUS_OK);
    EXPECT(store_can_write(world.store) == STATUS_READ_ONLY);
    EXPECT(store_world_restart(&world, SIM_DISK_POWER_LOSS) == STATUS_OK);
    EXPECT(world.report.clean_stop && world.report.replayed_batches == 0);
    EXPECT(store_world_restart(&world, SIM_DISK_KILLED) == STATUS_OK);
    EXPECT(!world.report.clean_stop);

    /* The log that is in use is needed after a clean stop too. */
    EXPECT(store_world_settle_down(&world) == STATUS_OK);
    struct name newest =
        name_of(NAME_LOG, world.store->log->segments[world.store->log->segment_count - 1].number);
    EXPECT(store_note_clean_stop(world.store) == STATUS_OK);
    store_world_close(&world);
    EXPECT(env_remove(sim_disk_env(world.disk), newest.text) == STATUS_OK);
    EXPECT(store_world_open(&world) == STATUS_CORRUPT);
    store_world_deinit(&world);
}

static unsigned file_count(const struct store *store, unsigned level)
{
    unsigned count = 0;
    for (size_t i = 0; i < store->run_count; i++) count += store->runs[i]->level == level;
    return count;
}

static unsigned group_count(const struct store *store, unsigned level)
{
    unsigned count = 0;
    for (size_t i = 0; i < store->run_count; i++)
        count += store->runs[i]->level == level && store->runs[i]->group == store->runs[i]->number;
    return count;
}

/* A flush and a merge into a tier are cut like a merge into the bottom: they would be built in
 * memory as a whole. What one made counts as one run all the same, also after a restart. */
TEST_CASE(files_of_one_flush_or_merge_count_as_one_run)
{
    struct tester *tester = calloc(1, sizeof *tester);
    struct store_world *world = &tester->world;
    struct store_options options = store_world_options();
    options.file_bytes = 1 << 10;
    options.tier_runs_max = 3;
    EXPECT(store_world_init(world, test_seed, &options) == STATUS_OK);
    for (unsigned flushes = 1; flushes <= 8; flushes++) {
        for (unsigned i = 0; i < 600; i++) {
            char text[32];
            uint64_t sequence;
            int size = snprintf(text, sizeof text, "%03u of %u", i, flushes);
            struct store_write write = {
                .kind = STORE_SET, .key = slice_of(text, (size_t)size), .score = i * 0.37};
            EXPECT(store_world_write(world, &write, 1, NULL, &sequence) == STATUS_OK);
        }
        EXPECT(store_world_settle_down(world) == STATUS_OK);
        EXPECT(store_world_restart(world, SIM_DISK_KILLED) == STATUS_OK);
        EXPECT(store_world_job_step(world) == STATUS_END);
        EXPECT(group_count(world->store, 0) == flushes % 3);
        EXPECT(file_count(world->store, 0) >= flushes % 3 * 2);
        EXPECT(group_count(world->store, 1) == flushes / 3);
        /* Each merge makes several files; two of them are fewer than three runs. */
        EXPECT(file_count(world->store, 1) >= flushes / 3 * 3);
        EXPECT(file_count(world->store, 2) == 0);
    }
    store_world_deinit(world);
    free(tester);
}

static struct version version_at(uint64_t ms, uint16_t node)
{
    return (struct version){ms << HLC_COUNTER_BITS, node};
}

static struct store_outcome apply(struct store_world *world, const struct record *record,
                                  bool is_increment)
{
    struct store_outcome outcome;
    uint64_t sequence;
    struct store_write write = {.kind = STORE_APPLY,
                                .key = SLICE_LITERAL("ns\0word"),
                                .record = record,
                                .is_increment = is_increment};
    EXPECT(store_world_write(world, &write, 1, &outcome, &sequence) == STATUS_OK);
    return outcome;
}

/* What another node stamped is taken once and again, and refused where it would not show. */
TEST_CASE(a_record_stamped_elsewhere_is_applied_unless_something_newer_hides_it)
{
    struct store_world world;
    struct store_options options = store_world_options();
    EXPECT(store_world_init(&world, test_seed, &options) == STATUS_OK);
    uint64_t now = world.now_ms;

    struct record set = record_of_set(version_at(now, 2), 5);
    EXPECT(apply(&world, &set, false).changed);
    struct store_outcome again = apply(&world, &set, false);
    EXPECT(again.status == STATUS_OK && !again.changed);

    /* The same version with another value, and an older one. */
    struct record twin = record_of_set(version_at(now, 2), 6);
    struct store_outcome refused = apply(&world, &twin, false);
    EXPECT(refused.status == STATUS_STALE && version_equal(refused.version, set.version));
    struct record older = record_of_set(version_at(now - 1, 3), 7);
    refused = apply(&world, &older, false);
    EXPECT(refused.status == STATUS_STALE && version_equal(refused.version, set.version));

    /* An increment of an older value would vanish, one of this value does not. */
    struct record increment;
    struct write_outcome made;
    struct buf scratch;
    buf_init(&scratch, &world.heap);
    EXPECT(write_increment(&older, now, version_at(now + 1, 3), 1, 77, 0, &scratch, &increment,
                           &made) == STATUS_OK);
    EXPECT(apply(&world, &increment, true).status == STATUS_STALE);
    EXPECT(write_increment(&set, now, version_at(now - 1, 3), 1, 77, 0, &scratch, &increment,
                           &made) == STATUS_STALE);
    EXPECT(write_increment(&set, now, version_at(now + 1, 3), 1, 77, 0, &scratch, &increment,
                           &made) == STATUS_OK);
    struct store_outcome counted = apply(&world, &increment, true);
    EXPECT(counted.status == STATUS_OK && counted.changed && counted.score == 6);

    /* A tombstone that the increment knows nothing of. */
    struct record tombstone = record_of_tombstone(version_at(now + 2, 2));
    EXPECT(apply(&world, &tombstone, false).changed);
    buf_deinit(&scratch);
    increment.version = version_at(now + 3, 3);
    increment.slots = (struct slice){0};
    increment.score = 9;
    EXPECT(apply(&world, &increment, true).status == STATUS_STALE);
    store_world_deinit(&world);
}

/* Where the removal is forgotten increments begin with nothing, and where it is not they must count as well. */
TEST_CASE(an_increment_outlives_a_removal_that_is_forgotten_elsewhere)
{
    for (int knows = 0; knows < 2; knows++) {
        struct store_world world;
        struct store_options options = store_world_options();
        EXPECT(store_world_init(&world, test_seed, &options) == STATUS_OK);
        uint64_t now = world.now_ms;
        struct record tombstone = record_of_tombstone(version_at(now - 20000, 2)), increment;
        struct write_outcome made;
        struct buf scratch;
        buf_init(&scratch, &world.heap);
        EXPECT(apply(&world, &tombstone, false).changed);
        hlc_time forgotten = knows != 0 ? version_at(now - 10000, 0).time : 0;
        EXPECT(write_increment(NULL, now, version_at(now, 3), 5, 77, forgotten, &scratch,
                               &increment, &made) == STATUS_OK);
        struct store_outcome counted = apply(&world, &increment, true);
        EXPECT(counted.status == (knows != 0 ? STATUS_OK : STATUS_STALE));
        if (knows != 0) EXPECT(counted.score == 5);
        /* A removal since then takes it along. */
        struct record removal = record_of_tombstone(version_at(now + 1, 2));
        EXPECT(apply(&world, &removal, false).changed);
        EXPECT(apply(&world, &increment, true).status == STATUS_STALE);
        buf_deinit(&scratch);
        store_world_deinit(&world);
    }
}

enum { OLD_BEGIN_MS = 1000000 };

/* 0: none. */
static struct version old_version(uint64_t at, uint16_t node)
{
    return at == 0 ? (struct version){0} : version_at(OLD_BEGIN_MS + at, node);
}

/* A value that was set at `set`, since a removal at `since`, and added to at `version`. */
static struct record old_value(uint64_t since, uint64_t set, uint64_t version)
{
    struct record record = record_of_set(old_version(set, 2), 5);
    record.since = old_version(since, 2);
    record.version = old_version(version, 3);
    if (since == set) { /* No value: only what was added. */
        record.created = record.version;
        record.score = 0;
    }
    record.slots = SLICE_LITERAL("ownernam"
                                 "\1\0\0\0\0\0\0\0"
                                 "\0\0\0\0\0\0\xf0\x3f");
    return record;
}

/* Values that were set before so much was purged, at a replica that knows all of that and at one that does not. */
TEST_CASE(a_value_that_may_have_been_deleted_is_not_joined)
{
    enum { TAKEN, JOINED, PASSED_OVER, REFUSED };
    static const struct {
        struct {
            uint64_t since, set, version; /* 0: none; without a version nothing stands. */
        } here, comes;
        uint64_t purged;
        bool knows_all;
        int merged, applied;
    } cases[] = {
        /* Deleted, and made again by increments since: they know nothing of the old value. */
        {{0, 10, 20}, {0, 0, 60}, 50, false, TAKEN, TAKEN},
        {{0, 0, 60}, {0, 10, 20}, 50, true, PASSED_OVER, REFUSED},
        /* A replica that was not told so joined them before. */
        {{0, 10, 61}, {0, 0, 60}, 50, false, TAKEN, TAKEN},
        {{0, 0, 60}, {0, 10, 61}, 50, true, PASSED_OVER, REFUSED},
        {{0, 0, 0}, {0, 10, 61}, 50, true, PASSED_OVER, REFUSED},
        /* Set so late that a removal would not be purged. */
        {{0, 55, 61}, {0, 0, 60}, 50, false, PASSED_OVER, REFUSED},
        {{0, 0, 60}, {0, 55, 61}, 50, true, TAKEN, TAKEN},
        /* The same value, and one that is newer. */
        {{0, 10, 20}, {0, 10, 60}, 50, true, TAKEN, TAKEN},
        {{0, 10, 20}, {0, 10, 60}, 50, false, TAKEN, TAKEN},
        {{0, 10, 20}, {0, 15, 60}, 50, false, JOINED, JOINED},
        /* Who knows what was purged, and who comes from before it, have nothing to doubt. */
        {{0, 10, 20}, {0, 0, 60}, 50, true, JOINED, REFUSED},
        {{0, 10, 46}, {0, 0, 45}, 50, false, PASSED_OVER, REFUSED},
        /* Made again so long ago that it is older than what was purged by now, and joined before that was told. */
        {{0, 10, 20}, {0, 0, 45}, 50, false, TAKEN, TAKEN},
        {{0, 10, 45}, {0, 0, 45}, 50, false, TAKEN, TAKEN},
        /* With an older value: it missed this one, which is no reason to give that up. */
        {{0, 10, 20}, {0, 5, 45}, 50, false, JOINED, REFUSED},
        {{0, 0, 45}, {0, 10, 45}, 50, true, PASSED_OVER, REFUSED},
        /* Only added to since a removal: it has no value that could be old. */
        {{0, 0, 0}, {10, 10, 60}, 50, true, TAKEN, TAKEN},
        {{10, 10, 60}, {0, 5, 61}, 50, false, JOINED, REFUSED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int kind = 0; kind < 2; kind++) {
            struct store_world world;
            struct store_options options = store_world_options();
            EXPECT(store_world_init(&world, test_seed, &options) == STATUS_OK);
            uint64_t sequence;
            struct record here =
                old_value(cases[i].here.since, cases[i].here.set, cases[i].here.version);
            struct record comes =
                old_value(cases[i].comes.since, cases[i].comes.set, cases[i].comes.version);
            struct store_outcome outcome;
            struct store_write write = {
                .kind = STORE_MERGE, .key = SLICE_LITERAL("ns\0word"), .record = &here};
            bool stands = cases[i].here.version != 0;
            if (stands)
                EXPECT(store_world_write(&world, &write, 1, &outcome, &sequence) == STATUS_OK);
            write.kind = kind == 0 ? STORE_MERGE : STORE_APPLY;
            write.is_increment = true;
            write.record = &comes;
            write.purged_upto = old_version(cases[i].purged, 0).time;
            write.knows_all = cases[i].knows_all;
            EXPECT(store_world_write(&world, &write, 1, &outcome, &sequence) == STATUS_OK);
            int expected = kind == 0 ? cases[i].merged : cases[i].applied;
            struct record is;
            bool found = store_current(world.store, write.key, &is) == STATUS_OK;
            int got = found && record_equal(&is, &comes)                        ? TAKEN
                      : found != stands || (found && !record_equal(&is, &here)) ? JOINED
                      : outcome.status == STATUS_STALE                          ? REFUSED
                                                                                : PASSED_OVER;
            if (got != expected)
                fprintf(stderr, "case %zu, kind %d: %d, and not %d\n", i, kind, got, expected);
            EXPECT(got == expected);
            store_world_deinit(&world);
        }
    }
}

TEST_CASE(a_stamp_from_a_broken_clock_is_refused_but_not_one_above_what_stands)
{
    struct store_world world;
    struct store_options options = store_world_options();
    options.clock_skew_max_ms = 5000;
    EXPECT(store_world_init(&world, test_seed, &options) == STATUS_OK);
    uint64_t far = world.now_ms + 60000, sequence;

    struct record record = record_of_set(version_at(far, 2), 1);
    EXPECT(apply(&world, &record, false).status == STATUS_CLOCK_SKEW);

    /* Repair brings it all the same; a client's write goes above it and leaves the clock alone. */
    struct store_outcome outcome;
    struct store_write write = {
        .kind = STORE_MERGE, .key = SLICE_LITERAL("ns\0word"), .record = &record};
    EXPECT(store_world_write(&world, &write, 1, &outcome, &sequence) == STATUS_OK);
    write = (struct store_write){.kind = STORE_SET, .key = SLICE_LITERAL("ns\0word"), .score = 2};
    EXPECT(store_world_write(&world, &write, 1, &outcome, &sequence) == STATUS_OK);
    EXPECT(outcome.version.time == record.version.time + 1);
    record = record_of_set((struct version){record.version.time + 2, 2}, 3);
    EXPECT(apply(&world, &record, false).changed);
    write.key = SLICE_LITERAL("ns\0other");
    EXPECT(store_world_write(&world, &write, 1, &outcome, &sequence) == STATUS_OK);
    EXPECT(hlc_wall_ms(outcome.version.time) <= world.now_ms + 2 * STORE_CEILING_STEP_MS);

    /* Above what another replica holds. */
    write.above = version_at(far, 9);
    EXPECT(store_world_write(&world, &write, 1, &outcome, &sequence) == STATUS_OK);
    EXPECT(version_compare(outcome.version, write.above) > 0);
    store_world_deinit(&world);
}

TEST_CASE(a_removal_leaves_a_tombstone_where_another_replica_may_know_more)
{
    struct store_world world;
    struct store_options options = store_world_options();
    EXPECT(store_world_init(&world, test_seed, &options) == STATUS_OK);
    struct store_outcome first, second;
    uint64_t sequence;
    struct store_write write = {.kind = STORE_REMOVE, .key = SLICE_LITERAL("ns\0word")};
    EXPECT(store_world_write(&world, &write, 1, &first, &sequence) == STATUS_OK);
    EXPECT(!first.changed);
    write.leave_tombstone = true;
    EXPECT(store_world_write(&world, &write, 1, &first, &sequence) == STATUS_OK);
    EXPECT(first.changed && !first.was_live && first.encoded.size > 0);
    EXPECT(store_world_write(&world, &write, 1, &second, &sequence) == STATUS_OK);
    EXPECT(second.changed && version_compare(second.version, first.version) > 0);
    store_world_deinit(&world);
}

TEST_CASE(forgetting_during_a_flush_without_memory_is_refused)
{
    struct store_options options = store_world_options();
    struct store_world world;
    EXPECT(store_world_init(&world, test_seed, &options) == STATUS_OK);
    char text[32];
    uint32_t count = 900;
    for (uint32_t number = 0; number < count; number++) {
        struct store_write write = {.kind = STORE_SET, .key = key_of(number, text), .score = 1};
        struct store_outcome outcome;
        uint64_t sequence;
        EXPECT(store_world_write(&world, &write, 1, &outcome, &sequence) == STATUS_OK);
    }
    EXPECT(store_world_sync(&world) == STATUS_OK);
    EXPECT(store_flush_begin(world.store, &world.job) == STATUS_OK);
    world.stage = STORE_WORLD_BUILDING;
    uint32_t refused = 0;
    store_batch_begin(world.store, world.now_ms);
    for (uint32_t number = 0; number < count; number++) {
        struct store_write write = {.kind = STORE_FORGET, .key = key_of(number, text)};
        struct store_outcome outcome;
        world.heap.failure_after = number % 4;
        store_write(world.store, &write, &outcome);
        world.heap.failure_after = -1;
        EXPECT(outcome.status == STATUS_OK || outcome.status == STATUS_NOMEM);
        refused += outcome.status == STATUS_NOMEM;
    }
    uint64_t sequence;
    EXPECT(store_batch_commit(world.store, &sequence) == STATUS_OK);
    EXPECT(store_world_sync(&world) == STATUS_OK);
    enum status status = STATUS_PARTIAL;
    while (status == STATUS_PARTIAL) status = store_world_job_step(&world);
    EXPECT(status == STATUS_OK || status == STATUS_END);
    struct query query = store_world_query(&world);
    uint64_t left;
    EXPECT(query_count(&query, (struct slice){0}, &left) == STATUS_OK && left == refused);
    store_world_deinit(&world);
}

TEST_MAIN(TEST(a_record_stamped_elsewhere_is_applied_unless_something_newer_hides_it),
          TEST(an_increment_outlives_a_removal_that_is_forgotten_elsewhere),
          TEST(a_value_that_may_have_been_deleted_is_not_joined),
          TEST(a_stamp_from_a_broken_clock_is_refused_but_not_one_above_what_stands),
          TEST(a_removal_leaves_a_tombstone_where_another_replica_may_know_more),
          TEST(forgetting_during_a_flush_without_memory_is_refused),
          TEST(a_store_agrees_with_a_model_through_jobs_and_restarts),
          TEST(a_start_knows_whether_the_stop_was_clean),
          TEST(files_of_one_flush_or_merge_count_as_one_run))
