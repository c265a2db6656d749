/* Maps that many nodes of one process share.
 *
 * A thousand nodes that learn one delta make a thousand equal maps of it. Linked with
 * `-Wl,--wrap=rangemap_apply,--wrap=rangemap_decode,--wrap=rangemap_encode`, the first of them makes it, and the others get a
 * reference: so memory and time for maps are those of one node. What a node sees is the same, for a map never changes
 * once it is built.
 *
 * The newest MAP_POOL_MAX are kept. One thread. */
#pragma once

enum { MAP_POOL_MAX = 64 };

/* Forgets them all, before the heaps that they came from go. */
void map_pool_clear(void);
