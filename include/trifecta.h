/* libtrifecta: a client of a cluster of trifectad.
 *
 * A client knows the nodes it was given, which ranges of words they own, and keeps connections
 * to them. A request goes straight to an owner, in the caller's zone if there is one, and to
 * another node where that one fails. The man page libtrifecta(3) tells when a call is repeated.
 *
 * Owns:    arguments are borrowed for the call. What a call hands out is freed by the function
 *          that its comment names; a client by trifecta_close().
 * Errors:  outputs are untouched on failure. `call->problem` says more in words.
 * Threads: any number may use one client at once; each needs a struct trifecta_call of its own.
 *          A call blocks. trifecta_close() comes when all others have returned.
 * Cost:    a call is a round trip on a connection that is kept for later calls; as many stand
 *          open to a node as threads ever asked it at once, and 16 of those are kept. */
#ifndef TRIFECTA_H
#define TRIFECTA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Numbers stay what they are; later versions add at the end. */
enum trifecta_error {
    TRIFECTA_OK = 0,
    TRIFECTA_NOT_FOUND = 1,   /* There is no such word. */
    TRIFECTA_INVALID = 2,     /* An argument breaks a rule; nothing was done. */
    TRIFECTA_REFUSED = 3,     /* The node refused; nothing was done. */
    TRIFECTA_UNAVAILABLE = 4, /* Too few owners are up, or for a read too busy; nothing was done. */
    TRIFECTA_UNREACHABLE = 5, /* No node took the request; nothing was done. */
    TRIFECTA_TIMED_OUT = 6,   /* The deadline passed; nothing was done. */
    TRIFECTA_OUTCOME_UNKNOWN = 7, /* The write may have happened, or may yet. */
    TRIFECTA_PROTOCOL = 8,        /* What answered a read is no trifectad that we know. */
    TRIFECTA_NO_MEMORY = 9,       /* There was none; a write did nothing. */
};

/* "not_found", and so on; "unknown" for other numbers. Static storage. */
const char *trifecta_error_name(enum trifecta_error error);

/* Any bytes, also zeros. `data` may be NULL when `size` is 0. */
struct trifecta_bytes {
    const void *data;
    size_t size;
};

/* Of text that ends in a zero. */
struct trifecta_bytes trifecta_text(const char *text);

enum trifecta_consistency {
    TRIFECTA_CONSISTENCY_DEFAULT = 0, /* What the cluster is set to. */
    TRIFECTA_CONSISTENCY_ONE = 1,
    TRIFECTA_CONSISTENCY_QUORUM = 2,
    TRIFECTA_CONSISTENCY_ALL = 3,
};

/* The last failure, in words. */
struct trifecta_problem {
    int http_status; /* 0: no node answered. */
    char code[48];   /* As docs/reference/errors.md lists them; empty: no node answered. */
    char detail[256];
};

/* How one call is made, and what went wrong with it. Zeroed: all defaults; NULL will do too. */
struct trifecta_call {
    const char *ns;      /* NULL: "default". */
    uint32_t timeout_ms; /* Until the call returns, come what may; 0: that of the client. */
    enum trifecta_consistency consistency;
    struct trifecta_problem problem; /* Written when the call fails. */
};

struct trifecta_options {
    const char *const *urls; /* "http://host:port" of nodes; all of them, for the shortest way. */
    size_t url_count;        /* 1 to 64. */
    const char *zone;        /* The caller's; NULL: none. */
    uint32_t timeout_ms;     /* Of a call; 0: 5000. */
    uint32_t attempt_ms;     /* For a node to take a connection, and to answer a read; 0: 1000. */
};

struct trifecta_client;

/* Asks nobody yet: the first call does.
 *
 * Errors: TRIFECTA_INVALID for a number of URLs out of bounds, TRIFECTA_NO_MEMORY. */
enum trifecta_error trifecta_open(const struct trifecta_options *options,
                                  struct trifecta_client **out);

/* NULL is accepted. */
void trifecta_close(struct trifecta_client *client);

/* What a word has beside its bytes. */
struct trifecta_attributes {
    double score; /* Finite. */
    struct trifecta_bytes payload;
    const struct trifecta_bytes *tags;
    size_t tag_count;
    uint64_t expires_at_ms; /* Unix time; 0: never. */
};

/* Stores a word, in place of an earlier one. `attributes` NULL: score 1 and nothing else. */
enum trifecta_error trifecta_put(struct trifecta_client *client, struct trifecta_call *call,
                                 struct trifecta_bytes word,
                                 const struct trifecta_attributes *attributes);

/* Adds to the score, and stores the word if there is none. `score` (may be NULL) is the sum.
 *
 * Errors: after TRIFECTA_OUTCOME_UNKNOWN another call may count twice. */
enum trifecta_error trifecta_increment(struct trifecta_client *client, struct trifecta_call *call,
                                       struct trifecta_bytes word, double by, double *score);

/* `deleted` (may be NULL): whether there was such a word. */
enum trifecta_error trifecta_remove(struct trifecta_client *client, struct trifecta_call *call,
                                    struct trifecta_bytes word, bool *deleted);

struct trifecta_entry {
    struct trifecta_bytes word;
    struct trifecta_attributes attributes;
};

struct trifecta_page {
    const struct trifecta_entry *entries;
    size_t count;
    const char *next_cursor; /* NULL: no more words match. */
};

/* The word of exactly these bytes; the page has one entry. Frees: trifecta_page_free().
 *
 * Errors: TRIFECTA_NOT_FOUND. */
enum trifecta_error trifecta_get(struct trifecta_client *client, struct trifecta_call *call,
                                 struct trifecta_bytes word, struct trifecta_page **out);

enum trifecta_sort {
    TRIFECTA_POPULARITY = 0, /* By score, the highest first. */
    TRIFECTA_ALPHABETICAL = 1,
    TRIFECTA_ALPHABETICAL_REVERSED = 2,
};

struct trifecta_query {
    uint32_t limit; /* Words of a page, 1 to 1,000; 0: 10. */
    enum trifecta_sort sort;
    const char *cursor; /* `next_cursor` of a page of the same prefix and sort; NULL: the first. */
};

/* A page of the words that start with `prefix`, which may be empty. `query` NULL: the best ten.
 * Search tells no expiry: `expires_at_ms` is 0. Frees: trifecta_page_free(). */
enum trifecta_error trifecta_search(struct trifecta_client *client, struct trifecta_call *call,
                                    struct trifecta_bytes prefix,
                                    const struct trifecta_query *query, struct trifecta_page **out);

/* NULL is accepted. All that the page points to goes with it. */
void trifecta_page_free(struct trifecta_page *page);

/* How many words start with `prefix`. */
enum trifecta_error trifecta_count(struct trifecta_client *client, struct trifecta_call *call,
                                   struct trifecta_bytes prefix, uint64_t *out);

#ifdef __cplusplus
}
#endif

#endif
