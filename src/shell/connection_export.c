/* Exports: an answer of any length, made as fast as the client reads it. */
#include "base/math.h"
#include "shell/clock.h"
#include "shell/connection_private.h"

/* The head of the answer; pieces of the body follow. */
static void begin_answer(struct connection *connection)
{
    struct loop *loop = connection->loop;
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
    connection->export_headed = true;
}

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
    connection->export_headed = false;
    if (loop->server->options.cluster != NULL) return; /* The first piece is asked for. */
    status = node_export_try(connection->export, &loop->reader, &connection->reply,
                             engine_view(loop->server->engine), loop->wall_ms, &connection->out);
    if (status != STATUS_OK) {
        node_export_destroy(connection->export);
        connection->export = NULL;
        return;
    }
    begin_answer(connection);
}

static bool is_large(const struct connection *connection)
{
    return connection->out.size >= CONNECTION_OUT_BYTES_MAX / 4 ||
           server_is_over(connection->loop->server);
}

/* A client that reads as fast as we write would keep the loop, and views that nobody else needs,
 * to the end of its export. */
static void yield(struct connection *connection)
{
    connection->yielded = true;
    loop_go_on(connection->loop);
}

/* Each piece is on its way before the next is made. */
static void let_others(struct connection *connection)
{
    if (connection_send(connection) && !connection->writing) yield(connection);
}

void connection_take_turn(struct connection *connection)
{
    connection->yielded = false;
    connection_go_on(connection);
    connection_flush(connection);
}

static void end_export(struct connection *connection)
{
    node_export_destroy(connection->export);
    connection->export = NULL;
    connection_free_question(connection, &connection->submissions[0]);
    node_count(&connection->loop->reader, NODE_EXPORT,
               clock_monotonic_us() - connection->request_us);
}

/* --- Of a cluster: piece after piece by the own view, or page after page --- */

static enum status ask_page(struct connection *connection)
{
    struct submission *submission = &connection->submissions[0];
    uint64_t timeout_ms =
        u64_min(connection->loop->limits.request_timeout_ms, REQUEST_TIMEOUT_MS_MAX);
    submission->question = connection_question(connection);
    if (submission->question == NULL) return STATUS_NOMEM;
    enum status status =
        node_export_ask(connection->export, (uint32_t)timeout_ms, submission->question);
    if (status != STATUS_OK) return status;
    atomic_fetch_add_explicit(&connection->loop->reader.counters.reads_coordinated, 1,
                              memory_order_relaxed);
    connection_submit_question(connection, submission);
    return STATUS_OK;
}

/* Nothing was said yet: what is wrong can still be. */
static void refuse_export(struct connection *connection, enum status status)
{
    struct node_reader *reader = &connection->loop->reader;
    const struct node_question *question = connection->submissions[0].question;
    if (status == STATUS_CANCELLED && question != NULL) {
        const char *detail;
        enum problem_code code = question_problem(question, &detail);
        node_refuse(reader, &connection->reply, code, detail, NULL, &connection->out);
    } else {
        node_export_refuse(reader, &connection->reply, status, &connection->out);
    }
    if (!connection->reply.keep_alive) connection->close_when_sent = true;
    end_export(connection);
}

static bool is_good(enum status status)
{
    return status == STATUS_OK || status == STATUS_PARTIAL;
}

/* Puts lines that were made with this outcome into the answer; how it goes on. */
static enum status put_lines(struct connection *connection, enum status status, struct slice lines)
{
    if (!is_good(status)) return status;
    if (!connection->export_headed) begin_answer(connection);
    if (connection->reply.head_only) return STATUS_OK;
    if (lines.size == 0) return status;
    bool chunked = connection->reply.minor != 0;
    size_t begin = chunked ? http_chunk_begin(&connection->out) : 0;
    buf_append_slice(&connection->out, lines);
    if (chunked) http_chunk_end(&connection->out, begin);
    return status;
}

