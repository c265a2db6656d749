#include "shell/connection.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "base/math.h"
#include "shell/clock.h"
#include "shell/connection_private.h"
#include "shell/grace.h"

enum { CONNECTION_LINGER_US = 2000000 };

static void unlink_connection(struct connection *connection)
{
    *connection->link = connection->next;
    if (connection->next != NULL) connection->next->link = connection->link;
}

bool connection_is_in_flight(const struct connection *connection)
{
    for (int i = 0; i < CONNECTION_SUBMISSIONS; i++)
        if (connection->submissions[i].in_flight) return true;
    return connection->asked_count > 0;
}

void connection_maybe_free(struct connection *connection)
{
    if (!connection->closed || connection_is_in_flight(connection)) return;

    struct heap *heap = connection->loop->heap;
    unlink_connection(connection); /* Not before: the loop ends when it has no more. */
    for (int i = 0; i < CONNECTION_SUBMISSIONS; i++) {
        node_batch_deinit(&connection->submissions[i].batch);
        connection_free_question(connection, &connection->submissions[i]);
    }
    if (connection->import != NULL) atomic_fetch_sub(&connection->loop->server->import_count, 1);
    node_import_destroy(connection->import);
    node_export_destroy(connection->export);
    buf_deinit(&connection->in);
    buf_deinit(&connection->out);
    buf_deinit(&connection->sending);
    buf_deinit(&connection->body);
    heap_free(heap, connection);
}

void connection_empty(struct connection *connection, struct buf *buf)
{
    if (buf->capacity > CONNECTION_KEPT_BYTES_MAX || server_is_over(connection->loop->server))
        buf_deinit(buf);
    else
        buf_clear(buf);
}

void connection_empty_batch(struct connection *connection, struct node_batch *batch)
{
    bool large = connection->import == NULL && batch->bytes.capacity > CONNECTION_KEPT_BYTES_MAX;
    if (large || server_is_over(connection->loop->server))
        node_batch_deinit(batch);
    else
        node_batch_clear(batch);
}

static void on_closed(uv_handle_t *handle)
{
    struct connection *connection = handle->data;
    struct loop *loop = connection->loop;
    connection_end_hunger(connection);
    atomic_fetch_sub(&loop->server->connection_count, 1);
    atomic_fetch_add_explicit(&loop->reader.counters.connections_closed, 1, memory_order_relaxed);
    connection->closed = true;
    connection_maybe_free(connection);
}

void connection_close(struct connection *connection)
{
    if (connection->closing) return;
    connection->closing = true;
    uv_close((uv_handle_t *)&connection->tcp, on_closed);
}

void connection_break(struct connection *connection)
{
    if (connection->closing) return;
    connection->closing = true;
    if (uv_tcp_close_reset(&connection->tcp, on_closed) != 0)
        uv_close((uv_handle_t *)&connection->tcp, on_closed);
}

static void process(struct connection *connection, struct slice *input)
{
    struct buf *in = &connection->in;
    if (connection->closing) return;
    if (in->size > 0) {
        buf_append_slice(in, *input);
        struct slice kept = buf_slice(in);
        connection_process_input(connection, &kept);
        buf_consume(in, in->size - kept.size);
    } else {
        connection_process_input(connection, input);
        buf_append_slice(in, *input);
    }
    if (buf_status(in) != STATUS_OK) {
        connection_close(connection);
        return;
    }
    if (in->size == 0 && in->capacity > 0) buf_deinit(in); /* Idle connections keep nothing. */

    struct submission *pending = &connection->submissions[0];
    if (connection->import == NULL && pending->batch.item_count > 0 && !pending->in_flight)
        connection_submit(connection, pending);
}

void connection_go_on(struct connection *connection)
{
    struct slice none = {0};
    connection->loop->request_us = loop_look_at_clocks(connection->loop);
    connection->stalled = false;
    grace_online();
    process(connection, &none);
    grace_offline();
}

