/* Random deltas, valid and not, against a dumb model: an array with the owners of each key. */
#include "base/prng.h"
#include "cluster/rangemap_delta.h"
#include "rangemap_make.h"
#include "test.h"

enum { KEYS = 24, IDS = 40, STEPS = 3000, ROUNDS = 12 };

struct model_set {
    bool has[IDS];
    int write_quorum, read_quorum;
};

struct model_key {
    struct model_set owners, next;
    enum shard_stage stage;
    uint64_t began;
    bool cut; /* A shard begins here. */
};

struct model_member {
    bool present, leaving, forgot;
    enum member_state state;
};

struct model {
    struct model_member members[IDS];
    struct model_key keys[KEYS];
    int next_id;
    uint64_t number;
    int splits;
    int factor, write_quorum, read_quorum;
};

static int count(const struct model_set *set)
{
    int nodes = 0;
    for (int id = 0; id < IDS; id++) nodes += set->has[id];
    return nodes;
}

static bool same(const struct model_set *a, const struct model_set *b)
{
    return memcmp(a->has, b->has, sizeof a->has) == 0 && a->write_quorum == b->write_quorum &&
           a->read_quorum == b->read_quorum;
}

static int staying(const struct model *model)
{
    int members = 0;
    for (int id = 0; id < IDS; id++) {
        const struct model_member *member = &model->members[id];
        members += member->present && member->state != MEMBER_EXCLUDED && !member->leaving;
    }
    return members;
}

static int quorum(int wanted, int nodes)
{
    if (wanted == 0) return nodes / 2 + 1;
    return wanted < nodes ? wanted : nodes;
}

/* Owners of a set that are in `state` or a worse one. */
static int silent(const struct model *model, const struct model_set *set, enum member_state state)
{
    int nodes = 0;
    for (int id = 0; id < IDS; id++) nodes += set->has[id] && model->members[id].state >= state;
    return nodes;
}

static bool loses_quorum(const struct model *model, const struct model_set *set, int id)
{
    return set->has[id] && silent(model, set, MEMBER_EXCLUDED) + 1 > set->write_quorum - 1;
}

static bool arrow_passes(const struct model *model, const struct model_key *key)
{
    const struct model_set *sets[2] = {&key->owners, &key->next};
    for (int i = 0; i < 2; i++) {
        int nodes = silent(model, sets[i], MEMBER_SUSPENDED);
        if (count(sets[i]) == 0) continue;
        if (nodes >= sets[i]->write_quorum || nodes >= sets[i]->read_quorum) return false;
    }
    return true;
}

/* The key that a low names, or -1; the empty low is that of the first. */
static int key_of(struct slice low)
{
    if (low.size == 0) return 0;
    return low.data[0] - 'A';
}

static void copy_shard(struct model *model, int from, const struct model_key *key)
{
    for (int i = from; i < KEYS && (i == from || !model->keys[i].cut); i++) {
        bool cut = model->keys[i].cut;
        model->keys[i] = *key;
        model->keys[i].cut = cut;
    }
}

static bool model_state(struct model *model, const struct change *change)
{
    struct model_member *member = &model->members[change->member.id];
    if (!member->present || member->state == MEMBER_EXCLUDED) return false;
    if (member->state == change->member.state) return false;
    if (change->member.state == MEMBER_EXCLUDED && !change->forced) {
        for (int i = 0; i < KEYS; i++) {
            if (loses_quorum(model, &model->keys[i].owners, change->member.id)) return false;
            if (loses_quorum(model, &model->keys[i].next, change->member.id)) return false;
        }
    }
    member->state = change->member.state;
    return true;
}

