/* What the files of a connection share: see connection.h. */
#pragma once

#include "shell/connection.h"

/* --- connection.c: birth, reading, death --- */

/* Whether the engine holds any of its submissions. */
bool connection_is_in_flight(const struct connection *connection);

/* Frees it once the socket is closed and no submission points to it. */
void connection_maybe_free(struct connection *connection);

/* Empties a buffer, and gives its memory back if it is much, or if memory is short. */
void connection_empty(struct connection *connection, struct buf *buf);
void connection_empty_batch(struct connection *connection, struct node_batch *batch);

void connection_close(struct connection *connection);

/* Closes it by a reset, so that what has no length and no chunks is not taken for complete. */
void connection_break(struct connection *connection);

/* A turn without new bytes: goes on with what was kept. */
void connection_go_on(struct connection *connection);

/* Reads while there is room for what comes. */
void connection_set_reading(struct connection *connection);

/* --- connection_send.c --- */

/* Sends what there is in one write; false: the connection is closed. */
bool connection_send(struct connection *connection);

/* Sends all answers of this turn in one write, and decides how it goes on. */
void connection_flush(struct connection *connection);

/* --- connection_write.c --- */

bool connection_is_write(enum node_endpoint endpoint);

/* Hands a submission to the engine. */
void connection_submit(struct connection *connection, struct submission *submission);

/* --- connection_own.c --- */

/* What an answer is made from. */
struct moment {
    const struct view *view;
    uint64_t wall_ms;
    const struct own_ranges *own; /* Of a member: what it may answer; NULL: it is alone. */
};

/* The newest view, of a member that may answer some reads from it. False: none now. Until the end of the
 * callback. */
bool connection_own_moment(struct connection *connection, struct moment *out);

/* --- connection_ask.c --- */

/* Hands a read to the cluster, behind those that are there already; its answer, or refusal, follows. False:
 * it is refused, and that has to wait for the answers before it; nothing was said. */
bool connection_ask(struct connection *connection, enum node_endpoint endpoint);

/* Answers those that are back, up to the first that is not. */
void connection_answer_asked(struct connection *connection);

/* The same for a question that is there; `submission` is free. */
void connection_submit_question(struct connection *connection, struct submission *submission);

/* A new one; NULL without memory. */
struct node_question *connection_question(struct connection *connection);
void connection_free_question(struct connection *connection, struct submission *submission);

/* One that is not of an export came back. */
void connection_answer_question(struct connection *connection, struct submission *submission);

/* --- connection_request.c --- */

/* Goes on as far as the bytes in `input` (after those kept in `connection->in`) reach. */
void connection_process_input(struct connection *connection, struct slice *input);

/* The last answer. Writes before it are answered first: it is asked for again then. `request`
 * is NULL where its head is not known, or no longer. */
void connection_refuse(struct connection *connection, const struct http_request *request,
                       enum problem_code code, const char *detail);

void connection_send_continue(struct connection *connection);

/* --- connection_import.c, connection_export.c --- */

/* It no longer waits for memory, nor needs to be favoured: its import is over. */
void connection_end_hunger(struct connection *connection);

void connection_begin_import(struct connection *connection, struct slice *input);
void connection_begin_export(struct connection *connection);

/* Takes no more of an import, and answers it when what was taken has come back. */
void connection_cut_import(struct connection *connection);

/* True when it is over and the next request may be read. */
bool connection_process_import(struct connection *connection, struct slice *input);
bool connection_process_export(struct connection *connection);
