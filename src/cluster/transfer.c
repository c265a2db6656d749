#include "cluster/transfer.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/math.h"
#include "base/planted.h"
#include "core/key.h"

/* --- Life --- */

static void taking_init(struct taking *taking, struct heap *heap)
{
    *taking = (struct taking){.low = {.heap = heap},
                              .from = {.heap = heap},
                              .high = {.heap = heap},
                              .end = {.heap = heap},
                              .window = {.heap = heap}};
}

static void taking_free(struct taking *taking)
{
    struct heap *heap = taking->low.heap;
    buf_deinit(&taking->low);
    buf_deinit(&taking->from);
    buf_deinit(&taking->high);
    buf_deinit(&taking->end);
    buf_deinit(&taking->window);
    taking_init(taking, heap);
}

static void giving_init(struct giving *giving, struct heap *heap)
{
    *giving = (struct giving){.low = {.heap = heap}, .end = {.heap = heap}};
}

static void giving_free(struct giving *giving)
{
    struct heap *heap = giving->low.heap;
    buf_deinit(&giving->low);
    buf_deinit(&giving->end);
    giving_init(giving, heap);
}

void transfer_init(struct transfer *transfer, const struct transfer_env *env)
{
    *transfer = (struct transfer){.env = *env,
                                  .id = env->first_id,
                                  .state = {.heap = env->heap},
                                  .piece = {.heap = env->heap}};
    for (size_t i = 0; i < TRANSFER_TAKEN_MAX; i++) taking_init(&transfer->takings[i], env->heap);
    for (size_t i = 0; i < TRANSFER_GIVEN_MAX; i++) giving_init(&transfer->givings[i], env->heap);
}

void transfer_deinit(struct transfer *transfer)
{
    for (size_t i = 0; i < TRANSFER_TAKEN_MAX; i++) taking_free(&transfer->takings[i]);
    for (size_t i = 0; i < TRANSFER_GIVEN_MAX; i++) giving_free(&transfer->givings[i]);
    buf_deinit(&transfer->state);
    buf_deinit(&transfer->piece);
}

static uint64_t next_id(struct transfer *transfer)
{
    if (++transfer->id == 0) transfer->id = 1;
    return transfer->id;
}

static bool set(struct buf *buf, struct slice bytes)
{
    buf_clear(buf);
    buf_append_slice(buf, bytes);
    return buf_status(buf) == STATUS_OK;
}

/* --- What is kept --- */

/* A state on disk: peer u16, id u64, low, and of what is taken: from, high; size varint (0: not
 * known), end; of what is taken: durable bytes varint. Bounds are their size as a varint, then
 * their bytes. */

static void put_bound(struct buf *out, const struct buf *bound)
{
    buf_append_varint(out, bound->size);
    buf_append_slice(out, buf_slice(bound));
}

static void get_bound(struct reader *reader, struct buf *bound)
{
    uint64_t size = reader_varint(reader);
    if (size > KEY_BYTES_MAX) reader->failed = true;
    buf_clear(bound);
    buf_append_slice(bound, reader_bytes(reader, reader->failed ? 0 : (size_t)size));
}

static size_t place_of_taking(const struct transfer *transfer, const struct taking *taking)
{
    return (size_t)(taking - transfer->takings);
}

static void keep_taking(struct transfer *transfer, const struct taking *taking)
{
    struct buf *state = &transfer->state;
    buf_clear(state);
    if (taking->state != TAKING_FREE) {
        buf_append_u16le(state, taking->peer);
        buf_append_u64le(state, taking->id);
        put_bound(state, &taking->low);
        put_bound(state, &taking->from);
        put_bound(state, &taking->high);
        buf_append_varint(state, taking->size_bytes);
        put_bound(state, &taking->end);
        buf_append_varint(state, taking->written_bytes);
    }
    /* Without memory what was kept before stays: a start goes on from there. */
    if (buf_status(state) != STATUS_OK) return;
    transfer->env.keep(transfer->env.context, TRANSFER_TAKES, place_of_taking(transfer, taking),
                       buf_slice(state));
}

