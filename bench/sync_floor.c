/* The floor under a durable write on this disk: sync_floor FILE SECONDS appends 64 bytes and
 * calls fdatasync, over and over; then the same into a file that was written before. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "load.h"

enum { RECORD_BYTES = 64, BLOCK_BYTES = 64 << 10, BLOCK_COUNT = 256 };

static char block[BLOCK_BYTES];

_Noreturn static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void write_in_advance(int file)
{
    for (int i = 0; i < BLOCK_COUNT; i++)
        if (write(file, block, sizeof block) != (ssize_t)sizeof block) fail("write");
    if (fsync(file) != 0 || lseek(file, 0, SEEK_SET) != 0) fail("fsync");
}

static double syncs_per_s(const char *path, double seconds, bool in_advance)
{
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0) fail(path);
    if (in_advance) write_in_advance(file);
    uint64_t start = now_ns(), end = start + (uint64_t)(seconds * 1e9);
    unsigned count = 0;
    for (; now_ns() < end; count++) {
        if (write(file, block, RECORD_BYTES) != RECORD_BYTES) fail("write");
        if (fdatasync(file) != 0) fail("fdatasync");
    }
    double rate = count / ((double)(now_ns() - start) / 1e9);
    close(file);
    unlink(path);
    return rate;
}

int main(int count, char **arguments)
{
    if (count != 3) {
        fprintf(stderr, "usage: sync_floor FILE SECONDS\n");
        return 2;
    }
    double seconds = atof(arguments[2]);
    double append = syncs_per_s(arguments[1], seconds, false);
    double in_place = syncs_per_s(arguments[1], seconds, true);
    printf("append_per_s=%.1f in_place_per_s=%.1f\n", append, in_place);
    return 0;
}
