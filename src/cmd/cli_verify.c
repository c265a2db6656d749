/* Checks a data directory offline, and says what is in it. */
#include "cmd/cli.h"

#include "cmd/progress.h"
#include "core/key.h"
#include "shell/file_env.h"
#include "store/verify.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Positions of the flags in the table of commands. */
enum { VERIFY_VERBOSE };

enum { PAGE_BYTES = 4096, CELL_BYTES_MAX = 256, RANGE_WORD_BYTES = 24 };

enum column {
    COLUMN_FILE,
    COLUMN_STATE,
    COLUMN_BYTES,
    COLUMN_LEVEL,
    COLUMN_WORDS,
    COLUMN_TOMBSTONES,
    COLUMN_DEAD,
    COLUMN_FROM,
    COLUMN_TO,
    COLUMN_HOLDS,
    COLUMN_COUNT,
};

static const char *const headings[COLUMN_COUNT] = {
    "file", "state", "bytes", "level", "words", "tombstones", "dead", "from", "to", "holds",
};

struct row {
    char cells[COLUMN_COUNT][CELL_BYTES_MAX];
};

struct session {
    struct cli *cli;
    bool verbose;
    struct progress progress;
    struct row *rows;
    size_t row_count;
    json_t *files, *findings; /* With --json. */
    bool no_memory;
};

static const char *const role_names[] = {
    [VERIFY_LIVE] = "live",         [VERIFY_LEFTOVER] = "leftover", [VERIFY_WAITING] = "waiting",
    [VERIFY_GIVEN_UP] = "given up", [VERIFY_UNKNOWN] = "unknown",
};

static const char *kind_name(enum name_kind kind)
{
    static const char *const names[NAME_KIND_COUNT] = {
        [NAME_UNKNOWN] = "unknown", [NAME_IDENTITY] = "identity", [NAME_LOCK] = "lock",
        [NAME_RESERVE] = "reserve", [NAME_MANIFEST] = "manifest", [NAME_RUN] = "packed trie",
        [NAME_OVERLAY] = "overlay", [NAME_LOG] = "log",           [NAME_TEMPORARY] = "temporary",
    };
    return names[kind];
}

/* --- Values --- */

