/* The log on the simulated disk. A story appends, syncs, prepares and releases at random;
 * whatever happens to the disk in the middle, the next start must find all that was
 * synced, a prefix of what was not, and nothing else. */
#include "store/log.h"

#include <string.h>

#include "base/math.h"
#include "base/prng.h"
#include "sim/disk.h"
#include "store/frame.h"
#include "store/log_private.h"
#include "store/names.h"
#include "test.h"

enum { BATCHES_MAX = 4096, PAYLOAD_BYTES_MAX = 80 * 1024, STEPS = 120 };

static const uint8_t store_id[16] = "sixteen bytes id";

/* What must be in the log, kept beside it. */
struct story {
    struct sim_disk *disk;
    struct heap heap;
    struct prng prng;
    struct log *log;
    struct log_options options;
    struct log_report report;
    uint64_t life;             /* Counts starts: batches of different lives differ. */
    uint64_t ids[BATCHES_MAX]; /* By sequence: the life that wrote it. */
    uint64_t last;
    uint64_t durable;
    uint64_t expected; /* While replaying: the next sequence. */
    bool doubt;        /* One more batch may be there, from a call that failed. */
    bool syncing;
    bool preparing;
    struct log_sync sync;
    struct log_prepare prepare;
    enum status prepare_status;
    enum status sync_status;
    bool sync_ran;
    bool prepare_ran;
};

static uint8_t payload_bytes[PAYLOAD_BYTES_MAX];

/* The size depends on the sequence alone: a batch that takes the place of a lost one ends
 * where that ended, before whatever was left behind it. */
static struct slice payload_of(uint64_t life, uint64_t sequence)
{
    struct prng prng = {.state = sequence * 7919};
    (void)prng_u64(&prng);
    size_t size = prng_below(&prng, prng_one_in(&prng, 4) ? 1500 : 90);
    if (prng_one_in(&prng, 97)) size = 66000 + prng_below(&prng, 5000);
    prng.state += life * 104729;
    for (size_t i = 0; i < size; i++) payload_bytes[i] = (uint8_t)prng_u32(&prng);
    return slice_of(payload_bytes, size);
}

static void story_begin(struct story *story, uint64_t seed)
{
    memset(story, 0, sizeof *story);
    story->prng.state = seed * 31 + 7;
    (void)prng_u64(&story->prng);
    story->disk = sim_disk_create(seed);
    heap_init(&story->heap, 0);
    memcpy(story->options.store_id, store_id, sizeof store_id);
    story->options.replay_sequence = 1;
    story->options.segment_bytes = 512 + prng_below(&story->prng, 4000);
    story->options.prepared_count = 1 + prng_below(&story->prng, 3);
}

static void story_end(struct story *story)
{
    EXPECT(heap_used_bytes(&story->heap) == 0);
    sim_disk_destroy(story->disk);
}

static enum status check_batch(void *context, uint64_t sequence, struct slice payload)
{
    struct story *story = context;
    EXPECT(sequence == story->expected);
    EXPECT(sequence <= story->last + story->doubt);
    EXPECT(slice_equal(payload, payload_of(story->ids[sequence], sequence)));
    story->expected++;
    return STATUS_OK;
}

/* Starts the log and compares. On success the model knows which batches are left. */
static enum status story_start(struct story *story)
{
    story->expected = story->options.replay_sequence;
    enum status status = log_open(sim_disk_env(story->disk), &story->heap, &story->options,
                                  check_batch, story, &story->report, &story->log);
    if (status != STATUS_OK) {
        story->log = NULL;
        return status;
    }
    EXPECT(story->expected > story->durable);
    EXPECT(log_last(story->log) == story->expected - 1);
    EXPECT(log_durable(story->log) == log_last(story->log));
    story->options.expect_segments = true;
    story->last = log_last(story->log);
    story->durable = story->last;
    story->doubt = false;
    story->life++;
    return STATUS_OK;
}

