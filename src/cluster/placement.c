#include "cluster/placement.h"

#include <string.h>

#include "base/check.h"
#include "base/math.h"
#include "cluster/placement_private.h"

enum {
    TOLERANCE = PLACEMENT_EVEN * PLACEMENT_TOLERANCE_PERCENT / 100,
    MARGIN = PLACEMENT_EVEN / 20, /* A move gains at least this, so that none is undone. */
    NEW_PAIR = PLACEMENT_EVEN / 8,
    DONOR_COUNT = 4,        /* The fullest nodes that balancing looks at for one that is not, */
    DONOR_COUNT_MAX = 32,   /* and how many when these have no shard that it may have. */
    DONOR_SHARDS_MAX = 256, /* Of each, so that the cost stays bounded where one has them all. */
    WHOLE_SETS_MAX = 4,     /* Of each: shards that are tried with several new owners. */
    NOBODY = UINT16_MAX,
    ANY_ZONE = UINT16_MAX,
};

/* A set of owners that is being put together. */
struct choice {
    size_t count;
    uint16_t nodes[RANGEMAP_OWNERS_MAX];
};

static bool choice_has(const struct choice *choice, uint16_t node)
{
    for (size_t i = 0; i < choice->count; i++) {
        if (choice->nodes[i] == node) return true;
    }
    return false;
}

static void choice_remove(struct choice *choice, size_t index)
{
    choice->count--;
    memmove(&choice->nodes[index], &choice->nodes[index + 1],
            (choice->count - index) * sizeof choice->nodes[0]);
}

static uint32_t count_zone(const struct placing *placing, const struct choice *choice,
                           uint16_t zone)
{
    uint32_t count = 0;
    for (size_t i = 0; i < choice->count; i++) {
        count += placing->nodes[choice->nodes[i]].zone == zone;
    }
    return count;
}

/* --- Pairs --- */

static uint32_t *pair(struct placing *placing, uint16_t a, uint16_t b)
{
    return &placing->pairs[(size_t)a * placing->node_count + b];
}

static void change_pairs(struct placing *placing, const struct place_shard *shard, bool add)
{
    for (size_t i = 0; i < shard->count; i++) {
        for (size_t j = 0; j < shard->count; j++) {
            if (i == j) continue;
            uint32_t *shared = pair(placing, shard->nodes[i], shard->nodes[j]);
            if (add && (*shared)++ == 0) placing->nodes[shard->nodes[i]].peers++;
            if (!add && --*shared == 0) placing->nodes[shard->nodes[i]].peers--;
        }
    }
}

/* What it costs to make peers of two nodes, in parts of PLACEMENT_EVEN: a bit of imbalance is
 * better than another peer, unless both have too few; beyond the most nothing pays it. */
static uint64_t pair_cost(struct placing *placing, uint16_t a, uint16_t b)
{
    if (*pair(placing, a, b) > 0) return 0;
    uint16_t a_peers = placing->nodes[a].peers;
    uint16_t b_peers = placing->nodes[b].peers;
    if (a_peers >= PLACEMENT_PEERS_MAX || b_peers >= PLACEMENT_PEERS_MAX) return PLACEMENT_NEVER;
    bool few = a_peers < PLACEMENT_PEERS_MIN && b_peers < PLACEMENT_PEERS_MIN;
    return few ? 0 : NEW_PAIR;
}

static uint64_t pairs_cost(struct placing *placing, const struct choice *choice, uint16_t node)
{
    uint64_t cost = 0;
    for (size_t i = 0; i < choice->count; i++) {
        if (choice->nodes[i] != node) cost += pair_cost(placing, choice->nodes[i], node);
    }
    return cost;
}

/* --- Choosing one node --- */

static bool may_receive(const struct placing *placing, uint16_t node)
{
    const struct place_node *row = &placing->nodes[node];
    size_t max = placing->bounds->node_moves_max;
    return row->receives && (max == 0 || row->moves_in < max);
}

/* The node that costs least beside `choice`: how full it would be, and its new peers. NOBODY when
 * none may. */
