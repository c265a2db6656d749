/* The description of all routes, OpenAPI 3.1: openapi.json beside this file, as GET /openapi.json answers it.
 *
 * test/unit/node/answer_test.c holds it against the routes, test/process/server_test.py against the answers. */
#pragma once

#include "base/slice.h"

extern const struct slice openapi_document;