static bool model_member(struct model *model, const struct change *change)
{
    int id = change->member.id;
    struct model_member *member = &model->members[id];
    switch (change->kind) {
    case CHANGE_MEMBER_ADD:
        if (id != model->next_id) return false;
        model->next_id++;
        *member = (struct model_member){.present = true};
        return true;
    case CHANGE_MEMBER_MOVE:
        return member->present && member->state != MEMBER_EXCLUDED;
    case CHANGE_MEMBER_STATE:
        return model_state(model, change);
    case CHANGE_MEMBER_LEAVING:
        if (!member->present || member->state == MEMBER_EXCLUDED) return false;
        if (member->leaving == change->member.leaving) return false;
        member->leaving = change->member.leaving;
        return true;
    case CHANGE_MEMBER_FORGOT:
        if (!member->present || member->state == MEMBER_EXCLUDED || member->forgot) return false;
        member->forgot = true;
        return true;
    default:
        if (!member->present) return false;
        if (!member->leaving && member->state != MEMBER_EXCLUDED) return false;
        for (int i = 0; i < KEYS; i++) {
            if (model->keys[i].owners.has[id] || model->keys[i].next.has[id]) return false;
        }
        member->present = false;
        return true;
    }
}

static bool model_begin(struct model *model, struct model_key *key, const struct change *change)
{
    if (key->stage != SHARD_STABLE) return false;
    int wanted = staying(model) < model->factor ? staying(model) : model->factor;
    if (change->next_count != wanted) return false;
    struct model_set next = {
        .write_quorum = quorum(model->write_quorum, wanted),
        .read_quorum = quorum(model->read_quorum, wanted),
    };
    for (int i = 0; i < wanted; i++) {
        int id = change->next[i];
        const struct model_member *member = &model->members[id];
        if (!member->present || member->leaving || member->state == MEMBER_EXCLUDED) return false;
        if (member->state == MEMBER_SUSPENDED && !key->owners.has[id]) return false;
        next.has[id] = true;
    }
    if (same(&next, &key->owners)) return false;
    key->next = next;
    key->stage = SHARD_FILLING;
    return true;
}

static void settle(struct model_key *key, const struct model_set *owners)
{
    struct model_set chosen = *owners;
    key->owners = chosen;
    key->next = (struct model_set){.write_quorum = 0};
    key->stage = SHARD_STABLE;
}

static bool model_arrow(struct model *model, const struct change *change)
{
    int at = key_of(change->low);
    struct model_key key = model->keys[at];
    if (!key.cut || key.began == model->number) return false;
    bool passes = change->forced || arrow_passes(model, &key);
    switch (change->kind) {
    case CHANGE_BEGIN:
        if (!model_begin(model, &key, change)) return false;
        break;
    case CHANGE_SWITCH:
        if (key.stage != SHARD_FILLING || !passes) return false;
        key.stage = SHARD_SWITCHED;
        break;
    case CHANGE_FINISH:
        if (key.stage != SHARD_SWITCHED || !passes) return false;
        settle(&key, &key.next);
        break;
    default:
        if (key.stage == SHARD_SWITCHED) {
            key.stage = SHARD_FILLING;
        } else if (key.stage == SHARD_FILLING && passes) {
            settle(&key, &key.owners);
        } else {
            return false;
        }
        break;
    }
    key.began = model->number;
    copy_shard(model, at, &key);
    return true;
}

static bool model_cut(struct model *model, const struct change *change)
{
    int at = key_of(change->low);
    struct model_key *keys = model->keys;
    if (at == 0) return false;
    if (change->kind == CHANGE_SPLIT) {
        if (keys[at].cut || ++model->splits > RANGEMAP_SPLITS_MAX) return false;
        keys[at].cut = true; /* And nothing else: a split changes no owner. */
        return true;
    }
    if (!keys[at].cut || keys[at].stage != SHARD_STABLE) return false;
    if (keys[at - 1].stage != SHARD_STABLE) return false;
    if (!same(&keys[at].owners, &keys[at - 1].owners)) return false;
    struct model_key merged = keys[at];
    if (keys[at - 1].began > merged.began) merged.began = keys[at - 1].began;
    keys[at].cut = false;
    int left = at - 1;
    while (!keys[left].cut) left--;
    copy_shard(model, left, &merged);
    return true;
}

