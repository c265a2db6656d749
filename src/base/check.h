/* Assertions about our own code, on in release builds too.
 *
 * CHECK is for what only a bug of ours can break; bytes from clients, peers and
 * files get a status instead. A failed check prints where and stops the process:
 * a store that no longer trusts its own memory must not go on writing. */
#pragma once

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (__builtin_expect(!(condition), 0)) check_failed(#condition, __FILE__, __LINE__);       \
    } while (0)

_Noreturn void check_failed(const char *condition, const char *file, int line);
