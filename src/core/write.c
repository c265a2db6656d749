#include "core/write.h"

#include <math.h>

#include "core/limits.h"

static bool is_live(const struct record *current, uint64_t now_ms)
{
    return current != NULL && record_is_present(current) && !record_is_expired(current, now_ms);
}

static bool is_stale(const struct record *current, struct version version)
{
    return current != NULL && version_compare(version, current->version) <= 0;
}

/* Rule 1. */
static struct version since_after(const struct record *current, uint64_t now_ms)
{
    if (current == NULL) return (struct version){0};
    if (current->tombstone) return current->version;
    return record_is_expired(current, now_ms) ? current->set : current->since;
}

/* Rule 2. A record that reads as deleted can still carry a creation under the same
 * `since`, and then the join would keep it: so do we. */
static struct version created_after(const struct record *current, uint64_t now_ms,
                                    struct version version)
{
    if (is_live(current, now_ms)) return record_created(current);
    if (current == NULL || current->tombstone || version_is_none(current->created)) return version;
    return version_equal(since_after(current, now_ms), current->since) ? current->created : version;
}

/* What any put starts from: the history, and no value. */
static struct record begin(const struct record *current, uint64_t now_ms, struct version version)
{
    return (struct record){
        .version = version,
        .since = since_after(current, now_ms),
        .created = created_after(current, now_ms, version),
    };
}

enum status write_set(const struct record *current, uint64_t now_ms, struct version version,
                      const struct write_value *value, struct record *out,
                      struct write_outcome *outcome)
{
    if (!isfinite(value->score) || value->payload.size > PAYLOAD_BYTES_MAX) return STATUS_INVALID;
    if (is_stale(current, version)) return STATUS_STALE;

    struct record record = begin(current, now_ms, version);
    record.set = version;
    record.score = value->score + 0.0; /* -0.0 + 0.0 is 0.0. */
    record.expires_at = value->expires_at;
    record.has_payload = value->has_payload;
    if (value->has_payload) record.payload = value->payload;
    record.tags = value->tags;

    *outcome = (struct write_outcome){is_live(current, now_ms), record.score};
    *out = record;
    return STATUS_OK;
}

enum status write_remove(const struct record *current, uint64_t now_ms, struct version version,
                         struct record *out, struct write_outcome *outcome)
{
    if (is_stale(current, version)) return STATUS_STALE;
    *outcome = (struct write_outcome){.was_live = is_live(current, now_ms)};
    *out = record_of_tombstone(version);
    return STATUS_OK;
}

/* Copies `slots` to `out` with `by` added to the owner's, which is put in its place if new, and counts on from `first` then. */
static enum status add_to_slot(struct slice slots, uint64_t owner, uint64_t first, double by,
                               struct buf *out)
{
    struct record_slot own = {.owner = owner, .sequence = first};
    size_t count = slots.size / RECORD_SLOT_BYTES;
    size_t at = 0;
    while (at < count && record_slot_at(slots, at).owner < owner) at++;
    size_t after = at;
    if (at < count && record_slot_at(slots, at).owner == owner)
        own = record_slot_at(slots, after++);
    if (after == at && count == RECORD_SLOT_COUNT_MAX) return STATUS_LIMIT;

    /* Wrapped round it would lose against what it came from. */
    if (own.sequence == UINT64_MAX) return STATUS_LIMIT;
    own.sequence++;
    own.sum += by;
    if (!isfinite(own.sum)) return STATUS_INVALID;
    buf_append_slice(out, slice_prefix(slots, at * RECORD_SLOT_BYTES));
    record_slot_append(out, &own);
    buf_append_slice(out, slice_from(slots, after * RECORD_SLOT_BYTES));
    return buf_status(out);
}

/* The score shown stays at the largest double rather than overflow; a write must not get there. */
static bool score_overflows(const struct record *record)
{
    double score = record->score;
    for (size_t i = 0; i < record->slots.size / RECORD_SLOT_BYTES; i++) {
        score += record_slot_at(record->slots, i).sum;
        if (!isfinite(score)) return true;
    }
    return false;
}

enum status write_increment(const struct record *current, uint64_t now_ms, struct version version,
                            double by, uint64_t owner, hlc_time forgotten, struct buf *scratch,
                            struct record *out, struct write_outcome *outcome)
{
    if (!isfinite(by)) return STATUS_INVALID;
    if (is_stale(current, version)) return STATUS_STALE;

    struct record record = begin(current, now_ms, version);
    bool was_live = is_live(current, now_ms);
    if (was_live) {
        record = *current;
        record.version = version;
        record.created = record_created(current);
    } else {
        record.set = record.since;
    }
    buf_clear(scratch);
    /* What is added to a value that was set ends with that, by an expiry as well, and counts from 1. So does what is not
     * later than what was forgotten. */
    bool has_value = !version_equal(record.set, record.since);
    bool after = !has_value && forgotten >= RECORD_SEQUENCE_TIME_MIN && forgotten < version.time;
    enum status status = add_to_slot(record.slots, owner, after ? forgotten : 0, by, scratch);
    if (status != STATUS_OK) return status;
    record.slots = buf_slice(scratch);
    if (score_overflows(&record)) return STATUS_INVALID;

    *outcome = (struct write_outcome){was_live, record_score(&record)};
    *out = record;
    return STATUS_OK;
}

struct version write_increment_set(const struct record *current, uint64_t now_ms)
{
    return is_live(current, now_ms) ? current->set : since_after(current, now_ms);
}