static bool model_change(struct model *model, const struct change *change)
{
    if (change_is_of_member(change->kind)) return model_member(model, change);
    if (change->kind == CHANGE_SETTINGS) {
        model->factor = change->settings.replication_factor;
        model->write_quorum = change->settings.write_quorum;
        model->read_quorum = change->settings.read_quorum;
        return true;
    }
    if (change->kind <= CHANGE_MERGE) return model_cut(model, change);
    return model_arrow(model, change);
}

/* --- The map says what the model says --- */

static bool set_matches(const struct owners *owners, const struct model_set *set)
{
    struct model_set seen = {.write_quorum = owners->write_quorum,
                             .read_quorum = owners->read_quorum};
    for (size_t i = 0; i < owners->count; i++) seen.has[owners->ids[i]] = true;
    return same(&seen, set) || (owners->count == 0 && count(set) == 0);
}

static void check_key(const struct rangemap *map, const struct model *model, int at)
{
    const struct model_key *key = &model->keys[at];
    uint8_t bytes[2] = {(uint8_t)('A' + at), 'x'};
    struct slice name = slice_of(bytes, 2);
    size_t index = rangemap_find(map, name);
    struct shard shard = rangemap_shard(map, index);
    EXPECT(set_matches(&shard.owners, &key->owners));
    EXPECT(set_matches(&shard.next, &key->next));
    EXPECT(shard.stage == key->stage && shard.began == key->began);
    EXPECT(slice_equal(shard.low, at == 0 ? SLICE_LITERAL("") : slice_of(bytes, 1)) == key->cut);
    EXPECT(slice_compare(shard.low, name) <= 0);
    EXPECT(shard.high.size == 0 || slice_compare(name, shard.high) < 0);

    const struct model_set *readers = key->stage == SHARD_SWITCHED ? &key->next : &key->owners;
    for (int id = 1; id < IDS; id++) {
        bool alive = model->members[id].present && model->members[id].state != MEMBER_EXCLUDED;
        EXPECT(rangemap_answers(map, (node_id)id, name) == (alive && readers->has[id]));
        EXPECT(rangemap_takes(map, (node_id)id, name) ==
               (alive && (key->owners.has[id] || key->next.has[id])));
    }
}

static void check_members(const struct rangemap *map, const struct model *model)
{
    size_t members = 0, left = 0, able = 0;
    for (int id = 1; id < IDS; id++) {
        struct member member;
        bool present = rangemap_member_find(map, (node_id)id, &member);
        EXPECT(present == model->members[id].present);
        if (!present) continue;
        members++;
        left += member.state != MEMBER_EXCLUDED;
        able += member.state != MEMBER_EXCLUDED && !member.forgot;
        EXPECT(member.state == model->members[id].state);
        EXPECT(member.leaving == model->members[id].leaving);
        EXPECT(member.forgot == model->members[id].forgot);
    }
    EXPECT(rangemap_member_count(map) == members);
    const node_id *registrars;
    size_t registrar_count = rangemap_registrars(map, &registrars);
    EXPECT(registrar_count % 2 == 1 && registrar_count <= 7);
    size_t candidates = able > 0 ? able : left;
    EXPECT(registrar_count == 7 || registrar_count + 2 > candidates);
    for (size_t i = 0; i < registrar_count; i++) {
        EXPECT(model->members[registrars[i]].present);
        EXPECT(model->members[registrars[i]].state != MEMBER_EXCLUDED);
        EXPECT(!model->members[registrars[i]].forgot || able == 0);
    }
}

static void check_ranges(const struct rangemap *map, struct prng *prng)
{
    uint8_t low = (uint8_t)('A' + prng_below(prng, KEYS));
    uint8_t high = (uint8_t)('A' + prng_below(prng, KEYS));
    size_t first, end;
    rangemap_find_range(map, slice_of(&low, 1), slice_of(&high, 1), &first, &end);
    for (size_t i = 0; i < rangemap_shard_count(map); i++) {
        struct shard shard = rangemap_shard(map, i);
        bool meets = slice_compare(shard.low, slice_of(&high, 1)) < 0 &&
                     (shard.high.size == 0 || slice_compare(slice_of(&low, 1), shard.high) < 0);
        EXPECT((i >= first && i < end) == (meets && low < high));
    }
    rangemap_find_prefix(map, slice_of(&low, 1), &first, &end);
    EXPECT(first == rangemap_find(map, slice_of(&low, 1)) && end == first + 1);
    rangemap_find_prefix(map, SLICE_LITERAL(""), &first, &end);
    EXPECT(first == 0 && end == rangemap_shard_count(map));
}

