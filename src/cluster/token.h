/* What a client has written, for its later reads at `one` to see (`X-Trifecta-Token`).
 *
 * A token is a list of groups. A group is of one write, or of several: each of its places, a node and
 * where its log was then, has all of them durably. A read of a shard sees them at a node that is a
 * place of every group that has any owner of the shard among its places. Groups that share a place
 * become one, which is what they share; so a client that writes to one shard has one group. What
 * does not fit in makes the token *lost*: then only a quorum sees all.
 *
 * Bytes: docs/format/peer.md. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"
#include "cluster/identity.h"
#include "cluster/rangemap.h"

enum {
    TOKEN_GROUPS_MAX = 8,
    TOKEN_PLACES_MAX = 2 * RANGEMAP_OWNERS_MAX,
    TOKEN_BYTES_MAX = 2 + TOKEN_GROUPS_MAX * (1 + TOKEN_PLACES_MAX * (2 + 8 + 10)),
};

struct token_place {
    node_id node;
    uint64_t incarnation;
    uint64_t sequence; /* Of the log: from 1. */
};

struct token_group {
    uint8_t count;
    struct token_place places[TOKEN_PLACES_MAX]; /* Ascending by node, each once. */
};

struct token {
    bool lost; /* And there are no groups. */
    uint8_t count;
    struct token_group groups[TOKEN_GROUPS_MAX];
};

/* Appends the canonical bytes. */
void token_encode(const struct token *token, struct buf *out);

/* Errors: STATUS_INVALID for bytes that are not canonical; `token` is then unchanged. */
enum status token_decode(struct slice bytes, struct token *token);

/* Puts a place where it belongs; one of the same node is replaced. False: there is no room. */
bool token_group_put(struct token_group *group, struct token_place place);

/* Adds a group that has places, together with those that it shares places with. */
void token_add(struct token *token, const struct token_group *group);

/* Puts those of `ids` in front, in their order, whose copies of the owners' shard have all that the
 * token tells of; how many these are. UINT_MAX: it tells nothing of that shard. */
unsigned token_fit(const struct token *token, const struct owners *owners, node_id *ids,
                   unsigned count);

/* Where the node's log must be; 0: anywhere. */
uint64_t token_sequence(const struct token *token, node_id node);
