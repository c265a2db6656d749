/* Files and names on the device, in the cache, and in between. */
#include "sim/disk_private.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/math.h"

void *disk_grow_array(void *array, size_t count, size_t size)
{
    void *grown = realloc(array, count * size);
    CHECK(grown != NULL);
    return grown;
}

/* bytes */

static void disk_bytes_make_room(struct disk_bytes *bytes, uint64_t size)
{
    if (size <= bytes->capacity) return;
    uint64_t capacity = u64_align(u64_max(size, bytes->capacity + bytes->capacity / 2), SECTOR);
    bytes->data = disk_grow_array(bytes->data, capacity, 1);
    memset(bytes->data + bytes->capacity, 0, capacity - bytes->capacity);
    bytes->capacity = capacity;
}

void disk_bytes_resize(struct disk_bytes *bytes, uint64_t size)
{
    disk_bytes_make_room(bytes, size);
    if (size < bytes->size) memset(bytes->data + size, 0, bytes->capacity - size);
    bytes->size = size;
}

void disk_bytes_copy(struct disk_bytes *to, const struct disk_bytes *from)
{
    disk_bytes_resize(to, 0);
    disk_bytes_resize(to, from->size);
    if (from->size > 0) memcpy(to->data, from->data, from->size);
}

/* Inodes and their unsynced events */

struct inode *inode_create(struct sim_disk *disk)
{
    struct inode *inode = calloc(1, sizeof *inode);
    CHECK(inode != NULL);
    disk->inodes = disk_grow_array(disk->inodes, disk->inode_count + 1, sizeof *disk->inodes);
    disk->inodes[disk->inode_count++] = inode;
    return inode;
}

static void inode_forget_events(struct inode *inode)
{
    for (size_t i = 0; i < inode->event_count; i++) free(inode->events[i].content);
    inode->event_count = 0;
}

void inode_destroy(struct inode *inode)
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
        inode->events =
            disk_grow_array(inode->events, inode->event_capacity, sizeof *inode->events);
    }
    inode->events[inode->event_count++] = event;
}

void inode_write(struct inode *inode, uint64_t offset, const void *data, size_t size)
{
    if (size == 0) return;
    bool extends = offset + size > inode->cached.size;
    if (extends) disk_bytes_resize(&inode->cached, offset + size);
    memcpy(inode->cached.data + offset, data, size);

    for (uint64_t at = offset / SECTOR * SECTOR; at < offset + size; at += SECTOR) {
        uint8_t *content = malloc(SECTOR);
        CHECK(content != NULL);
        memcpy(content, inode->cached.data + at, SECTOR);
        inode_add_event(inode, (struct file_event){EVENT_SECTOR, at, content});
    }
    if (extends) inode_add_event(inode, (struct file_event){EVENT_EXTEND, offset + size, NULL});
}

void inode_truncate(struct inode *inode, uint64_t size)
{
    bool extends = size > inode->cached.size;
    disk_bytes_resize(&inode->cached, size);
    inode_add_event(inode,
                    (struct file_event){extends ? EVENT_EXTEND : EVENT_TRUNCATE, size, NULL});
}

static void inode_store_event(struct inode *inode, const struct file_event *event)
{
    struct disk_bytes *stored = &inode->stored;
    if (event->kind == EVENT_SECTOR) {
        disk_bytes_make_room(stored, event->at + SECTOR);
        memcpy(stored->data + event->at, event->content, SECTOR);
    } else if (event->kind == EVENT_TRUNCATE) {
        disk_bytes_resize(stored, event->at);
    } else if (event->at > stored->size) {
        /* Not disk_bytes_resize(): sectors beyond the old size may have arrived before it. */
        disk_bytes_make_room(stored, event->at);
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
    struct disk_bytes *stored = &inode->stored;
    if (stored->capacity > stored->size)
        memset(stored->data + stored->size, 0, stored->capacity - stored->size);
}

void inode_store_some(struct sim_disk *disk, struct inode *inode, enum loss loss)
{
    struct survival survival = survival_draw(&disk->prng, loss, inode->event_count);
    for (size_t i = 0; i < inode->event_count; i++)
        if (survives(&disk->prng, survival, i)) inode_store_event(inode, &inode->events[i]);
    inode_drop_beyond_end(inode);
    inode_forget_events(inode);
}

/* Directories */

struct inode *directory_find(const struct directory *directory, const char *name)
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

void directory_set(struct directory *directory, const char *name, struct inode *inode)
{
    directory_remove(directory, name);
    directory->entries =
        disk_grow_array(directory->entries, directory->count + 1, sizeof *directory->entries);
    struct entry *entry = &directory->entries[directory->count++];
    strcpy(entry->name, name);
    entry->inode = inode;
}

void directory_copy(struct directory *to, const struct directory *from)
{
    to->count = from->count;
    if (from->count == 0) return;
    to->entries = disk_grow_array(to->entries, from->count, sizeof *to->entries);
    memcpy(to->entries, from->entries, from->count * sizeof *to->entries);
}

/* An empty `from` or `to` means none: a creation, a removal. */
static void directory_apply(struct directory *directory, const struct name_event *event)
{
    if (event->from[0] != 0 && directory_find(directory, event->from) == event->inode)
        directory_remove(directory, event->from);
    if (event->to[0] != 0) directory_set(directory, event->to, event->inode);
}

void disk_change_name(struct sim_disk *disk, const char *from, const char *to, struct inode *inode)
{
    struct name_event event = {.inode = inode};
    strcpy(event.from, from);
    strcpy(event.to, to);
    directory_apply(&disk->cached, &event);
    disk->events = disk_grow_array(disk->events, disk->event_count + 1, sizeof *disk->events);
    disk->events[disk->event_count++] = event;
}

static bool directory_names(const struct directory *directory, const struct inode *inode)
{
    for (size_t i = 0; i < directory->count; i++)
        if (directory->entries[i].inode == inode) return true;
    return false;
}

/* Frees the files that no name, handle or crash can bring back. */
void disk_sweep(struct sim_disk *disk)
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

void directory_store_some(struct sim_disk *disk, enum loss loss)
{
    struct survival survival = survival_draw(&disk->prng, loss, disk->event_count);
    for (size_t i = 0; i < disk->event_count; i++)
        if (survives(&disk->prng, survival, i)) directory_apply(&disk->stored, &disk->events[i]);
    disk->event_count = 0;
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

uint64_t disk_room(const struct sim_disk *disk)
{
    if (disk->capacity == 0) return UINT64_MAX;
    uint64_t used = sim_disk_used_bytes(disk);
    return used < disk->capacity ? disk->capacity - used : 0;
}
