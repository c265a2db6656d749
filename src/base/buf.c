#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

enum { BUF_FIRST_BYTES = 64 };

void buf_init(struct buf *buf, struct heap *heap)
{
    *buf = (struct buf){.heap = heap};
}

void buf_deinit(struct buf *buf)
{
    heap_free(buf->heap, buf->data);
    *buf = (struct buf){.heap = buf->heap};
}

static bool grow(struct buf *buf, size_t size)
{
    size_t needed = buf->size + size;
    if (needed < size) return false;

    size_t capacity = buf->capacity == 0 ? BUF_FIRST_BYTES : buf->capacity + buf->capacity / 2;
    if (capacity < needed) capacity = needed;
    uint8_t *data = heap_realloc(buf->heap, buf->data, capacity);
    if (data == NULL) return false;

    buf->data = data;
    buf->capacity = capacity;
    return true;
}

uint8_t *buf_reserve_more(struct buf *buf, size_t size)
{
    if (buf->failed) return NULL;
    if (buf->capacity - buf->size < size && !grow(buf, size)) {
        buf->failed = true;
        return NULL;
    }
    return buf->data == NULL ? NULL : buf->data + buf->size;
}

void buf_append_text(struct buf *buf, const char *text)
{
    buf_append(buf, text, strlen(text));
}

void buf_append_varint(struct buf *buf, uint64_t value)
{
    uint8_t bytes[10];
    size_t size = 0;
    while (value >= 0x80) {
        bytes[size++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    bytes[size++] = (uint8_t)value;
    buf_append(buf, bytes, size);
}

void buf_append_decimal(struct buf *buf, uint64_t value)
{
    char digits[20];
    size_t first = sizeof digits;
    do {
        digits[--first] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    buf_append(buf, digits + first, sizeof digits - first);
}

void buf_printf(struct buf *buf, const char *format, ...)
{
    va_list list;
    va_list again;

    va_start(list, format);
    va_copy(again, list);
    int size = vsnprintf(NULL, 0, format, list);
    va_end(list);
    CHECK(size >= 0);
    uint8_t *to = buf_reserve(buf, (size_t)size + 1);
    if (to != NULL) {
        vsnprintf((char *)to, (size_t)size + 1, format, again);
        buf->size += (size_t)size;
    }
    va_end(again);
}

void buf_consume(struct buf *buf, size_t size)
{
    CHECK(size <= buf->size);
    if (size == 0) return;
    memmove(buf->data, buf->data + size, buf->size - size);
    buf->size -= size;
}
