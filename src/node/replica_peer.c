/* What connections tell of peers, for whoever drives the replica. */
#include "node/replica_private.h"

void replica_peer_gone(struct replica *replica, node_id id)
{
    if (!replica->start_durable || id == replica->self.id) return;
    health_failed(replica->health, id, HEALTH_CLOSED);
}
