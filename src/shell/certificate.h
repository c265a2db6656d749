/* Certificates between the nodes of a cluster: an authority, what it issues, and what a file says.
 *
 * A cluster trusts one authority, made for it alone, and whoever shows a *node certificate* of that
 * authority is a node of the cluster. Which one it is, no certificate says: that is in the data
 * directory, and where it listens may change.
 *
 *     role        basic constraints   key usage                      extended key usage
 *     authority   CA, path length 0   keyCertSign, cRLSign           none
 *     node        no CA               digitalSignature               serverAuth, clientAuth
 *     other       anything else
 *
 * A node dials and is dialled, hence both uses; who has one of them alone, as a client of some service that
 * the same authority issued for, is no node. Keys are ECDSA over P-256: whatever may have to read these files
 * can (browsers and some key stores cannot read Ed25519), and OpenSSL signs with it in half the time.
 *
 * PEM in, PEM out: nothing here reads a file or the clock. Chance, for keys and serial numbers, is OpenSSL's.
 *
 * Threads: any. Source: RFC 5280. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"

enum {
    CERTIFICATE_NAME_BYTES_MAX = 64, /* Of a node; X.509 bounds a common name so. */
    CERTIFICATE_TEXT_BYTES = 256,
    CERTIFICATE_TIME_BYTES = 24,
    CERTIFICATE_KEY_BYTES = 32,
    CERTIFICATE_DAYS_MAX = 36500,
    CERTIFICATE_AUTHORITY_DAYS = 3650, /* Unless told. */
    CERTIFICATE_NODE_DAYS = 365,
    CERTIFICATE_BACKDATE_S = 3600, /* What is issued counts on clocks that are so far behind. */
    CERTIFICATE_DAY_S = 86400,
};

enum certificate_role { CERTIFICATE_AUTHORITY, CERTIFICATE_NODE, CERTIFICATE_OTHER };

/* Seconds since the Unix epoch, both included. */
struct certificate_period {
    int64_t begin_s, end_s;
};

struct certificate_facts {
    enum certificate_role role;
    struct certificate_period period;
    char subject[CERTIFICATE_TEXT_BYTES]; /* As in RFC 2253: "CN=n1"; cut if it is longer. */
    char issuer[CERTIFICATE_TEXT_BYTES];
    char fingerprint[CERTIFICATE_TEXT_BYTES]; /* SHA-256 of the certificate: "AB:CD:…". */
    char serial[CERTIFICATE_TEXT_BYTES];      /* Hexadecimal. */
    char key[CERTIFICATE_KEY_BYTES];          /* "P-256", "RSA-2048", … */
};

/* Makes an authority; both are appended as PEM, the key in PKCS#8 without a passphrase.
 *
 * Errors: STATUS_NOMEM, which stands for all that OpenSSL may fail at; what was appended is then of no use. */
enum status certificate_make_authority(struct certificate_period period, struct buf *certificate,
                                       struct buf *key);

/* Issues for a new key, which is the node's alone.
 *
 * `role`: CERTIFICATE_NODE, or CERTIFICATE_OTHER for one that may dial and not be dialled. `name` is the common
 * name, certificate_name_fits().
 *
 * Errors: STATUS_INVALID with `*why` saying what is expected of `authority` or its key, or that the period
 * is not within the authority's; STATUS_NOMEM as above. */
enum status certificate_issue(struct slice authority, struct slice authority_key, const char *name,
                              enum certificate_role role, struct certificate_period period,
                              struct buf *certificate, struct buf *key, const char **why);

/* Whether it is 1 to CERTIFICATE_NAME_BYTES_MAX of A-Z a-z 0-9 _ . - and begins with a letter or digit. */
bool certificate_name_fits(const char *name);

/* What the certificate at `index` in a PEM file says; other things in it are passed over.
 *
 * Errors: STATUS_END (there are fewer), STATUS_INVALID (it is none, or is damaged), STATUS_NOMEM. */
enum status certificate_read(struct slice pem, size_t index, struct certificate_facts *out);

struct x509_st; /* OpenSSL's X509. */
void certificate_facts_of(struct x509_st *certificate, struct certificate_facts *out);

/* For OpenSSL's readers of PEM: what needs a passphrase is refused, where they would ask the terminal. */
int certificate_no_passphrase(char *out, int size, int writing, void *context);

/* As in 2026-11-23T10:00:00Z. */
void certificate_time_text(int64_t time_s, char out[CERTIFICATE_TIME_BYTES]);

const char *certificate_role_name(enum certificate_role role);
