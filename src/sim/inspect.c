#include "sim/inspect.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "sim/world_private.h"

#define NO_OPERATION UINT32_MAX

enum { LIFE_US = 120000000 /* No message is on its way for longer. */ };

#define VERSION_FORMAT "%llu.%u@%u"
#define VERSION_ARGUMENTS(version)                                                                 \
    (unsigned long long)hlc_wall_ms((version).time), (unsigned)((version).time & 0xFFFF),          \
        (unsigned)(version).node
#define WORD_ARGUMENTS(word) (int)(word)->text.size, (const char *)(word)->text.data

void inspection_create(struct sim *sim)
{
    struct inspection *inspection = &sim->inspection;
    size_t words = sim->options.word_count, nodes = sim->machine_count;
    inspection->seen = calloc(words * nodes, sizeof *inspection->seen);
    inspection->purged = calloc(words, sizeof *inspection->purged);
    inspection->swept = calloc(words, sizeof *inspection->swept);
    CHECK(inspection->seen != NULL);
    CHECK(inspection->purged != NULL);
    CHECK(inspection->swept != NULL);
}

void inspection_destroy(struct sim *sim)
{
    free(sim->inspection.seen);
    free(sim->inspection.purged);
    free(sim->inspection.swept);
    free(sim->inspection.maps);
}

static struct seen *seen_of(const struct sim *sim, uint32_t word, uint32_t node)
{
    return &sim->inspection.seen[(size_t)word * sim->machine_count + node];
}

__attribute__((format(printf, 3, 4))) static void find(struct sim *sim, enum sim_check check,
                                                       const char *format, ...)
{
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    sim_find(&sim->checker.finding, check, sim->schedule.now_us, "%s", text);
}

/* Who owns what */

/* The maps that members go by, or, with `former`, those as well that are none any more and do not know it,
 * from the oldest to the newest. */
static void note_maps_in_use(struct sim *sim, bool former)
{
    uint64_t least = rangemap_identity(sim_newest_map(sim))->number;
    for (uint32_t node = 0; node < sim->machine_count; node++) {
        struct sim_process *process = process_of(sim, node);
        uint64_t oldest;
        if (!is_up(process) || process->ops->map == NULL) continue;
        if (!former && !sim_is_member(sim, node)) continue;
        if (process->ops->map(process->program, &oldest) == NULL) continue;
        /* With a disk that was set back it coordinates nothing before it has found out. */
        if (oldest < sim->machines[node].lost_map) continue;
        least = u64_min(least, oldest);
    }
    sim->inspection.oldest_map = least;
}

/* The next map in use after `*number`, which begins with 0. */
static const struct rangemap *next_map(const struct sim *sim, uint64_t *number)
{
    uint64_t newest = rangemap_identity(sim_newest_map(sim))->number;
    *number = u64_max(*number + 1, sim->inspection.oldest_map);
    for (; *number <= newest; ++*number) {
        const struct rangemap *map = sim_map_of(sim, *number);
        if (map != NULL) return map;
    }
    return NULL;
}

static struct shard shard_of(const struct rangemap *map, const struct word *word)
{
    return rangemap_shard(map, rangemap_find(map, word->key));
}

static enum sim_role role_of(const struct sim_process *process, const struct word *word)
{
    return process->ops->role == NULL ? SIM_ANSWERS
                                      : process->ops->role(process->program, word->key);
}

/* May the node answer reads of the word, under this shard? Of one that is down: once it is up. */
static bool answers(struct sim *sim, const struct word *word, const struct shard *shard, node_id id)
{
    uint32_t node = sim_machine_of(sim, id);
    if (node == NOTHING || sim->machines[node].id != id) return false;
    const struct sim_process *process = process_of(sim, node);
    if (is_up(process)) return role_of(process, word) == SIM_ANSWERS;
    if (sim->machines[node].set_back) return false; /* It knows, or finds out. */
    return owners_contain(&shard->owners, id);      /* A next owner begins again to fill. */
}

/* One record */

