#include "shell/engine.h"

#include <stdio.h>
#include <sys/random.h>

#include "shell/clock.h"
#include "shell/engine_private.h"
#include "shell/file_env.h"

struct engine_write *engine_submit(struct engine *engine, struct engine_write *list)
{
    struct engine_write *last = NULL, *rest = list;
    pthread_mutex_lock(&engine->mutex);
    while (rest != NULL && !engine->stopping && engine->queue_count < ENGINE_QUEUE_COUNT_MAX) {
        engine->queue_count++;
        last = rest;
        rest = rest->next;
    }
    if (last != NULL) {
        last->next = NULL;
        if (engine->queue_last == NULL)
            engine->queue_first = list;
        else
            engine->queue_last->next = list;
        engine->queue_last = last;
    }
    pthread_mutex_unlock(&engine->mutex);
    if (last != NULL) engine_wake_writer(engine);
    return rest;
}

const struct view *engine_view(const struct engine *engine)
{
    return store_view(engine->store);
}

void engine_stats(struct engine *engine, struct engine_stats *out)
{
    pthread_mutex_lock(&engine->mutex);
    *out = engine->stats;
    pthread_mutex_unlock(&engine->mutex);
}

enum status engine_write_status(const struct engine *engine)
{
    return atomic_load(&engine->write_status);
}

static bool start_thread(struct engine *engine, pthread_t *thread, void *(*run)(void *))
{
    if (pthread_create(thread, NULL, run, engine) != 0) return false;
    engine->thread_count++;
    return true;
}

static enum status start_threads(struct engine *engine)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&engine->mutex, NULL);
    pthread_cond_init(&engine->to_writer, &monotonic);
    pthread_cond_init(&engine->to_syncer, NULL);
    pthread_cond_init(&engine->to_builder, NULL);
    pthread_cond_init(&engine->to_upkeep, NULL);
    pthread_condattr_destroy(&monotonic);

    /* The writer last: it counts on the others, to the end. */
    bool started = start_thread(engine, &engine->syncer, engine_run_syncer) &&
                   start_thread(engine, &engine->builder, engine_run_builder) &&
                   start_thread(engine, &engine->upkeep, engine_run_upkeep) &&
                   start_thread(engine, &engine->writer, engine_run_writer);
    return started ? STATUS_OK : STATUS_NOMEM;
}

static void join_threads(struct engine *engine)
{
    pthread_t *const threads[] = {&engine->syncer, &engine->builder, &engine->upkeep,
                                  &engine->writer};
    pthread_mutex_lock(&engine->mutex);
    engine->stopping = true;
    if (engine->thread_count < 4) engine->ended = true; /* No writer to say so. */
    pthread_cond_broadcast(&engine->to_syncer);
    pthread_cond_broadcast(&engine->to_builder);
    pthread_cond_broadcast(&engine->to_upkeep);
    pthread_mutex_unlock(&engine->mutex);
    engine_wake_writer(engine);
    for (int i = 0; i < engine->thread_count; i++) pthread_join(*threads[i], NULL);
    pthread_cond_destroy(&engine->to_writer);
    pthread_cond_destroy(&engine->to_syncer);
    pthread_cond_destroy(&engine->to_builder);
    pthread_cond_destroy(&engine->to_upkeep);
    pthread_mutex_destroy(&engine->mutex);
}

enum status engine_open(struct heap *heap, const struct engine_options *options,
                        struct engine **out, struct store_report *report)
{
    *report = (struct store_report){0};
    uint8_t identity[16];
    struct engine *engine = heap_zalloc(heap, sizeof *engine);
    if (engine == NULL) return STATUS_NOMEM;
    engine->heap = heap;
    engine->options = *options;
    engine->scrub_us = clock_monotonic_us();

    enum status status = file_env_open(heap, options->directory, true, &engine->env);
    if (status != STATUS_OK) {
        const char *why = status_name(status);
        if (status == STATUS_INVALID)
            why = "it, or what it lies in, is not a directory, or its name is too long";
        if (status == STATUS_NOT_FOUND) why = "the directory that it is to lie in does not exist";
        if (status == STATUS_DENIED) why = "that is not permitted";
        snprintf(report->detail, sizeof report->detail, "%s cannot be opened or created: %s",
                 options->directory, why);
        heap_free(heap, engine);
        return status;
    }
    if (getrandom(identity, sizeof identity, 0) != (ssize_t)sizeof identity) status = STATUS_IO;
    if (status == STATUS_OK)
        status = store_open(engine->env, heap, &options->store, identity, clock_wall_ms(),
                            &engine->store, report);
    if (status == STATUS_OK && options->open_host != NULL)
        status = options->open_host(options->open_context, engine->store, engine->env,
                                    &engine->host, report);
    bool threads = status == STATUS_OK;
    if (threads) status = start_threads(engine);
    if (status != STATUS_OK) {
        if (threads) join_threads(engine);
        if (engine_is_hosted(engine)) engine->host.stop(engine->host.context);
        store_close(engine->store);
        file_env_close(engine->env);
        heap_free(heap, engine);
        return status;
    }
    *out = engine;
    return STATUS_OK;
}

void engine_close(struct engine *engine)
{
    if (engine == NULL) return;
    join_threads(engine);
    /* Where it cannot be noted the stop was not clean: the next start says so. */
    (void)store_note_clean_stop(engine->store);
    store_close(engine->store);
    file_env_close(engine->env);
    heap_free(engine->heap, engine);
}
