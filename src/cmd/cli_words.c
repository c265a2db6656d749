/* The commands about single words and searches. */
#include "cmd/cli.h"

#include "proto/number.h"

#include <stdlib.h>
#include <string.h>

enum { SEARCH_LIMIT_MAX = 1000 };

static const char *const words_path = "/api/v1/words";

static void append_flag(struct buf *path, const char *name, const char *value)
{
    if (value != NULL) http_query_append(path, name, slice_from_text(value));
}

/* --- Search --- */

/* Positions of the flags in the table of commands. */
enum {
    SEARCH_LIMIT,
    SEARCH_SORT,
    SEARCH_CURSOR,
    SEARCH_ALL,
    SEARCH_SCORES,
    SEARCH_FUZZY,
    SEARCH_TAGS,
    SEARCH_TAGS_ANY,
    SEARCH_CONSISTENCY,
};

static struct buf search_path(struct cli *cli, const struct cli_arguments *arguments,
                              struct slice cursor)
{
    static const char *const names[] = {
        [SEARCH_LIMIT] = "limit",       [SEARCH_SORT] = "sort",
        [SEARCH_FUZZY] = "fuzzy",       [SEARCH_TAGS] = "tags",
        [SEARCH_TAGS_ANY] = "tags_any", [SEARCH_CONSISTENCY] = "consistency",
    };
    struct buf path = cli_path(cli, "/api/v1/search");
    append_flag(&path, "q", arguments->word_count > 0 ? arguments->words[0] : "");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (names[i] != NULL) append_flag(&path, names[i], arguments->flags[i]);
    }
    if (arguments->flags[SEARCH_ALL] != NULL && arguments->flags[SEARCH_LIMIT] == NULL) {
        append_flag(&path, "limit", "1000");
    }
    if (cursor.size > 0) http_query_append(&path, "cursor", cursor);
    return path;
}

/* The word with the part that matched in bold. */
static void print_highlighted(const struct cli *cli, const json_t *result)
{
    struct heap heap;
    struct buf bytes;
    const json_t *match = json_object_get(result, "match");
    size_t start = (size_t)json_integer_value(json_array_get(match, 0));
    size_t end = (size_t)json_integer_value(json_array_get(match, 1));
    heap_init(&heap, 0);
    buf_init(&bytes, &heap);
    if (cli_json_bytes(json_object_get(result, "word"), &bytes)) {
        struct slice word = buf_slice(&bytes);
        if (start > end || end > word.size) start = end = 0;
        cli_print_bytes(cli, stdout, slice_prefix(word, start));
        if (end > start) {
            fputs("\033[1m", stdout);
            cli_print_bytes(cli, stdout, slice_of(word.data + start, end - start));
            fputs("\033[0m", stdout);
        }
        if (word.size > end) cli_print_bytes(cli, stdout, slice_from(word, end));
    }
    buf_deinit(&bytes);
}

static void print_number(double value)
{
    uint8_t text[NUMBER_BYTES_MAX];
    size_t size = number_put(value, text);
    fwrite(text, 1, size, stdout);
}

static void print_results(const struct cli *cli, const json_t *answer, bool scores)
{
    size_t index;
    const json_t *result;
    json_array_foreach(json_object_get(answer, "results"), index, result)
    {
        if (cli->color)
            print_highlighted(cli, result);
        else
            cli_print_value(cli, json_object_get(result, "word"));
        if (scores) {
            fputc('\t', stdout);
            print_number(json_number_value(json_object_get(result, "score")));
        }
        fputc('\n', stdout);
    }
}

/* Keeps where the next page starts; false when this was the last. */
static bool keep_cursor(const json_t *answer, struct buf *cursor)
{
    const json_t *next = json_object_get(answer, "next_cursor");
    buf_clear(cursor);
    if (json_is_string(next)) buf_append(cursor, json_string_value(next), json_string_length(next));
    return cursor->size > 0;
}

