#include "core/record.h"

#include <float.h>
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/planted.h"

struct record record_of_tombstone(struct version version)
{
    return (struct record){.tombstone = true, .version = version};
}

struct record_slot record_slot_at(struct slice slots, size_t index)
{
    CHECK(index < slots.size / RECORD_SLOT_BYTES);
    const uint8_t *at = slots.data + index * RECORD_SLOT_BYTES;
    struct record_slot slot = {.owner = load_u64le(at), .sequence = load_u64le(at + 8)};
    memcpy(&slot.sum, at + 16, sizeof slot.sum);
    return slot;
}

void record_slot_append(struct buf *out, const struct record_slot *slot)
{
    uint8_t bytes[RECORD_SLOT_BYTES];
    store_u64le(bytes, slot->owner);
    store_u64le(bytes + 8, slot->sequence);
    memcpy(bytes + 16, &slot->sum, sizeof slot->sum);
    buf_append(out, bytes, sizeof bytes);
}

double record_score(const struct record *record)
{
    double score = record->score;
    for (size_t i = 0; i < record->slots.size / RECORD_SLOT_BYTES; i++) {
        score += record_slot_at(record->slots, i).sum;
        if (score > DBL_MAX) score = DBL_MAX;
        if (score < -DBL_MAX) score = -DBL_MAX;
    }
    return score;
}

struct version record_created(const struct record *record)
{
    return version_is_none(record->created) ? record->version : record->created;
}

bool record_is_present(const struct record *record)
{
    if (record->tombstone) return false;
    return record->slots.size > 0 || !version_equal(record->set, record->since);
}

bool record_is_dead_by(const struct record *record, hlc_time upto)
{
    if (record->version.time > upto) return false;
    return !record_is_present(record) || record_is_expired(record, hlc_wall_ms(upto));
}

struct best record_best(const struct record *record)
{
    if (!record_is_present(record)) return (struct best){0};
    struct version created = record_created(record);
    return (struct best){score_order_of(record_score(record)), created.time, created.node};
}

bool record_is_plain(const struct record *record)
{
    return !record->tombstone && !record->has_payload && record->expires_at == 0 &&
           record->tags.size == 0 && record->slots.size == 0 && version_is_none(record->since) &&
           version_equal(record->created, record->version) &&
           version_equal(record->set, record->version);
}

/* --- Join --- */

/* An order of values, total but otherwise meaningless. */
static int value_compare(const struct record *a, const struct record *b)
{
    uint64_t score_a = score_order_of(a->score);
    uint64_t score_b = score_order_of(b->score);
    if (score_a != score_b) return score_a < score_b ? -1 : 1;
    if (a->expires_at != b->expires_at) return a->expires_at < b->expires_at ? -1 : 1;
    if (a->has_payload != b->has_payload) return a->has_payload ? 1 : -1;
    int order = slice_compare(a->payload, b->payload);
    return order != 0 ? order : slice_compare(a->tags, b->tags);
}

static struct record_slot slot_newer(struct record_slot a, struct record_slot b)
{
    if (a.sequence != b.sequence) return a.sequence > b.sequence ? a : b;
    return score_order_of(a.sum) >= score_order_of(b.sum) ? a : b;
}

/* Those of `slots` that outlive the set of another record, which is larger than theirs. All or none need no copy. */
static enum status slots_left(struct slice slots, struct version set, struct buf *kept,
                              struct slice *out)
{
    size_t count = slots.size / RECORD_SLOT_BYTES;
    buf_clear(kept);
    for (size_t i = 0; i < count; i++) {
        struct record_slot slot = record_slot_at(slots, i);
        if (record_slot_outlives(&slot, set)) record_slot_append(kept, &slot);
    }
    *out = kept->size == slots.size ? slots : buf_slice(kept);
    return buf_status(kept);
}

static enum status slots_merge(struct slice a, struct slice b, struct buf *scratch,
                               struct slice *out)
{
    size_t count_a = a.size / RECORD_SLOT_BYTES;
    size_t count_b = b.size / RECORD_SLOT_BYTES;
    for (size_t i = 0, j = 0; i < count_a || j < count_b;) {
        struct record_slot slot;
        if (j == count_b) {
            slot = record_slot_at(a, i++);
        } else if (i == count_a) {
            slot = record_slot_at(b, j++);
        } else {
            struct record_slot left = record_slot_at(a, i);
            struct record_slot right = record_slot_at(b, j);
            slot = left.owner < right.owner ? left : right;
            if (left.owner == right.owner) slot = slot_newer(left, right);
            i += slot.owner == left.owner;
            j += slot.owner == right.owner;
        }
        record_slot_append(scratch, &slot);
    }
    if (buf_status(scratch) != STATUS_OK) return STATUS_NOMEM;
    if (scratch->size > RECORD_SLOT_COUNT_MAX * RECORD_SLOT_BYTES) return STATUS_LIMIT;
    *out = buf_slice(scratch);
    return STATUS_OK;
}

