/* Bytes that grow at the end.
 *
 * A failed append is remembered instead of returned: the caller appends all it has
 * and asks buf_status() once. After a failure further appends do nothing, so the
 * content is then a prefix of what was meant.
 *
 * Owns: `data`, taken from `heap`; buf_deinit() frees it. A zeroed struct with its
 * `heap` set is an empty buffer. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/bytes.h"
#include "base/heap.h"
#include "base/slice.h"
#include "base/status.h"

struct buf {
    uint8_t *data;
    size_t size;
    size_t capacity;
    struct heap *heap;
    bool failed;
};

void buf_init(struct buf *buf, struct heap *heap);
void buf_deinit(struct buf *buf);

/* Empties it and forgets a failure; the memory is kept for reuse. */
static inline void buf_clear(struct buf *buf)
{
    buf->size = 0;
    buf->failed = false;
}

/* STATUS_NOMEM if any append since buf_clear() failed. */
static inline enum status buf_status(const struct buf *buf)
{
    return buf->failed ? STATUS_NOMEM : STATUS_OK;
}

static inline struct slice buf_slice(const struct buf *buf)
{
    return (struct slice){buf->data, buf->size};
}

/* Private: buf_reserve() when the room does not suffice. */
uint8_t *buf_reserve_more(struct buf *buf, size_t size);

/* Makes room for `size` more bytes; returns where to write them, or NULL.
 * The bytes count only after buf_commit(). */
static inline uint8_t *buf_reserve(struct buf *buf, size_t size)
{
    /* A failed buffer may have room, but nothing may follow what was lost. */
    bool fits = !buf->failed && buf->data != NULL && buf->capacity - buf->size >= size;
    return fits ? buf->data + buf->size : buf_reserve_more(buf, size);
}

/* Makes room for `size` more bytes: appending as many cannot fail then. False: there is no
 * memory, and unlike after a failed append the buffer is as it was. */
static inline bool buf_ensure(struct buf *buf, size_t size)
{
    if (buf->failed) return false;
    bool ensured = buf_reserve(buf, size) != NULL || size == 0;
    buf->failed = false;
    return ensured;
}

static inline void buf_commit(struct buf *buf, size_t size)
{
    buf->size += size;
}

/* The appends of a few bytes are inline: encoders live of them. */
static inline void buf_append(struct buf *buf, const void *data, size_t size)
{
    if (size == 0) return;
    uint8_t *to = buf_reserve(buf, size);
    if (to == NULL) return;
    memcpy(to, data, size);
    buf->size += size;
}

static inline void buf_append_slice(struct buf *buf, struct slice slice)
{
    buf_append(buf, slice.data, slice.size);
}

static inline void buf_append_u8(struct buf *buf, uint8_t value)
{
    buf_append(buf, &value, sizeof value);
}

static inline void buf_append_u16le(struct buf *buf, uint16_t value)
{
    uint8_t *to = buf_reserve(buf, sizeof value);
    if (to == NULL) return;
    store_u16le(to, value);
    buf->size += sizeof value;
}

static inline void buf_append_u32le(struct buf *buf, uint32_t value)
{
    uint8_t *to = buf_reserve(buf, sizeof value);
    if (to == NULL) return;
    store_u32le(to, value);
    buf->size += sizeof value;
}

/* The lowest 48 bits. */
static inline void buf_append_u48le(struct buf *buf, uint64_t value)
{
    buf_append_u32le(buf, (uint32_t)value);
    buf_append_u16le(buf, (uint16_t)(value >> 32));
}

static inline void buf_append_u64le(struct buf *buf, uint64_t value)
{
    uint8_t *to = buf_reserve(buf, sizeof value);
    if (to == NULL) return;
    store_u64le(to, value);
    buf->size += sizeof value;
}

void buf_append_text(struct buf *buf, const char *text);

/* LEB128: seven bits a byte, the lowest first; at most ten bytes. */
void buf_append_varint(struct buf *buf, uint64_t value);

/* In decimal. */
void buf_append_decimal(struct buf *buf, uint64_t value);

__attribute__((format(printf, 2, 3))) void buf_printf(struct buf *buf, const char *format, ...);

/* Removes the first `size` bytes. Cost: moves the rest. */
void buf_consume(struct buf *buf, size_t size);