static void keep_giving(struct transfer *transfer, const struct giving *giving)
{
    struct buf *state = &transfer->state;
    buf_clear(state);
    if (giving->state == GIVING_READY) {
        buf_append_u16le(state, giving->peer);
        buf_append_u64le(state, giving->id);
        put_bound(state, &giving->low);
        buf_append_varint(state, giving->size_bytes);
        put_bound(state, &giving->end);
    }
    if (buf_status(state) != STATUS_OK) return;
    transfer->env.keep(transfer->env.context, TRANSFER_GIVES, (size_t)(giving - transfer->givings),
                       buf_slice(state));
}

void transfer_lost(struct transfer *transfer)
{
    transfer->unkept = true;
}

uint64_t transfer_state_id(struct slice state)
{
    struct reader reader = reader_of(state);
    reader_u16le(&reader);
    return reader_u64le(&reader);
}

bool transfer_knows(const struct transfer *transfer, uint64_t id)
{
    for (size_t i = 0; i < TRANSFER_TAKEN_MAX; i++)
        if (transfer->takings[i].state != TAKING_FREE && transfer->takings[i].id == id) return true;
    for (size_t i = 0; i < TRANSFER_GIVEN_MAX; i++)
        if (transfer->givings[i].state != GIVING_FREE && transfer->givings[i].id == id) return true;
    return false;
}

static struct key_range range_left(const struct taking *taking)
{
    return (struct key_range){buf_slice(&taking->from), buf_slice(&taking->high)};
}

static struct key_range range_of_all(const struct taking *taking)
{
    return (struct key_range){buf_slice(&taking->low), buf_slice(&taking->high)};
}

/* What the file under way is about. */
static struct key_range range_of_file(const struct taking *taking)
{
    struct slice end = buf_slice(taking->end.size > 0 ? &taking->end : &taking->high);
    return (struct key_range){buf_slice(&taking->from), end};
}

/* --- Taking: what is sent --- */

static void send_message(struct transfer *transfer, node_id to, bool durable,
                         const struct transfer_message *message, struct outbox *outbox)
{
    (void)transfer;
    transfer_message_encode(message, outbox_begin(outbox, to, PROTOCOL_TRANSFER));
    outbox_end(outbox, durable);
}

static void ask(struct transfer *transfer, struct taking *taking, uint64_t now_ms,
                struct outbox *outbox)
{
    struct transfer_message message = {
        .kind = TRANSFER_ASK, .id = taking->id, .range = range_left(taking)};
    taking->due_ms = now_ms + TRANSFER_AGAIN_MS;
    if (transfer->env.count(transfer->env.context, &message.range, &message.count) != STATUS_OK)
        return;
    send_message(transfer, taking->peer, false, &message, outbox);
}

/* The peer may forget the file, by its id. `durable`: once what was noted here is. */
static void drop(struct transfer *transfer, const struct taking *taking, bool durable,
                 struct outbox *outbox)
{
    struct transfer_message message = {.kind = TRANSFER_DROP, .id = taking->id};
    send_message(transfer, taking->peer, durable && !planted(BUG_TRANSFER_DROPPED_EARLY), &message,
                 outbox);
}

static uint64_t window_bytes(const struct taking *taking)
{
    uint64_t window_max = (uint64_t)TRANSFER_WINDOW_PIECES * TRANSFER_PIECE_BYTES;
    return u64_min(window_max, taking->size_bytes - taking->written_bytes);
}

static unsigned window_pieces(const struct taking *taking)
{
    return (unsigned)((window_bytes(taking) + TRANSFER_PIECE_BYTES - 1) / TRANSFER_PIECE_BYTES);
}

/* As many more pieces as the credit lets. */
static void fetch(struct transfer *transfer, struct taking *taking, struct outbox *outbox)
{
    unsigned under_way = (unsigned)__builtin_popcount(taking->asked & ~taking->got);
    for (unsigned i = 0; i < window_pieces(taking) && under_way < TRANSFER_CREDIT; i++) {
        if ((taking->asked & UINT32_C(1) << i) != 0) continue;
        taking->asked |= UINT32_C(1) << i;
        under_way++;
        struct transfer_message message = {.kind = TRANSFER_WANT,
                                           .id = taking->id,
                                           .offset = taking->written_bytes +
                                                     (uint64_t)i * TRANSFER_PIECE_BYTES};
        send_message(transfer, taking->peer, false, &message, outbox);
    }
}

