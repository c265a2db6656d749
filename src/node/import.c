#include "node/import.h"

#include <stdio.h>

#include "core/limits.h"
#include "node/words.h"
#include "proto/json_write.h"
#include "proto/lines.h"

struct import_error {
    uint64_t line;
    enum problem_code code;
    const char *detail; /* Static. */
};

struct node_import {
    struct heap *heap;
    struct lines lines;
    char ns[NAMESPACE_BYTES_MAX];
    size_t ns_size;
    bool has_consistency;
    enum consistency consistency;
    uint64_t imported, failed;
    struct import_error errors[IMPORT_ERRORS_MAX];
    size_t error_count;
};

/* The media type without its parameters. */
static struct slice media_type(const struct http_request *request)
{
    struct slice value = {0};
    if (!http_request_header(request, "content-type", &value)) return value;
    size_t size = 0;
    while (size < value.size && value.data[size] != ';' && value.data[size] != ' ') size++;
    return slice_prefix(value, size);
}

static enum status read_format(const struct http_request *request, enum lines_format *format)
{
    static const struct {
        const char *type;
        enum lines_format format;
    } types[] = {
        {"application/x-ndjson", LINES_NDJSON},
        {"text/csv", LINES_CSV},
        {"text/tab-separated-values", LINES_TSV},
    };
    struct slice type = media_type(request);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (!http_equal_ignoring_case(type, types[i].type)) continue;
        *format = types[i].format;
        return STATUS_OK;
    }
    return STATUS_INVALID;
}

enum status node_import_create(struct node_reader *reader, const struct http_request *request,
                               struct node_import **out, struct node_param_error *error)
{
    struct node_params params = {0};
    enum lines_format format;
    enum status status = node_params_read(request->query, NODE_PARAM_NS | NODE_PARAM_CONSISTENCY,
                                          &reader->decoded, &params, error);
    if (status != STATUS_OK) return status;
    if (read_format(request, &format) != STATUS_OK) {
        *error = (struct node_param_error){
            PROBLEM_UNSUPPORTED_MEDIA_TYPE,
            NULL,
            "Content-Type is application/x-ndjson, text/csv or text/tab-separated-values",
        };
        return STATUS_INVALID;
    }
    struct node_import *import = heap_zalloc(reader->heap, sizeof *import);
    if (import == NULL) return STATUS_NOMEM;
    import->heap = reader->heap;
    import->ns_size = params.ns.size;
    import->has_consistency = (params.given & NODE_PARAM_CONSISTENCY) != 0;
    import->consistency = params.consistency;
    memcpy(import->ns, params.ns.data, params.ns.size);
    lines_init(&import->lines, format, reader->heap);
    *out = import;
    return STATUS_OK;
}

void node_import_destroy(struct node_import *import)
{
    if (import == NULL) return;
    lines_deinit(&import->lines);
    heap_free(import->heap, import);
}

static void note_failure(struct node_import *import, uint64_t line, enum problem_code code,
                         const char *detail)
{
    import->failed++;
    if (import->error_count == IMPORT_ERRORS_MAX) return;
    import->errors[import->error_count++] = (struct import_error){line, code, detail};
}

static enum status add_line(struct node_import *import, const struct line *line, uint64_t now_ms,
                            struct node_batch *batch)
{
    struct node_word word = {
        .ns = slice_of(import->ns, import->ns_size),
        .has_consistency = import->has_consistency,
        .consistency = import->consistency,
    };
    node_word_of_input(&line->input, false, now_ms, &word);
    enum status status = node_batch_add(batch, STORE_SET, NODE_IMPORT, &word, line->number, NULL);
    if (status != STATUS_INVALID && status != STATUS_LIMIT) return status;
    note_failure(import, line->number, PROBLEM_INVALID_WORD,
                 "the word's folded form is longer than 8192 bytes");
    return STATUS_OK;
}

enum status node_import_feed(struct node_import *import, struct slice *input, bool last,
                             uint64_t now_ms, struct node_batch *batch)
{
    struct line line;
    for (;;) {
        if (node_batch_is_full(batch)) return STATUS_PARTIAL;
        enum status status = lines_next(&import->lines, input, last, &line);
        if (status == STATUS_OK) {
            status = add_line(import, &line, now_ms, batch);
            if (status != STATUS_OK) return status;
        } else if (status == STATUS_INVALID) {
            note_failure(import, line.number, line.problem.code, line.problem.detail);
        } else {
            return status == STATUS_NOMEM ? status : STATUS_OK;
        }
    }
}

void node_import_take(struct node_import *import, const struct node_batch *batch,
                      enum status status)
{
    for (size_t i = 0; i < batch->item_count; i++) {
        const struct node_item *item = &batch->items[i];
        enum problem_code code;
        const char *detail;
        if (node_batch_failed(batch, item, status, &code, &detail))
            note_failure(import, item->line, code, detail);
        else
            import->imported++;
    }
}

/* Errors are noted as they are met, failed writes later than bad lines after them. */
static void sort_errors(struct node_import *import)
{
    for (size_t i = 1; i < import->error_count; i++) {
        struct import_error error = import->errors[i];
        size_t at = i;
        while (at > 0 && import->errors[at - 1].line > error.line) {
            import->errors[at] = import->errors[at - 1];
            at--;
        }
        import->errors[at] = error;
    }
}

static void write_outcome(struct node_import *import, struct json_writer *writer)
{
    json_write_named_u64(writer, "imported", import->imported);
    json_write_named_u64(writer, "failed", import->failed);
    json_write_name(writer, "errors");
    json_write_array_begin(writer);
    sort_errors(import);
    for (size_t i = 0; i < import->error_count; i++) {
        const struct import_error *error = &import->errors[i];
        json_write_object_begin(writer);
        json_write_named_u64(writer, "line", error->line);
        json_write_name(writer, "code");
        json_write_text(writer, problem_code_name(error->code));
        json_write_name(writer, "detail");
        json_write_text(writer,
                        error->detail == NULL ? problem_detail(error->code) : error->detail);
        json_write_object_end(writer);
    }
    json_write_array_end(writer);
}

void node_import_answer_cut(struct node_import *import, struct node_reader *reader,
                            const struct node_reply *reply, struct buf *out)
{
    char detail[160];
    const struct lines *lines = &import->lines;
    uint64_t next = lines->carry.size > 0 ? lines->begun : lines->number;
    snprintf(
        detail, sizeof detail,
        "the node stops: lines before line %llu were looked at and %llu of them went in, later "
        "ones were not",
        (unsigned long long)next, (unsigned long long)import->imported);
    buf_clear(&reader->body);
    struct json_writer writer = json_writer_of(&reader->body);
    write_outcome(import, &writer);
    json_write_named_u64(&writer, "next_line", next);
    if (buf_status(&reader->body) != STATUS_OK) buf_clear(&reader->body);
    node_refuse_with(reader, reply, PROBLEM_NOT_READY, detail, buf_slice(&reader->body), out);
}

void node_import_answer(struct node_import *import, struct node_reader *reader,
                        const struct node_reply *reply, struct buf *out)
{
    buf_clear(&reader->body);
    struct json_writer writer = json_writer_of(&reader->body);
    json_write_object_begin(&writer);
    write_outcome(import, &writer);
    json_write_object_end(&writer);
    node_answer(reader, reply, import->failed == 0 ? 200 : 207, "application/json",
                buf_slice(&reader->body), out);
}
