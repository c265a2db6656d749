#include "sim/disk.h"

#include <string.h>

#include "base/prng.h"
#include "test.h"

enum { TRIES = 64 };

static struct env_file *opened(struct sim_disk *disk, const char *name, enum env_mode mode)
{
    struct env_file *file = NULL;
    EXPECT(env_open(sim_disk_env(disk), name, mode, &file) == STATUS_OK);
    return file;
}

static void write_text(struct env_file *file, uint64_t offset, const char *text)
{
    EXPECT(env_file_write(file, offset, text, strlen(text)) == STATUS_OK);
}

static bool holds(const struct sim_disk *disk, const char *name, const char *text)
{
    struct slice content;
    return sim_disk_content(disk, name, &content) && slice_equal(content, slice_from_text(text));
}

TEST_CASE(what_was_synced_with_its_name_survives)
{
    for (uint64_t seed = 0; seed < TRIES; seed++) {
        struct sim_disk *disk = sim_disk_create(test_seed + seed);
        struct env_file *file = opened(disk, "a", ENV_CREATE);
        write_text(file, 0, "kept");
        EXPECT(env_file_sync(file) == STATUS_OK);
        EXPECT(env_sync_directory(sim_disk_env(disk)) == STATUS_OK);
        env_file_close(file);

        sim_disk_crash(disk);
        sim_disk_restart(disk, SIM_DISK_POWER_LOSS);
        EXPECT(holds(disk, "a", "kept"));
        sim_disk_destroy(disk);
    }
}

TEST_CASE(what_was_not_synced_is_lost_sometimes_and_kept_sometimes)
{
    unsigned kept = 0, emptied = 0, gone = 0;
    for (uint64_t seed = 0; seed < TRIES; seed++) {
        struct sim_disk *disk = sim_disk_create(test_seed + seed);
        struct env_file *file = opened(disk, "a", ENV_CREATE);
        write_text(file, 0, "kept");
        env_file_close(file);
        sim_disk_crash(disk);
        sim_disk_restart(disk, SIM_DISK_POWER_LOSS);

        struct slice content;
        if (!sim_disk_content(disk, "a", &content))
            gone++;
        else if (content.size == 0)
            emptied++;
        else if (holds(disk, "a", "kept"))
            kept++;
        sim_disk_destroy(disk);
    }
    EXPECT(kept > 0);
    EXPECT(emptied > 0);
    EXPECT(gone > 0);
}

/* Each sector of a rewritten range is the old or the new one, and some crash mixes them. */
TEST_CASE(a_write_is_torn_between_sectors_and_never_within)
{
    enum { SECTORS = 8 };
    unsigned mixed = 0;
    for (uint64_t seed = 0; seed < TRIES; seed++) {
        struct sim_disk *disk = sim_disk_create(test_seed + seed);
        uint8_t bytes[SECTORS * SIM_DISK_SECTOR_BYTES];
        memset(bytes, 'o', sizeof bytes);
        sim_disk_put(disk, "a", slice_of(bytes, sizeof bytes));
        memset(bytes, 'n', sizeof bytes);
        struct env_file *file = opened(disk, "a", ENV_WRITE);
        EXPECT(env_file_write(file, 0, bytes, sizeof bytes) == STATUS_OK);
        env_file_close(file);
        sim_disk_crash(disk);
        sim_disk_restart(disk, SIM_DISK_POWER_LOSS);

        struct slice content;
        EXPECT(sim_disk_content(disk, "a", &content));
        EXPECT(content.size == sizeof bytes);
        unsigned fresh = 0;
        for (size_t i = 0; i < SECTORS; i++) {
            const uint8_t *sector = content.data + i * SIM_DISK_SECTOR_BYTES;
            for (size_t j = 1; j < SIM_DISK_SECTOR_BYTES; j++) EXPECT(sector[j] == sector[0]);
            fresh += sector[0] == 'n';
        }
        mixed += fresh > 0 && fresh < SECTORS;
        sim_disk_destroy(disk);
    }
    EXPECT(mixed > 0);
}

TEST_CASE(a_rename_is_there_or_not_and_replaces_whole)
{
    unsigned before = 0, after = 0;
    for (uint64_t seed = 0; seed < TRIES; seed++) {
        struct sim_disk *disk = sim_disk_create(test_seed + seed);
        sim_disk_put(disk, "new", SLICE_LITERAL("new"));
        sim_disk_put(disk, "it", SLICE_LITERAL("old"));
        EXPECT(env_rename(sim_disk_env(disk), "new", "it") == STATUS_OK);
        EXPECT(holds(disk, "it", "new"));
        sim_disk_crash(disk);
        sim_disk_restart(disk, SIM_DISK_POWER_LOSS);

        struct slice content;
        bool left = sim_disk_content(disk, "new", &content);
        EXPECT(holds(disk, "it", left ? "old" : "new"));
        before += left;
        after += !left;
        sim_disk_destroy(disk);
    }
    EXPECT(before > 0);
    EXPECT(after > 0);
}

