#include "node/question.h"

#include "base/check.h"
#include "cluster/data_message.h"
#include "core/key.h"
#include "node/asking.h"

void node_question_init(struct node_question *question, struct heap *heap)
{
    *question = (struct node_question){.heap = heap};
    buf_init(&question->kept, heap);
    buf_init(&question->entries, heap);
}

void node_question_deinit(struct node_question *question)
{
    buf_deinit(&question->kept);
    buf_deinit(&question->entries);
}

static bool is_of_cluster(enum node_endpoint endpoint)
{
    return endpoint == NODE_NODES || endpoint == NODE_NODE_RANGES ||
           endpoint == NODE_SEARCH_NODES || node_is_admin(endpoint);
}

bool node_is_question(enum node_endpoint endpoint)
{
    return endpoint == NODE_SEARCH_PLAIN || endpoint == NODE_SEARCH || endpoint == NODE_COUNT ||
           endpoint == NODE_WORD_GET || is_of_cluster(endpoint);
}

static void keep(struct buf *kept, const uint8_t *base, struct slice *slice)
{
    struct slice copy = {base + kept->size, slice->size};
    buf_append_slice(kept, *slice);
    *slice = copy;
}

enum status question_keep(struct node_question *question, const struct request *request,
                          const struct node_params *params)
{
    question->request = *request;
    question->params = *params;
    struct slice *const slices[] = {
        &question->request.key,   &question->request.after.key, &question->request.from.key,
        &question->params.ns,     &question->params.q,          &question->params.word,
        &question->request.token,
    };
    size_t size = 1;
    for (size_t i = 0; i < sizeof slices / sizeof *slices; i++) size += slices[i]->size;
    buf_clear(&question->kept);
    /* All of it at once, so that nothing moves. */
    const uint8_t *base = buf_reserve(&question->kept, size);
    if (base == NULL) return STATUS_NOMEM;
    for (size_t i = 0; i < sizeof slices / sizeof *slices; i++)
        keep(&question->kept, base, slices[i]);
    question->params.cursor = (struct slice){0}; /* It is read. */
    return STATUS_OK;
}

/* --- Asking --- */

static bool ask_get(struct asking *asking, struct request *request)
{
    if (!asking_read_word(asking)) return false;
    request->kind = REQUEST_GET;
    request->key = buf_slice(&asking->reader->key);
    return true;
}

static bool ask_count(struct asking *asking, struct request *request)
{
    if (!asking_read_params(asking, NODE_PARAM_NS | NODE_PARAM_Q | NODE_PARAM_CONSISTENCY))
        return false;
    enum status status = asking_read_prefix(asking);
    if (status != STATUS_OK) asking_refuse_status(asking, status);
    request->kind = REQUEST_COUNT;
    request->key = buf_slice(&asking->reader->prefix);
    return status == STATUS_OK;
}

/* The id of a node, or `all`, which is 0. */
static bool read_node(struct slice text, node_id *out)
{
    *out = 0;
    return slice_equal(text, SLICE_LITERAL("all")) || node_id_read(text, out);
}

static unsigned params_of(enum node_endpoint endpoint)
{
    switch (endpoint) {
    case NODE_SEARCH_NODES:
        return NODE_PARAM_NS | NODE_PARAM_Q;
    case NODE_ADMIN_DRAIN:
        return NODE_PARAM_NODE;
    case NODE_ADMIN_REMOVE:
        return NODE_PARAM_NODE | NODE_PARAM_FORCE;
    case NODE_ADMIN_REPLACE:
        return NODE_PARAM_NODE | NODE_PARAM_WITH | NODE_PARAM_FORCE;
    case NODE_ADMIN_REBALANCE:
        return NODE_PARAM_NODE | NODE_PARAM_WEIGHT;
    case NODE_ADMIN_RECOVER:
        return NODE_PARAM_LOST | NODE_PARAM_FORCE;
    default:
        return 0;
    }
}

/* Administration takes its parameters as all other routes do. */
static bool has_body(const struct http_request *http)
{
    return http->body == HTTP_BODY_CHUNKED ||
           (http->body == HTTP_BODY_LENGTH && http->content_length > 0);
}

static bool ask_of_cluster(struct asking *asking, struct node_question *question,
                           struct request *request)
{
    enum node_endpoint endpoint = question->endpoint;
    if (!asking_read_params(asking, params_of(endpoint))) return false;
    struct slice id = node_path_id(asking->request);
    if (endpoint == NODE_NODE_RANGES && !read_node(id, &question->node)) {
        asking_refuse(asking, PROBLEM_NOT_FOUND,
                      "there is no such node: a number from 1 to 65535, or all, was expected",
                      NULL);
        return false;
    }
    if (node_is_admin(endpoint) && has_body(asking->request)) {
        asking_refuse(asking, PROBLEM_BAD_REQUEST,
                      "administration takes parameters in the target, and no body", NULL);
        return false;
    }
    if (endpoint == NODE_ADMIN_JOB || endpoint == NODE_ADMIN_CANCEL) {
        if (job_id_read(id, &question->job)) return true;
        asking_refuse(asking, PROBLEM_NOT_FOUND, "there is no such job", NULL);
        return false;
    }
    if (endpoint != NODE_SEARCH_NODES) return true;
    enum status status = asking_read_prefix(asking);
    if (status != STATUS_OK) asking_refuse_status(asking, status);
    request->key = buf_slice(&asking->reader->prefix);
    return status == STATUS_OK;
}