static void on_allocate(uv_handle_t *handle, size_t size, uv_buf_t *buffer)
{
    struct connection *connection = handle->data;
    (void)size;
    *buffer = uv_buf_init(connection->loop->read_bytes, LOOP_READ_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    struct connection *connection = stream->data;
    struct loop *loop = connection->loop;
    if (size == 0 || connection->closing) return;
    if (size < 0) {
        /* Who only shuts its sending side down still gets its answers. */
        connection->ended = true;
        uv_read_stop(stream);
        connection->reading = false;
        if (size != UV_EOF)
            connection_close(connection);
        else
            connection_flush(connection);
        return;
    }
    if (connection->lingering_us != 0) return;
    connection->active_us = loop->request_us = loop_look_at_clocks(loop);
    atomic_fetch_add_explicit(&loop->reader.counters.bytes_in, (uint64_t)size,
                              memory_order_relaxed);
    struct slice input = slice_of(buffer->base, (size_t)size);
    grace_online();
    process(connection, &input);
    grace_offline();
    connection_flush(connection);
}

void connection_set_reading(struct connection *connection)
{
    bool wanted = !connection->closing && !connection->ended && !connection->starved &&
                  connection->in.size + connection->body.size < CONNECTION_IN_BYTES_MAX &&
                  connection->out.size + connection->sending.size < CONNECTION_OUT_BYTES_MAX;

    /* The body of a request that is not streamed has to fit, however large it may be. */
    if (!connection->ended && !connection->closing && connection->head_done &&
        !connection_is_in_flight(connection) && connection->import == NULL &&
        connection->out.size == 0)
        wanted = true;
    if (connection->lingering_us != 0) wanted = !connection->ended;
    if (wanted == connection->reading) return;
    connection->reading = wanted;
    if (!wanted)
        uv_read_stop((uv_stream_t *)&connection->tcp);
    else if (uv_read_start((uv_stream_t *)&connection->tcp, on_allocate, on_read) != 0)
        connection_close(connection);
}

static struct connection *create(struct loop *loop)
{
    struct connection *connection = heap_zalloc(loop->heap, sizeof *connection);
    if (connection == NULL) return NULL;
    connection->loop = loop;
    buf_init(&connection->in, loop->heap);
    buf_init(&connection->out, loop->heap);
    buf_init(&connection->sending, loop->heap);
    buf_init(&connection->body, loop->heap);
    for (int i = 0; i < CONNECTION_SUBMISSIONS; i++) {
        connection->submissions[i].connection = connection;
        node_batch_init(&connection->submissions[i].batch, loop->heap);
    }
    http_request_init(&connection->request);
    connection->active_us = clock_monotonic_us();
    return connection;
}

void connection_accept(struct loop *loop)
{
    struct connection *connection = create(loop);
    if (connection == NULL) return;
    if (uv_tcp_init(&loop->uv, &connection->tcp) != 0) {
        heap_free(loop->heap, connection);
        return;
    }
    connection->tcp.data = connection;
    connection->next = loop->connections;
    connection->link = &loop->connections;
    if (loop->connections != NULL) loop->connections->link = &connection->next;
    loop->connections = connection;
    uint64_t count = atomic_fetch_add(&loop->server->connection_count, 1) + 1;
    atomic_fetch_add_explicit(&loop->reader.counters.connections_opened, 1, memory_order_relaxed);

    if (uv_accept((uv_stream_t *)&loop->listener, (uv_stream_t *)&connection->tcp) != 0) {
        connection_close(connection);
        return;
    }
    uv_tcp_nodelay(&connection->tcp, 1);
    if (count > loop->limits.connection_count_max)
        connection_refuse(connection, NULL, PROBLEM_OVERLOADED, "max_connections are open");
    else if (server_is_far_over(loop->server))
        connection_refuse(connection, NULL, PROBLEM_OVERLOADED, "memory_limit is reached");
    connection_flush(connection);
}

/* One write may take long: what the client has taken of it shows that it goes on. The system's
 * own buffer counts, it can hold megabytes. */
static void note_progress(struct connection *connection, uint64_t now_us)
{
    uv_os_fd_t descriptor;
    int in_system = 0;
    size_t unsent_bytes = uv_stream_get_write_queue_size((uv_stream_t *)&connection->tcp);
    if (uv_fileno((uv_handle_t *)&connection->tcp, &descriptor) == 0 &&
        ioctl(descriptor, SIOCOUTQ, &in_system) == 0)
        unsent_bytes += (size_t)in_system;
    if (unsent_bytes < connection->unsent_bytes) connection->active_us = now_us;
    connection->unsent_bytes = unsent_bytes;
}

void connection_sweep(struct connection *connection, uint64_t now_us)
{
    const struct server_limits *limits = &connection->loop->limits;
    if (connection->closing || connection_is_in_flight(connection)) return;
    if (connection->lingering_us != 0) {
        if (now_us - connection->lingering_us > CONNECTION_LINGER_US) connection_close(connection);
        return;
    }

    if (connection->writing) note_progress(connection, now_us);
    if (connection->starved) connection->active_us = now_us; /* It is us who are slow. */
    if (!connection->writing) connection_empty(connection, &connection->sending);
    if (connection->out.size == 0) connection_empty(connection, &connection->out);
    uint64_t idle_us = now_us - u64_min(now_us, connection->active_us);
    bool half = connection->request_us != 0 && connection->import == NULL &&
                connection->export == NULL;
    if (half && now_us - connection->request_us > limits->request_timeout_ms * 1000) {
        connection_refuse(connection, NULL, PROBLEM_REQUEST_TIMEOUT,
                          "the request did not arrive whole within request_timeout_ms");
        connection->request_us = 0;
        connection_flush(connection);
    } else if (idle_us > limits->idle_timeout_ms * 1000) {
        connection_close(connection);
    }
}

/* Ends what its client is in no hurry to end. */
static void cut(struct connection *connection)
{
    if (connection->export != NULL) {
        connection_break(connection);
    } else if (connection->import != NULL) {
        connection_cut_import(connection);
    } else if (connection->head_done && !connection_is_in_flight(connection)) {
        connection_refuse(connection, NULL, PROBLEM_NOT_READY, "the node stops");
        connection_flush(connection);
    }
}

void connection_drain(struct connection *connection, enum connection_end end)
{
    if (connection->closing) return;
    connection->close_when_sent = true;
    if (end >= CONNECTION_END_CUT) cut(connection);
    /* Who may still be sending to us learns of the answer before the socket goes. */
    bool lingering = connection->lingering_us != 0 && connection->rest_unread &&
                     clock_monotonic_us() - connection->lingering_us <= CONNECTION_LINGER_US;
    bool busy = connection_is_in_flight(connection) || connection->export != NULL ||
                connection->import != NULL || connection->writing || connection->head_done ||
                lingering;
    if (!busy || end == CONNECTION_END_NOW) connection_close(connection);
}