/* --- Taking: its end --- */

static void finish(struct transfer *transfer, struct taking *taking, enum transfer_outcome outcome)
{
    struct key_range range = range_of_all(taking);
    transfer->counts.moved_count += outcome == TRANSFER_MOVED;
    transfer->counts.few_count += outcome == TRANSFER_NOT_WORTH;
    transfer->counts.failed_count += outcome == TRANSFER_FAILED;
    TRACE(transfer->env.trace, "transfer from n%u: %s", taking->peer,
          outcome == TRANSFER_MOVED    ? "all is here"
          : outcome == TRANSFER_FAILED ? "given up"
                                       : "few words");
    transfer->env.over(transfer->env.context, taking->peer, &range, outcome);
    taking_free(taking);
    keep_taking(transfer, taking);
}

static void fail(struct transfer *transfer, struct taking *taking, struct outbox *outbox)
{
    drop(transfer, taking, false, outbox);
    transfer->env.remove(transfer->env.context, taking->id);
    finish(transfer, taking, TRANSFER_FAILED);
}

/* --- Taking: step by step --- */

static void begin_file(struct transfer *transfer, struct taking *taking, uint64_t now_ms,
                       struct outbox *outbox)
{
    taking->state = TAKING_ASKS;
    taking->joined = false;
    taking->id = next_id(transfer);
    taking->size_bytes = taking->written_bytes = 0;
    taking->heard_ms = now_ms;
    buf_clear(&taking->end);
    buf_deinit(&taking->window);
    keep_taking(transfer, taking);
    ask(transfer, taking, now_ms, outbox);
}

bool transfer_begin(struct transfer *transfer, node_id peer, const struct key_range *range,
                    uint64_t now_ms, struct outbox *outbox)
{
    size_t place = 0;
    while (place < TRANSFER_TAKEN_MAX && transfer->takings[place].state != TAKING_FREE) place++;
    if (place == TRANSFER_TAKEN_MAX) return false;
    struct taking *taking = &transfer->takings[place];
    bool good = set(&taking->low, range->low) && set(&taking->from, range->low) &&
                set(&taking->high, range->high);
    if (!good) {
        taking_free(taking);
        return false;
    }
    taking->peer = peer;
    TRACE(transfer->env.trace, "transfer from n%u: ask", peer);
    begin_file(transfer, taking, now_ms, outbox);
    return true;
}

bool transfer_takes(const struct transfer *transfer, struct slice key)
{
    for (size_t i = 0; i < TRANSFER_TAKEN_MAX; i++) {
        const struct taking *taking = &transfer->takings[i];
        if (taking->state == TAKING_FREE) continue;
        struct key_range range = range_of_all(taking);
        bool above = slice_compare(range.low, key) <= 0;
        if (above && (range.high.size == 0 || slice_compare(key, range.high) < 0)) return true;
    }
    return false;
}

static void begin_window(struct transfer *transfer, struct taking *taking, uint64_t now_ms,
                         struct outbox *outbox)
{
    taking->state = TAKING_FETCHES;
    taking->handed = false;
    taking->asked = taking->got = 0;
    taking->heard_ms = now_ms;
    taking->due_ms = now_ms + TRANSFER_AGAIN_MS;
    buf_clear(&taking->window);
    if (!buf_ensure(&taking->window, window_bytes(taking))) {
        fail(transfer, taking, outbox);
        return;
    }
    taking->window.size = window_bytes(taking);
    fetch(transfer, taking, outbox);
}

/* What follows the file that was joined, if anything does. */
static void file_done(struct transfer *transfer, struct taking *taking, uint64_t now_ms,
                      struct outbox *outbox)
{
    if (taking->end.size == 0) {
        finish(transfer, taking, TRANSFER_MOVED);
        return;
    }
    if (!set(&taking->from, buf_slice(&taking->end)))
        fail(transfer, taking, outbox);
    else
        begin_file(transfer, taking, now_ms, outbox);
}

