#include "sim/disk.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/math.h"
#include "base/prng.h"

enum { SECTOR = SIM_DISK_SECTOR_BYTES };

/* Bytes that grow by zeros. Capacity is whole sectors, all beyond `size` is zero. */
struct bytes {
    uint8_t *data;
    uint64_t size;
    uint64_t capacity;
};

/* Something done to a file that is not on the device yet. */
struct file_event {
    enum { EVENT_SECTOR, EVENT_EXTEND, EVENT_TRUNCATE } kind;
    uint64_t at;      /* Of the sector's start, or the new size. */
    uint8_t *content; /* The sector after the write. */
};

struct inode {
    struct bytes cached; /* What the program sees. */
    struct bytes stored; /* What the device holds. */
    struct file_event *events;
    size_t event_count;
    size_t event_capacity;
    size_t handle_count;
    size_t map_count;
};

struct entry {
    char name[ENV_NAME_BYTES_MAX + 1];
    struct inode *inode;
};

struct directory {
    struct entry *entries;
    size_t count;
};

/* A change of names that is not on the device yet: `to` is the inode now, `from` is gone. */
struct name_event {
    char from[ENV_NAME_BYTES_MAX + 1];
    char to[ENV_NAME_BYTES_MAX + 1];
    struct inode *inode;
};

enum loss { LOSS_ALL, LOSS_NONE, LOSS_SUFFIX, LOSS_ANY, LOSS_COUNT };

struct sim_disk {
    struct env env;
    struct prng prng;
    struct inode **inodes;
    size_t inode_count;
    struct directory cached;
    struct directory stored;
    struct name_event *events;
    size_t event_count;
    uint64_t capacity;
    uint64_t change_count;
    uint64_t operation_count;
    uint64_t crash_at;   /* A change_count; 0: never. */
    uint64_t failure_at; /* An operation_count; 0: never. */
    enum status failure;
    uint64_t sync_count;
    uint64_t sync_failure_at;
    uint64_t generation; /* Counts restarts: older handles are dead. */
    size_t handle_count;
    bool crashed;
    bool locked;
};

struct sim_file {
    struct env_file file;
    struct sim_disk *disk;
    struct inode *inode;
    uint64_t generation;
    bool writable;
};

struct sim_map {
    struct env_map map;
    struct sim_disk *disk;
    struct inode *inode;
};

static void *grow_array(void *array, size_t count, size_t size)
{
    void *grown = realloc(array, count * size);
    CHECK(grown != NULL);
    return grown;
}

/* bytes */

static void bytes_make_room(struct bytes *bytes, uint64_t size)
{
    if (size <= bytes->capacity) return;
    uint64_t capacity = u64_align(u64_max(size, bytes->capacity + bytes->capacity / 2), SECTOR);
    bytes->data = grow_array(bytes->data, capacity, 1);
    memset(bytes->data + bytes->capacity, 0, capacity - bytes->capacity);
    bytes->capacity = capacity;
}

static void bytes_resize(struct bytes *bytes, uint64_t size)
{
    bytes_make_room(bytes, size);
    if (size < bytes->size) memset(bytes->data + size, 0, bytes->capacity - size);
    bytes->size = size;
}

static void bytes_copy(struct bytes *to, const struct bytes *from)
{
    bytes_resize(to, 0);
    bytes_resize(to, from->size);
    if (from->size > 0) memcpy(to->data, from->data, from->size);
}

/* Inodes and their unsynced events */

static struct inode *inode_create(struct sim_disk *disk)
{
    struct inode *inode = calloc(1, sizeof *inode);
    CHECK(inode != NULL);
    disk->inodes = grow_array(disk->inodes, disk->inode_count + 1, sizeof *disk->inodes);
    disk->inodes[disk->inode_count++] = inode;
    return inode;
}

static void inode_forget_events(struct inode *inode)
{
    for (size_t i = 0; i < inode->event_count; i++) free(inode->events[i].content);
    inode->event_count = 0;
}

static void inode_destroy(struct inode *inode)
{
    inode_forget_events(inode);
    free(inode->events);
    free(inode->cached.data);
    free(inode->stored.data);
    free(inode);
}

static void inode_add_event(struct inode *inode, struct file_event event)
{
    if (inode->event_count == inode->event_capacity) {
        inode->event_capacity = inode->event_capacity * 2 + 8;
        inode->events = grow_array(inode->events, inode->event_capacity, sizeof *inode->events);
    }
    inode->events[inode->event_count++] = event;
}

static void inode_write(struct inode *inode, uint64_t offset, const void *data, size_t size)
{
    if (size == 0) return;
    bool extends = offset + size > inode->cached.size;
    if (extends) bytes_resize(&inode->cached, offset + size);
    memcpy(inode->cached.data + offset, data, size);

    for (uint64_t at = offset / SECTOR * SECTOR; at < offset + size; at += SECTOR) {
        uint8_t *content = malloc(SECTOR);
        CHECK(content != NULL);
        memcpy(content, inode->cached.data + at, SECTOR);
        inode_add_event(inode, (struct file_event){EVENT_SECTOR, at, content});
    }
    if (extends) inode_add_event(inode, (struct file_event){EVENT_EXTEND, offset + size, NULL});
}

