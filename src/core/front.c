#include "core/front.h"

#include "base/check.h"
#include "base/math.h"
#include "core/front_block.h"

/* --- Open --- */

static enum status touch(const struct front *front, const uint8_t *at, uint64_t size)
{
    return pages_touch(front->pages, (size_t)(at - front->pages->data), size);
}

/* The next `size` bytes of the section, or a failed reader. */
static const uint8_t *section_take(struct reader *reader, uint64_t size)
{
    if (size > reader_left(reader)) {
        reader->failed = true;
        return reader->at;
    }
    return reader_bytes(reader, size).data;
}

/* Reads the counts and derives the shape of every level from them. */
static enum status shape_read(struct front *front, struct slice header, uint64_t *sizes)
{
    struct reader reader = reader_of(header);
    front->count = reader_u64le(&reader);
    if (reader.failed || front->count == 0) return STATUS_CORRUPT;

    uint64_t item_count = front->count;
    do {
        struct front_level *level = &front->levels[front->level_count++];
        level->item_count = item_count;
        level->block_count = front_blocks_of(item_count);
        item_count = level->block_count;
    } while (item_count > 1 || front->level_count == 1);

    for (unsigned i = 1; i < front->level_count; i++) sizes[i] = reader_u64le(&reader);
    return reader.failed || reader_left(&reader) != 0 ? STATUS_CORRUPT : STATUS_OK;
}

static enum status sections_read(struct front *front,
                                 const struct slice sections[FRONT_SECTION_COUNT])
{
    uint64_t sizes[FRONT_LEVEL_MAX + 1];
    enum status status = touch(front, sections[FRONT_HEADER].data, sections[FRONT_HEADER].size);
    if (status == STATUS_OK) status = shape_read(front, sections[FRONT_HEADER], sizes);
    if (status != STATUS_OK) return status;

    struct reader index = reader_of(sections[FRONT_INDEX]);
    for (unsigned i = front->level_count - 1; i > 0; i--) {
        struct front_level *level = &front->levels[i];
        uint64_t group_count = front_groups_of(level->block_count);
        level->offsets = section_take(&index, group_count * FRONT_GROUP_BYTES);
        level->size = sizes[i];
        level->data = section_take(&index, sizes[i]);
    }
    if (index.failed || reader_left(&index) != 0) return STATUS_CORRUPT;

    struct front_level *leaf = &front->levels[0];
    uint64_t group_count = front_groups_of(leaf->block_count);
    if (sections[FRONT_OFFSETS].size != group_count * FRONT_GROUP_BYTES) return STATUS_CORRUPT;
    leaf->offsets = sections[FRONT_OFFSETS].data;
    leaf->data = sections[FRONT_KEYS].data;
    leaf->size = sections[FRONT_KEYS].size;
    return STATUS_OK;
}

static void steps_init(struct front *front)
{
    const struct dictionary *dictionary = front->dictionary;
    for (unsigned i = 0; i < dictionary->header_count; i++) {
        struct header header = dictionary->headers[i];
        front->steps[i] = header.delta * (INT64_C(1) << 32) + header.size;
    }
}

enum status front_open(struct heap *heap, struct pages *pages,
                       const struct slice sections[FRONT_SECTION_COUNT], struct front **out)
{
    struct front *front = heap_zalloc(heap, sizeof *front);
    if (front == NULL) return STATUS_NOMEM;
    front->heap = heap;
    front->pages = pages;

    struct slice dictionary = sections[FRONT_DICTIONARY];
    enum status status = sections_read(front, sections);
    if (status == STATUS_OK) status = touch(front, dictionary.data, dictionary.size);
    if (status == STATUS_OK) status = dictionary_decode(heap, dictionary, &front->dictionary);
    if (status != STATUS_OK) {
        front_close(front);
        return status;
    }
    front->symbols = front->dictionary->symbols;
    steps_init(front);
    status = front_tops_open(front);
    if (status != STATUS_OK) {
        front_close(front);
        return status;
    }
    *out = front;
    return STATUS_OK;
}

