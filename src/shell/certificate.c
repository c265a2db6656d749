#include "shell/certificate.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "base/check.h"

enum { SERIAL_BYTES = 16, X509_VERSION = 2 /* Counted from 0: version 3. */ };

/* --- Facts --- */

const char *certificate_role_name(enum certificate_role role)
{
    static const char *const names[] = {
        [CERTIFICATE_AUTHORITY] = "authority",
        [CERTIFICATE_NODE] = "node",
        [CERTIFICATE_OTHER] = "other",
    };
    return names[role];
}

void certificate_time_text(int64_t time_s, char out[CERTIFICATE_TIME_BYTES])
{
    time_t seconds = time_s;
    struct tm parts;
    if (gmtime_r(&seconds, &parts) == NULL ||
        strftime(out, CERTIFICATE_TIME_BYTES, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
        out[0] = '\0';
}

static int64_t seconds_of(const ASN1_TIME *time)
{
    struct tm parts;
    return ASN1_TIME_to_tm(time, &parts) == 1 ? (int64_t)timegm(&parts) : 0;
}

static void name_text(const X509_NAME *name, char out[CERTIFICATE_TEXT_BYTES])
{
    BIO *bio = BIO_new(BIO_s_mem());
    int size = 0;
    if (bio != NULL && X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) >= 0)
        size = BIO_read(bio, out, CERTIFICATE_TEXT_BYTES - 1);
    out[size < 0 ? 0 : size] = '\0';
    BIO_free(bio);
}

static void hexadecimal(const uint8_t *bytes, size_t size, const char *between,
                        char out[CERTIFICATE_TEXT_BYTES])
{
    size_t at = 0;
    out[0] = '\0';
    for (size_t i = 0; i < size && at + 4 < CERTIFICATE_TEXT_BYTES; i++)
        at += (size_t)snprintf(out + at, CERTIFICATE_TEXT_BYTES - at, "%s%02X",
                               i == 0 ? "" : between, bytes[i]);
}

static void key_text(X509 *certificate, char out[CERTIFICATE_KEY_BYTES])
{
    char group[CERTIFICATE_KEY_BYTES - 1];
    size_t size;
    EVP_PKEY *key = X509_get0_pubkey(certificate);
    const char *type = key == NULL ? NULL : EVP_PKEY_get0_type_name(key);
    if (type == NULL) {
        snprintf(out, CERTIFICATE_KEY_BYTES, "unknown");
    } else if (EVP_PKEY_get_group_name(key, group, sizeof group, &size) == 1) {
        snprintf(out, CERTIFICATE_KEY_BYTES, "%s",
                 strcmp(group, "prime256v1") == 0 ? "P-256" : group);
    } else if (strcmp(type, "RSA") == 0) {
        snprintf(out, CERTIFICATE_KEY_BYTES, "RSA-%d", EVP_PKEY_get_bits(key));
    } else {
        snprintf(out, CERTIFICATE_KEY_BYTES, "%s", type);
    }
}

static enum certificate_role role_of(X509 *certificate)
{
    enum { NODE_USES = XKU_SSL_SERVER | XKU_SSL_CLIENT };
    if (X509_check_ca(certificate) == 1) return CERTIFICATE_AUTHORITY;
    /* All bits are set where the extension is missing: that allows everything and says nothing. */
    bool says = (X509_get_extension_flags(certificate) & EXFLAG_XKUSAGE) != 0;
    uint32_t uses = X509_get_extended_key_usage(certificate);
    return says && (uses & NODE_USES) == NODE_USES ? CERTIFICATE_NODE : CERTIFICATE_OTHER;
}

void certificate_facts_of(X509 *certificate, struct certificate_facts *out)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    const ASN1_INTEGER *serial = X509_get0_serialNumber(certificate);
    *out = (struct certificate_facts){
        .role = role_of(certificate),
        .period = {seconds_of(X509_get0_notBefore(certificate)),
                   seconds_of(X509_get0_notAfter(certificate))},
    };
    name_text(X509_get_subject_name(certificate), out->subject);
    name_text(X509_get_issuer_name(certificate), out->issuer);
    if (X509_digest(certificate, EVP_sha256(), digest, &size) != 1) size = 0;
    hexadecimal(digest, size, ":", out->fingerprint);
    hexadecimal(ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial), "", out->serial);
    key_text(certificate, out->key);
    ERR_clear_error();
}

