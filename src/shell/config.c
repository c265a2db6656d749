#include "shell/config.h"

#include <string.h>

#include "base/check.h"
#include "base/nearest.h"
#include "shell/config_setting.h"
#include "shell/config_yaml.h"

enum { NAME_BYTES_MAX = 64 };

/* Flags that are no settings. */
static const struct {
    const char *name;
    enum config_action action;
} actions[] = {
    {"check-config", CONFIG_CHECK},
    {"print-config", CONFIG_PRINT},
    {"version", CONFIG_VERSION},
    {"help", CONFIG_HELP},
};

enum { ACTION_COUNT = sizeof actions / sizeof *actions };

static const char environment_prefix[] = "TRIFECTA_";

void config_defaults(struct config *config)
{
    *config = (struct config){0};
    for (size_t i = 0; i < CONFIG_SETTING_COUNT; i++) {
        CHECK(config_setting_read(&config_settings[i], slice_from_text(config_settings[i].value),
                                  config));
    }
}

bool config_address_is_loopback(const struct config_address *address)
{
    return strcmp(address->host, "localhost") == 0 || strcmp(address->host, "::1") == 0 ||
           strncmp(address->host, "127.", 4) == 0;
}

static bool is_every_address(const struct config_address *address)
{
    return strcmp(address->host, "0.0.0.0") == 0 || strcmp(address->host, "::") == 0;
}

bool config_requires_auth(const struct config *config)
{
    if (config->require_auth != CONFIG_AUTO) return config->require_auth == CONFIG_ON;
    return !config_address_is_loopback(&config->http) || !config_address_is_loopback(&config->resp);
}

/* --- Flags --- */

struct flag {
    struct slice name;
    struct slice value;
    bool has_value;
};

static bool next_flag(const char *argument, struct flag *flag)
{
    if (strncmp(argument, "--", 2) != 0 || argument[2] == '\0') return false;
    size_t size = strcspn(argument + 2, "=");
    flag->name = slice_of(argument + 2, size);
    flag->has_value = argument[2 + size] == '=';
    flag->value = flag->has_value ? slice_from_text(argument + 3 + size) : (struct slice){NULL, 0};
    return true;
}

/* The setting a flag stands for: its name with `_` for `-`. */
static const struct config_setting *setting_of_flag(struct slice name)
{
    uint8_t text[NAME_BYTES_MAX];
    if (name.size > sizeof text) return NULL;
    for (size_t i = 0; i < name.size; i++) {
        if (name.data[i] == '_') return NULL;
        text[i] = name.data[i] == '-' ? '_' : name.data[i];
    }
    return config_setting_find(slice_of(text, name.size));
}

static void flag_name(const char *setting, char out[NAME_BYTES_MAX])
{
    size_t i = 0;
    for (; setting[i] != '\0'; i++) out[i] = setting[i] == '_' ? '-' : setting[i];
    out[i] = '\0';
}

static enum status refuse_flag(const char *argument, struct slice name, struct buf *message)
{
    static const char *const others[] = {"config"};
    char texts[CONFIG_SETTING_COUNT][NAME_BYTES_MAX];
    const char *names[CONFIG_SETTING_COUNT + ACTION_COUNT + 1];
    size_t count = 0;
    for (size_t i = 0; i < CONFIG_SETTING_COUNT; i++) {
        flag_name(config_settings[i].name, texts[i]);
        names[count++] = texts[i];
    }
    for (size_t i = 0; i < ACTION_COUNT; i++) names[count++] = actions[i].name;
    names[count++] = others[0];

    buf_clear(message);
    buf_printf(message, "unknown argument '%s'", argument);
    const char *nearest = nearest_name(name, names, count);
    if (nearest != NULL) buf_printf(message, "; did you mean '--%s'?", nearest);
    return STATUS_INVALID;
}

static enum status refuse_flag_value(const char *argument, const char *what, struct buf *message)
{
    buf_clear(message);
    buf_printf(message, "%s %s", argument, what);
    return STATUS_INVALID;
}

static bool find_action(struct slice name, enum config_action *out)
{
    for (size_t i = 0; i < ACTION_COUNT; i++) {
        if (!slice_equal(name, slice_from_text(actions[i].name))) continue;
        *out = actions[i].action;
        return true;
    }
    return false;
}