/* The bytes of the map decode to the map, and every arrow leaves a valid one. */
static void check_bytes(struct maker *maker)
{
    struct buf bytes;
    buf_init(&bytes, &maker->heap);
    rangemap_encode(maker->map, &bytes);
    struct rangemap *read;
    EXPECT(rangemap_decode(&maker->heap, buf_slice(&bytes), &read) == STATUS_OK);
    EXPECT(hash128_equal(rangemap_identity(read)->hash, rangemap_identity(maker->map)->hash));
    EXPECT(rangemap_memory_bytes(read) == rangemap_memory_bytes(maker->map));
    rangemap_unref(read);
    buf_deinit(&bytes);
}

/* --- Random changes --- */

static void random_member_change(struct prng *prng, struct maker *maker, const struct model *model,
                                 struct change *change)
{
    int id = 1 + (int)prng_below(prng, (uint32_t)(model->next_id + 1 < IDS ? model->next_id : 8));
    change->kind = (enum change_kind)(1 + prng_below(prng, 6));
    if (change->kind > CHANGE_MEMBER_REMOVE) change->kind = CHANGE_MEMBER_FORGOT;
    if (change->kind == CHANGE_MEMBER_ADD && !prng_one_in(prng, 8)) id = model->next_id;
    if (id >= IDS) id = IDS - 1;
    change->member = maker_member(maker, (node_id)id, prng_below(prng, 3));
    change->member.state = (enum member_state)prng_below(prng, 3);
    if (change->member.state == MEMBER_EXCLUDED && !prng_one_in(prng, 3)) {
        change->member.state = MEMBER_ACTIVE;
    }
    change->member.leaving = prng_one_in(prng, 3);
    change->forced = prng_one_in(prng, 6);
}

static void random_next(struct prng *prng, const struct model *model, struct change *change)
{
    int wanted = staying(model) < model->factor ? staying(model) : model->factor;
    if (prng_one_in(prng, 10)) wanted = 1 + (int)prng_below(prng, RANGEMAP_OWNERS_MAX);
    bool has[IDS] = {false};
    for (int tries = 0; tries < 200 && change->next_count < wanted; tries++) {
        int id = 1 + (int)prng_below(prng, (uint32_t)model->next_id);
        const struct model_member *member = &model->members[id < IDS ? id : 1];
        bool fits = member->present && !member->leaving && member->state == MEMBER_ACTIVE;
        if (id >= IDS || has[id] || (!fits && !prng_one_in(prng, 60))) continue;
        has[id] = true;
        change->next_count++;
    }
    int at = 0;
    for (int id = 0; id < IDS; id++) {
        if (has[id]) change->next[at++] = (node_id)id;
    }
    if (change->next_count == 0) change->next[change->next_count++] = 1;
}

/* A low that fits the kind most of the time: a cut in the right stage, or none for a split. */
static int random_low(struct prng *prng, const struct model *model, enum change_kind kind)
{
    int at = 0;
    for (int tries = 0; tries < 50; tries++) {
        at = (int)prng_below(prng, KEYS);
        const struct model_key *key = &model->keys[at];
        if (kind == CHANGE_SPLIT ? !key->cut : key->cut) {
            if (kind <= CHANGE_MERGE) return at;
            bool stage = kind == CHANGE_BEGIN    ? key->stage == SHARD_STABLE
                         : kind == CHANGE_SWITCH ? key->stage == SHARD_FILLING
                                                 : key->stage == SHARD_SWITCHED;
            if (stage || (kind == CHANGE_ABORT && key->stage == SHARD_FILLING)) return at;
        }
        if (prng_one_in(prng, 30)) break;
    }
    return at;
}

