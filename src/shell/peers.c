#include "shell/peers.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/math.h"
#include "shell/clock.h"
#include "shell/log_line.h"

enum {
    SWEEP_MS = 250,
    BACKLOG = 128,
    READ_BYTES = 64 << 10,
    DIAL_MS = 500, /* So long a dial that may get through stands against one of the peer's. */
};

struct link {
    struct peers *peers;
    struct link *next, **at; /* In peers->links. */
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_getaddrinfo_t resolve;
    uv_write_t write;
    struct peer_link wire;
    struct peer_tls_link *tls; /* NULL: it is plain. */
    struct buf writing;
    uint16_t id;  /* Of the peer; 0: it has not said. */
    bool dialled; /* By this node. */
    bool open;    /* Bytes may be written. */
    bool secured; /* There is TLS, and the peer's certificate counts. */
    bool resolving, in_flight, closing, closed;
    bool greeted;   /* It counts as connected. */
    bool explained; /* Why it ends was logged, and counted. */
    uint64_t began_ms, heard_ms;
    uint64_t refused_ms; /* When TLS ended it: what is said last may be read; 0: it goes on. */
};

/* When a node may be dialled again. */
struct pause {
    uint64_t until_ms;
    uint32_t length_ms; /* 0: it answered the last time. */
};

struct peers {
    struct peers_options options;
    uv_tcp_t listener;
    uv_timer_t sweep;
    uv_prepare_t turn;
    unsigned open_handles;
    bool closing;
    bool dirty; /* Something may have to be written. */
    uint16_t port;
    struct link *links;
    struct link *by_id[UINT16_MAX + 1]; /* Greeted, or being dialled; at 0: whoever lets us join. */
    struct link *speaker;               /* Whose message is being given out. */
    struct pause pauses[UINT16_MAX + 1];
    struct peers_stats stats;
    uint64_t noted_ms, unnoted_count; /* Of refused strangers: the last line, and those since. */
    uint64_t warned_ms;               /* When our certificate's end was looked at last; 0: never. */
    struct buf frames;                /* To be sealed. */
    char read_bytes[READ_BYTES];
    uint8_t opened_bytes[PEER_TLS_ROOM_BYTES];
    void (*done)(void *context);
    void *done_context;
};

static uint64_t now_ms(void)
{
    return clock_monotonic_us() / 1000;
}

static enum status status_of(int error)
{
    switch (error) {
    case 0:
        return STATUS_OK;
    case UV_EADDRINUSE:
        return STATUS_EXISTS;
    case UV_EACCES:
    case UV_EPERM:
        return STATUS_DENIED;
    case UV_EADDRNOTAVAIL:
    case UV_EINVAL:
        return STATUS_INVALID;
    case UV_ENOMEM:
        return STATUS_NOMEM;
    default:
        return STATUS_IO;
    }
}

/* --- Life of a link --- */

static void link_free(struct link *link)
{
    peer_tls_link_destroy(link->tls);
    peer_link_deinit(&link->wire);
    buf_deinit(&link->writing);
    heap_free(link->peers->options.heap, link);
}

static void maybe_free_all(struct peers *peers)
{
    if (!peers->closing || peers->open_handles > 0 || peers->links != NULL) return;
    void (*done)(void *context) = peers->done;
    void *context = peers->done_context;
    buf_deinit(&peers->frames);
    heap_free(peers->options.heap, peers);
    if (done != NULL) done(context);
}

static void maybe_free(struct link *link)
{
    struct peers *peers = link->peers;
    if (!link->closed || link->resolving || link->in_flight) return;
    *link->at = link->next;
    if (link->next != NULL) link->next->at = link->at;
    link_free(link);
    maybe_free_all(peers);
}

static void on_link_closed(uv_handle_t *handle)
{
    struct link *link = handle->data;
    link->closed = true;
    maybe_free(link);
}

/* It takes part in nothing any more. */
static void link_close(struct link *link)
{
    struct peers *peers = link->peers;
    if (link->closing) return;
    link->closing = true;
    if (peers->by_id[link->id] == link) peers->by_id[link->id] = NULL;
    peers->stats.connected_count -= link->greeted;
    if (link->resolving) uv_cancel((uv_req_t *)&link->resolve);
    uv_close((uv_handle_t *)&link->tcp, on_link_closed);
}

