#include "shell/host.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/math.h"
#include "cluster/outbox.h"
#include "node/topology.h"
#include "shell/clock.h"
#include "shell/host_private.h"
#include "shell/log_line.h"
#include "store/identity.h"
#include "store/names.h"

enum { ENVELOPE_BYTES = 8 }; /* Before a message's protocol: what time it is at its sender. */

struct replica_time host_time(void)
{
    return (struct replica_time){clock_monotonic_us() / 1000, clock_wall_ms()};
}

static void set_state(struct host *host, enum host_state state)
{
    atomic_store_explicit(&host->state, state, memory_order_relaxed);
}

enum host_state host_state(const struct host *host)
{
    return atomic_load_explicit(&host->state, memory_order_relaxed);
}

uint16_t host_peer_port(const struct host *host)
{
    return host->port;
}

static uint64_t draw(void)
{
    uint64_t value = 0;
    while (value == 0)
        if (getrandom(&value, sizeof value, 0) != (ssize_t)sizeof value) value = 0;
    return value;
}

static void trace_line(void *context, const char *line)
{
    (void)context;
    log_line(LOG_LEVEL_DEBUG, "cluster.trace", log_text("what", line));
}

/* --- Other nodes --- */

static void note_unreached(struct host *host, node_id id)
{
    for (size_t i = 0; i < host->unreached_count; i++)
        if (host->unreached[i] == id) return;
    if (host->unreached_count < HOST_GONE_MAX) host->unreached[host->unreached_count++] = id;
}

static void send_to(void *context, node_id to, struct slice bytes)
{
    struct host *host = context;
    /* Files of ranges that move wait for what is urgent. */
    bool bulk = bytes.data[ENVELOPE_BYTES] == PROTOCOL_TRANSFER &&
                bytes.size <= PEER_BULK_BYTES_MAX;
    if (host->peers_closed) return;
    enum status status = peers_send(host->peers, to, bulk ? PEER_BULK : PEER_URGENT, bytes);
    /* It is lost, as the network may lose it; peers count that. */
    if (status == STATUS_BUSY) note_unreached(host, to);
}

static bool on_address(void *context, uint16_t id, char *out)
{
    const struct host *host = context;
    struct member member;
    if (id == 0) {
        const char *seed = host->options.seeds[host->seed];
        if (strlen(seed) > PEERS_ADDRESS_BYTES_MAX) return false;
        strcpy(out, seed);
        return true;
    }
    if (host->replica == NULL || !rangemap_member_find(replica_map(host->replica), id, &member))
        return false;
    memcpy(out, member.address.data, member.address.size);
    out[member.address.size] = '\0';
    return true;
}

/* Whoever fits is heard; what counts of it the replica knows. Who came after our map is no member by
 * it, and who is none any more has to be told. */
static bool on_admit(void *context, const struct peer_hello *hello, const char **why)
{
    const struct host *host = context;
    struct member member;
    if (hello->id == 0 || host->replica == NULL) return true;
    if (!rangemap_member_find(replica_map(host->replica), hello->id, &member)) return true;
    *why = "the id belongs to another data directory";
    return member.incarnation == hello->incarnation;
}

/* A directory that wants to join. */
static void answer_join(struct host *host, struct slice ask)
{
    struct buf answer = {.heap = host->heap};
    if (replica_join_answer(host->replica, host_time(), ask, &answer)) {
        enum status status = peers_answer(host->peers, PEER_URGENT, buf_slice(&answer));
        (void)status; /* It asks again. */
    }
    buf_deinit(&answer);
}

static void on_message(void *context, const struct peer_hello *from, enum peer_lane lane,
                       struct slice message)
{
    struct host *host = context;
    if (host->replica == NULL) {
        /* Of others that join themselves nothing is of use. */
        if (from->id == 0 || host_state(host) != HOST_JOINS) return;
        buf_clear(&host->answer);
        buf_append_slice(&host->answer, message);
        return;
    }
    if (host_leave_message(host, from, message)) return;
    if (from->id == 0) {
        answer_join(host, message);
    } else {
        replica_message(host->replica, host_time(), from->id, message);
        host_leave_heard(host, from);
    }
    if (lane == PEER_BULK) peers_consumed(host->peers, from->id, message.size);
}

