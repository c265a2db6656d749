/* What the next map is to be, as far as this node has a say.
 *
 *     SWITCH      when max(R, RF - W + 1) next owners are synced
 *     FINISH      when all of them are, and who goes has left nothing behind
 *     ABORT       when one that comes is suspended or excluded: placement looks for another one
 *
 * Proposals come from the first member that is up, in its own view; two that think so do no harm, for
 * the register chooses one. What is proposed: arrows that are due, changes that people asked for,
 * members that fell silent or are back, members that are gone, cuts, and then what placement wants. */
#include "base/check.h"
#include "base/math.h"
#include "base/planted.h"
#include "cluster/placement.h"
#include "cluster/rangemap_delta.h"
#include "cluster/topology_message.h"
#include "node/replica_private.h"

enum {
    MOVES_AT_ONCE = 8,         /* Of one proposal. */
    MOVES_PER_NODE = 4,        /* Shards that one node is being given at a time. */
    PROPOSE_HEARD_MAX = 16384, /* Reports kept. */
    PROPOSE_FRESH_MS = 10000,  /* A report is told again each second. */
    PROPOSE_JOIN_MS = 10000,   /* A directory that wants to join asks again and again. */
};

/* --- Who proposes, and what it has heard --- */

node_id replica_proposer(const struct replica *replica)
{
    for (size_t i = 0; i < rangemap_member_count(replica->map); i++) {
        struct member member = rangemap_member(replica->map, i);
        bool up = member.id == replica->self.id || !replica_is_down(replica, member.id);
        if (member.state == MEMBER_ACTIVE && up) return member.id;
    }
    return replica->self.id;
}

static struct heard *find_heard(const struct replica *replica, uint64_t hash, node_id node)
{
    const struct replica_moves *moves = &replica->moves;
    for (size_t i = 0; i < moves->heard_count; i++)
        if (moves->heard[i].low_hash == hash && moves->heard[i].node == node)
            return &moves->heard[i];
    return NULL;
}

/* What is told of a shard that does not move here, or by who has no part in it, is nothing: it comes
 * again, if it should count. */
static bool is_of_use(const struct replica *replica, node_id from, struct slice low, uint64_t began)
{
    struct slice key = low.size == 0 ? REPLICA_KEY_FIRST : low;
    struct shard shard = rangemap_shard(replica->map, rangemap_find(replica->map, key));
    return slice_equal(shard.low, low) && shard.began == began &&
           replica_filling_part(&shard, from) != FILLING_NONE;
}

static void hear(struct replica *replica, node_id from, struct slice low, uint64_t began)
{
    struct replica_moves *moves = &replica->moves;
    struct heard heard = {replica_low_hash(low), began, replica->time.now_ms, from};
    if (!is_of_use(replica, from, low, began)) return;
    struct heard *known = find_heard(replica, heard.low_hash, from);
    if (known != NULL) {
        *known = heard;
        return;
    }
    if (moves->heard_count == PROPOSE_HEARD_MAX) moves->heard_count = 0; /* It is told again. */
    if (moves->heard_count == moves->heard_capacity) {
        size_t capacity = size_max(64, moves->heard_capacity * 2);
        struct heard *more = heap_realloc(replica->heap, moves->heard, capacity * sizeof *more);
        if (more == NULL) return;
        moves->heard = more;
        moves->heard_capacity = capacity;
    }
    moves->heard[moves->heard_count++] = heard;
}

static bool is_fresh(const struct replica *replica, const struct heard *heard)
{
    return replica->time.now_ms < heard->heard_ms + PROPOSE_FRESH_MS;
}

static bool has_heard(const struct replica *replica, const struct shard *shard, node_id node)
{
    const struct heard *heard = find_heard(replica, replica_low_hash(shard->low), node);
    return heard != NULL && heard->began == shard->began && is_fresh(replica, heard);
}

static void forget_stale(struct replica *replica)
{
    struct replica_moves *moves = &replica->moves;
    size_t kept = 0;
    for (size_t i = 0; i < moves->heard_count; i++)
        if (is_fresh(replica, &moves->heard[i])) moves->heard[kept++] = moves->heard[i];
    moves->heard_count = kept;
}

