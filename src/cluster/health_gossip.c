#include "base/check.h"
#include "base/math.h"
#include "base/planted.h"
#include "cluster/health_private.h"

/* How often a fact is told, for each bit of the number of members. A card that missed somebody comes
 * by the next comparison, which costs less than telling it thrice as often. */
static const uint8_t sends_a_bit[QUEUE_COUNT] = {[QUEUE_LIVES] = 3, [QUEUE_CARDS] = 1};

static unsigned sends_max(const struct health *health, enum health_queue queue)
{
    unsigned sends = sends_a_bit[queue] * health_bits(health->table.count);
    return sends < HEALTH_SENDS_MAX ? sends : HEALTH_SENDS_MAX;
}

/* --- Queues: a fact is place * FACT_COUNT + enum health_fact. --- */

static uint32_t *next_of(struct health *health, uint32_t fact)
{
    return &health->peers[fact / FACT_COUNT].next[fact % FACT_COUNT];
}

static uint32_t *previous_of(struct health *health, uint32_t fact)
{
    return &health->peers[fact / FACT_COUNT].previous[fact % FACT_COUNT];
}

void health_queues_init(struct health *health)
{
    for (size_t queue = 0; queue < QUEUE_COUNT; queue++) {
        for (size_t i = 0; i < HEALTH_SENDS_MAX; i++) {
            health->heads[queue][i] = HEALTH_NONE;
            health->tails[queue][i] = HEALTH_NONE;
        }
    }
}

void health_hush(struct health *health, struct health_peer *peer, enum health_fact kind)
{
    if (!peer->queued[kind]) return;
    uint32_t next = peer->next[kind], previous = peer->previous[kind];
    unsigned sends = peer->sends[kind], queue = peer->queue[kind];
    if (previous == HEALTH_NONE)
        health->heads[queue][sends] = next;
    else
        *next_of(health, previous) = next;
    if (next == HEALTH_NONE)
        health->tails[queue][sends] = previous;
    else
        *previous_of(health, next) = previous;
    peer->queued[kind] = false;
}

void health_tell(struct health *health, struct health_peer *peer, enum health_fact kind,
                 enum health_queue queue, unsigned sends)
{
    health_hush(health, peer, kind);
    if (sends >= sends_max(health, queue)) {
        if (kind == FACT_CARD) peer->full_news = false;
        return;
    }
    uint32_t fact = (uint32_t)(peer - health->peers) * FACT_COUNT + kind;
    uint32_t last = health->tails[queue][sends];
    peer->queued[kind] = true;
    peer->queue[kind] = queue;
    peer->sends[kind] = (uint8_t)sends;
    peer->next[kind] = HEALTH_NONE;
    peer->previous[kind] = last;
    if (last == HEALTH_NONE)
        health->heads[queue][sends] = fact;
    else
        *next_of(health, last) = fact;
    health->tails[queue][sends] = fact;
}

/* --- Choosing what to tell --- */

struct told {
    uint32_t places[FACT_COUNT][HEALTH_TOLD_MAX];
    size_t counts[FACT_COUNT];
};

/* Keeps the places ascending. False when it is there already, or there is no room. */
static bool choose(struct told *told, enum health_fact kind, uint32_t place)
{
    uint32_t *places = told->places[kind];
    size_t at = told->counts[kind];
    if (at == HEALTH_TOLD_MAX) return false;
    while (at > 0 && places[at - 1] > place) at--;
    if (at > 0 && places[at - 1] == place) return false;
    for (size_t i = told->counts[kind]++; i > at; i--) places[i] = places[i - 1];
    places[at] = place;
    return true;
}

struct health_opinion health_opinion_of(const struct health_peer *peer)
{
    return (struct health_opinion){.subject = peer->member.id,
                                   .boot = peer->boot,
                                   .rebuttal = peer->rebuttal,
                                   .accuser = peer->accuser,
                                   .down = peer->state == HEALTH_DOWN};
}

static size_t fact_bytes(const struct health_peer *peer, enum health_fact kind)
{
    if (kind == FACT_CARD) return health_card_bytes(&peer->card, peer->full_news);
    struct health_opinion opinion = health_opinion_of(peer);
    return health_opinion_bytes(&opinion);
}