/* It may be the replica that speaks just now. */
static void on_gone(void *context, uint16_t id)
{
    struct host *host = context;
    host_leave_lost(host, id);
    note_unreached(host, id);
    if (host->gone_count < HOST_GONE_MAX) host->gone[host->gone_count++] = id;
}

static void tell_gone(struct host *host)
{
    for (size_t i = 0; host->replica != NULL && i < host->gone_count; i++)
        replica_peer_gone(host->replica, host->gone[i]);
    host->gone_count = 0;
    size_t kept = 0;
    for (size_t i = 0; host->replica != NULL && i < host->unreached_count; i++) {
        if (!peers_is_pausing(host->peers, host->unreached[i])) continue;
        replica_peer_gone(host->replica, host->unreached[i]);
        host->unreached[kept++] = host->unreached[i];
    }
    host->unreached_count = kept;
}

/* --- Becoming a member --- */

/* A recovery draws the low half of the id anew, and the number of the generation is the replica's to compare:
 * who was left behind has to be told, and who comes back from before has to hear of it. */
static uint64_t cluster_of(const struct rangemap_identity *identity)
{
    return identity->generation_id | UINT32_MAX;
}

static void introduce(struct host *host)
{
    const struct rangemap_identity *identity = rangemap_identity(replica_map(host->replica));
    struct identity self = replica_identity(host->replica);
    peers_introduce(host->peers, &(struct peer_hello){
                                     .cluster = cluster_of(identity),
                                     .id = self.id,
                                     .incarnation = self.incarnation,
                                     .boot = self.boot,
                                     .window = PEER_WINDOW_BYTES,
                                     .process = host->process,
                                 });
    char cluster[17];
    snprintf(cluster, sizeof cluster, "%016llx", (unsigned long long)identity->generation_id);
    log_line(LOG_LEVEL_INFO, "cluster.member", log_text("cluster", cluster),
             log_number("node", self.id), log_number("boot", self.boot),
             log_number("map", identity->number), log_text("peer", host->address),
             log_text("zone", host->options.zone));
    set_state(host, HOST_STARTS);
}

/* With a map and an id, or, without, with those that the directory has. `founds`: nothing was written to this cluster
 * yet but what is here. */
static enum status create(struct host *host, struct rangemap *map, node_id id, bool founds)
{
    struct replica_options options = {
        .heap = host->heap,
        .store = host->store,
        .sink = {send_to, host_works_reply, host},
        .trace = host->options.trace ? &host->trace : NULL,
        .seed = draw(),
        .self = {.id = id, .incarnation = host->incarnation, .boot = 1},
        .map = map,
        .founds = founds,
    };
    return replica_create(&options, host_time(), &host->replica);
}

static struct member self_as_member(const struct host *host)
{
    return (struct member){
        .incarnation = host->incarnation,
        .capacity = HOST_CAPACITY,
        .zone = slice_from_text(host->options.zone),
        .address = slice_from_text(host->address),
    };
}

static enum status found(struct host *host)
{
    struct rangemap *map;
    struct member self = self_as_member(host);
    enum status status = rangemap_create(host->heap, draw(), &host->options.settings, &self, &map);
    if (status != STATUS_OK) return status;
    log_line(LOG_LEVEL_INFO, "cluster.founded", log_text("peer", host->address));
    status = create(host, map, rangemap_member(map, 0).id, true);
    rangemap_unref(map);
    if (status == STATUS_OK) introduce(host);
    return status;
}

