/* An export: all words under a prefix as lines, in alphabetical order, streamed.
 *
 * Each step takes a view of its own and goes on after the last key, so no view is held
 * however slowly the client reads, and each word that was there throughout comes once. */
#pragma once

#include "node/node.h"
#include "node/params.h"
#include "node/question.h"

struct node_export;

/* Errors: STATUS_INVALID with `error`; STATUS_NOMEM. */
enum status node_export_create(struct node_reader *reader, const struct http_request *request,
                               struct node_export **out, struct node_param_error *error);

/* NULL is accepted. */
void node_export_destroy(struct node_export *export);

const char *node_export_content_type(const struct node_export *export);

/* Whether the first piece can be made: what is wrong then can still be said. An error is a
 * refusal, appended to `out`. */
enum status node_export_try(struct node_export *export, struct node_reader *reader,
                            const struct node_reply *reply, const struct view *view,
                            uint64_t now_ms, struct buf *out);

/* Of a cluster: asks for the next page, and appends its lines once they came. The outcomes are those of
 * node_export_step(); what was not REQUEST_DONE is STATUS_CANCELLED. Errors of the first:
 * STATUS_NOMEM. */
enum status node_export_ask(struct node_export *export, uint32_t timeout_ms,
                            struct node_question *question);
enum status node_export_give(struct node_export *export, struct node_reader *reader,
                             const struct node_question *question, struct buf *out);

/* Whether a member may make the next piece from its own view by itself; else the page is asked for. */
bool node_export_is_own(const struct node_export *export, const struct own_ranges *own);

/* The refusal of an export whose first piece came to that. */
void node_export_refuse(struct node_reader *reader, const struct node_reply *reply,
                        enum status status, struct buf *out);

/* Appends about 64 KiB of lines. STATUS_PARTIAL: there is more; STATUS_OK: complete. After an
 * error the answer cannot be completed: break the connection. A word that the format cannot
 * hold (a tab or a line feed in TSV) is STATUS_INVALID. */
enum status node_export_step(struct node_export *export, struct node_reader *reader,
                             const struct view *view, uint64_t now_ms, struct buf *out);
