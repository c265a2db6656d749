#include "base/check.h"
#include "base/math.h"
#include "cluster/health_private.h"

enum {
    SYNC_BYTES_MAX = 4096,
    RESERVED_BYTES = 4000, /* Of what may be sent, for news of lives. */
    MANY = 32,             /* Cards in one message: there are more. */
    SOON_MS = 500,
    MEMBERS_A_BUCKET = 8,
    BUCKETS_MAX = 1 << HEALTH_BUCKET_BITS_MAX,
    WANT_BYTES = 3,
};

static size_t sync_room(const struct health *health)
{
    size_t room = health_room(health, SYNC_BYTES_MAX + RESERVED_BYTES);
    return room < RESERVED_BYTES ? 0 : room - RESERVED_BYTES;
}

/* --- Digests --- */

static struct health_stamp stamp_of(const struct health_peer *peer)
{
    return (struct health_stamp){.id = peer->member.id,
                                 .boot = peer->card.boot,
                                 .sequence = peer->card.sequence,
                                 .down = peer->state == HEALTH_DOWN};
}

/* Nothing is known of it that could be told. */
static bool blank(struct health_stamp stamp)
{
    return stamp.boot == 0 && !stamp.down;
}

static uint64_t mix(uint64_t value)
{
    value = (value ^ value >> 32) * UINT64_C(0xd6e8feb86659fd93);
    value = (value ^ value >> 32) * UINT64_C(0xd6e8feb86659fd93);
    return value ^ value >> 32;
}

/* A hash of the stamps in each bucket. The salt differs from exchange to exchange: what two hashes
 * hide once shows the next time. */
static void hash_buckets(const struct health *health, unsigned bits, uint32_t salt,
                         uint16_t *hashes)
{
    uint64_t sums[BUCKETS_MAX] = {0};
    for (size_t i = 0; i < health->table.count; i++) {
        struct health_stamp stamp = stamp_of(&health->peers[i]);
        if (blank(stamp)) continue;
        uint64_t words = (uint64_t)salt << 32 | (uint64_t)stamp.id << 1 | stamp.down;
        uint64_t hash = mix(mix(mix(words) ^ stamp.boot) ^ stamp.sequence);
        sums[stamp.id & ((1U << bits) - 1)] += hash;
    }
    for (size_t i = 0; i < (size_t)1 << bits; i++) hashes[i] = (uint16_t)(mix(sums[i]) >> 48);
}

static unsigned bucket_bits(const struct health *health)
{
    unsigned bits = health_bits(health->table.count / MEMBERS_A_BUCKET);
    if (bits < HEALTH_BUCKET_BITS_MIN) return HEALTH_BUCKET_BITS_MIN;
    return bits < HEALTH_BUCKET_BITS_MAX ? bits : HEALTH_BUCKET_BITS_MAX;
}

/* One that came back, else any that is alive; 0: there is none. */
static node_id partner(struct health *health, struct prng *prng)
{
    const struct health_peer *peer = health_peer(health, health->sync_peer);
    health->sync_peer = 0;
    if (peer != NULL && peer->state == HEALTH_ALIVE) return peer->member.id;
    size_t members = health->table.count;
    if (members == 0) return 0;
    size_t start = prng_below(prng, (uint32_t)members);
    for (size_t i = 0; i < members; i++) {
        peer = &health->peers[health->order[(start + i) % members]];
        if (peer->member.id != health->self.id && peer->state == HEALTH_ALIVE)
            return peer->member.id;
    }
    return 0;
}

void health_sync_tick(struct health *health, struct prng *prng, struct outbox *outbox)
{
    if (health->time_ms < health->next_sync_ms && health->sync_peer == 0) return;
    health->next_sync_ms = health->time_ms + HEALTH_SYNC_MS;
    if (sync_room(health) == 0) return;
    node_id to = partner(health, prng);
    if (to == 0) return;

    uint16_t hashes[BUCKETS_MAX];
    unsigned bits = bucket_bits(health);
    uint32_t salt = prng_u32(prng);
    hash_buckets(health, bits, salt, hashes);
    struct buf *out = health_begin(health, outbox, to, HEALTH_DIGEST);
    buf_append_u32le(out, salt);
    buf_append_u8(out, (uint8_t)bits);
    for (size_t i = 0; i < (size_t)1 << bits; i++) buf_append_u16le(out, hashes[i]);
    health_end(health, outbox);
}