/* The facts of a queue told least often, as far as the room goes. Returns what is left of it. */
static size_t choose_news(struct health *health, struct told *told, enum health_queue queue,
                          node_id to, size_t room)
{
    for (size_t sends = 0; sends < HEALTH_SENDS_MAX; sends++) {
        uint32_t fact = health->heads[queue][sends];
        for (; fact != HEALTH_NONE; fact = *next_of(health, fact)) {
            const struct health_peer *peer = &health->peers[fact / FACT_COUNT];
            enum health_fact kind = (enum health_fact)(fact % FACT_COUNT);
            if (peer->member.id == to) continue; /* It was chosen, or it knows. */
            size_t size = fact_bytes(peer, kind);
            if (size > room) return room;
            if (choose(told, kind, fact / FACT_COUNT)) room -= size;
        }
    }
    return room;
}

/* Each fact that was told moves to the next queue. */
static void count_told(struct health *health, const struct told *told)
{
    for (unsigned kind = 0; kind < FACT_COUNT; kind++) {
        for (size_t i = 0; i < told->counts[kind]; i++) {
            struct health_peer *peer = &health->peers[told->places[kind][i]];
            if (!peer->queued[kind]) continue;
            health_tell(health, peer, (enum health_fact)kind, peer->queue[kind],
                        peer->sends[kind] + 1U);
        }
    }
}

static void append_told(struct health *health, const struct told *told, node_id about,
                        struct buf *out)
{
    node_id previous = 0;
    buf_append_varint(out, told->counts[FACT_OPINION]);
    for (size_t i = 0; i < told->counts[FACT_OPINION]; i++) {
        struct health_opinion opinion =
            health_opinion_of(&health->peers[told->places[FACT_OPINION][i]]);
        health_append_opinion(out, &previous, &opinion);
    }
    previous = 0;
    buf_append_varint(out, told->counts[FACT_CARD]);
    for (size_t i = 0; i < told->counts[FACT_CARD]; i++) {
        const struct health_peer *peer = &health->peers[told->places[FACT_CARD][i]];
        bool full = peer->full_news || peer->member.id == about;
        health_append_card(out, &previous, &peer->card, full);
    }
}

void health_append_facts(struct health *health, struct buf *out, node_id to, node_id about,
                         size_t room)
{
    struct told told;
    told.counts[FACT_CARD] = 0;
    told.counts[FACT_OPINION] = 0;

    /* Who is suspected must hear of it: nobody else can refute it. */
    const struct health_peer *receiver = health_peer(health, to);
    if (receiver != NULL && receiver->state != HEALTH_ALIVE)
        choose(&told, FACT_OPINION, health_place(health, to));
    const struct health_peer *subject = health_peer(health, about);
    if (subject != NULL && subject->state != HEALTH_ALIVE)
        choose(&told, FACT_OPINION, health_place(health, about));
    if (subject != NULL && subject->card.boot != 0)
        choose(&told, FACT_CARD, health_place(health, about));

    if (receiver != NULL) {
        /* However much is said of lives, a third is left for the rest. */
        size_t rest = room / 3;
        rest += choose_news(health, &told, QUEUE_LIVES, to, room - rest);
        choose_news(health, &told, QUEUE_CARDS, to, rest);
    }
    append_told(health, &told, about, out);
    count_told(health, &told);
}

/* --- Lives --- */

static bool life_later(uint64_t boot, uint32_t rebuttal, const struct health_peer *than)
{
    return boot != than->boot ? boot > than->boot : rebuttal > than->rebuttal;
}

/* The member begins another life, or nothing was known of it before. */
static void live(struct health *health, struct health_peer *peer, uint64_t boot, uint32_t rebuttal)
{
    unsigned was = peer->state;
    bool known = peer->boot != 0, booted = boot != peer->boot;
    peer->boot = boot;
    peer->rebuttal = rebuttal;
    peer->state = HEALTH_ALIVE;
    if (!planted(BUG_REBUTTED_SUSPICION_KILLS)) peer->accuser_count = 0;
    peer->accused_here = false;
    if (booted) peer->closed = false;
    if (booted || was == HEALTH_DOWN) peer->timeouts = 0;
    health_hush(health, peer, FACT_OPINION);
    health_show(health, peer);

    if (was == HEALTH_DOWN) {
        TRACE(health->trace, "n%u is back: boot %llu, rebuttal %u", peer->member.id,
              (unsigned long long)boot, rebuttal);
        health_emit(health, HEALTH_RETURNED, peer->member.id, boot);
        health->sync_peer = peer->member.id;
    } else if (known && booted) {
        TRACE(health->trace, "n%u restarted: boot %llu", peer->member.id, (unsigned long long)boot);
        health_emit(health, HEALTH_RESTARTED, peer->member.id, boot);
    } else if (was == HEALTH_SUSPECT) {
        TRACE(health->trace, "n%u is alive: rebuttal %u", peer->member.id, rebuttal);
    }
}

