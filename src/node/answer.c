/* Routes, refusals and the frame of every answer. */
#include <stdio.h>

#include "base/check.h"
#include "cluster/token.h"
#include "node/node.h"
#include "proto/base64.h"

struct route {
    struct slice path;
    enum http_method method;
    enum node_endpoint endpoint;
    bool has_id; /* Something stands in the path for {id}. */
};

static const struct route routes[] = {
    {SLICE_INITIALIZER("/search"), HTTP_GET, NODE_SEARCH_PLAIN},
    {SLICE_INITIALIZER("/api/v1/search"), HTTP_GET, NODE_SEARCH},
    {SLICE_INITIALIZER("/api/v1/words"), HTTP_POST, NODE_WORD_SET},
    {SLICE_INITIALIZER("/api/v1/words"), HTTP_GET, NODE_WORD_GET},
    {SLICE_INITIALIZER("/api/v1/words"), HTTP_DELETE, NODE_WORD_REMOVE},
    {SLICE_INITIALIZER("/api/v1/words/increment"), HTTP_POST, NODE_WORD_INCREMENT},
    {SLICE_INITIALIZER("/api/v1/count"), HTTP_GET, NODE_COUNT},
    {SLICE_INITIALIZER("/api/v1/import"), HTTP_POST, NODE_IMPORT},
    {SLICE_INITIALIZER("/api/v1/export"), HTTP_GET, NODE_EXPORT},
    {SLICE_INITIALIZER("/api/v1/stats"), HTTP_GET, NODE_STATS},
    {SLICE_INITIALIZER("/metrics"), HTTP_GET, NODE_METRICS},
    {SLICE_INITIALIZER("/nodes"), HTTP_GET, NODE_NODES},
    {SLICE_INITIALIZER("/nodes/{id}/ranges"), HTTP_GET, NODE_NODE_RANGES, true},
    {SLICE_INITIALIZER("/search/nodes"), HTTP_GET, NODE_SEARCH_NODES},
    {SLICE_INITIALIZER("/api/v1/admin/drain"), HTTP_POST, NODE_ADMIN_DRAIN},
    {SLICE_INITIALIZER("/api/v1/admin/remove"), HTTP_POST, NODE_ADMIN_REMOVE},
    {SLICE_INITIALIZER("/api/v1/admin/replace"), HTTP_POST, NODE_ADMIN_REPLACE},
    {SLICE_INITIALIZER("/api/v1/admin/rebalance"), HTTP_POST, NODE_ADMIN_REBALANCE},
    {SLICE_INITIALIZER("/api/v1/admin/repair"), HTTP_POST, NODE_ADMIN_REPAIR},
    {SLICE_INITIALIZER("/api/v1/admin/recover"), HTTP_POST, NODE_ADMIN_RECOVER},
    {SLICE_INITIALIZER("/api/v1/admin/jobs"), HTTP_GET, NODE_ADMIN_JOBS},
    {SLICE_INITIALIZER("/api/v1/admin/jobs/{id}"), HTTP_GET, NODE_ADMIN_JOB, true},
    {SLICE_INITIALIZER("/api/v1/admin/jobs/{id}"), HTTP_DELETE, NODE_ADMIN_CANCEL, true},
    {SLICE_INITIALIZER("/live"), HTTP_GET, NODE_LIVE},
    {SLICE_INITIALIZER("/livez"), HTTP_GET, NODE_LIVE},
    {SLICE_INITIALIZER("/ready"), HTTP_GET, NODE_READY},
    {SLICE_INITIALIZER("/readyz"), HTTP_GET, NODE_READY},
    {SLICE_INITIALIZER("/healthz"), HTTP_GET, NODE_READY},
    {SLICE_INITIALIZER("/openapi.json"), HTTP_GET, NODE_OPENAPI},
};

enum { ROUTE_COUNT = sizeof routes / sizeof *routes };

bool node_route_at(size_t index, struct slice *path, enum http_method *method)
{
    if (index >= ROUTE_COUNT) return false;
    *path = routes[index].path;
    *method = routes[index].method;
    return true;
}

