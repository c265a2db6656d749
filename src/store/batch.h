/* What one batch of the log holds: a list of entries.
 *
 *   entry    bytes
 *   record   01, varint key size, key, varint record size, record (docs/format/record.md)
 *   ceiling  02, u64 little-endian: no version above it was given out before a later one
 *   forget   03, varint key size, key, version: time u64, node u16: the record of that version
 *            was taken away
 *
 * Records are results: what a write made of the word, not what was asked for. */
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/slice.h"
#include "base/status.h"
#include "core/hlc.h"
#include "core/record.h"
#include "core/version.h"

enum batch_kind { BATCH_RECORD = 1, BATCH_CEILING = 2, BATCH_FORGET = 3 };

struct batch_entry {
    enum batch_kind kind;
    struct slice key; /* Borrowed, like the record, from the bytes read. */
    struct record record;
    hlc_time ceiling;       /* BATCH_CEILING. */
    struct version version; /* BATCH_FORGET. */
};

/* `encoded` is what record_encode() wrote. */
void batch_append_record(struct buf *batch, struct slice key, struct slice encoded);
void batch_append_ceiling(struct buf *batch, hlc_time ceiling);
void batch_append_forget(struct buf *batch, struct slice key, struct version version);

/* The next entry. Errors: STATUS_END after the last, STATUS_CORRUPT. */
enum status batch_next(struct reader *reader, struct batch_entry *entry);