/* Hands over what is next, unless that is done or the store has no room for it yet. */
static void hand(struct transfer *transfer, struct taking *taking, uint64_t now_ms,
                 struct outbox *outbox)
{
    enum status status = STATUS_OK;
    if (taking->handed) return;
    taking->due_ms = now_ms + TRANSFER_AGAIN_MS;
    if (taking->state == TAKING_WRITES) {
        status = transfer->env.write(transfer->env.context, taking->id, taking->written_bytes,
                                     buf_slice(&taking->window));
    } else {
        struct key_range range = range_of_file(taking);
        status = transfer->env.ingest(transfer->env.context, taking->id, &range);
    }
    if (status == STATUS_BUSY) return;
    taking->handed = true;
    if (status != STATUS_OK) fail(transfer, taking, outbox);
}

static struct taking *find_taking(struct transfer *transfer, uint64_t id, enum taking_state state)
{
    for (size_t i = 0; i < TRANSFER_TAKEN_MAX; i++) {
        struct taking *taking = &transfer->takings[i];
        if (taking->state == state && taking->id == id) return taking;
    }
    return NULL;
}

void transfer_written(struct transfer *transfer, uint64_t id, enum status status, uint64_t now_ms,
                      struct outbox *outbox)
{
    struct taking *taking = find_taking(transfer, id, TAKING_WRITES);
    if (taking == NULL) return;
    if (status != STATUS_OK) {
        fail(transfer, taking, outbox);
        return;
    }
    taking->written_bytes += taking->window.size;
    keep_taking(transfer, taking);
    if (taking->written_bytes < taking->size_bytes) {
        begin_window(transfer, taking, now_ms, outbox);
        return;
    }
    buf_deinit(&taking->window);
    drop(transfer, taking, true, outbox);
    taking->state = TAKING_INGESTS;
    taking->handed = false;
    hand(transfer, taking, now_ms, outbox);
}

void transfer_ingested(struct transfer *transfer, uint64_t id, enum status status, uint64_t now_ms,
                       struct outbox *outbox)
{
    struct taking *taking = find_taking(transfer, id, TAKING_INGESTS);
    if (taking == NULL) return;
    if (status != STATUS_OK) {
        fail(transfer, taking, outbox);
        return;
    }
    transfer->counts.taken_files++;
    file_done(transfer, taking, now_ms, outbox);
    transfer->env.remove(transfer->env.context, id);
}

static bool ends_within(const struct taking *taking, struct slice end)
{
    if (end.size == 0) return true;
    struct slice high = buf_slice(&taking->high);
    return slice_compare(buf_slice(&taking->from), end) < 0 &&
           (high.size == 0 || slice_compare(end, high) < 0);
}

static void take_file(struct transfer *transfer, struct taking *taking,
                      const struct transfer_message *message, uint64_t now_ms,
                      struct outbox *outbox)
{
    if (!ends_within(taking, message->end) || !set(&taking->end, message->end)) {
        fail(transfer, taking, outbox);
    } else if (message->size_bytes == 0) {
        file_done(transfer, taking, now_ms, outbox);
    } else {
        taking->size_bytes = message->size_bytes;
        keep_taking(transfer, taking);
        begin_window(transfer, taking, now_ms, outbox);
    }
}

static void offered(struct transfer *transfer, struct taking *taking,
                    const struct transfer_message *message, uint64_t now_ms, struct outbox *outbox)
{
    switch (message->verdict) {
    case TRANSFER_READY:
        take_file(transfer, taking, message, now_ms, outbox);
        break;
    case TRANSFER_WORKING:
        taking->heard_ms = now_ms;
        break;
    case TRANSFER_FEW:
        finish(transfer, taking, TRANSFER_NOT_WORTH);
        break;
    case TRANSFER_BUSY:
    case TRANSFER_OTHER_MAP:
        break; /* Asked again, until that has lasted too long. */
    default:
        fail(transfer, taking, outbox);
        break;
    }
}

