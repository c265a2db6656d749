/* The bodies and parameters of the word routes. */
#pragma once

#include "node/batch.h"
#include "node/params.h"
#include "proto/json_read.h"
#include "proto/json_write.h"

/* Reads what a set, a removal or an increment asks for.
 *
 * Owns:   `word` borrows from the request, the body and the reader, until its next call.
 * Errors: STATUS_INVALID with `error`; STATUS_NOMEM. */
enum status node_word_read(struct node_reader *reader, enum node_endpoint endpoint,
                           const struct http_request *request, struct slice body, uint64_t now_ms,
                           struct node_word *word, struct node_param_error *error);

/* The same for a line of an import; borrows from `input`, leaves the namespace alone. */
void node_word_of_input(const struct word_input *input, bool increment, uint64_t now_ms,
                        struct node_word *word);

/* Appends `"name":"<ms>.<counter>@<node>"`. */
void node_write_version(struct json_writer *writer, const char *name, struct version version);
