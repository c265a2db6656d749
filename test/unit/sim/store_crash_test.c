/* A crash at every change of the disk, in a story and in the recovery from it. */
#include "store_story.h"
#include "verify_look.h"

static uint64_t crash_points;

struct tale {
    uint64_t seed;
    struct store_options options;
    unsigned step_count;
    struct model *model;
    uint64_t change_count;
    uint64_t jobs[STORE_JOB_SCRUB + 1];
};

static void learn(struct tale *tale)
{
    struct story story;
    story_begin(&story, tale->model, tale->seed, &tale->options, tale->step_count);
    story.learning = true;
    uint64_t before = sim_disk_change_count(story.world.disk);
    EXPECT(story_tell(&story) == STATUS_OK);
    tale->change_count = sim_disk_change_count(story.world.disk) - before;
    model_check(tale->model, &story.world, story.visible, story.ingest);
    memcpy(tale->jobs, story.jobs, sizeof tale->jobs);
    store_world_deinit(&story.world);
}

/* What was recovered is the story up to some batch, no less than was promised. */
static void check_recovered(const struct tale *tale, const struct story *story)
{
    const struct store_world *world = &story->world;
    uint64_t sequence = store_visible_sequence(world->store);
    if (tale->options.publish_after_sync) EXPECT(sequence >= story->visible);
    model_check(tale->model, world, sequence, story->ingest);
}

/* The store goes on: new words, versions above all that were seen, flush and compaction. */
static void go_on(const struct tale *tale, struct story *story)
{
    struct store_world *world = &story->world;
    char text[MODEL_KEY_BYTES];
    for (uint32_t round = 0; round < 2; round++) {
        uint64_t sequence;
        struct store_outcome outcome;
        struct store_write write = {
            .kind = STORE_SET, .key = model_key(round, text), .score = 1000 + round};
        EXPECT(store_world_write(world, &write, 1, &outcome, &sequence) == STATUS_OK);
        EXPECT(outcome.status == STATUS_OK);
        EXPECT(outcome.version.time > story->newest);
        EXPECT(store_world_sync(world) == STATUS_OK);
        EXPECT(store_visible_sequence(world->store) >= sequence);
    }
    EXPECT(story_settle(story) == STATUS_OK);
    store_tick(world->store, world->now_ms);
    struct query query = store_world_query(world);
    check_view(&query, world->options.hash_seed);
    for (uint32_t round = 0; round < 2; round++) {
        struct query_hit hit;
        EXPECT(query_get(&query, model_key(round, text), &hit) == STATUS_OK && hit.live);
        EXPECT(record_score(&hit.record) == 1000 + round);
    }
}

static void tell_until_crash(const struct tale *tale, struct story *story, uint64_t point)
{
    story_begin(story, tale->model, tale->seed, &tale->options, tale->step_count);
    story->crash_at = sim_disk_change_count(story->world.disk) + point;
    sim_disk_crash_after(story->world.disk, point);
    /* A crash in the last change may go unnoticed: a removal that nobody waits for. */
    (void)story_tell(story);
    EXPECT(sim_disk_crashed(story->world.disk));
}

/* What a crash leaves behind is a torn tail, or a leftover; never what verification calls damage. */
static void expect_no_damage(struct sim_disk *disk)
{
    struct look look = look_at(disk, false);
    if (look.status == STATUS_NOT_FOUND) return; /* Not even the identity was durable. */
    if (look.report.damage_count > 0) look = look_at(disk, true);
    EXPECT(look.status == STATUS_OK);
    EXPECT(look.report.damage_count == 0);
}

/* One crash in the story; then the recovery crashes too, unless `again` is UINT64_MAX.
 * Returns how many changes the recovery made. */
static uint64_t crash_at(const struct tale *tale, uint64_t point, enum sim_disk_restart how,
                         uint64_t again)
{
    struct story story;
    tell_until_crash(tale, &story, point);
    struct sim_disk *disk = story.world.disk;
    if (again != UINT64_MAX) {
        store_world_close(&story.world);
        sim_disk_restart(disk, how);
        sim_disk_crash_after(disk, again);
        /* Nobody waits for the last change, a mark in the manifest. */
        (void)store_world_open(&story.world);
        EXPECT(sim_disk_crashed(disk));
    }
    store_world_close(&story.world);
    sim_disk_restart(disk, how);
    expect_no_damage(disk);
    uint64_t before = sim_disk_change_count(disk);
    enum status status = store_world_open(&story.world);
    if (status != STATUS_OK)
        fprintf(stderr, "point %llu, again %llu: %s: %s\n", (unsigned long long)point,
                (unsigned long long)again, status_name(status), story.world.report.detail);
    EXPECT(status == STATUS_OK);
    uint64_t changes = sim_disk_change_count(disk) - before;
    check_recovered(tale, &story);
    go_on(tale, &story);
    store_world_close(&story.world);
    expect_no_damage(disk);
    store_world_deinit(&story.world);
    crash_points++;
    return changes;
}

static void crash_everywhere(struct tale *tale, uint64_t step, uint64_t step_again)
{
    learn(tale);
    for (uint64_t point = 0; point < tale->change_count; point += step) {
        for (int how = SIM_DISK_POWER_LOSS; how <= SIM_DISK_KILLED; how++) {
            uint64_t changes = crash_at(tale, point, (enum sim_disk_restart)how, UINT64_MAX);
            if (step_again == 0) continue;
            for (uint64_t again = point % step_again; again < changes; again += step_again)
                crash_at(tale, point, (enum sim_disk_restart)how, again);
        }
    }
}

static void crash_a_story(uint64_t seed, bool publish_after_sync, unsigned step_count,
                          uint64_t step, uint64_t step_again)
{
    struct tale tale = {
        .seed = seed,
        .options = story_options(publish_after_sync),
        .step_count = step_count,
        .model = model_create(),
    };
    uint64_t before = crash_points;
    crash_everywhere(&tale, step, step_again);
    printf("seed %llu: %llu changes, %llu crash points; %llu flushes, %llu compactions, "
           "%llu ingests, %llu exports, %llu checkpoints\n",
           (unsigned long long)seed, (unsigned long long)tale.change_count,
           (unsigned long long)(crash_points - before),
           (unsigned long long)tale.jobs[STORE_JOB_FLUSH],
           (unsigned long long)tale.jobs[STORE_JOB_COMPACT],
           (unsigned long long)tale.jobs[STORE_JOB_INGEST],
           (unsigned long long)tale.jobs[STORE_JOB_EXPORT],
           (unsigned long long)tale.jobs[STORE_JOB_CHECKPOINT]);
    EXPECT(crash_points > before);
    for (int kind = STORE_JOB_FLUSH; kind < STORE_JOB_SCRUB; kind++) EXPECT(tale.jobs[kind] > 0);
    model_destroy(tale.model);
}

TEST_CASE(a_crash_at_every_change_loses_nothing_acknowledged)
{
    crash_a_story(test_seed, true, 80, 1, 0);
}

TEST_CASE(a_crash_in_the_recovery_from_a_crash_loses_nothing_acknowledged)
{
    crash_a_story(test_seed + 1, true, 24, 1, 13);
}

TEST_CASE(a_crash_between_syncs_loses_the_newest_batches_only)
{
    crash_a_story(test_seed + 2, false, 40, 1, 0);
}

TEST_MAIN(TEST(a_crash_at_every_change_loses_nothing_acknowledged),
          TEST(a_crash_in_the_recovery_from_a_crash_loses_nothing_acknowledged),
          TEST(a_crash_between_syncs_loses_the_newest_batches_only))
