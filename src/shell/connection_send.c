/* Answers on their way out, and what follows when they are gone. */
#include "shell/clock.h"
#include "shell/connection_private.h"

static void on_sent(uv_write_t *write, int error)
{
    struct connection *connection = write->data;
    connection->writing = false;
    connection->active_us = clock_monotonic_us();
    if (connection->closing) return;
    if (error != 0) {
        connection_close(connection);
        return;
    }
    connection_empty(connection, &connection->sending);

    /* What waited for the client to read may go on: an export, or further requests. */
    connection_go_on(connection);
    connection_flush(connection);
}

static bool send_rest(struct connection *connection, size_t sent)
{
    struct buf swap = connection->sending;
    connection->sending = connection->out;
    connection->out = swap;
    buf_clear(&connection->out);

    uv_buf_t rest = uv_buf_init((char *)connection->sending.data + sent,
                                (unsigned)(connection->sending.size - sent));
    connection->write.data = connection;
    connection->writing = true;
    return uv_write(&connection->write, (uv_stream_t *)&connection->tcp, &rest, 1, on_sent) == 0;
}

bool connection_send(struct connection *connection)
{
    if (connection->closing) return false;
    struct buf *out = &connection->out;
    if (buf_status(out) != STATUS_OK) {
        connection_close(connection); /* An answer that is not whole is worse than none. */
        return false;
    }
    if (connection->writing || out->size == 0) return true;
    uv_buf_t all = uv_buf_init((char *)out->data, (unsigned)out->size);
    int sent = uv_try_write((uv_stream_t *)&connection->tcp, &all, 1);
    if (sent < 0 && sent != UV_EAGAIN) {
        connection_close(connection);
        return false;
    }
    atomic_fetch_add_explicit(&connection->loop->reader.counters.bytes_out, out->size,
                              memory_order_relaxed);
    if (sent >= 0 && (size_t)sent == out->size) {
        connection->active_us = clock_monotonic_us();
        connection_empty(connection, out);
    } else if (!send_rest(connection, sent < 0 ? 0 : (size_t)sent)) {
        connection_close(connection);
        return false;
    }
    return true;
}

static void on_shutdown(uv_shutdown_t *shutdown, int error)
{
    struct connection *connection = shutdown->data;
    if (error != 0) connection_close(connection);
}

/* After the last answer. A socket closed with unread bytes would be reset, and the client
 * might never see the answer: so what it still sends is read and forgotten, for a while. */
static void say_goodbye(struct connection *connection)
{
    if (connection->ended) {
        connection_close(connection);
        return;
    }
    if (connection->lingering_us != 0) return;
    connection->lingering_us = clock_monotonic_us();
    buf_clear(&connection->in);
    connection->shutdown.data = connection;
    if (uv_shutdown(&connection->shutdown, (uv_stream_t *)&connection->tcp, on_shutdown) != 0)
        connection_close(connection);
}

void connection_flush(struct connection *connection)
{
    /* Requests that waited for room go on here when the system took everything at once. */
    if (!connection_send(connection)) return;
    while (connection->stalled && !connection->writing) {
        connection_go_on(connection);
        if (!connection_send(connection)) return;
    }

    bool idle = !connection->writing && !connection_is_in_flight(connection) &&
                connection->export == NULL && !connection->starved;
    bool last = connection->close_when_sent && connection->import == NULL && !connection->head_done;
    if (idle && (last || connection->ended)) say_goodbye(connection);
    if (!connection->closing) connection_set_reading(connection);
}
