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
    *out = front;
    return STATUS_OK;
}

void front_close(struct front *front)
{
    if (front == NULL) return;
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
    buf_commit(key, symbols_expand(front->symbols, codes.data, codes.size, to));
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

/* The first byte of an item's codes. False when there is none. */
static inline bool first_byte(const struct front *front, const struct front_block *block,
                              unsigned item, unsigned *byte)
{
    struct slice codes;
    if (!front_block_codes(block, item, &codes) || codes.size == 0) return false;
    const uint8_t *at = codes.data;
    *byte = front->symbols->first[symbols_code(front->symbols, &at, at + codes.size)];
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
        unsigned byte = 0, wanted = query->bytes[match];
        for (low = end; siblings != 0; siblings &= siblings - 1) {
            unsigned item = (unsigned)__builtin_ctz(siblings);
            if (!first_byte(front, block, item, &byte)) return false;
            if (byte < wanted) continue;
            low = item;
            break;
        }
        if (low == end || byte > wanted) break;

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

/* Opens block `block` of `level`, whose first key shares `shared` in the level above. */
static enum status open_below(const struct front *front, unsigned level, uint64_t block,
                              int32_t shared, struct front_block *out)
{
    return front_block_open(front, level, block, level == 0 ? shared : 0, out);
}

/* One end of the search: below block `item` of `level` - 1, whose first key is less than the
 * query and has `match` bytes in common with it. */
static enum status descend_low(const struct front *front, unsigned level, uint64_t item,
                               const struct query *query, size_t match, int32_t shared,
                               uint64_t *ordinal, bool *exact)
{
    while (level-- > 0) {
        struct front_block block;
        enum status status = open_below(front, level, item, shared, &block);
        if (status != STATUS_OK) return status;
        struct position position;
        if (!block_search(front, &block, query, match, false, &position)) return STATUS_CORRUPT;

        item = item * FRONT_BLOCK + position.low;
        if (position.exact || level == 0) {
            *exact = position.exact;
            *ordinal = first_ordinal(level, item);
            return STATUS_OK;
        }
        item--;
        match = position.match;
        shared = position.shared;
    }
    return STATUS_CORRUPT;
}

/* The other end: the first key of block `item` of `level` - 1 starts with the query. Only
 * headers are read. */
static enum status descend_high(const struct front *front, unsigned level, uint64_t item,
                                size_t query_size, int32_t shared, uint64_t *ordinal)
{
    while (level-- > 0) {
        struct front_block block;
        enum status status = open_below(front, level, item, shared, &block);
        if (status != STATUS_OK) return status;
        struct position position;
        find_high(&block, 0, query_size, &position);
        item = item * FRONT_BLOCK + position.high - (level != 0);
        shared = position.high_shared;
    }
    *ordinal = item;
    return STATUS_OK;
}

/* The position of the query in the top block. */
static enum status root_position(const struct front *front, const struct query *query,
                                 bool wants_high, struct position *position)
{
    struct front_block block;
    enum status status = front_block_open(front, front->level_count - 1, 0, 0, &block);
    if (status != STATUS_OK) return status;
    return root_search(front, &block, query, wants_high, position) ? STATUS_OK : STATUS_CORRUPT;
}

enum status front_rank(const struct front *front, struct slice key, uint64_t *ordinal, bool *exact)
{
    struct query query;
    struct position position;
    query_init(&query, key);
    enum status status = root_position(front, &query, false, &position);
    if (status != STATUS_OK) return status;

    unsigned level = front->level_count - 1;
    uint64_t found = first_ordinal(level, position.low);
    bool is_exact = position.exact;
    if (position.low != 0 && !position.exact)
        status = descend_low(front, level, position.low - 1, &query, position.match,
                             position.shared, &found, &is_exact);
    if (status != STATUS_OK) return status;
    if (found > front->count) return STATUS_CORRUPT;
    *ordinal = found;
    if (exact != NULL) *exact = is_exact;
    return STATUS_OK;
}

enum status front_prefix(const struct front *front, struct slice prefix, uint64_t *low,
                         uint64_t *high)
{
    if (prefix.size == 0) {
        *low = 0;
        *high = front->count;
        return STATUS_OK;
    }
    struct query query;
    struct position position;
    query_init(&query, prefix);
    enum status status = root_position(front, &query, true, &position);
    unsigned level = front->level_count - 1;
    uint64_t base = 0;

    /* Both ends lie in one block as long as no first key of a block has the prefix. */
    while (status == STATUS_OK && level > 0 && position.low == position.high && position.low != 0) {
        struct front_block block;
        base += position.low - 1;
        level--;
        status = open_below(front, level, base, position.shared, &block);
        if (status != STATUS_OK) return status;
        base *= FRONT_BLOCK;
        if (!block_search(front, &block, &query, position.match, true, &position))
            return STATUS_CORRUPT;
    }
    if (status != STATUS_OK) return status;

    bool exact = position.exact;
    uint64_t found_low = first_ordinal(level, base + position.low);
    uint64_t found_high = first_ordinal(level, base + position.high);
    if (level > 0 && position.low != 0 && !exact)
        status = descend_low(front, level, base + position.low - 1, &query, position.match,
                             position.shared, &found_low, &exact);
    if (status == STATUS_OK && level > 0 && position.high > position.low)
        status = descend_high(front, level, base + position.high - 1, query.size,
                              position.high_shared, &found_high);
    if (status != STATUS_OK) return status;
    if (found_low > found_high || found_high > front->count) return STATUS_CORRUPT;
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