/* Rule 3. None is the largest creation. */
static struct version join_created(const struct record *a, const struct record *b)
{
    int order = version_compare(a->since, b->since);
    if (order != 0 && !planted(BUG_CREATED_BY_MINIMUM)) return order > 0 ? a->created : b->created;
    if (version_is_none(a->created)) return b->created;
    if (version_is_none(b->created)) return a->created;
    return version_compare(a->created, b->created) < 0 ? a->created : b->created;
}

/* Rule 4: which value is the newer one. */
static int set_compare(const struct record *a, const struct record *b)
{
    int order = version_compare(a->set, b->set);
    if (order != 0) return order;
    return version_equal(a->set, a->since) - version_equal(b->set, b->since);
}

/* Rule 4 into `out`, whose other fields are set. */
static enum status join_value(const struct record *a, const struct record *b, struct buf *scratch,
                              struct record *out)
{
    int order = set_compare(a, b);
    struct slice more = order >= 0 ? a->slots : b->slots, less = order >= 0 ? b->slots : a->slots;
    struct buf kept = {.heap = scratch->heap};
    enum status status = STATUS_OK;
    if (order != 0 && less.size > 0 && !planted(BUG_SET_KEEPS_SLOTS))
        status = slots_left(less, order > 0 ? a->set : b->set, &kept, &less);
    out->slots = more;
    if (status == STATUS_OK && more.size == 0 && kept.size == 0) {
        out->slots = less;
    } else if (status == STATUS_OK && less.size > 0 && !slice_equal(more, less)) {
        status = slots_merge(more, less, scratch, &out->slots);
    }
    buf_deinit(&kept);
    if (status != STATUS_OK) return status;

    if (order == 0 && !planted(BUG_TIE_BY_ARRIVAL)) order = value_compare(a, b);
    const struct record *from = order >= 0 ? a : b;
    out->set = from->set;
    out->score = from->score;
    out->expires_at = from->expires_at;
    out->has_payload = from->has_payload;
    out->payload = from->payload;
    out->tags = from->tags;
    return STATUS_OK;
}

enum status record_join(const struct record *a, const struct record *b, struct buf *scratch,
                        struct record *out)
{
    buf_clear(scratch);
    int order = version_compare(a->version, b->version);
    if (order < 0 || (order == 0 && b->tombstone)) {
        const struct record *newer = b;
        b = a;
        a = newer;
    }
    if (a->tombstone) {
        *out = record_of_tombstone(a->version);
        return STATUS_OK;
    }

    struct record base; /* Rule 2. */
    if (b->tombstone) {
        base = (struct record){.version = b->version, .since = b->version, .set = b->version};
        b = &base;
    }
    struct record joined = {
        .version = a->version,
        .since = version_max(a->since, b->since),
        .created = join_created(a, b),
    };
    enum status status = join_value(a, b, scratch, &joined);
    if (status == STATUS_OK) *out = joined;
    return status;
}

bool record_equal(const struct record *a, const struct record *b)
{
    if (!version_equal(a->version, b->version) || a->tombstone != b->tombstone) return false;
    if (a->tombstone) return true;
    return version_equal(a->since, b->since) && version_equal(a->created, b->created) &&
           version_equal(a->set, b->set) && value_compare(a, b) == 0 &&
           slice_equal(a->slots, b->slots);
}

/* --- Tags --- */

bool record_tag_next(struct slice *rest, struct slice *tag)
{
    if (rest->size == 0) return false;
    CHECK(rest->size > rest->data[0]);
    *tag = slice_of(rest->data + 1, rest->data[0]);
    *rest = slice_from(*rest, 1 + tag->size);
    return true;
}

bool record_has_tag(const struct record *record, struct slice tag)
{
    struct slice rest = record->tags;
    struct slice each;
    while (record_tag_next(&rest, &each)) {
        if (slice_equal(each, tag)) return true;
    }
    return false;
}

enum status record_tags_build(const struct slice *tags, size_t count, struct buf *out)
{
    struct slice sorted[TAG_COUNT_MAX];
    if (count > TAG_COUNT_MAX) return STATUS_LIMIT;
    for (size_t i = 0; i < count; i++) {
        if (tags[i].size == 0 || tags[i].size > TAG_BYTES_MAX) return STATUS_INVALID;
        size_t at = i;
        for (; at > 0 && slice_compare(sorted[at - 1], tags[i]) > 0; at--) {
            sorted[at] = sorted[at - 1];
        }
        sorted[at] = tags[i];
    }
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && slice_equal(sorted[i - 1], sorted[i])) continue;
        buf_append_u8(out, (uint8_t)sorted[i].size);
        buf_append_slice(out, sorted[i]);
    }
    return buf_status(out);
}
