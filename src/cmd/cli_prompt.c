/* The prompt: lines with history and completion, taken apart as a shell would. */
#include "cmd/cli.h"

#include <editline/readline.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_WORDS_MAX = 128, HISTORY_LINES_MAX = 1000, COMPLETION_MAX = 50 };

/* libedit calls back without a context. */
static struct cli *prompt_cli;

/* Takes `line` apart in place: blanks separate, quotes and backslashes keep them.
 * Returns the number of words, or -1 when a quote is open or there are too many. */
static int take_apart(char *line, const char **words)
{
    int count = 0;
    char *at = line;
    char *out = line;
    while (true) {
        while (*at == ' ' || *at == '\t') at++;
        if (*at == '\0') return count;
        if (count == LINE_WORDS_MAX) return -1;
        words[count++] = out;
        char quote = '\0';
        for (; *at != '\0' && (quote != '\0' || (*at != ' ' && *at != '\t')); at++) {
            if (quote == '\0' && (*at == '\'' || *at == '"'))
                quote = *at;
            else if (quote != '\0' && *at == quote)
                quote = '\0';
            else if (*at == '\\' && quote != '\'' && at[1] != '\0')
                *out++ = *++at;
            else
                *out++ = *at;
        }
        if (quote != '\0') return -1;
        if (*at != '\0') at++;
        *out++ = '\0';
    }
}

/* --- Completion --- */

static char *command_generator(const char *text, int state)
{
    static size_t next;
    if (state == 0) next = 0;
    while (next < cli_command_count) {
        const char *name = cli_commands[next++].name;
        if (strncmp(name, text, strlen(text)) == 0) return strdup(name);
    }
    return NULL;
}

/* The command that the line starts with, or NULL. */
static const struct cli_command *command_of_line(void)
{
    char name[32];
    size_t size = strcspn(rl_line_buffer, " ");
    if (size >= sizeof name) return NULL;
    memcpy(name, rl_line_buffer, size);
    name[size] = '\0';
    return cli_command_find(name);
}

static char *flag_generator(const char *text, int state)
{
    static size_t next;
    const struct cli_command *command = command_of_line();
    if (state == 0) next = 0;
    while (command != NULL && next < CLI_FLAG_COUNT_MAX && command->flags[next].name != NULL) {
        const char *name = command->flags[next++].name;
        if (strncmp(name, text + 2, strlen(text + 2)) != 0) continue;
        char *flag = malloc(strlen(name) + 3);
        if (flag != NULL) sprintf(flag, "--%s", name);
        return flag;
    }
    return NULL;
}

/* Stored words that start with exactly `text`: others would replace what was typed. */
static char *word_generator(const char *text, int state)
{
    static json_t *answer;
    static size_t next;
    if (state == 0) {
        struct cli quiet = *prompt_cli;
        quiet.quiet = true;
        struct http_response response;
        struct http_request request = {.method = "GET", .timeout_ms = 1000};
        struct buf path = cli_path(&quiet, "/search");
        http_query_append(&path, "q", slice_from_text(text));
        http_query_append(&path, "limit", SLICE_LITERAL("50"));
        json_decref(answer);
        answer = NULL;
        next = 0;
        if (cli_send(&quiet, &request, &path, &response) == CLI_DONE) {
            answer = json_loadb((const char *)response.body.data, response.body.size, 0, NULL);
        }
        buf_deinit(&response.body);
        buf_deinit(&path);
        prompt_cli->client = quiet.client;
    }
    const json_t *results = json_object_get(answer, "results");
    while (next < json_array_size(results) && next < COMPLETION_MAX) {
        const char *word = json_string_value(json_array_get(results, next++));
        if (word != NULL && strncmp(word, text, strlen(text)) == 0) return strdup(word);
    }
    return NULL;
}

static char **complete(const char *text, int start, int end)
{
    rl_attempted_completion_over = 1;
    if (start == 0) return rl_completion_matches(text, command_generator);
    if (strncmp(text, "--", 2) == 0) return rl_completion_matches(text, flag_generator);
    const struct cli_command *command = command_of_line();
    static const char *const takers[] = {"search", "get", "rm", "incr", "add", "count"};
    for (size_t i = 0; command != NULL && *text != '\0' && i < sizeof takers / sizeof *takers;
         i++) {
        if (strcmp(command->name, takers[i]) == 0) {
            return rl_completion_matches(text, word_generator);
        }
    }
    bool takes_files = command != NULL && (strcmp(command->name, "import") == 0 ||
                                           strcmp(command->name, "verify") == 0);
    if (takes_files) {
        rl_attempted_completion_over = 0; /* File names. */
    }
    return NULL;
}

/* --- The loop --- */

/* Where lines are kept between prompts: TRIFECTA_HISTORY, else a file at home. */
static bool history_path(char *out, size_t size)
{
    const char *named = getenv("TRIFECTA_HISTORY");
    const char *home = getenv("HOME");
    if (named != NULL) return *named != '\0' && snprintf(out, size, "%s", named) < (int)size;
    return home != NULL && snprintf(out, size, "%s/.trifecta_history", home) < (int)size;
}

static enum cli_exit run_line(struct cli *cli, char *line)
{
    const char *words[LINE_WORDS_MAX];
    int count = take_apart(line, words);
    if (count < 0) return cli_usage_error("a quote is open, or there are too many words");
    if (count == 0) return CLI_DONE;
    /* Flags of one line hold for that line alone; the connection stays unless it names a node. */
    struct cli once = *cli;
    once.is_prompt = true;
    for (int i = 0; i < count; i++) {
        if (strncmp(words[i], "--url", 5) == 0) once.client = NULL;
    }
    bool borrowed = once.client == cli->client;
    http_client_interrupted = 0;
    enum cli_exit code = cli_run(&once, count, words);
    if (borrowed)
        cli->client = once.client;
    else
        http_client_destroy(once.client);
    fflush(stdout);
    return code;
}

enum cli_exit cli_prompt(struct cli *cli)
{
    char path[4096];
    bool keeps = history_path(path, sizeof path);
    enum cli_exit code = CLI_DONE;
    prompt_cli = cli;
    rl_readline_name = "trifecta";
    rl_attempted_completion_function = complete;
    using_history();
    stifle_history(HISTORY_LINES_MAX);
    if (keeps) read_history(path);
    printf("%s; help lists the commands, exit ends\n", cli->url);

    char *line;
    while ((line = readline("trifecta> ")) != NULL) {
        bool ends = strcmp(line, "exit") == 0 || strcmp(line, "quit") == 0;
        if (*line != '\0' && !ends) add_history(line);
        if (!ends) code = run_line(cli, line);
        free(line);
        if (ends) break;
    }
    if (line == NULL) printf("\n");
    if (keeps) write_history(path);
    return code == CLI_USAGE || code == CLI_FAILED ? CLI_DONE : code;
}
