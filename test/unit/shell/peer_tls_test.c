/* Two ends of a connection in one process, and ends of others that have no business there. */
#include "shell/peer_tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/math.h"
#include "base/prng.h"
#include "certificate_files.h"

struct end {
    struct peer_tls_link *link;
    bool ready, failed, closed;
    struct buf got;
};

static struct heap heap;
static struct certificate_files files;
static char reason[PEER_TLS_REASON_BYTES];

static struct peer_tls *tls_open(const char *node, const char *authority)
{
    struct peer_tls *tls;
    struct peer_tls_options options = options_of(&files, node, authority);
    EXPECT(peer_tls_open(&heap, &options, &tls, reason) == STATUS_OK);
    return tls;
}

static struct end end_open(struct peer_tls *tls, bool dialled)
{
    struct end end = {.got.heap = &heap};
    EXPECT(peer_tls_link_create(tls, dialled, &end.link) == STATUS_OK);
    return end;
}

static void end_close(struct end *end)
{
    peer_tls_link_destroy(end->link);
    buf_deinit(&end->got);
}

/* Gives it bytes and notes what happens. */
static void end_take(struct end *end, struct slice bytes)
{
    uint8_t room[PEER_TLS_ROOM_BYTES];
    struct slice opened;
    if (end->failed || end->closed) return;
    peer_tls_receive(end->link, bytes);
    while (true) {
        enum peer_tls_event event = peer_tls_next(end->link, room, &opened);
        if (event == PEER_TLS_NOTHING) return;
        if (event == PEER_TLS_READY) end->ready = true;
        if (event == PEER_TLS_BYTES) {
            EXPECT(end->ready && opened.size > 0 && opened.size <= PEER_TLS_ROOM_BYTES);
            buf_append_slice(&end->got, opened);
        }
        end->failed = event == PEER_TLS_FAILED;
        end->closed = event == PEER_TLS_CLOSED;
        if (end->failed || end->closed) return;
    }
}

/* Hands on what one end has to send, in pieces of up to `piece` bytes. */
static bool carry(struct end *from, struct end *to, size_t piece)
{
    struct buf *out = peer_tls_out(from->link);
    bool any = out->size > 0;
    for (size_t at = 0; at < out->size; at += piece)
        end_take(to, slice_of(out->data + at, size_min(piece, out->size - at)));
    buf_clear(out);
    return any;
}

static void carry_all(struct end *a, struct end *b, size_t piece)
{
    while (carry(a, b, piece) || carry(b, a, piece)) continue;
}

static void shake_hands(struct end *a, struct end *b, size_t piece)
{
    end_take(a, (struct slice){0});
    carry_all(a, b, piece);
    EXPECT(a->ready && b->ready);
}

static void setup(void)
{
    heap_init(&heap, 0);
    certificate_files_init(&files);
}

static void teardown(void)
{
    certificate_files_deinit(&files);
    EXPECT(heap_used_bytes(&heap) == 0);
}

static void expect_refusal(const struct peer_tls_options *options, const char *file,
                           const char *what)
{
    struct peer_tls *tls = NULL;
    enum status status = peer_tls_open(&heap, options, &tls, reason);
    EXPECT(status == STATUS_INVALID || status == STATUS_IO);
    EXPECT(tls == NULL);
    if (strncmp(reason, file, strlen(file)) != 0 || strstr(reason, what) == NULL)
        fail_msg("%s, of %s, does not say '%s'", reason, file, what);
}

/* --- Nodes among themselves --- */

