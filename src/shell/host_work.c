/* Submissions of clients as requests to the replica.
 *
 *     writes     one request each, begun in their order; one of a key waits for another of the same key
 *                that came before it in the submission
 *     load       sets alone: sorted by key, of equal keys the last, in pieces of as much as a LOAD
 *                may hold. Of one owner's loads the next begins when the one before has ended
 *     question   one request
 *     command    of administration: looked at after each turn of the replica until it has an answer
 *
 * Replies come from within the replica, which must not be called then: so they only note. */
#include <stdlib.h>

#include "base/check.h"
#include "base/math.h"
#include "cluster/data_message.h"
#include "node/admin.h"
#include "node/batch.h"
#include "node/question.h"
#include "node/topology.h"
#include "shell/host_private.h"

struct host_work {
    struct engine_write *write;
    struct host_work *next;                 /* Of those that wait. */
    struct host_work *next_load, **load_at; /* Of all loads. */
    uint32_t *order;                        /* Of a load: its writes by their keys. */
    size_t begun, total, open;
    bool held; /* It is looked at: it does not end yet. */
};

/* What was asked of the replica; its address is the request's id. */
struct host_operation {
    struct host *host;
    struct host_work *work;
    size_t first, end; /* Writes of the work, or places of its order. */
    uint64_t until_ms; /* Of a command; 0: it is none. */
    struct host_operation *next, **at;
};

void host_works_init(struct host *host)
{
    host->works = (struct host_works){0};
    host->works.waiting_end = &host->works.waiting_first;
    host->works.loads_end = &host->works.loads_first;
}

/* --- Its end --- */

static void hand_back(struct host *host, struct engine_write *write, enum status status)
{
    write->status = status;
    write->next = NULL;
    if (host->works.done_last == NULL)
        host->works.done_first = write;
    else
        host->works.done_last->next = write;
    host->works.done_last = write;
}

static void work_free(struct host *host, struct host_work *work)
{
    if (work->load_at != NULL) {
        *work->load_at = work->next_load;
        if (work->next_load != NULL)
            work->next_load->load_at = work->load_at;
        else
            host->works.loads_end = work->load_at;
    }
    heap_free(host->heap, work->order);
    heap_free(host->heap, work);
}

static void maybe_end(struct host *host, struct host_work *work)
{
    if (work->held || work->open > 0 || work->begun < work->total) return;
    hand_back(host, work->write, STATUS_OK);
    work_free(host, work);
}

void host_works_return(struct host *host)
{
    struct engine_write *list = host->works.done_first;
    host->works.done_first = host->works.done_last = NULL;
    if (list != NULL) host->options.done(list);
}

/* --- Operations --- */

static struct host_operation *operation_begin(struct host *host, struct host_work *work,
                                              size_t first, size_t end)
{
    struct host_operation *operation = heap_alloc(host->heap, sizeof *operation);
    if (operation == NULL) return NULL;
    *operation = (struct host_operation){
        .host = host,
        .work = work,
        .first = first,
        .end = end,
        .next = host->works.operations,
        .at = &host->works.operations,
    };
    if (operation->next != NULL) operation->next->at = &operation->next;
    host->works.operations = operation;
    host->works.under_way++;
    work->open++;
    return operation;
}

static void operation_end(struct host_operation *operation)
{
    struct host *host = operation->host;
    struct host_work *work = operation->work;
    *operation->at = operation->next;
    if (operation->next != NULL) operation->next->at = operation->at;
    heap_free(host->heap, operation);
    host->works.under_way--;
    work->open--;
    maybe_end(host, work);
}

static void ask(struct host *host, const struct host_operation *operation,
                const struct request *request)
{
    replica_request(host->replica, host_time(), (uint64_t)(uintptr_t)operation, request);
}

/* --- What became of it --- */