/* `*id` is what stands for {id}. */
static bool fits(const struct route *route, struct slice path, struct slice *id)
{
    static const struct slice mark = SLICE_INITIALIZER("{id}");
    if (!route->has_id) return slice_equal(route->path, path);
    const uint8_t *at = memmem(route->path.data, route->path.size, mark.data, mark.size);
    CHECK(at != NULL);
    struct slice before = slice_prefix(route->path, (size_t)(at - route->path.data));
    struct slice after = slice_from(route->path, before.size + mark.size);
    if (path.size <= before.size + after.size) return false;
    *id = slice_of(path.data + before.size, path.size - before.size - after.size);
    return slice_starts_with(path, before) &&
           slice_equal(slice_from(path, path.size - after.size), after) &&
           memchr(id->data, '/', id->size) == NULL;
}

struct slice node_path_id(const struct http_request *request)
{
    struct slice id = {0};
    for (int i = 0; i < ROUTE_COUNT; i++)
        if (fits(&routes[i], request->path, &id)) return id;
    return (struct slice){0};
}

enum node_endpoint node_route(const struct http_request *request)
{
    enum http_method method = request->method == HTTP_HEAD ? HTTP_GET : request->method;
    struct slice id;
    for (int i = 0; i < ROUTE_COUNT; i++)
        if (routes[i].method == method && fits(&routes[i], request->path, &id))
            return routes[i].endpoint;
    return NODE_UNKNOWN;
}

/* The methods of a path for `Allow`; empty when there is no such path. */
static void append_methods(struct slice path, struct buf *out)
{
    struct slice id;
    for (int i = 0; i < ROUTE_COUNT; i++) {
        if (!fits(&routes[i], path, &id)) continue;
        if (out->size > 0) buf_append_text(out, ", ");
        buf_append_text(out, http_method_name(routes[i].method));
        if (routes[i].method == HTTP_GET) buf_append_text(out, ", HEAD");
    }
}

/* What goes back into a header, a log or a terminal holds nothing that commands one. */
static bool is_visible(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] <= ' ' || text.data[i] > '~') return false;
    return true;
}

static bool is_hex(struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = text.data[i];
        if (!(byte >= '0' && byte <= '9') && !(byte >= 'a' && byte <= 'f')) return false;
    }
    return true;
}

static bool is_zero(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] != '0') return false;
    return true;
}

static struct slice trace_id(struct slice traceparent)
{
    return slice_of(traceparent.data + 3, 32);
}

/* version "-" trace id "-" parent id "-" flags; what is not that is passed over. */
static bool is_traceparent(struct slice text)
{
    if (text.size != NODE_TRACEPARENT_BYTES) return false;
    struct slice version = slice_prefix(text, 2);
    struct slice parent = slice_of(text.data + 36, 16);
    struct slice flags = slice_of(text.data + 53, 2);
    if (text.data[2] != '-' || text.data[35] != '-' || text.data[52] != '-') return false;
    if (!is_hex(version) || slice_equal(version, SLICE_LITERAL("ff"))) return false;
    if (!is_hex(trace_id(text)) || is_zero(trace_id(text))) return false;
    return is_hex(parent) && !is_zero(parent) && is_hex(flags);
}

struct node_reply node_reply_of(const struct http_request *request)
{
    struct slice value;
    struct node_reply reply = {
        .minor = request->minor,
        .keep_alive = request->keep_alive,
        .head_only = request->method == HTTP_HEAD,
    };
    if (http_request_header(request, "x-request-id", &value) && value.size > 0 &&
        value.size <= sizeof reply.request_id && is_visible(value)) {
        memcpy(reply.request_id, value.data, value.size);
        reply.request_id_size = (uint8_t)value.size;
    }
    if (http_request_header(request, "traceparent", &value) && is_traceparent(value)) {
        memcpy(reply.traceparent, value.data, value.size);
        reply.has_traceparent = true;
    }
    return reply;
}

bool node_echoes(const struct http_request *request)
{
    struct slice value;
    return http_request_header(request, "x-request-id", &value) ||
           http_request_header(request, "traceparent", &value);
}

void node_echo(const struct node_reply *reply, struct buf *headers)
{
    if (reply->request_id_size > 0)
        http_header_append(headers, "X-Request-Id",
                           slice_of(reply->request_id, reply->request_id_size));
    if (reply->has_traceparent)
        http_header_append(headers, "traceparent",
                           slice_of(reply->traceparent, sizeof reply->traceparent));
}