static enum status story_append(struct story *story)
{
    uint64_t sequence = 0;
    if (story->last + 2 >= BATCHES_MAX) return STATUS_OK;
    struct slice payload = payload_of(story->life, story->last + 1);
    enum status status = log_append(story->log, payload, &sequence);
    story->ids[story->last + 1] = story->life;
    if (status == STATUS_OK) {
        EXPECT(sequence == story->last + 1);
        story->last = sequence;
    }
    story->doubt = status != STATUS_OK && status != STATUS_FULL;
    return status;
}

static enum status story_sync(struct story *story)
{
    if (!story->syncing) {
        enum status status = log_sync_begin(story->log, &story->sync);
        story->syncing = status == STATUS_OK;
        story->sync_ran = false;
        return status == STATUS_END ? STATUS_OK : status;
    }
    if (!story->sync_ran) {
        story->sync_status = log_sync_run(&story->sync);
        story->sync_ran = true;
        return STATUS_OK;
    }
    log_sync_complete(story->log, &story->sync, story->sync_status);
    story->syncing = false;
    if (story->sync_status == STATUS_OK) story->durable = log_durable(story->log);
    return story->sync_status;
}

static enum status story_prepare(struct story *story)
{
    if (!story->preparing) {
        story->preparing = log_prepare_begin(story->log, &story->prepare);
        story->prepare_ran = false;
    } else if (!story->prepare_ran) {
        story->prepare_status = log_prepare_run(&story->prepare);
        story->prepare_ran = true;
    } else {
        log_prepare_complete(story->log, &story->prepare, story->prepare_status);
        story->preparing = false;
    }
    return STATUS_OK;
}

/* As if a manifest edit had committed with this replay sequence. */
static void story_release(struct story *story)
{
    if (story->durable == 0) return;
    uint64_t sequence = story->durable - prng_below(&story->prng, 3) % story->durable;
    uint64_t replay = u64_max(story->options.replay_sequence, sequence + 1);
    story->options.replay_sequence = replay;
    story->options.durable_sequence = story->durable;
    log_release(story->log, replay - 1);
}

static enum status story_step(struct story *story)
{
    switch (prng_below(&story->prng, 12)) {
    case 0:
    case 1:
    case 2:
    case 3:
        return story_append(story);
    case 4:
        return log_append_mark(story->log);
    case 5:
        if (prng_one_in(&story->prng, 3)) story_release(story);
        return STATUS_OK;
    case 6:
    case 7:
    case 8:
        return story_prepare(story);
    default:
        return story_sync(story);
    }
}

/* Runs until the end or the first failure that is not a full disk. */
static void story_run(struct story *story, unsigned steps)
{
    for (unsigned i = 0; i < steps; i++) {
        enum status status = story_step(story);
        if (status != STATUS_OK && status != STATUS_FULL) return;
    }
}

/* The process ends, wherever it was. */
static void story_stop(struct story *story)
{
    if (story->log == NULL) return;
    if (story->syncing) log_sync_complete(story->log, &story->sync, STATUS_IO);
    if (story->preparing) {
        if (!story->prepare_ran) story->prepare_status = STATUS_IO;
        log_prepare_complete(story->log, &story->prepare, story->prepare_status);
    }
    story->syncing = false;
    story->preparing = false;
    log_close(story->log);
    story->log = NULL;
}

static void story_restart(struct story *story)
{
    bool killed = prng_one_in(&story->prng, 2);
    sim_disk_restart(story->disk, killed ? SIM_DISK_KILLED : SIM_DISK_POWER_LOSS);
}

/* Starts with a crash at each change of the recovery in turn, until one gets through. */
static uint64_t story_recover_through_crashes(struct story *story)
{
    for (uint64_t count = 0;; count++) {
        sim_disk_crash_after(story->disk, count);
        enum status status = story_start(story);
        if (status == STATUS_OK && !sim_disk_crashed(story->disk)) {
            sim_disk_crash_after(story->disk, UINT64_MAX / 2);
            return count;
        }
        EXPECT(sim_disk_crashed(story->disk));
        EXPECT(status == STATUS_OK || status == STATUS_IO);
        story_stop(story);
        story_restart(story);
    }
}

