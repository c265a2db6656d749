#include "proto/http_request.h"

#include <string.h>

#include "proto/scan.h"

enum {
    SEEN_HOST = 1,
    SEEN_CONTENT_LENGTH = 2,
    SEEN_TRANSFER_ENCODING = 4,
    SEEN_CLOSE = 8,
    SEEN_KEEP_ALIVE = 16,
    SEEN_EMPTY_LINE = 32,
    SEEN_TARGET_HOST = 64,
    METHOD_BYTES_MAX = 32,
    /* What stands in a request line beside the target: method, blanks, version, CRLF. */
    LINE_OVERHEAD_BYTES = METHOD_BYTES_MAX + 12,
};

static const struct method {
    const char *name;
    size_t size;
} methods[HTTP_METHOD_COUNT] = {
    {"GET", 3}, {"HEAD", 4}, {"POST", 4}, {"PUT", 3}, {"DELETE", 6}, {"OPTIONS", 7}, {"PATCH", 5},
};

enum { CLASS_TOKEN = 1, CLASS_HOST = 2 };

/* CLASS_TOKEN: RFC 9110, section 5.6.2, what names of methods and headers are made of.
 * CLASS_HOST: RFC 3986, sections 3.2.2 and 3.2.3, a host with its port; its form is not
 * checked. */
static const uint8_t classes[256] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 00 */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 10 */
    0, 3, 0, 1, 3, 3, 3, 3, 2, 2, 3, 3, 2, 3, 3, 0, /* 20 */
    3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 2, 2, 0, 2, 0, 0, /* 30 */
    0, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, /* 40 */
    3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 2, 0, 2, 1, 3, /* 50 */
    1, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, /* 60 */
    3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 0, 1, 0, 3, 0, /* 70 */
};

const char *http_method_name(enum http_method method)
{
    return methods[method].name;
}

bool http_is_token(uint8_t byte)
{
    return classes[byte] & CLASS_TOKEN;
}

static uint8_t lower_of(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte;
}

bool http_equal_ignoring_case(struct slice text, const char *lower)
{
    for (size_t i = 0; i < text.size; i++) {
        /* The end of `lower` differs from every byte but 00, which no header holds. */
        if (lower[i] == '\0' || lower_of(text.data[i]) != (uint8_t)lower[i]) return false;
    }
    return lower[text.size] == '\0';
}

void http_request_init(struct http_request *request)
{
    memset(request, 0, offsetof(struct http_request, headers));
}

static enum status refuse(struct http_request *request, uint16_t error_status, const char *reason)
{
    request->error_status = error_status;
    request->error_reason = reason;
    bool limit = error_status == 413 || error_status == 414 || error_status == 431;
    return limit ? STATUS_LIMIT : STATUS_INVALID;
}

static struct slice trim(struct slice text)
{
    while (text.size > 0 && (text.data[0] == ' ' || text.data[0] == '\t')) {
        text = slice_from(text, 1);
    }
    while (text.size > 0 && (text.data[text.size - 1] == ' ' || text.data[text.size - 1] == '\t')) {
        text.size--;
    }
    return text;
}

/* Takes the next element off a comma-separated list; false at its end. */
static bool list_next(struct slice *list, struct slice *element)
{
    if (list->size == 0) return false;
    const uint8_t *comma = memchr(list->data, ',', list->size);
    size_t size = comma == NULL ? list->size : (size_t)(comma - list->data);
    *element = trim(slice_prefix(*list, size));
    *list = slice_from(*list, comma == NULL ? size : size + 1);
    return true;
}

static bool host_is_valid(struct slice host)
{
    for (size_t i = 0; i < host.size; i++) {
        if (!(classes[host.data[i]] & CLASS_HOST)) return false;
    }
    return true;
}

/* --- The request line ------------------------------------------------------------- */

static enum status read_version(struct http_request *request, struct slice text)
{
    if (text.size == 8 && memcmp(text.data, "HTTP/1.1", 8) == 0) {
        request->minor = 1;
        return STATUS_OK;
    }
    if (text.size != 8 || memcmp(text.data, "HTTP/", 5) != 0 || text.data[6] != '.' ||
        text.data[5] < '0' || text.data[5] > '9' || text.data[7] < '0' || text.data[7] > '9') {
        return refuse(request, 400, "the request line must end in a blank and HTTP/1.1");
    }
    if (text.data[5] != '1') return refuse(request, 505, "only HTTP/1.1 and HTTP/1.0 are spoken");
    /* A later minor version says what its sender could read, not what it sent. */
    request->minor = text.data[7] == '0' ? 0 : 1;
    return STATUS_OK;
}