static uint16_t pick(struct placing *placing, const struct choice *choice, uint32_t weight,
                     uint32_t zone_limit, uint64_t *cost)
{
    uint16_t best = NOBODY;
    *cost = UINT64_MAX;
    for (uint16_t node = 0; node < placing->node_count; node++) {
        if (!may_receive(placing, node) || choice_has(choice, node)) continue;
        if (count_zone(placing, choice, placing->nodes[node].zone) >= zone_limit) continue;
        uint64_t ratio = placing_ratio(&placing->nodes[node], weight);
        if (ratio >= *cost) continue;
        uint64_t total = ratio + pairs_cost(placing, choice, node);
        if (total >= *cost) continue;
        *cost = total;
        best = node;
    }
    return best;
}

/* --- Moves --- */

static bool is_full(const struct placing *placing)
{
    const struct placement_bounds *bounds = placing->bounds;
    return placing->move_count >= bounds->moves_max ||
           (bounds->bytes_max > 0 && placing->moved_bytes >= bounds->bytes_max);
}

static bool place_shard_has(const struct place_shard *shard, uint16_t node)
{
    for (size_t i = 0; i < shard->count; i++) {
        if (shard->nodes[i] == node) return true;
    }
    return false;
}

static void sort_nodes(struct choice *choice)
{
    for (size_t i = 1; i < choice->count; i++) {
        for (size_t j = i; j > 0 && choice->nodes[j - 1] > choice->nodes[j]; j--) {
            uint16_t swapped = choice->nodes[j];
            choice->nodes[j] = choice->nodes[j - 1];
            choice->nodes[j - 1] = swapped;
        }
    }
}

/* Writes the move down, and counts from now on as if it were done. */
static void move_shard(struct placing *placing, size_t index, struct choice *choice)
{
    struct place_shard *shard = &placing->shards[index];
    struct placement_move *move = &placing->moves[placing->move_count++];
    sort_nodes(choice); /* Indices are in the order of ids. */
    *move = (struct placement_move){.shard = index, .next_count = (uint8_t)choice->count};
    for (size_t i = 0; i < choice->count; i++) {
        uint16_t node = choice->nodes[i];
        move->next[i] = placing->nodes[node].id;
        if (place_shard_has(shard, node)) continue;
        move->added_count++;
        placing->nodes[node].moves_in++;
    }
    placing->moved_bytes += move->added_count * placing->weights[index].bytes;

    change_pairs(placing, shard, false);
    for (size_t i = 0; i < shard->count; i++) {
        placing->nodes[shard->nodes[i]].load -= shard->weight;
    }
    shard->count = (uint8_t)choice->count;
    memcpy(shard->nodes, choice->nodes, choice->count * sizeof choice->nodes[0]);
    for (size_t i = 0; i < shard->count; i++) {
        placing->nodes[shard->nodes[i]].load += shard->weight;
    }
    change_pairs(placing, shard, true);
    shard->fixed = true;
}

/* --- What a shard must have --- */

static size_t count_lost(const struct placing *placing, size_t index)
{
    const struct place_shard *shard = &placing->shards[index];
    size_t lost = 0;
    for (size_t i = 0; i < shard->count; i++) lost += !placing->nodes[shard->nodes[i]].keeps;
    return lost;
}

/* Owners beyond the limits of their zones. */
static size_t count_crowded(const struct placing *placing, const struct choice *choice)
{
    size_t crowded = 0;
    for (size_t i = 0; i < choice->count; i++) {
        struct choice before = {.count = i};
        memcpy(before.nodes, choice->nodes, sizeof before.nodes);
        uint16_t zone = placing->nodes[choice->nodes[i]].zone;
        crowded += count_zone(placing, &before, zone) >= placing->zone_limit;
    }
    return crowded;
}

