/* What bad input gets from the node: the status, the code and the field that name it; and
 * that nothing is stored by it. */
#include "node_bench.h"

#define SEARCH "/search"
#define WORDS "/api/v1/words"

static bool is_refused(const struct bench *bench, struct slice body, const char *status,
                       const char *code, const char *field)
{
    char part[128];
    if (!status_is(bench, status)) return false;
    snprintf(part, sizeof part, "\"code\":\"%s\"", code);
    if (!holds(body, part)) return false;
    if (field == NULL) return !holds(body, "\"field\"");
    snprintf(part, sizeof part, "\"field\":\"%s\"", field);
    return holds(body, part);
}

static void nothing_is_stored(struct bench *bench)
{
    EXPECT(slice_equal(ask(bench, GET("/api/v1/count"), ""), SLICE_LITERAL("{\"count\":0}")));
}

TEST_CASE(a_problem_says_what_where_and_for_which_request)
{
    struct bench bench;
    setup(&bench);
    struct slice body = ask(&bench,
                            "POST /api/v1/words HTTP/1.1\r\nHost: a\r\nX-Request-Id: b7\r\n\r\n",
                            "{\"word\":\"a\",\"score\":\"1\"}");
    EXPECT(slice_equal(body, SLICE_LITERAL("{\"type\":\"urn:trifecta:error:invalid_score\","
                                           "\"title\":\"The score is not a finite number\","
                                           "\"status\":400,\"detail\":\"a number was expected\","
                                           "\"code\":\"invalid_score\",\"field\":\"score\","
                                           "\"request_id\":\"b7\"}")));
    EXPECT(memmem(bench.out.data, bench.out.size, "Content-Type: application/problem+json\r\n",
                  40) != NULL);
    teardown(&bench);
}

