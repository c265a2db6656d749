/* trifecta.id: says that a directory is a store's, of which format, and which store.
 *
 * Text, for the human who finds it:
 *
 *     trifecta data directory
 *     format 1
 *     store 000102030405060708090a0b0c0d0e0f
 *     crc32c 1a2b3c4d
 *
 * The checksum is over the lines before. Later formats keep the first two lines. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/status.h"

enum { IDENTITY_BYTES = 88 };

void identity_encode(const uint8_t store_id[16], char out[IDENTITY_BYTES + 1]);

/* Errors: STATUS_FOREIGN if it is no such text, STATUS_NEWER for a later format,
 * STATUS_CORRUPT for damage. */
enum status identity_decode(struct slice text, uint8_t store_id[16]);