/* The owner to do without: of the zone with the most owners, the fullest. */
static size_t find_spare(const struct placing *placing, const struct choice *choice)
{
    size_t best = 0;
    uint32_t best_zone = 0;
    uint64_t best_ratio = 0;
    for (size_t i = 0; i < choice->count; i++) {
        const struct place_node *node = &placing->nodes[choice->nodes[i]];
        uint32_t zone = count_zone(placing, choice, node->zone);
        uint64_t ratio = placing_ratio(node, 0);
        if (zone < best_zone || (zone == best_zone && ratio <= best_ratio)) continue;
        best = i;
        best_zone = zone;
        best_ratio = ratio;
    }
    return best;
}

/* Owners until there are as many as the factor says; beyond the limit of a zone if need be. */
static bool fill_up(struct placing *placing, struct choice *choice, uint32_t weight)
{
    while (choice->count < placing->factor) {
        uint64_t cost;
        uint16_t node = pick(placing, choice, weight, placing->zone_limit, &cost);
        if (node == NOBODY) node = pick(placing, choice, weight, RANGEMAP_OWNERS_MAX, &cost);
        if (node == NOBODY) return false;
        choice->nodes[choice->count++] = node;
    }
    return true;
}

static bool quorums_differ(const struct placing *placing, size_t index)
{
    struct shard shard = rangemap_shard(placing->map, index);
    const struct owners *owners = &shard.owners;
    return owners->write_quorum != rangemap_write_quorum_of(placing->map, owners->count) ||
           owners->read_quorum != rangemap_read_quorum_of(placing->map, owners->count);
}

/* Moves the shard if its owners are not what they must be. */
static void repair(struct placing *placing, size_t index)
{
    struct place_shard *shard = &placing->shards[index];
    struct choice present = {.count = shard->count};
    memcpy(present.nodes, shard->nodes, sizeof present.nodes);
    size_t crowded = count_crowded(placing, &present);
    bool right = count_lost(placing, index) == 0 && shard->count == placing->factor;
    if (right && crowded == 0 && !quorums_differ(placing, index)) return;

    struct choice choice = present;
    for (size_t i = choice.count; i-- > 0;) {
        if (!placing->nodes[choice.nodes[i]].keeps) choice_remove(&choice, i);
    }
    while (choice.count > placing->factor || count_crowded(placing, &choice) > 0) {
        choice_remove(&choice, find_spare(placing, &choice));
    }
    if (!fill_up(placing, &choice, shard->weight)) {
        shard->fixed = true; /* It waits for nodes, and balance leaves it alone. */
        return;
    }
    /* Nowhere else to go: a crowded zone alone is no reason to copy from one node to another. */
    if (right && count_crowded(placing, &choice) >= crowded) {
        if (!quorums_differ(placing, index)) return;
        choice = present;
    }
    move_shard(placing, index, &choice);
}

/* Those that lost most of their owners first. */
static void repair_all(struct placing *placing)
{
    for (size_t lost = RANGEMAP_OWNERS_MAX + 1; lost-- > 0;) {
        for (size_t i = 0; i < placing->shard_count && !is_full(placing); i++) {
            if (placing->shards[i].fixed || count_lost(placing, i) != lost) continue;
            repair(placing, i);
        }
    }
}

/* --- Balance --- */

struct step {
    size_t shard;
    int64_t gain; /* How much fuller those were who are relieved, less the new pairs. */
    struct choice choice;
};

/* From whom balancing takes: from whoever has more than the receiver will have, or, at first,
 * from those alone who keep their share. */
struct taking {
    uint16_t to;
    uint64_t donor_min; /* No donor falls below. */
    enum {
        SETS_ONE,   /* One owner is replaced. */
        SETS_FULL,  /* And the others that are too full. */
        SETS_WHOLE, /* All of them: dearer, for a shard whose owners can have no more peers. */
    } sets;
};

static bool is_out_of_bounds(uint64_t to_ratio, uint64_t from_ratio)
{
    return to_ratio < PLACEMENT_EVEN - TOLERANCE || from_ratio > PLACEMENT_EVEN + TOLERANCE;
}

/* How full a node would be without a shard that it has. */
static uint64_t ratio_without(const struct place_node *node, uint32_t weight)
{
    struct place_node less = *node;
    less.load -= weight;
    return placing_ratio(&less, 0);
}

