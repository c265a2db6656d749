/* Scores of up to 32 neighbours in a packed trie, in whichever form is shortest.
 *
 *   mode                  bytes
 *   SCORE_INTEGER         varint zigzag value, the same for all
 *   SCORE_PACKED          varint zigzag base; u8 width; 32 numbers of `width` bits: value - base
 *   SCORE_PATCHED         as packed with the low bits alone; then u8 exception count (1..32),
 *                         u8 width of high bits, a u8 index for each exception (ascending),
 *                         their high bits
 *   SCORE_RAW             a double for each
 *   SCORE_RAW_EQUAL       one double for all
 *
 * Integers of up to 53 bits take the first three; any other double the last two. The mode
 * is kept by the caller. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "core/best.h"

enum { SCORE_BLOCK = 32 };

enum score_mode {
    SCORE_INTEGER,
    SCORE_PACKED,
    SCORE_PATCHED,
    SCORE_RAW,
    SCORE_RAW_EQUAL,
};

/* A view of the bytes, valid while they are. */
struct score_block {
    enum score_mode mode;
    unsigned width, high_width;
    size_t exception_count;
    uint64_t base;            /* Two's complement. */
    const uint8_t *packed;    /* Low bits, or doubles. */
    const uint8_t *positions; /* Of exceptions. */
    const uint8_t *high;
};

/* False unless `score` is an integer of up to 53 bits; -0.0 is none. */
bool score_to_integer(double score, int64_t *integer);

/* Appends 1 to 32 finite scores. */
enum score_mode score_block_append(const double *scores, size_t count, struct buf *out);

/* Reads the form of `count` scores. False when it breaks a rule. */
bool score_block_read(struct reader *reader, unsigned mode, size_t count, struct score_block *out);

/* A raw score is as the file has it: it may be infinite or not a number. */
double score_block_get(const struct score_block *block, size_t index);

/* How far the least integer that is not below the score of `score_order` lies above `base`;
 * UINT64_MAX: there is none. */
uint64_t score_distance(uint64_t score_order, int64_t base);

/* The scores that are not below that of `score_order`: bit i for score i. */
uint32_t score_block_at_least(const struct score_block *block, size_t count, uint64_t score_order);

/* All scores at once, each as score_order_of() into its best. */
void score_block_orders(const struct score_block *block, size_t count, struct best *bests);