static void take_answer(struct host *host)
{
    struct rangemap *map;
    node_id id;
    enum status status =
        replica_join_take(host->heap, buf_slice(&host->answer), host->incarnation, &map, &id);
    buf_deinit(&host->answer);
    if (status != STATUS_OK) return; /* It asks again. */
    status = create(host, map, id, false);
    rangemap_unref(map);
    if (status == STATUS_OK)
        introduce(host);
    else
        log_line(LOG_LEVEL_WARN, "cluster.join_failed", log_text("status", status_name(status)));
}

/* The next seed but this node itself, another one than the last. */
static bool next_seed(struct host *host)
{
    for (size_t i = 0; i < host->options.seed_count; i++) {
        host->seed = (host->seed + 1) % host->options.seed_count;
        if (strcmp(host->options.seeds[host->seed], host->address) != 0) return true;
    }
    return false;
}

static void ask_to_join(struct host *host, uint64_t now_ms)
{
    struct buf ask = {.heap = host->heap};
    struct member self = self_as_member(host);
    host->ask_ms = now_ms + HOST_ASK_MS;
    peers_hang_up(host->peers, 0);
    if (!next_seed(host)) return;
    replica_join_ask(&self, 0, &ask);
    if (buf_status(&ask) == STATUS_OK) {
        enum status status = peers_send(host->peers, 0, PEER_URGENT, buf_slice(&ask));
        (void)status; /* Another seed is asked next. */
    }
    buf_deinit(&ask);
}

static void join(struct host *host)
{
    uint64_t now_ms = host_time().now_ms;
    if (host->answer.size > 0) {
        take_answer(host);
        return;
    }
    if (host->founds && now_ms >= host->found_ms) {
        enum status status = found(host);
        if (status == STATUS_OK) return;
        host->found_ms = now_ms + HOST_ASK_MS;
        log_line(LOG_LEVEL_WARN, "cluster.found_failed", log_text("status", status_name(status)));
    }
    if (now_ms >= host->ask_ms) ask_to_join(host, now_ms);
}

/* --- Turns of the writer --- */

static void note_map(struct host *host)
{
    const struct rangemap *map = replica_map(host->replica);
    struct identity self = replica_identity(host->replica);
    struct member member;
    const struct rangemap_identity *identity = rangemap_identity(map);
    if (identity->number == host->map_number && identity->generation == host->map_generation)
        return;
    host->map_number = identity->number;
    host->map_generation = identity->generation;
    log_line(LOG_LEVEL_DEBUG, "cluster.map", log_number("number", identity->number),
             log_number("members", rangemap_member_count(map)),
             log_number("shards", rangemap_shard_count(map)));
    bool is_member = rangemap_member_find(map, self.id, &member) &&
                     member.incarnation == self.incarnation && member.state != MEMBER_EXCLUDED;
    if (!is_member && host_state(host) != HOST_KEPT_OUT) {
        log_line(LOG_LEVEL_WARN, "cluster.kept_out", log_number("node", self.id),
                 log_text("reason", "the map names this node as a member no more"));
        set_state(host, HOST_KEPT_OUT);
    }
}

/* Once its start is durable. */
static void note_part(struct host *host)
{
    enum host_state state = host_state(host);
    enum host_state is = topology_serves(host->replica) ? HOST_TAKES_PART : HOST_AWAY;
    if ((state == HOST_TAKES_PART || state == HOST_AWAY) && state != is) set_state(host, is);
}

/* Warns once a clock is wrong by a tenth of what is refused, and says when it is right again. */
static void watch_clock(struct host *host, uint64_t skew_ms, uint64_t skew_ms_max)
{
    bool is_off = skew_ms >= skew_ms_max / 10;
    if (is_off == host->clock_is_off) return;
    host->clock_is_off = is_off;
    log_line(is_off ? LOG_LEVEL_WARN : LOG_LEVEL_INFO, is_off ? "clock.off" : "clock.right",
             log_number("skew_ms", skew_ms), log_number("refused_from_ms", skew_ms_max));
}

