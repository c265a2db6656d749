/* Pages by popularity: what is read ahead changes what they cost, never what they hold. */
#include "node_bench.h"

enum { WORD_COUNT = 400 };

static uint64_t hits(const struct bench *bench)
{
    return atomic_load(&bench->reader.counters.walk_hits);
}

static uint64_t misses(const struct bench *bench)
{
    return atomic_load(&bench->reader.counters.walk_misses);
}

static void fill(struct bench *bench, int count)
{
    static char lines[400000];
    size_t at = 0;
    for (int i = 0; i < count; i++)
        at += (size_t)snprintf(lines + at, sizeof lines - at, "w%04d\t%d\n", i, i * 7919 % 100);
    import(bench, IMPORT("", "text/tab-separated-values"), slice_of(lines, at), SIZE_MAX);
    EXPECT(status_is(bench, "200"));
}

/* A page of `limit` words under "w" after `cursor`, which moves on; what it held is appended to
 * `words`. False: it was the last one. */
static bool page(struct bench *bench, unsigned limit, char cursor[1024], struct buf *words)
{
    char head[2048];
    snprintf(head, sizeof head, "GET /search?q=w&limit=%u%s%s HTTP/1.1\r\nHost: a\r\n\r\n", limit,
             cursor[0] == '\0' ? "" : "&cursor=", cursor);
    struct slice body = ask(bench, head, "");
    EXPECT(status_is(bench, "200"));
    const char *at = (const char *)body.data + strlen("{\"results\":[");
    const char *end = memchr(at, ']', body.size);
    buf_append(words, at, (size_t)(end - at));
    buf_append_text(words, ",");
    return next_cursor(body, cursor);
}

/* All of "w" by pages of `limit`. */
static void walk_whole(struct bench *bench, unsigned limit, struct buf *words)
{
    char cursor[1024] = "";
    buf_clear(words);
    while (page(bench, limit, cursor, words)) continue;
}

TEST_CASE(most_pages_of_a_walk_were_read_ahead)
{
    struct bench bench;
    struct buf words, whole;
    setup(&bench);
    buf_init(&words, &bench.world.heap);
    buf_init(&whole, &bench.world.heap);
    fill(&bench, WORD_COUNT);
    walk_whole(&bench, 1000, &whole);
    EXPECT(hits(&bench) + misses(&bench) == 0); /* A first page is none of their business. */

    walk_whole(&bench, 2, &words);
    EXPECT(slice_equal(buf_slice(&words), buf_slice(&whole)));
    EXPECT(hits(&bench) + misses(&bench) == WORD_COUNT / 2 - 1);
    EXPECT(misses(&bench) <= 7); /* Each reads twice as far as the one before. */

    /* Another walk of the same words, in other pages, is told of the same ones. */
    uint64_t before = misses(&bench);
    walk_whole(&bench, 5, &words);
    EXPECT(slice_equal(buf_slice(&words), buf_slice(&whole)));
    EXPECT(misses(&bench) - before <= 7);
    buf_deinit(&words);
    buf_deinit(&whole);
    teardown(&bench);
}

TEST_CASE(two_walks_do_not_disturb_each_other)
{
    struct bench bench;
    char first[1024] = "", second[1024] = "";
    struct buf words;
    setup(&bench);
    buf_init(&words, &bench.world.heap);
    fill(&bench, WORD_COUNT);
    for (int i = 0; i < 50; i++) page(&bench, 5, second, &words);
    uint64_t before = misses(&bench);
    for (int i = 0; i < 25; i++) {
        EXPECT(page(&bench, 3, first, &words));
        EXPECT(page(&bench, 5, second, &words));
    }
    EXPECT(misses(&bench) - before <= 8);
    buf_deinit(&words);
    teardown(&bench);
}

