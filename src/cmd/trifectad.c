/* The server program: settings, the engine, the server, signals. */
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/heap.h"
#include "base/math.h"
#include "shell/bus_guard.h"
#include "shell/config.h"
#include "shell/engine.h"
#include "shell/host.h"
#include "shell/log_line.h"
#include "shell/loop.h"
#include "shell/peer_tls.h"
#include "shell/server.h"

enum { MALLOC_LARGE_BYTES = 256 << 10, MALLOC_TRIM_BYTES = 1 << 20, MALLOC_POOL_COUNT = 4 };

enum { EXIT_FAILED = 1, BUILD_BYTES_PER_S = 256 << 20, SCRUB_INTERVAL_S = 60, ADDRESS_BYTES = 320 };

enum { DAY_MS = 24 * 3600 * 1000 };

static uint64_t half_of_memory(void)
{
    return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 2;
}

/* Every connection is a file; so is every run. */
static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static uint64_t memory_of(const struct config *config)
{
    return config->memory_limit_bytes == 0 ? half_of_memory() : config->memory_limit_bytes;
}

/* What is freed has to go back to the system, or memory_limit would bound only what is counted:
 * large pieces lie by themselves (by default malloc() changes its mind about what is large with
 * each one freed), and threads share a few pools. */
static void configure_malloc(void)
{
    mallopt(M_MMAP_THRESHOLD, MALLOC_LARGE_BYTES);
    mallopt(M_TRIM_THRESHOLD, MALLOC_TRIM_BYTES);
    mallopt(M_ARENA_MAX, MALLOC_POOL_COUNT);
}

static struct engine_options engine_options_of(const struct config *config)
{
    struct engine_options options = {
        .store = store_options_default(),
        .done = loop_return_all,
        .sync_interval_ms = (uint32_t)config->sync_interval_ms,
        .build_bytes_per_s = BUILD_BYTES_PER_S,
        .scrub_interval_s = SCRUB_INTERVAL_S,
        .directory = config->data,
    };
    options.store.publish_after_sync = config->sync_interval_ms == 0;
    options.store.gc_age_ms = config->tombstone_gc_days * DAY_MS;
    if (config->node_id != 0) options.store.node_id = (uint16_t)config->node_id;

    /* Two memory tries may stand side by side, and a flush needs as much as one again: half of
     * the memory. The other half is for overlays, connections and caches. */
    options.store.memtrie_bytes_max =
        u64_min(options.store.memtrie_bytes_max, memory_of(config) / 6);
    options.store.memory_bytes_max = memory_of(config);
    options.store.file_bytes = u64_min(options.store.file_bytes, memory_of(config) / 16);
    return options;
}

/* What a cluster that is founded here is set to; one that is joined has its own. */
static struct rangemap_settings settings_of(const struct config *config)
{
    static const enum consistency levels[] = {
        [CONFIG_ONE] = CONSISTENCY_ONE,
        [CONFIG_QUORUM] = CONSISTENCY_QUORUM,
        [CONFIG_ALL] = CONSISTENCY_ALL,
    };
    return (struct rangemap_settings){
        .replication_factor = (uint8_t)config->replication_factor,
        .write_quorum = (uint8_t)config->write_quorum,
        .read_quorum = (uint8_t)config->read_quorum,
        .write_consistency = levels[config->write_consistency],
        .read_consistency = levels[config->read_consistency],
        .sloppy_quorum = config->sloppy_quorum,
        .k_factor = (uint8_t)config->k_factor,
        .shard_min_bytes = config->shard_min_bytes,
        .shard_split_bytes = config->shard_split_bytes,
        .tombstone_gc_ms = config->tombstone_gc_days * DAY_MS,
        .gossip_interval_ms = (uint32_t)config->gossip_interval_ms,
        .max_clock_skew_ms = (uint32_t)config->max_clock_skew_ms,
    };
}

static const char *address_of(const char *host)
{
    return strcmp(host, "localhost") == 0 ? "127.0.0.1" : host;
}

static struct server_limits limits_of(const struct config *config)
{
    return (struct server_limits){
        .http = {(uint32_t)config->max_url_bytes, (uint32_t)config->max_header_bytes},
        .body_bytes_max = config->max_body_bytes,
        .connection_count_max = config->max_connections,
        .idle_timeout_ms = config->idle_timeout_ms,
        .request_timeout_ms = config->request_timeout_ms,
    };
}

static struct server_options server_options_of(const struct config *config)
{
    struct server_options options = {
        .host = config->http.host,
        .port = config->http.port,
        .loop_count = (unsigned)config->threads,
        .limits = limits_of(config),
        /* Beyond loopback the address says nothing: names are checked if they are told. */
        .cross_site = {config_address_is_loopback(&config->http) || *config->allowed_hosts != '\0',
                       slice_from_text(config->allowed_hosts)},
        .version = TRIFECTA_VERSION,
        .answer_cache = true,
        .memory_limit_bytes = memory_of(config),
    };
    if (options.loop_count == 0) options.loop_count = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    if (options.loop_count > SERVER_LOOP_COUNT_MAX) options.loop_count = SERVER_LOOP_COUNT_MAX;
    options.host = address_of(options.host);
    return options;
}

