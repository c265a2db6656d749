/* Certificates and keys in the files of a directory of their own, for tests of what reads them. */
#pragma once

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "shell/certificate.h"
#include "shell/peer_tls.h"
#include "test.h"

enum { DAYS = CERTIFICATE_DAY_S };

struct certificate_files {
    char directory[64];
    char paths[256][128]; /* Of what was asked for last, in turn. */
    size_t next;
    struct heap heap;
};

static inline const char *path_of(struct certificate_files *files, const char *name)
{
    char *path = files->paths[files->next++ % 256];
    EXPECT(strlen(files->directory) + 1 + strlen(name) < sizeof files->paths[0]);
    strcpy(path, files->directory);
    strcat(path, "/");
    strcat(path, name);
    return path;
}

static inline void write_to(struct certificate_files *files, const char *name, struct slice bytes)
{
    FILE *file = fopen(path_of(files, name), "wb");
    EXPECT(file != NULL && fwrite(bytes.data, 1, bytes.size, file) == bytes.size);
    EXPECT(fclose(file) == 0);
}

static inline struct buf read_from(struct certificate_files *files, const char *name)
{
    struct buf bytes = {.heap = &files->heap};
    FILE *file = fopen(path_of(files, name), "rb");
    EXPECT(file != NULL);
    uint8_t *to = buf_reserve(&bytes, 1 << 16);
    buf_commit(&bytes, fread(to, 1, 1 << 16, file));
    fclose(file);
    return bytes;
}

static inline void write_pair(struct certificate_files *files, const char *name,
                              struct buf *certificate, struct buf *key)
{
    char file[64];
    snprintf(file, sizeof file, "%s.crt", name);
    write_to(files, file, buf_slice(certificate));
    snprintf(file, sizeof file, "%s.key", name);
    write_to(files, file, buf_slice(key));
    buf_deinit(certificate);
    buf_deinit(key);
}

/* Times are days from now. */
static inline struct certificate_period days(int64_t begin, int64_t end)
{
    int64_t now = (int64_t)time(NULL);
    return (struct certificate_period){now + begin * DAYS, now + end * DAYS};
}

static inline void make_authority(struct certificate_files *files, const char *name,
                                  struct certificate_period period)
{
    struct buf certificate = {.heap = &files->heap}, key = {.heap = &files->heap};
    EXPECT(certificate_make_authority(period, &certificate, &key) == STATUS_OK);
    write_pair(files, name, &certificate, &key);
}

static inline void issue(struct certificate_files *files, const char *authority, const char *name,
                         enum certificate_role role, struct certificate_period period)
{
    char file[64];
    const char *why;
    struct buf certificate = {.heap = &files->heap}, key = {.heap = &files->heap};
    snprintf(file, sizeof file, "%s.crt", authority);
    struct buf issuer = read_from(files, file);
    snprintf(file, sizeof file, "%s.key", authority);
    struct buf issuer_key = read_from(files, file);
    EXPECT(certificate_issue(buf_slice(&issuer), buf_slice(&issuer_key), name, role, period,
                             &certificate, &key, &why) == STATUS_OK);
    write_pair(files, name, &certificate, &key);
    buf_deinit(&issuer);
    buf_deinit(&issuer_key);
}

/* An authority "ca" with the nodes "one" and "two". */
static inline void certificate_files_init(struct certificate_files *files)
{
    *files = (struct certificate_files){.directory = "/tmp/trifecta-certificates-XXXXXX"};
    heap_init(&files->heap, 0);
    EXPECT(mkdtemp(files->directory) != NULL);
    make_authority(files, "ca", days(-400, 400));
    issue(files, "ca", "one", CERTIFICATE_NODE, days(-1, 100));
    issue(files, "ca", "two", CERTIFICATE_NODE, days(-1, 100));
}

static inline void certificate_files_deinit(struct certificate_files *files)
{
    DIR *directory = opendir(files->directory);
    EXPECT(directory != NULL);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
        if (entry->d_name[0] != '.') EXPECT(unlink(path_of(files, entry->d_name)) == 0);
    closedir(directory);
    EXPECT(rmdir(files->directory) == 0);
    EXPECT(heap_used_bytes(&files->heap) == 0);
}

/* What a node shows and trusts. */
static inline struct peer_tls_options options_of(struct certificate_files *files, const char *node,
                                                 const char *authority)
{
    char name[64];
    struct peer_tls_options options = {0};
    snprintf(name, sizeof name, "%s.crt", node);
    options.certificate_file = path_of(files, name);
    snprintf(name, sizeof name, "%s.key", node);
    options.key_file = path_of(files, name);
    snprintf(name, sizeof name, "%s.crt", authority);
    options.authority_file = path_of(files, name);
    return options;
}
