#include "base/status.h"

#include "base/check.h"

const char *status_name(enum status status)
{
    static const char *const names[STATUS_COUNT] = {
        [STATUS_OK] = "ok",
        [STATUS_PARTIAL] = "partial",
        [STATUS_END] = "end",
        [STATUS_NOT_FOUND] = "not_found",
        [STATUS_INVALID] = "invalid",
        [STATUS_CORRUPT] = "corrupt",
        [STATUS_NOMEM] = "nomem",
        [STATUS_LIMIT] = "limit",
        [STATUS_IO] = "io",
        [STATUS_FULL] = "full",
        [STATUS_READ_ONLY] = "read_only",
        [STATUS_BUSY] = "busy",
        [STATUS_LOCKED] = "locked",
        [STATUS_FOREIGN] = "foreign",
        [STATUS_NEWER] = "newer",
        [STATUS_DENIED] = "denied",
        [STATUS_STALE] = "stale",
        [STATUS_CLOCK_SKEW] = "clock_skew",
        [STATUS_CANCELLED] = "cancelled",
        [STATUS_TIMEOUT] = "timeout",
        [STATUS_EXISTS] = "exists",
    };

    CHECK((unsigned)status < STATUS_COUNT);
    return names[status];
}
