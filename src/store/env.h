/* The files of one data directory, as a table of functions.
 *
 * The store reaches files through this alone: the shell brings real ones
 * (shell/file_env.h), the simulator a disk that forgets what was not synced
 * (sim/disk.h). Names are plain file names, never paths.
 *
 * What survives a crash
 *   1. The bytes of a file: what was written before an env_file_sync() that returned
 *      STATUS_OK began. Later writes survive in any part, at any granularity of 512
 *      bytes, in any order.
 *   2. Names (created, renamed, removed): what was done before an env_sync_directory()
 *      that returned STATUS_OK began. Later changes survive or not, each whole.
 *   3. After a failed sync nothing is known of the bytes it covered, and a later sync
 *      that succeeds does not bring them back: what was written stays in doubt until
 *      it is read again after a restart.
 *
 * Errors: STATUS_IO (the device), STATUS_FULL (no space or quota), STATUS_DENIED,
 * STATUS_READ_ONLY (the file system is), STATUS_NOT_FOUND, STATUS_EXISTS, STATUS_NOMEM.
 * A failed write may have changed any part of the range it was given, and the size.
 *
 * Threads: every function here may be called by any thread, on the same file too; an
 * env_file_sync() may run while others write, and covers the writes that returned
 * before it began. Writes to one range by two threads are the caller's to order. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/status.h"

struct env_file;
struct env_map;
struct env;

enum { ENV_NAME_BYTES_MAX = 63 };

enum env_mode {
    ENV_READ,   /* An existing file, not to be written. */
    ENV_WRITE,  /* An existing file, to be read and written. */
    ENV_CREATE, /* A new, empty one, to be read and written; STATUS_EXISTS if there is one. */
};

enum env_advice {
    ENV_ADVICE_NEED, /* These bytes will be read soon. */
    ENV_ADVICE_DROP, /* These bytes will not be read again soon. */
};

/* Called for each entry of the directory, in no order; `is_file` is false for
 * directories, links and devices. It may remove the entry. Any other answer than STATUS_OK ends the listing. */
typedef enum status env_visit(void *context, const char *name, bool is_file);

struct env_ops {
    enum status (*open)(struct env *env, const char *name, enum env_mode mode,
                        struct env_file **out);
    enum status (*rename)(struct env *env, const char *from, const char *to);
    enum status (*remove)(struct env *env, const char *name);
    enum status (*list)(struct env *env, env_visit *visit, void *context);
    enum status (*sync_directory)(struct env *env);
    enum status (*lock)(struct env *env);
    enum status (*lock_reading)(struct env *env);
    void (*unlock)(struct env *env);
    enum status (*free_bytes)(struct env *env, uint64_t *out);
};

struct env_file_ops {
    enum status (*read)(struct env_file *file, uint64_t offset, void *data, size_t size);
    enum status (*write)(struct env_file *file, uint64_t offset, const void *data, size_t size);
    enum status (*truncate)(struct env_file *file, uint64_t size);
    enum status (*size)(struct env_file *file, uint64_t *out);
    enum status (*sync)(struct env_file *file);
    enum status (*map)(struct env_file *file, struct env_map **out);
    void (*unmap)(struct env_map *map);
    void (*advise)(struct env_file *file, uint64_t offset, uint64_t size, enum env_advice advice);
    void (*close)(struct env_file *file);
};

/* Implementations put these first in structs of their own. */
struct env {
    const struct env_ops *ops;
};

struct env_file {
    const struct env_file_ops *ops;
};

struct env_map {
    const struct env_file_ops *ops;
    struct slice bytes;
    _Atomic bool damaged; /* The device failed under a read: the bytes there read as zero. */
};

static inline enum status env_open(struct env *env, const char *name, enum env_mode mode,
                                   struct env_file **out)
{
    return env->ops->open(env, name, mode, out);
}

/* Replaces `to` if it is there: after a crash `to` is the one or the other, whole.
 * Durable, like all changes of names, after env_sync_directory(). */
static inline enum status env_rename(struct env *env, const char *from, const char *to)
{
    return env->ops->rename(env, from, to);
}

/* Handles and maps of the file stay usable; its space is free once they are closed. */
static inline enum status env_remove(struct env *env, const char *name)
{
    return env->ops->remove(env, name);
}

static inline enum status env_list(struct env *env, env_visit *visit, void *context)
{
    return env->ops->list(env, visit, context);
}

static inline enum status env_sync_directory(struct env *env)
{
    return env->ops->sync_directory(env);
}

/* Takes the directory for this process until env_unlock() or its end, however it ends.
 *
 * Errors: STATUS_LOCKED if another process (or another env) has it. */
static inline enum status env_lock(struct env *env)
{
    return env->ops->lock(env);
}

/* Keeps those away who would change the directory, without changing it: others may read beside
 * us. Ends like env_lock().
 *
 * Errors: STATUS_LOCKED if another process has it to itself; STATUS_NOT_FOUND if it never was
 * locked, so that nobody can be kept away. */
static inline enum status env_lock_reading(struct env *env)
{
    return env->ops->lock_reading(env);
}

static inline void env_unlock(struct env *env)
{
    env->ops->unlock(env);
}

/* What may still be written, as the file system tells it. */
static inline enum status env_free_bytes(struct env *env, uint64_t *out)
{
    return env->ops->free_bytes(env, out);
}

/* Reads exactly `size` bytes. Errors: STATUS_END if the file ends before them. */
static inline enum status env_file_read(struct env_file *file, uint64_t offset, void *data,
                                        size_t size)
{
    return file->ops->read(file, offset, data, size);
}

/* Writes all of `data`; a file that ends before `offset` is filled up with zeros. */
static inline enum status env_file_write(struct env_file *file, uint64_t offset, const void *data,
                                         size_t size)
{
    return file->ops->write(file, offset, data, size);
}

/* Cuts the file, or extends it by zeros that take no space yet. */
static inline enum status env_file_truncate(struct env_file *file, uint64_t size)
{
    return file->ops->truncate(file, size);
}

static inline enum status env_file_size(struct env_file *file, uint64_t *out)
{
    return file->ops->size(file, out);
}

/* Makes bytes and size durable, as fdatasync() does; the name needs env_sync_directory(). */
static inline enum status env_file_sync(struct env_file *file)
{
    return file->ops->sync(file);
}

/* The whole file as memory, as it is now; read-only.
 *
 * Owns: the caller calls env_unmap(); the map outlives the handle and the name.
 * The file may not be written while it is mapped. An empty file gives an empty slice. */
static inline enum status env_file_map(struct env_file *file, struct env_map **out)
{
    return file->ops->map(file, out);
}

/* NULL is accepted. */
static inline void env_unmap(struct env_map *map)
{
    if (map != NULL) map->ops->unmap(map);
}

/* True once a read of the map met a device error. Check it after reading what must be right. */
static inline bool env_map_damaged(const struct env_map *map)
{
    return atomic_load_explicit(&map->damaged, memory_order_acquire);
}

/* A hint; it may do nothing. */
static inline void env_file_advise(struct env_file *file, uint64_t offset, uint64_t size,
                                   enum env_advice advice)
{
    file->ops->advise(file, offset, size, advice);
}

/* Syncs nothing. NULL is accepted. */
static inline void env_file_close(struct env_file *file)
{
    if (file != NULL) file->ops->close(file);
}

/* Writes `size` zeros at `offset`, so that the space is taken and a later write of the
 * range changes no metadata. Cost: writes of 64 KiB. */
enum status env_file_write_zeros(struct env_file *file, uint64_t offset, uint64_t size);
