/* Heads of HTTP answers, and the frames of chunks.
 *
 * Everything appends to a buffer that is sent as it is; a failed append shows in
 * buf_status(). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "proto/http_request.h"

enum { HTTP_DATE_BYTES = 29 };

struct http_response {
    uint16_t status;
    uint8_t minor;   /* Of the request. To HTTP/1.0, a chunked body goes out bare instead. */
    bool keep_alive; /* Ignored, as false, where only the end of the connection ends the body. */
    enum http_body body;      /* HTTP_BODY_NONE: no framing at all, for 1xx, 204 and 304. */
    uint64_t content_length;  /* With HTTP_BODY_LENGTH. */
    const char *content_type; /* NULL: none. */
    const char *date;         /* HTTP_DATE_BYTES of http_date_format(); NULL: none. */
    struct slice headers;     /* More lines, as http_header_append() writes them. */
};

/* Appends the status line, the headers and the empty line. */
void http_response_append(struct buf *out, const struct http_response *response);

/* Gives an answer that was kept, and goes out once more, the date of today: `date` takes the
 * place of the one that http_response_append() was given. */
void http_response_set_date(uint8_t *answer, size_t size, const char *date);

/* Writes "Mon, 02 Jan 2006 15:04:05 GMT" and a final zero. Up to the year 9999.
 * Source: RFC 9110, section 5.6.7. */
void http_date_format(uint64_t unix_s, char out[HTTP_DATE_BYTES + 1]);

/* Appends "name: value" CRLF. Control characters in the value go out as blanks, so that no
 * value can end the line. */
void http_header_append(struct buf *out, const char *name, struct slice value);

/* Whether the body after this head goes out in chunks. */
static inline bool http_response_is_chunked(const struct http_response *response)
{
    return response->body == HTTP_BODY_CHUNKED && response->minor != 0;
}

/* Whether the connection stays open after this answer. */
static inline bool http_response_keeps_alive(const struct http_response *response)
{
    return response->keep_alive && (response->body != HTTP_BODY_CHUNKED || response->minor != 0);
}

/* "Not Found"; "Unknown" for a code without a name. Static storage. */
const char *http_reason(uint16_t status);

/* Appends `data` as one chunk; nothing when it is empty, as that would end the body. */
void http_chunk_append(struct buf *out, struct slice data);

/* What is appended between the two becomes one chunk. begin returns what end wants. An
 * empty chunk is taken back; less than 4 GiB fit into one. */
size_t http_chunk_begin(struct buf *out);
void http_chunk_end(struct buf *out, size_t begin);

/* Appends what ends a chunked body. */
void http_chunk_finish(struct buf *out);

/* Appends the interim answer "100 Continue". */
void http_continue_append(struct buf *out);
