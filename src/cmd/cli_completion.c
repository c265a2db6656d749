/* Completions for shells, made from the table of commands. */
#include "cmd/cli.h"

#include <string.h>

static void print_command_names(const char *separator)
{
    for (size_t i = 0; i < cli_command_count; i++) {
        printf("%s%s", i == 0 ? "" : separator, cli_commands[i].name);
    }
}

static void print_flags(const struct cli_flag *flags, size_t count)
{
    for (size_t i = 0; i < count && flags[i].name != NULL; i++) printf(" --%s", flags[i].name);
}

static void bash(void)
{
    printf("_trifecta()\n{\n"
           "    local current=${COMP_WORDS[COMP_CWORD]} command='' word flags\n"
           "    for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
           "        case $word in\n        ");
    print_command_names("|");
    printf(") command=$word; break ;;\n        esac\n    done\n"
           "    case $command in\n    '') flags='");
    print_command_names(" ");
    printf("' ;;\n");
    for (size_t i = 0; i < cli_command_count; i++) {
        printf("    %s) flags='", cli_commands[i].name);
        print_flags(cli_commands[i].flags, CLI_FLAG_COUNT_MAX);
        printf("' ;;\n");
    }
    printf("    esac\n    [ \"$command\" != completion ] || flags='bash zsh fish'\n"
           "    [ \"$command\" != ca ] || flags+=' init issue show'\n    flags+='");
    print_flags(cli_global_flags, cli_global_flag_count);
    printf("'\n    COMPREPLY=($(compgen -W \"$flags\" -- \"$current\"))\n"
           "    if [[ $command = @(ca|import|verify) && $current != -* ]]; then\n"
           "        COMPREPLY+=($(compgen -f -- \"$current\"))\n    fi\n}\n"
           "complete -F _trifecta trifecta\n");
}

/* Text inside single quotes, where zsh gives `[`, `]` and `:` a meaning. */
static void print_zsh_text(const char *text)
{
    for (; *text != '\0'; text++) {
        if (strchr("[]:\\", *text) != NULL) putchar('\\');
        if (*text == '\'') printf("'\\'");
        putchar(*text);
    }
}

static void print_zsh_flags(const struct cli_flag *flags, size_t count)
{
    for (size_t i = 0; i < count && flags[i].name != NULL; i++) {
        printf(" '--%s[", flags[i].name);
        print_zsh_text(flags[i].help);
        printf("]%s%s%s'", flags[i].value == NULL ? "" : ":",
               flags[i].value == NULL ? "" : flags[i].value, flags[i].value == NULL ? "" : ":");
    }
}

static void zsh(void)
{
    printf("#compdef trifecta\n_trifecta()\n{\n    local -a commands=(\n");
    for (size_t i = 0; i < cli_command_count; i++) {
        printf("        '%s:", cli_commands[i].name);
        print_zsh_text(cli_commands[i].help);
        printf("'\n");
    }
    printf("    )\n    local command=${words[(r)(");
    print_command_names("|");
    printf(")]}\n    case $command in\n");
    for (size_t i = 0; i < cli_command_count; i++) {
        printf("    %s) _arguments '*:word:%s'", cli_commands[i].name,
               strcmp(cli_commands[i].name, "import") == 0       ? "_files"
               : strcmp(cli_commands[i].name, "ca") == 0         ? "_files"
               : strcmp(cli_commands[i].name, "verify") == 0     ? "_directories"
               : strcmp(cli_commands[i].name, "completion") == 0 ? "(bash zsh fish)"
                                                                 : " ");
        print_zsh_flags(cli_commands[i].flags, CLI_FLAG_COUNT_MAX);
        print_zsh_flags(cli_global_flags, cli_global_flag_count);
        printf(" ;;\n");
    }
    printf("    *) _describe command commands; _arguments");
    print_zsh_flags(cli_global_flags, cli_global_flag_count);
    printf(" ;;\n    esac\n}\ncompdef _trifecta trifecta\n");
}

static void print_fish_text(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\'' || *text == '\\') putchar('\\');
        putchar(*text);
    }
}

static void print_fish_flags(const char *condition, const struct cli_flag *flags, size_t count)
{
    for (size_t i = 0; i < count && flags[i].name != NULL; i++) {
        printf("complete -c trifecta%s -l %s%s -d '", condition, flags[i].name,
               flags[i].value == NULL ? "" : " -r");
        print_fish_text(flags[i].help);
        printf("'\n");
    }
}

static void fish(void)
{
    char condition[128];
    printf("complete -c trifecta -f\n");
    print_fish_flags("", cli_global_flags, cli_global_flag_count);
    for (size_t i = 0; i < cli_command_count; i++) {
        const struct cli_command *command = &cli_commands[i];
        printf("complete -c trifecta -n __fish_use_subcommand -a %s -d '", command->name);
        print_fish_text(command->help);
        printf("'\n");
        snprintf(condition, sizeof condition, " -n '__fish_seen_subcommand_from %s'",
                 command->name);
        print_fish_flags(condition, command->flags, CLI_FLAG_COUNT_MAX);
    }
    printf("complete -c trifecta -n '__fish_seen_subcommand_from ca import verify' -F\n"
           "complete -c trifecta -n '__fish_seen_subcommand_from ca' -a 'init issue show'\n"
           "complete -c trifecta -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'\n");
}

enum cli_exit cli_completion(struct cli *cli, const struct cli_arguments *arguments)
{
    const char *shell = arguments->words[0];
    if (strcmp(shell, "bash") == 0)
        bash();
    else if (strcmp(shell, "zsh") == 0)
        zsh();
    else if (strcmp(shell, "fish") == 0)
        fish();
    else
        return cli_usage_error("completion: '%s' is not bash, zsh or fish", shell);
    return CLI_DONE;
}
