#include "base/crc32c.h"

#include <string.h>

enum { CRC32C_POLYNOMIAL = (int)0x82f63b78 };

static uint32_t update_portable(uint32_t crc, const uint8_t *at, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        crc ^= at[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ ((uint32_t)CRC32C_POLYNOMIAL & -(crc & 1));
    }
    return crc;
}

#if defined(__x86_64__)
#include <nmmintrin.h>

__attribute__((target("sse4.2"))) static uint32_t update_sse42(uint32_t crc, const uint8_t *at,
                                                               size_t size)
{
    uint64_t wide = crc;
    for (; size >= 8; at += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, at, sizeof word);
        wide = _mm_crc32_u64(wide, word);
    }
    crc = (uint32_t)wide;
    for (; size > 0; at++, size--) crc = _mm_crc32_u8(crc, *at);
    return crc;
}

static uint32_t update(uint32_t crc, const uint8_t *at, size_t size)
{
    return __builtin_cpu_supports("sse4.2") ? update_sse42(crc, at, size)
                                            : update_portable(crc, at, size);
}
#else
static uint32_t update(uint32_t crc, const uint8_t *at, size_t size)
{
    return update_portable(crc, at, size);
}
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t size)
{
    return ~update(~crc, data, size);
}
