/* Searches, counts and entries: one view, one query, one answer. */
#include <stdio.h>

#include "core/key.h"
#include "core/limits.h"
#include "node/figures.h"
#include "node/node.h"
#include "node/params.h"
#include "node/words.h"
#include "proto/json_write.h"

#define JSON_TYPE "application/json"

struct asking {
    struct node_reader *reader;
    const struct http_request *request;
    const struct view *view;
    uint64_t now_ms;
    struct buf *out;
    struct node_params params;
};

static void refuse(struct asking *asking, enum problem_code code, const char *detail,
                   const char *field)
{
    struct node_reply reply = node_reply_of(asking->request);
    node_refuse(asking->reader, &reply, code, detail, field, asking->out);
}

static void refuse_status(struct asking *asking, enum status status)
{
    refuse(asking, node_problem_of(status),
           status == STATUS_CORRUPT ? "a data file is damaged; /ready names it" : NULL, NULL);
}

/* False when the request was refused. */
static bool read_params(struct asking *asking, unsigned allowed)
{
    struct node_param_error error = {.code = PROBLEM_INTERNAL};
    enum status status = node_params_read(asking->request->query, allowed, &asking->reader->decoded,
                                          &asking->params, &error);
    if (status == STATUS_OK) return true;
    if (status == STATUS_INVALID)
        refuse(asking, error.code, error.detail, error.field);
    else
        refuse_status(asking, status);
    return false;
}

static struct query query_of(const struct asking *asking)
{
    return store_query(asking->view, asking->now_ms, asking->reader->heap, asking->reader->scratch);
}

static enum status read_prefix(struct asking *asking)
{
    struct node_params *params = &asking->params;
    return key_prefix(params->ns, params->q, node_fold(params->ns), &asking->reader->prefix);
}

/* Finishes an answer whose body stands in `reader->body`. */
static void answer(struct asking *asking, uint16_t http_status)
{
    struct node_reader *reader = asking->reader;
    struct node_reply reply = node_reply_of(asking->request);
    if (buf_status(&reader->body) != STATUS_OK)
        refuse_status(asking, STATUS_NOMEM);
    else
        node_answer(reader, &reply, http_status, JSON_TYPE, buf_slice(&reader->body), asking->out);
}

/* --- Search --- */

struct searching {
    struct asking *asking;
    struct json_writer writer;
    bool plain;
    uint32_t given;
    struct cursor last; /* Of the last one given; its key lies in `reader->key`. */
    bool more;
};

static void write_tags(struct json_writer *writer, struct slice tags)
{
    struct slice tag;
    if (tags.size == 0) return;
    json_write_name(writer, "tags");
    json_write_array_begin(writer);
    while (record_tag_next(&tags, &tag)) json_write_string(writer, tag);
    json_write_array_end(writer);
}

static void write_payload(struct json_writer *writer, const struct record *record)
{
    if (!record->has_payload) return;
    json_write_name(writer, "payload");
    json_write_string(writer, record->payload);
}

/* Where in the word the prefix ends, given how long its folded form is. */
static enum status write_match(struct searching *searching, struct slice word)
{
    struct node_reader *reader = searching->asking->reader;
    struct node_params *params = &searching->asking->params;
    size_t end;

    /* `decoded` holds the parameters themselves: the fold goes behind them and off again. */
    buf_clear(&reader->error);
    enum status status = fold_append(node_fold(params->ns), params->q, &reader->error);
    if (status != STATUS_OK) return status;
    size_t folded_size = reader->error.size;
    status = fold_match_end(node_fold(params->ns), word, folded_size, &reader->error, &end);
    if (status != STATUS_OK) return status;

    json_write_name(&searching->writer, "match");
    json_write_array_begin(&searching->writer);
    json_write_u64(&searching->writer, 0);
    json_write_u64(&searching->writer, end);
    json_write_array_end(&searching->writer);
    return STATUS_OK;
}

static enum status write_entry(struct searching *searching, struct slice word,
                               const struct record *record)
{
    struct json_writer *writer = &searching->writer;
    json_write_object_begin(writer);
    json_write_name(writer, "word");
    json_write_string(writer, word);
    json_write_name(writer, "score");
    json_write_double(writer, record_score(record));
    write_payload(writer, record);
    write_tags(writer, record->tags);
    enum status status = write_match(searching, word);
    json_write_object_end(writer);
    return status;
}

static enum status visit_result(void *context, struct slice key, const struct record *record)
{
    struct searching *searching = context;
    struct node_reader *reader = searching->asking->reader;
    struct slice ns;

