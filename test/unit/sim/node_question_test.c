/* Reads as a cluster answers them: the same answers as from the own view, byte for byte. */
#include "core/query.h"
#include "node/own_ranges.h"
#include "node/question.h"
#include "node_bench.h"
#include "store/view.h"

enum { ENTRIES_MAX = REQUEST_LIMIT_MAX };

/* The reply of a replica that has all of it. */
struct replying {
    struct buf keys; /* Long enough, so that nothing moves. */
    struct request_entry entries[ENTRIES_MAX];
    size_t count, limit;
    bool more;
};

static enum status visit(void *context, struct slice key, const struct record *record)
{
    struct replying *replying = context;
    replying->more = replying->count == replying->limit;
    if (replying->more) return STATUS_END;
    struct buf *keys = &replying->keys;
    struct slice kept = {keys->data + keys->size, key.size};
    buf_append_slice(keys, key);
    EXPECT(kept.data + key.size == keys->data + keys->size);
    replying->entries[replying->count++] = (struct request_entry){kept, *record};
    return STATUS_OK;
}

static void reply_to(struct bench *bench, struct node_question *question)
{
    static struct replying replying;
    const struct request *request = &question->request;
    struct query query = store_query(store_view(bench->world.store), bench->world.now_ms,
                                     &bench->world.heap, bench->reader.scratch);
    struct request_reply reply = {0};
    struct query_hit hit;
    replying.count = 0;
    replying.more = false;
    replying.limit = request->limit;
    buf_init(&replying.keys, &bench->world.heap);
    EXPECT(buf_reserve(&replying.keys, 1 << 20) != NULL);
    switch (request->kind) {
    case REQUEST_GET:
        if (query_get(&query, request->key, &hit) != STATUS_OK || !hit.live)
            reply.outcome = REQUEST_ABSENT;
        else
            replying.entries[replying.count++] = (struct request_entry){request->key, hit.record};
        break;
    case REQUEST_COUNT:
        EXPECT(query_count(&query, request->key, &reply.count) == STATUS_OK);
        break;
    case REQUEST_BEST:
        EXPECT(query_best(&query, request->key, request->limit + 1,
                          request->has_after ? &request->after : NULL, visit,
                          &replying) == STATUS_OK);
        break;
    default:
        EXPECT(request->kind == REQUEST_SCAN);
        EXPECT(query_scan(&query, request->key, &request->from, request->limit + 1, visit,
                          &replying) == STATUS_OK);
    }
    reply.entries = replying.entries;
    reply.entry_count = replying.count;
    reply.more = replying.more;
    node_question_take(question, &reply);
    buf_deinit(&replying.keys);
}

/* The answer, whole, by way of a question; what was asked goes before it is answered. */
static void ask_cluster(struct bench *bench, const char *target, struct buf *answer)
{
    static const struct http_limits limits = {16 << 10, 64 << 10};
    struct http_request request;
    struct node_question question;
    static char head[2048];
    snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", target);
    http_request_init(&request);
    EXPECT(http_request_parse(&request, &limits, slice_from_text(head)) == STATUS_OK);
    node_question_init(&question, &bench->world.heap);
    buf_clear(answer);
    EXPECT(node_is_question(node_route(&request)));
    bool asked =
        node_question_read(&question, &bench->reader, node_route(&request), &request, 100, answer);
    memset(head, 'x', sizeof head);
    if (asked) {
        EXPECT(answer->size == 0);
        /* Others are asked meanwhile. */
        ask(bench, GET("/api/v1/search?ns=default&q=tr&limit=3&sort=alphabetical:asc"), "");
        reply_to(bench, &question);
        node_question_answer(&question, &bench->reader, answer);
    }
    node_question_deinit(&question);
}

static bool has_bit(const void *context, const struct shard *shard)
{
    (void)shard;
    return *(const bool *)context;
}

/* A member that owns all keys, or none. */
static struct own_ranges *make_own(struct bench *bench, bool all)
{
    struct heap *heap = &bench->world.heap;
    struct member member = {.incarnation = 7,
                            .capacity = 1,
                            .zone = SLICE_LITERAL("z"),
                            .address = SLICE_LITERAL("n:1")};
    struct rangemap *map;
    struct own_ranges *own;
    EXPECT(rangemap_create(heap, 1, &rangemap_settings_default, &member, &map) == STATUS_OK);
    EXPECT(own_ranges_create(heap, map, 1, has_bit, &all, &own) == STATUS_OK);
    rangemap_unref(map);
    return own;
}

