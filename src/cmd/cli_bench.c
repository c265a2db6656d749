/* A closed loop of searches: every connection keeps `depth` requests under way, and sends the
 * next one when an answer is whole. One thread, epoll. */
#include "cmd/cli.h"

#include "cmd/histogram.h"

#include <curl/curl.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BENCH_CONNECTIONS, BENCH_DEPTH, BENCH_DURATION, BENCH_LIMIT };
enum { DEPTH_MAX = 256, INPUT_BYTES = 256 << 10, EVENT_COUNT = 256 };

struct bench_connection {
    int fd;
    uint64_t sent_ns[DEPTH_MAX]; /* A ring: answers come in the order of requests. */
    unsigned first, under_way;
    struct buf output;
    size_t input_size;
    uint8_t *input; /* INPUT_BYTES. */
    bool waits_to_write;
};

struct bench {
    struct cli *cli;
    const char *host; /* As curl took the URL apart; freed by curl. */
    const char *port;
    uint64_t connection_count, depth, duration_s, limit;
    struct buf *requests; /* Complete ones, taken in turn. */
    size_t request_count, next_request;
    struct bench_connection *connections;
    int epoll;
    struct histogram latencies_us;
    uint64_t answers, errors, bytes;
    const char *failure; /* Ends the run. */
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* --- Requests --- */

static void build_request(struct bench *bench, const char *prefix, struct buf *out)
{
    struct buf path = cli_path(bench->cli, "/search");
    char limit[24];
    snprintf(limit, sizeof limit, "%llu", (unsigned long long)bench->limit);
    http_query_append(&path, "q", slice_from_text(prefix));
    http_query_append(&path, "limit", slice_from_text(limit));
    buf_init(out, &bench->cli->heap);
    buf_printf(out, "GET %.*s HTTP/1.1\r\nHost: %s\r\n\r\n", (int)path.size,
               (const char *)path.data, bench->host);
    buf_deinit(&path);
}

static bool build_requests(struct bench *bench, const struct cli_arguments *arguments)
{
    /* Without prefixes: what somebody has typed after the first letter. */
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
    size_t count = arguments->word_count > 0 ? arguments->word_count : sizeof letters - 1;
    bench->requests = calloc(count, sizeof *bench->requests);
    if (bench->requests == NULL) return false;
    for (; bench->request_count < count; bench->request_count++) {
        size_t i = bench->request_count;
        char letter[2] = {arguments->word_count > 0 ? '\0' : letters[i], '\0'};
        build_request(bench, arguments->word_count > 0 ? arguments->words[i] : letter,
                      &bench->requests[i]);
    }
    return true;
}

/* --- Connections --- */

static int connect_to(const struct bench *bench)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list;
    if (getaddrinfo(bench->host, bench->port, &hints, &list) != 0) return -1;
    int fd = -1;
    for (struct addrinfo *each = list; each != NULL && fd < 0; each = each->ai_next) {
        fd = socket(each->ai_family, each->ai_socktype | SOCK_CLOEXEC, each->ai_protocol);
        if (fd < 0 || connect(fd, each->ai_addr, each->ai_addrlen) == 0) continue;
        close(fd);
        fd = -1;
    }
    freeaddrinfo(list);
    int on = 1;
    if (fd >= 0) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static void watch(struct bench *bench, struct bench_connection *connection, int operation)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    if (connection->waits_to_write) event.events |= EPOLLOUT;
    if (epoll_ctl(bench->epoll, operation, connection->fd, &event) != 0) {
        bench->failure = strerror(errno);
    }
}

