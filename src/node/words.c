#include "node/words.h"

#include "base/check.h"
#include "base/math.h"
#include "proto/json_read.h"

/* A removal may name its word in the query instead of the body. */
static enum status read_removal(struct node_params *params, struct node_word *word)
{
    if (!(params->given & NODE_PARAM_WORD)) return STATUS_NOT_FOUND;
    word->word = params->word;
    return STATUS_OK;
}

static unsigned fields_of(enum node_endpoint endpoint)
{
    switch (endpoint) {
    case NODE_WORD_SET:
        return JSON_PUT_FIELDS;
    case NODE_WORD_INCREMENT:
        return JSON_INCREMENT_FIELDS;
    default:
        CHECK(endpoint == NODE_WORD_REMOVE);
        return JSON_REMOVE_FIELDS;
    }
}

void node_word_of_input(const struct word_input *input, bool increment, uint64_t now_ms,
                        struct node_word *word)
{
    word->word = input->word;
    word->score = increment ? input->by : input->score;
    word->has_payload = (input->fields & JSON_PAYLOAD) != 0;
    word->payload = input->payload;
    word->tags = input->tags;
    word->expires_at = input->expires_at;
    if (input->ttl_ms != 0) word->expires_at = u64_min(now_ms + input->ttl_ms, JSON_TIME_MS_MAX);
}

enum status node_word_read(struct node_reader *reader, enum node_endpoint endpoint,
                           const struct http_request *request, struct slice body, uint64_t now_ms,
                           struct node_word *word, struct node_param_error *error)
{
    struct node_params params;
    unsigned allowed = NODE_PARAM_NS | NODE_PARAM_CONSISTENCY;
    if (endpoint == NODE_WORD_REMOVE) allowed |= NODE_PARAM_WORD;

    *word = (struct node_word){0};
    enum status status =
        node_params_read(request->query, allowed, &reader->decoded, &params, error);
    if (status != STATUS_OK) return status;
    word->ns = params.ns;
    if (endpoint == NODE_WORD_REMOVE && read_removal(&params, word) == STATUS_OK) return STATUS_OK;

    struct word_input input;
    struct problem problem = {.code = PROBLEM_INTERNAL};
    status = json_read_word(body, fields_of(endpoint), &reader->body, &input, &problem);
    if (status == STATUS_NOMEM) return status;
    if (status != STATUS_OK) {
        /* The field's name borrows from the body; the answer is made before that goes. */
        buf_clear(&reader->cursor);
        buf_append_slice(&reader->cursor, problem.field);
        buf_append_u8(&reader->cursor, 0);
        if (buf_status(&reader->cursor) != STATUS_OK) return STATUS_NOMEM;
        *error = (struct node_param_error){
            problem.code,
            problem.field.size == 0 ? NULL : (const char *)reader->cursor.data,
            problem.detail,
        };
        return STATUS_INVALID;
    }
    node_word_of_input(&input, endpoint == NODE_WORD_INCREMENT, now_ms, word);
    return STATUS_OK;
}