static bool may_take(const struct placing *placing, const struct taking *taking,
                     const struct place_shard *shard, uint16_t from)
{
    const struct place_node *to = &placing->nodes[taking->to];
    const struct place_node *donor = &placing->nodes[from];
    uint64_t ratio = placing_ratio(donor, 0);
    return is_out_of_bounds(placing_ratio(to, 0), ratio) &&
           placing_ratio(to, shard->weight) + MARGIN <= ratio &&
           ratio_without(donor, shard->weight) >= taking->donor_min;
}

static bool gives_way(const struct placing *placing, const struct taking *taking,
                      const struct place_shard *shard, uint16_t node)
{
    uint64_t ratio = placing_ratio(&placing->nodes[node], 0);
    return place_shard_has(shard, node) &&
           (taking->sets == SETS_WHOLE || ratio > PLACEMENT_EVEN + TOLERANCE);
}

/* Other owners give way as well, where there is somebody with room: those that are too full, or
 * all of them. A crowd of shards on a few nodes is moved set by set like this, as each node may
 * have but a few peers. */
static void relieve(struct placing *placing, const struct taking *taking, struct step *step)
{
    const struct place_shard *shard = &placing->shards[step->shard];
    struct choice stay = {.count = 0};
    for (size_t i = 0; i < step->choice.count; i++) {
        uint16_t node = step->choice.nodes[i];
        if (!gives_way(placing, taking, shard, node)) stay.nodes[stay.count++] = node;
    }
    for (size_t i = 0; i < step->choice.count; i++) {
        uint16_t node = step->choice.nodes[i];
        if (!gives_way(placing, taking, shard, node)) continue;
        uint64_t cost;
        uint64_t ratio = placing_ratio(&placing->nodes[node], 0);
        uint16_t better = pick(placing, &stay, shard->weight, placing->zone_limit, &cost);
        if (better == NOBODY || choice_has(&step->choice, better)) continue;
        if (taking->sets == SETS_FULL && cost + MARGIN >= ratio) continue;
        if (cost > PLACEMENT_EVEN + TOLERANCE) continue;
        stay.nodes[stay.count++] = better;
        step->choice.nodes[i] = better;
        step->gain += (int64_t)ratio -
                      (int64_t)placing_ratio(&placing->nodes[better], shard->weight);
    }
}

static uint64_t set_cost(struct placing *placing, const struct choice *choice)
{
    uint64_t cost = 0;
    for (size_t a = 0; a < choice->count; a++) {
        for (size_t b = 0; b < a; b++) {
            cost += pair_cost(placing, choice->nodes[a], choice->nodes[b]);
        }
    }
    return cost;
}

static void consider(struct placing *placing, const struct taking *taking, size_t index,
                     struct step *best)
{
    const struct place_shard *shard = &placing->shards[index];
    if (shard->fixed || place_shard_has(shard, taking->to)) return;
    const struct place_node *to = &placing->nodes[taking->to];
    for (size_t i = 0; i < shard->count; i++) {
        if (!may_take(placing, taking, shard, shard->nodes[i])) continue;
        struct step step = {.shard = index, .choice = {.count = shard->count}};
        memcpy(step.choice.nodes, shard->nodes, sizeof step.choice.nodes);
        step.choice.nodes[i] = taking->to;
        uint64_t ratio = placing_ratio(&placing->nodes[shard->nodes[i]], 0);
        step.gain = (int64_t)(ratio - placing_ratio(to, shard->weight));
        if (taking->sets != SETS_ONE) relieve(placing, taking, &step);
        if (count_crowded(placing, &step.choice) > 0) continue;
        uint64_t cost = set_cost(placing, &step.choice);
        if (cost >= PLACEMENT_NEVER) continue;
        step.gain -= (int64_t)cost;
        if (step.gain > best->gain) *best = step;
    }
}