/* The lines of a page that came. */
static enum status give_page(struct connection *connection)
{
    struct submission *submission = &connection->submissions[0];
    struct buf lines;
    buf_init(&lines, connection->loop->heap);
    enum status status = node_export_give(connection->export, &connection->loop->reader,
                                          submission->question, &lines);
    status = put_lines(connection, status, buf_slice(&lines));
    buf_deinit(&lines);
    if (is_good(status)) connection_free_question(connection, submission);
    return status;
}

/* A piece by the own view, which stands in `moment`. A damaged file is left to other owners: STATUS_CORRUPT,
 * and nothing was said. */
static enum status give_own(struct connection *connection, const struct moment *moment)
{
    struct node_reader *reader = &connection->loop->reader;
    struct buf lines;
    buf_init(&lines, connection->loop->heap);
    enum status status =
        node_export_step(connection->export, reader, moment->view, moment->wall_ms, &lines);
    if (is_good(status))
        atomic_fetch_add_explicit(&reader->counters.reads_local, 1, memory_order_relaxed);
    status = put_lines(connection, status, buf_slice(&lines));
    buf_deinit(&lines);
    return status;
}

/* The next piece, at once or when it was asked for: `*asked`. STATUS_PARTIAL with neither: it is not its turn. */
static enum status next_lines(struct connection *connection, bool *asked)
{
    struct moment moment;
    enum status status = STATUS_CORRUPT;
    *asked = false;
    bool own = connection_own_moment(connection, &moment) &&
               node_export_is_own(connection->export, moment.own);
    if (own) status = give_own(connection, &moment);
    if (status != STATUS_CORRUPT) return status;
    status = ask_page(connection);
    *asked = status == STATUS_OK;
    return status;
}

static bool process_pages(struct connection *connection)
{
    struct submission *submission = &connection->submissions[0];
    enum status status = STATUS_PARTIAL;
    if (submission->in_flight) return false;
    if (submission->question != NULL) status = give_page(connection);
    while (status == STATUS_PARTIAL) {
        bool asked;
        connection->stalled = connection->out.size >= CONNECTION_OUT_BYTES_MAX;
        if (connection->writing || connection->stalled) return false;
        status = next_lines(connection, &asked);
        if (asked) return false;
        if (status == STATUS_PARTIAL && is_large(connection)) {
            let_others(connection);
            return false;
        }
    }
    if (status != STATUS_OK && !connection->export_headed) {
        refuse_export(connection, status);
        return true;
    }
    end_export(connection);
    if (status != STATUS_OK) {
        connection_break(connection); /* Complete, or the connection breaks. */
        return false;
    }
    bool chunked = connection->reply.minor != 0;
    if (chunked && !connection->reply.head_only) http_chunk_finish(&connection->out);
    return true;
}

bool connection_process_export(struct connection *connection)
{
    struct loop *loop = connection->loop;
    enum status status = STATUS_PARTIAL;
    bool chunked = connection->reply.minor != 0;

    if (loop->server->options.cluster != NULL) return process_pages(connection);
    while (status == STATUS_PARTIAL && !connection->reply.head_only) {
        connection->stalled = connection->out.size >= CONNECTION_OUT_BYTES_MAX;
        if (connection->writing || connection->stalled) return false;
        size_t begin = chunked ? http_chunk_begin(&connection->out) : 0;
        status = node_export_step(connection->export, &loop->reader,
                                  engine_view(loop->server->engine), clock_wall_ms(),
                                  &connection->out);
        if (chunked) http_chunk_end(&connection->out, begin);
        if (status == STATUS_PARTIAL && is_large(connection)) {
            let_others(connection);
            return false;
        }
    }
    end_export(connection);
    if (status != STATUS_OK && !connection->reply.head_only) {
        connection_break(connection); /* Complete, or the connection breaks. */
        return false;
    }
    if (chunked && !connection->reply.head_only) http_chunk_finish(&connection->out);
    return true;
}