static void put_time(char out[CELL_BYTES_MAX], struct version version)
{
    time_t seconds = (time_t)(hlc_wall_ms(version.time) / 1000);
    struct tm parts;
    if (gmtime_r(&seconds, &parts) == NULL ||
        strftime(out, CELL_BYTES_MAX, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
        snprintf(out, CELL_BYTES_MAX, "%" PRIu64 " ms", hlc_wall_ms(version.time));
}

/* The word of a key with its namespace in front; the key's own bytes where it is no key of ours. */
static struct slice word_of(struct session *session, struct slice key, struct slice *name,
                            struct buf *word)
{
    buf_init(word, &session->cli->heap);
    *name = (struct slice){NULL, 0};
    return key_decode(key, name, word) == STATUS_OK ? buf_slice(word) : key;
}

/* Printable bytes and UTF-8 as they are, others as \xNN; cut where it is long. */
static void append_escaped(char out[CELL_BYTES_MAX], struct slice bytes)
{
    size_t at = strlen(out);
    size_t shown = bytes.size < RANGE_WORD_BYTES ? bytes.size : RANGE_WORD_BYTES;
    while (shown < bytes.size && shown > 0 && (bytes.data[shown] & 0xc0) == 0x80) shown--;
    for (size_t i = 0; i < shown; i++) {
        bool plain = bytes.data[i] >= 0x20 && bytes.data[i] != 0x7f;
        at += (size_t)snprintf(out + at, CELL_BYTES_MAX - at, plain ? "%c" : "\\x%02x",
                               bytes.data[i]);
    }
    if (shown < bytes.size) snprintf(out + at, CELL_BYTES_MAX - at, "…");
}

static void put_key(struct session *session, char out[CELL_BYTES_MAX], struct slice key)
{
    struct buf word;
    struct slice name, shown = word_of(session, key, &name, &word);
    append_escaped(out, name);
    if (name.size > 0) snprintf(out + strlen(out), CELL_BYTES_MAX - strlen(out), ":");
    append_escaped(out, shown);
    buf_deinit(&word);
}

static json_t *json_of_key(struct session *session, struct slice key)
{
    struct buf word;
    struct slice name, shown = word_of(session, key, &name, &word);
    json_t *object = json_pack("{s:o, s:o}", "ns", cli_json_of(name), "word", cli_json_of(shown));
    buf_deinit(&word);
    return object;
}

static json_t *json_of_count(uint64_t count)
{
    return json_integer((json_int_t)count);
}

/* --- One file --- */

static void put_number(char out[CELL_BYTES_MAX], uint64_t number)
{
    snprintf(out, CELL_BYTES_MAX, "%" PRIu64, number);
}

static void fill_trie(struct session *session, struct row *row, const struct verify_file *file)
{
    char *holds = row->cells[COLUMN_HOLDS];
    put_number(row->cells[COLUMN_LEVEL], file->level);
    if (!file->described) return;
    put_number(row->cells[COLUMN_WORDS], file->word_count);
    put_number(row->cells[COLUMN_TOMBSTONES], file->tombstone_count);
    put_number(row->cells[COLUMN_DEAD], file->dead_count);
    put_time(row->cells[COLUMN_FROM], file->oldest);
    put_time(row->cells[COLUMN_TO], file->newest);
    put_key(session, holds, file->key_first);
    snprintf(holds + strlen(holds), CELL_BYTES_MAX - strlen(holds), " to ");
    put_key(session, holds, file->key_last);
}

static void fill_segment(struct row *row, const struct log_check_segment *segment)
{
    if (segment->batch_count == 0) return;
    snprintf(row->cells[COLUMN_HOLDS], CELL_BYTES_MAX,
             "%" PRIu64 " records in batches %" PRIu64 " to %" PRIu64, segment->record_count,
             segment->first, segment->last);
}

static void add_row(struct session *session, const struct verify_file *file)
{
    struct row *rows =
        heap_realloc(&session->cli->heap, session->rows, (session->row_count + 1) * sizeof *rows);
    if (rows == NULL) {
        session->no_memory = true;
        return;
    }
    struct row *row = &rows[session->row_count++];
    session->rows = rows;
    memset(row, 0, sizeof *row);
    snprintf(row->cells[COLUMN_FILE], CELL_BYTES_MAX, "%s", file->name);
    snprintf(row->cells[COLUMN_STATE], CELL_BYTES_MAX, "%s", role_names[file->role]);
    put_number(row->cells[COLUMN_BYTES], file->size_bytes);
    if (file->kind == NAME_RUN && file->role != VERIFY_LEFTOVER) fill_trie(session, row, file);
    if (file->kind == NAME_LOG) fill_segment(row, &file->segment);
}

static void describe_trie(struct session *session, json_t *object, const struct verify_file *file)
{
    char oldest[CELL_BYTES_MAX], newest[CELL_BYTES_MAX];
    json_object_set_new(object, "level", json_of_count(file->level));
    if (!file->described) return;
    put_time(oldest, file->oldest);
    put_time(newest, file->newest);
    json_object_set_new(object, "entries", json_of_count(file->entry_count));
    json_object_set_new(object, "words", json_of_count(file->word_count));
    json_object_set_new(object, "tombstones", json_of_count(file->tombstone_count));
    json_object_set_new(object, "dead", json_of_count(file->dead_count));
    json_object_set_new(object, "hidden", json_of_count(file->hidden_count));
    json_object_set_new(object, "oldest", json_string(oldest));
    json_object_set_new(object, "newest", json_string(newest));
    json_object_set_new(object, "first", json_of_key(session, file->key_first));
    json_object_set_new(object, "last", json_of_key(session, file->key_last));
    if (file->overlay == 0) return;
    struct name overlay = name_of(NAME_OVERLAY, file->overlay);
    json_object_set_new(object, "overlay", json_string(overlay.text));
}

static void add_json_file(struct session *session, const struct verify_file *file)
{
    json_t *object = json_pack("{s:s, s:s, s:s, s:o}", "name", file->name, "kind",
                               kind_name(file->kind), "state", role_names[file->role], "bytes",
                               json_of_count(file->size_bytes));
    if (file->kind == NAME_RUN && file->role != VERIFY_LEFTOVER)
        describe_trie(session, object, file);
    if (file->kind == NAME_LOG && file->segment.batch_count > 0) {
        json_object_set_new(object, "first_batch", json_of_count(file->segment.first));
        json_object_set_new(object, "last_batch", json_of_count(file->segment.last));
        json_object_set_new(object, "batches", json_of_count(file->segment.batch_count));
        json_object_set_new(object, "records", json_of_count(file->segment.record_count));
    }
    json_array_append_new(session->files, object);
}

static void take_file(void *context, const struct verify_file *file)
{
    struct session *session = context;
    if (session->cli->json) {
        add_json_file(session, file);
        return;
    }
    bool shown = file->role == VERIFY_LIVE || file->role == VERIFY_UNKNOWN;
    if (shown || session->verbose) add_row(session, file);
}

/* --- Findings --- */

static void print_finding(const struct verify_finding *finding)
{
    uint64_t number;
    printf("%s: ", finding->damage ? "damage" : "note");
    if (finding->name[0] != '\0') printf("%s", finding->name);
    if (finding->offset != VERIFY_NOWHERE) {
        printf(" at byte %" PRIu64, finding->offset);
        if (name_parse(finding->name, &number) == NAME_RUN)
            printf(" (page %" PRIu64 ")", finding->offset / PAGE_BYTES);
    }
    printf("%s%s\n", finding->name[0] != '\0' ? ": " : "", finding->text);
}

static void take_finding(void *context, const struct verify_finding *finding)
{
    struct session *session = context;
    if (!session->cli->json) {
        progress_end(&session->progress);
        if (finding->damage || session->verbose) print_finding(finding);
        return;
    }
    uint64_t number;
    json_t *object = json_pack("{s:s, s:s, s:s}", "kind", finding->damage ? "damage" : "note",
                               "file", finding->name, "detail", finding->text);
    if (finding->offset != VERIFY_NOWHERE) {
        json_object_set_new(object, "offset", json_of_count(finding->offset));
        if (name_parse(finding->name, &number) == NAME_RUN)
            json_object_set_new(object, "page", json_of_count(finding->offset / PAGE_BYTES));
    }
    json_array_append_new(session->findings, object);
}

static bool take_progress(void *context, uint64_t done, uint64_t total)
{
    struct session *session = context;
    session->progress.total = total;
    session->progress.done = done;
    progress_draw(&session->progress);
    return !http_client_interrupted;
}

/* --- All of it --- */

/* How many columns of a terminal: a byte each, but for what continues a code point. */
static size_t width_of(const char *text)
{
    size_t width = 0;
    for (; *text != '\0'; text++) width += ((uint8_t)*text & 0xc0) != 0x80;
    return width;
}

static void print_cell(const char *text, size_t width, bool is_number, bool is_last)
{
    size_t blanks = width - width_of(text);
    if (is_number) printf("%*s", (int)blanks, "");
    fputs(text, stdout);
    if (is_last) return;
    printf("%*s", (int)(is_number ? 2 : blanks + 2), "");
}

static void print_line(const char *const cells[COLUMN_COUNT], const size_t widths[COLUMN_COUNT])
{
    size_t last = 0;
    for (size_t i = 0; i < COLUMN_COUNT; i++)
        if (cells[i][0] != '\0') last = i;
    for (size_t i = 0; i <= last; i++) {
        bool is_number = i >= COLUMN_BYTES && i <= COLUMN_DEAD;
        if (widths[i] > 0) print_cell(cells[i], widths[i], is_number, i == last);
    }
    putchar('\n');
}

/* A column without a value is left out. */
static void print_table(const struct session *session)
{
    size_t widths[COLUMN_COUNT] = {0};
    const char *cells[COLUMN_COUNT];
    for (size_t i = 0; i < COLUMN_COUNT; i++) {
        for (size_t j = 0; j < session->row_count; j++) {
            size_t width = width_of(session->rows[j].cells[i]);
            if (width > widths[i]) widths[i] = width;
        }
        if (widths[i] > 0 && widths[i] < strlen(headings[i])) widths[i] = strlen(headings[i]);
        cells[i] = widths[i] > 0 ? headings[i] : "";
    }
    if (session->row_count > 0) print_line(cells, widths);
    for (size_t j = 0; j < session->row_count; j++) {
        for (size_t i = 0; i < COLUMN_COUNT; i++) cells[i] = session->rows[j].cells[i];
        print_line(cells, widths);
    }
}

static void print_summary(const struct session *session, const struct verify_report *report)
{
    const struct log_check_totals *log = &report->log;
    printf("\nlog: %" PRIu64 " segments in use, %" PRIu64 " batches of %" PRIu64
           " records; to be replayed: %" PRIu64 " batches, %" PRIu64 " records, %" PRIu64 " bytes",
           log->segment_count, log->batch_count, log->record_count, log->replay_batches,
           log->replay_records, log->replay_bytes);
    printf("; torn: %" PRIu64 " batches, %" PRIu64 " bytes\n", log->torn_batches, log->torn_bytes);
    printf("packed tries: %" PRIu64 " with %" PRIu64 " overlays: %" PRIu64 " words, %" PRIu64
           " tombstones, %" PRIu64 " dead, %" PRIu64 " expired\n",
           report->run_count, report->overlay_count, report->word_count, report->tombstone_count,
           report->dead_count, report->hidden_count);
    printf("all: %" PRIu64 " files, %" PRIu64 " bytes, %" PRIu64 " left behind by a crash\n",
           report->file_count, report->total_bytes, report->leftover_count);
    if (session->verbose && report->has_numbers)
        printf("manifest: %" PRIu64 " edits, started %" PRIu64 " times, replay from batch %" PRIu64
               ", %sstopped cleanly\n",
               report->edit_count, report->numbers[MANIFEST_BOOT_COUNT],
               report->numbers[MANIFEST_REPLAY_SEQUENCE],
               report->numbers[MANIFEST_CLEAN_STOP] != 0 ? "" : "not ");
    if (report->damage_count == 0)
        printf("no damage\n");
    else
        printf("%" PRIu64 " damaged place%s\n", report->damage_count,
               report->damage_count == 1 ? "" : "s");
}

static json_t *json_of_totals(const struct verify_report *report)
{
    const struct log_check_totals *log = &report->log;
    json_t *object = json_object();
    const struct {
        const char *name;
        uint64_t value;
    } log_values[] =
        {
            {"segments", log->segment_count},        {"batches", log->batch_count},
            {"records", log->record_count},          {"replay_batches", log->replay_batches},
            {"replay_records", log->replay_records}, {"replay_bytes", log->replay_bytes},
            {"last_batch", log->last_sequence},      {"torn_batches", log->torn_batches},
            {"torn_bytes", log->torn_bytes},
        },
      values[] = {
          {"files", report->file_count},         {"bytes", report->total_bytes},
          {"leftovers", report->leftover_count}, {"packed_tries", report->run_count},
          {"overlays", report->overlay_count},   {"entries", report->entry_count},
          {"words", report->word_count},         {"tombstones", report->tombstone_count},
          {"dead", report->dead_count},          {"hidden", report->hidden_count},
          {"edits", report->edit_count},         {"damage", report->damage_count},
      };
    json_t *totals = json_object(), *log_object = json_object();
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        json_object_set_new(totals, values[i].name, json_of_count(values[i].value));
    for (size_t i = 0; i < sizeof log_values / sizeof *log_values; i++)
        json_object_set_new(log_object, log_values[i].name, json_of_count(log_values[i].value));
    json_object_set_new(object, "log", log_object);
    json_object_set_new(object, "totals", totals);
    return object;
}

static void print_json(struct session *session, const char *path, enum status status,
                       const struct verify_report *report)
{
    json_t *object = json_pack("{s:o, s:b}", "directory", cli_json_of(slice_from_text(path)), "ok",
                               status == STATUS_OK && report->damage_count == 0);
    if (status != STATUS_OK) {
        json_object_set_new(object, "error", json_string(status_name(status)));
        json_object_set_new(object, "detail", json_string(report->text));
    } else {
        char id[33];
        for (size_t i = 0; i < 16; i++) snprintf(id + i * 2, 3, "%02x", report->store_id[i]);
        json_object_set_new(object, "store", json_string(id));
        json_object_set(object, "files", session->files);
        json_t *totals = json_of_totals(report);
        json_object_update(object, totals);
        json_decref(totals);
    }
    json_object_set(object, "findings", session->findings);
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    if (text == NULL)
        session->no_memory = true;
    else
        puts(text);
    free(text);
}

static const char *explain_open(enum status status)
{
    switch (status) {
    case STATUS_NOT_FOUND:
        return "There is no such directory.";
    case STATUS_INVALID:
        return "It is not a directory.";
    case STATUS_DENIED:
        return "It may not be read.";
    default:
        return "It cannot be opened.";
    }
}

static enum cli_exit finish(struct session *session, const char *path, enum status status,
                            const struct verify_report *report)
{
    progress_end(&session->progress);
    if (session->cli->json && status != STATUS_CANCELLED) {
        print_json(session, path, status, report);
    } else if (status == STATUS_OK) {
        print_table(session);
        print_summary(session, report);
    } else {
        fprintf(stderr, "trifecta: %s: %s\n", path, report->text);
    }
    if (session->no_memory) fprintf(stderr, "trifecta: no memory for all that there is to say\n");
    if (status == STATUS_CANCELLED) return CLI_INTERRUPTED;
    bool fine = status == STATUS_OK && report->damage_count == 0 && !session->no_memory;
    return fine ? CLI_DONE : CLI_FAILED;
}

enum cli_exit cli_verify(struct cli *cli, const struct cli_arguments *arguments)
{
    const char *path = arguments->words[0];
    struct session session = {.cli = cli, .verbose = arguments->flags[VERIFY_VERBOSE] != NULL};
    struct verify_visitor visitor = {take_file, take_finding, take_progress, &session};
    struct verify_report report = {0};
    struct env *env = NULL;
    session.files = json_array();
    session.findings = json_array();
    progress_begin(&session.progress, 0);
    session.progress.counts_bytes = true;

    enum status status = file_env_open(&cli->heap, path, false, &env);
    if (status == STATUS_OK)
        status = verify_directory(env, &cli->heap, &visitor, &report);
    else
        snprintf(report.text, sizeof report.text, "%s", explain_open(status));
    enum cli_exit code = finish(&session, path, status, &report);
    file_env_close(env);
    heap_free(&cli->heap, session.rows);
    json_decref(session.files);
    json_decref(session.findings);
    return code;
}
