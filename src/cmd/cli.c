#include "cmd/cli.h"

#include "base/nearest.h"

#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#define CONSISTENCY                                                                                \
    {                                                                                              \
        "consistency", "C", "one, quorum or all owners"                                            \
    }

#define NO_WAIT                                                                                    \
    {                                                                                              \
        "no-wait", NULL, "prints the job and ends, instead of waiting for its end"                 \
    }

const struct cli_flag cli_global_flags[] = {
    {"url", "U", "address of a node; else TRIFECTA_URL, else http://127.0.0.1:8000"},
    {"ns", "NAME", "namespace; else the one called default"},
    {"json", NULL, "prints the answer as JSON"},
    {"timeout-ms", "MS", "gives up after so long (30000); streams take as long as they need"},
    {"help", NULL, "prints what there is, or what the command takes"},
    {"version", NULL, "prints the version"},
};
const size_t cli_global_flag_count = sizeof cli_global_flags / sizeof *cli_global_flags;

enum { GLOBAL_URL, GLOBAL_NS, GLOBAL_JSON, GLOBAL_TIMEOUT, GLOBAL_HELP, GLOBAL_VERSION };

const struct cli_command cli_commands[] = {
    {"search",
     "[PREFIX]",
     "prints the words that a prefix matches, the best first",
     0,
     1,
     {{"limit", "N", "at most so many (10; up to 1000)"},
      {"sort", "ORDER", "popularity:desc, alphabetical:asc or alphabetical:desc"},
      {"cursor", "C", "goes on where an earlier search ended"},
      {"all", NULL, "goes on to the end"},
      {"scores", NULL, "prints word, tab, score"},
      {"fuzzy", "N", "forgives so many edits of the prefix: 0, 1 or 2"},
      {"tags", "A,B", "only words with all of these tags"},
      {"tags-any", "A,B", "only words with one of these tags"},
      CONSISTENCY},
     cli_search},
    {"add",
     "WORD [SCORE]",
     "stores a word, or sets it anew",
     1,
     2,
     {{"payload", "TEXT", "stored with the word"},
      {"tags", "A,B", "tags of the word"},
      {"ttl", "DURATION", "expires after 500ms, 30s, 5m, 2h or 7d"},
      {"expires-at", "MS", "expires at this Unix time in milliseconds"},
      CONSISTENCY},
     cli_add},
    {"rm", "WORD...", "deletes words", 1, CLI_WORD_COUNT_MAX, {CONSISTENCY}, cli_rm},
    {"get", "WORD", "prints all that is stored for a word", 1, 1, {CONSISTENCY}, cli_get},
    {"incr",
     "WORD [BY]",
     "adds to the score of a word, 1 unless told",
     1,
     2,
     {CONSISTENCY},
     cli_incr},
    {"count", "[PREFIX]", "prints how many words a prefix matches", 0, 1, {CONSISTENCY}, cli_count},
    {"import",
     "FILE|-",
     "stores words from a file or standard input",
     1,
     1,
     {{"format", "F", "ndjson, csv or tsv; else by the end of the file's name"}, CONSISTENCY},
     cli_import},
    {"export",
     "",
     "prints all words in alphabetical order",
     0,
     0,
     {{"format", "F", "ndjson (else) or tsv"},
      {"prefix", "P", "only words that this prefix matches"},
      {"output", "FILE", "writes to this file, which appears when it is complete"}},
     cli_export},
    {"status", "", "prints whether the node is ready, and its figures", 0, 0, {{0}}, cli_status},
    {"nodes", "", "prints the members of the cluster, and how they are", 0, 0, {{0}}, cli_nodes},
    {"ring", "", "prints who owns which range of words", 0, 0, {{0}}, cli_ring},
    {"drain",
     "[NODE]",
     "lets a node hand over its words and leave; the one that is asked, unless told",
     0,
     1,
     {NO_WAIT},
     cli_drain},
    {"remove",
     "NODE",
     "takes a node that is lost out of the cluster, for good",
     1,
     1,
     {NO_WAIT, {"force", NULL, "even if it is up, or acknowledged words may be lost with it"}},
     cli_remove},
    {"replace",
     "NODE WITH",
     "lets a node that has joined take the place of one that goes, or is lost",
     2,
     2,
     {NO_WAIT, {"force", NULL, "even if acknowledged words may be lost with it"}},
     cli_replace},
    {"rebalance",
     "[NODE]",
     "waits until every node has its share, after giving a node another weight if told",
     0,
     1,
     {NO_WAIT, {"weight", "W", "of the node's share: 100 unless told before"}},
     cli_rebalance},
    {"repair",
     "",
     "compares what the node has with all others that should have the same",
     0,
     0,
     {NO_WAIT},
     cli_repair},
    {"recover",
     "NODE...",
     "goes on without nodes that are lost for good, when too few are left to decide that",
     1,
     64,
     {{"force", NULL, "does it; without it what would be lost is told"}},
     cli_recover},
    {"jobs",
     "[ID]",
     "prints jobs of administration, or waits for one",
     0,
     1,
     {NO_WAIT, {"cancel", NULL, "cancels it"}},
     cli_jobs},
    {"bench",
     "[PREFIX...]",
     "searches as fast as the node answers, and prints how fast that is",
     0,
     CLI_WORD_COUNT_MAX,
     {{"connections", "N", "at once (16)"},
      {"depth", "N", "requests under way on each (1)"},
      {"duration", "S", "seconds (10)"},
      {"limit", "N", "words an answer (10)"}},
     cli_bench},
    {"ca",
     "init DIR | issue DIR NAME | show FILE",
     "makes the authority of a cluster, and certificates for its nodes",
     2,
     3,
     {{"days", "N", "valid for so long (3650 for an authority, 365 for a node)"}},
     cli_ca},
    {"verify",
     "DIR",
     "checks a data directory on which no node runs, and describes its files",
     1,
     1,
     {{"verbose", NULL, "prints notes, and files that hold nothing, as well"}},
     cli_verify},
    {"completion",
     "SHELL",
     "prints completions for bash, zsh or fish",
     1,
     1,
     {{0}},
     cli_completion},
};
const size_t cli_command_count = sizeof cli_commands / sizeof *cli_commands;

