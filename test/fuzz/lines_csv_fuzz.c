/* Any bytes as an import of CSV: as a dumb reader of RFC 4180 takes them apart, at once and in
 * small pieces. */
#include "lines_story.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FIELDS_MAX = 2 };

/* One record: it begins on `begun`, ends before `at`. */
struct record {
    struct slice text;
    size_t at;
    bool bad;
    bool is_open; /* A quote is, at the end of the text. */
    size_t field_count;
    struct buf fields[FIELDS_MAX];
    uint64_t lines; /* Line feeds in it. */
};

static bool at_end(const struct record *record)
{
    return record->at == record->text.size || record->text.data[record->at] == '\n';
}

static void put(struct record *record, uint8_t byte)
{
    if (record->field_count <= FIELDS_MAX)
        buf_append_u8(&record->fields[record->field_count - 1], byte);
}

/* From its opening quote to what follows the closing one. */
static void read_quoted(struct record *record)
{
    const uint8_t *data = record->text.data;
    record->at++;
    for (;;) {
        if (record->at == record->text.size) {
            record->bad = record->is_open = true;
            return;
        }
        uint8_t byte = data[record->at++];
        if (byte == '"') {
            if (record->at == record->text.size || data[record->at] != '"') break;
            record->at++;
        }
        record->lines += byte == '\n';
        put(record, byte);
    }
    if (at_end(record) || data[record->at] == ',') return;
    /* A carriage return belongs to the end of the line; all else makes the line a bad one. */
    size_t more = 0;
    for (; !at_end(record); record->at++) more++;
    record->bad = record->bad || more > 1 || data[record->at - 1] != '\r';
}

static void read_plain(struct record *record)
{
    const uint8_t *data = record->text.data;
    bool quote = false;
    while (!at_end(record) && (quote || data[record->at] != ',')) {
        quote = quote || data[record->at] == '"';
        put(record, data[record->at++]);
    }
    record->bad = record->bad || quote;
    /* The last byte of a line may be the carriage return of its end. */
    if (record->field_count > FIELDS_MAX || !at_end(record)) return;
    struct buf *field = &record->fields[record->field_count - 1];
    if (field->size > 0 && field->data[field->size - 1] == '\r') field->size--;
}

static void read_record(struct record *record)
{
    for (;;) {
        record->field_count++;
        if (!at_end(record) && record->text.data[record->at] == '"')
            read_quoted(record);
        else
            read_plain(record);
        if (at_end(record)) break;
        record->at++; /* The comma. */
    }
    if (record->at < record->text.size) {
        record->at++;
        record->lines++;
    }
}

/* A line feed, or a carriage return and one, alone. */
static bool is_empty(const struct record *record, size_t begin)
{
    size_t size = record->at - begin;
    const uint8_t *data = record->text.data + begin;
    if (size > 0 && data[size - 1] == '\n') size--;
    if (size > 0 && data[size - 1] == '\r') size--;
    return size == 0;
}

static bool is_too_long(const struct record *record, size_t begin)
{
    bool has_end = record->at > begin && record->text.data[record->at - 1] == '\n' &&
                   !record->is_open;
    return record->at - begin - has_end > LINES_TEXT_BYTES_MAX;
}

/* One that is too long ends with the line on which that shows, whatever was quoted. */
static void cut_record(struct record *record, size_t begin)
{
    const uint8_t *data = record->text.data;
    record->lines = 0;
    record->at = begin;
    while (record->at < begin + LINES_TEXT_BYTES_MAX + 1)
        record->lines += data[record->at++] == '\n';
    while (!at_end(record)) record->at++;
    if (record->at < record->text.size) {
        record->at++;
        record->lines++;
    }
}

static void model(struct slice text, struct buf *out)
{
    uint64_t number = 1;
    struct record record = {.text = text};
    for (size_t i = 0; i < FIELDS_MAX; i++) buf_init(&record.fields[i], out->heap);
    while (record.at < text.size) {
        size_t begin = record.at;
        record.bad = record.is_open = false;
        record.field_count = 0;
        record.lines = 0;
        for (size_t i = 0; i < FIELDS_MAX; i++) buf_clear(&record.fields[i]);
        read_record(&record);
        if (is_too_long(&record, begin)) {
            cut_record(&record, begin);
            buf_append_u64le(out, number);
            story_problem(PROBLEM_LINE_TOO_LONG, out);
        } else if (!is_empty(&record, begin)) {
            buf_append_u64le(out, number);
            if (record.bad || record.field_count > FIELDS_MAX)
                story_problem(PROBLEM_INVALID_LINE, out);
            else
                story_word(buf_slice(&record.fields[0]), buf_slice(&record.fields[1]), out);
        }
        number += record.lines;
    }
    for (size_t i = 0; i < FIELDS_MAX; i++) buf_deinit(&record.fields[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    story_compare(LINES_CSV, data, size, model);
    return 0;
}
