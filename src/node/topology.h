/* What a member knows of its cluster, for people and tools: GET /nodes and its like.
 *
 * Pure, like all of this layer; on the thread of the replica. */
#pragma once

#include "node/question.h"
#include "node/replica.h"

/* Whether the node may coordinate and answer: not before a member has shown, after a start, that there is no
 * newer map, and not while it is suspended (docs/design/moves.md). */
bool topology_serves(const struct replica *replica);

/* Whether another member is there, as far as this node knows. */
bool topology_is_up(const struct replica *replica, node_id id);

/* Answers a question about the cluster itself: its `entries` become the body of the answer, as JSON.
 * REQUEST_ABSENT: there is no such node. */
void topology_answer(const struct replica *replica, struct node_question *question);
