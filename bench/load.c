/* Load generator: the same client for every server, so that a ratio between servers is not
 * one between clients. HTTP/1.1 or RESP, one thread, epoll, closed loop.
 *
 * Each of C connections sends D requests in one write and the next D when all replies are
 * here. The latency of a request is the time from that write to the read that completed its
 * reply.
 *
 *   load -m http|resp -p PORT -t TEMPLATE [-b BODY] [-f FILE] [-o FIRST_LINE]
 *        [-c CONNECTIONS] [-d DEPTH] (-s SECONDS | -n REQUESTS) [-i PID,PID...]
 *
 * FILE has a text a line, or a text, a tab and a score; lines are used in turn, from FIRST_LINE
 * on. TEMPLATE is the command, split at blanks, or the path of a GET, or of a POST of BODY;
 * {} in it stands for the text, {s} for the score. -i names the server's processes, whose
 * processor time is read before and after. Prints one line of name=value. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

enum { EVENT_COUNT = 256, READ_BYTES_MIN = 64 << 10, COMPACT_BYTES = 1 << 20 };

struct connection {
    int fd;
    unsigned due; /* Replies that this turn still waits for. */
    uint64_t sent_ns;
    struct bytes out, in;
    size_t written, parsed;
};

struct load {
    struct options options;
    struct lines lines;
    struct template template, body;
    struct latencies latencies;
    struct connection *connections;
    size_t line;
    uint64_t left, end_ns; /* Requests, or the time, at which no new turn starts. */
    unsigned waiting;      /* Connections with replies due. */
    uint64_t requests, errors, reply_bytes;
};

_Noreturn static void fail(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void connection_open(struct load *load, struct connection *connection, int poll)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)load->options.port),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int one = 1;
    connection->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connection->fd < 0) fail("socket");
    if (connect(connection->fd, (struct sockaddr *)&address, sizeof address) != 0) fail("connect");
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (fcntl(connection->fd, F_SETFL, O_NONBLOCK) != 0) fail("fcntl");
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = connection};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, connection->fd, &event) != 0) fail("epoll_ctl");
}

static void request_append(struct load *load, struct bytes *out)
{
    const struct line *line = &load->lines.lines[load->line];
    load->line = load->line + 1 == load->lines.count ? 0 : load->line + 1;
    if (load->options.is_http)
        http_request_append(&load->template, load->options.body == NULL ? NULL : &load->body, line,
                            out);
    else
        resp_request_append(&load->template, line, out);
}

static void connection_write(struct connection *connection)
{
    while (connection->written < connection->out.size) {
        ssize_t size = write(connection->fd, connection->out.data + connection->written,
                             connection->out.size - connection->written);
        if (size < 0 && errno == EAGAIN) return;
        if (size < 0) fail("write");
        connection->written += (size_t)size;
    }
}

static void turn_start(struct load *load, struct connection *connection)
{
    connection->out.size = connection->written = 0;
    if (load->end_ns != 0 ? now_ns() >= load->end_ns : load->left == 0) return;
    for (unsigned i = 0; i < load->options.depth; i++) {
        if (load->end_ns == 0 && load->left-- == 0) {
            load->left = 0;
            break;
        }
        request_append(load, &connection->out);
        connection->due++;
    }
    connection->sent_ns = now_ns();
    load->waiting++;
    connection_write(connection);
}

static void reply_take(struct load *load, const struct connection *connection, size_t size,
                       bool is_error, uint64_t now)
{
    if (is_error && load->errors++ == 0)
        fprintf(stderr, "load: first error: %.*s\n", (int)(size < 300 ? size : 300),
                (const char *)connection->in.data + connection->parsed);
    load->requests++;
    load->reply_bytes += size;
    latencies_add(&load->latencies, now - connection->sent_ns);
}

