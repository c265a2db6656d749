#include <inttypes.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/math.h"
#include "core/overlay_verify.h"
#include "core/packed_format.h"
#include "store/verify_private.h"

/* A packed trie of the manifest, kept open until keys were compared over all of them. */
struct checked {
    const struct manifest_run *run; /* NULL: the manifest is damaged. */
    struct verify *verify;
    struct verify_entry *entry;
    struct env_map *map;
    struct packed *packed;
    overlay_root overlay;
    bool sound; /* Its current entries are known. */
    uint64_t told_bytes;

    struct packed_iterator iterator; /* At the next current key. */
    bool walks;
};

struct runs {
    struct verify *verify;
    struct overlay_space overlays;
    struct checked *list;
    size_t count;
    struct checked **heap; /* Of those that walk, the least key first. */
    size_t heap_count;
};

static void tell_flaw(void *context, uint64_t offset, const char *text)
{
    struct checked *checked = context;
    verify_tell(checked->verify, true, checked->entry->name, offset, "%s", text);
}

static bool tell_progress(void *context, uint64_t ordinal)
{
    struct checked *checked = context;
    uint64_t count = u64_max(1, packed_info(checked->packed)->count);
    uint64_t reached =
        (uint64_t)((double)checked->entry->size_bytes * (double)ordinal / (double)count);
    uint64_t more = reached > checked->told_bytes ? reached - checked->told_bytes : 0;
    checked->told_bytes += more;
    return verify_progress(checked->verify, more);
}

/* --- Overlays --- */

/* How many ordinals the overlay says its packed trie has; 0: it is not whole enough to say. */
static uint64_t overlay_ordinals(struct slice bytes)
{
    struct reader reader = reader_of(bytes);
    (void)reader_bytes(&reader, 5);
    uint64_t count = reader_varint(&reader);
    return reader.failed ? 0 : count;
}

/* Against `ordinal_count`, or what it says itself if that is 0. */
static enum status read_overlay(struct runs *runs, struct verify_entry *entry,
                                uint64_t ordinal_count, overlay_root *root)
{
    struct verify *verify = runs->verify;
    struct env_map *map;
    enum status status = verify_map(verify, entry->name, &map);
    if (status != STATUS_OK) return status;
    uint64_t said = overlay_ordinals(map->bytes);
    status = overlay_decode(&runs->overlays, map->bytes, ordinal_count != 0 ? ordinal_count : said,
                            root);
    if (status == STATUS_NEWER)
        verify_tell(verify, true, entry->name, 4, "is of a newer format");
    else if (status == STATUS_CORRUPT && ordinal_count != 0 && said != ordinal_count)
        verify_tell(verify, true, entry->name, 5,
                    "is damaged, or not of this packed trie: %" PRIu64
                    " entries, expected %" PRIu64,
                    said, ordinal_count);
    else if (status == STATUS_CORRUPT)
        verify_tell(
            verify, true, entry->name, 0,
            "its %zu bytes are not as they were written: a wrong checksum, or a rule broken",
            map->bytes.size);
    if (env_map_damaged(map)) {
        verify_tell(verify, true, entry->name, VERIFY_NOWHERE,
                    "cannot be read in part: the device failed");
        if (status == STATUS_OK) status = STATUS_CORRUPT;
    }
    env_unmap(map);
    verify->report->overlay_count++;
    if (!verify_progress(verify, entry->size_bytes)) return STATUS_CANCELLED;
    return status == STATUS_NEWER ? STATUS_CORRUPT : status;
}

/* Words that expired up to a moment that the manifest names are in no count any more. */
static enum status check_settled(struct runs *runs, struct checked *checked, const char *name)
{
    const struct packed *packed = checked->packed;
    uint64_t settled = runs->verify->state->numbers[MANIFEST_SETTLED_MS], first, end;
    enum status status = packed_expiry_range(packed, 0, settled, &first, &end);
    for (uint64_t i = first; status == STATUS_OK && i < end; i++) {
        uint64_t time, ordinal;
        status = packed_expiry_at(packed, i, &time, &ordinal);
        if (status != STATUS_OK) break;
        if (overlay_state(&runs->overlays, packed, checked->overlay, ordinal) != OVERLAY_CURRENT)
            continue;
        verify_tell(runs->verify, true, name, VERIFY_NOWHERE,
                    "the word at ordinal %" PRIu64 " expired at %" PRIu64
                    " and is still counted, though all up to %" PRIu64 " are said to be settled",
                    ordinal, time, settled);
        return STATUS_CORRUPT;
    }
    return status;
}