static struct seen seen_from(const struct record *record)
{
    struct seen seen = {
        .present = true,
        .tombstone = record->tombstone,
        .emptied = !record->tombstone && !record_is_present(record),
        .expires_at = record->expires_at,
        .by = NO_OPERATION,
        .version = record->version,
        .since = record->since,
        .set = record->set,
    };
    if (record->has_payload && record->payload.size > 1) {
        seen.by = 0;
        for (size_t i = 1; i < record->payload.size; i++)
            seen.by = seen.by * 10 + (uint32_t)(record->payload.data[i] - '0');
    }
    return seen;
}

/* What a node may forget, as soon as all owners know of it. */
static bool is_dead(const struct sim *sim, const struct seen *seen)
{
    uint64_t now_ms = (SIM_CLOCK_START_US + sim->schedule.now_us) / 1000;
    if (!seen->present) return false;
    if (seen->tombstone || seen->emptied) return true;
    return seen->expires_at != 0 && seen->expires_at <= now_ms;
}

static void look(struct sim *sim, uint32_t index, uint32_t node);

static void note_purge(struct sim *sim, uint32_t index, uint32_t node, const struct seen *was)
{
    const struct word *word = &sim->checker.words[index];
    struct version *purged = &sim->inspection.purged[index];
    struct shard shard = shard_of(sim_newest_map(sim), word);
    const struct owners *owners = shard_read_owners(&shard);
    *purged = version_max(*purged, was->version);
    for (uint8_t i = 0; i < owners->count; i++) {
        uint32_t other = sim_machine_of(sim, owners->ids[i]);
        if (other == node) continue;
        look(sim, index, other); /* It may have learned of it since it was looked at. */
        if (!answers(sim, word, &shard, owners->ids[i])) continue;
        const struct seen *copy = seen_of(sim, index, other);
        if (!copy->present || version_compare(copy->version, was->version) >= 0) continue;
        find(sim, SIM_CHECK_CAME_BACK,
             "%.*s: n%u purged the tombstone " VERSION_FORMAT ", and n%u still has " VERSION_FORMAT,
             WORD_ARGUMENTS(word), node + 1, VERSION_ARGUMENTS(was->version), other + 1,
             VERSION_ARGUMENTS(copy->version));
    }
}

/* Gone from a node that owns the word, though it may just have started and not answer yet when it was looked at last, or
 * from one that is rid of it. */
static void note_absence(struct sim *sim, uint32_t word, uint32_t node, const struct seen *was)
{
    struct version *swept = &sim->inspection.swept[word];
    bool answers = role_of(process_of(sim, node), &sim->checker.words[word]) == SIM_ANSWERS;
    if (!was->answers && !answers)
        *swept = version_max(*swept, was->version);
    else if (is_dead(sim, was))
        note_purge(sim, word, node, was);
}

/* It was forgotten and begun anew since it was looked at: nothing of what was dead shows in it. */
static bool begins_anew(const struct seen *is, const struct seen *was)
{
    /* What a removal left of newer increments shows by that removal alone. */
    struct version shows = was->emptied ? was->since : was->version;
    return !is->tombstone && version_compare(is->version, was->version) > 0 &&
           version_compare(version_max(is->set, is->since), shows) < 0;
}

static void check_purged(struct sim *sim, uint32_t word, uint32_t node, const struct seen *seen)
{
    struct version purged = sim->inspection.purged[word];
    if (version_is_none(purged) || seen->tombstone || !seen->answers) return;
    /* Some come round to dropping what has expired later than others. */
    int order = version_compare(seen->version, purged);
    bool is_older = order < 0 || (order == 0 && !is_dead(sim, seen));
    bool holds_older = !version_is_none(seen->set) && version_compare(seen->set, purged) < 0 &&
                       version_compare(seen->since, purged) < 0;
    if (!is_older && !holds_older) return;
    find(sim, SIM_CHECK_CAME_BACK,
         "%.*s: n%u holds " VERSION_FORMAT " set " VERSION_FORMAT
         ", though the tombstone " VERSION_FORMAT " was purged",
         WORD_ARGUMENTS(&sim->checker.words[word]), node + 1, VERSION_ARGUMENTS(seen->version),
         VERSION_ARGUMENTS(seen->set), VERSION_ARGUMENTS(purged));
}

