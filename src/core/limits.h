/* The bounds of the outside contract: how large the parts of one word, of a question and of
 * an answer may be. docs/reference/limits.md shows them to users. */
#pragma once

enum {
    WORD_BYTES_MAX = 4096,
    PAYLOAD_BYTES_MAX = 64 << 10,
    TAG_COUNT_MAX = 32,
    TAG_BYTES_MAX = 64,
    NAMESPACE_BYTES_MAX = 64,
    FOLDED_BYTES_MAX = 8192, /* Folding may lengthen a word; beyond this it is refused. */

    SEARCH_LIMIT_DEFAULT = 10,
    SEARCH_LIMIT_MAX = 1000,
    SEARCH_ANSWER_BYTES_MAX =
        4 << 20,             /* A page that is longer ends with the entry that made it so. */
    IMPORT_ERRORS_MAX = 100, /* Bad lines that the answer to an import lists. */
};