static enum status read_method(struct http_request *request, struct slice name)
{
    for (unsigned i = 0; i < HTTP_METHOD_COUNT; i++) {
        if (slice_equal(name, slice_of(methods[i].name, methods[i].size))) {
            request->method = (enum http_method)i;
            return STATUS_OK;
        }
    }
    return refuse(request, 501, "this method is not known here");
}

/* Cuts "http://host" off a target that proxies are sent, as RFC 9112, section 3.2.2 asks. */
static enum status read_absolute_target(struct http_request *request, struct slice *target)
{
    size_t scheme = 0;
    if (target->size > 7 && http_equal_ignoring_case(slice_prefix(*target, 7), "http://")) {
        scheme = 7;
    } else if (target->size > 8 && http_equal_ignoring_case(slice_prefix(*target, 8), "https://")) {
        scheme = 8;
    } else {
        return refuse(request, 400, "the target must start with '/'");
    }

    size_t end = scheme;
    while (end < target->size && target->data[end] != '/' && target->data[end] != '?') end++;
    request->host = (struct slice){target->data + scheme, end - scheme};
    if (request->host.size == 0 || !host_is_valid(request->host)) {
        return refuse(request, 400, "the target names no valid host");
    }
    request->seen |= SEEN_TARGET_HOST;
    *target = slice_from(*target, end);
    return STATUS_OK;
}

static enum status read_target(struct http_request *request, struct slice target)
{
    if (target.data[0] == '*' && target.size == 1 && request->method == HTTP_OPTIONS) {
        request->path = target;
        return STATUS_OK;
    }
    if (target.data[0] != '/') {
        enum status status = read_absolute_target(request, &target);
        if (status != STATUS_OK) return status;
    }

    const uint8_t *mark = target.size == 0 ? NULL : memchr(target.data, '?', target.size);
    size_t path_size = mark == NULL ? target.size : (size_t)(mark - target.data);
    request->path = slice_prefix(target, path_size);
    if (mark != NULL) request->query = slice_from(target, path_size + 1);
    /* "http://host" without a path means its root. */
    if (path_size == 0) request->path = SLICE_LITERAL("/");
    return STATUS_OK;
}

static enum status read_request_line(struct http_request *request, const struct http_limits *limits,
                                     struct slice line)
{
    size_t method_size = 0;
    while (method_size < line.size && http_is_token(line.data[method_size])) method_size++;
    if (method_size == 0 || method_size == line.size || line.data[method_size] != ' ') {
        return refuse(request, 400, "the request line must start with a method and a blank");
    }

    struct slice rest = slice_from(line, method_size + 1);
    size_t target_size = scan_target(rest.data, rest.size);
    if (target_size > limits->url_bytes) {
        return refuse(request, 414, "the target is longer than max_url_bytes");
    }
    if (target_size == 0 || target_size == rest.size || rest.data[target_size] != ' ') {
        return refuse(request, 400, "the target must be followed by a blank and the version");
    }

    enum status status = read_version(request, slice_from(rest, target_size + 1));
    if (status != STATUS_OK) return status;
    status = read_method(request, slice_prefix(line, method_size));
    if (status != STATUS_OK) return status;
    return read_target(request, slice_prefix(rest, target_size));
}

/* --- Headers that mean something here ----------------------------------------------- */

static enum status read_host(struct http_request *request, struct slice value)
{
    if (request->seen & SEEN_HOST) return refuse(request, 400, "Host must come once");
    if (!host_is_valid(value)) return refuse(request, 400, "Host is not a valid host");
    request->seen |= SEEN_HOST;
    if (!(request->seen & SEEN_TARGET_HOST)) request->host = value;
    return STATUS_OK;
}

static enum status read_content_length(struct http_request *request, struct slice value)
{
    if (request->seen & SEEN_CONTENT_LENGTH) {
        return refuse(request, 400, "Content-Length must come once");
    }
    if (value.size == 0) return refuse(request, 400, "Content-Length must be a number");

    uint64_t length = 0;
    bool overflow = false;
    for (size_t i = 0; i < value.size; i++) {
        unsigned digit = (unsigned)value.data[i] - '0';
        if (digit > 9) return refuse(request, 400, "Content-Length must be decimal digits");
        overflow |= length > ((uint64_t)INT64_MAX - digit) / 10;
        length = length * 10 + digit;
    }
    if (overflow) return refuse(request, 413, "Content-Length is beyond every bound");
    request->seen |= SEEN_CONTENT_LENGTH;
    request->content_length = length;
    return STATUS_OK;
}

