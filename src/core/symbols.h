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

#include "base/heap.h"
#include "base/slice.h"
#include "base/status.h"

enum {
    SYMBOL_BYTES_MAX = 48,
    SYMBOL_COUNT_MAX = 15600,
    SYMBOL_SLACK = 64,    /* Bytes that symbols_expand() may write past what it returns. */
    SYMBOL_SIZE_BITS = 6, /* Of a span: the size; the offset above. */
};

struct symbols {
    struct heap *heap;
    unsigned count; /* Codes, the empty one included. */
    unsigned short_count;
    unsigned size_max; /* Of the longest symbol. */
    size_t span_count;
    uint32_t *spans; /* By code: where in `text`, and how long. */
    uint8_t *first;  /* By code: the first byte. */
    uint8_t *text;   /* Followed by SYMBOL_SLACK bytes. */
    size_t text_size;
};

/* From `count` strings in the order of their codes, the first of them empty and all bytes
 * among them. Errors: STATUS_NOMEM. */
enum status symbols_create(struct heap *heap, const struct slice *strings, unsigned count,
                           struct symbols **out);
void symbols_destroy(struct symbols *symbols);

/* How many codes of one byte leave room for `count` in all. */
unsigned symbols_short_count(unsigned count);

static inline struct slice symbols_string(const struct symbols *symbols, unsigned code)
{
    uint32_t span = symbols->spans[code];
    return (struct slice){symbols->text + (span >> SYMBOL_SIZE_BITS),
                          span & ((1U << SYMBOL_SIZE_BITS) - 1)};
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

/* Writes what `codes` stand for to `out` and returns how much that is. `out` has room for
 * size * size_max + SYMBOL_SLACK bytes, or symbols_measure() + SYMBOL_SLACK. */
static inline size_t symbols_expand(const struct symbols *symbols, const uint8_t *codes,
                                    size_t size, uint8_t *out)
{
    const uint8_t *end = codes + size;
    uint8_t *to = out;
    while (codes < end) {
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
