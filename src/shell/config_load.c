#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "shell/config.h"

enum { EXIT_BAD_USAGE = 2 };

static enum status read_file(const char *path, struct buf *out, struct buf *message)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        buf_printf(message, "%s: %s", path, strerror(errno));
        return STATUS_IO;
    }
    uint8_t *to = buf_reserve(out, CONFIG_FILE_BYTES_MAX + 1);
    size_t size = to == NULL ? 0 : fread(to, 1, CONFIG_FILE_BYTES_MAX + 1, file);
    bool failed = ferror(file) != 0;
    fclose(file);
    if (to == NULL) return STATUS_NOMEM;
    if (failed || size > CONFIG_FILE_BYTES_MAX) {
        buf_printf(message, "%s: %s", path, failed ? "cannot be read" : "too long");
        return STATUS_INVALID;
    }
    buf_commit(out, size);
    return STATUS_OK;
}

static void print(struct buf *text)
{
    if (text->size > 0) fwrite(text->data, 1, text->size, stdout);
    fflush(stdout);
}

/* Reads everything; `text` takes what is to be printed, or what is wrong. */
static enum status load(int argument_count, const char *const *arguments, struct config *config,
                        enum config_action *action, struct buf *file, struct buf *text)
{
    struct config_input input = {
        .environment = (const char *const *)environ,
        .argument_count = argument_count,
        .arguments = arguments,
    };
    enum status status = config_command(argument_count, arguments, action, &input.file_name, text);
    if (status != STATUS_OK) return status;
    if (*action == CONFIG_HELP) config_help(text);
    if (*action == CONFIG_VERSION) buf_append_text(text, "trifectad " TRIFECTA_VERSION "\n");
    if (*action == CONFIG_HELP || *action == CONFIG_VERSION) return buf_status(text);

    if (input.file_name != NULL) status = read_file(input.file_name, file, text);
    input.file = buf_slice(file);
    if (status == STATUS_OK) status = config_parse(&input, config, text);
    if (status == STATUS_OK && *action != CONFIG_PRINT)
        status = config_check_built(config, input.file_name, text);
    if (status != STATUS_OK) return status;
    buf_clear(text);
    if (*action == CONFIG_PRINT) config_print(config, input.file_name, text);
    if (*action == CONFIG_CHECK) buf_append_text(text, "the configuration is good\n");
    return buf_status(text);
}

enum status config_reload(int argument_count, char **arguments, struct config *config,
                          struct buf *message)
{
    struct buf file;
    enum config_action action = CONFIG_RUN;
    buf_init(&file, message->heap);
    enum status status =
        load(argument_count, (const char *const *)arguments, config, &action, &file, message);
    if (status != STATUS_OK && message->size == 0) buf_append_text(message, status_name(status));
    buf_deinit(&file);
    return status;
}

bool config_load(int argument_count, char **arguments, struct config *config, int *exit_code)
{
    struct heap heap;
    struct buf file;
    struct buf text;
    enum config_action action = CONFIG_RUN;
    heap_init(&heap, 0);
    buf_init(&file, &heap);
    buf_init(&text, &heap);

    enum status status =
        load(argument_count, (const char *const *)arguments, config, &action, &file, &text);
    if (status != STATUS_OK) {
        if (text.size == 0) buf_append_text(&text, status_name(status));
        fprintf(stderr, "trifectad: %.*s\n", (int)text.size, (const char *)text.data);
        *exit_code = EXIT_BAD_USAGE;
    } else {
        print(&text);
        *exit_code = 0;
    }
    buf_deinit(&file);
    buf_deinit(&text);
    return status == STATUS_OK && action == CONFIG_RUN;
}
