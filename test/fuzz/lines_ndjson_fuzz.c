/* Any bytes as an import of NDJSON: each line as json_read_word() reads it alone, at once and in
 * small pieces; what is read is written and read again. */
#include "lines_story.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What an export writes, an import reads; it writes moments, never spans, and a score always. */
static void write_again(const struct word_input *input, struct heap *heap)
{
    struct buf line, first, second;
    struct word_input written = *input;
    buf_init(&line, heap);
    buf_init(&first, heap);
    buf_init(&second, heap);
    written.ttl_ms = 0;
    written.fields |= JSON_SCORE;
    written.fields &= ~(unsigned)JSON_TTL_MS;
    if (written.tags.size == 0) written.fields &= ~(unsigned)JSON_TAGS;
    buf_append_u64le(&first, 1);
    story_input(&written, &first);
    lines_write_ndjson(&line, &written);
    story_read(LINES_NDJSON, buf_slice(&line), line.size, &second);
    CHECK(slice_equal(buf_slice(&first), buf_slice(&second)));
    buf_deinit(&line);
    buf_deinit(&first);
    buf_deinit(&second);
}

static void model(struct slice text, struct buf *out)
{
    uint64_t number = 1;
    struct buf scratch;
    buf_init(&scratch, out->heap);
    for (; text.size > 0; number++) {
        struct word_input input;
        struct problem problem = {0};
        size_t at = 0;
        while (at < text.size && text.data[at] != '\n') at++;
        struct slice line = slice_prefix(text, at);
        text = slice_from(text, at < text.size ? at + 1 : at);
        if (line.size > 0 && line.data[line.size - 1] == '\r') line.size--;
        if (line.size == 0) continue;
        buf_append_u64le(out, number);
        if (json_read_word(line, JSON_PUT_FIELDS, &scratch, &input, &problem) != STATUS_OK) {
            story_problem(problem.code, out);
            continue;
        }
        story_input(&input, out);
        write_again(&input, out->heap);
    }
    buf_deinit(&scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    story_compare(LINES_NDJSON, data, size, model);
    return 0;
}
