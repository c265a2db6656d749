#include "store/batch.h"

#include "core/key.h"

void batch_append_record(struct buf *batch, struct slice key, struct slice encoded)
{
    buf_append_u8(batch, BATCH_RECORD);
    buf_append_varint(batch, key.size);
    buf_append_slice(batch, key);
    buf_append_varint(batch, encoded.size);
    buf_append_slice(batch, encoded);
}

void batch_append_ceiling(struct buf *batch, hlc_time ceiling)
{
    buf_append_u8(batch, BATCH_CEILING);
    buf_append_u64le(batch, ceiling);
}

void batch_append_forget(struct buf *batch, struct slice key, struct version version)
{
    buf_append_u8(batch, BATCH_FORGET);
    buf_append_varint(batch, key.size);
    buf_append_slice(batch, key);
    buf_append_u64le(batch, version.time);
    buf_append_u16le(batch, version.node);
}

static enum status key_next(struct reader *reader, struct batch_entry *entry)
{
    uint64_t key_size = reader_varint(reader);
    if (key_size == 0 || key_size > KEY_BYTES_MAX) return STATUS_CORRUPT;
    entry->key = reader_bytes(reader, key_size);
    return reader->failed ? STATUS_CORRUPT : STATUS_OK;
}

static enum status record_next(struct reader *reader, struct batch_entry *entry)
{
    enum status status = key_next(reader, entry);
    if (status != STATUS_OK) return status;
    uint64_t record_size = reader_varint(reader);
    struct slice encoded = reader_bytes(reader, record_size);
    if (reader->failed) return STATUS_CORRUPT;
    return record_decode(encoded, &entry->record);
}

enum status batch_next(struct reader *reader, struct batch_entry *entry)
{
    if (reader_left(reader) == 0) return STATUS_END;

    *entry = (struct batch_entry){.kind = (enum batch_kind)reader_u8(reader)};
    switch (entry->kind) {
    case BATCH_RECORD:
        return record_next(reader, entry);
    case BATCH_CEILING:
        entry->ceiling = reader_u64le(reader);
        return reader->failed ? STATUS_CORRUPT : STATUS_OK;
    case BATCH_FORGET:
        if (key_next(reader, entry) != STATUS_OK) return STATUS_CORRUPT;
        entry->version.time = reader_u64le(reader);
        entry->version.node = reader_u16le(reader);
        return reader->failed ? STATUS_CORRUPT : STATUS_OK;
    }
    return STATUS_CORRUPT;
}
