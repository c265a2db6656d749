/* Requests: heads, bodies, and which of them are answered at once. */
#include "shell/connection_private.h"

/* Answers to requests before this one have yet to come. */
static bool has_to_wait(const struct connection *connection)
{
    return connection->submissions[0].batch.item_count > 0 || connection->asked_count > 0;
}

void connection_refuse(struct connection *connection, const struct http_request *request,
                       enum problem_code code, const char *detail)
{
    struct node_reply reply = {.minor = 1};
    if (request != NULL) reply = node_reply_of(request);
    reply.keep_alive = false;
    if (connection->import == NULL && has_to_wait(connection)) {
        if (!connection->head_done) http_request_init(&connection->request);
        return;
    }
    node_refuse(&connection->loop->reader, &reply, code, detail, NULL, &connection->out);
    connection->close_when_sent = true;
    connection->rest_unread = true;
    connection->head_done = false;
}

static void begin_body(struct connection *connection)
{
    const struct http_request *request = &connection->request;
    connection->head_done = true;
    connection->continued = false;
    connection->chunked = (struct http_chunked){0};
    connection->chunked_at = request->head_bytes;
    connection->body_left = request->body == HTTP_BODY_LENGTH ? request->content_length : 0;
    buf_clear(&connection->body);
}

void connection_send_continue(struct connection *connection)
{
    if (!connection->request.expect_continue || connection->continued) return;
    if (has_to_wait(connection)) return; /* Answers before it first. */
    http_continue_append(&connection->out);
    connection->continued = true;
}

/* The whole body of a request that is not streamed. STATUS_PARTIAL: not here yet;
 * STATUS_INVALID: refused. `input` starts at the head. */
static enum status whole_body(struct connection *connection, struct slice *input,
                              struct slice *body)
{
    const struct http_request *request = &connection->request;
    uint64_t limit = connection->loop->limits.body_bytes_max;
    struct slice rest = slice_from(*input, request->head_bytes);

    if (request->body != HTTP_BODY_CHUNKED) {
        if (connection->body_left > limit) {
            connection_refuse(connection, request, PROBLEM_PAYLOAD_TOO_LARGE,
                              "the body is larger than max_body_bytes");
            return STATUS_INVALID;
        }
        if (rest.size < connection->body_left) {
            connection_send_continue(connection);
            return STATUS_PARTIAL;
        }
        *body = slice_prefix(rest, connection->body_left);
        *input = slice_from(rest, connection->body_left);
        return STATUS_OK;
    }

    struct slice piece;
    enum status status;
    rest = slice_from(*input, connection->chunked_at);
    while ((status = http_chunked_next(&connection->chunked, &rest, &piece)) == STATUS_OK) {
        buf_append_slice(&connection->body, piece);
        if (connection->body.size > limit) break;
    }
    connection->chunked_at = input->size - rest.size;
    /* Sizes and extensions of chunks count too: many small ones are no way round the limit. */
    uint64_t raw_limit = limit + limit / 2 + CONNECTION_IN_BYTES_MAX;
    if (connection->body.size > limit || connection->chunked_at > raw_limit) {
        connection_refuse(connection, request, PROBLEM_PAYLOAD_TOO_LARGE,
                          "the body is larger than max_body_bytes");
        return STATUS_INVALID;
    }
    if (status == STATUS_PARTIAL) {
        connection_send_continue(connection);
        return STATUS_PARTIAL;
    }
    if (status != STATUS_END) {
        connection_refuse(connection, request,
                          problem_code_of_status(connection->chunked.error_status),
                          connection->chunked.error_reason);
        return STATUS_INVALID;
    }
    *body = buf_slice(&connection->body);
    *input = rest;
    return STATUS_OK;
}

/* False: a member does not answer it by itself. */
static bool answer_read(struct connection *connection, enum node_endpoint endpoint,
                        const struct moment *moment)
{
    struct loop *loop = connection->loop;
    struct server_facts *facts = NULL;
    if (moment->own != NULL)
        return node_read_own(&loop->reader, endpoint, &connection->request, moment->view,
                             moment->wall_ms, moment->own, &connection->out);
    if (endpoint == NODE_READY || endpoint == NODE_STATS || endpoint == NODE_METRICS) {
        facts = heap_alloc(loop->heap, sizeof *facts);
        if (facts == NULL) {
            connection_refuse(connection, &connection->request, PROBLEM_OVERLOADED,
                              "there is no memory for the answer");
            return true;
        }
        server_facts(loop->server, facts);
    }
    node_read(&loop->reader, endpoint, &connection->request, moment->view, moment->wall_ms,
              facts == NULL ? NULL : &facts->node, &connection->out);
    heap_free(loop->heap, facts);
    return true;
}

