/* The sections of a front as a file would hold them: one mapping that ends at a page which
 * must not be touched, with the checksums of its pages. */
#pragma once

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/heap.h"
#include "base/math.h"
#include "core/front.h"
#include "core/pages.h"

struct front_image {
    uint8_t *map;
    size_t map_size;
    uint8_t *bytes;
    size_t size;
    uint8_t *checksums;
    struct slice sections[FRONT_SECTION_COUNT];
};

/* Makes the checksums right, whatever the bytes are. */
static inline void front_image_seal(struct front_image *image)
{
    for (size_t at = 0; at < image->size; at += PAGES_BYTES) {
        uint32_t crc = crc32c(0, image->bytes + at, size_min(PAGES_BYTES, image->size - at));
        store_u32le(image->checksums + 4 * (at / PAGES_BYTES), crc);
    }
}

static inline void front_image_init(struct front_image *image,
                                    const struct slice sections[FRONT_SECTION_COUNT])
{
    size_t size = 0;
    for (int i = 0; i < FRONT_SECTION_COUNT; i++) size += sections[i].size;
    size_t mapped = (size_t)u64_align(size, PAGES_BYTES);
    uint8_t *map = mmap(NULL, mapped + PAGES_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(map != MAP_FAILED);
    CHECK(mprotect(map + mapped, PAGES_BYTES, PROT_NONE) == 0);

    *image = (struct front_image){.map = map, .map_size = mapped + PAGES_BYTES, .size = size};
    image->bytes = map + mapped - size;
    image->checksums = calloc(mapped / PAGES_BYTES + 1, 4);
    CHECK(image->checksums != NULL);
    uint8_t *to = image->bytes;
    for (int i = 0; i < FRONT_SECTION_COUNT; i++) {
        if (sections[i].size != 0) memcpy(to, sections[i].data, sections[i].size);
        image->sections[i] = (struct slice){to, sections[i].size};
        to += sections[i].size;
    }
    front_image_seal(image);
}

static inline void front_image_deinit(struct front_image *image)
{
    free(image->checksums);
    CHECK(munmap(image->map, image->map_size) == 0);
}

static inline struct slice front_image_slice(const struct front_image *image)
{
    return (struct slice){image->bytes, image->size};
}