static void flush(struct bench *bench, struct bench_connection *connection)
{
    struct buf *output = &connection->output;
    ssize_t sent = 0;
    if (output->size > 0) {
        sent = send(connection->fd, output->data, output->size, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    if (sent < 0 && errno != EAGAIN) {
        bench->failure = strerror(errno);
        return;
    }
    if (sent > 0) buf_consume(output, (size_t)sent);
    bool waits = output->size > 0;
    if (waits == connection->waits_to_write) return;
    connection->waits_to_write = waits;
    watch(bench, connection, EPOLL_CTL_MOD);
}

static void fill(struct bench *bench, struct bench_connection *connection)
{
    while (connection->under_way < bench->depth) {
        unsigned at = (connection->first + connection->under_way++) % DEPTH_MAX;
        connection->sent_ns[at] = now_ns();
        buf_append_slice(&connection->output,
                         buf_slice(&bench->requests[bench->next_request++ % bench->request_count]));
    }
    flush(bench, connection);
}

/* --- Answers --- */

/* The value of Content-Length in a head, or -1. */
static long content_length(const char *head, size_t size)
{
    static const char name[] = "\r\ncontent-length:";
    for (size_t i = 0; i + sizeof name < size; i++) {
        if (strncasecmp(head + i, name, sizeof name - 1) == 0) {
            return strtol(head + i + sizeof name - 1, NULL, 10);
        }
    }
    return -1;
}

/* Takes one whole answer off the input; its size, or 0 when it is not whole yet. */
static size_t take_answer(struct bench *bench, const uint8_t *data, size_t size)
{
    const uint8_t *end = memmem(data, size, "\r\n\r\n", 4);
    if (end == NULL) {
        if (size == INPUT_BYTES) bench->failure = "the node's answer is no HTTP";
        return 0;
    }
    size_t head_size = (size_t)(end - data) + 4;
    long length = content_length((const char *)data, head_size);
    if (length < 0 || (size_t)length > INPUT_BYTES - head_size) {
        bench->failure = "an answer without a length, or a very long one";
        return 0;
    }
    if (size < head_size + (size_t)length) return 0;
    if (memcmp(data, "HTTP/1.1 200 ", 13) != 0) bench->errors++;
    return head_size + (size_t)length;
}

static void take_answers(struct bench *bench, struct bench_connection *connection)
{
    size_t done = 0;
    uint64_t now = now_ns();
    while (connection->under_way > 0) {
        size_t size = take_answer(bench, connection->input + done, connection->input_size - done);
        if (size == 0) break;
        done += size;
        histogram_add(&bench->latencies_us, (now - connection->sent_ns[connection->first]) / 1000);
        connection->first = (connection->first + 1) % DEPTH_MAX;
        connection->under_way--;
        bench->answers++;
    }
    memmove(connection->input, connection->input + done, connection->input_size - done);
    connection->input_size -= done;
    bench->bytes += done;
}

static void receive(struct bench *bench, struct bench_connection *connection)
{
    ssize_t got = recv(connection->fd, connection->input + connection->input_size,
                       INPUT_BYTES - connection->input_size, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        bench->failure = got == 0 ? "the node closed a connection" : strerror(errno);
        return;
    }
    connection->input_size += (size_t)got;
    take_answers(bench, connection);
    fill(bench, connection);
}

/* --- The run --- */

static bool start(struct bench *bench)
{
    bench->epoll = epoll_create1(EPOLL_CLOEXEC);
    bench->connections = calloc(bench->connection_count, sizeof *bench->connections);
    if (bench->epoll < 0 || bench->connections == NULL) return false;
    for (size_t i = 0; i < bench->connection_count; i++) bench->connections[i].fd = -1;
    for (size_t i = 0; i < bench->connection_count && bench->failure == NULL; i++) {
        struct bench_connection *connection = &bench->connections[i];
        buf_init(&connection->output, &bench->cli->heap);
        connection->input = malloc(INPUT_BYTES);
        connection->fd = connect_to(bench);
        if (connection->fd < 0 || connection->input == NULL) return false;
        watch(bench, connection, EPOLL_CTL_ADD);
    }
    for (size_t i = 0; i < bench->connection_count && bench->failure == NULL; i++) {
        fill(bench, &bench->connections[i]);
    }
    return true;
}

static double run(struct bench *bench)
{
    struct epoll_event events[EVENT_COUNT];
    uint64_t begin = now_ns();
    uint64_t end = begin + bench->duration_s * 1000000000;
    uint64_t now = begin;
    while (now < end && bench->failure == NULL && !http_client_interrupted) {
        int count = epoll_wait(bench->epoll, events, EVENT_COUNT, 100);
        for (int i = 0; i < count && bench->failure == NULL; i++) {
            struct bench_connection *connection = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) flush(bench, connection);
            if (events[i].events & ~(uint32_t)EPOLLOUT) receive(bench, connection);
        }
        now = now_ns();
    }
    return (double)(now - begin) / 1e9;
}

static void print_results(const struct bench *bench, double seconds)
{
    const struct histogram *latencies = &bench->latencies_us;
    double rate = (double)bench->answers / seconds;
    unsigned long long p50 = histogram_quantile(latencies, 0.5);
    unsigned long long p99 = histogram_quantile(latencies, 0.99);
    unsigned long long p999 = histogram_quantile(latencies, 0.999);
    unsigned long long most = latencies->most;
    unsigned long long answers = bench->answers;
    unsigned long long errors = bench->errors;
    if (bench->cli->json) {
        printf("{\"seconds\":%.3f,\"requests\":%llu,\"errors\":%llu,\"rps\":%.0f,\"p50_us\":%llu,"
               "\"p99_us\":%llu,\"p999_us\":%llu,\"max_us\":%llu}\n",
               seconds, answers, errors, rate, p50, p99, p999, most);
        return;
    }
    printf("%llu connections, depth %llu, %.1f s\n", (unsigned long long)bench->connection_count,
           (unsigned long long)bench->depth, seconds);
    printf("%llu requests, %llu errors, %.1f MiB\n", answers, errors,
           (double)bench->bytes / (1 << 20));
    printf("%.0f requests a second\n", rate);
    printf("latency: p50 %llu us, p99 %llu us, p999 %llu us, max %llu us\n", p50, p99, p999, most);
}

static void finish(struct bench *bench)
{
    for (size_t i = 0; bench->connections != NULL && i < bench->connection_count; i++) {
        struct bench_connection *connection = &bench->connections[i];
        if (connection->fd >= 0) close(connection->fd);
        if (connection->input == NULL) continue;
        free(connection->input);
        buf_deinit(&connection->output);
    }
    for (size_t i = 0; i < bench->request_count; i++) buf_deinit(&bench->requests[i]);
    if (bench->epoll >= 0) close(bench->epoll);
    free(bench->connections);
    free(bench->requests);
}

static bool read_flags(struct bench *bench, const char *const *flags)
{
    const struct {
        const char *name;
        const char *text;
        uint64_t most;
        uint64_t *out;
    } numbers[] = {
        {"--connections", flags[BENCH_CONNECTIONS], 10000, &bench->connection_count},
        {"--depth", flags[BENCH_DEPTH], DEPTH_MAX, &bench->depth},
        {"--duration", flags[BENCH_DURATION], 86400, &bench->duration_s},
        {"--limit", flags[BENCH_LIMIT], 1000, &bench->limit},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (numbers[i].text == NULL) continue;
        if (!cli_number(numbers[i].name, numbers[i].text, 1, numbers[i].most, numbers[i].out)) {
            return false;
        }
    }
    return true;
}

static enum cli_exit measure(struct bench *bench, const struct cli_arguments *arguments)
{
    if (!build_requests(bench, arguments) || !start(bench)) {
        fprintf(stderr, "trifecta: %s: cannot connect\n", bench->cli->url);
        return CLI_CONNECTION;
    }
    double seconds = run(bench);
    if (bench->failure != NULL) {
        fprintf(stderr, "trifecta: %s: %s\n", bench->cli->url, bench->failure);
        return CLI_CONNECTION;
    }
    print_results(bench, seconds);
    if (http_client_interrupted) return CLI_INTERRUPTED;
    return bench->errors == 0 ? CLI_DONE : CLI_FAILED;
}

enum cli_exit cli_bench(struct cli *cli, const struct cli_arguments *arguments)
{
    struct bench *bench = calloc(1, sizeof *bench);
    CURLU *url = curl_url();
    char *host = NULL;
    char *port = NULL;
    char *scheme = NULL;
    enum cli_exit code = CLI_USAGE;
    if (bench == NULL) return CLI_FAILED;
    *bench = (struct bench){.cli = cli, .epoll = -1, .connection_count = 16, .depth = 1};
    bench->duration_s = 10;
    bench->limit = 10;
    bool good = curl_url_set(url, CURLUPART_URL, cli->url, CURLU_DEFAULT_SCHEME) == CURLUE_OK &&
                curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
                curl_url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK;
    if (!good || strcmp(scheme, "http") != 0) {
        cli_usage_error("bench: '%s' is not an address of the form http://HOST:PORT", cli->url);
    } else if (read_flags(bench, arguments->flags)) {
        bench->host = host;
        bench->port = port;
        code = measure(bench, arguments);
        finish(bench);
    }
    curl_free(host);
    curl_free(port);
    curl_free(scheme);
    curl_url_cleanup(url);
    free(bench);
    return code;
}
