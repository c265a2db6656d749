/* A stream of requests, read by our parser and by Debian's http-parser (2.9, that of Node.js 10):
 * what we take for requests it takes for the same ones. Two parsers in a row that put the end of
 * a request in different places are how requests are smuggled.
 *
 * We are the stricter: it may accept what we refuse. What we accept it must accept, and read
 * alike: method, target, headers, body, and where each request ends. Known differences:
 *
 *   1. It ends at `Upgrade` with `Connection: upgrade`, and at CONNECT, because other protocols
 *      may follow. We know neither; here it is told to go on.
 *   2. It keeps the blanks at the end of a header's value, which we cut off as RFC 9112 asks.
 *   3. It takes trailers for headers, and refuses what is no sound Content-Length among them; we
 *      read past them all. Not compared.
 *   4. A later minor version than 1.1 (HTTP/1.7) is 1.1 to us, as RFC 9110 asks. It takes it too,
 *      but counts it as 1.1 or later only when deciding what stays open: not compared.
 *   5. It refuses a target in absolute form whose host is odd in ways that we let pass, such as
 *      "http://a:b/": it wants digits for a port. We never look at that host's form.
 *   6. It counts the head of a request against 80 KiB in all, chunk extensions and trailers too:
 *      longer inputs are not tried.
 *   7. It takes a header whose name only begins with "transfer-encoding" for one that says how
 *      the body is coded, and refuses the request for want of "chunked".
 *   8. It takes blanks between the size of a chunk and what follows, but no tab.
 *   9. It takes blanks after a Content-Length and after the codings of a body, but no tab. */
/* Both name their methods alike. */
#define http_method their_method
#define HTTP_DELETE THEIR_DELETE
#define HTTP_GET THEIR_GET
#define HTTP_HEAD THEIR_HEAD
#define HTTP_OPTIONS THEIR_OPTIONS
#define HTTP_PATCH THEIR_PATCH
#define HTTP_POST THEIR_POST
#define HTTP_PUT THEIR_PUT
#include <http_parser.h>
#undef http_method
#undef HTTP_DELETE
#undef HTTP_GET
#undef HTTP_HEAD
#undef HTTP_OPTIONS
#undef HTTP_PATCH
#undef HTTP_POST
#undef HTTP_PUT

#include <string.h>

#include "base/check.h"
#include "proto/http_chunked.h"
#include "proto/http_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { REQUESTS_MAX = 8, INPUT_BYTES_MAX = 4096, BODY_BYTES_MAX = INPUT_BYTES_MAX };

struct seen_header {
    size_t name_at, name_size, value_at, value_size;
};

/* One request as a parser saw it. */
struct seen {
    size_t target_at, target_size;
    struct seen_header headers[HTTP_HEADER_COUNT_MAX + 1];
    size_t header_count;
    uint8_t body[BODY_BYTES_MAX];
    size_t body_size;
    size_t end; /* In the stream, of all of it. */
    const char *method;
    bool keep_alive;
};

/* --- Theirs --- */

struct theirs {
    struct slice stream;
    struct seen requests[REQUESTS_MAX];
    size_t count; /* Whole ones. */
    bool in_value, over_head;
};

static struct theirs *theirs_of(http_parser *parser, struct seen **seen)
{
    struct theirs *theirs = parser->data;
    *seen = &theirs->requests[theirs->count < REQUESTS_MAX ? theirs->count : REQUESTS_MAX - 1];
    return theirs;
}

static int on_begin(http_parser *parser)
{
    struct seen *seen;
    struct theirs *theirs = theirs_of(parser, &seen);
    if (theirs->count == REQUESTS_MAX) return 1;
    memset(seen, 0, sizeof *seen);
    theirs->in_value = theirs->over_head = false;
    return 0;
}

static int on_url(http_parser *parser, const char *at, size_t size)
{
    struct seen *seen;
    struct theirs *theirs = theirs_of(parser, &seen);
    if (seen->target_size == 0)
        seen->target_at = (size_t)((const uint8_t *)at - theirs->stream.data);
    seen->target_size += size;
    return 0;
}