void front_close(struct front *front)
{
    if (front == NULL) return;
    front_tops_close(front);
    dictionary_destroy(front->dictionary);
    heap_free(front->heap, front);
}

uint64_t front_count(const struct front *front)
{
    return front->count;
}

const struct dictionary *front_dictionary(const struct front *front)
{
    return front->dictionary;
}

/* --- Entries --- */

enum status front_expand(const struct front *front, struct slice codes, int32_t shared,
                         struct buf *key)
{
    if (shared < 0 || (size_t)shared > key->size) return STATUS_CORRUPT;

    size_t room = codes.size * front->symbols->size_max;
    if ((size_t)shared + room > KEY_BYTES_MAX) {
        room = symbols_measure(front->symbols, codes.data, codes.size);
        if ((size_t)shared + room > KEY_BYTES_MAX) return STATUS_CORRUPT;
    }
    key->size = (size_t)shared;
    uint8_t *to = buf_reserve(key, room + SYMBOL_SLACK);
    if (to == NULL) return STATUS_NOMEM;
    buf_commit(key, symbols_expand(front->symbols, codes.data, codes.size, SIZE_MAX, to));
    return STATUS_OK;
}

/* --- Search --- */

enum { COMPARE_BYTES = sizeof(uint64_t) };

/* What is looked for, followed by zeros, so that it can be compared eight bytes at a time. One
 * byte more than a key can have says as much as all bytes of a query that is longer. */
struct query {
    size_t size;
    uint8_t bytes[KEY_BYTES_MAX + 1 + COMPARE_BYTES];
};

static void query_init(struct query *query, struct slice bytes)
{
    query->size = size_min(bytes.size, KEY_BYTES_MAX + 1);
    if (query->size > 0) memcpy(query->bytes, bytes.data, query->size);
    memset(query->bytes + query->size, 0, COMPARE_BYTES);
}

/* Where a query stands among the items of a block. */
struct position {
    unsigned low;        /* Items known to be < the query: all before `low`. */
    unsigned high;       /* First item past `low` that is > the query and has it not as a prefix. */
    size_t match;        /* Bytes that item low - 1 has in common with the query. */
    int32_t shared;      /* What item low - 1 shares with the one before. */
    int32_t high_shared; /* What item high - 1 shares. */
    bool exact;          /* Item `low` is the query. */
};

/* Number of leading bytes that two strings have in common, at most `limit`. Both can be read
 * up to seven bytes past that. */
static inline size_t common_bytes(const uint8_t *a, const uint8_t *b, size_t limit)
{
    for (size_t common = 0; common < limit; common += COMPARE_BYTES) {
        uint64_t difference = load_u64le(a + common) ^ load_u64le(b + common);
        if (difference == 0) continue;
        common += (unsigned)__builtin_ctzll(difference) / 8;
        return common < limit ? common : limit;
    }
    return limit;
}

/* Compares what `codes` stand for with the query from `*match` on, which grows by what they
 * have in common. The result is <0, 0 or >0; `covers` is set when the codes go on past the
 * end of the query without a difference. */
static int codes_compare(const struct front *front, struct slice codes, const struct query *query,
                         size_t *match, bool *covers)
{
    const uint8_t *at = codes.data, *end = codes.data + codes.size;
    *covers = false;
    while (at < end) {
        struct slice string =
            symbols_string(front->symbols, symbols_code(front->symbols, &at, end));
        const uint8_t *rest = query->bytes + *match;
        size_t left = query->size - *match;
        size_t common = common_bytes(string.data, rest, size_min(string.size, left));
        *match += common;
        if (common == string.size) continue;
        if (common == left) {
            *covers = true;
            return 1;
        }
        return string.data[common] < rest[common] ? -1 : 1;
    }
    return *match == query->size ? 0 : -1;
}