enum cli_exit cli_usage_error(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fputs("trifecta: ", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
    return CLI_USAGE;
}

const struct cli_command *cli_command_find(const char *name)
{
    for (size_t i = 0; i < cli_command_count; i++) {
        if (strcmp(cli_commands[i].name, name) == 0) return &cli_commands[i];
    }
    return NULL;
}

/* --- Help --- */

static size_t flag_count(const struct cli_command *command)
{
    size_t count = 0;
    while (count < CLI_FLAG_COUNT_MAX && command->flags[count].name != NULL) count++;
    return count;
}

static void print_flags(const struct cli_flag *flags, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", flags[i].name, flags[i].value == NULL ? "" : " ",
                 flags[i].value == NULL ? "" : flags[i].value);
        printf("  %-20s %s\n", left, flags[i].help);
    }
}

static enum cli_exit print_help(const struct cli_command *command)
{
    if (command != NULL) {
        printf("Usage: trifecta %s%s%s [FLAG]...\n\n%s%s: %s.\n", command->name,
               *command->usage == '\0' ? "" : " ", command->usage, "", command->name,
               command->help);
        if (flag_count(command) > 0) printf("\nFlags:\n");
        print_flags(command->flags, flag_count(command));
    } else {
        printf("Usage: trifecta [FLAG]... [COMMAND]\n\nWithout a command: a prompt.\n\n"
               "Commands:\n");
        for (size_t i = 0; i < cli_command_count; i++) {
            printf("  %-20s %s\n", cli_commands[i].name, cli_commands[i].help);
        }
    }
    printf("\nEverywhere:\n");
    print_flags(cli_global_flags, cli_global_flag_count);
    printf("\nExit codes: 0 done, 1 not found or failed, 2 usage, 3 connection, 4 key refused,\n"
           "5 timeout or too few owners, 130 interrupted.\n");
    return CLI_DONE;
}

/* --- Arguments --- */

struct line {
    const struct cli_command *command;
    const char *globals[8];
    struct cli_arguments arguments;
};

static const struct cli_flag *find_flag(const struct cli_flag *flags, size_t count,
                                        struct slice name)
{
    for (size_t i = 0; i < count; i++) {
        if (slice_equal(name, slice_from_text(flags[i].name))) return &flags[i];
    }
    return NULL;
}

static enum cli_exit unknown_flag(const struct cli_command *command, const char *argument,
                                  struct slice name)
{
    const char *names[CLI_FLAG_COUNT_MAX + sizeof cli_global_flags / sizeof *cli_global_flags];
    size_t count = 0;
    for (size_t i = 0; command != NULL && i < flag_count(command); i++) {
        names[count++] = command->flags[i].name;
    }
    for (size_t i = 0; i < cli_global_flag_count; i++) names[count++] = cli_global_flags[i].name;
    const char *nearest = nearest_name(name, names, count);
    if (nearest == NULL) return cli_usage_error("unknown flag '%s'", argument);
    return cli_usage_error("unknown flag '%s'; did you mean '--%s'?", argument, nearest);
}

