/* Messages of purge: which deletions all owners know, so that they may be forgotten. Bytes:
 * docs/format/peer.md.
 *
 *     driver to member     back                    what
 *     PROMISE              PROMISE_GIVEN           take no direct write up to a time, keep no hint
 *     COMPARE              COMPARED ranges, times  compare with the other owners, up to that time
 *
 *     anybody to an owner
 *     DONE ranges, times                           what was dead up to a time may be gone
 *
 * Generation and map are those that the sender goes by. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"
#include "core/hlc.h"
#include "core/query.h"

enum purge_kind {
    PURGE_PROMISE = 1,
    PURGE_PROMISE_GIVEN,
    PURGE_COMPARE,
    PURGE_COMPARED,
    PURGE_DONE,
    PURGE_KIND_END,
};

enum { PURGE_RANGES_MAX = 1024 }; /* In one message. */

/* Slices are borrowed. */
struct purge_message {
    enum purge_kind kind;
    uint64_t generation, map_number;
    hlc_time upto;       /* PROMISE, PROMISE_GIVEN, COMPARE. */
    struct slice ranges; /* COMPARED, DONE: packed as purge_range_append() makes them. */
    uint64_t range_count;
};

void purge_message_encode(const struct purge_message *message, struct buf *out);

/* Errors: STATUS_INVALID unless the bytes are what purge_message_encode() writes, with ranges that
 * can be walked to their end. */
enum status purge_message_decode(struct slice bytes, struct purge_message *message);

/* Ranges ascend and are disjoint. */
void purge_range_append(struct buf *list, const struct key_range *range, hlc_time upto);
bool purge_range_next(struct slice *rest, struct key_range *range, hlc_time *upto);
