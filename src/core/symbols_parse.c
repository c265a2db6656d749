/* Finds the shortest way to write a text in symbols, from its end to its start.
 *
 * The symbols lie in a double-array trie: the child of a node over a byte is the slot
 * `base` + byte if that slot names the node as its owner. One load a step tells all:
 *
 *   bits  0..23  base of the node's children
 *   bits 24..47  slot of the owner
 *   bits 48..63  code of the symbol that ends here, 0: none */
#include "core/symbols.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/math.h"
#include "core/key.h"

enum { FIELD_BITS = 24, CODE_SHIFT = 48, OCCUPIED_TRIES = 64, BYTE_COUNT = 256 };

#define FIELD_MASK ((UINT64_C(1) << FIELD_BITS) - 1)
#define OWNER_NONE FIELD_MASK

struct parser {
    struct heap *heap;
    const struct symbols *symbols;
    uint64_t *slots;
    size_t slot_count;
    size_t free_first; /* No slot below is free, while building. */
    size_t used_end;   /* All slots from here on are free, while building. */
    uint16_t *order;   /* Codes by their strings, while building. */
    uint32_t *costs;   /* Bytes that the text from here on takes. */
    uint16_t *choices; /* The symbol to take here. */
    uint16_t *codes;
    uint8_t *bytes;
};

static uint64_t slot_of(size_t owner)
{
    return (uint64_t)owner << FIELD_BITS;
}

static size_t slot_owner(uint64_t slot)
{
    return (size_t)(slot >> FIELD_BITS & FIELD_MASK);
}

static enum status slots_grow(struct parser *parser, size_t needed)
{
    if (needed <= parser->slot_count) return STATUS_OK;
    CHECK(needed < OWNER_NONE);

    size_t count = parser->slot_count + parser->slot_count / 2;
    if (count < needed) count = needed;
    uint64_t *slots = heap_realloc(parser->heap, parser->slots, count * sizeof *slots);
    if (slots == NULL) return STATUS_NOMEM;
    for (size_t i = parser->slot_count; i < count; i++) slots[i] = slot_of(OWNER_NONE);
    parser->slots = slots;
    parser->slot_count = count;
    return STATUS_OK;
}

static bool slot_is_free(const struct parser *parser, size_t slot)
{
    return slot >= parser->used_end || slot_owner(parser->slots[slot]) == OWNER_NONE;
}

/* A base under which the slots of all `bytes` (ascending) are free. Gives up on the gaps
 * after some tries and appends: what matters is the time, not the last slot. */
static enum status base_find(struct parser *parser, const uint8_t *bytes, size_t count,
                             size_t *base)
{
    while (parser->free_first < parser->used_end && !slot_is_free(parser, parser->free_first))
        parser->free_first++;

    size_t slot = parser->free_first < bytes[0] ? bytes[0] : parser->free_first;
    for (unsigned tries = 0; tries < OCCUPIED_TRIES && slot < parser->used_end; slot++) {
        if (!slot_is_free(parser, slot)) continue;
        size_t fits = 1;
        while (fits < count && slot_is_free(parser, slot - bytes[0] + bytes[fits])) fits++;
        if (fits == count) {
            *base = slot - bytes[0];
            return slots_grow(parser, *base + BYTE_COUNT);
        }
        tries++;
    }
    *base = parser->used_end;
    return slots_grow(parser, *base + BYTE_COUNT);
}

static struct slice ordered(const struct parser *parser, size_t index)
{
    return symbols_string(parser->symbols, parser->order[index]);
}

/* The symbols order[low, high) share their first `depth` bytes, which lead to `node`.
 * Recursion ends at depth SYMBOL_BYTES_MAX. */
static enum status node_build(struct parser *parser, size_t node, size_t low, size_t high,
                              size_t depth)
{
    for (; low < high && ordered(parser, low).size == depth; low++) {
        if (parser->slots[node] >> CODE_SHIFT == 0)
            parser->slots[node] |= (uint64_t)parser->order[low] << CODE_SHIFT;
    }
    if (low == high) return STATUS_OK;

    uint8_t bytes[BYTE_COUNT];
    size_t starts[BYTE_COUNT + 1];
    size_t count = 0;
    for (size_t i = low; i < high; i++) {
        uint8_t byte = ordered(parser, i).data[depth];
        if (count != 0 && bytes[count - 1] == byte) continue;
        starts[count] = i;
        bytes[count++] = byte;
    }
    starts[count] = high;

    size_t base;
    enum status status = base_find(parser, bytes, count, &base);
    if (status != STATUS_OK) return status;
    parser->slots[node] |= base;
    parser->used_end = size_max(parser->used_end, base + bytes[count - 1] + 1);
    for (size_t i = 0; i < count; i++) parser->slots[base + bytes[i]] = slot_of(node);
    for (size_t i = 0; i < count && status == STATUS_OK; i++)
        status = node_build(parser, base + bytes[i], starts[i], starts[i + 1], depth + 1);
    return status;
}

