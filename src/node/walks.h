/* Walks in the order of popularity: what follows the pages that were given, so that the next
 * page costs what it holds and not how deep it lies.
 *
 * A page after a cursor has to pass all that comes before it. So when one is asked for, more
 * is read than it shows, and kept: place in the order and key of each entry, nothing else.
 * The next page finds its cursor there and looks its entries up by key. Each time a walk
 * comes to the end of what was kept, twice as much is read, so that all its pages together
 * cost a few times the entries they show, until WALK_BYTES_MAX is reached.
 *
 * Invariants
 *   1. A walk is good as long as the words under its prefix are what they were: in the view
 *      it was read from, and in any other whose digest and count of them are the same. And
 *      only while no word of the view has expired unnoticed: the caller asks for neither
 *      otherwise. So a page is what it would be without walks.
 *   2. Entries lie in the order of popularity without a gap, and begin right after `after`.
 *   3. All walks together take at most WALKS_BYTES_MAX; the one not used for longest goes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "core/query.h"

enum {
    WALK_BYTES_MAX = 1 << 20,
    WALKS_BYTES_MAX = 4 << 20,
    WALKS_COUNT_MAX = 64,
};

struct walk_entry {
    struct best best;
    uint32_t key_at, key_size; /* In `bytes`. */
};

/* All that is under a prefix in a view, in short. */
struct walk_content {
    struct sum sum;      /* Of the hashes of all records. */
    uint64_t live_count; /* Words that expire leave this, not the sum. */
};

struct walk {
    struct buf bytes; /* The prefix that the walk is under, the key of `after`, keys. */
    size_t prefix_size, after_size;
    struct best after;
    struct walk_entry *entries;
    size_t count, capacity;
    size_t ahead;  /* Entries read beyond the page last time. */
    uint64_t view; /* The newest one that it is known to be good for. */
    struct walk_content content;
    uint64_t used;     /* When it was last used, counted by walks->clock. */
    size_t held_bytes; /* As counted in walks->bytes. */
    bool complete;     /* Nothing follows the last entry. */
};

struct walks {
    struct heap *heap;
    struct walk *list[WALKS_COUNT_MAX];
    size_t count;
    size_t bytes;
    uint64_t clock;
};

void walks_init(struct walks *walks, struct heap *heap);
void walks_deinit(struct walks *walks);

/* Whether walks under `prefix` are kept that nobody has compared with this view. */
bool walks_are_in_doubt(const struct walks *walks, struct slice prefix, uint64_t view);

/* Compares them: those of the same content are good for this view too, the others go. */
void walks_compare(struct walks *walks, struct slice prefix, uint64_t view,
                   const struct walk_content *content);

/* Where a page of `limit` entries begins.
 *
 * `*at` is its first entry, when `walk` knows that page whole: the entry after it too, or that
 * there is none. NULL when it does not. Cost: a binary search. */
struct walk *walks_find(struct walks *walks, struct slice prefix, uint64_t view,
                        const struct query_position *after, size_t limit, size_t *at);

/* How many entries to read ahead of a page of `limit` that walks_find() did not know. */
size_t walks_ahead(const struct walks *walks, struct slice prefix, uint64_t view,
                   const struct query_position *after, size_t limit);

/* Begins to keep what follows `after`; NULL when there is no memory. One at a time. */
struct walk *walks_begin(struct walks *walks, struct slice prefix, uint64_t view,
                         const struct walk_content *content, const struct query_position *after,
                         size_t ahead);

/* False when there is no room for it: then it was not kept, and nothing may follow. */
bool walk_append(struct walk *walk, struct best best, struct slice key);

/* The walk takes its place among the others; `complete`: nothing follows. */
void walks_keep(struct walks *walks, struct walk *walk, bool complete);

/* NULL is accepted. Of a walk that is not kept, or of one that is. */
void walks_drop(struct walks *walks, struct walk *walk);

static inline struct slice walk_key(const struct walk *walk, size_t at)
{
    return slice_of(walk->bytes.data + walk->entries[at].key_at, walk->entries[at].key_size);
}
