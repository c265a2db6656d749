/* Exports: an answer of any length, made as fast as the client reads it. */
#include "shell/clock.h"
#include "shell/connection_private.h"

void connection_begin_export(struct connection *connection)
{
    struct loop *loop = connection->loop;
    struct node_param_error error = {.code = PROBLEM_OVERLOADED};
    connection->reply = node_reply_of(&connection->request);
    enum status status =
        node_export_create(&loop->reader, &connection->request, &connection->export, &error);
    if (status != STATUS_OK) {
        node_refuse(&loop->reader, &connection->reply, error.code, error.detail, error.field,
                    &connection->out);
        return;
    }
    status = node_export_try(connection->export, &loop->reader, &connection->reply,
                             engine_view(loop->server->engine), loop->wall_ms, &connection->out);
    if (status != STATUS_OK) {
        node_export_destroy(connection->export);
        connection->export = NULL;
        return;
    }
    struct http_response response = {
        .status = 200,
        .minor = connection->reply.minor,
        .keep_alive = connection->reply.keep_alive,
        .body = HTTP_BODY_CHUNKED,
        .date = node_date(&loop->reader),
        .content_type = node_export_content_type(connection->export),
    };
    struct buf headers;
    buf_init(&headers, loop->heap);
    node_echo(&connection->reply, &headers);
    response.headers = buf_slice(&headers);
    http_response_append(&connection->out, &response);
    buf_deinit(&headers);
    atomic_fetch_add_explicit(&loop->reader.counters.answers[2], 1, memory_order_relaxed);
    if (!http_response_keeps_alive(&response)) connection->close_when_sent = true;
}

/* A client that reads as fast as we write would keep the loop, and views that nobody else needs,
 * to the end of its export. */
static void yield(struct connection *connection)
{
    connection->yielded = true;
    loop_go_on(connection->loop);
}

void connection_take_turn(struct connection *connection)
{
    connection->yielded = false;
    connection_go_on(connection);
    connection_flush(connection);
}

bool connection_process_export(struct connection *connection)
{
    struct loop *loop = connection->loop;
    enum status status = STATUS_PARTIAL;
    bool chunked = connection->reply.minor != 0;

    while (status == STATUS_PARTIAL && !connection->reply.head_only) {
        connection->stalled = connection->out.size >= CONNECTION_OUT_BYTES_MAX;
        if (connection->writing || connection->stalled) return false;
        size_t begin = chunked ? http_chunk_begin(&connection->out) : 0;
        status = node_export_step(connection->export, &loop->reader,
                                  engine_view(loop->server->engine), clock_wall_ms(),
                                  &connection->out);
        if (chunked) http_chunk_end(&connection->out, begin);
        bool large = connection->out.size >= CONNECTION_OUT_BYTES_MAX / 4;
        if (status == STATUS_PARTIAL && (large || server_is_over(loop->server))) {
            /* Each piece is on its way before the next is made. */
            if (!connection_send(connection)) return false;
            if (!connection->writing) yield(connection);
            return false;
        }
    }
    node_export_destroy(connection->export);
    connection->export = NULL;
    node_count(&loop->reader, NODE_EXPORT, clock_monotonic_us() - connection->request_us);
    if (status != STATUS_OK && !connection->reply.head_only) {
        connection_break(connection); /* Complete, or the connection breaks. */
        return false;
    }
    if (chunked && !connection->reply.head_only) http_chunk_finish(&connection->out);
    return true;
}