/* Who asks about a refusal can name it. */
static void give_id(struct node_reader *reader, struct node_reply *reply)
{
    char text[17];
    if (reply->request_id_size > 0) return;
    if (reply->has_traceparent) {
        struct slice id = trace_id(slice_of(reply->traceparent, sizeof reply->traceparent));
        memcpy(reply->request_id, id.data, id.size);
        reply->request_id_size = (uint8_t)id.size;
        return;
    }
    snprintf(text, sizeof text, "%016llx", (unsigned long long)prng_u64(&reader->prng));
    memcpy(reply->request_id, text, 16);
    reply->request_id_size = 16;
}

/* `reader->headers` holds what is to be added. */
static void append_answer(struct node_reader *reader, const struct node_reply *reply,
                          uint16_t status, const char *content_type, struct slice body,
                          struct buf *out)
{
    node_echo(reply, &reader->headers);
    http_response_append(out, &(struct http_response){
                                  .status = status,
                                  .minor = reply->minor,
                                  .keep_alive = reply->keep_alive,
                                  .body = HTTP_BODY_LENGTH,
                                  .content_length = body.size,
                                  .content_type = content_type,
                                  .date = node_date(reader),
                                  .headers = buf_slice(&reader->headers),
                              });
    if (!reply->head_only) buf_append_slice(out, body);
    unsigned digit = status / 100;
    CHECK(digit < 6);
    atomic_fetch_add_explicit(&reader->counters.answers[digit], 1, memory_order_relaxed);
}

void node_answer(struct node_reader *reader, const struct node_reply *reply, uint16_t status,
                 const char *content_type, struct slice body, struct buf *out)
{
    buf_clear(&reader->headers);
    append_answer(reader, reply, status, content_type, body, out);
}

void node_answer_write(struct node_reader *reader, const struct node_reply *reply, uint16_t status,
                       struct slice body, struct slice token, struct buf *out)
{
    buf_clear(&reader->headers);
    if (token.size > 0) {
        buf_clear(&reader->error);
        base64_encode(BASE64_URL, token, &reader->error);
        http_header_append(&reader->headers, "X-Trifecta-Token", buf_slice(&reader->error));
        if (reader->error.failed) reader->headers.failed = true;
    }
    append_answer(reader, reply, status, "application/json", body, out);
}

const char node_bad_token[] =
    "X-Trifecta-Token was altered: it is what a node of this cluster gave";

enum status node_read_token(const struct node_reader *reader, const struct http_request *request,
                            struct buf *out)
{
    struct slice text;
    struct token token;
    size_t at = out->size;
    if (!reader->in_cluster || !http_request_header(request, "x-trifecta-token", &text))
        return STATUS_OK;
    enum status status = base64_decode(BASE64_URL, text, out);
    if (status == STATUS_OK) status = token_decode(slice_from(buf_slice(out), at), &token);
    if (status != STATUS_OK) out->size = at;
    return status;
}

static void refuse(struct node_reader *reader, const struct node_reply *asked,
                   enum problem_code code, const char *detail, const char *field,
                   struct slice members, struct buf *out)
{
    struct node_reply reply = *asked;
    give_id(reader, &reply);
    buf_clear(&reader->error);
    problem_append(&reader->error,
                   &(struct problem){
                       .code = code,
                       .detail = detail,
                       .field = field == NULL ? (struct slice){0} : slice_from_text(field),
                       .request_id = slice_of(reply.request_id, reply.request_id_size),
                       .members = members,
                   });
    append_answer(reader, &reply, problem_status(code), "application/problem+json",
                  buf_slice(&reader->error), out);
}

/* Headers of a refusal that its code alone calls for. */
static void begin_headers(struct node_reader *reader, enum problem_code code)
{
    uint16_t status = problem_status(code);
    buf_clear(&reader->headers);
    if (status == 503 || status == 429)
        http_header_append(&reader->headers, "Retry-After", SLICE_LITERAL("1"));
}

void node_refuse(struct node_reader *reader, const struct node_reply *reply, enum problem_code code,
                 const char *detail, const char *field, struct buf *out)
{
    begin_headers(reader, code);
    refuse(reader, reply, code, detail, field, (struct slice){0}, out);
}

void node_refuse_with(struct node_reader *reader, const struct node_reply *reply,
                      enum problem_code code, const char *detail, struct slice members,
                      struct buf *out)
{
    begin_headers(reader, code);
    refuse(reader, reply, code, detail, NULL, members, out);
}

