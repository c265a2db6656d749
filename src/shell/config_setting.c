#include "shell/config_setting.h"

#include <stddef.h>
#include <string.h>

#include "base/nearest.h"

#define FIELD(name) offsetof(struct config, name)

#define PATH_NONE(field, text)                                                                     \
    {                                                                                              \
#field, CONFIG_KIND_PATH, false, true, FIELD(field), 0, 0, NULL, "", text                  \
    }

enum { TCP_PORT_MAX = 65535 };

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define TIB (UINT64_C(1) << 40)
#define DAY_MS (UINT64_C(86400000))

const struct config_setting config_settings[CONFIG_SETTING_COUNT] = {
    {"data", CONFIG_KIND_PATH, false, false, FIELD(data), 0, 0, NULL, "./trifecta-data",
     "directory that holds everything"},
    {"http", CONFIG_KIND_ADDRESS, false, false, FIELD(http), 0, 0, NULL, "127.0.0.1:8000",
     "where HTTP listens"},
    {"resp", CONFIG_KIND_ADDRESS, false, false, FIELD(resp), 0, 0, NULL, "127.0.0.1:6380",
     "where the Redis protocol listens"},
    {"peer", CONFIG_KIND_ADDRESS, false, false, FIELD(peer), 0, 0, NULL, "127.0.0.1:7400",
     "where other nodes connect"},
    {"allowed_hosts", CONFIG_KIND_NAMES, false, false, FIELD(allowed_hosts), 0, 0, NULL, "",
     "names that clients may ask for this node by"},
    {"join", CONFIG_KIND_ADDRESSES, false, false, FIELD(join), 0, 0, NULL, "",
     "peer addresses of a cluster to join"},
    {"zone", CONFIG_KIND_ZONE, false, false, FIELD(zone), 0, 0, NULL, "default",
     "failure domain of this node"},
    {"node_id", CONFIG_KIND_NUMBER, false, true, FIELD(node_id), 1, 65535, NULL, "auto",
     "id of this node; auto: given by the cluster"},
    {"log_format", CONFIG_KIND_CHOICE, false, false, FIELD(log_format), 0, 0, "logfmt|json",
     "logfmt", "form of log lines"},
    {"log_level", CONFIG_KIND_CHOICE, false, false, FIELD(log_level), 0, 0, "error|warn|info|debug",
     "info", "least serious level that is logged"},
    {"replication_factor", CONFIG_KIND_NUMBER, true, false, FIELD(replication_factor), 1, 7, NULL,
     "3", "copies of each word, at most the members"},
    {"write_quorum", CONFIG_KIND_NUMBER, true, true, FIELD(write_quorum), 1, 7, NULL, "auto",
     "owners that `quorum` means for writes; auto: RF/2+1"},
    {"read_quorum", CONFIG_KIND_NUMBER, true, true, FIELD(read_quorum), 1, 7, NULL, "auto",
     "owners that `quorum` means for reads; auto: RF/2+1"},
    {"write_consistency", CONFIG_KIND_CHOICE, true, false, FIELD(write_consistency), 0, 0,
     "one|quorum|all", "quorum", "owners that acknowledge a write"},
    {"read_consistency", CONFIG_KIND_CHOICE, true, false, FIELD(read_consistency), 0, 0,
     "one|quorum|all", "one", "owners that a read asks"},
    {"sloppy_quorum", CONFIG_KIND_BOOL, true, false, FIELD(sloppy_quorum), 0, 0, NULL, "false",
     "lets other nodes keep writes for unreachable owners"},
    {"k_factor", CONFIG_KIND_NUMBER, true, false, FIELD(k_factor), 0, 64, NULL, "1",
     "prefix length in bytes down to which ranges are cut even when small"},
    {"shard_min_bytes", CONFIG_KIND_BYTES, true, false, FIELD(shard_min_bytes), 4096, TIB, NULL,
     "1MiB", "least size of a range that is cut for its prefix"},
    {"shard_split_bytes", CONFIG_KIND_BYTES, true, false, FIELD(shard_split_bytes), 8192, TIB, NULL,
     "128MiB", "size over which a range is cut"},
    {"tombstone_gc_days", CONFIG_KIND_NUMBER, true, false, FIELD(tombstone_gc_days), 0, 3650, NULL,
     "10", "least age of deletions that are forgotten"},
    {"gossip_interval_ms", CONFIG_KIND_NUMBER, true, false, FIELD(gossip_interval_ms), 10, 60000,
     NULL, "1000", "time between two rounds of gossip"},
    {"max_clock_skew_ms", CONFIG_KIND_NUMBER, true, false, FIELD(max_clock_skew_ms), 10, DAY_MS,
     NULL, "5000", "writes from further ahead are refused; a tenth of it is logged as clock.off"},
    {"sync", CONFIG_KIND_SYNC, false, false, FIELD(sync_interval_ms), 1, 60000, NULL, "always",
     "when writes reach the disk: before they are acknowledged, or every so often"},
    {"memory_limit", CONFIG_KIND_BYTES, false, true, FIELD(memory_limit_bytes), 64 * MIB,
     1024 * TIB, NULL, "auto", "memory to keep to; auto: half of RAM"},
    {"threads", CONFIG_KIND_NUMBER, false, true, FIELD(threads), 1, 1024, NULL, "auto",
     "event-loop threads; auto: one a core"},
    {"max_body_bytes", CONFIG_KIND_BYTES, false, false, FIELD(max_body_bytes), 1024, 16 * GIB, NULL,
     "16MiB", "largest request body; imports and exports stream without limit"},
    {"max_url_bytes", CONFIG_KIND_BYTES, false, false, FIELD(max_url_bytes), 256, MIB, NULL,
     "16KiB", "longest request line"},
    {"max_header_bytes", CONFIG_KIND_BYTES, false, false, FIELD(max_header_bytes), 1024, MIB, NULL,
     "64KiB", "largest head of a request"},
    {"max_connections", CONFIG_KIND_NUMBER, false, false, FIELD(max_connections), 1, 10000000, NULL,
     "10000", "client connections at once"},
    {"idle_timeout_ms", CONFIG_KIND_NUMBER, false, false, FIELD(idle_timeout_ms), 1, DAY_MS, NULL,
     "60000", "silence after which a connection is closed"},
    {"request_timeout_ms", CONFIG_KIND_NUMBER, false, false, FIELD(request_timeout_ms), 1, DAY_MS,
     NULL, "5000", "time after which a request is given up"},
    {"require_auth", CONFIG_KIND_CHOICE, false, false, FIELD(require_auth), 0, 0, "auto|false|true",
     "auto", "asks clients for a key; auto: when listening beyond loopback"},
    PATH_NONE(tls_cert_file, "certificate shown to clients (PEM)"),
    PATH_NONE(tls_key_file, "its key (PEM)"),
    PATH_NONE(tls_ca_file, "authorities that client certificates must come from (PEM)"),
    PATH_NONE(peer_tls_cert_file, "certificate shown to other nodes (PEM)"),
    PATH_NONE(peer_tls_key_file, "its key (PEM)"),
    PATH_NONE(peer_tls_ca_file, "authorities that other nodes' certificates must come from (PEM)"),
    {"peer_insecure", CONFIG_KIND_BOOL, false, false, FIELD(peer_insecure), 0, 0, NULL, "false",
     "lets nodes speak in plain text beyond loopback"},
};