static enum status status_of(enum request_outcome outcome, enum status status)
{
    if (outcome == REQUEST_DONE) return STATUS_OK;
    if (outcome == REQUEST_REFUSED && status != STATUS_OK) return status;
    return outcome == REQUEST_TIMED_OUT ? STATUS_TIMEOUT : STATUS_BUSY;
}

static void note(const struct engine_write *write, size_t index, const struct request_reply *reply)
{
    struct node_terms *terms = &write->terms[index];
    write->outcomes[index] = (struct store_outcome){
        .status = status_of(reply->outcome, reply->status),
        .was_live = reply->was_live,
        .version = reply->version,
        .score = reply->score,
    };
    terms->outcome = reply->outcome;
    terms->ack_count = reply->ack_count;
    terms->sloppy = reply->sloppy;
    buf_clear(&terms->told);
    if (!write->is_load) buf_append_slice(&terms->told, reply->token);
}

static bool same_key(const struct host_work *work, size_t a, size_t b)
{
    return slice_equal(work->write->writes[work->order[a]].key,
                       work->write->writes[work->order[b]].key);
}

/* Of each set, and of those that it stands for. */
static void note_load(const struct host_operation *operation, const struct request_reply *reply)
{
    const struct host_work *work = operation->work;
    size_t set = 0;
    for (size_t at = operation->first; at < operation->end; at++) {
        struct request_reply told = *reply;
        set += at > operation->first && !same_key(work, at - 1, at);
        if (set < reply->result_count) {
            const struct request_result *result = &reply->results[set];
            told.outcome = result->outcome;
            told.status = result->status;
            told.version = result->version;
            told.ack_count = result->ack_count;
        }
        note(work->write, work->order[at], &told);
    }
}

void host_works_reply(void *context, uint64_t id, const struct request_reply *reply)
{
    struct host_operation *operation = (struct host_operation *)(uintptr_t)id;
    const struct engine_write *write = operation->work->write;
    (void)context;
    if (write->question != NULL)
        node_question_take(write->question, reply);
    else if (operation->work->order != NULL)
        note_load(operation, reply);
    else
        note(write, operation->first, reply);
    operation_end(operation);
}

static bool is_full(const struct host *host)
{
    return host->works.under_way >= HOST_UNDER_WAY_MAX;
}

/* Without memory nothing is done. */
static void refuse(struct host_work *work, size_t first, size_t end)
{
    struct request_reply reply = {.outcome = REQUEST_REFUSED, .status = STATUS_NOMEM};
    for (size_t i = first; i < end; i++)
        note(work->write, work->order == NULL ? i : work->order[i], &reply);
}

/* --- Commands --- */

static void begin_command(struct host *host, struct host_work *work)
{
    struct node_question *question = work->write->question;
    struct replica_time time = host_time();
    struct host_operation *operation = operation_begin(host, work, 0, 1);
    if (operation == NULL) {
        node_question_take(
            question, &(struct request_reply){.outcome = REQUEST_REFUSED, .status = STATUS_NOMEM});
        return;
    }
    operation->until_ms = time.now_ms + question->request.timeout_ms;
    if (admin_begin(&host->jobs, host->replica, time, question) == ADMIN_ENDED)
        operation_end(operation);
    else
        host->works.command_count++;
}

void host_works_look(struct host *host)
{
    struct replica_time time = host_time();
    struct host_operation *operation = host->works.operations, *next;
    jobs_look(&host->jobs, host->replica, time);
    for (size_t left = host->works.command_count; left > 0; operation = next) {
        next = operation->next;
        if (operation->until_ms == 0) continue;
        left--;
        struct node_question *question = operation->work->write->question;
        if (admin_go_on(&host->jobs, host->replica, time, question) == ADMIN_WAITS) {
            if (time.now_ms < operation->until_ms) continue;
            admin_give_up(host->replica, question);
        }
        host->works.command_count--;
        operation_end(operation);
    }
}

/* --- Beginning --- */

