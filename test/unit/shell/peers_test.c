/* Nodes of one process that speak over loopback, all on one loop: in plain text, or, with TEST_TLS=1, over
 * TLS. */
#include "shell/peers.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "certificate_files.h"
#include "shell/clock.h"
#include "shell/log_line.h"
#include "test.h"

enum { NODES = 4, PATIENCE_MS = 30000 };

struct node {
    struct town *town;
    struct peers *peers;
    uint16_t id, port;
    uint64_t boot, cluster, process;
    uint32_t greeting_ms;
    struct peer_tls *tls; /* NULL: plain. */
    bool closed;
    const char *keeps_out; /* Why it admits nobody; NULL: it admits all. */
    size_t got_count;      /* Messages. */
    uint64_t got_bytes, bulk_bytes;
    size_t heard[NODES + 1]; /* Messages, by who sent them. */
    uint8_t last[16];
    size_t gone[NODES + 1]; /* Times that a node was said to be gone. */
};

struct town {
    struct heap heap;
    uv_loop_t loop;
    struct node nodes[NODES + 1]; /* By id. */
    unsigned seed;                /* Whom a node without an id dials. */
    const char *elsewhere;        /* Where NODES + 1 is said to be. */
    struct certificate_files files;
    struct peer_tls *tls; /* Of all nodes, if any has it. */
};

static bool address(void *context, uint16_t id, char *out)
{
    struct node *node = context;
    if (id == 0) id = (uint16_t)node->town->seed;
    if (id == NODES + 1 && node->town->elsewhere != NULL) {
        strcpy(out, node->town->elsewhere);
        return true;
    }
    if (id > NODES || node->town->nodes[id].port == 0) return false;
    snprintf(out, PEERS_ADDRESS_BYTES_MAX + 1, "127.0.0.1:%u", node->town->nodes[id].port);
    return true;
}

static bool admit(void *context, const struct peer_hello *hello, const char **why)
{
    const struct node *node = context;
    (void)hello;
    if (node->keeps_out == NULL) return true;
    *why = node->keeps_out;
    return false;
}

static void take(void *context, const struct peer_hello *from, enum peer_lane lane,
                 struct slice message)
{
    struct node *node = context;
    node->got_count++;
    node->got_bytes += message.size;
    node->heard[from->id]++;
    /* What is urgent: bulk that follows at once would hide it. */
    if (lane == PEER_URGENT)
        memcpy(node->last, message.data, message.size < 16 ? message.size : 16);
    if (from->id == 0 && node->id != 0) {
        EXPECT(peers_answer(node->peers, lane, SLICE_LITERAL("welcome")) == STATUS_OK);
        return;
    }
    if (lane != PEER_BULK) return;
    node->bulk_bytes += message.size;
    peers_consumed(node->peers, from->id, message.size);
}

static void on_gone(void *context, uint16_t id)
{
    struct node *node = context;
    node->gone[id]++;
}

static void node_open(struct town *town, unsigned id)
{
    struct node *node = &town->nodes[id];
    struct peers_options options = {
        .heap = &town->heap,
        .loop = &town->loop,
        .host = "127.0.0.1",
        .port = node->port,
        .greeting_ms = node->greeting_ms,
        .tls = node->tls,
        .hello = {.cluster = node->cluster,
                  .generation = 1,
                  .id = node->id,
                  .incarnation = 100 + (node->id == 0 ? id : node->id),
                  .boot = ++node->boot,
                  .window = PEER_WINDOW_BYTES,
                  .process = (node->process + 1) * 1000 + node->boot},
        .events = {node, address, admit, take, on_gone},
    };
    node->closed = false;
    EXPECT(peers_open(&options, &node->peers) == STATUS_OK);
    node->port = peers_port(node->peers);
}

static void on_closed(void *context)
{
    struct node *node = context;
    node->closed = true;
    node->peers = NULL;
}

