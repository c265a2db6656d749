/* The cluster as one of its nodes knows it: members, and a picture of who owns what. */
#include "cmd/cli.h"

#include <string.h>

enum { RING_COLUMNS_MAX = 24, RING_KEY_COLUMNS = 24 };

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text == NULL ? "" : text;
}

static long long number_of(const json_t *object, const char *name)
{
    return (long long)json_integer_value(json_object_get(object, name));
}

static bool is_true(const json_t *object, const char *name)
{
    return json_is_true(json_object_get(object, name));
}

static enum cli_exit ask(struct cli *cli, const char *path, json_t **answer)
{
    struct buf full;
    buf_init(&full, &cli->heap);
    buf_append_text(&full, path);
    return cli_call(cli, "GET", &full, NULL, answer, NULL);
}

static void print_title(const json_t *answer, size_t count, const char *what)
{
    printf("cluster %s, map %lld: %zu %s%s\n", text_of(answer, "cluster"), number_of(answer, "map"),
           count, what, count == 1 ? "" : "s");
}

/* --- nodes --- */

static int widest(const json_t *nodes, const char *name, size_t least)
{
    size_t index, width = least;
    json_t *node;
    json_array_foreach(nodes, index, node)
    {
        size_t size = strlen(text_of(node, name));
        if (size > width) width = size;
    }
    return (int)width;
}

static void print_nodes(const json_t *answer)
{
    const json_t *nodes = json_object_get(answer, "nodes");
    int address = widest(nodes, "address", 7), zone = widest(nodes, "zone", 4);
    size_t index;
    json_t *node;
    print_title(answer, json_array_size(nodes), "node");
    printf("  %5s  %-*s  %-*s  %-9s  %-7s  %6s\n", "id", address, "address", zone, "zone", "state",
           "health", "ranges");
    json_array_foreach(nodes, index, node)
    {
        printf("%c %5lld  %-*s  %-*s  %-9s  %-7s  %6lld%s\n", is_true(node, "self") ? '*' : ' ',
               number_of(node, "id"), address, text_of(node, "address"), zone,
               text_of(node, "zone"), text_of(node, "state"), text_of(node, "health"),
               number_of(node, "ranges"), is_true(node, "leaving") ? "  leaves" : "");
    }
}

enum cli_exit cli_nodes(struct cli *cli, const struct cli_arguments *arguments)
{
    json_t *answer;
    (void)arguments;
    enum cli_exit code = ask(cli, "/nodes", &answer);
    if (code == CLI_DONE && !cli->json) print_nodes(answer);
    json_decref(answer);
    return code;
}

/* --- ring --- */

static bool names(const json_t *range, const char *set, long long id)
{
    size_t index;
    json_t *each;
    json_array_foreach(json_object_get(range, set), index, each)
    {
        if (json_integer_value(each) == id) return true;
    }
    return false;
}

/* What a node is to a range: it owns it (#), is about to (+), or gives it away (-). */
static char sign_of(const json_t *range, long long id)
{
    bool moves = json_object_get(range, "next") != NULL;
    bool owns = names(range, "owners", id), will = !moves || names(range, "next", id);
    if (owns) return will ? '#' : '-';
    return moves && will ? '+' : '.';
}

/* Where a range begins: namespace, a slash, and how the folded words go on. */
static void print_low(struct cli *cli, const json_t *low)
{
    struct buf bytes;
    buf_init(&bytes, &cli->heap);
    if (cli_json_bytes(low, &bytes)) {
        for (size_t i = 0; i < bytes.size; i++)
            if (bytes.data[i] == 0) bytes.data[i] = '/';
    }
    size_t columns = bytes.size < RING_KEY_COLUMNS ? bytes.size : RING_KEY_COLUMNS;
    if (bytes.size == 0)
        printf("%-*s", RING_KEY_COLUMNS, "(start)");
    else
        cli_print_bytes(cli, stdout, slice_of(bytes.data, columns));
    if (bytes.size > 0) printf("%*s", (int)(RING_KEY_COLUMNS - columns), "");
    buf_deinit(&bytes);
}

static void print_owners(const json_t *range, const char *set)
{
    size_t index;
    json_t *each;
    json_array_foreach(json_object_get(range, set), index, each)
    {
        printf("%s%lld", index == 0 ? "" : ",", (long long)json_integer_value(each));
    }
}

static void print_range(struct cli *cli, const json_t *range, const json_t *nodes)
{
    size_t index;
    json_t *node;
    print_low(cli, json_object_get(range, "low"));
    if (json_array_size(nodes) <= RING_COLUMNS_MAX) {
        json_array_foreach(nodes, index, node)
        {
            printf("  %*c", (int)snprintf(NULL, 0, "%lld", number_of(node, "id")),
                   sign_of(range, number_of(node, "id")));
        }
    } else {
        fputs("  ", stdout);
        print_owners(range, "owners");
        if (json_object_get(range, "next") != NULL) fputs(" > ", stdout);
        print_owners(range, "next");
    }
    printf("  %s\n", text_of(range, "stage"));
}

/* A column for each node, and under it how it is where that is not alive. */
static void print_heads(const json_t *nodes)
{
    if (json_array_size(nodes) > RING_COLUMNS_MAX) return;
    printf("%-*s", RING_KEY_COLUMNS, "from");
    for (size_t i = 0; i < json_array_size(nodes); i++)
        printf("  %lld", number_of(json_array_get(nodes, i), "id"));
    fputc('\n', stdout);
}

static void print_ill(const json_t *nodes)
{
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        const json_t *node = json_array_get(nodes, i);
        bool well = strcmp(text_of(node, "health"), "alive") == 0 &&
                    strcmp(text_of(node, "state"), "active") == 0;
        if (!well)
            printf("node %lld is %s, and %s by the map\n", number_of(node, "id"),
                   text_of(node, "health"), text_of(node, "state"));
    }
}

static void print_ring(struct cli *cli, const json_t *answer, const json_t *members)
{
    const json_t *ranges = json_object_get(answer, "ranges");
    const json_t *nodes = json_object_get(members, "nodes");
    size_t index;
    json_t *range;
    print_title(answer, json_array_size(ranges), "range");
    print_heads(nodes);
    json_array_foreach(ranges, index, range)
    {
        print_range(cli, range, nodes);
    }
    print_ill(nodes);
}

enum cli_exit cli_ring(struct cli *cli, const struct cli_arguments *arguments)
{
    json_t *answer, *nodes = NULL;
    (void)arguments;
    enum cli_exit code = ask(cli, "/nodes/all/ranges", &answer);
    if (code == CLI_DONE && !cli->json) code = ask(cli, "/nodes", &nodes);
    if (code == CLI_DONE && !cli->json) print_ring(cli, answer, nodes);
    json_decref(answer);
    json_decref(nodes);
    return code;
}
