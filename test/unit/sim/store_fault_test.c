/* What a store does about faults that it outlives: each of these was once wrong. */
#include <string.h>

#include "core/dictionary.h"
#include "sim/store_world.h"
#include "store/frame.h"
#include "store/job_internal.h"
#include "store/log_private.h"
#include "test.h"

enum { KEY_BYTES = 32 };

static struct slice key_of(unsigned number, char text[KEY_BYTES])
{
    int size = snprintf(text, KEY_BYTES, "ns%c%05u", 0, number);
    return slice_of(text, (size_t)size);
}

static void begin(struct store_world *world, const struct store_options *options)
{
    EXPECT(store_world_init(world, test_seed, options) == STATUS_OK);
}

/* Sets (or removes) words [first, first + count) in one durable batch. */
static void write_words(struct store_world *world, enum store_write_kind kind, unsigned first,
                        unsigned count)
{
    for (unsigned i = first; i < first + count; i++) {
        char text[KEY_BYTES];
        uint64_t sequence;
        struct store_write write = {.kind = kind, .key = key_of(i, text), .score = i};
        struct store_outcome outcome;
        EXPECT(store_world_write(world, &write, 1, &outcome, &sequence) == STATUS_OK);
        EXPECT(outcome.status == STATUS_OK);
    }
    EXPECT(store_world_sync(world) == STATUS_OK);
}

static uint64_t count_words(const struct store_world *world)
{
    uint64_t count;
    struct query query = store_world_query(world);
    EXPECT(query_count(&query, (struct slice){0}, &count) == STATUS_OK);
    return count;
}

/* The job under way to its end. */
static enum status finish_job(struct store_world *world)
{
    enum status status = STATUS_PARTIAL;
    while (status == STATUS_PARTIAL) status = store_world_job_step(world);
    return status;
}

static enum status flush(struct store_world *world)
{
    EXPECT(store_flush_begin(world->store, &world->job) == STATUS_OK);
    world->stage = STORE_WORLD_BUILDING;
    return finish_job(world);
}

/* --- Jobs --- */

TEST_CASE(a_commit_that_never_ran_fails_no_later_one)
{
    struct store_world world;
    struct store_options options = store_world_options();
    begin(&world, &options);
    write_words(&world, STORE_SET, 0, 50);
    EXPECT(flush(&world) == STATUS_OK);
    write_words(&world, STORE_REMOVE, 0, 5);
    EXPECT(store_flush_begin(world.store, &world.job) == STATUS_OK);
    world.stage = STORE_WORLD_BUILDING;
    while (world.stage != STORE_WORLD_COMMITTING)
        EXPECT(store_world_job_step(&world) == STATUS_PARTIAL);

    /* The overlay's file cannot be made: the manifest was not touched. */
    sim_disk_fail_after(world.disk, 0, STATUS_FULL);
    EXPECT(finish_job(&world) == STATUS_FULL);
    EXPECT(flush(&world) == STATUS_OK);
    EXPECT(count_words(&world) == 45);
    store_world_deinit(&world);
}

/* What was written during the commit is taken in by turns, between which batches go on. */
TEST_CASE(no_turn_of_the_writer_takes_in_all_of_a_long_commit)
{
    enum { WORDS = 6 * STORE_RESOLVE_STEP };
    struct store_world world;
    struct store_options options = store_world_options();
    begin(&world, &options);
    write_words(&world, STORE_SET, 0, WORDS);
    EXPECT(store_flush_begin(world.store, &world.job) == STATUS_OK);
    world.stage = STORE_WORLD_BUILDING;
    while (world.stage != STORE_WORLD_TAKING_IN)
        EXPECT(store_world_job_step(&world) == STATUS_PARTIAL);
    /* As much at a time as one sync covers. */
    for (unsigned i = 0; i < WORDS / 2; i += 512) write_words(&world, STORE_REMOVE, i, 512);
    for (unsigned turn = 0; turn < 3; turn++) {
        size_t before = world.job->touched_done;
        EXPECT(store_world_job_step(&world) == STATUS_PARTIAL);
        EXPECT(world.job->touched_done > before &&
               world.job->touched_done < world.job->touched.size);
        EXPECT(count_words(&world) == WORDS / 2 - turn * 10);
        write_words(&world, STORE_REMOVE, WORDS / 2 + turn * 10, 10);
    }
    EXPECT(finish_job(&world) == STATUS_OK);
    EXPECT(count_words(&world) == WORDS / 2 - 30);
    EXPECT(store_world_restart(&world, SIM_DISK_POWER_LOSS) == STATUS_OK);
    EXPECT(count_words(&world) == WORDS / 2 - 30);
    store_world_deinit(&world);
}