/* Turns the loop until `what`; a test that waits in vain fails. */
#define UNTIL(town, what)                                                                          \
    do {                                                                                           \
        uint64_t end = clock_monotonic_us() / 1000 + PATIENCE_MS;                                  \
        while (!(what) && clock_monotonic_us() / 1000 < end) uv_run(&(town)->loop, UV_RUN_ONCE);   \
        EXPECT(what);                                                                              \
    } while (0)

static void node_close(struct town *town, unsigned id)
{
    struct node *node = &town->nodes[id];
    if (node->peers == NULL) return;
    peers_close(node->peers, on_closed, node);
    UNTIL(town, node->closed);
}

static struct peer_tls *load(struct town *town, const char *name, const char *authority)
{
    char reason[PEER_TLS_REASON_BYTES];
    struct peer_tls_options options = options_of(&town->files, name, authority);
    struct peer_tls *tls;
    EXPECT(peer_tls_open(&town->heap, &options, &tls, reason) == STATUS_OK);
    return tls;
}

static struct town *town_create(void)
{
    struct town *town = calloc(1, sizeof *town);
    const char *wanted = getenv("TEST_TLS");
    log_configure(LOG_LEVEL_ERROR, false);
    heap_init(&town->heap, 0);
    certificate_files_init(&town->files);
    EXPECT(uv_loop_init(&town->loop) == 0);
    if (wanted != NULL && strcmp(wanted, "1") == 0) town->tls = load(town, "one", "ca");
    for (unsigned id = 1; id <= NODES; id++)
        town->nodes[id] =
            (struct node){.town = town, .id = (uint16_t)id, .cluster = 7, .tls = town->tls};
    return town;
}

static void town_destroy(struct town *town)
{
    for (unsigned id = 1; id <= NODES; id++) node_close(town, id);
    uv_run(&town->loop, UV_RUN_DEFAULT);
    EXPECT(uv_loop_close(&town->loop) == 0);
    peer_tls_close(town->tls);
    certificate_files_deinit(&town->files);
    EXPECT(heap_used_bytes(&town->heap) == 0);
    free(town);
}

static struct peers_stats stats_of(const struct town *town, unsigned id)
{
    struct peers_stats stats;
    peers_stats(town->nodes[id].peers, &stats);
    return stats;
}

static enum status say(struct town *town, unsigned from, unsigned to, const char *words)
{
    return peers_send(town->nodes[from].peers, (uint16_t)to, PEER_URGENT, slice_from_text(words));
}

/* Says it again until it arrives: the first ones may be lost. */
static void make_heard(struct town *town, unsigned from, unsigned to)
{
    struct node *hearer = &town->nodes[to];
    uint64_t end = clock_monotonic_us() / 1000 + PATIENCE_MS;
    for (size_t before = hearer->heard[from]; hearer->heard[from] == before;) {
        enum status status = say(town, from, to, "do you hear?");
        EXPECT(status == STATUS_OK || status == STATUS_BUSY);
        EXPECT(clock_monotonic_us() / 1000 < end);
        uv_run(&town->loop, status == STATUS_OK ? UV_RUN_NOWAIT : UV_RUN_ONCE);
    }
}

/* --- Speaking --- */

TEST_CASE(messages_go_both_ways_over_one_connection)
{
    struct town *town = town_create();
    node_open(town, 1);
    node_open(town, 2);
    EXPECT(say(town, 1, 2, "one") == STATUS_OK && say(town, 1, 2, "two") == STATUS_OK);
    UNTIL(town, town->nodes[2].heard[1] == 2);
    EXPECT(memcmp(town->nodes[2].last, "two", 3) == 0);
    EXPECT(say(town, 2, 1, "three") == STATUS_OK);
    UNTIL(town, town->nodes[1].got_count == 1);
    EXPECT(stats_of(town, 1).connected_count == 1 && stats_of(town, 2).connected_count == 1);
    EXPECT(stats_of(town, 1).dialled_count == 1 && stats_of(town, 2).dialled_count == 0);
    EXPECT(say(town, 1, 3, "nobody is there") == STATUS_NOT_FOUND);
    EXPECT(stats_of(town, 1).lost_count == 1);
    town_destroy(town);
}

