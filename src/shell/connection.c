#include "shell/connection.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/math.h"
#include "proto/http_response.h"
#include "shell/clock.h"
#include "shell/grace.h"

static void flush(struct connection *connection);
static void process(struct connection *connection, struct slice *input);
static void set_reading(struct connection *connection);

enum { CONNECTION_LINGER_US = 2000000 };

/* --- Birth and death --- */

static void unlink_connection(struct connection *connection)
{
    *connection->link = connection->next;
    if (connection->next != NULL) connection->next->link = connection->link;
}

static bool in_flight(const struct connection *connection)
{
    for (int i = 0; i < CONNECTION_SUBMISSIONS; i++)
        if (connection->submissions[i].in_flight) return true;
    return false;
}

/* Frees it once the socket is closed and no submission points to it. */
static void maybe_free(struct connection *connection)
{
    if (!connection->closed || in_flight(connection)) return;

    struct heap *heap = connection->loop->heap;
    unlink_connection(connection); /* Not before: the loop ends when it has no more. */
    for (int i = 0; i < CONNECTION_SUBMISSIONS; i++)
        node_batch_deinit(&connection->submissions[i].batch);
    node_import_destroy(connection->import);
    node_export_destroy(connection->export);
    buf_deinit(&connection->in);
    buf_deinit(&connection->out);
    buf_deinit(&connection->sending);
    buf_deinit(&connection->body);
    heap_free(heap, connection);
}

static void on_closed(uv_handle_t *handle)
{
    struct connection *connection = handle->data;
    struct loop *loop = connection->loop;
    atomic_fetch_sub(&loop->server->connection_count, 1);
    atomic_fetch_add_explicit(&loop->reader.counters.connections_closed, 1, memory_order_relaxed);
    connection->closed = true;
    maybe_free(connection);
}

static void close_connection(struct connection *connection)
{
    if (connection->closing) return;
    connection->closing = true;
    uv_close((uv_handle_t *)&connection->tcp, on_closed);
}

/* A turn without new bytes: goes on with what was kept. */
static void go_on(struct connection *connection)
{
    struct slice none = {0};
    connection->loop->wall_ms = clock_wall_ms();
    connection->loop->request_us = clock_monotonic_us();
    connection->stalled = false;
    grace_online();
    process(connection, &none);
    grace_offline();
}

/* So that what has no length and no chunks is not taken for complete. */
static void break_connection(struct connection *connection)
{
    if (connection->closing) return;
    connection->closing = true;
    if (connection->writing || uv_tcp_close_reset(&connection->tcp, on_closed) != 0)
        uv_close((uv_handle_t *)&connection->tcp, on_closed);
}

/* --- Answers on their way out --- */

