#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

_Noreturn static void fail(const char *what)
{
    perror(what);
    exit(1);
}

bool options_parse(int count, char **arguments, struct options *options)
{
    *options = (struct options){.connection_count = 1, .depth = 1};
    bool has_mode = false;
    for (int option; (option = getopt(count, arguments, "m:p:t:b:f:o:c:d:s:n:i:")) != -1;) {
        switch (option) {
        case 'm':
            options->is_http = strcmp(optarg, "http") == 0;
            has_mode = options->is_http || strcmp(optarg, "resp") == 0;
            break;
        case 'p':
            options->port = atoi(optarg);
            break;
        case 't':
            options->path = optarg;
            break;
        case 'b':
            options->body = optarg;
            break;
        case 'f':
            options->file = optarg;
            break;
        case 'o':
            options->first_line = strtoull(optarg, NULL, 10);
            break;
        case 'c':
            options->connection_count = (unsigned)atoi(optarg);
            break;
        case 'd':
            options->depth = (unsigned)atoi(optarg);
            break;
        case 's':
            options->seconds = atof(optarg);
            break;
        case 'n':
            options->request_count = strtoull(optarg, NULL, 10);
            break;
        case 'i':
            options->processes = optarg;
            break;
        default:
            return false;
        }
    }
    return has_mode && options->port > 0 && options->path != NULL && options->depth > 0 &&
           options->connection_count > 0 && (options->seconds > 0 || options->request_count > 0);
}

void bytes_reserve(struct bytes *bytes, size_t more)
{
    if (bytes->capacity - bytes->size >= more) return;
    bytes->capacity = (bytes->size + more) * 2;
    bytes->data = realloc(bytes->data, bytes->capacity);
    if (bytes->data == NULL) fail("load");
}

void bytes_append(struct bytes *bytes, const void *data, size_t size)
{
    if (size == 0) return;
    bytes_reserve(bytes, size);
    memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
}

static struct line line_of(char *text, size_t size)
{
    if (size > 0 && text[size - 1] == '\n') text[--size] = 0;
    struct line line = {text, "1", size, 1};
    char *tab = memchr(text, '\t', size);
    if (tab != NULL) {
        line.text_size = (size_t)(tab - text);
        line.score = tab + 1;
        line.score_size = size - line.text_size - 1;
    }
    return line;
}

void lines_read(const char *path, struct lines *lines)
{
    static struct line empty = {"", "1", 0, 1};
    *lines = (struct lines){&empty, 1};
    if (path == NULL) return;
    FILE *file = fopen(path, "r");
    if (file == NULL) fail(path);
    *lines = (struct lines){NULL, 0};
    size_t capacity = 0;
    for (;;) {
        char *text = NULL;
        size_t room = 0;
        ssize_t size = getline(&text, &room, file);
        if (size <= 0) {
            free(text);
            break;
        }
        if (lines->count == capacity) {
            capacity = capacity == 0 ? 1024 : capacity * 2;
            lines->lines = realloc(lines->lines, capacity * sizeof *lines->lines);
            if (lines->lines == NULL) fail("load");
        }
        lines->lines[lines->count++] = line_of(text, (size_t)size);
    }
    fclose(file);
    if (lines->count == 0) *lines = (struct lines){&empty, 1};
}

static size_t bucket_of(uint64_t ns)
{
    if (ns >> LATENCY_STEP_BITS == 0) return ns;
    unsigned shift = 63 - (unsigned)__builtin_clzll(ns) - LATENCY_STEP_BITS;
    size_t bucket = ((size_t)(shift + 1) << LATENCY_STEP_BITS) +
                    (size_t)((ns >> shift) & ((1 << LATENCY_STEP_BITS) - 1));
    return bucket < LATENCY_BUCKET_COUNT ? bucket : LATENCY_BUCKET_COUNT - 1;
}

static double bucket_ns(size_t bucket)
{
    size_t step = bucket & ((1 << LATENCY_STEP_BITS) - 1);
    if (bucket >> LATENCY_STEP_BITS == 0) return (double)step;
    return (double)(((uint64_t)step | 1 << LATENCY_STEP_BITS)
                    << ((bucket >> LATENCY_STEP_BITS) - 1));
}

void latencies_add(struct latencies *latencies, uint64_t ns)
{
    latencies->counts[bucket_of(ns)]++;
}

double latencies_quantile_us(const struct latencies *latencies, double quantile)
{
    uint64_t total = 0, below = 0;
    for (size_t i = 0; i < LATENCY_BUCKET_COUNT; i++) total += latencies->counts[i];
    for (size_t i = 0; i < LATENCY_BUCKET_COUNT; i++) {
        below += latencies->counts[i];
        if (below != 0 && (double)below >= quantile * (double)total) return bucket_ns(i) / 1000;
    }
    return 0;
}

static uint64_t clock_ns(clockid_t id)
{
    struct timespec time;
    clock_gettime(id, &time);
    return (uint64_t)time.tv_sec * UINT64_C(1000000000) + (uint64_t)time.tv_nsec;
}

uint64_t now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

double own_cpu_s(void)
{
    return (double)clock_ns(CLOCK_PROCESS_CPUTIME_ID) / 1e9;
}

/* The process's own clock counts to the nanosecond; /proc/PID/stat counts ticks of 10 ms. */
double processes_cpu_s(const char *processes)
{
    double seconds = 0;
    for (const char *at = processes; at != NULL; at = strchr(at, ',')) {
        if (*at == ',') at++;
        clockid_t id;
        if (clock_getcpuclockid((pid_t)atoi(at), &id) != 0) {
            fprintf(stderr, "load: no process %s\n", at);
            exit(1);
        }
        seconds += (double)clock_ns(id) / 1e9;
    }
    return seconds;
}