static void check_forked(struct sim *sim, uint32_t word, uint32_t node, const struct seen *seen)
{
    if (seen->by == NO_OPERATION) return;
    for (uint32_t other = 0; other < sim->machine_count; other++) {
        const struct seen *copy = seen_of(sim, word, other);
        if (!copy->present || copy->by == NO_OPERATION || copy->by == seen->by) continue;
        if (!version_equal(copy->set, seen->set)) continue;
        find(sim, SIM_CHECK_FORKED,
             "%.*s: under " VERSION_FORMAT " n%u holds operation %u, and n%u operation %u",
             WORD_ARGUMENTS(&sim->checker.words[word]), VERSION_ARGUMENTS(seen->set), node + 1,
             seen->by, other + 1, copy->by);
    }
}

static void look(struct sim *sim, uint32_t index, uint32_t node)
{
    struct sim_process *process = process_of(sim, node);
    if (!is_up(process)) return;
    struct word *word = &sim->checker.words[index];
    struct seen *seen = seen_of(sim, index, node);
    struct query query = sim_process_query(process);
    struct query_hit hit;

    sim->inspection.look_count++;
    enum status status = query_get(&query, word->key, &hit);
    if (process->ops->purged != NULL)
        seen->purged = process->ops->purged(process->program, word->key);
    if (status == STATUS_NOT_FOUND) {
        struct seen was = *seen;
        *seen = (struct seen){.by = NO_OPERATION, .purged = was.purged};
        if (was.present) note_absence(sim, index, node, &was);
        return;
    }
    if (status != STATUS_OK) return; /* Damaged: it says so. */
    struct seen is = seen_from(&hit.record);
    seen->answers = is.answers = role_of(process, word) == SIM_ANSWERS;
    if (seen->present && version_equal(seen->version, is.version) && seen->by == is.by &&
        version_equal(seen->set, is.set) && version_equal(seen->since, is.since) &&
        word->class != WORD_COUNTER)
        return;
    struct seen was = *seen;
    is.purged = was.purged;
    *seen = is;
    if (is_dead(sim, &was) && begins_anew(&is, &was)) note_absence(sim, index, node, &was);
    checker_look_at(&sim->checker, sim->schedule.now_us, index, &hit.record);
    check_purged(sim, index, node, seen);
    check_forked(sim, index, node, seen);
}

/* Who holds what was acknowledged */

struct text {
    char bytes[200];
    size_t size;
};

static void text_add(struct text *text, node_id id, const char *what)
{
    size_t left = sizeof text->bytes - text->size;
    int size =
        snprintf(text->bytes + text->size, left, "%s %u %s", text->size == 0 ? "" : ",", id, what);
    if (size > 0 && (size_t)size < left) text->size += (size_t)size;
}

/* What it wrote is dead by now. */
static bool is_over(const struct sim *sim, const struct operation *operation)
{
    uint64_t now_ms = (SIM_CLOCK_START_US + sim->schedule.now_us) / 1000;
    if (operation->kind == REQUEST_REMOVE) return true;
    return operation->expires_at != 0 && operation->expires_at <= now_ms;
}

/* Somewhere what came after it is dead, and may be forgotten: a removal of which no client was told. */
static bool is_succeeded(const struct sim *sim, uint32_t word, struct version version,
                         hlc_time purged)
{
    for (uint32_t node = 0; node < sim->machine_count; node++) {
        const struct seen *seen = seen_of(sim, word, node);
        bool counts = is_dead(sim, seen) && seen->version.time <= purged;
        if (counts && version_compare(seen->version, version) >= 0) return true;
    }
    return false;
}

