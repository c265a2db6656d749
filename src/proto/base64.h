/* Bytes as text, four characters for three bytes.
 *
 * BASE64_PADDED is the standard alphabet with padding, BASE64_URL the one for URLs without.
 * Decoding is strict: exactly what encoding writes, so equal bytes have equal texts.
 *
 * Source: RFC 4648, sections 4 and 5. */
#pragma once

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"

enum base64 { BASE64_PADDED, BASE64_URL };

void base64_encode(enum base64 variant, struct slice bytes, struct buf *out);

/* Appends to `out` what `text` stands for.
 *
 * Errors: STATUS_INVALID, STATUS_NOMEM; nothing is then appended. */
enum status base64_decode(enum base64 variant, struct slice text, struct buf *out);
