/* The attempts of one node to have a value chosen in one instance.
 *
 *     idle       propose                       → preparing
 *     preparing  a majority promised           → accepting   proposer_promised()
 *     accepting  a majority accepted           → idle: chosen, by the caller's proposer_end()
 *     either     no majority is left to be had → waiting     proposer_refused()
 *     either     silence, nobody refused       → the same message again to who was silent
 *     either     silence after a refusal       → waiting     proposer_tick()
 *     waiting    the back-off is over          → preparing, with a greater round
 *
 * Invariants
 *   1. It asks to accept the value of the greatest ballot that those who promised had accepted;
 *      its own only where they had accepted none.
 *   2. One ballot carries one value: what is asked to be accepted is settled once a ballot.
 *   3. An answer counts once for each registrar, and for its ballot alone. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/prng.h"
#include "base/status.h"
#include "cluster/register_message.h"

enum {
    REGISTER_RESEND_MS = 250,    /* To silent registrars, at first; doubles, ... */
    REGISTER_BACK_OFF_MS = 50,   /* After a refusal: up to this, at first; doubles, ... */
    REGISTER_WAIT_MAX_MS = 4000, /* ... and neither grows beyond this. */
};

enum proposer_phase { PROPOSER_IDLE, PROPOSER_PREPARING, PROPOSER_ACCEPTING, PROPOSER_WAITING };

/* What the caller has to do next. */
enum proposer_effect {
    PROPOSER_NOTHING,
    PROPOSER_SEND,    /* Send the message of the phase to those of proposer_silent(). */
    PROPOSER_DECIDED, /* proposer_value() is chosen. */
};

struct proposer {
    enum proposer_phase phase;
    unsigned registrar_count;
    struct ballot ballot;         /* Its node and salt stay. */
    uint64_t round_seen;          /* The greatest that anybody spoke of in this instance. */
    struct buf wanted, adopted;   /* Encoded. `adopted`: of adopted_ballot. */
    struct ballot adopted_ballot; /* None: nobody who promised had accepted anything. */
    uint32_t yes, no;             /* Registrars that answered, a bit for each place in the map. */
    unsigned waits;               /* How often the wait has doubled. */
    uint64_t deadline_ms;
};

/* A node that starts: `salt` is random. */
void proposer_init(struct proposer *proposer, struct heap *heap, node_id self, uint64_t salt);
void proposer_deinit(struct proposer *proposer);

/* Begins to propose, from the idle phase. Errors: STATUS_NOMEM, unchanged. */
enum status proposer_begin(struct proposer *proposer, struct register_value value,
                           unsigned registrar_count, uint64_t now_ms);

/* Back to the idle phase: chosen, lost, withdrawn, overtaken. `wanted` can still be read. */
void proposer_end(struct proposer *proposer);

/* Forgets the rounds of an instance that is over. */
void proposer_reset(struct proposer *proposer);

/* An answer of the registrar at `place`. */
enum proposer_effect proposer_promised(struct proposer *proposer, unsigned place,
                                       const struct register_message *message, uint64_t now_ms);
enum proposer_effect proposer_accepted(struct proposer *proposer, unsigned place,
                                       const struct register_message *message);
void proposer_refused(struct proposer *proposer, unsigned place,
                      const struct register_message *message, uint64_t now_ms, struct prng *prng);

enum proposer_effect proposer_tick(struct proposer *proposer, uint64_t now_ms, struct prng *prng);

/* The registrars that have not answered in this phase, a bit for each. */
uint32_t proposer_silent(const struct proposer *proposer);

/* What is asked to be accepted under this ballot. */
struct register_value proposer_value(const struct proposer *proposer);

/* What the node itself wants. */
struct register_value proposer_wanted(const struct proposer *proposer);