/* --- Stamps --- */

/* Which buckets differ; as many as fit, from a random one on. False: none. */
static bool choose_buckets(struct health *health, const struct health_message *message,
                           struct prng *prng, uint8_t *listed)
{
    uint16_t hashes[BUCKETS_MAX];
    size_t sizes[BUCKETS_MAX] = {0};
    size_t buckets = (size_t)1 << message->bits, room = sync_room(health);
    hash_buckets(health, message->bits, message->nonce, hashes);
    for (size_t i = 0; i < health->table.count; i++) {
        struct health_stamp stamp = stamp_of(&health->peers[i]);
        sizes[stamp.id & (buckets - 1)] += health_stamp_bytes(&stamp);
    }

    bool any = false;
    size_t start = prng_below(prng, (uint32_t)buckets);
    for (size_t i = 0; i < buckets; i++) {
        size_t bucket = (start + i) % buckets;
        if (hashes[bucket] == load_u16le(message->digest.data + 2 * bucket)) continue;
        if (sizes[bucket] > room) break;
        room -= sizes[bucket];
        listed[bucket / 8] |= (uint8_t)(1U << bucket % 8);
        any = true;
    }
    return any;
}

static bool is_listed(const uint8_t *listed, unsigned bits, node_id id)
{
    unsigned bucket = id & ((1U << bits) - 1);
    return (listed[bucket / 8] >> bucket % 8 & 1) != 0;
}

static void answer_digest(struct health *health, const struct health_message *message,
                          struct prng *prng, struct outbox *outbox)
{
    uint8_t listed[BUCKETS_MAX / 8] = {0};
    if (!choose_buckets(health, message, prng, listed)) return;
    size_t count = 0;
    for (size_t i = 0; i < health->table.count; i++) {
        struct health_stamp stamp = stamp_of(&health->peers[i]);
        if (!blank(stamp) && is_listed(listed, message->bits, stamp.id)) count++;
    }
    struct buf *out = health_begin(health, outbox, message->sender.id, HEALTH_STAMPS);
    buf_append_u8(out, (uint8_t)message->bits);
    buf_append(out, listed, health_bucket_bytes(message->bits));
    buf_append_varint(out, count);
    node_id previous = 0;
    for (size_t i = 0; i < health->table.count; i++) {
        struct health_stamp stamp = stamp_of(&health->peers[i]);
        if (blank(stamp) || !is_listed(listed, message->bits, stamp.id)) continue;
        health_append_stamp(out, &previous, &stamp);
    }
    health_end(health, outbox);
}

/* --- What one has and the other lacks --- */

/* Marks of a peer, for the message that is being made. */
enum { GIVE = 1, WANT = 2, FULL = 4 };

static uint8_t compare(struct health_stamp ours, struct health_stamp theirs)
{
    uint8_t full = ours.boot != theirs.boot ? FULL : 0;
    bool same = ours.boot == theirs.boot && ours.sequence == theirs.sequence;
    if (same) {
        if (ours.down == theirs.down) return 0;
        return ours.down ? GIVE : WANT;
    }
    bool newer = ours.boot != theirs.boot ? ours.boot > theirs.boot
                                          : ours.sequence > theirs.sequence;
    return (newer ? GIVE : WANT) | full;
}

static size_t marked_bytes(const struct health_peer *peer)
{
    if (peer->mark == 0) return 0;
    if ((peer->mark & WANT) != 0) return WANT_BYTES;
    struct health_opinion opinion = health_opinion_of(peer);
    return health_card_bytes(&peer->card, (peer->mark & FULL) != 0) +
           health_opinion_bytes(&opinion);
}

/* Takes the marks off again that the room does not suffice for. From a random place on: what is left
 * over is not the same each time. */
static void fit(struct health *health, struct prng *prng)
{
    size_t members = health->table.count, room = sync_room(health);
    size_t start = members == 0 ? 0 : prng_below(prng, (uint32_t)members);
    for (size_t i = 0; i < members; i++) {
        struct health_peer *peer = &health->peers[(start + i) % members];
        size_t size = marked_bytes(peer);
        if (size > room)
            peer->mark = 0;
        else
            room -= size;
    }
}

