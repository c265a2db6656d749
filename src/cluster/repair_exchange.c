#include "cluster/repair_private.h"

/* --- What is looked at again --- */

/* Holds it more than a whole exchange may take? */
static enum status has_grown(const struct repair *repair, const struct key_range *range,
                             bool *grown)
{
    struct repair_walk walk;
    size_t count = 0;
    enum status status = repair_walk_begin(repair, range, &walk);
    while (status == STATUS_OK && ++count <= REPAIR_LEAF_HERE_MAX) status = repair_walk_next(&walk);
    *grown = count > REPAIR_LEAF_HERE_MAX;
    return repair_walk_end(&walk, status);
}

/* What was in doubt is compared again. The rest was lost: it held little when it was listed, and goes whole; what has
 * grown since is compared anew. */
bool repair_look_again(struct repair *repair, struct repair_session *session)
{
    struct slice rest = buf_slice(&session->later);
    struct key_range range;
    uint64_t why;
    buf_clear(&repair->list);
    buf_clear(&session->wants);
    buf_clear(&session->want_ranges);
    while (!repair_is_full(session) && repair_range_next(&rest, &range, &why)) {
        bool doubted = (why & REPAIR_IN_DOUBT) != 0, grown;
        enum status status = has_grown(repair, &range, &grown);
        if (status == STATUS_OK && (doubted || grown))
            status = repair_put_back(repair, &range, doubted ? REPAIR_DOUBTED : 0, &repair->list);
        else if (status == STATUS_OK)
            status = repair_exchange_whole(repair, session, &range, why != 0);
        if (status != STATUS_OK) return false;
    }
    bool good = repair_push_ranges(session, buf_slice(&repair->list));
    buf_consume(&session->later, session->later.size - rest.size);
    return good;
}

/* --- What came --- */

/* Has a tag that was asked for, or lies in a range of which all was. */
static bool was_wanted(const struct repair_session *session, struct slice key, uint16_t tag)
{
    struct slice wants = buf_slice(&session->wants);
    struct repair_want want;
    while (repair_want_next(&wants, &want) && slice_compare(want.range.low, key) <= 0) {
        uint16_t wanted;
        if (want.tags.size == 0 && key_range_has(&want.range, key)) return true;
        while (repair_tag_next(&want.tags, &wanted))
            if (wanted == tag) return true;
    }
    return false;
}

static bool were_wanted(const struct repair *repair, const struct repair_session *session,
                        struct slice records)
{
    struct slice key;
    struct record record;
    while (repair_record_next(&records, &key, &record)) {
        uint16_t tag = repair_tag(session->number, key, repair_hash(repair, key, &record));
        if (!was_wanted(session, key, tag)) return false;
    }
    return true;
}

/* All of the range that the peer has came, and what it lacks is deleted. */
static enum status forget_absent(const struct repair *repair, const struct key_range *range,
                                 struct slice records)
{
    struct repair_walk walk;
    struct record theirs;
    enum status status = repair_walk_begin(repair, range, &walk);
    for (; status == STATUS_OK; status = repair_walk_next(&walk))
        if (!repair_record_find(&records, walk.key, &theirs))
            (void)repair->env.forget(repair->env.context, walk.key, &walk.record);
    return repair_walk_end(&walk, status);
}

/* Goes over to the wants that were not looked for. What is not all there has changed since it was listed, or two
 * records had one tag: all of the range is exchanged. It was joined with something newer at the peer, maybe, and what
 * stood there must come all the same. */
static bool settle_wants(struct repair *repair, struct repair_session *session,
                         const struct repair_message *message)
{
    struct slice wants = buf_slice(&session->wants), ranges = buf_slice(&session->want_ranges);
    struct repair_want want;
    struct key_range range;
    uint64_t peer_knows;
    for (uint64_t i = 0; i < message->want_count; i++) {
        if (!repair_want_next(&wants, &want)) return false;
        if (!repair_range_next(&ranges, &range, &peer_knows)) return false;
        bool found = (message->found.data[i / 8] >> i % 8 & 1) != 0;
        if (!found)
            repair_range_append(&session->later, &range, peer_knows != 0 ? REPAIR_PEER_KNOWS : 0);
        bool tells = found && want.tags.size == 0 && peer_knows != 0;
        if (tells && forget_absent(repair, &range, message->list) != STATUS_OK) return false;
    }
    session->want_count -= message->want_count;
    buf_consume(&session->wants, session->wants.size - wants.size);
    buf_consume(&session->want_ranges, session->want_ranges.size - ranges.size);
    return buf_status(&session->later) == STATUS_OK;
}

/* Joins what came; what was sent is newer than the rest. */
bool repair_exchanged(struct repair *repair, struct repair_session *session,
                      const struct repair_message *message)
{
    if (message->verdict != REPAIR_OK) return false;
    if (message->want_count > session->want_count) return false;
    if (message->want_count == 0 && session->want_count > 0) return false; /* For ever. */
    if (!were_wanted(repair, session, message->list)) return false;
    struct slice rest = message->list, key;
    struct record record;
    while (repair_record_next(&rest, &key, &record)) {
        if (!repair->env.owns_with(repair->env.context, session->peer, key)) continue;
        if (repair->env.merge(repair->env.context, key, &record) != STATUS_OK) return false;
        repair->counts.fetched_count++;
    }
    return settle_wants(repair, session, message);
}