static void print_address(char out[ADDRESS_BYTES], const char *host, unsigned port)
{
    snprintf(out, ADDRESS_BYTES, strchr(host, ':') == NULL ? "%s:%u" : "[%s]:%u", host, port);
}

static void note_certificate(struct peer_tls *tls, const char *key_file)
{
    struct certificate_facts facts;
    struct stat key;
    char end[CERTIFICATE_TIME_BYTES];
    peer_tls_facts(tls, &facts);
    certificate_time_text(facts.period.end_s, end);
    log_line(LOG_LEVEL_INFO, "peer.certificate", log_text("certificate", facts.subject),
             log_text("issuer", facts.issuer), log_text("valid_until", end),
             log_text("sha256", facts.fingerprint));
    if (stat(key_file, &key) == 0 && (key.st_mode & (S_IRWXG | S_IRWXO)) != 0)
        log_line(LOG_LEVEL_WARN, "peer.key_is_open", log_text("file", key_file),
                 log_text("reason", "others than its owner may use it: expected mode 0600"));
}

/* What the files of peer_tls_… say, or NULL where there are none. */
static enum status open_peer_tls(const struct config *config, struct heap *heap,
                                 struct peer_tls **out)
{
    const struct peer_tls_options options = {
        .certificate_file = config->peer_tls_cert_file,
        .key_file = config->peer_tls_key_file,
        .authority_file = config->peer_tls_ca_file,
    };
    char reason[PEER_TLS_REASON_BYTES];
    *out = NULL;
    if (!config_address_is_loopback(&config->peer) && config->peer_insecure)
        log_line(LOG_LEVEL_WARN, "peer.insecure",
                 log_text("reason", "nodes speak in plain text: whoever reaches their addresses "
                                    "reads and writes everything"));
    if (*config->peer_tls_cert_file == '\0') return STATUS_OK;
    enum status status = peer_tls_open(heap, &options, out, reason);
    if (status == STATUS_OK)
        note_certificate(*out, config->peer_tls_key_file);
    else
        log_line(LOG_LEVEL_ERROR, "peer.certificate_refused", log_text("reason", reason));
    return status;
}

/* The node's part in a cluster, which it may turn out not to have. */
static enum status create_host(const struct config *config, struct heap *heap, struct peer_tls *tls,
                               struct host **out)
{
    static char addresses[CONFIG_JOIN_COUNT_MAX][ADDRESS_BYTES];
    static const char *seeds[CONFIG_JOIN_COUNT_MAX];
    for (size_t i = 0; i < config->join.count; i++) {
        const struct config_address *seed = &config->join.items[i];
        print_address(addresses[i], address_of(seed->host), seed->port);
        seeds[i] = addresses[i];
    }
    struct host_options options = {
        .heap = heap,
        .peer_host = address_of(config->peer.host),
        .peer_port = config->peer.port,
        .tls = tls,
        .plain_beyond_loopback = config->peer_insecure,
        .zone = config->zone,
        .seeds = seeds,
        .seed_count = config->join.count,
        .settings = settings_of(config),
        .write_timeout_ms = (uint32_t)u64_min(config->request_timeout_ms, REQUEST_TIMEOUT_MS_MAX),
        .trace = config->log_level == CONFIG_LOG_DEBUG,
        .done = loop_return_all,
    };
    return host_create(&options, out);
}

static void report_recovery(const struct config *config, const struct store_report *report)
{
    log_line(LOG_LEVEL_INFO, "store.opened", log_text("data", config->data),
             log_text("created", report->created ? "true" : "false"),
             log_text("clean_stop", report->clean_stop ? "true" : "false"),
             log_number("replayed_batches", report->replayed_batches),
             log_number("replayed_records", report->replayed_records),
             log_number("replayed_bytes", report->replayed_bytes),
             log_number("leftover_files", report->leftover_files));
    if (report->torn_bytes != 0)
        log_line(LOG_LEVEL_WARN, "log.torn_tail_cut", log_number("bytes", report->torn_bytes));
}

static void explain_listen(const struct config *config, enum status status)
{
    const char *why = status_name(status);
    if (status == STATUS_EXISTS)
        why = "the address is in use: stop who listens there, or choose "
              "another with --http";
    if (status == STATUS_INVALID) why = "not an address of this machine: expected IP:PORT";
    if (status == STATUS_DENIED) why = "not permitted: ports under 1024 need a privilege";
    char http[ADDRESS_BYTES];
    print_address(http, config->http.host, config->http.port);
    log_line(LOG_LEVEL_ERROR, "server.listen_failed", log_text("http", http),
             log_text("reason", why));
}

/* What the command line was, and what came of it. */
struct settings {
    int argument_count;
    char **arguments;
    struct config config;
    struct peer_tls *peer_tls; /* NULL: none. */
};

/* The files may have been replaced; what cannot be used changes nothing. */
static void reload_peer_tls(struct peer_tls *tls, const char *key_file)
{
    char reason[PEER_TLS_REASON_BYTES];
    if (tls == NULL) return;
    if (peer_tls_reload(tls, reason) == STATUS_OK)
        note_certificate(tls, key_file);
    else
        log_line(LOG_LEVEL_ERROR, "peer.certificate_kept", log_text("reason", reason));
}

