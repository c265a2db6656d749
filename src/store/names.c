#include "store/names.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"

enum { NUMBER_DIGITS = 20 };

struct pattern {
    enum name_kind kind;
    const char *prefix;
    const char *suffix;
};

static const struct pattern numbered[] = {
    {NAME_MANIFEST, "manifest-", ".man"}, {NAME_RUN, "run-", ".tri"},
    {NAME_OVERLAY, "overlay-", ".ovl"},   {NAME_LOG, "log-", ".log"},
    {NAME_TRANSFER, "transfer-", ".tri"}, {NAME_TEMPORARY, "manifest-", ".new"},
};

static const struct pattern fixed[] = {
    {NAME_IDENTITY, NAME_IDENTITY_TEXT, ""},
    {NAME_LOCK, NAME_LOCK_TEXT, ""},
    {NAME_RESERVE, NAME_RESERVE_TEXT, ""},
    {NAME_TEMPORARY, NAME_IDENTITY_NEW_TEXT, ""},
};

static struct name name_make(const struct pattern *pattern, uint64_t number)
{
    CHECK(number > 0);
    struct name name;
    snprintf(name.text, sizeof name.text, "%s%0*llu%s", pattern->prefix, NUMBER_DIGITS,
             (unsigned long long)number, pattern->suffix);
    return name;
}

static const struct pattern *pattern_of(enum name_kind kind)
{
    for (size_t i = 0; i < sizeof numbered / sizeof *numbered; i++)
        if (numbered[i].kind == kind) return &numbered[i];
    return NULL;
}

struct name name_of(enum name_kind kind, uint64_t number)
{
    CHECK(kind != NAME_TEMPORARY);
    const struct pattern *pattern = pattern_of(kind);
    CHECK(pattern != NULL);
    return name_make(pattern, number);
}

struct name name_of_new_manifest(uint64_t number)
{
    return name_make(pattern_of(NAME_TEMPORARY), number);
}

/* Zero if the digits are no number above 0 that fits. */
static uint64_t parse_number(const char *digits)
{
    uint64_t number = 0;
    for (int i = 0; i < NUMBER_DIGITS; i++) {
        if (digits[i] < '0' || digits[i] > '9') return 0;
        if (__builtin_mul_overflow(number, 10, &number)) return 0;
        if (__builtin_add_overflow(number, (uint64_t)(digits[i] - '0'), &number)) return 0;
    }
    return number;
}

static uint64_t match(const struct pattern *pattern, const char *text)
{
    size_t prefix = strlen(pattern->prefix);
    if (strlen(text) != prefix + NUMBER_DIGITS + strlen(pattern->suffix)) return 0;
    if (memcmp(text, pattern->prefix, prefix) != 0) return 0;
    if (strcmp(text + prefix + NUMBER_DIGITS, pattern->suffix) != 0) return 0;
    return parse_number(text + prefix);
}

enum name_kind name_parse(const char *text, uint64_t *number)
{
    *number = 0;
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        if (strcmp(text, fixed[i].prefix) == 0) return fixed[i].kind;
    for (size_t i = 0; i < sizeof numbered / sizeof *numbered; i++) {
        *number = match(&numbered[i], text);
        if (*number != 0) return numbered[i].kind;
    }
    return NAME_UNKNOWN;
}