static bool holds(const struct sim *sim, uint32_t word, const struct seen *seen,
                  const struct operation *operation, struct version version)
{
    bool purged = version_compare(sim->inspection.purged[word], version) >= 0;
    /* Who was filled after a purge was never given what was dead by then, though others have not come
     * round to dropping it. */
    if (!seen->present)
        return purged || (is_over(sim, operation) && version.time <= seen->purged) ||
               is_succeeded(sim, word, version, seen->purged);
    if (version_compare(seen->version, version) < 0) return false;
    /* Increments of a word that was forgotten begin with nothing. */
    if (purged && version_is_none(seen->set)) return true;
    if (seen->tombstone || !operation->precise || operation->kind == REQUEST_INCREMENT) return true;
    return version_compare(seen->set, version) >= 0 || version_compare(seen->since, version) >= 0;
}

/* Finds out whether the version told is that of this write, or of a newer one that won over it. */
static bool is_precise(struct sim *sim, uint32_t index, const struct operation *operation)
{
    for (uint32_t node = 0; node < sim->machine_count; node++) {
        const struct seen *seen = seen_of(sim, operation->word, node);
        if (!seen->present) continue;
        if (operation->kind == REQUEST_SET && seen->by == index &&
            version_equal(seen->set, operation->version))
            return true;
        if (operation->kind == REQUEST_REMOVE && seen->tombstone &&
            version_equal(seen->version, operation->version))
            return true;
    }
    return false;
}

/* Whether an owner that may answer lacks what was acknowledged. Most do not, which is found out first. */
static bool lacks(struct sim *sim, uint32_t index, const struct operation *operation,
                  struct version version, const struct shard *shard, node_id id)
{
    uint32_t node = sim_machine_of(sim, id);
    const struct seen *seen = node == NOTHING ? NULL : seen_of(sim, index, node);
    if (seen != NULL && holds(sim, index, seen, operation, version)) return false;
    if (!answers(sim, &sim->checker.words[index], shard, id)) return false;
    look(sim, index, node);
    if (holds(sim, index, seen, operation, version)) return false;
    /* A removal of unknown outcome may have happened, and been forgotten, between two looks. */
    if (seen->present || version.time > seen->purged) return true;
    if (sim->checker.words[index].unsettled_removals == 0) return true;
    struct version *purged = &sim->inspection.purged[index];
    *purged = version_max(*purged, version);
    return false;
}

/* Any read quorum of any map in use meets a node that holds what was acknowledged: of those that may
 * answer, no more lack it than the writes' quorum allows for. */
static void check_held(struct sim *sim, uint32_t index, uint32_t by, struct version version)
{
    const struct word *word = &sim->checker.words[index];
    const struct operation *operation = &sim->checker.operations[by];
    const struct rangemap *map;
    for (uint64_t number = 0; (map = next_map(sim, &number)) != NULL;) {
        struct shard shard = shard_of(map, word);
        const struct owners *owners = shard_read_owners(&shard);
        unsigned lacking = 0;
        for (uint8_t i = 0; i < owners->count; i++)
            lacking += lacks(sim, index, operation, version, &shard, owners->ids[i]);
        if (lacking <= (unsigned)(owners->count - owners->write_quorum)) continue;
        struct text owned = {0};
        for (uint8_t i = 0; i < owners->count; i++) {
            node_id id = owners->ids[i];
            bool lacked = lacks(sim, index, operation, version, &shard, id);
            bool does = answers(sim, word, &shard, id);
            text_add(&owned, id, lacked ? "has not" : does ? "has it" : "does not answer");
        }
        find(sim, SIM_CHECK_LOST,
             "%.*s: operation %u was acknowledged with " VERSION_FORMAT
             "; durably, under map %llu,%s",
             WORD_ARGUMENTS(word), by, VERSION_ARGUMENTS(version), (unsigned long long)number,
             owned.bytes);
        return;
    }
}

static void check_newest_held(struct sim *sim, uint32_t index)
{
    const struct acknowledgement *newest = &sim->checker.words[index].newest;
    if (!version_is_none(newest->version))
        check_held(sim, index, newest->operation, newest->version);
}