TEST_CASE(bodies_of_writes)
{
    static const struct {
        const char *body, *code, *field;
    } cases[] = {
        {"", "invalid_json", NULL},
        {"{", "invalid_json", NULL},
        {"[]", "invalid_json", NULL},
        {"null", "invalid_json", NULL},
        {"\"a\"", "invalid_json", NULL},
        {"{\"word\":\"a\"} x", "invalid_json", NULL},
        {"{\"word\":\"a\"}{\"word\":\"b\"}", "invalid_json", NULL},
        {"{\"word\":\"a\",}", "invalid_json", NULL},
        {"{'word':'a'}", "invalid_json", NULL},
        {"{\"word\":\"\xff\"}", "invalid_json", "word"},
        {"{\"word\":\"\\ud800\"}", "invalid_json", "word"},
        {"{\"word\":\"\\x41\"}", "invalid_json", "word"},
        {"{\"word\":\"a\nb\"}", "invalid_json", "word"},
        {"{}", "missing_field", "word"},
        {"{\"score\":1}", "missing_field", "word"},
        {"{\"word\":\"\"}", "invalid_word", "word"},
        {"{\"word\":{\"base64\":\"\"}}", "invalid_word", "word"},
        {"{\"word\":{\"base64\":\"!\"}}", "invalid_json", "word"},
        {"{\"word\":{\"base63\":\"YQ==\"}}", "invalid_json", "word"},
        {"{\"word\":1}", "invalid_json", "word"},
        {"{\"word\":null}", "invalid_json", "word"},
        {"{\"word\":[\"a\"]}", "invalid_json", "word"},
        {"{\"word\":\"a\",\"word\":\"b\"}", "duplicate_field", "word"},
        {"{\"word\":\"a\",\"Score\":1}", "unknown_field", "Score"},
        {"{\"word\":\"a\",\"by\":1}", "unknown_field", "by"},
        {"{\"word\":\"a\",\"version\":\"1.0@1\"}", "unknown_field", "version"},
        {"{\"word\":\"a\",\"score\":NaN}", "invalid_score", "score"},
        {"{\"word\":\"a\",\"score\":Infinity}", "invalid_score", "score"},
        {"{\"word\":\"a\",\"score\":-Infinity}", "invalid_score", "score"},
        {"{\"word\":\"a\",\"score\":inf}", "invalid_score", "score"},
        {"{\"word\":\"a\",\"score\":1e999}", "invalid_score", "score"},
        {"{\"word\":\"a\",\"score\":-1e999}", "invalid_score", "score"},
        {"{\"word\":\"a\",\"score\":\"1\"}", "invalid_score", "score"},
        {"{\"word\":\"a\",\"score\":null}", "invalid_score", "score"},
        {"{\"word\":\"a\",\"score\":true}", "invalid_score", "score"},
        {"{\"word\":\"a\",\"score\":01}", "invalid_score", "score"},
        {"{\"word\":\"a\",\"score\":.5}", "invalid_score", "score"},
        {"{\"word\":\"a\",\"payload\":1}", "invalid_json", "payload"},
        {"{\"word\":\"a\",\"tags\":\"x\"}", "invalid_tags", "tags"},
        {"{\"word\":\"a\",\"tags\":[1]}", "invalid_json", "tags"},
        {"{\"word\":\"a\",\"tags\":[\"\"]}", "invalid_tags", "tags"},
        {"{\"word\":\"a\",\"ttl_ms\":0}", "invalid_expiry", "ttl_ms"},
        {"{\"word\":\"a\",\"ttl_ms\":-1}", "invalid_expiry", "ttl_ms"},
        {"{\"word\":\"a\",\"ttl_ms\":1.5}", "invalid_expiry", "ttl_ms"},
        {"{\"word\":\"a\",\"ttl_ms\":1e99}", "invalid_expiry", "ttl_ms"},
        {"{\"word\":\"a\",\"ttl_ms\":\"5\"}", "invalid_expiry", "ttl_ms"},
        {"{\"word\":\"a\",\"expires_at\":0}", "invalid_expiry", "expires_at"},
        {"{\"word\":\"a\",\"expires_at\":null}", "invalid_expiry", "expires_at"},
        {"{\"word\":\"a\",\"ttl_ms\":1,\"expires_at\":1}", "invalid_expiry", "ttl_ms"},
    };
    struct bench bench;
    setup(&bench);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct slice body = ask(&bench, POST(WORDS), cases[i].body);
        if (!is_refused(&bench, body, "400", cases[i].code, cases[i].field))
            fprintf(stderr, "%s\n  %.*s\n", cases[i].body, (int)body.size, (const char *)body.data);
        EXPECT(is_refused(&bench, body, "400", cases[i].code, cases[i].field));
    }
    EXPECT(is_refused(&bench,
                      ask(&bench, POST(WORDS "/increment"), "{\"word\":\"a\",\"by\":1e999}"), "400",
                      "invalid_score", "by"));
    EXPECT(is_refused(&bench, ask(&bench, POST(WORDS "/increment"), "{\"word\":\"a\",\"score\":1}"),
                      "400", "unknown_field", "score"));
    EXPECT(is_refused(&bench,
                      ask(&bench, "DELETE /api/v1/words HTTP/1.1\r\nHost: a\r\n\r\n",
                          "{\"word\":\"a\",\"score\":1}"),
                      "400", "unknown_field", "score"));
    nothing_is_stored(&bench);
    teardown(&bench);
}

#define DELETE(query) "DELETE /api/v1/words" query " HTTP/1.1\r\nHost: a\r\n\r\n"

TEST_CASE(a_removal_names_one_word_in_one_way_or_both)
{
    struct bench bench;
    setup(&bench);
    ask(&bench, POST(WORDS), "{\"word\":\"a\"}");
    ask(&bench, POST(WORDS), "{\"word\":\"b\"}");
    EXPECT(is_refused(&bench, ask(&bench, DELETE("?word=a"), "{\"word\":\"b\"}"), "400",
                      "invalid_parameter", "word"));
    EXPECT(is_refused(&bench, ask(&bench, DELETE("?word=a"), "b"), "400", "invalid_json", NULL));
    EXPECT(is_refused(&bench, ask(&bench, DELETE("?word=a"), "{\"word\":\"a\",\"x\":1}"), "400",
                      "unknown_field", "x"));
    EXPECT(is_refused(&bench, ask(&bench, DELETE(""), ""), "400", "missing_field", "word"));
    ask(&bench, GET(WORDS "?word=a"), "");
    EXPECT(status_is(&bench, "200"));
    ask(&bench, DELETE("?word=a"), "{\"word\":\"a\"}");
    EXPECT(status_is(&bench, "200"));
    ask(&bench, GET(WORDS "?word=a"), "");
    EXPECT(status_is(&bench, "404"));
    ask(&bench, DELETE("?word=b"), "");
    EXPECT(status_is(&bench, "200"));
    ask(&bench, GET(WORDS "?word=b"), "");
    EXPECT(status_is(&bench, "404"));
    teardown(&bench);
}