enum cli_exit cli_search(struct cli *cli, const struct cli_arguments *arguments)
{
    uint64_t limit;
    const char *limit_text = arguments->flags[SEARCH_LIMIT];
    const char *first = arguments->flags[SEARCH_CURSOR];
    if (limit_text != NULL && !cli_number("--limit", limit_text, 1, SEARCH_LIMIT_MAX, &limit)) {
        return CLI_USAGE;
    }
    struct buf cursor;
    buf_init(&cursor, &cli->heap);
    if (first != NULL) buf_append_text(&cursor, first);
    enum cli_exit code;
    bool more;
    do {
        json_t *answer;
        struct buf path = search_path(cli, arguments, buf_slice(&cursor));
        code = cli_call(cli, "GET", &path, NULL, &answer, NULL);
        if (code == CLI_DONE && !cli->json) {
            print_results(cli, answer, arguments->flags[SEARCH_SCORES] != NULL);
        }
        more = code == CLI_DONE && keep_cursor(answer, &cursor);
        json_decref(answer);
    } while (more && arguments->flags[SEARCH_ALL] != NULL);
    if (more && cli->escape && !cli->json) {
        fprintf(stderr, "more: --cursor %.*s\n", (int)cursor.size, (const char *)cursor.data);
    }
    buf_deinit(&cursor);
    return code;
}

/* --- Writes --- */

/* "500ms", "30s", "5m", "2h" or "7d" in milliseconds. */
static bool parse_duration(const char *text, uint64_t *out)
{
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    size_t digits = strspn(text, "0123456789");
    char number[20];
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (strcmp(text + digits, units[i].unit) != 0 || digits == 0 || digits > 12) continue;
        memcpy(number, text, digits);
        number[digits] = '\0';
        *out = strtoull(number, NULL, 10) * units[i].ms;
        return true;
    }
    cli_usage_error("--ttl: '%s' is not a duration, as in 500ms, 30s, 5m, 2h or 7d", text);
    return false;
}

/* "a,b" as a JSON list. */
static json_t *tags_of(const char *text)
{
    json_t *tags = json_array();
    while (*text != '\0') {
        size_t size = strcspn(text, ",");
        if (size > 0) json_array_append_new(tags, cli_json_of(slice_of(text, size)));
        text += size + (text[size] == ',');
    }
    return tags;
}

static json_t *word_body(const char *word)
{
    json_t *body = json_object();
    json_object_set_new(body, "word", cli_json_of(slice_from_text(word)));
    return body;
}

enum { ADD_PAYLOAD, ADD_TAGS, ADD_TTL, ADD_EXPIRES_AT, ADD_CONSISTENCY };

static enum cli_exit add_body(const struct cli_arguments *arguments, json_t *body)
{
    const char *const *flags = arguments->flags;
    double score;
    uint64_t time;
    if (arguments->word_count > 1) {
        if (!cli_double("SCORE", arguments->words[1], &score)) return CLI_USAGE;
        json_object_set_new(body, "score", json_real(score));
    }
    if (flags[ADD_PAYLOAD] != NULL) {
        json_object_set_new(body, "payload", cli_json_of(slice_from_text(flags[ADD_PAYLOAD])));
    }
    if (flags[ADD_TAGS] != NULL) json_object_set_new(body, "tags", tags_of(flags[ADD_TAGS]));
    if (flags[ADD_TTL] != NULL && flags[ADD_EXPIRES_AT] != NULL) {
        return cli_usage_error("--ttl and --expires-at exclude each other");
    }
    if (flags[ADD_TTL] != NULL) {
        if (!parse_duration(flags[ADD_TTL], &time)) return CLI_USAGE;
        json_object_set_new(body, "ttl_ms", json_integer((json_int_t)time));
    }
    if (flags[ADD_EXPIRES_AT] != NULL) {
        if (!cli_number("--expires-at", flags[ADD_EXPIRES_AT], 1, INT64_MAX, &time)) {
            return CLI_USAGE;
        }
        json_object_set_new(body, "expires_at", json_integer((json_int_t)time));
    }
    return CLI_DONE;
}

