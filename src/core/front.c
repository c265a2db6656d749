#include "core/front.h"

#include "base/check.h"
#include "base/math.h"
#include "core/front_format.h"

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
        front->steps[i] = header.delta * 65536 + header.size;
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

/* --- Blocks --- */

static uint64_t group_start(const uint8_t *group)
{
    return load_u32le(group) | (uint64_t)(load_u16le(group + 4) >> 4) << 32;
}

/* Where in the level the bytes of `block` lie; not yet touched, but inside. */
static enum status block_find(const struct front *front, const struct front_level *level,
                              uint64_t block, struct slice *bytes)
{
    const uint8_t *group = level->offsets + block / FRONT_GROUP * FRONT_GROUP_BYTES;
    size_t slot = block % FRONT_GROUP;
    bool is_last = block + 1 == level->block_count;
    bool needs_next = slot == FRONT_GROUP - 1 && !is_last;
    enum status status = touch(front, group, FRONT_GROUP_BYTES + (needs_next ? 6 : 0));
    if (status != STATUS_OK) return status;

    unsigned shift = load_u16le(group + 4) & 15;
    uint64_t base = group_start(group);
    const uint8_t *slots = group + 4;
    uint64_t start = base, end = level->size;
    if (slot != 0) start += (uint64_t)load_u16le(slots + 2 * slot) << shift;
    if (needs_next)
        end = group_start(group + FRONT_GROUP_BYTES);
    else if (!is_last)
        end = base + ((uint64_t)load_u16le(slots + 2 * slot + 2) << shift);
    if (start > end || end > level->size || end - start > UINT32_MAX) return STATUS_CORRUPT;

    *bytes = (struct slice){level->data + start, end - start};
    return STATUS_OK;
}

enum status front_walk_open(const struct front *front, unsigned level_index, uint64_t block,
                            int32_t shared, struct front_walk *walk)
{
    const struct front_level *level = &front->levels[level_index];
    struct slice bytes;
    enum status status = block_find(front, level, block, &bytes);
    if (status == STATUS_OK) status = touch(front, bytes.data, bytes.size);
    if (status != STATUS_OK) return status;

    uint64_t left = level->item_count - block * FRONT_BLOCK;
    unsigned count = left < FRONT_BLOCK ? (unsigned)left : FRONT_BLOCK;
    size_t head_start = level_index == 0 ? 0 : 2;
    size_t head_size = 0;
    if (bytes.size < head_start + count - 1) return STATUS_CORRUPT;
    if (level_index != 0) head_size = load_u16le(bytes.data);
    size_t entries = head_start + count - 1 + head_size;
    if (bytes.size < entries) return STATUS_CORRUPT;

    *walk = (struct front_walk){
        .headers = bytes.data + head_start,
        .codes = bytes.data + entries,
        .limit = (uint32_t)(bytes.size - entries),
        .shared = shared,
        .count = count,
        .head = {bytes.data + entries - head_size, head_size},
    };
    return STATUS_OK;
}

bool front_walk_escape(struct front_walk *walk)
{
    walk->size = 0;
    if (walk->offset > walk->limit) return false;

    struct reader reader = {walk->codes + walk->offset, walk->codes + walk->limit, false};
    uint64_t shared = reader_varint(&reader);
    uint64_t size = reader_varint(&reader);
    if (reader.failed || shared > KEY_BYTES_MAX || size > reader_left(&reader)) return false;
    walk->offset = (uint32_t)(reader.at - walk->codes);
    walk->size = (uint32_t)size;
    walk->shared = (int32_t)shared;
    return true;
}

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

/* Where a query stands among the items of a block. */
struct position {
    unsigned low;        /* Items known to be < the query: all before `low`. */
    unsigned high;       /* First item past `low` that is > the query and has it not as a prefix. */
    size_t match;        /* Bytes that item low - 1 has in common with the query. */
    int32_t shared;      /* `shared` of item low - 1. */
    int32_t high_shared; /* `shared` of item high - 1. */
    bool exact;          /* Item `low` is the query. */
};

/* Compares what `codes` stand for with `query` from `*match` on, which grows by what they
 * have in common. The result is <0, 0 or >0; `covers` is set when the codes go on past the
 * end of the query without a difference. */
static int codes_compare(const struct front *front, struct slice codes, struct slice query,
                         size_t *match, bool *covers)
{
    const uint8_t *at = codes.data, *end = codes.data + codes.size;
    *covers = false;
    while (at < end) {
        struct slice string =
            symbols_string(front->symbols, symbols_code(front->symbols, &at, end));
        struct slice rest = slice_from(query, *match);
        size_t common = slice_common_prefix(string, rest);
        *match += common;
        if (common == string.size) continue;
        if (common == rest.size) {
            *covers = true;
            return 1;
        }
        return string.data[common] < rest.data[common] ? -1 : 1;
    }
    return *match == query.size ? 0 : -1;
}

/* The first byte of an item's codes. False when there is none. */
static inline bool first_byte(const struct front *front, const struct front_walk *walk,
                              uint8_t *byte)
{
    if (!front_walk_is_inside(walk) || walk->size == 0) return false;
    const uint8_t *at = walk->codes + walk->offset;
    *byte = front->symbols->first[symbols_code(front->symbols, &at, at + walk->size)];
    return true;
}

/* From the item at `walk`, which starts with the query, on to the last that does. */
static bool walk_to_high(const struct front *front, struct front_walk *walk, size_t query_size,
                         struct position *position)
{
    position->high_shared = walk->shared;
    while (walk->index + 1 < walk->count) {
        if (!front_walk_next(front, walk)) return false;
        if (walk->shared < (int64_t)query_size) {
            position->high = walk->index;
            return true;
        }
        position->high_shared = walk->shared;
    }
    position->high = walk->count;
    return true;
}