static void begin_question(struct host *host, struct host_work *work)
{
    struct node_question *question = work->write->question;
    work->begun = 1;
    if (node_is_admin(question->endpoint)) {
        begin_command(host, work);
        return;
    }
    if (question->request.kind == 0) {
        topology_answer(host->replica, question);
        return;
    }
    struct host_operation *operation = operation_begin(host, work, 0, 1);
    if (operation != NULL)
        ask(host, operation, &question->request);
    else
        node_question_take(
            question, &(struct request_reply){.outcome = REQUEST_REFUSED, .status = STATUS_NOMEM});
}

static struct request request_of(const struct engine_write *write, size_t index)
{
    static const enum request_kind kinds[] = {
        [STORE_SET] = REQUEST_SET,
        [STORE_REMOVE] = REQUEST_REMOVE,
        [STORE_INCREMENT] = REQUEST_INCREMENT,
    };
    const struct store_write *from = &write->writes[index];
    const struct node_terms *terms = &write->terms[index];
    CHECK(from->kind <= STORE_INCREMENT);
    return (struct request){
        .kind = kinds[from->kind],
        .has_consistency = terms->has_consistency,
        .consistency = terms->consistency,
        .key = from->key,
        .score = from->score,
        .has_payload = from->has_payload,
        .payload = from->payload,
        .tags = from->tags,
        .expires_at = from->expires_at,
        .token = terms->token,
    };
}

/* Whether a write of the same key is under way that came before. */
static bool has_to_wait(const struct host *host, const struct host_work *work, size_t index)
{
    const struct host_operation *operation = host->works.operations;
    size_t open = work->open;
    for (; operation != NULL && open > 0; operation = operation->next) {
        if (operation->work != work) continue;
        open--;
        if (slice_equal(work->write->writes[operation->first].key, work->write->writes[index].key))
            return true;
    }
    return false;
}

static void begin_writes(struct host *host, struct host_work *work)
{
    while (work->begun < work->total && !is_full(host)) {
        size_t index = work->begun;
        if (has_to_wait(host, work, index)) return;
        struct host_operation *operation = operation_begin(host, work, index, index + 1);
        work->begun++;
        if (operation == NULL) {
            refuse(work, index, index + 1);
            continue;
        }
        struct request request = request_of(work->write, index);
        request.timeout_ms = host->options.write_timeout_ms;
        ask(host, operation, &request);
    }
}

/* As many places of the order as one LOAD holds. Errors: STATUS_NOMEM. */
static enum status pack(const struct host_work *work, struct request *load, struct buf *sets,
                        size_t *end)
{
    size_t at = work->begun;
    *load = request_of(work->write, work->order[at]);
    *load = (struct request){
        .kind = REQUEST_LOAD,
        .has_consistency = load->has_consistency,
        .consistency = load->consistency,
        .key = load->key,
        .timeout_ms = HOST_LOAD_TIMEOUT_MS,
    };
    while (at < work->total && load->set_count < REQUEST_SETS_MAX) {
        size_t before = sets->size, last = at;
        while (last + 1 < work->total && same_key(work, last, last + 1)) last++;
        struct request set = request_of(work->write, work->order[last]);
        data_set_append(sets, &set);
        if (buf_status(sets) != STATUS_OK) return STATUS_NOMEM;
        if (sets->size > REQUEST_SETS_BYTES_MAX && load->set_count > 0) {
            sets->size = before;
            break;
        }
        load->set_count++;
        at = last + 1;
    }
    load->sets = buf_slice(sets);
    *end = at;
    return STATUS_OK;
}

static void begin_load(struct host *host, struct host_work *work)
{
    struct buf sets = {.heap = host->heap};
    while (work->begun < work->total && !is_full(host)) {
        struct request load;
        size_t first = work->begun, end = work->total;
        buf_clear(&sets);
        enum status status = pack(work, &load, &sets, &end);
        work->begun = end;
        struct host_operation *operation = NULL;
        if (status == STATUS_OK) operation = operation_begin(host, work, first, end);
        if (operation == NULL)
            refuse(work, first, end);
        else
            ask(host, operation, &load);
    }
    buf_deinit(&sets);
}

