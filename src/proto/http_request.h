/* Heads of HTTP requests, parsed in place as their bytes arrive.
 *
 * Strict, because what two parsers read differently is how requests are smuggled: lines
 * end in CRLF, nothing is folded, no blank stands before a colon, no control character
 * anywhere, one Host, one framing of the body. One empty line before the request line is
 * skipped, and a target may hold bytes above 7f as typed into a terminal; else what RFC
 * 9112 tells a server to refuse is refused.
 *
 *     http_request_init(&request);
 *     do read more; while (http_request_parse(&request, &limits, received) == STATUS_PARTIAL);
 *
 * `received` always starts at the first byte of the request and grows; it may move between
 * calls. Once STATUS_OK, the body starts `head_bytes` after its beginning.
 *
 * Source: RFC 9112, RFC 9110. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/status.h"

enum {
    HTTP_HEADER_COUNT_MAX = 64,
    HTTP_URL_BYTES_DEFAULT = 16 << 10,
    HTTP_HEADER_BYTES_DEFAULT = 64 << 10,
};

enum http_method {
    HTTP_GET,
    HTTP_HEAD,
    HTTP_POST,
    HTTP_PUT,
    HTTP_DELETE,
    HTTP_OPTIONS,
    HTTP_PATCH,
    HTTP_METHOD_COUNT,
};

enum http_body {
    HTTP_BODY_NONE,    /* Neither Content-Length nor Transfer-Encoding: nothing follows. */
    HTTP_BODY_LENGTH,  /* `content_length` bytes follow, maybe 0. */
    HTTP_BODY_CHUNKED, /* See http_chunked.h. */
};

struct http_limits {
    uint32_t url_bytes;    /* The target; beyond: 414. */
    uint32_t header_bytes; /* All header lines together; beyond: 431. */
};

struct http_header {
    struct slice name;  /* As sent: compare without regard to case. */
    struct slice value; /* Without blanks around it. */
};

struct http_request {
    /* Valid once http_request_parse() returned STATUS_OK; all slices lie in `received`. */
    enum http_method method;
    enum http_body body;
    bool keep_alive;      /* The client wants the connection to stay open. */
    bool expect_continue; /* It waits for "100 Continue" before it sends the body. */
    uint8_t minor;        /* The version is HTTP/1.<minor>: 0 or 1. */
    struct slice path;    /* Raw, starts with '/'; "*" for OPTIONS of the server. */
    struct slice query;   /* Raw, without '?'; empty when there is none. */
    struct slice host;    /* From the target where it names one, else from Host. */
    uint64_t content_length;
    size_t head_bytes;

    /* Valid once it returned STATUS_INVALID or STATUS_LIMIT. */
    uint16_t error_status;    /* What to answer: 400, 413, 414, 417, 431, 501 or 505. */
    const char *error_reason; /* A sentence for `detail`; static. */

    /* Where parsing stands. */
    const uint8_t *base;
    size_t line_at;    /* Start of the line that is not complete yet. */
    size_t scanned_at; /* No line feed between `line_at` and here. */
    size_t headers_at; /* After the request line; 0 before it was read. */
    uint16_t seen;     /* Which of the headers that may come once did come. */
    uint16_t header_count;
    struct http_header headers[HTTP_HEADER_COUNT_MAX];
};

/* Before the first byte of each request. Cost: does not touch `headers`. */
void http_request_init(struct http_request *request);

/* Goes on with a request of which `received` is all that has arrived; what follows the
 * head is left alone.
 *
 * Errors: STATUS_PARTIAL: more bytes are needed. STATUS_INVALID, STATUS_LIMIT: answer
 * `error_status` and close; where the next request would start is unknown.
 * Cost:   each byte is looked at a bounded number of times, however it was cut. */
enum status http_request_parse(struct http_request *request, const struct http_limits *limits,
                               struct slice received);

/* The value of the first header of that name, which is given in lower case; false: none. */
bool http_request_header(const struct http_request *request, const char *name, struct slice *value);

/* "GET". Static storage. */
const char *http_method_name(enum http_method method);

/* Whether they are the same but for the case of ASCII letters; `lower` is in lower case. */
bool http_equal_ignoring_case(struct slice text, const char *lower);

/* Whether names of headers and methods may hold it: RFC 9110, section 5.6.2. */
bool http_is_token(uint8_t byte);