TEST_CASE(a_crash_at_every_change_loses_nothing_synced_and_revives_nothing_cut)
{
    static struct story story;
    uint64_t crash_points = 0, recovery_points = 0, cuts = 0;

    for (uint64_t seed = test_seed; seed < test_seed + 8; seed++) {
        for (uint64_t count = 0;; count++) {
            story_begin(&story, seed);
            sim_disk_crash_after(story.disk, count);
            if (story_start(&story) == STATUS_OK) story_run(&story, STEPS);
            bool crashed = sim_disk_crashed(story.disk);
            story_stop(&story);
            for (int again = 0; again < 3; again++) {
                sim_disk_crash(story.disk);
                story_restart(&story);
                recovery_points += story_recover_through_crashes(&story);
                cuts += story.report.cut_count;
                story_run(&story, STEPS / 3);
                story_stop(&story);
            }
            story_end(&story);
            if (!crashed) break;
            crash_points++;
        }
    }
    printf("log: %llu crash points, %llu in recoveries, %llu batches cut\n",
           (unsigned long long)crash_points, (unsigned long long)recovery_points,
           (unsigned long long)cuts);
    EXPECT(crash_points > 0);
    EXPECT(recovery_points > 0);
    EXPECT(cuts > 0);
}

/* As above, with one operation failing instead of the power. */
static void fail_each_operation(enum status failure)
{
    static struct story story;
    uint64_t points = 0;

    for (uint64_t seed = test_seed; seed < test_seed + 4; seed++) {
        for (uint64_t count = 0; count < 100000; count++) {
            story_begin(&story, seed);
            sim_disk_fail_after(story.disk, count, failure);
            enum status status = story_start(&story);
            if (status == STATUS_OK)
                story_run(&story, STEPS);
            else
                EXPECT(status == failure);
            uint64_t operations = sim_disk_operation_count(story.disk);
            story_stop(&story);
            story_restart(&story);
            EXPECT(story_start(&story) == STATUS_OK);
            story_run(&story, STEPS / 3);
            story_stop(&story);
            story_restart(&story);
            EXPECT(story_start(&story) == STATUS_OK);
            story_stop(&story);
            story_end(&story);
            if (operations <= count) break;
            points++;
        }
    }
    EXPECT(points > 0);
}

TEST_CASE(each_failing_operation_leaves_a_log_that_recovers)
{
    fail_each_operation(STATUS_IO);
}

TEST_CASE(a_disk_that_is_full_once_anywhere_costs_nothing_but_that_batch)
{
    fail_each_operation(STATUS_FULL);
}

TEST_CASE(each_failing_allocation_leaves_a_log_that_recovers)
{
    static struct story story;
    uint64_t points = 0;

    for (int64_t count = 0; count < 1000; count++) {
        story_begin(&story, test_seed);
        story.heap.failure_after = count;
        enum status status = story_start(&story);
        if (status == STATUS_OK) {
            story_run(&story, STEPS);
        } else {
            EXPECT(status == STATUS_NOMEM);
        }
        bool failed = story.heap.failure_after < 0;
        story.heap.failure_after = -1;
        story_stop(&story);
        story_restart(&story);
        EXPECT(story_start(&story) == STATUS_OK);
        story_stop(&story);
        story_end(&story);
        if (!failed) break;
        points++;
    }
    EXPECT(points > 0);
}

/* A plain log for the tests below. */
static void start_small(struct story *story)
{
    story_begin(story, test_seed);
    story->options.segment_bytes = 512;
    EXPECT(story_start(story) == STATUS_OK);
}

static void append_synced(struct story *story)
{
    EXPECT(story_append(story) == STATUS_OK);
    do {
        EXPECT(story_sync(story) == STATUS_OK);
    } while (story->syncing);
    EXPECT(story->durable == story->last);
}