static struct link *link_create(struct peers *peers, bool dialled, uint16_t id)
{
    struct link *link = heap_zalloc(peers->options.heap, sizeof *link);
    if (link == NULL) return NULL;
    struct peer_hello hello = peers->options.hello;
    hello.to = id;
    link->peers = peers;
    link->dialled = dialled;
    link->id = id;
    link->began_ms = now_ms();
    link->writing.heap = peers->options.heap;
    peer_link_init(&link->wire, peers->options.heap, &hello);
    enum status status = STATUS_OK;
    if (peers->options.tls != NULL)
        status = peer_tls_link_create(peers->options.tls, dialled, &link->tls);
    if (status != STATUS_OK || uv_tcp_init(peers->options.loop, &link->tcp) != 0) {
        link_free(link);
        return NULL;
    }
    link->tcp.data = link->connect.data = link->resolve.data = link->write.data = link;
    link->next = peers->links;
    link->at = &peers->links;
    if (link->next != NULL) link->next->at = &link->next;
    peers->links = link;
    return link;
}

/* It is dialled again after a pause; after one that greeted, a short one. */
static void lengthen_pause(struct link *link)
{
    struct pause *pause = &link->peers->pauses[link->id];
    if (!link->dialled || link->id == 0) return;
    pause->length_ms = pause->length_ms == 0 ? PEERS_PAUSE_MS : pause->length_ms * 2;
    if (pause->length_ms > PEERS_PAUSE_MS_MAX) pause->length_ms = PEERS_PAUSE_MS_MAX;
    pause->until_ms = now_ms() + pause->length_ms;
}

static void link_fail(struct link *link, const char *why)
{
    if (link->closing) return;
    if (link->explained) {
        link_close(link);
        return;
    }
    log_line(link->id == 0 ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN, "peer.lost",
             log_number("node", link->id), log_text("why", why));
    link->peers->stats.broken_count++;
    lengthen_pause(link);
    link_close(link);
}

/* As link_fail(), by what the system says of the other end. */
static void link_fail_by(struct link *link, int error)
{
    const struct peers_events *events = &link->peers->options.events;
    bool tells = error == UV_EOF || error == UV_ECONNRESET || error == UV_ECONNREFUSED ||
                 error == UV_EPIPE;
    bool current = !link->closing && link->id != 0 && link->peers->by_id[link->id] == link;
    link_fail(link, error == UV_EOF ? "it closed the connection" : uv_strerror(error));
    if (tells && current && events->gone != NULL) events->gone(events->context, link->id);
}

/* --- Writing --- */

static void link_write(struct link *link);

static void on_written(uv_write_t *request, int error)
{
    struct link *link = request->data;
    link->in_flight = false;
    buf_clear(&link->writing);
    if (link->closing) {
        maybe_free(link);
        return;
    }
    if (error != 0) {
        link_fail_by(link, error);
        return;
    }
    link_write(link);
}

static bool may_frame(const struct link *link)
{
    bool sealable = link->tls == NULL || link->secured;
    return sealable && link->refused_ms == 0 && peer_link_wants_to_write(&link->wire);
}

/* Puts frames into `writing`, and whatever TLS has to say. */
static enum status fill(struct link *link)
{
    if (link->tls == NULL) return peer_link_write(&link->wire, PEERS_WRITE_BYTES, &link->writing);
    enum status status = STATUS_OK;
    struct buf *frames = &link->peers->frames, *out = peer_tls_out(link->tls);
    if (may_frame(link)) {
        buf_clear(frames);
        status = peer_link_write(&link->wire, PEERS_WRITE_BYTES, frames);
        if (status == STATUS_OK) status = peer_tls_write(link->tls, buf_slice(frames));
    }
    if (status != STATUS_OK) return status;
    struct buf empty = link->writing;
    link->writing = *out;
    *out = empty;
    return STATUS_OK;
}