TEST_CASE(bytes_arrive_as_they_were_whatever_the_pieces)
{
    struct prng prng = {.state = test_seed};
    uint8_t *bytes = malloc(1 << 20);
    setup();
    for (size_t i = 0; i < 1 << 20; i++) bytes[i] = (uint8_t)prng_below(&prng, 256);
    struct peer_tls *one = tls_open("one", "ca"), *two = tls_open("two", "ca");
    for (size_t round = 0; round < 12; round++) {
        size_t piece = round < 2 ? round + 1 : 1 + prng_below(&prng, 40000);
        size_t size = round < 2 ? 40000 : 1 << 20;
        struct end a = end_open(one, true), b = end_open(two, false);
        EXPECT(strcmp(peer_tls_peer(a.link), "") == 0);
        shake_hands(&a, &b, piece);
        EXPECT(strcmp(peer_tls_peer(a.link), "CN=two") == 0);
        EXPECT(strcmp(peer_tls_peer(b.link), "CN=one") == 0);
        for (size_t at = 0; at < size;) {
            size_t part = size_min(1 + prng_below(&prng, 100000), size - at);
            EXPECT(peer_tls_write(a.link, slice_of(bytes + at, part)) == STATUS_OK);
            EXPECT(peer_tls_write(b.link, slice_of(bytes + at, part)) == STATUS_OK);
            /* What is sealed is little more than what it holds, and nothing waits unsent. */
            EXPECT(peer_tls_out(a.link)->size <= part + (part / PEER_TLS_ROOM_BYTES + 1) * 22);
            at += part;
            carry_all(&a, &b, piece);
        }
        EXPECT(slice_equal(buf_slice(&a.got), slice_of(bytes, size)));
        EXPECT(slice_equal(buf_slice(&b.got), slice_of(bytes, size)));
        end_close(&a);
        end_close(&b);
    }
    peer_tls_close(one);
    peer_tls_close(two);
    free(bytes);
    teardown();
}

TEST_CASE(a_byte_that_was_changed_on_its_way_ends_it)
{
    struct prng prng = {.state = test_seed};
    setup();
    struct peer_tls *one = tls_open("one", "ca"), *two = tls_open("two", "ca");
    size_t failed = 0;
    for (int round = 0; round < 150; round++) {
        struct end a = end_open(one, true), b = end_open(two, false);
        end_take(&a, (struct slice){0});
        size_t turn = prng_below(&prng, 5);
        for (size_t i = 0; i < 6; i++) {
            struct end *from = i % 2 == 0 ? &a : &b, *to = i % 2 == 0 ? &b : &a;
            if (from->ready && !from->failed)
                EXPECT(peer_tls_write(from->link, SLICE_LITERAL("as it was")) == STATUS_OK);
            struct buf *out = peer_tls_out(from->link);
            if (i == turn && out->size > 0)
                out->data[prng_below(&prng, (uint32_t)out->size)] ^=
                    (uint8_t)(1 + prng_below(&prng, 255));
            carry(from, to, SIZE_MAX / 2);
        }
        for (size_t i = 0; i < 2; i++) {
            struct buf *got = i == 0 ? &a.got : &b.got;
            for (size_t at = 0; at < got->size; at += 9)
                EXPECT(memcmp(got->data + at, "as it was", 9) == 0);
        }
        failed += a.failed || b.failed;
        end_close(&a);
        end_close(&b);
    }
    /* Of a record's head a byte may count for nothing; and a length that grew waits for more. */
    EXPECT(failed > 120);
    peer_tls_close(one);
    peer_tls_close(two);
    teardown();
}

TEST_CASE(without_memory_it_ends_in_order)
{
    setup();
    struct peer_tls *one = tls_open("one", "ca"), *two = tls_open("two", "ca");
    int64_t tries = 0;
    bool whole = false;
    for (; !whole; tries++) {
        struct end a = {.got.heap = &files.heap}, b = end_open(two, false);
        heap.failure_after = tries;
        whole = peer_tls_link_create(one, true, &a.link) == STATUS_OK;
        if (whole) {
            end_take(&a, (struct slice){0});
            carry_all(&a, &b, 1000);
            whole = a.ready && b.ready;
            EXPECT(whole || a.failed || b.failed);
            whole = whole && peer_tls_write(a.link, SLICE_LITERAL("a word")) == STATUS_OK;
        }
        heap.failure_after = -1;
        end_close(&a);
        end_close(&b);
    }
    EXPECT(tries > 4);
    peer_tls_close(one);
    peer_tls_close(two);
    teardown();
}

