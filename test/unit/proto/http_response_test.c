#include "proto/http_response.h"

#include "proto/http_chunked.h"
#include "test.h"

#include <time.h>

static struct heap heap;
static struct buf out;

static const char *written(void)
{
    buf_append_u8(&out, 0);
    return (const char *)out.data;
}

static void begin(void)
{
    heap_init(&heap, 0);
    buf_init(&out, &heap);
}

static void end(void)
{
    buf_deinit(&out);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_CASE(the_common_head_is_exact)
{
    begin();
    http_response_append(&out, &(struct http_response){.status = 200,
                                                       .minor = 1,
                                                       .keep_alive = true,
                                                       .body = HTTP_BODY_LENGTH,
                                                       .content_length = 42,
                                                       .content_type = "application/json"});
    assert_string_equal(written(), "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                                   "Content-Length: 42\r\n\r\n");
    end();
}

TEST_CASE(every_part_of_a_head_is_written)
{
    begin();
    struct buf headers;
    buf_init(&headers, &heap);
    http_header_append(&headers, "X-Request-Id", SLICE_LITERAL("a\r\nB: c"));
    http_response_append(&out, &(struct http_response){.status = 503,
                                                       .minor = 1,
                                                       .body = HTTP_BODY_CHUNKED,
                                                       .content_type = "text/plain",
                                                       .date = "Mon, 02 Jan 2006 15:04:05 GMT",
                                                       .headers = buf_slice(&headers)});
    assert_string_equal(written(),
                        "HTTP/1.1 503 Service Unavailable\r\n"
                        "Date: Mon, 02 Jan 2006 15:04:05 GMT\r\nContent-Type: text/plain\r\n"
                        "Transfer-Encoding: chunked\r\nConnection: close\r\n"
                        "X-Request-Id: a  B: c\r\n\r\n");
    buf_deinit(&headers);
    end();
}

TEST_CASE(dates_are_those_of_the_calendar)
{
    static const struct {
        uint64_t unix_s;
        const char *date;
    } known[] = {
        {0, "Thu, 01 Jan 1970 00:00:00 GMT"},
        {784111777, "Sun, 06 Nov 1994 08:49:37 GMT"}, /* RFC 9110, section 5.6.7. */
        {951782400, "Tue, 29 Feb 2000 00:00:00 GMT"},
        {951868799, "Tue, 29 Feb 2000 23:59:59 GMT"},
        {951868800, "Wed, 01 Mar 2000 00:00:00 GMT"},
        {1136214245, "Mon, 02 Jan 2006 15:04:05 GMT"},
        {4107542400, "Mon, 01 Mar 2100 00:00:00 GMT"},
        {253402300799, "Fri, 31 Dec 9999 23:59:59 GMT"},
        {UINT64_MAX, "Fri, 31 Dec 9999 23:59:59 GMT"},
    };
    char date[HTTP_DATE_BYTES + 1];
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        http_date_format(known[i].unix_s, date);
        assert_string_equal(date, known[i].date);
    }
    /* Every day of four centuries, as the C library has it. */
    for (time_t day = 0; day < 146097; day++) {
        char expected[HTTP_DATE_BYTES + 1];
        struct tm parts;
        time_t second = day * 86400 + day % 86400;
        gmtime_r(&second, &parts);
        strftime(expected, sizeof expected, "%a, %d %b %Y %H:%M:%S GMT", &parts);
        http_date_format((uint64_t)second, date);
        assert_string_equal(date, expected);
    }
}

TEST_CASE(an_answer_that_was_kept_gets_another_date)
{
    begin();
    struct http_response response = {
        .status = 200, .minor = 1, .keep_alive = true, .body = HTTP_BODY_LENGTH};
    response.date = "Mon, 02 Jan 2006 15:04:05 GMT";
    http_response_append(&out, &response);
    http_response_set_date(out.data, out.size, "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_string_equal(written(), "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
                                   "Content-Length: 0\r\n\r\n");
    /* Where there is none, none is put. */
    buf_clear(&out);
    response.date = NULL;
    http_response_append(&out, &response);
    http_response_set_date(out.data, out.size, "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_string_equal(written(), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    http_response_set_date(out.data, 10, "Sun, 06 Nov 1994 08:49:37 GMT");
    http_response_set_date(out.data, 17, "Sun, 06 Nov 1994 08:49:37 GMT");
    end();
}

TEST_CASE(an_old_client_gets_what_it_understands)
{
    begin();
    struct http_response response = {.status = 200, .keep_alive = true, .body = HTTP_BODY_CHUNKED};
    http_response_append(&out, &response);
    EXPECT(!http_response_is_chunked(&response));
    EXPECT(!http_response_keeps_alive(&response));
    assert_string_equal(written(), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    buf_clear(&out);
    response.body = HTTP_BODY_LENGTH;
    http_response_append(&out, &response);
    assert_string_equal(written(),
                        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n");
    end();
}

TEST_CASE(chunks_come_back_from_the_decoder)
{
    begin();
    struct http_chunked chunked = {0};
    struct slice piece;
    char text[100] = "";

    http_chunk_append(&out, SLICE_LITERAL("hello"));
    http_chunk_append(&out, SLICE_LITERAL(""));
    size_t at = http_chunk_begin(&out);
    http_chunk_end(&out, at);
    at = http_chunk_begin(&out);
    buf_append_text(&out, ", 16 bytes more ");
    http_chunk_end(&out, at);
    http_chunk_finish(&out);

    struct slice input = buf_slice(&out);
    enum status status;
    while ((status = http_chunked_next(&chunked, &input, &piece)) == STATUS_OK) {
        strncat(text, (const char *)piece.data, piece.size);
    }
    EXPECT(status == STATUS_END);
    EXPECT(input.size == 0);
    assert_string_equal(text, "hello, 16 bytes more ");
    end();
}

TEST_CASE(no_allocation_that_fails_does_harm)
{
    for (int n = 0; n < 4; n++) {
        begin();
        heap.failure_after = n;
        http_header_append(&out, "Name", SLICE_LITERAL("value"));
        size_t at = http_chunk_begin(&out);
        http_response_append(&out, &(struct http_response){.status = 404, .minor = 1});
        http_chunk_end(&out, at);
        end();
    }
}

TEST_MAIN(TEST(the_common_head_is_exact), TEST(every_part_of_a_head_is_written),
          TEST(dates_are_those_of_the_calendar), TEST(an_answer_that_was_kept_gets_another_date),
          TEST(an_old_client_gets_what_it_understands), TEST(chunks_come_back_from_the_decoder),
          TEST(no_allocation_that_fails_does_harm))
