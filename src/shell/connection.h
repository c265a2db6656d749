/* One client connection: bytes in, requests, answers in order, bytes out. */
#pragma once

#include "node/batch.h"
#include "node/export.h"
#include "node/import.h"
#include "node/question.h"
#include "proto/http_chunked.h"
#include "shell/engine.h"
#include "shell/loop.h"

enum {
    CONNECTION_SUBMISSIONS = 2, /* An import parses into one while the other is written. */
    CONNECTION_ASKED_MAX = 16,  /* Reads of one connection that the cluster is asked at once. */
    CONNECTION_IN_BYTES_MAX = 1 << 20,     /* Unparsed bytes kept while a write is awaited. */
    CONNECTION_OUT_BYTES_MAX = 1 << 20,    /* Unsent answers, before nothing more is read. */
    CONNECTION_KEPT_BYTES_MAX = 256 << 10, /* Memory of an empty buffer that is kept for reuse. */
};

/* Writes of one connection at the writer, or a read of the cluster. */
struct submission {
    struct engine_write write;
    struct node_batch batch;
    struct node_question *question; /* NULL: there are writes. */
    struct connection *connection;
    bool in_flight;
    bool of_import;
    bool is_asked;     /* It is that of a struct asked. */
    uint64_t begun_us; /* When its first request came. */
};

/* A read of the cluster, in the order of the requests. */
struct asked {
    struct submission submission;
    struct asked *next;
};

struct connection {
    uv_tcp_t tcp;
    struct loop *loop;
    struct connection *next, **link;

    struct buf in;      /* Bytes that were read and not yet used. */
    struct buf out;     /* Answers of this turn. */
    struct buf sending; /* Answers on their way. */
    uv_write_t write;
    bool writing, reading, closing, closed;
    bool close_when_sent;  /* Nothing more is parsed. */
    bool ended;            /* The client will send nothing more. */
    bool stalled;          /* Requests or an export wait for room in `out`. */
    bool yielded;          /* An export lets others have their turn. */
    bool rest_unread;      /* A request was answered before all of it had come. */
    uint64_t lingering_us; /* Since when it is over but for what the client still sends. */
    uv_shutdown_t shutdown;

    struct http_request request;
    bool head_done; /* `request` is parsed, its body is not yet used up. */
    bool continued; /* "100 Continue" was sent for it. */
    struct http_chunked chunked;
    size_t chunked_at; /* So far chunks were read: an offset from the head. */
    uint64_t body_left;
    struct buf body; /* Of a chunked request that is not an import. */

    struct submission submissions[CONNECTION_SUBMISSIONS];
    struct asked *asked_first, *asked_last; /* The first of them is in flight. */
    unsigned asked_count;
    struct node_import *import;
    struct node_export *export;
    struct node_reply reply; /* Of the import or export. */
    bool export_headed;      /* Its answer has begun. */
    bool import_ended;       /* The whole body has come. */
    bool import_fed;         /* All of it is in submissions. */
    bool import_cut;         /* What has not come yet is not waited for: the node stops. */
    bool starved;            /* It waits for memory. */
    uint64_t starved_us;     /* Since when. */

    uint64_t request_us; /* When the first byte of the request under way came; 0: none is. */
    uint64_t active_us;  /* When anything was last read or sent. */
    size_t unsent_bytes; /* Not taken by the client at the last sweep, while `writing`. */
};

/* Takes a new connection off the listener. */
void connection_accept(struct loop *loop);

/* Its submission came back. `more`: so did another of its own, which is told next. */
void connection_returned(struct connection *connection, struct submission *submission, bool more);

/* Its export let others have their turn, and goes on. */
void connection_take_turn(struct connection *connection);

/* Its import waited for memory, and may try again. */
void connection_resume(struct connection *connection);

/* Once a second: closes what has been idle or slow for too long. */
void connection_sweep(struct connection *connection, uint64_t now_us);

/* How far the end of the server has come. */
enum connection_end {
    CONNECTION_END_FINISH, /* What is under way may come to its end. */
    CONNECTION_END_CUT,    /* Imports are answered as far as they came, exports break. */
    CONNECTION_END_NOW,
};

/* Closes it once it is done with what it may still do. Again and again, until it is closed. */
void connection_drain(struct connection *connection, enum connection_end end);