/* --- Others --- */

/* A peer made of nothing but OpenSSL. */
struct other {
    SSL_CTX *context;
    SSL *ssl;
    size_t key_updates;
};

static void on_message(int sent, int version, int type, const void *bytes, size_t size, SSL *ssl,
                       void *context)
{
    struct other *other = context;
    (void)version, (void)ssl;
    if (sent == 0 && type == SSL3_RT_HANDSHAKE && size > 0)
        other->key_updates += ((const uint8_t *)bytes)[0] == SSL3_MT_KEY_UPDATE;
}

static void other_open(struct other *other, const char *certificate, const char *key, bool dials,
                       int version)
{
    *other = (struct other){.context = SSL_CTX_new(TLS_method())};
    SSL_CTX_set_min_proto_version(other->context, version);
    SSL_CTX_set_max_proto_version(other->context, version);
    if (certificate != NULL) {
        EXPECT(SSL_CTX_use_certificate_chain_file(other->context, path_of(&files, certificate)) ==
               1);
        EXPECT(SSL_CTX_use_PrivateKey_file(other->context, path_of(&files, key),
                                           SSL_FILETYPE_PEM) == 1);
    }
    SSL_CTX_set_msg_callback(other->context, on_message);
    SSL_CTX_set_msg_callback_arg(other->context, other);
    other->ssl = SSL_new(other->context);
    SSL_set_bio(other->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    if (dials)
        SSL_set_connect_state(other->ssl);
    else
        SSL_set_accept_state(other->ssl);
}

static void other_close(struct other *other)
{
    SSL_free(other->ssl);
    SSL_CTX_free(other->context);
    ERR_clear_error();
}

/* Both go as far as they get; the other says something as soon as it can. */
static void meet(struct other *other, struct end *end)
{
    char bytes[1 << 16];
    bool spoke = false;
    if (end->link != NULL) end_take(end, (struct slice){0});
    for (int turn = 0; turn < 12; turn++) {
        bool open = SSL_do_handshake(other->ssl) == 1;
        if (open && !spoke) spoke = SSL_write(other->ssl, "let me in", 9) == 9;
        if (open) SSL_read(other->ssl, bytes, sizeof bytes);
        ERR_clear_error();
        int size = BIO_read(SSL_get_wbio(other->ssl), bytes, sizeof bytes);
        if (size > 0) end_take(end, slice_of(bytes, (size_t)size));
        struct buf *out = peer_tls_out(end->link);
        if (out->size > 0) BIO_write(SSL_get_rbio(other->ssl), out->data, (int)out->size);
        buf_clear(out);
    }
}

TEST_CASE(whose_certificate_does_not_count_is_never_heard)
{
    setup();
    make_authority(&files, "foreign", days(-400, 400));
    make_authority(&files, "old", days(-400, -1));
    issue(&files, "foreign", "stranger", CERTIFICATE_NODE, days(-1, 100));
    issue(&files, "ca", "expired", CERTIFICATE_NODE, days(-100, -1));
    issue(&files, "ca", "early", CERTIFICATE_NODE, days(1, 100));
    issue(&files, "ca", "client", CERTIFICATE_OTHER, days(-1, 100));
    static const struct {
        const char *certificate, *key;
        int version;
        const char *why;
    } cases[] = {
        {"one.crt", "one.key", TLS1_3_VERSION, NULL},
        {"stranger.crt", "stranger.key", TLS1_3_VERSION, "which is none of the authorities"},
        {"expired.crt", "expired.key", TLS1_3_VERSION,
         "CN=expired has expired: it was valid until 2"},
        {"early.crt", "early.key", TLS1_3_VERSION, "CN=early is not valid yet: it is from 2"},
        {"client.crt", "client.key", TLS1_3_VERSION, "expected both serverAuth and clientAuth"},
        {"ca.crt", "ca.key", TLS1_3_VERSION, "CN=trifecta authority "},
        {"foreign.crt", "foreign.key", TLS1_3_VERSION, "which is none of the authorities"},
        {"one.crt", "one.key", TLS1_2_VERSION, "the peer does not speak TLS 1.3"},
        {NULL, NULL, TLS1_3_VERSION, "the peer shows no certificate"},
    };
    struct peer_tls *two = tls_open("two", "ca");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int dials = 0; dials < 2; dials++) {
            if (cases[i].certificate == NULL && !dials) continue; /* A server needs one. */
            struct other other;
            struct end end = end_open(two, !dials);
            bool by_peer;
            other_open(&other, cases[i].certificate, cases[i].key, dials, cases[i].version);
            meet(&other, &end);
            if (cases[i].why == NULL) {
                EXPECT(end.ready && end.got.size == 9);
            } else {
                const char *why = peer_tls_reason(end.link, &by_peer);
                bool old = cases[i].version == TLS1_2_VERSION && !dials;
                EXPECT(end.failed && !end.ready && end.got.size == 0);
                if (!old && (by_peer || strstr(why, cases[i].why) == NULL))
                    fail_msg("%zu, dials %d: %s", i, dials, why);
            }
            other_close(&other);
            end_close(&end);
        }
    }
    peer_tls_close(two);
    teardown();
}

