/* Messages that a step of a protocol wants sent.
 *
 * A state machine appends to it; whoever drives the machine takes the messages out, in order,
 * and clears it. Each has the id of a peer and bytes that begin with the protocol's own kind.
 * A message marked `durable` tells of state that the step changed: it must not leave before
 * that state is safe on disk. Others may leave at once; nothing relies on any arriving.
 *
 * A failed append is remembered, as in buf: the message is dropped as the network might have
 * dropped it, and the count says so.
 *
 * Owns: the bytes, until outbox_clear(). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/heap.h"
#include "base/slice.h"
#include "cluster/identity.h"

/* The protocol a message belongs to: the first byte of every message between peers. */
enum protocol {
    PROTOCOL_HEALTH = 1,
    PROTOCOL_REGISTER = 2,
    PROTOCOL_TOPOLOGY = 3,
    PROTOCOL_DATA = 4,
    PROTOCOL_REPAIR = 5,
    PROTOCOL_BOOTS = 6,
    PROTOCOL_PURGE = 7,
    PROTOCOL_TRANSFER = 8,
};

struct outbox_message {
    node_id to;
    bool durable;
    size_t at, size; /* In `bytes`. */
};

struct outbox {
    struct buf bytes;
    struct outbox_message *messages;
    size_t count, capacity;
    uint64_t dropped_count; /* For want of memory; since the start. */
};

void outbox_init(struct outbox *outbox, struct heap *heap);
void outbox_deinit(struct outbox *outbox);

/* Empties it; the memory is kept for reuse. */
void outbox_clear(struct outbox *outbox);

/* Begins a message: append its bytes to the result, then call outbox_end(). */
struct buf *outbox_begin(struct outbox *outbox, node_id to, enum protocol protocol);
void outbox_end(struct outbox *outbox, bool durable);

/* Takes out the messages that are `durable`: the state they tell of could not be kept. */
void outbox_drop_durable(struct outbox *outbox);

/* The bytes of a message, the protocol's byte first. */
static inline struct slice outbox_bytes(const struct outbox *outbox, size_t index)
{
    const struct outbox_message *message = &outbox->messages[index];
    return slice_of(outbox->bytes.data + message->at, message->size);
}