static void inode_truncate(struct inode *inode, uint64_t size)
{
    bool extends = size > inode->cached.size;
    bytes_resize(&inode->cached, size);
    inode_add_event(inode,
                    (struct file_event){extends ? EVENT_EXTEND : EVENT_TRUNCATE, size, NULL});
}

static void inode_store_event(struct inode *inode, const struct file_event *event)
{
    struct bytes *stored = &inode->stored;
    if (event->kind == EVENT_SECTOR) {
        bytes_make_room(stored, event->at + SECTOR);
        memcpy(stored->data + event->at, event->content, SECTOR);
    } else if (event->kind == EVENT_TRUNCATE) {
        bytes_resize(stored, event->at);
    } else if (event->at > stored->size) {
        /* Not bytes_resize(): sectors beyond the old size may have arrived before it. */
        bytes_make_room(stored, event->at);
        stored->size = event->at;
    }
}

/* Which events survive: `count` of them, one after the other. */
struct survival {
    enum loss loss;
    size_t kept; /* For LOSS_SUFFIX. */
};

static struct survival survival_draw(struct prng *prng, enum loss loss, size_t count)
{
    return (struct survival){loss, prng_below(prng, (uint32_t)count + 1)};
}

static bool survives(struct prng *prng, struct survival survival, size_t index)
{
    if (survival.loss == LOSS_SUFFIX) return index < survival.kept;
    if (survival.loss == LOSS_ANY) return prng_one_in(prng, 2);
    return survival.loss == LOSS_NONE;
}

/* Bytes beyond the stored size are on no device: they must not come back with the size. */
static void inode_drop_beyond_end(struct inode *inode)
{
    struct bytes *stored = &inode->stored;
    if (stored->capacity > stored->size)
        memset(stored->data + stored->size, 0, stored->capacity - stored->size);
}

static void inode_store_some(struct sim_disk *disk, struct inode *inode, enum loss loss)
{
    struct survival survival = survival_draw(&disk->prng, loss, inode->event_count);
    for (size_t i = 0; i < inode->event_count; i++)
        if (survives(&disk->prng, survival, i)) inode_store_event(inode, &inode->events[i]);
    inode_drop_beyond_end(inode);
    inode_forget_events(inode);
}

/* Directories */

static struct inode *directory_find(const struct directory *directory, const char *name)
{
    for (size_t i = 0; i < directory->count; i++)
        if (strcmp(directory->entries[i].name, name) == 0) return directory->entries[i].inode;
    return NULL;
}

static void directory_remove(struct directory *directory, const char *name)
{
    for (size_t i = 0; i < directory->count; i++) {
        if (strcmp(directory->entries[i].name, name) != 0) continue;
        directory->entries[i] = directory->entries[--directory->count];
        return;
    }
}

static void directory_set(struct directory *directory, const char *name, struct inode *inode)
{
    directory_remove(directory, name);
    directory->entries =
        grow_array(directory->entries, directory->count + 1, sizeof *directory->entries);
    struct entry *entry = &directory->entries[directory->count++];
    strcpy(entry->name, name);
    entry->inode = inode;
}

static void directory_copy(struct directory *to, const struct directory *from)
{
    to->count = from->count;
    if (from->count == 0) return;
    to->entries = grow_array(to->entries, from->count, sizeof *to->entries);
    memcpy(to->entries, from->entries, from->count * sizeof *to->entries);
}

/* An empty `from` or `to` means none: a creation, a removal. */
static void directory_apply(struct directory *directory, const struct name_event *event)
{
    if (event->from[0] != 0 && directory_find(directory, event->from) == event->inode)
        directory_remove(directory, event->from);
    if (event->to[0] != 0) directory_set(directory, event->to, event->inode);
}

static void disk_change_name(struct sim_disk *disk, const char *from, const char *to,
                             struct inode *inode)
{
    struct name_event event = {.inode = inode};
    strcpy(event.from, from);
    strcpy(event.to, to);
    directory_apply(&disk->cached, &event);
    disk->events = grow_array(disk->events, disk->event_count + 1, sizeof *disk->events);
    disk->events[disk->event_count++] = event;
}

static bool directory_names(const struct directory *directory, const struct inode *inode)
{
    for (size_t i = 0; i < directory->count; i++)
        if (directory->entries[i].inode == inode) return true;
    return false;
}

/* Frees the files that no name, handle or crash can bring back. */
static void disk_sweep(struct sim_disk *disk)
{
    CHECK(disk->event_count == 0);
    size_t kept = 0;
    for (size_t i = 0; i < disk->inode_count; i++) {
        struct inode *inode = disk->inodes[i];
        bool used = inode->handle_count > 0 || inode->map_count > 0 ||
                    directory_names(&disk->cached, inode) || directory_names(&disk->stored, inode);
        if (used)
            disk->inodes[kept++] = inode;
        else
            inode_destroy(inode);
    }
    disk->inode_count = kept;
}

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

