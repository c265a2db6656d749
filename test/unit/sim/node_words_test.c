/* Words through the node: any bytes, every case, expiry, pages, exports. */
#include "node_bench.h"

#include "core/limits.h"
#include "proto/base64.h"

#define WORDS "/api/v1/words"

/* Stores `word`, whatever its bytes, as base64. */
static void put_bytes(struct bench *bench, struct slice word, double score)
{
    struct buf body;
    char rest[64];
    buf_init(&body, &bench->world.heap);
    buf_append_text(&body, "{\"word\":{\"base64\":\"");
    base64_encode(BASE64_PADDED, word, &body);
    snprintf(rest, sizeof rest, "\"},\"score\":%.17g}", score);
    buf_append_text(&body, rest);
    ask_bytes(bench, POST(WORDS), buf_slice(&body));
    EXPECT(bench->out.data[9] == '2');
    buf_deinit(&body);
}

static struct slice ask_escaped(struct bench *bench, const char *before, struct slice bytes,
                                const char *after)
{
    static char head[16 << 10];
    size_t at = (size_t)snprintf(head, sizeof head, "%s", before);
    for (size_t i = 0; i < bytes.size; i++)
        at += (size_t)snprintf(head + at, sizeof head - at, "%%%02x", bytes.data[i]);
    snprintf(head + at, sizeof head - at, "%s HTTP/1.1\r\nHost: a\r\n\r\n", after);
    return ask(bench, head, "");
}

/* Property: words of random bytes are found by themselves, counted and deleted exactly. */
TEST_CASE(any_bytes_are_a_word)
{
    static const uint8_t likely[] = {0, 1, 0xff, 0xc3, 0x9f, 'a', 'A', '%', '"', '\\', '\n', ' '};
    struct prng prng = {.state = test_seed};
    struct bench bench;
    setup(&bench);
    for (int round = 0; round < 300; round++) {
        uint8_t bytes[4096];
        size_t size = 1 + prng_below(&prng, round % 50 == 0 ? sizeof bytes : 12);
        for (size_t i = 0; i < size; i++)
            bytes[i] = prng_below(&prng, 2) ? (uint8_t)prng_u32(&prng)
                                            : likely[prng_below(&prng, sizeof likely)];
        struct slice word = slice_of(bytes, size);
        put_bytes(&bench, word, round);
        struct slice body = ask_escaped(&bench, "GET /api/v1/words?word=", word, "");
        EXPECT(status_is(&bench, "200"));
        char score[32];
        snprintf(score, sizeof score, "\"score\":%d,", round);
        EXPECT(holds(body, score));
        ask_escaped(&bench, "GET /search?limit=1000&q=", word, "");
        EXPECT(status_is(&bench, "200"));
        if (round % 2 == 0) continue;
        EXPECT(
            holds(ask_escaped(&bench, "DELETE /api/v1/words?word=", word, ""), "\"deleted\":true"));
        ask_escaped(&bench, "GET /api/v1/words?word=", word, "");
        EXPECT(status_is(&bench, "404"));
    }
    teardown(&bench);
}

