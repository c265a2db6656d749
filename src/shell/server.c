#include "shell/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shell/clock.h"
#include "shell/loop.h"

static enum status status_of_errno(void)
{
    switch (errno) {
    case EADDRINUSE:
        return STATUS_EXISTS;
    case EACCES:
    case EPERM:
        return STATUS_DENIED;
    case EADDRNOTAVAIL:
        return STATUS_INVALID;
    default:
        return STATUS_IO;
    }
}

/* The first loop takes the address for itself, so that a second server is refused; the
 * others share it. */
static enum status bind_socket(struct server *server, bool first, int *out)
{
    struct sockaddr_storage address = {0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&address;
    socklen_t size = sizeof *v4;
    int one = 1;

    if (inet_pton(AF_INET, server->options.host, &v4->sin_addr) == 1) {
        address.ss_family = AF_INET;
        v4->sin_port = htons(server->port);
    } else if (inet_pton(AF_INET6, server->options.host, &v6->sin6_addr) == 1) {
        address.ss_family = AF_INET6;
        v6->sin6_port = htons(server->port);
        size = sizeof *v6;
    } else {
        return STATUS_INVALID;
    }
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return STATUS_IO;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);

    /* Without SO_REUSEPORT on either side the bind fails where somebody else listens. */
    if (first && bind(fd, (struct sockaddr *)&address, size) != 0) {
        enum status status = status_of_errno();
        close(fd);
        return status;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
    if (!first && bind(fd, (struct sockaddr *)&address, size) != 0) {
        enum status status = status_of_errno();
        close(fd);
        return status;
    }
    if (first && getsockname(fd, (struct sockaddr *)&address, &size) == 0)
        server->port = ntohs(address.ss_family == AF_INET ? v4->sin_port : v6->sin6_port);
    *out = fd;
    return STATUS_OK;
}

enum status server_start(struct heap *heap, struct engine *engine,
                         const struct server_options *options, struct server **out)
{
    struct server *server = heap_zalloc(heap, sizeof *server);
    if (server == NULL) return STATUS_NOMEM;
    server->heap = heap;
    server->engine = engine;
    server->options = *options;
    server->port = options->port;
    server->started_us = clock_monotonic_us();
    server->loops = heap_zalloc(heap, options->loop_count * sizeof *server->loops);
    enum status status = server->loops == NULL ? STATUS_NOMEM : STATUS_OK;

    int fds[SERVER_LOOP_COUNT_MAX];
    unsigned bound = 0;
    for (; status == STATUS_OK && bound < options->loop_count; bound++) {
        status = bind_socket(server, bound == 0, &fds[bound]);
        if (status != STATUS_OK) break;
    }
    for (unsigned i = 0; i < bound; i++) {
        if (status != STATUS_OK) {
            close(fds[i]);
            continue;
        }
        status = loop_open(&server->loops[i], server, fds[i]);
        if (status == STATUS_OK) server->loop_count++;
    }
    for (unsigned i = 0; status == STATUS_OK && i < server->loop_count; i++)
        status = loop_start(&server->loops[i]);
    if (status != STATUS_OK) {
        server_stop(server);
        return status;
    }
    *out = server;
    return STATUS_OK;
}

void server_stop(struct server *server)
{
    if (server == NULL) return;
    atomic_store(&server->draining, true);
    /* All at once: their times to finish must not add up. */
    for (unsigned i = 0; i < server->loop_count; i++) loop_begin_stop(&server->loops[i]);
    for (unsigned i = 0; i < server->loop_count; i++) loop_stop(&server->loops[i]);
    heap_free(server->heap, server->loops);
    heap_free(server->heap, server);
}

void server_set_limits(struct server *server, const struct server_limits *limits)
{
    for (unsigned i = 0; i < server->loop_count; i++) loop_set_limits(&server->loops[i], limits);
}

static const char *not_ready(const struct server *server)
{
    if (server->options.cluster == NULL) return NULL;
    switch (host_state(server->options.cluster)) {
    case HOST_JOINS:
        return "the node asks to join its cluster";
    case HOST_STARTS:
        return "the start of the node is not durable yet";
    case HOST_AWAY:
        return "the node waits to hear from others whether anything has changed in the cluster";
    case HOST_KEPT_OUT:
        return "the node is a member of its cluster no more";
    case HOST_STOPPED:
        return "the node takes no part in its cluster any more";
    case HOST_ALONE:
    case HOST_TAKES_PART:
        break;
    }
    return NULL;
}

void server_facts(struct server *server, struct server_facts *facts)
{
    *facts = (struct server_facts){0};
    engine_stats(server->engine, &facts->engine);
    for (unsigned i = 0; i < server->loop_count; i++)
        facts->counters[i] = &server->loops[i].reader.counters;
    facts->node = (struct node_facts){
        .store = facts->engine.store,
        .version = server->options.version,
        .damaged_file = facts->engine.damaged_file[0] == '\0' ? NULL : facts->engine.damaged_file,
        .job_name = facts->engine.job_name[0] == '\0' ? NULL : facts->engine.job_name,
        .not_ready = not_ready(server),
        .draining = atomic_load(&server->draining),
        .uptime_s = (clock_monotonic_us() - server->started_us) / 1000000,
        .memory_bytes = heap_used_bytes(server->heap),
        .memory_limit_bytes = server->options.memory_limit_bytes,
        .queue_count = facts->engine.queue_count,
        .connection_count = atomic_load(&server->connection_count),
        .sync_us_sum = facts->engine.sync_us_sum,
        .sync_us_max = facts->engine.sync_us_max,
        .counters = facts->counters,
        .counter_count = server->loop_count,
        .in_cluster = server->options.cluster != NULL,
    };
    if (facts->node.in_cluster) host_facts(server->options.cluster, &facts->node.cluster);
}
