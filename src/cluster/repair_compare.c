#include "base/planted.h"
#include "cluster/repair_private.h"

/* The pieces of a range that the peer cut: those that differ here go onto `list`. */
static bool look_at_cuts(const struct repair *repair, const struct key_range *range,
                         struct slice *rest, size_t count, struct buf *list)
{
    struct slice low, next_low;
    uint64_t theirs, next_theirs = 0;
    if (!repair_part_next(rest, &low, &theirs)) return false;
    if (!slice_equal(low, range->low)) return false;
    for (size_t i = 0; i < count; i++) {
        bool last = i + 1 == count;
        struct key_range piece = {low, range->high};
        if (!last) {
            if (!repair_part_next(rest, &next_low, &next_theirs)) return false;
            if (!key_range_has(range, next_low) || slice_compare(low, next_low) >= 0) return false;
            piece.high = next_low;
        }
        struct sum ours;
        if (repair_sum(repair, &piece, &ours) != STATUS_OK) return false;
        if (repair_sum_cut(ours.low) != theirs)
            repair_range_append(list, &piece, repair_sum_cut(ours.low));
        low = next_low;
        theirs = next_theirs;
    }
    return buf_status(list) == STATUS_OK;
}

static void give(struct repair_session *session, struct slice key, const struct record *record)
{
    repair_record_append(&session->push, key, record);
    session->push_count++;
}

/* What the peer listed of a range. */
struct listed {
    uint16_t tags[REPAIR_LEAF_MAX];
    bool here[REPAIR_LEAF_MAX]; /* So is it here. */
    size_t count, here_count;
    uint64_t rest;   /* Sum of those that are not here. */
    bool peer_knows; /* What it lacks is deleted. */
};

static bool read_tags(struct slice *rest, const struct repair_part_list *parts,
                      struct listed *listed)
{
    *listed = (struct listed){.count = parts->count, .rest = parts->sum};
    listed->peer_knows = parts->finding == REPAIR_LISTED_ALL;
    for (size_t i = 0; i < parts->count; i++)
        if (!repair_tag_next(rest, &listed->tags[i])) return false;
    return true;
}

/* Each of them stands for one record. */
static bool find_tag(struct listed *listed, uint16_t tag)
{
    for (size_t i = 0; i < listed->count; i++) {
        if (listed->tags[i] != tag || listed->here[i]) continue;
        listed->here[i] = true;
        listed->here_count++;
        return true;
    }
    return false;
}

/* Whether the peer may have the key, with another record. */
static bool may_have(const struct listed *listed, uint16_t tag)
{
    unsigned bits = REPAIR_TAG_BITS - REPAIR_TAG_KEY_BITS;
    for (size_t i = 0; i < listed->count; i++)
        if (!listed->here[i] && listed->tags[i] >> bits == tag >> bits) return true;
    return false;
}

/* Records of a range that are here, as many as a leaf may have. */
struct leaf {
    uint16_t tags[REPAIR_LEAF_HERE_MAX];
    bool equal[REPAIR_LEAF_HERE_MAX]; /* So is it there. */
    size_t count;                     /* REPAIR_LEAF_HERE_MAX + 1: there are more. */
};

/* Finds out which of them the peer listed. */
static enum status read_leaf(const struct repair *repair, uint64_t session,
                             const struct key_range *range, struct listed *listed,
                             struct leaf *leaf)
{
    struct repair_walk walk;
    enum status status = repair_walk_begin(repair, range, &walk);
    leaf->count = 0;
    for (; status == STATUS_OK && leaf->count <= REPAIR_LEAF_HERE_MAX;
         status = repair_walk_next(&walk)) {
        if (leaf->count < REPAIR_LEAF_HERE_MAX) {
            uint64_t hash = repair_hash(repair, walk.key, &walk.record);
            leaf->tags[leaf->count] = repair_tag(session, walk.key, hash);
            leaf->equal[leaf->count] = find_tag(listed, leaf->tags[leaf->count]);
            if (leaf->equal[leaf->count]) listed->rest = repair_sum_cut(listed->rest - hash);
        }
        leaf->count++;
    }
    return repair_walk_end(&walk, status);
}

