#include "cmd/cli.h"

#include "proto/base64.h"
#include "proto/number.h"
#include "proto/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

uint64_t cli_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

struct buf cli_path(struct cli *cli, const char *path)
{
    struct buf buf;
    buf_init(&buf, &cli->heap);
    buf_append_text(&buf, path);
    if (cli->name_space != NULL) {
        http_query_append(&buf, "ns", slice_from_text(cli->name_space));
    }
    return buf;
}

static enum cli_exit exit_of_status(long status)
{
    if (status >= 200 && status < 300) return CLI_DONE;
    if (status == 401 || status == 403) return CLI_AUTH;
    if (status == 408 || status == 503 || status == 504) return CLI_TIMEOUT;
    return CLI_FAILED;
}

/* A problem document (RFC 9457) in one line, or whatever came instead. */
static void say_problem(struct cli *cli, const struct http_response *response)
{
    if (cli->quiet) return;
    if (cli->json) {
        fwrite(response->body.data, 1, response->body.size, stdout);
        fputc('\n', stdout);
        return;
    }
    json_t *problem =
        json_loadb((const char *)response->body.data, response->body.size, JSON_ALLOW_NUL, NULL);
    const char *title = json_string_value(json_object_get(problem, "title"));
    const char *detail = json_string_value(json_object_get(problem, "detail"));
    const char *code = json_string_value(json_object_get(problem, "code"));
    if (title == NULL && detail == NULL) {
        fprintf(stderr, "trifecta: the node answered %ld\n", response->status);
    } else {
        fprintf(stderr, "trifecta: %s%s%s", title == NULL ? "" : title,
                title == NULL || detail == NULL ? "" : ": ", detail == NULL ? "" : detail);
        if (code != NULL) fprintf(stderr, " (%s)", code);
        fputc('\n', stderr);
    }
    json_decref(problem);
}

static enum cli_exit exit_of_result(struct cli *cli, enum http_result result)
{
    static const enum cli_exit codes[] = {
        [HTTP_ANSWERED] = CLI_DONE,     [HTTP_UNREACHABLE] = CLI_CONNECTION,
        [HTTP_TIMED_OUT] = CLI_TIMEOUT, [HTTP_INTERRUPTED] = CLI_INTERRUPTED,
        [HTTP_NO_MEMORY] = CLI_FAILED,
    };
    if (cli->quiet || result == HTTP_INTERRUPTED || result == HTTP_ANSWERED) return codes[result];
    const char *what = "no memory";
    if (result == HTTP_TIMED_OUT) what = "no answer in time; the outcome of a write is unknown";
    if (result == HTTP_UNREACHABLE) what = http_client_error(cli->client);
    fprintf(stderr, "trifecta: %s: %s\n", cli->url, what);
    return codes[result];
}

enum cli_exit cli_send(struct cli *cli, struct http_request *request, struct buf *path,
                       struct http_response *response)
{
    *response = (struct http_response){0};
    buf_init(&response->body, &cli->heap);
    buf_append_u8(path, '\0');
    if (cli->client == NULL) cli->client = http_client_create(cli->url);
    if (path->failed || cli->client == NULL) return exit_of_result(cli, HTTP_NO_MEMORY);
    request->path = (const char *)path->data;
    enum http_result result = http_client_send(cli->client, request, response);
    if (result != HTTP_ANSWERED) return exit_of_result(cli, result);
    enum cli_exit code = exit_of_status(response->status);
    if (code != CLI_DONE) say_problem(cli, response);
    return code;
}

static enum cli_exit parse_answer(struct cli *cli, const struct http_response *response,
                                  json_t **out)
{
    *out = json_loadb((const char *)response->body.data, response->body.size, JSON_ALLOW_NUL, NULL);
    if (*out == NULL) {
        fprintf(stderr, "trifecta: %s did not answer in JSON; is it a trifecta node?\n", cli->url);
        return CLI_FAILED;
    }
    if (cli->json && !cli->keeps) {
        fwrite(response->body.data, 1, response->body.size, stdout);
        if (response->body.data[response->body.size - 1] != '\n') fputc('\n', stdout);
    }
    return CLI_DONE;
}

