#include "core/symbols.h"

#include "base/check.h"

unsigned symbols_short_count(unsigned count)
{
    /* A first byte gives up one short code and gains 256 long ones. */
    return count <= 256 ? 256 : 256 - (count - 256 + 254) / 255;
}

/* Codes that bytes can spell. */
static size_t code_count_of(unsigned short_count)
{
    return short_count + (size_t)(256 - short_count) * 256;
}

static enum status allocate(struct symbols *symbols, size_t text_size)
{
    size_t table_bytes = code_count_of(symbols->short_count) * sizeof *symbols->table;
    symbols->table = heap_zalloc(symbols->heap, table_bytes + SYMBOL_SLACK);
    symbols->text = heap_zalloc(symbols->heap, text_size + SYMBOL_SLACK);
    return symbols->table == NULL || symbols->text == NULL ? STATUS_NOMEM : STATUS_OK;
}

static void append(struct symbols *symbols, unsigned code, struct slice string)
{
    CHECK(string.size <= SYMBOL_BYTES_MAX);
    struct symbol *symbol = &symbols->table[code];
    symbol->size = (uint8_t)string.size;
    symbols->total_size += string.size;
    if (string.size > symbols->size_max) symbols->size_max = (unsigned)string.size;
    if (string.size <= SYMBOL_HERE_MAX) {
        if (string.size > 0) memcpy(symbol->bytes, string.data, string.size);
        return;
    }
    memcpy(symbol->bytes, string.data, SYMBOL_START_AT);
    store_u32le(symbol->bytes + SYMBOL_START_AT, (uint32_t)symbols->text_size);
    memcpy(symbols->text + symbols->text_size, string.data, string.size);
    symbols->text_size += string.size;
}

enum status symbols_create(struct heap *heap, const struct slice *strings, unsigned count,
                           struct symbols **out)
{
    CHECK(count <= SYMBOL_COUNT_MAX && strings[0].size == 0);

    struct symbols *symbols = heap_zalloc(heap, sizeof *symbols);
    if (symbols == NULL) return STATUS_NOMEM;
    symbols->heap = heap;
    symbols->count = count;
    symbols->short_count = symbols_short_count(count);

    size_t text_size = 0;
    for (unsigned code = 0; code < count; code++)
        if (strings[code].size > SYMBOL_HERE_MAX) text_size += strings[code].size;
    enum status status = allocate(symbols, text_size);
    if (status != STATUS_OK) {
        symbols_destroy(symbols);
        return status;
    }
    for (unsigned code = 0; code < count; code++) append(symbols, code, strings[code]);

    *out = symbols;
    return STATUS_OK;
}

void symbols_destroy(struct symbols *symbols)
{
    if (symbols == NULL) return;
    heap_free(symbols->heap, symbols->table);
    heap_free(symbols->heap, symbols->text);
    heap_free(symbols->heap, symbols);
}

size_t symbols_measure(const struct symbols *symbols, const uint8_t *codes, size_t size)
{
    const uint8_t *end = codes + size;
    size_t bytes = 0;
    while (codes < end) bytes += symbols_string(symbols, symbols_code(symbols, &codes, end)).size;
    return bytes;
}