TEST_CASE(a_failed_sync_is_the_end_of_appending)
{
    static struct story story;
    start_small(&story);
    append_synced(&story);
    EXPECT(story_append(&story) == STATUS_OK);
    sim_disk_fail_sync_after(story.disk, 0);
    EXPECT(story_sync(&story) == STATUS_OK);
    EXPECT(story_sync(&story) == STATUS_OK);
    EXPECT(story_sync(&story) == STATUS_IO);
    EXPECT(log_status(story.log) == STATUS_IO);
    EXPECT(log_durable(story.log) == 1);

    uint64_t sequence;
    struct log_sync sync;
    EXPECT(log_append(story.log, SLICE_LITERAL("x"), &sequence) == STATUS_IO);
    EXPECT(log_append_mark(story.log) == STATUS_IO);
    EXPECT(log_sync_begin(story.log, &sync) == STATUS_IO);
    story_stop(&story);

    /* What the failed sync lost is still readable: accepted now, it must be durable. */
    sim_disk_restart(story.disk, SIM_DISK_KILLED);
    EXPECT(story_start(&story) == STATUS_OK);
    EXPECT(story.last == 2);
    story_stop(&story);
    sim_disk_restart(story.disk, SIM_DISK_POWER_LOSS);
    EXPECT(story_start(&story) == STATUS_OK);
    EXPECT(story.last == 2);
    story_stop(&story);
    story_end(&story);
}

/* Copies all files of a disk, so that one picture can be damaged in many ways. */
static struct sim_disk *disk_copy(struct sim_disk *from)
{
    struct sim_disk *to = sim_disk_create(test_seed);
    for (uint64_t number = 1; number < 100; number++) {
        struct name name = name_of(NAME_LOG, number);
        struct slice content;
        if (sim_disk_content(from, name.text, &content)) sim_disk_put(to, name.text, content);
    }
    return to;
}

/* Turns each bit of each file in turn: what was proven durable by a later mark is
 * missed, and what is read is what was written. */
TEST_CASE(every_bit_flip_in_a_synced_log_is_damage_or_cuts_what_nothing_vouched_for)
{
    static struct story story;
    start_small(&story);
    for (int i = 0; i < 12; i++) append_synced(&story);
    uint64_t proven = story.last;
    EXPECT(log_append_mark(story.log) == STATUS_OK);
    story_stop(&story);

    struct sim_disk *original = story.disk;
    uint64_t damaged = 0, harmless = 0;
    for (uint64_t number = 1; number < 100; number++) {
        struct name name = name_of(NAME_LOG, number);
        struct slice content;
        if (!sim_disk_content(original, name.text, &content)) continue;
        for (uint64_t bit = 0; bit < content.size * 8; bit++) {
            struct log_report report;
            struct log *log = NULL;
            struct sim_disk *disk = disk_copy(original);
            sim_disk_flip_bit(disk, name.text, bit);
            story.expected = 1;
            enum status status = log_open(sim_disk_env(disk), &story.heap, &story.options,
                                          check_batch, &story, &report, &log);
            if (status == STATUS_CORRUPT) {
                EXPECT(report.sequence <= proven);
                damaged++;
            } else {
                EXPECT(status == STATUS_OK);
                EXPECT(log_last(log) == proven); /* The mark itself, or bytes of no meaning. */
                harmless++;
                log_close(log);
            }
            sim_disk_destroy(disk);
        }
    }
    EXPECT(damaged > 0);
    EXPECT(harmless > 0);
    story_end(&story);
}

TEST_CASE(damage_is_named_by_segment_offset_and_sequence_and_changes_nothing)
{
    static struct story story;
    start_small(&story);
    for (int i = 0; i < 3; i++) append_synced(&story);
    story_stop(&story);
    struct name name = name_of(NAME_LOG, 1);
    uint64_t second = 64 + frame_size_bytes(payload_of(1, 1).size);
    sim_disk_flip_bit(story.disk, name.text, (second + FRAME_HEADER_BYTES) * 8);

    uint64_t changes = sim_disk_change_count(story.disk);
    EXPECT(story_start(&story) == STATUS_CORRUPT);
    EXPECT(story.report.segment == 1);
    EXPECT(story.report.offset == second);
    EXPECT(story.report.sequence == 2);
    EXPECT(sim_disk_change_count(story.disk) == changes);
    story_end(&story);
}