/* Reads as a member that need not ask its replica; false if it has to. */
static bool read_own(struct bench *bench, const char *target, const char *headers, bool owns,
                     struct buf *answer)
{
    static const struct http_limits limits = {16 << 10, 64 << 10};
    struct http_request request;
    static char head[2048];
    struct own_ranges *own = make_own(bench, owns);
    snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nHost: a\r\n%s\r\n", target, headers);
    http_request_init(&request);
    EXPECT(http_request_parse(&request, &limits, slice_from_text(head)) == STATUS_OK);
    EXPECT(node_may_read_own(node_route(&request)));
    buf_clear(answer);
    uint64_t before = atomic_load(&bench->reader.counters.reads_local);
    bool is = node_read_own(&bench->reader, node_route(&request), &request,
                            store_view(bench->world.store), bench->world.now_ms, own, answer);
    EXPECT(is || answer->size == 0);
    EXPECT(atomic_load(&bench->reader.counters.reads_local) == before + is);
    own_ranges_unref(own);
    return is;
}

/* What asks for more than one node's copy, or nothing this node owns, is left to the replica. */
static bool is_for_the_replica(const char *target, const char *status)
{
    return strstr(target, "consistency=all") != NULL ||
           strstr(target, "consistency=quorum") != NULL || strcmp(status, "400") == 0;
}

static void compare_own(struct bench *bench, const char *target, const char *status)
{
    struct buf answer;
    buf_init(&answer, &bench->world.heap);
    bench->reader.prng.state = 1;
    bool is = read_own(bench, target, "", true, &answer);
    EXPECT(is != is_for_the_replica(target, status) || strcmp(status, "400") == 0);
    EXPECT(!is || slice_equal(buf_slice(&bench->out), buf_slice(&answer)));
    is = read_own(bench, target, "", false, &answer);
    EXPECT(is == (strcmp(status, "400") == 0)); /* Anybody can say what is wrong. */
    buf_deinit(&answer);
}

static void compare(struct bench *bench, const char *target, const char *status)
{
    char head[2048];
    struct buf answer;
    buf_init(&answer, &bench->world.heap);
    bench->reader.prng.state = 1; /* Refusals have ids. */
    ask_cluster(bench, target, &answer);
    snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", target);
    bench->reader.prng.state = 1;
    ask(bench, head, "");
    EXPECT(status_is(bench, status));
    EXPECT(slice_equal(buf_slice(&bench->out), buf_slice(&answer)));
    buf_deinit(&answer);
    compare_own(bench, target, status);
}

static void fill(struct bench *bench)
{
    static char lines[100000];
    size_t at = 0;
    for (int i = 0; i < 700; i++)
        at += (size_t)snprintf(lines + at, sizeof lines - at,
                               "{\"word\":\"%s%03d\",\"score\":%d,\"tags\":[\"t%d\"]%s}\n",
                               i % 3 == 0 ? "Trial" : "trial", i, i * 7919 % 100, i % 5,
                               i % 4 == 0 ? ",\"payload\":{\"base64\":\"/wA=\"}" : "");
    import(bench, IMPORT("", "application/x-ndjson"), slice_of(lines, at), SIZE_MAX);
    EXPECT(status_is(bench, "200"));
    put(bench, "{\"word\":{\"base64\":\"/wB4\"},\"score\":3}");
}

TEST_CASE(a_question_is_answered_as_the_own_view_would)
{
    static const char *const found[] = {
        "/search?q=trial",
        "/search?q=trial&limit=1000",
        "/search?q=TRIAL1&limit=7",
        "/search?q=",
        "/search?q=none",
        "/search?q=trial&limit=9&ns=default",
        "/search?q=trial&sort=alphabetical:asc&limit=9",
        "/search?q=trial&sort=alphabetical:desc&consistency=all",
        "/api/v1/search?q=tri&limit=300",
        "/api/v1/search?q=tri&sort=alphabetical:desc",
        "/api/v1/search?q=%FF",
        "/api/v1/count?q=trial",
        "/api/v1/count?q=nothing&ns=elsewhere",
        "/api/v1/words?word=Trial003",
        "/api/v1/words?word=%FF%00x&consistency=quorum",
    };
    static const char *const refused[] = {
        "/search?q=a&limit=0",      "/search?q=a&cursor=AAAA",
        "/search?q=a&sort=up",      "/search?q=a&q=b",
        "/search?consistency=two",  "/search?word=a",
        "/api/v1/count?limit=1",    "/api/v1/words",
        "/api/v1/words?word=",      "/api/v1/search?ns=a%20b",
        "/api/v1/words?word=a&x=1", "/api/v1/search?q=%4",
    };
    struct bench bench;
    setup(&bench);
    fill(&bench);
    for (size_t i = 0; i < sizeof found / sizeof *found; i++) compare(&bench, found[i], "200");
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        compare(&bench, refused[i], "400");
    compare(&bench, "/api/v1/words?word=trial003", "404");
    teardown(&bench);
}