TEST_CASE(after_a_failed_sync_bytes_are_read_but_a_second_sync_does_not_save_them)
{
    unsigned lost = 0;
    for (uint64_t seed = 0; seed < TRIES; seed++) {
        struct sim_disk *disk = sim_disk_create(test_seed + seed);
        sim_disk_put(disk, "a", SLICE_LITERAL("old"));
        struct env_file *file = opened(disk, "a", ENV_WRITE);
        write_text(file, 0, "new");
        sim_disk_fail_sync_after(disk, 0);
        EXPECT(env_file_sync(file) == STATUS_IO);
        EXPECT(holds(disk, "a", "new"));
        EXPECT(env_file_sync(file) == STATUS_OK);
        env_file_close(file);

        sim_disk_restart(disk, SIM_DISK_KILLED);
        EXPECT(holds(disk, "a", "new"));
        sim_disk_restart(disk, SIM_DISK_POWER_LOSS);
        lost += holds(disk, "a", "old");
        sim_disk_destroy(disk);
    }
    EXPECT(lost > 0);
}

/* The first sync may lose the size: a later one has it, and what was written before it anew. */
TEST_CASE(after_a_failed_sync_what_is_written_anew_and_synced_survives)
{
    static uint8_t bytes[4 * SIM_DISK_SECTOR_BYTES];
    memset(bytes, 'x', sizeof bytes);
    for (uint64_t seed = test_seed; seed < test_seed + 40; seed++) {
        struct env_file *file;
        struct slice content;
        struct sim_disk *disk = sim_disk_create(seed);
        struct env *env = sim_disk_env(disk);
        EXPECT(env_open(env, "a", ENV_CREATE, &file) == STATUS_OK);
        EXPECT(env_sync_directory(env) == STATUS_OK);
        sim_disk_fail_sync_after(disk, 0);
        for (int turn = 0; turn < 2; turn++) {
            EXPECT(env_file_write(file, 0, bytes, sizeof bytes) == STATUS_OK);
            EXPECT(env_file_sync(file) == (turn == 0 ? STATUS_IO : STATUS_OK));
        }
        env_file_close(file);
        sim_disk_restart(disk, SIM_DISK_POWER_LOSS);
        EXPECT(sim_disk_content(disk, "a", &content));
        EXPECT(slice_equal(content, slice_of(bytes, sizeof bytes)));
        sim_disk_destroy(disk);
    }
}

TEST_CASE(after_the_crash_every_call_fails_until_the_restart)
{
    struct sim_disk *disk = sim_disk_create(test_seed);
    struct env *env = sim_disk_env(disk);
    EXPECT(env_lock(env) == STATUS_OK);
    EXPECT(env_lock(env) == STATUS_LOCKED);
    struct env_file *file = opened(disk, "a", ENV_CREATE);
    sim_disk_crash_after(disk, 1);
    write_text(file, 0, "x");
    EXPECT(env_file_write(file, 1, "y", 1) == STATUS_IO);
    EXPECT(sim_disk_crashed(disk));
    uint64_t size;
    EXPECT(env_file_size(file, &size) == STATUS_IO);
    EXPECT(env_file_sync(file) == STATUS_IO);
    EXPECT(env_rename(env, "a", "b") == STATUS_IO);
    EXPECT(env_sync_directory(env) == STATUS_IO);
    env_file_close(file);
    sim_disk_restart(disk, SIM_DISK_KILLED);
    EXPECT(holds(disk, "a", "xy"));
    EXPECT(env_lock(env) == STATUS_OK);
    sim_disk_destroy(disk);
}

TEST_CASE(a_full_disk_takes_what_fits_and_then_refuses)
{
    struct sim_disk *disk = sim_disk_create(test_seed);
    sim_disk_set_capacity(disk, 6);
    struct env_file *file = opened(disk, "a", ENV_CREATE);
    write_text(file, 0, "1234");
    uint64_t left;
    EXPECT(env_free_bytes(sim_disk_env(disk), &left) == STATUS_OK);
    EXPECT(left == 2);
    EXPECT(env_file_write(file, 4, "5678", 4) == STATUS_FULL);
    EXPECT(env_file_write(file, 0, "abcd", 4) == STATUS_OK);
    EXPECT(env_file_truncate(file, 0) == STATUS_OK);
    write_text(file, 0, "123456");
    env_file_close(file);
    sim_disk_destroy(disk);
}

