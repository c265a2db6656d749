#include "client/client.h"

#include "base/heap.h"
#include "client/json.h"
#include "client/map.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    NODES_MAX = 64,
    IDLE_MAX = 16,       /* Connections kept to a node. */
    IDLE_SECONDS = 45,   /* Nodes close them after 60. */
    ROUNDS = 3,          /* How often all nodes are tried in one call, */
    ROUND_PAUSE_MS = 50, /* with pauses of this, then twice this. */
    DOWN_MS = 1000,      /* Who failed is asked last for so long. */
    MAP_MS = 1000,       /* The map is fetched once in so long at most. */
    ZONE_SIZE = 256,
    TIMEOUT_MS = 5000,
    ATTEMPT_MS = 1000,
    BODY_BYTES_MAX = 256 << 20,
};

struct node {
    char *url;
    uint64_t id; /* 0: not known yet, or a node alone. */
    char zone[ZONE_SIZE];
    uint64_t down_until_ms;
    CURL *idle[IDLE_MAX]; /* Each with a connection of its own. */
    size_t idle_count;
};

struct trifecta_client {
    struct heap heap;
    char *zone; /* NULL: none. */
    uint32_t timeout_ms;
    uint32_t attempt_ms;
    size_t node_count;

    pthread_mutex_t lock; /* For all below but `url`. Never held over a request. */
    struct map *map;      /* NULL: none. */
    bool map_wanted;
    uint64_t map_asked_ms;
    size_t turn; /* Who comes first among equals. */
    struct node nodes[NODES_MAX];
};

/* One attempt: what was asked of one node, and what came back. */
struct attempt {
    const struct client_request *request;
    struct buf *body;
    uint64_t timeout_ms;
    uint32_t connect_ms;
    unsigned sendings; /* How often curl was about to hand the request to a connection. */
    CURLcode result;
    long status;
    char error[CURL_ERROR_SIZE];
};

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* --- Birth and death --- */

static char *url_copy(const char *url)
{
    char *copy = strdup(url);
    size_t size = copy == NULL ? 0 : strlen(copy);
    while (size > 0 && copy[size - 1] == '/') copy[--size] = '\0';
    return copy;
}

static bool fill(struct trifecta_client *client, const struct trifecta_options *options)
{
    client->timeout_ms = options->timeout_ms == 0 ? TIMEOUT_MS : options->timeout_ms;
    client->attempt_ms = options->attempt_ms == 0 ? ATTEMPT_MS : options->attempt_ms;
    client->node_count = options->url_count;
    client->map_wanted = true;
    for (size_t i = 0; i < client->node_count; i++) {
        client->nodes[i].url = url_copy(options->urls[i]);
        if (client->nodes[i].url == NULL) return false;
    }
    if (options->zone == NULL) return true;
    client->zone = strdup(options->zone);
    return client->zone != NULL;
}

enum trifecta_error trifecta_open(const struct trifecta_options *options,
                                  struct trifecta_client **out)
{
    if (options->url_count == 0 || options->url_count > NODES_MAX) return TRIFECTA_INVALID;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) return TRIFECTA_NO_MEMORY;
    struct trifecta_client *client = calloc(1, sizeof *client);
    if (client == NULL) return TRIFECTA_NO_MEMORY;
    heap_init(&client->heap, 0);
    pthread_mutex_init(&client->lock, NULL);
    if (!fill(client, options)) {
        trifecta_close(client);
        return TRIFECTA_NO_MEMORY;
    }
    *out = client;
    return TRIFECTA_OK;
}

void trifecta_close(struct trifecta_client *client)
{
    if (client == NULL) return;
    for (size_t i = 0; i < client->node_count; i++) {
        struct node *node = &client->nodes[i];
        while (node->idle_count > 0) curl_easy_cleanup(node->idle[--node->idle_count]);
        free(node->url);
    }
    map_destroy(client->map);
    pthread_mutex_destroy(&client->lock);
    free(client->zone);
    free(client);
}

struct heap *client_heap(struct trifecta_client *client)
{
    return &client->heap;
}

/* --- One attempt --- */

static CURL *connection_take(struct trifecta_client *client, struct node *node)
{
    pthread_mutex_lock(&client->lock);
    CURL *curl = node->idle_count > 0 ? node->idle[--node->idle_count] : NULL;
    pthread_mutex_unlock(&client->lock);
    return curl == NULL ? curl_easy_init() : curl;
}

