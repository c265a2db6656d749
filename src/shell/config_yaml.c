#include "shell/config_yaml.h"

#include <yaml.h>

#include "shell/config_setting.h"

struct yaml_reader {
    yaml_parser_t parser;
    yaml_event_t event; /* The current one; owned. */
    const char *file_name;
    struct config *config;
    struct buf *message;
};

static struct slice scalar_of(const yaml_event_t *event)
{
    return slice_of(event->data.scalar.value, event->data.scalar.length);
}

/* Begins the message: where the current event stands. */
static void say_place(struct yaml_reader *reader, yaml_mark_t mark)
{
    buf_clear(reader->message);
    buf_printf(reader->message, "%s:%zu:%zu: ", reader->file_name, mark.line + 1, mark.column + 1);
}

static enum status refuse(struct yaml_reader *reader, const char *what)
{
    say_place(reader, reader->event.start_mark);
    buf_append_text(reader->message, what);
    return STATUS_INVALID;
}

static enum status next(struct yaml_reader *reader)
{
    yaml_event_delete(&reader->event);
    if (yaml_parser_parse(&reader->parser, &reader->event)) {
        if (reader->event.type != YAML_ALIAS_EVENT) return STATUS_OK;
        return refuse(reader, "an alias; settings are written out");
    }
    if (reader->parser.error == YAML_MEMORY_ERROR) return STATUS_NOMEM;
    say_place(reader, reader->parser.problem_mark);
    buf_printf(reader->message, "not YAML: %s", reader->parser.problem);
    return STATUS_INVALID;
}

/* Refuses anchors and tags on the current event, and any other type than `type`. */
static enum status want(struct yaml_reader *reader, yaml_event_type_t type, const char *expected)
{
    const yaml_event_t *event = &reader->event;
    bool marked = false;
    if (event->type == YAML_SCALAR_EVENT) {
        marked = event->data.scalar.anchor != NULL || event->data.scalar.tag != NULL;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        marked = event->data.mapping_start.anchor != NULL || event->data.mapping_start.tag != NULL;
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        marked = event->data.sequence_start.anchor != NULL ||
                 event->data.sequence_start.tag != NULL;
    }
    if (marked) return refuse(reader, "an anchor or tag; settings are plain values");
    return event->type == type ? STATUS_OK : refuse(reader, expected);
}

static enum status refuse_unknown(struct yaml_reader *reader, struct slice name)
{
    const char *nearest = config_setting_nearest(name);
    say_place(reader, reader->event.start_mark);
    buf_printf(reader->message, "unknown setting '%.*s'", (int)name.size, (const char *)name.data);
    if (nearest != NULL) buf_printf(reader->message, "; did you mean '%s'?", nearest);
    return STATUS_INVALID;
}

static enum status refuse_value(struct yaml_reader *reader, const struct config_setting *setting,
                                struct slice text, yaml_mark_t mark)
{
    say_place(reader, mark);
    buf_printf(reader->message, "%s: '%.*s' is not ", setting->name, (int)text.size,
               (const char *)text.data);
    config_setting_expected(setting, reader->message);
    return STATUS_INVALID;
}

/* The items of a sequence, joined by commas, into `list`. */
static enum status read_list(struct yaml_reader *reader, struct buf *list)
{
    while (true) {
        enum status status = next(reader);
        if (status != STATUS_OK) return status;
        if (reader->event.type == YAML_SEQUENCE_END_EVENT) return buf_status(list);
        status = want(reader, YAML_SCALAR_EVENT, "expected an item of the list");
        if (status != STATUS_OK) return status;
        if (list->size > 0) buf_append_u8(list, ',');
        buf_append_slice(list, scalar_of(&reader->event));
    }
}

static enum status read_value(struct yaml_reader *reader, const struct config_setting *setting)
{
    struct buf list;
    struct slice text = {NULL, 0};
    yaml_mark_t mark = reader->event.start_mark;
    buf_init(&list, reader->message->heap);
    enum status status;
    bool list_wanted = setting->kind == CONFIG_KIND_ADDRESSES || setting->kind == CONFIG_KIND_NAMES;
    if (list_wanted && reader->event.type == YAML_SEQUENCE_START_EVENT) {
        status = want(reader, YAML_SEQUENCE_START_EVENT, "");
        if (status == STATUS_OK) status = read_list(reader, &list);
        text = buf_slice(&list);
    } else {
        status = want(reader, YAML_SCALAR_EVENT, "expected a value");
        if (status == STATUS_OK) text = scalar_of(&reader->event);
    }
    if (status == STATUS_OK && !config_setting_read(setting, text, reader->config)) {
        status = refuse_value(reader, setting, text, mark);
    }
    buf_deinit(&list);
    if (status != STATUS_OK) return status;
    reader->config->places[setting - config_settings] =
        (struct config_place){CONFIG_FROM_FILE, (unsigned)mark.line + 1, (unsigned)mark.column + 1};
    return STATUS_OK;
}

static enum status read_entry(struct yaml_reader *reader)
{
    enum status status = want(reader, YAML_SCALAR_EVENT, "expected the name of a setting");
    if (status != STATUS_OK) return status;
    const struct config_setting *setting = config_setting_find(scalar_of(&reader->event));
    if (setting == NULL) return refuse_unknown(reader, scalar_of(&reader->event));
    const struct config_place *place = &reader->config->places[setting - config_settings];
    if (place->source == CONFIG_FROM_FILE) {
        say_place(reader, reader->event.start_mark);
        buf_printf(reader->message, "%s is set a second time; first on line %u", setting->name,
                   place->line);
        return STATUS_INVALID;
    }
    status = next(reader);
    return status == STATUS_OK ? read_value(reader, setting) : status;
}

static enum status read_mapping(struct yaml_reader *reader)
{
    /* A file of comments alone holds an empty value. */
    if (reader->event.type == YAML_SCALAR_EVENT && reader->event.data.scalar.length == 0 &&
        reader->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
        return want(reader, YAML_SCALAR_EVENT, "");
    }
    enum status status = want(reader, YAML_MAPPING_START_EVENT, "expected lines of `name: value`");
    while (status == STATUS_OK) {
        status = next(reader);
        if (status != STATUS_OK || reader->event.type == YAML_MAPPING_END_EVENT) break;
        status = read_entry(reader);
    }
    return status;
}

static enum status read_stream(struct yaml_reader *reader)
{
    bool seen = false;
    while (true) {
        enum status status = next(reader);
        if (status != STATUS_OK) return status;
        switch (reader->event.type) {
        case YAML_STREAM_END_EVENT:
            return STATUS_OK;
        case YAML_STREAM_START_EVENT:
        case YAML_DOCUMENT_END_EVENT:
            break;
        case YAML_DOCUMENT_START_EVENT:
            if (seen) return refuse(reader, "a second document");
            seen = true;
            break;
        default:
            status = read_mapping(reader);
        }
        if (status != STATUS_OK) return status;
    }
}

enum status config_yaml_read(const char *file_name, struct slice file, struct config *config,
                             struct buf *message)
{
    struct yaml_reader reader = {.file_name = file_name, .config = config, .message = message};
    if (!yaml_parser_initialize(&reader.parser)) return STATUS_NOMEM;
    /* An empty slice may have no address, which libyaml does not take. */
    const uint8_t *text = file.size == 0 ? (const uint8_t *)"" : file.data;
    yaml_parser_set_input_string(&reader.parser, text, file.size);
    yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
    enum status status = read_stream(&reader);
    yaml_event_delete(&reader.event);
    yaml_parser_delete(&reader.parser);
    return status;
}
