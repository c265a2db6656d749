/* The command line client: one command, or a prompt. */
#include <curl/curl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/cli.h"

enum { TIMEOUT_MS = 30000 };

/* The first interrupt lets the command end in order; a second one does not wait. */
static void on_interrupt(int signal_number)
{
    if (http_client_interrupted) _exit(CLI_INTERRUPTED);
    http_client_interrupted = 1;
}

int main(int argument_count, char **arguments)
{
    struct cli cli = {.url = getenv("TRIFECTA_URL"), .timeout_ms = TIMEOUT_MS};
    const char *no_color = getenv("NO_COLOR");
    if (cli.url == NULL || *cli.url == '\0') cli.url = "http://127.0.0.1:8000";
    cli.escape = isatty(STDOUT_FILENO);
    cli.color = cli.escape && (no_color == NULL || *no_color == '\0');
    heap_init(&cli.heap, 0);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    signal(SIGINT, on_interrupt);
    signal(SIGPIPE, SIG_IGN);

    enum cli_exit code = cli_run(&cli, argument_count - 1, (const char *const *)arguments + 1);
    if (fflush(stdout) != 0 && code == CLI_DONE) code = CLI_FAILED;
    http_client_destroy(cli.client);
    curl_global_cleanup();
    return code;
}
