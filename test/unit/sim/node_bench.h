/* A node over a store on a simulated disk: requests in, bytes out. For its tests. */
#pragma once

#include <string.h>

#include "node/batch.h"
#include "node/export.h"
#include "node/import.h"
#include "node/node.h"
#include "proto/http_request.h"
#include "sim/store_world.h"
#include "test.h"

struct bench {
    struct store_world world;
    struct node_reader reader;
    struct node_batch batch;
    struct buf out;
};

static uint64_t no_time(void *context)
{
    (void)context;
    return 7;
}

static void setup(struct bench *bench)
{
    struct store_options options = store_world_options();
    EXPECT(store_world_init(&bench->world, test_seed, &options) == STATUS_OK);
    EXPECT(node_reader_init(&bench->reader, &bench->world.heap, test_seed) == STATUS_OK);
    bench->reader.elapsed_us = no_time;
    node_batch_init(&bench->batch, &bench->world.heap);
    buf_init(&bench->out, &bench->world.heap);
}

static void teardown(struct bench *bench)
{
    buf_deinit(&bench->out);
    node_batch_deinit(&bench->batch);
    node_reader_deinit(&bench->reader);
    store_world_deinit(&bench->world);
}

static void write_batch(struct bench *bench)
{
    uint64_t sequence;
    struct node_batch *batch = &bench->batch;
    node_batch_seal(batch);
    EXPECT(store_world_write(&bench->world, batch->writes, batch->write_count, batch->outcomes,
                             &sequence) == STATUS_OK);
    EXPECT(store_world_sync(&bench->world) == STATUS_OK);
}

static struct slice body_of(const struct bench *bench)
{
    EXPECT(buf_status(&bench->out) == STATUS_OK);
    const char *end = memmem(bench->out.data, bench->out.size, "\r\n\r\n", 4);
    EXPECT(end != NULL);
    return slice_from(buf_slice(&bench->out), (size_t)(end + 4 - (const char *)bench->out.data));
}

/* Sends one request through the node; gives the body of its answer. */
static struct slice ask_bytes(struct bench *bench, const char *head, struct slice body)
{
    static struct http_request request;
    static const struct http_limits limits = {16 << 10, 64 << 10};
    static const struct node_facts facts = {.version = "test"};
    http_request_init(&request);
    EXPECT(http_request_parse(&request, &limits, slice_from_text(head)) == STATUS_OK);
    enum node_endpoint endpoint = node_route(&request);

    buf_clear(&bench->out);
    if (endpoint == NODE_WORD_SET || endpoint == NODE_WORD_REMOVE ||
        endpoint == NODE_WORD_INCREMENT) {
        node_batch_clear(&bench->batch);
        EXPECT(node_batch_add_request(&bench->batch, &bench->reader, endpoint, &request, body,
                                      bench->world.now_ms) == STATUS_OK);
        write_batch(bench);
        node_batch_answer(&bench->batch, &bench->reader, STATUS_OK, &bench->out);
    } else {
        node_read(&bench->reader, endpoint, &request, store_view(bench->world.store),
                  bench->world.now_ms, &facts, &bench->out);
    }
    return body_of(bench);
}

static __attribute__((unused)) struct slice ask(struct bench *bench, const char *head,
                                                const char *body)
{
    return ask_bytes(bench, head, slice_from_text(body));
}

static __attribute__((unused)) bool status_is(const struct bench *bench, const char *status)
{
    return memcmp(bench->out.data + 9, status, 3) == 0;
}

static __attribute__((unused)) bool holds(struct slice body, const char *part)
{
    return memmem(body.data, body.size, part, strlen(part)) != NULL;
}

#define GET(target) "GET " target " HTTP/1.1\r\nHost: a\r\n\r\n"
#define POST(target) "POST " target " HTTP/1.1\r\nHost: a\r\n\r\n"

static __attribute__((unused)) void put(struct bench *bench, const char *body)
{
    ask(bench, POST("/api/v1/words"), body);
    EXPECT(bench->out.data[9] == '2');
}

/* Takes the value of "next_cursor" out of an answer. */
static __attribute__((unused)) bool next_cursor(struct slice body, char out[1024])
{
    const char *at = memmem(body.data, body.size, "\"next_cursor\":\"", 15);
    if (at == NULL) return false;
    const char *quote =
        memchr(at + 15, '"', body.size - (size_t)(at + 15 - (const char *)body.data));
    EXPECT(quote != NULL);
    size_t size = (size_t)(quote - (at + 15));
    EXPECT(size < 1024);
    memcpy(out, at + 15, size);
    out[size] = '\0';
    return true;
}

/* Sends `lines` through an import, in pieces of `piece` bytes; gives the body of its answer. */
static __attribute__((unused)) struct slice import(struct bench *bench, const char *head,
                                                   struct slice lines, size_t piece)
{
    static struct http_request request;
    static const struct http_limits limits = {16 << 10, 64 << 10};
    struct node_import *import;
    struct node_param_error error;
    http_request_init(&request);
    EXPECT(http_request_parse(&request, &limits, slice_from_text(head)) == STATUS_OK);
    EXPECT(node_route(&request) == NODE_IMPORT);
    EXPECT(node_import_create(&bench->reader, &request, &import, &error) == STATUS_OK);
    bool last = false;
    while (!last) {
        struct slice input = slice_prefix(lines, piece < lines.size ? piece : lines.size);
        lines = slice_from(lines, input.size);
        last = lines.size == 0;
        enum status status;
        do {
            node_batch_clear(&bench->batch);
            status = node_import_feed(import, &input, last, bench->world.now_ms, &bench->batch);
            EXPECT(status == STATUS_OK || status == STATUS_PARTIAL);
            if (bench->batch.write_count > 0) write_batch(bench);
            node_import_take(import, &bench->batch, STATUS_OK);
        } while (status == STATUS_PARTIAL);
    }
    struct node_reply reply = node_reply_of(&request);
    buf_clear(&bench->out);
    node_import_answer(import, &bench->reader, &reply, &bench->out);
    node_import_destroy(import);
    return body_of(bench);
}

#define IMPORT(query, type)                                                                        \
    "POST /api/v1/import" query " HTTP/1.1\r\nHost: a\r\nContent-Type: " type                      \
    "\r\nContent-Length: 9\r\n\r\n"
