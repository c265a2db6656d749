#include "shell/config.h"

#include <string.h>

#include "test.h"

static struct heap heap;
static struct buf message;
static struct config parsed;

/* Parses file, environment and flags; returns the message, or "" when all was good. */
static const char *parse(const char *file, const char *const *environment,
                         const char *const *arguments)
{
    heap_init(&heap, 0);
    buf_deinit(&message);
    buf_init(&message, &heap);
    int count = 0;
    while (arguments != NULL && arguments[count] != NULL) count++;
    struct config_input input = {
        .file_name = "a.yaml",
        .file = slice_from_text(file),
        .environment = environment,
        .argument_count = count,
        .arguments = arguments,
    };
    memset(&parsed, 0xee, sizeof parsed);
    enum status status = config_parse(&input, &parsed, &message);
    if (status == STATUS_OK) return "";
    EXPECT(status == STATUS_INVALID);
    EXPECT(*(unsigned char *)&parsed == 0xee); /* Outputs untouched. */
    buf_append_u8(&message, '\0');
    return (const char *)message.data;
}

static void expect(const char *file, const char *want)
{
    const char *got = parse(file, NULL, NULL);
    if (strcmp(got, want) != 0) fail_msg("%s\n  gives %s\n  not   %s", file, got, want);
}

TEST_CASE(the_defaults_are_those_of_the_reference)
{
    expect("", "");
    EXPECT(strcmp(parsed.data, "./trifecta-data") == 0);
    EXPECT(strcmp(parsed.http.host, "127.0.0.1") == 0 && parsed.http.port == 8000);
    EXPECT(parsed.resp.port == 6380 && parsed.peer.port == 7400);
    EXPECT(parsed.join.count == 0 && strcmp(parsed.zone, "default") == 0);
    EXPECT(parsed.replication_factor == 3 && parsed.write_quorum == 0);
    EXPECT(parsed.write_consistency == CONFIG_QUORUM && parsed.read_consistency == CONFIG_ONE);
    EXPECT(!parsed.sloppy_quorum && parsed.k_factor == 1);
    EXPECT(parsed.shard_min_bytes == 1 << 20 && parsed.shard_split_bytes == 128 << 20);
    EXPECT(parsed.tombstone_gc_days == 10 && parsed.gossip_interval_ms == 1000);
    EXPECT(parsed.max_clock_skew_ms == 5000 && parsed.sync_interval_ms == 0);
    EXPECT(parsed.max_body_bytes == 16 << 20 && parsed.max_url_bytes == 16 << 10);
    EXPECT(parsed.max_header_bytes == 64 << 10 && parsed.max_connections == 10000);
    EXPECT(parsed.idle_timeout_ms == 60000 && parsed.request_timeout_ms == 5000);
    EXPECT(parsed.log_level == CONFIG_LOG_INFO && parsed.log_format == CONFIG_LOG_LOGFMT);
    EXPECT(!config_requires_auth(&parsed) && *parsed.tls_cert_file == '\0');
}

TEST_CASE(a_file_sets_what_it_names)
{
    expect("# A comment.\n"
           "data: /var/lib/trifecta\n"
           "http: '[::]:80'\n"
           "join: [a:7400, b.example:7401]\n"
           "sync: interval:250\n"
           "memory_limit: 512MiB\n"
           "max_body_bytes: 32 KiB\n"
           "sloppy_quorum: true\n"
           "log_level: debug\n",
           "");
    EXPECT(strcmp(parsed.data, "/var/lib/trifecta") == 0);
    EXPECT(strcmp(parsed.http.host, "::") == 0 && parsed.http.port == 80);
    EXPECT(parsed.join.count == 2 && strcmp(parsed.join.items[1].host, "b.example") == 0);
    EXPECT(parsed.sync_interval_ms == 250 && parsed.memory_limit_bytes == 512 << 20);
    EXPECT(parsed.max_body_bytes == 32 << 10 && parsed.sloppy_quorum);
    EXPECT(parsed.log_level == CONFIG_LOG_DEBUG && config_requires_auth(&parsed));
    EXPECT(strcmp(parsed.allowed_hosts, "") == 0);
    expect("allowed_hosts: [Search.Example, b]\n", "");
    EXPECT(strcmp(parsed.allowed_hosts, "search.example,b") == 0);
    expect("allowed_hosts: c, d.e\n", "");
    EXPECT(strcmp(parsed.allowed_hosts, "c,d.e") == 0);
    expect("join: a:1,b:2\nrequire_auth: false\nhttp: 0.0.0.0:1\n", "");
    EXPECT(parsed.join.count == 2 && !config_requires_auth(&parsed));
    expect("# Nothing.\n", "");
    expect("---\n...\n", "");
}