static void link_write(struct link *link)
{
    if (!link->open || link->in_flight || link->closing) return;
    bool sealed = link->tls != NULL && peer_tls_out(link->tls)->size > 0;
    if (!may_frame(link) && !sealed) {
        /* The last words are said. */
        if (link->wire.state == PEER_STATE_BROKEN) link_close(link);
        return;
    }
    if (fill(link) != STATUS_OK) {
        link_fail(link, "no memory");
        return;
    }
    link->peers->stats.sent_bytes += link->writing.size;
    uv_buf_t bytes = uv_buf_init((char *)link->writing.data, (unsigned)link->writing.size);
    int error = uv_write(&link->write, (uv_stream_t *)&link->tcp, &bytes, 1, on_written);
    link->in_flight = error == 0;
    if (error != 0) link_fail(link, uv_strerror(error));
}

/* What the turn queued goes out at its end. */
static void on_turn(uv_prepare_t *handle)
{
    struct peers *peers = handle->data;
    if (!peers->dirty) return;
    peers->dirty = false;
    for (struct link *link = peers->links; link != NULL; link = link->next) link_write(link);
}

/* --- Refusing --- */

static void address_text(const struct sockaddr_storage *address, char out[PEERS_ADDRESS_BYTES_MAX])
{
    char name[INET6_ADDRSTRLEN] = "?";
    const struct sockaddr_in *four = (const struct sockaddr_in *)address;
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
    bool is_six = address->ss_family == AF_INET6;
    if (is_six)
        uv_ip6_name(six, name, sizeof name);
    else
        uv_ip4_name(four, name, sizeof name);
    snprintf(out, PEERS_ADDRESS_BYTES_MAX, is_six ? "[%s]:%u" : "%s:%u", name,
             (unsigned)ntohs(is_six ? six->sin6_port : four->sin_port));
}

/* Anybody can be refused as often as he likes: of those without an id there is a line a second. */
static void note_refusal(struct link *link, const struct sockaddr_storage *address, bool by_peer,
                         const char *why)
{
    struct peers *peers = link->peers;
    char text[PEERS_ADDRESS_BYTES_MAX];
    uint64_t now = now_ms();
    bool usual = link->wire.refusal == PEER_REFUSED_DOUBLE, stranger = link->id == 0 && !usual;
    if (stranger && peers->noted_ms != 0 && now - peers->noted_ms < PEERS_NOTE_MS) {
        peers->unnoted_count++;
        return;
    }
    address_text(address, text);
    uint64_t more = stranger ? peers->unnoted_count : 0;
    const struct log_pair pairs[] = {
        log_number("node", link->id),
        log_text("address", text),
        log_text("by", by_peer ? "peer" : "us"),
        log_text("why", why),
        more > 0 ? log_number("more", more) : (struct log_pair){0},
        {0},
    };
    log_write(usual ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN, "peer.refused", pairs);
    if (!stranger) return;
    peers->noted_ms = now;
    peers->unnoted_count = 0;
}

/* Why it ends is logged and counted, and nobody finds it any more. `address`: of the peer; NULL: as connected. */
static void explain(struct link *link, const struct sockaddr_storage *address, bool by_peer,
                    const char *why)
{
    struct peers *peers = link->peers;
    struct sockaddr_storage connected = {0};
    int size = sizeof connected;
    if (address == NULL) uv_tcp_getpeername(&link->tcp, (struct sockaddr *)&connected, &size);
    note_refusal(link, address == NULL ? &connected : address, by_peer, why);
    link->explained = true;
    peers->stats.broken_count++;
    lengthen_pause(link);
    if (peers->by_id[link->id] == link) peers->by_id[link->id] = NULL;
}

/* Before any frame of it counted, or for what cannot be one. An alert that says so goes out, and the peer has
 * PEERS_LEAVE_MS to read it. What follows a refusal in frames is not told a second time. */
static void shut_out(struct link *link, bool by_peer, const char *why)
{
    if (!link->explained) {
        explain(link, NULL, by_peer, why);
        link->peers->stats.refused_count += !by_peer;
    }
    link->refused_ms = now_ms();
    link->peers->dirty = true;
}

/* --- Greeting --- */

static void refuse(struct link *link, enum peer_refusal refusal, const char *why)
{
    link->peers->stats.refused_count++;
    peer_link_refuse(&link->wire, refusal, why);
}

/* Whether a connection to the same node stays, and the one that was just greeted goes. Of two between the
 * same starts that one stays that the lower id dialled; both sides see it so. */
