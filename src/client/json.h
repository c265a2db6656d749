/* What answers hold, read with jansson: objects, and strings that may be {"base64":"…"}. */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/slice.h"

#include <jansson.h>

/* NULL for anything but JSON, or where there is no memory. Frees: json_decref(). */
json_t *json_parse(struct slice text);

/* Appends the bytes of a string; false for another type, base64 that is none, or no memory. */
bool json_get_bytes(const json_t *json, struct buf *out);
