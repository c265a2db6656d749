/* A disk in memory that forgets what was not synced.
 *
 * It is an env (store/env.h) which keeps, beside what the program sees, what the device
 * holds, and all that lies between. When the power goes, each write that was not synced
 * survives in any subset of its 512-byte sectors, each change of a name or a size wholly
 * or not at all; one crash in four loses everything unsynced, one keeps everything, one
 * keeps what came before some moment, one draws for each part alone. The seed decides.
 *
 * A failed sync behaves as on Linux: the bytes stay readable, some of them on the device
 * and the others nowhere, and no later sync brings them back.
 *
 * Changes are the calls that may alter the device: creating opens, writes, truncations,
 * renames, removals, syncs. Operations are all calls that may fail. A test runs its story
 * once, asks for the count, and runs it again with a crash at each change or a failure of
 * each operation.
 *
 * Threads: one. Memory: taken from the system; running out stops the process. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/status.h"
#include "store/env.h"

struct sim_disk;

enum { SIM_DISK_SECTOR_BYTES = 512 };

struct sim_disk *sim_disk_create(uint64_t seed);

/* Handles and maps must be closed. NULL is accepted. */
void sim_disk_destroy(struct sim_disk *disk);

/* Owns: the disk does; valid through crashes and restarts. */
struct env *sim_disk_env(struct sim_disk *disk);

/* Since creation. */
uint64_t sim_disk_change_count(const struct sim_disk *disk);
uint64_t sim_disk_operation_count(const struct sim_disk *disk);

/* The power goes in the middle of the change after the next `count`: that one and every
 * later call fail with STATUS_IO until sim_disk_restart(). */
void sim_disk_crash_after(struct sim_disk *disk, uint64_t count);

/* It does not, if it has not gone yet. */
void sim_disk_crash_never(struct sim_disk *disk);

/* The power goes now. */
void sim_disk_crash(struct sim_disk *disk);
bool sim_disk_crashed(const struct sim_disk *disk);

enum sim_disk_restart {
    SIM_DISK_POWER_LOSS, /* What was not synced is lost in part. */
    SIM_DISK_KILLED,     /* Only the process ended: all it wrote is there, not all durable. */
};

/* The disk is back, with nothing open and nobody's lock on it; pending failures are
 * forgotten. Handles and maps must be closed: closing works after a crash. */
void sim_disk_restart(struct sim_disk *disk, enum sim_disk_restart how);

/* The operation after the next `count` fails with `status`, once. A write does a part of
 * its work, a sync loses what it should have kept. */
void sim_disk_fail_after(struct sim_disk *disk, uint64_t count, enum status status);

/* Forgets failures that are still to come. */
void sim_disk_fail_never(struct sim_disk *disk);

/* The sync of a file after the next `count` fails with STATUS_IO, once. */
void sim_disk_fail_sync_after(struct sim_disk *disk, uint64_t count);

/* Room for all files together; 0: no limit. Space counts from the moment a file's size does. */
void sim_disk_set_capacity(struct sim_disk *disk, uint64_t bytes);
uint64_t sim_disk_used_bytes(const struct sim_disk *disk);

/* What a program reads now, valid until the next call; false if there is no such file. */
bool sim_disk_content(const struct sim_disk *disk, const char *name, struct slice *out);

/* Puts a file there, durable with its name, in place of any other. */
void sim_disk_put(struct sim_disk *disk, const char *name, struct slice content);

/* A copy of all that is durable by now: what a power cut would leave at the least. */
struct sim_disk_image;
struct sim_disk_image *sim_disk_image_take(const struct sim_disk *disk);
void sim_disk_image_destroy(struct sim_disk_image *image);

/* The disk holds what the image does and nothing else; NULL: nothing at all. As with
 * sim_disk_restart(), handles and maps must be closed, and pending failures are forgotten. */
void sim_disk_restore(struct sim_disk *disk, const struct sim_disk_image *image);

/* Bit rot: turns one bit, on the device as well. `bit` must lie in the file. */
void sim_disk_flip_bit(struct sim_disk *disk, const char *name, uint64_t bit);
