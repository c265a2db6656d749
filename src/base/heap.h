/* Where memory comes from, with a count and a budget.
 *
 * Everything that grows with data takes its heap as an argument, so that a budget
 * holds and a test can make the n-th allocation fail.
 *
 * Threads: heap_system() may be used by any thread; a test heap by one. */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct heap {
    _Atomic uint64_t used_bytes;   /* Allocated and not yet freed, with malloc's rounding. */
    uint64_t limit_bytes;          /* 0: none. An allocation that would pass it fails. */
    _Atomic int64_t failure_after; /* Tests: this many more succeed, then one fails; <0: never. */
};

/* A heap without a limit. `limit_bytes` 0: no limit. */
void heap_init(struct heap *heap, uint64_t limit_bytes);

/* NULL when there is no memory or the budget is used up. `size` 0 gives a valid pointer. */
[[nodiscard]] void *heap_alloc(struct heap *heap, size_t size);
[[nodiscard]] void *heap_zalloc(struct heap *heap, size_t size);

/* Like realloc(): on failure NULL, and `pointer` is unchanged. */
[[nodiscard]] void *heap_realloc(struct heap *heap, void *pointer, size_t size);

/* NULL is accepted. */
void heap_free(struct heap *heap, void *pointer);

uint64_t heap_used_bytes(const struct heap *heap);