static bool other_stays(const struct link *other, const struct link *link)
{
    const struct peer_hello *peer = &link->wire.peer;
    bool lower = link->peers->options.hello.id < peer->id;
    if (other->dialled == link->dialled || other->dialled != lower) return false;
    if (other->wire.state != PEER_STATE_READY) return now_ms() - other->began_ms < DIAL_MS;
    return other->wire.peer.incarnation == peer->incarnation && other->wire.peer.boot >= peer->boot;
}

/* Whether another process of the same directory is connected, as of a copy. The later start stays, of
 * starts with one number the first that came; who was not heard lately may be gone. */
static bool is_twin(const struct link *other, const struct peer_hello *peer)
{
    const struct peer_hello *known = &other->wire.peer;
    if (other->wire.state != PEER_STATE_READY || now_ms() - other->heard_ms >= PEERS_ALIVE_MS)
        return false;
    if (known->incarnation != peer->incarnation || known->process == 0 || peer->process == 0)
        return false;
    return known->process != peer->process && known->boot >= peer->boot;
}

/* The peer said who it is. */
static void greeted(struct link *link)
{
    struct peers *peers = link->peers;
    const struct peer_hello *peer = &link->wire.peer;
    const char *why = "not a member";
    if (link->dialled && link->id != 0 && peer->id != link->id) {
        refuse(link, PEER_REFUSED_TO, "this is not the node that was dialled");
        return;
    }
    if (!peers->options.events.admit(peers->options.events.context, peer, &why)) {
        refuse(link, PEER_REFUSED_MEMBER, why);
        return;
    }
    struct link *other = peer->id == 0 ? NULL : peers->by_id[peer->id];
    if (other != NULL && other != link) {
        if (is_twin(other, peer)) {
            refuse(
                link, PEER_REFUSED_TWIN,
                "another process is this node already; is one data directory a copy of the other?");
            return;
        }
        if (other_stays(other, link)) {
            refuse(link, PEER_REFUSED_DOUBLE, "there is a connection already");
            return;
        }
        link_close(other);
    }
    link->greeted = true;
    peers->stats.connected_count++;
    /* To a node without an id all are strangers as well, but for the one that it dialled. */
    if (peers->options.hello.id == 0) return;
    if (peers->by_id[0] == link) peers->by_id[0] = NULL;
    link->id = peer->id;
    if (peer->id == 0) return;
    peers->by_id[peer->id] = link;
    peers->pauses[peer->id] = (struct pause){0};
    log_line(LOG_LEVEL_INFO, "peer.connected", log_number("node", peer->id),
             log_number("boot", peer->boot), log_text("dialled", link->dialled ? "yes" : "no"),
             log_text("certificate", link->tls == NULL ? "none" : peer_tls_peer(link->tls)));
}

/* By a refusal or a rule. What is to be written still, our reason, goes out before it closes. */
static void broken(struct link *link)
{
    explain(link, NULL, link->wire.refused_by_peer, link->wire.reason);
    if (link->wire.refused_by_peer) link_close(link);
}

static void give_out(struct link *link)
{
    struct peers *peers = link->peers;
    struct slice message;
    enum peer_lane lane;
    while (!link->closing) {
        enum peer_event event = peer_link_next(&link->wire, &message, &lane);
        if (event == PEER_NOTHING) break;
        if (event == PEER_READY) {
            greeted(link);
        } else if (event == PEER_MESSAGE) {
            peers->speaker = link;
            peers->options.events.message(peers->options.events.context, &link->wire.peer, lane,
                                          message);
            peers->speaker = NULL;
        } else {
            broken(link);
            break;
        }
    }
    peers->dirty = true;
}

/* --- Reading --- */

static void on_allocate(uv_handle_t *handle, size_t size, uv_buf_t *buffer)
{
    struct link *link = handle->data;
    *buffer = uv_buf_init(link->peers->read_bytes, READ_BYTES);
}

static void take_frames(struct link *link, struct slice bytes)
{
    if (link->wire.state == PEER_STATE_BROKEN) return;
    if (peer_link_receive(&link->wire, bytes) == STATUS_OK)
        give_out(link);
    else
        link_fail(link, "no memory");
}

