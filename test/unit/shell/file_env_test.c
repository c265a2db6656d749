#include "shell/file_env.h"

#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/log.h"
#include "store/manifest.h"
#include "store/reserve.h"
#include "test.h"

static struct heap heap;
static char path[64];

static struct env *fresh(void)
{
    struct env *env = NULL;
    strcpy(path, "/tmp/trifecta-file-env-XXXXXX");
    EXPECT(mkdtemp(path) != NULL);
    heap_init(&heap, 0);
    EXPECT(file_env_open(&heap, path, false, &env) == STATUS_OK);
    return env;
}

static enum status remove_entry(void *context, const char *name, bool is_file)
{
    EXPECT(is_file);
    return env_remove(context, name);
}

static void finish(struct env *env)
{
    EXPECT(env_list(env, remove_entry, env) == STATUS_OK);
    file_env_close(env);
    EXPECT(rmdir(path) == 0);
    EXPECT(heap_used_bytes(&heap) == 0);
}

static struct env_file *created(struct env *env, const char *name, const char *text)
{
    struct env_file *file = NULL;
    EXPECT(env_open(env, name, ENV_CREATE, &file) == STATUS_OK);
    EXPECT(env_file_write(file, 0, text, strlen(text)) == STATUS_OK);
    return file;
}

TEST_CASE(files_are_written_read_cut_renamed_and_removed)
{
    struct env *env = fresh();
    struct env_file *file = created(env, "a", "hello");
    struct env_file *other;
    uint64_t size;
    char text[5];

    EXPECT(env_open(env, "a", ENV_CREATE, &other) == STATUS_EXISTS);
    EXPECT(env_open(env, "b", ENV_READ, &other) == STATUS_NOT_FOUND);
    EXPECT(env_file_sync(file) == STATUS_OK);
    EXPECT(env_sync_directory(env) == STATUS_OK);
    EXPECT(env_file_read(file, 0, text, 5) == STATUS_OK);
    EXPECT(memcmp(text, "hello", 5) == 0);
    EXPECT(env_file_read(file, 1, text, 5) == STATUS_END);
    EXPECT(env_file_truncate(file, 3) == STATUS_OK);
    EXPECT(env_file_write_zeros(file, 3, 100000) == STATUS_OK);
    EXPECT(env_file_size(file, &size) == STATUS_OK);
    EXPECT(size == 100003);
    env_file_close(file);

    EXPECT(env_rename(env, "a", "b") == STATUS_OK);
    EXPECT(env_rename(env, "a", "b") == STATUS_NOT_FOUND);
    EXPECT(env_open(env, "b", ENV_READ, &file) == STATUS_OK);
    EXPECT(env_remove(env, "b") == STATUS_OK);
    EXPECT(env_remove(env, "b") == STATUS_NOT_FOUND);
    EXPECT(env_file_read(file, 0, text, 3) == STATUS_OK);
    env_file_close(file);
    EXPECT(env_free_bytes(env, &size) == STATUS_OK);
    EXPECT(size > 0);
    finish(env);
}

TEST_CASE(a_map_outlives_handle_and_name)
{
    struct env *env = fresh();
    struct env_file *file = created(env, "a", "hello");
    struct env_map *map;
    EXPECT(env_file_map(file, &map) == STATUS_OK);
    env_file_advise(file, 0, 5, ENV_ADVICE_DROP);
    env_file_close(file);
    EXPECT(env_remove(env, "a") == STATUS_OK);
    EXPECT(slice_equal(map->bytes, SLICE_LITERAL("hello")));
    EXPECT(!env_map_damaged(map));
    env_unmap(map);

    file = created(env, "empty", "");
    EXPECT(env_file_map(file, &map) == STATUS_OK);
    EXPECT(map->bytes.size == 0);
    env_unmap(map);
    env_file_close(file);
    finish(env);
}

/* Cutting a mapped file makes the kernel send what a broken device would. */
TEST_CASE(a_bus_error_in_a_map_is_zeros_and_a_flag)
{
    enum { PAGES = 4 };
    struct env *env = fresh();
    struct env_file *file = created(env, "a", "x");
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct env_map *map;
    uint8_t *content = malloc(PAGES * page);
    EXPECT(content != NULL);
    memset(content, 'x', PAGES * page);
    EXPECT(env_file_write(file, 0, content, PAGES * page) == STATUS_OK);
    EXPECT(env_file_map(file, &map) == STATUS_OK);
    EXPECT(env_file_truncate(file, page) == STATUS_OK);

    const volatile uint8_t *bytes = map->bytes.data;
    EXPECT(bytes[10] == 'x');
    EXPECT(!env_map_damaged(map));
    EXPECT(bytes[2 * page + 10] == 0);
    EXPECT(env_map_damaged(map));
    EXPECT(bytes[10] == 'x');
    env_unmap(map);
    env_file_close(file);
    free(content);
    finish(env);
}

static enum status see_any(void *context, const char *name, bool is_file)
{
    bool *seen = context;
    EXPECT(name[0] != '\0');
    *seen = *seen || is_file;
    return STATUS_OK;
}

TEST_CASE(a_second_process_is_refused_until_the_first_ends)
{
    struct env *env = fresh();
    struct env *second;
    EXPECT(file_env_open(&heap, path, false, &second) == STATUS_OK);
    EXPECT(env_lock(env) == STATUS_OK);
    EXPECT(env_lock(second) == STATUS_LOCKED);

    pid_t child = fork();
    if (child == 0) {
        struct env *theirs;
        if (file_env_open(&heap, path, false, &theirs) != STATUS_OK) _exit(2);
        _exit(env_lock(theirs) == STATUS_LOCKED ? 0 : 1);
    }
    int result;
    EXPECT(waitpid(child, &result, 0) == child);
    EXPECT(result == 0);
    env_unlock(env);
    EXPECT(env_lock(second) == STATUS_OK);
    file_env_close(second);
    finish(env);
}

