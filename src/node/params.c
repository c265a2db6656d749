#include "node/params.h"

#include <string.h>

#include "core/key.h"
#include "core/limits.h"
#include "proto/url.h"
#include "proto/utf8.h"

struct reading {
    struct node_params *params;
    struct node_param_error *error;
    struct buf *decoded;
};

static enum status refuse(struct reading *reading, enum problem_code code, const char *field,
                          const char *detail)
{
    *reading->error = (struct node_param_error){code, field, detail};
    return STATUS_INVALID;
}

static enum status read_ns(struct reading *reading, struct slice value)
{
    if (!key_namespace_is_valid(value))
        return refuse(reading, PROBLEM_INVALID_NAMESPACE, "ns",
                      "a namespace is 1 to 64 characters of [A-Za-z0-9_.:-]");
    reading->params->ns = value;
    return STATUS_OK;
}

static enum status read_q(struct reading *reading, struct slice value)
{
    if (value.size > WORD_BYTES_MAX)
        return refuse(reading, PROBLEM_INVALID_PARAMETER, "q", "a prefix is at most 4096 bytes");
    reading->params->q = value;
    return STATUS_OK;
}

static enum status read_limit(struct reading *reading, struct slice value)
{
    uint32_t limit = 0;
    bool valid = value.size > 0 && value.size <= 4;
    for (size_t i = 0; valid && i < value.size; i++) {
        valid = value.data[i] >= '0' && value.data[i] <= '9';
        limit = limit * 10 + (value.data[i] - '0');
    }
    if (!valid || limit < 1 || limit > SEARCH_LIMIT_MAX)
        return refuse(reading, PROBLEM_INVALID_PARAMETER, "limit",
                      "limit is a whole number from 1 to 1000");
    reading->params->limit = limit;
    return STATUS_OK;
}

static enum status read_cursor(struct reading *reading, struct slice value)
{
    reading->params->cursor = value;
    return STATUS_OK;
}

static enum status read_sort(struct reading *reading, struct slice value)
{
    static const struct {
        struct slice name;
        enum cursor_sort sort;
    } sorts[] = {
        {SLICE_INITIALIZER("popularity:desc"), CURSOR_POPULARITY},
        {SLICE_INITIALIZER("alphabetical:asc"), CURSOR_ALPHABETICAL},
        {SLICE_INITIALIZER("alphabetical:desc"), CURSOR_ALPHABETICAL_REVERSE},
    };
    for (size_t i = 0; i < sizeof sorts / sizeof *sorts; i++) {
        if (!slice_equal(value, sorts[i].name)) continue;
        reading->params->sort = sorts[i].sort;
        return STATUS_OK;
    }
    return refuse(reading, PROBLEM_INVALID_PARAMETER, "sort",
                  "sort is popularity:desc, alphabetical:asc or alphabetical:desc");
}

static enum status read_word(struct reading *reading, struct slice value)
{
    if (!key_word_is_valid(value))
        return refuse(reading, PROBLEM_INVALID_WORD, "word", "a word is 1 to 4096 bytes");
    reading->params->word = value;
    return STATUS_OK;
}

static enum status read_format(struct reading *reading, struct slice value)
{
    if (slice_equal(value, SLICE_LITERAL("ndjson")))
        reading->params->format = NODE_FORMAT_NDJSON;
    else if (slice_equal(value, SLICE_LITERAL("tsv")))
        reading->params->format = NODE_FORMAT_TSV;
    else
        return refuse(reading, PROBLEM_INVALID_PARAMETER, "format", "format is ndjson or tsv");
    return STATUS_OK;
}

/* With one node every level is the same, so each is kept. */
static enum status read_consistency(struct reading *reading, struct slice value)
{
    static const struct slice names[] = {
        [CONSISTENCY_ONE] = SLICE_INITIALIZER("one"),
        [CONSISTENCY_QUORUM] = SLICE_INITIALIZER("quorum"),
        [CONSISTENCY_ALL] = SLICE_INITIALIZER("all"),
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!slice_equal(value, names[i])) continue;
        reading->params->consistency = (enum consistency)i;
        return STATUS_OK;
    }
    return refuse(reading, PROBLEM_INVALID_PARAMETER, "consistency",
                  "consistency is one, quorum or all");
}

bool node_id_read(struct slice text, node_id *out)
{
    uint32_t id = 0;
    if (text.size == 0 || text.size > 5) return false;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') return false;
        id = id * 10 + (text.data[i] - '0');
    }
    if (id < 1 || id > NODE_ID_MAX) return false;
    *out = (node_id)id;
    return true;
}

static enum status read_node(struct reading *reading, struct slice value)
{
    if (node_id_read(value, &reading->params->node)) return STATUS_OK;
    return refuse(reading, PROBLEM_INVALID_PARAMETER, "node",
                  "node is the id of a node, a whole number from 1 to 65535");
}

static enum status read_with(struct reading *reading, struct slice value)
{
    if (node_id_read(value, &reading->params->with)) return STATUS_OK;
    return refuse(reading, PROBLEM_INVALID_PARAMETER, "with",
                  "with is the id of a node, a whole number from 1 to 65535");
}

