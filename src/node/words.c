#include "node/words.h"

#include "base/check.h"
#include "base/math.h"
#include "proto/json_read.h"

/* Nothing to read is not bad JSON to whoever sent nothing. */
static enum status refuse_empty(enum node_endpoint endpoint, struct node_param_error *error)
{
    if (endpoint == NODE_WORD_REMOVE)
        *error = (struct node_param_error){PROBLEM_MISSING_FIELD, "word",
                                           "the parameter, or a body, names the word to delete"};
    else
        *error = (struct node_param_error){PROBLEM_INVALID_JSON, NULL,
                                           "there is no body: an object with a word was expected"};
    return STATUS_INVALID;
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
    buf_clear(&reader->prefix);
    status = node_read_token(reader, request, &reader->prefix);
    if (status == STATUS_INVALID)
        *error = (struct node_param_error){PROBLEM_INVALID_PARAMETER, "X-Trifecta-Token",
                                           node_bad_token};
    if (status != STATUS_OK) return status;
    word->token = buf_slice(&reader->prefix);
    word->ns = params.ns;
    word->has_consistency = (params.given & NODE_PARAM_CONSISTENCY) != 0;
    word->consistency = params.consistency;
    /* A removal may name its word in the query instead of the body. */
    bool named = params.given & NODE_PARAM_WORD;
    word->word = params.word;
    if (body.size == 0) return named ? STATUS_OK : refuse_empty(endpoint, error);

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
    if (named && !slice_equal(params.word, input.word)) {
        *error = (struct node_param_error){PROBLEM_INVALID_PARAMETER, "word",
                                           "the parameter and the body name different words"};
        return STATUS_INVALID;
    }
    node_word_of_input(&input, endpoint == NODE_WORD_INCREMENT, now_ms, word);
    return STATUS_OK;
}
