#include "client/client.h"
#include "client/json.h"
#include "core/key.h"
#include "core/limits.h"
#include "proto/json_write.h"
#include "proto/url.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_ROUTE "/api/v1/words"

/* All that one call needs until it returns. */
struct words_call {
    struct trifecta_client *client;
    struct trifecta_call *call; /* NULL: defaults. */
    struct client_request request;
    struct trifecta_problem problem;
    struct buf path;
    struct buf low;
    struct buf high;
    struct buf body;   /* Of the request. */
    struct buf answer; /* Of the node. */
};

struct trifecta_bytes trifecta_text(const char *text)
{
    return (struct trifecta_bytes){text, strlen(text)};
}

const char *trifecta_error_name(enum trifecta_error error)
{
    static const char *const names[] = {
        [TRIFECTA_OK] = "ok",
        [TRIFECTA_NOT_FOUND] = "not_found",
        [TRIFECTA_INVALID] = "invalid",
        [TRIFECTA_REFUSED] = "refused",
        [TRIFECTA_UNAVAILABLE] = "unavailable",
        [TRIFECTA_UNREACHABLE] = "unreachable",
        [TRIFECTA_TIMED_OUT] = "timed_out",
        [TRIFECTA_OUTCOME_UNKNOWN] = "outcome_unknown",
        [TRIFECTA_PROTOCOL] = "protocol",
        [TRIFECTA_NO_MEMORY] = "no_memory",
    };
    size_t number = (size_t)error;
    return number < sizeof names / sizeof names[0] ? names[number] : "unknown";
}

/* --- Asking --- */

static struct slice bytes_slice(struct trifecta_bytes bytes)
{
    return slice_of(bytes.data, bytes.size);
}

static void append_parameter(struct buf *path, const char *name, struct slice value)
{
    bool first = path->size == 0 || memchr(path->data, '?', path->size) == NULL;
    buf_append_u8(path, first ? '?' : '&');
    buf_append_text(path, name);
    buf_append_u8(path, '=');
    url_encode(value, path);
}

static const char *namespace_of(const struct trifecta_call *call)
{
    return call == NULL || call->ns == NULL ? "default" : call->ns;
}

static void begin(struct words_call *words, struct trifecta_client *client,
                  struct trifecta_call *call, const char *method, const char *route)
{
    static const char *const names[] = {[TRIFECTA_CONSISTENCY_ONE] = "one",
                                        [TRIFECTA_CONSISTENCY_QUORUM] = "quorum",
                                        [TRIFECTA_CONSISTENCY_ALL] = "all"};
    *words = (struct words_call){.client = client, .call = call};
    struct heap *heap = client_heap(client);
    buf_init(&words->path, heap);
    buf_init(&words->low, heap);
    buf_init(&words->high, heap);
    buf_init(&words->body, heap);
    buf_init(&words->answer, heap);
    words->request.method = method;
    words->request.repeatable = strcmp(method, "GET") == 0;
    words->request.timeout_ms = call == NULL ? 0 : call->timeout_ms;

    unsigned consistency = call == NULL ? 0 : (unsigned)call->consistency;
    buf_append_text(&words->path, route);
    append_parameter(&words->path, "ns", slice_from_text(namespace_of(call)));
    if (consistency == 0 || consistency >= sizeof names / sizeof names[0]) return;
    append_parameter(&words->path, "consistency", slice_from_text(names[consistency]));
}

/* Tells the caller what went wrong, and gives back the memory. */
static enum trifecta_error end(struct words_call *words, enum trifecta_error error)
{
    if (error != TRIFECTA_OK && words->call != NULL) words->call->problem = words->problem;
    buf_deinit(&words->path);
    buf_deinit(&words->low);
    buf_deinit(&words->high);
    buf_deinit(&words->body);
    buf_deinit(&words->answer);
    return error;
}

static enum trifecta_error refuse(struct words_call *words, enum trifecta_error error,
                                  const char *detail)
{
    words->problem = (struct trifecta_problem){0};
    snprintf(words->problem.detail, sizeof words->problem.detail, "%s", detail);
    return error;
}

/* The fold is the usual one: where a namespace has another, the guess costs a hop, no more. */
static enum status route_to_word(struct words_call *words, struct slice word)
{
    struct slice name = slice_from_text(namespace_of(words->call));
    enum status status = key_encode(name, word, FOLD_CASE, &words->low);
    /* The least key after this one. */
    buf_append_slice(&words->high, buf_slice(&words->low));
    buf_append_u8(&words->high, '\0');
    return status;
}