/* A certificate that says nothing of what it is for: some take that for everything. */
TEST_CASE(what_says_nothing_of_its_use_is_no_node)
{
    setup();
    struct peer_tls_options options = options_of(&files, "bare", "ca");
    FILE *file = fopen(path_of(&files, "one.crt"), "rb");
    X509 *bare = PEM_read_X509(file, NULL, NULL, NULL);
    fclose(file);
    file = fopen(path_of(&files, "ca.key"), "rb");
    EVP_PKEY *key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
    fclose(file);
    int at = X509_get_ext_by_NID(bare, NID_ext_key_usage, -1);
    X509_EXTENSION_free(X509_delete_ext(bare, at));
    EXPECT(at >= 0 && X509_sign(bare, key, EVP_sha256()) > 0);
    file = fopen(options.certificate_file, "wb");
    EXPECT(PEM_write_X509(file, bare) == 1);
    fclose(file);
    X509_free(bare);
    EVP_PKEY_free(key);
    struct buf bytes = read_from(&files, "one.key");
    write_to(&files, "bare.key", buf_slice(&bytes));
    buf_deinit(&bytes);

    struct peer_tls *two = tls_open("two", "ca");
    for (int dials = 0; dials < 2; dials++) {
        struct other other;
        struct end end = end_open(two, !dials);
        bool by_peer;
        other_open(&other, "bare.crt", "bare.key", dials, TLS1_3_VERSION);
        meet(&other, &end);
        EXPECT(end.failed && !end.ready && end.got.size == 0);
        EXPECT(strstr(peer_tls_reason(end.link, &by_peer), "CN=one is not for nodes") != NULL);
        other_close(&other);
        end_close(&end);
    }
    peer_tls_close(two);
    expect_refusal(&options, path_of(&files, "bare.crt"), "CN=one is not for nodes");
    teardown();
}

