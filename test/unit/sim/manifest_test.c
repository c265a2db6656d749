/* The manifest on the simulated disk: after a crash, a failure or a full disk anywhere
 * the state is the last one committed, or the one whose commit had begun. */
#include "store/manifest.h"

#include <string.h>

#include "base/prng.h"
#include "sim/disk.h"
#include "store/frame.h"
#include "store/manifest_state.h"
#include "store/names.h"
#include "test.h"

enum { COMMITS = 25 };

struct story {
    struct sim_disk *disk;
    struct heap heap;
    struct prng prng;
    struct manifest *manifest;
    struct manifest_options options;
    struct manifest_report report;
    struct manifest_edit committed; /* What the state must be, as a snapshot. */
    struct manifest_edit pending;   /* What it may be, if a commit ended badly. */
    bool doubt;
    bool born; /* The store was created once. */
};

static void story_begin(struct story *story, uint64_t seed)
{
    memset(story, 0, sizeof *story);
    heap_init(&story->heap, 0);
    story->disk = sim_disk_create(seed);
    story->prng.state = seed * 2654435761u + 99;
    story->options.create = true;
    story->options.rollover_bytes = 700;
    memcpy(story->options.store_id, "sixteen bytes id", 16);
    manifest_edit_init(&story->committed, &story->heap);
    manifest_edit_init(&story->pending, &story->heap);
}

static void story_end(struct story *story)
{
    manifest_close(story->manifest);
    manifest_edit_deinit(&story->committed);
    manifest_edit_deinit(&story->pending);
    EXPECT(heap_used_bytes(&story->heap) == 0);
    sim_disk_destroy(story->disk);
}

static void snapshot(struct manifest_edit *edit, const struct manifest_state *state)
{
    buf_clear(&edit->bytes);
    state_snapshot(state, edit);
    EXPECT(buf_status(&edit->bytes) == STATUS_OK);
}

static bool same(const struct manifest_edit *a, const struct manifest_edit *b)
{
    return slice_equal(buf_slice(&a->bytes), buf_slice(&b->bytes));
}

static enum status story_start(struct story *story)
{
    enum status status = manifest_open(sim_disk_env(story->disk), &story->heap, &story->options,
                                       &story->report, &story->manifest);
    if (status != STATUS_OK) {
        story->manifest = NULL;
        return status;
    }
    struct manifest_edit now;
    manifest_edit_init(&now, &story->heap);
    snapshot(&now, manifest_state(story->manifest));
    EXPECT(same(&now, &story->committed) || (story->doubt && same(&now, &story->pending)));
    EXPECT(!(story->born && story->report.created));
    story->born = true;
    story->doubt = false;
    snapshot(&story->committed, manifest_state(story->manifest));
    manifest_edit_deinit(&now);
    return STATUS_OK;
}

static void random_edit(struct story *story, struct manifest_edit *edit)
{
    const struct manifest_state *state = manifest_state(story->manifest);
    uint64_t next = state->numbers[MANIFEST_NEXT_FILE] + 1;
    char key[8];

    struct manifest_run run = {next,
                               0,
                               prng_below(&story->prng, 4),
                               1,
                               4096,
                               SLICE_LITERAL("apple"),
                               SLICE_LITERAL("zebra")};
    manifest_edit_add_run(edit, &run);
    manifest_edit_set_number(edit, MANIFEST_NEXT_FILE, next);
    if (state->run_count > 3)
        manifest_edit_remove_run(edit, state->runs[prng_below(&story->prng, 3)].number);
    if (prng_one_in(&story->prng, 2)) manifest_edit_set_overlay(edit, next, next + 1000);
    snprintf(key, sizeof key, "k%u", prng_below(&story->prng, 6));
    if (prng_one_in(&story->prng, 3))
        manifest_edit_remove_value(edit, slice_from_text(key));
    else
        manifest_edit_set_value(edit, slice_from_text(key), slice_of(&next, sizeof next));
}

static enum status story_commit(struct story *story)
{
    struct manifest_edit edit;
    struct manifest_state *next = NULL;