TEST_CASE(a_range_that_moves_keeps_no_request_waiting)
{
    enum { PIECES = 200 };
    struct town *town = town_create();
    uint8_t *piece = calloc(1, PEER_BULK_BYTES_MAX);
    node_open(town, 1);
    node_open(town, 2);
    make_heard(town, 1, 2);
    size_t before = town->nodes[2].got_count;
    uint64_t sent = 0;
    for (int i = 0; i < PIECES;) {
        enum status status =
            peers_send(town->nodes[1].peers, 2, PEER_BULK, slice_of(piece, PEER_BULK_BYTES_MAX));
        if (status == STATUS_OK) {
            i++;
            sent += PEER_BULK_BYTES_MAX;
            continue;
        }
        EXPECT(status == STATUS_BUSY); /* The queue is full: 16 MiB are before this one. */
        uint64_t bulk = town->nodes[2].bulk_bytes;
        EXPECT(say(town, 1, 2, "urgent!") == STATUS_OK);
        UNTIL(town, memcmp(town->nodes[2].last, "urgent!", 7) == 0);
        EXPECT(town->nodes[2].bulk_bytes - bulk < PEER_QUEUE_BYTES_MAX / 2);
        memset(town->nodes[2].last, 0, 16);
        UNTIL(town, town->nodes[2].bulk_bytes > bulk + PEER_QUEUE_BYTES_MAX / 4);
    }
    UNTIL(town, town->nodes[2].bulk_bytes == sent);
    EXPECT(town->nodes[2].got_count > before + PIECES);
    free(piece);
    town_destroy(town);
}

TEST_CASE(when_both_dial_at_once_one_connection_stays)
{
    for (int round = 0; round < 20; round++) {
        struct town *town = town_create();
        for (unsigned id = 1; id <= NODES; id++) node_open(town, id);
        for (unsigned from = 1; from <= NODES; from++)
            for (unsigned to = 1; to <= NODES; to++)
                if (from != to) EXPECT(say(town, from, to, "hello") == STATUS_OK);
        for (unsigned from = 1; from <= NODES; from++)
            for (unsigned to = 1; to <= NODES; to++)
                if (from != to) make_heard(town, from, to);
        uint64_t dialled = 0;
        for (unsigned id = 1; id <= NODES; id++) {
            EXPECT(stats_of(town, id).connected_count == NODES - 1);
            /* That two dialled at once is no reason to take anybody for gone. */
            for (unsigned other = 1; other <= NODES; other++)
                EXPECT(town->nodes[id].gone[other] == 0);
            dialled += stats_of(town, id).dialled_count;
        }
        EXPECT(dialled == NODES * (NODES - 1)); /* One of the two stayed. */
        town_destroy(town);
    }
}

/* --- Coming and going --- */

TEST_CASE(a_node_that_comes_back_is_found_again)
{
    struct town *town = town_create();
    node_open(town, 1);
    node_open(town, 2);
    make_heard(town, 1, 2);
    for (int round = 0; round < 3; round++) {
        size_t gone = town->nodes[1].gone[2];
        node_close(town, 2);
        UNTIL(town, stats_of(town, 1).connected_count == 0);
        EXPECT(town->nodes[1].gone[2] == gone + 1);
        /* Nobody answers there: it is not dialled with each message. */
        uint64_t dialled = stats_of(town, 1).dialled_count;
        for (int i = 0; i < 1000; i++) {
            enum status status = say(town, 1, 2, "gone?");
            EXPECT(status == STATUS_OK || status == STATUS_BUSY);
            uv_run(&town->loop, UV_RUN_NOWAIT);
        }
        EXPECT(stats_of(town, 1).dialled_count - dialled < 20);
        node_open(town, 2);
        make_heard(town, 1, 2);
        make_heard(town, 2, 1);
    }
    town_destroy(town);
}

