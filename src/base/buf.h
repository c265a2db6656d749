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
void buf_clear(struct buf *buf);

/* STATUS_NOMEM if any append since buf_clear() failed. */
enum status buf_status(const struct buf *buf);

static inline struct slice buf_slice(const struct buf *buf)
{
    return (struct slice){buf->data, buf->size};
}

/* Makes room for `size` more bytes; returns where to write them, or NULL.
 * The bytes count only after buf_commit(). */
uint8_t *buf_reserve(struct buf *buf, size_t size);

static inline void buf_commit(struct buf *buf, size_t size)
{
    buf->size += size;
}

void buf_append(struct buf *buf, const void *data, size_t size);
void buf_append_slice(struct buf *buf, struct slice slice);
void buf_append_text(struct buf *buf, const char *text);
void buf_append_u8(struct buf *buf, uint8_t value);
void buf_append_u16le(struct buf *buf, uint16_t value);
void buf_append_u32le(struct buf *buf, uint32_t value);
void buf_append_u64le(struct buf *buf, uint64_t value);

/* LEB128: seven bits a byte, the lowest first; at most ten bytes. */
void buf_append_varint(struct buf *buf, uint64_t value);

/* In decimal. */
void buf_append_decimal(struct buf *buf, uint64_t value);

__attribute__((format(printf, 2, 3))) void buf_printf(struct buf *buf, const char *format, ...);

/* Removes the first `size` bytes. Cost: moves the rest. */
void buf_consume(struct buf *buf, size_t size);
