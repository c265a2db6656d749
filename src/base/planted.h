/* Bugs that can be planted, one a build, to see that the tests find them: a test that passes
 * with a bug in proves nothing. `meson setup -Dplanted=N`; scripts/planted tries them all and
 * docs/development.md lists what found each. Without the option they do not exist. */
#pragma once

#include <stdbool.h>

#include "base/planted_number.h" /* Made by Meson: PLANTED, 0 for none. */

enum planted_bug {
    BUG_ACKNOWLEDGE_BEFORE_SYNC = 1, /* A view is published once it is appended. */
    BUG_NO_DIRECTORY_SYNC,           /* The names of a job's files are not made durable. */
    BUG_NO_SECOND_TAKING_IN,         /* Keys written while a commit ran stay in the outputs. */
    BUG_COMMIT_BEFORE_KILLS,         /* A merge's edit does not wait for the log. */
    BUG_FLUSH_FORGETS_AN_OVERLAY,    /* One run's new kills are in no file. */
    BUG_REPLAY_TOO_LATE,             /* The first batch after a flush is not replayed. */
    BUG_CEILING_NOT_LOGGED,          /* The clock's ceiling is in memory alone. */
    BUG_CHAIN_ENDS_AT_PREPARED,      /* A segment that was prepared and not begun ends the log. */
    BUG_REFUSED_BATCH_STAYS,         /* A batch that the log refused stays in the tip. */
    BUG_INGESTED_TWICE,              /* A joined record lives on in the ingested file. */
    BUG_REFUSED_BATCH_NOT_WIPED,     /* Its header may come back after a power cut. */
    BUG_STALE_TOUCHED_KEYS,          /* A refused batch leaves its keys to be killed by a job. */
    BUG_SPLIT_CHANGES_OWNERS,        /* A child of a split has the owners of the shard after it. */
    BUG_EXCLUDED_TOO_MANY,           /* Exclusion minds the owners that are left, not the quorum. */
    BUG_ACKNOWLEDGE_WRITE_EARLY,     /* A coordinator counts itself before its sync. */
    BUG_ACKNOWLEDGE_APPLY_EARLY,     /* An owner acknowledges before its sync. */
    BUG_HINT_COUNTED_EARLY,          /* A stand-in says that it keeps a hint before its sync. */
    BUG_SLOT_REUSED,                 /* A start goes on in the slot of the one before it. */
    BUG_UNCONFIRMED_LISTS,           /* Lists of owners that differ are merged as they are. */
    BUG_VOTES_WITHOUT_ITS_DISK,      /* A registrar votes whoever recorded its start. */
    BUG_PROMISE_BEFORE_DURABLE,      /* A promise is told before it is safe. */
    BUG_ACCEPTED_VALUES_IGNORED,  /* A proposer asks to accept its own value whatever it finds. */
    BUG_LAST_WRITER_DECIDES,      /* A registrar takes any value for the number, the last stays. */
    BUG_BALLOT_USED_TWICE,        /* Ballots of two starts of a node can be equal. */
    BUG_START_KNOWN_BY_COUNTER,   /* Two starts with one counter count as one. */
    BUG_GENERATIONS_MIXED,        /* A vote of another generation counts. */
    BUG_REBUTTED_SUSPICION_KILLS, /* A peer that refuted it goes down all the same. */
    BUG_OLD_BOOT_REPLACES,        /* A card of an earlier boot replaces a newer one. */
    BUG_DEATH_BY_HEARSAY,         /* Who is said to be down is, without time to refute it. */
    BUG_ACKNOWLEDGED_BY_ANY_BOOT, /* A card counts although its process is known to be gone. */
    BUG_NO_DRAIN,                 /* A map is acknowledged while requests run under an older one. */
    BUG_VOTES_UNCONFIRMED,        /* A registrar votes though nobody confirmed its start. */
    BUG_READS_UNSYNCED,           /* A next owner answers before it is filled. */
    BUG_ARROW_EARLY,              /* A stage is begun before all acknowledged the one before. */
    BUG_SWITCH_TOO_FEW,           /* Reads switch at one synced owner. */
    BUG_DROP_EARLY,               /* A former owner drops data one version early. */
    BUG_STALE_MAP_TAKEN,          /* Requests under a map that was left behind are taken. */
    BUG_MAPS_MERGED_BY_NUMBER,    /* A delta is applied to any map of the number before. */
    BUG_TRANSFER_IS_SYNCED,       /* A range that was transferred counts as compared. */
    BUG_TRANSFER_OF_THE_LIVING,   /* Tombstones are left out of a transfer. */
    BUG_TRANSFER_DROPPED_EARLY,   /* A giver drops a file before it is durable at the taker. */
    BUG_TRANSFER_OF_ANY_KEY,      /* Keys outside of the range asked for are ingested. */
    BUG_OLDER_MAPS_FORGOTTEN,     /* A start does not know what it owned under older maps. */
    BUG_HINTS_NOT_ASKED_FOR,      /* A next owner is synced though it is owed older hints. */
    BUG_LEAVES_WITH_HINTS,        /* A member goes from the map with hints for others. */
    BUG_STAGE_PASSES_SILENT,      /* A stage passes however many owners are suspended. */
    BUG_RETRY_COUNTED_TWICE,      /* An increment is done again whatever is known of its name. */
    BUG_SUSPENDED_SERVES,         /* A node serves before it knows that its map is the newest. */
    BUG_EXCLUDED_SERVES,          /* An excluded node goes on as if it were not. */
    BUG_EXCLUDED_HEARD,           /* Messages of excluded nodes count. */
    BUG_INCREMENT_HEDGED,         /* Of an increment that takes long another owner is asked too. */
    BUG_NUMBERS_OVER_GENERATIONS, /* What was acknowledged in one generation counts in the next. */
    BUG_PURGE_BY_AGE,             /* A store drops old tombstones, whoever may not know them. */
    BUG_PURGE_BY_KEY,             /* A tombstone that two owners hold is dropped by one of them. */
    BUG_PURGE_IGNORES_HINTS,      /* A member promises though it holds older hints. */
    BUG_PROMISE_NOT_KEPT,         /* Direct writes are applied whatever was promised. */
    BUG_ABSENCE_WITHOUT_EVIDENCE, /* What an owner that is not complete lacks counts as deleted. */
    BUG_DIGEST_OF_THE_LIVING,     /* Replicas are compared without their tombstones. */
    BUG_OLD_RECORD_TAKEN,         /* What was purged is taken again, from whoever has it. */
    BUG_PURGE_WITHOUT_SILENT_OWNER, /* A round does not wait for the last one. */
    BUG_SLOT_AFTER_SWEEP,      /* What was dropped and comes back is added to in the same slot. */
    BUG_TIE_BY_ARRIVAL,        /* Of two values of one version the one that stands stays. */
    BUG_CREATED_BY_MINIMUM,    /* The least creation counts, whatever was removed since. */
    BUG_SET_KEEPS_SLOTS,       /* Increments of a value live on in the one that replaced it. */
    BUG_EXPIRY_IS_AN_EVENT,    /* What comes after its expiry is taken for a removal. */
    BUG_STAMPS_REUSED,         /* A start does not wait out the clock's ceiling. */
    BUG_CURSOR_BY_SCORE,       /* The page after one begins at the next score, not word. */
    BUG_ACCEPTED_BY_SHARD,     /* A question is answered by who owns the first of its shards. */
    BUG_SUPERSEDED_UNJOINED,   /* Who has something newer counts, and gets nothing of the older. */
    BUG_PAGE_GOES_BACK,        /* A page keeps what newer records put before it. */
    BUG_FILLED_BEFORE_DURABLE, /* A next owner answers before what it was given is durable. */
    BUG_FILLED_BY_WHO_KNOWS_LITTLE, /* Owners whose disk was set back count for a next owner. */
    BUG_SERVES_UNKNOWN,             /* A node answers before its start is on record. */
    BUG_COUNT,
};

static inline bool planted(enum planted_bug bug)
{
    return PLANTED == (int)bug;
}