static void on_sent(uv_write_t *write, int error)
{
    struct connection *connection = write->data;
    connection->writing = false;
    connection->active_us = clock_monotonic_us();
    if (connection->closing) return;
    if (error != 0) {
        close_connection(connection);
        return;
    }
    buf_clear(&connection->sending);

    /* What waited for the client to read may go on: an export, or further requests. */
    go_on(connection);
    flush(connection);
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

/* Sends what there is in one write; false: the connection is closed. */
static bool send_out(struct connection *connection)
{
    if (connection->closing) return false;
    struct buf *out = &connection->out;
    if (buf_status(out) != STATUS_OK) {
        close_connection(connection); /* An answer that is not whole is worse than none. */
        return false;
    }
    if (connection->writing || out->size == 0) return true;
    uv_buf_t all = uv_buf_init((char *)out->data, (unsigned)out->size);
    int sent = uv_try_write((uv_stream_t *)&connection->tcp, &all, 1);
    if (sent < 0 && sent != UV_EAGAIN) {
        close_connection(connection);
        return false;
    }
    atomic_fetch_add_explicit(&connection->loop->reader.counters.bytes_out, out->size,
                              memory_order_relaxed);
    if (sent >= 0 && (size_t)sent == out->size) {
        connection->active_us = clock_monotonic_us();
        buf_clear(out);
    } else if (!send_rest(connection, sent < 0 ? 0 : (size_t)sent)) {
        close_connection(connection);
        return false;
    }
    return true;
}

static void on_shutdown(uv_shutdown_t *shutdown, int error)
{
    struct connection *connection = shutdown->data;
    if (error != 0) close_connection(connection);
}

/* After the last answer. A socket closed with unread bytes would be reset, and the client
 * might never see the answer: so what it still sends is read and forgotten, for a while. */
static void say_goodbye(struct connection *connection)
{
    if (connection->ended) {
        close_connection(connection);
        return;
    }
    if (connection->lingering_us != 0) return;
    connection->lingering_us = clock_monotonic_us();
    buf_clear(&connection->in);
    connection->shutdown.data = connection;
    if (uv_shutdown(&connection->shutdown, (uv_stream_t *)&connection->tcp, on_shutdown) != 0)
        close_connection(connection);
}

/* Sends all answers of this turn in one write, and decides how it goes on. */
static void flush(struct connection *connection)
{
    /* Requests that waited for room go on here when the system took everything at once. */
    if (!send_out(connection)) return;
    while (connection->stalled && !connection->writing) {
        go_on(connection);
        if (!send_out(connection)) return;
    }

    bool idle = !connection->writing && !in_flight(connection) && connection->export == NULL;
    bool last = connection->close_when_sent && connection->import == NULL && !connection->head_done;
    if (idle && (last || connection->ended)) say_goodbye(connection);
    if (!connection->closing) set_reading(connection);
}

/* --- Submissions --- */

static void on_done(struct engine_write *write)
{
    struct submission *submission =
        (struct submission *)((char *)write - offsetof(struct submission, write));
    loop_return(submission->connection->loop, submission);
}

static void submit(struct connection *connection, struct submission *submission)
{
    node_batch_seal(&submission->batch);
    submission->write = (struct engine_write){
        .writes = submission->batch.writes,
        .outcomes = submission->batch.outcomes,
        .count = submission->batch.write_count,
        .done = on_done,
    };
    submission->in_flight = true;
    submission->of_import = connection->import != NULL;
    enum status status = engine_submit(connection->loop->server->engine, &submission->write);
    if (status == STATUS_OK) return;
    submission->write.status = status;
    loop_return(connection->loop, submission);
}

void connection_returned(struct connection *connection, struct submission *submission)
{
    submission->in_flight = false;
    if (connection->closed) {
        maybe_free(connection);
        return;
    }
    connection->active_us = clock_monotonic_us();
    struct node_batch *batch = &submission->batch;
    if (!submission->of_import) {
        node_batch_answer(batch, &connection->loop->reader, submission->write.status,
                          &connection->out);
        for (size_t i = 0; i < batch->item_count; i++)
            node_count(&connection->loop->reader, batch->items[i].endpoint,
                       connection->active_us - submission->begun_us);
    } else if (connection->import != NULL) {
        node_import_take(connection->import, batch, submission->write.status);
    }
    node_batch_clear(batch);
    if (connection->closing) return;
    go_on(connection);
    flush(connection);
}

/* --- Requests --- */

/* The last answer. Writes before it are answered first: it is asked for again then. */
static void refuse_and_close(struct connection *connection, enum problem_code code,
                             const char *detail)
{
    struct node_reply reply = {.minor = 1};
    if (connection->import == NULL && connection->submissions[0].batch.item_count > 0) {
        if (!connection->head_done) http_request_init(&connection->request);
        return;
    }
    node_refuse(&connection->loop->reader, &reply, code, detail, NULL, &connection->out);
    connection->close_when_sent = true;
    connection->head_done = false;
}

static void begin_body(struct connection *connection)
{
    const struct http_request *request = &connection->request;
    connection->head_done = true;
    connection->continued = false;
    connection->chunked = (struct http_chunked){0};
    connection->body_left = request->body == HTTP_BODY_LENGTH ? request->content_length : 0;
    buf_clear(&connection->body);
}

static void send_continue(struct connection *connection)
{
    if (!connection->request.expect_continue || connection->continued) return;
    if (connection->submissions[0].batch.item_count > 0) return; /* Answers before it first. */
    http_continue_append(&connection->out);
    connection->continued = true;
}

/* The whole body of a request that is not streamed. STATUS_PARTIAL: not here yet;
 * STATUS_INVALID: refused. `input` starts at the head. */
static enum status whole_body(struct connection *connection, struct slice *input,
                              struct slice *body)
{
    const struct http_request *request = &connection->request;
    uint64_t limit = connection->loop->server->options.body_bytes_max;
    struct slice rest = slice_from(*input, request->head_bytes);

    if (request->body != HTTP_BODY_CHUNKED) {
        if (connection->body_left > limit) {
            refuse_and_close(connection, PROBLEM_PAYLOAD_TOO_LARGE,
                             "the body is larger than max_body_bytes");
            return STATUS_INVALID;
        }
        if (rest.size < connection->body_left) {
            send_continue(connection);
            return STATUS_PARTIAL;
        }
        *body = slice_prefix(rest, connection->body_left);
        *input = slice_from(rest, connection->body_left);
        return STATUS_OK;
    }

    /* Pieces are gathered anew each time more arrives: such bodies are small. */
    struct slice piece;
    enum status status;
    connection->chunked = (struct http_chunked){0};
    buf_clear(&connection->body);
    while ((status = http_chunked_next(&connection->chunked, &rest, &piece)) == STATUS_OK) {
        buf_append_slice(&connection->body, piece);
        if (connection->body.size > limit) break;
    }
    /* Sizes and extensions of chunks count too: many small ones are no way round the limit. */
    uint64_t raw_limit = limit + limit / 2 + CONNECTION_IN_BYTES_MAX;
    if (connection->body.size > limit || input->size - rest.size > raw_limit) {
        refuse_and_close(connection, PROBLEM_PAYLOAD_TOO_LARGE,
                         "the body is larger than max_body_bytes");
        return STATUS_INVALID;
    }
    if (status == STATUS_PARTIAL) {
        send_continue(connection);
        return STATUS_PARTIAL;
    }
    if (status != STATUS_END) {
        refuse_and_close(connection, problem_code_of_status(connection->chunked.error_status),
                         connection->chunked.error_reason);
        return STATUS_INVALID;
    }
    *body = buf_slice(&connection->body);
    *input = rest;
    return STATUS_OK;
}

static bool is_write(enum node_endpoint endpoint)
{
    return endpoint == NODE_WORD_SET || endpoint == NODE_WORD_REMOVE ||
           endpoint == NODE_WORD_INCREMENT;
}

static void answer_read(struct connection *connection, enum node_endpoint endpoint)
{
    struct loop *loop = connection->loop;
    struct server_facts *facts = NULL;
    if (endpoint == NODE_READY || endpoint == NODE_STATS || endpoint == NODE_METRICS) {
        facts = heap_alloc(loop->heap, sizeof *facts);
        if (facts == NULL) {
            refuse_and_close(connection, PROBLEM_OVERLOADED, "there is no memory for the answer");
            return;
        }
        server_facts(loop->server, facts);
    }
    node_read(&loop->reader, endpoint, &connection->request, engine_view(loop->server->engine),
              loop->wall_ms, facts == NULL ? NULL : &facts->node, &connection->out);
    heap_free(loop->heap, facts);
}

/* Whether the answer depends on the target alone. */
static bool is_cacheable(const struct connection *connection, enum node_endpoint endpoint)
{
    const struct http_request *request = &connection->request;
    struct slice id;
    return endpoint == NODE_SEARCH_PLAIN && request->method == HTTP_GET && request->minor == 1 &&
           request->keep_alive && !http_request_header(request, "x-request-id", &id);
}

static void answer_cached(struct connection *connection, enum node_endpoint endpoint)
{
    struct loop *loop = connection->loop;
    struct slice answer;
    uint64_t view = engine_view(loop->server->engine)->number;
    struct slice target = connection->request.query;

    struct query query = store_query(engine_view(loop->server->engine), loop->wall_ms, loop->heap,
                                     loop->reader.scratch);
    bool settled = query_is_settled(&query);
    if (settled && answer_cache_get(&loop->cache, target, view, &answer)) {
        buf_append_slice(&connection->out, answer);
        atomic_fetch_add_explicit(&loop->reader.counters.cache_hits, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&loop->reader.counters.answers[2], 1, memory_order_relaxed);
        node_count(&loop->reader, endpoint, 0);
        return;
    }
    atomic_fetch_add_explicit(&loop->reader.counters.cache_misses, 1, memory_order_relaxed);
    size_t before = connection->out.size;
    answer_read(connection, endpoint);
    answer = slice_from(buf_slice(&connection->out), before);
    if (settled && buf_status(&connection->out) == STATUS_OK &&
        slice_starts_with(answer, SLICE_LITERAL("HTTP/1.1 200")))
        answer_cache_put(&loop->cache, target, view, answer);
}

/* --- Imports --- */

static void begin_import(struct connection *connection, struct slice *input)
{
    struct node_param_error error = {.code = PROBLEM_OVERLOADED};
    connection->reply = node_reply_of(&connection->request);
    enum status status = node_import_create(&connection->loop->reader, &connection->request,
                                            &connection->import, &error);
    if (status == STATUS_OK && connection->request.body == HTTP_BODY_NONE) {
        node_import_destroy(connection->import);
        connection->import = NULL;
        error = (struct node_param_error){PROBLEM_LENGTH_REQUIRED, NULL,
                                          "an import has a body, by length or in chunks"};
        status = STATUS_INVALID;
    }
    if (status != STATUS_OK) {
        /* The body is on its way all the same: the connection cannot be used again. */
        connection->reply.keep_alive = false;
        node_refuse(&connection->loop->reader, &connection->reply, error.code, error.detail,
                    error.field, &connection->out);
        connection->close_when_sent = true;
        connection->head_done = false;
        return;
    }
    *input = slice_from(*input, connection->request.head_bytes);
    connection->import_ended = false;
    connection->import_fed = false;
    send_continue(connection);
}

/* The one that lines go to. A half filled one comes first: lines are created in their order. */
static struct submission *free_submission(struct connection *connection)
{
    for (int i = 0; i < CONNECTION_SUBMISSIONS; i++) {
        struct submission *submission = &connection->submissions[i];
        if (!submission->in_flight && submission->batch.item_count > 0) return submission;
    }
    for (int i = 0; i < CONNECTION_SUBMISSIONS; i++)
        if (!connection->submissions[i].in_flight) return &connection->submissions[i];
    return NULL;
}

/* The next piece of the import's body. STATUS_PARTIAL: no more has come; STATUS_END: the
 * body is complete. */
static enum status next_piece(struct connection *connection, struct slice *input,
                              struct slice *piece)
{
    if (connection->request.body == HTTP_BODY_CHUNKED) {
        enum status status = http_chunked_next(&connection->chunked, input, piece);
        if (status == STATUS_INVALID || status == STATUS_LIMIT)
            refuse_and_close(connection, problem_code_of_status(connection->chunked.error_status),
                             "the chunks of the body are malformed; lines before that may have "
                             "been stored");
        return status;
    }
    if (connection->body_left == 0) return STATUS_END;
    if (input->size == 0) return STATUS_PARTIAL;
    *piece = slice_prefix(*input, size_min(input->size, connection->body_left));
    connection->body_left -= piece->size;
    *input = slice_from(*input, piece->size);
    return STATUS_OK;
}

/* Feeds `piece` to the import; what does not fit waits in `connection->body`. */
static enum status feed(struct connection *connection, struct slice piece)
{
    bool last = connection->import_ended;
    for (;;) {
        struct submission *submission = free_submission(connection);
        if (submission == NULL) {
            buf_append_slice(&connection->body, piece);
            return buf_status(&connection->body) == STATUS_OK ? STATUS_BUSY : STATUS_NOMEM;
        }
        enum status status = node_import_feed(connection->import, &piece, last,
                                              connection->loop->wall_ms, &submission->batch);
        if (status != STATUS_OK && status != STATUS_PARTIAL) return status;
        if (submission->batch.write_count > 0 && (status == STATUS_PARTIAL || last))
            submit(connection, submission);
        if (status == STATUS_PARTIAL) continue;
        connection->import_fed = last;
        return STATUS_OK;
    }
}

static void end_import(struct connection *connection)
{
    node_import_answer(connection->import, &connection->loop->reader, &connection->reply,
                       &connection->out);
    node_count(&connection->loop->reader, NODE_IMPORT,
               clock_monotonic_us() - connection->request_us);
    node_import_destroy(connection->import);
    connection->import = NULL;
    connection->head_done = false;
    connection->request_us = 0;
    if (!connection->reply.keep_alive) connection->close_when_sent = true;
}

static void abort_import(struct connection *connection)
{
    for (int i = 0; i < CONNECTION_SUBMISSIONS; i++)
        if (!connection->submissions[i].in_flight)
            node_batch_clear(&connection->submissions[i].batch);
    node_import_destroy(connection->import);
    connection->import = NULL;
    connection->head_done = false;
    connection->close_when_sent = true;
}

/* Feeds what was left over while both submissions were on their way. */
static enum status feed_rest(struct connection *connection)
{
    struct buf left = connection->body;
    if (left.size == 0) return STATUS_OK;
    buf_init(&connection->body, connection->loop->heap);
    enum status status = feed(connection, buf_slice(&left));
    buf_deinit(&left);
    return status;
}

/* True when the import is over and the next request may be read. */
static bool process_import(struct connection *connection, struct slice *input)
{
    struct slice piece;
    enum status status = feed_rest(connection);
    while (status == STATUS_OK && !connection->import_fed) {
        piece = (struct slice){0};
        if (!connection->import_ended) status = next_piece(connection, input, &piece);
        if (status == STATUS_END) {
            connection->import_ended = true;
            status = STATUS_OK;
        }
        if (status == STATUS_OK) status = feed(connection, piece);
    }
    if (status == STATUS_PARTIAL || status == STATUS_BUSY) return false;
    if (status != STATUS_OK) {
        abort_import(connection);
        return false;
    }
    if (in_flight(connection)) return false;
    end_import(connection);
    return true;
}

/* --- Exports --- */

static void begin_export(struct connection *connection)
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
    struct http_response response = {
        .status = 200,
        .minor = connection->reply.minor,
        .keep_alive = connection->reply.keep_alive,
        .body = HTTP_BODY_CHUNKED,
        .content_type = node_export_content_type(connection->export),
    };
    struct buf headers;
    buf_init(&headers, loop->heap);
    if (connection->reply.request_id_size > 0)
        http_header_append(
            &headers, "X-Request-Id",
            slice_of(connection->reply.request_id, connection->reply.request_id_size));
    response.headers = buf_slice(&headers);
    http_response_append(&connection->out, &response);
    buf_deinit(&headers);
    atomic_fetch_add_explicit(&loop->reader.counters.answers[2], 1, memory_order_relaxed);
    if (!http_response_keeps_alive(&response)) connection->close_when_sent = true;
}