static enum status read_weight(struct reading *reading, struct slice value)
{
    uint32_t weight = 0;
    bool valid = value.size > 0 && value.size <= 7;
    for (size_t i = 0; valid && i < value.size; i++) {
        valid = value.data[i] >= '0' && value.data[i] <= '9';
        weight = weight * 10 + (value.data[i] - '0');
    }
    if (!valid || weight < 1 || weight > RANGEMAP_CAPACITY_MAX)
        return refuse(reading, PROBLEM_INVALID_PARAMETER, "weight",
                      "weight is a whole number from 1 to 1000000; that of a new node is 100");
    reading->params->weight = weight;
    return STATUS_OK;
}

static enum status read_force(struct reading *reading, struct slice value)
{
    reading->params->force = slice_equal(value, SLICE_LITERAL("true"));
    if (reading->params->force || slice_equal(value, SLICE_LITERAL("false"))) return STATUS_OK;
    return refuse(reading, PROBLEM_INVALID_PARAMETER, "force", "force is true or false");
}

static enum status read_lost(struct reading *reading, struct slice value)
{
    struct node_params *params = reading->params;
    for (bool last = false; !last;) {
        const uint8_t *comma = value.size == 0 ? NULL : memchr(value.data, ',', value.size);
        size_t size = comma == NULL ? value.size : (size_t)(comma - value.data);
        node_id *id = &params->lost[params->lost_count];
        bool valid = params->lost_count < NODE_LOST_MAX &&
                     node_id_read(slice_prefix(value, size), id) &&
                     (params->lost_count == 0 || id[-1] < *id);
        if (!valid)
            return refuse(
                reading, PROBLEM_INVALID_PARAMETER, "lost",
                "lost is ids of nodes, ascending, each once, with commas between them, at "
                "most 64");
        params->lost_count++;
        last = comma == NULL;
        value = slice_from(value, last ? value.size : size + 1);
    }
    return STATUS_OK;
}

static const struct {
    struct slice name;
    enum node_param param;
    enum status (*read)(struct reading *reading, struct slice value);
} known[] = {
    {SLICE_INITIALIZER("q"), NODE_PARAM_Q, read_q},
    {SLICE_INITIALIZER("limit"), NODE_PARAM_LIMIT, read_limit},
    {SLICE_INITIALIZER("cursor"), NODE_PARAM_CURSOR, read_cursor},
    {SLICE_INITIALIZER("sort"), NODE_PARAM_SORT, read_sort},
    {SLICE_INITIALIZER("ns"), NODE_PARAM_NS, read_ns},
    {SLICE_INITIALIZER("word"), NODE_PARAM_WORD, read_word},
    {SLICE_INITIALIZER("format"), NODE_PARAM_FORMAT, read_format},
    {SLICE_INITIALIZER("consistency"), NODE_PARAM_CONSISTENCY, read_consistency},
    {SLICE_INITIALIZER("node"), NODE_PARAM_NODE, read_node},
    {SLICE_INITIALIZER("force"), NODE_PARAM_FORCE, read_force},
    {SLICE_INITIALIZER("lost"), NODE_PARAM_LOST, read_lost},
    {SLICE_INITIALIZER("with"), NODE_PARAM_WITH, read_with},
    {SLICE_INITIALIZER("weight"), NODE_PARAM_WEIGHT, read_weight},
};

/* The name of a parameter that is not ours, for the refusal; NULL when it is not UTF-8. */
static const char *keep_name(struct reading *reading, struct slice name)
{
    struct buf *decoded = reading->decoded;
    size_t at = decoded->size;
    if (name.size == 0 || !utf8_is_valid(name)) return NULL;
    buf_append_slice(decoded, name);
    buf_append_u8(decoded, 0);
    return buf_status(decoded) == STATUS_OK ? (const char *)decoded->data + at : NULL;
}

static enum status read_pair(struct reading *reading, unsigned allowed, struct slice name,
                             struct slice value)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (!(allowed & known[i].param) || !slice_equal(name, known[i].name)) continue;
        if (reading->params->given & known[i].param)
            return refuse(reading, PROBLEM_INVALID_PARAMETER, (const char *)known[i].name.data,
                          "the parameter is given twice");
        reading->params->given |= known[i].param;
        return known[i].read(reading, value);
    }
    return refuse(reading, PROBLEM_UNKNOWN_PARAMETER, keep_name(reading, name),
                  "the parameter is not known here; docs/reference/http.md lists those that are");
}

enum status node_params_read(struct slice query, unsigned allowed, struct buf *decoded,
                             struct node_params *params, struct node_param_error *error)
{
    struct slice name, value;
    struct reading reading = {params, error, decoded};
    *params = (struct node_params){
        .ns = SLICE_LITERAL("default"),
        .limit = SEARCH_LIMIT_DEFAULT,
        .sort = CURSOR_POPULARITY,
    };

    /* Unescaping never lengthens, so nothing that was decoded moves, nor does a name that is
     * kept for a refusal. */
    buf_clear(decoded);
    if (query.size > 0 && buf_reserve(decoded, 2 * query.size + 1) == NULL) return STATUS_NOMEM;
    while (url_query_next(&query, &name, &value)) {
        enum status status = url_decode(name, decoded, &name);
        if (status == STATUS_OK) status = url_decode(value, decoded, &value);
        if (status == STATUS_INVALID)
            return refuse(&reading, PROBLEM_INVALID_PARAMETER, NULL,
                          "a percent sign is followed by two hexadecimal digits");
        if (status == STATUS_OK) status = read_pair(&reading, allowed, name, value);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}