static void connection_give(struct trifecta_client *client, struct node *node, CURL *curl)
{
    pthread_mutex_lock(&client->lock);
    bool kept = node->idle_count < IDLE_MAX;
    if (kept) node->idle[node->idle_count++] = curl;
    pthread_mutex_unlock(&client->lock);
    if (!kept) curl_easy_cleanup(curl);
}

static size_t on_body(char *data, size_t size, size_t count, void *context)
{
    struct attempt *attempt = context;
    if (size * count > BODY_BYTES_MAX - attempt->body->size) return 0;
    buf_append(attempt->body, data, size * count);
    return attempt->body->failed ? 0 : size * count;
}

/* curl repeats a request by itself when a kept connection breaks without an answer. The node
 * may have done it before it broke. */
static int on_sending(void *context, char *ours, char *theirs, int our_port, int their_port)
{
    struct attempt *attempt = context;
    bool again = attempt->sendings++ > 0;
    return again && !attempt->request->repeatable ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

static void set_options(CURL *curl, const char *url, struct curl_slist *headers,
                        struct attempt *attempt)
{
    const struct client_request *request = attempt->request;
    curl_easy_reset(curl); /* Connections stay. */
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, attempt->error);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*"); /* Which node answers is the point. */
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "libtrifecta/" TRIFECTA_VERSION);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_MAXAGE_CONN, (long)IDLE_SECONDS);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)attempt->timeout_ms);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)attempt->connect_ms);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, attempt);
    curl_easy_setopt(curl, CURLOPT_PREREQFUNCTION, on_sending);
    curl_easy_setopt(curl, CURLOPT_PREREQDATA, attempt);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
    if (request->body.size == 0) return;
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, (const char *)request->body.data);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)request->body.size);
}

static void attempt_run(struct trifecta_client *client, struct node *node, struct attempt *attempt)
{
    struct buf url;
    buf_init(&url, &client->heap);
    buf_append_text(&url, node->url);
    buf_append_slice(&url, attempt->request->path);
    buf_append_u8(&url, '\0');
    buf_clear(attempt->body);
    attempt->result = CURLE_OUT_OF_MEMORY;

    CURL *curl = connection_take(client, node);
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    if (curl != NULL && headers != NULL && !url.failed) {
        set_options(curl, (const char *)url.data, headers, attempt);
        attempt->result = curl_easy_perform(curl);
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &attempt->status);
        curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, NULL);
    }
    curl_slist_free_all(headers);
    if (curl != NULL) connection_give(client, node, curl);
    buf_deinit(&url);
}

/* --- The map --- */

static const struct client_request nodes_request = {
    .method = "GET", .path = SLICE_INITIALIZER("/nodes"), .repeatable = true};
static const struct client_request ranges_request = {
    .method = "GET", .path = SLICE_INITIALIZER("/nodes/all/ranges"), .repeatable = true};

static bool fetch(struct trifecta_client *client, struct node *node,
                  const struct client_request *request, struct buf *body, uint64_t deadline_ms)
{
    uint64_t now = now_ms();
    if (now >= deadline_ms) return false;
    uint64_t left_ms = deadline_ms - now;
    uint32_t bound_ms = left_ms < client->attempt_ms ? (uint32_t)left_ms : client->attempt_ms;
    struct attempt attempt = {
        .request = request, .body = body, .timeout_ms = bound_ms, .connect_ms = bound_ms};
    attempt_run(client, node, &attempt);
    if (attempt.result == CURLE_OK) return attempt.status == 200;
    pthread_mutex_lock(&client->lock);
    node->down_until_ms = now_ms() + DOWN_MS;
    pthread_mutex_unlock(&client->lock);
    return false;
}

/* Who answers at the URL: addresses are the caller's, ids the cluster's. */
static void meet(struct trifecta_client *client, struct node *node, struct buf *body,
                 uint64_t deadline_ms)
{
    uint64_t id;
    char zone[ZONE_SIZE];
    if (!fetch(client, node, &nodes_request, body, deadline_ms)) return;
    if (map_read_self(buf_slice(body), &id, zone, sizeof zone) != STATUS_OK) return;
    pthread_mutex_lock(&client->lock);
    node->id = id;
    memcpy(node->zone, zone, sizeof zone);
    pthread_mutex_unlock(&client->lock);
}