TEST_CASE(a_write_is_in_the_next_page)
{
    struct bench bench;
    char cursor[1024] = "";
    struct buf words;
    setup(&bench);
    buf_init(&words, &bench.world.heap);
    fill(&bench, 100);
    for (int i = 0; i < 3; i++) page(&bench, 5, cursor, &words);
    put(&bench, "{\"word\":\"w new\",\"score\":50.5}");
    put(&bench, "{\"word\":\"other\",\"score\":50.5}");
    ask(&bench, "DELETE /api/v1/words?word=w0000 HTTP/1.1\r\nHost: a\r\n\r\n", "");
    buf_clear(&words);
    while (page(&bench, 5, cursor, &words)) continue;
    EXPECT(holds(buf_slice(&words), "\"w new\""));
    EXPECT(!holds(buf_slice(&words), "\"other\""));
    EXPECT(!holds(buf_slice(&words), "\"w0000\""));
    buf_deinit(&words);
    teardown(&bench);
}

/* Nor do flushes and compactions. */
TEST_CASE(writes_elsewhere_do_not_disturb_a_walk)
{
    struct bench bench;
    char cursor[1024] = "", body[64];
    struct buf words, whole;
    setup(&bench);
    buf_init(&words, &bench.world.heap);
    buf_init(&whole, &bench.world.heap);
    fill(&bench, WORD_COUNT);
    walk_whole(&bench, 1000, &whole);
    for (int i = 0; i < WORD_COUNT / 4; i++) {
        snprintf(body, sizeof body, "{\"word\":\"other %d\"}", i);
        put(&bench, body);
        if (i % 30 == 0) EXPECT(store_world_settle_down(&bench.world) == STATUS_OK);
        size_t before = words.size;
        EXPECT(page(&bench, 4, cursor, &words) == (i + 1 < WORD_COUNT / 4));
        EXPECT(memcmp(words.data + before, whole.data + before, words.size - before - 1) == 0);
    }
    EXPECT(words.size == whole.size);
    EXPECT(misses(&bench) <= 6);
    buf_deinit(&words);
    buf_deinit(&whole);
    teardown(&bench);
}

/* Neither in the view that still holds it, nor in the next, whose records are the same. */
TEST_CASE(no_page_shows_what_has_expired)
{
    for (int hidden = 0; hidden < 2; hidden++) {
        struct bench bench;
        char cursor[1024] = "";
        struct buf words;
        setup(&bench);
        buf_init(&words, &bench.world.heap);
        fill(&bench, 20); /* The second page reads ahead up to the end. */
        put(&bench, "{\"word\":\"w gone\",\"score\":-1,\"ttl_ms\":1000}");
        for (int i = 0; i < 2; i++) page(&bench, 5, cursor, &words);
        bench.world.now_ms += 1000;
        uint64_t view = store_view_number(bench.world.store);
        if (hidden) store_tick(bench.world.store, bench.world.now_ms);
        EXPECT((store_view_number(bench.world.store) > view) == hidden);
        buf_clear(&words);
        while (page(&bench, 5, cursor, &words)) continue;
        EXPECT(!holds(buf_slice(&words), "\"w gone\""));
        buf_deinit(&words);
        teardown(&bench);
    }
}

/* Model: pages after any cursor, of any size, in any order, with writes in between, are what the
 * whole list has there. */