/* Machines of all that take writes of the word under any map in use; how many. */
enum { TAKERS_MAX = 64 };

static unsigned list_takers(struct sim *sim, const struct word *word, uint32_t list[TAKERS_MAX])
{
    unsigned count = 0;
    const struct rangemap *map;
    for (uint64_t number = 0; (map = next_map(sim, &number)) != NULL;) {
        struct owners sets[2];
        struct shard shard = shard_of(map, word);
        size_t set_count = shard_write_owners(&shard, sets);
        for (size_t i = 0; i < set_count * RANGEMAP_OWNERS_MAX && count < TAKERS_MAX; i++) {
            const struct owners *set = &sets[i / RANGEMAP_OWNERS_MAX];
            if (i % RANGEMAP_OWNERS_MAX >= set->count) continue;
            uint32_t node = sim_machine_of(sim, set->ids[i % RANGEMAP_OWNERS_MAX]);
            unsigned at = 0;
            while (at < count && list[at] != node) at++;
            if (node != NOTHING && at == count) list[count++] = node;
        }
    }
    return count;
}

void inspect_acknowledged(struct sim *sim, uint32_t index, unsigned ack_count)
{
    struct operation *operation = &sim->checker.operations[index];
    struct word *word = &sim->checker.words[operation->word];
    uint32_t takers[TAKERS_MAX];
    /* Of a load one part may have waited for another, and have fewer owners by now. */
    note_maps_in_use(sim, false);
    unsigned count = list_takers(sim, word, takers);
    if (ack_count > count) ack_count = count;
    note_maps_in_use(sim, true);
    count = list_takers(sim, word, takers);
    for (unsigned i = 0; i < count; i++) look(sim, operation->word, takers[i]);
    /* An owner may have become a former one while the answer was on its way. */
    for (uint32_t node = 0; node < sim->machine_count && count < TAKERS_MAX; node++) {
        unsigned at = 0;
        while (at < count && takers[at] != node) at++;
        if (at < count || !sim->machines[node].in_use) continue;
        look(sim, operation->word, node);
        takers[count++] = node;
    }
    operation->precise = is_precise(sim, index, operation);
    unsigned holders = 0;
    struct text held = {0};
    for (unsigned i = 0; i < count; i++) {
        bool holds_it = holds(sim, operation->word, seen_of(sim, operation->word, takers[i]),
                              operation, operation->version);
        holders += holds_it;
        text_add(&held, sim->machines[takers[i]].id, holds_it ? "has it" : "has not");
    }
    if (!operation->strict) return;
    /* The answer was on its way when the disk went. */
    if (operation->invoked_us <= sim->disk_lost_us) ack_count--;
    if (holders < ack_count)
        find(sim, SIM_CHECK_LOST,
             "%.*s: operation %u was acknowledged by %u with " VERSION_FORMAT "; durably,%s",
             WORD_ARGUMENTS(word), index, ack_count, VERSION_ARGUMENTS(operation->version),
             held.bytes);
    note_maps_in_use(sim, false);
    check_held(sim, operation->word, index, operation->version);
}

void inspect_settle(struct sim *sim, uint32_t index, uint64_t before_us)
{
    struct word *word = &sim->checker.words[index];
    if (word->unsettled_count == 0) return;
    /* An increment that came later does not outlive a removal that its node did not know of. */
    struct version value = checker_required_value(word, UINT64_MAX).version;
    /* Nobody holds it, and yet it was: a removal that was never acknowledged, and forgotten since. What
     * was swept may be on its way as a hint. */
    if (version_compare(sim->inspection.purged[index], value) > 0) return;
    if (version_compare(sim->inspection.swept[index], value) > 0) return;
    for (uint32_t node = 0; node < sim->machine_count; node++) {
        const struct seen *seen = seen_of(sim, index, node);
        if (!seen->present) continue;
        struct version of_value = seen->tombstone ? seen->version
                                                  : version_max(seen->set, seen->since);
        if (version_compare(of_value, value) > 0) return;
        if (version_compare(seen->version, word->newest.version) > 0) return;
    }
    checker_settle(&sim->checker, index, before_us);
}