/* Its old connection looks alive from the other side: nothing told that it is gone. */
TEST_CASE(a_newer_start_replaces_the_connection_of_an_older_one)
{
    struct town *town = town_create();
    node_open(town, 1);
    node_open(town, 2);
    make_heard(town, 1, 2);
    /* A second start of node 2 while the first is still there, at another port. */
    struct node first = town->nodes[2];
    town->nodes[2].port = 0;
    town->nodes[2].peers = NULL;
    node_open(town, 2);
    make_heard(town, 2, 1);
    EXPECT(stats_of(town, 1).connected_count == 1);
    make_heard(town, 1, 2);
    struct node *keeper = malloc(sizeof *keeper);
    *keeper = first;
    peers_close(first.peers, on_closed, keeper);
    UNTIL(town, keeper->closed);
    free(keeper);
    town_destroy(town);
}

/* Of two processes with one directory's identity the later start stays, or else the first that came. */
TEST_CASE(a_copy_of_a_node_that_is_there_is_told_so)
{
    struct town *town = town_create();
    town->nodes[2].process = 22;
    node_open(town, 1);
    node_open(town, 2);
    make_heard(town, 2, 1);
    for (unsigned later = 0; later <= 1; later++) {
        /* Node 3 stands for the copy; its starts are as many, or one less. */
        struct node *copy = &town->nodes[3];
        copy->id = 2;
        copy->process = 33;
        copy->boot = town->nodes[2].boot - 1 - later;
        node_open(town, 3);
        uint64_t refused = stats_of(town, 1).refused_count;
        EXPECT(peers_send(copy->peers, 1, PEER_URGENT, SLICE_LITERAL("it is me")) == STATUS_OK);
        UNTIL(town, stats_of(town, 1).refused_count == refused + 1);
        UNTIL(town, stats_of(town, 3).broken_count == 1);
        make_heard(town, 2, 1);
        EXPECT(stats_of(town, 1).connected_count == 1);
        node_close(town, 3);
    }
    town_destroy(town);
}

/* --- Strangers --- */

static int connect_to(uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT(fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0);
    return fd;
}

