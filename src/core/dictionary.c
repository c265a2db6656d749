/* Bytes of a dictionary
 *   u8  header_count        0..255
 *       header_count times
 *         i8 delta          change of the shared length
 *         u8 size           of the codes
 *   u16 listed
 *       listed times        a symbol, in the order of codes from 1; code 0 is empty
 *         u8 lengths        shared with the symbol before << 4 | rest
 *         u8 shared         only where that half is 15
 *         u8 rest           only where that half is 15
 *         u8 bytes[rest]
 * The single bytes that are not listed take the codes that follow, in their order. */
#include "core/dictionary.h"

#include "base/buf.h"
#include "base/bytes.h"
#include "base/check.h"
#include "base/math.h"
#include "core/front_format.h"
#include "core/symbols.h"

enum { NIBBLE_MAX = 15, BYTE_COUNT = 256 };

static enum status dictionary_create(struct heap *heap, struct dictionary **out)
{
    struct dictionary *dictionary = heap_zalloc(heap, sizeof *dictionary);
    if (dictionary == NULL) return STATUS_NOMEM;
    dictionary->heap = heap;
    *out = dictionary;
    return STATUS_OK;
}

void dictionary_destroy(struct dictionary *dictionary)
{
    if (dictionary == NULL) return;
    symbols_destroy(dictionary->symbols);
    heap_free(dictionary->heap, dictionary);
}

enum status dictionary_copy(const struct dictionary *dictionary, struct heap *heap,
                            struct dictionary **out)
{
    struct buf bytes;
    buf_init(&bytes, heap);
    dictionary_encode(dictionary, &bytes);
    enum status status = buf_status(&bytes);
    if (status == STATUS_OK) status = dictionary_decode(heap, buf_slice(&bytes), out);
    buf_deinit(&bytes);
    return status;
}

/* --- Encode --- */

static void length_append(struct buf *out, size_t length)
{
    if (length >= NIBBLE_MAX) buf_append_u8(out, (uint8_t)length);
}

static void symbol_append(struct buf *out, struct slice before, struct slice symbol)
{
    size_t shared = slice_common_prefix(before, symbol);
    size_t rest = symbol.size - shared;
    buf_append_u8(out, (uint8_t)(size_min(shared, NIBBLE_MAX) << 4 | size_min(rest, NIBBLE_MAX)));
    length_append(out, shared);
    length_append(out, rest);
    buf_append(out, symbol.data + shared, rest);
}

/* How many symbols must be listed: all but the single bytes in order at the end. */
static unsigned listed_count(const struct symbols *symbols)
{
    unsigned listed = symbols->count;
    unsigned byte = BYTE_COUNT;
    for (; listed > 1; listed--) {
        struct slice last = symbols_string(symbols, listed - 1);
        if (last.size != 1 || last.data[0] >= byte) break;
        byte = last.data[0];
    }
    return listed - 1;
}

void dictionary_encode(const struct dictionary *dictionary, struct buf *out)
{
    const struct symbols *symbols = dictionary->symbols;
    buf_append_u8(out, (uint8_t)dictionary->header_count);
    for (unsigned i = 0; i < dictionary->header_count; i++) {
        buf_append_u8(out, (uint8_t)dictionary->headers[i].delta);
        buf_append_u8(out, dictionary->headers[i].size);
    }
    unsigned listed = listed_count(symbols);
    buf_append_u16le(out, (uint16_t)listed);
    for (unsigned code = 1; code <= listed; code++)
        symbol_append(out, symbols_string(symbols, code - 1), symbols_string(symbols, code));
}

/* --- Decode --- */

static size_t length_read(struct reader *reader, unsigned nibble)
{
    return nibble < NIBBLE_MAX ? nibble : reader_u8(reader);
}