/* False: it is not what was asked for. */
static bool take_piece(struct transfer *transfer, struct taking *taking,
                       const struct transfer_message *message, uint64_t now_ms,
                       struct outbox *outbox)
{
    if (message->offset < taking->written_bytes) return true; /* Late. */
    uint64_t at = message->offset - taking->written_bytes;
    /* Of what was asked for before a start. */
    if (at >= taking->window.size) return message->offset < taking->size_bytes;
    uint32_t bit = UINT32_C(1) << at / TRANSFER_PIECE_BYTES;
    if ((taking->got & bit) != 0) return true;
    if (message->bytes.size != u64_min(TRANSFER_PIECE_BYTES, taking->window.size - at))
        return false;
    if (message->checksum != transfer_checksum(message->id, message->offset, message->bytes))
        return false;
    memcpy(taking->window.data + at, message->bytes.data, message->bytes.size);
    taking->got |= bit;
    taking->heard_ms = now_ms;
    taking->due_ms = now_ms + TRANSFER_AGAIN_MS;
    transfer->counts.taken_bytes += message->bytes.size;
    if ((unsigned)__builtin_popcount(taking->got) < window_pieces(taking)) {
        fetch(transfer, taking, outbox);
    } else {
        taking->state = TAKING_WRITES;
        hand(transfer, taking, now_ms, outbox);
    }
    return true;
}

/* The peer does not have the file any more: it is made anew. */
static void gone(struct transfer *transfer, struct taking *taking, uint64_t now_ms,
                 struct outbox *outbox)
{
    transfer->env.remove(transfer->env.context, taking->id);
    begin_file(transfer, taking, now_ms, outbox);
}

/* --- Giving --- */

static struct giving *find_giving(struct transfer *transfer, node_id peer, uint64_t id)
{
    for (size_t i = 0; i < TRANSFER_GIVEN_MAX; i++) {
        struct giving *giving = &transfer->givings[i];
        if (giving->state != GIVING_FREE && giving->peer == peer && giving->id == id) return giving;
    }
    return NULL;
}

static void stop_giving(struct transfer *transfer, struct giving *giving)
{
    transfer->env.remove(transfer->env.context, giving->id);
    giving_free(giving);
    keep_giving(transfer, giving);
}

static void offer(struct transfer *transfer, const struct giving *giving, struct outbox *outbox)
{
    struct transfer_message message = {
        .kind = TRANSFER_OFFER,
        .id = giving->id,
        .verdict = giving->state == GIVING_READY ? TRANSFER_READY : TRANSFER_WORKING,
        .size_bytes = giving->size_bytes,
        .end = buf_slice(&giving->end),
    };
    send_message(transfer, giving->peer, false, &message, outbox);
}

/* A place for another transfer to `peer`. Who asks anew for what it is being given has lost what it
 * knew of that. */
static struct giving *giving_place(struct transfer *transfer, node_id peer, struct slice low)
{
    struct giving *place = NULL;
    for (size_t i = 0; i < TRANSFER_GIVEN_MAX; i++) {
        struct giving *giving = &transfer->givings[i];
        bool again = giving->state != GIVING_FREE && giving->peer == peer &&
                     slice_equal(buf_slice(&giving->low), low);
        if (again) stop_giving(transfer, giving);
        if (giving->state == GIVING_FREE) place = giving;
    }
    return place;
}

static enum transfer_verdict begin_giving(struct transfer *transfer, node_id from,
                                          const struct transfer_message *message, uint64_t now_ms)
{
    const struct transfer_env *env = &transfer->env;
    uint64_t count;
    if (!env->gives(env->context, from, &message->range)) return TRANSFER_OTHER_MAP;
    if (env->count(env->context, &message->range, &count) != STATUS_OK) return TRANSFER_REFUSED;
    bool few = count < message->count || count - message->count < TRANSFER_FEW_RECORDS;
    if (few) return TRANSFER_FEW;
    struct giving *giving = giving_place(transfer, from, message->range.low);
    if (giving == NULL) return TRANSFER_BUSY;
    if (!set(&giving->low, message->range.low)) return TRANSFER_REFUSED;
    enum status status =
        env->export_range(env->context, message->id, &message->range, TRANSFER_FILE_BYTES_AIM);
    if (status == STATUS_BUSY) return TRANSFER_BUSY;
    if (status != STATUS_OK) return TRANSFER_REFUSED;
    giving->state = GIVING_MAKES;
    giving->peer = from;
    giving->id = message->id;
    giving->heard_ms = now_ms;
    TRACE(env->trace, "transfer to n%u: %llu words", from, (unsigned long long)count);
    return TRANSFER_WORKING;
}