TEST_CASE(a_segment_of_another_store_is_foreign)
{
    static struct story story;
    start_small(&story);
    append_synced(&story);
    story_stop(&story);
    story.options.store_id[0] ^= 1;
    EXPECT(story_start(&story) == STATUS_FOREIGN);
    story_end(&story);
}

TEST_CASE(a_log_that_is_gone_is_damage)
{
    static struct story story;
    start_small(&story);
    append_synced(&story);
    story_stop(&story);
    EXPECT(env_remove(sim_disk_env(story.disk), name_of(NAME_LOG, 1).text) == STATUS_OK);
    EXPECT(story_start(&story) == STATUS_CORRUPT);
    story_end(&story);
}

/* Only itself, and the one before, know that there was a newest segment. */
TEST_CASE(the_newest_segment_is_missed_once_it_held_what_is_durable)
{
    static const enum sim_disk_restart hows[] = {SIM_DISK_KILLED, SIM_DISK_POWER_LOSS};
    for (unsigned i = 0; i < 16; i++) {
        static struct story story;
        story_begin(&story, test_seed + i);
        EXPECT(story_start(&story) == STATUS_OK);
        for (unsigned j = 0; j < i % 4; j++) EXPECT(story_prepare(&story) == STATUS_OK);
        while (story.log->segment_count < 2 + i % 3) append_synced(&story);
        uint64_t first = story.log->segments[story.log->segment_count - 1].first;
        struct name newest =
            name_of(NAME_LOG, story.log->segments[story.log->segment_count - 1].number);
        EXPECT(story.durable >= first);
        /* The next sync takes along what the one before says of it. */
        if (i % 2 == 1) append_synced(&story);
        struct log_sync sync;
        enum status status = log_sync_begin(story.log, &sync);
        if (status == STATUS_OK) log_sync_complete(story.log, &sync, log_sync_run(&sync));
        story_stop(&story);
        sim_disk_restart(story.disk, hows[i / 2 % 2]);

        struct sim_disk *original = story.disk;
        story.disk = disk_copy(original);
        EXPECT(env_remove(sim_disk_env(story.disk), newest.text) == STATUS_OK);
        EXPECT(story_start(&story) == STATUS_CORRUPT);
        EXPECT(story.report.sequence == first);
        sim_disk_destroy(story.disk);
        story.disk = original;
        EXPECT(story_start(&story) == STATUS_OK);
        story_stop(&story);
        story_end(&story);
    }
}

/* One that holds nothing durable may go: the power took it with what was in it. */
TEST_CASE(a_newest_segment_without_anything_durable_is_not_missed)
{
    static struct story story;
    start_small(&story);
    while (story.log->segment_count < 2) EXPECT(story_append(&story) == STATUS_OK);
    struct name newest = name_of(NAME_LOG, story.log->segments[1].number);
    story_stop(&story);
    EXPECT(env_remove(sim_disk_env(story.disk), newest.text) == STATUS_OK);
    EXPECT(story_start(&story) == STATUS_OK);
    story_stop(&story);
    story_end(&story);
}