TEST_CASE(who_sends_no_body_is_told_so)
{
    struct bench bench;
    setup(&bench);
    struct slice body = ask(&bench, POST(WORDS), "");
    EXPECT(is_refused(&bench, body, "400", "invalid_json", NULL));
    EXPECT(memmem(body.data, body.size, "there is no body", 16) != NULL);
    teardown(&bench);
}

/* A body with one string of a given size in it. */
static struct slice ask_with(struct bench *bench, const char *before, size_t size,
                             const char *after)
{
    static char body[600000];
    size_t at = (size_t)snprintf(body, sizeof body, "%s", before);
    memset(body + at, 'x', size);
    at += size;
    at += (size_t)snprintf(body + at, sizeof body - at, "%s", after);
    return ask_bytes(bench, POST(WORDS), slice_of(body, at));
}

TEST_CASE(sizes_up_to_their_limit_and_one_beyond)
{
    struct bench bench;
    setup(&bench);
    EXPECT(is_refused(&bench, ask_with(&bench, "{\"word\":\"", 4097, "\"}"), "400", "invalid_word",
                      "word"));
    EXPECT(is_refused(&bench, ask_with(&bench, "{\"word\":\"a\",\"payload\":\"", 65537, "\"}"),
                      "413", "payload_too_large", "payload"));
    EXPECT(is_refused(&bench, ask_with(&bench, "{\"word\":\"a\",\"tags\":[\"", 65, "\"]}"), "400",
                      "invalid_tags", "tags"));
    EXPECT(is_refused(&bench, ask_with(&bench, "{\"word\":\"a\",\"payload\":\"", 524288, "\"}"),
                      "413", "payload_too_large", NULL));
    EXPECT(
        is_refused(&bench, ask_with(&bench, "{\"", 1000, "\":1}"), "400", "unknown_field", NULL));
    nothing_is_stored(&bench);

    ask_with(&bench, "{\"word\":\"", 4096, "\"}");
    EXPECT(status_is(&bench, "201"));
    ask_with(&bench, "{\"word\":\"a\",\"payload\":\"", 65536, "\"}");
    EXPECT(status_is(&bench, "201"));
    ask_with(&bench, "{\"word\":\"b\",\"tags\":[\"", 64, "\"]}");
    EXPECT(status_is(&bench, "201"));

    char tags[512] = "{\"word\":\"c\",\"tags\":[\"0\"";
    for (int i = 1; i < 32; i++)
        snprintf(tags + strlen(tags), sizeof tags - strlen(tags), ",\"%d\"", i);
    size_t size = strlen(tags);
    snprintf(tags + size, sizeof tags - size, ",\"32\"]}");
    EXPECT(is_refused(&bench, ask(&bench, POST(WORDS), tags), "400", "invalid_tags", "tags"));
    snprintf(tags + size, sizeof tags - size, "]}");
    ask(&bench, POST(WORDS), tags);
    EXPECT(status_is(&bench, "201"));
    teardown(&bench);
}

