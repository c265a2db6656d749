/* The functions of the env, each with the fault that is due. */
#include "sim/disk_private.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/math.h"

/* Faults */

static bool disk_fails(struct sim_disk *disk, enum status *status)
{
    *status = STATUS_IO;
    if (disk->crashed) return true;
    if (++disk->operation_count != disk->failure_at) return false;
    *status = disk->failure;
    return true;
}

/* Counts a change; true if the power goes in the middle of it. */
static bool disk_crashes(struct sim_disk *disk)
{
    if (++disk->change_count == disk->crash_at) disk->crashed = true;
    return disk->crashed;
}

/* Files */

static bool file_is_dead(const struct sim_file *file)
{
    return file->generation != file->disk->generation;
}

static enum status sim_file_read(struct env_file *base, uint64_t offset, void *data, size_t size)
{
    struct sim_file *file = (struct sim_file *)base;
    enum status status;

    if (file_is_dead(file)) return STATUS_IO;
    if (disk_fails(file->disk, &status)) return status;
    const struct disk_bytes *cached = &file->inode->cached;
    if (offset > cached->size || size > cached->size - offset) return STATUS_END;
    if (size > 0) memcpy(data, cached->data + offset, size);
    return STATUS_OK;
}

/* How much of `size` bytes at `offset` there is room for. */
static size_t room_for(const struct sim_file *file, uint64_t offset, size_t size)
{
    uint64_t now = file->inode->cached.size;
    uint64_t room = disk_room(file->disk);
    if (offset + size <= now || offset + size - now <= room) return size;
    return now + room > offset ? (size_t)(now + room - offset) : 0;
}

static enum status sim_file_write(struct env_file *base, uint64_t offset, const void *data,
                                  size_t size)
{
    struct sim_file *file = (struct sim_file *)base;
    enum status status;

    CHECK(file->writable);
    CHECK(file->inode->map_count == 0);
    if (file_is_dead(file)) return STATUS_IO;
    if (disk_fails(file->disk, &status)) {
        if (!file->disk->crashed)
            inode_write(file->inode, offset, data,
                        size == 0 ? 0 : prng_below(&file->disk->prng, (uint32_t)size));
        return status;
    }
    size_t written = room_for(file, offset, size);
    inode_write(file->inode, offset, data, written);
    if (disk_crashes(file->disk)) return STATUS_IO;
    return written == size ? STATUS_OK : STATUS_FULL;
}

static enum status sim_file_truncate(struct env_file *base, uint64_t size)
{
    struct sim_file *file = (struct sim_file *)base;
    enum status status;

    CHECK(file->writable);
    CHECK(file->inode->map_count == 0);
    if (file_is_dead(file)) return STATUS_IO;
    if (disk_fails(file->disk, &status)) return status;
    uint64_t now = file->inode->cached.size;
    if (size > now && size - now > disk_room(file->disk)) return STATUS_FULL;
    inode_truncate(file->inode, size);
    return disk_crashes(file->disk) ? STATUS_IO : STATUS_OK;
}

static enum status sim_file_size(struct env_file *base, uint64_t *out)
{
    struct sim_file *file = (struct sim_file *)base;
    enum status status;

    if (file_is_dead(file)) return STATUS_IO;
    if (disk_fails(file->disk, &status)) return status;
    *out = file->inode->cached.size;
    return STATUS_OK;
}

static enum status sim_file_sync(struct env_file *base)
{
    struct sim_file *file = (struct sim_file *)base;
    struct sim_disk *disk = file->disk;
    enum status status;

    if (file_is_dead(file)) return STATUS_IO;
    if (disk_fails(disk, &status)) {
        if (!disk->crashed) inode_store_some(disk, file->inode, LOSS_ANY);
        return status;
    }
    if (++disk->sync_count == disk->sync_failure_at) {
        inode_store_some(disk, file->inode, LOSS_ANY);
        return STATUS_IO;
    }
    if (disk_crashes(disk)) return STATUS_IO; /* The restart draws what arrived. */
    /* A size that an earlier sync lost is in memory still, unlike the bytes: it goes first, so that
     * what was written once more beyond the old size arrives as well. */
    struct inode *inode = file->inode;
    if (inode->stored.size < inode->cached.size)
        disk_bytes_resize(&inode->stored, inode->cached.size);
    inode_store_some(disk, inode, LOSS_NONE);
    disk_bytes_resize(&inode->stored, inode->cached.size);
    return STATUS_OK;
}

static const struct env_file_ops file_ops;

static enum status sim_file_map(struct env_file *base, struct env_map **out)
{
    struct sim_file *file = (struct sim_file *)base;
    enum status status;

    if (file_is_dead(file)) return STATUS_IO;
    if (disk_fails(file->disk, &status)) return status;
    struct sim_map *map = calloc(1, sizeof *map);
    CHECK(map != NULL);
    map->map.ops = &file_ops;
    map->map.bytes = slice_of(file->inode->cached.data, file->inode->cached.size);
    map->disk = file->disk;
    map->inode = file->inode;
    file->inode->map_count++;
    file->disk->handle_count++;
    *out = &map->map;
    return STATUS_OK;
}

