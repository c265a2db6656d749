/* Any bytes as an import of TSV: as a dumb reader splits them, at once and in small pieces; what is
 * read is written and read again. */
#include <string.h>

#include "lines_story.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What an export writes, an import reads. */
static void write_again(struct slice word, double score, struct heap *heap)
{
    struct buf line, first, second;
    buf_init(&line, heap);
    buf_init(&first, heap);
    buf_init(&second, heap);
    if (lines_write_tsv(&line, word, score) == STATUS_OK) {
        struct word_input input = word_input_of(word);
        input.score = score;
        input.fields |= JSON_SCORE;
        buf_append_u64le(&first, 1);
        story_input(&input, &first);
        story_read(LINES_TSV, buf_slice(&line), line.size, &second);
        CHECK(slice_equal(buf_slice(&first), buf_slice(&second)));
    }
    buf_deinit(&line);
    buf_deinit(&first);
    buf_deinit(&second);
}

static void read_line(struct slice line, struct buf *out)
{
    struct slice score = {0};
    struct problem problem = {0};
    double value = 1;
    size_t at = 0;
    while (at < line.size && line.data[at] != '\t') at++;
    if (at < line.size) score = slice_from(line, at + 1);
    struct slice word = slice_prefix(line, at);
    story_word(word, score, out);
    bool good = word_input_check(word, &problem) == STATUS_OK &&
                (score.size == 0 || number_parse(score, &value) == STATUS_OK);
    if (good) write_again(word, value, out->heap);
}

static void model(struct slice text, struct buf *out)
{
    uint64_t number = 1;
    while (text.size > 0) {
        size_t at = 0;
        while (at < text.size && text.data[at] != '\n') at++;
        struct slice line = slice_prefix(text, at);
        text = slice_from(text, at < text.size ? at + 1 : at);
        if (line.size > LINES_TEXT_BYTES_MAX) {
            buf_append_u64le(out, number++);
            story_problem(PROBLEM_LINE_TOO_LONG, out);
            continue;
        }
        if (line.size > 0 && line.data[line.size - 1] == '\r') line.size--;
        if (line.size > 0) {
            buf_append_u64le(out, number);
            read_line(line, out);
        }
        number++;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    story_compare(LINES_TSV, data, size, model);
    return 0;
}