TEST_CASE(parameters_of_every_route)
{
    static const struct {
        const char *head, *code, *field;
    } cases[] = {
        {GET(SEARCH "?limit="), "invalid_parameter", "limit"},
        {GET(SEARCH "?limit=0"), "invalid_parameter", "limit"},
        {GET(SEARCH "?limit=1001"), "invalid_parameter", "limit"},
        {GET(SEARCH "?limit=-1"), "invalid_parameter", "limit"},
        {GET(SEARCH "?limit=1.0"), "invalid_parameter", "limit"},
        {GET(SEARCH "?limit=99999999999999999999"), "invalid_parameter", "limit"},
        {GET(SEARCH "?limit=5&limit=5"), "invalid_parameter", "limit"},
        {GET(SEARCH "?sort=popularity"), "invalid_parameter", "sort"},
        {GET(SEARCH "?sort=popularity:asc"), "invalid_parameter", "sort"},
        {GET(SEARCH "?sort="), "invalid_parameter", "sort"},
        {GET(SEARCH "?cursor="), "invalid_cursor", "cursor"},
        {GET(SEARCH "?cursor=%00"), "invalid_cursor", "cursor"},
        {GET(SEARCH "?consistency=two"), "invalid_parameter", "consistency"},
        {GET(SEARCH "?ns="), "invalid_namespace", "ns"},
        {GET(SEARCH "?ns=a%00b"), "invalid_namespace", "ns"},
        {GET(SEARCH "?ns=a%20b"), "invalid_namespace", "ns"},
        {GET(SEARCH "?ns=12345678901234567890123456789012345678901234567890123456789012345"),
         "invalid_namespace", "ns"},
        {GET(SEARCH "?fuzzy=1"), "unknown_parameter", "fuzzy"},
        {GET(SEARCH "?word=a"), "unknown_parameter", "word"},
        {GET(SEARCH "?Q=a"), "unknown_parameter", "Q"},
        {GET(SEARCH "?q%20=a"), "unknown_parameter", "q "},
        {GET(SEARCH "?=a"), "unknown_parameter", NULL},
        {GET(SEARCH "?%ff=a"), "unknown_parameter", NULL},
        {GET(SEARCH "?q=%"), "invalid_parameter", NULL},
        {GET(SEARCH "?q=%zz"), "invalid_parameter", NULL},
        {GET(SEARCH "?q=a&q=a"), "invalid_parameter", "q"},
        {GET("/api/v1/search?format=tsv"), "unknown_parameter", "format"},
        {GET("/api/v1/count?limit=1"), "unknown_parameter", "limit"},
        {GET("/api/v1/count?cursor=a"), "unknown_parameter", "cursor"},
        {GET("/api/v1/count?sort=popularity:desc"), "unknown_parameter", "sort"},
        {GET(WORDS), "missing_field", "word"},
        {GET(WORDS "?word="), "invalid_word", "word"},
        {GET(WORDS "?word=a&q=a"), "unknown_parameter", "q"},
        {POST(WORDS "?word=a"), "unknown_parameter", "word"},
        {POST(WORDS "?ns=/"), "invalid_namespace", "ns"},
        {POST(WORDS "/increment?word=a"), "unknown_parameter", "word"},
        {"DELETE /api/v1/words?word=&ns=a HTTP/1.1\r\nHost: a\r\n\r\n", "invalid_word", "word"},
        {DELETE(""), "missing_field", "word"},
    };
    struct bench bench;
    setup(&bench);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct slice body = ask(&bench, cases[i].head, "");
        if (!is_refused(&bench, body, "400", cases[i].code, cases[i].field))
            fprintf(stderr, "%.40s\n  %.*s\n", cases[i].head, (int)body.size,
                    (const char *)body.data);
        EXPECT(is_refused(&bench, body, "400", cases[i].code, cases[i].field));
    }

    static char head[9000];
    size_t at = (size_t)snprintf(head, sizeof head, "GET /search?q=");
    memset(head + at, 'x', 4097);
    snprintf(head + at + 4097, sizeof head - at - 4097, " HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT(is_refused(&bench, ask(&bench, head, ""), "400", "invalid_parameter", "q"));
    snprintf(head + at + 4096, sizeof head - at - 4096, " HTTP/1.1\r\nHost: a\r\n\r\n");
    ask(&bench, head, "");
    EXPECT(status_is(&bench, "200"));
    nothing_is_stored(&bench);
    teardown(&bench);
}

/* Property: a cursor with any byte changed, cut anywhere or with something after it is refused;
 * and so is one of another query. */
