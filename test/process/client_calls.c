/* Every call of the library against real nodes: client_calls URL... Says where it fails. */
#include <trifecta.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct trifecta_client *client;
static struct trifecta_call call = {.ns = "calls", .consistency = TRIFECTA_CONSISTENCY_QUORUM};

static void expect(bool holds, const char *what, int line)
{
    if (holds) return;
    fprintf(stderr, "line %d: %s (%s: %s)\n", line, what, call.problem.code, call.problem.detail);
    exit(EXIT_FAILURE);
}

#define EXPECT(condition) expect(condition, #condition, __LINE__)
#define BYTES(literal) ((struct trifecta_bytes){literal, sizeof(literal) - 1})

static bool equal(struct trifecta_bytes a, struct trifecta_bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static void a_word_comes_back_as_it_was_put(void)
{
    static const char word[] = "caf\xc3\xa9 \"\\\0\xff";
    struct trifecta_bytes tags[] = {BYTES("a"), BYTES("b\xfe")};
    struct trifecta_attributes attributes = {
        .score = -2.5e-7,
        .payload = BYTES("\0pay\xff"),
        .tags = tags,
        .tag_count = 2,
        .expires_at_ms = UINT64_C(4102444800000),
    };
    struct trifecta_page *page;
    EXPECT(trifecta_get(client, &call, BYTES(word), &page) == TRIFECTA_NOT_FOUND);
    EXPECT(call.problem.http_status == 404 && strcmp(call.problem.code, "not_found") == 0);
    EXPECT(trifecta_put(client, &call, BYTES(word), &attributes) == TRIFECTA_OK);
    EXPECT(trifecta_get(client, &call, BYTES(word), &page) == TRIFECTA_OK);
    EXPECT(page->count == 1 && page->next_cursor == NULL);
    const struct trifecta_entry *entry = &page->entries[0];
    EXPECT(equal(entry->word, BYTES(word)));
    EXPECT(entry->attributes.score == attributes.score);
    EXPECT(equal(entry->attributes.payload, attributes.payload));
    EXPECT(entry->attributes.tag_count == 2);
    EXPECT(equal(entry->attributes.tags[0], tags[0]) && equal(entry->attributes.tags[1], tags[1]));
    EXPECT(entry->attributes.expires_at_ms == attributes.expires_at_ms);
    trifecta_page_free(page);

    bool deleted = false;
    EXPECT(trifecta_remove(client, &call, BYTES(word), &deleted) == TRIFECTA_OK && deleted);
    EXPECT(trifecta_remove(client, &call, BYTES(word), &deleted) == TRIFECTA_OK && !deleted);
    EXPECT(trifecta_remove(client, &call, BYTES(word), NULL) == TRIFECTA_OK);
}

static void pages_follow_each_other(void)
{
    char word[32];
    uint64_t count;
    for (int i = 0; i < 9; i++) {
        snprintf(word, sizeof word, "page %d", i);
        struct trifecta_bytes tag = trifecta_text(word);
        struct trifecta_attributes attributes = {.score = 10 - i, .tags = &tag, .tag_count = 1};
        EXPECT(trifecta_put(client, &call, trifecta_text(word), &attributes) == TRIFECTA_OK);
    }
    EXPECT(trifecta_count(client, &call, BYTES("PAGE"), &count) == TRIFECTA_OK && count == 9);
    for (unsigned sort = TRIFECTA_POPULARITY; sort <= TRIFECTA_ALPHABETICAL_REVERSED; sort++) {
        char cursor[1024];
        struct trifecta_query query = {.limit = 4, .sort = (enum trifecta_sort)sort};
        for (int seen = 0; seen < 9;) {
            struct trifecta_page *page;
            EXPECT(trifecta_search(client, &call, BYTES("page"), &query, &page) == TRIFECTA_OK);
            EXPECT(page->count == (seen == 8 ? 1 : 4));
            for (size_t i = 0; i < page->count; i++, seen++) {
                int number = sort == TRIFECTA_ALPHABETICAL_REVERSED ? 8 - seen : seen;
                snprintf(word, sizeof word, "page %d", number);
                EXPECT(equal(page->entries[i].word, trifecta_text(word)));
                EXPECT(page->entries[i].attributes.tag_count == 1);
                EXPECT(equal(page->entries[i].attributes.tags[0], trifecta_text(word)));
            }
            EXPECT((page->next_cursor == NULL) == (seen == 9));
            if (seen < 9) snprintf(cursor, sizeof cursor, "%s", page->next_cursor);
            query.cursor = cursor;
            trifecta_page_free(page);
        }
    }
}

static void what_is_not_valid_is_refused(void)
{
    struct trifecta_page *page = NULL;
    struct trifecta_query query = {.cursor = "AAAA"};
    struct trifecta_attributes attributes = {.score = NAN};
    double score = 7;
    EXPECT(trifecta_search(client, &call, BYTES("page"), &query, &page) == TRIFECTA_INVALID);
    EXPECT(strcmp(call.problem.code, "invalid_cursor") == 0);
    query = (struct trifecta_query){.limit = 1001};
    EXPECT(trifecta_search(client, &call, BYTES("page"), &query, &page) == TRIFECTA_INVALID);
    EXPECT(page == NULL);
    EXPECT(trifecta_put(client, &call, BYTES(""), NULL) == TRIFECTA_INVALID);
    EXPECT(trifecta_put(client, &call, BYTES("x"), &attributes) == TRIFECTA_INVALID);
    EXPECT(trifecta_increment(client, &call, BYTES("x"), INFINITY, &score) == TRIFECTA_INVALID);
    EXPECT(score == 7);
    struct trifecta_call other = {.ns = "no such name"};
    EXPECT(trifecta_put(client, &other, BYTES("x"), NULL) == TRIFECTA_INVALID);
}

static void defaults_are_those_of_the_cluster(void)
{
    struct trifecta_page *page;
    double score = 0;
    EXPECT(trifecta_increment(client, NULL, BYTES("default"), 2.5, NULL) == TRIFECTA_OK);
    EXPECT(trifecta_increment(client, NULL, BYTES("default"), -1, &score) == TRIFECTA_OK);
    EXPECT(score == 1.5);
    EXPECT(trifecta_put(client, NULL, BYTES("default"), NULL) == TRIFECTA_OK);
    EXPECT(trifecta_search(client, NULL, BYTES("default"), NULL, &page) == TRIFECTA_OK);
    EXPECT(page->count == 1 && page->entries[0].attributes.score == 1);
    trifecta_page_free(page);
}

int main(int argc, char **argv)
{
    struct trifecta_options options = {.urls = (const char *const *)argv + 1,
                                       .url_count = (size_t)argc - 1,
                                       .zone = "z1",
                                       .timeout_ms = 20000,
                                       .attempt_ms = 5000};
    if (trifecta_open(&options, &client) != TRIFECTA_OK) return EXIT_FAILURE;
    a_word_comes_back_as_it_was_put();
    pages_follow_each_other();
    what_is_not_valid_is_refused();
    defaults_are_those_of_the_cluster();
    trifecta_close(client);
    return EXIT_SUCCESS;
}
