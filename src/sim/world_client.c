/* Clients: what they ask, whom, and what they make of the answers.
 *
 * A client asks one thing at a time, thinks for a while, and asks the next, of any node; a walk over
 * all pages is one thing. Words are drawn with a skew, so that writes of one word meet. */
#include <stdio.h>
#include <string.h>

#include "base/math.h"
#include "cluster/data_message.h"
#include "sim/world_private.h"

enum {
    REQUEST_US = 300, /* From a client to its node, in the mean. */
    PATIENCE_US = 3000000 /* Over the timeout that the node knows. */,
    PAGE_MAX = 20,
    ATTEMPTS_MAX = 6,
    RETRY_US = 400000, /* From one attempt to the next, in the mean. */
    LOAD_ONE_IN = 24,  /* Of what is asked. */
};

static struct sim_client *add_client(struct sim *sim)
{
    sim->clients = realloc(sim->clients, (sim->client_count + 1) * sizeof *sim->clients);
    struct sim_client *client = calloc(1, sizeof *client);
    CHECK(sim->clients != NULL);
    CHECK(client != NULL);
    client->operation = NOTHING;
    buf_init(&client->sets, &sim->checker.heap);
    client->prng.state = prng_u64(&sim->prng);
    client->name = 1 + prng_u64(&client->prng) / 2;
    client->seen = calloc(sim->options.word_count, sizeof *client->seen);
    CHECK(client->seen != NULL);
    sim->clients[sim->client_count++] = client;
    return client;
}

static void think(struct sim *sim, uint32_t index, uint32_t mean_us)
{
    struct sim_client *client = sim->clients[index];
    sim_add_event(sim, SIM_CLIENT, index, 1 + prng_below(&client->prng, 2 * mean_us), 0);
}

void sim_clients_create(struct sim *sim)
{
    enum { WARM_UP_US = 3000000 };
    uint32_t count = sim->options.client_count;
    if (count == 0) return;
    sim->think_us = (uint32_t)((uint64_t)count * 1000000 / sim->options.operations_per_s);
    for (uint32_t i = 0; i < count; i++) {
        add_client(sim);
        think(sim, i, sim->think_us + WARM_UP_US);
    }
}

void sim_clients_destroy(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->client_count; i++) {
        buf_deinit(&sim->clients[i]->sets);
        free(sim->clients[i]->seen);
        free(sim->clients[i]);
    }
    free(sim->clients);
}

bool sim_clients_are_idle(const struct sim *sim)
{
    for (uint32_t i = 0; i < sim->client_count; i++)
        if (sim->clients[i]->operation != NOTHING) return false;
    return true;
}

/* Asking */

/* How many owners a request of this consistency hears. */
static unsigned quorum_of(const struct sim *sim, enum consistency consistency, unsigned set)
{
    unsigned factor = rangemap_effective_factor(sim->map);
    if (consistency == CONSISTENCY_ONE) return 1;
    if (consistency == CONSISTENCY_ALL) return factor;
    return set == 0 ? factor / 2 + 1 : set < factor ? set : factor;
}

static bool is_strict(const struct sim *sim, const struct request *request)
{
    const struct rangemap_settings *settings = &sim->options.settings;
    unsigned factor = rangemap_effective_factor(sim->map);
    unsigned reads = quorum_of(sim, CONSISTENCY_QUORUM, settings->read_quorum);
    unsigned writes = quorum_of(sim, CONSISTENCY_QUORUM, settings->write_quorum);
    if (request_is_write(request->kind)) {
        enum consistency consistency = request->has_consistency ? request->consistency
                                                                : settings->write_consistency;
        return quorum_of(sim, consistency, settings->write_quorum) + reads > factor;
    }
    enum consistency consistency = request->has_consistency ? request->consistency
                                                            : settings->read_consistency;
    return quorum_of(sim, consistency, settings->read_quorum) + writes > factor;
}

static const char *const kind_names[REQUEST_KIND_END] = {
    [REQUEST_SET] = "set",     [REQUEST_REMOVE] = "remove", [REQUEST_INCREMENT] = "increment",
    [REQUEST_GET] = "get",     [REQUEST_BEST] = "best",     [REQUEST_SCAN] = "scan",
    [REQUEST_COUNT] = "count", [REQUEST_LOAD] = "load",
};

