/* A read under way: what the files that answer reads share. */
#pragma once

#include "node/node.h"
#include "node/params.h"
#include "proto/json_write.h"

struct node_question;

struct asking {
    struct node_reader *reader;
    const struct http_request *request; /* Until its parameters are read. */
    struct node_reply reply;
    const struct view *view;
    uint64_t now_ms;
    struct buf *out;
    struct node_params params;

    /* Of a member that answers by itself; NULL: whatever the view holds is the answer. */
    const struct own_ranges *own;
    bool handed_on; /* It does not: nothing is said. */
};

/* --- asking.c --- */

void asking_refuse(struct asking *asking, enum problem_code code, const char *detail,
                   const char *field);
void asking_refuse_status(struct asking *asking, enum status status);

/* False when the request was refused. */
bool asking_read_params(struct asking *asking, unsigned allowed);

/* Turns `q` into a prefix of keys, in `reader->prefix`. */
enum status asking_read_prefix(struct asking *asking);

/* Whether this node answers, for the key, or all keys with the prefix. False: nothing is to be said. The
 * parameters are read. */
bool asking_is_own(struct asking *asking, struct slice key, bool is_prefix);

struct query asking_query(const struct asking *asking);

/* Finishes an answer whose body stands in `reader->body`. */
void asking_answer(struct asking *asking, uint16_t http_status);

/* Fields of an entry; nothing where it has none. */
void asking_write_tags(struct json_writer *writer, struct slice tags);
void asking_write_payload(struct json_writer *writer, const struct record *record);

/* --- read.c --- */

/* The word to look up, as a key in `reader->key`. False when the request was refused. */
bool asking_read_word(struct asking *asking);

void asking_answer_word(struct asking *asking, struct slice word, const struct record *record);
void asking_answer_count(struct asking *asking, uint64_t count);

/* --- search.c --- */

void asking_search(struct asking *asking, bool plain);

/* The same of a cluster: what to ask, with slices of the reader, false when the request was refused;
 * and what to say to the reply. */
bool asking_search_ask(struct asking *asking, struct request *request);
void asking_search_answer(struct asking *asking, const struct node_question *question);