TEST_CASE(cursors_that_are_not_ours)
{
    static const char *const sorts[] = {"popularity:desc", "alphabetical:asc", "alphabetical:desc"};
    static const char alphabet[] = "Aa0-_";
    struct bench bench;
    char head[2048], cursor[1024], changed[1040];
    setup(&bench);
    put(&bench, "{\"word\":\"aa\"}");
    put(&bench, "{\"word\":\"Ab\"}");

    for (size_t sort = 0; sort < 3; sort++) {
        snprintf(head, sizeof head, "GET /search?q=a&limit=1&sort=%s HTTP/1.1\r\nHost: a\r\n\r\n",
                 sorts[sort]);
        EXPECT(next_cursor(ask(&bench, head, ""), cursor));
        size_t size = strlen(cursor);
        for (size_t i = 0; i < size; i++) {
            for (size_t c = 0; alphabet[c] != '\0'; c++) {
                if (cursor[i] == alphabet[c]) continue;
                snprintf(changed, sizeof changed, "%s", cursor);
                changed[i] = alphabet[c];
                snprintf(head, sizeof head,
                         "GET /search?q=a&sort=%s&cursor=%s HTTP/1.1\r\nHost: a\r\n\r\n",
                         sorts[sort], changed);
                EXPECT(
                    is_refused(&bench, ask(&bench, head, ""), "400", "invalid_cursor", "cursor"));
            }
            snprintf(head, sizeof head,
                     "GET /search?q=a&sort=%s&cursor=%.*s HTTP/1.1\r\nHost: a\r\n\r\n", sorts[sort],
                     (int)i, cursor);
            EXPECT(is_refused(&bench, ask(&bench, head, ""), "400", "invalid_cursor", "cursor"));
        }
        for (size_t other = 0; other < 3; other++) {
            snprintf(head, sizeof head,
                     "GET /search?q=a&sort=%s&cursor=%s HTTP/1.1\r\nHost: a\r\n\r\n", sorts[other],
                     cursor);
            ask(&bench, head, "");
            EXPECT(status_is(&bench, other == sort ? "200" : "400"));
        }
        static const char *const queries[] = {"q=aa", "q=", "q=a&ns=b"};
        for (size_t i = 0; i < 3; i++) {
            snprintf(head, sizeof head,
                     "GET /search?%s&sort=%s&cursor=%s HTTP/1.1\r\nHost: a\r\n\r\n", queries[i],
                     sorts[sort], cursor);
            EXPECT(is_refused(&bench, ask(&bench, head, ""), "400", "invalid_cursor", "cursor"));
        }
        /* The same question in other letters and on the other route. */
        snprintf(head, sizeof head,
                 "GET /api/v1/search?q=A&limit=7&sort=%s&cursor=%s HTTP/1.1\r\nHost: a\r\n\r\n",
                 sorts[sort], cursor);
        ask(&bench, head, "");
        EXPECT(status_is(&bench, "200"));
    }
    teardown(&bench);
}

TEST_CASE(a_sum_that_is_no_number_is_refused_and_changes_nothing)
{
    struct bench bench;
    setup(&bench);
    put(&bench, "{\"word\":\"a\",\"score\":1.7e308}");
    EXPECT(is_refused(&bench,
                      ask(&bench, POST(WORDS "/increment"), "{\"word\":\"a\",\"by\":1.7e308}"),
                      "400", "invalid_score", NULL));
    EXPECT(holds(ask(&bench, GET(WORDS "?word=a"), ""), "\"score\":1.7e+308,"));
    teardown(&bench);
}

TEST_CASE(imports_that_cannot_begin)
{
    static const struct {
        const char *head;
        enum problem_code code;
    } cases[] = {
        {IMPORT("", "application/json"), PROBLEM_UNSUPPORTED_MEDIA_TYPE},
        {IMPORT("", "text/csvx"), PROBLEM_UNSUPPORTED_MEDIA_TYPE},
        {IMPORT("", ""), PROBLEM_UNSUPPORTED_MEDIA_TYPE},
        {POST("/api/v1/import"), PROBLEM_UNSUPPORTED_MEDIA_TYPE},
        {IMPORT("?ns=/", "text/csv"), PROBLEM_INVALID_NAMESPACE},
        {IMPORT("?format=csv", "text/csv"), PROBLEM_UNKNOWN_PARAMETER},
    };
    static struct http_request request;
    static const struct http_limits limits = {16 << 10, 64 << 10};
    struct bench bench;
    setup(&bench);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct node_import *import;
        struct node_param_error error;
        http_request_init(&request);
        EXPECT(http_request_parse(&request, &limits, slice_from_text(cases[i].head)) == STATUS_OK);
        EXPECT(node_import_create(&bench.reader, &request, &import, &error) == STATUS_INVALID);
        EXPECT(error.code == cases[i].code);
    }
    teardown(&bench);
}