void inspect_word(struct sim *sim, uint32_t index)
{
    note_maps_in_use(sim, false);
    for (uint32_t node = 0; node < sim->machine_count; node++) look(sim, index, node);
    check_newest_held(sim, index);
    if (sim->schedule.now_us > LIFE_US) inspect_settle(sim, index, sim->schedule.now_us - LIFE_US);
}

void inspect_next_word(struct sim *sim)
{
    inspect_word(sim, sim->inspection.next_word);
    sim->inspection.next_word = (sim->inspection.next_word + 1) % sim->options.word_count;
}

void inspect_node(struct sim *sim, uint32_t node)
{
    note_maps_in_use(sim, false);
    for (uint32_t word = 0; word < sim->options.word_count; word++) {
        look(sim, word, node);
        check_newest_held(sim, word);
    }
}

void inspect_new_map(struct sim *sim, uint32_t node, const struct rangemap *before,
                     const struct rangemap *map)
{
    note_maps_in_use(sim, false);
    for (uint32_t index = 0; index < sim->options.word_count; index++) {
        const struct word *word = &sim->checker.words[index];
        if (before != NULL) {
            struct shard old = shard_of(before, word), shard = shard_of(map, word);
            bool same = old.stage == shard.stage && owners_equal(&old.owners, &shard.owners) &&
                        owners_equal(&old.next, &shard.next);
            if (same) continue;
        }
        look(sim, index, node);
        check_newest_held(sim, index);
    }
}

void inspect_forget_node(struct sim *sim, uint32_t node)
{
    for (uint32_t word = 0; word < sim->options.word_count; word++)
        *seen_of(sim, word, node) = (struct seen){.by = NO_OPERATION};
}

/* A store against a walk over it */

struct page {
    struct buf *keys;
    size_t ends[64];
    size_t count;
};

static enum status page_add(void *context, struct slice key, const struct record *record)
{
    struct page *page = context;
    buf_append_slice(page->keys, key);
    page->ends[page->count++] = page->keys->size;
    return STATUS_OK;
}

/* The best `limit` begin with the best of fewer. */
static void check_best(struct sim *sim, uint32_t node, const struct query *query,
                       struct slice prefix)
{
    struct buf few_keys, many_keys;
    buf_init(&few_keys, &sim->heap);
    buf_init(&many_keys, &sim->heap);
    struct page few = {.keys = &few_keys}, many = {.keys = &many_keys};
    uint32_t limit = 1 + prng_below(&sim->prng, 16);
    if (query_best(query, prefix, limit, NULL, page_add, &few) == STATUS_OK &&
        query_best(query, prefix, limit + 1 + prng_below(&sim->prng, 16), NULL, page_add, &many) ==
            STATUS_OK &&
        (many.count < few.count || !slice_starts_with(buf_slice(&many_keys), buf_slice(&few_keys))))
        find(sim, SIM_CHECK_ORDER, "n%u: the best %zu do not begin with the best %zu", node + 1,
             many.count, few.count);
    buf_deinit(&few_keys);
    buf_deinit(&many_keys);
}

/* The number of entries, and the sum of the hashes of what they hold. */
static bool walk(const struct query *query, struct slice prefix, enum query_entries entries,
                 uint64_t hash_seed, uint64_t *count, struct sum *sum)
{
    struct query_iterator *iterator;
    if (query_iterator_open(query, prefix, entries, &iterator) != STATUS_OK) return false;
    enum status status = query_iterator_next(iterator);
    for (; status == STATUS_OK; status = query_iterator_next(iterator)) {
        struct record record;
        if (query_iterator_record(iterator, &record) != STATUS_OK) break;
        *sum = sum_add(*sum, record_hash(query_iterator_key(iterator), &record, hash_seed));
        ++*count;
    }
    query_iterator_close(iterator);
    return status == STATUS_END;
}