static enum status check_overlay(struct runs *runs, struct checked *checked)
{
    struct verify *verify = runs->verify;
    if (checked->run == NULL) return STATUS_OK;
    if (checked->run->overlay == 0) return check_settled(runs, checked, checked->entry->name);

    struct verify_entry *entry = verify_find(verify, NAME_OVERLAY, checked->run->overlay);
    if (entry == NULL) {
        verify_tell(verify, true, name_of(NAME_OVERLAY, checked->run->overlay).text, VERIFY_NOWHERE,
                    "is missing: the manifest names it, as the overlay of %s",
                    checked->entry->name);
        return STATUS_CORRUPT;
    }
    enum status status =
        read_overlay(runs, entry, packed_info(checked->packed)->count, &checked->overlay);
    verify_describe(verify, entry, &(struct verify_file){.role = VERIFY_LIVE});
    if (status != STATUS_OK) return status;

    struct checked flaws = {.verify = verify, .entry = entry};
    struct packed_verify compare = {.flaw = tell_flaw, .context = &flaws};
    status =
        overlay_verify(&runs->overlays, checked->packed, checked->overlay, verify->heap, &compare);
    return status == STATUS_OK ? check_settled(runs, checked, entry->name) : status;
}

/* --- Packed tries --- */

static enum status check_content(struct checked *checked)
{
    struct verify *verify = checked->verify;
    struct packed_verify content = {tell_flaw, tell_progress, checked};
    enum status status = packed_open(verify->heap, checked->map->bytes, &checked->packed);
    if (status == STATUS_CORRUPT)
        verify_tell(verify, true, checked->entry->name, VERIFY_NOWHERE,
                    "cannot be opened: sizes or counts disagree under right checksums");
    if (status != STATUS_OK) return status;
    return packed_verify_content(checked->packed, verify->heap, &content);
}

static enum status check_trie(struct checked *checked)
{
    struct verify *verify = checked->verify;
    const char *name = checked->entry->name;
    enum status status = verify_map(verify, name, &checked->map);
    if (status != STATUS_OK) return status;

    uint64_t size = checked->map->bytes.size;
    if (checked->run != NULL && checked->run->size_bytes != 0 && checked->run->size_bytes != size)
        verify_tell(verify, true, name, VERIFY_NOWHERE,
                    "has %" PRIu64 " bytes, expected %" PRIu64 " by the manifest", size,
                    checked->run->size_bytes);
    status = packed_verify_frame(checked->map->bytes, tell_flaw, checked);
    if (status == STATUS_NEWER) {
        verify_tell(verify, true, name, VERIFY_NOWHERE, "needs a newer trifecta to be read");
        status = STATUS_CORRUPT;
    }
    if (status == STATUS_OK) status = check_content(checked);
    if (env_map_damaged(checked->map)) {
        verify_tell(verify, true, name, VERIFY_NOWHERE,
                    "cannot be read in part: the device failed");
        status = STATUS_CORRUPT;
    }
    return status;
}

/* What can be said of it, by its overlay or else by its footer. */
static void describe(struct runs *runs, struct checked *checked)
{
    struct verify_report *report = runs->verify->report;
    struct verify_file file = {.role = checked->run == NULL ? VERIFY_UNKNOWN : VERIFY_LIVE};
    struct packed_footer footer;
    struct overlay_totals totals;
    if (checked->run != NULL) {
        file.level = checked->run->level;
        file.overlay = checked->run->overlay;
    }
    report->run_count++;
    if (checked->map != NULL && packed_footer_read(checked->map->bytes, &footer) == STATUS_OK) {
        const struct packed_info *info = &footer.info;
        file.described = true;
        file.entry_count = info->count;
        file.word_count = info->present_count;
        file.tombstone_count = info->tombstone_count;
        file.oldest = info->oldest;
        file.newest = info->newest;
        file.key_first = info->key_first;
        file.key_last = info->key_last;
        if (checked->sound && overlay_totals(&runs->overlays, checked->packed, checked->overlay,
                                             &totals) == STATUS_OK) {
            file.word_count = totals.live_count;
            file.dead_count = totals.dead_count;
            file.hidden_count = totals.hidden_count;
        }
        report->entry_count += file.entry_count;
        report->word_count += file.word_count;
        report->tombstone_count += file.tombstone_count;
        report->dead_count += file.dead_count;
        report->hidden_count += file.hidden_count;
    }
    verify_describe(runs->verify, checked->entry, &file);
}