/* Opens what arrived, and takes the frames in it. */
static void take_sealed(struct link *link, struct slice bytes)
{
    struct peers *peers = link->peers;
    struct slice opened;
    enum peer_tls_event event = PEER_TLS_READY;
    peer_tls_receive(link->tls, bytes);
    peers->dirty = true;
    while (!link->closing && event != PEER_TLS_NOTHING) {
        event = peer_tls_next(link->tls, peers->opened_bytes, &opened);
        if (event == PEER_TLS_READY) {
            link->secured = true;
        } else if (event == PEER_TLS_BYTES) {
            take_frames(link, opened);
        } else if (event == PEER_TLS_CLOSED) {
            link_fail_by(link, UV_EOF);
        } else if (event == PEER_TLS_FAILED) {
            bool by_peer;
            const char *why = peer_tls_reason(link->tls, &by_peer);
            shut_out(link, by_peer, why);
            return;
        }
    }
    if (!link->closing && peer_tls_out(link->tls)->size > PEERS_SEALED_BYTES_MAX)
        link_fail(link, "it wants to be told more than it reads");
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    struct link *link = stream->data;
    if (size < 0) {
        link_fail_by(link, (int)size);
        return;
    }
    if (link->refused_ms != 0) return;
    bool first = link->heard_ms == 0;
    link->heard_ms = now_ms();
    link->peers->stats.received_bytes += (uint64_t)size;
    struct slice bytes = slice_of(buffer->base, (size_t)size);
    if (link->tls != NULL)
        take_sealed(link, bytes);
    else if (first && peer_tls_speaks(bytes))
        shut_out(link, false, "the peer speaks TLS, and this node was given no certificate for it");
    else
        take_frames(link, bytes);
}

static void link_start(struct link *link)
{
    link->open = true;
    link->peers->dirty = true; /* The greeting waits. */
    uv_tcp_nodelay(&link->tcp, 1);
    int error = uv_read_start((uv_stream_t *)&link->tcp, on_allocate, on_read);
    if (error != 0)
        link_fail(link, uv_strerror(error));
    else if (link->tls != NULL)
        take_sealed(link, (struct slice){0}); /* Who dials begins. */
}

static size_t count_strangers(const struct peers *peers)
{
    size_t count = 0;
    for (const struct link *link = peers->links; link != NULL; link = link->next)
        count += !link->dialled && !link->closing && link->wire.state == PEER_STATE_HELLO;
    return count;
}

static void on_connection(uv_stream_t *listener, int error)
{
    struct peers *peers = listener->data;
    if (error != 0 || peers->closing) return;
    bool crowded = count_strangers(peers) >= PEERS_STRANGERS_MAX;
    struct link *link = link_create(peers, false, 0);
    if (link == NULL) return; /* It waits in the backlog. */
    peers->stats.accepted_count++;
    if (uv_accept(listener, (uv_stream_t *)&link->tcp) != 0 || crowded) {
        link_close(link);
        return;
    }
    link_start(link);
}

/* --- Dialling --- */

static void on_connected(uv_connect_t *request, int error)
{
    struct link *link = request->data;
    if (link->closing) return; /* It was closed meanwhile, and is freed by that. */
    if (error != 0) {
        link_fail_by(link, error);
        return;
    }
    link_start(link);
}

static bool may_dial(const struct peers *peers, const struct sockaddr *address)
{
    if (peers->options.tls != NULL || peers->options.plain_beyond_loopback) return true;
    if (address->sa_family == AF_INET) {
        uint32_t four = ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr);
        return four >> 24 == 127;
    }
    const struct in6_addr *six = &((const struct sockaddr_in6 *)address)->sin6_addr;
    return address->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(six);
}

static void on_resolved(uv_getaddrinfo_t *request, int error, struct addrinfo *found)
{
    struct link *link = request->data;
    link->resolving = false;
    if (!link->closing && error == 0 && !may_dial(link->peers, found->ai_addr)) {
        struct sockaddr_storage address = {0};
        memcpy(&address, found->ai_addr, found->ai_addrlen);
        explain(link, &address, false,
                "it is beyond loopback, and this node was given no certificate to speak TLS");
        link_close(link);
    } else if (!link->closing) {
        if (error == 0)
            error = uv_tcp_connect(&link->connect, &link->tcp, found->ai_addr, on_connected);
        if (error != 0) link_fail(link, uv_strerror(error));
    }
    uv_freeaddrinfo(found);
    if (link->closed) maybe_free(link);
}