static void note_facts(struct host *host, uint64_t now_ms)
{
    struct replica_stats stats;
    struct peers_stats peers;
    const struct rangemap *map = replica_map(host->replica);
    if (now_ms - host->facts_ms < HOST_FACTS_MS) return;
    host->facts_ms = now_ms;
    replica_stats(host->replica, &stats);
    peers_stats(host->peers, &peers);
    struct node_cluster_facts facts = {
        .node = replica_identity(host->replica).id,
        .map_number = rangemap_identity(map)->number,
        .members = rangemap_member_count(map),
        .ranges = rangemap_shard_count(map),
        .requests = stats.flow_count,
        .hints = stats.hint_count,
        .held = stats.held_count,
        .invalid = stats.invalid_count,
        .repair_sessions = stats.repair_session_count,
        .repaired = stats.repaired_count,
        .hedged = stats.hedge_count,
        .restamped = stats.restamp_count,
        .peers_connected = peers.connected_count,
        .peers_sent_bytes = peers.sent_bytes,
        .peers_received_bytes = peers.received_bytes,
        .peers_lost = peers.lost_count,
        .clock_skew_ms = stats.clock_skew_ms,
        .stamps = stats.stamps,
    };
    watch_clock(host, stats.clock_skew_ms, rangemap_settings(map)->max_clock_skew_ms);
    pthread_mutex_lock(&host->mutex);
    host->facts = facts;
    pthread_mutex_unlock(&host->mutex);
}

void host_facts(struct host *host, struct node_cluster_facts *out)
{
    pthread_mutex_lock(&host->mutex);
    *out = host->facts;
    pthread_mutex_unlock(&host->mutex);
}

struct own_board *host_own_board(struct host *host)
{
    return &host->board;
}

/* Puts up what may be answered from the own view now. Before each commit, so that no view comes, and no
 * message goes, that counts on what this node answers no more. */
static void put_up(struct host *host)
{
    struct own_ranges *ranges = NULL;
    own_board_set_clock(&host->board, own_clock_offset_ms(host->replica));
    uint64_t mark = own_ranges_mark(host->replica);
    if (mark == host->board_mark) return;
    /* Without memory nothing is, until there is some. */
    enum status status = own_ranges_of(host->replica, &ranges);
    host->board_mark = status == STATUS_OK ? mark : 0;
    if (own_ranges_equal(ranges, host->board.ranges))
        own_ranges_unref(ranges);
    else
        own_board_put(&host->board, ranges);
}

static void stop_replica(struct host *host)
{
    own_board_put(&host->board, NULL);
    if (host->replica != NULL) replica_destroy(host->replica);
    host->replica = NULL;
    set_state(host, HOST_STOPPED);
    host_works_cancel(host);
    host_works_return(host);
    if (host->peers != NULL && !host->peers_closed) peers_close(host->peers, NULL, NULL);
    host->peers_closed = true;
}

/* A log that failed may hold less than was said: nobody is told more by this node. */
static bool is_broken(const struct host *host)
{
    return host->replica != NULL && store_can_write(host->store) == STATUS_READ_ONLY;
}

static void host_turn(void *context)
{
    struct host *host = context;
    if (!host->turned) uv_run(&host->loop, UV_RUN_NOWAIT);
    host->turned = false;
    if (is_broken(host)) {
        log_line(LOG_LEVEL_ERROR, "cluster.stopped",
                 log_text("reason", "the log cannot be written: this node takes no part until a "
                                    "restart"));
        stop_replica(host);
    }
    if (host_state(host) == HOST_JOINS) join(host);
    tell_gone(host);
    host_works_go_on(host);
    host_leave_turn(host);
    if (host->replica != NULL) {
        struct replica_time time = host_time();
        if (time.now_ms >= replica_wake_ms(host->replica)) replica_tick(host->replica, time);
        put_up(host);
        replica_commit(host->replica, time);
        put_up(host);
        note_map(host);
        note_part(host);
        note_facts(host, time.now_ms);
        host_works_look(host);
    }
    host_works_go_on(host);
    host_works_return(host);
}

