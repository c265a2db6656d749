#include "shell/engine.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test.h"

static int threads_left = -1; /* So many more can be started; <0: any number. */

/* The linker puts this before every call of pthread_create(). */
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *argument);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *argument)
{
    if (threads_left == 0) return EAGAIN;
    threads_left -= threads_left > 0;
    return __real_pthread_create(thread, attributes, run, argument);
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t returned = PTHREAD_COND_INITIALIZER;
static struct engine_write *done_list;

static void done(struct engine_write *list)
{
    pthread_mutex_lock(&mutex);
    done_list = list;
    pthread_cond_signal(&returned);
    pthread_mutex_unlock(&mutex);
}

static enum status open_engine(struct heap *heap, const char *directory, struct engine **out)
{
    struct store_report report;
    struct engine_options options = {
        .store = store_options_default(),
        .done = done,
        .directory = directory,
    };
    options.store.reserve_bytes = 4096;
    options.store.low_water_bytes = 0;
    return engine_open(heap, &options, out, &report);
}

static void write_one(struct engine *engine)
{
    struct store_write write = {.kind = STORE_SET, .key = SLICE_LITERAL("ns\0word"), .score = 1};
    struct store_outcome outcome;
    struct engine_write submission = {.writes = &write, .outcomes = &outcome, .count = 1};
    EXPECT(engine_submit(engine, &submission) == NULL);
    pthread_mutex_lock(&mutex);
    while (done_list == NULL) pthread_cond_wait(&returned, &mutex);
    pthread_mutex_unlock(&mutex);
    EXPECT(done_list == &submission);
    EXPECT(submission.status == STATUS_OK);
}

static void remove_directory(const char *path)
{
    char name[512];
    DIR *stream = opendir(path);
    for (struct dirent *entry; (entry = readdir(stream)) != NULL;) {
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (entry->d_name[0] != '.') EXPECT(unlink(name) == 0);
    }
    closedir(stream);
    EXPECT(rmdir(path) == 0);
}

/* What the log holds would be flushed at the end of a writer that has nobody to build it. */
TEST_CASE(a_start_that_gets_too_few_threads_fails_and_ends)
{
    struct heap heap;
    struct engine *engine = NULL;
    char path[] = "/tmp/trifecta-engine-XXXXXX";
    EXPECT(mkdtemp(path) != NULL);
    heap_init(&heap, 0);

    /* A process that dies leaves a log to replay. */
    pid_t child = fork();
    if (child == 0) {
        if (open_engine(&heap, path, &engine) != STATUS_OK) _exit(1);
        write_one(engine);
        _exit(0);
    }
    int ended;
    EXPECT(waitpid(child, &ended, 0) == child);
    EXPECT(WIFEXITED(ended) && WEXITSTATUS(ended) == 0);

    for (int count = 0; count < 4; count++) {
        threads_left = count;
        EXPECT(open_engine(&heap, path, &engine) == STATUS_NOMEM);
        threads_left = -1;
    }
    EXPECT(open_engine(&heap, path, &engine) == STATUS_OK);
    engine_close(engine);
    EXPECT(heap_used_bytes(&heap) == 0);
    remove_directory(path);
}

TEST_MAIN(TEST(a_start_that_gets_too_few_threads_fails_and_ends))