TEST_CASE(a_job_that_is_undone_gives_its_memory_back)
{
    struct store_world world;
    struct store_options options = store_world_options();
    begin(&world, &options);
    write_words(&world, STORE_SET, 0, 50);
    uint64_t before = world.store->overlays->arena.used_bytes;
    EXPECT(store_flush_begin(world.store, &world.job) == STATUS_OK);
    world.stage = STORE_WORLD_BUILDING;
    while (world.stage != STORE_WORLD_RESOLVING)
        EXPECT(store_world_job_step(&world) == STATUS_PARTIAL);
    write_words(&world, STORE_REMOVE, 0, 5);
    while (world.stage != STORE_WORLD_COMMITTING)
        EXPECT(store_world_job_step(&world) == STATUS_PARTIAL);
    EXPECT(world.store->overlays->arena.used_bytes > before);
    sim_disk_fail_after(world.disk, 0, STATUS_FULL);
    EXPECT(finish_job(&world) == STATUS_FULL);
    EXPECT(world.store->overlays->arena.used_bytes == before);
    EXPECT(flush(&world) == STATUS_OK);
    EXPECT(count_words(&world) == 45);
    store_world_deinit(&world);
}

/* The builder adds outputs, and moves the list of them, while the writer refuses a batch. */
TEST_CASE(a_refused_batch_lets_outputs_be_that_are_being_built)
{
    struct store_world world;
    struct store_options options = store_world_options();
    options.file_bytes = 8 << 10;
    begin(&world, &options);
    for (unsigned i = 0; i < options.tier_runs_max; i++) {
        write_words(&world, STORE_SET, i * 3000, 3000);
        EXPECT(flush(&world) == STATUS_OK);
    }
    EXPECT(store_job_begin(world.store, &world.job) == STATUS_OK);
    world.stage = STORE_WORLD_BUILDING;
    struct store_job *job = world.job;
    EXPECT(job->kind == STORE_JOB_COMPACT);
    while (job->output_count == 0) EXPECT(store_world_job_step(&world) == STATUS_PARTIAL);
    EXPECT(world.stage == STORE_WORLD_BUILDING);

    char text[KEY_BYTES];
    uint64_t sequence;
    struct run **outputs = job->outputs;
    struct store_write write = {.kind = STORE_REMOVE, .key = key_of(7, text)};
    struct store_outcome outcome;
    job->outputs = NULL; /* Nobody but the builder knows where they are. */
    store_batch_begin(world.store, world.now_ms);
    store_write(world.store, &write, &outcome);
    EXPECT(outcome.changed);
    atomic_store(&world.heap.failure_after, 0);
    EXPECT(store_batch_commit(world.store, &sequence) == STATUS_NOMEM);
    job->outputs = outputs;

    write_words(&world, STORE_REMOVE, 8, 1);
    EXPECT(finish_job(&world) == STATUS_OK);
    EXPECT(count_words(&world) == options.tier_runs_max * 3000 - 1);
    store_world_deinit(&world);
}

/* Writes words [first, first + count) in one durable batch. */
static void write_batch(struct store_world *world, unsigned first, unsigned count)
{
    uint64_t sequence;
    char(*texts)[KEY_BYTES] = calloc(count, sizeof *texts);
    struct store_write *writes = calloc(count, sizeof *writes);
    struct store_outcome *outcomes = calloc(count, sizeof *outcomes);
    for (unsigned i = 0; i < count; i++)
        writes[i] = (struct store_write){
            .kind = STORE_SET, .key = key_of(first + i, texts[i]), .score = first + i};
    EXPECT(store_world_write(world, writes, count, outcomes, &sequence) == STATUS_OK);
    EXPECT(store_world_sync(world) == STATUS_OK);
    free(texts);
    free(writes);
    free(outcomes);
}