/* host:port or [host]:port, in place. */
static bool split(char *address, char **host, char **port)
{
    *port = strrchr(address, ':');
    if (*port == NULL) return false;
    *(*port)++ = '\0';
    *host = address;
    size_t size = strlen(address);
    if (address[0] != '[') return size > 0;
    if (size < 3 || address[size - 1] != ']') return false;
    address[size - 1] = '\0';
    ++*host;
    return true;
}

static struct link *dial(struct peers *peers, uint16_t to, enum status *status)
{
    static const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    char address[PEERS_ADDRESS_BYTES_MAX + 1], *host, *port;
    *status = STATUS_BUSY;
    if (now_ms() < peers->pauses[to].until_ms) return NULL;
    *status = STATUS_NOT_FOUND;
    bool known = peers->options.events.address(peers->options.events.context, to, address);
    if (!known || !split(address, &host, &port)) return NULL;
    *status = STATUS_NOMEM;
    struct link *link = link_create(peers, true, to);
    if (link == NULL) return NULL;
    peers->by_id[to] = link;
    peers->stats.dialled_count++;
    int error =
        uv_getaddrinfo(peers->options.loop, &link->resolve, on_resolved, host, port, &hints);
    link->resolving = error == 0;
    if (error == 0) return link;
    *status = STATUS_IO;
    link_fail(link, uv_strerror(error));
    return NULL;
}

enum status peers_send(struct peers *peers, uint16_t to, enum peer_lane lane, struct slice message)
{
    struct link *link = peers->by_id[to];
    enum status status = STATUS_OK;
    if (link == NULL) link = dial(peers, to, &status);
    if (link != NULL) status = peer_link_send(&link->wire, lane, message);
    peers->dirty = true;
    if (status != STATUS_OK) peers->stats.lost_count++;
    return status;
}

enum status peers_answer(struct peers *peers, enum peer_lane lane, struct slice message)
{
    CHECK(peers->speaker != NULL);
    enum status status = peer_link_send(&peers->speaker->wire, lane, message);
    peers->dirty = true;
    if (status != STATUS_OK) peers->stats.lost_count++;
    return status;
}

void peers_hang_up(struct peers *peers, uint16_t id)
{
    if (peers->by_id[id] != NULL) link_close(peers->by_id[id]);
}

void peers_introduce(struct peers *peers, const struct peer_hello *hello)
{
    CHECK(peers->speaker == NULL);
    peers->options.hello = *hello;
    for (struct link *link = peers->links; link != NULL; link = link->next) link_close(link);
}

void peers_consumed(struct peers *peers, uint16_t from, size_t bytes)
{
    struct link *link = peers->by_id[from];
    /* What came over a connection that is gone counts for none. */
    if (link == NULL) return;
    uint64_t owed = link->wire.bulk_received - link->wire.bulk_consumed;
    peer_link_consumed(&link->wire, bytes < owed ? bytes : (size_t)owed);
    peers->dirty = true;
}

/* --- Life --- */

/* Looked at when it begins, and once a day. */
static void warn_of_end(struct peers *peers, uint64_t now)
{
    struct certificate_facts facts;
    char end[CERTIFICATE_TIME_BYTES];
    if (peers->warned_ms != 0 && now - peers->warned_ms < (uint64_t)CERTIFICATE_DAY_S * 1000)
        return;
    peers->warned_ms = now;
    peer_tls_facts(peers->options.tls, &facts);
    int64_t now_s = (int64_t)(clock_wall_ms() / 1000);
    if (!peer_tls_ends_soon(&facts, now_s)) return;
    certificate_time_text(facts.period.end_s, end);
    bool over = now_s > facts.period.end_s;
    log_line(over ? LOG_LEVEL_ERROR : LOG_LEVEL_WARN, "peer.certificate_ends",
             log_text("certificate", facts.subject), log_text("valid_until", end),
             log_text("reason", over ? "it has expired: no node takes a new connection with it"
                                     : "issue another before, and send SIGHUP"));
}

/* Strangers that do not greet, and dials that nobody answers, end; so does who has no id and stays on: it
 * asks again over another connection. */
