#include "shell/loop.h"

#include <sys/random.h>
#include <unistd.h>

#include "base/check.h"
#include "base/math.h"
#include "shell/clock.h"
#include "shell/connection.h"
#include "shell/grace.h"

enum { LOOP_SWEEP_MS = 1000, LOOP_BACKLOG = 1024, LOOP_DRAIN_POLL_MS = 20 };

static uint64_t elapsed_us(void *context)
{
    const struct loop *loop = context;
    return clock_monotonic_us() - loop->request_us;
}

uint64_t loop_look_at_clocks(struct loop *loop)
{
    loop->wall_ms = clock_wall_ms();
    node_reader_set_time(&loop->reader, loop->wall_ms);
    return clock_monotonic_us();
}

static void on_connection(uv_stream_t *listener, int error)
{
    struct loop *loop = listener->data;
    if (error != 0) return;
    loop_look_at_clocks(loop);
    connection_accept(loop);
}

static struct submission *submission_of(struct engine_write *write)
{
    return (struct submission *)((char *)write - offsetof(struct submission, write));
}

static void append(struct engine_write **first, struct engine_write **last,
                   struct engine_write *write)
{
    write->next = NULL;
    if (*last == NULL)
        *first = write;
    else
        (*last)->next = write;
    *last = write;
}

/* Lets imports go on that waited for memory: all when there is some again, else the one that
 * has waited for longest, if no other is favoured. */
static void feed_starved(struct loop *loop)
{
    struct connection *longest = NULL;
    if (loop->starved_count == 0) return;
    for (struct connection *connection = loop->connections; connection != NULL;) {
        struct connection *next = connection->next;
        if (connection->starved && !server_is_over(loop->server))
            connection_resume(connection);
        else if (connection->starved &&
                 (longest == NULL || connection->starved_us < longest->starved_us))
            longest = connection;
        connection = next;
    }
    if (longest != NULL && loop->favoured == NULL) connection_resume(longest);
}

static void take_returned(struct loop *loop)
{
    pthread_mutex_lock(&loop->mutex);
    struct engine_write *list = loop->returned_first;
    loop->returned_first = loop->returned_last = NULL;
    pthread_mutex_unlock(&loop->mutex);

    while (list != NULL) {
        struct engine_write *next = list->next;
        struct submission *submission = submission_of(list);
        struct connection *connection = submission->connection;
        bool more = next != NULL && submission_of(next)->connection == connection;
        connection_returned(connection, submission, more);
        list = next;
    }
    feed_starved(loop);
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct loop *loop = prepare->data;
    struct engine_write *list = loop->submitted_first;
    if (list == NULL) return;
    loop->submitted_first = loop->submitted_last = NULL;
    struct engine_write *refused = engine_submit(loop->server->engine, list);
    for (list = refused; list != NULL; list = list->next) list->status = STATUS_BUSY;
    loop_return_all(refused);
}

static void on_idle(uv_idle_t *idle)
{
    struct loop *loop = idle->data;
    uv_idle_stop(idle);
    for (struct connection *connection = loop->connections; connection != NULL;) {
        struct connection *next = connection->next;
        if (connection->yielded) connection_take_turn(connection);
        connection = next;
    }
}

void loop_go_on(struct loop *loop)
{
    uv_idle_start(&loop->idle, on_idle);
}

static void begin_drain(struct loop *loop)
{
    if (loop->draining) return;
    loop->draining = true;
    loop->drain_us = clock_monotonic_us();
    uv_close((uv_handle_t *)&loop->listener, NULL);
    for (struct connection *connection = loop->connections; connection != NULL;) {
        struct connection *next = connection->next;
        connection_drain(connection, CONNECTION_END_FINISH);
        connection = next;
    }
    uv_timer_set_repeat(&loop->sweep, LOOP_DRAIN_POLL_MS);
    uv_timer_again(&loop->sweep);
}

static void on_wake(uv_async_t *async)
{
    struct loop *loop = async->data;
    loop->request_us = loop_look_at_clocks(loop);
    take_returned(loop);
    pthread_mutex_lock(&loop->mutex);
    bool stop = loop->stop_wanted;
    if (loop->limits_wanted) loop->limits = loop->new_limits;
    loop->limits_wanted = false;
    pthread_mutex_unlock(&loop->mutex);
    if (stop) begin_drain(loop);
}

static enum connection_end end_of(uint64_t draining_us)
{
    if (draining_us <= SERVER_DRAIN_MS * 1000) return CONNECTION_END_FINISH;
    if (draining_us <= (SERVER_DRAIN_MS + SERVER_CUT_MS) * 1000) return CONNECTION_END_CUT;
    return CONNECTION_END_NOW;
}

static void on_sweep(uv_timer_t *timer)
{
    struct loop *loop = timer->data;
    uint64_t now_us = loop_look_at_clocks(loop);
    for (struct connection *connection = loop->connections; connection != NULL;) {
        struct connection *next = connection->next;
        if (loop->draining)
            connection_drain(connection, end_of(now_us - loop->drain_us));
        else
            connection_sweep(connection, now_us);
        connection = next;
    }
    loop->favoured = NULL; /* Its client may be slow: the others have their turn. */
    feed_starved(loop);
    if (!loop->draining || loop->connections != NULL) return;
    uv_close((uv_handle_t *)&loop->sweep, NULL);
    uv_close((uv_handle_t *)&loop->wake, NULL);
    uv_close((uv_handle_t *)&loop->prepare, NULL);
    uv_close((uv_handle_t *)&loop->idle, NULL);
}

