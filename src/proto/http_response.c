#include "proto/http_response.h"

#include <string.h>

#include "base/check.h"
#include "base/math.h"
#include "proto/scan.h"

enum {
    DECIMAL_BYTES_MAX = 20,
    CHUNK_HEAD_BYTES = 10, /* Eight hexadecimal digits and CRLF. */
    FIXED_BYTES_MAX = 256, /* All of a head that does not come from the caller. */
};

#define TEXT(literal)                                                                              \
    {                                                                                              \
        (literal), sizeof(literal) - 1                                                             \
    }

struct text {
    const char *data;
    size_t size;
};

/* What nearly every answer starts with, as two copies. */
static const struct text ok_line = TEXT("HTTP/1.1 200 OK\r\n");
static const struct text json_length = TEXT("Content-Type: application/json\r\nContent-Length: ");
static const struct text date_name = TEXT("Date: ");

static const struct {
    uint16_t status;
    const char *reason;
} reasons[] = {
    {100, "Continue"},
    {101, "Switching Protocols"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {207, "Multi-Status"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {417, "Expectation Failed"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {426, "Upgrade Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {507, "Insufficient Storage"},
};

const char *http_reason(uint16_t status)
{
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
        if (reasons[i].status == status) return reasons[i].reason;
    }
    return "Unknown";
}

static uint8_t *put(uint8_t *to, const char *data, size_t size)
{
    memcpy(to, data, size);
    return to + size;
}

static uint8_t *put_text(uint8_t *to, const char *text)
{
    return put(to, text, strlen(text));
}

static uint8_t *put_decimal(uint8_t *to, uint64_t value)
{
    char digits[DECIMAL_BYTES_MAX];
    size_t first = sizeof digits;
    do {
        digits[--first] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    return put(to, digits + first, sizeof digits - first);
}

static uint8_t *put_status(uint8_t *to, const struct http_response *response)
{
    if (response->status == 200) return put(to, ok_line.data, ok_line.size);
    to = put_text(to, "HTTP/1.1 ");
    to = put_decimal(to, response->status);
    *to++ = ' ';
    to = put_text(to, http_reason(response->status));
    return put_text(to, "\r\n");
}

static uint8_t *put_date(uint8_t *to, const struct http_response *response)
{
    if (response->date == NULL) return to;
    to = put(to, date_name.data, date_name.size);
    to = put(to, response->date, HTTP_DATE_BYTES);
    return put(to, "\r\n", 2);
}

static uint8_t *put_content(uint8_t *to, const struct http_response *response)
{
    if (response->body == HTTP_BODY_LENGTH && response->content_type != NULL &&
        strcmp(response->content_type, "application/json") == 0)
        return put(to, json_length.data, json_length.size);
    if (response->content_type != NULL) {
        to = put_text(to, "Content-Type: ");
        to = put_text(to, response->content_type);
        to = put_text(to, "\r\n");
    }
    if (response->body == HTTP_BODY_LENGTH) to = put_text(to, "Content-Length: ");
    return to;
}

static uint8_t *put_connection(uint8_t *to, const struct http_response *response)
{
    bool keeps = http_response_keeps_alive(response);
    if (!keeps) return put_text(to, "Connection: close\r\n");
    return response->minor == 0 ? put_text(to, "Connection: keep-alive\r\n") : to;
}

void http_response_append(struct buf *out, const struct http_response *response)
{
    size_t size = FIXED_BYTES_MAX + response->headers.size;
    if (response->content_type != NULL) size += strlen(response->content_type);
    uint8_t *start = buf_reserve(out, size);
    if (start == NULL) return;

    uint8_t *to = start;
    to = put_status(to, response);
    to = put_date(to, response); /* Here http_response_set_date() looks for it. */
    to = put_content(to, response);
    if (response->body == HTTP_BODY_LENGTH) {
        to = put_decimal(to, response->content_length);
        to = put_text(to, "\r\n");
    }
    if (http_response_is_chunked(response)) to = put_text(to, "Transfer-Encoding: chunked\r\n");
    to = put_connection(to, response);
    if (response->headers.size > 0) {
        to = put(to, (const char *)response->headers.data, response->headers.size);
    }
    to = put_text(to, "\r\n");
    CHECK((size_t)(to - start) <= size);
    buf_commit(out, (size_t)(to - start));
}

void http_response_set_date(uint8_t *answer, size_t size, const char *date)
{
    const uint8_t *feed = memchr(answer, '\n', size);
    if (feed == NULL) return;
    size_t at = (size_t)(feed - answer) + 1;
    if (size - at < date_name.size + HTTP_DATE_BYTES) return;
    if (memcmp(answer + at, date_name.data, date_name.size) != 0) return;
    memcpy(answer + at + date_name.size, date, HTTP_DATE_BYTES);
}

/* Days since 1970 as a date, by eras of 400 years that begin in March. */
static void date_of_days(uint64_t days, unsigned *year, unsigned *month, unsigned *day)
{
    uint64_t shifted = days + 719468;
    unsigned of_era = (unsigned)(shifted % 146097);
    unsigned year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    unsigned of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned from_march = (5 * of_year + 2) / 153;
    *day = of_year - (153 * from_march + 2) / 5 + 1;
    *month = from_march < 10 ? from_march + 3 : from_march - 9;
    *year = (unsigned)(shifted / 146097) * 400 + year_of_era + (*month <= 2);
}

static void put_digits(char *to, unsigned value, unsigned count)
{
    for (; count > 0; value /= 10) to[--count] = (char)('0' + value % 10);
}

void http_date_format(uint64_t unix_s, char out[HTTP_DATE_BYTES + 1])
{
    static const uint64_t last_s = 253402300799; /* Of the year 9999. */
    static const char weekdays[] = "ThuFriSatSunMonTueWed";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    unix_s = u64_min(unix_s, last_s);
    uint64_t days = unix_s / 86400;
    unsigned second = (unsigned)(unix_s % 86400);
    unsigned year, month, day;
    date_of_days(days, &year, &month, &day);

    memcpy(out, "Thu, 01 Jan 1970 00:00:00 GMT", HTTP_DATE_BYTES + 1);
    memcpy(out, weekdays + days % 7 * 3, 3);
    put_digits(out + 5, day, 2);
    memcpy(out + 8, months + (size_t)(month - 1) * 3, 3);
    put_digits(out + 12, year, 4);
    put_digits(out + 17, second / 3600, 2);
    put_digits(out + 20, second / 60 % 60, 2);
    put_digits(out + 23, second % 60, 2);
}

void http_header_append(struct buf *out, const char *name, struct slice value)
{
    buf_append_text(out, name);
    buf_append(out, ": ", 2);
    uint8_t *to = buf_reserve(out, value.size + 2);
    if (to == NULL) return;
    for (size_t i = 0; i < value.size; i++) {
        to[i] = scan_is_control(value.data[i]) ? ' ' : value.data[i];
    }
    memcpy(to + value.size, "\r\n", 2);
    buf_commit(out, value.size + 2);
}

static void put_chunk_head(uint8_t *to, size_t size)
{
    CHECK(size <= UINT32_MAX);
    for (unsigned i = 0; i < 8; i++)
        to[i] = (uint8_t) "0123456789abcdef"[size >> (28 - 4 * i) & 15];
    memcpy(to + 8, "\r\n", 2);
}

void http_chunk_append(struct buf *out, struct slice data)
{
    size_t begin = http_chunk_begin(out);
    buf_append_slice(out, data);
    http_chunk_end(out, begin);
}

size_t http_chunk_begin(struct buf *out)
{
    size_t begin = out->size;
    if (buf_reserve(out, CHUNK_HEAD_BYTES) != NULL) buf_commit(out, CHUNK_HEAD_BYTES);
    return begin;
}

void http_chunk_end(struct buf *out, size_t begin)
{
    if (buf_status(out) != STATUS_OK) return;
    size_t size = out->size - begin - CHUNK_HEAD_BYTES;
    if (size == 0) {
        out->size = begin;
        return;
    }
    put_chunk_head(out->data + begin, size);
    buf_append(out, "\r\n", 2);
}

void http_chunk_finish(struct buf *out)
{
    buf_append_text(out, "0\r\n\r\n");
}

void http_continue_append(struct buf *out)
{
    buf_append_text(out, "HTTP/1.1 100 Continue\r\n\r\n");
}
