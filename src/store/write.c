/* The write path: resolve, put, kill, append. */
#include "core/write.h"

#include "base/check.h"
#include "base/math.h"
#include "base/planted.h"
#include "store/batch.h"
#include "store/internal.h"

static enum status find_in_runs(struct store *store, struct slice key, struct place *place,
                                struct record *record)
{
    uint64_t hash = packed_key_hash(key);
    for (size_t i = 0; i < store->run_count; i++) packed_prefetch(store->runs[i]->packed, hash);

    for (size_t i = 0; i < store->run_count; i++) {
        struct run *run = store->runs[i];
        uint64_t ordinal;
        enum status status = packed_find_hashed(run->packed, key, hash, &ordinal);
        if (status == STATUS_NOT_FOUND) continue;
        if (status != STATUS_OK) return status;

        enum overlay_state state =
            overlay_state(store->overlays, run->packed, run->overlay, ordinal);
        if (state == OVERLAY_DEAD) continue;
        status = packed_record(run->packed, ordinal, record);
        if (status != STATUS_OK) return status;
        *place = (struct place){PLACE_RUN, run, ordinal, state == OVERLAY_HIDDEN};
        return STATUS_OK;
    }
    *place = (struct place){.kind = PLACE_NOWHERE};
    return STATUS_OK;
}

enum status store_find(struct store *store, struct slice key, struct place *place,
                       struct record *record)
{
    struct generation *active = store->active;
    struct generation *frozen = store->frozen;
    enum place_kind kind = PLACE_ACTIVE;
    bool hidden;
    enum status status = memtrie_seek(&active->trie, active->root, key, record, &hidden);
    if (status == STATUS_NOT_FOUND && frozen != NULL) {
        kind = PLACE_FROZEN;
        status = memtrie_get(&frozen->trie, frozen->root, key, record, &hidden);
    }
    if (status == STATUS_NOT_FOUND) return find_in_runs(store, key, place, record);
    *place = (struct place){.kind = kind, .hidden = hidden};
    return status;
}

enum status store_current(struct store *store, struct slice key, struct record *out)
{
    struct place place;
    struct record record;
    enum status status = store_find(store, key, &place, &record);
    if (status != STATUS_OK) return status;
    if (place.kind == PLACE_NOWHERE) return STATUS_NOT_FOUND;
    *out = record;
    return STATUS_OK;
}

static enum status kill_where_it_lies(struct store *store, struct slice key,
                                      const struct place *place, const struct record *former)
{
    switch (place->kind) {
    case PLACE_NOWHERE:
    case PLACE_ACTIVE:
        return STATUS_OK; /* Putting replaced it. */
    case PLACE_FROZEN:
        return memtrie_remove(&store->frozen->trie, &store->frozen->root, key);
    case PLACE_RUN:
        break;
    }
    store_save_run(store, place->run);
    return overlay_kill(store->overlays, place->run->packed, &place->run->overlay, place->ordinal,
                        record_hash(key, former, store->options.hash_seed));
}

/* Only what is dead is noted: a job would kill in its output what lives on in its input. */
static enum status kill(struct store *store, struct slice key, const struct place *place,
                        const struct record *former)
{
    enum status status = kill_where_it_lies(store, key, place, former);
    if (status != STATUS_OK) return status;
    store_job_touch(store, key, place);
    if (place->kind == PLACE_RUN) {
        store->kills_unstored++;
        place->run->change_count++;
    }
    return STATUS_OK;
}

/* What expired before the view's time is hidden from the start: nobody subtracts it. */
static enum status put(struct store *store, struct slice key, const struct record *record)
{
    struct generation *active = store->active;
    bool settled = record->expires_at != 0 && record->expires_at <= store->settled_ms;
    enum status status = STATUS_OK;

    if (record->expires_at != 0 && !settled)
        status = query_expiry_put(&active->trie, &active->expiry, record->expires_at, key);
    if (status == STATUS_OK) status = memtrie_put(&active->trie, &active->root, key, record);
    if (status != STATUS_OK || !settled) return status;

    status = memtrie_hide(&active->trie, &active->root, key);
    if (status != STATUS_OK) store_poison(store, status);
    return status;
}

