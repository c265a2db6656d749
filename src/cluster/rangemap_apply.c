/* What a valid change is. Each function below is one row of the table in
 * docs/design/rangemap.md, and says the rule that it refuses by. */
#include <string.h>

#include "base/check.h"
#include "base/planted.h"
#include "cluster/rangemap_delta.h"
#include "cluster/rangemap_private.h"

struct applying {
    struct draft draft;
    uint64_t number; /* Of the map that is made. */
    size_t split_count;
    bool members_changed;
    const char *why;
};

static enum status refuse(struct applying *applying, const char *why)
{
    applying->why = why;
    return STATUS_INVALID;
}

/* --- Members --- */

static enum status find_member(struct applying *applying, node_id id, struct member_row **row)
{
    *row = member_row_find(applying->draft.map, id);
    if (*row == NULL) return refuse(applying, "there is no such member");
    if ((*row)->state == MEMBER_EXCLUDED) return refuse(applying, "the member is excluded");
    return STATUS_OK;
}

static enum status add_member(struct applying *applying, const struct change *change)
{
    struct rangemap *map = applying->draft.map;
    if (map->next_id > NODE_ID_MAX) return refuse(applying, "all ids were given");
    if (change->member.id != map->next_id) return refuse(applying, "it is not the next id");
    for (size_t i = 0; i < map->member_count; i++) {
        if (map->members[i].incarnation == change->member.incarnation) {
            return refuse(applying, "the incarnation is a member already");
        }
    }
    struct member member = change->member;
    member.state = MEMBER_ACTIVE;
    member.leaving = false;
    member.forgot = false;
    enum status status = draft_add_member(&applying->draft, &member);
    if (status == STATUS_OK) map->next_id++;
    return status;
}

static enum status move_member(struct applying *applying, const struct change *change)
{
    struct member_row *row;
    enum status status = find_member(applying, change->member.id, &row);
    if (status != STATUS_OK) return status;
    struct member member = change->member;
    member.incarnation = row->incarnation;
    member.state = (enum member_state)row->state;
    member.leaving = row->leaving;
    member.forgot = row->forgot;
    return draft_set_member(&applying->draft, row, &member);
}

/* How many of them are in `state`, or a worse one. */
static size_t count_in_state(const struct rangemap *map, const struct owners *owners,
                             enum member_state state)
{
    size_t count = 0;
    for (size_t i = 0; i < owners->count; i++) {
        count += member_row_find(map, owners->ids[i])->state >= state;
    }
    return count;
}

/* With `id` excluded, writes would find no quorum among them. */
static bool is_at_risk(const struct rangemap *map, const struct owners *owners, node_id id)
{
    if (!owners_contain(owners, id)) return false;
    size_t excluded = count_in_state(map, owners, MEMBER_EXCLUDED) + 1;
    size_t bound = planted(BUG_EXCLUDED_TOO_MANY) ? owners->count : owners->write_quorum;
    return excluded >= bound;
}

size_t rangemap_next_at_risk(const struct rangemap *map, node_id id, size_t index)
{
    const struct member_row *row = member_row_find(map, id);
    if (row == NULL || row->state == MEMBER_EXCLUDED) return map->shard_count;
    for (; index < map->shard_count; index++) {
        struct owners owners = shard_row_owners(map, &map->shards[index]);
        struct owners next = shard_row_next(map, &map->shards[index]);
        if (is_at_risk(map, &owners, id) || is_at_risk(map, &next, id)) break;
    }
    return index;
}

static enum status change_state(struct applying *applying, const struct change *change)
{
    struct rangemap *map = applying->draft.map;
    struct member_row *row;
    enum status status = find_member(applying, change->member.id, &row);
    if (status != STATUS_OK) return status;
    if (row->state == change->member.state) return refuse(applying, "it is in that state");
    if (change->member.state == MEMBER_EXCLUDED && !change->forced &&
        rangemap_next_at_risk(map, row->id, 0) < map->shard_count) {
        return refuse(applying, "too many owners of a shard would be excluded");
    }
    row->state = (uint8_t)change->member.state;
    return STATUS_OK;
}

