#include "node/cross_site.h"

/* Takes ":8000" off the end of "host:8000" or "[::1]:8000". */
static struct slice without_port(struct slice host)
{
    size_t size = host.size;
    while (size > 0 && host.data[size - 1] >= '0' && host.data[size - 1] <= '9') size--;
    return size > 0 && host.data[size - 1] == ':' ? slice_prefix(host, size - 1) : host;
}

/* Four numbers and nothing else: "127.0.0.1.example" is a name. */
static bool is_ipv4(struct slice text)
{
    unsigned parts = 0;
    size_t at = 0;
    while (true) {
        unsigned value = 0, digits = 0;
        for (; at < text.size && text.data[at] >= '0' && text.data[at] <= '9'; at++, digits++)
            value = value * 10 + (text.data[at] - '0');
        if (digits == 0 || digits > 3 || value > 255) return false;
        if (++parts == 4) return at == text.size;
        if (at == text.size || text.data[at++] != '.') return false;
    }
}

static bool ends_with(struct slice text, const char *lower)
{
    size_t size = strlen(lower);
    return text.size > size && http_equal_ignoring_case(slice_from(text, text.size - size), lower);
}

static uint8_t lower_of(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte;
}

static bool is_same_name(struct slice a, struct slice b)
{
    if (a.size != b.size) return false;
    for (size_t i = 0; i < a.size; i++)
        if (lower_of(a.data[i]) != lower_of(b.data[i])) return false;
    return true;
}

static bool is_listed(struct slice names, struct slice host)
{
    while (names.size > 0) {
        const uint8_t *comma = memchr(names.data, ',', names.size);
        size_t size = comma == NULL ? names.size : (size_t)(comma - names.data);
        if (is_same_name(slice_prefix(names, size), host)) return true;
        names = slice_from(names, comma == NULL ? size : size + 1);
    }
    return false;
}

static bool is_own_name(const struct cross_site_rules *rules, struct slice host)
{
    if (host.size == 0) return true; /* Browsers always name one. */
    host = without_port(host);
    if (host.size > 0 && (is_ipv4(host) || host.data[0] == '[')) return true;
    return http_equal_ignoring_case(host, "localhost") || ends_with(host, ".localhost") ||
           is_listed(rules->names, host);
}

static bool is_safe(enum http_method method)
{
    return method == HTTP_GET || method == HTTP_HEAD || method == HTTP_OPTIONS;
}

/* An origin is a scheme, "://" and a host, or "null". Proxies that end TLS change the scheme. */
static bool is_own_origin(const struct cross_site_rules *rules, struct slice origin,
                          struct slice host)
{
    static const struct slice schemes[] = {SLICE_INITIALIZER("http://"),
                                           SLICE_INITIALIZER("https://")};
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        if (!slice_starts_with(origin, schemes[i])) continue;
        struct slice from = slice_from(origin, schemes[i].size);
        return from.size > 0 && (is_same_name(from, host) || is_listed(rules->names, from));
    }
    return false;
}

static bool is_from_own_page(const struct cross_site_rules *rules,
                             const struct http_request *request)
{
    struct slice value;
    if (is_safe(request->method)) return true;
    if (http_request_header(request, "sec-fetch-site", &value))
        return http_equal_ignoring_case(value, "same-origin") ||
               http_equal_ignoring_case(value, "none");
    if (!http_request_header(request, "origin", &value)) return true; /* No browser. */
    return is_own_origin(rules, value, request->host);
}

bool cross_site_admits(const struct cross_site_rules *rules, const struct http_request *request,
                       enum problem_code *code, const char **detail)
{
    if (rules->names_checked && !is_own_name(rules, request->host)) {
        *code = PROBLEM_UNKNOWN_HOST;
        *detail = "the host asked for is not an address, localhost, or among allowed_hosts";
        return false;
    }
    if (!is_from_own_page(rules, request)) {
        *code = PROBLEM_CROSS_SITE;
        *detail = "a page of another site may change nothing here: Origin is neither the host "
                  "asked for nor among allowed_hosts";
        return false;
    }
    return true;
}