/* Walks the arguments; gives each flag with its value to `visit`. */
static enum status walk_flags(int count, const char *const *arguments,
                              enum status (*visit)(void *context, const struct flag *flag),
                              void *context, struct buf *message)
{
    for (int i = 1; i < count; i++) {
        struct flag flag;
        enum config_action action;
        const char *argument = arguments[i];
        if (!next_flag(argument, &flag)) {
            return refuse_flag(argument, slice_from_text(argument), message);
        }
        bool is_action = find_action(flag.name, &action);
        bool is_file = slice_equal(flag.name, SLICE_LITERAL("config"));
        if (!is_action && !is_file && setting_of_flag(flag.name) == NULL) {
            return refuse_flag(argument, flag.name, message);
        }
        if (is_action && flag.has_value) {
            return refuse_flag_value(argument, "takes no value", message);
        }
        if (!is_action && !flag.has_value) {
            if (++i == count) return refuse_flag_value(argument, "needs a value", message);
            flag.value = slice_from_text(arguments[i]);
        }
        enum status status = visit(context, &flag);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

struct command {
    enum config_action action;
    const char *file_name;
};

static enum status note_command(void *context, const struct flag *flag)
{
    struct command *command = context;
    find_action(flag->name, &command->action);
    /* The value ends where its argument does. */
    if (slice_equal(flag->name, SLICE_LITERAL("config"))) {
        command->file_name = (const char *)flag->value.data;
    }
    return STATUS_OK;
}

enum status config_command(int argument_count, const char *const *arguments,
                           enum config_action *action, const char **file_name, struct buf *message)
{
    struct command command = {CONFIG_RUN, NULL};
    enum status status = walk_flags(argument_count, arguments, note_command, &command, message);
    if (status != STATUS_OK) return status;
    *action = command.action;
    *file_name = command.file_name;
    return STATUS_OK;
}

/* --- Setting values --- */

struct target {
    struct config *config;
    struct buf *message;
};

static enum status refuse_value(const struct config_setting *setting, struct slice value,
                                struct buf *message)
{
    buf_printf(message, "'%.*s' is not ", (int)value.size, (const char *)value.data);
    config_setting_expected(setting, message);
    return STATUS_INVALID;
}

static enum status set_flag(void *context, const struct flag *flag)
{
    struct target *target = context;
    const struct config_setting *setting = setting_of_flag(flag->name);
    if (setting == NULL) return STATUS_OK;
    if (!config_setting_read(setting, flag->value, target->config)) {
        buf_clear(target->message);
        buf_printf(target->message, "--%.*s: ", (int)flag->name.size,
                   (const char *)flag->name.data);
        return refuse_value(setting, flag->value, target->message);
    }
    target->config->places[setting - config_settings].source = CONFIG_FROM_FLAG;
    return STATUS_OK;
}

/* Variables of the same prefix that are no settings: the client's, and those that an
 * orchestrator makes for a service named trifecta. */
static bool is_foreign_variable(struct slice name)
{
    return slice_equal(name, SLICE_LITERAL("URL")) || slice_equal(name, SLICE_LITERAL("HISTORY")) ||
           slice_equal(name, SLICE_LITERAL("PORT")) ||
           slice_starts_with(name, SLICE_LITERAL("PORT_")) ||
           slice_starts_with(name, SLICE_LITERAL("SERVICE_"));
}

static enum status set_variable(struct slice name, struct slice value, struct config *config,
                                struct buf *message)
{
    uint8_t lower[NAME_BYTES_MAX];
    const struct config_setting *setting = NULL;
    struct slice text = {lower, name.size < sizeof lower ? name.size : sizeof lower};
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = name.data[i];
        lower[i] = byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte == '_' ? '_' : '?';
    }
    setting = config_setting_find(text);
    buf_clear(message);
    if (setting == NULL) {
        const char *nearest = config_setting_nearest(text);
        buf_printf(message, "environment: unknown setting %s%.*s", environment_prefix,
                   (int)name.size, (const char *)name.data);
        if (nearest != NULL) buf_printf(message, "; did you mean the one of '%s'?", nearest);
        return STATUS_INVALID;
    }
    if (!config_setting_read(setting, value, config)) {
        buf_printf(message, "environment: %s%.*s: ", environment_prefix, (int)name.size,
                   (const char *)name.data);
        return refuse_value(setting, value, message);
    }
    config->places[setting - config_settings].source = CONFIG_FROM_ENVIRONMENT;
    return STATUS_OK;
}

static enum status set_environment(const char *const *environment, struct config *config,
                                   struct buf *message)
{
    size_t prefix_size = sizeof environment_prefix - 1;
    for (; environment != NULL && *environment != NULL; environment++) {
        const char *entry = *environment;
        if (strncmp(entry, environment_prefix, prefix_size) != 0) continue;
        size_t size = strcspn(entry, "=");
        if (entry[size] == '\0') continue;
        struct slice name = slice_of(entry + prefix_size, size - prefix_size);
        if (is_foreign_variable(name)) continue;
        enum status status = set_variable(name, slice_from_text(entry + size + 1), config, message);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

/* --- What settings say about each other --- */

static const struct config_place *place_of(const struct config *config, const char *name)
{
    return &config->places[config_setting_find(slice_from_text(name)) - config_settings];
}

static void say_place(const struct config *config, const char *name, const char *file_name,
                      struct buf *out)
{
    const struct config_place *place = place_of(config, name);
    char flag[NAME_BYTES_MAX];
    flag_name(name, flag);
    if (place->source == CONFIG_FROM_FILE) {
        buf_printf(out, "%s:%u:%u", file_name, place->line, place->column);
    } else if (place->source == CONFIG_FROM_FLAG) {
        buf_printf(out, "--%s", flag);
    } else if (place->source == CONFIG_FROM_ENVIRONMENT) {
        buf_append_text(out, "environment");
    } else {
        buf_append_text(out, "default");
    }
}

struct rule {
    bool broken;
    const char *name; /* The setting to blame. */
    const char *expected;
};

static enum status check(const struct config *config, const char *file_name, struct buf *message)
{
    int peer_tls = (*config->peer_tls_cert_file != '\0') + (*config->peer_tls_key_file != '\0') +
                   (*config->peer_tls_ca_file != '\0');
    const struct rule rules[] = {
        {config->write_quorum > config->replication_factor, "write_quorum",
         "at most replication_factor"},
        {config->read_quorum > config->replication_factor, "read_quorum",
         "at most replication_factor"},
        {config->shard_split_bytes < 2 * config->shard_min_bytes, "shard_split_bytes",
         "at least twice shard_min_bytes"},
        {config->max_header_bytes < config->max_url_bytes, "max_header_bytes",
         "at least max_url_bytes"},
        {*config->tls_cert_file != '\0' && *config->tls_key_file == '\0', "tls_cert_file",
         "given together with tls_key_file"},
        {*config->tls_key_file != '\0' && *config->tls_cert_file == '\0', "tls_key_file",
         "given together with tls_cert_file"},
        {peer_tls > 0 && peer_tls < 3 && *config->peer_tls_cert_file != '\0', "peer_tls_cert_file",
         "given together with peer_tls_key_file and peer_tls_ca_file"},
        {peer_tls > 0 && peer_tls < 3 && *config->peer_tls_key_file != '\0', "peer_tls_key_file",
         "given together with peer_tls_cert_file and peer_tls_ca_file"},
        {peer_tls > 0 && peer_tls < 3, "peer_tls_ca_file",
         "given together with peer_tls_cert_file and peer_tls_key_file"},
        {peer_tls > 0 && config->peer_insecure, "peer_insecure",
         "false beside peer_tls_cert_file: nodes speak TLS or plain text, not both"},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        if (!rules[i].broken) continue;
        const struct config_setting *setting = config_setting_find(slice_from_text(rules[i].name));
        buf_clear(message);
        say_place(config, rules[i].name, file_name, message);
        buf_printf(message, ": %s: ", rules[i].name);
        config_setting_write(setting, config, message);
        buf_printf(message, " is not %s", rules[i].expected);
        return STATUS_INVALID;
    }
    return STATUS_OK;
}

enum status config_parse(const struct config_input *input, struct config *config,
                         struct buf *message)
{
    static const char no_file[] = "configuration";
    const char *file_name = input->file_name == NULL ? no_file : input->file_name;
    struct config parsed;
    config_defaults(&parsed);
    struct target target = {&parsed, message};

    enum status status = config_yaml_read(file_name, input->file, &parsed, message);
    if (status == STATUS_OK) status = set_environment(input->environment, &parsed, message);
    if (status == STATUS_OK) {
        status = walk_flags(input->argument_count, input->arguments, set_flag, &target, message);
    }
    if (status == STATUS_OK) status = check(&parsed, file_name, message);
    if (status != STATUS_OK) return status;
    *config = parsed;
    return STATUS_OK;
}

/* --- What is not built yet --- */

enum status config_check_built(const struct config *config, const char *file_name,
                               struct buf *message)
{
    static const char no_tls[] = "there is no TLS yet; leave it out, and put a proxy in front";
    static const char no_keys[] = "there are no keys yet; leave it out, and put a proxy in front";
    static const char open_to_all[] =
        "beyond loopback clients must show a key, and there are no keys yet; require_auth: false "
        "serves everybody who reaches the address";
    const struct {
        bool ordered;
        const char *name;
        const char *answer;
    } missing[] = {
        {*config->tls_cert_file != '\0', "tls_cert_file", no_tls},
        {*config->tls_ca_file != '\0', "tls_ca_file", no_tls},
        {is_every_address(&config->peer), "peer",
         "the other nodes are told this address; give one of this machine by which they reach it"},
        {!config_address_is_loopback(&config->peer) && *config->peer_tls_cert_file == '\0' &&
             !config->peer_insecure,
         "peer",
         "beyond loopback nodes speak TLS: give peer_tls_cert_file, peer_tls_key_file and "
         "peer_tls_ca_file (`trifecta ca` makes them), or, for plain text on a network that nobody "
         "else reaches, peer_insecure: true"},
        {config->join.count != 0 && config->node_id != 0, "node_id",
         "in a cluster each node is given its id; leave it out"},
        {config->require_auth == CONFIG_ON, "require_auth", no_keys},
        {config->require_auth == CONFIG_AUTO && !config_address_is_loopback(&config->http), "http",
         open_to_all},
    };
    for (size_t i = 0; i < sizeof missing / sizeof *missing; i++) {
        if (!missing[i].ordered) continue;
        buf_clear(message);
        say_place(config, missing[i].name, file_name == NULL ? "configuration" : file_name,
                  message);
        buf_printf(message, ": %s: %s", missing[i].name, missing[i].answer);
        return STATUS_INVALID;
    }
    return STATUS_OK;
}

/* --- Reloading --- */

static bool is_reloadable(const char *name)
{
    static const char *const names[] = {
        "log_level",       "max_body_bytes",  "max_url_bytes",      "max_header_bytes",
        "max_connections", "idle_timeout_ms", "request_timeout_ms",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) return true;
    return false;
}

static bool differs(const struct config_setting *setting, const struct config *a,
                    const struct config *b)
{
    struct heap heap;
    struct buf a_text, b_text;
    heap_init(&heap, 0);
    buf_init(&a_text, &heap);
    buf_init(&b_text, &heap);
    config_setting_write(setting, a, &a_text);
    config_setting_write(setting, b, &b_text);
    bool different = !slice_equal(buf_slice(&a_text), buf_slice(&b_text));
    buf_deinit(&a_text);
    buf_deinit(&b_text);
    return different;
}

const char *config_next_fixed(const struct config *from, const struct config *to, size_t *at)
{
    while (*at < CONFIG_SETTING_COUNT) {
        const struct config_setting *setting = &config_settings[(*at)++];
        if (!is_reloadable(setting->name) && differs(setting, from, to)) return setting->name;
    }
    return NULL;
}

/* --- Printing --- */

/* A single-quoted YAML scalar: nothing in it is special but the quote. */
static void append_quoted(struct slice text, struct buf *out)
{
    buf_append_u8(out, '\'');
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] == '\'') buf_append_u8(out, '\'');
        buf_append_u8(out, text.data[i]);
    }
    buf_append_u8(out, '\'');
}

