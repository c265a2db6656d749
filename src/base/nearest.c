#include "base/nearest.h"

#include <stdint.h>

#include "base/math.h"

size_t nearest_distance(struct slice a, struct slice b)
{
    /* Three rows of the table of distances between prefixes: a swap looks back two. */
    size_t rows[3][NEAREST_BYTES_MAX + 1];
    if (a.size > NEAREST_BYTES_MAX || b.size > NEAREST_BYTES_MAX) return SIZE_MAX;

    for (size_t j = 0; j <= b.size; j++) rows[0][j] = j;
    for (size_t i = 1; i <= a.size; i++) {
        size_t *row = rows[i % 3];
        const size_t *above = rows[(i - 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= b.size; j++) {
            size_t change = above[j - 1] + (a.data[i - 1] != b.data[j - 1]);
            row[j] = size_min(change, size_min(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a.data[i - 1] == b.data[j - 2] && a.data[i - 2] == b.data[j - 1])
                row[j] = size_min(row[j], rows[(i - 2) % 3][j - 2] + 1);
        }
    }
    return rows[a.size % 3][b.size];
}

const char *nearest_name(struct slice name, const char *const *names, size_t count)
{
    const char *nearest = NULL;
    size_t least = size_max(1, name.size / 3) + 1;
    for (size_t i = 0; i < count; i++) {
        struct slice candidate = slice_from_text(names[i]);
        size_t distance = nearest_distance(name, candidate);
        if (name.size > 1 && slice_starts_with(candidate, name)) distance = size_min(distance, 1);
        if (distance >= least) continue;
        least = distance;
        nearest = names[i];
    }
    return nearest;
}