TEST_CASE(what_is_wrong_in_a_file_is_told_with_its_place)
{
    expect("data: x\nhtpp: 127.0.0.1:80\n",
           "a.yaml:2:1: unknown setting 'htpp'; did you mean 'http'?");
    expect("xyzzy: 1\n", "a.yaml:1:1: unknown setting 'xyzzy'");
    expect("http: 8000\n", "a.yaml:1:7: http: '8000' is not HOST:PORT, as in 127.0.0.1:8000");
    expect("threads: many\n",
           "a.yaml:1:10: threads: 'many' is not a number from 1 to 1024 or auto");
    expect("log_level: loud\n", "a.yaml:1:12: log_level: 'loud' is not error, warn, info or debug");
    expect("max_url_bytes: 1\n", "a.yaml:1:16: max_url_bytes: '1' is not a size from 256 to 1MiB");
    expect("sync: never\n",
           "a.yaml:1:7: sync: 'never' is not always or interval:MS, MS from 1 to 60000");
    expect("zone: a/b\n", "a.yaml:1:7: zone: 'a/b' is not a name of 1 to 64 of A-Z a-z 0-9 _ . -");
    expect("allowed_hosts: a:80\n",
           "a.yaml:1:16: allowed_hosts: 'a:80' is not a list of host names without ports");
    expect("allowed_hosts: 'a,,b'\n",
           "a.yaml:1:16: allowed_hosts: 'a,,b' is not a list of host names without ports");
    expect("sloppy_quorum: yes\n", "a.yaml:1:16: sloppy_quorum: 'yes' is not true or false");
    expect("data: a\ndata: b\n", "a.yaml:2:1: data is set a second time; first on line 1");
    expect("data: &a x\n", "a.yaml:1:7: an anchor or tag; settings are plain values");
    expect("data: !!str x\n", "a.yaml:1:7: an anchor or tag; settings are plain values");
    expect("data: *a\n", "a.yaml:1:7: an alias; settings are written out");
    expect("data: [x]\n", "a.yaml:1:7: expected a value");
    expect("- data\n", "a.yaml:1:1: expected lines of `name: value`");
    expect("data: x\n---\ndata: y\n", "a.yaml:2:1: a second document");
    expect("data:\n", "a.yaml:1:6: data: '' is not a path");
    EXPECT(strncmp(parse("data: 'x\n", NULL, NULL), "a.yaml:2:1: not YAML: ", 22) == 0);
    EXPECT(strncmp(parse("\xff\xfe\xff", NULL, NULL), "a.yaml:", 7) == 0);
}

TEST_CASE(settings_that_contradict_each_other_are_refused)
{
    expect("replication_factor: 3\nwrite_quorum: 4\n",
           "a.yaml:2:15: write_quorum: 4 is not at most replication_factor");
    expect("shard_min_bytes: 100MiB\n",
           "default: shard_split_bytes: 128MiB is not at least twice shard_min_bytes");
    expect("tls_cert_file: c.pem\n",
           "a.yaml:1:16: tls_cert_file: c.pem is not given together with tls_key_file");
    expect(
        "peer_tls_cert_file: c.pem\npeer_tls_key_file: k.pem\n",
        "a.yaml:1:21: peer_tls_cert_file: c.pem is not given together with peer_tls_key_file and "
        "peer_tls_ca_file");
    expect(
        "peer_tls_key_file: k.pem\n",
        "a.yaml:1:20: peer_tls_key_file: k.pem is not given together with peer_tls_cert_file and "
        "peer_tls_ca_file");
    expect("peer_tls_ca_file: a.pem\n",
           "a.yaml:1:19: peer_tls_ca_file: a.pem is not given together with peer_tls_cert_file and "
           "peer_tls_key_file");
    expect(
        "peer_tls_cert_file: c\npeer_tls_key_file: k\npeer_tls_ca_file: a\npeer_insecure: true\n",
        "a.yaml:4:16: peer_insecure: true is not false beside peer_tls_cert_file: nodes speak TLS "
        "or plain text, not both");
}