const struct config_setting *config_setting_find(struct slice name)
{
    for (size_t i = 0; i < CONFIG_SETTING_COUNT; i++) {
        if (slice_equal(name, slice_from_text(config_settings[i].name))) return &config_settings[i];
    }
    return NULL;
}

const char *config_setting_nearest(struct slice name)
{
    const char *names[CONFIG_SETTING_COUNT];
    for (size_t i = 0; i < CONFIG_SETTING_COUNT; i++) names[i] = config_settings[i].name;
    return nearest_name(name, names, CONFIG_SETTING_COUNT);
}

/* --- Reading --- */

/* Digits alone, at least one. */
static bool read_decimal(struct slice text, uint64_t *out)
{
    uint64_t value = 0;
    if (text.size == 0) return false;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') return false;
        if (__builtin_mul_overflow(value, 10, &value)) return false;
        if (__builtin_add_overflow(value, text.data[i] - '0', &value)) return false;
    }
    *out = value;
    return true;
}

static const struct {
    const char *name;
    uint64_t bytes;
} units[] = {{"TiB", TIB}, {"GiB", GIB}, {"MiB", MIB}, {"KiB", 1 << 10}, {"B", 1}};

static bool read_bytes(struct slice text, uint64_t *out)
{
    uint64_t unit = 1;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        struct slice name = slice_from_text(units[i].name);
        if (text.size < name.size) continue;
        size_t start = text.size - name.size;
        if (!slice_equal(slice_from(text, start), name)) continue;
        text = slice_prefix(text, start);
        unit = units[i].bytes;
        break;
    }
    while (text.size > 0 && text.data[text.size - 1] == ' ') text.size--;
    uint64_t value;
    return read_decimal(text, &value) && !__builtin_mul_overflow(value, unit, out);
}