TEST_CASE(each_operation_can_be_made_to_fail_once)
{
    struct sim_disk *disk = sim_disk_create(test_seed);
    struct env_file *file = opened(disk, "a", ENV_CREATE);
    sim_disk_fail_after(disk, 1, STATUS_FULL);
    write_text(file, 0, "abc");
    EXPECT(env_file_write(file, 3, "def", 3) == STATUS_FULL);
    EXPECT(env_file_write(file, 3, "def", 3) == STATUS_OK);
    EXPECT(holds(disk, "a", "abcdef"));
    env_file_close(file);
    sim_disk_destroy(disk);
}

TEST_CASE(a_map_shows_the_file_and_rot_shows_in_it)
{
    struct sim_disk *disk = sim_disk_create(test_seed);
    sim_disk_put(disk, "a", SLICE_LITERAL("abc"));
    struct env_file *file = opened(disk, "a", ENV_READ);
    struct env_map *map;
    EXPECT(env_file_map(file, &map) == STATUS_OK);
    env_file_close(file);
    EXPECT(env_remove(sim_disk_env(disk), "a") == STATUS_OK);
    EXPECT(slice_equal(map->bytes, SLICE_LITERAL("abc")));
    EXPECT(!env_map_damaged(map));
    env_unmap(map);

    sim_disk_put(disk, "b", SLICE_LITERAL("abc"));
    sim_disk_flip_bit(disk, "b", 9);
    EXPECT(holds(disk, "b", "a`c"));
    sim_disk_restart(disk, SIM_DISK_POWER_LOSS);
    EXPECT(holds(disk, "b", "a`c"));
    sim_disk_destroy(disk);
}

TEST_CASE(a_crash_that_is_called_off_does_not_come)
{
    struct sim_disk *disk = sim_disk_create(test_seed);
    sim_disk_crash_after(disk, 1);
    sim_disk_crash_never(disk);
    for (unsigned i = 0; i < 4; i++) {
        char name[2] = {(char)('a' + i), 0};
        env_file_close(opened(disk, name, ENV_CREATE));
    }
    EXPECT(!sim_disk_crashed(disk));
    sim_disk_destroy(disk);
}

TEST_CASE(an_image_holds_what_was_synced_and_comes_back)
{
    struct sim_disk *disk = sim_disk_create(test_seed);
    struct env_file *file = opened(disk, "a", ENV_CREATE);
    write_text(file, 0, "kept");
    EXPECT(env_file_sync(file) == STATUS_OK);
    EXPECT(env_sync_directory(sim_disk_env(disk)) == STATUS_OK);
    write_text(file, 0, "lost");
    env_file_close(file);
    env_file_close(opened(disk, "b", ENV_CREATE));

    struct sim_disk_image *image = sim_disk_image_take(disk);
    sim_disk_put(disk, "c", SLICE_LITERAL("newer"));
    sim_disk_restore(disk, image);
    sim_disk_image_destroy(image);
    struct slice content;
    EXPECT(holds(disk, "a", "kept"));
    EXPECT(!sim_disk_content(disk, "b", &content));
    EXPECT(!sim_disk_content(disk, "c", &content));

    sim_disk_restore(disk, NULL);
    EXPECT(!sim_disk_content(disk, "a", &content));
    EXPECT(sim_disk_used_bytes(disk) == 0);
    sim_disk_destroy(disk);
}

TEST_MAIN(TEST(what_was_synced_with_its_name_survives),
          TEST(what_was_not_synced_is_lost_sometimes_and_kept_sometimes),
          TEST(a_write_is_torn_between_sectors_and_never_within),
          TEST(a_rename_is_there_or_not_and_replaces_whole),
          TEST(after_a_failed_sync_bytes_are_read_but_a_second_sync_does_not_save_them),
          TEST(after_a_failed_sync_what_is_written_anew_and_synced_survives),
          TEST(after_the_crash_every_call_fails_until_the_restart),
          TEST(a_full_disk_takes_what_fits_and_then_refuses),
          TEST(each_operation_can_be_made_to_fail_once),
          TEST(a_map_shows_the_file_and_rot_shows_in_it),
          TEST(a_crash_that_is_called_off_does_not_come),
          TEST(an_image_holds_what_was_synced_and_comes_back))