static bool accused_by(const struct health_peer *peer, node_id accuser)
{
    for (size_t i = 0; i < peer->accuser_count; i++) {
        if (peer->accusers[i] == accuser) return true;
    }
    return false;
}

void health_suspect(struct health *health, struct health_peer *peer, node_id accuser)
{
    CHECK(peer->member.id != health->self.id);
    if (peer->state == HEALTH_DOWN) return;
    if (peer->state == HEALTH_ALIVE) {
        peer->state = HEALTH_SUSPECT;
        peer->accuser_count = 0;
        peer->suspected_ms = health->time_ms;
        health->counts.suspected_count++;
        health_show(health, peer);
    } else if (peer->accuser_count > HEALTH_CONFIRMATIONS_MAX || accused_by(peer, accuser)) {
        return;
    }
    TRACE(health->trace, "n%u is suspect, says n%u", peer->member.id, accuser);
    peer->accusers[peer->accuser_count++] = accuser;
    peer->accuser = accuser;
    health->next_expiry_ms = 0;
    health_tell(health, peer, FACT_OPINION, QUEUE_LIVES, 0);
}

/* Nobody goes down by hearsay: after a partition each side says that the other is down, long before
 * all have heard that it is not. But a suspicion that was decided elsewhere needs no further
 * witnesses here. */
static void confirm_fully(struct health *health, struct health_peer *peer, node_id accuser)
{
    if (peer->state != HEALTH_SUSPECT || peer->accuser_count > HEALTH_CONFIRMATIONS_MAX) return;
    while (peer->accuser_count <= HEALTH_CONFIRMATIONS_MAX)
        peer->accusers[peer->accuser_count++] = accuser;
    health->next_expiry_ms = 0;
}

void health_kill(struct health *health, struct health_peer *peer)
{
    CHECK(peer->member.id != health->self.id);
    TRACE(health->trace, "n%u is down", peer->member.id);
    peer->state = HEALTH_DOWN;
    peer->accuser_count = 0;
    peer->accused_here = false;
    health_show(health, peer);
    health_tell(health, peer, FACT_OPINION, QUEUE_LIVES, 0);
    health_emit(health, HEALTH_DIED, peer->member.id, peer->boot);
}

/* --- Taking in --- */

/* Somebody says that this node lives: at a later boot, or with cards that it never made. */
static void meet_twin(struct health *health, node_id from, uint64_t boot)
{
    if (boot <= health->twin_boot) return;
    health->twin_boot = boot;
    TRACE(health->trace, "another process is n%u too, at boot %llu, says n%u", health->self.id,
          (unsigned long long)boot, from);
    health_emit(health, HEALTH_TWIN, from, boot);
}

static bool card_newer(const struct health_card *card, const struct health_card *than)
{
    if (card->boot != than->boot && !planted(BUG_OLD_BOOT_REPLACES)) return card->boot > than->boot;
    return card->sequence > than->sequence;
}

/* Only its load is new: told less often, after all else. */
static bool load_alone(const struct health_card *a, const struct health_card *b)
{
    return a->boot == b->boot && a->rebuttal == b->rebuttal && a->known == b->known &&
           a->acknowledged == b->acknowledged;
}

static void see_map(struct health *health, const struct health_card *card)
{
    if (card->known <= health->known_max) return;
    health->known_max = card->known;
    TRACE(health->trace, "n%u has map %llu", card->id, (unsigned long long)card->known);
    health_emit(health, HEALTH_MAP_AHEAD, card->id, card->known);
}

/* A newer card of a member. */
static void keep_card(struct health *health, struct health_peer *peer,
                      const struct health_card *card)
{
    bool another_life = life_later(card->boot, card->rebuttal, peer);
    enum health_queue queue = another_life ? QUEUE_LIVES : QUEUE_CARDS;
    unsigned sends = load_alone(card, &peer->card) ? sends_max(health, queue) / 2 : 0;
    if (card->boot != peer->card.boot) peer->full_news = true;
    peer->card = *card;
    if (another_life) live(health, peer, card->boot, card->rebuttal);
    health_tell(health, peer, FACT_CARD, queue, sends);

    struct health_view *view = &health->table.views[peer - health->peers];
    view->zone = card->zone;
    view->depth = health_code_value(card->depth_code);
    see_map(health, card);
}