static int on_field(http_parser *parser, const char *at, size_t size)
{
    struct seen *seen;
    struct theirs *theirs = theirs_of(parser, &seen);
    if (theirs->over_head) return 0;
    size_t offset = (size_t)((const uint8_t *)at - theirs->stream.data);
    if (theirs->in_value || seen->header_count == 0) {
        if (seen->header_count > HTTP_HEADER_COUNT_MAX) return 1;
        seen->headers[seen->header_count++] = (struct seen_header){.name_at = offset};
    }
    theirs->in_value = false;
    seen->headers[seen->header_count - 1].name_size += size;
    return 0;
}

static int on_value(http_parser *parser, const char *at, size_t size)
{
    struct seen *seen;
    struct theirs *theirs = theirs_of(parser, &seen);
    if (theirs->over_head || seen->header_count == 0) return 0;
    struct seen_header *header = &seen->headers[seen->header_count - 1];
    if (!theirs->in_value) header->value_at = (size_t)((const uint8_t *)at - theirs->stream.data);
    theirs->in_value = true;
    header->value_size += size;
    return 0;
}

static int on_head(http_parser *parser)
{
    struct seen *seen;
    theirs_of(parser, &seen)->over_head = true;
    seen->method = http_method_str((enum their_method)parser->method);
    seen->keep_alive = http_should_keep_alive(parser);
    parser->upgrade = 0; /* Difference 1. */
    return 0;
}

static int on_body(http_parser *parser, const char *at, size_t size)
{
    struct seen *seen;
    theirs_of(parser, &seen);
    CHECK(size <= BODY_BYTES_MAX - seen->body_size);
    memcpy(seen->body + seen->body_size, at, size);
    seen->body_size += size;
    return 0;
}

/* The parser is stopped there, so that what it has taken ends the request. */
static int on_complete(http_parser *parser)
{
    http_parser_pause(parser, 1);
    return 0;
}

static void read_theirs(struct slice stream, struct theirs *theirs)
{
    static const http_parser_settings settings = {
        .on_message_begin = on_begin,
        .on_url = on_url,
        .on_header_field = on_field,
        .on_header_value = on_value,
        .on_headers_complete = on_head,
        .on_body = on_body,
        .on_message_complete = on_complete,
    };
    http_parser parser;
    size_t at = 0;
    http_parser_init(&parser, HTTP_REQUEST);
    parser.data = theirs;
    theirs->stream = stream;
    theirs->count = 0;
    while (at < stream.size) {
        at += http_parser_execute(&parser, &settings, (const char *)stream.data + at,
                                  stream.size - at);
        if (HTTP_PARSER_ERRNO(&parser) != HPE_PAUSED) return;
        http_parser_pause(&parser, 0);
        theirs->requests[theirs->count++].end = at;
        if (theirs->count == REQUESTS_MAX) return;
    }
}

/* --- Ours --- */

/* The body behind a head; false: not all there, or refused. */
static bool read_our_body(const struct http_request *request, struct slice rest, struct seen *seen)
{
    struct http_chunked chunked = {0};
    struct slice piece;
    if (request->body != HTTP_BODY_CHUNKED) {
        uint64_t size = request->body == HTTP_BODY_LENGTH ? request->content_length : 0;
        if (size > rest.size) return false;
        if (size > 0) memcpy(seen->body, rest.data, size);
        seen->body_size = (size_t)size;
        seen->end += (size_t)size;
        return true;
    }
    struct slice input = rest;
    enum status status;
    while ((status = http_chunked_next(&chunked, &input, &piece)) == STATUS_OK) {
        memcpy(seen->body + seen->body_size, piece.data, piece.size);
        seen->body_size += piece.size;
    }
    seen->end += rest.size - input.size;
    return status == STATUS_END;
}