/* Each side says so, in its own words. */
TEST_CASE(the_one_who_is_refused_is_told)
{
    setup();
    make_authority(&files, "foreign", days(-400, 400));
    issue(&files, "foreign", "stranger", CERTIFICATE_NODE, days(-1, 100));
    struct peer_tls *one = tls_open("one", "ca"), *stranger = tls_open("stranger", "foreign");
    struct end a = end_open(one, true), b = end_open(stranger, false);
    bool by_peer;
    end_take(&a, (struct slice){0});
    carry_all(&a, &b, 100);
    EXPECT(a.failed && b.failed && !a.ready && !b.ready);
    const char *why = peer_tls_reason(a.link, &by_peer);
    EXPECT(!by_peer &&
           strstr(why, "the peer's certificate: CN=stranger was issued by 'CN=tri") == why);
    why = peer_tls_reason(b.link, &by_peer);
    EXPECT(by_peer && strcmp(why, "the peer refuses this node: unknown CA") == 0);
    end_close(&a);
    end_close(&b);
    peer_tls_close(one);
    peer_tls_close(stranger);
    teardown();
}

TEST_CASE(who_speaks_without_tls_is_told_by_an_alert)
{
    static const char *const words[] = {"GET / HTTP/1.1\r\n\r\n", "\x3c", "\x15\x03\x03",
                                        "\x16\x03\x01\xff\xff", "\x16garbage"};
    setup();
    struct peer_tls *one = tls_open("one", "ca");
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        for (int dialled = 0; dialled < 2; dialled++) {
            struct end end = end_open(one, dialled);
            if (dialled) end_take(&end, (struct slice){0});
            buf_clear(peer_tls_out(end.link));
            end_take(&end, slice_from_text(words[i]));
            bool by_peer, plain = i < 2 || (i == 2 && !dialled);
            EXPECT(!end.ready && (end.failed || i == 2));
            if (!plain) {
                end_close(&end);
                continue;
            }
            const char *why = peer_tls_reason(end.link, &by_peer);
            EXPECT(strstr(why, "the peer speaks without TLS") != NULL && !by_peer);
            struct buf *out = peer_tls_out(end.link);
            EXPECT(out->size == 7 && peer_tls_speaks(buf_slice(out)));
            end_close(&end);
        }
    }
    /* What a node without TLS is sent first by one with it, and the other way round. */
    struct end end = end_open(one, true);
    end_take(&end, (struct slice){0});
    EXPECT(peer_tls_speaks(buf_slice(peer_tls_out(end.link))));
    EXPECT(!peer_tls_speaks(slice_of("\x3c\0\0\0\1\1\0\0", 8)) &&
           !peer_tls_speaks(slice_of("", 0)));
    end_close(&end);
    peer_tls_close(one);
    teardown();
}

TEST_CASE(keys_are_changed_before_they_are_worn_out)
{
    enum { RECORDS = 100, LIMIT = 8 };
    char bytes[100];
    setup();
    struct peer_tls *tls;
    struct peer_tls_options options = options_of(&files, "one", "ca");
    options.key_records = LIMIT;
    EXPECT(peer_tls_open(&heap, &options, &tls, reason) == STATUS_OK);
    struct other other;
    struct end end = end_open(tls, false);
    other_open(&other, "two.crt", "two.key", true, TLS1_3_VERSION);
    meet(&other, &end);
    EXPECT(end.ready && other.key_updates == 0);
    for (int i = 0; i < RECORDS; i++) {
        EXPECT(peer_tls_write(end.link, SLICE_LITERAL("a word")) == STATUS_OK);
        struct buf *out = peer_tls_out(end.link);
        BIO_write(SSL_get_rbio(other.ssl), out->data, (int)out->size);
        buf_clear(out);
        EXPECT(SSL_read(other.ssl, bytes, sizeof bytes) == 6 && memcmp(bytes, "a word", 6) == 0);
    }
    EXPECT(other.key_updates >= RECORDS / LIMIT - 2 && other.key_updates <= RECORDS / LIMIT);
    other_close(&other);
    end_close(&end);
    peer_tls_close(tls);
    teardown();
}