/* Takes over what may change in a running server; a bad setting changes nothing at all. */
static void reload(struct settings *settings, struct server *server)
{
    struct config *old = &settings->config;
    struct heap heap;
    struct buf message;
    const char *fixed;
    size_t at = 0;
    heap_init(&heap, 0);
    buf_init(&message, &heap);

    struct config *fresh = heap_alloc(&heap, sizeof *fresh);
    enum status status = fresh == NULL ? STATUS_NOMEM
                                       : config_reload(settings->argument_count,
                                                       settings->arguments, fresh, &message);
    if (status == STATUS_OK) {
        while ((fixed = config_next_fixed(old, fresh, &at)) != NULL)
            log_line(LOG_LEVEL_WARN, "config.needs_restart", log_text("setting", fixed));
        const struct server_limits limits = limits_of(fresh);
        server_set_limits(server, &limits);
        log_configure((enum log_level)fresh->log_level, old->log_format == CONFIG_LOG_JSON);
        reload_peer_tls(settings->peer_tls, settings->config.peer_tls_key_file);
        log_line(LOG_LEVEL_INFO, "config.reloaded", log_text("signal", "HUP"));
    } else {
        buf_append_u8(&message, 0);
        log_line(LOG_LEVEL_ERROR, "config.reload_failed",
                 log_text("reason", message.failed ? status_name(status) : (char *)message.data));
    }
    heap_free(&heap, fresh);
    buf_deinit(&message);
}

/* Signals are taken by one thread that waits for them, so all others never see one. */
static void wait_for_end(const sigset_t *signals, struct settings *settings, struct server *server)
{
    int number;
    do {
        if (sigwait(signals, &number) != 0) return;
        if (number == SIGHUP) reload(settings, server);
    } while (number == SIGHUP);
    log_line(LOG_LEVEL_INFO, "server.draining",
             log_text("signal", number == SIGTERM ? "TERM" : "INT"));
}

/* Serves until it is told to end. */
static int serve(struct settings *settings, const sigset_t *signals, struct heap *heap)
{
    const struct config *config = &settings->config;
    struct host *host;
    struct engine *engine;
    struct server *server;
    struct store_report report;
    char http[ADDRESS_BYTES];
    struct engine_options engine_options = engine_options_of(config);
    struct server_options server_options = server_options_of(config);

    enum status status = create_host(config, heap, settings->peer_tls, &host);
    if (status != STATUS_OK) return EXIT_FAILED;
    engine_options.open_host = host_attach;
    engine_options.open_context = host;
    engine_options.store.keep_transfers = true;
    status = engine_open(heap, &engine_options, &engine, &report);
    if (status != STATUS_OK) {
        host_destroy(host);
        log_line(LOG_LEVEL_ERROR, "store.open_failed", log_text("data", config->data),
                 log_text("status", status_name(status)), log_text("reason", report.detail));
        return EXIT_FAILED;
    }
    report_recovery(config, &report);
    if (host_state(host) != HOST_ALONE) server_options.cluster = host;
    status = server_start(heap, engine, &server_options, &server);
    if (status != STATUS_OK) {
        explain_listen(config, status);
        engine_close(engine);
        host_destroy(host);
        return EXIT_FAILED;
    }
    print_address(http, server_options.host, server->port);
    log_line(LOG_LEVEL_INFO, "server.started", log_text("version", TRIFECTA_VERSION),
             log_text("http", http), log_number("threads", server_options.loop_count),
             log_text("sync", config->sync_interval_ms == 0 ? "always" : "interval"));
    wait_for_end(signals, settings, server);
    host_leave(host);
    server_stop(server);
    engine_close(engine);
    host_destroy(host);
    return 0;
}

static int run(struct settings *settings, const sigset_t *signals)
{
    static struct heap heap;
    heap_init(&heap, 0);
    if (open_peer_tls(&settings->config, &heap, &settings->peer_tls) != STATUS_OK)
        return EXIT_FAILED;
    int exit_code = serve(settings, signals, &heap);
    peer_tls_close(settings->peer_tls);
    if (exit_code == 0)
        log_line(LOG_LEVEL_INFO, "server.stopped",
                 log_number("memory_bytes", heap_used_bytes(&heap)));
    return exit_code;
}

int main(int argument_count, char **arguments)
{
    static struct settings settings;
    struct config *config = &settings.config;
    sigset_t signals;
    int exit_code;

    if (!config_load(argument_count, arguments, config, &exit_code)) return exit_code;
    settings.argument_count = argument_count;
    settings.arguments = arguments;
    log_configure((enum log_level)config->log_level, config->log_format == CONFIG_LOG_JSON);
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    raise_file_limit();
    configure_malloc();
    if (bus_guard_install() != STATUS_OK) {
        log_line(LOG_LEVEL_ERROR, "server.start_failed",
                 log_text("reason", "no handler for bus errors"));
        return EXIT_FAILED;
    }
    return run(&settings, &signals);
}