void replica_moves_synced(struct replica *replica, node_id from,
                          const struct topology_message *message)
{
    struct slice rest = message->shards, low;
    uint64_t began;
    if (message->generation != rangemap_identity(replica->map)->generation) return;
    while (topology_shard_next(&rest, &low, &began)) hear(replica, from, low, began);
}

/* --- Arrows --- */

static enum member_state state_of(const struct replica *replica, node_id id)
{
    struct member member;
    CHECK(rangemap_member_find(replica->map, id, &member));
    return member.state;
}

/* Who has nothing to do is so as well. */
bool replica_is_known_synced(const struct replica *replica, const struct shard *shard, node_id id)
{
    return replica_filling_part(shard, id) == FILLING_NONE || has_heard(replica, shard, id);
}

static unsigned count_synced(const struct replica *replica, const struct shard *shard)
{
    unsigned count = 0;
    for (size_t i = 0; i < shard->next.count; i++)
        count += replica_is_known_synced(replica, shard, shard->next.ids[i]);
    return count;
}

/* Those that go, and are waited for, have compared what they have. */
static bool nothing_is_left(const struct replica *replica, const struct shard *shard)
{
    for (size_t i = 0; i < shard->owners.count; i++) {
        node_id id = shard->owners.ids[i];
        if (replica_filling_part(shard, id) != FILLING_GOES) continue;
        if (state_of(replica, id) == MEMBER_ACTIVE && !has_heard(replica, shard, id)) return false;
    }
    return true;
}

static bool is_in_vain(const struct replica *replica, const struct shard *shard)
{
    for (size_t i = 0; i < shard->next.count; i++) {
        node_id id = shard->next.ids[i];
        enum member_state state = state_of(replica, id);
        bool comes = replica_is_next_only(shard, id);
        if (state == MEMBER_EXCLUDED || (comes && state == MEMBER_SUSPENDED)) return true;
    }
    return false;
}

static bool any_suspended(const struct replica *replica, const struct owners *owners)
{
    for (size_t i = 0; i < owners->count; i++)
        if (state_of(replica, owners->ids[i]) == MEMBER_SUSPENDED) return true;
    return false;
}

/* Those that were not waited for can do nothing among themselves. Of who is excluded somebody said
 * that it is gone for good: alone they do not keep a shard where it is. */
static bool may_pass(const struct replica *replica, const struct shard *shard, bool *forced)
{
    *forced = !rangemap_stage_passes(replica->map, shard);
    return !*forced ||
           (!any_suspended(replica, &shard->owners) && !any_suspended(replica, &shard->next));
}

static bool is_due(const struct replica *replica, const struct shard *shard, struct change *change)
{
    /* Nobody goes by the stage before any more. */
    if (replica->topology.retired < shard->began && !planted(BUG_ARROW_EARLY)) return false;
    if (!may_pass(replica, shard, &change->forced)) return false;
    if (is_in_vain(replica, shard)) {
        change->kind = CHANGE_ABORT;
        return true;
    }
    unsigned synced = count_synced(replica, shard);
    if (shard->stage == SHARD_SWITCHED) {
        change->kind = CHANGE_FINISH;
        return synced == shard->next.count && nothing_is_left(replica, shard);
    }
    const struct owners *next = &shard->next;
    unsigned need = (unsigned)(next->count - next->write_quorum + 1);
    if (need < next->read_quorum) need = next->read_quorum;
    if (planted(BUG_SWITCH_TOO_FEW)) need = 1;
    change->kind = CHANGE_SWITCH;
    return synced >= need;
}

static size_t add_arrows(const struct replica *replica, struct buf *delta)
{
    size_t count = 0;
    for (size_t i = 0; i < replica->shares.moving.count && count < 4 * MOVES_AT_ONCE; i++) {
        struct shard shard = rangemap_shard(replica->map, replica->shares.moving.at[i]);
        struct change change = {.low = shard.low};
        if (!is_due(replica, &shard, &change)) continue;
        rangemap_delta_add(delta, &change);
        count++;
    }
    return count;
}

/* --- What is due besides --- */

