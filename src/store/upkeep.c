/* What keeps the store going between batches: syncs, segments, expiry, space, facts. */
#include "base/check.h"
#include "base/math.h"
#include "store/internal.h"

/* --- Sync and segments --- */

enum status store_sync_begin(struct store *store, struct log_sync *sync)
{
    return log_sync_begin(store->log, sync);
}

void store_sync_complete(struct store *store, const struct log_sync *sync, enum status status)
{
    log_sync_complete(store->log, sync, status);
    store->totals.syncs++;
    if (status != STATUS_OK)
        store_poison(store, status);
    else
        store_publish(store);
}

bool store_sync_is_urgent(const struct store *store)
{
    return store->ceiling_sequence > log_durable(store->log);
}

bool store_prepare_begin(struct store *store, struct log_prepare *prepare)
{
    return store->failed == STATUS_OK && log_prepare_begin(store->log, prepare);
}

void store_prepare_complete(struct store *store, struct log_prepare *prepare, enum status status)
{
    log_prepare_complete(store->log, prepare, status);
}

/* --- Expiry --- */

/* The latest time up to which no layer has more than a step's words to hide; words that
 * expire in the same millisecond go together. */
static enum status settle_target(const struct store *store, uint64_t *target)
{
    for (size_t i = 0; i < store->run_count; i++) {
        const struct packed *packed = store->runs[i]->packed;
        uint64_t first, end, ordinal;
        enum status status = packed_expiry_range(packed, store->settled_ms, *target, &first, &end);
        if (status == STATUS_OK && end - first > STORE_SETTLE_STEP)
            status = packed_expiry_at(packed, first + STORE_SETTLE_STEP, target, &ordinal);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

enum status store_settle_run(struct store *store, struct run *run, uint64_t after_ms,
                             uint64_t upto_ms)
{
    uint64_t first, end;
    enum status status = packed_expiry_range(run->packed, after_ms, upto_ms, &first, &end);
    for (uint64_t i = first; status == STATUS_OK && i < end; i++) {
        uint64_t expires_at, ordinal;
        status = packed_expiry_at(run->packed, i, &expires_at, &ordinal);
        if (status == STATUS_OK)
            status = overlay_hide(store->overlays, run->packed, &run->overlay, ordinal);
        run->change_count++;
    }
    return status;
}

static enum status settle_generation(struct generation *generation, uint64_t upto_ms,
                                     struct buf *key)
{
    for (;;) {
        uint64_t expires_at;
        enum status status =
            query_expiry_first(&generation->trie, generation->expiry, &expires_at, key);
        if (status == STATUS_NOT_FOUND) return STATUS_OK;
        if (status != STATUS_OK) return status;
        if (expires_at > upto_ms) return STATUS_OK;

        struct record record;
        status = memtrie_get(&generation->trie, generation->root, buf_slice(key), &record, NULL);
        if (status == STATUS_OK && record.expires_at == expires_at)
            status = memtrie_hide(&generation->trie, &generation->root, buf_slice(key));
        if (status != STATUS_OK && status != STATUS_NOT_FOUND) return status;
        status =
            query_expiry_remove(&generation->trie, &generation->expiry, expires_at, buf_slice(key));
        if (status != STATUS_OK) return status;
    }
}

static bool anything_expires(const struct store *store, uint64_t now_ms)
{
    if (store->active->expiry != 0) return true;
    if (store->frozen != NULL && store->frozen->expiry != 0) return true;
    for (size_t i = 0; i < store->run_count; i++) {
        uint64_t first, end;
        if (packed_info(store->runs[i]->packed)->expires_first == 0) continue;
        if (packed_expiry_range(store->runs[i]->packed, store->settled_ms, now_ms, &first, &end) !=
                STATUS_OK ||
            first < end)
            return true;
    }
    return false;
}

/* Hides every word that expired up to `now_ms`, or the first step of them. */
static enum status settle(struct store *store, uint64_t now_ms)
{
    uint64_t target = now_ms;
    enum status status = settle_target(store, &target);
    for (size_t i = 0; status == STATUS_OK && i < store->run_count; i++)
        status = store_settle_run(store, store->runs[i], store->settled_ms, target);
    if (status == STATUS_OK) status = settle_generation(store->active, target, &store->scratch_key);
    if (status == STATUS_OK && store->frozen != NULL)
        status = settle_generation(store->frozen, target, &store->scratch_key);
    if (status == STATUS_OK) store->settled_ms = target;
    return status;
}

static void settle_expired(struct store *store)
{
    if (store->failed != STATUS_OK || store->now_ms <= store->settled_ms) return;
    if (!anything_expires(store, store->now_ms)) {
        /* Nothing to hide: the next view that is made for another reason says so. */
        store->settled_ms = store->now_ms;
        return;
    }
    store_batch_begin(store, store->now_ms);
    /* Queries subtract what is not settled: a failure costs them time, not truth. */
    (void)settle(store, store->now_ms);
    (void)store_make_view(store);
}

/* --- Space and damage --- */

bool store_use_reserve(struct store *store)
{
    if (store->reserve_held == 0) return false;
    if (reserve_release(store->env) != STATUS_OK) return false;
    store->reserve_held = 0;
    return true;
}

enum status store_fill_reserve(struct store *store)
{
    uint64_t wanted = store->options.reserve_bytes;
    if (store->reserve_held == wanted) return STATUS_OK;
    enum status status = reserve_restore(store->env, wanted);
    if (status == STATUS_OK) store->reserve_held = wanted;
    if (status == STATUS_FULL) store->reserve_held = 0;
    return status;
}

/* The reserve stays where it is until something of ours meets STATUS_FULL: given back
 * earlier, it would be anybody's. It is filled again, and puts go on, once there is room for
 * it and as much again, so that the state does not flicker. */
static void look_at_space(struct store *store)
{
    uint64_t free_bytes;
    store->no_room = false;
    if (env_free_bytes(store->env, &free_bytes) != STATUS_OK) return;
    store->totals.free_bytes = free_bytes;

    uint64_t low = store->options.low_water_bytes;
    uint64_t reserve = store->options.reserve_bytes;
    uint64_t missing = reserve - u64_min(reserve, store->reserve_held);
    bool is_roomy = free_bytes >= low + missing + reserve;
    if (!store->full) store->full = free_bytes < low;
    if (is_roomy && (store->full || missing > 0))
        store->full = store_fill_reserve(store) == STATUS_FULL;
    log_keep_space(store->log, store->full);
}

static void look_for_damage(struct store *store)
{
    if (store->damaged_file.text[0] != '\0') return;
    for (size_t i = 0; i < store->run_count; i++)
        if (run_is_damaged(store->runs[i]))
            store->damaged_file = name_of(NAME_RUN, store->runs[i]->number);
}

/* Once nothing has come for a tick: until a later header says that the newest batches were
 * durable, damage to them looks like a torn write. */
static void mark_durable(struct store *store)
{
    bool quiet = store->ticked_sequence == log_last(store->log);
    store->ticked_sequence = log_last(store->log);
    if (!quiet || store->failed != STATUS_OK || !log_wants_mark(store->log)) return;
    enum status status = log_append_mark(store->log);
    if (status != STATUS_OK && status != STATUS_FULL) store_poison(store, status);
}

void store_tick(struct store *store, uint64_t now_ms)
{
    store->now_ms = u64_max(store->now_ms, now_ms);
    mark_durable(store);
    settle_expired(store);
    look_at_space(store);
    look_for_damage(store);
    store_move_overlays(store);
}

uint64_t store_hash_seed(const struct store *store)
{
    return store->options.hash_seed;
}

const char *store_damaged_file(const struct store *store)
{
    return store->damaged_file.text[0] == '\0' ? NULL : store->damaged_file.text;
}

/* --- Facts --- */

bool store_is_clean(const struct store *store)
{
    if (store->frozen != NULL || store->active->root != 0) return false;
    if (store->flushed_sequence != log_last(store->log)) return false;

    for (size_t i = 0; i < store->run_count; i++)
        if (store->runs[i]->change_count != store->runs[i]->stored_count) return false;
    return log_durable(store->log) == log_last(store->log);
}

static void add_generation(const struct generation *generation, struct store_stats *stats)
{
    struct memtrie_totals totals = memtrie_totals(&generation->trie, generation->root);
    stats->live_count += totals.live_count;
    stats->current_count += totals.current_count;
    stats->tombstone_count += totals.tombstone_count;
    stats->memtrie_count += totals.current_count;
    stats->memtrie_bytes += arena_footprint_bytes(&generation->trie.arena);
}

static void add_run(const struct store *store, const struct run *run, struct store_stats *stats)
{
    const struct packed_info *info = packed_info(run->packed);
    struct overlay_totals totals;
    stats->run_count++;
    stats->run_bytes += info->file_bytes;
    if (overlay_totals(store->overlays, run->packed, run->overlay, &totals) != STATUS_OK) return;
    stats->live_count += totals.live_count;
    stats->current_count += totals.current_count;
    stats->dead_count += totals.dead_count;
    stats->tombstone_count += info->tombstone_count;
}

void store_stats(const struct store *store, struct store_stats *stats)
{
    *stats = store->totals;
    add_generation(store->active, stats);
    if (store->frozen != NULL) add_generation(store->frozen, stats);
    for (size_t i = 0; i < store->run_count; i++) add_run(store, store->runs[i], stats);

    stats->overlay_bytes = arena_footprint_bytes(&store->overlays->arena);
    stats->noted_bytes = store_job_touched(store);
    stats->log_bytes = log_bytes_since(store->log, store->flushed_sequence);
    stats->sequence_appended = log_last(store->log);
    stats->sequence_durable = store_durable_sequence(store);
    stats->sequence_visible = store_visible_sequence(store);
    stats->view_number = store_view_number(store);
    stats->settled_ms = store->settled_ms;
    stats->read_only = store->failed != STATUS_OK;
    stats->full = store->full;
    stats->damaged = store->damaged_file.text[0] != '\0';
}
