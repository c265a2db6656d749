#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "load.h"

static void part_add(struct template *template, int kind, const char *data, size_t size)
{
    if (template->count == TEMPLATE_PART_MAX) {
        fprintf(stderr, "load: the template has too many parts\n");
        exit(2);
    }
    struct template_part *part = &template->parts[template->count++];
    part->kind = kind;
    part->data = data;
    part->size = size;
}

void template_parse(const char *text, bool split, struct template *template)
{
    *template = (struct template){.argument_count = 1};
    while (*text != 0) {
        if (strncmp(text, "{}", 2) == 0) {
            part_add(template, PART_TEXT, NULL, 0);
            text += 2;
        } else if (strncmp(text, "{s}", 3) == 0) {
            part_add(template, PART_SCORE, NULL, 0);
            text += 3;
        } else if (split && *text == ' ') {
            part_add(template, PART_ARGUMENT_END, NULL, 0);
            template->argument_count++;
            text++;
        } else {
            size_t size = 1;
            while (text[size] != 0 && text[size] != '{' && !(split && text[size] == ' ')) size++;
            part_add(template, PART_LITERAL, text, size);
            text += size;
        }
    }
    part_add(template, PART_ARGUMENT_END, NULL, 0);
}

enum form { FORM_RAW, FORM_URL, FORM_JSON };

static void text_append(const char *text, size_t size, enum form form, struct bytes *out)
{
    static const char digits[] = "0123456789ABCDEF";
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~";
    if (form == FORM_RAW) {
        bytes_append(out, text, size);
        return;
    }
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (form == FORM_URL && memchr(plain, byte, sizeof plain - 1) == NULL)
            bytes_append(out, (char[]){'%', digits[byte >> 4], digits[byte & 15]}, 3);
        else if (form == FORM_JSON && (byte == '"' || byte == '\\'))
            bytes_append(out, (char[]){'\\', (char)byte}, 2);
        else
            bytes_append(out, &text[i], 1);
    }
}

static void part_append(const struct template_part *part, const struct line *line, enum form form,
                        struct bytes *out)
{
    if (part->kind == PART_LITERAL) bytes_append(out, part->data, part->size);
    if (part->kind == PART_TEXT) text_append(line->text, line->text_size, form, out);
    if (part->kind == PART_SCORE) bytes_append(out, line->score, line->score_size);
}

void resp_request_append(const struct template *template, const struct line *line,
                         struct bytes *out)
{
    static struct bytes argument;
    char head[32];
    bytes_append(out, head, (size_t)sprintf(head, "*%zu\r\n", template->argument_count));
    argument.size = 0;
    for (size_t i = 0; i < template->count; i++) {
        part_append(&template->parts[i], line, FORM_RAW, &argument);
        if (template->parts[i].kind != PART_ARGUMENT_END) continue;
        bytes_append(out, head, (size_t)sprintf(head, "$%zu\r\n", argument.size));
        bytes_append(out, argument.data, argument.size);
        bytes_append(out, "\r\n", 2);
        argument.size = 0;
    }
}

static void expand(const struct template *template, const struct line *line, enum form form,
                   struct bytes *out)
{
    for (size_t i = 0; i < template->count; i++) part_append(&template->parts[i], line, form, out);
}

void http_request_append(const struct template *path, const struct template *body,
                         const struct line *line, struct bytes *out)
{
    static struct bytes content;
    char head[128];
    bytes_append(out, body == NULL ? "GET " : "POST ", body == NULL ? 4 : 5);
    expand(path, line, FORM_URL, out);
    bytes_append(out, " HTTP/1.1\r\nHost: 127.0.0.1\r\n", 28);
    if (body != NULL) {
        content.size = 0;
        expand(body, line, FORM_JSON, &content);
        bytes_append(out, head,
                     (size_t)sprintf(head,
                                     "Content-Type: application/json\r\nContent-Length: %zu\r\n",
                                     content.size));
    }
    bytes_append(out, "\r\n", 2);
    if (body != NULL) bytes_append(out, content.data, content.size);
}

size_t resp_reply_size(const char *data, size_t size, bool *is_error)
{
    size_t at = 0;
    for (long items = 1; items > 0; items--) {
        const char *end = at < size ? memchr(data + at, '\n', size - at) : NULL;
        if (end == NULL) return 0;
        char type = data[at];
        long value = type == '$' || type == '*' ? strtol(data + at + 1, NULL, 10) : 0;
        at = (size_t)(end - data) + 1;
        if (type == '-') *is_error = true;
        if (type == '$' && value >= 0) at += (size_t)value + 2;
        if (type == '*' && value > 0) items += value;
        if (at > size) return 0;
    }
    return at;
}

static size_t chunked_size(const char *data, size_t at, size_t size)
{
    for (;;) {
        const char *end = at < size ? memchr(data + at, '\n', size - at) : NULL;
        if (end == NULL) return 0;
        size_t chunk = strtoul(data + at, NULL, 16);
        at = (size_t)(end - data) + 1 + chunk + 2;
        if (at > size) return 0;
        if (chunk == 0) return at;
    }
}

size_t http_reply_size(const char *data, size_t size, bool *is_error)
{
    const char *end = memmem(data, size, "\r\n\r\n", 4);
    if (end == NULL) return 0;
    size_t head_size = (size_t)(end - data) + 4;
    if (size > 9 && data[9] != '2') *is_error = true;
    const char *line = data;
    while ((line = memchr(line, '\n', (size_t)(end + 2 - line))) != NULL && ++line < end) {
        if (strncasecmp(line, "content-length:", 15) == 0) {
            size_t whole = head_size + strtoul(line + 15, NULL, 10);
            return whole <= size ? whole : 0;
        }
        if (strncasecmp(line, "transfer-encoding:", 18) == 0)
            return chunked_size(data, head_size, size);
    }
    return head_size;
}