void node_refuse_route(struct node_reader *reader, const struct http_request *request,
                       struct buf *out)
{
    struct node_reply reply = node_reply_of(request);
    buf_clear(&reader->body);
    append_methods(request->path, &reader->body);
    buf_clear(&reader->headers);
    if (reader->body.size == 0) {
        refuse(reader, &reply, PROBLEM_NOT_FOUND, "there is no such route", NULL, (struct slice){0},
               out);
        return;
    }
    http_header_append(&reader->headers, "Allow", buf_slice(&reader->body));
    refuse(reader, &reply, PROBLEM_METHOD_NOT_ALLOWED,
           "the route does not take this method; Allow names those that it takes", NULL,
           (struct slice){0}, out);
}

enum problem_code node_problem_of(enum status status)
{
    switch (status) {
    case STATUS_INVALID:
    case STATUS_LIMIT:
        return PROBLEM_BAD_REQUEST;
    case STATUS_NOT_FOUND:
        return PROBLEM_NOT_FOUND;
    case STATUS_FULL:
        return PROBLEM_DISK_FULL;
    case STATUS_READ_ONLY:
    case STATUS_IO:
        return PROBLEM_READ_ONLY;
    case STATUS_BUSY:
    case STATUS_NOMEM:
        return PROBLEM_OVERLOADED;
    case STATUS_TIMEOUT:
        return PROBLEM_TIMEOUT;
    default:
        return PROBLEM_INTERNAL;
    }
}

enum problem_code node_problem_of_outcome(enum request_outcome outcome, enum status status)
{
    switch (outcome) {
    case REQUEST_ABSENT:
        return PROBLEM_NOT_FOUND;
    case REQUEST_NO_HEALTHY_OWNER:
        return PROBLEM_NO_HEALTHY_OWNER;
    case REQUEST_QUORUM_NOT_MET:
        return PROBLEM_QUORUM_NOT_MET;
    case REQUEST_TIMED_OUT:
        return PROBLEM_TIMEOUT;
    default:
        return node_problem_of(status);
    }
}

enum fold node_fold(struct slice name)
{
    (void)name; /* Namespace settings come with the admin routes; until then all fold alike. */
    return FOLD_CASE;
}

void node_count(struct node_reader *reader, enum node_endpoint endpoint, uint64_t took_us)
{
    struct node_counters *counters = &reader->counters;
    int bucket = 0;
    while (bucket < NODE_LATENCY_BUCKET_COUNT && took_us > node_latency_bound_us(bucket)) bucket++;
    atomic_fetch_add_explicit(&counters->requests[endpoint], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&counters->latency[endpoint][bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&counters->latency_us_sum[endpoint], took_us, memory_order_relaxed);
}

uint64_t node_latency_bound_us(int bucket)
{
    static const uint64_t bounds_us[NODE_LATENCY_BUCKET_COUNT] = {
        10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 50000, 250000, 1000000, 5000000,
    };
    return bounds_us[bucket];
}

void node_reader_set_time(struct node_reader *reader, uint64_t now_ms)
{
    uint64_t now_s = now_ms / 1000;
    if (reader->date_s == now_s && reader->date[0] != '\0') return;
    reader->date_s = now_s;
    http_date_format(now_s, reader->date);
}

enum status node_reader_init(struct node_reader *reader, struct heap *heap, uint64_t seed)
{
    *reader = (struct node_reader){.heap = heap, .prng = {.state = seed}};
    struct buf *const bufs[] = {&reader->decoded, &reader->prefix, &reader->key,
                                &reader->word,    &reader->body,   &reader->headers,
                                &reader->cursor,  &reader->error};
    for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++) buf_init(bufs[i], heap);
    walks_init(&reader->walks, heap);
    return query_scratch_create(heap, &reader->scratch);
}

void node_reader_deinit(struct node_reader *reader)
{
    struct buf *const bufs[] = {&reader->decoded, &reader->prefix, &reader->key,
                                &reader->word,    &reader->body,   &reader->headers,
                                &reader->cursor,  &reader->error};
    for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++) buf_deinit(bufs[i]);
    walks_deinit(&reader->walks);
    query_scratch_destroy(reader->scratch);
    reader->scratch = NULL;
}
