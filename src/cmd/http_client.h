/* One HTTP connection to a node, for the command line: libcurl behind a request and an answer. */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

struct http_client;

enum http_result {
    HTTP_ANSWERED,    /* With any status. */
    HTTP_UNREACHABLE, /* No connection, or it broke before the answer was whole. */
    HTTP_TIMED_OUT,
    HTTP_INTERRUPTED, /* See http_client_interrupted. */
    HTTP_NO_MEMORY,
};

struct http_request {
    const char *method;
    const char *path; /* With its query, percent-encoded. */
    const char *content_type;
    struct slice body;
    uint64_t timeout_ms; /* 0: none, as streams need. */

    /* Streams, all optional. `read` fills up to `size` bytes, 0 at the end. `write` gets the
     * body of a 200 and answers false to stop; other bodies go to the response. `tick` is
     * called every second at least. */
    size_t (*read)(void *context, uint8_t *data, size_t size);
    bool (*write)(void *context, struct slice data);
    void (*tick)(void *context);
    void *context;
};

struct http_response {
    long status;
    struct buf body;
};

/* NULL when there is no memory. */
struct http_client *http_client_create(const char *url);
void http_client_destroy(struct http_client *client);

/* `response->body` is initialised by the caller and cleared first. */
enum http_result http_client_send(struct http_client *client, const struct http_request *request,
                                  struct http_response *response);

/* What went wrong in the last http_client_send() that was not answered. Valid until the next. */
const char *http_client_error(const struct http_client *client);

/* While it is not 0, requests end as interrupted, the one under way within a second. A plain
 * variable, so that a signal handler may set it. */
extern volatile sig_atomic_t http_client_interrupted;

/* Appends `name=value` to a path, percent-encoded, behind `?` or `&`. */
void http_query_append(struct buf *path, const char *name, struct slice value);