/* It once failed when all was written, and was begun again for ever. */
TEST_CASE(a_merge_of_very_much_makes_fewer_files)
{
    enum { RUN_WORDS = 1 << 18 };
    struct store_world world;
    struct store_options options = store_world_options();
    options.file_bytes = 1 << 10;
    options.tier_runs_max = 2;
    options.memtrie_bytes_max = UINT64_C(1) << 30;
    options.log_bytes_max = UINT64_C(1) << 30;
    begin(&world, &options);
    for (unsigned i = 0; i < options.tier_runs_max; i++) {
        write_batch(&world, i * RUN_WORDS, RUN_WORDS);
        EXPECT(flush(&world) == STATUS_OK);
    }
    uint64_t bytes = 0;
    for (size_t i = 0; i < world.store->run_count; i++)
        bytes += packed_info(world.store->runs[i]->packed)->file_bytes;
    EXPECT(bytes > 2 * JOB_OUTPUT_COUNT_MAX * options.file_bytes);
    EXPECT(store_job_begin(world.store, &world.job) == STATUS_OK);
    world.stage = STORE_WORLD_BUILDING;
    EXPECT(finish_job(&world) == STATUS_OK);
    EXPECT(world.store->run_count > JOB_OUTPUT_COUNT_MAX / 4);
    EXPECT(world.store->run_count < JOB_OUTPUT_COUNT_MAX);
    EXPECT(count_words(&world) == options.tier_runs_max * RUN_WORDS);
    store_world_deinit(&world);
}

TEST_CASE(a_damaged_run_is_left_out_of_merges)
{
    struct store_world world;
    struct store_options options = store_world_options();
    options.tier_runs_max = 3;
    options.file_bytes = 1 << 20;
    begin(&world, &options);
    for (unsigned i = 0; i < 2; i++) {
        write_words(&world, STORE_SET, i * 2000, 2000);
        EXPECT(flush(&world) == STATUS_OK);
    }
    /* In a page that opening does not read. */
    struct name damaged = name_of(NAME_RUN, world.store->runs[1]->number);
    sim_disk_flip_bit(world.disk, damaged.text, 8 * 4096 * 2 + 99);
    write_words(&world, STORE_SET, 4000, 2000);
    EXPECT(flush(&world) == STATUS_OK);

    /* One merge may find the damage; then the three files are let be. */
    enum status status = finish_job(&world);
    EXPECT(status == STATUS_CORRUPT);
    EXPECT(store_world_job_step(&world) == STATUS_END);
    store_tick(world.store, world.now_ms);
    EXPECT(strcmp(store_damaged_file(world.store), damaged.text) == 0);

    /* The others are merged once there are enough of them. */
    write_words(&world, STORE_SET, 6000, 2000);
    EXPECT(flush(&world) == STATUS_OK);
    EXPECT(finish_job(&world) == STATUS_OK);
    EXPECT(world.store->run_count == 2);
    EXPECT(store_world_job_step(&world) == STATUS_END);
    store_world_deinit(&world);
}

/* Words of a merge's input are removed by a batch that is not durable; then the power goes, after
 * all that the merge may do by itself. */