bool node_question_read(struct node_question *question, struct node_reader *reader,
                        enum node_endpoint endpoint, const struct http_request *http,
                        uint32_t timeout_ms, struct buf *out)
{
    struct request request = {.timeout_ms = timeout_ms};
    struct asking asking = {
        .reader = reader,
        .request = http,
        .reply = node_reply_of(http),
        .out = out,
    };
    bool asks;
    question->node = 0;
    question->endpoint = endpoint;
    if (is_of_cluster(endpoint))
        asks = ask_of_cluster(&asking, question, &request);
    else if (endpoint == NODE_WORD_GET)
        asks = ask_get(&asking, &request);
    else if (endpoint == NODE_COUNT)
        asks = ask_count(&asking, &request);
    else
        asks = asking_search_ask(&asking, &request);
    if (!asks) return false;
    buf_clear(&reader->headers);
    enum status status = node_read_token(reader, http, &reader->headers);
    request.token = buf_slice(&reader->headers);
    if (status == STATUS_INVALID)
        asking_refuse(&asking, PROBLEM_INVALID_PARAMETER, node_bad_token, "X-Trifecta-Token");
    else if (status != STATUS_OK)
        asking_refuse_status(&asking, status);
    if (status != STATUS_OK) return false;
    request.has_consistency = (asking.params.given & NODE_PARAM_CONSISTENCY) != 0;
    request.consistency = asking.params.consistency;
    question->reply = asking.reply;
    if (question_keep(question, &request, &asking.params) == STATUS_OK) return true;
    asking_refuse_status(&asking, STATUS_NOMEM);
    return false;
}

/* --- The reply --- */

void node_question_take(struct node_question *question, const struct request_reply *reply)
{
    struct buf encoded = {.heap = question->heap};
    buf_clear(&question->entries);
    for (size_t i = 0; i < reply->entry_count; i++) {
        buf_clear(&encoded);
        record_encode(&reply->entries[i].record, &encoded);
        data_entry_append(&question->entries, reply->entries[i].key, buf_slice(&encoded));
        if (encoded.failed) question->entries.failed = true;
    }
    buf_deinit(&encoded);
    question->outcome = reply->outcome;
    question->status = reply->status;
    question->count = reply->count;
    question->more = reply->more;
    if (buf_status(&question->entries) == STATUS_OK) return;
    question->outcome = REQUEST_REFUSED;
    question->status = STATUS_NOMEM;
    buf_deinit(&question->entries);
}

/* --- Answering --- */

enum problem_code question_problem(const struct node_question *question, const char **detail)
{
    *detail = NULL;
    if (question->outcome == REQUEST_ABSENT)
        *detail = question->node != 0 ? "there is no such node" : "there is no such word";
    if (question->outcome == REQUEST_TIMED_OUT)
        *detail = "the nodes that were asked did not answer in time";
    if (question->outcome == REQUEST_REFUSED && question->status == STATUS_CORRUPT)
        *detail = "a data file is damaged; /ready names it";
    return node_problem_of_outcome(question->outcome, question->status);
}

static void answer_get(struct asking *asking, const struct node_question *question)
{
    struct slice rest = buf_slice(&question->entries);
    struct request_entry entry;
    if (!data_entry_next(&rest, &entry)) {
        asking_refuse_status(asking, STATUS_NOT_FOUND);
        return;
    }
    asking_answer_word(asking, question->params.word, &entry.record);
}

void node_question_answer(struct node_question *question, struct node_reader *reader,
                          struct buf *out)
{
    struct asking asking = {
        .reader = reader,
        .reply = question->reply,
        .params = question->params,
        .out = out,
    };
    const char *detail;
    if (question->refused) {
        asking_refuse(&asking, question->refusal, question->detail, NULL);
    } else if (question->outcome != REQUEST_DONE) {
        enum problem_code code = question_problem(question, &detail);
        bool no_word = question->outcome == REQUEST_ABSENT && question->node == 0;
        asking_refuse(&asking, code, detail, no_word ? "word" : NULL);
    } else if (is_of_cluster(question->endpoint)) {
        node_answer(reader, &asking.reply, question->http_status == 0 ? 200 : question->http_status,
                    "application/json", buf_slice(&question->entries), out);
    } else if (question->endpoint == NODE_WORD_GET) {
        answer_get(&asking, question);
    } else if (question->endpoint == NODE_COUNT) {
        asking_answer_count(&asking, question->count);
    } else {
        asking_search_answer(&asking, question);
    }
    node_count(reader, question->endpoint, reader->elapsed_us(reader->context));
}