    manifest_edit_init(&edit, &story->heap);
    random_edit(story, &edit);
    enum status status = STATUS_NOMEM;
    if (buf_status(&edit.bytes) == STATUS_OK)
        status = state_apply(&story->heap, manifest_state(story->manifest), buf_slice(&edit.bytes),
                             &next);
    if (status == STATUS_OK) {
        snapshot(&story->pending, next);
        state_destroy(&story->heap, next);
        status = manifest_commit(story->manifest, &edit);
        if (status == STATUS_OK) snapshot(&story->committed, manifest_state(story->manifest));
        story->doubt = status != STATUS_OK && status != STATUS_FULL && status != STATUS_NOMEM;
    }
    manifest_edit_deinit(&edit);
    return status;
}

static void story_run(struct story *story, unsigned commits)
{
    for (unsigned i = 0; i < commits; i++) {
        enum status status = story_commit(story);
        if (status != STATUS_OK && status != STATUS_FULL && status != STATUS_NOMEM) {
            struct manifest_edit empty;
            manifest_edit_init(&empty, &story->heap);
            EXPECT(manifest_commit(story->manifest, &empty) == STATUS_IO);
            return;
        }
    }
}

static void story_stop(struct story *story)
{
    manifest_close(story->manifest);
    story->manifest = NULL;
}

static void story_restart(struct story *story)
{
    bool killed = prng_one_in(&story->prng, 2);
    sim_disk_restart(story->disk, killed ? SIM_DISK_KILLED : SIM_DISK_POWER_LOSS);
}

TEST_CASE(a_crash_at_every_change_keeps_each_edit_whole_or_not_at_all)
{
    static struct story story;
    uint64_t points = 0, recovery_points = 0;

    for (uint64_t seed = test_seed; seed < test_seed + 20; seed++) {
        for (uint64_t count = 0;; count++) {
            story_begin(&story, seed);
            sim_disk_crash_after(story.disk, count);
            if (story_start(&story) == STATUS_OK) story_run(&story, COMMITS);
            bool crashed = sim_disk_crashed(story.disk);
            for (int again = 0; again < 2; again++) {
                for (uint64_t inner = 0;; inner++) {
                    story_stop(&story);
                    sim_disk_crash(story.disk);
                    story_restart(&story);
                    sim_disk_crash_after(story.disk, inner);
                    if (story_start(&story) == STATUS_OK && !sim_disk_crashed(story.disk)) break;
                    recovery_points++;
                }
                EXPECT(manifest_remove_leftovers(story.manifest, false, NULL, NULL) == STATUS_OK ||
                       sim_disk_crashed(story.disk));
                if (!sim_disk_crashed(story.disk)) story_run(&story, 3);
            }
            story_stop(&story);
            sim_disk_crash(story.disk);
            story_restart(&story);
            EXPECT(story_start(&story) == STATUS_OK);
            story_end(&story);
            if (!crashed) break;
            points++;
        }
    }
    printf("manifest: %llu crash points, %llu in recoveries\n", (unsigned long long)points,
           (unsigned long long)recovery_points);
    EXPECT(points > 0);
    EXPECT(recovery_points > 0);
}

static void fail_each_operation(enum status failure)
{
    static struct story story;
    uint64_t points = 0;

    for (uint64_t count = 0; count < 100000; count++) {
        story_begin(&story, test_seed);
        sim_disk_fail_after(story.disk, count, failure);
        enum status status = story_start(&story);
        if (status == STATUS_OK) {
            story_run(&story, COMMITS);
        } else {
            EXPECT(status == failure || status == STATUS_IO);
            EXPECT(story.report.text[0] != 0);
        }
        uint64_t operations = sim_disk_operation_count(story.disk);
        story_stop(&story);
        story_restart(&story);
        EXPECT(story_start(&story) == STATUS_OK);
        story_end(&story);
        if (operations <= count) break;
        points++;
    }
    EXPECT(points > 0);
}

TEST_CASE(each_failing_operation_leaves_a_manifest_that_opens)
{
    fail_each_operation(STATUS_IO);
}

/* What was written before a sync that failed can be read as long as the machine is up, and may be on no
 * disk: the mark before the edit that failed as well (simulator, seed 282 with a map that moves). */
