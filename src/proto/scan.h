/* Finding the first byte that a text may not hold, sixteen at a time.
 *
 * Reads nothing outside of the bytes given. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* True for 00 to 1f and 7f, tab excepted. */
static inline int scan_is_control(uint8_t byte)
{
    return (byte < 0x20 && byte != '\t') || byte == 0x7f;
}

/* Where the first control character other than a tab stands, or `size`. */
static inline size_t scan_control(const uint8_t *data, size_t size)
{
    size_t at = 0;
#ifdef __SSE2__
    for (; size - at >= 16; at += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(data + at));
        __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
        __m128i tab = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\t'));
        __m128i del = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x7f));
        int hits = _mm_movemask_epi8(_mm_or_si128(_mm_andnot_si128(tab, low), del));
        if (hits != 0) return at + (size_t)__builtin_ctz((unsigned)hits);
    }
#endif
    while (at < size && !scan_is_control(data[at])) at++;
    return at;
}

/* Where the first blank, control character (tabs too) or '#' stands, or `size`. */
static inline size_t scan_target(const uint8_t *data, size_t size)
{
    size_t at = 0;
#ifdef __SSE2__
    for (; size - at >= 16; at += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(data + at));
        __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x20)), bytes);
        __m128i hash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('#'));
        __m128i del = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x7f));
        int hits = _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(low, hash), del));
        if (hits != 0) return at + (size_t)__builtin_ctz((unsigned)hits);
    }
#endif
    while (at < size && data[at] > 0x20 && data[at] != 0x7f && data[at] != '#') at++;
    return at;
}

/* Where the first byte stands that JSON text cannot hold as it is (a quote, a backslash,
 * 00 to 1f) or that is not ASCII; else `size`. */
static inline size_t scan_json_plain(const uint8_t *data, size_t size)
{
    size_t at = 0;
#ifdef __SSE2__
    for (; size - at >= 16; at += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(data + at));
        /* As signed numbers the bytes from 80 on are less than 20 as well. */
        __m128i low = _mm_cmplt_epi8(bytes, _mm_set1_epi8(0x20));
        __m128i quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'));
        __m128i slash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'));
        int hits = _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(low, quote), slash));
        if (hits != 0) return at + (size_t)__builtin_ctz((unsigned)hits);
    }
#endif
    while (at < size && data[at] >= 0x20 && data[at] < 0x80 && data[at] != '"' &&
           data[at] != '\\') {
        at++;
    }
    return at;
}