/* Without the namespace. */
static struct slice shown(struct slice key)
{
    return slice_from(key, key.size < 2 ? key.size : 2);
}

static void send(struct sim *sim, struct sim_client *client, uint32_t node)
{
    uint64_t wait_us = (uint64_t)client->request.timeout_ms * 1000 + PATIENCE_US;
    client->arrived = false;
    sim->stats.operations++;
    sim_add_event(sim, SIM_REQUEST, node, 1 + prng_below(&client->prng, 2 * REQUEST_US),
                  client->operation);
    sim_add_event(sim, SIM_TIMEOUT, node, wait_us, client->operation);
}

/* An operation begins; a set says in its payload which. */
static uint32_t invoke(struct sim *sim, uint32_t index, uint32_t node, struct request *request)
{
    struct sim_client *client = sim->clients[index];
    bool of_word = request->kind <= REQUEST_GET;
    uint32_t operation =
        checker_invoke(&sim->checker, sim->schedule.now_us,
                       &(struct operation){
                           .kind = request->kind,
                           .client = index,
                           .node = node,
                           .word = of_word ? checker_find(&sim->checker, request->key) : NO_WORD,
                           .strict = is_strict(sim, request),
                           .score = request->score,
                           .expires_at = request->expires_at,
                       });
    if (request->kind == REQUEST_SET) {
        request->has_payload = true;
        request->payload = slice_of(client->payload, checker_payload(operation, client->payload));
    }
    return operation;
}

static void begin(struct sim_client *client, uint32_t operation, uint32_t count)
{
    client->operation = operation;
    client->count = count;
    client->attempts = 0;
    client->rests = false;
}

/* Sends the client's request on its way. */
static void ask(struct sim *sim, uint32_t index, uint32_t node)
{
    struct sim_client *client = sim->clients[index];
    struct request *request = &client->request;
    request->timeout_ms = sim->options.timeout_ms;
    uint32_t operation = invoke(sim, index, node, request);
    begin(client, operation, 1);
    struct slice key = shown(request->key);
    sim_note(sim, NOTHING, "c%u asks n%u, operation %u: %s %.*s", index, node + 1, operation,
             kind_names[request->kind], (int)key.size, (const char *)key.data);
    send(sim, client, node);
}

static uint32_t draw_word(struct sim *sim, struct prng *prng)
{
    uint32_t count = sim->options.word_count;
    uint32_t word = prng_below(prng, count);
    return prng_one_in(prng, 2) ? prng_below(prng, word + 1) : prng_below(prng, 1 + word / 4);
}

static enum request_kind draw_write(struct prng *prng, enum word_class class)
{
    uint32_t drawn = prng_below(prng, 8);
    switch (class) {
    case WORD_COUNTER:
        return REQUEST_INCREMENT;
    case WORD_MIXED:
        return drawn < 3 ? REQUEST_SET : drawn < 4 ? REQUEST_REMOVE : REQUEST_INCREMENT;
    default:
        return drawn < 6 ? REQUEST_SET : REQUEST_REMOVE;
    }
}

static void draw_value(struct sim *sim, struct prng *prng, const struct word *word,
                       struct request *request)
{
    request->score = prng_below(prng, prng_one_in(prng, 2) ? 4 : 1000);
    if (word->class == WORD_EXPIRING)
        request->expires_at = (SIM_CLOCK_START_US + sim->schedule.now_us) / 1000 +
                              prng_below(prng, 20000);
}