static enum status change_leaving(struct applying *applying, const struct change *change)
{
    struct member_row *row;
    enum status status = find_member(applying, change->member.id, &row);
    if (status != STATUS_OK) return status;
    if (row->leaving == change->member.leaving) return refuse(applying, "it is so already");
    row->leaving = change->member.leaving;
    return STATUS_OK;
}

static enum status note_forgot(struct applying *applying, const struct change *change)
{
    struct member_row *row;
    enum status status = find_member(applying, change->member.id, &row);
    if (status != STATUS_OK) return status;
    if (row->forgot) return refuse(applying, "it is so already");
    row->forgot = true;
    return STATUS_OK;
}

static enum status remove_member(struct applying *applying, const struct change *change)
{
    struct rangemap *map = applying->draft.map;
    node_id id = change->member.id;
    struct member_row *row = member_row_find(map, id);
    if (row == NULL) return refuse(applying, "there is no such member");
    if (row->state != MEMBER_EXCLUDED && !row->leaving) {
        return refuse(applying, "the member neither leaves nor is excluded");
    }
    for (size_t i = 0; i < map->shard_count; i++) {
        struct owners owners = shard_row_owners(map, &map->shards[i]);
        struct owners next = shard_row_next(map, &map->shards[i]);
        if (owners_contain(&owners, id) || owners_contain(&next, id)) {
            return refuse(applying, "the member owns a shard");
        }
    }
    draft_remove_member(&applying->draft, (size_t)(row - map->members));
    return STATUS_OK;
}

/* --- Cuts --- */

static struct shard_row *find_shard(struct rangemap *map, struct slice low)
{
    struct shard_row *row = &map->shards[rangemap_find(map, low)];
    return slice_equal(shard_row_low(map, row), low) ? row : NULL;
}

static enum status split(struct applying *applying, const struct change *change)
{
    struct rangemap *map = applying->draft.map;
    if (change->low.size == 0 || change->low.data[0] == 0) {
        return refuse(applying, "no shard begins there");
    }
    if (++applying->split_count > RANGEMAP_SPLITS_MAX) return refuse(applying, "too many splits");
    size_t index = rangemap_find(map, change->low);
    struct shard child = rangemap_shard(map, index);
    if (slice_equal(child.low, change->low)) return refuse(applying, "the cut is there already");
    if (planted(BUG_SPLIT_CHANGES_OWNERS)) {
        child = rangemap_shard(map, (index + 1) % map->shard_count);
    }
    child.low = change->low;
    return draft_insert_shard(&applying->draft, index + 1, &child);
}

static enum status merge(struct applying *applying, const struct change *change)
{
    struct rangemap *map = applying->draft.map;
    struct shard_row *right = find_shard(map, change->low);
    if (right == NULL || right == map->shards) return refuse(applying, "there is no such cut");
    struct shard_row *left = right - 1;
    if (left->stage != SHARD_STABLE || right->stage != SHARD_STABLE) {
        return refuse(applying, "a shard that moves does not merge");
    }
    struct owners left_owners = shard_row_owners(map, left);
    struct owners right_owners = shard_row_owners(map, right);
    if (!owners_equal(&left_owners, &right_owners)) {
        return refuse(applying, "shards of different owners do not merge");
    }
    if (left->began < right->began) left->began = right->began;
    draft_remove_shard(&applying->draft, (size_t)(right - map->shards));
    return STATUS_OK;
}

/* --- Moves --- */

/* The shard that an arrow is for: one in the stage, which took no arrow in this version. */
static enum status find_in_stage(struct applying *applying, const struct change *change,
                                 enum shard_stage stage, struct shard_row **row)
{
    *row = find_shard(applying->draft.map, change->low);
    if (*row == NULL) return refuse(applying, "no shard begins there");
    if ((*row)->stage != stage) return refuse(applying, "the shard is in another stage");
    if ((*row)->began == applying->number) return refuse(applying, "one arrow a version");
    return STATUS_OK;
}

/* Fewer than either quorum: those that are suspended or excluded and did not acknowledge the
 * stage can then answer no read and no write among themselves. */
static bool passes(const struct rangemap *map, const struct owners *owners)
{
    size_t silent = count_in_state(map, owners, MEMBER_SUSPENDED);
    if (planted(BUG_STAGE_PASSES_SILENT)) return true;
    return owners->count == 0 || (silent < owners->write_quorum && silent < owners->read_quorum);
}

