/* What a call that can fail returns.
 *
 * STATUS_PARTIAL, STATUS_END and STATUS_NOT_FOUND are outcomes; all after them are
 * failures. A function that fails leaves its outputs and its object as they were,
 * unless its comment says otherwise. */
#pragma once

/* Version 14 takes the attribute for an initializer. */
/* clang-format off */
enum [[nodiscard]] status {
    STATUS_OK,
    STATUS_PARTIAL,     /* A parser needs more bytes. */
    STATUS_END,         /* Nothing follows. */
    STATUS_NOT_FOUND,   /* No such key, file or entry. */
    STATUS_INVALID,     /* Bytes from outside break a rule of ours. */
    STATUS_CORRUPT,     /* Bytes that we wrote are not as we wrote them. */
    STATUS_NOMEM,       /* No memory, or the budget for it is used up. */
    STATUS_LIMIT,       /* A documented bound is exceeded. */
    STATUS_IO,          /* The device failed. */
    STATUS_FULL,        /* No space on the device, or the reserve is reached. */
    STATUS_READ_ONLY,   /* Writes are refused until a restart. */
    STATUS_BUSY,        /* Somebody else is at it; the caller may try again. */
    STATUS_LOCKED,      /* Another process owns the directory. */
    STATUS_FOREIGN,     /* The directory or file is not ours. */
    STATUS_NEWER,       /* Written by a newer format than this program reads. */
    STATUS_DENIED,      /* The operating system refuses access. */
    STATUS_STALE,       /* A newer version is already stored. */
    STATUS_CLOCK_SKEW,  /* A timestamp is further ahead than is allowed. */
    STATUS_CANCELLED,   /* The caller withdrew the request. */
    STATUS_TIMEOUT,     /* It took too long; the outcome is unknown. */
    STATUS_EXISTS,      /* A file of that name is there already. */
    STATUS_COUNT,
};
/* clang-format on */

/* The constant's name in lower case without its prefix: "not_found". Static storage. */
const char *status_name(enum status status);