static void asked(struct transfer *transfer, node_id from, const struct transfer_message *message,
                  uint64_t now_ms, struct outbox *outbox)
{
    struct giving *giving = find_giving(transfer, from, message->id);
    if (giving != NULL) {
        giving->heard_ms = now_ms;
        offer(transfer, giving, outbox);
        return;
    }
    struct transfer_message answer = {.kind = TRANSFER_OFFER, .id = message->id};
    answer.verdict = begin_giving(transfer, from, message, now_ms);
    send_message(transfer, from, false, &answer, outbox);
}

void transfer_exported(struct transfer *transfer, uint64_t id, enum status status,
                       uint64_t size_bytes, struct slice end, uint64_t now_ms,
                       struct outbox *outbox)
{
    struct giving *giving = NULL;
    for (size_t i = 0; i < TRANSFER_GIVEN_MAX; i++)
        if (transfer->givings[i].state == GIVING_MAKES && transfer->givings[i].id == id)
            giving = &transfer->givings[i];
    if (giving == NULL) return;
    bool good = status == STATUS_OK && size_bytes <= TRANSFER_FILE_BYTES_MAX;
    giving->heard_ms = now_ms;
    if (!good || !set(&giving->end, end)) {
        struct transfer_message refused = {
            .kind = TRANSFER_OFFER, .id = id, .verdict = TRANSFER_REFUSED};
        send_message(transfer, giving->peer, false, &refused, outbox);
        stop_giving(transfer, giving);
        return;
    }
    giving->state = GIVING_READY;
    giving->size_bytes = size_bytes;
    offer(transfer, giving, outbox);
    if (size_bytes == 0)
        giving_free(giving); /* There is no file, and nothing to come back to. */
    else
        keep_giving(transfer, giving);
}

static void wanted(struct transfer *transfer, node_id from, const struct transfer_message *message,
                   uint64_t now_ms, struct outbox *outbox)
{
    struct giving *giving = find_giving(transfer, from, message->id);
    struct transfer_message answer = {.kind = TRANSFER_GONE, .id = message->id};
    enum status status = STATUS_NOT_FOUND;
    if (giving != NULL && giving->state == GIVING_READY && message->offset < giving->size_bytes) {
        uint64_t size = u64_min(TRANSFER_PIECE_BYTES, giving->size_bytes - message->offset);
        giving->heard_ms = now_ms;
        buf_clear(&transfer->piece);
        status = transfer->env.read(transfer->env.context, giving->id, message->offset,
                                    (size_t)size, &transfer->piece);
        if (status == STATUS_NOMEM) return; /* It is wanted again. */
        if (status != STATUS_OK) stop_giving(transfer, giving);
    }
    if (status == STATUS_OK) {
        answer.kind = TRANSFER_PIECE;
        answer.offset = message->offset;
        answer.bytes = buf_slice(&transfer->piece);
        answer.checksum = transfer_checksum(answer.id, answer.offset, answer.bytes);
        transfer->counts.given_bytes += answer.bytes.size;
    }
    send_message(transfer, from, false, &answer, outbox);
}

/* --- Messages, time, starts --- */

/* The transfer that an answer is for. */
static struct taking *answered(struct transfer *transfer, node_id from,
                               const struct transfer_message *message)
{
    bool offers = message->kind == TRANSFER_OFFER;
    struct taking *taking =
        find_taking(transfer, message->id, offers ? TAKING_ASKS : TAKING_FETCHES);
    return taking != NULL && taking->peer == from ? taking : NULL;
}