static enum cli_exit unknown_command(const char *name)
{
    const char *names[sizeof cli_commands / sizeof *cli_commands];
    for (size_t i = 0; i < cli_command_count; i++) names[i] = cli_commands[i].name;
    const char *nearest = nearest_name(slice_from_text(name), names, cli_command_count);
    if (nearest == NULL) return cli_usage_error("unknown command '%s'; see --help", name);
    return cli_usage_error("unknown command '%s'; did you mean '%s'?", name, nearest);
}

/* Takes the flag at arguments[*at], with its value, which may be the next argument. */
static enum cli_exit take_flag(struct line *line, int count, const char *const *arguments, int *at)
{
    const char *argument = arguments[*at];
    size_t size = strcspn(argument + 2, "=");
    struct slice name = slice_of(argument + 2, size);
    const char *value = argument[2 + size] == '=' ? argument + 3 + size : NULL;

    const char **slot = NULL;
    const struct cli_flag *flag = NULL;
    if (line->command != NULL) {
        flag = find_flag(line->command->flags, flag_count(line->command), name);
        if (flag != NULL) slot = &line->arguments.flags[flag - line->command->flags];
    }
    if (flag == NULL) {
        flag = find_flag(cli_global_flags, cli_global_flag_count, name);
        if (flag == NULL) return unknown_flag(line->command, argument, name);
        slot = &line->globals[flag - cli_global_flags];
    }
    if (flag->value == NULL) {
        if (value != NULL) return cli_usage_error("--%s takes no value", flag->name);
        value = "";
    } else if (value == NULL) {
        if (++*at == count)
            return cli_usage_error("--%s needs a value (%s)", flag->name, flag->value);
        value = arguments[*at];
    }
    if (*slot != NULL) return cli_usage_error("--%s is given twice", flag->name);
    *slot = value;
    return CLI_DONE;
}

static enum cli_exit take_word(struct line *line, const char *word)
{
    if (line->command == NULL && strcmp(word, "help") == 0) {
        line->globals[GLOBAL_HELP] = "";
        return CLI_DONE;
    }
    if (line->command == NULL) {
        line->command = cli_command_find(word);
        return line->command == NULL ? unknown_command(word) : CLI_DONE;
    }
    size_t most = line->command->words_most;
    if (line->arguments.word_count == most || line->arguments.word_count == CLI_WORD_COUNT_MAX) {
        return cli_usage_error("%s: '%s' is too much; see trifecta %s --help", line->command->name,
                               word, line->command->name);
    }
    line->arguments.words[line->arguments.word_count++] = word;
    return CLI_DONE;
}

static enum cli_exit take_apart(struct line *line, int count, const char *const *arguments)
{
    bool words_only = false;
    for (int i = 0; i < count; i++) {
        const char *argument = arguments[i];
        enum cli_exit code = CLI_DONE;
        if (!words_only && strcmp(argument, "--") == 0) {
            words_only = true;
        } else if (!words_only && strcmp(argument, "-h") == 0) {
            line->globals[GLOBAL_HELP] = "";
        } else if (!words_only && strncmp(argument, "--", 2) == 0) {
            code = take_flag(line, count, arguments, &i);
        } else {
            code = take_word(line, argument);
        }
        if (code != CLI_DONE) return code;
    }
    return CLI_DONE;
}

static enum cli_exit apply_globals(struct cli *cli, const char *const *globals)
{
    if (globals[GLOBAL_URL] != NULL) cli->url = globals[GLOBAL_URL];
    if (globals[GLOBAL_NS] != NULL) cli->name_space = globals[GLOBAL_NS];
    if (globals[GLOBAL_JSON] != NULL) cli->json = true;
    if (globals[GLOBAL_TIMEOUT] == NULL) return CLI_DONE;
    return cli_number("--timeout-ms", globals[GLOBAL_TIMEOUT], 1, 86400000, &cli->timeout_ms)
               ? CLI_DONE
               : CLI_USAGE;
}

enum cli_exit cli_run(struct cli *cli, int count, const char *const *arguments)
{
    struct line line = {0};
    enum cli_exit code = take_apart(&line, count, arguments);
    if (code != CLI_DONE) return code;
    if (line.globals[GLOBAL_HELP] != NULL) return print_help(line.command);
    if (line.globals[GLOBAL_VERSION] != NULL) {
        printf("trifecta %s\n", TRIFECTA_VERSION);
        return CLI_DONE;
    }
    code = apply_globals(cli, line.globals);
    if (code != CLI_DONE) return code;
    if (line.command == NULL && !cli->is_prompt && isatty(STDIN_FILENO)) return cli_prompt(cli);
    if (line.command == NULL) return cli_usage_error("what is to be done? See trifecta --help");
    if (line.arguments.word_count < line.command->words_least) {
        return cli_usage_error("usage: trifecta %s %s", line.command->name, line.command->usage);
    }
    return line.command->run(cli, &line.arguments);
}
