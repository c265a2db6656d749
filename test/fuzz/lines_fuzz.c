/* Any bytes as an import: the same records and errors at once and in small pieces. */
#include "base/check.h"
#include "proto/lines.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void story(enum lines_format format, struct slice text, size_t step, struct buf *out)
{
    struct lines lines;
    struct line line;
    enum status status = STATUS_PARTIAL;
    size_t at = 0;

    lines_init(&lines, format, out->heap);
    while (status != STATUS_END) {
        size_t size = text.size - at < step ? text.size - at : step;
        struct slice input = {text.data + at, size};
        at += size;
        while ((status = lines_next(&lines, &input, at == text.size, &line)) != STATUS_PARTIAL) {
            if (status == STATUS_END) break;
            CHECK(status == STATUS_OK || status == STATUS_INVALID);
            buf_append_u64le(out, line.number);
            if (status == STATUS_OK) {
                buf_append_slice(out, line.input.word);
                buf_append(out, &line.input.score, sizeof line.input.score);
            } else {
                buf_append_u8(out, (uint8_t)line.problem.code);
            }
        }
    }
    lines_deinit(&lines);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct heap heap;
    struct buf once, pieces;
    if (size < 2) return 0;
    enum lines_format format = (enum lines_format)(data[0] % 3);
    struct slice text = slice_of(data + 2, size - 2);

    heap_init(&heap, 0);
    buf_init(&once, &heap);
    buf_init(&pieces, &heap);
    story(format, text, text.size + 1, &once);
    story(format, text, 1 + data[1] % 16, &pieces);
    CHECK(slice_equal(buf_slice(&once), buf_slice(&pieces)));
    buf_deinit(&once);
    buf_deinit(&pieces);
    CHECK(heap_used_bytes(&heap) == 0);
    return 0;
}