static enum status read_transfer_encoding(struct http_request *request, struct slice value)
{
    if (request->seen & SEEN_TRANSFER_ENCODING) {
        return refuse(request, 400, "Transfer-Encoding must come once");
    }
    request->seen |= SEEN_TRANSFER_ENCODING;
    if (http_equal_ignoring_case(value, "chunked")) return STATUS_OK;

    struct slice coding = {0};
    bool chunked = false;
    while (list_next(&value, &coding)) {
        if (chunked) return refuse(request, 400, "chunked must be the final transfer coding");
        chunked = http_equal_ignoring_case(coding, "chunked");
    }
    if (!chunked) return refuse(request, 400, "chunked must be the final transfer coding");
    return refuse(request, 501, "no transfer coding but chunked is known here");
}

static enum status read_connection(struct http_request *request, struct slice value)
{
    struct slice option;
    while (list_next(&value, &option)) {
        if (http_equal_ignoring_case(option, "close")) request->seen |= SEEN_CLOSE;
        if (http_equal_ignoring_case(option, "keep-alive")) request->seen |= SEEN_KEEP_ALIVE;
    }
    return STATUS_OK;
}

static enum status read_expect(struct http_request *request, struct slice value)
{
    if (request->minor == 0) return STATUS_OK; /* RFC 9110, section 10.1.1: ignored. */
    if (!http_equal_ignoring_case(value, "100-continue")) {
        return refuse(request, 417, "no expectation but 100-continue is known here");
    }
    request->expect_continue = true;
    return STATUS_OK;
}

/* A coded body taken as it is would be stored as words that nobody wrote. */
static enum status read_content_encoding(struct http_request *request, struct slice value)
{
    if (value.size == 0 || http_equal_ignoring_case(value, "identity")) return STATUS_OK;
    return refuse(request, 415, "no Content-Encoding is known here: send the body as it is");
}

/* The length of a name says almost which header it can be. */
static enum status read_known_header(struct http_request *request, struct slice name,
                                     struct slice value)
{
    switch (name.size) {
    case 4:
        if (http_equal_ignoring_case(name, "host")) return read_host(request, value);
        break;
    case 6:
        if (http_equal_ignoring_case(name, "expect")) return read_expect(request, value);
        break;
    case 10:
        if (http_equal_ignoring_case(name, "connection")) return read_connection(request, value);
        break;
    case 14:
        if (http_equal_ignoring_case(name, "content-length")) {
            return read_content_length(request, value);
        }
        break;
    case 16:
        if (http_equal_ignoring_case(name, "content-encoding")) {
            return read_content_encoding(request, value);
        }
        break;
    case 17:
        if (http_equal_ignoring_case(name, "transfer-encoding")) {
            return read_transfer_encoding(request, value);
        }
        break;
    default:
        break;
    }
    return STATUS_OK;
}

static enum status read_header(struct http_request *request, struct slice line)
{
    size_t name_size = 0;
    while (name_size < line.size && http_is_token(line.data[name_size])) name_size++;
    if (name_size == 0 && (line.data[0] == ' ' || line.data[0] == '\t')) {
        return refuse(request, 400, "a header must not go on on the next line");
    }
    if (name_size == 0 || name_size == line.size || line.data[name_size] != ':') {
        return refuse(request, 400, "a header must be a name, a colon and a value");
    }

    struct slice value = trim(slice_from(line, name_size + 1));
    if (scan_control(value.data, value.size) != value.size) {
        return refuse(request, 400, "a header holds a control character");
    }
    if (request->header_count == HTTP_HEADER_COUNT_MAX) {
        return refuse(request, 431, "there are more than 64 headers");
    }
    struct slice name = slice_prefix(line, name_size);
    request->headers[request->header_count++] = (struct http_header){name, value};
    return read_known_header(request, name, value);
}

/* --- The whole ------------------------------------------------------------------- */

/* After the last header: what only all of them together can tell. */
static enum status finish(struct http_request *request)
{
    if (request->minor == 1 && !(request->seen & SEEN_HOST)) {
        return refuse(request, 400, "Host is missing");
    }
    bool chunked = request->seen & SEEN_TRANSFER_ENCODING;
    bool length = request->seen & SEEN_CONTENT_LENGTH;
    if (chunked && length) {
        return refuse(request, 400, "Content-Length and Transfer-Encoding exclude each other");
    }
    if (chunked && request->minor == 0) {
        return refuse(request, 400, "HTTP/1.0 has no Transfer-Encoding");
    }
    request->body = chunked ? HTTP_BODY_CHUNKED : length ? HTTP_BODY_LENGTH : HTTP_BODY_NONE;

