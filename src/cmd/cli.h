/* What the commands of the command line client share: the table of commands, their flags, the
 * connection, and how an answer becomes output and an exit code. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/slice.h"
#include "cmd/http_client.h"

enum cli_exit {
    CLI_DONE = 0,
    CLI_FAILED = 1, /* Or not found. */
    CLI_USAGE = 2,
    CLI_CONNECTION = 3,
    CLI_AUTH = 4,
    CLI_TIMEOUT = 5, /* Or too few owners. */
    CLI_INTERRUPTED = 130,
};

enum { CLI_FLAG_COUNT_MAX = 12, CLI_WORD_COUNT_MAX = 256 };

struct cli_flag {
    const char *name;  /* Without dashes. */
    const char *value; /* What its value is called; NULL: it has none. */
    const char *help;
};

struct cli {
    const char *url;
    const char *name_space; /* NULL: the default one. */
    bool json;
    uint64_t timeout_ms;
    bool color;                 /* Standard output is a terminal that wants colour. */
    bool escape;                /* Standard output is a terminal: control characters are escaped. */
    bool is_prompt;             /* Commands come from the prompt. */
    bool quiet;                 /* Says nothing of what goes wrong. */
    bool keeps;                 /* Answers are for the command alone: --json does not print them. */
    struct heap heap;           /* For all that a command needs. */
    struct http_client *client; /* Made by the first request. */
};

/* The arguments of one command, taken apart. */
struct cli_arguments {
    const char *flags[CLI_FLAG_COUNT_MAX]; /* By position in the command's list; NULL: absent. */
    const char *words[CLI_WORD_COUNT_MAX];
    size_t word_count;
};

struct cli_command {
    const char *name;
    const char *usage; /* The words it takes. */
    const char *help;
    size_t words_least, words_most;
    struct cli_flag flags[CLI_FLAG_COUNT_MAX];
    enum cli_exit (*run)(struct cli *cli, const struct cli_arguments *arguments);
};

extern const struct cli_command cli_commands[];
extern const size_t cli_command_count;
extern const struct cli_flag cli_global_flags[];
extern const size_t cli_global_flag_count;

const struct cli_command *cli_command_find(const char *name);

/* Runs one command line: global flags, command, arguments. */
enum cli_exit cli_run(struct cli *cli, int count, const char *const *arguments);

/* --- Commands --- */

enum cli_exit cli_search(struct cli *cli, const struct cli_arguments *arguments);
enum cli_exit cli_add(struct cli *cli, const struct cli_arguments *arguments);
enum cli_exit cli_rm(struct cli *cli, const struct cli_arguments *arguments);
enum cli_exit cli_get(struct cli *cli, const struct cli_arguments *arguments);
enum cli_exit cli_incr(struct cli *cli, const struct cli_arguments *arguments);
enum cli_exit cli_count(struct cli *cli, const struct cli_arguments *arguments);
enum cli_exit cli_status(struct cli *cli, const struct cli_arguments *arguments);
enum cli_exit cli_nodes(struct cli *cli, const struct cli_arguments *arguments);
enum cli_exit cli_ring(struct cli *cli, const struct cli_arguments *arguments);
enum cli_exit cli_drain(struct cli *cli, const struct cli_arguments *arguments);
enum cli_exit cli_remove(struct cli *cli, const struct cli_arguments *arguments);
enum cli_exit cli_replace(struct cli *cli, const struct cli_arguments *arguments);
enum cli_exit cli_rebalance(struct cli *cli, const struct cli_arguments *arguments);
enum cli_exit cli_repair(struct cli *cli, const struct cli_arguments *arguments);
enum cli_exit cli_recover(struct cli *cli, const struct cli_arguments *arguments);
enum cli_exit cli_jobs(struct cli *cli, const struct cli_arguments *arguments);
enum cli_exit cli_import(struct cli *cli, const struct cli_arguments *arguments);
enum cli_exit cli_export(struct cli *cli, const struct cli_arguments *arguments);
enum cli_exit cli_verify(struct cli *cli, const struct cli_arguments *arguments);
enum cli_exit cli_ca(struct cli *cli, const struct cli_arguments *arguments);
enum cli_exit cli_bench(struct cli *cli, const struct cli_arguments *arguments);
enum cli_exit cli_completion(struct cli *cli, const struct cli_arguments *arguments);

/* Reads commands from the terminal until its end. */
enum cli_exit cli_prompt(struct cli *cli);

/* --- Talking to the node --- */

/* A path with `ns=` where one is set. */
struct buf cli_path(struct cli *cli, const char *path);

/* Ends `path` with its zero, sends, and says on standard error what went wrong, if anything.
 * `response` is initialised here; the caller deinits its body in any case. */
enum cli_exit cli_send(struct cli *cli, struct http_request *request, struct buf *path,
                       struct http_response *response);

/* Sends `body` (NULL: none; taken over) and parses the answer into `*out`, which the caller
 * decrefs. With --json prints the answer as it came. */
enum cli_exit cli_call(struct cli *cli, const char *method, struct buf *path, json_t *body,
                       json_t **out, long *status);

/* --- Values --- */

/* A JSON string, or {"base64": …} when `text` is not UTF-8. */
json_t *cli_json_of(struct slice text);

/* Appends the bytes of such a value; false if it is none. */
bool cli_json_bytes(const json_t *value, struct buf *out);

/* Prints the bytes of such a value; control characters escaped on a terminal. */
void cli_print_bytes(const struct cli *cli, FILE *file, struct slice bytes);
void cli_print_value(const struct cli *cli, const json_t *value);

/* Errors: false for anything but a whole number in the bounds, with a message. */
bool cli_number(const char *flag, const char *text, uint64_t least, uint64_t most, uint64_t *out);
bool cli_double(const char *name, const char *text, double *out);

__attribute__((format(printf, 1, 2))) enum cli_exit cli_usage_error(const char *format, ...);

/* Milliseconds of a clock that only goes forward. */
uint64_t cli_now_ms(void);