static void lose_power_after_a_merge(uint64_t seed)
{
    struct store_world world;
    struct store_options options = store_world_options();
    uint64_t sequence, bytes;
    options.tier_runs_max = 2;
    EXPECT(store_world_init(&world, seed, &options) == STATUS_OK);
    for (unsigned i = 0; i < 2; i++) {
        write_words(&world, STORE_SET, i * 50, 50);
        EXPECT(flush(&world) == STATUS_OK);
    }
    EXPECT(store_job_begin(world.store, &world.job) == STATUS_OK);
    enum status status = STATUS_PARTIAL;
    while (status == STATUS_PARTIAL) status = store_job_step(world.job, &bytes);
    EXPECT(status == STATUS_OK);
    for (unsigned i = 0; i < 20; i++) {
        char text[KEY_BYTES];
        struct store_outcome outcome;
        struct store_write write = {.kind = STORE_REMOVE, .key = key_of(i, text)};
        EXPECT(store_world_write(&world, &write, 1, &outcome, &sequence) == STATUS_OK);
    }
    do {
        status = store_job_resolve(world.store, world.job);
    } while (status == STATUS_PARTIAL);
    if (status == STATUS_OK) status = store_job_commit(world.job);
    EXPECT(store_world_restart(&world, SIM_DISK_POWER_LOSS) == STATUS_OK);

    /* A first part of the removals is there, and nothing else is gone. */
    struct query query = store_world_query(&world);
    uint64_t live = 0;
    for (unsigned i = 0; i < 100; i++) {
        char text[KEY_BYTES];
        struct query_hit hit;
        bool is_live = query_get(&query, key_of(i, text), &hit) == STATUS_OK && hit.live;
        live += is_live;
        EXPECT(is_live || i < world.report.replayed_records);
    }
    EXPECT(live == 100 - world.report.replayed_records);
    store_world_deinit(&world);
}

TEST_CASE(an_edit_waits_for_the_log_that_its_kills_are_in)
{
    for (uint64_t seed = test_seed; seed < test_seed + 16; seed++) lose_power_after_a_merge(seed);
}

/* A job must not kill in its outputs what a refused batch did not replace after all. */
TEST_CASE(a_refused_batch_leaves_nothing_for_a_job_to_take_in)
{
    struct store_world world;
    struct store_options options = store_world_options();
    begin(&world, &options);
    write_words(&world, STORE_SET, 0, 50);
    EXPECT(store_flush_begin(world.store, &world.job) == STATUS_OK);
    world.stage = STORE_WORLD_BUILDING;
    size_t touched = store_job_touched(world.store);

    char text[KEY_BYTES];
    uint64_t sequence;
    struct store_outcome outcome;
    struct store_write write = {.kind = STORE_REMOVE, .key = key_of(7, text)};
    sim_disk_fail_after(world.disk, 0, STATUS_FULL);
    EXPECT(store_world_write(&world, &write, 1, &outcome, &sequence) == STATUS_FULL);
    EXPECT(store_job_touched(world.store) == touched);
    EXPECT(finish_job(&world) == STATUS_OK);
    store_tick(world.store, world.now_ms);
    EXPECT(count_words(&world) == 50);
    EXPECT(store_world_restart(&world, SIM_DISK_KILLED) == STATUS_OK);
    EXPECT(count_words(&world) == 50);
    store_world_deinit(&world);
}

/* --- Exports and ingests --- */

static struct name export_name(void)
{
    return name_of(NAME_TRANSFER, 7);
}

static enum status export(struct store_world *world) {
    struct key_range all = {0};
    enum status status = store_export_begin(world->store, &all, export_name().text, &world->job);
    if (status != STATUS_OK) return status;
    world->stage = STORE_WORLD_BUILDING;
    return finish_job(world);
}

TEST_CASE(an_export_that_fails_leaves_no_file)
{
    struct store_world world;
    struct slice content;
    struct store_options options = store_world_options();
    begin(&world, &options);
    write_words(&world, STORE_SET, 0, 3000);
    for (uint64_t point = 0;; point++) {
        sim_disk_fail_after(world.disk, point, STATUS_FULL);
        enum status status = export(&world);
        sim_disk_fail_never(world.disk);
        if (status == STATUS_OK) {
            EXPECT(point > 2);
            break;
        }
        EXPECT(!sim_disk_content(world.disk, export_name().text, &content));
        store_tick(world.store, world.now_ms);
        EXPECT(flush(&world) == STATUS_OK);
        write_words(&world, STORE_SET, 3000 + (unsigned)point, 1);
    }
    EXPECT(sim_disk_content(world.disk, export_name().text, &content));

    /* It is nobody else's: a second one is refused and leaves it, a start clears it away. */
    EXPECT(flush(&world) == STATUS_OK);
    write_words(&world, STORE_SET, 0, 1);
    EXPECT(export(&world) == STATUS_EXISTS);
    EXPECT(sim_disk_content(world.disk, export_name().text, &content));
    EXPECT(store_world_restart(&world, SIM_DISK_KILLED) == STATUS_OK);
    EXPECT(!sim_disk_content(world.disk, export_name().text, &content));
    store_world_deinit(&world);
}

