/* Import and export: whole files, streamed. */
#include "cmd/cli.h"

#include "cmd/progress.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { EXPORT_FORMAT, EXPORT_PREFIX, EXPORT_OUTPUT };
enum { IMPORT_FORMAT, IMPORT_CONSISTENCY };

static const struct {
    const char *name;
    const char *content_type;
} formats[] = {
    {"ndjson", "application/x-ndjson"},
    {"csv", "text/csv"},
    {"tsv", "text/tab-separated-values"},
};

struct stream {
    FILE *file;
    struct progress progress;
    bool counts_lines; /* Progress is measured in lines, not bytes. */
    int error;         /* errno of the file. */
};

static void count(struct stream *stream, const uint8_t *data, size_t size)
{
    struct progress *progress = &stream->progress;
    for (size_t i = 0; i < size; i++) progress->lines += data[i] == '\n';
    progress->done = stream->counts_lines ? progress->lines : progress->done + size;
}

static void on_tick(void *context)
{
    struct stream *stream = context;
    progress_draw(&stream->progress);
}

/* --- Import --- */

static size_t read_file(void *context, uint8_t *data, size_t size)
{
    struct stream *stream = context;
    errno = 0;
    size_t got = fread(data, 1, size, stream->file);
    if (ferror(stream->file)) stream->error = errno;
    count(stream, data, got);
    progress_draw(&stream->progress);
    return got;
}

static const char *format_of(const char *path)
{
    const char *dot = strrchr(path, '.');
    if (strcmp(path, "-") == 0) return "ndjson";
    if (dot == NULL) return NULL;
    if (strcmp(dot, ".json") == 0 || strcmp(dot, ".jsonl") == 0) return "ndjson";
    if (strcmp(dot, ".txt") == 0) return "tsv";
    return dot + 1;
}

static const char *content_type_of(const char *path, const char *format)
{
    if (format == NULL) format = format_of(path);
    for (size_t i = 0; format != NULL && i < sizeof formats / sizeof *formats; i++) {
        if (strcmp(format, formats[i].name) == 0) return formats[i].content_type;
    }
    cli_usage_error("%s: which format? --format ndjson, csv or tsv", path);
    return NULL;
}

/* What went wrong, by line; and how much went in. */
static enum cli_exit report(const struct cli *cli, const char *path,
                            const struct http_response *response)
{
    json_t *answer =
        json_loadb((const char *)response->body.data, response->body.size, JSON_ALLOW_NUL, NULL);
    long long imported = (long long)json_integer_value(json_object_get(answer, "imported"));
    long long failed = (long long)json_integer_value(json_object_get(answer, "failed"));
    size_t index;
    json_t *error;
    if (cli->json) {
        fwrite(response->body.data, 1, response->body.size, stdout);
        fputc('\n', stdout);
    }
    json_array_foreach(json_object_get(answer, "errors"), index, error)
    {
        const char *detail = json_string_value(json_object_get(error, "detail"));
        const char *code = json_string_value(json_object_get(error, "code"));
        if (cli->json) break;
        fprintf(stderr, "%s:%lld: %s (%s)\n", path,
                (long long)json_integer_value(json_object_get(error, "line")),
                detail == NULL ? "refused" : detail, code == NULL ? "unknown" : code);
    }
    if (!cli->json) printf("%lld imported, %lld failed\n", imported, failed);
    bool good = json_is_object(answer) && failed == 0 && response->status == 200;
    json_decref(answer);
    return good ? CLI_DONE : CLI_FAILED;
}

static enum cli_exit send_file(struct cli *cli, const struct cli_arguments *arguments,
                               const char *content_type, struct stream *stream)
{
    const char *path = arguments->words[0];
    struct http_response response;
    struct http_request request = {.method = "POST",
                                   .content_type = content_type,
                                   .read = read_file,
                                   .tick = on_tick,
                                   .context = stream};
    struct buf target = cli_path(cli, "/api/v1/import");
    const char *consistency = arguments->flags[IMPORT_CONSISTENCY];
    if (consistency != NULL) {
        http_query_append(&target, "consistency", slice_from_text(consistency));
    }
    enum cli_exit code = cli_send(cli, &request, &target, &response);
    progress_end(&stream->progress);
    if (code == CLI_DONE) code = report(cli, path, &response);
    if (stream->error != 0) {
        fprintf(stderr, "trifecta: %s: %s; the import is incomplete\n", path,
                strerror(stream->error));
        code = CLI_FAILED;
    }
    buf_deinit(&response.body);
    buf_deinit(&target);
    return code;
}

enum cli_exit cli_import(struct cli *cli, const struct cli_arguments *arguments)
{
    const char *path = arguments->words[0];
    struct stat about;
    struct stream stream = {.file = stdin};
    /* Before the question what is in it: a name that is mistyped has no format either. */
    if (strcmp(path, "-") != 0) stream.file = fopen(path, "rb");
    if (stream.file == NULL) {
        fprintf(stderr, "trifecta: %s: %s\n", path, strerror(errno));
        return CLI_FAILED;
    }
    const char *content_type = content_type_of(path, arguments->flags[IMPORT_FORMAT]);
    if (content_type == NULL) {
        if (stream.file != stdin) fclose(stream.file);
        return CLI_USAGE;
    }
    bool sized = fstat(fileno(stream.file), &about) == 0 && S_ISREG(about.st_mode);
    progress_begin(&stream.progress, sized ? (uint64_t)about.st_size : 0);
    enum cli_exit code = send_file(cli, arguments, content_type, &stream);
    if (stream.file != stdin) fclose(stream.file);
    return code;
}

