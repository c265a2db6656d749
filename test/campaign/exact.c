/* Every answer against a naive model: a sorted array of all words.
 *
 *     exact load|mutate|check PORT FILE.tsv [PREFIXES] [LENGTH_MAX] [mutated] [equal]
 *
 * `load` imports the file (`equal`: every score 1), `mutate` overwrites 30 % of the words
 * and deletes 20 %, chosen by hash, so that a later `check ... mutated` knows which. `check`
 * asks for PREFIXES random prefixes, the empty one first: the count, three pages by score,
 * two pages in alphabetical order and two in reverse, and compares word by word. It exits
 * with 1 after the first difference. scripts/exact runs it over the real data sets. */
#include <arpa/inet.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/prng.h"
#include "core/key.h"
#include "proto/url.h"

struct word {
    struct slice text; /* In the file's bytes. */
    struct slice key;
    double score;
    uint64_t created; /* Line number. */
    bool live;
};

struct model {
    struct word *words; /* Ascending by key. */
    size_t count;
};

static struct heap heap;
static int connection = -1;
static struct buf request, answer;

static _Noreturn void fail(const char *what, struct slice detail)
{
    fprintf(stderr, "exact: %s: %.*s\n", what, (int)detail.size, (const char *)detail.data);
    exit(1);
}

/* --- The model --- */

static int by_key(const void *a, const void *b)
{
    return slice_compare(((const struct word *)a)->key, ((const struct word *)b)->key);
}

static struct slice read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) fail("cannot open", slice_from_text(path));
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file);
    rewind(file);
    uint8_t *data = malloc(size + 1);
    if (data == NULL || fread(data, 1, size, file) != size) exit(1);
    fclose(file);
    return slice_of(data, size);
}

static uint64_t chance(struct slice word)
{
    return XXH3_64bits_withSeed(word.data, word.size, 20261123) % 100;
}

static bool is_overwritten(struct slice word)
{
    return chance(word) < 30;
}

static bool is_deleted(struct slice word)
{
    return chance(word) >= 80;
}

static double new_score(struct slice word)
{
    return (double)(XXH3_64bits_withSeed(word.data, word.size, 7) % 1000);
}

static struct slice copy_key(struct slice word)
{
    static struct buf key;
    key.heap = &heap;
    if (key_encode(SLICE_LITERAL("default"), word, FOLD_CASE, &key) != STATUS_OK)
        fail("a word has no key", word);
    uint8_t *copy = malloc(key.size);
    if (copy == NULL) exit(1);
    memcpy(copy, key.data, key.size);
    return slice_of(copy, key.size);
}

static void add_line(struct model *model, struct slice line, bool mutated, bool equal)
{
    const uint8_t *tab = memchr(line.data, '\t', line.size);
    if (tab == NULL) fail("a line without a tab", line);
    struct slice text = slice_prefix(line, (size_t)(tab - line.data));
    struct word word = {
        .text = text,
        .key = copy_key(text),
        .score = equal ? 1 : strtod((const char *)tab + 1, NULL),
        .created = model->count,
        .live = true,
    };
    if (mutated && is_overwritten(text)) word.score = new_score(text);
    if (mutated && is_deleted(text)) word.live = false;
    if ((model->count & (model->count - 1)) == 0)
        model->words = realloc(model->words, (model->count * 2 + 1) * sizeof *model->words);
    if (model->words == NULL) exit(1);
    model->words[model->count++] = word;
}

static struct model read_model(const char *path, bool mutated, bool equal)
{
    struct model model = {0};
    struct slice rest = read_file(path);
    while (rest.size > 0) {
        const uint8_t *end = memchr(rest.data, '\n', rest.size);
        size_t size = end == NULL ? rest.size : (size_t)(end - rest.data);
        add_line(&model, slice_prefix(rest, size), mutated, equal);
        rest = slice_from(rest, end == NULL ? size : size + 1);
    }
    qsort(model.words, model.count, sizeof *model.words, by_key);
    return model;
}

