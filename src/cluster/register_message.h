/* Messages of the register, and the bytes of what they carry.
 *
 * The bytes: docs/format/peer.md. Equal messages have equal bytes, and no others are taken. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/slice.h"
#include "base/status.h"
#include "cluster/register_map.h"

enum {
    REGISTER_DELTA_BYTES_MAX = 64 << 10,
    REGISTER_VALUE_BYTES_MAX = 16 + 3 + REGISTER_DELTA_BYTES_MAX, /* Encoded. */
};

/* A ballot with a greater round is not taken; far more than there are milliseconds. */
#define REGISTER_ROUND_MAX (UINT64_C(1) << 48)

/* Nor is one that is so far above the promised: rounds go up by one, and one message must not use them up. */
#define REGISTER_ROUND_STEP_MAX (UINT64_C(1) << 32)

/* An attempt to have a value chosen. The greater one wins; none is used twice, because a node
 * draws a new salt at each start: even one whose disk was rolled back and forgot its rounds. */
struct ballot {
    uint64_t round; /* From 1; 0 is none, less than all others. */
    node_id node;   /* Who makes it. */
    uint64_t salt;
};

static inline int ballot_compare(struct ballot a, struct ballot b)
{
    if (a.round != b.round) return a.round < b.round ? -1 : 1;
    if (a.node != b.node) return a.node < b.node ? -1 : 1;
    return (a.salt > b.salt) - (a.salt < b.salt);
}

static inline bool ballot_equal(struct ballot a, struct ballot b)
{
    return ballot_compare(a, b) == 0;
}

static inline bool ballot_is_none(struct ballot ballot)
{
    return ballot.round == 0;
}

/* What is chosen: how to make the next map, and of which one. */
struct register_value {
    struct hash128 predecessor; /* Hash of the map that the delta applies to, and to no other. */
    struct slice delta;         /* 1 to REGISTER_DELTA_BYTES_MAX bytes. */
};

static inline bool register_value_equal(struct register_value a, struct register_value b)
{
    return hash128_equal(a.predecessor, b.predecessor) && slice_equal(a.delta, b.delta);
}

/* As it lies in messages and on disk. */
void register_value_encode(struct register_value value, struct buf *out);

/* The next value; the reader fails if there is none. Borrows from the bytes. */
struct register_value register_value_read(struct reader *reader);

/* A ballot, or none; the reader fails for one that breaks a rule. */
void ballot_encode(struct ballot ballot, struct buf *out);
struct ballot ballot_read(struct reader *reader);

enum register_kind {
    REGISTER_PREPARE = 1,  /* Proposer to registrar: promise to take nothing below `ballot`. */
    REGISTER_PROMISE = 2,  /* Back: promised; this is what I accepted last, if anything. */
    REGISTER_ACCEPT = 3,   /* Proposer to registrar: take this value. */
    REGISTER_ACCEPTED = 4, /* Back: taken. */
    REGISTER_REFUSED = 5,  /* Back: I have promised `other`, which is greater. */
    REGISTER_DECIDED = 6,  /* To anyone: this value is chosen. */
    REGISTER_PLACE = 7,    /* To anyone: this is the instance I am at. Never answered. */
};

struct register_message {
    enum register_kind kind;
    struct generation generation;
    uint64_t instance;           /* Number of the map that is to be chosen, from 2. */
    struct ballot ballot;        /* All but DECIDED and PLACE. */
    struct ballot other;         /* PROMISE: accepted, or none. REFUSED: promised. */
    struct register_value value; /* ACCEPT, DECIDED, and PROMISE unless `other` is none. */
};

/* Appends the bytes without the protocol's own, which outbox_begin() has written. */
void register_message_encode(const struct register_message *message, struct buf *out);

/* `bytes` is a whole message, the byte of the protocol first.
 *
 * Owns: the value borrows from `bytes`. Errors: STATUS_INVALID. */
enum status register_message_decode(struct slice bytes, struct register_message *out);