/* Appends one symbol to `text`, where the one before starts at `before`. */
static bool symbol_read(struct reader *reader, struct buf *text, size_t before)
{
    unsigned lengths = reader_u8(reader);
    size_t shared = length_read(reader, lengths >> 4);
    size_t rest = length_read(reader, lengths & NIBBLE_MAX);
    struct slice bytes = reader_bytes(reader, rest);
    size_t size = shared + bytes.size;
    if (reader->failed || shared > text->size - before) return false;
    if (size == 0 || size > SYMBOL_BYTES_MAX) return false;

    uint8_t *to = buf_reserve(text, size);
    if (to == NULL) return true; /* The caller asks for the buffer's status. */
    memcpy(to, text->data + before, shared);
    if (bytes.size != 0) memcpy(to + shared, bytes.data, bytes.size);
    buf_commit(text, size);
    return true;
}

/* Symbols while they are read: their bytes one after the other, and where each ends. */
struct listing {
    struct buf text;
    uint32_t ends[SYMBOL_COUNT_MAX];
    struct slice strings[SYMBOL_COUNT_MAX];
    bool is_listed[BYTE_COUNT];
    unsigned count;
};

static enum status listing_read(struct listing *listing, struct reader *reader)
{
    unsigned listed = reader_u16le(reader);
    if (reader->failed || listed > SYMBOL_COUNT_MAX - 1 - BYTE_COUNT) return STATUS_CORRUPT;

    listing->count = 1;
    size_t before = 0;
    for (unsigned i = 0; i < listed; i++) {
        size_t start = listing->text.size;
        if (!symbol_read(reader, &listing->text, before)) return STATUS_CORRUPT;
        if (buf_status(&listing->text) != STATUS_OK) return STATUS_NOMEM;
        before = start;
        if (listing->text.size - start == 1) {
            /* Twice would be encoded as once, and all codes behind would move. */
            bool *is_listed = &listing->is_listed[listing->text.data[start]];
            if (*is_listed) return STATUS_CORRUPT;
            *is_listed = true;
        }
        listing->ends[listing->count++] = (uint32_t)listing->text.size;
    }
    if (reader_left(reader) != 0) return STATUS_CORRUPT;

    for (unsigned byte = 0; byte < BYTE_COUNT; byte++) {
        if (listing->is_listed[byte]) continue;
        buf_append_u8(&listing->text, (uint8_t)byte);
        listing->ends[listing->count++] = (uint32_t)listing->text.size;
    }
    return buf_status(&listing->text);
}

static enum status symbols_read(struct heap *heap, struct reader *reader, struct symbols **out)
{
    struct listing *listing = heap_zalloc(heap, sizeof *listing);
    if (listing == NULL) return STATUS_NOMEM;
    buf_init(&listing->text, heap);

    enum status status = listing_read(listing, reader);
    if (status == STATUS_OK) {
        for (unsigned code = 1; code < listing->count; code++) {
            uint32_t start = listing->ends[code - 1];
            listing->strings[code] =
                (struct slice){listing->text.data + start, listing->ends[code] - start};
        }
        status = symbols_create(heap, listing->strings, listing->count, out);
    }
    buf_deinit(&listing->text);
    heap_free(heap, listing);
    return status;
}

enum status dictionary_decode(struct heap *heap, struct slice bytes, struct dictionary **out)
{
    struct dictionary *dictionary;
    enum status status = dictionary_create(heap, &dictionary);
    if (status != STATUS_OK) return status;

    struct reader reader = reader_of(bytes);
    dictionary->header_count = reader_u8(&reader);
    for (unsigned i = 0; i < dictionary->header_count; i++) {
        dictionary->headers[i].delta = (int8_t)reader_u8(&reader);
        dictionary->headers[i].size = reader_u8(&reader);
    }
    status = symbols_read(heap, &reader, &dictionary->symbols);
    if (status != STATUS_OK) {
        dictionary_destroy(dictionary);
        return status;
    }
    *out = dictionary;
    return STATUS_OK;
}