bool rangemap_stage_passes(const struct rangemap *map, const struct shard *shard)
{
    return passes(map, &shard->owners) && passes(map, &shard->next);
}

static enum status check_silent(struct applying *applying, const struct change *change,
                                const struct shard_row *row)
{
    const struct rangemap *map = applying->draft.map;
    struct owners owners = shard_row_owners(map, row);
    struct owners next = shard_row_next(map, row);
    if (change->forced || (passes(map, &owners) && passes(map, &next))) return STATUS_OK;
    return refuse(applying, "too many owners are suspended or excluded");
}

static enum status check_next(struct applying *applying, const struct owners *owners,
                              const struct change *change)
{
    const struct rangemap *map = applying->draft.map;
    if (change->next_count != rangemap_effective_factor(map)) {
        return refuse(applying, "next owners are as many as the replication factor says");
    }
    for (size_t i = 0; i < change->next_count; i++) {
        const struct member_row *row = member_row_find(map, change->next[i]);
        if (row == NULL) return refuse(applying, "a next owner is no member");
        if (row->state == MEMBER_EXCLUDED || row->leaving) {
            return refuse(applying, "a next owner is excluded or leaves");
        }
        if (row->state == MEMBER_SUSPENDED && !owners_contain(owners, row->id)) {
            return refuse(applying, "a new owner is suspended");
        }
    }
    return STATUS_OK;
}

static enum status begin(struct applying *applying, const struct change *change)
{
    struct rangemap *map = applying->draft.map;
    struct shard_row *row;
    enum status status = find_in_stage(applying, change, SHARD_STABLE, &row);
    if (status != STATUS_OK) return status;
    struct owners owners = shard_row_owners(map, row);
    status = check_next(applying, &owners, change);
    if (status != STATUS_OK) return status;
    struct owners next = {
        .ids = change->next,
        .count = change->next_count,
        .write_quorum = rangemap_write_quorum_of(map, change->next_count),
        .read_quorum = rangemap_read_quorum_of(map, change->next_count),
    };
    if (owners_equal(&owners, &next)) return refuse(applying, "it has these owners");
    status = draft_set_owners(&applying->draft, row, &owners, &next);
    if (status != STATUS_OK) return status;
    row->stage = SHARD_FILLING;
    row->began = applying->number;
    return STATUS_OK;
}

static enum status switch_reads(struct applying *applying, const struct change *change)
{
    struct shard_row *row;
    enum status status = find_in_stage(applying, change, SHARD_FILLING, &row);
    if (status == STATUS_OK) status = check_silent(applying, change, row);
    if (status != STATUS_OK) return status;
    row->stage = SHARD_SWITCHED;
    row->began = applying->number;
    return STATUS_OK;
}

/* The shard is stable, with these owners. */
static enum status settle(struct applying *applying, struct shard_row *row, struct owners owners)
{
    enum status status =
        draft_set_owners(&applying->draft, row, &owners, &(struct owners){.count = 0});
    if (status != STATUS_OK) return status;
    row->stage = SHARD_STABLE;
    row->began = applying->number;
    return STATUS_OK;
}

static enum status finish(struct applying *applying, const struct change *change)
{
    struct shard_row *row;
    enum status status = find_in_stage(applying, change, SHARD_SWITCHED, &row);
    if (status == STATUS_OK) status = check_silent(applying, change, row);
    if (status != STATUS_OK) return status;
    return settle(applying, row, shard_row_next(applying->draft.map, row));
}

/* Back by one stage: a coordinator that still reads next owners must be gone before writes skip
 * them, so a switched shard is filling again first. */
static enum status abort_move(struct applying *applying, const struct change *change)
{
    struct rangemap *map = applying->draft.map;
    struct shard_row *row = find_shard(map, change->low);
    if (row == NULL) return refuse(applying, "no shard begins there");
    if (row->stage == SHARD_STABLE) return refuse(applying, "the shard does not move");
    if (row->began == applying->number) return refuse(applying, "one arrow a version");
    if (row->stage == SHARD_SWITCHED) {
        row->stage = SHARD_FILLING;
        row->began = applying->number;
        return STATUS_OK;
    }
    enum status status = check_silent(applying, change, row);
    if (status != STATUS_OK) return status;
    return settle(applying, row, shard_row_owners(map, row));
}

