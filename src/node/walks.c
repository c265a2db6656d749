#include "node/walks.h"

#include "base/math.h"

enum { FIRST_PAGES_AHEAD = 4, ENTRY_BYTES = 64 /* About, with its key. */ };

void walks_init(struct walks *walks, struct heap *heap)
{
    *walks = (struct walks){.heap = heap};
}

static void destroy(struct walks *walks, struct walk *walk)
{
    buf_deinit(&walk->bytes);
    heap_free(walks->heap, walk->entries);
    heap_free(walks->heap, walk);
}

void walks_drop(struct walks *walks, struct walk *walk)
{
    if (walk == NULL) return;
    for (size_t i = 0; i < walks->count; i++) {
        if (walks->list[i] != walk) continue;
        walks->list[i] = walks->list[--walks->count];
        walks->bytes -= walk->held_bytes;
        break;
    }
    destroy(walks, walk);
}

void walks_deinit(struct walks *walks)
{
    while (walks->count > 0) walks_drop(walks, walks->list[0]);
}

static struct slice prefix_of(const struct walk *walk)
{
    return slice_of(walk->bytes.data, walk->prefix_size);
}

static int compare(struct best best, struct slice key, const struct query_position *position)
{
    int order = best_compare(best, position->best);
    return order != 0 ? order : slice_compare(key, position->key);
}

/* Whether `position` lies in the walk: where it begins, at one of its entries or between two,
 * or after the last when nothing follows. */
static bool contains(const struct walk *walk, const struct query_position *position)
{
    struct slice key = slice_of(walk->bytes.data + walk->prefix_size, walk->after_size);
    if (compare(walk->after, key, position) > 0) return false;
    if (walk->complete) return true;
    size_t last = walk->count - 1;
    return compare(walk->entries[last].best, walk_key(walk, last), position) >= 0;
}

/* The first entry after `position`. */
static size_t first_after(const struct walk *walk, const struct query_position *position)
{
    size_t low = 0, high = walk->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare(walk->entries[middle].best, walk_key(walk, middle), position) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct walk *find(const struct walks *walks, struct slice prefix, uint64_t view,
                         const struct query_position *position)
{
    for (size_t i = 0; i < walks->count; i++) {
        struct walk *walk = walks->list[i];
        if (walk->view == view && slice_equal(prefix_of(walk), prefix) && contains(walk, position))
            return walk;
    }
    return NULL;
}

bool walks_are_in_doubt(const struct walks *walks, struct slice prefix, uint64_t view)
{
    for (size_t i = 0; i < walks->count; i++)
        if (walks->list[i]->view != view && slice_equal(prefix_of(walks->list[i]), prefix))
            return true;
    return false;
}

void walks_compare(struct walks *walks, struct slice prefix, uint64_t view,
                   const struct walk_content *content)
{
    for (size_t i = 0; i < walks->count;) {
        struct walk *walk = walks->list[i];
        bool same = sum_equal(walk->content.sum, content->sum) &&
                    walk->content.live_count == content->live_count;
        if (slice_equal(prefix_of(walk), prefix) && !same) {
            walks_drop(walks, walk);
            continue;
        }
        if (slice_equal(prefix_of(walk), prefix)) walk->view = view;
        i++;
    }
}

struct walk *walks_find(struct walks *walks, struct slice prefix, uint64_t view,
                        const struct query_position *after, size_t limit, size_t *at)
{
    struct walk *walk = find(walks, prefix, view, after);
    if (walk == NULL) return NULL;
    size_t first = first_after(walk, after);
    if (!walk->complete && walk->count - first <= limit) return NULL;
    walk->used = ++walks->clock;
    *at = first;
    return walk;
}

size_t walks_ahead(const struct walks *walks, struct slice prefix, uint64_t view,
                   const struct query_position *after, size_t limit)
{
    /* A walk that came to the end of what is kept goes on; any other place begins one. */
    const struct walk *walk = find(walks, prefix, view, after);
    size_t ahead = walk != NULL ? walk->ahead * 2 : limit * FIRST_PAGES_AHEAD;
    return size_min(ahead, WALK_BYTES_MAX / ENTRY_BYTES);
}

struct walk *walks_begin(struct walks *walks, struct slice prefix, uint64_t view,
                         const struct walk_content *content, const struct query_position *after,
                         size_t ahead)
{
    struct walk *walk = heap_zalloc(walks->heap, sizeof *walk);
    if (walk == NULL) return NULL;
    buf_init(&walk->bytes, walks->heap);
    buf_append_slice(&walk->bytes, prefix);
    buf_append_slice(&walk->bytes, after->key);
    walk->prefix_size = prefix.size;
    walk->after_size = after->key.size;
    walk->after = after->best;
    walk->ahead = ahead;
    walk->view = view;
    walk->content = *content;
    if (buf_status(&walk->bytes) == STATUS_OK) return walk;
    destroy(walks, walk);
    return NULL;
}

static bool make_room(struct walk *walk)
{
    if (walk->count < walk->capacity) return true;
    size_t capacity = size_max(64, walk->capacity * 2);
    struct walk_entry *entries =
        heap_realloc(walk->bytes.heap, walk->entries, capacity * sizeof *entries);
    if (entries == NULL) return false;
    walk->entries = entries;
    walk->capacity = capacity;
    return true;
}

bool walk_append(struct walk *walk, struct best best, struct slice key)
{
    size_t at = walk->bytes.size;
    if (at + key.size + walk->count * sizeof *walk->entries > WALK_BYTES_MAX) return false;
    if (!make_room(walk)) return false;
    buf_append_slice(&walk->bytes, key);
    if (buf_status(&walk->bytes) != STATUS_OK) return false;
    walk->entries[walk->count++] = (struct walk_entry){best, (uint32_t)at, (uint32_t)key.size};
    return true;
}

static struct walk *least_used(const struct walks *walks)
{
    struct walk *least = walks->list[0];
    for (size_t i = 1; i < walks->count; i++)
        if (walks->list[i]->used < least->used) least = walks->list[i];
    return least;
}

/* One that this goes on from is done with. */
static void drop_before(struct walks *walks, const struct walk *walk)
{
    struct query_position after = {
        walk->after, slice_of(walk->bytes.data + walk->prefix_size, walk->after_size)};
    for (size_t i = 0; i < walks->count;) {
        struct walk *other = walks->list[i];
        if (slice_equal(prefix_of(other), prefix_of(walk)) && contains(other, &after))
            walks_drop(walks, other);
        else
            i++;
    }
}

void walks_keep(struct walks *walks, struct walk *walk, bool complete)
{
    if (walk->count == 0 && !complete) {
        destroy(walks, walk); /* There was no room for anything. */
        return;
    }
    walk->complete = complete;
    walk->used = ++walks->clock;
    walk->held_bytes = sizeof *walk + walk->bytes.capacity + walk->capacity * sizeof *walk->entries;
    drop_before(walks, walk);
    while (walks->count > 0 &&
           (walks->count == WALKS_COUNT_MAX || walks->bytes + walk->held_bytes > WALKS_BYTES_MAX))
        walks_drop(walks, least_used(walks));
    walks->list[walks->count++] = walk;
    walks->bytes += walk->held_bytes;
}