TEST_CASE(a_sync_that_failed_leaves_no_hole)
{
    static struct story story;
    for (uint64_t seed = test_seed; seed < test_seed + 100; seed++) {
        story_begin(&story, seed);
        story.options.rollover_bytes = 1 << 20;
        EXPECT(story_start(&story) == STATUS_OK);
        story_run(&story, 1 + (unsigned)seed % 20);
        sim_disk_fail_sync_after(story.disk, 0);
        if (seed % 2 == 0)
            sim_disk_fail_after(story.disk, 0, STATUS_FULL); /* Then it is taken back. */
        EXPECT(story_commit(&story) == STATUS_IO);
        story_stop(&story);
        sim_disk_crash(story.disk);
        sim_disk_restart(story.disk, SIM_DISK_KILLED);
        EXPECT(story_start(&story) == STATUS_OK);
        story_run(&story, 3);
        story_stop(&story);
        sim_disk_crash(story.disk);
        sim_disk_restart(story.disk, SIM_DISK_POWER_LOSS);
        EXPECT(story_start(&story) == STATUS_OK);
        story_end(&story);
    }
}

TEST_CASE(a_commit_on_a_full_disk_is_refused_for_certain_or_unknown)
{
    fail_each_operation(STATUS_FULL);
}

TEST_CASE(each_failing_allocation_is_survived)
{
    static struct story story;
    uint64_t points = 0;

    for (int64_t count = 0;; count++) {
        struct manifest_edit edit;
        story_begin(&story, test_seed);
        EXPECT(story_start(&story) == STATUS_OK);
        manifest_edit_init(&edit, &story.heap);
        random_edit(&story, &edit);
        story.heap.failure_after = count;
        enum status status = manifest_commit(story.manifest, &edit);
        if (status == STATUS_OK) {
            story_stop(&story);
            status = manifest_open(sim_disk_env(story.disk), &story.heap, &story.options,
                                   &story.report, &story.manifest);
            if (status != STATUS_OK) story.manifest = NULL;
        }
        bool failed = story.heap.failure_after < 0;
        EXPECT(failed == (status == STATUS_NOMEM));
        story.heap.failure_after = -1;
        manifest_edit_deinit(&edit);
        story_end(&story);
        if (!failed) break;
        points++;
    }
    EXPECT(points > 0);
}

TEST_CASE(an_edit_that_does_not_fit_changes_nothing)
{
    static struct story story;
    struct manifest_edit edit;
    struct manifest_run run = {.number = 5};
    story_begin(&story, test_seed);
    EXPECT(story_start(&story) == STATUS_OK);

    manifest_edit_init(&edit, &story.heap);
    manifest_edit_add_run(&edit, &run);
    manifest_edit_add_run(&edit, &run);
    EXPECT(manifest_commit(story.manifest, &edit) == STATUS_INVALID);
    buf_clear(&edit.bytes);
    manifest_edit_remove_run(&edit, 5);
    EXPECT(manifest_commit(story.manifest, &edit) == STATUS_INVALID);
    buf_clear(&edit.bytes);
    manifest_edit_set_overlay(&edit, 5, 6);
    EXPECT(manifest_commit(story.manifest, &edit) == STATUS_INVALID);
    manifest_edit_deinit(&edit);
    story_stop(&story);
    EXPECT(story_start(&story) == STATUS_OK);
    EXPECT(manifest_state(story.manifest)->run_count == 0);
    story_end(&story);
}

TEST_CASE(fields_of_the_future_are_skipped_or_refused_by_their_tag)
{
    static struct story story;
    struct manifest_edit edit;
    story_begin(&story, test_seed);
    EXPECT(story_start(&story) == STATUS_OK);
    manifest_edit_init(&edit, &story.heap);
    buf_append(&edit.bytes, (uint8_t[]){101, 2, 0, 0}, 4);
    manifest_edit_set_number(&edit, MANIFEST_HLC_CEILING, 77);
    EXPECT(manifest_commit(story.manifest, &edit) == STATUS_OK);
    EXPECT(manifest_state(story.manifest)->numbers[MANIFEST_HLC_CEILING] == 77);
    buf_clear(&edit.bytes);
    buf_append(&edit.bytes, (uint8_t[]){100, 2, 0, 0}, 4);
    EXPECT(manifest_commit(story.manifest, &edit) == STATUS_NEWER);
    buf_clear(&edit.bytes);
    buf_append(&edit.bytes, (uint8_t[]){100, 2, 0}, 3);
    EXPECT(manifest_commit(story.manifest, &edit) == STATUS_CORRUPT);
    manifest_edit_deinit(&edit);
    story_end(&story);
}