/* Sets of some words that lie near each other; each is an operation of its own to the checker. */
static void ask_load(struct sim *sim, uint32_t index, uint32_t node)
{
    struct sim_client *client = sim->clients[index];
    struct prng *prng = &client->prng;
    uint32_t at = prng_below(prng, sim->options.word_count), first = NOTHING, count = 0;
    uint32_t wanted = 1 + prng_below(prng, SIM_LOAD_MAX);
    buf_clear(&client->sets);
    for (; at < sim->options.word_count && count < wanted; at += 1 + prng_below(prng, 3)) {
        const struct word *word = &sim->checker.words[sim->checker.by_key[at]];
        struct request set = {.kind = REQUEST_SET, .key = word->key};
        if (word->class == WORD_COUNTER) continue;
        draw_value(sim, prng, word, &set);
        uint32_t operation = invoke(sim, index, node, &set);
        if (count++ == 0) first = operation;
        data_set_append(&client->sets, &set);
    }
    if (count == 0) {
        think(sim, index, sim->think_us);
        return;
    }
    client->request = (struct request){.kind = REQUEST_LOAD,
                                       .sets = buf_slice(&client->sets),
                                       .set_count = count,
                                       .timeout_ms = sim->options.timeout_ms};
    begin(client, first, count);
    sim_note(sim, NOTHING, "c%u asks n%u, operations %u to %u: load", index, node + 1, first,
             first + count - 1);
    send(sim, client, node);
}

static void draw_of_word(struct sim *sim, struct sim_client *client, struct request *request)
{
    struct prng *prng = &client->prng;
    const struct word *word = &sim->checker.words[draw_word(sim, prng)];
    request->key = word->key;
    request->kind = prng_below(prng, 5) < 2 ? REQUEST_GET : draw_write(prng, word->class);
    if (request->kind == REQUEST_INCREMENT) {
        request->score = 1 + prng_below(prng, 3);
        if (prng_one_in(prng, 2) && sim->options.program == &sim_replica_ops)
            request->operation = (struct request_operation){.client = client->name,
                                                            .number = ++client->named,
                                                            .map_number = client->map_number};
    }
    if (request->kind == REQUEST_SET) draw_value(sim, prng, word, request);
}

static void draw_of_prefix(struct sim *sim, struct sim_client *client, struct request *request)
{
    struct prng *prng = &client->prng;
    struct slice key = sim->checker.words[draw_word(sim, prng)].key;
    uint32_t longest = (uint32_t)key.size - 2;
    request->key = slice_prefix(key, 2 + prng_below(prng, longest + 1));
    uint32_t drawn = prng_below(prng, 10);
    request->kind = drawn < 4 ? REQUEST_BEST : drawn < 8 ? REQUEST_SCAN : REQUEST_COUNT;
    if (request->kind != REQUEST_COUNT) request->limit = 1 + prng_below(prng, PAGE_MAX);
    client->walking = request->kind == REQUEST_SCAN ||
                      (request->kind == REQUEST_BEST && prng_one_in(prng, 3));
    if (request->kind == REQUEST_SCAN) request->from.descending = prng_one_in(prng, 4);
}

/* Any machine now and then, else one that is a member. */
static uint32_t draw_node(struct sim *sim, struct prng *prng)
{
    uint32_t node = prng_below(prng, sim->machine_count);
    bool any = prng_one_in(prng, 16) && !sim->must_serve;
    for (uint32_t i = 0; !any && i < sim->machine_count && !sim_is_member(sim, node); i++)
        node = (node + 1) % sim->machine_count;
    return node;
}

void sim_client_think(struct sim *sim, uint32_t index)
{
    struct sim_client *client = sim->clients[index];
    if (sim->clients_stop) return;
    client->request = (struct request){0};
    client->walking = false;
    if (sim->options.program == &sim_replica_ops && prng_one_in(&client->prng, LOAD_ONE_IN)) {
        ask_load(sim, index, draw_node(sim, &client->prng));
        return;
    }
    if (prng_below(&client->prng, 4) > 0)
        draw_of_word(sim, client, &client->request);
    else
        draw_of_prefix(sim, client, &client->request);
    if (!request_is_write(client->request.kind) && prng_one_in(&client->prng, 8)) {
        client->request.has_consistency = true;
        client->request.consistency = prng_one_in(&client->prng, 4) ? CONSISTENCY_ALL
                                                                    : CONSISTENCY_ONE;
    }
    uint32_t node = draw_node(sim, &client->prng);
    if (client->walking) {
        memset(client->seen, 0, sim->options.word_count * sizeof *client->seen);
        client->walk_since_us = sim->schedule.now_us;
        client->walk_strict = is_strict(sim, &client->request);
        client->walk_node = node;
    }
    ask(sim, index, node);
}

