/* Leaving in order, when the process is told to end: the others hear of it before anything fails.
 *
 *     this node    says GOES to every member that is up, and serves on
 *     a member     counts it as down from then on, whatever it still says, and answers KNOWN: no request
 *                  that it begins later comes here
 *     this node    ends when all have answered, and what they and its clients had asked for is done and sent
 *
 * Who does not answer is waited for HOST_LEAVE_MS at most. A later start of the node ends it: its connections
 * carry another boot number. docs/format/peer.md#farewell. */
#include "base/math.h"
#include "node/topology.h"
#include "shell/host_private.h"
#include "shell/log_line.h"

enum { ENVELOPE_BYTES = 8, FAREWELL = 0xff, FAREWELL_BYTES = ENVELOPE_BYTES + 2 };

enum { FAREWELL_GOES = 1, FAREWELL_KNOWN };

static void say(struct host *host, node_id to, uint8_t kind)
{
    const uint8_t message[FAREWELL_BYTES] = {[ENVELOPE_BYTES] = FAREWELL, kind};
    enum status status =
        peers_send(host->peers, to, PEER_URGENT, slice_of(message, sizeof message));
    (void)status; /* Who does not hear of it finds out, as of any node that goes. */
}

/* --- Of others --- */

static struct host_going *find_going(struct host *host, node_id id)
{
    for (size_t i = 0; i < host->going_count; i++)
        if (host->going[i].id == id) return &host->going[i];
    return NULL;
}

static void note_going(struct host *host, const struct peer_hello *from)
{
    struct host_going *going = find_going(host, from->id);
    if (going == NULL && host->going_count == HOST_GONE_MAX) return;
    if (going == NULL) going = &host->going[host->going_count++];
    *going = (struct host_going){from->id, from->boot};
    log_line(LOG_LEVEL_INFO, "peer.goes", log_number("node", from->id));
}

void host_leave_heard(struct host *host, const struct peer_hello *from)
{
    struct host_going *going = find_going(host, from->id);
    if (going == NULL) return;
    if (from->boot == going->boot)
        replica_peer_gone(host->replica, from->id);
    else
        *going = host->going[--host->going_count];
}

/* --- This node --- */

static void stop_waiting_for(struct host *host, node_id id)
{
    size_t kept = 0;
    for (size_t i = 0; i < host->unaware_count; i++)
        if (host->unaware[i] != id) host->unaware[kept++] = host->unaware[i];
    host->unaware_count = kept;
}

void host_leave_lost(struct host *host, node_id id)
{
    stop_waiting_for(host, id);
}

bool host_leave_message(struct host *host, const struct peer_hello *from, struct slice message)
{
    if (from->id == 0) return false; /* What strangers say has no envelope. */
    if (message.size <= ENVELOPE_BYTES || message.data[ENVELOPE_BYTES] != FAREWELL) return false;
    if (message.size != FAREWELL_BYTES || host->replica == NULL) return true;
    if (message.data[ENVELOPE_BYTES + 1] == FAREWELL_GOES) {
        note_going(host, from);
        replica_peer_gone(host->replica, from->id);
        say(host, from->id, FAREWELL_KNOWN);
    } else if (message.data[ENVELOPE_BYTES + 1] == FAREWELL_KNOWN) {
        stop_waiting_for(host, from->id);
    }
    return true;
}

void host_leave(struct host *host)
{
    if (host_state(host) == HOST_ALONE) return;
    atomic_store(&host->leave_wanted, true);
    uv_async_send(&host->wake);
}

void host_leave_turn(struct host *host)
{
    const struct rangemap *map;
    if (host->leave_said || !atomic_load(&host->leave_wanted) || host->replica == NULL) return;
    host->leave_said = true;
    map = replica_map(host->replica);
    for (size_t i = 0; i < rangemap_member_count(map); i++) {
        struct member member = rangemap_member(map, i);
        node_id id = member.id;
        if (member.state == MEMBER_EXCLUDED || !topology_is_up(host->replica, id)) continue;
        host->unaware[host->unaware_count++] = id;
        say(host, id, FAREWELL_GOES);
    }
    log_line(LOG_LEVEL_INFO, "cluster.goes", log_number("told", host->unaware_count));
}

/* What others, and clients, asked for is done, and has left. */
static bool is_quiet(const struct host *host)
{
    struct replica_stats stats;
    replica_stats(host->replica, &stats);
    return stats.flow_count == 0 && stats.held_count == 0 && host->works.under_way == 0 &&
           host->works.waiting_first == NULL && !peers_have_to_write(host->peers);
}

bool host_may_stop(void *context)
{
    struct host *host = context;
    uint64_t now_ms = host_time().now_ms;
    if (host->replica == NULL || !atomic_load(&host->leave_wanted)) return true;
    if (host->stop_ms == 0) host->stop_ms = now_ms + HOST_LEAVE_MS;
    if (host->leave_said && host->unaware_count == 0 && is_quiet(host)) return true;
    if (now_ms < host->stop_ms) return false;
    log_line(LOG_LEVEL_WARN, "cluster.went_unheard", log_number("nodes", host->unaware_count));
    return true;
}