/* Marked so, and with something to tell of that kind. */
static bool has(const struct health_peer *peer, uint8_t mark, enum health_fact kind)
{
    if ((peer->mark & mark) == 0) return false;
    if (mark == WANT) return true;
    return kind == FACT_CARD ? peer->card.boot != 0 : peer->state != HEALTH_ALIVE;
}

static size_t marked_count(const struct health *health, uint8_t mark, enum health_fact kind)
{
    size_t count = 0;
    for (size_t i = 0; i < health->table.count; i++) count += has(&health->peers[i], mark, kind);
    return count;
}

/* What is marked, and the marks are gone. */
static void send_marked(struct health *health, node_id to, struct outbox *outbox)
{
    size_t wants = marked_count(health, WANT, FACT_CARD);
    size_t opinions = marked_count(health, GIVE, FACT_OPINION);
    size_t cards = marked_count(health, GIVE, FACT_CARD);
    if (wants + opinions + cards == 0) return;

    struct buf *out = health_begin(health, outbox, to, HEALTH_CARDS);
    node_id want = 0, subject = 0, id = 0;
    buf_append_varint(out, wants);
    for (size_t i = 0; i < health->table.count; i++) {
        const struct health_peer *peer = &health->peers[i];
        if (has(peer, WANT, FACT_CARD))
            health_append_want(out, &want, peer->member.id, (peer->mark & FULL) != 0);
    }
    buf_append_varint(out, opinions);
    for (size_t i = 0; i < health->table.count; i++) {
        const struct health_peer *peer = &health->peers[i];
        if (!has(peer, GIVE, FACT_OPINION)) continue;
        struct health_opinion opinion = health_opinion_of(peer);
        health_append_opinion(out, &subject, &opinion);
    }
    buf_append_varint(out, cards);
    for (size_t i = 0; i < health->table.count; i++) {
        const struct health_peer *peer = &health->peers[i];
        if (has(peer, GIVE, FACT_CARD))
            health_append_card(out, &id, &peer->card, (peer->mark & FULL) != 0);
    }
    health_end(health, outbox);
}

static void answer_stamps(struct health *health, const struct health_message *message,
                          struct prng *prng, struct outbox *outbox)
{
    struct health_list list = message->stamps;
    struct health_stamp ahead = {0};
    for (size_t i = 0; i < health->table.count; i++) {
        struct health_peer *peer = &health->peers[i];
        node_id id = peer->member.id;
        peer->mark = 0;
        if (!is_listed(message->buckets.data, message->bits, id)) continue;
        while (ahead.id < id && health_next_stamp(&list, &ahead)) {
        }
        struct health_stamp theirs = ahead.id == id ? ahead : (struct health_stamp){.id = id};
        peer->mark = compare(stamp_of(peer), theirs);
    }
    fit(health, prng);
    send_marked(health, message->sender.id, outbox);
}

static void answer_wants(struct health *health, const struct health_message *message,
                         struct prng *prng, struct outbox *outbox)
{
    struct health_list list = message->wants;
    node_id wanted;
    bool full;
    if (list.left == 0) return;
    for (size_t i = 0; i < health->table.count; i++) health->peers[i].mark = 0;
    while (health_next_want(&list, &wanted, &full)) {
        uint32_t place = health_place(health, wanted);
        if (place != HEALTH_NONE) health->peers[place].mark = (uint8_t)(GIVE | (full ? FULL : 0));
    }
    fit(health, prng);
    send_marked(health, message->sender.id, outbox);
}

void health_sync_receive(struct health *health, const struct health_message *message,
                         struct prng *prng, struct outbox *outbox)
{
    if (message->kind == HEALTH_DIGEST) answer_digest(health, message, prng, outbox);
    if (message->kind == HEALTH_STAMPS) answer_stamps(health, message, prng, outbox);
    if (message->kind != HEALTH_CARDS) return;
    answer_wants(health, message, prng, outbox);
    /* Between two that differ much the next comparison does not wait for its turn. */
    if (message->cards.left >= MANY)
        health->next_sync_ms = u64_min(health->next_sync_ms, health->time_ms + SOON_MS);
}