/* Answers */

static struct sim_client *client_of(struct sim *sim, uint32_t operation)
{
    struct sim_client *client = sim->clients[sim->checker.operations[operation].client];
    return client->operation == operation ? client : NULL;
}

static void end(struct sim *sim, uint32_t index, enum request_outcome outcome)
{
    struct sim_client *client = sim->clients[index];
    client->operation = NOTHING;
    client->outcome = outcome;
    if (index < sim->options.client_count) think(sim, index, sim->think_us);
}

/* Whether an increment that may have been done or not is tried again: nodes know it by its name. */
static bool tries_again(struct sim *sim, uint32_t operation)
{
    struct sim_client *client = client_of(sim, operation);
    if (client == NULL || client->request.operation.client == 0) return false;
    if (client->attempts == ATTEMPTS_MAX || sim->clients_stop) return false;
    client->attempts++;
    client->arrived = false;
    client->rests = true;
    client->request.operation.attempt = OPERATION_RETRY;
    sim_add_event(sim, SIM_RETRY, 0, 1 + prng_below(&client->prng, 2 * RETRY_US), operation);
    return true;
}

void sim_client_retry(struct sim *sim, uint32_t operation)
{
    struct sim_client *client = client_of(sim, operation);
    if (client == NULL) return;
    struct operation *what = &sim->checker.operations[operation];
    what->node = draw_node(sim, &client->prng);
    client->rests = what->answered = false;
    what->asked_us = sim->schedule.now_us;
    sim_note(sim, NOTHING, "c%u asks n%u for operation %u again", what->client, what->node + 1,
             operation);
    send(sim, client, what->node);
}

static void give_up(struct sim *sim, uint32_t operation, bool nothing_done)
{
    struct sim_client *asker = client_of(sim, operation);
    if (asker != NULL && asker->attempts > 0) nothing_done = false;
    if (!nothing_done && tries_again(sim, operation)) return;
    const struct operation *what = &sim->checker.operations[operation];
    sim_note(sim, NOTHING, "c%u gets no answer to operation %u", what->client, operation);
    uint32_t count = asker == NULL ? 1 : asker->count;
    for (uint32_t i = 0; i < count; i++)
        checker_give_up(&sim->checker, sim->schedule.now_us, operation + i, nothing_done);
    if (nothing_done)
        sim->stats.failed++;
    else
        sim->stats.unknown++;
    end(sim, what->client, nothing_done ? REQUEST_NO_HEALTHY_OWNER : REQUEST_TIMED_OUT);
}

void sim_client_request_arrives(struct sim *sim, uint32_t operation)
{
    struct sim_client *client = client_of(sim, operation);
    if (client == NULL) return;
    struct sim_process *process = process_of(sim, sim->checker.operations[operation].node);
    if (!is_up(process)) {
        give_up(sim, operation, true);
        return;
    }
    client->arrived = true;
    sim_process_request(process, operation, &client->request);
}

void sim_client_timeout(struct sim *sim, uint32_t operation)
{
    struct sim_client *client = client_of(sim, operation);
    if (client == NULL) return;
    const struct operation *what = &sim->checker.operations[operation];
    const struct sim_process *process = process_of(sim, what->node);
    /* It may be about to ask again, or wait for an answer to an attempt that began later. */
    uint64_t asked_us = u64_max(what->invoked_us, what->asked_us);
    uint64_t wait_us = (uint64_t)client->request.timeout_ms * 1000 + PATIENCE_US;
    if (client->rests || sim->schedule.now_us < asked_us + wait_us) return;
    if (process->state == PROCESS_RUNNING && process->disturbed_us < asked_us)
        sim_find(&sim->checker.finding, SIM_CHECK_ANSWER, sim->schedule.now_us,
                 "n%u, which was well, never answered operation %u", what->node + 1, operation);
    client->attempts = ATTEMPTS_MAX; /* Its node may answer yet. */
    give_up(sim, operation, false);
}

