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

static void asked_free(struct connection *connection, struct asked *asked)
{
    if (asked == NULL) return;
    connection_free_question(connection, &asked->submission);
    heap_free(connection->loop->heap, asked);
}

static struct asked *asked_create(struct connection *connection)
{
    struct asked *asked = heap_zalloc(connection->loop->heap, sizeof *asked);
    if (asked == NULL) return NULL;
    asked->submission.connection = connection;
    asked->submission.is_asked = true;
    asked->submission.question = connection_question(connection);
    if (asked->submission.question != NULL) return asked;
    asked_free(connection, asked);
    return NULL;
}

static void append(struct connection *connection, struct asked *asked)
{
    if (connection->asked_first == NULL)
        connection->asked_first = asked;
    else
        connection->asked_last->next = asked;
    connection->asked_last = asked;
    connection->asked_count++;
}

bool connection_ask(struct connection *connection, enum node_endpoint endpoint)
{
    struct loop *loop = connection->loop;
    bool first = connection->asked_count == 0;
    size_t before = connection->out.size;
    uint64_t timeout_ms = u64_min(loop->limits.request_timeout_ms, REQUEST_TIMEOUT_MS_MAX);
    struct asked *asked = asked_create(connection);
    if (asked == NULL) {
        connection_refuse(connection, &connection->request, PROBLEM_OVERLOADED,
                          "there is no memory for the request");
        return first;
    }
    struct submission *submission = &asked->submission;
    if (!node_question_read(submission->question, &loop->reader, endpoint, &connection->request,
                            (uint32_t)timeout_ms, &connection->out)) {
        asked_free(connection, asked);
        if (first)
            node_count(&loop->reader, endpoint, clock_monotonic_us() - connection->request_us);
        else
            connection->out.size = before; /* It is said again, in its turn. */
        return first;
    }
    append(connection, asked);
    submission->begun_us = connection->request_us;
    if (node_may_read_own(endpoint))
        atomic_fetch_add_explicit(&loop->reader.counters.reads_coordinated, 1,
                                  memory_order_relaxed);
    connection_submit_question(connection, submission);
    return true;
}

void connection_answer_asked(struct connection *connection)
{
    while (connection->asked_first != NULL && !connection->asked_first->submission.in_flight) {
        struct asked *asked = connection->asked_first;
        connection->asked_first = asked->next;
        connection->asked_count--;
        if (!connection->closing) connection_answer_question(connection, &asked->submission);
        asked_free(connection, asked);
    }
}

static void take_failure(struct submission *submission)
{
    if (submission->write.status != STATUS_OK)
        node_question_take(submission->question,
                           &(struct request_reply){.outcome = REQUEST_REFUSED,
                                                   .status = submission->write.status});
}

void connection_answer_question(struct connection *connection, struct submission *submission)
{
    struct loop *loop = connection->loop;
    struct node_question *question = submission->question;
    take_failure(submission);
    if (connection->export != NULL) return; /* It takes what came. */
    loop->request_us = submission->begun_us;
    node_question_answer(question, &loop->reader, &connection->out);
    connection_free_question(connection, submission);
}