static int compare_codes(const void *a, const void *b, void *context)
{
    const struct symbols *symbols = context;
    const uint16_t *left = a;
    const uint16_t *right = b;
    int order = slice_compare(symbols_string(symbols, *left), symbols_string(symbols, *right));
    return order != 0 ? order : (*left > *right) - (*left < *right);
}

static enum status trie_build(struct parser *parser)
{
    const struct symbols *symbols = parser->symbols;
    parser->order = heap_alloc(parser->heap, symbols->count * sizeof *parser->order);
    if (parser->order == NULL) return STATUS_NOMEM;
    for (unsigned i = 0; i < symbols->count; i++) parser->order[i] = (uint16_t)i;
    qsort_r(parser->order, symbols->count, sizeof *parser->order, compare_codes,
            (void *)(uintptr_t)symbols);

    enum status status = slots_grow(parser, 1024 + symbols->total_size);
    if (status != STATUS_OK) return status;
    parser->slots[0] = slot_of(0);
    parser->free_first = 1;
    parser->used_end = 1;
    return node_build(parser, 0, 1, symbols->count, 0); /* order[0] is the empty symbol. */
}

static enum status scratch_allocate(struct parser *parser)
{
    parser->costs = heap_alloc(parser->heap, (KEY_BYTES_MAX + 1) * sizeof *parser->costs);
    parser->choices = heap_alloc(parser->heap, KEY_BYTES_MAX * sizeof *parser->choices);
    parser->codes = heap_alloc(parser->heap, KEY_BYTES_MAX * sizeof *parser->codes);
    parser->bytes = heap_alloc(parser->heap, 2 * KEY_BYTES_MAX);
    bool failed = parser->costs == NULL || parser->choices == NULL || parser->codes == NULL ||
                  parser->bytes == NULL;
    return failed ? STATUS_NOMEM : STATUS_OK;
}

enum status parser_create(struct heap *heap, const struct symbols *symbols, struct parser **out)
{
    struct parser *parser = heap_zalloc(heap, sizeof *parser);
    if (parser == NULL) return STATUS_NOMEM;
    parser->heap = heap;
    parser->symbols = symbols;

    enum status status = scratch_allocate(parser);
    if (status == STATUS_OK) status = trie_build(parser);
    heap_free(heap, parser->order);
    parser->order = NULL;
    if (status != STATUS_OK) {
        parser_destroy(parser);
        return status;
    }
    *out = parser;
    return STATUS_OK;
}

void parser_destroy(struct parser *parser)
{
    if (parser == NULL) return;
    heap_free(parser->heap, parser->slots);
    heap_free(parser->heap, parser->costs);
    heap_free(parser->heap, parser->choices);
    heap_free(parser->heap, parser->codes);
    heap_free(parser->heap, parser->bytes);
    heap_free(parser->heap, parser);
}

/* Fills costs[] and choices[] from the end of `text`. */
static void choose(struct parser *parser, struct slice text)
{
    CHECK(text.size <= KEY_BYTES_MAX);

    const uint64_t *slots = parser->slots;
    const uint64_t root = slots[0] & FIELD_MASK;
    const unsigned short_count = parser->symbols->short_count;
    uint32_t *costs = parser->costs;
    costs[text.size] = 0;

    for (size_t start = text.size; start-- > 0;) {
        uint32_t best = UINT32_MAX;
        unsigned choice = 0;
        uint64_t node = 0;
        uint64_t base = root;
        for (size_t at = start; at < text.size; at++) {
            uint64_t child = base + text.data[at];
            uint64_t slot = slots[child];
            if ((slot >> FIELD_BITS & FIELD_MASK) != node) break;
            node = child;
            base = slot & FIELD_MASK;
            unsigned code = (unsigned)(slot >> CODE_SHIFT);
            if (code == 0) continue;
            /* On a tie the longer symbol: fewer to expand. */
            uint32_t cost = costs[at + 1] + 1 + (code >= short_count);
            if (cost > best) continue;
            best = cost;
            choice = code;
        }
        costs[start] = best;
        parser->choices[start] = (uint16_t)choice;
    }
}

static size_t choice_size(const struct parser *parser, unsigned code)
{
    return parser->symbols->table[code].size;
}

struct slice parser_encode(struct parser *parser, struct slice text)
{
    choose(parser, text);
    unsigned short_count = parser->symbols->short_count;
    uint8_t *to = parser->bytes;
    for (size_t at = 0; at < text.size;) {
        unsigned code = parser->choices[at];
        at += choice_size(parser, code);
        if (code < short_count) {
            *to++ = (uint8_t)code;
            continue;
        }
        *to++ = (uint8_t)(short_count + (code - short_count) / 256);
        *to++ = (uint8_t)((code - short_count) % 256);
    }
    return (struct slice){parser->bytes, (size_t)(to - parser->bytes)};
}

size_t parser_codes(struct parser *parser, struct slice text, const uint16_t **codes)
{
    choose(parser, text);
    size_t count = 0;
    for (size_t at = 0; at < text.size;) {
        unsigned code = parser->choices[at];
        parser->codes[count++] = (uint16_t)code;
        at += choice_size(parser, code);
    }
    *codes = parser->codes;
    return count;
}
