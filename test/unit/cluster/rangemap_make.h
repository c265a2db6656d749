/* Maps for tests: members by number, deltas by one call a change, and a map in words. */
#pragma once

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "cluster/rangemap_delta.h"

/* A map that is replaced by its next versions. */
struct maker {
    struct heap heap;
    struct rangemap *map;
    struct buf delta;
    const char *why;
    char zones[8][4];
};

static inline struct member maker_member(struct maker *maker, node_id id, unsigned zone)
{
    snprintf(maker->zones[zone], sizeof maker->zones[zone], "z%u", zone);
    return (struct member){
        .id = id,
        .incarnation = 1000 + id,
        .capacity = 100,
        .zone = slice_from_text(maker->zones[zone]),
        .address = SLICE_LITERAL("node:7400"),
    };
}

/* One member, in zone 0. */
static inline void maker_init(struct maker *maker, const struct rangemap_settings *settings)
{
    *maker = (struct maker){.map = NULL};
    heap_init(&maker->heap, 0);
    buf_init(&maker->delta, &maker->heap);
    struct member first = maker_member(maker, 1, 0);
    CHECK(rangemap_create(&maker->heap, 77, settings, &first, &maker->map) == STATUS_OK);
    rangemap_delta_begin(maker->map, &maker->delta);
}

static inline void maker_deinit(struct maker *maker)
{
    rangemap_unref(maker->map);
    buf_deinit(&maker->delta);
    CHECK(heap_used_bytes(&maker->heap) == 0);
}

/* Applies what was added since the last commit; on an error the map stays. */
static inline enum status maker_commit(struct maker *maker)
{
    struct rangemap *next = NULL;
    maker->why = NULL;
    enum status status = rangemap_apply(maker->map, buf_slice(&maker->delta), &maker->why, &next);
    if (status == STATUS_OK) {
        rangemap_unref(maker->map);
        maker->map = next;
    }
    rangemap_delta_begin(maker->map, &maker->delta);
    return status;
}

static inline void maker_add_member(struct maker *maker, node_id id, unsigned zone)
{
    struct change change = {.kind = CHANGE_MEMBER_ADD, .member = maker_member(maker, id, zone)};
    rangemap_delta_add(&maker->delta, &change);
}

static inline void maker_state(struct maker *maker, node_id id, enum member_state state,
                               bool forced)
{
    struct change change = {.kind = CHANGE_MEMBER_STATE, .forced = forced};
    change.member.id = id;
    change.member.state = state;
    rangemap_delta_add(&maker->delta, &change);
}

static inline void maker_leaving(struct maker *maker, node_id id, bool leaving)
{
    struct change change = {.kind = CHANGE_MEMBER_LEAVING};
    change.member.id = id;
    change.member.leaving = leaving;
    rangemap_delta_add(&maker->delta, &change);
}

static inline void maker_remove(struct maker *maker, node_id id)
{
    struct change change = {.kind = CHANGE_MEMBER_REMOVE, .member = {.id = id}};
    rangemap_delta_add(&maker->delta, &change);
}

static inline void maker_settings(struct maker *maker, const struct rangemap_settings *settings)
{
    struct change change = {.kind = CHANGE_SETTINGS, .settings = *settings};
    rangemap_delta_add(&maker->delta, &change);
}

/* SPLIT, MERGE, SWITCH, FINISH, ABORT. */
static inline void maker_at(struct maker *maker, enum change_kind kind, const char *low)
{
    struct change change = {.kind = kind, .low = slice_from_text(low)};
    rangemap_delta_add(&maker->delta, &change);
}

/* `next` ends with 0. */
static inline void maker_begin(struct maker *maker, const char *low, const node_id *next)
{
    struct change change = {.kind = CHANGE_BEGIN, .low = slice_from_text(low)};
    while (next[change.next_count] != 0) {
        change.next[change.next_count] = next[change.next_count];
        change.next_count++;
    }
    rangemap_delta_add(&maker->delta, &change);
}

static inline void print_owners(struct buf *out, const struct owners *owners)
{
    for (size_t i = 0; i < owners->count; i++) buf_printf(out, " %u", (unsigned)owners->ids[i]);
    buf_printf(out, " w%u r%u", (unsigned)owners->write_quorum, (unsigned)owners->read_quorum);
}

/* One line a shard: "[a, b) filling@3: 1 2 w2 r2 > 1 3 w2 r2". */
static inline void print_shards(const struct rangemap *map, struct buf *out)
{
    static const char *const stages[] = {"stable", "filling", "switched"};
    for (size_t i = 0; i < rangemap_shard_count(map); i++) {
        struct shard shard = rangemap_shard(map, i);
        buf_append_text(out, "[");
        buf_append_slice(out, shard.low);
        buf_append_text(out, ", ");
        buf_append_slice(out, shard.high);
        buf_printf(out, ") %s@%llu:", stages[shard.stage], (unsigned long long)shard.began);
        print_owners(out, &shard.owners);
        if (shard.next.count > 0) {
            buf_append_text(out, " >");
            print_owners(out, &shard.next);
        }
        buf_append_text(out, "\n");
    }
}

/* The shards are as `story` says; else both are shown. */
static inline bool maker_shows(struct maker *maker, const char *story)
{
    struct buf shown;
    buf_init(&shown, &maker->heap);
    print_shards(maker->map, &shown);
    bool same = slice_equal(buf_slice(&shown), slice_from_text(story));
    if (!same) fprintf(stderr, "%.*sinstead of\n%s", (int)shown.size, (char *)shown.data, story);
    buf_deinit(&shown);
    return same;
}