TEST_CASE(matching_folds_case_and_nothing_else)
{
    static const struct {
        const char *word, *query;
        bool matches;
    } cases[] = {
        {"Stra\xc3\x9f"
         "e",
         "STRAS", true}, /* ß folds as s, */
        {"Stra\xc3\x9f"
         "e",
         "STRASS", false}, /* and not as ss. */
        {"\xc3\x89"
         "cole",
         "\xc3\xa9"
         "c",
         true}, /* É, é */
        {"\xc3\x89"
         "cole",
         "ec", false},                                          /* Accents stay. */
        {"\xce\xa3\xce\xaf", "\xcf\x83", true},                 /* Σ, σ */
        {"\xcf\x82", "\xcf\x83", true},                         /* ς, σ */
        {"\xd0\x9c\xd0\x98\xd0\xa0", "\xd0\xbc\xd0\xb8", true}, /* МИР, ми */
        {"\xe2\x84\xaa", "k", true},                            /* The sign for kelvin. */
        {"\xc3", "\xc3", true},     /* Half a letter stands for itself. */
        {"\xc3\x89", "\xc3", true}, /* Bytes match bytes. */
        {"a b", "A B", true},
        {"a\tb", "a b", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench bench;
        setup(&bench);
        put_bytes(&bench, slice_from_text(cases[i].word), 1);
        struct slice body =
            ask_escaped(&bench, "GET /api/v1/count?q=", slice_from_text(cases[i].query), "");
        EXPECT(slice_equal(body, cases[i].matches ? SLICE_LITERAL("{\"count\":1}")
                                                  : SLICE_LITERAL("{\"count\":0}")));
        teardown(&bench);
    }
}

TEST_CASE(a_match_says_which_bytes_of_the_word_it_was)
{
    struct bench bench;
    setup(&bench);
    put(&bench, "{\"word\":\"Stra\xc3\x9f"
                "enbahn\"}");
    EXPECT(holds(ask(&bench, GET("/api/v1/search?q=stras"), ""), "\"match\":[0,6]"));
    EXPECT(holds(ask(&bench, GET("/api/v1/search?q=stra"), ""), "\"match\":[0,4]"));
    EXPECT(holds(ask(&bench, GET("/api/v1/search?q="), ""), "\"match\":[0,0]"));
    teardown(&bench);
}

TEST_CASE(expired_words_are_gone_everywhere)
{
    char body[128];
    struct bench bench;
    setup(&bench);
    uint64_t now = bench.world.now_ms;
    put(&bench, "{\"word\":\"keep\"}");
    put(&bench, "{\"word\":\"ttl\",\"ttl_ms\":1000}");
    snprintf(body, sizeof body, "{\"word\":\"at\",\"expires_at\":%llu}",
             (unsigned long long)now + 2000);
    put(&bench, body);
    snprintf(body, sizeof body, "\"expires_at\":%llu}", (unsigned long long)now + 1000);
    EXPECT(holds(ask(&bench, GET(WORDS "?word=ttl"), ""), body));
    EXPECT(holds(ask(&bench, GET("/api/v1/count"), ""), "{\"count\":3}"));

    bench.world.now_ms = now + 1000; /* Expired is what expires_at has reached. */
    ask(&bench, GET(WORDS "?word=ttl"), "");
    EXPECT(status_is(&bench, "404"));
    EXPECT(holds(ask(&bench, GET("/api/v1/count"), ""), "{\"count\":2}"));
    EXPECT(holds(ask(&bench, GET("/search"), ""), "[\"keep\",\"at\"]"));
    bench.world.now_ms = now + 2000;
    EXPECT(holds(ask(&bench, GET("/search?sort=alphabetical:asc"), ""), "[\"keep\"]"));
    EXPECT(holds(ask(&bench, "DELETE /api/v1/words?word=at HTTP/1.1\r\nHost: a\r\n\r\n", ""),
                 "\"deleted\":false"));
    put(&bench, "{\"word\":\"ttl\"}");
    EXPECT(status_is(&bench, "201")); /* New again. */
    EXPECT(!holds(ask(&bench, GET(WORDS "?word=ttl"), ""), "expires_at"));

    /* The furthest time to expire at can be read back in. */
    put(&bench, "{\"word\":\"far\",\"ttl_ms\":9007199254740992}");
    EXPECT(holds(ask(&bench, GET(WORDS "?word=far"), ""), "\"expires_at\":9007199254740992}"));
    teardown(&bench);
}

/* A set replaces all fields; an increment touches the score alone. */
TEST_CASE(fields_of_a_word)
{
    struct bench bench;
    setup(&bench);
    put(&bench, "{\"word\":\"w\",\"score\":-0.5,\"payload\":\"p\",\"tags\":[\"z\",\"a\",\"z\"]}");
    struct slice body = ask(&bench, GET("/api/v1/search?q=w"), "");
    EXPECT(holds(body, "{\"word\":\"w\",\"score\":-0.5,\"payload\":\"p\",\"tags\":[\"a\",\"z\"],"
                       "\"match\":[0,1]}"));
    EXPECT(holds(body, "\"complete\":true,\"took_us\":7"));
    EXPECT(holds(ask(&bench, POST(WORDS "/increment"), "{\"word\":\"w\"}"), "\"score\":0.5,"));
    EXPECT(
        holds(ask(&bench, GET(WORDS "?word=w"), ""), "\"payload\":\"p\",\"tags\":[\"a\",\"z\"]"));
    put(&bench, "{\"word\":\"w\"}");
    body = ask(&bench, GET(WORDS "?word=w"), "");
    EXPECT(holds(body, "\"score\":1,"));
    EXPECT(!holds(body, "payload") && !holds(body, "tags"));
    put(&bench, "{\"word\":\"w\",\"payload\":\"\",\"tags\":[]}");
    body = ask(&bench, GET(WORDS "?word=w"), "");
    EXPECT(holds(body, "\"payload\":\"\"") && !holds(body, "tags"));
    EXPECT(holds(ask(&bench, POST(WORDS "/increment"), "{\"word\":\"new\",\"by\":-2}"),
                 "\"word stored\",\"word\":\"new\",\"score\":-2,"));
    EXPECT(status_is(&bench, "201"));
    teardown(&bench);
}

/* Takes the results of a page, text by text, off an answer of /search. */
static size_t append_results(struct slice body, char (*words)[8], size_t count)
{
    const char *at = (const char *)body.data + strlen("{\"results\":[");
    while (*at == '"') {
        const char *end = memchr(at + 1, '"', 8);
        EXPECT(end != NULL);
        memset(words[count], 0, 8);
        memcpy(words[count++], at + 1, (size_t)(end - at - 1));
        at = end[1] == ',' ? end + 2 : end + 1;
    }
    return count;
}

/* Property: for every sort and any size of page the pages make the whole, and the top k is a
 * prefix of the top k + 1; before and after a flush. */
TEST_CASE(pages_of_every_size_make_the_whole)
{
    static const char *const sorts[] = {"popularity:desc", "alphabetical:asc", "alphabetical:desc"};
    enum { COUNT = 60 };
    static char whole[COUNT + 1][8], pages[COUNT + 1][8];
    struct prng prng = {.state = test_seed};
    struct bench bench;
    char head[2048], cursor[1024], body[64];
    setup(&bench);
    for (int i = 0; i < COUNT; i++) {
        snprintf(body, sizeof body, "{\"word\":\"%c%02d\",\"score\":%u}", i % 2 ? 'w' : 'W', i,
                 (unsigned)prng_below(&prng, 4));
        put(&bench, body);
        if (i == COUNT / 2) EXPECT(store_world_settle_down(&bench.world) == STATUS_OK);
    }
    for (int flushed = 0; flushed < 2; flushed++) {
        for (size_t sort = 0; sort < 3; sort++) {
            snprintf(head, sizeof head,
                     "GET /search?q=w&limit=1000&sort=%s HTTP/1.1\r\nHost: a\r\n\r\n", sorts[sort]);
            EXPECT(append_results(ask(&bench, head, ""), whole, 0) == COUNT);
            for (unsigned size = 1; size <= COUNT; size += size < 4 ? 1 : 9) {
                size_t count = 0;
                cursor[0] = '\0';
                do {
                    snprintf(head, sizeof head,
                             "GET /search?q=W&limit=%u&sort=%s%s%s HTTP/1.1\r\nHost: a\r\n\r\n",
                             size, sorts[sort], cursor[0] == '\0' ? "" : "&cursor=", cursor);
                    count = append_results(ask(&bench, head, ""), pages, count);
                } while (next_cursor(body_of(&bench), cursor));
                EXPECT(count == COUNT);
                EXPECT(memcmp(pages, whole, sizeof *pages * COUNT) == 0);
            }
        }
        EXPECT(store_world_settle_down(&bench.world) == STATUS_OK);
    }
    teardown(&bench);
}

static enum status run_export(struct bench *bench, const char *query, int *steps)
{
    static struct http_request request;
    static const struct http_limits limits = {16 << 10, 64 << 10};
    struct node_param_error error;
    struct node_export *lines;
    char head[256];

    snprintf(head, sizeof head, "GET /api/v1/export%s HTTP/1.1\r\nHost: a\r\n\r\n", query);
    http_request_init(&request);
    EXPECT(http_request_parse(&request, &limits, slice_from_text(head)) == STATUS_OK);
    enum status status = node_export_create(&bench->reader, &request, &lines, &error);
    if (status != STATUS_OK) return status;
    buf_clear(&bench->out);
    *steps = 0;
    do {
        (*steps)++;
        status = node_export_step(lines, &bench->reader, store_view(bench->world.store),
                                  bench->world.now_ms, &bench->out);
    } while (status == STATUS_PARTIAL);
    node_export_destroy(lines);
    return status;
}

TEST_CASE(an_export_holds_every_field_and_comes_back_by_import)
{
    int steps;
    struct bench bench;
    setup(&bench);
    put(&bench, "{\"word\":\"b\",\"score\":2.5,\"payload\":\"x\\ny\",\"tags\":[\"t\"]}");
    put(&bench, "{\"word\":\"A\",\"expires_at\":9007199254740992}");
    put_bytes(&bench, SLICE_LITERAL("\xff\x00"), -1);
    EXPECT(run_export(&bench, "?format=ndjson", &steps) == STATUS_OK && steps == 1);
    EXPECT(
        slice_equal(buf_slice(&bench.out),
                    SLICE_LITERAL("{\"word\":\"A\",\"score\":1,\"expires_at\":9007199254740992}\n"
                                  "{\"word\":\"b\",\"score\":2.5,\"payload\":\"x\\ny\","
                                  "\"tags\":[\"t\"]}\n"
                                  "{\"word\":{\"base64\":\"/wA=\"},\"score\":-1}\n")));
    struct buf lines;
    buf_init(&lines, &bench.world.heap);
    buf_append_slice(&lines, buf_slice(&bench.out));
    import(&bench, IMPORT("?ns=copy", "application/x-ndjson"), buf_slice(&lines), 7);
    EXPECT(status_is(&bench, "200"));
    EXPECT(run_export(&bench, "?ns=copy", &steps) == STATUS_OK);
    EXPECT(slice_equal(buf_slice(&bench.out), buf_slice(&lines)));
    buf_deinit(&lines);

    EXPECT(run_export(&bench, "?q=a&format=tsv", &steps) == STATUS_OK);
    EXPECT(slice_equal(buf_slice(&bench.out), SLICE_LITERAL("A\t1\n")));
    EXPECT(run_export(&bench, "?format=xml", &steps) == STATUS_INVALID);
    EXPECT(run_export(&bench, "?limit=5", &steps) == STATUS_INVALID);
    put(&bench, "{\"word\":\"a\\tb\"}");
    EXPECT(run_export(&bench, "?format=tsv", &steps) == STATUS_INVALID);
    teardown(&bench);
}

TEST_CASE(a_long_export_goes_on_in_a_new_view_each_step)
{
    static char lines[200000];
    int steps;
    struct bench bench;
    size_t at = 0;
    for (int i = 0; i < 9000; i++)
        at += (size_t)snprintf(lines + at, sizeof lines - at, "some word %05d\t1\n", i);
    setup(&bench);
    import(&bench, IMPORT("", "text/tab-separated-values"), slice_of(lines, at), 10000);
    EXPECT(status_is(&bench, "200"));
    EXPECT(run_export(&bench, "?format=tsv", &steps) == STATUS_OK && steps > 2);
    EXPECT(slice_equal(buf_slice(&bench.out), slice_of(lines, at)));
    teardown(&bench);
}

/* Whoever asks for a thousand payloads gets them in several pages. */
TEST_CASE(a_page_that_grows_too_long_ends_early)
{
    static char body[80000];
    struct bench bench;
    char head[1200], cursor[1024] = "";
    size_t words = 0, pages = 0;
    setup(&bench);
    for (int i = 0; i < 150; i++) {
        size_t at = (size_t)snprintf(body, sizeof body, "{\"word\":\"w%03d\",\"payload\":\"", i);
        memset(body + at, 'p', 65536);
        snprintf(body + at + 65536, sizeof body - at - 65536, "\"}");
        put(&bench, body);
    }
    do {
        snprintf(head, sizeof head, "GET /api/v1/search?limit=1000%s%s HTTP/1.1\r\nHost: a\r\n\r\n",
                 cursor[0] == '\0' ? "" : "&cursor=", cursor);
        struct slice answer = ask(&bench, head, "");
        EXPECT(status_is(&bench, "200"));
        EXPECT(answer.size < SEARCH_ANSWER_BYTES_MAX + 70000);
        const char *at = (const char *)answer.data, *end = at + answer.size;
        while ((at = memmem(at, (size_t)(end - at), "{\"word\":", 8)) != NULL) {
            at += 8;
            words++;
        }
        pages++;
    } while (next_cursor(body_of(&bench), cursor));
    EXPECT(words == 150 && pages == 3);
    teardown(&bench);
}

TEST_CASE(namespaces_do_not_see_each_other)
{
    struct bench bench;
    setup(&bench);
    ask(&bench, POST(WORDS "?ns=one"), "{\"word\":\"a\"}");
    ask(&bench, POST(WORDS "?ns=one.two"), "{\"word\":\"b\"}");
    ask(&bench, POST(WORDS "?ns=on"), "{\"word\":\"c\"}");
    EXPECT(holds(ask(&bench, GET("/search?ns=one"), ""), "[\"a\"]"));
    EXPECT(holds(ask(&bench, GET("/search?ns=one.two"), ""), "[\"b\"]"));
    EXPECT(holds(ask(&bench, GET("/search?ns=on"), ""), "[\"c\"]"));
    EXPECT(holds(ask(&bench, GET("/search"), ""), "[]"));
    EXPECT(holds(ask(&bench, GET("/api/v1/count?ns=o"), ""), "{\"count\":0}"));
    teardown(&bench);
}

TEST_MAIN(TEST(any_bytes_are_a_word), TEST(matching_folds_case_and_nothing_else),
          TEST(a_match_says_which_bytes_of_the_word_it_was),
          TEST(expired_words_are_gone_everywhere), TEST(fields_of_a_word),
          TEST(pages_of_every_size_make_the_whole),
          TEST(an_export_holds_every_field_and_comes_back_by_import),
          TEST(a_long_export_goes_on_in_a_new_view_each_step),
          TEST(a_page_that_grows_too_long_ends_early), TEST(namespaces_do_not_see_each_other))