/* What only this node has, or has otherwise: the peer gets it, unless it lacks it and knows that it is deleted. */
static enum status give_leaf(struct repair *repair, struct repair_session *session,
                             const struct key_range *range, const struct listed *listed,
                             const struct leaf *leaf)
{
    struct repair_walk walk;
    enum status status = repair_walk_begin(repair, range, &walk);
    for (size_t i = 0; status == STATUS_OK && i < leaf->count; i++) {
        bool lacks = listed->peer_knows && !may_have(listed, leaf->tags[i]);
        bool forgets = leaf->equal[i] ? planted(BUG_PURGE_BY_KEY)
                                      : planted(BUG_ABSENCE_WITHOUT_EVIDENCE) || lacks;
        bool forgot = forgets && repair->env.forget(repair->env.context, walk.key, &walk.record);
        if (!leaf->equal[i] && !forgot) give(session, walk.key, &walk.record);
        status = repair_walk_next(&walk);
    }
    status = repair_walk_end(&walk, status);
    return status == STATUS_OK ? buf_status(&session->push) : status;
}

/* The range goes with whether what the peer lacks of it is deleted. */
static enum status ask_for(struct repair_session *session, const struct key_range *range,
                           const struct repair_want *what, bool peer_knows)
{
    repair_want_append(&session->wants, what);
    repair_range_append(&session->want_ranges, range, peer_knows);
    session->want_count++;
    enum status status = buf_status(&session->wants);
    return status == STATUS_OK ? buf_status(&session->want_ranges) : status;
}

/* Records that are listed and not here. */
static enum status want_rest(struct repair *repair, struct repair_session *session,
                             const struct key_range *range, const struct listed *listed)
{
    struct buf tags = {.heap = repair->env.heap};
    for (size_t i = 0; i < listed->count; i++)
        if (!listed->here[i]) buf_append_u16le(&tags, listed->tags[i]);
    struct repair_want rest = {{.low = range->low}, buf_slice(&tags), listed->rest};
    enum status status = buf_status(&tags);
    if (status == STATUS_OK) status = ask_for(session, range, &rest, listed->peer_knows);
    buf_deinit(&tags);
    return status;
}

enum status repair_exchange_whole(struct repair *repair, struct repair_session *session,
                                  const struct key_range *range, bool peer_knows)
{
    struct repair_walk walk;
    enum status status = repair_walk_begin(repair, range, &walk);
    for (; status == STATUS_OK; status = repair_walk_next(&walk))
        give(session, walk.key, &walk.record);
    status = repair_walk_end(&walk, status);
    if (status == STATUS_OK)
        status = ask_for(session, range, &(struct repair_want){.range = *range}, peer_knows);
    return status == STATUS_OK ? buf_status(&session->push) : status;
}

enum status repair_put_back(const struct repair *repair, const struct key_range *range,
                            uint64_t doubted, struct buf *list)
{
    struct sum sum;
    enum status status = repair_sum(repair, range, &sum);
    if (status == STATUS_OK) repair_range_append(list, range, repair_sum_cut(sum.low) | doubted);
    return status;
}

/* Whether something here may be deleted there, which the tags do not tell: few bits of them are the key's. */
static bool is_in_doubt(const struct repair *repair, const struct key_range *range,
                        const struct listed *listed, const struct leaf *leaf)
{
    bool doubtful = false;
    if (!listed->peer_knows) return false;
    for (size_t i = 0; i < leaf->count; i++)
        doubtful = doubtful || (!leaf->equal[i] && may_have(listed, leaf->tags[i]));
    return doubtful && !repair_knows_all(repair, range);
}

