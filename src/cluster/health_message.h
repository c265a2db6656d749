/* The messages of the health protocol, as bytes.
 *
 *     protocol u8 (1), kind u8, cluster u64, generation u64, the sender's card in full,
 *     its queue depth varint, then by kind:
 *
 *     PROBE, ANSWER            nonce u32, opinions, cards
 *     RELAY, RELAYED, SILENT   nonce u32, target varint, opinions, cards
 *     DIGEST                   nonce u32, bits u8, a hash u16 for each of 2^bits buckets
 *     STAMPS                   bits u8, a bit for each bucket that is listed, stamps
 *     CARDS                    wants, opinions, cards
 *
 * A list is its length as a varint and its entries in ascending order of their subject, each
 * with the distance from the one before, so that equal lists have equal bytes. Numbers are
 * little-endian. Bytes that follow the last list, a varint longer than needed, an unknown bit:
 * STATUS_INVALID. docs/format/peer.md works out an example.
 *
 * A card leaves out what does not change while a process runs (incarnation, zone, address) when
 * whoever gets it is likely to know that: 12 bytes instead of 28. */
#pragma once

#include "base/buf.h"
#include "base/bytes.h"
#include "base/slice.h"
#include "base/status.h"
#include "cluster/identity.h"

enum {
    HEALTH_MESSAGE_BYTES_MAX = 8192,
    HEALTH_COUNTER_MAX = INT32_MAX, /* Of sequence and rebuttal. */
    HEALTH_CODE_MAX = 64,
    HEALTH_BUCKET_BITS_MIN = 3,
    HEALTH_BUCKET_BITS_MAX = 8,
};

enum health_kind {
    HEALTH_PROBE = 1, /* Answer me. */
    HEALTH_ANSWER,    /* To the probe of that nonce. */
    HEALTH_RELAY,     /* Probe the target for me. */
    HEALTH_RELAYED,   /* The target answered me. */
    HEALTH_SILENT,    /* The target has not answered me so far, but you see that I do. */
    HEALTH_DIGEST,    /* Opens an exchange: what I know, hashed. */
    HEALTH_STAMPS,    /* How new what I know is, where the hashes differ. */
    HEALTH_CARDS,     /* What I know better, and what I want. */
};

/* What a node says about itself. The newest counts: by boot, then by sequence. */
struct health_card {
    uint64_t incarnation, boot; /* identity.h; boot 0: no card. */
    uint64_t known;             /* Number of the newest rangemap it has. */
    uint64_t acknowledged;      /* At most `known`. */
    uint32_t sequence;          /* Counts the cards of one boot. */
    uint32_t rebuttal;          /* How often in this boot it had to say that it is alive. */
    uint32_t zone;
    uint32_t address_tag; /* Changes with its address. */
    node_id id;
    uint8_t depth_code, p95_code; /* health_code() of queue depth and microseconds. */
};

/* That somebody does not answer, as of the life (boot, rebuttal): a later one refutes it. */
struct health_opinion {
    uint64_t boot;
    uint32_t rebuttal;
    node_id subject, accuser;
    bool down; /* Else suspected. */
};

struct health_stamp {
    uint64_t boot;
    uint32_t sequence;
    node_id id;
    bool down;
};

/* Entries of a decoded list, which were checked: reading them cannot fail. */
struct health_list {
    struct reader reader;
    size_t left;
    node_id previous;
};

struct health_message {
    enum health_kind kind;
    uint64_t cluster, generation;
    struct health_card sender;
    uint32_t depth;
    uint32_t nonce;
    node_id target;
    unsigned bits;
    struct slice digest;  /* 2 bytes a bucket. */
    struct slice buckets; /* A bit a bucket, the lowest first. */
    struct health_list stamps, wants, opinions, cards;
};

/* A number in steps of half an octave: 0, then 1, 1.5, 2, 3, 4, 6, 8, ... */
uint8_t health_code(uint32_t value);
uint32_t health_code_value(uint8_t code);

/* Everything up to the queue depth; then the rest of the kind has to follow. */
void health_append_head(struct buf *out, enum health_kind kind, uint64_t cluster,
                        uint64_t generation, const struct health_card *sender, uint32_t depth);

/* `previous` is 0 before the first entry of a list. */
void health_append_card(struct buf *out, node_id *previous, const struct health_card *card,
                        bool full);
void health_append_opinion(struct buf *out, node_id *previous,
                           const struct health_opinion *opinion);
void health_append_stamp(struct buf *out, node_id *previous, const struct health_stamp *stamp);
void health_append_want(struct buf *out, node_id *previous, node_id id, bool full);

/* At most so many bytes does an entry take, wherever it stands in a list. */
size_t health_card_bytes(const struct health_card *card, bool full);
size_t health_opinion_bytes(const struct health_opinion *opinion);
size_t health_stamp_bytes(const struct health_stamp *stamp);

/* Owns:   the lists borrow from `bytes`.
 * Errors: STATUS_INVALID. */
enum status health_decode(struct slice bytes, struct health_message *out);

/* The next entry, or false at the end. A card that is not `full` has no incarnation, zone and
 * address. */
bool health_next_card(struct health_list *list, struct health_card *card, bool *full);
bool health_next_opinion(struct health_list *list, struct health_opinion *opinion);
bool health_next_stamp(struct health_list *list, struct health_stamp *stamp);
bool health_next_want(struct health_list *list, node_id *id, bool *full);

static inline size_t health_bucket_bytes(unsigned bits)
{
    return ((size_t)1 << bits) / 8;
}