static bool is_next_load(const struct host *host, const struct host_work *work)
{
    const struct host_work *other = host->works.loads_first;
    while (other->write->owner != work->write->owner) other = other->next_load;
    return other == work;
}

static void begin(struct host *host, struct host_work *work)
{
    if (work->write->question != NULL)
        begin_question(host, work);
    else if (work->order == NULL)
        begin_writes(host, work);
    else if (is_next_load(host, work))
        begin_load(host, work);
}

void host_works_go_on(struct host *host)
{
    struct host_works *works = &host->works;
    struct host_work **at = &works->waiting_first;
    if (host->replica == NULL) host_works_cancel(host);
    while (*at != NULL && !is_full(host)) {
        struct host_work *work = *at;
        work->held = true;
        begin(host, work);
        work->held = false;
        if (work->begun < work->total) {
            at = &work->next;
            continue;
        }
        *at = work->next;
        if (work->next == NULL) works->waiting_end = at;
        maybe_end(host, work);
    }
}

/* --- Coming in --- */

static int compare(const void *a, const void *b, void *context)
{
    const struct store_write *writes = context;
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    int order = slice_compare(writes[i].key, writes[j].key);
    if (order != 0) return order;
    return i < j ? -1 : 1; /* Of equal keys the later one counts. */
}

static enum status sort(struct host *host, struct host_work *work)
{
    struct engine_write *write = work->write;
    work->order = heap_alloc(host->heap, (write->count + 1) * sizeof *work->order);
    if (work->order == NULL) return STATUS_NOMEM;
    for (size_t i = 0; i < write->count; i++) work->order[i] = (uint32_t)i;
    qsort_r(work->order, write->count, sizeof *work->order, compare, write->writes);
    work->load_at = host->works.loads_end;
    *host->works.loads_end = work;
    host->works.loads_end = &work->next_load;
    return STATUS_OK;
}

static struct host_work *work_create(struct host *host, struct engine_write *write)
{
    struct host_work *work = heap_zalloc(host->heap, sizeof *work);
    if (work == NULL) return NULL;
    work->write = write;
    work->total = write->question != NULL ? 1 : write->count;
    if (!write->is_load || sort(host, work) == STATUS_OK) return work;
    work_free(host, work);
    return NULL;
}

void host_works_submit(struct host *host, struct engine_write *list)
{
    for (struct engine_write *write = list, *next; write != NULL; write = next) {
        next = write->next;
        struct host_work *work = work_create(host, write);
        if (work == NULL) {
            hand_back(host, write, STATUS_NOMEM);
            continue;
        }
        *host->works.waiting_end = work;
        host->works.waiting_end = &work->next;
    }
}

/* --- Without a replica --- */

static void answer_rest(struct host_work *work)
{
    struct request_reply reply = {.outcome = REQUEST_NO_HEALTHY_OWNER, .status = STATUS_BUSY};
    struct node_question *question = work->write->question;
    if (question != NULL && work->begun < work->total) {
        node_question_take(question, &reply);
        if (node_is_admin(question->endpoint)) admin_refuse_without(question);
    }
    for (size_t i = work->begun; work->write->question == NULL && i < work->total; i++)
        note(work->write, work->order == NULL ? i : work->order[i], &reply);
    work->begun = work->total;
}

void host_works_cancel(struct host *host)
{
    struct request_reply unknown = {.outcome = REQUEST_TIMED_OUT, .status = STATUS_TIMEOUT};
    struct host_works *works = &host->works;
    while (works->waiting_first != NULL) {
        struct host_work *work = works->waiting_first;
        works->waiting_first = work->next;
        answer_rest(work);
        maybe_end(host, work);
    }
    works->waiting_end = &works->waiting_first;
    works->command_count = 0;
    while (works->operations != NULL)
        host_works_reply(NULL, (uint64_t)(uintptr_t)works->operations, &unknown);
}