static void sim_file_unmap(struct env_map *base)
{
    struct sim_map *map = (struct sim_map *)base;
    map->inode->map_count--;
    map->disk->handle_count--;
    free(map);
}

static void sim_file_advise(struct env_file *file, uint64_t offset, uint64_t size,
                            enum env_advice advice)
{
}

static void sim_file_close(struct env_file *base)
{
    struct sim_file *file = (struct sim_file *)base;
    file->inode->handle_count--;
    file->disk->handle_count--;
    free(file);
}

static const struct env_file_ops file_ops = {
    .read = sim_file_read,
    .write = sim_file_write,
    .truncate = sim_file_truncate,
    .size = sim_file_size,
    .sync = sim_file_sync,
    .map = sim_file_map,
    .unmap = sim_file_unmap,
    .advise = sim_file_advise,
    .close = sim_file_close,
};

/* The directory's functions */

static struct sim_file *file_create(struct sim_disk *disk, struct inode *inode, bool writable)
{
    struct sim_file *file = calloc(1, sizeof *file);
    CHECK(file != NULL);
    *file = (struct sim_file){{&file_ops}, disk, inode, disk->generation, writable};
    inode->handle_count++;
    disk->handle_count++;
    return file;
}

static enum status sim_open(struct env *env, const char *name, enum env_mode mode,
                            struct env_file **out)
{
    struct sim_disk *disk = (struct sim_disk *)env;
    enum status status;

    CHECK(name[0] != 0 && strlen(name) <= ENV_NAME_BYTES_MAX);
    if (disk_fails(disk, &status)) return status;
    struct inode *inode = directory_find(&disk->cached, name);
    if (mode == ENV_CREATE) {
        if (inode != NULL) return STATUS_EXISTS;
        inode = inode_create(disk);
        disk_change_name(disk, "", name, inode);
        if (disk_crashes(disk)) return STATUS_IO;
    }
    if (inode == NULL) return STATUS_NOT_FOUND;
    *out = &file_create(disk, inode, mode != ENV_READ)->file;
    return STATUS_OK;
}

static enum status sim_rename(struct env *env, const char *from, const char *to)
{
    struct sim_disk *disk = (struct sim_disk *)env;
    enum status status;

    CHECK(to[0] != 0 && strlen(to) <= ENV_NAME_BYTES_MAX);
    if (disk_fails(disk, &status)) return status;
    struct inode *inode = directory_find(&disk->cached, from);
    if (inode == NULL) return STATUS_NOT_FOUND;
    disk_change_name(disk, from, to, inode);
    return disk_crashes(disk) ? STATUS_IO : STATUS_OK;
}

static enum status sim_remove(struct env *env, const char *name)
{
    struct sim_disk *disk = (struct sim_disk *)env;
    enum status status;

    if (disk_fails(disk, &status)) return status;
    struct inode *inode = directory_find(&disk->cached, name);
    if (inode == NULL) return STATUS_NOT_FOUND;
    disk_change_name(disk, name, "", inode);
    return disk_crashes(disk) ? STATUS_IO : STATUS_OK;
}

/* Lists a copy: the visitor may remove what it is shown. */
static enum status sim_list(struct env *env, env_visit *visit, void *context)
{
    struct sim_disk *disk = (struct sim_disk *)env;
    struct directory copy = {0};
    enum status status;

    if (disk_fails(disk, &status)) return status;
    directory_copy(&copy, &disk->cached);
    status = STATUS_OK;
    for (size_t i = 0; i < copy.count && status == STATUS_OK; i++)
        status = visit(context, copy.entries[i].name, true);
    free(copy.entries);
    return status;
}

static enum status sim_sync_directory(struct env *env)
{
    struct sim_disk *disk = (struct sim_disk *)env;
    enum status status;

    if (disk_fails(disk, &status)) return status;
    if (disk_crashes(disk)) return STATUS_IO;
    directory_store_some(disk, LOSS_NONE);
    disk_sweep(disk);
    return STATUS_OK;
}

static enum status sim_lock(struct env *env)
{
    struct sim_disk *disk = (struct sim_disk *)env;
    enum status status;

    if (disk_fails(disk, &status)) return status;
    if (disk->locked) return STATUS_LOCKED;
    disk->locked = true;
    return STATUS_OK;
}

/* One env, one lock: nobody else could read beside us. */
static enum status sim_lock_reading(struct env *env)
{
    return sim_lock(env);
}

static void sim_unlock(struct env *env)
{
    ((struct sim_disk *)env)->locked = false;
}

static enum status sim_free_bytes(struct env *env, uint64_t *out)
{
    struct sim_disk *disk = (struct sim_disk *)env;
    enum status status;

    if (disk_fails(disk, &status)) return status;
    *out = disk_room(disk);
    return STATUS_OK;
}

const struct env_ops sim_disk_ops = {
    .open = sim_open,
    .rename = sim_rename,
    .remove = sim_remove,
    .list = sim_list,
    .sync_directory = sim_sync_directory,
    .lock = sim_lock,
    .lock_reading = sim_lock_reading,
    .unlock = sim_unlock,
    .free_bytes = sim_free_bytes,
};
