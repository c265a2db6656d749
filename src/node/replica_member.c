/* Who is waited for, who serves, and who is kept out.
 *
 *     suspended   a member that is down, or does not keep up, for MEMBER_SILENT_MS: the map says that
 *                 nobody waits for it. It keeps its shards and its data. Once it is up and has
 *                 acknowledged such a map it is active again
 *     away        what a node is after a start until a member shows that it has no newer map: it may
 *                 have been suspended meanwhile, or owns nothing any more
 *     unknown     what it is until its start is on record at the registrars that are there: its disk may
 *                 be one from before, which lacks what this node acknowledged since
 *     excluded    for good: its messages count for nothing, and it does nothing, once it knows. Who is
 *                 no member any more is kept out alike
 *
 * Who is away, unknown or suspended takes writes, which can only make its data newer, and serves nothing.
 * docs/design/moves.md has the reasons. */
#include "base/check.h"
#include "base/math.h"
#include "base/planted.h"
#include "node/replica_private.h"

enum {
    MEMBER_SILENT_MS = 30000, /* Then it is suspended. */
    MEMBER_BEHIND_MS =
        30000,              /* Since the newest map, which it has not acknowledged: it is silent. */
    MEMBER_STATES_MAX = 16, /* Changed in one proposal. */
};

/* --- This node --- */

bool replica_is_kept_out(const struct replica *replica)
{
    struct member self;
    return !rangemap_member_find(replica->map, replica->self.id, &self) ||
           self.state == MEMBER_EXCLUDED || self.incarnation != replica->self.incarnation;
}

bool replica_serves(const struct replica *replica)
{
    struct member self;
    if (replica_is_kept_out(replica)) return planted(BUG_EXCLUDED_SERVES);
    if (planted(BUG_SUSPENDED_SERVES)) return true;
    CHECK(rangemap_member_find(replica->map, replica->self.id, &self));
    return self.state == MEMBER_ACTIVE && !replica->topology.away && !replica->topology.unknown;
}

/* Whether others alone decide what the map is. */
static bool can_be_left_behind(const struct replica *replica)
{
    const node_id *ids;
    size_t count = rangemap_registrars(replica->map, &ids), others = 0;
    for (size_t i = 0; i < count; i++) others += ids[i] != replica->self.id;
    return others > count / 2;
}

void replica_members_start(struct replica *replica)
{
    replica->topology.away = can_be_left_behind(replica);
    replica->topology.unknown = !planted(BUG_SERVES_UNKNOWN);
    replica_members_known(replica);
}

static bool is_down(const void *context, node_id id)
{
    return replica_is_down(context, id);
}

void replica_members_known(struct replica *replica)
{
    if (!replica->topology.unknown) return;
    replica->topology.unknown = !boots_is_known(&replica->topology.boots, is_down, replica);
}

void replica_members_met(struct replica *replica, node_id from, uint64_t number)
{
    struct member member;
    if (!replica->topology.away || number > rangemap_identity(replica->map)->number) return;
    if (!rangemap_member_find(replica->map, from, &member)) return;
    replica->topology.away = false;
    TRACE(replica->trace, "n%u has no newer map: serves from now on", from);
}

bool replica_is_recorded(const struct replica *replica)
{
    return boots_is_recorded(&replica->topology.boots);
}

/* --- Others --- */

bool replica_keeps_out(const struct replica *replica, node_id from)
{
    struct member member;
    if (planted(BUG_EXCLUDED_HEARD)) return false;
    if (rangemap_member_find(replica->map, from, &member)) return member.state == MEMBER_EXCLUDED;
    return from < rangemap_next_id(replica->map); /* It was one; ids are given once. */
}

/* In the order of members; what is known of those that stay, stays. */
void replica_members_map_changed(struct replica *replica)
{
    struct replica_topology *topology = &replica->topology;
    size_t count = rangemap_member_count(replica->map), old = 0;
    struct silence *list = heap_alloc(replica->heap, (count + 1) * sizeof *list);
    for (size_t i = 0; list != NULL && i < count; i++) {
        struct member member = rangemap_member(replica->map, i);
        list[i] = (struct silence){.id = member.id};
        while (old < topology->silence_count && topology->silences[old].id < member.id) old++;
        if (old < topology->silence_count && topology->silences[old].id == member.id)
            list[i] = topology->silences[old];
        if (member.state != MEMBER_SUSPENDED)
            list[i].suspended = 0;
        else if (list[i].suspended == 0)
            list[i].suspended = rangemap_identity(replica->map)->number;
    }
    heap_free(replica->heap, topology->silences);
    topology->silences = list;
    topology->silence_count = list == NULL ? 0 : count;
    topology->adopted_ms = replica->time.now_ms;
}

