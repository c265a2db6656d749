#include "node/batch.h"

#include "base/check.h"
#include "base/math.h"
#include "core/key.h"
#include "node/params.h"
#include "node/words.h"
#include "proto/json_write.h"

void node_batch_init(struct node_batch *batch, struct heap *heap)
{
    *batch = (struct node_batch){.heap = heap};
    buf_init(&batch->bytes, heap);
    buf_init(&batch->key, heap);
}

static void forget_tokens(struct node_batch *batch)
{
    for (size_t i = 0; i < batch->write_count; i++)
        if (batch->terms[i].told.capacity > 0) buf_deinit(&batch->terms[i].told);
}

void node_batch_deinit(struct node_batch *batch)
{
    forget_tokens(batch);
    buf_deinit(&batch->bytes);
    buf_deinit(&batch->key);
    heap_free(batch->heap, batch->items);
    heap_free(batch->heap, batch->writes);
    heap_free(batch->heap, batch->outcomes);
    heap_free(batch->heap, batch->terms);
    node_batch_init(batch, batch->heap);
}

void node_batch_clear(struct node_batch *batch)
{
    buf_clear(&batch->bytes);
    forget_tokens(batch);
    batch->item_count = 0;
    batch->write_count = 0;
}

static enum status make_room(struct node_batch *batch)
{
    if (batch->item_count < batch->capacity) return STATUS_OK;

    size_t capacity = size_max(16, batch->capacity * 2);
    struct node_item *items = heap_realloc(batch->heap, batch->items, capacity * sizeof *items);
    if (items == NULL) return STATUS_NOMEM;
    batch->items = items;
    struct store_write *writes =
        heap_realloc(batch->heap, batch->writes, capacity * sizeof *writes);
    if (writes == NULL) return STATUS_NOMEM;
    batch->writes = writes;
    struct store_outcome *outcomes =
        heap_realloc(batch->heap, batch->outcomes, capacity * sizeof *outcomes);
    if (outcomes == NULL) return STATUS_NOMEM;
    batch->outcomes = outcomes;
    struct node_terms *terms = heap_realloc(batch->heap, batch->terms, capacity * sizeof *terms);
    if (terms == NULL) return STATUS_NOMEM;
    batch->terms = terms;
    batch->capacity = capacity;
    return STATUS_OK;
}

/* Appends a copy; gives where it lies. */
static uint32_t keep(struct node_batch *batch, struct slice bytes)
{
    size_t at = batch->bytes.size;
    CHECK(at + bytes.size <= UINT32_MAX);
    buf_append_slice(&batch->bytes, bytes);
    return (uint32_t)at;
}

static uint32_t keep_reply(struct node_batch *batch, const struct node_reply *reply)
{
    return keep(batch, slice_of(reply, sizeof *reply));
}

static enum status keep_key(struct node_batch *batch, const struct node_word *word,
                            struct node_item *item)
{
    enum status status = key_encode(word->ns, word->word, node_fold(word->ns), &batch->key);
    item->key_size = (uint32_t)batch->key.size;
    item->key_at = keep(batch, buf_slice(&batch->key));
    return status;
}