enum status store_install(struct store *store, struct slice key, const struct record *record,
                          const struct place *place, const struct record *former)
{
    enum status status = store_job_expect(store, key);
    if (status == STATUS_OK) status = put(store, key, record);
    if (status != STATUS_OK) return status;
    status = kill(store, key, place, former);
    if (status == STATUS_OK) return STATUS_OK;

    /* Put and not killed, the key would be current twice. A damaged page under the former
     * record costs this one write; what cannot be taken back costs all that follow. */
    enum status undone = memtrie_remove(&store->active->trie, &store->active->root, key);
    if (undone != STATUS_OK) store_poison(store, undone);
    return status;
}

/* Appends the result to the batch and installs it; a failure takes it back out. */
static enum status apply(struct store *store, struct slice key, const struct record *record,
                         const struct place *place, const struct record *former,
                         struct store_outcome *outcome)
{
    size_t before = store->batch.size;
    buf_clear(&store->encoded);
    record_encode(record, &store->encoded);
    if (buf_status(&store->encoded) != STATUS_OK) return STATUS_NOMEM;
    batch_append_record(&store->batch, key, buf_slice(&store->encoded));
    if (buf_status(&store->batch) != STATUS_OK) {
        buf_clear(&store->batch);
        buf_commit(&store->batch, before);
        return STATUS_NOMEM;
    }

    enum status status = store_install(store, key, record, place, former);
    if (status != STATUS_OK) {
        store->batch.size = before;
        return status;
    }
    outcome->encoded = buf_slice(&store->encoded);
    store->batch_count++;
    store->totals.user_bytes += key.size + sizeof(double) + sizeof(uint64_t);
    return STATUS_OK;
}

/* A version above everything given out, above the record that stands and above what a replica
 * is known to hold: a skewed clock must not make an acknowledged write lose against what it
 * replaced. One stamp far in the future does not drag the clock after it. */
static struct version stamp(struct store *store, const struct store_write *write,
                            const struct record *current)
{
    hlc_time time = hlc_tick(&store->clock, store->stamp_ms);
    hlc_time below = write->above.time;
    if (current != NULL) below = u64_max(below, current->version.time);
    return (struct version){u64_max(time, below + 1), store->options.node_id};
}

void store_set_writer(struct store *store, uint16_t node_id, uint64_t owner)
{
    store->options.node_id = node_id;
    store->options.slot_owner = owner;
}

void store_set_gc_age(struct store *store, uint64_t gc_age_ms)
{
    store->options.gc_age_ms = gc_age_ms;
}

static uint64_t slot_owner(const struct store *store)
{
    return store->options.slot_owner != 0 ? store->options.slot_owner : store->options.node_id;
}

static enum status make_record(struct store *store, const struct store_write *write,
                               const struct record *current, struct record *record,
                               struct write_outcome *outcome)
{
    struct version version = stamp(store, write, current);
    if (version.time > VERSION_TIME_MAX) return STATUS_LIMIT;
    switch (write->kind) {
    case STORE_SET:
        return write_set(current, store->now_ms, version,
                         &(struct write_value){
                             .score = write->score,
                             .has_payload = write->has_payload,
                             .payload = write->payload,
                             .tags = write->tags,
                             .expires_at = write->expires_at,
                         },
                         record, outcome);
    case STORE_REMOVE:
        return write_remove(current, store->now_ms, version, record, outcome);
    case STORE_INCREMENT:
        return write_increment(current, store->now_ms, version, write->score, slot_owner(store),
                               write->purged_upto, &store->scratch, record, outcome);
    case STORE_MERGE:
    case STORE_APPLY:
    case STORE_FORGET:
        break;
    }
    CHECK(false);
    return STATUS_INVALID;
}

static bool is_live(const struct store *store, const struct record *current,
                    const struct place *place)
{
    return current != NULL && !place->hidden && record_is_present(current) &&
           !record_is_expired(current, store->now_ms);
}

/* Has it a value that was set, and not only added to, before so much was purged? */
static bool is_of_old_value(const struct record *record, hlc_time purged_upto)
{
    return !record->tombstone && record->set.time <= purged_upto &&
           !version_equal(record->set, record->since);
}

