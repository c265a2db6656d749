#include "proto/lines.h"

#include <string.h>

#include "core/record.h"
#include "proto/json_write.h"
#include "proto/number.h"

/* FIELD ─'"'→ QUOTED ─'"'→ QUOTE ─'"'→ QUOTED; QUOTE or PLAIN ─','→ FIELD; a line feed
 * outside of QUOTED ends the record. A carriage return after QUOTE is the line's end, or BAD,
 * which goes to the end of the line. */
enum csv_state { FIELD, PLAIN, QUOTED, QUOTE, BAD };

void lines_init(struct lines *lines, enum lines_format format, struct heap *heap)
{
    *lines = (struct lines){.format = format, .number = 1};
    buf_init(&lines->carry, heap);
    buf_init(&lines->scratch, heap);
}

void lines_deinit(struct lines *lines)
{
    buf_deinit(&lines->carry);
    buf_deinit(&lines->scratch);
}

/* --- Where a record ends -------------------------------------------------------------- */

static enum csv_state csv_step(enum csv_state state, uint8_t byte)
{
    switch (state) {
    case FIELD:
        if (byte == '"') return QUOTED;
        return byte == ',' ? FIELD : PLAIN;
    case PLAIN:
        if (byte == '"') return BAD;
        return byte == ',' ? FIELD : PLAIN;
    case QUOTED:
        return byte == '"' ? QUOTE : QUOTED;
    case QUOTE:
        if (byte == '"') return QUOTED;
        if (byte == ',') return FIELD;
        return BAD;
    default:
        return BAD;
    }
}

/* Bytes up to and with the line feed that ends the record, or all; counts line feeds. */
static size_t csv_scan(struct lines *lines, struct slice window, bool *ended)
{
    enum csv_state state = (enum csv_state)lines->csv_state;
    size_t at = 0;
    *ended = false;
    while (at < window.size && !*ended) {
        uint8_t byte = window.data[at++];
        if (byte == '\n') {
            lines->number++;
            *ended = state != QUOTED;
        } else {
            state = csv_step(state, byte);
        }
    }
    lines->csv_state = (uint8_t)(*ended ? FIELD : state);
    return at;
}

static size_t scan(struct lines *lines, struct slice window, bool *ended)
{
    if (lines->format == LINES_CSV) return csv_scan(lines, window, ended);
    const uint8_t *feed = memchr(window.data, '\n', window.size);
    *ended = feed != NULL;
    if (feed == NULL) return window.size;
    lines->number++;
    return (size_t)(feed - window.data) + 1;
}

/* --- What a record says --------------------------------------------------------------- */

static enum status refuse(struct line *out, enum problem_code code, const char *detail)
{
    out->problem.code = code;
    out->problem.detail = detail;
    return STATUS_INVALID;
}

static enum status read_score(struct slice text, struct line *out)
{
    if (text.size == 0) return STATUS_OK;
    if (number_parse(text, &out->input.score) != STATUS_OK) {
        out->problem.field = SLICE_LITERAL("score");
        return refuse(out, PROBLEM_INVALID_SCORE, "a finite decimal number was expected");
    }
    out->input.fields |= JSON_SCORE;
    return STATUS_OK;
}

static enum status read_word(struct slice word, struct line *out)
{
    out->input = word_input_of(word);
    return word_input_check(word, &out->problem) == STATUS_OK ? STATUS_OK : STATUS_INVALID;
}

static enum status read_tsv(struct slice record, struct line *out)
{
    const uint8_t *tab = memchr(record.data, '\t', record.size);
    size_t size = tab == NULL ? record.size : (size_t)(tab - record.data);
    enum status status = read_word(slice_prefix(record, size), out);
    if (status != STATUS_OK || tab == NULL) return status;
    return read_score(slice_from(record, size + 1), out);
}

/* A quoted field from after its first quote on; doubled quotes are copied to `scratch`. */
static enum status take_quoted(struct slice *rest, struct buf *scratch, struct slice *field)
{
    size_t begin = scratch->size;
    const uint8_t *start = rest->data;
    for (;;) {
        const uint8_t *quote = rest->size == 0 ? NULL : memchr(rest->data, '"', rest->size);
        if (quote == NULL) return STATUS_INVALID;
        *rest = slice_from(*rest, (size_t)(quote - rest->data) + 1);
        bool doubled = rest->size > 0 && rest->data[0] == '"';
        if (!doubled && scratch->size == begin) {
            *field = (struct slice){start, (size_t)(quote - start)};
            return STATUS_OK;
        }
        buf_append(scratch, start, (size_t)(quote - start) + doubled);
        if (!doubled) break;
        *rest = slice_from(*rest, 1);
        start = rest->data;
    }
    *field = slice_from(buf_slice(scratch), begin);
    return buf_status(scratch);
}

/* The next field, and whether a comma followed it. */
static enum status take_field(struct slice *rest, struct buf *scratch, struct slice *field,
                              bool *more)
{
    if (rest->size > 0 && rest->data[0] == '"') {
        *rest = slice_from(*rest, 1);
        enum status status = take_quoted(rest, scratch, field);
        if (status != STATUS_OK) return status;
    } else {
        const uint8_t *comma = rest->size == 0 ? NULL : memchr(rest->data, ',', rest->size);
        size_t size = comma == NULL ? rest->size : (size_t)(comma - rest->data);
        *field = slice_prefix(*rest, size);
        if (size > 0 && memchr(field->data, '"', size) != NULL) return STATUS_INVALID;
        *rest = slice_from(*rest, size);
    }
    *more = rest->size > 0;
    if (*more && rest->data[0] != ',') return STATUS_INVALID;
    *rest = slice_from(*rest, *more);
    return STATUS_OK;
}