static void host_synced(void *context)
{
    struct host *host = context;
    if (host->replica == NULL) return;
    /* The first sync has made the start durable. */
    if (host_state(host) == HOST_STARTS) set_state(host, HOST_AWAY);
    replica_synced(host->replica, host_time());
    put_up(host);
    note_part(host);
    host_works_return(host);
}

static void on_timer(uv_timer_t *timer)
{
    (void)timer; /* It ends the wait. */
}

static void on_wake(uv_async_t *async)
{
    (void)async;
}

static uint64_t due_ms(const struct host *host)
{
    if (host->replica != NULL) return replica_wake_ms(host->replica);
    if (host_state(host) != HOST_JOINS) return UINT64_MAX;
    return host->founds ? u64_min(host->ask_ms, host->found_ms) : host->ask_ms;
}

static void host_wait(void *context, uint32_t wait_ms)
{
    struct host *host = context;
    uint64_t now_ms = host_time().now_ms, due = due_ms(host);
    if (due <= now_ms) return;
    uv_update_time(&host->loop);
    uv_timer_start(&host->timer, on_timer, u64_min(wait_ms, due - now_ms), 0);
    uv_run(&host->loop, UV_RUN_ONCE);
    uv_timer_stop(&host->timer);
    host->turned = true;
}

static void host_wake(void *context)
{
    struct host *host = context;
    uv_async_send(&host->wake);
}

static void host_submit(void *context, struct engine_write *list)
{
    host_works_submit(context, list);
}

static void host_stop(void *context)
{
    stop_replica(context);
}

/* --- Life --- */

enum status host_create(const struct host_options *options, struct host **out)
{
    struct host *host = heap_zalloc(options->heap, sizeof *host);
    if (host == NULL) return STATUS_NOMEM;
    host->options = *options;
    host->heap = options->heap;
    host->trace = (struct trace){trace_line, host};
    buf_init(&host->answer, host->heap);
    host_works_init(host);
    own_board_init(&host->board);
    pthread_mutex_init(&host->mutex, NULL);
    set_state(host, HOST_ALONE);
    *out = host;
    return STATUS_OK;
}

/* The incarnation of a directory is the beginning of its identity, which is drawn once. */
static enum status read_incarnation(struct host *host, struct env *env)
{
    char text[IDENTITY_BYTES];
    uint8_t store_id[16];
    struct env_file *file;
    enum status status = env_open(env, NAME_IDENTITY_TEXT, ENV_READ, &file);
    if (status != STATUS_OK) return status;
    status = env_file_read(file, 0, text, sizeof text);
    env_file_close(file);
    if (status == STATUS_OK) status = identity_decode(slice_of(text, sizeof text), store_id);
    if (status != STATUS_OK) return status;
    host->incarnation = load_u64le(store_id) | 1;
    return STATUS_OK;
}

static void write_address(struct host *host)
{
    const char *name = host->options.peer_host;
    snprintf(host->address, sizeof host->address, strchr(name, ':') == NULL ? "%s:%u" : "[%s]:%u",
             name, (unsigned)host->port);
}

static enum status listen_to_peers(struct host *host, struct store_report *report)
{
    struct peers_options options = {
        .heap = host->heap,
        .loop = &host->loop,
        .host = host->options.peer_host,
        .port = host->options.peer_port,
        .tls = host->options.tls,
        .plain_beyond_loopback = host->options.plain_beyond_loopback,
        .hello = {.incarnation = host->incarnation,
                  .window = PEER_WINDOW_BYTES,
                  .process = host->process},
        .events = {host, on_address, on_admit, on_message, on_gone},
    };
    if (uv_loop_init(&host->loop) != 0) return STATUS_NOMEM;
    host->loop_open = true;
    uv_async_init(&host->loop, &host->wake, on_wake);
    uv_timer_init(&host->loop, &host->timer);
    enum status status = peers_open(&options, &host->peers);
    if (status == STATUS_OK) {
        host->port = peers_port(host->peers);
        write_address(host);
        return STATUS_OK;
    }
    const char *why = status_name(status);
    if (status == STATUS_EXISTS)
        why = "it is in use: stop who listens there, or choose another with --peer";
    if (status == STATUS_INVALID) why = "it is not an address of this machine: expected IP:PORT";
    if (status == STATUS_DENIED) why = "not permitted: ports under 1024 need a privilege";
    snprintf(report->detail, sizeof report->detail, "the peer address %s:%u: %s", options.host,
             (unsigned)options.port, why);
    return status;
}

