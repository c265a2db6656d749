/* What the files of repair share; for cluster/repair*.c alone.
 *
 *     repair.c            sessions: begun, asked, answered, ended
 *     repair_compare.c    the side that drives: what the peer found, against what is here
 *     repair_exchange.c   the same: what came of what was wanted
 *     repair_answer.c     the side that is asked
 *     repair_range.c      what a range holds here: digests, cuts, records */
#pragma once

#include "cluster/repair.h"
#include "cluster/repair_message.h"

/* Records of a range here, against those that the peer lists; of more it is asked about pieces. */
enum { REPAIR_LEAF_HERE_MAX = 4 * REPAIR_LEAF_MAX };

/* --- What a range holds (repair_range.c) --- */

struct query repair_query(const struct repair *repair, const struct key_range *range);

uint64_t repair_hash(const struct repair *repair, struct slice key, const struct record *record);

/* The current records of a range in order, tombstones too:
 *
 *     status = repair_walk_begin(repair, range, &walk);
 *     for (; status == STATUS_OK; status = repair_walk_next(&walk)) ...
 *     status = repair_walk_end(&walk, status);
 *
 * Key and record are valid until the next call. The end makes STATUS_OK of STATUS_END, at which a walk
 * past all of them stops. */
struct repair_walk {
    struct query_iterator *iterator;
    struct slice key;
    struct record record;
};

enum status repair_walk_begin(const struct repair *repair, const struct key_range *range,
                              struct repair_walk *walk);
enum status repair_walk_next(struct repair_walk *walk);
enum status repair_walk_end(struct repair_walk *walk, enum status status);

enum status repair_sum(const struct repair *repair, const struct key_range *range, struct sum *sum);

/* Of all that is shared with the peer; the list of its ranges stays in repair->ranges. */
enum status repair_shared_sum(struct repair *repair, node_id peer, enum repair_scope scope,
                              struct sum *sum);
uint64_t repair_shared_purged(struct repair *repair, node_id peer, enum repair_scope scope);

/* Of that list. */
struct hash128 repair_shared_hash(const struct repair *repair);

/* Keys at which to cut, after the range's low: by the number of live words, or, where almost all
 * are dead, after every few entries. */
enum status repair_choose_cuts(const struct repair *repair, const struct key_range *range,
                               struct buf cuts[REPAIR_PIECES_MAX], size_t *count);

/* Whether what is lacking here of the range is known to be deleted. */
bool repair_knows_all(const struct repair *repair, const struct key_range *range);

/* --- The side that drives --- */

/* Of a range in session->later: why, and what the peer said when it listed it. */
enum {
    REPAIR_PEER_KNOWS = 1, /* What it lacks is deleted. */
    REPAIR_IN_DOUBT = 2,   /* Something here may be, which its tags do not tell. */
};

/* Beside the sum of a range that is asked about: what was in doubt of it has been exchanged. */
#define REPAIR_DOUBTED (UINT64_C(1) << REPAIR_SUM_BITS)

/* False where there is no room or memory, or the list breaks the rules: the session ends. `list` is
 * packed (repair_range_append()); the ranges come off the stack in their order. */
bool repair_push_ranges(struct repair_session *session, struct slice list);

/* Takes an answer; false: the session ends. */
bool repair_compared(struct repair *repair, struct repair_session *session,
                     const struct repair_message *message);
bool repair_exchanged(struct repair *repair, struct repair_session *session,
                      const struct repair_message *message);

/* All of a range, both ways. `peer_knows`: what the peer lacks of it is deleted. */
enum status repair_exchange_whole(struct repair *repair, struct repair_session *session,
                                  const struct key_range *range, bool peer_knows);

/* Appends the range with its digest, to be asked about again. `doubted`: REPAIR_DOUBTED or 0. */
enum status repair_put_back(const struct repair *repair, const struct key_range *range,
                            uint64_t doubted, struct buf *list);

/* Goes over to some of session->later. False: the session ends. */
bool repair_look_again(struct repair *repair, struct repair_session *session);

/* Has as much to send or to ask for as goes into a message. */
static inline bool repair_is_full(const struct repair_session *session)
{
    return session->push.size >= REPAIR_BYTES_AIM || session->wants.size >= REPAIR_BYTES_AIM ||
           session->want_count >= REPAIR_WANTS_MAX;
}

/* --- The side that is asked --- */

/* Answers a question. */
void repair_answer(struct repair *repair, node_id from, const struct repair_message *message,
                   struct outbox *outbox);
