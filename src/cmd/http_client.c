#include "cmd/http_client.h"

#include "proto/url.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

enum { CONNECT_TIMEOUT_MS = 5000 };

struct http_client {
    CURL *curl;
    struct heap heap;
    struct buf url;
    size_t base_size;
    char error[CURL_ERROR_SIZE];
};

struct transfer {
    CURL *curl;
    const struct http_request *request;
    struct http_response *response;
};

volatile sig_atomic_t http_client_interrupted;

struct http_client *http_client_create(const char *url)
{
    struct http_client *client = calloc(1, sizeof *client);
    if (client == NULL) return NULL;
    heap_init(&client->heap, 0);
    buf_init(&client->url, &client->heap);
    client->curl = curl_easy_init();
    buf_append_text(&client->url, url);
    while (client->url.size > 0 && client->url.data[client->url.size - 1] == '/')
        client->url.size--;
    client->base_size = client->url.size;
    if (client->curl != NULL && !client->url.failed) return client;
    http_client_destroy(client);
    return NULL;
}

void http_client_destroy(struct http_client *client)
{
    if (client == NULL) return;
    curl_easy_cleanup(client->curl);
    buf_deinit(&client->url);
    free(client);
}

static size_t on_read(char *data, size_t size, size_t count, void *context)
{
    struct transfer *transfer = context;
    if (http_client_interrupted) return CURL_READFUNC_ABORT;
    return transfer->request->read(transfer->request->context, (uint8_t *)data, size * count);
}

static size_t on_write(char *data, size_t size, size_t count, void *context)
{
    struct transfer *transfer = context;
    const struct http_request *request = transfer->request;
    long status = 0;
    curl_easy_getinfo(transfer->curl, CURLINFO_RESPONSE_CODE, &status);
    if (request->write != NULL && status == 200) {
        return request->write(request->context, slice_of(data, size * count)) ? size * count : 0;
    }
    buf_append(&transfer->response->body, data, size * count);
    return transfer->response->body.failed ? 0 : size * count;
}

static int on_progress(void *context, curl_off_t download_total, curl_off_t download,
                       curl_off_t upload_total, curl_off_t upload)
{
    struct transfer *transfer = context;
    if (transfer->request->tick != NULL) transfer->request->tick(transfer->request->context);
    return http_client_interrupted;
}

static void set_body(CURL *curl, struct transfer *transfer)
{
    const struct http_request *request = transfer->request;
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
    if (request->read != NULL) {
        curl_easy_setopt(curl, CURLOPT_POST, 1L);
        curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_read);
        curl_easy_setopt(curl, CURLOPT_READDATA, transfer);
    } else if (request->body.size > 0) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, (const char *)request->body.data);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)request->body.size);
    }
}

static void set_options(struct http_client *client, struct transfer *transfer)
{
    CURL *curl = client->curl;
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, client->error);
    curl_easy_setopt(curl, CURLOPT_URL, (const char *)client->url.data);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "trifecta/" TRIFECTA_VERSION);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)transfer->request->timeout_ms);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, transfer);
    set_body(curl, transfer);
}

static struct curl_slist *headers_of(const struct http_request *request)
{
    /* Waiting for a 100 would cost a round trip, or a second where none comes. */
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
    char type[128];
    if (request->content_type != NULL) {
        snprintf(type, sizeof type, "Content-Type: %s", request->content_type);
        headers = curl_slist_append(headers, type);
    }
    if (request->read != NULL) {
        headers = curl_slist_append(headers, "Transfer-Encoding: chunked");
    }
    return headers;
}

static enum http_result result_of(CURLcode code)
{
    switch (code) {
    case CURLE_OK:
        return HTTP_ANSWERED;
    case CURLE_OPERATION_TIMEDOUT:
        return HTTP_TIMED_OUT;
    case CURLE_OUT_OF_MEMORY:
        return HTTP_NO_MEMORY;
    default:
        return HTTP_UNREACHABLE;
    }
}

enum http_result http_client_send(struct http_client *client, const struct http_request *request,
                                  struct http_response *response)
{
    struct transfer transfer = {client->curl, request, response};
    buf_clear(&response->body);
    client->url.size = client->base_size;
    buf_append_text(&client->url, request->path);
    buf_append_u8(&client->url, '\0');
    if (client->url.failed) return HTTP_NO_MEMORY;

    client->error[0] = '\0';
    set_options(client, &transfer);
    struct curl_slist *headers = headers_of(request);
    curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, headers);
    CURLcode code = curl_easy_perform(client->curl);
    curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &response->status);
    curl_slist_free_all(headers);
    if (code != CURLE_OK && client->error[0] == '\0') {
        snprintf(client->error, sizeof client->error, "%s", curl_easy_strerror(code));
    }
    return http_client_interrupted ? HTTP_INTERRUPTED : result_of(code);
}

const char *http_client_error(const struct http_client *client)
{
    return client->error;
}

void http_query_append(struct buf *path, const char *name, struct slice value)
{
    bool first = path->size == 0 || memchr(path->data, '?', path->size) == NULL;
    buf_append_u8(path, first ? '?' : '&');
    buf_append_text(path, name);
    buf_append_u8(path, '=');
    url_encode(value, path);
}