/* A node that took the order and served everybody in the clear would be worse than none. */
static const char *refusal(const char *yaml)
{
    expect(yaml, "");
    buf_clear(&message);
    if (config_check_built(&parsed, "a.yaml", &message) == STATUS_OK) return "";
    buf_append_u8(&message, '\0');
    return (const char *)message.data;
}

TEST_CASE(what_is_not_built_yet_is_refused_and_not_passed_over)
{
    static const char *const fine[] = {"", "http: 127.0.0.2:1\n", "http: localhost:1\n",
                                       "http: 0.0.0.0:1\nrequire_auth: false\n"};
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) EXPECT(*refusal(fine[i]) == '\0');
    EXPECT(strcmp(refusal("require_auth: true\n"),
                  "a.yaml:1:15: require_auth: there are no keys yet; leave it out, and put a proxy "
                  "in front") == 0);
    EXPECT(strncmp(refusal("# Open.\nhttp: 0.0.0.0:1\n"),
                   "a.yaml:2:7: http: beyond loopback clients must show a key", 56) == 0);
    EXPECT(strstr(refusal("http: '[::]:1'\n"), ": http: beyond loopback") != NULL);
    EXPECT(*refusal("join: a:1\n") == '\0');
    EXPECT(strstr(refusal("join: a:1\nnode_id: 2\n"), ":2:10: node_id: in a cluster") != NULL);
    EXPECT(strstr(refusal("tls_cert_file: c\ntls_key_file: k\n"), ": tls_cert_file: ") != NULL);
    EXPECT(strstr(refusal("tls_ca_file: c\n"), ": tls_ca_file: there is no TLS yet") != NULL);
}

/* With `join` or without: a member is started without it. */
TEST_CASE(nodes_speak_plain_text_on_loopback_or_on_purpose)
{
#define TLS "peer_tls_cert_file: c\npeer_tls_key_file: k\npeer_tls_ca_file: a\n"
    static const char *const fine[] = {
        "join: a:1\n",
        "peer: '[::1]:7400'\n",
        "peer: localhost:7400\n" TLS,
        "peer: 10.0.0.1:7400\n" TLS,
        "peer: 10.0.0.1:7400\npeer_insecure: true\njoin: a:1\n",
    };
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) EXPECT(*refusal(fine[i]) == '\0');
    EXPECT(strncmp(refusal("join: a:1\npeer: 10.0.0.1:7400\n"),
                   "a.yaml:2:7: peer: beyond loopback nodes speak TLS: give peer_tls_cert_file, ",
                   76) == 0);
    EXPECT(strstr(refusal("peer: '[2001:db8::1]:7400'\n"), "peer: beyond loopback") != NULL);
    EXPECT(strstr(refusal("peer: 0.0.0.0:7400\n" TLS), "peer: the other nodes are told") != NULL);
    EXPECT(strstr(refusal("peer: '[::]:7400'\npeer_insecure: true\n"), "are told this address") !=
           NULL);
#undef TLS
}

TEST_CASE(the_later_source_wins)
{
    const char *environment[] = {"PATH=/bin",
                                 "TRIFECTA_ZONE=east",
                                 "TRIFECTA_K_FACTOR=3",
                                 "TRIFECTA_URL=http://x",
                                 "TRIFECTA_SERVICE_HOST=10.0.0.1",
                                 "TRIFECTA_PORT_8000_TCP=tcp://10.0.0.1:8000",
                                 NULL};
    const char *arguments[] = {"trifectad", "--k-factor=4",   "--node-id",
                               "7",         "--check-config", NULL};
    EXPECT(*parse("zone: west\nk_factor: 2\nthreads: 2\n", environment, arguments) == '\0');
    EXPECT(strcmp(parsed.zone, "east") == 0);
    EXPECT(parsed.k_factor == 4 && parsed.threads == 2 && parsed.node_id == 7);
}

