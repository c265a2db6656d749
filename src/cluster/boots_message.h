/* Messages about boot counters, and the bytes of what is kept of them.
 *
 * The bytes: docs/format/peer.md. Equal messages have equal bytes, and no others are taken. */
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"
#include "cluster/register_map.h"

enum { BOOTS_SALT_COUNT_MAX = 16 };

/* No node starts so often; a counter beyond it is not taken. */
#define BOOTS_COUNTER_MAX (UINT64_C(1) << 48)

/* One start of one node. */
struct boot {
    uint64_t incarnation;
    uint64_t counter; /* From 1. */
    uint64_t salt;    /* Random: two starts with one counter are told apart. */
};

static inline bool boot_equal(struct boot a, struct boot b)
{
    return a.incarnation == b.incarnation && a.counter == b.counter && a.salt == b.salt;
}

enum boots_kind {
    BOOTS_ASK = 1,      /* Record this start of mine. */
    BOOTS_RECORDED = 2, /* Back: recorded. */
    BOOTS_REFUSED = 3,  /* Back: what I recorded contradicts this start. */
};

struct boots_message {
    enum boots_kind kind;
    struct generation generation;
    struct boot boot;
    /* ASK: the salts of the starts before, the newest first, as the node's disk has them; as
     * many as there were, or the bound. */
    unsigned salt_count;
    uint64_t salts[BOOTS_SALT_COUNT_MAX];
};

/* Appends the bytes without the protocol's own, which outbox_begin() has written. */
void boots_message_encode(const struct boots_message *message, struct buf *out);

/* `bytes` is a whole message, the byte of the protocol first. Errors: STATUS_INVALID. */
enum status boots_message_decode(struct slice bytes, struct boots_message *out);

/* How many salts a start with this counter knows of those before. */
static inline unsigned boots_salt_count(uint64_t counter)
{
    return counter - 1 < BOOTS_SALT_COUNT_MAX ? (unsigned)(counter - 1) : BOOTS_SALT_COUNT_MAX;
}

/* What a registrar keeps of another, under the key `b` and its id.
 *
 *   u8 version = 1   u64 incarnation   varint counter   u64 salt
 *
 * Errors: STATUS_CORRUPT, STATUS_NEWER. */
void boot_encode(struct boot boot, struct buf *out);
enum status boot_decode(struct slice bytes, struct boot *out);

/* What a node keeps of its own starts, under the key `s`.
 *
 *   u8 version = 1   u8 1: rolled back, else 0   u16 id   u64 incarnation   varint counter
 *   u64 salt, then those of the starts before, as many as in an ASK */
struct starts {
    node_id id;
    struct boot boot; /* The newest. */
    uint64_t salts[BOOTS_SALT_COUNT_MAX];
    bool rolled_back; /* Found out once, true for good: nobody who kept this disk votes again. */
};

void starts_encode(const struct starts *starts, struct buf *out);
enum status starts_decode(struct slice bytes, struct starts *out);

/* The next start: the counter goes up, the salt is `salt`. The result is made durable before
 * anything else is done. */
void starts_next(struct starts *starts, uint64_t salt);
