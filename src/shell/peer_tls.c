#include "shell/peer_tls.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/check.h"
#include "base/math.h"

enum {
    RECORD_ALERT = 21,
    RECORD_HANDSHAKE = 22,
    SECURITY_LEVEL = 2, /* 112 bits: no RSA under 2048, no SHA-1. */
    WORDS_BYTES = 768,  /* Of what is said of one certificate. */
};

struct peer_tls {
    struct heap *heap;
    struct peer_tls_options options;
    BIO_METHOD *method;
    pthread_mutex_t mutex; /* Guards what follows. */
    SSL_CTX *context;
    struct certificate_facts facts;
};

enum link_state { LINK_HANDSHAKE, LINK_OPEN, LINK_ENDED };

struct peer_tls_link {
    struct heap *heap;
    SSL *ssl;
    uint64_t key_records;
    enum link_state state;
    bool dialled, begun, by_peer;
    struct slice arrived; /* Not yet taken by OpenSSL. */
    struct buf out;
    uint64_t records; /* Sealed with the present key. */
    char peer[CERTIFICATE_TEXT_BYTES];
    char verdict[WORDS_BYTES]; /* On its certificate, where that does not count. */
    char reason[PEER_TLS_REASON_BYTES];
};

/* --- Bytes: OpenSSL reads what arrived, where it lies, and appends to what is to be sent --- */

static int on_bio_read(BIO *bio, char *to, int size)
{
    struct peer_tls_link *link = BIO_get_data(bio);
    size_t taken = size_min((size_t)size, link->arrived.size);
    BIO_clear_retry_flags(bio);
    if (taken == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    memcpy(to, link->arrived.data, taken);
    link->arrived = slice_from(link->arrived, taken);
    return (int)taken;
}

static int on_bio_write(BIO *bio, const char *from, int size)
{
    struct peer_tls_link *link = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    buf_append(&link->out, from, (size_t)size);
    return link->out.failed ? -1 : size;
}

static long on_bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static BIO_METHOD *make_method(void)
{
    BIO_METHOD *method =
        BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "bytes of a peer");
    if (method == NULL) return NULL;
    BIO_meth_set_read(method, on_bio_read);
    BIO_meth_set_write(method, on_bio_write);
    BIO_meth_set_ctrl(method, on_bio_control);
    return method;
}

/* --- Which certificates count --- */

/* The words for an error of a chain, which stands at the certificate `facts` are of. */
static void explain(int error, const struct certificate_facts *facts, char out[WORDS_BYTES])
{
    char begin[CERTIFICATE_TIME_BYTES], end[CERTIFICATE_TIME_BYTES];
    certificate_time_text(facts->period.begin_s, begin);
    certificate_time_text(facts->period.end_s, end);
    switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        snprintf(out, WORDS_BYTES, "%s has expired: it was valid until %s", facts->subject, end);
        break;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        snprintf(out, WORDS_BYTES, "%s is not valid yet: it is from %s on", facts->subject, begin);
        break;
    case X509_V_ERR_INVALID_PURPOSE:
        snprintf(out, WORDS_BYTES,
                 "%s is not for nodes: expected both serverAuth and clientAuth in its extended key "
                 "usage",
                 facts->subject);
        break;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        snprintf(out, WORDS_BYTES, "%s was issued by '%s', which is none of the authorities",
                 facts->subject, facts->issuer);
        break;
    default:
        snprintf(out, WORDS_BYTES, "%s does not count: %s", facts->subject,
                 X509_verify_cert_error_string(error));
        break;
    }
}

/* Called for each certificate of a chain, from the authority down, and for each error. The certificate itself
 * has to be made for nodes. */
static int on_verify(int fine, X509_STORE_CTX *chain)
{
    struct certificate_facts facts;
    X509 *certificate = X509_STORE_CTX_get_current_cert(chain);
    if (certificate == NULL) return fine;
    certificate_facts_of(certificate, &facts);
    if (fine && X509_STORE_CTX_get_error_depth(chain) == 0 && facts.role != CERTIFICATE_NODE) {
        X509_STORE_CTX_set_error(chain, X509_V_ERR_INVALID_PURPOSE);
        fine = 0;
    }
    SSL *ssl = X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct peer_tls_link *link = ssl == NULL ? NULL : SSL_get_app_data(ssl);
    char *verdict = link == NULL ? X509_STORE_CTX_get_app_data(chain) : link->verdict;
    if (!fine) explain(X509_STORE_CTX_get_error(chain), &facts, verdict);
    return fine;
}

/* --- Files --- */