static struct sim_disk *disk_copy(struct sim_disk *from, const char *const *names, size_t count)
{
    struct sim_disk *to = sim_disk_create(test_seed);
    for (size_t i = 0; i < count; i++) {
        struct slice content;
        EXPECT(sim_disk_content(from, names[i], &content));
        sim_disk_put(to, names[i], content);
    }
    return to;
}

/* Each bit of identity and manifest: damage is told, the last mark alone may go unseen. */
TEST_CASE(every_bit_flip_in_a_synced_manifest_is_told)
{
    static struct story story;
    story_begin(&story, test_seed);
    story.options.rollover_bytes = 100000;
    EXPECT(story_start(&story) == STATUS_OK);
    story_run(&story, 4);
    story_stop(&story);

    struct name manifest = name_of(NAME_MANIFEST, 1);
    const char *names[] = {NAME_IDENTITY_TEXT, manifest.text};
    struct sim_disk *original = story.disk;
    uint64_t told = 0;
    for (size_t file = 0; file < 2; file++) {
        struct slice content;
        EXPECT(sim_disk_content(original, names[file], &content));
        for (uint64_t bit = 0; bit < content.size * 8; bit++) {
            story.disk = disk_copy(original, names, 2);
            sim_disk_flip_bit(story.disk, names[file], bit);
            enum status status = story_start(&story);
            bool in_last_mark = file == 1 && bit / 8 >= content.size - FRAME_HEADER_BYTES;
            EXPECT((status == STATUS_OK) == in_last_mark);
            if (status != STATUS_OK) {
                EXPECT(status == STATUS_CORRUPT || status == STATUS_FOREIGN ||
                       status == STATUS_NEWER);
                EXPECT(story.report.text[0] != 0);
                told++;
            }
            story_stop(&story);
            sim_disk_destroy(story.disk);
        }
    }
    EXPECT(told > 0);
    story.disk = original;
    story_end(&story);
}

static enum status open_with(const char *name, struct manifest_report *report)
{
    struct sim_disk *disk = sim_disk_create(test_seed);
    struct heap heap;
    struct manifest *manifest = NULL;
    struct manifest_options options = {.create = true};
    heap_init(&heap, 0);
    sim_disk_put(disk, name, SLICE_LITERAL("some text\n"));
    enum status status = manifest_open(sim_disk_env(disk), &heap, &options, report, &manifest);
    manifest_close(manifest == NULL || status != STATUS_OK ? NULL : manifest);
    EXPECT(heap_used_bytes(&heap) == 0);
    sim_disk_destroy(disk);
    return status;
}

TEST_CASE(a_directory_that_is_not_ours_is_left_alone_with_a_reason)
{
    struct manifest_report report;
    EXPECT(open_with("notes.txt", &report) == STATUS_FOREIGN);
    EXPECT(strstr(report.text, "notes.txt") != NULL);
    EXPECT(open_with("run-1.tri", &report) == STATUS_FOREIGN);
    EXPECT(open_with("run-00000000000000000001.tri", &report) == STATUS_CORRUPT);
    EXPECT(open_with("manifest-00000000000000000001.man", &report) == STATUS_CORRUPT);
    EXPECT(open_with(NAME_IDENTITY_TEXT, &report) == STATUS_FOREIGN);
    EXPECT(open_with(NAME_LOCK_TEXT, &report) == STATUS_OK);
    EXPECT(open_with(NAME_IDENTITY_NEW_TEXT, &report) == STATUS_OK);
}

TEST_CASE(an_empty_directory_is_created_only_when_asked)
{
    static struct story story;
    story_begin(&story, test_seed);
    story.options.create = false;
    EXPECT(story_start(&story) == STATUS_NOT_FOUND);
    story.options.create = true;
    EXPECT(story_start(&story) == STATUS_OK);
    EXPECT(story.report.created);
    EXPECT(memcmp(manifest_state(story.manifest)->store_id, "sixteen bytes id", 16) == 0);
    story_end(&story);
}

static void count_name(void *context, const char *name)
{
    ++*(int *)context;
}

