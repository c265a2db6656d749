/* The parts of a coordinator's side of reads; for node/replica_read*.c and replica_asks.c alone.
 *
 *   replica_read.c       begins, asks others instead, takes answers, hedges
 *   replica_read_plan.c  which owners are asked about which shards
 *   replica_asks.c       one question to one owner, and what it answered
 *   replica_read_end.c   what is made of all answers */
#pragma once

#include "node/replica_private.h"

/* --- replica_asks.c --- */

void ask_free(struct ask *ask);
void asks_clear(struct asks *asks);

/* One more; NULL without memory. May move the others. */
struct ask *asks_add(struct replica *replica, struct asks *asks, node_id node);

/* The newest ask of the node that has room, or one more. */
struct ask *asks_for(struct replica *replica, struct asks *asks, node_id node, bool of_all);

/* A part of an answer that found no memory: nothing may be made of the rest. */
bool asks_failed(const struct asks *asks);
bool asks_done(const struct asks *asks);

/* Takes out one of two twins; the other has the first one's place. */
void asks_drop_twin(struct asks *asks, size_t dropped);

void ask_add_range(struct ask *ask, const struct key_range *range);

/* The range of one key alone. */
void ask_add_word(struct replica *replica, struct ask *ask, struct slice key);

/* Notes in the read if the ask, or a part of it, found no memory. */
void ask_check(struct flow_read *read, const struct ask *ask);
bool ask_covers(const struct ask *ask, struct slice key);

/* What the node told: at the end of what it told before. */
void ask_absorb(struct ask *ask, const struct data_message *told);

/* The question, continued after what the ask has told. */
struct request ask_next_page(const struct flow_read *read, const struct ask *ask);

/* Answers from the own view, or sends. */
void ask_put(struct replica *replica, struct flow *flow, struct ask *ask,
             const struct request *request, bool with_dead);

/* What is dead counts where what owners hold is joined or, in sums, compared. */
bool read_asks_dead(const struct flow_read *read, const struct request *request);

/* --- replica_read_plan.c --- */

/* Not to be asked again about these shards. `of_all`: as one of all owners. */
bool read_is_avoided(const struct flow_read *read, node_id node, size_t shard, bool of_all);
void read_avoid_everywhere(struct flow_read *read, node_id node);
void read_avoid_refused(struct flow_read *read, const struct ask *ask,
                        const struct data_message *told);
void read_avoid_nobody(struct flow_read *read);

/* Owners of the shard in the order in which to ask them; how many are up. */
unsigned read_rank(struct replica *replica, const struct flow_read *read, size_t shard,
                   const struct owners *owners, bool of_all, node_id ids[RANGEMAP_OWNERS_MAX]);

/* Makes the asks of the piece. False: too few owners of some shard are up. */
bool read_plan_lists(struct replica *replica, struct flow *flow);

/* --- replica_read.c --- */

void read_start_waiting(const struct replica *replica, struct flow_read *read);

/* The next shards of a walk, or all. */
void read_take_piece(struct flow_read *read);

/* Those that are waited for now. */
static inline struct asks *read_asks(struct flow_read *read)
{
    return read->confirming ? &read->confirms : &read->lists;
}

/* --- replica_read_end.c --- */

/* All that was asked is answered. */
void read_evaluate(struct replica *replica, struct flow *flow);