/* Whether it is known here that the value was deleted. `current`: NULL where nothing stands. */
static bool is_of_deleted_value(const struct store_write *write, const struct record *current)
{
    if (!write->knows_all || !is_of_old_value(write->record, write->purged_upto)) return false;
    if (current == NULL) return true;
    return !current->tombstone && version_compare(current->set, write->record->set) < 0;
}

/* Whether the value that stands may have been deleted: what comes is newer, or what it was joined with before, and has
 * it not. Of the old, only what increments made anew: one with an older value has missed this one, for a removal takes
 * both. */
static bool is_doubtful(const struct store_write *write, const struct record *current)
{
    return current != NULL && !write->knows_all && is_of_old_value(current, write->purged_upto) &&
           !write->record->tombstone && version_compare(write->record->set, current->set) < 0 &&
           (write->record->version.time > write->purged_upto ||
            (version_equal(write->record->set, write->record->since) &&
             version_compare(write->record->version, current->version) >= 0));
}

/* Whether a record is one that was purged, or is known here already. */
static bool is_purged(const struct store_write *write, const struct record *current)
{
    if (is_of_deleted_value(write, current)) return true;
    if (write->record->version.time > write->purged_upto) return false;
    if (current == NULL)
        return write->knows_all || record_is_dead_by(write->record, write->purged_upto);
    return write->knows_all && current->version.time > write->purged_upto;
}

/* `write`: what it came with; NULL: nothing was purged. */
static enum status merge(struct store *store, const struct store_write *write, struct slice key,
                         const struct record *record, bool logged, struct store_outcome *outcome)
{
    struct place place;
    struct record found;
    struct record joined;

    enum status status = store_find(store, key, &place, &found);
    if (status != STATUS_OK) return status;
    const struct record *current = place.kind == PLACE_NOWHERE ? NULL : &found;
    outcome->was_live = is_live(store, current, &place);
    if (write != NULL && is_purged(write, current)) return STATUS_OK;

    joined = *record;
    if (current != NULL && (write == NULL || !is_doubtful(write, current))) {
        status = record_join(current, record, &store->scratch, &joined);
        if (status != STATUS_OK) return status;
    }
    if (planted(BUG_EXPIRY_IS_AN_EVENT) && record_is_expired(&joined, store->now_ms))
        joined = record_of_tombstone(joined.version);
    outcome->version = joined.version;
    outcome->score = record_score(&joined);
    if (current != NULL && record_equal(current, &joined)) return STATUS_OK;

    outcome->changed = true;
    return logged ? apply(store, key, &joined, &place, &found, outcome)
                  : store_install(store, key, &joined, &place, &found);
}

enum status store_merge(struct store *store, struct slice key, const struct record *record,
                        bool logged, struct store_outcome *outcome)
{
    return merge(store, NULL, key, record, logged, outcome);
}

/* Whether `slots` has what the last addition in `added` made, or more; added to another value, only what outlives that one's
 * end. */
static bool has_slots(struct slice slots, struct slice added, bool same_value, struct version set)
{
    size_t count = slots.size / RECORD_SLOT_BYTES, at = 0;
    if (!same_value && added.size == 0) return false;
    for (size_t i = 0; i < added.size / RECORD_SLOT_BYTES; i++) {
        struct record_slot slot = record_slot_at(added, i);
        while (at < count && record_slot_at(slots, at).owner < slot.owner) at++;
        if (at == count) return false;
        struct record_slot held = record_slot_at(slots, at);
        if (held.owner != slot.owner || held.sequence < slot.sequence) return false;
        if (!same_value && !record_slot_outlives(&slot, set)) return false;
    }
    return true;
}

/* Whether the join of `current` with `record` still shows what the client asked for. */
static bool survives(const struct store *store, const struct store_write *write,
                     const struct record *current, const struct record *joined)
{
    const struct record *record = write->record;
    if (write->is_increment)
        return !joined->tombstone &&
               has_slots(joined->slots, record->slots, version_equal(joined->set, record->set),
                         joined->set);
    int order = version_compare(current->version, record->version);
    if (order != 0) return order < 0;
    /* A version given out twice, over a restart that forgot the first: the client must have
     * another. Equal in all but what the join added is the same write once more. */
    uint64_t seed = store->options.hash_seed;
    return current->tombstone == record->tombstone &&
           sum_equal(record_hash(write->key, current, seed), record_hash(write->key, joined, seed));
}

