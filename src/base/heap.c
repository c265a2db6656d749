#include "base/heap.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

void heap_init(struct heap *heap, uint64_t limit_bytes)
{
    atomic_init(&heap->used_bytes, 0);
    heap->limit_bytes = limit_bytes;
    atomic_init(&heap->failure_after, -1);
}

/* True when this allocation is the one that a test asked to fail, or breaks the budget. */
static int refused(struct heap *heap, size_t size)
{
    int64_t left = atomic_load_explicit(&heap->failure_after, memory_order_relaxed);
    if (left >= 0) {
        atomic_store_explicit(&heap->failure_after, left - 1, memory_order_relaxed);
        if (left == 0) return 1;
    }
    return heap->limit_bytes != 0 && heap_used_bytes(heap) + size > heap->limit_bytes;
}

static void account(struct heap *heap, int64_t bytes)
{
    atomic_fetch_add_explicit(&heap->used_bytes, (uint64_t)bytes, memory_order_relaxed);
}

void *heap_alloc(struct heap *heap, size_t size)
{
    if (refused(heap, size)) return NULL;

    void *pointer = malloc(size == 0 ? 1 : size);
    if (pointer != NULL) account(heap, (int64_t)malloc_usable_size(pointer));
    return pointer;
}

void *heap_zalloc(struct heap *heap, size_t size)
{
    if (refused(heap, size)) return NULL;

    void *pointer = calloc(1, size == 0 ? 1 : size);
    if (pointer != NULL) account(heap, (int64_t)malloc_usable_size(pointer));
    return pointer;
}

void *heap_realloc(struct heap *heap, void *pointer, size_t size)
{
    if (pointer == NULL) return heap_alloc(heap, size);

    size_t before = malloc_usable_size(pointer);
    if (refused(heap, size > before ? size - before : 0)) return NULL;
    void *moved = realloc(pointer, size == 0 ? 1 : size);
    if (moved != NULL) account(heap, (int64_t)malloc_usable_size(moved) - (int64_t)before);
    return moved;
}

void heap_free(struct heap *heap, void *pointer)
{
    if (pointer == NULL) return;
    account(heap, -(int64_t)malloc_usable_size(pointer));
    free(pointer);
}

uint64_t heap_used_bytes(const struct heap *heap)
{
    return atomic_load_explicit(&heap->used_bytes, memory_order_relaxed);
}
