/* How large the parts of one word may be: the bounds of the outside contract. */
#pragma once

enum {
    WORD_BYTES_MAX = 4096,
    PAYLOAD_BYTES_MAX = 64 << 10,
    TAG_COUNT_MAX = 32,
    TAG_BYTES_MAX = 64,
    NAMESPACE_BYTES_MAX = 64,
    FOLDED_BYTES_MAX = 8192, /* Folding may lengthen a word; beyond this it is refused. */
};