/* Everything of one packed trie. Damage is told and no error. */
static enum status check_one(struct runs *runs, struct checked *checked)
{
    enum status status = check_trie(checked);
    bool opened = checked->packed != NULL && status == STATUS_OK;
    if (opened) status = check_overlay(runs, checked);
    checked->sound = status == STATUS_OK;
    if (status != STATUS_OK && status != STATUS_CORRUPT) return status;
    describe(runs, checked);
    uint64_t size = checked->entry->size_bytes;
    if (!verify_progress(runs->verify, size - u64_min(size, checked->told_bytes)))
        return STATUS_CANCELLED;
    if (checked->sound) return STATUS_OK;
    packed_close(checked->packed);
    env_unmap(checked->map);
    checked->packed = NULL;
    checked->map = NULL;
    return STATUS_OK;
}

/* Overlays whose packed trie nobody could open, or names. */
static enum status check_lone_overlays(struct runs *runs)
{
    struct verify *verify = runs->verify;
    for (size_t i = 0; i < verify->entry_count; i++) {
        struct verify_entry *entry = &verify->entries[i];
        bool named = verify->state == NULL;
        for (size_t j = 0; j < runs->count && !named; j++)
            named = runs->list[j].run != NULL && runs->list[j].run->overlay == entry->number;
        if (entry->kind != NAME_OVERLAY || entry->told || !named) continue;
        overlay_root root = 0;
        enum status status = read_overlay(runs, entry, 0, &root);
        if (status != STATUS_OK && status != STATUS_CORRUPT) return status;
        bool live = verify->state != NULL;
        verify_describe(verify, entry,
                        &(struct verify_file){.role = live ? VERIFY_LIVE : VERIFY_UNKNOWN});
    }
    return STATUS_OK;
}

/* --- One current record a key --- */

static int compare_walks(const struct checked *a, const struct checked *b)
{
    return slice_compare(a->iterator.key, b->iterator.key);
}

static void sift_down(struct runs *runs, size_t at)
{
    struct checked **heap = runs->heap;
    for (;;) {
        size_t child = at * 2 + 1;
        if (child >= runs->heap_count) return;
        if (child + 1 < runs->heap_count && compare_walks(heap[child + 1], heap[child]) < 0)
            child++;
        if (compare_walks(heap[at], heap[child]) <= 0) return;
        struct checked *moved = heap[at];
        heap[at] = heap[child];
        heap[child] = moved;
        at = child;
    }
}

/* To the least current entry from `ordinal` on. STATUS_END: there is none. */
static enum status walk_to(struct runs *runs, struct checked *checked, uint64_t ordinal)
{
    uint64_t current;
    enum status status =
        overlay_next_current(&runs->overlays, checked->packed, checked->overlay, ordinal, &current);
    if (status != STATUS_OK) return status;
    if (checked->walks && current == checked->iterator.ordinal + 1)
        return packed_iterator_next(&checked->iterator);
    checked->walks = true;
    return packed_iterator_seek(&checked->iterator, current);
}

static struct checked *second_least(const struct runs *runs)
{
    if (runs->heap_count < 2) return NULL;
    if (runs->heap_count == 2 || compare_walks(runs->heap[1], runs->heap[2]) <= 0)
        return runs->heap[1];
    return runs->heap[2];
}

/* Moves the least one on, or out: where the rest of its keys is below all others' they cannot
 * come twice. */
static enum status step(struct runs *runs)
{
    struct checked *least = runs->heap[0];
    struct checked *second = second_least(runs);
    struct slice last = packed_info(least->packed)->key_last;
    enum status status = STATUS_END;
    if (second != NULL && slice_compare(second->iterator.key, last) <= 0)
        status = walk_to(runs, least, least->iterator.ordinal + 1);
    if (status == STATUS_END) runs->heap[0] = runs->heap[--runs->heap_count];
    if (status != STATUS_OK && status != STATUS_END) return status;
    sift_down(runs, 0);
    return STATUS_OK;
}