struct loading {
    struct heap *heap;
    const struct peer_tls_options *options;
    SSL_CTX *context;
    X509 *certificate;
    char *reason; /* Of PEER_TLS_REASON_BYTES. */
};

__attribute__((format(printf, 3, 4))) static enum status refuse(struct loading *loading,
                                                                const char *file,
                                                                const char *format, ...)
{
    va_list list;
    int size = snprintf(loading->reason, PEER_TLS_REASON_BYTES, "%s: ", file);
    if (size < 0 || size >= PEER_TLS_REASON_BYTES) return STATUS_INVALID;
    va_start(list, format);
    vsnprintf(loading->reason + size, (size_t)(PEER_TLS_REASON_BYTES - size), format, list);
    va_end(list);
    return STATUS_INVALID;
}

static enum status read_file(struct loading *loading, const char *path, struct buf *out)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        (void)refuse(loading, path, "cannot be read: %s", strerror(errno));
        return STATUS_IO;
    }
    uint8_t *to = buf_reserve(out, PEER_TLS_FILE_BYTES_MAX + 1);
    size_t size = to == NULL ? 0 : fread(to, 1, PEER_TLS_FILE_BYTES_MAX + 1, file);
    int error = ferror(file) != 0 ? errno : 0;
    fclose(file);
    if (to == NULL) return STATUS_NOMEM;
    if (error != 0) {
        (void)refuse(loading, path, "cannot be read: %s", strerror(error));
        return STATUS_IO;
    }
    if (size > PEER_TLS_FILE_BYTES_MAX)
        return refuse(loading, path, "expected at most %d bytes", PEER_TLS_FILE_BYTES_MAX);
    buf_commit(out, size);
    return STATUS_OK;
}

/* The next certificate of a file, or NULL: at its end, and where one is damaged. */
static X509 *next_certificate(BIO *bio, bool *ends)
{
    X509 *certificate = PEM_read_bio_X509(bio, NULL, certificate_no_passphrase, NULL);
    *ends = certificate == NULL && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    return certificate;
}

/* Gives each certificate of a file to `take`, which owns it then. */
static enum status each_certificate(struct loading *loading, const char *path,
                                    enum status (*take)(struct loading *loading, size_t index,
                                                        X509 *certificate))
{
    struct buf bytes = {.heap = loading->heap};
    size_t count = 0;
    bool ends = false;
    enum status status = read_file(loading, path, &bytes);
    BIO *bio = status == STATUS_OK ? BIO_new_mem_buf(bytes.data, (int)bytes.size) : NULL;
    if (status == STATUS_OK && bio == NULL) status = STATUS_NOMEM;
    while (status == STATUS_OK && !ends) {
        X509 *certificate = next_certificate(bio, &ends);
        if (certificate != NULL)
            status = take(loading, count++, certificate);
        else if (!ends || count == 0)
            status = refuse(loading, path,
                            "expected certificates in PEM, from -----BEGIN CERTIFICATE----- to "
                            "-----END CERTIFICATE-----; number %zu is none",
                            count + 1);
    }
    BIO_free(bio);
    buf_deinit(&bytes);
    return status;
}

static enum status take_authority(struct loading *loading, size_t index, X509 *certificate)
{
    struct certificate_facts facts;
    certificate_facts_of(certificate, &facts);
    enum status status = STATUS_OK;
    if (facts.role != CERTIFICATE_AUTHORITY)
        status = refuse(loading, loading->options->authority_file,
                        "expected authorities alone, with CA:TRUE; number %zu is %s", index + 1,
                        facts.subject);
    else if (X509_STORE_add_cert(SSL_CTX_get_cert_store(loading->context), certificate) != 1)
        status = STATUS_NOMEM;
    X509_free(certificate);
    return status;
}

static enum status take_certificate(struct loading *loading, size_t index, X509 *certificate)
{
    if (index > 0) {
        if (SSL_CTX_add0_chain_cert(loading->context, certificate) == 1) return STATUS_OK;
        X509_free(certificate);
        return STATUS_NOMEM;
    }
    loading->certificate = certificate;
    if (SSL_CTX_use_certificate(loading->context, certificate) == 1) return STATUS_OK;
    const char *why = ERR_reason_error_string(ERR_peek_error());
    return refuse(loading, loading->options->certificate_file,
                  "expected a key that is long enough: %s", why == NULL ? "refused" : why);
}