uint64_t sim_disk_used_bytes(const struct sim_disk *disk)
{
    uint64_t used = 0;
    for (size_t i = 0; i < disk->inode_count; i++) {
        const struct inode *inode = disk->inodes[i];
        if (inode->handle_count > 0 || inode->map_count > 0 ||
            directory_names(&disk->cached, inode))
            used += inode->cached.size;
    }
    return used;
}

static uint64_t disk_room(const struct sim_disk *disk)
{
    if (disk->capacity == 0) return UINT64_MAX;
    uint64_t used = sim_disk_used_bytes(disk);
    return used < disk->capacity ? disk->capacity - used : 0;
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
    const struct bytes *cached = &file->inode->cached;
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
    inode_store_some(disk, file->inode, LOSS_NONE);
    /* A size that an earlier sync lost is in memory still, unlike the bytes. */
    bytes_resize(&file->inode->stored, file->inode->cached.size);
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

static void directory_store_some(struct sim_disk *disk, enum loss loss)
{
    struct survival survival = survival_draw(&disk->prng, loss, disk->event_count);
    for (size_t i = 0; i < disk->event_count; i++)
        if (survives(&disk->prng, survival, i)) directory_apply(&disk->stored, &disk->events[i]);
    disk->event_count = 0;
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

static const struct env_ops disk_ops = {
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

/* The disk */

struct sim_disk *sim_disk_create(uint64_t seed)
{
    struct sim_disk *disk = calloc(1, sizeof *disk);
    CHECK(disk != NULL);
    disk->env.ops = &disk_ops;
    disk->prng.state = seed;
    (void)prng_u64(&disk->prng); /* Small seeds give small numbers at first. */
    return disk;
}

void sim_disk_destroy(struct sim_disk *disk)
{
    if (disk == NULL) return;
    CHECK(disk->handle_count == 0);
    for (size_t i = 0; i < disk->inode_count; i++) inode_destroy(disk->inodes[i]);
    free(disk->inodes);
    free(disk->cached.entries);
    free(disk->stored.entries);
    free(disk->events);
    free(disk);
}

struct env *sim_disk_env(struct sim_disk *disk)
{
    return &disk->env;
}

uint64_t sim_disk_change_count(const struct sim_disk *disk)
{
    return disk->change_count;
}

uint64_t sim_disk_operation_count(const struct sim_disk *disk)
{
    return disk->operation_count;
}

void sim_disk_crash_after(struct sim_disk *disk, uint64_t count)
{
    disk->crash_at = disk->change_count + count + 1;
}

void sim_disk_crash(struct sim_disk *disk)
{
    disk->crashed = true;
}

bool sim_disk_crashed(const struct sim_disk *disk)
{
    return disk->crashed;
}

static void lose_power(struct sim_disk *disk)
{
    enum loss loss = (enum loss)prng_below(&disk->prng, LOSS_COUNT);
    for (size_t i = 0; i < disk->inode_count; i++) {
        struct inode *inode = disk->inodes[i];
        inode_store_some(disk, inode, loss);
        bytes_copy(&inode->cached, &inode->stored);
    }
    directory_store_some(disk, loss);
    directory_copy(&disk->cached, &disk->stored);
    disk_sweep(disk);
}

void sim_disk_restart(struct sim_disk *disk, enum sim_disk_restart how)
{
    CHECK(disk->handle_count == 0);
    if (how == SIM_DISK_POWER_LOSS) lose_power(disk);
    disk->generation++;
    disk->crashed = false;
    disk->locked = false;
    disk->crash_at = 0;
    disk->failure_at = 0;
    disk->sync_failure_at = 0;
}

void sim_disk_fail_after(struct sim_disk *disk, uint64_t count, enum status status)
{
    disk->failure_at = disk->operation_count + count + 1;
    disk->failure = status;
}

void sim_disk_fail_never(struct sim_disk *disk)
{
    disk->failure_at = 0;
    disk->sync_failure_at = 0;
}

void sim_disk_fail_sync_after(struct sim_disk *disk, uint64_t count)
{
    disk->sync_failure_at = disk->sync_count + count + 1;
}

void sim_disk_set_capacity(struct sim_disk *disk, uint64_t bytes)
{
    disk->capacity = bytes;
}

bool sim_disk_content(const struct sim_disk *disk, const char *name, struct slice *out)
{
    const struct inode *inode = directory_find(&disk->cached, name);
    if (inode == NULL) return false;
    *out = slice_of(inode->cached.data, inode->cached.size);
    return true;
}

void sim_disk_put(struct sim_disk *disk, const char *name, struct slice content)
{
    struct inode *inode = inode_create(disk);
    inode_write(inode, 0, content.data, content.size);
    inode_store_some(disk, inode, LOSS_NONE);
    directory_set(&disk->cached, name, inode);
    directory_set(&disk->stored, name, inode);
}

void sim_disk_flip_bit(struct sim_disk *disk, const char *name, uint64_t bit)
{
    struct inode *inode = directory_find(&disk->cached, name);
    CHECK(inode != NULL);
    CHECK(bit / 8 < inode->cached.size);
    inode->cached.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    if (bit / 8 < inode->stored.size) inode->stored.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
}
