/* An import: a body of lines, streamed into batches of writes.
 *
 * A line that is bad is counted and reported by its number; all others go in, in their
 * order, so that words created by one import are created in the order of its lines. */
#pragma once

#include <stdbool.h>

#include "node/batch.h"
#include "node/params.h"

struct node_import;

/* Errors: STATUS_INVALID with `error` (parameters, Content-Type); STATUS_NOMEM. */
enum status node_import_create(struct node_reader *reader, const struct http_request *request,
                               struct node_import **out, struct node_param_error *error);

/* NULL is accepted. */
void node_import_destroy(struct node_import *import);

/* Takes lines off the front of `input` into `batch`. `last`: nothing follows this input.
 *
 * Errors: STATUS_PARTIAL: the batch is full and input is left: submit it, then go on with
 * an empty one. STATUS_NOMEM. */
enum status node_import_feed(struct node_import *import, struct slice *input, bool last,
                             uint64_t now_ms, struct node_batch *batch);

/* Counts the outcomes of a batch that came back. */
void node_import_take(struct node_import *import, const struct node_batch *batch,
                      enum status status);

/* Appends the answer to an import whose body is not read to its end, because the node stops: 503
 * with what went in, and the first line that was not looked at. */
void node_import_answer_cut(struct node_import *import, struct node_reader *reader,
                            const struct node_reply *reply, struct buf *out);

/* Appends the answer: 200 if every line went in, else 207. */
void node_import_answer(struct node_import *import, struct node_reader *reader,
                        const struct node_reply *reply, struct buf *out);
