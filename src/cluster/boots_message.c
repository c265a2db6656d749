#include "cluster/boots_message.h"

#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "cluster/outbox.h"

enum { KEPT_VERSION = 1 };

/* --- Parts --- */

static void put_boot(struct boot boot, struct buf *out)
{
    buf_append_u64le(out, boot.incarnation);
    buf_append_varint(out, boot.counter);
    buf_append_u64le(out, boot.salt);
}

static struct boot read_boot(struct reader *reader)
{
    struct boot boot = {.incarnation = reader_u64le(reader)};
    boot.counter = reader_varint(reader);
    boot.salt = reader_u64le(reader);
    if (boot.counter == 0 || boot.counter > BOOTS_COUNTER_MAX) reader->failed = true;
    return boot;
}

/* --- Messages --- */

void boots_message_encode(const struct boots_message *message, struct buf *out)
{
    buf_append_u8(out, (uint8_t)message->kind);
    buf_append_varint(out, message->generation.number);
    buf_append_u64le(out, message->generation.id);
    put_boot(message->boot, out);
    if (message->kind != BOOTS_ASK) return;
    for (unsigned i = 0; i < message->salt_count; i++) buf_append_u64le(out, message->salts[i]);
}

enum status boots_message_decode(struct slice bytes, struct boots_message *out)
{
    struct reader reader = reader_of(bytes);
    struct boots_message message = {0};
    if (reader_u8(&reader) != PROTOCOL_BOOTS) return STATUS_INVALID;
    uint8_t kind = reader_u8(&reader);
    if (kind < BOOTS_ASK || kind > BOOTS_REFUSED) return STATUS_INVALID;
    message.kind = (enum boots_kind)kind;
    message.generation.number = reader_varint(&reader);
    message.generation.id = reader_u64le(&reader);
    message.boot = read_boot(&reader);
    if (reader.failed || message.generation.number == 0) return STATUS_INVALID;
    if (message.kind == BOOTS_ASK) {
        message.salt_count = boots_salt_count(message.boot.counter);
        for (unsigned i = 0; i < message.salt_count; i++) message.salts[i] = reader_u64le(&reader);
    }
    if (reader.failed || reader_left(&reader) != 0) return STATUS_INVALID;
    *out = message;
    return STATUS_OK;
}

/* --- What is kept --- */

void boot_encode(struct boot boot, struct buf *out)
{
    buf_append_u8(out, KEPT_VERSION);
    put_boot(boot, out);
}

static enum status check_version(struct reader *reader)
{
    uint8_t version = reader_u8(reader);
    if (version > KEPT_VERSION) return STATUS_NEWER;
    return version == KEPT_VERSION ? STATUS_OK : STATUS_CORRUPT;
}

enum status boot_decode(struct slice bytes, struct boot *out)
{
    struct reader reader = reader_of(bytes);
    enum status status = check_version(&reader);
    if (status != STATUS_OK) return status;
    struct boot boot = read_boot(&reader);
    if (reader.failed || reader_left(&reader) != 0) return STATUS_CORRUPT;
    *out = boot;
    return STATUS_OK;
}

void starts_encode(const struct starts *starts, struct buf *out)
{
    buf_append_u8(out, KEPT_VERSION);
    buf_append_u8(out, starts->rolled_back);
    buf_append_u16le(out, starts->id);
    put_boot(starts->boot, out);
    for (unsigned i = 0; i < boots_salt_count(starts->boot.counter); i++) {
        buf_append_u64le(out, starts->salts[i]);
    }
}

enum status starts_decode(struct slice bytes, struct starts *out)
{
    struct reader reader = reader_of(bytes);
    enum status status = check_version(&reader);
    if (status != STATUS_OK) return status;
    struct starts starts = {0};
    uint8_t rolled_back = reader_u8(&reader);
    starts.rolled_back = rolled_back == 1;
    starts.id = reader_u16le(&reader);
    starts.boot = read_boot(&reader);
    if (reader.failed) return STATUS_CORRUPT;
    for (unsigned i = 0; i < boots_salt_count(starts.boot.counter); i++) {
        starts.salts[i] = reader_u64le(&reader);
    }
    if (reader.failed || reader_left(&reader) != 0) return STATUS_CORRUPT;
    if (rolled_back > 1 || starts.id == 0) return STATUS_CORRUPT;
    *out = starts;
    return STATUS_OK;
}

void starts_next(struct starts *starts, uint64_t salt)
{
    CHECK(starts->boot.counter <= BOOTS_COUNTER_MAX);
    if (starts->boot.counter > 0) {
        memmove(starts->salts + 1, starts->salts, sizeof starts->salts - sizeof *starts->salts);
        starts->salts[0] = starts->boot.salt;
    }
    starts->boot.counter++;
    starts->boot.salt = salt;
}
