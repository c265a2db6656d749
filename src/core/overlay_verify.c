#include "core/overlay_verify.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/overlay_node.h"
#include "core/packed_parts.h"

struct comparison {
    const struct overlay_space *space;
    const struct packed *packed;
    const struct packed_verify *verify;
    struct packed_iterator iterator;
    bool stands; /* The iterator does, at its ordinal. */
    unsigned flaw_count;
};

__attribute__((format(printf, 2, 3))) static void flaw(struct comparison *comparison,
                                                       const char *format, ...)
{
    char text[200];
    va_list list;
    if (comparison->flaw_count++ >= PACKED_FLAWS_MAX) return;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    comparison->verify->flaw(comparison->verify->context, PACKED_NOWHERE, text);
}

/* The record at `ordinal`, and its hash. Ordinals come in ascending order. */
static enum status look(struct comparison *comparison, uint64_t ordinal, struct record *record,
                        struct sum *hash)
{
    struct packed_iterator *iterator = &comparison->iterator;
    bool next = comparison->stands && iterator->ordinal + 1 == ordinal;
    comparison->stands = false;
    enum status status = next ? packed_iterator_next(iterator)
                              : packed_iterator_seek(iterator, ordinal);
    if (status == STATUS_OK) status = packed_record(comparison->packed, ordinal, record);
    if (status != STATUS_OK) return status == STATUS_END ? STATUS_CORRUPT : status;
    comparison->stands = true;
    *hash = record_hash(iterator->key, record, comparison->packed->footer.info.hash_seed);
    return STATUS_OK;
}

static void compare_entry(struct comparison *comparison, uint64_t ordinal, bool dead, bool gone,
                          const struct record *record)
{
    bool present = record_is_present(record);
    if (dead && gone != present)
        flaw(comparison, "ordinal %" PRIu64 " is dead and %s gone, and was %s present", ordinal,
             gone ? "also" : "not", present ? "" : "not");
    if (!dead && gone && (!present || record->expires_at == 0))
        flaw(comparison, "ordinal %" PRIu64 " is hidden, and %s", ordinal,
             present ? "never expires" : "was not present");
}

static enum status compare_block(struct comparison *comparison, uint64_t block, uint32_t dead,
                                 uint32_t gone, struct best best, struct sum *dead_sum)
{
    struct best bests[PACKED_BLOCK], expected = {0};
    enum status status = packed_block_bests(comparison->packed, block, bests);
    for (unsigned i = 0; i < PACKED_BLOCK && status == STATUS_OK; i++) {
        struct record record;
        struct sum hash;
        if (!(gone >> i & 1)) expected = best_first(expected, bests[i]);
        if (!((dead | gone) >> i & 1)) continue;
        status = look(comparison, block * PACKED_BLOCK + i, &record, &hash);
        if (status != STATUS_OK) break;
        compare_entry(comparison, block * PACKED_BLOCK + i, dead >> i & 1, gone >> i & 1, &record);
        if (dead >> i & 1) *dead_sum = sum_add(*dead_sum, hash);
    }
    if (status == STATUS_OK && best_compare(best, expected) != 0)
        flaw(comparison,
             "the best of ordinals %" PRIu64 " to %" PRIu64 " is not that of the live ones there",
             block * PACKED_BLOCK, block * PACKED_BLOCK + PACKED_BLOCK - 1);
    return status;
}

static void compare_head(struct comparison *comparison, const struct overlay_head *head,
                         uint64_t base, unsigned height, struct best expected)
{
    if (best_compare(head->best, expected) == 0) return;
    flaw(comparison, "the best of ordinals %" PRIu64 " to %" PRIu64 " is not that of its parts",
         base, base + (UINT64_C(1) << overlay_width_bits(height)) - 1);
}

static enum status compare_leaf(struct comparison *comparison, overlay_node node, uint64_t base)
{
    const struct overlay_leaf *leaf = overlay_leaf_at(comparison->space, node);
    struct best bests[OVERLAY_FAN_OUT];
    struct sum dead_sum = {0};
    enum status status =
        packed_bests(comparison->packed, 0, base / PACKED_BLOCK, OVERLAY_FAN_OUT, bests);
    for (unsigned i = 0; i < OVERLAY_FAN_OUT && status == STATUS_OK; i++) {
        uint32_t dead = overlay_block_bits(leaf->dead, i), gone = overlay_block_bits(leaf->gone, i);
        if ((dead | gone) == 0) continue;
        bests[i] = leaf->bests[i];
        status =
            compare_block(comparison, base / PACKED_BLOCK + i, dead, gone, bests[i], &dead_sum);
    }
    if (status != STATUS_OK) return status;
    if (!sum_equal(dead_sum, leaf->head.dead_sum))
        flaw(comparison,
             "the dead among ordinals %" PRIu64 " to %" PRIu64
             " hash to another sum than the one stored",
             base, base + OVERLAY_LEAF - 1);
    compare_head(comparison, &leaf->head, base, 0, overlay_fold(bests, OVERLAY_FAN_OUT));
    return STATUS_OK;
}

/* A child of a node of `height` stands for a best of level `height`. */
static enum status compare_node(struct comparison *comparison, overlay_node node, uint64_t base,
                                unsigned height)
{
    if (height == 0) return compare_leaf(comparison, node, base);

    const struct overlay_inner *inner = overlay_inner_at(comparison->space, node);
    unsigned bits = overlay_width_bits(height) - 4;
    struct best bests[OVERLAY_FAN_OUT];
    enum status status =
        packed_bests(comparison->packed, height, base >> bits, OVERLAY_FAN_OUT, bests);
    for (unsigned i = 0; i < OVERLAY_FAN_OUT && status == STATUS_OK; i++) {
        if (inner->children[i] == 0) continue;
        bests[i] = inner->bests[i];
        status =
            compare_node(comparison, inner->children[i], base + ((uint64_t)i << bits), height - 1);
    }
    if (status == STATUS_OK)
        compare_head(comparison, &inner->head, base, height, overlay_fold(bests, OVERLAY_FAN_OUT));
    return status;
}

enum status overlay_verify(const struct overlay_space *space, const struct packed *packed,
                           overlay_root root, struct heap *heap, const struct packed_verify *verify)
{
    struct comparison comparison = {.space = space, .packed = packed, .verify = verify};
    if (root == 0) return STATUS_OK;
    enum status status = packed_iterator_init(&comparison.iterator, packed, heap);
    if (status != STATUS_OK) return status;
    status = compare_node(&comparison, root, 0, overlay_height(packed_info(packed)->count));
    packed_iterator_deinit(&comparison.iterator);
    if (status == STATUS_CORRUPT)
        flaw(&comparison, "the packed trie cannot be read for comparison");
    return comparison.flaw_count > 0 && status == STATUS_OK ? STATUS_CORRUPT : status;
}
