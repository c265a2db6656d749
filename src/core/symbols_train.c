/* Learns symbols from a sample.
 *
 * 1. Merge. The sample is a row of tokens, at first its bytes. A round counts the pairs of
 *    neighbours, accepts the commonest down to a threshold, makes each a new token, and
 *    lowers the threshold. No token is the left of one accepted pair and the right of
 *    another, so the merges of a round cannot spoil each other; what is refused comes in
 *    the next round with a fresh count. This finds nearly what merging one pair at a time
 *    finds (byte pair encoding), in some twenty passes.
 * 2. Select. The sample is written with all of them at the least cost; those that are
 *    rarely taken go, the commonest get short codes. Done twice, since each choice changes
 *    what is cheapest.
 * 3. Arrange. Inside the short and the long codes the order is free: alphabetical, which
 *    makes the dictionary small. Single bytes that are no more than a fallback come last.
 *
 * Source: Gage, "A New Algorithm for Data Compression", C Users Journal 1994. */
#include "core/symbols.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/math.h"

enum {
    TOKEN_BREAK = UINT16_MAX, /* Between two texts. */
    BYTE_COUNT = 256,
    USES_MIN = 4, /* A symbol that is taken less often costs more than it saves. */
    ROUNDS_MAX = 32,
    SELECT_ROUNDS = 2,
    PAIR_SLOTS_MIN = 1 << 10,
    PAIR_SLOTS_MAX = 1 << 20,
};

#define PAIR_NONE UINT32_MAX

struct pair {
    uint32_t key;   /* Left token, then right: 16 bits each. */
    uint32_t value; /* Count, or the new token. */
};

/* Open addressing; never grows: pairs that find no room are rare ones. */
struct pairs {
    struct pair *slots;
    size_t capacity; /* A power of two. */
    size_t count;
};

struct training {
    struct heap *heap;
    const uint8_t *text;
    const uint32_t *ends;
    size_t text_count;

    uint16_t *tokens;
    size_t token_count;
    struct pairs counts;
    struct pairs accepted;
    struct pair *candidates;
    size_t candidate_count;
    bool *is_left, *is_right; /* By token: of an accepted pair. */

    struct slice strings[SYMBOL_COUNT_MAX]; /* By token; found in `text`. */
    unsigned string_count;
    uint32_t uses[SYMBOL_COUNT_MAX];
    uint16_t order[SYMBOL_COUNT_MAX];
    uint8_t bytes[BYTE_COUNT];
};

static size_t pair_hash(uint32_t key, size_t capacity)
{
    return (size_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> 40) & (capacity - 1);
}

static void pairs_clear(struct pairs *pairs)
{
    memset(pairs->slots, 0xff, pairs->capacity * sizeof *pairs->slots);
    pairs->count = 0;
}

static inline struct pair *pairs_slot(const struct pairs *pairs, uint32_t key)
{
    size_t at = pair_hash(key, pairs->capacity);
    while (pairs->slots[at].key != key && pairs->slots[at].key != PAIR_NONE)
        at = (at + 1) & (pairs->capacity - 1);
    return &pairs->slots[at];
}

static inline void pairs_count(struct pairs *pairs, uint32_t key)
{
    struct pair *slot = pairs_slot(pairs, key);
    if (slot->key == key) {
        slot->value++;
    } else if (pairs->count < pairs->capacity - pairs->capacity / 4) {
        *slot = (struct pair){key, 1};
        pairs->count++;
    }
}

static uint32_t pair_key(unsigned left, unsigned right)
{
    return (uint32_t)left << 16 | right;
}

static enum status training_allocate(struct training *training, size_t token_count)
{
    struct heap *heap = training->heap;
    size_t capacity = PAIR_SLOTS_MIN;
    while (capacity < token_count / 2 && capacity < PAIR_SLOTS_MAX) capacity *= 2;
    training->counts.capacity = capacity;
    training->accepted.capacity = capacity;

    training->tokens = heap_alloc(heap, (token_count + 1) * sizeof *training->tokens);
    training->counts.slots = heap_alloc(heap, capacity * sizeof(struct pair));
    training->accepted.slots = heap_alloc(heap, capacity * sizeof(struct pair));
    training->candidates = heap_alloc(heap, capacity * sizeof(struct pair));
    training->is_left = heap_alloc(heap, SYMBOL_COUNT_MAX);
    training->is_right = heap_alloc(heap, SYMBOL_COUNT_MAX);
    bool failed = training->tokens == NULL || training->counts.slots == NULL ||
                  training->accepted.slots == NULL || training->candidates == NULL ||
                  training->is_left == NULL || training->is_right == NULL;
    return failed ? STATUS_NOMEM : STATUS_OK;
}

