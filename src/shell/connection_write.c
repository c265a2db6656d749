/* Writes: handed to the engine together, answered when they come back. */
#include "shell/clock.h"
#include "shell/connection_private.h"

bool connection_is_write(enum node_endpoint endpoint)
{
    return endpoint == NODE_WORD_SET || endpoint == NODE_WORD_REMOVE ||
           endpoint == NODE_WORD_INCREMENT;
}

void connection_submit(struct connection *connection, struct submission *submission)
{
    node_batch_seal(&submission->batch);
    submission->write = (struct engine_write){
        .writes = submission->batch.writes,
        .outcomes = submission->batch.outcomes,
        .terms = submission->batch.terms,
        .count = submission->batch.write_count,
        .owner = connection,
        .is_load = connection->import != NULL,
    };
    submission->in_flight = true;
    submission->of_import = connection->import != NULL;
    loop_submit(connection->loop, submission);
}

static void go_on(struct connection *connection)
{
    if (connection->closing) return;
    connection_go_on(connection);
    connection_flush(connection);
}

static void take_back(struct connection *connection, struct submission *submission)
{
    struct node_batch *batch = &submission->batch;
    if (submission->question != NULL) {
        connection_answer_question(connection, submission);
    } else if (!submission->of_import) {
        node_batch_answer(batch, &connection->loop->reader, submission->write.status,
                          &connection->out);
        for (size_t i = 0; i < batch->item_count; i++)
            node_count(&connection->loop->reader, batch->items[i].endpoint,
                       connection->active_us - submission->begun_us);
    } else if (connection->import != NULL) {
        node_import_take(connection->import, batch, submission->write.status);
    }
    connection_empty_batch(connection, batch);
    go_on(connection);
}

void connection_returned(struct connection *connection, struct submission *submission, bool more)
{
    submission->in_flight = false;
    bool is_asked = submission->is_asked;
    if (is_asked && more) return; /* Answered together, and sent in one write. */
    if (is_asked) connection_answer_asked(connection);
    if (connection->closed) {
        connection_maybe_free(connection);
        return;
    }
    connection->active_us = clock_monotonic_us();
    if (is_asked)
        go_on(connection);
    else
        take_back(connection, submission);
}