/* The first of `siblings`, whose first bytes ascend, with a byte that is not less than `*byte`,
 * which becomes that byte; `none`: there is no such one. False when one is broken. */
static inline bool find_sibling(const struct front *front, const struct front_block *block,
                                uint32_t siblings, unsigned none, uint8_t *byte, unsigned *item)
{
    if (block->has_first) {
        *item = front_items_first(siblings & front_items_from(block, *byte), none);
        if (*item != none) *byte = block->first[*item];
        return true;
    }
    uint8_t wanted = *byte;
    for (*item = none; siblings != 0; siblings &= siblings - 1) {
        unsigned index = (unsigned)__builtin_ctz(siblings);
        if (!front_block_first(front, block, index, byte)) return false;
        if (*byte < wanted) continue;
        *item = index;
        break;
    }
    return true;
}

/* Item `first` starts with the query: finds the end of those that do. */
static void find_high(const struct front_block *block, unsigned first, size_t query_size,
                      struct position *position)
{
    uint32_t others = front_items_below(block, query_size) & front_items_after(block, first);
    position->high = front_items_first(others, block->count);
    position->high_shared = block->shared[position->high - 1];
}

/* Finds the query among the items after the first, which is less and has `match` bytes in
 * common with it. An item that shares more than `match` with the one before compares like
 * that one and is not read; one that shares less is greater. What is left are siblings, whose
 * first bytes ascend. */
static bool block_search(const struct front *front, const struct front_block *block,
                         const struct query *query, size_t match, bool wants_high,
                         struct position *position)
{
    unsigned low = 1;
    *position = (struct position){0};
    while (low < block->count) {
        uint32_t rest = front_items_after(block, low - 1);
        uint32_t not_greater = ~front_items_below(block, match) & rest;
        unsigned end = front_items_first(rest & ~not_greater, block->count);
        uint32_t siblings = front_items_below(block, match + 1) & not_greater;
        siblings &= (uint32_t)((UINT64_C(1) << end) - 1);
        uint8_t byte = query->bytes[match];
        if (!find_sibling(front, block, siblings, end, &byte, &low)) return false;
        if (low == end || byte > query->bytes[match]) break;

        struct slice codes;
        bool covers;
        size_t own_match = match;
        if (!front_block_codes(block, low, &codes)) return false;
        int order = codes_compare(front, codes, query, &own_match, &covers);
        if (order >= 0) {
            position->exact = order == 0;
            position->high = low;
            position->high_shared = block->shared[order == 0 ? low : low - 1];
            if (wants_high && (order == 0 || covers)) find_high(block, low, query->size, position);
            break;
        }
        match = own_match;
        low++;
    }
    position->low = low;
    position->match = match;
    position->shared = block->shared[low - 1];
    if (position->high == 0) {
        position->high = low;
        position->high_shared = position->shared;
    }
    return true;
}

/* The top block's first item is the least key of all; compares it with the query. */
static bool root_search(const struct front *front, const struct front_block *block,
                        const struct query *query, bool wants_high, struct position *position)
{
    size_t match = 0;
    bool covers;
    int order = codes_compare(front, block->head, query, &match, &covers);
    if (order < 0) return block_search(front, block, query, match, wants_high, position);

    *position = (struct position){.match = match, .exact = order == 0};
    if (wants_high && (order == 0 || covers)) find_high(block, 0, query->size, position);
    return true;
}

/* Ordinal of the first key under item `item` of `level`. */
static uint64_t first_ordinal(unsigned level, uint64_t item)
{
    return item << (FRONT_BLOCK_BITS * level);
}

/* Opens block `block` of `level`, whose first key shares `shared` in the level above; it is in
 * `storage`, or is one that is kept open. */
