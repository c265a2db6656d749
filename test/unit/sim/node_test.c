/* The node over a store on a simulated disk: requests in, bytes out. */
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

/* Sends one request through the node; gives the body of its answer. */
static struct slice ask(struct bench *bench, const char *head, const char *body)
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
        EXPECT(node_batch_add_request(&bench->batch, &bench->reader, endpoint, &request,
                                      slice_from_text(body), bench->world.now_ms) == STATUS_OK);
        write_batch(bench);
        node_batch_answer(&bench->batch, &bench->reader, STATUS_OK, &bench->out);
    } else {
        node_read(&bench->reader, endpoint, &request, store_view(bench->world.store),
                  bench->world.now_ms, &facts, &bench->out);
    }
    EXPECT(buf_status(&bench->out) == STATUS_OK);
    const char *end = memmem(bench->out.data, bench->out.size, "\r\n\r\n", 4);
    EXPECT(end != NULL);
    return slice_from(buf_slice(&bench->out), (size_t)(end + 4 - (const char *)bench->out.data));
}

static bool status_is(const struct bench *bench, const char *status)
{
    return memcmp(bench->out.data + 9, status, 3) == 0;
}

static bool holds(struct slice body, const char *part)
{
    return memmem(body.data, body.size, part, strlen(part)) != NULL;
}

#define GET(target) "GET " target " HTTP/1.1\r\nHost: a\r\n\r\n"
#define POST(target) "POST " target " HTTP/1.1\r\nHost: a\r\n\r\n"

static void put(struct bench *bench, const char *body)
{
    ask(bench, POST("/api/v1/words"), body);
    EXPECT(bench->out.data[9] == '2');
}

TEST_CASE(words_come_and_go)
{
    struct bench bench;
    setup(&bench);

    EXPECT(holds(ask(&bench, POST("/api/v1/words"), "{\"word\":\"Trial\",\"score\":2}"),
                 "\"word stored\""));
    EXPECT(status_is(&bench, "201"));
    EXPECT(holds(ask(&bench, POST("/api/v1/words"), "{\"word\":\"Trial\",\"score\":5}"),
                 "\"word updated\""));
    EXPECT(status_is(&bench, "200"));
    EXPECT(holds(ask(&bench, GET("/api/v1/words?word=Trial"), ""), "\"score\":5,"));
    ask(&bench, GET("/api/v1/words?word=trial"), "");
    EXPECT(status_is(&bench, "404")); /* Identity is the exact bytes. */
    EXPECT(slice_equal(ask(&bench, GET("/search?q=tRi"), ""),
                       SLICE_LITERAL("{\"results\":[\"Trial\"]}")));
    EXPECT(holds(ask(&bench, POST("/api/v1/words/increment"), "{\"word\":\"Trial\",\"by\":2}"),
                 "\"score\":7,"));
    EXPECT(holds(ask(&bench, "DELETE /api/v1/words?word=Trial HTTP/1.1\r\nHost: a\r\n\r\n", ""),
                 "\"deleted\":true"));
    EXPECT(holds(ask(&bench, "DELETE /api/v1/words?word=Trial HTTP/1.1\r\nHost: a\r\n\r\n", ""),
                 "\"deleted\":false"));
    EXPECT(slice_equal(ask(&bench, GET("/search?q=tri"), ""), SLICE_LITERAL("{\"results\":[]}")));
    teardown(&bench);
}

/* Takes the value of "next_cursor" out of an answer. */
static bool next_cursor(struct slice body, char out[1024])
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

static void walk(struct bench *bench, const char *sort, const char *const *words, size_t count)
{
    char head[2048], cursor[1024] = "", expected[64];
    for (size_t i = 0; i < count; i++) {
        snprintf(head, sizeof head,
                 "GET /search?q=ab&limit=1&sort=%s%s%s HTTP/1.1\r\nHost: a\r\n\r\n", sort,
                 i == 0 ? "" : "&cursor=", cursor);
        struct slice body = ask(bench, head, "");
        snprintf(expected, sizeof expected, "{\"results\":[\"%s\"]", words[i]);
        EXPECT(holds(body, expected));
        EXPECT(next_cursor(body, cursor) == (i + 1 < count));
    }
}

TEST_CASE(pages_of_one_give_the_whole_in_every_order)
{
    struct bench bench;
    setup(&bench);
    put(&bench, "{\"word\":\"abd\",\"score\":1}");
    put(&bench, "{\"word\":\"Abc\",\"score\":3}");
    put(&bench, "{\"word\":\"abc\",\"score\":3}");
    put(&bench, "{\"word\":\"ABC\",\"score\":9}");
    put(&bench, "{\"word\":\"b\",\"score\":99}");

    walk(&bench, "popularity:desc", (const char *[]){"ABC", "Abc", "abc", "abd"}, 4);
    walk(&bench, "alphabetical:asc", (const char *[]){"abc", "ABC", "Abc", "abd"}, 4);
    walk(&bench, "alphabetical:desc", (const char *[]){"abd", "Abc", "ABC", "abc"}, 4);
    EXPECT(slice_equal(ask(&bench, GET("/api/v1/count?q=AB"), ""), SLICE_LITERAL("{\"count\":4}")));

    EXPECT(store_world_settle_down(&bench.world) == STATUS_OK);
    walk(&bench, "popularity:desc", (const char *[]){"ABC", "Abc", "abc", "abd"}, 4);
    walk(&bench, "alphabetical:desc", (const char *[]){"abd", "Abc", "ABC", "abc"}, 4);
    teardown(&bench);
}