/* --- PEM --- */

int certificate_no_passphrase(char *out, int size, int writing, void *context)
{
    (void)writing, (void)context;
    if (size > 0) out[0] = '\0';
    return -1;
}

static BIO *bio_of(struct slice bytes)
{
    return bytes.size > INT_MAX ? NULL : BIO_new_mem_buf(bytes.data, (int)bytes.size);
}

/* The certificate at `index`. */
static enum status parse(struct slice pem, size_t index, X509 **out)
{
    BIO *bio = bio_of(pem);
    X509 *certificate = NULL;
    enum status status = bio == NULL ? STATUS_NOMEM : STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i <= index; i++) {
        X509_free(certificate);
        certificate = PEM_read_bio_X509(bio, NULL, certificate_no_passphrase, NULL);
        if (certificate != NULL) continue;
        bool ends = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
        status = ends ? STATUS_END : STATUS_INVALID;
    }
    ERR_clear_error();
    BIO_free(bio);
    if (status == STATUS_OK) *out = certificate;
    return status;
}

static EVP_PKEY *parse_key(struct slice pem)
{
    BIO *bio = bio_of(pem);
    EVP_PKEY *key =
        bio == NULL ? NULL : PEM_read_bio_PrivateKey(bio, NULL, certificate_no_passphrase, NULL);
    BIO_free(bio);
    ERR_clear_error();
    return key;
}

enum status certificate_read(struct slice pem, size_t index, struct certificate_facts *out)
{
    X509 *certificate;
    enum status status = parse(pem, index, &certificate);
    if (status != STATUS_OK) return status;
    certificate_facts_of(certificate, out);
    X509_free(certificate);
    return STATUS_OK;
}

static enum status append_bio(BIO *bio, bool written, struct buf *out)
{
    char *bytes = NULL;
    long size = written ? BIO_get_mem_data(bio, &bytes) : 0;
    if (size <= 0) return STATUS_NOMEM;
    buf_append(out, bytes, (size_t)size);
    return buf_status(out);
}

static enum status append_certificate(X509 *certificate, struct buf *out)
{
    BIO *bio = BIO_new(BIO_s_mem());
    bool written = bio != NULL && PEM_write_bio_X509(bio, certificate) == 1;
    enum status status = append_bio(bio, written, out);
    BIO_free(bio);
    return status;
}

static enum status append_key(EVP_PKEY *key, struct buf *out)
{
    BIO *bio = BIO_new(BIO_s_secmem());
    bool written = bio != NULL &&
                   PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1;
    enum status status = append_bio(bio, written, out);
    BIO_free(bio);
    return status;
}

/* --- Making --- */

bool certificate_name_fits(const char *name)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    size_t size = strlen(name);
    if (size == 0 || size > CERTIFICATE_NAME_BYTES_MAX || strchr(letters, name[0]) == NULL)
        return false;
    while (*name != '\0' && (strchr(letters, *name) != NULL || strchr("_.-", *name) != NULL))
        name++;
    return *name == '\0';
}

struct extension {
    int id;
    const char *value;
};

/* `issuer` is the certificate itself for one that nobody else has signed. */
static bool add_extensions(X509 *certificate, X509 *issuer, const struct extension *list)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    for (; list->value != NULL; list++) {
        X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, list->id, list->value);
        bool added = extension != NULL && X509_add_ext(certificate, extension, -1) == 1;
        X509_EXTENSION_free(extension);
        if (!added) return false;
    }
    return true;
}

/* All but extensions and signature, with a serial number drawn here. */
static bool fill(X509 *certificate, EVP_PKEY *key, const char *name, bool with_number,
                 struct certificate_period period)
{
    uint8_t serial[SERIAL_BYTES];
    char common_name[CERTIFICATE_TEXT_BYTES];
    if (RAND_bytes(serial, sizeof serial) != 1) return false;
    serial[0] = (uint8_t)((serial[0] & 0x7f) | 0x40); /* Positive, and always as long. */
    snprintf(common_name, sizeof common_name, with_number ? "%s %02x%02x%02x%02x" : "%s", name,
             serial[0], serial[1], serial[2], serial[3]);