static void take_card(struct health *health, node_id from, const struct health_card *card,
                      bool full)
{
    if (card->id == health->self.id) {
        bool ours = !full || card->incarnation == health->self.incarnation;
        bool later = card->boot > health->self.boot ||
                     (card->boot == health->self.boot && card->sequence > health->self.sequence);
        if (ours && later) meet_twin(health, from, card->boot);
        return;
    }
    struct health_peer *peer = health_peer(health, card->id);
    if (peer == NULL || (full && card->incarnation != peer->member.incarnation)) {
        health->counts.stranger_count++;
        return;
    }
    if (!card_newer(card, &peer->card)) return;
    if (full) {
        keep_card(health, peer, card);
    } else if (card->boot == peer->card.boot) {
        struct health_card whole = *card;
        whole.incarnation = peer->card.incarnation;
        whole.zone = peer->card.zone;
        whole.address_tag = peer->card.address_tag;
        keep_card(health, peer, &whole);
    } else {
        health->counts.baseless_count++;
    }
}

/* Begins another life, to refute what is said of this one. */
static void rebut(struct health *health, uint32_t rebuttal, node_id from)
{
    if (rebuttal >= HEALTH_COUNTER_MAX) return;
    health->self.rebuttal = rebuttal + 1;
    health->counts.rebuttal_count++;
    TRACE(health->trace, "n%u thinks me dead: rebuttal %u", from, health->self.rebuttal);
    health_slower(health, 1);
    health_publish(health);
}

static void take_opinion(struct health *health, node_id from, bool trusted,
                         const struct health_opinion *opinion)
{
    if (opinion->subject == health->self.id) {
        if (opinion->boot > health->self.boot) meet_twin(health, from, opinion->boot);
        if (opinion->boot == health->self.boot && opinion->rebuttal >= health->self.rebuttal)
            rebut(health, opinion->rebuttal, from);
        return;
    }
    struct health_peer *peer = health_peer(health, opinion->subject);
    if (peer == NULL || !trusted || opinion->accuser == opinion->subject) return;
    if (health_place(health, opinion->accuser) == HEALTH_NONE) return;
    if (life_later(opinion->boot, opinion->rebuttal, peer)) {
        if (peer->state == HEALTH_DOWN && opinion->down) {
            peer->boot = opinion->boot;
            peer->rebuttal = opinion->rebuttal;
            return;
        }
        live(health, peer, opinion->boot, opinion->rebuttal);
    } else if (opinion->boot != peer->boot || opinion->rebuttal != peer->rebuttal) {
        return; /* Of an earlier life. */
    }
    health_suspect(health, peer, opinion->accuser);
    if (opinion->down) confirm_fully(health, peer, opinion->accuser);
    if (opinion->down && planted(BUG_DEATH_BY_HEARSAY)) health_kill(health, peer);
}

bool health_take_sender(struct health *health, const struct health_message *message)
{
    const struct health_card *card = &message->sender;
    struct health_peer *peer = health_peer(health, card->id);
    if (peer == NULL && health->table.count == 0) {
        for (size_t i = 0; i < health->seed_count; i++) {
            if (health->seeds[i] == card->id) see_map(health, card);
        }
        return false;
    }
    take_card(health, card->id, card, true);
    if (peer == NULL || card->incarnation != peer->member.incarnation) return false;
    if (card->boot != peer->boot || card->boot != peer->card.boot) return false;
    health->table.views[peer - health->peers].depth = message->depth;
    return true;
}

bool health_take_facts(struct health *health, const struct health_message *message)
{
    node_id from = message->sender.id;
    const struct health_peer *sender = health_peer(health, from);
    /* One that hears nobody finds all others silent: by the time it says so it is suspect. */
    bool trusted = sender != NULL && sender->state == HEALTH_ALIVE;
    uint32_t rebuttal = health->self.rebuttal;
    struct health_list opinions = message->opinions, cards = message->cards;
    struct health_opinion opinion;
    struct health_card card;
    bool full;
    /* Cards first: what refutes an opinion spares a false alarm. */
    while (health_next_card(&cards, &card, &full)) take_card(health, from, &card, full);
    while (health_next_opinion(&opinions, &opinion)) {
        take_opinion(health, from, trusted, &opinion);
    }
    return health->self.rebuttal != rebuttal;
}
