#include "cluster/token.h"

#include <limits.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/math.h"

void token_encode(const struct token *token, struct buf *out)
{
    buf_append_u8(out, token->lost);
    buf_append_u8(out, token->count);
    for (size_t i = 0; i < token->count; i++) {
        const struct token_group *group = &token->groups[i];
        buf_append_u8(out, group->count);
        for (size_t j = 0; j < group->count; j++) {
            buf_append_u16le(out, group->places[j].node);
            buf_append_u64le(out, group->places[j].incarnation);
            buf_append_varint(out, group->places[j].sequence);
        }
    }
}

static bool read_group(struct reader *reader, struct token_group *group)
{
    node_id before = 0;
    group->count = reader_u8(reader);
    if (group->count == 0 || group->count > TOKEN_PLACES_MAX) return false;
    for (size_t i = 0; i < group->count; i++) {
        struct token_place *place = &group->places[i];
        place->node = reader_u16le(reader);
        place->incarnation = reader_u64le(reader);
        place->sequence = reader_varint(reader);
        if (reader->failed || place->node <= before || place->sequence == 0) return false;
        before = place->node;
    }
    return true;
}

enum status token_decode(struct slice bytes, struct token *token)
{
    struct reader reader = reader_of(bytes);
    struct token decoded = {0};
    uint8_t lost = reader_u8(&reader);
    decoded.lost = lost == 1;
    decoded.count = reader_u8(&reader);
    if (lost > 1 || decoded.count > (decoded.lost ? 0 : TOKEN_GROUPS_MAX)) return STATUS_INVALID;
    for (size_t i = 0; i < decoded.count; i++)
        if (!read_group(&reader, &decoded.groups[i])) return STATUS_INVALID;
    if (reader.failed || reader_left(&reader) != 0) return STATUS_INVALID;
    *token = decoded;
    return STATUS_OK;
}

static const struct token_place *place_of(const struct token_group *group, node_id node)
{
    for (size_t i = 0; i < group->count; i++)
        if (group->places[i].node == node) return &group->places[i];
    return NULL;
}

bool token_group_put(struct token_group *group, struct token_place place)
{
    size_t at = 0;
    while (at < group->count && group->places[at].node < place.node) at++;
    if (at == group->count || group->places[at].node != place.node) {
        if (group->count == TOKEN_PLACES_MAX) return false;
        for (size_t i = group->count++; i > at; i--) group->places[i] = group->places[i - 1];
    }
    group->places[at] = place;
    return true;
}

/* What both have, of the same disk, each as far as the further. */
static struct token_group shared(const struct token_group *a, const struct token_group *b)
{
    struct token_group out = {0};
    for (size_t i = 0; i < a->count; i++) {
        const struct token_place *other = place_of(b, a->places[i].node);
        if (other == NULL || other->incarnation != a->places[i].incarnation) continue;
        out.places[out.count] = a->places[i];
        out.places[out.count].sequence = u64_max(a->places[i].sequence, other->sequence);
        out.count++;
    }
    return out;
}

void token_add(struct token *token, const struct token_group *group)
{
    CHECK(group->count > 0);
    struct token_group added = *group;
    for (size_t i = 0; i < token->count; i++) {
        struct token_group both = shared(&token->groups[i], &added);
        if (both.count == 0) continue;
        added = both;
        for (size_t j = i--; j + 1 < token->count; j++) token->groups[j] = token->groups[j + 1];
        token->count--;
    }
    if (token->lost) return;
    if (token->count == TOKEN_GROUPS_MAX) {
        *token = (struct token){.lost = true};
        return;
    }
    token->groups[token->count++] = added;
}

unsigned token_fit(const struct token *token, const struct owners *owners, node_id *ids,
                   unsigned count)
{
    unsigned fit = count;
    bool matters = token->lost;
    if (token->lost) return 0;
    for (size_t i = 0; i < token->count; i++) {
        const struct token_group *group = &token->groups[i];
        bool owned = false;
        for (size_t j = 0; j < group->count; j++)
            owned = owned || owners_contain(owners, group->places[j].node);
        if (!owned) continue;
        matters = true;
        unsigned kept = 0;
        for (unsigned j = 0; j < fit; j++) {
            node_id id = ids[j];
            if (place_of(group, id) == NULL) continue;
            for (unsigned k = j; k > kept; k--) ids[k] = ids[k - 1];
            ids[kept++] = id;
        }
        fit = kept;
    }
    return matters ? fit : UINT_MAX;
}

uint64_t token_sequence(const struct token *token, node_id node)
{
    uint64_t sequence = 0;
    for (size_t i = 0; i < token->count; i++) {
        const struct token_place *place = place_of(&token->groups[i], node);
        if (place != NULL) sequence = u64_max(sequence, place->sequence);
    }
    return sequence;
}
