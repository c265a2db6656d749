/* Bytes that end where memory ends: reading one too many stops the test. */
#pragma once

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "base/slice.h"

struct guard {
    uint8_t *map;
    size_t size; /* Of what may be read. */
};

static inline struct guard guard_create(size_t size_max)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t size = (size_max + page - 1) / page * page;
    void *map = mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(map != MAP_FAILED);
    CHECK(mprotect((uint8_t *)map + size, page, PROT_NONE) == 0);
    return (struct guard){map, size};
}

static inline void guard_destroy(struct guard *guard)
{
    munmap(guard->map, guard->size + (size_t)sysconf(_SC_PAGESIZE));
}

/* A copy of `bytes` that ends at the unmapped page; valid until the next call. */
static inline struct slice guard_copy(struct guard *guard, struct slice bytes)
{
    CHECK(bytes.size <= guard->size);
    uint8_t *at = guard->map + guard->size - bytes.size;
    if (bytes.size > 0) memcpy(at, bytes.data, bytes.size);
    return (struct slice){at, bytes.size};
}