enum status transfer_receive(struct transfer *transfer, node_id from, struct slice bytes,
                             uint64_t now_ms, struct outbox *outbox)
{
    struct transfer_message message;
    enum status status = transfer_message_decode(bytes, &message);
    struct taking *taking = status == STATUS_OK ? answered(transfer, from, &message) : NULL;
    struct giving *giving = NULL;
    if (status != STATUS_OK) {
        transfer->counts.invalid_count++;
        return status;
    }
    switch (message.kind) {
    case TRANSFER_ASK:
        asked(transfer, from, &message, now_ms, outbox);
        break;
    case TRANSFER_WANT:
        wanted(transfer, from, &message, now_ms, outbox);
        break;
    case TRANSFER_DROP:
        giving = find_giving(transfer, from, message.id);
        transfer->counts.given_files += giving != NULL;
        if (giving != NULL) stop_giving(transfer, giving);
        break;
    case TRANSFER_OFFER:
        if (taking != NULL) offered(transfer, taking, &message, now_ms, outbox);
        break;
    case TRANSFER_PIECE:
        if (taking != NULL && !take_piece(transfer, taking, &message, now_ms, outbox))
            status = STATUS_INVALID;
        break;
    case TRANSFER_GONE:
        if (taking != NULL) gone(transfer, taking, now_ms, outbox);
        break;
    case TRANSFER_KIND_END:
        break;
    }
    if (status != STATUS_OK) transfer->counts.invalid_count++;
    return status;
}

static void tick_taking(struct transfer *transfer, struct taking *taking, uint64_t now_ms,
                        struct outbox *outbox)
{
    struct key_range range = range_of_all(taking);
    bool listens = taking->state == TAKING_ASKS || taking->state == TAKING_FETCHES;
    bool silent = listens && now_ms - taking->heard_ms >= TRANSFER_SILENT_MS;
    if (silent || !transfer->env.takes(transfer->env.context, taking->peer, &range)) {
        fail(transfer, taking, outbox);
    } else if (now_ms < taking->due_ms) {
        return;
    } else if (taking->state == TAKING_ASKS) {
        ask(transfer, taking, now_ms, outbox);
    } else if (taking->state == TAKING_FETCHES) {
        if (taking->window.size == 0) {
            begin_window(transfer, taking, now_ms, outbox); /* After a start. */
            return;
        }
        transfer->counts.again_count += (unsigned)__builtin_popcount(taking->asked & ~taking->got);
        taking->due_ms = now_ms + TRANSFER_AGAIN_MS;
        taking->asked = taking->got;
        fetch(transfer, taking, outbox);
    } else if (taking->handed) {
        taking->due_ms = now_ms + TRANSFER_AGAIN_MS;
    } else if (taking->state == TAKING_INGESTS && taking->joined) {
        file_done(transfer, taking, now_ms, outbox);
    } else {
        hand(transfer, taking, now_ms, outbox);
    }
}

static void keep_again(struct transfer *transfer)
{
    transfer->unkept = false;
    for (size_t i = 0; i < TRANSFER_TAKEN_MAX; i++) keep_taking(transfer, &transfer->takings[i]);
    for (size_t i = 0; i < TRANSFER_GIVEN_MAX; i++) keep_giving(transfer, &transfer->givings[i]);
}

void transfer_tick(struct transfer *transfer, uint64_t now_ms, struct outbox *outbox)
{
    if (transfer->unkept) keep_again(transfer);
    for (size_t i = 0; i < TRANSFER_TAKEN_MAX; i++)
        if (transfer->takings[i].state != TAKING_FREE)
            tick_taking(transfer, &transfer->takings[i], now_ms, outbox);
    for (size_t i = 0; i < TRANSFER_GIVEN_MAX; i++) {
        struct giving *giving = &transfer->givings[i];
        if (giving->state == GIVING_FREE || now_ms - giving->heard_ms < TRANSFER_KEEP_MS) continue;
        TRACE(transfer->env.trace, "transfer to n%u: nobody asks for it", giving->peer);
        stop_giving(transfer, giving);
    }
}

bool transfer_is_waiting(const struct transfer *transfer)
{
    for (size_t i = 0; i < TRANSFER_TAKEN_MAX; i++) {
        const struct taking *taking = &transfer->takings[i];
        bool works = taking->state == TAKING_WRITES || taking->state == TAKING_INGESTS;
        if (works && taking->handed) return true;
    }
    for (size_t i = 0; i < TRANSFER_GIVEN_MAX; i++)
        if (transfer->givings[i].state == GIVING_MAKES) return true;
    return false;
}

