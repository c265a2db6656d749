/* A client of the library: its nodes, their connections, the map, and how a request is sent.
 *
 *   1. A request that may be repeated without harm (a read) goes to node after node until one
 *      answers or the deadline passes.
 *   2. One that may not goes to another node only if the one before surely did nothing: not a
 *      byte was handed to a connection, or its 503 has a code that says so.
 *   3. Who is to own a word is asked anew only after a node failed; not by time. */
#pragma once

#include "base/buf.h"
#include "base/slice.h"

#include <trifecta.h>

struct client_request {
    const char *method;
    struct slice path; /* With its query, percent-encoded; a zero follows. */
    struct slice body; /* JSON; empty: none. */
    struct slice low;  /* The keys that it is about, */
    struct slice high; /* up to here; empty: no end. */
    bool repeatable;
    uint32_t timeout_ms; /* 0: that of the client. */
};

struct heap *client_heap(struct trifecta_client *client);

/* Sends a request. `body` is cleared first and holds what a 2xx answered.
 *
 * Errors: all of enum trifecta_error, and `problem` is then set. */
enum trifecta_error client_send(struct trifecta_client *client,
                                const struct client_request *request, struct buf *body,
                                struct trifecta_problem *problem);