TEST_CASE(what_is_wrong_in_the_environment_or_a_flag_is_told)
{
    const char *bad_name[] = {"TRIFECTA_THREAD=2", NULL};
    EXPECT(strcmp(parse("", bad_name, NULL), "environment: unknown setting TRIFECTA_THREAD; did "
                                             "you mean the one of 'threads'?") == 0);
    const char *bad_value[] = {"TRIFECTA_THREADS=0", NULL};
    EXPECT(strcmp(parse("", bad_value, NULL), "environment: TRIFECTA_THREADS: '0' is not a number "
                                              "from 1 to 1024 or auto") == 0);
    const char *bad_flag[] = {"trifectad", "--hhtp", "127.0.0.1:1", NULL};
    EXPECT(strcmp(parse("", NULL, bad_flag), "unknown argument '--hhtp'; did you mean '--http'?") ==
           0);
    const char *no_flag[] = {"trifectad", "start", NULL};
    EXPECT(strcmp(parse("", NULL, no_flag), "unknown argument 'start'") == 0);
    const char *no_value[] = {"trifectad", "--data", NULL};
    EXPECT(strcmp(parse("", NULL, no_value), "--data needs a value") == 0);
    const char *bad_flag_value[] = {"trifectad", "--peer", "x", NULL};
    EXPECT(strcmp(parse("", NULL, bad_flag_value),
                  "--peer: 'x' is not HOST:PORT, as in 127.0.0.1:7400") == 0);
}

TEST_CASE(the_command_names_action_and_file)
{
    const char *arguments[] = {"trifectad", "--config=c.yaml", "--print-config"};
    enum config_action action;
    const char *file_name;
    buf_deinit(&message);
    heap_init(&heap, 0);
    buf_init(&message, &heap);
    EXPECT(config_command(3, arguments, &action, &file_name, &message) == STATUS_OK);
    EXPECT(action == CONFIG_PRINT && strcmp(file_name, "c.yaml") == 0);
    EXPECT(config_command(1, arguments, &action, &file_name, &message) == STATUS_OK);
    EXPECT(action == CONFIG_RUN && file_name == NULL);
}

TEST_CASE(what_is_printed_reads_back_the_same)
{
    struct buf first;
    struct buf second;
    expect("data: \"it's: # here\"\njoin: [a:1, '[::1]:2']\nsync: interval:9\nrequire_auth: true\n"
           "shard_min_bytes: 4097\nallowed_hosts: [a.b, c]\n",
           "");
    buf_init(&first, &heap);
    buf_init(&second, &heap);
    config_print(&parsed, "a.yaml", &first);
    EXPECT(memmem(first.data, first.size, "# a.yaml:3:7\n", 13) != NULL);
    EXPECT(memmem(first.data, first.size, "k_factor: 1  # default; cluster-wide\n", 37) != NULL);
    buf_append_u8(&first, '\0');

    EXPECT(*parse((const char *)first.data, NULL, NULL) == '\0');
    EXPECT(strcmp(parsed.data, "it's: # here") == 0);
    EXPECT(parsed.join.count == 2 && strcmp(parsed.join.items[1].host, "::1") == 0);
    EXPECT(parsed.sync_interval_ms == 9 && parsed.require_auth == CONFIG_ON);
    EXPECT(parsed.shard_min_bytes == 4097 && strcmp(parsed.allowed_hosts, "a.b,c") == 0);
    config_help(&second);
    EXPECT(memmem(second.data, second.size, "--sloppy-quorum", 15) != NULL);
    buf_deinit(&first);
    buf_deinit(&second);
    buf_deinit(&message);
}

TEST_MAIN(TEST(the_defaults_are_those_of_the_reference), TEST(a_file_sets_what_it_names),
          TEST(what_is_wrong_in_a_file_is_told_with_its_place),
          TEST(settings_that_contradict_each_other_are_refused),
          TEST(what_is_not_built_yet_is_refused_and_not_passed_over),
          TEST(nodes_speak_plain_text_on_loopback_or_on_purpose), TEST(the_later_source_wins),
          TEST(what_is_wrong_in_the_environment_or_a_flag_is_told),
          TEST(the_command_names_action_and_file), TEST(what_is_printed_reads_back_the_same))