TEST_CASE(pages_follow_one_another)
{
    static const char *const sorts[] = {"popularity:desc", "alphabetical:asc", "alphabetical:desc"};
    struct bench bench;
    setup(&bench);
    fill(&bench);
    for (size_t i = 0; i < 3; i++) {
        char cursor[1024] = "", target[2048];
        bool more = true;
        for (int page = 0; more; page++) {
            EXPECT(page < 10);
            snprintf(target, sizeof target, "/api/v1/search?q=trial&limit=100&sort=%s%s%s",
                     sorts[i], page == 0 ? "" : "&cursor=", cursor);
            compare(&bench, target, "200");
            more = next_cursor(body_of(&bench), cursor);
            EXPECT(more == (page < 6));
        }
    }
    teardown(&bench);
}

/* The replica says what is wrong with a token, and asks those that have what it tells of. */
TEST_CASE(a_token_that_this_node_does_not_satisfy_is_for_the_replica)
{
    static const char *const cases[] = {"AA", "AQA", "!", ""};
    struct bench bench;
    struct buf answer;
    char header[64];
    setup(&bench);
    fill(&bench);
    buf_init(&answer, &bench.world.heap);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(header, sizeof header, "X-Trifecta-Token: %s\r\n", cases[i]);
        bench.reader.in_cluster = true;
        EXPECT(!read_own(&bench, "/search?q=trial", header, true, &answer));
        bench.reader.in_cluster = false;
    }
    buf_deinit(&answer);
    teardown(&bench);
}

/* Owners may end a page before its limit. */
TEST_CASE(a_short_page_that_goes_on_has_a_cursor)
{
    struct bench bench;
    struct buf answer;
    struct node_question question;
    struct http_request request;
    static const struct http_limits limits = {16 << 10, 64 << 10};
    setup(&bench);
    buf_init(&answer, &bench.world.heap);
    put(&bench, "{\"word\":\"tria\",\"score\":9}");
    put(&bench, "{\"word\":\"trib\",\"score\":8}");
    node_question_init(&question, &bench.world.heap);
    http_request_init(&request);
    EXPECT(http_request_parse(&request, &limits, SLICE_LITERAL(GET("/search?q=tri&limit=5"))) ==
           STATUS_OK);
    EXPECT(node_question_read(&question, &bench.reader, NODE_SEARCH_PLAIN, &request, 100, &answer));
    question.request.limit = 1;
    reply_to(&bench, &question);
    EXPECT(question.more);
    node_question_answer(&question, &bench.reader, &answer);
    char cursor[1024], target[2048];
    EXPECT(holds(buf_slice(&answer), "{\"results\":[\"tria\"],") &&
           next_cursor(buf_slice(&answer), cursor));
    snprintf(target, sizeof target, "/search?q=tri&cursor=%s", cursor);
    compare(&bench, target, "200");
    EXPECT(holds(body_of(&bench), "{\"results\":[\"trib\"]}"));
    node_question_deinit(&question);
    buf_deinit(&answer);
    teardown(&bench);
}

TEST_CASE(what_a_cluster_does_not_do_is_a_problem)
{
    static const struct {
        enum request_outcome outcome;
        enum status status;
        const char *http, *code;
    } cases[] = {
        {REQUEST_NO_HEALTHY_OWNER, STATUS_BUSY, "503", "\"no_healthy_owner\""},
        {REQUEST_QUORUM_NOT_MET, STATUS_BUSY, "503", "\"quorum_not_met\""},
        {REQUEST_TIMED_OUT, STATUS_TIMEOUT, "504", "\"timeout\""},
        {REQUEST_REFUSED, STATUS_BUSY, "503", "\"overloaded\""},
        {REQUEST_REFUSED, STATUS_NOMEM, "503", "\"overloaded\""},
        {REQUEST_REFUSED, STATUS_CORRUPT, "500", "\"internal\""},
        {REQUEST_ABSENT, STATUS_OK, "404", "\"not_found\""},
    };
    struct bench bench;
    struct node_question question;
    struct http_request request;
    static const struct http_limits limits = {16 << 10, 64 << 10};
    setup(&bench);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        node_question_init(&question, &bench.world.heap);
        http_request_init(&request);
        EXPECT(http_request_parse(&request, &limits, SLICE_LITERAL(GET("/api/v1/words?word=a"))) ==
               STATUS_OK);
        buf_clear(&bench.out);
        EXPECT(
            node_question_read(&question, &bench.reader, NODE_WORD_GET, &request, 100, &bench.out));
        node_question_take(&question, &(struct request_reply){.outcome = cases[i].outcome,
                                                              .status = cases[i].status});
        node_question_answer(&question, &bench.reader, &bench.out);
        EXPECT(status_is(&bench, cases[i].http));
        EXPECT(holds(body_of(&bench), cases[i].code));
        node_question_deinit(&question);
    }
    teardown(&bench);
}

TEST_MAIN(TEST(a_question_is_answered_as_the_own_view_would), TEST(pages_follow_one_another),
          TEST(a_token_that_this_node_does_not_satisfy_is_for_the_replica),
          TEST(a_short_page_that_goes_on_has_a_cursor),
          TEST(what_a_cluster_does_not_do_is_a_problem))