static bool read_number(const struct config_setting *setting, struct slice text, uint64_t *out)
{
    uint64_t value;
    if (setting->automatic && slice_equal(text, SLICE_LITERAL("auto"))) {
        *out = 0;
        return true;
    }
    bool read = setting->kind == CONFIG_KIND_BYTES ? read_bytes(text, &value)
                                                   : read_decimal(text, &value);
    if (!read || value < setting->least || value > setting->most) return false;
    *out = value;
    return true;
}

/* Text without control characters that fits with its final zero. */
static bool read_text(struct slice text, size_t size_max, char *out)
{
    if (text.size >= size_max) return false;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < 0x20 || text.data[i] == 0x7f) return false;
    }
    if (text.size > 0) memcpy(out, text.data, text.size);
    out[text.size] = '\0';
    return true;
}

static bool read_path(const struct config_setting *setting, struct slice text, char *out)
{
    if (setting->automatic && slice_equal(text, SLICE_LITERAL("none")))
        text.size = 0;
    else if (text.size == 0 && !setting->automatic)
        return false;
    return read_text(text, CONFIG_TEXT_BYTES_MAX, out);
}

static bool is_name_byte(uint8_t byte)
{
    return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') ||
           (byte >= '0' && byte <= '9') || byte == '_' || byte == '.' || byte == '-';
}

static bool read_zone(struct slice text, char *out)
{
    for (size_t i = 0; i < text.size; i++) {
        if (!is_name_byte(text.data[i])) return false;
    }
    return text.size > 0 && read_text(text, CONFIG_ZONE_BYTES_MAX, out);
}

/* HOST:PORT or [IPv6]:PORT. */
static bool read_address(struct slice text, struct config_address *out)
{
    size_t colon = text.size;
    while (colon > 0 && text.data[colon - 1] != ':') colon--;
    if (colon < 2) return false;
    struct slice host = slice_prefix(text, colon - 1);
    uint64_t port;
    if (!read_decimal(slice_from(text, colon), &port) || port > TCP_PORT_MAX) return false;

    bool brackets = host.data[0] == '[' && host.data[host.size - 1] == ']';
    if (brackets) host = slice_of(host.data + 1, host.size - 2);
    if (host.size == 0) return false;
    for (size_t i = 0; i < host.size; i++) {
        if (!is_name_byte(host.data[i]) && !(brackets && host.data[i] == ':')) return false;
    }
    struct config_address address = {.port = (uint16_t)port};
    if (!read_text(host, CONFIG_HOST_BYTES_MAX, address.host)) return false;
    *out = address;
    return true;
}

/* Takes an item, without blanks around it, off a list. An item is expected after each comma. */
static bool next_item(struct slice *text, bool *more, struct slice *item)
{
    if (text->size == 0 && !*more) return false;
    const uint8_t *comma = text->size == 0 ? NULL : memchr(text->data, ',', text->size);
    size_t size = comma == NULL ? text->size : (size_t)(comma - text->data);
    *item = slice_prefix(*text, size);
    *text = slice_from(*text, size + (comma != NULL));
    *more = comma != NULL;
    while (item->size > 0 && item->data[0] == ' ') *item = slice_from(*item, 1);
    while (item->size > 0 && item->data[item->size - 1] == ' ') item->size--;
    return true;
}