static enum status write_apply(struct store *store, const struct store_write *write,
                               struct store_outcome *outcome)
{
    struct place place;
    struct record current, joined;
    enum status status = store_find(store, write->key, &place, &current);
    if (status != STATUS_OK) return status;
    bool present = place.kind != PLACE_NOWHERE;
    hlc_time time = write->record->version.time;

    if (is_of_deleted_value(write, present ? &current : NULL)) {
        outcome->version = write->record->version;
        return STATUS_STALE;
    }
    if (present && !is_doubtful(write, &current)) {
        status = record_join(&current, write->record, &store->scratch, &joined);
        if (status != STATUS_OK) return status;
        if (!survives(store, write, &current, &joined)) {
            outcome->version = current.version;
            return STATUS_STALE;
        }
    }
    /* Stamped above what stands here, far ahead or not: no broken clock of its own. */
    bool restamped = present && time <= current.version.time + 1;
    if (!restamped) {
        if (hlc_wall_ms(time) > store->stamp_ms + store->options.clock_skew_max_ms)
            return STATUS_CLOCK_SKEW;
        store->clock.last = u64_max(store->clock.last, time);
    }
    return merge(store, write, write->key, write->record, true, outcome);
}

enum status store_forget(struct store *store, struct slice key, struct version version, bool logged,
                         struct store_outcome *outcome)
{
    struct place place;
    struct record current;
    enum status status = store_find(store, key, &place, &current);
    if (status != STATUS_OK || place.kind == PLACE_NOWHERE) return status;
    outcome->version = current.version;
    if (!version_is_none(version) && !version_equal(current.version, version)) return STATUS_OK;

    size_t before = store->batch.size;
    if (logged) batch_append_forget(&store->batch, key, current.version);
    status = buf_status(&store->batch);
    if (status == STATUS_OK) status = store_job_expect(store, key);
    if (status == STATUS_OK)
        status = place.kind == PLACE_ACTIVE
                     ? memtrie_remove(&store->active->trie, &store->active->root, key)
                     : kill(store, key, &place, &current);
    if (status != STATUS_OK) {
        buf_clear(&store->batch);
        buf_commit(&store->batch, before);
        return status;
    }
    store->batch_count += logged;
    outcome->changed = true;
    outcome->version = (struct version){0};
    return STATUS_OK;
}

static enum status write_local(struct store *store, const struct store_write *write,
                               struct store_outcome *outcome)
{
    struct place place;
    struct record found;
    struct record result;

    enum status status = store_find(store, write->key, &place, &found);
    if (status != STATUS_OK) return status;
    const struct record *current = place.kind == PLACE_NOWHERE ? NULL : &found;
    outcome->was_live = is_live(store, current, &place);

    /* Removing what is not there writes nothing, where no replica can hold anything older. */
    if (write->kind == STORE_REMOVE && !write->leave_tombstone &&
        (current == NULL || current->tombstone)) {
        if (current != NULL) outcome->version = current->version;
        return STATUS_OK;
    }

    struct write_outcome made;
    status = make_record(store, write, current, &result, &made);
    if (status != STATUS_OK) return status;
    outcome->changed = true;
    outcome->version = result.version;
    outcome->score = made.score;
    return apply(store, write->key, &result, &place, &found, outcome);
}

enum status store_can_write(const struct store *store)
{
    if (store->failed != STATUS_OK) return STATUS_READ_ONLY;
    if (store->full) return STATUS_FULL;

    /* A second memory trie fills while the first is flushed; a third would only hide
     * that writes come faster than the disk takes them. */
    if (store->frozen != NULL &&
        arena_footprint_bytes(&store->active->trie.arena) > store->options.memtrie_bytes_max)
        return STATUS_BUSY;
    return STATUS_OK;
}

