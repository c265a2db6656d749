/* Commands of administration to a member: drain, remove, rebalance, repair, recover, and their jobs.
 *
 * A command that changes the map is answered when the map has the change, so that what was answered stays:
 * no crash of any node forgets it. Before that it is looked at with each map anew, and is refused with the
 * rule that it would break; at its deadline it is withdrawn, and may have come to pass all the same.
 *
 *     ADMIN_WAITS    admin_go_on() after each turn of the replica, admin_give_up() at the deadline
 *     ADMIN_ENDED    the question has its answer: a body and a status, or a refusal
 *
 * Pure, like all of this layer; on the thread of the replica. */
#pragma once

#include "node/jobs.h"
#include "node/question.h"
#include "node/replica.h"

enum admin_step { ADMIN_ENDED, ADMIN_WAITS };

/* A question whose endpoint node_is_admin(). */
enum admin_step admin_begin(struct jobs *jobs, struct replica *replica, struct replica_time time,
                            struct node_question *question);
enum admin_step admin_go_on(struct jobs *jobs, struct replica *replica, struct replica_time time,
                            struct node_question *question);

/* There is no replica. */
void admin_refuse_without(struct node_question *question);
void admin_give_up(struct replica *replica, struct node_question *question);
