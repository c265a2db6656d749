/* Who may ask, by Host, and who may change something, by Origin and Sec-Fetch-Site. */
#include <string.h>

#include "node/cross_site.h"
#include "test.h"

static struct cross_site_rules rules;

/* The code of the refusal; "" when the request is admitted. */
static const char *verdict(const char *head)
{
    static struct http_request request;
    static const struct http_limits limits = {16 << 10, 64 << 10};
    enum problem_code code;
    const char *detail = NULL;
    http_request_init(&request);
    EXPECT(http_request_parse(&request, &limits, slice_from_text(head)) == STATUS_OK);
    if (cross_site_admits(&rules, &request, &code, &detail)) return "";
    EXPECT(problem_status(code) == 403 && strlen(detail) > 0);
    return problem_code_name(code);
}

static bool is_known(const char *host)
{
    char head[256];
    snprintf(head, sizeof head, "GET /search HTTP/1.1\r\nHost: %s\r\n\r\n", host);
    const char *code = verdict(head);
    EXPECT(*code == '\0' || strcmp(code, "unknown_host") == 0);
    return *code == '\0';
}

static bool may_write(const char *method, const char *host, const char *header)
{
    char head[512];
    snprintf(head, sizeof head, "%s /api/v1/words HTTP/1.1\r\nHost: %s\r\n%s\r\n", method, host,
             header);
    const char *code = verdict(head);
    EXPECT(*code == '\0' || strcmp(code, "cross_site") == 0);
    return *code == '\0';
}

TEST_CASE(an_address_and_localhost_are_known_by_any_port)
{
    static const char *const own[] = {
        "127.0.0.1", "127.0.0.1:8000", "10.1.2.3:9",  "0.0.0.0:8000",    "[::1]:8000",      "[::1]",
        "localhost", "LocalHost:9000", "a.localhost", "255.255.255.255", "A.b.localhost:1",
    };
    rules = (struct cross_site_rules){.names_checked = true};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) EXPECT(is_known(own[i]));
}

TEST_CASE(a_name_that_anybody_can_point_here_is_not)
{
    static const char *const foreign[] = {
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "127.0.0.1.",
        "127.0.0.256",
        "127.0.0",
        "127.0.0.1.1",
        "0127.0.0.1",
        "1.2.3.4evil",
        "localhost.example",
        "mylocalhost",
        ".localhost.example",
        "evil.example:8000:1",
        "localhos",
        "localhost2",
        ":8000",
        "1.2..4",
    };
    rules = (struct cross_site_rules){.names_checked = true};
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) EXPECT(!is_known(foreign[i]));
}

TEST_CASE(names_that_are_allowed_are_known_and_nothing_like_them)
{
    rules = (struct cross_site_rules){true, SLICE_LITERAL("search.example,other.example")};
    EXPECT(is_known("search.example") && is_known("Search.Example:443"));
    EXPECT(is_known("other.example:8000") && is_known("127.0.0.1"));
    EXPECT(!is_known("search.example,other.example") && !is_known("a.search.example"));
    EXPECT(!is_known("search.exampl") && !is_known("example"));
    rules.names_checked = false;
    EXPECT(is_known("anything.example"));
}

TEST_CASE(programs_that_are_no_browsers_may_write)
{
    rules = (struct cross_site_rules){.names_checked = true};
    EXPECT(may_write("POST", "127.0.0.1:8000", ""));
    EXPECT(may_write("DELETE", "localhost", "Content-Type: text/plain\r\n"));
    EXPECT(*verdict("POST /api/v1/words HTTP/1.0\r\n\r\n") == '\0');
}

TEST_CASE(pages_of_other_sites_may_read_at_most)
{
    static const char *const foreign[] = {
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
        "Origin:\r\n",
        "Origin: http://localhost:3000\r\n",
        "Origin: http://localhost:80001\r\n",
        "Origin: http://localhost\r\n",
        "Origin: localhost:8000\r\n",
        "Origin: file://localhost:8000\r\n",
        "Origin: http://localhost:8000, http://evil.example\r\n",
        "Origin: http://127.0.0.1:8000\r\n",
        "Sec-Fetch-Site: cross-site\r\nOrigin: http://localhost:8000\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "sec-fetch-site:\r\n",
    };
    rules = (struct cross_site_rules){.names_checked = true};
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
        EXPECT(!may_write("POST", "localhost:8000", foreign[i]));
        EXPECT(!may_write("DELETE", "localhost:8000", foreign[i]));
        EXPECT(!may_write("PUT", "localhost:8000", foreign[i]));
        EXPECT(may_write("GET", "localhost:8000", foreign[i]));
        EXPECT(may_write("HEAD", "localhost:8000", foreign[i]));
    }
}

TEST_CASE(our_own_pages_may_write_behind_a_proxy_too)
{
    rules = (struct cross_site_rules){true, SLICE_LITERAL("search.example")};
    EXPECT(may_write("POST", "localhost:8000", "Origin: http://localhost:8000\r\n"));
    EXPECT(may_write("POST", "LOCALHOST:8000", "Origin: http://localhost:8000\r\n"));
    EXPECT(may_write("POST", "search.example", "Origin: https://search.example\r\n"));
    /* The proxy says another Host than the browser did. */
    EXPECT(may_write("POST", "127.0.0.1:8000", "Origin: https://search.example\r\n"));
    EXPECT(!may_write("POST", "127.0.0.1:8000", "Origin: https://search.example:3000\r\n"));
    EXPECT(may_write("POST", "127.0.0.1:8000",
                     "Sec-Fetch-Site: same-origin\r\nOrigin: https://any.example\r\n"));
    EXPECT(may_write("POST", "127.0.0.1:8000", "Sec-Fetch-Site: none\r\n"));
}

TEST_MAIN(TEST(an_address_and_localhost_are_known_by_any_port),
          TEST(a_name_that_anybody_can_point_here_is_not),
          TEST(names_that_are_allowed_are_known_and_nothing_like_them),
          TEST(programs_that_are_no_browsers_may_write),
          TEST(pages_of_other_sites_may_read_at_most),
          TEST(our_own_pages_may_write_behind_a_proxy_too))