static enum status take_key(struct loading *loading)
{
    struct buf bytes = {.heap = loading->heap};
    const char *path = loading->options->key_file;
    enum status status = read_file(loading, path, &bytes);
    BIO *bio = status == STATUS_OK ? BIO_new_mem_buf(bytes.data, (int)bytes.size) : NULL;
    if (status == STATUS_OK && bio == NULL) status = STATUS_NOMEM;
    EVP_PKEY *key = NULL;
    if (status == STATUS_OK) {
        key = PEM_read_bio_PrivateKey(bio, NULL, certificate_no_passphrase, NULL);
        if (key == NULL)
            status = refuse(loading, path, "expected a private key in PEM, without a passphrase");
        else if (X509_check_private_key(loading->certificate, key) != 1)
            status = refuse(loading, path, "expected the key of the certificate in %s",
                            loading->options->certificate_file);
        else if (SSL_CTX_use_PrivateKey(loading->context, key) != 1)
            status = STATUS_NOMEM;
    }
    EVP_PKEY_free(key);
    BIO_free(bio);
    if (bytes.data != NULL) OPENSSL_cleanse(bytes.data, bytes.size);
    buf_deinit(&bytes);
    return status;
}

/* Whether the others, if they trust the same authorities, will take this node for one. */
static enum status check_own(struct loading *loading)
{
    static const int purposes[] = {X509_PURPOSE_SSL_SERVER, X509_PURPOSE_SSL_CLIENT};
    STACK_OF(X509) *between = NULL;
    char words[WORDS_BYTES] = "it does not count";
    enum status status = STATUS_OK;
    SSL_CTX_get0_chain_certs(loading->context, &between);
    for (size_t i = 0; status == STATUS_OK && i < sizeof purposes / sizeof *purposes; i++) {
        X509_STORE_CTX *chain = X509_STORE_CTX_new();
        X509_STORE *trusted = SSL_CTX_get_cert_store(loading->context);
        if (chain == NULL ||
            X509_STORE_CTX_init(chain, trusted, loading->certificate, between) != 1) {
            X509_STORE_CTX_free(chain);
            return STATUS_NOMEM;
        }
        X509_STORE_CTX_set_app_data(chain, words);
        X509_STORE_CTX_set_verify_cb(chain, on_verify);
        X509_STORE_CTX_set_depth(chain, PEER_TLS_CHAIN_DEPTH_MAX);
        X509_STORE_CTX_set_purpose(chain, purposes[i]);
        if (X509_verify_cert(chain) != 1)
            status = refuse(loading, loading->options->certificate_file, "%s (in %s)", words,
                            loading->options->authority_file);
        X509_STORE_CTX_free(chain);
    }
    return status;
}

static void configure(SSL_CTX *context)
{
    SSL_CTX_set_security_level(context, SECURITY_LEVEL);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(context, 0);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_mode(context, SSL_MODE_NO_AUTO_CHAIN); /* The others have the authority. */
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, on_verify);
    SSL_CTX_set_verify_depth(context, PEER_TLS_CHAIN_DEPTH_MAX);
    /* Whatever stands in the file is trusted, also an authority that another one has issued. */
    X509_STORE_set_flags(SSL_CTX_get_cert_store(context), X509_V_FLAG_PARTIAL_CHAIN);
}

static enum status load(struct peer_tls *tls, SSL_CTX **out, struct certificate_facts *facts,
                        char reason[PEER_TLS_REASON_BYTES])
{
    struct loading loading = {
        .heap = tls->heap,
        .options = &tls->options,
        .context = SSL_CTX_new(TLS_method()),
        .reason = reason,
    };
    snprintf(reason, PEER_TLS_REASON_BYTES, "no memory for certificates");
    SSL_CTX *context = loading.context;
    enum status status = STATUS_NOMEM;
    if (context != NULL && SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1 &&
        SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) == 1) {
        configure(context);
        status = each_certificate(&loading, tls->options.authority_file, take_authority);
    }
    if (status == STATUS_OK)
        status = each_certificate(&loading, tls->options.certificate_file, take_certificate);
    if (status == STATUS_OK) status = take_key(&loading);
    if (status == STATUS_OK) status = check_own(&loading);
    if (status == STATUS_OK) {
        certificate_facts_of(loading.certificate, facts);
        *out = context;
    } else {
        SSL_CTX_free(context);
    }
    X509_free(loading.certificate);
    ERR_clear_error();
    return status;
}

/* --- What a node shows --- */