static void training_destroy(struct training *training)
{
    struct heap *heap = training->heap;
    heap_free(heap, training->tokens);
    heap_free(heap, training->counts.slots);
    heap_free(heap, training->accepted.slots);
    heap_free(heap, training->candidates);
    heap_free(heap, training->is_left);
    heap_free(heap, training->is_right);
    heap_free(heap, training);
}

/* --- Merge --- */

static void tokens_start(struct training *training)
{
    for (unsigned byte = 0; byte < BYTE_COUNT; byte++) {
        training->bytes[byte] = (uint8_t)byte;
        training->strings[byte] = (struct slice){&training->bytes[byte], 1};
    }
    training->string_count = BYTE_COUNT;

    size_t at = 0;
    for (size_t i = 0; i < training->text_count; i++) {
        while (at < training->ends[i])
            training->tokens[training->token_count++] = training->text[at++];
        training->tokens[training->token_count++] = TOKEN_BREAK;
    }
}

/* Replaces accepted pairs and counts the new neighbours, in one pass. */
static void tokens_merge(struct training *training)
{
    const uint16_t *tokens = training->tokens;
    const uint8_t *text = training->text;
    size_t end = training->token_count;
    size_t to = 0;
    unsigned before = TOKEN_BREAK;
    bool merging = training->accepted.count != 0;

    pairs_clear(&training->counts);
    for (size_t at = 0; at < end; at++) {
        unsigned token = tokens[at];
        if (token == TOKEN_BREAK) {
            training->tokens[to++] = TOKEN_BREAK;
            before = TOKEN_BREAK;
            continue;
        }
        if (merging && training->is_left[token] && tokens[at + 1] != TOKEN_BREAK &&
            training->is_right[tokens[at + 1]]) {
            uint32_t key = pair_key(token, tokens[at + 1]);
            const struct pair *slot = pairs_slot(&training->accepted, key);
            if (slot->key == key) {
                token = slot->value;
                size_t size = training->strings[tokens[at]].size +
                              training->strings[tokens[at + 1]].size;
                if (training->strings[token].size == 0)
                    training->strings[token] = (struct slice){text, size};
                at++;
            }
        }
        text += training->strings[token].size;
        if (before != TOKEN_BREAK) pairs_count(&training->counts, pair_key(before, token));
        training->tokens[to++] = (uint16_t)token;
        before = token;
    }
    training->token_count = to;
}

static int compare_pairs(const void *a, const void *b)
{
    const struct pair *left = a;
    const struct pair *right = b;
    if (left->value != right->value) return left->value > right->value ? -1 : 1;
    return (left->key > right->key) - (left->key < right->key);
}

static bool pair_fits(const struct training *training, uint32_t key)
{
    size_t size = training->strings[key >> 16].size + training->strings[key & 0xffff].size;
    return size <= SYMBOL_BYTES_MAX;
}

/* Lists the pairs counted `threshold` times or more, the commonest first. */
static uint32_t candidates_list(struct training *training, uint32_t threshold)
{
    uint32_t most = 0;
    training->candidate_count = 0;
    for (size_t i = 0; i < training->counts.capacity; i++) {
        struct pair pair = training->counts.slots[i];
        if (pair.key == PAIR_NONE || !pair_fits(training, pair.key)) continue;
        if (pair.value > most) most = pair.value;
        if (pair.value >= threshold) training->candidates[training->candidate_count++] = pair;
    }
    qsort(training->candidates, training->candidate_count, sizeof(struct pair), compare_pairs);
    return most;
}

static void candidates_accept(struct training *training, unsigned string_count_max)
{
    pairs_clear(&training->accepted);
    memset(training->is_left, 0, SYMBOL_COUNT_MAX);
    memset(training->is_right, 0, SYMBOL_COUNT_MAX);
    for (size_t i = 0; i < training->candidate_count; i++) {
        uint32_t key = training->candidates[i].key;
        unsigned left = key >> 16;
        unsigned right = key & 0xffff;
        if (training->string_count == string_count_max) break;
        if (training->accepted.count >= training->accepted.capacity / 2) break;
        if (training->is_right[left] || training->is_left[right]) continue;
        training->is_left[left] = true;
        training->is_right[right] = true;
        *pairs_slot(&training->accepted, key) = (struct pair){key, training->string_count};
        training->accepted.count++;
        training->strings[training->string_count++] = (struct slice){NULL, 0};
    }
}

static void merge(struct training *training, unsigned string_count_max)
{
    tokens_start(training);
    pairs_clear(&training->accepted);
    tokens_merge(training);
    uint32_t threshold = candidates_list(training, UINT32_MAX);
    for (unsigned round = 0; round < ROUNDS_MAX; round++) {
        threshold = threshold / 8 * 5 + threshold % 8 * 5 / 8;
        if (threshold < USES_MIN) threshold = USES_MIN;
        candidates_list(training, threshold);
        candidates_accept(training, string_count_max);
        if (training->accepted.count == 0 && threshold == USES_MIN) return;
        tokens_merge(training);
    }
}