/* Whether what was asked for is so already. */
static bool is_granted(const struct replica *replica, const struct change *change)
{
    struct member member;
    if (change->kind == CHANGE_MEMBER_ADD) {
        for (size_t i = 0; i < rangemap_member_count(replica->map); i++)
            if (rangemap_member(replica->map, i).incarnation == change->member.incarnation)
                return true;
        return false;
    }
    if (!rangemap_member_find(replica->map, change->member.id, &member)) return true;
    if (change->kind == CHANGE_MEMBER_FORGOT) return member.forgot;
    if (change->kind == CHANGE_MEMBER_LEAVING) return member.leaving == change->member.leaving;
    return member.state == change->member.state;
}

static bool applies(const struct replica *replica, const struct buf *delta)
{
    struct rangemap *next;
    const char *why = NULL;
    if (buf_status(delta) != STATUS_OK) return false;
    enum status status = rangemap_apply(replica->map, buf_slice(delta), &why, &next);
    if (status == STATUS_OK) rangemap_unref(next);
    if (why != NULL) TRACE(replica->trace, "cannot propose: %s", why);
    return status == STATUS_OK;
}

static void forget_wishes(struct replica *replica)
{
    struct replica_moves *moves = &replica->moves;
    size_t kept = 0;
    for (size_t i = 0; i < moves->wish_count; i++) {
        const struct wish *wish = &moves->wishes[i];
        if (replica->time.now_ms >= wish->until_ms || is_granted(replica, &wish->change)) continue;
        moves->wishes[kept++] = *wish;
    }
    moves->wish_count = kept;
}

/* Who is up hands over what it has; who is not cannot. */
static void add_replaced(const struct replica *replica, node_id id, struct buf *delta)
{
    struct member member;
    if (!rangemap_member_find(replica->map, id, &member)) return;
    struct change change = {.kind = CHANGE_MEMBER_LEAVING,
                            .member = {.id = id, .leaving = true, .state = MEMBER_EXCLUDED}};
    if (member.state == MEMBER_SUSPENDED) change.kind = CHANGE_MEMBER_STATE;
    bool is_so = member.state == MEMBER_EXCLUDED ||
                 (change.kind == CHANGE_MEMBER_LEAVING && member.leaving);
    if (!is_so) rangemap_delta_add(delta, &change);
}

static bool needs_force(const struct replica *replica, const struct wish *wish)
{
    const struct change *change = &wish->change;
    bool excludes = change->kind == CHANGE_MEMBER_STATE && change->member.state == MEMBER_EXCLUDED;
    node_id id = excludes ? change->member.id : wish->replaces;
    struct member member;
    if (id == 0 || !rangemap_member_find(replica->map, id, &member)) return false;
    if (!excludes && member.state != MEMBER_SUSPENDED) return false;
    return !change->forced &&
           replica_next_at_risk(replica, id, 0) < rangemap_shard_count(replica->map);
}

/* The first that the map takes: others may become possible, and keep nobody waiting. */
static size_t add_wishes(struct replica *replica, struct buf *delta)
{
    struct replica_moves *moves = &replica->moves;
    forget_wishes(replica);
    for (size_t i = 0; i < moves->wish_count; i++) {
        const struct wish *wish = &moves->wishes[i];
        struct change change = wish->change;
        if (needs_force(replica, wish)) continue;
        if (change.kind == CHANGE_MEMBER_ADD) {
            if (rangemap_next_id(replica->map) > NODE_ID_MAX) continue;
            change.member.id = (node_id)rangemap_next_id(replica->map);
        }
        change.member.zone = slice_from_text(wish->zone);
        change.member.address = slice_from_text(wish->address);
        rangemap_delta_add(delta, &change);
        add_replaced(replica, wish->replaces, delta);
        if (applies(replica, delta)) return 1;
        rangemap_delta_begin(replica->map, delta);
    }
    return 0;
}

static bool owns_anything(const struct rangemap *map, node_id id)
{
    for (size_t i = 0; i < rangemap_shard_count(map); i++) {
        struct shard shard = rangemap_shard(map, i);
        if (owners_contain(&shard.owners, id) || owners_contain(&shard.next, id)) return true;
    }
    return false;
}

