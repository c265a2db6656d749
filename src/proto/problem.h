/* Errors as clients see them: a code that programs test, a status, words for people.
 *
 * docs/reference/errors.md lists the codes.
 *
 * Source: RFC 9457. */
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

enum problem_code {
    PROBLEM_BAD_REQUEST,
    PROBLEM_INVALID_JSON,
    PROBLEM_UNKNOWN_FIELD,
    PROBLEM_DUPLICATE_FIELD,
    PROBLEM_MISSING_FIELD,
    PROBLEM_INVALID_WORD,
    PROBLEM_INVALID_SCORE,
    PROBLEM_INVALID_PAYLOAD,
    PROBLEM_INVALID_TAGS,
    PROBLEM_INVALID_EXPIRY,
    PROBLEM_INVALID_NAMESPACE,
    PROBLEM_INVALID_PARAMETER,
    PROBLEM_UNKNOWN_PARAMETER,
    PROBLEM_INVALID_CURSOR,
    PROBLEM_INVALID_LINE,
    PROBLEM_LINE_TOO_LONG,
    PROBLEM_UNAUTHORIZED,
    PROBLEM_FORBIDDEN,
    PROBLEM_CROSS_SITE,
    PROBLEM_UNKNOWN_HOST,
    PROBLEM_NOT_FOUND,
    PROBLEM_METHOD_NOT_ALLOWED,
    PROBLEM_REQUEST_TIMEOUT,
    PROBLEM_CONFLICT,
    PROBLEM_LENGTH_REQUIRED,
    PROBLEM_PAYLOAD_TOO_LARGE,
    PROBLEM_URI_TOO_LONG,
    PROBLEM_UNSUPPORTED_MEDIA_TYPE,
    PROBLEM_EXPECTATION_FAILED,
    PROBLEM_TOO_MANY_REQUESTS,
    PROBLEM_HEADERS_TOO_LARGE,
    PROBLEM_INTERNAL,
    PROBLEM_NOT_IMPLEMENTED,
    PROBLEM_NO_HEALTHY_OWNER,
    PROBLEM_QUORUM_NOT_MET,
    PROBLEM_OVERLOADED,
    PROBLEM_READ_ONLY,
    PROBLEM_NOT_READY,
    PROBLEM_TIMEOUT,
    PROBLEM_HTTP_VERSION,
    PROBLEM_DISK_FULL,
    PROBLEM_CODE_COUNT,
};

struct problem {
    enum problem_code code;
    const char *detail;      /* What is wrong here and what was expected; NULL: the code's. */
    struct slice field;      /* Which field or parameter; empty: left out. */
    struct slice request_id; /* Empty: left out. */
    struct slice members;    /* More members, as JSON without braces; empty: none. */
};

/* "not_found". Static storage. */
const char *problem_code_name(enum problem_code code);

/* "There is no such word or route". Static storage. */
const char *problem_title(enum problem_code code);

/* What to say where nothing nearer is known: for most codes the title. Static storage. */
const char *problem_detail(enum problem_code code);

/* The HTTP status of the answer. */
uint16_t problem_status(enum problem_code code);

/* The code for what http_request.h refuses. */
enum problem_code problem_code_of_status(uint16_t http_status);

/* Appends the body of an answer of type application/problem+json. */
void problem_append(struct buf *out, const struct problem *problem);
