#include "store/env.h"

#include "base/math.h"

enum { ZERO_BYTES = 64 * 1024 };

enum status env_file_write_zeros(struct env_file *file, uint64_t offset, uint64_t size)
{
    static const uint8_t zeros[ZERO_BYTES];

    for (uint64_t end = offset + size; offset < end;) {
        size_t part = (size_t)u64_min(end - offset, sizeof zeros);
        enum status status = env_file_write(file, offset, zeros, part);
        if (status != STATUS_OK) return status;
        offset += part;
    }
    return STATUS_OK;
}