    if (searching->given == searching->asking->params.limit) {
        searching->more = true;
        return STATUS_END;
    }
    enum status status = key_decode(key, &ns, &reader->word);
    if (status != STATUS_OK) return status;
    if (searching->plain)
        json_write_string(&searching->writer, buf_slice(&reader->word));
    else
        status = write_entry(searching, buf_slice(&reader->word), record);
    if (status != STATUS_OK) return status;

    /* The page's last entry is where the next one goes on. */
    if (++searching->given == searching->asking->params.limit) {
        struct best best = record_best(record);
        buf_clear(&reader->key);
        buf_append_slice(&reader->key, key);
        searching->last = (struct cursor){
            .sort = searching->asking->params.sort,
            .key = buf_slice(&reader->key),
        };
        if (searching->last.sort == CURSOR_POPULARITY) {
            searching->last.score = score_of_order(best.score_order);
            searching->last.created_time = best.created_time;
            searching->last.created_node = best.created_node;
        }
    }
    return buf_status(&reader->key);
}

/* What a cursor must have come from: the same sort, namespace and folded prefix. */
static uint64_t question_hash(const struct asking *asking)
{
    return cursor_query_hash(asking->params.ns, buf_slice(&asking->reader->prefix),
                             (struct slice){0});
}

static enum status run_search(struct searching *searching, const struct cursor *after)
{
    struct asking *asking = searching->asking;
    struct query query = query_of(asking);
    struct slice prefix = buf_slice(&asking->reader->prefix);
    uint64_t limit = (uint64_t)asking->params.limit + 1;

    if (asking->params.sort == CURSOR_POPULARITY) {
        struct query_position position;
        if (after != NULL)
            position = (struct query_position){
                .best = {score_order_of(after->score), after->created_time, after->created_node},
                .key = after->key,
            };
        return query_best(&query, prefix, limit, after == NULL ? NULL : &position, visit_result,
                          searching);
    }
    struct query_from from = {
        .key = after == NULL ? (struct slice){0} : after->key,
        .descending = asking->params.sort == CURSOR_ALPHABETICAL_REVERSE,
    };
    return query_scan(&query, prefix, &from, limit, visit_result, searching);
}

static void finish_search(struct searching *searching)
{
    struct asking *asking = searching->asking;
    struct node_reader *reader = asking->reader;
    struct json_writer *writer = &searching->writer;

    json_write_array_end(writer);
    if (searching->more) {
        buf_clear(&reader->cursor);
        cursor_encode(&searching->last, question_hash(asking), &reader->cursor);
        json_write_name(writer, "next_cursor");
        json_write_string(writer, buf_slice(&reader->cursor));
    }
    if (!searching->plain) {
        json_write_name(writer, "complete");
        json_write_bool(writer, true);
        json_write_name(writer, "took_us");
        json_write_u64(writer, reader->elapsed_us(reader->context));
    }
    json_write_object_end(writer);
    answer(asking, 200);
}

static void search(struct asking *asking, bool plain)
{
    struct node_reader *reader = asking->reader;
    struct cursor cursor;
    const struct cursor *after = NULL;

    if (!read_params(asking, NODE_PARAM_NS | NODE_PARAM_Q | NODE_PARAM_LIMIT | NODE_PARAM_CURSOR |
                                 NODE_PARAM_SORT | NODE_PARAM_CONSISTENCY))
        return;
    enum status status = read_prefix(asking);
    if (status == STATUS_OK && (asking->params.given & NODE_PARAM_CURSOR)) {
        status =
            cursor_decode(asking->params.cursor, question_hash(asking), &reader->cursor, &cursor);
        if (status == STATUS_OK && cursor.sort != asking->params.sort) status = STATUS_INVALID;
        if (status == STATUS_INVALID) {
            refuse(asking, PROBLEM_INVALID_CURSOR,
                   "the cursor was altered, or comes from another query", "cursor");
            return;
        }
        after = &cursor;
    }

    buf_clear(&reader->body);
    struct searching searching = {
        .asking = asking,
        .writer = json_writer_of(&reader->body),
        .plain = plain,
    };
    json_write_object_begin(&searching.writer);
    json_write_name(&searching.writer, "results");
    json_write_array_begin(&searching.writer);
    if (status == STATUS_OK) status = run_search(&searching, after);
    if (status == STATUS_OK)
        finish_search(&searching);
    else
        refuse_status(asking, status);
}

/* --- Count and entry --- */

