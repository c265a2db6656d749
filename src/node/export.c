#include "node/export.h"

#include "cluster/data_message.h"
#include "core/key.h"
#include "node/own_ranges.h"
#include "proto/lines.h"

enum { EXPORT_STEP_BYTES = 64 << 10 };

struct node_export {
    struct heap *heap;
    struct buf prefix;
    struct buf last; /* Key of the last word given; empty: none yet. */
    enum node_format format;
    bool has_consistency;
    enum consistency consistency;
};

enum status node_export_create(struct node_reader *reader, const struct http_request *request,
                               struct node_export **out, struct node_param_error *error)
{
    struct node_params params = {0};
    enum status status = node_params_read(
        request->query, NODE_PARAM_NS | NODE_PARAM_Q | NODE_PARAM_FORMAT | NODE_PARAM_CONSISTENCY,
        &reader->decoded, &params, error);
    if (status != STATUS_OK) return status;

    struct node_export *export = heap_zalloc(reader->heap, sizeof *export);
    if (export == NULL) return STATUS_NOMEM;
    export->heap = reader->heap;
    export->format = params.format;
    export->has_consistency = (params.given & NODE_PARAM_CONSISTENCY) != 0;
    export->consistency = params.consistency;
    buf_init(&export->prefix, reader->heap);
    buf_init(&export->last, reader->heap);
    status = key_prefix(params.ns, params.q, node_fold(params.ns), &export->prefix);
    if (status != STATUS_OK) {
        node_export_destroy(export);
        *error = (struct node_param_error){PROBLEM_INVALID_PARAMETER, "q",
                                           "the prefix's folded form is too long"};
        return status == STATUS_NOMEM ? status : STATUS_INVALID;
    }
    *out = export;
    return STATUS_OK;
}

void node_export_destroy(struct node_export *export)
{
    if (export == NULL) return;
    buf_deinit(&export->prefix);
    buf_deinit(&export->last);
    heap_free(export->heap, export);
}

const char *node_export_content_type(const struct node_export *export)
{
    return export->format == NODE_FORMAT_TSV ? "text/tab-separated-values" : "application/x-ndjson";
}

struct export_step {
    struct node_export *export;
    struct node_reader *reader;
    struct buf *out;
    size_t begin;
    bool more;
};

static enum status write_line(struct export_step *step, struct slice word,
                              const struct record *record)
{
    if (step->export->format == NODE_FORMAT_TSV)
        return lines_write_tsv(step->out, word, record_score(record));

    struct word_input input = word_input_of(word);
    input.score = record_score(record);
    input.fields |= JSON_SCORE;
    if (record->has_payload) {
        input.fields |= JSON_PAYLOAD;
        input.payload = record->payload;
    }
    if (record->tags.size > 0) {
        input.fields |= JSON_TAGS;
        input.tags = record->tags;
    }
    input.expires_at = record->expires_at;
    lines_write_ndjson(step->out, &input);
    return STATUS_OK;
}

static enum status write_word(struct export_step *step, struct slice key,
                              const struct record *record)
{
    struct slice ns;
    enum status status = key_decode(key, &ns, &step->reader->word);
    return status == STATUS_OK ? write_line(step, buf_slice(&step->reader->word), record) : status;
}

static enum status note_last(struct node_export *export, struct slice key)
{
    buf_clear(&export->last);
    buf_append_slice(&export->last, key);
    return buf_status(&export->last);
}

static enum status visit_word(void *context, struct slice key, const struct record *record)
{
    struct export_step *step = context;
    enum status status = write_word(step, key, record);
    if (status != STATUS_OK) return status;
    if (step->out->size - step->begin < EXPORT_STEP_BYTES) return STATUS_OK;
    step->more = true;
    status = note_last(step->export, key);
    return status == STATUS_OK ? STATUS_END : status;
}

enum status node_export_step(struct node_export *export, struct node_reader *reader,
                             const struct view *view, uint64_t now_ms, struct buf *out)
{
    struct query query = store_query(view, now_ms, reader->heap, reader->scratch);
    struct query_from from = {.key = buf_slice(&export->last)};
    struct export_step step = {export, reader, out, out->size, false};

    enum status status =
        query_scan(&query, buf_slice(&export->prefix), &from, UINT64_MAX, visit_word, &step);
    if (status == STATUS_OK) status = buf_status(out);
    if (status != STATUS_OK) return status;
    return step.more ? STATUS_PARTIAL : STATUS_OK;
}

void node_export_refuse(struct node_reader *reader, const struct node_reply *reply,
                        enum status status, struct buf *out)
{
    if (status == STATUS_INVALID)
        node_refuse(reader, reply, PROBLEM_INVALID_PARAMETER,
                    "a word holds a tab or an end of line, which TSV cannot; ndjson holds every "
                    "word",
                    "format", out);
    else
        node_refuse(reader, reply, node_problem_of(status),
                    status == STATUS_CORRUPT ? "a data file is damaged; /ready names it" : NULL,
                    NULL, out);
}

enum status node_export_try(struct node_export *export, struct node_reader *reader,
                            const struct node_reply *reply, const struct view *view,
                            uint64_t now_ms, struct buf *out)
{
    struct buf piece;
    buf_init(&piece, reader->heap);
    enum status status = node_export_step(export, reader, view, now_ms, &piece);
    buf_deinit(&piece);
    buf_clear(&export->last); /* It begins anew. */
    if (status == STATUS_OK || status == STATUS_PARTIAL) return STATUS_OK;
    node_export_refuse(reader, reply, status, out);
    return status;
}

bool node_export_is_own(const struct node_export *export, const struct own_ranges *own)
{
    struct own_read read = {
        .key = buf_slice(&export->prefix),
        .is_prefix = true,
        .has_consistency = export->has_consistency,
        .consistency = export->consistency,
    };
    return own_ranges_admit(own, &read, 0);
}

enum status node_export_ask(struct node_export *export, uint32_t timeout_ms,
                            struct node_question *question)
{
    struct request request = {
        .kind = REQUEST_SCAN,
        .has_consistency = export->has_consistency,
        .consistency = export->consistency,
        .key = buf_slice(&export->prefix),
        .from.key = buf_slice(&export->last),
        .limit = REQUEST_LIMIT_MAX,
        .timeout_ms = timeout_ms,
    };
    question->endpoint = NODE_EXPORT;
    return question_keep(question, &request, &(struct node_params){.limit = REQUEST_LIMIT_MAX});
}

enum status node_export_give(struct node_export *export, struct node_reader *reader,
                             const struct node_question *question, struct buf *out)
{
    struct export_step step = {export, reader, out, out->size, false};
    struct slice rest = buf_slice(&question->entries);
    struct request_entry entry = {0};
    enum status status = STATUS_OK;
    if (question->outcome != REQUEST_DONE) return STATUS_CANCELLED;
    while (status == STATUS_OK && data_entry_next(&rest, &entry))
        status = write_word(&step, entry.key, &entry.record);
    if (status == STATUS_OK && entry.key.size > 0) status = note_last(export, entry.key);
    if (status == STATUS_OK) status = buf_status(out);
    if (status != STATUS_OK) return status;
    return question->more ? STATUS_PARTIAL : STATUS_OK;
}
