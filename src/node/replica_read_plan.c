#include "base/check.h"
#include "cluster/token.h"
#include "node/replica_read.h"

/* --- Who is not to be asked --- */

static const struct avoided *find_avoided(const struct flow_read *read, node_id node, size_t shard,
                                          bool unfilled)
{
    for (size_t i = 0; i < read->avoid_count; i++) {
        const struct avoided *avoided = &read->avoid[i];
        bool about = avoided->node == node && shard >= avoided->first && shard < avoided->end;
        if (about && avoided->unfilled == unfilled) return avoided;
    }
    return NULL;
}

bool read_is_avoided(const struct flow_read *read, node_id node, size_t shard, bool of_all)
{
    if (find_avoided(read, node, shard, false) != NULL) return true;
    return !of_all && find_avoided(read, node, shard, true) != NULL;
}

/* All have another chance. Who is not filled keeps others from being asked in its place, and so it stays. */
void read_avoid_nobody(struct flow_read *read)
{
    size_t kept = 0;
    for (size_t i = 0; i < read->avoid_count; i++)
        if (read->avoid[i].unfilled) read->avoid[kept++] = read->avoid[i];
    read->avoid_count = kept;
}

static void avoid(struct flow_read *read, const struct avoided *what)
{
    if (read->avoid == NULL)
        read->avoid = heap_alloc(read->result.heap, READ_AVOIDED_MAX * sizeof *read->avoid);
    if (read->avoid == NULL) {
        read->no_memory = true;
        return;
    }
    if (read->avoid_count == READ_AVOIDED_MAX) read_avoid_nobody(read);
    if (read->avoid_count == READ_AVOIDED_MAX) read->avoid_count = 0;
    read->avoid[read->avoid_count++] = *what;
}

void read_avoid_everywhere(struct flow_read *read, node_id node)
{
    avoid(read, &(struct avoided){.node = node, .end = SIZE_MAX});
}

/* Who refused may be well able to answer for other shards. */
void read_avoid_refused(struct flow_read *read, const struct ask *ask,
                        const struct data_message *told)
{
    struct slice rest = told->ranges;
    struct key_range range;
    bool unfilled = told->verdict == DATA_UNFILLED && !ask->of_all;
    if (told->range_count == 0) read_avoid_everywhere(read, ask->node);
    while (data_range_next(&rest, &range)) {
        struct avoided part = {.node = ask->node, .unfilled = unfilled};
        rangemap_find_range(read->map, range.low, range.high, &part.first, &part.end);
        struct avoided *last = read->avoid_count == 0 ? NULL : &read->avoid[read->avoid_count - 1];
        bool joins = last != NULL && last->node == part.node && last->unfilled == unfilled &&
                     last->end == part.first;
        if (joins)
            last->end = part.end;
        else
            avoid(read, &part);
    }
}

/* --- Whom to ask --- */

static unsigned need_of(const struct flow *flow, const struct owners *owners)
{
    switch (flow->consistency) {
    case CONSISTENCY_ONE:
        return 1;
    case CONSISTENCY_QUORUM:
        return owners->read_quorum;
    case CONSISTENCY_ALL:
        break;
    }
    return owners->count;
}

static bool is_asked(const struct flow_read *read, node_id node)
{
    for (size_t i = 0; i < read->lists.count; i++)
        if (read->lists.list[i].node == node) return true;
    return false;
}

static void move_to_front(node_id *ids, unsigned from, unsigned to)
{
    node_id id = ids[from];
    for (; from > to; from--) ids[from] = ids[from - 1];
    ids[to] = id;
}

/* This node owns the shard, and cannot answer for it yet. */
static bool is_not_ready(const struct replica *replica, const struct flow_read *read, size_t shard,
                         const struct owners *owners, bool of_all)
{
    struct shard own = rangemap_shard(read->map, shard);
    return owners_contain(owners, replica->self.id) && read->map == replica->map &&
           replica_may_tell(replica, &own, of_all) != DATA_OK;
}