/* Whether the answer depends on the target alone, and so does, for a member, who may give it. */
static bool is_cacheable(const struct connection *connection, enum node_endpoint endpoint)
{
    const struct http_request *request = &connection->request;
    struct slice token;
    if (connection->loop->cache.entries == NULL) return false;
    if (connection->loop->reader.in_cluster &&
        http_request_header(request, "x-trifecta-token", &token))
        return false;
    return endpoint == NODE_SEARCH_PLAIN && request->method == HTTP_GET && request->minor == 1 &&
           request->keep_alive && !node_echoes(request);
}

static void append_kept(struct connection *connection, struct slice answer)
{
    struct buf *out = &connection->out;
    uint8_t *to = buf_reserve(out, answer.size);
    if (to == NULL) return;
    memcpy(to, answer.data, answer.size);
    http_response_set_date(to, answer.size, connection->loop->reader.date);
    buf_commit(out, answer.size);
}

static bool answer_cached(struct connection *connection, enum node_endpoint endpoint,
                          const struct moment *moment)
{
    struct loop *loop = connection->loop;
    struct slice answer;
    uint64_t view = moment->view->number;
    struct slice target = connection->request.query;

    struct query query =
        store_query(moment->view, moment->wall_ms, loop->heap, loop->reader.scratch);
    bool settled = query_is_settled(&query);
    if (settled && answer_cache_get(&loop->cache, target, view, &answer)) {
        append_kept(connection, answer);
        atomic_fetch_add_explicit(&loop->reader.counters.cache_hits, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&loop->reader.counters.answers[2], 1, memory_order_relaxed);
        if (moment->own != NULL)
            atomic_fetch_add_explicit(&loop->reader.counters.reads_local, 1, memory_order_relaxed);
        node_count(&loop->reader, endpoint, 0);
        return true;
    }
    size_t before = connection->out.size;
    if (!answer_read(connection, endpoint, moment)) return false;
    atomic_fetch_add_explicit(&loop->reader.counters.cache_misses, 1, memory_order_relaxed);
    answer = slice_from(buf_slice(&connection->out), before);
    if (settled && buf_status(&connection->out) == STATUS_OK &&
        slice_starts_with(answer, SLICE_LITERAL("HTTP/1.1 200")))
        answer_cache_put(&loop->cache, target, view, answer);
    return true;
}

/* Reads, from the newest view; of a member, where that is enough, and else from the cluster. False: it
 * waits for the answers before it. */
static bool answer(struct connection *connection, enum node_endpoint endpoint)
{
    struct loop *loop = connection->loop;
    struct moment moment = {
        .view = engine_view(loop->server->engine),
        .wall_ms = loop->wall_ms,
    };
    bool is_question = loop->server->options.cluster != NULL && node_is_question(endpoint);
    bool may = node_may_read_own(endpoint) && connection->asked_count == 0;
    bool here = !is_question || (may && connection_own_moment(connection, &moment));
    if (here && is_cacheable(connection, endpoint))
        here = answer_cached(connection, endpoint, &moment);
    else if (here)
        here = answer_read(connection, endpoint, &moment);
    return here || connection_ask(connection, endpoint);
}

/* Reads of the cluster go on their way together; anything else waits for them. */
static bool may_be_asked(const struct connection *connection, enum node_endpoint endpoint)
{
    return node_is_question(endpoint) && connection->asked_count < CONNECTION_ASKED_MAX &&
           connection->request.body == HTTP_BODY_NONE && !server_is_over(connection->loop->server);
}

static void end_request(struct connection *connection)
{
    connection->head_done = false;
    connection->request_us = 0;
    connection_empty(connection, &connection->body);
    http_request_init(&connection->request);
}