static enum status compare_keys(struct runs *runs)
{
    struct verify *verify = runs->verify;
    unsigned flaw_count = 0;
    while (runs->heap_count > 1) {
        struct checked *least = runs->heap[0];
        struct checked *second = second_least(runs);
        if (compare_walks(least, second) == 0 && flaw_count++ < PACKED_FLAWS_MAX)
            verify_tell(verify, true, least->entry->name, VERIFY_NOWHERE,
                        "the record at ordinal %" PRIu64 " is current, and so is that of the same "
                        "key at ordinal %" PRIu64 " of %s",
                        least->iterator.ordinal, second->iterator.ordinal, second->entry->name);
        enum status status = step(runs);
        if (status != STATUS_OK) return status;
        if (verify->stopped) return STATUS_CANCELLED;
    }
    return STATUS_OK;
}

static enum status begin_walks(struct runs *runs)
{
    struct verify *verify = runs->verify;
    runs->heap = heap_alloc(verify->heap, (runs->count + 1) * sizeof *runs->heap);
    if (runs->heap == NULL) return STATUS_NOMEM;
    for (size_t i = 0; i < runs->count; i++) {
        struct checked *checked = &runs->list[i];
        if (!checked->sound) continue;
        enum status status =
            packed_iterator_init(&checked->iterator, checked->packed, verify->heap);
        if (status == STATUS_OK) status = walk_to(runs, checked, 0);
        if (status == STATUS_END) continue;
        if (status != STATUS_OK) return status;
        runs->heap[runs->heap_count++] = checked;
    }
    for (size_t i = runs->heap_count; i-- > 0;) sift_down(runs, i);
    return STATUS_OK;
}

/* --- All of them --- */

static size_t count_tries(struct verify *verify)
{
    size_t count = 0;
    if (verify->state != NULL) return verify->state->run_count;
    for (size_t i = 0; i < verify->entry_count; i++) count += verify->entries[i].kind == NAME_RUN;
    return count;
}

static enum status check_named(struct runs *runs)
{
    struct verify *verify = runs->verify;
    for (size_t i = 0; i < verify->state->run_count; i++) {
        const struct manifest_run *run = &verify->state->runs[i];
        struct verify_entry *entry = verify_find(verify, NAME_RUN, run->number);
        struct checked *checked = &runs->list[runs->count++];
        *checked = (struct checked){.run = run, .verify = verify, .entry = entry};
        if (entry == NULL) {
            verify_tell(verify, true, name_of(NAME_RUN, run->number).text, VERIFY_NOWHERE,
                        "is missing: the manifest names it");
            continue;
        }
        enum status status = check_one(runs, checked);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

static enum status check_unnamed(struct runs *runs)
{
    struct verify *verify = runs->verify;
    for (size_t i = 0; i < verify->entry_count; i++) {
        if (verify->entries[i].kind != NAME_RUN) continue;
        struct checked *checked = &runs->list[runs->count++];
        *checked = (struct checked){.verify = verify, .entry = &verify->entries[i]};
        enum status status = check_one(runs, checked);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

static enum status check_runs(struct runs *runs)
{
    struct verify *verify = runs->verify;
    size_t count = count_tries(verify);
    runs->list = heap_zalloc(verify->heap, (count + 1) * sizeof *runs->list);
    if (runs->list == NULL) return STATUS_NOMEM;
    overlay_begin_batch(&runs->overlays);
    enum status status = verify->state != NULL ? check_named(runs) : check_unnamed(runs);
    if (status == STATUS_OK) status = check_lone_overlays(runs);
    /* Without a manifest old and new files may lie side by side. */
    if (status == STATUS_OK && verify->state != NULL) {
        status = begin_walks(runs);
        if (status == STATUS_OK) status = compare_keys(runs);
        /* All was readable a moment ago. */
        if (status == STATUS_CORRUPT) {
            verify_tell(verify, true, "", VERIFY_NOWHERE,
                        "the packed tries cannot be read any more: keys were not compared over all "
                        "of them");
            status = STATUS_OK;
        }
    }
    return status;
}

static void runs_deinit(struct runs *runs)
{
    struct heap *heap = runs->verify->heap;
    for (size_t i = 0; i < runs->count; i++) {
        struct checked *checked = &runs->list[i];
        packed_iterator_deinit(&checked->iterator);
        packed_close(checked->packed);
        env_unmap(checked->map);
    }
    heap_free(heap, runs->heap);
    heap_free(heap, runs->list);
    overlay_space_deinit(&runs->overlays);
}

enum status verify_runs(struct verify *verify)
{
    struct runs runs = {.verify = verify};
    enum status status = overlay_space_init(&runs.overlays, verify->heap);
    if (status != STATUS_OK) return status;
    status = check_runs(&runs);
    runs_deinit(&runs);
    return status;
}
