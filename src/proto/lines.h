/* Imports and exports, line by line.
 *
 *     ndjson  one object of json_read.h a line
 *     csv     RFC 4180 without a header: word[,score]; a quoted field may hold newlines
 *     tsv     word up to the first tab, then the score; nothing is escaped
 *
 * An absent or empty score is 1. Lines end in LF or CRLF, the last may lack it; empty lines
 * are passed over. A bad line is reported and the next one is read. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"
#include "proto/json_read.h"
#include "proto/problem.h"

enum {
    LINES_JSON_BYTES_MAX = JSON_BYTES_MAX,
    LINES_TEXT_BYTES_MAX = 16 << 10, /* Of a line of csv or tsv. */
};

enum lines_format {
    LINES_NDJSON,
    LINES_CSV,
    LINES_TSV,
};

struct lines {
    enum lines_format format;
    uint64_t number;    /* Of the line that comes next, from 1. */
    uint64_t begun;     /* Number of the line on which the record being read began. */
    uint8_t csv_state;  /* Where in a record of csv. */
    bool skipping;      /* The line was too long and has been reported. */
    struct buf carry;   /* The start of a record that came in pieces. */
    struct buf scratch; /* What the record handed out last needs besides. */
};

/* A record, or why there is none. */
struct line {
    uint64_t number; /* Where it began. */
    struct word_input input;
    struct problem problem;
};

void lines_init(struct lines *lines, enum lines_format format, struct heap *heap);
void lines_deinit(struct lines *lines);

/* Takes the next record off the front of `input`; `last`: nothing comes after it.
 *
 * Owns:   `out` borrows from `input` and `lines` until the next call.
 * Errors: STATUS_INVALID: a bad line, `number` and `problem` are set, go on. STATUS_PARTIAL:
 *         `input` is used up. STATUS_END: so is everything. STATUS_NOMEM: give up.
 * Cost:   a record that lies whole in `input` is not copied. */
enum status lines_next(struct lines *lines, struct slice *input, bool last, struct line *out);

/* Appends a line that import reads back exactly: expires_at where it is not 0, payload and
 * tags where `fields` has them. */
void lines_write_ndjson(struct buf *out, const struct word_input *input);

/* Appends "word TAB score LF".
 *
 * Errors: STATUS_INVALID for a word that holds a tab or a newline; nothing is appended. */
enum status lines_write_tsv(struct buf *out, struct slice word, double score);