static void on_sweep(uv_timer_t *timer)
{
    struct peers *peers = timer->data;
    uint64_t now = now_ms();
    for (struct link *link = peers->links; link != NULL; link = link->next) {
        if (link->refused_ms != 0) {
            if (now - link->refused_ms >= PEERS_LEAVE_MS) link_close(link);
            continue;
        }
        bool visits = link->greeted && !link->dialled && link->id == 0;
        if (link->closing || (link->wire.state == PEER_STATE_READY && !visits)) continue;
        if (visits && now - link->began_ms >= PEERS_VISIT_MS) link_close(link);
        if (!visits && now - link->began_ms >= peers->options.greeting_ms)
            link_fail(link, "it did not say in time who it is");
    }
    if (peers->options.tls != NULL) warn_of_end(peers, now);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct peers *peers = handle->data;
    peers->open_handles--;
    maybe_free_all(peers);
}

void peers_close(struct peers *peers, void (*done)(void *context), void *context)
{
    if (peers == NULL) {
        if (done != NULL) done(context);
        return;
    }
    peers->closing = true;
    peers->done = done;
    peers->done_context = context;
    for (struct link *link = peers->links; link != NULL; link = link->next) link_close(link);
    uv_close((uv_handle_t *)&peers->listener, on_handle_closed);
    uv_close((uv_handle_t *)&peers->sweep, on_handle_closed);
    uv_close((uv_handle_t *)&peers->turn, on_handle_closed);
}

static int listen_on(struct peers *peers)
{
    struct sockaddr_storage address;
    int size = sizeof address;
    int error =
        uv_ip4_addr(peers->options.host, peers->options.port, (struct sockaddr_in *)&address);
    if (error != 0)
        error =
            uv_ip6_addr(peers->options.host, peers->options.port, (struct sockaddr_in6 *)&address);
    if (error == 0) error = uv_tcp_bind(&peers->listener, (struct sockaddr *)&address, 0);
    if (error == 0) error = uv_listen((uv_stream_t *)&peers->listener, BACKLOG, on_connection);
    if (error == 0)
        error = uv_tcp_getsockname(&peers->listener, (struct sockaddr *)&address, &size);
    if (error != 0) return error;
    uint16_t port = address.ss_family == AF_INET ? ((struct sockaddr_in *)&address)->sin_port
                                                 : ((struct sockaddr_in6 *)&address)->sin6_port;
    peers->port = ntohs(port);
    return 0;
}

enum status peers_open(const struct peers_options *options, struct peers **out)
{
    struct peers *peers = heap_zalloc(options->heap, sizeof *peers);
    if (peers == NULL) return STATUS_NOMEM;
    peers->options = *options;
    buf_init(&peers->frames, options->heap);
    if (peers->options.greeting_ms == 0) peers->options.greeting_ms = PEERS_GREETING_MS;
    int error = uv_tcp_init(options->loop, &peers->listener);
    if (error != 0) {
        heap_free(options->heap, peers);
        return status_of(error);
    }
    uv_timer_init(options->loop, &peers->sweep);
    uv_prepare_init(options->loop, &peers->turn);
    peers->open_handles = 3;
    peers->listener.data = peers->sweep.data = peers->turn.data = peers;
    error = listen_on(peers);
    if (error != 0) {
        peers_close(peers, NULL, NULL);
        return status_of(error);
    }
    uv_timer_start(&peers->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
    uv_prepare_start(&peers->turn, on_turn);
    *out = peers;
    return STATUS_OK;
}

bool peers_is_pausing(const struct peers *peers, uint16_t id)
{
    return peers->by_id[id] == NULL && now_ms() < peers->pauses[id].until_ms;
}

bool peers_have_to_write(const struct peers *peers)
{
    for (const struct link *link = peers->links; link != NULL; link = link->next) {
        if (link->closing || !link->greeted || link->refused_ms != 0) continue;
        if (link->in_flight || peer_link_wants_to_write(&link->wire)) return true;
    }
    return false;
}

uint16_t peers_port(const struct peers *peers)
{
    return peers->port;
}

void peers_stats(const struct peers *peers, struct peers_stats *out)
{
    *out = peers->stats;
}