void sim_clients_lose_node(struct sim *sim, uint32_t node)
{
    for (uint32_t i = 0; i < sim->client_count; i++) {
        const struct sim_client *client = sim->clients[i];
        if (client->operation == NOTHING || !client->arrived) continue;
        if (sim->checker.operations[client->operation].node == node)
            give_up(sim, client->operation, false);
    }
}

static const char *const outcome_names[REQUEST_OUTCOME_END] = {
    [REQUEST_DONE] = "done",
    [REQUEST_ABSENT] = "absent",
    [REQUEST_NO_HEALTHY_OWNER] = "no healthy owner",
    [REQUEST_QUORUM_NOT_MET] = "quorum not met",
    [REQUEST_TIMED_OUT] = "timed out",
    [REQUEST_REFUSED] = "refused",
};

static void note_reply(struct sim *sim, uint32_t client, uint32_t operation,
                       const struct request_reply *reply)
{
    sim_note(sim, NOTHING, "c%u is told of operation %u: %s %s%llu.%u@%u score %g, %zu entries",
             client, operation, outcome_names[reply->outcome],
             reply->outcome == REQUEST_REFUSED ? status_name(reply->status) : "",
             (unsigned long long)hlc_wall_ms(reply->version.time),
             (unsigned)(reply->version.time & 0xFFFF), reply->version.node, reply->score,
             reply->entry_count);
}

static void take_page(struct sim *sim, struct sim_client *client, const struct request_reply *reply)
{
    for (size_t i = 0; i < reply->entry_count; i++) {
        uint32_t word = checker_find(&sim->checker, reply->entries[i].key);
        if (word == NO_WORD) continue;
        /* Who gets another score during a walk by scores has another place, before or behind. */
        if (client->seen[word] && client->request.kind == REQUEST_SCAN)
            sim_find(&sim->checker.finding, SIM_CHECK_SCAN, sim->schedule.now_us,
                     "a walk gave %.*s twice", (int)sim->checker.words[word].text.size,
                     (const char *)sim->checker.words[word].text.data);
        client->seen[word] = true;
    }
}

/* The next page, or the end of the walk. */
static void walk_on(struct sim *sim, uint32_t index, const struct request_reply *reply)
{
    struct sim_client *client = sim->clients[index];
    take_page(sim, client, reply);
    if (!reply->more || reply->entry_count == 0) {
        if (client->walk_strict)
            checker_walked(&sim->checker, sim->schedule.now_us, client->walk_since_us,
                           &client->request, client->seen);
        end(sim, index, reply->outcome);
        return;
    }
    const struct request_entry *last = &reply->entries[reply->entry_count - 1];
    CHECK(last->key.size <= sizeof client->key);
    memcpy(client->key, last->key.data, last->key.size);
    struct slice key = slice_of(client->key, last->key.size);
    if (client->request.kind == REQUEST_SCAN) {
        client->request.from.key = key;
        client->request.from.inclusive = false;
    } else {
        client->request.has_after = true;
        client->request.after = (struct query_position){record_best(&last->record), key};
    }
    client->operation = NOTHING;
    ask(sim, index, client->walk_node);
}

/* A node that goes by an older map than the client has heard of does no increment with a name, and one that is
 * no member any more does nothing. */
static bool may_refuse(const struct sim *sim, const struct sim_client *client,
                       const struct operation *operation)
{
    const struct request_operation *name = &client->request.operation;
    if (!sim_is_member(sim, operation->node)) return true;
    return name->client != 0 && name->map_number > sim->machines[operation->node].map_number;
}