enum status node_batch_add(struct node_batch *batch, enum store_write_kind kind,
                           enum node_endpoint endpoint, const struct node_word *word, uint64_t line,
                           const struct node_reply *reply)
{
    size_t before = batch->bytes.size;
    struct node_item item = {.line = line, .endpoint = endpoint};
    item.write = (uint32_t)batch->write_count;
    enum status status = make_room(batch);
    if (status == STATUS_OK) status = keep_key(batch, word, &item);
    if (status == STATUS_OK) {
        item.payload_size = (uint32_t)word->payload.size;
        item.payload_at = keep(batch, word->payload);
        item.tags_size = (uint32_t)word->tags.size;
        item.tags_at = keep(batch, word->tags);
        item.token_size = (uint32_t)word->token.size;
        item.token_at = keep(batch, word->token);
        if (reply != NULL) {
            item.reply_at = keep_reply(batch, reply);
            item.word_size = (uint32_t)word->word.size;
            item.word_at = keep(batch, word->word);
        }
        status = buf_status(&batch->bytes);
    }
    if (status != STATUS_OK) {
        batch->bytes.size = before;
        batch->bytes.failed = false;
        return status;
    }
    batch->items[batch->item_count++] = item;
    batch->terms[batch->write_count] = (struct node_terms){
        .has_consistency = word->has_consistency,
        .consistency = word->consistency,
        .ack_count = 1,
        .told = {.heap = batch->heap},
    };
    batch->writes[batch->write_count++] = (struct store_write){
        .kind = kind,
        .score = word->score,
        .has_payload = word->has_payload,
        .expires_at = word->expires_at,
    };
    return STATUS_OK;
}

static enum status add_refusal(struct node_batch *batch, struct node_reader *reader,
                               enum node_endpoint endpoint, const struct node_reply *reply,
                               const struct node_param_error *error)
{
    enum status status = make_room(batch);
    if (status != STATUS_OK) return status;
    struct node_item item = {.endpoint = endpoint, .refused = true};
    item.refusal_at = (uint32_t)batch->bytes.size;
    node_refuse(reader, reply, error->code, error->detail, error->field, &batch->bytes);
    item.refusal_size = (uint32_t)batch->bytes.size - item.refusal_at;
    if (buf_status(&batch->bytes) != STATUS_OK) return STATUS_NOMEM;
    batch->items[batch->item_count++] = item;
    return STATUS_OK;
}

static enum store_write_kind kind_of(enum node_endpoint endpoint)
{
    switch (endpoint) {
    case NODE_WORD_SET:
        return STORE_SET;
    case NODE_WORD_REMOVE:
        return STORE_REMOVE;
    default:
        CHECK(endpoint == NODE_WORD_INCREMENT);
        return STORE_INCREMENT;
    }
}

enum status node_batch_add_request(struct node_batch *batch, struct node_reader *reader,
                                   enum node_endpoint endpoint, const struct http_request *request,
                                   struct slice body, uint64_t now_ms)
{
    struct node_word word;
    struct node_param_error error = {.code = PROBLEM_INTERNAL};
    struct node_reply reply = node_reply_of(request);

    enum status status = node_word_read(reader, endpoint, request, body, now_ms, &word, &error);
    if (status == STATUS_OK)
        status = node_batch_add(batch, kind_of(endpoint), endpoint, &word, 0, &reply);
    if (status == STATUS_OK || status == STATUS_NOMEM) return status;
    if (error.code == PROBLEM_INTERNAL)
        error = (struct node_param_error){PROBLEM_INVALID_WORD, "word",
                                          "the word's folded form is longer than 8192 bytes"};
    return add_refusal(batch, reader, endpoint, &reply, &error);
}

void node_batch_seal(struct node_batch *batch)
{
    struct slice bytes = buf_slice(&batch->bytes);
    for (size_t i = 0; i < batch->item_count; i++) {
        const struct node_item *item = &batch->items[i];
        if (item->refused) continue;
        struct store_write *write = &batch->writes[item->write];
        write->key = slice_of(bytes.data + item->key_at, item->key_size);
        write->payload = slice_of(bytes.data + item->payload_at, item->payload_size);
        write->tags = slice_of(bytes.data + item->tags_at, item->tags_size);
        batch->terms[item->write].token = slice_of(bytes.data + item->token_at, item->token_size);
    }
}