/* Nobody is to count on its vote any more: without that it could be the only registrar that is left. */
static size_t add_forgot(const struct replica *replica, struct buf *delta)
{
    struct member self;
    if (!replica->starts.rolled_back) return 0;
    if (!rangemap_member_find(replica->map, replica->self.id, &self) || self.forgot) return 0;
    struct change change = {.kind = CHANGE_MEMBER_FORGOT, .member.id = replica->self.id};
    rangemap_delta_add(delta, &change);
    return 1;
}

bool replica_is_leaving(const struct replica *replica)
{
    struct member self;
    return rangemap_member_find(replica->map, replica->self.id, &self) && self.leaving;
}

/* What it owes to others, and what somebody may still ask it for, only who leaves knows itself. */
static bool has_left(const struct replica *replica)
{
    if (planted(BUG_LEAVES_WITH_HINTS)) return replica->shares.owned.count == 0;
    return replica_is_leaving(replica) && replica->shares.owned.count == 0 &&
           replica->topology.older_count == 0 && replica_hint_total(replica) == 0;
}

static void add_removal(struct buf *delta, node_id id)
{
    rangemap_delta_add(delta, &(struct change){.kind = CHANGE_MEMBER_REMOVE, .member.id = id});
}

static size_t add_removals(const struct replica *replica, bool first, struct buf *delta)
{
    if (has_left(replica)) {
        add_removal(delta, replica->self.id);
        return 1;
    }
    for (size_t i = 0; first && i < rangemap_member_count(replica->map); i++) {
        struct member member = rangemap_member(replica->map, i);
        if (member.state != MEMBER_EXCLUDED || owns_anything(replica->map, member.id)) continue;
        add_removal(delta, member.id);
        return 1;
    }
    return 0;
}

static size_t add_moves(const struct replica *replica, struct buf *delta)
{
    struct placement_move plan[MOVES_AT_ONCE];
    struct placement_bounds bounds = {.moves_max = MOVES_AT_ONCE, .node_moves_max = MOVES_PER_NODE};
    size_t shards = rangemap_shard_count(replica->map), count = 0;
    struct shard_weight *weights = heap_alloc(replica->heap, shards * sizeof *weights);
    if (weights == NULL) return 0;
    for (size_t i = 0; i < shards; i++) weights[i] = (struct shard_weight){1, 0};
    enum status status =
        placement_plan(replica->map, weights, &bounds, replica->heap, plan, &count);
    heap_free(replica->heap, weights);
    if (status != STATUS_OK) return 0;
    for (size_t i = 0; i < count; i++) {
        struct change change = {.kind = CHANGE_BEGIN,
                                .low = rangemap_shard(replica->map, plan[i].shard).low,
                                .next_count = plan[i].next_count};
        for (size_t j = 0; j < plan[i].next_count; j++) change.next[j] = plan[i].next[j];
        rangemap_delta_add(delta, &change);
    }
    return count;
}

/* One kind of change at a time: each may be refused for another reason. */
void replica_propose(struct replica *replica)
{
    bool first = replica_proposer(replica) == replica->self.id;
    struct buf delta = {.heap = replica->heap};
    forget_stale(replica);
    rangemap_delta_begin(replica->map, &delta);
    size_t count = first ? add_arrows(replica, &delta) : 0;
    if (count == 0) count = add_forgot(replica, &delta);
    if (count == 0) count = add_wishes(replica, &delta);
    if (count == 0 && first) count = replica_members_add(replica, &delta);
    if (count == 0) count = add_removals(replica, first, &delta);
    if (count == 0) count = replica_splits_add(replica, &delta);
    bool room = replica->shares.moving.count < 2 * MOVES_AT_ONCE;
    if (count == 0 && first && room) count = add_moves(replica, &delta);
    if (count > 0 && applies(replica, &delta)) {
        enum status status = register_propose(&replica->topology.reg, buf_slice(&delta),
                                              replica->time.now_ms, &replica->prng,
                                              &replica->outbox);
        (void)status; /* Busy, or decided meanwhile: there is a next time. */
    }
    buf_deinit(&delta);
}