static bool read_addresses(struct slice text, struct config_addresses *out)
{
    struct config_addresses list = {.count = 0};
    struct slice item;
    bool more = false;
    while (next_item(&text, &more, &item)) {
        if (list.count == CONFIG_JOIN_COUNT_MAX) return false;
        if (!read_address(item, &list.items[list.count++])) return false;
    }
    *out = list;
    return true;
}

/* Names alone, with no port: they are written in lower case with nothing but commas between. */
static bool read_names(struct slice text, char *out)
{
    char list[CONFIG_NAMES_BYTES_MAX];
    size_t size = 0;
    struct slice item;
    bool more = false;
    while (next_item(&text, &more, &item)) {
        if (item.size == 0 || size + item.size + 2 > sizeof list) return false;
        if (size > 0) list[size++] = ',';
        for (size_t i = 0; i < item.size; i++) {
            uint8_t byte = item.data[i];
            if (!is_name_byte(byte)) return false;
            list[size++] = (char)(byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte);
        }
    }
    list[size] = '\0';
    memcpy(out, list, size + 1);
    return true;
}

static bool read_choice(const char *choices, struct slice text, int *out)
{
    for (int index = 0; choices != NULL; index++) {
        size_t size = strcspn(choices, "|");
        if (slice_equal(text, slice_of(choices, size))) {
            *out = index;
            return true;
        }
        choices = choices[size] == '\0' ? NULL : choices + size + 1;
    }
    return false;
}

static bool read_bool(struct slice text, bool *out)
{
    int value;
    if (!read_choice("false|true", text, &value)) return false;
    *out = value == 1;
    return true;
}

static bool read_sync(const struct config_setting *setting, struct slice text, uint64_t *out)
{
    struct slice prefix = SLICE_LITERAL("interval:");
    if (slice_equal(text, SLICE_LITERAL("always"))) {
        *out = 0;
        return true;
    }
    if (!slice_starts_with(text, prefix)) return false;
    return read_number(setting, slice_from(text, prefix.size), out);
}

bool config_setting_read(const struct config_setting *setting, struct slice text,
                         struct config *config)
{
    void *field = (char *)config + setting->offset;
    switch (setting->kind) {
    case CONFIG_KIND_PATH:
        return read_path(setting, text, field);
    case CONFIG_KIND_ZONE:
        return read_zone(text, field);
    case CONFIG_KIND_ADDRESS:
        return read_address(text, field);
    case CONFIG_KIND_ADDRESSES:
        return read_addresses(text, field);
    case CONFIG_KIND_NAMES:
        return read_names(text, field);
    case CONFIG_KIND_CHOICE:
        return read_choice(setting->choices, text, field);
    case CONFIG_KIND_BOOL:
        return read_bool(text, field);
    case CONFIG_KIND_NUMBER:
    case CONFIG_KIND_BYTES:
        return read_number(setting, text, field);
    case CONFIG_KIND_SYNC:
        return read_sync(setting, text, field);
    }
    return false;
}

/* --- Writing --- */

static void write_bytes(uint64_t value, struct buf *out)
{
    size_t unit = 0;
    while (units[unit].bytes > 1 && (value == 0 || value % units[unit].bytes != 0)) unit++;
    buf_append_decimal(out, value / units[unit].bytes);
    if (units[unit].bytes > 1) buf_append_text(out, units[unit].name);
}

static void write_address(const struct config_address *address, struct buf *out)
{
    bool brackets = strchr(address->host, ':') != NULL;
    buf_printf(out, brackets ? "[%s]:%u" : "%s:%u", address->host, (unsigned)address->port);
}

static void write_choice(const char *choices, int index, struct buf *out)
{
    while (index-- > 0) choices += strcspn(choices, "|") + 1;
    buf_append(out, choices, strcspn(choices, "|"));
}