/* Finds the query among the items after the first, which is less and has `match` bytes in
 * common with it. An item that shares more than `match` with the one before compares like
 * that one and is not read; one that shares less is greater. */
static bool walk_search(const struct front *front, struct front_walk *walk, struct slice query,
                        size_t match, bool wants_high, struct position *position)
{
    *position = (struct position){.low = 1, .match = match, .shared = walk->shared};
    while (walk->index + 1 < walk->count) {
        if (!front_walk_next(front, walk)) return false;
        if (walk->shared > (int64_t)match) goto less;
        if (walk->shared < (int64_t)match) break;

        uint8_t byte;
        if (!first_byte(front, walk, &byte)) return false;
        if (byte < query.data[match]) goto less;
        if (byte > query.data[match]) break;

        bool covers;
        int order = codes_compare(front, front_walk_codes(walk), query, &match, &covers);
        if (order >= 0) {
            position->exact = order == 0;
            position->high = position->low;
            if (wants_high && (order == 0 || covers))
                return walk_to_high(front, walk, query.size, position);
            position->high_shared = order == 0 ? walk->shared : position->shared;
            return true;
        }
        position->match = match;
    less:
        position->low = walk->index + 1;
        position->shared = walk->shared;
    }
    position->high = position->low;
    position->high_shared = position->shared;
    return true;
}

/* The top block's first item is the least key of all; compares it with the query. */
static bool root_search(const struct front *front, struct front_walk *walk, struct slice query,
                        bool wants_high, struct position *position)
{
    size_t match = 0;
    bool covers;
    int order = codes_compare(front, walk->head, query, &match, &covers);
    if (order < 0) return walk_search(front, walk, query, match, wants_high, position);

    *position = (struct position){.match = match, .exact = order == 0};
    if (wants_high && (order == 0 || covers))
        return walk_to_high(front, walk, query.size, position);
    return true;
}

/* Ordinal of the first key under item `item` of `level`. */
static uint64_t first_ordinal(unsigned level, uint64_t item)
{
    return item << (FRONT_BLOCK_BITS * level);
}

/* One end of the search: below block `item` of `level` - 1, whose first key is less than the
 * query and has `match` bytes in common with it. */
static enum status descend_low(const struct front *front, unsigned level, uint64_t item,
                               struct slice query, size_t match, int32_t shared, uint64_t *ordinal,
                               bool *exact)
{
    while (level-- > 0) {
        struct front_walk walk;
        enum status status = front_walk_open(front, level, item, level == 0 ? shared : 0, &walk);
        if (status != STATUS_OK) return status;
        struct position position;
        if (!walk_search(front, &walk, query, match, false, &position)) return STATUS_CORRUPT;

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
        struct front_walk walk;
        enum status status = front_walk_open(front, level, item, level == 0 ? shared : 0, &walk);
        if (status != STATUS_OK) return status;
        struct position position;
        if (!walk_to_high(front, &walk, query_size, &position)) return STATUS_CORRUPT;
        item = item * FRONT_BLOCK + position.high - (level != 0);
        shared = position.high_shared;
    }
    *ordinal = item;
    return STATUS_OK;
}

/* The position of the query in the top block. */
static enum status root_position(const struct front *front, struct slice query, bool wants_high,
                                 struct position *position)
{
    struct front_walk walk;
    enum status status = front_walk_open(front, front->level_count - 1, 0, 0, &walk);
    if (status != STATUS_OK) return status;
    return root_search(front, &walk, query, wants_high, position) ? STATUS_OK : STATUS_CORRUPT;
}

enum status front_rank(const struct front *front, struct slice key, uint64_t *ordinal, bool *exact)
{
    struct position position;
    enum status status = root_position(front, key, false, &position);
    if (status != STATUS_OK) return status;

    unsigned level = front->level_count - 1;
    uint64_t found = first_ordinal(level, position.low);
    bool is_exact = position.exact;
    if (position.low != 0 && !position.exact)
        status = descend_low(front, level, position.low - 1, key, position.match, position.shared,
                             &found, &is_exact);
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
    struct position position;
    enum status status = root_position(front, prefix, true, &position);
    unsigned level = front->level_count - 1;
    uint64_t base = 0;

    /* Both ends lie in one block as long as no first key of a block has the prefix. */
    while (status == STATUS_OK && level > 0 && position.low == position.high && position.low != 0) {
        struct front_walk walk;
        base += position.low - 1;
        level--;
        status = front_walk_open(front, level, base, level == 0 ? position.shared : 0, &walk);
        if (status != STATUS_OK) return status;
        base *= FRONT_BLOCK;
        if (!walk_search(front, &walk, prefix, position.match, true, &position))
            return STATUS_CORRUPT;
    }
    if (status != STATUS_OK) return status;

    bool exact = position.exact;
    uint64_t found_low = first_ordinal(level, base + position.low);
    uint64_t found_high = first_ordinal(level, base + position.high);
    if (level > 0 && position.low != 0 && !exact)
        status = descend_low(front, level, base + position.low - 1, prefix, position.match,
                             position.shared, &found_low, &exact);
    if (status == STATUS_OK && level > 0 && position.high > position.low)
        status = descend_high(front, level, base + position.high - 1, prefix.size,
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
    for (unsigned i = 2; i-- > 0;) {
        const struct front_level *level = &front->levels[i];
        uint64_t item = ordinal >> (FRONT_BLOCK_BITS * i);
        struct slice bytes;
        if (block_find(front, level, item / FRONT_BLOCK, &bytes) != STATUS_OK) return;
        for (size_t line = 0; line < bytes.size && line < 256; line += 64)
            __builtin_prefetch(bytes.data + line);
    }
}