/* Parses a head. False: more bytes are needed, or the connection is to be closed. */
static bool process_head(struct connection *connection, struct slice input)
{
    if (connection->request_us == 0) connection->request_us = connection->loop->request_us;
    bool again = connection->head_done; /* It has moved: its slices point to the old place. */
    if (again) http_request_init(&connection->request);
    enum status status =
        http_request_parse(&connection->request, &connection->loop->limits.http, input);
    if (status == STATUS_PARTIAL) return false;
    if (status != STATUS_OK) {
        connection_refuse(connection, NULL,
                          problem_code_of_status(connection->request.error_status),
                          connection->request.error_reason);
        return false;
    }
    if (!again) begin_body(connection);
    return true;
}

/* Who looks after the node is answered always. */
static bool is_new_work(enum node_endpoint endpoint)
{
    return endpoint != NODE_LIVE && endpoint != NODE_READY && endpoint != NODE_METRICS &&
           endpoint != NODE_STATS && endpoint != NODE_UNKNOWN;
}

/* Refuses a request of which no more than the head is looked at. One with a body ends the
 * connection: nobody reads the rest of it. */
static void refuse_by_head(struct connection *connection, struct slice *input,
                           enum problem_code code, const char *detail)
{
    const struct http_request *request = &connection->request;
    struct node_reply reply = node_reply_of(request);
    if (request->body != HTTP_BODY_NONE || !request->keep_alive) {
        connection_refuse(connection, request, code, detail);
        return;
    }
    node_refuse(&connection->loop->reader, &reply, code, detail, NULL, &connection->out);
    *input = slice_from(*input, request->head_bytes);
    end_request(connection);
}

/* Whether its head alone is reason enough to refuse a request. */
static bool is_refused_by_head(const struct connection *connection, enum node_endpoint endpoint,
                               enum problem_code *code, const char **detail)
{
    const struct server *server = connection->loop->server;
    if (!cross_site_admits(&server->options.cross_site, &connection->request, code, detail))
        return true;
    *code = PROBLEM_OVERLOADED;
    *detail = "memory_limit is reached";
    return is_new_work(endpoint) && server_is_over(server);
}

/* One request whose head is parsed. False: it waits for bytes, or for the writer. */
static bool process_request(struct connection *connection, struct slice *input)
{
    struct loop *loop = connection->loop;
    struct submission *pending = &connection->submissions[0];
    enum node_endpoint endpoint = node_route(&connection->request);
    enum problem_code code;
    const char *detail;
    bool last = false;
    struct slice body, before = *input;

    /* Answers leave in order: anything but one more write, or read of the cluster, waits for those before it. */
    if (!connection_is_write(endpoint) && pending->batch.item_count > 0) return false;
    if (connection->asked_count > 0 && !may_be_asked(connection, endpoint)) return false;
    if (is_refused_by_head(connection, endpoint, &code, &detail)) {
        if (has_to_wait(connection)) return false;
        refuse_by_head(connection, input, code, detail);
        return !connection->close_when_sent;
    }
    if (endpoint == NODE_IMPORT) {
        connection_begin_import(connection, input);
        return !connection->close_when_sent || connection->import != NULL;
    }
    enum status status = whole_body(connection, input, &body);
    if (status == STATUS_PARTIAL) return false;
    if (status != STATUS_OK) return false;
    if (!connection->request.keep_alive) last = true;

    if (connection_is_write(endpoint)) {
        status = node_batch_add_request(&pending->batch, &loop->reader, endpoint,
                                        &connection->request, body, loop->wall_ms);
        if (status != STATUS_OK) {
            connection_refuse(connection, &connection->request, PROBLEM_OVERLOADED,
                              "there is no memory for the write");
            return false;
        }
        if (pending->batch.item_count == 1) pending->begun_us = connection->request_us;
        end_request(connection);
        if (last) connection->close_when_sent = true;
        return !last && !node_batch_is_full(&pending->batch);
    }
    if (endpoint == NODE_EXPORT) {
        connection_begin_export(connection);
        if (connection->export != NULL) {
            connection->head_done = false;
            http_request_init(&connection->request);
            return true;
        }
    } else if (!answer(connection, endpoint)) {
        *input = before;
        return false;
    }
    end_request(connection);
    if (last) connection->close_when_sent = true;
    return !connection->close_when_sent;
}

void connection_process_input(struct connection *connection, struct slice *input)
{
    for (;;) {
        if (connection->closing) return;
        if (connection->import != NULL) {
            if (!connection_process_import(connection, input)) return;
            http_request_init(&connection->request);
            if (connection->close_when_sent) return;
        }
        if (connection->export != NULL) {
            if (!connection_process_export(connection)) return;
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
