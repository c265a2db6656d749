/* Writes a decoded message of health again: what was taken has only these bytes. */
#pragma once

#include "cluster/health_message.h"
#include "cluster/outbox.h"

static inline void rewrite_opinions(struct health_list list, struct buf *out)
{
    struct health_opinion opinion;
    node_id previous = 0;
    buf_append_varint(out, list.left);
    while (health_next_opinion(&list, &opinion)) health_append_opinion(out, &previous, &opinion);
}

static inline void rewrite_cards(struct health_list list, struct buf *out)
{
    struct health_card card;
    node_id previous = 0;
    bool full;
    buf_append_varint(out, list.left);
    while (health_next_card(&list, &card, &full)) health_append_card(out, &previous, &card, full);
}

static inline void rewrite_wants(struct health_list list, struct buf *out)
{
    node_id id, previous = 0;
    bool full;
    buf_append_varint(out, list.left);
    while (health_next_want(&list, &id, &full)) health_append_want(out, &previous, id, full);
}

static inline void rewrite_stamps(struct health_list list, struct buf *out)
{
    struct health_stamp stamp;
    node_id previous = 0;
    buf_append_varint(out, list.left);
    while (health_next_stamp(&list, &stamp)) health_append_stamp(out, &previous, &stamp);
}

static inline void health_rewrite(const struct health_message *message, struct buf *out)
{
    buf_append_u8(out, PROTOCOL_HEALTH);
    health_append_head(out, message->kind, message->cluster, message->generation, &message->sender,
                       message->depth);
    bool about = message->kind == HEALTH_RELAY || message->kind == HEALTH_RELAYED ||
                 message->kind == HEALTH_SILENT;
    bool nonce = message->kind != HEALTH_STAMPS && message->kind != HEALTH_CARDS;
    if (nonce) buf_append_u32le(out, message->nonce);
    if (about) buf_append_varint(out, message->target);
    switch (message->kind) {
    case HEALTH_DIGEST:
        buf_append_u8(out, (uint8_t)message->bits);
        buf_append_slice(out, message->digest);
        return;
    case HEALTH_STAMPS:
        buf_append_u8(out, (uint8_t)message->bits);
        buf_append_slice(out, message->buckets);
        rewrite_stamps(message->stamps, out);
        return;
    case HEALTH_CARDS:
        rewrite_wants(message->wants, out);
        break;
    default:
        break;
    }
    rewrite_opinions(message->opinions, out);
    rewrite_cards(message->cards, out);
}
