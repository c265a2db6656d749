#include "shell/file_env.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/check.h"
#include "shell/bus_guard.h"
#include "shell/tsan.h"
#include "store/names.h"

enum { WRITE_BYTES_MAX = 1 << 30 };

struct file_env {
    struct env env;
    struct heap *heap;
    int directory;
    int lock;         /* -1: not held. */
    bool lock_is_new; /* We made its file. */
};

struct file {
    struct env_file file;
    struct heap *heap;
    int descriptor;
};

struct file_map {
    struct env_map map;
    struct heap *heap;
};

static enum status status_of(int error)
{
    switch (error) {
    case ENOSPC:
    case EDQUOT:
        return STATUS_FULL;
    case EACCES:
    case EPERM:
        return STATUS_DENIED;
    case EROFS:
        return STATUS_READ_ONLY;
    case ENOENT:
        return STATUS_NOT_FOUND;
    case EEXIST:
        return STATUS_EXISTS;
    case ENOMEM:
    case EMFILE:
    case ENFILE:
        return STATUS_NOMEM;
    case ENOTDIR:
    case ENAMETOOLONG:
    case ELOOP:
        return STATUS_INVALID;
    default:
        return STATUS_IO;
    }
}

static enum status status_of_call(int result)
{
    return result == 0 ? STATUS_OK : status_of(errno);
}

/* Files */

static enum status file_read(struct env_file *base, uint64_t offset, void *data, size_t size)
{
    struct file *file = (struct file *)base;
    uint8_t *to = data;

    while (size > 0) {
        ssize_t count = pread(file->descriptor, to, size, (off_t)offset);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return status_of(errno);
        if (count == 0) return STATUS_END;
        to += count;
        offset += (uint64_t)count;
        size -= (size_t)count;
    }
    return STATUS_OK;
}

static enum status file_write(struct env_file *base, uint64_t offset, const void *data, size_t size)
{
    struct file *file = (struct file *)base;
    const uint8_t *from = data;

    while (size > 0) {
        size_t part = size < WRITE_BYTES_MAX ? size : WRITE_BYTES_MAX;
        ssize_t count = pwrite(file->descriptor, from, part, (off_t)offset);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return status_of(errno);
        if (count == 0) return STATUS_IO;
        from += count;
        offset += (uint64_t)count;
        size -= (size_t)count;
    }
    return STATUS_OK;
}

static enum status file_truncate(struct env_file *base, uint64_t size)
{
    struct file *file = (struct file *)base;
    int result;
    do {
        result = ftruncate(file->descriptor, (off_t)size);
    } while (result < 0 && errno == EINTR);
    return status_of_call(result);
}

static enum status file_size(struct env_file *base, uint64_t *out)
{
    struct file *file = (struct file *)base;
    struct stat stat;
    if (fstat(file->descriptor, &stat) != 0) return status_of(errno);
    *out = (uint64_t)stat.st_size;
    return STATUS_OK;
}

/* An interrupted fdatasync() may have reported, and so forgotten, an error: no retry. */
static enum status file_sync(struct env_file *base)
{
    struct file *file = (struct file *)base;
    return status_of_call(fdatasync(file->descriptor));
}

static const struct env_file_ops file_ops;

static enum status map_bytes(struct file_map *map, int descriptor, size_t size)
{
    void *at = mmap(NULL, size, PROT_READ, MAP_SHARED, descriptor, 0);
    if (at == MAP_FAILED) return status_of(errno);
    enum status status = bus_guard_add(at, size, &map->map.damaged);
    if (status != STATUS_OK) {
        munmap(at, size);
        return status;
    }
    map->map.bytes = slice_of(at, size);
    return STATUS_OK;
}

static enum status file_map(struct env_file *base, struct env_map **out)
{
    struct file *file = (struct file *)base;
    uint64_t size;

    enum status status = file_size(base, &size);
    if (status != STATUS_OK) return status;
    if (size > SIZE_MAX / 2) return STATUS_LIMIT;
    struct file_map *map = heap_zalloc(file->heap, sizeof *map);
    if (map == NULL) return STATUS_NOMEM;
    map->heap = file->heap;
    map->map.ops = &file_ops;
    if (size > 0) status = map_bytes(map, file->descriptor, (size_t)size);
    if (status != STATUS_OK) {
        heap_free(file->heap, map);
        return status;
    }
    *out = &map->map;
    return STATUS_OK;
}

