/* Any bytes, whole and in two pieces, end in the same way; slices stay inside of them. */
#include <string.h>

#include "base/check.h"
#include "proto/http_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct http_limits limits = {200, 1000};

static void check_inside(struct slice slice, struct slice whole)
{
    if (slice.size == 0) return;
    if (slice.size == 1 && slice.data[0] == '/') return; /* The root that was left out. */
    CHECK(slice.data >= whole.data);
    CHECK(slice.data + slice.size <= whole.data + whole.size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct http_request once;
    static struct http_request twice;
    if (size == 0) return 0;
    struct slice whole = slice_of(data + 1, size - 1);
    size_t cut = whole.size * data[0] / 256;

    http_request_init(&once);
    enum status expected = http_request_parse(&once, &limits, whole);

    http_request_init(&twice);
    enum status status = http_request_parse(&twice, &limits, slice_prefix(whole, cut));
    if (status == STATUS_PARTIAL) status = http_request_parse(&twice, &limits, whole);

    CHECK((status > STATUS_NOT_FOUND) == (expected > STATUS_NOT_FOUND));
    if (status != STATUS_OK) return 0;
    CHECK(once.head_bytes == twice.head_bytes);
    CHECK(once.header_count == twice.header_count);
    check_inside(once.path, whole);
    check_inside(once.query, whole);
    check_inside(once.host, whole);
    for (size_t i = 0; i < once.header_count; i++) {
        check_inside(twice.headers[i].name, whole);
        check_inside(twice.headers[i].value, whole);
    }
    return 0;
}
