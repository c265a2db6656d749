/* A read that the cluster answers: a request of HTTP on its way to the owners and back.
 *
 *   node_question_read()    parses it, on the thread of its connection; what it needs is copied
 *   `question->request`     is asked of the replica, by whoever has it
 *   node_question_take()    keeps the reply, on the replica's thread
 *   node_question_answer()  makes the answer, on the thread of its connection
 *
 * The same parameters, refusals and answers as of node_read(), which reads the own view. */
#pragma once

#include "cluster/request.h"
#include "node/jobs.h"
#include "node/node.h"
#include "node/params.h"

enum { QUESTION_DETAIL_BYTES = 320 };

struct node_question {
    struct heap *heap;
    enum node_endpoint endpoint;
    struct request
        request;       /* Its slices lie in `kept`; its kind is 0 when the cluster itself is asked
                               about: see node/topology.h. */
    node_id node;      /* NODE_NODE_RANGES: whose; 0: everybody's. */
    struct job_id job; /* NODE_ADMIN_JOB, NODE_ADMIN_CANCEL: which. */
    struct node_reply reply;
    struct node_params params; /* Alike. */
    struct buf kept;

    /* What came back. */
    enum request_outcome outcome;
    enum status status;
    struct buf entries; /* Packed (cluster/data_message.h); or the body of the answer. */
    uint64_t count;
    bool more;

    /* Of what is asked about the cluster itself (node/admin.h). */
    uint16_t http_status; /* 0: 200. */
    bool refused;         /* By `refusal`, in the words of `detail`. */
    enum problem_code refusal;
    char detail[QUESTION_DETAIL_BYTES];
};

void node_question_init(struct node_question *question, struct heap *heap);
void node_question_deinit(struct node_question *question);

/* Whether the endpoint is answered this way where there is a cluster. */
bool node_is_question(enum node_endpoint endpoint);

/* False when the request was refused: the answer is appended to `out`. */
bool node_question_read(struct node_question *question, struct node_reader *reader,
                        enum node_endpoint endpoint, const struct http_request *request,
                        uint32_t timeout_ms, struct buf *out);

/* What was borrowed may go afterwards. */
void node_question_take(struct node_question *question, const struct request_reply *reply);

void node_question_answer(struct node_question *question, struct node_reader *reader,
                          struct buf *out);

/* --- For the files of this layer --- */

/* Copies what the request and the parameters borrow. Errors: STATUS_NOMEM. */
enum status question_keep(struct node_question *question, const struct request *request,
                          const struct node_params *params);

/* The problem that a reply other than REQUEST_DONE is to a client, and words for it; NULL: those of
 * the problem. */
enum problem_code question_problem(const struct node_question *question, const char **detail);
