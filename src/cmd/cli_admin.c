/* Administration: commands that begin a job, and wait for its end unless told not to. */
#include "cmd/cli.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { POLL_MS = 200, ID_BYTES_MAX = 64, BAR_COLUMNS = 30 };

enum { FLAG_NO_WAIT, FLAG_SECOND }; /* Places in the lists of flags. */

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text == NULL ? "" : text;
}

static long long number_of(const json_t *object, const char *name)
{
    return (long long)json_integer_value(json_object_get(object, name));
}

static struct buf path_of(struct cli *cli, const char *path)
{
    struct buf full;
    buf_init(&full, &cli->heap);
    buf_append_text(&full, path);
    return full;
}

/* --- A job --- */

static void print_job(struct cli *cli, const json_t *job)
{
    const char *reason = text_of(job, "reason"), *warning = text_of(job, "warning");
    if (cli->json) {
        json_dumpf(job, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
        fputc('\n', stdout);
        return;
    }
    printf("%-16s %-9s  %lld of %lld %s", text_of(job, "id"), text_of(job, "state"),
           number_of(job, "done"), number_of(job, "total"), text_of(job, "unit"));
    if (json_object_get(job, "eta_ms") != NULL)
        printf("  %.1f s left", (double)number_of(job, "eta_ms") / 1000);
    printf("%s%s\n", *reason == '\0' ? "" : "  ", reason);
    if (*warning != '\0') fprintf(stderr, "trifecta: %s\n", warning);
}

static void draw(const json_t *job)
{
    char bar[BAR_COLUMNS + 1];
    if (!isatty(STDERR_FILENO)) return;
    double progress = json_number_value(json_object_get(job, "progress"));
    int filled = (int)(progress * BAR_COLUMNS);
    for (int i = 0; i < BAR_COLUMNS; i++) bar[i] = i < filled ? '#' : '.';
    bar[BAR_COLUMNS] = '\0';
    fprintf(stderr, "\r\033[K[%s] %3d%%  %s", bar, (int)(progress * 100), text_of(job, "id"));
    if (json_object_get(job, "eta_ms") != NULL)
        fprintf(stderr, "  %.0f s left", (double)number_of(job, "eta_ms") / 1000);
}

static void pause_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static bool is_running(const json_t *job)
{
    return strcmp(text_of(job, "state"), "running") == 0;
}

/* Until it has ended. Takes `job` over, and gives the last one back. */
static enum cli_exit await(struct cli *cli, json_t **job)
{
    enum cli_exit code = CLI_DONE;
    char path[ID_BYTES_MAX + 32];
    snprintf(path, sizeof path, "/api/v1/admin/jobs/%.*s", ID_BYTES_MAX, text_of(*job, "id"));
    while (code == CLI_DONE && is_running(*job)) {
        struct buf full = path_of(cli, path);
        json_t *next;
        draw(*job);
        pause_ms(POLL_MS);
        code = cli_call(cli, "GET", &full, NULL, &next, NULL);
        if (code != CLI_DONE) break;
        json_decref(*job);
        *job = next;
    }
    if (isatty(STDERR_FILENO)) fputs("\r\033[K", stderr);
    return code;
}

/* Sends a command, and waits for the job that it answers with. Takes the path over. */
static enum cli_exit run(struct cli *cli, const char *method, struct buf *path, bool wait)
{
    json_t *job;
    cli->keeps = true;
    enum cli_exit code = cli_call(cli, method, path, NULL, &job, NULL);
    if (code == CLI_DONE && wait) code = await(cli, &job);
    cli->keeps = false;
    if (code == CLI_DONE) {
        print_job(cli, job);
        bool ended_well = is_running(job) || strcmp(text_of(job, "state"), "done") == 0;
        if (!ended_well && strcmp(method, "DELETE") != 0) code = CLI_FAILED;
    }
    json_decref(job);
    return code;
}

/* --- Commands --- */

/* Appends the id of a node. False, and a message: it is none. */
static bool append_node(struct buf *path, const char *command, const char *name, const char *text)
{
    uint64_t node;
    if (!cli_number(command, text, 1, 65535, &node)) return false;
    http_query_append(path, name, slice_from_text(text));
    return true;
}

static enum cli_exit begin(struct cli *cli, const struct cli_arguments *arguments,
                           const char *command, bool force)
{
    static const char *const names[] = {"node", "with"};
    const size_t most = sizeof names / sizeof *names;
    struct buf path = path_of(cli, "/api/v1/admin/");
    buf_append_text(&path, command);
    for (size_t i = 0; i < arguments->word_count && i < most; i++) {
        if (append_node(&path, command, names[i], arguments->words[i])) continue;
        buf_deinit(&path);
        return CLI_USAGE;
    }
    if (force) http_query_append(&path, "force", SLICE_LITERAL("true"));
    return run(cli, "POST", &path, arguments->flags[FLAG_NO_WAIT] == NULL);
}

enum cli_exit cli_drain(struct cli *cli, const struct cli_arguments *arguments)
{
    return begin(cli, arguments, "drain", false);
}

enum cli_exit cli_remove(struct cli *cli, const struct cli_arguments *arguments)
{
    return begin(cli, arguments, "remove", arguments->flags[FLAG_SECOND] != NULL);
}

enum cli_exit cli_replace(struct cli *cli, const struct cli_arguments *arguments)
{
    return begin(cli, arguments, "replace", arguments->flags[FLAG_SECOND] != NULL);
}

enum cli_exit cli_rebalance(struct cli *cli, const struct cli_arguments *arguments)
{
    const char *weight = arguments->flags[FLAG_SECOND];
    uint64_t ignored;
    if ((weight == NULL) != (arguments->word_count == 0))
        return cli_usage_error("rebalance: a node and --weight are given together, or neither");
    if (weight == NULL) return begin(cli, arguments, "rebalance", false);
    struct buf path = path_of(cli, "/api/v1/admin/rebalance");
    bool good = cli_number("--weight", weight, 1, 1000000, &ignored) &&
                append_node(&path, "rebalance", "node", arguments->words[0]);
    http_query_append(&path, "weight", slice_from_text(weight));
    if (good) return run(cli, "POST", &path, arguments->flags[FLAG_NO_WAIT] == NULL);
    buf_deinit(&path);
    return CLI_USAGE;
}

enum cli_exit cli_repair(struct cli *cli, const struct cli_arguments *arguments)
{
    return begin(cli, arguments, "repair", false);
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

enum cli_exit cli_recover(struct cli *cli, const struct cli_arguments *arguments)
{
    uint64_t nodes[CLI_WORD_COUNT_MAX] = {0};
    struct buf list;
    json_t *answer;
    for (size_t i = 0; i < arguments->word_count; i++)
        if (!cli_number("recover", arguments->words[i], 1, 65535, &nodes[i])) return CLI_USAGE;
    qsort(nodes, arguments->word_count, sizeof *nodes, compare);
    buf_init(&list, &cli->heap);
    for (size_t i = 0; i < arguments->word_count; i++) {
        char text[8];
        snprintf(text, sizeof text, "%s%u", i == 0 ? "" : ",", (unsigned)nodes[i]);
        buf_append_text(&list, text);
    }
    struct buf path = path_of(cli, "/api/v1/admin/recover");
    http_query_append(&path, "lost", buf_slice(&list));
    if (arguments->flags[0] != NULL) http_query_append(&path, "force", SLICE_LITERAL("true"));
    buf_deinit(&list);
    enum cli_exit code = cli_call(cli, "POST", &path, NULL, &answer, NULL);
    if (code == CLI_DONE && !cli->json)
        printf("generation %lld begins with map %lld; %lld ranges begin empty\n",
               number_of(answer, "generation"), number_of(answer, "map"),
               number_of(answer, "ranges_lost"));
    json_decref(answer);
    return code;
}

static enum cli_exit print_jobs(struct cli *cli)
{
    json_t *answer, *job;
    size_t index;
    struct buf path = path_of(cli, "/api/v1/admin/jobs");
    enum cli_exit code = cli_call(cli, "GET", &path, NULL, &answer, NULL);
    if (code == CLI_DONE && !cli->json) {
        json_array_foreach(json_object_get(answer, "jobs"), index, job)
        {
            print_job(cli, job);
        }
    }
    json_decref(answer);
    return code;
}

enum cli_exit cli_jobs(struct cli *cli, const struct cli_arguments *arguments)
{
    bool cancels = arguments->flags[FLAG_SECOND] != NULL;
    if (arguments->word_count == 0) {
        if (cancels) return cli_usage_error("jobs: --cancel needs the id of a job");
        return print_jobs(cli);
    }
    const char *id = arguments->words[0];
    /* What is no id is no path either. */
    if (strlen(id) > ID_BYTES_MAX ||
        strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-") < strlen(id))
        return cli_usage_error("jobs: '%s' is not the id of a job, like drain-3", id);
    struct buf path = path_of(cli, "/api/v1/admin/jobs/");
    buf_append_text(&path, id);
    if (cancels) return run(cli, "DELETE", &path, false);
    return run(cli, "GET", &path, arguments->flags[FLAG_NO_WAIT] == NULL);
}
