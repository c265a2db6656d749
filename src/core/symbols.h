/* Symbols: the strings that suffixes are written in, each with a code of one or two bytes.
 *
 * Code 0 is the empty string, which pads. Codes below `short_count` are one byte, the
 * others two: short_count + rest / 256, rest % 256. Every single byte is a symbol, so any
 * string can be written. All tables have an entry for every code that bytes can spell, so
 * expanding never leaves them.
 *
 * Threads: never changes once built. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/bytes.h"
#include "base/heap.h"
#include "base/slice.h"
#include "base/status.h"

enum {
    SYMBOL_BYTES_MAX = 48,
    SYMBOL_COUNT_MAX = 15600,
    SYMBOL_SLACK = 64, /* Bytes that symbols_expand() may write past what it returns. */
    SYMBOL_HERE_MAX = 15,
    SYMBOL_START_AT = 11,
};

/* A string and its size in sixteen bytes, so that a code costs one cache line. One that is
 * longer than SYMBOL_HERE_MAX has its first bytes here, and then where in `text` it lies. */
struct symbol {
    uint8_t bytes[SYMBOL_HERE_MAX];
    uint8_t size;
};

struct symbols {
    struct heap *heap;
    unsigned count; /* Codes, the empty one included. */
    unsigned short_count;
    unsigned size_max;    /* Of the longest symbol. */
    struct symbol *table; /* By code; followed by SYMBOL_SLACK bytes. */
    uint8_t *text;        /* The long ones; followed by SYMBOL_SLACK bytes. */
    size_t text_size;
    size_t total_size; /* Of all strings. */
};

/* From `count` strings in the order of their codes, the first of them empty and all bytes
 * among them. Errors: STATUS_NOMEM. */
enum status symbols_create(struct heap *heap, const struct slice *strings, unsigned count,
                           struct symbols **out);
void symbols_destroy(struct symbols *symbols);

/* How many codes of one byte leave room for `count` in all. */
unsigned symbols_short_count(unsigned count);

/* Up to SYMBOL_SLACK bytes behind the string can be read. */
static inline struct slice symbols_string(const struct symbols *symbols, unsigned code)
{
    const struct symbol *symbol = &symbols->table[code];
    if (__builtin_expect(symbol->size <= SYMBOL_HERE_MAX, 1))
        return (struct slice){symbol->bytes, symbol->size};
    return (struct slice){symbols->text + load_u32le(symbol->bytes + SYMBOL_START_AT),
                          symbol->size};
}

/* The first byte of the string; 0 of the empty one. */
static inline uint8_t symbols_first(const struct symbols *symbols, unsigned code)
{
    return symbols->table[code].bytes[0];
}

/* The code at `*at`, which moves behind it. A second byte past `end` counts as 0. */
static inline unsigned symbols_code(const struct symbols *symbols, const uint8_t **at,
                                    const uint8_t *end)
{
    unsigned code = *(*at)++;
    if (code < symbols->short_count) return code;
    unsigned low = *at < end ? *(*at)++ : 0;
    return symbols->short_count + (code - symbols->short_count) * 256 + low;
}

/* Bytes that `codes` stand for. */
size_t symbols_measure(const struct symbols *symbols, const uint8_t *codes, size_t size);

/* Writes what `codes` stand for to `out`, all or the first symbols that are `wanted` bytes or
 * more, and returns how much that is. `out` has room for size * size_max + SYMBOL_SLACK bytes,
 * or symbols_measure() + SYMBOL_SLACK. */
static inline size_t symbols_expand(const struct symbols *symbols, const uint8_t *codes,
                                    size_t size, size_t wanted, uint8_t *out)
{
    const uint8_t *end = codes + size;
    uint8_t *to = out;
    while (codes < end && (size_t)(to - out) < wanted) {
        struct slice string = symbols_string(symbols, symbols_code(symbols, &codes, end));
        memcpy(to, string.data, 16);
        if (__builtin_expect(string.size > 16, 0)) memcpy(to + 16, string.data + 16, 32);
        to += string.size;
    }
    return (size_t)(to - out);
}

/* --- Writing strings in symbols --- */

struct parser;

/* `symbols` is borrowed. Cost: a few milliseconds and some 8 bytes for each byte of text. */
enum status parser_create(struct heap *heap, const struct symbols *symbols, struct parser **out);
void parser_destroy(struct parser *parser);

/* The shortest way to write `text`, at most KEY_BYTES_MAX bytes (CHECK), in symbols.
 *
 * Owns: the codes are the parser's until the next call. */
struct slice parser_encode(struct parser *parser, struct slice text);

/* The same as a list of code numbers, for counting; returns how many. */
size_t parser_codes(struct parser *parser, struct slice text, const uint16_t **codes);

/* --- Training --- */

/* Pairs that often stand side by side are merged into symbols, round by round; what proves
 * useful when the texts are written with all of them stays.
 *
 * `text` holds the texts one after the other, each ending where `ends` says.
 * Errors: STATUS_NOMEM. */
enum status symbols_train(struct heap *heap, const uint8_t *text, const uint32_t *ends,
                          size_t count, struct symbols **out);
