/* Reads of a node in a cluster: handed to its replica, answered when they come back. */
#include "base/math.h"
#include "shell/clock.h"
#include "shell/connection_private.h"

struct node_question *connection_question(struct connection *connection)
{
    struct heap *heap = connection->loop->heap;
    struct node_question *question = heap_alloc(heap, sizeof *question);
    if (question != NULL) node_question_init(question, heap);
    return question;
}

void connection_free_question(struct connection *connection, struct submission *submission)
{
    if (submission->question == NULL) return;
    node_question_deinit(submission->question);
    heap_free(connection->loop->heap, submission->question);
    submission->question = NULL;
}

void connection_submit_question(struct connection *connection, struct submission *submission)
{
    submission->write = (struct engine_write){
        .question = submission->question,
        .owner = connection,
    };
    submission->in_flight = true;
    submission->of_import = false;
    loop_submit(connection->loop, submission);
}

void connection_ask(struct connection *connection, enum node_endpoint endpoint)
{
    struct loop *loop = connection->loop;
    struct submission *submission = &connection->submissions[0];
    uint64_t timeout_ms = u64_min(loop->limits.request_timeout_ms, REQUEST_TIMEOUT_MS_MAX);
    submission->question = connection_question(connection);
    if (submission->question == NULL) {
        connection_refuse(connection, &connection->request, PROBLEM_OVERLOADED,
                          "there is no memory for the request");
        return;
    }
    if (!node_question_read(submission->question, &loop->reader, endpoint, &connection->request,
                            (uint32_t)timeout_ms, &connection->out)) {
        connection_free_question(connection, submission);
        node_count(&loop->reader, endpoint, clock_monotonic_us() - connection->request_us);
        return;
    }
    submission->begun_us = connection->request_us;
    if (node_may_read_own(endpoint))
        atomic_fetch_add_explicit(&loop->reader.counters.reads_coordinated, 1,
                                  memory_order_relaxed);
    connection_submit_question(connection, submission);
}

void connection_answer_question(struct connection *connection, struct submission *submission)
{
    struct loop *loop = connection->loop;
    struct node_question *question = submission->question;
    if (submission->write.status != STATUS_OK)
        node_question_take(question, &(struct request_reply){.outcome = REQUEST_REFUSED,
                                                             .status = submission->write.status});
    if (connection->export != NULL) return; /* It takes what came. */
    loop->request_us = submission->begun_us;
    node_question_answer(question, &loop->reader, &connection->out);
    connection_free_question(connection, submission);
}
