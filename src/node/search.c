/* Searches: a page of the words under a prefix, in one of the orders. */
#include "cluster/data_message.h"
#include "core/key.h"
#include "core/limits.h"
#include "node/asking.h"
#include "node/question.h"
#include "node/walks.h"
#include "store/view.h"

struct searching {
    struct asking *asking;
    struct json_writer writer;
    bool plain;
    uint32_t given;
    struct cursor last; /* Of the last one given; its key lies in `reader->key`. */
    bool more;

    struct walk *walk; /* What is read is kept here; NULL: nothing is. */
    bool cut;          /* It was full before the end came. */
    size_t read, read_max;
};

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
    asking_write_payload(writer, record);
    asking_write_tags(writer, record->tags);
    enum status status = write_match(searching, word);
    json_write_object_end(writer);
    return status;
}

/* Of entries read ahead only the place is kept. Not more of them than were wanted: what the
 * query gives beyond that shows that the walk is not at its end. */
static enum status read_ahead(struct searching *searching, struct slice key,
                              const struct record *record)
{
    struct walk *walk = searching->walk;
    if (!searching->cut)
        searching->cut = searching->read == searching->read_max ||
                         !walk_append(walk, record_best(record), key);
    searching->read++;
    return searching->cut && searching->more ? STATUS_END : STATUS_OK;
}