/* True when the export is over and the next request may be read. */
static bool process_export(struct connection *connection)
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
        if (status == STATUS_PARTIAL && connection->out.size >= CONNECTION_OUT_BYTES_MAX / 4) {
            /* Each piece is on its way before the next is made. */
            if (!send_out(connection)) return false;
        }
    }
    node_export_destroy(connection->export);
    connection->export = NULL;
    node_count(&loop->reader, NODE_EXPORT, clock_monotonic_us() - connection->request_us);
    if (status != STATUS_OK && !connection->reply.head_only) {
        break_connection(connection); /* Complete, or the connection breaks. */
        return false;
    }
    if (chunked && !connection->reply.head_only) http_chunk_finish(&connection->out);
    return true;
}

/* --- The turn of a connection --- */

static void end_request(struct connection *connection)
{
    connection->head_done = false;
    connection->request_us = 0;
    http_request_init(&connection->request);
}

/* Parses a head. False: more bytes are needed, or the connection is to be closed. */
static bool process_head(struct connection *connection, struct slice input)
{
    if (connection->request_us == 0) connection->request_us = connection->loop->request_us;
    bool again = connection->head_done; /* It has moved: its slices point to the old place. */
    if (again) http_request_init(&connection->request);
    enum status status =
        http_request_parse(&connection->request, &connection->loop->server->options.http, input);
    if (status == STATUS_PARTIAL) return false;
    if (status != STATUS_OK) {
        refuse_and_close(connection, problem_code_of_status(connection->request.error_status),
                         connection->request.error_reason);
        return false;
    }
    if (!again) begin_body(connection);
    return true;
}

