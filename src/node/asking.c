#include "node/asking.h"

#include "core/key.h"

void asking_refuse(struct asking *asking, enum problem_code code, const char *detail,
                   const char *field)
{
    node_refuse(asking->reader, &asking->reply, code, detail, field, asking->out);
}

void asking_refuse_status(struct asking *asking, enum status status)
{
    asking_refuse(asking, node_problem_of(status),
                  status == STATUS_CORRUPT ? "a data file is damaged; /ready names it" : NULL,
                  NULL);
}

bool asking_read_params(struct asking *asking, unsigned allowed)
{
    struct node_param_error error = {.code = PROBLEM_INTERNAL};
    enum status status = node_params_read(asking->request->query, allowed, &asking->reader->decoded,
                                          &asking->params, &error);
    if (status == STATUS_OK) return true;
    if (status == STATUS_INVALID)
        asking_refuse(asking, error.code, error.detail, error.field);
    else
        asking_refuse_status(asking, status);
    return false;
}

struct query asking_query(const struct asking *asking)
{
    return store_query(asking->view, asking->now_ms, asking->reader->heap, asking->reader->scratch);
}

enum status asking_read_prefix(struct asking *asking)
{
    struct node_params *params = &asking->params;
    return key_prefix(params->ns, params->q, node_fold(params->ns), &asking->reader->prefix);
}

void asking_answer(struct asking *asking, uint16_t http_status)
{
    struct node_reader *reader = asking->reader;
    if (buf_status(&reader->body) != STATUS_OK)
        asking_refuse_status(asking, STATUS_NOMEM);
    else
        node_answer(reader, &asking->reply, http_status, "application/json",
                    buf_slice(&reader->body), asking->out);
}

void asking_write_tags(struct json_writer *writer, struct slice tags)
{
    struct slice tag;
    if (tags.size == 0) return;
    json_write_name(writer, "tags");
    json_write_array_begin(writer);
    while (record_tag_next(&tags, &tag)) json_write_string(writer, tag);
    json_write_array_end(writer);
}

void asking_write_payload(struct json_writer *writer, const struct record *record)
{
    if (!record->has_payload) return;
    json_write_name(writer, "payload");
    json_write_string(writer, record->payload);
}
