/* A view of bytes that somebody else owns. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const uint8_t *data; /* May be NULL when `size` is 0. */
    size_t size;
};

#define SLICE_INITIALIZER(text)                                                                    \
    {                                                                                              \
        (const uint8_t *)(text), sizeof(text) - 1                                                  \
    } /* Of a constant. */
#define SLICE_LITERAL(text) ((struct slice)SLICE_INITIALIZER(text))

static inline struct slice slice_of(const void *data, size_t size)
{
    return (struct slice){data, size};
}

static inline struct slice slice_from_text(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

/* The bytes from `start` on. */
static inline struct slice slice_from(struct slice slice, size_t start)
{
    if (start == 0) return slice; /* C has no NULL + 0. */
    return (struct slice){slice.data + start, slice.size - start};
}

static inline struct slice slice_prefix(struct slice slice, size_t size)
{
    return (struct slice){slice.data, size};
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline bool slice_starts_with(struct slice slice, struct slice prefix)
{
    return slice.size >= prefix.size &&
           (prefix.size == 0 || memcmp(slice.data, prefix.data, prefix.size) == 0);
}

/* Byte order, the shorter first where one is a prefix of the other: <0, 0 or >0. */
static inline int slice_compare(struct slice a, struct slice b)
{
    size_t shared = a.size < b.size ? a.size : b.size;
    int order = shared == 0 ? 0 : memcmp(a.data, b.data, shared);
    if (order != 0) return order;
    return (a.size > b.size) - (a.size < b.size);
}

/* Number of leading bytes that both have in common. */
static inline size_t slice_common_prefix(struct slice a, struct slice b)
{
    size_t limit = a.size < b.size ? a.size : b.size;
    size_t size = 0;
    for (; limit - size >= sizeof(uint64_t); size += sizeof(uint64_t)) {
        uint64_t left;
        uint64_t right;
        memcpy(&left, a.data + size, sizeof left);
        memcpy(&right, b.data + size, sizeof right);
        if (left != right) break;
    }
    while (size < limit && a.data[size] == b.data[size]) size++;
    return size;
}
