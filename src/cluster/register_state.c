#include "cluster/register_state.h"

enum { STATE_VERSION = 1 };

void register_state_encode(const struct register_state *state, struct buf *out)
{
    buf_append_u8(out, STATE_VERSION);
    buf_append_varint(out, state->generation.number);
    buf_append_u64le(out, state->generation.id);
    buf_append_varint(out, state->number);
    buf_append_u64le(out, state->hash.low);
    buf_append_u64le(out, state->hash.high);
    ballot_encode(state->promised, out);
    ballot_encode(state->accepted, out);
    if (!ballot_is_none(state->accepted)) register_value_encode(state->value, out);
    buf_append_u8(out, state->has_decision);
    if (state->has_decision) register_value_encode(state->decision, out);
}

/* What the layout alone does not say. */
static bool keeps_rules(const struct register_state *state)
{
    if (state->generation.number == 0 || state->number == 0) return false;
    /* The first map was made by nobody's decision. */
    if (state->number == 1 && state->has_decision) return false;
    if (!ballot_is_none(state->accepted) && !hash128_equal(state->value.predecessor, state->hash)) {
        return false;
    }
    return ballot_compare(state->accepted, state->promised) <= 0;
}

enum status register_state_decode(struct slice bytes, struct register_state *out)
{
    struct reader reader = reader_of(bytes);
    struct register_state state = {0};
    uint8_t version = reader_u8(&reader);
    if (version > STATE_VERSION) return STATUS_NEWER;
    if (version != STATE_VERSION) return STATUS_CORRUPT;
    state.generation.number = reader_varint(&reader);
    state.generation.id = reader_u64le(&reader);
    state.number = reader_varint(&reader);
    state.hash.low = reader_u64le(&reader);
    state.hash.high = reader_u64le(&reader);
    state.promised = ballot_read(&reader);
    state.accepted = ballot_read(&reader);
    if (!ballot_is_none(state.accepted)) state.value = register_value_read(&reader);
    uint8_t has_decision = reader_u8(&reader);
    state.has_decision = has_decision == 1;
    if (state.has_decision) state.decision = register_value_read(&reader);
    if (reader.failed || reader_left(&reader) != 0) return STATUS_CORRUPT;
    if (has_decision > 1 || !keeps_rules(&state)) return STATUS_CORRUPT;
    *out = state;
    return STATUS_OK;
}
