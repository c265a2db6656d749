#include "node/asking.h"

#include "core/key.h"
#include "node/own_ranges.h"
#include "store/view.h"

void asking_refuse(struct asking *asking, enum problem_code code, const char *detail,
                   const char *field)
{
    node_refuse(asking->reader, &asking->reply, code, detail, field, asking->out);
}

void asking_refuse_status(struct asking *asking, enum status status)
{
    /* Another owner's file is not damaged. */
    if (asking->own != NULL && status == STATUS_CORRUPT) {
        asking->handed_on = true;
        return;
    }
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

bool asking_is_own(struct asking *asking, struct slice key, bool is_prefix)
{
    struct node_reader *reader = asking->reader;
    if (asking->own == NULL) return true;
    buf_clear(&reader->headers);
    /* What is wrong with a token is said by whoever is asked in our place. */
    enum status status = node_read_token(reader, asking->request, &reader->headers);
    struct own_read read = {
        .key = key,
        .is_prefix = is_prefix,
        .has_consistency = (asking->params.given & NODE_PARAM_CONSISTENCY) != 0,
        .consistency = asking->params.consistency,
        .token = buf_slice(&reader->headers),
    };
    asking->handed_on = status != STATUS_OK ||
                        !own_ranges_admit(asking->own, &read, asking->view->sequence);
    return !asking->handed_on;
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