/* One request whose head is parsed. False: it waits for bytes, or for the writer. */
static bool process_request(struct connection *connection, struct slice *input)
{
    struct loop *loop = connection->loop;
    struct submission *pending = &connection->submissions[0];
    enum node_endpoint endpoint = node_route(&connection->request);
    bool last = false;
    struct slice body;

    /* Answers leave in order: anything but one more write waits for those before it. */
    if (!is_write(endpoint) && pending->batch.item_count > 0) return false;
    if (endpoint == NODE_IMPORT) {
        begin_import(connection, input);
        return !connection->close_when_sent || connection->import != NULL;
    }
    enum status status = whole_body(connection, input, &body);
    if (status == STATUS_PARTIAL) return false;
    if (status != STATUS_OK) return false;
    if (!connection->request.keep_alive) last = true;

    if (is_write(endpoint)) {
        status = node_batch_add_request(&pending->batch, &loop->reader, endpoint,
                                        &connection->request, body, loop->wall_ms);
        if (status != STATUS_OK) {
            refuse_and_close(connection, PROBLEM_OVERLOADED, "there is no memory for the write");
            return false;
        }
        if (pending->batch.item_count == 1) pending->begun_us = connection->request_us;
        end_request(connection);
        if (last) connection->close_when_sent = true;
        return !last && !node_batch_is_full(&pending->batch);
    }
    if (endpoint == NODE_EXPORT) {
        begin_export(connection);
        if (connection->export != NULL) {
            connection->head_done = false;
            http_request_init(&connection->request);
            return true;
        }
    } else if (loop->cache.entries != NULL && is_cacheable(connection, endpoint)) {
        answer_cached(connection, endpoint);
    } else {
        answer_read(connection, endpoint);
    }
    end_request(connection);
    if (last) connection->close_when_sent = true;
    return !connection->close_when_sent;
}

