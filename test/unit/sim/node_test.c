/* The node's routes: what right requests are answered. */
#include "node_bench.h"

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

TEST_CASE(a_bad_line_is_reported_by_number_and_the_rest_goes_in)
{
    struct bench bench;
    struct slice body;
    setup(&bench);
    body = import(&bench, IMPORT("", "text/tab-separated-values"),
                  SLICE_LITERAL("one\t1\ntwo\tx\nthree\t3\n"), SIZE_MAX);
    EXPECT(status_is(&bench, "207"));
    EXPECT(holds(body, "{\"imported\":2,\"failed\":1,\"errors\":[{\"line\":2,"));
    import(&bench, IMPORT("", "text/tab-separated-values"), SLICE_LITERAL("four\t4\n"), SIZE_MAX);
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
