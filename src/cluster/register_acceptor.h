/* What a registrar remembers of one instance: its promise, and the value it accepted last.
 *
 * Invariants
 *   1. `promised` never falls, and is never less than `accepted`.
 *   2. One ballot has one value.
 *
 * Both must be durable before anybody hears of them. */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/status.h"
#include "cluster/register_message.h"

struct acceptor {
    struct ballot promised;
    struct ballot accepted; /* None: nothing yet. */
    struct buf value;       /* Of `accepted`, encoded. */
};

/* Promises to take nothing below `ballot`; a promise given before is given again.
 *
 * Errors: STATUS_STALE when a greater one is promised, STATUS_EXISTS when it has accepted under
 * this one: then the message is late, its sender has its majority. */
enum status acceptor_prepare(struct acceptor *acceptor, struct ballot ballot);

/* Takes the value. Errors: STATUS_STALE when a greater ballot is promised, STATUS_INVALID when
 * the same ballot came with another value, STATUS_NOMEM. */
enum status acceptor_accept(struct acceptor *acceptor, struct ballot ballot,
                            struct register_value value);

/* The value of `accepted`, which must not be none. */
struct register_value acceptor_value(const struct acceptor *acceptor);

/* Forgets all: for the next instance. */
void acceptor_reset(struct acceptor *acceptor);
