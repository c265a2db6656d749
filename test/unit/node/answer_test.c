/* Routes, and what every answer has whatever it is about. */
#include <ctype.h>
#include <jansson.h>
#include <string.h>

#include "node/node.h"
#include "node/openapi.h"
#include "test.h"

static struct heap heap;
static struct node_reader reader;
static struct http_request request;
static struct buf out;

static uint64_t no_time(void *context)
{
    (void)context;
    return 0;
}

/* Gives the answer of a route that needs no store. */
static const char *ask(const char *head)
{
    static const struct http_limits limits = {16 << 10, 64 << 10};
    if (reader.heap == NULL) {
        heap_init(&heap, 0);
        EXPECT(node_reader_init(&reader, &heap, test_seed) == STATUS_OK);
        reader.elapsed_us = no_time;
        buf_init(&out, &heap);
    }
    buf_clear(&out);
    http_request_init(&request);
    EXPECT(http_request_parse(&request, &limits, slice_from_text(head)) == STATUS_OK);
    node_read(&reader, node_route(&request), &request, NULL, 0, NULL, &out);
    buf_append_u8(&out, 0);
    EXPECT(buf_status(&out) == STATUS_OK);
    return (const char *)out.data;
}

static bool has(const char *answer, const char *part)
{
    return strstr(answer, part) != NULL;
}

#define TRACE "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

TEST_CASE(ids_of_the_client_come_back)
{
    const char *answer = ask("GET /live HTTP/1.1\r\nHost: a\r\nX-Request-Id: b7\r\n"
                             "traceparent: " TRACE "\r\n\r\n");
    EXPECT(has(answer, "HTTP/1.1 200 OK\r\n"));
    EXPECT(has(answer, "\r\nX-Request-Id: b7\r\n"));
    EXPECT(has(answer, "\r\ntraceparent: " TRACE "\r\n"));
    answer = ask("GET /nope HTTP/1.1\r\nHost: a\r\nX-Request-Id: b7\r\n\r\n");
    EXPECT(has(answer, "\r\nX-Request-Id: b7\r\n"));
    EXPECT(has(answer, "\"request_id\":\"b7\""));
}

TEST_CASE(answers_say_what_time_it_is_once_it_is_known)
{
    EXPECT(!has(ask("GET /live HTTP/1.1\r\nHost: a\r\n\r\n"), "Date: "));
    node_reader_set_time(&reader, 784111777999);
    const char *date = "\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    EXPECT(has(ask("GET /live HTTP/1.1\r\nHost: a\r\n\r\n"), date));
    EXPECT(has(ask("GET /nope HTTP/1.1\r\nHost: a\r\n\r\n"), date));
    node_reader_set_time(&reader, 784111778000);
    EXPECT(has(ask("GET /live HTTP/1.1\r\nHost: a\r\n\r\n"), "08:49:38 GMT\r\n"));
}

TEST_CASE(a_refusal_without_an_id_is_given_one)
{
    char first[20];
    const char *answer = ask("GET /nope HTTP/1.1\r\nHost: a\r\n\r\n");
    const char *header = strstr(answer, "X-Request-Id: ");
    const char *field = strstr(answer, "\"request_id\":\"");
    EXPECT(header != NULL && field != NULL);
    EXPECT(memcmp(header + 14, field + 14, 16) == 0);
    EXPECT(field[30] == '"');
    EXPECT(strspn(field + 14, "0123456789abcdef") == 16);
    snprintf(first, sizeof first, "%.16s", field + 14);
    EXPECT(!has(ask("GET /nope HTTP/1.1\r\nHost: a\r\n\r\n"), first));
    EXPECT(!has(ask("GET /live HTTP/1.1\r\nHost: a\r\n\r\n"), "X-Request-Id"));

    answer = ask("GET /nope HTTP/1.1\r\nHost: a\r\ntraceparent: " TRACE "\r\n\r\n");
    EXPECT(has(answer, "\"request_id\":\"4bf92f3577b34da6a3ce929d0e0e4736\""));
}

TEST_CASE(ids_that_are_none_are_passed_over)
{
    static const char *const headers[] = {
        "X-Request-Id: two words",
        "X-Request-Id: \xc3\x9f",
        "X-Request-Id: 12345678901234567890123456789012345678901234567890123456789012345",
        "X-Request-Id:",
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
        "traceparent: ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "traceparent: 00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "traceparent: 00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "traceparent: 00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    };
    char head[256];
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        snprintf(head, sizeof head, "GET /live HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n", headers[i]);
        const char *answer = ask(head);
        EXPECT(has(answer, "HTTP/1.1 200 OK\r\n"));
        EXPECT(!has(answer, "X-Request-Id"));
        EXPECT(!has(answer, "traceparent"));
    }
}

