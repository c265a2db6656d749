/* What the files of the simulated disk share: files and names as the program sees them, as the
 * device holds them, and all that lies between. Nobody else includes this. */
#pragma once

#include "base/prng.h"
#include "sim/disk.h"

enum { SECTOR = SIM_DISK_SECTOR_BYTES };

/* Bytes that grow by zeros. Capacity is whole sectors, all beyond `size` is zero. */
struct disk_bytes {
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
    struct disk_bytes cached; /* What the program sees. */
    struct disk_bytes stored; /* What the device holds. */
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

/* --- disk_device.c --- */

/* Like realloc(), of `count` elements; running out of memory stops the process. */
void *disk_grow_array(void *array, size_t count, size_t size);

void disk_bytes_resize(struct disk_bytes *bytes, uint64_t size);
void disk_bytes_copy(struct disk_bytes *to, const struct disk_bytes *from);

struct inode *inode_create(struct sim_disk *disk);
void inode_destroy(struct inode *inode);
void inode_write(struct inode *inode, uint64_t offset, const void *data, size_t size);
void inode_truncate(struct inode *inode, uint64_t size);

/* Draws which of the unsynced events arrived, and forgets the others. */
void inode_store_some(struct sim_disk *disk, struct inode *inode, enum loss loss);
void directory_store_some(struct sim_disk *disk, enum loss loss);

/* NULL if there is no such name. */
struct inode *directory_find(const struct directory *directory, const char *name);
void directory_set(struct directory *directory, const char *name, struct inode *inode);
void directory_copy(struct directory *to, const struct directory *from);

/* Changes a name for the program; the device knows of it at the next sync of the directory.
 * An empty `from` or `to`: a creation, a removal. */
void disk_change_name(struct sim_disk *disk, const char *from, const char *to, struct inode *inode);

/* Frees the files that no name, handle or crash can bring back. */
void disk_sweep(struct sim_disk *disk);

/* What may still be written. */
uint64_t disk_room(const struct sim_disk *disk);

/* --- disk_env.c --- */

extern const struct env_ops sim_disk_ops;