static void consider_shards_of(struct placing *placing, const struct taking *taking, uint16_t node,
                               struct step *best)
{
    struct place_node *row = &placing->nodes[node];
    size_t looked = 0;
    size_t most = taking->sets == SETS_ONE ? DONOR_SHARDS_MAX : WHOLE_SETS_MAX;
    for (size_t i = 0; i < row->list_size && looked < most; i++) {
        size_t shard = placing->lists[row->list + i];
        if (placing->shards[shard].fixed) continue;
        looked++;
        consider(placing, taking, shard, best);
    }
}

/* At most `most` of the fullest nodes of a zone, or of ANY_ZONE, the fullest first. */
static size_t find_donors(const struct placing *placing, uint16_t zone, size_t most,
                          uint16_t *donors)
{
    size_t count = 0;
    for (uint16_t node = 0; node < placing->node_count; node++) {
        const struct place_node *row = &placing->nodes[node];
        if (row->list_size == 0 || (zone != ANY_ZONE && row->zone != zone)) continue;
        uint64_t ratio = placing_ratio(row, 0);
        size_t at = count;
        while (at > 0 && placing_ratio(&placing->nodes[donors[at - 1]], 0) < ratio) at--;
        if (at == most) continue;
        if (count < most) count++;
        memmove(&donors[at + 1], &donors[at], (count - at - 1) * sizeof *donors);
        donors[at] = node;
    }
    return count;
}

/* The fullest nodes of its own zone, which it can always replace, and of all. */
static size_t find_donors_for(const struct placing *placing, uint16_t to, size_t most,
                              uint16_t *donors)
{
    size_t count = find_donors(placing, placing->nodes[to].zone, most, donors);
    return count + find_donors(placing, ANY_ZONE, most, donors + count);
}

/* Gives the node one shard more: of the fullest nodes, or one that a peer of it has. */
static bool give_one(struct placing *placing, uint16_t to, uint64_t donor_min, size_t most)
{
    struct taking taking = {.to = to, .donor_min = donor_min};
    struct step best = {.gain = 0};
    uint16_t donors[2 * DONOR_COUNT_MAX];
    size_t donor_count = find_donors_for(placing, to, most, donors);
    for (size_t i = 0; i < donor_count; i++) {
        taking.sets = SETS_ONE;
        consider_shards_of(placing, &taking, donors[i], &best);
        taking.sets = SETS_FULL;
        consider_shards_of(placing, &taking, donors[i], &best);
    }
    taking.sets = SETS_ONE;
    for (uint16_t node = 0; node < placing->node_count; node++) {
        if (*pair(placing, to, node) == 0) continue;
        consider_shards_of(placing, &taking, node, &best);
    }
    if (best.gain <= 0) return false;
    move_shard(placing, best.shard, &best.choice);
    return true;
}

/* As give_one(), from a node that is too full, with all owners replaced. */
static bool give_set(struct placing *placing, uint16_t to)
{
    struct taking taking = {.to = to, .sets = SETS_WHOLE};
    struct step best = {.gain = 0};
    uint16_t donors[2 * DONOR_COUNT];
    size_t donor_count = find_donors_for(placing, to, DONOR_COUNT, donors);
    for (size_t i = 0; i < donor_count; i++) {
        if (placing_ratio(&placing->nodes[donors[i]], 0) <= PLACEMENT_EVEN + TOLERANCE) continue;
        consider_shards_of(placing, &taking, donors[i], &best);
    }
    if (best.gain <= 0) return false;
    move_shard(placing, best.shard, &best.choice);
    return true;
}

/* Has less than its share, and is being given as much at once as it may. */
static bool is_held_back(const struct placing *placing, uint16_t node)
{
    const struct place_node *row = &placing->nodes[node];
    return row->receives && !row->exhausted && !may_receive(placing, node) &&
           placing_ratio(row, 0) < PLACEMENT_EVEN;
}

/* NOBODY: those that should get more have to wait, and nobody else should meanwhile. What a full node
 * gives to one that has its share already would have to move once more. */