static struct batch_start tip_now(const struct store *store)
{
    struct batch_start start = {
        .active = store->active->root,
        .active_expiry = store->active->expiry,
        .active_retired = store->active->trie.arena.retired_total,
        .overlays_retired = store->overlays->arena.retired_total,
        .kills_unstored = store->kills_unstored,
        .touched_size = store_job_touched(store),
    };
    if (store->frozen == NULL) return start;
    start.frozen = store->frozen->root;
    start.frozen_expiry = store->frozen->expiry;
    start.frozen_retired = store->frozen->trie.arena.retired_total;
    return start;
}

void store_batch_begin(struct store *store, uint64_t now_ms)
{
    store->now_ms = u64_max(store->now_ms, now_ms);
    store->stamp_ms = now_ms;
    if (store->batch.capacity > STORE_BATCH_KEEP_BYTES) buf_deinit(&store->batch);
    buf_clear(&store->batch);
    buf_append_slice(&store->batch, buf_slice(&store->owed));
    store->batch_count = store->owed.size > 0;
    store->batch_number++;
    memtrie_begin_batch(&store->active->trie);
    if (store->frozen != NULL) memtrie_begin_batch(&store->frozen->trie);
    overlay_begin_batch(store->overlays);
    store->batch_start = tip_now(store);
}

void store_save_run(struct store *store, struct run *run)
{
    if (run->saved_in == store->batch_number) return;
    run->saved_in = store->batch_number;
    run->saved_overlay = run->overlay;
    run->saved_change_count = run->change_count;
}

static void take_back_run(struct store *store, struct run *run)
{
    if (run->saved_in != store->batch_number) return;
    overlay_drop(store->overlays, run->overlay, packed_info(run->packed)->count);
    run->overlay = run->saved_overlay;
    run->change_count = run->saved_change_count;
}

/* The memory tries keep the nodes that the batch made until they are flushed: nobody sees them,
 * and they count as footprint. */
void store_take_back(struct store *store)
{
    const struct batch_start *start = &store->batch_start;
    for (size_t i = 0; i < store->run_count; i++) take_back_run(store, store->runs[i]);
    store_job_take_back(store, start->touched_size, take_back_run);
    arena_unretire(&store->overlays->arena, start->overlays_retired);

    store->active->root = start->active;
    store->active->expiry = start->active_expiry;
    arena_unretire(&store->active->trie.arena, start->active_retired);
    if (store->frozen != NULL) {
        store->frozen->root = start->frozen;
        store->frozen->expiry = start->frozen_expiry;
        arena_unretire(&store->frozen->trie.arena, start->frozen_retired);
    }
    store->kills_unstored = start->kills_unstored;
}

static enum status resolve(struct store *store, const struct store_write *write,
                           struct store_outcome *outcome)
{
    switch (write->kind) {
    case STORE_SET:
    case STORE_REMOVE:
    case STORE_INCREMENT:
        return write_local(store, write, outcome);
    case STORE_MERGE:
        return merge(store, write, write->key, write->record, true, outcome);
    case STORE_APPLY:
        return write_apply(store, write, outcome);
    case STORE_FORGET:
        return store_forget(store, write->key, write->above, true, outcome);
    }
    CHECK(false);
    return STATUS_INVALID;
}

/* What frees room, or may, and what the node itself cannot do without. */
static bool goes_while_full(const struct store_write *write)
{
    return write->kind == STORE_REMOVE || write->kind == STORE_FORGET || write->is_upkeep;
}

void store_write(struct store *store, const struct store_write *write,
                 struct store_outcome *outcome)
{
    *outcome = (struct store_outcome){.status = STATUS_OK};
    store->totals.writes++;
    if (store->failed != STATUS_OK) {
        outcome->status = STATUS_READ_ONLY;
        return;
    }
    if (store->no_room || (store->full && !goes_while_full(write))) {
        outcome->status = STATUS_FULL;
        return;
    }
    outcome->status = resolve(store, write, outcome);
}

/* Loads what the writes will meet in the memory trie. */
static void warm(struct store *store, const struct store_write *writes, size_t count)
{
    struct slice keys[MEMTRIE_WARM_COUNT_MAX];
    for (size_t i = 0; i < count; i++) keys[i] = writes[i].key;
    memtrie_warm(&store->active->trie, store->active->root, keys, count);
}