static bool read_ours(struct slice stream, size_t at, struct http_request *request,
                      struct seen *seen)
{
    static const struct http_limits limits = {INPUT_BYTES_MAX, INPUT_BYTES_MAX};
    memset(seen, 0, sizeof *seen);
    http_request_init(request);
    if (http_request_parse(request, &limits, slice_from(stream, at)) != STATUS_OK) return false;
    seen->end = at + request->head_bytes;
    seen->method = http_method_name((enum http_method)request->method);
    seen->keep_alive = request->keep_alive;
    return read_our_body(request, slice_from(stream, seen->end), seen);
}

/* --- Both --- */

static struct slice trim_end(struct slice text)
{
    while (text.size > 0 && (text.data[text.size - 1] == ' ' || text.data[text.size - 1] == '\t'))
        text.size--;
    return text;
}

/* Ours is cut into path and query, and without scheme and host: it ends theirs. */
static void compare_targets(const struct http_request *request, struct slice target)
{
    struct slice path = request->path, query = request->query;
    if (query.data != NULL) {
        CHECK(target.size >= query.size + 1);
        CHECK(slice_equal(slice_from(target, target.size - query.size), query));
        target.size -= query.size;
        CHECK(target.data[target.size - 1] == '?');
        target.size--;
    }
    if (path.size == 1 && path.data[0] == '/' && (target.size == 0 || target.data[0] != '/'))
        return; /* "http://host" means its root. */
    CHECK(target.size >= path.size);
    CHECK(slice_equal(slice_from(target, target.size - path.size), path));
}

static void compare(struct slice stream, const struct http_request *request,
                    const struct seen *ours, const struct seen *theirs)
{
    CHECK(strcmp(ours->method, theirs->method) == 0);
    compare_targets(request, slice_of(stream.data + theirs->target_at, theirs->target_size));
    CHECK(request->header_count == theirs->header_count);
    for (size_t i = 0; i < theirs->header_count; i++) {
        const struct seen_header *header = &theirs->headers[i];
        struct slice name = {stream.data + header->name_at, header->name_size};
        struct slice value = {stream.data + header->value_at, header->value_size};
        CHECK(slice_equal(request->headers[i].name, name));
        CHECK(slice_equal(request->headers[i].value, trim_end(value)));
    }
    CHECK(ours->body_size == theirs->body_size);
    CHECK(memcmp(ours->body, theirs->body, ours->body_size) == 0);
    CHECK(ours->end == theirs->end);
}

/* Whether a tab follows the value, which was cut off: a header ends with a line feed. */
static bool tab_follows(struct slice value)
{
    const uint8_t *at = value.data + value.size;
    while (*at == ' ') at++;
    return *at == '\t';
}

/* Differences 3, 5, 7, 8 and 9; `body` is all that we took after the head. */
static bool may_be_refused(const struct http_request *request, struct slice body)
{
    static const char name[] = "transfer-encoding";
    size_t size = sizeof name - 1;
    for (size_t i = 0; i < request->header_count; i++) {
        struct slice found = request->headers[i].name;
        if ((http_equal_ignoring_case(found, "content-length") ||
             http_equal_ignoring_case(found, name)) &&
            tab_follows(request->headers[i].value))
            return true;
        if (found.size > size && http_equal_ignoring_case(slice_prefix(found, size), name))
            return true;
    }
    if (request->body == HTTP_BODY_CHUNKED &&
        (memchr(body.data, '\t', body.size) != NULL || memchr(body.data, ':', body.size) != NULL))
        return true;
    return request->path.size > 0 && request->host.data != NULL &&
           request->host.data < request->path.data;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct theirs theirs;
    static struct http_request request;
    static struct seen ours;
    struct slice stream = {data, size};
    if (size == 0 || size > INPUT_BYTES_MAX) return 0;
    read_theirs(stream, &theirs);

    size_t at = 0;
    for (size_t i = 0; i < REQUESTS_MAX && read_ours(stream, at, &request, &ours); i++) {
        if (i == theirs.count &&
            may_be_refused(&request, slice_of(data + at + request.head_bytes,
                                              ours.end - at - request.head_bytes)))
            break;
        CHECK(i < theirs.count);
        compare(stream, &request, &ours, &theirs.requests[i]);
        if (!ours.keep_alive) break;
        at = ours.end;
    }
    return 0;
}
