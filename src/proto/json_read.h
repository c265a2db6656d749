/* The bodies of writes: one JSON object with known fields, read in one pass.
 *
 *     word        string, 1 to 4,096 bytes            score  number, finite
 *     payload     string, at most 65,536 bytes        by     number, finite
 *     tags        array of at most 32 strings         ttl_ms, expires_at
 *                 of 1 to 64 bytes                           whole numbers above 0
 *
 * A string may be {"base64":"…"}. Strict: an unknown or second field, another type, a lone
 * surrogate or bytes that are not UTF-8 are refused. docs/design/json.md says why this is
 * not left to a library.
 *
 * Source: RFC 8259. */
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"
#include "core/limits.h"
#include "proto/problem.h"

/* Longer bodies hold something too long: all of the largest word, escaped, fits. */
enum { JSON_BYTES_MAX = 512 << 10 };

/* Latest time, and longest time to live, that is taken: every JSON reader keeps it exact. */
#define JSON_TIME_MS_MAX (UINT64_C(1) << 53)

enum json_field {
    JSON_WORD = 1,
    JSON_SCORE = 2,
    JSON_PAYLOAD = 4,
    JSON_TAGS = 8,
    JSON_EXPIRES_AT = 16,
    JSON_TTL_MS = 32,
    JSON_BY = 64,
    /* What each write takes. */
    JSON_PUT_FIELDS = JSON_WORD | JSON_SCORE | JSON_PAYLOAD | JSON_TAGS | JSON_EXPIRES_AT |
                      JSON_TTL_MS,
    JSON_INCREMENT_FIELDS = JSON_WORD | JSON_BY,
    JSON_REMOVE_FIELDS = JSON_WORD,
};

/* One write as its client gave it. */
struct word_input {
    unsigned fields; /* Which of enum json_field were given; the rest have their defaults. */
    struct slice word;
    double score; /* 1 */
    double by;    /* 1 */
    struct slice payload;
    struct slice tags;   /* As record_tags_build() makes them. */
    uint64_t expires_at; /* Unix ms; 0: not given. At most one of the two is given. */
    uint64_t ttl_ms;     /* From now; 0: not given. */
};

/* Reads `text`, all of it. `fields` are those allowed; the word must be among those given.
 *
 * Owns:   `out` borrows from `text` and from `scratch`, which is cleared first.
 * Errors: STATUS_INVALID, STATUS_LIMIT: `problem` says what is wrong where (`field` borrows
 *         as well, `request_id` stays); STATUS_NOMEM. `out` is then unchanged.
 * Cost:   one pass; no allocation once `scratch` has grown to thrice the size of `text`. */
enum status json_read_word(struct slice text, unsigned fields, struct buf *scratch,
                           struct word_input *out, struct problem *problem);

/* The defaults. */
struct word_input word_input_of(struct slice word);

/* Whether a word may be stored at all: STATUS_INVALID, STATUS_LIMIT with `problem`. */
enum status word_input_check(struct slice word, struct problem *problem);