static enum status route_to_prefix(struct words_call *words, struct slice prefix)
{
    struct slice name = slice_from_text(namespace_of(words->call));
    enum status status = key_prefix(name, prefix, FOLD_CASE, &words->low);
    return status == STATUS_OK ? key_prefix_end(buf_slice(&words->low), &words->high) : status;
}

static enum trifecta_error send_request(struct words_call *words, enum status routed)
{
    if (routed == STATUS_INVALID || routed == STATUS_LIMIT) {
        return refuse(words, TRIFECTA_INVALID,
                      "the word, the prefix or the namespace is not valid");
    }
    bool failed = words->path.failed || words->low.failed || words->high.failed;
    if (routed != STATUS_OK || failed || words->body.failed) {
        return refuse(words, TRIFECTA_NO_MEMORY, "there is no memory");
    }
    words->request.path = buf_slice(&words->path);
    words->request.body = buf_slice(&words->body);
    words->request.low = buf_slice(&words->low);
    words->request.high = buf_slice(&words->high);
    return client_send(words->client, &words->request, &words->answer, &words->problem);
}

/* --- Writes --- */

/* An answer that cannot be read still says that the write was done, not how. */
static enum trifecta_error strange(struct words_call *words)
{
    bool read = words->request.repeatable;
    return refuse(words, read ? TRIFECTA_PROTOCOL : TRIFECTA_OUTCOME_UNKNOWN,
                  "the answer is not what a node answers, or there is no memory for it");
}

static void write_attributes(struct json_writer *writer,
                             const struct trifecta_attributes *attributes)
{
    json_write_name(writer, "score");
    json_write_double(writer, attributes->score);
    if (attributes->payload.size > 0) {
        json_write_name(writer, "payload");
        json_write_string(writer, bytes_slice(attributes->payload));
    }
    if (attributes->tag_count > 0) {
        json_write_name(writer, "tags");
        json_write_array_begin(writer);
        for (size_t i = 0; i < attributes->tag_count; i++) {
            json_write_string(writer, bytes_slice(attributes->tags[i]));
        }
        json_write_array_end(writer);
    }
    if (attributes->expires_at_ms == 0) return;
    json_write_name(writer, "expires_at");
    json_write_u64(writer, attributes->expires_at_ms);
}

static struct json_writer body_begin(struct words_call *words, struct slice word)
{
    struct json_writer writer = json_writer_of(&words->body);
    json_write_object_begin(&writer);
    json_write_name(&writer, "word");
    json_write_string(&writer, word);
    return writer;
}

enum trifecta_error trifecta_put(struct trifecta_client *client, struct trifecta_call *call,
                                 struct trifecta_bytes word,
                                 const struct trifecta_attributes *attributes)
{
    struct words_call words;
    begin(&words, client, call, "POST", WORDS_ROUTE);
    if (attributes != NULL && !isfinite(attributes->score)) {
        return end(&words, refuse(&words, TRIFECTA_INVALID, "the score is not finite"));
    }
    struct json_writer writer = body_begin(&words, bytes_slice(word));
    if (attributes != NULL) write_attributes(&writer, attributes);
    json_write_object_end(&writer);
    return end(&words, send_request(&words, route_to_word(&words, bytes_slice(word))));
}

enum trifecta_error trifecta_increment(struct trifecta_client *client, struct trifecta_call *call,
                                       struct trifecta_bytes word, double by, double *score)
{
    struct words_call words;
    begin(&words, client, call, "POST", WORDS_ROUTE "/increment");
    if (!isfinite(by)) {
        return end(&words, refuse(&words, TRIFECTA_INVALID, "the number to add is not finite"));
    }
    struct json_writer writer = body_begin(&words, bytes_slice(word));
    json_write_name(&writer, "by");
    json_write_double(&writer, by);
    json_write_object_end(&writer);
    enum trifecta_error error = send_request(&words, route_to_word(&words, bytes_slice(word)));
    if (error != TRIFECTA_OK || score == NULL) return end(&words, error);

    json_t *json = json_parse(buf_slice(&words.answer));
    const json_t *sum = json_object_get(json, "score");
    if (json_is_number(sum)) {
        *score = json_number_value(sum);
    } else {
        error = strange(&words);
    }
    json_decref(json);
    return end(&words, error);
}