enum status peer_tls_open(struct heap *heap, const struct peer_tls_options *options,
                          struct peer_tls **out, char reason[PEER_TLS_REASON_BYTES])
{
    snprintf(reason, PEER_TLS_REASON_BYTES, "no memory for certificates");
    struct peer_tls *tls = heap_zalloc(heap, sizeof *tls);
    if (tls == NULL) return STATUS_NOMEM;
    tls->heap = heap;
    tls->options = *options;
    if (tls->options.key_records == 0) tls->options.key_records = PEER_TLS_KEY_RECORDS;
    tls->method = make_method();
    pthread_mutex_init(&tls->mutex, NULL);
    enum status status = STATUS_NOMEM;
    if (tls->method != NULL) status = load(tls, &tls->context, &tls->facts, reason);
    if (status != STATUS_OK) {
        peer_tls_close(tls);
        return status;
    }
    *out = tls;
    return STATUS_OK;
}

void peer_tls_close(struct peer_tls *tls)
{
    if (tls == NULL) return;
    SSL_CTX_free(tls->context);
    BIO_meth_free(tls->method);
    pthread_mutex_destroy(&tls->mutex);
    heap_free(tls->heap, tls);
}

enum status peer_tls_reload(struct peer_tls *tls, char reason[PEER_TLS_REASON_BYTES])
{
    SSL_CTX *context, *old;
    struct certificate_facts facts;
    enum status status = load(tls, &context, &facts, reason);
    if (status != STATUS_OK) return status;
    pthread_mutex_lock(&tls->mutex);
    old = tls->context;
    tls->context = context;
    tls->facts = facts;
    pthread_mutex_unlock(&tls->mutex);
    SSL_CTX_free(old); /* Links that were made of it keep it. */
    return STATUS_OK;
}

void peer_tls_facts(struct peer_tls *tls, struct certificate_facts *out)
{
    pthread_mutex_lock(&tls->mutex);
    *out = tls->facts;
    pthread_mutex_unlock(&tls->mutex);
}

bool peer_tls_ends_soon(const struct certificate_facts *facts, int64_t now_s)
{
    int64_t left_s = facts->period.end_s - now_s;
    int64_t all_s = facts->period.end_s - facts->period.begin_s;
    return left_s < all_s / PEER_TLS_WARN_PART &&
           left_s < (int64_t)PEER_TLS_WARN_DAYS * CERTIFICATE_DAY_S;
}

/* --- One connection --- */

enum status peer_tls_link_create(struct peer_tls *tls, bool dialled, struct peer_tls_link **out)
{
    struct peer_tls_link *link = heap_zalloc(tls->heap, sizeof *link);
    if (link == NULL) return STATUS_NOMEM;
    link->heap = tls->heap;
    link->dialled = dialled;
    link->key_records = tls->options.key_records;
    buf_init(&link->out, tls->heap);
    pthread_mutex_lock(&tls->mutex);
    link->ssl = SSL_new(tls->context);
    pthread_mutex_unlock(&tls->mutex);
    BIO *bio = BIO_new(tls->method);
    if (link->ssl == NULL || bio == NULL) {
        BIO_free(bio);
        peer_tls_link_destroy(link);
        ERR_clear_error();
        return STATUS_NOMEM;
    }
    BIO_set_data(bio, link);
    BIO_set_init(bio, 1);
    SSL_set_bio(link->ssl, bio, bio);
    SSL_set_app_data(link->ssl, link);
    if (dialled)
        SSL_set_connect_state(link->ssl);
    else
        SSL_set_accept_state(link->ssl);
    *out = link;
    return STATUS_OK;
}

void peer_tls_link_destroy(struct peer_tls_link *link)
{
    if (link == NULL) return;
    SSL_free(link->ssl);
    buf_deinit(&link->out);
    heap_free(link->heap, link);
}

void peer_tls_receive(struct peer_tls_link *link, struct slice bytes)
{
    CHECK(link->arrived.size == 0 || link->state == LINK_ENDED);
    link->arrived = bytes;
}

static enum peer_tls_event fail(struct peer_tls_link *link, const char *why)
{
    link->state = LINK_ENDED;
    if (why != NULL) snprintf(link->reason, sizeof link->reason, "%s", why);
    ERR_clear_error();
    return PEER_TLS_FAILED;
}

bool peer_tls_speaks(struct slice bytes)
{
    /* Type and version of a record; read as the size of a frame they are above all sizes. */
    return bytes.size >= 3 &&
           (bytes.data[0] == RECORD_HANDSHAKE || bytes.data[0] == RECORD_ALERT) &&
           bytes.data[1] == 3 && bytes.data[2] <= 4;
}

/* Whoever begins otherwise speaks no TLS, and would wait in vain for something that it understands: it is told
 * by an alert (protocol_version), by which a node without TLS knows what is spoken here. */