static void print_done(const struct cli *cli, const char *verb, const char *word)
{
    if (cli->json) return;
    printf("%s ", verb);
    cli_print_bytes(cli, stdout, slice_from_text(word));
    fputc('\n', stdout);
}

enum cli_exit cli_add(struct cli *cli, const struct cli_arguments *arguments)
{
    long status;
    json_t *answer;
    json_t *body = word_body(arguments->words[0]);
    enum cli_exit code = add_body(arguments, body);
    if (code != CLI_DONE) {
        json_decref(body);
        return code;
    }
    struct buf path = cli_path(cli, words_path);
    append_flag(&path, "consistency", arguments->flags[ADD_CONSISTENCY]);
    code = cli_call(cli, "POST", &path, body, &answer, &status);
    json_decref(answer);
    if (code == CLI_DONE) print_done(cli, status == 201 ? "added" : "updated", arguments->words[0]);
    return code;
}

enum cli_exit cli_rm(struct cli *cli, const struct cli_arguments *arguments)
{
    enum cli_exit worst = CLI_DONE;
    for (size_t i = 0; i < arguments->word_count; i++) {
        json_t *answer;
        struct buf path = cli_path(cli, words_path);
        append_flag(&path, "consistency", arguments->flags[0]);
        enum cli_exit code =
            cli_call(cli, "DELETE", &path, word_body(arguments->words[i]), &answer, NULL);
        bool deleted = json_is_true(json_object_get(answer, "deleted"));
        json_decref(answer);
        if (code == CLI_DONE) {
            print_done(cli, deleted ? "deleted" : "not found", arguments->words[i]);
            code = deleted ? CLI_DONE : CLI_FAILED;
        }
        if (code > worst) worst = code;
        if (code > CLI_FAILED) break;
    }
    return worst;
}

enum cli_exit cli_incr(struct cli *cli, const struct cli_arguments *arguments)
{
    json_t *answer;
    double by;
    json_t *body = word_body(arguments->words[0]);
    if (arguments->word_count > 1) {
        if (!cli_double("BY", arguments->words[1], &by)) {
            json_decref(body);
            return CLI_USAGE;
        }
        json_object_set_new(body, "by", json_real(by));
    }
    struct buf path = cli_path(cli, "/api/v1/words/increment");
    append_flag(&path, "consistency", arguments->flags[0]);
    enum cli_exit code = cli_call(cli, "POST", &path, body, &answer, NULL);
    if (code == CLI_DONE && !cli->json) {
        print_number(json_number_value(json_object_get(answer, "score")));
        fputc('\n', stdout);
    }
    json_decref(answer);
    return code;
}

/* --- Reads --- */

static void print_json(const struct cli *cli, const json_t *value)
{
    struct heap heap;
    struct buf bytes;
    heap_init(&heap, 0);
    buf_init(&bytes, &heap);
    if (json_is_number(value)) {
        print_number(json_number_value(value));
    } else if (cli_json_bytes(value, &bytes)) {
        cli_print_bytes(cli, stdout, buf_slice(&bytes));
    } else {
        char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
        if (text != NULL) cli_print_bytes(cli, stdout, slice_from_text(text));
        free(text);
    }
    buf_deinit(&bytes);
}

enum cli_exit cli_get(struct cli *cli, const struct cli_arguments *arguments)
{
    json_t *answer;
    struct buf path = cli_path(cli, words_path);
    append_flag(&path, "word", arguments->words[0]);
    append_flag(&path, "consistency", arguments->flags[0]);
    enum cli_exit code = cli_call(cli, "GET", &path, NULL, &answer, NULL);
    const char *key;
    json_t *value;
    if (code == CLI_DONE && !cli->json) {
        json_object_foreach(answer, key, value)
        {
            printf("%-11s ", key);
            print_json(cli, value);
            fputc('\n', stdout);
        }
    }
    json_decref(answer);
    return code;
}

