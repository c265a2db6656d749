#include "node/topology.h"

#include <stdio.h>

#include "node/replica_private.h"
#include "proto/json_write.h"

bool topology_serves(const struct replica *replica)
{
    return replica_serves(replica);
}

bool topology_is_up(const struct replica *replica, node_id id)
{
    return id != replica->self.id && !replica_is_down(replica, id);
}

static void write_map(const struct replica *replica, struct json_writer *writer)
{
    const struct rangemap_identity *identity = rangemap_identity(replica->map);
    char text[17];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)identity->generation_id);
    json_write_named_text(writer, "cluster", text);
    json_write_named_u64(writer, "generation", identity->generation);
    json_write_named_u64(writer, "map", identity->number);
}

/* --- Nodes --- */

static const char *health_name(const struct replica *replica, node_id id)
{
    static const char *const names[] = {
        [HEALTH_ALIVE] = "alive", [HEALTH_SUSPECT] = "suspect", [HEALTH_DOWN] = "down"};
    return id == replica->self.id ? "alive" : names[health_of(replica->health, id).state];
}

static uint64_t acknowledged_by(const struct replica *replica, node_id id)
{
    const struct health_card *card = health_card_of(replica->health, id);
    if (id == replica->self.id) return replica->topology.acknowledged;
    return card == NULL ? 0 : card->acknowledged;
}

/* Shards that it owns, or is about to. */
static void count_shards(const struct replica *replica, node_id id, uint64_t *owned, uint64_t *next)
{
    *owned = *next = 0;
    for (size_t i = 0; i < rangemap_shard_count(replica->map); i++) {
        struct shard shard = rangemap_shard(replica->map, i);
        *owned += owners_contain(&shard.owners, id);
        *next += owners_contain(&shard.next, id) && !owners_contain(&shard.owners, id);
    }
}

static void write_node(const struct replica *replica, struct json_writer *writer,
                       const struct member *member)
{
    static const char *const states[] = {[MEMBER_ACTIVE] = "active",
                                         [MEMBER_SUSPENDED] = "suspended",
                                         [MEMBER_EXCLUDED] = "excluded"};
    uint64_t owned, next;
    count_shards(replica, member->id, &owned, &next);
    json_write_object_begin(writer);
    json_write_named_u64(writer, "id", member->id);
    json_write_named_string(writer, "address", member->address);
    json_write_named_string(writer, "zone", member->zone);
    json_write_named_text(writer, "state", states[member->state]);
    json_write_named_text(writer, "health", health_name(replica, member->id));
    json_write_name(writer, "leaving");
    json_write_bool(writer, member->leaving);
    json_write_name(writer, "self");
    json_write_bool(writer, member->id == replica->self.id);
    json_write_named_u64(writer, "weight", member->capacity);
    json_write_named_u64(writer, "ranges", owned);
    json_write_named_u64(writer, "ranges_to_come", next);
    json_write_named_u64(writer, "map", acknowledged_by(replica, member->id));
    json_write_object_end(writer);
}

static void write_nodes(const struct replica *replica, struct json_writer *writer)
{
    json_write_name(writer, "nodes");
    json_write_array_begin(writer);
    for (size_t i = 0; i < rangemap_member_count(replica->map); i++) {
        struct member member = rangemap_member(replica->map, i);
        write_node(replica, writer, &member);
    }
    json_write_array_end(writer);
}

/* --- Ranges --- */

static void write_owners(struct json_writer *writer, const char *name, const struct owners *owners)
{
    json_write_name(writer, name);
    json_write_array_begin(writer);
    for (uint8_t i = 0; i < owners->count; i++) json_write_u64(writer, owners->ids[i]);
    json_write_array_end(writer);
}

static void write_range(struct json_writer *writer, const struct shard *shard)
{
    static const char *const stages[] = {
        [SHARD_STABLE] = "stable", [SHARD_FILLING] = "filling", [SHARD_SWITCHED] = "switched"};
    json_write_object_begin(writer);
    json_write_named_string(writer, "low", shard->low);
    json_write_named_string(writer, "high", shard->high);
    json_write_named_text(writer, "stage", stages[shard->stage]);
    write_owners(writer, "owners", &shard->owners);
    if (shard->stage != SHARD_STABLE) write_owners(writer, "next", &shard->next);
    json_write_object_end(writer);
}

/* Of a node, or, 0, of all. */
static void write_ranges(const struct replica *replica, struct json_writer *writer, size_t first,
                         size_t end, node_id of)
{
    json_write_name(writer, "ranges");
    json_write_array_begin(writer);
    for (size_t i = first; i < end; i++) {
        struct shard shard = rangemap_shard(replica->map, i);
        bool wanted = of == 0 || owners_contain(&shard.owners, of) ||
                      owners_contain(&shard.next, of);
        if (wanted) write_range(writer, &shard);
    }
    json_write_array_end(writer);
}

void topology_answer(const struct replica *replica, struct node_question *question)
{
    struct json_writer writer = json_writer_of(&question->entries);
    size_t first = 0, end = rangemap_shard_count(replica->map);
    struct member member;
    buf_clear(&question->entries);
    question->outcome = REQUEST_DONE;
    if (question->node != 0 && !rangemap_member_find(replica->map, question->node, &member)) {
        question->outcome = REQUEST_ABSENT;
        return;
    }
    if (question->endpoint == NODE_SEARCH_NODES)
        rangemap_find_prefix(replica->map, question->request.key, &first, &end);
    json_write_object_begin(&writer);
    write_map(replica, &writer);
    if (question->endpoint == NODE_NODES) {
        json_write_named_u64(&writer, "replication_factor",
                             rangemap_settings(replica->map)->replication_factor);
        json_write_named_u64(&writer, "effective_replication_factor",
                             rangemap_effective_factor(replica->map));
        write_nodes(replica, &writer);
    } else {
        write_ranges(replica, &writer, first, end, question->node);
    }
    json_write_object_end(&writer);
    if (buf_status(&question->entries) == STATUS_OK) return;
    question->outcome = REQUEST_REFUSED;
    question->status = STATUS_NOMEM;
    buf_deinit(&question->entries);
}
