/* Any bytes as a dictionary: refused, or one that writes and reads any text. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "core/dictionary.h"
#include "core/front_format.h"
#include "core/symbols.h"

static void write_and_read(struct heap *heap, const struct symbols *symbols, struct slice text)
{
    struct parser *parser;
    text.size = text.size < 512 ? text.size : 512;
    CHECK(parser_create(heap, symbols, &parser) == STATUS_OK);
    struct slice codes = parser_encode(parser, text);
    CHECK(symbols_measure(symbols, codes.data, codes.size) == text.size);
    uint8_t *back = malloc(text.size + SYMBOL_SLACK);
    CHECK(back != NULL);
    CHECK(symbols_expand(symbols, codes.data, codes.size, SIZE_MAX, back) == text.size);
    CHECK(text.size == 0 || memcmp(back, text.data, text.size) == 0);
    free(back);
    parser_destroy(parser);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct heap heap;
    struct dictionary *dictionary;
    struct slice bytes = {data, size};
    heap_init(&heap, 0);
    if (dictionary_decode(&heap, bytes, &dictionary) != STATUS_OK) return 0;

    write_and_read(&heap, dictionary->symbols, bytes);
    struct dictionary *copy;
    CHECK(dictionary_copy(dictionary, &heap, &copy) == STATUS_OK);
    CHECK(copy->symbols->count == dictionary->symbols->count);
    dictionary_destroy(copy);
    dictionary_destroy(dictionary);
    CHECK(heap_used_bytes(&heap) == 0);
    return 0;
}
