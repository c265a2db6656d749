/* Counts the lines of its input, by several threads over one client: tally URL[,URL...] THREADS
 *
 * Prints how many increments were acknowledged, and of how many the outcome is unknown: the sum of
 * the scores lies between the first and both together. */
#include <trifecta.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { URLS_MAX = 64, THREADS_MAX = 64 };

static struct trifecta_client *client;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* For what follows. */
static unsigned long done, unknown, failed;

static void note(enum trifecta_error error, const struct trifecta_call *call)
{
    pthread_mutex_lock(&lock);
    done += error == TRIFECTA_OK;
    unknown += error == TRIFECTA_OUTCOME_UNKNOWN;
    failed += error != TRIFECTA_OK && error != TRIFECTA_OUTCOME_UNKNOWN;
    if (error != TRIFECTA_OK) {
        fprintf(stderr, "tally: %s: %s\n", trifecta_error_name(error), call->problem.detail);
    }
    pthread_mutex_unlock(&lock);
}

static void *work(void *argument)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t size;
    while ((size = getline(&line, &room, stdin)) > 0) { /* stdio has a lock of its own. */
        struct trifecta_call call = {.ns = "tally", .timeout_ms = 10000};
        size_t word_size = (size_t)size - (line[size - 1] == '\n');
        struct trifecta_bytes word = {line, word_size};
        note(trifecta_increment(client, &call, word, 1, NULL), &call);
    }
    free(line);
    return argument;
}

int main(int argc, char **argv)
{
    size_t thread_count = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
    if (thread_count == 0 || thread_count > THREADS_MAX) {
        fprintf(stderr, "usage: tally URL[,URL...] THREADS <LINES\n");
        return 2;
    }
    const char *urls[URLS_MAX];
    struct trifecta_options options = {.urls = urls};
    for (char *rest = argv[1], *url; (url = strsep(&rest, ",")) != NULL;) {
        if (options.url_count < URLS_MAX) urls[options.url_count++] = url;
    }
    if (trifecta_open(&options, &client) != TRIFECTA_OK) return EXIT_FAILURE;

    pthread_t threads[THREADS_MAX];
    size_t started = 0;
    while (started < thread_count && pthread_create(&threads[started], NULL, work, NULL) == 0) {
        started++;
    }
    for (size_t i = 0; i < started; i++) pthread_join(threads[i], NULL);
    trifecta_close(client);
    printf("%lu done, %lu unknown, %lu failed\n", done, unknown, failed);
    return failed == 0 && started > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