static void random_change(struct prng *prng, struct maker *maker, const struct model *model,
                          uint8_t *low, struct change *change)
{
    *change = (struct change){.forced = prng_one_in(prng, 5)};
    uint32_t roll = prng_below(prng, 20);
    if (roll < 4) {
        random_member_change(prng, maker, model, change);
        return;
    }
    if (roll == 4) {
        change->kind = CHANGE_SETTINGS;
        change->settings = rangemap_settings_default;
        change->settings.replication_factor = (uint8_t)(1 + prng_below(prng, 5));
        uint32_t quorums = change->settings.replication_factor + 1u;
        change->settings.write_quorum = (uint8_t)prng_below(prng, quorums);
        change->settings.read_quorum = (uint8_t)prng_below(prng, quorums);
        return;
    }
    static const enum change_kind kinds[] = {CHANGE_SPLIT,  CHANGE_MERGE,  CHANGE_BEGIN,
                                             CHANGE_SWITCH, CHANGE_FINISH, CHANGE_ABORT};
    change->kind = kinds[prng_below(prng, 6)];
    int at = random_low(prng, model, change->kind);
    *low = (uint8_t)('A' + at);
    change->low = slice_of(low, at == 0 ? 0 : 1);
    if (change->kind == CHANGE_BEGIN) random_next(prng, model, change);
}

static void random_history(uint64_t seed, int taken[CHANGE_MEMBER_FORGOT + 1])
{
    struct prng prng = {.state = seed};
    struct maker maker;
    struct rangemap_settings settings = rangemap_settings_default;
    maker_init(&maker, &settings);
    static struct model model;
    model = (struct model){.next_id = 2, .number = 1, .factor = 3};
    model.members[1].present = true;
    for (int i = 0; i < KEYS; i++) {
        struct model_key *key = &model.keys[i];
        *key = (struct model_key){.began = 1, .cut = i == 0};
        key->owners = (struct model_set){.write_quorum = 1, .read_quorum = 1};
        key->owners.has[1] = true;
    }

    for (int step = 0; step < STEPS; step++) {
        static struct model tried;
        tried = model;
        tried.number++;
        tried.splits = 0;
        bool valid = true;
        int kinds[4], changes = 1 + (int)prng_below(&prng, 4);
        for (int i = 0; i < changes; i++) {
            struct change change;
            uint8_t low;
            random_change(&prng, &maker, &tried, &low, &change);
            kinds[i] = (int)change.kind;
            valid = valid && model_change(&tried, &change);
            rangemap_delta_add(&maker.delta, &change);
        }
        valid = valid && staying(&tried) > 0;
        struct hash128 before = rangemap_identity(maker.map)->hash;
        enum status status = maker_commit(&maker);
        EXPECT(status == (valid ? STATUS_OK : STATUS_INVALID));
        EXPECT(valid || maker.why != NULL);
        if (!valid) {
            EXPECT(hash128_equal(before, rangemap_identity(maker.map)->hash));
            continue;
        }
        model = tried;
        for (int i = 0; i < changes; i++) taken[kinds[i]]++;
        EXPECT(rangemap_identity(maker.map)->number == model.number);
        EXPECT(hash128_equal(before, rangemap_identity(maker.map)->predecessor));
        for (int i = 0; i < KEYS; i++) check_key(maker.map, &model, i);
        check_members(maker.map, &model);
        check_ranges(maker.map, &prng);
        check_bytes(&maker);
    }
    maker_deinit(&maker);
}

TEST_CASE(a_map_is_what_the_model_says_after_random_deltas)
{
    int taken[CHANGE_MEMBER_FORGOT + 1] = {0};
    for (uint64_t round = 0; round < ROUNDS; round++) random_history(test_seed + round, taken);
    for (int kind = 1; kind <= CHANGE_MEMBER_FORGOT; kind++) {
        printf("kind %d: %d taken\n", kind, taken[kind]);
        EXPECT(taken[kind] > 20);
    }
}

TEST_MAIN(TEST(a_map_is_what_the_model_says_after_random_deltas))