static enum status read_csv(struct slice record, struct buf *scratch, struct line *out)
{
    struct slice word;
    struct slice score = {0};
    bool more;

    /* Fields never outgrow the record: the first stays where it is when the next comes. */
    buf_clear(scratch);
    if (buf_reserve(scratch, record.size + 1) == NULL) return STATUS_NOMEM;
    enum status status = take_field(&record, scratch, &word, &more);
    if (status == STATUS_OK && more) status = take_field(&record, scratch, &score, &more);
    if (status == STATUS_INVALID) {
        return refuse(out, PROBLEM_INVALID_LINE, "a quote stands where none may, or is not closed");
    }
    if (status != STATUS_OK) return status;
    if (more) return refuse(out, PROBLEM_INVALID_LINE, "word,score was expected, no third field");
    status = read_word(word, out);
    return status == STATUS_OK ? read_score(score, out) : status;
}

static enum status read_ndjson(struct lines *lines, struct slice record, struct line *out)
{
    enum status status =
        json_read_word(record, JSON_PUT_FIELDS, &lines->scratch, &out->input, &out->problem);
    return status == STATUS_LIMIT ? STATUS_INVALID : status;
}

/* --- The whole ------------------------------------------------------------------------ */

/* STATUS_END: the line is empty. */
static enum status read_record(struct lines *lines, struct slice record, struct line *out)
{
    if (record.size > 0 && record.data[record.size - 1] == '\n') record.size--;
    if (record.size > 0 && record.data[record.size - 1] == '\r') record.size--;
    if (record.size == 0) return STATUS_END;
    out->number = lines->begun;
    out->problem = (struct problem){0};
    switch (lines->format) {
    case LINES_NDJSON:
        return read_ndjson(lines, record, out);
    case LINES_CSV:
        return read_csv(record, &lines->scratch, out);
    default:
        return read_tsv(record, out);
    }
}

static size_t bytes_max(const struct lines *lines)
{
    return lines->format == LINES_NDJSON ? LINES_JSON_BYTES_MAX : LINES_TEXT_BYTES_MAX;
}

/* Takes bytes up to the end of the record, or as many as show that it is too long. */
static struct slice take(struct lines *lines, struct slice *input, bool *ended)
{
    struct slice window = *input;
    size_t room = bytes_max(lines) + 1 - lines->carry.size;
    if (!lines->skipping && window.size > room) window.size = room;
    window.size = scan(lines, window, ended);
    *input = slice_from(*input, window.size);
    return window;
}

static enum status too_long(struct lines *lines, struct line *out)
{
    /* An open quote must not swallow the lines that follow. */
    lines->csv_state = BAD;
    lines->skipping = true;
    buf_clear(&lines->carry);
    out->number = lines->begun;
    out->problem = (struct problem){0};
    return refuse(out, PROBLEM_LINE_TOO_LONG,
                  "a line of ndjson is at most 524288 bytes, one of "
                  "csv or tsv 16384");
}

enum status lines_next(struct lines *lines, struct slice *input, bool last, struct line *out)
{
    if (lines->begun == 0) buf_clear(&lines->carry);
    while (input->size > 0) {
        bool ended;
        if (lines->begun == 0) lines->begun = lines->number;
        struct slice record = take(lines, input, &ended);
        if (lines->skipping) {
            lines->skipping = !ended;
            if (ended) lines->begun = 0;
            continue;
        }
        if (!ended && lines->carry.size + record.size > bytes_max(lines)) {
            return too_long(lines, out);
        }
        if (!ended || lines->carry.size > 0) buf_append_slice(&lines->carry, record);
        if (buf_status(&lines->carry) != STATUS_OK) return STATUS_NOMEM;
        if (!ended) break;

        if (lines->carry.size > 0) record = buf_slice(&lines->carry);
        enum status status = read_record(lines, record, out);
        lines->begun = 0;
        if (status != STATUS_END) return status;
        buf_clear(&lines->carry);
    }
    if (!last) return STATUS_PARTIAL;
    if (lines->begun == 0 || lines->skipping) return STATUS_END;
    enum status status = read_record(lines, buf_slice(&lines->carry), out);
    lines->begun = 0;
    lines->csv_state = FIELD;
    return status;
}

void lines_write_ndjson(struct buf *out, const struct word_input *input)
{
    struct json_writer writer = json_writer_of(out);
    json_write_object_begin(&writer);
    json_write_name(&writer, "word");
    json_write_string(&writer, input->word);
    json_write_name(&writer, "score");
    json_write_double(&writer, input->score);
    if (input->fields & JSON_PAYLOAD) {
        json_write_name(&writer, "payload");
        json_write_string(&writer, input->payload);
    }
    if (input->tags.size > 0) {
        struct slice rest = input->tags;
        struct slice tag;
        json_write_name(&writer, "tags");
        json_write_array_begin(&writer);
        while (record_tag_next(&rest, &tag)) json_write_string(&writer, tag);
        json_write_array_end(&writer);
    }
    if (input->expires_at != 0) {
        json_write_name(&writer, "expires_at");
        json_write_u64(&writer, input->expires_at);
    }
    json_write_object_end(&writer);
    buf_append_u8(out, '\n');
}

enum status lines_write_tsv(struct buf *out, struct slice word, double score)
{
    for (size_t i = 0; i < word.size; i++) {
        if (word.data[i] == '\t' || word.data[i] == '\n') return STATUS_INVALID;
    }
    buf_append_slice(out, word);
    buf_append_u8(out, '\t');
    number_append(score, out);
    buf_append_u8(out, '\n');
    return STATUS_OK;
}