/* The page's last entry is where the next one goes on. */
static void note_last(struct searching *searching, struct slice key, struct best best)
{
    struct node_reader *reader = searching->asking->reader;
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

/* `record` is not needed for a plain answer. */
static enum status write_result(struct searching *searching, struct slice key, struct best best,
                                const struct record *record)
{
    struct asking *asking = searching->asking;
    struct node_reader *reader = asking->reader;
    struct slice ns;
    enum status status = key_decode(key, &ns, &reader->word);
    if (status != STATUS_OK) return status;
    if (searching->plain)
        json_write_string(&searching->writer, buf_slice(&reader->word));
    else
        status = write_entry(searching, buf_slice(&reader->word), record);
    if (status != STATUS_OK) return status;

    if (reader->body.size >= SEARCH_ANSWER_BYTES_MAX) asking->params.limit = searching->given + 1;
    if (++searching->given == asking->params.limit) note_last(searching, key, best);
    return buf_status(&reader->key);
}

static enum status visit_result(void *context, struct slice key, const struct record *record)
{
    struct searching *searching = context;
    searching->more = searching->given == searching->asking->params.limit;
    if (searching->walk != NULL) {
        enum status ahead = read_ahead(searching, key, record);
        if (searching->more) return ahead;
    }
    if (searching->more) return STATUS_END;
    return write_result(searching, key, record_best(record), record);
}

static enum status visit_place(void *context, struct slice key, struct best best)
{
    struct searching *searching = context;
    searching->more = searching->given == searching->asking->params.limit;
    return searching->more ? STATUS_END : write_result(searching, key, best, NULL);
}

/* What a cursor must have come from: the same sort, namespace and folded prefix. */
static uint64_t question_hash(const struct asking *asking)
{
    return cursor_query_hash(asking->params.ns, buf_slice(&asking->reader->prefix),
                             (struct slice){0});
}

/* A page that a walk knows: its entries by their keys. What is under the prefix is what it was
 * when they were read, so each of them is there. */
static enum status give_known(struct searching *searching, const struct query *query,
                              const struct walk *walk, size_t at)
{
    enum status status = STATUS_OK;
    struct query_hit hit;
    for (; at < walk->count && status == STATUS_OK; at++) {
        if (searching->given == searching->asking->params.limit) {
            searching->more = true;
            return STATUS_OK;
        }
        status = query_get(query, walk_key(walk, at), &hit);
        if (status == STATUS_NOT_FOUND || (status == STATUS_OK && !hit.live))
            status = STATUS_CORRUPT; /* The file was found damaged since. */
        if (status == STATUS_OK) status = visit_result(searching, walk_key(walk, at), &hit.record);
    }
    return status;
}

static enum status read_content(const struct query *query, struct slice prefix,
                                struct walk_content *content)
{
    enum status status = query_sum(query, prefix, &content->sum);
    return status == STATUS_OK ? query_count(query, prefix, &content->live_count) : status;
}

/* A page of a walk by popularity that is not its first. */
static enum status go_on(struct searching *searching, const struct query *query,
                         const struct query_position *after)
{
    struct asking *asking = searching->asking;
    struct node_reader *reader = asking->reader;
    struct slice prefix = buf_slice(&reader->prefix);
    size_t limit = asking->params.limit, at = 0;

    struct walk_content content;
    enum status status = STATUS_OK;

    if (walks_are_in_doubt(&reader->walks, prefix, asking->view->number)) {
        status = read_content(query, prefix, &content);
        if (status != STATUS_OK) return status;
        walks_compare(&reader->walks, prefix, asking->view->number, &content);
    }
    struct walk *walk = walks_find(&reader->walks, prefix, asking->view->number, after, limit, &at);
    if (walk != NULL) {
        atomic_fetch_add_explicit(&reader->counters.walk_hits, 1, memory_order_relaxed);
        return give_known(searching, query, walk, at);
    }
    atomic_fetch_add_explicit(&reader->counters.walk_misses, 1, memory_order_relaxed);
    size_t ahead = walks_ahead(&reader->walks, prefix, asking->view->number, after, limit);
    searching->read_max = limit + 1 + ahead;
    status = read_content(query, prefix, &content);
    if (status != STATUS_OK) return status;
    searching->walk =
        walks_begin(&reader->walks, prefix, asking->view->number, &content, after, ahead);
    size_t wanted = searching->walk == NULL ? limit + 1 : searching->read_max + 1;
    status = query_best(query, prefix, wanted, after, visit_result, searching);
    if (status == STATUS_OK && searching->walk != NULL)
        walks_keep(&reader->walks, searching->walk, !searching->cut);
    else
        walks_drop(&reader->walks, searching->walk);
    searching->walk = NULL;
    return status;
}

static struct query_position position_of(const struct cursor *after)
{
    return (struct query_position){
        .best = {score_order_of(after->score), after->created_time, after->created_node},
        .key = after->key,
    };
}

static struct query_from from_of(const struct asking *asking, const struct cursor *after)
{
    return (struct query_from){
        .key = after == NULL ? (struct slice){0} : after->key,
        .descending = asking->params.sort == CURSOR_ALPHABETICAL_REVERSE,
    };
}

static enum status run_popularity(struct searching *searching, const struct query *query,
                                  const struct cursor *after)
{
    struct asking *asking = searching->asking;
    struct slice prefix = buf_slice(&asking->reader->prefix);
    uint64_t limit = (uint64_t)asking->params.limit + 1;
    if (after == NULL && searching->plain)
        return query_best_places(query, prefix, asking->params.limit, NULL, visit_place, searching,
                                 &searching->more);
    if (after == NULL) return query_best(query, prefix, limit, NULL, visit_result, searching);

    struct query_position position = position_of(after);
    if (query_is_settled(query)) return go_on(searching, query, &position);
    return query_best(query, prefix, limit, &position, visit_result, searching);
}

static enum status run_search(struct searching *searching, const struct cursor *after)
{
    struct asking *asking = searching->asking;
    struct query query = asking_query(asking);
    struct slice prefix = buf_slice(&asking->reader->prefix);
    uint64_t limit = (uint64_t)asking->params.limit + 1;

    if (asking->params.sort == CURSOR_POPULARITY) return run_popularity(searching, &query, after);
    struct query_from from = from_of(asking, after);
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
    asking_answer(asking, 200);
}

/* The parameters; `*after` is `cursor`, or NULL. False when the request was refused. */
static bool read_search(struct asking *asking, struct cursor *cursor, const struct cursor **after)
{
    struct node_reader *reader = asking->reader;
    *after = NULL;
    if (!asking_read_params(asking, NODE_PARAM_NS | NODE_PARAM_Q | NODE_PARAM_LIMIT |
                                        NODE_PARAM_CURSOR | NODE_PARAM_SORT |
                                        NODE_PARAM_CONSISTENCY))
        return false;
    enum status status = asking_read_prefix(asking);
    if (status == STATUS_OK && (asking->params.given & NODE_PARAM_CURSOR)) {
        status =
            cursor_decode(asking->params.cursor, question_hash(asking), &reader->cursor, cursor);
        if (status == STATUS_OK && cursor->sort != asking->params.sort) status = STATUS_INVALID;
        if (status == STATUS_INVALID) {
            asking_refuse(asking, PROBLEM_INVALID_CURSOR,
                          "the cursor was altered, or comes from another query", "cursor");
            return false;
        }
        *after = cursor;
    }
    if (status != STATUS_OK) asking_refuse_status(asking, status);
    return status == STATUS_OK;
}

static struct searching begin_search(struct asking *asking, bool plain)
{
    buf_clear(&asking->reader->body);
    struct searching searching = {
        .asking = asking,
        .writer = json_writer_of(&asking->reader->body),
        .plain = plain,
    };
    json_write_object_begin(&searching.writer);
    json_write_name(&searching.writer, "results");
    json_write_array_begin(&searching.writer);
    return searching;
}

void asking_search(struct asking *asking, bool plain)
{
    struct cursor cursor;
    const struct cursor *after;
    if (!read_search(asking, &cursor, &after)) return;
    if (!asking_is_own(asking, buf_slice(&asking->reader->prefix), true)) return;
    struct searching searching = begin_search(asking, plain);
    enum status status = run_search(&searching, after);
    if (status == STATUS_OK)
        finish_search(&searching);
    else
        asking_refuse_status(asking, status);
}

bool asking_search_ask(struct asking *asking, struct request *request)
{
    struct cursor cursor;
    const struct cursor *after;
    if (!read_search(asking, &cursor, &after)) return false;
    request->key = buf_slice(&asking->reader->prefix);
    request->limit = asking->params.limit;
    if (asking->params.sort == CURSOR_POPULARITY) {
        request->kind = REQUEST_BEST;
        request->has_after = after != NULL;
        if (after != NULL) request->after = position_of(after);
    } else {
        request->kind = REQUEST_SCAN;
        request->from = from_of(asking, after);
    }
    return true;
}

void asking_search_answer(struct asking *asking, const struct node_question *question)
{
    struct node_reader *reader = asking->reader;
    struct slice rest = buf_slice(&question->entries);
    struct request_entry entry = {0};
    buf_clear(&reader->prefix);
    buf_append_slice(&reader->prefix, question->request.key);
    struct searching searching = begin_search(asking, question->endpoint == NODE_SEARCH_PLAIN);
    enum status status = buf_status(&reader->prefix);
    while (status == STATUS_OK && data_entry_next(&rest, &entry))
        status = visit_result(&searching, entry.key, &entry.record);
    if (status == STATUS_END) status = STATUS_OK; /* The page is full before all are given. */
    if (status == STATUS_OK && question->more && !searching.more && searching.given > 0) {
        /* The owners ended the page, perhaps before its limit. */
        searching.more = true;
        note_last(&searching, entry.key, record_best(&entry.record));
    }
    if (status == STATUS_OK)
        finish_search(&searching);
    else
        asking_refuse_status(asking, status);
}
