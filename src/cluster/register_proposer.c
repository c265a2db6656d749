#include "cluster/register_proposer.h"

#include "base/check.h"
#include "base/math.h"
#include "base/planted.h"

void proposer_init(struct proposer *proposer, struct heap *heap, node_id self, uint64_t salt)
{
    if (planted(BUG_BALLOT_USED_TWICE)) salt = 0;
    *proposer = (struct proposer){
        .ballot = {.node = self, .salt = salt},
        .wanted = {.heap = heap},
        .adopted = {.heap = heap},
    };
}

void proposer_deinit(struct proposer *proposer)
{
    buf_deinit(&proposer->wanted);
    buf_deinit(&proposer->adopted);
}

static enum status keep_value(struct buf *buf, struct register_value value)
{
    struct buf kept = {.heap = buf->heap};
    register_value_encode(value, &kept);
    if (buf_status(&kept) != STATUS_OK) {
        buf_deinit(&kept);
        return STATUS_NOMEM;
    }
    buf_deinit(buf);
    *buf = kept;
    return STATUS_OK;
}

static struct register_value kept_value(const struct buf *buf)
{
    struct reader reader = reader_of(buf_slice(buf));
    struct register_value value = register_value_read(&reader);
    CHECK(!reader.failed);
    return value;
}

/* A wait that doubles from `base_ms`, each time it is asked for, up to the bound. */
static uint32_t next_wait_ms(struct proposer *proposer, uint32_t base_ms)
{
    uint64_t wait_ms = (uint64_t)base_ms << proposer->waits;
    if (wait_ms >= REGISTER_WAIT_MAX_MS) return REGISTER_WAIT_MAX_MS;
    proposer->waits++;
    return (uint32_t)wait_ms;
}

static void enter(struct proposer *proposer, enum proposer_phase phase, uint64_t now_ms)
{
    proposer->phase = phase;
    proposer->yes = 0;
    proposer->no = 0;
    proposer->deadline_ms = now_ms + REGISTER_RESEND_MS;
}

/* A new ballot, above all that were seen. */
static enum proposer_effect attempt(struct proposer *proposer, uint64_t now_ms)
{
    if (proposer->round_seen >= REGISTER_ROUND_MAX) {
        /* Somebody has used the rounds up: only the map of another way helps. */
        proposer->deadline_ms = now_ms + REGISTER_WAIT_MAX_MS;
        return PROPOSER_NOTHING;
    }
    proposer->ballot.round = ++proposer->round_seen;
    proposer->adopted_ballot = (struct ballot){0};
    buf_clear(&proposer->adopted);
    enter(proposer, PROPOSER_PREPARING, now_ms);
    return PROPOSER_SEND;
}

enum status proposer_begin(struct proposer *proposer, struct register_value value,
                           unsigned registrar_count, uint64_t now_ms)
{
    CHECK(proposer->phase == PROPOSER_IDLE);
    enum status status = keep_value(&proposer->wanted, value);
    if (status != STATUS_OK) return status;
    proposer->registrar_count = registrar_count;
    proposer->waits = 0;
    proposer->phase = PROPOSER_WAITING;
    proposer->deadline_ms = now_ms; /* The attempt is the next tick's, at once. */
    return STATUS_OK;
}

void proposer_end(struct proposer *proposer)
{
    proposer->phase = PROPOSER_IDLE;
}

void proposer_reset(struct proposer *proposer)
{
    CHECK(proposer->phase == PROPOSER_IDLE);
    proposer->round_seen = 0;
}

static void wait(struct proposer *proposer, uint64_t now_ms, struct prng *prng)
{
    uint32_t window_ms = next_wait_ms(proposer, REGISTER_BACK_OFF_MS);
    proposer->phase = PROPOSER_WAITING;
    proposer->deadline_ms = now_ms + 1 + prng_below(prng, window_ms);
}

static bool has_majority(const struct proposer *proposer)
{
    return (unsigned)__builtin_popcount(proposer->yes) >= majority_of(proposer->registrar_count);
}

/* Is this an answer to what is asked now? */
static bool is_current(const struct proposer *proposer, const struct register_message *message)
{
    return proposer->phase != PROPOSER_IDLE && proposer->phase != PROPOSER_WAITING &&
           ballot_equal(message->ballot, proposer->ballot);
}

enum proposer_effect proposer_promised(struct proposer *proposer, unsigned place,
                                       const struct register_message *message, uint64_t now_ms)
{
    if (proposer->phase != PROPOSER_PREPARING || !is_current(proposer, message)) {
        return PROPOSER_NOTHING;
    }
    bool adopts = ballot_compare(message->other, proposer->adopted_ballot) > 0;
    if (adopts && !planted(BUG_ACCEPTED_VALUES_IGNORED)) {
        /* Without memory the promise never came. */
        if (keep_value(&proposer->adopted, message->value) != STATUS_OK) return PROPOSER_NOTHING;
        proposer->adopted_ballot = message->other;
    }
    proposer->yes |= 1u << place;
    if (!has_majority(proposer)) return PROPOSER_NOTHING;
    enter(proposer, PROPOSER_ACCEPTING, now_ms);
    return PROPOSER_SEND;
}

enum proposer_effect proposer_accepted(struct proposer *proposer, unsigned place,
                                       const struct register_message *message)
{
    if (proposer->phase != PROPOSER_ACCEPTING || !is_current(proposer, message)) {
        return PROPOSER_NOTHING;
    }
    proposer->yes |= 1u << place;
    return has_majority(proposer) ? PROPOSER_DECIDED : PROPOSER_NOTHING;
}

void proposer_refused(struct proposer *proposer, unsigned place,
                      const struct register_message *message, uint64_t now_ms, struct prng *prng)
{
    if (!is_current(proposer, message)) return;
    if (message->other.round > proposer->ballot.round + REGISTER_ROUND_STEP_MAX) return;
    proposer->round_seen = u64_max(proposer->round_seen, message->other.round);
    if (proposer->yes >> place & 1) return; /* It has said yes to this before, and that counts. */
    proposer->no |= 1u << place;
    unsigned left = proposer->registrar_count - (unsigned)__builtin_popcount(proposer->no);
    if (left < majority_of(proposer->registrar_count)) wait(proposer, now_ms, prng);
}

enum proposer_effect proposer_tick(struct proposer *proposer, uint64_t now_ms, struct prng *prng)
{
    if (proposer->phase == PROPOSER_IDLE || now_ms < proposer->deadline_ms) {
        return PROPOSER_NOTHING;
    }
    if (proposer->phase == PROPOSER_WAITING) return attempt(proposer, now_ms);
    if (proposer->no != 0) {
        wait(proposer, now_ms, prng);
        return PROPOSER_NOTHING;
    }
    uint32_t wait_ms = next_wait_ms(proposer, REGISTER_RESEND_MS);
    proposer->deadline_ms = now_ms + wait_ms + prng_below(prng, wait_ms);
    return PROPOSER_SEND;
}

uint32_t proposer_silent(const struct proposer *proposer)
{
    uint32_t all = (1u << proposer->registrar_count) - 1;
    return all & ~(proposer->yes | proposer->no);
}

struct register_value proposer_value(const struct proposer *proposer)
{
    bool adopted = !ballot_is_none(proposer->adopted_ballot);
    return kept_value(adopted ? &proposer->adopted : &proposer->wanted);
}

struct register_value proposer_wanted(const struct proposer *proposer)
{
    return kept_value(&proposer->wanted);
}