void inspect_store(struct sim *sim, uint32_t node)
{
    struct sim_process *process = process_of(sim, node);
    if (!is_up(process)) return;
    struct query query = sim_process_query(process);
    const struct word *any = &sim->checker.words[prng_below(&sim->prng, sim->options.word_count)];
    struct slice prefix =
        slice_prefix(any->key, 2 + prng_below(&sim->prng, (uint32_t)any->key.size - 1));
    uint64_t walked = 0, counted = 0, all = 0;
    struct sum computed = {0}, kept = {0}, ignored = {0};
    uint64_t seed = process->options.hash_seed;

    if (!walk(&query, prefix, QUERY_LIVE, seed, &walked, &ignored)) return;
    if (!walk(&query, prefix, QUERY_CURRENT, seed, &all, &computed)) return;
    if (query_count(&query, prefix, &counted) == STATUS_OK && counted != walked)
        find(sim, SIM_CHECK_COUNT, "n%u counts %llu words and walks over %llu", node + 1,
             (unsigned long long)counted, (unsigned long long)walked);
    if (query_sum(&query, prefix, &kept) == STATUS_OK && !sum_equal(kept, computed))
        find(sim, SIM_CHECK_DIGEST, "n%u: the digest of %zu bytes of prefix is wrong", node + 1,
             prefix.size);
    check_best(sim, node, &query, prefix);
}

/* What programs say of themselves */

/* The newest are looked at first: hardly any other is asked for. */
void inspect_map(struct sim *sim, uint32_t node, const struct rangemap *map)
{
    struct inspection *inspection = &sim->inspection;
    const struct rangemap_identity *is = rangemap_identity(map);
    for (uint32_t i = inspection->map_count; i > 0; i--) {
        const struct seen_map *seen = &inspection->maps[i - 1];
        if (seen->generation != is->generation || seen->generation_id != is->generation_id ||
            seen->number != is->number)
            continue;
        if (!hash128_equal(seen->hash, is->hash))
            find(sim, SIM_CHECK_MAP, "n%u has another map %llu than was seen before", node + 1,
                 (unsigned long long)is->number);
        return;
    }
    size_t size = (inspection->map_count + 1) * sizeof *inspection->maps;
    inspection->maps = realloc(inspection->maps, size);
    CHECK(inspection->maps != NULL);
    inspection->maps[inspection->map_count++] =
        (struct seen_map){is->generation, is->generation_id, is->number, is->hash};
}

void inspect_programs(struct sim *sim)
{
    for (uint32_t node = 0; node < sim->machine_count; node++) {
        struct sim_process *process = process_of(sim, node);
        if (!is_up(process)) continue;
        struct sim_program_stats stats = {0};
        process->ops->stats(process->program, &stats);
        if (stats.over_bound != NULL)
            find(sim, SIM_CHECK_BOUND, "n%u: too many %s", node + 1, stats.over_bound);
        if (stats.map != NULL) inspect_map(sim, node, stats.map);
    }
}

/* After healing */

/* Of the word on a node; nothing where there is none. */
static struct sum sum_on(const struct sim_process *process, const struct word *word)
{
    struct query query = sim_process_query(process);
    struct query_hit hit;
    struct sum none = {0};
    if (query_get(&query, word->key, &hit) != STATUS_OK) return none;
    return record_hash(word->key, &hit.record, process->options.hash_seed);
}

