/* Which runs to merge: lazy levelling.
 *
 * Levels 0 to 2 are tiers: runs of any key range, merged into one run of the next level
 * when there are `tier_runs_max` (a large one is a group of files, which count as one). The bottom level holds files of disjoint key ranges.
 * The tiers go down when the last one is full, or together reach a quarter of the bottom.
 * A run with more than a quarter dead is written again where it stands; so is, when memory is
 * short, the one with the largest overlay. So an entry is written about 1 (flush) + 2 (tiers) + 5 (bottom) times.
 *
 * Source: Dayan and Idreos, "Dostoevsky", SIGMOD 2018, section 4.2 (lazy leveling). */
#include "store/internal.h"

enum {
    PLAN_BOTTOM_SHARE = 4,      /* Tiers go down at 1/4 of the bottom. */
    PLAN_DEAD_SHARE = 4,        /* A run is rewritten with more than 1/4 dead. */
    PLAN_DEAD_COUNT_MIN = 4096, /* Below that nothing is to be gained. */
    PLAN_RELIEF_SHARE = 64,     /* So is it below this share of the memory, when that is short, */
    PLAN_OVERLAYS_SHARE = 4,    /* unless all overlays together have more than this. */
};

/* What can still be read of a damaged run stays as it is. */
static bool is_of_level(const struct run *run, unsigned level)
{
    return run->level == level && !run_is_damaged(run);
}

/* Whether a run before `index` has the same group: then it was counted. */
static bool is_counted(const struct store *store, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (is_of_level(store->runs[i], store->runs[index]->level) &&
            store->runs[i]->group == store->runs[index]->group)
            return true;
    return false;
}

/* `*count` is that of merges and flushes, however many files each made. */
static uint64_t level_bytes(const struct store *store, unsigned level, size_t *count)
{
    uint64_t bytes = 0;
    *count = 0;
    for (size_t i = 0; i < store->run_count; i++) {
        if (!is_of_level(store->runs[i], level)) continue;
        bytes += packed_info(store->runs[i]->packed)->file_bytes;
        *count += level == STORE_BOTTOM_LEVEL || !is_counted(store, i);
    }
    return bytes;
}

/* What the output will take, near enough. */
static uint64_t current_bytes(const struct store *store, const struct run *run)
{
    const struct packed_info *info = packed_info(run->packed);
    struct overlay_totals totals;
    if (overlay_totals(store->overlays, run->packed, run->overlay, &totals) != STATUS_OK)
        return info->file_bytes;
    double share = (double)totals.current_count / (double)info->count;
    return (uint64_t)((double)info->file_bytes * share);
}

/* The inputs are there until the output is: a merge that cannot fit is not begun, or it would
 * run into a full disk again and again. */
static bool fits(const struct store *store, const struct plan *plan)
{
    uint64_t room = store->totals.free_bytes;
    uint64_t needed = 0;
    for (size_t i = 0; i < plan->run_count; i++) needed += current_bytes(store, plan->runs[i]);
    return needed <= room || needed <= room + store->reserve_held;
}

static bool ranges_overlap(const struct packed_info *a, const struct packed_info *b)
{
    return slice_compare(a->key_first, b->key_last) <= 0 &&
           slice_compare(b->key_first, a->key_last) <= 0;
}

static void take_level(const struct store *store, unsigned level, struct plan *plan)
{
    for (size_t i = 0; i < store->run_count; i++)
        if (is_of_level(store->runs[i], level)) plan->runs[plan->run_count++] = store->runs[i];
}

/* The tiers and every bottom file that one of them overlaps. */
static bool take_down(const struct store *store, struct plan *plan)
{
    plan->run_count = 0;
    for (unsigned level = 0; level < STORE_BOTTOM_LEVEL; level++) take_level(store, level, plan);

    size_t tiers = plan->run_count;
    for (size_t i = 0; i < store->run_count; i++) {
        struct run *run = store->runs[i];
        if (!is_of_level(run, STORE_BOTTOM_LEVEL)) continue;
        bool overlaps = false;
        for (size_t tier = 0; tier < tiers && !overlaps; tier++)
            overlaps =
                ranges_overlap(packed_info(run->packed), packed_info(plan->runs[tier]->packed));
        if (overlaps) plan->runs[plan->run_count++] = run;
    }
    plan->level = STORE_BOTTOM_LEVEL;
    return fits(store, plan);
}

static bool take_tier(const struct store *store, unsigned level, struct plan *plan)
{
    plan->run_count = 0;
    take_level(store, level, plan);
    plan->level = level + 1;
    return fits(store, plan);
}

static bool plan_tiers(const struct store *store, struct plan *plan)
{
    uint64_t tier_bytes = 0;
    size_t tier_count = 0;
    size_t count;
    size_t counts[STORE_BOTTOM_LEVEL];

    for (unsigned level = 0; level < STORE_BOTTOM_LEVEL; level++) {
        tier_bytes += level_bytes(store, level, &counts[level]);
        tier_count += counts[level];
    }
    uint64_t bottom_bytes = level_bytes(store, STORE_BOTTOM_LEVEL, &count);
    bool last_full = counts[STORE_BOTTOM_LEVEL - 1] >= store->options.tier_runs_max;
    bool share_reached = tier_count >= store->options.tier_runs_max &&
                         tier_bytes >= bottom_bytes / PLAN_BOTTOM_SHARE;
    if ((last_full || (share_reached && bottom_bytes > 0)) && take_down(store, plan)) return true;

    for (unsigned level = 0; level + 1 < STORE_BOTTOM_LEVEL; level++)
        if (counts[level] >= store->options.tier_runs_max && take_tier(store, level, plan))
            return true;
    return false;
}

static bool plan_rewrite(const struct store *store, struct plan *plan)
{
    for (size_t i = 0; i < store->run_count; i++) {
        struct run *run = store->runs[i];
        uint64_t count = packed_info(run->packed)->count;
        struct overlay_totals totals;
        if (run_is_damaged(run) ||
            overlay_totals(store->overlays, run->packed, run->overlay, &totals) != STATUS_OK)
            continue;
        uint64_t dead = totals.dead_count;
        bool wasteful = dead >= PLAN_DEAD_COUNT_MIN && dead > count / PLAN_DEAD_SHARE;
        if (!wasteful && dead < count) continue;
        plan->runs[0] = run;
        plan->run_count = 1;
        plan->level = run->level;
        if (fits(store, plan)) return true;
    }
    return false;
}

/* When memory is short, the run whose overlay gives most of it back. */
static bool plan_relief(const struct store *store, struct plan *plan)
{
    uint64_t bytes_max = store->options.memory_bytes_max;
    bool all_are_much = store->overlays->arena.used_bytes > bytes_max / PLAN_OVERLAYS_SHARE;
    uint64_t most_bytes = all_are_much ? 0 : bytes_max / PLAN_RELIEF_SHARE;
    if (!store_is_pressed(store)) return false;
    plan->run_count = 0;
    for (size_t i = 0; i < store->run_count; i++) {
        struct run *run = store->runs[i];
        uint64_t bytes =
            overlay_bytes(store->overlays, run->overlay, packed_info(run->packed)->count);
        if (bytes <= most_bytes || run_is_damaged(run)) continue;
        most_bytes = bytes;
        plan->runs[0] = run;
        plan->run_count = 1;
        plan->level = run->level;
    }
    return plan->run_count > 0 && fits(store, plan);
}

bool plan_compaction(const struct store *store, struct plan *plan)
{
    return plan_relief(store, plan) || plan_tiers(store, plan) || plan_rewrite(store, plan);
}