static void file_unmap(struct env_map *base)
{
    struct file_map *map = (struct file_map *)base;
    if (base->bytes.size > 0) {
        union {
            const uint8_t *bytes;
            void *pointer;
        } at = {.bytes = base->bytes.data};
        bus_guard_remove(at.pointer);
        CHECK(munmap(at.pointer, base->bytes.size) == 0);
    }
    heap_free(map->heap, map);
}

static void file_advise(struct env_file *base, uint64_t offset, uint64_t size,
                        enum env_advice advice)
{
    struct file *file = (struct file *)base;
    int posix = advice == ENV_ADVICE_NEED ? POSIX_FADV_WILLNEED : POSIX_FADV_DONTNEED;
    (void)posix_fadvise(file->descriptor, (off_t)offset, (off_t)size, posix);
}

/* Whatever close() says, the descriptor is gone, and what counts was synced. */
static void file_close(struct env_file *base)
{
    struct file *file = (struct file *)base;
    close(file->descriptor);
    heap_free(file->heap, file);
}

static const struct env_file_ops file_ops = {
    .read = file_read,
    .write = file_write,
    .truncate = file_truncate,
    .size = file_size,
    .sync = file_sync,
    .map = file_map,
    .unmap = file_unmap,
    .advise = file_advise,
    .close = file_close,
};

/* The directory */

static int open_at(const struct file_env *env, const char *name, int flags)
{
    int descriptor = openat(env->directory, name, flags | O_CLOEXEC, 0600);
    if (descriptor >= 0) tsan_descriptor_is_new(descriptor);
    return descriptor;
}

static enum status dir_open(struct env *base, const char *name, enum env_mode mode,
                            struct env_file **out)
{
    static const int flags[] = {
        [ENV_READ] = O_RDONLY, [ENV_WRITE] = O_RDWR, [ENV_CREATE] = O_RDWR | O_CREAT | O_EXCL};
    struct file_env *env = (struct file_env *)base;

    struct file *file = heap_zalloc(env->heap, sizeof *file);
    if (file == NULL) return STATUS_NOMEM;
    int descriptor = open_at(env, name, flags[mode] | O_NOFOLLOW);
    if (descriptor < 0) {
        enum status status = status_of(errno);
        heap_free(env->heap, file);
        return status;
    }
    *file = (struct file){{&file_ops}, env->heap, descriptor};
    *out = &file->file;
    return STATUS_OK;
}

static enum status dir_rename(struct env *base, const char *from, const char *to)
{
    struct file_env *env = (struct file_env *)base;
    return status_of_call(renameat(env->directory, from, env->directory, to));
}

static enum status dir_remove(struct env *base, const char *name)
{
    struct file_env *env = (struct file_env *)base;
    return status_of_call(unlinkat(env->directory, name, 0));
}

static bool entry_is_file(int directory, const struct dirent *entry)
{
    struct stat stat;
    if (entry->d_type != DT_UNKNOWN) return entry->d_type == DT_REG;
    return fstatat(directory, entry->d_name, &stat, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISREG(stat.st_mode);
}

static enum status visit_entries(DIR *stream, env_visit *visit, void *context)
{
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(stream);
        if (entry == NULL) return errno == 0 ? STATUS_OK : status_of(errno);
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        enum status status = visit(context, entry->d_name, entry_is_file(dirfd(stream), entry));
        if (status != STATUS_OK) return status;
    }
}

/* A handle of its own: a stream has a position, and takes its descriptor with it. */
static enum status dir_list(struct env *base, env_visit *visit, void *context)
{
    struct file_env *env = (struct file_env *)base;
    int descriptor = open_at(env, ".", O_RDONLY | O_DIRECTORY);
    if (descriptor < 0) return status_of(errno);
    DIR *stream = fdopendir(descriptor);
    if (stream == NULL) {
        enum status status = status_of(errno);
        close(descriptor);
        return status;
    }
    enum status status = visit_entries(stream, visit, context);
    closedir(stream);
    return status;
}

static enum status dir_sync(struct env *base)
{
    struct file_env *env = (struct file_env *)base;
    return status_of_call(fsync(env->directory));
}

