#include "proto/http_request.h"

#include <time.h>

#include "base/prng.h"
#include "guard.h"
#include "test.h"

static const struct http_limits limits = {HTTP_URL_BYTES_DEFAULT, HTTP_HEADER_BYTES_DEFAULT};
static const struct http_limits small = {20, 40};

static const char typical[] = "GET /search?q=ab HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
static const char rich[] = "POST /api/v1/import?ns=a%20b HTTP/1.1\r\nHost: [::1]:8000\r\n"
                           "Transfer-Encoding: Chunked\r\nEXPECT: 100-continue\r\n"
                           "X-Text: \tcaf\xc3\xa9 and a tab\tinside \r\nEmpty:\r\n"
                           "Connection: upgrade , close\r\n\r\nbody that follows";

static enum status parse(struct http_request *request, const char *text)
{
    http_request_init(request);
    return http_request_parse(request, &limits, slice_from_text(text));
}

static bool is_text(struct slice slice, const char *text)
{
    return slice_equal(slice, slice_from_text(text));
}

TEST_CASE(a_typical_request_is_read)
{
    struct http_request request;
    EXPECT(parse(&request, typical) == STATUS_OK);
    EXPECT(request.method == HTTP_GET);
    EXPECT(is_text(request.path, "/search"));
    EXPECT(is_text(request.query, "q=ab"));
    EXPECT(is_text(request.host, "127.0.0.1"));
    EXPECT(request.minor == 1);
    EXPECT(request.keep_alive);
    EXPECT(!request.expect_continue);
    EXPECT(request.body == HTTP_BODY_NONE);
    EXPECT(request.head_bytes == sizeof typical - 1);
    EXPECT(request.header_count == 1);
}

static void expect_rich(const struct http_request *request)
{
    struct slice value;
    EXPECT(request->method == HTTP_POST);
    EXPECT(is_text(request->path, "/api/v1/import"));
    EXPECT(is_text(request->query, "ns=a%20b"));
    EXPECT(is_text(request->host, "[::1]:8000"));
    EXPECT(request->body == HTTP_BODY_CHUNKED);
    EXPECT(request->expect_continue);
    EXPECT(!request->keep_alive);
    EXPECT(request->header_count == 6);
    EXPECT(http_request_header(request, "x-text", &value));
    EXPECT(is_text(value, "caf\xc3\xa9 and a tab\tinside"));
    EXPECT(http_request_header(request, "empty", &value));
    EXPECT(value.size == 0);
    EXPECT(!http_request_header(request, "accept", &value));
    EXPECT(request->head_bytes == sizeof rich - 1 - strlen("body that follows"));
}

TEST_CASE(a_request_is_read_the_same_however_it_is_cut)
{
    struct guard guard = guard_create(4096);
    struct slice whole = slice_of(rich, sizeof rich - 1);
    size_t head = whole.size - strlen("body that follows");

    for (size_t cut = 0; cut < head; cut++) {
        struct http_request request;
        http_request_init(&request);
        struct slice first = guard_copy(&guard, slice_prefix(whole, cut));
        EXPECT(http_request_parse(&request, &limits, first) == STATUS_PARTIAL);
        EXPECT(http_request_parse(&request, &limits, guard_copy(&guard, whole)) == STATUS_OK);
        expect_rich(&request);
    }

    struct http_request request;
    http_request_init(&request);
    for (size_t size = 0; size < head; size++) {
        struct slice part = guard_copy(&guard, slice_prefix(whole, size));
        EXPECT(http_request_parse(&request, &limits, part) == STATUS_PARTIAL);
    }
    struct slice all = guard_copy(&guard, slice_prefix(whole, head));
    EXPECT(http_request_parse(&request, &limits, all) == STATUS_OK);
    expect_rich(&request);
    guard_destroy(&guard);
}

struct refusal {
    const char *text;
    uint16_t error_status;
};