enum cli_exit cli_call(struct cli *cli, const char *method, struct buf *path, json_t *body,
                       json_t **out, long *status)
{
    struct http_response response;
    struct http_request request = {.method = method, .timeout_ms = cli->timeout_ms};
    char *text = body == NULL ? NULL : json_dumps(body, JSON_COMPACT);
    json_decref(body);
    *out = NULL;
    if (text != NULL) {
        request.content_type = "application/json";
        request.body = slice_from_text(text);
    }
    enum cli_exit code = cli_send(cli, &request, path, &response);
    if (code == CLI_DONE) code = parse_answer(cli, &response, out);
    if (status != NULL) *status = response.status;
    free(text);
    buf_deinit(&response.body);
    buf_deinit(path);
    return code;
}

/* --- Values --- */

json_t *cli_json_of(struct slice text)
{
    if (utf8_is_valid(text)) return json_stringn((const char *)text.data, text.size);
    struct heap heap;
    struct buf encoded;
    heap_init(&heap, 0);
    buf_init(&encoded, &heap);
    base64_encode(BASE64_PADDED, text, &encoded);
    json_t *value = json_pack("{s:s%}", "base64", (const char *)encoded.data, (size_t)encoded.size);
    buf_deinit(&encoded);
    return value;
}

bool cli_json_bytes(const json_t *value, struct buf *out)
{
    if (json_is_string(value)) {
        buf_append(out, json_string_value(value), json_string_length(value));
        return true;
    }
    const json_t *encoded = json_object_get(value, "base64");
    if (!json_is_string(encoded)) return false;
    struct slice text = slice_of(json_string_value(encoded), json_string_length(encoded));
    return base64_decode(BASE64_PADDED, text, out) == STATUS_OK;
}

/* A terminal obeys C0 and C1 controls; a stored word must not command it. */
void cli_print_bytes(const struct cli *cli, FILE *file, struct slice bytes)
{
    if (!cli->escape) {
        fwrite(bytes.data, 1, bytes.size, file);
        return;
    }
    while (bytes.size > 0) {
        unsigned size = utf8_size(bytes.data, bytes.size);
        bool control = size == 0 || bytes.data[0] < 0x20 || bytes.data[0] == 0x7f ||
                       (size == 2 && bytes.data[0] == 0xc2 && bytes.data[1] < 0xa0);
        if (size == 0) size = 1;
        for (unsigned i = 0; control && i < size; i++) fprintf(file, "\\x%02x", bytes.data[i]);
        if (!control) fwrite(bytes.data, 1, size, file);
        bytes = slice_from(bytes, size);
    }
}

void cli_print_value(const struct cli *cli, const json_t *value)
{
    struct heap heap;
    struct buf bytes;
    heap_init(&heap, 0);
    buf_init(&bytes, &heap);
    if (cli_json_bytes(value, &bytes)) cli_print_bytes(cli, stdout, buf_slice(&bytes));
    buf_deinit(&bytes);
}

bool cli_number(const char *flag, const char *text, uint64_t least, uint64_t most, uint64_t *out)
{
    uint64_t value = 0;
    bool good = *text != '\0';
    for (const char *at = text; *at != '\0' && good; at++) {
        good = *at >= '0' && *at <= '9' && !__builtin_mul_overflow(value, 10, &value) &&
               !__builtin_add_overflow(value, (uint64_t)(*at - '0'), &value);
    }
    if (!good || value < least || value > most) {
        cli_usage_error("%s: '%s' is not a number from %llu to %llu", flag, text,
                        (unsigned long long)least, (unsigned long long)most);
        return false;
    }
    *out = value;
    return true;
}

bool cli_double(const char *name, const char *text, double *out)
{
    if (number_parse(slice_from_text(text), out) == STATUS_OK) return true;
    cli_usage_error("%s: '%s' is not a finite number", name, text);
    return false;
}
