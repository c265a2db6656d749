/* Answers of this loop to searches asked again while nothing has changed.
 *
 * Direct mapped: a target has one place. An answer is good for the view that it was made
 * from and no other, so what a client gets is never older than the newest view. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/slice.h"
#include "base/status.h"

enum {
    ANSWER_CACHE_COUNT = 16384,
    ANSWER_CACHE_BYTES_MAX = 2048, /* Target and answer together; longer ones are not kept. */
};

struct answer_cache_entry {
    uint64_t hash;
    uint64_t view; /* Number; 0: empty. */
    uint32_t target_size, answer_size;
    uint8_t *bytes;
};

struct answer_cache {
    struct heap *heap;
    size_t bytes, bytes_max; /* Of targets and answers. */
    struct answer_cache_entry *entries;
    unsigned hand; /* Whose turn it is to make room. */
};

/* Keeps at most `bytes_max`, beside its table. Errors: STATUS_NOMEM. */
enum status answer_cache_init(struct answer_cache *cache, struct heap *heap, size_t bytes_max);
void answer_cache_deinit(struct answer_cache *cache);

/* No answer is good any more. */
void answer_cache_forget(struct answer_cache *cache);

/* The answer kept for `target` in `view`; borrowed until the next put. False: none. */
bool answer_cache_get(const struct answer_cache *cache, struct slice target, uint64_t view,
                      struct slice *answer);

/* Keeps a copy, if it is short enough; others make room for it. */
void answer_cache_put(struct answer_cache *cache, struct slice target, uint64_t view,
                      struct slice answer);
