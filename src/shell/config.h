/* Settings of a node: defaults, then the YAML file, then TRIFECTA_* in the environment, then
 * flags; the later one wins.
 *
 * An unknown or bad setting is an error that says where it stands (file:line:column, the
 * variable, the flag), what was expected, and the nearest name. A setting `a_b` is the
 * variable TRIFECTA_A_B and the flag --a-b. Cluster-wide ones seed a new cluster's map; they
 * are checked and kept by every node.
 *
 * All but config_load() and config_reload() is pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"

enum {
    CONFIG_TEXT_BYTES_MAX = 4096, /* Of a path; with its final zero. */
    CONFIG_HOST_BYTES_MAX = 254,
    CONFIG_ZONE_BYTES_MAX = 65,
    CONFIG_JOIN_COUNT_MAX = 32,
    CONFIG_NAMES_BYTES_MAX = 4096,
    CONFIG_FILE_BYTES_MAX = 1 << 20,
};

enum config_log_format { CONFIG_LOG_LOGFMT, CONFIG_LOG_JSON };
enum config_log_level { CONFIG_LOG_ERROR, CONFIG_LOG_WARN, CONFIG_LOG_INFO, CONFIG_LOG_DEBUG };
enum config_consistency { CONFIG_ONE, CONFIG_QUORUM, CONFIG_ALL };
enum config_switch { CONFIG_AUTO, CONFIG_OFF, CONFIG_ON };

/* A host name or address (IPv6 without brackets) and a port; port 0: any free one. */
struct config_address {
    char host[CONFIG_HOST_BYTES_MAX];
    uint16_t port;
};

struct config_addresses {
    struct config_address items[CONFIG_JOIN_COUNT_MAX];
    size_t count;
};

/* Where a value came from. */
struct config_place {
    enum {
        CONFIG_FROM_DEFAULT,
        CONFIG_FROM_FILE,
        CONFIG_FROM_ENVIRONMENT,
        CONFIG_FROM_FLAG
    } source;
    unsigned line, column; /* In the file, from 1. */
};

enum { CONFIG_SETTING_COUNT = 39 };

struct config {
    char data[CONFIG_TEXT_BYTES_MAX];
    struct config_address http, resp, peer;
    char allowed_hosts[CONFIG_NAMES_BYTES_MAX]; /* Separated by commas, in lower case. */
    struct config_addresses join;
    char zone[CONFIG_ZONE_BYTES_MAX];
    uint64_t node_id; /* 0: given by the cluster. */
    enum config_log_format log_format;
    enum config_log_level log_level;

    /* Cluster-wide. */
    uint64_t replication_factor;
    uint64_t write_quorum, read_quorum; /* 0: RF / 2 + 1. */
    enum config_consistency write_consistency, read_consistency;
    bool sloppy_quorum;
    uint64_t k_factor, shard_min_bytes, shard_split_bytes;
    uint64_t tombstone_gc_days;
    uint64_t gossip_interval_ms, max_clock_skew_ms;

    uint64_t sync_interval_ms;   /* 0: always, before each acknowledgement. */
    uint64_t memory_limit_bytes; /* 0: half of RAM. */
    uint64_t threads;            /* 0: one a core. */
    uint64_t max_body_bytes, max_url_bytes, max_header_bytes, max_connections;
    uint64_t idle_timeout_ms, request_timeout_ms;
    enum config_switch require_auth; /* See config_requires_auth(). */
    char tls_cert_file[CONFIG_TEXT_BYTES_MAX];
    char tls_key_file[CONFIG_TEXT_BYTES_MAX];
    char tls_ca_file[CONFIG_TEXT_BYTES_MAX];
    char peer_tls_cert_file[CONFIG_TEXT_BYTES_MAX];
    char peer_tls_key_file[CONFIG_TEXT_BYTES_MAX];
    char peer_tls_ca_file[CONFIG_TEXT_BYTES_MAX];
    bool peer_insecure;

    struct config_place places[CONFIG_SETTING_COUNT]; /* In the order of config_print(). */
};

/* What the program is asked to do. */
enum config_action {
    CONFIG_RUN,
    CONFIG_CHECK,
    CONFIG_PRINT,
    CONFIG_VERSION,
    CONFIG_HELP,
};

struct config_input {
    const char *file_name;          /* For messages. */
    struct slice file;              /* YAML; may be empty. */
    const char *const *environment; /* NAME=value, ended by NULL; may be NULL itself. */
    int argument_count;
    const char *const *arguments; /* The first is the program's name. */
};

void config_defaults(struct config *config);

/* Finds out what is asked and which file is named (NULL: none); checks no values.
 *
 * Errors: STATUS_INVALID, with one line in `message`. */
enum status config_command(int argument_count, const char *const *arguments,
                           enum config_action *action, const char **file_name, struct buf *message);

/* Errors: STATUS_INVALID, with one line in `message` and no end of line. `config` is unchanged. */
enum status config_parse(const struct config_input *input, struct config *config,
                         struct buf *message);

/* Appends all settings as YAML that config_parse() takes, each with where it came from. */
void config_print(const struct config *config, const char *file_name, struct buf *out);

/* Appends the text of --help. */
void config_help(struct buf *out);

bool config_address_is_loopback(const struct config_address *address);

/* Whether clients must show a key: as set, else when http or resp listens beyond loopback. */
bool config_requires_auth(const struct config *config);

/* Refuses what is ordered and this version does not have, as TLS for clients and keys: to pass over it would
 * leave open what was told to be locked. Refuses too what is open without having been told to be, as `peer`
 * beyond loopback in plain text. For a node that is to run; config_parse() takes it.
 *
 * Errors: STATUS_INVALID, with one line in `message`. */
enum status config_check_built(const struct config *config, const char *file_name,
                               struct buf *message);

/* The next setting from `*at` on (first 0) that differs between two configurations and that
 * config_reload() cannot change in a running server; NULL when there is none. */
const char *config_next_fixed(const struct config *from, const struct config *to, size_t *at);

/* Reads file and environment again, for the same arguments as config_load().
 *
 * Errors: STATUS_INVALID, STATUS_IO, STATUS_NOMEM, with one line in `message` that says where and
 * what; `config` is unchanged. */
enum status config_reload(int argument_count, char **arguments, struct config *config,
                          struct buf *message);

/* All of the above for main(): reads the file and the environment, answers --help, --version,
 * --print-config and --check-config, prints what is wrong. False when the program is to end
 * with `*exit_code`: 0, or 2 for a bad setting. */
bool config_load(int argument_count, char **arguments, struct config *config, int *exit_code);