static bool is_up(struct trifecta_client *client, const struct node *node)
{
    pthread_mutex_lock(&client->lock);
    bool up = now_ms() >= node->down_until_ms;
    pthread_mutex_unlock(&client->lock);
    return up;
}

/* Half of the call's time at most, so that the request itself has its own. */
static void map_refresh(struct trifecta_client *client, uint64_t deadline_ms)
{
    struct map *map = NULL;
    struct buf body;
    buf_init(&body, &client->heap);
    for (size_t i = 0; i < client->node_count; i++) {
        struct node *node = &client->nodes[i];
        if (!is_up(client, node)) continue;
        meet(client, node, &body, deadline_ms);
        if (map != NULL || !fetch(client, node, &ranges_request, &body, deadline_ms)) continue;
        if (map_read(&client->heap, buf_slice(&body), &map) != STATUS_OK) map = NULL;
    }
    buf_deinit(&body);
    if (map == NULL) return;
    pthread_mutex_lock(&client->lock);
    struct map *before = client->map;
    client->map = map;
    pthread_mutex_unlock(&client->lock);
    map_destroy(before);
}

/* One thread fetches; the others go on with the map that there is. */
static void map_refresh_if_wanted(struct trifecta_client *client, uint64_t now,
                                  uint64_t deadline_ms)
{
    pthread_mutex_lock(&client->lock);
    bool due = client->map_wanted && client->node_count > 1 &&
               (client->map_asked_ms == 0 || now - client->map_asked_ms >= MAP_MS);
    if (due) {
        client->map_wanted = false;
        client->map_asked_ms = now;
    }
    pthread_mutex_unlock(&client->lock);
    if (due) map_refresh(client, now + (deadline_ms - now) / 2);
}

/* --- Which node, and what its answer means --- */

/* Nodes that failed lately last, then owners first, those of the caller's zone before others. */
static unsigned rank(const struct trifecta_client *client, const struct node *node,
                     const struct client_request *request, uint64_t now)
{
    bool owner = node->id != 0 && map_owns(client->map, node->id, request->low, request->high);
    bool near = client->zone == NULL || strcmp(client->zone, node->zone) == 0;
    return (now < node->down_until_ms ? 4 : 0) + (owner ? 0 : 2) + (near ? 0 : 1);
}

static void order(struct trifecta_client *client, const struct client_request *request,
                  struct node **out)
{
    unsigned ranks[NODES_MAX];
    uint64_t now = now_ms();
    pthread_mutex_lock(&client->lock);
    size_t turn = client->turn++;
    for (size_t i = 0; i < client->node_count; i++) {
        struct node *node = &client->nodes[(turn + i) % client->node_count];
        unsigned worse = rank(client, node, request, now);
        size_t at = i;
        for (; at > 0 && ranks[at - 1] > worse; at--) {
            ranks[at] = ranks[at - 1];
            out[at] = out[at - 1];
        }
        ranks[at] = worse;
        out[at] = node;
    }
    pthread_mutex_unlock(&client->lock);
}

static void mark(struct trifecta_client *client, struct node *node, bool failed)
{
    pthread_mutex_lock(&client->lock);
    node->down_until_ms = failed ? now_ms() + DOWN_MS : 0;
    if (failed) client->map_wanted = true;
    pthread_mutex_unlock(&client->lock);
}

static void copy_text(const json_t *json, const char *name, char *out, size_t size)
{
    const char *text = json_string_value(json_object_get(json, name));
    if (text != NULL) snprintf(out, size, "%s", text);
}

static void describe(const struct attempt *attempt, struct trifecta_problem *problem)
{
    *problem = (struct trifecta_problem){0};
    if (attempt->result != CURLE_OK) {
        const char *text = attempt->error[0] != '\0' ? attempt->error
                                                     : curl_easy_strerror(attempt->result);
        snprintf(problem->detail, sizeof problem->detail, "%s", text);
        return;
    }
    problem->http_status = (int)attempt->status;
    json_t *json = json_parse(buf_slice(attempt->body));
    copy_text(json, "code", problem->code, sizeof problem->code);
    copy_text(json, "detail", problem->detail, sizeof problem->detail);
    json_decref(json);
}

static enum trifecta_error judge_unanswered(const struct attempt *attempt)
{
    if (attempt->sendings > 0 && !attempt->request->repeatable) return TRIFECTA_OUTCOME_UNKNOWN;
    switch (attempt->result) {
    case CURLE_OPERATION_TIMEDOUT:
        return TRIFECTA_TIMED_OUT;
    case CURLE_OUT_OF_MEMORY:
        return TRIFECTA_NO_MEMORY;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return TRIFECTA_INVALID;
    default:
        return TRIFECTA_UNREACHABLE;
    }
}