/* Goes on as far as the bytes in `input` (after those kept in `connection->in`) reach. */
static void process_input(struct connection *connection, struct slice *input)
{
    for (;;) {
        if (connection->closing) return;
        if (connection->import != NULL) {
            if (!process_import(connection, input)) return;
            http_request_init(&connection->request);
            if (connection->close_when_sent) return;
        }
        if (connection->export != NULL) {
            if (!process_export(connection)) return;
            connection->request_us = 0;
        }
        if (connection->submissions[0].in_flight) return;
        if (connection->close_when_sent && !connection->head_done) return;
        connection->stalled = connection->out.size + connection->sending.size >
                              CONNECTION_OUT_BYTES_MAX;
        if (connection->stalled) return;
        bool known = connection->head_done && connection->request.base == input->data;
        if (!known && (input->size == 0 || !process_head(connection, *input))) return;
        if (!process_request(connection, input)) return;
    }
}

static void process(struct connection *connection, struct slice *input)
{
    struct buf *in = &connection->in;
    if (connection->closing) return;
    if (in->size > 0) {
        buf_append_slice(in, *input);
        struct slice kept = buf_slice(in);
        process_input(connection, &kept);
        buf_consume(in, in->size - kept.size);
    } else {
        process_input(connection, input);
        buf_append_slice(in, *input);
    }
    if (buf_status(in) != STATUS_OK) {
        close_connection(connection);
        return;
    }
    if (in->size == 0 && in->capacity > 0) buf_deinit(in); /* Idle connections keep nothing. */

    struct submission *pending = &connection->submissions[0];
    if (connection->import == NULL && pending->batch.item_count > 0 && !pending->in_flight)
        submit(connection, pending);
}