static void write_outcome(struct node_reader *reader, const struct node_item *item,
                          struct slice word, const struct store_outcome *outcome,
                          const struct node_terms *terms)
{
    struct json_writer writer = json_writer_of(&reader->body);
    json_write_object_begin(&writer);
    json_write_name(&writer, "message");
    if (item->endpoint == NODE_WORD_REMOVE)
        json_write_text(&writer, outcome->was_live ? "word deleted" : "there was no such word");
    else
        json_write_text(&writer, outcome->was_live ? "word updated" : "word stored");
    json_write_name(&writer, "word");
    json_write_string(&writer, word);
    if (item->endpoint == NODE_WORD_REMOVE) {
        json_write_name(&writer, "deleted");
        json_write_bool(&writer, outcome->was_live);
    }
    if (item->endpoint == NODE_WORD_INCREMENT) {
        json_write_name(&writer, "score");
        json_write_double(&writer, outcome->score);
    }
    if (!version_is_none(outcome->version))
        node_write_version(&writer, "version", outcome->version);
    json_write_name(&writer, "acks");
    json_write_u64(&writer, terms->ack_count);
    if (terms->sloppy) {
        json_write_name(&writer, "sloppy");
        json_write_bool(&writer, true);
    }
    json_write_object_end(&writer);
}

bool node_batch_failed(const struct node_batch *batch, const struct node_item *item,
                       enum status status, enum problem_code *code, const char **detail)
{
    const struct node_terms *terms = &batch->terms[item->write];
    if (status == STATUS_OK) status = batch->outcomes[item->write].status;
    if (status == STATUS_OK) return false;
    *detail = NULL;
    *code = node_problem_of(status);
    if (status == STATUS_TIMEOUT && terms->outcome == REQUEST_DONE)
        *detail = "the log could not be made durable: the outcome is unknown until a restart";
    if (status == STATUS_TIMEOUT && terms->outcome == REQUEST_REFUSED)
        *detail = "there was no time left for it: nothing was done";
    if (terms->outcome == REQUEST_DONE || terms->outcome == REQUEST_REFUSED) return true;
    *code = node_problem_of_outcome(terms->outcome, status);
    if (terms->outcome == REQUEST_TIMED_OUT)
        *detail = "too few nodes acknowledged the write in time: its outcome is unknown";
    return true;
}

static void refuse_write(const struct node_batch *batch, const struct node_item *item,
                         struct node_reader *reader, const struct node_reply *reply,
                         enum status status, struct buf *out)
{
    enum problem_code code;
    const char *detail;
    CHECK(node_batch_failed(batch, item, status, &code, &detail));
    if (status == STATUS_OK) status = batch->outcomes[item->write].status;
    if (status == STATUS_INVALID) {
        code = PROBLEM_INVALID_SCORE;
        detail = "the score would no longer be a finite number";
    }
    if (status == STATUS_CORRUPT) detail = "a data file is damaged; /ready names it";
    node_refuse(reader, reply, code, detail, NULL, out);
}

static void answer_write(const struct node_batch *batch, const struct node_item *item,
                         struct node_reader *reader, enum status status, struct buf *out)
{
    const struct store_outcome *outcome = &batch->outcomes[item->write];
    struct node_reply reply;
    memcpy(&reply, batch->bytes.data + item->reply_at, sizeof reply);
    if (status != STATUS_OK || outcome->status != STATUS_OK) {
        refuse_write(batch, item, reader, &reply, status, out);
        return;
    }
    bool created = item->endpoint != NODE_WORD_REMOVE && !outcome->was_live;
    buf_clear(&reader->body);
    write_outcome(reader, item, slice_of(batch->bytes.data + item->word_at, item->word_size),
                  outcome, &batch->terms[item->write]);
    node_answer_write(reader, &reply, created ? 201 : 200, buf_slice(&reader->body),
                      buf_slice(&batch->terms[item->write].told), out);
}

void node_batch_answer(const struct node_batch *batch, struct node_reader *reader,
                       enum status status, struct buf *out)
{
    for (size_t i = 0; i < batch->item_count; i++) {
        const struct node_item *item = &batch->items[i];
        if (item->refused)
            buf_append(out, batch->bytes.data + item->refusal_at, item->refusal_size);
        else
            answer_write(batch, item, reader, status, out);
    }
}