TEST_CASE(jobs_that_take_nothing_in_note_nothing)
{
    struct store_world world;
    struct store_options options = store_world_options();
    struct key_range all = {0};
    begin(&world, &options);
    write_words(&world, STORE_SET, 0, 100);
    EXPECT(flush(&world) == STATUS_OK);
    write_words(&world, STORE_SET, 100, 100);

    EXPECT(store_export_begin(world.store, &all, export_name().text, &world.job) == STATUS_OK);
    world.stage = STORE_WORLD_BUILDING;
    write_words(&world, STORE_REMOVE, 50, 100);
    EXPECT(store_job_touched(world.store) == 0);
    EXPECT(finish_job(&world) == STATUS_OK);
    EXPECT(store_scrub_begin(world.store, 0, &world.job) == STATUS_OK);
    world.stage = STORE_WORLD_BUILDING;
    write_words(&world, STORE_REMOVE, 0, 10);
    EXPECT(store_job_touched(world.store) == 0);
    EXPECT(finish_job(&world) == STATUS_OK);

    EXPECT(flush(&world) == STATUS_OK);
    EXPECT(count_words(&world) == 90);
    store_world_deinit(&world);
}

TEST_CASE(an_export_goes_under_a_name_that_a_start_knows)
{
    struct store_world world;
    struct store_options options = store_world_options();
    struct key_range all = {0};
    begin(&world, &options);
    EXPECT(store_export_begin(world.store, &all, "words.tri", &world.job) == STATUS_INVALID);
    EXPECT(store_export_begin(world.store, &all, name_of(NAME_RUN, 99).text, &world.job) ==
           STATUS_INVALID);
    store_world_deinit(&world);
}

TEST_CASE(an_ingest_with_another_hash_seed_is_refused)
{
    struct store_world world, other;
    struct store_options options = store_world_options();
    struct slice content;
    begin(&world, &options);
    options.hash_seed++;
    begin(&other, &options);
    write_words(&other, STORE_SET, 0, 10);
    EXPECT(export(&other) == STATUS_OK);
    EXPECT(sim_disk_content(other.disk, export_name().text, &content));
    sim_disk_put(world.disk, export_name().text, content);
    EXPECT(store_ingest_begin(world.store, export_name().text, &world.job) == STATUS_INVALID);
    EXPECT(count_words(&world) == 0);

    /* Nor is a store opened whose files were hashed otherwise. */
    EXPECT(flush(&other) == STATUS_OK);
    store_world_close(&other);
    other.options.hash_seed++;
    EXPECT(store_world_restart(&other, SIM_DISK_KILLED) == STATUS_FOREIGN);
    store_world_deinit(&other);
    store_world_deinit(&world);
}

/* --- The log --- */

/* A write that comes while an ingest commits and adds nothing to what is ingested: the file that the
 * manifest names says it all, and so do the two batches in the log. */
TEST_CASE(a_replay_that_changes_nothing_releases_its_log)
{
    struct store_world world, other;
    struct slice content;
    struct store_options options = store_world_options();
    begin(&world, &options);
    begin(&other, &options);
    write_words(&other, STORE_SET, 0, 20);
    world.now_ms += 100;
    other.now_ms += 200;
    write_words(&other, STORE_SET, 0, 20);
    EXPECT(export(&other) == STATUS_OK);
    EXPECT(sim_disk_content(other.disk, export_name().text, &content));
    sim_disk_put(world.disk, export_name().text, content);
    store_world_deinit(&other);

    EXPECT(store_ingest_begin(world.store, export_name().text, &world.job) == STATUS_OK);
    world.stage = STORE_WORLD_BUILDING;
    while (world.stage != STORE_WORLD_COMMITTING)
        EXPECT(store_world_job_step(&world) == STATUS_PARTIAL);
    write_words(&world, STORE_SET, 3, 1);
    EXPECT(finish_job(&world) == STATUS_OK);
    EXPECT(store_world_restart(&world, SIM_DISK_KILLED) == STATUS_OK);
    EXPECT(world.report.replayed_records == 2);
    EXPECT(world.store->active->root == 0);

    EXPECT(store_world_settle_down(&world) == STATUS_OK);
    EXPECT(store_is_clean(world.store));
    EXPECT(store_world_restart(&world, SIM_DISK_KILLED) == STATUS_OK);
    EXPECT(world.report.replayed_records == 0);
    EXPECT(count_words(&world) == 20);
    store_world_deinit(&world);
}

