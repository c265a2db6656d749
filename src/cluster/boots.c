#include "cluster/boots.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/planted.h"

/* A line of the trace, with what each begins with. */
__attribute__((format(printf, 2, 3))) static void say(const struct boots *boots, const char *format,
                                                      ...)
{
    if (boots->trace == NULL || boots->trace->line == NULL) return;
    char line[TRACE_LINE_BYTES_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    trace_write(boots->trace, "boots: n%u %s", (unsigned)boots->starts.id, line);
}

/* --- Life --- */

void boots_init(struct boots *boots, const struct starts *starts, struct heap *heap,
                const struct register_map *map, const struct trace *trace)
{
    CHECK(starts->id != 0);
    CHECK(starts->boot.counter > 0);
    CHECK(register_map_valid(map));
    *boots = (struct boots){.heap = heap, .trace = trace, .starts = *starts, .map = *map};
}

void boots_deinit(struct boots *boots)
{
    heap_free(boots->heap, boots->records);
    boots->records = NULL;
    boots->record_count = 0;
    boots->record_capacity = 0;
}

/* --- Records --- */

static struct boots_record *find(const struct boots *boots, node_id id)
{
    for (size_t i = 0; i < boots->record_count; i++) {
        if (boots->records[i].id == id) return &boots->records[i];
    }
    return NULL;
}

const struct boot *boots_record(const struct boots *boots, node_id id)
{
    const struct boots_record *record = find(boots, id);
    return record == NULL ? NULL : &record->boot;
}

static enum status put(struct boots *boots, node_id id, struct boot boot)
{
    struct boots_record *record = find(boots, id);
    if (record != NULL) {
        record->boot = boot;
        return STATUS_OK;
    }
    if (boots->record_count == boots->record_capacity) {
        size_t capacity = boots->record_capacity == 0 ? 8 : boots->record_capacity * 2;
        if (capacity > BOOTS_RECORD_COUNT_MAX) return STATUS_LIMIT;
        struct boots_record *records =
            heap_realloc(boots->heap, boots->records, capacity * sizeof *records);
        if (records == NULL) return STATUS_NOMEM;
        boots->records = records;
        boots->record_capacity = capacity;
    }
    boots->records[boots->record_count++] = (struct boots_record){id, boot};
    return STATUS_OK;
}

enum status boots_restore(struct boots *boots, node_id id, struct slice bytes)
{
    struct boot boot;
    if (id == 0) return STATUS_CORRUPT;
    enum status status = boot_decode(bytes, &boot);
    return status == STATUS_OK ? put(boots, id, boot) : status;
}

void boots_forget(struct boots *boots, node_id id)
{
    struct boots_record *record = find(boots, id);
    if (record != NULL) *record = boots->records[--boots->record_count];
}

/* --- The rule --- */

/* Our place in the map, as this incarnation; -1: we are no registrar. */
static int own_place(const struct boots *boots)
{
    int place = register_map_find(&boots->map, boots->starts.id);
    if (place < 0) return -1;
    bool same = boots->map.registrars[place].incarnation == boots->starts.boot.incarnation;
    return same ? place : -1;
}

static unsigned count_others(const struct boots *boots)
{
    return boots->map.registrar_count - (own_place(boots) >= 0);
}

/* By a majority of the other registrars, or there are none. */
static bool is_confirmed(const struct boots *boots)
{
    unsigned others = count_others(boots);
    unsigned count = 0;
    for (int i = 0; i < boots->map.registrar_count; i++) count += boots->confirmed[i];
    return others == 0 || count >= majority_of(others);
}

bool boots_may_vote(const struct boots *boots)
{
    if (planted(BUG_VOTES_WITHOUT_ITS_DISK)) return true;
    return !boots->starts.rolled_back && own_place(boots) >= 0 && is_confirmed(boots);
}

static bool is_asking(const struct boots *boots)
{
    return !boots->starts.rolled_back && !is_confirmed(boots);
}

bool boots_is_recorded(const struct boots *boots)
{
    return !boots->starts.rolled_back && count_others(boots) > 0 && is_confirmed(boots);
}

bool boots_is_known(const struct boots *boots, bool (*is_down)(const void *context, node_id id),
                    const void *context)
{
    if (boots->starts.rolled_back || is_confirmed(boots)) return true;
    for (int i = 0; i < boots->map.registrar_count; i++) {
        node_id id = boots->map.registrars[i].id;
        if (id == boots->starts.id || boots->confirmed[i]) continue;
        if (!is_down(context, id)) return false;
    }
    return true;
}

void boots_set_map(struct boots *boots, const struct register_map *map, uint64_t now_ms)
{
    CHECK(register_map_valid(map));
    bool confirmed[REGISTRAR_COUNT_MAX] = {0};
    for (int i = 0; i < map->registrar_count; i++) {
        struct registrar registrar = map->registrars[i];
        int before = register_map_find(&boots->map, registrar.id);
        confirmed[i] = before >= 0 && boots->confirmed[before] &&
                       boots->map.registrars[before].incarnation == registrar.incarnation;
    }
    memcpy(boots->confirmed, confirmed, sizeof confirmed);
    boots->map = *map;
    boots->waits = 0;
    boots->deadline_ms = now_ms;
}

/* --- Asking --- */

static struct boots_message message_of(const struct boots *boots, enum boots_kind kind,
                                       struct boot boot)
{
    return (struct boots_message){.kind = kind, .generation = boots->map.generation, .boot = boot};
}

static void send(struct outbox *outbox, node_id to, const struct boots_message *message,
                 bool durable)
{
    boots_message_encode(message, outbox_begin(outbox, to, PROTOCOL_BOOTS));
    outbox_end(outbox, durable);
}

void boots_tick(struct boots *boots, uint64_t now_ms, struct prng *prng, struct outbox *outbox)
{
    if (!is_asking(boots) || now_ms < boots->deadline_ms) return;
    struct boots_message ask = message_of(boots, BOOTS_ASK, boots->starts.boot);
    ask.salt_count = boots_salt_count(ask.boot.counter);
    memcpy(ask.salts, boots->starts.salts, sizeof ask.salts);
    say(boots, "asks to record start %llu", (unsigned long long)ask.boot.counter);
    for (int i = 0; i < boots->map.registrar_count; i++) {
        node_id id = boots->map.registrars[i].id;
        if (id != boots->starts.id && !boots->confirmed[i]) send(outbox, id, &ask, false);
    }
    uint32_t wait_ms = BOOTS_ASK_MS << boots->waits;
    if (wait_ms >= BOOTS_ASK_MAX_MS) {
        wait_ms = BOOTS_ASK_MAX_MS;
    } else {
        boots->waits++;
    }
    boots->deadline_ms = now_ms + wait_ms + prng_below(prng, wait_ms);
}

uint64_t boots_next_ms(const struct boots *boots)
{
    return is_asking(boots) ? boots->deadline_ms : UINT64_MAX;
}

/* --- Recording --- */

/* Does the disk of who asks remember the start that we recorded? Of starts older than what an
 * ask tells, the counter is all there is to go by. */
static bool remembers(const struct boots_message *ask, struct boot recorded)
{
    if (recorded.incarnation != ask->boot.incarnation) return false;
    if (recorded.counter > ask->boot.counter) return false;
    if (recorded.counter == ask->boot.counter) {
        return recorded.salt == ask->boot.salt || planted(BUG_START_KNOWN_BY_COUNTER);
    }
    uint64_t ago = ask->boot.counter - recorded.counter;
    return ago > ask->salt_count || ask->salts[ago - 1] == recorded.salt;
}

static enum status answer(struct boots *boots, node_id from, const struct boots_message *ask,
                          struct outbox *outbox, struct boots_news *news)
{
    int place = register_map_find(&boots->map, from);
    /* A disk that was rolled back has forgotten what it recorded: where those that are asked are an even number, two
     * majorities of them share another one. */
    unsigned asked = boots->map.registrar_count - (place >= 0);
    bool forgot = boots->starts.rolled_back && asked % 2 != 0;
    /* With a newer map than ours we may be one: it will ask again. */
    if (forgot || own_place(boots) < 0) return STATUS_OK;
    if (from == boots->starts.id) return STATUS_INVALID;
    const struct boot *recorded = boots_record(boots, from);
    bool is_other = place >= 0 && boots->map.registrars[place].incarnation != ask->boot.incarnation;
    struct boots_message reply = message_of(boots, BOOTS_RECORDED, ask->boot);
    if (is_other || (recorded != NULL && !remembers(ask, *recorded))) {
        say(boots, "refuses start %llu of n%u, it recorded %llu",
            (unsigned long long)ask->boot.counter, (unsigned)from,
            (unsigned long long)(recorded == NULL ? 0 : recorded->counter));
        reply.kind = BOOTS_REFUSED;
        send(outbox, from, &reply, false);
        return STATUS_OK;
    }
    if (recorded == NULL || !boot_equal(*recorded, ask->boot)) {
        /* Without room or memory it is as if the message had been lost. */
        if (put(boots, from, ask->boot) != STATUS_OK) return STATUS_OK;
        say(boots, "records start %llu of n%u", (unsigned long long)ask->boot.counter,
            (unsigned)from);
    }
    news->store_record = from;
    send(outbox, from, &reply, true);
    return STATUS_OK;
}

/* --- Receiving --- */

static enum status answered(struct boots *boots, node_id from, const struct boots_message *message,
                            struct boots_news *news)
{
    if (!boot_equal(message->boot, boots->starts.boot)) return STATUS_OK; /* Of a former start. */
    int place = register_map_find(&boots->map, from);
    if (place < 0) return STATUS_OK; /* No registrar any more. */
    if (from == boots->starts.id) return STATUS_INVALID;
    if (message->kind == BOOTS_REFUSED) {
        if (boots->starts.rolled_back) return STATUS_OK;
        boots->starts.rolled_back = true;
        news->store_starts = true;
        say(boots, "was refused by n%u: this disk was rolled back, it never votes again",
            (unsigned)from);
        return STATUS_OK;
    }
    bool before = is_confirmed(boots);
    boots->confirmed[place] = true;
    if (!before && is_confirmed(boots)) {
        say(boots, "has start %llu recorded by a majority of the others",
            (unsigned long long)boots->starts.boot.counter);
    }
    return STATUS_OK;
}

enum status boots_receive(struct boots *boots, node_id from, struct slice bytes,
                          struct outbox *outbox, struct boots_news *news)
{
    struct boots_message message;
    *news = (struct boots_news){0};
    enum status status = boots_message_decode(bytes, &message);
    if (status == STATUS_OK && !generation_equal(message.generation, boots->map.generation)) {
        boots->foreign_count++;
        if (message.generation.number > boots->map.generation.number) news->newer = from;
        return STATUS_OK;
    }
    if (status == STATUS_OK) {
        status = message.kind == BOOTS_ASK ? answer(boots, from, &message, outbox, news)
                                           : answered(boots, from, &message, news);
    }
    if (status != STATUS_OK) boots->invalid_count++;
    return status;
}