static uint16_t find_emptiest(const struct placing *placing)
{
    uint16_t best = NOBODY;
    uint64_t best_ratio = UINT64_MAX;
    for (uint16_t node = 0; node < placing->node_count; node++)
        if (is_held_back(placing, node)) best_ratio = PLACEMENT_EVEN;
    for (uint16_t node = 0; node < placing->node_count; node++) {
        if (!may_receive(placing, node) || placing->nodes[node].exhausted) continue;
        uint64_t ratio = placing_ratio(&placing->nodes[node], 0);
        if (ratio >= best_ratio) continue;
        best_ratio = ratio;
        best = node;
    }
    return best;
}

static bool is_balanced(const struct placing *placing, uint16_t emptiest)
{
    uint16_t donors[DONOR_COUNT];
    if (find_donors(placing, ANY_ZONE, 1, donors) == 0) return true;
    return !is_out_of_bounds(placing_ratio(&placing->nodes[emptiest], 0),
                             placing_ratio(&placing->nodes[donors[0]], 0));
}

static void balance(struct placing *placing)
{
    while (!is_full(placing)) {
        uint16_t to = find_emptiest(placing);
        if (to == NOBODY || is_balanced(placing, to)) break;
        uint64_t least = PLACEMENT_EVEN - TOLERANCE / 2;
        bool given = give_one(placing, to, least, DONOR_COUNT) ||
                     give_one(placing, to, least, DONOR_COUNT_MAX) ||
                     give_one(placing, to, 0, DONOR_COUNT) || give_set(placing, to);
        if (!given) placing->nodes[to].exhausted = true;
    }
}

/* --- Peers --- */

/* The peer that the node has the fewest shards with. */
static uint16_t find_weakest(struct placing *placing, uint16_t node)
{
    uint16_t best = NOBODY;
    for (uint16_t other = 0; other < placing->node_count; other++) {
        uint32_t shared = *pair(placing, node, other);
        if (shared == 0) continue;
        if (best == NOBODY || shared < *pair(placing, node, best)) best = other;
    }
    return best;
}

/* Another node in place of `node` in one of its shards, which is no new peer to anyone. */
static bool replace_in(struct placing *placing, size_t index, uint16_t node)
{
    const struct place_shard *shard = &placing->shards[index];
    struct choice choice = {.count = 0};
    for (size_t i = 0; i < shard->count; i++) {
        if (shard->nodes[i] != node) choice.nodes[choice.count++] = shard->nodes[i];
    }
    uint64_t cost;
    uint16_t other = pick(placing, &choice, shard->weight, placing->zone_limit, &cost);
    if (other == NOBODY || other == node || cost > PLACEMENT_EVEN + TOLERANCE) return false;
    choice.nodes[choice.count++] = other;
    move_shard(placing, index, &choice);
    return true;
}

/* Nodes that got more peers than they should have, when there was no other way, lose those that
 * they have little in common with. */
static void thin(struct placing *placing)
{
    for (uint16_t node = 0; node < placing->node_count && !is_full(placing); node++) {
        const struct place_node *row = &placing->nodes[node];
        if (row->peers <= PLACEMENT_PEERS_MAX) continue;
        uint16_t peer = find_weakest(placing, node);
        for (size_t i = 0; i < row->list_size && !is_full(placing); i++) {
            size_t index = placing->lists[row->list + i];
            const struct place_shard *shard = &placing->shards[index];
            if (shard->fixed || !place_shard_has(shard, node) || !place_shard_has(shard, peer)) {
                continue;
            }
            if (!replace_in(placing, index, peer)) replace_in(placing, index, node);
        }
    }
}

enum status placement_plan(const struct rangemap *map, const struct shard_weight *weights,
                           const struct placement_bounds *bounds, struct heap *heap,
                           struct placement_move *moves, size_t *move_count)
{
    struct placing placing;
    enum status status = placing_open(&placing, map, weights, bounds, heap);
    if (status != STATUS_OK) return status;
    placing.moves = moves;
    for (size_t i = 0; i < placing.shard_count; i++) {
        change_pairs(&placing, &placing.shards[i], true);
    }
    repair_all(&placing);
    balance(&placing);
    thin(&placing);
    *move_count = placing.move_count;
    placing_close(&placing);
    return STATUS_OK;
}