/* Keys close to each other share their ways, which are warm then: loading them ahead pays
 * off where the last searches had to go far. */
void store_write_all(struct store *store, const struct store_write *writes,
                     struct store_outcome *outcomes, size_t count)
{
    enum { LEVELS_FAR = 4 };
    const struct memtrie *trie = &store->active->trie;
    bool far = true;
    for (size_t done = 0; done < count;) {
        size_t group = size_min(count - done, MEMTRIE_WARM_COUNT_MAX);
        if (far) warm(store, writes + done, group);
        uint64_t levels = trie->level_count;
        for (size_t i = done; i < done + group; i++) store_write(store, &writes[i], &outcomes[i]);
        far = trie->level_count - levels >= group * LEVELS_FAR;
        done += group;
    }
}

/* Versions given out stay under a ceiling that is in the log before they are: a clock set
 * back over a restart cannot give one out twice. */
static void raise_ceiling(struct store *store)
{
    hlc_time margin = (hlc_time)STORE_CEILING_MARGIN_MS << HLC_COUNTER_BITS;
    if (store->clock.last + margin < store->ceiling) return;

    store->ceiling = store->clock.last + ((hlc_time)STORE_CEILING_STEP_MS << HLC_COUNTER_BITS);
    if (!planted(BUG_CEILING_NOT_LOGGED)) batch_append_ceiling(&store->batch, store->ceiling);
    store->ceiling_sequence = log_last(store->log) + 1;
}

static bool is_final(enum status status)
{
    return status != STATUS_FULL && status != STATUS_NOMEM && status != STATUS_LIMIT;
}

enum status store_append_batch(struct store *store, uint64_t *sequence)
{
    hlc_time ceiling = store->ceiling;
    uint64_t ceiling_sequence = store->ceiling_sequence;
    size_t size = store->batch.size;
    raise_ceiling(store);
    struct slice payload = buf_slice(&store->batch);
    enum status status = buf_status(&store->batch);
    if (status == STATUS_OK) status = log_append(store->log, payload, sequence);
    if (status == STATUS_FULL) {
        /* The low-water mark refuses puts long before; this is for what got in under it. */
        store->full = true;
        if (store_use_reserve(store)) status = log_append(store->log, payload, sequence);
    }
    store->no_room = status == STATUS_FULL;
    if (status != STATUS_OK) {
        store->ceiling = ceiling;
        store->ceiling_sequence = ceiling_sequence;
        store->batch.size = size_min(size, store->batch.size);
        return status;
    }
    buf_clear(&store->owed);
    store->totals.batches++;
    store->totals.log_written_bytes += payload.size;
    return STATUS_OK;
}

uint64_t store_durable_sequence(const struct store *store)
{
    return log_durable(store->log);
}

uint64_t store_next_sequence(const struct store *store)
{
    return log_last(store->log) + 1;
}

uint64_t store_ahead_ms(const struct store *store, uint64_t wall_ms)
{
    uint64_t last_ms = hlc_wall_ms(store->clock.last);
    return last_ms - u64_min(last_ms, wall_ms);
}

enum status store_batch_commit(struct store *store, uint64_t *sequence)
{
    struct pending_view *pending;
    if (store->failed != STATUS_OK) return STATUS_READ_ONLY;
    if (store->batch_count == 0) {
        *sequence = log_last(store->log);
        return STATUS_OK;
    }
    enum status status = store_prepare_view(store, &pending);
    if (status == STATUS_OK) {
        status = store_append_batch(store, sequence);
        if (status == STATUS_OK)
            store_add_view(store, pending);
        else
            store_drop_view(store, pending);
    }
    if (status == STATUS_OK) return STATUS_OK;
    if (is_final(status))
        store_poison(store, status);
    else if (!planted(BUG_REFUSED_BATCH_STAYS))
        store_take_back(store);
    return status;
}

void store_poison(struct store *store, enum status status)
{
    if (store->failed == STATUS_OK) store->failed = status;
    store_drop_pending(store);
}
