/* Parts that maps and deltas have in common in their bytes. Private to rangemap*.c. */
#pragma once

#include "base/buf.h"
#include "base/bytes.h"
#include "cluster/rangemap.h"

/* What a member says of itself keeps to the rules. */
bool member_is_valid(const struct member *member);

void settings_encode(const struct rangemap_settings *settings, struct buf *out);
void settings_decode(struct reader *reader, struct rangemap_settings *out);

/* A varint that is at most `max`; else the reader fails. */
uint64_t reader_bounded(struct reader *reader, uint64_t max);

void append_hash(struct buf *out, struct hash128 hash);
struct hash128 reader_hash(struct reader *reader);

/* Sized by a varint, at most `size_max` bytes. */
void append_sized(struct buf *out, struct slice bytes);
struct slice reader_sized(struct reader *reader, size_t size_max);

/* incarnation, capacity, zone, address: what a member says of itself. */
void member_encode(const struct member *member, struct buf *out);
void member_decode(struct reader *reader, struct member *member);