/* Released segments serve again: the number of files stays bounded. */
TEST_CASE(segments_are_recycled)
{
    static struct story story;
    start_small(&story);
    for (int i = 0; i < 400; i++) {
        append_synced(&story);
        story.options.replay_sequence = story.durable + 1;
        log_release(story.log, story.durable);
        for (int j = 0; j < 6; j++) EXPECT(story_prepare(&story) == STATUS_OK);
    }
    unsigned files = 0;
    for (uint64_t number = 1; number < 2000; number++) {
        struct slice content;
        files += sim_disk_content(story.disk, name_of(NAME_LOG, number).text, &content);
    }
    EXPECT(files <= 2 + 3 * story.options.prepared_count);
    EXPECT(log_bytes_since(story.log, story.last) == 0);
    EXPECT(log_bytes_since(story.log, story.last - 1) > 0);
    story_stop(&story);
    EXPECT(story_start(&story) == STATUS_OK);
    EXPECT(story.report.visited_count == 0);
    story_stop(&story);
    story_end(&story);
}

/* In a segment of zeros a write may have done all but the padding before it was refused. */
TEST_CASE(a_batch_that_was_refused_does_not_come_back)
{
    static struct story story;
    for (uint64_t seed = test_seed; seed < test_seed + 60; seed++) {
        uint64_t sequence;
        story_begin(&story, seed);
        story.options.segment_bytes = 512;
        EXPECT(story_start(&story) == STATUS_OK);
        for (int i = 0; i < 4; i++) EXPECT(story_prepare(&story) == STATUS_OK);
        while (story.log->segments[0].number ==
               story.log->segments[story.log->segment_count - 1].number)
            append_synced(&story);
        sim_disk_fail_after(story.disk, 0, STATUS_FULL);
        EXPECT(log_append(story.log, SLICE_LITERAL("x"), &sequence) == STATUS_FULL);
        story_stop(&story);
        sim_disk_restart(story.disk, SIM_DISK_KILLED);
        EXPECT(story_start(&story) == STATUS_OK);
        story_stop(&story);
        story_end(&story);
    }
}

/* docs/format/log.md shows these bytes. */
TEST_CASE(the_bytes_of_a_log_are_the_documented_ones)
{
    static struct story story;
    uint64_t sequence;
    struct slice content;
    start_small(&story);
    EXPECT(log_append(story.log, SLICE_LITERAL("trie!"), &sequence) == STATUS_OK);
    EXPECT(sim_disk_content(story.disk, name_of(NAME_LOG, 1).text, &content));
    /* clang-format off */
    static const uint8_t documented[] = {
        0x74, 0x72, 0x69, 0x6c, 0x6f, 0x67, 0x31, 0x0a, 0xed, 0x90, 0x90, 0xd4, 0x00, 0x00, 0x00, 0x00,
        0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x73, 0x69, 0x78, 0x74, 0x65, 0x65, 0x6e, 0x20,
        0x62, 0x79, 0x74, 0x65, 0x73, 0x20, 0x69, 0x64, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0xbd, 0x61, 0x23, 0x5a, 0x52, 0x10, 0xb2, 0xe5, 0x05, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00,
        0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x74, 0x72, 0x69, 0x65, 0x21, 0x00, 0x00, 0x00,
    };
    /* clang-format on */
    EXPECT(slice_equal(content, slice_of(documented, sizeof documented)));
    story_stop(&story);
    story_end(&story);
}

TEST_MAIN(TEST(a_crash_at_every_change_loses_nothing_synced_and_revives_nothing_cut),
          TEST(each_failing_operation_leaves_a_log_that_recovers),
          TEST(a_disk_that_is_full_once_anywhere_costs_nothing_but_that_batch),
          TEST(each_failing_allocation_leaves_a_log_that_recovers),
          TEST(a_failed_sync_is_the_end_of_appending),
          TEST(every_bit_flip_in_a_synced_log_is_damage_or_cuts_what_nothing_vouched_for),
          TEST(damage_is_named_by_segment_offset_and_sequence_and_changes_nothing),
          TEST(a_segment_of_another_store_is_foreign), TEST(a_log_that_is_gone_is_damage),
          TEST(the_newest_segment_is_missed_once_it_held_what_is_durable),
          TEST(a_newest_segment_without_anything_durable_is_not_missed),
          TEST(segments_are_recycled), TEST(a_batch_that_was_refused_does_not_come_back),
          TEST(the_bytes_of_a_log_are_the_documented_ones))
