/* What a node keeps of the register on disk, under the key `r`.
 *
 *   u8       version = 1
 *   varint   generation number   u64 generation id
 *   varint   number of the map   u64 low, u64 high: its hash
 *   ballot   promised            varint round; unless that is 0: u16 node, u64 salt
 *   ballot   accepted
 *   value    of the accepted ballot, unless that is none: u64 low, u64 high: predecessor;
 *            varint size; delta
 *   u8       1: the decision that made the map follows, 0: not known
 *   value    that decision
 *
 * Numbers are little-endian, a varint is LEB128 in its shortest form. */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"
#include "cluster/register_message.h"

struct register_state {
    struct generation generation;
    uint64_t number; /* Of the map that the instance builds on. */
    struct hash128 hash;
    struct ballot promised, accepted;
    struct register_value value; /* Of `accepted`. */
    bool has_decision;
    struct register_value decision; /* What made map `number`. */
};

void register_state_encode(const struct register_state *state, struct buf *out);

/* Owns: values borrow from `bytes`. Errors: STATUS_CORRUPT, STATUS_NEWER. */
enum status register_state_decode(struct slice bytes, struct register_state *out);