static const struct refusal refusals[] = {
    {"GET / HTTP/1.1\nHost: a\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\n\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n", 400},
    {"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"GET /\r\n\r\n", 400},
    {"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400},
    {" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"GET /\ta HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"GET http:///b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"GET http://a@b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"GET / HTTP/11\r\nHost: a\r\n\r\n", 400},
    {"GET / http/1.1\r\nHost: a\r\n\r\n", 400},
    {"GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400},
    {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505},
    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
    {"GET / HTTP/0.9\r\n\r\n", 505},
    {"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501},
    {"get / HTTP/1.1\r\nHost: a\r\n\r\n", 501},
    {"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400},
    {"GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\n\tfolded: b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\nNocolon\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\nA: \x01\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\nA: \x7f\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\nA(b): c\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\nCaf\xc3\xa9: c\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 2\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\n", 413},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n", 413},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \vchunked\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;a=b\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
     "Transfer-Encoding: chunked\r\n\r\n",
     400},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
    {"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-maybe\r\n\r\n", 417},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\n\r\n", 415},
    {"POST / HTTP/1.1\r\nHost: a\r\ncontent-encoding: identity, br\r\n\r\n", 415},
    {"\x16\x03\x01\x02", 400},
};

/* Whole, and byte by byte: refused both times, and with that status at the end. */
TEST_CASE(what_the_standard_forbids_is_refused)
{
    struct guard guard = guard_create(4096);
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        struct http_request request;
        struct slice whole = slice_from_text(refusals[i].text);
        http_request_init(&request);
        EXPECT(http_request_parse(&request, &limits, guard_copy(&guard, whole)) > STATUS_NOT_FOUND);
        if (request.error_status != refusals[i].error_status) fprintf(stderr, "case %zu\n", i);
        EXPECT(request.error_status == refusals[i].error_status);
        EXPECT(request.error_reason != NULL);

        enum status status = STATUS_PARTIAL;
        http_request_init(&request);
        for (size_t size = 0; size <= whole.size && status == STATUS_PARTIAL; size++) {
            struct slice part = guard_copy(&guard, slice_prefix(whole, size));
            status = http_request_parse(&request, &limits, part);
        }
        EXPECT(status > STATUS_NOT_FOUND);
        EXPECT(request.error_status == refusals[i].error_status);
    }
    guard_destroy(&guard);
}

TEST_CASE(what_the_standard_allows_is_taken)
{
    struct http_request request;
    EXPECT(parse(&request, "\r\nGET / HTTP/1.1\r\nHost:\r\n\r\n") == STATUS_OK);
    EXPECT(request.head_bytes == 27);
    EXPECT(parse(&request, "GET / HTTP/1.0\r\n\r\n") == STATUS_OK);
    EXPECT(!request.keep_alive);
    EXPECT(parse(&request, "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n") == STATUS_OK);
    EXPECT(request.keep_alive);
    EXPECT(parse(&request, "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\nConnection: close\r\n"
                           "Expect: 100-continue\r\n\r\n") == STATUS_OK);
    EXPECT(!request.keep_alive);
    EXPECT(!request.expect_continue);
    EXPECT(parse(&request, "GET / HTTP/1.7\r\nHost: a\r\n\r\n") == STATUS_OK);
    EXPECT(request.minor == 1);
    EXPECT(parse(&request, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n") == STATUS_OK);
    EXPECT(is_text(request.path, "*"));
    EXPECT(parse(&request, "GET http://b:1/c?d=e?f HTTP/1.1\r\nHost: a\r\n\r\n") == STATUS_OK);
    EXPECT(is_text(request.host, "b:1"));
    EXPECT(is_text(request.path, "/c"));
    EXPECT(is_text(request.query, "d=e?f"));
    EXPECT(parse(&request, "GET HTTPS://b?c HTTP/1.1\r\nHost: a\r\n\r\n") == STATUS_OK);
    EXPECT(is_text(request.path, "/"));
    EXPECT(is_text(request.query, "c"));
    EXPECT(parse(&request, "GET /?q=caf\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n") == STATUS_OK);
    EXPECT(parse(&request, "PUT / HTTP/1.1\r\nHost: a\r\n"
                           "Content-Length: 009223372036854775807\r\n\r\n") == STATUS_OK);
    EXPECT(request.content_length == INT64_MAX);
    EXPECT(request.body == HTTP_BODY_LENGTH);
    for (unsigned i = 0; i < HTTP_METHOD_COUNT; i++) {
        char text[100];
        snprintf(text, sizeof text, "%s /a HTTP/1.1\r\nHost: a\r\n\r\n",
                 http_method_name((enum http_method)i));
        EXPECT(parse(&request, text) == STATUS_OK);
        EXPECT(request.method == i);
    }
}

TEST_CASE(bounds_hold_to_the_byte)
{
    for (int over = 0; over < 2; over++) {
        struct http_request request;
        char text[200];

        snprintf(text, sizeof text, "GET /%0*d HTTP/1.0\r\n\r\n", (int)small.url_bytes - 1 + over,
                 0);
        http_request_init(&request);
        EXPECT(http_request_parse(&request, &small, slice_from_text(text)) ==
               (over ? STATUS_LIMIT : STATUS_OK));
        EXPECT(request.error_status == (over ? 414 : 0));

        int value_size = (int)small.header_bytes - (int)strlen("A: \r\n\r\n") + over;
        snprintf(text, sizeof text, "GET / HTTP/1.0\r\nA: %0*d\r\n\r\n", value_size, 0);
        http_request_init(&request);
        EXPECT(http_request_parse(&request, &small, slice_from_text(text)) ==
               (over ? STATUS_LIMIT : STATUS_OK));
        EXPECT(request.error_status == (over ? 431 : 0));
    }
}

TEST_CASE(a_line_without_end_is_refused_at_its_bound)
{
    static char text[100000];
    struct http_request request;

    memset(text, 'a', sizeof text);
    http_request_init(&request);
    size_t size = 0;
    enum status status = STATUS_PARTIAL;
    while (status == STATUS_PARTIAL) {
        status = http_request_parse(&request, &limits, slice_of(text, size++));
    }
    EXPECT(status == STATUS_LIMIT);
    EXPECT(request.error_status == 414);
    EXPECT(size < limits.url_bytes + 100);

    memcpy(text, "GET / HTTP/1.1\r\n", 16);
    http_request_init(&request);
    size = 0;
    status = STATUS_PARTIAL;
    while (status == STATUS_PARTIAL) {
        status = http_request_parse(&request, &limits, slice_of(text, size++));
    }
    EXPECT(status == STATUS_LIMIT);
    EXPECT(request.error_status == 431);
    EXPECT(size < limits.header_bytes + 100);
}

TEST_CASE(the_65th_header_is_refused)
{
    char text[2000] = "GET / HTTP/1.0\r\n";
    struct http_request request;
    for (int i = 0; i < HTTP_HEADER_COUNT_MAX; i++) strcat(text, "A: b\r\n");
    size_t size = strlen(text);
    strcpy(text + size, "\r\n");
    EXPECT(parse(&request, text) == STATUS_OK);
    strcpy(text + size, "A: b\r\n\r\n");
    EXPECT(parse(&request, text) == STATUS_LIMIT);
    EXPECT(request.error_status == 431);
}

/* Every flip of every bit: no crash, and whole or in two pieces the same outcome. */
TEST_CASE(damaged_requests_are_judged_the_same_however_they_are_cut)
{
    struct guard guard = guard_create(4096);
    struct guard other = guard_create(4096);
    struct prng prng = {.state = test_seed};
    uint8_t text[sizeof rich];

    for (size_t bit = 0; bit < 8 * (sizeof rich - 1); bit++) {
        memcpy(text, rich, sizeof text);
        text[bit / 8] ^= (uint8_t)(1 << bit % 8);
        struct slice whole = slice_of(text, sizeof rich - 1);
        struct http_request once;
        struct http_request twice;
        http_request_init(&once);
        http_request_init(&twice);
        enum status expected = http_request_parse(&once, &limits, guard_copy(&guard, whole));
        size_t cut = prng_below(&prng, (uint32_t)whole.size);
        struct slice part = guard_copy(&other, slice_prefix(whole, cut));
        enum status status = http_request_parse(&twice, &limits, part);
        if (status == STATUS_PARTIAL) {
            status = http_request_parse(&twice, &limits, guard_copy(&other, whole));
        }
        EXPECT(status == expected);
        if (status != STATUS_OK) continue;
        EXPECT(once.head_bytes == twice.head_bytes);
        EXPECT(once.header_count == twice.header_count);
        EXPECT(slice_equal(once.path, twice.path));
    }
    guard_destroy(&guard);
    guard_destroy(&other);
}

/* Prints the cost of the request that counts; fails only when it is absurd. */
TEST_CASE(a_typical_request_is_cheap)
{
    enum { ROUNDS = 20000, TRIES = 10 };
    static struct http_request request;
    struct slice text = slice_of(typical, sizeof typical - 1);
    double least = 1e9;

    for (int try = 0; try < TRIES; try++) {
        struct timespec from;
        struct timespec to;
        clock_gettime(CLOCK_MONOTONIC, &from);
        for (int i = 0; i < ROUNDS; i++) {
            http_request_init(&request);
            EXPECT(http_request_parse(&request, &limits, text) == STATUS_OK);
        }
        clock_gettime(CLOCK_MONOTONIC, &to);
        double ns = (double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec);
        if (ns / ROUNDS < least) least = ns / ROUNDS;
    }
    printf("http_request_parse: %.0f ns a request\n", least);
    EXPECT(least < 10000);
}

TEST_MAIN(TEST(a_typical_request_is_read), TEST(a_request_is_read_the_same_however_it_is_cut),
          TEST(what_the_standard_forbids_is_refused), TEST(what_the_standard_allows_is_taken),
          TEST(bounds_hold_to_the_byte), TEST(a_line_without_end_is_refused_at_its_bound),
          TEST(the_65th_header_is_refused),
          TEST(damaged_requests_are_judged_the_same_however_they_are_cut),
          TEST(a_typical_request_is_cheap))
