/* Issues a certificate for any time, also one that is over: for tests of what becomes of it.
 *
 *   certify DIR NAME node|client BEGIN_S END_S      seconds from now; writes DIR/NAME.crt and .key */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shell/certificate.h"

static bool read_file(const char *directory, const char *end, struct buf *out)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/ca.%s", directory, end);
    FILE *file = fopen(path, "rb");
    uint8_t *to = buf_reserve(out, 1 << 16);
    if (file == NULL || to == NULL) return false;
    buf_commit(out, fread(to, 1, 1 << 16, file));
    return fclose(file) == 0;
}

static bool write_file(const char *directory, const char *name, const char *end,
                       const struct buf *from)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.%s", directory, name, end);
    FILE *file = fopen(path, "wb");
    if (file == NULL) return false;
    bool written = fwrite(from->data, 1, from->size, file) == from->size;
    return fclose(file) == 0 && written;
}

int main(int argument_count, char **arguments)
{
    struct heap heap;
    const char *why = "usage: certify DIR NAME node|client BEGIN_S END_S";
    bool done = false;
    heap_init(&heap, 0);
    struct buf authority = {.heap = &heap}, authority_key = {.heap = &heap};
    struct buf certificate = {.heap = &heap}, key = {.heap = &heap};
    if (argument_count == 6) {
        int64_t now = (int64_t)time(NULL);
        struct certificate_period period = {now + strtoll(arguments[4], NULL, 10),
                                            now + strtoll(arguments[5], NULL, 10)};
        bool node = strcmp(arguments[3], "node") == 0;
        why = "files";
        done = read_file(arguments[1], "crt", &authority) &&
               read_file(arguments[1], "key", &authority_key) &&
               certificate_issue(buf_slice(&authority), buf_slice(&authority_key), arguments[2],
                                 node ? CERTIFICATE_NODE : CERTIFICATE_OTHER, period, &certificate,
                                 &key, &why) == STATUS_OK &&
               write_file(arguments[1], arguments[2], "crt", &certificate) &&
               write_file(arguments[1], arguments[2], "key", &key);
    }
    if (!done) fprintf(stderr, "certify: %s\n", why);
    buf_deinit(&authority);
    buf_deinit(&authority_key);
    buf_deinit(&certificate);
    buf_deinit(&key);
    return done ? 0 : 1;
}