enum cli_exit cli_count(struct cli *cli, const struct cli_arguments *arguments)
{
    json_t *answer;
    struct buf path = cli_path(cli, "/api/v1/count");
    append_flag(&path, "q", arguments->word_count > 0 ? arguments->words[0] : "");
    append_flag(&path, "consistency", arguments->flags[0]);
    enum cli_exit code = cli_call(cli, "GET", &path, NULL, &answer, NULL);
    if (code == CLI_DONE && !cli->json) {
        printf("%lld\n", (long long)json_integer_value(json_object_get(answer, "count")));
    }
    json_decref(answer);
    return code;
}

/* --- Status --- */

/* One line a leaf: "store.files 3". */
static void print_leaves(const struct cli *cli, const char *prefix, const json_t *value)
{
    char name[256];
    const char *key;
    json_t *each;
    if (!json_is_object(value)) {
        printf("%-40s ", prefix);
        print_json(cli, value);
        fputc('\n', stdout);
        return;
    }
    void *position = json_object_iter((json_t *)(uintptr_t)value);
    for (; position != NULL;
         position = json_object_iter_next((json_t *)(uintptr_t)value, position)) {
        key = json_object_iter_key(position);
        each = json_object_iter_value(position);
        snprintf(name, sizeof name, "%s%s%s", prefix, *prefix == '\0' ? "" : ".", key);
        print_leaves(cli, name, each);
    }
}

/* A node that is not ready answers 503, with its reasons. */
static enum cli_exit ask_ready(struct cli *cli, json_t **answer, bool *answered)
{
    struct http_response response;
    struct http_request request = {.method = "GET", .timeout_ms = cli->timeout_ms};
    struct buf path;
    buf_init(&path, &cli->heap);
    buf_append_text(&path, "/ready");
    enum cli_exit code = cli_send(cli, &request, &path, &response);
    *answered = code == CLI_DONE || response.status == 503;
    *answer = json_loadb((const char *)response.body.data, response.body.size, 0, NULL);
    buf_deinit(&response.body);
    buf_deinit(&path);
    return code;
}

static void print_ready(const struct cli *cli, const json_t *ready, bool is_ready)
{
    size_t index;
    json_t *reason;
    printf("%-40s %s\n", "ready", is_ready ? "yes" : "no");
    json_array_foreach(json_object_get(ready, "reasons"), index, reason)
    {
        printf("%-40s ", "reason");
        cli_print_value(cli, reason);
        putchar('\n');
    }
}

/* The figures, and what /ready said, in one object. */
static void print_status(const json_t *ready, bool is_ready, json_t *figures)
{
    json_t *reasons = json_object_get(ready, "reasons");
    json_t *all = json_pack("{s:b, s:o}", "ready", is_ready, "reasons",
                            reasons == NULL ? json_array() : json_incref(reasons));
    json_object_update(all, figures);
    char *text = json_dumps(all, JSON_COMPACT | JSON_REAL_PRECISION(15));
    if (text != NULL) puts(text);
    free(text);
    json_decref(all);
}

enum cli_exit cli_status(struct cli *cli, const struct cli_arguments *arguments)
{
    json_t *ready, *figures;
    bool answered, as_json = cli->json;
    cli->json = false; /* The two answers are printed together. */
    enum cli_exit code = ask_ready(cli, &ready, &answered);
    bool is_ready = code == CLI_DONE;
    if (!answered) {
        cli->json = as_json;
        json_decref(ready);
        return code;
    }
    struct buf path = cli_path(cli, "/api/v1/stats");
    if (!as_json) print_ready(cli, ready, is_ready);
    code = cli_call(cli, "GET", &path, NULL, &figures, NULL);
    cli->json = as_json;
    if (code == CLI_DONE && as_json)
        print_status(ready, is_ready, figures);
    else if (code == CLI_DONE)
        print_leaves(cli, "", figures);
    json_decref(ready);
    json_decref(figures);
    if (code != CLI_DONE) return code;
    return is_ready ? CLI_DONE : CLI_FAILED;
}