/* Whether the other side has closed, without waiting. */
static bool is_closed(int fd)
{
    char bytes[512];
    ssize_t got;
    while ((got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0) continue;
    return got == 0;
}

TEST_CASE(who_is_silent_or_speaks_something_else_is_shown_out)
{
    struct town *town = town_create();
    town->nodes[1].greeting_ms = 300;
    node_open(town, 1);
    node_open(town, 2);
    int silent = connect_to(town->nodes[1].port), browser = connect_to(town->nodes[1].port);
    EXPECT(send(browser, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27, 0) == 27);
    UNTIL(town, is_closed(browser));
    make_heard(town, 2, 1);
    UNTIL(town, is_closed(silent));
    close(silent);
    close(browser);
    town_destroy(town);
}

TEST_CASE(only_so_many_strangers_may_stand_at_the_door)
{
    struct town *town = town_create();
    int fds[PEERS_STRANGERS_MAX + 8];
    size_t count = sizeof fds / sizeof *fds, closed = 0;
    node_open(town, 1);
    for (size_t i = 0; i < count; i++) fds[i] = connect_to(town->nodes[1].port);
    UNTIL(town, stats_of(town, 1).accepted_count == count);
    for (int turn = 0; turn < 20; turn++) uv_run(&town->loop, UV_RUN_NOWAIT);
    for (size_t i = 0; i < count; i++) closed += is_closed(fds[i]);
    EXPECT(closed == 8);
    for (size_t i = 0; i < count; i++) close(fds[i]);
    town_destroy(town);
}

TEST_CASE(nodes_of_another_cluster_and_nodes_kept_out_are_told_so)
{
    struct town *town = town_create();
    town->nodes[2].cluster = 8;
    town->nodes[3].keeps_out = "excluded";
    for (unsigned id = 1; id <= 3; id++) node_open(town, id);
    for (unsigned to = 2; to <= 3; to++) {
        EXPECT(say(town, 1, to, "hello") == STATUS_OK);
        UNTIL(town, stats_of(town, 1).broken_count == (uint64_t)to - 1);
        EXPECT(town->nodes[to].got_count == 0);
        EXPECT(say(town, 1, to, "again, at once") == STATUS_BUSY);
    }
    /* The node that refuses keeps counting, and the one refused has nobody. */
    EXPECT(stats_of(town, 1).connected_count == 0);
    UNTIL(town, stats_of(town, 3).connected_count == 0);
    EXPECT(stats_of(town, 3).refused_count == 1);
    town_destroy(town);
}

/* Both ends of each connection of a stranger are told apart from those of a node. */
TEST_CASE(who_has_no_id_asks_its_way_in_and_is_somebody_afterwards)
{
    struct town *town = town_create();
    struct node *newcomer = &town->nodes[3];
    newcomer->id = 0;
    newcomer->cluster = 0;
    for (unsigned id = 1; id <= 3; id++) node_open(town, id);
    for (unsigned seed = 1; seed <= 2; seed++) {
        town->seed = seed;
        peers_hang_up(newcomer->peers, 0);
        for (int i = 0; i < 2; i++) {
            EXPECT(peers_send(newcomer->peers, 0, PEER_URGENT, SLICE_LITERAL("let me in")) ==
                   STATUS_OK);
            UNTIL(town, newcomer->heard[seed] == (size_t)i + 1);
        }
        EXPECT(memcmp(newcomer->last, "welcome", 7) == 0);
        EXPECT(town->nodes[seed].heard[0] == 2);
        EXPECT(stats_of(town, 3).dialled_count == seed);
    }
    /* Nobody stays a guest for ever. */
    UNTIL(town, stats_of(town, 2).connected_count == 0);
    newcomer->id = 3;
    peers_introduce(newcomer->peers, &(struct peer_hello){.cluster = 7,
                                                          .generation = 1,
                                                          .id = 3,
                                                          .incarnation = 103,
                                                          .boot = 1,
                                                          .window = PEER_WINDOW_BYTES});
    make_heard(town, 3, 1);
    make_heard(town, 1, 3);
    make_heard(town, 2, 3);
    UNTIL(town, stats_of(town, 3).connected_count == 2);
    town_destroy(town);
}

/* --- Who has TLS, and who has not --- */

/* Neither hears the other, and both say why, whoever dials. */
static void keep_apart(struct town *town, unsigned from, unsigned to)
{
    EXPECT(say(town, from, to, "hello") == STATUS_OK);
    UNTIL(town, stats_of(town, from).broken_count > 0 && stats_of(town, to).broken_count > 0);
    EXPECT(town->nodes[to].got_count == 0 && town->nodes[from].got_count == 0);
    EXPECT(stats_of(town, from).refused_count + stats_of(town, to).refused_count > 0);
    EXPECT(say(town, from, to, "again, at once") == STATUS_BUSY);
    UNTIL(town, town->nodes[from].peers != NULL && stats_of(town, from).connected_count == 0 &&
                    stats_of(town, to).connected_count == 0);
    EXPECT(town->nodes[from].gone[to] == 0 && town->nodes[to].gone[from] == 0);
}

TEST_CASE(a_node_with_tls_and_one_without_keep_apart)
{
    for (unsigned from = 1; from <= 2; from++) {
        struct town *town = town_create();
        struct peer_tls *one = load(town, "one", "ca");
        town->nodes[1].tls = one;
        town->nodes[2].tls = NULL;
        node_open(town, 1);
        node_open(town, 2);
        keep_apart(town, from, 3 - from);
        EXPECT(stats_of(town, 1).refused_count == 1 && stats_of(town, 2).refused_count == 1);
        node_close(town, 1);
        node_close(town, 2);
        peer_tls_close(one);
        town_destroy(town);
    }
}

TEST_CASE(nodes_that_trust_other_authorities_keep_apart)
{
    for (unsigned from = 1; from <= 2; from++) {
        struct town *town = town_create();
        make_authority(&town->files, "other", days(-1, 10));
        issue(&town->files, "other", "stranger", CERTIFICATE_NODE, days(-1, 10));
        /* The stranger would take the other, who does not take it. */
        struct peer_tls *one = load(town, "one", "ca"), *two = load(town, "stranger", "other");
        town->nodes[1].tls = one;
        town->nodes[2].tls = two;
        node_open(town, 1);
        node_open(town, 2);
        keep_apart(town, from, 3 - from);
        node_close(town, 1);
        node_close(town, 2);
        peer_tls_close(one);
        peer_tls_close(two);
        town_destroy(town);
    }
}

/* What a stranger that is refused sends on is read and thrown away, and not for long. */
TEST_CASE(who_is_refused_may_read_why_and_then_goes)
{
    struct town *town = town_create();
    struct peer_tls *one = load(town, "one", "ca");
    town->nodes[1].tls = one;
    node_open(town, 1);
    int fd = connect_to(town->nodes[1].port);
    uint8_t alert[16];
    EXPECT(send(fd, "hello", 5, MSG_NOSIGNAL) == 5);
    UNTIL(town, recv(fd, alert, sizeof alert, MSG_DONTWAIT | MSG_PEEK) == 7);
    EXPECT(peer_tls_speaks(slice_of(alert, 7)));
    uint64_t refused_ms = clock_monotonic_us() / 1000;
    EXPECT(send(fd, "hello?", 6, MSG_NOSIGNAL) == 6);
    UNTIL(town, is_closed(fd));
    EXPECT(clock_monotonic_us() / 1000 - refused_ms >= PEERS_LEAVE_MS / 2);
    EXPECT(stats_of(town, 1).refused_count == 1 && stats_of(town, 1).broken_count == 1);
    close(fd);
    node_close(town, 1);
    peer_tls_close(one);
    town_destroy(town);
}

/* What TLS has made of what came until now is sent, and an answer is waited for. */
static void exchange(struct town *town, int fd, struct peer_tls_link *link)
{
    uint8_t bytes[PEER_TLS_ROOM_BYTES], room[PEER_TLS_ROOM_BYTES];
    struct slice opened;
    struct buf *out = peer_tls_out(link);
    EXPECT(send(fd, out->data, out->size, MSG_NOSIGNAL) == (ssize_t)out->size);
    buf_clear(out);
    UNTIL(town, recv(fd, bytes, 1, MSG_DONTWAIT | MSG_PEEK) == 1);
    ssize_t got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    peer_tls_receive(link, slice_of(bytes, (size_t)got));
    while (peer_tls_next(link, room, &opened) != PEER_TLS_NOTHING) continue;
}

/* It is no member, and says what is no TLS right behind its hello. */
TEST_CASE(who_is_refused_twice_is_counted_once)
{
    struct town *town = town_create();
    struct peer_tls *one = load(town, "one", "ca");
    struct peer_hello hello = {.cluster = 7,
                               .generation = 1,
                               .id = 2,
                               .incarnation = 102,
                               .boot = 1,
                               .to = 1,
                               .window = PEER_WINDOW_BYTES};
    struct peer_tls_link *link;
    struct peer_link wire;
    struct buf frames = {.heap = &town->heap};
    town->nodes[1].tls = one;
    town->nodes[1].keeps_out = "excluded";
    node_open(town, 1);
    int fd = connect_to(town->nodes[1].port);
    EXPECT(peer_tls_link_create(one, true, &link) == STATUS_OK);
    peer_tls_receive(link, (struct slice){0});
    uint8_t room[PEER_TLS_ROOM_BYTES];
    struct slice opened;
    EXPECT(peer_tls_next(link, room, &opened) == PEER_TLS_NOTHING);
    while (peer_tls_peer(link)[0] == '\0') exchange(town, fd, link);
    peer_link_init(&wire, &town->heap, &hello);
    EXPECT(peer_link_write(&wire, PEERS_WRITE_BYTES, &frames) == STATUS_OK);
    EXPECT(peer_tls_write(link, buf_slice(&frames)) == STATUS_OK);
    struct buf *out = peer_tls_out(link);
    buf_append(out, "no record of TLS", 16);
    EXPECT(send(fd, out->data, out->size, MSG_NOSIGNAL) == (ssize_t)out->size);
    UNTIL(town, is_closed(fd));
    EXPECT(stats_of(town, 1).refused_count == 1 && stats_of(town, 1).broken_count == 1);
    close(fd);
    peer_link_deinit(&wire);
    buf_deinit(&frames);
    peer_tls_link_destroy(link);
    node_close(town, 1);
    peer_tls_close(one);
    town_destroy(town);
}

TEST_CASE(plain_connections_stay_on_loopback)
{
    /* All of these reach a node that listens on loopback, as Linux takes them; the last one is allowed to. */
    static const char *const names[] = {"0.0.0.0", "[::ffff:127.0.0.1]", "127.0.0.1"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct town *town = town_create();
        char elsewhere[PEERS_ADDRESS_BYTES_MAX];
        town->nodes[1].tls = town->nodes[2].tls = NULL;
        node_open(town, 1);
        node_open(town, 2);
        snprintf(elsewhere, sizeof elsewhere, "%s:%u", names[i], town->nodes[2].port);
        town->elsewhere = elsewhere;
        EXPECT(say(town, 1, NODES + 1, "hello") == STATUS_OK);
        UNTIL(town, stats_of(town, 1).broken_count == 1);
        bool reached = stats_of(town, 1).sent_bytes > 0;
        EXPECT(reached == (i == 2));
        town_destroy(town);
    }
}

TEST_CASE(an_address_that_is_none_fails_at_once)
{
    struct town *town = town_create();
    struct peers_options options = {.heap = &town->heap,
                                    .loop = &town->loop,
                                    .host = "here",
                                    .hello = {.id = 1, .window = PEER_WINDOW_BYTES}};
    struct peers *peers;
    EXPECT(peers_open(&options, &peers) == STATUS_INVALID);
    node_open(town, 1);
    options.host = "127.0.0.1";
    options.port = town->nodes[1].port;
    EXPECT(peers_open(&options, &peers) == STATUS_EXISTS);
    town_destroy(town);
}

TEST_MAIN(TEST(messages_go_both_ways_over_one_connection),
          TEST(a_range_that_moves_keeps_no_request_waiting),
          TEST(when_both_dial_at_once_one_connection_stays),
          TEST(a_node_that_comes_back_is_found_again),
          TEST(a_newer_start_replaces_the_connection_of_an_older_one),
          TEST(a_copy_of_a_node_that_is_there_is_told_so),
          TEST(who_is_silent_or_speaks_something_else_is_shown_out),
          TEST(only_so_many_strangers_may_stand_at_the_door),
          TEST(nodes_of_another_cluster_and_nodes_kept_out_are_told_so),
          TEST(who_has_no_id_asks_its_way_in_and_is_somebody_afterwards),
          TEST(a_node_with_tls_and_one_without_keep_apart),
          TEST(nodes_that_trust_other_authorities_keep_apart),
          TEST(who_is_refused_may_read_why_and_then_goes),
          TEST(who_is_refused_twice_is_counted_once), TEST(plain_connections_stay_on_loopback),
          TEST(an_address_that_is_none_fails_at_once))
