/* Grace periods: when nobody can see any more what was replaced.
 *
 * The one place that knows liburcu (quiescent-state-based reclamation). A reader thread
 * registers, and is online while it may hold a view; going offline, or passing a
 * quiescent point, says that it holds none. grace_wait() returns once every reader that
 * was online has done so. ThreadSanitizer, which cannot see into liburcu, is told here.
 *
 * Source: Desnoyers et al., "User-Level Implementations of Read-Copy Update", IEEE TPDS
 * 23(2), 2012, section 4.2. */
#pragma once

/* A thread starts and stops being a reader. It starts offline. */
void grace_register(void);
void grace_unregister(void);

/* Views may be taken after grace_online() and not after grace_offline(). */
void grace_online(void);
void grace_offline(void);

/* Waits until every view taken before the call was let go. Not by a thread that is online. */
void grace_wait(void);