static void replies_parse(struct load *load, struct connection *connection)
{
    uint64_t now = now_ns();
    while (connection->due != 0) {
        const char *data = connection->in.data + connection->parsed;
        size_t rest = connection->in.size - connection->parsed;
        bool is_error = false;
        size_t size = load->options.is_http ? http_reply_size(data, rest, &is_error)
                                            : resp_reply_size(data, rest, &is_error);
        if (size == 0) break;
        reply_take(load, connection, size, is_error, now);
        connection->parsed += size;
        connection->due--;
    }
    struct bytes *in = &connection->in;
    if (connection->parsed != in->size && connection->parsed < COMPACT_BYTES) return;
    memmove(in->data, in->data + connection->parsed, in->size - connection->parsed);
    in->size -= connection->parsed;
    connection->parsed = 0;
}

static void connection_step(struct load *load, struct connection *connection)
{
    connection_write(connection);
    while (connection->due != 0) {
        bytes_reserve(&connection->in, READ_BYTES_MIN);
        ssize_t size = read(connection->fd, connection->in.data + connection->in.size,
                            connection->in.capacity - connection->in.size);
        if (size < 0 && errno == EAGAIN) return;
        if (size <= 0) fail(size == 0 ? "the server closed" : "read");
        connection->in.size += (size_t)size;
        replies_parse(load, connection);
        if (connection->due != 0) continue;
        load->waiting--;
        turn_start(load, connection);
    }
}

static void run(struct load *load, int poll)
{
    static struct epoll_event events[EVENT_COUNT];
    for (unsigned i = 0; i < load->options.connection_count; i++)
        turn_start(load, &load->connections[i]);
    while (load->waiting != 0) {
        int count = epoll_wait(poll, events, EVENT_COUNT, 60000);
        if (count == 0) fail("no reply for a minute");
        for (int i = 0; i < count; i++) connection_step(load, events[i].data.ptr);
    }
}

static void report(const struct load *load, double seconds, double client_s, double server_s)
{
    double requests = load->requests == 0 ? 1 : (double)load->requests;
    printf("requests=%llu errors=%llu per_s=%.1f p50_us=%.2f p99_us=%.2f reply_bytes=%.1f "
           "client_us=%.3f server_us=%.3f\n",
           (unsigned long long)load->requests, (unsigned long long)load->errors, requests / seconds,
           latencies_quantile_us(&load->latencies, 0.5),
           latencies_quantile_us(&load->latencies, 0.99), (double)load->reply_bytes / requests,
           client_s * 1e6 / requests, server_s * 1e6 / requests);
}

int main(int count, char **arguments)
{
    static struct load load;
    if (!options_parse(count, arguments, &load.options)) {
        fprintf(stderr, "usage: load -m http|resp -p PORT -t TEMPLATE [-b BODY] [-f FILE] "
                        "[-o FIRST_LINE] [-c CONNECTIONS] [-d DEPTH] (-s SECONDS | -n REQUESTS) "
                        "[-i PIDS]\n");
        return 2;
    }
    lines_read(load.options.file, &load.lines);
    load.line = load.options.first_line % load.lines.count;
    template_parse(load.options.path, !load.options.is_http, &load.template);
    if (load.options.body != NULL) template_parse(load.options.body, false, &load.body);

    int poll = epoll_create1(0);
    if (poll < 0) fail("epoll_create1");
    load.connections = calloc(load.options.connection_count, sizeof *load.connections);
    if (load.connections == NULL) fail("calloc");
    for (unsigned i = 0; i < load.options.connection_count; i++)
        connection_open(&load, &load.connections[i], poll);

    double server_s = processes_cpu_s(load.options.processes);
    double client_s = own_cpu_s();
    uint64_t start = now_ns();
    load.left = load.options.request_count;
    if (load.options.seconds > 0) load.end_ns = start + (uint64_t)(load.options.seconds * 1e9);
    run(&load, poll);
    double seconds = (double)(now_ns() - start) / 1e9;
    client_s = own_cpu_s() - client_s;
    server_s = processes_cpu_s(load.options.processes) - server_s;
    report(&load, seconds, client_s, server_s);
    return 0;
}