/* A directory without an id, and with seeds. */
static enum status begin_to_join(struct host *host, struct store_report *report)
{
    struct store_stats stats;
    store_stats(host->store, &stats);
    bool has_words = stats.current_count > 0;
    host->founds = strcmp(host->options.seeds[0], host->address) == 0;
    if (has_words && !host->founds) {
        snprintf(report->detail, sizeof report->detail,
                 "the directory holds words of its own, which would not become the cluster's: "
                 "export them, join with an empty directory, and import them there");
        return STATUS_INVALID;
    }
    if (host->founds && (has_words || !next_seed(host))) return found(host);
    host->seed = 0;
    host->found_ms = host_time().now_ms + HOST_FOUND_MS;
    set_state(host, HOST_JOINS);
    log_line(LOG_LEVEL_INFO, "cluster.joins", log_text("peer", host->address),
             log_number("seeds", host->options.seed_count));
    return STATUS_OK;
}

/* The address is told when a node joins; to change it later is not built yet. */
static void warn_of_address(const struct host *host)
{
    struct member self;
    if (!rangemap_member_find(replica_map(host->replica), replica_identity(host->replica).id,
                              &self) ||
        slice_equal(self.address, slice_from_text(host->address)))
        return;
    char known[RANGEMAP_ADDRESS_BYTES_MAX + 1];
    snprintf(known, sizeof known, "%.*s", (int)self.address.size, (const char *)self.address.data);
    log_line(LOG_LEVEL_WARN, "cluster.other_address", log_text("peer", host->address),
             log_text("known", known),
             log_text("reason", "the others connect to the address that this node joined with"));
}

enum status host_attach(void *context, struct store *store, struct env *env,
                        struct engine_host *out, struct store_report *report)
{
    struct host *host = context;
    host->store = store;
    host->process = draw();
    enum status status = read_incarnation(host, env);
    if (status == STATUS_OK) status = create(host, NULL, 0, false);
    bool fresh = status == STATUS_NOT_FOUND;
    if (fresh && host->options.seed_count == 0) return STATUS_OK;
    if (status == STATUS_OK || fresh) status = listen_to_peers(host, report);
    if (status == STATUS_OK && fresh) {
        status = begin_to_join(host, report);
    } else if (status == STATUS_OK) {
        introduce(host);
        warn_of_address(host);
    }
    if (status != STATUS_OK) {
        if (report->detail[0] == '\0')
            snprintf(report->detail, sizeof report->detail, "%s: %s",
                     status == STATUS_FULL
                         ? "there is no room to note this start, as a member has to: make some"
                         : "what the directory keeps of its cluster cannot be read",
                     status_name(status));
        stop_replica(host);
        return status;
    }
    *out = (struct engine_host){
        .context = host,
        .submit = host_submit,
        .turn = host_turn,
        .synced = host_synced,
        .wait = host_wait,
        .wake = host_wake,
        .may_stop = host_may_stop,
        .stop = host_stop,
    };
    return STATUS_OK;
}

void host_destroy(struct host *host)
{
    if (host == NULL) return;
    CHECK(host->replica == NULL);
    if (host->loop_open) {
        uv_close((uv_handle_t *)&host->wake, NULL);
        uv_close((uv_handle_t *)&host->timer, NULL);
        uv_run(&host->loop, UV_RUN_DEFAULT);
        CHECK(uv_loop_close(&host->loop) == 0);
    }
    pthread_mutex_destroy(&host->mutex);
    own_board_deinit(&host->board);
    buf_deinit(&host->answer);
    heap_free(host->heap, host);
}