static bool needs_quotes(enum config_kind kind)
{
    return kind <= CONFIG_KIND_NAMES;
}

void config_print(const struct config *config, const char *file_name, struct buf *out)
{
    struct buf value;
    buf_init(&value, out->heap);
    for (size_t i = 0; i < CONFIG_SETTING_COUNT; i++) {
        const struct config_setting *setting = &config_settings[i];
        buf_clear(&value);
        config_setting_write(setting, config, &value);
        if (value.failed) out->failed = true;
        buf_printf(out, "%s: ", setting->name);
        if (needs_quotes(setting->kind))
            append_quoted(buf_slice(&value), out);
        else
            buf_append_slice(out, buf_slice(&value));
        buf_append_text(out, "  # ");
        say_place(config, setting->name, file_name == NULL ? "configuration" : file_name, out);
        buf_append_text(out, setting->cluster_wide ? "; cluster-wide\n" : "\n");
    }
    buf_deinit(&value);
}

void config_help(struct buf *out)
{
    buf_append_text(out, "Usage: trifectad [--config FILE] [--SETTING VALUE]...\n\n"
                         "A node of a trifecta cluster; alone, a database on loopback.\n\n"
                         "  --config FILE    settings in YAML\n"
                         "  --check-config   checks the settings and ends\n"
                         "  --print-config   prints the settings in force and ends\n"
                         "  --version        prints the version and ends\n"
                         "  --help           prints this and ends\n\n"
                         "Settings, here as flags; in the file a_b, in the environment "
                         "TRIFECTA_A_B.\nThe later wins: default, file, environment, flag.\n\n");
    for (size_t i = 0; i < CONFIG_SETTING_COUNT; i++) {
        const struct config_setting *setting = &config_settings[i];
        char flag[NAME_BYTES_MAX];
        flag_name(setting->name, flag);
        const char *value = setting->value;
        if (*value == '\0') value = "none";
        buf_printf(out, "  --%-21s %s (%s%s)\n", flag, setting->help, value,
                   setting->cluster_wide ? "; cluster-wide" : "");
    }
}