static bool begins_well(struct peer_tls_link *link)
{
    static const uint8_t alert[] = {RECORD_ALERT, 3, 3, 0, 2, 2, SSL_AD_PROTOCOL_VERSION};
    if (link->begun || link->arrived.size == 0) return true;
    uint8_t first = link->arrived.data[0];
    link->begun = true;
    if (first == RECORD_HANDSHAKE || (link->dialled && first == RECORD_ALERT)) return true;
    buf_append(&link->out, alert, sizeof alert);
    return false;
}

/* What OpenSSL has to say of the connection's end. */
static enum peer_tls_event explain_error(struct peer_tls_link *link)
{
    int reason = ERR_GET_REASON(ERR_peek_error());
    if (link->out.failed) return fail(link, "no memory");
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED && link->verdict[0] != '\0') {
        snprintf(link->reason, sizeof link->reason, "the peer's certificate: %s", link->verdict);
        return fail(link, NULL);
    }
    if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
        return fail(link, "the peer shows no certificate");
    if (reason == SSL_R_UNSUPPORTED_PROTOCOL || reason == SSL_R_WRONG_VERSION_NUMBER)
        return fail(link, "the peer does not speak TLS 1.3");
    link->by_peer = reason >= SSL_AD_REASON_OFFSET;
    const char *text = link->by_peer ? SSL_alert_desc_string_long(reason - SSL_AD_REASON_OFFSET)
                                     : ERR_reason_error_string(ERR_peek_error());
    snprintf(link->reason, sizeof link->reason,
             link->by_peer ? "the peer refuses this node: %s" : "TLS: %s",
             text == NULL ? "it failed" : text);
    return fail(link, NULL);
}

static enum peer_tls_event next_of_handshake(struct peer_tls_link *link)
{
    if (!begins_well(link))
        return fail(link, "the peer speaks without TLS, which is asked for here");
    int done = SSL_do_handshake(link->ssl);
    if (done != 1) {
        if (SSL_get_error(link->ssl, done) == SSL_ERROR_WANT_READ) return PEER_TLS_NOTHING;
        return explain_error(link);
    }
    struct certificate_facts facts;
    X509 *certificate = SSL_get0_peer_certificate(link->ssl);
    CHECK(certificate != NULL);
    CHECK(SSL_get_verify_result(link->ssl) == X509_V_OK);
    certificate_facts_of(certificate, &facts);
    memcpy(link->peer, facts.subject, sizeof link->peer);
    link->state = LINK_OPEN;
    return PEER_TLS_READY;
}

enum peer_tls_event peer_tls_next(struct peer_tls_link *link, uint8_t room[PEER_TLS_ROOM_BYTES],
                                  struct slice *bytes)
{
    size_t size;
    if (link->state == LINK_ENDED) return PEER_TLS_FAILED;
    ERR_clear_error();
    if (link->state == LINK_HANDSHAKE) return next_of_handshake(link);
    int done = SSL_read_ex(link->ssl, room, PEER_TLS_ROOM_BYTES, &size);
    if (link->out.failed) return fail(link, "no memory");
    if (done == 1) {
        *bytes = slice_of(room, size);
        return PEER_TLS_BYTES;
    }
    switch (SSL_get_error(link->ssl, done)) {
    case SSL_ERROR_WANT_READ:
        return PEER_TLS_NOTHING;
    case SSL_ERROR_ZERO_RETURN:
        link->state = LINK_ENDED;
        return PEER_TLS_CLOSED;
    default:
        return explain_error(link);
    }
}

enum status peer_tls_write(struct peer_tls_link *link, struct slice bytes)
{
    size_t written = 0;
    CHECK(link->state == LINK_OPEN);
    if (bytes.size == 0) return STATUS_OK;
    ERR_clear_error();
    link->records += bytes.size / PEER_TLS_ROOM_BYTES + 1;
    if (link->records > link->key_records &&
        SSL_key_update(link->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1)
        link->records = 0;
    bool sealed = SSL_write_ex(link->ssl, bytes.data, bytes.size, &written) == 1;
    bool fine = sealed && written == bytes.size && !link->out.failed;
    if (!fine) link->state = LINK_ENDED;
    ERR_clear_error();
    return fine ? STATUS_OK : STATUS_NOMEM;
}

struct buf *peer_tls_out(struct peer_tls_link *link)
{
    return &link->out;
}

const char *peer_tls_reason(const struct peer_tls_link *link, bool *by_peer)
{
    *by_peer = link->by_peer;
    return link->reason;
}

const char *peer_tls_peer(const struct peer_tls_link *link)
{
    return link->peer;
}
