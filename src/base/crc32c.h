/* CRC-32C (Castagnoli), as in iSCSI (RFC 3720, appendix B.4).
 *
 * Cost: 8 bytes an instruction with SSE4.2, bit by bit elsewhere. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Continues from `crc`, 0 at the start: crc32c(crc32c(0, a), b) is the CRC of a then b. */
uint32_t crc32c(uint32_t crc, const void *data, size_t size);