uint64_t transfer_due_ms(const struct transfer *transfer)
{
    uint64_t due = UINT64_MAX;
    for (size_t i = 0; i < TRANSFER_TAKEN_MAX; i++)
        if (transfer->takings[i].state != TAKING_FREE)
            due = u64_min(due, transfer->takings[i].due_ms);
    for (size_t i = 0; i < TRANSFER_GIVEN_MAX; i++)
        if (transfer->givings[i].state != GIVING_FREE)
            due = u64_min(due, transfer->givings[i].heard_ms + TRANSFER_KEEP_MS);
    return due;
}

static void resume_taking(struct taking *taking, uint64_t file_bytes, uint64_t now_ms)
{
    bool whole = taking->size_bytes > 0 && taking->written_bytes == taking->size_bytes;
    taking->heard_ms = taking->due_ms = now_ms;
    taking->handed = false;
    /* A whole file is removed once it was joined, and not before. */
    taking->joined = whole && file_bytes == 0;
    if (!whole && file_bytes < taking->written_bytes) taking->written_bytes = 0;
    taking->state = taking->size_bytes == 0 ? TAKING_ASKS : whole ? TAKING_INGESTS : TAKING_FETCHES;
}

static enum status restore_taking(struct taking *taking, struct slice state, uint64_t file_bytes,
                                  uint64_t now_ms)
{
    struct reader reader = reader_of(state);
    taking->peer = reader_u16le(&reader);
    taking->id = reader_u64le(&reader);
    get_bound(&reader, &taking->low);
    get_bound(&reader, &taking->from);
    get_bound(&reader, &taking->high);
    taking->size_bytes = reader_varint(&reader);
    get_bound(&reader, &taking->end);
    taking->written_bytes = reader_varint(&reader);
    bool sound = !reader.failed && reader_left(&reader) == 0 && taking->peer != 0 &&
                 taking->id != 0 && taking->size_bytes <= TRANSFER_FILE_BYTES_MAX &&
                 taking->written_bytes <= taking->size_bytes && taking->from.size > 0 &&
                 ends_within(taking, buf_slice(&taking->end)) &&
                 (taking->written_bytes == taking->size_bytes ||
                  taking->written_bytes % TRANSFER_PIECE_BYTES == 0);
    bool failed = taking->low.failed || taking->from.failed || taking->high.failed ||
                  taking->end.failed;
    if (sound && !failed) resume_taking(taking, file_bytes, now_ms);
    return failed ? STATUS_NOMEM : sound ? STATUS_OK : STATUS_CORRUPT;
}

static enum status restore_giving(struct giving *giving, struct slice state, uint64_t file_bytes,
                                  uint64_t now_ms)
{
    struct reader reader = reader_of(state);
    giving->peer = reader_u16le(&reader);
    giving->id = reader_u64le(&reader);
    get_bound(&reader, &giving->low);
    giving->size_bytes = reader_varint(&reader);
    get_bound(&reader, &giving->end);
    giving->heard_ms = now_ms;
    if (giving->low.failed || giving->end.failed) return STATUS_NOMEM;
    bool sound = !reader.failed && reader_left(&reader) == 0 && giving->peer != 0 &&
                 giving->id != 0 && giving->size_bytes == file_bytes && file_bytes > 0;
    giving->state = sound ? GIVING_READY : GIVING_FREE;
    return sound ? STATUS_OK : STATUS_CORRUPT;
}

enum status transfer_restore(struct transfer *transfer, enum transfer_side side, size_t place,
                             struct slice state, uint64_t file_bytes, uint64_t now_ms)
{
    size_t places = side == TRANSFER_TAKES ? TRANSFER_TAKEN_MAX : TRANSFER_GIVEN_MAX;
    if (place >= places) return STATUS_CORRUPT;
    if (side == TRANSFER_TAKES) {
        struct taking *taking = &transfer->takings[place];
        enum status status = restore_taking(taking, state, file_bytes, now_ms);
        if (status != STATUS_OK) taking_free(taking);
        return status;
    }
    struct giving *giving = &transfer->givings[place];
    enum status status = restore_giving(giving, state, file_bytes, now_ms);
    if (status != STATUS_OK) giving_free(giving);
    return status;
}