/* In pieces of every size: the bad lines are named by number, the others go in. */
TEST_CASE(bad_lines_between_good_ones)
{
    static const char lines[] = "{\"word\":\"one\",\"score\":1}\n"
                                "\n"
                                "{\"word\":\"\"}\n"
                                "{\"word\":\"two\",\"score\":NaN}\n"
                                "{\"word\":\"three\",\"scor\":3}\r\n"
                                "not json\n"
                                "{\"word\":\"fo\\u0000ur\",\"tags\":[\"t\"]}\r\n"
                                "{\"word\":{\"base64\":\"/w==\"},\"ttl_ms\":1000}\n"
                                "{\"word\":\"last\"}";
    struct bench bench;
    for (size_t piece = 1; piece < 40; piece += piece < 8 ? 1 : 13) {
        setup(&bench);
        struct slice body = import(&bench, IMPORT("?ns=n", "application/x-ndjson; charset=utf-8"),
                                   slice_from_text(lines), piece);
        EXPECT(status_is(&bench, "207"));
        EXPECT(holds(body, "{\"imported\":4,\"failed\":4,\"errors\":["
                           "{\"line\":3,\"code\":\"invalid_word\","));
        EXPECT(holds(body, "{\"line\":4,\"code\":\"invalid_score\","));
        EXPECT(holds(body, "{\"line\":5,\"code\":\"unknown_field\","));
        EXPECT(holds(body, "{\"line\":6,\"code\":\"invalid_json\","));
        EXPECT(
            slice_equal(ask(&bench, GET("/search?ns=n"), ""),
                        SLICE_LITERAL("{\"results\":[\"one\",\"fo\\u0000ur\",{\"base64\":\"/w==\"},"
                                      "\"last\"]}")));
        teardown(&bench);
    }
}

TEST_CASE(of_many_bad_lines_all_are_counted_and_the_first_hundred_listed)
{
    static char lines[40000];
    struct bench bench;
    size_t at = 0;
    for (int i = 1; i <= 1000; i++)
        at += (size_t)snprintf(lines + at, sizeof lines - at, "w%d\t%s\n", i, i % 2 ? "x" : "1");
    setup(&bench);
    struct slice body =
        import(&bench, IMPORT("", "text/tab-separated-values"), slice_of(lines, at), 777);
    EXPECT(holds(body, "{\"imported\":500,\"failed\":500,"));
    EXPECT(holds(body, "{\"line\":199,"));
    EXPECT(!holds(body, "{\"line\":201,"));
    EXPECT(slice_equal(ask(&bench, GET("/api/v1/count"), ""), SLICE_LITERAL("{\"count\":500}")));
    teardown(&bench);
}

TEST_CASE(lines_that_are_too_long_cost_themselves_alone)
{
    static char lines[60000];
    struct bench bench;
    size_t at = (size_t)snprintf(lines, sizeof lines, "before,1\n");
    memset(lines + at, 'x', 20000);
    at += 20000;
    at += (size_t)snprintf(lines + at, sizeof lines - at, ",1\n\"");
    memset(lines + at, 'y', 4096);
    at += 4096;
    at += (size_t)snprintf(lines + at, sizeof lines - at, "\",2\n\"z,1\n\"\"\"quoted\"\"\"\n");
    setup(&bench);
    struct slice body = import(&bench, IMPORT("", "TEXT/CSV"), slice_of(lines, at), 1000);
    EXPECT(holds(body, "{\"line\":2,\"code\":\"line_too_long\","));
    ask(&bench, GET(WORDS "?word=before"), "");
    EXPECT(status_is(&bench, "200"));
    EXPECT(
        slice_equal(ask(&bench, GET("/api/v1/count?q=yyy"), ""), SLICE_LITERAL("{\"count\":1}")));
    teardown(&bench);
}

TEST_MAIN(TEST(a_removal_names_one_word_in_one_way_or_both), TEST(who_sends_no_body_is_told_so),
          TEST(a_problem_says_what_where_and_for_which_request), TEST(bodies_of_writes),
          TEST(sizes_up_to_their_limit_and_one_beyond), TEST(parameters_of_every_route),
          TEST(cursors_that_are_not_ours),
          TEST(a_sum_that_is_no_number_is_refused_and_changes_nothing),
          TEST(imports_that_cannot_begin), TEST(bad_lines_between_good_ones),
          TEST(of_many_bad_lines_all_are_counted_and_the_first_hundred_listed),
          TEST(lines_that_are_too_long_cost_themselves_alone))