/* --- Reading --- */

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
            close_connection(connection);
        else
            flush(connection);
        return;
    }
    if (connection->lingering_us != 0) return;
    connection->active_us = loop->request_us = clock_monotonic_us();
    loop->wall_ms = clock_wall_ms();
    atomic_fetch_add_explicit(&loop->reader.counters.bytes_in, (uint64_t)size,
                              memory_order_relaxed);
    struct slice input = slice_of(buffer->base, (size_t)size);
    grace_online();
    process(connection, &input);
    grace_offline();
    flush(connection);
}

/* Reads while there is room for what comes. */
static void set_reading(struct connection *connection)
{
    bool wanted = !connection->closing && !connection->ended &&
                  connection->in.size + connection->body.size < CONNECTION_IN_BYTES_MAX &&
                  connection->out.size + connection->sending.size < CONNECTION_OUT_BYTES_MAX;

    /* The body of a request that is not streamed has to fit, however large it may be. */
    if (!connection->ended && !connection->closing && connection->head_done &&
        !in_flight(connection) && connection->import == NULL && connection->out.size == 0)
        wanted = true;
    if (connection->lingering_us != 0) wanted = !connection->ended;
    if (wanted == connection->reading) return;
    connection->reading = wanted;
    if (!wanted)
        uv_read_stop((uv_stream_t *)&connection->tcp);
    else if (uv_read_start((uv_stream_t *)&connection->tcp, on_allocate, on_read) != 0)
        close_connection(connection);
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
        close_connection(connection);
        return;
    }
    uv_tcp_nodelay(&connection->tcp, 1);
    if (count > loop->server->options.connection_count_max)
        refuse_and_close(connection, PROBLEM_OVERLOADED, "max_connections are open");
    flush(connection);
}

void connection_sweep(struct connection *connection, uint64_t now_us)
{
    const struct server_options *options = &connection->loop->server->options;
    if (connection->closing || in_flight(connection)) return;
    if (connection->lingering_us != 0) {
        if (now_us - connection->lingering_us > CONNECTION_LINGER_US) close_connection(connection);
        return;
    }

    uint64_t idle_us = now_us - u64_min(now_us, connection->active_us);
    bool half = connection->request_us != 0 && connection->import == NULL &&
                connection->export == NULL;
    if (half && now_us - connection->request_us > options->request_timeout_ms * 1000) {
        refuse_and_close(connection, PROBLEM_REQUEST_TIMEOUT,
                         "the request did not arrive whole within request_timeout_ms");
        connection->request_us = 0;
        flush(connection);
    } else if (idle_us > options->idle_timeout_ms * 1000) {
        close_connection(connection);
    }
}

void connection_drain(struct connection *connection, bool at_once)
{
    if (connection->closing) return;
    bool busy = in_flight(connection) || connection->export != NULL || connection->import != NULL ||
                connection->writing || connection->head_done;
    connection->close_when_sent = true;
    if (!busy || at_once) close_connection(connection);
}
