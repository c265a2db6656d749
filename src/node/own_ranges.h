/* What a member of a cluster may answer from its own view, on any thread.
 *
 * The replica lives on one thread and is asked there. Of most reads at `one` it would only say that this
 * node owns all that is asked for, and answer from the newest view. This is that part of what it knows,
 * as something that does not change: whoever has it decides alike, and leaves the rest to the replica.
 * It holds as long as the replica says nothing else: docs/design/host.md, "Reads by the own view".
 *
 * Threads: any number of readers; the last of own_ranges_unref() frees. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/slice.h"
#include "base/status.h"
#include "cluster/rangemap.h"
#include "core/query.h"

struct own_ranges {
    _Atomic uint32_t references;
    struct heap *heap;
    struct rangemap *map; /* Whose bytes the ranges are. */
    node_id self;
    bool reads_at_one; /* So do reads that say nothing of consistency. */
    size_t count;
    struct key_range ranges[]; /* Ascending, none touches the next. */
};

/* The ranges of a map's shards for which `may_answer` says yes, with one reference; neighbours are one.
 * Errors: STATUS_NOMEM. Cost: O(shards), `may_answer` twice for each. */
enum status own_ranges_create(struct heap *heap, struct rangemap *map, node_id self,
                              bool (*may_answer)(const void *context, const struct shard *shard),
                              const void *context, struct own_ranges **out);

struct own_ranges *own_ranges_ref(struct own_ranges *ranges);

/* NULL is accepted. */
void own_ranges_unref(struct own_ranges *ranges);

/* Whether both say the same; NULL says that nothing may be answered. */
bool own_ranges_equal(const struct own_ranges *a, const struct own_ranges *b);

/* What of a read decides whether the own view is enough. */
struct own_read {
    struct slice key;
    bool is_prefix; /* Of all keys that are asked for; else `key` is the one. */
    bool has_consistency;
    enum consistency consistency;
    struct slice token; /* As node_read_token() gave it; empty: none. */
};

/* Whether a view that contains the log up to `sequence` answers it. A token has to name this node in all
 * of its groups: the replica is less strict, and is asked then. Cost: O(log ranges). */
bool own_ranges_admit(const struct own_ranges *ranges, const struct own_read *read,
                      uint64_t sequence);

/* --- replica_own.c: on the replica's thread --- */

struct replica;

/* What the replica would answer from its own view now: NULL in `*out` where that is nothing.
 * Errors: STATUS_NOMEM. Cost: O(shards). */
enum status own_ranges_of(const struct replica *replica, struct own_ranges **out);

/* Another number whenever own_ranges_of() may have come to say something else; never 0. Cost: O(shards that
 * move here + pieces of what is purged). */
uint64_t own_ranges_mark(const struct replica *replica);

/* What to add to the monotonic time, in milliseconds, for the time by which the replica says what has
 * expired: it follows no jump of the wall clock. */
int64_t own_clock_offset_ms(const struct replica *replica);