    BIGNUM *number = BN_bin2bn(serial, sizeof serial, NULL);
    bool numbered = number != NULL &&
                    BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL;
    BN_free(number);
    X509_NAME *subject = X509_get_subject_name(certificate);
    return numbered && X509_set_version(certificate, X509_VERSION) == 1 &&
           X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                                      (const unsigned char *)common_name, -1, -1, 0) == 1 &&
           ASN1_TIME_set(X509_getm_notBefore(certificate), period.begin_s) != NULL &&
           ASN1_TIME_set(X509_getm_notAfter(certificate), period.end_s) != NULL &&
           X509_set_pubkey(certificate, key) == 1;
}

enum status certificate_make_authority(struct certificate_period period, struct buf *certificate,
                                       struct buf *key)
{
    static const struct extension extensions[] = {
        {NID_basic_constraints, "critical,CA:TRUE,pathlen:0"},
        {NID_key_usage, "critical,keyCertSign,cRLSign"},
        {NID_subject_key_identifier, "hash"},
        {0, NULL},
    };
    /* Its own name tells it from others of the kind; a chain to the wrong one then says so. */
    EVP_PKEY *pair = EVP_EC_gen("P-256");
    X509 *made = X509_new();
    bool fine = pair != NULL && made != NULL &&
                fill(made, pair, "trifecta authority", true, period) &&
                X509_set_issuer_name(made, X509_get_subject_name(made)) == 1 &&
                add_extensions(made, made, extensions) && X509_sign(made, pair, EVP_sha256()) > 0;
    enum status status = fine ? append_key(pair, key) : STATUS_NOMEM;
    if (status == STATUS_OK) status = append_certificate(made, certificate);
    X509_free(made);
    EVP_PKEY_free(pair);
    ERR_clear_error();
    return status;
}

/* NULL when it can issue for that period. */
static const char *why_not(X509 *authority, EVP_PKEY *key, struct certificate_period period)
{
    struct certificate_facts facts;
    if (authority == NULL) return "expected a certificate in PEM";
    if (key == NULL) return "expected a private key in PEM, without a passphrase";
    certificate_facts_of(authority, &facts);
    if (facts.role != CERTIFICATE_AUTHORITY) return "expected the certificate of an authority";
    if (X509_check_private_key(authority, key) != 1)
        return "expected the key that the certificate was made with";
    if (period.end_s > facts.period.end_s || period.end_s < facts.period.begin_s)
        return "expected a shorter time: the authority itself expires before";
    return NULL;
}

static enum status issue(X509 *authority, EVP_PKEY *authority_key, const char *name,
                         enum certificate_role role, struct certificate_period period,
                         struct buf *certificate, struct buf *key)
{
    const struct extension extensions[] = {
        {NID_basic_constraints, "critical,CA:FALSE"},
        {NID_key_usage, "critical,digitalSignature"},
        {NID_ext_key_usage, role == CERTIFICATE_NODE ? "serverAuth,clientAuth" : "clientAuth"},
        {NID_subject_key_identifier, "hash"},
        {NID_authority_key_identifier, "keyid"},
        {0, NULL},
    };
    EVP_PKEY *pair = EVP_EC_gen("P-256");
    X509 *made = X509_new();
    bool fine = pair != NULL && made != NULL && fill(made, pair, name, false, period) &&
                X509_set_issuer_name(made, X509_get_subject_name(authority)) == 1 &&
                add_extensions(made, authority, extensions) &&
                X509_sign(made, authority_key, EVP_sha256()) > 0;
    enum status status = fine ? append_key(pair, key) : STATUS_NOMEM;
    if (status == STATUS_OK) status = append_certificate(made, certificate);
    X509_free(made);
    EVP_PKEY_free(pair);
    return status;
}

enum status certificate_issue(struct slice authority, struct slice authority_key, const char *name,
                              enum certificate_role role, struct certificate_period period,
                              struct buf *certificate, struct buf *key, const char **why)
{
    X509 *issuer = NULL;
    CHECK(certificate_name_fits(name) && role != CERTIFICATE_AUTHORITY);
    bool parsed = parse(authority, 0, &issuer) == STATUS_OK;
    EVP_PKEY *issuer_key = parse_key(authority_key);
    const char *reason = why_not(parsed ? issuer : NULL, issuer_key, period);
    enum status status = STATUS_INVALID;
    if (reason != NULL)
        *why = reason;
    else
        status = issue(issuer, issuer_key, name, role, period, certificate, key);
    X509_free(issuer);
    EVP_PKEY_free(issuer_key);
    ERR_clear_error();
    return status;
}