static inline enum status open_below(const struct front *front, unsigned level, uint64_t block,
                                     int32_t shared, struct front_block *storage,
                                     const struct front_block **out)
{
    if (level != 0) return front_block_get(front, level, block, storage, out);
    *out = storage;
    return front_block_open(front, 0, block, shared, FRONT_BLOCK, storage);
}

/* The position of the query in the top block. */
static enum status root_position(const struct front *front, const struct query *query,
                                 bool wants_high, struct position *position)
{
    struct front_block storage;
    const struct front_block *block;
    enum status status = front_block_get(front, front->level_count - 1, 0, &storage, &block);
    if (status != STATUS_OK) return status;
    return root_search(front, block, query, wants_high, position) ? STATUS_OK : STATUS_CORRUPT;
}

/* A descent for one end, or for both while they lie below one block: where the next step goes
 * on, or what was found. */
struct end {
    bool found;
    uint64_t item;  /* Block of the next level down; or the ordinal. */
    int32_t shared; /* What the first key of the block shares. */
};

struct descent {
    const struct front *front;
    const struct query *query;
    unsigned level; /* Of the blocks that were searched last. */
    size_t match;   /* Bytes that the first key of the low end's block has in common. */
    bool exact;     /* The low end is the query. */
    bool is_joint;  /* The high end is the low end as yet. */
    struct end low, high;
};

/* Goes on below the items that a search in a block, whose first item is `base`, ended at. */
static void descent_take_low(struct descent *descent, uint64_t base,
                             const struct position *position)
{
    descent->exact = position->exact;
    descent->match = position->match;
    /* Before the very first key, and at the query itself, there is nothing more to find. */
    bool found = descent->level == 0 || position->exact || position->low == 0;
    uint64_t item = base + position->low;
    descent->low = (struct end){found, found ? first_ordinal(descent->level, item) : item - 1,
                                position->shared};
}

static void descent_take_high(struct descent *descent, uint64_t base,
                              const struct position *position)
{
    bool found = descent->level == 0 || position->high == 0;
    uint64_t item = base + position->high;
    descent->high = (struct end){found, found ? first_ordinal(descent->level, item) : item - 1,
                                 position->high_shared};
}

/* After a search for both ends. They part when a first key of a block has the prefix. */
static void descent_take(struct descent *descent, uint64_t base, const struct position *position,
                         bool wants_high)
{
    descent_take_low(descent, base, position);
    descent->is_joint = !wants_high || (position->low == position->high && !descent->low.found);
    if (!descent->is_joint) descent_take_high(descent, base, position);
}

static inline bool descent_is_over(const struct descent *descent)
{
    return descent->low.found && (descent->is_joint || descent->high.found);
}

/* Starts loading the blocks that the next step opens. */
static void descent_prefetch(const struct descent *descent)
{
    if (descent_is_over(descent)) return;
    unsigned level = descent->level - 1;
    if (!descent->low.found) front_block_prefetch(descent->front, level, descent->low.item);
    if (!descent->is_joint && !descent->high.found)
        front_block_prefetch(descent->front, level, descent->high.item);
}

static enum status descent_start(struct descent *descent, const struct front *front,
                                 const struct query *query, bool wants_high)
{
    struct position position;
    *descent = (struct descent){.front = front, .query = query, .level = front->level_count - 1};
    enum status status = root_position(front, query, wants_high, &position);
    if (status == STATUS_OK) descent_take(descent, 0, &position, wants_high);
    return status;
}

/* Searches the blocks of one level more. */
static enum status descent_step(struct descent *descent, bool wants_high)
{
    const struct front *front = descent->front;
    unsigned level = --descent->level;
    struct end low = descent->low, high = descent->high;
    struct front_block storage;
    const struct front_block *block;
    struct position position;
    bool was_joint = descent->is_joint;