/* --- Asked for --- */

/* Directories that want to join leave room for what people ask for. */
static bool has_room(const struct replica_moves *moves, enum change_kind kind)
{
    size_t count = 0;
    for (size_t i = 0; i < moves->wish_count; i++)
        count += (moves->wishes[i].change.kind == CHANGE_MEMBER_ADD) == (kind == CHANGE_MEMBER_ADD);
    return count < REPLICA_WISHES_MAX;
}

static struct wish *find_wish(struct replica_moves *moves, const struct change *change)
{
    for (size_t i = 0; i < moves->wish_count; i++) {
        const struct change *other = &moves->wishes[i].change;
        if (other->kind == change->kind && other->member.id == change->member.id &&
            other->member.incarnation == change->member.incarnation)
            return &moves->wishes[i];
    }
    return NULL;
}

static bool is_sound(const struct change *change)
{
    return change->member.zone.size <= RANGEMAP_ZONE_BYTES_MAX &&
           change->member.address.size <= RANGEMAP_ADDRESS_BYTES_MAX;
}

/* What a text borrows stays with the wish. */
static void keep_text(char *to, struct slice text)
{
    if (text.size > 0) memcpy(to, text.data, text.size);
}

static bool wish_for(struct replica *replica, const struct change *change, node_id replaces)
{
    struct replica_moves *moves = &replica->moves;
    struct wish *wish = find_wish(moves, change);
    if (is_granted(replica, change)) {
        /* What was wished for before may not have become so yet. */
        if (wish == NULL) return true;
        *wish = moves->wishes[--moves->wish_count];
        register_withdraw(&replica->topology.reg);
        return true;
    }
    if (wish == NULL) {
        if (!has_room(moves, change->kind) || !is_sound(change)) return false;
        wish = &moves->wishes[moves->wish_count++];
        replica->topology.moves_ms = 0;
    }
    *wish = (struct wish){.change = *change, .until_ms = UINT64_MAX, .replaces = replaces};
    keep_text(wish->zone, change->member.zone);
    keep_text(wish->address, change->member.address);
    if (change->kind == CHANGE_MEMBER_ADD) wish->until_ms = replica->time.now_ms + PROPOSE_JOIN_MS;
    return false;
}

bool replica_change(struct replica *replica, const struct change *change)
{
    return wish_for(replica, change, 0);
}

void replica_moves_join(struct replica *replica, const struct member *member, node_id replaces)
{
    wish_for(replica, &(struct change){.kind = CHANGE_MEMBER_ADD, .member = *member}, replaces);
}

void replica_join_ask(const struct member *member, node_id replaces, struct buf *out)
{
    topology_message_encode(
        &(struct topology_message){.kind = TOPOLOGY_JOIN, .member = *member, .replaces = replaces},
        out);
}

bool replica_join_answer(struct replica *replica, struct replica_time time, struct slice ask,
                         struct buf *answer)
{
    struct topology_message message;
    replica->time = replica_clock_look(replica, time);
    if (topology_message_decode(ask, &message) != STATUS_OK || message.kind != TOPOLOGY_JOIN) {
        replica->stats.invalid_count++;
        return false;
    }
    struct change change = {.kind = CHANGE_MEMBER_ADD, .member = message.member};
    if (!wish_for(replica, &change, message.replaces)) return false;
    rangemap_encode(replica->map, answer);
    return buf_status(answer) == STATUS_OK;
}

enum status replica_join_take(struct heap *heap, struct slice answer, uint64_t incarnation,
                              struct rangemap **map, node_id *id)
{
    struct rangemap *decoded;
    enum status status = rangemap_decode(heap, answer, &decoded);
    if (status != STATUS_OK) return status;
    for (size_t i = 0; i < rangemap_member_count(decoded); i++) {
        struct member member = rangemap_member(decoded, i);
        if (member.incarnation != incarnation || member.state == MEMBER_EXCLUDED) continue;
        *map = decoded;
        *id = member.id;
        return STATUS_OK;
    }
    rangemap_unref(decoded);
    return STATUS_NOT_FOUND;
}