static void count(struct asking *asking)
{
    struct node_reader *reader = asking->reader;
    if (!read_params(asking, NODE_PARAM_NS | NODE_PARAM_Q | NODE_PARAM_CONSISTENCY)) return;

    uint64_t words = 0;
    struct query query = query_of(asking);
    enum status status = read_prefix(asking);
    if (status == STATUS_OK) status = query_count(&query, buf_slice(&reader->prefix), &words);
    if (status != STATUS_OK) {
        refuse_status(asking, status);
        return;
    }
    buf_clear(&reader->body);
    struct json_writer writer = json_writer_of(&reader->body);
    json_write_object_begin(&writer);
    json_write_name(&writer, "count");
    json_write_u64(&writer, words);
    json_write_object_end(&writer);
    answer(asking, 200);
}

void node_write_version(struct json_writer *writer, const char *name, struct version version)
{
    char text[64];
    int size = snprintf(text, sizeof text, "%llu.%u@%u",
                        (unsigned long long)hlc_wall_ms(version.time),
                        (unsigned)(version.time & 0xffff), version.node);
    json_write_name(writer, name);
    json_write_string(writer, slice_of(text, (size_t)size));
}

static void write_record(struct json_writer *writer, struct slice word, const struct record *record)
{
    json_write_object_begin(writer);
    json_write_name(writer, "word");
    json_write_string(writer, word);
    json_write_name(writer, "score");
    json_write_double(writer, record_score(record));
    node_write_version(writer, "version", record->version);
    node_write_version(writer, "created", record_created(record));
    write_payload(writer, record);
    write_tags(writer, record->tags);
    if (record->expires_at != 0) {
        json_write_name(writer, "expires_at");
        json_write_u64(writer, record->expires_at);
    }
    json_write_object_end(writer);
}

static void get(struct asking *asking)
{
    struct node_reader *reader = asking->reader;
    struct node_params *params = &asking->params;
    struct query_hit hit;

    if (!read_params(asking, NODE_PARAM_NS | NODE_PARAM_WORD | NODE_PARAM_CONSISTENCY)) return;
    if (!(params->given & NODE_PARAM_WORD)) {
        refuse(asking, PROBLEM_MISSING_FIELD, "the parameter names the word to look up", "word");
        return;
    }
    struct query query = query_of(asking);
    enum status status = key_encode(params->ns, params->word, node_fold(params->ns), &reader->key);
    if (status == STATUS_OK) status = query_get(&query, buf_slice(&reader->key), &hit);
    if (status == STATUS_OK && !hit.live) status = STATUS_NOT_FOUND;
    if (status == STATUS_NOT_FOUND) {
        refuse(asking, PROBLEM_NOT_FOUND, "there is no such word", "word");
        return;
    }
    if (status != STATUS_OK) {
        refuse_status(asking, status);
        return;
    }
    buf_clear(&reader->body);
    struct json_writer writer = json_writer_of(&reader->body);
    write_record(&writer, params->word, &hit.record);
    answer(asking, 200);
}

/* --- Health and figures --- */

static void live(struct asking *asking)
{
    buf_clear(&asking->reader->body);
    buf_append_text(&asking->reader->body, "{\"status\":\"live\"}");
    answer(asking, 200);
}

void node_read(struct node_reader *reader, enum node_endpoint endpoint,
               const struct http_request *request, const struct view *view, uint64_t now_ms,
               const struct node_facts *facts, struct buf *out)
{
    struct asking asking = {
        .reader = reader,
        .request = request,
        .view = view,
        .now_ms = now_ms,
        .out = out,
    };
    struct node_reply reply;
    const char *content_type;

    switch (endpoint) {
    case NODE_SEARCH_PLAIN:
    case NODE_SEARCH:
        search(&asking, endpoint == NODE_SEARCH_PLAIN);
        break;
    case NODE_COUNT:
        count(&asking);
        break;
    case NODE_WORD_GET:
        get(&asking);
        break;
    case NODE_LIVE:
        live(&asking);
        break;
    case NODE_READY:
        answer(&asking, figures_ready(facts, &reader->body));
        break;
    case NODE_STATS:
        figures_stats(facts, &reader->body);
        answer(&asking, 200);
        break;
    case NODE_METRICS:
        reply = node_reply_of(request);
        content_type = figures_metrics(facts, request, &reader->body);
        node_answer(reader, &reply, 200, content_type, buf_slice(&reader->body), out);
        break;
    default:
        node_refuse_route(reader, request, out);
        break;
    }
    node_count(reader, endpoint, reader->elapsed_us(reader->context));
}