    if (!low.found) {
        enum status status = open_below(front, level, low.item, low.shared, &storage, &block);
        if (status != STATUS_OK) return status;
        if (!block_search(front, block, descent->query, descent->match, wants_high && was_joint,
                          &position))
            return STATUS_CORRUPT;
        if (was_joint)
            descent_take(descent, low.item * FRONT_BLOCK, &position, wants_high);
        else
            descent_take_low(descent, low.item * FRONT_BLOCK, &position);
    }
    /* The first key of the block starts with the query: only what is shared counts. */
    if (!was_joint && !high.found) {
        enum status status = open_below(front, level, high.item, high.shared, &storage, &block);
        if (status != STATUS_OK) return status;
        find_high(block, 0, descent->query->size, &position);
        descent_take_high(descent, high.item * FRONT_BLOCK, &position);
    }
    return STATUS_OK;
}

enum status front_rank(const struct front *front, struct slice key, uint64_t *ordinal, bool *exact)
{
    struct query query;
    struct descent descent;
    query_init(&query, key);
    enum status status = descent_start(&descent, front, &query, false);
    while (status == STATUS_OK && !descent.low.found) status = descent_step(&descent, false);
    if (status != STATUS_OK) return status;
    if (descent.low.item > front->count) return STATUS_CORRUPT;
    *ordinal = descent.low.item;
    if (exact != NULL) *exact = descent.exact;
    return STATUS_OK;
}

static enum status prefix_found(const struct descent *descent, uint64_t *low, uint64_t *high)
{
    uint64_t first = descent->low.item;
    uint64_t end = descent->is_joint ? first : descent->high.item;
    if (first > end || end > descent->front->count) return STATUS_CORRUPT;
    *low = first;
    *high = end;
    return STATUS_OK;
}

enum status front_prefix_all(const struct front *const fronts[], size_t count, struct slice prefix,
                             uint64_t lows[], uint64_t highs[])
{
    CHECK(count <= FRONT_AT_ONCE);
    if (prefix.size == 0) {
        for (size_t i = 0; i < count; i++) {
            lows[i] = 0;
            highs[i] = fronts[i]->count;
        }
        return STATUS_OK;
    }

    struct query query;
    struct descent descents[FRONT_AT_ONCE];
    enum status status = STATUS_OK;
    query_init(&query, prefix);
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        struct descent *descent = &descents[i];
        status = descent_start(descent, fronts[i], &query, true);
        while (status == STATUS_OK && descent->level > 2 && !descent_is_over(descent))
            status = descent_step(descent, true); /* These blocks are open. */
        if (status == STATUS_OK) descent_prefetch(descent);
    }
    for (bool over = false; !over && status == STATUS_OK;) {
        over = true;
        for (size_t i = 0; i < count && status == STATUS_OK; i++) {
            if (descent_is_over(&descents[i])) continue;
            over = false;
            status = descent_step(&descents[i], true);
            if (status == STATUS_OK) descent_prefetch(&descents[i]);
        }
    }
    for (size_t i = 0; i < count && status == STATUS_OK; i++)
        status = prefix_found(&descents[i], &lows[i], &highs[i]);
    return status;
}

enum status front_prefix(const struct front *front, struct slice prefix, uint64_t *low,
                         uint64_t *high)
{
    uint64_t found_low, found_high;
    enum status status = front_prefix_all(&front, 1, prefix, &found_low, &found_high);
    if (status != STATUS_OK) return status;
    *low = found_low;
    *high = found_high;
    return STATUS_OK;
}

void front_prefetch(const struct front *front, uint64_t ordinal)
{
    CHECK(ordinal < front->count);
    front_block_prefetch(front, 1, ordinal / FRONT_BLOCK / FRONT_BLOCK);
    front_block_prefetch(front, 0, ordinal / FRONT_BLOCK);
}

void front_prefetch_offsets(const struct front *front, uint64_t ordinal)
{
    CHECK(ordinal < front->count);
    uint64_t group = ordinal / FRONT_BLOCK / FRONT_GROUP;
    __builtin_prefetch(front->levels[0].offsets + group * FRONT_GROUP_BYTES);
}