static bool same_on_owners(struct sim *sim, const struct word *word, char *why, unsigned size)
{
    struct shard shard = shard_of(sim_newest_map(sim), word);
    const struct owners *owners = &shard.owners;
    struct sum first = {0}, none = {0};
    for (uint8_t i = 0; i < owners->count; i++) {
        struct sum sum = sum_on(process_of(sim, sim_machine_of(sim, owners->ids[i])), word);
        if (i == 0) first = sum;
        if (sum_equal(sum, first)) continue;
        snprintf(why, size, "n%u and n%u hold different records of %.*s", owners->ids[0],
                 owners->ids[i], WORD_ARGUMENTS(word));
        return false;
    }
    for (uint32_t node = 0; node < sim->machine_count; node++) {
        if (!sim_is_member(sim, node) || owners_contain(owners, sim->machines[node].id)) continue;
        if (sum_equal(sum_on(process_of(sim, node), word), none)) continue;
        snprintf(why, size, "n%u still holds %.*s, which it does not own", node + 1,
                 WORD_ARGUMENTS(word));
        return false;
    }
    return true;
}

static bool is_idle(struct sim *sim, uint32_t node, char *why, unsigned size)
{
    struct sim_process *process = process_of(sim, node);
    struct sim_program_stats stats = {0};
    if (process->state != PROCESS_RUNNING) {
        snprintf(why, size, "n%u is down", node + 1);
        return false;
    }
    process->ops->stats(process->program, &stats);
    if (stats.map != NULL && !hash128_equal(rangemap_identity(stats.map)->hash,
                                            rangemap_identity(sim_newest_map(sim))->hash)) {
        snprintf(why, size, "n%u knows an older map", node + 1);
        return false;
    }
    if (stats.owed_count + stats.held_count + stats.flow_count == 0) return true;
    snprintf(why, size, "n%u owes %llu hints, holds %llu messages, has %llu requests under way",
             node + 1, (unsigned long long)stats.owed_count, (unsigned long long)stats.held_count,
             (unsigned long long)stats.flow_count);
    return false;
}

static bool map_is_at_rest(const struct sim *sim, char *why, unsigned size)
{
    const struct rangemap *map = sim_newest_map(sim);
    unsigned long long number = rangemap_identity(map)->number;
    for (size_t i = 0; i < rangemap_shard_count(map); i++) {
        struct shard shard = rangemap_shard(map, i);
        if (shard.stage == SHARD_STABLE) continue;
        snprintf(why, size, "in map %llu shard %zu is at stage %d since %llu", number, i,
                 (int)shard.stage, (unsigned long long)shard.began);
        return false;
    }
    for (size_t i = 0; i < rangemap_member_count(map); i++) {
        struct member member = rangemap_member(map, i);
        if (!member.leaving && member.state == MEMBER_ACTIVE) continue;
        snprintf(why, size, "in map %llu n%u has yet to leave", number, member.id);
        return false;
    }
    return true;
}

void inspect_kept(struct sim *sim)
{
    for (uint32_t index = 0; index < sim->options.word_count; index++) {
        const struct word *word = &sim->checker.words[index];
        if (version_is_none(word->kept.version)) continue;
        struct shard shard = shard_of(sim_newest_map(sim), word);
        uint32_t node = sim_machine_of(sim, shard.owners.ids[0]);
        const struct operation *operation = &sim->checker.operations[word->kept.operation];
        look(sim, index, node);
        if (holds(sim, index, seen_of(sim, index, node), operation, word->kept.version)) continue;
        find(sim, SIM_CHECK_LOST,
             "%.*s: operation %u was acknowledged with " VERSION_FORMAT
             " by hints, and no owner has it in the end",
             WORD_ARGUMENTS(word), word->kept.operation, VERSION_ARGUMENTS(word->kept.version));
    }
}

bool inspect_has_converged(struct sim *sim, char *why, unsigned size)
{
    for (uint32_t node = 0; node < sim->machine_count; node++) {
        if (sim->machines[node].in_use && !sim_is_member(sim, node)) {
            snprintf(why, size, "n%u has yet to join, or to end", node + 1);
            return false;
        }
        if (sim_is_member(sim, node) && !is_idle(sim, node, why, size)) return false;
    }
    if (!map_is_at_rest(sim, why, size)) return false;
    for (uint32_t word = 0; word < sim->options.word_count; word++)
        if (!same_on_owners(sim, &sim->checker.words[word], why, size)) return false;
    return true;
}