static uint64_t acknowledged_by(const struct replica *replica, node_id id)
{
    const struct health_card *card = health_card_of(replica->health, id);
    return card == NULL ? 0 : card->acknowledged;
}

static bool is_silent(const struct replica *replica, const struct member *member)
{
    const struct replica_topology *topology = &replica->topology;
    if (member->id == replica->self.id || member->state == MEMBER_EXCLUDED) return false;
    if (replica_is_down(replica, member->id)) return true;
    return replica->time.now_ms >= topology->adopted_ms + MEMBER_BEHIND_MS &&
           acknowledged_by(replica, member->id) < rangemap_identity(replica->map)->number;
}

void replica_members_watch(struct replica *replica)
{
    struct replica_topology *topology = &replica->topology;
    for (size_t i = 0; i < topology->silence_count; i++) {
        struct member member = rangemap_member(replica->map, i);
        struct silence *silence = &topology->silences[i];
        if (!is_silent(replica, &member))
            silence->since_ms = 0;
        else if (silence->since_ms == 0)
            silence->since_ms = u64_max(1, replica->time.now_ms);
    }
}

/* It has a map that says that it is suspended, as everybody else has. */
static bool is_back(const struct replica *replica, const struct silence *silence)
{
    uint64_t acknowledged = silence->id == replica->self.id ? replica->topology.acknowledged
                                                            : acknowledged_by(replica, silence->id);
    return silence->since_ms == 0 && acknowledged >= silence->suspended &&
           acknowledged >= replica->topology.retired;
}

size_t replica_members_add(const struct replica *replica, struct buf *delta)
{
    const struct replica_topology *topology = &replica->topology;
    size_t count = 0;
    for (size_t i = 0; i < topology->silence_count && count < MEMBER_STATES_MAX; i++) {
        struct member member = rangemap_member(replica->map, i);
        const struct silence *silence = &topology->silences[i];
        struct change change = {.kind = CHANGE_MEMBER_STATE, .member.id = member.id};
        bool falls = member.state == MEMBER_ACTIVE && silence->since_ms != 0 &&
                     replica->time.now_ms - silence->since_ms >= MEMBER_SILENT_MS;
        bool rises = member.state == MEMBER_SUSPENDED && is_back(replica, silence);
        if (!falls && !rises) continue;
        change.member.state = falls ? MEMBER_SUSPENDED : MEMBER_ACTIVE;
        rangemap_delta_add(delta, &change);
        count++;
    }
    return count;
}

/* --- Exclusion --- */

/* Next owners that reads ask already and that are not known to be complete are as good as lost. */
static bool is_at_risk(const struct replica *replica, const struct shard *shard, node_id id)
{
    size_t lost = 0;
    if (shard->stage != SHARD_SWITCHED || !owners_contain(&shard->next, id)) return false;
    for (size_t i = 0; i < shard->next.count; i++) {
        struct member member;
        node_id next = shard->next.ids[i];
        CHECK(rangemap_member_find(replica->map, next, &member));
        bool gone = next == id || member.state == MEMBER_EXCLUDED;
        lost += gone || !replica_is_known_synced(replica, shard, next);
    }
    return lost >= shard->next.write_quorum;
}

size_t replica_next_at_risk(const struct replica *replica, node_id id, size_t index)
{
    size_t next = rangemap_next_at_risk(replica->map, id, index);
    for (size_t i = 0; i < replica->shares.moving.count; i++) {
        size_t moving = replica->shares.moving.at[i];
        struct shard shard = rangemap_shard(replica->map, moving);
        if (moving >= next) break;
        if (moving >= index && is_at_risk(replica, &shard, id)) return moving;
    }
    return next;
}