/* Others may come after the write: a sync that failed, memory that ran out on the way back, a
 * proxy in between. */
static bool did_nothing(const struct attempt *attempt)
{
    static const char *const codes[] = {"no_healthy_owner", "quorum_not_met", "not_ready"};
    char code[48] = "";
    json_t *json = json_parse(buf_slice(attempt->body));
    copy_text(json, "code", code, sizeof code);
    json_decref(json);
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (strcmp(code, codes[i]) == 0) return true;
    }
    return false;
}

static enum trifecta_error judge(const struct attempt *attempt)
{
    if (attempt->result != CURLE_OK) return judge_unanswered(attempt);
    if (attempt->status >= 200 && attempt->status < 300) return TRIFECTA_OK;
    switch (attempt->status) {
    case 404:
        return TRIFECTA_NOT_FOUND;
    case 503:
        if (attempt->request->repeatable || did_nothing(attempt)) return TRIFECTA_UNAVAILABLE;
        return TRIFECTA_OUTCOME_UNKNOWN;
    case 504:
        return attempt->request->repeatable ? TRIFECTA_TIMED_OUT : TRIFECTA_OUTCOME_UNKNOWN;
    case 400:
    case 413:
    case 414:
        return TRIFECTA_INVALID;
    default:
        break;
    }
    if (attempt->status >= 400 && attempt->status < 500) return TRIFECTA_REFUSED;
    return attempt->request->repeatable ? TRIFECTA_PROTOCOL : TRIFECTA_OUTCOME_UNKNOWN;
}

/* Of these alone another node may be asked; see the invariants of client.h. */
static bool may_go_on(enum trifecta_error error)
{
    return error == TRIFECTA_UNAVAILABLE || error == TRIFECTA_UNREACHABLE ||
           error == TRIFECTA_TIMED_OUT;
}

static void pause_ms(uint64_t ms)
{
    struct timespec time = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

struct sending {
    const struct client_request *request;
    struct buf *body;
    struct trifecta_problem *problem;
    uint64_t deadline_ms;
};

/* False: the deadline has passed, and nobody was asked. */
static bool ask(struct trifecta_client *client, struct node *node, const struct sending *sending,
                enum trifecta_error *error)
{
    uint64_t now = now_ms();
    if (now >= sending->deadline_ms) return false;
    uint64_t left_ms = sending->deadline_ms - now;
    uint32_t bound_ms = left_ms < client->attempt_ms ? (uint32_t)left_ms : client->attempt_ms;
    struct attempt attempt = {
        .request = sending->request,
        .body = sending->body,
        /* Giving up on a write early would leave its outcome unknown for nothing. */
        .timeout_ms = sending->request->repeatable ? bound_ms : left_ms,
        .connect_ms = bound_ms,
    };
    attempt_run(client, node, &attempt);
    *error = judge(&attempt);
    mark(client, node, attempt.result != CURLE_OK || attempt.status == 503);
    if (*error != TRIFECTA_OK) describe(&attempt, sending->problem);
    return true;
}

enum trifecta_error client_send(struct trifecta_client *client,
                                const struct client_request *request, struct buf *body,
                                struct trifecta_problem *problem)
{
    uint64_t start = now_ms();
    uint32_t timeout_ms = request->timeout_ms == 0 ? client->timeout_ms : request->timeout_ms;
    struct sending sending = {request, body, problem, start + timeout_ms};
    enum trifecta_error error = TRIFECTA_TIMED_OUT;
    snprintf(problem->detail, sizeof problem->detail, "the deadline passed");

    map_refresh_if_wanted(client, start, sending.deadline_ms);
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct node *nodes[NODES_MAX] = {NULL};
        order(client, request, nodes);
        for (size_t i = 0; i < client->node_count; i++) {
            if (!ask(client, nodes[i], &sending, &error)) return TRIFECTA_TIMED_OUT;
            if (!may_go_on(error)) return error;
        }
        uint64_t wait_ms = (uint64_t)ROUND_PAUSE_MS << round;
        if (round + 1 == ROUNDS || now_ms() + wait_ms >= sending.deadline_ms) break;
        pause_ms(wait_ms);
    }
    return error;
}