TEST_CASE(a_cursor_of_another_query_is_refused)
{
    struct bench bench;
    char head[2048], cursor[1024];
    setup(&bench);
    put(&bench, "{\"word\":\"a\"}");
    put(&bench, "{\"word\":\"ab\"}");
    EXPECT(next_cursor(ask(&bench, GET("/search?q=a&limit=1"), ""), cursor));

    static const char *const others[] = {"q=b", "q=a&ns=other", "q=a&sort=alphabetical:asc"};
    for (size_t i = 0; i < 3; i++) {
        snprintf(head, sizeof head, "GET /search?%s&cursor=%s HTTP/1.1\r\nHost: a\r\n\r\n",
                 others[i], cursor);
        EXPECT(holds(ask(&bench, head, ""), "\"invalid_cursor\""));
        EXPECT(status_is(&bench, "400"));
    }
    cursor[3] = cursor[3] == 'A' ? 'B' : 'A';
    snprintf(head, sizeof head, "GET /search?q=a&cursor=%s HTTP/1.1\r\nHost: a\r\n\r\n", cursor);
    ask(&bench, head, "");
    EXPECT(status_is(&bench, "400"));
    teardown(&bench);
}

TEST_CASE(what_is_wrong_is_named)
{
    static const struct {
        const char *head, *body, *status, *part;
    } cases[] = {
        {GET("/nope"), "", "404", "no such route"},
        {GET("/api/v1/import"), "", "405", "method"},
        {GET("/search?limit=0"), "", "400", "\"field\":\"limit\""},
        {GET("/search?limit=1001"), "", "400", "1 to 1000"},
        {GET("/search?sort=x"), "", "400", "popularity:desc"},
        {GET("/search?q=a&q=b"), "", "400", "twice"},
        {GET("/search?fuzzy=1"), "", "400", "\"unknown_parameter\""},
        {GET("/search?q=%4"), "", "400", "percent"},
        {GET("/search?ns=a/b"), "", "400", "\"invalid_namespace\""},
        {GET("/api/v1/words"), "", "400", "\"field\":\"word\""},
        {POST("/api/v1/words"), "{", "400", "\"invalid_json\""},
        {POST("/api/v1/words"), "{\"word\":\"\"}", "400", "\"invalid_word\""},
        {POST("/api/v1/words"), "{\"word\":\"a\",\"scor\":1}", "400", "\"field\":\"scor\""},
        {POST("/api/v1/words"), "{\"word\":\"a\",\"score\":1e999}", "400", "\"invalid_score\""},
        {POST("/api/v1/words"), "{\"score\":1}", "400", "\"missing_field\""},
    };
    struct bench bench;
    setup(&bench);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct slice body = ask(&bench, cases[i].head, cases[i].body);
        EXPECT(status_is(&bench, cases[i].status));
        EXPECT(holds(body, cases[i].part));
    }
    EXPECT(slice_equal(ask(&bench, GET("/api/v1/count"), ""), SLICE_LITERAL("{\"count\":0}")));
    teardown(&bench);
}

static void import(struct bench *bench, const char *lines, struct slice *body)
{
    static struct http_request request;
    static const struct http_limits limits = {16 << 10, 64 << 10};
    struct node_import *import;
    struct node_param_error error;
    http_request_init(&request);
    EXPECT(http_request_parse(&request, &limits,
                              SLICE_LITERAL("POST /api/v1/import HTTP/1.1\r\nHost: a\r\n"
                                            "Content-Type: text/tab-separated-values\r\n"
                                            "Content-Length: 9\r\n\r\n")) == STATUS_OK);
    EXPECT(node_import_create(&bench->reader, &request, &import, &error) == STATUS_OK);
    struct slice input = slice_from_text(lines);
    node_batch_clear(&bench->batch);
    EXPECT(node_import_feed(import, &input, true, bench->world.now_ms, &bench->batch) == STATUS_OK);
    write_batch(bench);
    node_import_take(import, &bench->batch, STATUS_OK);
    struct node_reply reply = node_reply_of(&request);
    buf_clear(&bench->out);
    node_import_answer(import, &bench->reader, &reply, &bench->out);
    node_import_destroy(import);
    const char *end = memmem(bench->out.data, bench->out.size, "\r\n\r\n", 4);
    *body = slice_from(buf_slice(&bench->out), (size_t)(end + 4 - (const char *)bench->out.data));
}

TEST_CASE(a_bad_line_is_reported_by_number_and_the_rest_goes_in)
{
    struct bench bench;
    struct slice body;
    setup(&bench);
    import(&bench, "one\t1\ntwo\tx\nthree\t3\n", &body);
    EXPECT(status_is(&bench, "207"));
    EXPECT(holds(body, "{\"imported\":2,\"failed\":1,\"errors\":[{\"line\":2,"));
    import(&bench, "four\t4\n", &body);
    EXPECT(status_is(&bench, "200"));
    EXPECT(slice_equal(ask(&bench, GET("/search?q="), ""),
                       SLICE_LITERAL("{\"results\":[\"four\",\"three\",\"one\"]}")));
    teardown(&bench);
}

TEST_CASE(figures_are_there)
{
    struct bench bench;
    setup(&bench);
    EXPECT(holds(ask(&bench, GET("/metrics"), ""), "trifecta_build_info{version=\"test\"} 1"));
    EXPECT(holds(ask(&bench, GET("/api/v1/stats"), ""), "\"words\":"));
    EXPECT(holds(ask(&bench, GET("/ready"), ""), "\"ready\""));
    EXPECT(status_is(&bench, "200"));
    teardown(&bench);
}

TEST_MAIN(TEST(words_come_and_go), TEST(pages_of_one_give_the_whole_in_every_order),
          TEST(a_cursor_of_another_query_is_refused), TEST(what_is_wrong_is_named),
          TEST(a_bad_line_is_reported_by_number_and_the_rest_goes_in), TEST(figures_are_there))