TEST_CASE(leftovers_are_removed_and_live_files_stay)
{
    static struct story story;
    struct manifest_edit edit;
    struct manifest_run run = {.number = 5, .overlay = 6};
    struct slice content;
    int removed = 0;
    story_begin(&story, test_seed);
    EXPECT(story_start(&story) == STATUS_OK);
    manifest_edit_init(&edit, &story.heap);
    manifest_edit_add_run(&edit, &run);
    EXPECT(manifest_commit(story.manifest, &edit) == STATUS_OK);
    manifest_edit_deinit(&edit);
    for (uint64_t number = 5; number < 8; number++) {
        sim_disk_put(story.disk, name_of(NAME_RUN, number).text, SLICE_LITERAL("run"));
        sim_disk_put(story.disk, name_of(NAME_OVERLAY, number).text, SLICE_LITERAL("overlay"));
    }
    sim_disk_put(story.disk, name_of(NAME_LOG, 9).text, SLICE_LITERAL("log"));
    EXPECT(manifest_remove_leftovers(story.manifest, false, count_name, &removed) == STATUS_OK);
    EXPECT(removed == 4);
    EXPECT(sim_disk_content(story.disk, name_of(NAME_RUN, 5).text, &content));
    EXPECT(sim_disk_content(story.disk, name_of(NAME_OVERLAY, 6).text, &content));
    EXPECT(sim_disk_content(story.disk, name_of(NAME_LOG, 9).text, &content));
    EXPECT(!sim_disk_content(story.disk, name_of(NAME_RUN, 6).text, &content));
    story_end(&story);
}

/* docs/format/manifest.md shows these bytes. */
TEST_CASE(the_bytes_of_a_manifest_are_the_documented_ones)
{
    struct story story;
    struct slice content;
    struct manifest_edit edit;
    story_begin(&story, test_seed);
    EXPECT(story_start(&story) == STATUS_OK);
    manifest_edit_init(&edit, &story.heap);
    manifest_edit_add_run(&edit,
                          &(struct manifest_run){.number = 5, .overlay = 6, .size_bytes = 8192});
    manifest_edit_set_number(&edit, MANIFEST_NEXT_FILE, 7);
    manifest_edit_set_number(&edit, MANIFEST_REPLAY_SEQUENCE, 300);
    EXPECT(manifest_commit(story.manifest, &edit) == STATUS_OK);
    manifest_edit_deinit(&edit);
    EXPECT(sim_disk_content(story.disk, name_of(NAME_MANIFEST, 1).text, &content));
    /* clang-format off */
    static const uint8_t documented[] = {
        0x74, 0x72, 0x69, 0x6d, 0x61, 0x6e, 0x31, 0x0a, 0xed, 0x90, 0x90, 0xd4, 0x00, 0x00, 0x00, 0x00,
        0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x73, 0x69, 0x78, 0x74, 0x65, 0x65, 0x6e, 0x20,
        0x62, 0x79, 0x74, 0x65, 0x73, 0x20, 0x69, 0x64, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x50, 0xd2, 0x01, 0x5c, 0xc1, 0x83, 0xd8, 0xb3, 0x00, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00,
        0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x2b, 0xfe, 0xbf, 0xc8, 0x20, 0xbe, 0xfe, 0x4e, 0x12, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00,
        0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x04, 0x07, 0x05, 0x06, 0x00, 0x00, 0x80, 0x40, 0x00, 0x02, 0x02, 0x03, 0x07, 0x02, 0x03, 0x00,
        0xac, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x50, 0xbf, 0xc2, 0xea, 0xc1, 0x83, 0xd8, 0xb3,
        0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    };
    /* clang-format on */
    EXPECT(slice_equal(content, slice_of(documented, sizeof documented)));
    story_end(&story);
}

TEST_MAIN(TEST(a_crash_at_every_change_keeps_each_edit_whole_or_not_at_all),
          TEST(each_failing_operation_leaves_a_manifest_that_opens),
          TEST(a_sync_that_failed_leaves_no_hole),
          TEST(a_commit_on_a_full_disk_is_refused_for_certain_or_unknown),
          TEST(each_failing_allocation_is_survived),
          TEST(an_edit_that_does_not_fit_changes_nothing),
          TEST(fields_of_the_future_are_skipped_or_refused_by_their_tag),
          TEST(every_bit_flip_in_a_synced_manifest_is_told),
          TEST(a_directory_that_is_not_ours_is_left_alone_with_a_reason),
          TEST(an_empty_directory_is_created_only_when_asked),
          TEST(leftovers_are_removed_and_live_files_stay),
          TEST(the_bytes_of_a_manifest_are_the_documented_ones))