/* One operation ends; true if it was done. */
static bool take_answer(struct sim *sim, const struct sim_client *client, uint32_t id,
                        const struct request_reply *reply)
{
    uint64_t now_us = sim->schedule.now_us;
    checker_reply(&sim->checker, now_us, id, &client->request, reply);
    const struct operation *operation = &sim->checker.operations[id];
    bool served = operation->end == OPERATION_DONE;
    sim->stats.done += served;
    sim->stats.failed += operation->end == OPERATION_FAILED;
    sim->stats.unknown += operation->end == OPERATION_UNKNOWN;
    if (served && request_is_write(operation->kind) && !version_is_none(reply->version))
        inspect_acknowledged(sim, id, reply->ack_count);
    if (!served && sim->must_serve && !may_refuse(sim, client, operation))
        sim_find(&sim->checker.finding, SIM_CHECK_UNSERVED, now_us,
                 "n%u: operation %u, a %s: %s %s", operation->node + 1, id,
                 kind_names[operation->kind], outcome_names[reply->outcome],
                 status_name(reply->status));
    return served;
}

/* What became of one set of a load, as a reply of its own. */
static bool take_result(const struct request_reply *reply, uint32_t place,
                        struct request_reply *alone)
{
    if (place >= reply->result_count) {
        /* Refused as a whole. */
        *alone = (struct request_reply){.outcome = reply->outcome, .status = reply->status};
        return reply->outcome != REQUEST_DONE;
    }
    const struct request_result *result = &reply->results[place];
    *alone = (struct request_reply){.outcome = result->outcome,
                                    .status = result->status,
                                    .version = result->version,
                                    .sloppy = reply->sloppy,
                                    .ack_count = result->ack_count};
    return result->outcome != REQUEST_DONE || !version_is_none(result->version);
}

void sim_client_reply(struct sim *sim, uint32_t node, uint64_t id,
                      const struct request_reply *reply)
{
    struct sim_finding *finding = &sim->checker.finding;
    uint64_t now_us = sim->schedule.now_us;
    if (id >= sim->checker.operation_count || sim->checker.operations[id].node != node) {
        sim_find(finding, SIM_CHECK_ANSWER, now_us, "n%u answers what it was not asked", node + 1);
        return;
    }
    struct operation *operation = &sim->checker.operations[id];
    if (operation->answered)
        sim_find(finding, SIM_CHECK_ANSWER, now_us, "n%u answers operation %llu twice", node + 1,
                 (unsigned long long)id);
    operation->answered = true;
    struct sim_client *client = client_of(sim, (uint32_t)id);
    if (client == NULL) return;

    uint32_t index = operation->client;
    client->map_number = u64_max(client->map_number, reply->map_number);
    const uint64_t told[] = {id, (uint64_t)reply->outcome, reply->version.time, reply->entry_count,
                             reply->count};
    schedule_mix(&sim->schedule, told, sizeof told);
    note_reply(sim, index, (uint32_t)id, reply);
    struct request_reply again = *reply;
    /* That nothing was done says nothing of the attempts before. */
    if (client->attempts > 0 && reply->outcome != REQUEST_DONE) again.outcome = REQUEST_TIMED_OUT;
    if (again.outcome == REQUEST_TIMED_OUT && tries_again(sim, (uint32_t)id)) return;
    enum request_outcome outcome = again.outcome;
    bool all_served = true;
    for (uint32_t i = 0; i < client->count; i++) {
        if (client->request.kind == REQUEST_LOAD && !take_result(reply, i, &again))
            sim_find(finding, SIM_CHECK_ANSWER, now_us, "n%u says nothing of set %u of a load",
                     node + 1, i);
        all_served = take_answer(sim, client, (uint32_t)id + i, &again) && all_served;
    }
    if (all_served && client->walking && index < sim->options.client_count)
        walk_on(sim, index, reply);
    else
        end(sim, index, outcome);
}

/* Tests ask as clients of their own. */

uint32_t sim_ask(struct sim *sim, uint32_t node, const struct request *request)
{
    struct sim_client *client = add_client(sim);
    client->request = *request;
    if (request->kind <= REQUEST_GET) {
        uint32_t word = checker_find(&sim->checker, request->key);
        CHECK(word != NO_WORD);
        client->request.key = sim->checker.words[word].key;
    }
    uint32_t index = sim->client_count - 1;
    ask(sim, index, node);
    return index;
}

bool sim_answered(struct sim *sim, uint32_t index, enum request_outcome *outcome)
{
    *outcome = sim->clients[index]->outcome;
    return sim->clients[index]->operation == NOTHING;
}
