#include "proto/http_chunked.h"

#include "base/buf.h"
#include "guard.h"
#include "test.h"

static const char body[] = "5\r\nhello\r\n00A;name=\"value\"\r\n, chunked \r\n"
                           "6 ;x\r\nworld!\r\n0\r\nTrailer: dropped\r\nOther:\r\n\r\nnext";

/* Feeds `whole` in pieces cut at `cut` and then every `step` bytes; returns how it ended. */
static enum status feed(struct slice whole, size_t cut, size_t step, struct buf *out, size_t *used)
{
    struct guard guard = guard_create(20000);
    struct http_chunked chunked = {0};
    size_t start = 0;
    size_t end = cut;
    enum status status = STATUS_PARTIAL;

    for (;;) {
        struct slice input = guard_copy(&guard, (struct slice){whole.data + start, end - start});
        struct slice piece;
        while ((status = http_chunked_next(&chunked, &input, &piece)) == STATUS_OK) {
            EXPECT(piece.size > 0);
            buf_append_slice(out, piece);
        }
        *used = end - input.size;
        if (status != STATUS_PARTIAL || end == whole.size) break;
        EXPECT(input.size == 0);
        start = end;
        end = end + step > whole.size ? whole.size : end + step;
    }
    if (status > STATUS_NOT_FOUND) EXPECT(chunked.error_status >= 400);
    guard_destroy(&guard);
    return status;
}

TEST_CASE(a_body_is_read_the_same_however_it_is_cut)
{
    struct heap heap;
    struct buf out;
    struct slice whole = slice_of(body, sizeof body - 1);
    heap_init(&heap, 0);
    buf_init(&out, &heap);

    for (size_t cut = 0; cut <= whole.size; cut++) {
        for (size_t step = 1; step <= whole.size; step += 30) {
            size_t used;
            buf_clear(&out);
            EXPECT(feed(whole, cut, step, &out, &used) == STATUS_END);
            EXPECT(used == whole.size - 4);
            EXPECT(slice_equal(buf_slice(&out), SLICE_LITERAL("hello, chunked world!")));
        }
    }
    for (size_t size = 0; size < whole.size - 4; size++) {
        size_t used;
        EXPECT(feed(slice_prefix(whole, size), size, 1, &out, &used) == STATUS_PARTIAL);
    }
    buf_deinit(&out);
}

TEST_CASE(what_is_no_chunked_body_is_refused)
{
    static const char *const bad[] = {
        "\r\n",
        "g\r\n",
        "-1\r\n",
        "0x5\r\n",
        " 5\r\n",
        "5\n",
        "5\r5",
        "5 \r\n",
        "5;\x01\r\n",
        "5;\n",
        "1\r\nab",
        "1\r\na\n",
        "1\r\na\rb",
        "0\r\n\n",
        "0\r\n x: y\r\n",
        "0\r\nx\r\n",
        "0\r\nx : y\r\n",
        "0\r\nx: \x01\r\n",
        "0\r\n:x\r\n",
        "8000000000000000\r\n",
        "00000000000000001\r\n",
    };
    struct heap heap;
    struct buf out;
    heap_init(&heap, 0);
    buf_init(&out, &heap);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct slice text = slice_from_text(bad[i]);
        size_t used;
        enum status status = feed(text, text.size, 1, &out, &used);
        if (status <= STATUS_NOT_FOUND) fprintf(stderr, "case %zu\n", i);
        EXPECT(status > STATUS_NOT_FOUND);
        EXPECT(feed(text, 0, 1, &out, &used) == status);
    }
    buf_deinit(&out);
}

TEST_CASE(extensions_and_trailers_have_a_bound)
{
    static char text[16000];
    struct heap heap;
    struct buf out;
    size_t used;
    heap_init(&heap, 0);
    buf_init(&out, &heap);

    memset(text, 'a', sizeof text);
    memcpy(text, "1;", 2);
    EXPECT(feed(slice_of(text, sizeof text), 0, 100, &out, &used) == STATUS_LIMIT);
    EXPECT(used <= HTTP_CHUNK_EXTENSION_BYTES_MAX + 3);
    memcpy(text, "0\r\na:", 5);
    EXPECT(feed(slice_of(text, sizeof text), 0, 100, &out, &used) == STATUS_LIMIT);
    EXPECT(used <= HTTP_TRAILER_BYTES_MAX + 4);
    buf_deinit(&out);
}

TEST_CASE(every_bit_flip_ends_in_some_status)
{
    struct heap heap;
    struct buf out;
    uint8_t text[sizeof body];
    heap_init(&heap, 0);
    buf_init(&out, &heap);
    for (size_t bit = 0; bit < 8 * (sizeof body - 1); bit++) {
        size_t used;
        size_t again;
        memcpy(text, body, sizeof text);
        text[bit / 8] ^= (uint8_t)(1 << bit % 8);
        struct slice whole = slice_of(text, sizeof body - 1);
        enum status status = feed(whole, whole.size, 1, &out, &used);
        EXPECT(feed(whole, 0, 1, &out, &again) == status);
        EXPECT(used == again);
        buf_clear(&out);
    }
    buf_deinit(&out);
}

TEST_MAIN(TEST(a_body_is_read_the_same_however_it_is_cut), TEST(what_is_no_chunked_body_is_refused),
          TEST(extensions_and_trailers_have_a_bound), TEST(every_bit_flip_ends_in_some_status))