TEST_CASE(any_page_at_any_time_is_what_the_whole_list_has_there)
{
    enum { CURSORS = 40 };
    static char cursors[CURSORS][1024];
    struct prng prng = {.state = test_seed};
    struct bench bench;
    struct buf words, whole;
    setup(&bench);
    buf_init(&words, &bench.world.heap);
    buf_init(&whole, &bench.world.heap);
    fill(&bench, WORD_COUNT);
    for (int round = 0; round < 3000; round++) {
        if (prng_one_in(&prng, 40)) {
            char body[64];
            snprintf(body, sizeof body, "{\"word\":\"w%04u\",\"score\":%u}",
                     prng_below(&prng, WORD_COUNT), prng_below(&prng, 100));
            put(&bench, body);
        }
        if (prng_one_in(&prng, 300)) EXPECT(store_world_settle_down(&bench.world) == STATUS_OK);
        char *cursor = cursors[prng_below(&prng, CURSORS)];
        unsigned limit = 1 + prng_below(&prng, 12);

        /* The rest after the cursor, in one page that no walk knows: it is of one size more. */
        char same[1024];
        snprintf(same, sizeof same, "%s", cursor);
        buf_clear(&words);
        bool more = page(&bench, limit, cursor, &words);
        struct walks kept = bench.reader.walks;
        walks_init(&bench.reader.walks, &bench.world.heap);
        buf_clear(&whole);
        bool whole_more = page(&bench, limit, same, &whole);
        walks_deinit(&bench.reader.walks);
        bench.reader.walks = kept;

        EXPECT(slice_equal(buf_slice(&words), buf_slice(&whole)));
        EXPECT(more == whole_more && (!more || strcmp(cursor, same) == 0));
        EXPECT(kept.bytes <= WALKS_BYTES_MAX && kept.count <= WALKS_COUNT_MAX);
        if (!more || prng_one_in(&prng, 30)) cursor[0] = '\0';
    }
    EXPECT(hits(&bench) > misses(&bench) / 4);
    buf_deinit(&words);
    buf_deinit(&whole);
    teardown(&bench);
}

/* Positions and keys straight into the store of walks, many of them. */
TEST_CASE(walks_stay_within_their_memory)
{
    static char long_key[4000];
    struct heap heap;
    struct walks walks;
    struct walk_content content = {{1, 2}, 3}, other = {{1, 2}, 4};
    size_t at;
    heap_init(&heap, 0);
    walks_init(&walks, &heap);
    memset(long_key, 'k', sizeof long_key);
    for (uint32_t i = 0; i < 200; i++) {
        char prefix[16];
        struct query_position after = {{UINT64_MAX, 1, 1}, SLICE_LITERAL("a")};
        snprintf(prefix, sizeof prefix, "p%u", i);
        struct walk *walk = walks_begin(&walks, slice_from_text(prefix), 5, &content, &after, 1000);
        EXPECT(walk != NULL);
        uint64_t order = 1000000;
        while (walk_append(walk, (struct best){order--, 1, 1}, slice_of(long_key, 30 + i * 19)))
            continue;
        EXPECT(walk->count > 100);
        walks_keep(&walks, walk, false);
        EXPECT(walks.bytes <= WALKS_BYTES_MAX);
        EXPECT(heap_used_bytes(&heap) < WALKS_BYTES_MAX + (1 << 20));
        EXPECT(walks_find(&walks, slice_from_text(prefix), 5, &after, 10, &at) == walk && at == 0);
        EXPECT(walks_find(&walks, slice_from_text(prefix), 6, &after, 10, &at) == NULL);
        EXPECT(walks_find(&walks, SLICE_LITERAL("q"), 5, &after, 10, &at) == NULL);
        EXPECT(walks_find(&walks, slice_from_text(prefix), 5, &after, walk->count, &at) == NULL);

        /* In another view it is good once it was compared. */
        EXPECT(!walks_are_in_doubt(&walks, slice_from_text(prefix), 5));
        EXPECT(walks_are_in_doubt(&walks, slice_from_text(prefix), 6));
        walks_compare(&walks, slice_from_text(prefix), 6, &content);
        EXPECT(walks_find(&walks, slice_from_text(prefix), 6, &after, 10, &at) == walk);
        if (i % 10 != 0) continue;
        walks_compare(&walks, slice_from_text(prefix), 7, &other);
        EXPECT(walks_find(&walks, slice_from_text(prefix), 7, &after, 10, &at) == NULL);
    }
    walks_deinit(&walks);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_MAIN(TEST(most_pages_of_a_walk_were_read_ahead), TEST(two_walks_do_not_disturb_each_other),
          TEST(a_write_is_in_the_next_page), TEST(writes_elsewhere_do_not_disturb_a_walk),
          TEST(no_page_shows_what_has_expired),
          TEST(any_page_at_any_time_is_what_the_whole_list_has_there),
          TEST(walks_stay_within_their_memory))