static void write_addresses(const struct config_addresses *addresses, struct buf *out)
{
    for (size_t i = 0; i < addresses->count; i++) {
        if (i > 0) buf_append_u8(out, ',');
        write_address(&addresses->items[i], out);
    }
}

static void write_number(const struct config_setting *setting, uint64_t value, struct buf *out)
{
    if (setting->kind == CONFIG_KIND_SYNC) {
        buf_append_text(out, value == 0 ? "always" : "interval:");
        if (value != 0) buf_append_decimal(out, value);
    } else if (setting->automatic && value == 0) {
        buf_append_text(out, "auto");
    } else if (setting->kind == CONFIG_KIND_BYTES) {
        write_bytes(value, out);
    } else {
        buf_append_decimal(out, value);
    }
}

void config_setting_write(const struct config_setting *setting, const struct config *config,
                          struct buf *out)
{
    const void *field = (const char *)config + setting->offset;
    const char *text = field;
    switch (setting->kind) {
    case CONFIG_KIND_PATH:
        buf_append_text(out, *text == '\0' && setting->automatic ? "none" : text);
        break;
    case CONFIG_KIND_ZONE:
    case CONFIG_KIND_NAMES:
        buf_append_text(out, text);
        break;
    case CONFIG_KIND_ADDRESS:
        write_address(field, out);
        break;
    case CONFIG_KIND_ADDRESSES:
        write_addresses(field, out);
        break;
    case CONFIG_KIND_CHOICE:
        write_choice(setting->choices, *(const int *)field, out);
        break;
    case CONFIG_KIND_BOOL:
        buf_append_text(out, *(const bool *)field ? "true" : "false");
        break;
    case CONFIG_KIND_NUMBER:
    case CONFIG_KIND_BYTES:
    case CONFIG_KIND_SYNC:
        write_number(setting, *(const uint64_t *)field, out);
        break;
    }
}

static void expected_range(const struct config_setting *setting, struct buf *out)
{
    bool bytes = setting->kind == CONFIG_KIND_BYTES;
    buf_append_text(out, bytes ? "a size from " : "a number from ");
    if (bytes)
        write_bytes(setting->least, out);
    else
        buf_append_decimal(out, setting->least);
    buf_append_text(out, " to ");
    if (bytes)
        write_bytes(setting->most, out);
    else
        buf_append_decimal(out, setting->most);
    if (setting->automatic) buf_append_text(out, " or auto");
}

static void expected_choice(const char *choices, struct buf *out)
{
    while (true) {
        size_t size = strcspn(choices, "|");
        buf_append(out, choices, size);
        if (choices[size] == '\0') return;
        choices += size + 1;
        buf_append_text(out, strchr(choices, '|') == NULL ? " or " : ", ");
    }
}

void config_setting_expected(const struct config_setting *setting, struct buf *out)
{
    switch (setting->kind) {
    case CONFIG_KIND_PATH:
        buf_append_text(out, "a path");
        break;
    case CONFIG_KIND_ZONE:
        buf_append_text(out, "a name of 1 to 64 of A-Z a-z 0-9 _ . -");
        break;
    case CONFIG_KIND_ADDRESS:
        buf_printf(out, "HOST:PORT, as in %s", setting->value);
        break;
    case CONFIG_KIND_ADDRESSES:
        buf_printf(out, "a list of up to %d HOST:PORT", CONFIG_JOIN_COUNT_MAX);
        break;
    case CONFIG_KIND_NAMES:
        buf_append_text(out, "a list of host names without ports");
        break;
    case CONFIG_KIND_CHOICE:
        expected_choice(setting->choices, out);
        break;
    case CONFIG_KIND_BOOL:
        buf_append_text(out, "true or false");
        break;
    case CONFIG_KIND_NUMBER:
    case CONFIG_KIND_BYTES:
        expected_range(setting, out);
        break;
    case CONFIG_KIND_SYNC:
        buf_printf(out, "always or interval:MS, MS from %llu to %llu",
                   (unsigned long long)setting->least, (unsigned long long)setting->most);
        break;
    }
}