TEST_CASE(the_end_is_heard)
{
    setup();
    struct peer_tls *one = tls_open("one", "ca");
    struct other other;
    struct end end = end_open(one, false);
    char bytes[1000];
    other_open(&other, "two.crt", "two.key", true, TLS1_3_VERSION);
    meet(&other, &end);
    SSL_shutdown(other.ssl);
    int size = BIO_read(SSL_get_wbio(other.ssl), bytes, sizeof bytes);
    end_take(&end, slice_of(bytes, (size_t)size));
    EXPECT(end.closed && !end.failed && end.got.size == 9);
    other_close(&other);
    end_close(&end);
    peer_tls_close(one);
    teardown();
}

/* --- Files --- */

TEST_CASE(files_that_do_not_fit_are_named_with_what_was_expected)
{
    setup();
    make_authority(&files, "foreign", days(-400, 400));
    make_authority(&files, "old", days(-400, 100));
    issue(&files, "ca", "expired", CERTIFICATE_NODE, days(-100, -1));
    issue(&files, "ca", "early", CERTIFICATE_NODE, days(1, 100));
    issue(&files, "ca", "client", CERTIFICATE_OTHER, days(-1, 100));
    write_to(&files, "empty.crt", (struct slice){0});
    struct buf bytes = read_from(&files, "one.crt");
    write_to(&files, "half.crt", slice_of(bytes.data, bytes.size / 2));
    buf_append_text(&bytes, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    write_to(&files, "more.crt", buf_slice(&bytes));
    buf_deinit(&bytes);
    static const char locked[] =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
        "MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAiaYRUvNrTp1AICCAAw\n"
        "-----END ENCRYPTED PRIVATE KEY-----\n";
    write_to(&files, "locked.key", slice_from_text(locked));

    static const struct {
        const char *certificate, *key, *authority; /* Of these files, */
        const char *blamed, *what;                 /* this one is at fault. */
    } cases[] = {
        {"none.crt", "one.key", "ca.crt", "none.crt", "cannot be read: No such file or directory"},
        {"one.crt", "none.key", "ca.crt", "none.key", "cannot be read: No such file or directory"},
        {"one.crt", "one.key", "none.crt", "none.crt", "cannot be read: No such file or directory"},
        {".", "one.key", "ca.crt", ".", "cannot be read: Is a directory"},
        {"empty.crt", "one.key", "ca.crt", "empty.crt", "expected certificates in PEM"},
        {"half.crt", "one.key", "ca.crt", "half.crt", "number 1 is none"},
        {"more.crt", "one.key", "ca.crt", "more.crt", "number 2 is none"},
        {"one.key", "one.key", "ca.crt", "one.key", "expected certificates in PEM"},
        {"one.crt", "two.key", "ca.crt", "two.key", "expected the key of the certificate in /"},
        {"one.crt", "one.crt", "ca.crt", "one.crt",
         "expected a private key in PEM, without a pass"},
        {"one.crt", "locked.key", "ca.crt", "locked.key", "without a passphrase"},
        {"one.crt", "one.key", "two.crt", "two.crt", "expected authorities alone, with CA:TRUE"},
        {"one.crt", "one.key", "empty.crt", "empty.crt", "expected certificates in PEM"},
        {"one.crt", "one.key", "foreign.crt", "one.crt", "which is none of the authorities"},
        {"expired.crt", "expired.key", "ca.crt", "expired.crt", "has expired: it was valid until"},
        {"early.crt", "early.key", "ca.crt", "early.crt", "is not valid yet"},
        {"client.crt", "client.key", "ca.crt", "client.crt", "is not for nodes"},
        {"ca.crt", "ca.key", "ca.crt", "ca.crt", "is not for nodes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct peer_tls_options options = {
            .certificate_file = path_of(&files, cases[i].certificate),
            .key_file = path_of(&files, cases[i].key),
            .authority_file = path_of(&files, cases[i].authority),
        };
        expect_refusal(&options, path_of(&files, cases[i].blamed), cases[i].what);
    }
    teardown();
}

TEST_CASE(what_was_replaced_counts_for_new_connections)
{
    struct certificate_facts before, after;
    setup();
    issue(&files, "ca", "node", CERTIFICATE_NODE, days(-1, 20));
    struct peer_tls *one = tls_open("node", "ca"), *two = tls_open("two", "ca");
    struct end a = end_open(one, true), b = end_open(two, false);
    shake_hands(&a, &b, 1000);
    peer_tls_facts(one, &before);

    /* A broken file changes nothing. */
    write_to(&files, "node.crt", SLICE_LITERAL("gone"));
    EXPECT(peer_tls_reload(one, reason) == STATUS_INVALID);
    EXPECT(strstr(reason, "/node.crt: expected certificates in PEM") != NULL);
    peer_tls_facts(one, &after);
    EXPECT(strcmp(before.fingerprint, after.fingerprint) == 0);

    /* The next one is of another authority, which the other node trusts beside the first one. */
    make_authority(&files, "next", days(-1, 400));
    issue(&files, "next", "later", CERTIFICATE_NODE, days(-1, 20));
    EXPECT(rename(path_of(&files, "later.crt"), path_of(&files, "node.crt")) == 0);
    EXPECT(rename(path_of(&files, "later.key"), path_of(&files, "node.key")) == 0);
    struct buf both = read_from(&files, "ca.crt"), next = read_from(&files, "next.crt");
    buf_append_slice(&both, buf_slice(&next));
    write_to(&files, "ca.crt", buf_slice(&both));
    buf_deinit(&both);
    buf_deinit(&next);
    EXPECT(peer_tls_reload(one, reason) == STATUS_OK);
    EXPECT(peer_tls_reload(two, reason) == STATUS_OK);
    peer_tls_facts(one, &after);
    EXPECT(strcmp(before.fingerprint, after.fingerprint) != 0);
    struct end c = end_open(two, true), d = end_open(one, false);
    shake_hands(&c, &d, 1000);
    EXPECT(strcmp(peer_tls_peer(c.link), "CN=later") == 0);

    /* The connection of before goes on. */
    EXPECT(peer_tls_write(a.link, SLICE_LITERAL("still here")) == STATUS_OK);
    carry_all(&a, &b, 1000);
    EXPECT(slice_equal(buf_slice(&b.got), SLICE_LITERAL("still here")));
    end_close(&a);
    end_close(&b);
    end_close(&c);
    end_close(&d);
    peer_tls_close(one);
    peer_tls_close(two);
    teardown();
}

TEST_CASE(an_end_is_warned_of_in_time)
{
    static const struct {
        int64_t begin, end;
        bool soon;
    } cases[] = {
        {-100, 300, false}, {-100, 31, false}, {-100, 29, true}, {-700, 29, true},
        {-1, 20, false},    {-15, 6, true},    {-10, -1, true},  {-1, 1, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct certificate_facts facts = {
            .period = {1000 * DAYS + cases[i].begin * DAYS, 1000 * DAYS + cases[i].end * DAYS}};
        EXPECT(peer_tls_ends_soon(&facts, 1000 * DAYS) == cases[i].soon);
    }
}

TEST_MAIN(TEST(bytes_arrive_as_they_were_whatever_the_pieces),
          TEST(a_byte_that_was_changed_on_its_way_ends_it), TEST(without_memory_it_ends_in_order),
          TEST(whose_certificate_does_not_count_is_never_heard),
          TEST(what_says_nothing_of_its_use_is_no_node), TEST(the_one_who_is_refused_is_told),
          TEST(who_speaks_without_tls_is_told_by_an_alert),
          TEST(keys_are_changed_before_they_are_worn_out), TEST(the_end_is_heard),
          TEST(files_that_do_not_fit_are_named_with_what_was_expected),
          TEST(what_was_replaced_counts_for_new_connections), TEST(an_end_is_warned_of_in_time))