/* flock() belongs to the open file: a second env of this process is refused as well, and
 * the lock ends with the process however that ends. */
static enum status take_lock(struct file_env *env, int flags, int operation)
{
    int lock = open_at(env, NAME_LOCK_TEXT, flags | O_NOFOLLOW);
    if (lock < 0) return status_of(errno);
    if (flock(lock, operation | LOCK_NB) != 0) {
        enum status status = errno == EWOULDBLOCK ? STATUS_LOCKED : status_of(errno);
        close(lock);
        return status;
    }
    /* Who made the file may have removed it between our two calls: then it locks nothing. */
    struct stat found;
    if (fstat(lock, &found) != 0 || found.st_nlink == 0) {
        close(lock);
        return STATUS_LOCKED;
    }
    env->lock = lock;
    return STATUS_OK;
}

static enum status dir_lock(struct env *base)
{
    struct file_env *env = (struct file_env *)base;
    if (env->lock >= 0) return STATUS_LOCKED;
    enum status status = take_lock(env, O_RDWR, LOCK_EX);
    if (status != STATUS_NOT_FOUND) return status;
    status = take_lock(env, O_RDWR | O_CREAT | O_EXCL, LOCK_EX);
    env->lock_is_new = status == STATUS_OK;
    return status == STATUS_EXISTS ? STATUS_LOCKED : status;
}

static enum status dir_lock_reading(struct env *base)
{
    struct file_env *env = (struct file_env *)base;
    if (env->lock >= 0) return STATUS_LOCKED;
    return take_lock(env, O_RDONLY, LOCK_SH);
}

static void dir_unlock(struct env *base)
{
    struct file_env *env = (struct file_env *)base;
    if (env->lock < 0) return;
    /* A start that made no store, as in a directory of somebody else's, leaves nothing behind. */
    if (env->lock_is_new && faccessat(env->directory, NAME_IDENTITY_TEXT, F_OK, 0) != 0 &&
        errno == ENOENT)
        unlinkat(env->directory, NAME_LOCK_TEXT, 0);
    close(env->lock);
    env->lock = -1;
    env->lock_is_new = false;
}

static enum status dir_free_bytes(struct env *base, uint64_t *out)
{
    struct file_env *env = (struct file_env *)base;
    struct statvfs space;
    if (fstatvfs(env->directory, &space) != 0) return status_of(errno);
    *out = (uint64_t)space.f_bavail * space.f_frsize;
    return STATUS_OK;
}

static const struct env_ops dir_ops = {
    .open = dir_open,
    .rename = dir_rename,
    .remove = dir_remove,
    .list = dir_list,
    .sync_directory = dir_sync,
    .lock = dir_lock,
    .lock_reading = dir_lock_reading,
    .unlock = dir_unlock,
    .free_bytes = dir_free_bytes,
};

/* Opening */

/* Makes the new directory's own name durable in the one that holds it. */
static enum status sync_parent(const char *path)
{
    char copy[PATH_MAX];
    if (snprintf(copy, sizeof copy, "%s", path) >= (int)sizeof copy) return STATUS_INVALID;
    int parent = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0) return status_of(errno);
    enum status status = status_of_call(fsync(parent));
    close(parent);
    return status;
}

static enum status make_directory(const char *path)
{
    if (mkdir(path, 0700) == 0) return sync_parent(path);
    return errno == EEXIST ? STATUS_OK : status_of(errno);
}

enum status file_env_open(struct heap *heap, const char *path, bool create, struct env **out)
{
    enum status status = bus_guard_install();
    if (status != STATUS_OK) return status;
    if (create) {
        status = make_directory(path);
        if (status != STATUS_OK) return status;
    }
    struct file_env *env = heap_zalloc(heap, sizeof *env);
    if (env == NULL) return STATUS_NOMEM;
    env->directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (env->directory < 0) {
        status = status_of(errno);
        heap_free(heap, env);
        return status;
    }
    env->env.ops = &dir_ops;
    env->heap = heap;
    env->lock = -1;
    *out = &env->env;
    return STATUS_OK;
}

void file_env_close(struct env *base)
{
    struct file_env *env = (struct file_env *)base;
    if (env == NULL) return;
    dir_unlock(base);
    close(env->directory);
    heap_free(env->heap, env);
}