unsigned read_rank(struct replica *replica, const struct flow_read *read, size_t shard,
                   const struct owners *owners, bool of_all, node_id ids[RANGEMAP_OWNERS_MAX])
{
    unsigned count = 0, front = 0;
    for (size_t i = 0; i < owners->count; i++) {
        node_id id = owners->ids[i];
        if (id != replica->self.id && !read_is_avoided(read, id, shard, of_all)) ids[count++] = id;
    }
    const struct health_table *cache = health_cache(replica->health);
    count = (unsigned)health_rank(cache, replica->zone, ids, count, &replica->prng);
    /* Whoever is asked anyway comes before those that are as much alive. */
    for (unsigned i = 0; i < count; i++) {
        bool alive = health_of(replica->health, ids[i]).state == HEALTH_ALIVE;
        if (!alive || !is_asked(read, ids[i])) continue;
        move_to_front(ids, i, front++);
    }
    node_id self = replica->self.id;
    if (!owners_contain(owners, self) || read_is_avoided(read, self, shard, of_all)) return count;
    if (is_not_ready(replica, read, shard, owners, of_all)) return count;
    ids[count] = replica->self.id;
    move_to_front(ids, count, 0);
    return count + 1;
}

/* Whom to ask about a shard, in order, and how many of them have to answer. */
struct choice {
    node_id ids[RANGEMAP_OWNERS_MAX];
    unsigned need;
    bool of_all;
};

static bool is_unfilled(const struct replica *replica, const struct flow_read *read, node_id id,
                        size_t index)
{
    struct shard shard = rangemap_shard(read->map, index);
    if (id == replica->self.id && read->map == replica->map)
        return replica_may_tell(replica, &shard, false) == DATA_UNFILLED;
    return find_avoided(read, id, index, true) != NULL;
}

/* Whom the read is about. When readers have been switched some of the next owners may not be filled yet, which
 * at `all` would keep a read waiting for as long as that takes. But as long as one is not no map can be in
 * use by which the others alone take writes: each that was acknowledged before the read is with those that
 * own it still. */
static const struct owners *owners_for(const struct replica *replica, const struct flow *flow,
                                       size_t index, const struct shard *shard, bool *of_all)
{
    const struct owners *next = shard_read_owners(shard);
    *of_all = false;
    if (flow->consistency != CONSISTENCY_ALL || next == &shard->owners) return next;
    for (size_t i = 0; i < next->count; i++)
        *of_all = *of_all || is_unfilled(replica, &flow->read, next->ids[i], index);
    return *of_all ? &shard->owners : next;
}

/* False: too few are up. At `one` a node that has all that the client's token tells of; else as many as
 * see it together. */
static bool choose_owners(struct replica *replica, struct flow *flow, size_t index,
                          const struct shard *shard, struct choice *choice)
{
    struct token token = {0};
    const struct owners *owners = owners_for(replica, flow, index, shard, &choice->of_all);
    unsigned count = read_rank(replica, &flow->read, index, owners, choice->of_all, choice->ids);
    choice->need = need_of(flow, owners);
    if (flow->consistency == CONSISTENCY_ONE && flow->request.token.size > 0) {
        enum status status = token_decode(flow->request.token, &token);
        CHECK(status == STATUS_OK);
        if (token_fit(&token, owners, choice->ids, count) == 0) choice->need = owners->read_quorum;
    }
    if (count >= choice->need) return true;
    /* All others are there: they are enough once this node can answer. */
    flow->read.self_waits = count + 1 == owners->count &&
                            is_not_ready(replica, &flow->read, index, owners, choice->of_all);
    return false;
}

/* --- Lists --- */

static void ask_about(struct replica *replica, struct flow_read *read, node_id node, bool of_all,
                      const struct shard *shard)
{
    struct ask *ask = asks_for(replica, &read->lists, node, of_all);
    ask_check(read, ask);
    if (read->no_memory) return;
    if (read->question.kind == REQUEST_GET)
        ask_add_word(replica, ask, read->question.key);
    else
        ask_add_range(ask, &(struct key_range){shard->low, shard->high});
    ask_check(read, ask);
}

bool read_plan_lists(struct replica *replica, struct flow *flow)
{
    struct flow_read *read = &flow->read;
    struct choice choice;
    read->compare = false;
    for (size_t i = read->piece_first; i < read->piece_end && !read->compare; i++) {
        struct shard shard = rangemap_shard(read->map, i);
        if (!choose_owners(replica, flow, i, &shard, &choice)) return false;
        read->compare = choice.need > 1;
    }
    for (size_t i = read->piece_first; i < read->piece_end; i++) {
        struct shard shard = rangemap_shard(read->map, i);
        if (!choose_owners(replica, flow, i, &shard, &choice)) return false;
        for (unsigned j = 0; j < choice.need; j++)
            ask_about(replica, read, choice.ids[j], choice.of_all, &shard);
    }
    return true;
}
