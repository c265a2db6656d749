/* What clients asked for and were told, and whether that can be true.
 *
 * The checker sees only this side: each operation as it is invoked, and how it ended. Replies carry
 * versions, so the order of writes is known and all checks are linear; those by knowledge of what
 * the nodes hold are in sim/inspect.h.
 *
 * Words come in four classes, each with checks of its own:
 *
 *   value     set, removed                          what is read was written, and is not stale
 *   counter   only incremented, by positive steps   between what was acknowledged and attempted
 *   mixed     all of it                             the same, and increments since the last set
 *   expiring  set to expire soon, removed           what is read was written
 *
 * A set carries its operation's number in its payload: whoever reads it knows who wrote it.
 *
 * An operation whose outcome nobody knows may take effect at any later time, until the inspection of
 * all nodes says that it can no more (checker_settle()); what it touches is checked less meanwhile. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/heap.h"
#include "cluster/request.h"
#include "sim/finding.h"

enum word_class { WORD_VALUE, WORD_COUNTER, WORD_MIXED, WORD_EXPIRING };

enum operation_end {
    OPERATION_PENDING,
    OPERATION_DONE,
    OPERATION_FAILED,  /* Nothing was done. */
    OPERATION_UNKNOWN, /* Something or nothing was done, or will be. */
};

#define NO_WORD UINT32_MAX

struct operation {
    enum request_kind kind;
    enum operation_end end;
    uint32_t client, node;
    uint32_t word; /* NO_WORD for prefixes. */
    uint64_t invoked_us, ended_us;
    uint64_t asked_us; /* The last attempt but for the first. */
    bool strict;       /* Its quorum meets that of every strict write. */
    bool answered;     /* A reply came. */
    bool precise;      /* `version` was seen to be that of this very write. */
    double score;
    uint64_t expires_at;
    struct version version; /* As told: of the record that stood then. */
    double counter_floor;   /* Acknowledged when it was invoked. */
    uint32_t next_unsettled;
    uint32_t previous_increment; /* Of the word, plus one; 0: none. */
};

/* A write that was acknowledged at a strict quorum. */
struct acknowledgement {
    uint64_t at_us;
    struct version version;
    uint32_t operation;
    bool removed, increment;
};

enum { WORD_ACKNOWLEDGEMENTS = 32 };

struct word {
    enum word_class class;
    struct slice text, key;
    /* The latest, in a ring, and the newest version of those no longer in it. */
    struct acknowledgement acks[WORD_ACKNOWLEDGEMENTS];
    uint32_t ack_count;
    struct acknowledgement newest, evicted, evicted_value; /* The last: but for increments. */
    struct acknowledgement kept;   /* The newest for which hints were counted. */
    struct version newest_removal; /* Acknowledged. */
    struct version doubted_below;  /* A removal below this may have happened or not. */
    uint64_t removal_ended_us;     /* The last of them was acknowledged. */
    uint32_t unsettled_first;      /* Pending and unknown writes. */
    uint32_t unsettled_count, unsettled_removals;
    bool written;
    uint64_t written_us;     /* A write was last invoked. */
    uint32_t last_increment; /* Plus one; 0: none. */
    double counter_acknowledged, counter_attempted;
};

struct checker_options {
    uint32_t word_count;
    bool writes_meet; /* Any two write quorums share an owner. */
    uint64_t clock_error_ms;
};

struct checker {
    struct checker_options options;
    struct heap heap;
    struct word *words;
    uint32_t *by_key; /* Words in order of their keys. */
    struct buf bytes;
    struct operation *operations;
    uint32_t operation_count, operation_capacity;
    struct sim_finding finding;
    uint64_t checked_count; /* Entries and acknowledgements looked at: no check without. */
};

/* The text of the word `index`: strings over a, b and c, each a prefix of others. */
size_t checker_word_text(uint32_t index, char text[24]);

void checker_init(struct checker *checker, const struct checker_options *options);
void checker_deinit(struct checker *checker);

/* NO_WORD if there is none of this key. */
uint32_t checker_find(const struct checker *checker, struct slice key);

/* An operation begins. Its number goes into the payload of a set (checker_payload()). */
uint32_t checker_invoke(struct checker *checker, uint64_t now_us, const struct operation *what);

/* The payload that the set `operation` writes. */
size_t checker_payload(uint32_t operation, char payload[24]);

/* It ended with a reply. */
void checker_reply(struct checker *checker, uint64_t now_us, uint32_t index,
                   const struct request *request, const struct request_reply *reply);

/* It ended without: its node died (`nothing_done` if it never got there), or never answered. */
void checker_give_up(struct checker *checker, uint64_t now_us, uint32_t index, bool nothing_done);

/* The newest write of a word that was acknowledged before `before_us`; version none: there is none. */
struct acknowledgement checker_required(const struct word *word, uint64_t before_us);

/* The same of sets and removals alone: increments of one value may come in any order. */
struct acknowledgement checker_required_value(const struct word *word, uint64_t before_us);

/* Writes of the word that were invoked before `before_us` can change nothing any more. */
void checker_settle(struct checker *checker, uint32_t index, uint64_t before_us);

/* The word was and is there, certainly, from `since_us` on. */
bool checker_is_there(const struct checker *checker, const struct word *word, uint64_t since_us);

/* A record that was read, or found on a node: was it written? `by_us`: when it was seen. */
void checker_look_at(struct checker *checker, uint64_t by_us, uint32_t word,
                     const struct record *record);

/* A walk over all pages of `walk`, a SCAN or BEST, ended: `seen[word]` says whether it gave the word. Words
 * with the prefix that were there, or had this one place, all the time must be among them. */
void checker_walked(struct checker *checker, uint64_t now_us, uint64_t since_us,
                    const struct request *walk, const bool *seen);