/* --- Export --- */

static bool write_file(void *context, struct slice data)
{
    struct stream *stream = context;
    count(stream, data.data, data.size);
    progress_draw(&stream->progress);
    errno = 0;
    if (fwrite(data.data, 1, data.size, stream->file) == data.size) return true;
    stream->error = errno;
    return false;
}

/* How many lines there will be, for the bar alone: 0 when nobody would see it. */
static uint64_t count_words(struct cli *cli, const char *prefix)
{
    struct progress probe;
    progress_begin(&probe, 0);
    if (!probe.shown) return 0;
    struct http_response response;
    struct http_request request = {.method = "GET", .timeout_ms = cli->timeout_ms};
    struct buf path = cli_path(cli, "/api/v1/count");
    http_query_append(&path, "q", slice_from_text(prefix));
    uint64_t total = 0;
    if (cli_send(cli, &request, &path, &response) == CLI_DONE) {
        json_t *answer = json_loadb((const char *)response.body.data, response.body.size, 0, NULL);
        total = (uint64_t)json_integer_value(json_object_get(answer, "count"));
        json_decref(answer);
    }
    buf_deinit(&response.body);
    buf_deinit(&path);
    return total;
}

static enum cli_exit receive(struct cli *cli, const char *prefix, const char *format,
                             struct stream *stream)
{
    struct http_response response;
    struct http_request request = {
        .method = "GET", .write = write_file, .tick = on_tick, .context = stream};
    struct buf target = cli_path(cli, "/api/v1/export");
    http_query_append(&target, "q", slice_from_text(prefix));
    http_query_append(&target, "format", slice_from_text(format));
    stream->counts_lines = true;
    progress_begin(&stream->progress, count_words(cli, prefix));
    enum cli_exit code = cli_send(cli, &request, &target, &response);
    progress_end(&stream->progress);
    if (fflush(stream->file) != 0 && stream->error == 0) stream->error = errno;
    if (stream->error != 0) {
        fprintf(stderr, "trifecta: export: %s\n", strerror(stream->error));
        code = CLI_FAILED;
    } else if (code != CLI_DONE && stream->progress.lines > 0) {
        fprintf(stderr, "trifecta: the export is incomplete\n");
    }
    if (code == CLI_CONNECTION && strcmp(format, "tsv") == 0)
        fprintf(stderr, "trifecta: TSV cannot hold a word with a tab or an end of line in it, and "
                        "breaks there; --format ndjson holds every word\n");
    buf_deinit(&response.body);
    buf_deinit(&target);
    return code;
}

/* Makes the name of a file durable. */
static bool sync_directory_of(const char *path)
{
    char directory[4096];
    const char *slash = strrchr(path, '/');
    size_t size = slash == NULL ? 1 : slash == path ? 1 : (size_t)(slash - path);
    if (size >= sizeof directory) return false;
    memcpy(directory, slash == NULL ? "." : path, size);
    directory[size] = '\0';
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return false;
    bool synced = fsync(fd) == 0;
    close(fd);
    return synced;
}

/* What is said to be exported is on the disk, under its name. */
static bool put_in_place(FILE *file, const char *partial, const char *path)
{
    bool synced = fsync(fileno(file)) == 0;
    int error = errno;
    bool closed = fclose(file) == 0;
    if (!synced) errno = error;
    return synced && closed && rename(partial, path) == 0 && sync_directory_of(path);
}

/* Writes beside `path` and puts it there when it is complete. */
static enum cli_exit receive_to(struct cli *cli, const char *prefix, const char *format,
                                const char *path)
{
    char partial[4096];
    struct stream stream = {0};
    if (snprintf(partial, sizeof partial, "%s.partial", path) >= (int)sizeof partial) {
        return cli_usage_error("--output: the path is too long");
    }
    stream.file = fopen(partial, "wb");
    if (stream.file == NULL) {
        fprintf(stderr, "trifecta: %s: %s\n", partial, strerror(errno));
        return CLI_FAILED;
    }
    enum cli_exit code = receive(cli, prefix, format, &stream);
    if (code != CLI_DONE) {
        fclose(stream.file);
    } else if (!put_in_place(stream.file, partial, path)) {
        fprintf(stderr, "trifecta: %s: %s\n", path, strerror(errno));
        code = CLI_FAILED;
    }
    if (code != CLI_DONE)
        remove(partial);
    else if (!cli->json)
        printf("%llu exported\n", (unsigned long long)stream.progress.lines);
    return code;
}

enum cli_exit cli_export(struct cli *cli, const struct cli_arguments *arguments)
{
    const char *format = arguments->flags[EXPORT_FORMAT];
    const char *prefix = arguments->flags[EXPORT_PREFIX];
    if (format == NULL) format = "ndjson";
    if (prefix == NULL) prefix = "";
    if (strcmp(format, "ndjson") != 0 && strcmp(format, "tsv") != 0) {
        return cli_usage_error("--format: '%s' is not ndjson or tsv", format);
    }
    if (arguments->flags[EXPORT_OUTPUT] != NULL) {
        return receive_to(cli, prefix, format, arguments->flags[EXPORT_OUTPUT]);
    }
    struct stream stream = {.file = stdout};
    return receive(cli, prefix, format, &stream);
}