TEST_CASE(readers_share_a_directory_and_keep_a_writer_out)
{
    struct env *env = fresh();
    struct env *second, *third;
    bool is_file = false;
    EXPECT(file_env_open(&heap, path, false, &second) == STATUS_OK);
    EXPECT(file_env_open(&heap, path, false, &third) == STATUS_OK);
    /* Nothing is made for a reader. */
    EXPECT(env_lock_reading(env) == STATUS_NOT_FOUND);
    EXPECT(env_list(env, see_any, &is_file) == STATUS_OK && !is_file);

    /* Nor does a writer leave anything where it made no store. */
    EXPECT(env_lock(env) == STATUS_OK);
    env_unlock(env);
    EXPECT(env_list(env, see_any, &is_file) == STATUS_OK && !is_file);

    struct env_file *identity;
    EXPECT(env_lock(env) == STATUS_OK);
    EXPECT(env_open(env, "trifecta.id", ENV_CREATE, &identity) == STATUS_OK);
    env_file_close(identity);
    EXPECT(env_lock_reading(second) == STATUS_LOCKED);
    env_unlock(env);
    EXPECT(env_lock_reading(second) == STATUS_OK);
    EXPECT(env_lock_reading(third) == STATUS_OK);
    EXPECT(env_lock(env) == STATUS_LOCKED);
    env_unlock(second);
    EXPECT(env_lock(env) == STATUS_LOCKED);
    env_unlock(third);
    EXPECT(env_lock(env) == STATUS_OK);
    file_env_close(third);
    file_env_close(second);
    finish(env);
}

TEST_CASE(a_directory_is_made_when_asked)
{
    struct env *env = fresh();
    char inner[80];
    struct env *made;
    snprintf(inner, sizeof inner, "%s/data", path);
    EXPECT(file_env_open(&heap, inner, false, &made) == STATUS_NOT_FOUND);
    EXPECT(file_env_open(&heap, inner, true, &made) == STATUS_OK);
    file_env_close(made);
    EXPECT(file_env_open(&heap, inner, true, &made) == STATUS_OK);
    file_env_close(made);
    EXPECT(rmdir(inner) == 0);

    env_file_close(created(env, "file", "x"));
    snprintf(inner, sizeof inner, "%s/file", path);
    EXPECT(file_env_open(&heap, inner, true, &made) == STATUS_INVALID);
    finish(env);
}

static enum status count_batch(void *context, uint64_t sequence, struct slice payload)
{
    uint64_t *count = context;
    EXPECT(sequence == *count + 1);
    EXPECT(payload.size == 1000 + sequence);
    ++*count;
    return STATUS_OK;
}

static void sync_all(struct log *log)
{
    struct log_sync sync;
    enum status status;
    while ((status = log_sync_begin(log, &sync)) == STATUS_OK)
        log_sync_complete(log, &sync, log_sync_run(&sync));
    EXPECT(status == STATUS_END);
}

TEST_CASE(log_manifest_and_reserve_live_in_real_files)
{
    enum { BATCHES = 200 };
    struct env *env = fresh();
    struct manifest *manifest;
    struct manifest_report manifest_report;
    struct manifest_options manifest_options = {.create = true, .store_id = "sixteen bytes i"};
    struct log *log;
    struct log_report report;
    struct log_options options = {
        .store_id = "sixteen bytes i", .replay_sequence = 1, .segment_bytes = 16384};
    uint64_t count = 0;
    uint8_t payload[2000] = {0};

    EXPECT(env_lock(env) == STATUS_OK);
    EXPECT(manifest_open(env, &heap, &manifest_options, &manifest_report, &manifest) == STATUS_OK);
    EXPECT(log_open(env, &heap, &options, count_batch, &count, &report, &log) == STATUS_OK);
    for (size_t i = 1; i <= BATCHES; i++) {
        uint64_t sequence;
        struct log_prepare prepare;
        EXPECT(log_append(log, slice_of(payload, 1000 + i), &sequence) == STATUS_OK);
        if (log_prepare_begin(log, &prepare))
            log_prepare_complete(log, &prepare, log_prepare_run(&prepare));
        if (i % 10 == 0) sync_all(log);
    }
    EXPECT(log_append_mark(log) == STATUS_OK);
    sync_all(log);
    log_close(log);
    EXPECT(reserve_restore(env, 100000) == STATUS_OK);
    manifest_close(manifest);

    options.expect_segments = true;
    EXPECT(manifest_open(env, &heap, &manifest_options, &manifest_report, &manifest) == STATUS_OK);
    EXPECT(!manifest_report.created);
    EXPECT(log_open(env, &heap, &options, count_batch, &count, &report, &log) == STATUS_OK);
    EXPECT(count == BATCHES);
    uint64_t held;
    EXPECT(reserve_held_bytes(env, &held) == STATUS_OK);
    EXPECT(held == 100000);
    EXPECT(reserve_release(env) == STATUS_OK);
    EXPECT(reserve_held_bytes(env, &held) == STATUS_OK);
    EXPECT(held == 0);
    log_close(log);
    manifest_close(manifest);
    finish(env);
}

TEST_MAIN(TEST(files_are_written_read_cut_renamed_and_removed),
          TEST(a_map_outlives_handle_and_name), TEST(a_bus_error_in_a_map_is_zeros_and_a_flag),
          TEST(a_second_process_is_refused_until_the_first_ends),
          TEST(readers_share_a_directory_and_keep_a_writer_out),
          TEST(a_directory_is_made_when_asked), TEST(log_manifest_and_reserve_live_in_real_files))
