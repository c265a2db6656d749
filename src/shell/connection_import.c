/* Imports: a body of any length, parsed into one submission while the other is written. */
#include "base/math.h"
#include "shell/clock.h"
#include "shell/connection_private.h"

void connection_begin_import(struct connection *connection, struct slice *input)
{
    struct server *server = connection->loop->server;
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
    if (status == STATUS_OK &&
        atomic_load(&server->import_count) >= server_import_count_max(server)) {
        node_import_destroy(connection->import);
        connection->import = NULL;
        error = (struct node_param_error){PROBLEM_OVERLOADED, NULL,
                                          "memory_limit allows no further import now"};
        status = STATUS_BUSY;
    }
    if (status != STATUS_OK) {
        /* The body is on its way all the same: the connection cannot be used again. */
        connection->reply.keep_alive = false;
        node_refuse(&connection->loop->reader, &connection->reply, error.code, error.detail,
                    error.field, &connection->out);
        connection->close_when_sent = true;
        connection->rest_unread = true;
        connection->head_done = false;
        return;
    }
    *input = slice_from(*input, connection->request.head_bytes);
    atomic_fetch_add(&server->import_count, 1);
    connection->import_ended = false;
    connection->import_fed = false;
    connection->import_cut = false;
    connection_send_continue(connection);
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
        if (status == STATUS_INVALID || status == STATUS_LIMIT) {
            connection->reply.keep_alive = false;
            node_refuse(&connection->loop->reader, &connection->reply,
                        problem_code_of_status(connection->chunked.error_status),
                        "the chunks of the body are malformed; lines before that may have "
                        "been stored",
                        NULL, &connection->out);
        }
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
            connection_submit(connection, submission);
        if (status == STATUS_PARTIAL) continue;
        connection->import_fed = last;
        return STATUS_OK;
    }
}

void connection_end_hunger(struct connection *connection)
{
    struct loop *loop = connection->loop;
    if (loop->favoured == connection) loop->favoured = NULL;
    if (connection->starved) loop->starved_count--;
    connection->starved = false;
}

void connection_resume(struct connection *connection)
{
    connection->loop->starved_count--;
    connection->starved = false;
    connection_go_on(connection);
    connection_flush(connection);
}

/* Whether the import may take more memory. When that is short, each loop favours one import at
 * a time, which then takes one submission at a time: what is under way comes to its end. */
static bool may_grow(struct connection *connection)
{
    struct loop *loop = connection->loop;
    if (!server_is_over(loop->server)) return true;
    if (connection_is_in_flight(connection)) return false;
    if (loop->favoured == NULL) loop->favoured = connection;
    return loop->favoured == connection;
}

static void starve(struct connection *connection)
{
    if (connection->starved) return;
    connection->starved = true;
    connection->starved_us = clock_monotonic_us();
    connection->loop->starved_count++;
}

/* The import is gone, whichever way. */
static void drop_import(struct connection *connection)
{
    node_import_destroy(connection->import);
    connection->import = NULL;
    connection->head_done = false;
    connection_end_hunger(connection);
    atomic_fetch_sub(&connection->loop->server->import_count, 1);
    for (int i = 0; i < CONNECTION_SUBMISSIONS; i++)
        if (!connection->submissions[i].in_flight)
            connection_empty_batch(connection, &connection->submissions[i].batch);
}

static void end_import(struct connection *connection)
{
    struct node_reader *reader = &connection->loop->reader;
    if (connection->loop->draining) connection->reply.keep_alive = false;
    connection->rest_unread = connection->import_cut;
    if (connection->import_cut)
        node_import_answer_cut(connection->import, reader, &connection->reply, &connection->out);
    else
        node_import_answer(connection->import, reader, &connection->reply, &connection->out);
    node_count(&connection->loop->reader, NODE_IMPORT,
               clock_monotonic_us() - connection->request_us);
    drop_import(connection);
    connection->request_us = 0;
    if (!connection->reply.keep_alive) connection->close_when_sent = true;
}

static void abort_import(struct connection *connection)
{
    drop_import(connection);
    connection->close_when_sent = true;
}

void connection_cut_import(struct connection *connection)
{
    if (connection->import_cut || connection->import_fed) return;
    connection->import_cut = true;
    connection->import_ended = connection->import_fed = true;
    buf_clear(&connection->in);
    buf_clear(&connection->body);
    struct submission *submission = free_submission(connection);
    if (submission != NULL && submission->batch.write_count > 0)
        connection_submit(connection, submission);
    connection_go_on(connection);
    connection_flush(connection);
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

bool connection_process_import(struct connection *connection, struct slice *input)
{
    struct slice piece;
    enum status status = feed_rest(connection);
    while (status == STATUS_OK && !connection->import_fed) {
        piece = (struct slice){0};
        if (!connection->import_ended && !may_grow(connection)) {
            starve(connection);
            return false;
        }
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
    if (connection_is_in_flight(connection)) return false;
    end_import(connection);
    return true;
}
