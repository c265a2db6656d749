/* Counts, entries, health and figures; and which read a request is. */
#include <stdio.h>

#include "core/key.h"
#include "node/asking.h"
#include "node/figures.h"
#include "node/openapi.h"
#include "node/words.h"

void asking_answer_count(struct asking *asking, uint64_t count)
{
    struct node_reader *reader = asking->reader;
    buf_clear(&reader->body);
    struct json_writer writer = json_writer_of(&reader->body);
    json_write_object_begin(&writer);
    json_write_name(&writer, "count");
    json_write_u64(&writer, count);
    json_write_object_end(&writer);
    asking_answer(asking, 200);
}

static void count(struct asking *asking)
{
    struct node_reader *reader = asking->reader;
    if (!asking_read_params(asking, NODE_PARAM_NS | NODE_PARAM_Q | NODE_PARAM_CONSISTENCY)) return;

    uint64_t words = 0;
    struct query query = asking_query(asking);
    enum status status = asking_read_prefix(asking);
    if (status == STATUS_OK && !asking_is_own(asking, buf_slice(&reader->prefix), true)) return;
    if (status == STATUS_OK) status = query_count(&query, buf_slice(&reader->prefix), &words);
    if (status != STATUS_OK) {
        asking_refuse_status(asking, status);
        return;
    }
    asking_answer_count(asking, words);
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
    asking_write_payload(writer, record);
    asking_write_tags(writer, record->tags);
    if (record->expires_at != 0) {
        json_write_name(writer, "expires_at");
        json_write_u64(writer, record->expires_at);
    }
    json_write_object_end(writer);
}

void asking_answer_word(struct asking *asking, struct slice word, const struct record *record)
{
    struct node_reader *reader = asking->reader;
    buf_clear(&reader->body);
    struct json_writer writer = json_writer_of(&reader->body);
    write_record(&writer, word, record);
    asking_answer(asking, 200);
}

bool asking_read_word(struct asking *asking)
{
    struct node_params *params = &asking->params;
    if (!asking_read_params(asking, NODE_PARAM_NS | NODE_PARAM_WORD | NODE_PARAM_CONSISTENCY))
        return false;
    if (!(params->given & NODE_PARAM_WORD)) {
        asking_refuse(asking, PROBLEM_MISSING_FIELD, "the parameter names the word to look up",
                      "word");
        return false;
    }
    enum status status =
        key_encode(params->ns, params->word, node_fold(params->ns), &asking->reader->key);
    if (status != STATUS_OK) asking_refuse_status(asking, status);
    return status == STATUS_OK;
}

static void get(struct asking *asking)
{
    struct query_hit hit;
    if (!asking_read_word(asking)) return;
    if (!asking_is_own(asking, buf_slice(&asking->reader->key), false)) return;
    struct query query = asking_query(asking);
    enum status status = query_get(&query, buf_slice(&asking->reader->key), &hit);
    if (status == STATUS_OK && !hit.live) status = STATUS_NOT_FOUND;
    if (status == STATUS_NOT_FOUND)
        asking_refuse(asking, PROBLEM_NOT_FOUND, "there is no such word", "word");
    else if (status != STATUS_OK)
        asking_refuse_status(asking, status);
    else
        asking_answer_word(asking, asking->params.word, &hit.record);
}

/* --- By itself, in a cluster --- */

bool node_may_read_own(enum node_endpoint endpoint)
{
    return endpoint == NODE_SEARCH_PLAIN || endpoint == NODE_SEARCH || endpoint == NODE_COUNT ||
           endpoint == NODE_WORD_GET;
}

bool node_read_own(struct node_reader *reader, enum node_endpoint endpoint,
                   const struct http_request *request, const struct view *view, uint64_t now_ms,
                   const struct own_ranges *own, struct buf *out)
{
    struct asking asking = {
        .reader = reader,
        .request = request,
        .reply = node_reply_of(request),
        .view = view,
        .now_ms = now_ms,
        .out = out,
        .own = own,
    };
    if (endpoint == NODE_COUNT)
        count(&asking);
    else if (endpoint == NODE_WORD_GET)
        get(&asking);
    else
        asking_search(&asking, endpoint == NODE_SEARCH_PLAIN);
    if (asking.handed_on) return false;
    atomic_fetch_add_explicit(&reader->counters.reads_local, 1, memory_order_relaxed);
    node_count(reader, endpoint, reader->elapsed_us(reader->context));
    return true;
}

/* --- Health and figures --- */

static void live(struct asking *asking)
{
    buf_clear(&asking->reader->body);
    buf_append_text(&asking->reader->body, "{\"status\":\"live\"}");
    asking_answer(asking, 200);
}

void node_read(struct node_reader *reader, enum node_endpoint endpoint,
               const struct http_request *request, const struct view *view, uint64_t now_ms,
               const struct node_facts *facts, struct buf *out)
{
    struct asking asking = {
        .reader = reader,
        .request = request,
        .reply = node_reply_of(request),
        .view = view,
        .now_ms = now_ms,
        .out = out,
    };
    const char *content_type;

    switch (endpoint) {
    case NODE_SEARCH_PLAIN:
    case NODE_SEARCH:
        asking_search(&asking, endpoint == NODE_SEARCH_PLAIN);
        break;
    case NODE_COUNT:
        count(&asking);
        break;
    case NODE_WORD_GET:
        get(&asking);
        break;
    case NODE_NODES:
    case NODE_NODE_RANGES:
    case NODE_SEARCH_NODES:
        asking_refuse(&asking, PROBLEM_NOT_FOUND, "the node is alone: it is in no cluster", NULL);
        break;
    case NODE_ADMIN_DRAIN:
    case NODE_ADMIN_REMOVE:
    case NODE_ADMIN_REPLACE:
    case NODE_ADMIN_REBALANCE:
    case NODE_ADMIN_REPAIR:
    case NODE_ADMIN_RECOVER:
        asking_refuse(&asking, PROBLEM_CONFLICT, "the node is alone: it is in no cluster", NULL);
        break;
    case NODE_ADMIN_JOBS:
    case NODE_ADMIN_JOB:
    case NODE_ADMIN_CANCEL:
        asking_refuse(&asking, PROBLEM_NOT_FOUND, "the node is alone: it is in no cluster", NULL);
        break;
    case NODE_LIVE:
        live(&asking);
        break;
    case NODE_READY:
        asking_answer(&asking, figures_ready(facts, &reader->body));
        break;
    case NODE_STATS:
        figures_stats(facts, &reader->body);
        asking_answer(&asking, 200);
        break;
    case NODE_OPENAPI:
        node_answer(reader, &asking.reply, 200, "application/json", openapi_document, out);
        break;
    case NODE_METRICS:
        content_type = figures_metrics(facts, request, &reader->body);
        node_answer(reader, &asking.reply, 200, content_type, buf_slice(&reader->body), out);
        break;
    default:
        node_refuse_route(reader, request, out);
        break;
    }
    node_count(reader, endpoint, reader->elapsed_us(reader->context));
}