enum trifecta_error trifecta_remove(struct trifecta_client *client, struct trifecta_call *call,
                                    struct trifecta_bytes word, bool *deleted)
{
    struct words_call words;
    begin(&words, client, call, "DELETE", WORDS_ROUTE);
    struct json_writer writer = body_begin(&words, bytes_slice(word));
    json_write_object_end(&writer);
    enum trifecta_error error = send_request(&words, route_to_word(&words, bytes_slice(word)));
    if (error != TRIFECTA_OK || deleted == NULL) return end(&words, error);

    json_t *json = json_parse(buf_slice(&words.answer));
    const json_t *was_there = json_object_get(json, "deleted");
    if (json_is_boolean(was_there)) {
        *deleted = json_is_true(was_there);
    } else {
        error = strange(&words);
    }
    json_decref(json);
    return end(&words, error);
}

/* --- Pages --- */

/* A page and all that it points to are one piece of memory:
 * page, entries, tags, then bytes. Two passes: one counts, one fills. */
struct page_writer {
    struct trifecta_page *page; /* NULL in the first pass. */
    struct trifecta_entry *entries;
    struct trifecta_bytes *tags;
    char *bytes;
    size_t entry_count;
    size_t tag_count;
    size_t byte_count;
    struct buf scratch;
};

static bool put_bytes(struct page_writer *writer, const json_t *json, struct trifecta_bytes *out)
{
    *out = (struct trifecta_bytes){0};
    if (json == NULL) return true;
    buf_clear(&writer->scratch);
    if (!json_get_bytes(json, &writer->scratch)) return false;
    size_t size = writer->scratch.size;
    if (writer->page != NULL && size > 0) {
        char *at = writer->bytes + writer->byte_count;
        memcpy(at, writer->scratch.data, size);
        *out = (struct trifecta_bytes){at, size};
    }
    writer->byte_count += size;
    return true;
}

static bool put_tags(struct page_writer *writer, const json_t *json,
                     struct trifecta_attributes *out)
{
    size_t count = json_array_size(json), first = writer->tag_count;
    for (size_t i = 0; i < count; i++) {
        struct trifecta_bytes tag;
        if (!put_bytes(writer, json_array_get(json, i), &tag)) return false;
        if (writer->page != NULL) writer->tags[writer->tag_count] = tag;
        writer->tag_count++;
    }
    out->tag_count = count;
    out->tags = writer->page == NULL || count == 0 ? NULL : writer->tags + first;
    return true;
}

static bool put_entry(struct page_writer *writer, const json_t *json)
{
    struct trifecta_entry entry = {0};
    const json_t *word = json_object_get(json, "word");
    const json_t *score = json_object_get(json, "score");
    const json_t *expires_at = json_object_get(json, "expires_at");
    if (word == NULL || !json_is_number(score)) return false;
    entry.attributes.score = json_number_value(score);
    entry.attributes.expires_at_ms = (uint64_t)json_integer_value(expires_at);
    if (!put_bytes(writer, word, &entry.word)) return false;
    if (!put_bytes(writer, json_object_get(json, "payload"), &entry.attributes.payload)) {
        return false;
    }
    if (!put_tags(writer, json_object_get(json, "tags"), &entry.attributes)) return false;
    if (writer->page != NULL) writer->entries[writer->entry_count] = entry;
    writer->entry_count++;
    return true;
}

static bool put_page(struct page_writer *writer, const json_t *results, const char *cursor)
{
    writer->entry_count = writer->tag_count = writer->byte_count = 0;
    for (size_t i = 0; i < json_array_size(results); i++) {
        if (!put_entry(writer, json_array_get(results, i))) return false;
    }
    size_t size = cursor == NULL ? 0 : strlen(cursor) + 1;
    if (writer->page != NULL) {
        writer->page->entries = writer->entries;
        writer->page->count = writer->entry_count;
        writer->page->next_cursor = size == 0 ? NULL : writer->bytes + writer->byte_count;
        if (size > 0) memcpy(writer->bytes + writer->byte_count, cursor, size);
    }
    writer->byte_count += size;
    return true;
}

static bool page_allocate(struct page_writer *writer)
{
    size_t entries_size = writer->entry_count * sizeof *writer->entries;
    size_t tags_size = writer->tag_count * sizeof *writer->tags;
    struct trifecta_page *page =
        calloc(1, sizeof *page + entries_size + tags_size + writer->byte_count);
    if (page == NULL) return false;
    writer->page = page;
    writer->entries = (struct trifecta_entry *)(page + 1);
    writer->tags = (struct trifecta_bytes *)(writer->entries + writer->entry_count);
    writer->bytes = (char *)(writer->tags + writer->tag_count);
    return true;
}