    bool wanted = request->minor == 1 || request->seen & SEEN_KEEP_ALIVE;
    request->keep_alive = wanted && !(request->seen & SEEN_CLOSE);
    request->head_bytes = request->line_at;
    return STATUS_OK;
}

/* The buffer may have been moved since the last call. */
static void rebase(struct http_request *request, const uint8_t *base)
{
    uintptr_t old = (uintptr_t)request->base;
    struct slice *parts[] = {&request->path, &request->query, &request->host};

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        uintptr_t at = (uintptr_t)parts[i]->data;
        bool inside = at >= old && at - old <= request->scanned_at;
        if (inside) parts[i]->data = base + (at - old);
    }
    for (size_t i = 0; i < request->header_count; i++) {
        struct http_header *header = &request->headers[i];
        header->name.data = base + ((uintptr_t)header->name.data - old);
        header->value.data = base + ((uintptr_t)header->value.data - old);
    }
}

static enum status check_bounds(struct http_request *request, const struct http_limits *limits,
                                size_t size)
{
    if (request->headers_at == 0) {
        size_t most = (size_t)limits->url_bytes + LINE_OVERHEAD_BYTES;
        if (size - request->line_at <= most) return STATUS_OK;
        return refuse(request, 414, "the request line is longer than max_url_bytes allows");
    }
    if (size - request->headers_at <= limits->header_bytes) return STATUS_OK;
    return refuse(request, 431, "the headers are longer than max_header_bytes");
}

/* A line that has not ended yet: what is already wrong need not wait for its end. */
static enum status check_unfinished(struct http_request *request, const struct http_limits *limits,
                                    struct slice received)
{
    enum status status = check_bounds(request, limits, received.size);
    if (status != STATUS_OK) return status;

    struct slice fresh = slice_from(received, request->scanned_at);
    size_t at = scan_control(fresh.data, fresh.size);
    bool last_is_return = at + 1 == fresh.size && fresh.data[at] == '\r';
    if (at != fresh.size && !last_is_return) {
        return refuse(request, 400, "the request holds a control character");
    }
    /* A carriage return at the end is looked at again together with what follows it. */
    request->scanned_at = received.size - last_is_return;
    return STATUS_PARTIAL;
}

static enum status read_line(struct http_request *request, const struct http_limits *limits,
                             struct slice line)
{
    if (request->headers_at != 0) return read_header(request, line);

    if (line.size == 0 && !(request->seen & SEEN_EMPTY_LINE)) {
        request->seen |= SEEN_EMPTY_LINE;
        return STATUS_OK;
    }
    enum status status = read_request_line(request, limits, line);
    if (status == STATUS_OK) request->headers_at = request->scanned_at;
    return status;
}

enum status http_request_parse(struct http_request *request, const struct http_limits *limits,
                               struct slice received)
{
    if (request->base != NULL && request->base != received.data) rebase(request, received.data);

    request->base = received.data;
    for (;;) {
        size_t unread = received.size - request->scanned_at;
        const uint8_t *feed =
            unread == 0 ? NULL : memchr(received.data + request->scanned_at, '\n', unread);
        if (feed == NULL) return check_unfinished(request, limits, received);

        const uint8_t *start = received.data + request->line_at;
        size_t line_end = (size_t)(feed - received.data) + 1;
        enum status status = check_bounds(request, limits, line_end);
        if (status != STATUS_OK) return status;
        if (feed == start || feed[-1] != '\r') {
            return refuse(request, 400, "a line must end in CRLF");
        }

        struct slice line = {start, (size_t)(feed - start) - 1};
        request->scanned_at = line_end;
        request->line_at = line_end;
        if (request->headers_at != 0 && line.size == 0) return finish(request);
        status = read_line(request, limits, line);
        if (status != STATUS_OK) return status;
    }
}

bool http_request_header(const struct http_request *request, const char *name, struct slice *value)
{
    for (size_t i = 0; i < request->header_count; i++) {
        if (http_equal_ignoring_case(request->headers[i].name, name)) {
            *value = request->headers[i].value;
            return true;
        }
    }
    return false;
}
