/* An import told as bytes: what was read, line by line, and what was refused. For the targets of
 * each format. */
#pragma once

#include "base/check.h"
#include "proto/lines.h"
#include "proto/number.h"

/* Inputs are short, so that a line longer than its bound (of CSV or TSV) takes this: with bit 4 of
 * the first byte each ff stands for so many x. */
enum { STORY_BYTES_MAX = 4096, STORY_STRETCH_BYTES = 5000, STORY_STRETCH_COUNT_MAX = 9 };

static inline void story_stretch(struct slice text, struct buf *out)
{
    unsigned count = 0;
    for (size_t i = 0; i < text.size; i++) {
        bool stretched = text.data[i] == 0xff && count++ < STORY_STRETCH_COUNT_MAX;
        for (size_t j = 0; j < (stretched ? STORY_STRETCH_BYTES : 1); j++)
            buf_append_u8(out, stretched ? 'x' : text.data[i]);
    }
}

static inline void story_input(const struct word_input *input, struct buf *out)
{
    buf_append_u8(out, 1);
    buf_append_u64le(out, input->word.size);
    buf_append_slice(out, input->word);
    buf_append(out, &input->score, sizeof input->score);
    buf_append_u64le(out, input->fields);
    buf_append_u64le(out, input->payload.size);
    buf_append_slice(out, input->payload);
    buf_append_u64le(out, input->tags.size);
    buf_append_slice(out, input->tags);
    buf_append_u64le(out, input->expires_at);
    buf_append_u64le(out, input->ttl_ms);
}

/* Of what is refused the code is enough. */
static inline void story_problem(enum problem_code code, struct buf *out)
{
    buf_append_u8(out, 2);
    buf_append_u8(out, (uint8_t)code);
}

/* As an import reads it, in pieces of `step` bytes. */
static inline void story_read(enum lines_format format, struct slice text, size_t step,
                              struct buf *out)
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
            if (status == STATUS_OK)
                story_input(&line.input, out);
            else
                story_problem(line.problem.code, out);
        }
    }
    lines_deinit(&lines);
}

/* The word and score of one line, as every format reads them. */
static inline void story_word(struct slice word, struct slice score, struct buf *out)
{
    struct word_input input = word_input_of(word);
    struct problem problem = {0};
    if (word_input_check(word, &problem) != STATUS_OK) {
        story_problem(problem.code, out);
        return;
    }
    if (score.size > 0) {
        if (number_parse(score, &input.score) != STATUS_OK) {
            story_problem(PROBLEM_INVALID_SCORE, out);
            return;
        }
        input.fields |= JSON_SCORE;
    }
    story_input(&input, out);
}

/* A dumb reader of the same format. */
typedef void story_model(struct slice text, struct buf *out);

/* At once and in pieces, and as the model reads it: the same. The first byte is the step. */
static inline void story_compare(enum lines_format format, const uint8_t *data, size_t size,
                                 story_model *model)
{
    struct heap heap;
    struct buf stretched, once, pieces, expected;
    if (size < 1 || size > STORY_BYTES_MAX) return;
    struct slice text = slice_of(data + 1, size - 1);

    heap_init(&heap, 0);
    buf_init(&stretched, &heap);
    buf_init(&once, &heap);
    buf_init(&pieces, &heap);
    buf_init(&expected, &heap);
    if (data[0] & 0x10 && text.size > 0) {
        story_stretch(text, &stretched);
        text = buf_slice(&stretched);
    }
    story_read(format, text, text.size + 1, &once);
    story_read(format, text, 1 + data[0] % 16, &pieces);
    model(text, &expected);
    CHECK(slice_equal(buf_slice(&once), buf_slice(&pieces)));
    CHECK(slice_equal(buf_slice(&once), buf_slice(&expected)));
    buf_deinit(&stretched);
    buf_deinit(&once);
    buf_deinit(&pieces);
    buf_deinit(&expected);
    CHECK(heap_used_bytes(&heap) == 0);
}
