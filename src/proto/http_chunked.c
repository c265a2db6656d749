#include "proto/http_chunked.h"

#include <stdbool.h>

#include "proto/http_request.h"
#include "proto/scan.h"

/* SIZE ─digits→ SIZE ─";"→ EXTENSION ─CR→ SIZE_FEED ─LF→ DATA ─all→ DATA_RETURN ─CR→
 * DATA_FEED ─LF→ SIZE; after the size 0: SIZE_FEED ─LF→ TRAILER, which leads through NAME,
 * VALUE and TRAILER_FEED back to TRAILER, or ─CR→ LAST_FEED ─LF→ OVER. */
enum state {
    SIZE,
    SIZE_BLANK, /* Blanks between the size and ';'. */
    EXTENSION,
    SIZE_FEED,
    DATA,
    DATA_RETURN,
    DATA_FEED,
    TRAILER,
    NAME,
    VALUE,
    TRAILER_FEED,
    LAST_FEED,
    OVER,
};

static enum status refuse(struct http_chunked *chunked, uint16_t error_status, const char *reason)
{
    chunked->error_status = error_status;
    chunked->error_reason = reason;
    return error_status == 400 ? STATUS_INVALID : STATUS_LIMIT;
}

static enum status malformed(struct http_chunked *chunked)
{
    return refuse(chunked, 400, "a chunk is malformed");
}

static int hex_of(uint8_t byte)
{
    if (byte >= '0' && byte <= '9') return byte - '0';
    uint8_t lower = byte | 0x20;
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static enum status read_size(struct http_chunked *chunked, uint8_t byte)
{
    int digit = hex_of(byte);
    if (digit >= 0) {
        if (chunked->digits == 16 || chunked->left > (uint64_t)INT64_MAX >> 4) {
            return refuse(chunked, 413, "a chunk is beyond every bound");
        }
        chunked->left = chunked->left << 4 | (unsigned)digit;
        chunked->digits++;
        return STATUS_OK;
    }
    if (chunked->digits == 0) return malformed(chunked);
    chunked->skipped = 0;
    if (byte == '\r')
        chunked->state = SIZE_FEED;
    else if (byte == ';')
        chunked->state = EXTENSION;
    else if (byte == ' ' || byte == '\t')
        chunked->state = SIZE_BLANK;
    else
        return malformed(chunked);
    return STATUS_OK;
}

static enum status read_extension(struct http_chunked *chunked, uint8_t byte)
{
    if (++chunked->skipped > HTTP_CHUNK_EXTENSION_BYTES_MAX) {
        return refuse(chunked, 413, "a chunk extension is too long");
    }
    if (chunked->state == SIZE_BLANK) {
        if (byte == ';')
            chunked->state = EXTENSION;
        else if (byte != ' ' && byte != '\t')
            return malformed(chunked);
        return STATUS_OK;
    }
    if (byte == '\r')
        chunked->state = SIZE_FEED;
    else if (scan_is_control(byte))
        return malformed(chunked);
    return STATUS_OK;
}

static enum status read_feed(struct http_chunked *chunked, uint8_t byte)
{
    if (byte != '\n') return malformed(chunked);
    switch (chunked->state) {
    case SIZE_FEED:
        chunked->state = chunked->left == 0 ? TRAILER : DATA;
        chunked->skipped = 0;
        break;
    case DATA_FEED:
        chunked->state = SIZE;
        chunked->digits = 0;
        break;
    case TRAILER_FEED:
        chunked->state = TRAILER;
        break;
    default:
        chunked->state = OVER;
        break;
    }
    return STATUS_OK;
}

static enum status read_trailer(struct http_chunked *chunked, uint8_t byte)
{
    if (++chunked->skipped > HTTP_TRAILER_BYTES_MAX) {
        return refuse(chunked, 431, "the trailers are too long");
    }
    if (chunked->state == VALUE) {
        if (byte == '\r')
            chunked->state = TRAILER_FEED;
        else if (scan_is_control(byte))
            return malformed(chunked);
        return STATUS_OK;
    }
    if (chunked->state == TRAILER && byte == '\r') {
        chunked->state = LAST_FEED;
    } else if (chunked->state == NAME && byte == ':') {
        chunked->state = VALUE;
    } else if (http_is_token(byte)) {
        chunked->state = NAME;
    } else {
        return malformed(chunked);
    }
    return STATUS_OK;
}

static enum status read_byte(struct http_chunked *chunked, uint8_t byte)
{
    switch (chunked->state) {
    case SIZE:
        return read_size(chunked, byte);
    case SIZE_BLANK:
    case EXTENSION:
        return read_extension(chunked, byte);
    case DATA_RETURN:
        if (byte != '\r') return malformed(chunked);
        chunked->state = DATA_FEED;
        return STATUS_OK;
    case TRAILER:
    case NAME:
    case VALUE:
        return read_trailer(chunked, byte);
    default:
        return read_feed(chunked, byte);
    }
}

enum status http_chunked_next(struct http_chunked *chunked, struct slice *input,
                              struct slice *piece)
{
    while (chunked->state != OVER && input->size > 0) {
        if (chunked->state == DATA) {
            size_t size = input->size < chunked->left ? input->size : (size_t)chunked->left;
            *piece = slice_prefix(*input, size);
            *input = slice_from(*input, size);
            chunked->left -= size;
            if (chunked->left == 0) chunked->state = DATA_RETURN;
            return STATUS_OK;
        }
        enum status status = read_byte(chunked, input->data[0]);
        if (status != STATUS_OK) return status;
        *input = slice_from(*input, 1);
    }
    return chunked->state == OVER ? STATUS_END : STATUS_PARTIAL;
}