static size_t lower_bound(const struct model *model, struct slice key)
{
    size_t low = 0, high = model->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (slice_compare(model->words[middle].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* --- HTTP --- */

static void dial(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connection = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(connection, (struct sockaddr *)&address, sizeof address) != 0)
        fail("cannot connect", SLICE_LITERAL("is the server running?"));
}

static void send_all(struct slice bytes)
{
    while (bytes.size > 0) {
        ssize_t sent = write(connection, bytes.data, bytes.size);
        if (sent <= 0) fail("the connection broke", SLICE_LITERAL("while sending"));
        bytes = slice_from(bytes, (size_t)sent);
    }
}

/* Takes one answer off the connection; gives its body, which lies in `answer`. */
static struct slice receive(void)
{
    static size_t used;
    buf_consume(&answer, used);
    for (;;) {
        const uint8_t *end = answer.size == 0 ? NULL
                                              : memmem(answer.data, answer.size, "\r\n\r\n", 4);
        if (end != NULL) {
            const uint8_t *length = memmem(answer.data, answer.size, "Content-Length: ", 16);
            size_t head = (size_t)(end - answer.data) + 4;
            size_t size = length == NULL ? 0 : strtoul((const char *)length + 16, NULL, 10);
            if (answer.size >= head + size) {
                used = head + size;
                if (answer.data[9] != '2') fail("refused", buf_slice(&answer));
                return slice_of(answer.data + head, size);
            }
        }
        uint8_t *room = buf_reserve(&answer, 65536);
        ssize_t size = room == NULL ? -1 : read(connection, room, 65536);
        if (size <= 0) fail("the connection broke", SLICE_LITERAL("while receiving"));
        buf_commit(&answer, (size_t)size);
    }
}

static json_t *get(const char *route, struct slice prefix, const char *more, const char *cursor)
{
    json_error_t error;
    buf_clear(&request);
    buf_printf(&request, "GET %s?q=", route);
    url_encode(prefix, &request);
    buf_printf(&request, "%s%s%s HTTP/1.1\r\nHost: localhost\r\n\r\n", more,
               cursor == NULL ? "" : "&cursor=", cursor == NULL ? "" : cursor);
    send_all(buf_slice(&request));
    struct slice body = receive();
    json_t *json = json_loadb((const char *)body.data, body.size, JSON_ALLOW_NUL, &error);
    if (json == NULL) fail("not JSON", body);
    return json;
}

/* --- Comparing --- */

struct expected {
    const struct word **words; /* The first FIRST_COUNT of them. */
    size_t count;              /* Of all. */
};

static int by_popularity(const void *a, const void *b)
{
    const struct word *x = *(const struct word *const *)a;
    const struct word *y = *(const struct word *const *)b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return (x->created > y->created) - (x->created < y->created);
}

static void compare_pages(const struct expected *expected, struct slice prefix, const char *more,
                          size_t page_size, int pages)
{
    json_t *cursor = NULL;
    size_t at = 0;
    for (int page = 0; page < pages; page++) {
        json_t *json = get("/api/v1/search", prefix, more, json_string_value(cursor));
        json_t *results = json_object_get(json, "results");
        size_t wanted = expected->count - at < page_size ? expected->count - at : page_size;
        if (json_array_size(results) != wanted) fail("wrong size of a page", prefix);
        for (size_t i = 0; i < wanted; i++, at++) {
            json_t *result = json_array_get(results, i);
            json_t *word = json_object_get(result, "word");
            struct slice text = slice_of(json_string_value(word), json_string_length(word));
            const struct word *right = expected->words[at];
            if (json_is_string(word) && !slice_equal(text, right->text)) {
                fprintf(stderr, "exact: expected %.*s, got %.*s\n", (int)right->text.size,
                        (const char *)right->text.data, (int)text.size, (const char *)text.data);
                fail(more, prefix);
            }
            if (json_number_value(json_object_get(result, "score")) != right->score)
                fail("wrong score", right->text);
        }
        json_decref(cursor);
        cursor = json_incref(json_object_get(json, "next_cursor"));
        bool more_expected = at < expected->count;
        if ((cursor != NULL) != more_expected) fail("wrong end of pages", prefix);
        json_decref(json);
        if (!more_expected) break;
    }
    json_decref(cursor);
}

enum { FIRST_COUNT = 64 }; /* More than all pages of one sort hold. */

/* The first live words of the range, from its start or its end. */
static void first_in_order(const struct model *model, size_t low, size_t high, bool reverse,
                           struct expected *expected)
{
    size_t kept = 0;
    for (size_t i = low; i < high && kept < FIRST_COUNT; i++) {
        const struct word *word = &model->words[reverse ? high - 1 - (i - low) : i];
        if (word->live) expected->words[kept++] = word;
    }
}

/* The first words by popularity, by insertion into a short sorted list. */
static void first_by_popularity(const struct model *model, size_t low, size_t high,
                                struct expected *expected)
{
    size_t kept = 0;
    for (size_t i = low; i < high; i++) {
        const struct word *word = &model->words[i];
        if (!word->live) continue;
        if (kept == FIRST_COUNT && by_popularity(&expected->words[kept - 1], &word) < 0) continue;
        size_t at = kept < FIRST_COUNT ? kept++ : kept - 1;
        while (at > 0 && by_popularity(&expected->words[at - 1], &word) > 0) {
            expected->words[at] = expected->words[at - 1];
            at--;
        }
        expected->words[at] = word;
    }
}

static void check_prefix(const struct model *model, struct slice prefix)
{
    static struct buf low_key, high_key;
    const struct word *words[FIRST_COUNT];
    struct expected expected = {words, 0};
    low_key.heap = high_key.heap = &heap;
    if (key_prefix(SLICE_LITERAL("default"), prefix, FOLD_CASE, &low_key) != STATUS_OK ||
        key_prefix_end(buf_slice(&low_key), &high_key) != STATUS_OK)
        fail("no key", prefix);
    size_t low = lower_bound(model, buf_slice(&low_key));
    size_t high = lower_bound(model, buf_slice(&high_key));
    for (size_t i = low; i < high; i++) expected.count += model->words[i].live;

    json_t *json = get("/api/v1/count", prefix, "", NULL);
    if ((size_t)json_integer_value(json_object_get(json, "count")) != expected.count)
        fail("wrong count", prefix);
    json_decref(json);
    first_in_order(model, low, high, false, &expected);
    compare_pages(&expected, prefix, "&sort=alphabetical:asc&limit=25", 25, 2);
    first_in_order(model, low, high, true, &expected);
    compare_pages(&expected, prefix, "&sort=alphabetical:desc&limit=25", 25, 2);
    first_by_popularity(model, low, high, &expected);
    compare_pages(&expected, prefix, "&limit=10", 10, 3);
}

static void check(const struct model *model, uint64_t prefixes, uint32_t length_max)
{
    struct prng prng = {.state = 20261123};
    for (uint64_t i = 0; i < prefixes; i++) {
        struct slice text = model->words[prng_below(&prng, (uint32_t)model->count)].text;
        size_t size = i == 0 ? 0 : 1 + prng_below(&prng, length_max);
        if (size > text.size) size = text.size;
        check_prefix(model, slice_prefix(text, size));
    }
    printf("%" PRIu64 " prefixes of %zu words agree with the model\n", prefixes, model->count);
}

/* --- Loading --- */

static void load(const struct model *model, bool equal)
{
    const struct word **order = malloc(model->count * sizeof *order);
    if (order == NULL) exit(1);
    for (size_t i = 0; i < model->count; i++) order[model->words[i].created] = &model->words[i];
    buf_clear(&request);
    buf_append_text(&request, "POST /api/v1/import HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                              "text/tab-separated-values\r\nTransfer-Encoding: chunked\r\n\r\n");
    struct buf chunk = {.heap = &heap};
    for (size_t i = 0; i <= model->count; i++) {
        if (i < model->count) {
            buf_append_slice(&chunk, order[i]->text);
            buf_printf(&chunk, "\t%.17g\n", equal ? 1.0 : order[i]->score);
            if (chunk.size < 100000) continue;
        }
        if (chunk.size > 0) buf_printf(&request, "%zx\r\n", chunk.size);
        buf_append_slice(&request, buf_slice(&chunk));
        buf_append_text(&request, i < model->count || chunk.size > 0 ? "\r\n" : "");
        if (i == model->count) buf_append_text(&request, "0\r\n\r\n");
        send_all(buf_slice(&request));
        buf_clear(&request);
        buf_clear(&chunk);
    }
    struct slice body = receive();
    printf("%.*s\n", (int)body.size, (const char *)body.data);
    buf_deinit(&chunk);
    free(order);
}

static void mutate(const struct model *model)
{
    enum { DEPTH = 64 };
    int waiting = 0;
    size_t deleted = 0;
    struct model overwritten = {malloc(model->count * sizeof *model->words), 0};
    if (overwritten.words == NULL) exit(1);
    for (size_t i = 0; i < model->count; i++) {
        struct word word = model->words[i];
        if (!is_overwritten(word.text)) continue;
        word.created = overwritten.count;
        word.score = new_score(word.text);
        overwritten.words[overwritten.count++] = word;
    }
    load(&overwritten, false);
    for (size_t i = 0; i < model->count; i++) {
        if (!is_deleted(model->words[i].text)) continue;
        buf_clear(&request);
        buf_append_text(&request, "DELETE /api/v1/words?word=");
        url_encode(model->words[i].text, &request);
        buf_append_text(&request, " HTTP/1.1\r\nHost: localhost\r\n\r\n");
        send_all(buf_slice(&request));
        deleted++;
        if (++waiting == DEPTH)
            for (; waiting > 0; waiting--) receive();
    }
    for (; waiting > 0; waiting--) receive();
    printf("%zu overwritten, %zu deleted\n", overwritten.count, deleted);
    free(overwritten.words);
}

int main(int argument_count, char **arguments)
{
    if (argument_count < 4) fail("usage", SLICE_LITERAL("exact load|mutate|check PORT FILE.tsv"));
    bool mutated = false, equal = false;
    for (int i = 4; i < argument_count; i++) {
        mutated |= strcmp(arguments[i], "mutated") == 0;
        equal |= strcmp(arguments[i], "equal") == 0;
    }
    heap_init(&heap, 0);
    buf_init(&request, &heap);
    buf_init(&answer, &heap);
    struct model model = read_model(arguments[3], mutated, equal);
    dial((uint16_t)strtoul(arguments[2], NULL, 10));
    if (strcmp(arguments[1], "load") == 0)
        load(&model, equal);
    else if (strcmp(arguments[1], "mutate") == 0)
        mutate(&model);
    else
        check(&model, argument_count > 4 ? strtoull(arguments[4], NULL, 10) : 1000,
              argument_count > 5 ? (uint32_t)strtoul(arguments[5], NULL, 10) : 8);
    return 0;
}