/* Of many more records here than the peer has: it is asked about pieces of them. */
static enum status cut_here(const struct repair *repair, const struct key_range *range,
                            struct buf *list)
{
    struct buf cuts[REPAIR_PIECES_MAX];
    size_t count;
    for (size_t i = 0; i < REPAIR_PIECES_MAX; i++) buf_init(&cuts[i], repair->env.heap);
    enum status status = repair_choose_cuts(repair, range, cuts, &count);
    struct slice low = range->low;
    for (size_t i = 0; status == STATUS_OK && i <= count; i++) {
        struct key_range piece = {low, i == count ? range->high : buf_slice(&cuts[i])};
        struct sum sum;
        if (i < count && slice_compare(piece.high, low) <= 0) continue; /* The low itself. */
        status = repair_sum(repair, &piece, &sum);
        repair_range_append(list, &piece, repair_sum_cut(sum.low));
        low = piece.high;
    }
    for (size_t i = 0; i < REPAIR_PIECES_MAX; i++) {
        if (cuts[i].failed) status = STATUS_NOMEM;
        buf_deinit(&cuts[i]);
    }
    return status;
}

/* The tags that the peer listed against those of the records here. What does not fit a message is put back. A range
 * that is in doubt is mostly no more once what differs was exchanged: the peer does not take what it knows to be
 * deleted. So it is compared again, and only if it differs then all of it goes both ways. */
static bool look_at_tags(struct repair *repair, struct repair_session *session,
                         const struct key_range *range, uint64_t doubted, struct slice *rest,
                         const struct repair_part_list *parts, struct buf *list)
{
    struct listed listed;
    struct leaf leaf;
    if (!read_tags(rest, parts, &listed)) return false;
    if (repair_is_full(session)) return repair_put_back(repair, range, doubted, list) == STATUS_OK;
    if (read_leaf(repair, session->number, range, &listed, &leaf) != STATUS_OK) return false;
    if (leaf.count > REPAIR_LEAF_HERE_MAX) return cut_here(repair, range, list) == STATUS_OK;
    bool all_here = listed.here_count == listed.count;
    bool collide = all_here && listed.rest != 0; /* Two records have one tag. */
    bool in_doubt = is_in_doubt(repair, range, &listed, &leaf);
    if (collide || (in_doubt && doubted != 0))
        return repair_exchange_whole(repair, session, range, listed.peer_knows) == STATUS_OK;
    if (in_doubt) repair_range_append(&session->later, range, REPAIR_PEER_KNOWS | REPAIR_IN_DOUBT);
    enum status status = give_leaf(repair, session, range, &listed, &leaf);
    if (status == STATUS_OK && !all_here) status = want_rest(repair, session, range, &listed);
    return status == STATUS_OK && buf_status(&session->later) == STATUS_OK;
}

bool repair_compared(struct repair *repair, struct repair_session *session,
                     const struct repair_message *message)
{
    if (message->verdict != REPAIR_OK) return false;
    if (repair_shared_purged(repair, session->peer, session->scope) != session->purged)
        return false;
    struct slice asked = buf_slice(&session->asked), rest = message->list;
    struct key_range range;
    uint64_t sum;
    struct repair_part_list parts;
    bool good = true;
    buf_clear(&repair->list);
    buf_clear(&session->push);
    buf_clear(&session->wants);
    buf_clear(&session->want_ranges);
    while (good && repair_range_next(&asked, &range, &sum)) {
        if (!repair_finding_next(&rest, &parts)) return false;
        if (parts.finding == REPAIR_CUT)
            good = look_at_cuts(repair, &range, &rest, parts.count, &repair->list);
        else if (parts.finding != REPAIR_EQUAL)
            good = look_at_tags(repair, session, &range, sum & REPAIR_DOUBTED, &rest, &parts,
                                &repair->list);
    }
    return good && rest.size == 0 && repair_push_ranges(session, buf_slice(&repair->list));
}