TEST_CASE(a_route_names_its_methods)
{
    static const struct {
        const char *method, *path, *allow;
    } cases[] = {
        {"POST", "/search", "GET, HEAD"},
        {"PUT", "/api/v1/search", "GET, HEAD"},
        {"PUT", "/api/v1/words", "POST, GET, HEAD, DELETE"},
        {"GET", "/api/v1/words/increment", "POST"},
        {"DELETE", "/api/v1/count", "GET, HEAD"},
        {"HEAD", "/api/v1/import", "POST"},
        {"POST", "/api/v1/export", "GET, HEAD"},
        {"POST", "/api/v1/stats", "GET, HEAD"},
        {"PATCH", "/metrics", "GET, HEAD"},
        {"POST", "/live", "GET, HEAD"},
        {"POST", "/readyz", "GET, HEAD"},
        {"OPTIONS", "/healthz", "GET, HEAD"},
    };
    char head[128], allow[64];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: a\r\n\r\n", cases[i].method,
                 cases[i].path);
        snprintf(allow, sizeof allow, "\r\nAllow: %s\r\n", cases[i].allow);
        const char *answer = ask(head);
        EXPECT(has(answer, "HTTP/1.1 405 Method Not Allowed\r\n"));
        EXPECT(has(answer, allow));
        bool head_only = strcmp(cases[i].method, "HEAD") == 0;
        EXPECT(has(answer, "\"code\":\"method_not_allowed\"") == !head_only);
    }
}

TEST_CASE(what_is_no_route_is_not_found)
{
    static const char *const paths[] = {
        "/",         "/Search",       "/search/",  "//search",  "/api/v1", "/api/v1/words/x",
        "/%73earch", "/search/nodes", "/api/v2/x", "/metrics/a"};
    char head[128];
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", paths[i]);
        const char *answer = ask(head);
        EXPECT(has(answer, "HTTP/1.1 404 Not Found\r\n"));
        EXPECT(has(answer, "Content-Type: application/problem+json\r\n"));
        EXPECT(!has(answer, "Allow"));
    }
}

/* A HEAD answer has the headers of GET, and no body. */
TEST_CASE(head_is_get_without_its_body)
{
    char get[512];
    snprintf(get, sizeof get, "%s", ask("GET /live HTTP/1.1\r\nHost: a\r\n\r\n"));
    const char *head = ask("HEAD /live HTTP/1.1\r\nHost: a\r\n\r\n");
    size_t size = strlen(head);
    EXPECT(size >= 4 && strcmp(head + size - 4, "\r\n\r\n") == 0);
    EXPECT(strncmp(get, head, size) == 0 && strlen(get) > size);
}

TEST_CASE(a_client_may_come_back_after_503)
{
    struct node_reply reply = {.minor = 1, .keep_alive = true};
    static const enum problem_code codes[] = {PROBLEM_OVERLOADED, PROBLEM_READ_ONLY,
                                              PROBLEM_NOT_READY, PROBLEM_TOO_MANY_REQUESTS};
    ask("GET /live HTTP/1.1\r\nHost: a\r\n\r\n");
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        buf_clear(&out);
        node_refuse(&reader, &reply, codes[i], NULL, NULL, &out);
        buf_append_u8(&out, 0);
        EXPECT(has((const char *)out.data, "\r\nRetry-After: 1\r\n"));
        EXPECT(has((const char *)out.data, problem_code_name(codes[i])));
    }
}

static const json_t *paths_of(json_t **document)
{
    *document = json_loadb((const char *)openapi_document.data, openapi_document.size,
                           JSON_REJECT_DUPLICATES, NULL);
    const json_t *paths = json_object_get(*document, "paths");
    EXPECT(json_is_object(paths));
    return paths;
}

static void lower(const char *name, char to[16])
{
    size_t size = strlen(name);
    EXPECT(size < 16);
    for (size_t i = 0; i <= size; i++) to[i] = (char)tolower((unsigned char)name[i]);
}

static bool is_route(const char *path, const char *name)
{
    struct slice at;
    enum http_method method;
    char wanted[16];
    for (size_t i = 0; node_route_at(i, &at, &method); i++) {
        lower(http_method_name(method), wanted);
        if (slice_equal(at, slice_from_text(path)) && strcmp(name, wanted) == 0) return true;
    }
    return false;
}

TEST_CASE(the_document_describes_every_route_and_no_other)
{
    json_t *document, *operation;
    const json_t *paths = paths_of(&document);
    struct slice at;
    enum http_method method;
    size_t routes = 0, described = 0;
    char wanted[16];
    for (; node_route_at(routes, &at, &method); routes++) {
        const json_t *path = json_object_getn(paths, (const char *)at.data, at.size);
        lower(http_method_name(method), wanted);
        if (!json_is_object(json_object_get(path, wanted)))
            fprintf(stderr, "not described: %s %.*s\n", wanted, (int)at.size, at.data);
        EXPECT(json_is_object(json_object_get(path, wanted)));
    }
    const char *path, *name;
    json_t *operations;
    json_object_foreach((json_t *)(uintptr_t)paths, path, operations)
    {
        json_object_foreach(operations, name, operation)
        {
            EXPECT(is_route(path, name));
            described++;
        }
    }
    EXPECT(routes > 20 && described == routes);
    json_decref(document);
}

TEST_MAIN(TEST(answers_say_what_time_it_is_once_it_is_known), TEST(ids_of_the_client_come_back),
          TEST(a_refusal_without_an_id_is_given_one), TEST(ids_that_are_none_are_passed_over),
          TEST(a_route_names_its_methods), TEST(what_is_no_route_is_not_found),
          TEST(head_is_get_without_its_body), TEST(a_client_may_come_back_after_503),
          TEST(the_document_describes_every_route_and_no_other))