/* --- The whole --- */

static enum status apply_change(struct applying *applying, const struct change *change)
{
    if (change_is_of_member(change->kind)) applying->members_changed = true;
    switch (change->kind) {
    case CHANGE_MEMBER_ADD:
        return add_member(applying, change);
    case CHANGE_MEMBER_MOVE:
        return move_member(applying, change);
    case CHANGE_MEMBER_STATE:
        return change_state(applying, change);
    case CHANGE_MEMBER_LEAVING:
        return change_leaving(applying, change);
    case CHANGE_MEMBER_FORGOT:
        return note_forgot(applying, change);
    case CHANGE_MEMBER_REMOVE:
        return remove_member(applying, change);
    case CHANGE_SETTINGS:
        applying->draft.map->settings = change->settings;
        return STATUS_OK;
    case CHANGE_SPLIT:
        return split(applying, change);
    case CHANGE_MERGE:
        return merge(applying, change);
    case CHANGE_BEGIN:
        return begin(applying, change);
    case CHANGE_SWITCH:
        return switch_reads(applying, change);
    case CHANGE_FINISH:
        return finish(applying, change);
    case CHANGE_ABORT:
        return abort_move(applying, change);
    }
    return STATUS_INVALID;
}

static enum status apply_all(struct applying *applying, struct reader *reader)
{
    struct change change;
    enum status status;
    while ((status = rangemap_delta_next(reader, &change)) == STATUS_OK) {
        status = apply_change(applying, &change);
        if (status != STATUS_OK) return status;
    }
    if (status != STATUS_END) return refuse(applying, "the bytes are no delta");
    if (rangemap_effective_factor(applying->draft.map) == 0) {
        return refuse(applying, "no member would stay");
    }
    if (applying->members_changed) draft_choose_registrars(&applying->draft);
    return STATUS_OK;
}

/* Rows that the delta may add, so that the arrays need not grow. */
static void count_rows(struct reader reader, size_t *members, size_t *shards)
{
    struct change change;
    while (rangemap_delta_next(&reader, &change) == STATUS_OK) {
        *members += change.kind == CHANGE_MEMBER_ADD;
        *shards += change.kind == CHANGE_SPLIT;
    }
}

static enum status make_next(const struct rangemap *map, const uint64_t *generation_id,
                             struct slice delta, const char **why, struct rangemap **out)
{
    struct hash128 base;
    struct reader reader;
    struct applying applying = {.number = map->identity.number + 1};
    enum status status = rangemap_delta_open(delta, &base, &reader);
    if (status != STATUS_OK) {
        if (why != NULL) *why = "the bytes are no delta";
        return status;
    }
    if (!hash128_equal(base, map->identity.hash) && !planted(BUG_MAPS_MERGED_BY_NUMBER)) {
        if (why != NULL) *why = "the delta is to another map";
        return STATUS_STALE;
    }
    size_t more_members = 0;
    size_t more_shards = 0;
    count_rows(reader, &more_members, &more_shards);
    status = draft_open(&applying.draft, map->heap, map, more_members, more_shards);
    if (status != STATUS_OK) return status;

    struct rangemap_identity *identity = &applying.draft.map->identity;
    identity->predecessor = map->identity.hash;
    identity->number = applying.number;
    if (generation_id != NULL) {
        identity->generation++;
        identity->generation_id = *generation_id;
    }
    status = apply_all(&applying, &reader);
    if (status == STATUS_OK) status = draft_seal(&applying.draft, out);
    if (status == STATUS_LIMIT) applying.why = "the map would be too large";
    if (status != STATUS_OK && why != NULL && applying.why != NULL) *why = applying.why;
    draft_close(&applying.draft);
    return status;
}

enum status rangemap_apply(const struct rangemap *map, struct slice delta, const char **why,
                           struct rangemap **out)
{
    return make_next(map, NULL, delta, why, out);
}

enum status rangemap_recover(const struct rangemap *map, uint64_t generation_id, struct slice delta,
                             const char **why, struct rangemap **out)
{
    return make_next(map, &generation_id, delta, why, out);
}
