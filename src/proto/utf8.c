#include "proto/utf8.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

static bool is_tail(uint8_t byte)
{
    return (byte & 0xc0) == 0x80;
}

unsigned utf8_size(const uint8_t *data, size_t size)
{
    uint8_t lead = data[0];
    if (lead < 0x80) return 1;
    if (lead < 0xc2 || size < 2 || !is_tail(data[1])) return 0;
    if (lead < 0xe0) return 2;

    uint8_t second = data[1];
    if (size < 3 || !is_tail(data[2])) return 0;
    if (lead < 0xf0) {
        if (lead == 0xe0 && second < 0xa0) return 0; /* Overlong. */
        if (lead == 0xed && second > 0x9f) return 0; /* Surrogate. */
        return 3;
    }
    if (size < 4 || !is_tail(data[3])) return 0;
    if (lead == 0xf0 && second < 0x90) return 0;
    if (lead > 0xf4 || (lead == 0xf4 && second > 0x8f)) return 0;
    return 4;
}

bool utf8_is_valid(struct slice text)
{
    size_t at = 0;
    while (at < text.size) {
#ifdef __SSE2__
        while (text.size - at >= 16 && _mm_movemask_epi8(_mm_loadu_si128(
                                           (const __m128i *)(const void *)(text.data + at))) == 0) {
            at += 16;
        }
        if (at == text.size) return true;
#endif
        unsigned size = utf8_size(text.data + at, text.size - at);
        if (size == 0) return false;
        at += size;
    }
    return true;
}

unsigned utf8_put(uint32_t code_point, uint8_t out[4])
{
    if (code_point < 0x80) {
        out[0] = (uint8_t)code_point;
        return 1;
    }
    if (code_point < 0x800) {
        out[0] = (uint8_t)(0xc0 | code_point >> 6);
        out[1] = (uint8_t)(0x80 | (code_point & 0x3f));
        return 2;
    }
    if (code_point < 0x10000) {
        out[0] = (uint8_t)(0xe0 | code_point >> 12);
        out[1] = (uint8_t)(0x80 | (code_point >> 6 & 0x3f));
        out[2] = (uint8_t)(0x80 | (code_point & 0x3f));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | code_point >> 18);
    out[1] = (uint8_t)(0x80 | (code_point >> 12 & 0x3f));
    out[2] = (uint8_t)(0x80 | (code_point >> 6 & 0x3f));
    out[3] = (uint8_t)(0x80 | (code_point & 0x3f));
    return 4;
}