static void *run(void *argument)
{
    struct loop *loop = argument;
    grace_register();
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    grace_unregister();
    return NULL;
}

static void release(struct loop *loop)
{
    answer_cache_deinit(&loop->cache);
    own_copy_drop(&loop->own);
    node_reader_deinit(&loop->reader);
    heap_free(loop->heap, loop->read_bytes);
}

/* A sixteenth of the memory for the caches of all loops. */
static size_t cache_bytes(const struct server *server)
{
    uint64_t limit_bytes = server->options.memory_limit_bytes;
    if (limit_bytes == 0) return LOOP_CACHE_BYTES_MAX;
    return u64_min(LOOP_CACHE_BYTES_MAX, limit_bytes / 16 / server->options.loop_count);
}

enum status loop_open(struct loop *loop, struct server *server, int listen_fd)
{
    *loop = (struct loop){.server = server, .heap = server->heap, .limits = server->options.limits};
    uint64_t seed = 0;
    loop->read_bytes = heap_alloc(loop->heap, LOOP_READ_BYTES);
    enum status status = loop->read_bytes == NULL ? STATUS_NOMEM : STATUS_OK;
    if (status == STATUS_OK && getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
        status = STATUS_IO;
    if (status == STATUS_OK) status = node_reader_init(&loop->reader, loop->heap, seed);
    if (status == STATUS_OK && server->options.answer_cache)
        status = answer_cache_init(&loop->cache, loop->heap, cache_bytes(server));
    if (status == STATUS_OK && uv_loop_init(&loop->uv) != 0) status = STATUS_NOMEM;
    if (status != STATUS_OK) {
        release(loop);
        close(listen_fd);
        return status;
    }
    loop->reader.elapsed_us = elapsed_us;
    loop->reader.context = loop;
    loop->reader.in_cluster = server->options.cluster != NULL;
    pthread_mutex_init(&loop->mutex, NULL);
    uv_async_init(&loop->uv, &loop->wake, on_wake);
    uv_timer_init(&loop->uv, &loop->sweep);
    uv_prepare_init(&loop->uv, &loop->prepare);
    uv_idle_init(&loop->uv, &loop->idle);
    loop->wake.data = loop;
    loop->sweep.data = loop;
    loop->prepare.data = loop;
    loop->idle.data = loop;
    uv_prepare_start(&loop->prepare, on_prepare);
    uv_timer_start(&loop->sweep, on_sweep, LOOP_SWEEP_MS, LOOP_SWEEP_MS);
    uv_tcp_init(&loop->uv, &loop->listener);
    loop->listener.data = loop;
    if (uv_tcp_open(&loop->listener, listen_fd) == 0) return STATUS_OK;
    close(listen_fd);
    loop_stop(loop);
    return STATUS_IO;
}

enum status loop_start(struct loop *loop)
{
    if (uv_listen((uv_stream_t *)&loop->listener, LOOP_BACKLOG, on_connection) != 0)
        return STATUS_IO;
    loop->started = pthread_create(&loop->thread, NULL, run, loop) == 0;
    return loop->started ? STATUS_OK : STATUS_NOMEM;
}

void loop_begin_stop(struct loop *loop)
{
    pthread_mutex_lock(&loop->mutex);
    bool first = !loop->stop_wanted;
    loop->stop_wanted = true;
    pthread_mutex_unlock(&loop->mutex);
    if (first) uv_async_send(&loop->wake); /* Later it may be closed already. */
}

void loop_stop(struct loop *loop)
{
    loop_begin_stop(loop);
    if (loop->started)
        pthread_join(loop->thread, NULL);
    else
        run(loop); /* It was never on its way: it winds itself up here. */

    CHECK(uv_loop_close(&loop->uv) == 0);
    release(loop);
    pthread_mutex_destroy(&loop->mutex);
}

void loop_set_limits(struct loop *loop, const struct server_limits *limits)
{
    pthread_mutex_lock(&loop->mutex);
    loop->new_limits = *limits;
    loop->limits_wanted = true;
    pthread_mutex_unlock(&loop->mutex);
    uv_async_send(&loop->wake);
}

void loop_submit(struct loop *loop, struct submission *submission)
{
    append(&loop->submitted_first, &loop->submitted_last, &submission->write);
}

/* Takes those of the first one's loop off the front of the list. One wake-up serves them all. */
static struct engine_write *return_some(struct engine_write *list)
{
    struct loop *loop = submission_of(list)->connection->loop;
    pthread_mutex_lock(&loop->mutex);
    bool first = loop->returned_first == NULL;
    do {
        struct engine_write *next = list->next;
        append(&loop->returned_first, &loop->returned_last, list);
        list = next;
    } while (list != NULL && submission_of(list)->connection->loop == loop);
    /* Still locked: the loop may end, and be freed, once it could take these. */
    if (first) uv_async_send(&loop->wake);
    pthread_mutex_unlock(&loop->mutex);
    return list;
}

void loop_return_all(struct engine_write *list)
{
    while (list != NULL) list = return_some(list);
}
