/* Bodies sent in chunks, taken apart as they arrive.
 *
 *     chunk    size in hexadecimal [;extension] CRLF  bytes  CRLF
 *     body     chunk…  0 [;extension] CRLF  [trailer CRLF]…  CRLF
 *
 * Extensions and trailers are read past, within bounds. Strict as http_request.h.
 *
 * Source: RFC 9112, section 7.1. */
#pragma once

#include <stdint.h>

#include "base/slice.h"
#include "base/status.h"

enum {
    HTTP_CHUNK_EXTENSION_BYTES_MAX = 1024, /* For each chunk. */
    HTTP_TRAILER_BYTES_MAX = 8 << 10,      /* All trailers together. */
};

/* Zeroed, it is ready for a body. */
struct http_chunked {
    uint64_t left;         /* Of the size read so far, then of the chunk. */
    uint32_t skipped;      /* Bytes of this extension, or of all trailers. */
    uint16_t error_status; /* After a failure: 400, 413 or 431. */
    uint8_t state;
    uint8_t digits;
    const char *error_reason; /* After a failure; static. */
};

/* Takes bytes off the front of `input` up to the next piece of the body, which is `piece`
 * (never empty, inside of `input`).
 *
 * Errors: STATUS_PARTIAL: `input` is used up. STATUS_END: the body is complete and `input`
 * starts at what follows it. STATUS_INVALID, STATUS_LIMIT: answer `error_status`, close. */
enum status http_chunked_next(struct http_chunked *chunked, struct slice *input,
                              struct slice *piece);
