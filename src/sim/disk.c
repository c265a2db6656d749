#include "sim/disk.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/math.h"
#include "base/prng.h"
#include "sim/disk_private.h"

struct sim_disk *sim_disk_create(uint64_t seed)
{
    struct sim_disk *disk = calloc(1, sizeof *disk);
    CHECK(disk != NULL);
    disk->env.ops = &sim_disk_ops;
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

void sim_disk_crash_never(struct sim_disk *disk)
{
    disk->crash_at = 0;
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
        disk_bytes_copy(&inode->cached, &inode->stored);
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

struct sim_disk_image {
    size_t count;
    struct {
        char name[ENV_NAME_BYTES_MAX + 1];
        struct disk_bytes content;
    } files[];
};

struct sim_disk_image *sim_disk_image_take(const struct sim_disk *disk)
{
    const struct directory *stored = &disk->stored;
    struct sim_disk_image *image = NULL;
    image = calloc(1, sizeof *image + stored->count * sizeof image->files[0]);
    CHECK(image != NULL);
    image->count = stored->count;
    for (size_t i = 0; i < stored->count; i++) {
        strcpy(image->files[i].name, stored->entries[i].name);
        disk_bytes_copy(&image->files[i].content, &stored->entries[i].inode->stored);
    }
    return image;
}

void sim_disk_image_destroy(struct sim_disk_image *image)
{
    if (image == NULL) return;
    for (size_t i = 0; i < image->count; i++) free(image->files[i].content.data);
    free(image);
}

void sim_disk_restore(struct sim_disk *disk, const struct sim_disk_image *image)
{
    sim_disk_restart(disk, SIM_DISK_POWER_LOSS);
    disk->cached.count = 0;
    disk->stored.count = 0;
    disk_sweep(disk);
    for (size_t i = 0; image != NULL && i < image->count; i++) {
        const struct disk_bytes *content = &image->files[i].content;
        sim_disk_put(disk, image->files[i].name, slice_of(content->data, content->size));
    }
}

void sim_disk_flip_bit(struct sim_disk *disk, const char *name, uint64_t bit)
{
    struct inode *inode = directory_find(&disk->cached, name);
    CHECK(inode != NULL);
    CHECK(bit / 8 < inode->cached.size);
    inode->cached.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    if (bit / 8 < inode->stored.size) inode->stored.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
}