/* --- Select and arrange --- */

static int compare_uses(const void *a, const void *b, void *context)
{
    const struct training *training = context;
    unsigned left = *(const uint16_t *)a;
    unsigned right = *(const uint16_t *)b;
    if (training->uses[left] != training->uses[right])
        return training->uses[left] > training->uses[right] ? -1 : 1;
    return (left > right) - (left < right);
}

static int compare_strings(const void *a, const void *b, void *context)
{
    const struct training *training = context;
    return slice_compare(training->strings[*(const uint16_t *)a],
                         training->strings[*(const uint16_t *)b]);
}

/* The symbols that order[0, count) name, the empty one before them. */
static enum status symbols_of_order(struct training *training, unsigned count, struct symbols **out)
{
    struct slice *strings = heap_alloc(training->heap, (count + 1) * sizeof *strings);
    if (strings == NULL) return STATUS_NOMEM;
    strings[0] = (struct slice){NULL, 0};
    for (unsigned i = 0; i < count; i++) strings[i + 1] = training->strings[training->order[i]];
    enum status status = symbols_create(training->heap, strings, count + 1, out);
    heap_free(training->heap, strings);
    return status;
}

/* Counts in uses[] how often the cheapest way to write the sample takes each string. */
static enum status uses_count(struct training *training, const struct symbols *symbols)
{
    struct parser *parser;
    enum status status = parser_create(training->heap, symbols, &parser);
    if (status != STATUS_OK) return status;

    memset(training->uses, 0, sizeof training->uses);
    uint32_t start = 0;
    for (size_t i = 0; i < training->text_count; i++) {
        struct slice text = {training->text + start, training->ends[i] - start};
        start = training->ends[i];
        const uint16_t *codes;
        size_t count = parser_codes(parser, text, &codes);
        for (size_t j = 0; j < count; j++) training->uses[training->order[codes[j] - 1]]++;
    }
    parser_destroy(parser);
    return STATUS_OK;
}

/* Puts into order[] the strings worth a code, the commonest first; single bytes stay. */
static unsigned order_by_uses(struct training *training)
{
    unsigned count = 0;
    for (unsigned token = 0; token < training->string_count; token++) {
        if (training->strings[token].size == 0) continue;
        if (token >= BYTE_COUNT && training->uses[token] < USES_MIN) continue;
        training->order[count++] = (uint16_t)token;
    }
    qsort_r(training->order, count, sizeof *training->order, compare_uses, training);
    return count;
}

/* Sorts the short codes, then the long ones that are strings; then come single bytes. */
static void arrange(struct training *training, unsigned count)
{
    unsigned short_count = symbols_short_count(count + 1) - 1;
    if (short_count > count) short_count = count;
    uint16_t *order = training->order;
    qsort_r(order, short_count, sizeof *order, compare_strings, training);

    uint16_t fallback[BYTE_COUNT];
    unsigned fallback_count = 0;
    unsigned to = short_count;
    for (unsigned i = short_count; i < count; i++) {
        if (order[i] < BYTE_COUNT)
            fallback[fallback_count++] = order[i];
        else
            order[to++] = order[i];
    }
    qsort_r(order + short_count, to - short_count, sizeof *order, compare_strings, training);
    qsort_r(fallback, fallback_count, sizeof *fallback, compare_strings, training);
    memcpy(order + to, fallback, fallback_count * sizeof *fallback);
}

static enum status select_symbols(struct training *training, struct symbols **out)
{
    memset(training->uses, 0xff, sizeof training->uses);
    unsigned count = order_by_uses(training);
    for (unsigned round = 0; round < SELECT_ROUNDS; round++) {
        struct symbols *symbols;
        enum status status = symbols_of_order(training, count, &symbols);
        if (status != STATUS_OK) return status;
        status = uses_count(training, symbols);
        symbols_destroy(symbols);
        if (status != STATUS_OK) return status;
        count = order_by_uses(training);
    }
    arrange(training, count);
    return symbols_of_order(training, count, out);
}

enum status symbols_train(struct heap *heap, const uint8_t *text, const uint32_t *ends,
                          size_t count, struct symbols **out)
{
    struct training *training = heap_zalloc(heap, sizeof *training);
    if (training == NULL) return STATUS_NOMEM;
    training->heap = heap;
    training->text = text;
    training->ends = ends;
    training->text_count = count;

    size_t text_size = count == 0 ? 0 : ends[count - 1];
    enum status status = training_allocate(training, text_size + count);
    if (status == STATUS_OK) {
        /* One less: the empty symbol takes a code too. */
        merge(training, (unsigned)size_min(SYMBOL_COUNT_MAX - 1, BYTE_COUNT + text_size / 64));
        status = select_symbols(training, out);
    }
    training_destroy(training);
    return status;
}