/* NULL where the answer is none, or there is no memory. */
static struct trifecta_page *page_create(struct heap *heap, const json_t *results,
                                         const char *cursor)
{
    struct page_writer writer = {0};
    buf_init(&writer.scratch, heap);
    bool built = json_is_array(results) && put_page(&writer, results, cursor) &&
                 page_allocate(&writer) && put_page(&writer, results, cursor);
    buf_deinit(&writer.scratch);
    if (built) return writer.page;
    trifecta_page_free(writer.page);
    return NULL;
}

void trifecta_page_free(struct trifecta_page *page)
{
    free(page);
}

static enum trifecta_error page_take(struct words_call *words, const json_t *results,
                                     const char *cursor, struct trifecta_page **out)
{
    struct trifecta_page *page = page_create(client_heap(words->client), results, cursor);
    if (page == NULL) return strange(words);
    *out = page;
    return TRIFECTA_OK;
}

/* --- Reads --- */

enum trifecta_error trifecta_get(struct trifecta_client *client, struct trifecta_call *call,
                                 struct trifecta_bytes word, struct trifecta_page **out)
{
    struct words_call words;
    begin(&words, client, call, "GET", WORDS_ROUTE);
    append_parameter(&words.path, "word", bytes_slice(word));
    enum trifecta_error error = send_request(&words, route_to_word(&words, bytes_slice(word)));
    if (error != TRIFECTA_OK) return end(&words, error);

    json_t *json = json_parse(buf_slice(&words.answer));
    json_t *results = json_array();
    if (json_array_append(results, json) == 0) {
        error = page_take(&words, results, NULL, out);
    } else {
        error = strange(&words);
    }
    json_decref(results);
    json_decref(json);
    return end(&words, error);
}

static void append_query(struct buf *path, const struct trifecta_query *query)
{
    static const char *const sorts[] = {
        [TRIFECTA_ALPHABETICAL] = "alphabetical:asc",
        [TRIFECTA_ALPHABETICAL_REVERSED] = "alphabetical:desc",
    };
    if (query->limit > 0) {
        char text[16];
        snprintf(text, sizeof text, "%u", query->limit);
        append_parameter(path, "limit", slice_from_text(text));
    }
    unsigned sort = (unsigned)query->sort;
    if (sort > 0 && sort < sizeof sorts / sizeof sorts[0]) {
        append_parameter(path, "sort", slice_from_text(sorts[sort]));
    }
    if (query->cursor != NULL) append_parameter(path, "cursor", slice_from_text(query->cursor));
}

enum trifecta_error trifecta_search(struct trifecta_client *client, struct trifecta_call *call,
                                    struct trifecta_bytes prefix,
                                    const struct trifecta_query *query, struct trifecta_page **out)
{
    struct words_call words;
    begin(&words, client, call, "GET", "/api/v1/search");
    append_parameter(&words.path, "q", bytes_slice(prefix));
    if (query != NULL) append_query(&words.path, query);
    enum trifecta_error error = send_request(&words, route_to_prefix(&words, bytes_slice(prefix)));
    if (error != TRIFECTA_OK) return end(&words, error);

    json_t *json = json_parse(buf_slice(&words.answer));
    const char *cursor = json_string_value(json_object_get(json, "next_cursor"));
    error = page_take(&words, json_object_get(json, "results"), cursor, out);
    json_decref(json);
    return end(&words, error);
}

enum trifecta_error trifecta_count(struct trifecta_client *client, struct trifecta_call *call,
                                   struct trifecta_bytes prefix, uint64_t *out)
{
    struct words_call words;
    begin(&words, client, call, "GET", "/api/v1/count");
    append_parameter(&words.path, "q", bytes_slice(prefix));
    enum trifecta_error error = send_request(&words, route_to_prefix(&words, bytes_slice(prefix)));
    if (error != TRIFECTA_OK) return end(&words, error);

    json_t *json = json_parse(buf_slice(&words.answer));
    const json_t *count = json_object_get(json, "count");
    if (json_is_integer(count)) {
        *out = (uint64_t)json_integer_value(count);
    } else {
        error = strange(&words);
    }
    json_decref(json);
    return end(&words, error);
}
