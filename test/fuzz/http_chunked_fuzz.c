/* Any bytes as a chunked body, at once and byte by byte: the same outcome and body size. */
#include "base/check.h"
#include "proto/http_chunked.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum status feed(struct slice whole, size_t step, size_t *used, size_t *body)
{
    struct http_chunked chunked = {0};
    enum status status = STATUS_PARTIAL;
    *used = 0;
    *body = 0;
    while (status == STATUS_PARTIAL && *used < whole.size) {
        size_t size = whole.size - *used < step ? whole.size - *used : step;
        struct slice input = {whole.data + *used, size};
        struct slice piece;
        while ((status = http_chunked_next(&chunked, &input, &piece)) == STATUS_OK) {
            CHECK(piece.size > 0);
            *body += piece.size;
        }
        *used += size - input.size;
    }
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice whole = slice_of(data, size);
    size_t used_once, used_twice, body_once, body_twice;
    if (size == 0) return 0;
    CHECK(feed(whole, size, &used_once, &body_once) == feed(whole, 1, &used_twice, &body_twice));
    CHECK(used_once == used_twice);
    CHECK(body_once == body_twice);
    return 0;
}