static const struct segment *active_segment(const struct store_world *world)
{
    const struct log *log = world->store->log;
    return &log->segments[log->segment_count - 1];
}

/* The newest batch is damaged on the disk; how does the next start take it? */
static enum status open_with_last_batch_damaged(unsigned ticks)
{
    struct store_world world;
    struct store_options options = store_world_options();
    begin(&world, &options);
    write_words(&world, STORE_SET, 0, 5);
    uint64_t batch = active_segment(&world)->end;
    write_words(&world, STORE_SET, 5, 1);
    for (unsigned i = 0; i < ticks; i++) {
        store_tick(world.store, ++world.now_ms);
        EXPECT(store_world_sync(&world) == STATUS_OK);
    }
    struct name log = name_of(NAME_LOG, active_segment(&world)->number);
    store_world_close(&world);
    sim_disk_restart(world.disk, SIM_DISK_KILLED);
    sim_disk_flip_bit(world.disk, log.text, (batch + FRAME_HEADER_BYTES) * 8 + 3);
    enum status status = store_world_open(&world);
    if (status == STATUS_OK) {
        EXPECT(count_words(&world) == 5);
        EXPECT(world.report.torn_bytes > 0);
    } else {
        EXPECT(strstr(world.report.detail, log.text) != NULL);
    }
    store_world_deinit(&world);
    return status;
}

TEST_CASE(after_a_quiet_tick_damage_to_the_newest_batch_is_no_torn_write)
{
    EXPECT(open_with_last_batch_damaged(0) == STATUS_OK); /* Nothing tells the two apart. */
    EXPECT(open_with_last_batch_damaged(2) == STATUS_CORRUPT);
}

TEST_CASE(a_quiet_store_marks_its_log_once)
{
    struct store_world world;
    struct store_options options = store_world_options();
    begin(&world, &options);
    write_words(&world, STORE_SET, 0, 5);
    uint64_t before = active_segment(&world)->end;
    store_tick(world.store, ++world.now_ms);
    EXPECT(active_segment(&world)->end == before); /* More may come. */
    for (unsigned i = 0; i < 20; i++) {
        store_tick(world.store, ++world.now_ms);
        EXPECT(store_world_sync(&world) == STATUS_OK);
    }
    EXPECT(active_segment(&world)->end == before + FRAME_HEADER_BYTES);
    store_world_deinit(&world);
}

TEST_MAIN(TEST(a_commit_that_never_ran_fails_no_later_one),
          TEST(no_turn_of_the_writer_takes_in_all_of_a_long_commit),
          TEST(a_job_that_is_undone_gives_its_memory_back),
          TEST(a_refused_batch_lets_outputs_be_that_are_being_built),
          TEST(a_merge_of_very_much_makes_fewer_files), TEST(a_damaged_run_is_left_out_of_merges),
          TEST(an_edit_waits_for_the_log_that_its_kills_are_in),
          TEST(a_refused_batch_leaves_nothing_for_a_job_to_take_in),
          TEST(an_export_that_fails_leaves_no_file), TEST(jobs_that_take_nothing_in_note_nothing),
          TEST(an_export_goes_under_a_name_that_a_start_knows),
          TEST(an_ingest_with_another_hash_seed_is_refused),
          TEST(a_replay_that_changes_nothing_releases_its_log),
          TEST(after_a_quiet_tick_damage_to_the_newest_batch_is_no_torn_write),
          TEST(a_quiet_store_marks_its_log_once))
