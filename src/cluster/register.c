#include "cluster/register.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/check.h"
#include "base/planted.h"
#include "cluster/register_state.h"

/* The instance that is open: the number of the map to be chosen. */
static uint64_t instance_of(const struct register_node *node)
{
    return node->map.number + 1;
}

/* A line of the trace, with what each begins with. */
__attribute__((format(printf, 2, 3))) static void say(const struct register_node *node,
                                                      const char *format, ...)
{
    if (node->trace == NULL || node->trace->line == NULL) return;
    char line[TRACE_LINE_BYTES_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    trace_write(node->trace, "register %llu: n%u %s", (unsigned long long)instance_of(node),
                (unsigned)node->self, line);
}

/* A ballot in a trace: its round and node. */
#define BALLOT_FORMAT "%llu.%u"
#define BALLOT_ARGUMENTS(ballot) (unsigned long long)(ballot).round, (unsigned)(ballot).node

static struct register_value value_of(const struct buf *encoded)
{
    struct reader reader = reader_of(buf_slice(encoded));
    struct register_value value = register_value_read(&reader);
    CHECK(!reader.failed);
    return value;
}

/* --- Life --- */

/* What was kept counts for the map it was kept with: with a newer one the instance is new. */
static enum status restore(struct register_node *node, struct slice bytes)
{
    struct register_state state;
    enum status status = register_state_decode(bytes, &state);
    if (status != STATUS_OK) return status;
    const struct register_map *map = &node->map;
    if (!generation_equal(state.generation, map->generation)) {
        return state.generation.number < map->generation.number ? STATUS_OK : STATUS_CORRUPT;
    }
    if (state.number < map->number) return STATUS_OK;
    if (state.number > map->number || !hash128_equal(state.hash, map->hash)) return STATUS_CORRUPT;

    node->acceptor.promised = state.promised;
    node->acceptor.accepted = state.accepted;
    if (!ballot_is_none(state.accepted)) {
        register_value_encode(state.value, &node->acceptor.value);
    }
    if (state.has_decision) register_value_encode(state.decision, &node->made_map);
    bool failed = node->acceptor.value.failed || node->made_map.failed;
    return failed ? STATUS_NOMEM : STATUS_OK;
}

enum status register_init(struct register_node *node, node_id self, struct heap *heap,
                          const struct register_map *map, struct slice state, struct prng *prng,
                          const struct trace *trace)
{
    CHECK(self != 0);
    CHECK(register_map_valid(map));
    *node = (struct register_node){
        .self = self,
        .heap = heap,
        .trace = trace,
        .map = *map,
        .acceptor = {.value = {.heap = heap}},
        .decided = {.heap = heap},
        .made_map = {.heap = heap},
    };
    proposer_init(&node->proposer, heap, self, prng_u64(prng));
    if (state.size == 0) return STATUS_OK;
    enum status status = restore(node, state);
    if (status != STATUS_OK) register_deinit(node);
    return status;
}

void register_deinit(struct register_node *node)
{
    buf_deinit(&node->acceptor.value);
    buf_deinit(&node->decided);
    buf_deinit(&node->made_map);
    proposer_deinit(&node->proposer);
}

void register_encode_state(const struct register_node *node, struct buf *out)
{
    struct register_state state = {
        .generation = node->map.generation,
        .number = node->map.number,
        .hash = node->map.hash,
        .promised = node->acceptor.promised,
        .accepted = node->acceptor.accepted,
        .has_decision = node->made_map.size > 0,
    };
    if (!ballot_is_none(state.accepted)) state.value = acceptor_value(&node->acceptor);
    if (state.has_decision) state.decision = value_of(&node->made_map);
    register_state_encode(&state, out);
}

void register_set_voting(struct register_node *node, bool votes)
{
    if (votes != node->votes && register_map_find(&node->map, node->self) >= 0) {
        say(node, "%s", votes ? "votes from now on" : "does not vote any more");
    }
    node->votes = votes;
}

static void end_proposal(struct register_node *node, enum proposal_outcome outcome)
{
    if (node->outcome != PROPOSAL_OPEN) return;
    node->outcome = outcome;
    proposer_end(&node->proposer);
}

enum status register_set_map(struct register_node *node, const struct register_map *map)
{
    CHECK(register_map_valid(map));
    const struct register_map *old = &node->map;
    bool same_generation = generation_equal(map->generation, old->generation);
    bool newer = same_generation ? map->number > old->number
                                 : map->generation.number > old->generation.number;
    if (!newer) return STATUS_STALE;

    end_proposal(node, PROPOSAL_OVERTAKEN);
    buf_deinit(&node->made_map);
    if (same_generation && map->number == instance_of(node)) {
        node->made_map = node->decided;
        node->decided = (struct buf){.heap = node->heap};
    }
    buf_deinit(&node->decided);
    acceptor_reset(&node->acceptor);
    proposer_reset(&node->proposer);
    node->map = *map;
    return STATUS_OK;
}

bool register_decision(const struct register_node *node, struct register_value *out)
{
    if (node->decided.size == 0) return false;
    *out = value_of(&node->decided);
    return true;
}

/* --- Sending --- */

/* Of the open instance; the caller fills in the rest. */
static struct register_message message_of(const struct register_node *node, enum register_kind kind)
{
    return (struct register_message){
        .kind = kind, .generation = node->map.generation, .instance = instance_of(node)};
}

static void send(struct outbox *outbox, node_id to, const struct register_message *message,
                 bool durable)
{
    register_message_encode(message, outbox_begin(outbox, to, PROTOCOL_REGISTER));
    outbox_end(outbox, durable);
}

/* Where we are, to one who is elsewhere. */
static void send_place(const struct register_node *node, node_id to, struct outbox *outbox)
{
    struct register_message message = message_of(node, REGISTER_PLACE);
    send(outbox, to, &message, false);
}

static void send_decided(const struct register_node *node, node_id to, uint64_t instance,
                         const struct buf *value, struct outbox *outbox)
{
    struct register_message message = message_of(node, REGISTER_DECIDED);
    message.instance = instance;
    message.value = value_of(value);
    send(outbox, to, &message, false);
}

/* --- Learning --- */

/* Without memory nothing was learned: it will be said again to who asks. */
static void learn(struct register_node *node, struct register_value value,
                  struct register_news *news)
{
    if (node->decided.size > 0) return;
    struct buf decided = {.heap = node->heap};
    register_value_encode(value, &decided);
    if (buf_status(&decided) != STATUS_OK) {
        buf_deinit(&decided);
        return;
    }
    node->decided = decided;
    news->decided = true;
    bool won = node->outcome == PROPOSAL_OPEN &&
               register_value_equal(value, proposer_wanted(&node->proposer));
    bool lost = node->outcome == PROPOSAL_OPEN && !won;
    say(node, "learns the decision%s",
        won ? ", which is what it proposed" : (lost ? ", its own proposal lost" : ""));
    end_proposal(node, won ? PROPOSAL_CHOSEN : PROPOSAL_LOST);
}

/* --- Proposing --- */

static void perform(struct register_node *node, enum proposer_effect effect, struct outbox *outbox,
                    struct register_news *news)
{
    const struct proposer *proposer = &node->proposer;
    if (effect == PROPOSER_SEND) {
        bool accepting = proposer->phase == PROPOSER_ACCEPTING;
        struct register_message message =
            message_of(node, accepting ? REGISTER_ACCEPT : REGISTER_PREPARE);
        message.ballot = proposer->ballot;
        if (accepting) message.value = proposer_value(proposer);
        bool own = ballot_is_none(proposer->adopted_ballot);
        say(node, "asks to %s " BALLOT_FORMAT "%s", accepting ? "accept" : "promise",
            BALLOT_ARGUMENTS(proposer->ballot),
            !accepting ? "" : (own ? ", its own value" : ", a value found accepted"));
        uint32_t silent = proposer_silent(proposer);
        for (unsigned i = 0; i < node->map.registrar_count; i++) {
            if (silent >> i & 1) send(outbox, node->map.registrars[i].id, &message, false);
        }
    }
    if (effect == PROPOSER_DECIDED) {
        say(node, "has " BALLOT_FORMAT " accepted by a majority",
            BALLOT_ARGUMENTS(proposer->ballot));
        learn(node, proposer_value(proposer), news);
        if (node->decided.size == 0) return;
        for (unsigned i = 0; i < node->map.registrar_count; i++) {
            node_id id = node->map.registrars[i].id;
            if (id != node->self) send_decided(node, id, instance_of(node), &node->decided, outbox);
        }
    }
}

enum status register_propose(struct register_node *node, struct slice delta, uint64_t now_ms,
                             struct prng *prng, struct outbox *outbox)
{
    if (node->outcome == PROPOSAL_OPEN) return STATUS_BUSY;
    if (node->decided.size > 0) return STATUS_STALE;
    if (delta.size == 0 || delta.size > REGISTER_DELTA_BYTES_MAX) return STATUS_LIMIT;
    struct register_value value = {node->map.hash, delta};
    enum status status = proposer_begin(&node->proposer, value, node->map.registrar_count, now_ms);
    if (status != STATUS_OK) return status;
    node->outcome = PROPOSAL_OPEN;
    register_tick(node, now_ms, prng, outbox);
    return STATUS_OK;
}

void register_withdraw(struct register_node *node)
{
    end_proposal(node, PROPOSAL_WITHDRAWN);
}

void register_tick(struct register_node *node, uint64_t now_ms, struct prng *prng,
                   struct outbox *outbox)
{
    struct register_news none = {0};
    perform(node, proposer_tick(&node->proposer, now_ms, prng), outbox, &none);
}

uint64_t register_next_ms(const struct register_node *node)
{
    return node->proposer.phase == PROPOSER_IDLE ? UINT64_MAX : node->proposer.deadline_ms;
}

/* --- Voting --- */

static void answer_prepare(struct register_node *node, node_id from,
                           const struct register_message *asked, struct outbox *outbox,
                           struct register_news *news)
{
    struct acceptor *acceptor = &node->acceptor;
    struct register_message answer = message_of(node, REGISTER_PROMISE);
    answer.ballot = asked->ballot;
    enum status status = acceptor_prepare(acceptor, asked->ballot);
    if (status == STATUS_EXISTS) return;
    if (status == STATUS_STALE) {
        answer.kind = REGISTER_REFUSED;
        answer.other = acceptor->promised;
        say(node, "refuses " BALLOT_FORMAT ", it promised " BALLOT_FORMAT,
            BALLOT_ARGUMENTS(asked->ballot), BALLOT_ARGUMENTS(acceptor->promised));
        send(outbox, from, &answer, false);
        return;
    }
    bool has = !ballot_is_none(acceptor->accepted);
    answer.other = acceptor->accepted;
    if (has) answer.value = acceptor_value(acceptor);
    if (has) {
        say(node, "promises " BALLOT_FORMAT ", has accepted " BALLOT_FORMAT,
            BALLOT_ARGUMENTS(asked->ballot), BALLOT_ARGUMENTS(acceptor->accepted));
    } else {
        say(node, "promises " BALLOT_FORMAT, BALLOT_ARGUMENTS(asked->ballot));
    }
    news->store = true;
    /* Given again, it may still be on its way to the disk: durable each time. */
    send(outbox, from, &answer, !planted(BUG_PROMISE_BEFORE_DURABLE));
}

static enum status answer_accept(struct register_node *node, node_id from,
                                 const struct register_message *asked, struct outbox *outbox,
                                 struct register_news *news)
{
    struct acceptor *acceptor = &node->acceptor;
    struct register_message answer = message_of(node, REGISTER_ACCEPTED);
    answer.ballot = asked->ballot;
    enum status status = acceptor_accept(acceptor, asked->ballot, asked->value);
    if (status == STATUS_STALE) {
        answer.kind = REGISTER_REFUSED;
        answer.other = acceptor->promised;
        say(node, "refuses " BALLOT_FORMAT ", it promised " BALLOT_FORMAT,
            BALLOT_ARGUMENTS(asked->ballot), BALLOT_ARGUMENTS(acceptor->promised));
        send(outbox, from, &answer, false);
        return STATUS_OK;
    }
    if (status == STATUS_NOMEM) return STATUS_OK; /* As if the message had been lost. */
    if (status != STATUS_OK) return status;
    say(node, "accepts " BALLOT_FORMAT, BALLOT_ARGUMENTS(asked->ballot));
    news->store = true;
    send(outbox, from, &answer, true);
    return STATUS_OK;
}

/* Of PREPARE and ACCEPT in the open instance. */
static enum status vote(struct register_node *node, node_id from,
                        const struct register_message *asked, struct outbox *outbox,
                        struct register_news *news)
{
    if (register_map_find(&node->map, node->self) < 0) return STATUS_INVALID;
    if (asked->ballot.round > node->acceptor.promised.round + REGISTER_ROUND_STEP_MAX)
        return STATUS_INVALID;
    if (asked->kind == REGISTER_ACCEPT &&
        !hash128_equal(asked->value.predecessor, node->map.hash)) {
        return STATUS_INVALID;
    }
    if (node->decided.size > 0) {
        send_decided(node, from, instance_of(node), &node->decided, outbox);
        return STATUS_OK;
    }
    if (!node->votes) {
        say(node, "does not vote yet");
        return STATUS_OK;
    }
    if (asked->kind == REGISTER_ACCEPT) return answer_accept(node, from, asked, outbox, news);
    answer_prepare(node, from, asked, outbox, news);
    return STATUS_OK;
}

/* --- Receiving --- */

/* PREPARE and ACCEPT: the instance that they are about may be over here, or not yet begun. */
static enum status asked_to_vote(struct register_node *node, node_id from,
                                 const struct register_message *asked, struct outbox *outbox,
                                 struct register_news *news)
{
    if (asked->ballot.node != from) return STATUS_INVALID; /* In another's name. */
    if (asked->instance == instance_of(node)) return vote(node, from, asked, outbox, news);
    if (asked->instance == node->map.number && node->made_map.size > 0) {
        send_decided(node, from, asked->instance, &node->made_map, outbox);
        return STATUS_OK;
    }
    send_place(node, from, outbox);
    if (asked->instance < instance_of(node)) {
        news->older = from;
    } else {
        news->newer = from;
    }
    return STATUS_OK;
}

/* PROMISE, ACCEPTED and REFUSED. */
static enum status answered(struct register_node *node, node_id from,
                            const struct register_message *answer, uint64_t now_ms,
                            struct prng *prng, struct outbox *outbox, struct register_news *news)
{
    struct proposer *proposer = &node->proposer;
    if (answer->ballot.node != node->self) return STATUS_INVALID;
    if (answer->instance != instance_of(node)) return STATUS_OK; /* Late. */
    int place = register_map_find(&node->map, from);
    if (place < 0) return STATUS_INVALID;
    if (answer->kind == REGISTER_PROMISE) {
        bool has_value = !ballot_is_none(answer->other);
        if (has_value && !hash128_equal(answer->value.predecessor, node->map.hash)) {
            return STATUS_INVALID;
        }
        perform(node, proposer_promised(proposer, (unsigned)place, answer, now_ms), outbox, news);
    } else if (answer->kind == REGISTER_ACCEPTED) {
        perform(node, proposer_accepted(proposer, (unsigned)place, answer), outbox, news);
    } else {
        enum proposer_phase before = proposer->phase;
        proposer_refused(proposer, (unsigned)place, answer, now_ms, prng);
        if (proposer->phase != before) {
            say(node, "gives " BALLOT_FORMAT " up, waits %llu ms",
                BALLOT_ARGUMENTS(proposer->ballot),
                (unsigned long long)(proposer->deadline_ms - now_ms));
        }
    }
    return STATUS_OK;
}

static enum status told_decision(struct register_node *node, node_id from,
                                 const struct register_message *told, struct register_news *news)
{
    if (told->instance > instance_of(node)) news->newer = from;
    if (told->instance != instance_of(node)) return STATUS_OK;
    if (!hash128_equal(told->value.predecessor, node->map.hash)) return STATUS_INVALID;
    struct register_value known;
    if (register_decision(node, &known) && !register_value_equal(known, told->value)) {
        return STATUS_INVALID; /* There is one decision, and we have it. */
    }
    learn(node, told->value, news);
    return STATUS_OK;
}

static void told_place(const struct register_node *node, node_id from,
                       const struct register_message *told, struct register_news *news)
{
    if (told->instance > instance_of(node)) news->newer = from;
    if (told->instance < instance_of(node)) news->older = from;
}

/* Says to an older generation that there is a newer one, and takes nothing from either. */
static void foreign(struct register_node *node, node_id from,
                    const struct register_message *message, struct outbox *outbox,
                    struct register_news *news)
{
    uint64_t ours = node->map.generation.number;
    node->foreign_count++;
    if (message->generation.number > ours) {
        news->newer = from;
    } else if (message->generation.number == ours) {
        news->forked = true;
    } else {
        news->older = from;
        if (message->kind != REGISTER_PLACE) send_place(node, from, outbox);
    }
}

static enum status dispatch(struct register_node *node, node_id from,
                            const struct register_message *message, uint64_t now_ms,
                            struct prng *prng, struct outbox *outbox, struct register_news *news)
{
    switch (message->kind) {
    case REGISTER_PREPARE:
    case REGISTER_ACCEPT:
        return asked_to_vote(node, from, message, outbox, news);
    case REGISTER_PROMISE:
    case REGISTER_ACCEPTED:
    case REGISTER_REFUSED:
        return answered(node, from, message, now_ms, prng, outbox, news);
    case REGISTER_DECIDED:
        return told_decision(node, from, message, news);
    case REGISTER_PLACE:
        told_place(node, from, message, news);
        return STATUS_OK;
    }
    return STATUS_INVALID;
}

enum status register_receive(struct register_node *node, node_id from, struct slice bytes,
                             uint64_t now_ms, struct prng *prng, struct outbox *outbox,
                             struct register_news *news)
{
    struct register_message message;
    *news = (struct register_news){0};
    enum status status = register_message_decode(bytes, &message);
    if (status == STATUS_OK) {
        bool ours = generation_equal(message.generation, node->map.generation);
        if (!ours && !planted(BUG_GENERATIONS_MIXED)) {
            foreign(node, from, &message, outbox, news);
            return STATUS_OK;
        }
        status = dispatch(node, from, &message, now_ms, prng, outbox, news);
    }
    if (status != STATUS_OK) node->invalid_count++;
    return status;
}
